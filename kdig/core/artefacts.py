"""A network in an ONNX file: its answers, what is written in it, and its int8 form.

Needs no torch. An image is float32 in [0, 1], NCHW, RGB, as everywhere in this package: the same
numbers can be given to torch and to any engine, and normalisation is part of the file.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdig import KdigError
from kdig.core.files import atomic_write

# images (N, 3, H, W), float32 in [0, 1] -> logits (N, K)
Runner = Callable[[np.ndarray], np.ndarray]
INPUT, OUTPUT = "images", "logits"
_BATCH = 50


@dataclass(frozen=True)
class Label:
    """What a file says of itself, in its metadata.

    `classes` are the names of the logits, `size` the pixels a side of an image, `licence` a note on
    who may use the file, `data` the fingerprint of the images it was trained on, `weights` the hash
    of the trained network.
    """

    classes: tuple[str, ...]
    size: int
    licence: str
    data: str
    network: str
    weights: str
    precision: str = "float32"
    calibration: str = ""

    def entries(self) -> dict[str, str]:
        """Name -> text, as ONNX holds metadata."""
        values = {name: str(value) for name, value in vars(self).items()}
        values["classes"] = json.dumps(list(self.classes), ensure_ascii=False)
        values["input"] = f"float32 in [0, 1], N x 3 x {self.size} x {self.size}, RGB"
        return values


def engine(name: str) -> Any:
    """A module of the `edge` extra. Raises `KdigError` when it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise KdigError(
            f"{name.partition('.')[0]} is not installed: pip install 'kdig[edge]'"
        ) from None


def open_session(path: Path, threads: int = 1) -> Any:
    """ONNX Runtime on the CPU with the file at `path`.

    Raises `KdigError` for a file that is missing or no network.
    """
    runtime = engine("onnxruntime")
    runtime.set_default_logger_severity(3)  # warnings about constants that nothing uses
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    if not path.is_file():
        raise KdigError(f"there is no file {path}: export a network first")
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception of its own for each kind of damage
        reason = " ".join(str(error).split())[:150]
        raise KdigError(f"{path} is no network that onnxruntime can load ({reason})") from None


def runner(path: Path, threads: int = 1) -> Runner:
    """What calls the network at `path` with ONNX Runtime."""
    session = open_session(path, threads)

    def run(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run([OUTPUT], {INPUT: images})[0]
        return logits

    return run


def logits_of(run: Runner, images: np.ndarray) -> np.ndarray:
    """Logits (N, K) of uint8 images (N, 3, H, W): the one code for accuracy, whatever runs."""
    parts = [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
    return np.concatenate([run(part.astype(np.float32) / 255) for part in parts])


def label_of(path: Path) -> dict[str, str]:
    """The metadata of the file at `path`. Raises `KdigError` as `open_session` does."""
    return dict(open_session(path).get_modelmeta().custom_metadata_map)


def write_label(path: Path, entries: Mapping[str, str]) -> None:
    """Put `entries` into the metadata of the ONNX file at `path`; other entries stay."""
    onnx = engine("onnx")
    model = onnx.load(str(path))
    kept = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, kept | dict(entries))
    atomic_write(path, lambda part: onnx.save(model, part))


class _Reader:
    """Gives onnxruntime the calibration images, a few at a time."""

    def __init__(self, images: np.ndarray) -> None:
        parts = (images[i : i + _BATCH] for i in range(0, len(images), _BATCH))
        self._batches = iter([{INPUT: part.astype(np.float32) / 255} for part in parts])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def quantise(
    source: Path, target: Path, images: np.ndarray, calibration: str, per_channel: bool = True
) -> None:
    """Write the network at `source` with weights and activations in 8 bits to `target`.

    Static: the range of every activation is that on the calibration `images` uint8 (N, 3, H, W),
    and `calibration` says in words which they are. `per_channel` gives each output channel of a
    convolution a scale of its own, which depthwise convolutions need. Weights use 7 of the 8 bits:
    on processors without VNNI instructions onnxruntime adds pairs of products in 16 bits, which
    larger weights would overflow. So the file gives the same answers everywhere. Raises `KdigError`
    when there are no images, or `source` is no network.
    """
    if not len(images):
        raise KdigError("no calibration images: give at least one image of each class")
    open_session(source)
    tool = engine("onnxruntime.quantization")
    form: dict[str, Any] = {"quant_format": tool.QuantFormat.QDQ, "reduce_range": True}
    form |= {"activation_type": tool.QuantType.QUInt8, "weight_type": tool.QuantType.QInt8}

    precision = f"int8, per {'channel' if per_channel else 'tensor'}"
    entries = label_of(source) | {"precision": precision, "calibration": calibration}

    def write(part: str) -> None:
        tool.quantize_static(str(source), part, _Reader(images), per_channel=per_channel, **form)
        write_label(Path(part), entries)

    with _quiet():
        atomic_write(target, write)


@contextmanager
def _quiet() -> Iterator[None]:
    """The tool advises, at every call, to prepare the file; it has been optimised at export."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def weight_scales(path: Path) -> dict[str, tuple[int, np.ndarray]]:
    """Each convolution's weight in a float32 file: name -> groups, and the largest absolute weight
    of every output channel (C,).
    """
    onnx = engine("onnx")
    model = onnx.load(str(path))
    held = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            weight = np.abs(held[node.input[1]])
            found[node.input[1]] = groups, weight.reshape(len(weight), -1).max(1)
    return found
