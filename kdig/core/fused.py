"""Engine `fused`: runs of one shape trained side by side, each with a loss of its own.

Equal to separate runs to rounding, not to the bit. On a GPU a step of all of them is recorded as a
CUDA graph where that is possible.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdig.core.data import Split
from kdig.core.dataset import IGDataset
from kdig.core.ensemble import Ensemble
from kdig.core.environment import environment
from kdig.core.files import alone
from kdig.core.losses import attention_map
from kdig.core.networks import AttentionTap, build, entry, full_precision, with_normalisation
from kdig.core.run import Run, Scoring
from kdig.core.store import Workspace
from kdig.core.train import (
    NOT_NORMALISED,
    as_record,
    keep_trained,
    loss_of,
    stamp,
    training_set,
    untrained,
    whole_process,
)
from kdig.core.training import (
    Epoch,
    Recipe,
    epoch_row,
    make_optimizer,
    make_schedule,
    predict,
    score_row,
    set_momentum,
)
from kdig.core.unfinished import Stateful, Unfinished

# steps that are taken before one is recorded: optimizers make their state in the first
_WARM_UP = 3


class Batch(NamedTuple):
    """What S runs see in one step: images (S, N, 3, H, W), labels (S, N), and each run's signals,
    logits (N, K) and attention maps (N, P); None where its method uses none.
    """

    images: Tensor
    labels: Tensor
    logits: list[Tensor | None]
    attention: list[Tensor | None]

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, in one order."""
        signals = [signal for signal in (*self.logits, *self.attention) if signal is not None]
        return [self.images, self.labels, *signals]


@dataclass(eq=False)
class Member:
    """One of the runs that stand side by side: its network, what it is trained and scored on, its
    history.
    """

    run: Run
    net: nn.Module
    dataset: IGDataset
    scored: Split
    history: list[Epoch] = field(default_factory=list)


def is_finite(history: Sequence[Epoch]) -> bool:
    """Whether the loss has been a number in every epoch."""
    return all(math.isfinite(epoch.train_loss) for epoch in history)


def groups(runs: Sequence[Run], at_most: int) -> list[list[Run]]:
    """Those of `runs` that can be trained side by side, two to `at_most` in a group."""
    alike: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        if not _drops_out(run):
            alike.setdefault(_shape(run), []).append(run)
    found = [some[i : i + at_most] for some in alike.values() for i in range(0, len(some), at_most)]
    return [group for group in found if len(group) > 1]


def _shape(run: Run) -> tuple[object, ...]:
    """What runs that stand side by side agree in: their network, and when they take which step."""
    # label smoothing is part of a run's own loss
    recipe = run.recipe.model_copy(update={"label_smoothing": 0.0})
    images = (run.dataset, run.data, run.image_size, run.train_images, run.share)
    return (run.role, run.network, run.width, *images, recipe)


def _drops_out(run: Run) -> bool:
    """Whether the network draws random numbers while it trains, which would be others alone."""
    with torch.device("meta"):
        modules = build(run.network, width=run.width).modules()
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in modules)


def train_together(
    runs: Sequence[Run], workspace: Workspace, scoring: Scoring, threads: int
) -> None:
    """Train, score and store one of `groups`; what is trained already is left as it is.

    A run whose loss is not finite is not stored: alone, it says why. As `train` does, it waits for
    another process that trains one of these runs.
    """
    with ExitStack() as locks:
        # in one order, so that two processes with the same runs do not wait for each other
        for run in sorted(runs, key=lambda run: run.key):
            lock = workspace.folder / "runs" / f"{run.key}.lock"
            locks.enter_context(alone(lock, str(run)))
        left = [run for run in runs if workspace.trained(run) is None]
        if left:
            with whole_process(threads):
                _train(left, workspace, scoring, threads)


def _train(runs: list[Run], workspace: Workspace, scoring: Scoring, threads: int) -> None:
    side_by_side = {"engine": "fused", "side by side": str(len(runs))}
    made = environment(workspace.device, threads) | side_by_side
    unfinished = workspace.unfinished(runs, stamp(made, scoring))
    data = workspace.dataset(runs[0].dataset, runs[0].image_size)
    members = [_member(run, workspace, scoring) for run in runs]
    normalisation = (data.mean, data.std) if runs[0].recipe.normalise else NOT_NORMALISED
    fit_together(members, normalisation, scoring.every, unfinished)
    made, seconds = made | unfinished.noted, unfinished.spent / len(runs)
    for run, net, history, scored in ((m.run, m.net, m.history, m.scored) for m in members):
        if is_finite(history):
            model = with_normalisation(net, *normalisation)
            predicted = predict(model, scored, device=workspace.device).argmax(1)
            record = as_record(run, history, net, data, seconds, made)
            keep_trained(record, history, scoring, predicted, net, normalisation, workspace)
    unfinished.remove()


