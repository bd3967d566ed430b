"""The tables of the notebooks `10_...`: arms, contrasts and their words (`docs/evidence.md`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import t
from statsmodels.formula.api import ols
from statsmodels.regression.linear_model import RegressionResults

from kdig.study.evidence import OVERLAYS, TARGETS
from kdig.study.tables.answers import MARGIN, word
from kdig.study.tables.shared import Shown

Prediction = Literal["above", "within", ""]
# the smallest differences that matter: of losses and of divergences (nats), and of logit gaps
MARGIN_NATS, MARGIN_GAP = 0.05, 0.5


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of the means of arms; the weights add up to 0.

    `predicted` is what was written down before the first run: `above` 0, or `within` the margin.
    """

    name: str
    weights: Mapping[str, float]
    predicted: Prediction = ""
    outcome: str = "accuracy"
    margin: float = MARGIN

    def word(self, low: float, high: float) -> str:
        """Whether an interval bears the prediction out; nothing was predicted: nothing is said."""
        if self.predicted == "above":
            return _word(low > self.margin, high < self.margin)
        if self.predicted == "within":
            inside = -self.margin < low and high < self.margin
            return _word(inside, low > self.margin or high < -self.margin)
        return ""


def _word(supported: bool, contradicted: bool) -> str:
    if supported:
        return "supported"
    return "contradicted" if contradicted else "undecided"


def difference(one: Iterable[str], other: Iterable[str]) -> dict[str, float]:
    """Weights of the mean of the arms `one` less the mean of the arms `other`.

    Raises `ValueError` for an arm on both sides.
    """
    plus, minus = list(one), list(other)
    if both := set(plus) & set(minus):
        raise ValueError(f"{min(both)} cannot be on both sides of a difference")
    return dict.fromkeys(plus, 1 / len(plus)) | dict.fromkeys(minus, -1 / len(minus))


def _fitted(frame: pd.DataFrame, outcome: str) -> RegressionResults:
    """The linear model outcome ~ block + arm, with a mean for each arm."""
    data = frame[["arm", "block"]].assign(outcome=frame[outcome]).dropna()
    return ols("outcome ~ 0 + C(arm) + C(block, Sum)", data=data).fit()


def arms(frame: pd.DataFrame, outcomes: Sequence[str] = ("accuracy",)) -> pd.DataFrame:
    """Mean of each arm over its blocks, with a 95 % interval from the error that all arms share."""
    tables = []
    for outcome in outcomes:
        fit, groups = _fitted(frame, outcome), frame.groupby("arm", sort=False)[outcome]
        n = groups.count()
        half = t.ppf(0.975, fit.df_resid) * np.sqrt(fit.mse_resid / n)
        table = pd.DataFrame({"n": n, "mean": groups.mean()}).dropna()
        table = table.assign(low=table["mean"] - half, high=table["mean"] + half)
        tables.append(table.reset_index().assign(outcome=outcome))
    columns = ["outcome", "arm", "n", "mean", "low", "high"]
    return pd.concat(tables, ignore_index=True)[columns]


def contrasts(frame: pd.DataFrame, asked: Sequence[Contrast]) -> Shown:
    """Every contrast with its 95 % interval (pooled error), and the word that its prediction gets.

    `frame` has a row for each run: `block`, `arm`, and the outcomes. `direction` says on which side
    of 0 the interval lies. `by_block` has the contrast in each block, which shows whether arms
    scatter as unlike as the pooled error assumes they do not. Raises `ValueError` for an arm
    without runs.
    """
    fits = {outcome: _fitted(frame, outcome) for outcome in {c.outcome for c in asked}}
    rows = [
        _contrasted(fits[contrast.outcome], contrast) | {"by_block": _by_block(frame, contrast)}
        for contrast in asked
    ]
    table = pd.DataFrame(rows).assign(blocks=frame.block.nunique())
    facts = [
        {"fact": f"evidence_{row.contrast}", **row[["value", "low", "high"]], "n": row.blocks}
        for _, row in table.iterrows()
    ]
    return table, facts


