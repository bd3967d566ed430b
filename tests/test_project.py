"""The project's own promises: notebooks, parameter files and environments agree with each other and
with the module.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import yaml
from helpers import MODELS, NOTEBOOKS, ROOT, RUN, edit_profile, own_project, settings_of
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from packaging.requirements import Requirement
from packaging.version import Version

from kdig import KdigError
from kdig.core.locked import lock_name, lock_text
from kdig.core.networks import LEVELS
from kdig.paper import published
from kdig.study import depends, index, readme, report, reproduce, seal, settings
from kdig.study.depends import dependencies, imported
from kdig.study.outputs import Outputs
from kdig.study.reproduce import main, papermill_command, plan, run_notebook
from kdig.study.settings import trains


def names(paths):
    return [path.stem for path in paths]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_notebook_is_well_formed(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert book.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in book.cells]
    assert len(set(ids)) == len(ids)
    tags = [tag for cell in book.cells for tag in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == 1
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for cell in code:
        checked = "nbval-check-output" in cell.metadata.get("tags", [])
        assert bool(cell.outputs) == checked, f"{cell.id}: outputs are kept in checked cells only"
        assert (cell.execution_count is not None) == checked, (
            f"{cell.id}: nbval asks for the count of cells with kept outputs, and only there"
        )
        assert not re.search(r"""["'](\.\./|/[a-z])""", cell.source), (
            f"{cell.id} holds a path literal"
        )


def test_every_notebook_that_trains_runs_in_the_demo_and_in_a_profile_of_real_images():
    wanted = {path.stem for path in NOTEBOOKS if trains(path)}
    assert {notebook for profile, notebook in RUN if profile == "demo"} >= wanted
    assert {notebook for profile, notebook in RUN if profile in ("lite", "evidence")} >= wanted


def test_a_notebook_without_a_section_names_the_profiles_that_run_it():
    with pytest.raises(
        KdigError, match=r"no section 10_factorial: choose profile demo or evidence"
    ):
        settings_of("10_factorial", "paper")
    with pytest.raises(KdigError, match="no notebook '10_factorial' in profile lite"):
        reproduce.reproduce("lite", None, ["10_factorial"])


def test_paper_profile_is_the_papers():
    values = settings_of("04_ablation", "paper")
    paper = {
        "alpha": 0.01,
        "temperature": 2.5,
        "probability": 0.1,
        "gamma": 0.8,
        "epochs": 100,
        "batch_size": 64,
        "learning_rate": 1e-3,
    }
    assert {name: values.flat()[name] for name in paper} == paper
    assert len(values.seeds) == 10
    assert (values.network, values.level) == ("s2", 2)
    assert LEVELS[values.level] == (13, 9)


@pytest.mark.parametrize("profile", ["paper", "lite"])
def test_table_3_is_searched_whole(profile):
    values, grids = (
        settings_of("03_hyperparameters", profile),
        published("table3_search_space").groupby("hyperparameter").value,
    )
    for name, symbol in {
        "temperatures": "T",
        "alphas": "alpha",
        "probabilities": "p",
        "gammas": "gamma",
    }.items():
        assert sorted(getattr(values, name)) == sorted(grids.get_group(symbol)), name


def test_paper_profile_repeats_and_sweeps_as_the_paper():
    values = settings_of("06_monte_carlo", "paper")
    assert (values.repetitions, values.share, values.train_images) == (60, 0.8, None)
    assert values.methods == ["student", "kd", "kd_ig", "kd_ig_at"]
    assert settings_of("03_hyperparameters", "paper").share == 0.8
    assert settings_of("05_compression", "paper").levels == list(range(1, 9))


def test_notebooks_of_the_demo_share_the_ablations_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))

    def keys(notebook, runs=lambda settings: settings.runs("abc")):
        return {run.key for run in runs(settings_of(notebook))}

    ablation = keys("04_ablation")
    assert len(ablation) == 24
    for notebook in ("07_imagenet_subset", "08_attention_maps", "09_released_results"):
        assert keys(notebook) <= ablation, notebook
    assert keys("09_released_code", lambda settings: settings.ablation("abc")) == ablation
    at_level = keys(
        "05_compression", lambda settings: [run for run in settings.runs("abc") if run.level == 2]
    )
    assert at_level <= ablation
    assert len(at_level) == 6


