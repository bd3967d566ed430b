"""The tables of `09_released_results`: damaged pictures, selection, latency, and Figure 6 once
more.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats as distributions

from kdig.core.methods import KEYS, LABELS
from kdig.measure import corruptions, stats
from kdig.measure.corruptions import Condition
from kdig.paper import published, recompute
from kdig.study.outputs import Facts, as_facts
from kdig.study.tables.monte_carlo import AXIS_END, RUNS, printed_table5
from kdig.study.tables.shared import Shown, by_key, from_paper, further

UNDAMAGED: Condition = ("none", 0.0)
# the severity at which a claim is decided, whatever the lists hold; set before any of them was run
DECISIVE = {"jpeg": 75.0, "noise": 16.0, "blur": 0.75, "contrast": 0.5}
AXES = {
    "jpeg": "JPEG quality (4:2:0)",
    "noise": "noise, sd (grey levels)",
    "blur": "blur, sd (pixels)",
    "contrast": "contrast factor",
}
DAMAGE = "kind severity method n difference low high p_paired p_paired_holm"
HEADLINE = (
    "name printed max mean sd n low high further_low further_high added equal_low equal_middle"
    " equal_high"
)
PASSES = "order pass teacher_ms student2_ms ratio teacher_once_ms student2_once_ms"


# damaged pictures


def conditions(severities: Mapping[str, Sequence[float]]) -> list[Condition]:
    """Undamaged, then each kind of damage from mild to severe, the decisive severity among them."""
    found = [UNDAMAGED]
    for kind, values in severities.items():
        ordered = sorted({*values, DECISIVE[kind]}, reverse=kind in ("jpeg", "contrast"))
        found += [(kind, float(value)) for value in ordered]
    return found


Answers = Mapping[Condition, Mapping[tuple[str, int], np.ndarray]]


def _by_seed(answered: Mapping[tuple[str, int], np.ndarray], method: str) -> dict[int, np.ndarray]:
    return {seed: right for (name, seed), right in answered.items() if name == method}


def damage(answers: Answers) -> pd.DataFrame:
    """Accuracy of each method under each condition, with intervals over runs and over pictures.

    `answers`: condition -> (method, seed) -> whether each picture was answered rightly.
    """
    rows = []
    for (kind, severity), answered in answers.items():
        for method in dict.fromkeys(name for name, _ in answered):
            right = np.stack(list(_by_seed(answered, method).values()))
            row = {"kind": kind, "severity": severity, "method": method}
            rows.append(row | stats.accuracy_intervals(right))
    return pd.DataFrame(rows)


def changes(answers: Answers) -> pd.DataFrame:
    """What each damage changes in each network's accuracy (points)."""
    rows = []
    for (kind, severity), answered in answers.items():
        for (method, seed), right in answered.items():
            change = 100 * (right.mean() - answers[UNDAMAGED][method, seed].mean())
            row = {"kind": kind, "severity": severity, "method": method}
            rows.append({**row, "seed": seed, "change": change})
    return pd.DataFrame(rows)


def damage_tests(changed: pd.DataFrame) -> Shown:
    """How much less than the student each method loses by each damage (`changes`).

    Where every pair differs by the same number of pictures a t test has no spread to work with.
    """
    parts = [
        stats.compare(part, "student", value="change").assign(kind=kind, severity=severity)
        for (kind, severity), part in changed[changed.kind != "none"].groupby(
            ["kind", "severity"], sort=False
        )
    ]
    table = pd.concat(parts, ignore_index=True)
    table.loc[table.high - table.low < 1e-9, "p_paired"] = np.nan
    table["p_paired_holm"] = stats.holm(table.p_paired)
    decisive = table[(table.method == "kd_ig") & (table.severity == table.kind.map(DECISIVE))]
    decisive = _as_a_family(decisive)
    facts = as_facts(decisive, "damage", "kind", {"_kd_ig_over_student": "difference"})
    return table[DAMAGE.split()], facts


