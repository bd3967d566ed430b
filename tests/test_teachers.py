"""A teacher that is given: the paper's own, a released student, a network of kdig's, the reference."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from helpers import PRINTED, edit_profile, settings_of

from kdig import KdigError
from kdig.core.networks import build, mobilenet_v2, state_hash, student
from kdig.core.run import Scoring
from kdig.core.store import Workspace
from kdig.core.train import NOT_NORMALISED
from kdig.core.training import accuracy, predict
from kdig.paper import OTHER_SETTINGS
from kdig.paper.released import TEACHERS_MEAN, TEACHERS_STD, load_teacher
from kdig.study import cost, teachers
from kdig.study.reproduce import _reads
from kdig.study.settings import notebooks, outputs_of
from kdig.study.tables.signals import given_teacher, teacher_line
from kdig.study.teachers import Card, GivenTeacher, TestScore

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
SMALL = {"image_size": 8, "test_images": 50, "train_images": 60}


pytestmark = pytest.mark.usefixtures("elsewhere")


def kept(folder, network="s8", classes=10, width=0.25):
    """The path of a file of weights that kdig has written."""
    weights = Workspace(folder).keep(build(network, classes, width), MEAN, STD, network, width)
    return folder / "weights" / f"{weights}.pt"


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    ],
    ids=["plain", "module", "state_dict", "model"],
)
def test_the_papers_own_teacher_takes_normalised_images(tmp_path, wrapped):
    net = mobilenet_v2().eval()
    torch.save(wrapped(net.state_dict()), tmp_path / "mobilenet_v2.pt")
    teacher = load_teacher(tmp_path / "mobilenet_v2.pt")
    assert (teacher.hash, teacher.network, teacher.width) == (state_hash(net), "mobilenet_v2", 1.0)
    # an untrained network hardly sees its input, so the numbers are compared as well
    assert tuple(teacher.mean) == (0.4914, 0.4822, 0.4465)
    assert tuple(teacher.std) == (0.2471, 0.2435, 0.2616)
    images = torch.rand(3, 3, 16, 16)
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
    )
    with torch.no_grad():
        expected = net((images - mean) / std)
        torch.testing.assert_close(teacher.model(images), expected, rtol=1e-4, atol=1e-5)


def test_a_released_student_takes_images_as_they_are(tmp_path):
    net = student(5).eval()
    torch.save(net.state_dict(), tmp_path / "a.pt")
    teacher = load_teacher(tmp_path / "a.pt")
    assert (teacher.hash, teacher.network) == (state_hash(net), "s5")
    assert (tuple(teacher.mean), tuple(teacher.std)) == NOT_NORMALISED


def test_a_network_of_kdigs_keeps_its_normalisation_and_width(tmp_path):
    path = kept(tmp_path, "resnet8", width=0.5)
    teacher = load_teacher(path)
    assert (teacher.hash, teacher.network, teacher.width) == (path.stem, "resnet8", 0.5)
    assert (tuple(teacher.mean), tuple(teacher.std)) == (MEAN, STD)


def spoilt(path, **values):
    """A file of kdig's that does not hold what it says."""
    torch.save(torch.load(path) | values, path)
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html>", "no whole file of torch's"),
        ({"epoch": 3}, "a dictionary of epoch"),
        (build("resnet8").state_dict(), "the paper's teacher and students are MobileNetV2, whole or cut"),
        (mobilenet_v2(width=0.5).state_dict(), "its features.0.0.weight is [16, 3, 3, 3], in the teacher it is [32, 3, 3, 3]"),
    ],
    ids=["page", "no weights", "another network", "another width"],
)  # fmt: skip
def test_a_file_that_cannot_teach_is_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "a.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(KdigError, match=re.escape(said)) as error:
        load_teacher(path)
    assert "\n" not in str(error.value)
    assert f"{path} is no network that can teach" in str(error.value)


@pytest.mark.parametrize("values", [{"network": "s9"}, {"network": "s7"}, {"width": 0.5}])
def test_a_file_of_kdigs_that_does_not_fit_is_refused_in_one_line(tmp_path, values):
    with pytest.raises(KdigError, match="its weights do not fit") as error:
        load_teacher(spoilt(kept(tmp_path), **values))
    assert "\n" not in str(error.value)


