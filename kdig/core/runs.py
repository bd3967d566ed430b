"""Runs: a specification that decides a result, a store of finished results, and three engines that
give the same numbers.
"""

import base64
import functools
import hashlib
import json
import multiprocessing
import os
import pickle
import platform
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields
from importlib.metadata import version
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from kdig import KdigError, __version__
from kdig.core.attribution import Baseline, Output, Rule
from kdig.core.data import Dataset, Split, in_both, load_dataset, stratified, stratified_rows
from kdig.core.files import NoSpaceError, alone, atomic_write, require_space
from kdig.core.locked import lock_name
from kdig.core.losses import DistillationLoss, Reduction
from kdig.core.methods import METHODS, TERMS, Kind
from kdig.core.networks import (
    LEVELS,
    Architecture,
    AttentionTap,
    Network,
    build,
    count_parameters,
    state_hash,
    with_normalisation,
)
from kdig.core.progress import Progress
from kdig.core.signals import (
    IGDataset,
    Overlay,
    Pairing,
    Signals,
    SignalSpec,
    Teacher,
    load_signal,
    precompute,
    signal_path,
    spot_check,
)
from kdig.core.training import Epoch, Recipe, fit, predict

Engine = Literal["inline", "local", "dask"]
# Raised whenever a change to the code changes what a specification computes, so that older results
# are not taken for new ones.
PROTOCOL = 2
# The same for single architectures. ResNet-20: its strided 1x1 convolutions are subsampled since
# protocol 3.
_PROTOCOLS = {"resnet20": 3}
# added to a teacher's seed
_TEACHERS = 2**31
# torch's generator and thread count belong to the process: one run at a time in each, also on a
# worker with several threads
_LOCK = threading.Lock()
# how long dask may take to hand over the line of a run that is finished
_ANSWER_SECONDS = 30
_SIGNALS: dict[str, Kind] = {term.weight: term.signal for term in TERMS}
# fields that decide nothing while the weight they belong to is zero, or while no map is used
_DEPENDENT = {term.weight: term.settings for term in TERMS}
_OF_MAPS = {"baseline", "rule", "steps", "output"}


def _wanted(values: Mapping[str, Any]) -> set[Kind]:
    wanted = {kind for weight, kind in _SIGNALS.items() if values.get(weight)}
    return wanted - {"maps"} if values.get("overlay") in {"grey", "mixup"} else wanted


