"""One GPU: many seeds of a student at once, and attribution maps of a whole training set. One
command: `python benchmarks/gpu.py`.

Contenders for training: the conventional loop of `training.py`, also with loader workers, and
kdig's loop, one seed each; kdig's loop in several processes; S seeds side by side
(`kdig.core.ensemble`), as they are, recorded in a CUDA graph, and with bfloat16 activations; S
seeds with a graph and a stream each. All crop and flip their pictures and step by cross-entropy;
seeds have pictures and weights of their own, processes train the same. Each contender takes turns
with the baseline and is gone before the next comes, so that one at a time fills the card; what is
measured is written at once. On a CPU there are no graphs and no streams; everything else runs,
slowly.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pandas as pd
import torch
from common import Apart, compare, publish, show
from roofline import roofline
from torch import Tensor
from torch.nn import functional as F
from training import BASELINE, conventional, ours

from kdig.core.augment import Views, crop_flip, draw_views
from kdig.core.ensemble import Ensemble
from kdig.core.networks import build, student
from kdig.core.signals import SignalSettings, Teacher
from kdig.core.training import Recipe, make_optimizer


class Seeds:
    """Students of so many seeds over the same pictures, each with its own order and crops.

    A step advances all of them.
    """

    def __init__(
        self,
        level: int,
        seeds: range,
        images: Tensor,
        labels: Tensor,
        batch: int,
        reduced: bool = False,
    ) -> None:
        self.images, self.labels, self.shape, self.reduced = (
            images,
            labels,
            (len(seeds), batch),
            reduced,
        )
        nets = []
        for seed in seeds:
            torch.manual_seed(seed)
            nets.append(student(level))
        self.net = Ensemble(nets).to(images.device).to(memory_format=torch.channels_last).train()
        self.optimizer = make_optimizer(self.net, Recipe())
        for group in self.optimizer.param_groups:
            group["capturable"] = images.is_cuda  # steps counted on the device, as a graph needs
        self.drawn = torch.zeros(
            4, len(seeds) * batch, dtype=torch.int64, device=images.device
        )  # rows, dy, dx, flip

    def draw(self, steps: int, generator: torch.Generator) -> Tensor:
        """The next batches of every seed (steps, 4, S N), in one copy to the device, which waits
        for it; `step` reads `drawn`.
        """
        count = self.drawn.shape[1]
        rows = torch.randint(len(self.labels), (steps * count,), generator=generator)
        views = draw_views(steps * count, 4, True, generator)
        drawn = torch.stack([rows, views.dy, views.dx, views.flip.long()])
        return drawn.view(4, steps, count).transpose(0, 1).contiguous().to(self.drawn.device)

    def step(self) -> None:
        rows, dy, dx, flip = self.drawn
        images = (
            crop_flip(self.images[rows], Views(dy, dx, flip.bool(), rows, rows), 4) / 255
        )  # chance and exponent are not used
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.reduced):
            logits = self.net(images.view(*self.shape, *images.shape[1:])).float()
        losses = (
            F.cross_entropy(logits.flatten(0, 1), self.labels[rows], reduction="none")
            .view(self.shape)
            .mean(1)
        )
        self.optimizer.zero_grad(set_to_none=False)
        losses.sum().backward()
        self.optimizer.step()

    def recorded(self) -> Callable[[], None]:
        """`step` as a CUDA graph: one launch instead of thousands."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, stream=stream
        ):  # its own: graphs that run at once must not share a workspace
            self.step()
        return graph.replay


def turns(seeds: Sequence[Seeds], recorded: bool, steps: int) -> Callable[[], None]:
    """A call of `steps` steps of each, several on a stream each.

    It comes back when the device has finished.
    """
    generator, cuda = torch.Generator().manual_seed(1), seeds[0].images.is_cuda
    calls = [one.recorded() if recorded else one.step for one in seeds]
    streams = [torch.cuda.Stream() if cuda and len(seeds) > 1 else None for _ in seeds]

    def call() -> None:
        plans = [one.draw(steps, generator) for one in seeds]
        for i in range(steps):
            for one, step, stream, plan in zip(seeds, calls, streams, plans):
                with torch.cuda.stream(stream):
                    one.drawn.copy_(plan[i])
                    step()
        if cuda:
            torch.cuda.synchronize()

    return call


def side_by_side(
    level: int,
    groups: list[range],
    pictures: tuple[Tensor, Tensor],
    batch: int,
    reduced: bool,
    recorded: bool,
    steps: int,
) -> Callable[[], None]:
    """An ensemble of each group of seeds; they advance at once."""
    return turns(
        [Seeds(level, seeds, *pictures, batch, reduced) for seeds in groups], recorded, steps
    )


Contender = tuple[
    str, int, Callable[[], Callable[[], object]]
]  # its name, how many seeds it trains, what makes its call


