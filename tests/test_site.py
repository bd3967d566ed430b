"""The site and the HTML copies in a browser without a network: Debian's chromium, on a wide screen
and on a phone.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from helpers import LITE

from kdig import KdigError
from kdig.study import site
from kdig.study.pages import page_of

EXECUTED = LITE / "executed"
# one without results, and neighbours with equations, figures and wide tables
NAMES = ["04_ablation", "05_compression", "10_factorial"]
PHONE, WIDE = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The site of three notebooks."""
    for name in ("sphinx", "myst_nb", "sphinx_book_theme"):
        pytest.importorskip(name, reason="the site's tools are not installed: make site")
    target = tmp_path_factory.mktemp("site")
    site.build("lite", target, names=NAMES)
    return target


@pytest.fixture
def visit(chromium):
    """Opens a file without a network; afterwards, that nothing but files was asked for."""
    asked, contexts = [], []

    def opened(path: Path, viewport=WIDE, scheme="light", query=""):
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri() + query)
        page.evaluate("document.fonts.ready.then(() => true)")
        return page

    yield opened
    for context in contexts:
        context.close()
    outside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert asked
    assert not outside


def equations(page) -> list[dict]:
    """Of each equation that is set in a line of its own: its size, and whether the font is ours."""
    return page.evaluate(
        """[...document.querySelectorAll('.equation math')].map(one => ({
            width: one.getBoundingClientRect().width, height: one.getBoundingClientRect().height,
            font: getComputedStyle(one).fontFamily, colour: getComputedStyle(one).color}))"""
    )


def assert_drawn(page):
    drawn = equations(page)
    assert drawn
    assert all(one["width"] > 40 and one["height"] > 10 for one in drawn)
    assert all("kdig math" in one["font"] for one in drawn)
    assert page.evaluate(
        "[...document.fonts].some(f => /kdig/.test(f.family) && f.status == 'loaded')"
    )
    assert "$$" not in page.locator("body").inner_text()


def sideways(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def undescribed(page) -> list[str]:
    """Figures without a sentence; Sphinx puts the file's name where it knows none."""
    texts = page.evaluate("[...document.querySelectorAll('main img')].map(i => i.alt)")
    return [text for text in texts if len(text.split()) < 5]


def test_equations_of_the_site_are_drawn_and_figures_described(built, visit):
    page = visit(built / "notebooks" / "04_ablation.html")
    assert_drawn(page)
    assert page.locator("main img").count() == 4
    assert undescribed(page) == []


def test_previous_and_next_lead_through_the_notebooks(built, visit):
    page = visit(built / "notebooks" / "04_ablation.html")
    page.locator("a.right-next").click()
    page.wait_for_url("**/05_compression.html")
    assert page.locator("h1").first.inner_text().startswith("05")
    page.locator("a.left-prev").click()
    page.wait_for_url("**/04_ablation.html")
    assert page.locator("h1").first.inner_text().startswith("04")


def test_search_finds_a_word_without_a_server(built, visit):
    page = visit(built / "search.html", query="?q=latency")
    found = page.locator("#search-results li a")
    found.first.wait_for(timeout=10_000)
    assert any("05" in text for text in found.all_inner_texts())


def test_no_page_moves_sideways_on_a_phone(built, visit):
    pages = sorted({*built.rglob("*.html")} - {*built.glob("_*/**/*.html")})
    wide = [page.relative_to(built) for page in pages if sideways(visit(page, PHONE))]
    assert len(pages) > 12
    assert not wide


def test_every_link_between_pages_leads_to_a_file(built):
    for page in set(built.rglob("*.html")) - {built / "full_report.html"}:
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        for part in soup.select("main a[href], nav a[href], main img[src]"):
            address = urlsplit(part.get("href") or part["src"])
            if address.path and not address.scheme:
                assert (page.parent / unquote(address.path)).exists(), f"{page.name}: {part}"


def test_setup_is_folded_and_what_it_shows_stays(built, visit):
    page = visit(built / "notebooks" / "04_ablation.html")
    folds = page.locator(".tag_hide-input details")
    assert folds.count() == 3
    assert not page.locator(".tag_hide-input details[open]").count()
    assert page.get_by_text("8 methods x 3 seeds").is_visible()
    assert page.get_by_text("As it ran in the profile lite").is_visible()


def test_a_notebook_that_has_not_run_says_so(built, visit):
    page = visit(built / "notebooks" / "10_factorial.html")
    assert page.get_by_text("Code and text only").is_visible()


def test_dark_pages_have_light_equations(built, visit):
    page = visit(built / "notebooks" / "04_ablation.html", scheme="dark")
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    (first, *_) = equations(page)
    assert brightness(first["colour"]) - brightness(back) > 120


def brightness(colour: str) -> float:
    red, green, blue = map(float, colour[colour.index("(") + 1 : -1].split(",")[:3])
    return (red + green + blue) / 3


def test_the_report_leads_to_the_pages_and_back(built, visit):
    page = visit(built / "report.html")
    page.get_by_role("link", name="The report", exact=True).click()
    page.wait_for_url("**/full_report.html", wait_until="load")
    links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert "notebooks/04_ablation.html" in links
    assert not [link for link in links if link.startswith("executed/")]
    page.get_by_role("link", name="all pages").click()
    page.wait_for_url("**/index.html")


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_an_html_copy_is_whole_in_one_file(tmp_path, visit, viewport):
    copy = tmp_path / "04_ablation.html"
    copy.write_text(page_of(EXECUTED / "04_ablation.ipynb"), encoding="utf-8")
    page = visit(copy, viewport)
    assert_drawn(page)
    assert undescribed(page) == []
    assert sideways(page) == 0


def test_a_profile_without_results_and_missing_tools_are_said(tmp_path, monkeypatch, elsewhere):
    with pytest.raises(KdigError, match=r"profile paper has no results: make reproduce"):
        site.stage(tmp_path, "paper")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(KdigError, match="the site needs Sphinx: make site"):
        site.build("lite", tmp_path)


def test_links_out_of_the_site_lead_to_the_sources_or_are_text(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").touch()
    text = "[a](a.md#b) [code](../kdig/run.py) [web](https://a.b) [here](#c)"
    kept = "[a](a.md#b) {} [web](https://a.b) [here](#c)"
    here = tmp_path / "docs"
    assert site.linked(text, tmp_path, here, None) == kept.format("code")
    to = "https://code.example/blob/main"
    assert site.linked(text, tmp_path, here, to) == kept.format(f"[code]({to}/kdig/run.py)")


def test_contents_follow_the_first_page_and_leave_nothing_out(tmp_path):
    for name in ("docs/a.md", "docs/index.md", "docs/late.md", "notebooks/01_x.ipynb", "report.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    index = (
        "# T\n\n## One\n\n- [r](../outputs/reference/lite/report.html)\n- [a](a.md)\n\n"
        "## Two\n\n- [x](../notebooks/01_x.ipynb)\n- [y](../notebooks/02_y.ipynb)\n"
    )
    trees = site.contents(index, tmp_path).split("```{toctree}")[1:]
    assert [tree.split("```")[0].split("\n")[2:-1] for tree in trees] == [
        [":caption: One", "", "report.md", "docs/a.md"],
        [":caption: Two", "", "notebooks/01_x.ipynb"],
        [":caption: More", "", "docs/late.md"],
    ]
