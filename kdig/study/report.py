"""`report.html`: one page, readable as a plain file, that sets every claim beside what was
measured; and `summary.html`, the same on two pages.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from kdig import __version__
from kdig.core.files import atomic_write
from kdig.paper import (
    PAPER,
    VERDICTS,
    claims,
    counted,
    counted_by_source,
    decide,
    findings,
    published,
)
from kdig.study import wording
from kdig.study.command import Parser, exit_code
from kdig.study.exhibits import Books, Row, environments, figures, narrow, tables
from kdig.study.origin import origin, stated
from kdig.study.outputs import FACT, Outputs
from kdig.study.settings import brief, results_of
from kdig.study.summary import values as summary_values


def main(arguments: list[str] | None = None) -> int:
    """Write a profile's report anew, with links to what lies in another folder."""
    parser = Parser(prog="python -m kdig.study.report", description=main.__doc__)
    parser.add_argument("profile")
    parser.add_argument("folder", type=Path, help="where the page is to lie")
    options = parser.parse_args(arguments)
    return exit_code(lambda: write(options.profile, options.folder))


def write(profile: str, folder: Path) -> None:
    """Write the report and the summary into `folder`; say where their facts come from.

    Raises `KdigError` for a profile without facts.
    """
    outputs = results_of(profile)
    print(f"report of {brief(outputs.folder)}: {brief(build_report(outputs, profile, folder))}")


def build_report(outputs: Outputs, profile: str, folder: Path | None = None) -> Path:
    """Decide the claims from the facts on disk and write `report.html` and `summary.html` into
    `folder`, or beside the facts.

    Links lead to the notebooks' copies there: to HTML where there is some, else to `.ipynb`.
    Returns the report's path.
    """
    folder = folder or outputs.folder
    content = _content(outputs, profile, folder)
    _write(folder / "summary.html", _summary(outputs, content))
    return _write(folder / "report.html", content)


def current_report(outputs: Outputs, profile: str) -> Path:
    """The report's path; it is written only if it, or the summary, is of an earlier state."""
    pages = [outputs.folder / name for name in ("report.html", "summary.html")]
    now = origin(outputs.folder)
    if all(page.exists() and stated(page.read_text(encoding="utf-8")) == now for page in pages):
        return pages[0]
    return build_report(outputs, profile)


def build_summary(outputs: Outputs, profile: str, folder: Path) -> Path:
    """Write `summary.html`, two pages in the form of a reproducibility report; return its path."""
    content = _content(outputs, profile, folder)
    return _write(folder / "summary.html", _summary(outputs, content))


def _summary(outputs: Outputs, content: Row) -> Row:
    return content | summary_values(outputs.all_facts(), content)


def _write(path: Path, content: Row) -> Path:
    page = _template(f"{path.name}.j2").render(content)
    atomic_write(path, lambda part: Path(part).write_text(page, encoding="utf-8"))
    return path


def _content(outputs: Outputs, profile: str, folder: Path) -> Row:
    """All that the page's template takes."""
    facts = outputs.all_facts()
    decided = _with_facts(decide(claims(), facts), facts)
    books = Books(outputs, folder, facts)
    decided["links"] = [books.places.get(item, []) for item in decided["item"]]
    listed = _listed_findings(decided)
    drawn = {figure["name"]: figure for figure in figures(outputs.folder)}
    cards = _cards(listed, facts, drawn)
    return {
        "profile": profile,
        "origin": origin(outputs.folder),
        "version": __version__,
        "cards": cards,
        "groups": [
            (name, rows, counted(pd.Series([row["verdict"] for row in rows])))
            for name, rows in _groups(listed)
        ],
        "counts": counted(pd.Series([finding["verdict"] for finding in listed])),
        "sources": counted_by_source(pd.DataFrame(listed)),
        "central": counted(pd.Series([card["verdict"] for card in cards])),
        "claims": len(decided),
        "trained": decided[decided.kind == "result"].verdict.ne("not run"),
        "opened": _opened(decided, profile),
        "books": books.shown(list(drawn.values()), tables(outputs.folder)),
        "links": books.links,
        "coverage": published("coverage").to_dict("records"),
        "environments": environments(outputs.folder),
        "sections": list(dict.fromkeys(decided.section)),
    }


