"""Runs on random subsets: what paired runs share, and the statistics of pairs, against formulas,
simulations and hand counts.
"""

import numpy as np
import pytest
import torch
from helpers import settings_of
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestIndPower

from kdig import KdigError
from kdig.core.methods import METHODS
from kdig.core.run import Run, Scoring
from kdig.core.store import Workspace
from kdig.core.train import starting_points, train, untrained
from kdig.core.training import Recipe
from kdig.measure import stats


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, digits):
    """Weights of a hardly trained teacher and the workspace that they lie in: who starts where does
    not depend on what it knows.
    """
    workspace = Workspace(tmp_path_factory.mktemp("teacher"))
    recipe = Recipe(epochs=1, normalise=True)
    shape = {
        "image_size": 8,
        "train_images": 60,
        "network": "mobilenet_v2",
        "role": "teacher",
        "width": 0.25,
        "padding": 1,
        "flip": False,
    }
    result = train(
        Run(dataset="digits", data=digits.fingerprint, recipe=recipe, **shape),
        workspace,
        Scoring(images=20),
    )
    return result.weights, workspace


@pytest.fixture
def start(make_run, teacher):
    """What run `i` of a method on 80 % of the pictures starts from."""
    weights = {"alpha": 0.5, "probability": 0.5, "gamma": 0.8}

    def digests(method, i, **changes):
        chosen = {name: weights[name] for name in METHODS[method].weights}
        chosen |= (
            {"pairing": "released"} if chosen else {}
        )  # static logits of such a teacher would be refused
        run = make_run(
            teacher=teacher[0],
            share=0.8,
            split_seed=i,
            seed=i,
            **chosen,
            **{"train_images": 60, **changes},
        )
        return (
            starting_points([run], teacher[1]).iloc[0][["pictures", "weights", "order"]].to_dict()
        )

    return digests


def test_run_i_of_every_method_starts_from_the_same_and_other_runs_do_not(start):
    methods = ("student", "kd", "kd_ig", "kd_ig_at")
    starts = {(method, i): start(method, i) for method in methods for i in (0, 1)}
    for i in (0, 1):
        assert all(starts[method, i] == starts["student", i] for method in methods)
    assert all(
        starts["student", 0][name] != starts["student", 1][name]
        for name in ("pictures", "weights", "order")
    )


def test_a_starting_point_sees_each_thing_that_can_differ(start):
    def differs(**changes):
        here, there = (start("student", 0, **c) for c in ({}, changes))
        return {name for name in here if here[name] != there[name]}

    assert differs(padding=0) == {"order"}  # same order, other crops
    assert differs(train_images=80) == {"pictures", "order"}
    assert differs(width=0.5) == {"weights"}


def test_training_starts_from_the_weights_of_untrained(make_run, workspace):
    """A rate of almost zero leaves the weights where they began."""
    run = make_run(recipe={"epochs": 1, "learning_rate": 1e-12})
    before = untrained(run, 10).state_dict()
    after = workspace.load_weights(train(run, workspace).weights).net.state_dict()
    moved = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(torch.allclose(before[name], after[name].cpu(), atol=1e-9) for name in moved)


