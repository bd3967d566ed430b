"""Slides: one file that fetches nothing, with figures in the place of the code that draws them."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from helpers import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kdig import KdigError
from kdig.study import slides

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def reveal(tmp_path, monkeypatch):
    """A stand-in for the package that brings reveal.js along."""
    dist = tmp_path / "sphinx_revealjs" / "_static" / "revealjs" / "dist"
    (dist / "theme").mkdir(parents=True)
    (tmp_path / "sphinx_revealjs" / "__init__.py").touch()
    (dist / "reveal.css").write_text(".reveal { color: black }")
    (dist / "theme" / "white.css").write_text(
        "@import url(./fonts/a.css);\n.theme { color: white }"
    )
    (dist / "reveal.js").write_text("var Reveal = 1;\n//# sourceMappingURL=reveal.js.map")
    monkeypatch.syspath_prepend(tmp_path)


def book():
    shown = new_output("display_data", {"image/png": DOT, "text/plain": "figure"})
    said = new_output("display_data", {"text/html": "<em>A dot that says it all.</em>"})
    cells = [
        ("slide", new_markdown_cell("# A title\n\n$$a = b^2 \\tag{1}$$")),
        ("skip", new_code_cell("left_out = 1")),
        ("subslide", new_code_cell("draw_a_figure()", outputs=[shown, said])),
        ("subslide", new_code_cell("compute()")),
    ]
    for kind, cell in cells:
        cell.metadata["slideshow"] = {"slide_type": kind}
    return new_notebook(cells=[cell for _, cell in cells])


def test_a_deck_is_whole_in_one_file(reveal):
    page = BeautifulSoup(slides.deck(book()), "html.parser")
    assert not page.select("script[src], link[href], img:not([src^='data:'])")
    text = str(page)
    assert ".theme { color: white }" in text
    assert "@import" not in text
    assert "sourceMappingURL" not in text
    assert "Reveal.initialize" in text
    assert len(page.select(".slides > section > section")) == 3
    assert page.title.text == "A title"
    assert page.select(".equation math")


def test_a_figure_stands_in_the_place_of_its_code(reveal):
    page = BeautifulSoup(slides.deck(book()), "html.parser")
    text = page.select_one(".slides").get_text()
    assert "compute" in text
    assert "draw_a_figure" not in text
    assert "left_out" not in text
    assert page.select_one("img")["alt"] == "A dot that says it all."


def test_slides_are_of_the_notebook_as_it_ran(reveal, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    assert slides.main(["00_primer"]) == 0
    target = tmp_path / "slides" / "00_primer.slides.html"
    assert "A remark of this run" not in target.read_text()
    ran = nbformat.read(ROOT / "notebooks" / "00_primer.ipynb", as_version=4)
    for cell in ran.cells:
        cell.metadata.pop("slideshow", None)
    ran.cells[
        -1
    ].source += "\n\nA remark of this run, and [the next](02_teacher_and_signals.ipynb)."
    (tmp_path / "demo" / "executed").mkdir(parents=True)
    nbformat.write(ran, tmp_path / "demo" / "executed" / "00_primer.ipynb")
    assert slides.main(["00_primer"]) == 0
    assert "A remark of this run" in target.read_text()
    assert 'href="../../notebooks/02_teacher_and_signals.ipynb"' in target.read_text()
    assert "00_primer.slides.html" in capsys.readouterr().out


def test_a_browser_shows_every_slide_without_a_network(open_page, tmp_path):
    pytest.importorskip("sphinx_revealjs", reason="it is not installed: make slides")
    path, wrong = tmp_path / "deck.html", []
    path.write_text(slides.deck(book()), encoding="utf-8")
    page = open_page("about:blank")
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri())
    assert page.evaluate("Reveal.getTotalSlides()") == 3
    assert page.get_by_role("heading", name="A title").is_visible()
    page.evaluate("Reveal.next()")
    assert page.locator("img").is_visible()
    assert page.locator(".slides").bounding_box()["height"] > 300
    assert not wrong
    assert all(url.startswith(("file:", "data:", "about:")) for url in page.asked)


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(KdigError, match="there is no lecture or notebook 00_nosuch"):
        slides.write("00_nosuch", "demo")
    with pytest.raises(KdigError, match="01_literature_review has no slides"):
        slides.write("01_literature_review", "demo")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(KdigError, match="slides need reveal"):
        slides.deck(book())


def test_a_section_begins_at_its_heading_even_inside_a_cell():
    cells = [
        new_markdown_cell("# Title"),
        new_markdown_cell("## 1. One\n\ntext"),
        new_code_cell("1"),
        new_markdown_cell("last of one\n\n## 2. Two\n\n### within"),
        new_code_cell("2"),
        new_markdown_cell("## Quick checks"),
    ]
    found = {
        number: [cell.source.strip() for cell in some]
        for number, some in slides.sections(new_notebook(cells=cells)).items()
    }
    assert found["1"] == ["## 1. One\n\ntext", "1", "last of one"]
    assert found["2"] == ["## 2. Two\n\n### within", "2"]
    assert found[""] == ["# Title", "## Quick checks"]


def test_every_lecture_has_a_deck_of_its_sections(reveal, tmp_path, monkeypatch, capsys):
    """Also where nothing has run: headings and texts stand, and no slide is empty."""
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    assert slides.main([]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.rsplit("lecture_")[-1][0] for line in said] == ["0", "1", "2", "3", "4", "5"]
    page = BeautifulSoup((tmp_path / "slides" / "lecture_5.slides.html").read_text(), "html.parser")
    assert page.select_one("h1").text.startswith("Lecture 5. Audit")
    headings = [heading.text for heading in page.select("h2")]
    assert len(headings) == 5
    assert headings[0].startswith("4. A cold and a warm clock")
    assert all(slide.text.strip() for slide in page.select(".slides > section > section"))


def test_a_section_that_is_not_there_is_named(monkeypatch):
    wanted = [{"lecture": "9", "title": "x", "notebook": "04_ablation", "section": "99"}]
    monkeypatch.setattr(slides, "_lectures", lambda: wanted)
    with pytest.raises(KdigError, match="04_ablation has no section 99"):
        slides.write("9", "demo")


def test_every_cell_of_the_primer_says_where_it_stands():
    cells = nbformat.read(ROOT / "notebooks" / "00_primer.ipynb", as_version=4).cells
    kinds = {cell.id: cell.metadata.slideshow.slide_type for cell in cells}
    assert {kinds.pop(name) for name in ("parameters", "setup")} == {"skip"}
    assert set(kinds.values()) == {"slide", "subslide", "-"}
