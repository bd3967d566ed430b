"""HTML copies of notebooks: equations, figures' descriptions and links, without a network."""

import re

import nbformat
import pytest
from helpers import NOTEBOOKS, ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kdig.study.pages import between_copies, described, mathml, neighbours, page_of

EXECUTED = sorted((ROOT / "outputs" / "reference").glob("*/executed/*.ipynb"))
TEX = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL)


def equations(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return [block or inline for block, inline in TEX.findall(text)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_equation_of_the_notebooks_is_drawn(path):
    for tex in equations(path):
        drawn = mathml(tex, display=True)
        assert "<math" in drawn
        assert not re.search(r"\\[a-zA-Z]|<mi>&#x0007E;|<merror", drawn), f"{tex}: {drawn}"


def test_the_number_of_an_equation_stands_beside_it():
    drawn = mathml(r"L = (1 - \alpha)\, L_H \tag{1}", display=True)
    assert drawn.endswith("</math><span>(1)</span></span>")
    assert "tag" not in drawn
    assert mathml("x").startswith("<math")


def test_a_page_draws_equations_describes_figures_and_fetches_nothing(tmp_path):
    figure = new_output("display_data", {"image/png": "aGVsbG8=", "text/plain": "<Figure>"})
    caption = new_output("display_data", {"text/html": "<p><em>Accuracy &lt; 90 %, n = 3</em></p>"})
    said = new_output("display_data", {"text/markdown": "so $q = 1$", "text/plain": ""})
    cells = [
        new_markdown_cell("# The name\n\nEq. 1: $$a * b_i * c \\tag{1}$$ and $x'$ is *new*"),
        new_code_cell("draw()", outputs=[figure, caption, said]),
    ]
    path = tmp_path / "02_b.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    page = page_of(path, ["01_a", "02_b", "03_c"])
    assert page.count("<math") == 3
    assert "$$" not in page
    assert 'alt="Accuracy &lt; 90 %, n = 3"' in page
    assert "<title>The name</title>" in page
    assert not re.search(r"""<script[^>]+src=|(?:src|import)\s*[=(]?\s*["']https?:""", page)
    assert re.findall(r'rel="(\w+)"', page)[-2:] == ["prev", "next"]
    assert 'href="01_a.html"' in page
    assert 'href="03_c.html"' in page


def test_both_references_are_looked_at():
    assert {path.parts[-3] for path in EXECUTED} == {"lite", "evidence"}


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_every_figure_of_the_reference_has_a_description(path):
    book = described(nbformat.read(path, as_version=4))
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert all(len(figure.metadata["image/png"]["alt"]) > 20 for figure in figures)


def test_neighbours_of_the_first_the_last_and_an_unknown_notebook():
    assert neighbours("a", ["a", "b"]) == {"previous": "", "next": "b"}
    assert neighbours("b", ["a", "b"]) == {"previous": "a", "next": ""}
    assert neighbours("z", ["a", "b"]) == {"previous": "", "next": ""}


def test_links_between_copies_lead_to_copies_and_others_are_text():
    page = '<a href="04_x.ipynb">04</a> <a href="index.ipynb">all</a> <a href="03_y.ipynb#a">3</a>'
    found = between_copies(page, ["03_y", "04_x"])
    assert found == '<a href="04_x.html">04</a> all <a href="03_y.html#a">3</a>'


def test_what_sets_a_notebook_up_is_folded(tmp_path):
    parameters = new_code_cell("profile = 'x'", metadata={"tags": ["parameters"]})
    prepared = new_code_cell("import kdig")
    prepared["id"] = "setup"
    book = new_notebook(cells=[parameters, prepared, new_code_cell("teach()")])
    nbformat.write(book, tmp_path / "04_x.ipynb")
    page = page_of(tmp_path / "04_x.ipynb")
    folds = re.findall(
        r"<details class=\"fold\"><summary>(.+?)</summary>.*?</details>", page, re.DOTALL
    )
    assert folds == ["Parameters", "Set-up"]
    assert page.rindex("</details>") < page.index("teach")
