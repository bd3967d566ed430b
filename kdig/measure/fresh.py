"""What a fresh process does for `deploy.first_call`: load a network, answer twice, and report."""

import json
import time
from pathlib import Path

_BEGUN = time.perf_counter(), time.process_time()


def report(name: str, path: str, size: str, batch: str, threads: str) -> None:
    """Print one line of JSON: seconds of `load`, `first` and `second` answer, the same in
    processor time (`load_cpu`, ...), and `peak_mib`.
    """
    import numpy as np

    from kdig.measure.engines import entry

    images = np.zeros((int(batch), 3, int(size), int(size)), np.float32)
    run = entry(name).start(Path(path), int(threads))
    moments = [_BEGUN, (time.perf_counter(), time.process_time())]
    for _ in range(2):
        run(images)
        moments.append((time.perf_counter(), time.process_time()))
    values = {}
    for said, before, after in zip(("load", "first", "second"), moments, moments[1:]):
        values[said] = after[0] - before[0]
        values[f"{said}_cpu"] = after[1] - before[1]
    print(json.dumps(values | {"peak_mib": peak_mib()}))


def peak_mib(status: Path = Path("/proc/self/status")) -> float:
    """The most memory that this process has held, in MiB; nan where the system does not say.

    Not `getrusage`: on Linux its number begins with what the parent held.
    """
    text = status.read_text(encoding="utf-8") if status.is_file() else ""
    lines = [line for line in text.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024 if lines else float("nan")