def test_notebooks_of_a_profile_share_one_teacher(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    # the images of 14 are its reader's own
    taught = [name for name in MODELS if trains(Path(name)) and name != "14_your_images"]
    assert len({settings_of(notebook).teacher_run().key for notebook in taught}) == 1


def locked(path: Path) -> dict[str, Version]:
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line) for line in lines), (
        "a lock holds names and versions, no hosts"
    )
    return {name: Version(version) for name, version in (line.split("==") for line in lines)}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_holds_what_pyproject_asks_for(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = locked(ROOT / "locks" / f"{python}.txt")
    extras = project["optional-dependencies"]
    for wanted in map(Requirement, [*project["dependencies"], *extras["test"], *extras["cluster"]]):
        assert wanted.specifier.contains(versions[wanted.name]), wanted


def test_conda_environment_takes_the_lock():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    python = next(
        entry.partition("=")[2]
        for entry in conda
        if isinstance(entry, str) and entry.startswith("python=")
    )
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert f"--constraint locks/{python}.txt" in pip
    assert (ROOT / "locks" / f"{python}.txt").is_file()


def test_lock_names_what_is_installed_in_another_version(tmp_path):
    lock = tmp_path / "3.11.txt"
    numpy, torch = (version(name).partition("+")[0] for name in ("numpy", "torch"))
    lock.write_text(
        f"# a comment\nnumpy=={numpy}\ntorch=={torch}\nno-such-package==1.0\n", encoding="utf-8"
    )
    assert re.fullmatch(r"3\.11 [0-9a-f]{16}", lock_name(lock))
    lock.write_text(f"numpy=={numpy}\ntorch==1.0\n", encoding="utf-8")
    assert re.fullmatch(rf"3\.11 [0-9a-f]{{16}}, but torch {re.escape(torch)}", lock_name(lock))
    assert lock_name(tmp_path / "none.txt") == "none"


def test_lock_is_made_from_a_report_of_pip(tmp_path):
    report = tmp_path / "report.json"
    packages = [
        {"name": "PyYAML", "version": "6.0"},
        {"name": "kdig", "version": "0.1.0"},
        {"name": "torch", "version": "2.14.1+cpu"},
    ]
    report.write_text(
        json.dumps({"install": [{"metadata": package} for package in packages]}), encoding="utf-8"
    )
    assert lock_text(report).splitlines()[1:] == ["pyyaml==6.0", "torch==2.14.1"]


def test_commands_are_plain_papermill(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = papermill_command(
        ROOT / "notebooks" / "04_ablation.ipynb", "lite", "pictures", tmp_path / "o.ipynb"
    )
    text = " ".join(command)
    assert text == (
        f"papermill notebooks/04_ablation.ipynb {tmp_path / 'o.ipynb'} -k python3"
        " --no-progress-bar --stdout-file - -r profile lite -r root pictures"
    ), "a command that is passed on should not hold this machine's folders"
    claims = papermill_command(
        ROOT / "notebooks" / "99_claims.ipynb", "lite", "pictures", tmp_path / "o.ipynb"
    )
    assert claims[-3:] == ["-r", "profile", "lite"]
    assert "root" not in claims


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profile", "nosuch"], "params/ has demo, evidence, lite, paper"),
        (["--only", "05_x"], "choose one of 00_"),
        (["--only", "04_ablation", "05_x"], "no notebook '05_x' in profile demo"),
    ],
)
def test_runner_refuses_what_it_does_not_know(arguments, said, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "given",
    [["--only", "00_primer", "04_ablation"], ["--only", "00_primer", "--only", "04_ablation"]],
)
def test_several_notebooks_are_asked_for_at_once(given, monkeypatch):
    asked = []
    monkeypatch.setattr(reproduce, "reproduce", lambda profile, root, only: asked.append(only))
    assert main(given) == 0
    assert asked == [["00_primer", "04_ablation"]]


