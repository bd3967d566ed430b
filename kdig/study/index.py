"""The map of the notebooks: the question of each, how long it takes, and what of it is there.

`python -m kdig.study.index` writes the map into `notebooks/index.ipynb` and `docs/index.md` anew,
and each notebook's header.
"""

import csv
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pandas as pd

from kdig import KdigError
from kdig.core.files import atomic_write
from kdig.study.command import Parser, exit_code
from kdig.study.notebooks import NOTEBOOKS
from kdig.study.pages import title
from kdig.study.settings import (
    notebooks,
    notebooks_of,
    outputs_of,
    profile_settings,
    project_root,
    trains,
)

_MAP = Path(__file__).with_name("map.csv")


def entries() -> list[dict[str, str]]:
    """Each notebook's name, title, question, and minutes in the demo profile, in their order.

    Raises `KdigError` for a notebook that `map.csv` lacks.
    """
    with _MAP.open(encoding="utf-8") as file:
        known = {row["notebook"]: row for row in csv.DictReader(file)}
    paths = notebooks()
    if lacking := [path.stem for path in paths if path.stem not in known]:
        raise KdigError(f"{_MAP.name} has no line for {', '.join(lacking)}: write its question")
    books = [nbformat.read(path, as_version=4) for path in paths]
    return [{**known[path.stem], "title": title(book)} for path, book in zip(paths, books)]


def map_list(folder: str) -> str:
    """The map as a list in Markdown; `folder` leads to the notebooks."""
    return "\n".join(
        f"- [{row['title']}]({folder}{row['notebook']}.ipynb): {row['question']}"
        for row in entries()
    )


def map_table() -> str:
    """The map as a table in Markdown, for a file beside the notebooks."""
    rows = [
        f"| [{row['title']}]({row['notebook']}.ipynb) | {row['question']} | {row['minutes']} |"
        for row in entries()
    ]
    return "\n".join(["| notebook | question | minutes (demo) |", "|---|---|---|", *rows])


def headers() -> dict[str, str]:
    """The part of each notebook's header that the map knows, in Markdown: its neighbours, its
    question, and its minutes.
    """
    rows = entries()
    return {
        row["notebook"]: _header(row, before, after)
        for before, row, after in zip([None, *rows], rows, [*rows[1:], None])
    }


def _header(
    row: Mapping[str, str], before: Mapping[str, str] | None, after: Mapping[str, str] | None
) -> str:
    ways = [
        f"[← {before['title']}]({before['notebook']}.ipynb)" if before else "",
        "[all notebooks](index.ipynb)",
        f"[{after['title']} →]({after['notebook']}.ipynb)" if after else "",
    ]
    return "\n\n".join(
        [
            " · ".join(way for way in ways if way),
            f"**Question:** {row['question']}",
            f"**Takes:** {_duration(float(row['minutes']))} in the demo profile, on two CPU cores.",
        ]
    )


def _duration(minutes: float) -> str:
    """Such as 30 seconds, a minute, 1.5 minutes."""
    if minutes < 1:
        return f"{60 * minutes:.0f} seconds"
    return "a minute" if minutes == 1 else f"{minutes:g} minutes"


def renewed(text: str, part: str) -> str:
    """`text` with `part` in the place of the map that it holds."""
    return renewed_part(text, "notebooks", part)


def renewed_part(text: str, name: str, part: str) -> str:
    """`text` with `part` between the marks of `name`, if it has them."""
    between = rf"(?<=<!-- {name} -->\n).*(?=<!-- end of {name} -->)"
    return re.sub(between, lambda found: f"{part}\n", text, flags=re.DOTALL)


def states() -> pd.DataFrame:
    """What each profile has of each notebook: a profile's runs that are trained, and whether the
    notebook has run to its end.

    The demo is shown always, another profile when it has left something.
    """
    profiles = [path.stem for path in sorted((project_root() / "params").glob("*.yaml"))]
    begun = [name for name in profiles if name == "demo" or outputs_of(name).folder.is_dir()]
    table = {name: {path.stem: _state(name, path) for path in notebooks_of(name)} for name in begun}
    return pd.DataFrame(table).reindex([path.stem for path in notebooks()]).fillna("")


def _state(profile: str, notebook: Path) -> str:
    """Such as `24 of 24 trained, ran`."""
    ran = "ran" if outputs_of(profile).noted(notebook.stem) else "not yet run"
    return f"{_trained(profile, notebook.stem)}, {ran}" if trains(notebook) else ran


def _trained(profile: str, notebook: str) -> str:
    from kdig.study.cost import runs_of  # torch takes seconds

    try:
        experiment = profile_settings(NOTEBOOKS[notebook], notebook, {"profile": profile})
        runs = {run.key: run for run in runs_of(experiment)}
        students = [run for run in runs.values() if run.role == "student"] or [*runs.values()]
        there = [run for run in students if experiment.stored(run) is not None]
    except KdigError:
        return "its images or teacher are not here"
    return f"{len(there)} of {len(students)} trained"


def main(arguments: list[str] | None = None) -> int:
    """Write the map of the notebooks and their headers anew where they stand."""
    Parser(prog="python -m kdig.study.index", description=main.__doc__).parse_args(arguments)
    return exit_code(write)


def write() -> None:
    """Write the map and the headers. Raises `KdigError` outside of a checkout."""
    page = project_root() / "docs" / "index.md"
    text = renewed(page.read_text(encoding="utf-8"), map_list("../notebooks/"))
    atomic_write(page, lambda part: Path(part).write_text(text, encoding="utf-8"))
    _renew(project_root() / "notebooks" / "index.ipynb", "notebooks", map_table())
    for name, header in headers().items():
        _renew(project_root() / "notebooks" / f"{name}.ipynb", "header", header)


def _renew(path: Path, name: str, part: str) -> None:
    """Put `part` between the marks of `name` in a notebook's cells."""
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        cell.source = renewed_part(cell.source, name, part)
    atomic_write(path, lambda file: nbformat.write(book, file))


if __name__ == "__main__":
    sys.exit(main())
