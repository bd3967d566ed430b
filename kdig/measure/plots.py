"""One function a figure: each takes tensors or tables and returns a matplotlib figure; none reads
or writes files, and none needs torch unless it is given tensors.

A method has the same colour in every figure, from a palette that colour-blind readers can tell
apart; what is not a method is drawn in the colours of `SERIES`, which have none of it.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from kdig.core.methods import LABELS, METHODS

if TYPE_CHECKING:
    from torch import Tensor

COLOURS = {key: method.colour for key, method in METHODS.items()}
PAPER = "#555555"
# of Tol's "muted" scheme, which colour-blind readers can tell apart, those unlike any method's:
# indigo, wine, cyan, olive, sand
SERIES = ("#332288", "#882255", "#88ccee", "#999933", "#ddcc77")
MARKS = "osD^vPX"  # as many again: colour and mark together repeat after 35 series


def style() -> None:
    """Sizes and fonts shared by all figures."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85)
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    mpl.rcParams.update({"figure.constrained_layout.use": True, "svg.hashsalt": "kdig"})


def series(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour of `SERIES` and a mark for each name, whatever their number.

    What is named after a method, as "KD & IG" or "KD & IG, our sd 0.3", has that method's colour.
    """
    of_method = {label: COLOURS[method] for method, label in LABELS.items()}
    looks = zip(itertools.cycle(SERIES), itertools.cycle(MARKS))
    return {
        name: (of_method.get(name.partition(",")[0], look), mark)
        for name, (look, mark) in zip(dict.fromkeys(names), looks)
    }


def readable(names: Iterable[str]) -> list[str]:
    """Names of classes or files as matplotlib is to draw them: a dollar sign begins no formula.

    A sign that the figures' font lacks is drawn as its code point, U+732B for instance, and is
    named once in a process.
    """
    names = list(names)
    lacking = {
        sign
        for name in names
        for sign in name
        if sign.isprintable() and ord(sign) not in _in_font()
    }
    if lacking:
        _say_what_lacks("".join(sorted(lacking)))
    drawn = str.maketrans({"$": r"\$", **{sign: f"U+{ord(sign):04X} " for sign in lacking}})
    return [name.translate(drawn).strip() for name in names]


@functools.cache
def _in_font() -> frozenset[int]:
    """The code points of the font that comes with matplotlib, which stands in where another one
    lacks a sign.
    """
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


@functools.cache
def _say_what_lacks(signs: str) -> None:
    print(
        f"figures: their font has no {' '.join(signs)}, drawn as code points; rename the class"
        " folders to see names",
        flush=True,
    )


def _bars(value: ArrayLike, low: ArrayLike, high: ArrayLike, most: float = 100.0) -> np.ndarray:
    """(2, N) lengths of error bars, cut off at 0 and `most`: an interval of few runs leaves the
    range that a share can have.
    """
    middle = np.asarray(value, dtype=float)
    down, up = (
        middle - np.clip(np.asarray(low, dtype=float), 0, most),
        np.clip(np.asarray(high, dtype=float), 0, most) - middle,
    )
    return np.stack([down, up]).reshape(2, -1).clip(min=0)


def picture_rows(
    rows: Mapping[str, "Tensor"], titles: Sequence[str], bars: Mapping[str, str] | None = None
) -> Figure:
    """A grid of pictures: one row per entry of `rows`, (N, 3, H, W) colour or (N, H, W) map; one
    column per title.

    Colour pictures are in [0, 1]; the maps of a row share one scale from zero, named in `bars` (row
    -> label of its colour bar).
    """
    figure, axes = plt.subplots(
        len(rows),
        len(titles),
        figsize=(1.05 * len(titles) + 1.2, 1.2 * len(rows) + 0.3),
        squeeze=False,
    )
    for line, (name, pictures) in zip(axes, rows.items()):
        top = float(pictures.max()) if pictures.ndim == 3 else 1.0
        for axis, picture in zip(line, pictures):
            shown = axis.imshow(
                picture.permute(1, 2, 0) if picture.ndim == 3 else picture,
                cmap="magma",
                vmin=0,
                vmax=top,
            )
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        if bars and name in bars:
            figure.colorbar(shown, ax=list(line), label=bars[name], fraction=0.02, pad=0.01)
    for axis, title in zip(axes[0], readable(titles)):
        axis.set_title(title, fontsize="small")
    return figure


def map_scalings(picture: "Tensor", maps: Mapping[str, "Tensor"]) -> Figure:
    """The form of Figure 4: normalised maps (H, W) of one picture (3, H, W), their overlays, and
    histograms of their values.
    """
    figure, axes = plt.subplots(3, len(maps), figsize=(2.6 * len(maps), 6.4), squeeze=False)
    for column, (name, values) in zip(axes.T, maps.items()):
        column[0].imshow(values, cmap="gray", vmin=0, vmax=1)
        column[1].imshow((0.5 * picture + 0.5 * values).permute(1, 2, 0))
        column[2].hist(values.flatten().numpy(), bins=20, range=(0, 1), color=PAPER)
        column[0].set_title(name, fontsize="small")
        column[2].set(xlabel="normalised IG", yscale="log", ylim=(0.8, values.numel()))
        for axis in column[:2]:
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
    for axis, label in zip(axes[:, 0], ("map", "overlay", "pixels")):
        axis.set_ylabel(label)
    return figure


def learning_curves(history: pd.DataFrame, reference: float | None = None) -> Figure:
    """Accuracy (percent) over epochs, from columns `epoch`, `train_accuracy`, `test_accuracy`.

    The paper's value dashed.
    """
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    training = "training pictures (augmented)"
    axis.plot(
        history.epoch, history.train_accuracy, marker="o", ms=3, color=SERIES[0], label=training
    )
    scored = history.dropna(subset=["test_accuracy"])
    axis.plot(
        scored.epoch, scored.test_accuracy, marker="s", ms=3, color=SERIES[1], label="test pictures"
    )
    if reference is not None:
        axis.axhline(reference, ls="--", lw=1, color=PAPER, label=f"paper: {reference:.2f} %")
    axis.set(xlabel="epoch", ylabel="accuracy (%)")
    axis.legend(frameon=False)
    return figure


def completeness(deltas: Mapping[str, "Tensor"]) -> Figure:
    """Histogram of |completeness delta|, relative to |F(x) - F(x')|, on a logarithmic axis.

    The median of each as a line.
    """
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    logs = {
        name: np.log10(delta.abs().clamp_min(1e-8).cpu().double()) for name, delta in deltas.items()
    }
    data = pd.DataFrame(logs).melt(var_name="baseline")
    colours = [colour for colour, _ in series(deltas).values()]
    sns.histplot(data, x="value", hue="baseline", bins=30, element="step", palette=colours, ax=axis)
    for (_, delta), colour in zip(deltas.items(), colours):
        axis.axvline(float(delta.abs().median().log10()), color=colour, ls="--", lw=1)
    axis.xaxis.set_major_formatter(lambda x, _: f"$10^{{{x:g}}}$")
    axis.set(xlabel="|completeness delta| relative to |F(x) − F(x′)|", ylabel="pictures")
    return figure


def softened(probabilities: Mapping[str, "Tensor"], classes: Sequence[str]) -> Figure:
    """Class probabilities of one picture at several temperatures, as grouped bars on a logarithmic
    axis.
    """
    figure, axis = plt.subplots(figsize=(6.5, 3.0))
    data = pd.DataFrame(
        {name: p.cpu().double() for name, p in probabilities.items()}, index=readable(classes)
    )
    data.plot.bar(
        ax=axis,
        width=0.8,
        color=[colour for colour, _ in series(probabilities).values()],
        logy=True,
        rot=30,
    )
    axis.set(xlabel="class", ylabel="teacher's probability")
    axis.legend(
        title=None,
        frameon=False,
        ncols=len(probabilities),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
    )
    return figure


def method_accuracy(
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    paper: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Every run's accuracy and each method's mean with its 95 % interval.

    Beside it `paper`'s values (method -> mean, sd).
    """
    methods = [method for method in METHODS if method in set(summary.method)]
    figure, axes = plt.subplots(
        1, 2 if paper else 1, figsize=(9.5 if paper else 5.5, 3.6), sharey=True, squeeze=False
    )
    ours = axes[0, 0]
    for row, method in enumerate(methods):
        runs, line = frame[frame.method == method], summary[summary.method == method].iloc[0]
        jitter = np.linspace(-0.18, 0.18, len(runs))
        ours.plot(runs.accuracy, row + jitter, "o", ms=3.5, alpha=0.5, color=COLOURS[method])
        error = _bars(line["mean"], line.low, line.high)
        ours.errorbar(
            line["mean"], row, xerr=error, fmt="D", ms=5, capsize=3, color=COLOURS[method]
        )
    title = f"ours: runs, mean and 95 % interval, n = {int(summary.n.min())}"
    ours.set(
        yticks=range(len(methods)),
        yticklabels=[LABELS[m] for m in methods],
        xlabel="test accuracy (%)",
        title=title,
    )
    ours.invert_yaxis()
    if paper:
        _paper_panel(axes[0, 1], methods, paper)
    return figure


def _paper_panel(
    axis: Axes, methods: Sequence[str], paper: Mapping[str, tuple[float, float]]
) -> None:
    for row, method in enumerate(methods):
        mean, sd = paper[method]
        axis.errorbar(mean, row, xerr=sd, fmt="D", ms=5, capsize=3, color=COLOURS[method])
    axis.set(xlabel="test accuracy (%)", title="paper (Table 4): mean ± sd, n = 10")


def dots(
    panels: Mapping[str, pd.DataFrame],
    row: str = "method",
    dot: str = "method",
    value: str = "value",
    lines: Mapping[str, float] | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Dots with their intervals by row: what Tables 4, 5, 6 and S14 compare, drawn.

    A panel an entry: label of the x axis -> table. A table has a row for each of its column `row`
    and in it a dot for each of its column `dot`, at `value`, with an interval from `low` to `high`.
    A dot is hollow where a column `filled` says no; a column `printed` adds a diamond. `lines`
    stand upright at a value: dashed with a label, plain without.
    """
    names = list(dict.fromkeys(next(iter(panels.values()))[row]))
    crowd = max(table[row].value_counts().max() for table in panels.values())
    labels = readable(map(_label, names))
    size = (
        2 + 0.06 * max(map(len, labels)) + 3.6 * len(panels),
        (0.3 + 0.06 * crowd) * len(names) + 1.1,
    )
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (x_label, table) in zip(axes[0], panels.items()):
        beside = table.groupby(row, sort=False)[row]
        shift = beside.cumcount() - (beside.transform("size") - 1) / 2
        y = table[row].map(names.index).astype(float) + min(0.2, 0.75 / crowd) * shift
        alone = dot == row or len(set(table[dot])) == 1
        _dots(axis, table.assign(x=table[value], y=y), dot, alone)
        for label, x in (lines or {}).items():
            axis.axvline(x, color=PAPER, lw=1, ls="--" if label else "-", label=label or None)
        axis.set(xlabel=x_label, xlim=limits, ylim=(len(names) - 0.5, -0.5))
    axes[0, 0].set(yticks=range(len(names)), yticklabels=labels)
    keys = dict(zip(*reversed(_handles(*axes[0]))))
    if keys:
        figure.legend(
            keys.values(),
            keys.keys(),
            frameon=False,
            fontsize="small",
            ncols=min(len(keys), 5),
            loc="outside upper center",
        )
    sns.despine(figure)
    return figure


def _dots(axis: Axes, table: pd.DataFrame, dot: str, alone: bool) -> None:
    """The dots of a panel, at columns `x` and `y`; `alone`: no other in its row, so not named."""
    called = table[dot].map(_label)
    for name, (colour, mark) in series(called).items():
        part, shape = table[called == name], "o" if alone else mark
        ends = [part.x - part.low, part.high - part.x]
        label = None if alone else name
        axis.errorbar(
            part.x, part.y, xerr=ends, fmt=shape, ms=5.5, capsize=3, color=colour, label=label
        )
        if "filled" in part:
            hollow = part[~part.filled]
            axis.plot(hollow.x, hollow.y, shape, ms=5.5, color=colour, mfc="white", zorder=3)
    if "printed" in table:
        axis.plot(table.printed, table.y, "D", ms=9, mfc="none", mec="black", label="printed")


def _label(name: str) -> str:
    """A method's label, and any other name as it is."""
    return LABELS.get(name, name)


def accuracy_by_epoch(history: pd.DataFrame) -> Figure:
    """Mean test accuracy (percent) over seeds by epoch, one line a method.

    Columns `epoch`, `method`, `test_accuracy`.
    """
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    means = history.groupby(["method", "epoch"], sort=False).test_accuracy.mean().reset_index()
    for method in [name for name in METHODS if name in set(means.method)]:
        line = means[means.method == method]
        axis.plot(
            line.epoch, line.test_accuracy, color=COLOURS[method], label=LABELS[method], lw=1.4
        )
    axis.set(xlabel="epoch", ylabel="test accuracy (%)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def search_surface(
    grid: pd.DataFrame, row: str, column: str, label: str = "test accuracy (%)"
) -> Figure:
    """A searched grid of accuracies (named in `label`.

    Rows `row`, columns `column`): heat map, and surface over both indices.
    """
    figure = plt.figure(figsize=(10.5, 3.8))
    flat, steep = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2, projection="3d")
    sns.heatmap(grid, annot=True, fmt=".2f", cmap="viridis", ax=flat, cbar_kws={"label": label})
    best = np.unravel_index(np.argmax(grid.to_numpy()), grid.shape)
    flat.add_patch(Rectangle((float(best[1]), float(best[0])), 1, 1, fill=False, ec="black", lw=2))
    flat.set(xlabel=column, ylabel=row)
    flat.tick_params(axis="y", rotation=0)
    x, y = np.meshgrid(range(grid.shape[1]), range(grid.shape[0]))
    scale = {
        "vmin": grid.min(axis=None),
        "vmax": grid.max(axis=None),
    }  # the heat map's, not that of the facets' means
    steep.plot_surface(x, y, grid.to_numpy(), cmap="viridis", edgecolor="white", lw=0.3, **scale)
    steep.set(xticks=range(grid.shape[1]), xticklabels=list(grid.columns), xlabel=column)
    steep.set(yticks=range(grid.shape[0]), yticklabels=list(grid.index), ylabel=row, title=label)
    steep.tick_params(labelsize="x-small", pad=1)
    steep.view_init(28, -130)
    steep.set_in_layout(False)  # whose size in three dimensions leaves the layout no room
    return figure


def search_means(panels: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, str]]) -> Figure:
    """One panel an entry: label of the axis -> (runs: `x`, `validation_accuracy`; cells: `x`,
    `mean`, `low`, `high`; method).

    Dots are runs, diamonds cells' means with their intervals; the highest mean is ringed, the mean
    of all cells dashed.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 3.4), sharey=True, squeeze=False
    )
    for axis, (name, (runs, cells, method)) in zip(axes[0], panels.items()):
        cells = cells.sort_values("x")
        colour, error = COLOURS[method], _bars(cells["mean"], cells.low, cells.high)
        axis.plot(runs.x, runs.validation_accuracy, "o", ms=4, alpha=0.5, color=colour, label="run")
        axis.errorbar(
            cells.x,
            cells["mean"],
            yerr=error,
            fmt="D-",
            ms=5,
            lw=1,
            capsize=3,
            color=colour,
            label="mean, 95 % interval",
        )
        axis.axhline(cells["mean"].mean(), ls="--", lw=1, color=PAPER, label="mean of all cells")
        best = cells.loc[cells["mean"].idxmax()]
        axis.plot(best.x, best["mean"], "o", ms=13, mfc="none", mec="black", label="chosen")
        axis.set(xlabel=name, title=LABELS[method])
    axes[0, 0].set_ylabel("validation accuracy (%)")
    axes[0, -1].legend(
        frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    return figure


def search_curves(curves: Mapping[str, tuple[pd.DataFrame, str, tuple[float, float]]]) -> Figure:
    """One panel an entry: label of the axis -> (columns `x`, `accuracy`.

    Method for the colour; band of 95 % of equal cells).
    """
    figure, axes = plt.subplots(
        1, len(curves), figsize=(4.6 * len(curves), 3.2), sharey=True, squeeze=False
    )
    for axis, (name, (table, method, band)) in zip(axes[0], curves.items()):
        ordered = table.sort_values("x")
        axis.axhspan(*band, color=PAPER, alpha=0.15, lw=0, label="95 % of equal cells")
        axis.plot(
            ordered.x,
            ordered.accuracy,
            marker="o",
            color=COLOURS[method],
            label=f"printed ({LABELS[method]})",
        )
        best = ordered.loc[ordered.accuracy.idxmax()]
        axis.plot(best.x, best.accuracy, "o", ms=11, mfc="none", mec="black")
        axis.set(xlabel=name)
        axis.legend(frameon=False, loc="lower left")
    axes[0, 0].set_ylabel("test accuracy (%)")
    return figure


def null_spread(
    simulated: Mapping[str, Mapping[str, np.ndarray]],
    observed: Mapping[str, float],
    label: str,
    mark: str = "printed",
) -> Figure:
    """Simulated values of one statistic, a panel a search and a line a reading.

    The observed value dashed, named `mark`.
    """
    figure, axes = plt.subplots(
        1, len(simulated), figsize=(3.7 * len(simulated), 3.0), squeeze=False
    )
    for axis, (search, readings) in zip(axes[0], simulated.items()):
        for (reading, values), (colour, _) in zip(readings.items(), series(readings).values()):
            sns.kdeplot(
                x=values, ax=axis, color=colour, fill=True, alpha=0.25, label=reading, cut=0
            )
        axis.axvline(observed[search], color="black", ls="--", label=mark)
        axis.set(title=search, xlabel=label, ylabel="density", yticks=[])
    axes[0, -1].legend(frameon=False, fontsize="small")
    return figure


def compression_curves(
    table: pd.DataFrame, speedup: pd.DataFrame, detail: tuple[float, float], teacher: float
) -> Figure:
    """Figure 5: accuracy over compression, `detail` in a panel beside; the teacher's at 1x;
    speed-up dashed on the right axis.

    `table`: `factor`, `method`, `accuracy` (percent) and, for bars, `low`, `high`; `speedup`:
    `factor`, `speedup` and, for a band, `low`, `high`.
    """
    part = table[table.factor.between(*detail)]
    panels, widths = (
        (2, (2.1, 1)) if len(part) else (1, (1,))
    )  # no level of the detail: no panel for it
    figure, axes = plt.subplots(
        1, panels, figsize=(12.5 if len(part) else 8.5, 4.8), width_ratios=widths, squeeze=False
    )
    axis = axes[0, 0]
    right = axis.twinx()
    _accuracy_lines(axis, table)
    for near in axes[0, 1:]:
        _accuracy_lines(near, part)
        near.set(
            xlabel="compression factor (x)",
            ylabel="test accuracy (%)",
            title=f"{detail[0]:.3g}x to {detail[1]:.3g}x",
        )
    axis.plot(1, teacher, "D", ms=7, color="black", label="Teacher")
    values = [*table.accuracy, teacher]
    axis.set(xscale="log", xlabel="compression factor (x)", ylabel="test accuracy (%)")
    axis.set_ylim(min(values) - 0.12 * np.ptp(values), max(values) + 0.08 * np.ptp(values))
    right.plot(
        [1, *speedup.factor],
        [1, *speedup.speedup],
        ls="--",
        marker="s",
        ms=3,
        color=PAPER,
        label="speed-up (right axis)",
    )
    if "low" in speedup:
        right.fill_between(speedup.factor, speedup.low, speedup.high, color=PAPER, alpha=0.2, lw=0)
    right.plot(
        [1, *speedup.factor],
        [1, *speedup.factor],
        ls=":",
        lw=1,
        color=PAPER,
        label="speed-up = compression",
    )
    right.set(ylabel="speed-up (x)", ylim=(0, 1.12 * speedup.speedup.max()))
    sns.despine(ax=right, right=False)
    figure.legend(*_handles(axis, right), frameon=False, ncols=4, loc="outside upper center")
    return figure


def _handles(*axes: Axes) -> tuple[list[Artist], list[str]]:
    """Legend entries of several axes together."""
    entries = [axis.get_legend_handles_labels() for axis in axes]
    return [handle for handles, _ in entries for handle in handles], [
        name for _, names in entries for name in names
    ]


def _accuracy_lines(axis: Axes, table: pd.DataFrame) -> None:
    """Lines with bars, moved apart by three per cent so that bars stay visible.

    The scale follows the means.
    """
    methods = [name for name in METHODS if name in set(table.method)]
    for shift, method in zip(np.linspace(-1, 1, len(methods)), methods):
        line = table[table.method == method].sort_values("factor")
        bars = _bars(line.accuracy, line.low, line.high) if "low" in line else None
        x = line.factor * 1.03**shift
        axis.errorbar(
            x,
            line.accuracy,
            bars,
            fmt="o-",
            ms=4,
            elinewidth=0.9,
            color=COLOURS[method],
            label=LABELS[method],
        )
    room = 0.15 * max(float(np.ptp(table.accuracy)), 0.5)
    axis.set_ylim(table.accuracy.min() - room, table.accuracy.max() + room)
    axis.tick_params(labelsize="small")


def speedup_against_size(table: pd.DataFrame) -> Figure:
    """Speed-up over the ratio of operations and of parameters, log-log, equality dotted.

    Columns: `way` (a line each), `mac_ratio`, `factor`, `speedup` and its interval `low`, `high`
    (nan: no bar).
    """
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.4), sharey=True)
    ratios = {
        "mac_ratio": "teacher's operations over the student's",
        "factor": "teacher's parameters over the student's",
    }
    for axis, (column, label) in zip(axes, ratios.items()):
        for way, (colour, mark) in series(table.way).items():
            line = table[table.way == way].sort_values(column)
            bars = np.nan_to_num([line.speedup - line.low, line.high - line.speedup]).clip(min=0)
            axis.errorbar(
                line[column],
                line.speedup,
                bars,
                fmt=f"{mark}-",
                ms=5,
                lw=1.2,
                capsize=2,
                color=colour,
                label=way,
            )
        axis.axline((1, 1), (10, 10), color=PAPER, ls=":", lw=1, label="equal")
        axis.set(xscale="log", yscale="log", xlabel=f"{label} (x)")
    axes[0].set_ylabel("speed-up over the teacher (x)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, ncols=3, loc="outside upper center")
    return figure


def device_times(table: pd.DataFrame) -> Figure:
    """Figure S5's form: training (solid, left) and inference time (dashed, right) a picture over
    the compression factor.

    Columns, in ms: `factor`, `training` with quartiles `training_q25`, `training_q75`, and for each
    batch size `inference_<n>` with quartiles `q25_<n>`, `q75_<n>`.
    """
    figure, axis = plt.subplots(figsize=(7.5, 4.0))
    right, line = axis.twinx(), table.sort_values("factor")
    batches = [
        name.removeprefix("inference_") for name in table.columns if name.startswith("inference_")
    ]
    shown = [("training (left axis)", axis, "-", "training", "training_q25", "training_q75")]
    shown += [
        (
            f"inference, batch {n} (right axis)",
            right,
            "--",
            f"inference_{n}",
            f"q25_{n}",
            f"q75_{n}",
        )
        for n in batches
    ]
    looks = series(name for name, *_ in shown)
    for name, side, dashes, middle, low, high in shown:
        colour, mark = looks[name]
        bars = [line[middle] - line[low], line[high] - line[middle]]
        side.errorbar(
            line.factor,
            line[middle],
            bars,
            fmt=f"{mark}{dashes}",
            ms=4,
            capsize=2,
            color=colour,
            label=name,
        )
    axis.set(
        xscale="log",
        xlabel="compression factor (x)",
        ylabel="training (ms a picture)",
        ylim=(0, None),
    )
    right.set(ylabel="inference (ms a picture)", ylim=(0, None))
    sns.despine(ax=right, right=False)
    figure.legend(*_handles(axis, right), frameon=False, ncols=3, loc="outside upper center")
    return figure


def extrapolated_line(
    panels: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], y_label: str
) -> Figure:
    """A panel an entry: axis label -> (points `x`, `y`, `fitted`.

    Line `x`, `value`, `low`, `high`); hollow: not fitted.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.8 * len(panels), 3.4), sharey=True, squeeze=False
    )
    for axis, (name, (points, line)) in zip(axes[0], panels.items()):
        axis.fill_between(
            line.x,
            line.low,
            line.high,
            color=SERIES[0],
            alpha=0.2,
            lw=0,
            label="95 % prediction interval",
        )
        axis.plot(line.x, line.value, color=SERIES[0], label="line through the students")
        used, other = points[points.fitted], points[~points.fitted]
        axis.plot(used.x, used.y, "o", color="black", label="students (printed)")
        axis.plot(other.x, other.y, "D", ms=8, mfc="none", mec="black", label="teacher (printed)")
        axis.set(xlabel=name)
    axes[0, 0].set_ylabel(y_label)
    axes[0, 0].legend(frameon=False, loc="upper left")
    return figure


