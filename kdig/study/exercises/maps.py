"""Properties of maps: the exercises `attention_map` (Eq. 2) and `overlay` (Eqs. 4 to 6)."""

import torch
from torch import Tensor

from kdig.study.exercises.checking import Function, apart, shaped, true_of, unless


def _activation() -> Tensor:
    return torch.randn(3, 4, 5, 5, dtype=torch.float64)


def _attended(attention_map: Function, activation: Tensor) -> Tensor:
    """The learner's map of an activation (N, C, h, w), which should be (N, h*w)."""
    n, _, height, width = activation.shape
    return shaped(attention_map(activation), (n, height * width))


@true_of("attention_map", "each map has the length 1")
def _length(attention_map: Function) -> str | None:
    length = float(_attended(attention_map, _activation()).norm(dim=1)[0])
    return unless(abs(length - 1) < 1e-6, f"the first of three has the length {length:.4g}")


@true_of("attention_map", "the order of the channels does not matter")
def _order(attention_map: Function) -> str | None:
    activation = _activation()
    one, other = (_attended(attention_map, a) for a in (activation, activation.flip(1)))
    return unless(
        apart(one, other) < 1e-6, f"turning it round moves a number by {apart(one, other):.3g}"
    )


@true_of("attention_map", "four times as many channels, each a copy, change nothing")
def _copies(attention_map: Function) -> str | None:
    activation = _activation()
    one, other = (_attended(attention_map, a) for a in (activation, activation.repeat(1, 4, 1, 1)))
    return unless(apart(one, other) < 1e-6, f"one number moves by {apart(one, other):.3g}")


@true_of("attention_map", "twice the activation counts four times")
def _squares(attention_map: Function) -> str | None:
    activation = torch.zeros(1, 2, 1, 2, dtype=torch.float64)
    activation[0, :, 0, 0], activation[0, :, 0, 1] = 1, -2
    small, large = _attended(attention_map, activation)[0].tolist()
    text = f"activations 1 and -2 give {small:.3f} and {large:.3f}"
    return unless(abs(large - 4 * small) < 1e-6, text)


@true_of("attention_map", "an image's map does not depend on the other images of the batch")
def _alone(attention_map: Function) -> str | None:
    activation = _activation()
    together, alone = (_attended(attention_map, a)[0] for a in (activation, activation[:1]))
    return unless(
        apart(together, alone) < 1e-6, f"one number moves by {apart(together, alone):.3g}"
    )


Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def _inputs(n: int = 4) -> Inputs:
    """Images (N, 3, 6, 6), maps (N, 6, 6), exponents (N,) and chances (N,)."""
    images, maps = (torch.rand(n, *shape, dtype=torch.float64) for shape in ((3, 6, 6), (6, 6)))
    exponent, chance = 1 + torch.rand(n, dtype=torch.float64), torch.rand(n, dtype=torch.float64)
    return images, 7 * maps, exponent, chance


def _laid(overlay: Function, inputs: Inputs, p: float) -> Tensor:
    """The learner's overlay, which should have the images' shape."""
    return shaped(overlay(*(part.clone() for part in inputs), p), inputs[0].shape)


@true_of("overlay", "the result stays between 0 and 1")
def _range(overlay: Function) -> str | None:
    found = _laid(overlay, _inputs(), 1.0)
    low, high = float(found.min()), float(found.max())
    return unless(low >= 0 and high <= 1 + 1e-9, f"it goes from {low:.3f} to {high:.3f}")


@true_of("overlay", "p = 0 changes no image")
def _never(overlay: Function) -> str | None:
    inputs = _inputs()
    moved = int(((_laid(overlay, inputs, 0.0) - inputs[0]).abs().flatten(1).amax(1) > 0).sum())
    return unless(moved == 0, f"{moved} of 4 images change")


@true_of("overlay", "p = 1 changes every image")
def _always(overlay: Function) -> str | None:
    inputs = _inputs()
    kept = int(((_laid(overlay, inputs, 1.0) - inputs[0]).abs().flatten(1).amax(1) == 0).sum())
    return unless(kept == 0, f"{kept} of 4 images stay as they are")


@true_of("overlay", "an image is overlaid when its chance is below p, and only then")
def _some(overlay: Function) -> str | None:
    images, maps, exponent, _ = _inputs()
    chance = torch.tensor([0.1, 0.9, 0.2, 0.8], dtype=torch.float64)
    moved = (
        (_laid(overlay, (images, maps, exponent, chance), 0.5) - images).abs().flatten(1).amax(1)
    )
    found = (moved > 0).tolist()
    text = f"chances 0.1, 0.9, 0.2, 0.8 with p = 0.5 change {found}"
    return unless(found == [True, False, True, False], text)


@true_of("overlay", "the map's largest pixel gives 0.5 x + 0.5 and its smallest gives 0.5 x")
def _ends(overlay: Function) -> str | None:
    inputs = _inputs(1)
    flat = inputs[1].flatten()
    found = 2 * (_laid(overlay, inputs, 1.0) - 0.5 * inputs[0])[0, 0].flatten()
    top, bottom = float(found[flat.argmax()]), float(found[flat.argmin()])
    text = f"there it adds {top / 2:.3f} and {bottom / 2:.3f} to 0.5 x"
    return unless(abs(top - 1) < 1e-6 and abs(bottom) < 1e-6, text)


@true_of(
    "overlay", "the exponent is a power of the map (Eq. 4): s = 2 is s = 1 on the map's square"
)
def _power(overlay: Function) -> str | None:
    images, maps, exponent, chance = _inputs()
    one = torch.ones_like(exponent)
    twice = _laid(overlay, (images, maps, 2 * one, chance), 1.0)
    squared = _laid(overlay, (images, maps.square(), one, chance), 1.0)
    return unless(apart(twice, squared) < 1e-6, f"a pixel differs by {apart(twice, squared):.3g}")


@true_of("overlay", "every image is scaled by its own map alone (Eq. 5)")
def _own_scale(overlay: Function) -> str | None:
    images, maps, exponent, chance = _inputs()
    louder = maps * torch.tensor([1.0, 10, 1, 100]).view(-1, 1, 1)
    one = _laid(overlay, (images, maps, exponent, chance), 1.0)
    off = apart(one, _laid(overlay, (images, louder, exponent, chance), 1.0))
    return unless(off < 1e-6, f"ten or a hundred times a map moves a pixel by {off:.3g}")


@true_of("overlay", "a map that is the same everywhere gives numbers")
def _constant(overlay: Function) -> str | None:
    images, maps, exponent, chance = _inputs()
    found = _laid(overlay, (images, torch.ones_like(maps), exponent, chance), 1.0)
    missing = int((~found.isfinite()).sum())
    return unless(missing == 0, f"{missing} of {found.numel()} pixels are no number (0 / 0)")


@true_of("overlay", "mirrored images with mirrored maps give the mirrored result")
def _mirrored(overlay: Function) -> str | None:
    images, maps, exponent, chance = _inputs()
    one = _laid(overlay, (images, maps, exponent, chance), 1.0).flip(-1)
    off = apart(one, _laid(overlay, (images.flip(-1), maps.flip(-1), exponent, chance), 1.0))
    return unless(off < 1e-6, f"a pixel differs by {off:.3g}")