def test_a_notebook_that_measures_times_and_the_claims_run_alone(monkeypatch):
    monkeypatch.setattr(reproduce, "_said", lambda path, name: path.stem.startswith("timed"))
    asked = ("01", "02", "timed_a", "timed_b", "03", "99_claims")
    groups = reproduce._side_by_side([Path(f"{name}.ipynb") for name in asked])
    alone = [["01", "02"], ["timed_a"], ["timed_b"], ["03"], ["99_claims"]]
    assert [[path.stem for path in group] for group in groups] == alone


def test_no_notebook_is_begun_after_one_has_failed():
    """Two at once: the first fails while the second still runs, and the others stay untouched."""
    begun, failed = [], threading.Event()

    def run(path):
        begun.append(path.stem)
        if path.stem == "a":
            failed.set()
            raise KdigError("it failed")
        failed.wait(timeout=60)
        time.sleep(0.5)

    with pytest.raises(KdigError, match="it failed"):
        reproduce._run_group([Path(f"{name}.ipynb") for name in "abcdefgh"], run)
    assert set("ab") <= set(begun)
    assert len(begun) < 5


def test_a_notebook_has_its_share_of_the_cores_and_the_allocators_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_ROOT", str(tmp_path))
    names = ("KDIG_CORES", "OMP_NUM_THREADS", *settings.ALLOCATOR)
    code = f"import os, json; print(json.dumps({{name: os.environ.get(name) for name in {names}}}))"
    outputs = Outputs(tmp_path / "outputs" / "demo")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    run_notebook(small_project(tmp_path, code), "demo", None, outputs, share=3)
    book = nbformat.read(outputs.folder / "executed" / "50_small.ipynb", as_version=4)
    said = json.loads(book.cells[-1].outputs[0].text)
    assert said == {"KDIG_CORES": "3", "OMP_NUM_THREADS": "3", **settings.ALLOCATOR}


def test_some_notebooks_and_the_claims_are_run_and_reported(tmp_path, monkeypatch, capsys):
    """`--only` one of two: the claims follow, the other stays, and the report is named."""
    monkeypatch.setenv("KDIG_ROOT", str(tmp_path))
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "outputs"))
    notebook = small_project(tmp_path, "print(profile)")
    (tmp_path / "kdig").mkdir()
    for name in ("60_other", "99_claims"):
        shutil.copy(notebook, notebook.with_name(f"{name}.ipynb"))
    sections = "\n".join(f"{name}:" for name in ("50_small", "60_other", "99_claims"))
    (tmp_path / "params" / "demo.yaml").write_text(sections)
    monkeypatch.setattr("kdig.study.cost.profile_cost", lambda *asked: "cost")
    monkeypatch.setattr(reproduce, "current_report", lambda outputs, profile: f"page of {profile}")
    assert main(["--only", "50_small"]) == 0
    done = {path.stem for path in (tmp_path / "outputs" / "demo" / "executed").glob("*.html")}
    assert done == {"50_small", "99_claims"}
    assert capsys.readouterr().out.endswith("report: page of demo\n")


def test_bad_parameter_stops_papermill_with_one_line_and_no_result(tmp_path):
    """From a folder outside the project, as papermill may be called, with the project given by its
    variable.
    """
    environment = {**os.environ, "KDIG_ROOT": str(ROOT), "KDIG_OUTPUTS": str(tmp_path / "out")}
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(ROOT / "notebooks" / "04_ablation.ipynb"),
        str(tmp_path / "o.ipynb"),
    ]
    command += ["-k", "python3", "-y", "learning_rate: 1e-3"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("KdigError: parameter learning_rate is the text '1e-3'")
    )
    assert not list((tmp_path / "out").rglob("*.csv"))