def _with_facts(decided: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """`decided` with what was measured for each claim, in columns `fact_value`, `fact_low` ..."""
    measured = facts[FACT].set_index("fact").add_prefix("fact_")
    return decided.join(measured, on="fact")


def _listed_findings(decided: pd.DataFrame) -> list[Row]:
    """Every finding with its claims, those of the abstract first."""
    whole = wording.headlines().set_index("finding").says
    rows = dict(list(decided.groupby("finding", sort=False)))
    return [
        {**row, "says": whole.get(row["finding"], row["says"]), "claims": _records(of), "of": of}
        for row in findings(decided).to_dict("records")
        for of in [rows[row["finding"]]]
    ]


def _records(rows: pd.DataFrame) -> list[Row]:
    return [row | {"distance": _distance(row)} for row in rows.to_dict("records")]


def _distance(claim: Row) -> float:
    """How far our number lies from the paper's, as a share of it; 0 where none is printed or
    where the two do not speak of the same thing."""
    printed = wording.stated(claim)
    measured = claim["fact_value"]
    compared = printed and claim["unit"] != "p" and claim["verdict"] != "not run"
    if not compared or pd.isna(measured) or not claim["value"]:
        return 0.0
    return float(abs(measured - claim["value"]) / abs(claim["value"]))


def _groups(listed: list[Row]) -> list[tuple[str, list[Row]]]:
    """The findings under their headings: abstract, conclusions, then the paper's sections."""
    order = {name: i for i, name in enumerate(dict.fromkeys(claims().section))}
    table = pd.DataFrame(
        [(PLACES[row["central"]] if row["central"] else _section(row), row) for row in listed],
        columns=["group", "row"],
    )
    grouped = [(str(name), list(part.row)) for name, part in table.groupby("group", sort=False)]
    return sorted(grouped, key=lambda group: order.get(group[0], -1))


def _section(finding: Row) -> str:
    return str(finding["of"].section.iloc[0])


def _cards(listed: list[Row], facts: pd.DataFrame, drawn: dict[str, Row]) -> list[Row]:
    """The abstract's findings, each with a figure, the claims that decide it, and a sentence with
    our numbers for those that stand first.
    """
    known = {finding["finding"]: finding for finding in listed}
    measured = {fact["fact"]: fact for fact in facts.to_dict("records")}
    return [
        {
            **known[row["finding"]],
            "found": wording.filled(row["found"], measured) if row["found"] else "",
            "number": _claim(known[row["finding"]], row["claim"]),
            "figure": drawn.get(row["figure"]),
            "deciding": _deciding(known[row["finding"]]["of"], row["claim"]),
        }
        for row in wording.headlines().to_dict("records")
        if row["finding"] in known
    ]


def _claim(finding: Row, name: str) -> Row:
    return next(claim for claim in finding["claims"] if claim["id"] == name)


def _deciding(rows: pd.DataFrame, first: str) -> list[Row]:
    """The claim that decides each reading of a finding: the one that speaks most against it, and
    of equals the one named `first`.
    """
    ranked = rows.assign(rank=rows.verdict.map(VERDICTS.index), other=rows.id != first)
    chosen = ranked.sort_values(["rank", "other"], kind="stable").drop_duplicates("reading")
    deciding: list[Row] = chosen.sort_index().to_dict("records")
    return deciding


def _opened(decided: pd.DataFrame, profile: str) -> list[Row]:
    """What the open claims need: how many, and the commands that would decide them."""
    rows = decided.to_dict("records")
    table = pd.DataFrame(
        [(wording.need(row), wording.command(row, profile)) for row in rows], columns=["need", "by"]
    )
    return [
        {
            "says": says,
            "claims": int((table.need == need).sum()),
            "commands": sorted(set(table.by[table.need == need]) - {""}),
        }
        for need, says in wording.NEEDS.items()
        if (table.need == need).any()
    ]


# where a finding stands -> its heading
PLACES = {"abstract": "Abstract", "conclusions": "Conclusions", "": "Text and supplement"}


def finding_table(found: pd.DataFrame) -> pd.DataFrame:
    """`paper.findings` as a reader sees them."""
    table = found.assign(place=found.central.map(PLACES))
    return table[["place", "source", "says", "verdict", "readings", "rows"]]


def chance_line(decided: pd.DataFrame, facts: pd.DataFrame) -> str:
    """How many of the tests that decide claims would err by chance, in a sentence.

    A test that decides several claims counts once.
    """
    # two seconds, which a finished profile need not wait
    from kdig.measure.stats import chance_errors

    open_words = {"not run", "checks out", "inconsistent"}
    tested = decided[decided.rule.isin(["effect", "beyond_chance"])]
    tested = tested[~tested.verdict.isin(open_words)]
    p = facts[facts.fact.isin(tested.fact)].drop_duplicates("fact").p.dropna()
    found = chance_errors(p)
    return (
        f"{found['tests']} tests with a p decide claims about effects; {found['found']} of these p"
        f" lie below 0.05. If there were nothing to find in any of them,"
        f" {found['by_chance']:.1f} would. {found['kept']} would still be found if one finding in"
        " twenty may be wrong (Benjamini and Hochberg)."
    )


def summary(found: pd.DataFrame) -> str:
    """The findings in Markdown, for the pages: how many have which verdict, by whose sentences they
    are, then those of the abstract and the conclusions.
    """
    central = found[found.central != ""]
    of = counted_by_source(found)
    paper, beside = of.pop(PAPER), [f"{source} ({_tally(n)})" for source, n in of.items()]
    parts = [
        f"{len(central)} findings about the abstract and the conclusions:"
        f" {_tally(counted(central.verdict))}.",
        f"{sum(paper.values())} findings about the paper in all: {_tally(paper)}.",
        *([f"Not counted there: {'; '.join(beside)}."] if beside else []),
    ]
    lines = [f"| {row.says} | {_said(row)} |" for row in central.itertuples()]
    return "\n\n".join([*parts, "\n".join(["| the paper says | verdict |", "|---|---|", *lines])])


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} *{word}*" for word, n in counts.items() if n)


