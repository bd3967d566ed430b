"""The arms of `docs/evidence.md` differ in what they name, and in nothing else."""

import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from helpers import EVIDENCE

from kdig import KdigError
from kdig.core.run import LEVEL_OF
from kdig.core.runs import execute
from kdig.core.store import Workspace
from kdig.core.train import train
from kdig.measure.agreement import agreement, calibration_error, kl_divergence
from kdig.paper import published
from kdig.study.command import STOPPED, exit_code
from kdig.study.evidence import AlphaPairing, Blocks, Factorial, Signature
from kdig.study.experiments import Experiment
from kdig.study.notebooks import NOTEBOOKS
from kdig.study.settings import profile_settings
from kdig.study.tables import evidence


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The settings of a notebook in the evidence profile, as if the images were there."""
    data = SimpleNamespace(fingerprint=cifar10_fingerprint(), classes=("",) * 10)
    monkeypatch.setattr(Experiment, "data", lambda self: data)
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    return lambda name: profile_settings(NOTEBOOKS[name], name, {"profile": "evidence"})


def cifar10_fingerprint() -> str:
    return Workspace(EVIDENCE).runs()[0].data


def changed(one, other) -> set[str]:
    values = [{**dict(run), **dict(run.recipe), **dict(run.signals)} for run in (one, other)]
    groups = {"recipe", "signals"}
    return {name for name in values[0] if values[0][name] != values[1][name]} - groups


def teacher_of(settings: Blocks) -> str:
    return settings.released(settings.given.teacher)


def test_arms_of_part_b_differ_in_what_they_name(asked, monkeypatch):
    settings = asked("10_alpha_pairing")
    kept = SimpleNamespace(weights="own")
    monkeypatch.setattr(Workspace, "record", lambda self, run: kept)
    runs = settings.arms("teacher", 0)
    assert len(runs) == len({run.key for run in runs.values()}) == 10
    for alpha in (0.01, 0.1, 0.5):
        assert changed(runs[f"own-{alpha}"], runs[f"other-{alpha}"]) == {"pairing"}
        assert runs[f"own-{alpha}"].alpha == alpha
    assert changed(runs["own-0.01"], runs["own-0.5"]) == {"alpha"}
    assert changed(runs["own-0.5"], runs["self-0.5"]) == {"teacher"}
    assert changed(runs["own-0.5"], runs["untrained-0.5"]) == {"teacher"}
    assert changed(runs["plain"], runs["smoothing"]) == {"label_smoothing"}
    assert changed(runs["plain"], settings.arms("teacher", 1)["plain"]) == {"seed"}


def test_kept_records_are_arms_of_the_profile(asked):
    """What was trained under the plan is what the profile asks for today."""
    known = set()
    for name in ("10_alpha_pairing", "10_signature", "10_factorial"):
        settings = asked(name)
        teacher = teacher_of(settings)
        known |= {run.key for seed in range(10) for run in settings.arms(teacher, seed).values()}
    conditions = asked("12_conditions")
    for seed in conditions.seeds:
        experiments = (conditions.surface, conditions.patience, conditions.noise)
        known |= {run.key for arms in experiments for run in arms(teacher, seed).values()}
        for pair in conditions.pairs:
            known |= {run.key for run in conditions.paired(pair, teacher, seed).values()}
    known |= {conditions._teacher_of(pair).key for pair in conditions.pairs}
    for name in ("12_beyond", "13_deployment", "14_your_images"):
        known |= {run.key for run in asked(name).runs(teacher)}
    # the rivals' first seed, after which another was added
    first = asked("13_deployment").model_copy(update={"rival_seeds": [0]})
    known |= {run.key for run in first._alike().values()}
    plain = {run.weights for run in map(Workspace(EVIDENCE).record, Workspace(EVIDENCE).runs())}
    for run in Workspace(EVIDENCE).runs():
        assert run.key in known or run.teacher in plain, f"{run} is no arm of a part"


def test_the_student_that_rivals_are_set_beside_is_part_bs(asked):
    deployment, part_b = asked("13_deployment"), asked("10_alpha_pairing")
    for seed in deployment.rival_seeds:
        ours = deployment._alike()["s2", seed]
        assert ours.key == part_b.arms("teacher", seed)["plain"].key


def test_arms_of_part_c_differ_in_what_they_name(asked):
    runs = asked("10_factorial").arms("teacher", 0)
    assert len(runs) == len({run.key for run in runs.values()}) == 15
    own = {"alpha", "temperature", "teacher"}
    assert changed(runs["none.none"], runs["own.none"]) == own
    assert changed(runs["none.map"], runs["own.map"]) == own - {"teacher"}
    assert changed(runs["none.map"], runs["none.other"]) == {"overlay"}
    # maps of the image itself lie over it, whosever the soft targets are
    met = runs["released.map"].signals
    assert (met.pairing_of("logits"), met.pairing_of("maps")) == ("released", "static")
    assert changed(runs["own.map"], runs["released.map"]) == {
        "alpha", "temperature", "pairing", "maps_pairing",
    }  # fmt: skip
    assert changed(runs["paper.own"], runs["paper.released"]) == {"pairing"}
    assert runs["paper.own"].method == "kd_ig"
    assert runs["paper.plain"].recipe.optimizer == "adam"


def test_arms_of_part_a_differ_in_what_they_name(asked):
    runs = asked("10_signature").arms("teacher", 0)
    assert list(runs) == ["plain", "own-a", "other-a", "own-b", "other-b"]
    assert changed(runs["own-a"], runs["other-a"]) == {"pairing"}
    assert changed(runs["own-a"], runs["own-b"]) == {"teacher"}


def test_a_released_student_that_is_not_here_is_known_by_its_hash(asked, monkeypatch):
    settings = asked("10_alpha_pairing")
    monkeypatch.setattr("kdig.study.evidence.located", lambda path: Path("nowhere") / path)
    row = published("released_students").set_index("accuracy").loc[90.73]
    teacher = settings.teacher()
    assert (teacher.weights, teacher.last.test_accuracy) == (row.weights, 90.73)
    assert row.network in LEVEL_OF
    with pytest.raises(KdigError, match="no file"):
        settings.released("released/another.pt")


def test_a_record_alone_is_a_finished_run_where_no_network_is_needed(make_run, workspace):
    done = make_run(seed=0)
    weights = workspace.folder / "weights" / f"{train(done, workspace).weights}.pt"
    weights.unlink()
    assert workspace.result(done) is None
    (result,) = execute([done], workspace, weights=False)
    assert result.weights == weights.stem
    assert not weights.exists()
    execute([done], workspace)
    assert weights.exists()


def test_agreement_by_hand():
    teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert agreement(teacher, teacher) == {"same_answer": 100.0, "kl_teacher": 0.0}
    found = agreement(torch.zeros(2, 2), teacher)
    sure = torch.sigmoid(torch.tensor(2.0)).item()
    assert found["same_answer"] == 50.0
    entropy = -sum(p * torch.tensor(p).log().item() for p in (sure, 1 - sure))
    assert found["kl_teacher"] == pytest.approx(torch.tensor(2.0).log().item() - entropy, rel=1e-5)
    assert kl_divergence(torch.zeros(2, 2), teacher, 1e6) == pytest.approx(0, abs=1e-6)


def test_calibration_error_by_hand():
    """Three images of confidence 0.8 and one of 0.6, two of the three right and the one wrong."""
    odds = torch.tensor([0.8, 0.8, 0.8, 0.6])
    logits = torch.stack([odds.log(), (1 - odds).log()], 1)
    labels = torch.tensor([0, 0, 1, 1])
    assert calibration_error(logits, labels) == pytest.approx(100 * (3 * (0.8 - 2 / 3) + 0.6) / 4)


class TestContrasts:
    frame = pd.DataFrame(
        {
            "arm": ["a", "b", "c"] * 3,
            "block": [0, 0, 0, 1, 1, 1, 2, 2, 2],
            "accuracy": [70.0, 75.1, 72.0, 71.0, 76.0, 72.9, 72.0, 77.0, 74.1],
        }
    )

    def test_estimate_and_width_by_hand(self):
        """Differences of means, with the error that is left after blocks and arms."""
        asked = [evidence.Contrast("b - a", evidence.difference(["b"], ["a"]), "above")]
        table, facts = evidence.contrasts(self.frame, asked)
        cells = self.frame.pivot(index="block", columns="arm", values="accuracy")
        rest = cells.sub(cells.mean(1), axis=0).sub(cells.mean() - cells.to_numpy().mean())
        sd = ((rest**2).to_numpy().sum() / 4) ** 0.5
        half = 2.7764451 * sd * (2 / 3) ** 0.5
        row = table.iloc[0]
        assert row.value == pytest.approx(cells.b.mean() - cells.a.mean())
        assert (row.high - row.low) / 2 == pytest.approx(half)
        assert row.word == "supported"
        assert row.by_block == "+5.10, +5.00, +5.00"
        assert facts[0]["n"] == 3
        assert evidence.sentences(table).endswith(
            ", above 0; the prediction, above 0.4, is **supported**"
        )

    def test_an_arm_without_runs_or_on_both_sides_is_named(self):
        asked = [evidence.Contrast("a - d", evidence.difference(["a"], ["d"]))]
        with pytest.raises(ValueError, match=r"'a - d': there are no runs of .*d"):
            evidence.contrasts(self.frame, asked)
        with pytest.raises(ValueError, match="b cannot be on both sides"):
            evidence.difference(["a", "b"], ["b"])

    @pytest.mark.parametrize(
        ("low", "high", "said"),
        [(0.1, 0.3, "above 0"), (-2.0, -0.1, "below 0"), (-0.1, 0.5, "open")],
    )
    def test_a_direction_asks_for_no_size(self, low, high, said):
        assert evidence.direction(low, high) == said

    @pytest.mark.parametrize(
        ("predicted", "low", "high", "word"),
        [
            ("above", 0.5, 1.0, "supported"), ("above", 0.1, 1.0, "undecided"),
            ("above", -1.0, 0.3, "contradicted"), ("within", -0.3, 0.3, "supported"),
            ("within", -0.5, 0.3, "undecided"), ("within", 0.5, 0.9, "contradicted"),
            ("within", -0.9, -0.5, "contradicted"), ("", 1.0, 2.0, ""),
        ],
    )  # fmt: skip
    def test_words(self, predicted, low, high, word):
        assert evidence.Contrast("", {}, predicted).word(low, high) == word

    @pytest.mark.parametrize(
        "asked",
        [evidence.alpha_pairing([0.01, 0.5]), evidence.signature("ab"), evidence.factorial()],
    )
    def test_weights_add_up_to_nothing(self, asked):
        for contrast in asked:
            assert sum(contrast.weights.values()) == pytest.approx(0)
            assert sum(map(abs, contrast.weights.values())) == pytest.approx(
                4 if "interaction" in contrast.name else 2
            )

    def test_contrasts_name_arms_that_there_are(self, asked, monkeypatch):
        monkeypatch.setattr(Workspace, "record", lambda self, run: SimpleNamespace(weights="own"))
        parts: dict[str, tuple[type[Blocks], list[evidence.Contrast]]] = {
            "10_alpha_pairing": (AlphaPairing, evidence.alpha_pairing([0.01, 0.1, 0.5])),
            "10_signature": (Signature, evidence.signature("ab")),
            "10_factorial": (Factorial, evidence.factorial()),
        }
        for name, (model, contrasts) in parts.items():
            settings = asked(name)
            assert type(settings) is model
            arms = settings.arms("teacher", 0)
            assert {arm for contrast in contrasts for arm in contrast.weights} <= set(arms)


def test_a_command_ends_with_a_line_and_a_code(capsys):
    def fails(error):
        raise error

    assert exit_code(lambda: None) == 0
    assert exit_code(lambda: fails(KdigError("no folder 'x'"))) == 1
    assert exit_code(lambda: fails(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.splitlines() == ["error: no folder 'x'", STOPPED]
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 / 0)


def test_a_command_says_a_warning_in_one_line():
    said = []
    code = exit_code(
        lambda: said.append(warnings.formatwarning("weak", UserWarning, "signals.py", 3))
    )
    assert (code, said) == (0, ["warning: weak\n"])
    assert "signals.py:3" in warnings.formatwarning("weak", UserWarning, "signals.py", 3)


@pytest.mark.filterwarnings("ignore:the teacher agrees")
def test_a_clone_goes_on_from_records_alone(tmp_path, monkeypatch):
    """The teacher's weights are needed only where a student has still to be trained."""
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    small = {"blocks": 2, "epochs": 1, "teacher_epochs": 1, "alphas": [0.1, 0.5]}
    settings = profile_settings(AlphaPairing, "10_alpha_pairing", small)
    before = settings.results(settings.teacher().weights)
    shutil.rmtree(settings.workspace.folder / "weights")
    assert settings.known_teacher() == settings.teacher().weights
    again = settings.results(settings.teacher().weights)
    assert {key: r.weights for key, r in again.items()} == {
        key: r.weights for key, r in before.items()
    }
    more = profile_settings(AlphaPairing, "10_alpha_pairing", {**small, "blocks": 3})
    with pytest.raises(KdigError, match="no weights"):
        more.results(more.teacher().weights)
