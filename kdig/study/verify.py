"""`make verify`: every number of the committed pages, back to fact, record, key, data and code.

Needs no torch and trains nothing. What it finds is *verified*, *stale* (of an earlier state of
something that is named, which is no fault), or *edited by hand*.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kdig import KdigError
from kdig.core.files import reading
from kdig.study.check import EDITED, STALE, VERIFIED, Check
from kdig.study.check_pages import quoting_pages, written_pages
from kdig.study.check_records import finished_runs, run_tables, scores
from kdig.study.check_results import as_sealed, claims_decided, executed, facts_read, facts_shown
from kdig.study.command import Parser
from kdig.study.settings import kept_folder, project_root

# each is given the folder of a kept profile
CHECKS: tuple[Callable[[Path], Iterator[Check]], ...] = (
    as_sealed,
    written_pages,
    facts_shown,
    facts_read,
    claims_decided,
    finished_runs,
    scores,
    run_tables,
    executed,
)

REMEDY = (
    "take what was edited from the repository's history; what code has made anew is taken over by"
    " `make readme` (README, docs) and `python -m kdig.study.seal FOLDER` (a kept profile)"
)


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each thing that was checked; 1 when something was edited by hand."""
    parser = Parser(prog="python -m kdig.study.verify", description=main.__doc__)
    parser.add_argument("--profile", help="one folder of outputs/reference, such as lite")
    options = parser.parse_args(arguments)
    start, counts = time.monotonic(), dict.fromkeys((VERIFIED, STALE, EDITED), 0)
    try:
        for check in checked(options.profile):
            counts[check.word] += 1
            print(check, flush=True)
    except KdigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    said = ", ".join(f"{count} {word}" for word, count in counts.items())
    print(f"{said}; {time.monotonic() - start:.1f} s")
    if counts[EDITED]:
        print(REMEDY, file=sys.stderr)
    return 1 if counts[EDITED] else 0


def checked(profile: str | None = None) -> Iterator[Check]:
    """What became of every check, of the pages that quote results first.

    Raises `KdigError` for a profile that is not kept, and for a file that cannot be read.
    """
    folders = [folder for folder in sorted(kept_folder().iterdir()) if (folder / "runs").is_dir()]
    chosen = [folder for folder in folders if profile in (None, folder.name)]
    if not chosen:
        known = ", ".join(folder.name for folder in folders)
        raise KdigError(f"outputs/reference keeps no profile {profile!r}: choose one of {known}")
    with reading(project_root(), "take its pages and results from the repository's history"):
        yield from quoting_pages()
    for folder in chosen:
        with reading(folder, "take its files from the repository's history"):
            for check in CHECKS:
                yield from check(folder)


if __name__ == "__main__":
    sys.exit(main())
