"""Claims in sentences that somebody can read who knows neither the rules nor the columns."""

import fnmatch
import functools
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import pandas as pd

Claim = Mapping[str, Any]

# where a number comes from -> (sign, words of the mark, what it means)
MARKS = {
    "printed": ("◇", "printed", "a number that stands in the paper, or follows from such numbers"),
    "released": ("◐", "released", "a number from files that the authors published with the paper"),
    "run-here": (
        "●",
        "run here",
        "a number from a network built, trained or timed by this package",
    ),
}

# verdict -> (sign, what it means)
MEANINGS = {
    "supported": ("✓", "an effect has the direction that the paper claims"),
    "checks out": ("=", "the number follows from printed or released numbers"),
    "selected": ("↑", "true as printed; it is the best of several results, not the usual one"),
    "undecided": ("?", "the numbers allow both answers"),
    "text and code differ": ("≠", "the released code or files have something else than the text"),
    "inconsistent": ("≁", "numbers of the paper disagree with each other"),
    "contradicted": ("✗", "the numbers leave no room for the claimed effect"),
    "not run": ("…", "the data or settings of this profile cannot decide it, or nothing here can"),
}

TERMS = {
    "profile": "which images and how many runs: demo (digits), lite (part of CIFAR-10), paper",
    "points": "percentage points: from 90 % to 91 % is one point",
    "interval": "the values that fit the numbers; a 95 % interval misses the true one 1 in 20 times",
    "prediction interval": "the values that one more run, or one more network, is expected to have",
    "n": "how many runs, or images, a number rests on",
    "p": "how often chance alone would give a difference this large",
    "Welch, F, Newcombe": "names of tests; docs/statistics.md says what each asks",
    "Holm, Dunnett": "tests for several comparisons at once, so that one is not found by luck",
    "factorial": "all combinations of KD, IG and AT, judged together",
    "compression (x)": "the teacher's number of parameters over the student's",
    "Monte Carlo": "runs that each train on another random part of the images",
    "balanced accuracy": "the mean of the accuracies of the classes, so that each counts alike",
}

_ASKED = {
    "paper": "whether the printed numbers give this",
    "code": "whether the released code and files agree with this",
    "retest": "whether the authors' numbers show this, with a test that fits how they were taken",
    "selection": "whether a number that is the best of several is one that a reader may expect",
    "result": "whether networks trained here show this",
    "timing": "whether times measured here show this",
    "single": "what single released networks say about this",
    "open": "what would decide this",
    "outside": "whether a number can decide this",
}

_UNITS = {"%": " %", "x": "x", "year": ""}
_SINGULAR = {
    "families": "family",
    **{f"{unit}s": unit for unit in ("level", "network", "run", "table", "article", "picture")},
}
# rules of tests that are ours: the paper prints no p for them
_OWN_TESTS = ("significant", "not_significant", "beyond_chance", "not_rejected")


