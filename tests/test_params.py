"""Parameters of a notebook: where they come from, what is said of those that are wrong, and where
the results of each setting go.
"""

import ast
import itertools
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import nbformat
import pandas as pd
import pytest
import torch
import yaml
from helpers import (
    MODELS,
    NOTEBOOKS,
    ROOT,
    RUN,
    bound,
    edit_profile,
    own_project,
    real_profile,
    settings_of,
)
from pydantic import BaseModel

import kdig
from kdig import KdigError
from kdig.core.data import stratified
from kdig.core.methods import METHODS, Method
from kdig.core.networks import build, count_parameters
from kdig.paper import OTHER_SETTINGS, papers_settings
from kdig.study import experiments, settings
from kdig.study.experiments import Ablation
from kdig.study.settings import Nested, Settings, check, free, parameters

pytestmark = pytest.mark.usefixtures("elsewhere")


def ablation(**namespace) -> Any:
    return check(Ablation, namespace, "04_ablation")


def message(notebook="04_ablation", **namespace):
    with pytest.raises(KdigError) as error:
        check(MODELS[notebook], namespace, notebook)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_empty_cell_is_accepted_and_ipython_names_ignored():
    namespace = {
        "profile": "lite",
        "_i1": "x",
        "In": [],
        "Out": {},
        "exit": 1,
        "get_ipython": len,
        "experiments": experiments,
        "check": check,
    }
    assert ablation(**namespace).profile == "lite"
    assert ablation().profile == ablation(profile=None).profile == "demo"


@pytest.mark.parametrize(("profile", "notebook"), RUN)
def test_profile_alone_in_the_cell_gives_exactly_its_values(notebook, profile):
    """By another way than the module's: every value stands in the file, but for a model's places
    and for what a group of parameters has of itself.
    """
    model = MODELS[notebook]
    sections = yaml.safe_load((ROOT / "params" / f"{profile}.yaml").read_text(encoding="utf-8"))
    written = {}
    for section in (*model.sections, notebook):
        written |= sections.get(section, {})
    assert bool(written) == (model is not Settings)
    cell = dict.fromkeys(cell_parameters(notebook)) | {"profile": profile}
    found = kdig.open_notebook(notebook, cell)
    assert type(found) is model
    values = found.flat()
    assert values.pop("profile") == profile
    assert {name: values[name] for name in written} == written
    assert {n: values[n] for n in values.keys() - written.keys()} == {
        n: value for n, value in own_defaults(model).items() if n not in written
    }
    assert found.outputs.folder.name == profile


def cell_parameters(notebook: str) -> list[str]:
    """The names that a notebook's parameters cell sets."""
    book = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4)
    source = next(c.source for c in book.cells if "parameters" in c.metadata.get("tags", []))
    return [name for name, _ in bound(ast.parse(source))]


