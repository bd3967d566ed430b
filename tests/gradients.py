"""One training step of every network that a profile can train, its gradients compared with those in
float64.

Run as a program it prints a line of JSON for each network, so that a process that dies names the
network it died on.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from kdig.core.networks import LEVELS, NETWORKS, build, count_parameters, equal_width, of_level

PROFILES = Path(__file__).parents[1] / "params"
PAPERS = [of_level(level) for level in (0, *LEVELS)]
RIVALS = ["mobilenet_v2", "resnet20"]


def networks() -> Iterator[tuple[str, float, int]]:
    """(network, width, image size) of teacher, students and rivals of every profile, and of the
    benchmarks; and every other network of the package, as wide as the demo's.

    Rivals are as large as the student of level 2, which every profile compares them with.
    """
    profiles = [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in PROFILES.glob("*.yaml")
    ]
    shared = [profile["common"] for profile in profiles]
    sizes = {(settings["width"], settings["image_size"]) for settings in shared}
    for width, image_size in sorted(sizes | {(1.0, 32)}):
        yield from ((name, width, image_size) for name in PAPERS)
        parameters = count_parameters(build("s2", 10, width))
        yield from ((rival, equal_width(rival, parameters), image_size) for rival in RIVALS)
    yield from ((name, 0.25, 10) for name in NETWORKS if name not in {*PAPERS, *RIVALS})


def error(net: nn.Module, images: Tensor) -> float:
    """Of one training step on `images`: the largest relative error of a convolution's weight
    gradient.

    The reference is computed in float64 from the layer's own input and the gradient of its output,
    so that rounding in other layers, which batch norm can amplify without bound, does not count.
    """
    inputs: dict[nn.Conv2d, Tensor] = {}
    arriving: dict[nn.Conv2d, Tensor] = {}

    def record(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        inputs[layer] = given[0].detach()
        output.register_hook(lambda gradient: arriving.update({layer: gradient}))

    for layer in (module for module in net.modules() if isinstance(module, nn.Conv2d)):
        layer.register_forward_hook(record)
    labels = torch.arange(len(images)) % 10
    nn.functional.cross_entropy(net.train()(images), labels).backward()
    return max(
        _relative(layer, inputs[layer].double(), arriving[layer].double()) for layer in inputs
    )


def _relative(layer: nn.Conv2d, given: Tensor, arriving: Tensor) -> float:
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    exact = nn.grad.conv2d_weight(given, layer.weight.shape, arriving, *geometry)
    assert layer.weight.grad is not None
    # where a gradient is zero but for rounding (one channel before batch norm), the size of its
    # summands counts
    scale = max(exact.norm().item(), 1e-3 * given.norm().item() * arriving.norm().item())
    return (layer.weight.grad - exact).norm().item() / scale


def main() -> None:
    """The kernels in use; a line for each network when it starts, and its error when it is done."""
    torch.set_num_threads(1)
    print(json.dumps({"kernels": torch.backends.cpu.get_cpu_capability()}), flush=True)
    for network, width, image_size in networks():
        torch.manual_seed(0)
        net = build(network, 10, width)
        net = net.to(memory_format=torch.channels_last)
        images = torch.rand(128 // image_size, 3, image_size, image_size).contiguous(
            memory_format=torch.channels_last
        )
        name = f"{network} width {width} at {image_size}"
        print(json.dumps({"network": name}), flush=True)
        print(json.dumps({"network": name, "error": error(net, images)}), flush=True)


if __name__ == "__main__":
    main()
