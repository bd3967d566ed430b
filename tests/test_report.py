"""The report's links: every claim that was measured leads to the table or figure that shows it and
to the cell that makes it.
"""

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from kdig import KdigError
from kdig.paper import claims
from kdig.study.outputs import Outputs
from kdig.study.report import build_report, chance_line, written_by

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"


def reference():
    """The facts of a profile that ran all notebooks."""
    return Outputs(ROOT / "outputs" / "reference" / "lite").all_facts()


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


def test_links_lead_to_what_is_there(tmp_path):
    outputs = profile_folder(tmp_path)
    page = build_report(outputs, "demo").read_text()
    row = re.search(r"\(T4-student-mean\).*?</details>", page, re.DOTALL).group()
    assert re.findall(r'href="([^"]*#[^"]*)"', row) == [
        "#table-04_table4",
        "executed/04_ablation.html#cell-id=table4",
    ]
    assert 'id="table-04_table4"' in page
    other = re.search(r"\(T4-kd-mean\).*?</details>", page, re.DOTALL).group()
    assert "shown in" not in other, "nothing was measured for this claim"


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
