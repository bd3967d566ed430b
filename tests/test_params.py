from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
import yaml

from kdig import KdigError
from kdig.core.data import stratified
from kdig.core.networks import build, count_parameters, student
from kdig.paper import OTHER_SETTINGS
from kdig.study import experiments, settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "outputs"))


def message(model=experiments.Ablation, **namespace):
    with pytest.raises(KdigError) as error:
        experiments.check(model, namespace)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_defaults_are_accepted_and_ipython_names_ignored():
    namespace = {
        "profile": "mine",
        "_i1": "x",
        "In": [],
        "Out": {},
        "exit": 1,
        "get_ipython": len,
        "experiments": experiments,
        "check": experiments.check,
    }
    assert experiments.check(experiments.Ablation, namespace).profile == "mine"


SETUP = "settings = experiments.check(experiments.Ablation, globals())"


def live(source, **namespace):
    """What a kernel holds after a parameters cell with `source` and the setup cell."""
    kernel = {"In": ["", source, SETUP], **namespace}
    exec(source, kernel)
    return kernel


def run_cells(kernel, *sources):
    for source in sources:
        kernel["In"].append(source)
        exec(source, kernel)
    kernel["In"].append(SETUP)
    return experiments.check(experiments.Ablation, kernel)


def test_setup_can_be_run_again_after_later_cells():
    kernel = live("profile: str = 'mine'\nepochs: int = 3")
    first = experiments.check(experiments.Ablation, kernel)
    assert run_cells(kernel, "frame, teacher = [1], 'x'") == first
    assert run_cells(kernel, "profile: str = 'mine'\nepochs: int = 4").epochs == 4
    with pytest.raises(KdigError, match="epochs"):
        run_cells(kernel, "profile = 'mine'; epochs = 0")


def test_parameter_that_a_later_cell_has_taken_stops_the_setup_cell():
    kernel = live("profile = 'mine'; epochs = 3; pairing = 'static'")
    experiments.check(experiments.Ablation, kernel)
    with pytest.raises(
        KdigError, match="pairing changed after the parameters cell was run: run that cell again"
    ):
        run_cells(kernel, "for pairing in ('static', 'released'): pass")
    assert run_cells(kernel, "profile = 'mine'; epochs = 3; pairing = 'static'").pairing == "static"


def test_near_miss_in_a_parameters_cell_that_is_edited_is_named():
    kernel = live("profile = 'mine'; epochs = 3")
    experiments.check(experiments.Ablation, kernel)
    with pytest.raises(KdigError, match="unknown parameter 'epoch': did you mean 'epochs'"):
        run_cells(kernel, "profile = 'mine'; epoch = 40")
    with pytest.raises(
        KdigError, match="unknown parameter 'learning_rte': did you mean 'learning_rate'"
    ):
        run_cells(kernel, "profile = 'mine'\n(learning_rte, x) = 0.5, 1")


def test_near_miss_at_the_first_call_is_named_until_it_is_mended():
    kernel = live("profile = 'mine'; epochz = 3")
    for _ in range(2):
        with pytest.raises(KdigError, match="unknown parameter 'epochz': did you mean 'epochs'"):
            run_cells(kernel)
    assert run_cells(kernel, "profile = 'mine'; epochs = 3").epochs == 3


def test_name_of_a_parameter_that_holds_a_module_or_a_function_is_not_passed_over():
    assert "seed" in message(seed=experiments)
    assert "epochs" in message(epochs=message)


def test_profile_in_params_has_its_own_values():
    """`profile = "lite"` over the demo's values would file digits as lite."""
    demo = experiments.parameter_values(
        experiments.project_root() / "params" / "demo",
        "04_ablation",
        experiments.Ablation.model_fields,
    )
    experiments.check(experiments.Ablation, {"profile": "demo", **demo})
    text = message(profile="lite", **demo)
    assert (
        "profile 'lite' has other values of dataset, image_size, train_images, test_images and"
        in text
    )
    assert "set profile to a name of your own" in text
    assert "make reproduce PROFILE=lite ONLY=04_ablation" in text
    assert "other values of epochs in params/demo" in message(
        profile="demo", **demo | {"epochs": 1}
    )
    assert "epochs" in message(
        profile="demo", **{name: value for name, value in demo.items() if name != "epochs"}
    )
    experiments.check(
        experiments.Ablation, {"profile": "mine", **demo | {"epochs": 1, "pairing": "released"}}
    )