class Run(BaseModel):
    """Everything that decides a training's result. Level 0 is the teacher, 1 to 8 the students of
    Table S5.

    Another `architecture` than the paper's is a plain rival of a student; its `level` says nothing.

    `data` is the fingerprint of the whole data set, `train_images` and `test_images` how many of it
    are used (None: all), `teacher` the hash of the teacher's weights. Of the `train_images`, a
    stratified `share`, drawn with `split_seed`, is trained on (section 3.5's 80 %); `scored` says
    on what: the test pictures, or the rest of the training pictures (`validation`), so that a
    search never sees the test set. Fields that a method does not use are set back to their
    defaults, so that, say, the plain student is one and the same run in every notebook.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    data: str
    image_size: int = 32
    train_images: int | None = None
    test_images: int | None = None
    share: float = Field(1.0, gt=0, le=1)
    split_seed: int = Field(0, ge=0)
    scored: Literal["test", "validation"] = "test"
    architecture: Architecture = "paper"
    level: int = Field(2, ge=0, le=max(LEVELS))
    width: float = Field(1.0, gt=0)
    alpha: float = Field(0.0, ge=0, le=1)
    temperature: float = Field(1.0, gt=0)
    probability: float = Field(0.0, ge=0, le=1)
    gamma: float = Field(0.0, ge=0)
    attention_reduction: Reduction = "sum"
    pairing: Pairing = "static"
    overlay: Overlay = "map"
    baseline: Baseline = "black"
    rule: Rule = "gausslegendre"
    steps: int = Field(50, ge=1)
    output: Output = "logit"
    teacher: str | None = None
    padding: int = Field(4, ge=0)
    flip: bool = True
    recipe: Recipe = Recipe()
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _drop_unused(cls, values: dict[str, Any]) -> dict[str, Any]:
        unused = set().union(
            *(names for weight, names in _DEPENDENT.items() if not values.get(weight))
        )
        wanted = _wanted(values)
        unused |= set() if wanted else {"pairing", "teacher"}
        unused |= set() if "maps" in wanted else _OF_MAPS
        unused |= {"split_seed"} if values.get("share", 1.0) == 1.0 else set()
        unused |= {"level"} if values.get("architecture", "paper") != "paper" else set()
        return {name: value for name, value in values.items() if name not in unused}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.scored == "validation" and self.share == 1.0:
            raise ValueError(
                "scored on validation pictures, but share 1.0 trains on all of them: choose a share"
                " below 1"
            )
        if self.overlay != "map" and "maps" in self.wanted and self.pairing != "static":
            raise ValueError(
                f"overlay {self.overlay!r} is a control for pairing 'static', not for"
                f" {self.pairing!r}"
            )
        if self.architecture != "paper" and self.gamma:
            raise ValueError(
                "attention transfer needs the paper's students: a rival has no layer that fits the"
                " teacher's"
            )
        return self

    @property
    def key(self) -> str:
        """Sixteen hex digits of the specification.

        A field added later with a default leaves older keys as they are.
        """
        protocol = _PROTOCOLS.get(self.architecture, PROTOCOL)
        text = json.dumps(
            {"protocol": protocol, **self.model_dump(mode="json", exclude_defaults=True)},
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def method(self) -> str:
        """One of `METHODS`, or `teacher`."""
        active = {weight for weight in _DEPENDENT if getattr(self, weight)}
        return (
            "teacher"
            if self.level == 0
            else next(name for name, method in METHODS.items() if method.weights == active)
        )

    @property
    def wanted(self) -> set[Kind]:
        """The teacher's signals that the method uses."""
        return _wanted(dict(self))

    def __str__(self) -> str:
        return f"{self.method} level {self.level} seed {self.seed} ({self.key})"


class Result(BaseModel):
    """A finished run: its history, last and best epoch, predicted class of each test picture, and
    where it was made.
    """

    run: Run
    history: list[Epoch]
    last: Epoch
    best: Epoch
    parameters: int
    weights: str
    predictions: str
    data_label: str
    seconds: float
    environment: dict[str, str]

    @property
    def predicted(self) -> np.ndarray:
        """Class index of each test picture, int16 (N,)."""
        return np.frombuffer(base64.b64decode(self.predictions), dtype="<i2")


@dataclass(frozen=True)
class Pictures:
    """The pictures of one run: `pool`, for which signals are computed; its `rows` that are trained
    on (None: all); `scored`.
    """

    data: Dataset
    pool: Split
    rows: Tensor | None
    scored: Split

    @property
    def training(self) -> Split:
        """The pictures that are trained on."""
        return self.pool if self.rows is None else self.pool.select(self.rows)


