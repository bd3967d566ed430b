"""The cost that is stated beforehand: it counts what is left to do, once for runs that notebooks
share, and scales as it must.
"""

import pytest
import torch
from helpers import edit_profile, own_project, settings_of

from kdig import KdigError
from kdig.core.runs import execute
from kdig.core.store import Workspace
from kdig.core.train import prepare, train
from kdig.study import cost

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The file of a profile `small` of 8x8 digits, in a project of its own."""
    project = own_project(tmp_path / "project")
    monkeypatch.setenv("KDIG_ROOT", str(project))
    path = project / "params" / "small.yaml"
    path.write_text((project / "params" / "demo.yaml").read_text())
    edit_profile(path, "common", image_size=8, teacher_train_images=100, teacher_epochs=8)
    edit_profile(path, "students", epochs=3)
    edit_profile(path, "04_ablation", seeds=[0, 1])
    return path


def test_runs_that_notebooks_share_are_counted_once(small):
    text = cost.profile_cost(
        "small",
        ["01_literature_review", "02_teacher_and_signals", "04_ablation", "99_claims"],
        None,
    )
    # a teacher of 8 epochs, eight methods by two seeds
    assert "profile small: 17 of 17 runs to train, 56 epochs, about" in text
    assert "nothing to train" in cost.profile_cost(
        "small", ["01_literature_review", "99_claims"], None
    )


def test_finished_runs_are_not_counted(small):
    edit_profile(small, "common", teacher_epochs=1)
    experiment = settings_of("04_ablation", "small")
    execute([experiment.teacher_run()], experiment.workspace)
    assert cost.profile_cost("small", ["04_ablation"], None).startswith(
        "profile small: 16 of 17 runs to train, 48 epochs"
    )


def test_estimate_scales_with_epochs_workers_and_share(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "step_seconds", lambda run, classes, device: 1.0)
    workspace = Workspace(tmp_path)

    def seconds(workers=1, **changes):
        return cost.estimate([make_run(**changes)], workspace, workers, 1)

    assert seconds() == pytest.approx(2 * 40 / 16)
    assert seconds(recipe={"epochs": 6}) == pytest.approx(3 * seconds())
    assert seconds(workers=2) == pytest.approx(seconds() / 2)
    assert seconds(workers=2, level=0) == pytest.approx(seconds())  # one teacher, one process
    assert seconds(share=0.5) == pytest.approx(seconds() / 2)
    monkeypatch.setattr(cost, "_map_seconds", lambda *arguments: 0.25)
    assert seconds(probability=0.1, teacher="abc") == pytest.approx(seconds() + 40 * 0.25)
    live = {"probability": 0.1, "teacher": "abc", "pairing": "same_view"}
    assert seconds(**live) == pytest.approx(seconds() + 2 * 40 * 0.1 * 0.25)
    assert seconds(workers=2, **live) == pytest.approx(seconds(**live) / 2)
    two = [
        make_run(probability=0.1, teacher="abc", pairing=pairing, seed=seed)
        for pairing in ("static", "released")
        for seed in (0, 1)
    ]
    assert cost.estimate(two, workspace, 1, 1) == pytest.approx(4 * seconds() + 2 * 40 * 0.25), (
        "one file of maps a pairing"
    )


def test_each_is_timed_with_the_threads_that_it_gets(make_run, tmp_path, monkeypatch):
    found = {}
    monkeypatch.setattr(cost, "cores", lambda: 3)
    for name in ("step_seconds", "_map_seconds"):
        monkeypatch.setattr(
            cost,
            name,
            lambda run, *_, name=name: found.setdefault(
                (name, run.signals.pairing, run.level), torch.get_num_threads()
            ),
        )
    runs = [
        make_run(level=0),
        make_run(),
        make_run(probability=0.1, teacher="abc"),
        make_run(level=0, width=0.5),
    ]
    runs += [make_run(probability=0.1, teacher="abc", pairing="same_view", width=0.5)]
    cost.estimate(runs, Workspace(tmp_path), 2, 1)
    assert found == {
        ("step_seconds", "static", 0): 3, ("step_seconds", "static", 8): 1, ("_map_seconds", "static", 8): 3,
        ("step_seconds", "same_view", 8): 1, ("_map_seconds", "same_view", 8): 1,
    }  # fmt: skip


def test_engine_inline_has_one_worker(small, monkeypatch):
    given = []
    monkeypatch.setattr(
        cost, "estimate", lambda runs, workspace, workers, threads: given.append(workers) or 1.0
    )
    for engine in ("inline", "local"):
        edit_profile(small, "common", engine=engine, workers=2)
        cost.profile_cost("small", ["04_ablation"], None)
    assert given == [1, 2]


def test_maps_that_are_kept_cost_nothing(make_run, workspace, monkeypatch):
    monkeypatch.setattr(cost, "step_seconds", lambda *arguments: 0.0)
    monkeypatch.setattr(cost, "_map_seconds", lambda *arguments: 0.25)
    teacher = train(make_run(level=0, train_images=None, recipe={"epochs": 1}), workspace)
    run = make_run(probability=0.1, teacher=teacher.weights)
    assert cost.estimate([run], workspace, 1, 1) == pytest.approx(40 * 0.25)
    prepare([run], workspace, 1)
    assert cost.estimate([run], workspace, 1, 1) == 0
    assert cost.estimate(
        [make_run(probability=0.1, teacher=teacher.weights, steps=5)], workspace, 1, 1
    ) == pytest.approx(40 * 0.25)


def test_a_step_is_really_timed(make_run):
    small, large = (
        cost.step_seconds(make_run(level=level, image_size=size), 10, "cpu")
        for level, size in ((8, 8), (0, 32))
    )
    assert 0 < small < large


def test_bad_parameters_and_missing_pictures_are_said_before_anything_runs(small, tmp_path):
    good = small.read_text()
    edit_profile(small, "students", epochz=3)
    with pytest.raises(KdigError, match="unknown parameter 'epochz'"):
        cost.profile_cost("small", ["04_ablation"], None)
    small.write_text(good)
    edit_profile(small, "common", dataset="cifar10")
    with pytest.raises(KdigError, match="no CIFAR-10 in"):
        cost.profile_cost("small", ["04_ablation"], str(tmp_path / "nowhere"))
