"""Intervals that a figure draws are those of its table: read back from the figure, for every
function that draws any.
"""

import inspect
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from kdig.measure import bars, plots
from kdig.measure.plots import LABELS
from kdig.paper import literature

pytestmark = pytest.mark.pins
DRAWS = ("errorbar(", "fill_between(", "axhspan(", "_accuracy_lines(", "_paper_panel(", "_dots(")
Pairs = list[tuple[float, float]]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def values(n: int, seed: int = 0) -> pd.DataFrame:
    """`n` rows of a value, an interval that does not lie evenly around it, and other columns that
    could be taken for one.
    """
    draw = np.random.default_rng(seed)
    middle = draw.uniform(60, 80, n)
    table = {
        "mean": middle,
        "low": middle - draw.uniform(1, 5, n),
        "high": middle + draw.uniform(5, 9, n),
    }
    table |= {"min": middle - 12, "max": middle + 13, "sd": draw.uniform(0.1, 0.9, n), "n": 10}
    return pd.DataFrame(table)


def pairs(table: pd.DataFrame, low: str = "low", high: str = "high") -> Pairs:
    return list(zip(table[low], table[high]))


def drawn_bars(figure: Figure, axis: int = 0) -> Pairs:
    """Ends of every error bar, in x (`axis` 0) or y (1)."""
    bars = [bar for axes in figure.axes for bar in axes.containers if hasattr(bar, "has_xerr")]
    lines = [line for bar in bars for line in bar.lines[2]]
    return [
        (min(s[:, axis]), max(s[:, axis])) for line in lines for s in line.get_segments() if len(s)
    ]


def drawn_bands(figure: Figure) -> Pairs:
    """Ends of every band at every x."""
    bands = [
        part
        for axes in figure.axes
        for part in axes.collections
        if isinstance(part, PolyCollection)
    ]
    found = []
    for band in bands:
        points = pd.DataFrame(band.get_paths()[0].vertices, columns=["x", "y"]).groupby("x").y
        found += list(zip(points.min(), points.max()))
    return found


def drawn_spans(figure: Figure) -> Pairs:
    """Ends of every horizontal span, and of no other rectangle."""
    boxes = [
        patch
        for axes in figure.axes
        for patch in axes.patches
        if patch.get_label().startswith("95 %")
    ]
    return [(box.get_y(), box.get_y() + box.get_height()) for box in boxes]


def of_methods(n: int = 3, **columns: object) -> pd.DataFrame:
    return values(n).assign(method=list(LABELS)[:n], **columns)


def method_accuracy() -> tuple[Pairs, Pairs]:
    summary = of_methods()
    frame = pd.DataFrame({"method": list(summary.method) * 2, "accuracy": np.linspace(55, 90, 6)})
    paper = {"student": (70.0, 1.0), "kd": (71.0, 2.0), "ig": (72.0, 3.0)}
    figure = plots.method_accuracy(frame, summary, paper)
    return drawn_bars(figure), pairs(summary) + [
        (mean - sd, mean + sd) for mean, sd in paper.values()
    ]


def paired_differences() -> tuple[Pairs, Pairs]:
    table = of_methods(difference=lambda t: t["mean"])
    return drawn_bars(plots.dots({"x": table}, value="difference", lines={"": 0})), pairs(table)


def search_means() -> tuple[Pairs, Pairs]:
    cells = values(4).assign(x=[1, 2, 3, 4])
    runs = pd.DataFrame({"x": [1, 2], "validation_accuracy": [50.0, 90.0]})
    return drawn_bars(plots.search_means({"alpha": (runs, cells, "kd")}), 1), pairs(cells)


def search_curves() -> tuple[Pairs, Pairs]:
    table = pd.DataFrame({"x": [1, 2], "accuracy": [60.0, 70.0]})
    return drawn_spans(plots.search_curves({"p": (table, "kd", (61.5, 64.25))})), [(61.5, 64.25)]


