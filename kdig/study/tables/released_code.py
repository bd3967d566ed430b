"""The tables of `09_released_code`: what the released code does otherwise than the text says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy.stats import ttest_1samp

from kdig.measure import designs, stats
from kdig.paper import published, recompute
from kdig.study.outputs import Facts, as_facts
from kdig.study.tables.shared import Shown, from_paper

GAPS = ["accuracy", "gap", "gap_sd", "spread"]
TESTED = ["n", "difference", "low", "high", "p"]
PAIRED = ["n", "difference", "low", "high", "p_paired", "low_all", "high_all", "p_paired_holm"]


def turned(row: pd.Series, name: str, p: str) -> dict[str, object]:
    """The fact `name`: what the reference has over an arm, from the arm's difference to it.

    `p` is the column of the p value.
    """
    fact = {"fact": name, "value": -row.difference, "low": -row.high, "high": -row.low}
    return fact | {"n": row.n, "p": row[p]}


def predictions(weights: Iterable[tuple[str, float, float]], classes: int) -> pd.DataFrame:
    """For names with alpha and temperature: the gap that unrelated soft targets pull logits to, and
    the label smoothing with the same gap.
    """
    rows = []
    for name, alpha, temperature in weights:
        gap = recompute.stationary_gap(alpha, temperature, 1 / classes, classes)
        row = {"weights": name, "alpha": alpha, "temperature": temperature, "gap": gap}
        rows.append(row | {"smoothing": recompute.matching_smoothing(gap, classes)})
    return pd.DataFrame(rows)


def predicted_gaps(arms: Iterable[str], unrelated: float, own: float) -> dict[str, float]:
    """Arm -> the gap at which Eq. 1 is stationary: for unrelated targets and label smoothing, and
    for a picture's own target.
    """
    gaps = dict.fromkeys(("label smoothing", "KD, released", "KD, reshuffled"), unrelated)
    gaps |= dict.fromkeys(("KD, static", "KD, same_view"), own)
    return {arm: gap for arm, gap in gaps.items() if arm in set(arms)}


def gaps(found: pd.DataFrame, predicted: Mapping[str, float]) -> pd.DataFrame:
    """Gap and spread of the logits by arm, mean and standard deviation over seeds.

    `found`: `pictures`, `arm`, `seed`, `accuracy`, `gap`, `gap_sd`, `spread`.
    """
    table = found.groupby(["pictures", "arm"], sort=False)[GAPS].agg(["mean", "std"])
    table.columns = [f"{a}_{'sd' if b == 'std' else b}" for a, b in table.columns]
    table["predicted_gap"] = [predicted.get(arm) for _, arm in table.index]
    return table.reset_index()


def gap_tests(found: pd.DataFrame) -> pd.DataFrame:
    """Gap and spread of each arm against the plain student, paired by seed."""
    parts = [
        stats.compare(part, "Student", by="arm", value=value).assign(pictures=name, value=value)
        for name, part in found.groupby("pictures", sort=False)
        for value in ("gap", "spread")
    ]
    return pd.concat(parts)[["pictures", "value", "arm", *PAIRED]]


@dataclass(frozen=True)
class StoredLoss:
    """A stored training loss of a student with soft targets, and what it was trained with."""

    name: str
    alpha: float
    temperature: float
    loss: float
    accuracy: float  # on its training images (percent)


def stored_losses() -> list[StoredLoss]:
    """The last training losses that the released notebooks store: KD at 4.12x of the 2024 list
    (alpha 0.1, T 3), and KD & IG & AT (alpha 0.01, T 2.5).
    """
    kd = _stored_end("KD")
    last = published("attention_run_history_2024").iloc[-1]
    return [
        StoredLoss("KD, 2024", 0.1, 3.0, kd.final_train_loss, kd.final_train_accuracy),
        StoredLoss("KD & IG & AT, 2024", 0.01, 2.5, last.train_loss, last.train_accuracy),
    ]


def _stored_end(method: str) -> pd.Series:
    """The last epoch of a method's stored history at 4.12x."""
    ends = published("epoch_histories_2024_final")
    return ends[(ends.method == method) & (ends.compression_factor == 4.12)].iloc[0]


def losses_explained() -> Shown:
    """What own and other images' targets say of the stored losses.

    Three readings of the cross-entropy in them: where Eq. 1 is stationary, as the plain student's
    loss, and twice that. `divergence` is what is then left for the soft targets; `own_most` is the
    greatest that own targets leave with any teacher; `teacher_gap` the gap of a teacher whose
    targets, of other images, leave it.
    """
    plain = float(_stored_end("Student").final_train_loss)
    rows = [
        {"run": run.name, "alpha": run.alpha, "T": run.temperature, "loss": run.loss}
        | _left_for_targets(run, name, cross_entropy)
        for run in stored_losses()
        for name, cross_entropy in _cross_entropies(run, plain).items()
    ]
    return pd.DataFrame(rows), _loss_facts(pd.DataFrame(rows))


