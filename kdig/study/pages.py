"""Notebooks as web pages that ask nothing of the network: equations are MathML, figures have their
captions as alternative text.
"""

import base64
import html
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

WEB = Path(__file__).parent / "web"


def mathml(tex: str, display: bool = False) -> str:
    """TeX as MathML, which browsers draw without a script; the number of an equation is set at the
    right.
    """
    number = re.search(r"\\tag\{(.*?)\}", tex)
    # TeX leaves a thin space between a function and what it is of
    body = re.sub(r"\\(log|ln|max|min)\s+(?=[\w\\])", r"\\\1\\,", re.sub(r"\\tag\{.*?\}", "", tex))
    drawn = convert(body.strip(), display="block" if display else "inline")
    for wrong, right in _SIGNS.items():
        drawn = drawn.replace(wrong, right)
    if not display:
        return drawn
    beside = f"<span>({html.escape(number[1])})</span>" if number else ""
    return f'<span class="equation">{drawn}{beside}</span>'


# what the converter writes -> what browsers draw as TeX does
_SIGNS = {
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",  # \sim
    "<mo>&#x0005E;</mo>": '<mo stretchy="true">&#x00302;</mo>',  # \widehat
    "<mi>&#x02032;</mi>": '<mo class="prime">&#x02032;</mo>',
    "<mo>&#x02016;</mo>": '<mo stretchy="false">&#x02016;</mo>',
    "<mo>&#x0003D;</mo><mo>&#x02212;</mo>": '<mo>&#x0003D;</mo><mo form="prefix">&#x02212;</mo>',
    "<mo>max</mo>": "<mi>max</mi>",
    "<mo>min</mo>": "<mi>min</mi>",
}


class _Renderer(IPythonRenderer):
    """Markdown with its equations drawn."""

    def block_math(self, body: str) -> str:
        return mathml(body, display=True)

    def inline_math(self, body: str) -> str:
        return mathml(body)


class Exporter(HTMLExporter):
    """nbconvert's exporter to HTML with equations drawn."""

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """The Markdown of a cell, or of what it shows, as HTML."""
        return str(MarkdownWithMath(renderer=_Renderer(escape=False)).render(source))


def page_of(executed: Path, others: Sequence[str] = ()) -> str:
    """An executed notebook as one HTML file; `others` are the notebooks in their order, for the
    links to the one before and the one after.
    """
    book = described(nbformat.read(executed, as_version=4))
    ways = {
        "font": math_font(),
        "css": (WEB / "math.css").read_text(encoding="utf-8"),
        **neighbours(executed.stem, others),
    }
    template = (WEB / "notebook.html.j2").read_text(encoding="utf-8")
    exporter = Exporter(embed_images=True, raw_template=template)
    page, _ = exporter.from_notebook_node(
        book, {"kdig": ways, "metadata": {"name": title(book) or executed.stem}}
    )
    return between_copies(str(page), others)


def between_copies(page: str, others: Sequence[str]) -> str:
    """`page` with its links to notebooks leading to the copies of `others` beside it; links to
    further notebooks become text.
    """

    def link(found: re.Match[str]) -> str:
        name, anchor, label = found.groups(default="")
        return f'<a href="{name}.html{anchor}">{label}</a>' if name in others else label

    return re.sub(r'<a href="(\w+)\.ipynb(#[^"]*)?">(.*?)</a>', link, page)


def math_font() -> str:
    """The font of equations as an address that holds it."""
    font = base64.b64encode((WEB / "math.woff").read_bytes()).decode()
    return f"data:font/woff;base64,{font}"


def neighbours(name: str, names: Sequence[str]) -> dict[str, str]:
    """The one before and the one after `name`, where there are."""
    around = dict.fromkeys(("previous", "next"), "")
    for before, after in pairwise(names):
        if after == name:
            around["previous"] = before
        if before == name:
            around["next"] = after
    return around


def title(book: Any) -> str:
    """The first heading of a notebook."""
    text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    found = re.search(r"^# (.+)", text, re.MULTILINE)
    return found[1].strip() if found else ""


def described(book: Any) -> Any:
    """`book`, each of its figures with the caption below it as alternative text."""
    for cell in book.cells:
        for shown, below in pairwise([*cell.get("outputs", []), {}]):
            if "image/png" in shown.get("data", {}):
                shown.metadata.setdefault("image/png", {}).setdefault("alt", _text(below))
    return book


def _text(output: Any) -> str:
    """What an output of HTML says, without its tags."""
    source = output.get("data", {}).get("text/html", "")
    return html.unescape(re.sub(r"<[^>]+>", "", source)).strip()
