"""The tables of `12_conditions`: blend and probability, pairs of networks, patience, wrong labels."""

import itertools
from typing import Any

import pandas as pd

from kdig.measure import stats
from kdig.paper import papers_settings
from kdig.study.tables import evidence, words
from kdig.study.tables.answers import EQUAL, LESS, MORE, OPEN
from kdig.study.tables.evidence import Contrast, difference


def said(table: pd.DataFrame, what: str) -> str:
    """Which questions have an answer, with its difference and interval, and how many have none."""
    parts = []
    for found in (MORE, LESS, EQUAL):
        rows = table[table.word == found].sort_values("difference", key=abs, ascending=False)
        if len(rows):
            parts.append(f"{found}: {words.joined(_number(row) for row in rows.itertuples())}")
    left = int((table.word == OPEN).sum())
    if left:
        parts.append(f"{left} of {len(table)} undecided")
    listed = "; ".join(parts)
    return f"{what}, in percentage points. {listed[:1].upper()}{listed[1:]}."


def _number(row: Any) -> str:
    return f"{row.contrast} {row.difference:+.1f} ({row.low:+.1f} to {row.high:+.1f})"


def named(arms: pd.DataFrame, **factors: object) -> list[str]:
    """The arms whose factors have these values."""
    chosen = arms
    for name, value in factors.items():
        chosen = chosen[chosen[name] == value]
    return list(chosen.arm.unique())


# (b) blend and probability


def surface_contrasts(frame: pd.DataFrame) -> list[Contrast]:
    """All overlays together, the weakest, the paper's where it was tried, and the strongest, each less
    no overlay.
    """
    none = named(frame, blend=0.0)
    overlaid = frame[frame.blend > 0]
    papers = papers_settings("12_conditions")
    cells = {
        "weakest overlay": (overlaid.blend.min(), overlaid.probability.min()),
        "the paper's overlay": (papers["blend"], papers["probability"]),
        "strongest overlay": (overlaid.blend.max(), overlaid.probability.max()),
    }
    arms = {name: named(overlaid, blend=b, probability=p) for name, (b, p) in cells.items()}
    asked = {"all overlays": list(overlaid.arm.unique())} | arms
    return [Contrast(f"{name} - none", difference(of, none)) for name, of in asked.items() if of]


def surface_tests(frame: pd.DataFrame) -> pd.DataFrame:
    """F tests of blend, probability and their interaction among the overlaid students."""
    overlaid = frame[frame.blend > 0].rename(columns={"block": "seed"})
    return stats.anova(overlaid, "accuracy", "blend", "probability")


