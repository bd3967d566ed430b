"""What the notebooks `11_...` and `12_...` accept: questions of the documents beside the paper.

`11_alignment` asks whether students look where their teacher looks, or their siblings; `12_beyond`
compares attributions and ways to compute maps.
"""

import functools
import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from kdig.core.attribution import ATTRIBUTIONS
from kdig.core.augment import crop_flip, draw_views
from kdig.core.data import Split, stratified
from kdig.core.environment import kernels
from kdig.core.networks import NETWORKS
from kdig.core.run import Run
from kdig.core.runs import execute
from kdig.core.signals import SignalSettings, SignalSpec, Teacher, load_signal, precompute
from kdig.core.store import Result
from kdig.core.train import NOT_NORMALISED
from kdig.core.training import accuracy, predict
from kdig.measure import parts, steps, yardsticks
from kdig.measure.agreement import calibration_error
from kdig.measure.deploy import processor
from kdig.paper import published
from kdig.study.experiments import Seed, Students, WithReleased
from kdig.study.settings import Free, located
from kdig.study.teachers import GivenTeacher

# what a network is compared with: its references' maps of the same images; their maps, where the
# network's own are those of the next image (floor); itself, in another view (ceiling)
Kind = Literal["own", "floor", "view"]
POSTERS_TEACHER, POSTERS_NETWORKS = "resnet101", {"resnet18", "resnet34", "resnet50"}
NOT_THE_POSTERS = "not the poster's networks on real images, so a demonstration only"


class Explaining(Students):
    """Parameters of a notebook that explains test images: how many of them."""

    needs_weights: ClassVar[bool] = True
    explained_images: Free[int] = Field(ge=10)

    def explained(self) -> Split:
        """The test images that are explained: a stratified sample, the same for every network.

        Raises `KdigError` when there are fewer than `explained_images`.
        """
        return stratified(self.data().test, self.explained_images, name="explained_images")

    def asked(self, attribution: str) -> SignalSettings:
        """This notebook's settings of a map, with another attribution."""
        changes = {"attribution": attribution, "pairing": "static", "maps_pairing": None}
        return self.signals.model_copy(update=changes)

    def maps(self, network: Teacher, attribution: str, split: Split) -> Tensor:
        """Attribution maps (N, H, W) of the true classes, computed once and kept in `cache`."""
        spec = SignalSpec(
            teacher=network.hash,
            data=split.fingerprint,
            image_size=split.images.shape[-1],
            mean=tuple(network.mean),
            std=tuple(network.std),
            settings=self.asked(attribution),
        )
        path = precompute(spec, "maps", network, split, self.workspace.signals, block=50)
        return load_signal(spec, "maps", path, split.labels)


