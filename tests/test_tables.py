"""The tables of the notebooks, from frames small enough to work out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as distributions

from kdig.measure import stats
from kdig.paper import OTHER_DEVICE, OTHER_SETTINGS, claims, published, verdicts
from kdig.paper import literature as arithmetic
from kdig.study.tables import (
    ablation,
    attention,
    compression,
    imagenet,
    literature,
    monte_carlo,
    released_code,
    released_results,
    search,
    shared,
    signals,
)


def runs(accuracies, by="method", value="accuracy"):
    """`accuracies`: method -> accuracy of each seed."""
    rows = [
        {by: name, "seed": seed, value: accuracy}
        for name, some in accuracies.items()
        for seed, accuracy in enumerate(some)
    ]
    return pd.DataFrame(rows)


def values(facts):
    return {fact["fact"]: fact["value"] for fact in facts}


def by_name(facts):
    return {fact["fact"]: fact for fact in facts}


def test_claims_stand_beside_what_measures_them():
    facts = [{"fact": "attention_mse_lowest", "value": 0.5, "low": 0.4, "high": 0.6, "n": 3}]
    table = shared.claims_of("08_attention_maps", facts, "")
    assert table.value["attention_mse_lowest"] == 0.5
    assert table.verdict["attention_mse_lowest"] == "not run", "fewer seeds than the claim needs"
    assert table.value.drop("attention_mse_lowest").isna().all()
    assert shared.paper_teacher() == 93.91


class TestAblation:
    frame = runs({"student": [80.0, 82.0], "kd_ig": [84.0, 85.0]})

    def test_table_4_holds_our_means_beside_the_papers(self):
        table, facts = ablation.table4(self.frame, 90.0, OTHER_SETTINGS)
        row = table.set_index("name").loc["KD & IG"]
        assert (row["mean"], row["max"], row.change, row.n) == (84.5, 85.0, -5.5, 2)
        assert (row.paper_mean, row.paper_max) == (92.02, 92.58)
        assert table.verdict.tolist() == ["not run", "not run"]
        assert values(facts) == {"ablation_student": 81.0, "ablation_kd_ig": 84.5}

    def test_gains_hold_for_all_methods_at_once(self):
        table, facts = ablation.gains(self.frame)
        assert table.difference.tolist() == [3.5]
        assert facts[0]["fact"] == "ablation_kd_ig_gain"
        alone = distributions.ttest_ind([84.0, 85.0], [80.0, 82.0])
        assert facts[0]["p"] == pytest.approx(alone.pvalue, abs=1e-3), (
            "one comparison: Dunnett adds nothing"
        )
        assert table.p_paired_holm[0] == table.p_paired[0]

    def test_the_released_runs_are_a_factorial(self):
        _table, facts = ablation.effects(released_results.released_runs(), "factorial")
        found = by_name(facts)
        assert list(found) == [
            f"factorial-{name}"
            for name in ("KD", "IG", "KDxIG", "AT", "KDxAT", "IGxAT", "KDxIGxAT")
        ]
        ig = found["factorial-IG"]
        rounded = [round(ig[name], 2) for name in ("value", "low", "high")]
        assert (rounded, ig["n"]) == ([0.24, 0.10, 0.39], 80)
        assert ig["p"] == pytest.approx(0.0011, abs=5e-5)
        assert round(found["factorial-KDxIG"]["value"], 2) == 0.02
        some = released_results.released_runs().query("method != 'at'")
        assert ablation.effects(some, "factorial")[1] == []

    def test_the_texts_comparisons_by_dunnett(self):
        table, facts = ablation.many_to_one(ablation.released_runs())
        found = by_name(facts)
        assert len(table) == len(found) == 13
        over_kd, over_student = found["dunnett-kd_ig-kd"], found["dunnett-kd-student"]
        assert over_kd["p"] == pytest.approx(0.040, abs=1e-3)
        assert 0 < over_kd["low"] < over_kd["value"] == pytest.approx(0.396)
        assert over_student["p"] == pytest.approx(0.018, abs=1e-3)

    def test_what_seeds_share(self):
        frame = runs({"student": [80.0, 82.0, 84.0], "kd_ig": [81.0, 83.1, 85.0]})
        _table, facts = ablation.shared_by_seed(frame)
        assert facts[0]["value"] > 0.99
        assert facts[0]["fact"] == "ablation_icc"

    def test_where_kd_ig_stands_in_table_4(self):
        found = values(ablation.recomputed(ablation.released_runs())[1])
        assert found["table4_kd_ig_over_next_max"] == pytest.approx(92.58 - 92.42)
        assert found["table4_kd_ig_over_next_mean"] == pytest.approx(92.018 - 91.855)
        assert found["table4_kd_ig_drop"] == pytest.approx(93.91 - 92.018)
        assert found["table4_deltas_of_means"] == 7, "the student's is that of its highest"

    def test_best_epochs_are_counted_from_the_last(self):
        frame = self.frame.assign(best_epoch_accuracy=[81.0, 82.0, 84.0, 88.0])
        table = ablation.best_epochs(frame).set_index("method")
        assert table["mean"].to_dict() == {"student": 0.5, "kd_ig": 1.5}
        assert table["max"].to_dict() == {"student": 1.0, "kd_ig": 3.0}

    def test_table_4_again_from_released_runs(self):
        released = runs(
            {"Student": [90.0, 92.0], "KD": [91.0, 93.0], "KD & IG": [91.91, 93.91]}, "name"
        )
        table, facts = ablation.recomputed(released)
        row, found = table.set_index("name").loc["KD & IG"], values(facts)
        assert (row.delta_of_max, row.delta_of_mean) == pytest.approx((0.0, -1.0))
        assert (row.sd, row.sd0) == pytest.approx((2**0.5, 1.0))
        assert found["table4_kd_ig_mean"] == pytest.approx(92.91)
        assert found["table4_gain_max"] == pytest.approx(1.91)
        assert found["table4_kd_gain_max"] == pytest.approx(1.0)
        assert found["table4_relative_improvement"] == pytest.approx(100.0), (
            "the teacher is reached"
        )

    def test_released_runs_have_no_order(self):
        released = runs({"Student": [1.0, 2.0, 3.0], "KD": [2.0, 3.0, 4.5]}, "name")
        table, facts = ablation.retested(released)
        row = table.iloc[0]
        assert row.p_reordered_low <= row.p_paired <= row.p_reordered_high
        assert row.difference == pytest.approx(3.5 / 3)
        assert {fact["fact"] for fact in facts} == {
            f"table4_kd_{t}" for t in ("t", "paired", "welch", "welch_holm")
        }

    def test_pairs_are_compared_in_both_directions(self):
        released = runs({"KD": [1.0, 2.0, 3.0], "KD & IG": [2.0, 4.0, 6.5]}, "name")
        table, facts = ablation.all_pairs(released)
        row, fact = table.iloc[0], facts[0]
        assert row.difference == pytest.approx(2.0 - 12.5 / 3)
        assert fact["value"] == -row.difference
        assert (fact["low"], fact["high"]) == (-row.high_all, -row.low_all)
        assert (row.low, row.high) == pytest.approx((row.low_all, row.high_all)), "one pair"
        assert fact["n"] == 3

    def test_printed_means_have_a_method_each(self):
        printed = ablation.printed_means()
        assert printed["student"] == (91.18, 0.29)
        assert len(printed) == 8


class TestCompression:
    wide = pd.DataFrame(
        {"student": [90.0, 80.0, 50.0], "kd": [91.0, 81.0, 60.0], "ig": [90.5, 80.0, 55.0], "kd_ig": [92.0, 79.0, 58.0]},
        index=pd.Index([4.12, 12.04, 1121.71], name="factor"),
    )  # fmt: skip

    def test_table_s15_holds_our_highest_beside_the_papers(self):
        frame = runs({"student": [80.0, 82.0], "kd_ig": [84.0, 85.0]}).assign(level=2)
        cells = compression.sweep(frame, {2: 4.0})
        table, facts = compression.table_s15(cells, OTHER_SETTINGS)
        row = table.set_index("name").loc["KD & IG"]
        assert (row.paper_best, row.best, row["mean"], row.factor) == (92.58, 85.0, 84.5, 4.0)
        assert row.best_low < 85 < row.best_high <= 100
        assert values(facts) == {"sweep_student_2": 82.0, "sweep_kd_ig_2": 85.0}
        assert facts[0]["interval"] == "95 % range of the highest of 10"
        kept = compression.kept_here(cells, 84.5).set_index("method")
        assert kept.kept["kd_ig"] == pytest.approx(100)

    def sweep_runs(self, gain):
        """Levels 3 (7.29x) and 8 (1,122x); KD & IG is `gain` better than the student."""
        found = runs(
            {
                "student": [80.0, 82.0, 84.0],
                "kd": [81.0, 82.5, 85.0],
                "kd_ig": [80.0 + gain, 82.1 + gain, 83.9 + gain],
            }
        )
        return pd.concat([found.assign(level=level) for level in (3, 8)])

    def test_a_sweep_of_some_levels_does_not_decide_about_all(self):
        table, facts = compression.against_student(self.sweep_runs(5.0), "", all_levels=False)
        assert table.difference.tolist() == pytest.approx([2.5 / 3, 5.0] * 2)
        over_kd, end = facts
        assert over_kd["fact"] == "sweep_kd_ig_over_kd_4_30"
        assert over_kd["value"] == pytest.approx(5 - 2.5 / 3)
        assert over_kd["why_not_decided"] == "not all of the paper's levels were trained"
        assert (end["fact"], end["value"], end["why_not_decided"]) == (
            "sweep_kd_ig_gain_8",
            pytest.approx(5.0),
            "",
        )

    @pytest.mark.parametrize(
        ("gain", "word"), [(0.0, "supported"), (1.0, "undecided"), (9.0, "contradicted")]
    )
    def test_an_interval_across_the_margin_decides_nothing(self, gain, word):
        fact = compression.against_student(self.sweep_runs(gain), "", all_levels=True)[1][-1]
        assert verdicts([fact], "") == {"sweep_kd_ig_gain_8": word}

    def times(self):
        """The teacher takes 8 ms, student k 8 / k; the first cold pass of the teacher 10 times that."""
        rows = [
            {"variant": variant, "batch": 64, "round": turn, "level": level, "ms": 8.0 / max(level, 1) / (1 + (variant != "plain"))}
            for variant in ("plain", "other") for turn in range(6) for level in range(9)
        ]  # fmt: skip
        warm = pd.DataFrame(rows)
        warm["speedup"] = 8.0 / (1 + (warm.variant != "plain")) / warm.ms
        cold = [
            {"order": order, "process": process, "turn": 1, "level": level, "ms": 8.0, "speedup": 1.0 if "last" in order else 200.0}
            for order in ("teacher first", "teacher last") for process in range(6) for level in range(9)
        ]  # fmt: skip
        return warm, pd.DataFrame(cold)

    sizes = pd.DataFrame({"level": range(9), "factor": 1.0, "mac_ratio": 1.0})

    def test_a_ratio_that_hangs_on_the_order_is_told_from_one_that_cannot_be_seen(self):
        warm, cold = self.times()
        table, facts = compression.measured_speedups(warm, cold, self.sizes)
        assert set(table.way) == {"warm, batch 64", "cold, teacher first", "cold, teacher last"}
        assert {fact["why_not_decided"] for fact in facts} == {""}
        assert values(facts)["sweep_order_8"] == 8.0, "warm gives 8, cold with the teacher last 1"
        slow = cold.assign(speedup=1.0)
        assert {
            fact["why_not_decided"]
            for fact in compression.measured_speedups(warm, slow, self.sizes)[1]
        } == {OTHER_DEVICE}

    def test_table_s9_and_figure_s5_by_hand(self):
        warm, cold = self.times()
        ways, _ = compression.measured_speedups(warm, cold, self.sizes)
        milliseconds = stats.medians(warm, ["variant", "batch", "level"], "ms")
        passes = stats.medians(cold, ["order", "turn", "level"], "ms")
        table, facts = compression.table_s9(milliseconds, passes, ways, 64, "no GPU")
        assert table.warm64_ms_median.tolist() == [8.0, *(8.0 / k for k in range(1, 9))]
        assert (table.paper_ms[0], table.paper_speedup[2]) == (140.0, 11.1)
        assert set(table.verdict_time) == {"not run"}
        assert values(facts)["sweep_measured_speedup_4"] == 4.0
        assert {fact["why_not_decided"] for fact in facts} == {"no GPU"}
        assert compression.variants(milliseconds).times_as_fast.tolist() == [2.0] * 9
        steps = warm[warm.variant == "plain"]
        table, (fact,) = compression.device_times(self.sizes, steps, milliseconds, "")
        assert table.training[8] == 1.0
        assert table.inference_64[8] == 1 / 64
        assert (fact["fact"], fact["value"]) == ("sweep_measured_training_speedup_8", 8.0)

    def test_only_the_papers_gpus_decide_times(self):
        assert compression.why_not_timed(f"a {compression.latency.PAPERS_GPUS[0]}", 64) == ""
        assert (
            compression.why_not_timed(f"a {compression.latency.PAPERS_GPUS[0]}", 8) == OTHER_DEVICE
        )
        assert compression.why_not_timed("x86_64", 64) == OTHER_DEVICE

    def test_shares_of_the_teachers_accuracy(self):
        table, facts = compression.kept(self.wide)
        found = values(facts)
        assert table.kd_ig_kept[0] == pytest.approx(9200 / 93.91)
        assert found["sweep_kept_kd_ig_2"] == pytest.approx(9200 / 93.91)
        assert found["sweep_kept_worst_12"] == pytest.approx(7900 / 93.91)
        assert (found["sweep_kept_last_low"], found["sweep_kept_last_high"]) == pytest.approx(
            (5000 / 93.91, 6000 / 93.91)
        )
        assert {fact["data"] for fact in facts} == {shared.SOURCE}

    def test_slope_is_the_loss_per_tenfold_compression(self):
        table, facts = compression.slopes(self.wide)
        assert table.kd[12.04] == pytest.approx(10 / np.log10(12.04 / 4.12))
        late, early = 21 / np.log10(1121.71 / 12.04), 13 / np.log10(12.04 / 4.12)
        found = values(facts)
        assert found["sweep_steepening_with_28"] == pytest.approx(late / early)
        assert found["sweep_steepening_after_28"] == pytest.approx(late / early)

    def test_28x_is_cut_in_one_place_for_spreads_and_slopes(self):
        """The level of 28.97x is beyond 28x, or the last before; both sentences take the same."""
        wide = compression.wide_s15()
        found = values(compression.slopes(wide)[1] + compression.advantage(wide, 0.32)[1])
        spread = (wide.max(axis=1) - wide.min(axis=1)).to_numpy()
        for name, before in (("with_28", 4), ("after_28", 5)):
            ratio = spread[before:].mean() / spread[:before].mean()
            assert found[f"sweep_spread_late_over_early_{name}"] == pytest.approx(ratio)
            assert found[f"sweep_steepening_{name}"] > 1
        assert found["sweep_spread_late_over_early_with_28"] < 1
        assert found["sweep_spread_late_over_early_after_28"] > 1

    def test_lead_of_kd_ig_by_hand(self):
        table, facts = compression.advantage(self.wide, 0.4)
        found = values(facts)
        assert table.ahead.tolist() == [1.0, -2.0, -2.0]
        assert table.highest.tolist() == ["kd_ig", "kd", "kd"]
        assert found["sweep_spread_8"] == 10.0
        assert (
            found["sweep_highest_levels"],
            found["sweep_highest_4_30"],
            found["sweep_kd_ig_rank_last"],
        ) == (1, 1, 2)
        assert found["sweep_spread_late_over_early_with_28"] == 5.0
        assert found["sweep_narrower_than_last"] == 2

    def test_leads_among_four_equal_methods(self):
        released = released_results.released_runs()
        sd = stats.pooled_sd(released, "method", "accuracy")
        table, facts = compression.leads(compression.wide_s15(), sd, 72)
        p = [by_name(facts)[f"lead-{level}"]["p"] for level in (2, 3, 4, 5)]
        assert p == pytest.approx([0.036, 0.028, 0.20, 0.13], abs=0.003)
        assert ((table.p < 0.05) == (table.low > 0)).all()
        runs = np.random.default_rng(0).normal(0, sd, (20_000, 4, 3)).max(axis=2)
        plain = np.mean(runs[:, 0] - runs[:, 1:].max(axis=1))
        assert table.expected.iloc[-1] == pytest.approx(plain, abs=0.01)

    def test_levels_in_a_row(self):
        table, facts = compression.in_a_row(compression.wide_s15())
        assert table.n.tolist() == [4, 8]
        assert table.highest.tolist() == [4, 5]
        assert table.p_highest[0] == pytest.approx(1 / 256)
        assert by_name(facts)["lead_kd_ig_over_kd_practical"]["low"] == table.low[0]

    def test_one_level_three_times(self):
        released = pd.DataFrame(
            {"method": ["KD & IG"] * 2 + ["KD"] * 2, "test_accuracy": [91.0, 92.0, 90.0, 91.5]}
        )
        ten = compression.ten_runs(released)
        table, facts = compression.accounts(self.wide, ten, self.wide - 1)
        assert table.set_index("method").loc["kd_ig"].tolist() == [92.0, 92.0, 91.5, 91.0]
        found = values(facts)
        assert (
            found["sweep_at4_kd_ig"],
            found["sweep_at4_from_mean"],
            found["sweep_at4_from_single"],
        ) == (92.0, 0.5, 1.0)
        kept = by_name(facts)["sweep_kept_mean_kd_ig"]
        half = distributions.t.ppf(0.975, 1) * 0.5**0.5 * 1.5**0.5
        assert kept["high"] == pytest.approx(100 * (91.5 + half) / 93.91), "one further run"
        table, facts = compression.once_only(self.wide)
        assert values(facts)["sweep_once_kept_kd_12"] == pytest.approx(8100 / 93.91)
        assert values(facts)["sweep_once_highest_levels"] == 1
        then = released.assign(
            test_accuracy=released.test_accuracy - 1, same_as_current=[0, 1, 1, 1]
        )
        table, facts = compression.earlier(
            pd.concat([then, then.assign(method="Student")]),
            ten.reindex(["kd", "kd_ig", "student"]).ffill(),
        )
        assert table.set_index("method").values_changed.to_dict() == {
            "student": 1,
            "kd": 0,
            "kd_ig": 1,
        }
        found = values(facts)
        assert found["sweep_first_kd_ig_over_kd"] == pytest.approx(0.75)
        assert (found["sweep_first_gain_kd_ig"], found["sweep_first_gain_kd"]) == (0, -0.5)

    def test_printed_times_again(self):
        table, facts = compression.speedups()
        assert table.ratio[1] == pytest.approx(0.140 / 0.0127)
        assert table.low[1] < table.ratio[1] < table.high[1]
        assert values(facts)["sweep_speedup_two_digits"] == pytest.approx(140 / 13)
        table, facts = compression.lines()
        assert table.over.tolist() == ["total_layers", "macs"]
        assert table.printed_ms.tolist() == [140.0, 140.0]
        assert {fact["fact"] for fact in facts} == {"sweep_line_layers", "sweep_line_macs"}
        assert [len(points) for points, _ in compression.line_panels().values()] == [9, 9]

    def test_memory_is_four_bytes_a_parameter(self):
        table, facts = compression.memory()
        assert table.kb[0] == pytest.approx(2236682 * 4 / 1024)
        assert values(facts)["sweep_size_at_12"] == pytest.approx(8.3056, abs=1e-4)


class TestMonteCarlo:
    frame = runs(
        {
            "student": [80.0, 82.0, 84.0, 83.0, 81.0, 82.0],
            "kd_ig": [84.0, 85.0, 90.0, 88.0, 83.0, 86.0],
            "kd_ig_at": [82.0, 83.0, 85.0, 84.0, 83.0, 83.0],
        }
    )

    def test_every_run_is_counted(self):
        table = monte_carlo.counted(self.frame)
        assert table.groupby("method")["count"].sum().to_dict() == {
            "student": 6,
            "kd_ig": 6,
            "kd_ig_at": 6,
        }
        assert (table.bin_low.min(), table.bin_high.max()) == (80.0, 90.0)

    def test_summary_by_hand(self):
        table, facts = monte_carlo.summary(monte_carlo.wide(self.frame), OTHER_SETTINGS)
        row = table.set_index(["method", "measure"]).loc[("student", "median")]
        assert (row.value, row.low, row.high, row.paper) == (82.0, 80.0, 84.0, 90.06), (
            "six sorted runs: the outer two"
        )
        found = values(facts)
        assert found["mc_student_mean"] == 82.0
        assert found["mc_student_sd"] == pytest.approx(2**0.5)
        assert set(table.verdict) <= {"not run", ""}

    def test_table_5_holds_the_pairs(self):
        table, facts = monte_carlo.table5(self.frame, OTHER_SETTINGS)
        row = table.set_index("method").loc["kd_ig"]
        assert (row.difference, row.paper_t_statistic, row.verdict) == (4.0, 14.8, "not run")
        assert by_name(facts)["mc_kd_ig_gain"]["p"] == row.p_paired_holm
        minus = by_name(facts)["mc_kd_ig_minus_kd_ig_at"]
        assert minus["value"] == pytest.approx(16 / 6)
        assert minus["low"] < minus["value"] < minus["high"]
        assert "mc_kd_ig_minus_kd_ig_at" not in values(monte_carlo.table5(self.frame[:12], "")[1])

    def test_what_pairing_buys_by_hand(self):
        row = monte_carlo.pairing(self.frame).set_index("method").loc["kd_ig"]
        x, y = (
            self.frame.accuracy[self.frame.method == name].to_numpy()
            for name in ("kd_ig", "student")
        )
        assert row.sd_unpaired**2 == pytest.approx(x.var(ddof=1) + y.var(ddof=1))
        assert row.runs_factor == pytest.approx((x - y).var(ddof=1) / row.sd_unpaired**2)
        assert row.d_independent == pytest.approx(4 / (row.sd_unpaired / 2**0.5))

    def test_a_method_that_scatters_less_does_not_bear_the_claim_out(self):
        wide = monte_carlo.wide(self.frame)
        table, facts = monte_carlo.spreads(wide)
        row = table.set_index(["method", "against"]).loc[("kd_ig", "student")]
        fact = by_name(facts)["mc_kd_ig_variance_ratio"]
        assert (
            fact["value"]
            == row.variance_ratio
            == pytest.approx(wide.kd_ig.var() / wide.student.var())
        )
        assert fact["p"] == row.p_pitman_morgan
        turned = wide.rename(columns={"kd_ig": "student", "student": "kd_ig"})
        (less,) = monte_carlo.spreads(turned)[1]
        assert less["value"] == pytest.approx(1 / fact["value"])
        assert less["high"] == pytest.approx(1 / fact["low"]), "the rule has its null at 1"

    def test_normality_of_our_runs_stands_beside_table_s7(self):
        table = monte_carlo.normality(monte_carlo.wide(self.frame)).set_index("method")
        assert table.paper_ksstat["student"] == 0.0862
        assert table.variance["student"] == pytest.approx(2.0)
        assert 0 < table.uniform_found_percent["kd_ig"] < 20, (
            "six runs find almost no flat distribution"
        )

    def test_half_widths_shrink_with_the_root_of_n(self):
        sd = {"value": 1.0, "low": 0.5, "high": 2.0}
        curve = monte_carlo.width_curve(sd, 6, "KD")
        row = curve.set_index("x").loc[100]
        assert row.value == pytest.approx(distributions.t.ppf(0.975, 99) / 10)
        assert (row.low, row.high) == pytest.approx((row.value / 2, row.value * 2))
        near = monte_carlo.widths_here(curve, 6, minutes=2.0).set_index("runs")
        assert near.relative[6] == 100.0
        assert near.minutes[8] == 16.0

    def test_pairs_that_correlate_need_fewer_runs(self):
        wide = monte_carlo.wide(self.frame)
        table = monte_carlo.runs_needed(wide.kd_ig_at, wide.student)
        paired, free = (
            part.reset_index() for _, part in table.groupby(table.curve.str.startswith("ind"))
        )
        assert (paired.value <= free.value).all()
        assert monte_carlo.detectable(wide.kd_ig_at, wide.student) > 0

    def test_answers_count_networks_and_not_methods(self):
        few, many = np.arange(100) < 50, np.arange(100) < 90
        right = {("student", 0): few, ("student", 1): many, ("kd", 0): many, ("kd", 1): many}
        row = monte_carlo.answers(right).iloc[0]
        assert (row.better, row.worse, row.neither, row.n) == (1, 0, 1, 2)
        assert row.difference == 40.0

    def test_bars_of_figure_6_bound_the_printed_numbers(self):
        bins = monte_carlo.bars().query("method == 'kd_ig'")
        draws = monte_carlo.drawn(bins)
        table, facts = monte_carlo.binned(bins, draws)
        row, found = table.iloc[0], by_name(facts)
        assert (row.shown, draws["kd_ig"].shape[1]) == (53, 60)
        assert found["mc_kd_ig_hidden_mean"]["n"] == 7
        assert row.hidden_mean > 92
        assert found["mc_kd_ig_median_bins"]["value"] == pytest.approx(
            (row.median_low + row.median_high) / 2
        )
        assert "mc_kd_ig_mean_bins" not in found, "seven runs lie beyond the axis"

    def test_printed_tests_again(self):
        table, facts = monte_carlo.ttests()
        assert table.set_index("method").t_printed["kd_ig"] == 14.8
        assert by_name(facts)["mc_kd_df"]["value"] == 118
        table, facts = monte_carlo.compared()
        found = values(facts)
        assert found["mc_gain"] == pytest.approx(1.24)
        assert found["mc_kd_ig_over_student"] == pytest.approx(1.24)
        assert found["mc_t_kd_ig_over_next"] == pytest.approx(14.8 - 14.32)
        assert len(table) == 6

    def test_printed_spread_and_normality_use_the_samples_within_the_bars(self):
        rng = np.random.default_rng(0)
        draws = {
            name: rng.normal(90, 0.4, (40, 60)) for name in ("student", "kd", "kd_ig", "kd_ig_at")
        }
        table, facts = monte_carlo.printed_spreads(draws)
        row = table.set_index(["method", "against"]).loc[("kd_ig", "student")]
        assert row.variance_ratio == pytest.approx((0.553 / 0.343) ** 2)
        assert row.p_brown_forsythe > 0.05 > row.p_F
        assert values(facts)["mc_kd_ig_variance_over_student"] == row.variance_ratio
        table, facts = monte_carlo.printed_normality(draws)
        assert table.p_bins.min() > 0.2
        fact = by_name(facts)["mc_kd_ig_variance"]
        assert (fact["low"], fact["value"], fact["high"]) == pytest.approx(
            (0.5525**2, 0.553**2, 0.5535**2)
        )

    def test_widths_power_and_hours_by_hand(self):
        table, facts = monte_carlo.widths()
        found = values(facts)
        assert table.normal[2] == pytest.approx(1.95996 * 0.553 / 60**0.5, rel=1e-4)
        assert found["mc_width_60"] == table.normal[2]
        assert found["mc_relative_width_70"] == pytest.approx(100 * 0.14 / 0.15)
        assert found["mc_dearer_at_70"] == pytest.approx(100 / 6)
        table, facts = monte_carlo.power()
        assert values(facts)["mc_detectable_60"] == pytest.approx(stats.detectable(0.553, 60))
        assert monte_carlo.hours()[0].hours.tolist() == [198, pytest.approx(18)]
        assert values(monte_carlo.hours()[1])["mc_gpu_hours"] == 84


class TestSearch:
    sd = pd.Series({"KD": 0.4, "KD & IG": 0.4, "KD & IG & AT": 0.4})

    def found(self):
        """Two cells of a search for p, two seeds each; 0.1 is the better one by two points."""
        table = runs({"0.1": [90.0, 92.0], "0.25": [88.5, 89.5]}, "cell", "validation_accuracy")
        return table.assign(probability=table.cell.astype(float))

    def test_table_3_is_counted(self):
        table, facts = search.space({"T": [1, 2], "alpha": [1], "p": [1, 2, 3], "gamma": [1]})
        assert table.set_index("hyperparameter").here.to_dict() == {
            "T": 2,
            "alpha": 1,
            "p": 3,
            "gamma": 1,
        }
        found = values(facts)
        assert found["grid_largest_T"] == 4
        assert found["grid_cells"] == 5 * 9 + 6 + 11
        assert found["grid_cells_shown"] == 25 + 6 + 6
        assert search.cells_of(pd.Series([2, 3, 4, 5])) == 15

    def test_cells_stand_beside_the_printed_ones(self):
        table, facts = search.beside(search.cells(self.found(), "p"), "p", "another measure")
        row = table.set_index("probability").loc[0.1]
        assert (row["mean"], row.paper, row.n, row.verdict) == (91.0, 92.58, 2, "not run")
        assert values(facts) == {"grid_p_0.1": 91.0, "grid_p_0.25": 89.0}
        assert {fact["why_not_decided"] for fact in facts} == {"another measure"}

    def test_intervals_share_the_spread_within_cells(self):
        found = self.found()
        table = search.with_pooled_intervals(found, search.cells(found, "p"), "probability")
        half = distributions.t.ppf(0.975, 2) * (2.5 / 2) ** 0.5 / 2**0.5  # variances 2 and 0.5
        assert (table.high - table["mean"]).tolist() == pytest.approx([half, half])
        assert table.x.tolist() == [0.1, 0.25]

    def test_winner_stands_above_the_mean_of_cells(self):
        winners = search.winners({"p": self.found()})
        row = winners.table.iloc[0]
        assert (row.search, row.cells, row.n, row.chosen, row.above_mean) == (
            "S11: p",
            2,
            2,
            "0.1",
            1.0,
        )
        assert row.expected == pytest.approx(
            winners.equal["S11: p"]["equal settings"].mean(), rel=0.02
        )
        assert winners.observed == {"S11: p": 1.0}
        assert search.expected_highest(2, 1.0) == pytest.approx(np.pi**-0.5)
        effects = search.effects({"p": self.found()})
        assert effects.effect.tolist() == ["probability", "seed", "Residual"]
        assert effects.p_holm[0] == effects.p[0]

    def test_optimism_by_hand(self):
        final = runs({"student": [80.0, 84.0], "kd_ig": [88.0, 90.0]}, value="test_accuracy")
        tested = search.tested(final)
        assert tested.difference[1] == 7.0
        row = search.optimism({"p": self.found()}, tested, 100).iloc[0]
        assert (row.validation_of_winner, row.mean_of_cells, row.test, row.optimism) == (
            91.0,
            90.0,
            89.0,
            2.0,
        )
        assert (row.left_out, row.luck) == (91.0, 0.0), "each seed chooses the same cell"
        assert row.picture_se == pytest.approx((91 * 9 / 100) ** 0.5)

    def test_a_choice_is_open_until_grid_and_path_are_the_papers(self):
        chosen = {"alpha": 0.01, "temperature": 2.5, "probability": 0.2, "gamma": 0.8}
        why = search.why_choices_open("", lambda *lists: True, chosen)
        assert (why["kd"], why["p"]) == ("", "")
        assert why["gamma"] == "the search chose other values than the paper's before"
        why = search.why_choices_open("", lambda *lists: "alphas" not in lists, chosen)
        assert why["kd"] == "the grid lacks values of the paper's (alphas, temperatures)"
        assert set(search.why_choices_open("other data", lambda *lists: True, chosen).values()) == {
            "other data"
        }

    def test_papers_cell_against_the_rest(self):
        table, facts = search.papers_choice({"p": self.found()}, {"p": "few runs"})
        assert values(facts) == {"grid_p_best_over_rest": 2.0}
        assert (table.value[0], table.n[0], table.verdict[0]) == (2.0, 2, "not run")
        other = self.found().replace({"cell": {"0.1": "0.2"}})
        assert search.papers_choice({"p": other}, {"p": ""})[0].empty

    s10 = pd.DataFrame(
        [(a, t, 90 + 10 * a + t - (t == 4)) for a in (0.0005, 0.01, 0.05) for t in (1.0, 2.0, 4.0)],
        columns=["alpha", "T", "accuracy"],
    )  # fmt: skip

    def test_surface_and_its_neighbours(self):
        grid, facts = search.surface(self.s10)
        found = values(facts)
        assert (found["grid_s10_best_alpha"], found["grid_s10_best_T"], found["grid_s10_max"]) == (
            0.05,
            4.0,
            93.5,
        )
        assert found["grid_low_alpha_worst"] == pytest.approx(91.1)
        table = search.neighbours(grid, 0.5)
        assert table[["alpha", "T"]].to_numpy().tolist() == [[0.01, 4.0], [0.05, 2.0]], (
            "a corner has two"
        )
        assert table.below_best.tolist() == pytest.approx([0.4, 1.0])
        assert table.in_residual_sd.tolist() == pytest.approx([0.8, 2.0])

    def test_additive_table_has_no_residual(self):
        table, facts = search.additive(
            self.s10.assign(
                accuracy=self.s10.accuracy + np.array([0, 0.01, 0, 0, 0, 0.01, 0.01, 0, 0])
            )
        )
        assert table.residual_sd.max() < 0.02
        assert set(values(facts)) == {
            f"grid_s10_{e}{s}" for e in ("alpha", "T") for s in ("", "_upper")
        }

    def test_printed_curves(self):
        p, gamma = search.printed_curve("p"), search.printed_curve("gamma")
        found = values(search.curve_facts(p, gamma))
        assert (found["grid_s11_best_p"], found["grid_s11_max"], found["grid_s12_best_gamma"]) == (
            0.1,
            92.58,
            0.8,
        )
        low, high = search.equal_band(pd.Series([90.0]), 1.0)
        assert low < 90 < high
        assert high - low == pytest.approx(2.3, abs=0.1), (
            "the best of ten scatters less than one run (3.92)"
        )

    def test_printed_winners_among_equal_cells(self):
        printed = search.printed_winners(self.sd, 4.0)
        table = printed.table.set_index(["search", "reading"])
        row = table.loc[("S11 (6 cells)", "one run")]
        fact = by_name(printed.facts)["grid_s11_best_run"]
        assert fact["value"] == printed.observed["S11 (6 cells)"] == row.printed_max_minus_mean
        assert (fact["p"], fact["n"]) == (row.p_max, 6)
        assert row.expected == pytest.approx(0.4 * 1.2672, rel=0.01), (
            "the highest of six standard normal values"
        )
        assert (table.p_max_pooled >= table.p_max).all(), "ten times the noise explains more"
        assert len(printed.facts) == 6

    def test_ten_runs_a_cell_in_both_readings(self):
        table, facts = search.ten_runs_a_cell(released_results.released_runs())
        found = by_name(facts)
        assert len(found) == 12
        p = {name: found[f"grid_s11_best_{name}"]["p"] for name in ("of_ten_own", "of_ten_pooled")}
        assert p == pytest.approx({"of_ten_own": 0.105, "of_ten_pooled": 0.042}, abs=0.003)
        assert found["grid_s11_best_mean_of_ten_pooled"]["p"] < 0.001
        assert found["grid_s10_best_mean_of_ten_pooled"]["p"] == pytest.approx(0.065, abs=0.005)
        assert ((table.p_max < 0.05) == (table.printed_max_minus_mean > table.equal_95)).all()

    def test_falls_of_a_search_are_a_family(self):
        table, facts = search.falls_as_a_family(released_results.released_runs())
        assert (table.p_best_of_10_holm >= table.p_best_of_10).all()
        assert (table.p_mean_of_10 <= table.p_best_of_10).all()
        half = (table.high - table.low) / 2
        assert np.ptp(half) == pytest.approx(0)
        assert (table.p_best_of_10_holm[table.fall > half] < 0.05).all()
        assert "grid_fall_pooled_p_0.5" in by_name(facts)

    def test_cells_that_are_not_printed_follow_from_the_whole(self):
        s10 = search.printed_s10()
        table, facts = search.all_45(s10, 0.4, 72)
        n, mean = table.set_index("cells").n, table.set_index("cells")["mean"]
        assert n["20 not printed"] == 20
        assert 25 * mean["25 printed"] + 20 * mean["20 not printed"] == pytest.approx(
            45 * mean["all 45 (stored)"]
        )
        fact = by_name(facts)["grid_kd_45_best_run"]
        assert fact["value"] == pytest.approx(
            by_name(facts)["grid_kd_45_max"]["value"] - mean["all 45 (stored)"]
        )
        assert by_name(search.all_45(s10, 0.4, 3)[1])["grid_kd_45_best_run"]["p"] != fact["p"]

    def test_numbers_that_stand_in_two_places(self):
        table, facts = search.same_numbers({"KD": 92.0, "KD & IG": 92.58, "KD & IG & AT": 93.0})
        assert table.difference.abs().max() < 0.005
        assert values(facts)["grid_same_numbers"] == 3
        assert table.released_max.tolist() == [92.0, 92.58, 93.0]

    def test_falls_are_from_the_highest_cell(self):
        table, facts = search.falls(self.sd)
        assert table.groupby("search").size().to_dict() == {"p": 5, "gamma": 5}
        assert (table.fall > 0).all()
        assert values(facts)["grid_fall_p_0.5"] == pytest.approx(92.58 - 91.5)
        assert (table.p_holm >= table.p_best_of_10).all()


class TestImageNet:
    labels = np.array([0, 0, 0, 1, 1, 1])
    right = {  # noqa: RUF012
        ("student", 0): np.array([1, 1, 0, 1, 0, 0], dtype=bool),
        ("student", 1): np.array([1, 1, 1, 0, 0, 0], dtype=bool),
        ("kd_ig", 0): np.array([1, 1, 1, 1, 1, 0], dtype=bool),
        ("kd_ig", 1): np.array([1, 1, 0, 1, 1, 1], dtype=bool),
    }

    def networks(self):
        rows = [
            {"method": method, "seed": seed, "test": 90.0, "raw": 100 * right.mean(), "balanced": 100 * right.mean(), "kappa": 0.5}
            for (method, seed), right in self.right.items()
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def test_teacher_stands_beside_table_s14(self):
        predicted = np.array([0, 0, 1, 1, 1, 1])
        table, facts = imagenet.teacher_by_class(self.labels, predicted, ["a", "b"], 100.0)
        row = table.set_index("class").loc["a"]
        assert (row.correct, row.pictures, row.paper_class, row.paper_correct) == (
            2,
            3,
            "airplane",
            126,
        )
        assert table.set_index("class").paper_correct["total"] == 3537
        assert values(facts) == {
            "imagenet_measured_teacher": 100.0,
            "imagenet_measured_teacher_all": pytest.approx(500 / 6),
        }

    def test_table_6_seeks_one_network(self):
        table, facts = imagenet.table6(self.networks(), self.right, self.labels, OTHER_SETTINGS)
        row = table.set_index(["reading", "method"]).loc[("balanced", "student")]
        assert (row["mean"], row["first"], row.paper_printed) == (50.0, 50.0, 83.78)
        # the two networks are equally good: a further one differs by its pictures alone
        assert (row.one_low, row.one_high) == pytest.approx((row.pictures_low, row.pictures_high))
        fact = by_name(facts)["imagenet_measured_student"]
        assert (fact["value"], fact["low"], fact["high"]) == (50.0, row.one_low, row.one_high)
        assert "6 pictures kept" in fact["interval"]
        assert set(table.verdict[table.reading == "balanced"]) == {"not run"}
        assert set(table.verdict[table.reading != "balanced"]) == {""}
        with_kappa = self.networks().assign(kappa_low=0.25, kappa_high=0.75)
        table, _ = imagenet.table6(with_kappa, self.right, self.labels, OTHER_SETTINGS)
        row = table.set_index(["reading", "method"]).loc[("kappa", "student")]
        assert (row.pictures_low, row.pictures_high) == (0.25, 0.75)

    def test_students_by_class_are_means_of_networks(self):
        table = imagenet.students_by_class(self.right, self.labels, ["a", "b"]).set_index("class")
        assert table.student.tolist() == pytest.approx([500 / 6, 100 / 6])
        assert table.pictures.tolist() == [3, 3]

    def test_gains_are_paired_by_seed(self):
        table, facts = imagenet.gains(self.networks(), 6)
        assert table.difference.tolist() == pytest.approx([200 / 6, 200 / 6])
        assert values(facts) == {"imagenet_measured_kd_ig_gain": pytest.approx(200 / 6)}

    def test_first_pair_is_shown_with_the_range_of_p(self):
        pairs = pd.DataFrame({"method": ["kd", "kd"], "seed": [3, 4], "p": [0.5, 0.1]})
        row = imagenet.first_pairs(pairs).iloc[0]
        assert (row.p, row.p_least, row.p_greatest) == (0.5, 0.1, 0.5)

    def test_counts_sums_and_scores_of_the_papers_teacher(self):
        classes, facts = imagenet.counts()
        found = values(facts)
        assert (found["imagenet_total_bird"], found["imagenet_correct_bird"]) == (2900, 2125)
        assert found["imagenet_teacher_airplane"] == 84.0
        assert "imagenet_teacher_deer" not in found, "a share of no pictures"
        table, facts = imagenet.sums(classes)
        assert table.recomputed[:4].tolist() == table.given[:4].tolist() == [105, 5250, 3537, 1713]
        assert values(facts)["imagenet_teacher_raw"] == pytest.approx(100 * 3537 / 5250)
        table, facts = imagenet.teacher_scores(classes)
        fact = by_name(facts)["imagenet_teacher_kappa"]
        assert fact["low"] < fact["value"] < fact["high"]
        found = values(facts)
        assert found["imagenet_teacher_balanced"] * 8 == pytest.approx(
            found["imagenet_teacher_balanced_10"] * 10
        )

    def test_both_readings_follow_from_the_classes(self):
        metrics = imagenet.both_readings(imagenet.stored_metrics())
        row = metrics.set_index("method").loc["kd_ig"]
        assert (row.raw, row.balanced) == pytest.approx(
            (row.raw_accuracy, row.balanced_accuracy), abs=0.01
        )
        assert (row.correct, row.n) == (round(0.7873904 * 3537), 3537)
        found = values(imagenet.two_readings(metrics)[1])
        assert found["imagenet_kd_ig_raw"] == row.raw
        assert found["imagenet_kd_ig_cifar"] == 92.58
        assert found["imagenet_kd_ig_rank_balanced"] == row.rank_balanced
        panels = imagenet.reading_intervals(metrics)
        shown = panels["balanced accuracy (%)"].set_index("method").loc["kd_ig"]
        assert shown.high - row.balanced == pytest.approx(1.959964 * row.balanced_error)

    def test_kd_ig_against_the_others(self):
        metrics = imagenet.both_readings(imagenet.stored_metrics())
        table, facts = imagenet.tests(metrics)
        known, row = metrics.set_index("method"), table.set_index("against").loc["student"]
        assert row.difference == pytest.approx(
            100 * (known.correct["kd_ig"] - known.correct["student"]) / 3537
        )
        assert row.balanced_difference == pytest.approx(
            known.balanced["kd_ig"] - known.balanced["student"]
        )
        fact = by_name(facts)["imagenet_kd_ig_over_student"]
        assert (fact["value"], fact["p"], fact["n"]) == (row.difference, row.p_holm, 3537)
        own_metric = by_name(facts)["imagenet_kd_ig_balanced_over_student"]
        assert own_metric["p"] == pytest.approx(0.12, abs=0.003), "the metric that the paper prints"
        assert own_metric["low"] < 0 < own_metric["value"] == pytest.approx(1.93, abs=0.01)
        weights = imagenet.by_class(metrics)
        assert weights.weight_raw.sum() == pytest.approx(1)
        assert set(weights.weight_balanced) == {1 / 8}


class TestReleasedCode:
    def test_gaps_are_predicted_for_the_arms_that_there_are(self):
        arms = ["Student", "label smoothing", "KD, static", "KD, released"]
        found = released_code.predicted_gaps(arms, 6.5, 9.0)
        assert found == {"label smoothing": 6.5, "KD, released": 6.5, "KD, static": 9.0}

    def test_predictions_have_one_gap_and_one_smoothing(self):
        row = released_code.predictions([("paper", 0.01, 2.5)], 10).iloc[0]
        assert row.smoothing == pytest.approx(10 / (9 + np.exp(row.gap)))

    def test_stored_losses_lie_above_what_own_targets_leave(self):
        table, facts = released_code.losses_explained()
        found = by_name(facts)
        assert table.loss.unique().tolist() == [0.5768, 0.1512]
        assert table.own_most_loss.unique() == pytest.approx([0.2189, 0.0476], abs=1e-4)
        assert found["loss-kd-over-own"]["value"] == pytest.approx(0.5768 / 0.2189, abs=1e-3)
        gap = found["loss-kd-teacher-gap"]
        assert (gap["low"], gap["high"]) == pytest.approx((5.87, 6.16), abs=0.01)
        assert (table.divergence > table.own_most).all()

    def test_curves_pass_the_stored_loss_where_the_gap_fits(self):
        curves = released_code.loss_curves()
        other = curves[curves.curve == "other targets, alpha 0.1"]
        reached = np.interp(1.0, other.value, other.x)
        table, _ = released_code.losses_explained()
        assert reached == pytest.approx(table.teacher_gap[0], abs=0.02)
        own = curves[curves.curve == "own targets, alpha 0.1"]
        assert own.value.max() < 0.4

    def test_at_table_3s_weights_own_and_other_targets_give_like_gaps(self):
        table = released_code.gaps_of_teachers().set_index(["alpha", "teacher_gap"])
        assert table.own[0.01, 6] == pytest.approx(7.72, abs=0.01)
        assert table.other[0.01].unique() == pytest.approx([6.55], abs=0.01)
        assert (table.own_minus_other[0.1] > table.own_minus_other[0.01]).all()

    def test_training_still_moves_a_little_at_epoch_100(self):
        table, facts = released_code.convergence()
        row = table.set_index("what").loc["accuracy"]
        assert (row.n, round(row["mean"], 2), round(row.least, 2)) == (32, 0.32, 0.10)
        assert row.low < row["mean"] < row.high
        assert by_name(facts)["convergence-loss"]["value"] < 0

    def test_gaps_by_hand(self):
        found = runs({"Student": [80.0, 82.0], "KD, static": [84.0, 86.0]}, "arm")
        found = found.assign(
            pictures="test", gap=[1.0, 3.0, 5.0, 8.0], gap_sd=1.0, spread=[1.0, 2.0, 1.5, 2.25]
        )
        row = released_code.gaps(found, {"KD, static": 9.0}).set_index("arm").loc["KD, static"]
        assert (row.gap_mean, row.accuracy_mean, row.predicted_gap) == (6.5, 85.0, 9.0)
        assert released_code.gap_tests(found).difference.tolist() == [4.5, 0.375]

    def test_an_own_signal_is_better_where_anothers_is_worse(self):
        frames = {
            "static": [90.0, 92.0, 91.0],
            "released": [88.0, 91.0, 90.0],
            "reshuffled": [89.0, 91.5, 90.0],
        }
        frame = runs(frames, "pairing").assign(method="kd")
        table, facts = released_code.pairings(frame)
        assert table.set_index("pairing").difference["released"] == pytest.approx(-4 / 3)
        fact, row = (
            by_name(facts)["released_own_over_released_kd"],
            table.set_index("pairing").loc["released"],
        )
        assert (fact["value"], fact["low"], fact["high"], fact["p"]) == (
            -row.difference,
            -row.high,
            -row.low,
            row.p,
        )
        assert values(facts)["released_own_over_other_kd"] == pytest.approx(2.5 / 3)

    def test_own_signals_in_one_model_of_all_runs(self):
        rng, rows = np.random.default_rng(0), []
        for method, gain in {"kd": 2.0, "ig": 1.0}.items():
            for pairing in ("static", "same_view", "released", "reshuffled"):
                own = gain * (pairing in released_code.OWN)
                part = pd.DataFrame({"seed": range(4), "accuracy": own + rng.normal(0, 0.1, 4)})
                rows.append(part.assign(method=method, pairing=pairing))
        frame = pd.concat(rows, ignore_index=True)
        table, facts = released_code.own_signals(frame)
        effect = table.set_index("effect").difference
        own = frame.accuracy[frame.pairing.isin(released_code.OWN)].mean()
        other = frame.accuracy[~frame.pairing.isin(released_code.OWN)].mean()
        assert effect["all methods"] == pytest.approx(own - other)
        assert [effect["kd"], effect["ig"]] == pytest.approx([2.0, 1.0], abs=0.15)
        assert by_name(facts)["pairing_own_over_other"]["p"] < 1e-6
        alone, _ = released_code.own_signals(frame[frame.method == "kd"])
        assert alone.effect.tolist() == ["all methods"]

    def test_kd_against_label_smoothing(self):
        scored = runs(
            {"label smoothing": [90.0, 91.0], "KD, static": [91.0, 92.5], "other": [1.0, 2.0]},
            "arm",
        )
        table, facts = released_code.smoothing(scored, ["label smoothing", "KD, static"])
        assert table.arm.tolist() == ["KD, static"]
        assert values(facts) == {"released_kd_over_smoothing": 1.25}

    def test_own_map_against_controls(self):
        frame = runs({"map": [90.0, 92.0], "grey": [89.5, 91.0], "none": [88.0, 90.0]}, "overlay")
        table, facts = released_code.overlays(frame)
        row = table.set_index("overlay").loc["grey"]
        assert (row.difference, row.difference_to_map) == (1.25, -0.75)
        assert values(facts) == {"released_map_over_grey": 0.75}

    def test_recipes_and_rivals(self):
        """Facts bear the names of the claims, whatever the recipe is called."""
        own = runs({"student": [80.0, 82.0], "kd": [81.0, 84.0]}).assign(
            network="s2", parameters=10
        )
        strong = own.assign(accuracy=own.accuracy + 5)
        rival = runs({"student": [84.0, 86.5]}).assign(network="resnet20", parameters=12)
        frame = released_code.recipe_frame(
            {"profile's": own, "strong": strong, "strong, rival": rival}, "s2"
        )
        table = released_code.recipes(frame).set_index("arm")
        assert table.parameters["strong, rival: resnet20"] == 12
        assert table["mean"]["strong: kd"] == 87.5
        table, facts = released_code.recipe_gains(frame)
        assert table.difference.tolist() == [1.5, 1.5]
        assert values(facts) == {"released_strong_kd_gain": 1.5}
        table, facts = released_code.rivals(frame)
        assert values(facts) == {"released_student_over_resnet20": 0.75}
        assert set(values(facts)) <= set(claims().fact)


class TestReleasedResults:
    def answers(self):
        """Ten pictures; KD & IG loses one by JPEG, the student two or four."""
        right = lambda n: np.arange(10) < n  # noqa: E731
        before = {
            ("student", 0): right(8),
            ("student", 1): right(9),
            ("kd_ig", 0): right(9),
            ("kd_ig", 1): right(9),
        }
        after = {
            ("student", 0): right(6),
            ("student", 1): right(5),
            ("kd_ig", 0): right(8),
            ("kd_ig", 1): right(8),
        }
        return {("none", 0.0): before, ("jpeg", 75.0): after}

    def test_conditions_go_from_mild_to_severe_and_hold_the_decisive_one(self):
        found = released_results.conditions({"jpeg": [20, 90], "noise": [64.0, 8.0]})
        assert found == [
            ("none", 0.0),
            ("jpeg", 90),
            ("jpeg", 75),
            ("jpeg", 20),
            ("noise", 8),
            ("noise", 16),
            ("noise", 64),
        ]

    def test_damage_by_hand(self):
        table = released_results.damage(self.answers()).set_index(["kind", "method"])
        assert table.accuracy[("jpeg", "student")] == pytest.approx(55.0)
        changed = released_results.changes(self.answers())
        part = changed[(changed.kind == "jpeg") & (changed.method == "student")]
        assert part.change.tolist() == pytest.approx([-20.0, -40.0])
        tests, facts = released_results.damage_tests(changed)
        assert tests.difference.tolist() == pytest.approx([20.0])
        assert values(facts) == {"damage_jpeg_kd_ig_over_student": pytest.approx(20.0)}

    def test_equal_losses_have_no_p(self):
        answers = self.answers()
        answers["jpeg", 75.0]["student", 1] = np.arange(10) < 7
        tests, facts = released_results.damage_tests(released_results.changes(answers))
        assert tests.p_paired.isna().all()
        assert np.isnan(facts[0]["p"])

    def test_cifar10cs_severities_are_facts(self):
        table, facts = released_results.cifar10c()
        found = by_name(facts)
        assert len(found) == 20
        assert found["cifar10c-jpeg-5"]["value"] == 40
        assert found["cifar10c-noise-1"]["value"] == pytest.approx(10.2)
        assert "ca36008" in found["cifar10c-blur-3"]["data"]
        assert table.shape == (4, 6)
        assert len(released_results.cifar10c_conditions()) == 21

    def test_released_networks_are_called_by_their_method(self):
        files = ["CIFAR10_KD_IG_T2", "CIFAR10-Train80Rand_KD_IG_T2", "mine.pt"]
        names = ["KD & IG", "KD & IG, 80 % of images", "mine.pt"]
        assert list(released_results.called(files).values()) == names
        twice = ["CIFAR10_KD_IG_T2", "CIFAR10_KD_IG_T4"]
        assert list(released_results.called(twice).values()) == twice

    def test_released_networks_are_compared_where_they_saw_the_same_images(self):
        names = ["Train80Rand_Student_T", "Train80Rand_KD_IG_T", "CIFAR10_KD_T"]
        before = dict.fromkeys(names, np.ones(8, dtype=bool))
        hurt = {names[0]: np.arange(8) < 2, names[1]: np.arange(8) < 5, names[2]: np.arange(8) < 8}
        answers = {("none", 0.0): before, ("jpeg", 80.0): hurt, ("jpeg", 40.0): before}
        table = released_results.cifar10c_accuracies(answers).set_index(["method", "kind"])
        assert table.accuracy["student", "jpeg"] == 100 * (2 + 8) / 16
        assert table.trained["kd", "jpeg"] == "all"
        losses, facts = released_results.cifar10c_losses(answers)
        assert losses[["against", "kind", "difference"]].values.tolist() == [
            ["student", "jpeg", 100 * 3 / 16]
        ]
        assert (losses.low[0], losses.high[0]) == (losses.low_all[0], losses.high_all[0])
        assert list(by_name(facts)) == ["damage_c_jpeg_80_kd_ig_over_student"]

    @pytest.mark.parametrize(
        ("name", "method"),
        [
            ("CIFAR_KD_IG_0.1.pt", "kd_ig"),
            ("S_KD_1", "kd"),
            ("x_Student_90", "student"),
            ("KD", None),
        ],
    )
    def test_method_of_a_released_file(self, name, method):
        assert released_results.method_of(name) == method

    def test_released_networks_in_pairs(self):
        right = lambda n: np.arange(100) < n  # noqa: E731
        whole = {
            ("none", 0.0): {"student": right(90), "kd_ig": right(92)},
            ("jpeg", 75.0): {"student": right(70), "kd_ig": right(80)},
        }
        part = {
            condition: {m: r[::2] for m, r in some.items()} for condition, some in whole.items()
        }
        table, facts = released_results.released_pairs(whole, part)
        assert len(table) == 4
        assert table.change_difference.tolist() == pytest.approx([0.0, 8.0, 0.0, 8.0])
        (fact,) = facts
        assert (fact["fact"], fact["value"], fact["n"]) == (
            "damage_released_jpeg_over_student",
            pytest.approx(8.0),
            100,
        )
        assert fact["why_not_decided"] == ""
        assert released_results.released_accuracies(whole).accuracy.tolist() == pytest.approx(
            [90, 92, 70, 80]
        )

    released = runs({"student": [90.0, 91.0, 92.0], "kd_ig": [91.0, 92.0, 93.0]})

    def test_highest_of_n_by_the_known_expectation(self):
        sds = released_results.scatter({"ours": self.released})
        assert sds["ours"][0] == pytest.approx(1.0)
        row = released_results.run_scatter({"ours": self.released}).iloc[0]
        assert (row.methods, row.n, row.observed) == (2, 3, 1.0)
        assert row.expected == pytest.approx(0.8463, abs=0.02), (
            "the highest of three standard normal values"
        )
        equal = self.released.assign(accuracy=90.0)
        assert np.isnan(released_results.run_scatter({"equal": equal}).expected[0])
        table = released_results.best_of_n(sds, 4).set_index("x")
        assert table.value[10] == pytest.approx(1.5388, abs=0.02)
        assert 4 in table.index
        table = released_results.tuned(sds).set_index("search")
        assert table["one_run, ours"]["p (S11)"] == pytest.approx(1.2672, abs=0.02)
        assert table.printed_highest["p (S11)"] == 92.58

    def test_headline_by_hand(self):
        table, facts = released_results.headline(self.released, 1.0)
        row = table.set_index("name").loc["KD & IG"]
        assert (row.printed, row["max"], row["mean"], row.added) == (92.58, 93.0, 92.0, 1.0)
        assert values(facts) == {"selection_student_mean": 91.0, "selection_kd_ig_mean": 92.0}
        assert {(fact["data"], fact["why_not_decided"]) for fact in facts} == {(shared.SOURCE, "")}
        runs = self.released.accuracy[self.released.method == "kd_ig"]
        assert (facts[1]["low"], facts[1]["high"]) == pytest.approx(stats.prediction_interval(runs))
        gains, facts = released_results.headline_gains(self.released)
        assert (gains.of_highest[0], gains.of_means[0], gains.added[0]) == (1.0, 1.0, 0.0)
        assert values(facts) == {"selection_kd_ig_gain_of_means": 1.0}

    def test_best_epochs_of_all_and_of_each(self):
        frame = self.released.assign(
            best_epoch_accuracy=self.released.accuracy + np.repeat([0.0, 1.0], 3)
        )
        table = released_results.best_epochs(frame).set_index("method")
        assert table["mean"].to_dict() == {"all runs": 0.5, "student": 0.0, "kd_ig": 1.0}

    def test_what_is_done_once_is_the_first_pass_less_the_second(self):
        rows = [
            {"order": order, "turn": turn, "level": level, "median": median}
            for order, turn, level, median in (("a", 1, 0, 9.0), ("a", 1, 2, 4.0), ("a", 2, 0, 6.0), ("a", 2, 2, 3.0))
        ]  # fmt: skip
        first = released_results.latency_passes(pd.DataFrame(rows)).set_index("pass").loc["first"]
        assert (first.ratio, first.teacher_once_ms, first.student2_once_ms) == (2.25, 3.0, 1.0)

    def test_printed_times_and_bars(self):
        table, facts = released_results.latency_line()
        assert (table.excess_ms + table.teacher_ms).tolist() == pytest.approx([140.0, 140.0])
        assert set(values(facts)) == {"latency_ratio_layers", "latency_ratio_macs"}
        bins = monte_carlo.bars()
        table, facts = released_results.beyond(bins[bins.method == "kd_ig"])
        assert values(facts)["mixture_beyond_kd_ig"] == 7
        assert table.beyond_expected[0] == pytest.approx(
            60 * distributions.norm.sf(92, 91.29, 0.553)
        )

    def test_two_groups_that_were_planted_are_found(self):
        rng = np.random.default_rng(0)
        groups = rng.normal(np.where(np.arange(60) < 30, 89.0, 92.0), 0.3, (5, 60))
        draws = {"kd_ig": groups, "student": rng.normal(90, 0.3, (5, 60))}
        fits = released_results.two_normals(draws)
        table, facts = released_results.mixture(fits, simulated=500)
        row = table.set_index("method").loc["kd_ig"]
        assert row.p_holm < 0.01
        assert (row.mean_low, row.mean_high) == pytest.approx((89, 92), abs=0.2)
        fact = by_name(facts)["mixture_kd_ig"]
        assert (fact["value"], fact["p"]) == (row.ratio, row.p_holm)
        curves = released_results.mixture_curves(fits, monte_carlo.bars())
        part = curves[curves.method == "student"]
        area = part.one.sum() * (part.x.iloc[1] - part.x.iloc[0])
        assert area == pytest.approx(60 * 7 / 60, rel=0.01), "sixty runs in bars of 7/60 points"


class TestAttention:
    def measured(self):
        """Two seeds, two classes of two pictures; all MSEs of a method and class are equal but for
        the seed.
        """
        base = {
            ("student", "ship"): 8.0,
            ("student", "cat"): 6.0,
            ("at", "ship"): 4.0,
            ("at", "cat"): 2.0,
        }
        base |= {("kd_ig_at", "ship"): 3.0, ("kd_ig_at", "cat"): 2.0}
        rows = [
            {"method": method, "seed": seed, "class": name, "picture": 2 * (name == "cat") + k, "mse": mse + seed, "positions": mse, "brightness": 2.0}
            for (method, name), mse in base.items() for seed in (0, 1) for k in (0, 1)
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def test_classes_have_intervals_over_seeds_and_over_pictures(self):
        row = attention.classes(self.measured()).set_index(["class", "method"]).loc[("ship", "at")]
        assert (row.mse, row.n, row.pictures) == (4.5, 2, 2)
        assert (row.seed_low + row.seed_high) / 2 == pytest.approx(4.5)
        assert row.picture_low == row.picture_high == 4.5, "both pictures are equal"

    def test_mse_stands_beside_its_scale(self):
        table = attention.mse(self.measured(), {"flat map": 9.0}).set_index("method")
        assert table["mean"].to_dict() == {
            "student": 7.5,
            "at": 3.5,
            "kd_ig_at": 3.0,
            "flat map": 9.0,
        }
        assert table.difference["at"] == -4.0

    def test_gain_is_against_the_same_picture(self):
        gained = attention.with_gain(self.measured(), np.array([5.0, 5.0, 1.0, 3.0]))
        table = attention.concentration(gained).set_index("method")
        assert table.positions["at"] == 3.0
        assert table.gain["at"] == pytest.approx((1 + 1 - 1 + 1) / 4)
        assert table.pictures_percent["at"] == 75.0
        assert table.brightness["at"] == 2.0
        assert attention.positions(gained).value.tolist() == [7.0, 3.0, 2.5]

    def test_claims_by_hand(self):
        gained = attention.with_gain(self.measured(), np.full(4, 5.0))
        found = attention.by_seed(gained)
        assert found["attention_mse_lowest"].tolist() == [2.0, 3.0]
        assert found["attention_mse_highest"].tolist() == [4.0, 5.0]
        assert found["attention_mse_ship_reduction"].tolist() == [1.0, 1.0]
        assert found["attention_mse_spread_reduction"].tolist() == pytest.approx([0.5 * 2**0.5] * 2)
        assert "attention_mse_automobile_lowest" not in found
        table, facts = attention.claimed(found, "", all_methods=False)
        why = {fact["fact"]: fact["why_not_decided"] for fact in facts}
        assert why["attention_mse_ship_reduction"] == ""
        assert why["attention_mse_lowest"] == "not all of the paper's methods were trained"
        assert len(table) == 7
        assert table.value["attention_mse_lowest"] == 2.5


class TestSignals:
    def test_networks_are_those_of_table_s5(self):
        table, facts = signals.architectures()
        assert table.parameters[0] == 2236682
        assert table.compression_factor[2] == pytest.approx(4.12, abs=0.005)
        assert (table.layers == table.total_layers).all()
        found = values(facts)
        assert found["s5_parameters_0"] == 2236682
        assert [found[f"s5_removed_{level}"] for level in range(1, 7)] == [2, 4, 6, 8, 10, 12]
        assert (found["s5_attention_source_2"], found["s5_inverted_residuals_8"]) == (9, 1)
        assert (found["s5_convolutions"], found["s5_expands_24_to_144"]) == (52, 1)
        assert (found["s5_narrower_layers"], found["s5_families"]) == (0, 1)
        assert found["s5_share_2"] == pytest.approx(543498 / 22366.82)

    def test_blocks_are_the_printed_cuts(self):
        table = signals.blocks()
        assert (table.ne("").astype(int).to_numpy() == signals.printed_blocks().to_numpy()).all()
        assert (table == "A").sum().to_dict() == {
            "T": 0,
            **{f"S{level}": 1 for level in range(1, 9)},
        }

    def test_share_above_half_of_the_maximum(self):
        row = signals.exponents({"s = 1": torch.tensor([0.0, 0.1, 0.3, 0.005])}).iloc[0]
        assert (row.median_share, row.pictures_below_1) == pytest.approx((0.5, 50.0))


class TestLiterature:
    rows = pd.DataFrame(
        {
            "article": ["Ashok et al. (2017)", "Ashok et al. (2017)", "other"],
            "year": [2017, 2017, 2020],
            "cf": [0.0, 4.0, np.nan],
            "teacher_acc": [90.0, 90.0, 80.0],
            "distilled_acc": [91.0, 88.0, 81.5],
            "delta": [1.0, -2.0, 1.5],
            "delta_printed": [1.0, -2.0, -1.5],
        }
    )

    def test_means_are_those_of_the_rows_with_a_factor(self):
        table, facts = literature.means(self.rows)
        assert by_name(facts)["literature_mean_factor"] == {
            "fact": "literature_mean_factor",
            "value": 2.0,
            "n": 2,
        }
        assert values(facts)["literature_mean_accuracy"] == 89.5
        assert table.n.tolist() == [3, 2, 1]
        assert values(literature.years(self.rows)) == {
            "literature_first_year": 2017,
            "literature_last_year": 2020,
        }

    def test_rows_that_do_not_follow_are_shown_and_the_others_counted(self):
        checked = self.rows.assign(follows=[True, False, True])
        table, facts = literature.unexplained(checked, "deltas")
        assert table.delta.tolist() == [-2.0]
        assert facts == [{"fact": "literature_deltas_follow", "value": 2, "n": 3}]

    def test_ranges_and_students_that_exceed_their_teachers(self):
        found = values(literature.ranges(self.rows)[1])
        assert (found["literature_smallest_factor"], found["literature_largest_factor"]) == (
            4.0,
            4.0,
        )
        assert (found["literature_smallest_delta"], found["literature_largest_delta"]) == (
            -2.0,
            1.5,
        )
        table, facts = literature.better(self.rows)
        assert table["largest change"].tolist() == [1.0, 1.5]
        assert values(facts) == {"literature_better_ashok": 1, "literature_better_gou": 0}

    def test_the_papers_rows_give_table_2_and_the_correlation(self):
        rows = arithmetic.rows(published("literature_review"))
        table, facts = literature.table2(rows)
        row, found = table.set_index("dataset").loc["CIFAR-10"], by_name(facts)
        assert (row.cf_mean_printed, row.cf_median) == (8.88, 4.76)
        assert found["table2_cifar10_cf_mean"]["value"] == row.cf_mean
        assert found["table2_cifar10_cf_mean"]["n"] == row.rows
        both, _ = literature.explained(rows)
        median = both.set_index("dataset").cf_median
        assert median["CIFAR-10"] == pytest.approx(4.76, abs=0.006)
        table, facts = literature.correlations(rows)
        r = by_name(facts)["literature_r"]
        part = rows.dropna(subset=["cf"])
        assert (r["value"], r["n"]) == (
            pytest.approx(np.corrcoef(part.cf, part.delta_printed)[0, 1]),
            57,
        )
        again = literature.p_of_printed_r()
        assert again["low"] < again["value"] < again["high"]
