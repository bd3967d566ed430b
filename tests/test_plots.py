"""What figures draw: nothing is dropped, a colour means one thing, and shares stay between 0 and
100 %.
"""

import itertools
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colors
from matplotlib import pyplot as plt

from kdig.measure import bars, plots, stats
from kdig.paper import literature


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


def dotted(value, low, high, **columns):
    return pd.DataFrame(
        {"arm": ["b", "b", "a", "a"], "method": ["kd", "ig"] * 2, **columns}
    ).assign(value=value, low=low, high=high)


def hollow(axis):
    """Places of the hollow dots of an axis."""
    return sorted(x for line in axis.lines if line.get_mfc() == "white" for x in line.get_xdata())


def test_dots_stand_by_row_and_are_hollow_where_their_interval_holds_the_line():
    table = dotted([1.0, 2.0, -3.0, 4.0], [0.5, -1.0, -4.0, 0.0], [1.5, 3.0, -1.0, 9.0])
    figure = plots.dots({"points": table}, "arm", lines={"": 0, "teacher": 5.0})
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["b", "a"]
    solid, empty = "solid: 95 % interval leaves out 0", "hollow: it holds 0"
    assert labels(figure) == ["teacher", "KD", "IG", solid, empty]
    places = {
        bars.get_label(): bars.lines[0].get_ydata().astype(float).round(2).tolist()
        for bars in axis.containers
    }
    assert places == {"KD": [-0.1, 0.9], "IG": [0.1, 1.1]}
    assert hollow(axis) == [2.0, 4.0]


def test_without_a_line_to_compare_with_no_dot_is_hollow():
    figure = plots.dots({"points": dotted(1.0, -1.0, 2.0)}, "arm", limits=(0, None))
    assert hollow(figure.axes[0]) == []
    assert labels(figure) == ["KD", "IG"]
    assert figure.axes[0].get_xlim()[0] == 0


def test_an_interval_that_is_not_known_leaves_out_nothing():
    found = stats.leaves_out([0.1, -2.0, -1.0, np.nan], [0.2, -1.0, 1.0, np.nan])
    assert found.tolist() == [True, True, False, False]
    assert stats.leaves_out([5.0], [7.0], 6.0).tolist() == [False]


SPEED = pd.DataFrame({"factor": [2.0, 50.0], "speedup": [2.0, 9.0]})


def test_detail_and_speed_of_figure_5_are_labelled_panels_below_it():
    table = pd.DataFrame(
        {"factor": [2.0, 4.0, 50.0], "method": "kd", "accuracy": [97.0, 95.0, 60.0]}
    )
    speed = SPEED.assign(low=1.0, high=[3.0, 12.0])
    main, near, below = plots.compression_curves(table, speed, (1.5, 10), 98.0).axes
    (band,) = below.collections
    assert band.get_datalim(below.transData).ymax == pytest.approx(12)
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in (main, near, below))
    assert main.get_position().y0 >= near.get_position().y1
    assert near.get_position().y0 >= below.get_position().y1
    # no level in the detail: no panel for it
    assert len(plots.compression_curves(table[2:], SPEED, (1.5, 10), 98.0).axes) == 2


def test_two_runs_are_drawn_and_their_interval_is_not():
    table = pd.DataFrame({"factor": [2.0, 4.0], "method": "kd", "accuracy": [60.0, 70.0]})
    table = table.assign(n=[2, 3], low=[-90.0, 66.0], high=[190.0, 74.0], min=[58.0, 67.0])
    axis = plots.compression_curves(table.assign(max=[62.0, 73.0]), SPEED, (10, 20), 98.0).axes[0]
    assert spans(axis) == (66, 74)
    runs = [line.get_ydata() for line in axis.lines if line.get_marker() == "_" and line.get_ls()]
    assert [58.0, 62.0] in [list(some) for some in runs]
    assert [67.0, 73.0] not in [list(some) for some in runs]
    assert axis.get_ylim()[0] < 58


def test_images_go_on_below_after_five():
    figure = plots.picture_rows({"a": torch.rand(7, 3, 4, 4), "b": torch.rand(7, 4, 4)}, NAMES7)
    shown = [axis for axis in figure.axes if axis.get_visible() and axis.images]
    assert len(shown) == 14
    assert [axis.get_title() for axis in shown if axis.get_title()] == list(NAMES7)
    maps = plots.attention_rows({"a": torch.rand(7, 4, 4)}, NAMES7, {"a": range(7)})
    under = [axis.get_xlabel() for axis in maps.axes if axis.images]
    assert under == [f"{i}.0000" for i in range(7)]


NAMES7 = tuple("abcdefg")


