"""The search: one split for all, choices by validation scores alone, tests of a winner that do not
take luck for an effect.
"""

import functools

import numpy as np
import pandas as pd
import pytest
from helpers import settings_of
from scipy import stats as scipy_stats
from statsmodels.stats.anova import AnovaRM

from kdig.core.run import Scoring
from kdig.core.runs import execute, validation_frame
from kdig.core.store import Result
from kdig.core.training import Epoch
from kdig.measure import stats
from kdig.paper import claims, decide
from kdig.study import experiments
from kdig.study.tables import search


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "outputs"))
    grids = {
        "alphas": [0.25, 0.5],
        "temperatures": [2.0, 4.0],
        "probabilities": [0.1, 0.2],
        "gammas": [0.5, 0.8],
    }
    return settings_of("03_hyperparameters", image_size=8, train_images=100, share=0.6, **grids)


def all_cells(settings):
    cells = settings.cells("kd", "abc", alpha=settings.alphas, temperature=settings.temperatures)
    cells += settings.cells(
        "kd_ig", "abc", alpha=[0.5], temperature=[2.0], probability=settings.probabilities
    )
    return cells + settings.cells(
        "kd_ig_at", "abc", alpha=[0.5], temperature=[2.0], probability=[0.1], gamma=settings.gammas
    )


def planted(run, accuracy, scoring=Scoring(split="validation")):
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
    return Result(run=run, history=[best, last], last=last, best=best, scoring=scoring, **rest)


def frame_of(cells):
    """`cells`: name -> accuracies by seed."""
    rows = [
        {"cell": name, "seed": i, "accuracy": v}
        for name, values in cells.items()
        for i, v in enumerate(values)
    ]
    return pd.DataFrame(rows)


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
        pictures = settings.workspace.pictures(run, settings.validation)
        assert [set(pictures.training.ids), set(pictures.scored.ids)] == saved


def test_the_file_that_the_notebook_saves_names_the_pictures_of_every_run(settings):
    """Ids that are all digits stay text."""
    out = settings.outputs
    out.split(settings.split(), "03_validation")
    saved = pd.read_csv(out.folder / "splits" / "03_validation.csv", dtype=str)
    parts = {part: set(group.id) for part, group in saved.groupby("part")}
    assert not saved.id.duplicated().any()
    cells = [(run, settings.validation) for run in all_cells(settings)]
    for run, scoring in [
        *cells,
        *((r, settings.scoring) for r in settings.chosen("abc", alpha=0.25)),
    ]:
        pictures = settings.workspace.pictures(run, scoring)
        trained, scored = set(pictures.training.ids), set(pictures.scored.ids)
        if scoring.split == "validation":
            assert (trained, scored) == (parts["training"], parts["validation"])
        else:
            assert (trained, scored) == (parts["training"] | parts["validation"], parts["test"])


def test_cells_are_scored_on_validation_and_the_chosen_setting_on_the_test_set(
    settings, monkeypatch
):
    asked = []
    monkeypatch.setattr(experiments, "execute", lambda *given, **named: asked.append(given[5]))
    settings.search(all_cells(settings))
    final = settings.chosen("abc", alpha=0.25, temperature=8.0, probability=0.3, gamma=0.9)
    settings.execute(final)
    assert [scoring.split for scoring in asked] == ["validation", "test"]
    assert {run.share for run in all_cells(settings)} == {settings.share}
    assert {run.share for run in final} == {1.0}
    assert [run.method for run in final] == ["student", "kd", "kd_ig", "kd_ig_at"] * len(
        settings.seeds
    )
    student, kd, _, last = final[:4]
    assert (
        student.key
        == settings.student_run("student", 0, "other teacher", recipe=student.recipe).key
    )
    assert (kd.alpha, kd.temperature, kd.probability) == (0.25, 8.0, 0.0)
    assert (last.alpha, last.temperature, last.probability, last.gamma) == (0.25, 8.0, 0.3, 0.9)


