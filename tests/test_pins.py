"""Draws, signals, batches and training steps as they are: a restructuring that changes none of them
changes no result.

Numbers are computed in float64 on synthetic images and agree to `TOLERANCE` on every x86-64
processor; draws are exact. After a change that is wanted, `python tests/test_pins.py` writes
`golden/draws.json` and `golden/steps.json` anew, and the diff shows it.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from specs import ig_dataset, observant, spec
from torch import Generator, Tensor

from kdig.core.attribution import Baseline, Output, Rule
from kdig.core.augment import phase_scrambled
from kdig.core.data import Split, stratified_rows
from kdig.core.dataset import IGDataset
from kdig.core.losses import DistillationLoss
from kdig.core.methods import METHODS
from kdig.core.networks import AttentionTap, build, entry, of_level, with_normalisation
from kdig.core.run import Run
from kdig.core.signals import (
    Overlay,
    Pairing,
    Signals,
    SignalSpec,
    Teacher,
    _pass_order,
    load_signal,
    precompute,
)
from kdig.core.train import untrained
from kdig.core.training import Recipe, fit

pytestmark = [pytest.mark.pins, pytest.mark.filterwarnings("ignore:the teacher agrees")]
GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-6  # relative
KINDS = ("logits", "attention", "maps")
RAISE = (
    "this draw has changed, so the same specification gives another result: raise PROTOCOL in"
    " kdig/core/run.py, so that older results are not taken for new ones, and run `python"
    " tests/test_pins.py` (or undo the change; another torch may draw otherwise)"
)


def noise(size: int = 40) -> Split:
    """`size` images of noise in four classes."""
    images = torch.randint(
        256, (size, 3, 8, 8), dtype=torch.uint8, generator=Generator().manual_seed(0)
    )
    return Split(images, torch.arange(size) % 4, tuple(f"{i:016x}" for i in range(size)))


def exactly(values: Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]


def numbers(values: Tensor) -> list[float]:
    """Mean, mean square and a mean that knows places: what moves or changes a value changes one of
    these.
    """
    flat = values.detach().double().flatten()
    return [
        flat.mean().item(),
        flat.square().mean().item(),
        (flat * torch.arange(len(flat)).double().cos()).mean().item(),
    ]


def drawn(seed: int, epoch: int) -> dict[str, object]:
    """What an epoch of a data set draws.

    Exponents are rounded differently by processors, so here are eight of them.
    """
    dataset = ig_dataset(noise(), padding=4, seed=seed)
    dataset.set_epoch(epoch)
    views = {
        field.name: getattr(dataset.views, field.name)
        for field in fields(dataset.views)
        if field.name != "exponent"
    }
    exact = {"order": dataset.order, "other": dataset.other, **views}
    return {
        **{name: exactly(values) for name, values in exact.items()},
        "exponent": dataset.views.exponent[:8].tolist(),
    }


def passed(kind: str, seed: int) -> dict[str, str]:
    """The order and the views of the released code's pass over the images."""
    asked = spec(
        teacher="", data="", image_size=8, mean=(0.0,), std=(1.0,), pairing="released", seed=seed
    )
    order, views = _pass_order(asked, kind, 40)
    return {
        "order": exactly(order),
        "dy": exactly(views.dy),
        "dx": exactly(views.dx),
        "flip": exactly(views.flip),
    }


def initial(network: str, seed: int, role: str = "student") -> list[float]:
    run = Run(dataset="digits", data="", network=network, width=0.25, seed=seed, role=role)
    return [
        value for weights in list(untrained(run, 4).parameters())[:4] for value in numbers(weights)
    ]


def draws() -> dict[str, object]:
    """Every kind of draw, in float32, as in a run."""
    ramp = torch.linspace(0, 1, 64).view(1, 8, 8)
    return {
        **{f"epoch {epoch} of seed {seed}": drawn(seed, epoch) for seed, epoch in ((0, 1), (1, 0))},
        **{
            f"released pass for {kind}, seed {seed}": passed(kind, seed)
            for kind in KINDS
            for seed in (0, 1)
        },
        **{f"subset {seed}": exactly(stratified_rows(noise(), 24, seed)) for seed in (0, 1)},
        **{
            f"phases {seed}": (
                phase_scrambled(ramp, Generator().manual_seed(seed)).flatten()[:8].tolist()
            )
            for seed in (0, 1)
        },
        **{
            f"initial weights, level {level}, seed {seed}": initial(
                of_level(level), seed, "student" if level else "teacher"
            )
            for level in (0, 2)
            for seed in (0, 1)
        },
        "initial weights, resnet20": initial("resnet20", 0),
    }