def own_defaults(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """What a model gives a parameter that nobody has set, without `profile`."""
    found = {}
    for name, field in model.model_fields.items():
        mark = next((mark for mark in field.metadata if isinstance(mark, Nested)), None)
        if mark:
            found |= own_defaults(field.annotation, mark.prefix)
        elif not field.is_required() and name != "profile":
            found[prefix + name] = field.default
    return found


SETUP = "settings = kdig.open_notebook('04_ablation', globals())"


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
    return check(Ablation, kernel, "04_ablation")


def test_setup_can_be_run_again_after_later_cells():
    kernel = live("profile: str = 'lite'\nepochs: int = 3")
    first = check(Ablation, kernel, "04_ablation")
    assert run_cells(kernel, "frame, found = [1], 'x'") == first
    assert run_cells(kernel, "profile: str = 'lite'\nepochs: int = 4").recipe.epochs == 4
    with pytest.raises(KdigError, match="epochs"):
        run_cells(kernel, "profile = 'lite'; epochs = 0")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_setup_run_again_at_any_time_changes_nothing(path):
    """After each cell of the notebook, with every name that the cells so far have set."""
    model, notebook = MODELS[path.stem], path.stem
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    kernel: dict[str, Any] = {"In": [""], "Out": {}}
    first, seen = None, 0
    for cell in cells:
        kernel["In"].append(cell.source)
        if "parameters" in cell.metadata.get("tags", []):
            exec(cell.source, kernel)
            kernel["profile"] = profile = real_profile(notebook)
            continue
        kinds = {"import": ModuleType("m"), "definition": message, "variable": ["of a later cell"]}
        kernel |= {name: kinds[kind] for name, kind in bound(ast.parse(cell.source), False)}
        if "open_notebook(" in cell.source:
            # the cell calls after its imports, and sets the other names afterwards
            before = {n: v for n, v in kernel.items() if v != kinds["variable"]}
            first = check(model, before, notebook)
            kernel["_kdig_checked"] = before["_kdig_checked"]
        if first is None:
            continue
        again = check(model, kernel, notebook)
        assert again == first
        assert again.outputs.folder == first.outputs.folder
        seen += 1
    assert seen > 3
    assert first.profile == profile


def test_parameter_that_a_later_cell_has_taken_stops_the_setup_cell():
    kernel = live("profile = 'lite'; epochs = 3; pairing = 'static'")
    check(Ablation, kernel, "04_ablation")
    with pytest.raises(
        KdigError, match="pairing changed after the parameters cell was run: run that cell again"
    ):
        run_cells(kernel, "for pairing in ('static', 'released'): pass")
    again = run_cells(kernel, "profile = 'lite'; epochs = 3; pairing = 'static'")
    assert again.signals.pairing == "static"


def test_parameter_outside_the_cell_that_a_later_cell_has_taken_stops_the_setup_cell():
    """A name that the parameters cell does not hold is a parameter all the same."""
    kernel = live("profile = 'lite'")
    check(Ablation, kernel, "04_ablation")
    with pytest.raises(KdigError, match="steps changed after the parameters cell was run"):
        run_cells(kernel, "steps = 7")


def test_near_miss_in_a_parameters_cell_that_is_edited_is_named():
    kernel = live("profile = 'lite'; epochs = 3")
    check(Ablation, kernel, "04_ablation")
    with pytest.raises(KdigError, match="unknown parameter 'epoch': did you mean 'epochs'"):
        run_cells(kernel, "profile = 'lite'; epoch = 40")
    with pytest.raises(
        KdigError, match="unknown parameter 'learning_rte': did you mean 'learning_rate'"
    ):
        run_cells(kernel, "profile = 'lite'\n(learning_rte, x) = 0.5, 1")


def test_near_miss_at_the_first_call_is_named_until_it_is_mended():
    kernel = live("profile = 'lite'; epochz = 3")
    for _ in range(2):
        with pytest.raises(KdigError, match="unknown parameter 'epochz': did you mean 'epochs'"):
            run_cells(kernel)
    assert run_cells(kernel, "profile = 'lite'; epochs = 3").recipe.epochs == 3


def test_name_of_a_parameter_that_holds_a_module_or_a_function_is_not_passed_over():
    assert "seed" in message(seed=experiments)
    assert "epochs" in message(epochs=message)


@pytest.mark.parametrize("group", ["recipe", "weights", "signals", "teacher_recipe"])
@pytest.mark.parametrize("value", [{}, {"epochs": 3}, {"steps": 3}, 1])
def test_name_of_a_group_is_no_parameter(group, value):
    assert f"unknown parameter '{group}'" in message(**{group: value})


def test_an_override_alone_differs_from_the_profile():
    """The cell's value goes first; all others are the profile's."""
    lite = settings_of("04_ablation", "lite").flat()
    given = {"epochs": 3, "steps": 7, "teacher_epochs": 2, "gamma": 0.5, "seeds": [4, 5]}
    assert all(lite[name] != value for name, value in given.items())
    assert ablation(profile="lite", **given).flat() == lite | given
    assert ablation(profile="lite", **dict.fromkeys(given)).flat() == lite


def test_all_is_no_limit_and_none_is_the_profiles():
    assert settings_of("04_ablation").train_images == 150
    assert ablation(train_images=None).train_images == 150
    assert ablation(train_images="all").train_images is None
    assert ablation(train_images="all").outputs.folder.name == "demo+train_images=all"


def test_an_override_has_a_folder_of_its_own():
    def folder(**given):
        return ablation(**given).outputs.folder.name

    demo = settings_of("04_ablation").flat()
    assert folder() == "demo"
    assert folder(seeds=[0, 1]) == "demo+seeds=0,1"
    assert folder(seeds=[0, 1], alpha=0.3) == folder(alpha=0.3, seeds=[0, 1])
    assert folder(seeds=[0, 1], alpha=0.3) == "demo+alpha=0.3+seeds=0,1"
    assert folder(profile="lite", epochs=3) == "lite+epochs=3"
    assert folder(epochs=demo["epochs"], alpha=demo["alpha"], seeds=demo["seeds"]) == "demo"
    long = folder(methods=demo["methods"][:5], seeds=[10, 11, 12], alpha=0.123, gamma=0.456)
    assert re.fullmatch(r"demo\+[0-9a-f]{12}", long)


def test_runs_of_an_override_are_looked_for_in_the_profiles_folder():
    assert ablation(seeds=[0, 1]).workspace.folder.name == "demo"


def test_results_of_different_settings_never_share_a_folder():
    """Every parameter, alone and in pairs, and lists whose entries read alike when joined."""
    demo = settings_of("04_ablation").flat()
    changes: dict[str, list] = {
        "profile": ["lite"], "dataset": ["folder"], "train_images": [100, None], "flip": [True],
        "width": [0.5, 0.75], "teacher_epochs": [3, 4], "steps": [3, 4], "pairing": ["released"],
        "epochs": [3, 4], "alpha": [0.25, 0.3], "methods": [["student", "kd"], ["student", "at"]],
        "seeds": [[0, 1], [1, 0], [0, 11], [0, 1, 1_000], [101, 2]], "normalise": [True],
        "network": ["s3", "resnet8"], "teacher_learning_rate": [1e-3, 1e-4, 1e20],
    }  # fmt: skip
    singles = [{name: value} for name, values in changes.items() for value in values]
    pairs = [a | b for a, b in itertools.combinations(singles, 2) if a.keys() != b.keys()]
    taken: dict[str, Any] = {}
    different = set()
    for given in [{}, *singles, *pairs]:
        found = settings_of("04_ablation", **given)
        assert taken.setdefault(found.outputs.folder.name, found) == found, given
        assert bool(given) == (found.flat() != demo), given
        different.add(repr(found.flat()))
    assert len(taken) == len(different) > 400


def test_where_things_are_and_who_computes_does_not_count_as_an_override(tmp_path):
    places = {
        "root": str(tmp_path),
        "download": True,
        "device": "cpu",
        "engine": "inline",
        "workers": 7,
        "threads": 2,
    }
    places |= {"subset_root": str(tmp_path), "checkpoints": ["a.pt"]}
    # `yardsticks` belongs to another notebook
    assert {*places, "yardsticks"} == settings.PLACES
    found = check(MODELS["07_imagenet_subset"], {"profile": "lite", **places}, "07_imagenet_subset")
    assert found.outputs.folder.name == "lite"
    assert {name: found.flat()[name] for name in places} == places


def test_a_changed_profile_is_said_before_its_results_are_replaced(project, capsys):
    ablation()
    ablation(workers=3, threads=2)
    assert "replaces" not in capsys.readouterr().out
    edit_profile(project / "params" / "demo.yaml", "students", epochs=5)
    ablation()
    said = capsys.readouterr().out
    assert "04_ablation: its results in" in said
    assert "are of recipe.epochs: 12 -> 5; running it replaces them" in said
    ablation(seeds=[0, 1])
    assert "replaces" not in capsys.readouterr().out


@pytest.mark.parametrize("model", dict.fromkeys(MODELS.values()), ids=lambda model: model.__name__)
def test_names_of_groups_never_collide(model):
    """Nor with a field, of which the flat name of one would hide the other."""
    names = []
    for name, field in model.model_fields.items():
        mark = next((mark for mark in field.metadata if isinstance(mark, Nested)), None)
        names += [mark.prefix + n for n in field.annotation.model_fields] if mark else [name]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert set(names) == set(parameters(model))
    assert len(set(parameters(model).values())) == len(names)


def test_every_parameter_is_set_by_its_flat_name_and_read_back():
    """A value reaches the place that `parameters` says, and no other."""
    before = settings_of("04_ablation")
    for name, value in {"epochs": 3, "teacher_epochs": 4, "steps": 5, "gamma": 0.3}.items():
        after = settings_of("04_ablation", **{name: value})
        changed = {n for n, v in after.flat().items() if v != before.flat()[n]}
        group, inner = parameters(Ablation)[name]
        assert changed == {name}
        assert getattr(getattr(after, group), inner) == value


def test_profile_file_that_cannot_be_read_is_named(project):
    path = project / "params" / "demo.yaml"
    for text in ("a: [1", "just words", "- 1"):
        path.write_text(text)
        assert "demo.yaml" in message()
    path.write_text("a: [1")
    assert re.match(r"cannot read .*demo\.yaml, which should hold sections", message())
    path.write_text("students:\n  epochs: 3\n  epochs: 4")
    assert "'epochs' stands 2 times in one section" in message()
    path.write_text("04_ablation:\nstudents:\n04_ablation:")
    assert "'04_ablation' stands 2 times in one section" in message()
    path.write_text("students: 3")
    assert "section students: write lines such as `epochs: 12`" in message()
    path.write_text("04_ablation:")
    assert "has no value: give it one in the profile's file" in message()


@pytest.mark.parametrize(
    ("section", "near"),
    [("student", "students"), ("comon", "common"), ("04_ablaton", "04_ablation"), ("5", None)],
)
def test_unknown_section_is_named_with_a_near_one(project, section, near):
    edit_profile(project / "params" / "demo.yaml", section, epochs=3)
    text = message()
    assert f"params/demo.yaml has no section '{section}'" in text
    assert (f"did you mean '{near}'?" in text) if near else ("did you mean" not in text)
    assert "use common, students, 00_primer" in text


@pytest.mark.parametrize(
    ("section", "name", "near"),
    [
        ("students", "epoch", "epochs"), ("common", "teacher_epoch", "teacher_epochs"),
        ("04_ablation", "method", "methods"), ("students", "recipe", None),
        ("common", "dmeo", None),
    ],
)  # fmt: skip
def test_unknown_parameter_of_a_section_is_named_with_a_near_one(project, section, name, near):
    edit_profile(project / "params" / "demo.yaml", section, **{name: 3})
    text = message()
    assert f"params/demo.yaml, section {section}: unknown parameter '{name}'" in text
    if near:
        assert f"did you mean '{near}'?" in text


@pytest.mark.parametrize(
    ("section", "name", "value", "said"),
    [
        ("students", "epochs", "12", "parameter epochs is the text '12'"),
        ("common", "teacher_epochs", "12", "parameter teacher_epochs is the text '12'"),
        ("common", "steps", "12", "parameter steps is the text '12'"),
        ("students", "gamma", "much", "parameter gamma is the text 'much'"),
        ("students", "epochs", None, "parameter epochs has to have a limit"),
        ("04_ablation", "seeds", [0, "b"], "parameter seeds.1 is the text 'b'"),
        ("common", "flip", "yes", "parameter flip = 'yes' is neither True nor False"),
    ],
)  # fmt: skip
def test_wrong_type_in_a_profile_is_named_by_its_flat_name(project, section, name, value, said):
    edit_profile(project / "params" / "demo.yaml", section, **{name: value})
    assert said in message()


def test_fault_of_another_notebooks_section_stops_that_notebook_only(project):
    edit_profile(project / "params" / "demo.yaml", "05_compression", epochz=3)
    assert "unknown parameter 'epochz'" in message("05_compression")
    assert ablation().profile == "demo"


def test_unknown_profile_is_named_with_the_known_ones():
    text = message(profile="dmeo")
    assert "no profile 'dmeo': did you mean 'demo'? params/ has demo, evidence, lite, paper" in text
    assert "did you mean" not in message(profile="x")


def test_profile_of_ones_own_is_a_file(project):
    text = (project / "params" / "demo.yaml").read_text()
    (project / "params" / "mine.yaml").write_text(text)
    edit_profile(project / "params" / "mine.yaml", "students", epochs=5)
    found = ablation(profile="mine")
    assert found.recipe.epochs == 5
    assert found.outputs.folder.name == "mine"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seeds", "[0,1]", "-y '{seeds: [...]}'"), ("seeds", 3, "-y '{seeds: [...]}'"), ("methods", "kd", "not a list"),
        ("flip", "true", "write True or False"), ("flip", 1, "write True or False"),
        ("normalise", "true", "write True or False"),
        ("train_images", "null", "-r train_images all"), ("train_images", "None", "-r train_images all"),
        ("epochs", "5", "use -p epochs 5"), ("learning_rate", "0.1", "use -p learning_rate 0.1"),
        ("teacher_epochs", "5", "use -p teacher_epochs 5"), ("steps", "5", "use -p steps 5"),
        ("learning_rate", "1e-3", "write 1.0e-3"),
        ("device", "mps", "write auto, cpu, cuda, or cuda:1"), ("profile", "My run", "small letters"),
        ("dataset", 5, "use -r"), ("root", 2024, "use -r"), ("network", 2, "use -r"),
    ],
)  # fmt: skip
def test_what_papermill_makes_of_a_value_is_explained(name, value, said):
    text = message(**{name: value})
    assert f"parameter {name}" in text
    assert said in text
    assert "pattern" not in text


