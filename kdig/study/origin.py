"""What a page was written from: a line in its head, by which a stale page is told from an edited
one.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from kdig.study.depends import PACKAGE, files_of
from kdig.study.seal import digest_of

# what the pages are made from; figures are not among them, since a kept profile has none
_RESULTS = (
    "facts/*.csv",
    "tables/*.csv",
    "tables/*.txt",
    "runs/*.json",
    "executed/*.json",
    "executed/*.ipynb",
)


def origin(folder: Path) -> dict[str, str]:
    """Digests of the code that writes the pages, and of the results in `folder`."""
    return {"code": _code(), "results": digest_of(folder, _results(folder))}


def stated(page: str) -> dict[str, str]:
    """What a page says of its origin; empty for one of an earlier version."""
    found = re.search(r'<meta name="kdig" content="code (\w+), results (\w+)">', page)
    return dict(zip(("code", "results"), found.groups())) if found else {}


def _results(folder: Path) -> Iterator[Path]:
    for pattern in _RESULTS:
        yield from folder.glob(pattern)


@functools.cache
def _code() -> str:
    page = [path for path in (PACKAGE / "study" / "page").iterdir() if path.is_file()]
    return digest_of(PACKAGE, {*files_of({"kdig.study.report"}), *page})
