"""What a fresh process does for `deploy.first_call`: load a network, answer twice, and report."""

import json
import time
from pathlib import Path

_BEGUN = time.perf_counter()


def report(name: str, path: str, size: str, batch: str, threads: str) -> None:
    """Print one line of JSON: seconds of `load`, `first` and `second` answer, and `peak_mib`."""
    import numpy as np

    from kdig.measure.engines import entry

    images = np.zeros((int(batch), 3, int(size), int(size)), np.float32)
    run = entry(name).start(Path(path), int(threads))
    moments = [time.perf_counter()]
    for _ in range(2):
        run(images)
        moments.append(time.perf_counter())
    seconds = [later - before for before, later in zip([_BEGUN, *moments], moments)]
    values = dict(zip(("load", "first", "second"), seconds))
    print(json.dumps(values | {"peak_mib": peak_mib()}))


def peak_mib() -> float:
    """The most memory that this process has held, in MiB; nan where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
