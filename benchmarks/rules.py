"""How often each rule of `kdig.paper` gives which verdict, by simulation: its size where there is no
effect, its power where there is one.

`python benchmarks/rules.py` writes `docs/rules.md` anew. Seeded, a few seconds on one core.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from kdig.measure import stats
from kdig.paper import RULES

PAGE = Path(__file__).parents[1] / "docs" / "rules.md"
DRAWS = 4_000
SD = 0.32  # of one released run, pooled over eight methods (points)
MARGIN = 0.4  # points: the paper's own gain of KD & IG over KD
EFFECT = {"null": 0.0, "direction": "above", "smallest": MARGIN, "tolerance": 0.05}
RATIO = EFFECT | {"null": 1.0, "smallest": 0.5}
Fact = Mapping[str, Any]
Draw = Callable[[np.random.Generator, float], Iterator[Fact]]


def difference(n: int) -> Draw:
    """Two methods of `n` runs each that differ by `true`: Welch's interval and p."""

    def draw(rng: np.random.Generator, true: float) -> Iterator[Fact]:
        runs = rng.normal(0, SD, (2, n, DRAWS)) + np.array([true, 0])[:, None, None]
        test = distributions.ttest_ind(*runs, equal_var=False)
        ends = test.confidence_interval()
        yield from facts(low=ends.low, high=ends.high, p=test.pvalue)

    return draw


def mean(n: int) -> Draw:
    """The mean of `n` runs whose true mean is off the claimed one by `true`: its t interval."""

    def draw(rng: np.random.Generator, true: float) -> Iterator[Fact]:
        ends = distributions.ttest_1samp(rng.normal(true, SD, (n, DRAWS)), 0).confidence_interval()
        yield from facts(low=ends.low, high=ends.high)

    return draw


def variances(n: int) -> Draw:
    """Two methods of `n` runs whose true ratio of variances is `true`: F's interval."""

    def draw(rng: np.random.Generator, true: float) -> Iterator[Fact]:
        first, second = rng.normal(size=(2, n, DRAWS)).std(axis=1, ddof=1)
        ratio = true * (first / second) ** 2
        bound = distributions.f.ppf(0.975, n - 1, n - 1)
        yield from facts(low=ratio / bound, high=ratio * bound)

    return draw


def highest(variance: float) -> Draw:
    """The highest of ten runs, raised by `true`, and an interval around their mean: of one further
    run (1 + 1/10 variances of a run), or of the mean itself (1/10), which was the rule before.
    """

    def draw(rng: np.random.Generator, true: float) -> Iterator[Fact]:
        runs = rng.normal(0, SD, (10, DRAWS))
        half = distributions.t.ppf(0.975, 9) * runs.std(axis=0, ddof=1) * variance**0.5
        below = runs.mean(axis=0) - runs.max(axis=0) - true
        yield from facts(low=below - half, high=below + half)

    return draw


def optimum(rng: np.random.Generator, true: float) -> Iterator[Fact]:
    """Six cells, each the best of ten runs, one of them better by `true`."""
    equal = stats.spread(stats.equal_cells(6, SD, best_of=10, draws=DRAWS)).max_minus_mean
    ordered = np.sort(equal.to_numpy())
    cells = rng.normal(0, SD, (DRAWS, 6, 10)).max(axis=2) + true * (np.arange(6) == 0)
    above = cells.max(axis=1) - cells.mean(axis=1)
    yield from facts(p=1 - np.searchsorted(ordered, above) / DRAWS)


def normality(rng: np.random.Generator, true: float) -> Iterator[Fact]:
    """Sixty runs, `true` of 1 normal and of 0 uniform: Lilliefors' p."""
    runs = rng.normal(size=(DRAWS, 60)) if true else rng.uniform(size=(DRAWS, 60))
    null = np.sort(stats.lilliefors_null(60))
    found = np.searchsorted(null, stats.lilliefors_statistic(runs))
    yield from facts(p=1 - found / len(null))


