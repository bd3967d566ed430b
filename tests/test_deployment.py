"""Windows, ratios, maps and fronts against numbers worked out by hand; what a notebook measures is
kept. No assertion depends on this machine's speed.
"""

import itertools
import json
import math
import time

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import settings_of

from kdig import KdigError
from kdig.core.data import load_dataset
from kdig.measure import deploy, deploy_plots, engines, fresh
from kdig.study import deployment as study
from kdig.study.tables import deployment as tables


def test_every_call_has_its_turn_in_a_window(monkeypatch):
    seen, clock = [], iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(time, "process_time", lambda: 0.0)
    calls = {name: lambda name=name: seen.append(name) for name in "abc"}
    found = deploy.window(calls, 20, seed=0)
    rounds = [sorted(seen[i : i + 3]) for i in range(0, len(seen), 3)]
    assert len(rounds) > 1
    assert all(r == ["a", "b", "c"] for r in rounds)
    assert {n for _, _, n in found.values()} == {len(rounds)}
    assert all(seconds == 1.0 for seconds, _, _ in found.values())


def test_a_window_without_length_calls_each_once():
    found = deploy.window({"a": lambda: None, "b": lambda: None}, 0, 0)
    assert [n for _, _, n in found.values()] == [1, 1]


def test_ratio_is_geometric_with_students_interval():
    found = deploy.log_ratio([2, 8], [1, 1], paired=True)
    half = 12.706 * math.log(4) / 2
    assert found["ratio"] == pytest.approx(4)
    assert found["low"] == pytest.approx(4 * math.exp(-half), rel=1e-3)
    steady = deploy.log_ratio([2.0, 4.0, 8.1], [1.0, 2.0, 4.0], paired=True)
    assert steady["high"] - steady["low"] < 0.1
    assert deploy.log_ratio([2, 4, 8], [1, 2, 4], paired=False)["low"] < 1


def test_energy_is_read_or_not_given(tmp_path):
    assert deploy.energy(lambda: None, 3, tmp_path / "none") is None
    counter = tmp_path / "intel-rapl:0"
    counter.mkdir()
    (counter / "max_energy_range_uj").write_text("1000000")
    (counter / "energy_uj").write_text("999000")

    def call():
        now = int((counter / "energy_uj").read_text())
        (counter / "energy_uj").write_text(str((now + 2000) % 1_000_000))

    assert deploy.energy(call, 3, tmp_path) == pytest.approx(0.002)


def test_processor_is_named_from_what_the_system_says(tmp_path):
    (tmp_path / "info").write_text("model name : Some CPU\nflags : fpu avx2 avx512f avx512_vnni\n")
    assert deploy.processor(tmp_path / "info").startswith("Some CPU (AVX-512, VNNI, ")
    (tmp_path / "info").write_text("model name : Old CPU\nflags : fpu avx2\n")
    assert deploy.processor(tmp_path / "info").startswith("Old CPU (AVX2, ")
    assert deploy.processor(tmp_path / "none")


def test_memory_is_the_process_own_mark(tmp_path):
    (tmp_path / "status").write_text("VmPeak: 9 kB\nVmHWM:\t   2048 kB\n")
    assert fresh.peak_mib(tmp_path / "status") == 2
    assert math.isnan(fresh.peak_mib(tmp_path / "none"))


def test_occlusion_finds_the_square_that_the_answer_rests_on():
    def run(images):
        return images[:, 0, 4:8, 0:4].sum((1, 2))[:, None] * np.array([[1.0, -1.0]])

    images = np.full((2, 3, 8, 8), 255, np.uint8)
    maps = deploy.occlusion(run, images, np.array([0, 1]), 4)
    assert maps.shape == (2, 2, 2)
    assert maps[0].argmax() == 2
    assert maps[0, 1, 0] == pytest.approx(16 * 0.5)
    assert maps[1, 1, 0] == pytest.approx(-16 * 0.5)
    assert np.count_nonzero(maps) == 2


def test_likeness_of_maps_by_hand():
    one = np.arange(20.0).reshape(1, 4, 5)
    same = deploy.alike(one, 3 * one).iloc[0]
    assert [same.cosine, same["rank"], same.top] == pytest.approx([1, 1, 1])
    turned = deploy.alike(one, -one).iloc[0]
    assert [turned.cosine, turned["rank"], turned.top] == pytest.approx([-1, -1, 0])
    squared = deploy.alike(one, one**2).iloc[0]
    assert squared["rank"] == pytest.approx(1)
    assert squared.cosine < 0.99
    assert deploy.alike(0 * one, one).iloc[0].cosine == 0