class Alignment(WithReleased, Explaining):
    """Parameters of `11_alignment`: do students explain images as their teacher does, and as their
    siblings do?

    `hard_weights` are the poster's alpha, the weight of the labels: 1 - alpha of Eq. 1. `checkpoints`
    are files of released students. Without `networks` none is trained.
    """

    of_cifar10: ClassVar[tuple[str, ...]] = ("checkpoints", "yardsticks")
    networks: Free[list[str]]
    hard_weights: Free[list[Annotated[float, Field(gt=0, le=1)]]] = Field(min_length=2)
    seeds: Free[list[Seed]] = Field(min_length=2)
    attributions: Free[list[str]] = Field(min_length=1)
    parts: Free[int] = Field(ge=6)
    cells: Free[int] = Field(ge=3)
    # a folder with test sets and labels of others (`kdig.measure.yardsticks`)
    yardsticks: Free[str | None] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, known in (("networks", NETWORKS), ("attributions", ATTRIBUTIONS)):
            for given in getattr(self, name):
                if given not in known:
                    raise ValueError(f"{name}: unknown {given!r}: choose from {', '.join(known)}")
        if 1.0 not in self.hard_weights:
            raise ValueError("hard_weights must hold 1, to which the others are compared")
        return self

    def why_not_decided(self, notebook: str, teacher: Result | GivenTeacher | None) -> str:
        """Empty for the poster's networks on the exact CIFAR-10; the poster names no data."""
        posters = self.teacher_network == POSTERS_TEACHER and set(self.networks) >= POSTERS_NETWORKS
        whole = (self.width, self.teacher_width, self.image_size) == (1, 1, 32)
        return "" if posters and whole and self.data().is_cifar10 else NOT_THE_POSTERS

    def arms(self, teacher: str, seed: int) -> dict[tuple[str, float], Run]:
        """(network, weight of the labels) -> run of one seed."""
        cells = itertools.product(self.networks, self.hard_weights)
        return {cell: self._taught_by(teacher, seed, *cell) for cell in cells}

    def _taught_by(self, teacher: str, seed: int, network: str, hard: float) -> Run:
        if hard == 1:
            return self.student_run("student", seed, teacher, network=network)
        return self.student_run("kd", seed, teacher, network=network, alpha=round(1 - hard, 9))

    def runs(self, teacher: str) -> list[Run]:
        """Every network under every weight for every seed."""
        return [run for seed in self.seeds for run in self.arms(teacher, seed).values()]

    def twin(self) -> Teacher | None:
        """The teacher trained once more, from another seed; None where it is given."""
        if self.given.teacher is not None:
            return None
        run = self.teacher_run().model_copy(update={"seed": self.seed + 1})
        (result,) = execute([run], self.workspace, scoring=self.scoring)
        return self.workspace.load_weights(result.weights)

    def trained(self, teacher: str) -> list[tuple[dict[str, Any], Teacher]]:
        """Network, hard weight and seed of every run, with what it has scored, and its network."""
        runs = [
            ({"network": network, "hard": hard, "seed": seed}, run)
            for seed in self.seeds
            for (network, hard), run in self.arms(teacher, seed).items()
        ]
        results = self.execute(run for _, run in runs)
        load = self.workspace.load_weights
        return [
            (row | {"accuracy": result.last.test_accuracy}, load(result.weights))
            for (row, _), result in zip(runs, results)
        ]

    def siblings(self) -> pd.DataFrame:
        """The released students among `checkpoints`: `name`, `group` (which training images),
        whether with `ig`, and the network as `explains`.
        """
        table = published("released_students").set_index("weights")
        nets = [
            (name, Teacher(net, *NOT_NORMALISED, self.workspace.device, "s2"))
            for name, net in self.released().items()
        ]
        rows = [
            {
                "name": _short(name),
                "group": "80 % of the images" if table.share[net.hash] < 1 else "all images",
                "ig": bool(table.probability[net.hash] > 0),
                "explains": net,
            }
            for name, net in nets
            if net.hash in table.index
        ]
        return pd.DataFrame(rows, columns=["name", "group", "ig", "explains"])

    def among_siblings(self, students: pd.DataFrame) -> pd.DataFrame:
        """`alike` for each of the released `students`, with `name`, `group`, `ig`, `kind`, and `beside`:
        the siblings that it is compared with (with IG, without, or all), or itself, which the first
        two of a group are.
        """
        tables, firsts = [], set(students.groupby("group").head(2).name)
        for row in students.itertuples():
            rest = students[(students.group == row.group) & (students.name != row.name)]
            kinds: list[tuple[Kind, str, list[Teacher]]] = [
                ("own", "with IG", [*rest.explains[rest.ig]]),
                ("own", "without IG", [*rest.explains[~rest.ig]]),
                ("floor", "all", [*rest.explains]),
                ("view", "itself", [row.explains]),
            ]
            about = {"name": row.name, "group": row.group, "ig": row.ig}
            if row.name not in firsts:
                del kinds[-1]
            for kind, beside, others in (kind for kind in kinds if kind[-1]):
                compared = self.alike(row.explains, others, kind)
                tables.append(
                    compared.assign(**about, kind=kind, beside=beside, siblings=len(others))
                )
        return pd.concat(tables, ignore_index=True)

    def trusted(self, network: Teacher) -> dict[str, float]:
        """Accuracy and calibration error of a network (percent) on the scored test images."""
        tested = stratified(self.data().test, self.test_images, name="test_images")

        def measure() -> dict[str, float]:
            logits = predict(network.model, tested, device=network.device)
            error = calibration_error(logits, tested.labels)
            return {"accuracy": accuracy(logits, tested.labels), "calibration_error": error}

        name = f"calibration-{tested.fingerprint}-{tested.images.shape[-1]}"
        return self.workspace.measured(name, network.hash, measure)

    def on_yardsticks(self, networks: Mapping[str, Teacher]) -> dict[str, dict[str, np.ndarray]]:
        """Test set -> network -> whether it is right about each image (N,), kept.

        Of CIFAR-10-C `test_images` of each severity are taken, the same in all. Raises `KdigError`
        for a folder without a yardstick and for a file that is damaged.
        """
        folder, found = located(self.yardsticks or ""), {}
        for name, read in yardsticks.test_sets(folder).items():
            split = read()
            if name.startswith(yardsticks.CORRUPTED):
                split = stratified(split, self.test_images, name="test_images")
            found[name] = {
                label: self._right(network, split, name) for label, network in networks.items()
            }
        return found

    def _right(self, network: Teacher, split: Split, name: str) -> np.ndarray:
        def measure() -> dict[str, Tensor]:
            answers = predict(network.model, split, device=network.device).argmax(1)
            return {"right": (answers == split.labels).float()}

        digest = _digest([name, split.images.sum().item(), len(split)])
        kept = self.workspace.per_image(f"yardstick-{digest}", network.hash, split, measure)
        return kept["right"] > 0.5

    def beside_people(self, networks: Mapping[str, Teacher]) -> pd.DataFrame:
        """What CIFAR-10H's people say of the test images, against each network: `network`, `kind`
        (`own`, or `floor`: of another image of the class), `value`; empty without their labels.
        """
        found = yardsticks.people(located(self.yardsticks or ""))
        if found is None:
            return pd.DataFrame(columns=["network", "kind", "value"])
        split, shares = found
        tables = []
        for label, network in networks.items():
            logits = predict(network.model, split, device=network.device)
            compared = yardsticks.like_people(logits, shares, split.labels)
            compared["nats"] = yardsticks.cross_entropy(logits, shares).numpy()
            tables += [
                pd.DataFrame({"network": label, "kind": kind, "value": values * 1.0})
                for kind, values in compared.items()
            ]
        return pd.concat(tables, ignore_index=True)

    def alike(self, network: Teacher, references: Sequence[Teacher], kind: Kind) -> pd.DataFrame:
        """How alike a network and its `references` are: `attribution`, `measure`, `image`, `value`.

        A value is the mean over references. Outputs have the attribution `outputs`. What is measured
        is kept, so that a notebook can be stopped between networks.
        """
        split = self.explained()
        decides = [self.asked(name).model_dump(mode="json") for name in self.attributions]
        named = [[one.hash for one in references], self.attributions, decides]
        digest = _digest([named, self.parts, self.cells, self.flip])

        def measure() -> dict[str, Tensor]:
            found = [self._compared(network, one, split, kind) for one in references]
            return {name: torch.stack([one[name] for one in found]).mean(0) for name in found[0]}

        kept = self.workspace.per_image(f"alike-{kind}-{digest}", network.hash, split, measure)
        return pd.concat([_named(name, values) for name, values in kept.items()], ignore_index=True)

    def _compared(
        self, network: Teacher, reference: Teacher, split: Split, kind: Kind
    ) -> dict[str, Tensor]:
        """`<attribution>: <measure>` -> (N,) of one network against one reference."""
        numbers = {
            "SLIC": parts.slic_parts(split.images, self.parts),
            "grid": parts.grid_parts(split.images, self.cells),
        }
        view = View(kind, self.flip)
        seen = view.of(split)
        ours, theirs = (
            predict(one.model, some, device=one.device)
            for one, some in ((network, seen), (reference, split))
        )
        said = parts.outputs(view.logits(ours), theirs)
        found = {f"outputs: {measure}": values for measure, values in said.items()}
        for name in self.attributions:
            one = view.maps(self.maps(network, name, seen))
            other = self.maps(reference, name, split)
            compared = parts.explanations(one, other, numbers)
            found |= {f"{name}: {measure}": values for measure, values in compared.items()}
        return found