def test_where_things_are_and_who_computes_may_differ_from_the_profile(tmp_path):
    lite = experiments.parameter_values(
        experiments.project_root() / "params" / "lite",
        "07_imagenet_subset",
        experiments.ImageNetSubset.model_fields,
    )
    places = {
        "root": str(tmp_path),
        "download": True,
        "device": "cpu",
        "engine": "inline",
        "workers": 7,
        "threads": 2,
    }
    places |= {"subset_root": str(tmp_path), "checkpoints": ["a.pt"]}
    assert set(places) == settings.PLACES
    experiments.check(experiments.ImageNetSubset, {"profile": "lite", **lite, **places})


def test_parameter_file_that_cannot_be_read_is_named(tmp_path):
    for text in ("a: [1", "just words", "- 1"):
        (tmp_path / "04_ablation.yaml").write_text(text)
        with pytest.raises(KdigError, match=r"cannot read .*04_ablation\.yaml") as error:
            experiments.parameter_values(tmp_path, "04_ablation", [])
        assert "\n" not in str(error.value)
    (tmp_path / "04_ablation.yaml").write_text("")
    assert experiments.parameter_values(tmp_path, "04_ablation", []) == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seeds", "[0,1]", "-y '{seeds: [...]}'"), ("seeds", 3, "-y '{seeds: [...]}'"), ("methods", "kd", "not a list"),
        ("flip", "true", "write True or False"), ("flip", 1, "write True or False"),
        ("train_images", "null", "-p train_images None"), ("train_images", "None", "-p train_images None"),
        ("epochs", "5", "use -p epochs 5"), ("learning_rate", "0.1", "use -p learning_rate 0.1"),
        ("learning_rate", "1e-3", "write 1.0e-3"),
        ("device", "mps", "write auto, cpu, cuda, or cuda:1"), ("profile", "My run", "small letters"),
        ("dataset", 5, "use -r"), ("root", 2024, "use -r"),
    ],
)  # fmt: skip
def test_what_papermill_makes_of_a_value_is_explained(name, value, said):
    text = message(**{name: value})
    assert f"parameter {name}" in text
    assert said in text
    assert "pattern" not in text


def test_probe_for_writing_leaves_nothing_and_disturbs_nobody(tmp_path):
    def often():
        for _ in range(200):
            experiments.check(experiments.Ablation, {"profile": "mine"})

    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(often) for _ in range(2)]:
            done.result()
    assert not list((tmp_path / "outputs" / "mine").iterdir())


def test_paths_of_a_user_start_at_home_or_at_the_project(tmp_path, monkeypatch):
    root = experiments.project_root()
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in (root, root / "notebooks"):
        monkeypatch.chdir(folder)
        for given, meant in (
            ("results", root / "results"),
            ("~/results", tmp_path / "results"),
            ("", root / "outputs"),
        ):
            monkeypatch.setenv("KDIG_OUTPUTS", given)
            assert settings.outputs_of("demo").folder == meant / "demo"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "absolute"))
    assert (
        settings.outputs_of("demo").folder == tmp_path / "absolute" / "demo"
    )  # outside any project
    with pytest.raises(KdigError, match="no home folder of that name"):
        settings.located("~nobody-of-this-name/x")