@contextmanager
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def taught(net_seed: int = 0) -> Teacher:
    """A network whose answers differ from image to image."""
    scale = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    return Teacher(observant(net_seed, noise().images, *scale, classes=4), *scale)


def spec_of(teacher: Teacher, split: Split, **changes: object) -> SignalSpec:
    given = {
        "teacher": teacher.hash,
        "data": split.fingerprint,
        "image_size": 8,
        "steps": 4,
        "padding": 1,
        "attention_tap": "features.0",
    }
    return spec(**{**given, "mean": tuple(teacher.mean), "std": tuple(teacher.std), **changes})


def signals(teacher: Teacher, folder: Path) -> dict[str, list[float]]:
    """Every kind of signal, and maps for every rule, baseline and output, as the cache holds them."""
    split = noise()

    def cached(kind: str, **changes: object) -> list[float]:
        asked = spec_of(teacher, split, **changes)
        return numbers(
            load_signal(asked, kind, precompute(asked, kind, teacher, split, folder), split.labels)
        )

    asked = {
        "rule": get_args(Rule),
        "baseline": get_args(Baseline),
        "output": get_args(Output),
        "steps": (4, 7),
    }
    found = {
        f"{kind} {pairing}": cached(kind, pairing=pairing)
        for kind in KINDS
        for pairing in ("static", "released")
    }
    found |= {
        f"attention {index}": cached("attention", attention_tap=f"features.{index}")
        for index in (2, 4, 9)
    }
    return found | {
        f"maps {name} {v}": cached("maps", **{name: v})
        for name, values in asked.items()
        for v in values
    }


def dataset(
    teacher: Teacher,
    folder: Path,
    wanted: set,
    pairing: Pairing = "static",
    overlay: Overlay = "map",
) -> IGDataset:
    """The images with the signals `wanted`, as a run with seed 3 meets them."""
    split = noise()
    settings = {
        "wanted": wanted,
        "probability": 0.5,
        "padding": 1,
        "pairing": pairing,
        "overlay": overlay,
        "steps": 4,
        "seed": 3,
    }
    asked = spec_of(teacher, split, pairing=pairing)
    if pairing == "same_view":
        return ig_dataset(split, teacher=teacher, spec=asked, **settings)
    loaded = {
        k: load_signal(asked, k, precompute(asked, k, teacher, split, folder), split.labels)
        for k in wanted
    }
    return ig_dataset(split, Signals(**loaded), **settings)


def batch(data: IGDataset) -> dict[str, list[float]]:
    """Images and signals of the first batch of epoch 2."""
    data.set_epoch(2)
    images, labels, met = data.__getitems__(data.order[:16])
    kinds = {kind: numbers(values) for kind, values in met._asdict().items() if values is not None}
    return {"images": numbers(images), "labels": numbers(labels), **kinds}


def batches(teacher: Teacher, folder: Path) -> dict[str, dict]:
    pairings = {
        f"pairing {p}": dataset(teacher, folder, set(KINDS), pairing=p) for p in get_args(Pairing)
    }
    overlays = {
        f"overlay {o}": dataset(teacher, folder, {"maps"}, overlay=o) for o in get_args(Overlay)
    }
    return {name: batch(data) for name, data in {**pairings, **overlays}.items()}


def trained(data: IGDataset, loss: DistillationLoss, **recipe: object) -> list[float]:
    """Loss of the first epoch (two steps), loss on the test images, then the network's parameters
    and buffers.
    """
    torch.manual_seed(1)
    net = build("s8", 4, 0.25)
    model = with_normalisation(net, (0.0,) * 3, (1.0,) * 3)
    with AttentionTap(net, entry("s8").tap) if loss.gamma else nullcontext() as tap:
        (row,) = fit(
            model,
            data,
            noise(),
            loss,
            Recipe(**{"epochs": 1, "batch_size": 20, **recipe}),
            attention=tap,
        )
    state = torch.cat([values.double().flatten() for values in net.state_dict().values()])
    return [row.train_loss, row.test_loss, *numbers(state)]


