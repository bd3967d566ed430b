"""Properties of simulations: the exercises `best_of` and `paired_power`."""

from typing import Any

import numpy as np
from scipy import stats

from kdig.study.exercises.checking import Function, Told, number, true_of, unless

_REPEATS = 4000


def _best(best_of: Function, n: int, mean: float = 90.0, sd: float = 0.5) -> np.ndarray:
    """The learner's highest of n runs, repeated."""
    found: Any = np.asarray(best_of(n, mean, sd, _REPEATS, np.random.default_rng(n)), dtype=float)
    if found.shape != (_REPEATS,):
        raise Told(f"the result has the shape {found.shape}, not ({_REPEATS},)")
    return np.asarray(found)


@true_of("best_of", "the best of 1 run has the mean and the scatter of a run")
def _one_run(best_of: Function) -> str | None:
    found = _best(best_of, 1)
    text = f"with mean 90 and sd 0.5 it has {found.mean():.2f} and {found.std():.2f}"
    return unless(abs(found.mean() - 90) < 0.05 and abs(found.std() - 0.5) < 0.03, text)


@true_of("best_of", "the best of 10 runs is higher than the best of 2")
def _more_runs(best_of: Function) -> str | None:
    two, ten = (float(_best(best_of, n).mean()) for n in (2, 10))
    return unless(ten > two + 0.2, f"their means are {ten:.2f} and {two:.2f}")


@true_of("best_of", "without scatter the best of 10 is the mean")
def _no_scatter(best_of: Function) -> str | None:
    off = float(np.abs(_best(best_of, 10, sd=0.0) - 90).max())
    return unless(off < 1e-9, f"it is off by {off:.3g}")


@true_of(
    "best_of", "half of all 'best of n' lie below the run that beats a share 0.5^(1/n) of runs"
)
def _median(best_of: Function) -> str | None:
    middle = 90 + 0.5 * stats.norm.ppf(0.5 ** (1 / 5))
    below = float((_best(best_of, 5) < middle).mean())
    return unless(abs(below - 0.5) < 0.04, f"for n = 5 this share is {below:.0%}")


def _power(paired_power: Function, effect: float, n: int, seed_sd: float = 0.3) -> float:
    """The learner's power with scatter 0.3 of each run, which is a share."""
    found = number(paired_power(effect, seed_sd, 0.3, n, _REPEATS, np.random.default_rng(n)))
    if not 0 <= found <= 1:
        raise Told(f"the result is {found:.3g}, which is no share between 0 and 1")
    return found


@true_of("paired_power", "without an effect about 5 % of the experiments find one")
def _no_effect(paired_power: Function) -> str | None:
    found = _power(paired_power, 0.0, 10)
    return unless(abs(found - 0.05) < 0.02, f"yours find one in {found:.1%}")


@true_of("paired_power", "more runs find the same effect more often")
def _grows(paired_power: Function) -> str | None:
    few, many = (_power(paired_power, 0.3, n) for n in (5, 20))
    return unless(many > few + 0.1, f"5 pairs find it in {few:.0%} and 20 pairs in {many:.0%}")


@true_of("paired_power", "an effect is found as often when it is a loss")
def _either_way(paired_power: Function) -> str | None:
    gain, loss = (_power(paired_power, effect, 10) for effect in (0.3, -0.3))
    return unless(abs(gain - loss) < 0.05, f"+0.3 is found in {gain:.0%} and -0.3 in {loss:.0%}")


@true_of("paired_power", "what a seed does to both runs of a pair does not matter")
def _seeds_cancel(paired_power: Function) -> str | None:
    calm, wild = (_power(paired_power, 0.3, 10, seed_sd) for seed_sd in (0.0, 3.0))
    text = f"power is {calm:.0%} when seeds do nothing and {wild:.0%} when they scatter by 3"
    return unless(abs(calm - wild) < 0.05, text)


@true_of("paired_power", "the power is that of Student's paired t test at 5 %")
def _student(paired_power: Function) -> str | None:
    n, effect = 8, 0.4
    shift, limit = effect / (0.3 * 2**0.5) * n**0.5, stats.t.ppf(0.975, n - 1)
    wanted = float(stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift))
    found = _power(paired_power, effect, n)
    return unless(
        abs(found - wanted) < 0.04, f"yours is {found:.1%} where theory gives {wanted:.1%}"
    )