def _member(run: Run, workspace: Workspace, scoring: Scoring) -> Member:
    pictures = workspace.pictures(run, scoring)
    net = untrained(run, len(pictures.data.classes)).to(workspace.device)
    net = net.to(memory_format=torch.channels_last)
    return Member(run, net, training_set(run, workspace, pictures), pictures.scored)


@full_precision()
def fit_together(
    members: Sequence[Member],
    normalisation: tuple[Sequence[float], Sequence[float]],
    every: int = 1,
    unfinished: Unfinished | None = None,
) -> None:
    """Train the networks of `members` in place, side by side, and write their histories.

    `normalisation` is the mean and standard deviation of their input. They are scored every `every`
    epochs and after the last one. It ends before the last epoch when no loss is finite any more.
    A training that is killed goes on from the file of `unfinished`.
    """
    recipe = members[0].run.recipe
    together = Ensemble([member.net for member in members])
    together = together.to(members[0].dataset.device).to(memory_format=torch.channels_last)
    set_momentum(together, recipe)
    with _tap(together, members) as tap:
        steps = _Steps(with_normalisation(together, *normalisation), tap, members, recipe)
        kept = steps.restore(unfinished) if unfinished else []
        for done in kept:
            _append(members, [Epoch(**row) for row in done["members"]])
        together.split([member.net for member in members])
        for epoch in range(len(kept) + 1, recipe.epochs + 1):
            start = time.monotonic()
            losses, correct = steps.epoch(epoch)
            rows = [
                epoch_row(epoch, values, right, len(member.dataset))
                for member, values, right in zip(members, losses.unbind(1), correct.tolist())
            ]
            if epoch % every == 0 or epoch == recipe.epochs:
                together.split([member.net for member in members])
                _score(members, rows, normalisation)
            seconds = time.monotonic() - start
            for row in rows:
                row.seconds = seconds / len(rows)
            _append(members, rows)
            if not any(is_finite(member.history) for member in members):
                return
            kept.append({"members": [row.model_dump() for row in rows], "seconds": seconds})
            if unfinished:
                unfinished.keep(steps.parts, kept)


def _append(members: Sequence[Member], rows: Sequence[Epoch]) -> None:
    for member, row in zip(members, rows):
        member.history.append(row)


def _score(
    members: Sequence[Member],
    rows: Sequence[Epoch],
    normalisation: tuple[Sequence[float], Sequence[float]],
) -> None:
    for member, row in zip(members, rows):
        model = with_normalisation(member.net, *normalisation)
        score_row(row, model, member.scored, member.dataset.device)


def _tap(together: Ensemble, members: Sequence[Member]) -> AttentionTap | nullcontext[None]:
    run = members[0].run
    if any(member.run.gamma for member in members):
        return AttentionTap(together, entry(run.network).tap)
    return nullcontext()


