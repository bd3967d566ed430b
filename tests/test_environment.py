"""Cores, and the revision that made a result."""

import os
import subprocess

import pytest

from kdig import KdigError
from kdig.core import environment
from kdig.core.environment import cores


@pytest.mark.parametrize("said", ["many", "0", "1.5", "-1"])
def test_number_of_cores_that_is_none_is_named(monkeypatch, said):
    monkeypatch.setenv("KDIG_CORES", said)
    with pytest.raises(KdigError, match=f"KDIG_CORES is '{said}'"):
        cores()
    monkeypatch.setenv("KDIG_CORES", "3")
    assert cores() == 3


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    """Of a container's two of 64, say."""
    monkeypatch.delenv("KDIG_CORES", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 9, 11}, raising=False)
    assert cores() == 3


def test_a_checkout_with_a_change_is_called_dirty(tmp_path, monkeypatch):
    file = tmp_path / "kdig" / "core" / "environment.py"
    file.parent.mkdir(parents=True)
    file.write_text("1")
    monkeypatch.setattr(environment, "__file__", str(file))
    assert environment._revision() == "unknown"
    by = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*by, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    clean = environment._revision()
    assert len(clean) == 7
    file.write_text("2")
    assert environment._revision() == f"{clean}-dirty"
