"""What `13_deployment` accepts, and what it measures: exported networks on several engines.

Measurements are kept in the profile's store. A name holds the processor and the versions of the
engines, so that another machine measures anew.
"""

import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Annotated, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator

from kdig.core.artefacts import Label, Runner, logits_of, quantise
from kdig.core.data import Split, stratified
from kdig.core.environment import kernels
from kdig.core.export import export
from kdig.core.networks import NETWORKS, build, count_parameters, of_level
from kdig.core.run import Run
from kdig.core.train import NOT_NORMALISED
from kdig.measure import deploy
from kdig.measure.engines import ENGINES, Files, start
from kdig.measure.latency import macs
from kdig.study.experiments import Count, Seed, WithReleased
from kdig.study.settings import Free

# whose times are compared in every way: the paper's teacher and its student that is 4.12 times
# smaller
PAIR = ("mobilenet_v2", "s2")
# on what the other networks are timed
SOME = ("eager", "onnxruntime", "int8")
# whose first call in a process is not repeated: a compilation takes half a minute, and channels
# last is the same libraries
NOT_COLD = ("compiled", "channels_last")
# artefacts whose accuracy is asked beside those of the engines
ALWAYS = ("onnxruntime", "int8", "int8_per_tensor")
# how rivals are run, beside torch
ALIKE = ("onnxruntime", "int8", "openvino_int8")
# a network's name, and what may follow: by what its channels are multiplied
SHAPE = re.compile(r"(\w+)(@(0\.\d*[1-9]\d*|[1-9]\d*(\.\d+)?))?")
LICENCE = (
    "Weights trained by kdig (MIT) on images whose licence is their own; see the data fingerprint."
)


