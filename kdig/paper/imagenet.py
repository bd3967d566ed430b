"""Pictures from another source than the training data: the ImageNet classes of Table S13, or a
stand-in made from test pictures.

ImageNet classes are told apart by wnid (WordNet's noun id) and never by name, since names repeat:
`crane` is a bird and a machine.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from kdig import KdigError, paper
from kdig.core.data import Split, by_digest, resize
from kdig.core.images import decode, is_image

Resize = Literal["crop", "squash"]
SIZE = 32  # section 3.6: ImageNet at 32 x 32
_LAYOUTS = "val/<wnid>/*.JPEG, <wnid>/*.JPEG, or the archive's val_data beside map_clsloc.txt"


@dataclass(frozen=True)
class Source:
    """Pictures with the training data's class indices. `names` has each picture's wnid, or its
    class name in a stand-in.

    `genuine` says whether these are ImageNet's pictures, `missing` which wnids of Table S13 have
    none, `about` what a caption says.
    """

    pictures: Split
    names: tuple[str, ...]
    about: str
    genuine: bool
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def complete(self) -> bool:
        """Whether it has the paper's number of pictures: fifty of each of the 105 classes."""
        return self.genuine and not self.missing and len(self) == 50 * len(set(self.names))

    def select(self, rows: Tensor) -> "Source":
        """The pictures at `rows` (int64), in that order."""
        names = tuple(self.names[i] for i in rows.tolist())
        return Source(self.pictures.select(rows), names, self.about, self.genuine, self.missing)


def class_of() -> dict[str, int]:
    """Table S13: wnid -> CIFAR-10 class index, 105 entries."""
    table = paper.published("s13_class_mapping")
    return dict(zip(table.wnid, table.cifar_index))


