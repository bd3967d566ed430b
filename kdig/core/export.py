"""A trained network of torch as an ONNX file, which is tried against torch before it is kept."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kdig import KdigError
from kdig.core.artefacts import INPUT, OUTPUT, Label, engine, runner, write_label
from kdig.core.files import atomic_write
from kdig.core.signals import Teacher

# of a logit's size: engines add in another order, and float32 keeps seven digits
TOLERANCE = 1e-4
_OPSET = 17


def export(network: Teacher, path: Path, label: Label) -> float:
    """Write `network`, with its normalisation, to the ONNX file `path`; the batch is free.

    The file takes images (N, 3, `label.size`, `label.size`), float32 in [0, 1], and gives logits
    (N, K). Returns the largest difference of its logits to torch's. Raises `KdigError` when the
    class names are not as many as the logits, and when file and torch differ by more than
    `TOLERANCE`; then no file is left.
    """
    engine("onnx")
    outputs = network.net.get_submodule("classifier")[-1].out_features  # type: ignore[index]
    if outputs != len(label.classes):
        raise KdigError(
            f"{len(label.classes)} class names for a network with {outputs} logits: give one each"
        )
    difference = [0.0]

    def write(part: str) -> None:
        _to_onnx(network.model, label.size, part)
        write_label(Path(part), label.entries())
        difference[0] = parity(network.model, Path(part), label.size)

    atomic_write(path, write)
    return difference[0]


def _to_onnx(model: nn.Module, size: int, path: str) -> None:
    """By torch's tracing exporter: the graph of the newer one is the same, and takes ten times as
    long to make.
    """
    model = model.to("cpu").to(memory_format=torch.contiguous_format)
    free = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.rand(2, 3, size, size),),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=free,
        )


def parity(model: nn.Module, path: Path, size: int) -> float:
    """The largest difference of logits between `model` and the file, for one image and for three.

    Raises `KdigError` when it is more than `TOLERANCE` of the largest logit, or not finite.
    """
    run, draw = runner(path), np.random.default_rng(0)
    worst = 0.0
    for batch in (1, 3):
        images = draw.random((batch, 3, size, size), dtype=np.float32)
        with torch.inference_mode():
            ours = model(torch.from_numpy(images)).numpy()
        difference = float(np.abs(run(images) - ours).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
            raise KdigError(
                f"the exported file gives other logits than torch (by {difference:.2g}): it is not"
                " kept"
            )
        worst = max(worst, difference)
    return worst
