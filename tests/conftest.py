"""Small shared pieces: a data set of coloured squares, a run on it, and the folder of real material
where there is one.
"""

import itertools
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import own_project, papers_table
from PIL import Image

from kdig import paper
from kdig.core.data import Split, load_dataset
from kdig.core.networks import of_level
from kdig.core.run import Run
from kdig.core.signals import SignalSettings
from kdig.core.store import Workspace
from kdig.core.training import Recipe
from kdig.paper import papers_settings
from kdig.study.experiments import Experiment
from kdig.study.printing import BROWSERS

SHARED = Path(os.environ.get("KDIG_SHARED", Path(__file__).parents[2] / "shared"))

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the same numbers in any order: one that depends on luck shows always or
    never.

    Not from 0: many tests and caches seed generators of their own with 0 and 1, and would meet the
    same numbers again.
    """
    torch.manual_seed(31_415)
    np.random.seed(31_415)  # noqa: NPY002, the global state is what is meant


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits", image_size=8)


@pytest.fixture
def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(40) % 4, tuple(f"{i:016x}" for i in range(40)))


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "out")


@pytest.fixture
def make_run(digits):
    """A tiny run on 8x8 digits: about a second.

    Beside a run's fields it takes `level` for the paper's networks (0 is the teacher) and the
    settings of signals by their names.
    """

    def make(**changes) -> Run:
        recipe = Recipe(
            **{"epochs": 2, "batch_size": 16, "bn_momentum": 0.5, **changes.pop("recipe", {})}
        )
        signals = {n: changes.pop(n) for n in SignalSettings.model_fields if n in changes}
        level = changes.pop("level", 8)
        defaults = {
            "dataset": "digits", "data": digits.fingerprint, "image_size": 8, "train_images": 40,
            "network": of_level(level), "role": "student" if level else "teacher", "width": 0.25,
            "padding": 1, "flip": False, "recipe": recipe, "signals": {"steps": 4, **signals},
        }  # fmt: skip
        return Run(**{**defaults, **changes})

    return make


def write_tree(root: Path) -> None:
    """Images of noise in ten classes, 80 to train on and 80 to test."""
    draw = np.random.default_rng(0)
    for part, name, i in itertools.product(("train", "test"), map(str, range(10)), range(8)):
        path = root / part / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Results go into a folder of the test's own."""
    monkeypatch.setenv("KDIG_OUTPUTS", str(tmp_path / "outputs"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose profiles can be edited."""
    root = own_project(tmp_path / "project")
    monkeypatch.setenv("KDIG_ROOT", str(root))
    return root


@pytest.fixture
def standard(tmp_path, monkeypatch):
    """The table of the paper's settings, in a copy that a test may edit, and CIFAR-10 as data.

    A test that edits the table calls `papers_settings.cache_clear` afterwards.
    """
    table = papers_table(tmp_path / "paper")
    monkeypatch.setattr(paper, "files", lambda package: table.parent)
    monkeypatch.setattr(Experiment, "data", lambda self: SimpleNamespace(is_cifar10=True))
    papers_settings.cache_clear()
    yield table
    papers_settings.cache_clear()


@pytest.fixture(scope="module")
def chromium():
    """The system's browser without a window; a test that needs it is skipped where there is none.

    For one file of tests: its event loop would be in the way of others.
    """
    driver_of = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(BROWSERS)}")
    with driver_of.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens an address at a width, without a connection.

    `page.asked` holds the addresses that the page asked for.
    """
    contexts = []

    def opened(address: str, width: int = 1280):
        contexts.append(
            chromium.new_context(viewport={"width": width, "height": 900}, offline=True)
        )
        page = contexts[-1].new_page()
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
