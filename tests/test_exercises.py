"""The exercises: solutions pass, bugs do not, and every property catches some wrong function."""

import re

import nbformat
import pytest
import torch
from helpers import ROOT

import kdig
from kdig.study.exercises import EXERCISES, check, failures, progress, verdict

BOOK = nbformat.read(ROOT / "notebooks" / "exercises.ipynb", as_version=4)
CELLS = {cell.id: cell for cell in BOOK.cells}
NAMES = list(EXERCISES)
BUGS = [
    "stored_targets", "distillation_loss", "batch_kl", "soft_loss", "token_kl", "pixel_attributions",
    "path_integral", "input_gradients",
]  # fmt: skip
FILL_IN = [name for name in NAMES if name not in BUGS]


def source(name, kind):
    """The code of an exercise in the notebook: `yours`, with a stub or a bug, or `solution`."""
    return CELLS[f"{name.replace('_', '-')}-{kind}"].source


def function(name, text):
    """The function `name` that a cell defines; what stands after it is left out."""
    made = {}
    exec(CELLS["setup"].source, made)
    exec(text.split(f"\n\n\ncheck({name})")[0], made)
    return made[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_has_all_properties(name):
    assert verdict(function(name, source(name, "solution"))).startswith("All correct")


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_left_in_is_told_in_a_sentence_with_numbers(name):
    said = verdict(function(name, source(name, "yours")))
    assert re.fullmatch(r"Not yet: .+, but .*\d.*\.", said)
    assert "stops with" not in said
    assert "cannot be used" not in said


@pytest.mark.parametrize("name", FILL_IN)
def test_an_empty_function_is_told_in_a_sentence(name):
    said = verdict(function(name, source(name, "yours")))
    assert re.fullmatch(r"Not yet: .+, but your function gives nothing back: .+\.", said)


def test_the_packages_own_functions_pass_and_so_does_every_rule_of_quadrature():
    def integrated_gradients(model, images, targets, baseline, steps):
        return kdig.attribute(model, images, targets, baseline=baseline, steps=steps, rule=rule)

    def overlay(images, maps, exponent, chance, p):
        laid = kdig.overlay(images, maps, exponent)
        return torch.where((chance < p).view(-1, 1, 1, 1), laid, images)

    for own in (kdig.kd_loss, kdig.attention_map, overlay):
        assert verdict(own).startswith("All correct")
    for rule in ("gausslegendre", "riemann_left", "riemann_right", "riemann_trapezoid"):
        assert verdict(integrated_gradients).startswith("All correct"), rule


# exercise -> changes of its solution (old, new), each of which makes it wrong
MUTANTS = {
    "kd_loss": [
        ("temperature**2 * ", ""), (".mean()", ".sum()"), (".detach()", ""),
        ("(log_teacher - log_student)", "-log_student"),
        ("(log_teacher - log_student)", "(log_student - log_teacher)"),
        ("F.log_softmax(student_logits / temperature, dim=1)", "student_logits / temperature"),
    ],
    "integrated_gradients": [
        ("return difference * total", "return total"), ("difference * total", "difference * total.mean()"),
        (".sum()", ".mean()"), ("+ 0.5) / steps", "+ 0.5) / (2 * steps)"),
    ],
    "attention_map": [
        (" / squares.norm(dim=1, keepdim=True)", ""), ("(activation**2).mean(dim=1)", "(activation**2)[:, 0]"),
        (".mean(dim=1).flatten(1)", ".sum(dim=1).flatten(1) + 1"), ("activation**2", "activation.abs()"),
        ("squares.norm(dim=1, keepdim=True)", "squares.norm()"),
    ],
    "overlay": [
        ("0.5 * images + 0.5 * hat", "images + hat"), ("chance < p", "chance >= p"), ("chance < p", "chance > 2"),
        ("(scaled - low) / (high - low).clamp_min(1e-12)", "scaled / high"),
        (" ** exponent.view(-1, 1, 1)", ""), ("(1, 2)", "(0, 1, 2)"), (".clamp_min(1e-12)", ""),
        ("hat[:, None]", "hat[:, None].roll(1, -1)"),
    ],
    "best_of": [("sd, size", "2 * sd, size"), (".max(axis=1)", ".mean(axis=1)"), ("sd, size", "sd + 0.1, size")],
    "paired_power": [
        ("< 0.05", "< 0.2"), ("seeds + effect +", "seeds + effect * (5 / n) ** 0.5 +"), ("ttest_rel", "ttest_ind"),
        ("axis=1)", "axis=1, alternative='greater')"),
    ],
    "stored_targets": [("batches.append((rows,", "batches.append((rows.flip(0),")],
    "distillation_loss": [("(student_logits, labels)", "(student_logits / temperature, labels)"), ("temperature**2", "1")],
    "batch_kl": [(".sum(dim=1).mean()", ".sum()")],
    "soft_loss": [("return ", "return 0 * ")],
    "token_kl": [("student_logits.numel() / student_logits.shape[-1]", "student_logits.shape[0]")],
    "pixel_attributions": [("(end - start) * total", "end * total")],
    "path_integral": [("(values[1:] + values[:-1]) / 2", "values[:-1]")],
    "input_gradients": [("    model.eval()\n", ""), ("    model.train(was_training)\n", "")],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_property_fails_for_some_wrong_function(name):
    right, caught = source(name, "solution"), set()
    for old, new in MUTANTS[name]:
        assert old in right
        wrong = failures(function(name, right.replace(old, new)))
        assert wrong, f"{old!r} -> {new!r} passes"
        caught |= wrong.keys()
    if name in BUGS:
        caught |= failures(function(name, source(name, "yours"))).keys()
    assert caught == {each.words for each in EXERCISES[name]}


def test_what_stops_a_check_is_a_sentence():
    def kd_loss(student, teacher, temperature):
        raise ValueError("no such axis.\nmore lines")

    assert "your function stops with ValueError: no such axis." in verdict(kd_loss)

    def attention_map(activation):
        return activation

    assert "has the shape (3, 4, 5, 5), not (3, 25)" in verdict(attention_map)

    def overlay(images, maps, exponent, chance, p):
        return "images"

    assert "the result is no tensor but a str" in verdict(overlay)

    def path_integral(gradient, steps, chunk):
        return [1, 2]

    assert "its result cannot be used (TypeError:" in verdict(path_integral)

    def best_of(n, mean, sd, repeats, rng):
        return mean

    assert "has the shape (), not (4000,)" in verdict(best_of)

    def paired_power(effect, seed_sd, noise_sd, n, repeats, rng):
        return 80

    assert "no share between 0 and 1" in verdict(paired_power)

    def batch_kl(student, teacher, temperature):
        return student

    assert "the result is no single number: its shape is (6, 5)" in verdict(batch_kl)


def test_an_unknown_name_lists_the_exercises():
    assert verdict(len).startswith("There is no exercise named len. There are: ")
    for wrong in ("kd_loss", None, torch.zeros(1)):
        assert verdict(wrong).startswith("Give the function itself")


def test_progress_counts_what_was_checked(capsys, monkeypatch):
    monkeypatch.setattr("kdig.study.exercises.checking._SOLVED", set())
    check(function("soft_loss", source("soft_loss", "yours")))
    assert progress().startswith("0 of 14 solved. Left: ")
    check(function("soft_loss", source("soft_loss", "solution")))
    assert progress().startswith("1 of 14 solved. Left: ")
    assert "soft_loss" not in progress()
    assert capsys.readouterr().out.count("\n") == 2


def test_every_exercise_has_its_cells():
    for name in NAMES:
        slug = name.replace("_", "-")
        assert "Guess first:" in CELLS[slug].source
        assert CELLS[f"{slug}-yours"].metadata.get("tags") is None
        for part in ("answer", "solution"):
            assert CELLS[f"{slug}-{part}"].metadata.tags == ["solution"]
    for name in BUGS:
        assert "https://github.com/" in CELLS[name.replace("_", "-")].source
        assert len(source(name, "yours").splitlines()) <= 22


def test_the_notebook_is_valid_and_keeps_no_outputs():
    nbformat.validate(BOOK)
    assert BOOK.nbformat_minor == 5
    assert not any(cell.get("outputs") for cell in BOOK.cells)
