"""The benchmarks run and compare like with like; how fast anything is, no test says."""

import functools
import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from kdig.attribution import autograd_gradient
from kdig.models import build
from kdig.runs import Workspace, train
from kdig.signals import Teacher


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs one script's `main` with arguments; returns a table that it has written."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    threads = torch.get_num_threads()

    def call(name, *arguments, table=None):
        for module in ("common", "roofline", name):
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        common = importlib.import_module("common")  # processes take seconds to start; here, contenders share them
        monkeypatch.setattr(common, "_pool", functools.cache(common._pool))
        importlib.import_module(name).main()
        return pd.read_csv(tmp_path / "benchmarks" / "tables" / f"{table or name}.csv")

    yield call
    torch.set_num_threads(threads)
    for module in ("common", "roofline", "attribution", "exported", "training", "growth", "overheads", "gpu"):
        sys.modules.pop(module, None)


def test_attribution_compares_with_captum_and_counts_steps(run, make_run, tmp_path):
    store = Workspace(tmp_path / "store")
    weights = train(make_run(level=0, recipe={"epochs": 1}), store).weights
    path = str(tmp_path / "store" / "weights" / f"{weights}.pt")
    arguments = ("--weights", path, "--size", "8", "--images", "2", "--steps", "4", "--rounds", "2", "--sizes", "4")
    table = run("attribution", *arguments, "--overlays", "2").set_index("contender")
    released, best, exported = "captum, as released", "captum, internal_batch_size 4", "gradient exported to OpenVINO (not in kdig)"
    floors = ["floor: torch's convolutions alone, 50 rows", "floor: as many multiplications in matrix products"]
    names = [released, best, f"{best}, kdig's allocator", "kdig, autograd, chunk 4", *floors]
    assert [name for name in table.index if name != exported] == names  # that one only where OpenVINO is installed
    assert table.ratio[released] == 1
    errors = pd.read_csv(tmp_path / "benchmarks" / "tables" / "attribution_errors.csv").set_index("of").relative_error
    assert errors["kdig, float64"] < errors["captum, float32"] / 10
    steps = pd.read_csv(tmp_path / "benchmarks" / "tables" / "attribution_steps.csv")
    assert steps.mean_levels.iloc[0] > steps.mean_levels.iloc[-1]


@pytest.mark.parametrize("architecture", ["paper", "resnet20"])
def test_the_exported_graph_is_the_gradient(run, architecture):
    exported = importlib.import_module("exported")
    torch.manual_seed(0)
    model = Teacher(build(0, 10, 0.25, architecture).double().eval(), [0.5] * 3, [0.25] * 3).folded
    x, y = torch.rand(5, 3, 8, 8).double(), torch.arange(5)
    weights = torch.nn.functional.one_hot(y, 10).double()
    graph, expected = exported.gradient_graph(model, x, weights), autograd_gradient(model, "logit")(x, y)
    assert (graph(x, weights) - expected).norm() < 1e-12 * expected.norm()


def test_training_takes_turns_with_the_conventional_loop(run, tmp_path):
    arguments = "--level 8 --size 8 --batch 4 --steps 2 --rounds 2 --seeds 2 --digits 20 --epochs 1"
    table = run("training", *arguments.split()).set_index("contender")
    names = ["conventional loop", "conventional loop, kdig's allocator", "kdig", "kdig, two runs at once"]
    assert list(table.index) == names
    assert table.ratio["conventional loop"] == 1
    ends = pd.read_csv(tmp_path / "benchmarks" / "tables" / "training_accuracy.csv").set_index("loop")
    assert (ends.n == 2).all()
    assert ends.difference["kdig"] == pytest.approx(ends["mean"]["kdig"] - ends["mean"]["conventional loop"], abs=0.002)


def test_the_conventional_set_is_torchvisions_over_the_given_pictures(run):
    training = importlib.import_module("training")
    images, labels = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8), torch.arange(8)
    loader = training.cifar10(images, labels)
    picture, label = loader[3]
    assert label == 3
    assert picture.shape == (3, 8, 8)
    assert 0 <= picture.min() <= picture.max() <= 1


def test_the_gpu_benchmark_runs_on_a_cpu_and_gives_the_cost_of_the_papers_runs(run, tmp_path):
    arguments = (
        "--seeds 2 --processes 1 --batch 4 --steps 1 --size 8 --rounds 1 --images 16 --ig-steps 2 --block 8 --level 8 --device cpu"
    )
    table = run("gpu", *arguments.split(), table="gpu_training").set_index("contender")
    kinds = [f"2 seeds, {name}{how}" for name in ("float32", "bfloat16") for how in ("", ", in turns")]
    assert list(table.index) == ["conventional loop", "kdig, one seed", "1 processes", *kinds]
    folder = tmp_path / "benchmarks" / "tables"
    cost = pd.read_csv(folder / "gpu_monte_carlo.csv")
    assert (cost.hours * cost["images/s"] * 3600).to_numpy() == pytest.approx(240 * 100 * 40_000, rel=0.01)
    assert pd.read_csv(folder / "gpu_maps.csv").pictures[0] == 16
    roofline = pd.read_csv(folder / "roofline.csv").set_index("what").value
    assert (roofline > 0).all()
