"""The tables of `06_monte_carlo`: Table 5, Figure 6, Tables S7 and S8."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions
from statsmodels.stats.diagnostic import lilliefors

from kdig.measure import stats
from kdig.paper import published, recompute, verdicts
from kdig.study.outputs import Facts, as_facts
from kdig.study.tables.shared import Shown, by_key, facts_of

RUNS = 60  # of each method in the paper
AXIS_END = 92.0  # of Figure 6, in percent
TABLE5 = (
    "method paper_mean paper_std paper_t_statistic mean sd n difference low high t_paired"
    " low_all high_all p_paired_holm t_welch p_welch_holm verdict"
)
# a method and what it is compared with, as the text does
PAIRS = (
    ("kd", "student"),
    ("kd_ig", "student"),
    ("kd_ig_at", "student"),
    ("kd_ig", "kd"),
    ("kd_ig", "kd_ig_at"),
    ("kd_ig_at", "kd"),
)

SIX = f"95 % interval of all {len(PAIRS)} comparisons at once"


def printed_table5() -> pd.DataFrame:
    """Table 5 as printed, a row for each method's key."""
    return by_key(published("table5_monte_carlo")).set_index("method")


def printed_s7() -> pd.DataFrame:
    """Table S7 as printed, a row for each method's key."""
    keys = ["student", "kd", "kd_ig", "kd_ig_at"]
    return published("s7_lilliefors").assign(method=keys).set_index("method")


