"""Every parameter of a notebook reaches the run, the scoring or the measurement that it names.

Those that decide a result are compared.
"""

import ast
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pandas as pd
import pytest
import torch
from conftest import write_tree
from helpers import PRINTED, ROOT, real_profile, settings_of

from kdig.core.data import CIFAR10_CLASSES
from kdig.core.run import Scoring
from kdig.paper import papers_settings
from kdig.study import experiments, settings
from kdig.study.experiments import Search, Students
from kdig.study.notebooks import NOTEBOOKS
from kdig.study.settings import PLACES, check, free, parameters

pytestmark = pytest.mark.pins
EQUAL_WIDTH = cache(experiments.equal_width)  # a third of a second, and asked for hundreds of times
SECTIONS = cache(settings._sections)
CASES = [(notebook, name) for notebook, model in NOTEBOOKS.items() for name in parameters(model)]
AS_PRINTED = [case for case in CASES if case[0] in PRINTED]

# Parameter -> two values, of which one that the notebook does not have is tried. `TEACHER`, `BOTH`,
# `STUDENTS`: whose keys change. `SCORED`: what the networks are tried on changes, and no key.
TEACHER: dict[str, tuple] = {
    "teacher_train_images": (100, 200), "teacher_network": ("s2", "mobilenet_v2"), "teacher_width": (0.5, 0.75),
    "teacher_epochs": (3, 4), "teacher_learning_rate": (0.03, 0.04), "teacher_optimizer": ("sgd", "adamw"),
    "teacher_weight_decay": (0.1, 0.2), "teacher_schedule": ("cosine", "constant"), "teacher_normalise": (True, False),
    "teacher_bn_momentum": (0.2, 0.4), "teacher_batch_size": (30, 40), "teacher_label_smoothing": (0.1, 0.2), "seed": (1, 2),
}  # fmt: skip
BOTH: dict[str, tuple] = {
    "dataset": ("folder", "digits"), "image_size": (12, 14), "padding": (2, 3), "flip": (True, False),
}  # fmt: skip
SCORED: dict[str, tuple] = {"test_images": (50, 40), "evaluate_every": (3, 4)}
STUDENTS: dict[str, tuple] = {
    "train_images": (100, 200), "width": (0.5, 0.75), "network": ("s3", "s4"),
    "attribution": ("saliency", "grad_cam"), "steps": (3, 4), "baseline": ("mean", "black"),
    "rule": ("riemann_left", "gausslegendre"), "output": ("softmax", "logit"),
    "pairing": ("released", "static"), "maps_pairing": ("released", "static"), "overlay": ("grey", "mixup"), "blend": (0.3, 0.4),
    "alpha": (0.3, 0.4), "temperature": (3.5, 4.5), "probability": (0.3, 0.4), "gamma": (0.35, 0.45),
    "attention_reduction": ("mean", "sum"), "epochs": (5, 6), "batch_size": (30, 40),
    "learning_rate": (0.03, 0.04), "optimizer": ("sgd", "adamw"), "schedule": ("cosine", "onecycle"), "normalise": (True, False),
    "weight_decay": (0.1, 0.2), "label_smoothing": (0.1, 0.2), "bn_momentum": (0.2, 0.4),
    "levels": ([3, 5], [2, 5]), "methods": (["student", "kd", "at"], ["student", "at"]),
    "seeds": ([4, 5], [5, 6]), "share": (0.7, 0.6), "repetitions": (5, 6),
    "temperatures": ([1.1, 1.2], [1.3, 1.4]), "alphas": ([0.15, 0.2], [0.3, 0.4]),
    "probabilities": ([0.45, 0.55], [0.3, 0.4]), "gammas": ([0.15, 0.55], [0.3, 0.4]),
    "pairings": (["static", "same_view"], ["static", "reshuffled"]), "pairing_methods": (["kd", "kd_at"], ["kd"]),
    "overlays": (["map", "mixup"], ["map", "grey"]), "overlay_probability": (0.6, 0.7),
    "strong_methods": (["student", "at"], ["student", "kd"]),
    "strong_optimizer": ("adam", "adamw"), "strong_learning_rate": (0.3, 0.4), "strong_schedule": ("cosine", "constant"),
    "networks": (["s1", "resnet8"], ["s3"]), "hard_weights": ([1.0, 0.3], [1.0, 0.2]), "fly_steps": ([3], [4]),
    "blends": ([0.3, 0.4], [0.6, 0.7]), "pairs": (["s3>s4"], ["given>s3"]), "long_epochs": (50, 60),
    "noise_shares": ([0.0, 0.3], [0.0, 0.2]), "noise_alphas": ([0.3], [0.4]),
    "blocks": (3, 4), "own_alpha": (0.3, 0.4), "own_temperature": (3.5, 4.5),
    "strong_weight_decay": (0.2, 0.3), "strong_label_smoothing": (0.2, 0.3),
}  # fmt: skip
# parameters of a measurement: the notebook's code reads them
READ: dict[str, tuple] = {
    "completeness_images": (5, 6), "reference_images": (5, 6), "latency_batches": ([1, 2], [1, 3]), "latency_repeats": (7, 8),
    "latency_threads": (2, 3), "latency_variants": (["plain"], ["plain", "compiled"]),
    "cold_repeats": (7, 8), "training_batch": (9, 8),
    "resize": ("squash", "crop"), "jpeg_qualities": ([50], [60]), "noise_sds": ([5.0], [6.0]), "blur_sigmas": ([0.3], [0.4]),
    "contrast_factors": ([0.3], [0.4]), "robustness_images": (50, 60),
    "explained_images": (20, 30), "parts": (8, 9), "cells": (3, 5),
    "gradients": ([7, 9], [8, 9]), "reference_steps": (60, 70), "fitted_images": (11, 12),
}  # fmt: skip
# parameters that a method or a property of the model takes up; tests below say which
TAKEN_UP: dict[str, tuple] = {
    "profile": ("lite", "demo"), "root": ("here", "there"), "download": (True, False), "device": ("cpu", "auto"),
    "engine": ("inline", "local"), "workers": (3, 4), "threads": (3, 4),
    "subset_root": ("here", "there"), "checkpoints": (["a.pt"], []),
    "yardsticks": ("here", "there"),  # tests/test_yardsticks.py
    "teacher": ("a.pt", "reference"),  # tests/test_teachers.py
    "teachers": (["a.pt"], []),  # tests/test_evidence.py
    # what is explained in one notebook is also laid over images in another
    "attributions": (["integrated_gradients"], ["integrated_gradients", "saliency"]),
    # tests/test_deployment.py
    "timed_networks": (["mobilenet_v2", "s2"], []), "rivals": (["resnet8"], ["resnet8@2"]), "rival_seeds": ([0, 1], [1, 2]), "engines": (["eager", "onnxruntime", "int8"], []),
    "windows": (4, 3), "window_seconds": (0.1, 0.2), "calibration_images": (20, 30), "attribution_images": (20, 30), "patch": (1, 2),
    "teacher_images": ("none", "cifar10"), "licence": ("mine", "yours"),  # tests/test_compress.py
}  # fmt: skip
VALUES = {**TEACHER, **BOTH, **SCORED, **STUDENTS, **READ, **TAKEN_UP}
# What may differ from the paper's without making a claim undecidable: where and how fast it is
# computed, which runs are made, and what is measured beside. Everything else decides a result.
FREE = {
    "profile", "root", "download", "device", "engine", "workers", "threads", "seed", "evaluate_every",
    "seeds", "methods", "levels", "repetitions", "temperatures", "alphas", "probabilities", "gammas",
    "latency_batches", "latency_repeats", "latency_threads", "latency_variants", "cold_repeats", "training_batch",
    "subset_root", "checkpoints", "yardsticks", "teacher", "blocks", "pairings", "pairing_methods", "overlays", "strong_methods",
    "jpeg_qualities", "noise_sds", "blur_sigmas", "contrast_factors", "robustness_images",
    "networks", "hard_weights", "attributions", "explained_images", "parts", "cells", "fly_steps",
    "gradients", "reference_steps", "fitted_images", "blends", "pairs", "noise_shares", "noise_alphas", "rivals", "rival_seeds",
}  # fmt: skip
# (notebook, parameter) that the notebook accepts and that changes nothing in it
IDLE = {
    ("02_teacher_and_signals", "width"): "it trains no student",
    ("02_teacher_and_signals", "pairing"): "it shows every pairing",
    ("02_teacher_and_signals", "maps_pairing"): "it shows every pairing",
    ("05_compression", "network"): "its networks are those of `levels`",
    ("13_deployment", "network"): "its networks are those of `levels` and `rivals`",
}
OF_MAPS = ("attribution", "steps", "baseline", "rule", "output")
OVERLAID = ("maps_pairing", "overlay", "blend", "probability")
ATTENTIVE = ("gamma", "attention_reduction")
ARMS = {
    "10_alpha_pairing": ("alpha", "pairing", *OF_MAPS, *OVERLAID, *ATTENTIVE),
    "10_factorial": ("pairing", "maps_pairing", "overlay", *ATTENTIVE),
    "10_signature": ("pairing", *OF_MAPS, *OVERLAID, *ATTENTIVE),
    "11_alignment": ("network", "alpha", *OF_MAPS, *OVERLAID, *ATTENTIVE),
    "12_beyond": (
        "alpha",
        "temperature",
        "probability",
        "pairing",
        "maps_pairing",
        "overlay",
        "attribution",
        *ATTENTIVE,
    ),
}
ARMS["12_conditions"] = ("pairing", "maps_pairing", "probability")
IDLE |= {(notebook, name): "arms say it" for notebook, names in ARMS.items() for name in names}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    write_tree(root)
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(experiments, "equal_width", EQUAL_WIDTH)
    monkeypatch.setattr(settings, "_sections", SECTIONS)


