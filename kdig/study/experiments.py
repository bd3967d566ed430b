"""What a notebook calls right after its parameters cell: check the parameters, find the folders,
make the runs.

Each notebook has a model here whose fields are the parameters it accepts; a value of the wrong
type, out of range or under an unknown name stops the notebook with one line.
"""

import itertools
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import pandas as pd
import torch
from pydantic import Field, model_validator
from torchvision.models import MobileNetV2

from kdig import KdigError
from kdig.core.attribution import Baseline, Output, Rule
from kdig.core.data import CIFAR10_CLASSES, DATASETS, Dataset, Split, check_draw, stratified
from kdig.core.losses import Reduction
from kdig.core.methods import METHODS
from kdig.core.networks import (
    Architecture,
    build,
    count_parameters,
    equal_width,
    load_released_checkpoint,
)
from kdig.core.runs import Engine, Result, Run, Workspace, cores, execute
from kdig.core.signals import Overlay, Pairing
from kdig.core.training import Recipe
from kdig.measure.latency import Variant
from kdig.paper import OTHER_SETTINGS, published
from kdig.paper.imagenet import Resize, Source, load_subset, stand_in
from kdig.paper.recompute import matching_smoothing, stationary_gap
from kdig.study import settings
from kdig.study.settings import Settings, located, parameter_values, project_root

# parameters that say which runs are made, and where, but not what a run gives
_FREE = {"root", "download", "device", "engine", "workers", "threads", "seed", "evaluate_every"}
_FREE |= {
    "seeds",
    "methods",
    "levels",
    "repetitions",
    "temperatures",
    "alphas",
    "probabilities",
    "gammas",
}
_FREE |= {
    "latency_batches",
    "latency_repeats",
    "latency_threads",
    "latency_variants",
    "cold_repeats",
    "training_batch",
}
_FREE |= {"subset_root", "checkpoints", "pairings", "pairing_methods", "overlays", "strong_methods"}
_FREE |= {"jpeg_qualities", "noise_sds", "blur_sigmas", "contrast_factors", "robustness_images"}


