"""How good the rounds were that a run really did: one measure for all policies.

A round in which device k's gradient counts with the share ``a_k`` (zero where it did not answer) is a step of
``s = sum_k a_k`` times the gradient, where devices are alike (the digits are dealt out at random, and the scenario
names no `heterogeneity`), and its noise has the variance ``sum_k a_k^2 sigma_k^2 / b_k``. One descent step then gives,
under the criterion's own assumptions,

    D+ <= (1 - 2 mu eta s (1 - L eta s / 2)) D + (L eta^2 / 2) sum_k a_k^2 sigma_k^2 / b_k,

whoever answered and for whatever reason: no probability is assumed, and a device that is missing is a smaller step. In
the mean over who answers this is the criterion that plans and re-plans minimise, or a little less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.convergence.criteria import Final, criterion_of, device_noise
from pretune.physics.types import Floats
from pretune.scenario import Scenario


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """Of a scenario with criterion `final`, one local step and devices alike; `noise_over` is ``sigma_k^2`` (K,)."""

    final: Final
    smoothness: float
    pl_constant: float
    step: float
    noise_over: Floats

    @staticmethod
    def of(scenario: Scenario) -> Measure:
        """The scenario's constants."""
        c, base = scenario.assumed, criterion_of(scenario)
        if not isinstance(base, Final) or c.heterogeneity or c.pl_constant is None:
            raise ValueError("the measure is for criterion final and devices that are alike")
        return Measure(
            final=base,
            smoothness=c.smoothness,
            pl_constant=c.pl_constant,
            step=c.finetune_step,
            noise_over=device_noise(scenario) / np.square(scenario.devices.weight),
        )

    def keep(self, shares: Floats) -> float:
        """What a round with these shares leaves of the gap."""
        s = float(shares.sum())
        return 1.0 - 2.0 * self.pl_constant * self.step * s * (1.0 - 0.5 * self.smoothness * self.step * s)

    def noise(self, shares: Floats) -> Floats:
        """What ``1/b_k`` adds to the gap in a round, shape (K,)."""
        found: Floats = 0.5 * self.smoothness * self.step**2 * np.square(shares) * self.noise_over
        return found

    def server_noise(self, rounds: int) -> float:
        """What ``1/b0`` adds to the gap after so many rounds of pre-training."""
        return -math.expm1(self.final.log_r * rounds) * self.final.server_noise

    def pretrained_gap(self, rounds: int) -> float:
        """The gap after so many rounds of pre-training without noise."""
        gone = -math.expm1(self.final.log_r * rounds)
        return (1.0 - gone) * self.final.gap + gone * self.final.shift_floor

    def value(self, pretrain: Sequence[float], shares: Sequence[Floats] | Floats, batches: Any) -> float:
        """The bound of the gap at the end: the server's batches, then every round's shares and batches, each (K,)."""
        r = math.exp(self.final.log_r)
        gap = self.final.gap
        for batch in pretrain:
            gap = r * gap + (1.0 - r) * (self.final.shift_floor + self.final.server_noise / batch)
        for one, batch in zip(shares, batches, strict=True):
            here = one > 0.0
            gap = self.keep(one) * gap + float((self.noise(one)[here] / batch[here]).sum())
        return gap
