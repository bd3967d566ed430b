"""The tables of `11_alignment`: students against their teacher, released students against their
siblings.

A network's value is the mean over images. Effects of distillation are contrasts of one linear model
over networks and seeds; differences between released students are paired by image.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.formula.api import ols

from kdig.measure.designs import coefficients
from kdig.measure.stats import accuracy_intervals, leaves_out, mean_interval
from kdig.paper import published
from kdig.study.outputs import Facts
from kdig.study.tables import evidence, words
from kdig.study.tables.shared import Shown

# weight of the labels -> what the poster calls it
REGIMES = {1.0: "no KD", 0.5: "mild KD", 0.1: "strong KD"}
NAMES = {"saliency": "saliency", "integrated_gradients": "IG", "outputs": "outputs"}
# the measures that compare maps, those by parts first
OF_MAPS = ("rank SLIC", "rank grid", "focus SLIC", "focus grid", "cosine", "overlap")
# the smallest difference that matters: of accuracy and of other percentages (points), and of
# correlations, shares and divergences
MARGINS = {"accuracy": 0.4, "overlap": 5.0, "same answer": 5.0}
UNITS = 0.05


def yardsticks(right: Mapping[str, Mapping[str, np.ndarray]]) -> Shown:
    """Accuracy of each network on each test set of others (percent), with Wilson's 95 % interval over
    images; severities of CIFAR-10-C one by one.
    """
    rows = [
        {
            "test set": name,
            "network": network,
            "accuracy": found["accuracy"],
            "n": found["pictures"],
        }
        | {"low": found["pictures_low"], "high": found["pictures_high"]}
        for name, networks in right.items()
        for network, answers in networks.items()
        for found in [accuracy_intervals(answers)]
    ]
    facts = [
        {"fact": f"yardstick_{row['test set']}_{row['network']}", "value": row["accuracy"]}
        | {key: row[key] for key in ("low", "high", "n")}
        for row in rows
    ]
    return pd.DataFrame(rows), facts


def beside_people(compared: pd.DataFrame) -> Shown:
    """How often a network's second class is people's (percent of the images on which people
    disagree), beside the floor, the difference paired by image with its 95 % interval, and the mean
    cross entropy (nats).
    """
    rows, facts = [], []
    for network, part in compared.groupby("network", sort=False):
        own, floor, nats = (part[part.kind == kind].value for kind in ("own", "floor", "nats"))
        gap = 100 * (own.to_numpy() - floor.to_numpy())
        low, high = mean_interval(gap)
        row = {"network": network, "own": 100 * own.mean(), "floor": 100 * floor.mean()}
        row |= {"difference": gap.mean(), "low": low, "high": high, "n": len(gap)}
        rows.append(row | {"nats": nats.mean()})
        facts.append({"fact": f"people_{network}", "value": gap.mean(), "low": low, "high": high})
    return pd.DataFrame(rows), facts


def people_said(table: pd.DataFrame) -> str:
    """Whether networks name people's second class more often than chance, and the most alike."""
    best = table.loc[table.difference.idxmax()]
    above = int((table.low > 0).sum())
    return (
        f"Of {len(table)} networks {above} name people's second class more often than that of another"
        f" image of the class; furthest above is {best.network}, with {best.own:.1f} against"
        f" {best.floor:.1f} % ({best.difference:+.1f} points, {best.low:+.1f} to {best.high:+.1f})."
    )


def regime(hard: float) -> str:
    """What the poster calls a weight of the labels, and any other weight as it is."""
    return REGIMES.get(hard, f"labels {hard:g}")


