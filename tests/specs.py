"""Signals' settings by their own names, so that a test says only what it is about."""

from kdig.core.data import Split
from kdig.core.dataset import IGDataset
from kdig.core.signals import NO_SIGNALS, Signals, SignalSettings, SignalSpec


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
