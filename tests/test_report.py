"""The report's links: every claim that was measured leads to the table or figure that shows it and
to the cell that makes it.
"""

import json
import re

import nbformat
import pandas as pd
import pytest
from helpers import LITE, ROOT

from kdig import KdigError
from kdig.paper import VERDICTS, claims, decide, findings
from kdig.study import report, wording
from kdig.study.exhibits import environments, written_by
from kdig.study.outputs import Outputs
from kdig.study.report import build_report, chance_line

NOTEBOOKS = ROOT / "notebooks"


def reference():
    """The facts of a profile that ran all notebooks."""
    return Outputs(LITE).all_facts()


@pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("0[1-9]*.ipynb")), ids=lambda path: path.stem
)
def test_what_shows_a_fact_is_made_by_its_notebook(path):
    cells = nbformat.read(path, as_version=4).cells
    made = {item for cell in cells if cell.cell_type == "code" for item in written_by(cell.source)}
    shown = set(reference().query("notebook == @path.stem")["item"]) - {""}
    assert shown
    assert shown <= made


def test_most_claims_are_shown_somewhere():
    """Sentences whose arithmetic stands in a fact alone have no table; all others do."""
    table = claims().merge(reference()[["fact", "item"]], on="fact")
    without = table[(table["item"] == "") & table.kind.isin(["paper", "retest"])]
    assert len(without) < 12, sorted(without.fact)


@pytest.mark.parametrize(
    ("source", "items"),
    [
        ('out.table(made.round(3), "04_table4", f"Table {4}.").head()', {"04_table4"}),
        ('display(out.table(t["a"], "b", "c"))\nout.figure(f, "d", "e", facts)', {"b", "d"}),
        ('print("04_table4")', set()),
        ('%time out.table(t, "b", "c")', set()),
    ],
)
def test_a_cell_writes_what_its_calls_name(source, items):
    assert written_by(source) == items


def profile_folder(folder):
    """What a profile with one executed notebook leaves."""
    outputs = Outputs(folder)
    shown = [{"fact": "ablation_student", "value": 93.0}]
    outputs.table(pd.DataFrame({"a": [1.0]}), "04_table4", "Caption.", shown)
    outputs.facts("04_ablation", "digits", "other data")
    executed = folder / "executed" / "04_ablation.ipynb"
    executed.parent.mkdir()
    cell = nbformat.v4.new_code_cell('out.table(table, "04_table4", "Caption.")', id="table4")
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell('"04_table4"'), cell]),
        executed,
    )
    outputs.note_run("04_ablation", seconds=1.0, command="papermill")
    return outputs


@pytest.mark.parametrize(
    ("file", "content"),
    [("executed/04_ablation.ipynb", text) for text in ("", "{", "{}", "[]", None)]
    + [("facts/04_ablation.csv", ""), ("tables/04_table4.csv", ""), ("tables/04_table4.txt", None)],
)
def test_file_that_cannot_be_read_is_named(tmp_path, file, content):
    """Of length 0 after a power failure, cut off, of another form, or missing."""
    outputs = profile_folder(tmp_path)
    path = tmp_path / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(
        KdigError, match=rf"cannot read {path} .*: delete it and the \.json file"
    ) as error:
        build_report(outputs, "demo")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_note_of_a_run_that_cannot_be_read_counts_as_not_run(tmp_path, content):
    outputs = profile_folder(tmp_path)
    (tmp_path / "executed" / "04_ablation.json").write_text(content)
    assert outputs.noted("04_ablation") == {}
    assert "executed/04_ablation" not in build_report(outputs, "demo").read_text()


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_run_record_that_cannot_be_read_is_named(tmp_path, content):
    outputs = profile_folder(tmp_path)
    path = tmp_path / "runs" / "abc.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(KdigError, match=rf"cannot read {path} .*: delete it to make the run again"):
        build_report(outputs, "demo")


def claim_on(page, name):
    """What a page says of a claim."""
    return re.search(rf'<details class="claim" id="claim-{name}".*?</details>', page, re.DOTALL)[0]


