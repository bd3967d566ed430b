"""The statistics that scipy and statsmodels do not give in one call."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean; (nan, nan) for fewer than two values."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median by ranks, for any distribution; (nan, nan) for fewer than six values, which cannot give 95 %."""
    interval = stats.quantile_test(np.asarray(values), p=0.5).confidence_interval(confidence)
    known = np.isfinite([interval.low, interval.high]).all()
    return (float(interval.low), float(interval.high)) if known else (float("nan"), float("nan"))


def medians(frame: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """n, median, quartiles `q25`, `q75`, 95 % interval `low` to `high` of the median of `value` for each `by`, in given order."""
    rows = []
    for key, values in frame.groupby(list(by), sort=False)[value]:
        q25, median, q75 = values.quantile([0.25, 0.5, 0.75])
        low, high = median_interval(values.to_list())
        found = {"n": len(values), "median": median, "q25": q25, "q75": q75, "low": low, "high": high}
        rows.append(dict(zip(by, key)) | found)
    return pd.DataFrame(rows)


def highest_interval(
    values: Sequence[float], of: int, confidence: float = 0.95, draws: int = 20_000, seed: int = 0
) -> tuple[float, float]:
    """Range in which the highest of `of` further runs lies, if runs are normal (Table S15 prints the highest of ten or three).

    Mean and sd, known from `values` alone, are drawn from their posterior under the usual flat prior, so that few values give a
    wide range; (nan, nan) for fewer than two.
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    sd = np.std(values, ddof=1) * np.sqrt((n - 1) / rng.chisquare(n - 1, draws))
    highest = np.mean(values) + sd * (rng.normal(size=draws) / np.sqrt(n) + stats.norm.ppf(rng.random(draws) ** (1 / of)))
    low, high = np.quantile(highest, [0.5 - confidence / 2, 0.5 + confidence / 2])
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
