import json
from concurrent import futures
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from specs import changed, ig_dataset, observant
from specs import spec as spec_with
from torch.utils.data import DataLoader

from kdig import KdigError
from kdig.core.augment import crop_flip, draw_views, normalise_map, overlay, phase_scrambled
from kdig.core.data import Split
from kdig.core.dataset import IGDataset
from kdig.core.losses import DistillationLoss
from kdig.core.networks import build
from kdig.core.signals import Signals, SignalSettings, Teacher, load_signal, precompute, signal_path
from kdig.core.training import Recipe, fit, predict


@pytest.fixture
def teacher(split):
    scale = (0.5,) * 3, (0.25,) * 3
    return Teacher(observant(0, split.images, *scale, classes=4), *scale)


@pytest.fixture
def known(split, teacher):
    """Pictures labelled by the teacher itself, so that it agrees with every label."""
    labels = teacher.observe(split.images / 255, "features.0").logits.argmax(1)
    return Split(split.images, labels, split.ids)


def make_spec(teacher, split, **changes):
    return spec_with(
        teacher=teacher.hash, data=split.fingerprint, image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3, attention_tap="features.4",
        steps=3, padding=1, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["logits", "attention", "maps"])
def test_cache_is_in_dataset_order(kind, known, teacher, tmp_path):
    spec = make_spec(teacher, known)
    path = precompute(spec, kind, teacher, known, tmp_path, block=16)
    stored = load_signal(spec, kind, path, known.labels)
    direct = teacher.compute(kind, known.images / 255, known.labels, spec)
    assert torch.allclose(stored, direct, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(stored.roll(1, 0), direct, rtol=1e-1, atol=1e-3)
    assert not list(tmp_path.glob("*.blocks"))


def test_released_cache_holds_other_pictures_in_other_crops(known, teacher, tmp_path):
    """Row i is the signal of picture order[i] in a random crop.

    Logits and attention come from one pass, maps from another.
    """
    spec = make_spec(teacher, known, pairing="released")
    for kind, seed in (("logits", 0), ("attention", 0), ("maps", 1)):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(40, generator=generator)
        views = draw_views(40, spec.padding, spec.flip, generator)
        assert (order == torch.arange(40)).sum() < 5
        stored = load_signal(
            spec, kind, precompute(spec, kind, teacher, known, tmp_path, block=16), known.labels
        )
        crops = crop_flip(known.images[order], views, spec.padding) / 255
        assert torch.allclose(
            stored, teacher.compute(kind, crops, known.labels[order], spec), rtol=1e-3, atol=1e-5
        )


def test_killed_computation_goes_on_where_it_stopped(known, teacher, tmp_path, monkeypatch):
    spec = make_spec(teacher, known)
    whole = precompute(spec, "logits", teacher, known, tmp_path / "whole", block=8).read_bytes()
    calls, compute = [], Teacher.compute

    def dying(self, kind, images, labels, spec):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(self, kind, images, labels, spec)

    monkeypatch.setattr(Teacher, "compute", dying)
    with pytest.raises(KeyboardInterrupt):
        precompute(spec, "logits", teacher, known, tmp_path, block=8)
    with pytest.raises(KdigError, match="cannot read"):
        load_signal(spec, "logits", signal_path(spec, "logits", tmp_path), known.labels)
    path = precompute(spec, "logits", teacher, known, tmp_path, block=8)
    assert len(calls) == 3 + 3  # two blocks were kept, three remained
    assert path.read_bytes() == whole
    precompute(spec, "logits", teacher, known, tmp_path, block=8)
    assert len(calls) == 6


def test_block_that_cannot_be_read_is_computed_again(known, teacher, tmp_path):
    spec = make_spec(teacher, known)
    whole = precompute(spec, "logits", teacher, known, tmp_path / "whole", block=8).read_bytes()
    torn = signal_path(spec, "logits", tmp_path).with_suffix(".blocks") / "00000008.npy"
    torn.parent.mkdir()
    torn.write_bytes(b"")
    assert precompute(spec, "logits", teacher, known, tmp_path, block=8).read_bytes() == whole


@pytest.mark.parametrize("locks", [True, False])
def test_two_at_once_both_finish_and_leave_nothing_but_the_file(
    known, teacher, tmp_path, monkeypatch, locks
):
    """Locks or not, the file is the same; with locks, nothing is computed twice."""
    spec, calls, compute = make_spec(teacher, known), [], Teacher.compute
    whole = precompute(spec, "logits", teacher, known, tmp_path / "whole", block=2).read_bytes()
    monkeypatch.setattr(
        Teacher, "compute", lambda *arguments: calls.append(1) or compute(*arguments)
    )
    if not locks:
        monkeypatch.setattr("kdig.core.files.fcntl", None)
    with futures.ThreadPoolExecutor(2) as both:
        work = [
            both.submit(precompute, spec, "logits", teacher, known, tmp_path / "a", block=2)
            for _ in range(2)
        ]
        paths = {done.result(timeout=60) for done in work}
    (path,) = paths
    assert path.read_bytes() == whole
    assert {found.name for found in path.parent.iterdir()} == {
        path.name,
        path.with_suffix(".json").name,
    }
    assert len(calls) == 20 or not locks


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("teacher", "f" * 16),
        ("data", "e" * 16),
        ("mean", (0.1,) * 3),
        ("baseline", "mean"),
        ("rule", "riemann_left"),
        ("steps", 9),
    ],
)
def test_cache_of_something_else_is_refused_by_name(field, value, known, teacher, tmp_path):
    spec = make_spec(teacher, known)
    path = precompute(spec, "maps", teacher, known, tmp_path)
    with pytest.raises(KdigError, match=f"was made with {field} ") as error:
        load_signal(changed(spec, **{field: value}), "maps", path, known.labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("field", ["teacher", "data"])
def test_signals_of_another_teacher_or_other_images_are_not_computed(
    field, known, teacher, tmp_path
):
    asked = changed(make_spec(teacher, known), **{field: "f" * 16})
    with pytest.raises(KdigError, match=f"asked for .*{field} ffff.*, not {teacher.hash} and"):
        precompute(asked, "logits", teacher, known, tmp_path)
    assert not list(tmp_path.iterdir())


def test_truncated_cache_is_refused(known, teacher, tmp_path):
    spec = make_spec(teacher, known)
    path = precompute(spec, "logits", teacher, known, tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(KdigError, match="cannot read the cache") as error:
        load_signal(spec, "logits", path, known.labels)
    assert "\n" not in str(error.value)


def test_shuffled_cache_is_caught_by_its_argmax(known, teacher, tmp_path):
    spec = make_spec(teacher, known)
    labels = torch.arange(40) % 4
    clean = np.eye(4, dtype=np.float32)[labels]
    path = precompute(spec, "logits", teacher, known, tmp_path)
    np.save(path, clean)
    path.with_suffix(".json").write_text(json.dumps(spec.stamp("logits") | {"agreement": 1.0}))
    load_signal(spec, "logits", path, labels)
    np.save(path, clean[np.random.default_rng(0).permutation(40)])
    with pytest.raises(KdigError, match="out of order"):
        load_signal(spec, "logits", path, labels)


def test_weak_teacher_is_named_and_used(known, teacher, tmp_path):
    wrong = replace(known, labels=(known.labels + 1) % 4)
    spec = make_spec(teacher, wrong)
    with pytest.warns(
        UserWarning, match=r"the teacher agrees with 0% of the labels.*teacher_epochs"
    ):
        path = precompute(spec, "logits", teacher, wrong, tmp_path)
    assert load_signal(spec, "logits", path, wrong.labels).shape == (40, 4)


def test_wrong_number_of_rows_is_refused(known, teacher, tmp_path):
    spec = make_spec(teacher, known)
    path = precompute(spec, "maps", teacher, known, tmp_path)
    with pytest.raises(KdigError, match="40 rows for 39"):
        load_signal(spec, "maps", path, known.labels[:39])


def test_stamp_names_what_decides_a_signal(known, teacher, tmp_path):
    spec = make_spec(teacher, known)
    path = precompute(spec, "maps", teacher, known, tmp_path)
    stamp = json.loads(path.with_suffix(".json").read_text())
    assert set(stamp) == {
        "kind", "teacher", "data", "image_size", "mean", "std", "pairing", "attribution", "baseline",
        "rule", "steps", "output",
    }  # fmt: skip
    # a setting of the maps does not make logits anew
    assert signal_path(spec, "logits", tmp_path) == signal_path(
        changed(spec, steps=7), "logits", tmp_path
    )


def coordinate_maps(n=40, size=8):
    """A map that holds, at every pixel, a number of its own, so that any misplacement shows."""
    return (torch.arange(n * size * size).view(n, size, size) % 251).float()


def signals_of(split):
    return Signals(torch.eye(40), torch.eye(40)[:, :16], coordinate_maps())


@pytest.mark.parametrize("pairing", ["static", "released", "reshuffled"])
def test_pairing_holds_for_logits_attention_and_maps_together(split, pairing):
    ds = ig_dataset(
        split,
        signals_of(split),
        wanted={"logits", "attention", "maps"},
        probability=1.0,
        padding=1,
        pairing=pairing,
    )
    for epoch in range(3):
        ds.set_epoch(epoch)
        index = torch.arange(40)
        batch = ds.__getitems__(index)
        partner = batch.signals.logits.argmax(1)
        if pairing == "reshuffled":
            assert (partner != index).all()
            assert sorted(partner.tolist()) == index.tolist()
        else:
            assert torch.equal(partner, index)
        assert torch.equal(batch.signals.attention, torch.eye(40)[:, :16][partner])
        maps = coordinate_maps()[partner]
        if pairing != "released":
            maps = crop_flip(maps[:, None], ds.views, 1)[:, 0]
        assert torch.equal(batch.signals.maps, maps)
        expected = overlay(crop_flip(split.images, ds.views, 1) / 255, maps, ds.views.exponent)
        assert torch.allclose(batch.images, expected)


def veil_of(dataset, split):
    """What was laid over every picture: Eq. 6 solved for it."""
    batch = dataset.__getitems__(range(len(split)))
    return 2 * batch.images - crop_flip(split.images, dataset.views, 1) / 255


@pytest.mark.parametrize("overlay", ["map", "unmoved", "other", "phase", "mean", "grey", "mixup"])
def test_overlay_controls_lay_over_what_they_say(split, overlay):
    maps = torch.rand(40, 8, 8, generator=torch.Generator().manual_seed(1)) ** 3
    ds = ig_dataset(
        split,
        Signals(maps=maps),
        wanted={"maps"},
        probability=1.0,
        padding=1,
        overlay=overlay,
        seed=5,
    )
    ds.set_epoch(2)
    other = torch.tensor([int(i) for i in ds.other])
    assert (other != torch.arange(40)).all()

    def moved(pixels):
        return crop_flip(pixels[:, None], ds.views, 1)

    def normalised(pixels):
        return normalise_map(pixels[:, 0], ds.views.exponent)[:, None]

    mean = normalise_map(maps, torch.ones(40)).mean(0).expand(40, 8, 8)
    expected = {
        "map": lambda: normalised(moved(maps)),
        "unmoved": lambda: normalised(maps[:, None]),
        "other": lambda: normalised(moved(maps[other])),
        "phase": lambda: normalised(moved(phase_scrambled(maps, torch.Generator().manual_seed(5)))),
        "mean": lambda: normalised(moved(mean)),
        "grey": lambda: torch.full((40, 1, 8, 8), 0.5),
        "mixup": lambda: crop_flip(split.images[other], ds.views, 1) / 255,
    }[overlay]()
    assert torch.allclose(veil_of(ds, split), expected.expand(40, 3, 8, 8), atol=1e-5)


def test_other_maps_leave_logits_their_own(split):
    ds = ig_dataset(
        split, signals_of(split), wanted={"logits", "maps"}, probability=1.0, overlay="other"
    )
    assert torch.equal(ds.__getitems__(range(40)).signals.logits, torch.eye(40))


def test_reshuffled_partners_change_with_the_epoch(split):
    ds = ig_dataset(split, signals_of(split), wanted={"logits"}, pairing="reshuffled")
    first = ds.partner.clone()
    ds.set_epoch(1)
    assert not torch.equal(first, ds.partner)


def test_same_view_asks_the_teacher_about_the_very_crop(split, teacher):
    spec = make_spec(teacher, split)
    ds = ig_dataset(
        split,
        wanted={"logits", "attention", "maps"},
        probability=0.5,
        padding=1,
        pairing="same_view",
        steps=3,
        teacher=teacher,
        spec=spec,
    )
    batch = ds.__getitems__(range(40))
    crops = crop_flip(split.images, ds.views, 1) / 255
    seen = teacher.observe(crops, "features.4")
    assert torch.allclose(batch.signals.logits, seen.logits, atol=1e-5)
    assert torch.allclose(batch.signals.attention, seen.attention, atol=1e-5)
    chosen = ds.views.chance < 0.5
    maps = teacher.explain(crops, split.labels, ds.settings)
    assert torch.allclose(batch.signals.maps[chosen], maps[chosen], rtol=1e-3, atol=1e-6)
    assert torch.equal(batch.images[~chosen], crops[~chosen])


def test_one_sample_is_the_batch_of_one(split):
    ds = ig_dataset(
        split,
        signals_of(split),
        wanted={"logits", "attention", "maps"},
        probability=0.5,
        padding=1,
        seed=3,
    )
    batch = ds.__getitems__([5, 0, 17])
    for row, index in enumerate([5, 0, 17]):
        one = ds[index]
        assert torch.equal(one.images, batch.images[row])
        assert torch.equal(one.labels, batch.labels[row])
        for a, b in zip(one.signals, batch.signals):
            assert torch.equal(a, b[row])


def test_data_loader_gives_the_same_batches(split):
    ds = ig_dataset(split, signals_of(split), wanted={"maps"}, probability=0.5, padding=1)
    loader = DataLoader(ds, batch_size=16, collate_fn=lambda batch: batch)
    for start, batch in zip(range(0, 40, 16), loader):
        assert torch.equal(batch.images, ds.__getitems__(range(start, min(start + 16, 40))).images)


def test_share_of_overlaid_pictures_is_the_probability():
    big = Split(
        torch.full((4000, 3, 8, 8), 255, dtype=torch.uint8),
        torch.zeros(4000, dtype=torch.long),
        ("x",) * 4000,
    )
    ds = ig_dataset(
        big, Signals(maps=torch.rand(4000, 8, 8)), wanted={"maps"}, probability=0.1, padding=0
    )
    changed = (ds.__getitems__(range(4000)).images != 1).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_methods_with_one_seed_share_order_crops_and_flips(split):
    plain = ig_dataset(split, padding=1, seed=7)
    helped = ig_dataset(
        split, signals_of(split), wanted={"maps"}, probability=0.5, padding=1, seed=7
    )
    assert torch.equal(plain.order, helped.order)
    untouched = helped.views.chance >= 0.5
    assert untouched.any()
    assert torch.equal(
        plain.__getitems__(range(40)).images[untouched],
        helped.__getitems__(range(40)).images[untouched],
    )


def test_pairing_of_maps_that_says_nothing_new_is_dropped():
    """So that one training has one key."""
    apart = SignalSettings(pairing="released", maps_pairing="static")
    assert apart.used({"logits", "maps"}, True) == apart
    assert apart.used({"maps"}, True) == SignalSettings()
    assert apart.used({"logits"}, False) == SignalSettings(pairing="released")
    same = SignalSettings(pairing="released", maps_pairing="released")
    assert same.used({"logits", "maps"}, True) == SignalSettings(pairing="released")
    with pytest.raises(ValidationError, match="goes with pairing 'static' or 'released'"):
        SignalSettings(pairing="same_view", maps_pairing="released")
    with pytest.raises(ValidationError, match="not 'static' with 'reshuffled'"):
        SignalSettings(pairing="reshuffled", maps_pairing="static")


def test_stored_maps_beside_logits_of_the_very_view(split, teacher):
    """Logits are the teacher's of the crop, maps the stored ones, moved with it."""
    maps = Signals(maps=signals_of(split).maps)
    asked = {"probability": 0.5, "padding": 1}
    apart = {"pairing": "same_view", "maps_pairing": "static", "teacher": teacher}
    spec = make_spec(teacher, split)
    mixed = ig_dataset(split, maps, wanted={"logits", "maps"}, spec=spec, **apart, **asked)
    stored = ig_dataset(split, maps, wanted={"maps"}, **asked).__getitems__(range(40))
    found = mixed.__getitems__(range(40))
    assert torch.equal(found.images, stored.images)
    assert torch.equal(found.signals.maps, stored.signals.maps)
    crops = crop_flip(split.images[:40], mixed.views[torch.arange(40)], 1) / 255
    seen = teacher.observe(crops, spec.attention_tap, spec.attention_size).logits
    assert torch.allclose(found.signals.logits, seen, atol=1e-5)


def test_a_lost_file_is_made_again(known, teacher, tmp_path):
    """Deleting the file is what the message of a damaged one advises; its stamp may stay."""
    spec = make_spec(teacher, known)
    path = precompute(spec, "logits", teacher, known, tmp_path)
    whole = path.read_bytes()
    path.unlink()
    assert precompute(spec, "logits", teacher, known, tmp_path).read_bytes() == whole


def test_no_convolution_is_rounded_by_tf32(split, teacher, monkeypatch):
    """Signals, training and scores: 10 bits of TF32 are torch's default for convolutions on a GPU."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []

    def look(module, given):
        if isinstance(module, torch.nn.Conv2d):
            seen.append(torch.backends.cudnn.allow_tf32)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        teacher.observe(split.images / 255, "features.4")
        teacher.explain(split.images[:2] / 255, split.labels[:2], SignalSettings(steps=2))
        net = build("s8", 4, 0.25)
        fit(net, ig_dataset(split), split, DistillationLoss(), Recipe(epochs=1, batch_size=20))
        predict(net, split)
    finally:
        hook.remove()
    assert len(seen) > 50
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"wanted": {"maps"}, "probability": 0.5}, "maps are wanted, but none are given"),
        ({"wanted": {"map"}}, "unknown signal 'map': choose from logits, attention, maps"),
        ({"signals": Signals(maps=torch.rand(39, 8, 8))}, "39 maps are given for 40 images"),
    ],
)
def test_signals_that_do_not_fit_are_refused(split, given, said):
    with pytest.raises(KdigError, match=said):
        IGDataset(split, **given)
