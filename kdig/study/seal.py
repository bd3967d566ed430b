"""What a kept profile's files were when they were written: `SHA256SUMS`, a list that `sha256sum -c`
reads as well.

It finds a slip of the hand, not a forger: who changes a file can write the list anew, and the
history of the repository says who did. `python -m kdig.study.seal outputs/reference/lite` writes it.
"""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from kdig import KdigError
from kdig.core.files import atomic_write
from kdig.study.command import Parser, exit_code

SEAL = "SHA256SUMS"


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(folder: Path, paths: Iterable[Path]) -> str:
    """Sixteen hex digits of several files: their names below `folder` and their contents."""
    lines = sorted(f"{digest(path)}  {path.relative_to(folder).as_posix()}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def write(folder: Path) -> Path:
    """List every file of `folder` with its digest. Raises `KdigError` where there is no folder."""
    if not folder.is_dir():
        raise KdigError(f"{folder} is no folder: give one such as outputs/reference/lite")
    lines = [f"{value}  {name}\n" for name, value in _present(folder).items()]
    path = folder / SEAL
    atomic_write(path, lambda part: Path(part).write_text("".join(lines), encoding="utf-8"))
    return path


def read(folder: Path) -> dict[str, str]:
    """File -> digest, as sealed. Empty where there is no seal."""
    path = folder / SEAL
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {name: value for value, _, name in (line.partition("  ") for line in lines)}


def differences(folder: Path) -> dict[str, str]:
    """File -> `changed`, `removed` or `added`, for every file that is not as it was sealed."""
    then, now = read(folder), _present(folder)
    return {
        name: "added" if name not in then else "removed" if name not in now else "changed"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    }


def _present(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    return {path.relative_to(folder).as_posix(): digest(path) for path in paths}


def main(arguments: list[str] | None = None) -> int:
    """Seal a folder of outputs/reference after its files were made."""
    parser = Parser(prog="python -m kdig.study.seal", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    return exit_code(lambda: print(write(folder)))


if __name__ == "__main__":
    sys.exit(main())