def contenders(
    options: argparse.Namespace, few: tuple[object, ...], pictures: tuple[Tensor, Tensor]
) -> Iterator[Contender]:
    """All but the baseline.

    `few` is what a loop of one seed is made of. Nothing is made before it is asked for.
    """
    level, batch, steps = options.level, options.batch, options.steps
    for count in options.workers:
        yield (
            f"{BASELINE}, {count} loader workers",
            1,
            partial(Apart, conventional, *few, 1, count, tuned=False),
        )
    yield "kdig, one seed", 1, partial(Apart, ours, *few)
    for count in options.processes:
        yield f"{count} processes", count, partial(Apart, ours, *few, copies=count)
    for count in options.seeds:
        together, apart = [range(count)], [range(seed, seed + 1) for seed in range(count)]
        ways = {"": (together, False), ", in turns": (apart, False)}
        if pictures[0].is_cuda:
            ways = {
                "": (together, False),
                ", recorded": (together, True),
                ", a graph and a stream each": (apart, True),
            }
        for name, reduced in (("float32", False), ("bfloat16", True)):
            for how, (groups, recorded) in ways.items():
                make = partial(
                    side_by_side, level, groups, pictures, batch, reduced, recorded, steps
                )
                yield f"{count} seeds, {name}{how}", count, make


def training_table(options: argparse.Namespace, images: Tensor, labels: Tensor) -> None:
    """Every contender against the baseline, two at a time; the tables hold all that are done."""
    work, frames = options.batch * options.steps, []
    few = (
        student(options.level),
        images[:work].clone(),
        labels[:work].clone(),
        options.batch,
        options.device,
    )
    pictures = (images.to(options.device), labels.to(options.device))
    baseline = Apart(conventional, *few, tuned=False)
    about = (
        f"Student level {options.level}, batches of {options.batch} a seed, {options.size} x"
        f" {options.size} pixels"
    )
    caption = (
        f"{about}; images/s of all seeds together. On a GPU, conventional loops have TF32, as by"
        " default."
    )
    for name, seeds, make in contenders(options, few, pictures):
        torch.cuda.empty_cache()
        call = make()
        frame = compare(
            {BASELINE: baseline, name: call}, BASELINE, work, "images/s", options.rounds
        )
        if isinstance(call, Apart):
            call.close()
        del call  # and what it holds on the device
        frame.loc[frame.contender == name, ["images/s", "ratio"]] *= seeds
        frames.append(frame)
        done = pd.concat(frames)
        publish(done, "gpu_training", "images/s", BASELINE, caption, options.device)
        monte_carlo(done, options.device)


def monte_carlo(frame: pd.DataFrame, device: str) -> None:
    """What the paper's runs would take at each contender's rate."""
    table = frame.groupby("contender", sort=False)["images/s"].median().reset_index()
    table["hours"] = 240 * 100 * 40_000 / table["images/s"] / 3600
    about = (
        "Hours for the steps of the paper's Monte Carlo (240 runs x 100 epochs x 40,000 pictures),"
        " without teacher and scoring."
    )
    show(table.round(3), "gpu_monte_carlo", about, device)


def maps(options: argparse.Namespace, images: Tensor, labels: Tensor) -> None:
    """Seconds for the attribution maps of all pictures, after one block to warm up."""
    teacher = Teacher(build("mobilenet_v2"), [0.5] * 3, [0.25] * 3, options.device)
    settings = SignalSettings(steps=options.ig_steps)

    def explain(rows: slice) -> float:
        block = (images[rows].to(options.device) / 255).contiguous(
            memory_format=torch.channels_last
        )
        return teacher.explain(block, labels[rows].to(options.device), settings).sum().item()

    explain(slice(0, options.block))
    start = time.perf_counter()
    for first in range(0, len(images), options.block):
        explain(slice(first, first + options.block))
    seconds = time.perf_counter() - start
    table = pd.DataFrame(
        [
            {
                "pictures": len(images),
                "steps": options.ig_steps,
                "seconds": seconds,
                "per_second": len(images) / seconds,
            }
        ]
    )
    caption = f"Attribution maps of {len(images):,} pictures, blocks of {options.block}."
    show(table.round(3), "gpu_maps", caption, options.device)


def main() -> None:
    os.environ.setdefault(
        "CUDA_DEVICE_MAX_CONNECTIONS", "32"
    )  # queues for as many streams; before anything asks for the device
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--processes", type=int, nargs="*", default=[8])
    parser.add_argument(
        "--workers",
        type=int,
        nargs="*",
        default=[8],
        help="loader workers of the conventional loop",
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--ig-steps", type=int, default=50)
    parser.add_argument("--block", type=int, default=250)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if max(options.seeds) > 32:
        parser.error(
            "--seeds: at most 32, as many streams as torch has; graphs that run at once must not"
            " share one"
        )
    if max(options.batch * options.steps, options.block) > options.images:
        parser.error(
            "--images: fewer than a turn of --steps batches of --batch, or than a --block of maps"
        )
    torch.manual_seed(0)
    images = torch.randint(256, (options.images, 3, options.size, options.size), dtype=torch.uint8)
    labels = torch.randint(10, (options.images,))
    roofline(options.level, options.size, options.device)
    maps(options, images, labels)
    torch.backends.cudnn.benchmark = (
        True  # in this process only: seeds side by side have unusual shapes
    )
    training_table(options, images, labels)


if __name__ == "__main__":
    main()
