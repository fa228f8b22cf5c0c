"""What a plan says of its privacy, and the check of it, which does the accounting in another way.

A plan with fine-tuning says which (epsilon, delta) its rounds spend and the noise that takes. The check shares no
formula with `pretune.privacy`: it integrates the definition of (epsilon, delta)-privacy for a Gaussian mechanism,

    delta = integral of max(p(x) - exp(epsilon) q(x), 0),     p = N(mu, 1), q = N(0, 1), mu = sqrt(N) / z
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pretune.privacy import RESERVE
from pretune.scenario import Scenario

KEYS = ("epsilon", "delta", "noise_multiplier", "noise_std")
_NODES = 200
_CLOSE = 1e-7


def claim_of(scenario: Scenario, rounds: int) -> dict[str, float] | None:
    """The plan's `privacy` at these fine-tuning rounds; None where nothing is asked for, or nothing is spent.

    `noise_multiplier` is z, `noise_std` the noise's standard deviation on each coordinate of a round's mean gradient.
    """
    asked = scenario.privacy
    if asked is None or rounds == 0:
        return None
    return {
        "epsilon": (1.0 - RESERVE) * asked.epsilon,
        "delta": asked.delta,
        "noise_multiplier": asked.multiplier(rounds),
        "noise_std": asked.noise_std(rounds, float(scenario.devices.weight.max())),
    }


def wrong_with(claim: Mapping[str, Any] | None, scenario: Scenario, rounds: int) -> list[str]:
    """What of a plan's `privacy` does not hold, one line each."""
    asked = scenario.privacy
    if asked is None or rounds == 0:
        return [] if claim is None else ["plan.privacy: should not be there: nothing private is done"]
    if claim is None or set(claim) != set(KEYS) or not all(_positive(claim[key]) for key in KEYS):
        return [f"plan.privacy: should hold the positive numbers {', '.join(KEYS)}"]
    problems = []
    for key, most in (("epsilon", asked.epsilon), ("delta", asked.delta)):
        if claim[key] > most:
            problems.append(f"plan.privacy.{key}: claims {claim[key]!r}, the scenario allows {most!r}")
    mu = math.sqrt(rounds) / claim["noise_multiplier"]
    spent = integrated_delta(claim["epsilon"], mu)
    if spent > claim["delta"] * (1.0 + _CLOSE):
        problems.append(f"plan.privacy.delta: claims {claim['delta']!r}, its noise leaves {spent!r}")
    std = claim["noise_multiplier"] * asked.clip * float(scenario.devices.weight.max())
    if abs(claim["noise_std"] - std) > _CLOSE * std:
        problems.append(f"plan.privacy.noise_std: claims {claim['noise_std']!r}, recomputed {std!r}")
    # the criterion counts with this noise
    counted = rounds * asked.variance_per_round(float(scenario.devices.weight.max()))
    if abs(counted - asked.parameters * std**2) > _CLOSE * counted:
        problems.append(f"plan.privacy: the objective counts a variance of {counted!r}, the noise has another")
    return problems


def integrated_delta(epsilon: float, mu: float) -> float:
    """The definition above by Gauss and Legendre's rule; the integrand is positive from epsilon/mu + mu/2 on."""
    begin = epsilon / mu + 0.5 * mu
    # p falls as exp(-(x - mu)^2/2): beyond this, what is left is below 1e-20 of what is counted
    distance = begin - mu
    width = 12.0 if distance <= 0.0 else min(12.0, 50.0 / distance)
    width += max(-distance, 0.0)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    x = begin + 0.5 * width * (nodes + 1.0)
    p = np.exp(-0.5 * (x - mu) ** 2)
    return float(0.5 * width * (weights * p * -np.expm1(epsilon - mu * x + 0.5 * mu**2)).sum()) / math.sqrt(2 * math.pi)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0.0
