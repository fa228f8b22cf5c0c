"""The average squared gradient norm with E local steps in a fine-tuning round: `trajectory` of federated averaging.

Assumptions: those of `trajectory`; every device's ``F_k`` is L-smooth; at the averaged models of fine-tuning
``sum_k alpha_k E |grad F_k - grad F|^2 <= G^2``; all devices' batches of all local steps are independent.

Statement: let ``w_n^e`` be the average of the devices' models after ``e`` local steps of round n. With ``x = L eta``,
``rho`` in (0, 1], and ``a_e``, ``t_e`` of `pretune.convergence.drift`,

    [w0 sum_m E |grad F(w_m)|^2 + sum_n sum_{e<E} u_e E |grad F(w_n^e)|^2] / (M w0 + N sum_e u_e)
        <= [2 Delta + M (eta0 zeta^2 + L eta0^2 sigma0^2/b0) + N (E L eta^2 S + sum_{e>=1} v_e (a_e^2 G^2 + t_e T))]
           / (M w0 + N sum_e u_e)

    u_0 = eta (2 - x),    u_e = eta [2 - x - (1 - x) rho],    v_e = eta [x + (1 - x)/rho] x^2    (e >= 1)
    S = sum_k alpha_k^2 sigma_k^2/b_k,    T = sum_k alpha_k (1 - alpha_k) sigma_k^2/b_k

Proof sketch (whole in docs/theorems.md): the average moves by ``-eta (grad F(w^e) + d + noise)`` where ``|d|^2 <= L^2
V``, V the devices' mean square distance from their average: `young_family` with ``z = d``. Off the average the models
move by at most ``(1 + x) sqrt(V) + eta G``, and by noise of variance ``eta^2 T``; Young's inequality with the weights
that are exact for ``T = 0`` gives ``V <= eta^2 (a_e^2 G^2 + t_e T)``.

Tight: with one local step, as `trajectory`. Drift: in the second local step's distance, for devices of one curvature.

Source: our own; Stich (ICLR 2019), Wang and Joshi (JMLR 22, 2021) and Khaled, Mishchenko and Richtarik, "Tighter theory
for local SGD on identical and heterogeneous data" (AISTATS 2020) bound the same averages under other assumptions.
"""

from __future__ import annotations

import numpy as np

from pretune.convergence import criteria, drift
from pretune.convergence.theorems.crowd import Crowd, moments


def check(q: Crowd) -> tuple[float, float]:
    """The weighted average of the exact ``E |grad F|^2`` over all averaged models, and the criterion's value."""
    found = moments(q)
    constants = q.constants(found.heterogeneity)
    c = criteria.trajectory(constants)
    steps = [one.weight for one in drift.local_steps(q.smoothness, q.finetune_step, q.local_steps)]
    weights = np.concatenate((np.full(q.pretrain_rounds, c.pretrain_weight), np.tile(steps, q.finetune_rounds)))
    noise = q.noise(criteria.drift_share(constants))
    bound = criteria.objective(c, noise, q.pretrain_rounds, q.finetune_rounds, 1.0, np.ones(len(noise)))
    return float(weights @ found.gradient_sq[:-1] / weights.sum()), bound
