"""The report in a browser, as a reader opens it: from a file, without a connection, on a desktop
and on a phone.
"""

import shutil

import pytest
from helpers import LITE
from PIL import Image

from kdig.study.outputs import Outputs
from kdig.study.report import build_report
from kdig.study.wording import headlines

DESKTOP, PHONE = 1280, 390

# every element that shows text of its own: its size, its contrast (as WCAG defines it), its words
TEXTS = """() => {
  const channel = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (c) => [0.2126, 0.7152, 0.0722]
    .reduce((sum, share, i) => sum + share * channel(c[i] / 255), 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const own = (element) => [...element.childNodes]
    .filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data.trim()).join("");
  return [...document.body.querySelectorAll("*")]
    .filter((element) => element.checkVisibility() && own(element) && element.tagName !== "SCRIPT")
    .map((element) => {
      const style = getComputedStyle(element);
      const [a, b] = [light(rgb(style.color)), light(behind(element))].sort((x, y) => y - x);
      return { words: own(element), size: parseFloat(style.fontSize), contrast: (a + 0.05) / (b + 0.05) };
    });
}"""
OPEN_ALL = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page from the facts and tables of a run on real images, with plain figures."""
    folder = tmp_path_factory.mktemp("report")
    for part in ("facts", "tables"):
        shutil.copytree(LITE / part, folder / part)
    (folder / "figures").mkdir()
    for name in set(headlines().figure) - {""}:
        Image.new("RGB", (900, 480), "white").save(folder / "figures" / f"{name}.png")
        (folder / "figures" / f"{name}.txt").write_text(f"What {name} shows.")
    return build_report(Outputs(folder), "lite").as_uri()


def rows(page, kind):
    """Findings or claims that a reader sees in the ledger."""
    return page.locator(f".{kind}:visible")


def height(page):
    return page.evaluate("document.documentElement.scrollHeight")


def test_folded_page_is_short(report, open_page):
    assert height(open_page(report)) < 12_000


def test_eight_answers_stand_on_the_first_screens(report, open_page):
    page = open_page(report)
    answers = page.locator(".headlines li")
    assert answers.count() == 8
    for answer in answers.all():
        assert answer.bounding_box()["y"] < 900
        for part in (".says", ".found", ".tag", ".numbers b", ".thumb img, .thumb .strip"):
            assert answer.locator(part).first.is_visible()
        target = answer.get_by_role("link", name="evidence").get_attribute("href")
        assert page.locator(f"[id='{target[1:]}']").count() == 1


def test_nothing_is_asked_for_but_the_file(report, open_page):
    page = open_page(report)
    page.evaluate(OPEN_ALL)
    page.wait_for_load_state("networkidle")
    assert page.asked[0] == report
    assert {address.partition(":")[0] for address in page.asked} <= {"file", "data"}
    assert [address for address in page.asked if address.startswith("file:")] == [report]


def test_search_leaves_few_claims_and_stays_in_the_address(report, open_page):
    page = open_page(report)
    page.get_by_label("Search").fill("latency")
    left = rows(page, "claim").count()
    assert 0 < left < 40
    assert page.url == f"{report}#q=latency"
    again = open_page(page.url)
    assert again.get_by_label("Search").input_value() == "latency"
    assert rows(again, "claim").count() == left


def test_verdict_section_and_order_stay_in_the_address(report, open_page):
    page = open_page(report)
    button = page.locator("button[data-verdict='text and code differ']")
    button.click()
    assert rows(page, "finding").count() == int(button.locator("b").inner_text())
    page.get_by_label("Order").select_option("verdict")
    page.get_by_label("Section").select_option(index=3)
    again = open_page(page.url)
    assert again.locator("button[aria-pressed=true]").count() == 1
    assert again.get_by_label("Section").input_value() == page.get_by_label("Section").input_value()
    shown = rows(page, "finding").evaluate_all("all => all.map((one) => one.id)")
    assert shown == rows(again, "finding").evaluate_all("all => all.map((one) => one.id)")


def test_order_by_distance_puts_the_farthest_first(report, open_page):
    page = open_page(f"{report}#sort=distance")
    distances = rows(page, "finding").evaluate_all(
        """all => all.map((one) => Math.max(...[...one.querySelectorAll(".claim")]
          .map((claim) => Number(claim.dataset.distance))))"""
    )
    assert distances[0] > 0
    assert distances == sorted(distances, reverse=True)
    page.get_by_label("Order").select_option("")
    assert page.locator(".group:visible .finding").count() == len(distances)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("claim", ["abstract-kdig", "S9-line-layers", "T4-kd-mean"])
def test_address_of_a_claim_opens_it(report, open_page, claim, width):
    page = open_page(f"{report}#claim-{claim}", width)
    found = page.locator(f"#claim-{claim}")
    assert found.locator(".inside").is_visible()
    assert 0 <= found.bounding_box()["y"] < 450


def test_address_of_a_claim_shows_it_behind_a_filter(report, open_page):
    page = open_page(f"{report}#verdict=selected")
    assert not page.locator("#claim-T4-kd-mean").is_visible()
    page.evaluate("location.hash = 'claim-T4-kd-mean'")
    page.locator("#claim-T4-kd-mean .inside").wait_for(state="visible")
    assert 0 <= page.locator("#claim-T4-kd-mean").bounding_box()["y"] < 450


def test_opened_claim_shows_its_figure(report, open_page):
    page = open_page(f"{report}#claim-S9-line-layers")
    page.locator("#claim-S9-line-layers img").wait_for(state="visible")


def test_links_within_the_page_lead_somewhere(report, open_page):
    page = open_page(report)
    targets = page.locator("a[href^='#']").evaluate_all(
        "all => all.map((a) => a.getAttribute('href').slice(1))"
    )
    ids = page.locator("[id]").evaluate_all("all => all.map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert set(targets) <= set(ids)


@pytest.mark.parametrize("hash", ["", "#q=latency", "#claim-S9-line-layers"])
def test_phone_has_no_small_text_and_no_sideways_scroll(report, open_page, hash):
    page = open_page(report + hash, PHONE)
    assert min(text["size"] for text in page.evaluate(TEXTS)) >= 10
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE


def test_all_of_it_opened_fits_a_phone(report, open_page):
    page = open_page(report, PHONE)
    page.evaluate(OPEN_ALL)
    assert min(text["size"] for text in page.evaluate(TEXTS)) >= 10
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE


def test_text_stands_out_from_what_is_behind_it(report, open_page):
    page = open_page(report)
    page.evaluate(OPEN_ALL)
    texts = page.evaluate(TEXTS)
    assert len(texts) > 5000
    assert [text for text in texts if text["contrast"] < 4.5] == []


def test_every_image_says_what_it_shows(report, open_page):
    page = open_page(report)
    assert page.locator("img").count() > 20
    assert page.locator("img:not([alt]), img[alt='']").count() == 0


def test_paper_has_the_findings_without_the_form(report, open_page):
    page = open_page(report, 720)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("#filter").is_visible()
    assert rows(page, "finding").count() == page.locator(".finding").count()
    assert page.locator("#claim-abstract-kdig").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.locator("#claim-abstract-kdig").is_visible()
