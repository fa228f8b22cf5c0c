"""What a fine-tuning round of E local steps is worth, and what the devices' drift costs it (docs/theorems.md, proof).

Within a round the devices' models ``w_k`` leave their average ``w = sum_k alpha_k w_k``. A local step moves the average
by a gradient that is off by at most ``L`` times their root mean square distance from it, so it is a biased gradient
step, as one of pre-training is: with Young's share ``rho`` twice the objective falls by ``weight |grad F(w)|^2`` less a
cost. The squared distance after ``e`` local steps is at most ``eta^2 (a_e^2 G^2 + t_e T)`` with

    a_0 = t_0 = 0,    a_{e+1} = (1 + L eta) a_e + 1,    t_{e+1} = (1 + L eta) (a_{e+1} / a_e) t_e + 1    (t_1 = 1)

where ``G`` bounds the devices' heterogeneity, ``sum_k alpha_k |grad F_k - grad F|^2 <= G^2``, and
``T = sum_k alpha_k (1 - alpha_k) sigma_k^2 / b_k``. The first local step has no drift, so one local step is FedSGD.

Assumptions: every ``F_k`` is L-smooth, the batches of all devices and local steps are independent, ``eta <= 1/L``.
Source: our own; the averaged models of a round are those of Stich, "Local SGD converges fast and communicates little"
(ICLR 2019), and of Wang and Joshi, "Cooperative SGD" (JMLR 22, 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pretune.constants import Convergence

SHARE = 0.5
"""Young's rho for the local steps after the first: 1 weighs their gradients least and charges least for the drift."""


@dataclass(frozen=True, kw_only=True)
class LocalStep:
    """One local step: twice the objective falls by at least ``weight |grad F|^2`` less all costs.

    `noise` is charged on ``S = sum_k alpha_k^2 sigma_k^2 / b_k``, `spread` on ``T`` and `drift` on ``G^2``.
    """

    weight: float
    noise: float
    spread: float
    drift: float


def local_steps(smoothness: float, step: float, count: int, share: float = SHARE) -> Iterator[LocalStep]:
    """The `count` local steps of a round, in order; `share` is rho in (0, 1], and the first step needs none."""
    x = smoothness * step
    lost = max(0.0, 1.0 - x)
    reach, noisy = 0.0, 0.0
    for index in range(count):
        noise = smoothness * step**2
        if index == 0:
            yield LocalStep(weight=step * (2.0 - x), noise=noise, spread=0.0, drift=0.0)
        else:
            off = step * (x + lost / share) * x * x
            weight = step * (2.0 - x - lost * share)
            yield LocalStep(weight=weight, noise=noise, spread=off * noisy, drift=off * reach * reach)
        further = (1.0 + x) * reach + 1.0
        noisy = 1.0 + ((1.0 + x) * (further / reach) * noisy if reach > 0.0 else 0.0)
        reach = further


def in_a_round(c: Convergence, count: int, share: float = SHARE) -> LocalStep:
    """All local steps of a round together, for an average over them: what `trajectory` sums."""
    steps = list(local_steps(c.smoothness, c.finetune_step, count, share))
    return LocalStep(
        weight=sum(one.weight for one in steps),
        noise=sum(one.noise for one in steps),
        spread=sum(one.spread for one in steps),
        drift=sum(one.drift for one in steps),
    )


def at_its_end(c: Convergence, mu: float, count: int, share: float = SHARE) -> LocalStep:
    """What a round does to the gap of the averaged model under the Polyak-Lojasiewicz inequality.

    The gap becomes at most ``(1 - weight) gap + noise S + spread T + drift G^2``.
    """
    keep, noise, spread, drift = 1.0, 0.0, 0.0, 0.0
    for one in local_steps(c.smoothness, c.finetune_step, count, share):
        kept = max(0.0, 1.0 - mu * one.weight)
        keep *= kept
        noise, spread, drift = (
            kept * old + 0.5 * new for old, new in ((noise, one.noise), (spread, one.spread), (drift, one.drift))
        )
    return LocalStep(weight=1.0 - keep, noise=noise, spread=spread, drift=drift)
