"""Copies for a class: students get no solutions, instructors do, and nobody gets outputs."""

import nbformat
import pytest
from helpers import ROOT

from kdig.study import classroom

ALL = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDIG_OUTPUTS", str(folder))
        for whose in ("student", "instructor"):
            assert classroom.main([whose]) == 0
    return folder / "classroom"


def books(folder):
    return {path.name: nbformat.read(path, as_version=4) for path in folder.glob("*.ipynb")}


def test_students_get_every_notebook_without_solutions_and_outputs(written):
    found = books(written / "student")
    assert found.keys() == {path.name for path in ALL}
    for book in found.values():
        nbformat.validate(book)
        for cell in book.cells:
            assert "solution" not in cell.metadata.get("tags", [])
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None


def test_what_is_left_for_a_student_asks_and_does_not_tell(written):
    cells = {cell.id: cell.source for cell in books(written / "student")["exercises.ipynb"].cells}
    assert "check(kd_loss)" in cells["kd-loss-yours"]
    assert "    ...\n" in cells["kd-loss-yours"]
    text = "\n".join(cells.values())
    assert "**Answer.**" not in text
    assert "rows.mean()" not in text


def test_instructors_get_the_cells_of_the_source(written):
    found = books(written / "instructor")
    for path in ALL:
        source, copy = nbformat.read(path, as_version=4).cells, found[path.name].cells
        assert [cell.id for cell in copy] == [cell.id for cell in source]
        code = [cell.source for cell in copy if cell.cell_type == "code"]
        assert code == [cell.source for cell in source if cell.cell_type == "code"]


def test_links_to_the_documentation_lead_there(written):
    text = "\n".join(cell.source for cell in books(written / "student")["index.ipynb"].cells)
    assert "](../../../docs/glossary.md)" in text
    assert "](../docs/" not in text


def test_old_copies_make_room(written, capsys, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(written.parent))
    (written / "student" / "gone.ipynb").write_text("{}")
    assert classroom.main(["student"]) == 0
    assert not (written / "student" / "gone.ipynb").exists()
    assert capsys.readouterr().out.startswith(f"student: {len(ALL)} notebooks in ")