def by_run(rows: Sequence[dict[str, Any]], compared: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """A row a run: `network`, `regime`, `seed`, `accuracy`, and the mean over images of each
    `<attribution>: <measure>` in `compared`, a frame of `Alignment.alike` for each run.
    """
    found = []
    for row, table in zip(rows, compared, strict=True):
        named = table.assign(outcome=_outcome(table))
        found.append(row | {"regime": regime(row["hard"])} | _means(named))
    return pd.DataFrame(found)


def _outcome(table: pd.DataFrame) -> pd.Series:
    named: pd.Series = table.attribution.map(lambda name: NAMES.get(name, name))
    return named + ": " + table.measure


def _means(named: pd.DataFrame) -> dict[str, float]:
    return {str(k): float(v) for k, v in named.groupby("outcome", sort=False).value.mean().items()}


def means_of(compared: pd.DataFrame) -> dict[str, float]:
    """`<attribution>: <measure>` -> the mean over images of a frame of `Alignment.alike`."""
    return _means(compared.assign(outcome=_outcome(compared)))


def bars(frame: pd.DataFrame, outcome: str, label: str) -> pd.DataFrame:
    """A bar for each network and regime: mean over seeds, with a 95 % interval from the error that
    all share.
    """
    arm = frame.network + "|" + frame.regime
    means = evidence.arms(frame.assign(arm=arm, block=frame.seed), [outcome])
    parts = means.arm.str.split("|", expand=True).set_axis(["group", "bar"], axis=1)
    return pd.concat([parts, means.rename(columns={"mean": "value"})], axis=1).assign(label=label)


def accuracy_title(frame: pd.DataFrame) -> str:
    """The mean accuracy of each strength, over networks and seeds."""
    means = frame.groupby("regime", sort=False).accuracy.mean()
    said = ", ".join(f"{name} {value:.1f} %" for name, value in means.items())
    return f"Mean accuracy: {said}"


def range_title(frame: pd.DataFrame, ends: pd.DataFrame, measure: str, what: str) -> str:
    """How far students come on the way from floor to ceiling, for each attribution."""
    span = ends.set_index("outcome")
    said = []
    for outcome in (name for name in frame.columns if name.endswith(f": {measure} SLIC")):
        floor, ceiling = span.floor[outcome], span.ceiling[outcome]
        way = 100 * (frame[outcome].mean() - floor) / (ceiling - floor)
        place = f"{way:.0f} % of the way from floor to ceiling" if way > 0 else "below the floor"
        said.append(f"{outcome.partition(':')[0]} {place}")
    return f"{what[0].upper()}{what[1:]}: {', '.join(said)}"


def logit_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of logits with the teacher's: ours, and the poster's as printed."""
    ours = frame.pivot_table(index="hard", columns="network", values="outputs: logits", sort=False)
    theirs = published("poster_logit_alignment").pivot(
        index="hard_weight", columns="network", values="spearman"
    )
    order = ["ResNet101", "ResNet50", "ResNet34", "ResNet18"]
    table = ours.join(theirs[order].add_suffix(" (poster)")).sort_index(ascending=False)
    return table.rename_axis("weight of the labels").reset_index()


def _contrasts(frame: pd.DataFrame) -> list[evidence.Contrast]:
    """Each weaker weight of the labels against labels alone, for each outcome."""
    there = [name for name in dict.fromkeys(frame.sort_values("hard").regime) if name != "no KD"]
    outcomes = ["accuracy", *(name for name in frame.columns if ": " in name)]
    return [
        evidence.Contrast(
            f"{name} - no KD, {outcome}",
            evidence.difference([name], ["no KD"]),
            outcome=outcome,
            margin=MARGINS.get(outcome.rpartition(": ")[2], UNITS),
        )
        for outcome in outcomes
        for name in there
    ]


def effects(frame: pd.DataFrame) -> Shown:
    """What distillation does to accuracy and alignment, over all networks and seeds.

    A block is a network with its seed: outcome ~ block + regime. Facts are of the strongest.
    """
    blocked = frame.assign(arm=frame.regime, block=frame.network + frame.seed.astype(str))
    table, _ = evidence.contrasts(blocked, _contrasts(blocked))
    strongest = regime(frame.hard.min())
    rows = table[table.contrast.str.startswith(strongest)]
    facts: Facts = [
        {
            "fact": f"alignment_{_slug(row.outcome)}",
            **{name: getattr(row, name) for name in ("value", "low", "high")},
            "n": row.blocks,
        }
        for row in rows.itertuples()
    ]
    kept = ["contrast", "outcome", "value", "low", "high", "margin", "blocks"]
    return table[kept].rename(columns={"value": "difference"}), facts


def _slug(outcome: str) -> str:
    return outcome.replace(": ", "_").replace(" ", "_").lower()


def covary(frame: pd.DataFrame) -> Shown:
    """Whether explanations follow outputs: how much the rank alignment of parts rises with the
    alignment of logits, within a network and seed.

    The slope of one linear model, alignment ~ block + logits, with its 95 % interval.
    """
    rows, facts = [], []
    for outcome in (name for name in frame.columns if name.endswith("rank SLIC")):
        data = pd.DataFrame({"y": frame[outcome], "x": frame["outputs: logits"]})
        data["block"] = frame.network + frame.seed.astype(str)
        found = coefficients(ols("y ~ x + C(block)", data=data).fit()).set_index("effect").loc["x"]
        row = {"outcome": outcome, "difference": found.difference, "low": found.low}
        rows.append(row | {"high": found.high, "blocks": data.block.nunique()})
        fact = f"alignment_covary_{_slug(outcome.partition(':')[0])}"
        ends = {"value": found.difference, "low": found.low, "high": found.high}
        facts.append({"fact": fact, **ends, "n": data.block.nunique()})
    return pd.DataFrame(rows), facts


def questions(frame: pd.DataFrame, ends: pd.DataFrame) -> Shown:
    """A number beside each of the poster's three questions, which state nothing to be decided.

    `ends` has `floor` and `ceiling` of each outcome.
    """
    strongest = regime(frame.hard.min())
    order = list(dict.fromkeys(frame.network))
    ranks = [name for name in frame.columns if name.endswith("rank SLIC")]
    pair = frame.assign(apart=frame[ranks[0]] - frame[ranks[-1]])
    by_method = _shift(pair, "apart", strongest)
    small, large = (
        _shift(frame[frame.network == name], ranks[-1], strongest) for name in (order[-1], order[0])
    )
    span = ends.set_index("outcome").loc[ranks[-1]]
    measured = {
        "how KD affects explainability methods": ("methods", by_method),
        "how it varies with size": ("sizes", small.to_numpy() - large.to_numpy()),
    }
    rows, facts = [], []
    for question, (name, values) in measured.items():
        low, high = mean_interval(values)
        row = {"value": float(np.mean(values)), "low": low, "high": high}
        rows.append({"question": question} | row)
        facts.append({"fact": f"alignment_{name}", **row, "n": len(values)})
    rows.append(
        {"question": "how the change can be quantified", "value": span.ceiling - span.floor}
    )
    facts.append({"fact": "alignment_range", "value": span.ceiling - span.floor})
    return pd.DataFrame(rows), facts


def _shift(frame: pd.DataFrame, outcome: str, strongest: str) -> pd.Series:
    """The strongest distillation less labels alone, for each network and seed."""
    wide = frame.pivot(index=["network", "seed"], columns="regime", values=outcome)
    shift: pd.Series = wide[strongest] - wide["no KD"]
    return shift


def ends(floor: Iterable[dict[str, float]], ceiling: dict[str, float]) -> pd.DataFrame:
    """Floor and ceiling of each outcome: `floor` has the means of networks against other images."""
    low = pd.DataFrame(list(floor)).mean()
    table = pd.DataFrame({"floor": low, "ceiling": pd.Series(ceiling)}).reindex(low.index)
    return table.rename_axis("outcome").reset_index()


# released students


def _by_image(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each group, outcome and image: floor, ceiling, and the mean alignment with siblings
    of the students with IG and of those without.
    """
    named = frame.assign(outcome=_outcome(frame), weighted=frame.value * frame.siblings)
    keys = ["group", "outcome", "image"]
    own = named[named.kind == "own"].groupby([*keys, "name", "ig"], sort=False)
    sums = own[["weighted", "siblings"]].sum()
    each = (sums.weighted / sums.siblings).groupby([*keys, "ig"], sort=False).mean().unstack("ig")
    means = {
        name: named[named.kind == kind].groupby(keys, sort=False).value.mean()
        for name, kind in (("floor", "floor"), ("ceiling", "view"))
    }
    columns = {True: "with_ig", False: "without_ig"}
    return each.rename(columns=columns).join(pd.DataFrame(means)).reset_index()


def siblings(frame: pd.DataFrame) -> Shown:
    """Are students with IG more like their siblings than those without?

    `difference` is with IG less without, paired by image, with a 95 % interval over images, and
    `of_range` the same as a percentage of the way from floor to ceiling: above 0 is more alike, also
    where a small number is a good one.
    """
    rows, facts = [], []
    for (group, outcome), part in _by_image(frame).groupby(["group", "outcome"], sort=False):
        difference = (part.with_ig - part.without_ig).dropna()
        low, high = mean_interval(difference)
        means = {name: part[name].mean() for name in ("floor", "without_ig", "with_ig", "ceiling")}
        span = 100 / (means["ceiling"] - means["floor"])
        shares = sorted((span * low, span * high))
        row = {"difference": difference.mean(), "low": low, "high": high, "n": len(difference)}
        share = {"of_range": span * difference.mean(), "range_low": shares[0]}
        rows.append(
            {"group": group, "outcome": outcome} | means | row | share | {"range_high": shares[1]}
        )
        facts.append(
            {"fact": f"alignment_siblings_{_group(str(group))}_{_slug(str(outcome))}"}
            | {"value": row["difference"], "low": low, "high": high, "n": len(difference)}
        )
    return pd.DataFrame(rows), facts


def _group(group: str) -> str:
    return "80" if group.startswith("80") else "all"


def pair_kinds(frame: pd.DataFrame, measure: str = "rank SLIC") -> pd.DataFrame:
    """Mean alignment of pairs of released students by how many of the two have IG, with a 95 %
    interval over images, beside floor and ceiling.
    """
    kinds = {
        (True, "with IG"): "both with IG",
        (True, "without IG"): "one with IG",
        (False, "without IG"): "none with IG",
    }
    part = frame[frame.measure == measure]
    own = [part[(part.ig == ig) & (part.beside == beside)] for ig, beside in kinds]
    other = [part[part.kind == "floor"], part[part.kind == "view"]]
    rows = []
    for name, some in zip((*kinds.values(), "floor", "ceiling"), (*own, *other)):
        for (group, attribution), values in some.groupby(["group", "attribution"], sort=False):
            by_image = values.groupby("image").value.mean().dropna()
            low, high = mean_interval(by_image)
            about = {
                "pair": name,
                "group": group,
                "attribution": NAMES.get(attribution, attribution),
            }
            found = {"value": by_image.mean(), "low": low, "high": high, "n": len(by_image)}
            rows.append(about | found)
    return pd.DataFrame(rows)


def pair_panels(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`pair_kinds` as panels: one for each group."""
    return {
        f"rank correlation of parts, students of {group}": part
        for group, part in pairs.groupby("group", sort=False)
    }


def sibling_panels(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`siblings` as panels: a row a measure of maps, a dot an attribution, in percent of the range."""
    parts = table.outcome.str.split(": ", expand=True).set_axis(["attribution", "measure"], axis=1)
    drawn = pd.concat([parts, table[["group", "of_range", "range_low", "range_high"]]], axis=1)
    drawn = drawn[drawn.measure.isin(OF_MAPS)]
    drawn = drawn.rename(columns={"of_range": "value", "range_low": "low", "range_high": "high"})
    return {
        f"with IG less without, % of the range; {group}": part
        for group, part in drawn.groupby("group", sort=False)
    }


def sibling_title(table: pd.DataFrame) -> str:
    """How many comparisons of maps say that students with IG are more, or less, like their siblings."""
    maps = table[table.outcome.str.split(": ").str[1].isin(OF_MAPS)]
    clear = maps[leaves_out(maps.low, maps.high)]
    more, less = int((clear.of_range > 0).sum()), int((clear.of_range < 0).sum())
    return f"With IG more like their siblings: {more} of {len(maps)} comparisons; less: {less}"


def sibling_said(table: pd.DataFrame, outcome: str = "IG: rank SLIC") -> str:
    """The answer in a sentence for each group, and how many of the comparisons of maps agree."""
    said = []
    for group, part in table.groupby("group", sort=False):
        row = part.set_index("outcome").loc[outcome]
        told = bool(leaves_out(row.low, row.high))
        word = "more" if row.difference > 0 else "less"
        verb = f"are {word} like" if told else "cannot be told apart in how they are like"
        maps = part[part.outcome.str.split(": ").str[1].isin(OF_MAPS)]
        clear = maps[leaves_out(maps.low, maps.high)]
        said.append(
            f"Among students of {group}, those with IG {verb} their siblings by the rank correlation"
            f" of parts ({row.difference:+.3f}, {row.low:+.3f} to {row.high:+.3f}; floor"
            f" {row.floor:.2f}, ceiling {row.ceiling:.2f}). Of {len(maps)} comparisons of maps"
            f" {int((clear.of_range > 0).sum())} say more alike, {int((clear.of_range < 0).sum())} less."
        )
    return " ".join(said)


def effects_said(table: pd.DataFrame) -> str:
    """What the strongest distillation does to accuracy, alignment and focus, each with its interval."""
    strongest = table.contrast.iloc[0].partition(" - ")[0]
    said = []
    for row in table[table.contrast.str.startswith(strongest)].itertuples():
        if row.outcome == "accuracy" or row.outcome.endswith("SLIC"):
            told = "" if bool(leaves_out(row.low, row.high)) else ", which cannot be told from zero"
            said.append(
                f"{row.outcome} {row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f}){told}"
            )
    return f"{strongest} less no KD: {'; '.join(said)}."


def covary_said(table: pd.DataFrame) -> str:
    """Whether explanations follow outputs, for each attribution."""
    parts = [
        f"{row.outcome.partition(':')[0]} {row.difference:+.2f} ({row.low:+.2f} to {row.high:+.2f})"
        for row in table.itertuples()
    ]
    return (
        "When the rank correlation of logits rises by 1, that of parts changes by"
        f" {words.joined(parts)}: {int(leaves_out(table.low, table.high).sum())} of {len(table)}"
        " intervals leave out 0."
    )


def ends_said(table: pd.DataFrame, outcome: str = "IG: rank SLIC") -> str:
    """Where the scale of a measure begins and ends."""
    row = table.set_index("outcome").loc[outcome]
    return (
        f"By the rank correlation of parts (IG), maps of other images reach {row.floor:.2f}, and"
        f" the ceiling is {row.ceiling:.2f}: a value says something between these two only."
    )


def logits_said(frame: pd.DataFrame) -> str:
    """Our correlations of logits without and with the strongest distillation, beside the poster's."""
    strongest = frame.hard.min()
    plain, taught = (
        frame[frame.hard == hard]["outputs: logits"].mean() for hard in (1.0, strongest)
    )
    printed = published("poster_logit_alignment").query("network != 'ResNet101'")
    theirs = printed.groupby("hard_weight").spearman.mean()
    return (
        f"Here the correlation goes from {plain:.2f} without a teacher to {taught:.2f} at"
        f" {strongest:g}; the poster's three students go from {theirs[1.0]:.2f} to {theirs[0.1]:.2f}."
    )


def pairs_said(pairs: pd.DataFrame, attribution: str = "IG") -> str:
    """The three kinds of pairs, with floor and ceiling, for each group."""
    said = []
    for group, part in pairs[pairs.attribution == attribution].groupby("group", sort=False):
        listed = words.joined(f"{row.pair} {row.value:.2f}" for row in part.itertuples())
        said.append(f"{attribution}, students of {group}: {listed}.")
    return " ".join(said)


def trusted(measured: Mapping[str, dict[str, float]]) -> pd.DataFrame:
    """Accuracy and calibration error of each network (percent), by its name."""
    return pd.DataFrame([{"network": name} | values for name, values in measured.items()])
