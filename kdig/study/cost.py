"""What a profile will cost on this device: its runs counted, their time estimated from a short
calibration.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from kdig import KdigError
from kdig.core.environment import cores, thread_count
from kdig.core.networks import build
from kdig.core.run import Run
from kdig.core.signals import Teacher, signal_path
from kdig.core.store import Workspace
from kdig.core.train import signal_spec
from kdig.measure.latency import training_call
from kdig.study.experiments import Experiment, Students
from kdig.study.notebooks import NOTEBOOKS
from kdig.study.settings import profile_settings


def profile_cost(profile: str, notebooks: Sequence[str], root: str | None) -> str:
    """One line: how many runs the notebooks of a profile still have to make, and about how long
    they take here.

    Raises `KdigError` for parameters that a notebook does not accept and for missing images, before
    anything has run.
    """
    given = {"profile": profile, **({"root": root} if root else {})}
    experiments = [
        profile_settings(NOTEBOOKS[name], name, given) for name in notebooks if name in NOTEBOOKS
    ]
    if not experiments:
        return f"profile {profile}: nothing to train"
    first = experiments[0]
    workspace = first.workspace
    runs = [(e, run) for e in experiments for run in runs_of(e)]
    left = {run.key: (e.workspace, run) for e, run in runs if e.stored(run) is None}
    todo = [run for _, run in left.values()]
    text = f"profile {profile}: {len(todo)} of {len({run.key for _, run in runs})} runs to train"
    if not todo:
        return text
    workers = 1 if first.engine in {"inline", "fused"} else first.workers
    # a notebook may have images of its own
    places = dict.fromkeys(place for place, _ in left.values())
    parts = [[run for of, run in left.values() if of == place] for place in places]
    seconds = [estimate(part, p, workers, first.threads) for p, part in zip(places, parts)]
    hours = sum(seconds) / 3600
    epochs = sum(run.recipe.epochs for run in todo)
    duration = f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    about = (
        "estimated from a few steps of each network; scoring and the notebooks' own timings not"
        " counted"
    )
    return f"{text}, {epochs:,} epochs, about {duration} here ({workspace.device}; {about})"


def runs_of(experiment: Experiment) -> list[Run]:
    """Every run of a notebook. A teacher that is given is none; it is put into the store."""
    teachers = [] if experiment.given.teacher else [experiment.teacher_run()]
    weights = experiment.known_teacher() or "to be trained"
    return teachers + (experiment.runs(weights) if isinstance(experiment, Students) else [])


def estimate(runs: Sequence[Run], workspace: Workspace, workers: int, threads: int) -> float:
    """Seconds to train `runs` and to compute their maps, `workers` at a time on a CPU, one after
    the other on a GPU.

    The teacher, and the maps that are kept, are made one after the other with all CPU cores; maps
    that are there already cost nothing. Under pairing `same_view`, maps are part of every epoch,
    for the pictures that are overlaid.
    """
    times: dict[tuple[object, ...], float] = {}
    total, kept = 0.0, set()
    parallel = workers if workspace.device == "cpu" else 1

    def timed(
        measure: Callable[[Run, int, str], float],
        run: Run,
        classes: int,
        count: int,
        *shape: object,
    ) -> float:
        key = (measure, run.image_size, run.width, classes, count, *shape)
        if key not in times:
            with thread_count(count):
                times[key] = measure(run, classes, workspace.device)
        return times[key]

    for run in runs:
        data, batch = workspace.dataset(run.dataset, run.image_size), run.recipe.batch_size
        classes, pictures = len(data.classes), run.train_images or len(data.train)
        count, at_once = (cores(), 1) if run.role == "teacher" else (threads, parallel)
        met = run.share * pictures * run.recipe.epochs
        step = timed(step_seconds, run, classes, count, run.network, batch)
        total += met / batch * step / at_once
        if "maps" not in run.wanted:
            continue
        if "maps" not in run.looked_up:
            each = timed(_map_seconds, run, classes, count, run.signals)
            total += run.probability * met * each / at_once
        elif (cache := _cache(run)) not in kept:
            kept.add(cache)
            if not _is_kept(run, workspace):
                total += pictures * timed(_map_seconds, run, classes, cores(), run.signals)
    return total


def _cache(run: Run) -> tuple[object, ...]:
    """Runs that agree in this look their maps up in one file."""
    of_maps = run.signals.model_dump(include=run.signals.of_maps)
    data = (run.dataset, run.image_size, run.train_images, run.teacher)
    return (run.signals.pairing_of("maps") == "released", *data, *sorted(of_maps.items()))


def _is_kept(run: Run, workspace: Workspace) -> bool:
    try:
        teacher = workspace.load_weights(run.teacher or "")
    except KdigError:  # not trained yet
        return False
    spec = signal_spec(run, teacher, workspace.pool(run))
    return signal_path(spec, "maps", workspace.signals).with_suffix(".json").exists()


def step_seconds(run: Run, classes: int, device: str) -> float:
    """Seconds of one training step of `run`'s network on a batch of noise, median of five after two
    for warming up.
    """
    net = build(run.network, classes, run.width).to(device)
    images = torch.rand(run.recipe.batch_size, 3, run.image_size, run.image_size, device=device)
    return _median_seconds(training_call(net, images, run.recipe), warm_up=2, repeats=5)


def _map_seconds(run: Run, classes: int, device: str) -> float:
    """Seconds of one map; the teacher is taken to be the paper's, at the student's width."""
    teacher = Teacher(build("mobilenet_v2", classes, run.width), [0.0] * 3, [1.0] * 3, device)
    images = torch.rand(8, 3, run.image_size, run.image_size, device=device)
    labels = torch.zeros(8, dtype=torch.int64, device=device)

    def maps() -> float:
        return teacher.explain(images, labels, run.signals).sum().item()

    return _median_seconds(maps, warm_up=1, repeats=3) / 8


def _median_seconds(call: Callable[[], object], warm_up: int, repeats: int) -> float:
    """`call` must come back only when the device has finished."""
    times = []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm_up:])
