"""Every parameter of a notebook reaches the run or the measurement that it names.

Those that decide a result are compared.
"""

import ast
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import torch
from conftest import write_tree

from kdig.core.data import CIFAR10_CLASSES
from kdig.study import experiments
from kdig.study.experiments import NOTEBOOKS, Students

pytestmark = pytest.mark.pins
ROOT = Path(__file__).parents[1]
EQUAL_WIDTH = cache(experiments.equal_width)  # a third of a second, and asked for hundreds of times
CASES = [(notebook, name) for notebook, model in NOTEBOOKS.items() for name in model.model_fields]

# Parameter -> two values, of which one that the notebook does not have is tried. `TEACHER`, `BOTH`,
# `STUDENTS`: whose keys change.
TEACHER: dict[str, tuple] = {
    "teacher_train_images": (100, 200), "teacher_epochs": (3, 4), "teacher_learning_rate": (0.03, 0.04),
    "teacher_optimizer": ("sgd", "adamw"), "teacher_weight_decay": (0.1, 0.2), "seed": (1, 2),
}  # fmt: skip
BOTH: dict[str, tuple] = {
    "dataset": ("folder", "digits"), "image_size": (12, 14), "test_images": (50, 40), "width": (0.5, 0.75), "padding": (2, 3),
    "flip": (True, False), "bn_momentum": (0.2, 0.4),
}  # fmt: skip
STUDENTS: dict[str, tuple] = {
    "train_images": (100, 200), "ig_steps": (3, 4), "ig_baseline": ("mean", "black"),
    "ig_rule": ("riemann_left", "gausslegendre"), "ig_output": ("softmax", "logit"),
    "alpha": (0.3, 0.4), "temperature": (3.5, 4.5), "probability": (0.3, 0.4), "gamma": (0.35, 0.45),
    "attention_reduction": ("mean", "sum"), "pairing": ("released", "static"), "epochs": (5, 6), "batch_size": (30, 40),
    "learning_rate": (0.03, 0.04), "optimizer": ("sgd", "adamw"), "schedule": ("cosine", "onecycle"), "normalise": (True, False),
    "evaluate_every": (3, 4), "level": (3, 4), "levels": ([3, 5], [2, 5]), "methods": (["student", "kd", "at"], ["student", "at"]),
    "seeds": ([4, 5], [5, 6]), "share": (0.7, 0.6), "repetitions": (5, 6),
    "temperatures": ([1.1, 1.2], [1.3, 1.4]), "alphas": ([0.15, 0.2], [0.3, 0.4]),
    "probabilities": ([0.45, 0.55], [0.3, 0.4]), "gammas": ([0.15, 0.55], [0.3, 0.4]),
    "pairings": (["static", "same_view"], ["static", "reshuffled"]), "pairing_methods": (["kd", "kd_at"], ["kd"]),
    "overlays": (["map", "mixup"], ["map", "grey"]), "overlay_probability": (0.6, 0.7),
    "strong_methods": (["student", "at"], ["student", "kd"]),
    "strong_optimizer": ("adam", "adamw"), "strong_learning_rate": (0.3, 0.4), "strong_schedule": ("cosine", "constant"),
    "strong_weight_decay": (0.2, 0.3), "strong_label_smoothing": (0.2, 0.3),
}  # fmt: skip
# parameters of a measurement: the notebook's code reads them (as a name, or as `settings.<name>`)
READ: dict[str, tuple] = {
    "completeness_images": (5, 6), "reference_images": (5, 6), "latency_batches": ([2], [3]), "latency_repeats": (7, 8),
    "latency_threads": (2, 3), "latency_variants": (["plain"], ["plain", "compiled"]),
    "cold_repeats": (7, 8), "training_batch": (9, 8),
    "resize": ("squash", "crop"), "jpeg_qualities": ([50], [60]), "noise_sds": ([5.0], [6.0]), "blur_sigmas": ([0.3], [0.4]),
    "contrast_factors": ([0.3], [0.4]), "robustness_images": (50, 60),
}  # fmt: skip
# parameters that a method or a property of the model takes up; tests below say which
TAKEN_UP: dict[str, tuple] = {
    "profile": ("other", "another"), "root": ("here", "there"), "download": (True, False), "device": ("cpu", "auto"),
    "engine": ("inline", "local"), "workers": (3, 4), "threads": (3, 4),
    "subset_root": ("here", "there"), "checkpoints": (["a.pt"], []),
}  # fmt: skip
VALUES = {**TEACHER, **BOTH, **STUDENTS, **READ, **TAKEN_UP}
# What may differ from the paper's without making a claim undecidable: where and how fast it is
# computed, which runs are made, and what is measured beside. Everything else decides a result.
FREE = {
    "profile", "root", "download", "device", "engine", "workers", "threads", "seed", "evaluate_every",
    "seeds", "methods", "levels", "repetitions", "temperatures", "alphas", "probabilities", "gammas",
    "latency_batches", "latency_repeats", "latency_threads", "latency_variants", "cold_repeats", "training_batch",
    "subset_root", "checkpoints", "pairings", "pairing_methods", "overlays", "strong_methods",
    "jpeg_qualities", "noise_sds", "blur_sigmas", "contrast_factors", "robustness_images",
}  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    write_tree(root)
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(experiments, "equal_width", EQUAL_WIDTH)


def base(notebook: str, root: Path) -> dict[str, Any]:
    """The model's defaults, with few runs, among them one that uses every weight."""
    few = {
        "root": str(root),
        "methods": ["student", "kd_ig_at"],
        "seeds": [0, 1],
        "levels": [1, 2],
        "overlays": ["map", "grey"],
    }
    few |= {
        name: VALUES[name][1]
        for name in (
            "temperatures",
            "alphas",
            "probabilities",
            "gammas",
            "pairings",
            "pairing_methods",
        )
    }
    few |= {"strong_methods": ["student", "kd"], "train_images": 60}
    return {name: value for name, value in few.items() if name in NOTEBOOKS[notebook].model_fields}


