"""Properties of attributions: the exercise `integrated_gradients`, and three bugs of such code."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kdig.study.exercises.checking import Function, apart, shaped, true_of, unless


def _curved() -> Any:
    """A small network (N, 3, 4, 4) -> (N, 5) whose output bends along the path."""
    steep = nn.Linear(48, 16).requires_grad_(False)
    steep.weight.mul_(4)
    net = nn.Sequential(nn.Flatten(), steep, nn.Tanh(), nn.Linear(16, 5))
    return net.double().requires_grad_(False).eval()


def _straight() -> Any:
    """A linear network (N, 3, 4, 4) -> (N, 5)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5)).double().requires_grad_(False).eval()


def _images(n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, 4, 4), a class for each, and a grey baseline (1, 3, 4, 4)."""
    images = torch.rand(n, 3, 4, 4, dtype=torch.float64)
    return images, torch.arange(n) % 5, torch.full((1, 3, 4, 4), 0.3, dtype=torch.float64)


def _risen(net: Function, images: Tensor, targets: Tensor, baseline: Tensor) -> Tensor:
    """F(x) - F(x') of each image, (N,)."""
    rise: Tensor = net(images) - net(baseline.expand_as(images))
    return rise.gather(1, targets[:, None])[:, 0]


def _lacking(found: Tensor, rise: Tensor) -> str | None:
    """The image whose attributions (N, 3, H, W) lack most of `rise` (N,), if that is more than 2 %
    of the largest rise.
    """
    sums = found.sum((1, 2, 3))
    worst = int((sums - rise).abs().argmax())
    text = f"for one image they add up to {sums[worst]:.3f}, and that is {rise[worst]:.3f}"
    return unless(apart(sums, rise) < 0.02 * float(rise.abs().max()), text)


def _attributed(
    function: Function, net: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor
) -> Tensor:
    """The learner's attributions from 200 steps, which should have the images' shape."""
    return shaped(function(net, images.clone(), targets, baseline, 200), images.shape)


@true_of("integrated_gradients", "a pixel that is equal to its baseline gets 0")
def _same_pixel(integrated_gradients: Function) -> str | None:
    images, targets, baseline = _images()
    images[:, :, 1, 2] = 0.3
    found = _attributed(integrated_gradients, _curved(), images, targets, baseline)[:, :, 1, 2]
    return unless(float(found.abs().max()) < 1e-9, f"one gets {float(found.abs().max()):.3g}")


@true_of("integrated_gradients", "a pixel that the network ignores gets 0")
def _ignored(integrated_gradients: Function) -> str | None:
    net, (images, targets, baseline) = _curved(), _images()
    net[1].weight[:, 5] = 0
    found = _attributed(integrated_gradients, net, images, targets, baseline).flatten(1)[:, 5]
    return unless(float(found.abs().max()) < 1e-9, f"one gets {float(found.abs().max()):.3g}")


@true_of("integrated_gradients", "for a linear network it is the weight times (x - x')")
def _linear(integrated_gradients: Function) -> str | None:
    net, (images, targets, baseline) = _straight(), _images()
    wanted = net[1].weight[targets].view_as(images) * (images - baseline)
    off = apart(_attributed(integrated_gradients, net, images, targets, baseline), wanted)
    return unless(off < 0.01 * float(wanted.abs().max()), f"one pixel is off by {off:.3g}")


@true_of("integrated_gradients", "the attributions of an image add up to F(x) - F(x')")
def _complete(integrated_gradients: Function) -> str | None:
    net, (images, targets, baseline) = _curved(), _images()
    found = _attributed(integrated_gradients, net, images, targets, baseline)
    return _lacking(found, _risen(net, images, targets, baseline))


@true_of("integrated_gradients", "an image gets the same alone and in a batch")
def _in_a_batch(integrated_gradients: Function) -> str | None:
    net, (images, targets, baseline) = _curved(), _images()
    together = _attributed(integrated_gradients, net, images, targets, baseline)[:1]
    alone = _attributed(integrated_gradients, net, images[:1], targets[:1], baseline)
    return unless(apart(together, alone) < 1e-6, f"one pixel moves by {apart(together, alone):.3g}")


# ---- bug 6: the difference of another space than the gradient's


@true_of("pixel_attributions", "the attributions of an image add up to F(x) - F(x')")
def _normalised_complete(pixel_attributions: Function) -> str | None:
    images, net, whole = _normalised()
    targets, black = torch.arange(3), torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    found = shaped(pixel_attributions(net, images, targets, *_COLOURS, 200), images.shape)
    return _lacking(found, _risen(whole, images, targets, black))


@true_of("pixel_attributions", "a black pixel gets 0, because the baseline is black, too")
def _normalised_black(pixel_attributions: Function) -> str | None:
    images, net, _ = _normalised()
    images[:, :, 2, 2] = 0
    found = shaped(pixel_attributions(net, images, torch.arange(3), *_COLOURS, 200), images.shape)
    most = float(found[:, :, 2, 2].abs().max())
    return unless(most < 1e-9, f"one gets {most:.3g}")


_COLOURS = tuple(
    torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
    for values in ([0.5, 0.4, 0.3], [0.25, 0.2, 0.25])
)


def _normalised() -> tuple[Tensor, nn.Module, Callable[[Tensor], Tensor]]:
    """Images in [0, 1], a network that takes normalised images, and both steps as one function."""
    net, (mean, std) = _curved(), _COLOURS
    return _images()[0], net, lambda x: net((x - mean) / std)


# ---- bug 7: the trapezoid rule, chunk by chunk


def _paths(chunks: tuple[int, ...], path_integral: Function) -> list[float]:
    """The learner's integral of 3 b^2 + 1 from 0 to 1 (which is 2) by 60 steps, in each way."""
    return [float(path_integral(lambda b: 3 * b**2 + 1, 60, chunk)) for chunk in chunks]


@true_of("path_integral", "a chunk that holds all points gives the trapezoid rule")
def _one_chunk(path_integral: Function) -> str | None:
    (found,) = _paths((100,), path_integral)
    return unless(abs(found - 2) < 0.01, f"the integral of 3 b^2 + 1 is {found:.4f} and not 2")


@true_of("path_integral", "the size of a chunk changes nothing")
def _many_chunks(path_integral: Function) -> str | None:
    whole, *rest = _paths((100, 8, 7), path_integral)
    text = f"the integral of 3 b^2 + 1 is {whole:.4f} at once, {rest[0]:.4f} in chunks of 8"
    return unless(max(abs(value - whole) for value in rest) < 1e-6, text)


@true_of("path_integral", "a last chunk with a single point counts like any other")
def _single_point(path_integral: Function) -> str | None:
    whole, by_four = _paths((100, 4), path_integral)  # 61 points: fifteen chunks and one point
    text = f"the integral of 3 b^2 + 1 is {whole:.4f} at once, {by_four:.4f} in chunks of 4"
    return unless(abs(by_four - whole) < 1e-6, text)


# ---- bug 8: a network in training mode


def _noisy() -> Any:
    """A small network with batch norm and dropout."""
    layers = nn.Linear(48, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 5)
    return nn.Sequential(nn.Flatten(), *layers).double().requires_grad_(False)


def _sensitive(input_gradients: Function, net: nn.Module, images: Tensor) -> Tensor:
    targets = torch.arange(len(images))
    return shaped(input_gradients(net.train(), images.clone(), targets), images.shape)


@true_of("input_gradients", "asking twice gives the same answer")
def _twice(input_gradients: Function) -> str | None:
    net, (images, _, _) = _noisy(), _images()
    one, two = (_sensitive(input_gradients, net, images) for _ in range(2))
    return unless(apart(one, two) < 1e-9, f"one pixel differs by {apart(one, two):.3g}")


@true_of("input_gradients", "an image's answer does not depend on its neighbours in the batch")
def _neighbours(input_gradients: Function) -> str | None:
    net, (images, _, _) = _noisy(), _images()
    one = _sensitive(input_gradients, net, images)[0]
    images[1:] = 1 - images[1:]
    off = apart(one, _sensitive(input_gradients, net, images)[0])
    return unless(off < 1e-9, f"other neighbours move one pixel by {off:.3g}")


@true_of("input_gradients", "the network's running means stay as they are")
def _running(input_gradients: Function) -> str | None:
    net, (images, _, _) = _noisy(), _images()
    before = net[2].running_mean.clone()
    _sensitive(input_gradients, net, images)
    off = apart(before, net[2].running_mean)
    return unless(off == 0, f"one of them moves by {off:.3g}, only because you looked")


@true_of("input_gradients", "afterwards the network is in training mode again, as it was before")
def _mode(input_gradients: Function) -> str | None:
    net, (images, _, _) = _noisy(), _images()
    _sensitive(input_gradients, net, images)
    return unless(net.training, "it stays in eval mode, and training would go on without dropout")
