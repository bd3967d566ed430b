"""Attributions beside each other, maps on the fly, and ways to place few gradients."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import EVIDENCE, settings_of
from torch import nn

from kdig import KdigError
from kdig.core.attribution import attribution_map, integrated_gradients
from kdig.core.augment import overlay
from kdig.core.networks import build
from kdig.core.signals import Teacher
from kdig.measure import steps
from kdig.study.outputs import Outputs
from kdig.study.tables import answers, beyond, evidence


def test_levels_are_those_of_the_overlay():
    images, maps, other = torch.rand(4, 3, 6, 6), torch.rand(4, 6, 6), torch.rand(4, 6, 6)
    ones = torch.ones(4)
    by_hand = 255 * (overlay(images, maps, ones) - overlay(images, other, ones)).abs()
    assert torch.allclose(steps.overlay_levels(maps, other), by_hand[:, 0], atol=1e-3)
    found = steps.judged(maps, other)
    assert found["levels"].tolist() == pytest.approx(by_hand.mean((1, 2, 3)).tolist(), rel=1e-3)
    assert (steps.judged(maps, 2 * maps)["equal"] == 100).all(), "a map is scaled first"
    assert (found["equal"] < 20).all()


def test_places_are_even_where_the_score_changes_evenly():
    scores = torch.linspace(0, 1, 9)[None]
    places, weights = steps.placed(scores, 4)
    assert places[0].tolist() == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert weights[0].tolist() == pytest.approx([0.25] * 4)


def test_places_are_dense_where_the_score_changes():
    scores = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0], [0.0, -1.0, -1.0, -1.0, -1.0]])
    places, weights = steps.placed(scores, 40)
    assert (places[0] > 0.75).double().mean() == pytest.approx(0.625, abs=0.03)
    assert (places[1] < 0.25).double().mean() == pytest.approx(0.625, abs=0.03)
    assert weights.sum(1).tolist() == pytest.approx([1.0, 1.0])
    # the rule integrates what it should: x^2 from 0 to 1
    assert (places**2 * weights).sum(1).tolist() == pytest.approx([1 / 3] * 2, abs=2e-3)


class Kinked(nn.Module):
    """A score whose gradient changes at one place of the path only."""

    def forward(self, images):
        lit = torch.relu(images.flatten(1).sum(1, keepdim=True) - 6.0)
        return torch.cat([lit, 0 * lit], 1)


def test_fixed_nodes_suit_the_images_that_they_are_fitted_on():
    model, images = Kinked().eval(), torch.full((8, 3, 2, 2), 1.0)
    images *= torch.linspace(0.98, 1, 8)[:, None, None, None]
    labels, zero = torch.zeros(8, dtype=torch.long), torch.zeros(1, 3, 1, 1)
    nodes = steps.fitted(model, images, labels, zero, 2)
    assert nodes[0].shape[1] <= 2
    few = steps.map_at(model, images, labels, zero, tuple(v.expand(8, -1) for v in nodes))
    exact = attribution_map(integrated_gradients(model, images, labels, zero, steps=400))
    assert (few - exact).abs().max() < 0.02 * exact.max()


def test_every_scheme_comes_to_the_same_map_with_many_gradients():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 36, 3))
    model, images = net.eval().requires_grad_(False), torch.rand(12, 3, 8, 8)
    labels, zero = torch.arange(12) % 3, torch.zeros(1, 3, 1, 1)
    exact = attribution_map(integrated_gradients(model, images, labels, zero, steps=200))
    found = steps.schemes(model, images, labels, zero, (images, labels))
    assert next(iter(found)) == beyond.BASE
    for name, nodes in found.items():
        maps = steps.map_at(model, images, labels, zero, nodes(40))
        assert steps.judged(maps, exact)["levels"].max() < 0.5, name


def test_a_look_along_the_path_is_counted():
    images = torch.rand(2, 3, 4, 4)
    found = steps.schemes(
        Kinked().eval(),
        images,
        torch.zeros(2, dtype=torch.long),
        torch.zeros(1, 3, 1, 1),
        (images, 0),
    )
    assert found["placed by forward passes"](20)[0].shape == (2, 15)
    assert found["midpoint"](20)[0].shape == (2, 20)


def schemes_frame(factor: float) -> pd.DataFrame:
    """Errors that fall with the number of gradients, one scheme `factor` times better."""
    draw, rows = np.random.default_rng(0), []
    for name, part in ((beyond.BASE, 1.0), ("other", factor)):
        for gradients in (5, 10, 20):
            noise = draw.lognormal(0, 0.1, 50)
            rows += [
                {
                    "scheme": name,
                    "gradients": gradients,
                    "image": i,
                    "levels": 14 * e / gradients / part,
                }
                for i, e in enumerate(noise)
            ]
    return pd.DataFrame(rows).assign(equal=50.0)


@pytest.mark.parametrize(
    ("factor", "word", "said"),
    [
        (3.0, "twice fewer", "Twice fewer gradients are enough with other"),
        (1.0, "less than twice", "No scheme gets by"),
        (0.5, "less than twice", "No scheme gets by"),
        (2.0, "undecided", "No scheme is shown"),
    ],
)
def test_a_planted_saving_is_found(factor, word, said):
    table, facts = beyond.equal_maps(schemes_frame(factor), 20)
    row = table.iloc[0]
    assert row.times_fewer == pytest.approx(factor, rel=0.07)
    assert row.low < factor < row.high
    assert row.word == word
    assert facts[0]["n"] == 50
    assert beyond.equal_said(table, 20).startswith(said)
    curves = beyond.steps_curves(beyond.steps_table(schemes_frame(factor)))
    assert set(curves.curve) == {beyond.BASE, "other"}
    assert (curves.low < curves.value).all()


@pytest.fixture
def small(elsewhere):
    return settings_of(
        "12_beyond", explained_images=20, seeds=[0, 1], image_size=8, gradients=[6, 10],
        reference_steps=60, fitted_images=12, fly_steps=[2, 30], steps=10,
    )  # fmt: skip


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Teacher(build("s8", 10, 0.25), (0.0,) * 3, (1.0,) * 3, network="s8", width=0.25)


def test_fewer_steps_are_measured_once(small, network, monkeypatch):
    found = small.fewer(network)
    assert found.groupby(["scheme", "gradients"]).size().eq(20).all()
    assert found.scheme.nunique() == 4

    def refused(*given):
        raise AssertionError("it is measured again")

    monkeypatch.setattr(type(small), "_placed", refused)
    pd.testing.assert_frame_equal(small.fewer(network), found)


def test_more_steps_on_the_fly_come_nearer_to_the_view(small, network):
    levels = small.on_the_fly(network)
    assert list(levels) == ["precomputed, 10", "on the fly, 2", "on the fly, 30", "on the fly, 10"]
    means = {name: values.mean() for name, values in levels.items()}
    assert means["on the fly, 30"] < means["precomputed, 10"]
    table, facts = beyond.fly(levels)
    assert len(facts) == 3
    assert "levels of 255" in beyond.fly_said(table)


def test_agreement_has_a_floor(small, network):
    own = small.agreement(network, "integrated_gradients", "integrated_gradients", "own")
    assert own.tolist() == pytest.approx([1.0] * 20)
    floor = small.agreement(network, "integrated_gradients", "integrated_gradients", "floor")
    assert floor.mean() < 0.95
    names = ["integrated_gradients", "input_x_gradient", "random_map"]
    values = {"own": np.linspace(0.6, 0.8, 20), "floor": np.full(20, 0.3)}
    table = beyond.methods(names, 10, lambda name: 1.0, lambda name, kind: values[kind])
    assert table.gradients.tolist() == [10, 1, 0]
    assert "Not told from another image's map: none of them" in beyond.methods_said(table)
    (panel,) = beyond.method_panel(table).values()
    assert set(panel.maps) == {"of the same image", "of another image (floor)"}
    far = beyond.methods(names, 10, lambda name: 1.0, lambda name, kind: values["own"])
    assert "input_x_gradient and random_map" in beyond.methods_said(far)


def test_a_cost_is_taken_once(small, network):
    first = small.costs(network, "saliency", 1)
    assert first > 0
    assert small.costs(network, "saliency", 1) == first


def test_arms_differ_in_what_is_laid_over_the_images(small):
    arms = small.arms("abc", 0)
    assert len({run.key for run in arms.values()}) == len(arms) == 13
    assert arms["none"].method == "student"
    assert arms["saliency"].signals.attribution == "saliency"
    assert arms["IG on the fly, 2"].signals.pairing == "same_view"
    assert arms["IG on the fly, 2"].signals.steps == 2
    assert arms["grey"].signals.overlay == "grey"
    assert settings_of("12_beyond", seeds=[]).runs("abc") == []


def test_arms_of_the_demo_are_those_of_the_released_code(elsewhere):
    other = {run.key for run in settings_of("09_released_code").overlaid("abc")}
    arms = settings_of("12_beyond").arms("abc", 0)
    assert {arms[n].key for n in ("integrated_gradients", "other image", "grey")} <= other


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attributions": ["saliency", "grad_cam"]}, "must hold 'integrated_gradients'"),
        ({"attributions": ["integrated_gradients", "ig"]}, "attributions: unknown 'ig'"),
        ({"gradients": [2, 10]}, "gradients"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(given, said, elsewhere):
    with pytest.raises(KdigError, match=said):
        settings_of("12_beyond", **given)


def test_contrasts_find_what_is_planted():
    names = ["integrated_gradients", "saliency", "random_map"]
    gains = dict(zip(["none", *names, "other image", "grey"], (0, 3, 3, 1, 0, -1)))
    draw = np.random.default_rng(0)
    rows = [
        {"block": b, "arm": arm, "accuracy": 60 + b + gain + draw.normal(0, 0.05), "seconds": 1.0}
        for b in range(3)
        for arm, gain in gains.items()
    ]
    table, facts = evidence.answered(pd.DataFrame(rows), beyond.overlay_contrasts(names), "beyond")
    found = table.set_index("contrast").difference
    assert found["saliency - no overlay"] == pytest.approx(3, abs=0.15)
    assert found["maps of the image - another image's IG map"] == pytest.approx(3, abs=0.15)
    assert found["maps of the image - grey"] == pytest.approx(4, abs=0.15)
    assert found["IG - random_map"] == pytest.approx(2, abs=0.15)
    assert len({fact["fact"] for fact in facts}) == len(facts)
    assert "3 of 3 intervals leave out 0" in beyond.overlay_said(table)
    assert "+3.0 (+2." in beyond.overlay_said(table)
    (panel,) = beyond.overlay_panel(table).values()
    assert panel.arm.tolist() == [*names, "another image's IG map", "grey"]
    assert panel.overlay.eq("control").tolist() == [False, False, True, True, True]
    assert panel.set_index("arm").value["grey"] == pytest.approx(-1, abs=0.15)
    assert isinstance(beyond.overlay_contrasts(names)[0], evidence.Contrast)


def test_questions_beyond_the_paper_are_answered_by_their_intervals():
    rows = [
        ("beyond_saliency - no overlay", 1.0, 0.5, 1.5, "12_overlays"),
        ("beyond_IG - grey", 0.0, -0.2, 0.3, "12_overlays"),
        ("beyond_fly_2", -2.0, -3.0, -1.0, "12_fly"),
        ("beyond_steps_midpoint", 1.3, 1.2, 1.4, "12_fewer"),
        ("beyond_steps_placed", 2.3, 1.9, 2.7, "12_fewer"),
        ("conditions_a>b: KD", 3.0, -1.0, 7.0, "12_pairs"),
        ("alignment_siblings_all_ig_kl", -0.1, -0.2, 0.3, "11_siblings"),
        ("pvalue", 1.0, 1.0, 1.0, "04_tests"),
    ]
    facts = pd.DataFrame(rows, columns=["fact", "value", "low", "high", "item"])
    found = answers.questions(facts.assign(n=3, notebook="12_beyond")).set_index("of")
    assert found.answer.to_dict() == {
        "saliency - no overlay": "more",
        "IG - grey": "equal within the margin",
        "2": "less",
        "midpoint": "less",
        "placed": "undecided",
        "a>b: KD": "undecided",
        "all ig kl": "undecided",
    }


def test_every_kept_answer_beyond_the_paper_is_a_row():
    facts = Outputs(EVIDENCE).all_facts()
    asked = facts[(facts.why_not_decided == "the paper does not ask this") & facts.low.notna()]
    rows = answers.questions(facts).notebook.value_counts()
    assert set(asked.notebook) >= {"12_beyond", "12_conditions"}
    for notebook in ("12_beyond", "12_conditions"):
        assert rows[notebook] == (asked.notebook == notebook).sum(), notebook
