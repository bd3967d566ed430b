"""What `12_conditions` accepts: students under other conditions than the paper's.

Four experiments in blocks. A block is a seed; in it all arms start from the same weights and see
the same images in the same order.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

import pandas as pd
from pydantic import Field, model_validator

from kdig.core.networks import NETWORKS
from kdig.core.run import Run
from kdig.core.store import Result
from kdig.study.experiments import Seed, Students
from kdig.study.settings import Free
from kdig.study.teachers import GivenTeacher

Share = Annotated[float, Field(gt=0, le=1)]
# in `pairs`: the profile's own teacher
GIVEN = "given"
# a setting of an experiment's factors -> the run of one block
Arms = Mapping[Any, Run]


class Conditions(Students):
    """Parameters of `12_conditions`.

    `blends` and `probabilities` are crossed; `pairs` are written `teacher>student`, where the
    teacher `given` is the profile's; `long_epochs` is the long schedule beside `epochs`;
    `noise_shares` (0 among them) of the labels are wrong, under each of `noise_alphas`.
    """

    seeds: Free[list[Seed]] = Field(min_length=2)
    blends: Free[list[Share]] = Field(min_length=2)
    probabilities: Free[list[Share]] = Field(min_length=2)
    overlay_probability: Share
    pairs: Free[list[str]] = Field(min_length=1)
    long_epochs: int = Field(ge=2)
    noise_shares: Free[list[Annotated[float, Field(ge=0, lt=1)]]] = Field(min_length=2)
    noise_alphas: Free[list[Share]] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for pair in self.pairs:
            teacher, arrow, student = pair.partition(">")
            known = {*NETWORKS, GIVEN} if arrow else set()
            if teacher not in known or student not in NETWORKS:
                names = ", ".join(NETWORKS)
                raise ValueError(
                    f"pairs: {pair!r} is not teacher>student: choose two of {names}; the teacher"
                    f" may be {GIVEN!r}, the profile's"
                )
        if self.long_epochs <= self.recipe.epochs:
            raise ValueError(f"long_epochs must be more than epochs, which is {self.recipe.epochs}")
        if 0 not in self.noise_shares:
            raise ValueError("noise_shares must hold 0, to which the others are compared")
        return self

    def why_not_decided(self, notebook: str, teacher: Result | GivenTeacher | None) -> str:
        """The paper claims nothing of what is asked here."""
        return "the paper does not ask this"

    def runs(self, teacher: str) -> list[Run]:
        """Every arm of every experiment for every seed.

        A teacher of `pairs` that is not trained yet stands as `unknown`.
        """
        experiments = (self.surface, self.patience, self.noise)
        found = [
            run
            for arms, seed in itertools.product(experiments, self.seeds)
            for run in arms(teacher, seed).values()
        ]
        for pair, seed in itertools.product(self.pairs, self.seeds):
            found += self.paired(pair, self._known_teacher(pair) or "unknown", seed).values()
        return found

    def surface(self, teacher: str, seed: int) -> Arms:
        """(`blend`, `probability`) -> run with IG's overlay; (0, 0): without."""
        own = {"pairing": "static", "maps_pairing": None}
        overlaid = functools.partial(self.student_run, "ig", seed, teacher, **own)
        return {(0.0, 0.0): self.student_run("student", seed, teacher)} | {
            (blend, p): overlaid(blend=blend, probability=p)
            for blend, p in itertools.product(self.blends, self.probabilities)
        }

    def patience(self, teacher: str, seed: int) -> Arms:
        """(`targets`, `epochs`, `overlay`) -> run of distillation.

        Targets are those of the image as it is stored, or of the very view that the student sees.
        """
        pairings = {"stored": "static", "of the view": "same_view"}
        lengths, overlays = (self.recipe.epochs, self.long_epochs), {"none": "kd", "map": "kd_ig"}
        return {
            (targets, epochs, overlay): self.student_run(
                overlays[overlay],
                seed,
                teacher,
                pairing=pairings[targets],
                maps_pairing="static",
                probability=self.overlay_probability if overlay == "map" else 0.0,
                recipe=self.recipe.model_copy(update={"epochs": epochs}),
            )
            for targets, epochs, overlay in itertools.product(pairings, lengths, overlays)
        }

    def noise(self, teacher: str, seed: int) -> Arms:
        """(`noise`, `alpha`) -> run with wrong labels; the teacher saw none of these."""
        return {
            (share, alpha): self.student_run(
                "kd" if alpha else "student",
                seed,
                teacher,
                alpha=alpha,
                pairing="static",
                label_noise=share,
            )
            for share, alpha in itertools.product(self.noise_shares, (0.0, *self.noise_alphas))
        }

    def paired(self, pair: str, teacher: str, seed: int) -> Arms:
        """(`pair`, `signal`) -> run of the pair's student, alone and with one signal of its teacher."""
        made = functools.partial(
            self.student_run,
            seed=seed,
            teacher=teacher,
            network=pair.partition(">")[2],
            pairing="static",
            maps_pairing=None,
        )
        return {
            (pair, "none"): made("student"),
            (pair, "KD"): made("kd"),
            (pair, "AT"): made("at"),
            (pair, "IG"): made("ig", probability=self.overlay_probability),
        }

    def all_pairs(self, teacher: str, seed: int) -> Arms:
        """Every arm of every pair, whose teacher is trained where it is not stored."""
        arms: dict[Any, Run] = {}
        for pair in self.pairs:
            teacher_of = self._known_teacher(pair)
            if teacher_of is None:
                teacher_of = self.trained_teacher(self._teacher_of(pair)).weights
            arms |= self.paired(pair, teacher_of, seed)
        return arms

    def _teacher_of(self, pair: str) -> Run:
        name = pair.partition(">")[0]
        run = self.teacher_run()
        return run if name == GIVEN else run.model_copy(update={"network": name})

    def _known_teacher(self, pair: str) -> str | None:
        """The hash of a pair's teacher, if it is given, or trained already."""
        if pair.startswith(GIVEN):
            return self.known_teacher()
        record = self.stored(self._teacher_of(pair))
        return record.weights if record else None

    def tried(
        self, experiment: Callable[[str, int], Arms], teacher: str, *factors: str
    ) -> pd.DataFrame:
        """`block`, `arm`, the `factors` that name an arm, and test accuracy and seconds of each run."""
        named = [
            (seed, arm, run)
            for seed in self.seeds
            for arm, run in experiment(teacher, seed).items()
        ]
        results = self.execute(run for *_, run in named)
        rows = [
            dict(zip(factors, arm))
            | {"block": seed, "arm": ", ".join(map(str, arm))}
            | {"accuracy": result.last.test_accuracy, "seconds": result.seconds}
            for (seed, arm, _), result in zip(named, results)
        ]
        return pd.DataFrame(rows)