def bars() -> pd.DataFrame:
    """The bars of Figure 6: `method`, `bin_low`, `bin_high`, `count`."""
    return by_key(published("monte_carlo_histogram"), "configuration")


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracies with a row for each run and a column for each method, in given order."""
    table = frame.pivot(index="seed", columns="method", values="accuracy")
    return table[frame.method.unique()]


# our runs


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Histogram of each method's accuracies, in bins that hold every run."""
    edges = np.histogram_bin_edges(frame.accuracy, bins="auto")
    parts = [
        pd.DataFrame(
            {
                "method": method,
                "bin_low": edges[:-1],
                "bin_high": edges[1:],
                "count": np.histogram(group.accuracy, edges)[0],
            }
        )
        for method, group in frame.groupby("method", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def _measures() -> dict[str, tuple[Any, Any, str]]:
    """Name -> the measure of a method's runs, its interval, and the column of Table 5."""
    return {
        "mean": (np.mean, stats.mean_interval, "mean"),
        "median": (np.median, stats.median_interval, "median_from_text"),
        "sd": (pd.Series.std, lambda x: stats.sd_interval(x.std(), len(x) - 1), "std"),
    }


def summary(runs: pd.DataFrame, why_not_decided: str) -> Shown:
    """Mean, median and standard deviation of each method (`wide` runs), with 95 % intervals."""
    printed, rows = printed_table5(), []
    for method, (name, (measure, interval, column)) in itertools.product(
        runs.columns, _measures().items()
    ):
        low, high = interval(runs[method])
        row = {"method": method, "measure": name, "paper": printed[column].get(method)}
        rows.append(
            {**row, "value": measure(runs[method]), "low": low, "high": high, "n": len(runs)}
        )
    table = pd.DataFrame(rows)
    named = table.assign(fact=table.method + "_" + table.measure)
    facts = as_facts(named, "mc", "fact", {"": "value"})
    decided = verdicts(facts, why_not_decided)
    table["verdict"] = [decided.get(f"mc_{fact}", "") for fact in named.fact]
    return table, facts


def table5(frame: pd.DataFrame, why_not_decided: str) -> Shown:
    """Table 5 from our runs beside the paper's: difference to the student and its tests.

    The facts hold KD & IG minus KD & IG & AT too.
    """
    tests = stats.compare(frame, "student")  # runs of a seed share their subset: paired
    tested = tests.assign(p=tests.p_paired_holm, low=tests.low_all, high=tests.high_all)
    tested = tested.assign(interval="95 % interval of all methods at once")
    facts = as_facts(tested, "mc", "method", {"_gain": "difference"})
    decided = verdicts(facts, why_not_decided)
    table = stats.summarise(frame, "method")[["method", "mean", "sd", "n"]]
    table = table.merge(tests.drop(columns="n"), on="method", how="left")
    printed = printed_table5()[["mean", "std", "t_statistic"]].add_prefix("paper_")
    table = table.merge(printed, on="method", how="left")
    table["verdict"] = [decided.get(f"mc_{method}_gain", "") for method in table.method]
    return table[TABLE5.split()], facts + _minus_at(wide(frame))


def _minus_at(runs: pd.DataFrame) -> Facts:
    """KD & IG minus KD & IG & AT, run by run."""
    if not {"kd_ig", "kd_ig_at"} <= set(runs):
        return []
    difference = runs.kd_ig - runs.kd_ig_at
    low, high = stats.mean_interval(difference)
    fact = {"fact": "mc_kd_ig_minus_kd_ig_at", "value": difference.mean(), "n": len(runs)}
    return [{**fact, "low": low, "high": high}]


def pairing(frame: pd.DataFrame) -> pd.DataFrame:
    """What pairing buys: each method against the student, with and without the pairs."""
    runs = wide(frame)
    rows = [
        _paired(line, runs[line.method], runs["student"])
        for line in stats.compare(frame, "student").itertuples()
    ]
    return pd.DataFrame(rows)


def _paired(line: Any, x: pd.Series, y: pd.Series) -> dict[str, object]:
    """`line` is the method's row of `stats.compare`."""
    linked = distributions.pearsonr(x, y)
    spread = linked.confidence_interval()
    low, high = stats.bootstrap_difference(x, y)
    unrelated = np.hypot(x.std(), y.std())
    return {
        "method": line.method,
        "correlation": linked.statistic,
        "correlation_low": spread.low,
        "correlation_high": spread.high,
        "sd_paired": (x - y).std(),
        "sd_unpaired": unrelated,
        "runs_factor": (x - y).var() / unrelated**2,
        "difference": line.difference,
        "t_low": line.low,
        "t_high": line.high,
        "bca_low": low,
        "bca_high": high,
        "d_pairs": line.d,
        "d_independent": line.difference / (unrelated / 2**0.5),
        "n": line.n,
    }


def spreads(runs: pd.DataFrame) -> Shown:
    """Ratio of variances of every two methods (`wide` runs): paired, and as if independent."""
    n, rows = len(runs), []
    for a, b in itertools.combinations(reversed(list(runs)), 2):
        x, y = runs[a], runs[b]
        ratio = stats.pitman_morgan(x, y)
        free = stats.variance_ratio(x.std(), n, y.std(), n)
        row = {"method": a, "against": b, "variance_ratio": ratio.value}
        row |= {"low": ratio.low, "high": ratio.high, "n": n, "p_pitman_morgan": ratio.p}
        row |= {"low_F": free.low, "high_F": free.high, "p_F": free.p}
        rows.append(row | {"p_brown_forsythe": _brown_forsythe(x, y)})
    table = pd.DataFrame(rows)
    table["p_pitman_morgan_holm"] = stats.holm(table.p_pitman_morgan)
    return table, _wider(runs)


def _brown_forsythe(x: Sequence[float], y: Sequence[float]) -> float:
    return float(distributions.levene(x, y, center="median").pvalue)


def _wider(runs: pd.DataFrame) -> Facts:
    """Variance of KD & IG over the student's."""
    if "kd_ig" not in runs:
        return []
    ratio = stats.pitman_morgan(runs.kd_ig, runs.student)
    fact = {"value": ratio.value, "low": ratio.low, "high": ratio.high, "n": len(runs)}
    return [{"fact": "mc_kd_ig_variance_ratio", **fact, "p": ratio.p}]


def normality(runs: pd.DataFrame) -> pd.DataFrame:
    """Table S7 from our runs (`wide`): Lilliefors' and Shapiro and Wilk's tests.

    `uniform_found_percent` is how often Lilliefors' test finds a uniform distribution.
    """
    null = stats.lilliefors_null(len(runs))
    flat = np.random.default_rng(0).uniform(size=(5_000, len(runs)))
    found = 100 * np.mean(stats.lilliefors_statistic(flat) > np.quantile(null, 0.95))
    printed, rows = printed_s7(), []
    for method, values in runs.items():
        statistic, p = lilliefors(values.to_numpy())
        row = {"method": method, "paper_ksstat": printed.ksstat.get(method)}
        row |= {"paper_p": printed.p_value.get(method), "ksstat": statistic, "p": p}
        row |= {"p_simulated": stats.upper_p(null, statistic), "n": len(runs)}
        row |= {"p_shapiro": distributions.shapiro(values).pvalue}
        row |= {"paper_variance": printed.variance.get(method), "variance": values.var()}
        rows.append(row | {"uniform_found_percent": found})
    return pd.DataFrame(rows)


def width_curve(sd: Mapping[str, float], n: int, label: str) -> pd.DataFrame:
    """Half-width of the 95 % interval of a mean over the number of runs.

    `sd` has `value` and its interval `low`, `high`; `n` is the number of runs that there are.
    """
    counts = sorted({*_about(n), *range(4, 101, 4)})
    table = pd.DataFrame({"x": counts, "curve": f"{label}, our sd {sd['value']:.2f}"})
    for name in ("value", "low", "high"):
        table[name] = [stats.half_width(sd[name], count) for count in counts]
    return table


def _about(n: int) -> list[int]:
    """Numbers of runs from two thirds of `n` to four thirds, as Table S8 has about sixty."""
    return [round(n * k / 6) for k in range(4, 9)]


def widths_here(curve: pd.DataFrame, n: int, minutes: float) -> pd.DataFrame:
    """Table S8's form for `n` runs of `minutes` each, from `width_curve`."""
    near = curve[curve.x.isin(_about(n))].drop(columns="curve").rename(columns={"x": "runs"})
    return near.assign(relative=100 * (n / near.runs) ** 0.5, minutes=minutes * near.runs)


def runs_needed(x: pd.Series, y: pd.Series) -> pd.DataFrame:
    """Runs of each method that find a difference with 80 % power, paired and independent, from the
    runs `x` and `y` of two methods.
    """
    pooled = _pooled(x, y)
    # a quarter of the scatter of runs to two and a half times it
    deltas, n = np.linspace(0.25, 2.5, 10) * pooled, len(x)
    designs = (
        ("paired runs", "a difference", (x - y).std(), n - 1),
        ("independent runs", "a run", pooled, 2 * n - 2),
    )
    rows = []
    for delta, (name, of, spread, freedom) in itertools.product(deltas, designs):
        sds = (spread, *stats.sd_interval(spread, freedom))
        needed = [stats.runs_needed(delta, sd, paired=name == "paired runs") for sd in sds]
        row = {"x": delta, "curve": f"{name}, sd of {of} {spread:.2f}"}
        rows.append(row | dict(zip(("value", "low", "high"), needed)))
    return pd.DataFrame(rows)


def _pooled(x: pd.Series, y: pd.Series) -> float:
    return float(np.sqrt((x.var() + y.var()) / 2))


def detectable(x: pd.Series, y: pd.Series) -> float:
    """The difference that this many independent runs of two methods find with 80 % power."""
    return stats.detectable(_pooled(x, y), len(x))


def answers(right: Mapping[tuple[str, int], np.ndarray]) -> pd.DataFrame:
    """McNemar's test of each method's network against the student's of the same run.

    `right`: (method, run) -> whether each picture was answered rightly. The test shown is that of
    the first run; the counts are over all.
    """
    methods = list(dict.fromkeys(method for method, _ in right))
    runs = list(dict.fromkeys(run for _, run in right))
    rows = []
    for method in [name for name in methods if name != "student"]:
        tests = [stats.compare_answers(right[method, i], right["student", i]) for i in runs]
        signs = np.array([np.sign(test["difference"]) * (test["p"] < 0.05) for test in tests])
        counts = {"better": (signs > 0).sum(), "worse": (signs < 0).sum()}
        counts["neither"] = (signs == 0).sum()
        rows.append({"method": method, **tests[0], **counts, "n": len(runs)})
    return pd.DataFrame(rows)


# the paper's own numbers


def drawn(bins: pd.DataFrame, whole: int = 2_000, cut: int = 20_000) -> dict[str, np.ndarray]:
    """Method -> samples of sixty runs that give the bars of Figure 6.

    There are `whole` samples of a method whose runs are all shown. Where the bars hold fewer, runs
    beyond the axis are added to `cut` samples, so that mean and standard deviation come out as
    printed; about the nearest tenth of these is kept.
    """
    printed, draws = printed_table5(), {}
    for method, part in bins.groupby("method", sort=False):
        shown = int(part["count"].sum())
        edges = (part.bin_low, part.bin_high, part["count"])
        samples = recompute.draw_from_bins(*edges, draws=whole if shown == RUNS else cut)
        if shown < RUNS:
            mean, sd = printed.loc[method, ["mean", "std"]]
            samples = recompute.add_hidden(samples, RUNS - shown, AXIS_END, mean, sd)
        draws[str(method)] = samples
    return draws


def binned(bins: pd.DataFrame, draws: Mapping[str, np.ndarray]) -> Shown:
    """Bounds of mean, median and standard deviation from the bars of Figure 6, beside Table 5."""
    printed = printed_table5()
    rows = [
        _binned(str(method), part, printed.loc[method], draws[str(method)])
        for method, part in bins.groupby("method", sort=False)
    ]
    table = pd.DataFrame(rows)
    return table, _bin_facts(table)


def _binned(
    method: str, part: pd.DataFrame, printed: pd.Series, samples: np.ndarray
) -> dict[str, object]:
    edges, n = (part.bin_low, part.bin_high, part["count"]), int(part["count"].sum())
    mean, median = recompute.binned_mean(*edges), recompute.binned_median(*edges, RUNS)
    row = {"method": method, "shown": n, "mean_low": mean.low, "mean_high": mean.high}
    row |= {"mean": printed["mean"], "median_low": median.low, "median_high": median.high}
    row |= {"median": printed.median_from_text}
    if n < RUNS:
        hidden = recompute.hidden_mean(printed["mean"], RUNS, *edges)
        row |= {"hidden_mean": hidden.value, "hidden_low": hidden.low, "hidden_high": hidden.high}
    low, high = np.quantile(samples.std(axis=1, ddof=1), [0.025, 0.975])
    return row | {"sd_low": low, "sd_high": high, "sd": printed["std"]}


def _bin_facts(table: pd.DataFrame) -> Facts:
    whole, cut = table[table.shown == RUNS], table[table.shown < RUNS]
    facts = as_facts(table, "mc", "method", {"_shown": "shown"})
    for name, part in (("mean", whole), ("median", table), ("sd", table)):
        facts += as_facts(_between(part, name), "mc", "method", {f"_{name}_bins": "value"})
    if len(cut):
        cut = cut.rename(columns={"hidden_low": "low", "hidden_high": "high"})
        cut = cut.assign(n=RUNS - cut.shown, interval="bounds by rounding")
        facts += as_facts(cut, "mc", "method", {"_hidden_mean": "hidden_mean"})
    return facts


def _between(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """A binned quantity with the bounds of its bars."""
    low, high = table[f"{name}_low"], table[f"{name}_high"]
    interval = "bounds by the bins"
    return table[["method"]].assign(value=(low + high) / 2, low=low, high=high, interval=interval)


def ttests() -> Shown:
    """Table 5's t, from the printed summaries, and as the released notebook stores it."""
    stored = by_key(published("monte_carlo_summary_notebook"), "configuration").set_index("method")
    table = pd.DataFrame(
        [_ttest(method, stored.loc[method]) for method in ("kd", "kd_ig", "kd_ig_at")]
    )
    shown = table.rename(columns={"t_low": "low", "t_high": "high"})
    shown = shown.assign(n=RUNS, interval="bounds by rounding")
    facts = as_facts(shown, "mc", "method", {"_t": "t"})
    return table, facts + as_facts(table, "mc", "method", {"_df": "df_stored"})


def _ttest(method: str, stored: pd.Series) -> dict[str, object]:
    printed = printed_table5()
    base, sd_base = printed.loc["student", ["mean", "std"]]
    mean, sd, t = printed.loc[method, ["mean", "std", "t_statistic"]]
    again = recompute.rounded_t((mean, sd, RUNS), (base, sd_base, RUNS), 0.005, 0.0005)
    error = (mean - base) * RUNS**0.5 / t
    return {
        "method": method,
        "t_printed": t,
        "t": again.value,
        "t_low": again.low,
        "t_high": again.high,
        "t_stored": stored.ttest_ind_t,
        "df_stored": stored.df,
        "correlation_if_paired": (sd**2 + sd_base**2 - error**2) / (2 * sd * sd_base),
    }


def _summaries() -> dict[str, tuple[float, float, int]]:
    """Method -> mean, standard deviation and number of runs as Table 5 prints them."""
    printed = printed_table5()
    return {m: (printed["mean"][m], printed["std"][m], RUNS) for m in printed.index}


def compared() -> Shown:
    """Welch's test of six pairs of methods, from the printed summaries of Table 5.

    The facts hold the gain that the text names, and its sentences about t.
    """
    known, printed = _summaries(), printed_table5()
    rows = [
        {"method": a, "against": b, **stats.welch(known[a], known[b], len(PAIRS))} for a, b in PAIRS
    ]
    table = pd.DataFrame(rows)
    table["p_holm"] = stats.holm(table.p)
    scale = [np.hypot(known[a][1], known[b][1]) for a, b in PAIRS]
    table["above"] = distributions.norm.cdf(table.difference / scale)
    named = table.assign(pair=table.method + "_over_" + table.against, p=table.p_holm, n=RUNS)
    named = named.assign(low=table.low_all, high=table.high_all, interval=SIX)
    t = printed.t_statistic
    released = by_key(published("ablation_runs")).groupby("method").test_accuracy.mean()
    about = {
        "alone": int(printed.index.isin(["ig", "at"]).sum()),
        "gain": printed["mean"]["kd_ig"] - printed["mean"]["student"],
        "t_kd_ig_over_next": t["kd_ig"] - t[["kd", "kd_ig_at"]].max(),
        "below_ablation": (released - printed["mean"]).min(),
    }
    return table, as_facts(named, "mc", "pair", {"": "difference"}) + facts_of(about, "mc")


def printed_spreads(draws: Mapping[str, np.ndarray]) -> Shown:
    """Ratio of variances of six pairs of methods: F from Table 5, and Brown and Forsythe's test on
    samples within the bars of Figure 6 (`drawn`).
    """
    known, rows = _summaries(), []
    for a, b in PAIRS:
        sds = known[a][1], RUNS, known[b][1], RUNS
        ratio = stats.variance_ratio(*sds)
        together = stats.variance_ratio(*sds, confidence=1 - 0.05 / len(PAIRS))
        p = [_brown_forsythe(x, y) for x, y in zip(draws[a][:500], draws[b][:500])]
        row = {"method": a, "against": b, "variance_ratio": ratio.value, "low": ratio.low}
        row |= {"high": ratio.high, "low_all": together.low, "high_all": together.high}
        row |= {"p_F": ratio.p, "p_brown_forsythe": np.median(p)}
        rows.append(row)
    table = pd.DataFrame(rows)
    table["p_F_holm"] = stats.holm(table.p_F)
    named = table.assign(p=table.p_F_holm, n=RUNS, low=table.low_all, high=table.high_all)
    named["interval"] = SIX
    named["pair"] = table.method + "_variance_over_" + table.against
    return table, as_facts(named, "mc", "pair", {"": "variance_ratio"})


def printed_normality(draws: Mapping[str, np.ndarray]) -> Shown:
    """Table S7 as printed, with p recomputed in two ways, and the tests on samples within the bars
    of Figure 6 (`drawn`).
    """
    null, sd = stats.lilliefors_null(RUNS), printed_table5()["std"]
    rows = [
        {"method": method, **_normality(line, draws[method], null), "sd_squared": sd[method] ** 2}
        for method, line in printed_s7().iterrows()
    ]
    table = pd.DataFrame(rows)
    return table, _normality_facts(table)


def _normality(line: pd.Series, samples: np.ndarray, null: np.ndarray) -> dict[str, object]:
    """`line` of Table S7, and the same tests on `samples`."""
    statistic = stats.lilliefors_statistic(samples)
    p = np.array([stats.upper_p(null, s) for s in statistic])
    shapiro = np.array([distributions.shapiro(x).pvalue for x in samples[:500]])
    return {
        "ksstat": line.ksstat,
        "p_printed": line.p_value,
        "p_table": recompute.lilliefors_table_p(line.ksstat, RUNS),
        "p_simulated": stats.upper_p(null, line.ksstat),
        "ksstat_bins": np.median(statistic),
        "p_bins": np.median(p),
        "p_bins_low": np.quantile(p, 0.025),
        "p_bins_high": np.quantile(p, 0.975),
        "p_shapiro_bins": np.median(shapiro),
        "variance": line.variance,
    }


def _normality_facts(table: pd.DataFrame) -> Facts:
    known, half_unit = table.assign(n=RUNS), 0.0005
    facts = as_facts(known, "mc", "method", {"_lilliefors": "p_table"})
    facts += as_facts(known.assign(p=known.p_simulated), "mc", "method", {"_normal": "ksstat"})
    in_bins = known.assign(p=known.p_bins)
    facts += as_facts(in_bins, "mc", "method", {"_normal_bins": "ksstat_bins"})
    sd = table.sd_squared**0.5
    squared = table.assign(low=(sd - half_unit) ** 2, high=(sd + half_unit) ** 2)
    squared = squared.assign(interval="bounds by rounding")
    return facts + as_facts(squared, "mc", "method", {"_variance": "sd_squared"})


def widths() -> Shown:
    """Table S8 as printed, and from KD & IG's standard deviation in Table 5."""
    table = published("s8_run_counts").set_axis(["runs", "printed", "relative_printed"], axis=1)
    sd = printed_table5()["std"]["kd_ig"]
    table["normal"] = [stats.half_width(sd, n, student=False) for n in table.runs]
    table["student_t"] = [stats.half_width(sd, n) for n in table.runs]
    table["relative"] = 100 * (RUNS / table.runs) ** 0.5
    table["relative_of_printed"] = 100 * table.printed / table.set_index("runs").printed[RUNS]
    one = np.array([stats.half_width(1, n, student=False) for n in table.runs])
    table["sd_low"], table["sd_high"] = (table.printed - 0.005) / one, (table.printed + 0.005) / one
    return table, _width_facts(table)


def _width_facts(table: pd.DataFrame) -> Facts:
    named = table.assign(n=table.runs, name=table.runs.astype(str))
    facts = as_facts(named, "mc_width", "name", {"": "normal"})
    facts += as_facts(named, "mc_relative_width", "name", {"": "relative_of_printed"})
    relative = table.set_index("runs").relative_of_printed
    about = {
        "wider_at_50": relative[50] - 100,
        "narrower_at_70": 100 - relative[70],
        "cheaper_at_50": 100 - 100 * 50 / RUNS,
        "dearer_at_70": 100 * 70 / RUNS - 100,
        "width_sd_low": table.sd_low.max(),
        "width_sd_high": table.sd_high.min(),
        "width_sd_room": table.sd_high.min() - table.sd_low.max(),
    }
    return facts + facts_of(about, "mc")


def power() -> Shown:
    """The difference that ten and sixty runs find with 80 % power, at each method's printed sd."""
    rows = [
        {"method": m, "sd": sd, "n": n, "detectable": stats.detectable(sd, n)}
        for m, (_, sd, _) in _summaries().items()
        for n in (10, RUNS)
    ]
    table = pd.DataFrame(rows).pivot(index=["method", "sd"], columns="n", values="detectable")
    table = table.add_prefix("n_").reset_index()
    row = table.set_index("method").loc["kd_ig"]
    about = {"detectable_60": row.n_60, "detectable_10": row.n_10}
    return table, facts_of(about, "mc")


def hours() -> Shown:
    """Hours saved for one student by computing maps beforehand, from the printed times.

    The facts hold the hours of all runs too: four methods, sixty runs of 21 minutes.
    """
    one_pass, passes, overlaid = 2, 100, 0.1  # hours a pass, epochs (3.7); probability (Table 3)
    rows = [
        ("every picture", f"{passes} x {one_pass} - {one_pass}", passes * one_pass - one_pass),
        (
            "overlaid pictures",
            f"{overlaid} x {passes} x {one_pass} - {one_pass}",
            overlaid * passes * one_pass - one_pass,
        ),
    ]
    table = pd.DataFrame(rows, columns=["maps of", "arithmetic", "hours"])
    saved = dict(zip(("every_picture", "overlaid"), table.hours))
    facts = facts_of(saved, "infrastructure_saved_hours")
    return table, facts + facts_of({"gpu_hours": 4 * RUNS * 21 / 60}, "mc")
