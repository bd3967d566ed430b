"""Slides in one file that needs no network: reveal.js stands in the page.

`python -m kdig.study.slides 3 --profile demo` writes `outputs/slides/lecture_3.slides.html`: the
sections of notebooks that `lectures.csv` names for lecture 3, as they ran in the profile. A
notebook's name makes slides of all of it; without a name, every lecture has its deck. It needs
`pip install 'kdig[site]'`.

A cell begins a slide by its metadata `slideshow`, which JupyterLab shows beside the notebook. Where a
notebook has none, each heading, table and figure is a slide, without code.
"""

import csv
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import SlidesExporter
from nbconvert.preprocessors import TagRemovePreprocessor

from kdig import KdigError
from kdig.core.files import atomic_write
from kdig.study.command import Parser, exit_code
from kdig.study.pages import WEB, Exporter, described, math_font, title
from kdig.study.settings import brief, outputs_of, project_root


class _Deck(Exporter, SlidesExporter):
    """nbconvert's exporter to slides with equations drawn."""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = Parser(prog="python -m kdig.study.slides", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="lectures, such as 3, or notebooks (default: every lecture)"
    )
    parser.add_argument("--profile", default="demo", help="whose results to show")
    options = parser.parse_args(arguments)
    names = options.names or list(dict.fromkeys(part["lecture"] for part in _lectures()))
    return exit_code(lambda: _write_all(names, options.profile))


def _write_all(names: list[str], profile: str) -> None:
    for name in names:
        print(f"slides: {brief(write(name, profile))}")


def write(name: str, profile: str) -> Path:
    """The file with the slides of a lecture or a notebook, made anew."""
    parts = [part for part in _lectures() if part["lecture"] == name]
    book = _lecture(parts, profile) if parts else _marked(name, profile)
    file = f"lecture_{name}" if parts else name
    target = outputs_of("slides").folder / f"{file}.slides.html"
    text = deck(book)
    atomic_write(target, lambda part: Path(part).write_text(text, encoding="utf-8"))
    return target


def _lectures() -> list[dict[str, str]]:
    with Path(__file__).with_name("lectures.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _lecture(parts: list[dict[str, str]], profile: str) -> Any:
    """One notebook of a title and the sections that a lecture takes from others.

    Raises `KdigError` for a section that is not there.
    """
    lecture = parts[0]
    heading = f"# Lecture {lecture['lecture']}. {lecture['title']}"
    sources = ", ".join(
        dict.fromkeys(f"[{p['notebook']}](../../notebooks/{p['notebook']}.ipynb)" for p in parts)
    )
    note = f"From {sources}, as they ran in the profile {profile} of kdig."
    first = nbformat.v4.new_markdown_cell(f"{heading}\n\n{note}")
    first.metadata["slideshow"] = {"slide_type": "slide"}
    cells = [first]
    for part in parts:
        found = sections(_as_it_ran(part["notebook"], profile))
        if part["section"] not in found:
            raise KdigError(
                f"{part['notebook']} has no section {part['section']}: see lectures.csv"
            )
        cells += found[part["section"]]
    for place, cell in enumerate(cells):  # two notebooks may have the same name for a cell
        cell.id = f"cell-{place}"
    return nbformat.v4.new_notebook(cells=cells)


def sections(book: Any) -> dict[str, list[Any]]:
    """The cells below each numbered heading `## 3. ...`; what stands before it in the same cell
    belongs to the section before.
    """
    found: dict[str, list[Any]] = {}
    number = ""
    for cell in book.cells:
        texts = (
            re.split(r"(?m)^(?=## )", cell.source)
            if cell.cell_type == "markdown"
            else [cell.source]
        )
        for text in filter(str.strip, texts):
            if cell.cell_type == "markdown" and text.startswith("## "):
                heading = re.match(r"## (\d+)\.", text)
                number = heading[1] if heading else ""
            found.setdefault(number, []).append(nbformat.from_dict({**cell, "source": text}))
    return found


def deck(book: Any) -> str:
    """The slides of an executed notebook as one HTML file. Code that draws a figure is left out.

    Raises `KdigError` where reveal.js is not installed.
    """
    for cell in described(book).cells:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            cell.metadata.setdefault("tags", []).append("figure")
    template = (WEB / "slides.html.j2").read_text(encoding="utf-8")
    exporter = _Deck(embed_images=True, raw_template=template)
    only_outputs = TagRemovePreprocessor(remove_input_tags={"figure", "no-code"})
    exporter.register_preprocessor(only_outputs, enabled=True)
    resources = {"kdig": _parts(), "metadata": {"name": title(book)}}
    page, _ = exporter.from_notebook_node(book, resources)
    return str(page)


def _marked(notebook: str, profile: str) -> Any:
    """A notebook for slides of all of it. Raises `KdigError` where no cell says that one begins."""
    if not any("slideshow" in cell.metadata for cell in _source(notebook).cells):
        raise KdigError(f"{notebook} has no slides: no cell of it says where one begins")
    return _as_it_ran(notebook, profile)


def _source(notebook: str) -> Any:
    """A notebook as it is written. Raises `KdigError` where there is none of that name."""
    path = project_root() / "notebooks" / f"{notebook}.ipynb"
    if not path.is_file():
        raise KdigError(f"there is no lecture or notebook {notebook}")
    return nbformat.read(path, as_version=4)


def _as_it_ran(notebook: str, profile: str) -> Any:
    """A notebook as it ran in `profile`, else as it is written; where slides begin is taken from
    the latter.
    """
    written = _source(notebook)
    marks = {cell.id: cell.metadata.get("slideshow") for cell in written.cells}
    executed = outputs_of(profile).folder / "executed" / f"{notebook}.ipynb"
    book = nbformat.read(executed, as_version=4) if executed.is_file() else written
    for cell in book.cells:
        if any(marks.values()):
            cell.metadata["slideshow"] = marks.get(cell.id) or {"slide_type": "skip"}
        else:
            cell.metadata["slideshow"] = {"slide_type": _usual(cell)}
            if cell.cell_type == "code":
                cell.metadata.setdefault("tags", []).append("no-code")
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((?=\w+\.ipynb)", "](../../notebooks/", cell.source)
    return book


def _usual(cell: Any) -> str:
    """Where a slide begins in a notebook that does not say so."""
    if cell.cell_type == "markdown":
        return "slide" if cell.source.startswith("#") else "-"
    kinds = {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}
    if kinds & {"image/png", "text/html"}:
        return "subslide"
    return "-" if kinds else "skip"


def _parts() -> dict[str, str]:
    """Style, script and font of the slides."""
    found = importlib.util.find_spec("sphinx_revealjs")
    if found is None or found.origin is None:
        raise KdigError("slides need reveal.js: make slides, or pip install 'kdig[site]'")
    folder = Path(found.origin).parent / "_static" / "revealjs" / "dist"
    texts = {
        name: (folder / path).read_text(encoding="utf-8")
        for name, path in (
            ("reveal_css", "reveal.css"),
            ("theme_css", "theme/white.css"),
            ("reveal_js", "reveal.js"),
        )
    }
    # fonts that it would fetch, and the address of a map for debuggers
    texts["theme_css"] = re.sub(r"@import url\(.*?\);", "", texts["theme_css"])
    texts["reveal_js"] = re.sub(r"//# sourceMappingURL=\S*", "", texts["reveal_js"])
    css = (WEB / "math.css").read_text(encoding="utf-8")
    return {**texts, "font": math_font(), "css": css}


if __name__ == "__main__":
    sys.exit(main())
