"""One function a figure: each takes tensors or tables and returns a matplotlib figure; none reads
or writes files, and none needs torch unless it is given tensors.

A method has the same colour and the same mark in every figure, from a palette that colour-blind
readers can tell apart; what is not a method is drawn in the colours of `SERIES`, which have none of
it. A hollow dot means one thing: an interval that holds the value it is compared with
(`stats.leaves_out`). No figure is wider than `WIDTH`, so that it can be read on a telephone.
"""

import functools
import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from kdig.core.methods import KEYS, LABELS, METHODS
from kdig.measure import stats

if TYPE_CHECKING:
    from torch import Tensor

COLOURS = {key: method.colour for key, method in METHODS.items()}
PAPER = "#555555"
# of Tol's "muted" scheme, which colour-blind readers can tell apart, those unlike any method's:
# indigo, wine, cyan, olive, sand
SERIES = ("#332288", "#882255", "#88ccee", "#999933", "#ddcc77")
MARKS = "osD^vPX"  # as many again: colour and mark together repeat after 35 series
METHOD_MARKS = dict(zip(METHODS, "osD^vPX*"))
FAINT = "#c8c8c8"  # what stands behind the line that a panel is about
# of a figure (inches): 358 pixels wide, as on a telephone, its letters are still eight pixels high
WIDTH = 6.4
FEWEST = 3  # the interval of fewer runs fills any panel: the runs themselves are drawn
COLUMNS = 5  # images beside each other; further ones go on below


def style() -> None:
    """Sizes and fonts shared by all figures."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.95)
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    mpl.rcParams.update({"figure.constrained_layout.use": True, "svg.hashsalt": "kdig"})
    # the pixels as they are: smoothed ones look like more than there is, and take three times the room
    mpl.rcParams.update({"image.interpolation": "nearest"})


def series(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour of `SERIES` and a mark for each name, whatever their number.

    What is named after a method, as "KD & IG, our sd 0.3", has that method's colour, and the method
    itself its mark as well.
    """
    colours = {label: COLOURS[method] for method, label in LABELS.items()}
    marks = {label: METHOD_MARKS[method] for method, label in LABELS.items()}
    looks = zip(itertools.cycle(SERIES), itertools.cycle(MARKS))
    return {
        name: (colours.get(name.partition(",")[0], colour), marks.get(name, mark))
        for name, (colour, mark) in zip(dict.fromkeys(names), looks)
    }


def plain_ticks(*axes: Axis) -> None:
    """Ticks of logarithmic axes as one says them: 0.2, 0.5, 1, 2. To be called last, when the range
    is known.
    """
    for axis in axes:
        low, high = sorted(axis.get_view_interval())
        decades = np.log10(high / low)
        near, far = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0), (1.0, 2.0, 5.0)
        subs = near if decades < 0.8 else far if decades < 2.7 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(_plain)


def _plain(value: float, _place: float = 0) -> str:
    """A number without an exponent."""
    return (
        f"{value:,.0f}"
        if value >= 1000
        else np.format_float_positional(value, 4, fractional=False, trim="-")
    )


def _wrapped(text: str, width: int) -> str:
    """`text` in lines of at most `width` signs, none of which ends in the middle of `n = 5`."""
    return textwrap.fill(text.replace(" = ", "\u00a0=\u00a0"), width)


def _below(figure: Figure, keys: Mapping[str, Artist], columns: int = 3) -> None:
    """A legend under the panels, where it takes no width from them."""
    figure.legend(
        keys.values(),
        keys.keys(),
        frameon=False,
        fontsize="small",
        ncols=min(len(keys), columns),
        loc="outside lower center",
    )


def _keys(*axes: Axes) -> dict[str, Artist]:
    """Legend entries of several axes together, each name once."""
    entries = [axis.get_legend_handles_labels() for axis in axes]
    return {name: handle for handles, names in entries for handle, name in zip(handles, names)}


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """`table` without the intervals that rest on fewer than `FEWEST` runs of their own (`n`)."""
    if "n" not in table:
        return table
    enough = table.n >= FEWEST
    return table.assign(low=table.low.where(enough), high=table.high.where(enough))


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
    """A grid of images: one row per entry of `rows`, (N, 3, H, W) colour or (N, H, W) map; one
    column per title, and after `COLUMNS` of them the rows once more, below.

    Colour images are in [0, 1]; the maps of a row share one scale from zero, named in `bars` (row
    -> label of its colour bar).
    """
    figure, lines = _image_grid(rows, titles, 1.15)
    for line, (name, pictures) in lines:
        top = float(rows[name].max()) if pictures.ndim == 3 else 1.0
        for axis, picture in zip(line, pictures):
            shown = axis.imshow(
                picture.permute(1, 2, 0) if picture.ndim == 3 else picture,
                cmap="magma",
                vmin=0,
                vmax=top,
            )
        if bars and name in bars:
            figure.colorbar(shown, ax=list(line), label=bars[name], fraction=0.02, pad=0.01)
    return figure


