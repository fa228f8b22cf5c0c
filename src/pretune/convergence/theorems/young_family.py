"""The family of bounds behind `trajectory`: how much of the shift is paid by the gradient, ``rho`` in (0, 1].

Assumptions: those of `trajectory`.

Statement: `trajectory` holds with the weight of a pre-training round and its shift term replaced by

    w0(rho) = eta0 [2 - L eta0 - (1 - L eta0) rho]        eta0 [L eta0 + (1 - L eta0)/rho] zeta^2

``rho = 1`` is `trajectory`. A smaller one weighs pre-training's gradients more, up to ``eta0 (2 - L eta0)``, and pays
more for the shift. At ``eta0 = 1/L`` all are the same.

Proof sketch: in the proof of `descent_pretrain` the cross term is ``-eta0 (1 - L eta0) g'z``, and by Young's
inequality ``-g'z <= rho |g|^2/2 + |z|^2/(2 rho)``.

Tight: for an isotropic Hessian in a step where ``z = -rho g``; the best rho for one step is the worst case of all
L-smooth functions (`experiments/worst_cases.py`, by PEPit).

Source: our own; Young's inequality.
"""

from __future__ import annotations

import numpy as np

from pretune.convergence.theorems.quadratic import Quadratic, moments


def check(q: Quadratic, rho: float = 0.5) -> tuple[float, float]:
    """The average of the exact ``E |grad F|^2`` with the family's weights, and its bound."""
    step0, step, smooth = q.pretrain_step, q.finetune_step, q.smoothness
    lost = max(0.0, 1.0 - smooth * step0)
    weight0 = step0 * (2.0 - smooth * step0 - lost * rho)
    weights = np.repeat([weight0, step * (2.0 - smooth * step)], [q.pretrain_rounds, q.finetune_rounds])
    computed = float(weights @ moments(q).gradient_sq[:-1] / weights.sum())
    shift = step0 * (smooth * step0 + lost / rho) * q.zeta**2
    noise0 = smooth * step0**2 * float(q.server_noise.sum())
    noise = smooth * step**2 * q.device_variance
    total = 2.0 * q.gap + q.pretrain_rounds * (shift + noise0) + q.finetune_rounds * noise
    return computed, total / float(weights.sum())
