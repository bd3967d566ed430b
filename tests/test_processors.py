"""Training works under the kernels of every x86-64 processor, not only under this machine's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet50

from kdig.core.networks import NETWORKS, SubsampledConv2d, build, subsample_strided_pointwise

pytestmark = pytest.mark.processors
# environment variables -> the processors whose kernels they ask for: oneDNN's (convolutions) and
# torch's own
KERNELS = {
    "own": {},
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "onednn-avx": {"ONEDNN_MAX_CPU_ISA": "AVX"},
    "onednn-sse41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "aten-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "aten-default": {"ATEN_CPU_CAPABILITY": "default"},
}
# what torch says of its own kernels then
ATEN = {"aten-avx2": "AVX2", "aten-default": "DEFAULT"}


@pytest.mark.parametrize("kernels", KERNELS)
def test_one_training_step_of_every_network_has_the_gradients_of_float64(kernels):
    program = [sys.executable, Path(__file__).with_name("gradients.py")]
    done = subprocess.run(
        program, env={**os.environ, **KERNELS[kernels]}, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1:]}: {done.stderr}"
    assert lines[0]["kernels"] == ATEN.get(kernels, lines[0]["kernels"])
    errors = {line["network"]: line["error"] for line in lines if "error" in line}
    stems = 12  # networks for larger images
    assert len(errors) == 3 * (9 + 2) + 6 + stems
    assert max(errors.values()) < 1e-3, max(errors.items(), key=lambda item: item[1])


def strided_pointwise(net: nn.Module) -> list[nn.Conv2d]:
    convolutions = (layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    return [
        layer for layer in convolutions if layer.kernel_size == (1, 1) and max(layer.stride) > 1
    ]


def test_strided_pointwise_convolution_is_subsampled_and_stays_the_same_function():
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, 1, stride=2, bias=True).double()
    net = nn.Sequential(plain)
    images = torch.rand(3, 5, 9, 8, dtype=torch.double)
    expected, weight = plain(images), plain.weight
    subsample_strided_pointwise(net)
    assert type(net[0]) is SubsampledConv2d
    assert net[0].weight is weight
    assert torch.equal(net(images), expected)


def test_no_network_of_the_package_has_a_strided_pointwise_convolution_of_torchs():
    with torch.device("meta"):
        nets = [build(name, 10, 0.5) for name in NETWORKS]
    assert {type(layer) for net in nets for layer in strided_pointwise(net)} == {SubsampledConv2d}


def test_torchvisions_networks_are_mended_with_their_weights():
    net = resnet50(num_classes=10)
    names = list(net.state_dict())
    assert len(strided_pointwise(net)) == 3
    subsample_strided_pointwise(net)
    assert list(net.state_dict()) == names
    assert {type(layer) for layer in strided_pointwise(net)} == {SubsampledConv2d}
