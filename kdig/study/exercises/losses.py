"""Properties of losses: the exercise `kd_loss`, and five bugs of distillation code."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdig.study.exercises.checking import (
    Function,
    Told,
    apart,
    gradient,
    number,
    shaped,
    true_of,
    unless,
)


def logits(n: int = 6, classes: int = 5, scale: float = 1.0) -> Tensor:
    """Random logits (N, K) in float64, which can take a gradient."""
    return (scale * torch.randn(n, classes, dtype=torch.float64)).requires_grad_()


def _soft_gradient(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """What the gradient of Eq. 1's soft part should be, (N, K)."""
    difference = F.softmax(student / temperature, 1) - F.softmax(teacher / temperature, 1)
    return (temperature * difference / len(student)).detach()


@true_of("kd_loss", "equal logits cost nothing")
def _kd_equal(kd_loss: Function) -> str | None:
    z = logits()
    cost = number(kd_loss(z, z.detach().clone(), 4.0))
    return unless(abs(cost) < 1e-6, f"they cost {cost:.3g}")


@true_of("kd_loss", "the loss is never negative")
def _kd_negative(kd_loss: Function) -> str | None:
    lowest = min(number(kd_loss(logits(), logits(), 2.5)) for _ in range(20))
    return unless(lowest >= -1e-9, f"for one pair of random logits it is {lowest:.3g}")


@true_of("kd_loss", "a number that is added to all logits of an image changes nothing")
def _kd_shift(kd_loss: Function) -> str | None:
    student, teacher = logits(), logits()
    before, after = (number(kd_loss(student + c, teacher - c, 2.0)) for c in (0, 3))
    return unless(abs(before - after) < 1e-6, f"the loss goes from {before:.4f} to {after:.4f}")


@true_of("kd_loss", "the loss is a mean over the images: the same batch twice costs the same")
def _kd_batch(kd_loss: Function) -> str | None:
    student, teacher = logits(), logits()
    one = number(kd_loss(student, teacher, 2.0))
    two = number(kd_loss(student.repeat(2, 1), teacher.repeat(2, 1), 2.0))
    return unless(abs(one - two) < 1e-6, f"it costs {two:.4f}, and once it costs {one:.4f}")


@true_of("kd_loss", "the gradient has about the same length at T = 2 and at T = 8")
def _kd_temperature(kd_loss: Function) -> str | None:
    student, teacher = logits(scale=0.5), logits(scale=0.5)
    two, eight = (float(gradient(kd_loss(student, teacher, T), student).norm()) for T in (2.0, 8.0))
    text = f"it is {two:.3g} at T = 2 and {eight:.3g} at T = 8"
    return unless(0.5 * two < eight < 2 * two, text)


@true_of("kd_loss", "the gradient to the student's logits is T (p_student - p_teacher) / N")
def _kd_gradient(kd_loss: Function) -> str | None:
    student, teacher = logits(), logits()
    found = gradient(kd_loss(student, teacher, 3.0), student)
    off = apart(found, _soft_gradient(student, teacher, 3.0))
    return unless(off < 1e-6, f"one of its numbers is off by {off:.3g}")


@true_of("kd_loss", "the teacher's logits get no gradient")
def _kd_teacher(kd_loss: Function) -> str | None:
    student, teacher = logits(), logits()
    length = float(gradient(kd_loss(student, teacher, 2.0), teacher).norm())
    return unless(length == 0, f"theirs has the length {length:.3g}: detach them")


# ---- bug 1: soft targets of other images


@true_of("stored_targets", "every image of the student's batches occurs with its number")
def _stored_rows(stored_targets: Function) -> str | None:
    teacher, images, first, second = _two_passes()
    rows = [rows for rows, _ in stored_targets(teacher, images, first, second, 4)]
    same = torch.equal(torch.cat(rows), second)
    return unless(
        same, f"the student asks for {second.tolist()} and gets {torch.cat(rows).tolist()}"
    )


@true_of("stored_targets", "each image gets the teacher's answer to this very image")
def _stored_own(stored_targets: Function) -> str | None:
    teacher, images, first, second = _two_passes()
    wrong = 0
    for rows, targets in stored_targets(teacher, images, first, second, 4):
        own = teacher(images[rows])
        wrong += int(((shaped(targets, own.shape) - own).abs() > 1e-5).any(1).sum())
    return unless(wrong == 0, f"{wrong} of {len(images)} images get the answer to another image")