def test_probe_for_writing_leaves_nothing_and_disturbs_nobody(tmp_path):
    def often():
        for _ in range(30):
            ablation(profile="lite")

    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(often) for _ in range(2)]:
            done.result()
    left = [path for path in (tmp_path / "outputs" / "lite").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["04_ablation.json"]


def test_paths_of_a_user_start_at_home_or_at_the_project(tmp_path, monkeypatch):
    root = settings.project_root()
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


def test_a_link_that_leads_out_of_the_project_is_named_as_it_stands_in_it(tmp_path, monkeypatch):
    root, elsewhere = own_project(tmp_path / "project"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "released").symlink_to(elsewhere)
    monkeypatch.setenv("KDIG_ROOT", str(root))
    assert str(settings.brief(root / "released" / "a.pt")) == "released/a.pt"


def test_checkpoint_of_other_classes_or_of_a_name_twice_is_refused(tmp_path):
    (tmp_path / "b").mkdir()
    for path, classes in (
        (tmp_path / "a.pt", 10),
        (tmp_path / "b" / "a.pt", 10),
        (tmp_path / "c.pt", 100),
    ):
        torch.save(build("s2", classes).state_dict(), path)
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
        ("alpha", float("nan")), ("width", float("inf")), ("seeds", [0, 0]),
        ("methods", ["kd", "at"]), ("seeds", [-1, 0]), ("seeds", [0, 10**23]), ("padding", 10**6), ("methods", ["student"]), ("temperature", 0.0), ("epochs", 0),
        ("epochs", 1.5), ("epochs", "all"), ("epochs", True),
        ("network", "s9"), ("network", "s0"), ("batch_size", 1), ("pairing", "random"), ("attention_reduction", "max"), ("schedule", "warm"),
        ("seeds", [1]),
        ("seeds", "1,2"), ("flip", "True"), ("baseline", "white"), ("rule", "simpson"),
        ("output", "loss"), ("attribution", "lime"), ("overlay", "veil"), ("blend", 0.0), ("steps", 0),
        ("device", "tpu"), ("engine", "ray"), ("profile", "../up"), ("teacher_epochs", 0),
        ("teacher_width", 0.0), ("teacher_schedule", "warm"), ("teacher_optimizer", "lion"),
        ("teacher_bn_momentum", 0.0), ("label_smoothing", 1.0), ("weight_decay", -1.0),
        ("train_images", "every"),
        ("teacher_network", "resnet"),
    ],
)  # fmt: skip
def test_values_out_of_range_or_of_another_type_are_named(name, value):
    assert name in message(**{name: value})


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    "name", ["learning_rate", "weight_decay", "gamma", "temperature", "teacher_learning_rate"]
)
def test_a_number_of_a_group_that_is_not_finite_is_named(name, value):
    assert name in message(**{name: value})


