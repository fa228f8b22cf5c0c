"""The optimality gap of the delivered model with E local steps in a fine-tuning round: `final` of federated averaging.

Assumptions: those of `local_average`, and the Polyak-Lojasiewicz inequality of `final_gap` for ``F`` at the averaged
models.

Statement: with ``u_e``, ``v_e`` of `local_average`, ``q_e = 1 - mu u_e``, ``Q = q_0 q_1 ... q_{E-1}`` and ``D_M`` of
`final_gap`,

    E F(w_N^0) - F* <= Q^N D_M + (1 - Q^N) / (1 - Q) C
    2 C = sum_{e<E} q_{e+1} ... q_{E-1} [L eta^2 S + v_e (a_e^2 G^2 + t_e T)]    (no drift in v_0)

Proof sketch: the inequality turns each local step of `local_average` into a contraction of the averaged model's gap
with a constant added; unrolled over a round, and over the rounds.

Tight: with one local step, as `final_gap`.

Source: our own.
"""

from __future__ import annotations

import numpy as np

from pretune.constants import Convergence, Criterion
from pretune.convergence import criteria
from pretune.convergence.theorems.crowd import Crowd, moments


def check(q: Crowd) -> tuple[float, float]:
    """The exact ``E F(w) - F*`` of the delivered model, and the criterion's value."""
    found = moments(q)
    constants = with_final(q.constants(found.heterogeneity))
    noise = q.noise(criteria.drift_share(constants))
    bound = criteria.objective(
        criteria.final(constants), noise, q.pretrain_rounds, q.finetune_rounds, 1.0, np.ones(len(noise))
    )
    return float(found.gap[-1]), bound


def with_final(c: Convergence) -> Convergence:
    """The same constants for the criterion `final`."""
    return c.model_copy(update={"criterion": Criterion.FINAL})
