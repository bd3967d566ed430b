"""Cores and threads."""

import pytest

from kdig import KdigError
from kdig.core.environment import cores


@pytest.mark.parametrize("said", ["many", "0", "1.5", "-1"])
def test_number_of_cores_that_is_none_is_named(monkeypatch, said):
    monkeypatch.setenv("KDIG_CORES", said)
    with pytest.raises(KdigError, match=f"KDIG_CORES is '{said}'"):
        cores()
    monkeypatch.setenv("KDIG_CORES", "3")
    assert cores() == 3