def test_importing_the_package_changes_no_setting_of_torch():
    program = """
import importlib, pkgutil, random, torch, numpy
def settings():
    flags = {name: str(getattr(torch.backends.cudnn, name)) for name in ("allow_tf32", "benchmark", "deterministic", "enabled")}
    return flags | {
        "matmul": (torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()),
        "dtype": torch.get_default_dtype(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "modes": (torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()),
        "generators": (torch.initial_seed(), random.getstate()[1][:5], numpy.random.get_state()[1][:5].tolist()),
    }
before = settings()
import kdig
modules = [module.name for module in pkgutil.walk_packages(kdig.__path__, "kdig.")]
assert "kdig.core.train" in modules
for name in modules:
    if not name.endswith("__main__"):
        importlib.import_module(name)
after = settings()
assert after == before, {name: (before[name], after[name]) for name in before if before[name] != after[name]}
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_no_output_of_this_machine_is_committed():
    tracked = subprocess.run(
        ["git", "ls-files", "outputs"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert tracked
    assert all(path.startswith("outputs/reference/") for path in tracked)
    folder = re.compile(r"""["' =(]/(tmp|home|root|work|Users)/""")
    texts = [
        path for path in tracked if path.endswith((".ipynb", ".json", ".csv", ".txt", ".html"))
    ]
    naming = [path for path in texts if folder.search((ROOT / path).read_text(encoding="utf-8"))]
    assert not naming, "they name folders of the machine on which they were made"


def small_project(folder: Path, code: str) -> Path:
    """A notebook of one cell, and its empty profile, in the project's layout.

    `KDIG_ROOT` must name `folder`.
    """
    notebook, profile = folder / "notebooks" / "50_small.ipynb", folder / "params" / "demo.yaml"
    notebook.parent.mkdir()
    profile.parent.mkdir(parents=True)
    profile.write_text("50_small:\n", encoding="utf-8")
    parameters = nbformat.v4.new_code_cell(
        'profile: str = "demo"', metadata={"tags": ["parameters"]}
    )
    book = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(code)])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, notebook)
    return notebook


@pytest.mark.parametrize(
    ("send", "sign"),
    [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)],
    ids=["ctrl-c", "kill"],
)
def test_stopping_ends_in_one_line_and_leaves_no_process(tmp_path, send, sign):
    """Ctrl-C reaches every process of the group, kill the command's alone."""
    small_project(
        tmp_path,
        f"import os, time\nopen({str(tmp_path / 'kernel')!r},"
        " 'w').write(str(os.getpid()))\ntime.sleep(600)",
    )
    environment = {
        **os.environ,
        "KDIG_ROOT": str(tmp_path),
        "KDIG_OUTPUTS": str(tmp_path / "outputs"),
    }
    command = [sys.executable, "-m", "kdig"]
    heeded = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # a shell's background jobs ignore it
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, preexec_fn=heeded, **streams
    )
    wait_until(lambda: (tmp_path / "kernel").exists() and (tmp_path / "kernel").read_text())
    send(process.pid, sign)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.startswith("stopped:")
    assert said.count("\n") == 1
    kernel = Path("/proc") / (tmp_path / "kernel").read_text()
    wait_until(lambda: not kernel.exists() or "(zombie)" in (kernel / "status").read_text())
    assert not list((tmp_path / "outputs").rglob("50_small.json")), (
        "a notebook that was stopped must not count as finished"
    )


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_notebook_that_has_run_is_not_run_again_until_something_changes(
    tmp_path, capsys, monkeypatch
):
    """On a notebook of its own in a copy of the project's layout: the same command, then another
    one, whose result is lost.
    """
    monkeypatch.setenv("KDIG_ROOT", str(tmp_path))
    notebook = small_project(tmp_path, "print(profile)")
    outputs = Outputs(tmp_path / "outputs" / "demo")

    def runs() -> bool:
        run_notebook(notebook, "demo", None, outputs)
        return "unchanged" not in capsys.readouterr().out

    assert runs()
    assert not runs()
    monkeypatch.setattr(
        "kdig.study.reproduce.papermill_command", lambda *arguments: ["papermill", "--version"]
    )
    (outputs.folder / "executed" / "50_small.json").write_text("")  # as after a power failure
    (outputs.folder / "executed" / "50_small.ipynb").unlink()
    with pytest.raises(KdigError, match="could not be converted"):
        runs()
    assert not (outputs.folder / "executed" / "50_small.json").exists(), (
        "a notebook that failed must not count as finished"
    )


