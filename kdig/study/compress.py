"""`python -m kdig.compress`: a small network from a folder of images, with the code of
`14_your_images`.
"""

import argparse
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdig import KdigError
from kdig.core.environment import cores
from kdig.study.command import Parser, exit_code
from kdig.study.cost import estimate, runs_of
from kdig.study.settings import expanded, validated
from kdig.study.your_images import (
    NORMALISATIONS,
    YourImages,
    about_classes,
    deliver,
    recommend,
    require_own_folder,
    said_classes,
    scored,
    warning,
)

# the notebook's parameters where no profile gives them
DEFAULTS: dict[str, Any] = {
    "profile": "compress",
    "dataset": "folder",
    "train_images": None,
    "test_images": None,
    "padding": 4,
    "flip": True,
    "teacher_network": "mobilenet_v2",
    "teacher_train_images": None,
    "teacher_learning_rate": 0.003,
    "teacher_schedule": "onecycle",
    "teacher_normalise": True,
    "attribution": "integrated_gradients",
    "steps": 20,
    "baseline": "black",
    "rule": "gausslegendre",
    "output": "logit",
    "pairing": "static",
    "alpha": 0.5,
    "temperature": 4.0,
    "probability": 0.1,
    "gamma": 0.8,
    "attention_reduction": "sum",
    "learning_rate": 0.003,
    "schedule": "onecycle",
    "normalise": True,
    "evaluate_every": 1000,
    "methods": ["student", "kd", "kd_ig"],
    "calibration_images": 200,
    "windows": 5,
    "window_seconds": 2.0,
    "latency_threads": 1,
}


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 when the files are written."""
    options = _parser().parse_args(arguments)
    return exit_code(lambda: compress(options))


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kdig.compress",
        usage="%(prog)s --data FOLDER --out FOLDER/NAME.onnx [options]",
        description="Train a small network on images in class folders, and write it as ONNX files.",
    )
    add = parser.add_argument
    add("--data", required=True, help="folder with a folder for each class (or train/ and test/)")
    add("--out", required=True, help="the file to write, in a folder of its own: small/small.onnx")
    add(
        "--size",
        type=_number(int, 8, 256),
        default=32,
        help="pixels a side: 32, 64, 96 or 128 (default 32)",
    )
    add(
        "--network", default="s2", help="the student: s1 to s8, resnet8, fusednet, ... (default s2)"
    )
    add(
        "--width",
        type=_number(float, 0.05, 16),
        default=1.0,
        help="multiplies its channels (default 1)",
    )
    add(
        "--teacher",
        help="checkpoint of torchvision's MobileNetV2, ResNet-18 or ResNet-50; without it, one is trained",
    )
    add("--teacher-images", choices=list(NORMALISATIONS), default="imagenet",
        help="how the images of that teacher were normalised")  # fmt: skip
    add(
        "--epochs",
        type=_number(int, 1),
        default=30,
        help="passes of a student over the images (default 30)",
    )
    add(
        "--teacher-epochs", type=_number(int, 1), default=30, help="and of the teacher (default 30)"
    )
    # how much trainings differ is seen from two or more
    add(
        "--seeds",
        type=_number(int, 2),
        default=3,
        help="trainings of each method, 2 or more (default 3)",
    )
    add(
        "--no-flip", action="store_true", help="a mirrored image is of another class (digits, text)"
    )
    add("--licence", help="note in the files (default: not stated)")
    add("--workers", type=_number(int, 1), default=cores(), help="trainings at once")
    return parser


def _number(
    kind: type[int] | type[float], low: float, high: float = math.inf
) -> Callable[[str], float]:
    """What reads an option's number, and says which are possible."""

    def read(text: str) -> float:
        with suppress(ValueError):
            if low <= kind(text) <= high:
                return kind(text)
        what = "a whole number" if kind is int else "a number"
        ends = f"{low} or more" if high == math.inf else f"from {low} to {high}"
        raise argparse.ArgumentTypeError(f"{text!r} is not possible: give {what}, {ends}")

    return read


def output_of(options: argparse.Namespace) -> Path:
    """The file to write. Raises `KdigError` where there are no images, or nothing can be written."""
    folder, out = (expanded(given).resolve() for given in (options.data, options.out))
    if not folder.is_dir():
        raise KdigError(f"--data {options.data}: there is no such folder")
    if folder in out.parents:
        raise KdigError(
            f"--out {options.out} lies in the folder of the images: choose one beside it, since"
            " every folder there is a class"
        )
    require_own_folder(out)
    return out


def settings_of(options: argparse.Namespace) -> YourImages:
    """The notebook's parameters from the command's. Raises `KdigError` for a network that is unknown."""
    given = {
        "root": str(expanded(options.data).resolve()),
        "image_size": options.size,
        "network": options.network,
        "width": options.width,
        "teacher_width": options.width,
        "epochs": options.epochs,
        "teacher_epochs": options.teacher_epochs,
        "teacher": options.teacher and str(expanded(options.teacher).resolve()),
        "teacher_images": options.teacher_images,
        "seeds": list(range(options.seeds)),
        "flip": not options.no_flip,
        "licence": options.licence,
        "workers": options.workers,
    }
    first = validated(YourImages, {**DEFAULTS, **given, **_steps(0)})
    return validated(YourImages, {**DEFAULTS, **given, **_steps(len(first.data().train))})


def _steps(images: int) -> dict[str, Any]:
    """Batches of 8 to 64 images, so that an epoch of few images has some twenty steps; and batch
    norm's statistics follow quickly where there are few.
    """
    batch, momentum = max(8, min(64, images // 20)), 0.1 if images > 5000 else 0.3
    while images % batch == 1:  # batch norm knows no variance of a single image
        batch += 1
    both = {"batch_size": batch, "bn_momentum": momentum}
    return both | {f"teacher_{name}": value for name, value in both.items()}


def compress(options: argparse.Namespace) -> None:
    """Train, compare, recommend, and write. What is finished is kept beside the output."""
    out = output_of(options)
    os.environ["KDIG_OUTPUTS"] = str(out.parent / "work")
    settings = settings_of(options)
    data = settings.data()
    print(about_classes(data).to_string(index=False), flush=True)
    print(cost(settings), flush=True)
    teacher = settings.teacher()
    print(f"teacher: {teacher.last.test_accuracy:.1f} % of the test images", flush=True)
    if said := warning(teacher, data):
        print(said, flush=True)
    results = settings.execute(settings.runs(teacher.weights))
    frame = scored(results, data.test)
    shown = frame.drop(columns="key").groupby("method", sort=False).mean().drop(columns="seed")
    print(shown.round(2).to_string(), flush=True)
    choice = recommend(frame)
    print(choice.why, flush=True)
    # the first seed, whatever it has scored: the best of several would look better than it is
    taken = next(r for r in results if r.run.method == choice.method)
    delivered = deliver(settings, taken, choice, out)
    print(delivered.table.round(3).to_string(index=False))
    print(said_classes(delivered.classes))
    print(f"written: {out.parent / 'README.md'} says how to use {out.name}")


def cost(settings: YourImages) -> str:
    """How many networks are trained, and about how long that takes here."""
    todo = [run for run in runs_of(settings) if settings.stored(run) is None]
    seconds = estimate(todo, settings.workspace, settings.workers, settings.threads) if todo else 0
    return (
        f"{len(todo)} networks to train, about {seconds / 60:.1f} min here"
        f" ({settings.workspace.device}, {settings.workers} at a time)"
    )
