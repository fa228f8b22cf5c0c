"""Small scenarios with budgets that allow a few dozen fine-tuning rounds, and runs of their plans in what they meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.physics import cost
from pretune.plans import Plan
from pretune.reality import Reality
from pretune.scenario import Scenario, scenario_from_dict
from pretune.uncertainty import equivalent
from pretune.uncertainty.policy import round_under
from scenario_samples import DEVICE, small

RAYLEIGH: dict[str, Any] = {"fading": {"kind": "rayleigh"}}
COMPOSITE: dict[str, Any] = {
    "fading": {"kind": "rician", "k_factor": 4.0, "correlation": "gauss_markov", "coherence_s": 5.0},
    "shadowing": {"std_db": 4.0, "correlation_s": 60.0},
    "jitter": {"kind": "lognormal", "sigma": 0.2},
}


def promised(count: int, variation: dict[str, Any] | None, planning: dict[str, Any] | None, **changes: Any) -> Scenario:
    """A fleet whose best plan fine-tunes, short of energy and of time."""
    tree = small(budget__energy_j=60.0, budget__delay_s=900.0, convergence__shift=5.0, **changes)
    rng = np.random.default_rng(7)
    gains = 3e-11 * 10 ** rng.uniform(-0.7, 0.7, count)
    tree["devices"] = [
        {"name": f"cam-{k}", **DEVICE, "circuit_power_w": 0.02, "gain": float(gains[k])} for k in range(count)
    ]
    if variation is not None:
        tree["variation"] = variation
    if planning is not None:
        tree["planning"] = planning
    return scenario_from_dict(tree)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What some runs of a plan came to: shape (runs,), arrivals (runs, rounds, K)."""

    energy_j: Any
    delay_s: Any
    arrived: Any


def carried_out(plan: Plan, scenario: Scenario, runs: int, first_seed: int = 0) -> Kept:
    """Runs of the plan's fine-tuning by the policy of its mode, with what pre-training costs."""
    assert plan.finetune is not None
    assert plan.pretrain is not None
    counted = equivalent(scenario, (plan.under or {}).get("reserve_j", 0.0))
    stage, rounds = plan.finetune, plan.finetune.rounds
    before = cost.pretrain_round(scenario, max(1, plan.pretrain.batch), plan.pretrain.clock_hz or 1.0)
    spent_j, spent_s = plan.pretrain.rounds * before.energy_j, plan.pretrain.rounds * before.time_s
    energy, delay, arrived = [], [], []
    for seed in range(first_seed, first_seed + runs):
        reality = Reality.of(scenario, seed)
        state, elapsed = reality.start(), spent_s
        total_j, total_s, rows = spent_j, spent_s, []
        drawn_w = None
        for _ in range(rounds):
            state, met = reality.next(state, elapsed, drawn_w)
            went = round_under(scenario, counted, stage, met)
            elapsed = went.time_s
            drawn_w = went.device_j / went.time_s  # all of it, also the radio's: more than the processor draws
            total_j, total_s = total_j + went.energy_j, total_s + went.time_s
            rows.append(went.arrived)
        energy.append(total_j)
        delay.append(total_s)
        arrived.append(rows)
    return Kept(energy_j=np.array(energy), delay_s=np.array(delay), arrived=np.array(arrived))