def steps(teacher: Teacher, folder: Path) -> dict[str, list[float]]:
    """Two steps of every method, of both readings of attention, and of the plain student under
    every kind of recipe.
    """
    weights = {"alpha": 0.5, "gamma": 0.8}
    found = {}
    for method, row in METHODS.items():
        data = dataset(teacher, folder, {term.signal for term in row.terms})
        for reduction in ("sum", "mean") if "gamma" in row.weights else ("sum",):
            loss = DistillationLoss(
                temperature=4.0,
                attention_reduction=reduction,
                **{k: weights[k] for k in row.weights & set(weights)},
            )
            found[f"{method} {reduction}"] = trained(data, loss)
    recipes = [{"optimizer": name, "weight_decay": 0.1} for name in ("adam", "adamw", "sgd")]
    recipes += [{"schedule": name} for name in ("cosine", "onecycle")] + [
        {"bn_momentum": 0.4},
        {"learning_rate": 0.01},
    ]
    plain = {
        str(recipe): trained(dataset(teacher, folder, set()), DistillationLoss(), **recipe)
        for recipe in recipes
    }
    return (
        found
        | plain
        | {
            "label smoothing": trained(
                dataset(teacher, folder, set()), DistillationLoss(label_smoothing=0.1)
            )
        }
    )


def all_steps(folder: Path) -> dict[str, dict]:
    with float64():
        teacher = taught()
        return {
            "signals": signals(teacher, folder),
            "batches": batches(teacher, folder),
            "steps": steps(teacher, folder),
        }


def differences(found: object, wanted: object, tolerance: float, at: str = "") -> list[str]:
    """Where two trees of texts and numbers differ."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict)
        missing = [
            f"{at} / {name}: in one of the two only" for name in sorted(set(found) ^ set(wanted))
        ]
        return missing + [
            d
            for n in wanted
            if n in found
            for d in differences(found[n], wanted[n], tolerance, f"{at} / {n}")
        ]
    if isinstance(wanted, list):
        same = np.allclose(
            found, wanted, rtol=tolerance, atol=1e-9 if tolerance == TOLERANCE else tolerance
        )
        return [] if same else [f"{at}: {found}, pinned {wanted}"]
    return [] if found == wanted else [f"{at}: {found}, pinned {wanted}"]


def pinned(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def test_draws_are_the_pinned_ones():
    """Floats to 1e-4: that is enough to tell one draw from another, and float32 differs by
    processor.
    """
    changed = differences(draws(), pinned("draws"), tolerance=1e-4)
    assert not changed, f"{RAISE}\n" + "\n".join(changed)


def test_two_seeds_never_share_an_order():
    """Of 4 seeds and 200 epochs: an order that came back would make two runs of a study less than
    two.
    """
    orders = []
    for seed in range(4):
        data = ig_dataset(noise(), padding=0, seed=seed)
        for epoch in range(200):
            data.set_epoch(epoch)
            orders.append(exactly(data.order))
    assert len(set(orders)) == len(orders)


def test_signals_batches_and_steps_are_the_pinned_ones(tmp_path):
    changed = differences(all_steps(tmp_path), pinned("steps"), TOLERANCE)
    assert not changed, (
        "if that is wanted, run `python tests/test_pins.py` (and think of PROTOCOL)\n"
        + "\n".join(changed)
    )


def test_what_is_pinned_differs_from_entry_to_entry():
    """A pin on a value that nothing changes would hold nothing; defaults stand under two names."""
    steps = pinned("steps")
    same = {
        "maps static",
        "maps rule gausslegendre",
        "maps baseline black",
        "maps output logit",
        "maps steps 4",
    }
    for part, values in steps.items():
        texts = [json.dumps(value) for name, value in values.items() if name not in same]
        assert len(set(texts)) == len(texts), part


def rounded(tree: object, digits: int) -> object:
    """So that another processor writes the same file."""
    if isinstance(tree, dict):
        return {name: rounded(value, digits) for name, value in tree.items()}
    return [float(f"{value:.{digits}g}") for value in tree] if isinstance(tree, list) else tree


def write(name: str, content: dict, digits: int) -> None:
    (GOLDEN / f"{name}.json").write_text(json.dumps(rounded(content, digits), indent=1) + "\n")


if __name__ == "__main__":
    import tempfile
    import warnings

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    write("draws", draws(), 6)
    with tempfile.TemporaryDirectory() as folder:
        write("steps", all_steps(Path(folder)), 9)