def test_a_given_teacher_is_tried_once_and_found_by_runs(tmp_path, monkeypatch, capsys):
    path = kept(tmp_path / "elsewhere")
    settings = settings_of("04_ablation", teacher=str(path), **SMALL)
    found = settings.teacher()
    assert isinstance(found, GivenTeacher)
    assert (found.weights, found.history) == (path.stem, [])
    assert found.parameters == sum(p.numel() for p in build("s8", 10, 0.25).parameters())
    assert f"teacher {path.stem}: the file {path}" in capsys.readouterr().out
    split = settings.workspace.pictures(settings.teacher_run(), settings.scoring).scored
    assert len(split) == 50
    logits = predict(load_teacher(path).model, split)
    assert found.last.test_accuracy == accuracy(logits, split.labels)
    assert settings.workspace.load_weights(found.weights).mean == list(MEAN)
    monkeypatch.setattr("kdig.core.train.predict", lambda *given, **named: 1 / 0)
    assert settings.teacher() == found


def test_a_score_is_of_its_images_at_their_size(tmp_path):
    path = str(kept(tmp_path / "elsewhere"))
    accuracies = {
        size: settings_of("04_ablation", teacher=path, **SMALL | {"image_size": size}).teacher()
        for size in (8, 12)
    }
    assert accuracies[8].last != accuracies[12].last


@pytest.mark.filterwarnings("ignore:the teacher agrees")
def test_students_learn_from_a_given_teacher_of_the_papers_layout(tmp_path):
    torch.save({"state_dict": mobilenet_v2().state_dict()}, tmp_path / "mobilenet_v2.pt")
    given = {"teacher": str(tmp_path / "mobilenet_v2.pt"), "epochs": 1, "engine": "inline"}
    settings = settings_of("04_ablation", **given, **SMALL, network="s8", methods=["student", "kd"])
    teacher = settings.teacher()
    (result,) = settings.execute([settings.student_run("kd", 0, teacher.weights)])
    assert result.run.teacher == state_hash(mobilenet_v2_of(tmp_path / "mobilenet_v2.pt"))
    (stamp,) = settings.workspace.signals.glob("logits-*.json")
    assert json.loads(stamp.read_text())["mean"] == list(TEACHERS_MEAN)
    assert json.loads(stamp.read_text())["std"] == list(TEACHERS_STD)


def mobilenet_v2_of(path):
    net = mobilenet_v2()
    net.load_state_dict(torch.load(path)["state_dict"])
    return net


