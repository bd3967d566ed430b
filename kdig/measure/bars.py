"""Bars by group, the form of the figures of the poster "Knowledge Distillation Changes Where Models
Look".
"""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdig.measure.plots import FAINT, PAPER, SERIES, WIDTH, readable

# lines across a panel: label -> height
Lines = Mapping[str, float]
DASHES = ("--", ":", "-.")


def grouped_bars(
    panels: Mapping[str, pd.DataFrame], lines: Mapping[str, Lines] | None = None
) -> Figure:
    """A panel an entry (its title -> table), a group of bars for each `group` of the table, and in
    it a bar for each `bar`, at `value` with an interval from `low` to `high`.

    All panels share one axis, which starts at 0 unless a bar is below. `lines` of a panel stand
    across it. A column `label` names the axis.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (title, table) in zip(axes[0], panels.items()):
        _bars(axis, table)
        for (label, height), dash in zip((lines or {}).get(title, {}).items(), cycle(DASHES)):
            axis.axhline(height, color=PAPER, lw=1.2, ls=dash, label=label)
        axis.set_title(title, fontsize="medium")
    first = next(iter(panels.values()))
    axes[0, 0].set_ylabel(str(first.label.iloc[0]) if "label" in first else "")
    keys = axes[0, 0].get_legend_handles_labels()
    figure.legend(*keys, frameon=False, fontsize="small", ncols=3, loc="outside lower center")
    sns.despine(figure)
    return figure


_COLOURS = (FAINT, SERIES[2], SERIES[0], *SERIES[3:])


def _bars(axis: Axes, table: pd.DataFrame) -> None:
    groups, bars = (list(dict.fromkeys(table[name])) for name in ("group", "bar"))
    width = 0.8 / len(bars)
    for place, (bar, colour) in enumerate(zip(bars, cycle(_COLOURS))):
        part = table[table.bar == bar].set_index("group").reindex(groups)
        x = np.arange(len(groups)) + width * (place - (len(bars) - 1) / 2)
        ends = np.array([part.value - part.low, part.high - part.value])
        axis.bar(x, part.value, width, color=colour, label=bar)
        axis.errorbar(x, part.value, yerr=ends, fmt="none", ecolor="black", capsize=2, lw=1)
    axis.set_xticks(range(len(groups)), readable(groups))
    axis.axhline(0, color="black", lw=0.8)
