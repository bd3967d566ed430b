"""The literature review (section 1.3, Figure 1, Tables 2 and S1-S4), recomputed from the printed
rows. Needs no torch.

`rows` turns the transcription into one table; everything else takes that table. An accuracy change
is in percentage points, a compression factor is the teacher's number of parameters over the
student's.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from scipy import stats

Measure = Literal["Pearson", "Pearson, log factor", "Spearman"]
MEASURES: tuple[Measure, ...] = ("Pearson", "Pearson, log factor", "Spearman")
DELTAS = {"delta_printed": "as printed", "delta": "recomputed"}
STATISTICS = ("delta_mean", "delta_median", "cf_mean", "cf_median")
HALF = 0.005  # of a number printed with two decimals
# Rows whose models the transcription inferred from the factor; here is what Table S3 prints on
# their lines.
PRINTED_IN_S3 = {
    ("Su et al. (2022)", "CIFAR-100"): ("ResNet-152", "60.19M", "ResNet-50", "25.56M"),
    ("Chen et al. (2019a)", "CIFAR-100"): ("AlexNet", "711M", "AlexNet-Half", "222M"),
}
MARKERS = "osD^vP*Xph<"
COLOURS = [*sns.color_palette("colorblind", 10).as_hex(), "#332288"]


def parameters(text: str) -> tuple[float, float]:
    """A printed parameter count such as '155.21k' or '2.25M', and half a unit of its last digit,
    both in parameters.
    """
    scale = {"k": 1e3, "M": 1e6}[text[-1]]
    decimals = len(text[:-1].partition(".")[2])
    return round(float(text[:-1]) * scale, 3), 0.5 * 10.0**-decimals * scale


def rows(printed: pd.DataFrame) -> pd.DataFrame:
    """Tables S1-S4 as one table: accuracies in percent, parameter counts as numbers, `delta` from
    the two accuracies.

    `cf` and `delta_printed` are as printed, and so are the models and counts of two rows whose
    models the transcription inferred.
    """
    table = printed.rename(
        columns={
            "student_baseline_acc": "baseline_acc",
            "student_distilled_acc": "distilled_acc",
            "compression_factor": "cf",
            "delta_acc_as_printed": "delta_printed",
            "relative_delta_as_printed": "relative_printed",
        }
    )
    names = ["teacher_model", "teacher_params", "student_model", "student_params"]
    for (article, dataset), values in PRINTED_IN_S3.items():
        table.loc[(table.article == article) & (table.dataset == dataset), names] = values
    for who in ("teacher", "student"):
        table[f"{who}_parameters"] = [
            parameters(t)[0] if isinstance(t, str) else np.nan for t in table[f"{who}_params"]
        ]
    table["delta"] = (table.distilled_acc - table.teacher_acc).round(2)
    table["note"] = table.note.str.removesuffix(", so the models here are inferred")
    table["training_accuracy"] = table.is_training_accuracy.astype(bool)
    return table.drop(columns="is_training_accuracy")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """How many rows, articles and data sets Tables S1-S4 hold, and how many of the rows are
    special.
    """
    counts = {
        "rows": len(table),
        "articles": table.article.nunique(),
        "data sets": table.dataset.nunique(),
        "rows with a factor": table.cf.notna().sum(),
        "of these, factor zero": (table.cf == 0).sum(),
        "training accuracies": table.training_accuracy.sum(),
        "first year": table.year.min(),
        "last year": table.year.max(),
    }
    return pd.DataFrame({"Tables S1-S4": list(counts), "number": list(counts.values())})


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean factor and mean accuracies (percent) of three choices of rows.

    Figure 1's caption prints one of each.
    """
    factor = table.dropna(subset=["cf"])
    sets = {
        "all rows": table,
        "rows with a factor": factor,
        "without factor zero": factor[factor.cf > 0],
    }
    return pd.DataFrame(
        {
            "rows": name,
            "n": len(part),
            "factor": part.cf.mean(),
            "student": part.distilled_acc.mean(),
            "teacher": part.teacher_acc.mean(),
        }
        for name, part in sets.items()
    )


def ranges(table: pd.DataFrame) -> pd.DataFrame:
    """Smallest and largest factor and accuracy change, each with and without what section 1.3's
    ranges leave out.
    """
    quantities = {
        "factor": table.cf,
        "factor above zero": table.cf[table.cf > 0],
        "change as printed": table.delta_printed,
        "change recomputed": table.delta,
    }
    return pd.DataFrame(
        {"quantity": name, "smallest": x.min(), "largest": x.max()}
        for name, x in quantities.items()
    )


