"""What notebooks leave and show: tables and figures with their captions."""

import ast
import os
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from helpers import ROOT
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from kdig import KdigError
from kdig.study.outputs import EARLIER, Outputs
from kdig.study.report import build_report
from kdig.study.settings import open_notebook

CAPTION = "Accuracy (%) & <all> of it."


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A notebook's shell in which parameters have been checked."""
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    shell = InteractiveShell.instance()
    shell.display_formatter.active_types = ["text/html", "text/plain"]
    open_notebook("99_claims", {"profile": "demo"})
    yield shell
    InteractiveShell.clear_instance()


def test_tables_are_shown_with_their_caption_and_derived_frames_without_one(shell, tmp_path):
    data = pd.DataFrame({"a": [1.5, 2.5]})
    html = shell.display_formatter.format(Outputs(tmp_path).table(data, "t", CAPTION))[0][
        "text/html"
    ]
    assert "Accuracy (%) &amp; &lt;all&gt; of it." in html
    assert "2.5" in html
    assert "Accuracy" not in shell.display_formatter.format(data)[0]["text/html"], (
        "the notebook's own frame has no caption"
    )


@pytest.mark.parametrize(
    "data", [pd.DataFrame(), pd.DataFrame(columns=["a"]), pd.DataFrame(index=range(2))]
)
def test_a_table_without_rows_or_columns_can_be_read_by_the_report(tmp_path, data):
    out = Outputs(tmp_path)
    out.table(data, "t", "A caption.")
    assert pd.read_csv(tmp_path / "tables" / "t.csv").empty
    assert "A caption." in build_report(out, "demo").read_text(encoding="utf-8")


def test_figures_are_shown_over_their_caption(shell, tmp_path):
    figure, axis = plt.subplots()
    axis.plot([0, 1])
    with capture_output() as captured:
        Outputs(tmp_path).figure(figure, "f", CAPTION)
    shown, caption = captured.outputs
    assert "Figure" in str(shown.data["text/plain"])
    assert "&lt;all&gt;" in caption.data["text/html"]
    assert (tmp_path / "figures" / "f.txt").read_text(encoding="utf-8") == CAPTION
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png", ".svg", ".txt"}


def test_results_are_said_with_a_number(shell, tmp_path):
    out = Outputs(tmp_path)
    with capture_output() as captured:
        out.say("KD & IG lies 1.2 points above the student.")
    (said,) = captured.outputs
    assert said.data["text/html"].startswith("<p><strong>Result.</strong> KD &amp; IG lies 1.2")
    with pytest.raises(ValueError, match="with its number"):
        out.say("KD is better.")


def shown_in(shell, *cells):
    """What the last of `cells` of a notebook leaves in the box, each of them run under its id."""
    updates = []
    with capture_output() as captured:
        for cell, source in cells:
            shell.get_parent = lambda cell=cell: {"metadata": {"cellId": cell}}
            shell.run_cell(source, store_history=True).raise_error()
        updates = [output.data.get("text/html", "") for output in captured.outputs]
    return [text for text in updates if "In one minute" in text]


SETUP = ("setup", "out.in_one_minute()")
SAY = (
    "say",
    "out.say('KD gains 1 point.', main=True); out.say('IG, 2.', main=True); out.say('AT, 3.')",
)
END = ("end", "out.sum_up()")


def test_the_box_is_filled_by_the_last_cell_with_the_main_sentences(shell, tmp_path):
    shell.user_ns["out"] = Outputs(tmp_path)
    first, last = shown_in(shell, SETUP, SAY, END)
    assert "The last cell of this notebook fills this box" in first
    assert "<li>KD gains 1 point.</li><li>IG, 2.</li>" in last
    assert "AT" not in last


def test_a_cell_that_is_run_again_doubles_no_sentence(shell, tmp_path):
    shell.user_ns["out"] = Outputs(tmp_path)
    other = ("other", "out.say('IG & AT, 4.', main=True)")
    again = ("say", "out.say('KD gains 5 points.', main=True)")
    *_, last = shown_in(shell, SETUP, SAY, other, SAY, END, END)
    assert last.count("<li>") == 3
    *_, last = shown_in(shell, again)
    assert "<li>KD gains 5 points.</li><li>IG &amp; AT, 4.</li></ul>" in last, "in its own place"


def test_facts_fill_the_box_and_a_setup_cell_shows_it_anew(shell, tmp_path):
    shell.user_ns["out"] = Outputs(tmp_path)
    facts = ("facts", "out.facts('04_ablation', 'digits', '')")
    assert "<li>IG, 2.</li>" in shown_in(shell, SETUP, SAY, facts)[-1]
    assert "<li>IG, 2.</li>" in shown_in(shell, SETUP)[-1]


def test_without_a_notebook_there_is_no_box(tmp_path, capsys):
    out = Outputs(tmp_path)
    out.in_one_minute()
    out.say("KD gains 1 point.", main=True)
    out.sum_up()
    assert capsys.readouterr().out == ""


