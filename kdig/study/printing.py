"""The two-page summary on paper: `python -m kdig.study.printing PROFILE` writes it as HTML, and as
PDF where a browser is there.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kdig import KdigError
from kdig.core.files import atomic_write
from kdig.study.command import Parser, exit_code
from kdig.study.report import build_summary
from kdig.study.settings import brief, results_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 120


def main(arguments: list[str] | None = None) -> int:
    """Write a profile's summary beside its facts, those of its reference if it has not run here."""
    parser = Parser(prog="python -m kdig.study.printing", description=main.__doc__)
    parser.add_argument("profile")
    parser.add_argument("folder", type=Path, nargs="?", help="another place for the pages")
    options = parser.parse_args(arguments)
    return exit_code(lambda: write(options.profile, options.folder))


def write(profile: str, folder: Path | None = None) -> None:
    """Write `summary.html` and, where there is a browser, `summary.pdf`; say so.

    Raises `KdigError` for a profile without facts.
    """
    outputs = results_of(profile)
    page = build_summary(outputs, profile, folder or outputs.folder)
    made = pdf(page)
    print(f"summary of {brief(outputs.folder)}: {brief(page)}")
    print(f"on paper: {brief(made)}" if made else f"no PDF: none of {', '.join(BROWSERS)} is here")


def pdf(page: Path) -> Path | None:
    """Print a page to a PDF beside it; None where no browser is there.

    Raises `KdigError` when the browser fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return None
    path = page.with_suffix(".pdf")
    atomic_write(path, lambda part: _print(browser, page, Path(part)))
    return path


def _print(browser: str, page: Path, path: Path) -> None:
    # a profile of its own, so that a browser that is open does not take the command over
    with tempfile.TemporaryDirectory() as own:
        copy = Path(own) / page.name
        # a link on paper would name a folder of this machine
        text = re.sub(r"</?a\b[^>]*>", "", page.read_text(encoding="utf-8"))
        copy.write_text(text, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={own}/browser"]
        options += ["--no-pdf-header-footer", f"--print-to-pdf={path}", copy.as_uri()]
        try:
            subprocess.run([browser, *options], check=True, capture_output=True, timeout=_SECONDS)
        except subprocess.SubprocessError as error:
            raise KdigError(f"{Path(browser).name} could not print {page.name}: {error}") from None
    if not path.exists():
        raise KdigError(f"{Path(browser).name} printed nothing of {page.name}")


if __name__ == "__main__":
    sys.exit(main())