def test_a_relative_path_starts_at_the_project(project):
    path = kept(project / "mine")
    settings = settings_of("04_ablation", teacher=f"mine/weights/{path.name}", **SMALL)
    assert settings.teacher().weights == path.stem


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "gone.pt", "but there is no file .*gone.pt: give the path"),
        (lambda folder: folder, "but there is no file"),
        (lambda folder: kept(folder, classes=7), "tells 7 classes apart, but the data have 10"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(tmp_path, make, said):
    settings = settings_of("04_ablation", teacher=str(make(tmp_path)), **SMALL)
    with pytest.raises(KdigError, match=said) as error:
        settings.teacher()
    assert "\n" not in str(error.value)


def test_no_text_is_refused():
    with pytest.raises(KdigError, match="teacher = 3 is not a text"):
        settings_of("04_ablation", teacher=3)


class TestReference:
    """The network that this project keeps."""

    @pytest.fixture
    def folder(self, project):
        return project / "outputs" / "reference" / "evidence"

    def keep(self, folder, **changes):
        path = kept(folder)
        card = {
            "weights": path.stem, "network": "s8", "width": 0.25, "mean": MEAN, "std": STD,
            "test_accuracy": 93.2, "recipe": {"epochs": 30}, "data_label": "CIFAR-10 (exact), 32x32",
            "data": "0" * 16, "environment": {},
        }  # fmt: skip
        (folder / "teacher.json").write_text(json.dumps(card | changes))
        return path

    def test_is_found_by_its_card(self, folder):
        path = self.keep(folder)
        found = settings_of("04_ablation", teacher="reference", **SMALL).teacher()
        assert found.weights == path.stem
        assert "30 epochs on CIFAR-10 (exact), 32x32, 93.20 % there" in found.source

    def test_that_is_not_there_yet_says_what_to_do(self, folder):
        with pytest.raises(KdigError, match=r"teacher\.json is not there yet: give the path"):
            settings_of("04_ablation", teacher="reference", **SMALL).teacher()

    def test_whose_card_is_of_other_weights_is_refused(self, folder):
        other = kept(folder, "s7")
        path = self.keep(folder)
        path.write_bytes(other.read_bytes())
        with pytest.raises(KdigError, match=f"holds the weights {other.stem}, but its card is of"):
            settings_of("04_ablation", teacher="reference", **SMALL).teacher()

    def test_whose_card_lacks_something_is_refused(self, folder):
        self.keep(folder, weights=None)
        with pytest.raises(KdigError, match=r"teacher.json is no model card: weights: Input"):
            settings_of("04_ablation", teacher="reference", **SMALL).teacher()

    def test_is_kept_by_a_command(self, folder, project, capsys):
        given = {"image_size": 8, "teacher_train_images": 60, "teacher_epochs": 1}
        edit_profile(project / "params" / "demo.yaml", "common", **given)
        assert teachers.main(["--profile", "demo"]) == 0
        card = Card.model_validate_json((folder / "teacher.json").read_text())
        assert load_teacher(folder / "weights" / f"{card.weights}.pt").hash == card.weights
        trained = settings_of("02_teacher_and_signals").teacher()
        assert (card.weights, card.data) == (trained.weights, trained.run.data)
        assert (card.test_accuracy, card.recipe.epochs) == (trained.last.test_accuracy, 1)
        found = settings_of("04_ablation", teacher="reference", image_size=8).teacher()
        assert found.last.test_accuracy == card.test_accuracy

    def test_is_scored_on_all_test_images(self):
        few = SimpleNamespace(scoring=Scoring(images=50))
        with pytest.raises(KdigError, match="scored on all test images"):
            teachers.keep_reference(few, None)


def test_no_training_of_a_given_teacher_is_counted(tmp_path, project):
    path = kept(tmp_path / "elsewhere")
    profile = project / "params" / "demo.yaml"
    edit_profile(profile, "common", teacher=str(path), image_size=8)
    edit_profile(profile, "04_ablation", seeds=[0, 1])
    text = cost.profile_cost("demo", ["02_teacher_and_signals", "04_ablation"], None)
    assert text.startswith("profile demo: 16 of 16 runs to train, 192 epochs")
    workspace = Workspace(outputs_of("demo").folder)
    assert workspace.load_weights(path.stem).network == "s8"
    edit_profile(profile, "common", teacher=str(tmp_path / "gone.pt"))
    with pytest.raises(KdigError, match="there is no file"):
        cost.profile_cost("demo", ["04_ablation"], None)


def test_a_notebook_runs_again_when_its_teachers_file_changes(tmp_path, project):
    path, profile = tmp_path / "a.pt", project / "params" / "demo.yaml"
    edit_profile(profile, "common", teacher=str(path))
    notebook = next(book for book in notebooks() if book.stem == "04_ablation")

    def read():
        return dict(_reads(notebook, "demo", None, outputs_of("demo")))[f"teacher {path}"]

    assert read() == b""
    path.write_bytes(b"abc")
    assert read() == b"abc"


def test_what_notebook_02_says_of_a_teacher(make_run):
    given = GivenTeacher("the file a.pt", "s8", 0.25, "abc", 490, TestScore(0.5, 93.0))
    assert teacher_line(given, 50) == (
        "Teacher abc: **93.00 %** on 50 test images; 490 parameters; not trained here: the file a.pt"
    )
    row = given_teacher(given).iloc[0]
    assert (row.source, row.network, row.test_accuracy) == ("the file a.pt", "s8", 93.0)
    trained = SimpleNamespace(
        weights="abc", last=TestScore(0.5, 93.0), parameters=490, run=make_run(), seconds=7.2
    )
    assert "trained here, from scratch (2 epochs, 7 s)" in teacher_line(trained, 50)


@pytest.mark.parametrize("notebook", PRINTED)
def test_with_a_given_teacher_its_accuracy_decides_and_no_recipe(notebook, standard):
    settings = settings_of(notebook, "paper", teacher="a.pt", teacher_epochs=1)
    assert settings.is_papers(notebook)
    assert not settings_of(notebook, "paper", teacher_epochs=1).is_papers(notebook)

    def why(accuracy=93.91, network="mobilenet_v2", width=1.0):
        known = (network, width, "abc", 1, TestScore(0.2, accuracy))
        return settings.why_not_decided(notebook, GivenTeacher("the file a.pt", *known))

    assert why() == why(92.95) == why(94.87) == ""
    assert "test accuracy is 90.73 %" in why(90.73)
    assert (
        why(network="s2") == "the teacher is s2 at width 1, the paper's is mobilenet_v2 at width 1"
    )
    assert "at width 0.5" in why(width=0.5)
    other = settings_of(notebook, "paper", teacher="a.pt", image_size=16)
    assert other.why_not_decided(notebook, None) == OTHER_SETTINGS


def test_notebook_02_decides_a_teacher_that_it_has_trained_whatever_its_accuracy(standard):
    trained = SimpleNamespace(last=SimpleNamespace(test_accuracy=53.0))
    settings = settings_of("02_teacher_and_signals", "paper")
    assert settings.why_not_decided("02_teacher_and_signals", trained) == ""
    lite = settings_of("02_teacher_and_signals", "lite")
    assert lite.why_not_decided("02_teacher_and_signals", trained) == OTHER_SETTINGS
