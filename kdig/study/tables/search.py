"""The tables of `03_hyperparameters`: Tables 3, S10, S11 and S12, Figure S2."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats as distributions

from kdig.core.methods import KEYS, LABELS
from kdig.measure import designs, stats
from kdig.paper import published, recompute, verdicts
from kdig.study.outputs import Facts, as_facts
from kdig.study.tables.shared import Shown, facts_of

VALUE = "validation_accuracy"
# to how many digits accuracies are shown; settings are keys, and shown as they are
DIGITS = dict.fromkeys(("paper", "mean", "sd", "low", "high"), 3)
DRAWS = 100_000  # simulated searches


@dataclass(frozen=True)
class Grid:
    """One of the three searches, which follow each other."""

    title: str
    method: str
    names: tuple[str, ...]  # the settings that it searches, as parameters of a run
    lists: tuple[str, ...]  # the parameters of the notebook that hold its values
    printed: str  # the published table
    symbols: tuple[str, ...]  # the settings as Table 3 calls them


# `grid_<key>` begins the names of its facts
GRIDS = {
    "kd": Grid(
        "S10: alpha, T",
        "kd",
        ("alpha", "temperature"),
        ("alphas", "temperatures"),
        "s10_kd_search",
        ("alpha", "T"),
    ),
    "p": Grid("S11: p", "kd_ig", ("probability",), ("probabilities",), "s11_ig_search", ("p",)),
    "gamma": Grid("S12: gamma", "kd_ig_at", ("gamma",), ("gammas",), "s12_at_search", ("gamma",)),
}


def papers_values() -> pd.Series:
    """The values that the paper chose, by Table 3's symbol."""
    space = published("table3_search_space")
    return space[space.selected == 1].set_index("hyperparameter").value


# our search


def space(here: Mapping[str, Sequence[float]]) -> Shown:
    """Table 3: how many values of each setting were searched and printed, and which was chosen.

    `here` holds the values of this profile by Table 3's symbol.
    """
    values = published("table3_search_space").groupby(["component", "hyperparameter"], sort=False)
    table = values.agg(
        searched=("value", "size"),
        printed=("result_reported_in_supplement", "sum"),
        lowest=("value", "min"),
        highest=("value", "max"),
    ).reset_index()
    table["chosen"] = table.hyperparameter.map(papers_values())
    table["here"] = table.hyperparameter.map(here).map(len)
    counts = {"cells": cells_of(table.searched), "cells_shown": cells_of(table.printed)}
    largest = table.highest[table.hyperparameter == "T"].iloc[0]
    return table, facts_of(counts | {"largest_T": largest}, "grid")


def cells_of(counts: pd.Series) -> int:
    """Cells of the three searches, from the number of values of each setting: the first two make a
    grid, the others a row each.
    """
    return int(counts[0] * counts[1] + counts[2:].sum())


def cells(found: pd.DataFrame, key: str) -> pd.DataFrame:
    """Mean, interval and settings of each cell of a search, from its runs."""
    names = ["cell", *GRIDS[key].names]
    return stats.summarise(found, "cell", VALUE).merge(found[names].drop_duplicates())


def beside(summary: pd.DataFrame, key: str, why_not_decided: str) -> Shown:
    """Table S10, S11 or S12 from our search (`cells`) beside the printed one."""
    names, prefix = list(GRIDS[key].names), f"grid_{key}"
    facts = as_facts(summary, prefix, "cell", {"": "mean"})
    facts = [fact | {"why_not_decided": why_not_decided} for fact in facts]
    decided = verdicts(facts, why_not_decided)
    printed = published(GRIDS[key].printed).set_axis([*names, "paper"], axis=1)
    table = summary.merge(printed, on=names, how="left")
    table["verdict"] = [decided.get(f"{prefix}_{cell}", "") for cell in table.cell]
    return table[[*names, "paper", "n", "mean", "sd", "low", "high", "verdict"]], facts


def with_pooled_intervals(found: pd.DataFrame, summary: pd.DataFrame, name: str) -> pd.DataFrame:
    """Each cell's mean over the setting `name`, with a 95 % interval from the standard deviation
    within cells, pooled over the cells.
    """
    sd, free = stats.pooled_sd(found, "cell", VALUE), len(found) - len(summary)
    half = distributions.t.ppf(0.975, free) * sd / summary.n**0.5
    mean = summary["mean"]
    return summary.assign(x=summary[name], low=mean - half, high=mean + half)


