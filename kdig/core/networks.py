"""Networks for small images by name, a tap on their attention, and what is done to any network."""

import copy
import functools
import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import MobileNetV2
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import Conv2dNormActivation

from kdig import KdigError

# expansion, channels, repeats, stride: torchvision's table with the second stage's stride at 1 for
# 32x32 pictures
_CIFAR_BLOCKS = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]
# Table S5: level -> (index of the last feature block, index of the block whose output gives the
# attention map)
LEVELS = {1: (15, 9), 2: (13, 9), 3: (11, 9), 4: (9, 4), 5: (7, 4), 6: (5, 4), 7: (3, 2), 8: (1, 0)}


def mobilenet_v2(num_classes: int = 10, width: float = 1.0) -> MobileNetV2:
    """torchvision's MobileNetV2 with CIFAR strides: (N, 3, H, W) -> (N, num_classes).

    At width 1 and 10 classes, the teacher.
    """
    net = MobileNetV2(num_classes, width_mult=width, inverted_residual_setting=_CIFAR_BLOCKS)
    net.features[0][0].stride = (1, 1)
    return net


def student(level: int, num_classes: int = 10, width: float = 1.0) -> MobileNetV2:
    """The student of compression level 1 to 8 (Table S5): the teacher cut off after a block,
    average pool, a new linear head.

    Raises `KdigError` for another level.
    """
    if level not in LEVELS:
        raise KdigError(
            f"no student at level {level}: Table S5 has levels {min(LEVELS)} to {max(LEVELS)}"
        )
    net = mobilenet_v2(num_classes, width)
    net.features = net.features[: LEVELS[level][0] + 1]
    net.classifier = nn.Sequential(nn.Identity(), nn.Linear(output_features(net), num_classes))
    return net


class SubsampledConv2d(nn.Conv2d):
    """A strided 1x1 convolution as what it is: every `stride`-th pixel, then a 1x1 convolution of
    stride 1.

    It takes the place of `nn.Conv2d`, whose weight gradient is wrong or ends the process on CPUs:
    oneDNN writes past its workspace for a strided 1x1 convolution with few input channels (fewer
    than 8 with AVX2, 16 with AVX-512; oneDNN issue 6035).
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H / stride, W / stride), rounded up."""
        return F.conv2d(
            F.avg_pool2d(input, 1, self.stride), self.weight, self.bias, groups=self.groups
        )


