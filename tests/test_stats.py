import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import cohen_kappa_score

from kdig.measure import stats
from kdig.paper import published


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=12)
    columns = {"a": shared, "b": shared + 0.5 + 0.1 * rng.normal(size=12), "c": rng.normal(size=12)}
    return pd.DataFrame(
        [
            {"method": m, "seed": i, "accuracy": v}
            for m, values in columns.items()
            for i, v in enumerate(values)
        ]
    )


def column(frame, method):
    return frame[frame.method == method].accuracy.to_numpy()


def test_interval_is_mean_plus_minus_t_times_standard_error():
    x = [1.0, 2.0, 4.0]
    half = 4.302653 * np.std(x, ddof=1) / np.sqrt(3)  # t(0.975) at 2 degrees of freedom
    assert stats.mean_interval(x) == pytest.approx((np.mean(x) - half, np.mean(x) + half), rel=1e-6)
    assert all(np.isnan(stats.mean_interval([1.0])))


def test_interval_of_the_mean_is_scipys():
    x = np.random.default_rng(0).normal(size=9)
    half = stats.half_width(x.std(ddof=1), 9, 0.9)
    assert stats.mean_interval(x, 0.9) == pytest.approx((x.mean() - half, x.mean() + half))
    assert stats.mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


def coverage(make, true, n=1500):
    """How often the interval that `make` gives of a drawn sample holds the true value."""
    rng = np.random.default_rng(7)
    return np.mean([low <= true <= high for low, high in (make(rng) for _ in range(n))])


@pytest.mark.parametrize("balanced", [False, True])
def test_interval_over_few_images_of_a_class_keeps_its_level(balanced):
    """The 105 images of the sample: 2 to 58 of a class. A bootstrap of them covers 85 %."""
    sizes, shares = np.array([3, 14, 58, 5, 15, 3, 5, 2]), np.linspace(0.55, 0.95, 8)
    labels = np.repeat(np.arange(8), sizes)
    weight = np.full(8, 1 / 8) if balanced else sizes / sizes.sum()

    def interval(rng):
        right = rng.random(len(labels)) < shares[labels]
        return stats.picture_interval(labels, right, balanced)

    assert 0.925 < coverage(interval, 100 * (weight * shares).sum()) < 0.98


def test_a_bootstrap_of_few_pairs_is_not_called_95_percent():
    """From twenty pairs on BCa covers more than 90 %; below, there is none."""

    def interval(rng):
        return stats.bootstrap_difference(rng.normal(size=20), np.zeros(20), resamples=400)

    assert coverage(interval, 0.0, n=300) > 0.9
    assert all(np.isnan(stats.bootstrap_difference(np.arange(19.0), np.zeros(19))))


def test_kappa_is_scikit_learns_and_its_interval_covers():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)
    predicted = np.where(rng.random(200) < 0.6, labels, rng.integers(3, size=200))
    kappa = stats.scores(labels, predicted)["kappa"]
    assert kappa == pytest.approx(cohen_kappa_score(labels, predicted))
    low, high = stats.kappa_interval(labels, predicted)
    assert low < kappa < high

    def interval(rng):
        truth = rng.integers(3, size=120)
        guess = np.where(rng.random(120) < 0.6, truth, rng.integers(3, size=120))
        return stats.kappa_interval(truth, guess)

    assert 0.92 < coverage(interval, 0.6, n=600) < 0.98


def test_errors_by_chance():
    p = [0.001, 0.002, 0.04, 0.3, 0.6, 0.9, np.nan]
    found = stats.chance_errors(p)
    assert (found["tests"], found["found"], found["kept"]) == (6, 3, 2)
    assert found["by_chance"] == pytest.approx(0.3)
    assert found["among_found"] == pytest.approx(0.05 * 4), "two of six above one half"
    nothing = stats.chance_errors(np.random.default_rng(0).random(1000))
    assert nothing["found"] == pytest.approx(nothing["among_found"], abs=15)
    assert nothing["kept"] == 0
    assert stats.chance_errors([])["tests"] == 0


