"""Integrated gradients: kdig's path against Captum, interleaved in one run; writes `outputs/benchmarks/attribution.csv`.

Baselines: Captum called as the paper's released script calls it (batches of 8, all steps in one pass), and Captum at the best of
several `internal_batch_size`s. Network: the teacher at width 1, random weights, 32x32 pictures.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from kdig.attribution import baseline_point, captum_gradients, integrated_gradients
from kdig.models import mobilenet_v2
from kdig.signals import Teacher


def in_batches(method: Callable[..., Tensor], model: torch.nn.Module, x: Tensor, y: Tensor, size: int) -> Tensor:
    point = baseline_point("black", (0.5,) * 3, x)
    return torch.cat([method(model, a, b, point) for a, b in zip(x.split(size), y.split(size), strict=True)])


def contenders(teacher: Teacher, steps: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    def captum(size: int, internal: int | None) -> Callable[[Tensor, Tensor], Tensor]:
        method = partial(captum_gradients, steps=steps, internal_batch_size=internal)
        return lambda x, y: in_batches(method, teacher.model, x, y, size)

    def ours(chunk: int) -> Callable[[Tensor, Tensor], Tensor]:
        method = partial(integrated_gradients, steps=steps, chunk=chunk)
        return lambda x, y: in_batches(method, teacher.folded, x, y, len(x))

    captums = {f"captum, internal_batch_size {n}": captum(8, n) for n in (16, 50, 100)}
    return {"captum, as released": captum(8, None), **captums, **{f"kdig, chunk {n}": ours(n) for n in (50, 96)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    teacher = Teacher(mobilenet_v2(), (0.5,) * 3, (0.25,) * 3, options.device)
    x, y = torch.rand(options.images, 3, 32, 32, device=options.device), torch.arange(options.images, device=options.device) % 10
    seconds: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, contender in contenders(teacher, options.steps).items():
            start = time.perf_counter()
            contender(x, y).sum().item()
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    slowest = medians["captum, as released"]
    best = min(value for name, value in medians.items() if name.startswith("captum"))
    table = pd.DataFrame(
        {"images/s": options.images / value, "x captum as released": slowest / value, "x captum at its best": best / value}
        for value in medians.values()
    ).assign(contender=list(medians))
    table = table[["contender", *table.columns[:-1]]].round(3)
    folder = Path("outputs/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "attribution.csv", index=False)
    print(f"{options.images} images, {options.steps} steps, {options.rounds} rounds, {options.device}, torch {torch.__version__}")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