def surface_grid(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy less that without overlay (points): rows are blends, columns probabilities."""
    base = frame[frame.blend == 0].accuracy.mean()
    overlaid = frame[frame.blend > 0].assign(gain=lambda some: some.accuracy - base)
    grid = overlaid.pivot_table(index="blend", columns="probability", values="gain")
    return grid.rename_axis(index="blend weight", columns="overlay probability")


def surface_said(tests: pd.DataFrame, grid: pd.DataFrame) -> str:
    """Whether blend or probability matter, and how far apart the settings are."""
    small = tests[tests.p < 0.05]
    matter = (
        f"{words.joined(small.effect)} {'matters' if len(small) == 1 else 'matter'}"
        if len(small)
        else "neither blend weight nor probability can be told to matter"
    )
    low, high = grid.min(axis=None), grid.max(axis=None)
    return (
        f"Among the overlays {matter} (F tests); their means lie {low:+.1f} to {high:+.1f} points"
        " from no overlay."
    )


# (c) pairs of networks


def pair_contrasts(frame: pd.DataFrame) -> list[Contrast]:
    """Each signal of each pair's teacher, less the pair's student alone."""
    cells = itertools.product(dict.fromkeys(frame.pair), ("KD", "AT", "IG"))
    return [
        Contrast(
            f"{pair}: {signal}",
            difference(
                named(frame, pair=pair, signal=signal), named(frame, pair=pair, signal="none")
            ),
        )
        for pair, signal in cells
    ]


def pair_panel(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`pair_contrasts` as a panel: a row a pair, a dot a signal."""
    parts = table.contrast.str.split(": ", expand=True)
    rows = table.assign(pair=parts[0], signal=parts[1], value=table.difference)
    return {"accuracy less that of the student alone (points)": rows}


# (e) patience


def patience_contrasts(frame: pd.DataFrame) -> list[Contrast]:
    """Main effects of targets, schedule and overlay, and whether a long schedule helps targets of the
    view more.
    """
    short, long = sorted(frame.epochs.unique())

    def of(**factors: object) -> list[str]:
        return named(frame, **factors)

    more = difference(of(targets="of the view", epochs=long), of(targets="stored", epochs=long))
    less = difference(of(targets="stored", epochs=short), of(targets="of the view", epochs=short))
    return [
        Contrast(
            "targets of the view - stored targets",
            difference(of(targets="of the view"), of(targets="stored")),
        ),
        Contrast(f"{long} epochs - {short}", difference(of(epochs=long), of(epochs=short))),
        Contrast("own map - no overlay", difference(of(overlay="map"), of(overlay="none"))),
        Contrast("what the longer schedule adds to targets of the view", more | less),
    ]


# (g) wrong labels


def noise_contrasts(frame: pd.DataFrame) -> list[Contrast]:
    """At each share of wrong labels the strongest soft targets less none, and how that gain grows."""
    strongest = frame.alpha.max()
    gains = {
        share: difference(
            named(frame, noise=share, alpha=strongest), named(frame, noise=share, alpha=0.0)
        )
        for share in sorted(frame.noise.unique())
    }
    most, least = max(gains), min(gains)
    grown = gains[most] | {arm: -weight for arm, weight in gains[least].items()}
    return [
        *(
            Contrast(f"alpha {strongest:g} - 0, {100 * share:g} % wrong", gain)
            for share, gain in gains.items()
        ),
        Contrast(f"growth of that gain from {100 * least:g} to {100 * most:g} % wrong", grown),
    ]


def noise_curves(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy over alpha, a curve for each share of wrong labels, with 95 % intervals."""
    arms = frame.drop_duplicates("arm").set_index("arm")
    means = evidence.arms(frame).join(arms[["noise", "alpha"]], on="arm")
    curves = means.rename(columns={"alpha": "x", "mean": "value"})
    return curves.assign(curve=[f"{100 * share:g} % of labels wrong" for share in curves.noise])


def best_alpha(frame: pd.DataFrame) -> pd.DataFrame:
    """The alpha of the highest mean for each share of wrong labels, and those that cannot be told
    from it: their differences' 95 % intervals hold 0.
    """
    rows = []
    for share, part in frame.groupby("noise"):
        means = part.groupby("alpha").accuracy.mean()
        best = means.idxmax()
        others = [alpha for alpha in means.index if alpha != best]
        asked = [
            Contrast(f"{alpha:g}", difference(named(part, alpha=best), named(part, alpha=alpha)))
            for alpha in others
        ]
        table, _ = evidence.contrasts(frame, asked)
        near = [row.contrast for row in table.itertuples() if row.low <= 0]
        row = {"noise": share, "best_alpha": best, "accuracy": means.max()}
        rows.append(row | {"not_told_from_it": ", ".join(near) or "none"})
    return pd.DataFrame(rows)


def best_said(table: pd.DataFrame) -> str:
    """Which alpha is highest at each share of wrong labels, and which cannot be told from it."""
    listed = words.joined(
        f"{row.best_alpha:g} at {100 * row.noise:g} % wrong (not told from it: {row.not_told_from_it})"
        for row in table.itertuples()
    )
    return f"The highest mean has alpha {listed}."
