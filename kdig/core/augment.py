"""Random views of images and their attribution maps, and the overlay of Eqs. 4-6.

Randomness is drawn once for a whole epoch, from an explicit generator, so that a picture's view
depends on neither the batch it falls into nor the probability with which maps are overlaid.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Views:
    """One random view for each of N pictures.

    `dy`, `dx` int64 (N,), offsets into the padded picture; `flip` bool (N,); `chance` float (N,)
    uniform on [0, 1), below the overlay probability when the map is to be overlaid; `exponent`
    float (N,), log-uniform on [1, 2].
    """

    dy: Tensor
    dx: Tensor
    flip: Tensor
    chance: Tensor
    exponent: Tensor

    def __getitem__(self, indices: Tensor | slice) -> "Views":
        return Views(*(getattr(self, field.name)[indices] for field in fields(self)))

    def to(self, device: str | torch.device) -> "Views":
        return Views(*(getattr(self, field.name).to(device) for field in fields(self)))


def draw_views(n: int, padding: int, flip: bool, generator: Generator) -> Views:
    """Views of `n` pictures: crop offsets 0..2*padding, a fair flip if `flip` is set, and the
    overlay's draws (Eqs. 4, 6).
    """
    dy, dx = torch.randint(2 * padding + 1, (2, n), generator=generator)
    mirrored = torch.rand(n, generator=generator) < (0.5 if flip else 0.0)
    chance = torch.rand(n, generator=generator)
    exponent = torch.exp(torch.rand(n, generator=generator) * math.log(2))
    return Views(dy, dx, mirrored, chance, exponent)


def crop_flip(pixels: Tensor, views: Views, padding: int) -> Tensor:
    """Pad (N, C, H, W) with `padding` zeros a side, cut each row's H x W window, mirror where
    asked.

    Images and maps given the same `views` stay aligned. The result is in channels_last memory
    format.
    """
    n, _, height, width = pixels.shape
    padded = F.pad(pixels, [padding] * 4)
    rows = views.dy[:, None] + torch.arange(height, device=pixels.device)
    columns = torch.arange(width, device=pixels.device).expand(n, width)
    columns = views.dx[:, None] + torch.where(views.flip[:, None], columns.flip(1), columns)
    batch = torch.arange(n, device=pixels.device)[:, None, None]
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def normalise_map(maps: Tensor, exponent: Tensor) -> Tensor:
    """Eqs. 4, 5: non-negative maps (N, H, W) raised to `exponent` (N,), each scaled to [0, 1].

    A constant map gives zeros.
    """
    scaled = maps ** exponent[:, None, None]
    low, high = scaled.amin((1, 2), keepdim=True), scaled.amax((1, 2), keepdim=True)
    return (scaled - low) / (high - low).clamp_min(torch.finfo(scaled.dtype).tiny)


def blend(images: Tensor, veil: Tensor, weight: float = 0.5) -> Tensor:
    """Eq. 6, upper case: images (N, C, H, W) and what is laid over them, (N or 1, C or 1, H, W).

    `weight` is the veil's part; the paper's is a half.
    """
    return (1 - weight) * images + weight * veil


def overlay(images: Tensor, maps: Tensor, exponent: Tensor) -> Tensor:
    """Eqs. 4-6: images (N, C, H, W) in [0, 1] blended with their normalised maps (N, H, W).

    >>> black, maps = torch.zeros(1, 3, 1, 2), torch.tensor([[[0.0, 5.0]]])
    >>> overlay(black, maps, exponent=torch.ones(1))[0, 0]
    tensor([[0.0000, 0.5000]])
    """
    return blend(images, normalise_map(maps, exponent)[:, None])


def phase_scrambled(maps: Tensor, generator: Generator) -> Tensor:
    """Maps (N, H, W) with their amplitude spectra and the phases of white noise, raised to a
    minimum of zero.

    As coarse as the maps were, but with nothing where it was: a control for what a map shows.
    """
    noise = torch.fft.rfft2(torch.rand(maps.shape, generator=generator).to(maps.device))
    scrambled: Tensor = torch.fft.irfft2(
        torch.fft.rfft2(maps).abs() * torch.sgn(noise), s=maps.shape[-2:]
    )
    return scrambled - scrambled.amin((1, 2), keepdim=True)
