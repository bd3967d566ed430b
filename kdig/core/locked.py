"""The locked environment: exact versions in `locks/<python>.txt`, a pip constraints file.

`python -m kdig.core.locked` says what is installed in other versions than the lock's; `python -m
kdig.core.locked REPORT` turns a report of pip (`pip install --dry-run --ignore-installed --report REPORT
...`) into a lock.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = (
    Path(__file__).parents[2] / "locks" / f"{sys.version_info.major}.{sys.version_info.minor}.txt"
)


def lock_name(lock: Path = LOCK) -> str:
    """The lock's name with the first 16 hex digits of its SHA-256, and what is installed in another
    version; `none` without it.
    """
    if not lock.exists():
        return "none"
    moved = ", ".join(f"{name} {installed}" for name, _, installed in moved_packages(lock))
    return f"{lock.stem} {hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}" + (
        f", but {moved}" if moved else ""
    )


def moved_packages(lock: Path = LOCK) -> Iterator[tuple[str, str, str]]:
    """(name, locked version, installed version) of each package that is installed in another
    version than the lock's.
    """
    for line in lock.read_text(encoding="utf-8").splitlines():
        name, separator, wanted = line.partition("==")
        try:
            # a build for another device (2.14.1+cpu) is the same version
            installed = version(name).partition("+")[0] if separator else wanted
        except PackageNotFoundError:  # a package of another platform, or of an extra
            continue
        if installed != wanted:
            yield name, wanted, installed


def lock_text(report: Path) -> str:
    """A constraints file of what pip's `report` would install, this package left out, in
    alphabetical order.
    """
    installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    packages = {
        entry["metadata"]["name"]: entry["metadata"]["version"].partition("+")[0]
        for entry in installs
    }
    names = {re.sub(r"[-_.]+", "-", name).lower(): found for name, found in packages.items()}
    lines = [f"{name}=={found}" for name, found in sorted(names.items()) if name != "kdig"]
    return "\n".join(["# Made by `make lock`; a pip constraints file.", *lines, ""])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(lock_text(Path(sys.argv[1])), end="")
    else:
        print(f"lock: {lock_name()}")
        print(
            "\n".join(
                f"{name}: {wanted} in the lock, {installed} here"
                for name, wanted, installed in moved_packages()
            )
        )
