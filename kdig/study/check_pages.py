"""Do the pages say what is written from the facts? README, docs, report, summary."""

import base64
import html
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kdig.study import readme
from kdig.study.check import STALE, Check, found
from kdig.study.origin import origin, stated
from kdig.study.outputs import Outputs
from kdig.study.report import build_report
from kdig.study.settings import project_root

PAGES = ("report.html", "summary.html")
_IMAGE = re.compile(r'src="data:image/[^"]*"')
_FIGURE = re.compile(
    r'<figure id="figure-(\w+)">.*?src="data:image/png;base64,([^"]*)".*?</b> (.*?)</figcaption>',
    re.DOTALL,
)
_OTHER = {
    "code": "the code that writes the page changed since",
    "results": "facts, tables, records or executed notebooks changed since",
}


def quoting_pages() -> Iterator[Check]:
    """The blocks and figures that `make readme` writes."""
    for page, blocks in readme.BLOCKS.items():
        text = (project_root() / page).read_text(encoding="utf-8")
        wrong = [n for n, write in blocks.items() if readme.renewed(text, {n: write}) != text]
        yield found(page, [f"block {name}" for name in wrong], f"{len(blocks)} blocks of results")
    folder = project_root() / "docs" / "figures"
    shown = readme.shown()
    wrong = [name for name, drawn in shown.items() if _bytes(folder / name) != drawn]
    yield found("docs/figures", wrong, f"{len(shown)} figures are of executed notebooks")


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def written_pages(folder: Path) -> Iterator[Check]:
    """Report and summary against what they would say from the same results, part by part.

    One of an earlier state is stale; one of this state that says something else is edited.
    """
    if not any((folder / "facts").glob("*.csv")):
        return
    kept = {name: _text(folder / name) for name in PAGES}
    old = {name: _old(page, origin(folder)) for name, page in kept.items()}
    anew = {} if all(old.values()) else _written_anew(folder, kept["report.html"])
    for name, page in kept.items():
        if old[name]:
            yield Check(f"{folder.name}/{name}", STALE, old[name])
        else:
            wrong = differing(page, anew[name])
            yield found(f"{folder.name}/{name}", wrong, "as written from the results")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _old(page: str, now: dict[str, str]) -> str:
    """Why a page is of an earlier state; empty when it is not."""
    before = stated(page)
    if not before:
        return "an earlier version of the page wrote it" if page else "it is not written yet"
    return " and ".join(_OTHER[part] for part in now if before[part] != now[part])


def _written_anew(folder: Path, report: str) -> dict[str, str]:
    """The pages from the results in `folder`, with the figures that its `report` holds."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place)
        for part in ("facts", "tables", "runs", "executed"):
            if (folder / part).is_dir():
                (copy / part).symlink_to((folder / part).resolve())
        _unpack(report, copy / "figures")
        build_report(Outputs(copy), folder.name)
        return {name: _text(copy / name) for name in PAGES}


def _unpack(page: str, folder: Path) -> None:
    """The figures of a report and their captions, as files."""
    folder.mkdir()
    for name, image, caption in _FIGURE.findall(page):
        (folder / f"{name}.png").write_bytes(base64.b64decode(image))
        (folder / f"{name}.txt").write_text(html.unescape(caption), encoding="utf-8")


def differing(one: str, two: str) -> list[str]:
    """The parts of two pages that do not say the same, by their `id`; images do not count."""
    first, second = _parts(one), _parts(two)
    names = first | second
    return [name for name in names if first.get(name) != second.get(name)]


def _parts(page: str) -> dict[str, str]:
    """`id` -> what stands from there to the next one; "the head" is what stands before."""
    pieces = re.split(r' id="([\w.-]+)"', _IMAGE.sub("", page))
    return {"the head": pieces[0], **dict(zip(pieces[1::2], pieces[2::2]))}
