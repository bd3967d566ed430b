"""A network's gradient to its input as a graph of its own, which OpenVINO runs: on CPUs faster than autograd.

Optional: without the package `openvino` nothing here is used, and autograd computes the same numbers to rounding.
"""

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from kdig.attribution import Gradient, Output, target_score

_ATEN = torch.ops.aten
# Exporting takes some seconds; fewer pixels (rows x height x width) than this are faster without.
_WORTHWHILE = 4_000_000


def worthwhile(rows: int, size: int, device: str) -> bool:
    """Whether the gradients of so many rows of size x size pixels are faster by way of an exported graph."""
    return device == "cpu" and rows * size**2 >= _WORTHWHILE and find_spec("openvino") is not None


def gradient_graph(model: nn.Module, output: Output, images: Tensor, weights: Tensor) -> GraphModule:
    """The gradient of (F(images) * weights).sum() to the images (N, 3, H, W), weights (N, K), as forward operations only."""
    score = target_score(copy.deepcopy(model).to(memory_format=torch.contiguous_format), output)

    def selected(x: Tensor, w: Tensor) -> Tensor:
        return (score(x) * w).sum()

    names = ("hardtanh_backward", "threshold_backward", "_softmax", "_softmax_backward_data")
    table: dict[Any, Any] = get_decompositions([getattr(_ATEN, name) for name in names])
    table[_ATEN.convolution_backward.default] = _to_input
    graph: GraphModule = make_fx(torch.func.grad(selected), decomposition_table=table)(images, weights)
    for node in graph.graph.nodes:
        if node.target is _ATEN.hardtanh.default:
            # ReLU6's mask is the same from its output, and nothing before it has to be kept
            node.args[0].replace_all_uses_with(node, delete_user_cb=lambda user, node=node: user is not node)
    graph.recompile()
    return graph


def _to_input(
    grad: Tensor, entered: Tensor, weight: Tensor, bias: object, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int, mask: object,
) -> tuple[Tensor, None, None]:  # fmt: skip
    """A convolution's gradient to its input: a convolution with the mirrored kernel, or a transposed one where it strides."""
    sizes = weight.shape[2:]
    if all(step == 1 for step in stride) and groups in (1, weight.shape[0]):
        mirrored = weight.flip(2, 3) if groups > 1 else weight.flip(2, 3).transpose(0, 1)
        around = [size - 1 - pad for size, pad in zip(sizes, padding)]
        return _ATEN.convolution(grad, mirrored, None, stride, around, dilation, False, [0, 0], groups), None, None
    sides = zip(entered.shape[2:], grad.shape[2:], stride, padding, sizes)
    rest = [before - ((after - 1) * step - 2 * pad + size) for before, after, step, pad, size in sides]
    return _ATEN.convolution(grad, weight, None, stride, padding, dilation, True, rest, groups), None, None


def exported_gradient(model: nn.Module, output: Output, size: int, classes: int, rows: int = 50) -> Gradient:
    """What `attribution.autograd_gradient` gives, by OpenVINO, in batches of `rows` pictures of size x size pixels."""
    import openvino

    images, weights = torch.rand(rows, 3, size, size), torch.rand(rows, classes)
    graph = gradient_graph(model, output, images, weights)
    # with shapes that are not said to be fixed, OpenVINO fuses nothing
    shapes = [list(images.shape), list(weights.shape)]
    converted = openvino.convert_model(torch.export.export(graph, (images, weights)), input=shapes)
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()

    def batch(x: Tensor, w: Tensor) -> Tensor:
        missing = rows - len(x)
        given = (nn.functional.pad(x, (0,) * 7 + (missing,)), nn.functional.pad(w, (0, 0, 0, missing)))
        result = request.infer([part.contiguous().numpy() for part in given])[0]
        return torch.from_numpy(result[: len(x)].copy())

    def gradient(images: Tensor, targets: Tensor) -> Tensor:
        chosen = nn.functional.one_hot(targets, classes).to(images.dtype)
        return torch.cat([batch(*pair) for pair in zip(images.split(rows), chosen.split(rows))])

    return gradient