class Deployment(WithReleased):
    """Parameters of `13_deployment`.

    `levels`, `methods` and `seeds` are networks of `05_compression` that are exported; `checkpoints`
    are released students, tried on CIFAR-10. Times are those of networks of this profile's shape.
    `rivals` are trained and timed like the paper's student, for each of `rival_seeds`. A name like
    `resnet8@2` asks for twice the channels.
    """

    needs_weights: ClassVar[bool] = True

    levels: Free[list[Annotated[int, Field(ge=1, le=8)]]]
    methods: Free[list[str]] = Field(min_length=1)
    seeds: Free[list[Seed]] = Field(min_length=1)
    timed_networks: Free[list[str]] = Field(min_length=2)
    rivals: Free[list[str]] = Field(min_length=1)
    rival_seeds: Free[list[Seed]] = Field(min_length=2)
    engines: Free[list[str]] = Field(min_length=2)
    windows: Free[int] = Field(ge=3)
    window_seconds: Free[float] = Field(gt=0)
    latency_batches: Free[list[Count]] = Field(min_length=1)
    latency_threads: Free[int] = Field(ge=1)
    cold_repeats: Free[int] = Field(ge=3)
    calibration_images: Free[int] = Field(ge=10)
    attribution_images: Free[int] = Field(ge=10)
    patch: Free[int] = Field(ge=1)

    @model_validator(mode="after")
    def _deployed(self) -> Self:
        if unknown := sorted(set(self.engines) - set(ENGINES)):
            raise ValueError(f"unknown engine {unknown[0]!r}: choose from {', '.join(ENGINES)}")
        if lacking := [
            name for name in ("eager", "onnxruntime", "int8") if name not in self.engines
        ]:
            raise ValueError(f"engines must hold {lacking[0]!r}, to which others are compared")
        if "openvino_int8" in self.engines and "openvino" not in self.engines:
            raise ValueError("engines must hold 'openvino', to which 'openvino_int8' is compared")
        if 1 not in self.latency_batches:
            raise ValueError("latency_batches must hold 1: a single image decides the speed-up")
        for name in (*self.timed_networks, *self.rivals):
            found = SHAPE.fullmatch(name)
            if found is None or found[1] not in NETWORKS:
                raise ValueError(
                    f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}; '@2' behind"
                    " it doubles its channels"
                )
        if not set(PAIR) <= set(self.timed_networks):
            raise ValueError(f"timed_networks must hold {' and '.join(PAIR)}")
        if not self.levels and not self.checkpoints:
            raise ValueError("nothing to export: give levels, or checkpoints")
        return self

    def runs(self, teacher: str) -> list[Run]:
        """Every method at every level for every seed, as `05_compression` makes them, and rivals."""
        return [*self._exported(teacher), *self._alike().values()]

    def _exported(self, teacher: str) -> list[Run]:
        return [
            self.student_run(method, seed, teacher, network=of_level(level))
            for level in self.levels
            for seed in self.seeds
            for method in self.methods
        ]

    def _alike(self) -> dict[tuple[str, int], Run]:
        """(network, seed) -> run on labels alone, so that no teacher decides it."""
        return {
            (name, seed): self.student_run("student", seed, "", network=network, width=width)
            for name in (PAIR[1], *self.rivals)
            for network, width in [self.shape(name)]
            for seed in self.rival_seeds
        }

    def trained(self) -> pd.DataFrame:
        """The networks whose files are tried: `name`, `network`, `level`, `method` and `weights`.

        The teacher comes first where one is trained here.
        """
        rows = [_row(*found) for found in self._released()]
        if self.levels:
            teacher = self.teacher()
            rows.append(_row("teacher", self.teacher_network, teacher.weights, "teacher"))
            for result in self.execute(self._exported(teacher.weights)):
                run = result.run
                named = f"{run.network}, {run.method}, seed {run.seed}"
                rows.append(_row(named, run.network, result.weights, run.method))
        return pd.DataFrame(rows)

    def _released(self) -> Iterator[tuple[str, str, str, str]]:
        for name, net in self.released().items():
            weights = self.workspace.keep(net, *NOT_NORMALISED, PAIR[1])
            yield _short(name), PAIR[1], weights, "released"

    def alike(self) -> pd.DataFrame:
        """The paper's student and its rivals, trained alike and on labels alone: a row for each
        `network` and seed (`block`), with `name`, `method`, `weights` and test `accuracy`.
        """
        runs = self._alike()
        rows = [
            _row(f"{name}, seed {seed}", name, result.weights, "student")
            | {"block": seed, "arm": name, "accuracy": result.last.test_accuracy}
            for (name, seed), result in zip(runs, self.execute(runs.values()))
        ]
        return pd.DataFrame(rows)

    def shape(self, name: str) -> tuple[str, float]:
        """A network's name and width: `resnet8@2` is ResNet-8 at twice the profile's width."""
        network, _, factor = name.partition("@")
        return network, self.width * float(factor or 1)

    @property
    def shapes(self) -> dict[str, tuple[str, float]]:
        """What is timed: name -> network and width."""
        return {name: self.shape(name) for name in (*self.timed_networks, *self.rivals)}

    def timed(self) -> dict[str, str]:
        """Network -> hash of weights that nobody has trained, which decide no time."""
        found = {}
        for name, (network, width) in self.shapes.items():
            with torch.random.fork_rng():
                torch.manual_seed(2**31)
                net = build(network, len(self.data().classes), width).eval()
            found[name] = self.workspace.keep(net, *NOT_NORMALISED, network, width)
        return found

    def sizes(self) -> pd.DataFrame:
        """`network`, `parameters` and million multiply-accumulates (`mmacs`) of those timed."""
        classes = len(self.data().classes)
        nets = {n: build(network, classes, width) for n, (network, width) in self.shapes.items()}
        rows = [
            (n, count_parameters(net), macs(net, self.image_size) / 1e6) for n, net in nets.items()
        ]
        return pd.DataFrame(rows, columns=["network", "parameters", "mmacs"])

    @property
    def calibration(self) -> Split:
        """The training images by which the ranges of activations are set, classes in proportion."""
        return stratified(self.data().train, self.calibration_images, name="calibration_images")

    def files(self, weights: str) -> Files:
        """The files of the network with these weights; those that are missing are made.

        Their names say what else decides: the size of the images, and the calibration images.
        """
        folder, used = self.workspace.folder / "artefacts", self.calibration.fingerprint[:8]
        kept = self.workspace.folder / "weights" / f"{weights}.pt"
        whole, eight, tensor = (
            folder / f"{weights}-{self.image_size}-{kind}.onnx"
            for kind in ("float32", f"int8-{used}", f"int8-tensor-{used}")
        )
        if not whole.exists():
            export(self.workspace.load_weights(weights), whole, self._label(weights))
        for path, per_channel in ((eight, True), (tensor, False)):
            if not path.exists():
                split = self.calibration
                said = f"{len(split)} training images, fingerprint {split.fingerprint}"
                quantise(whole, path, split.images.numpy(), said, per_channel)
        return Files(kept, whole, eight, tensor)

    def _label(self, weights: str) -> Label:
        data, network = self.data(), self.workspace.load_weights(weights)
        about = {"network": network.network, "weights": weights, "licence": LICENCE}
        return Label(data.classes, self.image_size, data=data.fingerprint, **about)

    def stamp(self, *more: object) -> str:
        """Eight hex digits of the processor, the engines' versions, and what else decides."""
        names = ("torch", "onnxruntime", "openvino")
        decided = [deploy.processor(), kernels(), *map(version, names), *map(str, more)]
        return hashlib.sha256("|".join(decided).encode()).hexdigest()[:8]

    def times(self, networks: Mapping[str, str]) -> pd.DataFrame:
        """Warm times by windows: `network`, `engine`, `batch`, `window`, `seconds` (the median of
        `calls`) and processor time of a call (`cpu`).
        """
        rows = []
        started: dict[tuple[str, str], Runner] = {}
        for batch, index in itertools.product(self.latency_batches, range(self.windows)):
            of_batch = functools.partial(self._calls, networks, batch, started)
            rows += self._window(networks, batch, index, of_batch)
        return pd.DataFrame(rows)

    def _asked(self, networks: Iterable[str], batch: int) -> list[tuple[str, str]]:
        """The pair on every engine, and the others on some, with the first batch alone."""
        pairs = [(n, e) for n in PAIR for e in self.engines]
        if batch == self.latency_batches[0]:
            pairs += [(n, e) for n in networks if n not in PAIR for e in SOME]
            pairs += [(n, e) for n in self.rivals for e in self.ways if e not in SOME]
        return pairs

    @property
    def ways(self) -> list[str]:
        """How rivals are run, of this profile's engines."""
        return [engine for engine in ALIKE if engine in self.engines]

    def _calls(
        self, networks: Mapping[str, str], batch: int, started: dict[tuple[str, str], Runner]
    ) -> dict[tuple[str, str], Callable[[], object]]:
        """(network, engine) -> a call of `batch` images; what runs it is started once."""
        size = self.image_size
        images = np.random.default_rng(0).random((batch, 3, size, size), dtype=np.float32)
        calls: dict[tuple[str, str], Callable[[], object]] = {}
        for name, engine in self._asked(networks, batch):
            if (name, engine) not in started:
                files = self.files(networks[name])
                started[name, engine] = start(engine, files, self.latency_threads)
            calls[name, engine] = functools.partial(started[name, engine], images)
        deploy.window(calls, 0, 0)  # two rounds to warm up
        deploy.window(calls, 0, 1)
        return calls

    def _window(
        self, networks: Mapping[str, str], batch: int, index: int, make: Callable[[], dict]
    ) -> list[dict[str, object]]:
        asked = self._asked(networks, batch)
        decided = (asked, self.window_seconds, self.latency_threads, batch, self.image_size)
        name = f"window-{batch}-{index}-{self.stamp(*decided)}"

        def measure() -> dict[str, float]:
            found = deploy.window(make(), self.window_seconds, index)
            return {f"{'|'.join(k)}|{i}": v for k, row in found.items() for i, v in enumerate(row)}

        values = self.workspace.measured(name, networks[PAIR[1]], measure)
        rows = []
        for network, engine in asked:
            row = {"network": network, "engine": engine, "batch": batch, "window": index}
            of_call = (values[f"{network}|{engine}|{i}"] for i in range(3))
            rows.append(row | dict(zip(("seconds", "cpu", "calls"), of_call)))
        return rows

    def cold(self, networks: Mapping[str, str]) -> pd.DataFrame:
        """Fresh processes, one image each: `network`, `engine`, `repeat`, and what `first_call`
        gives. Engines and networks take turns.
        """
        chosen = [(n, e) for n in PAIR for e in self.engines if e not in NOT_COLD]
        rows = []
        for repeat in range(self.cold_repeats):
            for network, engine in chosen[:: -1 if repeat % 2 else 1]:
                files = self.files(networks[network])
                stamp = self.stamp(self.latency_threads, self.image_size)
                measure = functools.partial(
                    deploy.first_call, engine, files, self.image_size, 1, self.latency_threads
                )
                name = f"cold-{engine}-{repeat}-{stamp}"
                values = self.workspace.measured(name, networks[network], measure)
                rows.append({"network": network, "engine": engine, "repeat": repeat} | values)
        return pd.DataFrame(rows)

    def energy(self, networks: Mapping[str, str], repeats: int = 200) -> pd.DataFrame:
        """Millijoules of an image by the processor's own counters, for the pair on each engine;
        empty where there are none.
        """
        rows = []
        images = np.zeros((1, 3, self.image_size, self.image_size), np.float32)
        for network, engine in itertools.product(PAIR, self.engines):
            if not deploy.energy_counters():
                break
            run = start(engine, self.files(networks[network]), self.latency_threads)
            joules = deploy.energy(functools.partial(run, images), repeats)
            rows.append({"network": network, "engine": engine, "mj": 1000 * (joules or 0)})
        return pd.DataFrame(rows, columns=["network", "engine", "mj"])

    def tried(self, networks: pd.DataFrame, engines: Iterable[str] | None = None) -> pd.DataFrame:
        """Every artefact on all test images by one code: `right` answers of so many `images`, those
        that it or torch alone has right, the share of equal answers, the largest difference of a
        logit, and the `kib` of its file. `engines`: other ones than the profile's.
        """
        asked = dict.fromkeys(engines or [*self.engines, *ALWAYS])
        rows = []
        for network in networks.to_dict("records"):
            for engine, values in self._tried(str(network["weights"]), asked):
                rows.append({**network, "engine": engine, **values})
        return pd.DataFrame(rows)

    def _tried(
        self, weights: str, engines: Iterable[str]
    ) -> Iterator[tuple[str, dict[str, float]]]:
        files, test = self.files(weights), stratified(self.data().test, self.test_images)
        images, labels = test.images.numpy(), test.labels.numpy()

        @functools.cache
        def logits(engine: str) -> np.ndarray:
            return logits_of(start(engine, files, self.latency_threads), images)

        for engine in engines:
            if engine in NOT_COLD:
                continue
            stamp = self.stamp(test.fingerprint, self.image_size, self.calibration_images)
            measure = functools.partial(_compared, logits, engine, labels)
            values = self.workspace.measured(f"answers-{engine}-{stamp}", weights, measure)
            kib = getattr(files, ENGINES[engine].file).stat().st_size / 1024
            yield engine, values | {"kib": kib}

    def explained(self, networks: pd.DataFrame) -> pd.DataFrame:
        """How alike occlusion maps are to those of the float32 file of the first network, a row an
        artefact: means over images with 95 % intervals. The last row is another network.
        """
        weights = [str(w) for w in networks.weights]
        first, other = weights[0], weights[1] if len(weights) > 1 else weights[0]
        split = stratified(self.data().test, self.attribution_images, name="attribution_images")

        @functools.cache
        def maps(one: str, engine: str) -> np.ndarray:
            run = start(engine, self.files(one), self.latency_threads)
            return deploy.occlusion(run, split.images.numpy(), split.labels.numpy(), self.patch)

        rows = []
        for name, one, engine in (
            ("int8, per channel", first, "int8"),
            ("int8, per tensor", first, "int8_per_tensor"),
            (f"float32 of {networks.name[min(1, len(weights) - 1)]}", other, "onnxruntime"),
        ):
            measure = functools.partial(_likeness, maps, (one, engine), (first, "onnxruntime"))
            stamp = self.stamp(
                split.fingerprint, self.image_size, self.patch, one, self.calibration.fingerprint
            )
            values = self.workspace.measured(f"occlusion-{engine}-{stamp}", first, measure)
            rows.append({"artefact": name, **values})
        return pd.DataFrame(rows)


