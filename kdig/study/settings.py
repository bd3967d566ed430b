"""What every notebook's parameters share: where the project and its results are, and how a
parameter is checked.

Needs no torch.
"""

import ast
import functools
import gc
import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType
from typing import Annotated, Any, ClassVar, TypeVar

import pandas as pd
import yaml
from IPython import get_ipython
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from kdig import KdigError
from kdig.core.files import atomic_write, differences
from kdig.study.notebooks import NOTEBOOKS
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


# the value of `teacher` that means the network in `outputs/reference/evidence`
REFERENCE = "reference"


def kept_folder(profile: str = "") -> Path:
    """Where the project keeps what a profile left: all of them, or one."""
    return project_root() / "outputs" / "reference" / profile


def teachers_file(teacher: str) -> Path:
    """The file that the parameter `teacher` names: a checkpoint, or the reference's model card."""
    if teacher == REFERENCE:
        return kept_folder("evidence") / "teacher.json"
    return located(teacher)


def brief(path: Path) -> Path:
    """`path` from the project root on, if it lies there, so that what is printed holds no folder of
    this machine.
    """
    # a link that leads out of the project is named as it stands in it
    for meant in (path.absolute(), path.resolve()):
        with suppress(KdigError, ValueError):
            return meant.relative_to(project_root())
    return path


# Large blocks kept by the allocator instead of going back to the kernel after every layer (glibc):
# faster training.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33)}


