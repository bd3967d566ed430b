"""How large and how fast a network is (section 4.3): operations, memory, and the time of a forward
pass, warm and cold.

Warm: the networks take turns, after a warm-up, many times. Cold: the first forward pass of each
network in a process that has run nothing before, as the released `analyze_models` takes it. Level 0
is the teacher, 1 to 8 the students.
"""

import copy
import inspect
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from kdig import KdigError
from kdig.core.environment import thread_count
from kdig.core.networks import build, of_level
from kdig.core.runs import exit_with_parent, forkserver
from kdig.core.training import Recipe, make_optimizer

Variant = Literal["plain", "channels_last", "bfloat16", "compiled"]
# the GPUs of section 3.7: only there can a time in milliseconds be set beside Table S9
PAPERS_GPUS = ("RTX 3090", "RTX 3060 Ti", "RTX A5000")
Key = TypeVar("Key")


def macs(model: nn.Module, image_size: int) -> int:
    """Multiply-accumulate operations of convolutions and linear layers for one picture of
    `image_size` pixels a side.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(_pictures(model, 1, image_size))
    return int(counter.get_total_flops()) // 2


def parameter_bytes(model: nn.Module, buffers: bool = False) -> int:
    """Bytes of the parameters, with `buffers` also of batch norm's statistics."""
    held = [*model.parameters(), *(model.buffers() if buffers else ())]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def activation_bytes(model: nn.Module, image_size: int, batch: int = 1) -> int:
    """Most bytes that pictures and activations hold at any one time of a forward pass.

    A library's workspace is not seen.
    """
    # imported here since it takes seconds, which the fresh processes of `cold` can do without
    from torch.distributed._tools.mem_tracker import MemTracker

    images = _pictures(model, batch, image_size)
    tracker = MemTracker()
    with tracker, torch.no_grad():
        model.eval()(images)
    peak = tracker.get_tracker_snapshot("peak")[images.device]
    return int(peak["Activation"]) + images.numel() * images.element_size()


def size_table(levels: Sequence[int], image_size: int, width: float, classes: int) -> pd.DataFrame:
    """One row a level: parameters, factor (Table S5), mega-MACs with their ratio to the teacher's,
    KiB by kind.
    """
    rows = []
    for level in [0, *(level for level in levels if level)]:
        net = build(of_level(level), classes, width)
        rows.append(
            {
                "level": level,
                "parameters": parameter_bytes(net) // 4,
                "mmacs": macs(net, image_size) / 1e6,
                "parameters_kib": parameter_bytes(net) / 1024,
                "with_buffers_kib": parameter_bytes(net, buffers=True) / 1024,
                "activations_kib": activation_bytes(net, image_size) / 1024,
            }
        )
    table = pd.DataFrame(rows)
    table.insert(1, "factor", table.parameters[0] / table.parameters)
    table.insert(2, "mac_ratio", table.mmacs[0] / table.mmacs)
    return table


def _pictures(model: nn.Module, batch: int, image_size: int) -> Tensor:
    return torch.rand(batch, 3, image_size, image_size, device=next(model.parameters()).device)


def forward_call(
    model: nn.Module, images: Tensor, variant: Variant = "plain"
) -> Callable[[], None]:
    """A call that takes `images` (N, 3, H, W) through a copy of `model` and comes back when the
    device has finished.
    """
    net = copy.deepcopy(model).eval()
    if variant == "channels_last":
        net, images = (
            net.to(memory_format=torch.channels_last),
            images.contiguous(memory_format=torch.channels_last),
        )
    elif variant == "bfloat16":
        net, images = net.to(torch.bfloat16), images.to(torch.bfloat16)
    run = torch.compile(net, **_compile_options()) if variant == "compiled" else net

    def call() -> None:
        with torch.inference_mode():
            run(images)
        _finish(images)

    return call


def _compile_options() -> dict[str, Any]:
    """An error instead of a silent return to the plain network.

    Compilations of its own for every network, where torch can.
    """
    known = inspect.signature(torch.compile).parameters
    return {"fullgraph": True} | (
        {"isolate_recompiles": True} if "isolate_recompiles" in known else {}
    )


def training_call(model: nn.Module, images: Tensor, recipe: Recipe) -> Callable[[], None]:
    """A call that makes one training step on `images` (N, 3, H, W) with a copy of `model`, as
    `kdig.core.training.fit` makes it.

    Forward, cross-entropy, backward and the optimizer of `recipe`; it comes back when the device
    has finished.
    """
    net, images = copy.deepcopy(model).train(), images.contiguous(memory_format=torch.channels_last)
    net = net.to(memory_format=torch.channels_last)
    optimizer, labels = (
        make_optimizer(net, recipe),
        torch.zeros(len(images), dtype=torch.int64, device=images.device),
    )

    def call() -> None:
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _finish(images)

    return call


def _finish(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)


