"""The search: one split for all, choices by validation scores alone, tests of a winner that do not
take luck for an effect.
"""

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.anova import AnovaRM

from kdig import paper
from kdig.core.files import atomic_write
from kdig.core.runs import Result, execute, validation_frame
from kdig.core.training import Epoch
from kdig.measure import stats
from kdig.paper import claims, decide, recompute
from kdig.study import experiments
from kdig.study.outputs import as_facts


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "outputs"))
    grids = {
        "alphas": [0.25, 0.5],
        "temperatures": [2.0, 4.0],
        "probabilities": [0.1, 0.2],
        "gammas": [0.5, 0.8],
    }
    return experiments.check(
        experiments.Search, {"image_size": 8, "train_images": 100, "share": 0.6, **grids}
    )


def all_cells(settings):
    cells = settings.cells("kd", "abc", alpha=settings.alphas, temperature=settings.temperatures)
    cells += settings.cells(
        "kd_ig", "abc", alpha=[0.5], temperature=[2.0], probability=settings.probabilities
    )
    return cells + settings.cells(
        "kd_ig_at", "abc", alpha=[0.5], temperature=[2.0], probability=[0.1], gamma=settings.gammas
    )


def planted(run, accuracy):
    """A finished run with this accuracy on the pictures that it was scored on, and a best epoch
    that says otherwise.
    """
    last = Epoch(
        epoch=2,
        train_loss=1.0,
        train_accuracy=50.0,
        test_loss=1.0,
        test_accuracy=accuracy,
        seconds=1.0,
    )
    best = last.model_copy(update={"test_accuracy": 100.0 - accuracy / 100})
    rest = {
        "parameters": 1,
        "weights": "w",
        "predictions": "",
        "data_label": "",
        "seconds": 1.0,
        "environment": {},
    }
    return Result(run=run, history=[best, last], last=last, best=best, **rest)


def frame_of(cells):
    """`cells`: name -> accuracies by seed."""
    rows = [
        {"cell": name, "seed": i, "accuracy": v}
        for name, values in cells.items()
        for i, v in enumerate(values)
    ]
    return pd.DataFrame(rows)


def source_of(cell_id):
    """The code of a cell of the notebook."""
    notebook = nbformat.read(
        Path(__file__).parents[1] / "notebooks" / "03_hyperparameters.ipynb", as_version=4
    )
    return next(cell.source for cell in notebook.cells if cell.id == cell_id)


def test_split_is_disjoint_stratified_and_whole(settings):
    split, data = settings.split(), settings.data()
    assert split.part.value_counts().to_dict() == {"test": 599, "training": 60, "validation": 40}
    assert split.groupby("id").part.nunique().max() == 1
    labels = split.id.map(
        dict(
            zip(
                data.train.ids + data.test.ids,
                [*data.train.labels.tolist(), *data.test.labels.tolist()],
            )
        )
    )
    counts = pd.crosstab(split.part, labels)
    assert counts.loc["training"].between(5, 7).all()
    assert counts.loc["validation"].between(3, 5).all()


def test_every_cell_and_seed_has_the_split_that_is_saved(settings):
    split = settings.split()
    saved = [set(split.id[split.part == part]) for part in ("training", "validation")]
    for run in all_cells(settings):
        pictures = settings.workspace.pictures(run)
        assert [set(pictures.training.ids), set(pictures.scored.ids)] == saved


