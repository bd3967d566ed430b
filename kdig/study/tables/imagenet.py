"""The tables of `07_imagenet_subset`: Tables 6, S13 and S14, Figure S4."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats as distributions
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_confint,
    proportions_ztest,
)

from kdig.core.methods import KEYS
from kdig.measure import stats
from kdig.paper import published, recompute, verdicts
from kdig.study.outputs import Facts, as_facts
from kdig.study.tables.shared import Shown, by_key, facts_of

# as the ImageNet tables print the methods
LABELLED = KEYS | {"Student (baseline)": "student", "Teacher": "teacher"}
PRINTED_BALANCED, PRINTED_KAPPA = 68.52, 0.5528  # of the teacher, section 4.5
TABLE6 = (
    "reading method paper_printed paper_released mean sd n low high one_low one_high first"
    " pictures_low pictures_high verdict"
)
GAINS = (
    "reading method n difference low high p_paired low_all high_all p_paired_holm p_welch"
    " p_welch_holm"
)
TWO_READINGS = (
    "method checkpoint raw_accuracy raw low high correct balanced_accuracy balanced printed"
    " rank_raw rank_balanced cohen_kappa"
)


def printed_table6() -> pd.DataFrame:
    """Table 6 as printed, a row for each method's key."""
    table = published("table6_imagenet")
    return table.assign(method=table.configuration.map(LABELLED)).set_index("method")


def stored_metrics() -> pd.DataFrame:
    """What the released notebook stores of five students, with `method`."""
    table = published("imagenet_notebook_metrics")
    return table.assign(method=table.configuration.map(LABELLED))


# measured here


def teacher_by_class(
    labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str], on_kept: float
) -> Shown:
    """Table S14's form for our teacher, with the paper's row of the same index.

    `on_kept` is the teacher's accuracy on the pictures that are kept.
    """
    ours = stats.accuracy_by_class(labels, predicted, classes)
    names = {"cifar_class": "class", "correct": "correct", "total": "pictures"}
    names |= {"accuracy_pct": "accuracy"}
    printed = published("s14_teacher_imagenet").rename(columns=names)
    printed = printed[list(names.values())].add_prefix("paper_")
    printed["key"] = [*range(len(printed) - 1), "total"]
    table = ours.assign(key=[*range(len(classes)), "total"]).merge(printed, on="key", how="left")
    measured = {"teacher": on_kept, "teacher_all": stats.scores(labels, predicted)["raw"]}
    facts = [fact | {"n": len(labels)} for fact in facts_of(measured, "imagenet_measured")]
    return table.drop(columns="key"), facts


def table6(
    networks: pd.DataFrame,
    right: Mapping[tuple[str, int], np.ndarray],
    labels: np.ndarray,
    why_not_decided: str,
) -> Shown:
    """Table 6 from our networks (`method`, `seed`, and an accuracy for each reading).

    `right`: (method, seed) -> whether each kept picture of `labels` was answered rightly. The
    paper's value is that of one network, so it is sought where one further network would lie.
    """
    parts = [
        _reading(networks, right, labels, name) for name in ("test", "raw", "balanced", "kappa")
    ]
    table = pd.concat(parts, ignore_index=True)
    balanced = table[table.reading == "balanced"].assign(
        interval=f"95 % prediction interval of one network on other pictures; {len(labels)}"
        " pictures kept",
        low=lambda t: t.one_low,
        high=lambda t: t.one_high,
    )
    facts = as_facts(balanced, "imagenet_measured", "method", {"": "mean"})
    decided = verdicts(facts, why_not_decided)
    table["verdict"] = [
        decided.get(f"imagenet_measured_{method}", "") if reading == "balanced" else ""
        for method, reading in zip(table.method, table.reading)
    ]
    return table[TABLE6.split()], facts