def answered(frame: pd.DataFrame, asked: Sequence[Contrast], prefix: str) -> Shown:
    """Contrasts that nobody predicted, in percentage points of accuracy: `difference`, its 95 %
    interval, and `word`, what that interval says by the margin.

    `prefix` begins the names of the facts.
    """
    table, _ = contrasts(frame, asked)
    table["word"] = [word(*row) for row in zip(table.low, table.high, table.margin)]
    facts = [
        {"fact": f"{prefix}_{row.contrast}", "value": row.value, "low": row.low, "high": row.high}
        | {"n": row.blocks}
        for row in table.itertuples()
    ]
    kept = table[["contrast", "value", "low", "high", "word", "margin", "blocks", "by_block"]]
    return kept.rename(columns={"value": "difference"}), facts


def _contrasted(fit: RegressionResults, contrast: Contrast) -> dict[str, object]:
    names = [f"C(arm)[{arm}]" for arm in contrast.weights]
    if missing := [name for name in names if name not in fit.params.index]:
        raise ValueError(f"contrast {contrast.name!r}: there are no runs of {missing[0]}")
    vector = pd.Series(dict(zip(names, contrast.weights.values()))).reindex(fit.params.index)
    test = fit.t_test(vector.fillna(0).to_numpy())
    low, high = test.conf_int()[0]
    named = {"contrast": contrast.name, "outcome": contrast.outcome, "value": test.effect[0]}
    said = {"predicted": contrast.predicted, "margin": contrast.margin}
    found = {"direction": direction(low, high), "word": contrast.word(low, high)}
    return named | {"low": low, "high": high} | said | found


def direction(low: float, high: float) -> str:
    """The side of 0 on which an interval lies."""
    return "above 0" if low > 0 else "below 0" if high < 0 else "open"


def _by_block(frame: pd.DataFrame, contrast: Contrast) -> str:
    values = frame.pivot(index="block", columns="arm", values=contrast.outcome)
    weights = pd.Series(contrast.weights)
    return ", ".join(f"{value:+.2f}" for value in values[weights.index] @ weights)


def sentences(table: pd.DataFrame) -> str:
    """Each contrast in a line, for a reader who does not read the table."""
    lines = [
        f"- {row.contrast}: {row.value:+.2f} ({row.low:+.2f} to {row.high:+.2f}), {row.direction}; "
        + (
            f"the prediction, {row.predicted} {row.margin:g}, is **{row.word}**"
            if row.word
            else "nothing was predicted"
        )
        for row in table.itertuples()
    ]
    return "\n".join(lines)


def alpha_pairing(alphas: Sequence[float]) -> list[Contrast]:
    """The contrasts of part B for its weights of soft targets."""
    least, most = min(alphas), max(alphas)
    pairs = {a: ([f"own-{a}"], [f"other-{a}"]) for a in sorted(alphas, reverse=True)}
    found = [
        Contrast(f"own-{a} - other-{a}", difference(*pair), "within" if a == least else "above")
        for a, pair in pairs.items()
    ]
    return [
        *found,
        Contrast(f"own-{most} - plain", difference([f"own-{most}"], ["plain"]), "above"),
        Contrast(
            f"smoothing - other-{most}", difference(["smoothing"], [f"other-{most}"]), "above"
        ),
        Contrast("interaction of alpha and pairing", _crossed(least, most), "above"),
    ]


def _crossed(least: float, most: float) -> dict[str, float]:
    own = difference([f"own-{most}"], [f"own-{least}"])
    return own | difference([f"other-{least}"], [f"other-{most}"])


def by_alpha(means: pd.DataFrame, alphas: Sequence[float]) -> pd.DataFrame:
    """The arms of part B as two curves over alpha, which meet at the plain student (alpha 0)."""
    values = means.set_index("arm")
    arms_of = {"the image's own targets": "own", "another image's targets": "other"}
    rows = [
        {"curve": curve, "x": alpha, "value": row["mean"], "low": row.low, "high": row.high}
        for curve, name in arms_of.items()
        for alpha in (0.0, *sorted(alphas))
        for row in [values.loc[f"{name}-{alpha}" if alpha else "plain"]]
    ]
    return pd.DataFrame(rows)


