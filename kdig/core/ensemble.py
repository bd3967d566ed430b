"""Several seeds of one network trained as one: their channels stand side by side, and no number of
one meets another's.

A convolution with g groups becomes one with S g groups, batch norm one of S times the channels.
Small networks leave a GPU idle; S of them side by side fill it. Each seed's gradients and updates
are those of a training of its own, to rounding.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """`nets`, equal in shape, side by side: S batches of pictures (S, N, 3, H, W) -> logits (S, N,
    K).

    The sum over seeds of a loss of each gives every seed the gradient that it has alone; any
    optimiser that treats parameters one by one (SGD, Adam, AdamW) then makes the same step. In
    training mode, batch norm keeps statistics for each seed. A network is `features`, their mean
    over positions, and a linear layer, the last one of `classifier`: what every network of
    `NETWORKS` is but for dropout.
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.size = len(nets)
        self.features = _side_by_side([net.get_submodule("features") for net in nets])
        heads = [_head(net) for net in nets]
        self.weight = nn.Parameter(torch.stack([head.weight.detach() for head in heads]))
        self.bias = nn.Parameter(torch.stack([head.bias.detach() for head in heads]))

    def forward(self, images: Tensor) -> Tensor:
        seeds, n, _, height, width = images.shape
        together = (
            images.transpose(0, 1)
            .reshape(n, -1, height, width)
            .contiguous(memory_format=torch.channels_last)
        )
        pooled = self.features(together).mean((2, 3)).view(n, seeds, -1)
        logits: Tensor = torch.baddbmm(
            self.bias[:, None], pooled.transpose(0, 1), self.weight.transpose(1, 2)
        )
        return logits

    @torch.no_grad()
    def split(self, nets: Sequence[nn.Module]) -> None:
        """Write weights and statistics back into `nets`, which have the shapes that the ensemble
        was made from.
        """
        stacked = dict(self.features.state_dict())
        for seed, net in enumerate(nets):
            for name, values in net.get_submodule("features").state_dict().items():
                values.copy_(
                    stacked[name] if values.ndim == 0 else stacked[name].chunk(self.size)[seed]
                )
            _head(net).weight.copy_(self.weight[seed])
            _head(net).bias.copy_(self.bias[seed])


def _head(net: nn.Module) -> nn.Linear:
    head = net.get_submodule("classifier")[-1]  # type: ignore[index]
    assert isinstance(head, nn.Linear)
    return head


def _side_by_side(modules: Sequence[nn.Module]) -> nn.Module:
    """One module that does what `modules`, equal in shape, do to their own groups of channels."""
    first = modules[0]
    if isinstance(first, nn.Conv2d):
        return _convolution([module for module in modules if isinstance(module, nn.Conv2d)])
    if isinstance(first, nn.BatchNorm2d):
        return _batch_norm([module for module in modules if isinstance(module, nn.BatchNorm2d)])
    assert not first._parameters, (
        f"{type(first).__name__} has weights that cannot stand side by side"
    )
    together = copy.copy(first)
    together._modules = {}
    for name in first._modules:
        together.add_module(name, _side_by_side([module.get_submodule(name) for module in modules]))
    return together


def _convolution(convolutions: Sequence[nn.Conv2d]) -> nn.Conv2d:
    one, seeds = convolutions[0], len(convolutions)
    same: dict[str, Any] = {
        name: getattr(one, name) for name in ("kernel_size", "stride", "padding", "dilation")
    }
    channels, groups = (seeds * one.in_channels, seeds * one.out_channels), seeds * one.groups
    # its own class: a strided 1x1 convolution has one that subsamples first
    wide = type(one)(*channels, groups=groups, bias=one.bias is not None, **same)
    for name, values in wide.named_parameters():
        values.data = torch.cat(
            [getattr(convolution, name).detach() for convolution in convolutions]
        )
    return wide


def _batch_norm(norms: Sequence[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    one = norms[0]
    wide = nn.BatchNorm2d(len(norms) * one.num_features, one.eps, one.momentum)
    for name, values in wide.state_dict().items():
        held = [norm.state_dict()[name] for norm in norms]
        values.copy_(held[0] if values.ndim == 0 else torch.cat(held))
    return wide
