"""Figures with sliders for a reader at the keyboard, each with a printed twin for everybody else.

A panel is a function that draws on an axis for given values and returns a sentence. Its twin, which
stands in every executed notebook, in HTML and on paper, draws it for some cases side by side. In
JupyterLab, VS Code and Colab sliders follow below the twin.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from IPython.core.getipython import get_ipython
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from kdig.measure.plots import WIDTH
from kdig.study.outputs import Outputs

Panel = Callable[..., str]  # (axis, **values) -> sentence
Case = Mapping[str, Any]


def play(
    out: Outputs, panel: Panel, name: str, caption: str, cases: Sequence[Case], **sliders: object
) -> None:
    """Show `panel` for each of `cases`, with what it says; below it, where a reader can move them,
    the `sliders`: what `ipywidgets.interact` takes, such as `runs=(2, 50)` or `T=[1, 2, 4]`.

    The twin is kept as the figure `name`.
    """
    figure, sentences = twin(panel, cases)
    out.figure(figure, name, caption)
    for sentence in dict.fromkeys(sentences):
        out.say(sentence)
    if live():
        _sliders(panel, sliders)


def twin(panel: Panel, cases: Sequence[Case]) -> tuple[Figure, list[str]]:
    """One panel for each case, headed by its values, and what each says."""
    width = WIDTH if len(cases) > 1 else 0.7 * WIDTH
    figure = plt.figure(figsize=(width, 2.6))
    axes = figure.subplots(1, len(cases), squeeze=False, sharex=True, sharey=True)
    sentences = [panel(axis, **case) for axis, case in zip(axes[0], cases)]
    figure.supxlabel(axes[0, 0].get_xlabel(), fontsize="medium")
    for axis, case in zip(axes[0], cases):
        axis.set_title(_head(case), fontsize="small")
        axis.set_xlabel("")
        axis.label_outer()
        if axis.get_legend():
            axis.get_legend().remove()
    handles, labels = axes[0, -1].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure, sentences


def _head(case: Case) -> str:
    return ", ".join(f"{name} = {value}" for name, value in case.items())


def live() -> bool:
    """Whether a person may move sliders: the kernel belongs to a front end, not to a batch run.

    jupyter-server names the open notebook to the kernels that it starts (JPY_SESSION_NAME); papermill,
    nbclient and nbval start theirs without it. VS Code and Colab have marks of their own.
    """
    shell = get_ipython()
    if shell is None:
        return False
    marks = ("JPY_SESSION_NAME" in os.environ, "__vsc_ipynb_file__" in shell.user_ns)
    return any(marks) or "google.colab" in sys.modules


def _sliders(panel: Panel, sliders: Mapping[str, object]) -> None:
    from ipywidgets import interact

    def draw(**values: object) -> None:
        figure, axis = plt.subplots(figsize=(0.8 * WIDTH, 3.2))
        sentence = panel(axis, **values)
        plt.show()
        plt.close(figure)
        print(sentence)

    interact(draw, **sliders)
