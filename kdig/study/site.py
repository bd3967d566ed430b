"""The site: documentation, notebooks as they ran, and the report, put together without running
anything.

`python -m kdig.study.site --profile lite` writes `outputs/site`; it needs `pip install 'kdig[site]'`.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_markdown_cell

from kdig import KdigError
from kdig.paper import claims, decide, findings
from kdig.study.command import Parser, exit_code
from kdig.study.outputs import Outputs
from kdig.study.pages import described
from kdig.study.report import summary
from kdig.study.settings import (
    brief,
    kept_folder,
    notebooks,
    outputs_of,
    profile_path,
    project_root,
)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = Parser(prog="python -m kdig.study.site", description=__doc__)
    parser.add_argument(
        "--profile", default="lite", help="whose results: its reference, or its run"
    )
    parser.add_argument("--source", help="address of the sources, for links to files outside docs")
    options = parser.parse_args(arguments)
    target = outputs_of("site").folder
    return exit_code(lambda: print(f"site: {build(options.profile, target, options.source)}"))


def build(
    profile: str, target: Path, source: str | None = None, names: Sequence[str] | None = None
) -> Path:
    """Build the site in the folder `target`, of all notebooks or of those in `names`; its first
    page.

    Raises `KdigError` when the profile has no results, Sphinx is not installed, or says that
    something is wrong.
    """
    if not all(map(importlib.util.find_spec, ("sphinx", "myst_nb", "sphinx_book_theme"))):
        raise KdigError("the site needs Sphinx: make site, or pip install 'kdig[site]'")
    target.parent.mkdir(parents=True, exist_ok=True)
    # beside the old site, which stays until the new one is whole
    with tempfile.TemporaryDirectory(prefix=".site-", dir=target.parent) as folder:
        staged, built = Path(folder) / "pages", Path(folder) / "site"
        staged.mkdir()
        stage(staged, profile, source, names)
        options = ["-q", "-W", "--keep-going", "-c", f"{staged}/docs", str(staged), str(built)]
        done = subprocess.run(
            [sys.executable, "-m", "sphinx", *options],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            raise KdigError(f"Sphinx stopped:\n{done.stderr.strip()}")
        shutil.rmtree(target, ignore_errors=True)
        built.rename(target)
    return brief(target / "index.html")


def stage(
    folder: Path, profile: str, source: str | None = None, names: Sequence[str] | None = None
) -> None:
    """Put all that the site is made of into `folder`, in the form that Sphinx takes."""
    results = _results(profile)
    shutil.copytree(project_root() / "docs", folder / "docs")
    (folder / "notebooks").mkdir()
    for path in notebooks():
        if names is None or path.stem in names:
            book = prepared(*_executed(path, results))
            nbformat.write(book, folder / "notebooks" / path.name)
    _stage_report(folder, results, profile)
    first = folder / "docs" / "index.md"
    (folder / "index.md").write_text(contents(first.read_text(encoding="utf-8"), folder), "utf-8")
    first.unlink()
    for path in [folder / "index.md", *(folder / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        path.write_text(linked(text, folder, path.parent, source), encoding="utf-8")
    for path in (folder / "notebooks").glob("*.ipynb"):
        _relink(path, folder, source)


def _relink(path: Path, folder: Path, source: str | None) -> None:
    """Let the links of a staged notebook lead to pages of the site, as `linked` does."""
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            text = cell.source.replace("](index.ipynb)", "](../index.md)")
            cell.source = linked(text, folder, path.parent, source)
    nbformat.write(book, path)


def _results(profile: str) -> Path:
    """The folder with a profile's results: what is kept of it, or what it has left here."""
    profile_path(profile)  # names the profiles that there are, if this is none
    kept = kept_folder(profile)
    for folder in (kept, outputs_of(profile).folder):
        if (folder / "report.html").is_file():
            return folder
    raise KdigError(
        f"profile {profile} has no results: make reproduce PROFILE={profile} comes before"
    )


