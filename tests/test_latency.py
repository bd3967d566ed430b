"""Counts against numbers worked out by hand.

Timing against a clock of our own: no assertion depends on this machine.
"""

import os
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from kdig import KdigError
from kdig.core.networks import LEVELS, build, of_level
from kdig.core.training import Recipe, make_optimizer
from kdig.measure import latency, stats
from kdig.paper import published


def test_macs_of_a_convolution_are_places_times_weights():
    # 6x6 outputs of a 3x3 kernel over 8x8 pictures; two groups of 2 channels would halve the input
    # channels
    assert latency.macs(nn.Conv2d(3, 4, 3), 8) == 6 * 6 * 4 * 3 * 9
    depthwise = nn.Sequential(
        nn.Conv2d(3, 6, 1, bias=False), nn.Conv2d(6, 6, 3, padding=1, groups=6, stride=2)
    )
    assert latency.macs(depthwise, 8) == 8 * 8 * 6 * 3 + 4 * 4 * 6 * 9
    assert latency.macs(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 10)), 4) == 480


@pytest.mark.parametrize("level", [0, *LEVELS])
def test_macs_of_the_papers_networks_are_those_counted_elsewhere(level):
    """The published table's column was computed by another program."""
    assert (
        latency.macs(build(of_level(level), 10, 1.0), 32)
        == published("s5_architectures").macs_32x32_recomputed[level]
    )


def test_bytes_of_parameters_and_buffers():
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    weights, statistics = 3 * 5 * 9 + 5 + 2 * 5, 2 * 5
    assert latency.parameter_bytes(net) == 4 * weights
    assert (
        latency.parameter_bytes(net, buffers=True) == 4 * (weights + statistics) + 8
    )  # and a 64-bit counter
    assert latency.parameter_bytes(net.to(torch.bfloat16)) == 2 * weights


def test_peak_of_activations_is_that_worked_out_by_hand():
    pointwise = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 4, 1))
    # while the second layer works, the picture (3 channels), its input (16) and its output (8) are
    # held; then 16 is let go
    assert latency.activation_bytes(pointwise, 8) == 4 * 64 * (3 + 16 + 8)
    assert latency.activation_bytes(pointwise, 8, batch=5) == 5 * latency.activation_bytes(
        pointwise, 8
    )
    # in place: no second copy
    assert latency.activation_bytes(
        nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(inplace=True)), 8
    ) == 4 * 64 * (3 + 16)
    assert latency.activation_bytes(nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU()), 8) == 4 * 64 * (
        3 + 16 + 16
    )


def test_size_table_starts_at_the_teacher():
    table = latency.size_table([2, 8], 8, 0.25, 10)
    assert table.level.tolist() == [0, 2, 8]
    assert (table.factor[0], table.mac_ratio[0]) == (1, 1)
    assert table.factor.is_monotonic_increasing and table.activations_kib.gt(0).all()  # noqa: PT018


@pytest.fixture
def calls():
    seen = []
    return seen, {name: lambda name=name: seen.append(name) for name in "abc"}


def test_networks_take_turns(calls):
    seen, named = calls
    times = latency.interleaved(named, 40, seed=1)
    rounds = np.array(seen).reshape(40, 3)
    assert all(sorted(line) == ["a", "b", "c"] for line in rounds)
    assert {name: len(values) for name, values in times.items()} == {"a": 40, "b": 40, "c": 40}
    # each comes first, and last, in some rounds: no network always follows the same one
    assert set(rounds[:, 0]) == set(rounds[:, 2]) == {"a", "b", "c"}


def test_order_of_turns_belongs_to_the_seed(calls):
    seen, named = calls
    for seed in (1, 1, 2):
        latency.interleaved(named, 10, seed)
    first, again, other = np.array(seen).reshape(3, 30).tolist()
    assert first == again != other


def test_each_time_is_that_of_its_own_call(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: clock[0])

    def takes(seconds):
        def call():
            clock[0] += seconds

        return call

    times = latency.interleaved({0: takes(8.0), 1: takes(2.0)}, 7)
    assert times == {0: [8.0] * 7, 1: [2.0] * 7}
    frame = (
        pd.DataFrame(times)
        .rename_axis("round")
        .reset_index()
        .melt("round", var_name="level", value_name="seconds")
    )
    assert latency.with_speedup(frame, ["round"]).groupby("level").speedup.unique().to_dict() == {
        0: [1.0],
        1: [4.0],
    }


def test_speedups_are_taken_within_a_round_and_a_group():
    """Both networks slow down together: the ratio does not move, though the times do."""
    drift = np.array([1.0, 2.0, 3.0, 5.0, 8.0, 13.0])
    rows = [
        {"batch": batch, "round": i, "level": level, "seconds": d * (batch if level == 0 else 1)}
        for batch in (1, 4)
        for i, d in enumerate(drift)
        for level in (0, 3)
    ]
    times = pd.DataFrame(rows).sample(frac=1, random_state=0)
    table = stats.medians(
        latency.with_speedup(times, ["batch", "round"]), ["batch", "level"], "speedup"
    )
    student = table[table.level == 3].set_index("batch")
    assert student[["median", "low", "high"]].loc[4].tolist() == [4, 4, 4]
    assert student[["median", "low", "high"]].loc[1].tolist() == [1, 1, 1]
    assert (student.n == 6).all()


