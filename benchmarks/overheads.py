"""What comes before any work: importing the package, opening a cache of 50,000 maps, and `make
reproduce` with nothing to do.

Baselines: importing torch and torchvision; numpy's own memory map of the same file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import compare, publish

from kdig.core.signals import SignalSpec, load_signal, signal_path
from kdig.study.settings import outputs_of, project_root


def command(*words: str) -> Callable[[], object]:
    """A call that runs these words in the project's folder. Their failure is an error."""
    return lambda: subprocess.run(words, check=True, capture_output=True, cwd=project_root())


def python(*arguments: str) -> Callable[[], object]:
    """A call that runs a fresh interpreter."""
    return command(sys.executable, *arguments)


def imports(rounds: int) -> None:
    base = "import torch, torchvision"
    calls = {
        code: python("-c", code)
        for code in (
            base,
            "import kdig",
            "import kdig.core.runs",
            "import kdig.measure.plots, kdig.measure.stats",
        )
    }
    publish(
        compare(calls, base, 1, "per second", rounds),
        "import",
        "per second",
        base,
        "A fresh interpreter.",
    )


def cache(rounds: int, images: int, size: int) -> None:
    """Opening includes the checks of the stamp and of the number of rows, and one batch of rows."""
    spec, labels = (
        SignalSpec(teacher="t", data="d", image_size=size, mean=(0.0,) * 3, std=(1.0,) * 3),
        torch.zeros(images).long(),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = signal_path(spec, "maps", Path(folder))
        np.save(path, np.zeros((images, size, size), dtype=np.float32))
        path.with_suffix(".json").write_text(json.dumps(spec.stamp("maps")), encoding="utf-8")
        rows, base = torch.randperm(images)[:64], "np.load, memory-mapped"
        calls = {
            base: lambda: np.load(path, mmap_mode="r")[rows.numpy()],
            "np.load, whole": lambda: np.load(path)[rows.numpy()],
            "kdig": lambda: load_signal(spec, "maps", path, labels)[rows],
        }
        about = f"Opening a cache of {images:,} maps of {size} x {size} and reading 64 of them."
        publish(compare(calls, base, 1, "per second", rounds), "cache", "per second", base, about)


def finished(rounds: int, profile: str) -> None:
    base = "import torch, torchvision"
    calls = {
        base: python("-c", base),
        "make reproduce": command("make", "reproduce", f"PROFILE={profile}"),
    }
    about = f"Profile {profile}, finished before: what the command takes when it has nothing to do."
    publish(compare(calls, base, 1, "per second", rounds), "finished", "per second", base, about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--profile", default="demo", help="a profile that has been run to the end")
    options = parser.parse_args()
    if not (outputs_of(options.profile).folder / "report.html").exists():
        raise SystemExit(
            f"error: profile {options.profile!r} has not been run: give make reproduce"
            f" PROFILE={options.profile} first"
        )
    imports(options.rounds)
    cache(options.rounds, options.images, options.size)
    finished(options.rounds, options.profile)


if __name__ == "__main__":
    main()
