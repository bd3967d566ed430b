"""A network on several engines: times in windows, a fresh process, energy, and what 8 bits change.

Windows follow MLPerf Tiny's rules of 2024 (five of them, the median, one code for accuracy and
speed), but that all engines take turns in each, so that what else the machine does meets all.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy import stats as distributions

from kdig import KdigError
from kdig.core.artefacts import Runner
from kdig.measure.engines import Files, entry

Key = TypeVar("Key")
_POWER = Path("/sys/class/powercap")
NOT_MEASURABLE = "not measurable here"


def window(
    calls: Mapping[Key, Callable[[], object]], seconds: float, seed: int
) -> dict[Key, tuple[float, float, int]]:
    """One window: all calls take turns, in an order drawn anew each round, until `seconds` are over.

    For each call the median of its times and the mean processor time, in seconds, and how often it
    was made (at least once).
    """
    names, order = list(calls), np.random.default_rng(seed)
    wall: dict[Key, list[float]] = {name: [] for name in names}
    spent = dict.fromkeys(names, 0.0)
    end = time.perf_counter() + seconds
    while not wall[names[0]] or time.perf_counter() < end:
        for i in order.permutation(len(names)):
            before, used = time.perf_counter(), time.process_time()
            calls[names[i]]()
            spent[names[i]] += time.process_time() - used
            wall[names[i]].append(time.perf_counter() - before)
    return {n: (float(np.median(t)), spent[n] / len(t), len(t)) for n, t in wall.items()}


def log_ratio(over: Sequence[float], under: Sequence[float], paired: bool) -> dict[str, float]:
    """How many times larger `over` is than `under`: geometric mean, with Student's 95 % interval of
    the mean logarithm (`paired` by window, or Welch's).
    """
    a, b = np.log(over), np.log(under)
    kind = distributions.ttest_rel if paired else distributions.ttest_ind
    test = kind(a, b) if paired else kind(a, b, equal_var=False)
    ends = test.confidence_interval(0.95)
    ratio = np.exp(a.mean() - b.mean())
    low, high = np.exp([ends.low, ends.high])
    return {"ratio": float(ratio), "low": float(low), "high": float(high), "n": len(a)}


def first_call(
    name: str, files: Files, size: int, batch: int, threads: int = 1
) -> dict[str, float]:
    """A fresh process that loads a network and answers twice; nothing has run in it before.

    Seconds until its libraries are imported and the network is loaded (`load`), of the `first`
    answer and of the `second`; `peak_mib`, the most memory that it held. Raises `KdigError` when it
    fails.
    """
    chosen = entry(name)
    path = getattr(files, chosen.file)
    command = [sys.executable, "-c", _FRESH, name, str(path), str(size), str(batch), str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise KdigError(f"{chosen.words} failed in a fresh process: {said[:200]}")
    values: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return values


# `kdig` is found where this process has found it
_FRESH = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from kdig.measure.fresh import report
report(*sys.argv[1:])
"""


def energy_counters(folder: Path = _POWER) -> list[Path]:
    """The processor's own counters of energy (RAPL) that can be read here; usually none in a
    virtual machine, and none without rights.
    """
    found = sorted(folder.glob("intel-rapl:[0-9]/energy_uj")) if folder.is_dir() else []
    return [path for path in found if os.access(path, os.R_OK)]


def energy(call: Callable[[], object], repeats: int, folder: Path = _POWER) -> float | None:
    """Joules of one call, by the processor's counters over `repeats` of them; None where there are
    no counters, never a modelled number.
    """
    counters = energy_counters(folder)
    if not counters:
        return None
    before = [int(path.read_text(encoding="utf-8")) for path in counters]
    for _ in range(repeats):
        call()
    return sum(_since(path, was) for path, was in zip(counters, before)) / 1e6 / repeats


def _since(path: Path, before: int) -> int:
    """Microjoules since `before`; the counter starts again at its range."""
    grown = int(path.read_text(encoding="utf-8")) - before
    if grown >= 0:
        return grown
    return grown + int((path.parent / "max_energy_range_uj").read_text(encoding="utf-8"))


def processor(file: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, its vector instructions for floats and for int8, and its cores."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    entries = {name.strip(): value.strip() for name, value in rows.items()}
    named = entries.get("model name") or platform.processor() or platform.machine()
    flags = set(entries.get("flags", "").split())
    told = [n for n, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags][:1]
    told += ["VNNI"] if {"avx512_vnni", "avx_vnni"} & flags else []
    return f"{named} ({', '.join([*told, f'{os.cpu_count()} cores'])})"


def occlusion(run: Runner, images: np.ndarray, targets: np.ndarray, patch: int) -> np.ndarray:
    """How much the target's logit falls when a square of an image is made grey (Zeiler and Fergus
    2014): maps (N, H / patch, W / patch) of images uint8 (N, 3, H, W) and classes (N,).

    It needs answers alone and no gradient, which an integer network has not, so that every engine
    and precision is asked the same. Sides are cut to whole squares.
    """
    scaled = images.astype(np.float32) / 255
    rows, columns = (side // patch for side in images.shape[2:])
    place = np.arange(len(images))
    whole = run(scaled)[place, targets]
    maps = np.empty((len(images), rows, columns), np.float32)
    for i, j in np.ndindex(rows, columns):
        covered = scaled.copy()
        covered[:, :, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch] = 0.5
        maps[:, i, j] = whole - run(covered)[place, targets]
    return maps


def alike(maps: np.ndarray, others: np.ndarray) -> pd.DataFrame:
    """How alike the maps (N, H, W) of two networks are, a row an image: `cosine`, Spearman's `rank`
    correlation, and `top`, the share of the highest tenth of places that both have.
    """
    a, b = (m.reshape(len(m), -1).astype(float) for m in (maps, others))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(1) / np.where(lengths > 0, lengths, 1)
    ranked = (distributions.rankdata(m, axis=1) for m in (a, b))
    x, y = (r - r.mean(1, keepdims=True) for r in ranked)
    spread = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    rank = (x * y).sum(1) / np.where(spread > 0, spread, 1)
    count = max(1, a.shape[1] // 10)
    highest = (np.argsort(-m, axis=1, kind="stable")[:, :count] for m in (a, b))
    top = [len(set(p) & set(q)) / count for p, q in zip(*highest)]
    return pd.DataFrame({"cosine": cosine, "rank": rank, "top": top})


def front(table: pd.DataFrame, cost: str, gain: str) -> pd.Series:
    """Which rows lie on the Pareto front: no other row is at least as good in both and better in
    one.
    """

    def beaten(row: pd.Series) -> bool:
        as_good = (table[cost] <= row[cost]) & (table[gain] >= row[gain])
        better = (table[cost] < row[cost]) | (table[gain] > row[gain])
        return bool((as_good & better).any())

    return ~table.apply(beaten, axis=1)


def devices() -> pd.DataFrame:
    """Published times of real devices: `device`, `network`, `precision`, `ms`, `uj` an inference
    (nan where not given), `accuracy` (percent) of so many `images`, and the `source` of each.
    """
    return pd.read_csv(Path(__file__).with_name("devices.csv"))
