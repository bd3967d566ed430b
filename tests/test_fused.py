"""Engine `fused`: runs side by side come out as each alone, to rounding, and are stored like them."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from helpers import settings_of

from kdig import KdigError
from kdig.core import fused, runs, unfinished
from kdig.core.fused import Batch, Recorded, fit_together, groups, is_finite
from kdig.core.networks import build
from kdig.core.run import Scoring
from kdig.core.runs import execute
from kdig.core.store import Workspace
from kdig.core.unfinished import Unfinished
from kdig.study import cost

pytestmark = pytest.mark.filterwarnings("ignore:the teacher agrees")
# what runs side by side may differ in
WAYS = {
    "plain": {},
    "another seed": {"seed": 1},
    "kd": {"alpha": 0.5, "temperature": 3.0},
    "kd, other weights": {"alpha": 0.1, "temperature": 2.0, "seed": 2},
    "others' signals": {"alpha": 0.5, "temperature": 3.0, "pairing": "released"},
    "an overlay": {"probability": 0.5},
    "a control": {"probability": 0.5, "overlay": "grey"},
    "attention": {"gamma": 0.8},
    "attention, a mean": {"gamma": 50.0, "attention_reduction": "mean"},
    "smoothed": {"recipe": {"label_smoothing": 0.2}},
    "all of them": {"alpha": 0.3, "temperature": 2.0, "probability": 0.5, "gamma": 0.4, "seed": 3},
}


@pytest.fixture
def double():
    """Float64 for all that has no type of its own."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def make(make_run):
    """A run of `WAYS`, with whatever else is given to all of them."""

    def of(way, teacher, recipe=None, **common):
        own = dict(WAYS[way])
        recipe = {"schedule": "cosine", **(recipe or {}), **own.pop("recipe", {})}
        return make_run(teacher=teacher, recipe=recipe, **common | own)

    return of


def kept_teacher(workspace, network="s8"):
    net = build(network, 10, 0.25)
    return workspace.keep(net, [0.5] * 3, [0.25] * 3, network, 0.25)


def weights_of(workspace, result):
    return workspace.load_weights(result.weights).net.state_dict()


def both(tmp_path, make, ways, workers=32, every=1, **common):
    """The results of runs side by side and of each alone, with their stores."""
    found = []
    for engine in ("fused", "inline"):
        workspace = Workspace(tmp_path / engine)
        torch.manual_seed(7)
        teacher = kept_teacher(workspace, common.get("network", "s8"))
        specifications = [make(way, teacher, **common) for way in ways]
        scoring = Scoring(images=60, every=every)
        done = execute(specifications, workspace, engine, workers, scoring=scoring)
        found.append((workspace, done))
    return found


def assert_same(found, rtol, atol):
    (here, together), (there, apart) = found
    for one, other in zip(together, apart):
        assert one.run == other.run
        ours, theirs = weights_of(here, one), weights_of(there, other)
        for name, value in ours.items():
            torch.testing.assert_close(
                value, theirs[name], rtol=rtol, atol=atol,
                msg=lambda text, name=name, run=one.run: f"{run}: {name}: {text}",
            )  # fmt: skip


def curve(result):
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    return [[getattr(epoch, name) or 0.0 for name in names] for epoch in result.history]


@pytest.mark.parametrize(
    ("network", "ways"),
    [
        ("s8", WAYS),
        ("s5", ["plain", "all of them"]),
        ("resnet8", ["another seed", "all of them"]),
        ("fusednet", ["plain", "all of them"]),
    ],
    ids=["s8", "s5", "resnet8", "fusednet"],
)
def test_side_by_side_is_each_alone_in_float64(network, ways, tmp_path, make, double):
    found = both(tmp_path, make, ways, network=network, flip=True)
    assert_same(found, 1e-6, 1e-9)
    for one, other in zip(found[0][1], found[1][1]):
        torch.testing.assert_close(
            torch.tensor(curve(one)), torch.tensor(curve(other)), rtol=1e-6, atol=1e-9
        )
        assert one.predictions == other.predictions
    assert len({result.weights for result in found[0][1]}) == len(ways)


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "sgd", "schedule": "onecycle", "weight_decay": 1e-3, "learning_rate": 0.05},
        {"optimizer": "adamw", "schedule": "constant", "normalise": True, "bn_momentum": 0.2},
    ],
    ids=["sgd", "adamw"],
)
def test_every_recipe_is_each_alone_in_float64(recipe, tmp_path, make, double):
    ways = ["kd", "attention"]
    assert_same(both(tmp_path, make, ways, recipe=recipe, network="s7"), 1e-6, 1e-9)


