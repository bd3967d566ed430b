"""The map of the notebooks, and the state of what they leave."""

import nbformat
import pytest
from helpers import NOTEBOOKS, ROOT, own_project, settings_of

from kdig import KdigError
from kdig.study import index
from kdig.study.settings import notebooks, outputs_of

BOOK = ROOT / "notebooks" / "index.ipynb"


def test_the_map_stands_as_it_is_written_by_code():
    """`python -m kdig.study.index` writes it."""
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert index.map_list("../notebooks/") in text
    cells = nbformat.read(BOOK, as_version=4).cells
    assert any(index.map_table() in cell.source for cell in cells)
    assert len(index.map_table().splitlines()) == len(NOTEBOOKS) + 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebooks_header_stands_as_the_map_has_it(path):
    """`python -m kdig.study.index` writes it."""
    first = nbformat.read(path, as_version=4).cells[0].source
    assert index.renewed_part(first, "header", index.headers()[path.stem]) == first


def test_headers_follow_the_list(monkeypatch):
    rows = [
        {"notebook": f"0{i}_x", "title": f"0{i} · X", "question": f"Why {i}?", "minutes": minutes}
        for i, minutes in enumerate(["0.5", "1", "1.5"])
    ]
    monkeypatch.setattr(index, "entries", lambda: rows)
    first, middle, last = index.headers().values()
    assert first.startswith(
        "[all notebooks](index.ipynb) · [01 · X →](01_x.ipynb)\n\n**Question:** Why 0?"
    )
    assert (
        "[← 00 · X](00_x.ipynb) · [all notebooks](index.ipynb) · [02 · X →](02_x.ipynb)" in middle
    )
    assert last.startswith("[← 01 · X](01_x.ipynb) · [all notebooks](index.ipynb)\n")
    assert ["30 seconds" in first, "a minute in" in middle, "1.5 minutes" in last] == [True] * 3


def test_the_map_is_no_notebook_of_a_profile():
    assert BOOK not in notebooks()
    book = nbformat.read(BOOK, as_version=4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") for cell in book.cells)


def test_a_notebook_without_a_question_is_named(monkeypatch, tmp_path):
    lines = index._MAP.read_text(encoding="utf-8").splitlines()
    shorter = tmp_path / "map.csv"
    shorter.write_text("\n".join(line for line in lines if "04_abl" not in line), encoding="utf-8")
    monkeypatch.setattr(index, "_MAP", shorter)
    with pytest.raises(KdigError, match=r"map\.csv has no line for 04_ablation"):
        index.entries()


def test_the_map_is_renewed_between_its_marks():
    text = "above\n<!-- notebooks -->\nold\nlines\n<!-- end of notebooks -->\nbelow"
    assert index.renewed(text, r"\1 new").splitlines()[2] == r"\1 new"
    assert "old" not in index.renewed(text, "new")
    assert index.renewed("no marks", "new") == "no marks"


def test_states_count_trained_networks_and_say_what_has_run(elsewhere, monkeypatch):
    students = settings_of("04_ablation").runs("to be trained")
    trained = {run.key for run in students[:5]}
    monkeypatch.setattr(
        "kdig.study.experiments.Experiment.stored",
        lambda self, run: run if run.key in trained else None,
    )
    monkeypatch.setattr("kdig.study.experiments.Experiment.known_teacher", lambda self: None)
    outputs_of("demo").note_run("04_ablation", seconds=1)
    outputs_of("lite").folder.mkdir(parents=True)
    table = index.states()
    assert table.demo["04_ablation"] == "5 of 24 trained, ran"
    assert table.demo["02_teacher_and_signals"] == "0 of 1 trained, not yet run"
    assert table.demo["99_claims"] == "not yet run"
    assert list(table.columns) == ["demo", "lite"]
    assert table.lite["10_factorial"] == ""


def test_a_profile_whose_images_are_not_here_says_so(elsewhere, monkeypatch, tmp_path):
    project = own_project(tmp_path / "project")
    monkeypatch.setenv("KDIG_ROOT", str(project))
    assert index._trained("lite", "04_ablation") == "its images or teacher are not here"