def test_a_title_is_no_wider_than_its_figure(tmp_path):
    figure = plt.figure(figsize=(4, 3))
    Outputs(tmp_path).figure(figure, "f", CAPTION, title="what the figure shows " * 4)
    assert max(map(len, figure.get_suptitle().splitlines())) <= 38
    assert figure.get_suptitle().split() == ["what", "the", "figure", "shows"] * 4
    plain = plt.figure()
    Outputs(tmp_path).figure(plain, "g", CAPTION)
    assert not plain.get_suptitle()


def test_outside_of_a_notebook_nothing_is_shown(tmp_path, capsys):
    figure, _ = plt.subplots()
    assert Outputs(tmp_path).figure(figure, "f", CAPTION) is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "source",
    sorted([*ROOT.rglob("kdig/**/*.py"), *ROOT.glob("benchmarks/*.py")]),
    ids=lambda path: path.name,
)
def test_text_is_read_and_written_as_utf_8_whatever_the_locale(source):
    """The linter's rule sees a call on `Path(...)` only, not one on a variable."""
    for call in (
        node
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ):
        text = ast.unparse(call)
        reads = ast.unparse(call.func).endswith(
            ("read_text", "write_text", "open")
        ) and not text.startswith(("Image.open", "os.open"))
        modes = [given.value for given in call.args if isinstance(given, ast.Constant)]
        opened = ast.unparse(call.func).endswith("open")
        binary = opened and any(re.fullmatch("[rwxa+]*b[rwxa+]*", str(mode)) for mode in modes)
        assert not reads or binary or "encoding='utf-8'" in text, (
            f"{source.name}, line {call.lineno}: {text}"
        )


def test_captions_of_any_script_are_kept_where_the_locale_cannot_write_them(tmp_path):
    code = """if True:
        import pandas as pd, pathlib, sys
        from kdig.study.outputs import EARLIER, Outputs
        out = Outputs(pathlib.Path(sys.argv[1]))
        out.table(pd.DataFrame({"a": ["chat noir \\u00e9"]}), "t", "Classes: \\u732b \\u00e9")
    """
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=plain)
    assert "Classes: 猫 é" in build_report(Outputs(tmp_path), "demo").read_text(encoding="utf-8")


def test_facts_carry_the_table_that_shows_them(tmp_path):
    out, table = Outputs(tmp_path), pd.DataFrame({"a": [1.0]})
    figure, _ = plt.subplots()
    out.table(table, "t", CAPTION, facts=[{"fact": "a", "value": 1.0}])
    out.figure(figure, "f", CAPTION, facts=[{"fact": "b", "value": 2.0, "why_not_decided": ""}])
    out.figure(plt.figure(), "t", CAPTION)  # a figure of the table's name takes nothing from it
    out.facts("04_ablation", "digits", "other data", [{"fact": "c", "value": 3.0}])
    found = out.all_facts().set_index("fact")
    assert found["item"].to_dict() == {"a": "t", "b": "f", "c": ""}
    assert found.why_not_decided.to_dict() == {"a": "other data", "b": "", "c": "other data"}
    assert set(found.data) == {"digits"}


def test_a_cell_that_is_run_again_replaces_its_facts(tmp_path):
    out, table = Outputs(tmp_path), pd.DataFrame({"a": [1.0]})
    for value in (1.0, 2.0):
        out.table(table, "t", CAPTION, facts=[{"fact": "a", "value": value}])
        out.facts("04_ablation", "digits", "")
    assert out.all_facts().value.tolist() == [2.0]
    Outputs(tmp_path).facts("04_ablation", "digits", "", [{"fact": "b", "value": 3.0}])
    assert out.all_facts().fact.tolist() == ["b"], "nothing stays of a notebook's earlier run"


def test_a_setup_cell_that_is_run_again_keeps_the_facts(monkeypatch, tmp_path):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    for _ in range(2):
        out = open_notebook("99_claims", {"profile": "demo"}).outputs
        if not (tmp_path / "demo" / "tables").exists():
            out.table(pd.DataFrame(), "t", CAPTION, facts=[{"fact": "a", "value": 1.0}])
    assert out.facts("04_ablation", "digits", "").fact.tolist() == ["a"]


def test_a_fact_given_twice_is_named(tmp_path):
    out = Outputs(tmp_path)
    out.table(pd.DataFrame(), "t", CAPTION, facts=[{"fact": "a", "value": 1.0}])
    with pytest.raises(ValueError, match="given twice: a"):
        out.facts("04_ablation", "digits", "", [{"fact": "a", "value": 2.0}])


def test_facts_of_an_earlier_version_decide_no_result(tmp_path):
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "04.csv").write_text("fact,value,comparable\na,1.0,True\n")
    found = Outputs(tmp_path).all_facts()
    assert found.why_not_decided.tolist() == [EARLIER]
    assert found["item"].tolist() == [""]


@pytest.mark.parametrize(
    ("text", "said"),
    [("a,b\n1,2\n", "no column fact"), ("fact,value\nx,much\n", "could not convert")],
)
def test_a_file_that_holds_no_facts_is_named(tmp_path, text, said):
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "04_ablation.csv").write_text(text)
    with pytest.raises(KdigError, match=f"cannot read .*04_ablation.csv .*{said}"):
        Outputs(tmp_path).all_facts()