def test_in_float32_they_agree_to_rounding(tmp_path, make):
    found = both(tmp_path, make, ["plain", "kd", "an overlay"], network="resnet8")
    assert_same(found, 1e-3, 1e-4)
    accuracies = [[r.last.test_accuracy for r in done] for _, done in found]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=2)


def test_a_share_and_its_validation_images_are_each_runs_own(tmp_path, make_run, double):
    scoring, results = Scoring(split="validation"), []
    for engine in ("fused", "inline"):
        workspace = Workspace(tmp_path / engine)
        some = [make_run(share=0.5, split_seed=i, seed=i) for i in (0, 1)]
        results.append((workspace, execute(some, workspace, engine, 2, scoring=scoring)))
    assert_same(results, 1e-6, 1e-9)
    ours, theirs = (torch.tensor([curve(r) for r in done]) for _, done in results)
    torch.testing.assert_close(ours, theirs)


def test_runs_are_stored_as_if_each_was_alone(tmp_path, make, capsys):
    (workspace, done), _ = both(tmp_path, make, ["plain", "kd"], every=2)
    assert "engine fused: 2 runs side by side in 1 groups of up to 32 (workers), 0 one" in (
        capsys.readouterr().out
    )
    for result in done:
        assert result.environment["engine"] == "fused"
        assert result.environment["side by side"] == "2"
        record = workspace.record(result.run)
        assert [epoch.test_accuracy for epoch in record.history] == [None, None]
        assert [epoch.test_accuracy is None for epoch in result.history] == [True, False]
        assert 0 < result.seconds < 60
    again = execute([r.run for r in done], workspace, "fused", scoring=done[0].scoring)
    assert again == done


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_group_that_was_killed_goes_on_to_the_same_result(epochs, tmp_path, make, monkeypatch):
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)
    keep, kept = Unfinished.keep, []

    def kill(self, *given):
        keep(self, *given)
        kept.append(self.path)
        if len(kept) == epochs:
            raise KeyboardInterrupt

    def trained(folder):
        workspace = Workspace(tmp_path / folder)
        torch.manual_seed(7)
        teacher = kept_teacher(workspace)
        recipe = {"epochs": 3, "schedule": "onecycle"}
        group = [make(way, teacher, recipe) for way in ("plain", "all of them")]
        return execute(group, workspace, "fused", 2, scoring=Scoring(images=60, every=2))

    whole = trained("whole")
    monkeypatch.setattr(Unfinished, "keep", kill)
    with pytest.raises(KeyboardInterrupt):
        trained("killed")
    monkeypatch.setattr(Unfinished, "keep", keep)
    for one, other in zip(trained("killed"), whole):
        assert (one.weights, curve(one), one.predictions) == (
            other.weights,
            curve(other),
            other.predictions,
        )
        assert one.environment["went on after epoch"] == str(epochs)
    assert not kept[0].exists()


def test_groups_hold_what_agrees_in_shape_only(make_run):
    same = [make_run(seed=seed) for seed in range(5)]
    others = [
        make_run(network="s7"), make_run(width=0.5), make_run(train_images=50), make_run(share=0.5),
        make_run(recipe={"epochs": 3}), make_run(recipe={"learning_rate": 0.5}),
        make_run(level=0), make_run(level=0, seed=1), make_run(network="mobilenet_v2"),
    ]  # fmt: skip
    assert groups([*same, *others], 8) == [same]
    assert groups(same, 2) == [same[:2], same[2:4]]
    assert groups(same, 1) == []


def test_what_cannot_be_grouped_is_trained_one_after_the_other(tmp_path, make_run, capsys):
    workspace = Workspace(tmp_path)
    some = [make_run(), make_run(seed=1), make_run(network="s7")]
    found = execute(some, workspace, "fused", 4)
    assert "2 runs side by side in 1 groups of up to 4 (workers), 1 one after the other" in (
        capsys.readouterr().out
    )
    assert ["engine" in result.environment for result in found] == [True, True, False]


