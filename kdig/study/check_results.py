"""Are the files of a kept profile as they were written, and do facts, tables and executed notebooks
belong together?
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from kdig.paper import claims, decide
from kdig.study import seal
from kdig.study.check import EDITED, STALE, Check, age, found
from kdig.study.exhibits import written_by
from kdig.study.outputs import Outputs
from kdig.study.reproduce import few

_CLAIMS = "99_claims"
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_WHY = {
    "changed": (EDITED, "it is not what was sealed"),
    "removed": (EDITED, "it was there when the folder was sealed"),
    "added": (STALE, "it was added after the folder was sealed"),
}


def as_sealed(folder: Path) -> Iterator[Check]:
    """Every file against its digest in `SHA256SUMS`."""
    then, wrong = seal.read(folder), seal.differences(folder)
    if not then:
        yield Check(f"{folder.name}: files", STALE, f"no {seal.SEAL} says what they were")
        return
    kept = Counter(name.partition("/")[0] for name in then if name not in wrong)
    for group, count in kept.items():
        yield Check(f"{folder.name}/{group}: {count} of its files as sealed")
    for name, word in wrong.items():
        yield Check(f"{folder.name}/{name}", *_WHY[word])


def facts_shown(folder: Path) -> Iterator[Check]:
    """Every fact against the table or figure that it names."""
    for notebook, rows in Outputs(folder).all_facts().groupby("notebook"):
        drawn = _drawn(folder / "executed" / f"{notebook}.ipynb")
        facts = list(zip(rows.fact, rows["item"], rows.value))
        places = {fact: _place(folder, item, value, drawn) for fact, item, value in facts}
        lost = [fact for fact, place in places.items() if not place]
        counts = Counter(place for place in places.values() if place)
        whole = ", ".join(f"{count} {place}" for place, count in counts.items())
        what = f"{folder.name}/facts/{notebook}.csv"
        yield found(what, lost, f"of its facts {whole}", age(folder, str(notebook)))


def _place(folder: Path, item: str, value: float, drawn: set[str]) -> str:
    """Where a fact stands, in words; empty where what it names is not there."""
    table = folder / "tables" / f"{item}.csv"
    if not item:
        return "stand here alone"
    if table.is_file():
        return "stand in their table" if stands_in(table, value) else "are made of their table"
    return "are of a figure" if item in drawn else ""


def stands_in(table: Path, value: float) -> bool:
    """Whether a number, or its opposite, stands in a table, rounded as the table rounds it."""
    values, margins = _numbers(table.read_text(encoding="utf-8"))
    return bool((np.abs(values - abs(value)) <= margins).any())


@functools.lru_cache(maxsize=4)
def _numbers(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The sizes of the numbers in a text, and how far each may be from the one it was rounded
    from.
    """
    parts = [number.partition("e") for number in _NUMBER.findall(text)]
    values = np.array([abs(float("".join(part))) for part in parts])
    places = np.array([len(p[0].partition(".")[2]) - int(p[2] or 0) for p in parts], dtype=float)
    return values, np.where(places > 0, 0.500001 * 10.0**-places, 1e-9)


def _drawn(notebook: Path) -> set[str]:
    """The figures that an executed notebook writes."""
    if not notebook.is_file():
        return set()
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return set().union(*(written_by(source, ("figure",)) for source in code))


def facts_read(folder: Path) -> Iterator[Check]:
    """Every file of facts against what the notebook of the claims noted when it read it."""
    if not (folder / "executed" / f"{_CLAIMS}.json").is_file():
        return
    noted = Outputs(folder).noted(_CLAIMS).get("stamp")
    what = f"{folder.name}/facts: as {_CLAIMS} read them"
    if not isinstance(noted, dict):
        yield Check(what, STALE, age(folder, _CLAIMS))
        return
    files = sorted((folder / "facts").glob("*.csv"))
    other = [f.name for f in files if seal.digest(f)[:16] != noted.get(f"facts of {f.stem}")]
    newer = f"{few(other)} changed since {_CLAIMS} ran"
    yield Check(what, STALE, newer) if other else Check(f"{what}, {len(files)} files")


def claims_decided(folder: Path) -> Iterator[Check]:
    """The table of claims against what the rules give for the facts."""
    path = folder / "tables" / f"{_CLAIMS}.csv"
    if not path.is_file():
        return
    table = pd.read_csv(path, keep_default_na=False).set_index("id")
    decided = decide(claims(), Outputs(folder).all_facts()).set_index("id")
    both = [table, decided]
    names = sorted(set(table.index) | set(decided.index))
    wrong = [n for n in names if len({_verdict(t, n) for t in both}) > 1]
    what = f"{folder.name}/tables/{path.name}"
    yield found(what, wrong, f"{len(names)} claims by rule", age(folder, _CLAIMS))


def _verdict(table: pd.DataFrame, claim: str) -> tuple[str, str] | None:
    """Verdict and evidence of a claim; None for one that the table lacks."""
    if claim not in table.index:
        return None
    return str(table.loc[claim, "verdict"]), str(table.loc[claim, "evidence"])


def executed(folder: Path) -> Iterator[Check]:
    """Every executed notebook against its source and the files of the module as they are now."""
    for path in sorted((folder / "executed").glob("*.json")):
        why = age(folder, path.stem)
        what = f"{folder.name}/executed/{path.stem}.ipynb"
        yield Check(what, STALE, why) if why else Check(f"{what}: of today's code")
