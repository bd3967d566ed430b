"""Every setting reaches what it decides, and a run's key exactly then: one table with a row for
every field.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from conftest import write_tree
from specs import observant
from specs import spec as spec_with

import kdig.core.run
import kdig.core.train
from kdig import KdigError
from kdig.core.attribution import ATTRIBUTIONS
from kdig.core.data import Split, load_dataset
from kdig.core.networks import state_hash
from kdig.core.run import Run, Scoring
from kdig.core.signals import (
    SignalSettings,
    SignalSpec,
    Teacher,
    load_signal,
    precompute,
    signal_path,
)
from kdig.core.store import Workspace
from kdig.core.train import prepare, signal_spec, train, untrained
from kdig.core.training import Recipe, fit
from kdig.study import cost

pytestmark = [pytest.mark.pins, pytest.mark.filterwarnings("ignore:the teacher agrees")]
KINDS = ("logits", "attention", "maps")


# What a run does, taken apart. A row of `RUN` says which of these a field changes; all others must
# stay as they are.
def seen(run: Run, workspace: Workspace, scoring: Scoring) -> dict[str, object]:
    """`training` and `scored` images, `start` (weights), `order` and `views` of an epoch, the first
    batch's `images` and `signals`, its `loss`, the `end` (weights), and after which epochs it was
    `evaluated`.
    """
    prepare([run], workspace, 1)
    images = workspace.pictures(run, scoring)
    found: dict[str, object] = {"training": images.training.ids, "scored": images.scored.ids}
    found["labels"] = digest(images.training.labels)
    found["start"] = state_hash(untrained(run, len(images.data.classes)))

    def watched(model, dataset, scored, loss, recipe, **rest):
        history = fit(model, dataset, scored, loss, recipe, **rest)
        dataset.set_epoch(1)
        index = dataset.order[:20]
        batch = dataset.__getitems__(index)
        met = {
            kind: digest(values)
            for kind, values in batch.signals._asdict().items()
            if values is not None
        }
        found.update(
            order=digest(dataset.order),
            views=[digest(getattr(dataset.views, f.name)) for f in fields(dataset.views)],
        )
        found.update(
            images=digest(batch.images),
            signals=met,
            evaluated=[row.epoch for row in history if row.test_loss is not None],
        )
        found.update(loss=loss_of(loss, len(batch.labels)))
        return history

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kdig.core.train, "fit", watched)
        found["end"] = train(run, workspace, scoring).weights
    return found


def digest(values: torch.Tensor) -> int:
    return hash(values.contiguous().numpy().tobytes())


def loss_of(loss: Callable, n: int) -> float:
    """The loss of given logits and maps, so that only its own settings change it."""
    draw = torch.Generator().manual_seed(5)
    student, teacher = torch.randn(2, n, 10, generator=draw)
    maps = torch.rand(2, n, 16, generator=draw)
    return float(loss(student, torch.arange(n) % 10, teacher, *maps))


@dataclass
class Row:
    """`values` of a field beside its value in `base`: each must change all of `changes` and nothing
    else.

    `along` is what has to change with a value, such as the data's fingerprint with the image size.
    """

    values: list
    changes: str
    base: dict[str, Any] = field(default_factory=dict)
    along: Callable[[Any], dict[str, Any]] = lambda value: {}


KD, IG, AT = {"alpha": 0.5, "temperature": 4.0}, {"probability": 0.5}, {"gamma": 0.8}
ALL, PART = {**KD, **IG, **AT}, {"share": 0.75}
# a field that decides what is learnt changes the end; what is behind in a run's way follows from
# what is in front
RUN = {
    "dataset": Row(
        ["folder"], "training labels scored images end", along=lambda name: {"data": name}
    ),
    "data": Row(["0" * 16], "refused"),
    "image_size": Row([10], "images end"),
    "train_images": Row([50, 60], "training labels order views images end"),
    "share": Row([0.75, 0.5], "training labels order views images end"),
    "split_seed": Row([1, 2], "training labels images end", PART),
    "label_noise": Row([0.2, 0.4], "labels end"),
    "network": Row(["s7", "s6", "mobilenet_v2", "resnet8", "resnet20"], "start end"),
    "role": Row(["teacher"], "start end"),
    "width": Row([0.5], "start end"),
    "alpha": Row([0.4, 0.3], "loss end", KD),
    "temperature": Row([2.0, 3.0], "loss end", KD),
    "probability": Row([0.4, 0.3], "images end", IG),
    "gamma": Row([0.4, 0.3], "loss end", AT),
    "attention_reduction": Row(["mean"], "loss end", AT),
    "signals.pairing": Row(["released", "same_view", "reshuffled"], "images signals end", ALL),
    "signals.maps_pairing": Row(["released"], "images signals end", {**KD, **IG}),
    "signals.overlay": Row(
        ["unmoved", "other", "phase", "mean", "grey", "mixup"], "images signals end", IG
    ),
    "signals.attribution": Row(
        [name for name in ATTRIBUTIONS if name != "integrated_gradients"], "images signals end", IG
    ),
    "signals.blend": Row([0.25, 0.75], "images end", IG),
    "signals.baseline": Row(["mean"], "images signals end", IG),
    "signals.rule": Row(
        ["riemann_trapezoid", "riemann_middle", "riemann_left", "riemann_right"],
        "images signals end",
        IG,
    ),
    "signals.steps": Row([3, 5], "images signals end", IG),
    "signals.output": Row(["softmax"], "images signals end", IG),
    "teacher": Row(["second"], "images signals end", ALL),
    "padding": Row([2], "views images end"),
    "flip": Row([True], "views images end"),
    "seed": Row([1, 2], "start order views images end"),
}
RECIPE = {
    "optimizer": Row(["adamw", "sgd"], "end", {"weight_decay": 0.1}),
    "learning_rate": Row([1e-2], "end"),
    "schedule": Row(["cosine", "onecycle"], "end"),
    "weight_decay": Row([0.1, 0.2], "end"),
    "batch_size": Row([8, 20], "end"),
    "epochs": Row([1, 3], "end evaluated"),
    "normalise": Row([True], "end"),
    "label_smoothing": Row([0.1, 0.2], "loss end"),
    "bn_momentum": Row([0.2, 0.9], "end"),
}
SCORING = Scoring(images=60)
ROWS = {**RUN, **{f"recipe.{name}": row for name, row in RECIPE.items()}}
# fields that decide nothing without what stands in their base
DEPENDENT = {"temperature", "attention_reduction", "teacher", "split_seed"}
DEPENDENT |= {f"signals.{name}" for name in SignalSettings.model_fields}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A workspace with a folder of images and two networks that teach."""
    folder = tmp_path_factory.mktemp("wiring")
    write_tree(folder / "data")
    workspace = Workspace(folder / "out", folder / "data")
    digits = load_dataset("digits", image_size=8)
    with torch.random.fork_rng():
        nets = [
            observant(seed, digits.train.images[:100], digits.mean, digits.std) for seed in (0, 1)
        ]
    names = [workspace.keep(net, digits.mean, digits.std, "mobilenet_v2", 0.25) for net in nets]
    fingerprints = {
        name: load_dataset(name, workspace.root, 8).fingerprint for name in ("digits", "folder")
    }
    known: dict[str, dict] = {}

    def observe(run: Run, scoring: Scoring = SCORING) -> dict[str, object]:
        if run.key not in known and run.data not in fingerprints.values():
            with pytest.raises(KdigError, match="fingerprint"):
                seen(run, workspace, scoring)
            known[run.key] = {"refused": True}
        elif run.key not in known:
            known[run.key] = seen(run, workspace, scoring)
        return known[run.key]

    return SimpleNamespace(
        workspace=workspace,
        teachers=dict(zip(("first", "second"), names)),
        observe=observe,
        data=fingerprints,
    )


