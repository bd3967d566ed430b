"""How a learner's function is checked: properties of an exercise, and what is said of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]
# what a property sees of the function: None when it holds, else what happens instead, with numbers
Trial = Callable[[Function], str | None]


@dataclass(frozen=True)
class Property:
    """One thing that is true of every right answer: in words, and as a trial."""

    words: str
    trial: Trial


# name of the function that a learner writes -> its properties, the simplest first
EXERCISES: dict[str, list[Property]] = {}
_SOLVED: set[str] = set()


class Told(Exception):
    """What is wrong with a function's result, in words."""


def true_of(name: str, words: str) -> Callable[[Trial], Trial]:
    """Add a property to the exercise `name`."""

    def add(trial: Trial) -> Trial:
        EXERCISES.setdefault(name, []).append(Property(words, trial))
        return trial

    return add


def unless(holds: object, text: str) -> str | None:
    """`text` if something does not hold."""
    return None if bool(holds) else text


def failures(function: Function) -> dict[str, str]:
    """The properties of the exercise named like `function` that do not hold: words -> what happens
    instead.
    """
    found = {}
    for each in EXERCISES[function.__name__]:
        instead = _tried(each.trial, function)
        if instead is not None:
            found[each.words] = instead
    return found


def verdict(function: Function) -> str:
    """`All correct`, or one sentence on the first property that does not hold."""
    name = getattr(function, "__name__", None)
    if name is None or not callable(function):
        return "Give the function itself, as in check(kd_loss): no quotation marks, no call."
    if name not in EXERCISES:
        return f"There is no exercise named {name}. There are: {', '.join(EXERCISES)}."
    for words, instead in failures(function).items():
        return f"Not yet: {words}, but {instead}."
    return f"All correct: {name} has all {len(EXERCISES[name])} properties."


def check(function: Function) -> None:
    """Print whether a function solves the exercise of its name, or which property fails."""
    text = verdict(function)
    if text.startswith("All correct"):
        _SOLVED.add(function.__name__)
    print(text)


def progress() -> str:
    """How many exercises have been solved since the notebook was started, and which are left."""
    left = [name for name in EXERCISES if name not in _SOLVED]
    text = f"{len(EXERCISES) - len(left)} of {len(EXERCISES)} solved."
    return f"{text} Left: {', '.join(left)}." if left else text


def _tried(trial: Trial, function: Function) -> str | None:
    """What a trial says; anything that stops it becomes a sentence, too."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return trial(_watched(function))
    except Told as told:
        return str(told)
    except Exception as error:
        return f"its result cannot be used ({_named(error)})"


def _watched(function: Function) -> Function:
    """`function`, which tells in words when it stops or gives nothing back."""

    def watched(*inputs: Any) -> Any:
        try:
            result = function(*inputs)
        except Exception as error:
            raise Told(f"your function stops with {_named(error)}") from None
        if result is None or result is ...:
            raise Told("your function gives nothing back: it has no body or no return yet")
        return result

    return watched


def _named(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def number(result: Any) -> float:
    """A result that should be one number. Raises `Told` for another."""
    if isinstance(result, Tensor) and result.numel() != 1:
        raise Told(f"the result is no single number: its shape is {tuple(result.shape)}")
    return float(result.detach() if isinstance(result, Tensor) else result)


def shaped(result: Any, shape: Sequence[int]) -> Tensor:
    """A result that should be a tensor of this shape. Raises `Told` for another."""
    if not isinstance(result, Tensor):
        raise Told(f"the result is no tensor but a {type(result).__name__}")
    if tuple(result.shape) != tuple(shape):
        raise Told(f"the result has the shape {tuple(result.shape)}, not {tuple(shape)}")
    return result.detach()


def gradient(loss: Any, logits: Tensor) -> Tensor:
    """The gradient of a loss to `logits`, in their shape; zeros where none arrives."""
    number(loss)
    if not loss.requires_grad:
        return torch.zeros_like(logits)
    (found,) = torch.autograd.grad(loss, logits, allow_unused=True)
    return torch.zeros_like(logits) if found is None else found


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors of one shape."""
    return float((one - other).abs().max())