def stacked_histograms(
    bins: pd.DataFrame,
    means: Mapping[str, float],
    medians: Mapping[str, float],
    unit: str,
    source: str = "printed",
) -> Figure:
    """A panel a method from columns `method`, `bin_low`, `bin_high`, `count`.

    Mean solid, median dashed, from `source`.
    """
    methods = [name for name in METHODS if name in set(bins.method)]
    figure, axes = plt.subplots(
        len(methods),
        1,
        figsize=(6.8, 1.55 * len(methods) + 0.6),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, method in zip(axes[:, 0], methods):
        rows = bins[bins.method == method]
        axis.bar(
            rows.bin_low,
            rows["count"],
            rows.bin_high - rows.bin_low,
            align="edge",
            color=COLOURS[method],
            ec="white",
            lw=0.5,
        )
        axis.axvline(means[method], color="black", lw=3, alpha=0.35, label=f"mean ({source})")
        axis.axvline(medians[method], color="black", lw=1.4, ls="--", label=f"median ({source})")
        axis.set(ylabel="runs")
        axis.set_title(
            f"{LABELS[method]}: {rows['count'].sum():.0f} runs shown", loc="left", fontsize="medium"
        )
        axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    axes[-1, 0].set_xlabel(unit)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), frameon=False, ncols=2, loc="outside upper center"
    )
    return figure


