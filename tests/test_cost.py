"""The cost that is stated beforehand: it counts what is left to do, once for runs that notebooks share, and scales as it must."""

from pathlib import Path

import pytest
import yaml

from kdig import KdigError, cost, params
from kdig.runs import Workspace, execute

PARAMS = Path(__file__).parents[1] / "params"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "outputs"))


@pytest.fixture
def small(tmp_path):
    """A profile of 8x8 digits whose folder is called as its name."""
    folder = tmp_path / "small"
    folder.mkdir()
    for name in ("shared", "students", "02_teacher_and_signals", "04_ablation"):
        values = yaml.safe_load((PARAMS / "demo" / f"{name}.yaml").read_text())
        changes = {
            "shared": {"image_size": 8, "teacher_train_images": 100},
            "students": {"epochs": 3},
            "04_ablation": {"seeds": [0, 1]},
        }.get(name, {})
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values | changes))
    return folder


def test_runs_that_notebooks_share_are_counted_once(small):
    text = cost.profile_cost(small, ["01_literature_review", "02_teacher_and_signals", "04_ablation", "99_claims"], None)
    # a teacher of 8 epochs, eight methods by two seeds
    assert "profile small: 17 of 17 runs to train, 56 epochs, about" in text
    assert "nothing to train" in cost.profile_cost(small, ["01_literature_review", "99_claims"], None)


def test_finished_runs_are_not_counted(small):
    values = yaml.safe_load((small / "shared.yaml").read_text()) | {"teacher_epochs": 1, "profile": "small"}
    (small / "shared.yaml").write_text(yaml.safe_dump({k: v for k, v in values.items() if k != "profile"}))
    experiment = params.check(params.Experiment, values)
    execute([experiment.teacher_run()], experiment.workspace)
    assert cost.profile_cost(small, ["04_ablation"], None).startswith("profile small: 16 of 17 runs to train, 48 epochs")


def test_estimate_scales_with_epochs_workers_and_share(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "step_seconds", lambda run, classes, device: 1.0)
    workspace = Workspace(tmp_path)

    def seconds(workers=1, **changes):
        return cost.estimate([make_run(**changes)], workspace, workers, 1, 4)

    assert seconds() == pytest.approx(2 * 40 / 16)
    assert seconds(recipe={"epochs": 6}) == pytest.approx(3 * seconds())
    assert seconds(workers=2) == pytest.approx(seconds() / 2)
    assert seconds(share=0.5) == pytest.approx(seconds() / 2)
    monkeypatch.setattr(cost, "_map_seconds", lambda *arguments: 0.25)
    assert seconds(probability=0.1, teacher="abc") == pytest.approx(seconds() + 40 * 0.25)


def test_a_step_is_really_timed(make_run):
    small, large = (cost.step_seconds(make_run(level=level, image_size=size), 10, "cpu") for level, size in ((8, 8), (0, 32)))
    assert 0 < small < large


def test_bad_parameters_and_missing_pictures_are_said_before_anything_runs(small, tmp_path):
    students = small / "students.yaml"
    good = students.read_text()
    students.write_text(good + "epochz: 3\n")
    with pytest.raises(KdigError, match="unknown parameter 'epochz'"):
        cost.profile_cost(small, ["04_ablation"], None)
    students.write_text(good)
    shared = yaml.safe_load((small / "shared.yaml").read_text()) | {"dataset": "cifar10"}
    (small / "shared.yaml").write_text(yaml.safe_dump(shared))
    with pytest.raises(KdigError, match="no CIFAR-10 in"):
        cost.profile_cost(small, ["04_ablation"], str(tmp_path / "nowhere"))
