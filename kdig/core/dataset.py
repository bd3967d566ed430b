"""The paper's IG data set: images as a student meets them, paired with the teacher's signals."""

from collections.abc import Collection, Sequence, Set
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset as TorchDataset

from kdig import KdigError
from kdig.core.augment import Views, blend, crop_flip, draw_views, normalise_map, phase_scrambled
from kdig.core.data import Split
from kdig.core.methods import Kind
from kdig.core.signals import NO_SIGNALS, Pairing, Signals, SignalSettings, SignalSpec, Teacher


class Batch(NamedTuple):
    """What the student sees: images float (B, 3, H, W) in [0, 1], labels int64 (B,), and the
    teacher's signals for them.
    """

    images: Tensor
    labels: Tensor
    signals: Signals


def _veiling(maps: Tensor, overlay: str, seed: int) -> Tensor:
    """The maps (N, H, W) that `overlay` lays over pictures.

    Eq. 5 comes later, except inside the mean, where maps count alike.
    """
    if overlay == "phase":
        return phase_scrambled(maps, Generator().manual_seed(seed))
    if overlay == "mean":
        return (
            normalise_map(maps, torch.ones(len(maps), device=maps.device)).mean(0).expand_as(maps)
        )
    return maps


def _require_signals(wanted: Set[Kind], signals: Signals, pairing: Pairing, images: int) -> None:
    if unknown := sorted(wanted - set(Signals._fields)):
        raise KdigError(f"unknown signal {unknown[0]!r}: choose from {', '.join(Signals._fields)}")
    for kind, values in signals._asdict().items():
        if kind in wanted and values is None and pairing != "same_view":
            raise KdigError(
                f"{kind} are wanted, but none are given: see kdig.core.signals.precompute"
            )
        if values is not None and len(values) != images:
            raise KdigError(f"{len(values)} {kind} are given for {images} images")


