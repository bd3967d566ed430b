"""What follows from the paper's printed numbers without training: small functions of numbers and
tables, no file access.

Each names the table or section whose numbers it is applied to.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from numpy.typing import ArrayLike
from scipy import optimize, stats
from statsmodels.stats._lilliefors import get_lilliefors_table
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.power import TTestIndPower

from kdig.measure.stats import Estimate


def pooled_sd(frame: pd.DataFrame, by: str, value: str) -> float:
    """Standard deviation within the groups `by`, pooled over them (Table 4's released runs)."""
    groups = frame.groupby(by)[value]
    freedom = groups.count() - 1
    return float(np.sqrt((groups.var() * freedom).sum() / freedom.sum()))


def equal_cells(
    cells: int, sd: float, best_of: int = 1, draws: int = 20_000, seed: int = 0
) -> np.ndarray:
    """(draws, cells): searches whose cells have one true accuracy (Tables S10-S12), set to 0.

    A cell is the best of `best_of` normal runs with standard deviation `sd`. The best of k uniform
    values is one uniform value to the power 1/k, so that a cell costs one random number.
    """
    uniform = np.random.default_rng(seed).random((draws, cells))
    return np.asarray(sd * stats.norm.ppf(uniform ** (1 / best_of)))


def spread(cells: np.ndarray) -> pd.DataFrame:
    """For each row of `cells`: maximum minus mean, maximum minus second, range and standard
    deviation (n - 1).
    """
    ordered = np.sort(np.atleast_2d(cells), axis=1)
    return pd.DataFrame(
        {
            "max_minus_mean": ordered[:, -1] - ordered.mean(axis=1),
            "max_minus_second": ordered[:, -1] - ordered[:, -2],
            "range": ordered[:, -1] - ordered[:, 0],
            "sd": ordered.std(axis=1, ddof=1),
        }
    )


def upper_p(simulated: ArrayLike, observed: float) -> float:
    """Share of simulated values that reach the observed one.

    The observed one counts as one of them.
    """
    values = np.asarray(simulated)
    return float((1 + np.sum(values >= observed - 1e-12)) / (1 + len(values)))


def cell_difference_p(
    difference: float, sd: float, best_of: int = 1, draws: int = 20_000, seed: int = 0
) -> float:
    """Two-sided p of the difference of two given cells, when both are the best of `best_of` runs of
    one distribution.
    """
    two = equal_cells(2, sd, best_of, draws, seed)
    return upper_p(np.abs(two[:, 0] - two[:, 1]), abs(difference))


def additive_fit(
    frame: pd.DataFrame, value: str, first: str, second: str
) -> tuple[float, pd.DataFrame]:
    """Residual sd and F tests of `value` = row effect + column effect, one observation a cell
    (Table S10).
    """
    fit = smf.ols(f"{value} ~ C({first}) + C({second})", data=frame).fit()
    table = anova_lm(fit, typ=2).rename(index={f"C({first})": first, f"C({second})": second})
    return float(np.sqrt(fit.scale)), table


def rest_of_grid(
    whole: tuple[int, float, float], part: Sequence[float]
) -> tuple[int, float, float]:
    """n, mean and sd of the cells that are in the `whole` (n, mean, sd) and not in the printed
    `part` (Table S10, section 3.2).
    """
    n, mean, sd = whole
    x = np.asarray(part, dtype=float)
    rest = n - len(x)
    rest_mean = (n * mean - x.sum()) / rest
    squares = (n - 1) * sd**2 + n * mean**2 - (x**2).sum()
    return rest, float(rest_mean), float(np.sqrt((squares - rest * rest_mean**2) / (rest - 1)))


def rounded_ratio(numerator: float, denominator: float, half_unit: float) -> Estimate:
    """A ratio with the range that rounding of the denominator by up to `half_unit` allows (Table
    S9).
    """
    return Estimate(
        numerator / denominator,
        numerator / (denominator + half_unit),
        numerator / (denominator - half_unit),
    )


def half_unit(value: float, digits: int) -> float:
    """Half a unit in the last of `digits` significant digits: the most that rounding moved `value`."""
    return float(0.5 * 10.0 ** (np.floor(np.log10(abs(value))) - digits + 1))


def predict(
    x: Sequence[float], y: Sequence[float], at: Sequence[float], level: float = 0.95
) -> tuple[pd.DataFrame, float]:
    """A straight line through (x, y), its predictions `at` given places with prediction intervals,
    and its R squared (Table S9).
    """
    fit = smf.ols("y ~ x", data=pd.DataFrame({"x": list(x), "y": list(y)})).fit()
    frame = fit.get_prediction(pd.DataFrame({"x": list(at)})).summary_frame(alpha=1 - level)
    shown = pd.DataFrame(
        {
            "x": list(at),
            "value": frame["mean"],
            "low": frame.obs_ci_lower,
            "high": frame.obs_ci_upper,
        }
    )
    return shown, float(fit.rsquared)


def binned_mean(low: ArrayLike, high: ArrayLike, count: ArrayLike) -> Estimate:
    """Mean of binned values: from the bins' middles, with the least and greatest that the edges
    allow (Figure 6).
    """
    lows, highs, n = (np.asarray(v, dtype=float) for v in (low, high, count))
    least, greatest = (lows * n).sum() / n.sum(), (highs * n).sum() / n.sum()
    return Estimate(float((least + greatest) / 2), float(least), float(greatest))


def binned_median(low: ArrayLike, high: ArrayLike, count: ArrayLike, total: int) -> Estimate:
    """Median of `total` values of which the binned ones are the lowest, with the bounds that the
    bins' edges give (Figure 6).
    """
    lows, highs, n = (
        np.asarray(low, dtype=float),
        np.asarray(high, dtype=float),
        np.asarray(count, dtype=int),
    )
    reached = np.cumsum(n)
    bins = [int(np.searchsorted(reached, rank)) for rank in ((total + 1) // 2, total // 2 + 1)]
    least, greatest = lows[bins].mean(), highs[bins].mean()
    return Estimate(float((least + greatest) / 2), float(least), float(greatest))


def hidden_mean(
    mean: float, total: int, low: ArrayLike, high: ArrayLike, count: ArrayLike
) -> Estimate:
    """Mean that the runs outside of the histogram must have for all `total` to have the printed
    `mean` (Figure 6).
    """
    shown, n = binned_mean(low, high, count), int(np.sum(count))
    rest = total - n
    value, greatest, least = (
        (total * mean - n * m) / rest for m in (shown.value, shown.low, shown.high)
    )
    return Estimate(float(value), float(least), float(greatest))


def draw_from_bins(
    low: ArrayLike, high: ArrayLike, count: ArrayLike, draws: int = 2_000, seed: int = 0
) -> np.ndarray:
    """(draws, n): samples that give these bins, each value uniform within its bin (Figure 6)."""
    n = np.asarray(count, dtype=int)
    lows, highs = (
        np.repeat(np.asarray(low, dtype=float), n),
        np.repeat(np.asarray(high, dtype=float), n),
    )
    return np.asarray(np.random.default_rng(seed).uniform(lows, highs, (draws, len(lows))))


def add_hidden(
    shown: np.ndarray,
    hidden: int,
    above: float,
    mean: float,
    sd: float,
    seed: int = 0,
    share: float = 0.1,
) -> np.ndarray:
    """`shown` (draws, n) completed by `hidden` values `above` an edge, so that each sample has the
    printed mean (Figure 6).

    The excess over the edge is divided at random (uniformly over all divisions); of all samples the
    `share` whose standard deviation is nearest to the printed `sd` is returned.
    """
    total = shown.shape[1] + hidden
    excess = total * mean - shown.sum(axis=1) - hidden * above
    shown, excess = shown[excess > 0], excess[excess > 0]
    parts = np.random.default_rng(seed).dirichlet(np.ones(hidden), len(shown))
    samples = np.hstack([shown, above + excess[:, None] * parts])
    nearest = np.argsort(np.abs(samples.std(axis=1, ddof=1) - sd))[
        : max(1, int(share * len(samples)))
    ]
    return np.asarray(samples[nearest])


def lilliefors_statistic(samples: np.ndarray) -> np.ndarray:
    """Largest distance of each row's distribution function from the normal one with its mean and sd
    (Table S7).
    """
    x = np.sort(np.atleast_2d(samples), axis=1)
    n = x.shape[1]
    normal = stats.norm.cdf(
        (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, ddof=1, keepdims=True)
    )
    above, below = np.arange(1, n + 1) / n - normal, normal - np.arange(n) / n
    return np.asarray(np.maximum(above, below).max(axis=1))


def lilliefors_table_p(statistic: float, n: int) -> float:
    """Lilliefors' p from the table of statsmodels, linear between its levels (Table S7)."""
    return float(get_lilliefors_table("norm").prob(statistic, n))


def lilliefors_null(n: int, draws: int = 20_000, seed: int = 0) -> np.ndarray:
    """Statistics of `draws` normal samples of size `n`.

    `upper_p` of it is Lilliefors' p (Table S7).
    """
    return lilliefors_statistic(np.random.default_rng(seed).normal(size=(draws, n)))


def two_normals(samples: np.ndarray, equal: bool = True, iterations: int = 50) -> pd.DataFrame:
    """One normal against a mixture of two for each row of `samples` (draws, n), by EM on all rows
    at once (Figure 6).

    `ratio`: twice the gain in log-likelihood, 0 or more; `share` of the upper component; `low`,
    `high`: the two means; `sd` within the components; `separation`: distance of the means over it;
    `between`: share of the variance that lies between the means. Unless widths are `equal`, each
    component has its own, a tenth of the whole sd added in squares, which keeps it from closing in
    on one value, though not from a narrow group. Every row starts from three splits, and the
    likeliest end counts (in samples of 60 from one normal, more than 50 steps leave the statistic's
    upper quantiles as they are, to three digits). The statistic does not depend on location and
    scale, so that normal samples of the same size give its distribution for any one normal.
    """
    centre, scale = samples.mean(axis=1, keepdims=True), samples.std(axis=1, keepdims=True)
    fits = [
        _expect_maximise((samples - centre) / scale, cut, equal, iterations)
        for cut in (0.15, 0.5, 0.85)
    ]
    fit = pd.concat(fits, keys=range(len(fits)), names=["start", "row"]).reset_index()
    best = (
        fit.loc[fit.groupby("row").ratio.idxmax()]
        .drop(columns=["start", "row"])
        .reset_index(drop=True)
    )
    best["ratio"] = best.ratio.clip(lower=0)
    best[["low", "high"]] = centre + scale * best[["low", "high"]].to_numpy()
    return best.assign(
        sd=best.sd * scale[:, 0],
        between=1 - best.sd**2,
        separation=(best.high - best.low) / (best.sd * scale[:, 0]),
    )


def _expect_maximise(z: np.ndarray, cut: float, equal: bool, iterations: int) -> pd.DataFrame:
    """`two_normals` of standardised rows from one start: the values above each row's quantile `cut`
    are the upper component.
    """
    member = (z > np.quantile(z, cut, axis=1, keepdims=True)).astype(float)
    for _ in range(iterations):
        belongs = np.stack([1 - member, member])
        weight = belongs.mean(axis=2).clip(1e-9, 1)
        means = (belongs * z).mean(axis=2) / weight
        squares = (belongs * (z - means[..., None]) ** 2).mean(axis=2)
        variance = (
            np.broadcast_to(squares.sum(axis=0), squares.shape)
            if equal
            else squares / weight + 0.01
        )
        # scipy's norm.logpdf checks its arguments anew in each of these steps
        deviance = (z - means[..., None]) ** 2 / variance[..., None] + np.log(2 * np.pi * variance)[
            ..., None
        ]
        logs = np.log(weight)[..., None] - deviance / 2
        total = np.logaddexp(*logs)
        member = np.exp(logs[1] - total)
    one = stats.norm.logpdf(z).sum(axis=1)
    ends = np.where(
        means[0] <= means[1], [means[0], means[1], weight[1]], [means[1], means[0], weight[0]]
    )
    columns = {
        "ratio": 2 * (total.sum(axis=1) - one),
        "share": ends[2],
        "low": ends[0],
        "high": ends[1],
    }
    return pd.DataFrame(columns | {"sd": np.sqrt(squares.sum(axis=0))})


def gap_depth(counts: ArrayLike) -> np.ndarray:
    """Runs on the thinner side of the deepest empty bin, for each row of bin counts (draws, bins);
    0 without one (Figure 6).
    """
    n = np.atleast_2d(np.asarray(counts, dtype=int))
    below = n.cumsum(axis=1)
    return np.asarray(np.where(n == 0, np.minimum(below, below[:, -1:] - below), 0).max(axis=1))


def bin_counts(samples: np.ndarray, edges: ArrayLike) -> np.ndarray:
    """(draws, edges + 1): values of each row below the first edge, between the edges, and from the
    last edge on (Figure 6).
    """
    inner = np.asarray(edges, dtype=float)
    return np.stack(
        [
            np.bincount(np.digitize(row, inner), minlength=len(inner) + 1)
            for row in np.atleast_2d(samples)
        ]
    )


def welch(a: tuple[float, float, int], b: tuple[float, float, int]) -> dict[str, float]:
    """Welch's test and 95 % interval of a - b from (mean, sd, n) (Table 5), and the pooled-variance
    t beside it.
    """
    (mean_a, sd_a, n_a), (mean_b, sd_b, n_b) = a, b
    test = stats.ttest_ind_from_stats(mean_a, sd_a, n_a, mean_b, sd_b, n_b, equal_var=False)
    pooled = stats.ttest_ind_from_stats(mean_a, sd_a, n_a, mean_b, sd_b, n_b)
    u, v = sd_a**2 / n_a, sd_b**2 / n_b
    freedom = (u + v) ** 2 / (u**2 / (n_a - 1) + v**2 / (n_b - 1))
    half = stats.t.ppf(0.975, freedom) * np.sqrt(u + v)
    difference = mean_a - mean_b
    values = {
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "t": test.statistic,
        "df": freedom,
    }
    return {
        name: float(v)
        for name, v in {**values, "p": test.pvalue, "t_pooled": pooled.statistic}.items()
    }


def rounded_t(
    a: tuple[float, float, int], b: tuple[float, float, int], mean_unit: float, sd_unit: float
) -> Estimate:
    """t of independent samples from printed summaries, with the range that their rounding (half
    units) allows (Table 5).
    """
    (mean_a, sd_a, n_a), (mean_b, sd_b, n_b) = a, b
    value = (mean_a - mean_b) / np.hypot(sd_a / n_a**0.5, sd_b / n_b**0.5)
    ends = []
    for s in (-1, 1):
        error = np.hypot((sd_a - s * sd_unit) / n_a**0.5, (sd_b - s * sd_unit) / n_b**0.5)
        ends.append((mean_a - mean_b + 2 * s * mean_unit) / error)
    return Estimate(float(value), float(min(ends)), float(max(ends)))


def variance_ratio(sd_a: float, n_a: int, sd_b: float, n_b: int) -> Estimate:
    """Ratio of variances a / b with its 95 % interval and two-sided p by F, which supposes normal
    runs (Table 5).
    """
    ratio, freedom = (sd_a / sd_b) ** 2, (n_a - 1, n_b - 1)
    p = 2 * min(stats.f.cdf(ratio, *freedom), stats.f.sf(ratio, *freedom))
    low, high = ratio / stats.f.ppf(0.975, *freedom), ratio / stats.f.ppf(0.025, *freedom)
    return Estimate(float(ratio), float(low), float(high), float(min(p, 1.0)))


def half_width(sd: float, n: int, student: bool = False) -> float:
    """Half the width of the 95 % interval of a mean: normal quantile, or Student's t (Table S8)."""
    quantile = stats.t.ppf(0.975, n - 1) if student else stats.norm.ppf(0.975)
    return float(quantile * sd / n**0.5)


def detectable(sd: float, n: int, power: float = 0.8) -> float:
    """Smallest difference of two means that a two-sided t test at 0.05 finds with this power, `n`
    runs each (section 3.5).
    """
    return float(sd * TTestIndPower().solve_power(nobs1=n, alpha=0.05, power=power))


def weighted_accuracy(per_class: ArrayLike, weights: ArrayLike) -> float:
    """Accuracy over all pictures from per-class accuracies and class sizes (Tables 6, S14)."""
    return float(
        np.average(np.asarray(per_class, dtype=float), weights=np.asarray(weights, dtype=float))
    )


def stationary_gap(alpha: float, temperature: float, target: float, classes: int = 10) -> float:
    """How far the true class's logit stands above the others, taken as equal, where the gradient of
    Eq. 1 vanishes.

    `target` is what the softened target gives the true class on average: the teacher's for the
    picture itself, or 1 / classes for a picture that has nothing to do with it. With p(a) = 1 / (1
    + (K - 1) exp(-a)) the gap a solves (1 - alpha) (1 - p(a)) = alpha T (p(a / T) - target).
    """

    def gradient(gap: float) -> float:
        plain, softened = (1 / (1 + (classes - 1) * np.exp(-gap / t)) for t in (1, temperature))
        return float((1 - alpha) * (1 - plain) - alpha * temperature * (softened - target))

    return float(optimize.brentq(gradient, -50, 200))


def matching_smoothing(gap: float, classes: int = 10) -> float:
    """The label smoothing whose stationary gap, without distillation, is `gap`."""
    return float(classes / (classes - 1 + np.exp(gap)))


def kappa_range(correct: ArrayLike, total: ArrayLike) -> tuple[float, float]:
    """Least and greatest Cohen's kappa that per-class correct counts and totals allow (Table S14).

    Kappa needs how often each class was predicted. A class's errors may fall on any other class:
    chance agreement is least when they fall on the smallest ones and greatest when they fall on the
    largest.
    """
    right, size = np.asarray(correct, dtype=float), np.asarray(total, dtype=float)
    n, errors = size.sum(), size - right
    observed = right.sum() / n
    found = []
    for choose in (np.max, np.min):
        target = [choose(np.delete(size, i)) for i in range(len(size))]
        chance = ((right * size).sum() + (errors * target).sum()) / n**2
        found.append(float((observed - chance) / (1 - chance)))
    return found[0], found[1]
