"""The store: finished runs, their scores and weights on disk, found by what they are."""

import base64
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from kdig import KdigError
from kdig.core.data import (
    Dataset,
    Split,
    in_both,
    load_dataset,
    mislabelled,
    stratified,
    stratified_rows,
)
from kdig.core.files import atomic_write, read_tensors
from kdig.core.networks import build, state_hash
from kdig.core.run import Run, Scoring
from kdig.core.signals import Teacher
from kdig.core.training import Epoch
from kdig.core.unfinished import Unfinished

M = TypeVar("M", bound=BaseModel)


class Record(BaseModel):
    """A finished training: its history without scores, and where it was made."""

    run: Run
    history: list[Epoch]
    parameters: int
    weights: str
    data_label: str
    seconds: float
    environment: dict[str, str]


class EpochScore(BaseModel):
    """Loss and accuracy (percent) of the scored images after an epoch."""

    epoch: int
    loss: float
    accuracy: float


class Score(BaseModel):
    """How a trained network does: the epochs that were scored, and the last one's predictions.

    `later` says that the network was scored after its training had ended, so that earlier epochs
    are not among them.
    """

    weights: str
    scoring: Scoring
    epochs: list[EpochScore]
    predictions: str
    later: bool = False


class Measured(BaseModel):
    """What was measured on a trained network, other than its accuracy."""

    name: str
    weights: str
    values: dict[str, float]


class PerImage(BaseModel):
    """What was measured on a network for each of the images with the fingerprint `images`.

    float32 in base64, under a name each.
    """

    weights: str
    images: str
    values: dict[str, str]

    def decoded(self) -> dict[str, np.ndarray]:
        """Name -> float32 (N,)."""
        return {
            name: np.frombuffer(base64.b64decode(text), dtype="<f4")
            for name, text in self.values.items()
        }


class Answers(BaseModel):
    """On which images a network is right, for each condition under which it was asked (in words).

    One bit an image, packed and in base64.
    """

    weights: str
    right: dict[str, str]

    def of(self, condition: str, images: int) -> np.ndarray:
        """bool (images,)."""
        packed = np.frombuffer(base64.b64decode(self.right[condition]), dtype=np.uint8)
        return np.unpackbits(packed, count=images).astype(bool)


class Result(Record):
    """A finished run with one of its scores."""

    scoring: Scoring
    last: Epoch
    best: Epoch | None
    predictions: str

    @property
    def predicted(self) -> np.ndarray:
        """Class index of each scored image, int16 (N,)."""
        return np.frombuffer(base64.b64decode(self.predictions), dtype="<i2")


def encoded(predicted: Tensor) -> str:
    """Class indices (N,) as text."""
    return base64.b64encode(predicted.numpy().astype("<i2").tobytes()).decode()


def joined(record: Record, score: Score) -> Result:
    """A run's record and one of its scores as one.

    `best` is the scored epoch of the highest accuracy; None if it was scored later.
    """
    known = {row.epoch: row for row in score.epochs}
    history = [
        epoch.model_copy(
            update={"test_loss": row.loss, "test_accuracy": row.accuracy}
            if (row := known.get(epoch.epoch))
            else {}
        )
        for epoch in record.history
    ]
    best = None if score.later else max(history, key=lambda epoch: epoch.test_accuracy or 0.0)
    return Result(
        **{**dict(record), "history": history},
        scoring=score.scoring,
        last=history[-1],
        best=best,
        predictions=score.predictions,
    )


@dataclass(frozen=True)
class Pictures:
    """The images of one run and what it is scored on.

    Signals exist for all of `pool`; training uses `rows` of it (None: all of them), a share
    `label_noise` of them under another class.
    """

    data: Dataset
    pool: Split
    rows: Tensor | None
    scored: Split
    label_noise: float = 0.0

    @property
    def training(self) -> Split:
        """The images that are trained on, with the labels that training sees."""
        chosen = self.pool if self.rows is None else self.pool.select(self.rows)
        return mislabelled(chosen, self.label_noise, len(self.data.classes))


