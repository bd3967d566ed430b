"""What every notebook's parameters share: where the project and its results are, and how a
parameter is checked.

Needs no torch.
"""

import ast
import os
import tempfile
from collections.abc import Collection
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType
from typing import Any, TypeVar

import pandas as pd
import yaml
from IPython import get_ipython
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdig import KdigError
from kdig.study.outputs import Outputs, captioned


def project_root() -> Path:
    """The checkout: `KDIG_ROOT`, or the nearest one at or above the working directory.

    Raises `KdigError` when there is none.
    """
    given, here = os.environ.get("KDIG_ROOT"), Path.cwd()
    if given:
        folder = expanded(given)
        if not all((folder / name).is_dir() for name in ("notebooks", "params")):
            raise KdigError(
                f"KDIG_ROOT is {given!r}, which holds no notebooks and params: set it to a checkout"
                " of kdig"
            )
        return folder.resolve()
    for folder in (here, *here.parents):
        if all(
            (folder / name).is_dir() for name in ("notebooks", "params", "kdig")
        ):  # another project may have the first two
            return folder.resolve()
    raise KdigError(
        f"no kdig project at or above {here}: start from a checkout, or set KDIG_ROOT to one"
    )


def expanded(path: str | Path) -> Path:
    """`path` with a leading `~` replaced by the home folder.

    Raises `KdigError` for a user without one.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise KdigError(
            f"{path}: there is no home folder of that name; write the path in full"
        ) from None


def located(path: str | Path) -> Path:
    """Where a path that a user gives leads: `~` is the home folder, and a relative path starts at
    the project root.
    """
    whole = expanded(path)
    return whole if whole.is_absolute() else project_root() / whole


def brief(path: Path) -> Path:
    """`path` from the project root on, if it lies there, so that what is printed holds no folder of
    this machine.
    """
    with suppress(KdigError, ValueError):
        return path.resolve().relative_to(project_root())
    return path


# Large blocks kept by the allocator instead of going back to the kernel after every layer (glibc):
# faster training.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33)}
# files of a profile that several notebooks share -> the parameter by which a notebook shows that it
# takes them
_SHARED = {"shared": "dataset", "students": "learning_rate"}


def parameter_files(profile: Path, notebook: str, accepted: Collection[str]) -> list[Path]:
    """The YAML files in the folder `profile` that set the parameters `accepted` by `notebook`.

    Its own comes last and wins.
    """
    files = [
        profile / f"{name}.yaml" for name, parameter in _SHARED.items() if parameter in accepted
    ]
    return [path for path in [*files, profile / f"{notebook}.yaml"] if path.exists()]


def parameter_values(profile: Path, notebook: str, accepted: Collection[str]) -> dict[str, Any]:
    """What these files say.

    Raises `KdigError` naming a file that is not YAML or holds no names with values.
    """
    values: dict[str, Any] = {}
    for path in parameter_files(profile, notebook, accepted):
        try:
            values |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise KdigError(
                f"cannot read {path}, which should hold lines such as `epochs: 12`:"
                f" {' '.join(str(error).split())}"
            ) from None
    return values


# parameters that say where things are and who computes: a profile's results are the same whatever
# they are
PLACES = {
    "root",
    "download",
    "device",
    "engine",
    "workers",
    "threads",
    "subset_root",
    "checkpoints",
}

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Parameters of every notebook."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    profile: str = Field(
        "demo", pattern=r"^[a-z0-9_-]+$", description="small letters, digits, _ and - only"
    )

    @property
    def outputs(self) -> Outputs:
        """Where this profile's results go: `outputs/<profile>` under `KDIG_OUTPUTS` or the project
        root.
        """
        return outputs_of(self.profile)


def outputs_of(name: str) -> Outputs:
    """The folder `name` under `KDIG_OUTPUTS`, or under `outputs` in the project root."""
    return Outputs(located(os.environ.get("KDIG_OUTPUTS") or "outputs") / name)


def check(model: type[S], namespace: dict[str, Any], notebook: str = "") -> S:
    """The notebook's parameters, from its `globals()`, as a checked `model`.

    At the first call in a kernel, every name that the notebook has set must be one of the model's.
    When the cell is run again, only the names in the parameters cell must be, since later cells
    have set names of their own; and the values must be those of before, unless the parameters cell
    has been run again. From then on a `KdigError` in any cell shows as one line, and a table with
    its caption.

    With `notebook`, values under the name of a profile in `params/` must be that profile's, apart
    from those in `PLACES`.

    Raises `KdigError` naming the parameter, what it is and what would be right.
    """
    _set_up_notebook()
    given = _given(model, namespace)
    namespace.setdefault(
        "_kdig_checked", None
    )  # a name that is mended after this call stays in the kernel, and means nothing
    try:
        settings = model(**given)
    except ValidationError as error:
        raise KdigError("; ".join(_explain(fault, model) for fault in error.errors())) from None
    if "profile" in given:
        _require_profile(settings, notebook)
    _require_same(settings, namespace)
    _require_writable(settings.outputs.folder)
    namespace["_kdig_checked"] = settings, _parameters_cell(namespace)[0]
    return settings


def _given(model: type[Settings], namespace: dict[str, Any]) -> dict[str, Any]:
    """The names that may be parameters, with their values."""
    again, assigned = "_kdig_checked" in namespace, _parameters_cell(namespace)[1]
    return {
        name: value
        for name, value in namespace.items()
        if name in model.model_fields or _may_be_meant(name, value, again, assigned)
    }


def _may_be_meant(name: str, value: object, again: bool, assigned: set[str]) -> bool:
    """Whether a name that is no parameter was meant as one."""
    if name.startswith("_") or name in {"In", "Out", "exit", "quit", "open", "get_ipython"}:
        return False
    return name in assigned if again else not isinstance(value, (ModuleType, FunctionType, type))


def _parameters_cell(namespace: dict[str, Any]) -> tuple[int, set[str]]:
    """Number of the last cell so far that set `profile`, and the names that it set.

    (0, none) outside IPython.
    """
    for number, source in reversed(list(enumerate(namespace.get("In", [])))):
        names = _assigned(source)
        if "profile" in names:
            return number, names
    return 0, set()


def _assigned(source: str) -> set[str]:
    """The names that the statements of a cell set."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # the cell did not run
        return set()
    targets = [t for s in statements if isinstance(s, ast.Assign) for t in s.targets]
    targets += [s.target for s in statements if isinstance(s, (ast.AnnAssign, ast.AugAssign))]
    return {
        node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
    }