def test_the_file_that_the_notebook_saves_names_the_pictures_of_every_run(settings):
    """The notebook's own cell, carried out on these parameters; ids that are all digits stay text."""
    out = settings.outputs
    exec(
        source_of("split"),
        {
            "settings": settings,
            "out": out,
            "data": settings.data(),
            "pd": pd,
            "atomic_write": atomic_write,
        },
    )
    saved = pd.read_csv(out.folder / "splits" / "03_validation.csv", dtype=str)
    parts = {part: set(group.id) for part, group in saved.groupby("part")}
    assert not saved.id.duplicated().any()
    for run in [*all_cells(settings), *settings.chosen("abc", alpha=0.25)]:
        pictures = settings.workspace.pictures(run)
        trained, scored = set(pictures.training.ids), set(pictures.scored.ids)
        if run.scored == "validation":
            assert (trained, scored) == (parts["training"], parts["validation"])
        else:
            assert (trained, scored) == (parts["training"] | parts["validation"], parts["test"])


def test_cells_are_scored_on_validation_and_the_chosen_setting_on_the_test_set(settings):
    assert {run.scored for run in all_cells(settings)} == {"validation"}
    final = settings.chosen("abc", alpha=0.25, temperature=8.0, probability=0.3, gamma=0.9)
    assert {(run.scored, run.share) for run in final} == {("test", 1.0)}
    assert [run.method for run in final] == ["student", "kd", "kd_ig", "kd_ig_at"] * len(
        settings.seeds
    )
    student, kd, _, last = final[:4]
    assert {run.recipe.evaluate_every for run in final} == {settings.epochs}, (
        "the test set must be scored once"
    )
    assert (
        student.key
        == settings.student_run("student", 0, "other teacher", recipe=student.recipe).key
    )
    assert (kd.alpha, kd.temperature, kd.probability) == (0.25, 8.0, 0.0)
    assert (last.alpha, last.temperature, last.probability, last.gamma) == (0.25, 8.0, 0.3, 0.9)


def test_runs_of_the_plan_are_those_of_the_notebook_when_its_values_are_chosen(settings):
    planned = {run.key for run in settings.runs("abc")}
    values = {
        name: getattr(settings, name) for name in ("alpha", "temperature", "probability", "gamma")
    }
    fixed = {name: [value] for name, value in values.items()}
    gamma = settings.cells("kd_ig_at", "abc", **{**fixed, "gamma": settings.gammas})
    assert {run.key for run in [*gamma, *settings.chosen("abc", **values)]} <= planned
    assert len(planned) == 2 * (4 + 2 + 2 + 4)


def test_choice_is_by_the_mean_of_the_last_epochs_validation_scores(settings):
    """Planted: the highest single run and the highest best epoch lie in other cells than the
    highest mean.
    """
    made = settings.cells("kd", "abc", alpha=[0.25, 0.5], temperature=[2.0, 4.0])
    scores = {
        (0.25, 2.0): [80, 82],
        (0.25, 4.0): [99, 60],
        (0.5, 2.0): [85, 84],
        (0.5, 4.0): [1, 2],
    }
    results = [planted(run, scores[run.alpha, run.temperature][run.seed]) for run in made]
    frame = validation_frame(results, ["alpha", "temperature"])
    assert frame.cell.unique().tolist() == ["0.25_2", "0.25_4", "0.5_2", "0.5_4"]
    misleading = frame.assign(
        accuracy=-frame.validation_accuracy, test_accuracy=100 - frame.validation_accuracy
    )
    assert stats.best_cell(misleading, ["alpha", "temperature"]) == {
        "alpha": 0.5,
        "temperature": 2.0,
    }


def test_first_of_equal_cells_is_chosen_in_any_order_of_its_runs():
    frame = frame_of({"b": [0.1, 0.2, 0.3], "a": [0.3, 0.2, 0.1], "c": [0.0, 0.0, 0.0]}).assign(
        x=lambda f: f.cell.map(ord)
    )
    assert stats.best_cell(frame, ["x"], "accuracy") == {"x": ord("b")}


def test_a_run_scored_on_the_test_set_may_not_choose(settings):
    results = [planted(run, 90.0) for run in settings.chosen("abc", alpha=0.5)]
    with pytest.raises(ValueError, match="scored on the test set"):
        validation_frame(results, ["alpha"])


