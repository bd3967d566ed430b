"""The arms of `docs/evidence.md` differ in what they name, and in nothing else."""

from kdig.core.runs import train
from kdig.study import evidence
from kdig.study.evidence import arms


def changed(one, other) -> set[str]:
    values = [{**dict(run), **dict(run.recipe)} for run in (one, other)]
    return {name for name in values[0] if values[0][name] != values[1][name]} - {"recipe"}


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
    monkeypatch.setattr(evidence, "execute", lambda runs, *rest: asked.append(runs))
    evidence._train([done, left], workspace, workers=1)
    assert asked == [[left]]
    assert workspace.result(done) is None
    assert workspace.record(done).weights == weights.stem
