"""The tables of `12_beyond`: attributions by cost, agreement and use; maps on the fly; fewer steps."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from kdig.measure.stats import leaves_out, mean_interval
from kdig.study.tables import evidence, words
from kdig.study.tables.answers import TWICE
from kdig.study.tables.shared import Shown

# gradients an image that an attribution needs; the others need as many as it has steps
GRADIENTS = {"saliency": 1, "input_x_gradient": 1, "grad_cam": 1, "deep_lift": 2, "random_map": 0}
BASE = "Gauss-Legendre"
IG = "integrated_gradients"
# arms whose overlay says nothing about the image -> how they are called in a sentence
CONTROLS = {"random_map": "random_map", "other image": "another image's IG map", "grey": "grey"}


def methods(
    names: Iterable[str],
    steps: int,
    cost: Callable[[str], float],
    agreement: Callable[[str, str], np.ndarray],
) -> pd.DataFrame:
    """Cost of each attribution, and its rank correlation with IG's maps (`agreement` of a name and
    `own` or `floor`): mean over images with a 95 % interval, and the floor.
    """
    rows = []
    for name in names:
        own, floor = (agreement(name, kind) for kind in ("own", "floor"))
        known = own[np.isfinite(own)]
        low, high = mean_interval(known)
        row = {"attribution": name, "gradients": GRADIENTS.get(name, steps)}
        row |= {"milliseconds": cost(name), "rank_with_ig": known.mean(), "low": low}
        rows.append(row | {"high": high, "floor": np.nanmean(floor), "n": len(known)})
    return pd.DataFrame(rows)


def method_panel(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`methods` as a panel: the same image's maps, and another image's."""
    there = others(table)
    own = there.rename(columns={"rank_with_ig": "value"}).assign(maps="of the same image")
    floor = there.assign(value=there.floor, low=there.floor, high=there.floor)
    both = pd.concat([own, floor.assign(maps="of another image (floor)")])
    return {"rank correlation with IG's map": both.drop(columns="n")}


