"""Copies of the notebooks for a class, all from one source.

`python -m kdig.study.classroom student` writes them without the cells that are tagged `solution`,
into `outputs/classroom/student`; `instructor` keeps these cells. Neither has outputs.
"""

import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbconvert import NotebookExporter
from nbconvert.preprocessors import ClearOutputPreprocessor, TagRemovePreprocessor

from kdig.study.command import Parser, exit_code
from kdig.study.settings import brief, outputs_of, project_root

_DOCS = re.compile(r"\]\(\.\./docs/")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = Parser(prog="python -m kdig.study.classroom", description=__doc__)
    parser.add_argument("whose", choices=("student", "instructor"), help="whose copies")
    whose = parser.parse_args(arguments).whose
    return exit_code(lambda: print(f"{whose}: {len(copies(whose))} notebooks in {_place(whose)}"))


def copies(whose: str) -> list[Path]:
    """Write the copies for a `student` or an `instructor`, in place of those of before."""
    folder = outputs_of("classroom").folder / whose
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written = []
    for path in sorted((project_root() / "notebooks").glob("*.ipynb")):
        written.append(folder / path.name)
        written[-1].write_text(copy_of(path, whose), encoding="utf-8")
    return written


def copy_of(path: Path, whose: str, links: bool = True) -> str:
    """One notebook's copy as text. With `links`, those to the documentation lead there from two
    folders below.
    """
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if links and cell.cell_type == "markdown":
            cell.source = _DOCS.sub("](../../../docs/", cell.source)
    exporter = NotebookExporter()
    exporter.register_preprocessor(ClearOutputPreprocessor(), enabled=True)
    if whose == "student":
        solutions = TagRemovePreprocessor(remove_cell_tags={"solution"})
        exporter.register_preprocessor(solutions, enabled=True)
    text, _ = exporter.from_notebook_node(book)
    return str(text)


def _place(whose: str) -> Path:
    return brief(outputs_of("classroom").folder / whose)


if __name__ == "__main__":
    sys.exit(main())