def _cross_entropies(run: StoredLoss, plain: float) -> dict[str, float]:
    other = recompute.distilled_loss(run.alpha, run.temperature, 0.0, own=False)
    return {
        "stationary": other.cross_entropy,
        "plain student's": plain,
        "twice the plain student's": 2 * plain,
    }


def _left_for_targets(run: StoredLoss, name: str, cross_entropy: float) -> dict[str, object]:
    weights = run.alpha, run.temperature
    left = recompute.divergence_of(run.loss, *weights, cross_entropy)
    most = recompute.distilled_loss(*weights, 0.0, own=True)
    row = {"cross_entropy_as": name, "cross_entropy": cross_entropy, "divergence": left}
    row |= {"own_most": most.divergence, "own_most_loss": most.loss}
    return row | {"teacher_gap": recompute.teacher_gap_of(left, *weights)}


def _loss_facts(table: pd.DataFrame) -> Facts:
    """The stored losses over the most that own targets leave, and the teacher's gap."""
    facts: Facts = []
    for key, (_, part) in zip(("kd", "kd_ig_at"), table.groupby("run", sort=False)):
        over, gap = part.loss / part.own_most_loss, part.teacher_gap
        ends = {"low": gap.min(), "high": gap.max(), "interval": "three cross-entropies"}
        facts += [
            {"fact": f"loss-{key}-over-own", "value": over.iloc[0], "n": 1},
            {"fact": f"loss-{key}-teacher-gap", "value": gap.median(), "n": 1, **ends},
        ]
    return from_paper(facts)


def loss_curves(greatest: float = 12.0) -> pd.DataFrame:
    """Eq. 1 for own and other targets over the teacher's gap, as a multiple of the stored loss."""
    rows = []
    for run, gap, own in product(stored_losses(), np.linspace(0, greatest, 61), (True, False)):
        predicted = recompute.distilled_loss(run.alpha, run.temperature, gap, own).loss
        curve = f"{'own' if own else 'other'} targets, alpha {run.alpha:g}"
        rows.append({"curve": curve, "x": gap, "value": predicted / run.loss})
    level = pd.DataFrame({"curve": "as stored", "x": [0.0, greatest], "value": 1.0})
    table = pd.concat([pd.DataFrame(rows), level], ignore_index=True)
    return table.assign(low=table.value, high=table.value)


def gaps_of_teachers(gaps: Sequence[float] = (5, 6, 7, 8)) -> pd.DataFrame:
    """The student's gap that own and other targets predict, for several gaps of the teacher.

    At Table 3's weights the two are close to each other, at alpha 0.1 they are not.
    """
    rows = []
    for (alpha, temperature), gap in product(((0.01, 2.5), (0.1, 3.0)), gaps):
        own, other = (
            recompute.distilled_loss(alpha, temperature, gap, own=which).gap
            for which in (True, False)
        )
        row = {"alpha": alpha, "T": temperature, "teacher_gap": gap}
        rows.append(row | {"own": own, "other": other, "own_minus_other": own - other})
    return pd.DataFrame(rows)


