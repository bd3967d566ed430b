"""The arms of `docs/evidence.md` differ in what they name, and in nothing else."""

from kdig.evidence import arms


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
    assert changed(runs["plain"], arms(1, "data", "teacher", "untrained", "own")["plain"]) == {"seed"}
