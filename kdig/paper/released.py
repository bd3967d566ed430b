"""The networks that the paper's authors released, their teacher among them, as networks of this
package.
"""

import re
from collections.abc import Collection
from pathlib import Path

from torch import Tensor
from torchvision.models import MobileNetV2

from kdig import KdigError
from kdig.core.files import read_tensors
from kdig.core.networks import LEVELS, mobilenet_v2, of_level, student
from kdig.core.signals import Teacher
from kdig.core.store import unpacked
from kdig.core.train import NOT_NORMALISED

# what the paper's teacher subtracts from its images, and divides them by (Compute_IGs.py)
TEACHERS_MEAN, TEACHERS_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
# the index of the teacher's last block
_TEACHERS_LAST = 18


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
        content = _content_of(Path(path))
        if _is_kdigs(content):
            raise ValueError(
                "kdig itself has trained this network; the notebooks show it without being given"
                " the file"
            )
        return _as_network(_state_in(content), LEVELS)[1]
    except ValueError as error:
        raise KdigError(f"{path} is not one of the paper's released students: {error}") from None


def load_teacher(path: str | Path) -> Teacher:
    """A network that can teach, on the CPU: the paper's own teacher (`mobilenet_v2.pt`, whose
    images are normalised), one of its released students (whose images are not), or a file of
    weights that kdig has written.

    Raises `KdigError` for any other file, and says what it holds instead.
    """
    try:
        content = _content_of(Path(path))
        return _kdigs(content) if _is_kdigs(content) else _papers(_state_in(content))
    except ValueError as error:
        raise KdigError(f"{path} is no network that can teach: {error}") from None


def state_of(path: Path) -> dict[str, Tensor]:
    """The names and tensors of the network in a file of torch's, out of the usual wrappings.

    Raises `ValueError` that says what the file holds instead.
    """
    return _state_in(_content_of(path))


def _is_kdigs(content: object) -> bool:
    return isinstance(content, dict) and {"state", "mean", "std"} <= set(content)


def _kdigs(content: object) -> Teacher:
    """A network that kdig has kept. Raises `ValueError` when it does not fit what its file says."""
    assert isinstance(content, dict)
    try:
        return unpacked(content)
    except (KdigError, KeyError, RuntimeError, TypeError) as error:
        found = " ".join(str(error).split())[:200]
        raise ValueError(f"kdig has written it, but its weights do not fit ({found})") from None


def _papers(state: dict[str, Tensor]) -> Teacher:
    """A network that the authors trained. Raises `ValueError` when it is none."""
    level, net = _as_network(state, (0, *LEVELS))
    mean, std = NOT_NORMALISED if level else (TEACHERS_MEAN, TEACHERS_STD)
    return Teacher(net, mean, std, network=of_level(level))


def _content_of(path: Path) -> object:
    """What torch has stored at `path`.

    Raises `ValueError` when it is no file of torch's, or holds more than tensors.
    """
    try:
        if path.read_bytes()[:40].startswith(b"version https://git-lfs"):
            raise ValueError("it is a pointer of Git LFS: fetch the file itself (git lfs pull)")
    except OSError as error:
        raise ValueError((error.strerror or type(error).__name__).lower()) from None
    return read_tensors(path)


def _state_in(content: object) -> dict[str, Tensor]:
    """The names and tensors of a network, out of the wrappings that are usual.

    Raises `ValueError` when there are none.
    """
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of weights")
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


def _as_network(state: dict[str, Tensor], levels: Collection[int]) -> tuple[int, MobileNetV2]:
    """The level and the network with these weights: 0 is the teacher.

    Raises `ValueError` when they are those of none of `levels`.
    """
    first = next(iter(state))
    state = {_torchvision_name(name): value for name, value in state.items()}
    blocks = [int(number[1]) for name in state if (number := re.match(r"features\.(\d+)\.", name))]
    level = next((lv for lv in levels if blocks and _last_block(lv) == max(blocks)), None)
    bias = state.get("classifier.1.bias")
    if level is None or bias is None or bias.dim() != 1:
        network = f"a network of {max(blocks) + 1} blocks with" if blocks else "a network with"
        known = "the students are" if 0 not in levels else "the paper's teacher and students are"
        whole = "" if 0 not in levels else ", whole or"
        raise ValueError(
            f"it holds {network} the first weight {first!r}; {known} MobileNetV2{whole} cut after"
            " a block of Table S5"
        )
    net = student(level, len(bias)) if level else mobilenet_v2(len(bias))
    wanted, named = net.state_dict(), f"the student of level {level}" if level else "the teacher"
    for name in [*wanted, *state]:
        ours, theirs = (list(s[name].shape) if name in s else "missing" for s in (wanted, state))
        if ours != theirs:
            raise ValueError(f"its {name} is {theirs}, in {named} it is {ours}")
    net.load_state_dict(state)
    return level, net.eval()


def _last_block(level: int) -> int:
    """The index of the last feature block of the paper's network of a level; 0 is the teacher."""
    return LEVELS[level][0] if level else _TEACHERS_LAST


def _torchvision_name(name: str) -> str:
    """`ModifiedStudent` splits the features at block 9 into front_layers, middle_layer, end_layers;
    the other layout does not.
    """
    name = re.sub(r"^front_layers\.", "features.", name)
    name = re.sub(r"^middle_layer\.", "features.9.", name)
    return re.sub(r"^end_layers\.(\d+)", lambda match: f"features.{10 + int(match[1])}", name)
