"""What a notebook calls right after its parameters cell: check the parameters, find the folders, make the runs.

Each notebook has a model here whose fields are the parameters it accepts; a value of the wrong type, out of range or under an
unknown name stops the notebook with one line.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

import torch
import yaml
from pydantic import Field, model_validator

from kdig import KdigError
from kdig.attribution import Baseline, Output, Rule
from kdig.data import DATASETS, Dataset
from kdig.losses import Reduction
from kdig.runs import METHODS, Engine, Result, Run, Workspace, cores, execute
from kdig.settings import Settings, project_root
from kdig.settings import check as check
from kdig.signals import Pairing
from kdig.training import Recipe


class Experiment(Settings):
    """Parameters of a notebook that trains, set in `params/<profile>/shared.yaml`: data, teacher, signals, where to compute."""

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
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    engine: Engine = "local"
    workers: int = Field(2, ge=1)
    threads: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.dataset not in DATASETS:
            raise ValueError(f"unknown data set {self.dataset!r}: choose one of {', '.join(DATASETS)}")
        return self

    @property
    def workspace(self) -> Workspace:
        """Pictures and results of this profile. A relative `root` starts at the project root."""
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
            raise KdigError(
                f"device {self.device!r} asked for, but torch sees {torch.cuda.device_count()} GPUs: use 'cpu' or 'auto'"
            )
        return Workspace(self.outputs.folder, project_root() / Path(self.root).expanduser(), device, self.download)

    def data(self) -> Dataset:
        """The data set."""
        return self.workspace.dataset(self.dataset, self.image_size)

    def _common(self) -> dict[str, Any]:
        names = ("dataset", "image_size", "test_images", "width", "padding", "flip")
        return {"data": self.data().fingerprint, **{name: getattr(self, name) for name in names}}

    def is_papers(self, notebook: str) -> bool:
        """Whether data and all settings that decide a result are those of `params/paper`; only then claims about it are decided."""
        folder = project_root() / "params" / "paper"
        files = [folder / "shared.yaml", folder / f"{notebook}.yaml"]
        wanted = {name: value for file in files for name, value in yaml.safe_load(file.read_text()).items()}
        free = {"root", "download", "device", "engine", "workers", "threads", "seed", "seeds", "evaluate_every", "methods"}
        ours = self.model_dump()
        return self.data().is_cifar10 and all(ours[name] == value for name, value in wanted.items() if name not in free)

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
        return Run(**self._common(), level=0, train_images=self.teacher_train_images, recipe=recipe, seed=self.seed)

    def teacher(self) -> Result:
        """The teacher's result; it is trained on the first call in a profile, with all CPU cores."""
        return execute([self.teacher_run()], self.workspace, threads=cores())[0]


class TeacherAndSignals(Experiment):
    """Parameters of `02_teacher_and_signals`."""

    completeness_images: int = Field(200, ge=1)
    reference_images: int = Field(16, ge=1)


class Ablation(Experiment):
    """Parameters of `04_ablation`. Tables 3 and 4 of the paper give its values."""

    level: int = Field(2, ge=1, le=8)
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
    methods: list[str] = Field(list(METHODS), min_length=1)
    seeds: list[int] = Field([0, 1, 2], min_length=2)

    @model_validator(mode="after")
    def _known_methods(self) -> Self:
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown:
            raise ValueError(f"unknown method {unknown[0]!r}: choose from {', '.join(METHODS)}")
        if "student" not in self.methods or len(self.methods) < 2:
            raise ValueError("methods must hold 'student', to which the others are compared, and one more")
        for name in ("methods", "seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must not repeat an entry")
        return self

    def student_run(self, method: str, seed: int, teacher: str, **changes: object) -> Run:
        """The run of `method`: the weights that the method does not use are zero. `teacher` is the hash of its weights."""
        weights = {name: getattr(self, name) for name in METHODS[method]}
        recipe = Recipe(
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            batch_size=self.batch_size,
            epochs=self.epochs,
            normalise=self.normalise,
            bn_momentum=self.bn_momentum,
            evaluate_every=self.evaluate_every,
        )
        signals = {name: getattr(self, name) for name in ("temperature", "attention_reduction", "pairing")}
        signals |= {name: getattr(self, f"ig_{name}") for name in ("baseline", "rule", "steps", "output")}
        chosen = {**self._common(), **signals, **weights, "teacher": teacher, **changes}
        return Run(**chosen, level=self.level, train_images=self.train_images, recipe=recipe, seed=seed)

    def execute(self, runs: Iterable[Run]) -> list[Result]:
        """The results of `runs` on this profile's engine."""
        return execute(list(runs), self.workspace, self.engine, self.workers, self.threads)
