"""Images as plain tensors, in an order that depends on their content alone.

Every picture is identified by the SHA-256 of its label and pixels, and a split is sorted by that digest. The same pictures
therefore give the same data set, element for element, whether they come from an archive or from a folder tree.
"""

import hashlib
import os
import pickle
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.datasets.utils import check_integrity
from torchvision.transforms import v2

from kdig import KdigError
from kdig.files import atomic_write

DATASETS = ("digits", "cifar10", "folder")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Digest of the 60,000 published pictures with their labels; computed from the PNG tree whose pixels equal the original archive.
CIFAR10_FINGERPRINT = "e71664edb90a2649"
_TREE_SOURCE = "the public GitHub repository cyizhuo/CIFAR-10-dataset holds the class-folder tree"


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    `images` uint8 (N, 3, H, W); `labels` int64 (N,); `ids` N strings, the first 16 hex digits of each picture's digest,
    taken before any resizing.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Tensor) -> "Split":
        """The pictures at `indices` (int64), in that order."""
        return Split(self.images[indices], self.labels[indices], tuple(self.ids[i] for i in indices.tolist()))

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that depend on which pictures are in the split, not on their order."""
        return hashlib.sha256("".join(sorted(self.ids)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """Training and test pictures, class names, and the training pictures' channel mean and standard deviation in [0, 1]."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    @property
    def is_cifar10(self) -> bool:
        """Whether the pictures and labels are exactly the published CIFAR-10 (before any resizing)."""
        return self.fingerprint == CIFAR10_FINGERPRINT

    @property
    def label(self) -> str:
        """What to print beside a result: name, identity, size."""
        size = f"{self.train.images.shape[-1]}x{self.train.images.shape[-1]}"
        cifar10 = "CIFAR-10 (exact)" if self.is_cifar10 else "not the published CIFAR-10"
        known = {"digits": "scikit-learn digits", "cifar10": cifar10}
        return f"{known.get(self.name, self.name)}, {size}, fingerprint {self.fingerprint}"


def load_dataset(
    name: str, root: str | Path = "data", image_size: int = 32, *, cache: Path | None = None, download: bool = False
) -> Dataset:
    """Load `name` (one of `DATASETS`) at `image_size` pixels a side.

    `root` is the folder with the pictures (ignored for digits), `cache` a folder in which decoded pictures may be kept,
    `download` permits torchvision to fetch the CIFAR-10 archive into `root`.

    Raises `KdigError` for an unknown name, missing or undecodable pictures, an empty class, or a failed download.
    """
    if name == "digits":
        train, test, classes = _digits()
    elif name == "cifar10":
        train, test, classes = _cifar10(Path(root), cache, download)
    elif name == "folder":
        train, test, classes = _tree(Path(root), image_size, cache)
    else:
        raise KdigError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    fingerprint = hashlib.sha256((train.fingerprint + test.fingerprint).encode()).hexdigest()[:16]
    train, test = resize(train, image_size), resize(test, image_size)
    mean, std = _channel_statistics(train.images)
    return Dataset(name, train, test, classes, mean, std, fingerprint)


def stratified(split: Split, size: int | None, seed: int = 0) -> Split:
    """`size` pictures of `split`, classes in proportion, drawn with `seed`, kept in the split's order; all when `size` is None.

    Raises `KdigError` when the split holds fewer, or when `size` leaves a class without a picture.
    """
    return split if size is None or size == len(split) else split.select(stratified_rows(split, size, seed))


def stratified_rows(split: Split, size: int, seed: int = 0) -> Tensor:
    """The rows (int64, ascending) of `size` pictures of `split`, classes in proportion. Raises `KdigError` as `stratified` does."""
    classes = len(split.labels.unique())
    most = len(split) - classes  # scikit-learn asks for one of each class in the rest, too
    if not classes <= size <= most:
        raise KdigError(f"cannot draw {size} pictures of {classes} classes from {len(split)}: choose {classes} to {most}, or all")
    chosen, _ = train_test_split(np.arange(len(split)), train_size=size, stratify=split.labels.numpy(), random_state=seed)
    return torch.from_numpy(np.sort(chosen))


def by_digest(images: Tensor, labels: Tensor) -> Split:
    """A split of `images` uint8 (N, 3, H, W) with `labels` int64 (N,), sorted by digest."""
    pixels = np.ascontiguousarray(images.numpy())
    ids = [hashlib.sha256(int(y).to_bytes(2, "little") + x.tobytes()).hexdigest()[:16] for x, y in zip(pixels, labels)]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Split(images[order], labels[order], tuple(ids[i] for i in order))


def resize(split: Split, size: int) -> Split:
    """The pictures at `size` pixels a side (bilinear, antialiased); ids stay."""
    if split.images.shape[-2:] == (size, size):
        return split
    return replace(split, images=v2.functional.resize(split.images, [size, size], antialias=True))


