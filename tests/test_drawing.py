"""The drawing of the method (Figure 2)."""

import warnings

import pytest
import torch
from matplotlib import pyplot as plt

from kdig.measure import drawing, plots


def drawn(classes=("cat", "dog", "a_class_with_a_$_sign"), size=32):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, size, size, generator=generator)
    answers = [
        drawing.Answer(torch.tensor(logits), torch.rand(size // 4, size // 4, generator=generator))
        for logits in ([5.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    ]
    return drawing.method(image, image[0], image.flip(0), *answers, classes, 1, temperature=2.5)


@pytest.mark.parametrize("size", [8, 32])
def test_every_part_of_the_method_is_named_inside_of_the_page(size):
    figure = drawn(size=size)
    figure.canvas.draw()
    page = figure.bbox
    texts = [text for axis in figure.axes for text in [*axis.texts, axis.title] if text.get_text()]
    said = " ".join(text.get_text() for text in texts)
    for part in ("teacher", "student", "attribution map", "overlay", "AT", "KD", "IG", "label dog"):
        assert part in said
    for text in texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text.get_text()
    plt.close(figure)


def test_writing_it_warns_of_nothing(tmp_path):
    with warnings.catch_warnings(), plt.rc_context():
        warnings.simplefilter("error")
        plots.style()
        figure = drawn()
        for name in ("a.png", "b.png"):  # as in a notebook, which writes it and shows it
            figure.savefig(tmp_path / name, bbox_inches="tight")
    plt.close(figure)


def test_bars_are_the_softened_answers():
    figure = drawn()
    lengths = [
        [patch.get_width() for patch in axis.patches]
        for axis in figure.axes
        if len(axis.patches) == 3
    ]
    teacher = torch.tensor([5.0, 0.0, 0.0]).div(2.5).softmax(0)
    assert lengths[0] == pytest.approx(teacher.tolist())
    assert lengths[1] == pytest.approx([1 / 3] * 3)
    plt.close(figure)
