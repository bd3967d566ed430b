"""Sentences that fit any table: what they say is what the rows say, whatever the rows are."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdig.study.tables import sentences

VALUES = st.lists(st.floats(-50, 50).map(lambda x: round(x, 2)), min_size=1, max_size=9)


def table(values, width=1.0):
    """Rows r0, r1, ... with an interval around each value."""
    rows = pd.DataFrame({"name": [f"r{i}" for i in range(len(values))], "value": values})
    return rows.assign(low=rows.value - width, high=rows.value + width)


def counts(text):
    """The whole numbers before the first name of a row."""
    return [int(found) for found in re.findall(r"(?<![\d.])\d+(?![\d.])", text)]


@given(VALUES)
def test_extremes_are_the_least_and_the_greatest(values):
    said = sentences.extremes(table(values), "value", "name", "Mean", "%", 2)
    assert f"{min(values):,.2f} %" in said
    assert f"{max(values):,.2f} %" in said
    if min(values) < max(values):
        assert said.index(f"(r{values.index(min(values))})") < said.index(
            f"(r{values.index(max(values))})"
        )


@given(VALUES, st.floats(0, 5))
def test_agreement_counts_what_differs(values, within):
    rows = table(values).assign(printed=np.arange(len(values), dtype=float))
    wrong = sum(abs(v - i) > within + 1e-9 for i, v in enumerate(values))
    said = sentences.agreement(rows, "value", "printed", "name", within)
    assert said.startswith(f"{wrong} of {len(values)}" if wrong else f"All {len(values)} values")
    if wrong:
        worst = max(range(len(values)), key=lambda i: abs(values[i] - i))
        assert f"r{worst} ({values[worst]:,.2f} beside" in said


@given(VALUES)
def test_intervals_are_counted_on_their_side(values):
    said = sentences.intervals(table(values), "value", "name", "points")
    above, below = sum(v > 1 for v in values), sum(v < -1 for v in values)
    far = max(range(len(values)), key=lambda i: abs(values[i]))
    assert f"r{far}, {values[far]:+.2f} points" in said
    assert (sentences._lies(above, "above 0") in said) == (above > 0)
    assert (sentences._lies(below, "below 0") in said) == (below > 0)
    rest = len(values) - above - below
    assert (f"; {rest} cannot be told from it" in said) == (0 < rest < len(values))
    assert ("every interval holds it" in said) == (rest == len(values))


@given(VALUES)
def test_a_value_whose_interval_holds_zero_cannot_be_told(values):
    row = table(values).iloc[0]
    said = sentences.estimate(row, "value", "The effect")
    assert ("cannot be told from zero" in said) == (abs(round(values[0], 2)) <= 1)
    assert f"The effect is {values[0]:.2f} (95 % interval" in said


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_p_values_below_the_level_are_counted(values):
    rows = table(values).rename(columns={"value": "p"})
    said, found = sentences.small_p(rows, "p", "name"), sum(p < 0.05 for p in values)
    assert said.startswith(f"{found} of {len(values)}" if found else f"None of {len(values)}")
    assert ("does not show that there is no difference" in said) == (not found)
    assert f"(r{values.index(min(values))})" in said


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_rows_are_counted_with_their_verb(flags):
    said = sentences.counted(pd.Series(flags), "rows", "follows|follow from it")
    assert counts(said)[0] == (sum(flags) or len(flags))
    assert said.startswith("None") == (not any(flags))
    assert ("follows" in said) == (sum(flags) == 1)


@given(st.lists(st.sampled_from(["supported", "undecided"]), max_size=9))
def test_words_are_counted(words):
    said = sentences.tallied(pd.Series(words, dtype=object), "predictions")
    assert counts(said)[0] == len(words)
    for word in set(words):
        assert f"{words.count(word)} {word}" in said


def test_what_is_not_known_is_not_said():
    unknown = table([1.0, 2.0]).assign(value=np.nan, low=np.nan)
    assert sentences.extremes(unknown, "value", "name", "Mean") == "Mean: 0 values."
    assert sentences.intervals(unknown, "value", "name") == "0 differences have an interval."
    assert sentences.small_p(unknown, "value", "name") == "0 comparisons have a p value."
    assert sentences.agreement(unknown, "value", "low", "name", 1).startswith("0 values can")
    some = table([3.0, 5.0, 4.0]).assign(value=[3.0, np.nan, 4.0])
    assert sentences.extremes(some, "value", "name", "M", digits=0) == "M: from 3 (r0) to 4 (r2)."


def test_names_are_the_papers_and_long_lists_end():
    row = pd.Series({"method": "kd_ig", "level": 2})
    assert sentences.name_of(row, "{method} at level {level}") == "KD & IG at level 2"
    assert sentences.name_of(row, "method") == "KD & IG"
    assert sentences.listed(list("abcdef")) == "a, b, c, d and 2 more"
    assert sentences.listed([]) == "none"
    assert sentences.listed(["KD, seed 1", "IG, seed 2"]) == "KD, seed 1; IG, seed 2"


@pytest.mark.parametrize(
    ("p", "said"), [(0.0001, "p < 0.001"), (0.034, "p = 0.034"), (1.0, "p = 1")]
)
def test_p_values_have_the_digits_that_count(p, said):
    assert sentences.probability(p) == said
