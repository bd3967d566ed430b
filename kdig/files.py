"""Writing files whole."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def atomic_write(path: Path, write: Callable[[str], object]) -> None:
    """Call `write(temporary name)`, then move the file into place, so that `path` is either absent or whole.

    The temporary file has a folder of its own beside `path`, which no listing of finished files looks into.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=".part-", dir=path.parent)
    part = os.path.join(folder, path.name)
    try:
        write(part)
        os.replace(part, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