def test_project_is_told_from_others_and_the_variable_is_named(tmp_path, monkeypatch):
    for name in ("notebooks", "params"):
        (tmp_path / "other" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(KdigError, match="no kdig project at or above"):
        settings.project_root()
    monkeypatch.setenv("KDIG_ROOT", str(tmp_path / "wrong"))
    with pytest.raises(KdigError, match=r"KDIG_ROOT is '.*wrong'"):
        settings.project_root()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KDIG_ROOT", "~/other")
    assert settings.project_root() == tmp_path / "other"


def test_printed_path_holds_no_folder_of_this_machine(tmp_path):
    assert str(settings.brief(settings.project_root() / "outputs" / "a.html")) == "outputs/a.html"
    assert settings.brief(tmp_path / "a.html") == tmp_path / "a.html"


def test_checkpoint_of_other_classes_or_of_a_name_twice_is_refused(tmp_path):
    (tmp_path / "b").mkdir()
    for path, classes in (
        (tmp_path / "a.pt", 10),
        (tmp_path / "b" / "a.pt", 10),
        (tmp_path / "c.pt", 100),
    ):
        torch.save(student(2, classes).state_dict(), path)
    assert set(experiments.released_students([str(tmp_path / "a.pt")], 10)) == {"a"}
    with pytest.raises(KdigError, match=r"c\.pt tells 100 classes apart, but the data have 10"):
        experiments.released_students([str(tmp_path / "c.pt")], 10)
    with pytest.raises(KdigError, match="two of the checkpoints are called a"):
        experiments.released_students([str(tmp_path / "a.pt"), str(tmp_path / "b" / "a.pt")], 10)


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
    text = message(profile="mine")
    assert "cannot write to" in text
    assert f"KDIG_OUTPUTS is '{tmp_path / 'file'}'" in text


def test_device_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    given = experiments.check(experiments.Ablation, {"device": "cuda"})
    with pytest.raises(KdigError, match="0 GPUs"):
        given.workspace  # noqa: B018


def test_methods_set_only_their_own_weights():
    given = experiments.check(experiments.Ablation, {})
    run = given.student_run("kd_at", 3, "abc")
    assert (run.alpha > 0, run.probability, run.gamma > 0, run.seed) == (True, 0.0, True, 3)
    plain = given.student_run("student", 3, "abc")
    assert plain.teacher is None
    assert (
        plain.key
        == experiments.check(experiments.Ablation, {"temperature": 7.0, "alpha": 0.9})
        .student_run("student", 3, "def")
        .key
    )


def papers(notebook):
    """What params/paper gives a notebook that trains students."""
    folder = experiments.project_root() / "params" / "paper"
    return experiments.parameter_values(
        folder, notebook, experiments.NOTEBOOKS[notebook].model_fields
    )


def test_only_the_papers_own_settings_decide_its_results(monkeypatch):
    values = papers("04_ablation")
    monkeypatch.setattr(experiments.Ablation, "data", lambda self: SimpleNamespace(is_cifar10=True))
    assert experiments.Ablation(**values).is_papers("04_ablation")
    assert experiments.Ablation(**values | {"seeds": [5, 6], "workers": 7}).is_papers("04_ablation")
    for changed in (
        {"pairing": "reshuffled"},
        {"epochs": 99},
        {"teacher_epochs": 1},
        {"ig_steps": 5},
        {"padding": 2},
        {"train_images": 100},
    ):
        assert not experiments.Ablation(**values | changed).is_papers("04_ablation"), changed
    monkeypatch.setattr(
        experiments.Ablation, "data", lambda self: SimpleNamespace(is_cifar10=False)
    )
    assert not experiments.Ablation(**values).is_papers("04_ablation")


@pytest.mark.parametrize(
    ("accuracy", "reason"),
    [
        (93.91, ""),
        (92.95, ""),
        (94.87, ""),
        (94.95, "test accuracy is 94.95 %"),
        (92.9, "test accuracy is 92.90 %"),
    ],
)
def test_reason_says_whether_settings_or_teacher_differ(monkeypatch, accuracy, reason):
    monkeypatch.setattr(experiments.Ablation, "data", lambda self: SimpleNamespace(is_cifar10=True))
    teacher, values = (
        SimpleNamespace(last=SimpleNamespace(test_accuracy=accuracy)),
        papers("04_ablation"),
    )
    found = experiments.Ablation(**values).comparable("04_ablation", teacher)
    assert bool(found) == bool(reason)
    assert reason in found
    assert (
        experiments.Ablation(**values | {"epochs": 99}).comparable("04_ablation", teacher)
        == OTHER_SETTINGS
    )


def test_a_list_that_lacks_an_entry_of_the_papers_is_told_from_one_that_has_more():
    values, names = papers("03_hyperparameters"), ("alphas", "temperatures")
    assert experiments.Search(**values).holds_papers("03_hyperparameters", *names)
    assert experiments.Search(**values | {"alphas": [0.9, *values["alphas"]]}).holds_papers(
        "03_hyperparameters", *names
    )
    shorter = experiments.Search(**values | {"alphas": [0.01, 0.25]})
    assert not shorter.holds_papers("03_hyperparameters", *names)
    assert shorter.holds_papers("03_hyperparameters", "temperatures", "gammas")
    assert not experiments.Sweep(**papers("05_compression") | {"levels": [1, 2]}).holds_papers(
        "05_compression", "levels"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("latency_variants", ["channels_last"]), ("latency_variants", ["plain", "int8"]), ("latency_batches", [0]),
     ("cold_repeats", 5), ("latency_repeats", 5), ("training_batch", 1), ("levels", [9, 1]), ("latency_batches", [1, 1])],
)  # fmt: skip
def test_timing_parameters_are_checked(name, value):
    assert name in message(experiments.Sweep, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [("pairings", ["released", "same_view"], "must hold 'static'"), ("overlays", ["grey", "other"], "must hold 'map'"),
     ("strong_methods", ["kd", "kd_ig"], "must hold 'student'"), ("pairing_methods", ["kdig"], "unknown method 'kdig'"),
     ("pairing_methods", ["ig"], "must hold 'kd'"),
     ("checkpoints", ["a.pt"], "need dataset 'cifar10'"), ("overlays", ["map", "veil"], "overlays")],
)  # fmt: skip
def test_arms_of_the_audit_are_checked(name, value, reason):
    assert reason in message(experiments.ReleasedCode, **{name: value})


