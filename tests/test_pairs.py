"""Any network may teach any other: pairs that are chosen by parameters alone, with every signal."""

import pytest

from kdig.core.methods import METHODS
from kdig.core.networks import map_size, taps
from kdig.study.experiments import Ablation
from kdig.study.settings import profile_settings

TINY = {
    "image_size": 8, "train_images": 40, "test_images": 60, "width": 0.125, "teacher_width": 0.125,
    "teacher_train_images": 100, "teacher_epochs": 2, "epochs": 1, "batch_size": 20, "steps": 4,
    "seeds": [0, 1], "methods": list(METHODS), "engine": "inline",
}  # fmt: skip
PAIRS = [("resnet34", "resnet18"), ("mobilenet_v2", "resnet8"), ("resnet50", "s4")]


@pytest.mark.filterwarnings("ignore:the teacher agrees")
@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_a_pair_trains_by_parameters_alone(teacher, student, tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    asked = {**TINY, "network": student, "teacher_network": teacher}
    settings = profile_settings(Ablation, "04_ablation", asked)
    taught_by = settings.teacher()
    assert (taught_by.run.network, taught_by.run.method) == (teacher, "teacher")
    runs = [run for run in settings.runs(taught_by.weights) if run.seed == 0]
    results = settings.execute(runs)
    assert [result.run.method for result in results] == list(METHODS)
    assert {result.run.network for result in results} == {student}
    assert len({result.weights for result in results}) == len(METHODS)


def test_teacher_and_student_of_other_sizes_are_compared_at_their_taps():
    """MobileNetV2 halves an image twice before its tap, the student of level 4 once."""
    assert taps("s4", "resnet50") == ("features.4", "features.13")
    assert (map_size("s4", 32), map_size("resnet50", 32)) == ((16, 16), (8, 8))


@pytest.mark.filterwarnings("ignore:the teacher agrees")
def test_the_teacher_is_scored_after_every_epoch_whoever_asks_first(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    asked = {**TINY, "network": "s8", "evaluate_every": 2}
    history = profile_settings(Ablation, "04_ablation", asked).teacher().history
    assert [epoch.test_accuracy is not None for epoch in history] == [True, True]
