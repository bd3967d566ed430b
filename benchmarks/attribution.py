"""Integrated gradients: kdig's path against Captum, in turns; and how few steps give the same overlay.

Baselines: Captum called as the paper's released script calls it (batches of 8, all steps in one pass), and Captum at the best of
several `internal_batch_size`s. Network: the teacher at width 1 and 32 x 32 pixels, trained briefly on digits, or `--weights`.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from common import compare, publish, show
from torch import Tensor

from kdig import data
from kdig.attribution import attribution_map, baseline_point, captum_gradients, integrated_gradients
from kdig.augment import overlay
from kdig.losses import DistillationLoss
from kdig.models import mobilenet_v2
from kdig.runs import Workspace, cores
from kdig.signals import IGDataset, Teacher
from kdig.training import Recipe, accuracy, fit, predict

CAPTUM, BEST = "captum, as released", "captum, internal_batch_size"


def teacher_and_pictures(weights: str | None, images: int, device: str) -> tuple[Teacher, Tensor, Tensor, str]:
    digits = data.load_dataset("digits", Path(), 32)
    pictures, labels = digits.test.images[:images] / 255, digits.test.labels[:images]
    if weights:
        path = Path(weights).resolve()
        return Workspace(path.parents[1], device=device).load_weights(path.stem), pictures, labels, f"weights {path.stem}"
    torch.manual_seed(0)
    net = mobilenet_v2().to(memory_format=torch.channels_last)
    few = data.stratified(digits.train, 640)
    recipe = Recipe(epochs=3, learning_rate=3e-3, schedule="onecycle", bn_momentum=0.3, evaluate_every=3)
    test = data.stratified(digits.test, 100)
    fit(net, IGDataset(few, padding=2, flip=False), test, DistillationLoss(), recipe)
    teacher = Teacher(net, [0.0] * 3, [1.0] * 3, device)
    return teacher, pictures, labels, f"trained on 640 digits to {accuracy(predict(net, test), test.labels):.0f} % of 100"


def in_batches(method: Callable[..., Tensor], model: torch.nn.Module, x: Tensor, y: Tensor, size: int) -> Tensor:
    point = baseline_point("black", (0.5,) * 3, x)
    return torch.cat([method(model, a, b, point) for a, b in zip(x.split(size), y.split(size), strict=True)])


def contenders(teacher: Teacher, x: Tensor, y: Tensor, steps: int, sizes: list[int]) -> dict[str, Callable[[], Tensor]]:
    def captum(internal: int | None) -> Callable[[], Tensor]:
        return partial(in_batches, partial(captum_gradients, steps=steps, internal_batch_size=internal), teacher.model, x, y, 8)

    def ours(chunk: int) -> Callable[[], Tensor]:
        return partial(in_batches, partial(integrated_gradients, steps=steps, chunk=chunk), teacher.folded, x, y, len(x))

    return {CAPTUM: captum(None), **{f"{BEST} {n}": captum(n) for n in sizes}, **{f"kdig, chunk {n}": ours(n) for n in sizes}}


def steps_table(teacher: Teacher, x: Tensor, y: Tensor, counts: list[int], reference: int) -> pd.DataFrame:
    """How far overlays at few steps are from those at `reference` steps, in levels of 8-bit pictures (exponent 1)."""
    point, ones = baseline_point("black", (0.5,) * 3, x), torch.ones(len(x), device=x.device)

    def overlaid(steps: int) -> Tensor:
        maps = attribution_map(integrated_gradients(teacher.folded, x, y, point, steps=steps))
        return 255 * overlay(x, maps, ones)

    exact, rows = overlaid(reference), []
    for steps in counts:
        off = (overlaid(steps) - exact).abs()
        rows.append({"steps": steps, "mean_levels": off.mean().item(), "max_levels": off.max().item()})
        rows[-1]["within_half_a_level"] = 100 * (off <= 0.5).float().mean().item()
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a network of a profile's store, outputs/<profile>/weights/<hash>.pt")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[25, 50, 100, 200], help="rows of one backward pass")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(cores())
    teacher, x, y, trained = teacher_and_pictures(options.weights, options.images, options.device)
    x, y = x.to(options.device), y.to(options.device)
    about = f"{len(x)} digits at 32 x 32, {options.steps} steps, teacher {trained}."
    calls = contenders(teacher, x, y, options.steps, options.sizes)
    exact = calls[CAPTUM]()
    worst = max(((calls[f"kdig, chunk {n}"]() - exact).norm() / exact.norm()).item() for n in options.sizes)
    assert worst < 1e-4, f"kdig's attributions are {worst:.1e} from Captum's"
    frame = compare(calls, CAPTUM, len(x), "images/s", options.rounds)
    caption = f"Integrated gradients. {about} Largest relative difference {worst:.0e}."
    publish(frame, "attribution", "images/s", CAPTUM, caption, options.device)
    table = steps_table(teacher, x, y, [3, 5, 8, 10, 15, 20, 30, 50], 200).round(3)
    show(table, "attribution_steps", f"Overlays of few Gauss-Legendre steps against 200, in levels of 255. {about}", options.device)


if __name__ == "__main__":
    main()
