"""The shifts between general and task data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretune.runtime.shifts import SEVERITIES, class_mixes, corrupt, resize, rotate


def _images(n: int = 3, channels: int = 1, side: int = 8) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4, -1])
def test_quarter_turns_are_exact_and_counter_clockwise(quarters):
    turned = rotate(_images(), 90.0 * quarters)
    torch.testing.assert_close(turned, torch.rot90(_images(), quarters, dims=(2, 3)), atol=1e-5, rtol=0)


def test_turning_forth_and_back_nearly_gives_the_image():
    line = torch.linspace(-1, 1, 28)
    blob = torch.exp(-8 * ((line[:, None] - 0.2) ** 2 + line[None, :] ** 2)).view(1, 1, 28, 28)
    there = rotate(blob, 30.0)
    assert float((there - blob).abs().max()) > 0.1
    assert float((rotate(there, -30.0) - blob).abs().max()) < 0.05


def test_corners_come_in_black():
    turned = rotate(torch.ones(1, 1, 8, 8), 45.0)
    assert float(turned[0, 0, 0, 0]) == 0.0
    assert float(turned[0, 0, 4, 4]) == pytest.approx(1.0)


def test_resize_keeps_flat_images_flat():
    assert torch.allclose(resize(torch.full((2, 1, 16, 16), 0.3), 28), torch.full((2, 1, 28, 28), 0.3))


@pytest.mark.parametrize("kind", sorted(SEVERITIES))
@pytest.mark.parametrize("channels", [1, 3])
def test_corruptions_grow_stay_in_range_and_are_repeatable(kind, channels):
    images = resize(_images(4, channels, 8), 32)  # smooth, as photographs are

    def spoilt(severity: int) -> torch.Tensor:
        return corrupt(images, kind, severity, torch.Generator().manual_seed(1))

    distances = [float((spoilt(severity) - images).square().mean()) for severity in (1, 2, 3, 4, 5)]
    assert distances == sorted(distances)
    assert distances[0] > 0
    assert torch.equal(spoilt(3), spoilt(3))
    for severity in (1, 5):
        assert spoilt(severity).shape == images.shape
        assert 0.0 <= float(spoilt(severity).min()) <= float(spoilt(severity).max()) <= 1.0


def test_blur_keeps_the_mean_of_a_flat_image():
    flat = torch.full((1, 1, 9, 9), 0.4)
    assert torch.allclose(corrupt(flat, "blur", 5, torch.Generator()), flat, atol=1e-6)


@pytest.mark.parametrize("shares", [(0.1, 0.9), (0.0, 1.0), (0.5, 0.5), (1.0, 1.0), (0.33,), (0.0,)])
def test_class_mixes_hold_the_shares_and_are_disjoint(shares):
    labels = np.arange(1000) % 10
    sets = class_mixes(labels, (0, 1, 8), shares, np.random.default_rng(0))
    everything = np.concatenate(sets)
    assert len(np.unique(everything)) == len(everything)
    for picked, share in zip(sets, shares, strict=True):
        assert abs(len(picked) - len(sets[0])) <= 1
        assert np.isin(labels[picked], (0, 1, 8)).mean() == pytest.approx(share, abs=2 / len(picked))
    # one group of classes is used up
    inside = np.isin(labels[everything], (0, 1, 8))
    assert inside.sum() >= 300 - 2 or (~inside).sum() >= 700 - 2
