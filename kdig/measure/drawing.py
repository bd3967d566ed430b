"""The method in one drawing (Figure 2 of the paper), with a real image and what real networks
answer to it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from kdig.core.methods import METHODS
from kdig.measure.plots import readable

if TYPE_CHECKING:
    from torch import Tensor

_INK, _QUIET = "#333333", "#888888"
_TOP, _MIDDLE, _BOTTOM = 0.64, 0.36, 0.08  # lower edges of the three rows
_SIZE = (0.115, 0.23)  # of an image: the drawing is twice as wide as high
_COLUMNS = (0.04, 0.27, 0.51, 0.69)  # image, network, attention, answer


class Answer(NamedTuple):
    """What a network says of one image: its logits (K,) and its attention map (h, w)."""

    logits: "Tensor"
    attention: "Tensor"


def method(
    image: "Tensor",
    attribution: "Tensor",
    overlay: "Tensor",
    teacher: Answer,
    student: Answer,
    classes: Sequence[str],
    label: int,
    temperature: float,
) -> Figure:
    """Figure 2: how one image (3, H, W), in [0, 1], teaches a student.

    `attribution` (H, W) is the teacher's map of the image and `overlay` (3, H, W) the image with it.
    """
    figure = plt.figure(figsize=(10, 5))
    # as an argument of `figure` it is lost when the file is written
    figure.set_layout_engine("none")
    _picture(figure, _COLUMNS[0], _TOP, image, f"image, label {readable([classes[label]])[0]}")
    _picture(figure, _COLUMNS[0], _MIDDLE, attribution, "its attribution map", "inferno")
    _picture(figure, _COLUMNS[0], _BOTTOM, overlay, "overlay: half and half")
    for row, answer, of in ((_TOP, teacher, "teacher's"), (_BOTTOM, student, "student's")):
        _picture(figure, _COLUMNS[2], row, answer.attention, f"{of} attention", "viridis")
        soft = (answer.logits / temperature).softmax(0)
        _bars(figure, row, soft, classes, f"{of} soft answer (T = {temperature:g})")
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, 1), ylim=(0, 1))
    page.axis("off")
    _networks(page)
    _flow(page)
    _losses(page)
    return figure


def _picture(
    figure: Figure, x: float, y: float, values: "Tensor", title: str, colours: str | None = None
) -> None:
    axis = figure.add_axes((x, y, *_SIZE))
    shown = values.permute(1, 2, 0) if values.ndim == 3 else values
    axis.imshow(shown.cpu().numpy(), cmap=colours)
    axis.axis("off")
    axis.set_title(title, fontsize=9.5, pad=4, color=_INK)


def _bars(
    figure: Figure, y: float, probabilities: "Tensor", classes: Sequence[str], title: str
) -> None:
    axis = figure.add_axes((_COLUMNS[3] + 0.08, y, 0.2, _SIZE[1]))
    names = readable(classes)
    axis.barh(names, probabilities.cpu().numpy(), color=METHODS["kd"].colour)
    axis.set(xlim=(0, 1), xticks=[0, 1])
    axis.invert_yaxis()
    axis.tick_params(labelsize=7, length=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(title, fontsize=9.5, pad=4, color=_INK)


def _networks(page: Axes) -> None:
    for y, name, wide, colour in (
        (_TOP, "teacher\n(trained before,\nstays as it is)", 0.15, "#e8e8e8"),
        (_BOTTOM, "student\n(learns)", 0.11, METHODS["student"].colour + "33"),
    ):
        place = (_COLUMNS[1] + (0.15 - wide) / 2, y + 0.03)
        box = FancyBboxPatch(place, wide, 0.19, boxstyle="round,pad=0.008", fc=colour, ec=_INK)
        page.add_patch(box)
        page.text(_COLUMNS[1] + 0.075, y + 0.125, name, ha="center", va="center", fontsize=10)


def _flow(page: Axes) -> None:
    """Arrows from image to answers."""
    top, bottom = _TOP + 0.125, _BOTTOM + 0.125
    for y, left, right in ((top, 0.26, 0.43), (bottom, 0.28, 0.41)):
        _arrow(page, (0.17, y), (left, y))
        _arrow(page, (right, y), (_COLUMNS[2] - 0.005, y))
    ig = METHODS["ig"].colour
    _arrow(page, (0.3, _TOP + 0.015), (0.175, _MIDDLE + 0.15), ig)
    page.text(
        0.26, _MIDDLE + 0.165, "IG: which pixels\ndecide?", fontsize=9.5, color=ig, va="center"
    )
    _arrow(page, (0.175, _MIDDLE + 0.06), (0.175, _BOTTOM + 0.2), ig, curve=-0.5)
    page.text(0.205, _MIDDLE - 0.02, "with probability p", fontsize=9.5, color=ig, va="center")


def _losses(page: Axes) -> None:
    """What the student is judged by: three terms, between the teacher's answers and its own."""
    at, kd = METHODS["at"].colour, METHODS["kd"].colour
    for x, name, colour in (
        (_COLUMNS[2] + 0.062, "AT: be active\nwhere it is\n$\\gamma\\,L_{AT}$", at),
        (_COLUMNS[3] + 0.18, "KD: answer as it does\n$\\alpha\\,L_{KL}$", kd),
    ):
        for end in (_TOP - 0.03, _BOTTOM + _SIZE[1] + 0.055):
            _arrow(page, (x, _MIDDLE + 0.13), (x, end), colour)
        box = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": colour}
        page.text(x, _MIDDLE + 0.13, name, ha="center", va="center", fontsize=9.5, bbox=box)
    page.text(
        _COLUMNS[2], 0.012, "and the label, as without a teacher: $(1 - \\alpha)\\,L_H$", fontsize=9.5,
        ha="left", va="bottom", color=_INK,
    )  # fmt: skip


def _arrow(
    page: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = _QUIET,
    curve: float = 0.0,
) -> None:
    look = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    look |= {"connectionstyle": f"arc3,rad={curve}"}
    page.annotate("", end, start, arrowprops=look)
