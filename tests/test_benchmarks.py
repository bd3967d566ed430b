"""The benchmarks run and compare like with like; how fast anything is, no test says."""

import functools
import importlib
import os
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from kdig.core.environment import cores
from kdig.core.networks import build
from kdig.core.signals import Teacher
from kdig.core.store import Workspace
from kdig.core.train import train
from kdig.measure import latency


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
        common = importlib.import_module(
            "common"
        )  # processes take seconds to start; here, contenders share them
        monkeypatch.setattr(common, "_pool", functools.cache(common._pool))
        monkeypatch.setattr(common.Apart, "close", lambda self: None)
        importlib.import_module(name).main()
        return pd.read_csv(tmp_path / "benchmarks" / "tables" / f"{table or name}.csv")

    yield call
    torch.set_num_threads(threads)
    for module in ("common", "roofline", "attribution", "training", "growth", "overheads", "gpu"):
        sys.modules.pop(module, None)


def test_attribution_compares_with_captum_and_counts_steps(run, make_run, tmp_path):
    store = Workspace(tmp_path / "store")
    weights = train(make_run(level=0, recipe={"epochs": 1}), store).weights
    path = str(tmp_path / "store" / "weights" / f"{weights}.pt")
    arguments = (
        "--weights",
        path,
        "--size",
        "8",
        "--images",
        "2",
        "--steps",
        "4",
        "--rounds",
        "2",
        "--sizes",
        "4",
    )
    table = run("attribution", *arguments, "--overlays", "2").set_index("contender")
    released, best = "captum, as released", "captum, internal_batch_size 4"
    floors = [
        "floor: torch's convolutions alone, 4 rows",
        "floor: as many multiplications in matrix products",
    ]
    names = [released, best, f"{best}, kdig's network and settings", "kdig, chunk 4", *floors]
    assert list(table.index) == names
    assert (table.seconds > 0).all()
    assert table.ratio[released] == 1
    errors = (
        pd.read_csv(tmp_path / "benchmarks" / "tables" / "attribution_errors.csv")
        .set_index("of")
        .relative_error
    )
    assert errors["kdig, float64"] < errors["captum, float32"] / 10
    steps = pd.read_csv(tmp_path / "benchmarks" / "tables" / "attribution_steps.csv")
    assert steps.mean_levels.iloc[0] > steps.mean_levels.iloc[-1]


class Operations(TorchDispatchMode):
    """Counts as torch's FlopCounterMode does, whose hooks on modules stop `torch.autograd.grad`."""

    total = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if operator._overloadpacket in flop_registry:
            self.total += flop_registry[operator._overloadpacket](
                *args, **(kwargs or {}), out_val=result
            )
        return result


def test_contenders_for_attributions_do_the_same_work(run):
    bench = importlib.import_module("attribution")
    teacher = Teacher(build("mobilenet_v2", 10, 0.25).eval(), [0.5] * 3, [0.25] * 3)
    x, y = torch.rand(2, 3, 8, 8), torch.arange(2)
    calls = {
        "released": bench.captum(teacher, x, y, 6, None),
        "sized": bench.captum(teacher, x, y, 6, 4),
        "prepared": bench.prepared(teacher, x, y, 6, 4),
        "kdig": bench.ours(teacher, x, y, 6, 5),
        "convolutions": bench.convolutions(teacher, x, 6, 5),
        "products": bench.products(teacher, x, 6, 16),
    }
    flops = {}
    for name, call in calls.items():
        with Operations() as counter:
            call()
        flops[name] = counter.total
    expected = (
        2 * 2 * 12 * latency.macs(teacher.net, 8)
    )  # two operations each, forward and back, twelve rows
    assert {flops[name] for name in ("released", "sized", "prepared", "kdig")} == {expected}
    assert expected - flops["convolutions"] == 2 * 2 * 12 * 1280 * 10  # the linear layer
    assert flops["products"] == pytest.approx(expected, abs=2 * 16**3)


def test_tuned_processes_have_the_allocators_settings_and_the_others_have_not(run, monkeypatch):
    common = importlib.import_module("common")
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "7")
    for tuned, expected in ((True, "0"), (False, None)):
        with common._pool(tuned) as pool:
            assert pool.submit(os.getenv, "MALLOC_MMAP_MAX_").result() == expected


def test_training_takes_turns_with_the_conventional_loop(run, tmp_path):
    arguments = "--level 8 --size 8 --batch 4 --steps 2 --rounds 2 --seeds 2 --digits 20 --epochs 1"
    table = run("training", *arguments.split()).set_index("contender")
    others = [
        f"conventional loop, {how}"
        for how in (f"{cores()} loader workers", "kdig's settings", "two at once")
    ]
    assert list(table.index) == ["conventional loop", *others, "kdig", "kdig, two at once"]
    assert table.ratio["conventional loop"] == 1
    ends = pd.read_csv(tmp_path / "benchmarks" / "tables" / "training_accuracy.csv").set_index(
        "loop"
    )
    assert (ends.n == 2).all()
    assert ends.difference["kdig"] == pytest.approx(
        ends["mean"]["kdig"] - ends["mean"]["conventional loop"], abs=0.002
    )