def test_traceback_of_a_notebook_is_kept_until_it_succeeds(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_ROOT", str(tmp_path))
    notebook = small_project(tmp_path, f"print(open({str(tmp_path / 'given')!r}).read())")
    outputs = Outputs(tmp_path / "outputs" / "demo")
    errors = outputs.folder / "executed" / "50_small.error.txt"
    with pytest.raises(
        KdigError, match=rf"50_small\.ipynb failed: FileNotFoundError: .* \(traceback: {errors}\)"
    ):
        run_notebook(notebook, "demo", None, outputs)
    assert "Traceback" in errors.read_text()
    (tmp_path / "given").write_text("here")
    run_notebook(notebook, "demo", None, outputs)
    assert not errors.exists()


def test_a_notebook_wanted_by_two_processes_is_executed_once(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("KDIG_ROOT", str(tmp_path))
    notebook = small_project(tmp_path, "print(profile)")
    outputs = Outputs(tmp_path / "outputs" / "demo")
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: run_notebook(notebook, "demo", None, outputs), range(2)))
    said = capfd.readouterr().out
    assert (said.count("$ papermill"), said.count("unchanged since it ran")) == (1, 1)
    assert {path.suffix for path in (outputs.folder / "executed").iterdir()} == {
        ".ipynb",
        ".html",
        ".json",
    }


def test_root_given_on_the_command_line_starts_at_home_or_at_the_project(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT / "notebooks")
    for given, meant in (("pictures", "pictures"), ("~/pictures", str(tmp_path / "pictures"))):
        notebook = ROOT / "notebooks" / "04_ablation.ipynb"
        command = papermill_command(notebook, "lite", given, tmp_path / "o.ipynb")
        assert command[-3:] == ["-r", "root", meant]


