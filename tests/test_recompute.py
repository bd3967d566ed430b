import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as scipy_stats
from sklearn.mixture import GaussianMixture
from statsmodels.stats.diagnostic import lilliefors
from torch.nn import functional as F

from kdig.measure import stats
from kdig.paper import recompute


def test_difference_of_two_single_runs_is_normal():
    exact = 2 * scipy_stats.norm.sf(0.5 / (0.3 * np.sqrt(2)))
    assert recompute.cell_difference_p(-0.5, 0.3) == pytest.approx(exact, abs=0.01)


def test_additive_fit_is_the_table_less_its_margins():
    values = np.random.default_rng(0).normal(size=(4, 3))
    frame = pd.DataFrame([{"a": i, "b": j, "y": values[i, j]} for i in range(4) for j in range(3)])
    rest = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()
    sd, table = recompute.additive_fit(frame, "y", "a", "b")
    assert sd**2 == pytest.approx((rest**2).sum() / 6)
    assert table.loc["a", "F"] == pytest.approx(3 * values.mean(1).var(ddof=1) / sd**2)
    assert table.loc["b", "PR(>F)"] == pytest.approx(scipy_stats.f.sf(table.loc["b", "F"], 2, 6))


def test_rest_of_a_grid_is_what_was_taken_away():
    x = np.random.default_rng(0).normal(90, 1, 12)
    n, mean, sd = recompute.rest_of_grid((12, x.mean(), x.std(ddof=1)), x[:5].tolist())
    assert (n, mean, sd) == pytest.approx((7, x[5:].mean(), x[5:].std(ddof=1)))


def test_rounding_of_a_printed_time():
    assert recompute.half_unit(0.0127, 3) == pytest.approx(0.00005)
    ratio = recompute.rounded_ratio(0.14, 0.0127, 0.00005)
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((10.980, 11.024, 11.067), abs=1e-3)


