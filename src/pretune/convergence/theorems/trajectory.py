"""The average squared gradient norm over both stages: the criterion `trajectory`.

Assumptions: those of `descent_pretrain` and `descent_finetune` at every round, and ``F >= F*``;
``Delta = F(w_0) - F*``.

Statement: with the weights ``w0 = eta0`` and ``w1 = eta (2 - L eta)`` of a round of either stage, over M + N rounds,

    [w0 sum_{m<M} E |grad F(w_m)|^2 + w1 sum_{M<=n<M+N} E |grad F(w_n)|^2] / (M w0 + N w1)
        <= [2 Delta + M (eta0 zeta^2 + L eta0^2 sigma0^2/b0) + N L eta^2 S(b)] / (M w0 + N w1)

Proof sketch: twice the two descent steps, summed over all rounds; the left-hand sides telescope to ``2 (F(w_0) - E
F(w_{M+N})) <= 2 Delta``.

Tight: for an isotropic Hessian and ``eta0 = 1/L`` all that is lost is the final gap; with ``eta = 1/L``, no noise at
the devices and one round of fine-tuning or more there is none. Without noise, and with the gap counted up to the last
model, some L-smooth function attains it at any rounds as long as ``eta0 = 1/L`` or there is no shift
(`experiments/worst_cases.py`, by PEPit); with a shift and a shorter ``eta0`` the best member of `young_family` is
lower.

Source: as for the steps; put together for two stages by us.
"""

from __future__ import annotations

import numpy as np

from pretune.convergence import criteria
from pretune.convergence.theorems.quadratic import Quadratic, moments


def check(q: Quadratic) -> tuple[float, float]:
    """The weighted average of the exact ``E |grad F|^2`` over all rounds, and the criterion's value."""
    c = criteria.trajectory(q.constants)
    weights = np.repeat([c.pretrain_weight, c.finetune_weight], [q.pretrain_rounds, q.finetune_rounds])
    computed = float(weights @ moments(q).gradient_sq[:-1] / weights.sum())
    noise = np.array([q.device_variance])
    return computed, criteria.objective(c, noise, q.pretrain_rounds, q.finetune_rounds, 1.0, np.ones(1))