def effects(searches: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Analysis of variance of each search (`GRIDS` key -> its runs); Holm over all tests."""
    parts = [
        stats.anova(found, VALUE, *GRIDS[key].names).assign(search=GRIDS[key].title)
        for key, found in searches.items()
    ]
    table = pd.concat(parts)
    table["p_holm"] = stats.holm(table.p)
    return table[["search", "effect", "df", "F", "p", "p_holm", "share"]]


class Winners(NamedTuple):
    """How far the highest cell of each search stands above the mean of its cells."""

    table: pd.DataFrame
    equal: dict[str, dict[str, np.ndarray]]  # in simulated searches among equal cells
    observed: dict[str, float]


def winners(searches: Mapping[str, pd.DataFrame]) -> Winners:
    """The winner of each search (`GRIDS` key -> its runs) against searches among equal cells."""
    rows, equal, observed = [], {}, {}
    for key, found in searches.items():
        title = GRIDS[key].title
        row, simulated = _winner(found, key)
        rows.append({"search": title, **row})
        equal[title], observed[title] = {"equal settings": simulated}, row["above_mean"]
    return Winners(pd.DataFrame(rows), equal, observed)


def _winner(found: pd.DataFrame, key: str) -> tuple[dict[str, float], np.ndarray]:
    means = found.groupby("cell", sort=False)[VALUE].mean()
    k, n = len(means), found.seed.nunique()
    residual = stats.anova(found, VALUE, "cell").iloc[-1]
    se = (residual.squares / residual.df / n) ** 0.5
    above = stats.spread(means.to_numpy()).max_minus_mean[0]
    equal = stats.spread(stats.equal_cells(k, se, draws=DRAWS)).max_minus_mean
    chosen = stats.best_cell(found, GRIDS[key].names).values()
    row = {"cells": k, "n": n, "sd_residual": se * n**0.5, "sd_between": means.std()}
    row |= {"chosen": ", ".join(f"{value:g}" for value in chosen), "above_mean": above}
    row |= {"expected": expected_highest(k, se), "p": stats.upper_p(equal, above)}
    return row | {"p_exchanged": stats.exchanged_p(found, VALUE)}, equal.to_numpy()


def expected_highest(cells: int, se: float) -> float:
    """How far the highest of equal cells stands above their true mean, if they are normal."""

    def density_times_z(z: float) -> float:
        return float(z * cells * distributions.norm.cdf(z) ** (cells - 1))

    return float(se * distributions.norm.expect(density_times_z))


def tested(final: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of the chosen setting by method, and the difference to the student by Dunnett's
    test.
    """
    table = stats.summarise(final, "method", "test_accuracy").drop(columns=["min", "max"])
    gain = designs.many_to_one(final, "student", value="test_accuracy")
    gain = gain.rename(columns={"low": "gain_low", "high": "gain_high"})
    columns = ["method", "difference", "gain_low", "gain_high", "p"]
    return table.merge(gain[columns], how="left")


def optimism(
    searches: Mapping[str, pd.DataFrame], test: pd.DataFrame, validation_images: int
) -> pd.DataFrame:
    """What the best cell's validation score claims, and what the chosen setting reaches (`tested`)."""
    by_method, rows = test.set_index("method"), []
    for key, found in searches.items():
        means, line = found.groupby("cell")[VALUE].mean(), by_method.loc[GRIDS[key].method]
        score, left_out = means.max(), stats.left_out_score(found, VALUE)
        row = {"method": LABELS[GRIDS[key].method], "n": found.seed.nunique()}
        row |= {"validation_of_winner": score, "mean_of_cells": means.mean()}
        row |= {"left_out": left_out, "luck": score - left_out, "test": line["mean"]}
        row |= {"test_low": line.low, "test_high": line.high, "optimism": score - line["mean"]}
        rows.append(row | {"picture_se": (score * (100 - score) / validation_images) ** 0.5})
    return pd.DataFrame(rows)


def why_choices_open(
    why_not_decided: str, holds_papers: Callable[..., bool], chosen: Mapping[str, float]
) -> dict[str, str]:
    """`GRIDS` key -> why the paper's cell is not compared with all others; "" when it is.

    The grid must hold all of the paper's values (`holds_papers` is asked with the names of its
    lists), and the searches before it must have chosen the paper's values.
    """
    reasons, as_paper = {}, True
    for key, grid in GRIDS.items():
        lacking = f"the grid lacks values of the paper's ({', '.join(grid.lists)})"
        path = "" if as_paper else "the search chose other values than the paper's before"
        reasons[key] = why_not_decided or (path if holds_papers(*grid.lists) else lacking)
        wanted = papers_values()[list(grid.symbols)]
        as_paper = as_paper and all(chosen[n] == v for n, v in zip(grid.names, wanted))
    return reasons


def papers_choice(searches: Mapping[str, pd.DataFrame], why: Mapping[str, str]) -> Shown:
    """The paper's cell of each search against the mean of the other cells.

    `why` says for each search why this decides nothing (`why_choices_open`).
    """
    rows, facts = [], []
    for key, found in searches.items():
        cell = "_".join(f"{value:g}" for value in papers_values()[list(GRIDS[key].symbols)])
        if cell in set(found.cell):
            name = f"grid_{key}_best_over_rest"
            fact = {"fact": name, **stats.over_rest(found, cell, VALUE)}
            facts.append(fact | {"why_not_decided": why[key]})
            rows.append(fact | {"verdict": verdicts([fact], why[key])[name]})
    columns = ["fact", "value", "low", "high", "n", "verdict"]
    return pd.DataFrame(rows, columns=columns), facts


# the printed search


def printed_s10() -> pd.DataFrame:
    """Table S10: `alpha`, `T`, `accuracy`."""
    return published("s10_kd_search")


def printed_curve(key: str) -> pd.DataFrame:
    """Table S11 or S12: `x`, `accuracy`."""
    return published(GRIDS[key].printed).set_axis(["x", "accuracy"], axis=1)


def surface(s10: pd.DataFrame) -> tuple[pd.DataFrame, Facts]:
    """Table S10 with a row for each alpha and a column for each T, and what section 4.1 says of
    it.
    """
    grid = s10.pivot(index="alpha", columns="T", values="accuracy")
    best, low = s10.loc[s10.accuracy.idxmax()], grid.loc[0.01:0.05].to_numpy()
    about = {"s10_best_alpha": best.alpha, "s10_best_T": best["T"], "s10_max": best.accuracy}
    about |= {"low_alpha_worst": low.min(), "low_alpha_mean": low.mean()}
    return grid, facts_of(about, "grid")


def curve_facts(p: pd.DataFrame, gamma: pd.DataFrame) -> Facts:
    """What section 4.1 says of Tables S11 and S12."""
    second, first = np.sort(gamma.accuracy)[-2:]
    about = {
        "s11_best_p": p.x[p.accuracy.idxmax()],
        "s11_max": p.accuracy.max(),
        "s12_best_gamma": gamma.x[gamma.accuracy.idxmax()],
        "s12_max": gamma.accuracy.max(),
        "largest_p_printed": p.x.max(),
        "gamma_second": first - second,
    }
    return facts_of(about, "grid")


def equal_band(accuracy: pd.Series, sd: float) -> tuple[float, float]:
    """Where 95 % of equal cells around the mean of the printed ones would lie, each the best of ten
    runs with standard deviation `sd`.
    """
    best = stats.equal_cells(1, 1.0, best_of=10, draws=200_000).ravel()
    low, high = accuracy.mean() + sd * (np.quantile(best, [0.025, 0.975]) - best.mean())
    return float(low), float(high)


READINGS = {"one run": 1, "best of 10": 10}
# of the facts
_READING = {"one run": "run", "best of 10": "of_ten"}
_NULL = "search reading sd_run printed_max_minus_mean expected p_max p_max_pooled p_second"
_NULL += " printed_sd expected_sd p_spread printed_range expected_range"


def printed_searches() -> dict[str, tuple[pd.Series, str]]:
    """Title -> the printed accuracies of a search, and its method as printed."""
    s10 = printed_s10()
    return {
        "S10 (25 cells)": (s10.accuracy, "KD"),
        "S10 without 0.0005 (20)": (s10[s10.alpha > 0.0005].accuracy, "KD"),
        "S11 (6 cells)": (printed_curve("p").accuracy, "KD & IG"),
        "S12 (6 cells)": (printed_curve("gamma").accuracy, "KD & IG & AT"),
    }


def equal_searches(cells: int, sd: float, best_of: int) -> pd.DataFrame:
    """Spread of simulated searches among equal cells."""
    return stats.spread(stats.equal_cells(cells, sd, best_of, draws=DRAWS))


# section 3.2: each configuration underwent ten runs; a cell is their mean, or their highest
TEN_RUNS = {"mean of 10": (1, 10**-0.5), "best of 10": (10, 1.0)}


def ten_runs_a_cell(released: pd.DataFrame) -> Shown:
    """The printed winners where a cell stands for ten runs (section 3.2): by their mean, or by the
    highest of them.

    The standard deviation of one run is that of the `released` runs (`method`, `accuracy`), of the
    search's own method or pooled over all, each with its own uncertainty. The facts take the pooled
    one, and for the highest of ten the other as well.
    """
    pooled = stats.pooled_sd(released, "method", "accuracy")
    freedom = len(released) - released.method.nunique()
    groups = released.groupby("method").accuracy
    rows = []
    for name, (accuracy, label) in printed_searches().items():
        own = groups.get_group(KEYS[label])
        sources = {"own": (own.std(), len(own) - 1), "pooled": (pooled, freedom)}
        for (reading, cell), (source, (sd, df)) in product(TEN_RUNS.items(), sources.items()):
            row = {"search": name, "reading": reading, "sd of": source, "sd_run": sd, "df": df}
            rows.append(row | _one_winner(accuracy, sd, df, *cell))
    table = pd.DataFrame(rows)
    return table, _ten_run_facts(table[~table.search.str.contains("without")])


def _one_winner(
    accuracy: pd.Series, sd: float, freedom: int, best_of: int, scale: float
) -> dict[str, float]:
    """Highest minus mean, and the spread of cells, among equal cells."""
    cells = stats.equal_cells(len(accuracy), scale * sd, best_of, DRAWS, freedom=freedom)
    equal, printed = stats.spread(cells), stats.spread(accuracy.to_numpy()).iloc[0]
    row = {"cells": len(accuracy), "printed_max_minus_mean": printed.max_minus_mean}
    row["equal_95"] = equal.max_minus_mean.quantile(0.95)
    row["p_max"] = stats.upper_p(equal.max_minus_mean, printed.max_minus_mean)
    return row | {"p_spread": stats.upper_p(equal.sd, printed.sd)}


def _ten_run_facts(table: pd.DataFrame) -> Facts:
    names = {"mean of 10": "mean_of_ten", "best of 10": "of_ten"}
    return [
        {
            "fact": f"grid_{row['search'].split()[0].lower()}_best_{names[row.reading]}_{row['sd of']}",
            "value": row.printed_max_minus_mean,
            "n": row.cells,
            "p": row.p_max,
        }
        for _, row in table.iterrows()
    ]


class PrintedWinners(NamedTuple):
    """The printed winner of each search among what equal cells give."""

    table: pd.DataFrame
    facts: Facts
    equal: dict[str, dict[str, np.ndarray]]  # highest minus mean, by search and reading
    observed: dict[str, float]


def printed_winners(sd: Mapping[str, float], pooled: float) -> PrintedWinners:
    """The printed highest cell and spread of each search against searches among equal cells.

    `sd` is that of one run by printed method, `pooled` the one over all methods.
    """
    equal: dict[str, dict[str, np.ndarray]] = {}
    rows, facts, observed = [], [], {}
    for name, (accuracy, method) in printed_searches().items():
        printed = stats.spread(accuracy.to_numpy()).iloc[0]
        observed[name], equal[name] = printed.max_minus_mean, {}
        for reading, best_of in READINGS.items():
            simulated = equal_searches(len(accuracy), sd[method], best_of)
            wider = equal_searches(len(accuracy), pooled, best_of)
            row = _among_equal(printed, simulated, wider)
            rows.append({"search": name, "reading": reading, "sd_run": sd[method], **row})
            equal[name][reading] = simulated.max_minus_mean.to_numpy()
            fact = f"grid_{name.split()[0].lower()}_best_{_READING[reading]}"
            numbers = {"value": printed.max_minus_mean, "n": len(accuracy), "p": row["p_max"]}
            facts += [{"fact": fact, **numbers}] if "without" not in name else []
    return PrintedWinners(pd.DataFrame(rows)[_NULL.split()], facts, equal, observed)


def _among_equal(printed: pd.Series, equal: pd.DataFrame, wider: pd.DataFrame) -> dict[str, float]:
    """`wider` are searches with the pooled standard deviation."""
    above = printed.max_minus_mean
    return {
        "printed_max_minus_mean": above,
        "expected": equal.max_minus_mean.mean(),
        "p_max": stats.upper_p(equal.max_minus_mean, above),
        "p_max_pooled": stats.upper_p(wider.max_minus_mean, above),
        "p_second": stats.upper_p(equal.max_minus_second, printed.max_minus_second),
        "printed_sd": printed.sd,
        "expected_sd": equal.sd.mean(),
        "p_spread": stats.upper_p(equal.sd, printed.sd),
        "printed_range": printed.range,
        "expected_range": equal.range.mean(),
    }


def all_45(s10: pd.DataFrame, sd: float, freedom: int) -> Shown:
    """The KD search: cells printed in Table S10, those that are not, and each printed alpha.

    The released notebook stores number, mean, standard deviation and maximum of all 45 cells. `sd`
    is that of one run, found with `freedom` degrees of freedom.
    """
    whole = published("kd_search_summary_notebook").set_index("statistic").accuracy
    known = (int(whole["count"]), whole["mean"], whole["std"])
    n, mean, rest = recompute.rest_of_grid(known, s10.accuracy.tolist())
    rows = [
        ("all 45 (stored)", *known),
        ("25 printed", len(s10), s10.accuracy.mean(), s10.accuracy.std()),
        ("20 not printed", n, mean, rest),
    ]
    rows += [
        (f"alpha {alpha:g}", len(part), part.mean(), part.std())
        for alpha, part in s10.groupby("alpha").accuracy
    ]
    table = pd.DataFrame(rows, columns=["cells", "n", "mean", "sd"])
    low = s10.accuracy[s10.alpha.between(0.01, 0.05)].mean() - mean
    about = facts_of({"kd_45_max": whole["max"], "low_alpha_over_rest": low}, "grid")
    return table, about + _best_of_45(whole["max"] - whole["mean"], sd, freedom)


def _best_of_45(above: float, sd: float, freedom: int) -> Facts:
    """The highest of all 45 cells among equal ones."""
    facts: Facts = []
    for reading, best_of in READINGS.items():
        cells = stats.equal_cells(45, sd, best_of, DRAWS, freedom=freedom)
        equal = stats.spread(cells).max_minus_mean
        p = stats.upper_p(equal, above)
        name = f"grid_kd_45_best_{_READING[reading]}"
        facts.append({"fact": name, "value": above, "n": 45, "p": p})
    return facts


def additive(s10: pd.DataFrame) -> Shown:
    """Table S10 as sum of an effect of alpha and one of T, with and without alpha 0.0005."""
    parts = {"all rows": s10, "without alpha 0.0005": s10[s10.alpha > 0.0005]}
    fits, facts = [], []
    for name, part in parts.items():
        sd, tests = recompute.additive_fit(part, "accuracy", "alpha", "T")
        fits.append(tests.assign(cells=name, residual_sd=sd).reset_index(names="effect"))
        suffix = "" if name == "all rows" else "_upper"
        facts += [
            {
                "fact": f"grid_s10_{effect}{suffix}",
                "value": tests.F[effect],
                "p": tests["PR(>F)"][effect],
            }
            for effect in ("alpha", "T")
        ]
    table = pd.concat(fits).rename(columns={"PR(>F)": "p"})
    return table[["cells", "effect", "df", "F", "p", "residual_sd"]], facts


def neighbours(grid: pd.DataFrame, noise: float) -> pd.DataFrame:
    """The cells beside the highest one of `grid` (rows alpha, columns T).

    `noise` is the residual standard deviation of one cell.
    """
    i, j = np.unravel_index(np.argmax(grid.to_numpy()), grid.shape)
    best, rows = grid.iloc[i, j], []
    for r, c in ((i - 1, j), (i, j - 1), (i, j + 1), (i + 1, j)):
        if 0 <= r < len(grid) and 0 <= c < grid.shape[1]:
            row = {"alpha": grid.index[r], "T": grid.columns[c], "accuracy": grid.iloc[r, c]}
            below = best - grid.iloc[r, c]
            rows.append(row | {"below_best": below, "in_residual_sd": below / noise})
    return pd.DataFrame(rows)


def same_numbers(released_max: Mapping[str, float]) -> Shown:
    """The highest cell of each search beside Table 4's maximum of ten runs, and the maximum of the
    released runs (`released_max`, by printed method).
    """
    table4 = published("table4_ablation").set_index("method").acc_max
    rows = [
        ("S10, alpha 0.01, T 2.5", printed_s10().accuracy.max(), "KD"),
        ("S11, p 0.1", printed_curve("p").accuracy.max(), "KD & IG"),
        ("S12, gamma 0.8", printed_curve("gamma").accuracy.max(), "KD & IG & AT"),
    ]
    table = pd.DataFrame(rows, columns=["cell", "search", "method"])
    table["table4_max"] = table.method.map(table4)
    table["released_max"] = table.method.map(released_max)
    table["difference"] = table.search - table.table4_max
    equal = {"numbers": int((table.difference.abs() < 0.005).sum())}
    return table, facts_of(equal, "grid_same")


def falls(sd: Mapping[str, float]) -> Shown:
    """Fall from the highest cell of Tables S11 and S12 to each other one; Holm over a search.

    `sd` is that of one run by printed method.
    """
    rows = []
    for key, method in (("p", "KD & IG"), ("gamma", "KD & IG & AT")):
        curve = printed_curve(key)
        top = curve.loc[curve.accuracy.idxmax()]
        for other in curve[curve.x != top.x].itertuples():
            fall = top.accuracy - other.accuracy
            row = {"search": key, "winner": top.x, "other": other.x, "fall": fall}
            row["p_best_of_10"] = recompute.cell_difference_p(fall, sd[method], 10)
            rows.append(row | {"p_one_run": recompute.cell_difference_p(fall, sd[method])})
    table = pd.DataFrame(rows)
    table["p_holm"] = table.groupby("search").p_best_of_10.transform(stats.holm)
    named = table.assign(name=[f"{s}_{o:g}" for s, o in zip(table.search, table.other)])
    facts = as_facts(named.assign(p=named.p_best_of_10), "grid_fall", "name", {"": "fall"})
    return table, facts


def falls_as_a_family(released: pd.DataFrame) -> Shown:
    """The falls of Tables S11 and S12 with the standard deviation of all `released` runs, its own
    uncertainty and the five falls of a search as one family.

    A cell is the highest of ten runs, or their mean (`p_mean_of_10_holm`). `low` to `high` holds
    for the five falls at once (Bonferroni), beside Holm's `p_holm`.
    """
    sd = stats.pooled_sd(released, "method", "accuracy")
    freedom = len(released) - released.method.nunique()
    table, _ = falls(dict.fromkeys(KEYS, sd))
    table = table[["search", "winner", "other", "fall"]]
    for name, (best_of, scale) in TEN_RUNS.items():
        two = stats.equal_cells(2, scale * sd, best_of, DRAWS, freedom=freedom)
        apart = np.abs(two[:, 0] - two[:, 1])
        column = "p_" + name.replace(" ", "_")
        table[column] = [stats.upper_p(apart, fall) for fall in table.fall]
        table[f"{column}_holm"] = table.groupby("search")[column].transform(stats.holm)
        if best_of > 1:
            half = np.quantile(apart, 1 - 0.05 / table.groupby("search").size().max())
            table = table.assign(low=table.fall - half, high=table.fall + half)
    named = table.assign(name=[f"{s}_{o:g}" for s, o in zip(table.search, table.other)])
    named = named.assign(p=named.p_best_of_10_holm, interval="95 % interval of five falls at once")
    return table, as_facts(named, "grid_fall_pooled", "name", {"": "fall"})
