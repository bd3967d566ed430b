"""Attention maps of stored networks, their distance and how concentrated they are."""

import itertools

import pandas as pd
import pytest
import torch
from helpers import settings_of

from kdig.core.losses import attention_loss, attention_map
from kdig.core.networks import AttentionTap, entry, mobilenet_v2
from kdig.core.signals import Teacher
from kdig.core.train import starting_points, train, untrained
from kdig.core.training import predict
from kdig.measure import alignment


def unit(maps):
    return maps / maps.norm(dim=1, keepdim=True)


def test_mse_by_hand():
    """(1, 0, 0, 0) against (0.6, 0.8, 0, 0): (0.16 + 0.64) / 4."""
    maps, reference = torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0.6, 0.8, 0, 0]])
    assert alignment.attention_mse(maps, reference).item() == pytest.approx(0.2)
    assert alignment.attention_mse(maps, maps).item() == 0


def test_mse_is_the_loss_over_the_positions_and_at_most_two_over_them():
    maps = unit(torch.rand(2 * 30, 64, generator=torch.Generator().manual_seed(0))).view(2, 30, 64)
    assert (64 * alignment.attention_mse(*maps)).mean() == pytest.approx(
        attention_loss(*maps).item()
    )
    apart = torch.eye(64)[:2]
    assert alignment.attention_mse(apart[:1], apart[1:]).item() == pytest.approx(2 / 64)


@pytest.mark.parametrize("occupied", [1, 4, 25, 64])
def test_effective_positions_count_equal_positions(occupied):
    maps = torch.zeros(3, 64)
    maps[:, :occupied] = torch.tensor([[0.5], [1.0], [7.0]])
    assert alignment.effective_positions(unit(maps)).tolist() == pytest.approx([occupied] * 3)


def test_effective_positions_fall_when_a_map_is_sharpened():
    maps = torch.rand(20, 64, generator=torch.Generator().manual_seed(0))
    counts = [alignment.effective_positions(unit(maps**power)) for power in (1, 2, 4, 8)]
    assert all((sharper < blunter).all() for blunter, sharper in itertools.pairwise(counts))


@pytest.fixture
def network(digits):
    torch.manual_seed(0)
    return Teacher(mobilenet_v2(10, 0.25), digits.mean, digits.std)


@pytest.mark.parametrize("tap", ["features.0", "features.4", "features.9"])
def test_maps_do_not_depend_on_batches_and_are_the_signals(network, digits, tap):
    few = digits.test.select(torch.arange(23))
    maps, lengths = alignment.attention_maps(network, few, tap, batch_size=7)
    signals = network.observe(few.images / 255, tap)
    assert torch.allclose(maps, signals.attention, atol=1e-6)
    assert torch.allclose(maps.norm(dim=1), torch.ones(23), atol=1e-5)
    with AttentionTap(network.net, tap) as tapped:
        predict(network.model, few)
    raw = tapped.output.square().mean(1).flatten(1)
    assert torch.allclose(raw, maps[-len(raw) :] * lengths[-len(raw) :, None], rtol=1e-4, atol=1e-6)
    assert torch.allclose(attention_map(tapped.output), maps, atol=1e-5)


def test_length_says_how_strong_and_the_map_only_where(network, digits):
    """Twice the activation: the same map, four times the length."""
    few = digits.test.select(torch.arange(8))
    maps, lengths = alignment.attention_maps(network, few, "features.0")
    block = network.net.features[0]
    hook = block.register_forward_hook(lambda module, inputs, output: 2 * output, prepend=True)
    doubled, longer = alignment.attention_maps(network, few, "features.0")
    hook.remove()
    assert torch.allclose(maps, doubled, atol=1e-6)
    assert torch.allclose(longer, 4 * lengths, rtol=1e-5)


def test_weight_overlap_finds_copies(make_run):
    first, second = (untrained(make_run(level=4, seed=seed), 10) for seed in (0, 1))
    apart = alignment.weight_overlap(first, second)
    assert (apart["copied"], abs(apart["correlation"]) < 0.05) == (0, True)
    second.features[0][0].weight.data = first.features[0][0].weight.data.clone()
    assert alignment.weight_overlap(first, second)["copied"] == 1
    whole = alignment.weight_overlap(first, first)
    assert (whole["copied"], whole["correlation"]) == (whole["shared_layers"], pytest.approx(1))


@pytest.mark.parametrize("level", [2, 8])
def test_correlation_of_unrelated_weights_spreads_as_their_number_says(make_run, level):
    """At level 8 few weights are shared: a fixed bound of 0.05 is passed by chance, four standard
    deviations are not.
    """
    torch.manual_seed(1000)
    taught = mobilenet_v2(10, 0.25)
    for i, weights in enumerate(taught.parameters()):
        weights.data *= 1 + i % 7  # as training does, some layers have grown more than others
    found = pd.DataFrame(
        [
            alignment.weight_overlap(untrained(make_run(level=level, seed=s), 10), taught)
            for s in range(20)
        ]
    )
    scaled = found.correlation * found.weights**0.5
    assert 0.5 < scaled.std() < 1.6  # of twenty: 1, give or take 0.16
    assert scaled.abs().max() < 4
    assert (found.correlation.abs().max() > 0.05) == (level == 8)


def test_a_student_starts_from_its_seed_whatever_its_method(workspace, make_run):
    """The teacher has the same first layers, so copying would be possible.

    Also with the teacher's own seed the draws differ.
    """
    teacher = train(
        make_run(level=0, recipe={"epochs": 1, "normalise": True, "learning_rate": 1e-12}),
        workspace,
    )
    taught = workspace.load_weights(teacher.weights).net
    alike = {
        seed: alignment.weight_overlap(untrained(make_run(level=2, seed=seed), 10), taught)
        for seed in (0, 1)
    }
    for found in alike.values():
        assert (found["copied"], abs(found["correlation"]) < 0.05) == (0, True)
    paired = [
        make_run(level=2, **changes) for changes in ({"gamma": 0.8, "teacher": teacher.weights}, {})
    ]
    starts = starting_points(paired, workspace)
    assert starts[["pictures", "weights", "order"]].nunique().eq(1).all()
    assert starts.method.tolist() == ["at", "student"]


def test_runs_are_the_ablations(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    maps, ablation = (
        settings_of(notebook, train_images=100, seeds=[0, 1]).runs("abc")
        for notebook in ("08_attention_maps", "04_ablation")
    )
    assert {run.key for run in maps} <= {run.key for run in ablation}
    assert entry(maps[0].network).tap == "features.9"


def test_logit_gap_by_hand():
    logits = torch.tensor([[5.0, 1.0, 3.0], [0.0, 2.0, 0.0]])
    gap, spread = alignment.logit_gap(logits, torch.tensor([0, 2]))
    assert gap.tolist() == pytest.approx([3.0, -1.0])
    assert spread.tolist() == pytest.approx([2**0.5, 2**0.5])
