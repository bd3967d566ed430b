"""Signals' settings by their own names, so that a test says only what it is about; and a teacher
whose signals differ from image to image.
"""

import torch
from torch import Tensor, nn

from kdig.core.data import Split
from kdig.core.dataset import IGDataset
from kdig.core.networks import build, with_normalisation
from kdig.core.signals import NO_SIGNALS, Signals, SignalSettings, SignalSpec


def observant(
    seed: int, images: Tensor, mean: tuple[float, ...], std: tuple[float, ...], classes: int = 10
) -> nn.Module:
    """An untrained network whose batch norm has the statistics of `images`, so that what it says
    depends on the image; with torch's own its answers would be alike to rounding.
    """
    torch.manual_seed(seed)
    net = build("mobilenet_v2", classes, 0.25)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        with_normalisation(net, mean, std).train()(images / 255)
    return net


def split_settings(values: dict) -> tuple[SignalSettings, dict]:
    """The settings of signals among `values`, and the rest."""
    own = {name: value for name, value in values.items() if name in SignalSettings.model_fields}
    rest = {name: value for name, value in values.items() if name not in own}
    return SignalSettings(**own), rest


def spec(**values: object) -> SignalSpec:
    """A `SignalSpec` from its fields and those of its settings."""
    settings, rest = split_settings(values)
    return SignalSpec(settings=settings, **rest)


def ig_dataset(split: Split, signals: Signals = NO_SIGNALS, **values: object) -> IGDataset:
    """An `IGDataset` from its arguments and those of its settings."""
    settings, rest = split_settings(values)
    return IGDataset(split, signals, settings=settings, **rest)


def changed(one: SignalSpec, **values: object) -> SignalSpec:
    """`one` with other values of its fields or of its settings'."""
    _, rest = split_settings(values)
    own = {name: value for name, value in values.items() if name not in rest}
    settings = SignalSettings(**{**one.settings.model_dump(), **own})
    return SignalSpec(**{**dict(one), "settings": settings, **rest})
