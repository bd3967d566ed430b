"""Students under other conditions: which runs are made, and what the tables say of planted effects."""

import numpy as np
import pandas as pd
import pytest
from helpers import settings_of

from kdig import KdigError
from kdig.core.data import mislabelled
from kdig.study.tables import answers, conditions, evidence


@pytest.fixture
def small(elsewhere):
    return settings_of("12_conditions", pairs=["given>resnet8", "s7>s8"])


def planted(gains: dict[tuple, float], *factors: str, blocks: int = 3) -> pd.DataFrame:
    """Runs of which each arm has its gain, a block its own level, and a run a little noise."""
    draw = np.random.default_rng(0)
    rows = [
        dict(zip(factors, arm))
        | {"block": block, "arm": ", ".join(map(str, arm)), "seconds": 1.0}
        | {"accuracy": 60 + block + gain + draw.normal(0, 0.05)}
        for block in range(blocks)
        for arm, gain in gains.items()
    ]
    return pd.DataFrame(rows)


def test_an_arm_differs_in_what_it_is_named_for(small):
    surface = small.surface("abc", 0)
    assert surface[0.0, 0.0].method == "student"
    run = surface[0.9, 0.1]
    assert (run.method, run.signals.blend, run.probability) == ("ig", 0.9, 0.1)
    patience = small.patience("abc", 0)
    seen = patience["of the view", small.long_epochs, "map"]
    assert (seen.method, seen.signals.pairing, seen.signals.pairing_of("maps")) == (
        "kd_ig", "same_view", "static",
    )  # fmt: skip
    assert seen.recipe.epochs == small.long_epochs
    noise = small.noise("abc", 0)
    assert noise[0.4, 0.0].method == "student"
    assert noise[0.4, 0.5].label_noise == 0.4
    assert noise[0.0, 0.0].key == surface[0.0, 0.0].key
    pair = small.paired("s7>s8", "abc", 0)
    assert {run.network for run in pair.values()} == {"s8"}
    assert pair["s7>s8", "AT"].method == "at"


def test_every_arm_is_a_run_of_its_own_and_is_counted(small):
    for experiment in (small.surface, small.patience, small.noise):
        runs = experiment("abc", 0)
        assert len({run.key for run in runs.values()}) == len(runs)
    counted = {run.key for run in small.runs("abc")}
    assert {run.key for run in small.patience("abc", 1).values()} <= counted
    assert {run.key for run in small.paired("s7>s8", "unknown", 0).values()} <= counted


def test_wrong_labels_reach_training_and_not_the_test(small):
    run = small.noise("abc", 0)[0.4, 0.0]
    met = small.workspace.pictures(run)
    clean = small.workspace.pictures(small.noise("abc", 0)[0.0, 0.0])
    assert (met.training.labels != clean.training.labels).float().mean() == pytest.approx(0.4)
    assert met.training.labels.tolist() == mislabelled(clean.training, 0.4, 10).labels.tolist()
    assert met.scored.labels.tolist() == clean.scored.labels.tolist()
    assert met.pool.labels.tolist() == clean.pool.labels.tolist(), "signals are of the true class"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pairs": ["resnet8"]}, "'resnet8' is not teacher>student"),
        ({"pairs": ["resnet9>resnet8"]}, "choose two of"),
        ({"pairs": ["resnet8>given"]}, "the teacher may be 'given'"),
        ({"long_epochs": 12}, "long_epochs must be more than epochs, which is 12"),
        ({"noise_shares": [0.2, 0.4]}, "noise_shares must hold 0"),
        ({"blends": [0.0, 0.5]}, "blends"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(given, said, elsewhere):
    with pytest.raises(KdigError, match=said) as error:
        settings_of("12_conditions", **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.3, 0.3, "equal within the margin"), (0.1, 0.3, "equal within the margin"),
        (0.1, 0.5, "more"), (-2.0, -0.1, "less"), (-0.1, 0.5, "undecided"), (-9, 9, "undecided"),
    ],
)  # fmt: skip
def test_words_follow_the_interval(low, high, word):
    assert answers.word(low, high) == word