def printed_and_recomputed(
    table: pd.DataFrame, x: str, lines: Mapping[str, str], y_label: str
) -> Figure:
    """Columns of `table` (column -> label) over `x`; the first is the printed one, drawn as marks."""
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    for (column, label), colour in zip(
        lines.items(), itertools.chain(["black"], itertools.cycle(SERIES))
    ):
        axis.plot(
            table[x], table[column], "o" if colour == "black" else "-", color=colour, label=label
        )
    axis.set(xlabel=x, ylabel=y_label)
    axis.legend(frameon=False)
    return figure


def raw_and_balanced(summary: pd.DataFrame, networks: pd.DataFrame) -> Figure:
    """Figure S4: each method's mean `raw` and `balanced` accuracy (percent) as bars; dots are its
    `networks`.

    `summary` has a row for each `method` and `reading` with `mean`, its interval over networks
    `low` to `high` (broad whisker), and over pictures `pictures_low` to `pictures_high` (thin
    whisker); `networks` has `method` and a column for each reading.
    """
    methods = [method for method in METHODS if method in set(summary.method)]
    figure, axis = plt.subplots(figsize=(1.25 * len(methods) + 2.2, 3.8))
    for column, method in enumerate(methods):
        for reading, shift, hatch in (("raw", -0.2, ""), ("balanced", 0.2, "///")):
            row = summary[(summary.method == method) & (summary.reading == reading)].iloc[0]
            shown = networks[networks.method == method][reading]
            at = column + shift
            axis.bar(
                at, row["mean"], 0.36, color=COLOURS[method], alpha=0.6, hatch=hatch, ec="white"
            )
            span = [[row["mean"] - row.pictures_low], [row.pictures_high - row["mean"]]]
            axis.errorbar(
                at - 0.1,
                row["mean"],
                _bars(row["mean"], row.low, row.high),
                fmt="none",
                ecolor=PAPER,
                elinewidth=3,
            )
            axis.errorbar(
                at - 0.02, row["mean"], span, fmt="none", ecolor="black", elinewidth=1.2, capsize=3
            )
            axis.plot(
                at + 0.06 + np.linspace(0, 0.08, len(shown)),
                shown,
                "o",
                ms=3.5,
                mfc="white",
                mec="black",
                mew=0.8,
            )
    axis.set(
        xticks=range(len(methods)), xticklabels=[LABELS[m] for m in methods], ylabel="accuracy (%)"
    )
    keys: list[Artist] = [
        Patch(fc=PAPER, alpha=0.6, label="raw"),
        Patch(fc=PAPER, alpha=0.6, hatch="///", ec="white", label="balanced"),
    ]
    keys += [
        Line2D([], [], ls="", marker="o", ms=3.5, mfc="white", mec="black", label="one network")
    ]
    keys += [Line2D([], [], color=PAPER, lw=3, label="95 % over networks")]
    keys += [Line2D([], [], color="black", lw=1.2, label="95 % over pictures")]
    figure.legend(handles=keys, frameon=False, ncols=5, loc="outside upper center")
    return figure


