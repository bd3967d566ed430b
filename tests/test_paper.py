import pandas as pd
import pytest

from kdig.paper import FAILED, RULES, VERDICTS, claims, decide, published
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
}


def verdict(kind, rule, tolerance, why_not_decided="", **fact):
    facts = pd.DataFrame(
        [
            {
                "fact": "f",
                "value": 2.0,
                "low": None,
                "high": None,
                "interval": "95 % interval",
                "n": 10,
                "p": None,
                "data": "d",
                "why_not_decided": why_not_decided,
            }
            | fact
        ]
    )
    claim = pd.DataFrame([{**CLAIM, "kind": kind, "rule": rule, "tolerance": tolerance}])
    return decide(claim, facts).iloc[0].verdict


CASES = [
    ("equal", 0.1, {"value": 2.05}, {"value": 2.2}),
    ("interval", 0.0, {"low": 1.9, "high": 2.1}, {"low": 2.1, "high": 2.3}),
    ("at_least", 0.1, {"value": 1.95}, {"value": 1.8}),
    ("at_most", 0.1, {"value": 2.05}, {"value": 2.2}),
    (
        "not_below",
        0.1,
        {"value": 1.8, "low": 1.6, "high": 1.95},
        {"value": 1.8, "low": 1.7, "high": 1.85},
    ),
    ("within", 0.1, {"low": 1.95, "high": 2.1}, {"low": 1.95, "high": 2.2}),
    ("within", 0.1, {"low": 1.95, "high": 2.1}, {"low": 1.8, "high": 2.05}),
    ("above_zero", 0.0, {"low": 0.1, "high": 0.3}, {"low": -0.1, "high": 0.3}),
    ("above_zero", 0.0, {"low": 0.1, "high": 0.3, "p": 0.01}, {"low": 0.1, "high": 0.3, "p": 0.06}),
    ("significant", 0.05, {"p": 0.01}, {"p": 0.2}),
    (
        "significant",
        0.05,
        {"p": 0.01, "low": 0.1, "high": 0.3},
        {"p": 0.01, "low": -0.3, "high": -0.1},
    ),
    ("not_significant", 0.05, {"p": 0.2}, {"p": 0.01}),
]


@pytest.mark.parametrize("kind", FAILED)
@pytest.mark.parametrize(("rule", "tolerance", "met", "missed"), CASES)
def test_each_rule_can_give_each_verdict(kind, rule, tolerance, met, missed):
    assert verdict(kind, rule, tolerance, **met) == "reproduced"
    assert verdict(kind, rule, tolerance, **missed) == FAILED[kind]


def test_every_rule_is_tested():
    assert {case[0] for case in CASES} == set(RULES)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("paper", "reproduced"),
        ("retest", "reproduced"),
        ("result", "not run"),
        ("measurement", "not run"),
    ],
)
def test_other_data_decide_only_what_needs_no_training(kind, expected):
    assert verdict(kind, "equal", 0.1, why_not_decided="other data") == expected


def test_fewer_runs_than_the_papers_decide_no_result():
    assert verdict("result", "interval", 0.0, low=1.9, high=2.1, n=9) == "not run"
    assert verdict("result", "interval", 0.0, low=1.9, high=2.1, n=10) == "reproduced"
    assert verdict("paper", "equal", 0.1, n=9) == "reproduced"


@pytest.mark.parametrize(
    ("rule", "fact"),
    [("interval", {"low": float("nan"), "high": 1.0}), ("not_significant", {"p": float("nan")})],
)
def test_number_that_could_not_be_computed_decides_nothing(rule, fact):
    assert verdict("paper", rule, 0.05, **fact) == "not run"


def test_claim_without_a_fact_is_not_run():
    claim = pd.DataFrame([{**CLAIM, "kind": "paper", "rule": "equal", "tolerance": 0.1}])
    row = decide(claim, pd.DataFrame(columns=["fact"])).iloc[0]
    assert row.verdict == "not run"
    assert row.evidence


def test_claims_table_is_sound():
    table = claims()
    assert table.id.is_unique
    assert set(table.rule) <= set(RULES)
    assert set(table.kind) <= set(FAILED)
    assert (
        table[["where", "section", "statement", "value", "notebook", "fact", "tolerance"]]
        .notna()
        .all()
        .all()
    )


def test_published_tables_can_be_read():
    assert published("table4_ablation").set_index("method").loc["KD & IG", "acc_max"] == 92.58


def test_every_table_and_figure_of_the_paper_is_accounted_for():
    items = [f"Table {i}" for i in range(1, 7)] + [f"Figure {i}" for i in range(1, 7)]
    items += [f"Table S{i}" for i in range(1, 16)] + [f"Figure S{i}" for i in range(1, 7)]
    table = published("coverage")
    assert sorted(table["item"]) == sorted(items)
    assert table.notna().all().all()


def test_report_stands_alone_and_escapes_its_texts(tmp_path, monkeypatch):
    import kdig.study.report

    claim = {
        **CLAIM,
        "statement": "<script>alert(1)</script>",
        "kind": "paper",
        "rule": "equal",
        "tolerance": 0.1,
    }
    monkeypatch.setattr(
        kdig.study.report,
        "claims",
        lambda: pd.DataFrame([claim, {**claim, "id": "y", "fact": "g"}]),
    )
    out = Outputs(tmp_path)
    out.facts("04_ablation", "digits", "other data", [{"fact": "f", "value": 2.0}])
    out.table(pd.DataFrame({"a": [1.0]}), "t", "A caption & more.")
    page = build_report(out, "demo").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "A caption &amp; more." in page
    assert 'data-verdict="reproduced" aria-pressed="false"><b>1</b>' in page
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
    claim = {**CLAIM, "kind": "measurement", "rule": "equal", "tolerance": 0.1, "n": None}
    table = pd.DataFrame([{**claim, "fact": "a"}, {**claim, "fact": "b"}])
    assert decide(table, out.all_facts()).verdict.tolist() == ["not run", "reproduced"]


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
    assert decided.verdict.tolist() == ["not run"] * 2 + ["reproduced"]
    assert decided.evidence["a"].endswith("; the teacher differs")
    assert decided.evidence["b"].endswith("; another measure")
    assert decided.evidence["c"] == "2"