def _as_a_family(rows: pd.DataFrame) -> pd.DataFrame:
    """The decisive comparisons, one a kind of damage, with Holm's p over them and intervals that
    hold for all of them at once (Bonferroni).
    """
    quantiles = distributions.t.ppf([1 - 0.025 / max(len(rows), 1), 0.975], rows.n.min() - 1)
    half = (rows.high - rows.low) / 2 * quantiles[0] / quantiles[1]
    ends = {"low": rows.difference - half, "high": rows.difference + half}
    about = f"95 % interval of {len(rows)} kinds of damage at once"
    return rows.assign(**ends, p=stats.holm(rows.p_paired), interval=about)


def method_of(name: str) -> str | None:
    """The method of a released checkpoint, from a file's name such as `Students_KD_IG_0.1`."""
    tags = {label.replace(" & ", "_"): key for label, key in KEYS.items()}
    found = [tag for tag in sorted(tags, key=len, reverse=True) if f"_{tag}_" in name]
    return tags[found[0]] if found else None


def called(files: Iterable[str]) -> dict[str, str]:
    """File's name of a released checkpoint -> what to call it in a figure, such as `KD & IG, 80 %
    of images`; the file's name where two would be called the same.
    """
    names = {}
    for file in files:
        method = method_of(file)
        part = ", 80 % of images" if "Train80" in file else ""
        names[file] = f"{LABELS[method]}{part}" if method else file
    found = list(names.values())
    return {file: name if found.count(name) == 1 else file for file, name in names.items()}


Released = Mapping[Condition, Mapping[str, np.ndarray]]


def released_accuracies(*answers: Released) -> pd.DataFrame:
    """Accuracy of released networks under each condition, with Wilson's interval over pictures.

    `answers`: condition -> method -> whether each picture was answered rightly.
    """
    rows = [
        {"kind": kind, "severity": severity, "method": method, **stats.accuracy_intervals(right)}
        for answered in answers
        for (kind, severity), by_method in answered.items()
        for method, right in by_method.items()
    ]
    return pd.DataFrame(rows)


def released_pairs(*answers: Released) -> Shown:
    """Every two released networks on the same damaged pictures: McNemar's test, Holm over all.

    `change_difference` is the difference less the one on undamaged pictures. Of several samples of
    pictures the first with a condition gives its fact.
    """
    rows = [
        _released_pair(condition, method, against, right, answered[UNDAMAGED])
        for answered in answers
        for condition, right in answered.items()
        for against, method in itertools.combinations(right, 2)
    ]
    table = pd.DataFrame(rows).assign(p_holm=lambda t: stats.holm(t.p))
    chosen = table[(table.method == "kd_ig") & (table.severity == table.kind.map(DECISIVE))]
    named = chosen.drop_duplicates(["kind", "against"])[["kind", "against", "n"]].join(
        chosen[["change_difference", "change_low", "change_high"]]
    )
    named = named.rename(columns={"change_low": "low", "change_high": "high"})
    named["name"] = named.kind + "_over_" + named.against
    facts = as_facts(named, "damage_released", "name", {"": "change_difference"})
    on = {"data": "CIFAR-10 (exact), released students", "why_not_decided": ""}
    return table, [fact | on for fact in facts]


def _released_pair(
    condition: Condition,
    method: str,
    against: str,
    right: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray],
) -> dict[str, object]:
    lost = {name: right[name] * 1.0 - before[name] for name in (method, against)}
    change = 100 * (lost[method] - lost[against])
    low, high = stats.mean_interval(change)
    row = {"kind": condition[0], "severity": condition[1], "method": method, "against": against}
    row |= {"n": len(change), **stats.compare_answers(right[method], right[against])}
    row |= {"change_difference": change.mean(), "change_low": low, "change_high": high}
    return row


# damaged as in CIFAR-10-C


CIFAR10_C_SOURCE = "constants of CIFAR-10-C (hendrycks/robustness at ca36008, make_cifar_c.py)"


def cifar10c() -> Shown:
    """The severities 1 to 5 of CIFAR-10-C for four kinds of damage, in this notebook's units."""
    table = pd.DataFrame(corruptions.CIFAR10_C).T.set_axis([1, 2, 3, 4, 5], axis=1)
    facts: Facts = [
        {"fact": f"cifar10c-{kind}-{severity}", "value": value, "data": CIFAR10_C_SOURCE}
        for kind, row in table.iterrows()
        for severity, value in row.items()
    ]
    return table.rename_axis("kind").add_prefix("severity ").reset_index(), facts