def _said(row: Any) -> str:
    return f"*{row.verdict}*" + (f" ({row.readings})" if row.readings else "")


def _template(name: str) -> jinja2.Template:
    loader = jinja2.PackageLoader("kdig.study", "page")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=jinja2.select_autoescape(["html", "j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["with_files"] = wording.with_files
    environment.globals |= {"wording": wording, "strip": _strip, "narrow": narrow}
    return environment.get_template(name)


def _strip(claim: Row) -> Row | None:
    """Places, in percent of its width, of a small drawing: our number with its interval, the
    paper's number, and the value that the interval must pass; None where there is nothing to draw.
    """
    ours = {name: claim[f"fact_{name}"] for name in ("value", "low", "high")}
    drawn = claim["rule"] in ("interval", "effect", "within") and claim["unit"] != "p"
    if not drawn or any(pd.isna(number) for number in ours.values()):
        return None
    aims = {"printed": claim["value"]} if wording.stated(claim) else {}
    aims |= {"null": claim["null"]} if claim["rule"] == "effect" else {}
    least, most = min((ours | aims).values()), max((ours | aims).values())
    return {
        name: round(4 + 92 * (number - least) / ((most - least) or 1), 1)
        for name, number in (ours | aims).items()
    }


if __name__ == "__main__":
    sys.exit(main())