def test_a_run_that_diverges_says_so_and_stops_no_other(tmp_path, make_run, capsys):
    workspace = Workspace(tmp_path)
    good, bad = make_run(), make_run(gamma=1e300, teacher=kept_teacher(workspace))
    with pytest.raises(KdigError, match=r"1 of 2 runs failed.*the loss is"):
        execute([good, bad], workspace, "fused", 2)
    kept = workspace.record(good)
    assert kept.environment["engine"] == "fused"
    assert workspace.record(bad) is None
    assert workspace.traceback(bad).exists()


def test_a_group_that_fails_is_trained_one_after_the_other(tmp_path, make_run, monkeypatch, capsys):
    def no_memory(*given):
        raise torch.OutOfMemoryError("no memory for so many")

    monkeypatch.setattr(fused, "fit_together", no_memory)
    found = execute([make_run(), make_run(seed=1)], Workspace(tmp_path), "fused", 2)
    assert len(found) == 2
    said = capsys.readouterr().out
    assert "2 runs cannot stand side by side: student s8" in said
    assert "no memory for so many; they are trained one after the other" in said


def test_training_ends_when_no_loss_is_finite(make_run, workspace, monkeypatch):
    scoring = Scoring(images=50)
    members = [
        fused._member(make_run(seed=seed, recipe={"epochs": 3}), workspace, scoring)
        for seed in (0, 1)
    ]
    for member in members:
        next(member.net.parameters()).data.fill_(float("nan"))
    fit_together(members, ((0.0,) * 3, (1.0,) * 3))
    assert [len(member.history) for member in members] == [1, 1]
    assert not is_finite(members[0].history)


def test_a_notebook_takes_the_engine_and_its_cost_is_that_of_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))  # where nothing is trained
    assert settings_of("04_ablation", engine="fused").engine == "fused"
    with pytest.raises(KdigError, match="engine"):
        settings_of("04_ablation", engine="fuse")
    assert set(runs._engines()) == {"inline", "local", "dask", "fused"}
    counted = []
    monkeypatch.setattr(
        cost, "estimate", lambda todo, at, workers, threads: counted.append(workers) or 1.0
    )
    for engine in ("fused", "local"):
        monkeypatch.setattr(
            cost,
            "profile_settings",
            lambda model, name, given, e=engine: settings_of(name, engine=e),
        )
        cost.profile_cost("demo", ["04_ablation"], None)
    assert counted == [1, 2]


def test_a_recorded_step_reads_each_batch_anew(monkeypatch):
    """What a graph does is done on a GPU only; which batches it gets is the same everywhere."""

    def step(batch):
        return batch.images.sum((1, 2)), batch.labels.sum(1)

    @contextmanager
    def beside(*given, **named):
        yield

    class Graph:
        """Does, when it is replayed, what was done while it was recorded."""

        def replay(self):
            for place, value in zip(recorded.found, step(recorded.read)):
                place.copy_(value)

    waits = SimpleNamespace(wait_stream=lambda other: None)
    for name, fake in {
        "Stream": lambda: waits, "current_stream": lambda: waits, "stream": beside,
        "graph": beside, "CUDAGraph": Graph,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    recorded, found = Recorded(step), []
    for number in range(7):
        batch = Batch(torch.full((2, 3, 4), float(number)), torch.ones(2, 3).long(), [None], [None])
        found.append(recorded(batch))
    assert [losses.tolist() for losses, _ in found] == [[12.0 * i] * 2 for i in range(7)]
    assert recorded.graph is not None
    small = Batch(torch.ones(2, 1, 4), torch.ones(2, 1).long(), [None], [None])
    assert recorded(small)[0].tolist() == [4.0, 4.0]


def test_records_are_json_that_says_how_they_were_made(tmp_path, make_run):
    workspace = Workspace(tmp_path)
    execute([make_run(), make_run(seed=1)], workspace, "fused", 2)
    for path in (tmp_path / "runs").glob("*.json"):
        assert json.loads(path.read_text())["environment"]["engine"] == "fused"
