"""Recomputations of the literature review against small computations by other means, and the
notebook's promises.
"""

import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT

from kdig import paper
from kdig.paper import literature
from kdig.study.tables import literature as tables

NOTEBOOK = ROOT / "notebooks" / "01_literature_review.ipynb"


@pytest.fixture(scope="module")
def table():
    return literature.rows(paper.published("literature_review"))


@pytest.fixture
def four():
    """Four printed rows: sound; wrong change and factor; without parameter counts; factor zero."""
    names = [
        "article",
        "year",
        "dataset",
        "teacher_model",
        "teacher_params",
        "student_model",
        "student_params",
        "teacher_acc",
    ]
    names += [
        "student_baseline_acc",
        "student_distilled_acc",
        "compression_factor",
        "is_training_accuracy",
    ]
    names += ["delta_acc_as_printed", "relative_delta_as_printed", "note"]
    printed = [
        (
            "A",
            2018,
            "MARKET-1501",
            "t",
            "2.00M",
            "s",
            "500k",
            90.0,
            80.0,
            85.0,
            4.0,
            0,
            -5.0,
            50.0,
            None,
        ),
        (
            "A",
            2018,
            "Market1501",
            "t",
            "2.00M",
            "s",
            "0.2M",
            90.0,
            88.0,
            87.0,
            20.0,
            0,
            3.0,
            -50.0,
            "left out of Table 2 inputs",
        ),
        ("B", 2019, "X", "t", None, "s", None, 70.0, None, 71.0, 9.0, 1, 1.0, None, None),
        ("B", 2019, "X", "t", "1.0M", "s", "1.0M", 70.0, 60.0, 69.0, 0.0, 0, -1.0, 91.0, None),
    ]
    return literature.rows(pd.DataFrame(printed, columns=names))


@pytest.mark.parametrize(
    ("text", "value", "half"),
    [
        ("155.21k", 155_210, 5),
        ("2.25M", 2_250_000, 5_000),
        ("21M", 21e6, 5e5),
        ("73k", 73_000, 500),
    ],
)
def test_parameter_counts_and_their_rounding_are_read(text, value, half):
    assert literature.parameters(text) == (pytest.approx(value), pytest.approx(half))


def test_rows_that_do_not_follow_are_found(four):
    assert literature.check_deltas(four).follows.tolist() == [True, False, True, True]
    relative = literature.check_relative(four)
    assert relative.relative.tolist() == pytest.approx([50, -50, 90])
    assert relative.follows.tolist() == [True, True, False]
    factors = literature.check_factors(four)
    assert factors.from_parameters.tolist() == pytest.approx([4, 10, 1])
    assert factors.follows.tolist() == [True, False, False]
    assert factors.low[1] == pytest.approx(1.995 / 0.25)
    assert factors.high[1] == pytest.approx(2.005 / 0.15)


def test_data_sets_are_summarised_as_by_hand(four):
    summary = literature.by_dataset(four).set_index("slug")
    market = summary.loc["market1501"]
    assert (
        market.delta_mean,
        market.delta_median,
        market.cf_mean,
        market["rows"],
        market.articles,
    ) == (-1.0, -1.0, 12.0, 2, 1)
    assert (
        literature.by_dataset(four, "delta").set_index("slug").loc["market1501", "delta_mean"]
        == -4.0
    )
    means = literature.means(four).set_index("rows")
    assert means.factor.tolist() == pytest.approx([33 / 4, 33 / 4, 11])
    assert len(literature.selections(four)["without four rows"]) == 3
    assert literature.ranges(four).set_index("quantity").loc["factor above zero", "smallest"] == 4