def compression_curves() -> tuple[Pairs, Pairs]:
    table = values(4).assign(
        factor=[2.0, 4.0, 50.0, 2.0], method=["kd", "kd", "kd", "ig"], accuracy=lambda t: t["mean"]
    )
    speed = values(3, 1).assign(factor=[2.0, 4.0, 50.0], speedup=lambda t: t["mean"])
    figure = plots.compression_curves(table, speed, (1.5, 10), 98.0)
    in_detail = table[table.factor.between(1.5, 10)]  # in the panel beside once more
    return drawn_bars(figure, 1) + drawn_bands(figure), pairs(table) + pairs(in_detail) + pairs(
        speed
    )


def speedup_against_size() -> tuple[Pairs, Pairs]:
    columns = {"way": ["a", "a", "b"], "mac_ratio": [2.0, 3.0, 4.0], "factor": [3.0, 4.0, 5.0]}
    table = values(3).assign(**columns, speedup=lambda t: t["mean"])
    return (
        drawn_bars(plots.speedup_against_size(table), 1),
        pairs(table) * 2,
    )  # over operations and over parameters


def device_times() -> tuple[Pairs, Pairs]:
    training, one, many = values(2), values(2, 1), values(2, 2)
    columns = {
        "factor": [1.0, 4.0],
        "training": training["mean"],
        "training_q25": training.low,
        "training_q75": training.high,
    }
    columns |= {"inference_1": one["mean"], "q25_1": one.low, "q75_1": one.high}
    columns |= {"inference_64": many["mean"], "q25_64": many.low, "q75_64": many.high}
    return drawn_bars(plots.device_times(pd.DataFrame(columns)), 1), pairs(training) + pairs(
        one
    ) + pairs(many)


def extrapolated_line() -> tuple[Pairs, Pairs]:
    line = values(3).assign(x=[1.0, 2.0, 3.0], value=lambda t: t["mean"])
    points = pd.DataFrame({"x": [1.0, 3.0], "y": [50.0, 90.0], "fitted": [True, False]})
    return drawn_bands(plots.extrapolated_line({"layers": (points, line)}, "ms")), pairs(line)


def raw_and_balanced() -> tuple[Pairs, Pairs]:
    table = values(4).assign(
        method=["student", "student", "kd", "kd"], reading=["raw", "balanced"] * 2
    )
    table = table.assign(pictures_low=table.low - 7, pictures_high=table.high + 6)
    networks = pd.DataFrame(
        {"method": ["student", "kd"], "raw": [50.0, 51.0], "balanced": [52.0, 53.0]}
    )
    figure = plots.raw_and_balanced(table, networks)
    return drawn_bars(figure), pairs(table) + pairs(table, "pictures_low", "pictures_high")


def two_readings() -> tuple[Pairs, Pairs]:
    right = values(3, 1)
    table = of_methods(
        raw=lambda t: t["mean"],
        balanced=right["mean"],
        right_low=right.low,
        right_high=right.high,
        printed=70.0,
    )
    panels = {
        "raw": table.assign(value=table.raw).drop(columns="printed"),
        "balanced": table.assign(value=table.balanced, low=table.right_low, high=table.right_high),
    }
    return drawn_bars(plots.dots(panels)), pairs(table) + pairs(right)


def damage_curves() -> tuple[Pairs, Pairs]:
    columns = {
        "kind": ["none", "jpeg"] * 2,
        "severity": [0, 20] * 2,
        "method": ["student", "student", "kd", "kd"],
    }
    table = values(4).assign(**columns, accuracy=lambda t: t["mean"])
    figure = plots.damage_curves(
        table.rename(columns={"low": "from", "high": "to"}), {"jpeg": "quality"}, "from", "to"
    )
    return drawn_bars(figure, 1), pairs(table)


def histogram_fits() -> tuple[Pairs, Pairs]:
    bins = pd.DataFrame(
        {"method": "kd", "bin_low": [90.0, 91.0], "bin_high": [91.0, 92.0], "count": [3, 4]}
    )
    fits = values(3).assign(method="kd", x=[90.0, 91.0, 92.0], one=1.0, two=lambda t: t["mean"])
    return drawn_bands(plots.histogram_fits(bins, fits, {"kd": 2})), pairs(fits)


