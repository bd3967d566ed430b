"""The reference in `outputs/reference/lite`: its tables come out of its stored runs."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from helpers import LITE, MODELS, RUN

from kdig.core.data import CIFAR10_CLASSES, CIFAR10_FINGERPRINT, Split
from kdig.core.run import Scoring
from kdig.core.runs import frame
from kdig.core.store import Score, Workspace, _read, joined
from kdig.study.experiments import Experiment, Students
from kdig.study.settings import profile_settings

TRAINED = [name for of, name in RUN if of == "lite" and issubclass(MODELS[name], Students)]


@pytest.fixture
def lite(monkeypatch):
    """The settings of a notebook in the lite profile, without the images."""
    labels = torch.arange(10_000) % 10
    test = Split(torch.zeros(10_000, 3, 1, 1, dtype=torch.uint8), labels, ("",) * 10_000)
    data = SimpleNamespace(fingerprint=CIFAR10_FINGERPRINT, classes=CIFAR10_CLASSES, test=test)
    monkeypatch.setattr(Experiment, "data", lambda self: data)
    return lambda name: profile_settings(MODELS[name], name, {"profile": "lite"})


def stored(run, scoring):
    """The record and the score of a run whose weights are not kept."""
    workspace = Workspace(LITE)
    score = _read(workspace._score(run, scoring), Score)
    record = workspace.record(run)
    return joined(record, score) if record and score else None


@pytest.mark.parametrize("name", TRAINED)
def test_every_run_of_the_profile_is_stored(lite, name):
    settings = lite(name)
    teacher = stored(settings.teacher_run(), Scoring(images=settings.test_images))
    found = [Workspace(LITE).record(run) for run in settings.runs(teacher.weights)]
    assert found
    assert None not in found


@pytest.mark.parametrize("name", ["04_ablation", "05_compression", "06_monte_carlo"])
def test_tables_of_runs_come_out_of_the_stored_runs(lite, name):
    settings = lite(name)
    teacher = stored(settings.teacher_run(), Scoring(images=settings.test_images))
    ours = frame(stored(run, settings.scoring) for run in settings.runs(teacher.weights))
    printed = pd.read_csv(LITE / "tables" / f"{name[:2]}_runs.csv")
    columns = ["method", "level", "seed", "accuracy", "best_epoch_accuracy", "parameters"]
    by = ["method", "level", "seed"]
    one, two = (t[columns].sort_values(by).reset_index(drop=True) for t in (ours, printed))
    pd.testing.assert_frame_equal(one, two, check_dtype=False)