Line = tuple[np.ndarray, tuple[str, "Tensor"]]


def _image_grid(
    rows: Mapping[str, "Tensor"], titles: Sequence[str], height: float
) -> tuple[Figure, list[Line]]:
    """Axes for rows of images, `COLUMNS` beside each other: each line of axes with the name of its
    row and the images that it is to show.
    """
    starts = range(0, len(titles), COLUMNS)
    columns = min(COLUMNS, len(titles))
    size = (1.05 * columns + 1.15, height * len(rows) * len(starts) + 0.3)
    figure, axes = plt.subplots(len(starts) * len(rows), columns, figsize=size, squeeze=False)
    lines = []
    for line, (start, (name, images)) in zip(axes, itertools.product(starts, rows.items())):
        part = images[start : start + COLUMNS]
        lines.append((line, (name, part)))
        for axis in line:
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
        for axis in line[len(part) :]:
            axis.set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        if name == next(iter(rows)):
            for axis, title in zip(line, readable(titles)[start:]):
                axis.set_title(title, fontsize="small")
    return figure, lines


def map_scalings(picture: "Tensor", maps: Mapping[str, "Tensor"]) -> Figure:
    """The form of Figure 4: normalised maps (H, W) of one picture (3, H, W), their overlays, and
    histograms of their values.
    """
    figure, axes = plt.subplots(3, len(maps), figsize=(WIDTH, 5), sharey="row", squeeze=False)
    for column, (name, values) in zip(axes.T, maps.items()):
        column[0].imshow(values, cmap="gray", vmin=0, vmax=1)
        column[1].imshow((0.5 * picture + 0.5 * values).permute(1, 2, 0))
        column[2].hist(values.flatten().numpy(), bins=20, range=(0, 1), color=PAPER)
        column[0].set_title(_wrapped(name, 14), fontsize="small")
        column[2].set(yscale="log", ylim=(0.8, values.numel()))
        plain_ticks(column[2].yaxis)
        for axis in column[:2]:
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
    for axis, label in zip(axes[:, 0], ("map", "overlay", "pixels")):
        axis.set_ylabel(label)
    figure.supxlabel("normalised IG", fontsize="medium")
    return figure