def banded_curves() -> tuple[Pairs, Pairs]:
    table = values(4).assign(
        curve=["a", "a", "b", "b"], x=[1.0, 2.0, 1.0, 2.0], value=lambda t: t["mean"]
    )
    return drawn_bands(plots.banded_curves(table, "x", "y")), pairs(table)


def class_dots() -> tuple[Pairs, Pairs]:
    table = values(4).assign(
        **{"class": ["a", "b"] * 2},
        method=["student", "student", "kd", "kd"],
        value=lambda t: t["mean"],
    )
    return drawn_bars(plots.dots({"MSE": table}, "class", limits=(0, None))), pairs(table)


def method_dots() -> tuple[Pairs, Pairs]:
    table = of_methods(value=lambda t: t["mean"])
    return drawn_bars(plots.dots({"x": table}, lines={"printed": 70.0})), pairs(table)


def arm_differences() -> tuple[Pairs, Pairs]:
    table = values(3).assign(
        arm=["a", "b", "a"], method=["kd", "kd", "ig"], difference=lambda t: t["mean"]
    )
    return drawn_bars(plots.dots({"points": table}, "arm", value="difference")), pairs(table)


def forest() -> tuple[Pairs, Pairs]:
    table = (
        values(3)
        .assign(rows=["all", "all", "some"], measure=["Pearson", "Spearman", "Pearson"])
        .rename(columns={"mean": "r"})
    )
    return drawn_bars(plots.dots({"r": table}, "rows", "measure", "r", {"printed": -0.1})), pairs(
        table
    )


def grouped_bars() -> tuple[Pairs, Pairs]:
    table = values(4).assign(group=["s2", "s2", "s4", "s4"], bar=["no KD", "strong KD"] * 2)
    table = table.assign(value=table["mean"], label="accuracy (%)")
    other = values(4, 1).assign(group=table.group, bar=table.bar, value=lambda t: t["mean"])
    figure = bars.grouped_bars({"IG": table, "saliency": other}, {"IG": {"floor": 30.0}})
    return drawn_bars(figure, 1), pairs(table) + pairs(other)


CASES = (
    method_accuracy, paired_differences, search_means, search_curves, compression_curves, speedup_against_size, device_times,
    extrapolated_line, raw_and_balanced, two_readings, damage_curves, histogram_fits, banded_curves, class_dots, method_dots,
    arm_differences, forest, grouped_bars,
)  # fmt: skip
# figures that draw no interval
WITHOUT = {
    "picture_rows", "map_scalings", "learning_curves", "completeness", "softened", "accuracy_by_epoch", "search_surface",
    "null_spread", "stacked_histograms", "printed_and_recomputed", "cut_offs", "attention_rows", "logit_gaps", "figure1", "scatter",
}  # fmt: skip


def figures() -> dict[str, Callable]:
    """Every public function that gives a figure."""
    found = [
        f
        for module in (plots, literature, bars)
        for _, f in inspect.getmembers(module, inspect.isfunction)
    ]
    return {
        f.__name__: f
        for f in found
        if f.__annotations__.get("return") is Figure and not f.__name__.startswith("_")
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_intervals_drawn_are_those_of_the_table(case):
    found, wanted = (np.array(sorted(part)) for part in case())
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_figures_can_be_read_on_a_telephone(case):
    plots.style()
    case()
    for figure in map(plt.figure, plt.get_fignums()):
        assert figure.get_figwidth() <= plots.WIDTH
        figure.canvas.draw()
        shown = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
        assert min(text.get_fontsize() for text in shown) >= 9


# cases that draw with `dots`, in all its forms
DOTS = {
    "paired_differences",
    "two_readings",
    "class_dots",
    "method_dots",
    "arm_differences",
    "forest",
}


def test_every_figure_with_intervals_is_covered():
    covered = {"dots" if case.__name__ in DOTS else case.__name__ for case in CASES}
    assert covered | WITHOUT == set(figures())
    assert not covered & WITHOUT
    for name in WITHOUT:
        source = inspect.getsource(figures()[name])
        assert not any(call in source for call in DRAWS), (
            f"{name} draws intervals now: give it a case here"
        )