def cifar10c_conditions() -> list[Condition]:
    """Undamaged, and each severity of `cifar10c`."""
    kinds = corruptions.CIFAR10_C.items()
    return [UNDAMAGED, *((kind, value) for kind, values in kinds for value in values)]


def trained_on(name: str) -> str:
    """The training images of a released checkpoint, by its file's name."""
    return "80 %" if "Train80" in name else "all"


def cifar10c_accuracies(answers: Released) -> pd.DataFrame:
    """Accuracy (percent) of each released network (by file name) undamaged and by kind of damage:
    the mean over the severities there are, with its 95 % interval over images.

    Networks are compared where their training images are the same (`trained`).
    """
    rows = []
    for name in answers[UNDAMAGED]:
        for kind, right in _by_kind(answers, name).items():
            low, high = stats.mean_interval(100 * right)
            row: dict[str, object] = {"trained": trained_on(name), "method": method_of(name)}
            row |= {
                "kind": kind,
                "accuracy": 100 * right.mean(),
                "low": low,
                "high": high,
                "n": len(right),
            }
            rows.append(row)
    return pd.DataFrame(rows).sort_values(["trained", "method"], kind="stable")


def _by_kind(answers: Released, name: str) -> dict[str, np.ndarray]:
    """Kind of damage -> share of its severities at which each image is answered rightly."""
    kinds = dict.fromkeys(kind for kind, _ in answers)
    return {
        kind: np.mean([some[name] for (of, _), some in answers.items() if of == kind], axis=0)
        for kind in kinds
    }


def cifar10c_losses(answers: Released) -> Shown:
    """How much less KD & IG loses by each kind of damage than the other released networks with the
    same training images, over the severities (points).

    `low` to `high` is the 95 % interval over images of one difference, `low_all` to `high_all` of
    all in the table at once (Bonferroni), beside `p_holm`. Each method is one network here, so that
    this is about these networks and no statement about methods.
    """
    names = list(answers[UNDAMAGED])
    pairs = [
        (ours, other)
        for ours, other in itertools.permutations(names, 2)
        if method_of(ours) == "kd_ig" and trained_on(ours) == trained_on(other)
    ]
    kinds = [kind for kind in _by_kind(answers, names[0]) if kind != UNDAMAGED[0]]
    level = 1 - 0.05 / max(len(pairs) * len(kinds), 1)
    rows = [_less_lost(answers, *pair, kind, level) for pair in pairs for kind in kinds]
    table = pd.DataFrame(rows)
    if table.empty:
        return table, []
    table = table.assign(p_holm=stats.holm(table.p))
    named = table.assign(low=table.low_all, high=table.high_all, p=table.p_holm)
    named["name"] = (
        table.kind + "_" + table.trained.str.strip(" %") + "_kd_ig_over_" + table.against
    )
    named["interval"] = "95 % interval over images, all comparisons at once"
    facts = as_facts(named, "damage_c", "name", {"": "difference"})
    on = {"data": "CIFAR-10 (exact), released students", "why_not_decided": ""}
    return table, [fact | on for fact in facts]


def _less_lost(
    answers: Released, ours: str, other: str, kind: str, level: float
) -> dict[str, object]:
    kept = {name: _by_kind(answers, name) for name in (ours, other)}
    change = {name: 100 * (some[kind] - some[UNDAMAGED[0]]) for name, some in kept.items()}
    difference = change[ours] - change[other]
    alone, together = (stats.mean_interval(difference, one) for one in (0.95, level))
    row: dict[str, object] = {"trained": trained_on(ours), "against": method_of(other)}
    row |= {"kind": kind, "n": len(difference), "difference": difference.mean()}
    row |= {"low": alone[0], "high": alone[1], "low_all": together[0], "high_all": together[1]}
    return row | {"p": distributions.ttest_1samp(difference, 0.0).pvalue}


# selection


def released_runs() -> pd.DataFrame:
    """The ten released runs of each method of Table 4: `method`, `accuracy`."""
    return by_key(published("ablation_runs")).rename(columns={"test_accuracy": "accuracy"})


# source of runs -> standard deviation of one run, with its interval
Scatter = Mapping[str, tuple[float, float, float]]


