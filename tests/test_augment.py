import numpy as np
import pytest
import torch
from scipy.stats import kstest

from kdig.core.augment import crop_flip, draw_views, normalise_map, overlay, phase_scrambled


def views(n, padding=2, flip=True, seed=0):
    return draw_views(n, padding, flip, torch.Generator().manual_seed(seed))


def test_picture_and_map_move_together():
    """A picture whose pixels hold their own coordinates, and a map that is one of its channels."""
    rows, columns = torch.meshgrid(torch.arange(1, 9), torch.arange(1, 9), indexing="ij")
    pictures = torch.stack([rows, columns, 10 * rows + columns]).float().expand(200, 3, 8, 8)
    v = views(200)
    moved, maps = crop_flip(pictures, v, 2), crop_flip(pictures[:, 2:], v, 2)
    assert torch.equal(moved[:, 2], maps[:, 0])
    assert (moved[:, 2] != pictures[:, 2]).flatten(1).any(1).float().mean() > 0.9


def test_crop_and_flip_equal_the_slow_way():
    pictures = torch.rand(50, 3, 8, 8)
    v = views(50)
    padded = torch.nn.functional.pad(pictures, [2] * 4)
    for i, moved in enumerate(crop_flip(pictures, v, 2)):
        window = padded[i, :, v.dy[i] : v.dy[i] + 8, v.dx[i] : v.dx[i] + 8]
        assert torch.equal(moved, window.flip(2) if v.flip[i] else window)


def test_crops_and_flips_are_uniform():
    v = views(20_000)
    assert torch.bincount(v.dy, minlength=5).tolist() == pytest.approx([4000] * 5, rel=0.08)
    assert torch.bincount(v.dx, minlength=5).tolist() == pytest.approx([4000] * 5, rel=0.08)
    assert v.flip.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert not views(100, flip=False).flip.any()


def test_exponent_is_log_uniform_on_one_to_two():
    exponent = views(5000).exponent.numpy()
    assert exponent.min() >= 1
    assert exponent.max() <= 2
    assert kstest(np.log2(exponent), "uniform").pvalue > 0.01
    assert (
        kstest(exponent - 1, "uniform").pvalue < 1e-6
    )  # a plain uniform draw would fail the line above


def test_overlay_follows_equations_4_to_6():
    pictures, maps, s = torch.rand(5, 3, 4, 4), torch.rand(5, 4, 4) * 7, torch.linspace(1, 2, 5)
    result = overlay(pictures, maps, s)
    for x, ig, power, mixed in zip(pictures, maps, s, result):
        scaled = ig**power
        hat = (scaled - scaled.min()) / (scaled.max() - scaled.min())
        assert torch.allclose(mixed, 0.5 * x + 0.5 * hat, atol=1e-6)
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("value", [0.0, 1e-30, 3.5])
def test_constant_map_gives_zeros_and_no_nan(value):
    normalised = normalise_map(torch.full((2, 4, 4), value), torch.tensor([1.0, 2.0]))
    assert torch.equal(normalised, torch.zeros(2, 4, 4))


def test_same_seed_same_views_and_another_epoch_others():
    assert torch.equal(views(100).dy, views(100).dy)
    assert not torch.equal(views(100).dy, views(100, seed=1).dy)


def test_phase_scrambled_maps_are_as_coarse_and_elsewhere():
    maps = torch.rand(6, 9, 8) ** 4
    scrambled = phase_scrambled(maps, torch.Generator().manual_seed(0))
    assert torch.equal(scrambled, phase_scrambled(maps, torch.Generator().manual_seed(0)))
    assert scrambled.amin((1, 2)).abs().max() < 1e-6
    amplitude, kept = (
        torch.fft.fft2(m).abs().flatten(1)[:, 1:] for m in (maps, scrambled)
    )  # all but the mean
    assert torch.allclose(kept, amplitude, atol=1e-4)
    for before, after in zip(maps, scrambled):
        assert abs(np.corrcoef(before.flatten(), after.flatten())[0, 1]) < 0.5
