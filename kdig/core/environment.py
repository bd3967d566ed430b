"""Where numbers were made: versions, device, kernels, threads."""

import functools
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from kdig import KdigError, __version__
from kdig.core.locked import lock_name


def cores() -> int:
    """CPU cores that this process may use: `KDIG_CORES`, or all that it is given.

    Raises `KdigError` when `KDIG_CORES` is not a whole number of at least 1.
    """
    if said := os.environ.get("KDIG_CORES"):
        if not said.isdecimal() or int(said) < 1:
            raise KdigError(f"KDIG_CORES is {said!r}: a whole number, 1 or more, is needed")
        return int(said)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """CPU threads of torch for a while."""
    import torch  # takes seconds, which who asks for `cores` need not wait

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.lru_cache
def environment(device: str, threads: int) -> dict[str, str]:
    """Versions, device and git revision, to be kept beside every result."""
    import torch

    packages = {name: version(name) for name in ("torch", "torchvision", "captum", "numpy")}
    return {
        "kdig": __version__,
        "python": platform.python_version(),
        **packages,
        "device": (
            torch.cuda.get_device_name(device)
            if device.startswith("cuda")
            else f"{platform.machine()} CPU"
        ),
        "kernels": kernels(),
        "threads": str(threads),
        "git": _revision(),
        "lock": lock_name(),
    }


def kernels() -> str:
    """The instruction set of torch's CPU kernels, such as `AVX2` or `AVX512`, and the limit set for
    oneDNN's, if there is one.
    """
    import torch

    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return torch.backends.cpu.get_cpu_capability() + (f", oneDNN up to {limit}" if limit else "")


def _revision() -> str:
    """This checkout's git revision; `unknown` for an installed package or without git."""
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return "unknown"
    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=package, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return git.stdout.strip() or "unknown"
