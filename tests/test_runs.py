import copy
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent import futures
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdig import KdigError
from kdig.core import runs
from kdig.core.dataset import IGDataset
from kdig.core.environment import environment
from kdig.core.files import NoSpaceError
from kdig.core.losses import DistillationLoss
from kdig.core.methods import METHODS
from kdig.core.networks import build, student, with_normalisation
from kdig.core.run import Run, Scoring
from kdig.core.runs import _require_space, execute, frame
from kdig.core.signals import Signals, Teacher, signal_path
from kdig.core.store import Workspace
from kdig.core.train import prepare, signal_spec, train, training_set
from kdig.core.training import Recipe, accuracy, fit, predict


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, digits):
    """A teacher's result and the workspace that it lies in."""
    workspace = Workspace(tmp_path_factory.mktemp("teacher"))
    recipe = Recipe(
        epochs=10, learning_rate=1e-2, schedule="onecycle", normalise=True, bn_momentum=0.5
    )
    shape = {"image_size": 8, "network": "mobilenet_v2", "role": "teacher", "width": 0.25}
    shape |= {"padding": 1, "flip": False}
    result = execute(
        [Run(dataset="digits", data=digits.fingerprint, recipe=recipe, **shape)], workspace
    )[0]
    assert result.last.test_accuracy > 60
    return result, workspace


@pytest.fixture
def taught(workspace, make_run, teacher):
    """Puts the teacher into `workspace` and makes student runs that learn from it."""
    result, home = teacher
    shutil.copytree(home.folder / "weights", workspace.folder / "weights")
    weights = {"alpha": 0.5, "probability": 0.5, "gamma": 0.8}

    def make(method, **changes):
        chosen = {name: weights[name] for name in METHODS[method].weights}
        return make_run(teacher=result.weights, temperature=4.0, **chosen, **changes)

    return make


def comparable(result):
    """All of a result but the clock."""
    content = result.model_dump(exclude={"seconds", "environment"})
    for epoch in [*content["history"], content["last"], content["best"]]:
        epoch.pop("seconds")
    return content


def test_same_seed_same_numbers_bit_for_bit(tmp_path, make_run):
    results = [train(make_run(), Workspace(tmp_path / name)) for name in "ab"]
    assert comparable(results[0]) == comparable(results[1])
    other = train(make_run(seed=1), Workspace(tmp_path / "a"))
    assert other.weights != results[0].weights


@pytest.mark.parametrize("level", [0, 8])
def test_seed_decides_whatever_the_process_has_drawn_before(tmp_path, make_run, level):
    """The teacher's dropout draws while it trains; these draws, too, must come from the run's seed."""
    weights = []
    for draw in (1, 2):
        torch.manual_seed(draw)
        before = torch.get_rng_state()
        weights.append(
            train(
                make_run(level=level, recipe={"epochs": 1}), Workspace(tmp_path / str(draw))
            ).weights
        )
        assert torch.equal(torch.get_rng_state(), before)
    assert weights[0] == weights[1]


def test_inline_and_local_engines_give_identical_numbers(taught, workspace, tmp_path):
    specifications = [taught(method) for method in ("student", "kd_ig_at")]
    inline = execute(specifications, workspace, "inline")
    again = Workspace(tmp_path / "local")
    (again.folder).mkdir()
    (workspace.folder / "weights").rename(again.folder / "weights")
    local = execute(specifications, again, "local", workers=2)
    assert [comparable(r) for r in inline] == [comparable(r) for r in local]