def rounding_range(
    function: Callable[..., float], values: Sequence[float], halves: Sequence[float]
) -> tuple[float, float]:
    """Least and greatest `function` when each value may be off by its half unit.

    For functions that are monotone in each value.
    """
    ends = [(value - half, value + half) for value, half in zip(values, halves)]
    found = [function(*corner) for corner in itertools.product(*ends)]
    return min(found), max(found)


def _follows(printed: float, low: float, high: float) -> bool:
    return bool(low - HALF - 1e-9 <= printed <= high + HALF + 1e-9)


def relative_delta(teacher: float, baseline: float, distilled: float) -> float:
    """How much of the gap between baseline student and teacher distillation closes, in percent
    (Tables S1 and S2).
    """
    return 100 * (distilled - baseline) / (teacher - baseline)


def check_deltas(table: pd.DataFrame) -> pd.DataFrame:
    """Each printed accuracy change beside distilled minus teacher's accuracy.

    `follows` within rounding of all three.
    """
    checked = table[
        ["article", "dataset", "teacher_acc", "distilled_acc", "delta_printed", "delta"]
    ].copy()
    follows = [
        _follows(p, d - 2 * HALF, d + 2 * HALF) for p, d in zip(table.delta_printed, table.delta)
    ]
    return checked.assign(difference=(table.delta_printed - table.delta).round(2), follows=follows)


def check_relative(table: pd.DataFrame) -> pd.DataFrame:
    """Each printed relative change beside its recomputation.

    `low` to `high` is what rounding of the accuracies allows.
    """
    columns = ["teacher_acc", "baseline_acc", "distilled_acc"]
    known = table.dropna(subset=[*columns, "relative_printed"])
    checked = known[["article", "dataset", *columns, "relative_printed"]].copy()
    values = list(zip(*(known[column] for column in columns)))
    ranges = [rounding_range(relative_delta, row, [HALF] * 3) for row in values]
    checked["relative"] = [relative_delta(*row) for row in values]
    checked["low"], checked["high"] = zip(*ranges)
    checked["follows"] = [_follows(p, *r) for p, r in zip(known.relative_printed, ranges)]
    return checked


def check_factors(table: pd.DataFrame) -> pd.DataFrame:
    """Each printed compression factor beside the ratio of the printed parameter counts.

    `low` to `high` is what rounding of both counts allows (half a unit of their last digits); a
    factor within that range, give or take half a hundredth for its own rounding, follows.
    """
    known = table.dropna(subset=["teacher_params", "student_params", "cf"])
    checked = known[["article", "dataset", "teacher_params", "student_params", "cf"]].copy()
    counts = [
        (parameters(t), parameters(s)) for t, s in zip(known.teacher_params, known.student_params)
    ]
    ranges = [rounding_range(lambda t, s: t / s, (t[0], s[0]), (t[1], s[1])) for t, s in counts]
    checked["from_parameters"] = [t[0] / s[0] for t, s in counts]
    checked["low"], checked["high"] = zip(*ranges)
    checked["follows"] = [_follows(p, *r) for p, r in zip(known.cf, ranges)]
    return checked


def slug(name: str) -> str:
    """A data set's name without case and punctuation, since Tables 2 and S1 write some names
    differently.
    """
    return re.sub("[^a-z0-9]", "", name.lower())


def by_dataset(table: pd.DataFrame, delta: str = "delta_printed") -> pd.DataFrame:
    """Mean and median of accuracy change and factor, rows and distinct articles of each data set,
    as Table 2 has them.
    """
    groups = table.assign(slug=table.dataset.map(slug)).groupby("slug", sort=False)
    columns = {
        "delta_mean": groups[delta].mean(),
        "delta_median": groups[delta].median(),
        "cf_mean": groups.cf.mean(),
        "cf_median": groups.cf.median(),
        "rows": groups.size(),
        "articles": groups.article.nunique(),
    }
    return pd.DataFrame(columns).reset_index()


def table2(printed: pd.DataFrame) -> pd.DataFrame:
    """Table 2 as printed, with the column names of `by_dataset` and a `slug`."""
    names = {
        "delta_acc_mean": "delta_mean",
        "delta_acc_median": "delta_median",
        "n_articles_as_printed": "count",
    }
    table = printed.rename(columns=names)
    return table.assign(slug=table.dataset.map(slug))


