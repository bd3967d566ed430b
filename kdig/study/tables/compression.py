"""The tables of `05_compression`: Tables S5 (memory), S9 and S15, Figures 5 and S5."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import binom, ttest_rel

from kdig.core.methods import LABELS
from kdig.measure import latency, stats
from kdig.paper import OTHER_DEVICE, published, recompute, verdicts
from kdig.study.outputs import Facts, as_facts
from kdig.study.tables.shared import Shown, by_key, facts_of, from_paper, further, paper_teacher

S15 = "level paper_factor factor name paper_best best best_low best_high mean sd n low high verdict"
SPEEDUPS = ["way", "level", "factor", "mac_ratio", "n", "speedup", "low", "high", "q25", "q75"]
TESTS = "level method n difference low high p_paired p_welch p_paired_holm"
# section 4.3: the practical range of compression factors
PRACTICAL = (4, 30)
# "beyond 28x": whether the level of 28.97x is beyond, or the last before; one cut for all sentences
BEYOND = {"with_28": 28, "after_28": 29}


def printed_s15() -> pd.DataFrame:
    """Table S15: `factor`, `method`, `accuracy`."""
    table = published("s15_compression_accuracy")
    return by_key(table.set_axis(["factor", "method", "accuracy"], axis=1))


def wide_s15() -> pd.DataFrame:
    """Table S15 with a row for each factor and a column for each method."""
    wide = printed_s15().pivot(index="factor", columns="method", values="accuracy")
    return wide[["student", "kd", "ig", "kd_ig"]]


def printed_s9() -> pd.DataFrame:
    """Table S9, the teacher first: `factor`, `is_teacher`, `seconds`, `printed` speed-up."""
    table = published("s9_inference_time")
    return table.set_axis(["factor", "is_teacher", "seconds", "printed"], axis=1)


def students_s9() -> pd.DataFrame:
    """The students' rows of Table S9."""
    table = printed_s9()
    return table[table.is_teacher == 0].reset_index(drop=True)


def _level_of() -> dict[float, int]:
    """Printed compression factor -> level."""
    factors = published("s5_architectures").compression_factor
    return dict(zip(factors, range(len(factors))))


def _in_practice(factors: pd.Series) -> pd.Series:
    return (factors > PRACTICAL[0]) & (factors < PRACTICAL[1])


# what was trained


def sweep(frame: pd.DataFrame, factors: Mapping[int, float]) -> pd.DataFrame:
    """Each method at each level: mean and highest accuracy of our runs.

    `best_low` to `best_high` is where the highest of `of` runs would lie, which is the paper's
    number of them. `factors` are those of our networks by level.
    """
    cells = []
    for level, part in frame.groupby("level", sort=False):
        of = 10 if level < 5 else 3
        row = stats.summarise(part, "method").assign(level=level, factor=factors[level], of=of)
        ranges = [stats.highest_interval(part.accuracy[part.method == m], of) for m in row.method]
        ends = {"best_low": [r[0] for r in ranges], "best_high": [min(r[1], 100) for r in ranges]}
        cells.append(row.assign(**ends))
    return pd.concat(cells, ignore_index=True)


def table_s15(cells: pd.DataFrame, why_not_decided: str) -> Shown:
    """Table S15 from our runs (`sweep`) beside the paper's."""
    best = cells.assign(
        name=cells.method + "_" + cells.level.astype(str),
        low=cells.best_low,
        high=cells.best_high,
        interval="95 % range of the highest of " + cells.of.astype(str),
    )
    facts = as_facts(best, "sweep", "name", {"": "max"})
    decided = verdicts(facts, why_not_decided)
    printed = printed_s15().assign(level=lambda t: t.factor.map(_level_of()))
    printed = printed.rename(columns={"accuracy": "paper_best", "factor": "paper_factor"})
    table = cells.merge(printed, on=["level", "method"], how="left").rename(columns={"max": "best"})
    table["verdict"] = [decided.get(f"sweep_{name}", "") for name in best.name]
    table["name"] = table.method.map(LABELS)
    return table[S15.split()], facts