def test_correlations_agree_with_numpy():
    rng = np.random.default_rng(0)
    factor, delta = rng.exponential(10, 30) + 1, rng.normal(size=30)
    pearson = literature.correlate(factor, delta, "Pearson")
    r = np.corrcoef(factor, delta)[0, 1]
    z = np.arctanh(r) + np.array([-1, 1]) * 1.959964 / np.sqrt(27)
    assert (pearson["r"], pearson["low"], pearson["high"]) == pytest.approx(
        (r, *np.tanh(z)), rel=1e-5
    )
    assert pearson["p"] == pytest.approx(literature.p_of_r(r, 30))
    assert literature.correlate(factor, delta, "Pearson, log factor")["r"] == pytest.approx(
        np.corrcoef(np.log(factor), delta)[0, 1]
    )
    ranks = np.corrcoef(factor.argsort().argsort(), delta.argsort().argsort())[0, 1]
    assert literature.correlate(factor, delta, "Spearman")["r"] == pytest.approx(ranks)


def test_printed_r_and_p_fit_few_numbers_of_rows():
    assert literature.fitting_n(-0.114, 0.414) == [53, 54]
    assert 30 in literature.fitting_n(-0.5, round(literature.p_of_r(-0.5, 30), 3))


def test_printed_rows_give_what_the_notebook_says(table):
    assert (len(table), table.article.nunique(), table.cf.notna().sum()) == (60, 15, 57)
    assert table.cf.mean() == pytest.approx(11.41, abs=0.005)
    assert table.distilled_acc[table.cf.notna()].mean() == pytest.approx(83.46, abs=0.005)
    follow = [
        check(table).follows
        for check in (literature.check_deltas, literature.check_relative, literature.check_factors)
    ]
    assert [(int(f.sum()), len(f)) for f in follow] == [(56, 60), (40, 41), (44, 56)]
    twice = literature.selections(table)["without four rows, one row twice"]
    met = literature.cells_met(paper.published("table2_dataset_summary"), twice, "delta_printed")
    assert met == {"cells": 43, "of": 44, "rows": 11, "articles": 4}


def test_one_sign_explains_table_2_and_the_correlation(table):
    printed = paper.published("table2_dataset_summary")
    chosen = literature.explained(table)
    met = literature.cells_met(printed, chosen, "delta_printed")
    assert met == {"cells": 44, "of": 44, "rows": 11, "articles": 4}
    assert (literature.by_dataset(chosen).set_index("slug").delta_mean["cifar10"]) == pytest.approx(
        -0.9764, abs=5e-5
    )
    r = literature.correlate(chosen.cf.to_numpy(), chosen.delta_printed.to_numpy(), "Pearson")
    assert (r["n"], r["r"], r["p"]) == pytest.approx((54, -0.1135, 0.4139), abs=5e-5)
    changed = literature.sign_changes(printed, table)
    whole = changed[changed["cells met"] == 44]
    assert whole[["article", "taken"]].to_numpy().tolist() == [
        ["Su et al. (2022)", 0.37],
        ["Ashok et al. (2017)", 0.33],
    ]
    assert (whole.p.round(3) == 0.414).tolist() == [True, False]


def test_the_facts_of_the_explanation(table):
    shown, facts = tables.sign_changes(table)
    assert [fact["value"] for fact in facts] == [2, 1]
    assert shown.article[shown.r_and_p].tolist() == ["Su et al. (2022)"]
    both, facts = tables.explained(table)
    assert [facts[0]["value"], facts[1]["value"]] == [44, 11]
    assert (both["count"] == both["rows"]).all()
    assert facts[2]["low"] < facts[2]["value"] < facts[2]["high"]


def test_review_needs_no_torch():
    code = (
        "import kdig.measure.plots, kdig.paper.literature, kdig.study.settings, sys; assert 'torch' not in"
        " sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_claim_of_the_review_has_its_fact(tmp_path, monkeypatch):
    """The notebook's code cells, run as a script on the package, leave the facts that the claims
    name.
    """
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    cells = [
        cell.source
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells
        if cell.cell_type == "code"
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n\n".join(cells)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    facts = pd.read_csv(tmp_path / "demo" / "facts" / "01_literature_review.csv")
    claims = paper.claims()
    needed = set(claims[claims.notebook == "01_literature_review"].fact)
    assert needed <= set(facts.fact)
    assert {f"table2_{name}_articles" for name in ("cifar10", "mnist", "tinyimagenet")} <= set(
        facts.fact
    )
    assert facts.fact.is_unique
    assert facts.value.notna().all()
