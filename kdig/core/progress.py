"""One way to say how far long work has come: a widget bar when a person watches, plain lines
otherwise.
"""

import os
import time

from tqdm.auto import tqdm


class Progress:
    """Counts finished units and prints the time left: in JupyterLab as a bar, under papermill and
    nbval as a line now and then.
    """

    def __init__(self, title: str, total: int, every: float = 10.0) -> None:
        self.title, self.total, self.every = title, total, every
        self.done, self.start = 0, time.monotonic()
        self.printed = self.start
        # jupyter_server sets this name for the kernels of people's own sessions; batch runs have no
        # front end for widgets
        self.bar = tqdm(total=total, desc=title) if "JPY_SESSION_NAME" in os.environ else None

    def advance(self, units: int = 1) -> None:
        """Note `units` more as finished."""
        self.done += units
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(units)
            if self.done >= self.total:
                self.bar.close()
        elif now - self.printed > self.every or (
            self.done >= self.total and now - self.start > self.every
        ):
            self.printed = now
            left = (now - self.start) * (self.total - self.done) / self.done
            print(f"{self.title}: {self.done} of {self.total}, about {left:.0f} s left", flush=True)