def base(notebook: str, root: Path) -> dict[str, Any]:
    """What differs from the demo's values: few runs, among them one that uses every weight."""
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
    few |= {"strong_methods": ["student", "kd"], "train_images": 60, "robustness_images": None}
    few |= {"dataset": "digits"}
    return {name: value for name, value in few.items() if name in parameters(NOTEBOOKS[notebook])}


def other(name: str, value: object) -> object:
    return next(candidate for candidate in VALUES[name] if candidate != value)


def reached(notebook: str, values: dict[str, Any]) -> dict[str, set[str]]:
    """The keys of the teacher and of all students of a notebook, and what they are tried on."""
    asked = settings_of(notebook, **values)
    students = asked.runs("abc") if isinstance(asked, Students) else []
    found = {"teacher": {asked.teacher_run().key}, "students": {run.key for run in students}}
    return found | {"scored": {asked.scoring.model_dump_json()}}


@cache
def names_read(notebook: str) -> set[str]:
    """Parameters that the code after the parameters cell takes of `settings`: each alone, or with
    the whole of its group.
    """
    book = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4)
    cells = [c for c in book.cells if c.cell_type == "code"]
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    plain = {node for node in attributes if _is(node.value, "settings")}
    inner = {node.value for node in attributes if node.value in plain}
    found = {node.attr for node in plain}
    for name, path in parameters(NOTEBOOKS[notebook]).items():
        if len(path) == 2:
            group = [node for node in plain if node.attr == path[0]]
            whole = any(node not in inner for node in group)
            alone = any(node.value in group and node.attr == path[1] for node in attributes)
            found |= {name} if whole or alone else set()
    return found


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def test_every_parameter_has_a_row():
    assert {name for _, name in CASES} == set(VALUES)
    assert len(VALUES) == sum(map(len, (TEACHER, BOTH, SCORED, STUDENTS, READ, TAKEN_UP)))


