"""The box *In one minute* at the top of a notebook: its main sentences, as code has made them."""

import html
from typing import Any

from IPython import get_ipython
from IPython.display import HTML, DisplayHandle, display

_WAITING = "The last cell of this notebook fills this box, from the data."


class Minute:
    """The main sentences of a notebook, in the order in which its cells first said them.

    A cell that is run again says its own anew, and doubles none.
    """

    def __init__(self) -> None:
        self._said: dict[str, list[str]] = {}  # cell -> its main sentences
        self._run: tuple[str, int] | None = None  # the cell that spoke last, and its count
        self._box: DisplayHandle | None = None
        self._filled = False

    @property
    def sentences(self) -> list[str]:
        """All of them."""
        return [text for some in self._said.values() for text in some]

    def show(self) -> None:
        """Show the box here; nothing outside of a notebook."""
        if get_ipython() is not None:
            self._box = display(HTML(self._html()), display_id=True)

    def add(self, text: str) -> None:
        """Note a sentence of the cell that is running."""
        cell, count = _running()
        if (cell, count) != self._run:
            self._run, self._said[cell] = (cell, count), []
        if text not in self.sentences:
            self._said[cell].append(text)
        if self._filled:
            self.fill()

    def fill(self) -> None:
        """Put what has been said into the box, wherever it stands."""
        self._filled = True
        if self._box is not None:
            self._box.update(HTML(self._html()))

    def _html(self) -> str:
        lines = self.sentences if self._filled else []
        points = "".join(f"<li>{html.escape(text)}</li>" for text in lines)
        inside = f"<ul>{points}</ul>" if points else f"<p>{_WAITING}</p>"
        style = "border-left: 4px solid #0072b2; padding: 0.2em 1em;"
        return f'<div style="{style}"><h2 style="margin: 0.3em 0">In one minute</h2>{inside}</div>'


def _running() -> tuple[str, int]:
    """The cell that is running: its id where the front end tells it, else its source; and how many
    cells have run.
    """
    shell: Any = get_ipython()
    if shell is None:
        return "", 0
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    sources = shell.user_ns.get("In") or [""]
    cell = (parent or {}).get("metadata", {}).get("cellId") or sources[-1]
    return str(cell), int(shell.execution_count)
