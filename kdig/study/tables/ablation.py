"""The tables of `04_ablation`: Table 4, from our runs and from the released ones."""

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind, ttest_rel

from kdig.core.methods import KEYS, LABELS, TERMS
from kdig.core.store import Result
from kdig.measure import designs, stats
from kdig.paper import published, verdicts
from kdig.study.outputs import Facts, as_facts
from kdig.study.tables.shared import Shown, facts_of, paper_teacher

COLUMNS = "name paper_mean paper_sd paper_max mean sd n low high min max change verdict"
RECOMPUTED = (
    "name min acc_min max acc_max mean acc_mean sd sd0 acc_std delta_of_max delta_of_mean"
    " delta_printed"
)
RETESTED = (
    "name difference t_stat t_paired p_value_as_printed p_paired p_reordered_low p_reordered_high"
    " p_welch p_welch_holm"
)
GAINS = "method n difference low high p d p_paired p_paired_holm p_welch p_welch_holm"
EVERY_TERM = [term.label for term in TERMS]
SIMULTANEOUS = "95 % interval of all comparisons at once (Dunnett)"


def table4(frame: pd.DataFrame, teacher: float, why_not_decided: str) -> Shown:
    """Table 4 from our runs (`method`, `accuracy`) beside the paper's.

    `change` is the difference to the accuracy of our `teacher`.
    """
    summary = stats.summarise(frame, "method")
    facts = as_facts(summary, "ablation", "method", {"": "mean"})
    decided = verdicts(facts, why_not_decided)
    names = {"method": "name", "acc_mean": "paper_mean", "acc_std": "paper_sd"}
    printed = published("table4_ablation").rename(columns={**names, "acc_max": "paper_max"})
    table = summary.assign(name=summary.method.map(LABELS), change=summary["mean"] - teacher)
    table["verdict"] = [decided[f"ablation_{method}"] for method in summary.method]
    table = table.merge(printed[["name", "paper_mean", "paper_sd", "paper_max"]], how="left")
    return table[COLUMNS.split()], facts


def printed_means() -> dict[str, tuple[float, float]]:
    """Method -> mean and standard deviation as Table 4 prints them."""
    printed = published("table4_ablation").set_index("method")
    return {key: tuple(printed.loc[label, ["acc_mean", "acc_std"]]) for label, key in KEYS.items()}


def gains(frame: pd.DataFrame) -> Shown:
    """Each method against the plain student.

    `low` to `high` and `p` are Dunnett's: for all methods at once, with one error from all runs.
    Paired and Welch's tests of two methods alone stand beside them.
    """
    pairwise = stats.compare(frame, baseline="student")
    tests = [name for name in GAINS.split() if name.startswith(("p_", "d"))]
    table = designs.many_to_one(frame, "student")
    table = table.merge(pairwise[["method", *tests]].drop(columns="difference"), on="method")
    shown = table.assign(interval=SIMULTANEOUS)
    return table[GAINS.split()], as_facts(shown, "ablation", "method", {"_gain": "difference"})


def effects(frame: pd.DataFrame, prefix: str, block: str | None = None) -> Shown:
    """Main effects of KD, IG and AT and their interactions (points), from all runs (`method`,
    `accuracy`) in one linear model, with a `block` where runs are linked.

    Table 4's eight methods are the eight cells of a 2 x 2 x 2 factorial: each run tells about each
    term. Empty where methods are missing.
    """
    cells = designs.with_terms(frame)
    if not designs.is_factorial(cells, EVERY_TERM):
        return pd.DataFrame(), []
    table = designs.factorial(cells, EVERY_TERM, block=block)
    named = table.assign(name=table.effect.str.replace(" x ", "x"))
    facts = as_facts(named, prefix, "name", {"": "difference"})
    return table, [fact | {"fact": str(fact["fact"]).replace("_", "-")} for fact in facts]


