from types import SimpleNamespace

import pytest
import yaml

from kdig import KdigError, params
from kdig.data import stratified
from kdig.models import build, count_parameters
from kdig.paper import OTHER_SETTINGS


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "outputs"))


def message(model=params.Ablation, **namespace):
    with pytest.raises(KdigError) as error:
        params.check(model, namespace)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_defaults_are_accepted_and_ipython_names_ignored():
    namespace = {
        "profile": "demo",
        "_i1": "x",
        "In": [],
        "Out": {},
        "exit": 1,
        "get_ipython": len,
        "params": params,
        "check": params.check,
    }
    assert params.check(params.Ablation, namespace).profile == "demo"


def test_cell_can_be_run_again_after_later_cells():
    namespace = {"profile": "demo", "epochs": 3}
    params.check(params.Ablation, namespace)
    namespace |= {"frame": [1], "teacher": "x", "epochs": 4}
    assert params.check(params.Ablation, namespace).epochs == 4
    namespace["epochs"] = 0
    with pytest.raises(KdigError, match="epochs"):
        params.check(params.Ablation, namespace)


def test_unknown_parameter_is_named_with_the_known_ones():
    text = message(epochz=3)
    assert "unknown parameter 'epochz'" in text
    assert "epochs" in text


def test_number_that_yaml_reads_as_text_is_explained():
    assert yaml.safe_load("x: 1e-3")["x"] == "1e-3"  # the trap itself
    text = message(learning_rate="1e-3")
    assert "learning_rate is the text '1e-3'" in text
    assert "1.0e-3" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("probability", -0.1), ("probability", 1.1), ("alpha", 2.0), ("alpha", 0.0), ("gamma", -1.0),
        ("learning_rate", float("inf")), ("seeds", [0, 0]),
        ("methods", ["kd", "at"]), ("methods", ["student"]), ("temperature", 0.0), ("epochs", 0),
        ("epochs", 1.5),
        ("level", 9), ("batch_size", 1), ("pairing", "random"), ("attention_reduction", "max"), ("schedule", "warm"),
        ("seeds", [1]),
        ("seeds", "1,2"), ("flip", "True"), ("ig_baseline", "white"), ("device", "tpu"), ("engine", "ray"), ("profile", "../up"),
        ("train_images", "all"),
    ],
)  # fmt: skip
def test_values_out_of_range_or_of_another_type_are_named(name, value):
    assert name in message(**{name: value})


def test_unknown_data_set_and_method_list_the_known_ones():
    assert "unknown data set 'cifar100': choose one of digits" in message(dataset="cifar100")
    assert "unknown method 'dkd': choose from student, kd" in message(methods=["student", "dkd"])


def test_several_faults_stand_in_one_line():
    text = message(epochs=0, alpha=7.0)
    assert "epochs" in text
    assert "alpha" in text


def test_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "file"))
    assert "cannot write to" in message(profile="demo")


def test_device_that_is_not_there_is_named():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    settings = params.check(params.Ablation, {"device": "cuda"})
    with pytest.raises(KdigError, match="0 GPUs"):
        settings.workspace  # noqa: B018


def test_methods_set_only_their_own_weights():
    settings = params.check(params.Ablation, {})
    run = settings.student_run("kd_at", 3, "abc")
    assert (run.alpha > 0, run.probability, run.gamma > 0, run.seed) == (True, 0.0, True, 3)
    plain = settings.student_run("student", 3, "abc")
    assert plain.teacher is None
    assert plain.key == params.check(params.Ablation, {"temperature": 7.0, "alpha": 0.9}).student_run("student", 3, "def").key


def papers(notebook):
    """What params/paper gives a notebook that trains students."""
    folder = params.project_root() / "params" / "paper"
    files = [folder / f"{name}.yaml" for name in ("shared", "students", notebook)]
    return {name: value for file in files for name, value in yaml.safe_load(file.read_text()).items()}


def test_only_the_papers_own_settings_decide_its_results(monkeypatch):
    values = papers("04_ablation")
    monkeypatch.setattr(params.Ablation, "data", lambda self: SimpleNamespace(is_cifar10=True))
    assert params.Ablation(**values).is_papers("04_ablation")
    assert params.Ablation(**values | {"seeds": [5, 6], "workers": 7}).is_papers("04_ablation")
    for changed in (
        {"pairing": "reshuffled"},
        {"epochs": 99},
        {"teacher_epochs": 1},
        {"ig_steps": 5},
        {"padding": 2},
        {"train_images": 100},
    ):
        assert not params.Ablation(**values | changed).is_papers("04_ablation"), changed
    monkeypatch.setattr(params.Ablation, "data", lambda self: SimpleNamespace(is_cifar10=False))
    assert not params.Ablation(**values).is_papers("04_ablation")


