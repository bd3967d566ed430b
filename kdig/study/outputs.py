"""`outputs/<profile>`: the tables, figures and facts that notebooks leave for each other and for
the report, each written whole.
"""

import html
import json
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, display
from matplotlib.figure import Figure

from kdig.core.files import atomic_write, reading
from kdig.study.minute import Minute

Facts = list[dict[str, object]]

FACT = ["fact", "value", "low", "high", "interval", "n", "p"]
COLUMNS = [*FACT, "item", "notebook", "data", "why_not_decided"]
# what is said of facts in files that earlier versions wrote
EARLIER = "an earlier version of kdig wrote this: run the notebook again"


def as_facts(table: pd.DataFrame, prefix: str, by: str, columns: dict[str, str]) -> Facts:
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


def _entitle(figure: Figure, title: str) -> None:
    """Put `title` over `figure`, in lines that are no wider than it."""
    lines = textwrap.fill(title, int(9.5 * figure.get_figwidth()))
    figure.suptitle(lines, x=0.01, ha="left", fontsize="medium", fontweight="bold")


class Outputs:
    """One profile's output folder.

    A table or figure is written together with the facts that it shows. They are noted here until
    `facts` writes those of the whole notebook.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # (table or figure, its name) -> its facts; a cell that is run again replaces its own
        self._shown: dict[tuple[str, str], Facts] = {}
        self._minute = Minute()

    def table(
        self, data: pd.DataFrame, name: str, caption: str, facts: Facts | None = None
    ) -> pd.DataFrame:
        """Write `tables/<name>.csv` and its caption, note the `facts` that it shows, and return
        `data`, which a cell can end in to show both.

        The file has a header always, without which it could not be read: a frame without columns
        gets `(empty)`.
        """
        self._shown["table", name] = list(facts or [])
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

    def figure(
        self, figure: Figure, name: str, caption: str, facts: Facts | None = None, title: str = ""
    ) -> None:
        """Write `figures/<name>.png` and `.svg` with the caption beside them, and note the `facts`
        that the figure shows.

        `title` stands over the figure and says what was found, or what to see. In a notebook, show
        the figure over its caption.
        """
        self._shown["figure", name] = list(facts or [])
        if title:
            _entitle(figure, title)
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

    def in_one_minute(self) -> None:
        """Show the box that `facts` or `sum_up` fills with the notebook's main sentences."""
        self._minute.show()

    def say(self, text: str, main: bool = False) -> None:
        """Show what a table or figure says, in a sentence that code has made from the data. A
        `main` sentence stands in the box *In one minute*, too.

        Raises `ValueError` for a sentence without a number.
        """
        if not any(sign.isdigit() for sign in text):
            raise ValueError(f"a result is said with its number: {text!r}")
        if main:
            self._minute.add(text)
        if get_ipython() is not None:
            display(HTML(f"<p><strong>Result.</strong> {html.escape(text)}</p>"))

    def sum_up(self) -> None:
        """Fill the box *In one minute* with the main sentences so far."""
        self._minute.fill()

    def split(self, parts: pd.DataFrame, name: str) -> None:
        """Write `splits/<name>.csv`: which images (`id`) lie in which `part` of the data."""
        path = self.folder / "splits" / f"{name}.csv"
        atomic_write(path, lambda part: parts.to_csv(part, index=False))

    def facts(
        self, notebook: str, data: str, why_not_decided: str, rows: Facts | None = None
    ) -> pd.DataFrame:
        """Write `facts/<notebook>.csv`, the measured side of the claims: the facts of every table
        and figure so far, and `rows`, which none shows.

        Each has `fact` and `value`, and where it applies `low`, `high`, `n`, `p`, and `interval`,
        which names what `low` and `high` are (a 95 % interval if it is left out). `item` is the
        table or figure. `data` says what was measured on, and `why_not_decided`, in words, what
        keeps claims about results undecided: "" when data and settings are the paper's. A fact
        that was measured on something else has its own `data`, and its own `why_not_decided`.

        The file is replaced as a whole, so nothing stays of a notebook that was run before. Then
        the box *In one minute* is filled. Raises `ValueError` for a fact that is given twice.
        """
        common = {"data": data, "why_not_decided": why_not_decided, "item": ""}
        shown = [{"item": item} | row for (_, item), some in self._shown.items() for row in some]
        facts = pd.DataFrame([common | row for row in [*shown, *(rows or [])]])
        facts = facts.assign(notebook=notebook).reindex(columns=COLUMNS)
        if facts.fact.duplicated().any():
            twice = ", ".join(sorted(set(facts.fact[facts.fact.duplicated()])))
            raise ValueError(f"facts are given twice: {twice}")
        facts["interval"] = (
            facts["interval"].astype(object).where(facts["interval"].notna(), "95 % interval")
        )
        atomic_write(
            self.folder / "facts" / f"{notebook}.csv", lambda part: facts.to_csv(part, index=False)
        )
        self.sum_up()
        return facts

    def all_facts(self) -> pd.DataFrame:
        """The facts that this profile's notebooks have written so far.

        Raises `KdigError` for a file that cannot be read.
        """
        found = [_read_facts(path) for path in sorted((self.folder / "facts").glob("*.csv"))]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)

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


_NUMBERS = {"value", "low", "high", "n", "p"}


def _read_facts(path: Path) -> pd.DataFrame:
    """A file of facts. Those of an earlier version decide no claim about results.

    Raises `KdigError` for a file that holds something else.
    """
    facts = read_table(path)
    with reading(path, WRITE_AGAIN):
        if lacking := sorted({"fact", "value"} - set(facts)):
            raise ValueError(f"no column {lacking[0]}")
        facts = facts.assign(**{name: facts[name].astype(float) for name in _NUMBERS & set(facts)})
    missing = {"item": "", "why_not_decided": EARLIER}
    for name, default in missing.items():
        facts[name] = facts[name].astype(object).fillna("") if name in facts else default
    return facts.reindex(columns=COLUMNS)


def read_caption(path: Path) -> str:
    """The caption beside the table or figure at `path`. Raises `KdigError` when there is none."""
    with reading(path.with_suffix(".txt"), WRITE_AGAIN):
        return path.with_suffix(".txt").read_text(encoding="utf-8")