def test_prediction_interval_by_hand():
    x = [1.0, 2.0, 4.0]
    half = 4.302653 * np.std(x, ddof=1) * np.sqrt(4 / 3)
    assert stats.prediction_interval(x) == pytest.approx(
        (np.mean(x) - half, np.mean(x) + half), rel=1e-6
    )
    low, high = stats.prediction_interval([5.0, 5.0, 5.0], other=0.7)
    assert (low, high) == pytest.approx((4.3, 5.7))
    assert np.ptp(stats.prediction_interval(x, other=3.0)) == pytest.approx(2 * np.hypot(half, 3.0))
    assert all(np.isnan(stats.prediction_interval([1.0])))


def test_one_further_network_lies_in_the_prediction_interval_as_often_as_it_says():
    """The interval of the mean, in which a paper's single network was sought before, misses it far
    more often.
    """
    draws = np.random.default_rng(3).normal(85, 0.6, (2000, 11))
    found = {}
    for name in ("prediction_interval", "mean_interval"):
        low, high = np.array([getattr(stats, name)(row[:10]) for row in draws]).T
        found[name] = np.mean((low <= draws[:, 10]) & (draws[:, 10] <= high))
    assert 0.93 < found["prediction_interval"] < 0.97
    assert found["mean_interval"] < 0.6


def test_summary_is_of_the_runs_of_a_method(frame):
    row = stats.summarise(frame, "method").set_index("method").loc["b"]
    x = column(frame, "b")
    assert (row.n, row["mean"], row.sd, row["max"]) == pytest.approx(
        (12, x.mean(), x.std(ddof=1), x.max())
    )


