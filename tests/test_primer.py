"""What the primer calls: its tables by hand, and what its figures show."""

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn

from kdig.measure import lessons
from kdig.study.tables import primer


class Fixed(nn.Module):
    """Names each image by its first pixel."""

    def forward(self, images):
        return nn.functional.one_hot(images[:, 0, 0, 0].long(), 4).float()


def named(*digits):
    return torch.tensor(digits).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def test_recall_is_of_one_digit_and_accuracy_of_all():
    answers, labels = named(3, 0, 3, 1, 3), torch.tensor([3, 3, 3, 1, 0])
    found = primer.scores({"a": [Fixed()], "b": [Fixed(), Fixed()]}, answers, labels, digit=3)
    assert found["way"].tolist() == ["a", "b", "b"]
    assert found["recall of 3 (%)"].tolist() == pytest.approx([200 / 3] * 3)
    assert found["all digits (%)"].tolist() == pytest.approx([60] * 3)


def test_completeness_is_exact_for_a_straight_line_and_improves_for_a_curve():
    torch.manual_seed(0)
    line = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    images, labels = torch.rand(9, 3, 2, 2), torch.arange(9) % 4
    table = primer.completeness(line, images, labels, steps=[1, 50]).set_index(["curve", "x"]).value
    assert table["F: logit"].max() < 1e-2
    assert table["F: probability", 50] < table["F: probability", 1] / 10
    assert table["F: probability", 1] > 0.01


def test_quartiles_enclose_the_median():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    table = primer.completeness(net, torch.rand(40, 3, 2, 2), torch.arange(40) % 4, steps=[2, 5])
    assert (table.low < table.value).all()
    assert (table.value < table.high).all()


def test_soft_targets_show_a_bar_for_each_class_and_temperature():
    probabilities = {name: torch.tensor([0.2, 0.8]) for name in ("T = 1", "T = 4", "T = 8")}
    figure = lessons.soft_targets(torch.rand(3, 8, 8), "7", probabilities)
    left, wide = figure.axes
    assert left.get_title() == "label 7"
    assert [round(bar.get_height(), 1) for bars in wide.containers for bar in bars] == [
        0.2,
        0.8,
    ] * 3
    plt.close(figure)


@pytest.mark.parametrize("measures", [["recall"], ["recall", "accuracy"]])
def test_every_student_is_a_dot(measures):
    table = pd.DataFrame(
        {"way": ["a", "a", "b"], "recall": [0.0, 50.0, 100.0], "accuracy": [10.0, 20.0, 30.0]}
    )
    figure = lessons.student_dots(table, measures)
    (axis,) = figure.axes
    drawn = [x for dots in axis.collections for x in dots.get_offsets()[:, 0]]
    assert sorted(drawn) == sorted(table[measures].to_numpy().ravel())
    assert bool(axis.get_legend()) == (len(measures) > 1)
    plt.close(figure)


def test_saturation_and_path_draw_what_they_are_given():
    places = torch.linspace(0, 1, 5)
    figure = lessons.saturation((places, places**2, 2 * places), (places, places, places))
    assert [line.get_ydata().tolist() for line in figure.axes[0].lines] == [
        (places**2).tolist(),
        (2 * places).tolist(),
    ]
    plt.close(figure)
    figure = lessons.path(torch.rand(5, 3, 2, 2), [0, 4], places, {"F": places, "G": -places})
    assert [axis.get_title() for axis in figure.axes[:2]] == ["0.0", "1.0"]
    assert [axis.get_ylabel() for axis in figure.axes[2:]] == ["F", "G"]
    plt.close(figure)


def test_completeness_is_drawn_on_two_logarithmic_axes():
    table = pd.DataFrame({"curve": "logit", "x": [1, 10], "value": 1.0, "low": 0.5, "high": 2.0})
    figure = lessons.completeness(table)
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("log", "log")
    plt.close(figure)


def test_signed_maps_have_zero_in_the_middle_of_their_scale():
    figure = lessons.signed_maps(torch.rand(3, 2, 2), {"black": torch.tensor([[1.0, -3.0]])})
    assert figure.axes[1].images[0].get_clim() == (-3.0, 3.0)
    plt.close(figure)
