"""Random rounds for the tests of the control."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import sample_run
from pretune.control.kernel import Sheet
from pretune.control.outlook import Outlook
from pretune.control.rules import Rules
from pretune.control.simulate import steer
from pretune.control.steering import Steering
from pretune.plans import Plan
from pretune.reality import Reality
from pretune.scenario import Scenario, scenario_from_dict

RAYLEIGH = {"fading": {"kind": "rayleigh"}}
EVERYTHING = {
    **RAYLEIGH,
    "availability": {"mean_up_s": 0.5, "mean_down_s": 0.1},
    "jitter": {"kind": "lognormal", "sigma": 0.4},
}


def sheet(rng: np.random.Generator, count: int, *, powers: bool) -> Sheet:
    """Devices all unlike; with `powers` they draw static and circuit power."""
    noise = 10.0 ** rng.uniform(-3.0, 0.0, count)
    low = rng.integers(5, 50, count).astype(float)
    return Sheet(
        cycles=10.0 ** rng.uniform(6.0, 7.0, count),
        capacitance=10.0 ** rng.uniform(-28.0, -27.0, count),
        clock_max=rng.uniform(0.5e9, 1.5e9, count),
        static=rng.uniform(0.0, 0.2, count) * powers,
        noise=noise,
        span=10.0 ** rng.uniform(-2.0, -1.0, count),
        exponent_max=np.log1p(rng.uniform(0.1, 0.3, count) / noise),
        circuit=rng.uniform(0.0, 0.1, count) * powers,
        gamma=np.zeros(count),
        low=low,
        high=low.copy(),
        ratio=rng.uniform(1.0, 2.0, count),
    )


def scenario(variation: dict[str, Any] | None = None, **changes: Any) -> Scenario:
    """The small scenario of ten devices, with a variation."""
    more = {} if variation is None else {"variation": variation}
    return scenario_from_dict(sample_run.tree(**more, **changes))


def within(one: Scenario, pretrain: int = 6, finetune: int = 12, spare: float = 1.0) -> tuple[Scenario, Plan]:
    """A plan with made-up decisions, and the scenario with budgets that are `spare` times what it takes."""
    plan = sample_run.plan_for(one, pretrain, finetune)
    tight = one.with_budget(energy_j=plan.energy_j * spare * (1 + 1e-9), delay_s=plan.delay_s * spare * (1 + 1e-9))
    return tight, dataclasses.replace(plan, scenario_sha256=tight.sha256)


def steering(one: Scenario, plan: Plan, rules: Rules, seed: int = 0, **more: Any) -> Steering:
    """A steering at its beginning."""
    return steer(one, plan, rules, Reality.of(one, seed), **more)


def outlook(one: Scenario, plan: Plan, rules: Rules) -> Outlook:
    """What it knows."""
    return Outlook.of(one, plan, rules, Reality.of(one))
