"""The published side of every comparison: the paper's tables, its claims, and the rules that decide
a verdict.

Nothing is computed about our own runs here; their numbers come in as facts, which the notebooks
leave in `outputs/<profile>/facts`.
"""

import functools
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

VERDICTS = ("reproduced", "not reproduced", "artefact", "inconsistent", "not run")
# kind of claim -> verdict when its rule is not met. `paper`: its printed numbers, or its networks'
# architecture, recomputed; `retest`: its released numbers under a test that fits how they were
# taken; `released`: its released networks, tried here; `result`: networks trained here;
# `measurement`: how a number was measured or selected, tried here. The first two need no run.
FAILED = dict.fromkeys(("retest", "released", "result"), "not reproduced") | {
    "paper": "inconsistent",
    "measurement": "artefact",
}
ALWAYS_DECIDED = ("paper", "retest")
OTHER_SETTINGS = "not the paper's data and settings, so a demonstration only"
OTHER_DEVICE = "times from this device cannot decide it"

Rule = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
# name -> the columns of a fact that it needs, and whether the claim (value, tolerance) is borne out
# by the fact
RULES: dict[str, tuple[tuple[str, ...], Rule]] = {
    "equal": (
        ("value",),
        lambda claim, fact: abs(fact["value"] - claim["value"]) <= claim["tolerance"] + 1e-9,
    ),
    "at_least": (
        ("value",),
        lambda claim, fact: fact["value"] >= claim["value"] - claim["tolerance"] - 1e-9,
    ),
    "at_most": (
        ("value",),
        lambda claim, fact: fact["value"] <= claim["value"] + claim["tolerance"] + 1e-9,
    ),
    "interval": (
        ("low", "high"),
        lambda claim, fact: (
            fact["low"] - claim["tolerance"] <= claim["value"] <= fact["high"] + claim["tolerance"]
        ),
    ),
    # only an interval that lies below the threshold as a whole speaks against the claim
    "not_below": (
        ("high",),
        lambda claim, fact: fact["high"] >= claim["value"] - claim["tolerance"] - 1e-9,
    ),
    # the interval as a whole is no farther from the value than the tolerance: "no difference" needs
    # runs enough to show it
    "within": (
        ("low", "high"),
        lambda claim, fact: (
            max(claim["value"] - fact["low"], fact["high"] - claim["value"])
            <= claim["tolerance"] + 1e-9
        ),
    ),
    # the interval, and a p that is corrected for several comparisons where the notebook gives one
    "above_zero": (
        ("low",),
        lambda claim, fact: (
            fact["low"] > claim["tolerance"] and not (pd.notna(fact["p"]) and fact["p"] >= 0.05)
        ),
    ),
    # an effect in the other direction does not bear a claim out, however small its p
    "significant": (
        ("p",),
        lambda claim, fact: (
            fact["p"] < claim["tolerance"] and not (pd.notna(fact["low"]) and fact["low"] < 0)
        ),
    ),
    "not_significant": (("p",), lambda claim, fact: fact["p"] >= claim["tolerance"]),
}


