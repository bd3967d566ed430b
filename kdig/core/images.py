"""Image files: which files of a folder tree are images of which class, and their pixels as upright
RGB.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from kdig import KdigError

SUFFIXES = (*IMG_EXTENSIONS, ".jfif", ".gif")
# formats that hold 16 bits at most, which Pillow may open as 32-bit integers all the same
_SIXTEEN_BITS = {"PNG", "PPM"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name belongs to a system or an editor (`._x.png`,
    `.ipynb_checkpoints`, `@eaDir`).
    """
    return name.startswith((".", "@")) or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return not is_hidden(name) and name.lower().endswith(SUFFIXES)


def list_images(part: Path) -> tuple[dict[str, list[str]], Counter[str]]:
    """The images of each class folder in `part`, and what was passed over: suffix, or `hidden` ->
    number of entries.

    Classes and images are sorted by name. Every real folder is entered once, whatever links lead to
    it, and none above `part`. Raises `KdigError` when `part` is missing and when a class has no
    image.
    """
    folders, beside = _class_folders(part)
    entered = {os.path.realpath(path) for path in (*folders, part, *part.resolve().parents)}
    found = {folder.name: sorted(_entries(folder, entered)) for folder in folders}
    images = {
        name: [path for path in paths if is_image(os.path.basename(path))]
        for name, paths in found.items()
    }
    empty = [name for name, paths in images.items() if not paths]
    if empty or not images:
        what = f"class folder {', '.join(empty)} has no image" if empty else "no class folder"
        raise KdigError(
            f"{part}: {what}; expected {part}/<class>/<image>, an image's name ends in"
            f" {', '.join(SUFFIXES)}"
        )
    others = [
        name
        for paths in found.values()
        for path in paths
        if not is_image(name := os.path.basename(path))
    ]
    return images, Counter(map(_kind, beside + others))


def _kind(name: str) -> str:
    return "hidden" if is_hidden(name) else os.path.splitext(name)[1].lower() or name


def _class_folders(part: Path) -> tuple[list[Path], list[str]]:
    """The class folders in `part`, sorted, and the names of what lies beside them."""
    if not part.is_dir():
        raise KdigError(f"no images in {part}: expected {part}/<class>/<image>")
    try:
        entries = sorted(part.iterdir(), key=lambda path: path.name)
    except OSError as error:
        _stop(error)
    folders = [path for path in entries if path.is_dir() and not is_hidden(path.name)]
    return folders, [path.name for path in entries if path not in folders]


def _entries(folder: Path, entered: set[str]) -> Iterator[str]:
    """Files in and below `folder`, and hidden folders, which are not entered.

    Those it enters are added to `entered`.
    """
    for base, folders, files in os.walk(folder, onerror=_stop, followlinks=True):
        yield from (os.path.join(base, name) for name in [*files, *filter(is_hidden, folders)])
        real = {
            os.path.realpath(os.path.join(base, name)): name
            for name in sorted(folders)
            if not is_hidden(name)
        }
        folders[:] = [name for path, name in real.items() if path not in entered]
        entered.update(real)


def _stop(error: OSError) -> NoReturn:
    raise KdigError(f"cannot read the folder {error.filename}: {error.strerror}") from None


def decode(paths: Sequence[str | Path], size: int | None = None, squash: bool = False) -> Tensor:
    """The image files as uint8 (N, 3, H, W), in RGB, as `read` and `fitting` give them.

    Raises `KdigError` for a file that is no image, and for shapes that differ when there is no
    `size`.
    """
    fit = fitting(size, squash)
    return stack([v2.functional.pil_to_tensor(fit(read(path))) for path in paths], paths)


def fitting(size: int | None, squash: bool = False) -> v2.Transform:
    """Brings an image to `size` pixels a side (None: leaves it).

    The shorter side is resized to it (bilinear, antialiased) and the centre cut out, or, with
    `squash`, both sides are resized.
    """
    if size is None:
        return v2.Identity()
    return v2.Resize([size, size]) if squash else v2.Compose([v2.Resize(size), v2.CenterCrop(size)])


def stack(images: Sequence[Tensor], paths: Sequence[str | Path]) -> Tensor:
    """The `images` (3, H, W) as one tensor.

    Raises `KdigError` naming the first of `paths` whose shape is another.
    """
    for image, path in zip(images, paths):
        if image.shape != images[0].shape:
            shapes = [tuple(shown.shape[1:]) for shown in (images[0], image)]
            raise KdigError(
                f"{path} is {shapes[1]} pixels, others are {shapes[0]}: all must agree, or use data"
                " set 'folder'"
            )
    return torch.stack(list(images))


def read(path: str | Path) -> Image.Image:
    """The image file in RGB, 8 bits: turned as its EXIF orientation says, what is transparent over
    white.

    Grey values of 16 bits are divided by 256. Raises `KdigError` for a file that is no image, or
    one of a range unknown.
    """
    try:
        with Image.open(path) as file:
            wide = file.mode == "I" and file.format in _SIXTEEN_BITS
            image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I;16") or wide:
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        if image.mode not in ("I", "F"):
            return _over_white(image) if _is_transparent(image) else image.convert("RGB")
    except Exception as error:  # a damaged file leads Pillow's decoders to exceptions of any kind
        raise unreadable(path, error) from None
    raise KdigError(
        f"{path} has grey values of 32 bits (mode {image.mode}), whose range is not known: save it"
        " with 8 or 16 bits"
    )


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def unreadable(path: str | Path, error: Exception) -> KdigError:
    """One line: which file cannot be read, why, and what to do."""
    reason, advice = reason_of(error), "replace or remove the file"
    if os.path.islink(path) and not os.path.exists(path):
        reason, advice = (
            f"it is a broken link to {os.readlink(path)}",
            "fetch what it leads to, or remove the link",
        )
    elif isinstance(error, Image.DecompressionBombError):
        reason, advice = reason.partition(",")[0], "make it smaller, or remove it"
    return KdigError(f"cannot decode {path}: {reason}; {advice}")


def reason_of(error: Exception) -> str:
    """The first line of the error's text, or its name when it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
