"""The paper's eight methods, made of three terms: one table that everything else reads."""

from dataclasses import dataclass
from itertools import combinations, cycle
from typing import Literal

Kind = Literal["logits", "attention", "maps"]


@dataclass(frozen=True)
class Term:
    """One ingredient of a method: the weight that switches it on, and the teacher's signal that it
    uses.
    """

    key: str
    label: str
    weight: str
    signal: Kind
    settings: frozenset[str]  # what decides nothing while the weight is zero


TERMS = (
    Term("kd", "KD", "alpha", "logits", frozenset({"temperature"})),
    Term("ig", "IG", "probability", "maps", frozenset({"overlay"})),
    Term("at", "AT", "gamma", "attention", frozenset({"attention_reduction"})),
)


@dataclass(frozen=True)
class Method:
    """A set of terms (Table 4); none is the plain student.

    `colour` is the method's in every figure.
    """

    terms: tuple[Term, ...]
    colour: str

    @property
    def key(self) -> str:
        """Its name in parameters and files, such as `kd_ig`."""
        return "_".join(term.key for term in self.terms) or "student"

    @property
    def label(self) -> str:
        """Its name as the paper prints it, such as `KD & IG`."""
        return " & ".join(term.label for term in self.terms) or "Student"

    @property
    def weights(self) -> frozenset[str]:
        """The weights that are above zero."""
        return frozenset(term.weight for term in self.terms)


_SUBSETS = [subset for size in range(len(TERMS) + 1) for subset in combinations(TERMS, size)]
# seaborn's "colorblind": readers with any colour vision tell them apart
_COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494")
METHODS = {method.key: method for method in map(Method, _SUBSETS, cycle(_COLOURS))}
LABELS = {key: method.label for key, method in METHODS.items()}
# the printed label -> the key
KEYS = {label: key for key, label in LABELS.items()}
