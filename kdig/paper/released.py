"""The students that the paper's authors released, as networks of this package."""

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import MobileNetV2

from kdig import KdigError
from kdig.core.networks import LEVELS, student


def load_released_checkpoint(path: str | Path) -> MobileNetV2:
    """One of the students that the paper's authors released, in either of their layouts, in eval
    mode on the CPU.

    A state that was saved by a data-parallel wrapper (`module.`, `module.student.`), or inside a
    dictionary as `state_dict` or `model`, is found there. Raises `KdigError` when the file is no
    such checkpoint, and says what it holds instead.

    >>> load_released_checkpoint("nowhere.pt")
    Traceback (most recent call last):
    kdig.KdigError: nowhere.pt is not one of the paper's released students: no such file or directory
    """
    try:
        return _as_student(_state_in(_content_of(Path(path))))
    except ValueError as error:
        raise KdigError(f"{path} is not one of the paper's released students: {error}") from None


def _content_of(path: Path) -> object:
    """What torch has stored at `path`.

    Raises `ValueError` when it is no file of torch's, or holds more than tensors.
    """
    try:
        if path.read_bytes()[:40].startswith(b"version https://git-lfs"):
            raise ValueError("it is a pointer of Git LFS: fetch the file itself (git lfs pull)")
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError((error.strerror or type(error).__name__).lower()) from None
    except ValueError:
        raise
    except (
        Exception
    ) as error:  # torch answers a file that is none of its own with a dozen kinds of error
        # its text may advise to load the file without weights_only, which runs whatever code the
        # file brings
        more = isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error)
        found = (
            "it holds Python objects, not only weights"
            if more
            else "it is no whole file of torch's"
        )
        raise ValueError(found) from None


def _state_in(content: object) -> dict[str, Tensor]:
    """The names and tensors of a network, out of the wrappings that are usual.

    Raises `ValueError` when there are none.
    """
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of weights")
    if {"state", "mean", "std"} <= set(content):
        raise ValueError(
            "kdig itself has trained this network; the notebooks show it without being given the"
            " file"
        )
    inner = next(
        (content[name] for name in ("state_dict", "model_state_dict", "model") if name in content),
        None,
    )
    if inner is not None:
        return _state_in(inner)
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"it holds a dictionary of {', '.join(map(str, list(content)[:4])) or 'nothing'}, not"
            " of weights"
        )
    state = {str(name).removeprefix("module."): value for name, value in content.items()}
    students = {
        name.removeprefix("student."): value
        for name, value in state.items()
        if name.startswith("student.")
    }
    return students or state


def _as_student(state: dict[str, Tensor]) -> MobileNetV2:
    """The student with these weights. Raises `ValueError` when they are another network's."""
    first = next(iter(state))
    state = {_torchvision_name(name): value for name, value in state.items()}
    blocks = [int(number[1]) for name in state if (number := re.match(r"features\.(\d+)\.", name))]
    level = next(
        (level for level, (cut, _) in LEVELS.items() if blocks and cut == max(blocks)), None
    )
    bias = state.get("classifier.1.bias")
    if level is None or bias is None or bias.dim() != 1:
        network = f"a network of {max(blocks) + 1} blocks with" if blocks else "a network with"
        raise ValueError(
            f"it holds {network} the first weight {first!r}; the students are MobileNetV2 cut after"
            " a block of Table S5"
        )
    net = student(level, num_classes=len(bias))
    wanted = net.state_dict()
    for name in [*wanted, *state]:
        ours, theirs = (list(s[name].shape) if name in s else "missing" for s in (wanted, state))
        if ours != theirs:
            raise ValueError(
                f"its {name} is {theirs}, in the student of level {level} it is {ours}"
            )
    net.load_state_dict(state)
    return net.eval()


def _torchvision_name(name: str) -> str:
    """`ModifiedStudent` splits the features at block 9 into front_layers, middle_layer, end_layers;
    the other layout does not.
    """
    name = re.sub(r"^front_layers\.", "features.", name)
    name = re.sub(r"^middle_layer\.", "features.9.", name)
    return re.sub(r"^end_layers\.(\d+)", lambda match: f"features.{10 + int(match[1])}", name)
