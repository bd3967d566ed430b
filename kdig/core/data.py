"""Images as plain tensors, in an order that depends on their content alone.

Every picture is identified by the SHA-256 of its label and pixels, and a split is sorted by that
digest. The same pictures therefore give the same data set, element for element, whether they come
from an archive or from a folder tree.
"""

import hashlib
import multiprocessing
import os
import pickle
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity
from torchvision.transforms import v2

from kdig import KdigError
from kdig.core.files import atomic_write, read_tensors
from kdig.core.images import fitting, list_images, read, reason_of, stack, unreadable

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# Digest of the 60,000 published pictures with their labels; computed from the PNG tree whose pixels
# equal the original archive.
CIFAR10_FINGERPRINT = "e71664edb90a2649"
# what names a cached copy; raised whenever a change to the code changes what is read from the same
# files
_CACHE = 2
_TREE_SOURCE = "the public GitHub repository cyizhuo/CIFAR-10-dataset holds the class-folder tree"


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    `images` uint8 (N, 3, H, W); `labels` int64 (N,); `ids` N strings, the first 16 hex digits of
    each image's digest, which is taken before the split is resized and, for image files, before
    they are fitted to a size. `files` has the N paths where the images come from a class-folder
    tree, `classes` the names of the labels where they are known.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    files: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Tensor) -> "Split":
        """The pictures at `indices` (int64), in that order."""
        rows = indices.tolist()
        files = tuple(self.files[i] for i in rows) if self.files else None
        ids = tuple(self.ids[i] for i in rows)
        return replace(
            self, images=self.images[indices], labels=self.labels[indices], ids=ids, files=files
        )

    def sources(self) -> dict[str, str]:
        """Id -> the image's file, or the id itself where there are no files."""
        return dict(zip(self.ids, self.files or self.ids))

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that depend on which pictures are in the split, not on their order."""
        return hashlib.sha256("".join(sorted(self.ids)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """Training and test pictures, class names, and the training pictures' channel mean and standard
    deviation in [0, 1].
    """

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
        """What is kept beside a result: name, size, identity."""
        return f"{self.about}, fingerprint {self.fingerprint}"

    @property
    def about(self) -> str:
        """What a reader needs to know beside a figure or table: name and size."""
        size = f"{self.train.images.shape[-1]}x{self.train.images.shape[-1]}"
        cifar10 = "CIFAR-10 (exact)" if self.is_cifar10 else "not the published CIFAR-10"
        known = {"digits": "scikit-learn digits", "cifar10": cifar10, "cifar100": "CIFAR-100"}
        return f"{known.get(self.name, self.name)}, {size}"


def load_dataset(
    name: str,
    root: str | Path = "data",
    image_size: int = 32,
    *,
    cache: Path | None = None,
    download: bool = False,
) -> Dataset:
    """Load `name` (one of `DATASETS`) at `image_size` pixels a side.

    `root` is the folder with the pictures (ignored for digits), `cache` a folder in which decoded
    pictures may be kept, `download` permits torchvision to fetch an archive of CIFAR into `root`.

    Raises `KdigError` for an unknown name, missing or undecodable pictures, an empty class, or a
    failed download.

    >>> digits = load_dataset("digits", image_size=8)
    >>> len(digits.train), len(digits.test), digits.train.images.shape[1:]
    (1198, 599, torch.Size([3, 8, 8]))
    """
    if name not in DATASETS:
        raise KdigError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    train, test, classes = DATASETS[name](Path(root), image_size, cache, download)
    fingerprint = hashlib.sha256((train.fingerprint + test.fingerprint).encode()).hexdigest()[:16]
    train, test = (replace(resize(split, image_size), classes=classes) for split in (train, test))
    mean, std = _channel_statistics(train.images)
    return Dataset(name, train, test, classes, mean, std, fingerprint)


def stratified(split: Split, size: int | None, seed: int = 0, name: str = "size") -> Split:
    """`size` images of `split`, classes in proportion, drawn with `seed`, kept in the split's
    order; all when `size` is None.

    Raises `KdigError`, in which `name` says which parameter `size` is, when `check_draw` does.
    """
    return (
        split
        if size in (None, len(split))
        else split.select(stratified_rows(split, size, seed, name))
    )


def stratified_rows(split: Split, size: int, seed: int = 0, name: str = "size") -> Tensor:
    """The rows (int64, ascending) of `size` images of `split`, classes in proportion.

    Raises `KdigError` as `stratified` does.
    """
    check_draw(split, size, name)
    labels = split.labels.numpy()
    chosen, _ = train_test_split(
        np.arange(len(split)), train_size=size, stratify=labels, random_state=seed
    )
    if lacking := sorted({*labels.tolist()} - {*labels[chosen].tolist()}):
        named = split.classes[lacking[0]] if split.classes else lacking[0]
        raise KdigError(
            f"{name}: {size} of {len(split)} images are too few to hold one of class {named}, in"
            " proportion: choose more"
        )
    return torch.from_numpy(np.sort(chosen))


def check_draw(split: Split, size: int, name: str) -> None:
    """Raises `KdigError` when `size` images (the parameter `name`) cannot be drawn from `split`,
    each class in part and rest.
    """
    labels, counts = split.labels.unique(return_counts=True)
    single = [
        split.classes[label] if split.classes else str(label)
        for label in labels[counts == 1].tolist()
    ]
    if single:
        named = (
            f"class {single[0]} has" if len(single) == 1 else f"classes {', '.join(single)} have"
        )
        raise KdigError(
            f"{name}: {named} one image among {len(split)}: two are needed to draw a part"
        )
    most = len(split) - len(labels)
    if not len(labels) <= size <= most:
        drawn = f"cannot draw {size} images of {len(labels)} classes from {len(split)}"
        raise KdigError(f"{name}: {drawn}: choose {len(labels)} to {most}, or all")


def mislabelled(split: Split, share: float, classes: int, seed: int = 0) -> Split:
    """`split` with a `share` of its labels replaced by another of the `classes`, each as likely.

    Which images, and which class, depends on `seed` and on the number of images. A larger share
    holds a smaller one's images, with the same classes.

    >>> some = load_dataset("digits", image_size=8).test
    >>> (mislabelled(some, 0.5, 10).labels != some.labels).sum().item()
    300
    """
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(split), generator=draw)[: round(share * len(split))]
    step = torch.randint(1, classes, (len(split),), generator=draw)
    labels = split.labels.clone()
    labels[chosen] = (labels[chosen] + step[chosen]) % classes
    return replace(split, labels=labels)


def in_both(one: Split, other: Split) -> list[str]:
    """The images that are in both splits, each with the names of both of its files, or with its id
    where there are none.
    """
    ours, others = one.sources(), other.sources()
    pairs = [{ours[name]: None, others[name]: None} for name in sorted(ours.keys() & others.keys())]
    return [" and ".join(pair) for pair in pairs]


def by_digest(images: Tensor, labels: Tensor) -> Split:
    """A split of `images` uint8 (N, 3, H, W) with `labels` int64 (N,), sorted by digest."""
    return _in_order(
        images, labels, [_digest(image, int(label)) for image, label in zip(images.numpy(), labels)]
    )


def _digest(image: np.ndarray, label: int) -> str:
    """Of the label and the pixels, uint8 (3, H, W)."""
    return hashlib.sha256(label.to_bytes(2, "little") + image.tobytes()).hexdigest()[:16]


def _in_order(
    images: Tensor, labels: Tensor, ids: Sequence[str], files: Sequence[str] | None = None
) -> Split:
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Split(images, labels, tuple(ids), tuple(files) if files else None).select(
        torch.tensor(order)
    )


def resize(split: Split, size: int) -> Split:
    """The pictures at `size` pixels a side (bilinear, antialiased); ids stay."""
    if split.images.shape[-2:] == (size, size):
        return split
    return replace(split, images=v2.functional.resize(split.images, [size, size], antialias=True))


def _channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, from its histogram, so that no float copy of the
    images is made.

    A channel of one value only has the deviation 1 here, so that dividing by it leaves the channel
    as it is.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = [
        torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        for channel in images.unbind(1)
    ]
    means = [(share @ values).item() for share in shares]
    deviations = [
        (share @ (values - mean) ** 2).sqrt().item() for share, mean in zip(shares, means)
    ]
    return tuple(means), tuple(deviation or 1.0 for deviation in deviations)


def _digits() -> tuple[Split, Split, tuple[str, ...]]:
    """scikit-learn's 1,797 handwritten digits, 8x8, grey repeated to three channels.

    A fixed third is the test set.
    """
    digits = load_digits()
    images = torch.from_numpy(np.round(digits.images * 255 / 16).astype(np.uint8))[:, None].repeat(
        1, 3, 1, 1
    )
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(
        np.arange(len(labels)), test_size=599, stratify=digits.target, random_state=0
    )
    return (
        by_digest(images[train], labels[train]),
        by_digest(images[test], labels[test]),
        tuple(map(str, digits.target_names)),
    )


def _cifar(
    source: type[CIFAR10], root: Path, cache: Path | None, download: bool
) -> tuple[Split, Split, tuple[str, ...]]:
    """CIFAR-10 or CIFAR-100, from a class-folder tree or the original archive."""
    name = source.__name__.lower()
    trees = [tree for tree in (root, root / name) if (tree / "train").is_dir()]
    if _archives(source, root):
        try:
            return _archive(source, root, download and not trees)
        except KdigError as error:
            if not trees:
                raise
            _say(f"passed over, as there is a class-folder tree: {error}")
    if trees:
        return _tree(trees[0], None, cache)
    if download:
        _say(
            f"fetching {source.filename} (about 160 MiB) into {root}; its host can be slow:"
            f" {_tree_source(source)}"
        )
        return _archive(source, root, download)
    raise KdigError(
        f"no {_printed(source)} in {root}: expected {root}/{name}/train/<class>/*.png and .../test,"
        f" or {source.filename} (md5 {source.tgz_md5}); name its folder with ROOT=... or the"
        f" parameter root; {_tree_source(source)}; download: true fetches the archive"
    )


def _printed(source: type[CIFAR10]) -> str:
    return source.__name__.replace("CIFAR", "CIFAR-")


def _tree_source(source: type[CIFAR10]) -> str:
    """Where else the images are."""
    return _TREE_SOURCE if source is CIFAR10 else f"{source.url} holds the archive"


def _archives(source: type[CIFAR10], root: Path) -> list[Path]:
    """The original archive and the folder that it unpacks to, those that are there."""
    paths = (root / source.filename, root / source.base_folder)
    return [path for path in paths if path.exists()]


def _archive(
    source: type[CIFAR10], root: Path, download: bool
) -> tuple[Split, Split, tuple[str, ...]]:
    """The original python archive, through torchvision, which verifies checksums and unpacks."""
    packed = check_integrity(root / source.filename, source.tgz_md5)
    try:
        with _socket_timeout(30):
            parts = [
                source(root, train=train, download=download or packed) for train in (True, False)
            ]
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        wanted = f"expected {source.filename} with md5 {source.tgz_md5}; {_tree_source(source)}"
        broken = ", ".join(map(str, _archives(source, root)))
        reason = reason_of(error) if download else f"{broken} is damaged or incomplete: delete it"
        raise KdigError(f"{_printed(source)} archive in {root}: {reason}; {wanted}") from None
    train, test = (
        by_digest(torch.from_numpy(p.data).permute(0, 3, 1, 2), torch.tensor(p.targets))
        for p in parts
    )
    return train, test, tuple(parts[0].classes)


def _say(text: str) -> None:
    """Print in the main process only: every worker reads the same files."""
    if multiprocessing.parent_process() is None:
        print(text, flush=True)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torchvision's download has no time limit of its own, and a host that does not answer would
    hang it.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _tree(root: Path, size: int | None, cache: Path | None) -> tuple[Split, Split, tuple[str, ...]]:
    """`root/{train,test}/<class>/<image>`, each image fitted to `size` (None: left as it is)."""
    return _parts(root, root / "train", root / "test", size, cache)


def _parts(
    root: Path, train_part: Path, test_part: Path, size: int | None, cache: Path | None
) -> tuple[Split, Split, tuple[str, ...]]:
    (train, passed), (test, also) = (list_images(part) for part in (train_part, test_part))
    if train.keys() != test.keys():
        odd = sorted(train.keys() ^ test.keys())
        raise KdigError(
            f"{root}: train and test must have the same class folders; only one has"
            f" {', '.join(odd)}"
        )
    counts = [sum(map(len, part.values())) for part in (train, test)]
    found = (
        f"{root.name}: {len(train)} classes, {counts[0]:,} images in {train_part.name},"
        f" {counts[1]:,} in {test_part.name}"
    )
    _say(f"{found}; passed over: {_counted(passed + also)}")
    return _cached(train, size, cache), _cached(test, size, cache), tuple(train)


# names of a part that is not trained on, in the order in which they are looked for
_TEST_PARTS = ("test", "val", "valid", "validation")
# of a folder without such a part, the share of each class that is kept for testing
_TEST_SHARE = 0.2


def _folder(
    root: Path, size: int | None, cache: Path | None
) -> tuple[Split, Split, tuple[str, ...]]:
    """Any ImageFolder tree: `root/train/<class>` with a test part, or one without parts, or
    `root/<class>`, of which a fifth of each class is kept for testing.

    Which fifth depends on the images alone. An image that is there twice counts once.
    """
    if not os.access(root, os.R_OK | os.X_OK):
        raise KdigError(f"cannot read the folder {root}: it is missing, or you may not")
    parts = [root / name for name in _TEST_PARTS if (root / name).is_dir()]
    if (root / "train").is_dir() and parts:
        return _parts(root, root / "train", parts[0], size, cache)
    given = root / "train" if (root / "train").is_dir() else root
    images, passed = list_images(given)
    whole = _once(_cached(images, size, cache))
    whole = replace(whole, classes=tuple(images))
    rest = max(len(images), round((1 - _TEST_SHARE) * len(whole)))
    check_draw(whole, rest, f"{root}, of which a fifth is kept for testing")
    rows = torch.zeros(len(whole), dtype=torch.bool)
    rows[stratified_rows(whole, rest)] = True
    train, test = (whole.select(chosen.nonzero()[:, 0]) for chosen in (rows, ~rows))
    _require_every_class(root, test)
    _say(
        f"{root.name}: {len(images)} classes, {len(whole):,} different images, no test part: a fifth"
        f" of each class is kept for testing ({len(train):,} to train on, {len(test):,} to test);"
        f" passed over: {_counted(passed)}"
    )
    return train, test, tuple(images)


def _require_every_class(root: Path, test: Split) -> None:
    """Raises `KdigError` when a class has no image to be tested by."""
    counts = torch.bincount(test.labels, minlength=len(test.classes)).tolist()
    if 0 in counts:
        raise KdigError(
            f"{root}: of class {test.classes[counts.index(0)]} no image is left for testing, which"
            " takes a fifth of each class: add images to it, or give a folder 'test' beside 'train'"
        )


def _once(split: Split) -> Split:
    """Each image once: the second of two equal ones could lie in the other part."""
    first = {name: row for row, name in reversed(list(enumerate(split.ids)))}
    if len(first) < len(split):
        _say(f"{len(split) - len(first):,} images are there more than once, and count once")
    once = split.select(torch.tensor(sorted(first.values())))
    _say_of_contradictions(once)
    return once


def _say_of_contradictions(split: Split) -> None:
    """One line where equal images are in several classes."""
    pixels = [_digest(image, 0) for image in split.images.numpy()]
    classes = pd.Series(split.labels.numpy()).groupby(pixels).transform("nunique")
    if rows := np.flatnonzero(classes > 1).tolist():
        file = split.files[rows[0]] if split.files else split.ids[rows[0]]
        _say(f"{len(rows):,} images are also in another class, which no network can tell: {file}")


def _counted(passed: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in passed.most_common(8)) or "nothing"


def _cached(images: Mapping[str, Sequence[str]], size: int | None, cache: Path | None) -> Split:
    """Read the images of each class, or take them from `cache` when path, size and time of every
    file are as they were.
    """
    files = [(path, label) for label, paths in enumerate(images.values()) for path in paths]
    if cache is None:
        return _read(files, size)
    file = cache / f"{_state(files, size)}.pt"
    if file.is_file():
        with suppress(ValueError, TypeError):  # a damaged copy is made anew
            return Split(**read_tensors(file))
    split = _read(files, size)
    content = {
        "images": split.images,
        "labels": split.labels,
        "ids": split.ids,
        "files": split.files,
    }
    atomic_write(file, lambda part: torch.save(content, part))
    return split


def _state(files: Sequence[tuple[str, int]], size: int | None) -> str:
    """Sixteen hex digits that change with any of the files."""
    try:
        stats = [
            (path, label, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path, label in files
        ]
    except OSError as error:
        raise unreadable(error.filename, error) from None
    return hashlib.sha256(repr((_CACHE, stats, size)).encode()).hexdigest()[:16]


def _read(files: Sequence[tuple[str, int]], size: int | None) -> Split:
    """The split of image files with labels, fitted to `size`.

    Digests are those of the images as they were.
    """
    fit, images, ids = fitting(size), [], []
    for path, label in files:
        image = read(path)
        ids.append(_digest(np.asarray(image).transpose(2, 0, 1), label))
        images.append(v2.functional.pil_to_tensor(fit(image)))
    paths, labels = zip(*files)
    return _in_order(stack(images, paths), torch.tensor(labels), ids, paths)


Loader = Callable[[Path, int, Path | None, bool], tuple[Split, Split, tuple[str, ...]]]
# name -> what reads it: (root, image size, cache, download) -> training and test images, classes
DATASETS: dict[str, Loader] = {
    "digits": lambda root, image_size, cache, download: _digits(),
    "cifar10": lambda root, image_size, cache, download: _cifar(CIFAR10, root, cache, download),
    "cifar100": lambda root, image_size, cache, download: _cifar(CIFAR100, root, cache, download),
    "folder": lambda root, image_size, cache, download: _folder(root, image_size, cache),
}