class Experiment(Settings):
    """Parameters of a notebook that trains, set in `params/<profile>/shared.yaml`: data, teacher,
    signals, where to compute.
    """

    dataset: str = "digits"
    root: str = "data"
    download: bool = False
    image_size: int = Field(16, ge=8)
    train_images: int | None = Field(None, ge=10)
    test_images: int | None = Field(None, ge=10)
    width: float = Field(0.25, gt=0)
    padding: int = Field(1, ge=0)
    flip: bool = False
    teacher_train_images: int | None = Field(None, ge=10)
    teacher_epochs: int = Field(8, ge=1)
    teacher_learning_rate: float = Field(5e-3, gt=0)
    teacher_optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    teacher_weight_decay: float = Field(0.0, ge=0)
    bn_momentum: float = Field(0.3, gt=0, le=1)
    ig_steps: int = Field(50, ge=1)
    ig_baseline: Baseline = "black"
    ig_rule: Rule = "gausslegendre"
    ig_output: Output = "logit"
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda, or cuda:1 for the second GPU",
    )
    engine: Engine = "local"
    workers: int = Field(2, ge=1)
    threads: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.dataset not in DATASETS:
            raise ValueError(
                f"unknown data set {self.dataset!r}: choose one of {', '.join(DATASETS)}"
            )
        return self

    @property
    def workspace(self) -> Workspace:
        """Pictures and results of this profile. A relative `root` starts at the project root."""
        device = (
            ("cuda" if torch.cuda.is_available() else "cpu")
            if self.device == "auto"
            else self.device
        )
        if (
            device.startswith("cuda")
            and int(device.partition(":")[2] or 0) >= torch.cuda.device_count()
        ):
            raise KdigError(
                f"device {self.device!r} asked for, but torch sees {torch.cuda.device_count()}"
                " GPUs: use 'cpu' or 'auto'"
            )
        return Workspace(self.outputs.folder, located(self.root), device, self.download)

    def data(self) -> Dataset:
        """The data set.

        Raises `KdigError` when it has too few images for the numbers that are asked for.
        """
        data = self.workspace.dataset(self.dataset, self.image_size)
        wanted = {
            "teacher_train_images": data.train,
            "train_images": data.train,
            "test_images": data.test,
        }
        for name, split in wanted.items():
            if (size := getattr(self, name)) not in (None, len(split)):
                check_draw(split, size, name)
        return data

    def _common(self) -> dict[str, Any]:
        names = ("dataset", "image_size", "test_images", "width", "padding", "flip")
        return {"data": self.data().fingerprint, **{name: getattr(self, name) for name in names}}

    def _papers(self, notebook: str) -> dict[str, Any]:
        """What `params/paper` gives `notebook`."""
        return parameter_values(
            project_root() / "params" / "paper", notebook, type(self).model_fields
        )

    def is_papers(self, notebook: str) -> bool:
        """Whether data and all settings that decide a result are those of `params/paper`.

        Only then claims about it are decided.
        """
        wanted, ours = self._papers(notebook), self.model_dump()
        return self.data().is_cifar10 and all(
            ours[name] == value for name, value in wanted.items() if name not in _FREE
        )

    def holds_papers(self, notebook: str, *names: str) -> bool:
        """Whether the lists `names` hold every entry that `params/paper` gives them.

        `is_papers` lets a list be shorter than the paper's; a claim about a whole list is decided
        by no part of it.
        """
        wanted = self._papers(notebook)
        return all(set(getattr(self, name)) >= set(wanted[name]) for name in names)

    def comparable(self, notebook: str, teacher: Result) -> str:
        """Why no claim about results is decided here; empty when data, settings and teacher are
        like the paper's.

        The paper's teacher reaches 93.91 % (Table 4); ours must come within a point of it, below or
        above.
        """
        if not self.is_papers(notebook):
            return OTHER_SETTINGS
        wanted, ours = (
            published("table4_ablation").set_index("method").acc_max["Teacher"],
            teacher.last.test_accuracy,
        )
        if ours is not None and abs(ours - wanted) < 1:
            return ""
        return (
            f"the teacher's test accuracy is {ours:.2f} %, a point or more from the paper's"
            f" {wanted} %"
        )

    def teacher_run(self) -> Run:
        """The one teacher of this profile: one-cycle learning rate, normalised input."""
        recipe = Recipe(
            optimizer=self.teacher_optimizer,
            learning_rate=self.teacher_learning_rate,
            schedule="onecycle",
            normalise=True,
            weight_decay=self.teacher_weight_decay,
            epochs=self.teacher_epochs,
            bn_momentum=self.bn_momentum,
        )
        return Run(
            **self._common(),
            level=0,
            train_images=self.teacher_train_images,
            recipe=recipe,
            seed=self.seed,
        )

    def teacher(self) -> Result:
        """The teacher's result; it is trained on the first call in a profile, with all CPU cores."""
        return execute([self.teacher_run()], self.workspace, threads=cores())[0]


class TeacherAndSignals(Experiment):
    """Parameters of `02_teacher_and_signals`."""

    completeness_images: int = Field(200, ge=1)
    reference_images: int = Field(16, ge=1)