def convergence() -> Shown:
    """How far training still moves at epoch 100, in the 32 stored histories (one run for each
    method and level).

    `accuracy` is the training accuracy of epochs 91 to 100 minus that of the ten before (points),
    `loss` the same of the training loss; `share` how much of the whole rise in accuracy, from the
    first ten epochs on, that is (percent). No test accuracy by epoch is stored.
    """
    decades = published("epoch_histories_2024").assign(ten=lambda t: (t.epoch - 1) // 10)
    by_run = decades.groupby(["method", "compression_factor", "ten"], sort=False)
    wide = by_run[["train_accuracy", "train_loss"]].mean().unstack("ten")
    late = wide.xs(9, axis=1, level="ten") - wide.xs(8, axis=1, level="ten")
    rise = wide.train_accuracy[9] - wide.train_accuracy[0]
    moved = {"accuracy": late.train_accuracy, "loss": late.train_loss}
    moved["share"] = 100 * late.train_accuracy / rise
    rows = []
    for name, values in moved.items():
        test = ttest_1samp(values, 0.0)
        low, high = test.confidence_interval()
        row = {"what": name, "n": len(values), "mean": values.mean(), "low": low, "high": high}
        rows.append(row | {"least": values.min(), "most": values.max(), "p": test.pvalue})
    facts = as_facts(pd.DataFrame(rows), "convergence", "what", {"": "mean"})
    named = [fact | {"fact": str(fact["fact"]).replace("_", "-")} for fact in facts]
    return pd.DataFrame(rows), from_paper(named)


def pairings(frame: pd.DataFrame) -> Shown:
    """Accuracy by `method` and `pairing`, and the difference to `static` by Dunnett's test: for all
    pairings of a method at once.

    The facts are what a picture's own signal has over another's, drawn anew or fixed.
    """
    parts = []
    for method, group in frame.groupby("method", sort=False):
        table = stats.summarise(group, "pairing")[["pairing", "n", "mean", "sd"]]
        against = designs.many_to_one(group, "static", by="pairing").drop(columns="n")
        parts.append(table.merge(against, on="pairing", how="left").assign(method=method))
    table = pd.concat(parts, ignore_index=True)
    facts = [
        turned(row, f"released_own_over_{other}_{row.method}", "p")
        for pairing, other in {"reshuffled": "other", "released": "released"}.items()
        for _, row in table[table.pairing == pairing].iterrows()
    ]
    return table, facts


OWN = ("static", "same_view")


def own_signals(frame: pd.DataFrame) -> Shown:
    """What own signals have over those of other pictures, in one linear model of all runs
    (`method`, `pairing`, `seed`): the main effect over methods, and each method's.

    `static` and `same_view` are own signals, `released` and `reshuffled` others'. The error is
    pooled over all arms; seeds are blocks.
    """
    arms = pd.DataFrame({"value": frame.accuracy, "method": frame.method, "seed": frame.seed})
    arms["own"] = frame.pairing.isin(OWN) - 0.5
    several = len(arms.method.unique()) > 1
    crossed = " * C(method, Sum)" if several else ""
    whole = designs.coefficients(smf.ols(f"value ~ own{crossed} + C(seed)", data=arms).fit())
    effects = whole[whole.effect == "own"].assign(effect="all methods")
    if several:
        each = smf.ols("value ~ C(method) + C(method):own + C(seed)", data=arms).fit()
        own = designs.coefficients(each)
        own["effect"] = own.effect.str.extract(r"^C\(method\)\[(.*)\]:own$", expand=False)
        effects = pd.concat([effects, own.dropna(subset=["effect"])], ignore_index=True)
    named = effects.assign(name=effects.effect.replace("all methods", "over_other"))
    return effects, as_facts(named.head(1), "pairing_own", "name", {"": "difference"})


def smoothing(scored: pd.DataFrame, arms: Sequence[str]) -> Shown:
    """Test accuracy of `arms` (`arm`, `seed`, `accuracy`) against label smoothing (Dunnett)."""
    table = designs.many_to_one(scored[scored.arm.isin(arms)], "label smoothing", by="arm")
    own = table[table.arm == "KD, static"].assign(arm="kd")
    facts = as_facts(own, "released", "arm", {"_over_smoothing": "difference"})
    return table[["arm", *TESTED]], facts


def overlays(frame: pd.DataFrame) -> Shown:
    """Accuracy by `overlay`, with differences to none and to the picture's own map, each by
    Dunnett's test.

    The facts are what the own map has over each control.
    """
    table = stats.summarise(frame, "overlay")[["overlay", "n", "mean", "sd"]]
    to_none = designs.many_to_one(frame, "none", by="overlay").drop(columns="n")
    to_map = designs.many_to_one(frame[frame.overlay != "none"], "map", by="overlay")
    table = table.merge(to_none, on="overlay", how="left")
    table = table.merge(
        to_map.drop(columns="n"), on="overlay", how="left", suffixes=("", "_to_map")
    )
    facts = [turned(row, f"released_map_over_{row.overlay}", "p") for _, row in to_map.iterrows()]
    return table, facts


def recipe_frame(groups: Mapping[str, pd.DataFrame], student: str) -> pd.DataFrame:
    """Runs of several recipes (recipe -> frame with `network`), each with its `arm`: the method of the
    `student`, or the name of another network."""
    parts = []
    for recipe, frame in groups.items():
        name = np.where(frame.network == student, frame.method, frame.network)
        parts.append(frame.assign(recipe=recipe, arm=recipe + ": " + name))
    return pd.concat(parts, ignore_index=True)


def recipes(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and parameters of each arm of `recipe_frame`."""
    table = stats.summarise(frame, "arm")[["arm", "n", "mean", "sd", "low", "high"]]
    parameters = frame.groupby("arm", sort=False).parameters.first()
    table.insert(1, "parameters", parameters.to_numpy())
    return table


def recipe_gains(frame: pd.DataFrame) -> Shown:
    """Each method against the student of the same recipe (`recipe_frame`)."""
    parts = [
        designs.many_to_one(frame[frame.recipe == recipe], "student").assign(arm=recipe)
        for recipe in ("profile's", "strong")
    ]
    table = pd.concat(parts, ignore_index=True)[["arm", "method", *TESTED]]
    strong = table[table.arm == "strong"]
    return table, as_facts(strong, "released_strong", "method", {"_gain": "difference"})


def rivals(frame: pd.DataFrame) -> Shown:
    """Networks of at least the student's size against it, all with the strong recipe.

    The facts are what the student has over each.
    """
    part = frame[(frame.arm == "strong: student") | (frame.recipe == "strong, rival")]
    table = designs.many_to_one(part, "strong: student", by="arm")
    facts: Facts = [
        turned(row, f"released_student_over_{row.arm.partition(': ')[2]}", "p")
        for _, row in table.iterrows()
    ]
    return table[["arm", *TESTED]], facts