def test_the_conventional_set_is_torchvisions_over_the_given_pictures(run):
    training = importlib.import_module("training")
    images, labels = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8), torch.arange(8)
    loader = training.cifar10(images, labels)
    picture, label = loader[3]
    assert label == 3
    assert picture.shape == (3, 8, 8)
    assert 0 <= picture.min() <= picture.max() <= 1


def test_the_gpu_benchmark_runs_on_a_cpu_and_gives_the_cost_of_the_papers_runs(
    run, monkeypatch, tmp_path
):
    monkeypatch.setattr(
        torch.backends.cudnn, "benchmark", False
    )  # the script sets both, for its process
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    arguments = (
        "--seeds 2 --processes 1 --workers --batch 4 --steps 1 --size 8 --rounds 1 --images 16"
        " --ig-steps 2 --block 8 --level 8 --device cpu"
    )
    table = run("gpu", *arguments.split(), table="gpu_training").set_index("contender")
    kinds = [
        f"2 seeds, {name}{how}" for name in ("float32", "bfloat16") for how in ("", ", in turns")
    ]
    assert list(table.index) == ["conventional loop", "kdig, one seed", "1 processes", *kinds]
    folder = tmp_path / "benchmarks" / "tables"
    cost = pd.read_csv(folder / "gpu_monte_carlo.csv")
    assert (cost.hours * cost["images/s"] * 3600).to_numpy() == pytest.approx(
        240 * 100 * 40_000, rel=0.01
    )
    assert pd.read_csv(folder / "gpu_maps.csv").pictures[0] == 16
    roofline = pd.read_csv(folder / "roofline.csv").set_index("kind")
    assert (roofline > 0).all(axis=None)
    by_memory = roofline.bytes_per_second / roofline.bytes_an_image
    assert by_memory["float32"] == pytest.approx(
        roofline.images_per_second_by_memory["float32"], rel=0.01
    )


def flat(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_recorded_step_is_the_step(run):
    gpu = importlib.import_module("gpu")
    images, labels = (
        torch.randint(256, (32, 3, 16, 16), dtype=torch.uint8).cuda(),
        torch.randint(10, (32,)).cuda(),
    )
    plain, other = (gpu.Seeds(6, range(2), images, labels, 8) for _ in range(2))
    before = flat(plain.net)
    plan = plain.draw(3, torch.Generator().manual_seed(0))
    plain.drawn.copy_(plan[0])
    other.drawn.copy_(plan[0])
    replay = other.recorded()
    for _ in range(3):  # what recording does to warm up
        plain.step()
    for drawn in plan:
        plain.drawn.copy_(drawn)
        other.drawn.copy_(drawn)
        plain.step()
        replay()
    torch.cuda.synchronize()
    assert (flat(plain.net) - flat(other.net)).norm() < 0.1 * (flat(plain.net) - before).norm()


def test_growth_is_one_when_time_goes_with_the_work(run, monkeypatch):
    growth = importlib.import_module("growth")
    for name, seconds in (("steps", [[1.0, 2.0, 4.0]]), ("workers", [[4.0, 2.0, 1.0]])):
        monkeypatch.setattr(
            growth,
            "in_turns",
            lambda calls, rounds, seconds=seconds: pd.DataFrame(seconds, columns=list(calls)),
        )
        assert list(growth.table(name, dict.fromkeys([1, 2, 4], print), 1).growth[1:]) == [1, 1]


def test_growth_measures_each_kind(run):
    growth = importlib.import_module("growth")
    kinds = {
        "pictures": growth.by_images([20, 40]),
        "steps": growth.by_steps([1, 2]),
        "runs": growth.by_runs([1, 2]),
    }
    for name, calls in kinds.items():
        table = growth.table(name, calls, 1)
        assert list(table.number) == list(calls)
        assert (table.seconds > 0).all()
    assert growth.peak_memory(1) > 100


def test_overheads_open_a_cache_and_want_a_finished_profile(run, tmp_path):
    overheads = importlib.import_module("overheads")
    overheads.cache(1, 100, 4)
    cache = pd.read_csv(tmp_path / "benchmarks" / "tables" / "cache.csv")
    assert list(cache.contender) == ["np.load, memory-mapped", "np.load, whole", "kdig"]
    with pytest.raises(SystemExit, match="'none' has not been run"):
        run("overheads", "--profile", "none")
