"""User-level differential privacy of fine-tuning: what a scenario asks for, and how much noise that takes.

Each fine-tuning round the server shortens every device's gradient to the norm ``C`` (`clip`), takes the weighted mean
and adds normal noise of standard deviation ``z C max_k alpha_k`` to each of its ``d`` coordinates. Neighbouring runs
differ in one device's whole data: with it the mean moves by ``C max_k alpha_k`` at most (the device's gradient against
none, the weights as they are). All devices take part in every round, so nothing is gained by sampling.

N such rounds are together exactly one Gaussian mechanism of shift ``mu = sqrt(N) / z`` (Dong, Roth, Su, "Gaussian
differential privacy", JRSS-B 2022, corollary 2), which is (epsilon, delta)-private if and only if

    Phi(-epsilon/mu + mu/2) - exp(epsilon) Phi(-epsilon/mu - mu/2) <= delta

(Balle and Wang, "Improving the Gaussian mechanism for differential privacy", ICML 2018, theorem 8). The left side rises
with mu, so one largest mu does whatever N is, ``z = sqrt(N) / mu``, and the noise's variance, summed over the
coordinates, is ``N v`` with ``v = d (C max_k alpha_k / mu)^2``: in proportion to the rounds, exactly.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated

from pydantic import Field

from pretune.fields import Quantity
from pretune.parts import Part

RESERVE = 0.01
"""Share of epsilon that the noise leaves unspent, so that a numerical accountant's upper bound stays within it too."""


def delta_of(epsilon: float, mu: float) -> float:
    """The least delta at which a Gaussian mechanism of shift `mu` is (epsilon, delta)-private."""
    return _normal(-epsilon / mu + 0.5 * mu) - math.exp(epsilon) * _normal(-epsilon / mu - 0.5 * mu)


def largest_shift(epsilon: float, delta: float) -> float:
    """The largest mu that is (epsilon, delta)-private, from below: halving, since `delta_of` rises with mu."""
    low, high = 0.0, 1.0
    while delta_of(epsilon, high) <= delta:
        low, high = high, 2.0 * high
    while high - low > 1e-14 * high:
        middle = 0.5 * (low + high)
        if delta_of(epsilon, middle) <= delta:
            low = middle
        else:
            high = middle
    return low


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


class Privacy(Part):
    """What the fine-tuned model may tell of any one device's data, and what that takes."""

    epsilon: Annotated[float, Quantity(noun="number", unit="", si=8, least=0.01, most=50.0)] = Field(
        description="ε of user-level (ε, δ) differential privacy, over all fine-tuning rounds together."
    )
    delta: Annotated[float, Quantity(noun="number", unit="", si=1e-5, least=1e-12, most=0.1)] = Field(
        description="δ of it; well below one over the number of devices."
    )
    clip: Annotated[float, Quantity(noun="number", unit="", si=1)] = Field(
        description="Norm C that a device's gradient is shortened to. The bounds hold where no gradient is longer."
    )
    parameters: Annotated[int, Quantity(noun="of parameters", unit="", si=4810, whole=True)] = Field(
        description="Trainable parameters d of the model: each gets noise."
    )

    @cached_property
    def shift(self) -> float:
        """The Gaussian mechanism's mu that all rounds together may reach."""
        return largest_shift((1.0 - RESERVE) * self.epsilon, self.delta)

    def multiplier(self, rounds: int) -> float:
        """z: the noise's standard deviation over what one device may move the mean by."""
        return math.sqrt(rounds) / self.shift

    def noise_std(self, rounds: int, heaviest: float) -> float:
        """Standard deviation of the noise on each coordinate of the mean; `heaviest` is the largest weight."""
        return self.multiplier(rounds) * self.clip * heaviest

    def variance_per_round(self, heaviest: float) -> float:
        """v: with N rounds the noise of each has the variance ``N v``, summed over the coordinates."""
        return self.parameters * (self.clip * heaviest / self.shift) ** 2
