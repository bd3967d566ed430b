"""Which files of the module a notebook depends on, from the imports that it and they begin with."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import nbformat

from kdig.study.notebooks import NOTEBOOKS, module_of

PACKAGE = Path(__file__).parents[1]
# what `kdig.open_notebook` needs
_OPENING = {"kdig.study.settings", "kdig.study.outputs", "kdig.study.notebooks"}


def dependencies(notebook: Path) -> list[Path]:
    """The files of the module that a notebook imports, directly or by way of others, and the
    published tables if it reads the paper's side.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    own = {module_of(notebook.stem)} if notebook.stem in NOTEBOOKS else set()
    return files_of({*imported(code), *_OPENING, *own})


def files_of(modules: set[str]) -> list[Path]:
    """The files of `modules` and of all that they import, and the published tables if the paper's
    side is among them.
    """
    found: set[Path] = set()
    left = set(modules)
    while left:
        module = left.pop()
        path = _path(module)
        if path and path not in found:
            found.add(path)
            left |= set(_imports_of(path))
    paper = PACKAGE / "paper"
    tables = paper.rglob("*.csv") if paper / "__init__.py" in found else ()
    return sorted([*found, *tables])


@functools.cache
def _imports_of(path: Path) -> frozenset[str]:
    return frozenset(imported(path.read_text(encoding="utf-8")))


def imported(source: str) -> Iterator[str]:
    """The modules of kdig that a file imports outside its functions."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("kdig"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdig"):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _path(module: str) -> Path | None:
    """The file of a module of kdig; None for a name that is none."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)
