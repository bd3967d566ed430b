"""A training that is killed goes on after the last epoch that was kept."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from kdig.core.files import atomic_write, read_tensors

# a training that lasts no longer keeps nothing: writing would take longer than repeating
SECONDS = 60.0


class Stateful(Protocol):
    """A network, an optimizer or a schedule."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


@dataclass
class Unfinished:
    """The file of one training. It is written after an epoch, if `SECONDS` have passed since it was
    last written.

    `stamp` says what decides the result besides the run: a file with another stamp is not used.
    """

    path: Path
    stamp: Mapping[str, str]
    epochs: int = 0  # that were taken from the file
    seconds: float = 0.0  # that these epochs took
    begun: float = field(default_factory=time.monotonic)
    written: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds of training until now, those before a kill among them."""
        return time.monotonic() - self.begun + self.seconds

    @property
    def noted(self) -> dict[str, str]:
        """What a record says of a training that went on: where it did (empty: it did not)."""
        return {"went on after epoch": str(self.epochs)} if self.epochs else {}

    def restore(self, parts: Mapping[str, Stateful]) -> list[dict[str, Any]]:
        """Put `parts` and torch's generators where the file says; the history up to there (empty:
        there is no file, or none that fits).
        """
        kept = self._kept()
        if kept is None:
            return []
        for name, part in parts.items():
            part.load_state_dict(kept["parts"][name])
        torch.set_rng_state(kept["generator"])
        if kept["generators of GPUs"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(kept["generators of GPUs"])
        history: list[dict[str, Any]] = kept["history"]
        self.epochs = len(history)
        self.seconds = sum(epoch["seconds"] for epoch in history)
        return history

    def keep(self, parts: Mapping[str, Stateful], history: list[dict[str, Any]]) -> None:
        """Write `parts`, torch's generators and the history, if it is time."""
        if time.monotonic() - self.written < SECONDS:
            return
        content: dict[str, object] = {"stamp": dict(self.stamp), "history": history}
        content["parts"] = {name: part.state_dict() for name, part in parts.items()}
        content["generator"] = torch.get_rng_state()
        gpus = torch.cuda.is_initialized()
        content["generators of GPUs"] = torch.cuda.get_rng_state_all() if gpus else []
        atomic_write(self.path, lambda part: torch.save(content, part))
        self.written = time.monotonic()

    def remove(self) -> None:
        """The training is finished."""
        self.path.unlink(missing_ok=True)

    def _kept(self) -> dict[str, Any] | None:
        if not self.path.exists():
            return None
        try:
            kept: dict[str, Any] = read_tensors(self.path)
            return kept if kept["stamp"] == dict(self.stamp) else None
        except (ValueError, LookupError, TypeError):
            print(f"cannot read {self.path}: the training begins anew", flush=True)
            return None