def _reading(
    networks: pd.DataFrame,
    right: Mapping[tuple[str, int], np.ndarray],
    labels: np.ndarray,
    name: str,
) -> pd.DataFrame:
    """One way to score, with the paper's values and the first network of each method."""
    part = stats.summarise(networks, "method", name).assign(reading=name)
    first = networks[networks.seed == networks.seed.iloc[0]].set_index("method")[name]
    printed, released = printed_table6(), stored_metrics().set_index("method")
    columns = {"test": printed.cifar10_acc, "balanced": printed.imagenet_subset_as_printed}
    stored = {"raw": released.raw_accuracy, "balanced": released.balanced_accuracy}
    stored["kappa"] = released.cohen_kappa
    part["first"] = part.method.map(first)
    part["paper_printed"] = part.method.map(columns.get(name, {}))
    part["paper_released"] = part.method.map(stored.get(name, {}))
    if name == "kappa" and "kappa_low" in networks:
        ends = networks.groupby("method")[["kappa_low", "kappa_high"]].mean()
        part["pictures_low"] = part.method.map(ends.kappa_low)
        part["pictures_high"] = part.method.map(ends.kappa_high)
    if name in ("raw", "balanced"):
        share = right_share(right)
        spans = [stats.picture_interval(labels, share[m], name == "balanced") for m in part.method]
        part["pictures_low"], part["pictures_high"] = zip(*spans)
        scores = networks.groupby("method")[name]
        further = [
            stats.prediction_interval(scores.get_group(m), (high - low) / 2)
            for m, (low, high) in zip(part.method, spans)
        ]
        part["one_low"], part["one_high"] = zip(*further)
    return part


def right_share(right: Mapping[tuple[str, int], np.ndarray]) -> dict[str, np.ndarray]:
    """Method -> share of its networks that answer each picture rightly."""
    methods = dict.fromkeys(method for method, _ in right)
    return {
        m: np.mean([some for (of, _), some in right.items() if of == m], axis=0) for m in methods
    }