def test_parameters_that_say_where_are_free():
    assert PLACES <= FREE


@pytest.mark.parametrize(
    ("notebook", "name"), [case for case in CASES if case[1] not in {*READ, *TAKEN_UP}]
)
def test_a_parameter_reaches_the_runs_that_it_names(notebook, name, tree):
    given = base(notebook, tree)
    value = other(name, settings_of(notebook, **given).flat()[name])
    before, after = reached(notebook, given), reached(notebook, given | {name: value})
    changed = {part for part in before if before[part] != after[part]}
    expected = {"teacher"} if name in {**TEACHER, **BOTH} else set()
    expected |= {"scored"} if name in SCORED else set()
    if (notebook, name) in IDLE:
        assert name not in names_read(notebook) or name.endswith("pairing")
    elif before["students"]:
        expected |= {"students"} if name in {**STUDENTS, **BOTH} else set()
    elif name in STUDENTS:  # a notebook that trains no students measures signals with these
        assert name in names_read(notebook)
    assert changed == expected


@pytest.mark.parametrize(("notebook", "name"), [case for case in CASES if case[1] in READ])
def test_a_parameter_of_a_measurement_is_read_by_its_notebook(notebook, name, tree):
    methods = {"resize": "source", "robustness_images": "damaged", "explained_images": "explained"}
    method = methods.get(name)
    assert {name, method} & names_read(notebook)
    given = base(notebook, tree)
    value = other(name, settings_of(notebook, **given).flat()[name])
    assert reached(notebook, given) == reached(notebook, given | {name: value}), (
        "it should make no run anew"
    )


