"""The tables of `08_attention_maps`: Figure S1 over the whole test set.

`measured` has a row for each network and picture: `method`, `seed`, `class`, `picture`, `mse` to
the teacher's map, effective `positions`, and `brightness` relative to the teacher's.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from kdig.core.methods import METHODS
from kdig.measure import stats
from kdig.study.outputs import Facts
from kdig.study.tables.shared import Shown, claims_of

NOTEBOOK = "08_attention_maps"
CLAIMS = ["statement", "paper", "value", "sd", "n", "low", "high", "verdict"]
# what two methods alone can show; the other claims speak of every method
OF_TWO = {"attention_mse_spread_reduction", "attention_mse_ship_reduction"}


def classes(measured: pd.DataFrame) -> pd.DataFrame:
    """MSE by class and method, with 95 % intervals over seeds and over pictures."""
    rows = []
    for (method, name), group in measured.groupby(["method", "class"], sort=False):
        by_seed, by_picture = (group.groupby(by).mse.mean() for by in ("seed", "picture"))
        row = {"class": name, "method": method, "mse": by_seed.mean(), "sd": by_seed.std()}
        row |= {"n": len(by_seed)}
        row |= dict(zip(("seed_low", "seed_high"), stats.mean_interval(by_seed)))
        row |= {"pictures": len(by_picture)}
        rows.append(
            row | dict(zip(("picture_low", "picture_high"), stats.mean_interval(by_picture)))
        )
    return pd.DataFrame(rows)


def mse(measured: pd.DataFrame, references: Mapping[str, float]) -> pd.DataFrame:
    """MSE over all pictures by method, its difference to the plain student, and `references` that
    show the scale.
    """
    overall = measured.groupby(["method", "seed"], sort=False).mse.mean().reset_index()
    table = stats.summarise(overall, "method", "mse")[["method", "n", "mean", "sd", "low", "high"]]
    tested = stats.compare(overall, "student", value="mse")
    tested = tested.drop(columns=["low", "high"]).rename(
        columns={"low_all": "low", "high_all": "high"}
    )
    tested = tested[["method", "difference", "low", "high", "p_paired_holm"]]
    table = table.merge(tested, on="method", how="left", suffixes=("", "_difference"))
    fixed = pd.DataFrame({"method": references.keys(), "mean": references.values()})
    return pd.concat([table, fixed], ignore_index=True).astype({"n": "Int64"})


def with_gain(measured: pd.DataFrame, teacher: np.ndarray) -> pd.DataFrame:
    """`measured` with `gain`: how many fewer effective positions a map has than the teacher's of
    the same picture (`teacher`, by picture).
    """
    return measured.assign(gain=teacher[measured.picture] - measured.positions)


def positions(measured: pd.DataFrame) -> pd.DataFrame:
    """Effective positions of each method: `value`, with its 95 % interval over seeds."""
    by_run = measured.groupby(["method", "seed"], sort=False).positions.mean().reset_index()
    return stats.summarise(by_run, "method", "positions").rename(columns={"mean": "value"})


def concentration(measured: pd.DataFrame) -> pd.DataFrame:
    """Whether students' maps (`with_gain`) are more concentrated than the teacher's."""
    fewer = measured.assign(fewer=100.0 * (measured.gain > 0))
    by_run = fewer.groupby(["method", "seed"], sort=False)
    found = by_run[["positions", "gain", "fewer"]].mean()
    found = found.assign(brightness=by_run.brightness.median()).reset_index()
    table = positions(measured)[["method", "n", "value", "sd"]]
    gained = stats.summarise(found, "method", "gain")[["method", "mean", "low", "high"]]
    more = found.groupby("method", sort=False)[["fewer", "brightness"]].mean().reset_index()
    table = table.merge(gained.rename(columns={"mean": "gain"}), on="method").merge(
        more, on="method"
    )
    return table.rename(columns={"value": "positions", "fewer": "pictures_percent"})


def by_seed(measured: pd.DataFrame) -> dict[str, pd.Series]:
    """Fact -> its value for each seed, from class means over the whole test set (`with_gain`).

    Claims are about the methods with attention. One about a class needs data that have it.
    """
    attentive = [m for m in measured.method.unique() if "gamma" in METHODS[m].weights]
    part = measured[measured.method.isin(attentive)]
    means = part.groupby(["seed", "method", "class"], sort=False).mse.mean().unstack("class")
    found = {
        "attention_mse_lowest": means.min(axis=1).groupby("seed").min(),
        "attention_mse_highest": means.max(axis=1).groupby("seed").max(),
        "attention_concentration_gain": part.groupby("seed").gain.mean(),
    }
    if "automobile" in means:
        rest = means.drop(columns="automobile").mean(axis=1)
        found["attention_mse_automobile_lowest"] = means.automobile.groupby("seed").min()
        over = (means.automobile - rest).groupby("seed").mean()
        found["attention_mse_automobile_over_rest"] = over
    if {"at", "kd_ig_at"} <= set(attentive):
        alone, combined = (means.xs(name, level="method") for name in ("at", "kd_ig_at"))
        found["attention_mse_spread_reduction"] = alone.std(axis=1) - combined.std(axis=1)
        if "ship" in means:
            found["attention_mse_ship_reduction"] = alone.ship - combined.ship
    return found


def claimed(found: Mapping[str, pd.Series], why_not_decided: str, all_methods: bool) -> Shown:
    """The claims of section 4.1.4 beside our values (`by_seed`), with 95 % intervals over seeds.

    Without `all_methods` of the paper, nothing is said about what every method does.
    """
    short = "" if all_methods else "not all of the paper's methods were trained"
    facts: Facts = []
    for name, values in found.items():
        low, high = stats.mean_interval(values)
        why = why_not_decided or ("" if name in OF_TWO else short)
        fact = {"fact": name, "value": values.mean(), "low": low, "high": high, "n": len(values)}
        facts.append({**fact, "why_not_decided": why})
    table = claims_of(NOTEBOOK, facts, why_not_decided)
    table["sd"] = [found[fact].std() if fact in found else None for fact in table.index]
    return table[CLAIMS], facts