def test_prediction_interval_is_the_textbook_one():
    x, y = np.array([1.0, 2.0, 3.0, 4.0, 6.0]), np.array([1.1, 1.9, 3.2, 3.9, 6.1])
    line = scipy_stats.linregress(x, y)
    residual = np.sqrt(((y - line.slope * x - line.intercept) ** 2).sum() / 3)
    half = (
        scipy_stats.t.ppf(0.975, 3)
        * residual
        * np.sqrt(1 + 1 / 5 + (9 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    )
    shown, r2 = recompute.predict(x, y, [9.0])
    assert shown.loc[0, ["value", "low", "high"]].tolist() == pytest.approx(
        [line.slope * 9 + line.intercept + s * half for s in (0, -1, 1)]
    )
    assert r2 == pytest.approx(line.rvalue**2)


def test_bins_bound_the_values_in_them():
    x = np.random.default_rng(0).normal(90, 0.5, 61)
    edges = np.linspace(88, 92, 30)
    count = np.histogram(x, edges)[0]
    mean = recompute.binned_mean(edges[:-1], edges[1:], count)
    median = recompute.binned_median(edges[:-1], edges[1:], count, 61)
    assert mean.low <= x.mean() <= mean.high
    assert median.low <= np.median(x) <= median.high
    draws = recompute.draw_from_bins(edges[:-1], edges[1:], count, draws=5)
    assert all((np.histogram(row, edges)[0] == count).all() for row in draws)


def test_hidden_values_are_found_again():
    x = np.sort(np.random.default_rng(0).normal(91.3, 0.5, 60))
    edges = np.linspace(89, 92, 27)
    count, hidden = np.histogram(x, edges)[0], x[x > 92]
    implied = recompute.hidden_mean(x.mean(), 60, edges[:-1], edges[1:], count)
    assert implied.low <= hidden.mean() <= implied.high
    shown = recompute.draw_from_bins(edges[:-1], edges[1:], count, draws=200)
    whole = recompute.add_hidden(shown, len(hidden), 92.0, x.mean(), x.std(ddof=1))
    assert whole.shape[1] == 60
    assert whole.mean(axis=1) == pytest.approx(np.full(len(whole), x.mean()))
    assert (np.sort(whole)[:, -len(hidden) :] > 92).all()


def test_lilliefors_is_statsmodels():
    x = np.random.default_rng(3).normal(size=60)
    statistic, p = lilliefors(x)
    assert stats.lilliefors_statistic(x)[0] == pytest.approx(statistic)
    assert recompute.lilliefors_table_p(statistic, 60) == pytest.approx(p)
    null = stats.lilliefors_null(60)
    assert np.quantile(null, 0.95) == pytest.approx(
        0.1143, abs=0.001
    )  # critical value at n = 60: 0.895 / (sqrt(n) - 0.01 + 0.85 / sqrt(n))


def test_range_of_t_covers_what_rounding_hid():
    t = recompute.rounded_t((90.65, 0.337, 60), (90.05, 0.343, 60), 0.005, 0.0005)
    corners = [
        (90.65 + i - 90.05 - j) / np.hypot((0.337 + k) / 60**0.5, (0.343 + m) / 60**0.5)
        for i in (-0.005, 0.005) for j in (-0.005, 0.005) for k in (-0.0005, 0.0005) for m in (-0.0005, 0.0005)
    ]  # fmt: skip
    assert (t.low, t.high) == pytest.approx((min(corners), max(corners)))


def test_kappa_range_bounds_every_confusion():
    rng = np.random.default_rng(0)
    correct, total = np.array([5, 20, 0]), np.array([10, 30, 4])
    low, high = recompute.kappa_range(correct, total)
    for _ in range(200):
        confusion = np.diag(correct)
        for i, errors in enumerate(total - correct):
            others = [j for j in range(3) if j != i]
            confusion[i, others] += rng.multinomial(errors, rng.dirichlet([0.3, 0.3]))
        n = confusion.sum()
        chance = (confusion.sum(0) * confusion.sum(1)).sum() / n**2
        kappa = (np.trace(confusion) / n - chance) / (1 - chance)
        assert low - 1e-12 <= kappa <= high + 1e-12


@pytest.mark.parametrize(
    ("alpha", "temperature", "target"),
    [(0.01, 2.5, 0.1), (0.5, 4, 0.1), (0.3, 2, 0.8), (0.01, 2.5, 0.98)],
)
def test_stationary_gap_is_where_eq_1_is_smallest(alpha, temperature, target):
    """Eq. 1 over a grid of gaps, for a softened target that gives the true class `target` and the
    rest equal parts.
    """
    gaps = np.linspace(-5, 40, 45_001)

    def log_softmax(gap):
        return np.array([-np.log1p(9 * np.exp(-gap)), -gap - np.log1p(9 * np.exp(-gap))])

    soft = np.array([target, (1 - target) / 9])
    plain, softened = log_softmax(gaps), log_softmax(gaps / temperature)
    kl = (np.array([1, 9]) * soft * np.log(soft)).sum() - (np.array([1, 9]) * soft) @ softened
    loss = -(1 - alpha) * plain[0] + alpha * temperature**2 * kl
    assert recompute.stationary_gap(alpha, temperature, target) == pytest.approx(
        gaps[loss.argmin()], abs=0.002
    )


def test_matching_smoothing_has_the_same_gap():
    for gap in (1.0, 4.5, 9.0):
        epsilon = recompute.matching_smoothing(gap)
        true = 1 - epsilon + epsilon / 10
        assert np.log(true / (epsilon / 10)) == pytest.approx(gap)


def _two_groups(rng, draws, n=60, share=0.4, distance=4.0):
    upper = rng.random((draws, n)) < share
    return 90 + 0.2 * (rng.normal(size=(draws, n)) + distance * upper)


def test_two_normals_are_scikit_learns_mixture():
    samples = _two_groups(np.random.default_rng(0), 5)
    for x, row in zip(samples, recompute.two_normals(samples, iterations=2_000).itertuples()):
        z = ((x - x.mean()) / x.std())[:, None]
        fit = GaussianMixture(
            2, covariance_type="tied", reg_covar=0, tol=1e-9, max_iter=5_000, random_state=0
        ).fit(z)
        theirs = 2 * 60 * (fit.score(z) - scipy_stats.norm.logpdf(z).mean())
        order = fit.means_[:, 0].argsort()
        means = x.mean() + x.std() * fit.means_[order, 0]
        assert row.ratio == pytest.approx(theirs, abs=0.02)
        assert [row.low, row.high] == pytest.approx(means, abs=0.002)
        assert row.share == pytest.approx(fit.weights_[order[1]], abs=0.005)


def test_two_normals_parts_of_the_variance_add_up():
    samples = _two_groups(np.random.default_rng(1), 4)
    fit = recompute.two_normals(samples)
    between = fit.share * (1 - fit.share) * (fit.high - fit.low) ** 2
    assert np.allclose(between + fit.sd**2, samples.var(axis=1))
    assert np.allclose(fit.between, between / samples.var(axis=1))
    assert np.allclose(fit.separation, (fit.high - fit.low) / fit.sd)


def test_two_normals_large_statistics_have_converged():
    """What p-values rest on: the upper quantiles, and samples with two groups."""
    rng = np.random.default_rng(3)
    null = rng.normal(size=(400, 60))
    short, long = (
        np.quantile(recompute.two_normals(null, **given).ratio, [0.9, 0.95, 0.98])
        for given in ({}, {"iterations": 1_000})
    )
    assert short == pytest.approx(long, abs=0.02)
    groups = _two_groups(rng, 10)
    assert np.allclose(
        recompute.two_normals(groups).ratio,
        recompute.two_normals(groups, iterations=1_000).ratio,
        atol=0.02,
    )


def test_two_normals_statistic_ignores_place_and_scale_and_finds_groups():
    rng = np.random.default_rng(2)
    normal = rng.normal(size=(200, 60))
    null = recompute.two_normals(normal).ratio
    assert np.allclose(recompute.two_normals(90 - 0.3 * normal[:20]).ratio, null[:20], atol=0.05)
    assert (null >= 0).all()
    assert (
        4 < np.quantile(null, 0.95) < 9
    )  # between chi-square of one and of several degrees of freedom
    found = recompute.two_normals(_two_groups(rng, 20))
    assert (found.ratio > null.max()).all()
    assert found.share.mean() == pytest.approx(0.4, abs=0.04)
    assert found.separation.mean() == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("own", [True, False])
def test_distilled_loss_is_eq_1_over_written_out_logits(own):
    """Ten classes' partners one by one, by torch's functions."""
    alpha, t, classes = 0.1, 3.0, 10
    found = recompute.distilled_loss(alpha, t, 6.0, own)
    student = torch.zeros(classes, dtype=torch.float64)
    student[0] = found.gap
    partners = 6.0 * torch.eye(classes, dtype=torch.float64)[: 1 if own else classes]
    log_q = F.log_softmax(student / t, 0).expand(len(partners), -1)
    kl = F.kl_div(log_q, F.softmax(partners / t, 1), reduction="batchmean").item()
    entropy = -F.log_softmax(student, 0)[0].item()
    assert (found.cross_entropy, found.divergence) == pytest.approx((entropy, kl))
    assert found.loss == pytest.approx((1 - alpha) * entropy + alpha * t**2 * kl)


def test_a_stored_loss_gives_its_teachers_gap_back():
    found = recompute.distilled_loss(0.1, 3.0, 6.0, own=False)
    left = recompute.divergence_of(found.loss, 0.1, 3.0, found.cross_entropy)
    assert left == pytest.approx(found.divergence)
    assert recompute.teacher_gap_of(left, 0.1, 3.0) == pytest.approx(6.0)
    assert np.isnan(recompute.teacher_gap_of(50.0, 0.1, 3.0)), "no teacher leaves so much"
