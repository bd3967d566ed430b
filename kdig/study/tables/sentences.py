"""Sentences that fit any table: agreement with printed numbers, intervals, extremes, p values,
counts. Each is made from the rows that are shown, so that it is true in every profile.

`by` is the column that says which row is meant, or a text that holds columns in braces, such as
`{method}, seed {seed}`. What cannot be told apart is said so, and never
called equal.
"""

from collections.abc import Sequence

import pandas as pd

from kdig.measure import stats
from kdig.study.tables.words import joined, label

MOST = 4  # names that a sentence can carry


def name_of(row: pd.Series, by: str) -> str:
    """The row's name, with methods as the paper prints them."""
    shown = {str(c): f"{v:.4g}" if isinstance(v, float) else str(v) for c, v in row.items()}
    names = {column: label(text) for column, text in shown.items()}
    return by.format(**names) if "{" in by else names[by]


def number(value: float, digits: int = 2, unit: str = "", signed: bool = False) -> str:
    """A value with its unit."""
    sign = "+" if signed else ""
    return f"{value:{sign},.{digits}f}{' ' if unit else ''}{unit}"


def probability(p: float) -> str:
    """A p value with as many digits as count."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    few = [*names[:MOST], *([f"{len(names) - MOST} more"] if len(names) > MOST else [])]
    if any("," in name for name in few):
        return "; ".join(few)
    return joined(few) if few else "none"


def counted(flags: pd.Series, what: str, holds: str) -> str:
    """Of how many rows something `holds`, which gives its verb for one and for several, as in
    `follows|follow from the counts`.
    """
    count, verb, verbs, rest = int(flags.sum()), *_verbs(holds)
    if count == len(flags) > 2:
        return f"All {count} {what} {verbs}{rest}."
    if not count and len(flags):
        return f"None of the {len(flags)} {what} {verbs}{rest}."
    return f"{count} of {len(flags)} {what} {verb if count == 1 else verbs}{rest}."


def _verbs(holds: str) -> tuple[str, str, str]:
    one, _, more = holds.partition("|")
    several, space, rest = more.partition(" ")
    return one, several, space + rest


def extremes(
    rows: pd.DataFrame, value: str, by: str, what: str, unit: str = "", digits: int = 1
) -> str:
    """The lowest and the highest `value`, with their names."""
    known = rows[rows[value].notna()].reset_index(drop=True)
    if not len(known):
        return f"{what}: 0 values."
    least, most = known.loc[known[value].idxmin()], known.loc[known[value].idxmax()]
    low, high = (
        f"{number(row[value], digits, unit)} ({name_of(row, by)})" for row in (least, most)
    )
    if len(known) == 1:
        return f"{what}: {low}."
    if least[value] == most[value]:
        return f"{what}: {number(least[value], digits, unit)} in all {len(known)} rows."
    return f"{what}: from {low} to {high}."


def agreement(
    rows: pd.DataFrame,
    ours: str,
    printed: str,
    by: str,
    within: float,
    what: str = "values",
    digits: int = 2,
) -> str:
    """How many of `ours` lie `within` of the printed value, and the row that differs most."""
    both = rows[rows[ours].notna() & rows[printed].notna()].reset_index(drop=True)
    off = (both[ours] - both[printed]).abs()
    wrong = off > within + 1e-9
    if not len(both):
        return f"0 {what} can be compared with printed ones."
    if not wrong.any():
        near = f", to within {within:g}" if within else ""
        return f"All {len(both)} {what} agree with the printed ones{near}."
    worst = both.loc[off.idxmax()]
    pair = f"{number(worst[ours], digits)} beside {number(worst[printed], digits)} printed"
    differ = "differs" if wrong.sum() == 1 else "differ"
    return (
        f"{wrong.sum()} of {len(both)} {what} {differ} from the printed ones by more than {within:g},"
        f" most of all {name_of(worst, by)} ({pair})."
    )


def intervals(
    rows: pd.DataFrame,
    value: str,
    by: str,
    unit: str = "",
    *,
    what: str = "differences",
    low: str = "low",
    high: str = "high",
    digits: int = 2,
    at: float = 0.0,
) -> str:
    """How many values lie above and below `at` with their whole intervals, and the value that lies
    furthest from it.
    """
    known = rows[rows[[value, low, high]].notna().all(axis=1)].reset_index(drop=True)
    if not len(known):
        return f"0 {what} have an interval."
    above, below = int((known[low] > at).sum()), int((known[high] < at).sum())
    far = known.loc[(known[value] - at).abs().idxmax()]
    shown = [number(far[column], digits, signed=at == 0) for column in (value, low, high)]
    most = f"{shown[0]}{f' {unit}' if unit else ''} ({shown[1]} to {shown[2]})"
    furthest = f"Furthest from {at:g}: {name_of(far, by)}, {most}."
    if not above + below:
        them = f"None of the {len(known)}" if len(known) > 1 else "0 of 1"
        return f"{them} {what} can be told from {at:g}: every interval holds it. {furthest}"
    sides = [_lies(above, f"above {at:g}")] if above else []
    sides += [_lies(below, f"below {at:g}")] if below else []
    rest = len(known) - above - below
    open_ = f"; {rest} cannot be told from it" if rest else ""
    whole = "its whole interval" if above + below == 1 else "their whole intervals"
    return f"Of {len(known)} {what} {joined(sides)}, with {whole}{open_}. {furthest}"


def _lies(count: int, where: str) -> str:
    return f"{count} {'lies' if count == 1 else 'lie'} {where}"


def small_p(rows: pd.DataFrame, p: str, by: str, what: str = "comparisons") -> str:
    """How many p values lie below 0.05, which, and the smallest."""
    known = rows[rows[p].notna()].sort_values(p, kind="stable")
    if not len(known):
        return f"0 {what} have a p value."
    least = f"{probability(known[p].iloc[0])} ({name_of(known.iloc[0], by)})"
    found = known[known[p] < 0.05]
    if not len(found):
        return (
            f"None of {len(known)} {what} has a p value below 0.05; the smallest is {least}."
            " This does not show that there is no difference."
        )
    names = listed([name_of(row, by) for _, row in found.iterrows()])
    have = "has" if len(found) == 1 else "have"
    return (
        f"{len(found)} of {len(known)} {what} {have} a p value below 0.05 ({names});"
        f" the smallest is {least}."
    )


def tallied(words: pd.Series, what: str) -> str:
    """How many rows have each word, the most frequent first."""
    said = [f"{count} {word}" for word, count in words.value_counts().items()]
    return f"Of {len(words)} {what}: {joined(said)}." if said else f"There are 0 {what}."


def estimate(row: pd.Series, value: str, what: str, unit: str = "", digits: int = 2) -> str:
    """One value with its 95 % interval `low` to `high`."""
    low, high = number(row["low"], digits), number(row["high"], digits)
    told = bool(stats.leaves_out(row["low"], row["high"]))
    rest = "" if told else ", so that it cannot be told from zero"
    return f"{what} is {number(row[value], digits, unit)} (95 % interval {low} to {high}){rest}."