def cut_offs(picture: "Tensor", values: "Tensor", cuts: Sequence[float]) -> Figure:
    """Figure S3: a picture (3, H, W) in [0, 1], its attribution map (H, W) scaled to [0, 1], and
    the pixels at or above each cut.

    Pixels below the cut are pink, a colour that pictures seldom have; titles give the share that is
    left.
    """
    scaled = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-12)
    figure, axes = plt.subplots(1, len(cuts) + 2, figsize=(2.1 * (len(cuts) + 2) + 0.6, 2.4))
    axes[0].imshow(picture.permute(1, 2, 0))
    shown = axes[1].imshow(scaled, cmap="magma", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes[1], label="attribution, scaled", fraction=0.046)
    axes[0].set_title("picture", fontsize="small")
    axes[1].set_title("map", fontsize="small")
    below = picture.new_tensor([0.96, 0.8, 0.9]).view(3, 1, 1)
    for axis, cut in zip(axes[2:], cuts):
        left = scaled >= cut
        axis.imshow(picture.where(left, below).permute(1, 2, 0))
        axis.set_title(f"≥ {cut:g}: {100 * left.double().mean():.1f} % of pixels", fontsize="small")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        sns.despine(ax=axis, left=True, bottom=True)
    return figure


def damage_curves(
    table: pd.DataFrame, panels: Mapping[str, str], low: str = "low", high: str = "high"
) -> Figure:
    """Accuracy (percent) over the severity of each kind of damage, undamaged pictures on the left;
    a line a method.

    `table`: `kind` (`none`: undamaged), `severity` in the order shown, `method`, `accuracy`, its
    interval in the columns `low` and `high`; `panels`: kind -> label of its axis. The scale follows
    the accuracies, so that wide intervals leave it.
    """
    methods = [method for method in METHODS if method in set(table.method)]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.9 * len(panels) + 0.8, 3.6), sharey=True, squeeze=False
    )
    for axis, (kind, label) in zip(axes[0], panels.items()):
        shown = table[table.kind.isin(["none", kind])]
        names = ["none", *(f"{value:g}" for value in shown[shown.kind == kind].severity.unique())]
        reach = 0.035 * (len(methods) - 1)
        for shift, method in zip(np.linspace(-reach, reach, len(methods)), methods):
            line = shown[shown.method == method]
            bars = [line.accuracy - line[low], line[high] - line.accuracy]
            x = np.arange(len(line)) + shift
            axis.errorbar(
                x,
                line.accuracy,
                bars,
                fmt="o-",
                ms=3.5,
                lw=1.1,
                elinewidth=0.8,
                color=COLOURS[method],
                label=LABELS[method],
            )
        axis.set(xticks=range(len(names)), xticklabels=names, xlabel=label)
    room = 0.08 * max(float(np.ptp(table.accuracy)), 1.0)
    axes[0, 0].set(
        ylabel="accuracy (%)", ylim=(table.accuracy.min() - room, table.accuracy.max() + room)
    )
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        frameon=False,
        ncols=min(8, len(methods)),
        loc="outside upper center",
    )
    return figure