def selections(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The sets of rows that Table 2 may have been computed from.

    The four rows are those that the released lists leave out, by the transcription's notes; the row
    counted twice is inferred here.
    """
    factor = table.dropna(subset=["cf"])
    listed = factor[~factor.note.fillna("").str.contains("left out")]
    twice = listed[(listed.article == "Su et al. (2022)") & (listed.dataset == "ImageNet")]
    return {
        "all rows": table,
        "rows with a factor": factor,
        "without four rows": listed,
        "without four rows, one row twice": pd.concat([listed, twice]),
    }


def cells_met(
    printed: pd.DataFrame, table: pd.DataFrame, delta: str, tolerance: float = 0.006
) -> dict[str, int]:
    """How many of Table 2's cells (means and medians.

    Counts as rows; counts as articles) a set of rows gives.
    """
    both = table2(printed).merge(by_dataset(table, delta), on="slug", suffixes=("_printed", ""))
    close = [(both[name] - both[f"{name}_printed"]).abs() <= tolerance for name in STATISTICS]
    met = int(np.sum(close))
    return {
        "cells": met,
        "of": 4 * len(both),
        "rows": int((both["rows"] == both["count"]).sum()),
        "articles": int((both.articles == both["count"]).sum()),
    }


def selection_table(printed: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """`cells_met` for each of `selections` and each kind of accuracy change (Table 2)."""
    met = [
        {"rows taken": name, "n": len(part), "changes": label, **cells_met(printed, part, column)}
        for name, part in selections(table).items()
        for column, label in DELTAS.items()
    ]
    return pd.DataFrame(met).rename(
        columns={
            "cells": "cells met",
            "rows": "counts met as rows",
            "articles": "counts met as articles",
        }
    )


def explained(table: pd.DataFrame) -> pd.DataFrame:
    """The 54 rows and signs that give Table 2 and section 1.3's correlation (`sign_changes`).

    Four rows are left out and one counts twice (`selections`); Su et al.'s change for CIFAR-10
    counts as +0.37, where Table S2 prints -0.37.
    """
    rows = selections(table)["without four rows, one row twice"].reset_index(drop=True)
    (row,) = rows.index[(rows.article == "Su et al. (2022)") & (rows.dataset == "CIFAR-10")]
    return _turned(rows, int(row))


def _turned(rows: pd.DataFrame, row: int) -> pd.DataFrame:
    """`rows` with the printed change of one row under the other sign."""
    sign = np.where(rows.index == row, -1, 1)
    return rows.assign(delta_printed=sign * rows.delta_printed)


def sign_changes(printed: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What the 54 rows give when the printed change of one of them has the other sign, for each row
    in turn: Table 2's cells met, Pearson's r and its p.
    """
    rows = selections(table)["without four rows, one row twice"].reset_index(drop=True)
    found = []
    for row in rows.index:
        one = _turned(rows, row)
        line = {"article": rows.article[row], "dataset": rows.dataset[row]}
        line |= {"printed": rows.delta_printed[row], "taken": one.delta_printed[row]}
        line["cells met"] = cells_met(printed, one, "delta_printed")["cells"]
        r = correlate(one.cf.to_numpy(), one.delta_printed.to_numpy(), "Pearson")
        found.append(line | {"r": r["r"], "p": r["p"]})
    return pd.DataFrame(found)


def correlate(factor: np.ndarray, delta: np.ndarray, measure: Measure) -> dict[str, float]:
    """r, its 95 % interval, p and n. Pearson's interval is scipy's (Fisher's z); Spearman's is
    Fisher's z after Bonett and Wright.

    A factor of zero is taken as 1 on the logarithmic scale: those rows print equal parameter counts
    (Table S4).
    """
    n = len(factor)
    if measure == "Spearman":
        test = stats.spearmanr(factor, delta)
        r = float(test.statistic)
        half = stats.norm.ppf(0.975) * np.sqrt((1 + r**2 / 2) / (n - 3))
        low, high = np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)
    else:
        test = stats.pearsonr(
            factor if measure == "Pearson" else np.log(np.maximum(factor, 1)), delta
        )
        r, (low, high) = float(test.statistic), test.confidence_interval(0.95)
    return {"n": n, "r": r, "low": float(low), "high": float(high), "p": float(test.pvalue)}


