"""The experiments of `docs/evidence.md` as runs.

`python -m kdig.study.evidence --root FOLDER --teacher CHECKPOINT` trains what is left of part B into
`outputs/evidence`. It goes on from the records in `outputs/reference/evidence`.
"""

import argparse
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from kdig import KdigError
from kdig.core.networks import build
from kdig.core.run import Run, Scoring
from kdig.core.runs import execute
from kdig.core.store import Workspace
from kdig.core.training import Recipe
from kdig.paper.recompute import matching_smoothing, stationary_gap
from kdig.paper.released import load_released_checkpoint
from kdig.study.command import exit_code
from kdig.study.settings import outputs_of, project_root

TRAINING_IMAGES = 10_000
TEMPERATURE = 2.5
ALPHAS = (0.01, 0.1, 0.5)
NOT_NORMALISED = ((0.0,) * 3, (1.0,) * 3)
# that of the controls: smoothing, self-distillation, untrained teacher
STRONGEST = max(ALPHAS)


# Adam, inputs not normalised
RECIPE = Recipe(learning_rate=2e-3, schedule="onecycle", epochs=10)
SCORING = Scoring(every=10)


def arms(
    seed: int, data: str, teacher: str, untrained: str, own: str | None = None
) -> dict[str, Run]:
    """Arm -> run of part B for one block.

    `data` is the data set's fingerprint; `teacher`, `untrained` and `own` (this block's plain
    network) are hashes of weights. As long as `own` is not trained, the arm `self` is left out.
    """
    common = {
        "dataset": "cifar10",
        "data": data,
        "train_images": TRAINING_IMAGES,
        "seed": seed,
        "recipe": RECIPE,
    }
    smoothing = round(matching_smoothing(stationary_gap(STRONGEST, TEMPERATURE, 1 / 10)), 4)

    def distilled(source: str, alpha: float, pairing: str = "static") -> Run:
        return Run(
            **{
                **common,
                "alpha": alpha,
                "temperature": TEMPERATURE,
                "signals": {"pairing": pairing},
                "teacher": source,
            }
        )

    smoothed = RECIPE.model_copy(update={"label_smoothing": smoothing})
    runs = {"plain": Run(**common), "smoothing": Run(**{**common, "recipe": smoothed})}
    for alpha in ALPHAS:
        runs |= {
            f"own-{alpha}": distilled(teacher, alpha),
            f"other-{alpha}": distilled(teacher, alpha, "released"),
        }
    runs |= {f"untrained-{STRONGEST}": distilled(untrained, STRONGEST)}
    return runs | ({f"self-{STRONGEST}": distilled(own, STRONGEST)} if own else {})


def initial_network() -> nn.Module:
    """The untrained teacher: a student of level 2 with initial weights, in eval mode; the same in
    every block.
    """
    with torch.random.fork_rng():
        torch.manual_seed(2**31)
        return build("s2").eval()


def train_blocks(workspace: Workspace, checkpoint: Path, blocks: int, workers: int) -> None:
    """Train what is missing of part B, block after block.

    Raises `KdigError` for a missing checkpoint or other images.
    """
    data = workspace.dataset("cifar10", 32)
    if not data.is_cifar10:
        raise KdigError(f"part B is defined on CIFAR-10, but {workspace.root} holds {data.label}")
    teacher = workspace.keep(load_released_checkpoint(checkpoint), *NOT_NORMALISED, "s2")
    untrained = workspace.keep(initial_network(), *NOT_NORMALISED, "s2")
    for seed in range(blocks):
        first = arms(seed, data.fingerprint, teacher, untrained)
        _train(first.values(), workspace, workers)
        plain = workspace.record(first["plain"])
        assert plain is not None, "it has just been trained"
        _train(
            arms(seed, data.fingerprint, teacher, untrained, plain.weights).values(),
            workspace,
            workers,
        )


def _train(runs: Iterable[Run], workspace: Workspace, workers: int) -> None:
    """Those of `runs` without a record, in the order of their keys.

    One whose record alone is kept is not trained again.
    """
    missing = sorted(
        (run for run in runs if workspace.record(run) is None), key=lambda run: run.key
    )
    execute(missing, workspace, "local" if workers > 1 else "inline", workers, scoring=SCORING)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m kdig.study.evidence", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("data"),
        help="folder that holds cifar10/train and cifar10/test",
    )
    parser.add_argument(
        "--teacher", type=Path, required=True, help="the released plain student's checkpoint"
    )
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)

    def work() -> None:
        workspace = Workspace(outputs_of("evidence").folder, options.root.absolute())
        if (kept := project_root() / "outputs" / "reference" / "evidence").is_dir():
            shutil.copytree(kept, workspace.folder, dirs_exist_ok=True)
        train_blocks(workspace, options.teacher, options.blocks, options.workers)

    return exit_code(work)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
