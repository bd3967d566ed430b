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
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Generator, Tensor, nn

from kdig import KdigError
from kdig.core.attribution import (
    ATTRIBUTIONS,
    Baseline,
    Output,
    Rule,
    attribute,
    attribution_map,
    baseline_point,
    settings_of,
)
from kdig.core.augment import Views, crop_flip, draw_views
from kdig.core.data import Split
from kdig.core.files import alone, atomic_write
from kdig.core.losses import attention_map
from kdig.core.methods import Kind
from kdig.core.networks import (
    AttentionTap,
    fold_batch_norm,
    full_precision,
    state_hash,
    with_normalisation,
)
from kdig.core.progress import Progress

Pairing = Literal["static", "released", "same_view", "reshuffled"]
MapsPairing = Literal["static", "released"]
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


class SignalSettings(BaseModel):
    """What is asked of the teacher, and how a student meets it.

    `attribution` and its settings decide the maps (Eq. 3), `pairing` whose signals an image meets
    (`maps_pairing`: whose maps, where that differs), `overlay` and `blend` what is laid over it
    and how strongly (Eq. 6).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    attribution: str = "integrated_gradients"
    baseline: Baseline = "black"
    rule: Rule = "gausslegendre"
    steps: int = Field(50, ge=1)
    output: Output = "logit"
    pairing: Pairing = "static"
    maps_pairing: MapsPairing | None = None
    overlay: Overlay = "map"
    blend: float = Field(0.5, gt=0, le=1)

    @field_validator("attribution")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ATTRIBUTIONS:
            raise ValueError(f"unknown attribution: choose one of {', '.join(ATTRIBUTIONS)}")
        return name

    @model_validator(mode="after")
    def _apart(self) -> Self:
        # beside logits of the very view, the map that goes with the image is its own
        beside = {"static": get_args(MapsPairing), "released": get_args(MapsPairing)}
        beside |= {"same_view": ("static",)}
        if self.maps_pairing and self.maps_pairing not in beside.get(self.pairing, ()):
            raise ValueError(
                "maps_pairing goes with pairing 'static' or 'released', and 'static' also with"
                f" 'same_view': not {self.maps_pairing!r} with {self.pairing!r}"
            )
        return self

    def pairing_of(self, kind: Kind) -> Pairing:
        """Whose signals of `kind` an image meets."""
        return self.maps_pairing or self.pairing if kind == "maps" else self.pairing

    @property
    def of_maps(self) -> set[str]:
        """The names of the settings that decide a map."""
        return {"attribution", *settings_of(self.attribution)} & set(type(self).model_fields)

    def used(self, wanted: Collection[Kind], overlaid: bool) -> "SignalSettings":
        """These settings with all that decides nothing set back to its default."""
        names = {"overlay", "blend"} if overlaid else set()
        names |= self.of_maps if "maps" in wanted else set()
        kept = {name: getattr(self, name) for name in names}
        if set(wanted) == {"maps"}:
            kept["pairing"] = self.pairing_of("maps")
        elif wanted:
            kept["pairing"] = self.pairing
            if "maps" in wanted and self.pairing_of("maps") != self.pairing:
                kept["maps_pairing"] = self.maps_pairing
        return SignalSettings(**kept)


class SignalSpec(BaseModel):
    """Everything that decides the signals of one training split.

    Pairings other than `released` are made from `static`. `attention_size` is the height and width
    of the student's map, to which the teacher's is resized (None: it stays as it is).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    teacher: str
    data: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    attention_tap: str = "features.9"
    attention_size: tuple[int, int] | None = None
    settings: SignalSettings = SignalSettings()
    padding: int = 4
    flip: bool = True
    seed: int = 0

    def order(self, kind: Kind) -> MapsPairing:
        """The pairing of the stored rows: under `released`, a row holds another image's signal, as
        the released code stored them.
        """
        return "released" if self.settings.pairing_of(kind) == "released" else "static"

    def stamp(self, kind: Kind) -> dict[str, object]:
        """The fields that decide signals of `kind`."""
        fields = {"teacher", "data", "image_size", "mean", "std"}
        fields |= {"attention_tap", "attention_size"} if kind == "attention" else set()
        fields |= {"padding", "flip", "seed"} if self.order(kind) == "released" else set()
        stamp: dict[str, object] = json.loads(self.model_dump_json(include=fields))
        maps = self.settings.model_dump(include=self.settings.of_maps) if kind == "maps" else {}
        return {"kind": kind, "pairing": self.order(kind), **stamp, **maps}