class IGDataset(TorchDataset[Batch]):
    """The paper's IG data set: a random view of each picture, overlaid with its attribution map at
    `probability` (Eqs. 4-6).

    `ds[i]` is one sample, `ds.__getitems__(indices)` a whole batch through the same code; a
    `DataLoader` takes it with `collate_fn=lambda batch: batch`. Both depend only on (seed, epoch,
    i). `wanted` names the signals that a method uses.

    `settings.pairing` says whose signals a picture meets: `static` its own, precomputed, the map moved with
    the picture; `released` those of a `released` cache, the map left where it is; `reshuffled`
    another picture's, drawn anew each epoch; `same_view` its own, computed by `teacher` on the very
    view (before the overlay). `settings.maps_pairing` says it for maps where that differs: beside
    `same_view`, `static` maps are the stored ones.

    `settings.overlay` says what is laid over the chosen pictures: `map` the picture's attribution map, or a
    control in its place: `unmoved` the map without the picture's crop and flip, `other` another
    picture's map, drawn anew each epoch, `phase` the map with scrambled phases, `mean` the mean of
    all maps, `grey` mid-grey, `mixup` another picture (the label stays).

    Raises `KdigError` for a wanted signal that is not given, and for signals of other rows.

    >>> digits = load_dataset("digits", image_size=8).train
    >>> maps = Signals(maps=torch.rand(len(digits), 8, 8))
    >>> IGDataset(digits, maps, wanted={"maps"}, probability=0.1)[0].images.shape
    torch.Size([3, 8, 8])
    """

    def __init__(
        self,
        split: Split,
        signals: Signals = NO_SIGNALS,
        *,
        wanted: Collection[Kind] = (),
        probability: float = 0.0,
        padding: int = 4,
        flip: bool = True,
        settings: SignalSettings = SignalSettings(),
        seed: int = 0,
        device: str = "cpu",
        teacher: Teacher | None = None,
        spec: SignalSpec | None = None,
    ) -> None:
        _require_signals(set(wanted), signals, settings.pairing, len(split))
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.signals = Signals(
            *(None if signal is None else signal.to(device) for signal in signals)
        )
        if self.signals.maps is not None:
            maps = _veiling(self.signals.maps, settings.overlay, seed)
            self.signals = self.signals._replace(maps=maps)
        self.wanted, self.probability, self.settings = set(wanted), probability, settings
        self.padding, self.flip = padding, flip
        self.seed, self.device, self.teacher, self.spec = seed, device, teacher, spec
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.labels)

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's order, views and each picture's `other`.

        Methods that share a seed share every draw.
        """
        generator = Generator().manual_seed(100_003 * self.seed + epoch)
        self.order = torch.randperm(len(self), generator=generator)
        self.views = draw_views(len(self), self.padding, self.flip, generator).to(self.device)
        # one cycle through all pictures: nobody meets itself
        cycle = torch.randperm(len(self), generator=generator).to(self.device)
        self.other = torch.empty_like(cycle).index_copy(0, cycle, cycle.roll(1))
        self.partner = (
            self.other
            if self.settings.pairing == "reshuffled"
            else torch.arange(len(self), device=self.device)
        )

    def __getitem__(self, index: int) -> Batch:
        images, labels, signals = self.__getitems__([index])
        return Batch(
            images[0],
            labels[0],
            Signals(*(None if signal is None else signal[0] for signal in signals)),
        )

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Batch:
        index = torch.as_tensor(indices, device=self.device)
        views, labels = self.views[index], self.labels[index]
        images = crop_flip(self.images[index], views, self.padding) / 255
        chosen = views.chance < self.probability
        signals = self._stored(index, views)
        if self.settings.pairing == "same_view":
            signals = self._live(images, labels, chosen, signals.maps)
        veil = self._veil(index, views, signals.maps)
        if veil is not None:
            veiled = blend(images, veil, self.settings.blend)
            images = torch.where(chosen[:, None, None, None], veiled, images)
        return Batch(images, labels, signals)

    def _veil(self, index: Tensor, views: Views, maps: Tensor | None) -> Tensor | None:
        """What is blended into the chosen ones of a batch, in [0, 1].

        None for a method without overlay.
        """
        if self.settings.overlay == "grey":
            return torch.tensor(0.5, device=self.device)
        if self.settings.overlay == "mixup":
            return crop_flip(self.images[self.other[index]], views, self.padding) / 255
        return None if maps is None else normalise_map(maps, views.exponent)[:, None]

    def _stored(self, index: Tensor, views: Views) -> Signals:
        rows = self.partner[index]
        logits, attention, maps = (
            None if signal is None else signal[rows] for signal in self.signals
        )
        if self.signals.maps is not None and self.settings.overlay == "other":
            maps = self.signals.maps[self.other[index]]
        if (
            maps is not None
            and self.settings.pairing_of("maps") != "released"
            and self.settings.overlay != "unmoved"
        ):
            maps = crop_flip(maps[:, None], views, self.padding)[:, 0]
        return Signals(logits, attention, maps)

    def _live(
        self, images: Tensor, labels: Tensor, chosen: Tensor, stored: Tensor | None
    ) -> Signals:
        """What the teacher says of these views; `stored` maps are taken as they are."""
        assert self.teacher is not None, "same_view needs the teacher"
        assert self.spec is not None, "same_view needs the signals' settings"
        signals = NO_SIGNALS
        if self.wanted & {"logits", "attention"}:
            signals = self.teacher.observe(
                images, self.spec.attention_tap, self.spec.attention_size
            )
        if stored is not None:
            return signals._replace(maps=stored)
        if "maps" in self.wanted:
            maps = torch.zeros(len(images), *images.shape[2:], device=images.device)
            if chosen.any():
                maps[chosen] = self.teacher.explain(images[chosen], labels[chosen], self.settings)
            signals = signals._replace(maps=maps)
        return signals