def test_dask_engine_says_what_is_missing(make_run, workspace, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(KdigError, match=r"kdig\[cluster\]"):
        execute([make_run()], workspace, "dask")


def test_dask_engine_gives_the_same_numbers(make_run, workspace, tmp_path):
    pytest.importorskip("distributed")
    inline = execute([make_run()], workspace, "inline")
    dask = execute([make_run()], Workspace(tmp_path / "dask"), "dask", workers=1)
    assert comparable(inline[0]) == comparable(dask[0])


@pytest.mark.parametrize("pairing", ["static", "released", "reshuffled", "same_view"])
def test_every_method_trains_under_every_pairing(taught, workspace, pairing):
    results = execute(
        [taught(m, pairing=pairing, recipe={"epochs": 1}) for m in METHODS], workspace
    )
    assert [r.run.method for r in results] == list(METHODS)
    assert len({r.weights for r in results}) == len(METHODS)


def test_methods_with_one_seed_start_from_the_same_weights(taught, workspace):
    """With a learning rate that moves nothing, all methods end where they began."""
    still = {"epochs": 1, "learning_rate": 1e-30}
    states = []
    for method in ("student", "kd_ig_at"):
        result = execute([taught(method, recipe=still)], workspace)[0]
        states.append(workspace.load_weights(result.weights).net.classifier[-1].weight)
    assert torch.equal(*states)


def test_key_holds_what_decides_and_drops_what_does_not(make_run):
    plain = make_run()
    assert (
        make_run(
            temperature=9.0, steps=3, pairing="released", teacher="x", attention_reduction="mean"
        ).key
        == plain.key
    )
    variants = [
        {"seed": 1}, {"alpha": 0.1, "teacher": "x"}, {"level": 7}, {"width": 0.5}, {"train_images": 50}, {"image_size": 16},
        {"data": "y"}, {"padding": 2}, {"flip": True}, {"recipe": {"epochs": 3}}, {"recipe": {"learning_rate": 2e-3}},
    ]  # fmt: skip
    keys = [plain.key] + [make_run(**changes).key for changes in variants]
    assert len(set(keys)) == len(keys)
    helped = {"alpha": 0.1, "teacher": "x"}
    assert make_run(**helped, temperature=2.0).key != make_run(**helped, temperature=3.0).key
    assert make_run(**helped, steps=3).key == make_run(**helped, steps=5).key  # no maps, no steps


def test_finished_run_is_not_repeated_and_equal_runs_are_trained_once(
    make_run, workspace, monkeypatch
):
    calls = []
    monkeypatch.setattr(
        "kdig.core.train.fit", lambda *args, **kwargs: calls.append(1) or fit(*args, **kwargs)
    )
    first = execute([make_run(), make_run()], workspace)
    second = execute([make_run()], workspace)
    assert len(calls) == 1
    assert first[0] == first[1] == second[0]


def test_result_holds_where_it_comes_from(make_run, workspace):
    result = execute([make_run()], workspace)[0]
    assert [e.epoch for e in result.history] == [1, 2]
    assert result.last == result.history[-1]
    assert result.best.test_accuracy == max(e.test_accuracy for e in result.history)
    assert {"torch", "captum", "device", "threads", "git", "python"} <= set(result.environment)
    assert result.run.data in result.data_label
    assert result.seconds > 0
    test = workspace.pictures(result.run).scored
    assert 100 * (result.predicted == test.labels.numpy()).mean() == pytest.approx(
        result.last.test_accuracy
    )
    net = workspace.load_weights(result.weights).net
    assert accuracy(predict(net, test), test.labels) == pytest.approx(result.last.test_accuracy)
    row = frame([result]).iloc[0]
    assert row.run == result.run.key == make_run().key


def test_killed_sweep_keeps_what_is_finished_and_completes_to_the_same_table(
    make_run, workspace, tmp_path
):
    specifications = [make_run(seed=s, recipe={"epochs": 6}) for s in range(6)]
    (tmp_path / "specs.json").write_text(
        json.dumps([s.model_dump(mode="json") for s in specifications])
    )
    code = (
        "import json, pathlib, sys\nfrom kdig.core.run import Run\nfrom kdig.core.runs import execute\nfrom kdig.core.store import Workspace\n"
        "if __name__ == '__main__':\n"
        "    runs = [Run(**r) for r in json.loads(pathlib.Path(sys.argv[1]).read_text())]\n"
        "    execute(runs, Workspace(pathlib.Path(sys.argv[2])), 'local', workers=2)\n"
    )
    (tmp_path / "sweep.py").write_text(code)
    process = subprocess.Popen(
        [
            sys.executable,
            str(tmp_path / "sweep.py"),
            str(tmp_path / "specs.json"),
            str(workspace.folder),
        ]
    )
    stored = workspace.folder / "runs"
    deadline = time.monotonic() + 120
    while len(list(stored.glob("[!.]*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.read_bytes() for path in stored.glob("[!.]*.json")}
    assert 2 <= len(kept) < 6, "the sweep should have been killed in the middle"
    completed = execute(specifications, workspace)
    assert all(path.read_bytes() == content for path, content in kept.items())
    undisturbed = execute(specifications, Workspace(tmp_path / "undisturbed"))
    assert [comparable(r) for r in completed] == [comparable(r) for r in undisturbed]


def test_a_killed_worker_is_said_and_the_next_call_goes_on(make_run, workspace):
    todo = [make_run(seed=seed) for seed in range(4)]
    worker = runs._pool(2).submit(os.getpid).result()
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(KdigError, match="a worker was killed"):
        execute(todo, workspace, "local", workers=2)
    assert [result.run for result in execute(todo, workspace, "local", workers=2)] == todo


def test_ctrl_c_does_not_end_a_worker_that_waits():
    """An interrupted cell leaves workers that the next cell can use."""
    pool = runs._pool(1)
    worker = pool.submit(os.getpid).result()
    os.kill(worker, signal.SIGINT)
    assert pool.submit(os.getpid).result() == worker
    assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


def test_workers_end_when_their_parent_is_killed(tmp_path):
    code = """
import os, time
from kdig.core import runs
if __name__ == "__main__":
    print(runs._pool(1).submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""
    (tmp_path / "pool.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "pool.py")], stdout=subprocess.PIPE, text=True
    )
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def test_loss_that_is_not_finite_names_run_epoch_and_step_and_leaves_nothing(make_run, workspace):
    bad = make_run(recipe={"optimizer": "sgd", "learning_rate": 1e30})
    good = make_run(seed=5)
    said = (
        rf"1 of 2 runs failed: student s8 seed 0 \({bad.key}\).*epoch 1, step [2-9]; lower the"
        r" learning rate"
    )
    with pytest.raises(KdigError, match=said) as error:
        execute([bad, good], workspace)
    assert "\n" not in str(error.value)
    assert workspace.result(bad) is None
    assert workspace.result(good) is not None  # one failing run does not stop the others
    assert not list((workspace.folder / "runs").glob(".*"))


def test_first_loss_that_is_not_finite_blames_what_goes_in(digits):
    """No learning rate has had a part in it."""
    poisoned = Signals(logits=torch.full((20, 10), float("nan")))
    few, recipe = digits.train.select(torch.arange(20)), Recipe(epochs=1, batch_size=8)
    with pytest.raises(
        KdigError,
        match="nan at epoch 1, step 1; the teacher's logits hold values that are not finite",
    ):
        fit(
            student(8, width=0.25),
            IGDataset(few, poisoned),
            digits.test,
            DistillationLoss(0.5, 2.0),
            recipe,
        )
    dark = with_normalisation(student(8, width=0.25), [0.0] * 3, [1.0, 0.0, 1.0])
    dark[0].mean = torch.tensor([0.0, float("nan"), 0.0]).view(-1, 1, 1)
    with pytest.raises(
        KdigError, match=r"step 1; .*inputs that are not finite, such as images after normalisation"
    ) as error:
        fit(dark, IGDataset(few), digits.test, DistillationLoss(), recipe)
    assert "learning rate" not in str(error.value)


def test_any_failure_leaves_the_other_runs_going(make_run, workspace, monkeypatch):
    def failing(model, dataset, *args, **kwargs):
        if dataset.seed == 0:
            raise RuntimeError("CUDA out of memory.\nTried to allocate")
        return fit(model, dataset, *args, **kwargs)

    monkeypatch.setattr("kdig.core.train.fit", failing)
    with pytest.raises(
        KdigError,
        match=(r"1 of 3 runs failed: student s8 seed 0.*RuntimeError: CUDA out of memory. Tried"),
    ) as error:
        execute([make_run(seed=s) for s in range(3)], workspace)
    assert "\n" not in str(error.value)
    assert all(workspace.result(make_run(seed=s)) for s in (1, 2))


@pytest.mark.parametrize("engine", ["inline", "local"])
def test_every_failure_is_listed_and_leaves_its_traceback(make_run, workspace, engine):
    bad = [
        make_run(seed=seed, recipe={"optimizer": "sgd", "learning_rate": 1e30}) for seed in (0, 1)
    ]
    with pytest.raises(KdigError, match="2 of 2 runs failed") as error:
        execute(bad, workspace, engine)
    assert "\n" not in str(error.value)
    for run in bad:
        path = workspace.folder / "runs" / f"{run.key}.error.txt"
        assert f"{run}: the loss is" in str(error.value)
        assert f"(traceback: {path})" in str(error.value)
        assert "in fit" in path.read_text()


def test_traceback_goes_when_the_run_succeeds(make_run, workspace, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("kdig.core.train.fit", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(
            KdigError, match=r"ZeroDivisionError: division by zero \(traceback: .*\.error\.txt"
        ):
            execute([make_run()], workspace)
    assert len(list((workspace.folder / "runs").iterdir())) == 1
    execute([make_run()], workspace)
    assert [path.suffix for path in (workspace.folder / "runs").iterdir()] == [".json"]


def test_one_run_asked_for_twice_at_once_is_trained_once(make_run, workspace, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "kdig.core.train.fit", lambda *args, **kwargs: calls.append(1) or fit(*args, **kwargs)
    )
    with futures.ThreadPoolExecutor(2) as both:
        first, second = both.map(lambda runs: execute(runs, workspace), [[make_run()]] * 2)
    assert first == second
    assert len(calls) == 1


def test_full_disk_stops_all_runs_at_once(make_run, workspace, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "kdig.core.train.fit", lambda *args, **kwargs: calls.append(1) or fit(*args, **kwargs)
    )

    def full(content, path):
        raise RuntimeError(
            "[enforce fail at inline_container.cc:672] . unexpected pos 147712 vs 147608"
        )

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(NoSpaceError, match=f"no space left in {workspace.folder / 'weights'}"):
        execute([make_run(seed=seed) for seed in range(3)], workspace)
    assert len(calls) == 1
    assert not list((workspace.folder / "runs").iterdir())
    said = pickle.loads(
        pickle.dumps(NoSpaceError("no space left"))
    )  # as it comes back from a worker
    assert (type(said), str(said)) == (NoSpaceError, "no space left")


def test_space_for_weights_is_asked_for_before_training(make_run, workspace, monkeypatch):
    todo = [make_run(level=2, width=1.0, seed=seed) for seed in (1, 2)]
    weights = workspace.keep(student(2), [0.0] * 3, [1.0] * 3, "s2")
    size = (workspace.folder / "weights" / f"{weights}.pt").stat().st_size
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=int(2.1 * size)))
    _require_space(todo, workspace)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=int(1.9 * size)))
    with pytest.raises(NoSpaceError, match="the weights of 2 runs need"):
        execute(todo, workspace)
    assert not any(workspace.result(run) for run in todo)


def test_script_without_a_main_guard_is_named(tmp_path):
    code = "from pathlib import Path\nfrom kdig.core.run import Run\nfrom kdig.core.runs import execute\nfrom kdig.core.store import Workspace\n"
    code += (
        f"run = Run(dataset='digits', data='x')\nexecute([run], Workspace(Path({str(tmp_path)!r})),"
        " 'local', 2)\n"
    )
    script = tmp_path / "sweep.py"
    script.write_text(code)
    # on a single core no worker would start
    two = {**os.environ, "KDIG_CORES": "2"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=two)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("kdig.KdigError: engine 'local'")
    assert f"{script}: put the call under if __name__ == '__main__':" in last


def test_dask_scheduler_that_does_not_answer_is_named(make_run, workspace, monkeypatch):
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:9")
    said = "no dask scheduler answers at tcp://127.0.0.1:9 .*unset DASK_SCHEDULER_ADDRESS"
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(KdigError, match=said) as error,
    ):
        execute([make_run()], workspace, "dask")
    assert "\n" not in str(error.value)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "nonsense://here")
    with pytest.raises(KdigError, match="no dask scheduler answers at nonsense://here"):
        execute([make_run()], workspace, "dask")


def test_run_that_kills_its_dask_worker_leaves_the_others_going(make_run, workspace, monkeypatch):
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    attempt = runs._attempt

    def deadly(run, workspace, scoring, threads):
        if run.seed == 0:
            os._exit(1)
        return attempt(run, workspace, scoring, threads)

    deadly.__module__ = "__main__"  # so that it travels by value
    monkeypatch.setattr(runs, "_attempt", deadly)
    killing, bad, good = (
        make_run(),
        make_run(seed=1, recipe={"optimizer": "sgd", "learning_rate": 1e30}),
        make_run(seed=2),
    )
    once = dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with once, pytest.raises(KdigError, match="2 of 3 runs failed: ") as error:
        execute([killing, bad, good], workspace, "dask", workers=1)
    assert "\n" not in str(error.value)
    assert f"{killing}: its worker died again and again, perhaps for memory" in str(error.value)
    assert f"(traceback: {workspace.traceback(bad)})" in str(error.value)
    assert workspace.result(good) is not None


def test_answer_that_dies_with_its_worker_is_looked_up(make_run, workspace):
    finished, lost = make_run(), make_run(seed=1)
    execute([finished], workspace)

    def late(timeout):
        raise TimeoutError

    answer = SimpleNamespace(result=late)
    assert runs._answer(answer, finished, workspace, Scoring()) is None
    assert "its worker died or does not answer (TimeoutError)" in runs._answer(
        answer, lost, workspace, Scoring()
    )


def test_lost_weights_are_trained_again_and_damaged_ones_named(make_run, workspace):
    first = execute([make_run()], workspace)[0]
    path = workspace.folder / "weights" / f"{first.weights}.pt"
    path.write_bytes(path.read_bytes()[:200])
    result_name = re.escape(path.name)
    with pytest.raises(KdigError, match=rf"cannot read the weights .*{result_name}"):
        workspace.load_weights(first.weights)
    path.unlink()
    assert execute([make_run()], workspace)[0].weights == first.weights
    workspace.load_weights(first.weights)
    other = execute([make_run(seed=1)], workspace)[0]
    shutil.copy(path.with_name(f"{other.weights}.pt"), path)
    with pytest.raises(KdigError, match=rf"cannot read the weights .*{result_name}"):
        workspace.load_weights(first.weights)


def test_a_record_that_cannot_be_read_is_passed_over_in_a_list(make_run, workspace):
    execute([make_run()], workspace)
    (workspace.folder / "runs" / "0000.json").write_bytes(b'{"run": "\xff"}')
    assert [run.seed for run in workspace.runs()] == [0]


def test_runs_that_leave_nothing_are_named(make_run, workspace, monkeypatch):
    """Such as those of workers that write to another disk."""
    monkeypatch.setattr(runs, "_engines", lambda: {"inline": lambda todo, *_: [None] * len(todo)})
    with pytest.raises(KdigError, match=r"2 of 2 runs have left nothing in .*student s8 seed 0"):
        execute([make_run(), make_run(seed=1)], workspace, engine="inline")


def test_a_last_batch_of_one_image_is_named(make_run, workspace):
    """At 8 pixels the teacher's network ends with 1 x 1 positions."""
    run = make_run(level=0, train_images=41, recipe={"batch_size": 20})
    with pytest.raises(KdigError, match=r"last batch holds a single image.*than 20"):
        execute([run], workspace)


def test_machine_without_git_records_it_as_unknown(make_run, workspace, monkeypatch):
    monkeypatch.setattr("kdig.core.train.environment", environment.__wrapped__)
    monkeypatch.setenv("PATH", "")
    assert execute([make_run()], workspace)[0].environment["git"] == "unknown"


def test_a_score_of_other_weights_is_not_the_runs(make_run, workspace):
    """A network that was trained anew elsewhere has the same key, and may have other weights."""
    run = make_run()
    train(run, workspace)
    record = workspace.record(run)
    workspace.save_record(record.model_copy(update={"weights": "0" * 16}))
    assert workspace.result(run, weights=False) is None
    workspace.save_record(record)
    assert workspace.result(run, weights=False) is not None


def test_leftover_of_a_killed_write_is_never_read(workspace, tmp_path):
    from kdig.study.outputs import Outputs

    out = Outputs(tmp_path)
    out.facts("04_ablation", "digits", "other data", [{"fact": "f", "value": 2.0}])
    leftover = tmp_path / "facts" / ".part-abc" / "02_teacher.csv"
    leftover.parent.mkdir()
    leftover.write_text("")
    assert len(out.all_facts()) == 1


def test_damaged_result_is_named(make_run, workspace):
    run = make_run()
    execute([run], workspace)
    path = workspace.folder / "runs" / f"{run.key}.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(KdigError, match=path.name):
        execute([run], workspace)


def test_other_data_is_refused(make_run, workspace):
    with pytest.raises(KdigError, match="fingerprint"):
        execute([make_run(data="0" * 16)], workspace)


def test_student_without_teacher_is_refused(make_run, workspace):
    with pytest.raises(KdigError, match="learns from a teacher"):
        execute([make_run(alpha=0.5)], workspace)
    with pytest.raises(KdigError, match="no weights"):
        execute([make_run(alpha=0.5, teacher="abc")], workspace)


def noisy_test(data):
    """`data` with noise for test pictures, ids and labels as they were."""
    return replace(data, test=replace(data.test, images=torch.randint_like(data.test.images, 256)))


@pytest.mark.parametrize(
    "changes",
    [({}, "test"), ({"share": 0.75}, "test"), ({"share": 0.75}, "validation")],
    ids=["whole", "share", "validation"],
)
def test_no_test_picture_takes_part_in_training_selection_or_signals(
    taught, workspace, monkeypatch, changes
):
    """Replace the test pictures by noise: nothing but the scores on the test set may change."""
    run, scoring = taught("kd_ig_at", **changes[0]), Scoring(split=changes[1])
    before = execute([run], workspace, scoring=scoring)[0]
    pictures = workspace.pictures(run, scoring)
    test = pictures.data.test
    assert not set(pictures.pool.ids) & set(test.ids)
    spec = signal_spec(run, workspace.load_weights(run.teacher), pictures.pool)
    path = signal_path(spec, "maps", workspace.signals)
    maps = np.load(path)
    monkeypatch.setattr(Workspace, "dataset", lambda self, name, size: noisy_test(pictures.data))
    (workspace.folder / "runs" / f"{run.key}.json").unlink()
    path.with_suffix(".json").unlink()
    after = execute([run], workspace, scoring=scoring)[0]
    assert np.array_equal(np.load(path), maps)
    assert after.weights == before.weights
    assert (after.predictions == before.predictions) == (scoring.split == "validation")


def test_no_test_picture_takes_part_in_the_teachers_training(make_run, workspace, monkeypatch):
    run = make_run(level=0)
    before, pictures = execute([run], workspace)[0], workspace.pictures(run)
    assert not set(pictures.training.ids) & set(pictures.data.test.ids)
    monkeypatch.setattr(Workspace, "dataset", lambda self, name, size: noisy_test(pictures.data))
    (workspace.folder / "runs" / f"{run.key}.json").unlink()
    after = execute([run], workspace)[0]
    assert after.weights == before.weights
    assert [e.train_loss for e in after.history] == [e.train_loss for e in before.history]
    assert after.last.test_loss != before.last.test_loss


def test_shares_are_stratified_fixed_and_apart_from_what_is_scored(make_run, workspace):
    searched = [make_run(share=0.75, split_seed=i) for i in (0, 0, 1)]
    pictures = [workspace.pictures(run, Scoring(split="validation")) for run in searched]
    for used in pictures:
        assert not set(used.training.ids) & set(used.scored.ids)
        assert set(used.training.ids) | set(used.scored.ids) == set(used.pool.ids)
        counts = used.training.labels.bincount()
        assert len(used.training) == 30
        assert counts.max() - counts.min() <= 1
    assert pictures[0].training.ids == pictures[1].training.ids != pictures[2].training.ids


def test_signals_of_a_share_are_those_of_its_pictures(taught, workspace):
    """A share looks its signals up in the file of all training pictures: each must be its own
    picture's.
    """
    run = taught("kd_ig_at", share=0.75, split_seed=3)
    prepare([run], workspace, 1)
    pictures = workspace.pictures(run)
    found = training_set(run, workspace, pictures).signals
    teacher = workspace.load_weights(run.teacher)
    training = pictures.training
    for kind in run.wanted:
        wanted = teacher.compute(
            kind, training.images / 255, training.labels, signal_spec(run, teacher, pictures.pool)
        )
        assert torch.allclose(getattr(found, kind), wanted, atol=1e-5), kind


@pytest.mark.parametrize(
    ("network", "of", "tap", "size"),
    [("s4", "mobilenet_v2", "features.4", (4, 4)), ("resnet8", "s4", "features.4", (2, 2))],
)
def test_a_runs_signals_are_asked_for_as_its_specification_says(
    make_run, digits, network, of, tap, size
):
    scale = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    teacher = Teacher(build(of, 10, 0.25), *scale, network=of)
    shape = {"network": network, "padding": 3, "flip": True}
    run = make_run(**shape, alpha=0.5, teacher=teacher.hash, pairing="released")
    spec = signal_spec(run, teacher, digits.train)
    assert (spec.teacher, spec.data) == (teacher.hash, digits.train.fingerprint)
    assert (spec.image_size, spec.padding, spec.flip) == (8, 3, True)
    assert (spec.mean, spec.std) == scale
    assert spec.settings.pairing == "released"
    assert (spec.attention_tap, spec.attention_size) == (tap, size)


def test_what_a_share_does_not_use_is_not_in_its_key(make_run, workspace):
    assert make_run(split_seed=3).key == make_run().key
    assert make_run(share=0.5, split_seed=3).key != make_run(share=0.5).key
    with pytest.raises(KdigError, match="choose a share below 1"):
        workspace.pictures(make_run(), Scoring(split="validation"))


def test_signals_are_prepared_once_for_all_runs(taught, workspace, monkeypatch):
    import kdig.core.signals

    calls, compute = [], kdig.core.signals.Teacher.compute
    monkeypatch.setattr(
        kdig.core.signals.Teacher,
        "compute",
        lambda self, kind, *args: calls.append(kind) or compute(self, kind, *args),
    )
    specifications = [taught(m, seed=s) for m in METHODS for s in range(3)]
    prepare(specifications, workspace, 1)
    assert sorted(calls) == [
        "attention",
        "attention",
        "logits",
        "logits",
        "maps",
        "maps",
    ]  # one block each, and a few rows again


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_recipes_train(make_run, workspace, optimizer, schedule):
    run = make_run(
        recipe={"optimizer": optimizer, "schedule": schedule, "label_smoothing": 0.1, "epochs": 3}
    )
    history = train(run, workspace, Scoring(every=2)).history
    assert [e.test_accuracy is not None for e in history] == [False, True, True]


def test_paper_recipe_is_the_default():
    assert Recipe().model_dump() == {
        "optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant", "weight_decay": 0.0, "batch_size": 64, "epochs": 100,
        "normalise": False, "label_smoothing": 0.0, "bn_momentum": 0.1,
    }  # fmt: skip


def test_results_survive_their_format(make_run):
    """A specification written to JSON and read back has the same key."""
    run = make_run(recipe={"learning_rate": 0.1})
    assert Run.model_validate_json(run.model_dump_json()).key == run.key


def test_fit_is_the_plain_loop(digits):
    """Channels last and a fused optimiser against the loop that tutorials show, step by step in
    float64.
    """

    class InDouble(torch.nn.Sequential):
        def forward(self, images):
            return super().forward(images.double())

    torch.manual_seed(0)
    fast = InDouble(student(8, width=0.25)).double()
    plain = copy.deepcopy(fast)
    dataset = IGDataset(digits.train.select(torch.arange(20)), padding=1, flip=False, seed=3)
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.01)
    fit(
        fast.to(memory_format=torch.channels_last), dataset, digits.test, DistillationLoss(), recipe
    )
    optimizer, criterion = (
        torch.optim.Adam(plain.parameters(), lr=0.01),
        torch.nn.CrossEntropyLoss(),
    )
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        for indices in dataset.order.split(8):
            images, labels, _ = dataset.__getitems__(indices)
            optimizer.zero_grad()
            criterion(plain.train()(images), labels).backward()
            optimizer.step()
    for (name, ours), theirs in zip(fast.state_dict().items(), plain.state_dict().values()):
        assert torch.allclose(ours, theirs, atol=1e-9), name


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_fused_optimizers_are_torchs_plain_ones(optimizer):
    """Twenty steps on a quadratic, against the same optimiser without `fused`."""
    from kdig.core.training import make_optimizer

    target = torch.linspace(-1, 1, 12)
    recipe = Recipe(optimizer=optimizer, learning_rate=0.05, weight_decay=0.01)
    ends = []
    for fused in (True, False):
        layer = torch.nn.Linear(12, 1, bias=False)
        torch.nn.init.ones_(layer.weight)
        updates = make_optimizer(layer, recipe)
        updates.param_groups[0]["fused"] = fused
        for _ in range(20):
            updates.zero_grad()
            ((layer.weight - target) ** 2).sum().backward()
            updates.step()
        ends.append(layer.weight.detach())
    assert torch.allclose(*ends, atol=1e-6)
    assert not torch.allclose(ends[0], torch.ones(12), atol=0.1)


@pytest.mark.parametrize("rival", ["mobilenet_v2", "resnet20"])
def test_rivals_train_and_come_back_from_the_store(make_run, workspace, rival):
    run = make_run(network=rival, width=0.3)
    assert run.key != make_run(width=0.3).key
    result = train(run, workspace)
    net = workspace.load_weights(result.weights)
    assert net.hash == result.weights
    predicted = predict(net.model, workspace.pictures(run).scored).argmax(1)
    assert predicted.tolist() == result.predicted.tolist()


@pytest.mark.parametrize("overlay", ["grey", "mixup"])
def test_overlays_without_maps_need_no_teacher(make_run, workspace, overlay):
    run = make_run(probability=0.5, overlay=overlay, steps=7, teacher="abc", pairing="released")
    found = (run.wanted, run.teacher, run.signals.steps, run.signals.pairing)
    assert found == (set(), None, 50, "static")
    assert len({run.key, make_run().key, make_run(probability=0.5, teacher="abc").key}) == 3
    assert train(run, workspace).run == run


@pytest.mark.parametrize("overlay", ["unmoved", "other", "phase", "mean"])
def test_overlay_controls_train(taught, workspace, overlay):
    results = execute([taught("ig", overlay=overlay), taught("ig")], workspace)
    assert results[0].weights != results[1].weights


def test_overlay_controls_are_for_a_pictures_own_signals(make_run):
    with pytest.raises(
        ValueError, match="overlay 'phase' is a control for pairing 'static', not for 'released'"
    ):
        make_run(probability=0.5, overlay="phase", pairing="released", teacher="abc")
    assert make_run(overlay="phase").key == make_run().key


def test_scoring_more_images_trains_nothing(make_run, workspace, monkeypatch):
    few, all_images = Scoring(images=50), Scoring()
    first = execute([make_run()], workspace, scoring=few)[0]
    monkeypatch.setattr("kdig.core.train.fit", lambda *args, **kwargs: pytest.fail("trained"))
    again = execute([make_run()], workspace, scoring=all_images)[0]
    assert (again.weights, again.run) == (first.weights, first.run)
    assert (len(first.predicted), len(again.predicted)) == (50, 599)
    assert execute([make_run()], workspace, scoring=few)[0] == first
    assert execute([make_run()], workspace, scoring=all_images)[0] == again


def test_a_network_scored_later_scores_as_if_it_had_been_then(make_run, workspace, tmp_path):
    execute([make_run()], workspace, scoring=Scoring(images=50))
    later = execute([make_run()], workspace)[0]
    at_once = execute([make_run()], Workspace(tmp_path / "at once"))[0]
    assert later.predictions == at_once.predictions
    assert later.last.test_accuracy == at_once.last.test_accuracy
    assert later.last.test_loss == pytest.approx(at_once.last.test_loss, rel=1e-5)


def test_earlier_epochs_of_a_network_scored_later_are_unknown(make_run, workspace):
    execute([make_run()], workspace, scoring=Scoring(images=50))
    later = execute([make_run()], workspace)[0]
    assert [epoch.test_accuracy is None for epoch in later.history] == [True, False]
    assert later.best is None
    row = frame([later]).iloc[0]
    assert row.accuracy == later.last.test_accuracy
    assert row.best_epoch_accuracy is None or np.isnan(row.best_epoch_accuracy)


def test_how_often_is_scored_does_not_train_again(make_run, workspace, monkeypatch):
    run = make_run(recipe={"epochs": 4})
    first = execute([run], workspace, scoring=Scoring(every=2))[0]
    monkeypatch.setattr("kdig.core.train.fit", lambda *args, **kwargs: pytest.fail("trained"))
    assert execute([run], workspace, scoring=Scoring(every=4))[0] == first
    assert [e.epoch for e in first.history if e.test_accuracy is not None] == [2, 4]


def test_why_runs_are_made_is_said(make_run, workspace, capsys):
    execute([make_run()], workspace)
    assert (
        "0 of 1 runs are kept, 1 are made; the first, student s8 seed 0" in capsys.readouterr().out
    )
    execute([make_run(), make_run(seed=3, recipe={"epochs": 1})], workspace)
    said = capsys.readouterr().out
    assert "1 of 2 runs are kept, 1 are made" in said
    assert "differs from the nearest stored run in recipe.epochs: 2 -> 1, seed: 0 -> 3" in said
    execute([make_run()], workspace, scoring=Scoring(images=50))
    assert "0 of 1 runs are kept, 1 are scored anew" in capsys.readouterr().out
    execute([make_run()], workspace)
    assert capsys.readouterr().out == ""
