"""The experiments of `docs/evidence.md`: arms that meet in blocks, and what their notebooks accept.

A block is a seed. It fixes initial weights, order of images, crops and flips for every arm.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from kdig.core.networks import build, count_parameters
from kdig.core.run import Run
from kdig.core.runs import frame
from kdig.core.signals import Teacher
from kdig.core.store import Result
from kdig.core.train import NOT_NORMALISED, training_set
from kdig.core.training import Recipe, accuracy, predict
from kdig.measure.agreement import agreement, calibration_error, kl_divergence
from kdig.measure.alignment import logit_gap
from kdig.measure.corruptions import corrupt
from kdig.paper import published
from kdig.study.experiments import Students
from kdig.study.settings import Free, located
from kdig.study.teachers import GivenTeacher, TestScore, keep_given

# what a factorial crosses: whose soft targets, and what is laid over the images
TARGETS = ("none", "own", "released")
OVERLAYS = ("none", "map", "other", "grey")
# the images as they are, and two ways to damage them (`kdig.measure.corruptions`)
CONDITIONS = {"clean": ("none", 0.0), "jpeg 75": ("jpeg", 75), "blur 0.75": ("blur", 0.75)}


class Blocks(Students):
    """Parameters of an experiment in blocks: how many of them."""

    blocks: Free[int] = Field(ge=2)

    def arms(self, teacher: str, seed: int) -> dict[str, Run]:
        """Arm -> run of one block, for a teacher whose weights have the hash `teacher`.

        An arm that needs another one's network is left out until that is trained.
        """
        raise NotImplementedError

    def runs(self, teacher: str) -> list[Run]:
        """Every arm of every block."""
        return [run for seed in range(self.blocks) for run in self.arms(teacher, seed).values()]

    def results(self, teacher: str) -> dict[tuple[int, str], Result]:
        """(block, arm) -> result, trained block after block, in a block by the hash of the run."""
        found: dict[tuple[int, str], Result] = {}
        for seed in range(self.blocks):
            first = self.arms(teacher, seed).values()
            self.execute(sorted(first, key=lambda run: run.key))
            arms = self.arms(teacher, seed)
            found |= {(seed, arm): r for arm, r in zip(arms, self.execute(arms.values()))}
        return found

    def predicted(self, network: Teacher, images: Tensor) -> Tensor:
        """Logits (N, K) for images uint8 (N, 3, H, W)."""
        tested = replace(self.data().test, images=images)
        return predict(network.model, tested, device=network.device)

    def teacher(self) -> Result | GivenTeacher:
        """As elsewhere; of a released student that is not here, what is published of it."""
        given = self.given.teacher
        if given and (row := _published(given)) is not None:
            source = f"{row.file} of the authors' repository, which is not here"
            parameters = count_parameters(build(row.network))
            last = TestScore(float("nan"), row.accuracy)
            return GivenTeacher(source, row.network, 1.0, row.weights, parameters, last)
        return super().teacher()

    def known_teacher(self) -> str | None:
        """As elsewhere; of a released student that is not here, what is published of it."""
        given = self.given.teacher
        return super().known_teacher() if given is None else self.released(given)

    def released(self, file: str) -> str:
        """The hash of a released student's weights, which are kept where runs find them.

        Where only records of runs are here and not the file, the hash is the published one. Raises
        `KdigError` for a file that is missing and none of the released students'.
        """
        if (row := _published(file)) is not None:
            return str(row.weights)
        return keep_given(file, self.workspace, self.data())[0].hash


def _published(file: str) -> Any:
    """What is published of a released student whose file is not here; None for any other file."""
    if located(file).exists():
        return None
    table = published("released_students")
    rows = table[table.file == Path(file).name]
    return next(rows.itertuples(), None)


def arms_frame(results: Mapping[tuple[int, str], Result]) -> pd.DataFrame:
    """One row a run: `block`, `arm`, test accuracy and training loss after the last epoch."""
    rows = frame(results.values())[["accuracy", "seconds", "run"]]
    named = pd.DataFrame(list(results), columns=["block", "arm"])
    losses = [result.last.train_loss for result in results.values()]
    return pd.concat([named, rows], axis=1).assign(train_loss=losses)


class AlphaPairing(Blocks):
    """Parameters of `10_alpha_pairing`: part B, the weight of soft targets against whose they are."""

    alphas: Free[list[float]] = Field(min_length=2)

    @property
    def strongest(self) -> float:
        """The largest weight, which the controls use."""
        return max(self.alphas)

    def untrained(self) -> str:
        """The hash of a network of the student's shape with initial weights, the same in every
        block.
        """
        with torch.random.fork_rng():
            torch.manual_seed(2**31)
            net = build(self.network, len(self.data().classes), self.width).eval()
        return self.workspace.keep(net, *NOT_NORMALISED, self.network, self.width)

    def arms(self, teacher: str, seed: int) -> dict[str, Run]:
        """`plain`, `smoothing`, `own-<alpha>`, `other-<alpha>`, `untrained-<alpha>`, `self-<alpha>`."""
        distilled = functools.partial(self.student_run, "kd", seed, pairing="static")
        smoothed = self.recipe.model_copy(
            update={"label_smoothing": self.matching_smoothing(self.strongest)}
        )
        plain = self.student_run("student", seed, teacher)
        arms = {"plain": plain, "smoothing": plain.model_copy(update={"recipe": smoothed})}
        for alpha in self.alphas:
            arms[f"own-{alpha}"] = distilled(teacher, alpha=alpha)
            arms[f"other-{alpha}"] = distilled(teacher, alpha=alpha, pairing="released")
        controls = {"untrained": self.untrained()}
        if record := self.workspace.record(plain):
            controls["self"] = record.weights
        for name, source in controls.items():
            arms[f"{name}-{self.strongest}"] = distilled(source, alpha=self.strongest)
        return arms


# the names of part A's teachers
_LETTERS = "abcdefgh"


class Signature(Blocks):
    """Parameters of `10_signature`: part A, what soft targets leave in a network that fits its
    images.

    `teachers` are released students' files, `a`, `b` and so on; none for the profile's teacher.
    """

    teachers: list[str] = Field(max_length=len(_LETTERS))

    def sources(self, teacher: str) -> dict[str, str]:
        """Letter -> hash of a teacher's weights."""
        hashes = [self.released(file) for file in self.teachers] or [teacher]
        return dict(zip(_LETTERS, hashes))

    def arms(self, teacher: str, seed: int) -> dict[str, Run]:
        """`plain`, and `own-<letter>` and `other-<letter>` for each teacher."""
        arms = {"plain": self.student_run("student", seed, teacher)}
        for letter, source in self.sources(teacher).items():
            arms[f"own-{letter}"] = self.student_run("kd", seed, source, pairing="static")
            arms[f"other-{letter}"] = self.student_run("kd", seed, source, pairing="released")
        return arms

    def traces(self, result: Result) -> dict[str, float]:
        """Logit gap and spread of a network on training and test images, and the KL divergence
        from the targets that it met on the training images (temperature of its run), if any.
        """
        run = result.run

        def measure() -> dict[str, float]:
            network = self.workspace.load_weights(result.weights)
            training = self.workspace.pictures(run).training
            test = self.data().test
            found: dict[str, float] = {}
            for name, split in (("train", training), ("test", test)):
                logits = predict(network.model, split, device=network.device)
                gap, spread = logit_gap(logits, split.labels)
                found |= {f"gap_{name}": gap.mean().item(), f"spread_{name}": spread.mean().item()}
                if name == "train" and run.alpha:
                    found["kl"] = kl_divergence(logits, self._targets(run), run.temperature)
            return found

        return self.workspace.measured("traces", result.weights, measure)

    def _targets(self, run: Run) -> Tensor:
        """The teacher's logits (N, K) that the images of `run` met."""
        targets = training_set(run, self.workspace).signals.logits
        assert targets is not None, f"{run} meets no soft targets"
        return targets


