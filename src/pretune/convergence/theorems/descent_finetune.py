"""One step of fine-tuning.

Assumptions: ``F`` is L-smooth; the averaged gradient is unbiased for ``grad F``, and the devices' errors are
independent, so that its variance is ``S(b) = sum_k alpha_k^2 sigma_k^2 / b_k``; ``0 < eta <= 1/L``.

Statement: ``E F(w+) <= F(w) - eta (1 - L eta/2) |grad F(w)|^2 + L eta^2 S(b) / 2``.

Proof sketch: the descent lemma, ``E F+ <= F - eta |g|^2 + (L eta^2/2)(|g|^2 + S)``.

Tight: always, for an isotropic Hessian, at any step.

Source: Ghadimi and Lan, "Stochastic first- and zeroth-order methods for nonconvex stochastic programming" (SIAM J.
Optim. 23, 2013); Bottou, Curtis and Nocedal, "Optimization methods for large-scale machine learning" (SIAM Review 60,
2018), Lemma 4.4.
"""

from __future__ import annotations

from dataclasses import replace

from pretune.convergence.theorems.quadratic import Quadratic, moments


def check(q: Quadratic) -> tuple[float, float]:
    """``E F(w_1)`` after one round of fine-tuning from the start, and the bound on it (`q`'s rounds are not used)."""
    found = moments(replace(q, pretrain_rounds=0, finetune_rounds=1))
    step, smooth = q.finetune_step, q.smoothness
    gain = step * (1.0 - 0.5 * smooth * step) * float(found.gradient_sq[0])
    return float(found.gap[1]), q.gap - gain + 0.5 * smooth * step**2 * q.device_variance
