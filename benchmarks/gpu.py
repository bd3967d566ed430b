"""One GPU: many seeds of a student at once, and attribution maps of a whole training set. One command: `python benchmarks/gpu.py`.

Contenders for training: the conventional loop of `training.py` and kdig's loop, one seed each; kdig's loop in several processes;
S seeds side by side (`kdig.ensemble`), as they are, recorded in a CUDA graph, and with bfloat16 activations; S seeds with a graph
and a stream each. All draw their own pictures for every seed, crop and flip them, and step by cross-entropy. On a CPU there are no
graphs and no streams; everything else runs, slowly.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from common import Apart, compare, publish, show
from roofline import roofline
from torch import Tensor
from torch.nn import functional as F
from training import BASELINE, conventional, ours

from kdig.augment import Views, crop_flip, draw_views
from kdig.ensemble import Ensemble
from kdig.models import build, student
from kdig.signals import SignalSpec, Teacher
from kdig.training import Recipe, make_optimizer


class Seeds:
    """S seeds of a student over the same pictures, each with its own order and crops; a step advances all of them."""

    def __init__(self, level: int, seeds: int, images: Tensor, labels: Tensor, batch: int, reduced: bool = False) -> None:
        self.images, self.labels, self.shape, self.reduced = images, labels, (seeds, batch), reduced
        nets = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            nets.append(student(level))
        self.net = Ensemble(nets).to(images.device, memory_format=torch.channels_last).train()
        self.optimizer = make_optimizer(self.net, Recipe())
        for group in self.optimizer.param_groups:
            group["capturable"] = images.is_cuda  # steps counted on the device, as a graph needs
        self.drawn = torch.zeros(4, seeds * batch, dtype=torch.int64, device=images.device)  # rows, dy, dx, flip

    def draw(self, generator: torch.Generator) -> None:
        """The next batch of every seed, in one copy to the tensor that `step` reads."""
        count = self.drawn.shape[1]
        rows, views = torch.randint(len(self.labels), (count,), generator=generator), draw_views(count, 4, True, generator)
        self.drawn.copy_(torch.stack([rows, views.dy, views.dx, views.flip.long()]))

    def step(self) -> None:
        rows, dy, dx, flip = self.drawn
        images = crop_flip(self.images[rows], Views(dy, dx, flip.bool(), rows, rows), 4) / 255  # chance and exponent are not used
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.reduced):
            logits = self.net(images.view(*self.shape, *images.shape[1:])).float()
        losses = F.cross_entropy(logits.flatten(0, 1), self.labels[rows], reduction="none").view(self.shape).mean(1)
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
        with torch.cuda.graph(graph, stream=stream):  # its own: graphs that run at once must not share a workspace
            self.step()
        return graph.replay


def turns(seeds: Sequence[Seeds], recorded: bool, steps: int) -> Callable[[], None]:
    """A call of `steps` steps of each, several on a stream each; it comes back when the device has finished."""
    generator, cuda = torch.Generator().manual_seed(1), seeds[0].images.is_cuda
    calls = [one.recorded() if recorded else one.step for one in seeds]
    streams = [torch.cuda.Stream() if cuda and len(seeds) > 1 else None for _ in seeds]

    def call() -> None:
        for _ in range(steps):
            for one, step, stream in zip(seeds, calls, streams):
                with torch.cuda.stream(stream):
                    one.draw(generator)
                    step()
        if cuda:
            torch.cuda.synchronize()

    return call


def training_table(options: argparse.Namespace, images: Tensor, labels: Tensor) -> None:
    level, batch, steps, device = options.level, options.batch, options.steps, options.device
    on_device, work = (images.to(device), labels.to(device)), batch * steps
    few = (images[:work].clone(), labels[:work].clone(), batch)
    calls: dict[str, Callable[[], object]] = {
        BASELINE: conventional(student(level), *few, steps, device),
        "kdig, one seed": ours(student(level), *few, device),
    }
    for count in options.processes:
        calls[f"{count} processes"] = Apart(ours, student(level), *few, device, copies=count)
    cuda = on_device[0].is_cuda
    each = "a graph and a stream each" if cuda else "in turns"
    for count in options.seeds:
        for name, reduced in (("float32", False), ("bfloat16", True)):
            for recorded in (False, True) if cuda else (False,):
                beside = Seeds(level, count, *on_device, batch, reduced)
                calls[f"{count} seeds, {name}" + ", recorded" * recorded] = turns([beside], recorded, steps)
            alone = [Seeds(level, 1, *on_device, batch, reduced) for _ in range(count)]
            calls[f"{count} seeds, {name}, {each}"] = turns(alone, cuda, steps)
    frame = compare(calls, BASELINE, work, "images/s", options.rounds)
    many = frame.contender.str.extract(r"^(\d+) (?:seeds|processes)", expand=False).astype(float).fillna(1)
    frame["images/s"], frame["ratio"] = frame["images/s"] * many, frame.ratio * many
    about = (
        f"Student level {level}, batches of {batch} a seed, {options.size} x {options.size} pixels; images/s of all seeds together."
    )
    publish(frame, "gpu_training", "images/s", BASELINE, about, device)
    rates = frame.groupby("contender", sort=False)["images/s"].median()
    hours = 240 * 100 * 40_000 / rates / 3600
    table = pd.DataFrame({"contender": rates.index, "images/s": rates.to_numpy(), "hours": hours.to_numpy()}).round(3)
    about = "Hours for the steps of the paper's Monte Carlo (240 runs x 100 epochs x 40,000 pictures), without teacher and scoring."
    show(table, "gpu_monte_carlo", about, device)


def maps(options: argparse.Namespace, images: Tensor, labels: Tensor) -> None:
    """Seconds for the attribution maps of all pictures, after one block to warm up."""
    teacher = Teacher(build(0, 10, 1.0), [0.5] * 3, [0.25] * 3, options.device)
    spec = SignalSpec(teacher="", data="", image_size=options.size, mean=(0.5,) * 3, std=(0.25,) * 3, steps=options.ig_steps)

    def explain(rows: slice) -> float:
        block = (images[rows].to(options.device) / 255).contiguous(memory_format=torch.channels_last)
        return teacher.explain(block, labels[rows].to(options.device), spec).sum().item()

    explain(slice(0, options.block))
    start = time.perf_counter()
    for first in range(0, len(images), options.block):
        explain(slice(first, first + options.block))
    seconds = time.perf_counter() - start
    table = pd.DataFrame(
        [{"pictures": len(images), "steps": options.ig_steps, "seconds": seconds, "per_second": len(images) / seconds}]
    )
    caption = f"Attribution maps of {len(images):,} pictures, blocks of {options.block}."
    show(table.round(3), "gpu_maps", caption, options.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--processes", type=int, nargs="*", default=[8])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--ig-steps", type=int, default=50)
    parser.add_argument("--block", type=int, default=250)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randint(256, (options.images, 3, options.size, options.size), dtype=torch.uint8)
    labels = torch.randint(10, (options.images,))
    roofline(options.level, options.size, options.device)
    maps(options, images, labels)
    training_table(options, images, labels)


if __name__ == "__main__":
    main()