def test_front_holds_what_none_beats():
    table = pd.DataFrame({"ms": [1, 2, 2, 3, 1], "acc": [70, 80, 75, 80, 70]})
    assert deploy.front(table, "ms", "acc").tolist() == [True, True, False, False, True]


def test_published_devices_have_sources():
    table = deploy.devices()
    assert table.source.notna().all()
    assert table.ms.gt(0).all()
    assert table[table.device.str.startswith("Cortex-M4")].uj.tolist() == [6919]


def test_unknown_engine_is_named():
    with pytest.raises(KdigError, match="unknown engine 'tpu': choose one of eager"):
        engines.entry("tpu")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """13_deployment of the demo with two small networks and no training."""
    few = {"engines": ["eager", "channels_last", "onnxruntime", "openvino", "int8"]}
    few |= {"timed_networks": ["mobilenet_v2", "s2", "s8"], "latency_batches": [1, 4], "windows": 3}
    few |= {"window_seconds": 0.01, "cold_repeats": 3, "calibration_images": 20}
    few |= {"rivals": ["resnet8@0.5"], "epochs": 1, "train_images": 60}
    few |= {"test_images": 60, "attribution_images": 12, "patch": 4, "width": 0.25}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDIG_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield settings_of("13_deployment", **few)


@pytest.fixture(scope="module")
def timed(settings):
    return settings.timed()


@pytest.fixture(scope="module")
def times(settings, timed):
    return settings.times(timed)


@pytest.fixture(scope="module")
def tried(settings, timed):
    rows = [study._row(name, name, weights, "student") for name, weights in timed.items()]
    return settings.tried(pd.DataFrame(rows))


def test_all_engines_give_one_answer_and_int8_is_near(tried):
    by = tried.set_index(["network", "engine"])
    for engine in ("onnxruntime", "openvino"):
        assert by.xs(engine, level=1).largest_difference.max() < 1e-4
    assert (by.xs("int8", level=1).largest_difference > 0).all()
    assert (tried.images == 60).all()
    assert set(tried.engine) == {"eager", "onnxruntime", "openvino", "int8", "int8_per_tensor"}
    assert by.kib["s2", "int8"] < by.kib["s2", "onnxruntime"]


def test_title_compares_engine_and_network():
    times = made_times(
        mobilenet_v2__eager=0.010, mobilenet_v2__int8=0.002, s2__eager=0.007, s2__int8=0.0015
    )
    said = tables.title_engines(tables.engines(times)[0])
    assert "takes 20 % of its time in torch; the student in torch takes 70 %" in said


def test_every_network_is_timed_and_times_are_kept(times, settings, timed, monkeypatch):
    first = times[times.batch == 1]
    # the pair on all engines, two others on three of them
    assert len(first) == 3 * (2 * 5 + 2 * 3)
    assert set(times[times.batch == 4].network) == {"mobilenet_v2", "s2"}
    assert (times[["seconds", "cpu", "calls"]] >= 0).all().all()
    monkeypatch.setattr(deploy, "window", lambda *given: pytest.fail("it was measured already"))
    pd.testing.assert_frame_equal(settings.times(timed), times)
    longer = settings.model_copy(update={"window_seconds": 0.02})
    with pytest.raises(pytest.fail.Exception):
        longer.times(timed)


def test_other_processor_measures_anew(settings, monkeypatch):
    before = settings.stamp()
    monkeypatch.setattr(deploy, "processor", lambda: "another")
    assert settings.stamp() != before


def test_a_fresh_process_reports_itself(settings, timed):
    found = deploy.first_call("onnxruntime", settings.files(timed["s8"]), 10, 1)
    assert set(found) >= {"load", "first", "second", "first_cpu", "peak_mib"}
    assert found["load"] > 0
    wrong = engines.Files(*[settings.files(timed["s8"]).weights] * 4)
    with pytest.raises(KdigError, match="OpenVINO failed in a fresh process"):
        deploy.first_call("openvino", wrong, 10, 1)


