"""Pictures from another source: which class a wnid is, both formats, how pictures are reduced, and
the scores on them.
"""

import os
import pickle
import tarfile

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SHARED
from helpers import settings_of
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from kdig import KdigError
from kdig.core.data import CIFAR10_CLASSES
from kdig.core.networks import build
from kdig.core.training import predict
from kdig.measure import stats
from kdig.paper import published
from kdig.paper.imagenet import Source, class_of, keep_correct, load_subset, stand_in

# ImageNet's order (wnid sorted) puts these the other way round than the archive's list does
ARCHIVE_ORDER = ["n02110185", "n03126707", "n02012849", "n02690373", "n01440764"]


def picture(path, size=(48, 64), colour=(10, 20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), colour, dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture
def tree(tmp_path):
    """Two aeroplanes, a crane (the bird), and what must not be taken: a crane (the machine), a
    class outside the table, a text.
    """
    for i in range(2):
        picture(tmp_path / "val" / "n02690373" / f"{i}.JPEG", colour=(200, 10 * i, 0))
    picture(tmp_path / "val" / "n02012849" / "a.JPEG")
    picture(tmp_path / "val" / "n03126707" / "a.JPEG")
    picture(tmp_path / "val" / "n01440764" / "a.JPEG")
    (tmp_path / "val" / "n02690373" / "notes.txt").write_text("not a picture")
    return tmp_path


@pytest.fixture
def archive(tmp_path):
    """Ten pictures, two of each of five classes, whose first channel is 10 times the label.

    The archive's list of classes.
    """
    labels = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    data = np.zeros((10, 3, 32, 32), dtype=np.uint8)
    data[:, 0] = 10 * np.array(labels)[:, None, None]
    data[5:, 2] = 7
    (tmp_path / "val_data").write_bytes(
        pickle.dumps({"data": data.reshape(10, -1), "labels": labels})
    )
    lines = [f"{wnid} {number} name_{number}" for number, wnid in enumerate(ARCHIVE_ORDER, 1)]
    (tmp_path / "map_clsloc.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_classes_by_wnid_give_the_totals_of_s14():
    counts = np.bincount(list(class_of().values()), minlength=10)
    totals = published("s14_teacher_imagenet").query("cifar_class != 'total'").total
    assert (50 * counts == totals.to_numpy()).all()
    assert len(class_of()) == 105


def test_ambiguous_names_are_settled_by_wnid():
    names = published("s13_ambiguous_names")
    table = published("s13_class_mapping").set_index("wnid")
    assert (
        table.loc[names.wnid, "imagenet_class_name"].to_numpy() == names.printed.to_numpy()
    ).all()
    assert not set(names.alternative_wnid.dropna()) & set(class_of())
    assert class_of()["n02012849"] == CIFAR10_CLASSES.index("bird")
    assert {class_of()[wnid] for wnid in ("n02930766", "n04465501", "n03895866")} == {
        CIFAR10_CLASSES.index("automobile")
    }


def test_tree_gives_the_classes_of_the_table_only(tree):
    for root in (tree, tree / "val"):
        source = load_subset(root)
        assert source.names == ("n02012849", "n02690373", "n02690373")
        assert source.pictures.labels.tolist() == [2, 0, 0]
        assert source.pictures.images.shape == (3, 3, 32, 32)
        assert source.pictures.images.dtype == torch.uint8
        assert (len(source.missing), source.genuine, source.complete) == (103, True, False)
        assert "3 pictures of 2 of 105 classes (full-size pictures, crop" in source.about
    assert load_subset(tree, 16).pictures.images.shape == (3, 3, 16, 16)
    assert load_subset(tree, 16).pictures.ids == load_subset(tree, 32).pictures.ids


def test_crop_keeps_shapes_and_squash_keeps_the_sides(tmp_path):
    """A wide picture with a red border on the left: cropping loses it, squashing keeps it and
    halves its width.
    """
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, :24, 0] = 255
    folder = tmp_path / "n02690373"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "wide.png")
    crop, squash = (load_subset(tmp_path, how=how).pictures.images[0] for how in ("crop", "squash"))
    assert crop.max() == 0
    assert (squash[0, :, :5] == 255).all()
    assert (squash[0, :, 8:] == 0).all()


def test_archive_labels_follow_its_own_list(archive):
    """By torchvision's order the machine would be a bird; label 3 is the bird here."""
    source = load_subset(archive)
    assert source.names == ("n02012849",) * 2 + ("n02110185",) * 2 + ("n02690373",) * 2
    assert source.pictures.labels.tolist() == [2, 2, 5, 5, 0, 0]
    assert source.pictures.images[:, 0, 0, 0].tolist() == [30, 30, 10, 10, 40, 40]
    assert sorted(source.pictures.images[:2, 2, 0, 0].tolist()) == [0, 7]
    assert "official 32 x 32 archive" in source.about


