"""How the module is laid out: imports lead downwards."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# a wing may import from itself and from those before it
WINGS = ("core", "measure", "paper", "study")
FILES = sorted(path for wing in WINGS for path in (ROOT / "kdig" / wing).rglob("*.py"))


def imported(source: str) -> set[str]:
    """The wings of kdig from which a file imports."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [
        f"{n.module}.{a.name}" for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names
    ]
    names += [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    return {name.split(".")[1] for name in names if name.startswith("kdig.")} & set(WINGS)


def upwards(wing: str, source: str) -> set[str]:
    return {other for other in imported(source) if WINGS.index(other) > WINGS.index(wing)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "kdig")))
def test_imports_lead_downwards(path):
    assert not upwards(path.relative_to(ROOT / "kdig").parts[0], path.read_text(encoding="utf-8"))


def test_an_import_upwards_is_seen():
    assert upwards("core", "from kdig.paper import claims") == {"paper"}
    assert upwards("measure", "def f():\n    from kdig import study") == {"study"}
    assert upwards("study", "import kdig.core.data\nfrom kdig import KdigError") == set()
