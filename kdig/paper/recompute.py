"""What follows from the paper's printed numbers without training: small functions of numbers and
tables, no file access.

Each names the table or section whose numbers it is applied to.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from numpy.typing import ArrayLike
from scipy import optimize, special, stats
from statsmodels.stats._lilliefors import get_lilliefors_table
from statsmodels.stats.anova import anova_lm

from kdig.measure.stats import Estimate, equal_cells, upper_p


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


def lilliefors_table_p(statistic: float, n: int) -> float:
    """Lilliefors' p from the table of statsmodels, linear between its levels (Table S7)."""
    return float(get_lilliefors_table("norm").prob(statistic, n))


def two_normals(samples: np.ndarray, iterations: int = 50) -> pd.DataFrame:
    """One normal against a mixture of two of one width for each row of `samples` (draws, n), by EM
    on all rows at once (Figure 6).

    `ratio`: twice the gain in log-likelihood, 0 or more; `share` of the upper component; `low`,
    `high`: the two means; `sd` within the components; `separation`: distance of the means over it;
    `between`: share of the variance that lies between the means. Every row starts from three
    splits, and the likeliest end counts (in samples of 60 from one normal, more than 50 steps leave
    the statistic's upper quantiles as they are, to three digits). The statistic does not depend on
    location and scale, so that normal samples of the same size give its distribution for any one
    normal. scikit-learn's mixture gives the same fit, one row at a time.
    """
    centre, scale = samples.mean(axis=1, keepdims=True), samples.std(axis=1, keepdims=True)
    fits = [
        _expect_maximise((samples - centre) / scale, cut, iterations) for cut in (0.15, 0.5, 0.85)
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


def _expect_maximise(z: np.ndarray, cut: float, iterations: int) -> pd.DataFrame:
    """`two_normals` of standardised rows from one start: the values above each row's quantile `cut`
    are the upper component.
    """
    member = (z > np.quantile(z, cut, axis=1, keepdims=True)).astype(float)
    for _ in range(iterations):
        belongs = np.stack([1 - member, member])
        weight = belongs.mean(axis=2).clip(1e-9, 1)
        means = (belongs * z).mean(axis=2) / weight
        variance = (belongs * (z - means[..., None]) ** 2).mean(axis=2).sum(axis=0)
        # scipy's norm.logpdf checks its arguments anew in each of these steps
        deviance = (z - means[..., None]) ** 2 / variance[:, None]
        deviance += np.log(2 * np.pi * variance)[:, None]
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
    return pd.DataFrame(columns | {"sd": np.sqrt(variance)})


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


def _logits(gap: float, classes: int) -> np.ndarray:
    """The first class's logit `gap` above the others, which are equal."""
    return np.concatenate([[gap], np.zeros(classes - 1)])


def _divergence(teacher: float, student: float, own: bool, classes: int) -> float:
    """Mean KL divergence from targets with the gap `teacher` to outputs with the gap `student`, both
    softened already.

    The targets are the image's own, or those of images of all classes alike.
    """
    target = special.softmax(_logits(teacher, classes))
    mean = target if own else np.full(classes, 1 / classes)
    crossed = -mean @ special.log_softmax(_logits(student, classes))
    return float(crossed - stats.entropy(target))


class DistilledLoss(NamedTuple):
    """What Eq. 1 comes to for a student that fits every image."""

    gap: float  # of the student's true class over the others
    cross_entropy: float
    divergence: float
    loss: float


def distilled_loss(
    alpha: float, temperature: float, teacher_gap: float, own: bool, classes: int = 10
) -> DistilledLoss:
    """Eq. 1 where its gradient vanishes, for a teacher whose true class stands `teacher_gap` above
    the others (taken as equal), with an image's own targets or those of other images.

    A student that misses some images has more.
    """
    p = float(special.softmax(_logits(teacher_gap / temperature, classes))[0])
    gap = stationary_gap(alpha, temperature, p if own else 1 / classes, classes)
    entropy = -float(special.log_softmax(_logits(gap, classes))[0])
    kl = _divergence(teacher_gap / temperature, gap / temperature, own, classes)
    loss = (1 - alpha) * entropy + alpha * temperature**2 * kl
    return DistilledLoss(gap, entropy, kl, loss)


def divergence_of(loss: float, alpha: float, temperature: float, cross_entropy: float) -> float:
    """The KL divergence that Eq. 1 leaves for a stored `loss` with this cross-entropy."""
    return (loss - (1 - alpha) * cross_entropy) / (alpha * temperature**2)


def teacher_gap_of(divergence: float, alpha: float, temperature: float, classes: int = 10) -> float:
    """The teacher's gap at which other images' targets leave this divergence; nan where none
    does.
    """

    def excess(gap: float) -> float:
        return distilled_loss(alpha, temperature, gap, False, classes).divergence - divergence

    if excess(0.0) > 0 or excess(200.0) < 0:
        return float("nan")
    return float(optimize.brentq(excess, 0, 200))


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
