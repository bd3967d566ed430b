"""Carry runs that an earlier version has stored over to this one, without training them again.

`python -m kdig.core.convert outputs/lite` rewrites the records and weights in a profile's folder.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from kdig import KdigError
from kdig.core.files import atomic_write
from kdig.core.networks import of_level
from kdig.core.run import Run, Scoring
from kdig.core.signals import SignalSettings
from kdig.core.store import EpochScore, Record, Score, Workspace
from kdig.core.training import Epoch

_SIGNALS = ("pairing", "overlay", "baseline", "rule", "steps", "output")
_SAME: tuple[str, ...] = (
    "dataset",
    "data",
    "image_size",
    "train_images",
    "share",
    "split_seed",
    "width",
)
_SAME = (*_SAME, "teacher", "padding", "flip", "seed", "alpha", "temperature", "probability")
_SAME = (*_SAME, "gamma", "attention_reduction")


def convert(folder: Path) -> list[str]:
    """Rewrite every record and every file of weights in `folder` that is of the earlier form.

    Returns a line for each record that is left out: two earlier runs that differ only in what they
    were tried on are one now, and only networks that are equal can share a record. The file of such
    a record is kept under `superseded`.
    """
    workspace, left_out = Workspace(folder), []
    for path, content in _earlier(folder):
        record, score = _record(content), _score(content)
        known = workspace.record(record.run)
        if known and known.weights != record.weights:
            left_out.append(f"{path.stem}: another network has its place, {record.run.key}")
            place = folder / "superseded" / path.name
            place.parent.mkdir(exist_ok=True)
            path.rename(place)
            continue
        workspace.save_score(record.run, score)
        workspace.save_record(record)
        path.unlink()
    for path in sorted((folder / "weights").glob("*.pt")):
        _convert_weights(path)
    return left_out


def _earlier(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Records of the earlier form; the later ones among them, which name their kernels, first."""
    paths = sorted((folder / "runs").glob("*.json"))
    found = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    earlier = [(path, content) for path, content in found if "last" in content]
    return sorted(earlier, key=lambda one: "kernels" not in one[1]["environment"])


def network_of(values: dict[str, Any]) -> str:
    """The name of a network that was given by `level` and `architecture`."""
    architecture: str = values.get("architecture", "paper")
    return of_level(values.get("level", 2)) if architecture == "paper" else architecture


def _run(old: dict[str, Any]) -> Run:
    signals = {name: old[name] for name in _SIGNALS if name in old}
    recipe = {name: value for name, value in old["recipe"].items() if name != "evaluate_every"}
    paper = old.get("architecture", "paper") == "paper"
    role = "teacher" if paper and old.get("level") == 0 else "student"
    same = {name: old[name] for name in _SAME if name in old}
    own = {"network": network_of(old), "role": role, "recipe": recipe}
    return Run(**same, **own, signals=SignalSettings(**signals))


def _record(content: dict[str, Any]) -> Record:
    unscored = {"test_loss": None, "test_accuracy": None}
    history = [Epoch(**{**epoch, **unscored}) for epoch in content["history"]]
    names = ("parameters", "weights", "data_label", "seconds", "environment")
    same = {name: content[name] for name in names}
    return Record(run=_run(content["run"]), history=history, **same)


def _score(content: dict[str, Any]) -> Score:
    old = content["run"]
    scored = [epoch for epoch in content["history"] if epoch["test_accuracy"] is not None]
    rows = ((e["epoch"], e["test_loss"], e["test_accuracy"]) for e in scored)
    split = old.get("scored", "test")
    return Score(
        weights=content["weights"],
        scoring=Scoring(
            split=split,
            images=old.get("test_images") if split == "test" else None,
            every=old["recipe"].get("evaluate_every", 1),
        ),
        epochs=[EpochScore(epoch=epoch, loss=loss, accuracy=right) for epoch, loss, right in rows],
        predictions=content["predictions"],
    )


def _convert_weights(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    if "level" in content:
        content["network"] = network_of(content)
        content.pop("level"), content.pop("architecture", None)
        atomic_write(path, lambda part: torch.save(content, part))


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    try:
        for folder in map(Path, arguments):
            if not (folder / "runs").is_dir():
                raise KdigError(f"{folder} holds no runs: give a folder such as outputs/lite")
            print("\n".join([f"{folder}: carried over", *convert(folder)]))
    except KdigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
