"""Slides of a notebook in one file that needs no network: reveal.js stands in the page.

`python -m kdig.study.slides 00_primer --profile demo` writes `outputs/slides/00_primer.slides.html`
from the notebook as it ran in the profile; it needs `pip install 'kdig[site]'`. A cell begins a
slide by its metadata `slideshow`, which JupyterLab shows beside the notebook.
"""

import argparse
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import SlidesExporter
from nbconvert.preprocessors import TagRemovePreprocessor

from kdig import KdigError
from kdig.study.command import exit_code
from kdig.study.pages import WEB, Exporter, described, math_font, title
from kdig.study.settings import brief, outputs_of, project_root


class _Deck(Exporter, SlidesExporter):
    """nbconvert's exporter to slides with equations drawn."""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kdig.study.slides", description=__doc__)
    parser.add_argument("notebook", help="its name, such as 00_primer")
    parser.add_argument("--profile", default="demo", help="whose results to show")
    options = parser.parse_args(arguments)
    return exit_code(lambda: print(f"slides: {brief(write(options.notebook, options.profile))}"))


def write(notebook: str, profile: str) -> Path:
    """The file with a notebook's slides, made anew."""
    target = outputs_of("slides").folder / f"{notebook}.slides.html"
    text = deck(_marked(notebook, profile))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def deck(book: Any) -> str:
    """The slides of an executed notebook as one HTML file. Code that draws a figure is left out.

    Raises `KdigError` where reveal.js is not installed.
    """
    for cell in described(book).cells:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            cell.metadata.setdefault("tags", []).append("figure")
    template = (WEB / "slides.html.j2").read_text(encoding="utf-8")
    exporter = _Deck(embed_images=True, raw_template=template)
    only_outputs = TagRemovePreprocessor(remove_input_tags={"figure"})
    exporter.register_preprocessor(only_outputs, enabled=True)
    resources = {"kdig": _parts(), "metadata": {"name": title(book)}}
    page, _ = exporter.from_notebook_node(book, resources)
    return str(page)


def _marked(notebook: str, profile: str) -> Any:
    """A notebook as it ran in `profile`, else as it is written; where slides begin is taken from
    the latter. Raises `KdigError` for a notebook that is not there, or has no slides.
    """
    source = project_root() / "notebooks" / f"{notebook}.ipynb"
    if not source.is_file():
        raise KdigError(f"there is no notebook {notebook}")
    written = nbformat.read(source, as_version=4)
    marks = {cell.id: cell.metadata.get("slideshow") for cell in written.cells}
    if not any(marks.values()):
        raise KdigError(f"{notebook} has no slides: no cell of it says where one begins")
    executed = outputs_of(profile).folder / "executed" / source.name
    book = nbformat.read(executed, as_version=4) if executed.is_file() else written
    for cell in book.cells:
        cell.metadata["slideshow"] = marks.get(cell.id) or {"slide_type": "skip"}
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((?=\w+\.ipynb)", "](../../notebooks/", cell.source)
    return book


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
