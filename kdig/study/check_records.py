"""Are the records of runs and scores what their names say, and do tables of runs come out of them?"""

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from kdig.core.files import reading
from kdig.core.methods import METHODS, TERMS
from kdig.study.check import Check, age, found
from kdig.study.keys import key_of, protocol
from kdig.study.outputs import Outputs, read_table

Row = dict[str, Any]
_FINGERPRINT = re.compile(r"fingerprint ([0-9a-f]{16})")


def finished_runs(folder: Path) -> Iterator[Check]:
    """Every record against its file's name, and its data against what the facts name."""
    runs = _stored(folder / "runs")
    misnamed = [key for key, record in runs.items() if key_of(record["run"]) != key]
    whole = f"{len(runs)} names are the keys of their runs, by protocol {protocol()} of the code"
    yield found(f"{folder.name}/runs", misnamed, whole)
    other = [key for key, record in runs.items() if _label(record) != {record["run"]["data"]}]
    yield found(f"{folder.name}/runs: data", other, "each label names its run's data")
    facts = Outputs(folder).all_facts()
    named = set(_FINGERPRINT.findall(" ".join(facts.data.astype(str))))
    strange = sorted(named - {record["run"]["data"] for record in runs.values()})
    if named:
        whole = f"their data is that of the runs, {', '.join(sorted(named))}"
        yield found(f"{folder.name}/facts", strange, whole)


def _label(record: Mapping[str, Any]) -> set[str]:
    """The fingerprints in a record's label of its data; the run's own where it names none."""
    return set(_FINGERPRINT.findall(record["data_label"])) or {record["run"]["data"]}


def scores(folder: Path) -> Iterator[Check]:
    """Every score against the record whose weights it tried, and against its own name."""
    runs, kept = _stored(folder / "runs"), _stored(folder / "scores")
    wrong = [name for name, score in kept.items() if not _belongs(name, score, runs)]
    whole = f"{len(kept)} belong to the weights of their runs"
    yield found(f"{folder.name}/scores", wrong, whole)


def _belongs(name: str, score: Row, runs: Mapping[str, Row]) -> bool:
    """Whether a score has the weights that its name stands for, on the images that it says, and
    whole numbers of them right.
    """
    of, images = score["scoring"], score["scoring"]["images"]
    key = name.partition("-")[0]
    named = name.endswith(f"-{of['split']}-{images or 'all'}")
    if key == "teacher":
        return named and name.split("-")[1] == score["weights"]
    answered = len(base64.b64decode(score["predictions"])) // 2  # two bytes an image
    whole = all(_whole(row["accuracy"] * answered / 100) for row in score["epochs"])
    here = key in runs and runs[key]["weights"] == score["weights"]
    return named and whole and here and images in (None, answered)


def _whole(number: float) -> bool:
    return math.isclose(number, round(number), abs_tol=1e-4)


def run_tables(folder: Path) -> Iterator[Check]:
    """Every table with a row a run against the records of its runs."""
    runs, kept = _stored(folder / "runs"), _stored(folder / "scores")
    for path in sorted((folder / "tables").glob("*_runs.csv")):
        table = read_table(path)
        if "run" not in table:
            continue
        rows = [row for row in table.to_dict("records") if not _recorded(row, runs, kept)]
        wrong = [f"run {row['run']}" for row in rows]
        whole = f"{len(table)} rows come out of their records"
        yield found(f"{folder.name}/tables/{path.name}", wrong, whole, _age(folder, path.stem))


def _age(folder: Path, table: str) -> str:
    """Why the notebooks whose number a table bears are of an earlier state."""
    names = [path.stem for path in sorted((folder / "executed").glob(f"{table[:2]}_*.json"))]
    return next(filter(None, (age(folder, name) for name in names)), "")


def _recorded(row: Row, runs: Mapping[str, Row], kept: Mapping[str, Row]) -> bool:
    """Whether a row of a table is what the record and one of the scores of its run say.

    Keys of an earlier version are not known any more; then any run may be the one.
    """
    wanted = {row["run"]} & runs.keys() or runs.keys()
    tried = [(name.partition("-")[0], score) for name, score in kept.items()]
    return any(_same(row, _row(runs[key], score)) for key, score in tried if key in wanted)


def _row(record: Row, score: Row) -> Row:
    """What `runs.frame` says of a run and one of its scores."""
    run, accuracies = record["run"], [epoch["accuracy"] for epoch in score["epochs"]]
    weights = {term.weight for term in TERMS if run[term.weight]}
    method = next(name for name, method in METHODS.items() if method.weights == weights)
    return {
        "method": "teacher" if run["role"] == "teacher" else method,
        "seed": run["seed"],
        "accuracy": accuracies[-1],
        "best_epoch_accuracy": None if score.get("later") else max(accuracies),
        "parameters": record["parameters"],
        "seconds": record["seconds"],
    }


def _same(row: Row, recorded: Row) -> bool:
    return all(_equal(row[name], value) for name, value in recorded.items() if name in row)


def _equal(one: Any, two: Any) -> bool:
    if pd.isna(one) or two is None:
        return bool(pd.isna(one)) and two is None
    return one == two if isinstance(two, str) else math.isclose(one, two, rel_tol=1e-9)


_NEEDED = {
    "runs": {"run", "history", "weights", "data_label"},
    "scores": {"weights", "scoring", "epochs", "predictions"},
}


def _stored(folder: Path) -> dict[str, Row]:
    """Name -> content of every record in a folder. Raises `KdigError` for one that is broken."""
    found, needed = {}, _NEEDED.get(folder.name, set())
    for path in sorted(folder.glob("*.json")):
        with reading(path, "take it from the repository's history"):
            found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
            if lacking := sorted(needed - set(found[path.stem])):
                raise ValueError(f"it has no {lacking[0]}")
    return found