class Students(Experiment):
    """Parameters of a notebook that trains students, set in `params/<profile>/students.yaml`.

    Table 3 gives the paper's.
    """

    alpha: float = Field(0.01, gt=0, le=1)
    temperature: float = Field(2.5, gt=0)
    probability: float = Field(0.1, gt=0, le=1)
    gamma: float = Field(0.8, gt=0)
    attention_reduction: Reduction = "sum"
    pairing: Pairing = "static"
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    schedule: Literal["constant", "cosine", "onecycle"] = "constant"
    normalise: bool = False
    evaluate_every: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _lists(self) -> Self:
        lists = {name: value for name, value in self if isinstance(value, list)}
        for name, value in lists.items():
            if len(set(value)) < len(value):
                raise ValueError(f"{name} must not repeat an entry")
        methods = lists.get("methods", ["student", "kd"])
        unknown = sorted(set(methods) - set(METHODS))
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}: choose from {', '.join(METHODS)}")
        if "student" not in methods or len(methods) < 2:
            raise ValueError(
                "methods must hold 'student', to which the others are compared, and one more"
            )
        return self

    def recipe(self, **changes: object) -> Recipe:
        """How the students of this notebook are trained.

        `changes` sets other fields, or overrides one.
        """
        names = (
            "optimizer",
            "learning_rate",
            "schedule",
            "batch_size",
            "epochs",
            "normalise",
            "bn_momentum",
            "evaluate_every",
        )
        return Recipe(**{**{name: getattr(self, name) for name in names}, **changes})

    def student_run(self, method: str, seed: int, teacher: str, **changes: object) -> Run:
        """The run of `method`: the weights that the method does not use are zero. `teacher` is the
        hash of its weights.

        `changes` sets any other field of the run, or overrides one, `level` and `alpha` for
        instance.
        """
        weights = {name: getattr(self, name) for name in METHODS[method].weights}
        signals = {
            name: getattr(self, name) for name in ("temperature", "attention_reduction", "pairing")
        }
        signals |= {
            name: getattr(self, f"ig_{name}") for name in ("baseline", "rule", "steps", "output")
        }
        common = {
            **self._common(),
            "train_images": self.train_images,
            "level": getattr(self, "level", 2),
            "recipe": self.recipe(),
        }
        return Run(**{**common, **signals, **weights, "teacher": teacher, "seed": seed, **changes})

    def runs(self, teacher: str) -> list[Run]:
        """Every run of the notebook, for a teacher whose weights have the hash `teacher`."""
        raise NotImplementedError

    def execute(self, runs: Iterable[Run]) -> list[Result]:
        """The results of `runs` on this profile's engine."""
        return execute(list(runs), self.workspace, self.engine, self.workers, self.threads)


class Ablation(Students):
    """Parameters of `04_ablation`: Table 4."""

    level: int = Field(2, ge=1, le=8)
    methods: list[str] = Field(list(METHODS), min_length=1)
    seeds: list[int] = Field([0, 1, 2], min_length=2)

    def runs(self, teacher: str) -> list[Run]:
        """Every method for every seed."""
        return [
            self.student_run(method, seed, teacher)
            for seed in self.seeds
            for method in self.methods
        ]


class Search(Students):
    """Parameters of `03_hyperparameters`: the grids of Table 3, searched one after the other on
    validation pictures.
    """

    level: int = Field(2, ge=1, le=8)
    temperatures: list[float] = Field([1.5, 2.0, 2.5, 3.0, 4.0], min_length=2)
    alphas: list[float] = Field(
        [0.0005, 0.005, 0.01, 0.025, 0.05, 0.075, 0.09, 0.1, 0.25], min_length=2
    )
    probabilities: list[float] = Field([0.5, 0.25, 0.2, 0.15, 0.1, 0.09], min_length=2)
    gammas: list[float] = Field(
        [0.9, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1], min_length=2
    )
    share: float = Field(0.8, gt=0, lt=1)
    seeds: list[int] = Field([0, 1], min_length=2)

    def cells(self, method: str, teacher: str, **grid: Iterable[float]) -> list[Run]:
        """The runs of one grid, such as `alpha=[...], temperature=[...]`, for every seed, scored on
        validation pictures.
        """
        cells = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
        fixed = {"share": self.share, "scored": "validation"}
        return [
            self.student_run(method, seed, teacher, **fixed, **cell)
            for cell in cells
            for seed in self.seeds
        ]

    def chosen(self, teacher: str, **values: float) -> list[Run]:
        """The student and the three searched methods with the chosen `values`, trained on all
        training pictures, tested.
        """
        methods = ("student", "kd", "kd_ig", "kd_ig_at")
        used = {
            method: {
                n: v
                for n, v in values.items()
                if n in METHODS[method].weights or n == "temperature"
            }
            for method in methods
        }
        # the test set is scored after the last epoch only
        recipe = self.recipe(evaluate_every=self.epochs)
        return [
            self.student_run(method, seed, teacher, recipe=recipe, **used[method])
            for seed in self.seeds
            for method in methods
        ]

    def split(self) -> pd.DataFrame:
        """`id` and `part` (training, validation, test) of each picture of the search.

        One split for all cells and seeds.
        """
        searched = self.workspace.pictures(
            self.student_run("student", 0, "", share=self.share, scored="validation")
        )
        tested = self.workspace.pictures(self.student_run("student", 0, "")).scored
        parts = {"training": searched.training, "validation": searched.scored, "test": tested}
        return pd.concat(
            [pd.DataFrame({"id": split.ids, "part": part}) for part, split in parts.items()],
            ignore_index=True,
        )

    def runs(self, teacher: str) -> list[Run]:
        """The three grids, as if the values of this notebook's parameters were chosen, and the
        chosen setting on the test set.
        """
        grids = self.cells("kd", teacher, alpha=self.alphas, temperature=self.temperatures)
        grids += self.cells("kd_ig", teacher, probability=self.probabilities)
        grids += self.cells("kd_ig_at", teacher, gamma=self.gammas)
        return grids + self.chosen(teacher)


