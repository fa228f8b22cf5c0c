"""The optimality gap of the delivered model: the criterion `final`.

Assumptions: those of `trajectory`, and the Polyak-Lojasiewicz inequality ``|grad F(w)|^2 >= 2 mu (F(w) - F*)`` along
the path, ``0 < mu <= L``.

Statement: with ``r = 1 - eta0 mu`` and ``q = 1 - mu eta (2 - L eta)``,

    E F(w_M) - F*     <= D_M = r^M Delta + (1 - r^M) (zeta^2 + L eta0 sigma0^2/b0) / (2 mu)
    E F(w_{M+N}) - F* <= q^N D_M + (1 - q^N) L eta S(b) / (2 mu (2 - L eta))

Proof sketch: the inequality turns either descent step into a contraction of the gap with a constant added; unrolled,
the constants make geometric sums.

Tight: for an isotropic Hessian (``mu = L``) and ``eta0 = 1/L``, at any ``eta`` and any rounds.

Source: Polyak (1963); Karimi, Nutini and Schmidt, "Linear convergence of gradient and proximal-gradient methods under
the Polyak-Lojasiewicz condition" (ECML 2016), Theorem 4; for two stages by us.
"""

from __future__ import annotations

import numpy as np

from pretune.convergence import criteria
from pretune.convergence.theorems.quadratic import Quadratic, moments


def check(q: Quadratic) -> tuple[float, float]:
    """The exact ``E F(w_{M+N}) - F*``, and the criterion's value."""
    noise = np.array([q.device_variance])
    bound = criteria.objective(
        criteria.final(q.constants), noise, q.pretrain_rounds, q.finetune_rounds, 1.0, np.ones(1)
    )
    return float(moments(q).gap[-1]), bound
