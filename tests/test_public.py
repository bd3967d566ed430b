"""What `import kdig` offers: light to import, and each name with an example that runs."""

import doctest
import subprocess
import sys
from importlib import import_module

import pytest
import torch

import kdig
from kdig.core.networks import count_parameters
from kdig.core.signals import Signals
from kdig.core.training import Recipe

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
# it needs a notebook; tests/test_params.py has its examples
WITHOUT = {"open_notebook"}


def test_importing_the_package_imports_no_torch():
    code = "import sys, kdig; kdig.KdigError; print('torch' in sys.modules, kdig.kd_loss.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "kd_loss"]


def test_what_a_finished_profile_asks_imports_no_torch():
    code = (
        "import sys; from kdig.study import depends, reproduce; from kdig.study.settings import *;"
    )
    code += " from kdig.study.notebooks import NOTEBOOKS; print('04_ablation' in NOTEBOOKS);"
    code += " depends.dependencies(notebooks()[4]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_what_is_offered_is_there_and_nothing_else_is():
    assert set(kdig.__all__) <= set(dir(kdig))
    for name in kdig._PUBLIC:
        assert getattr(kdig, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'kd_los'"):
        kdig.kd_los  # noqa: B018


@pytest.mark.parametrize("name", sorted(set(kdig._PUBLIC) - WITHOUT))
def test_the_example_of_a_public_name_runs(name, tmp_path):
    given = {known: getattr(kdig, known) for known in kdig._PUBLIC}
    given |= {"torch": torch, "Signals": Signals, "Recipe": Recipe, "folder": tmp_path}
    given |= {"count_parameters": count_parameters}
    given |= vars(import_module(f"kdig.{kdig._PUBLIC[name]}"))
    (example,) = doctest.DocTestFinder(recurse=False).find(getattr(kdig, name), name, globs=given)
    assert example.examples, f"{name} has no example"
    said = []
    failed, _ = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=said.append)
    assert not failed, "".join(said)
