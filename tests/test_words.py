"""Sentences made from tables: each says up, down and cannot be told where it should."""

import pandas as pd
import pytest
import torch

from kdig.study.tables import words


def rows(**ends):
    """Method -> (low, high), the difference in the middle."""
    return pd.DataFrame(
        [
            {"method": m, "difference": (low + high) / 2, "low": low, "high": high}
            for m, (low, high) in ends.items()
        ]
    )


def test_names_are_joined_as_one_says_them():
    assert [words.joined("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_differences_are_above_below_or_cannot_be_told():
    table = rows(kd=(1, 3), ig=(-4, -2), kd_ig=(-1, 9))
    assert words.compared(table, "the student") == (
        "KD (+2.00 percentage points, +1.00 to +3.00) lies above the student."
        " IG (-3.00 percentage points, -4.00 to -2.00) lies below the student."
        " 1 other cannot be told from it: its interval holds 0."
    )
    assert words.finding(table, "the student") == (
        "Of 3 compared with the student: 1 above, 1 below and 1 that cannot be told from it"
    )
    assert words.finding(table[:2], "it") == "Of 2 compared with it: 1 above and 1 below"


def test_where_nothing_can_be_told_the_largest_difference_is_named():
    table = rows(kd=(-1, 2), ig=(-9, 1))
    assert words.compared(table, "the student") == (
        "None of the 2 can be told from the student: every 95 % interval holds 0."
        " The largest difference is that of IG (-4.00 percentage points, -9.00 to +1.00)."
    )
    assert words.finding(table, "the student").startswith("None of 2")
    assert words.compared(table[:0], "the student") == "There are 0 differences to the student."
    assert words.compared(table[:1], "it").startswith("KD cannot be told from it: the 95 %")


def test_of_many_differences_three_are_named():
    table = rows(kd=(1, 3), ig=(2, 4), at=(3, 5), kd_ig=(4, 6), kd_at=(5, 7))
    said = words.compared(table, "it")
    assert said.startswith("KD & AT (+6.00")
    assert "AT (+4.00 percentage points, +3.00 to +5.00) and 2 more lie above it." in said
    assert "cannot" not in said
    unclear = pd.concat([table, rows(student=(-1, 1), ig_at=(-1, 2))])
    assert "2 others cannot be told from it: their intervals hold 0." in words.compared(
        unclear, "it"
    )


def test_an_interval_that_is_not_known_tells_nothing():
    table = rows(kd=(1, 3), ig=(2, 4)).assign(low=float("nan"), high=float("nan"))
    assert words.compared(table, "it").startswith("None of the 2")


def test_first_choice_at_two_temperatures():
    soft = {"T = 1": torch.tensor([0.1, 0.9]), "T = 4": torch.tensor([0.45, 0.55])}
    assert words.sharpness(soft, ["cat", "dog"]) == (
        "At T = 1 the first choice, dog, has 90.0 % of the probability and the other 1 classes share"
        " the rest; at T = 4 it has 55.0 %."
    )


@pytest.mark.parametrize(("scale", "word"), [(0.01, "can be"), (1.0, "cannot be")])
def test_completeness_says_whether_one_image_can_be_relied_on(scale, word):
    said = words.completeness(scale * torch.linspace(-1, 1, 101), 50)
    assert f"image's sum {word} relied on" in said
    assert ("less than 0.5 % of" in said) == (scale < 1)
    assert ("more than 96 %" in said) == (scale == 1)


def test_rates_are_said():
    said = words.belongs({"static": 98.0, "released": 11.2}, 10)
    assert "static: 98.0 % and released: 11.2 %; chance 10.0 %" in said


@pytest.mark.parametrize(
    ("p", "start"), [(0.4, "No winner"), (0.001, "It is more than luck for p")]
)
def test_winners_against_luck(p, start):
    row = {"search": "S11: p", "cells": 6, "above_mean": 1.0, "expected": 0.9, "p": p}
    said = words.luck(pd.DataFrame([row]))
    assert said.startswith(start)
    assert "1.00 points above the mean of 6 settings, where equal settings give 0.90" in said
    assert ("p < 0.01" in said) == (p < 0.01)


def test_best_epoch_adds_nothing_or_something():
    table = pd.DataFrame({"method": ["kd", "ig"], "mean": [0.0, 0.0]})
    assert "adds 0.0 points" in words.best_epoch(table, 2)
    assert "up to 0.50 points (mean of IG)" in words.best_epoch(table.assign(mean=[0.1, 0.5]), 9)


def test_an_effect_is_one_where_its_interval_leaves_out_zero():
    table = rows(kd=(1, 3), ig=(-4, -2), at=(-1, 3))
    said = [words.effect(row, "X") for _, row in table.iterrows()]
    assert said[0] == "X raises the accuracy: +2.00 percentage points (+1.00 to +3.00)."
    assert said[1].startswith("X lowers the accuracy: -3.00")
    assert said[2].startswith("X has an effect that cannot be told from zero: +1.00")


@pytest.mark.parametrize(
    ("middle", "last", "said"),
    [
        (
            [-5, -6, -5, -6],
            [-9, -10, -11, -10],
            "Compression costs accuracy: the mean falls from 50.0",
        ),
        (
            [9, 10, 11, 10],
            [-9, -10, -11, -10],
            "the mean rises from 50.0 % at 2.2x to 60.0 % at 4.12x",
        ),
        (
            [1, 2, 1, 2],
            [9, 10, 11, 10],
            "the mean rises from 50.0 % at 2.2x to 60.0 % at 1122x (+10.0",
        ),
        ([-9, 10, -11, 10], [-9, 10, -11, 11], "It cannot be told whether"),
    ],
)
def test_whether_compression_costs_accuracy(middle, last, said):
    pairs = [("kd", 0), ("kd", 1), ("ig", 0), ("ig", 1)]
    rows = [
        {"method": m, "seed": s, "level": level, "accuracy": 50 + add}
        for (m, s), *more in zip(pairs, middle, last)
        for level, add in zip((1, 2, 8), (0, *more))
    ]
    found = words.smaller(pd.DataFrame(rows), {0: 1.0, 1: 2.2, 2: 4.12, 8: 1121.7}, 4)
    assert said in found
    assert ("After 4 epochs" in found) == ("rises" in found)


@pytest.mark.parametrize(("printed", "where"), [(140, "far off"), (20, "off"), (15, "on")])
def test_the_teachers_time_against_the_line(printed, where):
    table = pd.DataFrame({"predicted_ms": [14.6, 15.2], "low": [13, 14], "high": [16, 17.2]})
    said = words.on_the_line(table.assign(printed_ms=printed))
    assert f"is {where} the students' line" in said
    assert "predict 15 to 15 ms (95 % intervals 13 to 17)" in said


def test_speedups_of_one_student():
    table = pd.DataFrame(
        {"level": [1, 2], "way": "warm", "factor": [2.2, 4.12], "mac_ratio": 1.5, "speedup": 1.4}
    )
    said = words.sped_up(table.assign(low=1.3, high=1.5))
    assert "4.12 times smaller needs 1.5 times fewer" in said
    assert "1.4 (warm; 1.3 to 1.5)" in said


def test_first_by_two_readings():
    table = pd.DataFrame({"method": ["kd", "ig"], "raw": [80.0, 79.0], "balanced": [70.0, 71.0]})
    assert words.readings(table) == (
        "IG is the highest by balanced accuracy (71.0 %), and number 2 of 2 by raw accuracy,"
        " where KD leads (80.0 %)."
    )
    assert words.readings(table.assign(balanced=[70, 60])).startswith("KD is the highest in both")


def test_maps_against_a_flat_one():
    table = pd.DataFrame({"method": ["student", "at", "flat map"], "mean": [0.03, 0.01, 0.02]})
    assert words.against_flat(table) == (
        "A flat map has an MSE of 0.0200. Nearer to the teacher's than that: AT (0.0100)."
        " Not nearer: Student (0.0300)."
    )


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ({"at": (1, 2), "kd_at": (1, 3)}, "All 2 methods with attention are more concentrated"),
        ({"at": (-2, -1), "kd_at": (-3, -1)}, "the reverse of what the paper says"),
        (
            {"at": (-2, 1), "kd_at": (1, 3)},
            "1 are more concentrated than the teacher, 0 less, and 1",
        ),
    ],
)
def test_concentration_of_the_methods_with_attention(ends, said):
    table = rows(student=(5, 6), **ends).rename(columns={"difference": "gain"})
    assert said in words.concentrated(table)