def test_control_of_an_overlay_without_static_pairing_is_named():
    text = message(overlay="phase", pairing="released")
    assert "overlay" in text
    assert "pairing" in text


def test_unknown_data_set_and_method_list_the_known_ones():
    assert "unknown data set 'mnist': choose one of digits" in message(dataset="mnist")
    assert "unknown method 'dkd': choose from student, kd" in message(methods=["student", "dkd"])


def test_several_faults_stand_in_one_line():
    text = message(epochs=0, alpha=7.0)
    assert "epochs" in text
    assert "alpha" in text


def test_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "file"))
    text = message(profile="lite")
    assert "cannot write to" in text
    assert f"KDIG_OUTPUTS is '{tmp_path / 'file'}'" in text


def test_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    given = ablation(device="cuda")
    with pytest.raises(KdigError, match="0 GPUs"):
        given.workspace  # noqa: B018


def test_methods_set_only_their_own_weights():
    given = ablation()
    run = given.student_run("kd_at", 3, "abc")
    assert (run.alpha > 0, run.probability, run.gamma > 0, run.seed) == (True, 0.0, True, 3)
    plain = given.student_run("student", 3, "abc")
    assert plain.teacher is None
    other = ablation(temperature=7.0, alpha=0.9).student_run("student", 3, "def")
    assert plain.key == other.key