def histogram_fits(bins: pd.DataFrame, fits: pd.DataFrame, beyond: Mapping[str, int]) -> Figure:
    """Figure 6's bars, a panel a method, with one normal (dashed) and two (solid, with a band), all
    in runs a bar.

    `bins`: `method`, `bin_low`, `bin_high`, `count`; `fits`: `method`, `x`, `one`, `two`, `low`,
    `high`; `beyond`: runs above the last bar, drawn hatched as a rate for their unknown places.
    """
    methods = [name for name in METHODS if name in set(bins.method)]
    figure, axes = plt.subplots(
        len(methods),
        1,
        figsize=(6.8, 1.6 * len(methods) + 0.6),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, method in zip(axes[:, 0], methods):
        rows, curve = bins[bins.method == method], fits[fits.method == method]
        width, end = (rows.bin_high - rows.bin_low).iloc[0], rows.bin_high.max()
        axis.bar(
            rows.bin_low,
            rows["count"],
            width,
            align="edge",
            color=COLOURS[method],
            alpha=0.6,
            ec="white",
            lw=0.5,
        )
        if beyond.get(method):
            wide = 4 * width
            axis.bar(
                end,
                beyond[method] / 4,
                wide,
                align="edge",
                fc="none",
                ec=COLOURS[method],
                hatch="///",
                lw=0.8,
            )
            axis.text(
                end + wide,
                3,
                f" {beyond[method]} runs,\n places\n unknown",
                fontsize="x-small",
                va="center",
            )
        axis.fill_between(curve.x, curve.low, curve.high, color="black", alpha=0.15, lw=0)
        axis.plot(curve.x, curve.one, ls="--", lw=1.4, color=PAPER, label="one normal")
        axis.plot(curve.x, curve.two, lw=1.4, color="black", label="two normals of one width")
        axis.set_title(LABELS[method], loc="left", fontsize="medium")
        axis.set_ylabel("runs a bar")
    axes[-1, 0].set_xlabel("test accuracy (%)")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), frameon=False, ncols=2, loc="outside upper center"
    )
    return figure


