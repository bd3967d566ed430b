"""One linear model for a whole design, where pairwise tests look at two arms at a time: main effects
and interactions of a factorial, arms with blocks, many arms against one.

Every p stands beside an interval of the same level.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy import stats as distributions
from statsmodels.regression.linear_model import RegressionResultsWrapper

from kdig.core.methods import METHODS, TERMS
from kdig.measure.stats import Estimate

LEVEL = 0.95


def with_terms(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with a column for each term (KD, IG, AT): whether the row's `method` has it."""
    has = {term.label: [term in METHODS[method].terms for method in frame.method] for term in TERMS}
    return frame.assign(**has)


def is_factorial(frame: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Whether all combinations of two levels of each of the `factors` have runs."""
    cells = frame[list(factors)].drop_duplicates()
    return len(cells) == 2 ** len(factors) and bool((cells.nunique() == 2).all())


def factorial(
    frame: pd.DataFrame, factors: Sequence[str], value: str = "accuracy", block: str | None = None
) -> pd.DataFrame:
    """Main effects and interactions of two-level `factors` (bool) in one linear model of all runs.

    Levels are coded as -1/2 and 1/2. In a balanced design a main effect is then the mean of the
    runs with a factor minus that of those without it, and an interaction of two how much one effect
    changes with the other factor (a difference of differences). `low` to `high` is the 95 %
    interval of each, `p` the two-sided p of the same t; `block` is fitted as one more factor.
    """
    coded = frame.assign(**{name: frame[name].astype(float) - 0.5 for name in factors})
    crossed = " * ".join(f"Q('{name}')" for name in factors)
    formula = f"Q('{value}') ~ {crossed}" + (f" + C(Q('{block}'))" if block else "")
    table = coefficients(smf.ols(formula, data=coded).fit())
    table["effect"] = table.effect.str.replace(r"Q\('(\w+)'\)", r"\1", regex=True)
    wanted = table.effect.str.split(":").map(lambda parts: set(parts) <= set(factors))
    table = table[wanted].reset_index(drop=True)
    return table.assign(effect=table.effect.str.replace(":", " x "))


def coefficients(fit: RegressionResultsWrapper) -> pd.DataFrame:
    """The coefficients of a linear model with intervals and p of the same level."""
    ends = fit.conf_int(alpha=1 - LEVEL)
    table = pd.DataFrame({"difference": fit.params, "low": ends[0], "high": ends[1]})
    table = table.assign(p=fit.pvalues, n=int(fit.nobs), df=int(fit.df_resid), sd=fit.scale**0.5)
    return table.reset_index(names="effect")


def arms(
    frame: pd.DataFrame,
    baseline: str,
    by: str = "method",
    value: str = "accuracy",
    block: str | None = None,
) -> pd.DataFrame:
    """Each arm `by` minus `baseline` in one linear model of arms and blocks: one error, pooled over
    all arms, with the degrees of freedom of them all.

    `low` to `high` is the 95 % interval of one difference, `p` its p: neither is corrected for the
    number of arms (`many_to_one` does that).
    """
    columns = {"value": frame[value], "arm": frame[by], "block": frame[block] if block else 0}
    formula = f"value ~ C(arm, Treatment({baseline!r}))" + (" + C(block)" if block else "")
    table = coefficients(smf.ols(formula, data=pd.DataFrame(columns)).fit())
    table[by] = table.effect.str.extract(r"^C\(arm.*\)\[T\.(.*)\]$", expand=False)
    found = table[table[by].notna()].set_index(by).drop(columns="effect")
    order = [name for name in frame[by].unique() if name != baseline]
    return found.loc[order].reset_index()


def many_to_one(
    frame: pd.DataFrame, baseline: str, by: str = "method", value: str = "accuracy"
) -> pd.DataFrame:
    """Each `by` minus `baseline` by Dunnett's test: p and interval hold for all arms at once.

    The error is pooled over all arms that are given; runs are not paired.
    """
    values = {name: part[value].to_numpy() for name, part in frame.groupby(by, sort=False)}
    base = values.pop(baseline)
    test = distributions.dunnett(*values.values(), control=base, rng=np.random.default_rng(0))
    ends = test.confidence_interval(LEVEL)
    table = pd.DataFrame({by: list(values), "n": [len(some) for some in values.values()]})
    table["difference"] = [some.mean() - base.mean() for some in values.values()]
    return table.assign(low=ends.low, high=ends.high, p=test.pvalue)


def block_correlation(
    frame: pd.DataFrame, by: str = "method", value: str = "accuracy", block: str = "seed"
) -> Estimate:
    """Share of the variance that runs of one `block` have in common once arms are taken out (the
    intraclass correlation), with its 95 % interval and the p of F of the blocks.

    Zero: pairing by block buys nothing. Raises `ValueError` where an arm lacks a run of a block.
    """
    wide = frame.pivot(index=block, columns=by, values=value)
    if wide.isna().any(axis=None):
        raise ValueError(f"not every {by} has the same {block}s: blocks need complete arms")
    blocks, k = wide.shape
    whole = wide.to_numpy() - wide.mean().to_numpy()
    between = k * np.sum(whole.mean(axis=1) ** 2) / (blocks - 1)
    freedom = (blocks - 1, (blocks - 1) * (k - 1))
    within = np.sum((whole - whole.mean(axis=1, keepdims=True)) ** 2) / freedom[1]
    f = between / within
    ends = (f / distributions.f.ppf(q, *freedom) for q in (0.5 + LEVEL / 2, 0.5 - LEVEL / 2))
    icc, low, high = ((x - 1) / (x + k - 1) for x in (f, *ends))
    return Estimate(float(icc), float(low), float(high), float(distributions.f.sf(f, *freedom)))