def test_maps_are_compared_with_those_of_the_float32_file(settings, timed):
    """Without another network, the yardstick is the network itself."""
    row = study._row("s2", "s2", timed["s2"], "student")
    table, facts = tables.alike(settings.explained(pd.DataFrame([row])))
    cosine = table[table.measure == "cosine"].set_index("artefact").value
    assert cosine["float32 of s2"] == pytest.approx(1)
    assert cosine["int8, per channel"] < 1
    assert len(table) == 9
    assert {fact["fact"] for fact in facts} >= {"deploy_maps_channel_cosine"}
    assert "over 12 images" in tables.said_alike(table)


def made_times(**cpu):
    """Processor times by `network engine`, the same in each of three windows."""
    rows = [
        {
            "network": n,
            "engine": e,
            "batch": 1,
            "window": w,
            "seconds": 9.0,
            "cpu": s * (1 + w / 100),
        }
        for (n, e), s in {tuple(k.split("__")): v for k, v in cpu.items()}.items()
        for w in range(3)
    ]
    return pd.DataFrame(rows).assign(calls=5.0)


def test_the_four_factors_are_the_whole():
    times = made_times(
        mobilenet_v2__eager=0.010, mobilenet_v2__onnxruntime=0.004, s2__eager=0.008,
        s2__onnxruntime=0.003, s2__int8=0.001,
    )  # fmt: skip
    cold = pd.DataFrame(
        {"network": "mobilenet_v2", "engine": "eager", "first_cpu": [0.05, 0.05, 0.051]}
    )
    cold = pd.concat([cold, cold.assign(network="s2", first_cpu=[0.04, 0.04, 0.0408])])
    table, facts = tables.split(times, cold)
    ratio = table.set_index("factor").ratio
    assert ratio["engine"] == pytest.approx(2.5)
    assert ratio["compression, in torch"] == pytest.approx(1.25)
    assert ratio[["cold start", "engine", "compression", "precision"]].prod() == pytest.approx(
        ratio["all four"]
    )
    assert "deploy_factor_cold_start" in [fact["fact"] for fact in facts]
    said = tables.said_split(table, 10.8)
    assert "In torch the student is 1.25 (1.2" in said
    assert "times as fast in the first answer, which is what the released script times" in said
    assert "and 1.25 (1.25 to 1.25) times in warm ones; 10.8 is printed" in said
    assert "slower" not in said
    assert ratio["first answers, in torch"] == pytest.approx(1.25)
    slow = tables.said_split(
        table.assign(high=table.high.where(table.factor != "precision", 0.9)), 10.8
    )
    assert "(below 1, so slower: precision)" in slow
    assert "1.3 times as fast; the paper prints 10.8" in tables.title_split(table, 10.8)
    assert deploy_plots.factors(table, 10.8).axes[0].get_xscale() == "log"


def test_fastest_engine_and_those_slower_than_torch_are_said():
    times = made_times(s2__eager=0.004, s2__onnxruntime=0.001, s2__int8=0.008)
    times.loc[times.engine == "int8", "cpu"] *= [1, 1.01, 0.99]
    table, _ = tables.engines(times)
    assert table.times_as_fast.round(1).tolist() == [1.0, 4.0, 0.5]
    said = tables.said_engines(table)
    assert "with ONNX Runtime, 4.0 times as fast as torch" in said
    assert said.endswith("slower than torch: ONNX Runtime, int8.")
    assert "shared with other work" in tables.said_load(times)
    assert "no other work" in tables.said_load(times.assign(seconds=times.cpu))


def test_difference_of_an_artefact_has_walds_interval(tried):
    row = tried.iloc[[0]].assign(images=100.0, right=90.0, only_this=1.0, only_torch=5.0)
    table, facts = tables.artefacts(row)
    half = 1.96 * 100 * math.sqrt(6 - 16 / 100) / 100
    assert table.iloc[0][["accuracy", "difference"]].tolist() == [90, -4]
    assert table.low.iloc[0] == pytest.approx(-4 - half)
    assert facts[0]["value"] == 90