def test_runs_of_the_plan_are_those_of_the_notebook_when_its_values_are_chosen(settings):
    planned = {run.key for run in settings.runs("abc")}
    values = {
        name: settings.flat()[name] for name in ("alpha", "temperature", "probability", "gamma")
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
    results = [planted(run, 90.0, Scoring()) for run in settings.chosen("abc", alpha=0.5)]
    with pytest.raises(ValueError, match="scored on the test set"):
        validation_frame(results, ["alpha"])


def test_a_trained_cell_is_scored_on_the_validation_pictures(workspace, make_run, digits):
    scoring = Scoring(split="validation")
    result = execute([make_run(share=0.5)], workspace, scoring=scoring)[0]
    pictures = workspace.pictures(result.run, scoring)
    right = (result.predicted == pictures.scored.labels.numpy()).mean()
    frame = validation_frame([result], ["level"])
    assert len(result.predicted) == 20
    assert frame.validation_accuracy.item() == pytest.approx(100 * right)
    assert not set(pictures.scored.ids) & {*pictures.training.ids, *digits.test.ids}


def searched(settings):
    """Runs planted in `settings`' grids, by search."""
    grids = {"kd": {"alpha": settings.alphas, "temperature": settings.temperatures}}
    grids |= {"p": {"probability": settings.probabilities}, "gamma": {"gamma": settings.gammas}}
    return {
        key: validation_frame(
            [
                planted(run, 90.0 + i % 3)
                for i, run in enumerate(settings.cells(search.GRIDS[key].method, "abc", **grid))
            ],
            list(grid),
        )
        for key, grid in grids.items()
    }


def test_names_of_facts_are_those_of_the_claims():
    """Table 3's whole grid covers every claim about a cell."""
    known = set(claims().fact)
    for key, found in searched(settings_of("03_hyperparameters", "paper", **ON_DIGITS)).items():
        _, facts = search.beside(search.cells(found, key), key, "another measure")
        names = {fact["fact"] for fact in facts}
        assert len(known & names) == {"kd": 25, "p": 6, "gamma": 6}[key]
        assert f"grid_{key}_best_over_rest" in known


# the paper's grids, and images that are there
ON_DIGITS = {"dataset": "digits", "image_size": 8, "download": False}
PAPERS = {"alpha": 0.01, "temperature": 2.5, "probability": 0.1, "gamma": 0.8}


def decided_by(settings, reason="", chosen=PAPERS):
    """What the notebook says of runs planted in `settings`' grids: table of the paper's choices,
    claims.
    """
    found = searched(settings)
    facts = [
        fact
        for key, frame in found.items()
        for fact in search.beside(search.cells(frame, key), key, "another measure")[1]
    ]
    holds = functools.partial(settings.holds_papers, "03_hyperparameters")
    table, choices = search.papers_choice(found, search.why_choices_open(reason, holds, chosen))
    settings.outputs.table(table, "03_papers_choice", "", choices)
    settings.outputs.facts("03_hyperparameters", "CIFAR-10", reason, facts)
    about_results = claims().query("kind == 'result' and fact.str.startswith('grid_')")
    return table, decide(about_results, settings.outputs.all_facts())


def test_validation_accuracies_decide_no_printed_test_accuracy_but_the_papers_choice(
    monkeypatch, tmp_path
):
    """With the paper's whole grids, data, settings and teacher."""
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    choices, decided = decided_by(settings_of("03_hyperparameters", "paper", **ON_DIGITS))
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
        ({"chosen": PAPERS | {"alpha": 0.05}}, {"IG": "chose", "AT": "chose other values"}),
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
    choices, decided = decided_by(
        settings_of("03_hyperparameters", "paper", **ON_DIGITS, **lists), **rest
    )
    optima = decided[decided.id.str.endswith("-optimum")].set_index("id")
    assert {name for name in optima.index if optima.verdict[name] == "not run"} == {
        f"{name}-optimum" for name in said
    }
    assert all(words in optima.evidence[f"{name}-optimum"] for name, words in said.items())
    assert (choices.verdict == "not run").sum() == len(said)


def test_no_grid_with_the_papers_cell_leaves_a_table_without_rows(settings):
    other = settings.model_copy(update={"probabilities": [0.3, 0.2], "gammas": [0.3, 0.5]})
    choices, decided = decided_by(other)
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
    # both seeds put the same cell first in a third of all 36 exchanges
    assert stats.exchanged_p(frame, "accuracy") == pytest.approx(1 / 3)
    frame = frame_of({"a": [0.0, 101.0], "b": [1.0, 100.0], "c": [2.0, 102.0]})
    assert stats.exchanged_p(frame, "accuracy") == pytest.approx(1 / 3)
    frame = frame_of({"a": [0.0, 102.0], "b": [1.0, 101.0], "c": [2.0, 100.0]})
    assert stats.exchanged_p(frame, "accuracy") == 1


def exchanged_means(frame, draws, seed):
    """(draws, cells): means of the cells after the runs of each seed were shuffled among them."""
    wide = frame.pivot(index="seed", columns="cell", values="accuracy").to_numpy()
    shuffled = np.random.default_rng(seed).permuted(
        np.broadcast_to(wide, (draws, *wide.shape)), axis=2
    )
    return shuffled.mean(axis=1)


@pytest.mark.parametrize("shift", [0.0, 0.7, 1.5])
def test_p_by_exchange_is_that_of_shuffled_runs(shift):
    rng = np.random.default_rng(2)
    frame = frame_of({name: rng.normal(shift * (name == "c"), 1, 5) for name in "abcdef"})
    means = exchanged_means(frame, 20_000, seed=1)
    above = means.max(axis=1) - means.mean(axis=1)
    found = frame.groupby("cell").accuracy.mean()
    p = stats.upper_p(above, found.max() - found.mean())
    error = (p * (1 - p) * (1 / 20_000 + 1 / 10_000)) ** 0.5
    assert stats.exchanged_p(frame, "accuracy") == pytest.approx(p, abs=4 * error)


def test_winner_of_equal_cells_is_luck_and_a_planted_one_is_not():
    rng = np.random.default_rng(1)
    p = {}
    for shift in (0.0, 3.0):
        frame = frame_of({name: rng.normal(shift * (name == "c"), 1, 5) for name in "abcdef"})
        means = frame.groupby("cell").accuracy.mean().to_numpy()
        observed = stats.spread(means).max_minus_mean[0]
        residual = stats.anova(frame, "accuracy", "cell").iloc[-1]
        equal = stats.spread(
            stats.equal_cells(6, (residual.squares / residual.df / 5) ** 0.5)
        ).max_minus_mean
        exchanged = stats.exchanged_p(frame, "accuracy", draws=2000)
        p[shift] = [exchanged, stats.upper_p(equal, observed)]
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