def test_a_trained_cell_is_scored_on_the_validation_pictures(workspace, make_run, digits):
    result = execute([make_run(share=0.5, scored="validation")], workspace)[0]
    pictures = workspace.pictures(result.run)
    right = (result.predicted == pictures.scored.labels.numpy()).mean()
    frame = validation_frame([result], ["level"])
    assert len(result.predicted) == 20
    assert frame.validation_accuracy.item() == pytest.approx(100 * right)
    assert not set(pictures.scored.ids) & {*pictures.training.ids, *digits.test.ids}


def test_names_of_facts_are_those_of_the_claims(settings):
    """Table 3's whole grid, named as the notebook names it, covers every claim about a cell."""
    table3 = experiments.Search()
    known = set(claims().fact)
    for method, prefix, grid, printed in (
        ("kd", "grid_kd", {"alpha": table3.alphas, "temperature": table3.temperatures}, 25),
        ("kd_ig", "grid_p", {"probability": table3.probabilities}, 6),
        ("kd_ig_at", "grid_gamma", {"gamma": table3.gammas}, 6),
    ):
        frame = validation_frame(
            [planted(run, 50.0) for run in settings.cells(method, "abc", **grid)], list(grid)
        )
        facts = as_facts(
            stats.summarise(frame, "cell", "validation_accuracy"), prefix, "cell", {"": "mean"}
        )
        assert len(known & {fact["fact"] for fact in facts}) == printed, prefix
        assert f"{prefix}_best_over_rest" in known


def facts_of(settings, reason="", **path):
    """What the notebook's own cell writes about runs planted in `settings`' grids: table of the
    paper's choices, facts, claims.
    """
    space = {
        "reason": reason,
        "other_measure": "another measure",
        "about": "",
        "kd_as_paper": True,
        "p_as_paper": True,
        **path,
    }
    space |= {
        "settings": settings,
        "out": settings.outputs,
        "paper": paper,
        "stats": stats,
        "as_facts": as_facts,
        "pd": pd,
    }
    space["papers"] = {"alpha": 0.01, "T": 2.5, "p": 0.1, "gamma": 0.8}
    grids = {"kd": {"alpha": settings.alphas, "temperature": settings.temperatures}}
    grids |= {"p": {"probability": settings.probabilities}, "gamma": {"gamma": settings.gammas}}
    for (name, grid), method in zip(grids.items(), ("kd", "kd_ig", "kd_ig_at")):
        made = settings.cells(method, "abc", **grid)
        frame = validation_frame(
            [planted(run, 90.0 + i % 3) for i, run in enumerate(made)], list(grid)
        )
        space |= {
            f"{name}_runs": frame,
            f"{name}_cells": stats.summarise(frame, "cell", "validation_accuracy"),
        }
    exec(source_of("facts-search"), space)
    settings.outputs.facts("03_hyperparameters", "CIFAR-10", not reason, space["facts"], reason)
    table = claims().query("kind == 'result' and fact.str.startswith('grid_')")
    return pd.read_csv(settings.outputs.folder / "tables" / "03_papers_choice.csv"), decide(
        table, settings.outputs.all_facts()
    )