def make(
    world, name: str = "", value: object = None, along: dict | None = None, base: dict | None = None
) -> Run:
    """The base run with one field set: 40 images of 8x8 digits, two epochs, the smallest student."""
    given = {
        "dataset": "digits", "data": "digits", "image_size": 8, "train_images": 40, "network": "s8",
        "width": 0.25, "padding": 1, "flip": False, "teacher": "first",
    }  # fmt: skip
    changes = {**(base or {}), **(along or {}), **({name: value} if name else {})}
    recipe = {"epochs": 2, "batch_size": 16, "bn_momentum": 0.5}
    recipe |= {
        n.removeprefix("recipe."): v
        for n, v in changes.items()
        if n.removeprefix("recipe.") in Recipe.model_fields
    }
    signals = {"steps": 4} | {
        n.removeprefix("signals."): v
        for n, v in changes.items()
        if n.removeprefix("signals.") in SignalSettings.model_fields
    }
    given |= {n: v for n, v in changes.items() if n in Run.model_fields}
    given["teacher"] = world.teachers[given["teacher"]]
    given["data"] = world.data.get(given["data"], given["data"])
    return Run(**given, recipe=Recipe(**recipe), signals=SignalSettings(**signals))


def test_every_field_of_a_run_has_a_row():
    nested = {f"signals.{name}" for name in SignalSettings.model_fields}
    assert set(RUN) == set(Run.model_fields) - {"recipe", "signals"} | nested
    assert set(RECIPE) == set(Recipe.model_fields)