def test_printed_command_can_be_copied_though_a_path_has_a_space(tmp_path, capsys, monkeypatch):
    given, outputs = (
        ["papermill", "a notebook.ipynb", "it's.ipynb", "--version"],
        Outputs(tmp_path / "my results"),
    )
    monkeypatch.setattr("kdig.study.reproduce.papermill_command", lambda *arguments: given)
    notebook = ROOT / "notebooks" / "99_claims.ipynb"
    with pytest.raises(KdigError):
        run_notebook(notebook, "demo", None, outputs)
    said = [line for line in capsys.readouterr().out.splitlines() if "$ " in line]
    assert len(said) == 1
    assert shlex.split(said[0].partition("$ ")[2]) == given


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A project with copies of notebooks, profiles and the module's files, which a test may edit.

    `plan` reads the copies; what runs is the module itself.
    """
    root = own_project(tmp_path / "project")
    (root / "notebooks").unlink()
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    shutil.copytree(ROOT / "kdig", root / "kdig", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("KDIG_ROOT", str(root))
    monkeypatch.setattr(depends, "PACKAGE", root / "kdig")
    monkeypatch.setattr(reproduce, "__file__", str(root / "kdig" / "study" / "reproduce.py"))
    return root


class Planned:
    """A notebook that has run in a project, and what `plan` says of it now."""

    def __init__(self, root: Path, notebook: str, profile: str = "demo", data: str | None = None):
        self.notebook, self.profile, self.data = root / "notebooks" / notebook, profile, data
        self.outputs = Outputs(root / "outputs" / profile)
        for folder in ("executed", "tables", "facts"):
            (self.outputs.folder / folder).mkdir(parents=True, exist_ok=True)

    def now(self, **changes):
        given = {"profile": self.profile, "root": self.data, **changes}
        return plan(self.notebook, given["profile"], given["root"], self.outputs)

    def run(self):
        (self.outputs.folder / "executed" / f"{self.notebook.stem}.html").write_text("made")
        self.outputs.note_run(self.notebook.stem, stamp=self.now().stamp)
        return self


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_unchanged_notebook_need_not_run_and_one_that_never_ran_must(path, copied):
    planned = Planned(copied, path.name)
    assert planned.now().why == "it has not run to its end yet"
    planned.run()
    assert planned.now()[1:] == ("", "")


def test_notebook_runs_whose_last_run_left_no_stamp_or_no_page(copied):
    planned = Planned(copied, "04_ablation.ipynb").run()
    executed = planned.outputs.folder / "executed"
    (executed / "04_ablation.json").write_text("{}")
    assert planned.now().why == "its last run says nothing of what it read"
    planned.run()
    (executed / "04_ablation.html").unlink()
    assert planned.now().why == "it has not run to its end yet"


@pytest.mark.parametrize("section", ["common", "students", "04_ablation"])
def test_changed_section_of_its_own_makes_a_notebook_run_and_is_named(section, copied):
    planned = Planned(copied, "04_ablation.ipynb").run()
    edit_profile(copied / "params" / "demo.yaml", section, new=1)
    assert planned.now().why == "changed since it last ran: params/demo.yaml"


@pytest.mark.parametrize("section", ["02_teacher_and_signals", "05_compression", "99_claims"])
def test_changed_section_of_another_notebook_leaves_it(section, copied):
    planned = Planned(copied, "04_ablation.ipynb").run()
    edit_profile(copied / "params" / "demo.yaml", section, new=1)
    assert planned.now()[1:] == ("", "")


def test_changed_sections_of_training_leave_notebooks_that_are_the_same_in_every_profile(copied):
    alike = ("00_primer", "01_literature_review", "99_claims")
    planned = [Planned(copied, f"{n}.ipynb").run() for n in alike]
    for section in ("common", "students", "04_ablation"):
        edit_profile(copied / "params" / "demo.yaml", section, new=1)
    assert [p.now().why for p in planned] == [""] * 3


def test_comment_in_a_profile_and_the_order_of_its_sections_change_nothing(copied):
    planned = Planned(copied, "04_ablation.ipynb").run()
    path = copied / "params" / "demo.yaml"
    sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    turned = yaml.safe_dump(dict(reversed(sections.items())), sort_keys=False)
    path.write_text("# a comment\n" + turned, encoding="utf-8")
    assert planned.now().why == ""


def a_word_more(notebook):
    book = nbformat.read(notebook, as_version=4)
    book.cells[0].source += " More."
    nbformat.write(book, notebook)


def test_changed_notebook_and_other_root_make_it_run(copied):
    planned = Planned(copied, "04_ablation.ipynb").run()
    assert planned.now(root="elsewhere").why == "changed since it last ran: root"
    a_word_more(planned.notebook)
    assert planned.now().why == "changed since it last ran: the notebook"


# a file that each of these imports directly, by way of another file, as a table, or not at all
@pytest.mark.parametrize(
    ("notebook", "file", "runs"),
    [
        ("04_ablation", "kdig/core/losses.py", True), ("04_ablation", "kdig/core/train.py", True),
        ("04_ablation", "kdig/core/augment.py", True), ("04_ablation", "kdig/study/experiments.py", True),
        ("04_ablation", "kdig/paper/settings.csv", True), ("04_ablation", "kdig/core/methods.py", True),
        ("04_ablation", "kdig/measure/corruptions.py", False), ("04_ablation", "kdig/study/report.py", False),
        ("04_ablation", "kdig/paper/literature.py", False), ("04_ablation", "kdig/study/evidence.py", False),
        ("09_released_results", "kdig/measure/corruptions.py", True),
        ("00_primer", "kdig/core/losses.py", True), ("00_primer", "kdig/core/dataset.py", True),
        ("00_primer", "kdig/core/train.py", False), ("00_primer", "kdig/study/tables/primer.py", True),
        ("01_literature_review", "kdig/paper/literature.py", True),
        ("01_literature_review", "kdig/core/train.py", False),
        ("99_claims", "kdig/study/report.py", True), ("99_claims", "kdig/paper/published/claims.csv", True),
        ("99_claims", "kdig/core/train.py", False),
    ],
)  # fmt: skip
def test_changed_file_makes_the_notebooks_run_that_depend_on_it(notebook, file, runs, copied):
    planned = Planned(copied, f"{notebook}.ipynb").run()
    (copied / file).write_bytes((copied / file).read_bytes() + b"\n")
    assert planned.now().why == (f"changed since it last ran: {file}" if runs else "")


def test_comments_and_docstrings_decide_no_notebook(copied):
    planned, path = Planned(copied, "04_ablation.ipynb").run(), copied / "kdig/core/losses.py"
    source = path.read_text(encoding="utf-8")
    told = re.sub(
        '(?m)^    """Eq. 2.*', '    """Another text, # with a sign.\\n\\n    And more.', source
    )
    path.write_text(f"# a comment\n{told}", encoding="utf-8")
    assert told != source
    assert planned.now().why == ""
    path.write_text(source.replace("gamma: float = 0.0", "gamma: float = 0.1"), encoding="utf-8")
    assert planned.now().why == "changed since it last ran: kdig/core/losses.py"


def test_code_is_what_is_left_without_comments_and_docstrings():
    source = '''"""Of the module."""
a = "# no comment"  # one
# a line of its own
class B:
    """Of the class,

    in three lines."""

    text = """no docstring"""
    def f(self): "of f"
'''
    left = ['a = "# no comment"', "class B:", "", '    text = """no docstring"""']
    left += ['    def f(self): "of f"']
    assert reproduce.code_of(source) == "\n".join(left)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_file_that_is_loaded_with_a_notebook_is_one_of_its_dependencies(path):
    """By what Python has loaded after a notebook's imports and those of what opens it."""
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    modules = [line for line in code.splitlines() if re.match(r"(import kdig|from kdig)", line)]
    opening = f"kdig.study.settings._model({path.stem!r})"
    modules += ["import sys, kdig.study.settings, kdig.study.outputs", opening]
    modules += ["print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('kdig')))"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(modules)], capture_output=True, text=True, check=True
    )
    loaded = {Path(name) for name in done.stdout.split()}
    assert len(loaded) > 9
    decides = {file for file in loaded if reproduce.code_of(file.read_text(encoding="utf-8"))}
    assert decides <= set(dependencies(path))


