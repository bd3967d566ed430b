"""The summary: from the facts, in the sections of a reproducibility report, on two pages."""

import re
import shutil

import pytest
from helpers import LITE

from kdig import KdigError
from kdig.study import printing, report
from kdig.study.outputs import Outputs
from kdig.study.report import build_report, build_summary
from kdig.study.settings import results_of

SECTIONS = [
    "Scope of reproducibility",
    "Claims, and what became of them",
    "Methodology",
    "Results",
    "What was easy",
    "What was difficult",
    "What stays open",
]


def text_of(path):
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return build_summary(Outputs(LITE), "lite", tmp_path_factory.mktemp("summary"))


def test_sections_are_those_of_a_reproducibility_report(page):
    assert re.findall("<h2>(.*?)</h2>", text_of(page)) == SECTIONS


def test_numbers_are_those_of_the_facts(page, tmp_path):
    folder = tmp_path / "lite"
    shutil.copytree(LITE / "facts", folder / "facts")
    path = folder / "facts" / "04_ablation.csv"
    text, count = re.subn(r"(factorial-IG,)[\d.]+", r"\g<1>0.777", text_of(path))
    assert count == 1
    path.write_text(text, encoding="utf-8")
    assert "IG adds 0.24 points" in text_of(page)
    assert "IG adds 0.78 points" in text_of(build_summary(Outputs(folder), "lite", folder))


def test_the_report_is_written_with_its_summary_and_leads_to_it(tmp_path):
    report = build_report(Outputs(tmp_path), "demo")
    assert '<a href="summary.html">' in text_of(report)
    assert "This profile does not have all of its numbers." in text_of(tmp_path / "summary.html")


def test_it_is_two_pages_on_paper(page, chromium_on_path):
    made = printing.pdf(page)
    content = made.read_bytes()
    assert len(re.findall(rb"/Type /Page\b", content)) == 2
    assert b"file:" not in content


@pytest.fixture
def chromium_on_path():
    if not any(map(shutil.which, printing.BROWSERS)):
        pytest.skip("no browser on PATH")


def test_without_a_browser_there_is_html_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(printing, "results_of", lambda profile: Outputs(LITE))
    monkeypatch.setattr(printing.shutil, "which", lambda name: None)
    assert printing.main(["lite", str(tmp_path)]) == 0
    assert "no PDF: none of chromium" in capsys.readouterr().out
    assert (tmp_path / "summary.html").exists()
    assert not (tmp_path / "summary.pdf").exists()


def test_a_browser_that_fails_is_named(page, tmp_path, monkeypatch):
    monkeypatch.setattr(printing.shutil, "which", lambda name: "/bin/false")
    with pytest.raises(KdigError, match=r"false could not print summary\.html"):
        printing.pdf(page)


def test_a_profile_that_has_not_run_is_no_summary(elsewhere):
    with pytest.raises(KdigError, match="no profile 'nosuch'"):
        results_of("nosuch")
    with pytest.raises(KdigError, match="run `python -m kdig --profile paper` first"):
        results_of("paper")
    assert results_of("lite").folder == LITE


@pytest.mark.parametrize("command", [report, printing])
def test_each_page_says_where_its_facts_come_from(command, elsewhere, tmp_path, capsys):
    assert command.main(["lite", str(tmp_path)]) == 0
    assert "of outputs/reference/lite: " in capsys.readouterr().out
    assert command.main(["nosuch", str(tmp_path / "none")]) != 0
    assert not (tmp_path / "none").exists()
    assert "no profile 'nosuch'" in capsys.readouterr().err
