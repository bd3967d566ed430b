"""`report.html`: one page, readable as a plain file, that sets every claim beside what was
measured.
"""

import ast
import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import pandas as pd

from kdig import __version__
from kdig.core.files import atomic_write, reading
from kdig.paper import claims, counted, decide, findings, published
from kdig.study.outputs import WRITE_AGAIN, Outputs, read_caption, read_table

# the table of trained networks that a reader looks for first
_HEADLINE = "04_table4"


def build_report(outputs: Outputs, profile: str) -> Path:
    """Decide the claims from the facts on disk and write `outputs/<profile>/report.html`.

    Returns its path.
    """
    decided = decide(claims(), outputs.all_facts())
    places = _places(outputs.folder)
    decided["links"] = [places.get(item, []) for item in decided["item"]]
    tables, found = _tables(outputs.folder), findings(decided)
    page = _template().render(
        profile=profile,
        version=__version__,
        verdicts=list(counted(found.verdict).items()),
        rows=counted(decided.verdict),
        findings=[
            (name, group.to_dict("records"))
            for name, group in found.groupby(found.central.map(PLACES), sort=False)
        ],
        sections=[
            (name, group.to_dict("records"))
            for name, group in decided.groupby("section", sort=False)
        ],
        notebooks=_notebooks(outputs.folder),
        executed={path.stem for path in (outputs.folder / "executed").glob("*.html")},
        trained=int(((decided.kind == "result") & (decided.verdict != "not run")).sum()),
        coverage=published("coverage").to_dict("records"),
        tables=tables,
        headline=next((table for table in tables if table["name"] == _HEADLINE), None),
        figures=_figures(outputs.folder),
        environments=_environments(outputs.folder),
    )
    path = outputs.folder / "report.html"
    atomic_write(path, lambda part: Path(part).write_text(page, encoding="utf-8"))
    return path


# where a finding stands -> its heading
PLACES = {"abstract": "Abstract", "conclusions": "Conclusions", "": "Text and supplement"}


def finding_table(found: pd.DataFrame) -> pd.DataFrame:
    """`paper.findings` as a reader sees them."""
    table = found.assign(place=found.central.map(PLACES))
    return table[["place", "says", "verdict", "readings", "rows"]]


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
    """The findings in Markdown, for the README: how many have which verdict, then those of the
    abstract and the conclusions.
    """
    central = found[found.central != ""]
    parts = [
        f"{len(some)} {name}: {_listed(some)}."
        for name, some in (
            ("findings about the abstract and the conclusions", central),
            ("findings in all", found),
        )
    ]
    lines = [f"| {row.says} | {_said(row)} |" for row in central.itertuples()]
    return "\n\n".join([*parts, "\n".join(["| the paper says | verdict |", "|---|---|", *lines])])


def _listed(found: pd.DataFrame) -> str:
    return ", ".join(f"{n} *{word}*" for word, n in counted(found.verdict).items() if n)


def _said(row: Any) -> str:
    return f"*{row.verdict}*" + (f" ({row.readings})" if row.readings else "")


# what runs of earlier versions do not say about their environment
_LATER = {"kernels": "not recorded", "lock": "not recorded"}


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("kdig.study", ".")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": _number, "quantity": _quantity}
    return environment.get_template("report.html.j2")


def _number(value: float) -> str:
    """Whole numbers whole, others to five digits.

    Thousands are set apart from 10,000 on, so that years stay years.
    """
    if pd.isna(value):
        return ""
    comma = "," if abs(value) >= 10_000 else ""
    return f"{value:{comma}.0f}" if float(value).is_integer() else f"{value:{comma}.5g}"