def students_by_class(
    right: Mapping[tuple[str, int], np.ndarray], labels: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """Accuracy by class of each method's networks together, and the number of pictures kept."""
    accuracy = {m: 100 * pd.Series(s).groupby(labels).mean() for m, s in right_share(right).items()}
    table = pd.DataFrame(accuracy).assign(pictures=pd.Series(labels).value_counts())
    return table.rename(index=dict(enumerate(classes))).reset_index(names="class")


def first_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """McNemar's test for the first seed, with the least and greatest p over the seeds."""
    first = pairs[pairs.seed == pairs.seed.iloc[0]].drop(columns="seed")
    p = pairs.groupby("method").p.agg(p_least="min", p_greatest="max")
    return first.merge(p, on="method")


def gains(networks: pd.DataFrame, kept: int) -> Shown:
    """Each method minus the student, paired by seed, in balanced and raw accuracy.

    `kept` is the number of pictures.
    """
    readings = {
        name: stats.compare(networks, "student", value=name).assign(reading=name)
        for name in ("balanced", "raw")
    }
    tested = readings["balanced"].assign(
        p=lambda t: t.p_paired_holm,
        low=lambda t: t.low_all,
        high=lambda t: t.high_all,
        interval=f"95 % interval of all methods at once, pairs of networks; {kept} pictures kept",
    )
    facts = as_facts(tested, "imagenet_measured", "method", {"_gain": "difference"})
    return pd.concat(readings.values())[GAINS.split()], facts


# the paper's own numbers


def counts() -> Shown:
    """Table S14 beside fifty pictures of each class that Table S13 lists."""
    s13, s14 = published("s13_class_mapping"), published("s14_teacher_imagenet")
    table = s14[s14.cifar_class != "total"].copy()
    listed = table.cifar_class.map(s13.groupby("cifar_class").size())
    table["imagenet_classes"] = listed.fillna(0).astype(int)
    table["fifty_each"] = 50 * table.imagenet_classes
    table["recomputed"] = 100 * table.correct / table.total.where(table.total > 0)
    facts = as_facts(table, "imagenet_total", "cifar_class", {"": "fifty_each"})
    facts += as_facts(table, "imagenet_correct", "cifar_class", {"": "correct"})
    filled = table[table.total > 0].assign(n=lambda t: t.total)
    return table, facts + as_facts(filled, "imagenet_teacher", "cifar_class", {"": "recomputed"})


def sums(classes: pd.DataFrame) -> Shown:
    """Sums over the classes (`counts`), beside the totals that the paper gives."""
    s14, listed = published("s14_teacher_imagenet"), len(published("s13_class_mapping"))
    total = s14[s14.cifar_class == "total"].iloc[0]
    left_out = (classes.total - classes.correct).sum()
    accuracy = 100 * classes.correct.sum() / classes.total.sum()
    rows = [
        ("ImageNet classes", classes.imagenet_classes.sum(), listed),
        ("pictures", classes.fifty_each.sum(), total.total),
        ("correct", classes.correct.sum(), total.correct),
        ("left out", left_out, total.excluded),
        ("accuracy (%)", accuracy, total.accuracy_pct),
    ]
    facts = {"classes": listed, "pictures": classes.fifty_each.sum()}
    facts |= {"correct": classes.correct.sum(), "left_out": left_out, "teacher_raw": accuracy}
    return pd.DataFrame(rows, columns=["what", "recomputed", "given"]), facts_of(facts, "imagenet")


def teacher_scores(classes: pd.DataFrame) -> Shown:
    """Balanced accuracy and bounds of kappa of the paper's teacher, from its classes (`counts`)."""
    share = classes.correct.sum() / classes.total.sum()
    filled, of_all = classes.recomputed.mean(), classes.recomputed.fillna(0).mean()
    low, high = recompute.kappa_range(classes.correct.to_numpy(), classes.total.to_numpy())
    chance = (share - PRINTED_KAPPA) / (1 - PRINTED_KAPPA)
    rows = [
        ("balanced accuracy (%), 8 classes with pictures", filled, PRINTED_BALANCED),
        ("balanced accuracy (%), 10 classes, empty ones as 0", of_all, PRINTED_BALANCED),
        ("kappa, least possible", low, PRINTED_KAPPA),
        ("kappa, greatest possible", high, PRINTED_KAPPA),
        ("chance agreement that gives the printed kappa", chance, None),
    ]
    facts = facts_of({"balanced": filled, "balanced_10": of_all}, "imagenet_teacher")
    kappa = {"value": (low + high) / 2, "low": low, "high": high}
    facts.append({"fact": "imagenet_teacher_kappa", **kappa, "interval": "bounds by the margins"})
    return pd.DataFrame(rows, columns=["what", "recomputed", "printed"]), facts


def _classes_of(metrics: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Accuracies by class (percent), and the number of pictures that the teacher kept of each."""
    accuracy = metrics.filter(like="acc_").rename(columns=lambda name: name.removeprefix("acc_"))
    kept = published("s14_teacher_imagenet").set_index("cifar_class").correct
    return accuracy, kept[accuracy.columns].to_numpy(dtype=int)


def both_readings(metrics: pd.DataFrame) -> pd.DataFrame:
    """`stored_metrics` with raw and balanced accuracy rederived from the accuracies by class, their
    intervals or errors, and ranks.
    """
    by_class, sizes = _classes_of(metrics)
    table, share = metrics.assign(balanced=by_class.mean(axis=1)), by_class / 100
    table["raw"] = [np.average(row, weights=sizes) for row in by_class.to_numpy()]
    table["correct"] = (table.raw_accuracy / 100 * sizes.sum()).round().astype(int)
    table["printed"] = table.method.map(printed_table6().imagenet_subset_as_printed)
    table["rank_raw"] = table.raw.rank(ascending=False)
    table["rank_balanced"] = table.balanced.rank(ascending=False)
    low, high = proportion_confint(table.correct, sizes.sum(), method="wilson")
    # a mean over classes: the variance of each class's share, over the number of classes squared
    variance = (share * (1 - share) / sizes).sum(axis=1)
    table["balanced_error"] = 100 * variance**0.5 / len(sizes)
    return table.assign(low=100 * low, high=100 * high, n=sizes.sum())


def two_readings(metrics: pd.DataFrame) -> Shown:
    """Five released students in both readings (`both_readings`), beside Table 6."""
    released = by_key(published("ablation_runs")).groupby("method").test_accuracy.max()
    known = metrics[["method", "n"]].assign(balanced=metrics.balanced)
    facts = as_facts(known, "imagenet", "method", {"_balanced": "balanced"})
    raw = metrics[["method", "raw", "low", "high", "n"]]
    facts += as_facts(raw, "imagenet", "method", {"_raw": "raw"})
    cifar = metrics[["method"]].assign(n=10, highest=metrics.method.map(released))
    facts += as_facts(cifar, "imagenet", "method", {"_cifar": "highest"})
    by_method = metrics.set_index("method")
    about = {f"kd_ig_{name}": by_method[name]["kd_ig"] for name in ("rank_raw", "rank_balanced")}
    checkpoint = by_method.checkpoint["student"]
    about["student_checkpoint"] = float(checkpoint.split("(")[1].rstrip(")"))
    table = metrics[TWO_READINGS.split()].sort_values("rank_balanced")
    return table, facts + facts_of(about, "imagenet")


def reading_intervals(metrics: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`both_readings` as two panels of a figure, balanced accuracy with its normal interval."""
    half = distributions.norm.ppf(0.975) * metrics.balanced_error
    shown = metrics.sort_values("rank_balanced")
    low, high = shown.balanced - half, shown.balanced + half
    balanced = shown[["method", "printed"]].assign(value=shown.balanced, low=low, high=high)
    raw = shown[["method", "low", "high"]].assign(value=shown.raw)
    return {"raw accuracy (%)": raw, "balanced accuracy (%)": balanced}


def tests(metrics: pd.DataFrame) -> Shown:
    """KD & IG against the others, on raw and on balanced accuracy (`both_readings`)."""
    known, n = metrics.set_index("method"), metrics.n.iloc[0]
    others = ["student", "kd", "ig", "kd_ig_at"]
    right = known.correct
    rows = [_raw_test(right["kd_ig"], right[other], n, len(others)) for other in others]
    table = pd.DataFrame(rows)
    table.insert(0, "against", others)
    table["p_holm"] = stats.holm(table.p)
    error = known.balanced_error
    se = np.hypot(error["kd_ig"], error[others]).to_numpy()
    difference = (known.balanced["kd_ig"] - known.balanced[others]).to_numpy()
    half = distributions.norm.ppf(0.975) * se
    table = table.assign(balanced_difference=difference, balanced_low=difference - half)
    table["balanced_high"] = difference + half
    table["balanced_p"] = 2 * distributions.norm.sf(np.abs(difference) / se)
    table["balanced_p_holm"] = stats.holm(table.balanced_p)
    return table, _test_facts(table, n)


def _raw_test(first: int, second: int, n: int, family: int) -> dict[str, float]:
    """Two-proportion z test and Newcombe's interval from the counts of correct pictures; `_all`:
    for a `family` of such comparisons at once.
    """
    z, p = proportions_ztest([first, second], [n, n])
    row = {"difference": 100 * (first - second) / n}
    for name, alpha in (("", 0.05), ("_all", 0.05 / family)):
        ends = confint_proportions_2indep(first, n, second, n, method="newcomb", alpha=alpha)
        row |= {f"low{name}": 100 * ends[0], f"high{name}": 100 * ends[1]}
    return row | {"z": z, "p": p}


def _test_facts(table: pd.DataFrame, n: int) -> Facts:
    raw = table.assign(n=n, p=table.p_holm, low=table.low_all, high=table.high_all)
    raw["interval"] = "95 % interval of all comparisons at once"
    facts = as_facts(raw, "imagenet_kd_ig_over", "against", {"": "difference"})
    names = {f"balanced_{name}": name for name in ("low", "high", "p")}
    balanced = table[["against", "balanced_difference", *names]].rename(columns=names)
    balanced = balanced.assign(n=n)
    return facts + as_facts(
        balanced, "imagenet_kd_ig_balanced_over", "against", {"": "balanced_difference"}
    )


def by_class(metrics: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by class of five released students, and each class's weight in both readings."""
    accuracy, sizes = _classes_of(metrics)
    table = accuracy.set_axis(metrics.method).T
    table = table.assign(
        pictures=sizes, weight_raw=sizes / sizes.sum(), weight_balanced=1 / len(sizes)
    )
    table["kd_ig_minus_student"] = table.kd_ig - table.student
    share = table.kd_ig / 100
    table["half_interval"] = 196 * np.sqrt(share * (1 - share) / table.pictures)
    return table.reset_index(names="class")