def test_comparison_is_scipys_on_pairs(frame):
    table = stats.compare(frame.sample(frac=1, random_state=0), "a").set_index("method")
    for name in ("b", "c"):
        x, base = column(frame, name), column(frame, "a")
        assert table.loc[name, "difference"] == pytest.approx((x - base).mean())
        assert table.loc[name, "p_paired"] == pytest.approx(scipy_stats.ttest_rel(x, base).pvalue)
        assert table.loc[name, "p_welch"] == pytest.approx(
            scipy_stats.ttest_ind(x, base, equal_var=False).pvalue
        )
        ends = scipy_stats.ttest_rel(x, base).confidence_interval(1 - 0.05 / 2)
        assert table.loc[name, ["low_all", "high_all"]].tolist() == pytest.approx(list(ends))
        assert table.loc[name, "low_all"] < table.loc[name, "low"] < table.loc[name, "difference"]
        apart = scipy_stats.ttest_ind(x, base, equal_var=False).confidence_interval()
        assert table.loc[name, ["low_welch", "high_welch"]].tolist() == pytest.approx(list(apart))
    assert (
        table.loc["b", "p_paired"] < 1e-6 < table.loc["b", "p_welch"]
    )  # pairing removes what the two share


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03: times 3, 2, 1, then made non-decreasing."""
    assert stats.holm([0.02, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])
    assert stats.holm([0.02, np.nan, 0.01])[[0, 2]] == pytest.approx([0.02, 0.02])


def test_incomplete_pairs_are_refused(frame):
    with pytest.raises(ValueError, match="pairs"):
        stats.compare(frame.iloc[:-1], "a")


def test_equal_runs_give_no_significance():
    rows = [{"method": m, "seed": i, "accuracy": float(i)} for m in ("a", "b") for i in range(3)]
    row = stats.compare(pd.DataFrame(rows), "a").iloc[0]
    assert row.difference == 0
    assert not row.p_paired < 0.05


def test_table_4_follows_from_the_released_runs():
    runs = published("ablation_runs").rename(columns={"test_accuracy": "accuracy", "run": "seed"})
    summary = stats.summarise(runs, "method").set_index("method")
    printed = published("table4_ablation").set_index("method").drop("Teacher")
    assert (summary["mean"] - printed.acc_mean).abs().max() < 0.011
    tests = stats.compare(runs, "Student").set_index("method")
    assert tests.loc["KD", "t_paired"] == pytest.approx(2.57, abs=0.01)


def test_interval_of_the_median_is_by_ranks():
    x = np.arange(10.0)
    # binomial(10, 0.5): leaving out one value at either end keeps 97.9 %, two keep 89.1 %
    assert stats.median_interval(x) == (1.0, 8.0)
    assert all(
        np.isnan(stats.median_interval([1.0, 2.0, 3.0, 4.0, 5.0]))
    )  # 1 - 2 / 2**5 is less than 95 %


def test_medians_keep_groups_apart_whatever_their_order():
    frame = pd.DataFrame(
        {"b": [9] * 7 + [1] * 7, "a": ["x"] * 14, "v": [*range(7), *range(100, 107)]}
    )
    table = stats.medians(frame, ["a", "b"], "v")
    assert table[["a", "b", "n", "median", "q25", "q75", "low", "high"]].values.tolist() == [
        ["x", 9, 7, 3, 1.5, 4.5, 0, 6],
        ["x", 1, 7, 103, 101.5, 104.5, 100, 106],
    ]


def test_highest_of_further_runs_covers_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for i in range(300):
        low, high = stats.highest_interval(rng.normal(90, 0.4, 5), of=3, draws=2000, seed=i)
        hits += low <= rng.normal(90, 0.4, 3).max() <= high
    assert 0.91 < hits / 300 < 0.985
    assert all(np.isnan(stats.highest_interval([1.0], of=3)))
    tight, wide = (
        np.diff(stats.highest_interval(rng.normal(90, 0.4, n), of=10))[0] for n in (50, 3)
    )
    assert tight < wide


def test_accuracy_has_an_interval_over_networks_and_one_over_pictures():
    right = np.zeros((3, 200), dtype=bool)
    for row, count in zip(right, (150, 160, 170)):
        row[:count] = True
    found = stats.accuracy_intervals(right)
    assert (found["n"], found["pictures"], found["accuracy"]) == (3, 200, pytest.approx(80))
    assert (found["low"], found["high"]) == pytest.approx(stats.mean_interval([75.0, 80.0, 85.0]))
    z, p, n = scipy_stats.norm.ppf(0.975), 0.8, 200
    middle, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)),
    )
    assert (found["pictures_low"], found["pictures_high"]) == pytest.approx(
        (100 * (middle - half), 100 * (middle + half))
    )
    one = stats.accuracy_intervals(right[0])
    assert np.isnan(one["low"])
    assert one["pictures_low"] < 75 < one["pictures_high"]


def largest_distance(samples: np.ndarray) -> np.ndarray:
    """Lilliefors' statistic by its definition."""
    x = np.sort(samples, axis=1)
    n = x.shape[1]
    normal = scipy_stats.norm.cdf(
        (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, ddof=1, keepdims=True)
    )
    above, below = np.arange(1, n + 1) / n - normal, normal - np.arange(n) / n
    return np.maximum(above, below).max(axis=1)


def test_pooled_sd_is_the_root_of_the_mean_variance_for_equal_groups():
    frame = pd.DataFrame({"m": list("aaabbb"), "x": [1.0, 2.0, 3.0, 5.0, 5.0, 8.0]})
    assert stats.pooled_sd(frame, "m", "x") == pytest.approx(np.sqrt((1.0 + 3.0) / 2))
    several = np.random.default_rng(0)
    frame = pd.DataFrame({"m": several.choice(list("abcd"), 40), "x": several.normal(size=40)})
    groups = frame.groupby("m").x
    freedom = groups.count() - 1
    by_hand = np.sqrt((groups.var() * freedom).sum() / freedom.sum())
    assert stats.pooled_sd(frame, "m", "x") == pytest.approx(by_hand)