class Sweep(Students):
    """Parameters of `05_compression`: Table S15 and Figure 5, and the timings of Table S9."""

    levels: list[Annotated[int, Field(ge=1, le=8)]] = Field([1, 2, 3, 4, 5, 6, 7, 8], min_length=2)
    methods: list[str] = Field(["student", "kd", "ig", "kd_ig"], min_length=1)
    seeds: list[int] = Field([0, 1], min_length=2)
    latency_batches: list[Annotated[int, Field(ge=1)]] = Field([1, 64], min_length=1)
    latency_repeats: int = Field(20, ge=6)
    latency_threads: int = Field(1, ge=1)
    latency_variants: list[Variant] = Field(
        ["plain", "channels_last", "bfloat16", "compiled"], min_length=1
    )
    cold_repeats: int = Field(10, ge=6)
    training_batch: int = Field(64, ge=2)

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if "plain" not in self.latency_variants:
            raise ValueError("latency_variants must hold 'plain', to which the others are compared")
        return self

    def runs(self, teacher: str) -> list[Run]:
        """Every method at every level for every seed."""
        cells = itertools.product(self.levels, self.seeds, self.methods)
        return [
            self.student_run(method, seed, teacher, level=level) for level, seed, method in cells
        ]


class MonteCarlo(Students):
    """Parameters of `06_monte_carlo`: Table 5.

    Run i of every method has subset i, initial weights i and order i.
    """

    level: int = Field(2, ge=1, le=8)
    methods: list[str] = Field(["student", "kd", "kd_ig", "kd_ig_at"], min_length=1)
    share: float = Field(0.8, gt=0, lt=1)
    repetitions: int = Field(10, ge=4)  # Lilliefors' test needs four

    def runs(self, teacher: str) -> list[Run]:
        """Every method on every subset."""
        cells = itertools.product(range(self.repetitions), self.methods)
        return [
            self.student_run(method, i, teacher, share=self.share, split_seed=i)
            for i, method in cells
        ]


class ImageNetSubset(Ablation):
    """Parameters of `07_imagenet_subset`: Tables 6 and S14. Its runs are those of the ablation.

    `subset_root` is the folder of ImageNet pictures (`kdig.paper.imagenet.load_subset` says in
    which form), null for a stand-in; `checkpoints` are files of students that the paper's authors
    released, tried on the same pictures at 32 x 32.
    """

    methods: list[str] = Field(["student", "kd", "ig", "kd_ig", "kd_ig_at"], min_length=1)
    subset_root: str | None = None
    resize: Resize = "crop"
    checkpoints: list[str] = Field([])

    @model_validator(mode="after")
    def _pictures(self) -> Self:
        if self.checkpoints and self.subset_root is None:
            raise ValueError(
                "checkpoints are tried on pictures of ImageNet: give their folder as"
                " subset_root, too"
            )
        return self

    def source(self, image_size: int | None = None, how: Resize | None = None) -> Source:
        """The pictures from elsewhere at `image_size`, reduced as `how` says (None: as in this
        profile).

        A relative `subset_root` starts at the project root.

        Raises `KdigError` when there are none, and when the data set's classes are not CIFAR-10's.
        """
        data = self.data()
        if self.subset_root is None:
            return stand_in(stratified(data.test, self.test_images), data.classes)
        if data.classes != CIFAR10_CLASSES:
            given = f"{', '.join(data.classes[:3])}, ..."
            raise KdigError(
                f"subset_root is given, but the classes are {given}: pictures of ImageNet fit"
                " CIFAR-10's classes only"
            )
        return load_subset(
            located(self.subset_root), image_size or self.image_size, how or self.resize
        )

    def released(self) -> dict[str, MobileNetV2]:
        """The networks of `checkpoints` by file name.

        Raises `KdigError` for a file that does not fit.
        """
        return released_students(self.checkpoints, len(self.data().classes))


