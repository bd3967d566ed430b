"""How alike two explanations are: by hand, on planted cases, and what is kept of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import settings_of
from scipy.stats import spearmanr

from kdig import KdigError
from kdig.core.networks import build
from kdig.core.signals import Teacher
from kdig.measure import parts
from kdig.paper import claims, published
from kdig.study.beyond import NOT_THE_POSTERS, View, _short
from kdig.study.tables import alignment


def test_grid_cells_are_of_one_size_and_in_reading_order():
    cells = parts.grid_parts(torch.zeros(2, 3, 4, 6), 2)
    assert cells.shape == (2, 4, 6)
    assert cells[0].tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[2, 2, 2, 3, 3, 3]] * 2


def test_slic_cuts_where_colours_change():
    image = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    image[..., 8:] = 255
    found = parts.slic_parts(image, 8)
    left, right = set(found[..., :8].flatten().tolist()), set(found[..., 8:].flatten().tolist())
    assert not left & right
    assert min(left | right) == 0


def test_importance_is_the_share_in_each_part_and_nan_where_there_is_none():
    maps = torch.tensor([[[1.0, 3.0], [0.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    numbers = torch.tensor([[[0, 1], [2, 2]], [[0, 0], [1, 1]]])
    found = parts.importance(maps, numbers)
    assert found[0].tolist() == [1 / 8, 3 / 8, 4 / 8]
    assert found[1, :2].tolist() == [0.5, 0.5]
    assert found[1, 2].isnan()
    assert parts.importance(0 * maps, numbers)[0].tolist() == [0.0, 0.0, 0.0]


def test_focus_is_the_share_in_the_others_top_parts():
    ours = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, torch.nan, torch.nan]])
    theirs = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.1, 0.9, torch.nan, torch.nan]])
    assert parts.focus(ours, theirs, top=2).tolist() == pytest.approx([0.3, 1.0])
    assert parts.focus(ours, theirs, top=1).tolist() == pytest.approx([0.1, 0.5])


def test_rank_correlation_is_scipys_with_ties_and_without_missing_parts():
    draw = torch.Generator().manual_seed(1)
    one, other = torch.rand(6, 9, generator=draw), torch.rand(6, 9, generator=draw)
    one[2, 3] = one[2, 5]
    one[4, 7] = torch.nan
    known = ~one.isnan()
    wanted = [spearmanr(a[k], b[k]).statistic for a, b, k in zip(one, other, known)]
    assert parts.rank_correlation(one, other).tolist() == pytest.approx(wanted)
    assert parts.rank_correlation(one, 3 * one).tolist() == pytest.approx([1.0] * 6)
    assert parts.rank_correlation(torch.zeros(1, 4), other[:1, :4]).isnan().all()


def test_overlap_of_the_brightest_pixels():
    one = torch.arange(100.0).view(1, 10, 10)
    assert parts.top_overlap(one, one).item() == 100
    assert parts.top_overlap(one, -one).item() == 0
    half = one.clone()
    half[0, 9, :5] = 0
    assert parts.top_overlap(one, half).item() == 50


def test_outputs_of_a_network_against_itself_and_against_another():
    logits = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    same, other = parts.outputs(logits, logits), parts.outputs(logits, -logits)
    assert (same["logits"] == 1).all()
    assert (same["same answer"] == 100).all()
    assert same["KL"].abs().max() < 1e-12
    assert (other["logits"] == -1).all()
    assert (other["same answer"] == 0).all()
    assert (other["KL"] > 0).all()


def test_maps_are_compared_by_both_kinds_of_parts():
    maps = torch.rand(3, 8, 8)
    kinds = {"grid": parts.grid_parts(torch.zeros(3, 3, 8, 8), 4)}
    found = parts.explanations(maps, maps, kinds)
    assert set(found) == {"cosine", "overlap", "rank grid", "focus grid"}
    assert found["rank grid"].tolist() == pytest.approx([1.0] * 3)
    assert found["cosine"].tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("flip", [True, False])
def test_a_view_and_its_way_back_are_the_same_image(flip, split):
    view = View("view", flip)
    seen = view.of(split)
    assert not torch.equal(seen.images, split.images)
    assert torch.equal(view.maps(seen.images[:, 0]), split.images[:, 0])
    assert seen.fingerprint != split.fingerprint, "its maps are others"
    assert torch.equal(View("own", flip).of(split).images, split.images)


def test_the_floor_is_another_images_map(split):
    view, maps = View("floor", True), torch.arange(40.0)[:, None, None]
    assert view.of(split) is split
    assert (view.maps(maps) != maps).all()
    assert torch.equal(view.logits(maps[:, 0]), view.maps(maps)[:, 0])


@pytest.fixture
def small(elsewhere):
    return settings_of(
        "11_alignment", explained_images=20, attributions=["saliency"], seeds=[0, 1], image_size=8
    )


def network(seed: int) -> Teacher:
    torch.manual_seed(seed)
    return Teacher(build("s8", 10, 0.25), (0.0,) * 3, (1.0,) * 3, network="s8", width=0.25)


def test_what_is_measured_is_kept_and_read_again(small, monkeypatch):
    one, other = network(0), network(1)
    first = small.alike(one, [other], "own")
    assert set(first.attribution) == {"outputs", "saliency"}
    assert first.groupby(["attribution", "measure"]).size().eq(20).all()
    itself = alignment.means_of(small.alike(one, [one], "own"))
    assert itself["saliency: rank SLIC"] == pytest.approx(1.0)
    assert itself["outputs: same answer"] == 100
    floor = alignment.means_of(small.alike(one, [one], "floor"))
    assert floor["saliency: rank grid"] < 0.99

    def refused(*given):
        raise AssertionError("it is measured again")

    monkeypatch.setattr(type(small), "_compared", refused)
    pd.testing.assert_frame_equal(small.alike(one, [other], "own"), first)
    with pytest.raises(AssertionError, match="measured again"):
        small.alike(one, [network(2)], "own")
    path = next((small.workspace.folder / "measures").glob("*alike-own*"))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(KdigError, match="delete it"):
        small.alike(one, [other], "own"), small.alike(one, [one], "own")


def test_several_references_are_averaged(small):
    one, two, three = map(network, range(3))
    both = small.alike(one, [two, three], "own").value
    each = [small.alike(one, [other], "own").value for other in (two, three)]
    assert both.to_numpy() == pytest.approx(np.mean(each, axis=0), rel=1e-4, abs=1e-5)


def test_the_posters_alpha_is_the_weight_of_the_labels(elsewhere):
    settings = settings_of("11_alignment")
    runs = settings.arms("abc", 0)
    assert set(runs) == {(n, h) for n in settings.networks for h in (1.0, 0.5, 0.1)}
    assert [runs["s2", hard].alpha for hard in (1.0, 0.5, 0.1)] == [0.0, 0.5, 0.9]
    assert runs["s2", 1.0].method == "student"
    ablation = {run.key for run in settings_of("04_ablation").runs("abc")}
    sweep = {run.key for run in settings_of("05_compression").runs("abc")}
    assert {runs["s2", 1.0].key, runs["s2", 0.5].key} <= ablation
    assert {runs["s8", 1.0].key, runs["s4", 0.5].key} <= sweep


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"networks": ["s9"]}, "networks: unknown 's9'"),
        ({"attributions": ["gradcam"]}, "attributions: unknown 'gradcam'"),
        ({"hard_weights": [0.5, 0.1]}, "hard_weights must hold 1"),
        ({"checkpoints": ["a.pt"]}, "need dataset 'cifar10'"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(given, said, elsewhere):
    with pytest.raises(KdigError, match=said):
        settings_of("11_alignment", **given)


def test_findings_are_decided_for_the_posters_networks_alone(elsewhere, monkeypatch):
    cifar10 = SimpleNamespace(is_cifar10=True)
    posters = {"networks": ["resnet18", "resnet34", "resnet50"], "teacher_network": "resnet101"}
    posters |= {"width": 1.0, "teacher_width": 1.0, "image_size": 32}
    for given, why in ((posters, ""), (posters | {"networks": ["resnet18"]}, NOT_THE_POSTERS)):
        settings = settings_of("11_alignment", **given)
        monkeypatch.setattr(type(settings), "data", lambda self: cifar10)
        assert settings.why_not_decided("11_alignment", None) == why


def frame(effect: float = 0.2) -> pd.DataFrame:
    """Two networks under three weights and two seeds, whose ranks follow their logits."""
    draw, rows = np.random.default_rng(0), []
    for name in ("s2", "s8"):
        for seed in (0, 1):
            for hard in (1.0, 0.5, 0.1):
                logits = 0.3 + 0.5 * (1 - hard) + draw.normal(0, 0.01)
                ranks = 0.4 + effect * (1 - hard) + draw.normal(0, 0.005)
                row = {"network": name, "hard": hard, "seed": seed, "accuracy": 60 + 5 * (1 - hard)}
                row |= {"regime": alignment.regime(hard), "outputs: logits": logits}
                rows.append(row | {"saliency: rank SLIC": 0.5 * ranks, "IG: rank SLIC": ranks})
    return pd.DataFrame(rows)


def test_effects_are_those_that_are_planted():
    table, facts = alignment.effects(frame())
    found = table.set_index("contrast").difference
    assert found["strong KD - no KD, accuracy"] == pytest.approx(4.5)
    assert found["strong KD - no KD, IG: rank SLIC"] == pytest.approx(0.18, abs=0.01)
    named = {fact["fact"]: fact for fact in facts}
    assert named["alignment_ig_rank_slic"]["low"] > 0.15
    assert named["alignment_ig_rank_slic"]["n"] == 4
    said = alignment.effects_said(table)
    assert "accuracy +4.500" in said
    assert "IG: rank SLIC" in said


def test_slopes_are_those_that_are_planted():
    table, facts = alignment.covary(frame())
    slopes = table.set_index("outcome").difference
    assert slopes["IG: rank SLIC"] == pytest.approx(0.4, abs=0.05)
    assert slopes["saliency: rank SLIC"] == pytest.approx(0.2, abs=0.03)
    assert [fact["fact"] for fact in facts] == ["alignment_covary_saliency", "alignment_covary_ig"]
    assert "2 of 2 intervals leave out 0" in alignment.covary_said(table)
    assert "0 of 2" in alignment.covary_said(alignment.covary(frame(0))[0])


def test_every_fact_of_the_posters_claims_is_measured():
    ends = pd.DataFrame({"outcome": ["IG: rank SLIC"], "floor": [0.3], "ceiling": [0.8]})
    whole = frame().assign(**{"IG: focus SLIC": 0.5, "saliency: focus SLIC": 0.5})
    whole["IG: focus SLIC"] += np.linspace(0, 0.01, len(whole))
    whole["saliency: focus SLIC"] += np.linspace(0, 0.01, len(whole))
    facts = [f for t in (alignment.effects, alignment.covary) for f in t(whole)[1]]
    table, more = alignment.questions(whole, ends)
    asked = claims().query("notebook == '11_alignment'")
    assert set(asked.fact) <= {fact["fact"] for fact in [*facts, *more]}
    assert table.value.iloc[-1] == pytest.approx(0.5)
    assert len(asked) == 11


def test_bars_and_titles_say_what_was_found():
    table = alignment.bars(frame(), "accuracy", "test accuracy (%)")
    assert list(dict.fromkeys(table.bar)) == ["no KD", "mild KD", "strong KD"]
    assert table.set_index(["group", "bar"]).value["s2", "strong KD"] == pytest.approx(64.5)
    assert "strong KD 64.5 %" in alignment.accuracy_title(frame())
    ends = pd.DataFrame({"outcome": ["IG: rank SLIC", "saliency: rank SLIC"], "floor": [0.3, 0.9]})
    title = alignment.range_title(frame(), ends.assign(ceiling=[0.7, 1.0]), "rank", "ranks")
    assert "saliency below the floor" in title
    assert "% of the way from floor to ceiling" in title
    assert alignment.regime(0.3) == "labels 0.3"
    assert "floor to" not in alignment.ends_said(ends.assign(ceiling=[0.7, 1.0]))


def test_the_posters_logits_stand_beside_ours():
    table = alignment.logit_table(frame())
    assert table["weight of the labels"].tolist() == [1.0, 0.5, 0.1]
    assert table["ResNet18 (poster)"].tolist() == [0.26, 0.38, 0.50]
    assert len(published("poster_logit_alignment")) == 12
    assert "from 0.35 to 0.61" in alignment.logits_said(frame())


def siblings(more: float = 0.1) -> pd.DataFrame:
    """Four students, two with IG, whose pairs with IG are more alike by `more`."""
    draw, rows = np.random.default_rng(0), []
    for name, ig in (("a", True), ("b", True), ("c", False), ("d", False)):
        for kind, beside, base, count in (
            ("own", "with IG", 0.5 + more * ig, 1 if ig else 2),
            ("own", "without IG", 0.5, 2 if ig else 1),
            ("floor", "all", 0.2, 3),
            ("view", "itself", 0.8, 1),
        ):
            values = base + draw.normal(0, 0.01, 30)
            about = {"name": name, "group": "all images", "ig": ig, "kind": kind, "beside": beside}
            about |= {"siblings": count, "attribution": "integrated_gradients"}
            rows += [
                about | {"measure": "rank SLIC", "image": i, "value": v}
                for i, v in enumerate(values)
            ]
    return pd.DataFrame(rows)


def test_siblings_are_paired_by_image_and_placed_between_floor_and_ceiling():
    table, facts = alignment.siblings(siblings())
    row = table.iloc[0]
    # a student with IG has one sibling of three with IG
    assert row.difference == pytest.approx(0.1 / 3, abs=0.003)
    assert row.low > 0
    assert row.of_range == pytest.approx(100 * row.difference / 0.6, rel=0.05)
    assert facts[0]["fact"] == "alignment_siblings_all_ig_rank_slic"
    assert "those with IG are more like their siblings" in alignment.sibling_said(table)
    assert alignment.sibling_title(table).endswith("1 of 1 comparisons; less: 0")
    equal = alignment.siblings(siblings(0))[0]
    assert "cannot be told apart" in alignment.sibling_said(equal)
    assert set(alignment.sibling_panels(table)) == {
        "with IG less without, % of the range; all images"
    }


def test_pairs_are_told_apart_by_how_many_have_ig():
    pairs = alignment.pair_kinds(siblings()).set_index("pair").value
    assert pairs["both with IG"] == pytest.approx(0.6, abs=0.01)
    assert pairs["one with IG"] == pytest.approx(0.5, abs=0.01)
    assert pairs["none with IG"] == pytest.approx(0.5, abs=0.01)
    assert (pairs["floor"], pairs["ceiling"]) == pytest.approx((0.2, 0.8), abs=0.01)
    said = alignment.pairs_said(alignment.pair_kinds(siblings()))
    assert "both with IG 0.60" in said
    assert next(iter(alignment.pair_panels(alignment.pair_kinds(siblings())))).endswith(
        "all images"
    )


def test_released_students_have_short_names():
    files = published("released_students").file.str.removesuffix(".pt")
    names = [_short(file) for file in files]
    assert len(set(names)) == len(files) == 11
    assert "KD & IG & AT, 80 %" in names
    assert "AT" in names
