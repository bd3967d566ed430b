"""The notebooks that train, and the parameters that each accepts.

Needs no torch until an entry is asked for.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdig.study.experiments import Experiment

# notebook -> module of kdig.study and class
_PLACES = {
    "02_teacher_and_signals": ("experiments", "TeacherAndSignals"),
    "03_hyperparameters": ("experiments", "Search"),
    "04_ablation": ("experiments", "Ablation"),
    "05_compression": ("experiments", "Sweep"),
    "06_monte_carlo": ("experiments", "MonteCarlo"),
    "07_imagenet_subset": ("experiments", "ImageNetSubset"),
    "08_attention_maps": ("experiments", "AttentionMaps"),
    "09_released_code": ("experiments", "ReleasedCode"),
    "09_released_results": ("experiments", "ReleasedResults"),
    "10_alpha_pairing": ("evidence", "AlphaPairing"),
    "10_factorial": ("evidence", "Factorial"),
    "10_signature": ("evidence", "Signature"),
    "11_alignment": ("beyond", "Alignment"),
    "12_beyond": ("beyond", "Beyond"),
    "12_conditions": ("conditions", "Conditions"),
    "13_deployment": ("deployment", "Deployment"),
    "14_your_images": ("your_images", "YourImages"),
}


def module_of(notebook: str) -> str:
    """The module that holds what `notebook` accepts."""
    return f"kdig.study.{_PLACES[notebook][0]}"


class _Notebooks(Mapping[str, "type[Experiment]"]):
    """Imports only what a notebook needs, so that it depends on nothing else."""

    def __getitem__(self, notebook: str) -> "type[Experiment]":
        model: type[Experiment] = getattr(import_module(module_of(notebook)), _PLACES[notebook][1])
        return model

    def __contains__(self, notebook: object) -> bool:
        # Mapping's own would import the module
        return notebook in _PLACES

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


NOTEBOOKS = _Notebooks()