def _require_same(settings: Settings, namespace: dict[str, Any]) -> None:
    """Without a new run of the parameters cell, other values come from a later cell that took a
    parameter's name.
    """
    before, cell = namespace["_kdig_checked"] or (None, 0)
    if type(before) is type(settings) and cell == _parameters_cell(namespace)[0]:
        changed = [name for name, value in before if value != getattr(settings, name)]
        if changed:
            raise KdigError(
                f"{', '.join(changed)} changed after the parameters cell was run: run that cell"
                " again, then this one"
            )


def _require_profile(settings: Settings, notebook: str) -> None:
    """Results of other settings must not be filed under the name of a profile that is defined in
    `params/`.
    """
    if not notebook:
        return
    profile = settings.profile
    wanted = parameter_values(
        project_root() / "params" / profile, notebook, type(settings).model_fields
    )
    other = [
        name
        for name, value in wanted.items()
        if name not in PLACES and getattr(settings, name, value) != value
    ]
    if other:
        named = ", ".join(other[:4]) + (f" and {len(other) - 4} more" if len(other) > 4 else "")
        remedy = (
            "set profile to a name of your own, such as 'mine', or run `make reproduce"
            f" PROFILE={profile} ONLY={notebook}`"
        )
        raise KdigError(
            f"profile {profile!r} has other values of {named} in params/{profile}: {remedy}"
        )


def _explain(fault: Any, model: type[Settings]) -> str:
    name, value, kind = ".".join(map(str, fault["loc"])), fault["input"], fault["type"]
    if kind == "extra_forbidden":
        near = get_close_matches(name, model.model_fields, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        return (
            f"unknown parameter {name!r}: {meant}this notebook accepts"
            f" {', '.join(sorted(model.model_fields))}"
        )
    if isinstance(value, str) and kind in {"float_type", "int_type"}:
        return f"parameter {name} is the text {value!r}, not a number{_number_hint(name, value)}"
    if kind == "string_pattern_mismatch":
        return f"parameter {name} = {value!r}: write {model.model_fields[name].description}"
    hint = {
        "list_type": (
            f"not a list: write -y '{{{name}: [...]}}' on the command line, or [...] in the cell"
        ),
        "bool_type": "neither True nor False: write True or False (-p on the command line, not -r)",
        "string_type": "not a text: use -r on the command line, not -p, or quotes",
    }.get(kind)
    if hint:
        return f"parameter {name} = {value!r} is {hint}"
    reason = fault["msg"].removeprefix("Value error, ")
    return f"parameter {name} = {value!r}: {reason}" if name else reason


def _number_hint(name: str, text: str) -> str:
    if text.lower() in {"null", "none", "~", ""}:
        return f": for no value write -p {name} None on the command line, or None in the cell"
    try:
        float(text)
    except ValueError:
        return ""
    if isinstance(yaml.safe_load(text), str):
        return " (YAML reads 1e-3 as text: write 1.0e-3)"
    return f": use -p {name} {text} on the command line, not -r"


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        given = os.environ.get("KDIG_OUTPUTS")
        named = f" (KDIG_OUTPUTS is {given!r})" if given else ""
        raise KdigError(
            f"cannot write to {folder}{named}: {error.strerror}; set KDIG_OUTPUTS to a folder that"
            " can be written"
        ) from None


def _set_up_notebook() -> None:
    """Inside IPython, print a `KdigError` without its traceback (the cell still fails), and show
    tables with their captions.
    """
    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((KdigError,), _one_line)
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, captioned)


def _one_line(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType,
    tb_offset: Any = None,
) -> list[str]:
    line = [f"{kind.__name__}: {error}"]
    shell._showtraceback(kind, error, line)
    return line
