"""The tables of `13_deployment`: engines, cold starts, artefacts, and the 10.8 times in factors."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from kdig.core.data import Split
from kdig.core.run import LEVEL_OF
from kdig.measure import deploy, stats
from kdig.measure.engines import ENGINES
from kdig.paper import published
from kdig.study.outputs import Facts
from kdig.study.tables.compression import printed_s15
from kdig.study.tables.evidence import Contrast, contrasts, difference
from kdig.study.tables.shared import Shown, paper_teacher
from kdig.study.tables.words import joined

TEACHER, STUDENT = "mobilenet_v2", "s2"
# the abstract: 140 ms and 13 ms
PRINTED = 140 / 13
# what is said of a rival, in two parts
OF_TIME = [
    *("parameters", "mmacs", "way", "ms", "mmacs_per_ms"),
    *("times_as_fast", "low_fast", "high_fast"),
]
OF_ACCURACY = ["accuracy", "difference", "low", "high", "better"]
# the ways of running that are set against accuracy
WAYS = ("eager", "onnxruntime", "int8", "openvino_int8")


def words_of(engine: str) -> str:
    """An engine in words."""
    return ENGINES[engine].words


def _by_window(times: pd.DataFrame, network: str, engine: str, batch: int) -> list[float]:
    """Processor time of a call in each window, in seconds.

    On one thread it is what the call takes on an idle machine. On a shared one the system
    interrupts long calls more often than short ones, so that wall times would favour fast engines.
    """
    chosen = (times.network == network) & (times.engine == engine) & (times.batch == batch)
    seconds: list[float] = times[chosen].sort_values("window").cpu.to_list()
    return seconds


def engines(times: pd.DataFrame) -> Shown:
    """Each network on each engine: milliseconds of a call by the clock, the median of the windows;
    processor time with the range of the windows; and how many times as fast as torch in this time.
    """
    rows, facts = [], []
    for (batch, network, engine), part in times.groupby(["batch", "network", "engine"], sort=False):
        eager, ours = (_by_window(times, network, name, batch) for name in ("eager", str(engine)))
        row = {"batch": batch, "network": network, "engine": words_of(engine)}
        cpu = 1000 * part.cpu
        row |= {"ms": 1000 * part.seconds.median(), "cpu_ms": cpu.median()}
        row |= {"lowest": cpu.min(), "highest": cpu.max(), "calls": int(part.calls.sum())}
        row |= {"times_as_fast": 1.0, "low": np.nan, "high": np.nan}
        if engine != "eager":
            ratio = deploy.log_ratio(eager, ours, paired=True)
            row |= {"times_as_fast": ratio["ratio"], "low": ratio["low"], "high": ratio["high"]}
        rows.append(row)
        name = f"deploy_{engine}_{network}_{batch}"
        facts.append({"fact": f"{name}_ms", "value": row["cpu_ms"], "n": len(part)})
    return pd.DataFrame(rows), facts


def cold_start(cold: pd.DataFrame, times: pd.DataFrame) -> Shown:
    """A fresh process: seconds until the network is loaded, milliseconds of its first and second
    answer and of a warm one, all in processor time; how many times longer the first takes than a
    warm one; MiB at most.
    """
    rows = []
    for (network, engine), part in cold.groupby(["network", "engine"], sort=False):
        warm = _by_window(times, network, engine, 1)
        ratio = deploy.log_ratio(part.first_cpu.to_list(), warm, paired=False)
        row = {"network": network, "engine": words_of(engine), "processes": len(part)}
        row |= {"load_s": part.load_cpu.median()}
        row |= {"first_ms": 1000 * part.first_cpu.median()}
        row |= {"second_ms": 1000 * part.second_cpu.median(), "warm_ms": 1000 * np.median(warm)}
        row |= {"first_over_warm": ratio["ratio"], "low": ratio["low"], "high": ratio["high"]}
        rows.append(row | {"peak_mib": part.peak_mib.median()})
    return pd.DataFrame(rows), []


def split(times: pd.DataFrame, cold: pd.DataFrame) -> Shown:
    """What lies between the teacher's first answer in torch and the student's warm one in 8 bits,
    as factors whose product it is; and other ratios: two of them on another engine, and the
    teacher's first answer over the student's, which is what the released script times.

    One image, in processor time. Warm times are compared window by window, and the cold start by
    Welch's interval; each is a ratio of geometric means with a 95 % interval.
    """

    def warm(network: str, engine: str) -> list[float]:
        return _by_window(times, network, engine, 1)

    def ratio(name: str, over: list[float], under: list[float], paired: bool = True) -> dict:
        return {"factor": name, **deploy.log_ratio(over, under, paired)}

    first, students = (
        cold[(cold.network == name) & (cold.engine == "eager")].first_cpu.to_list()
        for name in (TEACHER, STUDENT)
    )
    quick = warm(STUDENT, "int8")
    rows = [
        ratio("cold start", first, warm(TEACHER, "eager"), paired=False),
        ratio("engine", warm(TEACHER, "eager"), warm(TEACHER, "onnxruntime")),
        ratio("compression", warm(TEACHER, "onnxruntime"), warm(STUDENT, "onnxruntime")),
        ratio("precision", warm(STUDENT, "onnxruntime"), quick),
        ratio("all four", first, quick, paired=False),
        ratio("compression, in torch", warm(TEACHER, "eager"), warm(STUDENT, "eager")),
        ratio("first answers, in torch", first, students, paired=False),
    ]
    if "openvino_int8" in set(times.engine):
        eight = warm(STUDENT, "openvino_int8")
        rows.append(ratio("precision, in OpenVINO", warm(STUDENT, "openvino"), eight))
    table = pd.DataFrame(rows)
    facts = [
        {"fact": f"deploy_factor_{row['factor'].replace(', ', '_').replace(' ', '_')}"}
        | {"value": row["ratio"], **{k: row[k] for k in ("low", "high", "n")}}
        for row in rows
    ]
    return table, facts


def artefacts(tried: pd.DataFrame) -> Shown:
    """Every artefact's accuracy on all test images (percent), its difference to torch's with a 95 %
    interval over images (Wald's, for pairs), the share of equal answers, and the file's size.
    """
    table = tried.assign(
        artefact=tried.engine.map(words_of),
        accuracy=100 * tried.right / tried.images,
        difference=100 * (tried.only_this - tried.only_torch) / tried.images,
    )
    one, other, n = tried.only_this, tried.only_torch, tried.images
    half = 1.96 * 100 * np.sqrt(np.maximum(one + other - (one - other) ** 2 / n, 0)) / n
    table = table.assign(low=table.difference - half, high=table.difference + half)
    facts: Facts = [
        {"fact": f"deploy_{row.weights}_{row.engine}", "value": row.accuracy, "n": int(row.images)}
        for row in table.itertuples()
    ]
    columns = ["name", "artefact", "accuracy", "difference", "low", "high", "same_answer"]
    return table[[*columns, "largest_difference", "kib"]], facts


def channel_spread(scales: Mapping[str, tuple[int, np.ndarray]]) -> pd.DataFrame:
    """How unequal the channels of each convolution are: `spread`, the largest weight of the layer
    over the largest of its median channel, and the `steps` of 8 bits that are left to this channel
    where all channels share one scale (of 64, which 7 bits and a sign give).
    """
    rows = []
    for place, (groups, largest) in enumerate(scales.values(), start=1):
        spread = float(largest.max() / np.median(largest))
        kind = "depthwise" if groups > 1 else "other"
        row = {"layer": place, "kind": kind, "channels": len(largest), "spread": spread}
        rows.append(row | {"steps": 64 / spread})
    return pd.DataFrame(rows)


def alike(explained: pd.DataFrame) -> Shown:
    """How alike occlusion maps are to those of the float32 file: mean cosine, rank correlation and
    share of the highest tenth, each with its 95 % interval.
    """
    rows = []
    for row in explained.to_dict("records"):
        for name in ("cosine", "rank", "top"):
            value, half = row[name], row[f"{name}_half"]
            rows.append(
                {"artefact": row["artefact"], "measure": name, "value": value}
                | {"low": value - half, "high": value + half, "n": int(row["n"])}
            )
    table = pd.DataFrame(rows)
    own = table[table.artefact.str.startswith("int8")]
    facts: Facts = [
        {"fact": f"deploy_maps_{'channel' if 'channel' in r.artefact else 'tensor'}_{r.measure}"}
        | {"value": r.value, "low": r.low, "high": r.high, "n": r.n}
        for r in own.itertuples()
    ]
    return table, facts


def pareto(times: pd.DataFrame, tried: pd.DataFrame, cifar10: bool) -> pd.DataFrame:
    """Accuracy against the measured processor time of one image: a row for each network and way of
    running that has both, and whether it lies on the front.

    `source` says where an accuracy is from: `run here` (the mean of the networks of this shape that
    are tried here), `released` (the highest of them, as printed ones are), or `printed`: Table
    S15's highest of KD & IG, and MLPerf Tiny's for ResNet-8 (200 images), both of float32 networks,
    only for CIFAR-10 itself.
    """
    rows = []
    for network in dict.fromkeys(times.network):
        for engine in WAYS:
            seconds = _by_window(times, network, engine, 1)
            found = _accuracy(tried, network, engine, cifar10)
            if seconds and found is not None:
                ms = 1000 * float(np.median(seconds))
                where = {"network": network, "engine": words_of(engine), "ms": ms}
                rows.append(where | {"accuracy": found[0], "source": found[1]})
    table = pd.DataFrame(rows)
    return table.assign(front=deploy.front(table, "ms", "accuracy"))


def _accuracy(
    tried: pd.DataFrame, network: str, engine: str, cifar10: bool
) -> tuple[float, str] | None:
    ours = tried[(tried.network == network) & (tried.engine == engine)]
    share = 100 * ours.right / ours.images
    if len(ours) and (ours.method == "released").all():
        return float(share.max()), "released"
    if len(ours):
        return float(share.mean()), "run here"
    if not cifar10 or "int8" in engine:
        return None
    if network == "resnet8":
        known = deploy.devices()
        return float(known[known.network == "ResNet-8"].accuracy.max()), "printed"
    if network == TEACHER:
        return paper_teacher(), "printed"
    level = LEVEL_OF.get(network)
    return (_s15(level), "printed") if level else None


def _s15(level: int) -> float:
    factor = published("s5_architectures").compression_factor[level]
    table = printed_s15()
    row = table[(table.factor.round(2) == round(float(factor), 2)) & (table.method == "kd_ig")]
    return float(row.accuracy.iloc[0])


def rivals(times: pd.DataFrame, tried: pd.DataFrame, sizes: pd.DataFrame) -> Shown:
    """The student's rivals beside it, each in the fastest `way` to run it of those `tried`:
    parameters, million multiply-accumulates, milliseconds of an answer, and how many of the former
    in one of the latter; and the accuracy of these very files.

    `times_as_fast` is the student's time over the rival's with its interval over windows;
    `difference` the rival's accuracy less the student's, in points, from accuracy ~ block + arm.
    `better`: whether both intervals lie on the rival's side.
    """
    names = list(dict.fromkeys(tried.arm))
    fastest = {name: _fastest(times, name, tried.engine.unique()) for name in names}
    chosen = tried[tried.engine == tried.arm.map({name: way for name, (way, _) in fastest.items()})]
    chosen = chosen.assign(accuracy=100 * chosen.right / chosen.images)
    asked = [Contrast(name, difference([name], [STUDENT])) for name in names if name != STUDENT]
    apart = contrasts(chosen, asked)[0].set_index("contrast")
    rows: list[dict[str, object]] = []
    for name, (way, ours) in fastest.items():
        row = {"network": name, "way": words_of(way), "ms": 1000 * float(np.median(ours))}
        row |= {"accuracy": chosen[chosen.arm == name].accuracy.mean()}
        if name in apart.index:
            ratio, one = deploy.log_ratio(fastest[STUDENT][1], ours, paired=True), apart.loc[name]
            row |= {"times_as_fast": ratio["ratio"], "low_fast": ratio["low"]}
            row |= {"high_fast": ratio["high"], "difference": one["value"]}
            row |= {"low": one.low, "high": one.high}
            row |= {"better": "yes" if ratio["low"] > 1 and one.low > 0 else "no"}
        rows.append(row)
    table = sizes[["network", "parameters", "mmacs"]].merge(pd.DataFrame(rows), on="network")
    table = table.assign(mmacs_per_ms=table.mmacs / table.ms)
    table = table[["network", *OF_TIME, *OF_ACCURACY]]
    return table, _facts_of_rivals(table.dropna(), times.window.nunique(), tried.block.nunique())


def _fastest(times: pd.DataFrame, network: str, engines: Iterable[str]) -> tuple[str, list[float]]:
    """The engine with the lowest median over the windows for one image, and its windows (seconds)."""
    ways = {way: _by_window(times, network, way, 1) for way in engines}
    return min(ways.items(), key=lambda found: float(np.median(found[1])))


def _facts_of_rivals(table: pd.DataFrame, windows: int, blocks: int) -> Facts:
    facts: Facts = []
    for row in table.itertuples():
        name = f"deploy_rival_{row.network}"
        fast = {"value": row.times_as_fast, "low": row.low_fast, "high": row.high_fast}
        right = {"value": row.difference, "low": row.low, "high": row.high}
        facts.append({"fact": f"{name}_times_as_fast", **fast, "n": windows})
        facts.append({"fact": f"{name}_difference", **right, "n": blocks})
    return facts


def said_rivals(table: pd.DataFrame) -> str:
    """Which rivals are faster and more accurate than the student, or that none is."""
    rows = table.dropna()
    told = [
        f"{r.network} {r.times_as_fast:.2f} times as fast ({r.low_fast:.2f} to {r.high_fast:.2f}) and"
        f" {r.difference:+.1f} points ({r.low:+.1f} to {r.high:+.1f})"
        for r in rows.itertuples()
    ]
    better = list(rows[rows.better == "yes"].network)
    return (
        f"Shown to be better than the student ({STUDENT}) in time and in accuracy: {len(better)} of"
        f" {len(rows)} rivals that were trained alike{f' ({joined(better)})' if better else ''}."
        f" {'; '.join(told)}."
    )


def prices(table: pd.DataFrame) -> pd.DataFrame:
    """The published times of real devices, then ours of the same networks in one table.

    `table` is that of `engines`.
    """
    known = deploy.devices()
    names = {"resnet8": "ResNet-8", TEACHER: "MobileNetV2 (teacher)", STUDENT: "student 2"}
    ours = table[(table.batch == 1) & table.network.isin(names)]
    rows = pd.DataFrame({"network": ours.network.map(names), "ms": ours.cpu_ms})
    rows = rows.assign(device=f"here: {deploy.processor()}", source=ours.engine)
    return pd.concat([known, rows.assign(precision=_precision(ours.engine))], ignore_index=True)


def _precision(engines: Iterable[str]) -> list[str]:
    return ["int8" if "int8" in name else "float32" for name in engines]


def said_split(table: pd.DataFrame, printed: float) -> str:
    """What the factors say of the printed speed-up."""
    rows = table.set_index("factor")
    told = [f"{name} {_factor(rows.loc[name])}" for name in rows.index[:4]]
    slower = [name for name in rows.index[:4] if rows.high[name] < 1]
    below = f" (below 1, so slower: {', '.join(slower)})" if slower else ""
    return (
        f"From the teacher's first answer to the student's warm answer in 8 bits the time falls"
        f" {_factor(rows.loc['all four'])} times: {', '.join(told)}{below}. In torch the student is"
        f" {_factor(rows.loc['first answers, in torch'])} times as fast in the first answer, which is"
        f" what the released script times, and {_factor(rows.loc['compression, in torch'])} times in warm ones;"
        f" {printed:.1f} is printed, for another machine."
    )


def _factor(row: pd.Series) -> str:
    return f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"


def said_engines(table: pd.DataFrame) -> str:
    """Which engine is the fastest for one image of the student, and which gains nothing."""
    one = table[(table.batch == 1) & (table.network == STUDENT)]
    best = one.loc[one.cpu_ms.idxmin()]
    others = one[stats.leaves_out(one.low, one.high, 1.0) & (one.times_as_fast < 1)]
    slower = f"; slower than torch: {', '.join(others.engine)}" if len(others) else ""
    return (
        f"The student answers one image in {best.cpu_ms:.2f} ms with {best.engine},"
        f" {best.times_as_fast:.1f} times as fast as torch ({best.low:.1f} to {best.high:.1f}){slower}."
    )


def said_artefacts(table: pd.DataFrame) -> str:
    """What 8 bits cost, per channel and per tensor, over the networks that were tried."""
    told = []
    for artefact in ("ONNX Runtime, int8", "ONNX Runtime, int8 per tensor"):
        rows = table[table.artefact == artefact]
        clear = int(stats.leaves_out(rows.low, rows.high).sum())
        scale = "one scale a tensor" if "tensor" in artefact else "one scale a channel"
        told.append(
            f"with {scale} the accuracy changes by {rows.difference.mean():+.2f} points on average,"
            f" from {rows.difference.min():+.2f} to {rows.difference.max():+.2f} over {len(rows)}"
            f" networks (for {clear} the interval leaves out 0), and at least"
            f" {rows.same_answer.min():.1f} % of the answers stay"
        )
    return f"In 8 bits, {told[0]}; {told[1]}."


def said_front(table: pd.DataFrame) -> str:
    """What lies on the front."""
    best = table[table.front].sort_values("ms")
    named = [
        f"{r.network} with {r.engine} ({r.ms:.2f} ms, {r.accuracy:.1f} %)"
        for r in best.itertuples()
    ]
    return f"On the front lie {len(best)} of {len(table)}: {'; '.join(named)}."


def said_spread(table: pd.DataFrame) -> str:
    """Which kind of layer has the more unequal channels."""
    worst = table.loc[table.spread.idxmax()]
    means = table.groupby("kind").spread.median()
    return (
        f"The median spread is {means.get('depthwise', np.nan):.1f} in depthwise convolutions and"
        f" {means.get('other', np.nan):.1f} in others. In layer {worst.layer} ({worst.kind}) one"
        f" scale leaves the median channel {worst.steps:.0f} of 64 steps."
    )


def said_alike(table: pd.DataFrame) -> str:
    """How far the maps agree."""
    cosine = table[table.measure == "cosine"]
    told = [
        f"{r.artefact}: {r.value:.3f} ({r.low:.3f} to {r.high:.3f})" for r in cosine.itertuples()
    ]
    return f"Mean cosine to the maps of the float32 file over {cosine.n.iloc[0]} images: {'; '.join(told)}."


def calibration_list(split: Split) -> pd.DataFrame:
    """`id` and `part` of each calibration image."""
    return pd.DataFrame({"id": split.ids, "part": "calibration"})


def said_load(times: pd.DataFrame) -> str:
    """Whether other work ran on the machine meanwhile, by wall over processor time of the calls."""
    alone = times[times.engine == "eager"]
    ratio = float((alone.seconds / alone.cpu).median())
    shared = "was shared with other work" if ratio > 1.1 else "had no other work"
    return f"the machine {shared} (a call of torch took {ratio:.1f} times its processor time)"


def said_energy(table: pd.DataFrame) -> str:
    """Energy by the processor's counters, or that there are none; never a modelled number."""
    if not len(table):
        return f"Energy is {deploy.NOT_MEASURABLE}: 0 counters (RAPL) can be read on this machine."
    least, most = table.loc[table.mj.idxmin()], table.loc[table.mj.idxmax()]
    ends = [f"{r.mj:.2f} mJ ({r.network}, {words_of(r.engine)})" for r in (least, most)]
    return f"Energy of an image by the processor's counters: from {ends[0]} to {ends[1]}."


def title_engines(table: pd.DataFrame) -> str:
    """What the choice of an engine is worth, beside the choice of a network (one image)."""
    one = table[(table.batch == 1)].set_index(["network", "engine"]).cpu_ms
    torchs = one[TEACHER, words_of("eager")]
    engine, network = one[TEACHER].min() / torchs, one[STUDENT, words_of("eager")] / torchs
    return (
        f"The teacher on its fastest engine takes {100 * engine:.0f} % of its time in torch; the"
        f" student in torch takes {100 * network:.0f} %"
    )


def title_split(table: pd.DataFrame, printed: float) -> str:
    """What compression alone gives."""
    alone = table.set_index("factor").ratio["compression, in torch"]
    return f"Compression alone makes an answer {alone:.1f} times as fast; the paper prints {printed:.1f}"


def title_spread(table: pd.DataFrame) -> str:
    """What one scale leaves in the most unequal layer."""
    worst = table.loc[table.spread.idxmax()]
    return f"One scale a layer leaves its median channel as few as {worst.steps:.0f} of 64 steps"


def title_front(table: pd.DataFrame) -> str:
    """How many ways to run are beaten by no other."""
    return f"{table.front.sum()} of {len(table)} ways to run are on the Pareto front"
