"""MobileNetV2 as the paper uses it: the teacher, the eight students of Table S5, and a tap on their
attention.
"""

import copy
import hashlib
import pickle
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import MobileNetV2
from torchvision.models.resnet import BasicBlock
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
# `paper`: its teacher and students; the others are plain rivals of a student, scaled to its size
Architecture = Literal["paper", "mobilenet_v2", "resnet20"]
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


class ResNet20(nn.Module):
    """ResNet-20 for 32x32 pictures (He et al. 2016, section 4.2): (N, 3, H, W) -> (N, num_classes).

    Three stages of three blocks with 16, 32 and 64 channels times `width`; the two shortcuts that
    change shape are 1x1 convolutions. At width 1 and 10 classes, 272,474 parameters.
    """

    def __init__(self, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        entering = round(16 * width)
        blocks: list[nn.Module] = [Conv2dNormActivation(3, entering)]
        for stage in range(3):
            leaving, stride = round(16 * width * 2**stage), 2 if stage else 1
            shortcut = (
                Conv2dNormActivation(entering, leaving, 1, stride, activation_layer=None)
                if stage
                else None
            )
            blocks += [
                BasicBlock(entering, leaving, stride, shortcut),
                BasicBlock(leaving, leaving),
                BasicBlock(leaving, leaving),
            ]
            entering = leaving
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(nn.Linear(entering, num_classes))
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        subsample_strided_pointwise(self)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return scores


Network: TypeAlias = MobileNetV2 | ResNet20


def build(level: int, classes: int, width: float, architecture: Architecture = "paper") -> Network:
    """An untrained network: of the paper's, the teacher at level 0 and a student otherwise; or a
    rival, which has no level.
    """
    if architecture == "resnet20":
        return ResNet20(classes, width)
    return (
        mobilenet_v2(classes, width)
        if level == 0 or architecture == "mobilenet_v2"
        else student(level, classes, width)
    )


def equal_width(architecture: Architecture, parameters: int, classes: int = 10) -> float:
    """The width multiplier, in steps of 0.01, at which a rival first has `parameters` or more."""

    def size(hundredths: int) -> int:
        with torch.device("meta"):
            return count_parameters(build(0, classes, hundredths / 100, architecture))

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
    """Records what leaves `net.features[index]` in each forward pass: `with AttentionTap(net, 9) as
    tap: net(x); tap.output`.
    """

    def __init__(self, net: Network, index: int) -> None:
        self.output: Tensor | None = None
        self._handle = net.features[index].register_forward_hook(self._record)

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


def load_released_checkpoint(path: str | Path) -> MobileNetV2:
    """One of the students that the paper's authors released, in either of their layouts, in eval
    mode on the CPU.

    A state that was saved by a data-parallel wrapper (`module.`, `module.student.`), or inside a
    dictionary as `state_dict` or `model`, is found there. Raises `KdigError` when the file is no
    such checkpoint, and says what it holds instead.
    """
    try:
        return _as_student(_state_in(_content_of(Path(path))))
    except ValueError as error:
        raise KdigError(f"{path} is not one of the paper's released students: {error}") from None


def _content_of(path: Path) -> object:
    """What torch has stored at `path`.

    Raises `ValueError` when it is no file of torch's, or holds more than tensors.
    """
    try:
        if path.read_bytes()[:40].startswith(b"version https://git-lfs"):
            raise ValueError("it is a pointer of Git LFS: fetch the file itself (git lfs pull)")
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError((error.strerror or type(error).__name__).lower()) from None
    except ValueError:
        raise
    except (
        Exception
    ) as error:  # torch answers a file that is none of its own with a dozen kinds of error
        # its text may advise to load the file without weights_only, which runs whatever code the
        # file brings
        more = isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error)
        found = (
            "it holds Python objects, not only weights"
            if more
            else "it is no whole file of torch's"
        )
        raise ValueError(found) from None


def _state_in(content: object) -> dict[str, Tensor]:
    """The names and tensors of a network, out of the wrappings that are usual.

    Raises `ValueError` when there are none.
    """
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of weights")
    if {"state", "mean", "std"} <= set(content):
        raise ValueError(
            "kdig itself has trained this network; the notebooks show it without being given the"
            " file"
        )
    inner = next(
        (content[name] for name in ("state_dict", "model_state_dict", "model") if name in content),
        None,
    )
    if inner is not None:
        return _state_in(inner)
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"it holds a dictionary of {', '.join(map(str, list(content)[:4])) or 'nothing'}, not"
            " of weights"
        )
    state = {str(name).removeprefix("module."): value for name, value in content.items()}
    students = {
        name.removeprefix("student."): value
        for name, value in state.items()
        if name.startswith("student.")
    }
    return students or state


def _as_student(state: dict[str, Tensor]) -> MobileNetV2:
    """The student with these weights. Raises `ValueError` when they are another network's."""
    first = next(iter(state))
    state = {_torchvision_name(name): value for name, value in state.items()}
    blocks = [int(number[1]) for name in state if (number := re.match(r"features\.(\d+)\.", name))]
    level = next(
        (level for level, (cut, _) in LEVELS.items() if blocks and cut == max(blocks)), None
    )
    bias = state.get("classifier.1.bias")
    if level is None or bias is None or bias.dim() != 1:
        network = f"a network of {max(blocks) + 1} blocks with" if blocks else "a network with"
        raise ValueError(
            f"it holds {network} the first weight {first!r}; the students are MobileNetV2 cut after"
            " a block of Table S5"
        )
    net = student(level, num_classes=len(bias))
    wanted = net.state_dict()
    for name in [*wanted, *state]:
        ours, theirs = (list(s[name].shape) if name in s else "missing" for s in (wanted, state))
        if ours != theirs:
            raise ValueError(
                f"its {name} is {theirs}, in the student of level {level} it is {ours}"
            )
    net.load_state_dict(state)
    return net.eval()


def _torchvision_name(name: str) -> str:
    """`ModifiedStudent` splits the features at block 9 into front_layers, middle_layer, end_layers;
    the other layout does not.
    """
    name = re.sub(r"^front_layers\.", "features.", name)
    name = re.sub(r"^middle_layer\.", "features.9.", name)
    return re.sub(r"^end_layers\.(\d+)", lambda match: f"features.{10 + int(match[1])}", name)
