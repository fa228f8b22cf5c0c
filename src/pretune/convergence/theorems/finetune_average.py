"""The average squared gradient norm over fine-tuning alone, which rewards pre-training only under Polyak-Lojasiewicz.

Assumptions: those of `final_gap`; ``N >= 1``.

Statement: ``(1/N) sum_{M<=n<M+N} E |grad F(w_n)|^2 <= [2 D_M + N L eta^2 S(b)] / (N eta (2 - L eta))`` with ``D_M`` of
`final_gap`. (Without the inequality the best that is known of ``F(w_M)`` is Delta plus what the shift and the noise
add, so that a bound on this average could never reward pre-training.)

Proof sketch: `trajectory` for fine-tuning alone, from ``w_M``, whose expected gap is at most ``D_M``.

Tight: for an isotropic Hessian, ``eta0 = eta = 1/L`` and no noise at the devices.

Source: our own, from the two.
"""

from __future__ import annotations

from dataclasses import replace

from pretune.convergence.theorems import final_gap
from pretune.convergence.theorems.quadratic import Quadratic, moments


def check(q: Quadratic) -> tuple[float, float]:
    """The average of the exact ``E |grad F|^2`` over fine-tuning, and the bound on it; `q` has rounds of it."""
    reached = final_gap.check(replace(q, finetune_rounds=0))[1] if q.pretrain_rounds else q.gap
    step, smooth, rounds = q.finetune_step, q.smoothness, q.finetune_rounds
    bound = (2.0 * reached + rounds * smooth * step**2 * q.device_variance) / (rounds * step * (2.0 - smooth * step))
    return float(moments(q).gradient_sq[q.pretrain_rounds : -1].mean()), bound