def test_imports_inside_functions_are_no_dependencies_and_others_are():
    source = """
import kdig.core.files
import torch
from kdig.core import runs, signals as s
from kdig.paper import published
def f():
    from kdig.study import cost
"""
    assert set(imported(source)) == {
        "kdig.core.files", "kdig.core", "kdig.core.runs", "kdig.core.signals", "kdig.paper",
        "kdig.paper.published",
    }  # fmt: skip


def test_changed_drawing_alone_runs_no_notebook_that_trains_and_says_so(copied):
    drawing = copied / "kdig" / "measure" / "plots.py"
    training = Planned(copied, "04_ablation.ipynb").run()
    drawing.write_text(drawing.read_text() + "\n")
    found = training.now()
    assert found.why == ""
    assert found.remark.startswith("; its figures are of another kdig/measure/plots.py (delete ")
    assert "executed/04_ablation.json to redraw)" in found.remark
    edit_profile(copied / "params" / "demo.yaml", "students", epochs=3)
    found = training.now()
    assert found.why == "changed since it last ran: kdig/measure/plots.py, params/demo.yaml"
    assert found.remark == ""


def test_kept_notebook_says_that_its_figures_are_old(copied, capsys):
    drawing = copied / "kdig" / "measure" / "plots.py"
    planned = Planned(copied, "04_ablation.ipynb").run()
    drawing.write_text(drawing.read_text() + "\n")
    run_notebook(planned.notebook, "demo", None, planned.outputs)
    said = capsys.readouterr().out
    assert said.startswith("04_ablation: kept, unchanged since it ran; its figures are of another")
    assert said.count("\n") == 1


