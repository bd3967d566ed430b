"""`outputs/<profile>`: the tables, figures and facts that notebooks leave for each other and for
the report, each written whole.
"""

import html
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure

from kdig.core.files import atomic_write, reading

FACT = ["fact", "value", "low", "high", "interval", "n", "p"]


def as_facts(
    table: pd.DataFrame, prefix: str, by: str, columns: dict[str, str]
) -> list[dict[str, object]]:
    """Facts `<prefix>_<row's by><suffix>` from each row of `table`; `columns` maps suffix to value
    column.

    `low`, `high`, `interval`, `n` and `p` go along where the table has them.
    """
    shared = [name for name in ("low", "high", "interval", "n", "p") if name in table.columns]
    return [
        {
            "fact": f"{prefix}_{row[by]}{suffix}",
            "value": row[column],
            **{name: row[name] for name in shared},
        }
        for row in table.to_dict("records")
        for suffix, column in columns.items()
    ]


def captioned(table: pd.DataFrame) -> str:
    """HTML of a table, under the caption that `Outputs.table` has given it."""
    caption, body = table.attrs.get("caption"), table.to_html(max_rows=60, notebook=True)
    return f"{_as_html(caption)}{body}" if caption else body


def _as_html(caption: str) -> str:
    return f"<p><em>{html.escape(caption)}</em></p>"


class Outputs:
    """One profile's output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, data: pd.DataFrame, name: str, caption: str) -> pd.DataFrame:
        """Write `tables/<name>.csv` and its caption, and return `data`, which a cell can end in to
        show both.

        The file has a header always, without which it could not be read: a frame without columns
        gets `(empty)`.
        """
        written = data if len(data.columns) else pd.DataFrame(columns=["(empty)"])
        atomic_write(
            self.folder / "tables" / f"{name}.csv", lambda part: written.to_csv(part, index=False)
        )
        atomic_write(
            self.folder / "tables" / f"{name}.txt",
            lambda part: Path(part).write_text(caption, encoding="utf-8"),
        )
        shown = data.copy()
        shown.attrs["caption"] = caption
        return shown

    def figure(self, figure: Figure, name: str, caption: str) -> None:
        """Write `figures/<name>.png` and `.svg` with the caption beside them.

        In a notebook, show the figure over its caption.
        """
        for kind in ("png", "svg"):
            path = self.folder / "figures" / f"{name}.{kind}"
            atomic_write(path, lambda part: figure.savefig(part, dpi=110, bbox_inches="tight"))
        atomic_write(
            self.folder / "figures" / f"{name}.txt",
            lambda part: Path(part).write_text(caption, encoding="utf-8"),
        )
        plt.close(figure)
        if get_ipython() is not None:
            display(figure, HTML(_as_html(caption)))

    def facts(
        self,
        notebook: str,
        data: str,
        comparable: bool,
        rows: list[dict[str, object]],
        reason: str | None = None,
    ) -> pd.DataFrame:
        """Write `facts/<notebook>.csv`, the measured side of the claims.

        Each row has `fact` and `value`, and where it applies `low`, `high`, `n`, `p`, and
        `interval`, which names what `low` and `high` are (a 95 % interval if it is left out).
        `data` says what was measured on, `comparable` whether data and settings are the paper's, so
        that a claim about its results can be decided, and `reason`, in words, why not; a row that
        was measured on something else has its own `data`, and its own `comparable` and `reason`.
        """
        common = {"data": data, "comparable": comparable, "reason": reason or None}
        own = {
            "data": data,
            "reason": None,
        }  # why the others are not comparable says nothing about a row that has its own say
        facts = pd.DataFrame(
            [(own if "comparable" in row else common) | row for row in rows]
        ).reindex(columns=[*FACT, *common])
        facts.insert(len(FACT), "notebook", notebook)
        facts["interval"] = (
            facts["interval"].astype(object).where(facts["interval"].notna(), "95 % interval")
        )
        atomic_write(
            self.folder / "facts" / f"{notebook}.csv", lambda part: facts.to_csv(part, index=False)
        )
        return facts

    def all_facts(self) -> pd.DataFrame:
        """The facts that this profile's notebooks have written so far.

        Raises `KdigError` for a file that cannot be read.
        """
        found = [read_table(path) for path in sorted((self.folder / "facts").glob("*.csv"))]
        columns = [*FACT, "notebook", "data", "comparable", "reason"]
        return (
            pd.concat(found, ignore_index=True).reindex(columns=columns)
            if found
            else pd.DataFrame(columns=columns)
        )

    def note_run(self, notebook: str, **values: object) -> None:
        """Write `executed/<notebook>.json`, last of all: the notebook's run is complete."""
        path = self.folder / "executed" / f"{notebook}.json"
        atomic_write(
            path, lambda part: Path(part).write_text(json.dumps(values, indent=1), encoding="utf-8")
        )

    def noted(self, notebook: str) -> dict[str, Any]:
        """What `note_run` has kept of a notebook.

        Empty when it has not run, or when the file cannot be read.
        """
        with suppress(OSError, ValueError):
            values = json.loads(
                (self.folder / "executed" / f"{notebook}.json").read_text(encoding="utf-8")
            )
            return values if isinstance(values, dict) else {}
        return {}


# a file that a notebook wrote, and that a power failure or a full disk has spoilt
WRITE_AGAIN = (
    "delete it and the .json file of its notebook in executed/, and run the notebook again"
)


def read_table(path: Path) -> pd.DataFrame:
    """The CSV file at `path`. Raises `KdigError` when it cannot be read."""
    with reading(path, WRITE_AGAIN):
        return pd.read_csv(path)


def read_caption(path: Path) -> str:
    """The caption beside the table or figure at `path`. Raises `KdigError` when there is none."""
    with reading(path.with_suffix(".txt"), WRITE_AGAIN):
        return path.with_suffix(".txt").read_text(encoding="utf-8")
