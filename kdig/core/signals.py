"""What the teacher tells the student: logits, attention maps and attribution maps, computed once
and matched to pictures.

Each kind of signal is one `.npy` file in the data set's order, memory-mapped when read, beside a
stamp of everything that made it. It is written in blocks, so that a killed computation goes on
where it stopped.
"""

import functools
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Generator, Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from kdig import KdigError
from kdig.core.attribution import (
    Baseline,
    Output,
    Rule,
    attribution_map,
    baseline_point,
    integrated_gradients,
)
from kdig.core.augment import Views, blend, crop_flip, draw_views, normalise_map, phase_scrambled
from kdig.core.data import Split
from kdig.core.files import alone, atomic_write
from kdig.core.losses import attention_map
from kdig.core.methods import Kind
from kdig.core.networks import (
    AttentionTap,
    Network,
    fold_batch_norm,
    full_precision,
    state_hash,
    with_normalisation,
)
from kdig.core.progress import Progress

Pairing = Literal["static", "released", "same_view", "reshuffled"]
Overlay = Literal["map", "unmoved", "other", "phase", "mean", "grey", "mixup"]


class Signals(NamedTuple):
    """Teacher's logits (N, K), attention maps (N, P) and attribution maps (N, H, W).

    None where a method needs none.
    """

    logits: Tensor | None = None
    attention: Tensor | None = None
    maps: Tensor | None = None


NO_SIGNALS = Signals()
# A teacher whose argmax is the label hardly more often than a guess (by less than this) has nothing
# to teach.
_ABOVE_CHANCE = 0.15