def signature(letters: Iterable[str]) -> list[Contrast]:
    """The contrasts of part A for its teachers."""
    found = []
    for place, letter in enumerate(letters):
        more = difference([f"other-{letter}"], [f"own-{letter}"])
        less = {arm: -weight for arm, weight in more.items()}
        said: Prediction = "above" if place == 0 else ""
        found += [
            Contrast(
                f"loss, other-{letter} - own-{letter}", more, "above", "train_loss", MARGIN_NATS
            ),
            Contrast(f"KL, other-{letter} - own-{letter}", more, said, "kl", MARGIN_NATS),
            Contrast(f"gap, own-{letter} - other-{letter}", less, said, "gap_test", MARGIN_GAP),
        ]
    return found


def factorial() -> list[Contrast]:
    """The contrasts of part C."""

    def targets(one: str, other: str) -> dict[str, float]:
        return difference(
            [f"{one}.{name}" for name in OVERLAYS], [f"{other}.{name}" for name in OVERLAYS]
        )

    def overlays(one: Sequence[str], other: str) -> dict[str, float]:
        return difference(
            [f"{name}.{overlay}" for name in TARGETS for overlay in one],
            [f"{name}.{other}" for name in TARGETS],
        )

    both = difference(["own.map"], ["none.map"])
    alone = difference(["none.none"], ["own.none"])
    return [
        Contrast("own targets - none", targets("own", "none"), "above"),
        Contrast("released targets - none", targets("released", "none"), "within"),
        Contrast("own map - no overlay", overlays(["map"], "none"), "above"),
        Contrast("own map - other image's map", overlays(["map"], "other"), "above"),
        Contrast("own map - grey", overlays(["map"], "grey"), "above"),
        Contrast("interaction of own targets and own map", both | alone, "within"),
        Contrast("any overlay - none, JPEG", overlays(OVERLAYS[1:], "none"), "above", "jpeg 75"),
        Contrast("own map - other image's map, JPEG", overlays(["map"], "other"), "", "jpeg 75"),
        Contrast("paper.own - paper.plain", difference(["paper.own"], ["paper.plain"]), "above"),
        Contrast(
            "paper.released - paper.plain", difference(["paper.released"], ["paper.plain"]), "above"
        ),
    ]


def joined(frame: pd.DataFrame, measured: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """`frame` with what was measured on each of its runs, in their order."""
    return pd.concat([frame, pd.DataFrame(list(measured))], axis=1)


def trace_panels(means: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Part A's arms by training loss and by gap on test images: a panel each."""
    labels = {"train_loss": "training loss (nats)", "gap_test": "logit gap, test images"}
    return {label: means[means.outcome == name] for name, label in labels.items()}


_TARGETS = {"none": "no soft targets", "own": "own targets", "released": "another image's targets"}
_OVERLAYS = {"none": "no overlay", "map": "own map", "other": "another image's map"}


def factorial_panels(means: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Part C's cells by accuracy, clean and as JPEG: a panel each."""
    cells = means[~means.arm.str.startswith("paper.")]
    parts = cells.arm.str.split(".", expand=True).set_axis(["targets", "overlay"], axis=1)
    parts = parts.replace({"targets": _TARGETS, "overlay": _OVERLAYS})
    cells = pd.concat([cells, parts], axis=1)
    labels = {"accuracy": "test accuracy (%)", "jpeg 75": "the same, JPEG of quality 75 (%)"}
    return {label: cells[cells.outcome == name] for name, label in labels.items()}


def wide(means: pd.DataFrame) -> pd.DataFrame:
    """Means and half widths of the intervals: a row an arm, a column an outcome."""
    half = means.assign(half=(means.high - means.low) / 2)
    table = half.pivot(index="arm", columns="outcome", values=["mean", "half"])
    order = [(kind, name) for name in means.outcome.unique() for kind in ("mean", "half")]
    table = table.loc[list(dict.fromkeys(means.arm)), order]
    table.columns = [name if kind == "mean" else f"{name} +-" for kind, name in order]
    return table.reset_index()
