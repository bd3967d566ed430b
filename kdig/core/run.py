"""`Run`: what decides a network's weights. `Scoring`: what a trained network is tried on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kdig.core.losses import Reduction
from kdig.core.methods import METHODS, TERMS, Kind
from kdig.core.networks import LEVELS, NETWORKS, of_level
from kdig.core.signals import SignalSettings
from kdig.core.training import Recipe

# Raised whenever a change to the code changes what a specification computes, so that older results
# are not taken for new ones.
PROTOCOL = 4
# name of the paper's network -> its level: 0 is the teacher, 1 to 8 the students of Table S5
LEVEL_OF = {of_level(level): level for level in (0, *LEVELS)}


class Scoring(BaseModel):
    """What a trained network is tried on, which decides nothing about its weights.

    `split` is the test set, or the rest of the training images (`validation`), so that a search
    never sees the test set. `images` is how many images of the test set are used (None: all).
    While a network trains, it is scored every `every` epochs and after the last one. A network that
    is trained already can be scored after its last epoch only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    split: Literal["test", "validation"] = "test"
    images: int | None = Field(None, ge=1)
    every: int = Field(1, ge=1)

    @property
    def name(self) -> str:
        """Part of a file's name: scorings of one name are tried on the same images."""
        return f"{self.split}-{self.images or 'all'}"


class Weights(BaseModel):
    """The weights of a method's terms, and what belongs to one of them (Eqs. 1, 2 and 4 to 6)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    alpha: float = Field(0.0, ge=0, le=1)
    temperature: float = Field(1.0, gt=0)
    probability: float = Field(0.0, ge=0, le=1)
    gamma: float = Field(0.0, ge=0)
    attention_reduction: Reduction = "sum"


class Run(Weights):
    """Everything that decides a training's weights.

    `network` is a name of `NETWORKS`, trained as a teacher or as a student (`role`). `data` is the
    fingerprint of the whole data set, `train_images` how many of its training images are used
    (None: all), `teacher` the hash of the teacher's weights. Of the `train_images`, a stratified
    `share`, drawn with `split_seed`, is trained on (section 3.5's 80 %), and a share `label_noise`
    of these has another class as its label. Fields that a method does
    not use are set back to their defaults, so that, say, the plain student is one and the same run
    in every notebook.

    >>> plain = Run(dataset="digits", data="0" * 16, network="s8")
    >>> plain.key == plain.model_copy(update={"temperature": 4.0}).key
    False
    >>> plain.key == Run(dataset="digits", data="0" * 16, network="s8", temperature=4.0).key
    True
    """

    dataset: str
    data: str
    image_size: int = 32
    train_images: int | None = None
    share: float = Field(1.0, gt=0, le=1)
    split_seed: int = Field(0, ge=0)
    label_noise: float = Field(0.0, ge=0, lt=1)
    network: str = "s2"
    width: float = Field(1.0, gt=0)
    role: Literal["student", "teacher"] = "student"
    signals: SignalSettings = SignalSettings()
    teacher: str | None = None
    padding: int = Field(4, ge=0)
    flip: bool = True
    recipe: Recipe = Recipe()
    seed: int = 0

    @field_validator("network")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NETWORKS:
            raise ValueError(f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}")
        return name

    @model_validator(mode="before")
    @classmethod
    def _drop_unused(cls, values: dict[str, Any]) -> dict[str, Any]:
        unused = set().union(*(term.settings for term in TERMS if not values.get(term.weight)))
        signals = SignalSettings.model_validate(values.get("signals", {}))
        wanted, overlaid = _wanted(values, signals), bool(values.get("probability"))
        unused |= set() if wanted else {"teacher"}
        unused |= {"split_seed"} if values.get("share", 1.0) == 1.0 else set()
        kept = {name: value for name, value in values.items() if name not in unused}
        return kept | {"signals": signals.used(wanted, overlaid)}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        overlay, pairing = self.signals.overlay, self.signals.pairing_of("maps")
        if overlay != "map" and "maps" in self.wanted and pairing != "static":
            raise ValueError(
                f"overlay {overlay!r} is a control for pairing 'static', not for {pairing!r}"
            )
        return self

    @property
    def key(self) -> str:
        """Sixteen hex digits of the specification.

        A field added later with a default leaves older keys as they are.
        """
        values = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps({"protocol": PROTOCOL, **values}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def level(self) -> int | None:
        """The compression level of the paper's networks (Table S5); None for other networks."""
        return LEVEL_OF.get(self.network)

    @property
    def method(self) -> str:
        """One of `METHODS`, or `teacher`."""
        if self.role == "teacher":
            return "teacher"
        active = {term.weight for term in TERMS if getattr(self, term.weight)}
        return next(name for name, method in METHODS.items() if method.weights == active)

    @property
    def wanted(self) -> set[Kind]:
        """The teacher's signals that the method uses."""
        return _wanted(dict(self), self.signals)

    @property
    def looked_up(self) -> set[Kind]:
        """Those that are computed before training, and not on each view."""
        return {kind for kind in self.wanted if self.signals.pairing_of(kind) != "same_view"}

    def __str__(self) -> str:
        return f"{self.method} {self.network} seed {self.seed} ({self.key})"


def _wanted(values: Mapping[str, Any], signals: SignalSettings) -> set[Kind]:
    wanted = {term.signal for term in TERMS if values.get(term.weight)}
    return wanted - {"maps"} if signals.overlay in {"grey", "mixup"} else wanted