class SignalSpec(BaseModel):
    """Everything that decides the signals of one training split.

    Pairings other than `released` are made from `static`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: str
    data: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    attention_index: int = 9
    baseline: Baseline = "black"
    rule: Rule = "gausslegendre"
    steps: int = 50
    output: Output = "logit"
    pairing: Literal["static", "released"] = "static"
    padding: int = 4
    flip: bool = True
    seed: int = 0

    def stamp(self, kind: Kind) -> dict[str, object]:
        """The fields that decide signals of `kind`."""
        fields = {"teacher", "data", "image_size", "mean", "std", "pairing"}
        fields |= {
            "logits": set(),
            "attention": {"attention_index"},
            "maps": {"baseline", "rule", "steps", "output"},
        }[kind]
        if self.pairing == "released":
            fields |= {"padding", "flip", "seed"}
        stamp: dict[str, object] = json.loads(self.model_dump_json(include=fields))
        return {"kind": kind, **stamp}


@dataclass
class Teacher:
    """A trained network with the normalisation that it was trained with: frozen, in eval mode."""

    net: Network
    mean: Sequence[float]
    std: Sequence[float]
    device: str = "cpu"

    def __post_init__(self) -> None:
        self.hash = state_hash(self.net)
        self.net = (
            self.net.to(self.device)
            .to(memory_format=torch.channels_last)
            .eval()
            .requires_grad_(False)
        )
        self.model = with_normalisation(self.net, self.mean, self.std).eval()

    @functools.cached_property
    def folded(self) -> nn.Module:
        """Batch norm folded into the convolutions: the same function, faster for attributions."""
        net = fold_batch_norm(self.net)
        for module in net.modules():
            if isinstance(module, (nn.ReLU, nn.ReLU6)):
                module.inplace = False  # in place, autograd has to keep a copy of its input
        return with_normalisation(net, self.mean, self.std).eval()

    @full_precision()
    @torch.no_grad()
    def observe(self, images: Tensor, attention_index: int) -> Signals:
        """Logits and attention for pictures (N, 3, H, W) in [0, 1]."""
        with AttentionTap(self.net, attention_index) as tap:
            logits = self.model(images)
        assert tap.output is not None
        return Signals(logits, attention_map(tap.output))

    @full_precision()
    def explain(self, images: Tensor, labels: Tensor, spec: SignalSpec) -> Tensor:
        """Attribution maps (N, H, W) for the true labels, as `spec` asks."""
        point = baseline_point(spec.baseline, self.mean, images)
        # on a GPU about 16 GB for the teacher; fewer rows leave it waiting for launches
        rows = max(96, 1250 * 32**2 // images[0, 0].numel()) if images.is_cuda else 96
        attributions = integrated_gradients(
            self.folded,
            images,
            labels,
            point,
            steps=spec.steps,
            rule=spec.rule,
            output=spec.output,
            chunk=rows,
        )
        return attribution_map(attributions)

    def compute(self, kind: Kind, images: Tensor, labels: Tensor, spec: SignalSpec) -> Tensor:
        """One kind of signal."""
        if kind == "maps":
            return self.explain(images, labels, spec)
        observed = self.observe(images, spec.attention_index)
        result = observed.logits if kind == "logits" else observed.attention
        assert result is not None
        return result


def precompute(
    spec: SignalSpec, kind: Kind, teacher: Teacher, split: Split, folder: Path, *, block: int = 250
) -> Path:
    """Write the signals of `kind` for every picture of `split`; finished blocks and finished files
    are not computed again.

    With `released` pairing, row i holds the signal of another picture in a random crop: the
    released code stored signals in the order of a shuffled, augmented pass and looked them up by
    data set index; maps came from a second such pass.

    Of two processes that need the same file, one computes it and the other waits for it.
    """
    path = signal_path(spec, kind, folder)
    if not path.with_suffix(".json").exists():
        if teacher.hash != spec.teacher or split.fingerprint != spec.data:
            wanted = f"teacher {spec.teacher} and data {spec.data}"
            raise KdigError(
                f"signals are asked for {wanted}, not {teacher.hash} and {split.fingerprint}"
            )
        with alone(path.with_suffix(".lock"), f"{kind} ({spec.pairing})"):
            if not path.with_suffix(".json").exists():
                _compute(path, spec, kind, teacher, split, block)
    return path


def _compute(
    path: Path, spec: SignalSpec, kind: Kind, teacher: Teacher, split: Split, block: int
) -> None:
    """Fill `path` block by block, and write its stamp last of all."""
    order, views = _pass_order(spec, kind, len(split))
    blocks, rows = path.with_suffix(".blocks"), []
    progress = Progress(f"{kind} ({spec.pairing})", len(split))
    for places in torch.arange(len(split)).split(block):
        compute = functools.partial(_compute_rows, places, spec, kind, teacher, split, order, views)
        rows.append(_block(blocks / f"{places[0]:08d}.npy", compute))
        progress.advance(len(places))
    values, stamp = np.concatenate(rows), spec.stamp(kind)
    if kind == "logits":
        agreement = _agreement(values, split.labels)
        stamp["agreement"] = agreement
        if spec.pairing == "static":
            _warn_of_weak_teacher(agreement, values.shape[1])
    _save(path, values)
    atomic_write(
        path.with_suffix(".json"),
        lambda part: Path(part).write_text(json.dumps(stamp, indent=1), encoding="utf-8"),
    )
    shutil.rmtree(blocks, ignore_errors=True)


def _block(path: Path, compute: Callable[[], Tensor]) -> np.ndarray:
    """The rows at `path`; computed and kept there when they are not yet, or cannot be read."""
    with suppress(OSError, ValueError, EOFError):
        kept: np.ndarray = np.load(path)
        return kept
    rows = compute().numpy()
    with suppress(
        FileNotFoundError
    ):  # without locks: another process has finished, and removed the folder
        _save(path, rows)
    return rows


def _compute_rows(
    places: Tensor,
    spec: SignalSpec,
    kind: Kind,
    teacher: Teacher,
    split: Split,
    order: Tensor,
    views: Views | None,
) -> Tensor:
    """The signals that belong in the rows `places` of a cache, on the CPU."""
    rows = order[places]
    images = (
        split.images[rows]
        if views is None
        else crop_flip(split.images[rows], views[places], spec.padding)
    )
    images = (images / 255).to(teacher.device, memory_format=torch.channels_last)
    return teacher.compute(kind, images, split.labels[rows].to(teacher.device), spec).cpu()


def spot_check(
    spec: SignalSpec, kind: Kind, teacher: Teacher, split: Split, folder: Path, rows: int = 4
) -> None:
    """Compute a few rows of a cache again. Raises `KdigError` when they are not those of their
    pictures.

    Logits in another order show in their argmax; attention and attribution maps show only here.
    """
    path = signal_path(spec, kind, folder)
    stored, places = (
        load_signal(spec, kind, path, split.labels),
        torch.linspace(0, len(split) - 1, rows).long(),
    )
    again = _compute_rows(places, spec, kind, teacher, split, *_pass_order(spec, kind, len(split)))
    if not torch.allclose(stored[places], again, rtol=0.01, atol=0.01 * again.abs().max().item()):
        raise KdigError(
            f"{path} is out of order: its rows are not what the teacher gives for their pictures;"
            " delete it"
        )


def _save(path: Path, values: np.ndarray) -> None:
    atomic_write(path, lambda part: np.save(part, values))


def signal_path(spec: SignalSpec, kind: Kind, folder: Path) -> Path:
    """Where signals with this stamp live: `<folder>/<kind>-<hash of the stamp>.npy`."""
    digest = hashlib.sha256(json.dumps(spec.stamp(kind), sort_keys=True).encode()).hexdigest()[:16]
    return folder / f"{kind}-{digest}.npy"


def _pass_order(spec: SignalSpec, kind: Kind, n: int) -> tuple[Tensor, Views | None]:
    """Which picture stands in each row of the cache, and in which view."""
    if spec.pairing == "static":
        return torch.arange(n), None
    generator = Generator().manual_seed(2 * spec.seed + (kind == "maps"))
    return torch.randperm(n, generator=generator), draw_views(n, spec.padding, spec.flip, generator)


def load_signal(spec: SignalSpec, kind: Kind, path: Path, labels: Tensor) -> Tensor:
    """The signals at `path`, memory-mapped, checked against `spec` and the split's `labels`.

    Raises `KdigError`, in one line, for a missing or truncated file, a stamp that differs, a wrong
    number of rows, or logits whose argmax agrees with the labels otherwise than it did when they
    were written (rows in another order do).
    """
    try:
        stamp = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        values = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError) as error:
        raise KdigError(
            f"cannot read the cache {path}: {str(error).splitlines()[0]}; delete it to compute it"
            " again"
        ) from None
    for name, wanted in spec.stamp(kind).items():
        if stamp.get(name) != wanted:
            raise KdigError(
                f"{path} was made with {name} {stamp.get(name)}, this run needs {wanted}"
            )
    if len(values) != len(labels):
        raise KdigError(
            f"{path} holds {len(values)} rows for {len(labels)} pictures; delete it to compute it"
            " again"
        )
    known = stamp.get("agreement")
    if known is not None and (found := _agreement(values, labels)) != known:
        reason = f"its argmax agrees with {found:.0%} of the labels, the teacher's with {known:.0%}"
        raise KdigError(f"{path} is out of order: {reason}; delete it to compute it again")
    return torch.from_numpy(values)


def _agreement(logits: np.ndarray, labels: Tensor) -> float:
    """Share of rows whose argmax is the label."""
    return float((logits.argmax(1) == labels.numpy()).mean())


def _warn_of_weak_teacher(agreement: float, classes: int) -> None:
    if agreement < 1 / classes + _ABOVE_CHANCE:
        found = (
            f"the teacher agrees with {agreement:.0%} of the labels, a guess with {1 / classes:.0%}"
        )
        warnings.warn(
            f"{found}: train it longer (teacher_epochs, teacher_train_images)", stacklevel=2
        )


class Batch(NamedTuple):
    """What the student sees: images float (B, 3, H, W) in [0, 1], labels int64 (B,), and the
    teacher's signals for them.
    """

    images: Tensor
    labels: Tensor
    signals: Signals


def _veiling(maps: Tensor, overlay: Overlay, seed: int) -> Tensor:
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


class IGDataset(TorchDataset[Batch]):
    """The paper's IG data set: a random view of each picture, overlaid with its attribution map at
    `probability` (Eqs. 4-6).

    `ds[i]` is one sample, `ds.__getitems__(indices)` a whole batch through the same code; a
    `DataLoader` takes it with `collate_fn=lambda batch: batch`. Both depend only on (seed, epoch,
    i). `wanted` names the signals that a method uses.

    `pairing` says whose signals a picture meets: `static` its own, precomputed, the map moved with
    the picture; `released` those of a `released` cache, the map left where it is; `reshuffled`
    another picture's, drawn anew each epoch; `same_view` its own, computed by `teacher` on the very
    view (before the overlay).

    `overlay` says what is laid over the chosen pictures: `map` the picture's attribution map, or a
    control in its place: `unmoved` the map without the picture's crop and flip, `other` another
    picture's map, drawn anew each epoch, `phase` the map with scrambled phases, `mean` the mean of
    all maps, `grey` mid-grey, `mixup` another picture (the label stays).
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
        pairing: Pairing = "static",
        overlay: Overlay = "map",
        seed: int = 0,
        device: str = "cpu",
        teacher: Teacher | None = None,
        spec: SignalSpec | None = None,
    ) -> None:
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.signals = Signals(
            *(None if signal is None else signal.to(device) for signal in signals)
        )
        if self.signals.maps is not None:
            self.signals = self.signals._replace(maps=_veiling(self.signals.maps, overlay, seed))
        self.wanted, self.probability, self.padding, self.flip = (
            set(wanted),
            probability,
            padding,
            flip,
        )
        self.pairing, self.overlay = pairing, overlay
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
            if self.pairing == "reshuffled"
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
        signals = (
            self._live(images, labels, chosen)
            if self.pairing == "same_view"
            else self._stored(index, views)
        )
        veil = self._veil(index, views, signals.maps)
        if veil is not None:
            images = torch.where(chosen[:, None, None, None], blend(images, veil), images)
        return Batch(images, labels, signals)

    def _veil(self, index: Tensor, views: Views, maps: Tensor | None) -> Tensor | None:
        """What is blended into the chosen ones of a batch, in [0, 1].

        None for a method without overlay.
        """
        if self.overlay == "grey":
            return torch.tensor(0.5, device=self.device)
        if self.overlay == "mixup":
            return crop_flip(self.images[self.other[index]], views, self.padding) / 255
        return None if maps is None else normalise_map(maps, views.exponent)[:, None]

    def _stored(self, index: Tensor, views: Views) -> Signals:
        rows = self.partner[index]
        logits, attention, maps = (
            None if signal is None else signal[rows] for signal in self.signals
        )
        if self.signals.maps is not None and self.overlay == "other":
            maps = self.signals.maps[self.other[index]]
        if maps is not None and self.pairing != "released" and self.overlay != "unmoved":
            maps = crop_flip(maps[:, None], views, self.padding)[:, 0]
        return Signals(logits, attention, maps)

    def _live(self, images: Tensor, labels: Tensor, chosen: Tensor) -> Signals:
        assert self.teacher is not None, "same_view needs the teacher"
        assert self.spec is not None, "same_view needs the signals' settings"
        signals = NO_SIGNALS
        if self.wanted & {"logits", "attention"}:
            signals = self.teacher.observe(images, self.spec.attention_index)
        if "maps" in self.wanted:
            maps = torch.zeros(len(images), *images.shape[2:], device=images.device)
            if chosen.any():
                maps[chosen] = self.teacher.explain(images[chosen], labels[chosen], self.spec)
            signals = signals._replace(maps=maps)
        return signals
