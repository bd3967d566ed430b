"""A network's gradient to its input as a graph of its own, run by OpenVINO if that is installed:
what another engine would give.

Not part of kdig: see README.md beside this file.
"""

import copy
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from kdig.core.attribution import Gradient

AVAILABLE = find_spec("openvino") is not None
_ATEN = torch.ops.aten


def gradient_graph(model: nn.Module, images: Tensor, weights: Tensor) -> GraphModule:
    """The gradient of (F(images) * weights).sum() to the images (N, 3, H, W), weights (N, K), as
    forward operations only.
    """
    score = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    table: dict[Any, Any] = get_decompositions([_ATEN.hardtanh_backward])
    table[_ATEN.convolution_backward.default] = _to_input
    graph: GraphModule = make_fx(
        torch.func.grad(lambda x, w: (score(x) * w).sum()), decomposition_table=table
    )(images, weights)
    masks = (_ATEN.le.Scalar, _ATEN.ge.Scalar)
    for node in graph.graph.nodes:
        if node.target is _ATEN.hardtanh.default:
            # ReLU6's mask is the same from its output, so that nothing before it has to be kept
            node.args[0].replace_all_uses_with(
                node, delete_user_cb=lambda user: user.target in masks
            )
    graph.recompile()
    return graph


def _to_input(
    grad: Tensor, entered: Tensor, weight: Tensor, bias: object, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int, mask: object,
) -> tuple[Tensor, None, None]:  # fmt: skip
    """A convolution's gradient to its input: a convolution with the mirrored kernel, or a
    transposed one where it strides.
    """
    assert not transposed
    assert set(dilation) == {1}
    if set(stride) == {1} and (groups == 1 or weight.shape[:2] == (groups, 1)):
        mirrored = weight.flip(2, 3) if groups > 1 else weight.flip(2, 3).transpose(0, 1)
        around = [size - 1 - pad for size, pad in zip(weight.shape[2:], padding)]
        return (
            _ATEN.convolution(
                grad, mirrored, None, stride, around, dilation, False, [0, 0], groups
            ),
            None,
            None,
        )
    sides = zip(entered.shape[2:], grad.shape[2:], stride, padding, weight.shape[2:])
    rest = [
        before - ((after - 1) * step - 2 * pad + size) for before, after, step, pad, size in sides
    ]
    return (
        _ATEN.convolution(grad, weight, None, stride, padding, dilation, True, rest, groups),
        None,
        None,
    )


def exported_gradient(
    model: nn.Module, size: int, classes: int, threads: int, rows: int = 48
) -> Gradient:
    """What `kdig.core.attribution.autograd_gradient` gives for logits, in batches of `rows`
    pictures of size x size pixels.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    logging.disable(logging.WARNING)  # it warns, with tracebacks, of operations that are not there
    images, weights = torch.rand(rows, 3, size, size), torch.rand(rows, classes)
    program = torch.export.export(gradient_graph(model, images, weights), (images, weights))
    # openvino.convert_model does the same and reports its use over the network
    frontend, decoder = (
        FrontEndManager().load_by_framework("pytorch"),
        TorchFXPythonDecoder.from_exported_program(program),
    )
    converted = frontend.convert(frontend.load(decoder))
    # with shapes that are not said to be fixed, nothing is fused
    converted.reshape(
        {place: list(given.shape) for place, given in zip(converted.inputs, (images, weights))}
    )
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()

    def batch(x: Tensor, w: Tensor) -> Tensor:
        missing = rows - len(x)
        given = (
            nn.functional.pad(x, (0,) * 7 + (missing,)),
            nn.functional.pad(w, (0, 0, 0, missing)),
        )
        result = request.infer([part.contiguous().numpy() for part in given])[0]
        return torch.from_numpy(result[: len(x)].copy())

    def gradient(images: Tensor, targets: Tensor) -> Tensor:
        chosen = nn.functional.one_hot(targets, classes).to(images.dtype)
        return torch.cat([batch(*pair) for pair in zip(images.split(rows), chosen.split(rows))])

    return gradient