def test_the_notebooks_runs_are_paired_by_their_specification(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    settings = settings_of("06_monte_carlo", repetitions=5, train_images=100)
    runs = settings.runs("abc")
    assert len(runs) == 20
    assert all(run.seed == run.split_seed and run.share == 0.8 for run in runs)
    assert len({run.key for run in runs}) == 20
    with pytest.raises(KdigError, match="repetitions"):
        settings_of("06_monte_carlo", repetitions=3)


def test_sd_interval_by_hand_and_by_its_coverage(rng):
    # chi-square quantiles at 9 degrees of freedom: 19.0228 and 2.7004
    assert stats.sd_interval(2.0, 9) == pytest.approx(
        (2 * (9 / 19.0228) ** 0.5, 2 * (9 / 2.7004) ** 0.5), rel=1e-4
    )
    intervals = [stats.sd_interval(x.std(ddof=1), 9) for x in rng.normal(size=(1_000, 10))]
    assert np.mean([low < 1 < high for low, high in intervals]) == pytest.approx(0.95, abs=0.02)


def test_median_interval_is_between_sorted_values():
    """Of eight values the least and greatest enclose the median with 1 - 2/2^8 = 99.2 %.

    The next two with 93 %: too little.
    """
    assert stats.median_interval([3, 1, 4, 8, 5, 9, 2, 6]) == (1, 9)
    assert stats.median_interval(range(6)) == (0, 5)
    assert all(np.isnan(stats.median_interval(range(5))))


def paired_normal(rng, ratio, correlation, shape):
    x, noise = rng.normal(size=shape), rng.normal(size=shape)
    return ratio**0.5 * x, correlation * x + (1 - correlation**2) ** 0.5 * noise


def test_pitman_morgan_is_the_test_of_morgans_t(rng):
    """t = (F - 1) sqrt(n - 2) / (2 sqrt(F (1 - r^2))), the form in which the test is usually
    printed.
    """
    x, y = paired_normal(rng, 2.0, 0.7, 12)
    found = stats.pitman_morgan(x, y)
    f, r = x.var(ddof=1) / y.var(ddof=1), np.corrcoef(x, y)[0, 1]
    t = (f - 1) * 10**0.5 / (2 * (f * (1 - r**2)) ** 0.5)
    assert (found.value, found.p) == pytest.approx((f, 2 * scipy_stats.t.sf(abs(t), 10)))
    assert stats.pitman_morgan(y, x).value == pytest.approx(1 / f)
    assert stats.pitman_morgan(y, x).p == pytest.approx(found.p)


def test_pitman_morgan_interval_ends_where_the_test_turns(rng):
    """The interval holds the ratios that are not rejected: at each end, p of x against y scaled to
    it is 0.05.
    """
    x, y = paired_normal(rng, 1.5, 0.5, 20)
    found = stats.pitman_morgan(x, y)
    for end in (found.low, found.high):
        assert stats.pitman_morgan(x, y * end**0.5).p == pytest.approx(0.05, abs=1e-9)


def test_pitman_morgan_keeps_its_level_where_f_does_not(rng):
    """Equal variances, correlation 0.8: rejected at 0.05 in 5 % of 800 samples; F supposes
    independence and rejects less.
    """
    x, y = paired_normal(rng, 1.0, 0.8, (800, 15))
    rejected = np.mean([stats.pitman_morgan(a, b).p < 0.05 for a, b in zip(x, y)])
    assert rejected == pytest.approx(0.05, abs=0.02)
    f = x.var(axis=1, ddof=1) / y.var(axis=1, ddof=1)
    assert (
        np.mean(2 * np.minimum(scipy_stats.f.cdf(f, 14, 14), scipy_stats.f.sf(f, 14, 14)) < 0.05)
        < 0.02
    )


def test_bootstrap_difference_resamples_pairs(rng):
    """Runs that share 10 points of spread and differ by 1: the pairs' interval is narrow; that of
    shuffled pairs is not.
    """
    shared = 10 * rng.normal(size=30)
    x, y = shared + 1 + 0.1 * rng.normal(size=30), shared
    low, high = stats.bootstrap_difference(x, y, resamples=2_000)
    assert 0.9 < low < 1 < high < 1.1
    shuffled = stats.bootstrap_difference(rng.permutation(x), y, resamples=2_000)
    assert shuffled[1] - shuffled[0] > 20 * (high - low)
    assert all(np.isnan(stats.bootstrap_difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])))


def test_bootstrap_difference_is_bca_by_hand():
    """Bias and acceleration by their formulas, quantiles of the same resamples."""
    x = np.repeat([0.1, 0.4, 0.2, 2.5, 0.3, 0.2, 0.9, 0.5], 3)
    low, high = stats.bootstrap_difference(x, np.zeros(24), resamples=9_999)
    means = x[np.random.default_rng(1).integers(24, size=(100_000, 24))].mean(axis=1)
    bias = scipy_stats.norm.ppf((np.mean(means < x.mean()) + np.mean(means <= x.mean())) / 2)
    jackknife = (x.sum() - x) / 23
    centred = jackknife.mean() - jackknife
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    ends = []
    for z in scipy_stats.norm.ppf([0.025, 0.975]):
        ends.append(
            np.quantile(
                means, scipy_stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
            )
        )
    assert (low, high) == pytest.approx(ends, abs=0.03)
    assert high - x.mean() > x.mean() - low  # skewed as the values are


def test_mcnemar_by_hand():
    """Of ten pictures one model alone has 5, the other alone 1: two-sided p = 2 (1 + 6) / 2^6."""
    first = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0], dtype=bool)
    second = np.array([1, 1, 0, 0, 0, 0, 0, 1, 0, 0], dtype=bool)
    found = stats.compare_answers(first, second)
    assert (found["only_first"], found["only_second"], found["difference"]) == (
        5,
        1,
        pytest.approx(40),
    )
    assert found["p"] == pytest.approx(14 / 64)
    half = 1.959964 * 10 * (6 - 16 / 10) ** 0.5
    assert (found["low"], found["high"]) == pytest.approx((40 - half, 40 + half), rel=1e-5)
    assert stats.compare_answers(first, first)["p"] == 1


def test_runs_needed_is_the_smallest_number_that_suffices(rng):
    """d = 0.5: 34 pairs, or 64 of each of two independent samples, in every table of power."""
    assert stats.runs_needed(0.5, 1.0, paired=True) == 34
    assert stats.runs_needed(1.0, 2.0, paired=False) == 64
    n = stats.runs_needed(1.0, 1.0, paired=True)
    found = scipy_stats.ttest_1samp(rng.normal(1, 1, size=(4_000, n)), 0, axis=1).pvalue < 0.05
    assert 0.78 < found.mean() < 0.87
    assert stats.runs_needed(50.0, 1.0, paired=True) == 2
    for effect in (0.3, 0.8):
        solved = TTestIndPower().solve_power(effect, alpha=0.05, power=0.8)
        assert stats.runs_needed(effect, 1.0, paired=False) == np.ceil(solved)
