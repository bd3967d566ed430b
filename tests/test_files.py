"""Files are written whole, read with their name in the message, and made by one process at a time."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from kdig import KdigError
from kdig.core.files import NoSpaceError, alone, atomic_write, read_tensors, reading, require_space


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("4096 requested and 1024 written"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 147712 vs 147608"),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
    ],
    ids=lambda fault: str(fault)[:30],
)
def test_full_disk_is_said_in_one_line_whoever_meets_it(tmp_path, fault):
    def write(part):
        raise fault

    with pytest.raises(NoSpaceError, match=f"no space left in {tmp_path}"):
        atomic_write(tmp_path / "a.npy", write)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("content", [b"bytes" * 9000, np.zeros(9000)], ids=["bytes", "array"])
def test_device_that_is_full(tmp_path, content):
    def write(part):
        with open("/dev/full", "wb") as file:
            np.save(file, content) if isinstance(content, np.ndarray) else file.write(content)

    with pytest.raises(NoSpaceError):
        atomic_write(tmp_path / "a", write)


def test_other_faults_of_writing_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError):
        atomic_write(
            tmp_path / "a", lambda part: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no"))
        )
    with pytest.raises(RuntimeError, match="shape"):
        atomic_write(tmp_path / "a", lambda part: torch.zeros(2).view(3))


def test_content_reaches_the_disk_before_the_name(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: steps.append("fsync") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *names: steps.append("rename") or replace(*names))
    atomic_write(tmp_path / "a.txt", lambda part: Path(part).write_text("x"))
    assert steps == ["fsync", "rename", "fsync"]


def test_space_is_checked_against_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: namedtuple("Usage", "free")(5_000_000))
    require_space(tmp_path / "new", 4_000_000, "weights")
    with pytest.raises(
        NoSpaceError, match=r"no space left in .*: weights need 6 MB, 5 MB are free"
    ):
        require_space(tmp_path, 6_000_000, "weights")


def test_reading_names_the_file_and_the_remedy(tmp_path):
    path = tmp_path / "a.csv"
    with (
        pytest.raises(
            KdigError, match=r"cannot read .*a\.csv \(No such file or directory\): make it"
        ),
        reading(path, "make it"),
    ):
        path.read_text()


def test_one_process_at_a_time_and_no_file_is_left(tmp_path):
    """Eight threads with descriptors of their own, as processes have: the lock file is removed and
    made again meanwhile.
    """
    inside, most = [], []

    def work():
        for _ in range(20):
            with alone(tmp_path / "a.lock", "it"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 160
    assert max(most) == 1
    assert not list(tmp_path.iterdir())


def test_lock_of_a_killed_process_is_free(tmp_path, capsys):
    code = "import pathlib, sys, time\nfrom kdig.core.files import alone\n"
    code += (
        "with alone(pathlib.Path(sys.argv[1]), 'it'):\n    print('held', flush=True)\n   "
        " time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a.lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    threading.Timer(0.3, process.kill).start()
    with alone(tmp_path / "a.lock", "it"):
        assert process.wait() == -9, "the lock was given while its holder lived"
    assert capsys.readouterr().out == "it: another process makes it; waiting\n"


def test_without_locks_nobody_waits(tmp_path, monkeypatch):
    fault = OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr("fcntl.flock", lambda *arguments: (_ for _ in ()).throw(fault))
    with alone(tmp_path / "a.lock", "it"):
        pass


def test_a_file_of_tensors_is_read_whole_or_refused(tmp_path):
    """Whatever is wrong with it: torch answers damage with a dozen kinds of error."""
    path = tmp_path / "some.pt"
    torch.save({"weight": torch.arange(4000.0), "name": "s8"}, path)
    whole = path.read_bytes()
    assert read_tensors(path)["name"] == "s8"
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="no whole file of torch's"):
            read_tensors(path)
    torch.save({"path": Path("x")}, path)
    with pytest.raises(ValueError, match="Python objects, not only weights"):
        read_tensors(path)