def test_printed_accuracies_stand_for_float32_of_cifar10_only(times, tried):
    none = tried[tried.network == "none"]
    table = tables.pareto(times, none, cifar10=True)
    assert set(table.source) == {"printed"}
    assert set(table.engine) == {"torch", "ONNX Runtime"}
    assert table.set_index("network").accuracy["s2"].iloc[0] == 92.58
    assert set(tables.pareto(times, tried, cifar10=False).source) == {"run here"}
    more = pd.concat([times, times[times.engine == "int8"].assign(engine="openvino_int8")])
    assert set(tables.pareto(more, none, cifar10=True).engine) == {"torch", "ONNX Runtime"}
    both = tried[tried.network == "s2"].assign(method="released", right=[50.0] * 4 + [60.0])
    both = pd.concat([both, both.assign(right=both.right + 5)])
    released = tables.pareto(times, both, cifar10=False).set_index("engine").accuracy
    assert released["torch"] == pytest.approx(100 * 55 / 60)
    with_resnet = times.replace({"network": {"s8": "resnet8"}})
    assert 87.5 in tables.pareto(with_resnet, none, True).accuracy.to_list()
    assert (
        f"{table.front.sum()} of {len(table)} ways to run are on the Pareto front"
        in tables.title_front(table)
    )
    assert tables.said_front(table).startswith(f"On the front lie {table.front.sum()} of")


def test_spread_and_the_steps_that_are_left():
    table = tables.channel_spread({"a": (4, np.array([1.0, 2, 2, 16])), "b": (1, np.ones(3))})
    assert table.spread.tolist() == [8, 1]
    assert table.steps.tolist() == [8, 64]
    assert tables.title_spread(table).endswith("as few as 8 of 64 steps")
    assert (
        "In layer 1 (depthwise) one scale leaves the median channel 8 of 64"
        in tables.said_spread(table)
    )


def test_energy_is_said_or_that_it_cannot_be_measured():
    empty = pd.DataFrame(columns=["network", "engine", "mj"])
    assert tables.said_energy(empty).startswith("Energy is not measurable here")
    rows = pd.DataFrame({"network": ["s2", "s1"], "engine": ["int8", "eager"], "mj": [1.0, 5.0]})
    assert "from 1.00 mJ (s2, ONNX Runtime, int8) to 5.00 mJ" in tables.said_energy(rows)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engines": ["eager", "tpu"]}, "unknown engine 'tpu'"),
        ({"engines": ["eager", "int8"]}, "engines must hold 'onnxruntime'"),
        ({"timed_networks": ["s1", "s2"]}, "must hold mobilenet_v2 and s2"),
        ({"rivals": ["resnet8@0"]}, "unknown network 'resnet8@0': choose one of"),
        ({"rivals": ["resnet9"]}, "unknown network 'resnet9': choose one of"),
        ({"rivals": ["s2@two"]}, "'@2' behind it doubles its channels"),
        ({"checkpoints": ["a.pt"]}, "they need dataset 'cifar10'"),
        ({"levels": []}, "nothing to export"),
    ],
)
def test_settings_that_fit_nothing_are_refused(given, said):
    with pytest.raises(KdigError, match=said):
        settings_of("13_deployment", **given)


def test_the_demo_exports_networks_that_05_compression_trains(tmp_path, monkeypatch):
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path))
    swept = {run.key for run in settings_of("05_compression").runs("abc")}
    settings = settings_of("13_deployment")
    assert {run.key for run in settings._exported("abc")} <= swept
    assert {run.key for run in settings.runs("abc")} - swept == {
        run.key for (name, _), run in settings._alike().items() if name != "s2"
    }


def test_the_evidence_names_released_students():
    settings = settings_of("13_deployment", "evidence")
    assert settings.levels == []
    names = [
        study._short(path.rpartition("/")[2].removesuffix(".pt")) for path in settings.checkpoints
    ]
    assert names[:2] == ["KD IG 92.28", "Student 90.73"]
    assert len(set(names)) == 11


def test_a_rival_differs_from_the_student_in_its_network_alone(settings):
    runs = settings._alike()
    student, rival = (runs[name, 0].model_dump() for name in ("s2", "resnet8@0.5"))
    assert {k for k in student if student[k] != rival[k]} == {"network", "width"}
    assert (rival["network"], rival["width"]) == ("resnet8", 0.5 * settings.width)
    assert not runs["s2", 0].alpha


def test_rivals_are_trained_timed_and_tried_like_the_student(settings, times):
    alike = settings.alike()
    assert alike[["arm", "block"]].to_numpy().tolist() == [
        ["s2", 0], ["s2", 1], ["resnet8@0.5", 0], ["resnet8@0.5", 1],
    ]  # fmt: skip
    tried = settings.tried(alike, settings.ways)
    table, facts = tables.rivals(times, tried, settings.sizes())
    assert table.network.tolist() == ["s2", "resnet8@0.5"]
    assert len(facts) == 2
    assert set(tried.engine) == {"onnxruntime", "int8"}
    for row in tried[tried.engine == "onnxruntime"].itertuples():
        assert 100 * row.right / row.images == pytest.approx(row.accuracy, abs=100 / row.images)
    front = tables.pareto(times, tried, cifar10=False)
    assert set(front.network) == {"s2", "resnet8@0.5"}