class Factorial(Blocks):
    """Parameters of `10_factorial`: part C, soft targets by overlay, and the paper's own setting.

    `alpha`, `temperature` and `probability` are the paper's; `own_alpha` and `own_temperature` are
    the weight and the temperature of an image's own targets in the factorial, and
    `overlay_probability` that of its overlays. The recipe is the strong one.
    """

    own_alpha: Annotated[float, Field(gt=0, le=1)]
    own_temperature: Annotated[float, Field(gt=0)]
    overlay_probability: Annotated[float, Field(gt=0, le=1)]

    def arms(self, teacher: str, seed: int) -> dict[str, Run]:
        """`<targets>.<overlay>` for every pair of `TARGETS` and `OVERLAYS`; `paper.plain`,
        `paper.own` and `paper.released`.
        """
        arms = {
            f"{targets}.{overlay}": self._crossed(teacher, seed, targets, overlay)
            for targets in TARGETS
            for overlay in OVERLAYS
        }
        # few steps need a batch norm that follows quickly; at the evidence's size it is torch's
        recipe = Recipe(epochs=self.recipe.epochs, bn_momentum=self.recipe.bn_momentum)
        as_printed = {"plain": ("student", "static"), "own": ("kd_ig", "static")}
        as_printed["released"] = ("kd_ig", "released")
        printed = {"recipe": recipe, "overlay": "map", "maps_pairing": None}
        return arms | {
            f"paper.{name}": self.student_run(method, seed, teacher, pairing=pairing, **printed)
            for name, (method, pairing) in as_printed.items()
        }

    def _crossed(self, teacher: str, seed: int, targets: str, overlay: str) -> Run:
        given: dict[str, object] = {"pairing": "static", "maps_pairing": "static"}
        if targets == "own":
            given |= {"alpha": self.own_alpha, "temperature": self.own_temperature}
        elif targets == "released":
            given["pairing"] = "released"
        if overlay != "none":
            given |= {"overlay": overlay, "probability": self.overlay_probability}
        terms = [name for name, on in (("kd", targets), ("ig", overlay)) if on != "none"]
        return self.student_run("_".join(terms) or "student", seed, teacher, **given)

    def outcomes(self, results: Iterable[Result], teacher: str) -> list[dict[str, float]]:
        """For each network its accuracy under each of `CONDITIONS`, agreement with the teacher, and
        calibration.
        """
        test, load = self.data().test, self.workspace.load_weights

        @functools.cache
        def damaged(name: str) -> Tensor:
            return corrupt(test.images, *CONDITIONS[name])

        @functools.cache
        def taught() -> Tensor:
            return self.predicted(load(teacher), test.images)

        def measure(weights: str) -> dict[str, float]:
            network = load(weights)
            logits = {name: self.predicted(network, damaged(name)) for name in CONDITIONS}
            right = {name: accuracy(found, test.labels) for name, found in logits.items()}
            error = {"calibration_error": calibration_error(logits["clean"], test.labels)}
            return right | agreement(logits["clean"], taught()) | error

        weights, name = [result.weights for result in results], f"outcomes-{teacher}"
        measured = self.workspace.measured
        return [measured(name, one, functools.partial(measure, one)) for one in weights]
