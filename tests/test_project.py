"""The project's own promises: notebooks, parameter files and environments agree with each other and
with the module.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from kdig import KdigError
from kdig.core.locked import lock_name, lock_text
from kdig.core.networks import LEVELS
from kdig.paper import published
from kdig.study import experiments
from kdig.study.outputs import Outputs
from kdig.study.reproduce import _stamp, main, papermill_command, run_notebook
from kdig.study.settings import parameter_values

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODELS = {
    path.stem: experiments.NOTEBOOKS.get(path.stem, experiments.Settings) for path in NOTEBOOKS
}


def names(paths):
    return [path.stem for path in paths]


def profile_values(profile, notebook):
    return parameter_values(ROOT / "params" / profile, notebook, MODELS[notebook].model_fields)


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
        if "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) <= 25, f"{cell.id} is longer than a screen"
        assert not re.search(r"""["'](\.\./|/[a-z])""", cell.source), (
            f"{cell.id} holds a path literal"
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names(NOTEBOOKS))
def test_notebook_defaults_are_the_demo_profile(path):
    """nbval runs the parameters cell as it is written, so it must say what the YAML files say."""
    declared = papermill.inspect_notebook(str(path))
    defaults = {
        name: yaml.safe_load(p["default"].replace("None", "null")) for name, p in declared.items()
    }
    assert set(defaults) == set(MODELS[path.stem].model_fields)
    assert defaults.pop("profile") == "demo"
    expected = profile_values("demo", path.stem)
    assert {name: defaults[name] for name in expected} == expected
    assert set(defaults) - set(expected) <= {"root", "download"}
    assert all(p["help"] for p in declared.values()), "each parameter has a comment"


@pytest.mark.parametrize("profile", ["demo", "lite", "paper"])
@pytest.mark.parametrize("notebook", MODELS)
def test_parameter_files_are_accepted(profile, notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    values = profile_values(profile, notebook)
    experiments.check(MODELS[notebook], {"profile": profile, **values})


def test_paper_profile_is_the_papers():
    values = profile_values("paper", "04_ablation")
    paper = {
        "alpha": 0.01,
        "temperature": 2.5,
        "probability": 0.1,
        "gamma": 0.8,
        "epochs": 100,
        "batch_size": 64,
        "learning_rate": 1e-3,
    }
    assert {name: values[name] for name in paper} == paper
    assert len(values["seeds"]) == 10
    assert LEVELS[values["level"]] == (13, 9)


@pytest.mark.parametrize("profile", ["paper", "lite"])
def test_table_3_is_searched_whole(profile):
    values, grids = (
        profile_values(profile, "03_hyperparameters"),
        published("table3_search_space").groupby("hyperparameter").value,
    )
    for name, symbol in {
        "temperatures": "T",
        "alphas": "alpha",
        "probabilities": "p",
        "gammas": "gamma",
    }.items():
        assert sorted(values[name]) == sorted(grids.get_group(symbol)), name


def test_paper_profile_repeats_and_sweeps_as_the_paper():
    values = profile_values("paper", "06_monte_carlo")
    assert (values["repetitions"], values["share"], values["train_images"]) == (60, 0.8, None)
    assert values["methods"] == ["student", "kd", "kd_ig", "kd_ig_at"]
    assert profile_values("paper", "03_hyperparameters")["share"] == 0.8
    assert profile_values("paper", "05_compression")["levels"] == list(range(1, 9))


def test_notebooks_of_the_demo_share_the_ablations_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))

    def keys(notebook, runs=lambda settings: settings.runs("abc")):
        settings = experiments.check(
            MODELS[notebook], {"profile": "demo", **profile_values("demo", notebook)}
        )
        return {run.key for run in runs(settings)}

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
        ROOT / "notebooks" / "04_ablation.ipynb",
        ROOT / "params" / "lite",
        "pictures",
        tmp_path / "o.ipynb",
    )
    text = " ".join(command)
    assert text.startswith("papermill ")
    assert text.index("shared.yaml") < text.index("students.yaml") < text.index("04_ablation.yaml")
    assert "-r profile lite" in text
    assert str(ROOT) not in text, (
        "a command that is passed on should not hold this machine's folders"
    )
    assert text.endswith("-r root pictures")
    claims = papermill_command(
        ROOT / "notebooks" / "99_claims.ipynb",
        ROOT / "params" / "lite",
        "pictures",
        tmp_path / "o.ipynb",
    )
    assert "-f" not in claims
    assert "root" not in claims


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--profile", "nosuch"], "params/ has demo"), (["--only", "05_x"], "choose one of 01_")],
)
def test_runner_refuses_what_it_does_not_know(arguments, said, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


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
for module in pkgutil.iter_modules(kdig.__path__):
    importlib.import_module(f"kdig.{module.name}")
after = settings()
assert after == before, {name: (before[name], after[name]) for name in before if before[name] != after[name]}
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_package_loads_no_torch():
    code = "import kdig, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_output_of_this_machine_is_committed():
    tracked = subprocess.run(
        ["git", "ls-files", "outputs"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert all(path.startswith("outputs/reference/") for path in tracked)


def small_project(folder: Path, code: str) -> tuple[Path, Path]:
    """A notebook of one cell, and its empty profile, in the project's layout."""
    notebook, profile = folder / "notebooks" / "50_small.ipynb", folder / "params" / "demo"
    notebook.parent.mkdir()
    profile.mkdir(parents=True)
    parameters = nbformat.v4.new_code_cell(
        'profile: str = "demo"', metadata={"tags": ["parameters"]}
    )
    book = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(code)])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, notebook)
    return notebook, profile


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
    notebook, profile = small_project(tmp_path, "print(profile)")
    outputs = Outputs(tmp_path / "outputs" / "demo")

    def runs() -> bool:
        run_notebook(notebook, profile, None, outputs)
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


