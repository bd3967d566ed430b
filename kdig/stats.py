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
