"""`make verify`: a copy of the reference is as it was written, and every edit of a number in it is
found and named.
"""

import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pandas as pd
import pytest
from helpers import LITE, ROOT
from PIL import Image

from kdig.core.run import Run
from kdig.core.runs import frame
from kdig.core.store import Record, Score, joined
from kdig.paper import claims, decide
from kdig.study import check, check_pages, check_records, check_results, keys, seal, verify
from kdig.study.check import EDITED, STALE, VERIFIED
from kdig.study.outputs import Outputs
from kdig.study.report import build_report
from kdig.study.reproduce import stamp_of
from kdig.study.wording import headlines

RUN, TABLE = "17aab41747020f03", "04_runs"


@pytest.fixture(scope="module")
def renewed(tmp_path_factory):
    """A project that keeps a copy of the reference, with pages and a list of claims of today."""
    root = tmp_path_factory.mktemp("project")
    for name in ("notebooks", "params", "kdig"):
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "README.md", root)
    shutil.copytree(ROOT / "docs", root / "docs")
    folder = root / "outputs" / "reference" / "lite"
    shutil.copytree(LITE, folder)
    # the README's drawing comes from there, and numbers of the results page
    for part in ("evidence/executed", "evidence/facts", "evidence/tables"):
        shutil.copytree(LITE.parent / part, folder.parent / part)
    outputs = Outputs(folder)
    decided = decide(claims(), outputs.all_facts())
    decided[["id", "verdict", "evidence"]].to_csv(folder / "tables" / "99_claims.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDIG_ROOT", str(root))
        stamp = stamp_of(root / "notebooks" / "99_claims.ipynb", "lite", None, outputs)
        outputs.note_run("99_claims", seconds=1.0, command="papermill", stamp=stamp)
    drawn = folder / "figures"
    drawn.mkdir()
    for name in sorted(set(headlines().figure) - {""}):
        Image.new("RGB", (90, 48), "white").save(drawn / f"{name}.png")
        (drawn / f"{name}.txt").write_text(f'What "{name}" shows & <more>.', encoding="utf-8")
    build_report(outputs, "lite")
    shutil.rmtree(drawn)  # a kept profile has none but those in its report
    seal.write(folder)
    return root


@pytest.fixture
def project(renewed, tmp_path, monkeypatch):
    """A copy of that project that a test may edit."""
    root = tmp_path / "project"
    shutil.copytree(renewed, root, symlinks=True)
    monkeypatch.setenv("KDIG_ROOT", str(root))
    return root


@pytest.fixture
def lite(project):
    return project / "outputs" / "reference" / "lite"


def edit(path, old, new):
    """Put `new` in the place of the first `old`, as a hand would."""
    text = path.read_text(encoding="utf-8")
    assert re.search(old, text), (path.name, old)
    path.write_text(re.sub(old, new, text, count=1), encoding="utf-8")


def words(checks):
    """What was checked -> its word, and why."""
    return {line.what: (line.word, line.why) for line in checks}


def edited(checks):
    return [f"{line.what}: {line.why}" for line in checks if line.word == EDITED]


def stored():
    """A run whose row stands in a table, its record and its score."""
    row = pd.read_csv(LITE / "tables" / f"{TABLE}.csv").iloc[0]
    for path in sorted((LITE / "runs").glob("*.json")):
        if json.loads(path.read_text(encoding="utf-8"))["seconds"] == row.seconds:
            (score,) = (LITE / "scores").glob(f"{path.stem}-*.json")
            return path, score
    raise AssertionError("no record of the first row")


RECORD, SCORE = (path.relative_to(LITE).as_posix() for path in stored())
BY_HAND = {
    "facts/04_ablation.csv": (r"ablation_student,37\.\d+", "ablation_student,38.35"),
    "tables/04_table4.csv": (r"\d\d\.\d", "99.9"),
    RECORD: (r'"train_accuracy": [\d.]+', '"train_accuracy": 77.0'),
    SCORE: (r'"accuracy": [\d.]+', '"accuracy": 77.0'),
    "report.html": (r"92\.58", "92.68"),
    "summary.html": (r"92\.58", "92.68"),
    "executed/04_ablation.ipynb": (r"37\.\d", "99.9"),
}


def test_the_committed_reference_holds_no_edit(capsys):
    assert verify.main([]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].endswith(" s")
    assert re.match(r"\d+ verified, \d+ stale, 0 edited by hand; ", said[-1])
    assert all(re.search(r": (verified|stale because .+)$", line) for line in said[:-1])


def test_every_edit_of_a_number_is_named(project, lite, capsys):
    assert verify.main(["--profile", "lite"]) == 0
    said = capsys.readouterr().out
    for page in check_pages.PAGES:
        assert f"lite/{page}: as written from the results: verified" in said
    for name, (old, new) in BY_HAND.items():
        edit(lite / name, old, new)
    edit(project / "README.md", r"92\.58", "92.68")
    edit(project / "docs" / "results.md", r"91\.18", "91.19")
    shutil.copy(project / "docs/figures/05_line.png", project / "docs/figures/09_mixture.png")
    capsys.readouterr()
    assert verify.main(["--profile", "lite"]) == 1
    said, remedy = capsys.readouterr()
    assert remedy == f"{verify.REMEDY}\n"
    for name in BY_HAND:
        assert f"lite/{name}: edited by hand: it is not what was sealed" in said
    assert "README.md: edited by hand: block found" in said
    assert "docs/results.md: edited by hand: block ablation" in said
    assert "docs/figures: edited by hand: 09_mixture.png" in said