def kept_here(cells: pd.DataFrame, teacher: float) -> pd.DataFrame:
    """The accuracies of `sweep` as share of our teacher's (percent)."""
    shares = {"mean": "kept", "low": "kept_low", "high": "kept_high", "max": "kept_best"}
    kept = (100 * cells[list(shares)] / teacher).rename(columns=shares)
    return cells[["level", "factor", "method", "n"]].join(kept)


def against_student(frame: pd.DataFrame, why_not_decided: str, all_levels: bool) -> Shown:
    """Each method against the student at each level.

    The facts are those of two sentences: KD & IG against KD from 4x to 30x, which only a sweep of
    `all_levels` decides, and KD & IG against the student at the last level.
    """
    parts = [
        stats.compare(part, "student").assign(level=level)
        for level, part in frame.groupby("level", sort=False)
    ]
    table = pd.concat(parts, ignore_index=True)
    table["p_paired_holm"] = stats.holm(table.p_paired)
    facts = _over_kd(frame, why_not_decided, all_levels) + _at_the_end(table, why_not_decided)
    return table[TESTS.split()], facts


def _over_kd(frame: pd.DataFrame, why_not_decided: str, all_levels: bool) -> Facts:
    """KD & IG minus KD: one difference a seed, the mean over the levels from 4x to 30x."""
    practical = frame[
        _in_practice(frame.level.map(published("s5_architectures").compression_factor))
    ]
    both = practical[practical.method.isin(["kd", "kd_ig"])]
    if both.method.nunique() < 2:
        return []
    means = both.groupby(["method", "seed"], sort=False).accuracy.mean().reset_index()
    row = stats.compare(means, "kd").iloc[0]
    fact = {"value": row.difference, "low": row.low, "high": row.high, "n": row.n}
    why = why_not_decided or ("" if all_levels else "not all of the paper's levels were trained")
    return [{"fact": "sweep_kd_ig_over_kd_4_30", **fact, "p": row.p_paired, "why_not_decided": why}]


def _at_the_end(tests: pd.DataFrame, why_not_decided: str) -> Facts:
    """KD & IG minus the student at 1,122x, where the methods hardly differ (section 4.3)."""
    last = tests[(tests.level == 8) & (tests.method == "kd_ig")].assign(p=lambda t: t.p_paired)
    rows = as_facts(last, "sweep", "method", {"_gain_8": "difference"})
    return [row | {"why_not_decided": why_not_decided} for row in rows]


# what was timed


def why_not_timed(device: str, batch: int) -> str:
    """Why times of this device decide no claim about absolute times; "" on one of the paper's GPUs
    with Table S9's batch of 64.
    """
    papers = any(name in device for name in latency.PAPERS_GPUS) and batch == 64
    return "" if papers else OTHER_DEVICE


def variants(milliseconds: pd.DataFrame) -> pd.DataFrame:
    """Every variant of the forward pass against the plain one."""
    plain = milliseconds[milliseconds.variant == "plain"]
    table = milliseconds.merge(plain, on=["batch", "level"], suffixes=("", "_plain"))
    table["times_as_fast"] = table.median_plain / table["median"]
    columns = ["variant", "batch", "level", "n", "median", "median_plain", "times_as_fast"]
    return table.loc[table.variant != "plain", columns]


def measured_speedups(times: pd.DataFrame, cold: pd.DataFrame, sizes: pd.DataFrame) -> Shown:
    """Speed-up of each student over the teacher, taken in several ways: warm with each batch, and
    cold in each order.

    The facts ask whether a printed ratio hangs on the order.
    """
    warm = stats.medians(times[times.variant == "plain"], ["batch", "level"], "speedup")
    first = stats.medians(cold[cold.turn == 1], ["order", "level"], "speedup")
    ways = [
        warm.assign(way="warm, batch " + warm.batch.astype(str)),
        first.assign(way="cold, " + first.order),
    ]
    table = pd.concat(ways, ignore_index=True)
    table = table[table.level > 0].rename(columns={"median": "speedup"})
    table = table.merge(sizes[["level", "factor", "mac_ratio"]], on="level")[SPEEDUPS]
    return table, _order_facts(table)