class AttentionMaps(Ablation):
    """Parameters of `08_attention_maps`: Figure S1. Its runs are those of the ablation."""

    methods: list[str] = Field(["student", "at", "kd_at", "ig_at", "kd_ig_at"], min_length=1)


class Released(Ablation):
    """What the two notebooks about the released code share: the ablation's runs, and the students
    that the authors released.

    `checkpoints` are files of these students, tried on CIFAR-10's test pictures at 32 x 32.
    """

    checkpoints: list[str] = Field([])

    @model_validator(mode="after")
    def _cifar10(self) -> Self:
        if self.checkpoints and self.dataset != "cifar10":
            raise ValueError(
                "checkpoints are tried on CIFAR-10's test pictures: they need dataset 'cifar10'"
            )
        return self

    def ablation(self, teacher: str) -> list[Run]:
        """The runs of `04_ablation`."""
        return Ablation.runs(self, teacher)

    def released(self) -> dict[str, MobileNetV2]:
        """The networks of `checkpoints` by file name.

        Raises `KdigError` for a file that does not fit.
        """
        return released_students(self.checkpoints, len(self.data().classes))

    def released_test(self) -> Split:
        """CIFAR-10's test pictures at the released students' size."""
        return self.workspace.dataset(self.dataset, 32).test


class ReleasedResults(Released):
    """Parameters of `09_released_results`: pictures made worse, selection, latency, and the bars of
    Figure 6.
    """

    jpeg_qualities: list[Annotated[int, Field(ge=1, le=95)]] = Field(
        [95, 85, 75, 60, 40, 20], min_length=1
    )
    noise_sds: list[Annotated[float, Field(gt=0)]] = Field([4.0, 8.0, 16.0, 32.0], min_length=1)
    blur_sigmas: list[Annotated[float, Field(gt=0)]] = Field([0.5, 0.75, 1.0, 1.5], min_length=1)
    contrast_factors: list[Annotated[float, Field(gt=0)]] = Field([0.75, 0.5, 0.25], min_length=1)
    robustness_images: int | None = Field(None, ge=10)

    def damaged(self) -> Split:
        """The test images that are made worse.

        Raises `KdigError` when there are fewer than `robustness_images`.
        """
        tested = stratified(self.data().test, self.test_images, name="test_images")
        return stratified(tested, self.robustness_images, name="robustness_images")

    def runs(self, teacher: str) -> list[Run]:
        """Those of `04_ablation`.

        That their test images are enough is asked before any of them is trained.
        """
        self.damaged()
        return super().runs(teacher)


