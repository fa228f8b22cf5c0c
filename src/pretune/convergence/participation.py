"""What it costs a criterion that devices answer only with some probability (docs/mathematics.md).

Device k's gradient counts ``1/p_k`` times when it answers, with probability ``p_k`` and independently of the others,
and not at all otherwise (Horvitz and Thompson, 1952): the average stays unbiased. Its variance becomes

    sum_k alpha_k^2 [ sigma_k^2 / (p_k b_k) + (1 - p_k)/p_k |grad F_k|^2 ],      |grad F_k|^2 <= 2 |grad F|^2 + 2 h^2

where h bounds ``|grad F_k - grad F|`` (the scenario's `heterogeneity`; zero where it says nothing: devices alike). With
``c = sum_k alpha_k^2 (1 - p_k)/p_k`` one descent step loses ``2 c L eta^2`` of its weight and bears the noise
``L eta^2 (sum_k A_k/(p_k b_k) + 2 c h^2)``: the criterion keeps its shape.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pretune.convergence.criteria import LOG_ZERO, Calibrated, Final, Trajectory
from pretune.errors import InputError
from pretune.physics.types import Floats

Known = Trajectory | Final | Calibrated
"""The criteria that a run can go on with from its middle."""


def spread_of(weight: Floats, probability: Floats) -> float:
    """``c = sum_k alpha_k^2 (1 - p_k) / p_k``; both arguments have shape (K,)."""
    return float((np.square(weight) * (1.0 - probability) / probability).sum())


def with_participation(
    criterion: Known,
    weight: Floats,
    probability: Floats,
    *,
    heterogeneity: float = 0.0,
    pl_constant: float | None = None,
) -> Known:
    """The criterion of a fleet that answers with these probabilities; ``A_k`` is then to be divided by ``p_k``.

    Of a calibrated law only the sampling noise is counted: gradient norms are not among its terms. So it is with
    several local steps for the drift.

    Raises:
        InputError: so few answer that a step can make things worse (the weight would not be positive).
    """
    found = with_spread(criterion, spread_of(weight, probability), heterogeneity=heterogeneity, pl_constant=pl_constant)
    if found is None:
        raise InputError.field(
            "the probabilities with which devices answer",
            f"{float(probability.min()):.3g} at the least",
            "larger ones: with so few answers a step of this size need not improve the model",
        )
    return found


def with_spread(
    criterion: Known, c: float, *, heterogeneity: float = 0.0, pl_constant: float | None = None
) -> Known | None:
    """The criterion at the spread `c` of the probabilities; None where a round's weight would not be positive."""
    if isinstance(criterion, Calibrated) or c == 0.0:
        return criterion
    floor = 2.0 * c * heterogeneity**2
    if isinstance(criterion, Trajectory):
        noise = criterion.device_noise
        left = criterion.finetune_weight - 2.0 * c * noise
        if left <= 0.0:
            return None
        return replace(criterion, finetune_weight=left, drift_cost=criterion.drift_cost + floor * noise)
    fast = -math.expm1(criterion.log_q)
    noise = criterion.device_noise * fast
    left = fast - 4.0 * (pl_constant or 0.0) * c * noise
    if left <= 0.0:
        return None
    return replace(
        criterion,
        log_q=math.log1p(-left) if left < 1.0 else LOG_ZERO,
        device_noise=noise / left,
        drift_floor=(criterion.drift_floor * fast + floor * noise) / left,
    )