def test_gaps_against_the_limit_of_a_long_training():
    table = pd.DataFrame({"pictures": "training", "gap_mean": [1.6, 1.7], "predicted_gap": 6.5})
    assert "does not speak against it" in words.reaches(table, 4)
    assert words.reaches(table.assign(gap_mean=[6.4, 1.7]), 4).startswith("1 of 2 arms")


def test_two_normals_and_the_highest_run():
    table = pd.DataFrame({"method": ["kd", "kd_ig"], "p_holm": [0.3, 0.03]})
    assert words.two_kinds(table) == (
        "Two normals fit better than one for KD & IG (p = 0.030), and for no other of 2."
    )
    assert words.two_kinds(table[:1]).startswith("No method's runs ask for two normals")
    best = pd.DataFrame({"curve": "released runs", "x": [3, 10], "value": [0.3, 0.6]})
    assert words.highest(best).endswith("by 0.60 points for released runs.")


@pytest.mark.parametrize(("word", "end"), [("supported", "Supported."), ("", "predicted.")])
def test_a_contrast_is_set_beside_its_prediction(word, end):
    row = {"contrast": "a - b", "value": 1.0, "low": 0.5, "high": 1.5, "predicted": "above"}
    said = words.prediction(pd.Series({**row, "word": word, "outcome": "kl"}))
    assert said.startswith("a minus b: +1.00 nats (+0.50 to +1.50).")
    assert said.endswith(end)
    assert ("above the margin" in said) == bool(word)


def test_the_scope_is_that_of_the_profile():
    assert words.scope("digits, 10x10", "few images").endswith("paper's results: few images.")
    assert "decides no claim" not in words.scope("CIFAR-10 (exact), 32x32", "")
