"""Baselines that only the study has: several of the decisions frozen at once.

`all-fixed`: batches of 32, clocks and powers at their highest and equal shares of the band; only the rounds are
planned. `fixed-resources`: the same with the batches planned too. Both are the joint problem with something fixed, as
`pretune.planner.baselines.restricted` has it, solved by the same search to the same tolerance.
"""

from __future__ import annotations

from pretune.planner.baselines.outcome import Outcome, Task
from pretune.planner.baselines.restricted import (
    BATCH,
    equal_shares,
    fixed_batches,
    fixed_clocks,
    fixed_powers,
    restricted,
)
from pretune.planner.problem import Problem
from pretune.plans import Plan
from pretune.scenario import Scenario

EXTRA = ("fixed-resources", "all-fixed")


def ablated(name: str, scenario: Scenario, joint: Plan, tolerance: float) -> Outcome:
    """What one of `EXTRA` makes of the scenario whose joint plan is given."""

    def resources(problem: Problem) -> Problem:
        return equal_shares(fixed_powers(fixed_clocks(problem)))

    def everything(problem: Problem) -> Problem:
        return resources(fixed_batches(problem, BATCH))

    task = Task(scenario=scenario, joint=joint, asked=scenario, tolerance=tolerance)
    return restricted(task, name, resources if name == "fixed-resources" else everything)
