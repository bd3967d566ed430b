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

# kind of claim -> its verdict when its rule is met, and when it is not. `paper`: printed numbers, or
# the networks' architecture, recomputed; `code`: the text against the released code and files;
# `retest`: released numbers under a test that fits how they were taken; `selection`: a number that
# is the best of several; `result`: networks trained here; `timing`: times taken here
WORDS = {
    "paper": ("checks out", "inconsistent"),
    "code": ("checks out", "text and code differ"),
    "retest": ("supported", "contradicted"),
    "selection": ("selected", "contradicted"),
    "result": ("supported", "contradicted"),
    "timing": ("supported", "contradicted"),
}
# what no rule decides, each with its reason in the table: `single` is a statement on a method of
# which one network was released, `open` needs what is not here, `outside` is no matter of fact
NEVER_DECIDED = {"single": "undecided", "open": "not run", "outside": "not run"}
# from the one that speaks most against a claim to the one that speaks most for it
VERDICTS = (
    "contradicted",
    "inconsistent",
    "text and code differ",
    "undecided",
    "selected",
    "checks out",
    "supported",
    "not run",
)
# kinds that need no run
ALWAYS_DECIDED = ("paper", "code", "retest", "selection")
OTHER_SETTINGS = "not the paper's data and settings, so a demonstration only"
OTHER_DEVICE = "times from this device cannot decide it"

# whether a fact bears a claim out; None where it leaves the question open
Rule = Callable[[Mapping[str, Any], Mapping[str, Any]], bool | None]


def _effect(claim: Mapping[str, Any], fact: Mapping[str, Any]) -> bool | None:
    """Supported by an interval beyond the null value and, where there is one, a p below the level;
    contradicted by an interval that ends short of the smallest effect of interest.
    """
    sign = 1 if claim["direction"] == "above" else -1
    low, high = sorted((sign * fact["low"], sign * fact["high"]))
    found = pd.isna(fact["p"]) or fact["p"] < claim["tolerance"]
    if low > sign * claim["null"] and found:
        return True
    return False if high < sign * claim["null"] + claim["smallest"] else None


def _within(claim: Mapping[str, Any], fact: Mapping[str, Any]) -> bool | None:
    """Supported by an interval no farther from the value than the smallest difference of interest;
    contradicted by one that is farther as a whole.
    """
    least, greatest = (claim["value"] + s * claim["smallest"] for s in (-1, 1))
    if fact["low"] >= least - 1e-9 and fact["high"] <= greatest + 1e-9:
        return True
    return False if fact["high"] < least or fact["low"] > greatest else None


# name -> the columns of a fact that it needs, and the rule
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
    # bounds by rounding, and intervals of one further value
    "interval": (
        ("low", "high"),
        lambda claim, fact: (
            fact["low"] - claim["tolerance"] <= claim["value"] <= fact["high"] + claim["tolerance"]
        ),
    ),
    "effect": (("low", "high"), _effect),
    "within": (("low", "high"), _within),
    # of printed p values: the statement is about the test's outcome, whichever it is
    "significant": (("p",), lambda claim, fact: fact["p"] < claim["tolerance"]),
    "not_significant": (("p",), lambda claim, fact: fact["p"] >= claim["tolerance"]),
    # more than equal cells give; a large p leaves open whether they are equal
    "beyond_chance": (("p",), lambda claim, fact: fact["p"] < claim["tolerance"] or None),
    # a test that does not reject a distribution does not show that distribution
    "not_rejected": (("p",), lambda claim, fact: False if _rejects(claim, fact) else None),
}


