"""What a device allows at most for training a student, from the bytes and operations of its layers."""

from collections.abc import Sequence

import pandas as pd
import torch
from common import in_turns, show
from torch import Tensor, nn

from kdig import latency
from kdig.models import build


def traffic(level: int, size: int) -> dict[str, float]:
    """Bytes of activations that one picture's training step moves layer by layer in float32, and its multiply-adds times two.

    Convolution: reads its input and writes its output; back, reads the output's gradient twice and the input once, writes the
    input's gradient. Batch norm: reads twice, writes once; back, reads input and gradient twice, writes once. ReLU6 in place:
    reads and writes; back, reads two, writes one. Weights, shared by the batch, additions, pooling and the head are left out.
    """
    net, moved = build(level, 10, 1.0), 0

    def count(module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> None:
        nonlocal moved
        entering, leaving = inputs[0].numel(), output.numel()
        kinds = {nn.Conv2d: 3 * entering + 3 * leaving, nn.BatchNorm2d: 8 * leaving, nn.ReLU6: 5 * leaving}
        moved += 4 * kinds.get(type(module), 0)

    for module in net.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        net(torch.rand(2, 3, size, size))
    return {"bytes": moved / 2, "flops": 2 * 3 * latency.macs(net, size)}


def roofline(level: int, size: int, device: str) -> None:
    """What memory and arithmetic of this device allow, by one copy and one matrix product; writes `roofline.csv`."""
    moved = traffic(level, size)
    big, other = (torch.ones(2**28 if device != "cpu" else 2**24, device=device) for _ in range(2))
    side = 4096 if device != "cpu" else 512
    square = torch.rand(side, side, device=device)
    calls = {"copy": lambda: other.copy_(big)[0].item(), "product": lambda: (square @ square)[0, 0].item()}
    times = in_turns(calls, 10).median()
    bandwidth, rate = 8 * big.numel() / times["copy"], 2 * side**3 / times["product"]
    rows = [
        {"what": "bytes an image, layer by layer", "value": moved["bytes"]},
        {"what": "operations an image", "value": moved["flops"]},
        {"what": "memory bandwidth, bytes/s (copy)", "value": bandwidth},
        {"what": "float32 operations/s (matrix product)", "value": rate},
        {"what": "images/s that the bandwidth allows", "value": bandwidth / moved["bytes"]},
        {"what": "images/s that the arithmetic allows", "value": rate / moved["flops"]},
    ]
    caption = f"Roofline of training student level {level} at {size} x {size} pixels, float32, activations moved layer by layer."
    show(pd.DataFrame(rows).round(1), "roofline", caption, device)
