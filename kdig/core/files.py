"""Writing files whole, reading them with their name in the message, and taking turns with other
processes.
"""

import errno
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kdig import KdigError

try:
    import fcntl
except (
    ImportError
):  # not a POSIX system: processes do not take turns there, and may do the same work twice
    fcntl = None  # type: ignore[assignment]

# what a full disk looks like where a library hides the system's error number: torch's zip writer
# (twice), numpy
_FULL = ("unexpected pos", "file write failed", "requested and")


class NoSpaceError(KdigError):
    """The disk is full. Nothing that would be written after this can be kept."""


def atomic_write(path: Path, write: Callable[[str], object]) -> None:
    """Call `write(temporary name)`, then move the file into place, so that `path` is either absent
    or whole.

    The content reaches the disk before the name does, so that this holds after a power failure,
    too. The temporary file has a folder of its own beside `path`, which no listing of finished
    files looks into.

    Raises `NoSpaceError` when the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=".part-", dir=path.parent)
        part = os.path.join(folder, path.name)
        try:
            write(part)
            _to_disk(part)
            os.replace(part, path)
            with suppress(OSError):  # some network file systems cannot do this for a folder
                _to_disk(path.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, RuntimeError) as error:
        if _is_full(error):
            raise NoSpaceError(
                f"no space left in {path.parent}: make room, then give the same command again"
            ) from None
        raise


def _to_disk(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_full(error: OSError | RuntimeError) -> bool:
    number = getattr(error, "errno", None)
    return number in {errno.ENOSPC, errno.EDQUOT} or any(text in str(error) for text in _FULL)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raises `NoSpaceError` when the disk that holds `folder` has less than `needed` bytes free for
    `what`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed:
        sizes = f"{what} need {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free"
        raise NoSpaceError(
            f"no space left in {folder}: {sizes}; make room, or set KDIG_OUTPUTS to another disk"
        )


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Raises `KdigError`, which names `path` and says what to do, for whatever goes wrong while it is
    read and parsed.
    """
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(
            error
        ).__name__
        raise KdigError(f"cannot read {path} ({reason.splitlines()[0]}): {remedy}") from None


def read_tensors(path: Path) -> Any:
    """What torch has stored at `path`, on the CPU. Nothing that it brings is run.

    Raises `ValueError` when it is no whole file of torch's, or holds more than tensors.
    """
    import torch  # not above: pages are written without it

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file is answered with a dozen kinds of error
        # its text may advise to load the file without weights_only, which runs whatever code the
        # file brings
        more = isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error)
        found = (
            "it holds Python objects, not only weights"
            if more
            else "it is no whole file of torch's"
        )
        raise ValueError(found) from None


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` against other processes while `what` is made; wait, and say so,
    while another one holds it.

    The system frees the lock of a process that has died. Where the file system knows no locks,
    nobody waits.
    """
    descriptor = _locked(path, what)
    try:
        yield
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _locked(path: Path, what: str) -> int | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    while fcntl is not None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _wait(descriptor, what)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            return None
        if _is_still(path, descriptor):
            return descriptor
        os.close(
            descriptor
        )  # the one who held it has removed the file: what was locked has no name any more
    return None


def _wait(descriptor: int, what: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{what}: another process makes it; waiting", flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What two records of settings say differently, such as `recipe.epochs: 12 -> 10`."""
    before, after = _flat(old), _flat(new)
    names = sorted(before.keys() | after.keys())
    told = [(name, before.get(name), after.get(name)) for name in names]
    return [f"{name}: {then} -> {now}" for name, then, now in told if then != now]


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Fields of nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= (
            _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
        )
    return found
