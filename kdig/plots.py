"""One function a figure: each takes tensors or tables and returns a matplotlib figure; none reads or writes files.

A method has the same colour in every figure, from a palette that colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from kdig.runs import METHODS

LABELS = {
    "student": "Student",
    "kd": "KD",
    "ig": "IG",
    "at": "AT",
    "kd_ig": "KD & IG",
    "kd_at": "KD & AT",
    "ig_at": "IG & AT",
    "kd_ig_at": "KD & IG & AT",
}
COLOURS = dict(zip(METHODS, sns.color_palette("colorblind", len(METHODS)).as_hex()))
PAPER = "#555555"


def style() -> None:
    """Sizes and fonts shared by all figures."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85)
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    mpl.rcParams.update({"figure.constrained_layout.use": True, "svg.hashsalt": "kdig"})


def picture_rows(rows: Mapping[str, Tensor], titles: Sequence[str], bars: Mapping[str, str] | None = None) -> Figure:
    """A grid of pictures: one row per entry of `rows`, (N, 3, H, W) colour or (N, H, W) map; one column per title.

    Colour pictures are in [0, 1]; the maps of a row share one scale from zero, named in `bars` (row -> label of its colour bar).
    """
    figure, axes = plt.subplots(len(rows), len(titles), figsize=(1.05 * len(titles) + 1.2, 1.2 * len(rows) + 0.3), squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items()):
        top = float(pictures.max()) if pictures.ndim == 3 else 1.0
        for axis, picture in zip(line, pictures):
            shown = axis.imshow(picture.permute(1, 2, 0) if picture.ndim == 3 else picture, cmap="magma", vmin=0, vmax=top)
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        if bars and name in bars:
            figure.colorbar(shown, ax=list(line), label=bars[name], fraction=0.02, pad=0.01)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize="small")
    return figure


def learning_curves(history: pd.DataFrame, reference: float | None = None) -> Figure:
    """Accuracy (percent) over epochs, from columns `epoch`, `train_accuracy`, `test_accuracy`; the paper's value dashed."""
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    training = "training pictures (augmented)"
    axis.plot(history.epoch, history.train_accuracy, marker="o", ms=3, color=COLOURS["student"], label=training)
    scored = history.dropna(subset=["test_accuracy"])
    axis.plot(scored.epoch, scored.test_accuracy, marker="s", ms=3, color=COLOURS["kd"], label="test pictures")
    if reference is not None:
        axis.axhline(reference, ls="--", lw=1, color=PAPER, label=f"paper: {reference:.2f} %")
    axis.set(xlabel="epoch", ylabel="accuracy (%)")
    axis.legend(frameon=False)
    return figure


def completeness(deltas: Mapping[str, Tensor]) -> Figure:
    """Histogram of |completeness delta|, relative to |F(x) - F(x')|, on a logarithmic axis; the median of each as a line."""
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    logs = {name: np.log10(delta.abs().clamp_min(1e-8).cpu().double()) for name, delta in deltas.items()}
    data = pd.DataFrame(logs).melt(var_name="baseline")
    colours = sns.color_palette("colorblind", len(deltas)).as_hex()
    sns.histplot(data, x="value", hue="baseline", bins=30, element="step", palette=colours, ax=axis)
    for (_, delta), colour in zip(deltas.items(), colours):
        axis.axvline(float(delta.abs().median().log10()), color=colour, ls="--", lw=1)
    axis.xaxis.set_major_formatter(lambda x, _: f"$10^{{{x:g}}}$")
    axis.set(xlabel="|completeness delta| relative to |F(x) − F(x′)|", ylabel="pictures")
    return figure


def softened(probabilities: Mapping[str, Tensor], classes: Sequence[str]) -> Figure:
    """Class probabilities of one picture at several temperatures, as grouped bars on a logarithmic axis."""
    figure, axis = plt.subplots(figsize=(6.5, 3.0))
    data = pd.DataFrame({name: p.cpu().double() for name, p in probabilities.items()}, index=list(classes))
    data.plot.bar(ax=axis, width=0.8, color=sns.color_palette("colorblind", len(probabilities)).as_hex(), logy=True, rot=30)
    axis.set(xlabel="class", ylabel="teacher's probability")
    axis.legend(title=None, frameon=False, ncols=len(probabilities), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def method_accuracy(frame: pd.DataFrame, summary: pd.DataFrame, paper: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Every run's accuracy and each method's mean with its 95 % interval; beside it `paper`'s values (method -> mean, sd)."""
    methods = [method for method in METHODS if method in set(summary.method)]
    figure, axes = plt.subplots(1, 2 if paper else 1, figsize=(9.5 if paper else 5.5, 3.6), sharey=True, squeeze=False)
    ours = axes[0, 0]
    for row, method in enumerate(methods):
        runs, line = frame[frame.method == method], summary[summary.method == method].iloc[0]
        jitter = np.linspace(-0.18, 0.18, len(runs))
        ours.plot(runs.accuracy, row + jitter, "o", ms=3.5, alpha=0.5, color=COLOURS[method])
        error = [[line["mean"] - line.low], [line.high - line["mean"]]]
        ours.errorbar(line["mean"], row, xerr=error, fmt="D", ms=5, capsize=3, color=COLOURS[method])
    title = f"ours: runs, mean and 95 % interval, n = {int(summary.n.min())}"
    ours.set(yticks=range(len(methods)), yticklabels=[LABELS[m] for m in methods], xlabel="test accuracy (%)", title=title)
    ours.invert_yaxis()
    if paper:
        _paper_panel(axes[0, 1], methods, paper)
    return figure


def _paper_panel(axis: Axes, methods: Sequence[str], paper: Mapping[str, tuple[float, float]]) -> None:
    for row, method in enumerate(methods):
        mean, sd = paper[method]
        axis.errorbar(mean, row, xerr=sd, fmt="D", ms=5, capsize=3, color=COLOURS[method])
    axis.set(xlabel="test accuracy (%)", title="paper (Table 4): mean ± sd, n = 10")


def paired_differences(comparison: pd.DataFrame, baseline: str) -> Figure:
    """Mean difference to the baseline (percentage points) with its 95 % interval; filled where Holm's p is below 0.05."""
    figure, axis = plt.subplots(figsize=(5.5, 3.2))
    for row, line in enumerate(comparison.itertuples()):
        filled = COLOURS[line.method] if line.p_paired_holm < 0.05 else "white"
        axis.errorbar(
            line.difference,
            row,
            xerr=[[line.difference - line.low], [line.high - line.difference]],
            fmt="o",
            ms=6,
            capsize=3,
            color=COLOURS[line.method],
            mfc=filled,
        )
    axis.axvline(0, color=PAPER, lw=1, ls="--")
    names = [LABELS[method] for method in comparison.method]
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel=f"difference to {LABELS[baseline]} (percentage points)")
    axis.invert_yaxis()
    return figure


def accuracy_by_epoch(history: pd.DataFrame) -> Figure:
    """Mean test accuracy (percent) over seeds by epoch, one line a method; columns `epoch`, `method`, `test_accuracy`."""
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    means = history.groupby(["method", "epoch"], sort=False).test_accuracy.mean().reset_index()
    for method in [name for name in METHODS if name in set(means.method)]:
        line = means[means.method == method]
        axis.plot(line.epoch, line.test_accuracy, color=COLOURS[method], label=LABELS[method], lw=1.4)
    axis.set(xlabel="epoch", ylabel="test accuracy (%)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
