"""The key of a stored run, computed anew without torch, which takes seconds to import.

The defaults of `Run` are read from the source, since a key leaves out what is as by default.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kdig.study.depends import PACKAGE

# class -> the file of kdig/core that defines it
_MODULES = {"Run": "run", "Weights": "run", "SignalSettings": "signals", "Recipe": "training"}


def key_of(run: Mapping[str, Any]) -> str:
    """What `Run.key` is for the run that a record holds."""
    values = {"protocol": protocol(), **_changed(run, defaults("Run"))}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _changed(values: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not as by default. A field that is missing was added later."""
    whole = {
        name: {**default[name], **value} if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return {
        name: _changed(value, default[name]) if isinstance(value, dict) else value
        for name, value in whole.items()
        if name not in default or value != default[name]
    }


@functools.cache
def defaults(name: str) -> dict[str, Any]:
    """Field -> default of one of the classes above, with those of the classes that it extends."""
    of = next(n for n in _parsed(name).body if isinstance(n, ast.ClassDef) and n.name == name)
    bases = [base.id for base in of.bases if isinstance(base, ast.Name) and base.id in _MODULES]
    inherited = {field: value for base in bases for field, value in defaults(base).items()}
    own = {
        node.target.id: _value(node.value)
        for node in of.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
    }
    return inherited | own


def _value(node: ast.expr) -> Any:
    """A literal, the first argument of `Field`, or the defaults of a nested class."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    return defaults(name) if name in _MODULES else ast.literal_eval(node.args[0])


@functools.cache
def _parsed(name: str) -> ast.Module:
    path = PACKAGE / "core" / f"{_MODULES[name]}.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def protocol() -> int:
    """The version of what a specification computes, which is part of every key.

    Raises `LookupError` where the source states none.
    """
    for node in _parsed("Run").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PROTOCOL":
            return int(ast.literal_eval(node.value))
    raise LookupError("kdig/core/run.py states no PROTOCOL")
