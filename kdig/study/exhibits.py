"""What the report shows of a profile's outputs: figures, tables, executed notebooks, and the data
and machines of the runs.
"""

import ast
import base64
import io
import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from PIL import Image

from kdig.core.files import reading
from kdig.study import wording
from kdig.study.outputs import WRITE_AGAIN, Outputs, read_caption, read_table

Row = dict[str, Any]

# tables that repeat what the page itself shows
_REPEATED = ("99_claims", "99_findings", "99_verdicts")

# what runs of earlier versions do not say about their environment
_LATER = {"kernels": "not recorded", "lock": "not recorded"}
# what is shown of a run's environment; records hold more
_SHOWN = ("data", "device", "kernels", "threads", "torch", "python", "lock", "git")


class Books:
    """The executed notebooks: their links, and what each has made."""

    def __init__(self, outputs: Outputs, folder: Path, facts: pd.DataFrame) -> None:
        self.notes = _executed(outputs.folder)
        self.links = {name: _copy(folder, name) for name in self.notes}
        self.cells = {n: _cells(outputs.folder / "executed" / f"{n}.ipynb") for n in self.notes}
        self.makers = dict(zip(facts["item"], facts.notebook))
        self.places: dict[str, list[tuple[str, str]]] = {}
        self._place(outputs.folder)

    def _place(self, folder: Path) -> None:
        """(text, link) of every table and figure: in the report, and the cell of the executed
        notebook that makes it.
        """
        for kind in ("table", "figure"):
            for path in sorted((folder / f"{kind}s").glob("*.txt")):
                link = (f"{kind} {path.stem}", f"#{kind}-{path.stem}")
                self.places.setdefault(path.stem, []).append(link)
        for name, cells in self.cells.items():
            for cell in (cell for cell in cells if cell.cell_type == "code"):
                for item in written_by(cell.source) & set(self.places):
                    self.makers[item] = name
                    anchor = f"#cell-id={cell.id}" if self.links[name].endswith(".html") else ""
                    link = (f"cell {cell.id} of {name}", self.links[name] + anchor)
                    self.places[item].append(link)

    def shown(self, drawn: list[Row], tabled: list[Row]) -> list[Row]:
        """Each notebook with its figures and tables, in order."""
        made = [self.makers.get(item["name"], "other") for item in (*drawn, *tabled)]
        return [
            {
                "name": name,
                "title": self._title(name),
                "link": self.links.get(name, ""),
                "note": self.notes.get(name),
                "figures": [f for f in drawn if self.makers.get(f["name"], "other") == name],
                "tables": [t for t in tabled if self.makers.get(t["name"], "other") == name],
            }
            for name in sorted({*made, *self.notes})
        ]

    def _title(self, name: str) -> str:
        """The first heading of a notebook, without its marks."""
        for cell in self.cells.get(name, []):
            if cell.cell_type == "markdown" and cell.source.startswith("# "):
                return str(cell.source.splitlines()[0].lstrip("# "))
        return name


def _copy(folder: Path, notebook: str) -> str:
    """Link to the copy of a notebook that lies in `folder`."""
    rendered = folder / "executed" / f"{notebook}.html"
    return f"executed/{notebook}.{'html' if rendered.exists() else 'ipynb'}"


def written_by(source: str, kinds: Collection[str] = ("table", "figure")) -> set[str]:
    """The tables and figures that a cell writes: `name` of each `out.table(..., name, ...)` and
    `out.figure(..., name, ...)`.
    """
    with suppress(SyntaxError):
        return {
            given.value
            for call in ast.walk(ast.parse(source))
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in kinds
            for given in call.args[1:2]
            if isinstance(given, ast.Constant) and isinstance(given.value, str)
        }
    return set()  # such as a cell with a line magic


def _executed(folder: Path) -> dict[str, dict[str, Any]]:
    """What is noted of each notebook that has run to its end.

    One whose note cannot be read has not.
    """
    notes = {
        path.stem: Outputs(folder).noted(path.stem)
        for path in sorted((folder / "executed").glob("*.json"))
    }
    return {notebook: note for notebook, note in notes.items() if note}


def _cells(path: Path) -> list[Any]:
    with reading(path, WRITE_AGAIN):
        try:
            cells: list[Any] = nbformat.read(path, as_version=4).cells
        except nbformat.ValidationError as error:
            raise ValueError(str(error)) from None
        return cells


def tables(folder: Path) -> list[Row]:
    """Every table with its caption, its heads in words, and its rows as text."""
    paths = sorted((folder / "tables").glob("*.csv"))
    return [_table(path) for path in paths if path.stem not in _REPEATED]


def _table(path: Path) -> Row:
    table, caption = read_table(path), read_caption(path)
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    return {
        "name": path.stem,
        "caption": caption,
        "heads": [(column, wording.head(column)) for column in table.columns],
        "rows": [
            [(_cell(value), is_number) for value, is_number in zip(row, numeric)]
            for row in table.astype(object).to_numpy().tolist()
        ],
    }


def _cell(value: Any) -> str:
    if isinstance(value, str) or pd.api.types.is_bool(value):
        return str(value)
    return "" if pd.isna(value) else wording.number(float(value))


def figures(folder: Path) -> list[Row]:
    return [_figure(path) for path in sorted((folder / "figures").glob("*.png"))]


def _figure(path: Path) -> Row:
    return {
        "name": path.stem,
        "caption": read_caption(path),
        "source": _as_source(path.read_bytes()),
        "path": path,
    }


def _as_source(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def narrow(figure: Row, width: int) -> str:
    """A figure at most `width` pixels wide, in few colours, as the address of an image."""
    image = Image.open(figure["path"]).convert("RGB")
    image.thumbnail((width, width), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    image.quantize(64).save(small, "PNG")
    return _as_source(small.getvalue())


def environments(folder: Path) -> list[Row]:
    """What data and machine the stored runs used: one row for each combination, with the number of
    runs and their hours.
    """
    made = [_made(path) for path in sorted((folder / "runs").glob("*.json"))]
    if not made:
        return []
    grouped = pd.DataFrame(made).groupby(list(_SHOWN), sort=False, dropna=False)
    counted = grouped.hours.agg(["size", "sum"]).reset_index()
    result: list[Row] = counted.rename(columns={"size": "runs", "sum": "hours"}).to_dict("records")
    return result


def _made(path: Path) -> Row:
    with reading(path, "delete it to make the run again"):
        run = json.loads(path.read_text(encoding="utf-8"))
        return {
            **_LATER,
            **run["environment"],
            "data": run["data_label"],
            "hours": run["seconds"] / 3600,
        }