def shared_by_seed(frame: pd.DataFrame) -> Shown:
    """What runs of one seed have in common, once methods are taken out (intraclass correlation)."""
    found = designs.block_correlation(frame)
    fact = {"fact": "ablation_icc", **found._asdict(), "n": len(frame)}
    return pd.DataFrame([found._asdict()]), [fact]


def best_epochs(frame: pd.DataFrame) -> pd.DataFrame:
    """What reporting the best epoch instead of the last one adds to each method."""
    added = frame.best_epoch_accuracy - frame.accuracy
    return added.groupby(frame.method, sort=False).agg(["mean", "max"]).reset_index()


def history(results: Iterable[Result]) -> pd.DataFrame:
    """Every scored epoch of every run, with the run's method and seed."""
    epochs = [
        pd.DataFrame([epoch.model_dump() for epoch in result.history]).assign(
            method=result.run.method, seed=result.run.seed
        )
        for result in results
    ]
    return pd.concat(epochs).dropna(subset=["test_accuracy"])


def released_runs() -> pd.DataFrame:
    """The ten released runs of each method of Table 4: `name` as printed, `method`, `seed`,
    `accuracy`.
    """
    names = {"test_accuracy": "accuracy", "run": "seed", "method": "name"}
    return published("ablation_runs").rename(columns=names).assign(method=_keys)


def _keys(table: pd.DataFrame) -> pd.Series:
    return table["name"].map(KEYS)


def recomputed(released: pd.DataFrame) -> Shown:
    """Table 4 from the released runs (`name`, `accuracy`), beside what is printed.

    `sd` uses n - 1 degrees of freedom and `sd0` uses n. The facts hold the abstract's gains too.
    """
    teacher = paper_teacher()
    again = stats.summarise(released, "name").drop(columns=["low", "high"])
    again["sd0"] = again.sd * (1 - 1 / again.n) ** 0.5
    again["delta_of_max"], again["delta_of_mean"] = again["max"] - teacher, again["mean"] - teacher
    printed = published("table4_ablation").rename(columns={"method": "name"})
    table = again.merge(printed, on="name")
    table = table.rename(columns={"delta_acc_as_printed": "delta_printed"})[RECOMPUTED.split()]
    named = again.assign(method=again.name.map(KEYS), delta=again.delta_of_max)
    columns = ("mean", "sd", "sd0", "min", "max", "delta")
    facts = as_facts(named, "table4", "method", {f"_{column}": column for column in columns})
    from_means = (table.delta_of_mean - table.delta_printed).abs() < 0.006
    about = _abstract(again.set_index("name"), teacher) | {"deltas_of_means": int(from_means.sum())}
    return table, facts + facts_of(about, "table4")


def _abstract(runs: pd.DataFrame, teacher: float) -> dict[str, float]:
    """The gains over the student, and the place of KD & IG, that abstract and conclusions state."""
    gain = runs[["max", "mean"]] - runs.loc["Student", ["max", "mean"]]
    next_best = runs.drop(index="KD & IG")[["max", "mean"]].max()
    lead = runs.loc["KD & IG", ["max", "mean"]] - next_best
    return {
        "kd_ig_over_next_max": lead["max"],
        "kd_ig_over_next_mean": lead["mean"],
        "kd_ig_drop": teacher - runs["mean"]["KD & IG"],
        "gain_max": gain["max"]["KD & IG"],
        "gain_mean": gain["mean"]["KD & IG"],
        "kd_gain_max": gain["max"]["KD"],
        "relative_improvement": 100 * gain["max"]["KD & IG"] / (teacher - runs["max"]["Student"]),
    }


def p_reordered(x: np.ndarray, base: np.ndarray, orders: int = 1000, seed: int = 0) -> np.ndarray:
    """p of the paired t test of `x` against `base` in random orders of `x`."""
    rng = np.random.default_rng(seed)
    return np.array([ttest_rel(rng.permutation(x), base).pvalue for _ in range(orders)])


