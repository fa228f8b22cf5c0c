"""Quadratics on which both stages of training can be followed exactly, in expectation, without drawing anything.

``F(w) = 1/2 sum_i h_i w_i^2`` with curvatures ``0 < mu <= h_i <= L``, so ``F* = 0``, smoothness ``L = max h`` and
Polyak-Lojasiewicz constant ``mu = min h``. The server's gradient is ``grad F(w) + z + noise`` with a constant shift
``z``, that is ``G(w) = F(w) + z'w`` and ``|grad G - grad F| = |z| = zeta`` everywhere; a device average is ``grad
F(w) + noise``. The noises are independent of the model, with given variances per coordinate. Then the coordinates are
independent, and the mean ``m`` and the variance ``v`` of each obey

    m <- m - eta (h m + z)          v <- (1 - eta h)^2 v + eta^2 c

so ``E |grad F|^2 = sum h^2 (m^2 + v)`` and ``E F = 1/2 sum h (m^2 + v)`` are known at every round to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretune.constants import Convergence
from pretune.physics.types import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Quadratic:
    """A quadratic in d coordinates with a start, both stages' noises and steps, and the rounds; arrays of shape (d,).

    `server_noise` and `device_noise` are variances of a round's gradient per coordinate: their sums are ``sigma0^2/b0``
    and ``S(b)``. Steps are in ``(0, 1/L]``; not both rounds are zero.
    """

    curvature: Floats
    start: Floats
    shift: Floats
    server_noise: Floats
    device_noise: Floats
    pretrain_step: float
    finetune_step: float
    pretrain_rounds: int
    finetune_rounds: int

    @property
    def smoothness(self) -> float:
        """``L``."""
        return float(self.curvature.max())

    @property
    def pl_constant(self) -> float:
        """``mu``."""
        return float(self.curvature.min())

    @property
    def zeta(self) -> float:
        """The gradient shift, everywhere."""
        return float(np.linalg.norm(self.shift))

    @property
    def gap(self) -> float:
        """``Delta = F(w_0) - F*``."""
        return float(0.5 * self.curvature @ self.start**2)

    @property
    def device_variance(self) -> float:
        """``S(b)``: of a round's averaged gradient."""
        return float(self.device_noise.sum())

    @property
    def constants(self) -> Convergence:
        """As a scenario has them, with all batches of one sample."""
        return Convergence(
            smoothness=self.smoothness,
            initial_gap=self.gap,
            shift=self.zeta,
            pretrain_step=self.pretrain_step,
            finetune_step=self.finetune_step,
            pretrain_variance=float(self.server_noise.sum()),
            finetune_variance=self.device_variance,
            pl_constant=self.pl_constant,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """``E |grad F|^2`` and ``E F - F*`` at the models w_0, ..., w_{M+N}, shape (M + N + 1,)."""

    gradient_sq: Floats
    gap: Floats


def moments(q: Quadratic) -> Moments:
    """Follow both stages; exact but for rounding."""
    h, mean, variance = q.curvature, q.start.astype(np.float64), np.zeros_like(q.start, dtype=np.float64)
    gradient_sq, gap = [], []
    for round_ in range(q.pretrain_rounds + q.finetune_rounds + 1):
        second = mean**2 + variance
        gradient_sq.append(float(h**2 @ second))
        gap.append(float(0.5 * h @ second))
        first = round_ < q.pretrain_rounds
        step = q.pretrain_step if first else q.finetune_step
        mean = mean - step * (h * mean + (q.shift if first else 0.0))
        variance = (1.0 - step * h) ** 2 * variance + step**2 * (q.server_noise if first else q.device_noise)
    return Moments(gradient_sq=np.array(gradient_sq), gap=np.array(gap))
