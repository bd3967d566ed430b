"""A small network of one's own: what `14_your_images` and `python -m kdig.compress` do.

Images in class folders, a teacher, students with and without it, a recommendation, and files that
are used without this package.
"""

import functools
import itertools
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from kdig import KdigError
from kdig.core.artefacts import Label, Runner, label_of, logits_of, quantise
from kdig.core.data import Dataset, Split, load_dataset, stratified
from kdig.core.environment import cores, environment
from kdig.core.export import export
from kdig.core.files import atomic_write
from kdig.core.methods import LABELS, METHODS
from kdig.core.networks import build, count_parameters, for_size
from kdig.core.run import Run, Scoring
from kdig.core.signals import Teacher
from kdig.core.store import Result, Workspace
from kdig.core.train import NOT_NORMALISED, score_teacher
from kdig.measure import deploy, stats
from kdig.measure.engines import Files, start
from kdig.measure.latency import macs
from kdig.paper.released import TEACHERS_MEAN, TEACHERS_STD, state_of
from kdig.study.experiments import Seed, Students
from kdig.study.settings import Free, located
from kdig.study.teachers import GivenTeacher, TestScore, keep_given

# the value of `root` that means handwritten digits as class folders, to try the notebook with
EXAMPLE = "example"
EXAMPLES_LICENCE = "scikit-learn's digits (UCI, CC BY 4.0); weights MIT"
NO_LICENCE = "not stated; ask whoever trained it"
# how the images of a given teacher were normalised: mean and standard deviation of each colour
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": (TEACHERS_MEAN, TEACHERS_STD),
    "none": NOT_NORMALISED,
}
# from the simplest to the most elaborate: a later one has to be better than the one that is taken
ORDER = tuple(METHODS)
NAMES = {**LABELS, "student": "the student without a teacher"}
# of fewer test images of a class little is known
FEW = 10


