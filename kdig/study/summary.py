"""What the two-page summary says beside what the report's page has: `summary.html`."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from kdig.core.methods import LABELS
from kdig.paper import published
from kdig.study import wording

Row = dict[str, Any]


def values(facts: pd.DataFrame, content: Mapping[str, Any]) -> Row:
    """What the summary's template takes beside the report's `content`."""
    known = {row["fact"]: row for row in facts.to_dict("records")}
    found = [finding for _, rows, _ in content["groups"] for finding in rows]
    return {
        "say": lambda sentence: wording.filled(sentence, known),
        "conclusions": [finding for finding in found if finding["central"] == "conclusions"],
        "differing": {word: _says(found, word) for word in _DIFFERING},
        "ablation": ablation(facts),
        "targets": wording.filled(wording.TARGETS, known),
        "runs": sum(row["runs"] for row in content["environments"]),
        "hours": sum(row["hours"] for row in content["environments"]),
        "devices": _different(content["environments"], "device"),
        "images": _different(content["environments"], "data"),
    }


_DIFFERING = ("text and code differ", "inconsistent")


def _says(found: Iterable[Row], verdict: str) -> list[str]:
    """The findings of one verdict, in the paper's order."""
    return [finding["says"] for finding in found if finding["verdict"] == verdict]


def _different(rows: Iterable[Row], name: str) -> list[str]:
    """The values that runs have under a name; the fingerprint is for the report."""
    return list(dict.fromkeys(str(row[name]).partition(", fingerprint")[0] for row in rows))


def ablation(facts: pd.DataFrame) -> list[Row]:
    """Table 4: method, the paper's mean and sd, and mean, interval and n of the runs made here.

    Empty where a profile has not made them.
    """
    ours = facts.set_index("fact")
    printed = published("table4_ablation").set_index("method")
    names = {key: f"ablation_{key}" for key in LABELS}
    if not set(names.values()) <= set(ours.index):
        return []
    return [
        {"method": LABELS[key], "paper": printed.loc[LABELS[key]], "ours": ours.loc[name]}
        for key, name in names.items()
    ]
