"""Three faults, each planted on purpose, each caught: a shuffled cache, a map that is not cropped,
a test picture in training.
"""

import dataclasses

import numpy as np
import pytest
import torch
from specs import ig_dataset

import kdig.core.store
from kdig import KdigError
from kdig.core.data import Split
from kdig.core.runs import execute
from kdig.core.signals import Signals, signal_path
from kdig.core.train import prepare, signal_spec, train


@pytest.fixture
def taught(make_run, workspace):
    """A run of each kind of signal, their caches computed."""
    recipe = {"epochs": 10, "learning_rate": 1e-2, "schedule": "onecycle", "normalise": True}
    teacher = train(make_run(level=0, train_images=None, recipe=recipe), workspace)
    changes = {"logits": {"alpha": 0.5}, "attention": {"gamma": 0.8}, "maps": {"probability": 0.5}}
    made = {
        kind: make_run(teacher=teacher.weights, temperature=2.0, **change)
        for kind, change in changes.items()
    }
    prepare(made.values(), workspace, 1)
    return made


@pytest.mark.parametrize("kind", ["logits", "attention", "maps"])
def test_shuffled_cache_stops_the_runs_that_need_it(kind, taught, workspace):
    run = taught[kind]
    pool, teacher = workspace.pool(run), workspace.load_weights(run.teacher)
    path = signal_path(signal_spec(run, teacher, pool), kind, workspace.signals)
    values = np.load(path)
    np.save(path, values[np.random.default_rng(0).permutation(len(values))])
    with pytest.raises(KdigError, match=r"out of order.*delete it"):
        execute([run], workspace)
    assert workspace.result(run) is None
    np.save(path, values)
    assert execute([run], workspace)[0].run == run


def placed_alike(**settings) -> float:
    """Share of pictures whose map lies where they do: pictures that are bright in one spot,
    overlaid with maps of that spot.
    """
    maps = torch.zeros(40, 8, 8)
    maps[torch.arange(40), torch.arange(40) % 8, torch.arange(40) // 8 + 1] = 1.0
    split = Split(
        (255 * maps).to(torch.uint8)[:, None].expand(-1, 3, -1, -1),
        torch.zeros(40, dtype=torch.int64),
        ("",) * 40,
    )
    dataset = ig_dataset(
        split, Signals(maps=maps), wanted={"maps"}, probability=1.0, padding=2, **settings
    )
    dataset.set_epoch(1)
    seen = dataset.__getitems__(torch.arange(40)).images[:, 0]
    inside = seen.flatten(1).amax(1) > 0  # some spots are cropped away
    return (seen[inside].flatten(1).amax(1) == 1.0).float().mean().item()


def test_map_that_is_not_cropped_with_its_picture_is_seen():
    assert placed_alike() == 1.0
    assert placed_alike(overlay="unmoved") < 0.5
    assert placed_alike(pairing="released") < 0.5


def test_test_picture_among_the_training_pictures_stops_the_run(make_run, workspace, monkeypatch):
    whole = kdig.core.store._dataset

    def leaking(*arguments):
        data = whole(*arguments)
        rows = torch.arange(5)
        parts = (
            torch.cat([data.train.images, data.test.images[rows]]),
            torch.cat([data.train.labels, data.test.labels[rows]]),
        )
        return dataclasses.replace(data, train=Split(*parts, (*data.train.ids, *data.test.ids[:5])))

    monkeypatch.setattr(kdig.core.store, "_dataset", leaking)
    run = make_run(train_images=None, level=8)
    run = run.model_copy(
        update={"data": leaking("digits", workspace.root, 8, workspace.folder, False).fingerprint}
    )
    with pytest.raises(KdigError, match=r"5 images are trained on and scored"):
        train(run, workspace)
    assert workspace.result(run) is None
