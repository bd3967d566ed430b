"""A class's bundle: the project with a finished profile in one file, for computers that are to
train only what a student changes.

`python -m kdig.study.bundle` writes `outputs/kdig-demo.zip`: what git tracks (of
`outputs/reference` only the pages), the demo's folder with its trained networks, and the notebooks
as they ran, so that each opens with its results. The exercises have no solutions.
"""

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from kdig import KdigError
from kdig.core.files import atomic_write
from kdig.study.classroom import copy_of
from kdig.study.command import Parser, exit_code
from kdig.study.settings import brief, notebooks_of, outputs_of, project_root

# of the committed results, what the documentation links to
_PAGES = {".html", ".pdf"}


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = Parser(prog="python -m kdig.study.bundle", description=__doc__)
    parser.add_argument("--profile", default="demo", help="whose results to take along")
    profile = parser.parse_args(arguments).profile
    return exit_code(lambda: print(_said(write(profile))))


def write(profile: str) -> Path:
    """The bundle of a finished profile, made anew.

    Raises `KdigError` where a notebook of the profile has not run, or git does not know the files.
    """
    outputs = outputs_of(profile)
    folder, wanted = outputs.folder, notebooks_of(profile)
    if lacking := [path.stem for path in wanted if not outputs.noted(path.stem)]:
        ask = f"run `make reproduce PROFILE={profile}` first"
        raise KdigError(f"{profile} has no results of {', '.join(lacking)}: {ask}")
    executed = {path.name: folder / "executed" / path.name for path in wanted}
    target = folder.parent / f"kdig-{profile}.zip"
    atomic_write(target, lambda part: _pack(Path(part), folder, executed))
    return target


def _pack(part: Path, folder: Path, executed: dict[str, Path]) -> None:
    root = project_root()
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in tracked(root):
            path, inside = root / name, f"kdig/{name}"
            if path.parent == root / "notebooks" and path.suffix == ".ipynb":
                bundle.writestr(inside, _as_it_ran(path, executed))
            else:
                bundle.write(path, inside)
        for path in _kept(folder):
            bundle.write(path, f"kdig/outputs/{folder.name}/{path.relative_to(folder)}")


def _as_it_ran(path: Path, executed: dict[str, Path]) -> str:
    """A notebook with its results; the one with exercises, which no profile runs, as for students."""
    if path.name in executed:
        return executed[path.name].read_text(encoding="utf-8")
    return copy_of(path, "student", links=False)


def tracked(root: Path) -> list[str]:
    """The files that git tracks below `root`; of the committed results only the pages.

    Raises `KdigError` outside a checkout.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise KdigError(f"{brief(root)} is no git checkout: make the bundle in a clone")
    names = [name for name in listed.stdout.split("\0") if name]
    wanted = (n for n in names if not n.startswith("outputs/") or Path(n).suffix in _PAGES)
    return [name for name in wanted if (root / name).is_file()]


def _kept(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and path.suffix != ".lock" and not hidden:
            yield path


def _said(path: Path) -> str:
    return f"bundle: {brief(path)}, {path.stat().st_size / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
