"""The results that the README and docs/results.md state, written by code from the committed
reference: `make readme`.
"""

import base64
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from kdig import KdigError
from kdig.core.files import atomic_write
from kdig.core.methods import LABELS
from kdig.paper import claims, decide, findings, published
from kdig.study import wording
from kdig.study.command import Parser, exit_code
from kdig.study.exhibits import written_by
from kdig.study.index import entries, renewed_part
from kdig.study.outputs import Outputs
from kdig.study.report import summary
from kdig.study.settings import kept_folder, project_root
from kdig.study.tables.answers import questions

PROFILE = "lite"  # whose reference is quoted
# the findings of the README, in its order; their sentences are those of the report
FIRST = ("accuracy-92.6", "gain-1.1", "ig-over-kd", "times-140-13", "imagenet-general")
# figure -> its notebook, and what to see in it
FIGURES = {
    "05_line": ("05_compression", "The printed 140 ms beside the students' times"),
    "07_two_readings": (
        "07_imagenet_subset",
        "Accuracy over images and over classes ranks differently",
    ),
    "09_released_gaps": (
        "09_released_code",
        "Released networks beside what other images' targets predict",
    ),
    "09_mixture": ("09_released_results", "Are a method's runs one group or two?"),
}


def _reference(profile: str = PROFILE) -> Outputs:
    return Outputs(kept_folder(profile))


def _decided() -> pd.DataFrame:
    return decide(claims(), _reference().all_facts())


def found() -> str:
    """What was found: a line for each of `FIRST`, how many findings have which verdict, figures."""
    facts = {row["fact"]: row for row in _reference().all_facts().to_dict("records")}
    decided = _decided()
    verdicts = findings(decided).set_index("finding").verdict
    spoken = wording.headlines().set_index("finding").loc[list(FIRST)]
    lines = [
        f"- *{verdicts[name]}*: {row.says} {wording.filled(row.found, facts)}"
        f" ({_link(decided.set_index('id').notebook[row.claim])})"
        for name, row in spoken.iterrows()
    ]
    lines.append(f"- {wording.filled(wording.TARGETS, facts)} ({_link('09_released_code')})")
    return "\n".join([*lines, "", _pictures()])


def _link(notebook: str) -> str:
    return f"[{notebook[:2]}](notebooks/{notebook}.ipynb)"


def _pictures() -> str:
    """Four figures in two rows of a table."""
    shown = [f"![{says}](docs/figures/{name}.png)<br>{says}" for name, (_, says) in FIGURES.items()]
    rows = [" | ".join(shown[first : first + 2]) for first in (0, 2)]
    return "\n".join(["| | |", "|---|---|", *(f"| {row} |" for row in rows)])


def notebook_table() -> str:
    """Each notebook's link, question, and minutes in the demo."""
    rows = [
        f"| [{row['notebook']}](notebooks/{row['notebook']}.ipynb) | {row['question']} |"
        f" {row['minutes']} |"
        for row in entries()
    ]
    return "\n".join(["| notebook | question | minutes |", "|---|---|---|", *rows])


def all_findings() -> str:
    """How many findings have which verdict, and those of the abstract and the conclusions."""
    return summary(findings(_decided()))


def ablation() -> str:
    """Table 4: the paper's mean and sd beside this reference's mean and interval (percent)."""
    facts = _reference().all_facts().set_index("fact")
    printed = published("table4_ablation").set_index("method")
    lines = ["| method | paper, n = 10 | run here, n = 3 |", "|---|---|---|"]
    for key, label in LABELS.items():
        paper, ours = printed.loc[label], facts.loc[f"ablation_{key}"]
        here = f"{ours.value:.1f} ({ours.low:.1f} to {ours.high:.1f})"
        lines.append(f"| {label} | {paper.acc_mean:.2f} ({paper.acc_std:.2f}) | {here} |")
    return "\n".join(lines)


# kind of damage -> its column's head; contrast is CIFAR-10-C's, around the mean of each channel
DAMAGES = {"jpeg": "JPEG", "noise": "noise", "blur": "blur", "contrast_channels": "contrast"}


def damaged() -> str:
    """Accuracy (percent) of the released students on undamaged images, and by kind of damage the
    mean over CIFAR-10-C's five severities.
    """
    table = _evidence("09_cifar10c_accuracies")
    heads = ["trained on", "released student", "undamaged", *DAMAGES.values()]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for (trained, method), part in table.groupby(["trained", "method"], sort=False):
        values = part.set_index("kind").accuracy
        cells = [f"{values[kind]:.1f}" for kind in ("none", *DAMAGES)]
        lines.append(_line([_images(trained), LABELS[str(method)], *cells]))
    return "\n".join(lines)


def losses() -> str:
    """How much less the released KD & IG student loses by damage than each other one that saw the
    same images (points), with intervals for all comparisons at once.
    """
    table = _evidence("09_cifar10c_losses")
    heads = ["trained on", "KD & IG against", *DAMAGES.values()]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for (trained, against), part in table.groupby(["trained", "against"], sort=False):
        rows = part.set_index("kind")
        cells = [_difference(rows.loc[kind], "low_all", "high_all") for kind in DAMAGES]
        lines.append(_line([_images(trained), LABELS[str(against)], *cells]))
    return "\n".join(lines)


