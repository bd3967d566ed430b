"""What a device's memory and arithmetic allow for training a student, from the bytes and operations
of its layers.

An estimate: every layer through memory. Kernels that join layers, or caches that hold activations,
can pass it.
"""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch
from common import in_turns, show
from torch import Tensor, nn

from kdig.core.networks import build, of_level
from kdig.measure import latency


def traffic(level: int, size: int) -> dict[str, float]:
    """Bytes of activations that one picture's training step moves layer by layer in float32, and
    its multiply-adds times two.

    Convolution: reads its input and writes its output; back, reads the output's gradient twice and
    the input once, writes the input's gradient. Batch norm: reads twice, writes once; back, reads
    input and gradient twice, writes once. ReLU6 in place: reads and writes; back, reads two, writes
    one. Weights, shared by the batch, additions, pooling and the head are left out.
    """
    net, moved = build(of_level(level)), 0

    def count(module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> None:
        nonlocal moved
        entering, leaving = inputs[0].numel(), output.numel()
        kinds = {
            nn.Conv2d: 3 * entering + 3 * leaving,
            nn.BatchNorm2d: 8 * leaving,
            nn.ReLU6: 5 * leaving,
        }
        moved += 4 * kinds.get(type(module), 0)

    for module in net.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        net(torch.rand(2, 3, size, size))
    return {"bytes": moved / 2, "flops": 2 * 3 * latency.macs(net, size)}


def roofline(level: int, size: int, device: str) -> None:
    """Memory's speed by copies, arithmetic's by matrix products, in float32 and on a GPU in
    bfloat16, too: `roofline.csv`.
    """
    moved, rows = traffic(level, size), []
    big, other = (torch.ones(2**28 if device != "cpu" else 2**24, device=device) for _ in range(2))
    bandwidth = 8 * big.numel() / seconds(lambda: other.copy_(big)[0])
    for kind in (torch.float32, torch.bfloat16)[: 1 if device == "cpu" else 2]:
        side = 4096 if device != "cpu" else 1024
        square = torch.rand(side, side, device=device, dtype=kind)
        rate = 2 * side**3 / seconds(partial(torch.matmul, square, square))
        moves = moved["bytes"] * kind.itemsize / 4
        rows.append(
            {
                "kind": str(kind).removeprefix("torch."),
                "bytes_an_image": moves,
                "operations_an_image": moved["flops"],
            }
        )
        rows[-1] |= {"bytes_per_second": bandwidth, "operations_per_second": rate}
        rows[-1] |= {
            "images_per_second_by_memory": bandwidth / moves,
            "images_per_second_by_arithmetic": rate / moved["flops"],
        }
    caption = (
        f"Roofline of training student level {level} at {size} x {size} pixels, activations moved"
        " layer by layer."
    )
    show(pd.DataFrame(rows).round(1), "roofline", caption, device)


def seconds(call: Callable[[], Tensor]) -> float:
    """Of one call: the least of five rounds of ten."""
    times = in_turns({"": lambda: [call() for _ in range(10)][-1].flatten()[0].item()}, 5)
    return float(times[""].min()) / 10