def test_validation_accuracies_decide_no_printed_test_accuracy_but_the_papers_choice(
    monkeypatch, tmp_path
):
    """With the paper's whole grids, data, settings and teacher."""
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    choices, decided = facts_of(experiments.Search(seeds=list(range(10))))
    cells, optima = (
        decided[decided.id.str.match("S1[012]-")],
        decided[decided.id.str.endswith("-optimum")],
    )
    assert len(cells) == 37
    assert set(cells.verdict) == {"not run"}
    assert cells.evidence.str.endswith("; another measure").all()
    assert len(optima) == len(choices) == 3
    assert "not run" not in {*optima.verdict, *choices.verdict}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alphas": [0.01, 0.1]}, {"KD": "lacks values of the paper's (alphas"}),
        ({"gammas": [0.8, 0.5]}, {"AT": "lacks values of the paper's (gammas"}),
        ({"kd_as_paper": False}, {"IG": "chose other values"}),
        (
            {"reason": "the teacher differs"},
            dict.fromkeys(("KD", "IG", "AT"), "the teacher differs"),
        ),
    ],
)
def test_a_shorter_grid_or_another_path_does_not_decide_and_says_so(
    monkeypatch, tmp_path, changes, said
):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    lists = {
        name: value for name, value in changes.items() if name in experiments.Search.model_fields
    }
    rest = {name: value for name, value in changes.items() if name not in lists}
    choices, decided = facts_of(experiments.Search(seeds=list(range(10)), **lists), **rest)
    optima = decided[decided.id.str.endswith("-optimum")].set_index("id")
    assert {name for name in optima.index if optima.verdict[name] == "not run"} == {
        f"{name}-optimum" for name in said
    }
    assert all(words in optima.evidence[f"{name}-optimum"] for name, words in said.items())
    assert (choices.verdict == "not run").sum() == len(said)


def test_no_grid_with_the_papers_cell_leaves_a_table_without_rows(settings):
    other = settings.model_copy(update={"probabilities": [0.3, 0.2], "gammas": [0.3, 0.5]})
    choices, decided = facts_of(other)
    assert choices.columns.tolist() == ["fact", "value", "low", "high", "n", "verdict"]
    assert choices.empty
    assert set(decided.verdict) == {"not run"}


def test_one_way_analysis_is_scipys():
    rng = np.random.default_rng(0)
    cells = {name: rng.normal(i / 2, 1, 5) for i, name in enumerate("abc")}
    table = stats.anova(frame_of(cells).drop(columns="seed"), "accuracy", "cell").set_index(
        "effect"
    )
    expected = scipy_stats.f_oneway(*cells.values())
    assert (table.loc["cell", "F"], table.loc["cell", "p"]) == pytest.approx(
        (expected.statistic, expected.pvalue)
    )
    assert table.share.sum() == pytest.approx(1)


def test_seeds_that_all_cells_share_are_a_block():
    """As in an analysis of repeated measures: what a seed adds to all cells hides no difference
    between them.
    """
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 10, 6)
    cells = {name: seeds + rng.normal(i, 0.3, 6) for i, name in enumerate("abc")}
    frame = frame_of(cells)
    table = stats.anova(frame, "accuracy", "cell").set_index("effect")
    expected = AnovaRM(frame, "accuracy", "seed", within=["cell"]).fit().anova_table.iloc[0]
    assert table.index.tolist() == ["cell", "seed", "Residual"]
    assert (table.F["cell"], table.p["cell"]) == pytest.approx(
        (expected["F Value"], expected["Pr > F"])
    )
    assert np.isnan(table.p["seed"])
    assert (table.squares / table.df)["Residual"] ** 0.5 == pytest.approx(0.3, abs=0.1)
    assert (
        table.p["cell"]
        < 1e-4
        < 0.5
        < stats.anova(frame.drop(columns="seed"), "accuracy", "cell").p[0]
    )


def test_runs_of_other_seeds_in_each_cell_are_no_pairs():
    frame = frame_of({"a": [1.0, 2.0, 4.0], "b": [3.0, 5.0, 4.0]})
    frame.loc[frame.cell == "b", "seed"] += 3
    assert stats.anova(frame, "accuracy", "cell").effect.tolist() == ["cell", "Residual"]


def test_equal_runs_have_no_f():
    assert (
        stats.anova(frame_of({name: [10.0, 10.0] for name in "abc"}), "accuracy", "cell")[
            ["F", "p"]
        ]
        .isna()
        .all(axis=None)
    )


