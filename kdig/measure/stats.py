"""The statistics that scipy and statsmodels do not give in one call."""

import warnings
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, recall_score
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.proportion import proportion_confint


class Estimate(NamedTuple):
    """A value with its interval and, where there is a test, its p value."""

    value: float
    low: float
    high: float
    p: float = float("nan")


def leaves_out(low: ArrayLike, high: ArrayLike, value: float = 0.0) -> np.ndarray:
    """Whether each interval leaves out `value`: the one rule by which figures and sentences say that
    something can be told. An interval that is not known leaves out nothing.
    """
    return (np.asarray(low, dtype=float) > value) | (np.asarray(high, dtype=float) < value)


def half_width(sd: float, n: int, confidence: float = 0.95, student: bool = True) -> float:
    """Half the width of the interval of a mean: by Student's t, or by the normal quantile as Table
    S8 has it.
    """
    upper = 0.5 + confidence / 2
    quantile = stats.t.ppf(upper, n - 1) if student else stats.norm.ppf(upper)
    return float(quantile * sd / n**0.5)


def mean_interval(
    values: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> tuple[float, float]:
    """Student's t interval of the mean; (nan, nan) for fewer than two values."""
    if len(values) < 2:
        return float("nan"), float("nan")
    ends = _t_test(stats.ttest_1samp, values, 0.0).confidence_interval(confidence)
    return float(ends.low), float(ends.high)


def _t_test(test: Callable[..., Any], *samples: Any, **settings: Any) -> Any:
    """One of scipy's t tests; equal runs have no spread, and their p is nan, as it should be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return test(*samples, **settings)


def prediction_interval(
    values: Sequence[float], other: float = 0.0, confidence: float = 0.95
) -> tuple[float, float]:
    """Range of one further value, if values are normal: mean ± t sd sqrt(1 + 1/n); (nan, nan) for
    fewer than two values.

    `other` is the half-width, at the same confidence, of an independent error that the further
    value has besides (other pictures, for instance); the two half-widths are added as the root of
    the sum of their squares.
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    half = np.hypot(
        stats.t.ppf(0.5 + confidence / 2, n - 1) * np.std(values, ddof=1) * np.sqrt(1 + 1 / n),
        other,
    )
    return float(np.mean(values) - half), float(np.mean(values) + half)


def scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Raw accuracy, balanced accuracy (both in percent) and Cohen's kappa of `predicted` (N,)
    against `labels` (N,).

    Balanced accuracy is the mean over the classes that have images; a prediction may be any class.
    `kappa_interval` has the interval of kappa.
    """
    balanced = recall_score(labels, predicted, labels=np.unique(labels), average="macro")
    raw = accuracy_score(labels, predicted)
    kappa = cohen_kappa_score(labels, predicted)
    return {"raw": 100 * raw, "balanced": 100 * balanced, "kappa": kappa}


def kappa_interval(labels: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """95 % interval of Cohen's kappa over images, from its error in large samples; (nan, nan) where
    one class alone is there and answered.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        found = cohens_kappa(confusion_matrix(labels, predicted))
    return float(found.kappa_low), float(found.kappa_upp)


def accuracy_by_class(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """Table S14's form, a row a class and the `total`: correct, pictures, accuracy (percent; nan if
    none), Wilson's 95 %.
    """
    total = np.bincount(labels, minlength=len(classes))
    correct = np.bincount(labels[labels == predicted], minlength=len(classes))
    table = pd.DataFrame(
        {
            "class": [*classes, "total"],
            "correct": [*correct, correct.sum()],
            "pictures": [*total, total.sum()],
        }
    )
    some = table.pictures.where(table.pictures > 0)
    low, high = proportion_confint(table.correct, some, method="wilson")
    return table.assign(accuracy=100 * table.correct / some, low=100 * low, high=100 * high)


def picture_interval(
    labels: np.ndarray, right: np.ndarray, balanced: bool = False
) -> tuple[float, float]:
    """95 % interval of an accuracy (percent) over images drawn again class by class; the networks
    stay as they are.

    `right` (N,) is the share of networks that classify an image correctly (0 or 1 for one network).
    The normal interval of a weighted sum of shares, four images added over all classes (Price and
    Bonett 2004), which keeps its level where classes have a few images only.
    """
    by_class = pd.Series(np.asarray(right, dtype=float)).groupby(np.asarray(labels))
    size, add = by_class.size(), 1 / by_class.ngroups
    weight = np.full(len(size), add) if balanced else size / size.sum()
    share = (by_class.sum() + 2 * add) / (size + 4 * add)
    error = np.sqrt((weight**2 * share * (1 - share) / (size + 4 * add)).sum())
    ends = stats.norm.interval(0.95, (weight * share).sum(), error)
    return float(100 * ends[0]), float(100 * ends[1])


def accuracy_intervals(right: ArrayLike) -> dict[str, float]:
    """Accuracy (percent) of networks on the same pictures, from whether each is right (bool,
    (networks, N)), with two intervals.

    `low` to `high` is Student's 95 % interval over networks, other trainings on these pictures (nan
    for one network); `pictures_low` to `pictures_high` Wilson's over pictures, these networks on
    other pictures. Wilson's supposes one network; of several, whose mean varies less from picture
    to picture, it is rather too wide.
    """
    answers = np.atleast_2d(np.asarray(right, dtype=bool))
    runs, pictures = answers.shape
    by_run = 100 * answers.mean(axis=1)
    low, high = mean_interval(by_run.tolist())
    wilson = proportion_confint(answers.sum() / runs, pictures, method="wilson")
    values = {
        "n": runs,
        "pictures": pictures,
        "accuracy": float(by_run.mean()),
        "low": low,
        "high": high,
    }
    return values | {
        "pictures_low": float(100 * wilson[0]),
        "pictures_high": float(100 * wilson[1]),
    }


def paired_outcomes(right: Mapping[str, np.ndarray], baseline: str) -> pd.DataFrame:
    """Each network against `baseline` on the same pictures, from `right`: name -> bool (N,):
    `compare_answers`, Holm's correction.

    The test is about these networks on such pictures, not about other trainings.
    """
    others = {
        name: compare_answers(this, right[baseline])
        for name, this in right.items()
        if name != baseline
    }
    rows = [
        {"method": name, **answers, "n": len(right[baseline])} for name, answers in others.items()
    ]
    table = pd.DataFrame(rows).rename(
        columns={"only_first": "only_this", "only_second": "only_baseline"}
    )
    return table.assign(p_holm=holm(table.p))


def sd_interval(sd: float, freedom: int, confidence: float = 0.95) -> tuple[float, float]:
    """Chi-square interval of a standard deviation of normal values that was found with `freedom`
    degrees of freedom.
    """
    low, high = (
        sd * np.sqrt(freedom / stats.chi2.ppf(q, freedom))
        for q in (0.5 + confidence / 2, 0.5 - confidence / 2)
    )
    return float(low), float(high)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median between two of the values (binomial, no distribution assumed); (nan,
    nan) where n is too small.

    At 95 % it needs six values.
    """
    low, high = stats.quantile_test(np.asarray(values, dtype=float), p=0.5).confidence_interval(
        confidence
    )
    return float(low), float(high)


def medians(frame: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """n, median, quartiles `q25`, `q75`, 95 % interval `low` to `high` of the median of `value` for
    each `by`, in given order.
    """
    rows = []
    for key, values in frame.groupby(list(by), sort=False)[value]:
        q25, median, q75 = values.quantile([0.25, 0.5, 0.75])
        low, high = median_interval(values.to_list())
        found = {
            "n": len(values),
            "median": median,
            "q25": q25,
            "q75": q75,
            "low": low,
            "high": high,
        }
        rows.append(dict(zip(by, key)) | found)
    return pd.DataFrame(rows)


def highest_interval(
    values: Sequence[float], of: int, confidence: float = 0.95, draws: int = 20_000, seed: int = 0
) -> tuple[float, float]:
    """Range in which the highest of `of` further runs lies, if runs are normal (Table S15 prints
    the highest of ten or three).

    Mean and sd, known from `values` alone, are drawn from their posterior under the usual flat
    prior, so that few values give a wide range; (nan, nan) for fewer than two.
    """
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    sd = np.std(values, ddof=1) * np.sqrt((n - 1) / rng.chisquare(n - 1, draws))
    highest = np.mean(values) + sd * (
        rng.normal(size=draws) / np.sqrt(n) + stats.norm.ppf(rng.random(draws) ** (1 / of))
    )
    low, high = np.quantile(highest, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def summarise(frame: pd.DataFrame, by: str, value: str = "accuracy") -> pd.DataFrame:
    """n, mean, sd (n - 1 degrees of freedom), 95 % t interval, minimum and maximum of `value` for
    each `by`, in given order.
    """
    rows = []
    for name, group in frame.groupby(by, sort=False):
        x = group[value].to_numpy(dtype=float)
        low, high = mean_interval(x)
        sd = x.std(ddof=1) if len(x) > 1 else float("nan")
        rows.append(
            {
                by: name,
                "n": len(x),
                "mean": x.mean(),
                "sd": sd,
                "low": low,
                "high": high,
                "min": x.min(),
                "max": x.max(),
            }
        )
    return pd.DataFrame(rows)


def compare(
    frame: pd.DataFrame,
    baseline: str,
    by: str = "method",
    value: str = "accuracy",
    pair: str = "seed",
) -> pd.DataFrame:
    """Each `by` against `baseline`: difference of means, paired and Welch t tests, Holm's
    correction of each.

    Rows of `frame` with the same `pair` are paired. `low` to `high` is the 95 % interval of the
    paired difference and belongs to `p_paired`, `low_welch` to `high_welch` to `p_welch`;
    `low_all` to `high_all` holds for all of them at once (Bonferroni's) and stands beside
    `p_paired_holm`. `d` is the mean difference over its sd (Cohen's d for pairs). Raises
    `ValueError` when the pairs are incomplete.
    """
    wide = frame.pivot(index=pair, columns=by, values=value)
    if wide.isna().any().any():
        raise ValueError(f"not every {by} has the same {pair}s: paired tests need complete pairs")
    names = [name for name in frame[by].unique() if name != baseline]
    level = 1 - 0.05 / max(len(names), 1)
    table = pd.DataFrame(
        [{by: name} | _compared(wide[name], wide[baseline], level) for name in names]
    )
    for test in ("paired", "welch"):
        table[f"p_{test}_holm"] = holm(table[f"p_{test}"])
    return table


def _compared(x: pd.Series, base: pd.Series, level: float) -> dict[str, float]:
    """One arm against another; `level` is that of an interval for all arms at once."""
    paired = _t_test(stats.ttest_rel, x, base)
    apart = _t_test(stats.ttest_ind, x, base, equal_var=False)
    difference, alone = x - base, paired.confidence_interval()
    together, welch = paired.confidence_interval(level), apart.confidence_interval()
    spread = difference.std()
    return {
        "n": len(x),
        "difference": difference.mean(),
        "low": alone.low,
        "high": alone.high,
        "low_all": together.low,
        "high_all": together.high,
        "d": difference.mean() / spread if spread else np.nan,
        "t_paired": paired.statistic,
        "p_paired": paired.pvalue,
        "low_welch": welch.low,
        "high_welch": welch.high,
        "t_welch": apart.statistic,
        "p_welch": apart.pvalue,
    }


def welch(
    a: tuple[float, float, int], b: tuple[float, float, int], family: int = 1
) -> dict[str, float]:
    """Welch's test and 95 % interval of a - b from (mean, sd, n), as in Table 5, and the
    pooled-variance t beside it; scipy gives no interval from summaries.

    `low_all` to `high_all` holds for a `family` of such comparisons at once (Bonferroni).
    """
    (mean_a, sd_a, n_a), (mean_b, sd_b, n_b) = a, b
    test = stats.ttest_ind_from_stats(mean_a, sd_a, n_a, mean_b, sd_b, n_b, equal_var=False)
    pooled = stats.ttest_ind_from_stats(mean_a, sd_a, n_a, mean_b, sd_b, n_b)
    u, v = sd_a**2 / n_a, sd_b**2 / n_b
    freedom = (u + v) ** 2 / (u**2 / (n_a - 1) + v**2 / (n_b - 1))
    half, wide = stats.t.ppf([0.975, 1 - 0.025 / family], freedom) * np.sqrt(u + v)
    difference = mean_a - mean_b
    values = {
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "low_all": difference - wide,
        "high_all": difference + wide,
        "t": test.statistic,
        "df": freedom,
    }
    return {
        name: float(v)
        for name, v in {**values, "p": test.pvalue, "t_pooled": pooled.statistic}.items()
    }


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's correction; nan stays nan and does not count as a comparison."""
    values = np.asarray(p, dtype=float)
    known = ~np.isnan(values)
    if known.any():
        values = values.copy()
        values[known] = multipletests(values[known], method="holm")[1]
    return values


def anova(frame: pd.DataFrame, value: str, *factors: str) -> pd.DataFrame:
    """F test of each factor and of their interactions: sum of squares, degrees of freedom, F, p,
    and share of all squares.

    One factor gives the one-way analysis of variance (Tables S11, S12), two the two-way one (Table
    S10). Where every cell has one run of each `seed`, the runs are paired and the seed is a block:
    what a seed adds to all cells alike goes to the row `seed`, which is not tested, and not to the
    noise. The last row is what factors and block leave. Runs that are all equal have no F: nan.
    """
    blocks = ["seed"] if _is_paired(frame, factors) else []
    terms = [" * ".join(f"C({name})" for name in factors), *(f"C({name})" for name in blocks)]
    table = anova_lm(smf.ols(f"{value} ~ {' + '.join(terms)}", data=frame).fit(), typ=2)
    table = table.rename(columns={"sum_sq": "squares", "PR(>F)": "p"})
    table.index = table.index.str.replace(r"C\((\w+)\)", r"\1", regex=True)
    table["share"] = table.squares / table.squares.sum()
    table.loc[blocks, ["F", "p"]] = np.nan
    if np.ptp(frame[value]) < 1e-9:  # equal runs: F would be a ratio of rounding errors
        table[["F", "p", "share"]] = np.nan
    tested = [name for name in table.index if name not in {*blocks, "Residual"}]
    return table.loc[[*tested, *blocks, "Residual"]].reset_index(names="effect")


def _is_paired(frame: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Whether every cell has one run of each seed."""
    return "seed" in frame and bool(
        (pd.crosstab([frame[name] for name in factors], frame.seed) == 1).all(axis=None)
    )


def _wide(frame: pd.DataFrame, by: str, value: str, pair: str) -> pd.DataFrame:
    """One row a `pair`, one column a `by`, in given order."""
    return frame.pivot(index=pair, columns=by, values=value)[frame[by].unique()]


def over_rest(
    frame: pd.DataFrame, cell: str, value: str, by: str = "cell", pair: str = "seed"
) -> dict[str, float]:
    """A cell named beforehand against the mean of all others: mean over `pair`s of the difference,
    its 95 % t interval, n.

    For the cell that the same runs chose, the interval would be too high by the luck of the winner.
    """
    wide = _wide(frame, by, value, pair)
    difference = (wide[cell] - wide.drop(columns=cell).mean(axis=1)).to_numpy()
    low, high = mean_interval(difference)
    return {"value": float(difference.mean()), "low": low, "high": high, "n": len(difference)}


def exchanged_p(
    frame: pd.DataFrame,
    value: str,
    by: str = "cell",
    pair: str = "seed",
    draws: int = 10_000,
    seed: int = 0,
) -> float:
    """p of the best cell's mean above the mean of all, when the runs of each `pair` are exchanged
    at random among the cells (Tables S10 to S12).

    It supposes no distribution of a run. With at most `draws` ways to exchange, all are taken.
    """

    def above(*cells: np.ndarray, axis: int) -> np.ndarray:
        means = np.mean(cells, axis=axis)
        # what rounding of sums tells apart is equal
        return np.asarray((means.max(axis=0) - means.mean(axis=0)).round(9))

    cells = tuple(_wide(frame, by, value, pair).to_numpy().T)
    return float(
        stats.permutation_test(
            cells, above, permutation_type="samples", alternative="greater", vectorized=True,
            n_resamples=draws, rng=np.random.default_rng(seed),
        ).pvalue
    )  # fmt: skip


def equal_cells(
    cells: int,
    sd: float,
    best_of: int = 1,
    draws: int = 20_000,
    seed: int = 0,
    freedom: int | None = None,
) -> np.ndarray:
    """(draws, cells): searches whose cells have one true accuracy (Tables S10-S12), set to 0.

    A cell is the best of `best_of` normal runs with standard deviation `sd`. The best of k uniform
    values is one uniform value to the power 1/k, so that a cell costs one random number. Where `sd`
    was itself found with `freedom` degrees of freedom, each search has a true one that may have
    given it: comparing with them is then exact for normal runs, as Student's t is for two means.
    """
    rng = np.random.default_rng(seed)
    cell = sd * stats.norm.ppf(rng.random((draws, cells)) ** (1 / best_of))
    if freedom is not None:
        cell *= np.sqrt(freedom / rng.chisquare(freedom, (draws, 1)))
    return np.asarray(cell)


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


def left_out_score(frame: pd.DataFrame, value: str, by: str = "cell", pair: str = "seed") -> float:
    """What a winner scores in a run that did not choose it: each `pair` in turn, in the cell that
    is best in the other ones.
    """
    wide = _wide(frame, by, value, pair)
    return float(
        np.mean([row[wide.drop(index=left).mean().idxmax()] for left, row in wide.iterrows()])
    )


def best_cell(
    frame: pd.DataFrame, names: Sequence[str], value: str = "validation_accuracy"
) -> dict[str, float]:
    """Values of `names` in the cell with the highest mean of `value`.

    Of equal ones, the first in the grid's order.
    """
    means = (
        frame.groupby("cell", sort=False)[value].mean().round(9)
    )  # what rounding of sums tells apart is equal
    row = frame[frame.cell == means.idxmax()].iloc[0]
    return {name: float(row[name]) for name in names}


def pitman_morgan(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Ratio of the variances of *paired* values, x over y, with Morgan's interval and the two-sided
    p of Pitman's test.

    The variances are equal exactly when x + y and x - y are uncorrelated, so the test is that of
    their correlation. Like the F test, which supposes independent samples, it supposes normal
    values.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n, ratio = len(a), a.var(ddof=1) / b.var(ddof=1)
    r = np.corrcoef(a, b)[0, 1]
    k = 1 + 2 * (1 - r**2) * stats.t.ppf(0.5 + confidence / 2, n - 2) ** 2 / (n - 2)
    root = np.sqrt(k**2 - 1)
    return Estimate(
        float(ratio),
        float(ratio * (k - root)),
        float(ratio * (k + root)),
        float(stats.pearsonr(a + b, a - b).pvalue),
    )


def variance_ratio(
    sd_a: float, n_a: int, sd_b: float, n_b: int, confidence: float = 0.95
) -> Estimate:
    """Ratio of variances a / b with its interval and two-sided p by F, which supposes normal runs
    (Table 5).
    """
    ratio, freedom = (sd_a / sd_b) ** 2, (n_a - 1, n_b - 1)
    p = 2 * min(stats.f.cdf(ratio, *freedom), stats.f.sf(ratio, *freedom))
    high, low = ratio / stats.f.ppf([0.5 - confidence / 2, 0.5 + confidence / 2], *freedom)
    return Estimate(float(ratio), float(low), float(high), float(min(p, 1.0)))


FEWEST_FOR_BOOTSTRAP = 20  # pairs; with ten, the interval called 95 % covers 90


def bootstrap_difference(
    x: Sequence[float], y: Sequence[float], resamples: int = 9_999, seed: int = 0
) -> tuple[float, float]:
    """95 % BCa interval of the mean of x - y, from resampled *pairs*.

    (nan, nan) when all pairs differ by the same, and for fewer than `FEWEST_FOR_BOOTSTRAP` pairs,
    of which it covers less than it says.
    """
    difference = np.asarray(x, dtype=float) - np.asarray(y, dtype=float)
    if np.ptp(difference) == 0 or len(difference) < FEWEST_FOR_BOOTSTRAP:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    interval = stats.bootstrap(
        (difference,), np.mean, n_resamples=resamples, method="BCa", rng=generator
    ).confidence_interval
    return float(interval.low), float(interval.high)


def compare_answers(first: ArrayLike, second: ArrayLike) -> dict[str, float]:
    """McNemar's exact test of two models on the same pictures, from whether each is right (bool,
    (N,)).

    `only_first` and `only_second` count the pictures that one model alone has right; `difference`
    is the accuracy of the first minus that of the second in percentage points, `low` to `high` its
    95 % interval (Wald's, for pairs).
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    both, only_a, only_b, none = (int(np.sum(cell)) for cell in (a & b, a & ~b, ~a & b, ~a & ~b))
    difference = 100 * (only_a - only_b) / len(a)
    half = (
        stats.norm.ppf(0.975)
        * 100
        * np.sqrt(only_a + only_b - (only_a - only_b) ** 2 / len(a))
        / len(a)
    )
    p = mcnemar([[both, only_a], [only_b, none]], exact=True).pvalue
    counts = {"only_first": only_a, "only_second": only_b, "difference": difference}
    return counts | {
        "low": float(difference - half),
        "high": float(difference + half),
        "p": float(p),
    }


def runs_needed(difference: float, sd: float, paired: bool, power: float = 0.8) -> int:
    """Fewest runs of each method with which a two-sided t test at 0.05 finds `difference` with this
    power.

    `sd` is that of the paired differences, or, for independent samples, that of one method's runs.
    """
    test = TTestPower() if paired else TTestIndPower()
    # solve_power finds the same number, but no solution for large differences
    return 2 + bisect_left(
        range(2, 10**7), power, key=lambda n: float(test.power(difference / sd, n, 0.05))
    )


def detectable(sd: float, n: int, power: float = 0.8) -> float:
    """Smallest difference of two means that a two-sided t test at 0.05 finds with this power, `n`
    runs each (section 3.5).
    """
    return float(sd * TTestIndPower().solve_power(nobs1=n, alpha=0.05, power=power))


def pooled_sd(frame: pd.DataFrame, by: str, value: str) -> float:
    """Standard deviation within the groups `by`, pooled over them (Table 4's released runs)."""
    return float(smf.ols(f"{value} ~ C({by})", data=frame).fit().scale ** 0.5)


def lilliefors_statistic(samples: np.ndarray) -> np.ndarray:
    """Largest distance of each row's distribution function from the normal one with its mean and sd
    (Table S7).
    """
    scores = stats.zscore(np.atleast_2d(samples), axis=1, ddof=1)
    return np.asarray(stats.ks_1samp(scores, stats.norm.cdf, method="asymp", axis=1).statistic)


def lilliefors_null(n: int, draws: int = 20_000, seed: int = 0) -> np.ndarray:
    """`lilliefors_statistic` of `draws` normal samples of size `n`: `upper_p` of it is the p of
    Lilliefors' test (Table S7).
    """
    any_sample = np.random.default_rng(seed).normal(size=n)
    rng = np.random.default_rng(seed)
    test = stats.goodness_of_fit(
        stats.norm, any_sample, statistic="ks", n_mc_samples=draws, rng=rng
    )
    return np.asarray(test.null_distribution)


def chance_errors(p: Sequence[float], level: float = 0.05) -> dict[str, float]:
    """How many of several tests may have found something by chance.

    `found` of the `tests` have a p below `level`. `by_chance` is the number that would have, if
    there were nothing to find in any; `among_found` the same for the share of tests without an
    effect that the p above 0.5 suggest (Storey 2002), no more than `found`. `kept` would be found
    if one in twenty of the findings may be wrong (Benjamini and Hochberg).
    """
    known = np.asarray(p, dtype=float)
    known = known[~np.isnan(known)]
    found = int(np.sum(known < level))
    empty = min(2 * float(np.sum(known > 0.5)), float(len(known)))
    kept = int(multipletests(known, level, "fdr_bh")[0].sum()) if len(known) else 0
    return {
        "tests": len(known),
        "found": found,
        "by_chance": level * len(known),
        "among_found": min(level * empty, float(found)),
        "kept": kept,
    }