def test_many_changes_are_named_in_short(copied):
    planned = Planned(copied, "04_ablation.ipynb").run()
    for file in ("losses", "train", "run", "store", "files", "data"):
        path = copied / "kdig" / "core" / f"{file}.py"
        path.write_text(path.read_text() + "\n")
    said = "kdig/core/data.py, kdig/core/files.py, kdig/core/losses.py, kdig/core/run.py and 2 more"
    assert planned.now().why == f"changed since it last ran: {said}"


def test_changed_table_that_a_notebook_says_it_reads_makes_it_run(copied):
    planned = Planned(copied, "09_released_results.ipynb")
    book = nbformat.read(planned.notebook, as_version=4)
    book.metadata["kdig"] = {"reads": ["05_cold"]}
    nbformat.write(book, planned.notebook)
    tables = planned.outputs.folder / "tables"
    said = "changed since it last ran: table 05_cold"
    planned.run()
    for text in ("a", "b"):
        (tables / "05_cold.csv").write_text(text)
        assert planned.now().why == said
        planned.run()
    (tables / "05_other.csv").write_text("a")
    assert planned.now().why == ""
    (tables / "05_cold.csv").unlink()
    assert planned.now().why == said


def test_claims_run_when_the_facts_of_a_notebook_have_changed(copied):
    claims, other = (Planned(copied, f"{n}.ipynb") for n in ("99_claims", "04_ablation"))
    facts = claims.outputs.folder / "facts" / "05_compression.csv"
    for text in ("a", "b"):
        claims.run(), other.run()
        facts.write_text(text)
        assert claims.now().why == "changed since it last ran: facts of 05_compression"
        assert other.now().why == ""


def test_stamp_follows_everything_that_decides_a_notebook(copied):
    planned, stamps = Planned(copied, "99_claims.ipynb"), []
    facts = planned.outputs.folder / "facts" / "04_ablation.csv"
    changes = [
        lambda: a_word_more(planned.notebook),
        lambda: edit_profile(copied / "params" / "demo.yaml", "99_claims", new=1),
        lambda: facts.write_text("a"),
        lambda: facts.write_text("b"),
        lambda: (copied / "kdig" / "paper" / "__init__.py").write_text(""),
    ]
    for change in [lambda: None, *changes]:
        change()
        stamps.append(json.dumps(planned.now().stamp, sort_keys=True))
    assert len(set(stamps)) == len(stamps)


def test_results_that_are_saved_with_a_notebook_are_no_change_of_it(tmp_path):
    path = tmp_path / "01_x.ipynb"
    book = new_notebook(cells=[new_markdown_cell("text"), new_code_cell("1 + 1")])
    nbformat.write(book, path)
    before = reproduce._as_written(path)
    book.cells[1].outputs = [new_output("stream", text="2")]
    given = new_code_cell("a = 1", metadata={"tags": ["injected-parameters"]})
    nbformat.write(new_notebook(cells=[given, *book.cells]), path)
    assert reproduce._as_written(path) == before
    book.cells[1].source = "1 + 2"
    nbformat.write(book, path)
    assert reproduce._as_written(path) != before


@pytest.mark.parametrize("command", [readme, index])
def test_a_command_that_is_asked_for_help_writes_nothing(command, monkeypatch, capsys):
    monkeypatch.setattr(command, "write", lambda: pytest.fail("it was only asked for help"))
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    assert "usage: python -m kdig.study." in capsys.readouterr().out


def test_a_seal_needs_a_folder(tmp_path, capsys):
    assert seal.main([str(tmp_path / "nowhere")]) == 1
    assert "is no folder: give one such as" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_a_profile_that_does_not_exist_is_not_advised(capsys):
    assert report.main(["nope", "."]) == 1
    assert "no profile 'nope'" in capsys.readouterr().err
