"""What every notebook's parameters share: where the project and its results are, and how a parameter is checked. Needs no torch."""

import os
from collections.abc import Collection
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType
from typing import Any, TypeVar

import pandas as pd
from IPython import get_ipython
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdig import KdigError
from kdig.files import atomic_write
from kdig.outputs import Outputs, captioned


def project_root() -> Path:
    """The folder that holds `notebooks` and `params`: `KDIG_ROOT`, or the nearest such folder at or above the working directory."""
    here = Path.cwd()
    candidates = [Path(os.environ["KDIG_ROOT"])] if "KDIG_ROOT" in os.environ else [here, *here.parents]
    for folder in candidates:
        if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
            return folder.resolve()
    raise KdigError(f"no kdig project at or above {here}: start from a checkout, or set KDIG_ROOT to one")


# Large blocks kept by the allocator instead of going back to the kernel after every layer (glibc): faster training.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33)}
# files of a profile that several notebooks share -> the parameter by which a notebook shows that it takes them
_SHARED = {"shared": "dataset", "students": "learning_rate"}


def parameter_files(profile: Path, notebook: str, accepted: Collection[str]) -> list[Path]:
    """The YAML files in the folder `profile` that set the parameters `accepted` by `notebook`; its own comes last and wins."""
    files = [profile / f"{name}.yaml" for name, parameter in _SHARED.items() if parameter in accepted]
    return [path for path in [*files, profile / f"{notebook}.yaml"] if path.exists()]


S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Parameters of every notebook."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    profile: str = Field("demo", pattern=r"^[a-z0-9_-]+$")

    @property
    def outputs(self) -> Outputs:
        """Where this profile's results go: `outputs/<profile>` under `KDIG_OUTPUTS` or the project root."""
        return outputs_of(self.profile)


def outputs_of(name: str) -> Outputs:
    """The folder `name` under `KDIG_OUTPUTS`, or under `outputs` in the project root."""
    return Outputs(Path(os.environ.get("KDIG_OUTPUTS", project_root() / "outputs")) / name)


def check(model: type[S], namespace: dict[str, Any]) -> S:
    """The notebook's parameters, from its `globals()`, as a checked `model`.

    At the first call in a kernel, every name that the notebook has set must be one of the model's; when the cell is run again,
    later cells' names are passed over. From then on a `KdigError` in any cell shows as one line, and a table with its caption.
    Raises `KdigError` naming the parameter, what it is and what would be right.
    """
    _set_up_notebook()
    hidden = {"In", "Out", "exit", "quit", "open", "get_ipython"}
    again = namespace.get("_kdig_checked", False)
    namespace["_kdig_checked"] = True
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in hidden and not isinstance(value, (ModuleType, FunctionType, type))
    }
    given = {name: value for name, value in given.items() if not again or name in model.model_fields}
    try:
        settings = model(**given)
    except ValidationError as error:
        raise KdigError("; ".join(_explain(fault, model) for fault in error.errors())) from None
    _require_writable(settings.outputs.folder)
    return settings


def _explain(fault: Any, model: type[Settings]) -> str:
    name, value = ".".join(map(str, fault["loc"])), fault["input"]
    if fault["type"] == "extra_forbidden":
        return f"unknown parameter {name!r}: this notebook accepts {', '.join(sorted(model.model_fields))}"
    if isinstance(value, str) and fault["type"] in {"float_type", "int_type"}:
        return f"parameter {name} is the text {value!r}, not a number (YAML reads 1e-3 as text: write 1.0e-3)"
    reason = fault["msg"].removeprefix("Value error, ")
    return f"parameter {name} = {value!r}: {reason}" if name else reason


def _require_writable(folder: Path) -> None:
    try:
        atomic_write(folder / ".writable", lambda part: Path(part).touch())
        (folder / ".writable").unlink()
    except OSError as error:
        raise KdigError(f"cannot write to {folder}: {error.strerror}; set KDIG_OUTPUTS to a folder that can be written") from None


def _set_up_notebook() -> None:
    """Inside IPython, print a `KdigError` without its traceback (the cell still fails), and show tables with their captions."""
    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((KdigError,), _one_line)
        shell.display_formatter.formatters["text/html"].for_type(pd.DataFrame, captioned)


def _one_line(
    shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType, tb_offset: Any = None
) -> list[str]:
    line = [f"{kind.__name__}: {error}"]
    shell._showtraceback(kind, error, line)
    return line