def test_links_lead_to_what_is_there(tmp_path):
    outputs = profile_folder(tmp_path)
    (tmp_path / "executed" / "04_ablation.html").write_text("")
    page = build_report(outputs, "demo").read_text()
    assert re.findall(r'href="([^"]*)"', claim_on(page, "T4-student-mean")) == [
        "executed/04_ablation.html",
        "#claim-T4-student-mean",
        "#table-04_table4",
        "executed/04_ablation.html#cell-id=table4",
    ]
    assert 'id="table-04_table4"' in page
    assert "Shown in" not in claim_on(page, "T4-kd-mean"), "nothing was measured for this claim"


def test_links_lead_to_notebooks_where_no_html_lies_beside_the_page(tmp_path):
    outputs = profile_folder(tmp_path / "demo")
    (tmp_path / "demo" / "executed" / "04_ablation.html").write_text("")
    (tmp_path / "copy").mkdir()
    page = build_report(outputs, "demo", tmp_path / "copy").read_text()
    assert "executed/04_ablation.ipynb" in claim_on(page, "T4-student-mean")
    assert "executed/04_ablation.html" not in page


@pytest.fixture(scope="module")
def decided():
    """Every claim as the report words it, from the facts of a run on real images."""
    facts = reference()
    measured = facts.set_index("fact")[["value", "low", "high", "interval", "n", "p"]]
    table = decide(claims(), facts).join(measured.add_prefix("fact_"), on="fact")
    return table.to_dict("records")


def test_every_claim_is_asked_in_sentences(decided):
    for claim in decided:
        said = [wording.asked(claim), wording.found(claim)]
        said += [wording.holds_if(claim)] if claim["rule"] else []
        for sentence in said:
            assert sentence.startswith(("We ", "It would ", "Nothing has "))
            assert sentence.endswith(".")
            assert not re.search(r"\bnan\b|None|_|  | \.", sentence.replace(claim["statement"], ""))


def test_the_paper_states_no_p_that_it_does_not_print(decided):
    printed = {claim["id"]: wording.stated(claim) for claim in decided if claim["unit"] == "p"}
    assert len(printed) > 40
    for claim in decided:
        if claim["unit"] == "p":
            own_test = claim["rule"] not in ("equal", "interval")
            assert (printed[claim["id"]] == "") == own_test, claim["id"]
            assert bool(wording.needed(claim)) == own_test
    assert printed["ahead-2"] == ""
    assert printed["LR-r-p"] == "p = 0.41"


def test_a_direction_alone_is_no_printed_number(decided):
    by_name = {claim["id"]: claim for claim in decided}
    for name in ("MC-kd_ig-over-kd", "IG-effect", "AT-complements-effect"):
        assert wording.stated(by_name[name]) == ""
        assert wording.needed(by_name[name]) == "above 0 points"
    assert wording.stated(by_name["T5-kd_ig-welch"]) == "1.24 points"
    assert wording.needed(by_name["IN-student-above"]) == "above 0 points"
    assert not [c for c in decided if c["rule"] == "within" and wording.stated(c) == "0 points"]


def test_open_claims_say_what_would_decide_them(decided):
    books = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    for claim in decided:
        opened = claim["verdict"] in ("not run", "undecided")
        command = wording.command(claim, "lite")
        assert bool(wording.need(claim)) == opened
        assert opened or not command
        assert not command or command.split()[-1] in books
        if claim["verdict"] == "not run":
            assert command or wording.why_open(claim), claim["id"]
    assert wording.need({**decided[0], "verdict": "not run"}) == "profile"
    assert "--profile lite" in wording.command({**decided[0], "verdict": "not run"}, "lite")


def test_numbers_say_where_they_come_from(decided):
    by_name = {claim["id"]: wording.sources_of(claim) for claim in decided}
    assert by_name["S9-line-layers"] == ("printed",)
    assert by_name["sel-kd_ig"] == ("released",)
    assert by_name["T4-student-mean"] == ("run-here",)
    assert by_name["abstract-edge"] == ()
    assert {source for sources in by_name.values() for source in sources} == set(wording.MARKS)
    assert wording.sources("06_widths") == ("printed",)
    assert wording.sources("06_widths_ours") == ("run-here",)