def untrained(favourite, seed):
    """A network of the paper's kind that answers `favourite` for nearly every picture, and by its
    random weights otherwise.
    """
    torch.manual_seed(seed)
    net = build("s8", 10, 0.25)
    net.classifier[1].bias.data[favourite] += 5.0
    return net


@pytest.mark.filterwarnings(
    "ignore:A single label", "ignore:.*only one label"
)  # one class is kept: kappa is nan
def test_archive_goes_through_to_table_6(archive):
    """Two birds, two dogs, two aeroplanes: a teacher that says bird keeps the birds; students that
    say bird, and dog.
    """
    source = load_subset(archive)
    answers = predict(untrained(2, seed=0), source.pictures).argmax(1).numpy()
    assert answers.tolist() == [2] * 6
    assert stats.scores(source.pictures.labels.numpy(), answers) == pytest.approx(
        {"raw": 100 / 3, "balanced": 100 / 3, "kappa": 0}
    )
    kept = keep_correct(source, answers)
    assert kept.names == ("n02012849",) * 2
    labels, rows = kept.pictures.labels.numpy(), []
    for method, favourites in {"student": (2, 2, 5), "kd": (2, 2, 2)}.items():
        for seed, favourite in enumerate(favourites):
            answers = predict(untrained(favourite, seed), kept.pictures).argmax(1).numpy()
            rows.append({"method": method, "seed": seed, **stats.scores(labels, answers)})
    table = stats.summarise(pd.DataFrame(rows), "method", "balanced").set_index("method")
    assert table["mean"].to_dict() == pytest.approx({"student": 200 / 3, "kd": 100})
    assert table.n.tolist() == [3, 3]
    low, high = stats.prediction_interval(
        [row["balanced"] for row in rows if row["method"] == "student"]
    )
    assert low < 0 < 100 < high  # three networks say little about a fourth


def test_order_does_not_depend_on_the_order_in_the_archive(archive):
    before = load_subset(archive)
    content = pickle.loads((archive / "val_data").read_bytes())
    turned = {"data": content["data"][::-1], "labels": content["labels"][::-1]}
    (archive / "val_data").write_bytes(pickle.dumps(turned))
    assert torch.equal(load_subset(archive).pictures.images, before.pictures.images)


