"""Simulators say what theory says; figures with sliders have their twin everywhere, and their
sliders only where somebody can move them.
"""

import re
from typing import ClassVar

import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from kdig.measure import chance, lessons
from kdig.study import play
from kdig.study.outputs import Outputs


@pytest.fixture
def axis():
    figure, axis = plt.subplots()
    yield axis
    plt.close(figure)


def numbers(sentence):
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?", sentence)]


def test_the_highest_of_ten_lies_as_far_up_as_for_a_normal_distribution(axis):
    runs, above = numbers(chance.best_of(axis, runs=10, sd=0.4))
    assert runs == 10
    # the mean of the highest of ten standard normal numbers is 1.539 (order statistics)
    assert above == pytest.approx(0.4 * 1.539, abs=0.02)


@pytest.mark.parametrize("runs", [5, 10])
def test_power_is_that_of_the_t_test(axis, runs):
    found, _, measured = numbers(chance.power(axis, effect=0.4, runs=runs, sd=0.4))
    shift, free = (runs / 2) ** 0.5, 2 * runs - 2
    limit = stats.t.ppf(0.975, free)
    wanted = stats.nct.sf(limit, free, shift) + stats.nct.cdf(-limit, free, shift)
    assert found / 100 == pytest.approx(wanted, abs=0.04)
    assert measured > 0.4, "what is found is overstated"


def test_without_a_difference_one_experiment_in_twenty_finds_one(axis):
    assert numbers(chance.power(axis, effect=0.0, runs=10))[0] == pytest.approx(5, abs=1.5)


def test_false_findings_grow_with_comparisons_and_holm_keeps_five_percent(axis):
    comparisons, found, holm = numbers(
        chance.false_findings(axis, comparisons=14).replace("Holm's correction it is", "")
    )
    assert comparisons == 14
    assert found / 100 == pytest.approx(1 - 0.95**14, abs=0.03)
    assert holm == pytest.approx(5, abs=1.5)


def test_a_dropped_first_pass_brings_the_mean_to_the_median(axis):
    cold = numbers(chance.clock(axis, passes=10, dropped=0, start=130))
    warm = numbers(chance.clock(axis, passes=10, dropped=1, start=130))
    assert cold[0] > 20
    assert warm[0] == pytest.approx(10, abs=1.1)
    assert abs(cold[1] - 10) <= 1, "the median bears one slow pass"
    assert numbers(chance.clock(axis, passes=3, dropped=9))[0] < 15, "one pass is always counted"


def test_exchanged_targets_harm_where_they_count(axis):
    _, own, other = numbers(chance.pairing(axis, alpha=0.5))
    _, small_own, small_other = numbers(chance.pairing(axis, alpha=0.01))
    assert own > other + 15
    assert abs(small_own - small_other) <= 1
    assert len(set(numbers(chance.pairing(axis, alpha=0))[1:])) == 1, "nothing is exchanged"


def test_a_target_is_shared_between_label_and_teacher(axis):
    import torch

    said = lessons.mixed_target(axis, 1, torch.tensor([0.25, 0.5, 0.25]), alpha=0.5)
    assert numbers(said) == [1, 25.0]
    tops = np.array([bar.get_y() + bar.get_height() for bar in axis.containers[1]])
    assert tops.tolist() == pytest.approx([0.125, 0.75, 0.125])


def drawn(axis, a, b=1):
    axis.plot([0, a], [0, b], label="line")
    axis.set(xlabel="x")
    return f"a is {a}"


def test_a_twin_has_a_panel_and_a_sentence_for_each_case():
    figure, said = play.twin(drawn, [{"a": 1}, {"a": 2, "b": 3}])
    assert said == ["a is 1", "a is 2"]
    assert [axis.get_title() for axis in figure.axes] == ["a = 1", "a = 2, b = 3"]
    assert len(figure.legends) == 1
    plt.close(figure)


def test_sliders_are_shown_only_where_they_can_be_moved(tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr(play, "_sliders", lambda panel, sliders: moved.append(sliders))
    for live in (False, True):
        monkeypatch.setattr(play, "live", lambda live=live: live)
        play.play(Outputs(tmp_path), drawn, "00_x", "A line.", [{"a": 1}], a=(0, 3))
        assert (tmp_path / "figures" / "00_x.png").is_file()
        assert moved == [{"a": (0, 3)}] * live


def test_a_batch_run_is_not_live(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert not play.live(), "there is no notebook at all"

    class Shell:
        user_ns: ClassVar[dict[str, str]] = {}

    monkeypatch.setattr(play, "get_ipython", Shell)
    assert not play.live(), "papermill"
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/00_primer.ipynb")
    assert play.live(), "JupyterLab"
    monkeypatch.delenv("JPY_SESSION_NAME")
    monkeypatch.setattr(Shell, "user_ns", {"__vsc_ipynb_file__": "x"})
    assert play.live(), "VS Code"


def test_a_moved_slider_draws_anew_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr("ipywidgets.interact", lambda draw, **sliders: draw(a=3))
    monkeypatch.setattr(plt, "show", lambda: None)
    play._sliders(drawn, {"a": (0, 5)})
    assert capsys.readouterr().out == "a is 3\n"
