"""The tables of `02_teacher_and_signals`: Tables S5 and S6, and what the exponent of a map does;
and Figure 2.
"""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from kdig.core import augment
from kdig.core.networks import (
    LEVELS,
    NETWORKS,
    build,
    count_layers,
    count_parameters,
    of_level,
    output_features,
)
from kdig.core.signals import SignalSettings, Teacher
from kdig.core.store import Result
from kdig.measure import drawing
from kdig.paper import published
from kdig.study.outputs import as_facts
from kdig.study.tables.shared import Shown, facts_of
from kdig.study.teachers import GivenTeacher

ALL_LEVELS = (0, *LEVELS)
BLOCKS = 19  # of the teacher: 0 is the stem, 18 the last convolution
RESIDUALS = BLOCKS - 2


def teacher_line(teacher: Result | GivenTeacher, images: int) -> str:
    """What the teacher is, where it comes from, and its accuracy on so many test images."""
    about = (
        f"Teacher {teacher.weights}: **{teacher.last.test_accuracy:.2f} %** on {images} test images"
    )
    if isinstance(teacher, GivenTeacher):
        return f"{about}; {teacher.parameters:,} parameters; not trained here: {teacher.source}"
    trained = f"{teacher.run.recipe.epochs} epochs, {teacher.seconds:.0f} s"
    return f"{about}; {teacher.parameters:,} parameters; trained here, from scratch ({trained})"


def given_teacher(teacher: GivenTeacher) -> pd.DataFrame:
    """A teacher that was not trained here, in one row: accuracy in percent."""
    row = {"source": teacher.source, "network": teacher.network, "width": teacher.width}
    row |= {"parameters": teacher.parameters, "weights": teacher.weights}
    accuracy, loss = teacher.last.test_accuracy, teacher.last.test_loss
    return pd.DataFrame([row | {"test_accuracy": accuracy, "test_loss": loss}])


def architectures() -> Shown:
    """Table S5: the networks built here, at width 1 and for ten classes, beside what is printed."""
    teacher = count_parameters(build("mobilenet_v2"))
    ours = pd.DataFrame([_architecture(level, teacher) for level in ALL_LEVELS])
    columns = ["parameters", "compression_factor", "layers", "output_features"]
    columns += ["inverted_residuals", "removed", "attention_source"]
    facts = [
        fact for column in columns for fact in as_facts(ours, f"s5_{column}", "level", {"": column})
    ]
    names = ["model", "compression_factor", "total_layers", "output_features", "memory_mb"]
    printed = published("s5_architectures")[names]
    table = ours.drop(columns="level").merge(printed, on="model", suffixes=("", "_paper"))
    return table, facts + facts_of(_about_all(), "s5")


def _about_all() -> dict[str, object]:
    """What the text says of the teacher's layers and of the students as a family."""
    teacher = build("mobilenet_v2")
    kernels = _kernels("mobilenet_v2")
    expanded = {(k.shape[0], k.shape[1]) for k in kernels if k.shape[2] == 1}
    students = [_kernels(of_level(level)) for level in LEVELS]
    narrower = sum(a.shape != b.shape for own in students for a, b in zip(own, kernels))
    share = count_parameters(build(of_level(2))) / count_parameters(teacher)
    about = {"convolutions": len(kernels), "expands_24_to_144": int((144, 24) in expanded)}
    about |= {"narrower_layers": narrower, "students": len(students)}
    return (
        about
        | {"families": len({type(build(of_level(level))) for level in ALL_LEVELS})}
        | {"share_2": 100 * share}
    )


def _kernels(network: str) -> list[Tensor]:
    """The kernels of a network's convolutions, from its input on."""
    return [t for t in build(network).get_submodule("features").parameters() if t.ndim == 4]


def _architecture(level: int, teacher: int) -> dict[str, object]:
    """`teacher` is its number of parameters."""
    net = build(of_level(level))
    size = sum(t.numel() * t.element_size() for t in net.parameters())
    kept = [i for i, what in enumerate(_blocks(level)) if what]
    inverted = sum(0 < i < BLOCKS - 1 for i in kept)
    return {
        "level": level,
        "model": f"Student {level}" if level else "Teacher",
        "parameters": count_parameters(net),
        "compression_factor": teacher / count_parameters(net),
        "layers": count_layers(net),
        "output_features": output_features(net),
        "memory_mib": size / 2**20,
        "inverted_residuals": inverted,
        "removed": RESIDUALS - inverted,
        "attention_source": LEVELS[level][1] if level else None,
    }


def blocks() -> pd.DataFrame:
    """Table S6 from the networks: a row a feature block, a column a network.

    `x` is a block that is kept, `A` the source of the attention map.
    """
    return pd.DataFrame({f"S{level}" if level else "T": _blocks(level) for level in ALL_LEVELS})


def _blocks(level: int) -> list[str]:
    kept = sum(1 for _ in build(of_level(level)).get_submodule("features").children())
    source = LEVELS[level][1] if level else None
    return ["A" if i == source else "x" if i < kept else "" for i in range(BLOCKS)]


def printed_blocks() -> pd.DataFrame:
    """Table S6 as it follows from Table S5's cuts: 1 for a block that is kept."""
    table = published("s6_block_usage")
    wide = table.pivot(index="feature_index", columns="model", values="present")
    return wide[blocks().columns]


def exponents(above: Mapping[str, Tensor]) -> pd.DataFrame:
    """How much of a picture stands above half of its map's maximum, by exponent.

    `above`: exponent -> the share of each picture's pixels.
    """
    rows = []
    for name, share in above.items():
        row = {"exponent": name, "median_share": 100 * share.median().item()}
        rows.append(row | {"pictures_below_1": 100 * (share < 0.01).float().mean().item()})
    return pd.DataFrame(rows)


def method_in_one_drawing(
    teacher: Teacher,
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    settings: SignalSettings,
    seed: int,
    temperature: float = 2.5,
) -> Figure:
    """Figure 2 with the one of `images` (N, 3, H, W), in [0, 1], on which the teacher hesitates
    most, and a student of level 2 that is not trained yet.
    """
    tap = NETWORKS["s2"].tap
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = Teacher(build("s2", len(classes)), [0.0] * 3, [1.0] * 3, teacher.device)
    answers = teacher.model(images).detach().div(temperature).softmax(1)
    one = answers.amax(1).argmin()[None]
    image, maps = images[one].cpu(), teacher.explain(images[one], labels[one], settings).cpu()
    plain = torch.ones(1)
    return drawing.method(
        image[0],
        augment.normalise_map(maps, plain)[0],
        augment.overlay(image, maps, plain)[0],
        _answer(teacher, images[one], tap),
        _answer(student, images[one], tap),
        classes,
        int(labels[one]),
        temperature,
    )


def _answer(network: Teacher, image: Tensor, tap: str) -> drawing.Answer:
    said = network.observe(image, tap)
    assert said.logits is not None
    assert said.attention is not None
    side = math.isqrt(said.attention.shape[1])
    return drawing.Answer(said.logits[0].detach().cpu(), said.attention[0].view(side, side).cpu())
