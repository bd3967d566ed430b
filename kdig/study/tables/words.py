"""What tables and figures say, in sentences with their numbers: made from the data, so that they
are true in every profile.

An effect is called one only where its interval leaves out zero (`stats.leaves_out`): the rule by
which figures draw solid and hollow dots.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from kdig.core.methods import LABELS
from kdig.measure import stats

if TYPE_CHECKING:
    from torch import Tensor

POINTS = "percentage points"


def joined(parts: Iterable[str]) -> str:
    """a, b and c."""
    *some, last = parts
    return f"{', '.join(some)} and {last}" if some else last


def label(name: str) -> str:
    """A method's name as the paper prints it, and any other name as it is."""
    return LABELS.get(name, name)


def _sides(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The rows above zero, those below, and those that cannot be told from it."""
    told = stats.leaves_out(rows.low, rows.high)
    up = rows.difference > 0
    return rows[told & up], rows[told & ~up], rows[~told]


def finding(rows: pd.DataFrame, than: str) -> str:
    """A figure's title: how many of `rows` lie above and below `than`."""
    above, below, rest = map(len, _sides(rows))
    if not above + below:
        return f"None of {len(rows)} differences to {than} can be told from zero"
    sides = {"above": above, "below": below, "that cannot be told from it": rest}
    said = [f"{number} {side}" for side, number in sides.items() if number]
    return f"Of {len(rows)} compared with {than}: {joined(said)}"


def compared(
    rows: pd.DataFrame, than: str, unit: str = POINTS, by: str = "method", digits: int = 2
) -> str:
    """What the intervals `low` to `high` say of each `difference` to `than`, the largest first."""
    if not len(rows):
        return f"There are 0 differences to {than}."
    above, below, open_ = (
        part.sort_values("difference", key=abs, ascending=False) for part in _sides(rows)
    )
    if len(open_) == len(rows):
        return _none(open_, than, _number(open_.iloc[0], by, unit, digits), by)
    said = [
        _side(above, "above", than, by, unit, digits),
        _side(below, "below", than, by, unit, digits),
        _others(len(open_)),
    ]
    return " ".join(part for part in said if part)


def _none(rows: pd.DataFrame, than: str, largest: str, by: str) -> str:
    """What to say where no difference can be told from zero."""
    if len(rows) == 1:
        who, holds = f"{label(rows[by].iloc[0])} cannot", "the 95 % interval holds"
    else:
        who, holds = f"None of the {len(rows)} can", "every 95 % interval holds"
    return f"{who} be told from {than}: {holds} 0. The largest difference is that of {largest}."


def _others(number: int) -> str:
    """How many more cannot be told."""
    if number == 1:
        return "1 other cannot be told from it: its interval holds 0."
    return f"{number} others cannot be told from it: their intervals hold 0." if number else ""


def _side(
    rows: pd.DataFrame, side: str, than: str, by: str, unit: str, digits: int, most: int = 3
) -> str:
    """The first few rows on one side of `than`."""
    if not len(rows):
        return ""
    names = [_number(row, by, unit, digits) for _, row in rows.head(most).iterrows()]
    if len(rows) > most:
        names.append(f"{len(rows) - most} more")
    return f"{joined(names)} {'lie' if len(rows) > 1 else 'lies'} {side} {than}."


def _number(row: pd.Series, by: str, unit: str, digits: int) -> str:
    value, low, high = (f"{row[name]:+.{digits}f}" for name in ("difference", "low", "high"))
    return f"{label(row[by])} ({value} {unit}, {low} to {high})"


# 02


def sharpness(probabilities: "Mapping[str, Tensor]", classes: Sequence[str]) -> str:
    """What the teacher gives its first choice at the lowest and the highest temperature."""
    (cold, sure), (warm, soft) = (list(probabilities.items())[i] for i in (0, -1))
    first = int(sure.argmax())
    return (
        f"At {cold} the first choice, {classes[first]}, has {100 * float(sure[first]):.1f} % of the"
        f" probability and the other {len(classes) - 1} classes share the rest; at {warm} it has"
        f" {100 * float(soft[first]):.1f} %."
    )


def completeness(delta: "Tensor", steps: int) -> str:
    """How much of F(x) - F(x') the attributions of an image leave out, and whether a single image's
    sum can be relied on (|delta| below a tenth for 95 of 100).
    """
    middle, most = (100 * float(delta.abs().quantile(q)) for q in (0.5, 0.95))
    reliable = (
        "so that a single image's sum can be relied on"
        if most < 10
        else "so that a single image's sum cannot be relied on"
    )
    return (
        f"With {steps} steps the attributions of half of the images miss less than {_share(middle)} of"
        f" F(x) − F(x′), and those of one image in twenty more than {_share(most)}, {reliable}."
    )


def _share(percent: float) -> str:
    """A share with as many digits as one says."""
    return f"{percent:.1f} %" if percent < 10 else f"{percent:,.0f} %"


def belongs(rates: Mapping[str, float], chance: float) -> str:
    """How often a stored row of logits has the label of its image, by pairing (percent)."""
    said = joined(f"{name}: {rate:.1f} %" for name, rate in rates.items())
    return f"Stored logits point to the label of the image that gets them ({said}; chance {chance:.1f} %)."


# 03


def luck(winners: pd.DataFrame) -> str:
    """Whether the winner of each search stands out of what equal settings give (`p` below 0.05)."""
    parts = [
        f"in the search of {row.search.partition(': ')[2]} it stands {row.above_mean:.2f} points above"
        f" the mean of {row.cells} settings, where equal settings give {row.expected:.2f} ({_p(row.p)})"
        for row in winners.itertuples()
    ]
    more = [row.search.partition(": ")[2] for row in winners.itertuples() if row.p < 0.05]
    verdict = (
        f"It is more than luck for {joined(more)}" if more else "No winner is more than luck gives"
    )
    return f"{verdict}: {'; '.join(parts)}."


def _p(p: float) -> str:
    return f"p = {p:.2f}" if p >= 0.01 else "p < 0.01"


# 04


def best_epoch(added: pd.DataFrame, epochs: int) -> str:
    """What the best of so many scored `epochs` adds to the last one (`mean` over runs, by method)."""
    most = added.loc[added["mean"].idxmax()]
    if most["mean"] <= 0:
        return (
            f"The best epoch adds 0.0 points to every method: of only {epochs} scored epochs the last"
            " is the best one."
        )
    return (
        f"Picking the best of {epochs} scored epochs on the test set adds up to {most['mean']:.2f}"
        f" points (mean of {label(most['method'])}) to what the last epoch gives."
    )


def effect(row: pd.Series, name: str, unit: str = POINTS) -> str:
    """One effect with its interval, and whether it can be told from zero."""
    up = "raises" if row.difference > 0 else "lowers"
    told = bool(stats.leaves_out(row.low, row.high))
    verb = f"{up} the accuracy" if told else "has an effect that cannot be told from zero"
    return f"{name} {verb}: {row.difference:+.2f} {unit} ({row.low:+.2f} to {row.high:+.2f})."


# 05


def smaller(frame: pd.DataFrame, factors: Mapping[int, float], epochs: int) -> str:
    """Whether accuracy falls with compression: the best level, and the smallest student, against
    the largest one, over all methods and seeds, with intervals for all comparisons at once.
    """
    runs = frame.pivot(index=["method", "seed"], columns="level", values="accuracy")
    order = sorted(runs.columns, key=lambda level: factors[level])
    best, small = runs[order].mean().idxmax(), order[-1]
    rise = _step(runs, factors, order[0], best)
    if best != order[0] and rise.told:
        return (
            f"Here smaller networks are more accurate, up to a point: the mean rises {rise.said}. After"
            f" {epochs} epochs this may say more about short training than about compression: a"
            " large network needs longer."
        )
    fall = _step(runs, factors, order[0], small)
    if fall.told:
        return f"Compression costs accuracy: the mean falls {fall.said}."
    return f"It cannot be told whether compression costs accuracy here: the mean goes {fall.said}."


class Step(NamedTuple):
    """From one level to another: whether the difference is one, and what to say of it."""

    told: bool
    said: str


def _step(runs: pd.DataFrame, factors: Mapping[int, float], start: int, end: int) -> Step:
    difference = runs[end] - runs[start]
    low, high = stats.mean_interval(difference, 1 - 0.05 / max(runs.shape[1] - 1, 1))
    ends = [f"{runs[level].mean():.1f} % at {factors[level]:.4g}x" for level in (start, end)]
    points = f"{difference.mean():+.1f} points, {low:+.1f} to {high:+.1f}"
    return Step(bool(stats.leaves_out(low, high)), f"from {ends[0]} to {ends[1]} ({points})")


def on_the_line(lines: pd.DataFrame) -> str:
    """The teacher's printed time against what lines through the students predict."""
    low, high, printed = lines.low.min(), lines.high.max(), lines.printed_ms.iloc[0]
    where = "far off" if printed > 2 * high else "off" if printed > high else "on"
    return (
        f"The teacher's printed {printed:.0f} ms is {where} the students' line: layers and operations"
        f" predict {lines.predicted_ms.min():.0f} to {lines.predicted_ms.max():.0f} ms"
        f" (95 % intervals {low:.0f} to {high:.0f})."
    )


def sped_up(ways: pd.DataFrame, level: int = 2) -> str:
    """The speed-up of one student, by the way of timing."""
    rows = ways[ways.level == level]
    said = joined(
        f"{r.speedup:.2g} ({r.way}; {r.low:.2g} to {r.high:.2g})" for r in rows.itertuples()
    )
    return (
        f"The student that is {rows.factor.iloc[0]:.3g} times smaller needs {rows.mac_ratio.iloc[0]:.2g}"
        f" times fewer operations, and is faster by a factor of {said}."
    )


# 07


def readings(metrics: pd.DataFrame) -> str:
    """Which method is first by raw and by balanced accuracy."""
    known = metrics.set_index("method")
    raw, balanced = known.raw.idxmax(), known.balanced.idxmax()
    if raw == balanced:
        return f"{label(raw)} is the highest in both readings ({known.raw[raw]:.1f} % raw)."
    place = int(known.raw.rank(ascending=False)[balanced])
    return (
        f"{label(balanced)} is the highest by balanced accuracy ({known.balanced[balanced]:.1f} %), and"
        f" number {place} of {len(known)} by raw accuracy, where {label(raw)} leads"
        f" ({known.raw[raw]:.1f} %)."
    )


# 08


def against_flat(mse: pd.DataFrame) -> str:
    """The students' maps against a flat map, which knows nothing."""
    means = mse.set_index("method")["mean"]
    flat = means["flat map"]
    methods = [name for name in means.index if name in LABELS]
    near = [f"{label(m)} ({means[m]:.4f})" for m in methods if means[m] < flat]
    far = [f"{label(m)} ({means[m]:.4f})" for m in methods if means[m] >= flat]
    said = [f"A flat map has an MSE of {flat:.4f}."]
    said += [f"Nearer to the teacher's than that: {joined(near)}."] if near else []
    said += [f"Not nearer: {joined(far)}."] if far else []
    return " ".join(said)


def concentrated(table: pd.DataFrame) -> str:
    """Whether students with attention are more concentrated than the teacher, as the paper says."""
    rows = table[table.method != "student"].rename(columns={"gain": "difference"})
    above, below, open_ = _sides(rows)
    ends = f"gains of {rows.difference.min():+.2f} to {rows.difference.max():+.2f} positions"
    if len(above) == len(rows):
        return f"All {len(rows)} methods with attention are more concentrated than the teacher ({ends})."
    if len(below) == len(rows):
        return (
            f"All {len(rows)} methods with attention are less concentrated than the teacher ({ends}):"
            " the reverse of what the paper says."
        )
    return (
        f"Of {len(rows)} methods with attention, {len(above)} are more concentrated than the teacher,"
        f" {len(below)} less, and {len(open_)} cannot be told from it ({ends})."
    )


# 09


def reaches(gaps: pd.DataFrame, epochs: int) -> str:
    """Whether gaps of logits reach where Eq. 1 is stationary (`gap_mean`, `predicted_gap`)."""
    rows = gaps[(gaps.pictures == "training") & gaps.predicted_gap.notna()]
    short = rows[rows.gap_mean < 0.9 * rows.predicted_gap]
    ends = (
        f"gaps of {rows.gap_mean.min():.1f} to {rows.gap_mean.max():.1f} stand beside predictions of"
        f" {rows.predicted_gap.min():.1f} to {rows.predicted_gap.max():.1f}"
    )
    if len(short) == len(rows):
        return (
            f"No arm reaches the predicted gap on its training images: {ends}. The prediction is the"
            f" limit of a long training, and {epochs} epochs are short; this does not speak against it."
        )
    return (
        f"{len(rows) - len(short)} of {len(rows)} arms come within a tenth of the predicted gap, or"
        f" pass it, on their training images: {ends}."
    )


def two_kinds(mixture: pd.DataFrame) -> str:
    """For which methods two normals fit Figure 6's bars better than one (Holm's p below 0.05)."""
    found = [
        f"{label(r.method)} (p = {r.p_holm:.3f})" for r in mixture.itertuples() if r.p_holm < 0.05
    ]
    least = mixture.loc[mixture.p_holm.idxmin()]
    if not found:
        return f"No method's runs ask for two normals (least p {least.p_holm:.3f}, {label(least.method)})."
    return (
        f"Two normals fit better than one for {joined(found)}, and for no other of {len(mixture)}."
    )


def highest(best: pd.DataFrame, n: int = 10) -> str:
    """What reporting the highest of `n` equal runs adds (`curve`, `x`, `value`)."""
    rows = best[best.x == n]
    said = joined(f"{r.value:.2f} points for {r.curve}" for r in rows.itertuples())
    return f"The highest of {n} equal runs lies above their true mean by {said}."


# 10


_UNITS = {"train_loss": " nats", "kl": " nats", "gap_test": ""}


def prediction(row: pd.Series) -> str:
    """One contrast with its interval, what was predicted, and its word."""
    where = {
        "above": "above the margin",
        "below": "below the margin",
        "within": "inside the margin",
    }
    name, unit = row.contrast.replace(" - ", " minus "), _UNITS.get(row.outcome, f" {POINTS}")
    found = f"{name}: {row.value:+.2f}{unit} ({row.low:+.2f} to {row.high:+.2f})"
    if not row.word:
        return f"{found}. Nothing was predicted."
    return f"{found}. Predicted: {where[row.predicted]}. {row.word.capitalize()}."


def scope(data: str, why_not_decided: str) -> str:
    """What a notebook's own networks were trained on, and whether they decide claims."""
    trained = f"What this notebook measures on networks of its own, it measures on {data}."
    if why_not_decided:
        return f"{trained} This decides no claim about the paper's results: {why_not_decided}."
    return f"{trained} Data, settings and teacher are like the paper's, so that this decides its claims."