def banded_curves(table: pd.DataFrame, x_label: str, y_label: str, log: bool = False) -> Figure:
    """One line for each `curve` of `table` over `x`, with the band from `low` to `high`.

    `log`: a logarithmic y axis.
    """
    figure, axis = plt.subplots(figsize=(5.8, 3.4))
    for name, (colour, _) in series(table.curve).items():
        line = table[table.curve == name]
        axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, lw=0)
        axis.plot(line.x, line.value, color=colour, label=name)
    axis.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
    axis.legend(frameon=False)
    return figure


def attention_rows(
    rows: Mapping[str, "Tensor"], titles: Sequence[str], below: Mapping[str, Sequence[float]]
) -> Figure:
    """Figure S1's form: a row of maps (K, h, w) for each entry, one scale for all, and the values
    of `below` under a row's maps.
    """
    figure, axes = plt.subplots(
        len(rows),
        len(titles),
        figsize=(1.02 * len(titles) + 1.6, 1.28 * len(rows) + 0.2),
        squeeze=False,
    )
    top = max(float(maps.max()) for maps in rows.values())
    for line, (name, maps) in zip(axes, rows.items()):
        for column, (axis, shown) in enumerate(zip(line, maps)):
            image = axis.imshow(shown, cmap="magma", vmin=0, vmax=top)
            axis.set(
                xticks=[], yticks=[], xlabel=f"{below[name][column]:.4f}" if name in below else ""
            )
            axis.xaxis.label.set_fontsize("x-small")
            sns.despine(ax=axis, left=True, bottom=True)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], readable(titles)):
        axis.set_title(title, fontsize="small")
    figure.colorbar(image, ax=axes, label="attention (unit length)", fraction=0.015, pad=0.01)
    return figure


def logit_gaps(gaps: pd.DataFrame, predicted: Mapping[str, float]) -> Figure:
    """A box a `network` of its pictures' `gap` (quartiles, whiskers at 5 and 95 %), with a line at
    the gap `predicted` for it.
    """
    names = list(gaps.network.unique())
    gaps = gaps.assign(network=gaps.network.map(dict(zip(names, readable(names)))))
    figure, axis = plt.subplots(
        figsize=(5 + 0.08 * max(map(len, names)), 0.42 * len(names) + 1.1)
    )  # names of files are long
    sns.boxplot(
        gaps,
        x="gap",
        y="network",
        whis=(5, 95),
        showfliers=False,
        color="#cfd8dc",
        width=0.6,
        ax=axis,
    )
    for name, value in predicted.items():
        axis.plot(
            [value] * 2, [names.index(name) - 0.4, names.index(name) + 0.4], color=SERIES[1], lw=2
        )
    if predicted:
        handle = Line2D([], [], color=SERIES[1], lw=2, label="predicted from Eq. 1")
        axis.legend(handles=[handle], frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.set(xlabel="true class's logit above the mean of the others", ylabel="")
    return figure
