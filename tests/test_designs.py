"""Linear models for whole designs: by hand, against scipy, and by simulation of their level."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as distributions

from kdig.core.methods import METHODS
from kdig.measure import designs, stats
from kdig.paper import published

FACTORS = ["KD", "IG", "AT"]


def runs(means, sd=0.0, n=3, seed=0, block=0.0):
    """A run of each method for each seed; `block` is the sd of what a seed adds to all methods."""
    rng = np.random.default_rng(seed)
    shared = block * rng.normal(size=n)
    rows = [
        {"method": name, "seed": i, "accuracy": mean + shared[i] + sd * rng.normal()}
        for name, mean in means.items()
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def equal(**extra):
    return dict.fromkeys(METHODS, 90.0) | extra


def test_terms_are_those_of_the_method():
    table = designs.with_terms(pd.DataFrame({"method": ["student", "kd_ig", "at"]}))
    assert table[FACTORS].to_numpy().tolist() == [
        [False, False, False],
        [True, True, False],
        [False, False, True],
    ]
    assert not designs.is_factorial(table, FACTORS)
    assert designs.is_factorial(designs.with_terms(runs(equal())), FACTORS)


def test_effects_are_differences_of_means_and_of_differences():
    means = {"student": 90.0, "kd": 91.0, "ig": 90.5, "kd_ig": 92.5}
    means |= {f"{name}_at".removeprefix("student_"): x + 0.25 for name, x in means.items()}
    frame = designs.with_terms(runs(means, sd=0.1))
    table = designs.factorial(frame, FACTORS).set_index("effect")
    assert list(table.index) == ["KD", "IG", "KD x IG", "AT", "KD x AT", "IG x AT", "KD x IG x AT"]
    by_hand = frame[frame.KD].accuracy.mean() - frame[~frame.KD].accuracy.mean()
    assert table.difference["KD"] == pytest.approx(by_hand)
    cell = frame.groupby(["KD", "IG"]).accuracy.mean()
    crossed = cell[True, True] - cell[True, False] - cell[False, True] + cell[False, False]
    assert table.difference["KD x IG"] == pytest.approx(crossed)
    assert table.df.unique() == [16]
    within = stats.pooled_sd(frame, "method", "accuracy")
    assert table.sd.iloc[0] == pytest.approx(within)
    half = distributions.t.ppf(0.975, 16) * within * 2 / len(frame) ** 0.5
    assert table.high["KD"] - table.difference["KD"] == pytest.approx(half)


def test_a_block_takes_its_share_out_of_the_error():
    frame = designs.with_terms(runs(equal(), sd=0.1, block=3.0))
    with_block = designs.factorial(frame, FACTORS, block="seed")
    without = designs.factorial(frame, FACTORS)
    assert list(with_block.effect) == list(without.effect)
    assert with_block.sd[0] < 0.2 < 1 < without.sd[0]
    assert with_block.df[0] == without.df[0] - 2


def test_the_released_runs_as_a_factorial():
    released = published("ablation_runs").rename(columns={"test_accuracy": "accuracy"})
    keys = {method.label: key for key, method in METHODS.items()}
    frame = designs.with_terms(released.assign(method=released.method.map(keys)))
    table = designs.factorial(frame, FACTORS).set_index("effect")
    ig = table.loc["IG", ["difference", "low", "high", "p", "df"]].tolist()
    assert ig == pytest.approx([0.24275, 0.1001, 0.3854, 0.00113, 72], abs=5e-5)
    assert table.loc["KD", ["difference", "low", "high"]].round(2).tolist() == [0.52, 0.38, 0.66]
    assert table.difference[["AT", "KD x IG"]].round(2).tolist() == [0.01, 0.02]


def test_arms_share_one_error():
    frame = runs({"student": 90.0, "kd": 91.0, "ig": 89.0}, sd=0.5, n=6)
    row = designs.arms(frame, "student").set_index("method").loc["kd"]
    sd = stats.pooled_sd(frame, "method", "accuracy")
    half = distributions.t.ppf(0.975, 15) * sd * (2 / 6) ** 0.5
    assert (row.low, row.high) == pytest.approx((row.difference - half, row.difference + half))
    assert (row.df, row.n) == (15, 18)
    blocked = designs.arms(frame, "student", block="seed")
    assert blocked.difference.tolist() == pytest.approx(designs.arms(frame, "student").difference)
    assert blocked.df.unique() == [10]


def test_two_arms_with_blocks_are_the_paired_test():
    frame = runs({"student": 90.0, "kd": 90.4}, sd=0.5, n=7, block=1.0)
    row = designs.arms(frame, "student", block="seed").iloc[0]
    pair = stats.compare(frame, "student").iloc[0]
    assert (row.difference, row.low, row.high, row.p) == pytest.approx(
        (pair.difference, pair.low, pair.high, pair.p_paired)
    )


def test_dunnett_with_two_arms_is_students_test():
    frame = runs({"student": 90.0, "kd": 90.4}, sd=0.5, n=7)
    row = designs.many_to_one(frame, "student").iloc[0]
    x, y = (frame[frame.method == name].accuracy for name in ("kd", "student"))
    test = distributions.ttest_ind(x, y)
    ends = test.confidence_interval()
    assert (row.p, row.low, row.high) == pytest.approx((test.pvalue, *ends), abs=1e-3)


def test_dunnetts_intervals_hold_for_all_arms_at_once():
    hits = 0
    for seed in range(60):
        frame = runs(dict.fromkeys(("student", "kd", "ig", "at"), 90.0), sd=0.3, n=6, seed=seed)
        table = designs.many_to_one(frame, "student")
        assert ((table.p < 0.05) == ((table.low > 0) | (table.high < 0))).all()
        hits += ((table.low < 0) & (table.high > 0)).all()
    assert 52 <= hits <= 60


def test_what_a_seed_shares_is_found_and_covered():
    """A seed adds as much scatter as a run has: half of the variance is shared."""
    found = [
        designs.block_correlation(
            runs(dict.fromkeys("abcd", 90.0), sd=1.0, n=8, block=1.0, seed=seed)
        )
        for seed in range(1000, 1400)
    ]
    assert np.median([one.value for one in found]) == pytest.approx(0.5, abs=0.06)
    assert 0.92 < np.mean([one.low < 0.5 < one.high for one in found]) < 0.98
    none = designs.block_correlation(runs(equal(), sd=1.0, n=8))
    assert none.low < 0 < none.high
    with pytest.raises(ValueError, match="blocks"):
        designs.block_correlation(runs(equal()).iloc[1:])
