"""One step of pre-training, on general data instead of the task's.

Assumptions: ``F`` is L-smooth; the server's stochastic gradient is unbiased for ``grad G`` with variance
``sigma0^2/b0``; ``|grad G(w) - grad F(w)| <= zeta``; ``0 < eta0 <= 1/L``.

Statement: ``E F(w+) <= F(w) - (eta0/2) |grad F(w)|^2 + (eta0/2) zeta^2 + L eta0^2 sigma0^2 / (2 b0)``.

Proof sketch: with ``g = grad F``, ``z = grad G - g``, smoothness and the noise's mean of zero give ``E F+ <= F - eta0
g'(g+z) + (L eta0^2/2)(|g+z|^2 + sigma0^2/b0)``; ``L eta0 <= 1`` and ``-g'(g+z) + |g+z|^2/2 = -|g|^2/2 + |z|^2/2``.

Tight: always, for an isotropic Hessian ``L I`` and ``eta0 = 1/L``.

Source: the descent lemma with a biased gradient, as in Ajalloeian and Stich, "On the convergence of SGD with biased
gradients" (arXiv:2008.00051), written out by us.
"""

from __future__ import annotations

from dataclasses import replace

from pretune.convergence.theorems.quadratic import Quadratic, moments


def check(q: Quadratic) -> tuple[float, float]:
    """``E F(w_1)`` after one round of pre-training from the start, and the bound on it (`q`'s rounds are not used)."""
    one = replace(q, pretrain_rounds=1, finetune_rounds=0)
    found = moments(one)
    step = q.pretrain_step
    gain = 0.5 * step * float(found.gradient_sq[0])
    cost = 0.5 * step * q.zeta**2 + 0.5 * q.smoothness * step**2 * float(q.server_noise.sum())
    return float(found.gap[1]), q.gap - gain + cost
