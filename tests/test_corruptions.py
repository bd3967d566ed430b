"""Damaged pictures: what stays, what is lost, and that nothing but the picture and the settings
decides it.
"""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import get_sampling
from torch import nn
from torchvision.transforms import v2

from kdig import KdigError
from kdig.core.data import Split
from kdig.core.store import Workspace
from kdig.measure import corruptions

# mild to severe; each as unlike the one before as the test of monotone damage needs
SEVERITIES = {
    "jpeg": (95, 75, 30),
    "jpeg_444": (95, 75, 30),
    "noise": (5, 20, 60),
    "blur": (0.5, 1.0, 2.0),
    "contrast": (0.9, 0.5, 0.1),
    "contrast_channels": (0.9, 0.5, 0.1),
}
CASES = [(kind, value) for kind, values in SEVERITIES.items() for value in values]


def smooth(size, count=6, seed=0):
    """Coloured pictures whose neighbouring pixels are alike, as in photographs."""
    coarse = torch.randint(
        30, 226, (count, 3, 4, 4), generator=torch.Generator().manual_seed(seed)
    ).float()
    return v2.functional.resize(coarse, [size, size], antialias=True).round().to(torch.uint8)


def distance(a, b):
    return (a.float() - b.float()).square().mean().sqrt().item()


@pytest.mark.parametrize("size", [8, 12, 16, 32])
@pytest.mark.parametrize("kind", SEVERITIES)
def test_pictures_keep_their_form_and_more_is_worse(kind, size):
    images = smooth(size)
    before = images.clone()
    damaged = [corruptions.corrupt(images, kind, severity) for severity in SEVERITIES[kind]]
    assert all(d.shape == images.shape and d.dtype == torch.uint8 for d in damaged)
    assert torch.equal(images, before), "the pictures themselves were changed"
    lost = [distance(images, d) for d in damaged]
    assert 0 < lost[0] < lost[1] < lost[2]


@pytest.mark.parametrize(
    ("kind", "mild"),
    [("none", 0.0), ("noise", 0.0), ("contrast", 1.0), ("contrast_channels", 1.0), ("blur", 0.05)],
)
def test_mild_ends_change_nothing(kind, mild):
    images = smooth(16)
    assert torch.equal(corruptions.corrupt(images, kind, mild), images)


@pytest.mark.parametrize(("kind", "severity"), CASES)
def test_equal_arguments_give_equal_pictures_whatever_was_drawn_before(kind, severity):
    images = smooth(12)
    first = corruptions.corrupt(images, kind, severity)
    torch.rand(7)
    state = torch.get_rng_state()
    assert torch.equal(corruptions.corrupt(images, kind, severity), first)
    assert torch.equal(torch.get_rng_state(), state), "the process's generator was used"


@pytest.mark.parametrize(("kind", "severity"), CASES)
def test_neighbours_in_the_batch_do_not_matter(kind, severity):
    images = smooth(12)
    others = torch.cat([images[:2], smooth(12, 4, seed=1)])
    assert torch.equal(
        corruptions.corrupt(images, kind, severity)[:2],
        corruptions.corrupt(others, kind, severity)[:2],
    )


def test_noise_has_the_asked_spread_and_follows_the_seed():
    grey = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    drawn = corruptions.corrupt(grey, "noise", 20.0).double() - 128
    assert drawn.std().item() == pytest.approx(20, rel=0.02)
    assert abs(drawn.mean().item()) < 0.5
    assert not torch.equal(
        corruptions.corrupt(grey, "noise", 20.0, seed=1), corruptions.corrupt(grey, "noise", 20.0)
    )


def test_blur_keeps_brightness_and_contrast_keeps_the_mean_grey():
    images = smooth(16)
    assert corruptions.corrupt(images, "blur", 1.0).float().mean().item() == pytest.approx(
        images.float().mean().item(), abs=3
    )
    flat = corruptions.corrupt(images, "contrast", 0.0).float()
    assert flat.flatten(1).std(1).max() < 1
    grey = v2.functional.rgb_to_grayscale(images).float().mean((1, 2, 3))
    assert torch.allclose(flat.mean((1, 2, 3)), grey, atol=1.5)


def test_colour_is_kept_at_half_the_resolution():
    """Stripes of one pixel: in brightness they survive, in colour alone (equal brightness) only
    without subsampling.
    """
    stripes = torch.zeros(1, 3, 16, 16)
    stripes[:, 0, :, ::2], stripes[:, 2, :, 1::2] = 200.0, 200.0
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    stripes[:, 1] = (100 - (stripes * luma).sum(1)) / 0.587  # green makes the brightness equal
    images = stripes.round().to(torch.uint8)

    def contrast(pictures):
        return (pictures[0, 0, :, ::2].float() - pictures[0, 0, :, 1::2].float()).mean().item()

    assert contrast(images) == 200
    assert contrast(corruptions.jpeg(images, 95, "4:4:4")) > 150
    assert abs(contrast(corruptions.jpeg(images, 95))) < 30
    assert torch.equal(
        corruptions.corrupt(images, "jpeg", 95), corruptions.jpeg(images, 95, "4:2:0")
    )
    grey = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    grey[..., ::2] = 200
    assert contrast(corruptions.jpeg(grey, 95)) > 180


