"""A training that was killed goes on where it was, to the same result."""

import pytest
import torch

from kdig import KdigError
from kdig.core import train as training_of_runs
from kdig.core import unfinished
from kdig.core.dataset import IGDataset
from kdig.core.environment import environment
from kdig.core.losses import DistillationLoss
from kdig.core.networks import build, state_hash
from kdig.core.run import Scoring
from kdig.core.train import stamp, train
from kdig.core.training import Recipe, fit
from kdig.core.unfinished import Unfinished


class Killed(Exception):
    """Stands for a signal."""


@pytest.fixture
def always(monkeypatch):
    """A file is written after each epoch."""
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)


def kill_after(epoch):
    def check(row):
        if row.epoch == epoch:
            raise Killed

    return check


RECIPES = {
    "adam": {"schedule": "onecycle", "learning_rate": 0.01},
    "adamw": {"schedule": "constant", "optimizer": "adamw", "weight_decay": 0.01},
    "sgd": {"schedule": "cosine", "optimizer": "sgd", "learning_rate": 0.1},
}


def fitted(digits, settings, file=None, killed_after=0):
    torch.manual_seed(0)
    net = build("mobilenet_v2", 10, 0.1)  # has dropout, which draws in every step
    recipe = Recipe(epochs=3, batch_size=60, normalise=False, **settings)
    part = digits.train.select(torch.arange(120))
    settings = {"on_epoch": kill_after(killed_after), "unfinished": file}
    history = fit(net, IGDataset(part), digits.test, DistillationLoss(), recipe, **settings)
    return state_hash(net), [row.model_dump(exclude={"seconds"}) for row in history]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("epoch", [1, 2])
def test_the_result_is_the_same_bit_for_bit(digits, tmp_path, always, name, epoch):
    whole = fitted(digits, RECIPES[name])
    with pytest.raises(Killed):
        fitted(digits, RECIPES[name], Unfinished(tmp_path / "a.pt", {}), epoch)
    torch.rand(7)  # another process has drawn something else
    file = Unfinished(tmp_path / "a.pt", {})
    assert fitted(digits, RECIPES[name], file) == whole
    assert file.epochs == epoch


def test_nothing_is_written_before_its_time(digits, tmp_path):
    fitted(digits, RECIPES["sgd"], Unfinished(tmp_path / "a.pt", {}))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not a file of torch"])
def test_a_file_that_cannot_be_read_is_said(digits, tmp_path, capsys, content):
    (tmp_path / "a.pt").write_bytes(content)
    file = Unfinished(tmp_path / "a.pt", {})
    assert fitted(digits, RECIPES["sgd"], file) == fitted(digits, RECIPES["sgd"])
    assert file.epochs == 0
    assert "a.pt: the training begins anew" in capsys.readouterr().out


def files(workspace):
    return list((workspace.folder / "cache" / "unfinished").glob("*"))


@pytest.fixture
def killed(make_run, workspace, always, monkeypatch):
    """A run whose process was killed when all of its epochs were done, and what it would have given."""
    run = make_run()

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training_of_runs, "predict", kill)
        with pytest.raises(KeyboardInterrupt):
            train(run, workspace)
    assert len(files(workspace)) == 1
    monkeypatch.setattr(unfinished, "SECONDS", 60.0)
    return run


def test_a_run_goes_on_and_says_so(killed, workspace, tmp_path, monkeypatch):
    monkeypatch.setattr("kdig.core.training._train_epoch", None)  # no epoch is trained again
    result = train(killed, workspace)
    assert result.environment["went on after epoch"] == "2"
    assert result.seconds >= sum(row.seconds for row in result.history)
    assert not files(workspace)


def test_a_run_that_goes_on_gives_what_it_would_have_given(killed, workspace, tmp_path):
    other = type(workspace)(tmp_path / "other", workspace.root)
    assert train(killed, workspace).weights == train(killed, other).weights


def test_a_training_goes_on_where_it_gives_the_same_bits(make_run):
    """In another commit, and not with another torch or other kernels."""
    made = environment("cpu", 1)
    decides = set(made) - {"git", "lock"}
    assert {"torch", "kernels", "device", "threads"} <= decides
    assert set(stamp(made, Scoring())) == decides | {"scored every"}


@pytest.mark.parametrize("other", ["threads", "scoring"])
def test_a_training_under_other_conditions_begins_anew(killed, workspace, other):
    threads, scoring = (2, Scoring()) if other == "threads" else (1, Scoring(every=2))
    result = train(killed, workspace, scoring, threads)
    assert "went on after epoch" not in result.environment
    assert len(result.history) == 2


def test_a_loss_that_is_not_finite_is_not_kept(digits, tmp_path, always):
    settings = {"optimizer": "sgd", "learning_rate": 1e30}
    with pytest.raises(KdigError, match="the loss is"):
        fitted(digits, settings, Unfinished(tmp_path / "a.pt", {}))
    assert fitted(digits, RECIPES["sgd"], Unfinished(tmp_path / "a.pt", {})) == fitted(
        digits, RECIPES["sgd"]
    )
