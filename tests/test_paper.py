import importlib.util
import io
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT

from kdig.paper import (
    NEVER_DECIDED,
    RULES,
    VERDICTS,
    WORDS,
    claims,
    counted,
    decide,
    findings,
    published,
)
from kdig.study.outputs import Outputs
from kdig.study.report import build_report

CLAIM = {
    "id": "x",
    "where": "Table 4",
    "section": "A <b> & c",
    "statement": "s",
    "value": 2.0,
    "n": 10,
    "unit": "%",
    "notebook": "04_ablation",
    "fact": "f",
    "finding": "accuracy-92.6",
    "reading": "",
    "tolerance": 0.0,
    "null": None,
    "direction": "",
    "smallest": None,
    "reason": "",
}


FACT = {
    "fact": "f",
    "value": 2.0,
    "low": None,
    "high": None,
    "interval": "95 % interval",
    "n": 10,
    "p": None,
    "data": "d",
    "why_not_decided": "",
}


def verdict(kind, rule, columns, **fact):
    claim = pd.DataFrame([{**CLAIM, "kind": kind, "rule": rule, **columns}])
    return decide(claim, pd.DataFrame([FACT | fact])).iloc[0].verdict


# rule -> the claim's columns, and facts that meet it, that do not, and that leave it open
ABOVE = {"null": 0.0, "direction": "above", "smallest": 0.4, "tolerance": 0.05}
BELOW = ABOVE | {"direction": "below"}
RATIO = ABOVE | {"null": 1.0, "smallest": 0.5}
MARGIN = {"smallest": 0.4}
CASES = [
    ("equal", {"tolerance": 0.1}, {"value": 2.05}, {"value": 2.2}, None),
    ("interval", {}, {"low": 1.9, "high": 2.1}, {"low": 2.1, "high": 2.3}, None),
    ("at_least", {"tolerance": 0.1}, {"value": 1.95}, {"value": 1.8}, None),
    ("at_most", {"tolerance": 0.1}, {"value": 2.05}, {"value": 2.2}, None),
    ("within", MARGIN, {"low": 1.8, "high": 2.3}, {"low": 2.5, "high": 2.9}, {"low": 1.8, "high": 2.5}),
    ("within", MARGIN, {"low": 1.6, "high": 2.4}, {"low": 1.1, "high": 1.5}, {"low": 1.5, "high": 2.1}),
    ("effect", ABOVE, {"low": 0.1, "high": 0.3}, {"low": -0.1, "high": 0.3}, {"low": -0.1, "high": 0.5}),
    ("effect", ABOVE, {"low": 0.1, "high": 0.9, "p": 0.01}, {"low": -0.9, "high": -0.1, "p": 0.01},
     {"low": 0.1, "high": 0.9, "p": 0.06}),
    ("effect", BELOW, {"low": -0.9, "high": -0.1}, {"low": 0.1, "high": 0.9}, {"low": -0.9, "high": 0.1}),
    # a ratio has its null at 1, so that one below it never shows more scatter
    ("effect", RATIO, {"low": 1.1, "high": 3.0}, {"low": 0.2, "high": 0.6, "p": 0.0003},
     {"low": 0.6, "high": 3.0}),
    ("significant", {"tolerance": 0.05}, {"p": 0.01}, {"p": 0.2}, None),
    ("not_significant", {"tolerance": 0.05}, {"p": 0.2}, {"p": 0.01}, None),
    ("beyond_chance", {"tolerance": 0.05}, {"p": 0.01}, None, {"p": 0.2}),
    ("not_rejected", {"tolerance": 0.05}, None, {"p": 0.01}, {"p": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize(("rule", "columns", "met", "missed", "open_one"), CASES)
def test_each_rule_can_give_each_verdict(kind, rule, columns, met, missed, open_one):
    words = dict(zip(("met", "missed"), WORDS[kind])) | {"open_one": "undecided"}
    for name, fact in {"met": met, "missed": missed, "open_one": open_one}.items():
        if fact is not None:
            assert verdict(kind, rule, columns, **fact) == words[name]


def test_every_rule_is_tested():
    assert {case[0] for case in CASES} == set(RULES)


def test_a_test_that_does_not_reject_never_supports():
    for p in (0.06, 0.5, 1.0):
        assert verdict("retest", "not_rejected", {"tolerance": 0.05}, p=p) == "undecided"


@pytest.mark.parametrize(("kind", "word"), NEVER_DECIDED.items())
def test_what_no_rule_decides_says_why(kind, word):
    claim = pd.DataFrame([{**CLAIM, "kind": kind, "rule": "", "reason": "one network"}])
    row = decide(claim, pd.DataFrame([{**FACT, "low": 1.0, "high": 3.0}])).iloc[0]
    assert (row.verdict, row.evidence) == (word, "2, 95 % interval 1 to 3, n = 10; one network")
    without = decide(claim, pd.DataFrame(columns=["fact"])).iloc[0]
    assert (without.verdict, without.evidence) == ("not run", "one network")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("paper", "checks out"),
        ("code", "checks out"),
        ("retest", "supported"),
        ("selection", "selected"),
        ("result", "not run"),
        ("timing", "not run"),
    ],
)
def test_other_data_decide_only_what_needs_no_training(kind, expected):
    assert verdict(kind, "equal", {}, why_not_decided="other data") == expected


def test_fewer_runs_than_the_papers_decide_no_result():
    assert verdict("result", "within", MARGIN, low=1.9, high=2.1, n=9) == "not run"
    assert verdict("result", "within", MARGIN, low=1.9, high=2.1, n=10) == "supported"
    assert verdict("paper", "equal", {}, n=9) == "checks out"


@pytest.mark.parametrize(
    ("rule", "fact"),
    [("interval", {"low": float("nan"), "high": 1.0}), ("not_significant", {"p": float("nan")})],
)
def test_number_that_could_not_be_computed_decides_nothing(rule, fact):
    assert verdict("paper", rule, {"tolerance": 0.05}, **fact) == "not run"


def test_claim_without_a_fact_is_not_run():
    claim = pd.DataFrame([{**CLAIM, "kind": "paper", "rule": "equal", "tolerance": 0.1}])
    row = decide(claim, pd.DataFrame(columns=["fact"])).iloc[0]
    assert row.verdict == "not run"
    assert row.evidence


def test_claims_table_is_sound():
    table = claims()
    assert table.id.is_unique
    ruled = table[~table.kind.isin(NEVER_DECIDED)]
    assert set(ruled.rule) == set(RULES)
    assert set(table.kind) == set(WORDS) | set(NEVER_DECIDED)
    filled = ["where", "section", "finding", "statement", "value", "tolerance"]
    assert table[filled].notna().all().all()
    assert (ruled[["notebook", "fact"]] != "").all().all()
    assert (table.reason != "").eq(table.kind.isin(NEVER_DECIDED)).all()


def test_a_claim_about_an_effect_names_its_null_direction_and_size():
    table = claims().set_index("id")
    effects = table[table.rule == "effect"]
    assert effects[["null", "smallest"]].notna().all().all()
    assert set(effects.direction) == {"above", "below"}
    assert (effects.tolerance > 0).all(), "the level"
    assert table.smallest[table.rule == "within"].notna().all()
    ratios = effects[effects.fact.str.contains("variance")]
    assert len(ratios) >= 5
    assert (ratios.null == 1).all(), "a ratio has its null at 1"


def test_every_claim_has_a_finding_and_every_finding_a_claim():
    stated = published("findings")
    assert stated.finding.is_unique
    assert set(stated.finding) == set(claims().finding)
    assert stated.central.dropna().isin(["abstract", "conclusions"]).all()
    central = stated.finding[stated.central.notna()]
    first = claims().finding.isin(central)
    assert first.is_monotonic_decreasing, "what abstract and conclusions say stands first"


def test_a_finding_is_as_good_as_its_best_reading_and_a_reading_as_its_worst_claim():
    kept = {"finding": "accuracy-92.6", "reading": ["one", "one", "two", "two"]}
    decided = pd.DataFrame(
        kept | {"verdict": ["supported", "contradicted", "undecided", "not run"]}
    )
    row = findings(decided).iloc[0]
    assert (row.verdict, row.rows) == ("undecided", 4)
    assert row.readings == "one: contradicted; two: undecided"
    alone = findings(decided.assign(reading="")).iloc[0]
    assert (alone.verdict, alone.readings) == ("contradicted", "")
    assert findings(decided.assign(verdict="not run")).verdict.tolist() == ["not run"]


def test_findings_are_counted_those_that_speak_for_the_paper_first():
    found = counted(pd.Series(["not run", "supported", "contradicted", "supported"]))
    assert next(iter(found.items())) == ("supported", 2)
    assert list(found)[-2:] == ["contradicted", "not run"]
    assert sum(found.values()) == 4
    assert set(found) == set(VERDICTS)


def percentages(page):
    """The numbers of the table in `docs/rules.md`."""
    table = "\n".join(line.strip("| ") for line in page.splitlines() if line.startswith("|"))
    found = pd.read_csv(io.StringIO(table), sep=r" \| ", engine="python", index_col=[0, 1, 2])
    return found.iloc[1:].astype(int)


def test_the_rules_page_is_what_the_simulation_gives():
    path = Path(__file__).parents[1] / "benchmarks" / "rules.py"
    spec = importlib.util.spec_from_file_location("rules", path)
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    now, stored = percentages(rules.page()), percentages(rules.PAGE.read_text(encoding="utf-8"))
    assert now.index.tolist() == stored.index.tolist()
    assert (now - stored).abs().max().max() <= 1, "write it anew: python benchmarks/rules.py"
    equal = now.xs("effect").filter(like="difference (points): 0", axis=0)
    nothing = [row for row in equal.index if row[1].endswith(": 0")]
    assert (equal.loc[nothing].met <= 3).all(), "no effect is supported in more than one of forty"


def test_published_tables_can_be_read():
    assert published("table4_ablation").set_index("method").loc["KD & IG", "acc_max"] == 92.58


def test_every_table_figure_and_equation_of_the_paper_is_accounted_for():
    items = [f"Table {i}" for i in range(1, 7)] + [f"Figure {i}" for i in range(1, 7)]
    items += [f"Table S{i}" for i in range(1, 16)] + [f"Figure S{i}" for i in range(1, 7)]
    items += [f"Eq. {i}" for i in range(1, 7)] + [f"Pseudocode 1.3.{i}" for i in range(1, 4)]
    table = published("coverage")
    assert sorted(table["item"]) == sorted(items)
    assert table.notna().all().all()
    for name, equations in table[table.item.str.startswith("Eq.")].groupby("notebook").item:
        source = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert all(item in source for item in equations)


def test_report_stands_alone_and_escapes_its_texts(tmp_path, monkeypatch):
    import kdig.study.report

    claim = {**CLAIM, "id": "sel-kd_ig", "kind": "paper", "rule": "equal"}
    claim["statement"] = "<script>alert(1)</script>"
    monkeypatch.setattr(
        kdig.study.report,
        "claims",
        lambda: pd.DataFrame(
            [claim, {**claim, "id": "abstract-factor", "fact": "g", "finding": "factor-4.1"}]
        ),
    )
    out = Outputs(tmp_path)
    out.facts("04_ablation", "digits", "other data", [{"fact": "f", "value": 2.0}])
    out.table(pd.DataFrame({"a": [1.0]}), "t", "A caption & more.")
    page = build_report(out, "demo").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "A caption &amp; more." in page
    assert 'data-verdict="checks out" aria-pressed="false"><b>1</b>' in page
    assert 'data-verdict="not run" aria-pressed="false"><b>1</b>' in page
    assert "http" not in page.replace("http-equiv", "")  # nothing is loaded from elsewhere
    assert all(word in page for word in VERDICTS)


def test_a_fact_can_say_for_itself_what_it_was_measured_on_and_whether_that_decides(tmp_path):
    out = Outputs(tmp_path)
    rows = [
        {"fact": "a", "value": 1.0},
        {"fact": "b", "value": 2.0, "data": "noise on a CPU", "why_not_decided": ""},
    ]
    written = out.facts("05_compression", "digits", "other data", rows).set_index("fact")
    assert written.why_not_decided.tolist() == ["other data", ""]
    assert written.data.tolist() == ["digits", "noise on a CPU"]
    claim = {**CLAIM, "kind": "timing", "rule": "equal", "n": None}
    table = pd.DataFrame([{**claim, "fact": "a"}, {**claim, "fact": "b"}])
    assert decide(table, out.all_facts()).verdict.tolist() == ["not run", "supported"]


def test_a_fact_that_does_not_decide_says_why_in_its_own_words(tmp_path):
    out = Outputs(tmp_path)
    rows = [
        {"fact": "a", "value": 2.0},
        {"fact": "b", "value": 2.0, "why_not_decided": "another measure"},
        {"fact": "c", "value": 2.0, "why_not_decided": ""},
    ]
    out.facts("04_ablation", "digits", "the teacher differs", rows)
    claim = {**CLAIM, "kind": "result", "rule": "equal", "tolerance": 0.1, "n": None}
    decided = decide(
        pd.DataFrame([{**claim, "fact": name} for name in "abc"]), out.all_facts()
    ).set_index("fact")
    assert decided.verdict.tolist() == ["not run"] * 2 + ["supported"]
    assert decided.evidence["a"].endswith("; the teacher differs")
    assert decided.evidence["b"].endswith("; another measure")
    assert decided.evidence["c"] == "2"