@functools.cache
def _table(name: str) -> pd.DataFrame:
    with (files("kdig.study") / "page" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def number(value: float) -> str:
    """Whole numbers whole, others to four digits.

    Thousands are set apart from 10,000 on, so that years stay years.
    """
    if pd.isna(value):
        return ""
    comma = "," if abs(value) >= 10_000 else ""
    whole = abs(value) >= 10_000 or float(value).is_integer()
    return (f"{value:{comma}.0f}" if whole else f"{value:.4g}").replace("-", "−")


def p_value(p: float) -> str:
    """`p = 0.03`, to two digits; what is smaller than 0.0001 is said to be so."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def with_unit(value: float, unit: str) -> str:
    """A number with its unit as a reader writes it: `p = 0.03`, `r = −0.114`, `91.18 %`, `2017`."""
    if pd.isna(value):
        return ""
    if unit == "p":
        return p_value(value)
    value = _rounded(value, unit)
    if unit == "r":
        return f"r = {number(value)}"
    named = _SINGULAR.get(unit, unit) if value == 1 else unit
    return (number(value) + _UNITS.get(unit, f" {named}")).rstrip()


def _rounded(value: float, unit: str) -> float:
    """Accuracies and their differences to two places, unless nothing would be left."""
    short = round(value, 2) if unit in ("%", "points") else value
    return short if short or not value else value


def stated(claim: Claim) -> str:
    """The number that the paper prints, with its unit; empty where it prints none.

    A test of our own has no p that the paper prints, and a claim about a direction no size.
    """
    ours = claim["rule"] in _OWN_TESTS
    size = claim["rule"] in ("at_least", "at_most", "within") and claim["value"] == 0
    if claim["rule"] == "effect":
        # the smallest effect of interest stands in for a size that is not printed
        size = abs(claim["value"] - claim["null"]) in (0, claim["smallest"])
    return "" if not claim["rule"] or ours or size else with_unit(claim["value"], claim["unit"])


def needed(claim: Claim) -> str:
    """What a number must be for a claim that prints none: `p < 0.05`, `above 0 points`."""
    if stated(claim) or not claim["rule"]:
        return ""
    if claim["rule"] in _OWN_TESTS:
        below = claim["rule"] in ("significant", "beyond_chance")
        return f"p {'<' if below else '≥'} {number(claim['tolerance'])}"
    if claim["rule"] == "effect":
        return f"{claim['direction']} {with_unit(claim['null'], claim['unit'])}"
    if claim["rule"] == "within":
        return f"within {number(claim['smallest'])} of {with_unit(claim['value'], claim['unit'])}"
    return _limit(claim)


def asked(claim: Claim) -> str:
    """The question that decides a claim."""
    return f"We asked {_ASKED[claim['kind']]}: “{claim['statement']}”."


def holds_if(claim: Claim) -> str:
    """What would have to be found; empty for a claim that no rule decides."""
    return _HOLDS_IF[claim["rule"]](claim) if claim["rule"] else ""


def _near(claim: Claim) -> str:
    value = with_unit(claim["value"], claim["unit"])
    if not claim["tolerance"]:
        return f"It would hold if our number were {value}."
    return f"It would hold if our number lay within {number(claim['tolerance'])} of {value}."


def _bound(claim: Claim) -> str:
    return f"It would hold if our number were {_limit(claim)}."


def _limit(claim: Claim) -> str:
    """A bound; a tolerance below zero stands for one that must be passed."""
    side, value = claim["rule"], claim["value"]
    if claim["tolerance"] < 0:
        side = {"at_least": "above", "at_most": "below"}[side]
    else:
        value += claim["tolerance"] * (1 if side == "at_most" else -1)
    return f"{side.replace('_', ' ')} {with_unit(value, claim['unit'])}"


def _inside(claim: Claim) -> str:
    value = with_unit(claim["value"], claim["unit"])
    spare = f" (± {number(claim['tolerance'])})" if claim["tolerance"] else ""
    if claim["kind"] == "selection":
        return (
            f"It would be called selected if {value}, the highest of several runs, lay inside our"
            f" interval{spare}: one more run may reach it, and the mean is what to expect."
        )
    return f"It would hold if {value} lay inside our interval{spare}."


def _effect(claim: Claim) -> str:
    sign = 1 if claim["direction"] == "above" else -1
    null = with_unit(claim["null"], claim["unit"])
    short = with_unit(claim["null"] + sign * claim["smallest"], claim["unit"])
    opposite = "below" if sign > 0 else "above"
    level = "" if pd.isna(claim["fact_p"]) else f", with p below {number(claim['tolerance'])}"
    return (
        f"It would hold if the whole interval lay {claim['direction']} {null}{level}. Failing"
        f" that, it would not hold if the whole interval lay {opposite} {short}. Otherwise it stays"
        " open."
    )


def _margin(claim: Claim) -> str:
    value, margin = with_unit(claim["value"], claim["unit"]), number(claim["smallest"])
    return (
        f"It would hold if the whole interval lay within {margin} of {value}. It would not hold"
        " if the whole interval lay farther away. Otherwise it stays open."
    )


def _test(end: str) -> Callable[[Claim], str]:
    return lambda claim: end.format(number(claim["tolerance"]))


_HOLDS_IF: dict[str, Callable[[Claim], str]] = {
    "equal": _near,
    "at_least": _bound,
    "at_most": _bound,
    "interval": _inside,
    "effect": _effect,
    "within": _margin,
    "significant": _test("It would hold if p were below {}."),
    "not_significant": _test("It would hold if p were {} or more."),
    "beyond_chance": _test(
        "It would hold if p were below {}: equal settings would then hardly differ by so much."
        " Otherwise it stays open."
    ),
    "not_rejected": _test(
        "It would not hold if p were below {}. Otherwise it stays open, since a test of this kind"
        " can only speak against it."
    ),
}


def found(claim: Claim) -> str:
    """What was measured, with its interval, number and p."""
    if pd.isna(claim["fact_value"]):
        return "Nothing has been measured for it in this profile."
    unit = "" if claim["unit"] in ("p", "r") else claim["unit"]
    parts = [_interval(claim), _count(claim["fact_n"]), _p(claim["fact_p"])]
    beside = "; ".join(part for part in parts if part)
    return f"We found {with_unit(claim['fact_value'], unit)}{f' ({beside})' if beside else ''}."


def measured(claim: Claim) -> str:
    """Our number that decides a claim, with its unit; empty when there is none."""
    value = claim["fact_p"] if claim["rule"] in _OWN_TESTS else claim["fact_value"]
    return with_unit(value, claim["unit"])


def _interval(claim: Claim) -> str:
    low, high = (_rounded(claim[f"fact_{end}"], claim["unit"]) for end in ("low", "high"))
    return "" if pd.isna(low) else f"{claim['fact_interval']} {number(low)} to {number(high)}"


def _count(n: float) -> str:
    return "" if pd.isna(n) else f"n = {number(n)}"


def _p(p: float) -> str:
    return "" if pd.isna(p) else p_value(p)


def why_open(claim: Claim) -> str:
    """What keeps a claim from being decided; empty when it is decided, or its numbers leave it
    open.
    """
    if claim["reason"]:
        return str(claim["reason"])
    if claim["verdict"] != "not run":
        return ""
    return str(claim["evidence"]).rpartition("; ")[2]


# what a claim that is open needs, in the order of effort
NEEDS = {
    "profile": "a notebook of this profile that has not run yet, or a file that it takes",
    "paper": "CIFAR-10 and the paper's settings; a run says how long it takes before it starts",
    "device": "a device like the paper's, for times",
    "more": "more runs: the authors' numbers allow both answers",
    "nothing": "something that is not in this package; each claim says what",
}


def need(claim: Claim) -> str:
    """What an open claim needs (a key of `NEEDS`); empty for one that is decided."""
    if claim["verdict"] not in ("not run", "undecided"):
        return ""
    if not claim["rule"] or claim["rule"] == "not_rejected":
        return "nothing"
    if claim["kind"] in ("result", "timing"):
        return {"result": "paper", "timing": "device"}[claim["kind"]]
    return "more" if claim["verdict"] == "undecided" else "profile"


def command(claim: Claim, profile: str) -> str:
    """The command that would decide an open claim; empty where none can."""
    wanted = need(claim)
    if wanted in ("", "nothing") or not claim["notebook"]:
        return ""
    at = profile if wanted == "profile" else "paper"
    place = " --root DATA" if at == "paper" else ""
    return f"python -m kdig --profile {at}{place} --only {claim['notebook']}"


def with_files(command: str) -> str:
    """What a command needs besides the images of CIFAR-10; empty where it needs nothing."""
    of_images = command.endswith("07_imagenet_subset")
    return "It needs subset_root and checkpoints (docs/running.md)." if of_images else ""


@functools.cache
def sources(shown: str) -> tuple[str, ...]:
    """Where the numbers of a table or figure come from (keys of `MARKS`)."""
    rows = _table("sources").itertuples()
    listed = (row.sources for row in rows if fnmatch.fnmatchcase(shown, str(row.shown)))
    return tuple(str(next(listed, "run-here")).split())


def sources_of(claim: Claim) -> tuple[str, ...]:
    """Where our number of a claim comes from; empty when there is none."""
    if pd.isna(claim["fact_value"]):
        return ()
    if claim["kind"] in ("result", "timing"):
        return ("run-here",)
    return sources(claim["item"]) if claim["item"] else (_BARE.get(claim["kind"], "released"),)


def words(claim: Claim) -> str:
    """What a search finds a claim by, beside what the page says of it."""
    return f"{claim['fact']} {_SEARCHED.get(claim['unit'], '')}".strip()


# whose soft targets the released code looks up, with places for facts
TARGETS = (
    "The released code looks up soft targets that belong to other images. A stored training loss,"
    " of an earlier revision, is {loss-kd-over-own[value]:.1f} times the most that own targets leave in"
    " a student that fits its images."
)

# unit -> what people call such a number
_SEARCHED = {"ms": "latency inference time speed", "points": "difference gain", "h": "hours time"}
# of numbers that no table shows
_BARE = {"paper": "printed"}


@functools.cache
def head(column: str) -> str:
    """A table's column in words: `p_paired_holm` is `p, paired t, Holm`."""
    words = dict(zip(_table("heads").name, _table("heads").words))
    text = words.get(column)
    if text is None:
        text = " ".join(words.get(part, part) for part in str(column).split("_"))
    # symbols such as p and t keep their case
    symbol = len(text.split(" ")[0].strip(",")) == 1
    return text if symbol else text[:1].upper() + text[1:]


def headlines() -> pd.DataFrame:
    """The abstract's findings in whole sentences, in the order of the page: `finding`, `figure`,
    `claim`, `says`, and `found`, a sentence with places for facts, of those that stand first.
    """
    return _table("headlines")


def filled(sentence: str, facts: Mapping[str, Mapping[str, Any]]) -> str:
    """`sentence` with the numbers of `facts` in their places; says so when one is missing."""
    try:
        # a sign, not the hyphen of a word
        return re.sub(r"(?<!\w)-(?=\d)", "−", sentence.format(**facts))
    except KeyError:
        return "This profile does not have all of its numbers."