def interleaved(
    calls: Mapping[Key, Callable[[], object]], repeats: int, seed: int = 0
) -> dict[Key, list[float]]:
    """Seconds of each call, `repeats` times: all take a turn in each round, in an order drawn anew,
    so that drift meets all.
    """
    names, order = list(calls), np.random.default_rng(seed)
    times: dict[Key, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for i in order.permutation(len(names)):
            times[names[i]].append(_seconds(calls[names[i]]))
    return times


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def warm(
    models: Mapping[int, nn.Module],
    images: Tensor,
    variant: Variant = "plain",
    repeats: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Interleaved times of `models` (level -> network) on `images` after two passes of each:
    `level`, `round`, `seconds`.
    """
    return _in_rounds(
        {level: forward_call(model, images, variant) for level, model in models.items()},
        repeats,
        seed,
    )


def training(
    models: Mapping[int, nn.Module],
    images: Tensor,
    recipe: Recipe,
    repeats: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Interleaved times of a training step of `models` on `images` after two steps of each:
    `level`, `round`, `seconds`.
    """
    return _in_rounds(
        {level: training_call(model, images, recipe) for level, model in models.items()},
        repeats,
        seed,
    )


def _in_rounds(calls: Mapping[int, Callable[[], object]], repeats: int, seed: int) -> pd.DataFrame:
    interleaved(calls, 2, seed)
    times = pd.DataFrame(interleaved(calls, repeats, seed))
    return (
        times.rename_axis("round")
        .reset_index()
        .melt("round", var_name="level", value_name="seconds")
    )


def warm_variants(
    models: Mapping[int, nn.Module],
    image_size: int,
    batches: Sequence[int],
    variants: Sequence[Variant],
    repeats: int,
) -> tuple[pd.DataFrame, list[str]]:
    """`warm` for each variant and batch (columns `variant`, `batch`), and one line for each variant
    that cannot be run here.

    Networks take turns, variants and batches do not: between these, drift of the machine counts as
    a difference.
    """
    frames, missing = [], []
    for variant in variants:
        try:
            for batch in batches:
                images = _pictures(next(iter(models.values())), batch, image_size)
                frames.append(
                    warm(models, images, variant, repeats).assign(variant=variant, batch=batch)
                )
        except Exception as error:  # compilers and kernels that this machine lacks fail in any way
            missing.append(
                f"{variant}: cannot be run here ({type(error).__name__}:"
                f" {' '.join(str(error).split())[:120]})"
            )
    frames = [
        frame
        for frame in frames
        if not any(line.startswith(f"{frame.variant[0]}:") for line in missing)
    ]
    return pd.concat(frames, ignore_index=True), missing


def cold(
    orders: Mapping[str, Sequence[int]],
    repeats: int,
    image_size: int = 32,
    threads: int = 1,
    device: str = "cpu",
) -> pd.DataFrame:
    """First and second passes of one picture in fresh processes, `repeats` for each of `orders`
    (name -> levels in turn).

    Columns: `order`, `process`, `turn` (1, 2), `level`, `seconds`. The orders take turns, and every
    second round begins with the last one, so that drift of the machine meets all. Networks are
    those of the paper's size; a process has imported torch and run nothing. Raises `KdigError` when
    one fails.
    """
    frames = []
    for process in range(repeats):
        for name in list(orders)[:: -1 if process % 2 else 1]:
            with futures.ProcessPoolExecutor(1, forkserver(), exit_with_parent) as fresh:
                try:
                    rows = fresh.submit(
                        first_passes, orders[name], image_size, device, threads
                    ).result()
                except (
                    Exception
                ) as error:  # whatever went wrong in the other process comes back here
                    raise KdigError(
                        f"timing in a fresh process failed: {' '.join(str(error).split())}"
                    ) from None
            frames.append(pd.DataFrame(rows).assign(order=name, process=process))
    return pd.concat(frames, ignore_index=True)


def first_passes(
    levels: Sequence[int], image_size: int, device: str, threads: int
) -> list[dict[str, float]]:
    """Times of the first pass of one picture through each level's network, built just before, and
    then of a second pass.
    """
    calls, rows = {}, []
    with thread_count(threads):
        for level in levels:
            model = build(of_level(level)).to(device)
            calls[level] = forward_call(model, _pictures(model, 1, image_size))
            rows.append({"turn": 1, "level": level, "seconds": _seconds(calls[level])})
        return rows + [
            {"turn": 2, "level": level, "seconds": _seconds(calls[level])} for level in levels
        ]


def with_speedup(times: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """`times` with `speedup`: the teacher's (level 0) seconds over each row's, within equal `keys`
    (a round, or a process).
    """
    teacher = times[times.level == 0].set_index(list(keys)).seconds.rename("teacher")
    return times.assign(speedup=times.join(teacher, on=list(keys)).teacher / times.seconds)


def device_label(device: str) -> str:
    """The device in words: a GPU's name, or the processor's architecture, vector instructions and
    cores.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return (
        f"{platform.machine()} CPU ({torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()}"
        " cores)"
    )