def test_every_method_has_a_mark_of_its_own():
    assert len(set(plots.METHOD_MARKS.values())) == len(plots.METHOD_MARKS) == 8
    looks = plots.series(plots.LABELS.values())
    assert len(set(looks.values())) == 8
    assert looks["KD & IG"] == (plots.COLOURS["kd_ig"], plots.METHOD_MARKS["kd_ig"])


def history(methods, epochs):
    rows = [
        {"method": m, "epoch": e, "test_accuracy": 50.0 + e} for m in methods for e in range(epochs)
    ]
    return pd.DataFrame(rows)


def damaged(methods):
    rows = [
        {
            "method": m,
            "kind": kind,
            "severity": s,
            "accuracy": 90.0 - s / 10,
            "low": 80.0,
            "high": 95.0,
        }
        for m in methods
        for kind, s in (("none", 0), ("jpeg", 75), ("blur", 1))
    ]
    return pd.DataFrame(rows)


def test_each_method_has_a_panel_for_its_epochs():
    figure = plots.accuracy_by_epoch(history(plots.METHODS, 2))
    assert [axis.get_title() for axis in figure.axes] == list(plots.LABELS.values())
    assert len(plots.accuracy_by_epoch(history(["student", "kd"], 3)).axes) == 2


def test_of_many_methods_on_damaged_images_two_are_told_apart():
    panels = {"jpeg": "quality", "blur": "sigma"}
    assert labels(plots.damage_curves(damaged(plots.METHODS), panels)) == [
        "other methods",
        "Student",
        "KD & IG",
    ]
    assert labels(plots.damage_curves(damaged(["student", "kd"]), panels)) == ["Student", "KD"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.2, 4.0, ["0.2", "0.5", "1", "2"]),
        (0.55, 1.7, ["0.6", "0.8", "1", "1.5"]),
        (0.001, 900.0, ["0.001", "0.01", "0.1", "1", "10", "100"]),
        (900.0, 12_000.0, ["1,000", "2,000", "5,000", "10,000"]),
    ],
)
def test_ticks_are_plain_numbers(low, high, ticks):
    figure, axis = plt.subplots()
    axis.set(xscale="log", xlim=(low, high))
    plots.plain_ticks(axis.xaxis)
    figure.canvas.draw()
    inside = [t.get_text() for t in axis.get_xticklabels() if low <= t.get_position()[0] <= high]
    assert inside == ticks
    assert not len(axis.get_xticks(minor=True))


def test_labels_break_between_words_and_not_within_a_number():
    table = pd.DataFrame({"method": ["rows of all the data sets (n = 57)"], "value": 1.0})
    figure = plots.dots({"x": table.assign(low=0.5, high=2.0)})
    (label,) = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert [line.replace("\u00a0", " ") for line in label.splitlines()] == [
        "rows of all the data sets",
        "(n = 57)",
    ]


def test_softened_outputs_are_dots_not_bars():
    figure = plots.softened(
        {"T = 1": torch.tensor([0.9, 0.1]), "T = 4": torch.full((2,), 0.5)}, "ab"
    )
    assert not figure.axes[0].patches
    assert [line.get_ls() for line in figure.axes[0].lines] == ["None", "None"]


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


def test_no_figure_is_given_a_greater_width():
    """But Figure 2's drawing, which stands alone."""
    folder = Path(plots.__file__).parent
    paths = [*folder.glob("*.py"), Path(literature.__file__)]
    widths = {
        (path.stem, width)
        for path in paths
        for width in re.findall(r"figsize=\(([^,]+),", path.read_text(encoding="utf-8"))
    }
    assert len(widths) > 5
    for name, width in widths - {("drawing", "10")}:
        assert width == "WIDTH" or float(width) <= plots.WIDTH, name


def test_images_fit_a_telephone():
    plots.style()
    rows = {"image": torch.rand(10, 3, 4, 4), "map": torch.rand(10, 4, 4)}
    figures = [plots.picture_rows(rows, "abcdefghij", {"map": "share"})]
    figures += [plots.attention_rows({"map": rows["map"]}, "abcdefghij", {})]
    figures += [plots.cut_offs(rows["image"][0], rows["map"][0], (0.25, 0.5, 0.75))]
    figures += [
        plots.map_scalings(rows["image"][0], {f"s = {i}": rows["map"][i] for i in range(4)})
    ]
    assert max(figure.get_figwidth() for figure in figures) <= plots.WIDTH


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


def test_every_bar_and_line_is_drawn():
    """More than there are colours or dashes: they begin again."""
    table = pd.DataFrame({"group": "one", "bar": [f"bar {i}" for i in range(7)], "value": 1.0})
    table = table.assign(low=0.5, high=1.5)
    lines = {"panel": {f"line {i}": float(i) for i in range(5)}}
    figure = bars.grouped_bars({"panel": table}, lines)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 7 + 5
    plt.close(figure)
