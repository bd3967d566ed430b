"""What a notebook calls right after its parameters cell: check the parameters, find the folders,
make the runs.

Each notebook has a model here whose fields are the parameters it accepts; a value of the wrong
type, out of range or under an unknown name stops the notebook with one line.
"""

import itertools
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self

import pandas as pd
import torch
from pydantic import Field, model_validator
from torchvision.models import MobileNetV2

from kdig import KdigError
from kdig.core.data import CIFAR10_CLASSES, DATASETS, Dataset, Split, check_draw, stratified
from kdig.core.environment import cores
from kdig.core.methods import METHODS, TERMS
from kdig.core.networks import NETWORKS, build, count_parameters, equal_width, of_level
from kdig.core.run import LEVEL_OF, Run, Scoring, Weights
from kdig.core.runs import Engine, execute
from kdig.core.signals import Overlay, Pairing, SignalSettings
from kdig.core.store import Record, Result, Workspace
from kdig.core.training import Recipe
from kdig.measure.latency import Variant
from kdig.paper import OTHER_SETTINGS, papers_settings, published
from kdig.paper.imagenet import Resize, Source, load_subset, stand_in
from kdig.paper.recompute import matching_smoothing, stationary_gap
from kdig.paper.released import load_released_checkpoint
from kdig.study.settings import FREE, Free, Nested, Settings, free, located, outputs_of
from kdig.study.teachers import GivenBy, GivenTeacher, given_result, keep_given

Count = Annotated[int, Field(ge=1)]
# torch's generators take 64 bits, of which orders of images use some
Seed = Annotated[int, Field(ge=0, le=2**32)]
Positive = Annotated[float, Field(gt=0)]


def _require_network(parameter: str, name: str) -> None:
    if name not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise ValueError(f"{parameter}: unknown network {name!r}: choose one of {known}")