class _Steps:
    """The steps of a training of several networks."""

    def __init__(
        self, model: nn.Module, tap: AttentionTap | None, members: Sequence[Member], recipe: Recipe
    ) -> None:
        self.model, self.tap, self.recipe = model, tap, recipe
        self.datasets = [member.dataset for member in members]
        self.losses = [loss_of(member.run) for member in members]
        self.optimizer = make_optimizer(model, recipe)
        batches = math.ceil(len(self.datasets[0]) / recipe.batch_size)
        on_gpu = torch.device(self.datasets[0].device).type == "cuda"
        # a one-cycle rate changes the momentum too, a number of the host's that a graph would keep
        self.step: Callable[[Batch], tuple[Tensor, Tensor]] = self.take
        self.recorded = on_gpu and recipe.schedule != "onecycle"
        if self.recorded:
            _on_the_device(self.optimizer)
            self.step = Recorded(self.take)
        self.schedule: LRScheduler = make_schedule(self.optimizer, recipe, recipe.epochs * batches)

    @property
    def parts(self) -> dict[str, Stateful]:
        """What a training that goes on needs."""
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}

    def restore(self, unfinished: Unfinished) -> list[dict[str, Any]]:
        """Put everything where the file says; what it has kept of each epoch."""
        kept = unfinished.restore(self.parts)
        if kept and self.recorded:
            _on_the_device(self.optimizer)  # its file is read to the CPU
        return kept

    def epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Every batch once: the losses (steps, S), and the right answers of each run (S,)."""
        for dataset in self.datasets:
            dataset.set_epoch(epoch)
        self.model.train()
        orders = torch.stack([dataset.order for dataset in self.datasets])
        losses, answers = [], []
        for indices in orders.to(self.datasets[0].device).split(self.recipe.batch_size, dim=1):
            values, correct = self.step(self.batch(indices))
            self.schedule.step()
            losses.append(values)
            answers.append(correct)
        return torch.stack(losses).cpu(), torch.stack(answers).sum(0).cpu()

    def batch(self, indices: Tensor) -> Batch:
        """The images of each run (S, N)."""
        parts = [data.__getitems__(rows) for data, rows in zip(self.datasets, indices)]
        images = torch.stack([part.images for part in parts])
        labels = torch.stack([part.labels for part in parts])
        signals = [part.signals for part in parts]
        return Batch(images, labels, [s.logits for s in signals], [s.attention for s in signals])

    def take(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step of all networks: their losses and right answers, each (S,)."""
        logits = self.model(batch.images)
        given = zip(self.losses, logits, batch.labels, batch.logits, self._maps(), batch.attention)
        values = torch.stack([loss(*of_one) for loss, *of_one in given])
        # the gradients' memory stays, which a graph needs
        self.optimizer.zero_grad(set_to_none=False)
        # a network's gradient is that of its own loss: no number of one meets another's
        values.sum().backward()
        self.optimizer.step()
        return values.detach(), (logits.detach().argmax(2) == batch.labels).sum(1)

    def _maps(self) -> list[Tensor | None]:
        """The attention map of each network (N, P)."""
        count = len(self.losses)
        if self.tap is None or self.tap.output is None:
            return [None] * count
        activations = self.tap.output.unflatten(1, (count, -1)).unbind(1)
        uses = [loss.gamma > 0 for loss in self.losses]
        return [attention_map(one) if used else None for one, used in zip(activations, uses)]


def _on_the_device(optimizer: Optimizer) -> None:
    """Put learning rate and count of steps on the GPU, where a graph reads them anew."""
    device = optimizer.param_groups[0]["params"][0].device
    for group in optimizer.param_groups:
        group["capturable"] = True
        group["lr"] = torch.tensor(float(group["lr"]), device=device)


class Recorded:
    """`step` as a CUDA graph: one launch instead of thousands.

    The first steps are taken as they are; from then on, batches of the first one's size are
    copied to where the graph reads them. Others, the last of an epoch, are taken as they are.
    """

    def __init__(self, step: Callable[[Batch], tuple[Tensor, Tensor]]) -> None:
        self.step, self.taken = step, 0
        self.stream = torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.read: Batch | None = None
        self.found: tuple[Tensor, Tensor] | None = None

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Losses and right answers of one step."""
        if self.read is not None and self.read.images.shape != batch.images.shape:
            return self.step(batch)
        if self.taken < _WARM_UP:
            self.taken += 1
            self.read = batch
            return self._aside(batch)
        if self.graph is None:
            self._record(batch)
        assert self.read is not None
        assert self.graph is not None
        assert self.found is not None
        for place, values in zip(self.read.tensors, batch.tensors):
            place.copy_(values)
        self.graph.replay()
        losses, correct = self.found
        return losses.clone(), correct.clone()

    def _aside(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A step on the stream on which it will be recorded."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            found = self.step(batch)
        torch.cuda.current_stream().wait_stream(self.stream)
        return found

    def _record(self, batch: Batch) -> None:
        """Record a step without taking it; what it reads from now on is a copy of `batch`."""
        logits, attention = (
            [None if one is None else one.clone() for one in some]
            for some in (batch.logits, batch.attention)
        )
        self.read = Batch(batch.images.clone(), batch.labels.clone(), logits, attention)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self.found = self.step(self.read)