def _order_facts(ways: pd.DataFrame) -> Facts:
    """The largest ratio that is reached without the teacher first in a fresh process.

    It speaks about the printed ratio only where the teacher first gives at least that ratio, less
    ten per cent, on this device.
    """
    by_way, facts = ways.set_index(["level", "way"]), []
    for level, printed in enumerate(students_s9().printed, start=1):
        first = by_way.loc[(level, "cold, teacher first")]
        others = by_way.loc[level].drop("cold, teacher first")
        name = others.high.idxmax()
        fact = {"fact": f"sweep_order_{level}", "value": others.speedup[name]}
        fact |= {column: others[column][name] for column in ("low", "high", "n")}
        about = f"{name} (cold, teacher first: {first.speedup:.3g}), 95 % interval"
        why = "" if first.low >= 0.9 * printed else OTHER_DEVICE
        facts.append({**fact, "interval": about, "why_not_decided": why})
    return facts


def table_s9(
    milliseconds: pd.DataFrame, passes: pd.DataFrame, ways: pd.DataFrame, batch: int, why: str
) -> Shown:
    """Table S9 as printed, and measured: warm with `batch`, first passes, speed-ups.

    `why` says why times of this device decide nothing (`why_not_timed`).
    """
    warm = warm_times(milliseconds, batch)
    fast = ways[ways.way == f"warm, batch {batch}"]
    times = as_facts(warm.reset_index(), "sweep_measured_ms", "level", {"": "median"})
    times += as_facts(fast, "sweep_measured_speedup", "level", {"": "speedup"})
    facts = [row | {"why_not_decided": why} for row in times]
    decided = verdicts(facts + _order_facts(ways), why)
    first = passes[passes.turn == 1].pivot(index="level", columns="order", values="median")
    ratios = ways.pivot(index="level", columns="way", values="speedup")
    s9 = printed_s9()
    columns = {"factor": s9.factor, "paper_ms": 1000 * s9.seconds, "paper_speedup": s9.printed}
    shown = warm[["median", "q25", "q75", "n", "low", "high"]].add_prefix(f"warm{batch}_ms_")
    table = pd.DataFrame(columns).join(shown)
    table = table.join(first.add_prefix("first pass ms, ")).join(ratios.add_prefix("speed-up "))
    for name, asked in (
        ("time", "measured_ms"),
        ("speedup", "measured_speedup"),
        ("order", "order"),
    ):
        table[f"verdict_{name}"] = [decided.get(f"sweep_{asked}_{k}", "") for k in table.index]
    return table.reset_index(names="level"), facts


def warm_times(milliseconds: pd.DataFrame, batch: int) -> pd.DataFrame:
    """The plain warm times of one batch, by level."""
    plain = (milliseconds.variant == "plain") & (milliseconds.batch == batch)
    return milliseconds[plain].set_index("level")