def _row(name: str, network: str, weights: str, method: str) -> dict[str, object]:
    return {"name": name, "network": network, "method": method, "weights": weights}


def _short(file: str) -> str:
    """A released file's name without what all have in common."""
    parts = file.split("_")
    kept = [p for p in parts[1:] if not p.startswith(("T", "alpha", "p0", "gamma")) or "Acc" in p]
    return " ".join(kept).replace("TestAcc", "")


def _compared(
    logits: Callable[[str], np.ndarray], engine: str, labels: np.ndarray
) -> dict[str, float]:
    ours, torchs = logits(engine), logits("eager")
    right, its = (found.argmax(1) == labels for found in (ours, torchs))
    return {
        "images": float(len(labels)),
        "right": float(right.sum()),
        "only_this": float((right & ~its).sum()),
        "only_torch": float((its & ~right).sum()),
        "same_answer": 100 * float((ours.argmax(1) == torchs.argmax(1)).mean()),
        "largest_difference": float(np.abs(ours - torchs).max()),
    }


def _likeness(
    maps: Callable[[str, str], np.ndarray], one: tuple[str, str], other: tuple[str, str]
) -> dict[str, float]:
    """Means of `deploy.alike`, and half the width of their 95 % intervals."""
    table = deploy.alike(maps(*one), maps(*other))
    half = 1.96 * table.std() / len(table) ** 0.5
    values = {name: float(value) for name, value in table.mean().items()}
    return {
        **values,
        **{f"{name}_half": float(v) for name, v in half.items()},
        "n": float(len(table)),
    }