def test_two_way_analysis_finds_the_factor_that_was_planted():
    rng = np.random.default_rng(0)
    rows = [
        {"a": a, "b": b, "y": 3 * a + rng.normal()}
        for a in range(3)
        for b in range(3)
        for _ in range(4)
    ]
    table = stats.anova(pd.DataFrame(rows), "y", "a", "b").set_index("effect")
    assert table.index.tolist() == ["a", "b", "a:b", "Residual"]
    assert table.df.tolist() == [2, 2, 4, 27]
    assert table.loc["a", "p"] < 1e-6 < 1e-3 < table.loc[["b", "a:b"], "p"].min()


def test_cell_named_beforehand_against_the_rest_by_hand():
    frame = frame_of({"a": [5.0, 6.0, 9.0], "b": [1.0, 2.0, 3.0], "c": [3.0, 2.0, 3.0]})
    found = stats.over_rest(frame, "a", "accuracy")
    difference = [3.0, 4.0, 6.0]
    assert (found["value"], found["n"]) == (pytest.approx(np.mean(difference)), 3)
    assert (found["low"], found["high"]) == pytest.approx(stats.mean_interval(difference))


def test_runs_are_exchanged_within_a_seed_only():
    frame = frame_of({"a": [0.0, 100.0], "b": [1.0, 101.0], "c": [2.0, 102.0]})
    means = stats.exchanged_means(frame, "accuracy", draws=500)
    assert means.shape == (500, 3)
    assert np.allclose(means.mean(axis=1), 51)
    assert set(np.unique(means)) == {50.0, 50.5, 51.0, 51.5, 52.0}
    # both seeds put the same cell first in a third of all exchanges
    assert np.mean(means.max(axis=1) == 52) == pytest.approx(1 / 3, abs=0.07)


def test_winner_of_equal_cells_is_luck_and_a_planted_one_is_not():
    rng = np.random.default_rng(1)
    p = {}
    for shift in (0.0, 3.0):
        frame = frame_of({name: rng.normal(shift * (name == "c"), 1, 5) for name in "abcdef"})
        means = frame.groupby("cell").accuracy.mean().to_numpy()
        observed = recompute.spread(means).max_minus_mean[0]
        exchanged = recompute.spread(
            stats.exchanged_means(frame, "accuracy", draws=2000)
        ).max_minus_mean
        residual = stats.anova(frame, "accuracy", "cell").iloc[-1]
        equal = recompute.spread(
            recompute.equal_cells(6, (residual.squares / residual.df / 5) ** 0.5)
        ).max_minus_mean
        p[shift] = [recompute.upper_p(values, observed) for values in (exchanged, equal)]
    assert min(p[0.0]) > 0.05
    assert max(p[3.0]) < 0.01


def test_left_out_score_takes_the_luck_away():
    """By hand; then over many searches among equal cells: the winner's mean is too high, the
    left-out score is not.
    """
    frame = frame_of({"a": [3.0, 0.0], "b": [1.0, 2.0]})
    assert (
        stats.left_out_score(frame, "accuracy") == (1.0 + 0.0) / 2
    )  # seed 1 chooses b for seed 0, seed 0 chooses a for seed 1
    rng = np.random.default_rng(0)
    searches = [frame_of({name: rng.normal(size=3) for name in "abcdef"}) for _ in range(60)]
    winners = [search.groupby("cell").accuracy.mean().max() for search in searches]
    left_out = [stats.left_out_score(search, "accuracy") for search in searches]
    assert np.mean(winners) > 0.5
    assert abs(np.mean(left_out)) < 0.35


def test_a_claim_is_decided_row_by_row(tmp_path):
    from kdig.study.outputs import Outputs

    out = Outputs(tmp_path)
    table = out.facts(
        "03",
        "here",
        True,
        [{"fact": "a", "value": 1.0}, {"fact": "b", "value": 2.0, "comparable": False}],
    )
    assert table.comparable.tolist() == [True, False]
    assert out.all_facts().comparable.tolist() == [True, False]