class Beyond(Explaining):
    """Parameters of `12_beyond`: attributions beside each other, as explanations and as overlays;
    maps computed on the fly; fewer steps at equal maps.

    The profile's teacher is the network that is explained. Without `seeds` no student is trained.
    """

    attributions: Free[list[str]] = Field(min_length=2)
    seeds: Free[list[Seed]]
    overlay_probability: float = Field(gt=0, le=1)
    fly_steps: Free[list[Annotated[int, Field(ge=1)]]] = Field(min_length=1)
    gradients: Free[list[Annotated[int, Field(ge=5)]]] = Field(min_length=2)
    reference_steps: Free[int] = Field(ge=50)
    fitted_images: Free[int] = Field(ge=10)

    @model_validator(mode="after")
    def _known_attributions(self) -> Self:
        if unknown := [name for name in self.attributions if name not in ATTRIBUTIONS]:
            known = ", ".join(ATTRIBUTIONS)
            raise ValueError(f"attributions: unknown {unknown[0]!r}: choose from {known}")
        if "integrated_gradients" not in self.attributions:
            raise ValueError("attributions must hold 'integrated_gradients', the paper's")
        return self

    def why_not_decided(self, notebook: str, teacher: Result | GivenTeacher | None) -> str:
        """The paper claims nothing of what is asked here."""
        return "the paper does not ask this"

    def network_explained(self) -> Teacher:
        """The teacher of the profile; one that is given is not scored for it."""
        weights = self.known_teacher() if self.given.teacher else self.teacher().weights
        assert weights is not None, "a given teacher is known"
        return self.workspace.load_weights(weights)

    def arms(self, teacher: str, seed: int) -> dict[str, Run]:
        """`none`, each attribution's map, the controls `other image` and `grey`, and IG computed
        on each view of an image, by each of `fly_steps`.
        """
        overlaid = functools.partial(
            self.student_run,
            "ig",
            seed,
            teacher,
            probability=self.overlay_probability,
            attribution="integrated_gradients",
            pairing="static",
            maps_pairing=None,
        )
        arms = {"none": self.student_run("student", seed, teacher)}
        arms |= {name: overlaid(attribution=name, overlay="map") for name in self.attributions}
        arms |= {"other image": overlaid(overlay="other"), "grey": overlaid(overlay="grey")}
        return arms | {
            f"IG on the fly, {few}": overlaid(pairing="same_view", steps=few, overlay="map")
            for few in self.fly_steps
        }

    def runs(self, teacher: str) -> list[Run]:
        """Every arm for every seed."""
        return [run for seed in self.seeds for run in self.arms(teacher, seed).values()]

    def trained(self, teacher: str) -> pd.DataFrame:
        """`block`, `arm`, test accuracy and seconds of every run."""
        runs = [(seed, *arm) for seed in self.seeds for arm in self.arms(teacher, seed).items()]
        results = self.execute(run for *_, run in runs)
        rows = [
            {"block": seed, "arm": arm, "accuracy": r.last.test_accuracy, "seconds": r.seconds}
            for (seed, arm, _), r in zip(runs, results)
        ]
        return pd.DataFrame(rows)

    def costs(self, network: Teacher, attribution: str, repeats: int = 3) -> float:
        """Milliseconds an image that an attribution takes, the fastest of `repeats`, kept."""
        split = self.explained()
        images, labels = (split.images[:16] / 255).to(network.device), split.labels[:16]
        settings = self.asked(attribution)

        def measure() -> dict[str, float]:
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                network.explain(images, labels.to(network.device), settings).cpu()
                times.append(1000 * (time.perf_counter() - start) / len(images))
            return {"milliseconds": min(times)}

        machine = [kernels(), processor(), self.workspace.device, self.image_size]
        name = f"cost-{_digest([settings.model_dump(mode='json'), *machine])}"
        return self.workspace.measured(name, network.hash, measure)["milliseconds"]

    def agreement(self, network: Teacher, one: str, other: str, kind: Kind) -> np.ndarray:
        """Rank correlation (N,) of the cells of two attributions' maps, in a grid of 6 x 6.

        `floor`: of the other attribution's map of the next image.
        """
        split = self.explained()
        cells = parts.grid_parts(split.images, 6)
        view = View(kind, self.flip)
        held = [
            parts.importance(maps, cells)
            for maps in (
                self.maps(network, one, split),
                view.maps(self.maps(network, other, split)),
            )
        ]
        return parts.rank_correlation(*held).numpy()

    def on_the_fly(self, network: Teacher) -> dict[str, np.ndarray]:
        """`levels` of the overlay (N,) on one random view of each image: of the precomputed map,
        moved with the view, and of maps computed on the view by few steps.

        The reference is the map of the view by `reference_steps`.
        """
        split = self.explained()

        def measure() -> dict[str, Tensor]:
            n, generator = len(split), torch.Generator().manual_seed(self.seed)
            views = draw_views(n, self.padding, self.flip, generator)
            images = crop_flip(split.images, views, self.padding).contiguous() / 255
            asked = self.asked("integrated_gradients")

            def by_steps(count: int) -> Tensor:
                few = asked.model_copy(update={"steps": count})
                device = network.device
                return network.explain(images.to(device), split.labels.to(device), few).cpu()

            stored = self.maps(network, "integrated_gradients", split)
            moved = crop_flip(stored[:, None], views, self.padding)[:, 0]
            exact = by_steps(self.reference_steps)
            candidates = {f"precomputed, {asked.steps}": moved}
            candidates |= {f"on the fly, {n}": by_steps(n) for n in (*self.fly_steps, asked.steps)}
            return {k: steps.judged(maps, exact)["levels"] for k, maps in candidates.items()}

        decides = [self.asked("integrated_gradients").model_dump(mode="json"), self.fly_steps]
        name = f"fly-{_digest([decides, self.reference_steps, self.padding, self.flip, self.seed])}"
        return self.workspace.per_image(name, network.hash, split, measure)

    def fewer(self, network: Teacher) -> pd.DataFrame:
        """Each way to place gradients at each number of them: `scheme`, `gradients`, `image`,
        `levels` and `equal` of the overlay, against `reference_steps` of the midpoint rule.
        """
        split, tables = self.explained(), []
        for count in self.gradients:
            decides = [count, self.reference_steps, self.fitted_images]
            name = f"steps-{_digest(decides)}"
            measure = functools.partial(self._placed, network, split, count)
            kept = self.workspace.per_image(name, network.hash, split, measure)
            for scheme in dict.fromkeys(key.partition(": ")[0] for key in kept):
                values = {what: kept[f"{scheme}: {what}"] for what in ("levels", "equal")}
                about = {"scheme": scheme, "gradients": count, "image": np.arange(len(split))}
                tables.append(pd.DataFrame(about | values))
        return pd.concat(tables, ignore_index=True)

    def _placed(self, network: Teacher, split: Split, count: int) -> dict[str, Tensor]:
        model, labels = network.folded, split.labels
        images = split.images / 255
        point, fit = images.new_zeros(1, 3, 1, 1), self._fit_on()
        reference = self._reference(network, split)
        found: dict[str, Tensor] = {}
        for name, nodes in steps.schemes(model, images, labels, point, fit).items():
            maps = steps.map_at(model, images, labels, point, nodes(count))
            found |= {f"{name}: {what}": v for what, v in steps.judged(maps, reference).items()}
        return found

    def _fit_on(self) -> tuple[Tensor, Tensor]:
        """Training images, and their labels, that fixed nodes are fitted on."""
        some = stratified(self.data().train, self.fitted_images, name="fitted_images")
        return some.images / 255, some.labels

    def _reference(self, network: Teacher, split: Split) -> Tensor:
        """Maps (N, H, W) of the logit, as `steps.map_at` has them, by `reference_steps` of the
        midpoint rule, kept in `cache`.
        """
        fine = {"rule": "riemann_middle", "steps": self.reference_steps, "baseline": "black"}
        fine |= {"output": "logit"}
        finer = self.signals.model_copy(update=fine)
        return self.model_copy(update={"signals": finer}).maps(
            network, "integrated_gradients", split
        )


