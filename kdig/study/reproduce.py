"""Run a profile: `python -m kdig --profile demo`.

Each notebook is one papermill command, which is printed, so that it can be typed by hand; the
report comes last.
"""

import ast
import functools
import hashlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from kdig import KdigError
from kdig.core.environment import cores
from kdig.core.files import alone, atomic_write
from kdig.study.command import Parser, exit_code
from kdig.study.depends import dependencies
from kdig.study.outputs import Outputs
from kdig.study.report import current_report
from kdig.study.settings import (
    ALLOCATOR,
    brief,
    located,
    notebooks_of,
    outputs_of,
    project_root,
    sections_of,
    teachers_file,
    trains,
)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 when every notebook ran and the report is written."""
    parser = Parser(prog="python -m kdig", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--profile",
        default="demo",
        help="a file of params/: demo, lite, evidence, paper or your own",
    )
    parser.add_argument(
        "--root",
        help=(
            "folder that holds the images (docs/running.md); a relative one starts at the project's"
            " folder"
        ),
    )
    parser.add_argument(
        "--only", nargs="+", action="extend", default=[], help="notebooks, such as 04_ablation"
    )
    options = parser.parse_args(arguments)
    # kill stops the notebook, too, as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return exit_code(lambda: reproduce(options.profile, options.root, options.only))


def reproduce(profile: str, root: str | None, only: Sequence[str] = ()) -> None:
    """Run the notebooks of `profile` in order, `only` some and the claims if they are given, then
    write the report.

    Raises `KdigError` for an unknown profile or notebook, and when a notebook fails.
    """
    of_profile = notebooks_of(profile)
    names = [path.stem for path in of_profile]
    if unknown := [name for name in only if name not in names]:
        raise KdigError(
            f"no notebook {unknown[0]!r} in profile {profile}: choose one of {', '.join(names)}"
        )
    chosen = [path for path in of_profile if not only or path.stem in {*only, "99_claims"}]
    outputs = outputs_of(profile)
    todo = [path.stem for path in chosen if plan(path, profile, root, outputs).why]
    if todo:
        from kdig.study.cost import profile_cost  # torch takes seconds

        print(profile_cost(profile, todo, root), flush=True)
    for group in _side_by_side(chosen):
        share = max(1, cores() // min(len(group), _AT_ONCE))
        run = functools.partial(
            run_notebook, profile=profile, root=root, outputs=outputs, share=share
        )
        _run_group(group, run)
    print(f"report: {current_report(outputs, profile)}", flush=True)


# notebooks at once: while one starts its kernel or draws, another trains
_AT_ONCE = 2
_running: set[subprocess.Popen[str]] = set()


def _side_by_side(paths: Sequence[Path]) -> list[list[Path]]:
    """Notebooks in groups whose members may run at once, in their order.

    One that measures times says in its metadata that it runs alone; the claims come after all
    others.
    """
    groups: list[list[Path]] = [[]]
    for path in paths:
        if path.stem.startswith("99") or _said(path, "alone"):
            groups += [[path], []]
        else:
            groups[-1].append(path)
    return [group for group in groups if group]


def _said(notebook: Path, name: str) -> Any:
    """What a notebook says of itself under `kdig` in its metadata."""
    return nbformat.read(notebook, as_version=4).metadata.get("kdig", {}).get(name)


def _run_group(group: Sequence[Path], run: Callable[[Path], None]) -> None:
    """Call `run` for every notebook, a few at once; no more are begun after one has failed."""
    with futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        given = [pool.submit(run, path) for path in group]
        try:
            for done in futures.as_completed(given):
                done.result()
        except KdigError:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                process.kill()
            raise


def papermill_command(notebook: Path, profile: str, root: str | None, output: Path) -> list[str]:
    """The plain papermill command for one notebook.

    Paths below the working directory are relative, so that it can be passed on.
    """
    here = Path.cwd()
    options = ["-k", "python3", "--no-progress-bar", "--stdout-file", "-"]
    command = ["papermill", _within(here, notebook), _within(here, output), *options]
    command += ["-r", "profile", profile]
    # notebooks take a relative root from the project's folder
    place = ["-r", "root", _within(project_root(), located(root))] if root else []
    return command + (place if trains(notebook) else [])


def _within(folder: Path, path: Path) -> str:
    """`path`, relative to `folder` if it lies below it."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def run_notebook(
    notebook: Path, profile: str, root: str | None, outputs: Outputs, share: int | None = None
) -> None:
    """Execute one notebook with papermill in a process of its own, and convert it to HTML.

    A notebook that has run with what it depends on as it is now is not run again; one line says
    why it is run or kept. `share` is the number of CPU cores that it may use (None: all). Of two
    processes that run a profile, one executes a notebook and the other waits for it. Raises
    `KdigError` when it fails, which says where the traceback is.
    """
    executed = outputs.folder / "executed" / notebook.name
    done = executed.with_suffix(".json")
    with alone(executed.with_suffix(".lock"), notebook.stem):
        made = plan(notebook, profile, root, outputs)
        if not made.why:
            print(f"{notebook.stem}: kept, unchanged since it ran{made.remark}", flush=True)
            return
        done.unlink(missing_ok=True)
        command = papermill_command(notebook, profile, root, executed)
        print(f"\n{notebook.stem}: runs, {made.why}\n$ {shlex.join(command)}", flush=True)
        start = time.monotonic()
        _papermill(command, notebook, executed.with_suffix(".error.txt"), share or cores())
        _to_html(executed, profile)
        seconds = round(time.monotonic() - start, 1)
        outputs.note_run(
            notebook.stem, seconds=seconds, command=shlex.join(command), stamp=made.stamp
        )
        print(f"{notebook.stem}: {seconds:.0f} s", flush=True)


