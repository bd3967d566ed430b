"""Folders of image files as people keep them: what is taken for an image of which class, and which
pixels it has.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdig import KdigError
from kdig.core.data import load_dataset
from kdig.core.images import decode, list_images

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def fill(folder: Path, count: int, suffix: str = "png", first: int = 0) -> None:
    """`count` images of noise, 12 pixels a side, none like another."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        pixels = np.random.default_rng([i, *folder.name.encode()]).integers(
            0, 256, (12, 12, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(folder / f"{i:03d}.{suffix}")


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two classes, four training and two test images of each."""
    for name in ("apple", "pear"):
        fill(tmp_path / "pics" / "train" / name, 4)
        fill(tmp_path / "pics" / "test" / name, 2, first=50)
    return tmp_path / "pics"


def load(tree: Path, **options):
    return load_dataset("folder", tree, image_size=12, **options)


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_grey_values_of_16_bits_are_divided_by_256(tmp_path, suffix):
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    if suffix == "pgm":  # older versions of Pillow read this form only
        (tmp_path / "x.pgm").write_bytes(b"P5\n16 16\n65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    pixels = decode([tmp_path / f"x.{suffix}"])[0]
    assert (pixels.numpy() == (values // 256)[None]).all()
    assert len(pixels.unique()) == 256


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_grey_values_of_unknown_range_are_refused(tmp_path, kind, mode):
    Image.fromarray(np.arange(16, dtype=kind).reshape(4, 4)).save(tmp_path / "x.tif")
    with pytest.raises(KdigError, match=rf"x\.tif .*mode {mode}") as error:
        decode([tmp_path / "x.tif"])
    one_line(error)


def test_folders_of_editors_and_systems_are_no_classes_and_hold_no_images(tree, capsys):
    before = load(tree)
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        (tree / "train" / name).mkdir()
        fill(tree / "train" / "apple" / name, 3, first=80)
    fill(tree / "train" / ".ipynb_checkpoints", 1)
    (tree / "train" / "pear" / "._000.png").write_bytes(b"\0\5\x16\7 no image")
    (tree / "train" / "pear" / "Thumbs.db").write_bytes(b"")
    (tree / "test" / "list.csv").write_bytes(b"")
    fill(
        tree / "test" / "pear", 2, "avif", first=90
    ) if ".avif" in Image.registered_extensions() else None
    capsys.readouterr()
    after = load(tree)
    assert (after.classes, after.fingerprint) == (before.classes, before.fingerprint)
    said = capsys.readouterr().out
    assert said.startswith("pics: 2 classes, 8 images in train, 4 in test; passed over: 7 hidden")
    assert "1 .db" in said
    assert "1 .csv" in said


@pytest.mark.parametrize("suffix", ["jfif", "gif", "JPEG"])
def test_common_suffixes_of_readable_files_are_images(tree, suffix):
    fill(tree / "train" / "apple", 1, suffix, first=90)
    assert len(load(tree).train) == 9


def test_a_class_whose_files_are_all_passed_over_is_named_with_the_suffixes(tree):
    for path in (tree / "test" / "pear").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(KdigError, match=r"test: class folder pear has no image.*\.jpg"):
        load(tree)


def test_each_real_folder_is_entered_once(tree, tmp_path):
    before = load(tree)
    apple = tree / "train" / "apple"
    for i, target in enumerate((apple, apple, tree / "train", tree, tree / "train" / "pear")):
        (apple / f"link{i}").symlink_to(target)
    assert load(tree).fingerprint == before.fingerprint
    fill(tmp_path / "elsewhere" / "deep", 3, first=70)
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (apple / "linked").symlink_to(tmp_path / "elsewhere")
    (apple / "twice").symlink_to(tmp_path / "elsewhere")
    assert len(load(tree).train) == 8 + 3


def test_linked_class_folders_and_files_are_images_like_others(tree, tmp_path):
    before = load(tree)
    shutil.move(tree / "train" / "apple", tmp_path / "store")
    (tree / "train" / "apple").symlink_to(tmp_path / "store")
    shutil.move(tree / "test" / "pear" / "050.png", tmp_path / "object")
    (tree / "test" / "pear" / "050.png").symlink_to(tmp_path / "object")
    assert load(tree).fingerprint == before.fingerprint


@pytest.mark.parametrize("cached", [False, True])
def test_broken_link_is_named_in_one_line(tree, tmp_path, cached):
    (tree / "train" / "pear" / "900.png").symlink_to(tmp_path / "not-fetched")
    with pytest.raises(
        KdigError, match=r"900\.png: it is a broken link to .*not-fetched; fetch"
    ) as error:
        load(tree, cache=tmp_path / "cache" if cached else None)
    one_line(error)


def test_image_with_too_many_pixels_is_named_with_the_limit(tree, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    with pytest.raises(
        KdigError, match=r"apple/000\.png: .*144 pixels.*120 pixels; make it smaller"
    ) as error:
        load(tree)
    one_line(error)


BROKEN = {
    "empty": b"",
    "pointer": b"version https://git-lfs",
    "page": b"<html>",
    "cut": b"\x89PNG\r\n\x1a\n\0\0\0\xffIHDR",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_file_that_is_no_image_is_named_in_one_line(tree, content):
    (tree / "train" / "pear" / "900.png").write_bytes(content)
    with pytest.raises(
        KdigError, match=r"cannot decode .*900\.png: .*; replace or remove the file"
    ) as error:
        load(tree)
    one_line(error)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_image_is_turned_as_its_exif_orientation_says(tmp_path, suffix):
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:, :4] = (
        # stored bright at the left; a viewer turns it by 90 degrees and shows it bright at the top
        255
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}", exif=exif)
    shown = decode([tmp_path / f"x.{suffix}"])[0].float().mean(0)
    assert shown[:4].min() > 250
    assert shown[4:].max() < 5


def test_what_is_transparent_is_white(tmp_path):
    alpha = Image.new("RGBA", (2, 1), (*RED, 255))
    alpha.putpixel((1, 0), (*GREEN, 0))
    alpha.save(tmp_path / "alpha.png")
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([*RED, *GREEN])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=1)
    palette.save(tmp_path / "palette.gif", transparency=1)
    Image.fromarray(np.array([[[90, 255], [90, 0]]], dtype=np.uint8), "LA").save(
        tmp_path / "grey.png"
    )
    for name in ("alpha.png", "palette.png", "palette.gif"):
        assert decode([tmp_path / name])[0, :, 0].T.tolist() == [list(RED), list(WHITE)], name
    assert decode([tmp_path / "grey.png"])[0, :, 0].T.tolist() == [[90] * 3, list(WHITE)]


def test_half_transparent_is_mixed_with_white_and_opaque_is_as_it_was(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 4), dtype=np.uint8)
    pixels[:5, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = decode([tmp_path / "x.png"])[0].permute(1, 2, 0).numpy()
    share = pixels[..., 3:] / 255
    assert np.abs(found - (share * pixels[..., :3] + (1 - share) * 255)).max() <= 1
    assert (found[:5] == pixels[:5, :, :3]).all()


def test_digests_are_those_of_the_image_at_its_full_size(tree):
    """The same files are one data set at every size, and two images that only look alike when small
    are two.
    """
    small, large = (
        load_dataset("folder", tree, image_size=8),
        load_dataset("folder", tree, image_size=12),
    )
    assert small.fingerprint == large.fingerprint
    assert small.train.ids == large.train.ids
    victim = tree / "train" / "apple" / "000.png"
    pixels = np.array(Image.open(victim))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(victim)
    assert load_dataset("folder", tree, image_size=1).fingerprint != small.fingerprint


@pytest.mark.parametrize("cached", [False, True])
def test_split_knows_the_file_of_each_image(tree, tmp_path, cached):
    for _ in range(2):  # read, then from the cache
        split = load(tree, cache=tmp_path / "cache" if cached else None).train
        few = split.select(split.labels.nonzero()[:, 0])
        assert [Path(path).parent.name for path in few.files] == ["pear"] * 4
        pixels = [np.array(Image.open(path)).transpose(2, 0, 1) for path in few.files]
        assert (few.images.numpy() == np.stack(pixels)).all()
        assert few.sources() == dict(zip(few.ids, few.files))


def test_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def forbidden(self):
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "train").mkdir()
    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(KdigError, match=r"cannot read the folder .*train: Permission denied"):
        list_images(tmp_path / "train")
