"""Training steps of a student: kdig's loop against the conventional one, in turns.

Baseline: torchvision's CIFAR10 set with PIL transforms, a DataLoader, float32 in the usual memory format, torch's default Adam, and
the loss read from the device at every step. Same network, batch size and pictures; the pictures are noise, whose content costs
nothing.
"""

import argparse
from collections.abc import Callable, Iterator

import torch
from common import Apart, compare, publish
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from kdig.data import Split
from kdig.losses import DistillationLoss
from kdig.models import student
from kdig.runs import cores
from kdig.signals import IGDataset
from kdig.training import Recipe, fit

BASELINE = "conventional loop"


def conventional(level: int, images: Tensor, labels: Tensor, batch: int, steps: int, device: str) -> Callable[[], None]:
    """A call that makes `steps` training steps as tutorials do."""
    batches = endless(DataLoader(cifar10(images, labels), batch, shuffle=True))
    net = student(level).to(device).train()
    optimizer, criterion = torch.optim.Adam(net.parameters()), nn.CrossEntropyLoss()

    def call() -> None:
        total = 0.0
        for _ in range(steps):
            x, y = (tensor.to(device) for tensor in next(batches))
            loss = criterion(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()

    return call


def cifar10(images: Tensor, labels: Tensor) -> CIFAR10:
    """torchvision's own class and `__getitem__` over these pictures (N, 3, H, W), without its files."""
    pictures = CIFAR10.__new__(CIFAR10)
    pictures.data, pictures.targets = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
    crop = transforms.RandomCrop(images.shape[-1], padding=4)
    pictures.transform = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor()])
    pictures.target_transform = None
    return pictures


def endless(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def ours(level: int, images: Tensor, labels: Tensor, batch: int, device: str) -> Callable[[], object]:
    """A call that trains one epoch of `images` with `kdig.training.fit`."""
    split = Split(images, labels, tuple(str(i) for i in range(len(labels))))
    net = student(level).to(device, memory_format=torch.channels_last)
    dataset = IGDataset(split, device=device)
    two, loss, recipe = split.select(torch.arange(2)), DistillationLoss(), Recipe(batch_size=batch, epochs=1)
    return lambda: fit(net, dataset, two, loss, recipe)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="training steps of one turn (even: two runs share them)")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(cores())  # for the caption
    count = options.steps * options.batch
    images = torch.randint(256, (count, 3, options.size, options.size), dtype=torch.uint8)
    labels = torch.randint(10, (count,))
    half = slice(0, options.steps // 2 * options.batch)
    whole = (options.level, images, labels, options.batch)
    parts = (options.level, images[half], labels[half], options.batch)
    calls = {
        BASELINE: Apart(conventional, *whole, options.steps, options.device, allocator=False),
        "conventional loop, kdig's allocator": Apart(conventional, *whole, options.steps, options.device),
        "kdig": Apart(ours, *whole, options.device),
        "kdig, two runs at once": Apart(ours, *parts, options.device, copies=2),
    }
    frame = compare(calls, BASELINE, count, "images/s", options.rounds)
    about = f"Training of student level {options.level}, batches of {options.batch}, {options.size} x {options.size} pixels."
    publish(frame, "training", "images/s", BASELINE, about, options.device)


if __name__ == "__main__":
    main()