def factors() -> str:
    """What lies between the teacher's first answer and the student's in 8 bits, as factors."""
    lines = [_line(["factor", "times as fast"]), _line(["---"] * 2)]
    for row in _evidence("13_factors").itertuples():
        lines.append(_line([row.factor, f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})"]))
    return "\n".join(lines)


def rivals() -> str:
    """The student and its rivals, trained alike: size, time of an answer, accuracy."""
    heads = ["network", "parameters", "ms", "times as fast", "accuracy", "difference", "better"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    times = _evidence("13_rival_times").set_index("network")
    for row in _evidence("13_rivals").itertuples():
        time = times.loc[row.network]
        cells = [row.network, f"{time.parameters:,.0f}", f"{time.ms:.2f}"]
        if pd.isna(row.difference):
            cells += ["1", f"{row.accuracy:.1f}", "", ""]
        else:
            cells += [f"{time.times_as_fast:.2f} ({time.low_fast:.2f} to {time.high_fast:.2f})"]
            cells += [f"{row.accuracy:.1f}", _difference(row), row.better]
        lines.append(_line(cells))
    return "\n".join(lines)


def conditions() -> str:
    """The questions of `12_conditions` on CIFAR-10: differences of accuracy in points."""
    return _answered("12_surface_answers", "12_pairs", "12_patience", "12_noise")


def overlays() -> str:
    """What maps by each attribution, and maps on the fly, change as overlays on CIFAR-10, in points
    of accuracy.
    """
    return _answered("12_overlays", "12_fly_trained")


def _answered(*items: str) -> str:
    """The answers that stand in these tables, with their intervals and words."""
    lines = [_line(["question", "difference", "word"]), _line(["---"] * 3)]
    facts = _reference("evidence").all_facts()
    asked = questions(facts[facts["item"].isin(items)]).rename(columns={"value": "difference"})
    for _, row in asked.iterrows():
        lines.append(_line([row.of, _difference(row), row.answer]))
    return "\n".join(lines)


def _evidence(table: str) -> pd.DataFrame:
    return pd.read_csv(_reference("evidence").folder / "tables" / f"{table}.csv")


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _images(trained: str) -> str:
    return f"{trained} of the images" if trained != "all" else "all images"


def _difference(row: Any, low: str = "low", high: str = "high") -> str:
    shown = [_signed(number) for number in (row.difference, getattr(row, low), getattr(row, high))]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _signed(number: float) -> str:
    """One digit, or two where one would hide on which side of 0 a number lies."""
    return f"{number:+.1f}" if round(number, 1) else f"{round(number, 2) + 0.0:+.2f}"


def gaps() -> str:
    """How far released students' logits lie apart, beside what other images' targets predict."""
    table = pd.read_csv(_reference().folder / "tables" / "09_released_gaps.csv")
    lines = ["| released student | gap measured | predicted for other images' targets |"]
    lines += ["|---|---|---|"]
    for row in table.itertuples():
        met = "KD" in row.student
        predicted = f"{row.predicted_gap:.2f}" if met else "it met no soft targets"
        lines.append(f"| `{row.student}` | {row.median:.2f} | {predicted} |")
    return "\n".join(lines)


BLOCKS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"found": found, "notebooks": notebook_table},
    "docs/results.md": {
        "findings": all_findings,
        "ablation": ablation,
        "gaps": gaps,
        "damaged": damaged,
        "losses": losses,
        "factors": factors,
        "rivals": rivals,
        "overlays": overlays,
        "conditions": conditions,
    },
}


def renewed(text: str, blocks: Mapping[str, Callable[[], str]]) -> str:
    """`text` with each block between its marks written anew.

    Raises `KdigError` for a block without marks.
    """
    for name, write in blocks.items():
        if f"<!-- {name} -->\n" not in text or f"<!-- end of {name} -->" not in text:
            raise KdigError(
                f"no place for {name}: write <!-- {name} --> and <!-- end of {name} -->"
            )
        text = renewed_part(text, name, write())
    return text


# the drawing of the method: its file, and the figure, notebook and profile that it is
METHOD = ("method", "02_figure2", "02_teacher_and_signals", "evidence")


def figure(name: str, notebook: str, profile: str = PROFILE) -> bytes:
    """The PNG of a figure, from the executed notebook that is committed.

    Raises `KdigError` when it holds none.
    """
    path = _reference(profile).folder / "executed" / f"{notebook}.ipynb"
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and name in written_by(cell.source):
            pictures = [
                data["image/png"] for data in map(_data, cell.outputs) if "image/png" in data
            ]
            if pictures:
                return base64.b64decode(pictures[-1])
    raise KdigError(f"{path.name} of the reference holds no figure {name}")


def shown() -> dict[str, bytes]:
    """The files in docs/figures, by name: the README's figures, and the drawing of the method."""
    name, *of = METHOD
    return {f"{name}.png": figure(*of)} | {
        f"{name}.png": figure(name, notebook) for name, (notebook, _) in FIGURES.items()
    }


def _data(output: Any) -> dict[str, str]:
    return dict(output.get("data", {}))


def main(arguments: list[str] | None = None) -> int:
    """Write the results in the README and in docs/results.md anew, and their figures."""
    Parser(prog="python -m kdig.study.readme", description=main.__doc__).parse_args(arguments)
    return exit_code(write)


def write() -> None:
    """Write blocks and figures anew. Raises `KdigError` where a result or its place is missing."""
    for page, blocks in BLOCKS.items():
        path = project_root() / page
        _write(path, renewed(path.read_text(encoding="utf-8"), blocks).encode())
    for name, png in shown().items():
        _write(project_root() / "docs" / "figures" / name, png)


def _write(path: Path, content: bytes) -> None:
    atomic_write(path, lambda part: Path(part).write_bytes(content))


if __name__ == "__main__":
    sys.exit(main())
