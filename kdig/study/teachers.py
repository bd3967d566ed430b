"""A teacher that is given: where it comes from, and how it does on a profile's test images.

`python -m kdig.study.teachers --profile evidence` keeps the teacher that a profile has trained as
the reference, with its card.
"""

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from kdig import KdigError
from kdig.core.data import Dataset
from kdig.core.environment import cores
from kdig.core.files import atomic_write
from kdig.core.networks import count_parameters
from kdig.core.run import Scoring
from kdig.core.signals import Teacher
from kdig.core.store import Result, Workspace
from kdig.core.train import score_teacher
from kdig.core.training import Epoch, Recipe
from kdig.paper.released import load_teacher
from kdig.study.command import Parser, exit_code
from kdig.study.settings import REFERENCE, brief, profile_settings, teachers_file


class GivenBy(BaseModel):
    """Where the teacher comes from: null is trained here, by the profile's `teacher_` recipe.

    `reference` is the network in `outputs/reference/evidence`, anything else the path of a
    checkpoint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: str | None = None


class Card(BaseModel):
    """What is known of the reference teacher: the file `teacher.json` beside its weights.

    `test_accuracy` is in percent of all test images, `data` the fingerprint of the data set.
    """

    weights: str
    network: str
    width: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test_accuracy: float
    recipe: Recipe
    data_label: str
    data: str
    environment: dict[str, str]


@dataclass(frozen=True)
class TestScore:
    """Loss, and accuracy in percent, on a profile's test images."""

    __test__ = False  # no test of pytest's

    test_loss: float
    test_accuracy: float


@dataclass(frozen=True)
class GivenTeacher:
    """A teacher that was not trained in this profile, as far as notebooks use the result of one
    that was: there is no learning curve.

    `source` says in words where it comes from, `weights` is its hash.
    """

    source: str
    network: str
    width: float
    weights: str
    parameters: int
    last: TestScore
    history: list[Epoch] = field(default_factory=list)


def given_network(teacher: str) -> tuple[Teacher, str]:
    """The network that the parameter `teacher` names, on the CPU, and where it comes from.

    Raises `KdigError` when it is not there, or no network.
    """
    path = teachers_file(teacher)
    if teacher == REFERENCE:
        return _reference(path.parent)
    if not path.is_file():
        raise KdigError(
            f"teacher is {teacher!r}, but there is no file {brief(path)}: give the path of a"
            f" checkpoint, or {REFERENCE!r}, or leave it at null to train one"
        )
    return load_teacher(path), f"the file {brief(path)}"


def _reference(folder: Path) -> tuple[Teacher, str]:
    card = _card(folder / "teacher.json")
    path = folder / "weights" / f"{card.weights}.pt"
    network = load_teacher(path)
    if network.hash != card.weights:
        raise KdigError(
            f"{brief(path)} holds the weights {network.hash}, but its card is of {card.weights}: get"
            f" {brief(folder)} anew"
        )
    recipe = f"{card.recipe.epochs} epochs on {card.data_label}, {card.test_accuracy:.2f} % there"
    return network, f"the reference in {brief(folder)} ({recipe})"


def _card(path: Path) -> Card:
    try:
        return Card.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError:
        found = f"teacher is {REFERENCE!r}, but {brief(path)} is not there yet"
        raise KdigError(
            f"{found}: give the path of a checkpoint, or leave teacher at null to train one"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        named = ".".join(map(str, first["loc"])) or "the file"
        raise KdigError(f"{brief(path)} is no model card: {named}: {first['msg']}") from None


def keep_given(teacher: str, workspace: Workspace, data: Dataset) -> tuple[Teacher, str]:
    """`given_network`, written into the store, so that runs find its weights by their hash.

    Raises `KdigError` when it tells another number of classes apart than `data` has.
    """
    network, source = given_network(teacher)
    classes = network.net.get_submodule("classifier")[-1].out_features  # type: ignore[index]
    if classes != len(data.classes):
        raise KdigError(
            f"teacher {teacher!r} tells {classes} classes apart, but the data have"
            f" {len(data.classes)}: give one that was trained on these classes"
        )
    workspace.keep(network.net, network.mean, network.std, network.network, network.width)
    return network, source


def given_result(
    teacher: str, workspace: Workspace, data: Dataset, scoring: Scoring
) -> GivenTeacher:
    """The given teacher in the store, tried on the test images; one line says what it is."""
    network, source = keep_given(teacher, workspace, data)
    score = score_teacher(network.hash, data, workspace, scoring, cores()).epochs[-1]
    last = TestScore(score.loss, score.accuracy)
    parameters = count_parameters(network.net)
    known = (network.network, network.width, network.hash, parameters)
    print(
        f"teacher {network.hash}: {source}, {last.test_accuracy:.2f} % on the test images",
        flush=True,
    )
    return GivenTeacher(source, *known, last)


def keep_reference(result: Result, workspace: Workspace) -> Card:
    """Make the teacher of `result` the reference: its weights and its card.

    Raises `KdigError` when it was not scored on all test images.
    """
    if result.scoring != Scoring(every=result.scoring.every):
        raise KdigError("the reference has to be scored on all test images: set test_images to all")
    folder, teacher = teachers_file(REFERENCE).parent, workspace.load_weights(result.weights)
    accuracy = result.last.test_accuracy
    assert accuracy is not None
    card = Card(
        weights=result.weights,
        network=teacher.network,
        width=teacher.width,
        mean=tuple(teacher.mean),
        std=tuple(teacher.std),
        test_accuracy=accuracy,
        recipe=result.run.recipe,
        data_label=result.data_label,
        data=result.run.data,
        environment=result.environment,
    )
    name = Path("weights") / f"{result.weights}.pt"
    atomic_write(folder / name, lambda part: shutil.copyfile(workspace.folder / name, part))
    text = json.dumps(card.model_dump(mode="json"), indent=1) + "\n"
    atomic_write(
        folder / "teacher.json", lambda part: Path(part).write_text(text, encoding="utf-8")
    )
    return card


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    from kdig.study.notebooks import NOTEBOOKS  # which imports this module

    parser = Parser(
        prog="python -m kdig.study.teachers",
        description="Keep a profile's teacher as the reference.",
    )
    parser.add_argument("--profile", default="evidence")
    parser.add_argument("--root", default=None, help="folder of the images")
    options = parser.parse_args(arguments)

    def work() -> None:
        given = {name: value for name, value in vars(options).items() if value is not None}
        notebook = "02_teacher_and_signals"
        given |= {"test_images": "all", "teacher": "all"}
        settings = profile_settings(NOTEBOOKS[notebook], notebook, given)
        result = settings.teacher()
        assert isinstance(result, Result), "no teacher was given"
        print(f"kept as the reference: {keep_reference(result, settings.workspace).weights}")

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