def test_a_search_is_tried_on_validation_pictures_as_often_as_asked(monkeypatch):
    monkeypatch.setattr(experiments, "execute", lambda *given: given)
    for every in (3, 4):
        scoring = settings_of("03_hyperparameters", evaluate_every=every).search([])[-2]
        assert (scoring.split, scoring.every) == ("validation", every)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_parameters_that_say_where_and_how_fast_reach_the_engine(notebook, tmp_path, monkeypatch):
    profile = real_profile(notebook)
    given = {
        "profile": profile,
        "root": str(tmp_path),
        "download": True,
        "device": "cuda:1",
        "engine": "inline",
        "workers": 3,
        "threads": 5,
    }
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked = check(NOTEBOOKS[notebook], dict(given), notebook)
    workspace = asked.workspace
    assert (workspace.root, workspace.download, workspace.device) == (tmp_path, True, "cuda:1")
    assert asked.outputs.folder.name == workspace.folder.name == profile
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    rest = {name: value for name, value in given.items() if name != "device"}
    assert settings_of(notebook, **rest).workspace.device == "cuda"
    monkeypatch.setattr(experiments, "execute", lambda *given, **named: [(given, named)])
    if isinstance(asked, Students):
        found = ([], workspace, "inline", 3, 5, asked.scoring, asked.needs_weights)
        assert asked.execute([]) == [(found, {})]
        assert asked.execute([], Search.validation)[0][0][-2] == Search.validation
    demo = settings_of(notebook)
    of_teacher, named = demo.teacher()
    assert of_teacher == ([demo.teacher_run()], demo.workspace)
    every_epoch = Scoring(images=demo.test_images)
    weights = demo.needs_weights
    assert named == {"threads": experiments.cores(), "scoring": every_epoch, "weights": weights}


@pytest.mark.parametrize(
    "notebook", [notebook for notebook, name in CASES if name == "checkpoints"]
)
def test_checkpoints_reach_what_the_notebook_tries(notebook, monkeypatch):
    assert {"released", "siblings"} & names_read(notebook)
    network = SimpleNamespace(classifier=[SimpleNamespace(out_features=10)])
    monkeypatch.setattr(experiments, "load_released_checkpoint", lambda path: network)
    monkeypatch.setattr(
        NOTEBOOKS[notebook], "data", lambda self: SimpleNamespace(classes=CIFAR10_CLASSES)
    )
    fitting = {"dataset": "cifar10", "subset_root": "here"}
    given = {
        name: value for name, value in fitting.items() if name in parameters(NOTEBOOKS[notebook])
    }
    assert settings_of(notebook, **given, checkpoints=["a.pt"]).released() == {"a": network}


def test_the_other_source_is_read_from_its_folder_as_asked(monkeypatch):
    assert "source" in names_read("07_imagenet_subset")
    monkeypatch.setattr(experiments, "load_subset", lambda *given: given)
    monkeypatch.setattr(
        experiments.ImageNetSubset, "data", lambda self: SimpleNamespace(classes=CIFAR10_CLASSES)
    )
    found = settings_of(
        "07_imagenet_subset", subset_root="/pictures", resize="squash", image_size=24
    )
    assert found.source() == (Path("/pictures"), 24, "squash")
    assert found.source(16, "crop") == (Path("/pictures"), 16, "crop")


@pytest.mark.parametrize(("notebook", "name"), AS_PRINTED)
def test_only_what_decides_no_result_may_differ_from_the_papers(notebook, name, standard):
    model = NOTEBOOKS[notebook]
    given = {"subset_root": "here"} if "subset_root" in parameters(model) else {}
    values = settings_of(notebook, "paper", **given)
    assert values.is_papers(notebook)
    changed = {"profile": "paper"} | given | {name: other(name, values.flat()[name])}
    found = settings_of(notebook, **changed)
    if name != "profile":
        assert found.is_papers(notebook) == (name in FREE)
    assert (name in free(model)) == (name in FREE)


def test_a_profile_of_another_name_may_be_the_papers(standard, tmp_path, monkeypatch):
    """The name alone decides nothing, and lite's values are others."""
    for notebook in PRINTED:
        values = settings_of(notebook, "paper")
        assert values.model_copy(update={"profile": "mine"}).is_papers(notebook)
        assert not settings_of(notebook, "lite").is_papers(notebook)


@pytest.mark.parametrize(("notebook", "name"), [case for case in AS_PRINTED if case[1] not in FREE])
def test_the_table_has_a_row_for_every_setting_that_decides(notebook, name):
    """And `params/paper.yaml` has the same value."""
    rows = papers_settings(notebook)
    assert name in rows
    assert settings_of(notebook, "paper").flat()[name] == rows[name]


@pytest.mark.parametrize("notebook", PRINTED)
def test_the_paper_profile_is_the_papers(notebook, monkeypatch):
    monkeypatch.setattr(
        experiments.Experiment, "data", lambda self: SimpleNamespace(is_cifar10=True)
    )
    assert settings_of(notebook, "paper").is_papers(notebook)


def test_a_row_of_the_table_names_a_parameter_once_and_says_where_it_stands():
    table = pd.read_csv(ROOT / "kdig" / "paper" / "settings.csv", keep_default_na=False)
    assert not table.duplicated(["name", "notebook"]).any()
    assert (table["where"].str.len() > 3).all()
    known = {name for model in NOTEBOOKS.values() for name in parameters(model)}
    assert set(table.name) <= known
    for row in table[table.notebook != ""].itertuples():
        assert row.name in parameters(NOTEBOOKS[row.notebook])
        assert row.name not in set(table[table.notebook == ""].name), "which of the two holds?"
