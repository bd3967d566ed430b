"""Test sets and labels of others, made here in their layout."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import settings_of

from kdig import KdigError
from kdig.core.networks import build
from kdig.core.signals import Teacher
from kdig.core.training import predict
from kdig.measure import yardsticks
from kdig.study.tables import alignment

DRAW = np.random.default_rng(0)
LABELS = np.arange(40) % 10
IMAGES = DRAW.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Forty images of each, and a severity of CIFAR-10-C of forty images."""
    monkeypatch.setattr(yardsticks, "_EACH", 40)
    np.save(tmp_path / "cifar10.1_v6_data.npy", IMAGES)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", LABELS.astype(np.int32))
    (tmp_path / "CIFAR-10-C").mkdir()
    np.save(tmp_path / "CIFAR-10-C" / "labels.npy", np.tile(LABELS, 5))
    shaded = np.concatenate([IMAGES // severity for severity in range(1, 6)])
    np.save(tmp_path / "CIFAR-10-C" / "fog.npy", shaded)
    return tmp_path


@pytest.fixture
def with_people(folder, monkeypatch):
    """Nine of ten people name the label, the tenth the class after it, of all but the last image."""
    shares = 0.9 * np.eye(10)[LABELS] + 0.1 * np.eye(10)[(LABELS + 1) % 10]
    shares[-1] = np.eye(10)[LABELS[-1]]
    np.save(folder / "cifar10h-probs.npy", shares)
    tested = SimpleNamespace(data=IMAGES, targets=LABELS.tolist())
    monkeypatch.setattr(yardsticks, "CIFAR10", lambda root, train: tested)
    return folder


def test_each_severity_is_a_set_of_its_own(folder):
    sets = yardsticks.test_sets(folder)
    assert list(sets) == ["CIFAR-10.1", *(f"CIFAR-10-C: fog {n}" for n in range(1, 6))]
    newer, third = sets["CIFAR-10.1"](), sets["CIFAR-10-C: fog 3"]()
    assert torch.equal(newer.images[7], torch.from_numpy(IMAGES[7]).permute(2, 0, 1))
    assert torch.equal(third.images, newer.images // 3)
    assert third.labels.tolist() == newer.labels.tolist() == LABELS.tolist()


def test_people_stand_in_the_order_of_the_archive(with_people):
    split, shares = yardsticks.people(with_people)
    assert split.labels.tolist() == LABELS.tolist()
    assert shares.argmax(1).tolist() == LABELS.tolist()
    np.save(with_people / "cifar10h-probs.npy", np.roll(shares.numpy(), 1, axis=0))
    with pytest.raises(KdigError, match=r"label of 0% of the images.*not in the archive's order"):
        yardsticks.people(with_people)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (
            "cifar10.1_v6_data.npy",
            IMAGES[:, :16],
            "holds 40 x 16 x 32 x 3 values, not 40 x 32 x 32",
        ),
        ("cifar10.1_v6_data.npy", IMAGES / 255, "must hold uint8 images"),
        ("cifar10.1_v6_labels.npy", LABELS + 1, "classes from 0 to 9"),
        ("cifar10.1_v6_labels.npy", b"broken", "cannot read"),
        ("cifar10h-probs.npy", np.ones((40, 9)), "put cifar-10-python.tar.gz or"),
    ],
)
def test_a_file_that_does_not_fit_is_named_in_a_line(folder, file, content, said):
    if isinstance(content, bytes):
        (folder / file).write_bytes(content)
    else:
        np.save(folder / file, content)
    with pytest.raises(KdigError, match=said) as error:
        read_all(folder)
    assert "\n" not in str(error.value)


def read_all(folder: Path) -> None:
    yardsticks.test_sets(folder)["CIFAR-10.1"]()
    yardsticks.people(folder)


def test_a_folder_without_a_yardstick_says_what_is_expected(tmp_path):
    with pytest.raises(KdigError, match=r"no yardstick in .*cifar10.1_v6_data.npy.*CIFAR-10-C"):
        yardsticks.test_sets(tmp_path)
    assert yardsticks.people(tmp_path) is None


def test_second_class_is_that_beside_the_label():
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [1.0, 0.0, 0.0]])
    labels = torch.tensor([0, 2, 0])
    assert yardsticks.other_class(shares, labels).tolist() == [1, 1, -1]
    assert yardsticks.next_of_class(torch.tensor([0, 1, 0, 1, 0])).tolist() == [2, 3, 4, 1, 0]


def test_a_network_that_says_what_people_say_lies_above_the_floor():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(2000) % 10
    shift = torch.randint(1, 10, (2000,), generator=draw)
    shares = 0.8 * torch.eye(10)[labels] + 0.2 * torch.eye(10)[(labels + shift) % 10]
    found = yardsticks.like_people(shares.log().clamp(min=-9), shares, labels)
    assert found["own"].all()
    assert found["floor"].mean() == pytest.approx(1 / 9, abs=0.03)
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    nats = yardsticks.cross_entropy(shares.log().clamp(min=-30), shares)
    assert nats.mean().item() == pytest.approx(entropy, abs=1e-4)
    frame = pd.DataFrame(
        [
            {"network": "a", "kind": kind, "value": value * 1.0}
            for kind, values in (found | {"nats": nats.numpy()}).items()
            for value in values
        ]
    )
    table, facts = alignment.beside_people(frame)
    assert table.low[0] > 80
    assert facts[0]["value"] == pytest.approx(100 * (1 - found["floor"].mean()))
    assert "Of 1 networks 1 name people's second class" in alignment.people_said(table)


@pytest.fixture
def asked(with_people, elsewhere, monkeypatch):
    monkeypatch.setattr("kdig.study.experiments.Experiment.data", lambda self: None)
    return settings_of(
        "11_alignment", dataset="cifar10", yardsticks=str(with_people), test_images=20
    )


def test_networks_are_tried_on_every_set_once(asked, monkeypatch):
    torch.manual_seed(0)
    network = Teacher(build("s8", 10, 0.25), (0.0,) * 3, (1.0,) * 3, network="s8", width=0.25)
    right = asked.on_yardsticks({"a": network})
    assert {name: len(found["a"]) for name, found in right.items()} == {
        "CIFAR-10.1": 40, **{f"CIFAR-10-C: fog {n}": 20 for n in range(1, 6)},
    }  # fmt: skip
    split = yardsticks.test_sets(Path(asked.yardsticks))["CIFAR-10.1"]()
    by_hand = predict(network.model, split).argmax(1) == split.labels
    assert right["CIFAR-10.1"]["a"].tolist() == by_hand.tolist()
    monkeypatch.setattr("kdig.study.beyond.predict", lambda *given, **named: 1 / 0)
    again = asked.on_yardsticks({"a": network})
    assert {k: v["a"].tolist() for k, v in again.items()} == {
        k: v["a"].tolist() for k, v in right.items()
    }
    table, facts = alignment.yardsticks(right)
    assert len(table) == len(facts) == 6
    assert (table.low <= table.accuracy).all()


def test_people_are_asked_about_every_network(asked):
    torch.manual_seed(0)
    network = Teacher(build("s8", 10, 0.25), (0.0,) * 3, (1.0,) * 3, network="s8", width=0.25)
    found = asked.beside_people({"a": network})
    counts = found.groupby("kind").size()
    assert counts["nats"] == 40
    assert counts["own"] == counts["floor"] == 38, "one image has no second class, and one its next"


def test_yardsticks_are_about_cifar10(elsewhere):
    with pytest.raises(KdigError, match="yardsticks are about CIFAR-10's test images"):
        settings_of("11_alignment", yardsticks="somewhere")
