"""Many runs: four engines, of which three give the same numbers, and their results as tables."""

import functools
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from kdig import KdigError
from kdig.core.environment import cores
from kdig.core.files import NoSpaceError, atomic_write, differences, require_space
from kdig.core.fused import groups, train_together
from kdig.core.networks import build
from kdig.core.progress import Progress
from kdig.core.run import Run, Scoring
from kdig.core.store import Result, Workspace
from kdig.core.train import prepare, train

Engine = Literal["inline", "local", "dask", "fused"]
# how long dask may take to hand over the line of a run that is finished
_ANSWER_SECONDS = 30


def execute(
    runs: Sequence[Run],
    workspace: Workspace,
    engine: Engine = "inline",
    workers: int = 1,
    threads: int = 1,
    scoring: Scoring = Scoring(),
    weights: bool = True,
) -> list[Result]:
    """The results of `runs`, in their order, each tried on the images of `scoring`.

    Finished runs are taken from the store, equal runs trained once, and a network that is trained
    but not yet scored so is only scored. `inline` trains one after the other in this process,
    `local` in `workers` processes, `dask` on the cluster that `DASK_SCHEDULER_ADDRESS` names (or a
    local one). Whatever of these, a run uses `threads` CPU threads and gives the same numbers.
    `fused` trains runs of one shape side by side, up to `workers` of them, and the others one after
    the other: the same numbers to rounding, which training can amplify. A failing run does not
    stop the others, and leaves its traceback in a file. Where the networks themselves are not
    needed (`weights`), a record without them is a finished run. Raises `KdigError` at the end,
    which names every run that failed; and at once when there is no space for the results.

    >>> store = Workspace(Path(folder))
    >>> shape = {"image_size": 8, "network": "s8", "width": 0.25, "recipe": {"epochs": 1}}
    >>> digits = store.dataset("digits", 8).fingerprint
    >>> (result,) = execute([Run(dataset="digits", data=digits, **shape)], store)
    0 of 1 runs are kept, 1 are made; the first, student s8 seed 0 (...): nothing like it is stored
    >>> result.parameters
    490
    """
    different = {run.key: run for run in runs}
    stored = {key: workspace.result(run, scoring, weights) for key, run in different.items()}
    todo = [run for key, run in different.items() if stored[key] is None]
    if todo:
        _require_space(todo, workspace)
        print(reasons(todo, workspace, len(different)), flush=True)
        prepare(todo, workspace, cores())
        failures = []
        progress = Progress("runs", len(todo))
        # workers on a single core would only wait for each other
        alone = engine == "local" and min(workers, cores()) == 1
        made_by = _engines()["inline" if alone else engine]
        for error in made_by(todo, workspace, scoring, workers, threads):
            failures += [error] if error else []
            progress.advance()
        if failures:
            raise KdigError(f"{len(failures)} of {len(todo)} runs failed: {'; '.join(failures)}")
    made = stored | {run.key: workspace.result(run, scoring, weights) for run in todo}
    if missing := [run for run in todo if made[run.key] is None]:
        raise KdigError(
            f"{len(missing)} of {len(todo)} runs have left nothing in {workspace.folder}, the first"
            f" of them {missing[0]}: workers must write into this folder"
        )
    return [result for run in runs if (result := made[run.key])]


def reasons(todo: Sequence[Run], workspace: Workspace, wanted: int) -> str:
    """One line: how many of the `wanted` runs are kept, and why the others are made.

    For the first of them it names the stored run that is most like it, and what differs.
    """
    trained = [run for run in todo if workspace.trained(run)]
    text = f"{wanted - len(todo)} of {wanted} runs are kept"
    text += f", {len(trained)} are scored anew" if trained else ""
    made = [run for run in todo if run not in trained]
    if not made:
        return text
    first = made[0]
    alike = [other for other in workspace.runs() if other.role == first.role]
    told = min((_differing(first, other) for other in alike), key=len, default=[])
    named = ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")
    why = f"differs from the nearest stored run in {named}" if told else "nothing like it is stored"
    return f"{text}, {len(made)} are made; the first, {first}: {why}"


def _differing(run: Run, other: Run) -> list[str]:
    return differences(other.model_dump(mode="json"), run.model_dump(mode="json"))


def _require_space(runs: Sequence[Run], workspace: Workspace) -> None:
    """Raises `NoSpaceError` when the weights of `runs` do not fit on the disk.

    Better now than after training.
    """
    sizes = [
        _weights_size(
            run.network, len(workspace.dataset(run.dataset, run.image_size).classes), run.width
        )
        for run in runs
    ]
    require_space(workspace.folder, sum(sizes), f"the weights of {len(runs)} runs")


@functools.cache
def _weights_size(network: str, classes: int, width: float) -> int:
    """Bytes of a network's state."""
    with torch.device("meta"):
        state = build(network, classes, width).state_dict()
    return sum(value.numel() * value.element_size() for value in state.values())


def _engines() -> dict[Engine, Callable[..., Iterator[str | None]]]:
    return {"inline": _inline, "local": _local, "dask": _dask, "fused": _fused}