def as_papers(**given):
    return settings_of("04_ablation", "paper", **given).is_papers("04_ablation")


def test_only_the_papers_own_settings_decide_its_results(monkeypatch, standard):
    assert as_papers()
    assert as_papers(seeds=[5, 6], workers=7)
    for changed in (
        {"pairing": "reshuffled"},
        {"epochs": 99},
        {"teacher_epochs": 1},
        {"steps": 5},
        {"attribution": "saliency"},
        {"network": "s3"},
        {"weight_decay": 0.1},
        {"padding": 2},
        {"train_images": 100},
    ):
        assert not as_papers(**changed), changed
    monkeypatch.setattr(
        experiments.Experiment, "data", lambda self: SimpleNamespace(is_cifar10=False)
    )
    assert not as_papers()


@pytest.mark.parametrize(
    "notebook",
    [name for profile, name in RUN if profile == "paper" and MODELS[name] is not Settings],
)
def test_a_setting_without_a_row_counts_as_different(notebook, standard):
    """Each row that the notebook takes, left out alone."""
    found = settings_of(notebook, "paper")
    whole = pd.read_csv(standard, keep_default_na=False, dtype=str)
    assert found.is_papers(notebook)
    decides = found.flat().keys() - free(type(found))
    for name in sorted(decides):
        whole[whole.name != name].to_csv(standard, index=False)
        papers_settings.cache_clear()
        assert not found.is_papers(notebook), name