def _quantity(value: float, claim: Mapping[str, Any], printed: bool = False) -> str:
    """A number with its unit, as a reader writes it: `p < 0.05` (the paper's, if `printed`), `r =
    -0.114`, `91.18%`, `2017`.
    """
    unit = claim["unit"]
    if printed and unit == "p" and claim["rule"] != "equal":
        below = claim["rule"] in ("significant", "beyond_chance")
        return f"p {'<' if below else '≥'} {_number(claim['tolerance'])}"
    if unit in ("p", "r"):
        return f"{unit} = {_number(value)}"
    return _number(value) + {"%": "%", "x": "x", "year": ""}.get(unit, f" {unit}").rstrip()


def _places(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """(text, link) of every table and figure: in the report, and the cell of the executed notebook
    that makes it.
    """
    places: dict[str, list[tuple[str, str]]] = {}
    for kind in ("table", "figure"):
        for path in sorted((folder / f"{kind}s").glob("*.txt")):
            places.setdefault(path.stem, []).append((f"{kind} {path.stem}", f"#{kind}-{path.stem}"))
    for notebook in _executed(folder):
        for cell in _cells(folder / "executed" / f"{notebook}.ipynb"):
            place = (f"cell {cell.id} of {notebook}", f"executed/{notebook}.html#cell-id={cell.id}")
            for item in written_by(cell.source) & set(places) if cell.cell_type == "code" else ():
                places[item].append(place)
    return places


def written_by(source: str) -> set[str]:
    """The tables and figures that a cell writes: `name` of each `out.table(..., name, ...)` and
    `out.figure(..., name, ...)`.
    """
    with suppress(SyntaxError):
        return {
            given.value
            for call in ast.walk(ast.parse(source))
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in ("table", "figure")
            for given in call.args[1:2]
            if isinstance(given, ast.Constant) and isinstance(given.value, str)
        }
    return set()  # such as a cell with a line magic


def _executed(folder: Path) -> dict[str, dict[str, Any]]:
    """What is noted of each notebook that has run to its end.

    One whose note cannot be read has not.
    """
    notes = {
        path.stem: Outputs(folder).noted(path.stem)
        for path in sorted((folder / "executed").glob("*.json"))
    }
    return {notebook: note for notebook, note in notes.items() if note}


def _cells(path: Path) -> list[Any]:
    with reading(path, WRITE_AGAIN):
        try:
            cells: list[Any] = nbformat.read(path, as_version=4).cells
        except nbformat.ValidationError as error:
            raise ValueError(str(error)) from None
        return cells


def _notebooks(folder: Path) -> list[dict[str, object]]:
    """Executed notebooks: name, link, seconds."""
    return [
        {"name": name, "link": f"executed/{name}.html", **note}
        for name, note in _executed(folder).items()
    ]


def _tables(folder: Path) -> list[dict[str, str]]:
    paths = sorted((folder / "tables").glob("*.csv"))
    return [
        {
            "name": path.stem,
            "caption": read_caption(path),
            "html": read_table(path).to_html(
                index=False, na_rep="", border=0, float_format="{:.4g}".format
            ),
        }
        for path in paths
    ]


def _figures(folder: Path) -> list[dict[str, str]]:
    return [
        {
            "name": path.stem,
            "caption": read_caption(path),
            "source": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
        }
        for path in sorted((folder / "figures").glob("*.png"))
    ]


def _environments(folder: Path) -> list[dict[str, object]]:
    """What data and machine the stored runs used: one row for each combination, with the number of
    runs and their hours.
    """
    made = [_made(path) for path in sorted((folder / "runs").glob("*.json"))]
    if not made:
        return []
    rows = pd.DataFrame(made)
    keys = [column for column in rows.columns if column != "hours"]
    grouped = rows.groupby(keys, sort=False).hours.agg(["size", "sum"]).reset_index()
    result: list[dict[str, object]] = grouped.rename(
        columns={"size": "runs", "sum": "hours"}
    ).to_dict("records")
    return result


def _made(path: Path) -> dict[str, object]:
    with reading(path, "delete it to make the run again"):
        run = json.loads(path.read_text(encoding="utf-8"))
        return {
            **_LATER,
            **run["environment"],
            "data": run["data_label"],
            "hours": run["seconds"] / 3600,
        }