def test_warm_times_hold_every_network_in_every_round():
    models = {level: build(of_level(level), 10, 0.25) for level in (7, 8)}
    times = latency.warm(models, torch.rand(2, 3, 8, 8), repeats=6)
    assert times.groupby("level").size().to_dict() == {7: 6, 8: 6}
    assert times.seconds.gt(0).all()


def test_variants_compute_the_same_function():
    net, images = build("s7", 10, 0.25).eval(), torch.rand(2, 3, 8, 8)
    seen = []
    net.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    for variant in ("plain", "channels_last", "bfloat16"):
        latency.forward_call(net, images, variant)()
    (plain, expected), (last, same), (half, near) = seen
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert half.dtype == torch.bfloat16
    assert (
        plain.dtype == next(net.parameters()).dtype == torch.float32
    )  # the network that was given is left as it was
    assert torch.allclose(same, expected, atol=1e-5)
    assert torch.allclose(near.float(), expected, atol=0.1)


def test_variant_that_cannot_be_run_is_one_line_and_the_rest_goes_on(monkeypatch):
    def refuses(*arguments, **options):
        raise RuntimeError("no compiler\non this machine")

    monkeypatch.setattr(torch, "compile", refuses)
    times, missing = latency.warm_variants(
        {8: build("s8", 10, 0.25)}, 8, [1, 2], ["plain", "compiled"], 6
    )
    assert missing == ["compiled: cannot be run here (RuntimeError: no compiler on this machine)"]
    assert times[["variant", "batch"]].drop_duplicates().values.tolist() == [
        ["plain", 1],
        ["plain", 2],
    ]


def with_it(model, *, fullgraph=False, isolate_recompiles=False):
    return lambda images: None


def without_it(model, *, fullgraph=False):
    return lambda images: None


@pytest.mark.parametrize(
    ("function", "options"),
    [(with_it, {"fullgraph": True, "isolate_recompiles": True}), (without_it, {"fullgraph": True})],
)
def test_compilation_is_asked_only_for_what_this_torch_knows(monkeypatch, function, options):
    monkeypatch.setattr(torch, "compile", function)
    assert latency._compile_options() == options
    latency.forward_call(build("s8", 10, 0.25), torch.rand(1, 3, 8, 8), "compiled")()


def test_timed_training_step_is_that_of_training(monkeypatch):
    """Fused Adam on a copy: its first step moves every weight by the learning rate against the
    gradient's sign.
    """
    net, images, seen = build("s8", 10, 0.25), torch.rand(4, 3, 8, 8), []

    def watched(model, recipe):
        seen.extend([model, make_optimizer(model, recipe)])
        return seen[1]

    monkeypatch.setattr(latency, "make_optimizer", watched)
    step = latency.training_call(net, images, Recipe(learning_rate=0.01))
    step()
    assert seen[1].defaults["fused"]
    nn.functional.cross_entropy(net.train()(images), torch.zeros(4, dtype=torch.int64)).backward()
    for given, moved in zip(net.parameters(), seen[0].parameters()):
        clear = given.grad.abs() > 1e-4
        assert torch.allclose((moved - given)[clear], -0.01 * given.grad.sign()[clear], atol=1e-5)


def test_training_steps_take_turns():
    times = latency.training(
        {level: build(of_level(level), 10, 0.25) for level in (7, 8)},
        torch.rand(2, 3, 8, 8),
        Recipe(),
        repeats=6,
    )
    assert times.groupby("level")["round"].apply(list).to_dict() == {7: [*range(6)], 8: [*range(6)]}
    assert times.seconds.gt(0).all()


def test_first_passes_come_in_the_given_order_and_then_the_second():
    rows = latency.first_passes([8, 7], 8, "cpu", 1)
    assert [(row["turn"], row["level"]) for row in rows] == [(1, 8), (1, 7), (2, 8), (2, 7)]
    assert all(row["seconds"] > 0 for row in rows)


def identity(levels, image_size, device, threads):
    row = {
        "turn": 1,
        "level": levels[0],
        "seconds": 0.5,
        "pid": os.getpid(),
        "given": (image_size, device, threads),
    }
    return [row | {"started": time.monotonic()}]


def test_every_cold_pass_has_a_process_of_its_own_and_orders_take_turns(monkeypatch):
    """Were all processes of one order run before those of the other, drift of the machine would be
    taken for the order's.
    """
    monkeypatch.setattr(latency, "first_passes", identity)
    times = latency.cold({"up": [0, 3], "down": [3, 0]}, repeats=3, image_size=8, threads=2)
    assert times.groupby("order").process.apply(list).to_dict() == {
        "up": [0, 1, 2],
        "down": [0, 1, 2],
    }
    assert len({*times.pid, os.getpid()}) == 7
    assert times.given.tolist() == [(8, "cpu", 2)] * 6
    assert times[times.order == "down"].level.tolist() == [3] * 3
    assert times.sort_values("started").order.tolist() == ["up", "down", "down", "up", "up", "down"]


def fails(*arguments):
    raise ValueError("no such\ndevice")


def test_process_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(latency, "first_passes", fails)
    with pytest.raises(KdigError, match="in a fresh process failed: no such device"):
        latency.cold({"teacher first": [0, 8]}, repeats=1)
