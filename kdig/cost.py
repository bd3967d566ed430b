"""What a profile will cost on this device: its runs counted, their time estimated from a short calibration."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml
from torch.nn import functional as F

from kdig.models import build
from kdig.params import NOTEBOOKS, Experiment, Students, check
from kdig.runs import Run, Workspace, thread_count
from kdig.settings import parameter_files
from kdig.signals import SignalSpec, Teacher


def profile_cost(profile: Path, notebooks: Sequence[str], root: str | None) -> str:
    """One line: how many runs the notebooks of a profile still have to make, and about how long they take here.

    Raises `KdigError` for parameters that a notebook does not accept and for missing pictures, before anything has run.
    """
    experiments = [_settings(profile, name, root) for name in notebooks if name in NOTEBOOKS]
    if not experiments:
        return f"profile {profile.name}: nothing to train"
    first = experiments[0]
    workspace = first.workspace
    known = workspace.result(first.teacher_run())
    teacher = known.weights if known else "to be trained"
    runs = {run.key: run for e in experiments for run in [e.teacher_run(), *(e.runs(teacher) if isinstance(e, Students) else [])]}
    todo = [run for run in runs.values() if workspace.result(run) is None]
    text = f"profile {profile.name}: {len(todo)} of {len(runs)} runs to train"
    if not todo:
        return text
    hours = estimate(todo, workspace, first.workers, first.threads, first.ig_steps) / 3600
    epochs = sum(run.recipe.epochs for run in todo)
    duration = f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    return f"{text}, {epochs:,} epochs, about {duration} here ({workspace.device}; estimated from a few steps of each network)"


def _settings(profile: Path, notebook: str, root: str | None) -> Experiment:
    model = NOTEBOOKS[notebook]
    files = parameter_files(profile, notebook, model.model_fields)
    values = {name: value for path in files for name, value in yaml.safe_load(path.read_text()).items()}
    return check(model, values | {"profile": profile.name} | ({"root": str(Path(root).resolve())} if root else {}))


def estimate(runs: Sequence[Run], workspace: Workspace, workers: int, threads: int, steps: int) -> float:
    """Seconds to train `runs` and to compute their maps, `workers` at a time on a CPU, one after the other on a GPU."""
    times: dict[tuple[object, ...], float] = {}
    total, maps = 0.0, {}
    parallel = workers if workspace.device == "cpu" else 1
    for run in runs:
        data = workspace.dataset(run.dataset, run.image_size)
        shape = (run.architecture, run.level, run.width, run.image_size, run.recipe.batch_size)
        if shape not in times:
            with thread_count(threads):
                times[shape] = step_seconds(run, len(data.classes), workspace.device)
        pictures = run.train_images or len(data.train)
        batches = run.share * pictures / run.recipe.batch_size * run.recipe.epochs
        total += times[shape] * batches / (parallel if run.level else 1)
        if "maps" in run.wanted:
            maps[pictures, run.image_size, run.width, len(data.classes)] = run
    return total + sum(size * _map_seconds(run, classes, workspace.device, steps) for (size, *_, classes), run in maps.items())


def step_seconds(run: Run, classes: int, device: str) -> float:
    """Seconds of one training step of `run`'s network on a batch of noise, median of five after two for warming up."""
    net = build(run.level, classes, run.width, run.architecture).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters())
    size = run.recipe.batch_size
    images = torch.rand(size, 3, run.image_size, run.image_size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (size,), device=device)

    def step() -> float:
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return _median_seconds(step, warm_up=2, repeats=5)


def _map_seconds(run: Run, classes: int, device: str, steps: int) -> float:
    teacher = Teacher(build(0, classes, run.width), [0.0] * 3, [1.0] * 3, device)
    spec = SignalSpec(teacher="", data="", image_size=run.image_size, mean=(0.0,) * 3, std=(1.0,) * 3, steps=steps)
    images = torch.rand(8, 3, run.image_size, run.image_size, device=device)
    labels = torch.zeros(8, dtype=torch.int64, device=device)
    return _median_seconds(lambda: teacher.explain(images, labels, spec).sum().item(), warm_up=1, repeats=3) / 8


def _median_seconds(call: Callable[[], float], warm_up: int, repeats: int) -> float:
    """Calls return a number read from the device, so that its work is done when they come back."""
    times = []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm_up:])