def test_editing_the_paper_profile_does_not_change_the_standard(project, standard):
    before = dict(papers_settings("04_ablation"))
    edit_profile(project / "params" / "paper.yaml", "students", epochs=99)
    papers_settings.cache_clear()
    assert papers_settings("04_ablation") == before
    assert before["epochs"] == 100
    assert not as_papers()
    assert as_papers(epochs=100)


def test_a_setting_of_another_notebook_is_none_of_this_ones(standard):
    assert papers_settings("03_hyperparameters")["share"] == 0.8
    assert "share" not in papers_settings("04_ablation")
    assert papers_settings("08_attention_maps")["methods"][0] == "student"
    assert "methods" not in papers_settings("04_ablation")


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
def test_reason_says_whether_settings_or_teacher_differ(standard, accuracy, reason):
    teacher = SimpleNamespace(last=SimpleNamespace(test_accuracy=accuracy))
    found = settings_of("04_ablation", "paper").why_not_decided("04_ablation", teacher)
    assert bool(found) == bool(reason)
    assert reason in found
    other = settings_of("04_ablation", "paper", epochs=99)
    assert other.why_not_decided("04_ablation", teacher) == OTHER_SETTINGS


def test_a_list_that_lacks_an_entry_of_the_papers_is_told_from_one_that_has_more():
    names = ("alphas", "temperatures", "probabilities", "gammas")
    whole = settings_of("03_hyperparameters", "paper")
    assert whole.holds_papers("03_hyperparameters", *names)
    longer = settings_of("03_hyperparameters", "paper", alphas=[0.9, *whole.alphas])
    assert longer.holds_papers("03_hyperparameters", *names)
    shorter = settings_of("03_hyperparameters", "paper", alphas=[0.01, 0.25])
    assert not shorter.holds_papers("03_hyperparameters", *names)
    assert shorter.holds_papers("03_hyperparameters", "temperatures", "gammas")
    few = settings_of("05_compression", "paper", levels=[1, 2])
    assert not few.holds_papers("05_compression", "levels")