def alike_of(**accuracies):
    rows = [
        {"arm": arm, "block": block, "engine": engine, "right": 10 * (value - lost), "images": 1000}
        for arm, values in accuracies.items()
        for block, value in enumerate(values)
        for engine, lost in (("onnxruntime", 0), ("int8", 1))
    ]
    return pd.DataFrame(rows)


def test_a_rival_is_better_when_it_is_faster_and_more_accurate():
    times = made_times(s2__onnxruntime=0.004, good__onnxruntime=0.002, slow__onnxruntime=0.008,
                       worse__onnxruntime=0.001, s2__int8=0.005, good__int8=0.003, slow__int8=0.009,
                       worse__int8=0.0005)  # fmt: skip
    times["cpu"] *= 1 + 0.001 * np.random.default_rng(0).standard_normal(len(times))
    alike = alike_of(
        s2=[70.0, 70.5, 70.2],
        good=[75.0, 75.4, 75.1],
        slow=[75.0, 75.4, 75.1],
        worse=[60.0, 60, 60],
    )
    names = ["s2", "good", "slow", "worse"]
    sizes = pd.DataFrame({"network": names, "parameters": 1000, "mmacs": 8.0})
    table, facts = tables.rivals(times, alike, sizes)
    by = table.set_index("network")
    assert by.better[["good", "slow", "worse"]].tolist() == ["yes", "no", "no"]
    assert by.times_as_fast.good == pytest.approx(2, rel=0.01)
    assert by.difference.good == pytest.approx(4.93, abs=0.01)
    assert by.mmacs_per_ms.round().tolist() == [2, 4, 1, 16]
    # the file that is timed is also the one whose answers count
    assert by.way.tolist() == ["ONNX Runtime"] * 3 + ["ONNX Runtime, int8"]
    assert by.accuracy.worse == pytest.approx(59)
    assert {fact["fact"] for fact in facts} >= {"deploy_rival_good_difference"}
    words = "Shown to be better than the student (s2) in time and in accuracy:"
    said = tables.said_rivals(table)
    assert said.startswith(f"{words} 1 of 3 rivals that were trained alike (good). good 2.00 times")
    none = tables.said_rivals(table[table.network != "good"])
    assert none.startswith(f"{words} 0 of 2 rivals that were trained alike. slow")


def test_calibration_images_are_training_images(settings):
    used = tables.calibration_list(settings.calibration)
    data = load_dataset("digits", image_size=10)
    assert set(used.id) <= set(data.train.ids)
    assert not set(used.id) & set(data.test.ids)
    assert len(used) == 20


def test_energy_is_asked_of_every_engine(settings, timed, monkeypatch):
    monkeypatch.setattr(deploy, "energy_counters", lambda: ["one"])
    monkeypatch.setattr(deploy, "energy", lambda call, repeats: 0.002)
    monkeypatch.setattr(study, "start", lambda *given: lambda images: images)
    found = settings.energy(timed)
    assert len(found) == 2 * len(settings.engines)
    assert (found.mj == 2).all()


def test_sizes_are_those_of_the_networks(settings):
    table = settings.sizes().set_index("network")
    assert table.parameters["s2"] < table.parameters["mobilenet_v2"]
    assert json.loads(table.to_json())["mmacs"]["s8"] > 0
    assert torch.get_num_threads() == 1


def test_names_of_near_points_do_not_cover_each_other():
    near = {"network": list("abc"), "engine": "torch", "ms": [1.0, 1.01, 1.02], "accuracy": 70.0}
    far = {"network": ["far"], "engine": "torch", "ms": 9.0, "accuracy": 50.0}
    table = pd.concat([pd.DataFrame(near), pd.DataFrame(far)], ignore_index=True)
    figure = deploy_plots.pareto(table.assign(front=True))
    figure.draw_without_rendering()
    boxes = [name.get_window_extent() for name in figure.axes[0].texts]
    assert len(boxes) == 4
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
