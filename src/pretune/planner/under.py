"""Plans for gains and clocks that vary: the plan of the scenario in which nothing does, and how much to keep back.

With a confidence the run's energy has to stay within its budget with that probability. What it may take beyond the
mean (`pretune.uncertainty.margin`) depends on the plan, so a reserve is looked for: the smallest found that covers the
margin of the plan that it leaves room for. The certificate holds for the plan at that reserve.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from pretune.errors import Infeasible, InputError
from pretune.plans import Plan
from pretune.scenario import Scenario
from pretune.uncertainty import Equivalent, equivalent
from pretune.uncertainty.claim import claim_of, planning_confidence
from pretune.uncertainty.margin import margin_j

_MOST = 10
"""Reserves that are tried."""
_NEAR = 0.01
"""Relative width at which the search for the smallest reserve ends."""
_LARGEST = 0.98
"""Share of the budget that is kept back at the most."""

Solve = Callable[[Scenario, float], Plan]
"""From a scenario in which nothing varies, and a time to end by, to its plan."""


def planned(scenario: Scenario, solve: Solve, deadline: float, *, throw: bool) -> Plan:
    """The plan of a scenario with `planning`, by a solver of those without.

    Raises:
        InputError: nothing can be promised (a channel that is gone for too long, no reserve that is enough).
        Infeasible: proven that nothing fits, and `throw` is true.
    """
    counted = equivalent(scenario)
    plan = solve(counted.scenario, deadline)
    confidence = planning_confidence(scenario)
    reserve_j = 0.0
    if confidence is not None and plan.status.has_plan and plan.finetune is not None:
        counted, plan, reserve_j = _with_reserve(scenario, counted, plan, confidence, solve, deadline)
    answer = replace(
        plan,
        scenario_sha256=scenario.sha256,
        defaults=scenario.defaults,
        under=claim_of(scenario, counted, reserve_j),
    )
    if answer.infeasibility is not None and throw:
        raise Infeasible(answer)
    return answer


def _with_reserve(
    scenario: Scenario, counted: Equivalent, plan: Plan, confidence: float, solve: Solve, deadline: float
) -> tuple[Equivalent, Plan, float]:
    """The smallest reserve found whose plan's margin it covers, and that plan."""
    budget_j = scenario.budget.energy_j
    if _enough(counted, plan, confidence, budget_j):
        return counted, plan, 0.0
    best: tuple[Equivalent, Plan, float] | None = None
    low, high = 0.0, _LARGEST * budget_j
    reserve_j = min(_margin(counted, plan, confidence), high)
    for _ in range(_MOST):
        trial = equivalent(scenario, reserve_j)
        found = solve(trial.scenario, deadline)
        if found.status.has_plan and _enough(trial, found, confidence, budget_j):
            best, high = (trial, found, reserve_j), reserve_j
        elif found.status.has_plan:
            low = reserve_j
        else:
            high = reserve_j
        reserve_j = 0.5 * (low + high)
        if high - low <= _NEAR * high or (best is not None and time.monotonic() > deadline):
            break
    if best is None:
        raise InputError.field(
            "planning.confidence", confidence, "less: no reserve of energy was found that keeps it, or a larger budget"
        )
    return best


def _margin(counted: Equivalent, plan: Plan, confidence: float) -> float:
    return 0.0 if plan.finetune is None else margin_j(counted, plan.finetune, confidence)


def _enough(counted: Equivalent, plan: Plan, confidence: float, budget_j: float) -> bool:
    """Whether plan and margin fit the budget; what the plan leaves over of its own counts too."""
    return plan.energy_j + _margin(counted, plan, confidence) <= budget_j