class Experiment(Settings):
    """Parameters of a notebook that trains: data, teacher, signals, where to compute.

    Their values stand in section `common` of `params/<profile>.yaml`.
    """

    sections: ClassVar[tuple[str, ...]] = ("common",)
    # whether trained networks are used, beside what is recorded of them
    needs_weights: ClassVar[bool] = True

    dataset: str
    root: Free[str] = "data"
    download: Free[bool] = False
    image_size: int = Field(ge=8)
    train_images: int | None = Field(ge=10)
    test_images: int | None = Field(ge=10)
    width: float = Field(gt=0, le=16)
    padding: int = Field(ge=0, le=64)
    flip: bool
    # what a given teacher decides is asked of itself: `why_not_decided`
    given: Annotated[GivenBy, Nested(), FREE] = GivenBy()
    teacher_network: str
    teacher_width: float = Field(gt=0, le=16)
    teacher_train_images: int | None = Field(ge=10)
    teacher_recipe: Annotated[Recipe, Nested("teacher_")]
    signals: Annotated[SignalSettings, Nested()]
    device: Free[str] = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda, or cuda:1 for the second GPU",
    )
    engine: Free[Engine] = "local"
    workers: Free[int] = Field(2, ge=1)
    threads: Free[int] = Field(1, ge=1)
    seed: Free[Seed] = 0

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.dataset not in DATASETS:
            raise ValueError(
                f"unknown data set {self.dataset!r}: choose one of {', '.join(DATASETS)}"
            )
        _require_network("teacher_network", self.teacher_network)
        return self

    @property
    def workspace(self) -> Workspace:
        """Images and results of this profile. A relative `root` starts at the project root.

        Raises `KdigError` for a GPU that is not there.
        """
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
        # runs are found by what decides them, so that a notebook with parameters of its own shares
        folder = outputs_of(self.profile).folder
        return Workspace(folder, located(self.root), device, self.download)

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
        names = ("dataset", "image_size", "width", "padding", "flip")
        return {"data": self.data().fingerprint, **{name: getattr(self, name) for name in names}}

    def is_papers(self, notebook: str) -> bool:
        """Whether data and all settings that decide a result are the paper's.

        Only then claims about results are decided. A setting for which `paper/settings.csv` has no
        value counts as different. Where a teacher is given, those of its training decide nothing.
        """
        wanted, ours = papers_settings(notebook), self.flat()
        decides = ours.keys() - free(type(self))
        if self.given.teacher is not None:
            decides = {name for name in decides if not name.startswith("teacher_")}
        same = all(name in wanted and ours[name] == wanted[name] for name in decides)
        return self.data().is_cifar10 and same

    def holds_papers(self, notebook: str, *names: str) -> bool:
        """Whether the lists `names` hold every entry of the paper's.

        `is_papers` lets a list be shorter than the paper's; a claim about a whole list is decided
        by no part of it.
        """
        wanted = papers_settings(notebook)
        return all(set(getattr(self, name)) >= set(wanted[name]) for name in names)

    def why_not_decided(self, notebook: str, teacher: Result | GivenTeacher) -> str:
        """Why no claim about results is decided here; empty when data, settings and teacher are
        like the paper's.

        The paper's teacher reaches 93.91 % (Table 4); ours must come within a point of it, below or
        above. One that is given must be the paper's network, too.
        """
        if not self.is_papers(notebook):
            return OTHER_SETTINGS
        if isinstance(teacher, GivenTeacher) and (other := _other_network(teacher, notebook)):
            return other
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
        """The one teacher of this profile."""
        own = {"network": self.teacher_network, "width": self.teacher_width}
        own |= {"train_images": self.teacher_train_images, "recipe": self.teacher_recipe}
        return Run(**self._common() | own, role="teacher", seed=self.seed)

    @property
    def scoring(self) -> Scoring:
        """What networks are tried on: the test images, after every epoch."""
        return Scoring(images=self.test_images)

    def teacher(self) -> Result | GivenTeacher:
        """The teacher's result; it is trained on the first call in a profile, with all CPU cores.

        It is scored after every epoch, whichever notebook comes first. A teacher that is given is
        not trained, only scored.
        """
        if self.given.teacher is not None:
            scoring = Scoring(images=self.test_images)
            return given_result(self.given.teacher, self.workspace, self.data(), scoring)
        return self.trained_teacher(self.teacher_run())

    def trained_teacher(self, run: Run) -> Result:
        """The result of a run that teaches, with all CPU cores where it is not stored."""
        (result,) = execute(
            [run],
            self.workspace,
            threads=cores(),
            scoring=Scoring(images=self.test_images),
            weights=self.needs_weights,
        )
        return result

    def stored(self, run: Run) -> Record | None:
        """The record of a finished run, with its weights where the notebook needs them."""
        return self.workspace.trained(run) if self.needs_weights else self.workspace.record(run)

    def known_teacher(self) -> str | None:
        """The hash of the teacher's weights, if it is given, or trained already."""
        if self.given.teacher is not None:
            return keep_given(self.given.teacher, self.workspace, self.data())[0].hash
        known = self.stored(self.teacher_run())
        return known.weights if known else None


def _other_network(teacher: GivenTeacher, notebook: str) -> str:
    """What tells a given teacher's network from the paper's; empty when it is the same."""
    wanted = papers_settings(notebook)
    network, width = wanted["teacher_network"], wanted["teacher_width"]
    if (teacher.network, teacher.width) == (network, width):
        return ""
    found = f"{teacher.network} at width {teacher.width:g}"
    return f"the teacher is {found}, the paper's is {network} at width {width:g}"


# networks of another shape that the student is set beside
RIVALS = ("mobilenet_v2", "resnet20")


class TeacherAndSignals(Experiment):
    """Parameters of `02_teacher_and_signals`."""

    completeness_images: int = Field(ge=1)
    reference_images: int = Field(ge=1)

    def why_not_decided(self, notebook: str, teacher: Result | GivenTeacher) -> str:
        """As elsewhere, but that a teacher trained here may be of any accuracy, which is what is
        claimed here.

        The claim is about the paper's network: another one that is given does not decide it.
        """
        if self.given.teacher is None:
            return "" if self.is_papers(notebook) else OTHER_SETTINGS
        return super().why_not_decided(notebook, teacher)


