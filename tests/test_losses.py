import math

import pytest
import torch
from torch.nn import functional as F

from kdig import KdigError
from kdig.core.losses import DistillationLoss, attention_loss, attention_map, kd_loss


def logits(n=64, k=10, seed=0):
    return torch.randn(2, n, k, generator=torch.Generator().manual_seed(seed))


def test_gradient_reaches_the_student_only():
    z_s, z_t = (z.clone().requires_grad_() for z in logits())
    a_s, a_t = (z.clone().requires_grad_() for z in logits(k=16, seed=1))
    DistillationLoss(0.5, 2.0, 0.8)(
        z_s, torch.zeros(64, dtype=torch.long), z_t, a_s, a_t
    ).backward()
    assert z_s.grad.abs().sum() > 0
    assert a_s.grad.abs().sum() > 0
    assert z_t.grad is None
    assert a_t.grad is None


def test_an_attention_map_is_resized_before_it_is_normalised():
    """4 x 4 to 2 x 2: bilinear values are the means of four squares; then the sum of squares is 1."""
    activation = torch.arange(16.0).sqrt().reshape(1, 1, 4, 4)
    means = torch.tensor([[2.5, 4.5, 10.5, 12.5]])
    found = attention_map(activation, size=(2, 2))
    assert torch.allclose(found, means / means.norm())
    assert torch.allclose(attention_map(activation, size=(4, 4)), attention_map(activation))


def test_divergence_is_zero_when_student_equals_teacher():
    z, _ = logits()
    assert kd_loss(z, z, 2.5).item() == pytest.approx(0, abs=1e-6)


def test_two_class_value_by_hand():
    """Student 0, 0; teacher 2, 0.

    T = 2: p = (e, 1) / (e + 1), q = (1/2, 1/2), KL = sum p log(2 p), times 4.
    """
    p = math.e / (math.e + 1)
    expected = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert kd_loss(torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), 2.0).item() == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize("alpha", [0.01, 0.5, 1.0])
def test_temperature_squared_is_kept_at_every_alpha(alpha):
    """At high temperature KL * T^2 tends to the mean squared difference of centred logits over 2K,
    whatever alpha.
    """
    z_s, z_t = logits()
    y = torch.zeros(64, dtype=torch.long)
    term = DistillationLoss(alpha, 1e3)(z_s.double(), y, z_t.double()) - (
        1 - alpha
    ) * F.cross_entropy(z_s.double(), y)
    difference = (z_s - z_s.mean(1, keepdim=True)) - (z_t - z_t.mean(1, keepdim=True))
    assert term.item() == pytest.approx(
        alpha * difference.pow(2).sum(1).mean().item() / 20, rel=1e-2
    )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_batch_size_does_not_change_the_mean(reduction):
    z_s, z_t = logits()
    a_s, a_t = logits(k=16, seed=1)
    y = torch.arange(64) % 10
    loss = DistillationLoss(0.3, 2.5, 0.8, reduction)
    halves = [loss(z_s[i], y[i], z_t[i], a_s[i], a_t[i]) for i in (slice(0, 32), slice(32, 64))]
    assert loss(z_s, y, z_t, a_s, a_t).item() == pytest.approx(
        torch.stack(halves).mean().item(), rel=1e-5
    )


def test_the_two_readings_of_the_attention_loss_differ_by_the_positions():
    a_s, a_t = logits(k=64)
    assert attention_loss(a_s, a_t, "sum").item() == pytest.approx(
        64 * attention_loss(a_s, a_t, "mean").item(), rel=1e-5
    )
    assert attention_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item() == 2.0


def test_attention_map_is_the_normalised_mean_square():
    a = torch.randn(4, 8, 5, 5)
    mapped = attention_map(a)
    by_hand = (a**2).mean(1).reshape(4, 25)
    by_hand = by_hand / by_hand.norm(dim=1, keepdim=True)
    assert torch.allclose(mapped, by_hand, atol=1e-6)
    assert torch.allclose(attention_map(3 * a), mapped, atol=1e-6)


def test_no_help_is_cross_entropy():
    z_s, _ = logits()
    y = torch.arange(64) % 10
    assert torch.equal(DistillationLoss()(z_s, y), F.cross_entropy(z_s, y))


@pytest.mark.parametrize("wrong", [{"alpha": 5.0}, {"temperature": 0.0}, {"gamma": -1.0}])
def test_weights_that_are_none_are_refused(wrong):
    with pytest.raises(KdigError, match="alpha lies from 0 to 1, temperature above 0, gamma at 0"):
        DistillationLoss(**wrong)


def test_a_term_without_its_tensors_is_named():
    student, _ = logits()
    labels = torch.zeros(len(student), dtype=torch.int64)
    with pytest.raises(KdigError, match="alpha > 0 needs the teacher's logits"):
        DistillationLoss(alpha=0.5)(student, labels)
    with pytest.raises(KdigError, match="gamma > 0 needs the attention maps"):
        DistillationLoss(gamma=0.5)(student, labels)
