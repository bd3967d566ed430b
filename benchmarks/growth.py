"""How time and memory grow with pictures, steps, runs and workers.

Each row of the table raises one number and leaves the others. `growth` is how many times as long it
takes, over how many times as long it would take if time went with pictures, steps and runs, and
against workers: one is linear, less is what a fixed cost, spread over more work, leaves.
"""

import argparse
import multiprocessing
import resource
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import seaborn as sns
import torch
from common import OUTPUTS, in_turns, show
from matplotlib import pyplot as plt

from kdig.core.attribution import baseline_point, integrated_gradients
from kdig.core.data import load_dataset, stratified
from kdig.core.networks import build
from kdig.core.run import Run
from kdig.core.runs import Engine, execute
from kdig.core.signals import SignalSpec, Teacher, precompute
from kdig.core.store import Workspace
from kdig.core.training import Recipe


def tiny_runs(count: int) -> list[Run]:
    """Students of level 8 on digits."""
    data = load_dataset("digits", Path(), 10)
    recipe = Recipe(epochs=2, batch_size=50)
    shape = {
        "image_size": 10,
        "network": "s8",
        "width": 0.25,
        "padding": 1,
        "flip": False,
        "train_images": 300,
    }
    return [
        Run(dataset="digits", data=data.fingerprint, recipe=recipe, seed=i, **shape)
        for i in range(count)
    ]


def train_anew(count: int, engine: Engine = "inline", workers: int = 1) -> None:
    """So many runs in a store of their own."""
    with tempfile.TemporaryDirectory() as folder:
        execute(tiny_runs(count), Workspace(Path(folder)), engine, workers)


def by_images(counts: list[int]) -> dict[int, Callable[[], object]]:
    """A teacher's logits for so many pictures, written to a cache in blocks of 250."""
    data, teacher = (
        load_dataset("digits", Path(), 32),
        Teacher(build("mobilenet_v2", 10, 0.25).eval(), [0.0] * 3, [1.0] * 3),
    )
    splits = {count: stratified(data.train, count) for count in counts}

    def call(count: int) -> None:
        split = splits[count]
        spec = SignalSpec(
            teacher=teacher.hash,
            data=split.fingerprint,
            image_size=32,
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
        )
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # a teacher with initial weights knows nothing
            precompute(spec, "logits", teacher, split, Path(folder))

    return {count: partial(call, count) for count in counts}


def by_steps(counts: list[int]) -> dict[int, Callable[[], object]]:
    """Integrated gradients of eight pictures with so many steps: full chunks of 96 rows where they
    are multiples of 12.
    """
    net, x, y = (
        build("mobilenet_v2", 10, 0.25).eval().requires_grad_(False),
        torch.rand(8, 3, 32, 32),
        torch.arange(8),
    )
    point = baseline_point("black", (0.0,) * 3, x)
    return {count: partial(integrated_gradients, net, x, y, point, steps=count) for count in counts}


def by_runs(counts: list[int]) -> dict[int, Callable[[], object]]:
    """So many runs, one after the other."""
    return {count: partial(train_anew, count) for count in counts}


def by_workers(counts: list[int], runs: int) -> dict[int, Callable[[], object]]:
    """The same runs on so many processes, which stay from call to call."""
    return {count: partial(train_anew, runs, "local", count) for count in counts}


def amount(name: str, numbers: pd.Series) -> pd.Series:
    """How the time would go if it were linear: as the number, for workers as one over it."""
    return numbers ** (-1.0 if name == "workers" else 1.0)


def table(name: str, calls: dict[int, Callable[[], object]], rounds: int) -> pd.DataFrame:
    """Median seconds for each number, after one call of each."""
    times = in_turns(calls, rounds).median()
    work = amount(name, times.index.to_series())
    growth = times / times.shift() / (work / work.shift())
    return pd.DataFrame(
        {
            "what": name,
            "number": times.index,
            "seconds": times.to_numpy(),
            "growth": growth.to_numpy(),
        }
    )


def peak_memory(runs: int) -> float:
    """MiB that a fresh process has held at most after so many runs."""
    train_anew(runs)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw(times: pd.DataFrame, caption: str) -> None:
    """Seconds against each number, and what they would be if they went with the work."""
    free = {"sharex": False, "sharey": False}
    grid = sns.relplot(
        times,
        x="number",
        y="seconds",
        col="what",
        kind="line",
        marker="o",
        height=3,
        facet_kws=free,
    )
    for what, axis in grid.axes_dict.items():
        rows = times[times.what == what]
        work = amount(what, rows.number)
        axis.plot(rows.number, rows.seconds.iloc[0] * work / work.iloc[0], "--", color="0.5")
        axis.set(xticks=rows.number, xlabel=what, ylabel="seconds", ylim=(0, None), title="")
    OUTPUTS.figure(grid.figure, "growth", caption)
    plt.close("all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    memory = []
    for runs in (
        1,
        4,
        16,
    ):  # before this process has grown: Linux counts what a process held before exec as the child's
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory.append({"runs": runs, "peak_mib": round(pool.apply(peak_memory, (runs,)))})
    show(
        pd.DataFrame(memory),
        "memory",
        "Largest memory of a fresh process that trains so many runs one after the other.",
    )
    experiments = {
        "pictures": by_images([250, 500, 1000]),
        "steps": by_steps([12, 24, 48, 96]),
        "runs": by_runs([2, 4, 8]),
        "workers": by_workers(options.workers, 8),
    }
    times = pd.concat(
        [table(name, calls, options.rounds) for name, calls in experiments.items()],
        ignore_index=True,
    ).round(3)
    caption = show(
        times, "growth", "Seconds against pictures (logits), steps (attribution), runs and workers."
    )
    draw(times, f"{caption} Dashed: linear from the first point.")


if __name__ == "__main__":
    main()
