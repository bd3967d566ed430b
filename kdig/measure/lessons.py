"""Figures of the primer: one idea each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdig.measure.plots import FAINT, SERIES, WIDTH, banded_curves

if TYPE_CHECKING:
    from torch import Tensor


def _bare(axis: Axes) -> None:
    """An image needs a frame, against a white page, and no axes."""
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set(visible=True, color=FAINT, linewidth=0.8)


def soft_targets(image: "Tensor", label: str, probabilities: Mapping[str, "Tensor"]) -> Figure:
    """An image (3, H, W), and the probabilities (K,) of its classes at several temperatures."""
    figure, (left, wide) = plt.subplots(1, 2, figsize=(WIDTH, 2.6), width_ratios=[1, 3])
    one_image(left, image)
    left.set_title(f"label {label}", fontsize="small")
    table = pd.DataFrame({name: p.cpu().double() for name, p in probabilities.items()})
    long = table.rename_axis("class").reset_index().melt("class", value_name="probability")
    colours = SERIES[: len(probabilities)]
    sns.barplot(long, x="class", y="probability", hue="variable", palette=colours, ax=wide)
    sns.move_legend(wide, "upper left", title=None, frameon=False)
    return figure


def student_dots(table: pd.DataFrame, measures: Sequence[str]) -> Figure:
    """A dot for each student (row) of `table`, in percent: a line for each `way` to learn, or for
    each of several `measures`.
    """
    long = table.melt("way", list(measures), var_name="measure", value_name="percent")
    y, several = ("way", False) if len(measures) == 1 else ("measure", True)
    figure, axis = plt.subplots(figsize=(5.5, 0.55 * long[y].nunique() + 0.9))
    colours = SERIES[: long["way"].nunique()]
    look = {"size": 8, "alpha": 0.7, "jitter": False, "dodge": several, "legend": several}
    sns.stripplot(long, x="percent", y=y, hue="way", palette=colours, ax=axis, **look)
    axis.set(xlim=(-3, 103), ylabel="", xlabel="percent of test digits" if several else measures[0])
    if several:
        place = {"bbox_to_anchor": (0.5, 1), "ncols": len(colours)}
        sns.move_legend(axis, "lower center", title=None, frameon=False, **place)
    return figure


Course = tuple["Tensor", "Tensor", "Tensor"]  # places, F there, the size of its gradient there


def saturation(toy: Course, teacher: Course) -> Figure:
    """F and its gradient for the toy function 1 - ReLU(1 - x), and for a network along a path."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    titles = ("F(x) = 1 - ReLU(1 - x)", "F: the teacher's probability of 3")
    for axis, (places, height, gradient), title, name in zip(
        axes, (toy, teacher), titles, ("x", "beta")
    ):
        axis.plot(places, height, color=SERIES[0], label="F")
        axis.plot(places, gradient, color=SERIES[1], ls="--", label="size of the gradient")
        axis.set(xlabel=name, title=title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def path(
    images: "Tensor", shown: Sequence[int], betas: "Tensor", values: Mapping[str, "Tensor"]
) -> Figure:
    """The images (N, 3, H, W) of a path at the places `shown`, and below them what F gives along
    it: a panel for each of `values` (N,) over `betas` (N,).
    """
    figure = plt.figure(figsize=(WIDTH, 3.6))
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 2])
    for axis, place in zip(upper.subplots(1, len(shown)), shown):
        one_image(axis, images[place])
        axis.set_title(f"{float(betas[place]):.1f}", fontsize="small")
    panels = lower.subplots(1, len(values), squeeze=False)[0]
    for axis, (name, heights), colour in zip(panels, values.items(), SERIES):
        axis.plot(betas, heights, color=colour)
        axis.set(xlabel="beta", ylabel=name)
    return figure


def signed_maps(image: "Tensor", maps: Mapping[str, "Tensor"]) -> Figure:
    """An image (3, H, W) beside signed maps (H, W): red above zero, blue below it, each on its own
    scale.
    """
    figure, axes = plt.subplots(1, 1 + len(maps), figsize=(WIDTH, WIDTH / (1 + len(maps)) + 0.3))
    one_image(axes[0], image)
    axes[0].set_title("image", fontsize="small")
    for axis, (name, values) in zip(axes[1:], maps.items()):
        signed_map(axis, values)
        axis.set_title(name, fontsize="small")
    return figure


def completeness(errors: pd.DataFrame) -> Figure:
    """What attributions lack (percent) against the number of steps, both on logarithmic axes."""
    figure = banded_curves(errors, "steps on the path", "what is missing (%)", log=True)
    figure.axes[0].set(xscale="log", xticks=[1, 10, 100], xticklabels=["1", "10", "100"])
    figure.axes[0].yaxis.set_major_formatter("{x:g}")
    return figure


# panels: one axis, some values, and the sentence that says what is to be seen (kdig.study.play)


def mixed_target(axis: Axes, label: int, soft: "Tensor", alpha: float) -> str:
    """What Eq. 1 asks of a student for one image: `alpha` of the soft targets (K,) on top of
    1 - `alpha` of the `label`.
    """
    classes = range(len(soft))
    hard = [(1 - alpha) * (c == label) for c in classes]
    taught = (alpha * soft.double()).tolist()
    axis.bar(classes, hard, color=SERIES[1], label="label")
    axis.bar(classes, taught, bottom=hard, color=SERIES[0], label="teacher")
    axis.set(xlabel="class", ylabel="share", ylim=(0, 1), xticks=classes)
    axis.legend(frameon=False)
    others = 1 - hard[label] - taught[label]
    return f"classes other than {label} get {others:.1%} of the target."


def signed_map(axis: Axes, values: "Tensor") -> None:
    """A signed map (H, W): red above zero, blue below it."""
    top = float(values.abs().max())
    axis.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top)
    _bare(axis)


def one_image(axis: Axes, image: "Tensor") -> None:
    """An image (3, H, W)."""
    axis.imshow(image.permute(1, 2, 0).clamp(0, 1))
    _bare(axis)