class Students(Experiment):
    """Parameters of a notebook that trains students; Table 3 gives the paper's.

    Their values stand in section `students` of `params/<profile>.yaml`.
    """

    sections: ClassVar[tuple[str, ...]] = ("common", "students")

    network: str
    weights: Annotated[Weights, Nested()]
    recipe: Annotated[Recipe, Nested()]
    evaluate_every: Free[int] = Field(ge=1)
    needs_weights: ClassVar[bool] = False

    @model_validator(mode="after")
    def _taught(self) -> Self:
        _require_network("network", self.network)
        overlay, pairing = self.signals.overlay, self.signals.pairing_of("maps")
        if overlay != "map" and pairing != "static":
            found = f"overlay {overlay!r} is a control for pairing 'static', not for {pairing!r}"
            raise ValueError(f"{found}: choose another overlay or pairing")
        used = {term for name in self.taught for term in METHODS[name].terms}
        for term in used:
            if not getattr(self.weights, term.weight):
                raise ValueError(f"{term.weight} must be above 0: leave a term out by its method")
        return self

    @property
    def taught(self) -> list[str]:
        """The methods of this notebook, whose weights must be above zero."""
        return [name for name in getattr(self, "methods", METHODS) if name in METHODS]

    @property
    def level(self) -> int | None:
        """The compression level of the student (Table S5); None for other networks."""
        return LEVEL_OF.get(self.network)

    @property
    def scoring(self) -> Scoring:
        """What students are tried on: the test images, every `evaluate_every` epochs."""
        return Scoring(images=self.test_images, every=self.evaluate_every)

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

    def student_run(self, method: str, seed: int, teacher: str, **changes: object) -> Run:
        """The run of `method`: the weights that the method does not use are zero.

        `teacher` is the hash of its weights. `changes` sets any other field of the run, of its
        signals, or overrides one, `network` and `alpha` for instance.
        """
        off = dict.fromkeys({term.weight for term in TERMS} - METHODS[method].weights, 0.0)
        asked = {name: changes.pop(name) for name in SignalSettings.model_fields if name in changes}
        fields = {
            **self._common(),
            **self.weights.model_dump(),
            **off,
            "train_images": self.train_images,
            "network": self.network,
            "signals": self.signals.model_copy(update=asked),
            "recipe": self.recipe,
            "teacher": teacher,
            "seed": seed,
        }
        return Run(**fields | changes)

    def matching_smoothing(self, alpha: float) -> float:
        """The label smoothing that pulls logits as far down as distillation from another image's
        logits does at the weight `alpha`.
        """
        classes = len(self.data().classes)
        gap = stationary_gap(alpha, self.weights.temperature, 1 / classes, classes)
        return round(matching_smoothing(gap, classes), 4)

    def runs(self, teacher: str) -> list[Run]:
        """Every run of the notebook, for a teacher whose weights have the hash `teacher`."""
        raise NotImplementedError

    def execute(self, runs: Iterable[Run], scoring: Scoring | None = None) -> list[Result]:
        """The results of `runs` on this profile's engine, tried as `scoring` says."""
        return execute(
            list(runs),
            self.workspace,
            self.engine,
            self.workers,
            self.threads,
            scoring or self.scoring,
            self.needs_weights,
        )


