"""Attributions by one signature: integrated gradients (Eq. 3), and others through Captum.

Captum is also the reference for integrated gradients, with which the faster path here must agree.

Models take pictures in [0, 1]. A baseline is a point in that space; because normalisation is
affine, the attribution is the same whether the path is walked before or after it.
"""

import copy
import functools
import inspect
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from kdig import KdigError

Baseline = Literal["black", "mean"]
Rule = Literal[
    "gausslegendre", "riemann_trapezoid", "riemann_middle", "riemann_left", "riemann_right"
]
Output = Literal["logit", "softmax"]
Gradient = Callable[
    [Tensor, Tensor], Tensor
]  # of the selected score: pictures (N, 3, H, W) and classes (N,) -> (N, 3, H, W)


# images of one pass: 1.4 GB for the paper's teacher at 32 x 32. DeepLIFT keeps what goes into and out
# of every rectifier, of the image and of its baseline: 0.1 GB an image
_AT_ONCE, _AT_ONCE_BY_DEEP_LIFT = 96, 8


def _captum() -> Any:
    """Captum's attributions. Importing them takes a second, which most notebooks need not wait."""
    from captum import attr

    return attr


def _leaf(images: Tensor) -> Tensor:
    """The images as what a gradient is taken for; Captum would set that, with a warning."""
    return images.detach().requires_grad_()


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
    baseline: Tensor,
    *,
    steps: int = 50,
    rule: Rule = "gausslegendre",
    output: Output = "logit",
    chunk: int = 96,
    gradient: Gradient | None = None,
) -> Tensor:
    """Eq. 3 for images (N, 3, H, W) in [0, 1] and target classes (N,); the result has the images'
    shape.

    `baseline` is x', `steps` the number of points that `rule` (Captum's name for the quadrature) puts
    on the path from it, and `chunk` the number of rows of one backward pass. The model must be in
    eval mode; its parameters get no gradient. `gradient` computes the rows' gradients instead of
    torch's autograd.

    Raises `ValueError` when the model is in training mode, in which batch norm would mix the
    attributions of neighbours.
    """
    sizes, betas = (
        images.new_tensor(values).expand(len(images), steps) for values in quadrature(rule, steps)
    )
    gradient = gradient or autograd_gradient(model, output)
    return path_sum(model, images, targets, baseline, betas, sizes, chunk, gradient)


def path_sum(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    baseline: Tensor,
    places: Tensor,
    weights: Tensor,
    chunk: int = 96,
    gradient: Gradient | None = None,
) -> Tensor:
    """Eq. 3 with `places` on [0, 1] and `weights`, both (N, steps), that each image has for itself.

    The rest is as in `integrated_gradients`, which gives all images the places of one rule. Raises
    `ValueError` when the model is in training mode.
    """
    if model.training:
        raise ValueError(
            "integrated gradients needs model.eval(): batch norm in training mode mixes the"
            " pictures of a batch"
        )
    gradient = gradient or autograd_gradient(model, "logit")
    steps, difference = places.shape[1], images - baseline
    gradients = torch.zeros_like(images)
    for rows in torch.arange(len(images) * steps, device=images.device).split(chunk):
        index, step = rows // steps, rows % steps
        beta, size = (values[index, step].view(-1, 1, 1, 1) for values in (places, weights))
        gradients.index_add_(
            0, index, gradient(baseline + beta * difference[index], targets[index]) * size
        )
    return gradients * difference


def captum_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    steps: int = 50,
    rule: Rule = "gausslegendre",
    output: Output = "logit",
    internal_batch_size: int | None = None,
) -> Tensor:
    """The same quantity by Captum itself: the reference for `integrated_gradients`."""
    method = _captum().IntegratedGradients(target_score(model, output))
    result: Tensor = method.attribute(
        images,
        baseline.expand_as(images),
        target=targets,
        n_steps=steps,
        method=rule,
        internal_batch_size=internal_batch_size,
    )
    return result.detach()


def saliency(
    model: nn.Module, images: Tensor, targets: Tensor, *, output: Output = "logit"
) -> Tensor:
    """The gradient of each image's target score (Simonyan et al. 2014), in the images' shape."""
    method = _captum().Saliency(target_score(model, output))
    return _in_parts(lambda x, y: method.attribute(x, y, abs=False), images, targets)