def _two_passes() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A teacher, images (10, 3), and two orders in which a loader walks over them."""
    teacher = nn.Linear(3, 4).requires_grad_(False)
    return teacher, torch.rand(10, 3), torch.randperm(10), torch.randperm(10)


# ---- bug 2: the teacher on both sides


@true_of("distillation_loss", "with alpha = 1 the gradient reaches the student")
def _both_reach(distillation_loss: Function) -> str | None:
    student, labels = logits(), torch.arange(6) % 5
    found = gradient(distillation_loss(student, logits(), labels, 4.0, 1.0), student)
    length = float(found.norm())
    return unless(length > 1e-9, f"its gradient has the length {length:.3g}: it learns nothing")


@true_of("distillation_loss", "with alpha = 0 the loss is the cross-entropy with the labels")
def _both_labels(distillation_loss: Function) -> str | None:
    student, labels = logits(), torch.arange(6) % 5
    cost = number(distillation_loss(student, logits(), labels, 4.0, 0.0))
    wanted = number(F.cross_entropy(student, labels))
    return unless(abs(cost - wanted) < 1e-6, f"the loss is {cost:.4f}, and that is {wanted:.4f}")


@true_of("distillation_loss", "with alpha = 1 the gradient is that of the soft part of Eq. 1")
def _both_soft(distillation_loss: Function) -> str | None:
    student, teacher, labels = logits(), logits(), torch.arange(6) % 5
    found = gradient(distillation_loss(student, teacher, labels, 4.0, 1.0), student)
    off = apart(found, _soft_gradient(student, teacher, 4.0))
    return unless(off < 1e-6, f"one of its numbers is off by {off:.3g}")


# ---- bug 3: a mean over the classes, too


@true_of("batch_kl", "classes that nobody believes in change nothing")
def _classes(batch_kl: Function) -> str | None:
    student, teacher = logits(), logits()
    never = torch.full((6, 15), -40.0, dtype=torch.float64)
    few = number(batch_kl(student, teacher, 1.0))
    many = number(batch_kl(torch.cat([student, never], 1), torch.cat([teacher, never], 1), 1.0))
    text = f"with 15 more such classes the loss goes from {few:.4f} to {many:.4f}"
    return unless(abs(few - many) < 1e-6, text)


@true_of("batch_kl", "a batch costs the mean of what its images cost alone")
def _images_alone(batch_kl: Function) -> str | None:
    student, teacher = logits(), logits()
    alone = [number(batch_kl(s, t, 2.0)) for s, t in zip(student.split(1), teacher.split(1))]
    mean, together = sum(alone) / len(alone), number(batch_kl(student, teacher, 2.0))
    return unless(abs(mean - together) < 1e-6, f"it costs {together:.4f}, their mean is {mean:.4f}")


# ---- bug 4: no factor T squared


@true_of("soft_loss", "a student that disagrees with its teacher pays for it")
def _disagrees(soft_loss: Function) -> str | None:
    cost = number(soft_loss(logits(), logits(), 2.0))
    return unless(cost > 1e-3, f"random logits cost {cost:.3g}")


@true_of("soft_loss", "the gradient settles at high temperatures: T = 20 and T = 40 agree to 10 %")
def _settles(soft_loss: Function) -> str | None:
    student, teacher = logits(), logits()
    one, two = (
        float(gradient(soft_loss(student, teacher, T), student).norm()) for T in (20.0, 40.0)
    )
    return unless(abs(two / one - 1) < 0.1, f"it is {one:.2g} at T = 20 and {two:.2g} at T = 40")


# ---- bug 5: divided by the wrong sizes


@true_of("token_kl", "for logits (N, K) the loss is the mean over the N images")
def _two_axes(token_kl: Function) -> str | None:
    student, teacher = logits(), logits()
    cost, wanted = number(token_kl(student, teacher, 2.0)), _mean_kl(student, teacher, 2.0)
    return unless(abs(cost - wanted) < 1e-6, f"it is {cost:.4f}, and that mean is {wanted:.4f}")


@true_of("token_kl", "for logits (N, L, K) the loss is the mean over the N times L words")
def _three_axes(token_kl: Function) -> str | None:
    student, teacher = (logits(24).view(4, 6, 5) for _ in range(2))
    cost = number(token_kl(student, teacher, 2.0))
    wanted = _mean_kl(student.flatten(0, 1), teacher.flatten(0, 1), 2.0)
    return unless(abs(cost - wanted) < 1e-6, f"it is {cost:.4f}, and that mean is {wanted:.4f}")


def _mean_kl(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Eq. 1's soft part, row by row: log p and p of (N, K), their product summed over classes."""
    p, q = (F.softmax(z / temperature, 1) for z in (teacher, student))
    rows = (p * (p / q).log()).sum(1)
    if not rows.isfinite().all():
        raise Told("the trial itself met numbers that are not finite")
    return temperature**2 * number(rows.mean())