def subsample_strided_pointwise(net: nn.Module) -> None:
    """Put a `SubsampledConv2d` in the place of every strided 1x1 convolution of `net`.

    Weights, names and function stay.
    """
    for parent in list(net.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and max(layer.stride) > 1:
                # its padding adds pixels that the subsampling would have to see, and no network
                # here has any
                assert layer.padding == (0, 0)
                with torch.device("meta"):
                    replacement = SubsampledConv2d(
                        layer.in_channels,
                        layer.out_channels,
                        1,
                        max(layer.stride),
                        groups=layer.groups,
                        bias=layer.bias is not None,
                    )
                replacement.weight, replacement.bias = layer.weight, layer.bias
                setattr(parent, name, replacement)


class Pooled(nn.Module):
    """`features`, which end in `channels` channels, their average over positions, and one linear
    layer: (N, 3, H, W) -> (N, num_classes).

    Convolutions start as He et al. (2015) draw them, by what leaves them.
    """

    def __init__(self, features: Sequence[nn.Module], channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Linear(channels, num_classes))
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return scores


class ResNet(Pooled):
    """A residual network for small images (He et al. 2016): (N, 3, H, W) -> (N, num_classes).

    A 3x3 convolution of stride 1 with `channels` times `width` channels, then one stage of
    `block`s for each entry of `repeats`; each stage but the first halves the image and doubles the
    channels. Where a block changes the shape, its shortcut is a 1x1 convolution with batch norm.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        repeats: Sequence[int],
        channels: int,
        num_classes: int = 10,
        width: float = 1.0,
    ) -> None:
        entering = round(channels * width)
        blocks: list[nn.Module] = [Conv2dNormActivation(3, entering)]
        for stage, count in enumerate(repeats):
            planes = round(channels * width * 2**stage)
            for place in range(count):
                stride, leaving = 2 if stage and not place else 1, planes * block.expansion
                changed = stride > 1 or entering != leaving
                shortcut = _shortcut(entering, leaving, stride) if changed else None
                blocks.append(block(entering, planes, stride, shortcut))
                entering = leaving
        super().__init__(blocks, entering, num_classes)
        subsample_strided_pointwise(self)


class FusedBlock(nn.Module):
    """Fused-MBConv (Tan and Le 2021): a usual 3x3 convolution to `expansion` times the channels and
    a 1x1 back, or the 3x3 alone at expansion 1; its input is added where the shape stays.

    torchvision's has SiLU, and with a ReLU in its place no gradient: it adds in place.
    """

    def __init__(self, entering: int, leaving: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = leaving if expansion == 1 else entering * expansion
        self.block = nn.Sequential(Conv2dNormActivation(entering, wide, 3, stride))
        if expansion > 1:
            self.block.append(Conv2dNormActivation(wide, leaving, 1, activation_layer=None))
        self.adds = stride == 1 and entering == leaving

    def forward(self, images: Tensor) -> Tensor:
        changed: Tensor = self.block(images)
        return images + changed if self.adds else changed


_FUSED_STEM = 24
# block, expansion, channels, repeats, stride (see params/evidence.yaml for how they were chosen)
_FUSED_BLOCKS = [
    (FusedBlock, 1, 24, 2, 1),
    (FusedBlock, 4, 40, 2, 2),
    (FusedBlock, 4, 64, 2, 2),
    (InvertedResidual, 6, 96, 3, 1),
]


class FusedNet(Pooled):
    """A network designed for its time on a processor (13_deployment): (N, 3, H, W) ->
    (N, num_classes).

    A block of MobileNetV2 is fast where channels are many and positions few. Its depthwise layer
    uses each number it loads only a few times, which costs most where the image is still large. So
    here the first blocks are Fused-MBConv (Tan and Le 2021, figure 2), with one usual convolution
    in place of the depthwise one and the one before it. Every activation is a ReLU or ReLU6, which
    costs nothing in 8 bits. `width` multiplies all channels.
    """

    def __init__(self, num_classes: int = 10, width: float = 1.0) -> None:
        entering = round(_FUSED_STEM * width)
        blocks: list[nn.Module] = [Conv2dNormActivation(3, entering)]
        for block, expansion, channels, count, stride in _FUSED_BLOCKS:
            for place in range(count):
                leaving = round(channels * width)
                blocks.append(block(entering, leaving, 1 if place else stride, expansion))
                entering = leaving
        super().__init__(blocks, entering, num_classes)


def _shortcut(entering: int, leaving: int, stride: int) -> nn.Module:
    shortcut: nn.Module = Conv2dNormActivation(entering, leaving, 1, stride, activation_layer=None)
    return shortcut


def _stemmed(
    cut: Callable[[int, float], MobileNetV2], factor: int, classes: int, width: float
) -> MobileNetV2:
    """A network that `cut` builds, for images that are `factor` (2, 4) times larger than 32 pixels:
    its first layers reduce them, as torchvision's own do, so that later layers meet the same sizes.
    """
    net = cut(classes, width)
    net.features[0][0].stride = (2, 2)
    if factor == 4:
        block = net.features[2]
        block.conv[1][0].stride = (2, 2)
        # at small widths its input has as many channels as its output, but no longer its size
        block.use_res_connect = False
    return net


def _stemmed_pooled(
    plain: Callable[[int, float], nn.Module], factor: int, classes: int, width: float
) -> Any:
    """A `Pooled` network for images that are `factor` (2, 4) times larger than 32 pixels: its first layer is
    torchvision's, a 7x7 convolution of stride 2, which by 4 is followed by a pooling of stride 2.
    """
    net: Any = plain(classes, width)
    convolution, *rest = net.features[0]
    larger = nn.Conv2d(3, convolution.out_channels, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(larger.weight, mode="fan_out")
    pool = [nn.MaxPool2d(3, stride=2, padding=1)] if factor == 4 else []
    net.features[0] = nn.Sequential(larger, *rest, *pool)
    return net


@dataclass(frozen=True)
class Network:
    """An entry of `NETWORKS`: `build(classes, width)`, and the module whose output is attended to.

    Networks of one `family` share the names and the sizes of their modules, so that a student's
    `tap` is also its teacher's.
    """

    build: Callable[[int, float], nn.Module]
    tap: str
    family: str


def _mobilenet(level: int) -> Network:
    tap = LEVELS[level][1] if level else LEVELS[1][1]
    cut = functools.partial(student, level) if level else mobilenet_v2
    return Network(cut, f"features.{tap}", "mobilenet_v2")


def _resnet(
    block: type[BasicBlock | Bottleneck], repeats: Sequence[int], channels: int, name: str
) -> Network:
    # the last block of the third stage: 8 x 8 positions for images of 32 x 32
    tap = f"features.{sum(repeats[:3])}"
    return Network(functools.partial(ResNet, block, repeats, channels), tap, name)


def _larger(network: Network, factor: int) -> Network:
    stemmed: Any = _stemmed if network.family == "mobilenet_v2" else _stemmed_pooled
    return Network(functools.partial(stemmed, network.build, factor), network.tap, network.family)


# name -> network: the paper's teacher, its students of Table S5, some of them for larger images
# (`for_size`), and others as rivals, students or teachers. ResNet-8 is MLPerf Tiny's (with batch
# norm in its shortcuts), ResNet-20 that of section 4.2 of He et al., the larger ones ImageNet's
# behind a 3x3 convolution. FusedNet is ours.
NETWORKS: dict[str, Network] = {
    "mobilenet_v2": _mobilenet(0),
    **{f"s{level}": _mobilenet(level) for level in LEVELS},
    **{
        f"{of}_stem{factor}": _larger(_mobilenet(level), factor)
        for of, level in (("mobilenet_v2", 0), ("s2", 2), ("s4", 4))
        for factor in (2, 4)
    },
    "resnet8": _resnet(BasicBlock, (1, 1, 1), 16, "resnet8"),
    "resnet20": _resnet(BasicBlock, (3, 3, 3), 16, "resnet20"),
    "resnet18": _resnet(BasicBlock, (2, 2, 2, 2), 64, "resnet18"),
    "resnet34": _resnet(BasicBlock, (3, 4, 6, 3), 64, "resnet34"),
    "resnet50": _resnet(Bottleneck, (3, 4, 6, 3), 64, "resnet50"),
    "resnet101": _resnet(Bottleneck, (3, 4, 23, 3), 64, "resnet101"),
    # attended to where its last fused block ends: 8 x 8 positions for images of 32 x 32
    "fusednet": Network(FusedNet, "features.6", "fusednet"),
}
NETWORKS |= {
    f"{of}_stem{factor}": _larger(NETWORKS[of], factor)
    for of in ("resnet18", "resnet50", "fusednet")
    for factor in (2, 4)
}


def of_level(level: int) -> str:
    """The name of the paper's network of compression level 0 (the teacher) to 8 (Table S5)."""
    return f"s{level}" if level else "mobilenet_v2"


def build(network: str, classes: int = 10, width: float = 1.0) -> nn.Module:
    """An untrained network of `NETWORKS`: (N, 3, H, W) -> (N, `classes`).

    `width` multiplies its channels. Raises `KdigError` for a name that is not in the table.

    >>> count_parameters(build("resnet8"))
    78042
    """
    return entry(network).build(classes, width)


def entry(network: str) -> Network:
    """The row of `NETWORKS`. Raises `KdigError` for a name that is not in the table."""
    if network not in NETWORKS:
        raise KdigError(f"unknown network {network!r}: choose one of {', '.join(NETWORKS)}")
    return NETWORKS[network]


def for_size(network: str, image_size: int) -> str:
    """The name of the network that fits images of `image_size` pixels a side: itself up to 48, with
    a stem that halves them up to 80, and one that quarters them beyond.

    Raises `KdigError` for a network that has no such stem, and for an unknown one.
    """
    factor = 1 if image_size <= 48 else 2 if image_size <= 80 else 4
    entry(network)
    if factor == 1 or "_stem" in network:
        return network
    name = f"{network}_stem{factor}"
    if name not in NETWORKS:
        fitting = [n.partition("_stem")[0] for n in NETWORKS if n.endswith(f"_stem{factor}")]
        raise KdigError(
            f"{network} has no form for images of {image_size} pixels: choose one of"
            f" {', '.join(fitting)}, or 48 pixels or less"
        )
    return name


def taps(student: str, teacher: str) -> tuple[str, str]:
    """The modules whose attention maps the student and its teacher share (Table S5, last column).

    Within a family they have one name. Across families each network has its own, and the
    teacher's map is resized to the student's where they differ in size.
    """
    ours, theirs = entry(student), entry(teacher)
    return ours.tap, ours.tap if ours.family == theirs.family else theirs.tap


@functools.cache
def map_size(network: str, image_size: int) -> tuple[int, int]:
    """Height and width of the attention map at the network's tap."""
    with torch.device("meta"), torch.no_grad():
        net = build(network).eval()
        with AttentionTap(net, entry(network).tap) as tap:
            net(torch.empty(1, 3, image_size, image_size))
    assert tap.output is not None
    return tap.output.shape[2], tap.output.shape[3]


def equal_width(network: str, parameters: int, classes: int = 10) -> float:
    """The width multiplier, in steps of 0.01, at which a network first has `parameters` or more."""

    def size(hundredths: int) -> int:
        with torch.device("meta"):
            return count_parameters(build(network, classes, hundredths / 100))

    return bisect_left(range(1000), parameters, lo=5, key=size) / 100


def output_features(net: MobileNetV2) -> int:
    """Channels that leave the last feature block."""
    return int(net.features[-1].out_channels)


def count_parameters(net: nn.Module) -> int:
    """Trainable scalars."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_layers(net: nn.Module) -> int:
    """Convolutions and linear layers, as Table S5 counts."""
    return sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in net.modules())


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 means float32 for a while: cuDNN rounds the inputs of convolutions to 10 bits (TF32)
    on recent GPUs by default.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class _ConvolutionsWhole(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Conv2d) or super().is_leaf_module(module, name)


def fold_batch_norm(net: nn.Module) -> fx.GraphModule:
    """A copy of `net` (in eval mode) whose batch norms are part of the convolutions before them:
    the same function, faster.
    """
    net = copy.deepcopy(net)
    graph, modules = _ConvolutionsWhole().trace(net), dict(net.named_modules())
    for node in list(graph.nodes):
        norm, source = modules.get(str(node.target)), next(iter(node.all_input_nodes), node)
        convolution = modules.get(str(source.target))
        alone = len(source.users) == 1
        if isinstance(norm, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d) and alone:
            net.set_submodule(str(source.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(source)
            graph.erase_node(node)
    return fx.GraphModule(net, graph)


class Normalise(nn.Module):
    """(x - mean) / std for each colour. torchvision's transform sends both to the device and waits
    for it at every call.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(
                name, torch.tensor(values, dtype=torch.float64).view(-1, 1, 1), persistent=False
            )

    def forward(self, images: Tensor) -> Tensor:
        return images.sub(self.mean.to(images.dtype)).div_(self.std.to(images.dtype))


def with_normalisation(net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """`net` behind a layer that normalises pictures in [0, 1], so that every model takes the same
    input.
    """
    return nn.Sequential(Normalise(mean, std).to(next(net.parameters()).device), net)


class AttentionTap:
    """Records what leaves a module in each forward pass.

    `with AttentionTap(net, "features.9") as tap: net(x); tap.output`.
    """

    def __init__(self, net: nn.Module, module: str) -> None:
        self.output: Tensor | None = None
        self._handle = net.get_submodule(module).register_forward_hook(self._record)

    def _record(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.output = output

    def __enter__(self) -> "AttentionTap":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.remove()


def state_hash(net: nn.Module) -> str:
    """Sixteen hex digits over names and bytes of every parameter and buffer."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
