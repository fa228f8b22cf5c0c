"""A small steered run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from runtime_helpers import hand_plan, small_scenario, tiny_task

from pretune.plans import Plan
from pretune.runtime.run import RunResult, run
from pretune.scenario import Scenario

VARIATION = {
    "fading": {"kind": "rayleigh"},
    "availability": {"mean_up_s": 0.5, "mean_down_s": 0.1},
    "jitter": {"kind": "lognormal", "sigma": 0.3},
}


def small(share: float = 1.0, rounds: tuple[int, int] = (8, 16), **changes: Any) -> tuple[Scenario, Plan]:
    """The small scenario with this share of what its plan takes as its budgets."""
    # general data so unlike the task's that a new plan drops pre-training: few rounds are left
    convergence = {**small_scenario().convergence.model_dump(exclude_unset=True), "shift": 30.0}
    wide = small_scenario(**{"variation": VARIATION, "convergence": convergence, **changes})
    plan = hand_plan(wide, rounds=rounds)
    energy = share * plan.energy_j
    tight = wide.with_budget(energy_j=energy, delay_s=share * plan.delay_s)
    return tight, dataclasses.replace(plan, scenario_sha256=tight.sha256)


def carry_out(out: Path, share: float = 1.0, **options: Any) -> RunResult:
    """Run it, planning anew after every round unless told otherwise."""
    scenario, plan = small(share)
    how = {"control": "rounds", "replan": "every", "outage": 0.1, "task": tiny_task(), **options}
    return run(plan, scenario, out=out, checkpoint_every=5, checkpoint_s=1e9, evaluate_every=3, **how)
