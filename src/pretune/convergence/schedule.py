"""Rounds cut into segments: how many rounds each has, and what of the criterion its batches decide.

A stage of ``R`` rounds and ``J`` segments: segment ``j`` holds rounds ``floor(jR/J)`` up to ``floor((j+1)R/J)``, so the
lengths differ by one at most, and a stage of fewer rounds than segments has empty ones. The shape of the criteria
(`criteria`) becomes

    Gamma = [ phi + sum_j psi0_j / b0_j + sum_j psi_j sum_k A_k / b_jk ] / weight

trajectory: every round weighs the same, so ``psi_j`` is ``psi`` times the segment's share of the rounds. final: noise
of a fine-tuning round fades by ``q`` with every round after it, so ``psi_j = q^(N - end_j) (1 - q^len_j) c``; likewise
``psi0_j = q^N r^(M - end_j) (1 - r^len_j) c0``. Both sum up to the shape's ``psi0`` and ``psi``. Source: math.md
section 3, from unrolling the recursion of section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.convergence.criteria import ConvergenceCriterion, Final, Rounds, Trajectory
from pretune.physics.types import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentCoefficients:
    """``phi``, ``weight`` and, with the segments along the first axis, lengths and coefficients of both stages."""

    weight: Any
    phi: Any
    pretrain_rounds: Floats
    finetune_rounds: Floats
    psi0: Floats
    psi: Floats


def ends(rounds: Rounds, schedule: int) -> Floats:
    """Where the segments end: ``floor((j+1)R/J)``, shape (J,) or (J, *rounds.shape)."""
    rounds = np.asarray(rounds, dtype=np.float64)
    steps = np.arange(1, schedule + 1, dtype=np.float64).reshape(-1, *(1,) * rounds.ndim)
    found: Floats = np.floor(steps * rounds / schedule)
    return found


def lengths(rounds: Rounds, schedule: int) -> Floats:
    """The rounds of each segment, shape (J,) or (J, *rounds.shape); they add up to `rounds`."""
    found: Floats = np.diff(ends(rounds, schedule), axis=0, prepend=0.0)
    return found


def segment_coefficients(
    criterion: ConvergenceCriterion, pretrain_rounds: Rounds, finetune_rounds: Rounds, schedule: int
) -> SegmentCoefficients:
    """The coefficients at whole rounds (not both zero); numbers, or arrays of the same shape.

    Raises:
        TypeError: it is not known how the criterion's noise is spread over its rounds.
    """
    whole = criterion.at(pretrain_rounds, finetune_rounds)
    end0, end1 = ends(pretrain_rounds, schedule), ends(finetune_rounds, schedule)
    length0, length1 = lengths(pretrain_rounds, schedule), lengths(finetune_rounds, schedule)
    if isinstance(criterion, Trajectory):
        psi0, psi = length0 * criterion.server_noise, length1 * criterion.device_noise
    elif isinstance(criterion, Final):
        keep = np.exp(criterion.log_q * np.asarray(finetune_rounds, dtype=np.float64))
        psi0 = keep * criterion.server_noise * _faded(criterion.log_r, pretrain_rounds - end0, length0)
        psi = criterion.device_noise * _faded(criterion.log_q, finetune_rounds - end1, length1)
    else:
        raise TypeError(f"criterion {criterion.name} is not known round by round")
    return SegmentCoefficients(
        weight=whole.weight, phi=whole.phi, pretrain_rounds=length0, finetune_rounds=length1, psi0=psi0, psi=psi
    )


def _faded(log_keep: float, after: Floats, length: Floats) -> Floats:
    """``keep^after (1 - keep^length)``: the weight of a segment that `after` rounds follow."""
    faded: Floats = np.exp(log_keep * after) * -np.expm1(log_keep * length)
    return faded


def objective_of_segments(
    criterion: ConvergenceCriterion,
    noise: Floats,
    rounds: tuple[float, float],
    schedule: int,
    server_batches: Sequence[float],
    batches: Sequence[Floats],
) -> float:
    """The criterion's value for a decision.

    `server_batches` and `batches` (arrays of shape (K,)) hold one entry for each segment *with rounds*, in order;
    an unused stage has none.
    """
    c = segment_coefficients(criterion, *rounds, schedule)
    value = float(c.phi)
    for psi0, batch in zip(c.psi0[c.pretrain_rounds > 0.0].tolist(), server_batches, strict=True):
        value += psi0 / batch
    for psi, each in zip(c.psi[c.finetune_rounds > 0.0].tolist(), batches, strict=True):
        value += psi * float((noise / each).sum())
    return value / float(c.weight)