def message(root):
    with pytest.raises(KdigError) as error:
        load_subset(root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_and_unreadable_things_are_named_in_one_line(tree, tmp_path):
    assert "expected val/<wnid>/*.JPEG" in message(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no picture of the 105 classes" in message(tmp_path / "empty")
    broken = tree / "val" / "n02690373" / "1.JPEG"
    broken.write_bytes(broken.read_bytes()[:200])
    assert str(broken) in message(tree)


def test_archive_without_its_list_or_with_other_content_is_refused(archive):
    order = (archive / "map_clsloc.txt").read_text()
    (archive / "map_clsloc.txt").unlink()
    assert "map_clsloc.txt: the archive's labels" in message(archive)
    (archive / "map_clsloc.txt").write_text("kit_fox\n")
    assert "must be 'wnid number name'" in message(archive)
    (archive / "map_clsloc.txt").write_text(order.splitlines()[0])
    assert "cannot read" in message(archive)
    (archive / "map_clsloc.txt").write_text(order)
    (archive / "val_data").write_bytes(
        pickle.dumps({"data": np.zeros((2, 12288), np.uint8), "labels": [1, 2]})
    )
    assert "uint8 (N, 3072)" in message(archive)
    (archive / "val_data").write_bytes(b"not a pickle")
    assert "cannot read" in message(archive)


def test_a_pickle_that_would_call_something_is_refused(archive, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    (archive / "val_data").write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    assert "mkdir, not only arrays" in message(archive)
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(
    not (SHARED / "data" / "imagenet-sample.tar.xz").exists(),
    reason=f"no {SHARED / 'data'}: set KDIG_SHARED",
)
def test_sample_of_one_real_picture_a_class(tmp_path):
    with tarfile.open(SHARED / "data" / "imagenet-sample.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    source = load_subset(tmp_path / "imagenet-sample")
    assert (len(source), source.missing, len(set(source.names)), source.complete) == (
        105,
        (),
        105,
        False,
    )
    totals = published("s14_teacher_imagenet").query("cifar_class != 'total'").total
    assert (50 * np.bincount(source.pictures.labels, minlength=10) == totals.to_numpy()).all()
    mean = source.pictures.images.double().mean((0, 2, 3)) / 255
    assert ((mean > 0.3) & (mean < 0.6)).all()


def test_stand_in_is_changed_unbalanced_and_labelled(digits):
    source = stand_in(digits.test, digits.classes)
    labels, before = source.pictures.labels, digits.test
    counts = torch.bincount(labels, minlength=10)
    assert (counts[4], counts[7]) == (0, 0)
    assert counts[2] == (before.labels == 2).sum()
    assert counts[1] == ((before.labels == 1).sum() + 1) // 2
    rows = [before.ids.index(i) for i in source.pictures.ids]
    assert torch.equal(before.labels[rows], labels)
    assert (source.pictures.images.float() - before.images[rows].float()).abs().mean() > 5
    assert not source.genuine
    assert "stand-in" in source.about
    assert torch.equal(
        stand_in(digits.test, digits.classes).pictures.images, source.pictures.images
    )


def test_teacher_filter_keeps_what_the_teacher_gets_right(split):
    source = Source(split, tuple(f"w{i}" for i in range(40)), "", True)
    predicted = split.labels.numpy().copy()
    predicted[[0, 5]] = 3 - predicted[[0, 5]]
    kept = keep_correct(source, predicted)
    assert len(kept) == 38
    assert not {"w0", "w5"} & set(kept.names)
    assert kept.pictures.ids[0] == split.ids[1]
    with pytest.raises(KdigError, match="none of 40"):
        keep_correct(source, predicted * 0 + 9)


def test_parameters_give_the_ablations_runs_and_check_the_classes(tmp_path, monkeypatch, digits):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    settings, ablation = (
        settings_of(notebook, image_size=8) for notebook in ("07_imagenet_subset", "04_ablation")
    )
    assert {run.key for run in settings.runs("abc")} <= {run.key for run in ablation.runs("abc")}
    assert not settings.source().genuine
    with pytest.raises(KdigError, match="the classes are 0, 1, 2"):
        settings_of("07_imagenet_subset", image_size=8, subset_root=str(tmp_path)).source()
    with pytest.raises(KdigError, match="resize"):
        settings_of("07_imagenet_subset", resize="stretch")


# rows: labels 0, 0, 0, 0, 2, 2; predicted as below: 3 of 4 and 1 of 2 right
LABELS, PREDICTED = np.array([0, 0, 0, 0, 2, 2]), np.array([0, 0, 0, 1, 2, 0])


def test_scores_by_hand():
    score = stats.scores(LABELS, PREDICTED)
    chance = (4 * 4 + 0 * 1 + 2 * 1) / 36  # label counts 4, 0, 2; predicted counts 4, 1, 1
    assert score["raw"] == pytest.approx(100 * 4 / 6)
    assert score["balanced"] == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    assert score["kappa"] == pytest.approx((4 / 6 - chance) / (1 - chance))
    with pytest.warns(UserWarning, match="not in y_true"):
        assert score["balanced"] == pytest.approx(100 * balanced_accuracy_score(LABELS, PREDICTED))


def test_table_by_class_leaves_empty_classes_undefined():
    table = stats.accuracy_by_class(LABELS, PREDICTED, ["a", "b", "c"]).set_index("class")
    assert table.correct.tolist() == [3, 0, 1, 4]
    assert table.pictures.tolist() == [4, 0, 2, 6]
    assert table.accuracy.drop("b").tolist() == pytest.approx([75, 50, 100 * 4 / 6])
    assert table.loc["b", ["accuracy", "low", "high"]].isna().all()
    assert table.loc["total", ["low", "high"]].tolist() == pytest.approx(
        [30.0, 90.3], abs=0.1
    )  # Wilson, 4 of 6


def test_interval_over_pictures_is_that_of_the_binomial_and_narrows():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [900, 100])
    right = np.where(labels == 0, rng.permutation(1000) < 800, rng.permutation(1000) < 500).astype(
        float
    )
    low, high = stats.picture_interval(labels, right)
    shares = [right[labels == c].mean() for c in (0, 1)]
    se = 100 * np.sqrt(
        sum(w**2 * s * (1 - s) / n for w, s, n in zip((0.9, 0.1), shares, (900, 100)))
    )
    assert (high - low) / 2 == pytest.approx(1.96 * se, rel=0.1)
    balanced = stats.picture_interval(labels, right, balanced=True)
    assert balanced[1] - balanced[0] > high - low
    assert np.mean(balanced) == pytest.approx(50 * sum(shares), abs=1)


def test_mcnemar_by_hand():
    """Six pictures only the method gets right, one only the student: two-sided binomial p = 2 (1 +
    7) / 2^7.
    """
    student = np.array([0] * 6 + [1] + [1] * 13, dtype=bool)
    method = np.array([1] * 6 + [0] + [1] * 13, dtype=bool)
    row = stats.paired_outcomes(
        {"student": student, "kd": method, "same": student.copy()}, "student"
    ).set_index("method")
    assert row.loc["kd", ["only_this", "only_baseline", "n"]].tolist() == [6, 1, 20]
    assert row.loc["kd", "p"] == pytest.approx(2 * 8 / 2**7)
    assert row.loc["kd", "difference"] == pytest.approx(25.0)
    assert row.loc["kd", "p_holm"] == pytest.approx(4 * 8 / 2**7)
    assert row.loc["same", "p"] == 1.0
    assert row.loc["same", ["low", "high"]].tolist() == [0, 0]