class YourImages(Students):
    """Parameters of `14_your_images`. Networks get the stem that fits `image_size`.

    `root` is a folder with class folders, with or without a test part. A given `teacher` is a
    checkpoint of torchvision's MobileNetV2, ResNet-18 or ResNet-50, whose images were normalised as
    `teacher_images` says, or, for images of 48 pixels or less, any network that can teach elsewhere
    in this package.
    """

    needs_weights: ClassVar[bool] = True

    methods: Free[list[str]] = Field(min_length=2)
    seeds: Free[list[Seed]] = Field(min_length=2)
    teacher_images: Free[Literal["imagenet", "cifar10", "none"]]
    calibration_images: Free[int | None] = Field(ge=10)
    windows: Free[int] = Field(ge=3)
    window_seconds: Free[float] = Field(gt=0)
    latency_threads: Free[int] = Field(ge=1)
    # None: of the example the images' own, else not stated
    licence: Free[str | None]

    @property
    def workspace(self) -> Workspace:
        """As elsewhere; the example's images are written when they are first asked for."""
        found = super().workspace
        if self.root != EXAMPLE:
            return found
        folder = found.folder / "example_images"
        if not folder.is_dir():
            write_example(folder)
        return Workspace(found.folder, folder, found.device, found.download)

    @property
    def stated_licence(self) -> str:
        """The note on rights that is written into the files."""
        return self.licence or (EXAMPLES_LICENCE if self.root == EXAMPLE else NO_LICENCE)

    def data(self) -> Dataset:
        """As elsewhere. Raises `KdigError` where there is one class alone."""
        data = super().data()
        if len(data.classes) < 2:
            raise KdigError(
                f"{self.root} has one class, {data.classes[0]!r}: two or more class folders are"
                " needed, and a folder 'test' counts as a part only beside 'train'"
            )
        return data

    def _sized(self, network: str) -> str:
        return for_size(network, self.image_size)

    def teacher_run(self) -> Run:
        """As elsewhere, with the stem that fits."""
        run = super().teacher_run()
        return run.model_copy(update={"network": self._sized(run.network)})

    def student_run(self, method: str, seed: int, teacher: str, **changes: object) -> Run:
        """As elsewhere, with the stem that fits."""
        network = self._sized(str(changes.pop("network", self.network)))
        return super().student_run(method, seed, teacher, network=network, **changes)

    def runs(self, teacher: str) -> list[Run]:
        """Every method for every seed."""
        cells = itertools.product(self.seeds, self.methods)
        return [self.student_run(method, seed, teacher) for seed, method in cells]

    def teacher(self) -> Result | GivenTeacher:
        """The teacher that is trained here, or the given one as it does on these test images."""
        if self.given.teacher is None:
            return super().teacher()
        network = self._given()
        score = score_teacher(network.hash, self.data(), self.workspace, Scoring(), cores())
        last = TestScore(score.epochs[-1].loss, score.epochs[-1].accuracy)
        about = (network.network, network.width, network.hash, count_parameters(network.net))
        return GivenTeacher(f"the file {self.given.teacher}", *about, last)

    def known_teacher(self) -> str | None:
        """The hash of the teacher's weights, if it is given, or trained already."""
        return self._given().hash if self.given.teacher is not None else super().known_teacher()

    def _given(self) -> Teacher:
        assert self.given.teacher is not None
        path = located(self.given.teacher)
        mean, std = NORMALISATIONS[self.teacher_images]
        try:
            network = torchvision_teacher(path, self.image_size, self.data().classes, mean, std)
        except KdigError as error:
            if "_stem" in self._sized("mobilenet_v2"):
                raise
            try:
                return keep_given(self.given.teacher, self.workspace, self.data())[0]
            except KdigError:
                raise error from None
        self.workspace.keep(network.net, mean, std, network.network)
        return network

    @property
    def calibration(self) -> Split:
        """The training images by which 8 bits are set, classes in proportion."""
        split, wanted = self.data().train, self.calibration_images
        most = len(split) - len(self.data().classes)
        few = None if wanted is None or wanted > most else wanted
        return stratified(split, few, name="calibration_images")


def torchvision_teacher(
    path: Path, image_size: int, classes: Sequence[str], mean: Sequence[float], std: Sequence[float]
) -> Teacher:
    """torchvision's MobileNetV2, ResNet-18 or ResNet-50 with the weights in the file `path`, and the
    stem that fits.

    Raises `KdigError` for any other file, and for another number of classes.
    """
    try:
        network, state = _as_ours(state_of(path))
    except ValueError as error:
        raise KdigError(f"teacher {path}: {error}") from None
    name = for_size(network, image_size)
    net = build(name, len(classes))
    wanted = net.state_dict()
    head = state.get(f"classifier.{len(net.classifier) - 1}.bias")  # type: ignore[arg-type]
    if head is not None and len(head) != len(classes):
        raise KdigError(
            f"teacher {path} tells {len(head)} classes apart, but the images have {len(classes)}:"
            " give one that was trained on these classes"
        )
    for key in [*wanted, *state]:
        if key not in state or key not in wanted or state[key].shape != wanted[key].shape:
            raise KdigError(
                f"teacher {path} is no MobileNetV2, ResNet-18 or ResNet-50 of torchvision at width 1"
                f" that fits images of {image_size} pixels (first difference: {key}): give such a"
                " checkpoint, or leave it out to train one"
            )
    net.load_state_dict(state)
    return Teacher(net, mean, std, network=name)