@dataclass(frozen=True)
class Workspace:
    """Where runs find their images and leave their results."""

    folder: Path
    root: Path = Path("data")
    device: str = "cpu"
    download: bool = False

    def dataset(self, name: str, image_size: int) -> Dataset:
        """The data set, read once per process."""
        cache = self.folder / "cache" / "pictures"
        return _dataset(name, self.root, image_size, cache, self.download)

    def _data(self, run: Run) -> Dataset:
        data = self.dataset(run.dataset, run.image_size)
        if data.fingerprint != run.data:
            found = f"{self.root} holds {data.fingerprint}"
            raise KdigError(f"{run} needs data with fingerprint {run.data}, {found}")
        return data

    def pool(self, run: Run) -> Split:
        """The training images that `run` draws from.

        Raises `KdigError` when `root` holds another data set.
        """
        name = "teacher_train_images" if run.role == "teacher" else "train_images"
        return stratified(self._data(run).train, run.train_images, name=name)

    def pictures(self, run: Run, scoring: Scoring = Scoring()) -> Pictures:
        """The images that `run` is trained on, and those of `scoring`.

        Raises `KdigError` when `root` holds another data set, and when an image is in both.
        """
        data, pool = self._data(run), self.pool(run)
        rows, rest = None, None
        if run.share < 1:
            rows = stratified_rows(pool, round(run.share * len(pool)), run.split_seed, "share")
            unused = torch.ones(len(pool), dtype=torch.bool).index_fill(0, rows, False)
            rest = unused.nonzero()[:, 0]
        scored = _scored(data, pool, rest, scoring)
        pictures = Pictures(data, pool, rows, scored, run.label_noise)
        leaked = in_both(pictures.training, pictures.scored)
        if leaked:
            named = "; ".join(leaked[:5]) + ("; ..." if len(leaked) > 5 else "")
            found = f"{len(leaked)} images are trained on and scored as well"
            raise KdigError(f"{run}: {found}: remove one of each ({named})")
        return pictures

    def record(self, run: Run) -> Record | None:
        """The stored record of `run`, if it is finished, whether its weights are kept or not.

        Raises `KdigError` when it cannot be read.
        """
        return _read(self._record(run), Record)

    def trained(self, run: Run) -> Record | None:
        """The record of `run`, if its weights are there as well."""
        record = self.record(run)
        return record if record and self._weights(record.weights).exists() else None

    def result(self, run: Run, scoring: Scoring = Scoring(), weights: bool = True) -> Result | None:
        """The stored result of `run`, if it is trained and scored.

        Where `weights` are wanted, they must be kept, too. Raises `KdigError` when it cannot be
        read.
        """
        record = self.trained(run) if weights else self.record(run)
        score = _read(self._score(run, scoring), Score)
        if record is None or score is None or score.weights != record.weights:
            return None
        return joined(record, score)

    def runs(self) -> list[Run]:
        """Every run that has a record. One that cannot be read is passed over."""
        found = []
        for path in sorted((self.folder / "runs").glob("*.json")):
            with suppress(KdigError):
                found.append(_read(path, Record))
        return [record.run for record in found if record]

    @property
    def signals(self) -> Path:
        """Where the teacher's signals are kept."""
        return self.folder / "cache" / "signals"

    def _record(self, run: Run) -> Path:
        return self.folder / "runs" / f"{run.key}.json"

    def _score(self, run: Run, scoring: Scoring) -> Path:
        return self.folder / "scores" / f"{run.key}-{scoring.name}.json"

    def _weights(self, weights: str) -> Path:
        return self.folder / "weights" / f"{weights}.pt"

    def save(
        self,
        record: Record,
        score: Score,
        net: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """Weights first, then score and record, each moved into place whole.

        A record on disk is a finished run.
        """
        self.keep(net, mean, std, record.run.network, record.run.width)
        self.save_score(record.run, score)
        self.save_record(record)
        self.traceback(record.run).unlink(missing_ok=True)

    def measured(
        self, name: str, weights: str, measure: Callable[[], dict[str, float]]
    ) -> dict[str, float]:
        """The numbers that `measure` gives for the network `weights`, measured once.

        They are kept under `name`, which must say all else that decides them.
        """
        path = self.folder / "measures" / f"{weights}-{name}.json"
        kept = _read(path, Measured)
        if kept is None:
            kept = Measured(name=name, weights=weights, values=measure())
            _write(path, kept)
        return kept.values

    def per_image(
        self, name: str, weights: str, split: Split, measure: Callable[[], Mapping[str, Tensor]]
    ) -> dict[str, np.ndarray]:
        """What `measure` gives for the network `weights` and each image of `split`: name -> float32
        (N,), measured once.

        It is kept under `name`, which must say all else that decides it. Raises `KdigError` when
        the kept file cannot be read.
        """
        images = _images_of(split)
        path = self.folder / "measures" / f"{weights}-{name}-{images}.json"
        kept = _read(path, PerImage)
        if kept is None:
            values = {one: _as_text(found) for one, found in measure().items()}
            kept = PerImage(weights=weights, images=images, values=values)
            _write(path, kept)
        return kept.decoded()

    def answers(
        self,
        weights: str,
        split: Split,
        conditions: Sequence[str],
        ask: Callable[[Sequence[str]], Sequence[np.ndarray]],
    ) -> list[np.ndarray]:
        """Whether the network `weights` is right on each image of `split`, bool (N,), under each of
        `conditions`.

        `ask` is given those of them that were never asked. Its answers are kept. A condition's name
        must say all that decides the damage. Raises `KdigError` when the kept file cannot be read.
        """
        images = _images_of(split)
        path = self.folder / "measures" / f"{weights}-answers-{images}.json"
        kept = _read(path, Answers) or Answers(weights=weights, right={})
        if new := [name for name in conditions if name not in kept.right]:
            kept.right |= {name: _packed(right) for name, right in zip(new, ask(new), strict=True)}
            _write(path, kept)
        return [kept.of(name, len(split)) for name in conditions]

    def save_record(self, record: Record) -> None:
        """Write what is known of a finished training."""
        _write(self._record(record.run), record)

    def save_score(self, run: Run, score: Score) -> None:
        """Write what a finished run has scored."""
        _write(self._score(run, score.scoring), score)

    def teachers_score(self, weights: str, data: Dataset, scoring: Scoring) -> Score | None:
        """What a network that no run has trained scores on `data`, if it has been tried.

        Raises `KdigError` when it cannot be read.
        """
        return _read(self._teachers_score(weights, data, scoring), Score)

    def save_teachers_score(self, score: Score, data: Dataset) -> None:
        """Write what a network that no run has trained scores on the images of `data`."""
        _write(self._teachers_score(score.weights, data, score.scoring), score)

    def _teachers_score(self, weights: str, data: Dataset, scoring: Scoring) -> Path:
        # the fingerprint says which images, not at which size
        images = f"{data.fingerprint}-{data.test.images.shape[-1]}"
        return self.folder / "scores" / f"teacher-{weights}-{images}-{scoring.name}.json"

    def traceback(self, run: Run) -> Path:
        """Where a failure of `run` leaves its traceback, until the run succeeds."""
        return self.folder / "runs" / f"{run.key}.error.txt"

    def unfinished(self, runs: Sequence[Run], stamp: Mapping[str, str]) -> Unfinished:
        """Where a training of `runs` that is killed finds how far it had come."""
        keys = "".join(run.key for run in runs)
        name = keys if len(runs) == 1 else hashlib.sha256(keys.encode()).hexdigest()[:16]
        return Unfinished(self.folder / "cache" / "unfinished" / f"{name}.pt", stamp)

    def keep(
        self,
        net: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        network: str,
        width: float = 1.0,
    ) -> str:
        """Write a network's weights with its normalisation, so that `load_weights` finds it.

        Returns its hash.
        """
        weights = state_hash(net)
        classes = net.get_submodule("classifier")[-1].out_features  # type: ignore[index]
        state = {name: value.cpu() for name, value in net.state_dict().items()}
        content: dict[str, object] = {"state": state, "mean": list(mean), "std": list(std)}
        content |= {"network": network, "width": width, "classes": classes}
        atomic_write(self._weights(weights), lambda part: torch.save(content, part))
        return weights

    def load_weights(self, weights: str) -> Teacher:
        """The trained network whose state has the hash `weights`, with its normalisation.

        Raises `KdigError` when the file is missing or damaged.
        """
        path = self._weights(weights)
        if not path.exists():
            raise KdigError(
                f"no weights {weights} in {path.parent}: run the notebook that trains them, or,"
                " where only their record is kept, delete it from runs/"
            )
        damaged = KdigError(f"cannot read the weights {path}; delete the file to train them again")
        try:
            teacher = unpacked(read_tensors(path), self.device)
        except (KdigError, ValueError, LookupError, TypeError, RuntimeError):
            raise damaged from None
        if teacher.hash != weights:
            raise damaged
        return teacher


def unpacked(content: Mapping[str, Any], device: str = "cpu") -> Teacher:
    """The network in the `content` of a file that `Workspace.keep` has written."""
    network, width = content["network"], content["width"]
    net = build(network, content["classes"], width)
    net.load_state_dict(content["state"])
    return Teacher(net, content["mean"], content["std"], device, network, width)


@functools.lru_cache(maxsize=2)
def _dataset(name: str, root: Path, image_size: int, cache: Path, download: bool) -> Dataset:
    return load_dataset(name, root, image_size, cache=cache, download=download)


def _images_of(split: Split) -> str:
    """Which images, and at which size, which the fingerprint does not say."""
    return f"{split.fingerprint}-{split.images.shape[-1]}"


def _as_text(values: Tensor) -> str:
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def _packed(right: np.ndarray) -> str:
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def _scored(data: Dataset, pool: Split, rest: Tensor | None, scoring: Scoring) -> Split:
    if scoring.split == "test":
        return stratified(data.test, scoring.images, name="test_images")
    if rest is None:
        found = "scored on validation images, but share 1.0 trains on all of them"
        raise KdigError(f"{found}: choose a share below 1")
    return pool.select(rest)


def _read(path: Path, kind: type[M]) -> M | None:
    if not path.exists():
        return None
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        found = f"{path} is not a run's {kind.__name__.lower()} ({error.error_count()} faults)"
        raise KdigError(f"{found}; delete it to run again") from None


def _write(path: Path, content: BaseModel) -> None:
    text = content.model_dump_json(indent=1)
    atomic_write(path, lambda part: Path(part).write_text(text, encoding="utf-8"))