def other(name: str, value: object) -> object:
    return next(candidate for candidate in VALUES[name] if candidate != value)


def keys(notebook: str, values: dict[str, Any]) -> dict[str, set[str]]:
    """The keys of the teacher and of all students of a notebook."""
    settings = experiments.check(
        NOTEBOOKS[notebook], dict(values)
    )  # check keeps what it needs in the namespace
    students = settings.runs("abc") if isinstance(settings, Students) else []
    return {"teacher": {settings.teacher_run().key}, "students": {run.key for run in students}}


@cache
def names_read(notebook: str) -> set[str]:
    """Names that the code after the parameters cell reads, and attributes that it takes of
    `settings`.
    """
    book = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4)
    cells = [
        c
        for c in book.cells
        if c.cell_type == "code" and "parameters" not in c.metadata.get("tags", [])
    ]
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    taken = {
        n.attr
        for n in nodes
        if isinstance(n, ast.Attribute)
        and isinstance(n.value, ast.Name)
        and n.value.id == "settings"
    }
    return taken | {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def test_every_parameter_has_a_row():
    assert {name for _, name in CASES} == set(VALUES)


@pytest.mark.parametrize(
    ("notebook", "name"), [case for case in CASES if case[1] not in {*READ, *TAKEN_UP}]
)
def test_a_parameter_reaches_the_runs_that_it_names(notebook, name, tree):
    given = base(notebook, tree)
    value = other(name, NOTEBOOKS[notebook](**given).model_dump()[name])
    before, after = keys(notebook, given), keys(notebook, given | {name: value})
    assert (before["teacher"] != after["teacher"]) == (name in {**TEACHER, **BOTH})
    if before["students"]:
        assert (before["students"] != after["students"]) == (name in {**STUDENTS, **BOTH})
    elif name in STUDENTS:  # a notebook that trains no students measures signals with these
        assert name in names_read(notebook)


@pytest.mark.parametrize(("notebook", "name"), [case for case in CASES if case[1] in READ])
def test_a_parameter_of_a_measurement_is_read_by_its_notebook(notebook, name, tree):
    assert name in names_read(notebook)
    given = base(notebook, tree)
    value = other(name, NOTEBOOKS[notebook](**given).model_dump()[name])
    assert keys(notebook, given) == keys(notebook, given | {name: value}), (
        "it should make no run anew"
    )


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_parameters_that_say_where_and_how_fast_reach_the_engine(notebook, tmp_path, monkeypatch):
    asked = {
        "profile": "mine",
        "root": str(tmp_path),
        "download": True,
        "device": "cuda:1",
        "engine": "inline",
        "workers": 3,
        "threads": 5,
    }
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    settings = experiments.check(NOTEBOOKS[notebook], dict(asked))
    workspace = settings.workspace
    assert (workspace.root, workspace.download, workspace.device) == (tmp_path, True, "cuda:1")
    assert settings.outputs.folder.name == workspace.folder.name == "mine"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (
        experiments.check(NOTEBOOKS[notebook], asked | {"device": "auto"}).workspace.device
        == "cuda"
    )
    if isinstance(settings, Students):
        monkeypatch.setattr(experiments, "execute", lambda *given: given)
        assert settings.execute([]) == ([], workspace, "inline", 3, 5)


@pytest.mark.parametrize(
    "notebook", [notebook for notebook, name in CASES if name == "checkpoints"]
)
def test_checkpoints_reach_what_the_notebook_tries(notebook, monkeypatch):
    assert "released" in names_read(notebook)
    network = SimpleNamespace(classifier=[SimpleNamespace(out_features=10)])
    monkeypatch.setattr(experiments, "load_released_checkpoint", lambda path: network)
    monkeypatch.setattr(
        NOTEBOOKS[notebook], "data", lambda self: SimpleNamespace(classes=CIFAR10_CLASSES)
    )
    fitting = {"dataset": "cifar10", "subset_root": "here"}
    given = {
        name: value for name, value in fitting.items() if name in NOTEBOOKS[notebook].model_fields
    }
    assert experiments.check(NOTEBOOKS[notebook], given | {"checkpoints": ["a.pt"]}).released() == {
        "a": network
    }


def test_the_other_source_is_read_from_its_folder_as_asked(monkeypatch):
    assert "source" in names_read("07_imagenet_subset")
    monkeypatch.setattr(experiments, "load_subset", lambda *given: given)
    monkeypatch.setattr(
        experiments.ImageNetSubset, "data", lambda self: SimpleNamespace(classes=CIFAR10_CLASSES)
    )
    settings = experiments.check(
        experiments.ImageNetSubset,
        {"subset_root": "/pictures", "resize": "squash", "image_size": 24},
    )
    assert settings.source() == (Path("/pictures"), 24, "squash")


@pytest.mark.parametrize(("notebook", "name"), CASES)
def test_only_what_decides_no_result_may_differ_from_the_papers(notebook, name, monkeypatch):
    model = NOTEBOOKS[notebook]
    monkeypatch.setattr(model, "data", lambda self: SimpleNamespace(is_cifar10=True))
    values = model()._papers(notebook) | (
        {"subset_root": "here"} if "subset_root" in model.model_fields else {}
    )
    assert model(**values).is_papers(notebook)
    changed = values | {name: other(name, values.get(name, model().model_dump()[name]))}
    assert model(**changed).is_papers(notebook) == (name in FREE)
