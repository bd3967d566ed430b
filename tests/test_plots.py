"""What figures draw: nothing is dropped, a colour means one thing, and shares stay between 0 and
100 %.
"""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colors
from matplotlib import pyplot as plt

from kdig.measure import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def spans(axis):
    """Lowest and highest end of all error bars of an axis, in y."""
    ends = [
        point[1]
        for bars in axis.containers
        for line in bars.lines[2]
        for part in line.get_segments()
        for point in part
    ]
    return np.nanmin(ends), np.nanmax(ends)


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_way_of_a_speedup_is_drawn():
    ways = [f"way {i}" for i in range(9)]
    rows = [
        {"way": way, "mac_ratio": x, "factor": 2 * x, "speedup": x, "low": x, "high": x}
        for way in ways
        for x in (2.0, 4.0)
    ]
    figure = plots.speedup_against_size(pd.DataFrame(rows))
    assert set(ways) <= set(labels(figure))
    looks = {
        (bars.lines[0].get_color(), bars.lines[0].get_marker())
        for bars in figure.axes[0].containers
    }
    assert len(looks) == 9


def test_every_batch_of_device_times_is_drawn():
    table = pd.DataFrame(
        {
            "factor": [1.0, 4.0],
            "training": [3.0, 2.0],
            "training_q25": [2.0, 1.0],
            "training_q75": [4.0, 3.0],
        }
    )
    for batch in range(1, 8):
        table = table.assign(
            **{f"{name}_{batch}": [2.0, 1.0] for name in ("inference", "q25", "q75")}
        )
    figure = plots.device_times(table)
    assert len(labels(figure)) == 8
    assert sum(len(axis.containers) for axis in figure.axes) == 8


def test_a_methods_colour_means_that_method():
    pairs = itertools.product(plots.SERIES, [*plots.COLOURS.values(), plots.PAPER])
    assert (
        min(np.linalg.norm(np.subtract(colors.to_rgb(a), colors.to_rgb(b))) for a, b in pairs) > 0.2
    )
    looks = plots.series(["printed", "KD & IG, our sd 0.3", "KD", "paired runs, sd 0.3"])
    assert [looks[name][0] in plots.SERIES for name in looks] == [True, False, False, True]
    assert (looks["KD & IG, our sd 0.3"][0], looks["KD"][0]) == (
        plots.COLOURS["kd_ig"],
        plots.COLOURS["kd"],
    )


@pytest.mark.parametrize("number", [1, 5, 36])
def test_series_have_a_look_each_whatever_their_number(number):
    looks = plots.series([f"a {i}" for i in range(number)] * 2)
    assert len(looks) == number
    assert len(set(looks.values())) == min(number, 35)


def test_bars_of_shares_end_at_0_and_100():
    table = pd.DataFrame(
        {
            "factor": [2.0, 4.0, 50.0],
            "method": "kd",
            "accuracy": [97.0, 95.0, 1.0],
            "low": [92.0, 90.0, -9.0],
        }
    )
    table["high"] = 2 * table.accuracy - table.low
    speed = pd.DataFrame({"factor": [2.0, 50.0], "speedup": [2.0, 9.0]})
    figure = plots.compression_curves(table, speed, (1.5, 10), 98.0)
    assert [spans(figure.axes[i]) for i in (0, 1)] == [(0, 100), (90, 100)]


def test_dots_stand_by_row_and_are_hollow_where_they_are_not_filled():
    table = pd.DataFrame(
        {
            "arm": ["b", "b", "a", "a"],
            "method": ["kd", "ig"] * 2,
            "value": [1.0, 2.0, 3.0, 4.0],
            "low": -1.0,
            "high": 9.0,
            "filled": [True, False, True, True],
        }
    )
    figure = plots.dots({"points": table}, "arm", lines={"teacher": 5.0}, limits=(0, None))
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["b", "a"]
    assert labels(figure) == ["teacher", "KD", "IG"]
    assert axis.get_xlim()[0] == 0
    places = {
        bars.get_label(): bars.lines[0].get_ydata().astype(float).round(2).tolist()
        for bars in axis.containers
    }
    assert places == {"KD": [-0.1, 0.9], "IG": [0.1, 1.1]}
    (hollow,) = [line for line in axis.lines if line.get_mfc() == "white" and len(line.get_xdata())]
    assert (hollow.get_xdata().tolist(), hollow.get_color()) == ([2.0], plots.COLOURS["ig"])


def test_detail_of_figure_5_is_a_labelled_panel_and_covers_nothing():
    table = pd.DataFrame(
        {"factor": [2.0, 4.0, 50.0], "method": "kd", "accuracy": [97.0, 95.0, 60.0]}
    )
    speed = pd.DataFrame({"factor": [2.0, 50.0], "speedup": [2.0, 9.0]})
    main, near, right = plots.compression_curves(
        table, speed.assign(low=1.0, high=[3.0, 12.0]), (1.5, 10), 98.0
    ).axes
    (band,) = right.collections
    assert band.get_datalim(right.transData).ymax == pytest.approx(12)
    assert not main.child_axes
    assert near.get_xlabel() and near.get_ylabel()  # noqa: PT018
    assert main.get_position().x1 <= near.get_position().x0
    assert (
        len(plots.compression_curves(table[2:], speed, (1.5, 10), 98.0).axes) == 2
    )  # the main one and its right axis


NAMES = ["a$b\\frac$", "猫", "dog 🐶", "chat noir é"]


def drawn_with_names():
    """Every figure that shows names of classes or files."""
    values = [
        {"class": name, "method": "kd", "value": 1.0, "low": 0.5, "high": 2.0} for name in NAMES
    ]
    gaps = pd.DataFrame({"network": np.repeat(NAMES, 3), "gap": np.arange(12.0)})
    yield plots.picture_rows({"image": torch.rand(4, 3, 4, 4)}, NAMES)
    yield plots.attention_rows({"map": torch.rand(4, 4, 4)}, NAMES, {})
    yield plots.softened({"T = 1": torch.full((4,), 0.25)}, NAMES)
    yield plots.dots({"MSE": pd.DataFrame(values)}, "class")
    yield plots.logit_gaps(gaps, {NAMES[0]: 1.0})


def test_class_names_of_any_signs_are_drawn(capsys):
    plots._say_what_lacks.cache_clear()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "error", "Glyph"
        )  # matplotlib warns of each sign that its font lacks
        for figure in drawn_with_names():
            figure.canvas.draw()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert "猫 🐶" in said[0]
    assert plots.readable(NAMES) == [r"a\$b\frac\$", "U+732B", "dog U+1F436", "chat noir é"]
