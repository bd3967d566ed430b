"""The statistics that scipy and statsmodels do not give in one call."""

import warnings
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower

from kdig.recompute import Estimate


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean; (nan, nan) for fewer than two values."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def sd_interval(sd: float, freedom: int, confidence: float = 0.95) -> tuple[float, float]:
    """Chi-square interval of a standard deviation of normal values that was found with `freedom` degrees of freedom."""
    low, high = (sd * np.sqrt(freedom / stats.chi2.ppf(q, freedom)) for q in (0.5 + confidence / 2, 0.5 - confidence / 2))
    return float(low), float(high)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median between two of the values (binomial, no distribution assumed); (nan, nan) where n is too small.

    At 95 % it needs six values.
    """
    low, high = stats.quantile_test(np.asarray(values, dtype=float), p=0.5).confidence_interval(confidence)
    return float(low), float(high)


def summarise(frame: pd.DataFrame, by: str, value: str = "accuracy") -> pd.DataFrame:
    """n, mean, sd (n - 1 degrees of freedom), 95 % t interval, minimum and maximum of `value` for each `by`, in given order."""
    rows = []
    for name, group in frame.groupby(by, sort=False):
        x = group[value].to_numpy(dtype=float)
        low, high = mean_interval(x)
        sd = x.std(ddof=1) if len(x) > 1 else float("nan")
        rows.append({by: name, "n": len(x), "mean": x.mean(), "sd": sd, "low": low, "high": high, "min": x.min(), "max": x.max()})
    return pd.DataFrame(rows)


def compare(frame: pd.DataFrame, baseline: str, by: str = "method", value: str = "accuracy", pair: str = "seed") -> pd.DataFrame:
    """Each `by` against `baseline`: difference of means, paired and Welch t tests, Holm's correction of each.

    Rows of `frame` with the same `pair` are paired; `correlation` says what that buys. `low` to `high` is the 95 % t interval of
    the paired difference, `d` its mean over its sd (Cohen's d for pairs). Raises `ValueError` when the pairs are incomplete.
    """
    wide = frame.pivot(index=pair, columns=by, values=value)
    if wide.isna().any().any():
        raise ValueError(f"not every {by} has the same {pair}s: paired tests need complete pairs")
    base, rows = wide[baseline].to_numpy(), []
    for name in [name for name in frame[by].unique() if name != baseline]:
        x = wide[name].to_numpy()
        difference = x - base
        low, high = mean_interval(difference)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # identical runs have no spread; their tests are nan, as they should be
            paired, welch = stats.ttest_rel(x, base), stats.ttest_ind(x, base, equal_var=False)
            correlation = np.corrcoef(x, base)[0, 1]
            d = difference.mean() / difference.std(ddof=1)
        rows.append(
            {
                by: name,
                "n": len(x),
                "difference": difference.mean(),
                "low": low,
                "high": high,
                "d": d,
                "t_paired": paired.statistic,
                "p_paired": paired.pvalue,
                "t_welch": welch.statistic,
                "p_welch": welch.pvalue,
                "correlation": correlation,
            }
        )
    result = pd.DataFrame(rows)
    for test in ("paired", "welch"):
        result[f"p_{test}_holm"] = holm(result[f"p_{test}"])
    return result


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's correction; nan stays nan and does not count as a comparison."""
    values = np.asarray(p, dtype=float)
    known = ~np.isnan(values)
    if known.any():
        values = values.copy()
        values[known] = multipletests(values[known], method="holm")[1]
    return values


def pitman_morgan(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Ratio of the variances of *paired* values, x over y, with Morgan's interval and the two-sided p of Pitman's test.

    The variances are equal exactly when x + y and x - y are uncorrelated, so the test is that of their correlation. Like the F
    test, which supposes independent samples, it supposes normal values.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n, ratio = len(a), a.var(ddof=1) / b.var(ddof=1)
    r = np.corrcoef(a, b)[0, 1]
    k = 1 + 2 * (1 - r**2) * stats.t.ppf(0.5 + confidence / 2, n - 2) ** 2 / (n - 2)
    root = np.sqrt(k**2 - 1)
    return Estimate(float(ratio), float(ratio * (k - root)), float(ratio * (k + root)), float(stats.pearsonr(a + b, a - b).pvalue))


def bootstrap_difference(x: Sequence[float], y: Sequence[float], resamples: int = 9_999, seed: int = 0) -> tuple[float, float]:
    """95 % BCa interval of the mean of x - y, from resampled *pairs*; (nan, nan) when all pairs differ by the same."""
    difference = np.asarray(x, dtype=float) - np.asarray(y, dtype=float)
    if np.ptp(difference) == 0:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    interval = stats.bootstrap((difference,), np.mean, n_resamples=resamples, method="BCa", rng=generator).confidence_interval
    return float(interval.low), float(interval.high)


def compare_answers(first: ArrayLike, second: ArrayLike) -> dict[str, float]:
    """McNemar's exact test of two models on the same pictures, from whether each is right (bool, (N,)).

    `only_first` and `only_second` count the pictures that one model alone has right; `difference` is the accuracy of the first
    minus that of the second in percentage points, `low` to `high` its 95 % interval (Wald's, for pairs).
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    both, only_a, only_b, none = (int(np.sum(cell)) for cell in (a & b, a & ~b, ~a & b, ~a & ~b))
    difference = 100 * (only_a - only_b) / len(a)
    half = stats.norm.ppf(0.975) * 100 * np.sqrt(only_a + only_b - (only_a - only_b) ** 2 / len(a)) / len(a)
    p = mcnemar([[both, only_a], [only_b, none]], exact=True).pvalue
    counts = {"only_first": only_a, "only_second": only_b, "difference": difference}
    return counts | {"low": float(difference - half), "high": float(difference + half), "p": float(p)}


def runs_needed(difference: float, sd: float, paired: bool, power: float = 0.8) -> int:
    """Fewest runs of each method with which a two-sided t test at 0.05 finds `difference` with this power.

    `sd` is that of the paired differences, or, for independent samples, that of one method's runs.
    """
    test = TTestPower() if paired else TTestIndPower()
    return 2 + bisect_left(range(2, 10**7), power, key=lambda n: float(test.power(difference / sd, n, 0.05)))