def test_every_check_of_a_kept_profile_is_made():
    """Each is a function of the profile's folder that gives lines."""
    modules = (check_pages, check_records, check_results)
    written = [f for module in modules for f in vars(module).values() if inspect.isfunction(f)]
    lines = {f for f in written if f.__annotations__.get("return") == Iterator[check.Check]}
    assert {f for f in lines if "folder" in f.__annotations__} == set(verify.CHECKS)
    assert {f for f in lines if "folder" not in f.__annotations__} == {check_pages.quoting_pages}


def test_a_profile_that_is_not_kept_is_an_error(capsys):
    assert verify.main(["--profile", "nosuch"]) == 1
    assert "choose one of evidence, lite" in capsys.readouterr().err


def test_a_record_that_lacks_a_field_is_an_error_after_it_was_named(lite, capsys):
    edit(lite / RECORD, '"data_label": .*', "")
    assert verify.main(["--profile", "lite"]) == 1
    said = capsys.readouterr()
    assert f"lite/{RECORD}: edited by hand" in said.out
    assert "cannot read" in said.err


def test_files_that_come_or_go_are_told_apart(lite):
    (lite / "tables" / "new.csv").write_text("a\n1\n")
    (lite / "tables" / "04_table4.csv").unlink()
    found = words(check_results.as_sealed(lite))
    assert found["lite/tables/new.csv"][0] == STALE
    assert found["lite/tables/04_table4.csv"] == (EDITED, "it was there when the folder was sealed")
    (lite / seal.SEAL).unlink()
    assert [line.word for line in check_results.as_sealed(lite)] == [STALE]


@pytest.mark.parametrize("name", check_pages.PAGES)
def test_an_edited_page_is_named_by_its_part_though_it_is_sealed_anew(lite, name):
    edit(lite / name, r"92\.58", "92.68")
    seal.write(lite)
    found = words(check_pages.written_pages(lite))
    assert found.pop(f"lite/{name}")[0] == EDITED
    assert [word for word, _ in found.values()] == [VERIFIED]


def test_a_page_before_its_facts_changed_is_stale(lite):
    edit(lite / "facts" / "04_ablation.csv", *BY_HAND["facts/04_ablation.csv"])
    edit(lite / "summary.html", '<meta name="kdig"[^>]*>', "")
    found = words(check_pages.written_pages(lite))
    assert found["lite/report.html"][0] == STALE
    assert "facts" in found["lite/report.html"][1]
    assert found["lite/summary.html"] == (STALE, "an earlier version of the page wrote it")


def test_figures_of_a_report_are_no_difference(tmp_path):
    page = '<p id="a"><img src="data:image/png;base64,AAAA">1</p><p id="b">2</p>'
    assert check_pages.differing(page, page.replace("AAAA", "BBBB")) == []
    assert check_pages.differing(page, page.replace(">2<", ">3<")) == ["b"]


def test_a_given_teacher_counts_where_its_file_is(project):
    """A clone does not have the authors' files: nothing can be said of them there."""
    evidence, name = project / "outputs" / "reference" / "evidence", "11_alignment"
    teacher = project / "released" / "CIFAR10-Train80Rand_Student_TestAcc90.73.pt"
    given = f"teacher released/{teacher.name}"
    stamp = stamp_of(project / "notebooks" / f"{name}.ipynb", "evidence", None, Outputs(evidence))
    assert given in stamp
    Outputs(evidence).note_run(name, stamp=stamp | {given: "0" * 16})
    check.age.cache_clear()
    assert check.age(evidence, name) == ""
    teacher.parent.mkdir()
    teacher.write_bytes(b"another")
    check.age.cache_clear()
    assert check.age(evidence, name) == f"{given} changed since {name} ran"


def test_facts_that_were_read_before_they_changed_are_stale(lite):
    assert words(check_results.facts_read(lite)).popitem()[1][0] == VERIFIED
    edit(lite / "facts" / "04_ablation.csv", *BY_HAND["facts/04_ablation.csv"])
    check.age.cache_clear()
    word, why = words(check_results.facts_read(lite)).popitem()[1]
    assert (word, why) == (STALE, "04_ablation.csv changed since 99_claims ran")


def test_an_edited_verdict_is_named(lite):
    assert edited(check_results.claims_decided(lite)) == []
    edit(lite / "tables" / "99_claims.csv", "sel-kd_ig,selected", "sel-kd_ig,supported")
    assert edited(check_results.claims_decided(lite)) == ["lite/tables/99_claims.csv: sel-kd_ig"]


