"""The bundle for a class: what it holds, and that its notebooks open with their results."""

import io
import json
import zipfile

import nbformat
import pytest
from helpers import NOTEBOOKS, ROOT

from kdig import KdigError
from kdig.study import bundle


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A demo in which every notebook has run, with one stored network."""
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    folder = tmp_path / "demo"
    for path in NOTEBOOKS:
        book = nbformat.read(path, as_version=4)
        book.cells[0].source += "\n\nas it ran"
        (folder / "executed").mkdir(parents=True, exist_ok=True)
        nbformat.write(book, folder / "executed" / path.name)
        (folder / "executed" / f"{path.stem}.json").write_text('{"seconds": 1}')
    for name in (
        "weights/a.pt",
        "runs/a.json",
        "runs/a.lock",
        "report.html",
        "executed/a.html",
        ".part-x/b",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    return folder


def packed(path):
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_it_holds_the_project_its_results_and_no_solution(finished, capsys):
    assert bundle.main([]) == 0
    files = packed(finished.parent / "kdig-demo.zip")
    assert "kdig-demo.zip" in capsys.readouterr().out
    assert {"kdig/Makefile", "kdig/kdig/__init__.py", "kdig/outputs/demo/weights/a.pt"} <= set(
        files
    )
    assert "kdig/outputs/demo/runs/a.json" in files
    assert {"kdig/outputs/demo/report.html", "kdig/outputs/reference/lite/report.html"} <= set(
        files
    )
    assert not [name for name in files if name.endswith(".lock")]
    assert "kdig/outputs/demo/executed/a.html" in files, "a notebook without its page has not run"
    assert not [name for name in files if ".part-" in name or "reference/lite/runs" in name]
    for path in NOTEBOOKS:
        book = nbformat.read(io.StringIO(files[f"kdig/notebooks/{path.name}"].decode()), 4)
        assert book.cells[0].source.endswith("as it ran")
    exercises = json.loads(files["kdig/notebooks/exercises.ipynb"])
    assert not [
        cell for cell in exercises["cells"] if "solution" in cell["metadata"].get("tags", [])
    ]
    assert "](../docs/" in files["kdig/notebooks/index.ipynb"].decode(), "links stay as they are"


def test_what_has_not_run_is_named(finished):
    # what papermill leaves of a notebook that has failed
    (finished / "executed" / "04_ablation.json").unlink()
    with pytest.raises(KdigError, match="demo has no results of 04_ablation: run `make reproduce"):
        bundle.write("demo")
    assert not list(finished.parent.glob("*.zip"))


def test_outside_a_checkout_it_says_so(tmp_path):
    with pytest.raises(KdigError, match="is no git checkout"):
        bundle.tracked(tmp_path)