@dataclass(frozen=True)
class Workspace:
    """Where runs find their pictures and leave their results."""

    folder: Path
    root: Path = Path("data")
    device: str = "cpu"
    download: bool = False

    def dataset(self, name: str, image_size: int) -> Dataset:
        """The data set, read once per process."""
        return _dataset(
            name, self.root, image_size, self.folder / "cache" / "pictures", self.download
        )

    def _data(self, run: Run) -> Dataset:
        data = self.dataset(run.dataset, run.image_size)
        if data.fingerprint != run.data:
            raise KdigError(
                f"{run} needs data with fingerprint {run.data}, {self.root} holds"
                f" {data.fingerprint}"
            )
        return data

    def pool(self, run: Run) -> Split:
        """The training pictures that `run` draws from.

        Raises `KdigError` when `root` holds another data set.
        """
        return stratified(
            self._data(run).train,
            run.train_images,
            name="train_images" if run.level else "teacher_train_images",
        )

    def pictures(self, run: Run) -> "Pictures":
        """The pictures that `run` uses. Raises `KdigError` when `root` holds another data set."""
        data, pool = self._data(run), self.pool(run)
        rows, rest = None, None
        if run.share < 1:
            rows = stratified_rows(pool, round(run.share * len(pool)), run.split_seed, "share")
            rest = (
                torch.ones(len(pool), dtype=torch.bool).index_fill(0, rows, False).nonzero()[:, 0]
            )
        if run.scored == "validation" and rest is not None:
            scored = pool.select(rest)
        else:
            scored = stratified(data.test, run.test_images, name="test_images")
        pictures = Pictures(data, pool, rows, scored)
        leaked = in_both(pictures.training, scored)
        if leaked:
            named = "; ".join(leaked[:5]) + ("; ..." if len(leaked) > 5 else "")
            raise KdigError(
                f"{run}: {len(leaked)} images are trained on and scored as well: remove one of each"
                f" ({named})"
            )
        return pictures

    def record(self, run: Run) -> Result | None:
        """The stored result of `run`, if it is finished, whether its weights are kept or not.

        Raises `KdigError` when it cannot be read.
        """
        path = self.folder / "runs" / f"{run.key}.json"
        if not path.exists():
            return None
        try:
            return Result.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise KdigError(
                f"{path} is not a run's result ({error.error_count()} faults); delete it to run"
                " again"
            ) from None

    def result(self, run: Run) -> Result | None:
        """The stored result of `run`, if it is finished and its weights are there.

        Raises `KdigError` when it cannot be read.
        """
        result = self.record(run)
        return result if result and self._weights(result.weights).exists() else None

    @property
    def signals(self) -> Path:
        """Where the teacher's signals are kept."""
        return self.folder / "cache" / "signals"

    def _weights(self, weights: str) -> Path:
        return self.folder / "weights" / f"{weights}.pt"

    def save(
        self, result: Result, net: Network, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        """Weights first, then the result, each moved into place whole: a result on disk is a
        finished run.
        """
        self.keep(net, mean, std, result.run.level, result.run.width, result.run.architecture)
        text = result.model_dump_json(indent=1)
        atomic_write(
            self.folder / "runs" / f"{result.run.key}.json",
            lambda part: Path(part).write_text(text, encoding="utf-8"),
        )
        self.traceback(result.run).unlink(missing_ok=True)

    def traceback(self, run: Run) -> Path:
        """Where a failure of `run` leaves its traceback, until the run succeeds."""
        return self.folder / "runs" / f"{run.key}.error.txt"

    def keep(
        self,
        net: Network,
        mean: Sequence[float],
        std: Sequence[float],
        level: int,
        width: float = 1.0,
        architecture: Architecture = "paper",
    ) -> str:
        """Write a network's weights with its normalisation, so that `load_weights` finds it.

        Returns its hash.
        """
        weights = state_hash(net)
        shape = {
            "level": level,
            "width": width,
            "architecture": architecture,
            "classes": net.classifier[-1].out_features,
        }
        state = {name: value.cpu() for name, value in net.state_dict().items()}
        content = {"state": state, "mean": list(mean), "std": list(std), **shape}
        atomic_write(self._weights(weights), lambda part: torch.save(content, part))
        return weights

    def load_weights(self, weights: str) -> Teacher:
        """The trained network whose state has the hash `weights`, with its normalisation.

        Raises `KdigError` when missing.
        """
        path = self._weights(weights)
        if not path.exists():
            raise KdigError(
                f"no weights {weights} in {path.parent}: run the notebook that trains them first"
            )
        try:
            content = torch.load(path, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            raise KdigError(
                f"cannot read the weights {path}; delete the file to train them again"
            ) from None
        net = build(
            content["level"],
            content["classes"],
            content["width"],
            content.get("architecture", "paper"),
        )
        net.load_state_dict(content["state"])
        return Teacher(net, content["mean"], content["std"], self.device)


@functools.lru_cache(maxsize=2)
def _dataset(name: str, root: Path, image_size: int, cache: Path, download: bool) -> Dataset:
    return load_dataset(name, root, image_size, cache=cache, download=download)


def untrained(run: Run, classes: int) -> Network:
    """The network that `run` starts from; seeds torch with the run's seed, from which the run goes
    on. Nothing is copied.

    Teachers draw from seeds of their own, so that no student starts where its teacher started.
    """
    torch.manual_seed(run.seed if run.level else _TEACHERS + run.seed)
    return build(run.level, classes, run.width, run.architecture)


def starting_points(runs: Sequence[Run], workspace: Workspace) -> pd.DataFrame:
    """A row for each of `runs`: `method`, `seed`, and digests of what it starts from.

    These are the `pictures` that it trains on, its initial `weights`, and the first epoch's `order`
    and crops; paired runs agree in all three, whatever their method.
    """
    prepare(runs, workspace, cores())
    return pd.DataFrame(
        [
            {"method": run.method, "seed": run.seed, **_starting_point(run, workspace)}
            for run in runs
        ]
    )


def _starting_point(run: Run, workspace: Workspace) -> dict[str, str]:
    pictures = workspace.pictures(run)
    dataset = training_set(run, workspace, pictures)
    dataset.set_epoch(1)
    drawn = [
        dataset.order,
        *(getattr(dataset.views, field.name) for field in fields(dataset.views)),
    ]
    with _LOCK, torch.random.fork_rng():
        weights = state_hash(untrained(run, len(pictures.data.classes)))
    order = hashlib.sha256(
        b"".join(values.cpu().numpy().tobytes() for values in drawn)
    ).hexdigest()[:16]
    return {"pictures": pictures.training.fingerprint, "weights": weights, "order": order}


def signal_spec(run: Run, teacher: Teacher, split: Split) -> SignalSpec:
    """The signals that `run` needs for its training pictures."""
    return SignalSpec(
        teacher=teacher.hash,
        data=split.fingerprint,
        image_size=run.image_size,
        mean=tuple(teacher.mean),
        std=tuple(teacher.std),
        attention_index=LEVELS[run.level][1],
        baseline=run.baseline,
        rule=run.rule,
        steps=run.steps,
        output=run.output,
        pairing="released" if run.pairing == "released" else "static",
        padding=run.padding,
        flip=run.flip,
    )


def train(run: Run, workspace: Workspace, threads: int = 1, epochs_shown: bool = False) -> Result:
    """Carry out one run and store it; a run that is already stored is returned as it is.

    On the CPU the result depends on the run and on `threads`, bit for bit. Of two processes that
    need the same run, one trains it and the other waits for it. Raises `KdigError` when the loss is
    not finite.
    """
    stored = workspace.result(run)
    if stored is None:
        with alone(workspace.folder / "runs" / f"{run.key}.lock", str(run)):
            stored = workspace.result(run) or _train(run, workspace, threads, epochs_shown)
    return stored


def _train(run: Run, workspace: Workspace, threads: int, epochs_shown: bool) -> Result:
    start, made = time.monotonic(), environment(workspace.device, threads)
    progress = Progress(str(run), run.recipe.epochs) if epochs_shown else None
    # the seed covers initial weights and the teacher's dropout, whatever this process has drawn
    # before
    with _LOCK, thread_count(threads), torch.random.fork_rng():
        pictures = workspace.pictures(run)
        data, scored = pictures.data, pictures.scored
        net = untrained(run, len(data.classes))
        net = net.to(workspace.device).to(memory_format=torch.channels_last)
        mean, std = (data.mean, data.std) if run.recipe.normalise else ((0.0,) * 3, (1.0,) * 3)
        model = with_normalisation(net, mean, std)
        loss = DistillationLoss(
            run.alpha,
            run.temperature,
            run.gamma,
            run.attention_reduction,
            run.recipe.label_smoothing,
        )
        with AttentionTap(net, LEVELS[run.level][1]) if run.gamma else nullcontext() as tap:
            history = fit(
                model,
                training_set(run, workspace, pictures),
                scored,
                loss,
                run.recipe,
                attention=tap,
                name=str(run),
                on_epoch=lambda epoch: progress.advance() if progress else None,
            )
        predicted = predict(model, scored, device=workspace.device).argmax(1)
    result = Result(
        run=run,
        history=history,
        last=history[-1],
        best=max(history, key=lambda e: e.test_accuracy or 0.0),
        parameters=count_parameters(net),
        weights=state_hash(net),
        predictions=base64.b64encode(predicted.numpy().astype("<i2").tobytes()).decode(),
        data_label=data.label,
        seconds=time.monotonic() - start,
        environment=made,
    )
    workspace.save(result, net, mean, std)
    return result


def training_set(run: Run, workspace: Workspace, pictures: Pictures | None = None) -> IGDataset:
    """The pictures that `run` trains on, with the signals that it meets, which `prepare` has
    computed.
    """
    pictures = pictures or workspace.pictures(run)
    names = ("wanted", "probability", "padding", "flip", "pairing", "overlay", "seed")
    settings: dict[str, Any] = {
        "device": workspace.device,
        **{name: getattr(run, name) for name in names},
    }
    if not run.wanted:
        return IGDataset(pictures.training, **settings)
    if run.teacher is None:
        raise KdigError(f"{run} learns from a teacher: give the hash of its weights")
    teacher = workspace.load_weights(run.teacher)
    spec = signal_spec(run, teacher, pictures.pool)
    if run.pairing == "same_view":
        return IGDataset(pictures.training, teacher=teacher, spec=spec, **settings)
    loaded = {
        kind: load_signal(
            spec, kind, signal_path(spec, kind, workspace.signals), pictures.pool.labels
        )
        for kind in run.wanted
    }
    if pictures.rows is not None:
        loaded = {kind: signal[pictures.rows] for kind, signal in loaded.items()}
    return IGDataset(pictures.training, Signals(**loaded), **settings)


def prepare(runs: Iterable[Run], workspace: Workspace, threads: int) -> None:
    """Compute, once, the signals that `runs` look up, and try a few rows; signals are those of
    training pictures alone.

    Raises `KdigError` for a cache whose rows are not those of their pictures.
    """
    load, checked = functools.cache(workspace.load_weights), set()
    for run in runs:
        if run.wanted and run.teacher and run.pairing != "same_view":
            pool, teacher = workspace.pool(run), load(run.teacher)
            spec = signal_spec(run, teacher, pool)
            with thread_count(threads):
                for kind in sorted(run.wanted):
                    path = precompute(spec, kind, teacher, pool, workspace.signals)
                    if path not in checked:
                        spot_check(spec, kind, teacher, pool, workspace.signals)
                    checked.add(path)


def execute(
    runs: Sequence[Run],
    workspace: Workspace,
    engine: Engine = "inline",
    workers: int = 1,
    threads: int = 1,
) -> list[Result]:
    """The results of `runs`, in their order; finished runs are taken from the store, equal runs
    trained once.

    `inline` trains one after the other in this process, `local` in `workers` processes, `dask` on
    the cluster that `DASK_SCHEDULER_ADDRESS` names (or a local one). Whatever the engine, a run
    uses `threads` CPU threads and gives the same numbers. A failing run does not stop the others,
    and leaves its traceback in a file. Raises `KdigError` at the end, which names every run that
    failed; and at once when there is no space for the results.
    """
    stored = {run.key: workspace.result(run) for run in {run.key: run for run in runs}.values()}
    todo = list({run.key: run for run in runs if stored[run.key] is None}.values())
    if todo:
        _require_space(todo, workspace)
        prepare(todo, workspace, cores())
        failures = []
        progress = Progress("runs", len(todo))
        for error in _engines()[engine](todo, workspace, workers, threads):
            failures += [error] if error else []
            progress.advance()
        if failures:
            raise KdigError(f"{len(failures)} of {len(todo)} runs failed: {'; '.join(failures)}")
    results = [stored[run.key] or workspace.result(run) for run in runs]
    return [result for result in results if result is not None]


def _require_space(runs: Sequence[Run], workspace: Workspace) -> None:
    """Raises `NoSpaceError` when the weights of `runs` do not fit on the disk: better now than
    after training.
    """
    sizes = [
        _weights_size(
            run.level,
            len(workspace.dataset(run.dataset, run.image_size).classes),
            run.width,
            run.architecture,
        )
        for run in runs
    ]
    require_space(workspace.folder, sum(sizes), f"the weights of {len(runs)} runs")


@functools.cache
def _weights_size(level: int, classes: int, width: float, architecture: Architecture) -> int:
    """Bytes of a network's state."""
    with torch.device("meta"):
        state = build(level, classes, width, architecture).state_dict()
    return sum(value.numel() * value.element_size() for value in state.values())


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _engines() -> dict[Engine, Callable[[list[Run], Workspace, int, int], Iterator[str | None]]]:
    return {"inline": _inline, "local": _local, "dask": _dask}


def _attempt(
    run: Run, workspace: Workspace, threads: int, epochs_shown: bool = False
) -> str | None:
    """Train; what went wrong, in one line that names the traceback's file, or None.

    Whatever it is, the other runs go on, but for a full disk: `NoSpaceError` is raised, since no
    run could keep its result.
    """
    try:
        train(run, workspace, threads, epochs_shown)
    except NoSpaceError:
        raise
    except Exception as error:  # a run may fail in any way, torch's and the driver's among them
        path, text = workspace.traceback(run), traceback.format_exc()
        atomic_write(path, lambda part: Path(part).write_text(text, encoding="utf-8"))
        return f"{_in_short(run, error)} (traceback: {path})"
    return None


def _in_short(run: Run, error: Exception) -> str:
    if isinstance(error, KdigError):
        return str(error)
    return f"{run}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _inline(
    runs: list[Run], workspace: Workspace, workers: int, threads: int
) -> Iterator[str | None]:
    for run in runs:
        yield _attempt(run, workspace, threads, epochs_shown=len(runs) == 1)


def _local(
    runs: list[Run], workspace: Workspace, workers: int, threads: int
) -> Iterator[str | None]:
    _require_main_guard("local")
    left, handed = deque(runs), []

    def hand_over() -> None:
        pool = _pool(workers)
        with suppress(IndexError):
            while True:
                handed.append(pool.submit(_attempt, left.popleft(), workspace, threads))

    try:
        starting = futures.ThreadPoolExecutor(1).submit(hand_over)
        futures.wait([starting], timeout=0.5)
        with suppress(IndexError):
            while (
                not starting.done()
            ):  # new workers import torch for seconds: meanwhile this process trains
                yield _attempt(left.popleft(), workspace, threads)
        starting.result()
        for done in futures.as_completed(handed):
            yield done.result()
    except BaseException as error:
        # on a full disk what still trains cannot be kept: nobody waits for it
        _pool(workers).shutdown(wait=not isinstance(error, NoSpaceError), cancel_futures=True)
        _pool.cache_clear()
        if isinstance(error, futures.process.BrokenProcessPool):
            reason = (
                "a worker was killed, perhaps for memory: give the same command again, or use fewer"
                " workers"
            )
            raise KdigError(reason) from None
        raise


def _require_main_guard(engine: Engine) -> None:
    """Raises `KdigError` for a script whose workers, which read it once more, would start it once
    more.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    with suppress(OSError):
        if script and "__main__" not in Path(script).read_text(encoding="utf-8", errors="ignore"):
            raise KdigError(
                f"engine {engine!r} starts workers that read {script}: put the call under if"
                " __name__ == '__main__':"
            )


@functools.cache
def _pool(workers: int) -> futures.ProcessPoolExecutor:
    """Kept for later calls."""
    return futures.ProcessPoolExecutor(workers, forkserver(), exit_with_parent)


def forkserver() -> ForkServerContext:
    """Makes processes that are forked from a server, which has imported this module and run
    nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def exit_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _dask(
    runs: list[Run], workspace: Workspace, workers: int, threads: int
) -> Iterator[str | None]:
    with _client(workers) as client:
        blamed = []
        for run, done in _handed_over(client, runs, len(runs), workspace, threads):
            if _is_blamed(done) and workspace.result(run) is None:
                blamed.append(run)
            else:
                yield _answer(done, run, workspace)
        # A run that waited at a worker is blamed for its death like the one that killed it. All try
        # again, none waiting there.
        free = max(1, sum(client.nthreads().values()))
        for run, done in _handed_over(client, blamed, free, workspace, threads):
            yield _answer(done, run, workspace)


def _client(workers: int) -> Any:
    """A client of the cluster that `DASK_SCHEDULER_ADDRESS` names, or of one on this machine.

    Raises `KdigError` when there is none.
    """
    try:
        from distributed import Client
    except ImportError:
        raise KdigError(
            "engine 'dask' needs the cluster extra: pip install 'kdig[cluster]'"
        ) from None
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        _require_main_guard("dask")
        return Client(n_workers=workers, threads_per_worker=1)
    try:
        return Client(address)
    except (OSError, ValueError) as error:
        found = f"no dask scheduler answers at {address} ({str(error).splitlines()[0]})"
        raise KdigError(
            f"{found}: start one there, or unset DASK_SCHEDULER_ADDRESS for one on this machine"
        ) from None


def _handed_over(
    client: Any, runs: Iterable[Run], at_once: int, workspace: Workspace, threads: int
) -> Iterator[tuple[Run, Any]]:
    """Each of `runs` with its future, as they end; `at_once` of them are with the cluster."""
    from distributed import as_completed

    left, given, ended = deque(runs), {}, as_completed()

    def hand_over() -> None:
        run = left.popleft()
        future = client.submit(_attempt, run, workspace, threads, pure=False)
        given[future] = run
        ended.add(future)

    for _ in range(min(at_once, len(left))):
        hand_over()
    for future in ended:
        if left:
            hand_over()
        yield given.pop(future), future


def _is_blamed(done: Any) -> bool:
    """Whether dask gave a run up, because workers died again and again while they had it."""
    return done.status == "error" and type(done.exception()).__name__ == "KilledWorker"


def _answer(done: Any, run: Run, workspace: Workspace) -> str | None:
    """What `_attempt` said of `run`, or, where its worker has died, what became of it."""
    try:
        answer: str | None = done.result(timeout=_ANSWER_SECONDS)
    except NoSpaceError:
        raise
    except Exception as error:  # dask has many ways to lose a worker
        if workspace.result(run) is not None:
            return None  # the run is finished; only the answer went with its worker
        if type(error).__name__ == "KilledWorker":
            return (
                f"{run}: its worker died again and again, perhaps for memory: use fewer workers, or"
                " workers with more memory"
            )
        return (
            f"{run}: its worker died or does not answer ({type(error).__name__}): give the same"
            " command again"
        )
    return answer


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """CPU threads of torch for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.lru_cache
def environment(device: str, threads: int) -> dict[str, str]:
    """Versions, device and git revision, to be kept beside every result."""
    packages = {name: version(name) for name in ("torch", "torchvision", "captum", "numpy")}
    return {
        "kdig": __version__,
        "python": platform.python_version(),
        **packages,
        "device": (
            torch.cuda.get_device_name(device)
            if device.startswith("cuda")
            else f"{platform.machine()} CPU"
        ),
        "kernels": kernels(),
        "threads": str(threads),
        "git": _revision(),
        "lock": lock_name(),
    }


def kernels() -> str:
    """The instruction set of torch's CPU kernels, such as `AVX2` or `AVX512`, and the limit set for
    oneDNN's, if there is one.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return torch.backends.cpu.get_cpu_capability() + (f", oneDNN up to {limit}" if limit else "")


def _revision() -> str:
    """This checkout's git revision; `unknown` for an installed package or without git."""
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return "unknown"
    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=package, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return git.stdout.strip() or "unknown"


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row a run: method, level, seed, last and best test accuracy (percent), parameters,
    seconds, key.
    """
    return pd.DataFrame(
        {
            "method": r.run.method,
            "level": r.run.level,
            "seed": r.run.seed,
            "accuracy": r.last.test_accuracy,
            "best_epoch_accuracy": r.best.test_accuracy,
            "parameters": r.parameters,
            "seconds": r.seconds,
            "run": r.run.key,
        }
        for r in results
    )


def validation_frame(results: Iterable[Result], names: Sequence[str]) -> pd.DataFrame:
    """One row a run of a search: values of `names`, `cell` (these, joined), seed, last validation
    accuracy (percent), key.

    Raises `ValueError` when a run was scored on the test set, which must not choose.
    """
    rows = list(results)
    if any(r.run.scored != "validation" for r in rows):
        raise ValueError(
            "a run of this search was scored on the test set: a search is scored on validation"
            " pictures"
        )
    values = [{name: getattr(r.run, name) for name in names} for r in rows]
    return pd.DataFrame(
        {
            "cell": "_".join(f"{value:g}" for value in cell.values()),
            **cell,
            "seed": r.run.seed,
            "validation_accuracy": r.last.test_accuracy,
            "run": r.run.key,
        }
        for r, cell in zip(rows, values)
    )