def speedup_curves(ways: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """`ways` with the printed speed-ups of Table S9 as one more way."""
    printed = students_s9().assign(way="printed (Table S9)", low=np.nan, high=np.nan)
    printed = printed.assign(speedup=printed.printed, level=range(1, 9)).drop(columns="factor")
    return pd.concat([ways, printed.merge(sizes[["level", "factor", "mac_ratio"]], on="level")])


def warm_curve(ways: pd.DataFrame, batch: int) -> pd.DataFrame:
    """Speed-up with its interval over the factor of the paper's networks, for Figure 5."""
    warm = ways[ways.way == f"warm, batch {batch}"]
    return warm[["speedup", "low", "high", "factor"]].reset_index(drop=True)


def device_times(
    sizes: pd.DataFrame, steps: pd.DataFrame, milliseconds: pd.DataFrame, why: str
) -> Shown:
    """Figure S5's times: milliseconds a picture, of a training step (`steps`: `ms`, `speedup`) and
    of warm inference with each batch.

    `why` says why the ratio of training times decides nothing (`why_not_timed`).
    """
    step, ratio = (
        stats.medians(steps, ["level"], column).set_index("level") for column in ("ms", "speedup")
    )
    table = sizes[["factor"]].join(step[["median", "q25", "q75"]].add_prefix("training_"))
    table = table.rename(columns={"training_median": "training"})
    table = table.join(ratio[["median", "low", "high"]].add_prefix("training_speedup_"))
    for batch in sorted(milliseconds.batch.unique()):
        part = warm_times(milliseconds, batch)
        for column, quantity in {"inference": "median", "q25": "q25", "q75": "q75"}.items():
            table[f"{column}_{batch}"] = part[quantity] / batch
    last = ratio.loc[[8]].reset_index()
    facts = as_facts(last, "sweep_measured_training_speedup", "level", {"": "median"})
    return table.reset_index(names="level"), [row | {"why_not_decided": why} for row in facts]


# what was printed


def kept(wide: pd.DataFrame) -> Shown:
    """Table S15 (`wide_s15`) as share of the teacher's accuracy (percent)."""
    table = (100 * wide / paper_teacher()).add_suffix("_kept")
    facts = [
        {"fact": f"sweep_kept_{name.removesuffix('_kept')}_{_level_of()[factor]}", "value": value}
        for factor, row in table.iterrows()
        for name, value in row.items()
    ]
    early, last = table[table.index < 13], table.iloc[-1]
    worst = early[["kd_kept", "kd_ig_kept"]].to_numpy().min()
    ends = {"worst_12": worst, "last_low": last.min(), "last_high": last.max()}
    return table.reset_index(), from_paper(facts + facts_of(ends, "sweep_kept"))


def slopes(wide: pd.DataFrame) -> Shown:
    """Accuracy lost per tenfold compression, from each level of Table S15 to the next."""
    steps = np.log10(pd.Series(wide.index, index=wide.index)).diff()
    table = -wide.diff().div(steps, axis=0).dropna()
    about = {
        name: table.kd_ig[table.index > cut].min() / table.kd_ig[table.index <= cut].max()
        for name, cut in BEYOND.items()
    }
    table.insert(0, "to_factor", table.index)
    return table, from_paper(facts_of(about, "sweep_steepening"))


def advantage(wide: pd.DataFrame, sd: float) -> Shown:
    """Where KD & IG is the highest in Table S15, and its lead over the best of the others.

    The p values suppose equal methods whose runs have standard deviation `sd`, each value the best
    of ten runs up to 12.04x and of three beyond (section 3.4).
    """
    table = pd.DataFrame(
        {
            "highest": wide.idxmax(axis=1),
            "ahead": wide.kd_ig - wide.drop(columns="kd_ig").max(axis=1),
            "over_student": wide.kd_ig - wide.student,
            "spread": wide.max(axis=1) - wide.min(axis=1),
        }
    ).reset_index()
    table["runs"] = np.where(table.factor < 13, 10, 3)
    for name in ("ahead", "over_student"):
        table[f"p_{name}"] = [
            recompute.cell_difference_p(gap, sd, k) for gap, k in zip(table[name], table.runs)
        ]
    named = table.assign(level=table.factor.map(_level_of()))
    facts = as_facts(named.assign(p=named.p_ahead), "sweep_ahead", "level", {"": "ahead"})
    facts += as_facts(named, "sweep_spread", "level", {"": "spread"})
    return table, from_paper(facts + facts_of(_about_the_lead(table, wide), "sweep"))


def leads(wide: pd.DataFrame, sd: float, freedom: int) -> Shown:
    """How far KD & IG stands above the best of the other three in Table S15, among four equal
    methods.

    The best of three is itself a highest value: among equal methods it is above the fourth on
    average, so that a lead says more than a difference of two given methods. Each value is the best
    of ten runs up to 12.04x and of three beyond (section 3.4); `sd` of one run was found with
    `freedom` degrees of freedom. `p` is one-sided: equal methods lead by so much, or more. `low` to
    `high` is a 90 % interval of what KD & IG has over three equal methods; its lower end lies above
    zero where `p` is below 0.05.
    """
    ahead = wide.kd_ig - wide.drop(columns="kd_ig").max(axis=1)
    rows = [_lead(lead, 10 if factor < 13 else 3, sd, freedom) for factor, lead in ahead.items()]
    table = pd.DataFrame(rows).assign(factor=ahead.index).set_index("factor").reset_index()
    named = table.assign(level=table.factor.map(_level_of()), n=table.runs)
    named["interval"] = "90 % interval, others equal"
    facts = as_facts(named, "lead", "level", {"": "lead"})
    return table, from_paper([f | {"fact": str(f["fact"]).replace("_", "-")} for f in facts])


def _lead(lead: float, runs: int, sd: float, freedom: int) -> dict[str, float]:
    cells = stats.equal_cells(4, sd, runs, draws=100_000, freedom=freedom)
    equal = cells[:, 0] - cells[:, 1:].max(axis=1)
    below, above = np.quantile(equal, [0.05, 0.95])
    row = {"runs": runs, "lead": lead, "expected": equal.mean()}
    row |= {"low": lead - above, "high": lead - below}
    return row | {"p": stats.upper_p(equal, lead)}


def in_a_row(wide: pd.DataFrame) -> Shown:
    """How surely KD & IG stands above KD over the levels from 4x to 30x of Table S15, and over all.

    One difference a level; the paired t test over levels, with its interval. `p_highest` is the
    chance that one of four equal methods, named beforehand, is the highest at so many levels.
    """
    rows = []
    inside = _in_practice(wide.index.to_series())
    for name, part in {"4x to 30x": wide[inside], "all levels": wide}.items():
        test = ttest_rel(part.kd_ig, part.kd)
        low, high = test.confidence_interval()
        highest = int((part.idxmax(axis=1) == "kd_ig").sum())
        row = {"levels": name, "n": len(part), "highest": highest}
        row |= {"difference": (part.kd_ig - part.kd).mean(), "low": low, "high": high}
        so_many = binom.sf(highest - 1, len(part), 1 / wide.shape[1])
        rows.append(row | {"p": test.pvalue, "p_highest": so_many})
    table = pd.DataFrame(rows)
    named = table.assign(name=["practical", "all"])
    facts = as_facts(named, "lead_kd_ig_over_kd", "name", {"": "difference"})
    return table, from_paper(facts)


def _about_the_lead(table: pd.DataFrame, wide: pd.DataFrame) -> dict[str, object]:
    """The sentences of section 4.3 about the lead of KD & IG."""
    first = table.highest == "kd_ig"
    late_over_early = {
        f"spread_late_over_early_{name}": table.spread[table.factor > cut].mean()
        / table.spread[table.factor <= cut].mean()
        for name, cut in BEYOND.items()
    }
    return {
        **late_over_early,
        "highest_levels": int(first.sum()),
        "highest_4_30": int(first[_in_practice(table.factor)].sum()),
        "highest_2_12": int(first[table.factor < 13].sum()),
        "narrower_than_last": int((table.spread < table.spread.iloc[-1]).sum()),
        "kd_ig_rank_last": wide.iloc[-1].rank(ascending=False)["kd_ig"],
    }


def ten_runs(released: pd.DataFrame) -> pd.DataFrame:
    """The released runs (`method` as printed, `test_accuracy`), summarised by method."""
    return stats.summarise(by_key(released), "method", "test_accuracy").set_index("method")


def single_runs() -> pd.DataFrame:
    """The released list of single runs at the paper's settings: a row a factor, a column a method."""
    single = by_key(published("cf_accuracy_single_runs"), "method")
    single = single[single.series.str.startswith("2025")]
    wide = single.pivot(index="compression_factor", columns="method", values="test_accuracy")
    return wide[["student", "kd", "ig", "kd_ig"]]


def accounts(wide: pd.DataFrame, ten: pd.DataFrame, once: pd.DataFrame) -> Shown:
    """4.12x three times: Table S15 (`wide`), the released `ten` runs, the list of single runs."""
    columns = {"s15": wide.loc[4.12], "max_of_ten": ten["max"], "mean_of_ten": ten["mean"]}
    table = pd.DataFrame({**columns, "single_run_list": once.loc[4.12]})
    table = table.dropna().rename_axis("method").reset_index()
    facts = as_facts(table, "sweep_at4", "method", {"": "max_of_ten"})
    about = {
        "at4_from_mean": (table.s15 - table.mean_of_ten).abs().max(),
        "at4_from_single": (table.s15 - table.single_run_list).abs().max(),
        "at4_runs": ten.n["kd_ig"],
    }
    facts.append({"fact": "sweep_kept_mean_kd_ig", **_kept_by_one(ten.loc["kd_ig"])})
    return table, from_paper(facts + facts_of(about, "sweep"))


def _kept_by_one(runs: pd.Series) -> dict[str, object]:
    """Share of the teacher's accuracy that a method's `runs` keep, with the interval of one more."""
    low, high = further(runs)
    values = {"value": runs["mean"], "low": low, "high": high}
    share = {name: 100 * value / paper_teacher() for name, value in values.items()}
    return {**share, "n": runs.n, "interval": "95 % prediction interval of one run"}


def once_only(once: pd.DataFrame) -> Shown:
    """The list of single runs: accuracy, highest method, share of the teacher's accuracy kept."""
    highest, share = once.idxmax(axis=1), 100 * once / paper_teacher()
    table = once.add_suffix("_once").assign(
        highest=highest, kd_kept=share.kd, kd_ig_kept=share.kd_ig
    )
    practical = _in_practice(once.index.to_series())
    about = {
        "highest_4_30": int((highest[practical] == "kd_ig").sum()),
        "highest_levels": int((highest == "kd_ig").sum()),
        "kept_kd_12": share.kd[12.04],
        "kept_kd_ig_12": share.kd_ig[12.04],
        "kept_kd_ig_4": share.kd_ig[4.12],
    }
    return table.reset_index(), from_paper(facts_of(about, "sweep_once"))


def speedups() -> Shown:
    """Table S9: printed speed-up, ratio of the printed times with its range by rounding, and
    whether the speed-up exceeds the compression factor.
    """
    students, teacher = students_s9(), printed_s9().seconds[0]
    ratios = [
        recompute.rounded_ratio(teacher, t, recompute.half_unit(t, 3)) for t in students.seconds
    ]
    ends = {"low": [r.low for r in ratios], "high": [r.high for r in ratios]}
    table = students.assign(ratio=[r.value for r in ratios], **ends)
    table["exceeds_factor"] = table.printed > table.factor
    ranked = table.assign(name=table.factor.map(_level_of()), interval="bounds by rounding")
    about = {
        "faster_than_factor": int(table.exceeds_factor.sum()),
        "faster_than_factor_2_12": int(table.exceeds_factor[table.factor < 13].sum()),
        "speedup_two_digits": teacher / 0.013,
        "student_ms": 1000 * students.seconds[1],
        "teacher_ms": 1000 * teacher,
        "speedup_over_factor": table.ratio[1] / table.factor[1],
    }
    facts = as_facts(ranked, "sweep_speedup", "name", {"": "ratio"}) + facts_of(about, "sweep")
    return table.drop(columns="is_teacher"), from_paper(facts)


# what a network's time may go with -> the label of the axis
COUNTS = {"total_layers": "layers", "macs": "multiply-accumulates of one image (million)"}


def _counted() -> pd.DataFrame:
    """Layers, operations (million) and printed time (ms) of the nine networks."""
    s5 = published("s5_architectures")
    ms = 1000 * printed_s9().seconds
    return s5.assign(macs=s5.macs_32x32_recomputed / 1e6, ms=ms).astype({"total_layers": float})


def lines() -> Shown:
    """Lines through the eight students' printed times, and the time that they predict for the
    teacher.
    """
    table = pd.DataFrame([_line(over) for over in COUNTS])
    named = table.assign(name=table.over.str.split("_").str[-1], n=8)
    named["interval"] = "95 % prediction interval"
    return table, from_paper(as_facts(named, "sweep_line", "name", {"": "predicted_ms"}))


def _line(over: str) -> dict[str, object]:
    x, ms = (_counted()[column].to_numpy() for column in (over, "ms"))
    at, r2 = recompute.predict(x[1:], ms[1:], [x[0]])
    return {
        "over": over,
        "r2": r2,
        "teacher_at": x[0],
        "predicted_ms": at.value[0],
        "low": at.low[0],
        "high": at.high[0],
        "printed_ms": ms[0],
        "ratio_to_student_1": x[0] / x[1],
        "time_ratio_to_student_1": ms[0] / ms[1],
    }


def line_panels() -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Label of the axis -> the nine networks, and the line with its band."""
    panels = {}
    for over, label in COUNTS.items():
        x, ms = (_counted()[column].to_numpy() for column in (over, "ms"))
        shown, _ = recompute.predict(x[1:], ms[1:], list(np.linspace(x.min(), x.max() * 1.05, 40)))
        panels[label] = (pd.DataFrame({"x": x, "y": ms, "fitted": np.arange(len(x)) > 0}), shown)
    return panels


def memory() -> Shown:
    """Table S5's memory beside four bytes for each parameter."""
    s5 = published("s5_architectures")
    table = s5[["model", "parameters_recomputed", "memory_kb", "memory_mb"]]
    table = table.assign(level=range(len(s5)))
    table["kb"] = table.parameters_recomputed * 4 / 1024
    table["mb"] = table.parameters_recomputed * 4 / 1024**2
    facts = as_facts(table, "sweep_memory_kb", "level", {"": "kb"})
    facts += as_facts(table, "sweep_memory_mb", "level", {"": "mb"})
    about = {"memory_ratio": s5.memory_kb[0] / s5.memory_kb[2], "size_at_12": 100 / 12.04}
    return table, from_paper(facts + facts_of(about, "sweep"))


def earlier(first: pd.DataFrame, ten: pd.DataFrame) -> Shown:
    """The released runs in the first revision of the authors' script (`first`) and now (`ten`)."""
    then = ten_runs(first)
    columns = {"max_first": then["max"], "max_now": ten["max"]}
    columns |= {"mean_first": then["mean"], "mean_now": ten["mean"]}
    changed = then.n - by_key(first).groupby("method").same_as_current.sum()
    table = pd.DataFrame({**columns, "values_changed": changed}).reindex(list(LABELS)).dropna()
    table["kept_first"] = 100 * table.max_first / paper_teacher()
    about = {name: then["max"][name] for name in ("kd_ig", "student", "kd")}
    about |= {"kept": table.kept_first["kd_ig"]}
    gain = (then["max"] - then["max"]["student"]).reindex(["ig", "kd", "kd_ig"])
    about |= {f"gain_{name}": value for name, value in gain.items()}
    about |= {"synergy": gain["kd_ig"] - gain["kd"] - gain["ig"]}
    about |= {"kd_ig_over_kd": then["mean"]["kd_ig"] - then["mean"]["kd"]}
    return table.reset_index(), from_paper(facts_of(about, "sweep_first"))