def test_a_record_under_a_wrong_name_or_label_is_named(lite):
    edit(lite / RECORD, '"seed": 0', '"seed": 9')
    edit(lite / RECORD, "fingerprint [0-9a-f]{16}", f"fingerprint {'0' * 16}")
    key = RECORD.removeprefix("runs/").removesuffix(".json")
    assert edited(check_records.finished_runs(lite)) == [
        f"lite/runs: {key}",
        f"lite/runs: data: {key}",
    ]


def test_facts_about_other_data_than_the_runs_are_named(lite):
    edit(lite / "facts" / "04_ablation.csv", "fingerprint [0-9a-f]{16}", f"fingerprint {'0' * 16}")
    assert edited(check_records.finished_runs(lite)) == [f"lite/facts: {'0' * 16}"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r'"weights": "\w+"', '"weights": "0123456789abcdef"'),
        (r'"images": null', '"images": 1000'),
        (r'"accuracy": [\d.]+', '"accuracy": 77.777'),
    ],
)
def test_a_score_of_another_network_or_share_is_named(lite, old, new):
    assert edited(check_records.scores(lite)) == []
    edit(lite / SCORE, old, new)
    name = SCORE.removeprefix("scores/").removesuffix(".json")
    assert edited(check_records.scores(lite)) == [f"lite/scores: {name}"]


def test_a_row_that_no_record_gives_is_named(lite, monkeypatch):
    monkeypatch.setattr(check_records, "age", lambda folder, name: "")
    assert edited(check_records.run_tables(lite)) == []
    edit(lite / "tables" / f"{TABLE}.csv", r"student,2,0,[\d.]+", "student,2,0,77.0")
    assert edited(check_records.run_tables(lite)) == [f"lite/tables/{TABLE}.csv: run {RUN}"]


def test_a_row_is_what_the_table_of_runs_says():
    record, score = (json.loads((LITE / name).read_text("utf-8")) for name in (RECORD, SCORE))
    whole = joined(Record.model_validate(record), Score.model_validate(score))
    row = frame([whole]).iloc[0]
    assert check_records._same(dict(row), check_records._row(record, score))


@pytest.mark.parametrize(
    ("value", "stands"), [(37.36, True), (-37.4, True), (37.5, False), (5, True), (4, False)]
)
def test_a_fact_stands_in_a_table_as_the_table_rounds(tmp_path, value, stands):
    (tmp_path / "t.csv").write_text("method,a,n\nkd,37.4,5\nig,-1e-05,7\n")
    assert check_results.stands_in(tmp_path / "t.csv", value) is stands


def test_a_fact_whose_table_is_gone_is_named(lite, monkeypatch):
    monkeypatch.setattr(check_results, "age", lambda folder, name: "")
    (lite / "tables" / "08_claims.csv").unlink()
    (line,) = [line for line in edited(check_results.facts_shown(lite)) if "08_attention" in line]
    assert "attention_mse_lowest" in line


def test_a_notebook_is_stale_because_of_the_files_that_changed(lite):
    noted = Outputs(lite).noted("99_claims")
    noted["stamp"]["kdig/core/files.py"] = "0" * 16
    Outputs(lite).note_run("99_claims", **noted)
    noted = {"seconds": 1.0, "command": "papermill"}
    (lite / "executed" / "04_ablation.json").write_text(json.dumps(noted))
    check.age.cache_clear()
    found = words(check_results.executed(lite))
    assert found["lite/executed/99_claims.ipynb"] == (
        STALE,
        "kdig/core/files.py changed since 99_claims ran",
    )
    assert "earlier version" in found["lite/executed/04_ablation.ipynb"][1]


def test_keys_are_those_of_runs(make_run):
    changes = [{}, {"level": 0}, {"seed": 3}, {"share": 0.8, "split_seed": 2}]
    changes += [{"alpha": 0.5, "temperature": 4.0, "teacher": "0" * 16, "pairing": "released"}]
    changes += [{"probability": 0.1, "teacher": "0" * 16, "overlay": "grey", "steps": 50}]
    for change in changes:
        run = make_run(**change)
        assert keys.key_of(run.model_dump(mode="json")) == run.key
    plain = Run(dataset="digits", data="0" * 16)
    assert keys.key_of(plain.model_dump(mode="json")) == plain.key


def test_defaults_read_from_the_source_are_those_of_a_run():
    of = {name: field.get_default() for name, field in Run.model_fields.items()}
    known = {name: value for name, value in of.items() if name not in ("dataset", "data")}
    plain = Run(dataset="digits", data="0" * 16).model_dump(mode="json")
    assert keys.defaults("Run") == {name: plain[name] for name in known}


def test_nothing_of_torch_is_imported():
    line = "import sys, kdig.study.verify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], cwd=ROOT, check=False).returncode == 0


def test_a_seal_is_a_list_that_sha256sum_reads(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    seal.main([str(tmp_path)])
    ran = subprocess.run(
        ["sha256sum", "-c", seal.SEAL], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.stdout == "a.txt: OK\n"
    assert seal.differences(tmp_path) == {}
