"""What the benchmarks share: contenders take turns, ratios to a named baseline, results in
`outputs/benchmarks`.
"""

import copy
import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest.mock import patch

import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt

from kdig.core.environment import cores
from kdig.core.runs import exit_with_parent
from kdig.measure import latency
from kdig.measure.latency import Key
from kdig.study.settings import ALLOCATOR, outputs_of

OUTPUTS = outputs_of("benchmarks")


class Apart:
    """A contender in processes of its own, `copies` of them, which share the cores; calling it
    makes one turn of each.

    What another one leaves in a heap would change its speed. `make(*arguments)` is called there
    once, and what it returns at each turn. `tuned`: with the settings of `make reproduce` (the
    allocator's, which take effect when a process starts; convolutions in float32 proper); or else
    with those that a user's own script meets (glibc's; on a GPU, convolutions in TF32).
    """

    def __init__(
        self,
        make: Callable[..., Callable[[], object]],
        *arguments: object,
        tuned: bool = True,
        copies: int = 1,
    ):
        self.pools, self.threads = [_pool(tuned) for _ in range(copies)], max(cores() // copies, 1)
        starting = [pool.submit(_hold, make, arguments, self.threads, tuned) for pool in self.pools]
        self.held = [start.result() for start in starting]

    def close(self) -> None:
        """End the processes, and wait until they are gone."""
        for pool in self.pools:
            pool.shutdown()

    def __call__(self) -> None:
        for turn in [
            pool.submit(_turn, held, self.threads) for pool, held in zip(self.pools, self.held)
        ]:
            turn.result()


def _pool(tuned: bool) -> ProcessPoolExecutor:
    """A new process."""
    others = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), exit_with_parent)
    with patch.dict(os.environ, others | (ALLOCATOR if tuned else {}), clear=True):
        pool.submit(cores)  # it starts now
    return pool


_held: list[Callable[[], object]] = []


def _hold(
    make: Callable[..., Callable[[], object]],
    arguments: tuple[object, ...],
    threads: int,
    tuned: bool,
) -> int:
    torch.backends.cudnn.allow_tf32 = not tuned
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    # torch hands a tensor to another process by sharing its memory
    _held.append(make(*copy.deepcopy(arguments)))
    return len(_held) - 1


def _turn(held: int, threads: int) -> None:
    torch.set_num_threads(threads)
    _held[held]()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine(device: str = "cpu") -> str:
    """Device, threads and torch's version, for captions."""
    return (
        f"{latency.device_label(device)}, {torch.get_num_threads()} CPU thread(s), torch"
        f" {torch.__version__}"
    )


def show(table: pd.DataFrame, name: str, caption: str, device: str = "cpu") -> str:
    """Write `tables/<name>.csv` and print it under its caption, which this returns, the machine
    added.
    """
    caption = f"{caption} {machine(device)}."
    print(f"{caption}\n{OUTPUTS.table(table, name, caption).to_string(index=False)}")
    return caption


def in_turns(calls: Mapping[Key, Callable[[], object]], rounds: int) -> pd.DataFrame:
    """Seconds, a column a call and a row a round, after one turn of each before the clock starts.

    The order is drawn anew.
    """
    latency.interleaved(calls, 1)
    return pd.DataFrame(latency.interleaved(calls, rounds)).rename_axis("round")


def compare(
    calls: Mapping[str, Callable[[], object]], baseline: str, work: float, unit: str, rounds: int
) -> pd.DataFrame:
    """A row a contender and round: seconds, `work` per second (column `unit`), and how many times
    the baseline of that round it is.

    They take turns, as `in_turns` says.
    """
    times = in_turns(calls, rounds)
    frame = times.reset_index().melt("round", var_name="contender", value_name="seconds")
    frame[unit] = work / frame.seconds
    return frame.assign(ratio=times[baseline].loc[frame["round"]].to_numpy() / frame.seconds)


def summary(frame: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Median, lower and upper quartile over rounds: `unit`, and the ratio to the baseline."""
    groups = frame.groupby("contender", sort=False)
    columns: dict[str, Any] = {"seconds": ("seconds", "median"), unit: (unit, "median")}
    for name, share in (("ratio", 0.5), ("ratio_q25", 0.25), ("ratio_q75", 0.75)):
        columns[name] = ("ratio", lambda values, share=share: values.quantile(share))
    return groups.agg(**columns).reset_index()


def publish(
    frame: pd.DataFrame, name: str, unit: str, baseline: str, about: str, device: str = "cpu"
) -> None:
    """Write `tables/<name>.csv` and `figures/<name>.png`, and print the table."""
    table = summary(frame, unit).round(3)
    about = (
        f"{about} Median over {frame['round'].nunique()} rounds in turns; ratio to '{baseline}',"
        " with quartiles."
    )
    caption = show(table, name, about, device)
    figure, axis = plt.subplots(figsize=(8, 1 + 0.35 * len(table)), layout="constrained")
    sns.stripplot(frame, x="ratio", y="contender", color="0.6", size=4, ax=axis)
    axis.plot(table.ratio, range(len(table)), "D", color="black", label="median")
    axis.axvline(1, color="0.5", linestyle="--")
    axis.set(xlabel=f"speed over '{baseline}' (times)", ylabel="", xlim=(0, None))
    axis.legend()
    OUTPUTS.figure(figure, name, caption)
