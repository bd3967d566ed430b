"""`report.html`: one page, readable as a plain file, that sets every claim beside what was measured."""

import base64
import json
from pathlib import Path

import jinja2
import pandas as pd

from kdig import __version__
from kdig.files import atomic_write
from kdig.outputs import Outputs
from kdig.paper import VERDICTS, claims, decide, published


def build_report(outputs: Outputs, profile: str) -> Path:
    """Decide the claims from the facts on disk and write `outputs/<profile>/report.html`; returns its path."""
    decided = decide(claims(), outputs.all_facts())
    page = _template().render(
        profile=profile,
        version=__version__,
        verdicts=[(verdict, int((decided.verdict == verdict).sum())) for verdict in VERDICTS],
        sections=[(name, group.to_dict("records")) for name, group in decided.groupby("section", sort=False)],
        notebooks=_notebooks(outputs.folder),
        executed={path.stem for path in (outputs.folder / "executed").glob("*.html")},
        trained=int(((decided.kind == "result") & (decided.verdict != "not run")).sum()),
        coverage=published("coverage").to_dict("records"),
        tables=_tables(outputs.folder),
        figures=_figures(outputs.folder),
        environments=_environments(outputs.folder),
    )
    path = outputs.folder / "report.html"
    atomic_write(path, lambda part: Path(part).write_text(page, encoding="utf-8"))
    return path


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("kdig", ".")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["number"] = lambda value: "" if pd.isna(value) else f"{value:,.5g}"
    return environment.get_template("report.html.j2")


def _notebooks(folder: Path) -> list[dict[str, object]]:
    """Executed notebooks: name, link, seconds; a notebook without its JSON is unfinished and left out."""
    found = [(path.stem, json.loads(path.read_text())) for path in sorted((folder / "executed").glob("*.json"))]
    return [{"name": name, "link": f"executed/{name}.html", **values} for name, values in found]


def _tables(folder: Path) -> list[dict[str, str]]:
    paths = sorted((folder / "tables").glob("*.csv"))
    return [
        {
            "name": path.stem,
            "caption": path.with_suffix(".txt").read_text(),
            "html": pd.read_csv(path).to_html(index=False, na_rep="", border=0, float_format="{:.4g}".format),
        }
        for path in paths
    ]


def _figures(folder: Path) -> list[dict[str, str]]:
    return [
        {
            "name": path.stem,
            "caption": path.with_suffix(".txt").read_text(),
            "source": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
        }
        for path in sorted((folder / "figures").glob("*.png"))
    ]


def _environments(folder: Path) -> list[dict[str, object]]:
    """What data and machine the stored runs used: one row for each combination, with the number of runs and their hours."""
    runs = [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("*.json"))]
    if not runs:
        return []
    rows = pd.DataFrame({**run["environment"], "data": run["data_label"], "hours": run["seconds"] / 3600} for run in runs)
    keys = [column for column in rows.columns if column != "hours"]
    grouped = rows.groupby(keys, sort=False).hours.agg(["size", "sum"]).reset_index()
    result: list[dict[str, object]] = grouped.rename(columns={"size": "runs", "sum": "hours"}).to_dict("records")
    return result