def published(name: str) -> pd.DataFrame:
    """One of the paper's tables, as printed: the file `kdig/paper/published/<name>.csv`; its README
    names each source.
    """
    with (files("kdig.paper") / "published" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


@functools.cache
def papers_settings(notebook: str) -> Mapping[str, Any]:
    """The paper's value of every setting that decides a result in `notebook`, by name.

    `kdig/paper/settings.csv` holds them, with the place where each stands. Settings that the paper
    does not have, but this audit does, are the audit's own for runs at the paper's size.
    """
    with (files("kdig.paper") / "settings.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, keep_default_na=False)
    rows = table[table.notebook.isin(["", notebook])]
    return {name: yaml.safe_load(value) for name, value in zip(rows.name, rows.value)}


def claims() -> pd.DataFrame:
    """Every claim: id, where it stands, what it says, its value, n and unit, the notebook and fact
    that decide it, and the rule.

    `tolerance` is the rule's threshold, in the claim's unit (for tests, the level); `n` the fewest
    runs, or pictures, that decide a claim about results: the paper's, or more where it has a single
    one and an interval of two would hold almost any value.
    """
    return published("claims").fillna({"unit": ""})


def decide(claims: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """`claims` with `verdict`, `ours`, `evidence`, `data` and `item`, by rule and from `facts` alone.

    A claim without its fact, or a claim about trained networks whose fact was measured on other
    data or settings than the paper's, is `not run`; `evidence` says why, in the words of the fact's
    `why_not_decided`. `item` is the table or figure that shows the fact.
    """
    known = {fact["fact"]: fact for fact in facts.to_dict("records")}
    decided = [_decide(claim, known.get(claim["fact"])) for claim in claims.to_dict("records")]
    return claims.assign(
        **{
            column: [row[column] for row in decided]
            for column in ("verdict", "ours", "evidence", "data", "item")
        }
    )


def verdicts(facts: list[dict[str, Any]], why_not_decided: str) -> dict[str, str]:
    """Fact -> verdict of the first claim that it decides, for a column beside a table.

    `why_not_decided` is "" when claims about results can be decided; a fact's own goes first.
    """
    columns = ["fact", "value", "low", "high", "interval", "n", "p", "why_not_decided", "data"]
    measured = pd.DataFrame(
        [{"why_not_decided": why_not_decided, "data": ""} | fact for fact in facts]
    ).reindex(columns=columns)
    table = claims()
    decided = decide(table[table.fact.isin(measured.fact)].drop_duplicates("fact"), measured)
    return dict(zip(decided.fact, decided.verdict))


def _decide(claim: Mapping[str, Any], fact: Mapping[str, Any] | None) -> dict[str, Any]:
    if fact is None:
        return {
            "verdict": "not run",
            "ours": None,
            "evidence": "no notebook of this profile has measured it yet",
            "data": "",
            "item": "",
        }
    needed, rule = RULES[claim["rule"]]
    missing = _why_undecided(claim, fact, needed)
    met = "reproduced" if rule(claim, fact) else FAILED[claim["kind"]]
    evidence = f"{_evidence(fact)}; {missing}" if missing else _evidence(fact)
    ours = fact["p"] if needed == ("p",) else fact["value"]
    # what a notebook trained on says nothing about the paper's own numbers, which it takes up
    # beside
    data = (
        "the paper's own numbers and networks" if claim["kind"] in ALWAYS_DECIDED else fact["data"]
    )
    return {
        "verdict": "not run" if missing else met,
        "ours": ours,
        "evidence": evidence,
        "data": data,
        "item": fact.get("item", ""),
    }


def _why_undecided(
    claim: Mapping[str, Any], fact: Mapping[str, Any], needed: tuple[str, ...]
) -> str:
    """What keeps a fact from deciding a claim; empty when nothing does."""
    if any(pd.isna(fact[column]) for column in needed):
        return "too few runs for the number that the rule needs"
    if claim["kind"] in ALWAYS_DECIDED:
        return ""
    if fact["why_not_decided"]:
        return str(fact["why_not_decided"])
    few = pd.notna(claim["n"]) and not fact["n"] >= claim["n"]
    return f"fewer than the {claim['n']:.0f} that this claim needs" if few else ""


def _evidence(fact: Mapping[str, Any]) -> str:
    parts = [f"{fact['value']:.6g}"]
    if pd.notna(fact["low"]):
        parts.append(f"{fact['interval']} {fact['low']:.4g} to {fact['high']:.4g}")
    if pd.notna(fact["n"]):
        parts.append(f"n = {fact['n']:.0f}")
    if pd.notna(fact["p"]):
        parts.append(f"p = {fact['p']:.2g}")
    return ", ".join(parts)