def profile_path(profile: str) -> Path:
    """The file of a profile, `params/<profile>.yaml`. Raises `KdigError` when there is none."""
    folder = project_root() / "params"
    path = folder / f"{profile}.yaml"
    if not path.is_file():
        known = sorted(other.stem for other in folder.glob("*.yaml"))
        near = get_close_matches(profile, known, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise KdigError(f"no profile {profile!r}: {meant}params/ has {', '.join(known)}")
    return path


def profile_values(profile: str, notebook: str, model: type["Settings"]) -> dict[str, Any]:
    """What a profile's file says for `notebook`: its sections in turn, the notebook's own last.

    Raises `KdigError` naming a file that is not YAML, or a section or parameter that is unknown.
    """
    path = profile_path(profile)
    values: dict[str, Any] = {}
    sections = _sections(path)
    for name in (*model.sections, notebook):
        section = sections.get(name) or {}
        if not isinstance(section, dict):
            raise KdigError(f"{brief(path)}, section {name}: write lines such as `epochs: 12`")
        unknown = [key for key in section if key not in parameters(model)]
        if unknown:
            found = _unknown(str(unknown[0]), model)
            raise KdigError(f"{brief(path)}, section {name}: {found}")
        values |= section
    if notebook not in (*_LIGHT, *sections):
        raise KdigError(f"{brief(path)} has no section {notebook}: {_where_run(notebook)}")
    return values


def _where_run(notebook: str) -> str:
    """Which profiles run a notebook, as an advice."""
    files = sorted((project_root() / "params").glob("*.yaml"))
    having = [path.stem for path in files if notebook in _sections(path)]
    return f"choose profile {' or '.join(having)}, or write one" if having else "write one"


def notebooks_of(profile: str) -> list[Path]:
    """The notebooks that a profile runs, in their order: those that are the same in every profile,
    and those for which its file has a section.

    Raises `KdigError` for an unknown profile.
    """
    sections = _sections(profile_path(profile))
    return [path for path in notebooks() if path.stem in sections or not trains(path)]


def _require_once(node: yaml.Node | None) -> None:
    """Raises `ValueError` for a name that stands twice in one section of a file: YAML lets the later
    one win in silence.
    """
    if isinstance(node, yaml.MappingNode):
        for name, count in Counter(str(key.value) for key, _ in node.value).items():
            if count > 1:
                raise ValueError(f"{name!r} stands {count} times in one section")
        for _, value in node.value:
            _require_once(value)


def _sections(path: Path) -> dict[str, Any]:
    """The sections of a profile's file by name."""
    try:
        text = path.read_text(encoding="utf-8")
        _require_once(yaml.compose(text))
        sections = yaml.safe_load(text) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())
        raise KdigError(
            f"cannot read {path}, which should hold sections of lines such as `epochs: 12`: {found}"
        ) from None
    known = ["common", "students", *(path.stem for path in notebooks())]
    named = list(sections) if isinstance(sections, dict) else [str(sections)]
    for name in (name for name in named if name not in known):
        near = get_close_matches(str(name), known, 1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise KdigError(f"{brief(path)} has no section {name!r}: {meant}use {', '.join(known)}")
    return sections


def sections_of(profile: str, notebook: str) -> list[dict[str, Any]]:
    """The sections of a profile's file that a notebook takes."""
    sections = _sections(profile_path(profile))
    names = [notebook] if notebook in _LIGHT else ["common", "students", notebook]
    return [sections.get(name) or {} for name in names]


def trains(notebook: Path) -> bool:
    """Whether a notebook takes the parameters of data and training."""
    return notebook.stem not in _LIGHT


def notebooks() -> list[Path]:
    """The project's notebooks in the order in which they run."""
    return sorted((project_root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


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
    "yardsticks",
}

S = TypeVar("S", bound="Settings")
T = TypeVar("T")


@dataclass(frozen=True)
class Nested:
    """Marks a field that is a group of parameters; each is set by its own name after `prefix`."""

    prefix: str = ""


# marks a parameter that says which runs are made, or where, but not what a run gives
FREE = "free"
Free = Annotated[T, FREE]


class Settings(BaseModel):
    """Parameters of every notebook."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    # sections of a profile's file that a notebook takes beside its own
    sections: ClassVar[tuple[str, ...]] = ()

    profile: Free[str] = Field(
        "demo", pattern=r"^[a-z0-9_-]+$", description="small letters, digits, _ and - only"
    )
    # what differs from the profile's file, as part of a folder's name
    _variation: str = PrivateAttr("")

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Parameters of a group, which are given by their own names, as the group."""
        nested: dict[str, Any] = {}
        for name, value in values.items():
            path = parameters(cls).get(name, (name,))
            if len(path) == 2:
                nested.setdefault(path[0], {})[path[1]] = value
            else:
                nested[name] = value
        return nested

    def flat(self) -> dict[str, Any]:
        """Every parameter by its own name, with its value."""
        values = self.model_dump()
        found = {}
        for name, path in parameters(type(self)).items():
            found[name] = values[path[0]] if len(path) == 1 else values[path[0]][path[1]]
        return found

    @property
    def outputs(self) -> Outputs:
        """Where results go: `outputs/<profile>` under `KDIG_OUTPUTS` or the project root.

        A notebook whose parameters differ from the profile's has a folder of its own, such as
        `outputs/demo+seeds=0,1`.
        """
        return outputs_of(self.profile + self._variation)


@functools.cache
def parameters(model: type[Settings]) -> dict[str, tuple[str, ...]]:
    """The name of every parameter -> where it stands in the model: a field, or a field of one."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in model.model_fields.items():
        mark = next((mark for mark in field.metadata if isinstance(mark, Nested)), None)
        group = field.annotation if mark else None
        if isinstance(group, type) and issubclass(group, BaseModel) and mark:
            found |= {mark.prefix + inner: (name, inner) for inner in group.model_fields}
        else:
            found[name] = (name,)
    return found


def free(model: type[Settings]) -> set[str]:
    """The parameters of `model` that do not decide what a run gives."""
    fields = {name for name, field in model.model_fields.items() if FREE in field.metadata}
    return {name for name, path in parameters(model).items() if path[0] in fields}


def outputs_of(name: str) -> Outputs:
    """The folder `name` under `KDIG_OUTPUTS`, or under `outputs` in the project root.

    One object for a folder: the facts noted so far outlive a setup cell that is run again.
    """
    return _outputs_at(located(os.environ.get("KDIG_OUTPUTS") or "outputs") / name)


@functools.cache
def _outputs_at(folder: Path) -> Outputs:
    return Outputs(folder)


def results_of(profile: str) -> Outputs:
    """The outputs of a profile, or its reference.

    Raises `KdigError` for an unknown profile, and when neither has facts.
    """
    profile_path(profile)
    kept = Outputs(kept_folder(profile))
    for outputs in (outputs_of(profile), kept):
        if any((outputs.folder / "facts").glob("*.csv")):
            return outputs
    raise KdigError(f"nothing to sum up: run `python -m kdig --profile {profile}` first")


def open_notebook(notebook: str, namespace: dict[str, Any]) -> Settings:
    """The checked parameters of `notebook`, from its `globals()`.

    Values come from `params/<profile>.yaml`; a parameter that the cell or papermill has set to
    anything but None goes first, and "all" stands for no limit. Where such a value differs from the
    profile's, results go into a folder of their own.

    At the first call in a kernel, every name that the notebook has set must be a parameter. When
    the cell is run again, only the names in the parameters cell must be, since later cells have set
    names of their own; and the values must be those of before, unless the parameters cell has been
    run again. From then on a `KdigError` in any cell shows as one line, and a table with its
    caption.

    Raises `KdigError` naming the parameter, what it is and what would be right.
    """
    return check(_model(notebook), namespace, notebook)


# notebooks without parameters of data and training: the same in every profile
_LIGHT = {"00_primer", "00_simulators", "01_literature_review", "99_claims"}


def _model(notebook: str) -> type[Settings]:
    if notebook in _LIGHT:
        return Settings
    if notebook not in NOTEBOOKS:
        known = ", ".join(sorted({*NOTEBOOKS, *_LIGHT}))
        raise KdigError(f"no notebook {notebook!r}: choose one of {known}")
    return NOTEBOOKS[notebook]


def check(model: type[S], namespace: dict[str, Any], notebook: str) -> S:
    """`open_notebook` for a known `model` of parameters."""
    _set_up_notebook()
    given = {name: value for name, value in _given(model, namespace).items() if value is not None}
    # a name that is mended after this call stays in the kernel, and means nothing
    namespace.setdefault("_kdig_checked", None)
    settings = profile_settings(model, notebook, given)
    _require_same(settings, namespace)
    _require_writable(settings.outputs.folder)
    _say_changes(settings, notebook)
    namespace["_kdig_checked"] = settings, _parameters_cell(namespace)[0]
    return settings


def _say_changes(settings: Settings, notebook: str) -> None:
    """Print how the profile's file has changed since the notebook last left results in its folder."""
    path = settings.outputs.folder / "settings" / f"{notebook}.json"
    ours = json.loads(settings.model_dump_json(exclude=PLACES))
    with suppress(OSError, ValueError):
        before = json.loads(path.read_text(encoding="utf-8"))
        if changed := differences(before, ours):
            said = f"its results in {brief(settings.outputs.folder)} are of {'; '.join(changed)}"
            print(f"{notebook}: {said}; running it replaces them", flush=True)
    text = json.dumps(ours, indent=1)
    atomic_write(path, lambda part: Path(part).write_text(text, encoding="utf-8"))


def profile_settings(model: type[S], notebook: str, given: Mapping[str, Any]) -> S:
    """The parameters of `notebook` in the profile that `given` names, and where `given` differs.

    Raises `KdigError` naming the parameter, what it is and what would be right.
    """
    given = {name: None if _is_all(value) else value for name, value in given.items()}
    profile = given.get("profile", "demo")
    validated(Settings, {"profile": profile})
    for name in given:
        if name not in parameters(model):
            raise KdigError(_unknown(name, model))
    values = {**profile_values(profile, notebook, model), "profile": profile}
    settings = validated(model, {**values, **given})
    ours, profiles = settings.flat(), validated(model, values).flat()
    changed = [name for name in given if name not in PLACES and ours[name] != profiles[name]]
    settings._variation = _named({name: ours[name] for name in changed})
    return settings


def _is_all(value: object) -> bool:
    return isinstance(value, str) and value == "all"


def validated(model: type[S], values: Mapping[str, Any]) -> S:
    """`values` as parameters. Raises `KdigError`, which explains every fault."""
    try:
        return model.model_validate(dict(values), strict=True)
    except ValidationError as error:
        raise KdigError("; ".join(_explain(fault, model) for fault in error.errors())) from None


def _named(changed: Mapping[str, Any]) -> str:
    """Values that differ from a profile's, as a part of a folder's name; in short where it is long."""
    if not changed:
        return ""
    said = ["=".join((name, _written(value))) for name, value in sorted(changed.items())]
    text = re.sub(r"[^\w.=,+-]", "_", "+".join(said))
    if len(text) > 60:
        text = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"+{text}"


def _written(value: object) -> str:
    if value is None:
        return "all"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _given(model: type[Settings], namespace: dict[str, Any]) -> dict[str, Any]:
    """The names that may be parameters, with their values."""
    again, assigned = "_kdig_checked" in namespace, _parameters_cell(namespace)[1]
    return {
        name: value
        for name, value in namespace.items()
        if name in parameters(model) or _may_be_meant(name, value, again, assigned)
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
        changed = [name for name, value in before.flat().items() if value != settings.flat()[name]]
        if changed:
            raise KdigError(
                f"{', '.join(changed)} changed after the parameters cell was run: run that cell"
                " again, then this one"
            )


def _unknown(name: str, model: type[Settings]) -> str:
    accepted = sorted(parameters(model))
    near = get_close_matches(name, accepted, 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown parameter {name!r}: {meant}this notebook accepts {', '.join(accepted)}"


def _explain(fault: Any, model: type[Settings]) -> str:
    name, value, kind = _place(fault["loc"], model), fault["input"], fault["type"]
    if kind == "extra_forbidden":
        return _unknown(name, model)
    if value is None:
        return f"parameter {name} has to have a limit: write a value in the place of 'all'"
    if isinstance(value, str) and kind in {"float_type", "int_type"}:
        return f"parameter {name} is the text {value!r}, not a number{_number_hint(name, value)}"
    if kind == "string_pattern_mismatch":
        return f"parameter {name} = {value!r}: write {model.model_fields[name].description}"
    if kind == "missing":
        return f"parameter {name} has no value: give it one in the profile's file"
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


def _place(location: tuple[Any, ...], model: type[Settings]) -> str:
    """The parameter's own name, and the place in a list, of a fault's location."""
    names = {path: name for name, path in parameters(model).items()}
    for length in (2, 1):
        if location[:length] in names:
            return ".".join(map(str, (names[location[:length]], *location[length:])))
    return ".".join(map(str, location))


def _number_hint(name: str, text: str) -> str:
    if text.lower() in {"null", "none", "~", ""}:
        return f": for no limit write -r {name} all on the command line, or 'all' in the cell"
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
        # what has been imported stays; statsmodels collects garbage at every correction for
        # several tests, and would look at a million objects each time
        gc.freeze()


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