class Ablation(Students):
    """Parameters of `04_ablation`: Table 4."""

    methods: Free[list[str]] = Field(min_length=1)
    seeds: Free[list[Seed]] = Field(min_length=2)

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

    temperatures: Free[list[float]] = Field(min_length=2)
    alphas: Free[list[float]] = Field(min_length=2)
    probabilities: Free[list[float]] = Field(min_length=2)
    gammas: Free[list[float]] = Field(min_length=2)
    share: float = Field(gt=0, lt=1)
    seeds: Free[list[Seed]] = Field(min_length=2)

    # what the cells of a search are tried on
    validation: ClassVar[Scoring] = Scoring(split="validation")

    def cells(self, method: str, teacher: str, **grid: Iterable[float]) -> list[Run]:
        """The runs of one grid, such as `alpha=[...], temperature=[...]`, for every seed.

        They are trained on a `share` of the training images, so that `search` can try them on the
        rest.
        """
        cells = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
        return [
            self.student_run(method, seed, teacher, share=self.share, **cell)
            for cell in cells
            for seed in self.seeds
        ]

    def search(self, runs: Iterable[Run]) -> list[Result]:
        """The results of `cells`, tried on validation images."""
        every = self.validation.model_copy(update={"every": self.evaluate_every})
        return self.execute(runs, every)

    def chosen(self, teacher: str, **values: float) -> list[Run]:
        """The student and the three searched methods with the chosen `values`, trained on all
        training images.
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
        return [
            self.student_run(method, seed, teacher, **used[method])
            for seed in self.seeds
            for method in methods
        ]

    def split(self) -> pd.DataFrame:
        """`id` and `part` (training, validation, test) of each image of the search.

        One split for all cells and seeds.
        """
        cell, plain = (self.student_run("student", 0, "", share=s) for s in (self.share, 1.0))
        searched = self.workspace.pictures(cell, self.validation)
        tested = self.workspace.pictures(plain, self.scoring).scored
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


class WithReleased(Students):
    """Parameters of a notebook that also takes students which the authors released: `checkpoints`
    are their files.
    """

    # the parameters that take CIFAR-10's own test images
    of_cifar10: ClassVar[tuple[str, ...]] = ("checkpoints",)
    checkpoints: Free[list[str]]

    @model_validator(mode="after")
    def _cifar10(self) -> Self:
        for name in self.of_cifar10:
            if getattr(self, name) and self.dataset != "cifar10":
                raise ValueError(
                    f"{name} are about CIFAR-10's test images: they need dataset 'cifar10'"
                )
        return self

    def released(self) -> dict[str, MobileNetV2]:
        """The networks of `checkpoints` by file name.

        Raises `KdigError` for a file that does not fit.
        """
        return released_students(self.checkpoints, len(self.data().classes))


class Sweep(Students):
    """Parameters of `05_compression`: Table S15 and Figure 5, and the timings of Table S9."""

    levels: Free[list[Annotated[int, Field(ge=1, le=8)]]] = Field(min_length=2)
    methods: Free[list[str]] = Field(min_length=1)
    seeds: Free[list[Seed]] = Field(min_length=2)
    latency_batches: Free[list[Count]] = Field(min_length=1)
    latency_repeats: Free[int] = Field(ge=6)
    latency_threads: Free[int] = Field(ge=1)
    latency_variants: Free[list[Variant]] = Field(min_length=1)
    cold_repeats: Free[int] = Field(ge=6)
    training_batch: Free[int] = Field(ge=2)

    @model_validator(mode="after")
    def _plain(self) -> Self:
        if "plain" not in self.latency_variants:
            raise ValueError("latency_variants must hold 'plain', to which the others are compared")
        return self

    def runs(self, teacher: str) -> list[Run]:
        """Every method at every level for every seed."""
        cells = itertools.product(self.levels, self.seeds, self.methods)
        return [
            self.student_run(method, seed, teacher, network=of_level(level))
            for level, seed, method in cells
        ]


class MonteCarlo(Students):
    """Parameters of `06_monte_carlo`: Table 5.

    Run i of every method has subset i, initial weights i and order i.
    """

    methods: Free[list[str]] = Field(min_length=1)
    share: float = Field(gt=0, lt=1)
    repetitions: Free[int] = Field(ge=4)  # Lilliefors' test needs four

    def runs(self, teacher: str) -> list[Run]:
        """Every method on every subset."""
        cells = itertools.product(range(self.repetitions), self.methods)
        return [
            self.student_run(method, i, teacher, share=self.share, split_seed=i)
            for i, method in cells
        ]


class ImageNetSubset(WithReleased, Ablation):
    """Parameters of `07_imagenet_subset`: Tables 6 and S14. Its runs are those of the ablation.

    `subset_root` is the folder of ImageNet pictures (`kdig.paper.imagenet.load_subset` says in
    which form), null for a stand-in; `checkpoints` are files of students that the paper's authors
    released, tried on the same pictures at 32 x 32.
    """

    needs_weights: ClassVar[bool] = True
    of_cifar10: ClassVar[tuple[str, ...]] = ()
    subset_root: Free[str | None] = None
    resize: Resize

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


class AttentionMaps(Ablation):
    """Parameters of `08_attention_maps`: Figure S1. Its runs are those of the ablation."""

    needs_weights: ClassVar[bool] = True


class Released(WithReleased, Ablation):
    """What the two notebooks about the released code share: the ablation's runs, and the students
    that the authors released.

    `checkpoints` are files of these students, tried on CIFAR-10's test pictures at 32 x 32.
    """

    needs_weights: ClassVar[bool] = True

    def ablation(self, teacher: str) -> list[Run]:
        """The runs of `04_ablation`."""
        return Ablation.runs(self, teacher)

    def released_test(self) -> Split:
        """CIFAR-10's test pictures at the released students' size."""
        return self.workspace.dataset(self.dataset, 32).test


class ReleasedResults(Released):
    """Parameters of `09_released_results`: pictures made worse, selection, latency, and the bars of
    Figure 6.
    """

    jpeg_qualities: Free[list[Annotated[int, Field(ge=1, le=95)]]] = Field(min_length=1)
    noise_sds: Free[list[Positive]] = Field(min_length=1)
    blur_sigmas: Free[list[Positive]] = Field(min_length=1)
    contrast_factors: Free[list[Positive]] = Field(min_length=1)
    robustness_images: Free[int | None] = Field(ge=10)
    # empty: released students only
    seeds: Free[list[Seed]]

    @model_validator(mode="after")
    def _several_seeds(self) -> Self:
        if len(self.seeds) == 1:
            raise ValueError("seeds must hold two or more, or none for released students only")
        return self

    def tested(self) -> Split:
        """The test images on which students are scored."""
        return stratified(self.data().test, self.test_images, name="test_images")

    def damaged(self) -> Split:
        """The test images that are made worse.

        Raises `KdigError` when there are fewer than `robustness_images`.
        """
        return stratified(self.tested(), self.robustness_images, name="robustness_images")

    def runs(self, teacher: str) -> list[Run]:
        """Those of `04_ablation`.

        That their test images are enough is asked before any of them is trained.
        """
        self.damaged()
        return super().runs(teacher)


class ReleasedCode(Released):
    """Parameters of `09_released_code`: pairings, overlay controls, recipes and rivals."""

    pairings: Free[list[Pairing]] = Field(min_length=2)
    pairing_methods: Free[list[str]] = Field(min_length=1)
    overlays: Free[list[Overlay]] = Field(min_length=2)
    overlay_probability: float = Field(gt=0, le=1)
    strong_methods: Free[list[str]] = Field(min_length=2)
    strong_optimizer: Literal["adam", "adamw", "sgd"]
    strong_learning_rate: float = Field(gt=0)
    strong_schedule: Literal["constant", "cosine", "onecycle"]
    strong_weight_decay: float = Field(ge=0)
    strong_label_smoothing: float = Field(ge=0, lt=1)

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
            self.student_run(method, seed, teacher, pairing=pairing, maps_pairing=None)
            for pairing, seed, method in cells
        ]

    def smoothed(self, smoothing: float) -> list[Run]:
        """The plain student with label smoothing."""
        recipe = self.recipe.model_copy(update={"label_smoothing": smoothing})
        return [self.student_run("student", seed, "", recipe=recipe) for seed in self.seeds]

    def overlaid(self, teacher: str) -> list[Run]:
        """The student under every overlay, at `overlay_probability`.

        No overlay is the plain student.
        """
        cells = itertools.product(self.overlays, self.seeds)
        share = self.overlay_probability
        return [
            self.student_run(
                "ig", seed, teacher, overlay=overlay, probability=share, maps_pairing=None
            )
            for overlay, seed in cells
        ]

    def strong_recipe(self) -> Recipe:
        """Normalised input, and the strong optimiser, rate, schedule and weight decay.

        The rest as the paper's recipe here.
        """
        names = ("optimizer", "learning_rate", "schedule", "weight_decay", "label_smoothing")
        strong = {name: getattr(self, f"strong_{name}") for name in names}
        return self.recipe.model_copy(update={"normalise": True, **strong})

    def strong(self, teacher: str) -> list[Run]:
        """The student and methods trained with the strong recipe."""
        cells = itertools.product(self.seeds, self.strong_methods)
        return [
            self.student_run(method, seed, teacher, recipe=self.strong_recipe())
            for seed, method in cells
        ]

    def rivals(self) -> list[Run]:
        """Plain networks with as many parameters as the student, by width; trained with the strong
        recipe.
        """
        classes, recipe = len(self.data().classes), self.strong_recipe()
        parameters = count_parameters(build(self.network, classes, self.width))
        widths = {name: equal_width(name, parameters, classes) for name in RIVALS}
        return [
            self.student_run("student", seed, "", network=name, width=width, recipe=recipe)
            for name, width in widths.items()
            for seed in self.seeds
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
        """The label smoothing that matches another picture's logits at this notebook's weight."""
        return self.matching_smoothing(self.weights.alpha)


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