def learning_curves(history: pd.DataFrame, reference: float | None = None) -> Figure:
    """Accuracy (percent) over epochs, from columns `epoch`, `train_accuracy`, `test_accuracy`.

    The paper's value dashed.
    """
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    training = "training images (augmented)"
    axis.plot(
        history.epoch, history.train_accuracy, marker="o", ms=3, color=SERIES[0], label=training
    )
    scored = history.dropna(subset=["test_accuracy"])
    axis.plot(
        scored.epoch, scored.test_accuracy, marker="s", ms=3, color=SERIES[1], label="test images"
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
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.xaxis.set_major_formatter(lambda x, _: f"{_plain(100 * 10.0**x)} %")
    axis.set(xlabel="|completeness delta| as share of |F(x) − F(x′)|", ylabel="images")
    return figure


def softened(probabilities: Mapping[str, "Tensor"], classes: Sequence[str]) -> Figure:
    """Class probabilities of one image at several temperatures, as dots on a logarithmic axis,
    which has no zero for a bar to stand on.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4))
    places = np.arange(len(classes))
    for (name, values), (colour, mark) in zip(
        probabilities.items(), series(probabilities).values()
    ):
        axis.plot(places, values.cpu().double(), mark, ms=6, color=colour, label=name)
    axis.set(yscale="log", xlabel="class", ylabel="teacher's probability")
    names = readable(classes)
    turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if max(map(len, names)) > 3 else {}
    axis.set_xticks(places, names, **turned)
    plain_ticks(axis.yaxis)
    _below(figure, _keys(axis))
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
    size = (WIDTH, 0.42 * len(methods) + 1.2)
    figure, axes = plt.subplots(1, 2 if paper else 1, figsize=size, sharey=True, squeeze=False)
    ours, means = axes[0, 0], _ends(summary).set_index("method")
    for row, method in enumerate(methods):
        runs, line = frame[frame.method == method], means.loc[method]
        look: dict[str, Any] = {"color": COLOURS[method], "marker": METHOD_MARKS[method], "ls": ""}
        jitter = np.linspace(-0.18, 0.18, len(runs))
        ours.plot(runs.accuracy, row + jitter, "o", ms=3.5, alpha=0.5, color=COLOURS[method])
        error = _bars(line["mean"], line.low, line.high)
        ours.errorbar(line["mean"], row, xerr=error, ms=6, capsize=3, **look)
    ours.set(
        yticks=range(len(methods)),
        yticklabels=[LABELS[m] for m in methods],
        xlabel="test accuracy (%)",
    )
    ours.set_title(f"ours, n = {int(summary.n.min())}", fontsize="medium")
    ours.invert_yaxis()
    if paper:
        _paper_panel(axes[0, 1], methods, paper)
    return figure


def _paper_panel(
    axis: Axes, methods: Sequence[str], paper: Mapping[str, tuple[float, float]]
) -> None:
    for row, method in enumerate(methods):
        mean, sd = paper[method]
        look: dict[str, Any] = {"color": COLOURS[method], "marker": METHOD_MARKS[method], "ls": ""}
        axis.errorbar(mean, row, xerr=sd, ms=6, capsize=3, **look)
    axis.set(xlabel="test accuracy (%)")
    axis.set_title("paper: mean ± sd, n = 10", fontsize="medium")


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
    `lines` stand upright at a value: dashed with a label, plain without. Dots whose interval holds
    the plain line are hollow, and the legend says so; a column `printed` adds a diamond.
    """
    names = list(dict.fromkeys(next(iter(panels.values()))[row]))
    crowd = max(table[row].value_counts().max() for table in panels.values())
    labels = [_wrapped(name, 26) for name in readable(map(_label, names))]
    size = (WIDTH, (0.32 + 0.08 * crowd) * len(names) + 1.7)
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    zero = (lines or {}).get("")
    for axis, (x_label, table) in zip(axes[0], panels.items()):
        beside = table.groupby(row, sort=False)[row]
        shift = beside.cumcount() - (beside.transform("size") - 1) / 2
        y = table[row].map(names.index).astype(float) + min(0.2, 0.75 / crowd) * shift
        alone = dot == row or len(set(table[dot])) == 1
        _dots(axis, table.assign(x=table[value], y=y), dot, alone, zero)
        for label, x in (lines or {}).items():
            axis.axvline(x, color=PAPER, lw=1, ls="--" if label else "-", label=label or None)
        axis.set(xlim=limits, ylim=(len(names) - 0.5, -0.5))
        axis.set_xlabel(_wrapped(x_label, 48 // len(panels)))
    axes[0, 0].set(yticks=range(len(names)), yticklabels=labels)
    keys = _keys(*axes[0]) | ({} if zero is None else _significance(zero))
    if keys:
        _below(figure, keys)
    sns.despine(figure)
    return figure


def _significance(zero: float) -> dict[str, Artist]:
    """Legend entries for what solid and hollow mean, the same in every figure."""
    look: dict[str, Any] = {"ls": "", "marker": "o", "color": "black", "ms": 5.5}
    return {
        f"solid: 95 % interval leaves out {zero:g}": Line2D([], [], **look),
        f"hollow: it holds {zero:g}": Line2D([], [], mfc="white", **look),
    }


def _dots(axis: Axes, table: pd.DataFrame, dot: str, alone: bool, zero: float | None) -> None:
    """The dots of a panel, at columns `x` and `y`; `alone`: no other in its row, so not named."""
    called = table[dot].map(_label)
    for name, (colour, mark) in series(called).items():
        part, shape = table[called == name], "o" if alone and name not in KEYS else mark
        ends = [part.x - part.low, part.high - part.x]
        label = None if alone else name
        axis.errorbar(
            part.x, part.y, xerr=ends, fmt=shape, ms=6.5, capsize=3, color=colour, label=label
        )
        if zero is not None:
            hollow = part[~stats.leaves_out(part.low, part.high, zero)]
            axis.plot(hollow.x, hollow.y, shape, ms=6.5, color=colour, mfc="white", zorder=3)
    if "printed" in table:
        axis.plot(table.printed, table.y, "D", ms=9, mfc="none", mec="black", label="printed")


def _label(name: str) -> str:
    """A method's label, and any other name as it is."""
    return LABELS.get(name, name)


def accuracy_by_epoch(history: pd.DataFrame) -> Figure:
    """Mean test accuracy (percent) over seeds by epoch: a panel a method, with the other methods'
    lines behind it.

    Columns `epoch`, `method`, `test_accuracy`.
    """
    means = history.groupby(["method", "epoch"], sort=False).test_accuracy.mean().reset_index()
    methods = [name for name in METHODS if name in set(means.method)]
    columns = min(4, len(methods))
    rows = -(-len(methods) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, 1.7 * rows + 0.6), sharex=True, sharey=True, squeeze=False
    )
    for axis in axes.flat[len(methods) :]:
        axis.remove()
    for axis, method in zip(axes.flat, methods):
        for _, other in means.groupby("method"):
            axis.plot(other.epoch, other.test_accuracy, color=FAINT, lw=1)
        line = means[means.method == method]
        look: dict[str, Any] = {"color": COLOURS[method], "marker": METHOD_MARKS[method], "ms": 4}
        axis.plot(line.epoch, line.test_accuracy, label=LABELS[method], lw=1.6, **look)
        axis.set_title(LABELS[method], fontsize="small")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    figure.supxlabel("epoch", fontsize="medium")
    figure.supylabel("test accuracy (%)", fontsize="medium")
    return figure


def search_surface(
    grid: pd.DataFrame,
    row: str,
    column: str,
    label: str = "test accuracy (%)",
    surface: bool = False,
) -> Figure:
    """A searched grid of accuracies (named in `label`) as a heat map, its highest cell framed.

    Rows are `row`, columns `column`. With `surface`, the form of Figure S2 stands below it.
    """
    figure = plt.figure(figsize=(WIDTH, 7 if surface else 3.6))
    flat = figure.add_subplot(2 if surface else 1, 1, 1)
    sns.heatmap(grid, annot=True, fmt=".2f", cmap="viridis", ax=flat, cbar_kws={"label": label})
    best = np.unravel_index(np.argmax(grid.to_numpy()), grid.shape)
    flat.add_patch(Rectangle((float(best[1]), float(best[0])), 1, 1, fill=False, ec="black", lw=2))
    flat.set(xlabel=column, ylabel=row)
    flat.tick_params(axis="y", rotation=0)
    if surface:
        _surface(figure, grid, row, column)
    return figure


def _surface(figure: Figure, grid: pd.DataFrame, row: str, column: str) -> None:
    """The lower half: accuracies as a surface over both indices, in the heat map's colours."""
    steep = figure.add_subplot(2, 1, 2, projection="3d")
    x, y = np.meshgrid(range(grid.shape[1]), range(grid.shape[0]))
    scale = {
        "vmin": grid.min(axis=None),
        "vmax": grid.max(axis=None),
    }  # the heat map's, not that of the facets' means
    steep.plot_surface(x, y, grid.to_numpy(), cmap="viridis", edgecolor="white", lw=0.3, **scale)
    steep.set(xticks=range(grid.shape[1]), xticklabels=list(grid.columns), xlabel=column)
    steep.set(yticks=range(grid.shape[0]), yticklabels=list(grid.index), ylabel=row)
    steep.tick_params(labelsize="small", pad=1)
    steep.view_init(28, -130)
    steep.patch.set_visible(False)  # it would lie over the heat map's axis
    steep.set_in_layout(False)  # whose size in three dimensions leaves the layout no room


def search_means(panels: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, str]]) -> Figure:
    """One panel an entry: label of the axis -> (runs: `x`, `validation_accuracy`; cells: `x`,
    `mean`, `low`, `high`; method).

    Dots are runs, diamonds cells' means with their intervals; the highest mean is ringed, the mean
    of all cells dashed.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
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
    _below(figure, _keys(*axes[0]), 2)
    return figure


def search_curves(curves: Mapping[str, tuple[pd.DataFrame, str, tuple[float, float]]]) -> Figure:
    """One panel an entry: label of the axis -> (columns `x`, `accuracy`.

    Method for the colour; band of 95 % of equal cells).
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    for axis, (name, (table, method, band)) in zip(axes[0], curves.items()):
        ordered = table.sort_values("x")
        axis.axhspan(*band, color=PAPER, alpha=0.15, lw=0, label="95 % of equal cells")
        axis.plot(
            ordered.x,
            ordered.accuracy,
            marker=METHOD_MARKS[method],
            color=COLOURS[method],
            label=f"printed ({LABELS[method]})",
        )
        best = ordered.loc[ordered.accuracy.idxmax()]
        axis.plot(best.x, best.accuracy, "o", ms=11, mfc="none", mec="black", label="highest")
        axis.set(xlabel=name)
    axes[0, 0].set_ylabel("test accuracy (%)")
    _below(figure, _keys(*axes[0]), 2)
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
    figure, axes = plt.subplots(1, len(simulated), figsize=(WIDTH, 3.2), squeeze=False)
    for axis, (search, readings) in zip(axes[0], simulated.items()):
        for (reading, values), (colour, _) in zip(readings.items(), series(readings).values()):
            sns.kdeplot(
                x=values, ax=axis, color=colour, fill=True, alpha=0.25, label=reading, cut=0
            )
        axis.axvline(observed[search], color="black", ls="--", label=mark)
        axis.set(title=search, ylabel="", yticks=[])
    axes[0, len(simulated) // 2].set_xlabel(label)
    axes[0, 0].set_ylabel("density")
    _below(figure, _keys(*axes[0]))
    return figure


def compression_curves(
    table: pd.DataFrame, speedup: pd.DataFrame, detail: tuple[float, float], teacher: float
) -> Figure:
    """Figure 5, a panel each: accuracy over compression with the teacher's at 1x, the range
    `detail` of it, and the speed-up.

    `table`: `factor`, `method`, `accuracy` (percent) and, for bars, `low`, `high`; where it has `n`
    below `FEWEST`, its runs' `min` and `max` are drawn instead. `speedup`: `factor`, `speedup` and,
    for a band, `low`, `high`.
    """
    part = table[table.factor.between(*detail)]
    heights = (3, 2.2, 2) if len(part) else (3, 2)  # no level of the detail: no panel for it
    size = (WIDTH, sum(heights) + 1.2)
    figure, axes = plt.subplots(len(heights), 1, figsize=size, height_ratios=heights)
    _accuracy_lines(axes[0], table)
    axes[0].plot(1, teacher, "h", ms=8, color="black", label="Teacher")
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(min(low, teacher - 2), max(high, teacher + 2))
    if len(part):
        _accuracy_lines(axes[1], part)
        axes[1].set_title(f"{detail[0]:.3g}x to {detail[1]:.3g}x", fontsize="medium")
    _speedup_line(axes[-1], speedup)
    for axis in axes:
        axis.set(xscale="log", xlabel="compression factor (x)")
        plain_ticks(axis.xaxis)
    _below(figure, _keys(axes[0], axes[-1]))
    return figure


def _speedup_line(axis: Axes, speedup: pd.DataFrame) -> None:
    """The speed-up over the compression factor, with the line on which both are equal."""
    factors = [1, *speedup.factor]
    look: dict[str, Any] = {"ls": "--", "marker": "s", "ms": 3, "color": PAPER}
    axis.plot(factors, [1, *speedup.speedup], label="speed-up", **look)
    if "low" in speedup:
        axis.fill_between(speedup.factor, speedup.low, speedup.high, color=PAPER, alpha=0.2, lw=0)
    equal = "speed-up = compression"
    axis.plot(factors, factors, ls=":", lw=1, color=PAPER, label=equal)
    axis.set(ylabel="speed-up (x)", ylim=(0, 1.12 * speedup.speedup.max()))


def _accuracy_lines(axis: Axes, table: pd.DataFrame) -> None:
    """Lines with bars, moved apart by three per cent so that bars stay visible.

    The scale follows the means, and the runs where these are few.
    """
    methods = [name for name in METHODS if name in set(table.method)]
    for shift, method in zip(np.linspace(-1, 1, len(methods)), methods):
        line = table[table.method == method].sort_values("factor")
        bars = (
            _bars(line.accuracy, *_ends(line)[["low", "high"]].T.to_numpy())
            if "low" in line
            else None
        )
        x = line.factor * 1.03**shift
        look: dict[str, Any] = {"color": COLOURS[method], "label": LABELS[method]}
        form = f"{METHOD_MARKS[method]}-"
        axis.errorbar(x, line.accuracy, bars, fmt=form, ms=4.5, elinewidth=0.9, **look)
        few = line[line.n < FEWEST] if "n" in line else line[:0]
        for place, row in zip(few.factor * 1.03**shift, few.to_dict("records")):
            ends = [row["min"], row["max"]]
            axis.plot([place] * 2, ends, "_", ms=9, mew=1.5, color=COLOURS[method])
    few = table[table.n < FEWEST] if "n" in table else table[:0]
    shown = [*table.accuracy, *(end for name in ("min", "max") for end in few.get(name, []))]
    room = 0.15 * max(float(np.ptp(table.accuracy)), 0.5)
    axis.set_ylim(min(shown) - room, max(shown) + room)
    axis.set_ylabel("test accuracy (%)")


def speedup_against_size(table: pd.DataFrame) -> Figure:
    """Speed-up over the ratio of operations and of parameters, log-log, equality dotted.

    Columns: `way` (a line each), `mac_ratio`, `factor`, `speedup` and its interval `low`, `high`
    (nan: no bar).
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.6), sharey=True)
    for axis, (column, counted) in zip(
        axes, {"mac_ratio": "operations", "factor": "parameters"}.items()
    ):
        for way, (colour, mark) in series(table.way).items():
            line = table[table.way == way].sort_values(column)
            bars = np.nan_to_num([line.speedup - line.low, line.high - line.speedup]).clip(min=0)
            look: dict[str, Any] = {
                "fmt": f"{mark}-",
                "ms": 5,
                "lw": 1.2,
                "capsize": 2,
                "color": colour,
            }
            axis.errorbar(line[column], line.speedup, bars, label=way, **look)
        axis.axline((1, 1), (10, 10), color=PAPER, ls=":", lw=1, label="equal")
        axis.set(xscale="log", yscale="log")
        axis.set_xlabel(f"teacher's {counted}\nover the student's (x)")
        plain_ticks(axis.xaxis, axis.yaxis)
    axes[0].set_ylabel("speed-up over the teacher (x)")
    _below(figure, _keys(axes[0]), 2)
    return figure


def device_times(table: pd.DataFrame) -> Figure:
    """Figure S5's form, a panel each: training and inference time of an image over the compression
    factor.

    Columns, in ms: `factor`, `training` with quartiles `training_q25`, `training_q75`, and for each
    batch size `inference_<n>` with quartiles `q25_<n>`, `q75_<n>`.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 5.4), sharex=True)
    batches = [
        name.removeprefix("inference_") for name in table.columns if name.startswith("inference_")
    ]
    shown = [("training", axes[0], "training", "training_q25", "training_q75")]
    shown += [
        (f"inference, batch {n}", axes[1], f"inference_{n}", f"q25_{n}", f"q75_{n}")
        for n in batches
    ]
    line, looks = table.sort_values("factor"), series(name for name, *_ in shown)
    for name, axis, middle, low, high in shown:
        colour, mark = looks[name]
        bars = [line[middle] - line[low], line[high] - line[middle]]
        look: dict[str, Any] = {
            "fmt": f"{mark}-",
            "ms": 4,
            "capsize": 2,
            "color": colour,
            "label": name,
        }
        axis.errorbar(line.factor, line[middle], bars, **look)
    for axis, what in zip(axes, ("training", "inference")):
        axis.set(xscale="log", ylabel=f"{what} (ms an image)", ylim=(0, None))
    axes[1].set_xlabel("compression factor (x)")
    plain_ticks(axes[1].xaxis)
    _below(figure, _keys(*axes))
    return figure


