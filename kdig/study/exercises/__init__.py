"""Exercises that check themselves: `check(kd_loss)` says which property of a function fails.

The exercises stand in `notebooks/exercises.ipynb`. A check tries properties that anybody can read
here, such as "equal logits cost nothing", with small random inputs. There are no secret numbers.
"""

from kdig.study.exercises import attributions, losses, maps, runs
from kdig.study.exercises.checking import EXERCISES, check, failures, progress, verdict

__all__ = [
    "EXERCISES",
    "attributions",
    "check",
    "failures",
    "losses",
    "maps",
    "progress",
    "runs",
    "verdict",
]