def facts(**columns: np.ndarray) -> Iterator[Fact]:
    """A fact for each draw."""
    frame = pd.DataFrame({"value": 0.0, "p": np.nan, **columns})
    yield from frame.to_dict("records")


NAMED = "difference (points)"
OFF = "mean off by (points)"
RAISED = "highest raised by (points)"
FROM_MEAN = {"value": 0.0, "smallest": MARGIN}
HIT = {"value": 0.0, "tolerance": 0.0}
LEVEL = {"tolerance": 0.05}
Case = tuple[str, str, str, dict[str, Any], Draw, tuple[float, ...]]
CASES: list[Case] = [
    ("effect", "10 runs each", NAMED, EFFECT, difference(10), (-0.4, 0, 0.2, 0.4, 0.8)),
    ("effect", "40 runs each (factorial)", NAMED, EFFECT, difference(40), (-0.4, 0, 0.2, 0.4)),
    ("effect", "60 runs each", NAMED, EFFECT, difference(60), (-0.4, 0, 0.2, 0.4)),
    ("effect", "60 runs each", "ratio of variances", RATIO, variances(60), (0.4, 1, 1.5, 2.6)),
    ("within", "10 runs", OFF, FROM_MEAN, mean(10), (0, 0.2, 0.4, 0.8)),
    ("within", "60 runs", OFF, FROM_MEAN, mean(60), (0, 0.2, 0.4, 0.8)),
    ("interval", "highest of 10, one further run", RAISED, HIT, highest(1.1), (0, 0.4, 0.8)),
    ("interval", "highest of 10, their mean (not used)", RAISED, HIT, highest(0.1), (0,)),
    ("beyond_chance", "6 cells", "one cell better by (points)", LEVEL, optimum, (0, 0.2, 0.4, 0.8)),
    ("not_rejected", "60 runs", "normal 1, uniform 0", LEVEL, normality, (1, 0)),
]


def verdicts() -> pd.DataFrame:
    """How often each rule is met, not met, and leaves the claim open (percent)."""
    rows = []
    for rule, what, quantity, claim, draw, truths in CASES:
        for true in truths:
            decided = [RULES[rule][1](claim, fact) for fact in draw(np.random.default_rng(0), true)]
            row: dict[str, object] = {"rule": rule, "of": what, "true": f"{quantity}: {true:g}"}
            for name, state in (("met", True), ("not met", False), ("open", None)):
                row[name] = round(100 * sum(one is state for one in decided) / len(decided))
            rows.append(row)
    return pd.DataFrame(rows)


TEXT = """# Rules: how often each errs

Written by `python benchmarks/rules.py`: {draws:,} simulated studies a line, seed 0. The standard
deviation of a run is {sd} points, as in the released runs; the smallest difference of interest
{margin} points, the paper's own gain of KD & IG over KD.

- **effect**: *supported* by an interval beyond the null value (and p below the level, where
  comparisons are corrected); *contradicted* by an interval that ends short of the smallest effect
  of interest; else *undecided*. A ratio has its null at 1, and 1.5 as smallest effect.
- **within**: *supported* by an interval no farther from the claimed value than the margin;
  *contradicted* by one that is farther as a whole.
- **interval**, of a number that is the best of several: *selected* where one further run reaches
  it. The interval of the mean hardly ever holds the highest of ten, whatever the method: it tests
  nothing, and is shown for that.
- **beyond_chance**: *supported* where equal cells seldom give so high a winner; else *undecided*.
- **not_rejected**: *contradicted* where a test rejects the distribution; else *undecided*, since
  a test that does not reject shows nothing.
- **equal**, **at_least**, **at_most**, **interval** (bounds by rounding), **significant**,
  **not_significant**: arithmetic of printed or released numbers, which does not err by chance.
  *Checks out*, or *inconsistent*, or *text and code differ*.

Percent of studies:

{table}
"""


def page() -> str:
    """`docs/rules.md`."""
    found = verdicts()
    lines = [found.columns.tolist(), ["---"] * len(found.columns), *found.to_numpy().tolist()]
    table = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return TEXT.format(draws=DRAWS, sd=SD, margin=MARGIN, table=table)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
