"""Cells of a notebook can be run again in any order that a reader tries: no later cell takes a name
that an earlier one needs.
"""

import ast
from collections import defaultdict
from pathlib import Path

import nbformat
import pytest

from kdig.study import experiments

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def bound(node, comprehensions=True):
    """(name, kind) of all that a cell gives a value to: also as target of a loop, `with`, `except`,
    import or comprehension.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id, "variable"
        elif isinstance(child, ast.ExceptHandler) and child.name:
            yield child.name, "variable"
        elif isinstance(child, ast.alias):
            yield child.asname or child.name.partition(".")[0], "import"
        elif isinstance(child, DEFINITIONS[:3]):
            yield child.name, "definition"
        if not isinstance(child, DEFINITIONS) and (
            comprehensions or not isinstance(child, COMPREHENSIONS)
        ):
            yield from bound(child, comprehensions)


def code_cells(path):
    """Source and tags by cell id."""
    cells = nbformat.read(path, as_version=4).cells
    return {
        cell.id: (cell.source, cell.metadata.get("tags", []))
        for cell in cells
        if cell.cell_type == "code"
    }


def rebound(cells, fields):
    """One line for each name that takes another's place."""
    kinds, found, prepared = defaultdict(set), [], set()
    for cell, (source, tags) in cells.items():
        if "parameters" in tags:
            continue
        tree = ast.parse(source)
        found += [
            f"{cell} takes the name of the parameter {name}"
            for name, _ in bound(tree)
            if name in fields
        ]
        kept = set(bound(tree, comprehensions=False))
        found += [
            f"{cell} takes the name of {name}, which the setup cell made"
            for name, _ in kept
            if name in prepared
        ]
        for name, kind in kept:
            kinds[name].add(kind)
        if "check(" in source and "globals()" in source:
            prepared = {name for name, _ in kept}
    return found + [
        f"{name} is {' and '.join(sorted(k))}" for name, k in kinds.items() if len(k) > 1
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_name_is_taken_twice(path):
    fields = experiments.NOTEBOOKS.get(path.stem, experiments.Settings).model_fields
    assert rebound(code_cells(path), fields) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("epochs = 3", "parameter epochs"), ("for epochs in []: pass", "parameter epochs"),
        ("with f() as epochs: pass", "parameter epochs"), ("import x as epochs", "parameter epochs"),
        ("a = [epochs for epochs in b]", "parameter epochs"), ("def epochs(): pass", "parameter epochs"),
        ("(c, epochs), d = e", "parameter epochs"), ("if x:\n    epochs += 1", "parameter epochs"),
        ("data = 1", "data, which the setup cell made"), ("helper = 1", "helper is definition and variable"),
        ("def f():\n    epochs = data = helper = 1", None), ("g = [data for data in b]", None),
    ],
)  # fmt: skip
def test_the_check_finds_every_way_to_take_a_name(source, said):
    sources = {
        "setup": "settings = check(M, globals())\ndata = settings.data()",
        "other": "def helper(): pass",
        "later": source,
    }
    cells = {
        "parameters": ("epochs = 1", ["parameters"]),
        **{cell: (text, []) for cell, text in sources.items()},
    }
    found = rebound(cells, {"epochs"})
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_tables_of_the_search_keep_their_columns():
    """`s11` and `s12` are joined with our cells by their columns, in cells that a reader runs
    again.
    """
    for path, names in {
        "03_hyperparameters": ["s10", "s11", "s12"],
        "09_released_results": ["released"],
    }.items():
        cells = code_cells(NOTEBOOKS[0].with_name(f"{path}.ipynb"))
        for name in names:
            assert (
                sum(name in dict(bound(ast.parse(source))) for source, _ in cells.values()) == 1
            ), name