def _attempt(
    run: Run, workspace: Workspace, scoring: Scoring, threads: int, epochs_shown: bool = False
) -> str | None:
    """Train; what went wrong, in one line that names the traceback's file, or None.

    Whatever it is, the other runs go on, but for a full disk: `NoSpaceError` is raised, since no
    run could keep its result.
    """
    try:
        train(run, workspace, scoring, threads, epochs_shown)
    except NoSpaceError:
        raise
    except Exception as error:  # a run may fail in any way, torch's and the driver's among them
        path, text = workspace.traceback(run), traceback.format_exc()
        atomic_write(path, lambda part: Path(part).write_text(text, encoding="utf-8"))
        return f"{_in_short(run, error)} (traceback: {path})"
    return None


def _interruptible(run: Run, workspace: Workspace, scoring: Scoring, threads: int) -> str | None:
    """`_attempt` in a worker, which Ctrl-C reaches while it trains and not while it waits."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _attempt(run, workspace, scoring, threads)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _in_short(run: Run, error: Exception) -> str:
    if isinstance(error, KdigError):
        return str(error)
    if "more than 1 value per channel" in str(error):
        return (
            f"{run}: the last batch holds a single image, of which batch norm knows no variance:"
            f" choose another batch_size than {run.recipe.batch_size}"
        )
    return f"{run}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _inline(
    runs: list[Run], workspace: Workspace, scoring: Scoring, workers: int, threads: int
) -> Iterator[str | None]:
    for run in runs:
        yield _attempt(run, workspace, scoring, threads, epochs_shown=len(runs) == 1)


def _fused(
    runs: list[Run], workspace: Workspace, scoring: Scoring, workers: int, threads: int
) -> Iterator[str | None]:
    found = groups([run for run in runs if workspace.trained(run) is None], workers)
    grouped = {run.key for group in found for run in group}
    rest = [run for run in runs if run.key not in grouped]
    print(
        f"engine fused: {len(grouped)} runs side by side in {len(found)} groups of up to {workers}"
        f" (workers), {len(rest)} one after the other",
        flush=True,
    )
    for group in found:
        _try_together(group, workspace, scoring, threads)
        # a run that is not stored now is trained alone, and says what is wrong with it
        yield from _inline(group, workspace, scoring, workers, threads)
    yield from _inline(rest, workspace, scoring, workers, threads)


def _try_together(group: list[Run], workspace: Workspace, scoring: Scoring, threads: int) -> None:
    """Train runs side by side; where that fails, say why in a line."""
    try:
        train_together(group, workspace, scoring, threads)
    except NoSpaceError:
        raise
    except Exception as error:  # what may go wrong with one run, and memory that several need
        named = f"{len(group)} runs cannot stand side by side: {_in_short(group[0], error)}"
        print(f"engine fused: {named}; they are trained one after the other", flush=True)


def _local(
    runs: list[Run], workspace: Workspace, scoring: Scoring, workers: int, threads: int
) -> Iterator[str | None]:
    _require_main_guard("local")
    left, handed = deque(runs), []

    def hand_over() -> None:
        pool = _pool(workers)
        with suppress(IndexError):
            while True:
                handed.append(
                    pool.submit(_interruptible, left.popleft(), workspace, scoring, threads)
                )

    try:
        starting = futures.ThreadPoolExecutor(1).submit(hand_over)
        futures.wait([starting], timeout=0.5)
        with suppress(IndexError):
            while (
                not starting.done()
            ):  # new workers import torch for seconds: meanwhile this process trains
                yield _attempt(left.popleft(), workspace, scoring, threads)
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
    return futures.ProcessPoolExecutor(workers, forkserver(), _start_worker)


def _start_worker() -> None:
    """An interrupted cell, or a closed notebook, leaves a worker that waits alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_with_parent()


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
    runs: list[Run], workspace: Workspace, scoring: Scoring, workers: int, threads: int
) -> Iterator[str | None]:
    with _client(workers) as client:
        blamed = []
        for run, done in _handed_over(client, runs, len(runs), workspace, scoring, threads):
            if _is_blamed(done) and workspace.result(run, scoring) is None:
                blamed.append(run)
            else:
                yield _answer(done, run, workspace, scoring)
        # A run that waited at a worker is blamed for its death like the one that killed it. All try
        # again, none waiting there.
        free = max(1, sum(client.nthreads().values()))
        for run, done in _handed_over(client, blamed, free, workspace, scoring, threads):
            yield _answer(done, run, workspace, scoring)


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
    client: Any,
    runs: Iterable[Run],
    at_once: int,
    workspace: Workspace,
    scoring: Scoring,
    threads: int,
) -> Iterator[tuple[Run, Any]]:
    """Each of `runs` with its future, as they end; `at_once` of them are with the cluster."""
    from distributed import as_completed

    left, given, ended = deque(runs), {}, as_completed()

    def hand_over() -> None:
        run = left.popleft()
        future = client.submit(_attempt, run, workspace, scoring, threads, pure=False)
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


def _answer(done: Any, run: Run, workspace: Workspace, scoring: Scoring) -> str | None:
    """What `_attempt` said of `run`, or, where its worker has died, what became of it."""
    try:
        answer: str | None = done.result(timeout=_ANSWER_SECONDS)
    except NoSpaceError:
        raise
    except Exception as error:  # dask has many ways to lose a worker
        if workspace.result(run, scoring) is not None:
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
            "best_epoch_accuracy": r.best.test_accuracy if r.best else None,
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
    if any(r.scoring.split != "validation" for r in rows):
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
