"""Ways to run a network on the CPU, by name, and the files that they take.

Light on purpose: what a fresh process imports beside its engine would count as the engine's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdig import KdigError
from kdig.core.artefacts import INPUT, Runner, engine, runner


@dataclass(frozen=True)
class Files:
    """Where a network lies: torch's weights (`Workspace.keep`), and its ONNX files."""

    weights: Path
    float32: Path
    int8: Path
    per_tensor: Path


@dataclass(frozen=True)
class Engine:
    """A way to run a network: which of `Files` it takes, in which format, in words, and how."""

    file: str
    words: str
    start: Callable[[Path, int], Runner]


def _eager(path: Path, threads: int, layout: str = "contiguous_format") -> Runner:
    import torch

    model = _torch_model(path, threads).to(memory_format=getattr(torch, layout))

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            given = torch.from_numpy(images).contiguous(memory_format=getattr(torch, layout))
            logits: np.ndarray = model(given).numpy()
        return logits

    return run


def _compiled(path: Path, threads: int) -> Runner:
    import torch

    model = torch.compile(_torch_model(path, threads), fullgraph=True)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = model(torch.from_numpy(images)).numpy()
        return logits

    return run


def _torch_model(path: Path, threads: int) -> Any:
    import torch

    from kdig.core.store import unpacked

    torch.set_num_threads(threads)
    model = unpacked(torch.load(path, weights_only=True)).model
    return model.to(memory_format=torch.contiguous_format)


def _openvino(path: Path, threads: int) -> Runner:
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    # bfloat16 is another precision, which some processors would take without being asked
    settings |= {"INFERENCE_PRECISION_HINT": "f32"}
    core = engine("openvino").Core()
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def run(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = next(iter(request.infer({INPUT: images}).values()))
        return logits.copy()

    return run


def _channels_last(path: Path, threads: int) -> Runner:
    return _eager(path, threads, "channels_last")


# name -> engine; the last one is here for its accuracy
ENGINES: dict[str, Engine] = {
    "eager": Engine("weights", "torch", _eager),
    "channels_last": Engine("weights", "torch, channels last", _channels_last),
    "compiled": Engine("weights", "torch, compiled", _compiled),
    "onnxruntime": Engine("float32", "ONNX Runtime", runner),
    "openvino": Engine("float32", "OpenVINO", _openvino),
    "int8": Engine("int8", "ONNX Runtime, int8", runner),
    "openvino_int8": Engine("int8", "OpenVINO, int8", _openvino),
    "int8_per_tensor": Engine("per_tensor", "ONNX Runtime, int8 per tensor", runner),
}


def start(name: str, files: Files, threads: int = 1) -> Runner:
    """The network in `files` on an engine. Raises `KdigError` for a name that is none of `ENGINES`,
    and when the engine is not installed.
    """
    chosen = entry(name)
    return chosen.start(getattr(files, chosen.file), threads)


def entry(name: str) -> Engine:
    """The engine of a name. Raises `KdigError` for an unknown one."""
    if name not in ENGINES:
        raise KdigError(f"unknown engine {name!r}: choose one of {', '.join(ENGINES)}")
    return ENGINES[name]