@dataclass
class Teacher:
    """A trained network with the normalisation that it was trained with: frozen, in eval mode.

    `network` is its name in `NETWORKS`, `width` the multiplier of its channels.
    """

    net: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    device: str = "cpu"
    network: str = "mobilenet_v2"
    width: float = 1.0

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
    def observe(
        self, images: Tensor, attention_tap: str, size: tuple[int, int] | None = None
    ) -> Signals:
        """Logits and attention for images (N, 3, H, W) in [0, 1].

        The attention map is that of the module `attention_tap`, resized to `size` if it is given.
        """
        with AttentionTap(self.net, attention_tap) as tap:
            logits = self.model(images)
        assert tap.output is not None
        return Signals(logits, attention_map(tap.output, size))

    @full_precision()
    def explain(self, images: Tensor, labels: Tensor, settings: SignalSettings) -> Tensor:
        """Attribution maps (N, H, W) for the true labels, as `settings` ask."""
        given = settings.model_dump(include=settings.of_maps - {"attribution"})
        given["baseline"] = baseline_point(settings.baseline, self.mean, images)
        # on a GPU about 16 GB for the teacher; fewer rows leave it waiting for launches
        rows = max(96, 1250 * 32**2 // images[0, 0].numel()) if images.is_cuda else 96
        # a layer of the folded network is no longer what it was
        model = self.model if "layer" in settings_of(settings.attribution) else self.folded
        return attribution_map(
            attribute(model, images, labels, settings.attribution, **given, chunk=rows)
        )

    def compute(self, kind: Kind, images: Tensor, labels: Tensor, spec: SignalSpec) -> Tensor:
        """One kind of signal."""
        if kind == "maps":
            return self.explain(images, labels, spec.settings)
        observed = self.observe(images, spec.attention_tap, spec.attention_size)
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

    Of two processes that need the same file, one computes it and the other waits for it. Raises
    `KdigError` for a teacher or images other than those that `spec` names.
    """
    path = signal_path(spec, kind, folder)
    if not _finished(path):
        if teacher.hash != spec.teacher or split.fingerprint != spec.data:
            wanted = f"teacher {spec.teacher} and data {spec.data}"
            raise KdigError(
                f"signals are asked for {wanted}, not {teacher.hash} and {split.fingerprint}"
            )
        with alone(path.with_suffix(".lock"), f"{kind} ({spec.order(kind)})"):
            if not _finished(path):
                _compute(path, spec, kind, teacher, split, block)
    return path


def _finished(path: Path) -> bool:
    return path.exists() and path.with_suffix(".json").exists()


def _compute(
    path: Path, spec: SignalSpec, kind: Kind, teacher: Teacher, split: Split, block: int
) -> None:
    """Fill `path` block by block, and write its stamp last of all."""
    order, views = _pass_order(spec, kind, len(split))
    blocks, rows = path.with_suffix(".blocks"), []
    kept = len(list(blocks.glob("*.npy")))
    why = f"{kept} of its blocks are kept" if kept else "no file in cache/signals has its stamp"
    print(f"{kind} ({spec.order(kind)}) of {len(split)} images: made, {why}", flush=True)
    progress = Progress(f"{kind} ({spec.order(kind)})", len(split))
    for places in torch.arange(len(split)).split(block):
        compute = functools.partial(_compute_rows, places, spec, kind, teacher, split, order, views)
        rows.append(_block(blocks / f"{places[0]:08d}.npy", compute))
        progress.advance(len(places))
    values, stamp = np.concatenate(rows), spec.stamp(kind)
    if kind == "logits":
        agreement = _agreement(values, split.labels)
        stamp["agreement"] = agreement
        if spec.order(kind) == "static":
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
    if spec.order(kind) == "static":
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
            f"{found}: train it longer (teacher_epochs, teacher_train_images), or give another one"
            " (teacher)",
            stacklevel=2,
        )