def scatter(sources: Mapping[str, pd.DataFrame]) -> dict[str, tuple[float, float, float]]:
    """Standard deviation of one run within methods, with its 95 % interval, for each source."""
    found = {}
    for name, frame in sources.items():
        sd = stats.pooled_sd(frame, "method", "accuracy")
        found[name] = (sd, *stats.sd_interval(sd, len(frame) - frame.method.nunique()))
    return found


def run_scatter(sources: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How far the highest of a method's runs stands above their mean, observed and expected."""
    rows = []
    for name, (sd, low, high) in scatter(sources).items():
        groups = sources[name].groupby("method").accuracy
        size = int(groups.size().min())
        row = {"runs": name, "methods": groups.ngroups, "n": size, "sd": sd}
        row |= {"sd_low": low, "sd_high": high}
        row["observed"] = (groups.max() - groups.mean()).mean()
        equal = stats.equal_cells(size, sd) if sd > 0 else np.full((1, size), np.nan)
        rows.append(row | {"expected": stats.spread(equal).max_minus_mean.mean()})
    return pd.DataFrame(rows)


def best_of_n(sds: Scatter, here: int) -> pd.DataFrame:
    """What the highest of n equal runs adds to the true mean, for `here` runs (0: none) and other
    numbers.
    """
    rows = []
    for name, spread in sds.items():
        for n in sorted({2, 3, 5, 10, 20, 40, 60, here} - {0}):
            highest = stats.equal_cells(n, 1.0).max(axis=1)
            value, low, high = (sd * highest.mean() for sd in spread)
            ends = np.quantile(spread[0] * highest, [0.025, 0.975])
            row = {"curve": name, "x": n, "value": value, "low": low, "high": high}
            rows.append(row | {"once_low": ends[0], "once_high": ends[1]})
    return pd.DataFrame(rows)


def headline(released: pd.DataFrame, sd: float) -> Shown:
    """Each printed highest accuracy of Table 4 beside the mean of the same ten released runs.

    `further_low` to `further_high` is where one more run would lie; the interval of the mean holds
    the highest of ten runs hardly ever. `sd` is that of one run, pooled over methods.
    """
    equal = stats.spread(stats.equal_cells(10, sd)).max_minus_mean
    luck = np.quantile(equal, [0.025, 0.5, 0.975])
    printed = published("table4_ablation").set_index("method").acc_max
    table = stats.summarise(released, "method").assign(name=lambda t: t.method.map(LABELS))
    table = table.assign(printed=table.name.map(printed), added=table["max"] - table["mean"])
    table["equal_low"], table["equal_middle"], table["equal_high"] = luck
    table["further_low"], table["further_high"] = zip(*table.apply(further, axis=1))
    one = table.assign(low=table.further_low, high=table.further_high)
    one["interval"] = "95 % prediction interval of one run"
    facts = as_facts(one, "selection", "method", {"_mean": "mean"})
    return table[HEADLINE.split()], _always(facts)


def _always(facts: Facts) -> Facts:
    """Facts of the paper's own runs, which decide whatever the profile."""
    return [fact | {"why_not_decided": ""} for fact in from_paper(facts)]


def headline_gains(released: pd.DataFrame) -> Shown:
    """Gain over the student twice: of the highest of ten runs, and of the means with Welch's
    interval; Holm over the methods.
    """
    table = stats.summarise(released, "method").set_index("method", drop=False)
    base, rows = table.loc["student"], []
    for _, row in table[table.method != "student"].iterrows():
        gap = stats.welch((row["mean"], row.sd, int(row.n)), (base["mean"], base.sd, int(base.n)))
        found = {"method": row.method, "of_highest": row["max"] - base["max"]}
        found |= {"of_means": gap["difference"], **{k: gap[k] for k in ("low", "high", "p")}}
        rows.append(found | {"n": row.n})
    gains = pd.DataFrame(rows)
    gains = gains.assign(added=gains.of_highest - gains.of_means, p_holm=stats.holm(gains.p))
    facts = as_facts(gains, "selection", "method", {"_gain_of_means": "of_means"})
    return gains, _always(facts)


def tuned(sds: Scatter) -> pd.DataFrame:
    """Points above the true accuracy that the winner of a search among equal settings reports."""
    s10, s11, s12 = (published(f"s1{k}_{name}_search") for k, name in enumerate(("kd", "ig", "at")))
    searches = {
        "ten runs of one setting (Table 4)": (1, None),
        "gamma, printed settings (S12)": (6, s12.accuracy),
        "p (S11)": (6, s11.test_accuracy),
        "alpha and T, printed settings (S10)": (25, s10.accuracy),
        "alpha and T, all settings": (45, None),
    }
    rows = []
    for name, (cells, printed) in searches.items():
        row = {"search": name, "cells": cells}
        row |= {"printed_highest": None, "printed_max_minus_mean": None}
        if printed is not None:
            above = stats.spread(printed.to_numpy()).max_minus_mean[0]
            row |= {"printed_highest": printed.max(), "printed_max_minus_mean": above}
        for source, (sd, *_) in sds.items():
            for reading, k in {"one_run": 1, "of_ten": 10}.items():
                highest = stats.equal_cells(cells, 1.0, k).max(axis=1).mean()
                row[f"{reading}, {source}"] = sd * highest
        rows.append(row)
    return pd.DataFrame(rows)


def best_epochs(frame: pd.DataFrame) -> pd.DataFrame:
    """Points added by reporting each run's best epoch, over all runs and by method."""
    added = frame.assign(added=frame.best_epoch_accuracy - frame.accuracy)
    return stats.summarise(pd.concat([added.assign(method="all runs"), added]), "method", "added")


# latency


def latency_line() -> Shown:
    """The teacher's time from a line through the eight printed student times, and its ratio to the
    4.12x student's.
    """
    s5 = published("s5_architectures")
    ms = 1000 * published("s9_inference_time").inference_time_s.to_numpy()
    counts = {"layers": s5.total_layers, "macs": s5.macs_32x32_recomputed / 1e6}
    table = pd.DataFrame([_latency(over, x, ms) for over, x in counts.items()])
    named = table.assign(interval="95 % prediction interval")
    return table, from_paper(as_facts(named, "latency_ratio", "over", {"": "ratio"}))


def _latency(over: str, x: pd.Series, ms: np.ndarray) -> dict[str, object]:
    line, r2 = recompute.predict(x[1:].tolist(), ms[1:].tolist(), [x[0]])
    low, high = line.low[0], line.high[0]
    row = {"over": over, "r2": r2, "n": 8, "student_ratio_of_counts": x[0] / x[2]}
    row |= {"teacher_ms": line.value[0], "ms_low": low, "ms_high": high, "printed_ms": ms[0]}
    row |= {"excess_ms": ms[0] - line.value[0]}
    row |= {"ratio": line.value[0] / ms[2], "low": low / ms[2], "high": high / ms[2]}
    return row | {"printed_ratio": ms[0] / ms[2]}


def latency_passes(cold: pd.DataFrame) -> pd.DataFrame:
    """First and second pass of teacher and 4.12x student, from `05_cold`.

    `once` is what a pass costs more than a second one.
    """
    wide = cold.pivot(index=["order", "turn"], columns="level", values="median")[[0, 2]]
    table = wide.set_axis(["teacher_ms", "student2_ms"], axis=1).reset_index()
    table["ratio"] = table.teacher_ms / table.student2_ms
    second = table[table.turn == 2].set_index("order")
    for name in ("teacher", "student2"):
        table[f"{name}_once_ms"] = table[f"{name}_ms"] - table.order.map(second[f"{name}_ms"])
    table["pass"] = table.turn.map({1: "first", 2: "second"})
    return table[PASSES.split()]


# Figure 6: one normal or two


def bin_edges(bins: pd.DataFrame) -> list[float]:
    """The edges of Figure 6's bars."""
    return [*np.sort(bins.bin_low.unique()), AXIS_END]


def beyond(bins: pd.DataFrame) -> Shown:
    """Runs beyond the axis of Figure 6, beside as many as one normal gives."""
    rows = [
        {"method": method, "n": RUNS, **_beyond(part["count"], *_moments(str(method)))}
        for method, part in bins.groupby("method", sort=False)
    ]
    table = pd.DataFrame(rows)
    ours = table[table.method == "kd_ig"].assign(p=lambda t: t.p_beyond)
    return table, from_paper(as_facts(ours, "mixture_beyond", "method", {"": "beyond"}))


def _moments(method: str) -> tuple[float, float]:
    """Mean and standard deviation as Table 5 prints them."""
    mean, sd = printed_table5().loc[method, ["mean", "std"]].astype(float)
    return mean, sd


def _beyond(count: pd.Series, mean: float, sd: float) -> dict[str, float]:
    runs, tail = RUNS - int(count.sum()), distributions.norm.sf(AXIS_END, mean, sd)
    row = {"beyond": runs, "beyond_expected": RUNS * tail}
    return row | {"p_beyond": distributions.binom.sf(runs - 1, RUNS, tail)}


def two_normals(draws: Mapping[str, np.ndarray]) -> dict[str, pd.DataFrame]:
    """Method -> fits of two normals of one width to the samples of `draws`."""
    return {method: recompute.two_normals(samples) for method, samples in draws.items()}


def mixture(fits: Mapping[str, pd.DataFrame], simulated: int = 20_000) -> Shown:
    """One normal against two for samples within Figure 6's bars, p by parametric bootstrap.

    `fits` are those of `two_normals`; `simulated` is the number of normal samples.
    """
    normal = np.random.default_rng(1).normal(size=(simulated, RUNS))
    null = recompute.two_normals(normal)
    rows = [{"method": m, "n": RUNS, **_mixture(fit, null.ratio)} for m, fit in fits.items()]
    table = pd.DataFrame(rows).rename(columns={"low": "mean_low", "high": "mean_high"})
    table["minor_runs"] = RUNS * np.minimum(table.share, 1 - table.share)
    table["between_usual"] = null.between.median()
    table["between_usual_95"] = null.between.quantile(0.95)
    table["p_holm"] = stats.holm(table.p)
    table["p_se"] = np.sqrt(table.p * (1 - table.p) / len(null))
    return table, _mixture_facts(table, fits)


def _mixture(fit: pd.DataFrame, null: pd.Series) -> dict[str, float]:
    """`null` are the ratios that samples from one normal give."""
    p = [stats.upper_p(null, value) for value in fit.ratio]
    row = {"ratio": fit.ratio.median(), "p": np.median(p)}
    row |= dict(zip(("p_low", "p_high"), np.quantile(p, [0.025, 0.975])))
    medians: dict[str, float] = fit.drop(columns="ratio").median().to_dict()
    return row | medians


def _mixture_facts(table: pd.DataFrame, fits: Mapping[str, pd.DataFrame]) -> Facts:
    ends = [fits[method].ratio.quantile([0.025, 0.975]) for method in table.method]
    named = table[["method", "ratio", "n"]].assign(
        low=[end.iloc[0] for end in ends],
        high=[end.iloc[1] for end in ends],
        p=table.p_holm,
        interval="middle 95 % over draws within the bars",
    )
    return from_paper(as_facts(named, "mixture", "method", {"": "ratio"}))


def mixture_curves(fits: Mapping[str, pd.DataFrame], bins: pd.DataFrame) -> pd.DataFrame:
    """One normal with the printed mean and standard deviation, and two as fitted with a band, in
    runs a bar of Figure 6.
    """
    edges, grid = bin_edges(bins), np.linspace(88.5, 92.8, 216)
    scale, parts = RUNS * (edges[1] - edges[0]), []
    for method, fit in fits.items():
        groups = ((1 - fit.share, fit.low), (fit.share, fit.high))
        two = scale * sum(_density(grid, w, m, fit.sd) for w, m in groups)
        low, middle, high = np.quantile(two, [0.025, 0.5, 0.975], axis=0)
        one = scale * distributions.norm.pdf(grid, *_moments(method))
        curve = {"method": method, "x": grid, "one": one, "two": middle, "low": low, "high": high}
        parts.append(pd.DataFrame(curve))
    return pd.concat(parts)


def _density(grid: np.ndarray, weight: pd.Series, mean: pd.Series, sd: pd.Series) -> np.ndarray:
    """(fits, grid): `weight` times a normal density."""
    w, m, s = (values.to_numpy()[:, None] for values in (weight, mean, sd))
    return np.asarray(w * distributions.norm.pdf(grid, m, s))