def test_surface_finds_a_harmful_blend():
    blends = (0.1, 0.5, 0.9)
    gains = {(0.0, 0.0): 0.0} | {(b, p): -10 * b * p for b in blends for p in (0.1, 0.5)}
    frame = planted(gains, "blend", "probability")
    table, facts = evidence.answered(frame, conditions.surface_contrasts(frame), "conditions")
    strongest = table.set_index("contrast").loc["strongest overlay - none"]
    assert strongest.difference == pytest.approx(-4.5, abs=0.2)
    assert strongest.word == "less"
    papers = table.set_index("contrast").loc["the paper's overlay - none"]
    assert papers.difference == pytest.approx(-0.5, abs=0.1), "blend 0.5 on a tenth"
    assert facts[3]["fact"] == "conditions_strongest overlay - none"
    other = conditions.surface_contrasts(frame[frame.blend != 0.5])
    assert [contrast.name for contrast in other] == [
        "all overlays - none", "weakest overlay - none", "strongest overlay - none",
    ]  # fmt: skip
    tests = conditions.surface_tests(frame)
    assert (tests[tests.effect.isin(["blend", "probability"])].p < 0.001).all()
    grid = conditions.surface_grid(frame)
    assert grid.loc[0.9, 0.5] == pytest.approx(-4.5, abs=0.2)
    said = conditions.surface_said(tests, grid)
    assert "blend, probability and blend:probability matter" in said
    flat = planted(dict.fromkeys(gains, 0.0), "blend", "probability")
    said = conditions.surface_said(conditions.surface_tests(flat), conditions.surface_grid(flat))
    assert "neither blend weight nor probability can be told to matter" in said


def test_pairs_are_compared_with_their_own_student():
    gains = {(pair, s): base + 2 * (s == "KD") for pair, base in (("a>b", 0), ("c>d", 20))
             for s in ("none", "KD", "AT", "IG")}  # fmt: skip
    frame = planted(gains, "pair", "signal")
    table, _ = evidence.answered(frame, conditions.pair_contrasts(frame), "conditions")
    assert table.difference.to_numpy() == pytest.approx([2, 0, 0, 2, 0, 0], abs=0.2)
    assert table.word.tolist()[::3] == ["more", "more"]
    (panel,) = conditions.pair_panel(table).values()
    assert panel.signal.tolist() == ["KD", "AT", "IG"] * 2
    said = conditions.said(table, "Pairs")
    assert said.startswith("Pairs, in percentage points. More: ")
    assert "a>b: KD +2.0" in said
    table["word"] = ["less", *["undecided"] * 5]
    assert conditions.said(table, "Pairs").endswith("); 5 of 6 undecided.")


def test_patience_tells_main_effects_from_their_interaction():
    def gain(targets: str, epochs: int, overlay: str) -> float:
        view, long = targets == "of the view", epochs == 24
        return 1.0 * view + 3.0 * long + 2.0 * view * long - 0.5 * (overlay == "map")

    arms = [(t, e, o) for t in ("stored", "of the view") for e in (12, 24) for o in ("none", "map")]
    frame = planted({arm: gain(*arm) for arm in arms}, "targets", "epochs", "overlay")
    table, _ = evidence.answered(frame, conditions.patience_contrasts(frame), "conditions")
    assert table.difference.to_numpy() == pytest.approx([2.0, 4.0, -0.5, 2.0], abs=0.1)
    assert table.contrast[1] == "24 epochs - 12"


def test_noise_asks_how_the_gain_grows_and_which_alpha_is_best():
    gains = {(0.0, 0.0): 5.0, (0.0, 0.5): 5.0, (0.0, 0.1): 8.0,
             (0.4, 0.0): 0.0, (0.4, 0.5): 4.0, (0.4, 0.1): 4.02}  # fmt: skip
    frame = planted(gains, "noise", "alpha")
    table, _ = evidence.answered(frame, conditions.noise_contrasts(frame), "conditions")
    assert table.difference.to_numpy() == pytest.approx([0, 4, 4], abs=0.15)
    assert table.contrast[2] == "growth of that gain from 0 to 40 % wrong"
    best = conditions.best_alpha(frame)
    assert best.best_alpha[0] == 0.1
    assert best.not_told_from_it[0] == "none"
    assert {best.best_alpha[1], float(best.not_told_from_it[1])} == {0.1, 0.5}
    assert conditions.best_said(best).startswith("The highest mean has alpha 0.1 at 0 % wrong")
    curves = conditions.noise_curves(frame)
    assert curves.curve.nunique() == 2
    assert (curves.low < curves.value).all()
