"""What makes task data differ from general data: rotation, inversion, corruption, another mix of classes.

Images are float tensors of shape (n, channels, height, width) with pixels from 0 to 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pretune.physics.types import Ints

# The five severities of each corruption. The idea is that of Hendrycks and Dietterich, "Benchmarking neural network
# robustness to common corruptions and perturbations" (ICLR 2019); the figures are our own.
SEVERITIES = {
    "noise": (0.04, 0.08, 0.12, 0.18, 0.26),  # standard deviation of the added noise
    "blur": (0.4, 0.6, 0.8, 1.1, 1.5),  # standard deviation of the Gaussian kernel, pixels
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # what is left of the contrast
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # what is added to every pixel
    "pixelate": (0.85, 0.7, 0.55, 0.45, 0.35),  # what is left of the resolution
}


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Every image turned counter-clockwise about its centre, bilinear, with zeros coming in at the corners.

    Square images only: the turn is taken in coordinates from -1 to 1 along each axis.
    """
    turn = math.radians(degrees)
    matrix = torch.tensor(
        [[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]], dtype=images.dtype
    )
    grid = functional.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resize(images: Tensor, side: int) -> Tensor:
    """Every image brought to `side` x `side` pixels, bilinear."""
    return functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def corrupt(images: Tensor, kind: str, severity: int, generator: torch.Generator) -> Tensor:
    """Corrupted copies; `kind` is a key of SEVERITIES, `severity` is 1 to 5, the noise is drawn from `generator`."""
    strength = SEVERITIES[kind][severity - 1]
    if kind == "noise":
        spoilt = images + strength * torch.randn(images.shape, generator=generator, dtype=images.dtype)
    elif kind == "blur":
        spoilt = _blur(images, strength)
    elif kind == "contrast":
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        spoilt = mean + strength * (images - mean)
    elif kind == "brightness":
        spoilt = images + strength
    else:
        side = max(1, round(images.shape[-1] * strength))
        small = functional.interpolate(images, size=(side, side), mode="area")
        spoilt = functional.interpolate(small, size=images.shape[-2:], mode="nearest")
    return spoilt.clamp(0.0, 1.0)


def _blur(images: Tensor, sigma: float) -> Tensor:
    reach = math.ceil(3 * sigma)
    line = torch.arange(-reach, reach + 1, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (line / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    down = functional.conv2d(padded, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return functional.conv2d(down, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def class_mixes(
    labels: Ints, focus: tuple[int, ...], shares: tuple[float, ...], generator: np.random.Generator
) -> list[Ints]:
    """Disjoint index sets, equally large to a sample, in which the classes `focus` together make up the given shares.

    Each set is as large as the scarcer group of classes allows; within a group samples are drawn without regard to
    their class. Returns one shuffled index array per share.
    """
    inside = np.isin(labels, focus)
    groups = [generator.permutation(np.flatnonzero(mask)) for mask in (inside, ~inside)]
    wanted = [sum(shares), len(shares) - sum(shares)]
    size = int(min(len(group) / want for group, want in zip(groups, wanted, strict=True) if want > 0))
    start, sets = [0, 0], []
    for share in shares:
        counts = (math.floor(share * size), math.floor((1.0 - share) * size))  # rounded down: never more than there are
        picked = [groups[g][start[g] : start[g] + counts[g]] for g in (0, 1)]
        start = [start[g] + counts[g] for g in (0, 1)]
        sets.append(generator.permutation(np.concatenate(picked)))
    return sets
