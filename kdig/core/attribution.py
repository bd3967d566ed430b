"""Integrated gradients (Eq. 3), with Captum as the reference and a faster path that must agree with
it.

Models take pictures in [0, 1]. A baseline is a point in that space; because normalisation is
affine, the attribution is the same whether the path is walked before or after it.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

Baseline = Literal["black", "mean"]
Rule = Literal[
    "gausslegendre", "riemann_trapezoid", "riemann_middle", "riemann_left", "riemann_right"
]
Output = Literal["logit", "softmax"]
Gradient = Callable[
    [Tensor, Tensor], Tensor
]  # of the selected score: pictures (N, 3, H, W) and classes (N,) -> (N, 3, H, W)


def baseline_point(baseline: Baseline, mean: Sequence[float], like: Tensor) -> Tensor:
    """x' of Eq. 3, shaped (1, 3, 1, 1): zeros (`black`, the paper's text) or the data's mean colour
    (`mean`, its released code).
    """
    values = [0.0] * len(mean) if baseline == "black" else list(mean)
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def quadrature(rule: Rule, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and places (both float64, (steps,)) on [0, 1] with which `rule` approximates the
    integral of Eq. 3.

    The rules and their names are Captum's; a test holds the two equal.

    Raises `ValueError` for a trapezoid of one step.
    """
    if rule == "gausslegendre":
        places, weights = np.polynomial.legendre.leggauss(steps)
        return 0.5 * weights, 0.5 * (1 + places)
    first, last = {"trapezoid": (0, 0), "middle": (0.5, 0.5), "left": (0, 1), "right": (1, 0)}[
        rule.removeprefix("riemann_")
    ]
    weights = np.full(steps, 1 / steps)
    if rule == "riemann_trapezoid":
        if steps < 2:
            raise ValueError("the trapezoid rule needs two steps or more")
        weights[[0, -1]] /= 2
    return weights, np.linspace(first / steps, 1 - last / steps, steps)


def target_score(model: nn.Module, output: Output) -> Callable[[Tensor], Tensor]:
    """F of Eq. 3: the model's logits, or their softmax, (N, 3, H, W) -> (N, K)."""
    return model if output == "logit" else lambda x: model(x).softmax(1)


def autograd_gradient(model: nn.Module, output: Output) -> Gradient:
    """The gradient of each picture's selected score to the picture, by torch."""
    score = target_score(model, output)

    def gradient(images: Tensor, targets: Tensor) -> Tensor:
        rows = images.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        with torch.enable_grad():
            selected = score(rows).gather(1, targets[:, None]).sum()
        return torch.autograd.grad(selected, rows)[0]

    return gradient


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    point: Tensor,
    *,
    steps: int = 50,
    rule: Rule = "gausslegendre",
    output: Output = "logit",
    chunk: int = 96,
    gradient: Gradient | None = None,
) -> Tensor:
    """Eq. 3 for images (N, 3, H, W) in [0, 1] and target classes (N,); the result has the images'
    shape.

    `point` is x', `steps` the number of points that `rule` (Captum's name for the quadrature) puts
    on the path from it, and `chunk` the number of rows of one backward pass. The model must be in
    eval mode; its parameters get no gradient. `gradient` computes the rows' gradients instead of
    torch's autograd.

    Raises `ValueError` when the model is in training mode, in which batch norm would mix the
    attributions of neighbours.
    """
    if model.training:
        raise ValueError(
            "integrated gradients needs model.eval(): batch norm in training mode mixes the"
            " pictures of a batch"
        )
    gradient = gradient or autograd_gradient(model, output)
    sizes, betas = (
        images.new_tensor(values).view(-1, 1, 1, 1) for values in quadrature(rule, steps)
    )
    difference = images - point
    gradients = torch.zeros_like(images)
    for rows in torch.arange(len(images) * steps, device=images.device).split(chunk):
        index, step = rows // steps, rows % steps
        beta, size = betas[step], sizes[step]
        gradients.index_add_(
            0, index, gradient(point + beta * difference[index], targets[index]) * size
        )
    return gradients * difference


def captum_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    point: Tensor,
    *,
    steps: int = 50,
    rule: Rule = "gausslegendre",
    output: Output = "logit",
    internal_batch_size: int | None = None,
) -> Tensor:
    """The same quantity by Captum itself: the reference for `integrated_gradients`."""
    method = IntegratedGradients(target_score(model, output))
    result: Tensor = method.attribute(
        images,
        point.expand_as(images),
        target=targets,
        n_steps=steps,
        method=rule,
        internal_batch_size=internal_batch_size,
    )
    return result.detach()


def attribution_map(attributions: Tensor) -> Tensor:
    """IG(x) of Eq. 4, a map (N, H, W) from attributions (N, 3, H, W): absolute values, summed over
    the colours.
    """
    return attributions.abs().sum(1)


@torch.no_grad()
def completeness_delta(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    attributions: Tensor,
    point: Tensor,
    output: Output = "logit",
) -> Tensor:
    """(sum of attributions - (F(x) - F(x'))) / |F(x) - F(x')| for each picture (N,): 0 when the
    integral is exact.
    """
    score = target_score(model, output)
    change = score(images) - score(point.expand_as(images[:1]))
    change = change.gather(1, targets[:, None]).squeeze(1)
    return (attributions.sum((1, 2, 3)) - change) / change.abs()
