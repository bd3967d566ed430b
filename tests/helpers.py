"""The notebooks with the models of their parameters, and a project whose profiles a test may edit."""

import ast
import functools
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from kdig.study import notebooks as registered
from kdig.study.settings import Settings, free, notebooks_of, profile_settings

ROOT = Path(__file__).parents[1]
# the kept profiles
LITE, EVIDENCE = (ROOT / "outputs" / "reference" / name for name in ("lite", "evidence"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
MODELS: dict[str, type[Settings]] = {
    path.stem: registered.NOTEBOOKS.get(path.stem, Settings) for path in NOTEBOOKS
}
PROFILES = ("demo", "evidence", "lite", "paper")
# which profile runs which notebook
RUN = [(profile, path.stem) for profile in PROFILES for path in notebooks_of(profile)]
# those that compare with the paper's own numbers
PRINTED = [name for profile, name in RUN if profile == "paper" and MODELS[name] is not Settings]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def real_profile(notebook: str) -> str:
    """The profile of real images that runs a notebook: lite, where it does."""
    others = [profile for profile, name in RUN if name == notebook and profile != "demo"]
    return "lite" if "lite" in others else others[0]


def settings_of(notebook: str, profile: str = "demo", **given: object) -> Any:
    """The parameters of a notebook in a profile, but for what is `given`."""
    return profile_settings(MODELS[notebook], notebook, {"profile": profile, **given})


def own_project(folder: Path) -> Path:
    """A project in `folder` with the notebooks of this one and copies of its profiles.

    `KDIG_ROOT` must name it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    shutil.copytree(ROOT / "params", folder / "params")
    return folder


def edit_profile(path: Path, section: str, **values: object) -> None:
    """Set `values` in a section of a profile's file."""
    sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    sections[section] = {**sections.get(section, {}), **values}
    path.write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf-8")


def papers_table(folder: Path) -> Path:
    """A copy of `kdig/paper` with its tables in `folder`; the path of its `settings.csv`.

    A setting of `params/paper.yaml` that decides a result and has no row in the table gets one, so
    that tests of the comparison do not depend on what the table lacks.
    """
    folder.mkdir()
    (folder / "published").symlink_to(ROOT / "kdig" / "paper" / "published")
    path = folder / "settings.csv"
    path.write_text(_whole_table(), encoding="utf-8")
    return path


@functools.cache
def _whole_table() -> str:
    table = pd.read_csv(ROOT / "kdig" / "paper" / "settings.csv", keep_default_na=False, dtype=str)
    lacking = {
        name: value
        for notebook, model in registered.NOTEBOOKS.items()
        if ("paper", notebook) in RUN
        for name, value in settings_of(notebook, "paper").flat().items()
        if name not in free(model) | set(table.name)
    }
    rows = [(name, yaml.safe_dump(v).split("\n")[0], "", "") for name, v in lacking.items()]
    return pd.concat([table, pd.DataFrame(rows, columns=table.columns)]).to_csv(index=False)


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
