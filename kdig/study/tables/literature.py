"""The tables of `01_literature_review`: Figure 1, Table 2 and the correlation of section 1.3.

The arithmetic is that of `kdig.paper.literature`. Needs no torch.
"""

import numpy as np
import pandas as pd

from kdig.paper import literature, published
from kdig.study.outputs import Facts
from kdig.study.tables.shared import Shown, facts_of

PREFIX = "literature"
PRINTED_R, PRINTED_P = -0.114, 0.414  # section 1.3
# the articles whose students exceed their teachers, as section 1.3 names them
NAMED = {"ashok": "Ashok et al. (2017)", "gou": "Gou et al. (2023)"}
PAIRS = [name + end for name in literature.STATISTICS for end in ("_printed", "")]


def years(rows: pd.DataFrame) -> Facts:
    """First and last year of the rows of Tables S1 to S4."""
    return facts_of({"first_year": rows.year.min(), "last_year": rows.year.max()}, PREFIX)


def means(rows: pd.DataFrame) -> Shown:
    """Figure 1's means by choice of rows."""
    factor = rows.dropna(subset=["cf"])
    values = {"mean_factor": factor.cf.mean(), "mean_accuracy": factor.distilled_acc.mean()}
    facts = [fact | {"n": len(factor)} for fact in facts_of(values, PREFIX)]
    return literature.means(rows), facts


def unexplained(checked: pd.DataFrame, name: str) -> Shown:
    """The rows of a check (`literature.check_deltas` and its like) whose printed number does not
    follow; `name` is that of the check's fact.
    """
    fact = {"fact": f"{PREFIX}_{name}_follow", "value": checked.follows.sum(), "n": len(checked)}
    return checked[~checked.follows], [fact]


def ranges(rows: pd.DataFrame) -> Shown:
    """Ranges of factors and accuracy changes, which section 1.3 states."""
    table = literature.ranges(rows)
    found = table.set_index("quantity")
    quantities = {"factor": "factor above zero", "delta": "change recomputed"}
    values = {
        f"{end}_{key}": found.loc[quantity, end]
        for key, quantity in quantities.items()
        for end in ("smallest", "largest")
    }
    return table, facts_of(values, PREFIX)


def better(rows: pd.DataFrame) -> Shown:
    """Rows whose student is more accurate than its teacher, by article."""
    by_article = rows[rows.delta > 0].groupby("article", sort=False).delta
    table = by_article.agg(["size", "max"]).reset_index()
    counts = table.set_index("article")["size"]
    facts = facts_of({key: counts.get(name, 0) for key, name in NAMED.items()}, f"{PREFIX}_better")
    return table.rename(columns={"size": "rows", "max": "largest change"}), facts


def table2(rows: pd.DataFrame) -> Shown:
    """Table 2, printed beside recomputed from the rows with a factor."""
    articles = literature.by_dataset(rows)[["slug", "articles"]]
    ours = literature.by_dataset(rows.dropna(subset=["cf"])).drop(columns="articles")
    printed = literature.table2(published("table2_dataset_summary"))
    both = printed.merge(ours.merge(articles, on="slug"), on="slug", suffixes=("_printed", ""))
    facts: Facts = [
        {"fact": f"table2_{row.slug}_{column}", "value": row[column], "n": row["rows"]}
        for column in (*literature.STATISTICS, "articles")
        for _, row in both.iterrows()
    ]
    return both[["dataset", *PAIRS, "count", "rows", "articles"]], facts


def explained(rows: pd.DataFrame) -> Shown:
    """Table 2 beside the rows and signs that give all of its means and medians.

    The facts hold how many cells these meet, and their correlation, which section 1.3 prints.
    """
    chosen, printed = literature.explained(rows), published("table2_dataset_summary")
    ours = literature.by_dataset(chosen)
    both = literature.table2(printed).merge(ours, on="slug", suffixes=("_printed", ""))
    met = literature.cells_met(printed, chosen, "delta_printed")
    r = literature.correlate(chosen.cf.to_numpy(), chosen.delta_printed.to_numpy(), "Pearson")
    ends = {"low": r["low"], "high": r["high"], "n": r["n"], "p": r["p"]}
    facts: Facts = [
        {"fact": f"{PREFIX}_explained_cells", "value": met["cells"], "n": met["of"]},
        {"fact": f"{PREFIX}_explained_counts", "value": met["rows"], "n": len(printed)},
        {"fact": f"{PREFIX}_explained_r", "value": r["r"], **ends},
        {"fact": f"{PREFIX}_explained_p", "value": r["p"], "n": r["n"]},
    ]
    return both[["dataset", *PAIRS, "count", "rows"]], facts


def sign_changes(rows: pd.DataFrame) -> Shown:
    """The single changes of a sign that give all cells of Table 2, each with its correlation.

    `r_and_p` says whether both are those of section 1.3: within half a unit of the third decimal,
    and of the fourth, from which a number may have been rounded again.
    """
    every = literature.sign_changes(published("table2_dataset_summary"), rows)
    off = np.maximum((every.r - PRINTED_R).abs(), (every.p - PRINTED_P).abs())
    every["r_and_p"] = off <= 0.0005 + 0.00005
    all_cells = every["cells met"] == every["cells met"].max()
    counts = {"all_cells": all_cells.sum(), "all": (all_cells & every.r_and_p).sum()}
    facts = [fact | {"n": len(every)} for fact in facts_of(counts, f"{PREFIX}_one_sign")]
    return every[all_cells | every.r_and_p], facts


def correlations(rows: pd.DataFrame) -> Shown:
    """Correlation of factor and accuracy change, for several choices of rows and single data sets.

    The facts are about Pearson's r of the rows with a factor, and whether the printed r and p
    belong together.
    """
    whole = literature.correlations(literature.correlation_sets(rows))
    inside = literature.correlations(literature.within(rows))
    r = whole.query(
        "rows == 'rows with a factor' and change == 'as printed' and measure == 'Pearson'"
    ).iloc[0]
    facts: Facts = [
        {"fact": f"{PREFIX}_r", "value": r.r, "low": r.low, "high": r.high, "n": r.n, "p": r.p},
        {"fact": f"{PREFIX}_p", "value": r.p, "n": r.n},
        {"fact": f"{PREFIX}_p_of_printed_r", **p_of_printed_r()},
    ]
    return pd.concat([whole, inside]), facts


def p_of_printed_r() -> dict[str, float]:
    """p of the printed r for as many rows as Table 2 counts, and its range by rounding of r."""
    n = int(published("table2_dataset_summary").n_articles_as_printed.sum())
    ends = (literature.p_of_r(PRINTED_R + half, n) for half in (0.0005, -0.0005))
    low, high = sorted(ends)
    return {"value": literature.p_of_r(PRINTED_R, n), "low": low, "high": high, "n": n}
