"""Training steps of a student: kdig's loop against the conventional one, in turns.

Baseline: torchvision's CIFAR10 set with PIL transforms, a DataLoader without workers (the default),
float32 in the usual memory format, torch's default Adam, and the loss read from the device at every
step. Same network, batch size and pictures; the pictures are noise, whose content costs nothing. A
turn is an epoch of few steps; kdig's also makes its optimiser and scores two pictures. Digits then
show whether both loops end at the same accuracy, and the roofline what the memory allows.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from common import Apart, compare, publish, show
from roofline import roofline
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from kdig.core.data import Split, load_dataset, stratified
from kdig.core.dataset import IGDataset
from kdig.core.environment import cores
from kdig.core.losses import DistillationLoss
from kdig.core.networks import student
from kdig.core.training import Recipe, accuracy, fit, predict
from kdig.measure import stats

BASELINE = "conventional loop"


def conventional(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    batch: int,
    device: str,
    epochs: int = 1,
    workers: int = 0,
) -> Callable[[], None]:
    """A call that trains `epochs` epochs of `images` as tutorials do."""
    loader = DataLoader(
        cifar10(images, labels),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    net = net.to(device).train()
    optimizer, criterion = torch.optim.Adam(net.parameters()), nn.CrossEntropyLoss()

    def call() -> None:
        total = 0.0
        for _ in range(epochs):
            for x, y in loader:
                loss = criterion(net(x.to(device)), y.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()

    return call


def cifar10(images: Tensor, labels: Tensor) -> CIFAR10:
    """torchvision's own class and `__getitem__` over these pictures (N, 3, H, W), without its
    files.
    """
    pictures = CIFAR10.__new__(CIFAR10)
    pictures.data, pictures.targets = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
    crop = transforms.RandomCrop(images.shape[-1], padding=4)
    pictures.transform = transforms.Compose(
        [crop, transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    pictures.target_transform = None
    return pictures


def ours(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    batch: int,
    device: str,
    epochs: int = 1,
    seed: int = 0,
) -> Callable[[], object]:
    """A call that trains `epochs` epochs of `images` with `kdig.core.training.fit`.

    Order and crops are those of `seed`.
    """
    split = Split(images, labels, tuple(str(i) for i in range(len(labels))))
    net = net.to(device).to(memory_format=torch.channels_last)
    dataset = IGDataset(split, seed=seed, device=device)
    recipe = Recipe(batch_size=batch, epochs=epochs)
    two, loss = split.select(torch.arange(2)), DistillationLoss()
    return lambda: fit(net, dataset, two, loss, recipe, every=epochs)


def accuracies(level: int, seeds: int, images: int, epochs: int, device: str) -> None:
    """Both loops from the same weights, seed by seed, on digits at 16 x 16.

    Each draws its own order and crops.
    """
    digits, rows = load_dataset("digits", Path(), 16), []
    few, batch = stratified(digits.train, images), 16
    for seed in range(seeds):
        for loop in (BASELINE, "kdig"):
            torch.manual_seed(seed)
            net = student(level)
            given = (net, few.images, few.labels, batch, device, epochs)
            (conventional(*given) if loop == BASELINE else ours(*given, seed))()
            # the conventional loop leaves its network in the usual memory format
            scored = predict(net.to(memory_format=torch.channels_last), digits.test, device=device)
            rows.append(
                {"loop": loop, "seed": seed, "accuracy": accuracy(scored, digits.test.labels)}
            )
    frame = pd.DataFrame(rows)
    table = stats.summarise(frame, "loop")[["loop", "n", "mean", "sd"]]
    differences = stats.compare(frame, BASELINE, by="loop")[
        ["loop", "difference", "low", "high", "p_paired"]
    ]
    caption = (
        f"Percent of {len(digits.test)} test digits after {epochs} epochs of {images}; paired"
        " differences, 95 % interval."
    )
    show(table.merge(differences, how="left").round(3), "training_accuracy", caption, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--steps", type=int, default=4, help="training steps of one turn; two at once share them"
    )
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=5, help="of the comparison of accuracies")
    parser.add_argument(
        "--digits", type=int, default=640, help="training digits of that comparison"
    )
    parser.add_argument("--epochs", type=int, default=5, help="epochs of that comparison")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(cores())  # for the caption
    if options.steps % 2:
        parser.error(f"--steps {options.steps} is odd: two runs at once share the steps")
    count = options.steps * options.batch
    images = torch.randint(256, (count, 3, options.size, options.size), dtype=torch.uint8)
    labels = torch.randint(10, (count,))
    half = slice(0, options.steps // 2 * options.batch)
    net = student(options.level)
    whole = (net, images, labels, options.batch, options.device)
    parts = (net, images[half], labels[half], options.batch, options.device)
    calls = {
        BASELINE: Apart(conventional, *whole, tuned=False),
        f"{BASELINE}, {cores()} loader workers": Apart(
            conventional, *whole, 1, cores(), tuned=False
        ),
        f"{BASELINE}, kdig's settings": Apart(conventional, *whole),
        f"{BASELINE}, two at once": Apart(conventional, *parts, tuned=False, copies=2),
        "kdig": Apart(ours, *whole),
        "kdig, two at once": Apart(ours, *parts, copies=2),
    }
    frame = compare(calls, BASELINE, count, "images/s", options.rounds)
    about = (
        f"Training of student level {options.level}, batches of {options.batch}, {options.size} x"
        f" {options.size} pixels."
    )
    publish(frame, "training", "images/s", BASELINE, about, options.device)
    roofline(options.level, options.size, options.device)
    accuracies(options.level, options.seeds, options.digits, options.epochs, options.device)


if __name__ == "__main__":
    main()
