"""The arms of `docs/evidence.md` differ in what they name, and in nothing else."""

import pytest

from kdig import KdigError
from kdig.core.train import train
from kdig.study import evidence
from kdig.study.command import STOPPED, exit_code
from kdig.study.evidence import arms


def changed(one, other) -> set[str]:
    values = [{**dict(run), **dict(run.recipe), **dict(run.signals)} for run in (one, other)]
    groups = {"recipe", "signals"}
    return {name for name in values[0] if values[0][name] != values[1][name]} - groups


def test_arms_of_part_b_differ_in_what_they_name():
    runs = arms(0, "data", "teacher", "untrained", "own")
    assert len(runs) == len({run.key for run in runs.values()}) == 10
    for alpha in (0.01, 0.1, 0.5):
        assert changed(runs[f"own-{alpha}"], runs[f"other-{alpha}"]) == {"pairing"}
        assert runs[f"own-{alpha}"].alpha == alpha
    assert changed(runs["own-0.01"], runs["own-0.5"]) == {"alpha"}
    assert changed(runs["own-0.5"], runs["self-0.5"]) == {"teacher"}
    assert changed(runs["own-0.5"], runs["untrained-0.5"]) == {"teacher"}
    assert changed(runs["plain"], runs["smoothing"]) == {"label_smoothing"}
    assert changed(runs["plain"], arms(1, "data", "teacher", "untrained", "own")["plain"]) == {
        "seed"
    }


def test_a_run_whose_record_alone_is_kept_is_not_trained_again(make_run, workspace, monkeypatch):
    done, left = make_run(seed=0), make_run(seed=1)
    weights = workspace.folder / "weights" / f"{train(done, workspace).weights}.pt"
    weights.unlink()
    asked = []
    monkeypatch.setattr(evidence, "execute", lambda runs, *rest, **named: asked.append(runs))
    evidence._train([done, left], workspace, workers=1)
    assert asked == [[left]]
    assert workspace.trained(done) is None
    assert workspace.result(done) is None
    assert workspace.record(done).weights == weights.stem


def test_a_command_ends_with_a_line_and_a_code(capsys):
    def fails(error):
        raise error

    assert exit_code(lambda: None) == 0
    assert exit_code(lambda: fails(KdigError("no folder 'x'"))) == 1
    assert exit_code(lambda: fails(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.splitlines() == ["error: no folder 'x'", STOPPED]
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 / 0)