@pytest.mark.parametrize(
    ("name", "value"),
    [("latency_variants", ["channels_last"]), ("latency_variants", ["plain", "int8"]), ("latency_batches", [0]),
     ("cold_repeats", 5), ("latency_repeats", 5), ("training_batch", 1), ("levels", [9, 1]), ("latency_batches", [1, 1])],
)  # fmt: skip
def test_timing_parameters_are_checked(name, value):
    assert name in message("05_compression", **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [("pairings", ["released", "same_view"], "must hold 'static'"), ("overlays", ["grey", "other"], "must hold 'map'"),
     ("strong_methods", ["kd", "kd_ig"], "must hold 'student'"), ("pairing_methods", ["kdig"], "unknown method 'kdig'"),
     ("pairing_methods", ["ig"], "must hold 'kd'"),
     ("checkpoints", ["a.pt"], "need dataset 'cifar10'"), ("overlays", ["map", "veil"], "overlays")],
)  # fmt: skip
def test_arms_of_the_audit_are_checked(name, value, reason):
    assert reason in message("09_released_code", **{name: value})


def test_audit_takes_the_ablations_runs_and_pairs_its_arms():
    audit, ablation = (
        settings_of(notebook, train_images=100) for notebook in ("09_released_code", "04_ablation")
    )
    known = {run.key for run in ablation.runs("abc")}
    assert (
        known
        == {run.key for run in audit.ablation("abc")}
        <= {run.key for run in audit.runs("abc")}
    )
    paired = {run.key for run in audit.paired("abc") if run.signals.pairing == "static"}
    assert paired <= known
    assert {run.seed for run in audit.runs("abc")} == set(audit.seeds)
    strong = audit.strong("abc")[0]
    assert strong.recipe.normalise
    assert strong.recipe.epochs == audit.recipe.epochs
    sizes = [
        count_parameters(build(run.network, 10, run.width)) for run in [strong, *audit.rivals()]
    ]
    assert all(
        sizes[0] <= size < 1.4 * sizes[0] for size in sizes
    )  # channels in eights: coarse at a quarter of the width


def test_matching_label_smoothing_at_the_papers_weights():
    audit = settings_of("09_released_code", alpha=0.01, temperature=2.5)
    assert audit.smoothing() == pytest.approx(0.0142, abs=0.0005)


@pytest.mark.parametrize(
    "name", ["teacher_train_images", "train_images", "test_images", "robustness_images"]
)
def test_more_images_than_there_are_is_said_before_anything_is_trained(name, monkeypatch):
    """Where the cost check asks for the runs."""
    monkeypatch.setattr(experiments, "execute", lambda *arguments: pytest.fail("trained"))
    settings = settings_of("09_released_results", **{"test_images": 100, name: 3000})
    with pytest.raises(
        KdigError,
        match=rf"^{name}: cannot draw 3000 images of 10 classes from \d+: choose 10 to \d+, or all",
    ):
        settings.runs("teacher")


def test_damaged_images_are_those_that_the_runs_are_scored_on():
    settings = settings_of("09_released_results", test_images=100, robustness_images=40)
    scored = settings.workspace.pictures(settings.runs("teacher")[0], settings.scoring).scored
    assert len(scored) == 100
    assert settings.damaged().ids == stratified(scored, 40).ids


@pytest.mark.parametrize("method", METHODS)
def test_a_method_switches_off_every_term_that_it_lacks(method, monkeypatch):
    """Whatever terms there are: `kd_ig_at` is no list of all of them."""
    ablation_settings = settings_of("04_ablation")
    wanted = METHODS[method].weights
    monkeypatch.setitem(METHODS, "kd_ig_at", Method((), ""))
    run = ablation_settings.student_run(method, 0, "abc")
    assert {name for name in ("alpha", "probability", "gamma") if getattr(run, name)} <= wanted


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"latency_batches": [4, 16]}, "latency_batches must hold 1"),
        (
            {"engines": ["eager", "onnxruntime", "int8", "openvino_int8"]},
            "engines must hold 'openvino', to which 'openvino_int8' is compared",
        ),
    ],
)
def test_what_deployment_compares_with_must_be_there(given, said):
    assert said in message("13_deployment", **given)
