"""From a folder of images to files that are used without this package."""

import ast
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import settings_of
from PIL import Image, ImageOps
from torchvision.models import mobilenet_v2 as torchvisions
from torchvision.models import resnet18, resnet50

from kdig import KdigError
from kdig.core.data import load_dataset
from kdig.core.images import decode
from kdig.core.networks import NETWORKS, build, count_parameters, for_size
from kdig.measure import stats
from kdig.study import compress, your_images
from kdig.study.settings import outputs_of
from kdig.study.your_images import YourImages

# networks of two epochs teach nothing, and are said to
pytestmark = pytest.mark.filterwarnings("ignore:the teacher agrees")
CLASSES = {"rouge é": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


def write(folder: Path, counts=(14, 12, 10), size=(20, 14)) -> Path:
    """Coloured noise, each class with its colour."""
    draw = np.random.default_rng(0)
    for (name, colour), count in zip(CLASSES.items(), counts):
        for i in range(count):
            pixels = np.array(colour) + draw.integers(-20, 20, size=(*size, 3))
            path = folder / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Small networks and short windows."""
    few = {"teacher_network": "s8", "window_seconds": 0.01, "windows": 3, "calibration_images": 10}
    monkeypatch.setattr(compress, "DEFAULTS", {**compress.DEFAULTS, **few, "steps": 2})
    monkeypatch.setenv("KDIG_OUTPUTS", "set by the command")


def command(images, out, *more):
    given = ["--data", str(images), "--out", str(out), "--size", "16", "--network", "s8"]
    small = ["--width", "0.25", "--epochs", "2", "--teacher-epochs", "2", "--seeds", "2"]
    return compress.main([*given, *small, "--workers", "1", *more])


def test_folder_becomes_files_that_need_neither_torch_nor_this_package(tmp_path, quick, capsys):
    images, out = write(tmp_path / "images"), tmp_path / "small" / "small.onnx"
    assert command(images, out, "--licence", "mine") == 0
    said = capsys.readouterr().out
    assert "a fifth of each class is kept for testing (29 to train on, 7 to test)" in said
    assert "7 networks to train, about" in said
    assert "Take " in said
    card = json.loads((out.parent / "small-card.json").read_text(encoding="utf-8"))
    assert card["classes"] == sorted(CLASSES)
    assert card["licence"] == "mine"
    assert card["test_images"] == 7
    assert {row["file"] for row in card["files"]} == {"small.onnx", "small-int8.onnx"}
    assert sum(images for _, images in card["by_class"].values()) == 7
    assert card["seed"] == 0
    listed = pd.read_csv(out.parent / card["calibration"])
    assert listed.file.str.match(f"({'|'.join(CLASSES)})/").all()
    assert len(listed) == 10
    train = load_dataset("folder", images, 16).train
    assert set(listed.id) <= set(train.ids)
    for name in ("small.onnx", "small-int8.onnx"):
        assert used(out.parent, images / "green" / "0.png", name) in CLASSES
    (
        out.parent / "README.md"
    ).unlink()  # as a command that was killed before its last file leaves it
    assert command(images, out) == 0
    assert "0 networks to train" in capsys.readouterr().out, "what is finished is kept"


def test_classes_that_are_least_often_right_are_named():
    table = stats.accuracy_by_class(
        np.array([0] * 12 + [1, 2]), np.array([0] * 14), ["a", "b", "c"]
    )
    said = your_images.said_classes(table)
    assert said == (
        "Least often right, by class: b (0 of 1), c (0 of 1) test images. 2 of 3 classes have fewer"
        " than 10 test images: little is known of them."
    )
    assert your_images.said_classes(table.iloc[[0, 3]]).endswith("a (12 of 12) test images.")


def test_size_and_accuracy_are_compared_with_the_teachers():
    rows = {"parameters": [400, 100], "mmacs": [10.0, 4.0], "accuracy": [90.0, 85.0]}
    said = your_images.said_beside(pd.DataFrame({"role": ["teacher", "student"], **rows}))
    assert "4.0 times fewer parameters" in said
    assert "2.5 times fewer multiply-accumulates. 85.0 %" in said


def test_example_alone_has_the_examples_licence(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    of = [settings_of("14_your_images", **given).stated_licence
          for given in ({}, {"root": "mine"}, {"root": "mine", "licence": "CC0"})]  # fmt: skip
    assert of == [your_images.EXAMPLES_LICENCE, your_images.NO_LICENCE, "CC0"]


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_script_shows_the_network_what_it_was_trained_on(alpha, tmp_path):
    """A transparent image lies over white, and the middle of an oblong one is cut out."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 24, 4), np.uint8)
    pixels[..., 3] = alpha
    Image.fromarray(pixels).save(tmp_path / "one.png")
    script = your_images.SCRIPT.format(file="none.onnx")
    lines = script.partition("map\n")[2].partition("pixels")[0]
    names = {"Image": Image, "ImageOps": ImageOps, "said": {"size": "16"}}
    names["sys"] = SimpleNamespace(argv=["use.py", str(tmp_path / "one.png")])
    exec(lines, names)
    theirs = decode([tmp_path / "one.png"], 16)[0].permute(1, 2, 0).numpy()
    assert (np.asarray(names["image"]) == theirs).all()


def used(folder: Path, image: Path, name: str) -> str:
    """What the README's script prints, where torch and kdig cannot be imported."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    script = text.split("```python\n")[1].split("```")[0].replace("small.onnx", name)
    assert len(script.splitlines()) <= 17
    blocked = "import sys; sys.modules.update(torch=None, kdig=None, torchvision=None)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", blocked + script, str(image)],
        cwd=folder, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "nobody is told of things that they cannot change"
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--data", "nowhere"], "--data nowhere: there is no such folder"),
        (["--out", "x.txt"], "x.txt: give the name of a file that ends in .onnx"),
        (["--network", "s9"], "unknown network 's9'"),
        (["--size", "96", "--network", "s8"], "s8 has no form for images of 96 pixels"),
        (["--teacher", "none.pt"], "none.pt"),
        (["--out", "images/red/s.onnx"], "lies in the folder of the images"),
        (["--out", "images/work/s.onnx"], "lies in the folder of the images"),
        (["--out", f"{'n' * 300}.onnx"], "cannot write there (File name too long)"),
        (["--out", "images.onnx/s.onnx"], "cannot write there (File exists)"),
        (["--out", "taken.onnx"], "taken.onnx is not kdig's"),
    ],
)
def test_bad_command_ends_in_one_line(change, said, tmp_path, quick, capsys, monkeypatch):
    """Before anything is trained, and with nothing written."""
    monkeypatch.setattr(YourImages, "teacher", lambda self: self._given())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images.onnx").write_text("a file where a folder is asked for")
    (tmp_path / "taken.onnx").mkdir()
    assert command(write(tmp_path / "images"), tmp_path / "s" / "s.onnx", *change) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("s.onnx"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--seeds", "1"], "--seeds: '1' is not possible: give a whole number, 2 or more"),
        (["--size", "4"], "--size: '4' is not possible: give a whole number, from 8 to 256"),
        (["--size", "32.5"], "a whole number, from 8 to 256"),
        (["--width", "1e9"], "--width: '1e9' is not possible: give a number, from 0.05 to 16"),
        (["--width", "nan"], "a number, from 0.05 to 16"),
        (["--epochs", "many"], "a whole number, 1 or more"),
        (["--epoch", "0"], "a whole number, 1 or more"),
        (["--colour"], "unrecognized arguments: --colour (--help lists all options)"),
    ],
)
def test_options_that_are_not_possible_end_in_one_line(change, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        command(tmp_path, tmp_path / "s" / "s.onnx", *change)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "green" / "0.png").write_bytes(b"x"), "cannot decode"),
        (lambda folder: (folder / "empty").mkdir(), "class folder empty has no image"),
        (lambda folder: [p.unlink() for p in (folder / "blue").glob("[1-9].png")], "blue has one image"),
        (lambda folder: [p.unlink() for p in (folder / "blue").glob("[2-9].png")], "of class blue no image is left for testing"),
        (lambda folder: [shutil.rmtree(folder / name) for name in ("blue", "green")], "has one class, 'rouge é'"),
    ],
)  # fmt: skip
def test_bad_folder_ends_in_one_line(spoil, said, tmp_path, quick, capsys):
    images = write(tmp_path / "images")
    spoil(images)
    assert command(images, tmp_path / "s" / "s.onnx") == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_readme_of_someone_else_is_not_overwritten(tmp_path, quick, capsys):
    (tmp_path / "README.md").write_text("my project")
    assert command(write(tmp_path / "images"), tmp_path / "small.onnx") == 1
    assert "such as small/small.onnx" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "my project"


def test_file_whose_name_is_no_text_is_listed(tmp_path, quick, capsys):
    images, out = write(tmp_path / "images"), tmp_path / "small" / "small.onnx"
    for path in (images / "green").iterdir():
        path.rename(path.with_name(os.fsdecode(b"\xff") + path.name))
    assert command(images, out, "--epochs", "1", "--teacher-epochs", "1") == 0
    listed = pd.read_csv(out.with_name("small-calibration.csv"))
    assert listed.file.str.startswith("green/\\udcff").any()


def test_quote_in_the_name_leaves_the_script_whole(tmp_path):
    script = your_images.SCRIPT.format(file='a"b.onnx')
    assert ast.parse(script)
    assert "InferenceSession('a\"b.onnx')" in script


def test_image_of_two_classes_is_told(tmp_path, capsys):
    folder = write(tmp_path / "a")
    (folder / "rouge é" / "copy.png").write_bytes((folder / "green" / "0.png").read_bytes())
    found = load_dataset("folder", folder, 16)
    assert (
        "2 images are also in another class, which no network can tell" in capsys.readouterr().out
    )
    assert len(found.train) + len(found.test) == 37


def test_folder_that_may_not_be_read_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(KdigError, match="cannot read the folder"):
        load_dataset("folder", write(tmp_path / "a"), 16)


def test_split_is_made_of_the_images_alone(tmp_path, capsys):
    one, other = write(tmp_path / "a"), tmp_path / "b"
    for i, path in enumerate(sorted(one.rglob("*.png"))):
        target = other / path.parent.name / f"{97 * i % 60:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    first, second = (load_dataset("folder", folder, 16) for folder in (one, other))
    assert first.fingerprint == second.fingerprint
    assert first.train.ids == second.train.ids
    assert not set(first.train.ids) & set(first.test.ids)
    assert torch.bincount(first.test.labels).tolist() == [2, 2, 3]


def test_image_that_is_there_twice_counts_once(tmp_path, capsys):
    folder = write(tmp_path / "a")
    before = load_dataset("folder", folder, 16)
    (folder / "green" / "copy.png").write_bytes((folder / "green" / "0.png").read_bytes())
    assert load_dataset("folder", folder, 16).fingerprint == before.fingerprint
    assert "1 images are there more than once" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["test", "val", "validation"])
def test_part_that_is_there_is_taken(name, tmp_path):
    write(tmp_path / "train")
    write(tmp_path / name, (3, 3, 3), (9, 9))
    data = load_dataset("folder", tmp_path, 16)
    assert (len(data.train), len(data.test)) == (36, 9)


@pytest.mark.parametrize("size", [32, 64, 96, 128])
def test_stem_brings_larger_images_to_the_sizes_of_the_paper(size):
    for name in ("mobilenet_v2", "s2", "s4"):
        sized = for_size(name, size)
        net, images = build(sized, 5, 0.25).eval(), torch.rand(2, 3, size, size)
        side = net.features(images).shape[-1]
        plain = build(name, 5, 0.25).eval().features(torch.rand(2, 3, 32, 32)).shape[-1]
        assert side == (plain if size != 96 else round(0.75 * plain))
        assert count_parameters(net) == count_parameters(build(name, 5, 0.25))
        assert NETWORKS[sized].family == NETWORKS[name].family
    sizes = {48: "s2", 49: "s2_stem2", 80: "s2_stem2", 81: "s2_stem4"}
    assert {size: for_size("s2", size) for size in sizes} == sizes
    assert for_size("s2_stem2", 128) == "s2_stem2"


def test_larger_stem_is_torchvisions_own():
    torch.manual_seed(0)
    theirs, ours = torchvisions(num_classes=3).eval(), build("mobilenet_v2_stem4", 3).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images), atol=1e-6)


@pytest.mark.parametrize("of", [resnet18, resnet50])
def test_torchvisions_resnets_teach_with_their_own_answers(of, tmp_path):
    torch.manual_seed(0)
    theirs = of(num_classes=3).eval()
    torch.save(theirs.state_dict(), tmp_path / "t.pt")
    teacher = your_images.torchvision_teacher(
        tmp_path / "t.pt", 96, list("abc"), (0,) * 3, (1,) * 3
    )
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.allclose(teacher.model(images), theirs(images), atol=1e-4)
    assert teacher.network == f"{of.__name__}_stem4"
    with pytest.raises(
        KdigError, match=r"fits images of 32 pixels .first difference: features\.0\.0"
    ):
        your_images.torchvision_teacher(tmp_path / "t.pt", 32, list("abc"), (0,) * 3, (1,) * 3)
    with pytest.raises(KdigError, match="tells 3 classes apart, but the images have 2"):
        your_images.torchvision_teacher(tmp_path / "t.pt", 96, list("ab"), (0,) * 3, (1,) * 3)


def test_torchvisions_checkpoint_teaches_with_its_own_normalisation(tmp_path):
    torch.manual_seed(0)
    theirs = torchvisions(num_classes=3).eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "t.pt")
    mean, std = your_images.NORMALISATIONS["imagenet"]
    teacher = your_images.torchvision_teacher(tmp_path / "t.pt", 96, list("abc"), mean, std)
    images = torch.rand(1, 3, 96, 96)
    normal = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        assert torch.allclose(teacher.model(images), theirs(normal), atol=1e-5)
    with pytest.raises(KdigError, match="tells 3 classes apart, but the images have 2"):
        your_images.torchvision_teacher(tmp_path / "t.pt", 96, list("ab"), mean, std)
    torch.save({"fc.weight": torch.rand(3, 3)}, tmp_path / "other.pt")
    with pytest.raises(KdigError, match="no MobileNetV2, ResNet-18 or ResNet-50 of torchvision"):
        your_images.torchvision_teacher(tmp_path / "other.pt", 96, list("abc"), mean, std)


def frame(**methods):
    """A row for each method and seed."""
    return pd.DataFrame(
        [
            {"method": m, "seed": i, "accuracy": 0.0, "balanced": float(value)}
            for m, values in methods.items()
            for i, value in enumerate(values)
        ]
    )


def test_the_simplest_is_taken_unless_another_is_clearly_better():
    better = your_images.recommend(
        frame(student=(60, 61, 59), kd=(70, 71, 69.5), kd_ig=(70, 70, 71))
    )
    assert better.method == "kd"
    assert "KD is better than the student without a teacher here (+10.2 points" in better.why
    assert "KD & IG is not distinguishable from KD here" in better.why
    assert better.why.endswith("Take KD.")
    same = your_images.recommend(frame(student=(60, 61, 59), kd=(59, 63, 60)))
    assert same.method == "student"
    worse = your_images.recommend(frame(student=(60, 61, 59), kd=(50, 51.5, 49)))
    assert "KD is worse than the student without a teacher here" in worse.why
    all_three = frame(student=(60, 61, 59), kd=(70, 71, 69.5), kd_ig=(80, 81, 79.9))
    assert your_images.recommend(all_three).method == "kd_ig"


def test_balanced_accuracy_counts_classes_alike():
    labels = np.array([0] * 90 + [1] * 10)
    found = your_images.accuracies(labels, np.zeros(100, int))
    assert (found["accuracy"], found["balanced"]) == (90, 50)
    assert found["low"] < 90 < found["high"]
    half = your_images.accuracies(labels, np.array([0] * 90 + [1] * 5 + [0] * 5))
    assert half["balanced_low"] < 75 < half["balanced_high"]


def test_teacher_that_knows_nothing_is_said(tmp_path, monkeypatch):
    data = load_dataset("folder", write(tmp_path / "a"), 16)
    weak, good = (
        your_images.GivenTeacher("x", "s8", 1, "w", 1, your_images.TestScore(0, a))
        for a in (40, 90)
    )
    assert "where always answering the largest class gives 42.9 %" in your_images.warning(
        weak, data
    )
    assert your_images.warning(good, data) == ""


def test_the_examples_images_are_written_once_and_unequal(elsewhere):
    settings = settings_of("14_your_images")
    counts = your_images.about_classes(settings.data())
    assert counts.training.max() > 1.5 * counts.training.min()
    kept = outputs_of("demo").folder / "example_images" / "0" / "000.png"
    before = kept.stat().st_mtime_ns
    assert settings.workspace.root.name == "example_images"
    assert kept.stat().st_mtime_ns == before


def test_sized_networks_are_trained_and_given_teachers_found(elsewhere, tmp_path):
    root = write(tmp_path / "images")
    given = {"root": str(root), "image_size": 64, "network": "s2", "calibration_images": 200}
    with pytest.raises(KdigError, match="resnet8 has no form for images of 64 pixels: choose one"):
        settings_of("14_your_images", **given).teacher_run()
    given["teacher_network"] = "mobilenet_v2"
    settings = settings_of("14_your_images", **given)
    assert settings.teacher_run().network == "mobilenet_v2_stem2"
    runs = settings.runs("abc")
    assert {run.network for run in runs} == {"s2_stem2"}
    assert len(runs) == len(set(itertools.product(settings.methods, settings.seeds)))
    assert len(settings.calibration) == len(settings.data().train), "there are fewer"
    torch.save(torchvisions(num_classes=3).state_dict(), tmp_path / "t.pt")
    taught = settings_of("14_your_images", **given, teacher=str(tmp_path / "t.pt"))
    hashed = taught.known_teacher()
    assert taught.workspace.load_weights(hashed).network == "mobilenet_v2_stem2"
    other = settings_of(
        "14_your_images", **given, teacher=str(tmp_path / "t.pt"), teacher_images="none"
    )
    assert other.workspace.load_weights(other.known_teacher()).mean == [0, 0, 0]
