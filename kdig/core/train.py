"""One run carried out: its images and signals, its training, its scores."""

import functools
import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from kdig import KdigError
from kdig.core.data import Dataset, Split, stratified
from kdig.core.dataset import IGDataset
from kdig.core.environment import cores, environment, thread_count
from kdig.core.files import alone
from kdig.core.losses import DistillationLoss
from kdig.core.networks import (
    AttentionTap,
    build,
    count_parameters,
    entry,
    map_size,
    state_hash,
    taps,
    with_normalisation,
)
from kdig.core.progress import Progress
from kdig.core.run import Run, Scoring
from kdig.core.signals import (
    Signals,
    SignalSpec,
    Teacher,
    load_signal,
    precompute,
    signal_path,
    spot_check,
)
from kdig.core.store import EpochScore, Pictures, Record, Result, Score, Workspace, encoded, joined
from kdig.core.training import Epoch, accuracy, fit, predict
from kdig.core.unfinished import Unfinished

# added to a teacher's seed
_TEACHERS = 2**31
# torch's generator and thread count belong to the process: one run at a time in each, also on a
# worker with several threads
_LOCK = threading.Lock()


@contextmanager
def whole_process(threads: int) -> Iterator[None]:
    """torch's generator and `threads` CPU threads for one run; the generator is put back after it."""
    with _LOCK, thread_count(threads), torch.random.fork_rng():
        yield


NOT_NORMALISED = ((0.0,) * 3, (1.0,) * 3)


def untrained(run: Run, classes: int) -> nn.Module:
    """The network that `run` starts from.

    Seeds torch with the run's seed, from which the run goes on. Teachers draw from seeds of their
    own, so that no student starts where its teacher started.
    """
    torch.manual_seed(_TEACHERS + run.seed if run.role == "teacher" else run.seed)
    return build(run.network, classes, run.width)


def starting_points(runs: Sequence[Run], workspace: Workspace) -> pd.DataFrame:
    """A row for each of `runs`: `method`, `seed`, and digests of what it starts from.

    These are the `pictures` that it trains on, its initial `weights`, and the first epoch's `order`
    and crops; paired runs agree in all three, whatever their method.
    """
    prepare(runs, workspace, cores())
    rows = [
        {"method": run.method, "seed": run.seed, **_starting_point(run, workspace)} for run in runs
    ]
    return pd.DataFrame(rows)


def _starting_point(run: Run, workspace: Workspace) -> dict[str, str]:
    pictures = workspace.pictures(run)
    dataset = training_set(run, workspace, pictures)
    dataset.set_epoch(1)
    views = (getattr(dataset.views, field.name) for field in fields(dataset.views))
    drawn = b"".join(values.cpu().numpy().tobytes() for values in (dataset.order, *views))
    with _LOCK, torch.random.fork_rng():
        weights = state_hash(untrained(run, len(pictures.data.classes)))
    order = hashlib.sha256(drawn).hexdigest()[:16]
    return {"pictures": pictures.training.fingerprint, "weights": weights, "order": order}


def signal_spec(run: Run, teacher: Teacher, split: Split) -> SignalSpec:
    """The signals that `run` needs for its training images."""
    _, tap = taps(run.network, teacher.network)
    return SignalSpec(
        teacher=teacher.hash,
        data=split.fingerprint,
        image_size=run.image_size,
        mean=tuple(teacher.mean),
        std=tuple(teacher.std),
        attention_tap=tap,
        attention_size=map_size(run.network, run.image_size),
        settings=run.signals,
        padding=run.padding,
        flip=run.flip,
    )


def training_set(run: Run, workspace: Workspace, pictures: Pictures | None = None) -> IGDataset:
    """The images that `run` trains on, with the signals that it meets, made by `prepare`.

    Raises `KdigError` for a run that learns from a teacher and names none.
    """
    pictures = pictures or workspace.pictures(run)
    settings: dict[str, Any] = {
        "device": workspace.device,
        "wanted": run.wanted,
        "probability": run.probability,
        "padding": run.padding,
        "flip": run.flip,
        "settings": run.signals,
        "seed": run.seed,
    }
    if not run.wanted:
        return IGDataset(pictures.training, **settings)
    if run.teacher is None:
        raise KdigError(f"{run} learns from a teacher: give the hash of its weights")
    teacher = workspace.load_weights(run.teacher)
    spec = signal_spec(run, teacher, pictures.pool)
    if run.signals.pairing == "same_view":
        settings |= {"teacher": teacher, "spec": spec}
    return IGDataset(pictures.training, _loaded(run, spec, workspace, pictures), **settings)