def others(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `methods` that are compared with IG."""
    return table[table.attribution != IG]


def methods_said(table: pd.DataFrame) -> str:
    """Which attribution is nearest to IG, and which cannot be told from another image's map."""
    rows = others(table)
    best = rows.loc[rows.rank_with_ig.idxmax()]
    far = rows[rows.low <= rows.floor]
    named = words.joined(far.attribution) if len(far) else "none of them"
    return (
        f"Nearest to IG is {best.attribution} ({best.rank_with_ig:.2f}, {best.low:.2f} to"
        f" {best.high:.2f}; floor {best.floor:.2f}) with {best.gradients} gradients an image. Not"
        f" told from another image's map: {named}."
    )


def overlay_contrasts(names: Sequence[str]) -> list[evidence.Contrast]:
    """What each overlay changes, whether an IG map has to be its own image's, and how the maps of the
    image, all together and one by one, stand to the controls and to IG.
    """
    maps = [name for name in names if name not in CONTROLS]
    controls = {arm: said for arm, said in CONTROLS.items() if arm in names or arm != "random_map"}
    asked = [(said, [arm], "none") for arm, said in ({n: n for n in maps} | controls).items()]
    asked += [("IG", [IG], arm) for arm in (*controls, *maps) if arm != IG]
    asked += [("maps of the image", maps, arm) for arm in ("none", "other image", "grey")]
    called = {"none": "no overlay", **CONTROLS}
    return [
        evidence.Contrast(f"{said} - {called.get(arm, arm)}", evidence.difference(arms, [arm]))
        for said, arms, arm in asked
    ]


def overlay_panel(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What each overlay changes, as a panel."""
    each = ~table.contrast.str.startswith("maps of the image")
    rows = table[table.contrast.str.endswith("- no overlay") & each]
    rows = rows.assign(arm=rows.contrast.str.removesuffix(" - no overlay"), value=rows.difference)
    rows["overlay"] = rows.arm.isin(CONTROLS.values()).map(
        {True: "control", False: "map of the image"}
    )
    return {"accuracy less that without overlay (points)": rows}


def fly(levels: Mapping[str, np.ndarray]) -> Shown:
    """Error of the overlay on a view, in levels of 255: mean over images, and each way less the
    precomputed map, paired by image, with 95 % intervals.
    """
    first, *_ = levels
    rows, facts = [], []
    for name, values in levels.items():
        low, high = mean_interval(values)
        row: dict[str, object] = {"maps": name, "levels": values.mean(), "low": low, "high": high}
        if name != first:
            ends = mean_interval(values - levels[first])
            gap = {"value": float((values - levels[first]).mean()), "low": ends[0], "high": ends[1]}
            row |= {"less_precomputed": gap["value"], "gap_low": ends[0], "gap_high": ends[1]}
            facts.append({"fact": f"beyond_fly_{name.rpartition(' ')[2]}", **gap, "n": len(values)})
        rows.append(row)
    return pd.DataFrame(rows), facts


def fly_said(table: pd.DataFrame) -> str:
    """From how few steps on maps on the fly are nearer to the view's own map than a precomputed one."""
    first, rest = table.iloc[0], table.iloc[1:]
    better = rest[rest.gap_high < 0]
    row = better.iloc[0] if len(better) else rest.loc[rest.levels.idxmin()]
    verb = "is nearer" if len(better) else "cannot be told to be nearer"
    steps = row.maps.rpartition(" ")[2]
    gap = f"{row.less_precomputed:+.1f}, {row.gap_low:+.1f} to {row.gap_high:+.1f}"
    return (
        f"A precomputed map, moved with the view, errs by {first.levels:.1f} levels of 255; a map"
        f" on the fly by {steps} steps {verb} to the view's own ({gap})."
    )


def steps_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean distance of overlays and share of equal pixels, by scheme and number of gradients, with
    95 % intervals over images.
    """
    rows = []
    for (scheme, gradients), part in frame.groupby(["scheme", "gradients"], sort=False):
        row = {"scheme": scheme, "gradients": gradients}
        for what in ("levels", "equal"):
            low, high = mean_interval(part[what])
            row |= {what: part[what].mean(), f"{what}_low": low, f"{what}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def steps_curves(table: pd.DataFrame) -> pd.DataFrame:
    """`steps_table` as curves of the error over gradients."""
    names = {"scheme": "curve", "gradients": "x", "levels": "value"}
    return table.rename(columns=names | {"levels_low": "low", "levels_high": "high"})


def _lines(frame: pd.DataFrame, scheme: str, rows: np.ndarray) -> np.ndarray:
    """Slope and height, (2, draws), of log error over log gradients, of the mean over drawn images."""
    part = frame[frame.scheme == scheme].pivot(index="gradients", columns="image", values="levels")
    means = part.to_numpy()[:, rows].mean(-1)
    found: np.ndarray = np.polyfit(np.log(part.index.to_numpy(float)), np.log(means), 1)
    return found


def equal_maps(frame: pd.DataFrame, at: int, draws: int = 2000) -> Shown:
    """How many times fewer gradients each scheme needs for overlays as good as those of
    Gauss-Legendre with `at`, with a 95 % bootstrap interval over images.

    From a line of log error over log gradients for each scheme. `word` is *twice fewer* where the
    interval lies above 2, *less than twice* where it lies below, else *undecided*.
    """
    images = frame.image.nunique()
    drawn = np.random.default_rng(0).integers(images, size=(draws, images))
    rows = np.concatenate([np.arange(images)[None], drawn])
    slope, height = _lines(frame, BASE, rows)
    wanted = slope * np.log(at) + height
    found, facts = [], []
    for scheme in (name for name in dict.fromkeys(frame.scheme) if name != BASE):
        slope, height = _lines(frame, scheme, rows)
        ratio = at / np.exp((wanted - height) / slope)
        low, high = np.quantile(ratio[1:], [0.025, 0.975])
        said = "twice fewer" if low > TWICE else "less than twice" if high < TWICE else "undecided"
        row = {"scheme": scheme, "times_fewer": ratio[0], "low": low, "high": high, "word": said}
        found.append(row)
        facts.append(
            {"fact": f"beyond_steps_{scheme}", "value": ratio[0], "low": low, "high": high}
            | {"n": images, "interval": "95 % bootstrap interval over images"}
        )
    return pd.DataFrame(found), facts


def equal_said(table: pd.DataFrame, at: int) -> str:
    """Whether any scheme needs half of the gradients, and what each needs."""
    listed = words.joined(
        f"{row.scheme} {row.times_fewer:.2f} ({row.low:.2f} to {row.high:.2f})"
        for row in table.itertuples()
    )
    good = table[table.word == "twice fewer"]
    start = (
        f"Twice fewer gradients are enough with {words.joined(good.scheme)}."
        if len(good)
        else "No scheme is shown to get by with half of the gradients."
        if (table.word == "undecided").any()
        else "No scheme gets by with half of the gradients."
    )
    return (
        f"{start} For overlays as good as those of Gauss-Legendre with {at} gradients, times fewer:"
        f" {listed}."
    )


def overlay_said(table: pd.DataFrame) -> str:
    """What an overlay of IG changes, and whether it has to be the image's own."""
    rows = table.set_index("contrast").loc[
        [f"{IG} - no overlay", "IG - another image's IG map", "IG - grey"]
    ]
    none, other, grey = (
        f"{row.difference:+.1f} ({row.low:+.1f} to {row.high:+.1f})" for row in rows.itertuples()
    )
    told = int(leaves_out(rows.low, rows.high).sum())
    return (
        f"Accuracy with overlays of IG, in percentage points: {none} beside no overlay, {other} beside"
        f" another image's map, {grey} beside plain grey; {told} of 3 intervals leave out 0."
    )