class ReleasedCode(Released):
    """Parameters of `09_released_code`: pairings, overlay controls, recipes and rivals."""

    pairings: list[Pairing] = Field(["static", "same_view", "released", "reshuffled"], min_length=2)
    pairing_methods: list[str] = Field(["kd", "ig", "at", "kd_ig"], min_length=1)
    overlays: list[Overlay] = Field(
        ["map", "unmoved", "other", "phase", "mean", "grey", "mixup"], min_length=2
    )
    overlay_probability: float = Field(0.1, gt=0, le=1)
    strong_methods: list[str] = Field(["student", "kd", "kd_ig"], min_length=2)
    strong_optimizer: Literal["adam", "adamw", "sgd"] = "sgd"
    strong_learning_rate: float = Field(0.1, gt=0)
    strong_schedule: Literal["constant", "cosine", "onecycle"] = "onecycle"
    strong_weight_decay: float = Field(5e-4, ge=0)
    strong_label_smoothing: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _arms(self) -> Self:
        unknown = sorted({*self.pairing_methods, *self.strong_methods} - set(METHODS))
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}: choose from {', '.join(METHODS)}")
        for name, first in (
            ("pairings", "static"),
            ("pairing_methods", "kd"),
            ("overlays", "map"),
            ("strong_methods", "student"),
        ):
            if first not in getattr(self, name):
                raise ValueError(f"{name} must hold {first!r}, to which the others are compared")
        return self

    def paired(self, teacher: str) -> list[Run]:
        """Every method under every pairing."""
        cells = itertools.product(self.pairings, self.seeds, self.pairing_methods)
        return [
            self.student_run(method, seed, teacher, pairing=pairing)
            for pairing, seed, method in cells
        ]

    def smoothed(self, smoothing: float) -> list[Run]:
        """The plain student with label smoothing."""
        recipe = self.recipe(label_smoothing=smoothing)
        return [self.student_run("student", seed, "", recipe=recipe) for seed in self.seeds]

    def overlaid(self, teacher: str) -> list[Run]:
        """The student under every overlay, at `overlay_probability`.

        No overlay is the plain student.
        """
        cells = itertools.product(self.overlays, self.seeds)
        share = self.overlay_probability
        return [
            self.student_run("ig", seed, teacher, overlay=overlay, probability=share)
            for overlay, seed in cells
        ]

    def strong_recipe(self) -> Recipe:
        """Normalised input, and the strong optimiser, rate, schedule and weight decay.

        The rest as the paper's recipe here.
        """
        names = ("optimizer", "learning_rate", "schedule", "weight_decay", "label_smoothing")
        return self.recipe(
            normalise=True, **{name: getattr(self, f"strong_{name}") for name in names}
        )

    def strong(self, teacher: str) -> list[Run]:
        """The student and methods trained with the strong recipe."""
        cells = itertools.product(self.seeds, self.strong_methods)
        return [
            self.student_run(method, seed, teacher, recipe=self.strong_recipe())
            for seed, method in cells
        ]

    def rivals(self) -> list[Run]:
        """Plain networks with as many parameters as the student, by width.

        Trained with the strong recipe.
        """
        classes = len(self.data().classes)
        parameters = count_parameters(build(self.level, classes, self.width))
        widths = {
            name: equal_width(name, parameters, classes)
            for name in get_args(Architecture)
            if name != "paper"
        }
        cells = itertools.product(widths.items(), self.seeds)
        recipe = self.strong_recipe()
        return [
            self.student_run("student", seed, "", architecture=name, width=width, recipe=recipe)
            for (name, width), seed in cells
        ]

    def runs(self, teacher: str) -> list[Run]:
        """All of the above; the label smoothing is that which matches unrelated signals."""
        smoothing = self.smoothing()
        arms = [
            self.ablation(teacher),
            self.paired(teacher),
            self.smoothed(smoothing),
            self.overlaid(teacher),
        ]
        return [run for arm in [*arms, self.strong(teacher), self.rivals()] for run in arm]

    def smoothing(self) -> float:
        """The label smoothing that pulls logits as far down as distillation from another picture's
        logits does.
        """
        classes = len(self.data().classes)
        gap = stationary_gap(self.alpha, self.temperature, 1 / classes, classes)
        return round(matching_smoothing(gap, classes), 4)


def released_students(files: Iterable[str], classes: int) -> dict[str, MobileNetV2]:
    """The released students in `files`, by file name; relative paths start at the project root.

    Raises `KdigError` for a file that is none, for one that tells another number of `classes`
    apart, and for two of one name.
    """
    students: dict[str, MobileNetV2] = {}
    for path in map(located, files):
        if path.stem in students:
            raise KdigError(
                f"two of the checkpoints are called {path.stem}: give one of them another name"
            )
        students[path.stem] = net = load_released_checkpoint(path)
        if net.classifier[-1].out_features != classes:
            raise KdigError(
                f"{path} tells {net.classifier[-1].out_features} classes apart, but the data have"
                f" {classes}: leave it out"
            )
    return students


# notebooks that train -> the parameters that each accepts
NOTEBOOKS: dict[str, type[Experiment]] = {
    "02_teacher_and_signals": TeacherAndSignals,
    "03_hyperparameters": Search,
    "04_ablation": Ablation,
    "05_compression": Sweep,
    "06_monte_carlo": MonteCarlo,
    "07_imagenet_subset": ImageNetSubset,
    "08_attention_maps": AttentionMaps,
    "09_released_code": ReleasedCode,
    "09_released_results": ReleasedResults,
}


M = TypeVar("M", bound=Settings)


def check(model: type[M], namespace: dict[str, Any]) -> M:
    """`kdig.study.settings.check`, which see, for a notebook of this table: a profile in `params/`
    must have its own values.
    """
    notebook = next((name for name, accepted in NOTEBOOKS.items() if accepted is model), "")
    return settings.check(model, namespace, notebook)
