"""Quadratics that differ from device to device, on which local steps can be followed exactly, in expectation.

``F_k(w) = 1/2 sum_i h_ki (w_i - c_ki)^2`` with ``h_ki > 0``, so ``F = sum_k alpha_k F_k`` has the curvatures
``h = sum_k alpha_k h_k``, the smoothness that every ``F_k`` keeps is ``L = max h_ki`` and the Polyak-Lojasiewicz
constant ``mu = min h_i``. A device's gradient is ``grad F_k + noise`` with given variances per coordinate, afresh in
every local step. Per coordinate the K models' means and covariances obey

    u_k <- u_k - eta h_k (u_k - c_k)        C <- D C D + eta^2 diag(noise),    D = diag(1 - eta h_k)

and all become their average's at the end of a round. Pre-training is that of `Quadratic`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretune.constants import Convergence
from pretune.physics.types import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Crowd:
    """K devices' quadratics in d coordinates, the start, both stages' noises and steps, rounds, and local steps.

    `weights` (K,); `curvature`, `centre` and `device_noise` (K, d), the last the variances of a device's gradient per
    coordinate; `start`, `shift` and `server_noise` (d,) as in `Quadratic`. Steps are in ``(0, 1/L]``.
    """

    weights: Floats
    curvature: Floats
    centre: Floats
    device_noise: Floats
    start: Floats
    shift: Floats
    server_noise: Floats
    pretrain_step: float
    finetune_step: float
    pretrain_rounds: int
    finetune_rounds: int
    local_steps: int

    @property
    def smoothness(self) -> float:
        """``L`` of every device's objective."""
        return float(max(self.curvature.max(), self.mean_curvature.max()))  # the latter by rounding alone

    @property
    def mean_curvature(self) -> Floats:
        """``h`` of the task objective, shape (d,)."""
        return np.asarray(self.weights @ self.curvature)

    @property
    def minimum(self) -> Floats:
        """``argmin F``, shape (d,)."""
        return np.asarray(self.weights @ (self.curvature * self.centre) / self.mean_curvature)

    def constants(self, heterogeneity: float) -> Convergence:
        """As a scenario has them, with all batches of one sample."""
        return Convergence(
            smoothness=self.smoothness,
            initial_gap=float(0.5 * self.mean_curvature @ (self.start - self.minimum) ** 2),
            shift=float(np.linalg.norm(self.shift)),
            pretrain_step=self.pretrain_step,
            finetune_step=self.finetune_step,
            pretrain_variance=float(self.server_noise.sum()),
            finetune_variance=tuple(self.device_noise.sum(axis=1).tolist()),
            pl_constant=float(self.mean_curvature.min()),
            local_steps=self.local_steps,
            heterogeneity=heterogeneity,
        )

    def noise(self, drift_share: float) -> Floats:
        """``A_k`` of the criteria, shape (K,)."""
        return np.asarray(
            (self.weights**2 + drift_share * self.weights * (1.0 - self.weights)) * self.device_noise.sum(axis=1)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CrowdMoments:
    """What is exact of a run: M models of pre-training, then E averaged models of every round, then the last one.

    `gradient_sq` and `gap` have shape (M + N E + 1,). `heterogeneity` is the largest root mean square distance of the
    devices' gradients from their mean, over the averaged models of fine-tuning.
    """

    gradient_sq: Floats
    gap: Floats
    heterogeneity: float


def moments(q: Crowd) -> CrowdMoments:
    """Follow both stages; exact but for rounding."""
    h, least, alpha = q.mean_curvature, q.minimum, q.weights
    mean, variance = q.start.astype(np.float64), np.zeros_like(q.start, dtype=np.float64)
    gradient_sq: list[float] = []
    gap: list[float] = []
    apart = 0.0

    def seen() -> None:
        second = (mean - least) ** 2 + variance
        gradient_sq.append(float(h**2 @ second))
        gap.append(float(0.5 * h @ second))

    for _ in range(q.pretrain_rounds):
        seen()
        mean = mean - q.pretrain_step * (h * (mean - least) + q.shift)
        variance = (1.0 - q.pretrain_step * h) ** 2 * variance + q.pretrain_step**2 * q.server_noise
    steep, offset = q.curvature - h, h * least - q.curvature * q.centre
    keep = 1.0 - q.finetune_step * q.curvature
    for _ in range(q.finetune_rounds):
        own = np.tile(mean, (len(alpha), 1))
        joint = np.tile(variance, (len(alpha), len(alpha), 1))
        for _ in range(q.local_steps):
            seen()
            apart = max(apart, float((alpha @ ((steep * mean + offset) ** 2 + steep**2 * variance)).sum()))
            own = keep * own + q.finetune_step * q.curvature * q.centre
            joint = keep[:, None] * joint * keep[None, :]
            joint[range(len(alpha)), range(len(alpha))] += q.finetune_step**2 * q.device_noise
            mean = alpha @ own
            variance = np.einsum("j,jki,k->i", alpha, joint, alpha)
    seen()
    return CrowdMoments(gradient_sq=np.array(gradient_sq), gap=np.array(gap), heterogeneity=float(np.sqrt(apart)))