def _digest(decides: object) -> str:
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]


class View(NamedTuple):
    """What of a sample one network explains, where another one explains the images as they are."""

    kind: Kind
    flip: bool

    def of(self, split: Split) -> Split:
        """The images that are explained: in another view they are other images, with other ids."""
        if self.kind != "view":
            return split
        images = split.images.flip(-1) if self.flip else split.images.roll(1, -1)
        name = "mirrored" if self.flip else "moved"
        return replace(split, images=images, ids=tuple(f"{one}-{name}" for one in split.ids))

    def logits(self, found: Tensor) -> Tensor:
        """The logits (N, K) that stand beside an image's: its own, or the image's before it."""
        return found.roll(1, 0) if self.kind == "floor" else found

    def maps(self, found: Tensor) -> Tensor:
        """The maps (N, H, W) that stand beside an image's, moved back to its own view."""
        if self.kind == "view":
            return found.flip(-1) if self.flip else found.roll(-1, -1)
        return found.roll(1, 0) if self.kind == "floor" else found


def _named(name: str, values: np.ndarray) -> pd.DataFrame:
    """What was measured on each image, with what it is."""
    attribution, _, measure = name.partition(": ")
    images = {"image": np.arange(len(values)), "value": values.astype(float)}
    return pd.DataFrame({"attribution": attribution, "measure": measure, **images})


def _short(file: str) -> str:
    """`KD_IG_AT, 80 %` for a released student's file."""
    share = ", 80 %" if "Train80" in file else ""
    return file.partition("_")[2].partition("_T")[0].replace("_", " & ") + share