@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [(93.91, ""), (92.95, ""), (94.87, ""), (94.95, "test accuracy is 94.95 %"), (92.9, "test accuracy is 92.90 %")],
)
def test_reason_says_whether_settings_or_teacher_differ(monkeypatch, accuracy, reason):
    monkeypatch.setattr(params.Ablation, "data", lambda self: SimpleNamespace(is_cifar10=True))
    teacher, values = SimpleNamespace(last=SimpleNamespace(test_accuracy=accuracy)), papers("04_ablation")
    found = params.Ablation(**values).comparable("04_ablation", teacher)
    assert bool(found) == bool(reason)
    assert reason in found
    assert params.Ablation(**values | {"epochs": 99}).comparable("04_ablation", teacher) == OTHER_SETTINGS


def test_a_list_that_lacks_an_entry_of_the_papers_is_told_from_one_that_has_more():
    values, names = papers("03_hyperparameters"), ("alphas", "temperatures")
    assert params.Search(**values).holds_papers("03_hyperparameters", *names)
    assert params.Search(**values | {"alphas": [0.9, *values["alphas"]]}).holds_papers("03_hyperparameters", *names)
    shorter = params.Search(**values | {"alphas": [0.01, 0.25]})
    assert not shorter.holds_papers("03_hyperparameters", *names)
    assert shorter.holds_papers("03_hyperparameters", "temperatures", "gammas")
    assert not params.Sweep(**papers("05_compression") | {"levels": [1, 2]}).holds_papers("05_compression", "levels")


@pytest.mark.parametrize(
    ("name", "value"),
    [("latency_variants", ["channels_last"]), ("latency_variants", ["plain", "int8"]), ("latency_batches", [0]),
     ("cold_repeats", 5), ("latency_repeats", 5), ("training_batch", 1), ("levels", [9, 1]), ("latency_batches", [1, 1])],
)  # fmt: skip
def test_timing_parameters_are_checked(name, value):
    assert name in message(params.Sweep, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [("pairings", ["released", "same_view"], "must hold 'static'"), ("overlays", ["grey", "other"], "must hold 'map'"),
     ("strong_methods", ["kd", "kd_ig"], "must hold 'student'"), ("pairing_methods", ["kdig"], "unknown method 'kdig'"),
     ("pairing_methods", ["ig"], "must hold 'kd'"),
     ("checkpoints", ["a.pt"], "need dataset 'cifar10'"), ("overlays", ["map", "veil"], "overlays")],
)  # fmt: skip
def test_arms_of_the_audit_are_checked(name, value, reason):
    assert reason in message(params.ReleasedCode, **{name: value})


def test_audit_takes_the_ablations_runs_and_pairs_its_arms(monkeypatch, tmp_path):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    audit, ablation = (params.check(model, {"train_images": 100}) for model in (params.ReleasedCode, params.Ablation))
    known = {run.key for run in ablation.runs("abc")}
    assert known == {run.key for run in audit.ablation("abc")} <= {run.key for run in audit.runs("abc")}
    assert {run.key for run in audit.paired("abc") if run.pairing == "static"} <= known
    assert {run.seed for run in audit.runs("abc")} == set(audit.seeds)
    strong = audit.strong("abc")[0]
    assert strong.recipe.normalise
    assert strong.recipe.epochs == audit.epochs
    sizes = [count_parameters(build(run.level, 10, run.width, run.architecture)) for run in [strong, *audit.rivals()]]
    assert all(sizes[0] <= size < 1.4 * sizes[0] for size in sizes)  # channels in eights: coarse at a quarter of the width


def test_matching_label_smoothing_at_the_papers_weights():
    values = {"alpha": 0.01, "temperature": 2.5, "dataset": "digits"}
    assert params.check(params.ReleasedCode, values).smoothing() == pytest.approx(0.0142, abs=0.0005)


@pytest.mark.parametrize("name", ["teacher_train_images", "train_images", "test_images", "robustness_images"])
def test_more_images_than_there_are_is_said_before_anything_is_trained(name, monkeypatch):
    """Where the cost check asks for the runs."""
    monkeypatch.setattr(params, "execute", lambda *arguments: pytest.fail("trained"))
    settings = params.ReleasedResults(**{"dataset": "digits", "test_images": 100, name: 3000})
    with pytest.raises(KdigError, match=rf"^{name}: cannot draw 3000 images of 10 classes from \d+: choose 10 to \d+, or all"):
        settings.runs("teacher")


def test_damaged_images_are_those_that_the_runs_are_scored_on():
    settings = params.ReleasedResults(dataset="digits", test_images=100, robustness_images=40)
    scored = settings.workspace.pictures(settings.runs("teacher")[0]).scored
    assert settings.damaged().ids == stratified(scored, 40).ids
