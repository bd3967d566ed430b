"""Knowledge distillation with integrated gradients, measured against arXiv 2506.14440.

Importing the package itself is light: torch is loaded when a name that needs it is first used.
"""

from importlib import import_module

__version__ = "0.1.0"

# what a user needs -> where it is defined
_PUBLIC = {
    "load_dataset": "core.data",
    "build": "core.networks",
    "load_released_checkpoint": "paper.released",
    "kd_loss": "core.losses",
    "attention_map": "core.losses",
    "attention_loss": "core.losses",
    "attribute": "core.attribution",
    "overlay": "core.augment",
    "IGDataset": "core.dataset",
    "fit": "core.training",
    "predict": "core.training",
    "Run": "core.run",
    "execute": "core.runs",
    "open_notebook": "study.settings",
}
__all__ = ["KdigError", *_PUBLIC]


class KdigError(Exception):
    """A mistake that the reader can mend.

    Its text is one line: what is wrong and what would be right.
    """


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kdig' has no attribute {name!r}")
    return getattr(import_module(f"kdig.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