def test_traceback_of_a_notebook_is_kept_until_it_succeeds(tmp_path, capsys):
    notebook, profile = small_project(tmp_path, f"print(open({str(tmp_path / 'given')!r}).read())")
    outputs = Outputs(tmp_path / "outputs" / "demo")
    errors = outputs.folder / "executed" / "50_small.error.txt"
    with pytest.raises(
        KdigError, match=rf"50_small\.ipynb failed: FileNotFoundError: .* \(traceback: {errors}\)"
    ):
        run_notebook(notebook, profile, None, outputs)
    assert "Traceback" in errors.read_text()
    (tmp_path / "given").write_text("here")
    run_notebook(notebook, profile, None, outputs)
    assert not errors.exists()


def test_a_notebook_wanted_by_two_processes_is_executed_once(tmp_path, capfd):
    notebook, profile = small_project(tmp_path, "print(profile)")
    outputs = Outputs(tmp_path / "outputs" / "demo")
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: run_notebook(notebook, profile, None, outputs), range(2)))
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
        command = papermill_command(
            ROOT / "notebooks" / "04_ablation.ipynb",
            ROOT / "params" / "lite",
            given,
            tmp_path / "o.ipynb",
        )
        assert command[-3:] == ["-r", "root", meant]


def test_printed_command_can_be_copied_though_a_path_has_a_space(tmp_path, capsys, monkeypatch):
    given, outputs = (
        ["papermill", "a notebook.ipynb", "it's.ipynb", "--version"],
        Outputs(tmp_path / "my results"),
    )
    monkeypatch.setattr("kdig.study.reproduce.papermill_command", lambda *arguments: given)
    notebook = ROOT / "notebooks" / "99_claims.ipynb"
    with pytest.raises(KdigError):
        run_notebook(notebook, ROOT / "params" / "demo", None, outputs)
    assert shlex.split(capsys.readouterr().out.strip().removeprefix("$ ")) == given


def test_stamp_follows_source_parameters_and_facts(tmp_path):
    notebook, parameters = tmp_path / "99_claims.ipynb", tmp_path / "99_claims.yaml"
    outputs = Outputs(tmp_path / "outputs")
    facts = outputs.folder / "facts" / "04_ablation.csv"
    facts.parent.mkdir(parents=True)
    stamps = []
    for path in (notebook, parameters, facts):
        for text in ("a", "b"):
            path.write_text(text)
            stamps.append(
                _stamp(
                    notebook,
                    ["papermill", *([str(parameters)] if parameters.exists() else [])],
                    outputs,
                )
            )
    assert len(set(stamps)) == len(stamps)
