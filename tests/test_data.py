import dataclasses
import hashlib
import os
import pickle
import re
import shutil
import tarfile

import numpy as np
import pytest
import torch
from conftest import SHARED
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from kdig import KdigError
from kdig.core.data import (
    CIFAR10_CLASSES,
    CIFAR10_FINGERPRINT,
    Split,
    _channel_statistics,
    in_both,
    load_dataset,
    mislabelled,
    stratified,
    stratified_rows,
)
from kdig.core.runs import Run


@pytest.fixture
def pictures():
    """Sixty small pictures and labels, as the archive would hold them: fifty to train, ten to test."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8), np.arange(60) % 10


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def archive(tmp_path, pictures, monkeypatch):
    """The original format, packed: five training batches, a test batch, a meta file; torchvision is
    told their checksums.
    """
    images, labels = pictures
    base = tmp_path / "built" / CIFAR10.base_folder
    base.mkdir(parents=True)
    parts = [(f"data_batch_{i + 1}", slice(10 * i, 10 * i + 10)) for i in range(5)] + [
        ("test_batch", slice(50, 60))
    ]
    for name, rows in parts:
        content = {"data": images[rows].reshape(10, -1), "labels": labels[rows].tolist()}
        (base / name).write_bytes(pickle.dumps(content))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10_CLASSES)}))
    root = tmp_path / "archive"
    root.mkdir()
    with tarfile.open(root / CIFAR10.filename, "w:gz") as tar:
        tar.add(base, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5(base / name)] for name, _ in parts[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(base / "test_batch")]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(base / "batches.meta")})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(root / CIFAR10.filename))
    return root


@pytest.fixture
def tree(tmp_path, pictures):
    images, labels = pictures
    root = tmp_path / "tree"
    for i, (image, label) in enumerate(zip(images, labels)):
        folder = root / "cifar10" / ("train" if i < 50 else "test") / CIFAR10_CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(
            folder / f"{97 * i % 60:03d}.png"
        )  # file order is not archive order
    return root


def test_archive_and_tree_give_the_same_data_set(archive, tree):
    one, two = load_dataset("cifar10", archive), load_dataset("cifar10", tree)
    assert one.fingerprint == two.fingerprint
    assert one.classes == two.classes == CIFAR10_CLASSES
    for a, b in ((one.train, two.train), (one.test, two.test)):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert a.ids == b.ids
    assert not one.is_cifar10
    assert "not the published CIFAR-10" in one.label


@pytest.mark.parametrize("part", ["train", "test"])
def test_fingerprint_sees_one_pixel_and_one_label(tree, pictures, part):
    before = load_dataset("cifar10", tree).fingerprint
    victim = next((tree / "cifar10" / part / "cat").iterdir())
    pixels = np.array(Image.open(victim))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(victim)
    changed = load_dataset("cifar10", tree).fingerprint
    assert changed != before
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(victim)
    assert load_dataset("cifar10", tree).fingerprint == before
    other = next((tree / "cifar10" / part / "dog").iterdir())
    cat, dog = victim.read_bytes(), other.read_bytes()
    victim.write_bytes(dog), other.write_bytes(cat)
    assert load_dataset("cifar10", tree).fingerprint != before


def test_cached_pictures_are_the_decoded_ones_and_follow_the_files(tree, tmp_path):
    cache = tmp_path / "cache"
    plain, first, second = (load_dataset("cifar10", tree, cache=c) for c in (None, cache, cache))
    assert len(list(cache.glob("*.pt"))) == 2
    assert torch.equal(plain.train.images, first.train.images)
    assert torch.equal(plain.train.images, second.train.images)
    victim = next((tree / "cifar10" / "train" / "cat").iterdir())
    Image.new("RGB", (32, 32), "red").save(victim)
    assert load_dataset("cifar10", tree, cache=cache).fingerprint != plain.fingerprint


def test_a_cache_is_of_one_size(tree, tmp_path):
    """Or a small copy would be enlarged for a larger size."""
    for size in (8, 12):
        whole = load_dataset("folder", tree / "cifar10", image_size=size).train.images
        cache = tmp_path / "cache"
        kept = load_dataset("folder", tree / "cifar10", image_size=size, cache=cache).train.images
        assert torch.equal(whole, kept)


@pytest.mark.parametrize("other", ["time", "size"])
def test_a_file_that_differs_in_time_or_size_alone_is_read_anew(tree, tmp_path, other):
    victim = next((tree / "cifar10" / "train" / "cat").iterdir())
    Image.new("RGB", (32, 32), "red").save(victim, compress_level=0)
    before = victim.stat()
    fingerprint = load_dataset("cifar10", tree, cache=tmp_path / "cache").fingerprint
    Image.new("RGB", (32, 32), "blue").save(victim, compress_level=0 if other == "time" else 9)
    later = before.st_mtime_ns + 10**9 * (other == "time")
    os.utime(victim, ns=(later, later))
    assert (victim.stat().st_size == before.st_size) == (other == "time")
    assert load_dataset("cifar10", tree, cache=tmp_path / "cache").fingerprint != fingerprint


def test_cifar100_is_read_from_its_archive(tmp_path, monkeypatch):
    """Fine labels, a train and a test file."""
    base, root = tmp_path / "built" / CIFAR100.base_folder, tmp_path / "root"
    base.mkdir(parents=True)
    root.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (300, 3072), dtype=np.uint8)
    labels = [i % 100 for i in range(300)]
    parts = {"train": slice(0, 200), "test": slice(200, 300)}
    for name, rows in parts.items():
        content = {"data": images[rows], "fine_labels": labels[rows]}
        (base / name).write_bytes(pickle.dumps(content))
    names = [f"kind {i}" for i in range(100)]
    (base / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    with tarfile.open(root / CIFAR100.filename, "w:gz") as tar:
        tar.add(base, CIFAR100.base_folder)
    for name in parts:
        monkeypatch.setattr(CIFAR100, f"{name}_list", [[name, md5(base / name)]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5(base / "meta")})
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5(root / CIFAR100.filename))
    read = load_dataset("cifar100", root)
    assert (len(read.train), len(read.test), read.classes[7]) == (200, 100, "kind 7")
    assert read.train.labels.bincount().tolist() == [2] * 100
    assert read.about == "CIFAR-100, 32x32"
    with pytest.raises(KdigError, match=r"no CIFAR-100 in .*cifar100/train/<class>.*cifar-100-pyt"):
        load_dataset("cifar100", tmp_path / "nowhere")


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_a_share_of_labels_is_wrong_and_no_image_is(digits, share):
    wrong = mislabelled(digits.train, share, 10)
    changed = wrong.labels != digits.train.labels
    assert changed.sum() == round(share * len(digits.train))
    assert wrong.labels.unique().tolist() == list(range(10))
    assert torch.equal(wrong.images, digits.train.images)
    more = mislabelled(digits.train, 0.95, 10).labels
    assert torch.equal(more[changed], wrong.labels[changed])
    assert not torch.equal(mislabelled(digits.train, 0.5, 10, seed=1).labels, wrong.labels)


def test_archive_with_wrong_checksum_is_refused_in_one_line(archive):
    (archive / CIFAR10.filename).write_bytes(b"not an archive")
    with pytest.raises(KdigError, match=r"md5.*cyizhuo/CIFAR-10-dataset") as error:
        load_dataset("cifar10", archive)
    assert "\n" not in str(error.value)


def test_host_that_does_not_answer_is_named_with_an_alternative(tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    with pytest.raises(KdigError, match="cyizhuo/CIFAR-10-dataset"):
        load_dataset("cifar10", tmp_path, download=True)
    assert not list(tmp_path.glob("*.tar.gz"))


def test_broken_archive_beside_a_good_tree_is_passed_over(archive, tree, capsys, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    wanted = load_dataset("cifar10", tree).fingerprint
    (archive / "cifar10").symlink_to(tree / "cifar10")
    (archive / CIFAR10.filename).write_bytes(b"broken off")
    capsys.readouterr()
    assert (
        load_dataset("cifar10", archive, download=True).fingerprint == wanted
    )  # and nothing is fetched
    said = capsys.readouterr().out
    assert f"passed over, as there is a class-folder tree: CIFAR-10 archive in {archive}" in said
    assert f"{archive / CIFAR10.filename} is damaged or incomplete: delete it" in said


def test_half_unpacked_archive_is_named_and_is_to_be_deleted(archive, tree):
    load_dataset("cifar10", archive)  # unpacks
    half = archive / CIFAR10.base_folder
    (half / "data_batch_3").unlink()
    (archive / CIFAR10.filename).unlink()
    with pytest.raises(
        KdigError, match=rf"{half} is damaged or incomplete: delete it.*cyizhuo"
    ) as error:
        load_dataset("cifar10", archive)
    assert "\n" not in str(error.value)
    assert "download=True" not in str(error.value)
    (archive / "cifar10").symlink_to(tree / "cifar10")
    assert len(load_dataset("cifar10", archive).train) == 50


def test_missing_folder_says_what_is_expected_and_how_to_get_it(tmp_path):
    with pytest.raises(
        KdigError, match=r"cifar10/train/<class>.*cifar-10-python.tar.gz.*cyizhuo"
    ) as error:
        load_dataset("cifar10", tmp_path / "nowhere")
    assert "\n" not in str(error.value)


def test_picture_that_cannot_be_decoded_is_named(tree):
    victim = next((tree / "cifar10" / "train" / "cat").iterdir())
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(KdigError, match=victim.name):
        load_dataset("cifar10", tree)


def test_empty_class_is_named(tree):
    (tree / "cifar10" / "train" / "zebra").mkdir()
    with pytest.raises(KdigError, match="zebra"):
        load_dataset("cifar10", tree)


def test_class_in_one_part_only_is_named(tree):
    (tree / "cifar10" / "test" / "truck").rename(tree / "cifar10" / "test" / "lorry")
    with pytest.raises(KdigError, match="lorry, truck"):
        load_dataset("cifar10", tree)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(KdigError, match="digits, cifar10, cifar100, folder"):
        load_dataset("mnist")


def test_any_folder_of_pictures_is_resized(tmp_path):
    for part in ("train", "test"):
        for k, name in enumerate(("a", "b")):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (50 + 10 * k, 40), (100 * k, 0, 0)).save(
                tmp_path / part / name / "x.jpg"
            )
    data = load_dataset("folder", tmp_path, image_size=16)
    assert data.train.images.shape == (2, 3, 16, 16)
    assert data.classes == ("a", "b")


def test_digits_are_split_without_overlap(digits):
    assert len(digits.train) == 1198
    assert len(digits.test) == 599
    shared = set(digits.train.ids) & set(digits.test.ids)
    pixels = {image.numpy().tobytes() for image in digits.train.images}
    assert not shared
    assert not any(image.numpy().tobytes() in pixels for image in digits.test.images)


def test_channel_statistics_are_mean_and_standard_deviation(split):
    mean, std = _channel_statistics(split.images)
    scaled = split.images.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist())


def test_channel_of_one_value_is_divided_by_one():
    images = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    images[:, 1] = torch.arange(16, dtype=torch.uint8).view(4, 4)
    images[:, 2] = 77
    mean, std = _channel_statistics(images)
    assert mean == pytest.approx((0, 7.5 / 255, 77 / 255))
    assert std == pytest.approx((1, np.arange(16).std() / 255, 1))


def test_class_with_one_image_is_named_when_a_part_is_drawn(split):
    def few(labels):
        return Split(
            split.images[:8],
            torch.tensor(labels),
            split.ids[:8],
            classes=("ham", "egg", "oil", "cheese"),
        )

    one, two = few([0, 1, 0, 0, 1, 3, 0, 1]), few([0, 1, 0, 0, 1, 3, 0, 2])
    for draw in (stratified, stratified_rows):
        with pytest.raises(
            KdigError, match="train_images: class cheese has one image among 8: two are needed"
        ) as error:
            draw(one, 5, name="train_images")
        assert "\n" not in str(error.value)
    with pytest.raises(KdigError, match="share: classes oil, cheese have one image among 8"):
        stratified_rows(two, 6, name="share")
    with pytest.raises(KdigError, match="class 3 has one image"):
        stratified(dataclasses.replace(one, classes=()), 5)
    assert stratified(one, None) is one


def test_class_with_one_image_is_named_by_a_run(tmp_path, workspace):
    """In the profile's words: the parameter and the class's folder."""
    for part, name, count in (
        ("train", "ham", 6),
        ("train", "cheese", 1),
        ("test", "ham", 2),
        ("test", "cheese", 2),
    ):
        (tmp_path / part / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (40 * i, 99 * (part == "test"), 0)).save(
                tmp_path / part / name / f"{i}.png"
            )
    place = dataclasses.replace(workspace, root=tmp_path)
    common = {"dataset": "folder", "image_size": 8, "data": place.dataset("folder", 8).fingerprint}
    wanted = "class cheese has one image among 7"
    for name, run in {
        "train_images": Run(**common, train_images=5),
        "teacher_train_images": Run(**common, train_images=5, role="teacher"),
        "share": Run(**common, share=0.8),
    }.items():
        with pytest.raises(KdigError, match=f"^{name}: {wanted}"):
            place.pictures(run)


def test_image_that_is_trained_on_and_scored_is_named_by_both_files(tree, tmp_path, workspace):
    root = tree / "cifar10"
    for i, victim in enumerate(sorted(root.glob("test/*/*.png"))[:7]):
        shutil.copy(victim, root / "train" / victim.parent.name / f"copy{i}.png")
    place = dataclasses.replace(workspace, root=tree)
    run = Run(dataset="cifar10", data=place.dataset("cifar10", 32).fingerprint)
    with pytest.raises(
        KdigError, match="7 images are trained on and scored as well: remove one of each"
    ) as error:
        place.pictures(run)
    text = str(error.value)
    assert "\n" not in text
    assert len(re.findall(r"(\S+)/train/(\w+)/copy\d\.png and \1/test/\2/\d+\.png", text)) == 5


def test_image_without_a_file_is_named_by_its_id(digits):
    twice = digits.train.select(torch.tensor([3, 4]))
    assert in_both(digits.train, twice) == sorted(twice.ids)
    assert in_both(digits.train, digits.test) == []


def test_stratified_draw_keeps_proportions_and_depends_on_the_seed(digits):
    a, b, c = (
        stratified(digits.train, 100, 0),
        stratified(digits.train, 100, 0),
        stratified(digits.train, 100, 1),
    )
    assert a.ids == b.ids != c.ids
    assert a.labels.bincount().tolist() == pytest.approx([10] * 10, abs=1)
    with pytest.raises(KdigError, match="10 to 1188, or all"):
        stratified(digits.train, 5000)


@pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="the exact CIFAR-10 pictures are not on this machine"
)
def test_the_published_pictures_are_recognised(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar10")
    for path in sorted((SHARED / "data").glob("cifar10-*.tar.gz")):
        with tarfile.open(path) as tar:
            tar.extractall(root, filter="data")
    data = load_dataset("cifar10", root)
    assert (len(data.train), len(data.test)) == (50_000, 10_000)
    assert data.fingerprint == CIFAR10_FINGERPRINT
    assert data.label.startswith("CIFAR-10 (exact)")
    assert data.mean == pytest.approx(
        (0.4914, 0.4822, 0.4465), abs=1e-4
    )  # the constants of the released code


def test_a_draw_that_leaves_out_a_class_is_refused():
    """In proportion, 20 of 998 and 2 images hold none of the second class."""
    labels = torch.tensor([0] * 998 + [1] * 2)
    split = Split(
        torch.zeros(1000, 3, 1, 1, dtype=torch.uint8), labels, tuple(map(str, range(1000)))
    )
    with pytest.raises(KdigError, match="20 of 1000 images are too few to hold one of class 1"):
        stratified(split, 20)
