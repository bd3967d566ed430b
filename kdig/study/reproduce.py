"""Run a profile: `python -m kdig --profile demo`.

Each notebook is one papermill command, which is printed, so that it can be typed by hand; the
report comes last.
"""

import argparse
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter

from kdig import KdigError
from kdig.core.files import alone, atomic_write
from kdig.study.cost import profile_cost
from kdig.study.outputs import Outputs
from kdig.study.report import build_report
from kdig.study.settings import ALLOCATOR, located, outputs_of, parameter_files, project_root


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 when every notebook ran and the report is written."""
    parser = argparse.ArgumentParser(prog="python -m kdig", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--profile", default="demo", help="a folder of params/: demo, lite, paper or your own"
    )
    parser.add_argument(
        "--root",
        help=(
            "folder that holds the pictures (see README); a relative one starts at the project's"
            " folder"
        ),
    )
    parser.add_argument("--only", help="one notebook, such as 04_ablation")
    options = parser.parse_args(arguments)
    # kill stops the notebook, too, as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        reproduce(options.profile, options.root, options.only)
    except KdigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped: what is finished is kept; give the same command again to go on",
            file=sys.stderr,
        )
        return 130
    return 0


def reproduce(profile: str, root: str | None, only: str | None) -> None:
    """Run the notebooks of `profile` in order, `only` one and the claims if it is given, then write
    the report.

    Raises `KdigError` for an unknown profile or notebook, and when a notebook fails.
    """
    project = project_root()
    folder = project / "params" / profile
    if not folder.is_dir():
        known = ", ".join(
            sorted(path.name for path in (project / "params").iterdir() if path.is_dir())
        )
        raise KdigError(f"no profile {profile!r}: params/ has {known}")
    notebooks = sorted((project / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    names = [path.stem for path in notebooks]
    if only and only not in names:
        raise KdigError(f"no notebook {only!r}: choose one of {', '.join(names)}")
    chosen = [path for path in notebooks if only is None or path.stem in (only, "99_claims")]
    outputs = outputs_of(profile)
    todo = [path.stem for path in chosen if not _plan(path, folder, root, outputs)[2]]
    print(profile_cost(folder, todo, root), flush=True)
    for path in chosen:
        run_notebook(path, folder, root, outputs)
    print(f"report: {build_report(outputs, profile)}", flush=True)


def papermill_command(notebook: Path, params: Path, root: str | None, output: Path) -> list[str]:
    """The plain papermill command for one notebook.

    Paths below the working directory are relative, so that it can be passed on.
    """
    accepted = papermill.inspect_notebook(str(notebook))
    here = Path.cwd()
    files = [_within(here, file) for file in parameter_files(params, notebook.stem, accepted)]
    options = ["-k", "python3", "--no-progress-bar", "--stdout-file", "-"]
    command = ["papermill", _within(here, notebook), _within(here, output), *options]
    command += [text for file in files for text in ("-f", file)] + ["-r", "profile", params.name]
    # notebooks take a relative root from the project's folder
    return command + (
        ["-r", "root", _within(project_root(), located(root))]
        if root and "root" in accepted
        else []
    )


def _within(folder: Path, path: Path) -> str:
    """`path`, relative to `folder` if it lies below it."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def run_notebook(notebook: Path, params: Path, root: str | None, outputs: Outputs) -> None:
    """Execute one notebook with papermill in a process of its own, and convert it to HTML.

    A notebook that has run with the same source, parameters and code is not run again. Of two
    processes that run a profile, one executes a notebook and the other waits for it. Raises
    `KdigError` when it fails, which says where the traceback is.
    """
    executed = outputs.folder / "executed" / notebook.name
    done = executed.with_suffix(".json")
    with alone(executed.with_suffix(".lock"), notebook.stem):
        command, stamp, unchanged = _plan(notebook, params, root, outputs)
        if unchanged:
            print(
                f"{notebook.stem}: unchanged since it ran (delete {done} to run it again)",
                flush=True,
            )
            return
        done.unlink(missing_ok=True)
        print(f"\n$ {shlex.join(command)}", flush=True)
        start = time.monotonic()
        _papermill(command, notebook, executed.with_suffix(".error.txt"))
        _to_html(executed)
        seconds = time.monotonic() - start
        outputs.note_run(
            notebook.stem, seconds=round(seconds, 1), command=shlex.join(command), stamp=stamp
        )
        print(f"{notebook.stem}: {seconds:.0f} s", flush=True)


def _papermill(command: list[str], notebook: Path, errors: Path) -> None:
    """Run a command of papermill.

    Raises `KdigError` when it fails, and leaves all that it said in the file `errors`.
    """
    errors.unlink(missing_ok=True)
    environment = {**os.environ, **ALLOCATOR, "PYTHONUNBUFFERED": "1"}
    finished = subprocess.run(
        [sys.executable, "-m", *command], env=environment, stderr=subprocess.PIPE, text=True
    )
    # papermill marks the cells of a killed notebook as completed, so the exit code decides
    if finished.returncode != 0:
        atomic_write(errors, lambda part: Path(part).write_text(finished.stderr, encoding="utf-8"))
        raise KdigError(f"{notebook.name} failed: {_reason(finished.stderr)} (traceback: {errors})")


def _to_html(executed: Path) -> None:
    try:
        page, _ = HTMLExporter(embed_images=True).from_filename(str(executed))
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise KdigError(
            f"{executed} ran, but could not be converted to HTML: {str(error).splitlines()[0]}"
        ) from None
    atomic_write(
        executed.with_suffix(".html"), lambda part: Path(part).write_text(page, encoding="utf-8")
    )


def _plan(
    notebook: Path, params: Path, root: str | None, outputs: Outputs
) -> tuple[list[str], str, bool]:
    """The command for a notebook, its stamp, and whether it has run with this stamp already."""
    executed = outputs.folder / "executed" / notebook.name
    command = papermill_command(notebook, params, root, executed)
    stamp = _stamp(notebook, command, outputs)
    return (
        command,
        stamp,
        executed.with_suffix(".html").exists()
        and outputs.noted(notebook.stem).get("stamp") == stamp,
    )


def _stamp(notebook: Path, command: list[str], outputs: Outputs) -> str:
    """Changes with the notebook, its parameters and the module.

    For the claims also with the facts that the others left.
    """
    module = Path(__file__).parents[1]
    files = [
        notebook,
        *(Path(word) for word in command if word.endswith(".yaml")),
        *module.rglob("*.py"),
        *module.rglob("*.j2"),
        *module.rglob("*.csv"),
    ]
    if notebook.stem.startswith("99"):
        files += (outputs.folder / "facts").glob("*.csv")
    parts = [" ".join(command).encode(), *(path.read_bytes() for path in sorted(files))]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[
        :16
    ]


def _reason(stderr: str) -> str:
    """The last line of an error message that says something: a `KdigError` if there is one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("KdigError:")]
    return (ours or lines or ["no message; it was killed, perhaps for memory"])[-1].removeprefix(
        "KdigError: "
    )