def _papermill(command: list[str], notebook: Path, errors: Path, share: int) -> None:
    """Run a command of papermill on `share` CPU cores.

    Raises `KdigError` when it fails, and leaves all that it said in the file `errors`.
    """
    errors.unlink(missing_ok=True)
    # threads of two notebooks on the same cores would wait for each other
    limits = {"KDIG_CORES": str(share), "OMP_NUM_THREADS": str(share)}
    environment = {**os.environ, **ALLOCATOR, **limits, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=complaints,
            encoding="utf-8",
        )
        _running.add(process)
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{notebook.stem} | {line.rstrip()}", flush=True)
        process.wait()
        _running.discard(process)
        complaints.seek(0)
        said = complaints.read()
    # papermill marks the cells of a killed notebook as completed, so the exit code decides
    if process.returncode != 0:
        atomic_write(errors, lambda part: Path(part).write_text(said, encoding="utf-8"))
        raise KdigError(f"{notebook.name} failed: {_reason(said)} (traceback: {errors})")


def _to_html(executed: Path, profile: str) -> None:
    from kdig.study.pages import page_of  # a second, which a finished profile need not wait

    try:
        page = page_of(executed, [path.stem for path in notebooks_of(profile)])
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise KdigError(
            f"{executed} ran, but could not be converted to HTML: {str(error).splitlines()[0]}"
        ) from None
    atomic_write(
        executed.with_suffix(".html"), lambda part: Path(part).write_text(page, encoding="utf-8")
    )


class Plan(NamedTuple):
    """What a notebook depends on, why it must run (empty: it need not), and a remark if it need
    not.
    """

    stamp: dict[str, str]
    why: str
    remark: str


# Figures alone depend on this file: a change to it re-executes no notebook that trains.
_DRAWING = "kdig/measure/plots.py"


def plan(notebook: Path, profile: str, root: str | None, outputs: Outputs) -> Plan:
    """Whether a notebook must run, from what it depends on now and what it did when it last ran."""
    stamp = stamp_of(notebook, profile, root, outputs)
    before = outputs.noted(notebook.stem).get("stamp")
    if not (outputs.folder / "executed" / notebook.with_suffix(".html").name).exists():
        return Plan(stamp, "it has not run to its end yet", "")
    if not isinstance(before, dict):
        return Plan(stamp, "its last run says nothing of what it read", "")
    changed = changes(before, stamp)
    if changed == [_DRAWING] and trains(notebook):
        done = brief(outputs.folder / "executed" / f"{notebook.stem}.json")
        return Plan(stamp, "", f"; its figures are of another {_DRAWING} (delete {done} to redraw)")
    return Plan(stamp, f"changed since it last ran: {few(changed)}" if changed else "", "")


def stamp_of(notebook: Path, profile: str, root: str | None, outputs: Outputs) -> dict[str, str]:
    """What decides a notebook's results now: name -> digest."""
    return {name: _digest(content) for name, content in _reads(notebook, profile, root, outputs)}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names under which two stamps differ."""
    return sorted(n for n in now.keys() | before.keys() if now.get(n) != before.get(n))


def few(names: Sequence[str]) -> str:
    """The first four of `names`, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _as_written(notebook: Path) -> bytes:
    """A notebook's cells without what a run adds: outputs, and the cell with papermill's values."""
    book = nbformat.read(notebook, as_version=4)
    tagged = ((cell, cell.metadata.get("tags", [])) for cell in book.cells)
    cells = [
        [c.cell_type, c.source, tags] for c, tags in tagged if "injected-parameters" not in tags
    ]
    return json.dumps([cells, book.metadata.get("kdig")]).encode()


@functools.cache
def code_of(source: str) -> str:
    """A module's lines without comments and docstrings, which decide no result.

    Not `ast.unparse`, whose text another version of Python writes in another way.
    """
    lines, gone = source.splitlines(), set[int]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            if not lines[text.lineno - 1][: text.col_offset].strip():  # no code before it
                gone |= set(range(text.lineno, (text.end_lineno or 0) + 1))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
            if not lines[row - 1]:
                gone.add(row)
    return "\n".join(line for row, line in enumerate(lines, 1) if row not in gone)


_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _reads(
    notebook: Path, profile: str, root: str | None, outputs: Outputs
) -> Iterator[tuple[str, bytes]]:
    """Everything that decides what a notebook gives, by name: itself, its parameters, the code of
    the module that it imports, and the tables of other notebooks that it says it reads.
    """
    yield "the notebook", _as_written(notebook)
    sections = sections_of(profile, notebook.stem)
    yield f"params/{profile}.yaml", json.dumps(sections).encode()
    for teacher in filter(None, (section.get("teacher") for section in sections)):
        path = teachers_file(str(teacher))
        yield f"teacher {teacher}", path.read_bytes() if path.is_file() else b""
    yield "root", str(root).encode()
    for path in dependencies(notebook):
        content = path.read_text(encoding="utf-8")
        written = code_of(content) if path.suffix == ".py" else content
        yield str(path.relative_to(Path(__file__).parents[2])), written.encode()
    for table in _said(notebook, "reads") or []:
        path = outputs.folder / "tables" / f"{table}.csv"
        yield f"table {table}", path.read_bytes() if path.exists() else b""
    if notebook.stem.startswith("99"):
        for path in sorted((outputs.folder / "facts").glob("*.csv")):
            yield f"facts of {path.stem}", path.read_bytes()


def _reason(stderr: str) -> str:
    """The last line of an error message that says something: a `KdigError` if there is one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("KdigError:")]
    return (ours or lines or ["no message; it was killed, perhaps for memory"])[-1].removeprefix(
        "KdigError: "
    )