def _executed(path: Path, results: Path) -> tuple[Any, str]:
    """A notebook as it ran in the profile of `results`, or in another one that is kept, and the
    profile's name; where it has run in none, as it is written.
    """
    kept = sorted(kept_folder().glob(f"*/executed/{path.name}"))
    for executed in [results / "executed" / path.name, *kept]:
        if executed.is_file():
            return nbformat.read(executed, as_version=4), executed.parents[1].name
    return nbformat.read(path, as_version=4), ""


def prepared(book: Any, profile: str) -> Any:
    """A notebook with its figures described, its set-up cells folded, and a line under its title
    that says in which profile it ran.
    """
    said = (
        f"As it ran in the profile `{profile}`." if profile else "Code and text only: not run yet."
    )
    described(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for cell, before in zip(code, [None, *code]):
        # the cell after the parameters opens the notebook
        if _sets_parameters(cell) or _sets_parameters(before):
            cell.metadata.setdefault("tags", []).append("hide-input")
        _describe(cell)
    book.cells.insert(1, new_markdown_cell(f"*{said}*"))
    return book


def _sets_parameters(cell: Any) -> bool:
    tags = cell.metadata.get("tags", []) if cell else []
    return bool({"parameters", "injected-parameters"} & set(tags))


def _describe(cell: Any) -> None:
    """Where myst-nb looks for the alternative text of a figure."""
    texts = [
        output.metadata["image/png"]["alt"]
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    if texts:
        cell.metadata["mystnb"] = {"image": {"alt": " ".join(texts)}}


_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def linked(text: str, folder: Path, here: Path, source: str | None) -> str:
    """Markdown whose links to files that are no part of the site lead to `source`, or are plain
    text.
    """

    def link(found: re.Match[str]) -> str:
        label, path, _ = found.groups()
        place = Path(os.path.normpath(here / path))
        if place.exists():
            return found[0]
        return f"[{label}]({source}/{place.relative_to(folder)})" if source else label

    return _LINK.sub(link, text)


def contents(index: str, folder: Path) -> str:
    """The first page: `docs/index.md` with its lists of links as the site's table of contents.

    A heading of the second level is one part of it. What `docs` holds and the page does not name
    comes last.
    """
    text = re.sub(r"\]\((?!https?:|\.\./)([^)]+\.md)\)", r"](docs/\1)", index)
    text = re.sub(r"\]\(\.\./outputs/reference/\w+/report\.html\)", "](report.md)", text)
    text = text.replace("](../", "](")
    named, trees = set(), []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        found = [path for _, path, _ in _LINK.findall(body) if (folder / path).is_file()]
        named |= set(found)
        trees.append(_tree(heading, found))
    every = sorted((folder / "docs").glob("*.md")) + sorted((folder / "notebooks").iterdir())
    left = [str(path.relative_to(folder)) for path in every if path.name != "index.md"]
    trees.append(_tree("More", [path for path in left if path not in named]))
    return "\n".join([text, *trees])


def _tree(caption: str, paths: Sequence[str]) -> str:
    """A part of the table of contents, as Sphinx reads it."""
    if not paths:
        return ""
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *paths, "```"])


_REPORT = """# Report

<a href="full_report.html">The report</a> of the profile `{profile}` is one page with every claim, figure
and table.
[How to read it](docs/reading_the_report.md) explains its words. In short:

{summary}
"""


def _stage_report(folder: Path, results: Path, profile: str) -> None:
    """The report beside the pages, its links leading to them, and a page that says what it finds."""
    page = (results / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"executed/(\w+)\.(?:ipynb|html)(#[^\"]*)?", r"notebooks/\1.html", page)
    back = '<p><a href="index.html">&larr; all pages</a></p>'
    page = re.sub(r"<body[^>]*>", lambda found: found[0] + back, page, count=1)
    (folder / "extra").mkdir()
    (folder / "extra" / "full_report.html").write_text(page, encoding="utf-8")
    if (results / "summary.html").is_file():
        shutil.copy(results / "summary.html", folder / "extra")
    found = findings(decide(claims(), Outputs(results).all_facts()))
    text = _REPORT.format(profile=profile, summary=summary(found))
    (folder / "report.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