def _loaded(run: Run, spec: SignalSpec, workspace: Workspace, pictures: Pictures) -> Signals:
    """The stored signals of the images that `run` trains on."""
    labels, loaded = pictures.pool.labels, {}
    for kind in run.looked_up:
        signal = load_signal(spec, kind, signal_path(spec, kind, workspace.signals), labels)
        loaded[kind] = signal if pictures.rows is None else signal[pictures.rows]
    return Signals(**loaded)


def prepare(runs: Iterable[Run], workspace: Workspace, threads: int) -> None:
    """Compute, once, the signals that `runs` look up, and try a few rows.

    Signals are those of training images alone.

    Raises `KdigError` for a cache whose rows are not those of their images.
    """
    load, checked = functools.cache(workspace.load_weights), set()
    for run in runs:
        if run.looked_up and run.teacher:
            pool, teacher = workspace.pool(run), load(run.teacher)
            spec = signal_spec(run, teacher, pool)
            with thread_count(threads):
                for kind in sorted(run.looked_up):
                    path = precompute(spec, kind, teacher, pool, workspace.signals)
                    if path not in checked:
                        spot_check(spec, kind, teacher, pool, workspace.signals)
                    checked.add(path)


def train(
    run: Run,
    workspace: Workspace,
    scoring: Scoring = Scoring(),
    threads: int = 1,
    epochs_shown: bool = False,
) -> Result:
    """Carry out one run, score it and store both; what is stored already is taken as it is.

    On the CPU the result depends on the run and on `threads`, bit for bit. Of two processes that
    need the same run, one trains it and the other waits for it. Raises `KdigError` when the loss is
    not finite.
    """
    stored = workspace.result(run, scoring)
    if stored is None:
        with alone(workspace.folder / "runs" / f"{run.key}.lock", str(run)):
            stored = workspace.result(run, scoring)
            if stored is None and (record := workspace.trained(run)):
                stored = _score(record, workspace, scoring, threads)
            stored = stored or _train(run, workspace, scoring, threads, epochs_shown)
    return stored


def _score(record: Record, workspace: Workspace, scoring: Scoring, threads: int) -> Result:
    """Try a network that is trained already on the images of `scoring`."""
    scored = workspace.pictures(record.run, scoring).scored
    with _LOCK, thread_count(threads):
        epochs = record.run.recipe.epochs
        score = _tried(record.weights, scored, workspace, scoring, epochs)
    workspace.save_score(record.run, score)
    return joined(record, score)


def score_teacher(
    weights: str, data: Dataset, workspace: Workspace, scoring: Scoring, threads: int
) -> Score:
    """How a network that no run has trained does on the test images of `data`.

    `Workspace.keep` must have written its weights. A score that is stored already is taken as it is.
    """
    score = workspace.teachers_score(weights, data, scoring)
    if score is None:
        scored = stratified(data.test, scoring.images, name="test_images")
        with _LOCK, thread_count(threads):
            score = _tried(weights, scored, workspace, scoring, epoch=0)
        workspace.save_teachers_score(score, data)
    return score


def _tried(
    weights: str, scored: Split, workspace: Workspace, scoring: Scoring, epoch: int
) -> Score:
    """The score of a stored network, after its training of so many epochs."""
    logits = predict(workspace.load_weights(weights).model, scored, device=workspace.device)
    loss = nn.functional.cross_entropy(logits, scored.labels).item()
    last = EpochScore(epoch=epoch, loss=loss, accuracy=accuracy(logits, scored.labels))
    predictions = encoded(logits.argmax(1))
    return Score(
        weights=weights, scoring=scoring, epochs=[last], predictions=predictions, later=True
    )


