"""The tables of `09_released_code`: what the released code does otherwise than the text says."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from kdig.measure import stats
from kdig.paper import recompute
from kdig.study.outputs import Facts, as_facts
from kdig.study.tables.shared import Shown

GAPS = ["accuracy", "gap", "gap_sd", "spread"]
TESTED = ["n", "difference", "low", "high", "p_paired", "p_paired_holm"]


def turned(row: pd.Series, name: str, p: str) -> dict[str, object]:
    """The fact `name`: what the reference has over an arm, from the arm's difference to it.

    `p` is the column of the p value.
    """
    fact = {"fact": name, "value": -row.difference, "low": -row.high, "high": -row.low}
    return fact | {"n": row.n, "p": row[p]}


def predictions(weights: Iterable[tuple[str, float, float]], classes: int) -> pd.DataFrame:
    """For names with alpha and temperature: the gap that unrelated soft targets pull logits to, and
    the label smoothing with the same gap.
    """
    rows = []
    for name, alpha, temperature in weights:
        gap = recompute.stationary_gap(alpha, temperature, 1 / classes, classes)
        row = {"weights": name, "alpha": alpha, "temperature": temperature, "gap": gap}
        rows.append(row | {"smoothing": recompute.matching_smoothing(gap, classes)})
    return pd.DataFrame(rows)


def predicted_gaps(arms: Iterable[str], unrelated: float, own: float) -> dict[str, float]:
    """Arm -> the gap at which Eq. 1 is stationary: for unrelated targets and label smoothing, and
    for a picture's own target.
    """
    gaps = dict.fromkeys(("label smoothing", "KD, released", "KD, reshuffled"), unrelated)
    gaps |= dict.fromkeys(("KD, static", "KD, same_view"), own)
    return {arm: gap for arm, gap in gaps.items() if arm in set(arms)}


def gaps(found: pd.DataFrame, predicted: Mapping[str, float]) -> pd.DataFrame:
    """Gap and spread of the logits by arm, mean and standard deviation over seeds.

    `found`: `pictures`, `arm`, `seed`, `accuracy`, `gap`, `gap_sd`, `spread`.
    """
    table = found.groupby(["pictures", "arm"], sort=False)[GAPS].agg(["mean", "std"])
    table.columns = [f"{a}_{'sd' if b == 'std' else b}" for a, b in table.columns]
    table["predicted_gap"] = [predicted.get(arm) for _, arm in table.index]
    return table.reset_index()


def gap_tests(found: pd.DataFrame) -> pd.DataFrame:
    """Gap and spread of each arm against the plain student, paired by seed."""
    parts = [
        stats.compare(part, "Student", by="arm", value=value).assign(pictures=name, value=value)
        for name, part in found.groupby("pictures", sort=False)
        for value in ("gap", "spread")
    ]
    return pd.concat(parts)[["pictures", "value", "arm", *TESTED]]


def pairings(frame: pd.DataFrame) -> Shown:
    """Accuracy by `method` and `pairing`, and the paired difference to `static`; Holm over all.

    The facts are what a picture's own signal has over another's, drawn anew or fixed.
    """
    parts = []
    for method, group in frame.groupby("method", sort=False):
        table = stats.summarise(group, "pairing")[["pairing", "n", "mean", "sd"]]
        against = stats.compare(group, "static", by="pairing")
        columns = ["pairing", "difference", "low", "high", "p_paired", "correlation"]
        parts.append(table.merge(against[columns], on="pairing", how="left").assign(method=method))
    table = pd.concat(parts, ignore_index=True)
    table["p_holm"] = stats.holm(table.p_paired)
    facts = [
        turned(row, f"released_own_over_{other}_{row.method}", "p_holm")
        for pairing, other in {"reshuffled": "other", "released": "released"}.items()
        for _, row in table[table.pairing == pairing].iterrows()
    ]
    return table, facts


def smoothing(scored: pd.DataFrame, arms: Sequence[str]) -> Shown:
    """Test accuracy of `arms` (`arm`, `seed`, `accuracy`) against label smoothing."""
    table = stats.compare(scored[scored.arm.isin(arms)], "label smoothing", by="arm")
    own = table[table.arm == "KD, static"].assign(p=lambda t: t.p_paired_holm, arm="kd")
    facts = as_facts(own, "released", "arm", {"_over_smoothing": "difference"})
    return table[["arm", *TESTED, "correlation"]], facts


def overlays(frame: pd.DataFrame) -> Shown:
    """Accuracy by `overlay`, with paired differences to none and to the picture's own map.

    The facts are what the own map has over each control.
    """
    columns = ["overlay", "difference", "low", "high", "p_paired_holm"]
    table = stats.summarise(frame, "overlay")[["overlay", "n", "mean", "sd"]]
    to_none = stats.compare(frame, "none", by="overlay")[columns]
    to_map = stats.compare(frame[frame.overlay != "none"], "map", by="overlay")
    table = table.merge(to_none, on="overlay", how="left")
    table = table.merge(to_map[columns], on="overlay", how="left", suffixes=("", "_to_map"))
    facts = [
        turned(row, f"released_map_over_{row.overlay}", "p_paired_holm")
        for _, row in to_map.iterrows()
    ]
    return table, facts


def recipe_frame(groups: Mapping[str, pd.DataFrame], student: str) -> pd.DataFrame:
    """Runs of several recipes (recipe -> frame with `network`), each with its `arm`: the method of the
    `student`, or the name of another network."""
    parts = []
    for recipe, frame in groups.items():
        name = np.where(frame.network == student, frame.method, frame.network)
        parts.append(frame.assign(recipe=recipe, arm=recipe + ": " + name))
    return pd.concat(parts, ignore_index=True)


def recipes(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and parameters of each arm of `recipe_frame`."""
    table = stats.summarise(frame, "arm")[["arm", "n", "mean", "sd", "low", "high"]]
    parameters = frame.groupby("arm", sort=False).parameters.first()
    table.insert(1, "parameters", parameters.to_numpy())
    return table


def recipe_gains(frame: pd.DataFrame) -> Shown:
    """Each method against the student of the same recipe (`recipe_frame`)."""
    parts = [
        stats.compare(frame[frame.recipe == recipe], "student").assign(arm=recipe)
        for recipe in ("profile's", "strong")
    ]
    table = pd.concat(parts, ignore_index=True)[["arm", "method", *TESTED]]
    strong = table[table.arm == "strong"].assign(p=lambda t: t.p_paired_holm)
    return table, as_facts(strong, "released_strong", "method", {"_gain": "difference"})


def rivals(frame: pd.DataFrame) -> Shown:
    """Networks of at least the student's size against it, all with the strong recipe.

    The facts are what the student has over each.
    """
    part = frame[(frame.arm == "strong: student") | (frame.recipe == "strong, rival")]
    table = stats.compare(part, "strong: student", by="arm")
    facts: Facts = [
        turned(row, f"released_student_over_{row.arm.partition(': ')[2]}", "p_paired_holm")
        for _, row in table.iterrows()
    ]
    return table[["arm", *TESTED]], facts