def _rejects(claim: Mapping[str, Any], fact: Mapping[str, Any]) -> bool:
    return bool(fact["p"] < claim["tolerance"])


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
    that decide it, the rule, and the `finding` that it belongs to.

    `tolerance` is the rule's, in the claim's unit (for tests, the level). A claim about an effect
    has `null`, the value without an effect, `direction`, and `smallest`, the smallest effect of
    interest, as a distance from `null`; for the rule `within`, `smallest` is the margin. `reading`
    names how a sentence is read that has more than one. `n` is the fewest runs, or pictures, that
    decide a claim about results: the paper's, or more where it has a single one and an interval of
    two would hold almost any value. `reason` says why no rule decides a claim.
    """
    return published("claims").fillna(dict.fromkeys(TEXTS, ""))


# columns of text, empty where nothing is to be said
TEXTS = ("unit", "reading", "direction", "reason", "fact", "rule", "notebook")


def findings(decided: pd.DataFrame) -> pd.DataFrame:
    """The findings in `decided` claims, those of the abstract and the conclusions first: `finding`,
    `says`, `central`, `source`, `verdict`, `rows`, and the verdict of each of its `readings`.

    `source` is whose sentence it is: `the paper`, another document, or a question of this project.

    A reading is as good as the claim that speaks most against it among those that are decided; a
    finding is as good as its best reading.
    """
    stated = published("findings").fillna({"central": "", "source": PAPER})
    grouped = dict(list(decided.groupby("finding")))
    rows = [
        {**line, **_finding(grouped[line["finding"]])}
        for line in stated.to_dict("records")
        if line["finding"] in grouped
    ]
    table = pd.DataFrame(rows, columns=["finding", "central", "source", "says", *_OF_FINDING])
    return table.sort_values("central", key=lambda c: c.map(_CENTRAL), kind="stable")


PAPER = "the paper"
_OF_FINDING = ["verdict", "rows", "readings"]
_CENTRAL = {"abstract": 0, "conclusions": 1, "": 2}


def _finding(rows: pd.DataFrame) -> dict[str, object]:
    known = rows[rows.verdict != "not run"]
    read = {name: _least(part.verdict) for name, part in known.groupby("reading", sort=False)}
    best = max(read.values(), key=VERDICTS.index, default="not run")
    named = "; ".join(f"{name}: {verdict}" for name, verdict in read.items() if name)
    return {"verdict": best, "rows": len(rows), "readings": named if len(read) > 1 else ""}


def _least(verdicts: pd.Series) -> str:
    return VERDICTS[min(map(VERDICTS.index, verdicts))]


def counted(verdicts: pd.Series) -> dict[str, int]:
    """Verdict -> how many there are, those that speak for the paper first."""
    return {word: int((verdicts == word).sum()) for word in (*VERDICTS[-2::-1], VERDICTS[-1])}


def counted_by_source(found: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Source -> `counted` of its `findings`, the paper itself first."""
    return {
        str(source): counted(part.verdict)
        for source, part in sorted(found.groupby("source"), key=lambda group: group[0] != PAPER)
    }


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
    if claim["kind"] in NEVER_DECIDED:
        return _not_decided(claim, fact)
    if fact is None:
        missing = "no notebook of this profile has measured it yet"
        return _row("not run", None, missing, "", "")
    needed, rule = RULES[claim["rule"]]
    missing = _why_undecided(claim, fact, needed)
    evidence = f"{_evidence(fact)}; {missing}" if missing else _evidence(fact)
    ours = fact["p"] if needed == ("p",) else fact["value"]
    # what a notebook trained on says nothing about the paper's own numbers, which it takes up
    # beside
    data = (
        "the paper's own numbers and networks" if claim["kind"] in ALWAYS_DECIDED else fact["data"]
    )
    verdict = "not run" if missing else _word(claim["kind"], rule(claim, fact))
    return _row(verdict, ours, evidence, data, fact.get("item", ""))


def _not_decided(claim: Mapping[str, Any], fact: Mapping[str, Any] | None) -> dict[str, Any]:
    """A claim that no rule decides, with its reason and with what was measured beside."""
    if fact is None:
        return _row("not run", None, claim["reason"], "", "")
    evidence = f"{_evidence(fact)}; {claim['reason']}"
    word = NEVER_DECIDED[claim["kind"]]
    return _row(word, fact["value"], evidence, fact["data"], fact.get("item", ""))


def _row(verdict: str, ours: object, evidence: str, data: str, item: str) -> dict[str, Any]:
    return {"verdict": verdict, "ours": ours, "evidence": evidence, "data": data, "item": item}


def _word(kind: str, met: bool | None) -> str:
    good, bad = WORDS[kind]
    return "undecided" if met is None else good if met else bad


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