def retested(released: pd.DataFrame) -> Shown:
    """Table 4's tests against the student, again from the released runs: paired in the file's
    order and in random ones, and Welch's.
    """
    wide = released.pivot(index="seed", columns="name", values="accuracy")
    base = wide["Student"].to_numpy()
    printed = published("table4_ablation").rename(columns={"method": "name"})
    tests = stats.compare(released, "Student", by="name")
    tests = tests.merge(printed[["name", "t_stat", "p_value_as_printed"]], on="name")
    ends = [
        np.quantile(p_reordered(wide[name].to_numpy(), base), [0.025, 0.975]) for name in tests.name
    ]
    tests["p_reordered_low"], tests["p_reordered_high"] = zip(*ends)
    named = tests.drop(columns=["low", "high"]).assign(method=tests.name.map(KEYS))
    facts = as_facts(named, "table4", "method", {"_t": "t_paired"})
    for test in ("paired", "welch", "welch_holm"):
        tested = named.assign(p=named[f"p_{test}"])
        facts += as_facts(tested, "table4", "method", {f"_{test}": f"p_{test}"})
    return tests[RETESTED.split()], facts


def many_to_one(released: pd.DataFrame) -> Shown:
    """The comparisons with one method that section 4.2 makes, by Dunnett's test on the released
    runs: all others against the student, and all others against KD & IG.

    A difference is that of `method` minus `against`. The facts are named `dunnett-A-B` for A minus
    B.
    """
    upwards = designs.many_to_one(released, "student").assign(against="student")
    others = designs.many_to_one(released, "kd_ig").rename(columns={"method": "against"})
    downwards = others.assign(method="kd_ig", difference=-others.difference)
    downwards = downwards.assign(low=-others.high, high=-others.low)
    columns = ["method", "against", "n", "difference", "low", "high", "p"]
    table = pd.concat([upwards, downwards.query("against != 'student'")], ignore_index=True)
    facts: Facts = [
        {"fact": f"dunnett-{row.method}-{row.against}", "value": row.difference, "n": row.n}
        | {"low": row.low, "high": row.high, "p": row.p, "interval": SIMULTANEOUS}
        for row in table.itertuples()
    ]
    return table[columns], facts


def all_pairs(released: pd.DataFrame) -> Shown:
    """Every pair of methods from the released runs, by Welch's test: difference of means with its
    interval and p, and both for all pairs at once.

    `low` to `high` belongs to `p_welch`; `low_all` to `high_all` (Bonferroni's) to `p_welch_holm`.
    """
    wide = released.pivot(index="seed", columns="name", values="accuracy")
    pairs = list(itertools.combinations(wide.columns, 2))
    level = 1 - 0.05 / len(pairs)
    rows = [_pair(wide[a].to_numpy(), wide[b].to_numpy(), level) for a, b in pairs]
    table = pd.DataFrame([{"name": a, "against": b} | row for (a, b), row in zip(pairs, rows)])
    table["p_welch_holm"] = stats.holm(table.p_welch)
    row = table[(table.name == "KD") & (table.against == "KD & IG")].iloc[0]
    fact = {"value": -row.difference, "low": -row.high_all, "high": -row.low_all, "n": len(wide)}
    fact |= {"p": row.p_welch_holm, "interval": f"95 % interval of all {len(pairs)} pairs at once"}
    return table.sort_values("p_welch"), [{"fact": "table4_kd_ig_over_kd", **fact}]


def _pair(x: np.ndarray, y: np.ndarray, level: float) -> dict[str, float]:
    """Welch's test, with its 95 % interval and the one of `level`."""
    test = ttest_ind(x, y, equal_var=False)
    alone, together = (test.confidence_interval(one) for one in (0.95, level))
    row = {"difference": x.mean() - y.mean(), "low": alone.low, "high": alone.high}
    row |= {"p_welch": test.pvalue, "low_all": together.low, "high_all": together.high}
    return {name: float(value) for name, value in row.items()}
