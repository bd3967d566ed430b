"""The README: its results are those of the reference, its links lead somewhere, and it is short."""

import re

import pytest
from helpers import ROOT

from kdig import KdigError
from kdig.study import readme

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
HINT = "if that is wanted, run `make readme` and let the diff be read"


@pytest.mark.parametrize("page", readme.BLOCKS)
def test_results_are_those_of_the_reference(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert readme.renewed(text, readme.BLOCKS[page]) == text, HINT


def test_figures_are_those_of_the_executed_notebooks():
    drawn = {path.name: path.read_bytes() for path in (ROOT / "docs" / "figures").iterdir()}
    assert drawn == readme.shown(), HINT


def test_blocks_are_written_between_their_marks():
    text = "a\n<!-- x -->\nold\nlines\n<!-- end of x -->\nb"
    new = "a\n<!-- x -->\n1 \\1 2\n<!-- end of x -->\nb"
    assert readme.renewed(text, {"x": lambda: "1 \\1 2"}) == new
    assert readme.renewed(new, {"x": lambda: "1 \\1 2"}) == new
    with pytest.raises(KdigError, match="no place for y"):
        readme.renewed(text, {"y": str})


def test_a_figure_that_is_not_there_is_named():
    with pytest.raises(KdigError, match=r"01_literature_review\.ipynb of the reference holds no"):
        readme.figure("01_nosuch", "01_literature_review")


def seen(text: str) -> list[str]:
    """The words that a reader sees: no comments, addresses or alternative texts."""
    text = re.sub(r"<!--.*?-->|!\[.*?\]\(.*?\)", "", text, flags=re.DOTALL)
    words = re.split(r"[\s|]+", re.sub(r"\]\(.*?\)", "]", text))
    return [word for word in words if re.search(r"\w", word)]


def test_the_readme_is_short_and_shows_figures():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(seen(text)) <= 900
    assert len(re.findall(r"!\[.+?\]\(docs/figures/\w+\.png\)", text)) == 5


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_that_are_there(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize(
    ("number", "shown"), [(-1.83, "-1.8"), (-0.03, "-0.03"), (0.04, "+0.04"), (-0.001, "+0.00")]
)
def test_a_number_near_0_keeps_its_side(number, shown):
    assert readme._signed(number) == shown