def correlation_sets(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The sets of rows for which section 1.3's correlation is recomputed."""
    chosen = selections(table)
    factor = chosen["rows with a factor"]
    return {
        "rows with a factor": factor,
        "without factor zero": factor[factor.cf > 0],
        "without four rows": chosen["without four rows"],
        "without four rows, one row twice": chosen["without four rows, one row twice"],
        "test accuracies only": factor[~factor.training_accuracy],
        "without the largest factor": factor[factor.cf < factor.cf.max()],
    }


def correlations(
    sets: Mapping[str, pd.DataFrame], deltas: Sequence[str] = tuple(DELTAS)
) -> pd.DataFrame:
    """One row for each set of rows, kind of accuracy change and measure."""
    return pd.DataFrame(
        {"rows": name, "change": DELTAS[delta], "measure": measure}
        | correlate(part.cf.to_numpy(), part[delta].to_numpy(), measure)
        for name, part in sets.items()
        for delta in deltas
        for measure in MEASURES
    )


def within(table: pd.DataFrame, least: int = 5) -> dict[str, pd.DataFrame]:
    """The rows with a factor of each data set that has at least `least` of them, for
    `correlations`.
    """
    known = table.dropna(subset=["cf"])
    return {
        str(name): part for name, part in known.groupby("dataset", sort=False) if len(part) >= least
    }


def p_of_r(r: float, n: int) -> float:
    """Two-sided p of Pearson's r from n rows."""
    return float(2 * stats.t.sf(abs(r) * np.sqrt((n - 2) / (1 - r**2)), n - 2))


def fitting_n(r: float, p: float, half: float = 0.0005, greatest: int = 200) -> list[int]:
    """The numbers of rows for which a printed r and p, both rounded to three decimals, fit each
    other (section 1.3).
    """
    ranges = {
        n: sorted(p_of_r(abs(r) + side * half, n) for side in (-1, 1)) for n in range(4, greatest)
    }
    return [n for n, (low, high) in ranges.items() if low - half <= p <= high + half]


def looks(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of each data set, most frequent first: the same in every figure of the
    review.
    """
    names = table.dataset.value_counts(sort=True).index
    return {str(name): (colour, marker) for name, colour, marker in zip(names, COLOURS, MARKERS)}


def _factor_axis(axis: Axes) -> None:
    axis.set(xscale="log", xlim=(0.9, 160), xlabel="compression factor (x, logarithmic)")
    axis.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    sns.despine(ax=axis)


def figure1(table: pd.DataFrame, averages: Mapping[str, tuple[float, float]]) -> Figure:
    """Figure 1: a line from each teacher (black, at factor 1) to its student, by data set; only
    rows with a factor.

    `averages` gives (printed, recomputed) for `factor` and `accuracy`. Rows with factor zero stand
    at 1, half filled.
    """
    known, look = table.dropna(subset=["cf"]), looks(table)
    figure, axis = plt.subplots(figsize=(6.4, 6.6), layout="constrained")
    for row in known.itertuples():
        colour, marker = look[row.dataset]
        ends = [1, max(row.cf, 1)], [row.teacher_acc, row.distilled_acc]
        form: dict[str, Any] = {
            "marker": marker,
            "ms": 6,
            "markevery": [1],
            "fillstyle": _filled(row.cf),
        }
        axis.plot(*ends, color=colour, mfcalt="white", lw=1.3, alpha=0.85, **form)
    axis.plot(
        [1] * len(known),
        known.teacher_acc,
        "o",
        color="black",
        ms=4,
        ls="",
        label="teacher",
        zorder=4,
    )
    for name, (colour, marker) in look.items():
        axis.plot(
            [],
            [],
            color=colour,
            marker=marker,
            ms=6,
            lw=1.3,
            label=f"{name} ({(known.dataset == name).sum()})",
        )
    for draw, key, colour in (
        (axis.axvline, "factor", "#b40000"),
        (axis.axhline, "accuracy", "#0033b4"),
    ):
        printed, ours = averages[key]
        draw(
            ours,
            color=colour,
            ls="--",
            lw=1.2,
            label=f"mean {key}:\nprinted {printed:.2f}, recomputed {ours:.2f}",
        )
    _half_filled(axis)
    _factor_axis(axis)
    axis.set(ylabel="accuracy (%)", ylim=(43, 101.5))
    figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _filled(factor: float) -> str:
    """Half a mark for a factor that is printed as 0.00 and drawn at 1."""
    return "full" if factor > 0 else "left"


def _half_filled(axis: Axes) -> None:
    """A legend entry for the marks of rows whose factor is printed as 0.00."""
    form: dict[str, Any] = {"marker": "o", "fillstyle": "left", "mfcalt": "white", "ls": ""}
    axis.plot([], [], color="#555555", ms=6, label="factor printed as 0.00", **form)


def scatter(table: pd.DataFrame, delta: str = "delta") -> Figure:
    """Accuracy change over compression factor, one marker a row with a factor.

    Rows with factor zero are half filled, at 1.
    """
    known, look = table.dropna(subset=["cf"]), looks(table)
    figure, axis = plt.subplots(figsize=(6.4, 5), layout="constrained")
    for name, (colour, marker) in look.items():
        part = known[known.dataset == name]
        for row in part.itertuples():
            form: dict[str, Any] = {"fillstyle": _filled(row.cf), "mfcalt": "white", "ms": 6}
            axis.plot(
                max(row.cf, 1), getattr(row, delta), color=colour, ls="", marker=marker, **form
            )
        axis.plot([], [], marker=marker, color=colour, ls="", ms=6, label=name)
    axis.axhline(0, color="#555555", lw=1, ls="--")
    _half_filled(axis)
    _factor_axis(axis)
    axis.set(ylabel="student's minus teacher's accuracy\n(percentage points)")
    figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize="small")
    return figure