@pytest.mark.parametrize(("name", "code"), [("4:2:0", 2), ("4:4:4", 0)])
def test_the_file_says_which_subsampling_it_has(monkeypatch, name, code):
    seen = []
    opened = Image.open
    monkeypatch.setattr(
        corruptions.Image,
        "open",
        lambda file: seen.append(get_sampling(opened(file))) or opened(file),
    )
    corruptions.jpeg(smooth(16, 2), 75, name)
    assert seen == [code, code]


def test_jpeg_is_that_of_the_library():
    image = smooth(16, 1)
    file = io.BytesIO()
    Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=60, subsampling=2)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    assert torch.equal(corruptions.corrupt(image, "jpeg", 60.0)[0], expected)


def test_unknown_damage_is_one_line():
    with pytest.raises(KdigError, match="unknown damage 'fog'"):
        corruptions.corrupt(smooth(8), "fog", 1.0)


class Brightness(nn.Module):
    """Class 1 for pictures whose mean is above a threshold."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        mean = x.mean((1, 2, 3)) - self.threshold
        return torch.stack([-mean, mean], 1)


def test_answers_by_condition_and_network():
    images = torch.tensor([40, 100, 200], dtype=torch.uint8).view(3, 1, 1, 1).repeat(1, 3, 8, 8)
    split = Split(images, torch.tensor([0, 0, 1]), ("a", "b", "c"))
    models = {"half": Brightness(0.5), "low": Brightness(0.3)}
    answers = corruptions.right_answers(models, split, [("none", 0.0), ("contrast", 1.0)])
    assert list(answers) == [("none", 0.0), ("contrast", 1.0)]
    for condition in answers.values():
        assert condition["half"].tolist() == [True, True, True]
        assert condition["low"].tolist() == [True, False, True]


@pytest.fixture
def three():
    images = torch.tensor([40, 100, 200], dtype=torch.uint8).view(3, 1, 1, 1).repeat(1, 3, 8, 8)
    return Split(images, torch.tensor([0, 0, 1]), ("a", "b", "c"))


def test_what_a_network_has_answered_is_not_asked_again(three, tmp_path):
    models, weights = {"half": Brightness(0.5), "low": Brightness(0.3)}, {"half": "h", "low": "l"}
    loaded = []

    def kept(*conditions):
        def load(name):
            loaded.append(name)
            return models[name]

        return corruptions.kept_answers(weights, load, three, conditions, Workspace(tmp_path))

    none, contrast = ("none", 0.0), ("contrast", 1.0)
    for conditions, asked in (([none], 2), ([none], 0), ([contrast, none], 2)):
        loaded.clear()
        answers, whole = kept(*conditions), corruptions.right_answers(models, three, conditions)
        assert len(loaded) == asked
        assert list(answers) == conditions
        for one in conditions:
            assert {k: v.tolist() for k, v in answers[one].items()} == {
                k: v.tolist() for k, v in whole[one].items()
            }


def test_answers_are_those_of_the_images(three, tmp_path):
    """Fewer images, or the same at another size, are asked anew."""
    net, workspace = Brightness(0.3), Workspace(tmp_path)
    smaller = replace(three, images=three.images[:, :, ::2, ::2])
    for split in (three, three.select(torch.tensor([0, 2])), smaller):
        kept = corruptions.kept_answers({0: "w"}, lambda _: net, split, [("none", 0.0)], workspace)
        assert len(kept["none", 0.0][0]) == len(split)
    assert len(list((tmp_path / "measures").glob("w-answers-*.json"))) == 3


def test_measures_of_each_image_are_those_of_the_images(three, tmp_path):
    workspace = Workspace(tmp_path)
    for split in (three, three.select(torch.tensor([2, 0]))):
        mean = split.images.float().mean((1, 2, 3))
        for _ in range(2):
            kept = workspace.per_image("mean", "w", split, lambda mean=mean: {"mean": mean})
            assert kept["mean"].tolist() == mean.tolist()


def test_answers_that_cannot_be_read_are_one_line(three, tmp_path):
    workspace = Workspace(tmp_path)
    corruptions.kept_answers({0: "w"}, lambda _: Brightness(0.3), three, [("none", 0.0)], workspace)
    (path,) = (tmp_path / "measures").glob("*.json")
    path.write_text("{")
    with pytest.raises(KdigError, match="delete it to run again"):
        corruptions.kept_answers({0: "w"}, lambda _: None, three, [("none", 0.0)], workspace)


def test_severities_of_cifar10c_are_the_published_ones():
    """make_cifar_c.py of hendrycks/robustness; noise in grey levels of 255."""
    assert corruptions.CIFAR10_C["jpeg"] == (80, 65, 58, 50, 40)
    assert corruptions.CIFAR10_C["noise"] == pytest.approx((10.2, 15.3, 20.4, 22.95, 25.5))
    assert corruptions.CIFAR10_C["blur"] == (0.4, 0.6, 0.7, 0.8, 1.0)
    assert corruptions.CIFAR10_C["contrast_channels"] == (0.75, 0.5, 0.4, 0.3, 0.15)


def test_contrast_of_a_channel_is_around_its_own_mean():
    images = torch.tensor([[[[10, 30]], [[100, 200]], [[7, 7]]]], dtype=torch.uint8)
    found = corruptions.corrupt(images, "contrast_channels", 0.5)
    assert found.tolist() == [[[[15, 25]], [[125, 175]], [[7, 7]]]]