def _channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, from its histogram, so that no float copy of the pictures is made."""
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = [torch.bincount(channel.flatten(), minlength=256).double() / channel.numel() for channel in images.unbind(1)]
    means = [(share @ values).item() for share in shares]
    return tuple(means), tuple((share @ (values - mean) ** 2).sqrt().item() for share, mean in zip(shares, means))


def _digits() -> tuple[Split, Split, tuple[str, ...]]:
    """scikit-learn's 1,797 handwritten digits, 8x8, grey repeated to three channels; a fixed third is the test set."""
    digits = load_digits()
    images = torch.from_numpy(np.round(digits.images * 255 / 16).astype(np.uint8))[:, None].repeat(1, 3, 1, 1)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(np.arange(len(labels)), test_size=599, stratify=digits.target, random_state=0)
    return by_digest(images[train], labels[train]), by_digest(images[test], labels[test]), tuple(map(str, digits.target_names))


def _cifar10(root: Path, cache: Path | None, download: bool) -> tuple[Split, Split, tuple[str, ...]]:
    if (root / CIFAR10.base_folder).is_dir() or (root / CIFAR10.filename).is_file():
        return _archive(root, download)
    for tree in (root, root / "cifar10"):
        if (tree / "train").is_dir():
            return _tree(tree, None, cache)
    if download:
        print(f"fetching {CIFAR10.filename} (163 MiB) into {root}; its host can be slow: {_TREE_SOURCE}", flush=True)
        return _archive(root, download)
    raise KdigError(
        f"no CIFAR-10 in {root}: expected {root}/cifar10/train/<class>/*.png and .../test, or {CIFAR10.filename} "
        f"(md5 {CIFAR10.tgz_md5}); name its folder with ROOT=... or the parameter root; {_TREE_SOURCE}; "
        "download: true fetches the archive"
    )


def _archive(root: Path, download: bool) -> tuple[Split, Split, tuple[str, ...]]:
    """The original python archive, through torchvision, which verifies checksums and unpacks."""
    packed = check_integrity(root / CIFAR10.filename, CIFAR10.tgz_md5)
    try:
        with _socket_timeout(30):
            parts = [CIFAR10(root, train=train, download=download or packed) for train in (True, False)]
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        wanted = f"expected {CIFAR10.filename} with md5 {CIFAR10.tgz_md5}; {_TREE_SOURCE}"
        raise KdigError(f"CIFAR-10 archive in {root}: {reason}; {wanted}") from None
    train, test = (by_digest(torch.from_numpy(p.data).permute(0, 3, 1, 2), torch.tensor(p.targets)) for p in parts)
    return train, test, tuple(parts[0].classes)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision's download has no time limit of its own, and a host that does not answer would hang it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _tree(root: Path, size: int | None, cache: Path | None) -> tuple[Split, Split, tuple[str, ...]]:
    """`root/{train,test}/<class>/<picture>`; pictures of differing shape are resized and centre-cropped to `size`."""
    folders = []
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise KdigError(f"no pictures in {root / part}: expected {root}/{{train,test}}/<class>/<picture>")
        try:
            folders.append(ImageFolder(root / part))
        except FileNotFoundError as error:
            raise KdigError(f"{root / part}: {str(error).splitlines()[0].rstrip('.')}; each class folder needs a picture") from None
    train, test = folders
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise KdigError(f"{root}: train and test must have the same class folders; only one has {', '.join(odd)}")
    splits = [_cached(folder, size, cache) for folder in folders]
    return splits[0], splits[1], tuple(train.classes)


def _cached(folder: ImageFolder, size: int | None, cache: Path | None) -> Split:
    """Decode the pictures, or take them from `cache` when path, size and time of every file are as they were."""
    if cache is None:
        return _decode(folder, size)
    stats = [(path, label, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path, label in folder.samples]
    file = cache / f"{hashlib.sha256(repr((stats, size)).encode()).hexdigest()[:16]}.pt"
    if file.is_file():
        with suppress(RuntimeError, EOFError, pickle.UnpicklingError):  # a damaged copy is made anew
            stored = torch.load(file, weights_only=True)
            return by_digest(stored["images"], stored["labels"])
    split = _decode(folder, size)
    atomic_write(file, lambda part: torch.save({"images": split.images, "labels": split.labels}, part))
    return split


def _decode(folder: ImageFolder, size: int | None) -> Split:
    return by_digest(decode([path for path, _ in folder.samples], size), torch.tensor(folder.targets))


def decode(paths: Sequence[str | Path], size: int | None = None, squash: bool = False) -> Tensor:
    """The picture files as uint8 (N, 3, H, W), in RGB.

    With a `size`, the shorter side is resized to it (bilinear, antialiased) and the centre cut out, or, with `squash`, both sides
    are resized to it. Raises `KdigError` for a file that is no picture, and for shapes that differ when there is no `size`.
    """
    fit = v2.Identity()
    if size:
        fit = v2.Resize([size, size]) if squash else v2.Compose([v2.Resize(size), v2.CenterCrop(size)])
    images: list[Tensor] = []
    for path in paths:
        try:
            images.append(v2.functional.pil_to_tensor(fit(default_loader(str(path)))))
        except (OSError, SyntaxError) as error:
            raise KdigError(f"cannot decode {path}: {str(error).splitlines()[0]}; replace or remove the file") from None
        if images[-1].shape != images[0].shape:
            shapes = [f"{tuple(image.shape[1:])}" for image in (images[0], images[-1])]
            raise KdigError(f"{path} is {shapes[1]} pixels, others are {shapes[0]}: all must agree, or use data set 'folder'")
    return torch.stack(images)