def test_audit_takes_the_ablations_runs_and_pairs_its_arms(monkeypatch, tmp_path):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    audit, ablation = (
        experiments.check(model, {"train_images": 100})
        for model in (experiments.ReleasedCode, experiments.Ablation)
    )
    known = {run.key for run in ablation.runs("abc")}
    assert (
        known
        == {run.key for run in audit.ablation("abc")}
        <= {run.key for run in audit.runs("abc")}
    )
    assert {run.key for run in audit.paired("abc") if run.pairing == "static"} <= known
    assert {run.seed for run in audit.runs("abc")} == set(audit.seeds)
    strong = audit.strong("abc")[0]
    assert strong.recipe.normalise
    assert strong.recipe.epochs == audit.epochs
    sizes = [
        count_parameters(build(run.level, 10, run.width, run.architecture))
        for run in [strong, *audit.rivals()]
    ]
    assert all(
        sizes[0] <= size < 1.4 * sizes[0] for size in sizes
    )  # channels in eights: coarse at a quarter of the width


def test_matching_label_smoothing_at_the_papers_weights():
    values = {"alpha": 0.01, "temperature": 2.5, "dataset": "digits"}
    assert experiments.check(experiments.ReleasedCode, values).smoothing() == pytest.approx(
        0.0142, abs=0.0005
    )


@pytest.mark.parametrize(
    "name", ["teacher_train_images", "train_images", "test_images", "robustness_images"]
)
def test_more_images_than_there_are_is_said_before_anything_is_trained(name, monkeypatch):
    """Where the cost check asks for the runs."""
    monkeypatch.setattr(experiments, "execute", lambda *arguments: pytest.fail("trained"))
    settings = experiments.ReleasedResults(**{"dataset": "digits", "test_images": 100, name: 3000})
    with pytest.raises(
        KdigError,
        match=rf"^{name}: cannot draw 3000 images of 10 classes from \d+: choose 10 to \d+, or all",
    ):
        settings.runs("teacher")


def test_damaged_images_are_those_that_the_runs_are_scored_on():
    settings = experiments.ReleasedResults(dataset="digits", test_images=100, robustness_images=40)
    scored = settings.workspace.pictures(settings.runs("teacher")[0]).scored
    assert settings.damaged().ids == stratified(scored, 40).ids