# blocks in each of torchvision's four layers
_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def _as_ours(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The network that torchvision's weights are of, and the weights under the names of this package:
    a ResNet's blocks are numbered through, and its head is the classifier.
    """
    if "fc.weight" not in state:
        return "mobilenet_v2", dict(state)
    network = "resnet50" if "layer1.0.conv3.weight" in state else "resnet18"
    starts = list(itertools.accumulate(_BLOCKS[network], initial=1))
    parts = {"conv1": "features.0.0", "bn1": "features.0.1", "fc": "classifier.0"}
    parts |= {
        f"layer{layer}.{block}": f"features.{start + block}"
        for layer, (start, end) in enumerate(itertools.pairwise(starts), 1)
        for block in range(end - start)
    }

    def ours(name: str) -> str:
        return re.sub(r"^(layer\d\.\d+|\w+)", lambda part: parts.get(part[0], part[0]), name)

    return network, {ours(name): value for name, value in state.items()}


def write_example(folder: Path) -> None:
    """Handwritten digits as class folders without a test part: 24 images a class, and 12 of the
    last two, so that classes are not equally large.
    """
    digits = load_dataset("digits", image_size=8)
    counts = {name: 12 if name in ("8", "9") else 24 for name in digits.classes}
    for label, name in enumerate(digits.classes):
        rows = (digits.train.labels == label).nonzero()[: counts[name], 0]
        for place, row in enumerate(rows.tolist()):
            pixels = digits.train.images[row].permute(1, 2, 0).numpy()
            path = folder / name / f"{place:03d}.png"
            atomic_write(path, functools.partial(Image.fromarray(pixels).save, format="png"))


def scored(results: Sequence[Result], test: Split) -> pd.DataFrame:
    """One row a run: `method`, `seed`, `accuracy` and `balanced` accuracy, the mean over the
    classes (percent), and its `key`.
    """
    labels = test.labels.numpy()
    rows = []
    for result in results:
        found = stats.scores(labels, result.predicted)
        row = {"method": result.run.method, "seed": result.run.seed, "accuracy": found["raw"]}
        rows.append(row | {"balanced": found["balanced"], "key": result.run.key})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Choice:
    """The method that is recommended, and why, in a sentence."""

    method: str
    why: str


def recommend(frame: pd.DataFrame, value: str = "balanced") -> Choice:
    """The simplest method that no more elaborate one clearly surpasses.

    A more elaborate method is taken when the 95 % interval of its difference, paired by seed, lies
    above zero. `value` is the column that decides.
    """
    present = [name for name in ORDER if name in set(frame.method)]
    taken, said = present[0], []
    for name in present[1:]:
        rows = frame[frame.method.isin([taken, name])]
        row = stats.compare(rows, taken, value=value).iloc[0]
        sure = f"{row.difference:+.1f} points, 95 % interval {row.low:+.1f} to {row.high:+.1f}"
        ours, other = NAMES[name], NAMES[taken]
        if row.low > 0:
            said.append(f"{ours} is better than {other} here ({sure})")
            taken = name
        elif row.high < 0:
            said.append(f"{ours} is worse than {other} here ({sure})")
        else:
            said.append(f"{ours} is not distinguishable from {other} here ({sure})")
    return Choice(taken, f"{'; '.join(said)}. Take {NAMES[taken]}.")


@dataclass(frozen=True)
class Delivered:
    """What was written: the files, the card's content, the measured table, and what the float32 file
    answers by class (`stats.accuracy_by_class`).
    """

    float32: Path
    int8: Path
    card: dict[str, Any]
    table: pd.DataFrame
    classes: pd.DataFrame


def deliver(settings: YourImages, result: Result, choice: Choice, out: Path) -> Delivered:
    """Write the network of `result` to `out`, its int8 form, its card, the calibration list and a
    README beside it, and measure both files.
    """
    require_own_folder(out)
    data, workspace = settings.data(), settings.workspace
    network = workspace.load_weights(result.weights)
    about = {
        "network": network.network,
        "weights": result.weights,
        "licence": settings.stated_licence,
    }
    export(network, out, Label(data.classes, settings.image_size, data=data.fingerprint, **about))
    used, int8 = settings.calibration, out.with_name(f"{out.stem}-int8.onnx")
    calibration = out.with_name(f"{out.stem}-calibration.csv")
    files = ["/".join(Path(file).parts[-2:]) for file in used.files or used.ids]
    list_of = pd.DataFrame({"id": used.ids, "file": files})
    # a file's name need not be text
    write = functools.partial(list_of.to_csv, index=False, errors="backslashreplace")
    atomic_write(calibration, write)
    quantise(out, int8, used.images.numpy(), f"{len(used)} images, {calibration.name}")
    table, classes = measured(settings, Files(workspace.folder, out, int8, int8))
    card = card_of(settings, network, table, choice, calibration.name)
    card |= {"seed": result.run.seed, "by_class": _by_class(classes)}
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    _write(out.with_name(f"{out.stem}-card.json"), text)
    _write(out.with_name("README.md"), readme(out, card, table, classes))
    return Delivered(out, int8, card, table, classes)


def _by_class(classes: pd.DataFrame) -> dict[str, list[int]]:
    """Class -> right answers, and test images."""
    rows = classes.iloc[:-1].itertuples(index=False)
    return {row[0]: [int(row.correct), int(row.pictures)] for row in rows}


def said_classes(classes: pd.DataFrame) -> str:
    """Which class is least often right, and of how many classes little is known."""
    rows = classes.iloc[:-1]
    rows = rows[rows.pictures > 0].rename(columns={"class": "name"})
    worst = rows[rows.accuracy == rows.accuracy.min()]
    listed = ", ".join(
        f"{row.name} ({row.correct} of {row.pictures})" for row in worst.itertuples()
    )
    few = int((rows.pictures < FEW).sum())
    little = (
        f" {few} of {len(rows)} classes have fewer than {FEW} test images: little is known of them."
        if few
        else ""
    )
    return f"Least often right, by class: {listed} test images.{little}"


def _write(path: Path, text: str) -> None:
    atomic_write(path, lambda part: Path(part).write_text(text, encoding="utf-8"))


_MARK = "<!-- written by kdig.compress -->"


def require_own_folder(out: Path) -> None:
    """Raises `KdigError` when `out` is no .onnx file, when files of someone else would be
    overwritten, and when nothing can be written there.
    """
    if out.suffix != ".onnx":
        raise KdigError(f"--out {out}: give the name of a file that ends in .onnx")
    beside = out.with_name("README.md")
    try:
        ours = beside.is_file() and _MARK in beside.read_text(encoding="utf-8", errors="ignore")
        # the README comes last: a command that was killed leaves a file of kdig's without it
        known = {beside: ours, out: ours or _is_labelled(out)}
        found = [path for path, kdigs in known.items() if path.exists() and not kdigs]
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f"{out.stem}-calibration.csv"):
            pass
    except OSError as error:
        raise KdigError(
            f"--out {out}: cannot write there ({error.strerror}): choose another folder or name"
        ) from None
    if found:
        raise KdigError(
            f"{found[0]} is not kdig's, and would be overwritten: give --out in a folder of its own,"
            f" such as {out.stem}/{out.name}"
        )


def _is_labelled(path: Path) -> bool:
    """Whether a file is a network with the metadata that exports have."""
    try:
        return "licence" in label_of(path)
    except KdigError:
        return False


def measured(settings: YourImages, files: Files) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both files on all test images: accuracy and balanced accuracy (percent) with intervals over
    images, milliseconds of one image (median of the windows) and KiB; and the float32 file's right
    answers by class.
    """
    test = settings.data().test
    runs: dict[str, Runner] = {
        name: start(name, files, settings.latency_threads) for name in ("onnxruntime", "int8")
    }
    one = test.images[:1].numpy().astype(np.float32) / 255
    calls = {name: functools.partial(run, one) for name, run in runs.items()}
    windows = [deploy.window(calls, settings.window_seconds, i) for i in range(settings.windows)]
    answers = {n: logits_of(run, test.images.numpy()).argmax(1) for n, run in runs.items()}
    rows, labels = [], test.labels.numpy()
    for name, file in (("onnxruntime", files.float32), ("int8", files.int8)):
        row = {"file": file.name, **accuracies(labels, answers[name])}
        row["ms"] = 1000 * float(np.median([window[name][0] for window in windows]))
        rows.append(row | {"kib": file.stat().st_size / 1024})
    classes = settings.data().classes
    return pd.DataFrame(rows), stats.accuracy_by_class(labels, answers["onnxruntime"], classes)


def beside_teacher(
    settings: YourImages, teacher: Result | GivenTeacher, taken: Result
) -> pd.DataFrame:
    """The teacher and the student that is taken: network, parameters, million multiply-accumulates
    (`mmacs`) and accuracy (percent).
    """
    rows = []
    for name, result in (("teacher", teacher), ("student", taken)):
        network = settings.workspace.load_weights(result.weights)
        row = {"role": name, "network": network.network, "parameters": result.parameters}
        row["mmacs"] = macs(network.net, settings.image_size) / 1e6
        rows.append(row | {"accuracy": result.last.test_accuracy})
    return pd.DataFrame(rows)


def said_beside(table: pd.DataFrame) -> str:
    """How much smaller the student is than its teacher, and what that costs."""
    large, small = table.to_dict("records")
    return (
        f"The student has {large['parameters'] / small['parameters']:.1f} times fewer parameters than"
        f" the teacher, and needs {large['mmacs'] / small['mmacs']:.1f} times fewer"
        f" multiply-accumulates. {small['accuracy']:.1f} % of the test images are right, where the"
        f" teacher has {large['accuracy']:.1f} %."
    )


def said_files(table: pd.DataFrame) -> str:
    """What 8 bits change in size, time and accuracy."""
    whole, eight = table.to_dict("records")
    return (
        f"In float32 {whole['accuracy']:.1f} % of the test images are right, one takes"
        f" {whole['ms']:.2f} ms, and the file has {whole['kib']:,.0f} KiB; in 8 bits it is"
        f" {eight['accuracy']:.1f} %, {eight['ms']:.2f} ms and {eight['kib']:,.0f} KiB."
    )


def accuracies(labels: np.ndarray, predicted: np.ndarray, draws: int = 4000) -> dict[str, float]:
    """Accuracy with Wilson's 95 % interval over images, and balanced accuracy with the interval
    that follows from Jeffreys' for each class, which does not vanish where all answers are right.
    """
    right, draw = labels == predicted, np.random.default_rng(0)
    found = stats.accuracy_intervals(right)
    of_class = [right[labels == label] for label in np.unique(labels)]
    drawn = [draw.beta(c.sum() + 0.5, (~c).sum() + 0.5, draws) for c in of_class]
    low, high = np.percentile(100 * np.mean(drawn, axis=0), [2.5, 97.5])
    return {
        "accuracy": found["accuracy"],
        "low": found["pictures_low"],
        "high": found["pictures_high"],
        "balanced": 100 * float(np.mean([c.mean() for c in of_class])),
        "balanced_low": float(low),
        "balanced_high": float(high),
    }


def card_of(
    settings: YourImages, network: Teacher, table: pd.DataFrame, choice: Choice, calibration: str
) -> dict[str, Any]:
    """What one has to know of the files: the model card."""
    data = settings.data()
    return {
        "classes": list(data.classes),
        "input": f"float32 in [0, 1], N x 3 x {settings.image_size} x {settings.image_size}, RGB",
        "network": network.network,
        "width": network.width,
        "parameters": count_parameters(network.net),
        "multiply_accumulates": macs(network.net, settings.image_size),
        "method": choice.method,
        "why": choice.why,
        "training_images": len(data.train),
        "test_images": len(data.test),
        "data_fingerprint": data.fingerprint,
        "calibration": calibration,
        "files": json.loads(table.round(4).to_json(orient="records")),
        "processor": deploy.processor(),
        "licence": settings.stated_licence,
        "environment": environment("cpu", settings.threads),
    }


# uses onnxruntime, numpy (which onnxruntime brings) and Pillow alone
SCRIPT = """import json, sys
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

onnxruntime.set_default_logger_severity(3)  # no notes on constants that 8 bits leave over
network = onnxruntime.InferenceSession({file!r})
said = network.get_modelmeta().custom_metadata_map
image = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
size, short = int(said["size"]), min(image.size)
image = image.resize([size * side // short for side in image.size], Image.Resampling.BILINEAR)
left, top = [round((side - size) / 2) for side in image.size]
image = image.crop((left, top, left + size, top + size))
pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)[None] / 255
print(json.loads(said["classes"])[network.run(None, {{"images": pixels}})[0].argmax()])
"""


def readme(out: Path, card: dict[str, Any], table: pd.DataFrame, classes: pd.DataFrame) -> str:
    """What lies in the folder, how good it is, and how to use it."""
    rows = [
        f"| {r.file} | {r.accuracy:.1f} % ({r.low:.1f} to {r.high:.1f}) | {r.balanced:.1f} %"
        f" ({r.balanced_low:.1f} to {r.balanced_high:.1f}) | {r.ms:.2f} ms | {r.kib:,.0f} KiB |"
        for r in table.itertuples()
    ]
    lines = [
        _MARK,
        f"# {out.stem}: a network for {len(card['classes'])} classes of images",
        "",
        f"It answers {', '.join(card['classes'][:12])}{' ...' if len(card['classes']) > 12 else ''},"
        " and always one of them, also for an image of something else."
        f" {card['parameters']:,} parameters; {card['multiply_accumulates'] / 1e6:.1f} million"
        " multiply-accumulates an image.",
        "",
        "| file | accuracy | mean over classes | one image | size |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"On {card['test_images']:,} test images that were not trained on, with 95 % intervals over"
        f" images; times: {card['processor']}. {said_classes(classes)} `{out.stem}-card.json` has all"
        " classes, and the rest.",
        "",
        f"How it was trained: {card['why']} (KD: with a teacher's answers beside the labels; IG: with"
        " maps of what the teacher's answers rest on. Points: percentage points of the mean over"
        " classes.) The way of training was chosen on the same test images.",
        "",
        f"Licence: {card['licence']}",
        "",
        "## Use",
        "",
        "`pip install onnxruntime pillow`, then `python use.py image.png` in this folder, with this as"
        " `use.py`. It takes images of 8 bits a colour, turns them upright, lays what is transparent"
        " over white, and cuts out the middle square:",
        "",
        "```python",
        SCRIPT.format(file=out.name).rstrip(),
        "```",
        "",
        f"For the file in 8 bits, write `{out.stem}-int8.onnx` in its place. Take it where the table"
        " above, or your own device, shows it to be smaller or faster.",
    ]
    return "\n".join(lines) + "\n"


def warning(teacher: Result | GivenTeacher, data: Dataset) -> str:
    """What is wrong with a teacher that knows no more than the largest class; else empty."""
    share = 100 * torch.bincount(data.test.labels).max().item() / len(data.test)
    found = teacher.last.test_accuracy
    if found is None or found > share + 5:
        return ""
    return (
        f"the teacher has {found:.1f} % of the test images right, where always answering the largest"
        f" class gives {share:.1f} %: train it longer (teacher_epochs), or give one"
    )


def about_classes(data: Dataset) -> pd.DataFrame:
    """How many images each class has to train on, and to test."""
    counts = {
        part: torch.bincount(split.labels, minlength=len(data.classes)).tolist()
        for part, split in (("training", data.train), ("test", data.test))
    }
    return pd.DataFrame({"class": list(data.classes), **counts})
