"""Writing files whole."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path


def atomic_write(path: Path, write: Callable[[str], object]) -> None:
    """Call `write(temporary name)`, then move the file into place, so that `path` is either absent or whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = str(path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}"))
    try:
        write(part)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