@pytest.mark.parametrize("best_of", [1, 10])
def test_equal_cells_are_the_best_of_normal_runs(best_of):
    ours = stats.equal_cells(6, 0.4, best_of, draws=20_000)
    runs = np.random.default_rng(1).normal(0, 0.4, (20_000, 6, best_of)).max(axis=2)
    assert ours.mean() == pytest.approx(runs.mean(), abs=0.01)
    assert ours.std() == pytest.approx(runs.std(), rel=0.02)
    assert stats.spread(ours).max_minus_mean.mean() == pytest.approx(
        (runs.max(1) - runs.mean(1)).mean(), rel=0.02
    )


def test_an_estimated_sd_keeps_its_level_only_with_its_own_uncertainty():
    """Six equal cells, and the sd from ten runs: with the sd taken as known too many are found."""
    rng, found = np.random.default_rng(2), {None: 0, 9: 0}
    unit = {free: stats.equal_cells(6, 1.0, draws=4_000, freedom=free) for free in found}
    quantile = {
        free: stats.spread(cells).max_minus_mean.quantile(0.95) for free, cells in unit.items()
    }
    for _ in range(4_000):
        cells, sd = rng.normal(size=6), rng.normal(size=10).std(ddof=1)
        for free, critical in quantile.items():
            found[free] += cells.max() - cells.mean() > sd * critical
    assert found[9] / 4_000 == pytest.approx(0.05, abs=0.012)
    assert found[None] / 4_000 > 0.065


def test_spread_of_a_written_row():
    row = stats.spread(np.array([1.0, 5.0, 3.0, 4.0])).iloc[0]
    assert row.to_dict() == pytest.approx(
        {
            "max_minus_mean": 1.75,
            "max_minus_second": 1,
            "range": 4,
            "sd": np.std([1, 3, 4, 5], ddof=1),
        }
    )


def test_p_counts_the_observed_value():
    assert stats.upper_p([0.0, 1.0, 2.0], 1.0) == pytest.approx(3 / 4)


def test_lilliefors_statistic_and_null_are_those_of_the_definition():
    samples = np.random.default_rng(1).uniform(size=(50, 7))
    assert stats.lilliefors_statistic(samples) == pytest.approx(largest_distance(samples))
    normal = np.random.default_rng(0).normal(size=(2_000, 60))  # the same draws, one by one
    assert stats.lilliefors_null(60, 2_000) == pytest.approx(largest_distance(normal))


def test_welch_from_summaries_is_welch_from_runs():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 20), rng.normal(0, 2, 30)
    ours = stats.welch((a.mean(), a.std(ddof=1), 20), (b.mean(), b.std(ddof=1), 30))
    test = scipy_stats.ttest_ind(a, b, equal_var=False)
    interval = test.confidence_interval()
    expected = (test.statistic, test.pvalue, test.df, interval.low, interval.high)
    assert (ours["t"], ours["p"], ours["df"], ours["low"], ours["high"]) == pytest.approx(expected)
    assert ours["t_pooled"] == pytest.approx(scipy_stats.ttest_ind(a, b).statistic)


def test_variance_ratio_has_its_level():
    rng = np.random.default_rng(0)
    sds = rng.normal(size=(1000, 2, 20)).std(axis=2, ddof=1)
    p = np.array([stats.variance_ratio(a, 20, b, 20).p for a, b in sds])
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.02)
    ratio = stats.variance_ratio(2.0, 10, 1.0, 10)
    assert ratio.low * ratio.high == pytest.approx(16)


def test_half_widths():
    assert stats.half_width(0.553, 60, student=False) == pytest.approx(
        1.959964 * 0.553 / np.sqrt(60)
    )
    assert stats.half_width(0.553, 60) == pytest.approx(2.000995 * 0.553 / np.sqrt(60), rel=1e-5)


def test_detectable_difference_has_its_power():
    difference = stats.detectable(0.4, 10)
    rng = np.random.default_rng(0)
    p = scipy_stats.ttest_ind(
        rng.normal(difference, 0.4, (4000, 10)), rng.normal(0, 0.4, (4000, 10)), axis=1
    ).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.03)