def extrapolated_line(
    panels: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], y_label: str
) -> Figure:
    """A panel an entry: axis label -> (points `x`, `y`, `fitted`; line `x`, `value`, `low`,
    `high`). What is not fitted is a black diamond.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.8), sharey=True, squeeze=False)
    for axis, (name, (points, line)) in zip(axes[0], panels.items()):
        look: dict[str, Any] = {
            "color": SERIES[0],
            "alpha": 0.2,
            "lw": 0,
            "label": "95 % prediction interval",
        }
        axis.fill_between(line.x, line.low, line.high, **look)
        axis.plot(line.x, line.value, color=SERIES[0], label="line through the students")
        used, other = points[points.fitted], points[~points.fitted]
        axis.plot(used.x, used.y, "o", color=SERIES[0], label="students (printed)")
        axis.plot(other.x, other.y, "D", ms=9, color="black", label="teacher (printed)")
        axis.set_xlabel(_wrapped(name, 28))
    axes[0, 0].set_ylabel(_wrapped(y_label, 30))
    _below(figure, _keys(axes[0, 0]), 2)
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
        figsize=(WIDTH, 1.55 * len(methods) + 0.8),
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
    _below(figure, _keys(axes[0, 0]))
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
    axis.set(xlabel=x, ylabel=_wrapped(y_label, 30))
    axis.legend(frameon=False)
    return figure


def raw_and_balanced(summary: pd.DataFrame, networks: pd.DataFrame) -> Figure:
    """Figure S4: each method's mean `raw` and `balanced` accuracy (percent), a panel a reading;
    small dots are its `networks`.

    `summary` has a row for each `method` and `reading` with `mean`, its interval over networks
    `low` to `high` (not of fewer than `FEWEST`), and over images `pictures_low` to `pictures_high`;
    `networks` has `method` and a column for each reading.
    """
    methods = [method for method in METHODS if method in set(summary.method)]
    size = (WIDTH, 0.62 * len(methods) + 1.5)
    figure, axes = plt.subplots(1, 2, figsize=size, sharex=True, sharey=True)
    for axis, reading in zip(axes, ("raw", "balanced")):
        means = _ends(summary[summary.reading == reading]).set_index("method")
        for place, method in enumerate(methods):
            runs = networks[networks.method == method][reading]
            _reading_row(axis, place, method, means.loc[method], runs)
        axis.set_title(f"{reading} accuracy (%)", fontsize="medium")
    labels = [LABELS[m] for m in methods]
    axes[0].set(yticks=range(len(methods)), yticklabels=labels, ylim=(len(methods) - 0.5, -0.5))
    keys: dict[str, Artist] = {
        "one network": Line2D([], [], ls="", marker="o", ms=3.5, color=PAPER),
        "95 % over networks": Line2D([], [], color=PAPER, lw=4),
        "95 % over images": Line2D([], [], color="black", lw=1.2),
    }
    _below(figure, keys)
    return figure


def _reading_row(
    axis: Axes, place: float, method: str, row: pd.Series, networks: pd.Series
) -> None:
    """A method's networks, its mean, and the mean's two intervals, one under the other."""
    over_networks = _bars(row["mean"], row.low, row.high)
    over_images = [[row["mean"] - row.pictures_low], [row.pictures_high - row["mean"]]]
    below: dict[str, Any] = {"fmt": "none", "ecolor": PAPER, "elinewidth": 4, "alpha": 0.6}
    axis.errorbar(row["mean"], place + 0.25, xerr=over_networks, **below)
    look: dict[str, Any] = {"marker": METHOD_MARKS[method], "ms": 7, "color": COLOURS[method]}
    axis.errorbar(row["mean"], place, xerr=over_images, ecolor="black", capsize=3, **look)
    axis.plot(networks, [place - 0.28] * len(networks), "o", ms=3.5, color=PAPER)


def cut_offs(picture: "Tensor", values: "Tensor", cuts: Sequence[float]) -> Figure:
    """Figure S3: a picture (3, H, W) in [0, 1], its attribution map (H, W) scaled to [0, 1], and
    the pixels at or above each cut.

    Pixels below the cut are pink, a colour that pictures seldom have; titles give the share that is
    left.
    """
    scaled = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-12)
    columns = -(-(len(cuts) + 2) // 2)
    figure, grid = plt.subplots(2, columns, figsize=(WIDTH, 4.6))
    axes = grid.flat
    axes[0].imshow(picture.permute(1, 2, 0))
    shown = axes[1].imshow(scaled, cmap="magma", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes[1], label="attribution, scaled", fraction=0.046)
    axes[0].set_title("image", fontsize="small")
    axes[1].set_title("map", fontsize="small")
    below = picture.new_tensor([0.96, 0.8, 0.9]).view(3, 1, 1)
    for axis, cut in zip(axes[2:], cuts):
        left = scaled >= cut
        axis.imshow(picture.where(left, below).permute(1, 2, 0))
        axis.set_title(f"≥ {cut:g}: {100 * left.double().mean():.1f} % of pixels", fontsize="small")
    for axis in axes[len(cuts) + 2 :]:
        axis.set_visible(False)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        sns.despine(ax=axis, left=True, bottom=True)
    return figure


def damage_curves(
    table: pd.DataFrame, panels: Mapping[str, str], low: str = "low", high: str = "high"
) -> Figure:
    """Accuracy (percent) over the severity of each kind of damage, undamaged images on the left; a
    line a method.

    `table`: `kind` (`none`: undamaged), `severity` in the order shown, `method`, `accuracy`, its
    interval in the columns `low` and `high`; `panels`: kind -> label of its axis. The scale follows
    the accuracies, so that wide intervals leave it. Of more than four methods, only the student and
    KD & IG have colour and bars: the others stand behind them.
    """
    methods = [method for method in METHODS if method in set(table.method)]
    told = methods if len(methods) <= 4 else [m for m in methods if m in ("student", "kd_ig")]
    rows = -(-len(panels) // 2)
    size = (WIDTH, 2.5 * rows + 0.6)
    figure, axes = plt.subplots(rows, min(2, len(panels)), figsize=size, sharey=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (kind, label) in zip(axes.flat, panels.items()):
        shown = table[table.kind.isin(["none", kind])]
        for method in set(methods) - set(told):
            line = shown[shown.method == method]
            axis.plot(range(len(line)), line.accuracy, color=FAINT, lw=1, label="other methods")
        reach = 0.05 * (len(told) - 1)
        for shift, method in zip(np.linspace(-reach, reach, len(told)), told):
            line = shown[shown.method == method]
            bars = [line.accuracy - line[low], line[high] - line.accuracy]
            look: dict[str, Any] = {
                "color": COLOURS[method],
                "fmt": f"{METHOD_MARKS[method]}-",
                "ms": 4.5,
            }
            look |= {"lw": 1.3, "elinewidth": 0.8, "label": LABELS[method]}
            axis.errorbar(np.arange(len(line)) + shift, line.accuracy, bars, **look)
        names = ["none", *(f"{value:g}" for value in shown[shown.kind == kind].severity.unique())]
        axis.set(xticks=range(len(names)), xticklabels=names, xlabel=label)
    room = 0.08 * max(float(np.ptp(table.accuracy)), 1.0)
    axes[0, 0].set_ylim(table.accuracy.min() - room, table.accuracy.max() + room)
    figure.supylabel("accuracy (%)", fontsize="medium")
    _below(figure, _keys(axes[0, 0]))
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
        figsize=(WIDTH, 1.6 * len(methods) + 0.8),
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
                fontsize="small",
                va="center",
            )
        axis.fill_between(curve.x, curve.low, curve.high, color="black", alpha=0.15, lw=0)
        axis.plot(curve.x, curve.one, ls="--", lw=1.4, color=PAPER, label="one normal")
        axis.plot(curve.x, curve.two, lw=1.4, color="black", label="two normals of one width")
        axis.set_title(LABELS[method], loc="left", fontsize="medium")
        axis.set_ylabel("runs a bar")
    axes[-1, 0].set_xlabel("test accuracy (%)")
    _below(figure, _keys(axes[0, 0]))
    return figure


def banded_curves(table: pd.DataFrame, x_label: str, y_label: str, log: bool = False) -> Figure:
    """One line for each `curve` of `table` over `x`, with the band from `low` to `high`.

    `log`: a logarithmic y axis.
    """
    figure, axis = plt.subplots(figsize=(WIDTH, 3.6))
    for name, (colour, mark) in series(table.curve).items():
        line = table[table.curve == name]
        axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, lw=0)
        apart: dict[str, Any] = {"marker": mark, "ms": 4.5, "markevery": max(1, len(line) // 8)}
        axis.plot(line.x, line.value, color=colour, label=name, **apart)
    axis.set(xlabel=x_label, ylabel=_wrapped(y_label, 34), yscale="log" if log else "linear")
    if log:
        plain_ticks(axis.yaxis)
    _below(figure, _keys(axis), 2)
    return figure


def attention_rows(
    rows: Mapping[str, "Tensor"], titles: Sequence[str], below: Mapping[str, Sequence[float]]
) -> Figure:
    """Figure S1's form: a row of maps (K, h, w) for each entry, one scale for all, and the values
    of `below` under a row's maps.
    """
    figure, lines = _image_grid(rows, titles, 1.3)
    top = max(float(maps.max()) for maps in rows.values())
    values = {name: iter(some) for name, some in below.items()}
    for line, (name, maps) in lines:
        for axis, shown in zip(line, maps):
            image = axis.imshow(shown, cmap="magma", vmin=0, vmax=top)
            axis.set_xlabel(f"{next(values[name]):.4f}" if name in below else "", fontsize="small")
    axes = [axis for line, _ in lines for axis in line]
    figure.colorbar(image, ax=axes, label="attention (unit length)", fraction=0.015, pad=0.01)
    return figure


def logit_gaps(gaps: pd.DataFrame, predicted: Mapping[str, float]) -> Figure:
    """A box a `network` of its images' `gap` (quartiles, whiskers at 5 and 95 %), with a line at
    the gap `predicted` for it, where a long training would end.
    """
    names = list(gaps.network.unique())
    labels = [_wrapped(name, 22) for name in readable(names)]  # names of files are long
    gaps = gaps.assign(network=gaps.network.map(dict(zip(names, labels))))
    figure, axis = plt.subplots(figsize=(WIDTH, 0.5 * len(names) + 1.4))
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
        said = "predicted from Eq. 1: where a long training would end"
        _below(figure, {said: Line2D([], [], color=SERIES[1], lw=2)})
    axis.set(xlabel="true class's logit above the mean of the others", ylabel="")
    return figure
