"""Integrated gradients: kdig's path against Captum, in turns; and how few steps give the same
overlay.

Baselines: Captum called as the paper's released script calls it (batches of 8, all steps in one
pass), and Captum at several `internal_batch_size`s, both in a process with glibc's own allocator
settings; and Captum on the network that kdig prepares once (batch norm folded, channels last), with
kdig's settings: what is left to `kdig.core.attribution`. Floors: the network's convolutions alone,
and as many multiplications in matrix products. Network: the teacher at width 1, trained briefly on
digits, or `--weights`.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from common import Apart, compare, publish, show
from torch import Tensor, nn

from kdig import KdigError
from kdig.core import data
from kdig.core.attribution import (
    attribution_map,
    baseline_point,
    captum_gradients,
    integrated_gradients,
)
from kdig.core.augment import overlay
from kdig.core.dataset import IGDataset
from kdig.core.environment import cores
from kdig.core.losses import DistillationLoss
from kdig.core.networks import mobilenet_v2, with_normalisation
from kdig.core.signals import Teacher
from kdig.core.store import Workspace
from kdig.core.training import Recipe, accuracy, fit, predict
from kdig.measure import latency
from kdig.paper.released import load_released_checkpoint

CAPTUM, SIZED = "captum, as released", "captum, internal_batch_size"
CONVOLUTIONS, PRODUCTS = (
    "floor: torch's convolutions alone",
    "floor: as many multiplications in matrix products",
)


def trained_teacher(weights: str | None, device: str) -> tuple[Teacher, str]:
    """A released student, the network of a store's file, or one that is trained on digits now.

    And what it is, in words.
    """
    if weights:
        path = Path(weights).resolve()
        with suppress(KdigError):  # the released code feeds pictures in [0, 1] as they are
            return (
                Teacher(load_released_checkpoint(path), [0.0] * 3, [1.0] * 3, device),
                f"released student {path.stem}",
            )
        return (
            Workspace(path.parents[1], device=device).load_weights(path.stem),
            f"weights {path.stem}",
        )
    digits = data.load_dataset("digits", Path(), 32)
    torch.manual_seed(0)
    net = mobilenet_v2().to(memory_format=torch.channels_last)
    few = data.stratified(digits.train, 640)
    recipe = Recipe(epochs=3, learning_rate=3e-3, schedule="onecycle", bn_momentum=0.3)
    test = data.stratified(digits.test, 100)
    fit(net, IGDataset(few, padding=2, flip=False), test, DistillationLoss(), recipe, every=3)
    right = accuracy(predict(net, test), test.labels)
    return (
        Teacher(net, [0.0] * 3, [1.0] * 3, device),
        f"trained on 640 digits to {right:.0f} % of 100",
    )


def in_batches(
    method: Callable[..., Tensor], model: nn.Module, x: Tensor, y: Tensor, size: int
) -> Tensor:
    point = baseline_point("black", (0.5,) * 3, x)
    return torch.cat(
        [method(model, a, b, point) for a, b in zip(x.split(size), y.split(size), strict=True)]
    )


def captum(
    teacher: Teacher, x: Tensor, y: Tensor, steps: int, internal: int | None
) -> Callable[[], Tensor]:
    """The network as a script loads it: in torch's usual memory format, its parameters with
    gradient.
    """
    net = copy.deepcopy(teacher.net).to(memory_format=torch.contiguous_format).requires_grad_()
    return by_captum(
        with_normalisation(net, teacher.mean, teacher.std).eval(), x, y, steps, internal
    )


def prepared(
    teacher: Teacher, x: Tensor, y: Tensor, steps: int, internal: int
) -> Callable[[], Tensor]:
    """Captum on kdig's copy of the network."""
    return by_captum(
        teacher.folded, x.contiguous(memory_format=torch.channels_last), y, steps, internal
    )


def by_captum(
    model: nn.Module, x: Tensor, y: Tensor, steps: int, internal: int | None
) -> Callable[[], Tensor]:
    return partial(
        in_batches,
        partial(captum_gradients, steps=steps, internal_batch_size=internal),
        model,
        x,
        y,
        8,
    )


def ours(teacher: Teacher, x: Tensor, y: Tensor, steps: int, chunk: int) -> Callable[[], Tensor]:
    return partial(
        in_batches,
        partial(integrated_gradients, steps=steps, chunk=chunk),
        teacher.folded,
        x,
        y,
        len(x),
    )