def accepted(annotation: object) -> set[object]:
    """The names of a `Literal`, or of one that may be None."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return set().union(*map(accepted, get_args(annotation)))


def field_of(name: str) -> Any:
    group, _, own = name.rpartition(".")
    return {"recipe": Recipe, "signals": SignalSettings, "": Run}[group].model_fields[own]


NAMED = [name for name in ROWS if accepted(field_of(name).annotation)]
# what another setting of the row's base says already
SAID = {"signals.maps_pairing": {"static"}}


@pytest.mark.parametrize("name", NAMED)
def test_every_name_that_a_field_accepts_is_tried(name):
    """For fields such as `rule`, which accept a few names: the row and the default are all of them."""
    tried = {*ROWS[name].values, field_of(name).default, *SAID.get(name, ())}
    assert tried - {None} == accepted(field_of(name).annotation)


@pytest.mark.parametrize("name", ROWS)
def test_a_field_changes_what_it_decides_and_the_key(world, name):
    row = ROWS[name]
    plain = make(world, base=row.base)
    changed = [make(world, name, value, row.along(value), row.base) for value in row.values]
    keys = [run.key for run in (plain, *changed)]
    assert len(set(keys)) == len(keys), f"{name} is not in the key, though it decides {row.changes}"
    before = world.observe(plain)
    after = [world.observe(run) for run in changed]
    for value, found in zip(row.values, after):
        moved = (
            {part for part in {**before, **found} if found.get(part) != before.get(part)}
            if "end" in found
            else set(found)
        )
        assert moved == set(row.changes.split()), f"{name} = {value}"
    for one, two in itertools.combinations(after, 2):
        assert any(one[part] != two[part] for part in row.changes.split()), (
            f"two values of {name} do the same"
        )


@pytest.mark.parametrize("name", sorted(DEPENDENT))
def test_a_field_that_decides_nothing_is_not_in_the_key(world, name):
    row = ROWS[name]
    assert row.base, f"{name} needs a base in which it decides something"
    assert {make(world, name, value).key for value in row.values} == {make(world).key}


def test_what_maps_are_made_of_decides_nothing_where_none_is_laid_over(world):
    for name, overlay in itertools.product(
        ("baseline", "rule", "steps", "output"), ("grey", "mixup")
    ):
        base = {"probability": 0.5, "overlay": overlay}
        row = ROWS[f"signals.{name}"]
        changed = make(world, f"signals.{name}", row.values[0], base=base)
        assert changed.key == make(world, base=base).key


def test_only_the_settings_of_an_attribution_are_in_the_key(world):
    """Steps decide nothing of a plain gradient."""
    base = {**IG, "attribution": "saliency"}
    for name in ("baseline", "rule", "steps"):
        row = ROWS[f"signals.{name}"]
        changed = make(world, f"signals.{name}", row.values[0], base=base)
        assert changed.key == make(world, base=base).key
    assert make(world, "signals.output", "softmax", base=base).key != make(world, base=base).key


@pytest.mark.parametrize(
    ("scoring", "changes"),
    [
        ({"images": 50}, {"scored"}), ({"images": 70}, {"scored"}), ({"every": 2}, {"evaluated"}),
        ({"split": "validation", "images": None}, {"scored"}),
    ],
)  # fmt: skip
def test_what_is_scored_decides_no_weight(world, tmp_path, scoring, changes):
    run, elsewhere = make(world, base=PART), Workspace(tmp_path, world.workspace.root)
    before = seen(run, Workspace(tmp_path / "before", world.workspace.root), SCORING)
    after = seen(run, elsewhere, SCORING.model_copy(update=scoring))
    assert {name for name in before if before[name] != after[name]} == changes


def test_the_protocol_is_in_the_key(world, monkeypatch):
    before = make(world).key
    monkeypatch.setattr(kdig.core.run, "PROTOCOL", kdig.core.run.PROTOCOL + 1)
    assert make(world).key != before


# field of `SignalSpec` -> the value that it changes to, the kinds of signal that it decides, and in
# which pairing
SPEC: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "teacher": ({"teacher": "second"}, KINDS, "static"),
    "data": ({"data": "other"}, KINDS, "static"),
    "image_size": ({"image_size": 10, "data": "large"}, KINDS, "static"),
    "mean": ({"mean": (0.1, 0.2, 0.3)}, KINDS, "static"),
    "std": ({"std": (0.5, 0.6, 0.7)}, KINDS, "static"),
    "attention_tap": ({"attention_tap": "features.2"}, ("attention",), "static"),
    "attention_size": ({"attention_size": (2, 2)}, ("attention",), "static"),
    "attribution": ({"attribution": "saliency"}, ("maps",), "static"),
    "baseline": ({"baseline": "mean"}, ("maps",), "static"),
    "rule": ({"rule": "riemann_left"}, ("maps",), "static"),
    "steps": ({"steps": 3}, ("maps",), "static"),
    "output": ({"output": "softmax"}, ("maps",), "static"),
    "pairing": ({"pairing": "released"}, KINDS, "static"),
    "padding": ({"padding": 2}, KINDS, "released"),
    "flip": ({"flip": True}, KINDS, "released"),
    "seed": ({"seed": 1}, KINDS, "released"),
}


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    """A function from a specification to its three caches, made by the network and on the images
    that it names.
    """
    folder = tmp_path_factory.mktemp("signals")
    digits = load_dataset("digits", image_size=8)
    with torch.random.fork_rng():
        nets = {
            name: observant(seed, digits.train.images[:100], digits.mean, digits.std)
            for seed, name in enumerate(("first", "second"))
        }
    rows = {"digits": slice(0, 30), "other": slice(30, 60)}
    splits = {
        n: Split(digits.train.images[r], digits.train.labels[r], digits.train.ids[r])
        for n, r in rows.items()
    }
    large = load_dataset("digits", image_size=10).train
    splits["large"] = Split(large.images[:30], large.labels[:30], large.ids[:30])

    def cached(**changes) -> dict[str, tuple[SignalSpec, Path, int]]:
        given = {
            "teacher": "first",
            "data": "digits",
            "mean": (0.4,) * 3,
            "std": (0.3,) * 3,
            "image_size": 8,
            "steps": 4,
        }
        given |= {"padding": 1, "flip": False, "attention_tap": "features.0", **changes}
        teacher, split = (
            Teacher(nets[given["teacher"]], given["mean"], given["std"]),
            splits[given["data"]],
        )
        spec = spec_with(**{**given, "teacher": teacher.hash, "data": split.fingerprint})
        paths = {kind: precompute(spec, kind, teacher, split, folder) for kind in KINDS}
        return {
            kind: (spec, path, digest(load_signal(spec, kind, path, split.labels)))
            for kind, path in paths.items()
        }

    return cached


def test_every_field_of_a_signals_specification_has_a_row():
    met = {"overlay", "blend", "maps_pairing"}  # these decide what a student does with a signal
    nested = set(SignalSettings.model_fields) - met
    assert set(SPEC) == set(SignalSpec.model_fields) - {"settings"} | nested


@pytest.mark.parametrize("name", SPEC)
def test_a_field_of_a_specification_changes_its_signals_and_their_stamp(signals, name):
    changes, kinds, pairing = SPEC[name]
    before, after = signals(pairing=pairing), signals(**{"pairing": pairing, **changes})
    for kind in KINDS:
        (spec, path, values), (_, new_path, new_values) = before[kind], after[kind]
        decides = kind in kinds
        assert (values != new_values) == decides, f"{name} and the {kind}"
        assert (path != new_path) == decides, f"{name} and the file of the {kind}"
        assert (name in spec.stamp(kind)) == decides, f"{name} and the stamp of the {kind}"


@pytest.mark.parametrize("name", ["padding", "flip", "seed"])
def test_views_of_the_released_pass_decide_no_signal_of_images_as_they_are(signals, name):
    before, after = signals(), signals(**SPEC[name][0])
    assert all(before[kind][1:] == after[kind][1:] for kind in KINDS)


# What else is kept under a name must follow the same fields.
COSTED = (
    "train_images",
    "signals.attribution",
    "signals.baseline",
    "signals.rule",
    "signals.steps",
    "signals.output",
    "signals.pairing",
    "teacher",
    "seed",
    "network",
    "temperature",
    "gamma",
)


@pytest.mark.parametrize("name", COSTED)
def test_cost_counts_maps_once_for_runs_that_look_them_up_in_one_file(
    world, name, monkeypatch, tmp_path
):
    monkeypatch.setattr(cost, "step_seconds", lambda *arguments: 0.0)
    monkeypatch.setattr(cost, "_map_seconds", lambda *arguments: 1.0)
    elsewhere = Workspace(tmp_path)
    base = {**ALL, "pairing": "static"}
    values = ["released"] if name == "signals.pairing" else ROWS[name].values
    for other in values:
        runs = [make(world, base=base), make(world, name, other, base=base)]
        paths = {map_path(run, world.workspace) for run in runs}
        alone = sum(cost.estimate([run], elsewhere, 1, 1) for run in runs)
        assert (cost.estimate(runs, elsewhere, 1, 1) == alone) == (len(paths) == 2), (
            f"{name} = {other}"
        )


def map_path(run: Run, workspace: Workspace) -> Path:
    teacher = workspace.load_weights(run.teacher)
    return signal_path(signal_spec(run, teacher, workspace.pool(run)), "maps", workspace.signals)
