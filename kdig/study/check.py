"""One line of `make verify`, and what makes a difference a matter of age."""

import functools
from pathlib import Path
from typing import NamedTuple

from kdig.study.outputs import Outputs
from kdig.study.reproduce import changes, few, stamp_of
from kdig.study.settings import project_root, teachers_file

VERIFIED, STALE, EDITED = "verified", "stale", "edited by hand"


class Check(NamedTuple):
    """What was checked, one of the three words, and why it is not verified."""

    what: str
    word: str = VERIFIED
    why: str = ""

    def __str__(self) -> str:
        because = {VERIFIED: "", STALE: f" because {self.why}", EDITED: f": {self.why}"}
        return f"{self.what}: {self.word}{because[self.word]}"


def found(what: str, wrong: list[str], whole: str, stale: str = "") -> Check:
    """`whole` is verified, unless something is `wrong` with it: then it is `stale` for that reason,
    or edited by hand.
    """
    if not wrong:
        return Check(f"{what}: {whole}")
    return (
        Check(what, STALE, f"{stale} ({few(wrong)})") if stale else Check(what, EDITED, few(wrong))
    )


@functools.cache
def age(folder: Path, notebook: str) -> str:
    """Why a notebook's results are of an earlier state; empty when they are not."""
    source = project_root() / "notebooks" / f"{notebook}.ipynb"
    before = Outputs(folder).noted(notebook).get("stamp")
    if not source.exists():
        return f"there is no notebook {notebook} any more"
    if not isinstance(before, dict):
        return f"an earlier version of kdig ran {notebook} and did not note what it read"
    now = stamp_of(source, folder.name, None, Outputs(folder))
    changed = [name for name in changes(before, now) if name != "root" and not _absent(name)]
    return f"{few(changed)} changed since {notebook} ran" if changed else ""


def _absent(name: str) -> bool:
    """Whether it is a given teacher whose file is not here, and so cannot be compared."""
    kind, _, given = name.partition(" ")
    return kind == "teacher" and not teachers_file(given).is_file()
