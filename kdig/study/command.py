"""How a command of this project ends: with one line, and an exit code."""

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from kdig import KdigError

STOPPED = "stopped: what is finished is kept; give the same command again to go on"


class Parser(argparse.ArgumentParser):
    """argparse's, which says in one line what is wrong with the options; the exit code is 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help lists all options)\n")


def exit_code(work: Callable[[], object]) -> int:
    """0 when `work` is done, 1 for a mistake that the reader can mend, 130 when it was stopped.

    Warnings are said in one line each, without the place in the code.
    """
    formatted, warnings.formatwarning = warnings.formatwarning, _in_one_line
    try:
        work()
    except KdigError as error:
        return _said(f"error: {error}", 1)
    except KeyboardInterrupt:
        return _said(STOPPED, 130)
    finally:
        warnings.formatwarning = formatted
    return 0


def _in_one_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {message}\n"


def _said(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code
