"""How the module is laid out: imports lead downwards, nothing is written twice, nothing is unused."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import pytest
from helpers import ROOT

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


def code_lines(source: str) -> list[str]:
    """The lines that say what is done, stripped: no imports, no docstrings, no comments, and no
    signatures, which functions that stand for each other share.
    """
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if text or isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, ast.FunctionDef):
            left_out.update(range(node.lineno, node.body[0].lineno))
    lines = [line.strip() for i, line in enumerate(source.splitlines(), 1) if i not in left_out]
    return [line for line in lines if line and not line.startswith("#")]


def repeated(sources: Mapping[str, str], run: int = 6) -> dict[str, list[str]]:
    """Runs of lines that occur twice -> the files that hold them."""
    holders = defaultdict(list)
    for name, source in sources.items():
        lines = code_lines(source)
        for start in range(len(lines) - run + 1):
            holders["\n".join(lines[start : start + run])].append(name)
    return {text: names for text, names in holders.items() if len(names) > 1}


def sources(*folders: str) -> dict[str, str]:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def test_no_six_lines_are_written_twice():
    twice = repeated(sources("kdig", "benchmarks"))
    assert not twice, "\n\n".join(f"{names}:\n{text}" for text, names in twice.items())


PLANTED = """
def {name}(first, second):
    \"\"\"{name}.\"\"\"
    total = 0
    for value in first:
        total += value

    # a comment between
    total -= second
    print(total)
    return total
"""


def test_six_planted_lines_are_seen():
    one, other = (PLANTED.format(name=name) for name in ("one", "other"))
    (names,) = repeated({"a.py": one, "b.py": other}).values()
    assert names == ["a.py", "b.py"]
    assert list(repeated({"a.py": f"{one}\n{other}"}).values()) == [["a.py", "a.py"]]
    assert not repeated({"a.py": one, "b.py": other.replace("total -= second", "total -= 1")})
    assert not repeated({"a.py": one, "b.py": other.replace("return total", "return None")})


def definitions(source: str) -> dict[str, range]:
    """Public functions and classes of a file -> their lines."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    nodes = [node for node in ast.parse(source).body if isinstance(node, kinds)]
    return {
        node.name: range(node.lineno, node.end_lineno + 1)
        for node in nodes
        if not node.name.startswith("_")
    }


def named(source: str) -> Iterator[tuple[str, int]]:
    """What a file's code names, and in which line; text counts where it is one name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno


def unused(module: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    """Public functions and classes of `module` that no line names but their own."""
    places = defaultdict(set)
    for file, source in {**module, **others}.items():
        for name, line in named(source):
            places[name].add((file, line))
    return [
        f"{file}: {name}"
        for file, source in module.items()
        for name, own in definitions(source).items()
        if not places[name] - {(file, line) for line in own}
    ]


def notebooks() -> dict[str, str]:
    """The code of each notebook."""
    books = {path.name: json.loads(path.read_text()) for path in ROOT.glob("notebooks/*.ipynb")}
    return {
        name: "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code")
        for name, book in books.items()
    }


def pages() -> dict[str, str]:
    """The functions that each page's template calls."""
    texts = {path.name: path.read_text() for path in ROOT.glob("kdig/study/page/*.j2")}
    return {name: "\n".join(re.findall(r"wording\.\w+", text)) for name, text in texts.items()}


def test_everything_public_is_used():
    """By the module itself, a notebook, a page or a benchmark: a test alone is no use."""
    left = unused(sources("kdig"), sources("benchmarks") | notebooks() | pages())
    assert not left, f"used by nothing: {', '.join(left)}"


def test_a_planted_unused_function_is_seen():
    module = {"a.py": "def lonely():\n    return lonely()\n\n\ndef wanted(): ...\n"}
    assert unused(module, {}) == ["a.py: lonely", "a.py: wanted"]
    assert unused(module, {"b.py": "import a\na.wanted()"}) == ["a.py: lonely"]
    assert unused(module, {"b.py": "getattr(a, 'lonely')(a.wanted)"}) == []
    assert unused({"a.py": "class Gone: ...\n_kept = 1\n\n\ndef _own(): ..."}, {}) == ["a.py: Gone"]


def raising(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Public functions and methods with a `raise` of their own: name -> docstring."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in [*tree.body, *(inner for known in classes for inner in known.body)]:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            raised = [n.exc for n in ast.walk(node) if isinstance(n, ast.Raise) and n.exc]
            if any("NotImplementedError" not in ast.unparse(error) for error in raised):
                yield node.name, ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "kdig")))
def test_what_a_public_function_raises_is_said(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [name for name, said in raising(tree) if "Raises" not in said] == []


def test_a_planted_silent_raise_is_seen():
    planted = 'class A:\n    def f(self):\n        """Says nothing."""\n        raise ValueError\n'
    assert list(raising(ast.parse(planted))) == [("f", "Says nothing.")]
