"""Scenarios in which something varies, for the tests of reality and of planning under it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pretune.reality import Conditions, Reality
from pretune.scenario import Scenario, scenario_from_dict
from scenario_samples import DEVICE, small

FADING = {"kind": "rician", "k_factor": 4.0, "correlation": "gauss_markov", "coherence_s": 3.0}
SHADOWING = {"std_db": 6.0, "correlation_s": 20.0}
WAY = {
    "waypoints_m": [[60.0, 0.0], [60.0, 80.0], [200.0, 80.0]],
    "speed_m_per_s": 10.0,
    "cell": {"model": "umi", "carrier_hz": 3.5e9, "radius_m": 500.0, "line_of_sight": "never"},
}
AVAILABILITY = {"mean_up_s": 30.0, "mean_down_s": 10.0}
THROTTLING = {"resistance_k_per_w": 200.0, "time_constant_s": 50.0, "from_k": 20.0, "to_k": 40.0, "floor": 0.4}
JITTER = {"kind": "lognormal", "sigma": 0.3}
TRACE = {"gains": {"cam-2": [[0, 1e-11], [10, 0.0], [20, 3e-11], [700, 3e-11]]}}
EVERYTHING: dict[str, Any] = {
    "seed": 5,
    "fading": FADING,
    "shadowing": SHADOWING,
    "mobility": WAY,
    "availability": AVAILABILITY,
    "throttling": THROTTLING,
    "jitter": JITTER,
    "trace": TRACE,
    "devices": {"cam-1": {"fading": None, "jitter": {"kind": "uniform", "least": 0.9, "most": 1.5}}},
}


def varying(**variation: Any) -> Scenario:
    """The small scenario of two devices with this variation."""
    return scenario_from_dict(small(variation=variation))


def crowd(count: int, **variation: Any) -> Scenario:
    """Many equal devices with this variation, so that one round is a large sample."""
    tree = small(variation=variation)
    tree["devices"] = {"count": count, "draw": DEVICE}
    return scenario_from_dict(tree)


def met(scenario: Scenario, rounds: int, round_s: float = 2.0, seed: int | None = None) -> list[Conditions]:
    """The first rounds' conditions, `round_s` apart."""
    reality, found = Reality.of(scenario, seed), []
    state = reality.start()
    for count in range(rounds):
        state, one = reality.next(state, round_s if count else 0.0)
        found.append(one)
    return found


def gains(scenario: Scenario, rounds: int, round_s: float = 2.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Gains over the scenario's own, shape (rounds, K)."""
    return np.array([one.gain for one in met(scenario, rounds, round_s)]) / scenario.devices.gain
