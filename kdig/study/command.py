"""How a command of this project ends: with one line, and an exit code."""

import sys
from collections.abc import Callable

from kdig import KdigError

STOPPED = "stopped: what is finished is kept; give the same command again to go on"


def exit_code(work: Callable[[], object]) -> int:
    """0 when `work` is done, 1 for a mistake that the reader can mend, 130 when it was stopped."""
    try:
        work()
    except KdigError as error:
        return _said(f"error: {error}", 1)
    except KeyboardInterrupt:
        return _said(STOPPED, 130)
    return 0


def _said(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code
