"""One training loop for teacher and students, and one evaluation."""

import math
import time
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from kdig import KdigError
from kdig.core.data import Split
from kdig.core.dataset import IGDataset
from kdig.core.losses import DistillationLoss, attention_map
from kdig.core.networks import AttentionTap, full_precision
from kdig.core.signals import Signals
from kdig.core.unfinished import Stateful, Unfinished


class Recipe(BaseModel):
    """How a network is trained.

    The defaults are the paper's: Adam, constant 1e-3, batches of 64, inputs not normalised.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine", "onecycle"] = "constant"
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(64, ge=2)
    epochs: int = Field(100, ge=1)
    normalise: bool = False
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    bn_momentum: float = Field(0.1, gt=0, le=1)


class Epoch(BaseModel):
    """One row of a run's history: the mean loss of the epoch's steps (in nats, augmented images) and
    the accuracy on its training images; then the test set, if scored. Accuracies are in percent.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float | None = None
    test_accuracy: float | None = None
    seconds: float


@full_precision()
def fit(
    model: nn.Module,
    dataset: IGDataset,
    test: Split,
    loss: DistillationLoss,
    recipe: Recipe,
    *,
    attention: AttentionTap | None = None,
    every: int = 1,
    name: str = "run",
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    unfinished: Unfinished | None = None,
) -> list[Epoch]:
    """Train `model` in place and return its history.

    `test` is scored every `every` epochs and after the last one, and never used to choose anything.
    A training that is killed goes on from the file of `unfinished`, to the same result.

    Raises `KdigError` with run, epoch and step at the first loss that is not finite.

    >>> digits = load_dataset("digits", image_size=8)
    >>> recipe = Recipe(epochs=1, batch_size=500)
    >>> (epoch,) = fit(
    ...     build("s8", 10, 0.25), IGDataset(digits.train), digits.test, DistillationLoss(), recipe
    ... )
    >>> epoch.test_accuracy is not None
    True
    """
    set_momentum(model, recipe)
    batches = math.ceil(len(dataset) / recipe.batch_size)
    optimizer = make_optimizer(model, recipe)
    schedule = make_schedule(optimizer, recipe, recipe.epochs * batches)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "schedule": schedule}
    history = [Epoch(**row) for row in unfinished.restore(parts)] if unfinished else []
    for row in history:
        on_epoch(row)
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        start = time.monotonic()
        losses, correct = _train_epoch(
            model, dataset, loss, recipe, optimizer, schedule, attention, epoch
        )
        if not losses.isfinite().all():
            step = int((~losses.isfinite()).nonzero()[0]) + 1
            found = f"the loss is {losses[step - 1].item()} at epoch {epoch}, step {step}"
            raise KdigError(
                f"{name}: {found}; {_advice(dataset.signals, first=epoch == step == 1)}"
            )
        row = epoch_row(epoch, losses, correct, len(dataset))
        if epoch % every == 0 or epoch == recipe.epochs:
            score_row(row, model, test, dataset.device)
        row.seconds = time.monotonic() - start
        history.append(row)
        if unfinished:
            unfinished.keep(parts, [epoch.model_dump() for epoch in history])
        on_epoch(row)
    return history


def epoch_row(epoch: int, losses: Tensor, correct: float, images: int) -> Epoch:
    """What an epoch has given: the loss of each step (steps,), the right answers of so many images."""
    loss, share = losses.mean().item(), 100 * correct / images
    return Epoch(epoch=epoch, train_loss=loss, train_accuracy=share, seconds=0.0)


def score_row(row: Epoch, model: nn.Module, test: Split, device: str) -> None:
    """Write into `row` how `model` does on `test`."""
    logits = predict(model, test, device=device)
    row.test_loss = nn.functional.cross_entropy(logits, test.labels).item()
    row.test_accuracy = accuracy(logits, test.labels)


def _advice(signals: Signals, first: bool) -> str:
    """What to do about a loss that is not finite.

    No learning rate has had a part in the `first` one.
    """
    if not first:
        return "lower the learning rate"
    given = {name: values for name, values in signals._asdict().items() if values is not None}
    bad = [name for name, values in given.items() if not values.isfinite().all()]
    if bad:
        return (
            f"the teacher's {' and '.join(bad)} hold values that are not finite: look at the"
            " teacher, and delete cache/signals"
        )
    return (
        "nothing was learned before it: look for inputs that are not finite, such as images after"
        " normalisation"
    )


def _train_epoch(
    model: nn.Module,
    dataset: IGDataset,
    loss: DistillationLoss,
    recipe: Recipe,
    optimizer: Optimizer,
    schedule: LRScheduler,
    attention: AttentionTap | None,
    epoch: int,
) -> tuple[Tensor, float]:
    """Every batch once; returns the losses (steps,) and the number of correct answers.

    Nothing leaves the device in between.
    """
    dataset.set_epoch(epoch)
    model.train()
    losses, correct = [], torch.zeros((), device=dataset.device)
    for indices in dataset.order.to(dataset.device).split(recipe.batch_size):
        images, labels, signals = dataset.__getitems__(indices)
        logits = model(images)
        student_map = (
            attention_map(attention.output) if attention and attention.output is not None else None
        )
        value = loss(logits, labels, signals.logits, student_map, signals.attention)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        losses.append(value.detach())
        correct += (logits.detach().argmax(1) == labels).sum()
    return torch.stack(losses).cpu(), correct.item()


def set_momentum(model: nn.Module, recipe: Recipe) -> None:
    """How fast batch norm's running statistics follow."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = recipe.bn_momentum


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """The optimizer of `recipe` for all of `model`'s parameters."""
    # fused: one call for all tensors instead of some ten for each
    settings: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "fused": True,
    }
    if recipe.optimizer == "sgd":
        return SGD(model.parameters(), momentum=0.9, nesterov=True, **settings)
    return (AdamW if recipe.optimizer == "adamw" else Adam)(model.parameters(), **settings)


def make_schedule(optimizer: Optimizer, recipe: Recipe, steps: int) -> LRScheduler:
    """The learning rate of `recipe` over so many steps."""
    if recipe.schedule == "onecycle":
        return OneCycleLR(optimizer, max_lr=recipe.learning_rate, total_steps=steps)
    if recipe.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    return LambdaLR(optimizer, lambda step: 1.0)


@full_precision()
@torch.inference_mode()
def predict(
    model: nn.Module, split: Split, *, device: str = "cpu", batch_size: int = 100
) -> Tensor:
    """Logits (N, K) on the CPU for every picture of `split`, unaugmented, with the model in eval
    mode.

    >>> predict(build("s8", 10, 0.25), load_dataset("digits", image_size=8).test).shape
    torch.Size([599, 10])
    """
    model.eval()
    rows = (images.to(device) / 255 for images in split.images.split(batch_size))
    return torch.cat(
        [model(images.contiguous(memory_format=torch.channels_last)).cpu() for images in rows]
    )


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Percent of rows of `logits` (N, K) whose argmax is the label."""
    return 100 * (logits.argmax(1) == labels).double().mean().item()
