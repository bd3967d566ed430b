"""The figures of `13_deployment` and `14_your_images`: tables in, figures out."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, BboxBase

from kdig.measure.engines import ENGINES
from kdig.measure.plots import FAINT, PAPER, SERIES, WIDTH, plain_ticks, series


def engine_times(table: pd.DataFrame) -> Figure:
    """Processor time of a call by engine (rows), a panel a batch and a colour a network: the median
    of the windows, with their range. Columns as `tables.deployment.engines` gives them.
    """
    batches = list(dict.fromkeys(table.batch))
    names = list(dict.fromkeys(table.engine))
    looks = series(dict.fromkeys(table.network))
    size = (WIDTH, 0.42 * len(names) * len(batches) + 1.6)
    figure, axes = plt.subplots(len(batches), 1, figsize=size, squeeze=False, layout="constrained")
    for axis, batch in zip(axes[:, 0], batches):
        part = table[table.batch == batch]
        for step, (network, (colour, mark)) in enumerate(looks.items()):
            rows = part[part.network == network]
            y = rows.engine.map(names.index) + 0.16 * (step - (len(looks) - 1) / 2)
            ends = [rows.cpu_ms - rows.lowest, rows.highest - rows.cpu_ms]
            axis.errorbar(
                rows.cpu_ms, y, xerr=ends, fmt=mark, color=colour, capsize=3, label=network
            )
        axis.set(xscale="log", ylim=(len(names) - 0.5, -0.5))
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel(f"processor time of a call (ms), batch of {batch}")
        plain_ticks(axis.xaxis)
    axes[0, 0].legend(frameon=False, fontsize="small")
    return figure


def factors(table: pd.DataFrame, printed: float) -> Figure:
    """Factors of a speed-up with their intervals, on a logarithmic axis, beside the printed one."""
    figure, axis = plt.subplots(figsize=(WIDTH, 0.42 * len(table) + 1.5), layout="constrained")
    place = np.arange(len(table))
    ends = [table.ratio - table.low, table.high - table.ratio]
    axis.errorbar(table.ratio, place, xerr=ends, fmt="o", color=SERIES[0], capsize=3)
    axis.axvline(1, color="black", lw=1)
    axis.axvline(printed, color=PAPER, lw=1, ls="--", label=f"printed: {printed:.1f}")
    for below in (3.5, 4.5):  # the four steps, their product, other ratios
        axis.axhline(below, color=FAINT, lw=0.8)
    axis.set(xscale="log", ylim=(len(table) - 0.5, -0.5))
    axis.set_yticks(place, table.factor)
    axis.set_xlabel("times as fast (95 % interval; logarithmic)")
    _legend_below(figure, axis)
    plain_ticks(axis.xaxis)
    return figure


def channel_spread(table: pd.DataFrame) -> Figure:
    """How unequal the channels of each layer are: depthwise convolutions and others."""
    figure, axis = plt.subplots(figsize=(WIDTH, 2.9), layout="constrained")
    looks: Mapping[str, tuple[str, str]] = {
        "depthwise": (SERIES[1], "o"),
        "other": (SERIES[2], "s"),
    }
    for kind, (colour, mark) in looks.items():
        rows = table[table.kind == kind]
        axis.plot(rows.layer, rows.spread, mark, color=colour, label=f"{kind} convolution")
    axis.set(yscale="log", xlabel="layer, from the image on")
    axis.set_ylabel("spread (logarithmic)")
    _legend_below(figure, axis)
    plain_ticks(axis.yaxis)
    sns.despine(figure)
    return figure


def pareto(table: pd.DataFrame) -> Figure:
    """Accuracy against processor time of one image: a mark a way of running, solid where it lies on
    the front, hollow elsewhere. A dotted line joins the ways to run one network, and a grey one the
    front.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 4.4), layout="constrained")
    # an engine looks alike in every figure
    looks = series(engine.words for engine in ENGINES.values())
    best = table[table.front].sort_values("ms")
    axis.step(best.ms, best.accuracy, where="post", color=FAINT, zorder=0)
    for _, rows in table.sort_values("ms").groupby("network"):
        axis.plot(rows.ms, rows.accuracy, color="grey", lw=0.8, ls=":", zorder=0)
    for engine, rows in table.groupby("engine", sort=False):
        colour, mark = looks[str(engine)]
        axis.plot(rows.ms, rows.accuracy, mark, color=colour, mfc="white", label=engine)
        axis.plot(rows[rows.front].ms, rows[rows.front].accuracy, mark, color=colour)
    axis.set(xscale="log", xlabel="processor time of one image (ms, logarithmic)")
    axis.set_ylabel("test accuracy (%)")
    _legend_below(figure, axis)
    plain_ticks(axis.xaxis)
    _name(figure, axis, table)
    return figure


def _legend_below(figure: Figure, axis: Axes) -> None:
    """A legend that covers no data."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  frameon=False, fontsize="small")  # fmt: skip


def _name(figure: Figure, axis: Axes, table: pd.DataFrame) -> None:
    """Name each network once, at its fastest way of running; a name that would cover a mark or
    another name stands above it.
    """
    figure.draw_without_rendering()  # which gives every mark its place
    half = 3 * figure.dpi / 72  # of a mark
    marks = axis.transData.transform(table[["ms", "accuracy"]])
    taken: list[BboxBase] = [Bbox([mark - half, mark + half]) for mark in marks]
    fastest = table.loc[table.groupby("network").ms.idxmin()].sort_values("ms")
    for row in fastest.itertuples():
        place = (row.ms, row.accuracy)
        name = axis.annotate(
            str(row.network), place, xytext=(4, 5), textcoords="offset points", fontsize="x-small"
        )
        while any(name.get_window_extent().overlaps(other) for other in taken):
            name.xyann = (4, name.xyann[1] + 2)
        taken.append(name.get_window_extent())
