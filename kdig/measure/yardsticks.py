"""Test sets and labels that others have made for CIFAR-10, each read from the user's folder.

None is shipped. The files are those of their authors: CIFAR-10.1 (Recht et al. 2019), CIFAR-10-C
(Hendrycks and Dietterich 2019), and CIFAR-10H, what some fifty people each say of every test image
(Peterson et al. 2019).
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from kdig import KdigError
from kdig.core.data import Split

NEWER = "cifar10.1_v6"
CORRUPTED = "CIFAR-10-C"
PEOPLE = "cifar10h-probs.npy"
EXPECTED = (
    f"expected any of {NEWER}_data.npy and {NEWER}_labels.npy, {CORRUPTED}/labels.npy and"
    f" {CORRUPTED}/<kind>.npy, {PEOPLE} with the archive of CIFAR-10 beside it"
)
# images of one severity in a file of CIFAR-10-C
_EACH = 10_000


def test_sets(folder: Path) -> dict[str, Callable[[], Split]]:
    """Name of each test set in `folder` -> what reads it; a severity of CIFAR-10-C is one set.

    Raises `KdigError` where the folder holds no yardstick.
    """
    found: dict[str, Callable[[], Split]] = {}
    if (folder / f"{NEWER}_data.npy").exists():
        found["CIFAR-10.1"] = functools.partial(
            _split, folder / f"{NEWER}_data.npy", folder / f"{NEWER}_labels.npy"
        )
    labels = folder / CORRUPTED / "labels.npy"
    for path in sorted((folder / CORRUPTED).glob("*.npy")):
        if path != labels:
            found |= {
                f"{CORRUPTED}: {path.stem} {severity}": functools.partial(
                    _split, path, labels, slice((severity - 1) * _EACH, severity * _EACH)
                )
                for severity in range(1, 6)
            }
    if not found and not (folder / PEOPLE).exists():
        raise KdigError(f"no yardstick in {folder}: {EXPECTED}")
    return found


def people(folder: Path) -> tuple[Split, Tensor] | None:
    """CIFAR-10's test images in their original order, and the share of people (N, 10) that named
    each class; None where `folder` has no such file.

    Raises `KdigError` where the archive is missing, and where the rows are not those of the images.
    """
    if not (folder / PEOPLE).exists():
        return None
    try:
        tested = CIFAR10(folder, train=False)
    except (OSError, RuntimeError) as error:
        raise KdigError(
            f"{folder / PEOPLE} has the order of CIFAR-10's archive: put {CIFAR10.filename} or"
            f" {CIFAR10.base_folder} beside it ({str(error).splitlines()[0]})"
        ) from None
    images, labels = np.asarray(tested.data), np.asarray(tested.targets)
    shares = _array(folder / PEOPLE, (len(labels), 10))
    agreed = (shares.argmax(1) == labels).mean()
    if agreed < 0.9:
        raise KdigError(
            f"{folder / PEOPLE}: people name the label of {agreed:.0%} of the images, where 99 %"
            " are usual: its rows are not in the archive's order"
        )
    return _as_split(images, labels), torch.from_numpy(np.array(shares)).float()


def _split(data: Path, labels: Path, rows: slice = slice(None)) -> Split:
    classes = _array(labels, (None,))
    images = _array(data, (len(classes), 32, 32, 3))
    if images.dtype != np.uint8 or not 0 <= classes.min() <= classes.max() <= 9:
        raise KdigError(f"{data} and {labels.name} must hold uint8 images and classes from 0 to 9")
    return _as_split(images[rows], classes[rows])


def _as_split(images: np.ndarray, labels: np.ndarray) -> Split:
    # copies: the files are mapped for reading only
    pixels = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2)))
    names = tuple(str(row) for row in range(len(labels)))
    return Split(pixels, torch.from_numpy(np.array(labels)).long(), names)


def _array(path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    """The array in `path`, of the given shape; None: of any length."""
    try:
        values = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise KdigError(f"cannot read {path}: {str(error).splitlines()[0]}") from None
    fits = len(values.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, values.shape)
    )
    if not fits:
        wanted = " x ".join("N" if size is None else str(size) for size in shape)
        raise KdigError(f"{path} holds {' x '.join(map(str, values.shape))} values, not {wanted}")
    return np.asarray(values)


def other_class(shares: Tensor, labels: Tensor) -> Tensor:
    """The most likely class beside the label (N,), from shares or logits (N, K); -1 where all other
    classes have the same value, as where people agree.
    """
    rest = shares.clone().float()
    rest[torch.arange(len(labels)), labels] = -torch.inf
    best = rest.argmax(1)
    spread = rest.masked_fill(torch.isinf(rest), torch.inf).min(1).values
    return torch.where(rest.max(1).values > spread, best, -1)


def next_of_class(labels: Tensor) -> Tensor:
    """For each image (N,) the next one of its class, the last one's being the first."""
    partner = torch.empty_like(labels)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        partner[rows] = rows.roll(-1)
    return partner


def like_people(logits: Tensor, shares: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Whether a network's second class is people's second class, of the images on which people
    disagree: `own` (N,), and `floor` (N,), where people spoke of the next image of the class.
    """
    said, theirs = other_class(logits, labels), other_class(shares, labels)
    partner = next_of_class(labels)
    told = (theirs >= 0) & (theirs[partner] >= 0)
    return {"own": (said == theirs)[told].numpy(), "floor": (said == theirs[partner])[told].numpy()}


def cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """What people say against the network's softmax at temperature 1: nats of each image (N,)."""
    return -(shares * logits.log_softmax(1)).sum(1)