def load_subset(root: str | Path, image_size: int = SIZE, how: Resize = "crop") -> Source:
    """The pictures of Table S13 in the folder `root`, at 32 x 32, then at `image_size` as
    CIFAR-10's own pictures are.

    `root` holds a tree `val/<wnid>/` or `<wnid>/` of full-size pictures, which are reduced as `how`
    says: `crop` resizes the shorter side and cuts out the centre, `squash` resizes both sides. Or
    it holds the validation part of the official 32 x 32 archive (`val_data`, `map_clsloc.txt`),
    which is taken as it is. Classes without pictures are left out and named in `missing`. The order
    is that of wnids, then of digests. Raises `KdigError` when nothing is found or a file cannot be
    read.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise KdigError(f"no folder {folder} with ImageNet pictures: expected {_LAYOUTS} in it")
    archive = (folder / "val_data").is_file()
    pictures = _archive(folder) if archive else _tree(folder, how)
    wanted = class_of()
    splits = {
        wnid: by_digest(images, torch.full((len(images),), wanted[wnid]))
        for wnid, images in sorted(pictures.items())
    }
    if not splits:
        raise KdigError(
            f"no picture of the {len(wanted)} classes of Table S13 in {folder}: expected {_LAYOUTS}"
        )
    images, labels = (
        torch.cat([getattr(split, name) for split in splits.values()])
        for name in ("images", "labels")
    )
    split = Split(images, labels, tuple(i for part in splits.values() for i in part.ids))
    names = tuple(wnid for wnid, part in splits.items() for _ in part.ids)
    made = (
        "official 32 x 32 archive" if archive else f"full-size pictures, {how} to {SIZE} x {SIZE}"
    )
    made += f", then to {image_size} x {image_size}" if image_size != SIZE else ""
    about = (
        f"ImageNet subset (Table S13), {len(split)} pictures of {len(splits)} of {len(wanted)}"
        f" classes ({made})"
    )
    return Source(
        resize(split, image_size), names, about, True, tuple(sorted(set(wanted) - set(splits)))
    )


def _tree(root: Path, how: Resize) -> dict[str, Tensor]:
    """wnid -> uint8 (n, 3, 32, 32), for the classes of Table S13 that have pictures."""
    base = root / "val" if (root / "val").is_dir() else root
    files = {
        wnid: sorted(p for p in (base / wnid).glob("*") if is_image(p.name)) for wnid in class_of()
    }
    return {
        wnid: decode(paths, SIZE, squash=how == "squash") for wnid, paths in files.items() if paths
    }


def _archive(root: Path) -> dict[str, Tensor]:
    """wnid -> uint8 (n, 3, 32, 32).

    The labels 1 to 1000 follow map_clsloc.txt, which is not the order of torchvision's indices.
    """
    wnids = _label_order(root / "map_clsloc.txt")
    try:
        with (root / "val_data").open("rb") as file:
            content = _Arrays(file, encoding="latin1").load()
        pixels = np.asarray(content["data"], dtype=np.uint8).reshape(-1, 3, SIZE, SIZE)
        labels = np.array([wnids[int(label)] for label in content["labels"]])
        if len(pixels) != len(labels):
            raise ValueError(f"{len(pixels)} pictures and {len(labels)} labels")
    except (
        pickle.UnpicklingError,
        EOFError,
        ImportError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        reason = (
            f"{type(error).__name__} {str(error).splitlines()[0] if str(error) else ''}".strip()
        )
        wanted = (
            "a pickle of 'data', uint8 (N, 3072), and 'labels', each a number of map_clsloc.txt"
        )
        raise KdigError(f"cannot read {root / 'val_data'} ({reason}): expected {wanted}") from None
    rows = {wnid: np.flatnonzero(labels == wnid) for wnid in class_of()}
    return {wnid: torch.from_numpy(pixels[index]) for wnid, index in rows.items() if len(index)}


def _label_order(path: Path) -> dict[int, str]:
    if not path.is_file():
        raise KdigError(
            f"no {path}: the archive's labels are numbers in its own class order, which lines 'wnid"
            " number name' give"
        )
    try:
        fields = [
            line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
        ]
        return {int(number): wnid for wnid, number, *_ in fields}
    except ValueError:
        raise KdigError(
            f"{path}: each line must be 'wnid number name', such as 'n02119789 1 kit_fox'"
        ) from None


class _Arrays(pickle.Unpickler):
    """A pickle can call any function; this one builds numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises `UnpicklingError` for whatever else a pickle names."""
        allowed = {"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"}
        if (module.split(".")[0] == "numpy" and name in allowed) or (module, name) == (
            "_codecs",
            "encode",
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"holds {module}.{name}, not only arrays")


def stand_in(
    test: Split, classes: tuple[str, ...], degrees: float = 15.0, sigma: float = 0.8
) -> Source:
    """Test pictures changed as stated, in the place of pictures from elsewhere: for showing the
    evaluation, and for no claim.

    Turned by `degrees` and blurred (Gaussian, `sigma` pixels). As in Table S14, classes 4 and 7
    have no pictures and class 2 has more than the others: all of its pictures, of which the other
    classes keep every second one.
    """
    counted = torch.zeros_like(test.labels)
    for label in test.labels.unique():
        of_class = test.labels == label
        counted[of_class] = torch.arange(int(of_class.sum()))
    keep = (test.labels == 2) | ((counted % 2 == 0) & (test.labels != 4) & (test.labels != 7))
    chosen = test.select(keep.nonzero()[:, 0])
    turned = v2.functional.rotate(
        chosen.images, degrees, interpolation=v2.InterpolationMode.BILINEAR
    )
    images = v2.functional.gaussian_blur(turned, [5, 5], [sigma, sigma])
    about = (
        f"stand-in for another source, a demonstration: {len(chosen)} test pictures turned by"
        f" {degrees:g} degrees and blurred"
    )
    return Source(
        Split(images, chosen.labels, chosen.ids),
        tuple(classes[i] for i in chosen.labels),
        about,
        genuine=False,
    )


def keep_correct(source: Source, predicted: np.ndarray) -> Source:
    """Section 3.1.2: the pictures whose `predicted` class (N,) is right.

    Raises `KdigError` when there is none.
    """
    rows = np.flatnonzero(predicted == source.pictures.labels.numpy())
    if not len(rows):
        raise KdigError(
            f"the teacher classifies none of {len(source)} pictures correctly: nothing is left to"
            " compare students on"
        )
    return source.select(torch.from_numpy(rows))