def convolutions(teacher: Teacher, x: Tensor, steps: int, rows: int) -> Callable[[], None]:
    """What torch's kernels need: each convolution of the folded network, on so many rows, forward
    and to its input, and no more.
    """
    found: list[tuple[nn.Conv2d, Tensor, Tensor]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, output: found.append((module, inputs[0], output))
        )
        for module in teacher.folded.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        teacher.folded(x[torch.arange(rows) % len(x)].contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()

    @torch.no_grad()
    def call() -> None:
        for count in map(len, torch.arange(len(x) * steps).split(rows)):
            for module, entering, leaving in found:
                module(entering[:count])
                place = (
                    module.stride,
                    module.padding,
                    module.dilation,
                    False,
                    [0, 0],
                    module.groups,
                    [True, False, False],
                )
                torch.ops.aten.convolution_backward(
                    leaving[:count], entering[:count], module.weight, None, *place
                )

    return call


def products(teacher: Teacher, x: Tensor, steps: int, side: int = 1024) -> Callable[[], None]:
    """As many multiplications as the network has, forward and to its input, at the rate of square
    matrix products.
    """
    count = round(2 * latency.macs(teacher.net, x.shape[-1]) * len(x) * steps / side**3)
    square = torch.rand(side, side, device=x.device)
    into = torch.empty_like(square)

    def call() -> None:
        for _ in range(max(count, 1)):
            torch.mm(square, square, out=into)

    return call


def contenders(
    teacher: Teacher, x: Tensor, y: Tensor, steps: int, sizes: list[int]
) -> Iterator[dict[str, Apart]]:
    """Groups that meet the first baseline, one after the other: all at once would fill a memory of
    24 GB and slow each other down.

    Captum has a script's settings and kdig its own, but for Captum on the network that kdig
    prepares.
    """
    given = (teacher, x, y, steps)
    for n in sizes:
        group = {f"{SIZED} {n}": Apart(captum, *given, n, tuned=False)}
        group[f"{SIZED} {n}, kdig's network and settings"] = Apart(prepared, *given, n)
        group[f"kdig, chunk {n}"] = Apart(ours, *given, n)
        yield group
        for contender in group.values():
            contender.close()
    rows = sizes[-1]
    yield {
        f"{CONVOLUTIONS}, {rows} rows": Apart(convolutions, teacher, x, steps, rows),
        PRODUCTS: Apart(products, teacher, x, steps),
    }


def errors(teacher: Teacher, x: Tensor, y: Tensor, steps: int) -> pd.DataFrame:
    """How far each is from Captum in float64, relative to that.

    Float32 cannot be nearer than rounding at ReLU6's kinks lets it.
    """
    exactly = Teacher(
        copy.deepcopy(teacher.net).double(), teacher.mean, teacher.std, teacher.device
    )
    exact = captum(exactly, x.double(), y, steps, 50)()
    found = {
        "captum, float32": captum(teacher, x, y, steps, 50)(),
        "kdig, float32": ours(teacher, x, y, steps, 50)(),
        "kdig, float64": ours(exactly, x.double(), y, steps, 50)(),
    }
    return pd.DataFrame(
        [
            {"of": name, "relative_error": ((a - exact).norm() / exact.norm()).item()}
            for name, a in found.items()
        ]
    )


def steps_table(
    teacher: Teacher, x: Tensor, y: Tensor, counts: list[int], reference: int
) -> pd.DataFrame:
    """How far overlays at few steps are from those at `reference` steps, in levels of 8-bit
    pictures, and what few steps save.
    """
    point, ones = baseline_point("black", (0.5,) * 3, x), torch.ones(len(x), device=x.device)

    def overlaid(steps: int) -> Tensor:
        maps = attribution_map(integrated_gradients(teacher.folded, x, y, point, steps=steps))
        return 255 * overlay(x, maps, ones)

    exact, rows = overlaid(reference), []
    for steps in counts:
        off = (overlaid(steps) - exact).abs()
        rows.append({"steps": steps, "percent_of_50": 100 * steps / 50})
        rows[-1] |= {"mean_levels": off.mean().item(), "max_levels": off.max().item()}
        rows[-1] |= {
            f"percent_within_{level}": 100 * (off <= level).float().mean().item()
            for level in (0.5, 1)
        }
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights",
        help="a released student, or a network of a store: outputs/<profile>/weights/<hash>.pt",
    )
    parser.add_argument(
        "--name", default="attribution", help="what the tables' and the figure's names begin with"
    )
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--root", default="data", help="folder that holds the pictures")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--images", type=int, default=8, help="test pictures of one turn")
    parser.add_argument(
        "--overlays", type=int, default=32, help="test pictures for overlays against steps"
    )
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[48, 96], help="rows of one backward pass"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(cores())
    teacher, trained = trained_teacher(options.weights, options.device)
    pictures = data.load_dataset(options.dataset, Path(options.root), options.size)

    def some(count: int) -> tuple[Tensor, Tensor, str]:
        few = pictures.test.select(torch.arange(count))
        about = (
            f"{pictures.label}, {len(few)} test pictures of {options.size} x {options.size};"
            f" network: {trained}"
        )
        return few.images.to(options.device) / 255, few.labels.to(options.device), about

    x, y, about = some(options.images)
    about = f"{options.steps} steps; {about}."
    baseline = {CAPTUM: Apart(captum, teacher, x, y, options.steps, None, tuned=False)}
    groups = contenders(teacher, x, y, options.steps, options.sizes)
    frames = [
        compare(baseline | group, CAPTUM, len(x), "images/s", options.rounds) for group in groups
    ]
    prepares = (
        "Folding, once for a network, is not counted. On a GPU, Captum's"
        " convolutions have TF32, as by default."
    )
    publish(
        pd.concat(frames),
        options.name,
        "images/s",
        CAPTUM,
        f"Integrated gradients. {about} {prepares}",
        options.device,
    )
    off = errors(teacher, x, y, options.steps)
    show(
        off,
        f"{options.name}_errors",
        f"Relative distance from Captum in float64. {about}",
        options.device,
    )
    error = off.set_index("of").relative_error
    assert error["kdig, float64"] < 1e-6, "kdig computes something else than Captum"
    # which of two float32 roundings is the smaller is the processor's business
    assert error["kdig, float32"] < 0.05, "kdig's float32 is more than rounding away from float64"
    x, y, about = some(options.overlays)
    table = steps_table(teacher, x, y, [3, 5, 8, 10, 15, 20, 30, 50], 200).round(3)
    caption = (
        f"Overlays (exponent 1) of few Gauss-Legendre steps against 200, in levels of 255. {about}."
    )
    show(table, f"{options.name}_steps", caption, options.device)


if __name__ == "__main__":
    main()