def _train(
    run: Run, workspace: Workspace, scoring: Scoring, threads: int, epochs_shown: bool
) -> Result:
    made = environment(workspace.device, threads)
    unfinished = workspace.unfinished([run], stamp(made, scoring))
    # the seed covers initial weights and the teacher's dropout, whatever this process has drawn
    with whole_process(threads):
        pictures = workspace.pictures(run, scoring)
        data, scored = pictures.data, pictures.scored
        net = untrained(run, len(data.classes))
        net = net.to(workspace.device).to(memory_format=torch.channels_last)
        mean, std = (data.mean, data.std) if run.recipe.normalise else NOT_NORMALISED
        model = with_normalisation(net, mean, std)
        history = _fitted(
            run, model, net, workspace, pictures, scoring.every, epochs_shown, unfinished
        )
        predicted = predict(model, scored, device=workspace.device).argmax(1)
    record = as_record(run, history, net, data, unfinished.spent, made | unfinished.noted)
    result = keep_trained(record, history, scoring, predicted, net, (mean, std), workspace)
    unfinished.remove()
    return result


def stamp(made: dict[str, str], scoring: Scoring) -> dict[str, str]:
    """What of the environment gives the same bits, so that a training can go on in it."""
    same = {name: value for name, value in made.items() if name not in ("git", "lock")}
    return same | {"scored every": str(scoring.every)}


def keep_trained(
    record: Record,
    history: Sequence[Epoch],
    scoring: Scoring,
    predicted: Tensor,
    net: nn.Module,
    normalisation: tuple[Sequence[float], Sequence[float]],
    workspace: Workspace,
) -> Result:
    """Write a training: its record, the scores in its `history`, and the weights of `net`.

    `predicted` is the class index of each scored image (N,), `normalisation` mean and standard
    deviation.
    """
    score = Score(
        weights=record.weights,
        scoring=scoring,
        epochs=[_epoch_score(epoch) for epoch in history if epoch.test_accuracy is not None],
        predictions=encoded(predicted),
    )
    workspace.save(record, score, net, *normalisation)
    return joined(record, score)


def loss_of(run: Run) -> DistillationLoss:
    """The objective of `run`, with its weights."""
    given: dict[str, Any] = {f.name: getattr(run, f.name, None) for f in fields(DistillationLoss)}
    return DistillationLoss(**{**given, "label_smoothing": run.recipe.label_smoothing})


def _fitted(
    run: Run,
    model: nn.Module,
    net: nn.Module,
    workspace: Workspace,
    pictures: Pictures,
    every: int,
    epochs_shown: bool,
    unfinished: Unfinished,
) -> list[Epoch]:
    """Train `model`, which holds `net`, in place; its history."""
    progress = Progress(str(run), run.recipe.epochs) if epochs_shown else None
    with AttentionTap(net, entry(run.network).tap) if run.gamma else nullcontext() as tap:
        return fit(
            model,
            training_set(run, workspace, pictures),
            pictures.scored,
            loss_of(run),
            run.recipe,
            attention=tap,
            every=every,
            name=str(run),
            on_epoch=lambda epoch: progress.advance() if progress else None,
            unfinished=unfinished,
        )


def as_record(
    run: Run,
    history: Sequence[Epoch],
    net: nn.Module,
    data: Dataset,
    seconds: float,
    made: dict[str, str],
) -> Record:
    """What is kept of a training of `net` that took so many `seconds` in the environment `made`."""
    unscored = {"test_loss": None, "test_accuracy": None}
    return Record(
        run=run,
        history=[epoch.model_copy(update=unscored) for epoch in history],
        parameters=count_parameters(net),
        weights=state_hash(net),
        data_label=data.label,
        seconds=seconds,
        environment=made,
    )


def _epoch_score(epoch: Epoch) -> EpochScore:
    assert epoch.test_loss is not None
    assert epoch.test_accuracy is not None
    return EpochScore(epoch=epoch.epoch, loss=epoch.test_loss, accuracy=epoch.test_accuracy)
