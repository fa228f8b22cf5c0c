"""A round's gradient in two halves and what is over, so that how far the halves are apart tells of the noise.

The formula, and what it assumes, are in `pretune.control.noise`. Every sample is computed once, as in one go: the
three parts add up to the round's gradient but for rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pretune.control.noise import Look
from pretune.physics.types import Floats, Ints
from pretune.runtime.gradient import Gradient, fused_gradient, norm_sq
from pretune.runtime.local import Crew
from pretune.runtime.sampling import draw
from pretune.runtime.task import PerSampleLoss


def halves_of(batch: Ints) -> Ints:
    """Which half each sample of a round is in, those of member 0 first: 0 or 1, and 2 for the odd one of a batch."""
    within = np.arange(int(batch.sum())) - np.repeat(np.cumsum(batch) - batch, batch)
    found: Ints = np.minimum(within // np.maximum(np.repeat(batch // 2, batch), 1), 2)
    return np.where(np.repeat(batch, batch) == 1, 2, found)


def halved_gradient(
    crew: Crew, model: nn.Module, loss: PerSampleLoss, seed: int, round_: int, variance: Floats
) -> tuple[Gradient, Look | None]:
    """A crew's gradient (one step, samples that do not influence each other), and the look at its noise.

    `variance` has shape (K,): what the scenario states for each member. No look where all batches are of one sample,
    or where the stated variances are zero, so that there is no ratio to it.
    """
    rows = torch.from_numpy(draw(seed, crew.stage, round_, crew.size_column, crew.offset_column))
    half = torch.from_numpy(halves_of(crew.batch))
    found: list[Gradient] = []
    for which in range(3):
        mine = half == which
        if bool(mine.any()):
            found.append(fused_gradient(model, loss, crew.data, crew.weight_column[mine], rows[mine]))
    paired = 2.0 * (crew.batch // 2) * np.square(crew.shares / crew.batch)
    expected = float((paired * variance).sum())
    parts = [sum(pieces[1:], start=pieces[0]) for pieces in zip(*(one.parts for one in found), strict=True)]
    whole = Gradient(loss=sum(one.loss for one in found), parts=parts, norm_sq=norm_sq(parts))
    if not expected > 0.0:
        return whole, None
    apart = [a - b for a, b in zip(found[0].parts, found[1].parts, strict=True)]
    return whole, Look(difference_sq=norm_sq(apart), expected_sq=expected)