def test_headlines_are_the_abstract_and_find_their_facts(decided):
    central = findings(pd.DataFrame(decided)).query("central == 'abstract'").finding
    heads = wording.headlines()
    assert set(heads.finding) == set(central)
    assert (heads.found != "").sum() == 8
    facts = {fact["fact"]: fact for fact in reference().to_dict("records")}
    owners = {claim["id"]: claim["finding"] for claim in decided}
    for row in heads.itertuples():
        assert owners[row.claim] == row.finding
        said = wording.filled(row.found, facts)
        assert "nan" not in said
        assert "does not have all" not in said
    assert "does not have all" in wording.filled(heads.found[0], {})
    assert wording.filled("{a[value]:.1f} to CIFAR-10", {"a": {"value": -1}}) == "−1.0 to CIFAR-10"


def test_every_verdict_has_a_sign_and_a_meaning():
    assert set(wording.MEANINGS) == set(VERDICTS)
    assert len({sign for sign, _ in wording.MEANINGS.values()}) == len(VERDICTS)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (91.184, "%", "91.18 %"), (-2.14871, "points", "−2.15 points"), (0.0042, "points", "0.0042 points"),
        (15.4351, "ms", "15.44 ms"), (11.0236, "x", "11.02x"), (2236682.0, "parameters", "2,236,682 parameters"),
        (2017.0, "year", "2017"), (5e-26, "p", "p < 0.0001"), (0.035, "p", "p = 0.035"), (-0.114, "r", "r = −0.114"),
        (float("nan"), "%", ""), (1.0, "families", "1 family"), (0.0045, "", "0.0045"),
    ],
)  # fmt: skip
def test_numbers_have_their_units(value, unit, said):
    assert wording.with_unit(value, unit) == said


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("p_paired_holm", "p, paired t, Holm"), ("low_to_map", "Lower end to map"), ("teacher_ms", "Teacher (ms)"),
        ("paper_mean", "Mean, printed"), ("kd_ig", "KD & IG"), ("T", "T"), ("cells met", "Cells met"),
    ],
)  # fmt: skip
def test_heads_of_tables_are_words(column, words):
    assert wording.head(column) == words


def test_line_on_chance_counts_a_test_once_and_leaves_open_claims_out():
    decided = pd.DataFrame(
        {
            "fact": ["a", "a", "b", "c", "d"],
            "rule": ["effect", "effect", "beyond_chance", "effect", "equal"],
            "verdict": ["supported", "supported", "undecided", "not run", "checks out"],
        }
    )
    facts = pd.DataFrame({"fact": list("abcd"), "p": [0.01, 0.3, 0.001, 0.001]})
    said = chance_line(decided, facts)
    assert said.startswith("2 tests with a p decide claims about effects; 1 of these p lie below")
    assert "0.1 would" in said


def test_a_report_of_the_present_state_is_not_written_again(tmp_path, monkeypatch):
    out = Outputs(tmp_path)
    out.facts("04_ablation", "digits", "other data", [{"fact": "f", "value": 2.0}])
    page = report.current_report(out, "demo")
    before = page.stat().st_mtime_ns
    assert report.current_report(out, "demo").stat().st_mtime_ns == before
    (tmp_path / "summary.html").unlink()
    assert report.current_report(out, "demo").stat().st_mtime_ns > before
    before = page.stat().st_mtime_ns
    out.facts("04_ablation", "digits", "other data", [{"fact": "f", "value": 3.0}])
    assert report.current_report(out, "demo").stat().st_mtime_ns > before


@pytest.mark.parametrize("profile", ["lite", "evidence"])
def test_every_record_of_a_run_is_counted(profile):
    """Records differ in what they say of their environment: a run that went on after a kill says so."""
    folder = ROOT / "outputs" / "reference" / profile
    rows = environments(folder)
    records = [json.loads(path.read_text()) for path in (folder / "runs").glob("*.json")]
    assert sum(row["runs"] for row in rows) == len(records)
    assert sum(row["hours"] for row in rows) == pytest.approx(
        sum(record["seconds"] for record in records) / 3600
    )
