"""Damaged test pictures, uint8 (N, 3, H, W) as in `kdig.core.data`, and whether networks still
classify them correctly.

A severity is in its own unit: of `jpeg` and `jpeg_444` the quality, 1 to 95; of `noise` the sd in
grey levels of 255; of `blur` the sd in pixels; of `contrast` and `contrast_channels` the factor that
is left of it, around the image's mean grey or each channel's mean. `none` leaves the pictures as
they are.
"""

import io
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torchvision.transforms import v2

from kdig import KdigError
from kdig.core.data import Split
from kdig.core.store import Workspace
from kdig.core.training import predict

Key = TypeVar("Key", bound=Hashable)


def jpeg(images: Tensor, quality: int, subsampling: str = "4:2:0") -> Tensor:
    """Each picture as JPEG and back.

    4:2:0 keeps colour at half the resolution in both directions, 4:4:4 at the whole one.
    """
    back = []
    for image in images:
        file = io.BytesIO()
        # subsampling is named because encoders' defaults differ; torchvision's encoder, deprecated,
        # has no such option
        v2.functional.to_pil_image(image).save(
            file, "JPEG", quality=quality, subsampling=subsampling
        )
        back.append(v2.functional.pil_to_tensor(Image.open(file)))
    return torch.stack(back)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, cut off at three `sigma`, or at the picture's size; the border is mirrored."""
    radius = min(math.ceil(3 * sigma), min(images.shape[-2:]) - 1)
    blurred: Tensor = v2.functional.gaussian_blur(images, [2 * radius + 1] * 2, [sigma] * 2)
    return blurred


def contrast_channels(images: Tensor, factor: float) -> Tensor:
    """Each channel's distance from its own mean times `factor`, as CIFAR-10-C has it."""
    mean = images.double().mean((-2, -1), keepdim=True)
    return (mean + factor * (images - mean)).round().clamp(0, 255).to(torch.uint8)


# CIFAR-10-C's severities 1 to 5 in the units of this module (Hendrycks and Dietterich 2019:
# hendrycks/robustness at ca36008, ImageNet-C/create_c/make_cifar_c.py). There noise has an sd of
# 0.04 to 0.10 of the range. Theirs cuts grey levels off where ours rounds, and a blur's border
# repeats its last pixel where ours is mirrored.
CIFAR10_C: dict[str, tuple[float, ...]] = {
    "jpeg": (80, 65, 58, 50, 40),
    "noise": tuple(255 * sd for sd in (0.04, 0.06, 0.08, 0.09, 0.10)),
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "contrast_channels": (0.75, 0.5, 0.4, 0.3, 0.15),
}


def corrupt(images: Tensor, kind: str, severity: float, seed: int = 0) -> Tensor:
    """The pictures damaged; equal arguments give equal pictures.

    Raises `KdigError` for an unknown kind.
    """
    if kind in ("jpeg", "jpeg_444"):
        return jpeg(images, int(severity), "4:2:0" if kind == "jpeg" else "4:4:4")
    if kind == "noise":
        drawn = torch.randn(images.shape, generator=Generator().manual_seed(seed))
        return (images + severity * drawn).round().clamp(0, 255).to(torch.uint8)
    damages = {
        "none": lambda x, _: x,
        "blur": blur,
        "contrast": v2.functional.adjust_contrast,
        "contrast_channels": contrast_channels,
    }
    if kind not in damages:
        raise KdigError(
            f"unknown damage {kind!r}: choose none, jpeg, jpeg_444, noise, blur, contrast or"
            " contrast_channels"
        )
    damaged: Tensor = damages[kind](images, severity)
    return damaged


Condition = tuple[str, float]  # kind of damage and its severity


def kept_answers(
    weights: Mapping[Key, str],
    load: Callable[[Key], nn.Module],
    split: Split,
    conditions: Sequence[Condition],
    workspace: Workspace,
) -> dict[Condition, dict[Key, np.ndarray]]:
    """As `right_answers`, for networks of which each has the hash `weights`. What one of them has
    answered before is taken from the store of `workspace`, and it is not loaded.
    """
    named = {f"{kind} {severity:g}": (kind, severity) for kind, severity in conditions}
    answers: dict[Condition, dict[Key, np.ndarray]] = {one: {} for one in conditions}
    for key, network in weights.items():

        def ask(new: Sequence[str], key: Key = key) -> list[np.ndarray]:
            asked = [named[name] for name in new]
            given = right_answers({key: load(key)}, split, asked, workspace.device)
            return [given[one][key] for one in asked]

        kept = workspace.answers(network, split, list(named), ask)
        for condition, right in zip(named.values(), kept, strict=True):
            answers[condition][key] = right
    return answers


def right_answers(
    models: Mapping[Key, nn.Module],
    split: Split,
    conditions: Sequence[Condition],
    device: str = "cpu",
) -> dict[Condition, dict[Key, np.ndarray]]:
    """For each (kind, severity): name -> bool (N,), whether the network is right. All networks see
    the same damaged pictures.

    `models` take pictures in [0, 1] and lie on `device`.
    """
    answers = {}
    for condition in conditions:
        damaged = replace(split, images=corrupt(split.images, *condition))
        guesses = {
            name: predict(model, damaged, device=device).argmax(1) for name, model in models.items()
        }
        answers[condition] = {
            name: (guess == split.labels).numpy() for name, guess in guesses.items()
        }
    return answers
