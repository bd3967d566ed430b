"""Simulations of what chance does to a table of results. No network is trained; all numbers are
drawn by numpy from a fixed seed.

Each function draws one panel on an axis and returns the sentence that says what it shows, so that
it serves a slider and a printed figure alike.
"""

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from scipy.special import softmax
from scipy.stats import ttest_ind

from kdig.measure.plots import FAINT, SERIES

_EXPERIMENTS = 2000
_ONE, _TWO = SERIES[:2]


def best_of(axis: Axes, runs: int = 10, sd: float = 0.4) -> str:
    """Accuracies (percent) of one run and of the highest of `runs`, of a method whose runs scatter
    by `sd` points around 92.
    """
    drawn = 92 + sd * np.random.default_rng(0).standard_normal((_EXPERIMENTS, runs))
    _histogram(axis, {"one run": drawn[:, 0], "highest of the runs": drawn.max(axis=1)})
    axis.set(xlabel="accuracy (%)")
    above = drawn.max(axis=1).mean() - 92
    return f"The highest of {runs} runs lies {above:.2f} points above the mean, on average."


def power(axis: Axes, effect: float = 0.4, runs: int = 10, sd: float = 0.4) -> str:
    """Differences of two means of `runs` each that Welch's test calls significant (p < 0.05) or
    not, where the true difference is `effect` points.
    """
    draws = np.random.default_rng(1).standard_normal((2, runs, _EXPERIMENTS)) * sd
    draws[1] += effect
    found = ttest_ind(draws[1], draws[0], equal_var=False).pvalue < 0.05
    seen = draws[1].mean(axis=0) - draws[0].mean(axis=0)
    _histogram(axis, {"found": seen[found], "not found": seen[~found]})
    axis.axvline(effect, color="black", lw=1)
    axis.set(xlabel="measured difference (points)")
    said = f"{found.mean():.0%} of the experiments find a true difference of {effect:g} points."
    if found.sum() < 20:
        return said
    return f"{said} Those that find one measure {np.abs(seen[found]).mean():.2f} on average."


def false_findings(axis: Axes, comparisons: int = 28, runs: int = 10) -> str:
    """Share of experiments in which at least one of up to `comparisons` tests finds a difference
    that is not there, as it is and with Holm's correction. Each test compares two sets of `runs`.
    """
    rng = np.random.default_rng(2)
    p = ttest_ind(*rng.standard_normal((2, runs, _EXPERIMENTS, comparisons))).pvalue
    counts = np.arange(1, comparisons + 1)
    plain = [(p[:, :count] < 0.05).any(axis=1).mean() for count in counts]
    # Holm rejects at all only where the smallest p is below 0.05 / count
    holm = [(p[:, :count].min(axis=1) < 0.05 / count).mean() for count in counts]
    axis.plot(counts, 100 * np.array(plain), color=_ONE, label="each test at 5 %")
    axis.plot(counts, 100 * np.array(holm), color=_TWO, ls="--", label="with Holm's correction")
    axis.set(xlabel="comparisons", ylabel="false finding (%)", ylim=(0, 100))
    axis.legend(frameon=False)
    return (
        f"With {comparisons} comparisons and no true difference, {plain[-1]:.0%} of the experiments"
        f" find at least one. With Holm's correction it is {holm[-1]:.0%}."
    )


def clock(axis: Axes, passes: int = 10, dropped: int = 0, start: float = 130.0) -> str:
    """Milliseconds of each of `passes` of a network that needs 10 ms and whose first pass takes
    `start` more, for loading and for choosing kernels; the first `dropped` are not counted.
    """
    rng = np.random.default_rng(3)
    took = 10 * np.exp(0.08 * rng.standard_normal(passes)) + start * 0.02 ** np.arange(passes)
    counted = took[min(dropped, passes - 1) :]
    first = passes - len(counted)
    axis.bar(np.arange(1, first + 1), took[:first], color=FAINT, label="dropped")
    axis.bar(np.arange(first + 1, passes + 1), counted, color=_ONE, label="counted")
    axis.axhline(counted.mean(), color=_TWO, ls="--", label="mean of the counted")
    axis.set(xlabel="pass", ylabel="milliseconds")
    axis.legend(frameon=False)
    return (
        f"The mean of the counted passes is {counted.mean():.0f} ms and their median"
        f" {np.median(counted):.0f} ms. The network needs 10 ms."
    )


def pairing(axis: Axes, alpha: float = 0.5, points: int = 60) -> str:
    """Test accuracy of a linear classifier of three classes of points, by the share of its `points`
    whose soft targets belong to another one; `alpha` is the weight of the soft targets.
    """
    shares = np.linspace(0, 1, 6)
    scores = np.array(
        [[_student(alpha, points, share, seed) for share in shares] for seed in _SEEDS]
    )
    axis.plot(100 * shares, scores.T, color=FAINT, lw=1)
    axis.plot(100 * shares, scores.mean(axis=0), color=_ONE, marker="o")
    axis.set(xlabel="points with another point's target (%)", ylabel="test accuracy (%)")
    first, last = scores.mean(axis=0)[[0, -1]]
    return (
        f"With alpha {alpha:g}, accuracy goes from {first:.0f} % (own targets) to {last:.0f} %"
        " (all exchanged)."
    )


_SEEDS = range(8)


def _points(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 21) of three overlapping classes, twenty numbers and a one, with each point's true
    probabilities (N, 3) and a label drawn by them.
    """
    x = np.hstack([rng.standard_normal((count, 20)), np.ones((count, 1))])
    scores = 2 * x[:, :3] - x[:, 3:6]
    truth = softmax(scores, axis=1)
    return x, truth, (truth.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)


def _student(alpha: float, images: int, share: float, seed: int) -> float:
    """Test accuracy (percent): how often the student's class is the most probable one."""
    rng = np.random.default_rng(seed)
    x, truth, labels = _points(images, rng)
    partner, moved = np.arange(images), rng.permutation(images)[: round(share * images)]
    partner[moved] = np.roll(moved, 1)
    targets = (1 - alpha) * np.eye(3)[labels] + alpha * truth[partner]
    weights = np.zeros((21, 3))
    for _ in range(200):
        weights -= 2 * x.T @ (softmax(x @ weights, axis=1) - targets) / images
    test, known, _ = _points(2000, rng)
    return float(100 * ((test @ weights).argmax(axis=1) == known.argmax(axis=1)).mean())


def _histogram(axis: Axes, groups: dict[str, np.ndarray]) -> None:
    bins = np.histogram_bin_edges(np.concatenate(list(groups.values())), 40)
    for (name, values), colour in zip(groups.items(), (_ONE, _TWO)):
        sns.histplot(x=values, bins=bins, color=colour, alpha=0.5, label=name, ax=axis, lw=0)
    axis.set(ylabel="experiments")
    axis.legend(frameon=False)
