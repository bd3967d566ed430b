"""What the tables of several notebooks have in common."""

from collections.abc import Mapping

import pandas as pd
from scipy import stats as distributions

from kdig.core.methods import KEYS
from kdig.paper import claims, published, verdicts
from kdig.study.outputs import Facts

# a table, and the facts that it shows
Shown = tuple[pd.DataFrame, Facts]
SOURCE = "numbers printed in arXiv 2506.14440 and released with it"


def facts_of(values: Mapping[str, object], prefix: str) -> Facts:
    """A fact `<prefix>_<name>` for each value."""
    return [{"fact": f"{prefix}_{name}", "value": value} for name, value in values.items()]


def from_paper(facts: Facts) -> Facts:
    """`facts` that were measured on the paper's own numbers, whatever the profile's data."""
    return [fact | {"data": SOURCE} for fact in facts]


def paper_teacher() -> float:
    """The teacher's test accuracy as Table 4 prints it (percent)."""
    return float(published("table4_ablation").set_index("method").acc_max["Teacher"])


def further(runs: pd.Series) -> tuple[float, float]:
    """95 % interval of one further run, from `mean`, `sd` and `n` of those that there are."""
    half = distributions.t.ppf(0.975, runs["n"] - 1) * runs["sd"] * (1 + 1 / runs["n"]) ** 0.5
    return float(runs["mean"] - half), float(runs["mean"] + half)


def by_key(printed: pd.DataFrame, column: str = "method") -> pd.DataFrame:
    """A printed or released table with the key of each row's method as `method`.

    `column` holds the printed labels.
    """
    return printed.assign(method=printed[column].map(KEYS))


def claims_of(notebook: str, facts: Facts, why_not_decided: str) -> pd.DataFrame:
    """The notebook's claims, each beside the fact that measures it and with its verdict.

    The fact's name is the index.
    """
    stated = claims().query("notebook == @notebook").rename(columns={"value": "paper"})
    stated = stated[["where", "statement", "paper", "fact"]]
    columns = ["fact", "value", "low", "high", "n", "p", "data"]
    measured = pd.DataFrame(facts).reindex(columns=columns).astype({"n": float})
    table = stated.merge(measured, on="fact", how="left").astype({"n": "Int64"})
    decided = verdicts(facts, why_not_decided)
    table["verdict"] = [decided.get(fact, "not run") for fact in table.fact]
    return table.set_index("fact")