def input_x_gradient(
    model: nn.Module, images: Tensor, targets: Tensor, *, output: Output = "logit"
) -> Tensor:
    """The gradient times the image (Shrikumar et al. 2016), in the images' shape."""
    method = _captum().InputXGradient(target_score(model, output))
    return _in_parts(method.attribute, images, targets)


def grad_cam(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    output: Output = "logit",
    layer: nn.Module | None = None,
) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017) of `layer`, interpolated to the images and spread evenly
    over their colours.

    Without `layer`, it is the model's last feature map: the output of its module `features`.
    Raises `KdigError` for a model without such a module.
    """
    layer = layer or _last_features(model)
    cam = _captum().LayerGradCam(target_score(model, output), layer)
    coarse = _in_parts(lambda x, y: cam.attribute(x, y, relu_attributions=True), images, targets)
    size = tuple(images.shape[2:])
    fine = _captum().LayerAttribution.interpolate(coarse, size, "bilinear")
    spread: Tensor = fine.expand_as(images) / images.shape[1]
    return spread


def _last_features(model: nn.Module) -> nn.Module:
    named = (module for name, module in model.named_modules() if name.split(".")[-1] == "features")
    layer: nn.Module | None = next(named, None)
    if layer is None:
        raise KdigError("Grad-CAM needs a layer: the model has no module called 'features'")
    return layer


# standard deviation of SmoothGrad's noise, as a part of the range [0, 1] of the images
_NOISE = 0.15


def smooth_grad(
    model: nn.Module, images: Tensor, targets: Tensor, *, steps: int = 50, output: Output = "logit"
) -> Tensor:
    """The mean gradient of `steps` noisy copies of each image (Smilkov et al. 2017)."""
    method = _captum().NoiseTunnel(_captum().Saliency(target_score(model, output)))

    def one(image: Tensor, target: Tensor) -> Tensor:
        found: Tensor = method.attribute(
            image, nt_samples=steps, stdevs=_NOISE, target=target, abs=False
        )
        return found

    return _one_by_one(one, images, targets)


def gradient_shap(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    baseline: Tensor,
    *,
    steps: int = 50,
    output: Output = "logit",
) -> Tensor:
    """The mean of `steps` gradients at random points between `baseline` and each image, times their
    difference (expected gradients; Lundberg and Lee 2017, Captum's `GradientShap`).
    """
    method = _captum().GradientShap(target_score(model, output))

    def one(image: Tensor, target: Tensor) -> Tensor:
        found: Tensor = method.attribute(
            image, baseline.expand_as(image), n_samples=steps, target=target
        )
        return found

    return _one_by_one(one, images, targets)


def deep_lift(
    model: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor, *, output: Output = "logit"
) -> Tensor:
    """DeepLIFT with the rescale rule (Shrikumar et al. 2017), in the images' shape.

    Captum's asks for a rectifier of its own at every place, and knows no ReLU6: it is given such a
    copy of the network (`_own_rectifiers`). Raises `KdigError` for a network that torch.fx cannot
    trace.
    """
    scored: nn.Module = _own_rectifiers(model)
    size = _AT_ONCE_BY_DEEP_LIFT
    if output == "softmax":
        # Captum's rule for softmax subtracts a mean over all images that it is given
        scored, size = nn.Sequential(scored, nn.Softmax(1)), 1
    method = _captum().DeepLift(scored)

    def some(images: Tensor, targets: Tensor) -> Tensor:
        found: Tensor = method.attribute(images, baseline.expand_as(images), target=targets)
        return found

    with warnings.catch_warnings():
        # that it sets hooks, and takes them away again
        warnings.filterwarnings("ignore", "Setting forward, backward hooks")
        return _in_parts(some, images, targets, size)


class _Rectifier6(nn.Module):
    """ReLU6 as max(x, 0) - max(x - 6, 0).

    Both rectifiers have the same change of input, so that the rescale rule for their difference is
    that for ReLU6.
    """

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        # Captum's hook is on a rectifier's input, which must be no other's
        cut: Tensor = self.low(x.clone()) - self.high(x - 6)
        return cut


def _own_rectifiers(model: nn.Module) -> nn.Module:
    """A copy of a network in which every rectifier is a module of its own and none works in place."""
    try:
        traced = torch.fx.symbolic_trace(copy.deepcopy(model))
    except (torch.fx.proxy.TraceError, TypeError) as error:
        found = " ".join(str(error).split())[:200]
        raise KdigError(f"DeepLIFT needs a network that torch.fx can trace: {found}") from None
    modules = dict(traced.named_modules())
    for place, node in enumerate(list(traced.graph.nodes)):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.ReLU | nn.ReLU6):
            node.target = f"rectifier{place}"
            own = nn.ReLU() if isinstance(module, nn.ReLU) else _Rectifier6()
            traced.add_submodule(node.target, own)
    traced.recompile()
    copied: nn.Module = traced.eval()
    return copied


def random_map(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Uniform noise in the images' shape, seeded by each image: a control that knows nothing."""

    def one(image: Tensor, target: Tensor) -> Tensor:
        return torch.rand(image.shape).to(image)

    return _one_by_one(one, images, targets)


def _one_by_one(
    attribute: Callable[[Tensor, Tensor], Tensor], images: Tensor, targets: Tensor
) -> Tensor:
    """Attributions that draw random numbers, which depend on nothing but the image itself."""

    def drawn(image: Tensor, target: Tensor) -> Tensor:
        with _draws_of(image.detach()):
            return attribute(image, target)

    return _in_parts(drawn, images, targets, 1)


def _in_parts(
    attribute: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    size: int = _AT_ONCE,
) -> Tensor:
    """Attributions of so many images at a time: a backward pass keeps what every layer has given."""
    parts = zip(images.split(size), targets.split(size))
    return torch.cat([attribute(_leaf(some), classes).detach() for some, classes in parts])


@contextmanager
def _draws_of(image: Tensor) -> Iterator[None]:
    """Torch's and numpy's generators, from both of which Captum draws, seeded by an image."""
    seed = zlib.crc32(image.cpu().contiguous().numpy().tobytes())
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


Method = Callable[..., Tensor]
# name -> `(model, images, targets, **settings)` -> attributions in the images' shape
ATTRIBUTIONS: dict[str, Method] = {
    "integrated_gradients": integrated_gradients,
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "grad_cam": grad_cam,
    "smooth_grad": smooth_grad,
    "gradient_shap": gradient_shap,
    "deep_lift": deep_lift,
    "random_map": random_map,
}


def method_of(attribution: str) -> Method:
    """The entry of `ATTRIBUTIONS`. Raises `KdigError` for a name that is not in the table."""
    if attribution not in ATTRIBUTIONS:
        known = ", ".join(ATTRIBUTIONS)
        raise KdigError(f"unknown attribution {attribution!r}: choose one of {known}")
    return ATTRIBUTIONS[attribution]


@functools.cache
def settings_of(attribution: str) -> frozenset[str]:
    """Which settings an attribution depends on: the parameters of its function after `targets`."""
    return frozenset(list(inspect.signature(method_of(attribution)).parameters)[3:])


def attribute(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    attribution: str = "integrated_gradients",
    **settings: Any,
) -> Tensor:
    """Attributions (N, 3, H, W) of `targets` (N,) for images in [0, 1], by a name of
    `ATTRIBUTIONS`.

    `settings` are those of its function; one that only others have is passed over, and the
    baseline is black unless it is given as a tensor. The model must be in eval mode.

    Raises `KdigError` for an unknown attribution, and for a setting that none has.

    >>> net = build("s8", classes=10).eval()
    >>> attribute(net, torch.rand(2, 3, 32, 32), torch.tensor([3, 5]), steps=20).shape
    torch.Size([2, 3, 32, 32])
    """
    wanted, known = settings_of(attribution), set().union(*map(settings_of, ATTRIBUTIONS))
    if strange := sorted(set(settings) - known):
        raise KdigError(
            f"no attribution has {strange[0]!r}: choose from {', '.join(sorted(known))}"
        )
    given = {"baseline": images.new_zeros(1, images.shape[1], 1, 1), **settings}
    used = {name: value for name, value in given.items() if name in wanted}
    return method_of(attribution)(model, images, targets, **used)


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
