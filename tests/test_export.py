"""Exported files: the same answers as torch, what is written in them, and their int8 form."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from kdig import KdigError
from kdig.core import artefacts, export
from kdig.core.artefacts import Label, label_of, logits_of, quantise, runner
from kdig.core.networks import build
from kdig.core.signals import Teacher

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def network(name="s8", classes=4, mean=MEAN, std=STD):
    torch.manual_seed(7)
    net = build(name, classes, 0.25)
    with torch.no_grad():  # statistics as after a training
        net.train()(torch.rand(16, 3, 8, 8))
    return Teacher(net.eval(), mean, std, network=name, width=0.25)


def label(**changes):
    given = {"classes": ("a", "é", "c", "d"), "size": 8, "licence": "for tests", "data": "d" * 16}
    return Label(**{**given, "network": "s8", "weights": "w" * 16, **changes})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(256, size=(120, 3, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "net.onnx"
    export.export(network(), path, label())
    return path


def of_torch(net, images):
    with torch.inference_mode():
        return net.model(torch.from_numpy(images).float() / 255).numpy()


def test_file_gives_torchs_logits_with_normalisation_inside_and_any_batch(exported, images):
    wanted = of_torch(network(), images)
    assert np.allclose(logits_of(runner(exported), images), wanted, atol=1e-5)
    assert runner(exported)(images[:7].astype(np.float32) / 255).shape == (7, 4)
    bare = of_torch(network(mean=(0.0,) * 3, std=(1.0,) * 3), images)
    assert not np.allclose(wanted, bare, atol=1e-3), "normalisation changes the answers"


def test_file_says_what_a_user_needs(exported):
    found = label_of(exported)
    assert json.loads(found["classes"]) == ["a", "é", "c", "d"]
    assert (found["licence"], found["data"], found["size"]) == ("for tests", "d" * 16, "8")
    assert found["input"] == "float32 in [0, 1], N x 3 x 8 x 8, RGB"
    assert found["precision"] == "float32"


@pytest.mark.parametrize("per_channel", [True, False])
def test_int8_keeps_most_answers_and_says_how_it_was_made(per_channel, exported, images, tmp_path):
    path = tmp_path / "int8.onnx"
    quantise(exported, path, images[:60], "60 images", per_channel)
    ours, whole = (logits_of(runner(p), images) for p in (path, exported))
    assert 0 < np.abs(ours - whole).max() < 0.5 * np.ptp(whole)
    found = label_of(path)
    assert found["calibration"] == "60 images"
    assert found["precision"] == f"int8, per {'channel' if per_channel else 'tensor'}"
    assert json.loads(found["classes"])[1] == "é"


def test_weights_leave_room_for_sums_in_16_bits(exported, images, tmp_path):
    """127 + 127 products of 255 overflow 16 bits; 64 + 64 do not."""
    import onnx

    quantise(exported, tmp_path / "int8.onnx", images[:10], "10 images")
    held = onnx.load(tmp_path / "int8.onnx").graph.initializer
    arrays = [onnx.numpy_helper.to_array(w) for w in held]
    weights = [a for a in arrays if a.dtype == np.int8 and a.ndim == 4]
    assert weights
    assert all(2 * 255 * np.abs(a.astype(int)).max() < 2**15 for a in weights)


def test_scales_of_depthwise_convolutions_are_told_apart(exported):
    groups = [groups for groups, _ in artefacts.weight_scales(exported).values()]
    assert max(groups) > 1
    assert min(groups) == 1
    assert all((scale > 0).all() for _, scale in artefacts.weight_scales(exported).values())


def test_wrong_number_of_names_leaves_no_file(tmp_path):
    with pytest.raises(KdigError, match="3 class names for a network with 4 logits"):
        export.export(network(), tmp_path / "x.onnx", label(classes=("a", "b", "c")))
    assert not list(tmp_path.iterdir())


def test_file_that_differs_from_torch_is_not_kept(tmp_path, monkeypatch):
    other = network("s7").model
    exporting = export._to_onnx
    monkeypatch.setattr(export, "_to_onnx", lambda model, size, path: exporting(other, size, path))
    with pytest.raises(KdigError, match="other logits than torch"):
        export.export(network(), tmp_path / "x.onnx", label())
    assert not list(tmp_path.iterdir())


def test_bad_files_and_missing_engines_are_said_in_one_line(tmp_path, images):
    with pytest.raises(KdigError, match=r"no file .*none\.onnx"):
        runner(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(KdigError, match=r"bad\.onnx is no network that onnxruntime can load"):
        quantise(tmp_path / "bad.onnx", tmp_path / "x.onnx", images, "")
    with pytest.raises(
        KdigError, match=r"no_such_engine is not installed: pip install 'kdig\[edge"
    ):
        artefacts.engine("no_such_engine")
    with pytest.raises(KdigError, match="no calibration images"):
        quantise(tmp_path / "bad.onnx", tmp_path / "x.onnx", images[:0], "")


def test_files_are_used_without_torch():
    code = "import sys; sys.modules['torch'] = None; import kdig.core.artefacts"
    subprocess.run([sys.executable, "-c", code], check=True)
