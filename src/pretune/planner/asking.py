"""Plans that decide how likely each device is asked: the joint search's probabilities, and the planner's plan at them.

The plan is the planner's own for the scenario at those probabilities, so whoever checks it checks a plan like any
other; that no other probabilities are better is what the joint lower bound is for (`pretune.asked_bounds`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pretune.errors import Infeasible, InputError
from pretune.physics.types import Floats
from pretune.planner.asked import Joint
from pretune.planner.joint_bound import joint_bound
from pretune.planner.problem import build
from pretune.planner.write import graded, seal
from pretune.plans import Plan
from pretune.scenario import Scenario
from pretune.uncertainty import asking, equivalent
from pretune.uncertainty.claim import claim_of, planned_least, planning_confidence
from pretune.uncertainty.margin import margin_j

_RESERVES = 8
_ROOM = 1.002
"""How much more than the last plan's margin is kept back for the next one's."""

_GRACE_S = 2.0
"""Beyond a time limit, for the plan at the probabilities that were found in it."""

Solve = Callable[[Scenario, float], Plan]


def planned_asking(scenario: Scenario, solve: Solve, deadline: float, tolerance: float, *, throw: bool) -> Plan:
    """The plan of a scenario whose `planning` decides who is asked.

    Raises:
        InputError: no reserve keeps the confidence that is asked for.
        Infeasible: proven that nothing fits, and `throw` is true.
    """
    reserve_j, confidence = 0.0, planning_confidence(scenario)
    found: tuple[Plan, Floats, float] | None = None
    for _ in range(_RESERVES):
        trial = scenario if reserve_j == 0.0 else scenario.with_budget(energy_j=scenario.budget.energy_j - reserve_j)
        plan, asked, joint = _best(trial, solve, deadline)
        if not plan.status.has_plan or plan.finetune is None:
            if reserve_j == 0.0:
                return _without(scenario, plan, throw=throw)
            break
        margin = 0.0 if confidence is None else margin_j(asking(trial, asked), plan.finetune, confidence)
        if plan.energy_j + margin <= scenario.budget.energy_j:
            found = plan, asked, reserve_j
            break
        reserve_j = max(_ROOM * margin, 1.02 * reserve_j)
        if reserve_j >= scenario.budget.energy_j:
            break
    if found is None:
        raise InputError.field(
            "planning.confidence", confidence, "less: no reserve of energy was found that keeps it, or a larger budget"
        )
    plan, asked, reserve_j = found
    counted = asking(scenario, asked, reserve_j)
    always = asking(scenario, np.ones(len(asked)), reserve_j).scenario
    lower, certificate = joint_bound(
        always, joint, plan.objective, 0 if plan.pretrain is None else plan.pretrain.rounds, deadline
    )
    # the multipliers are of the plan's own prices
    own = list((plan.certificate or {}).get("prices", []))[:1]
    graded_as = graded(plan.objective, lower, tolerance, late=time.monotonic() > deadline)
    return seal(
        replace(
            plan,
            **graded_as,
            certificate={"tolerance": tolerance, "prices": own, **certificate},
            scenario_sha256=scenario.sha256,
            defaults=scenario.defaults,
            under=claim_of(scenario, counted, reserve_j),
        )
    )


def _without(scenario: Scenario, plan: Plan, *, throw: bool) -> Plan:
    """Nothing fits: what costs least has all asked as seldom as may be."""
    counted = equivalent(scenario)
    answer = replace(
        plan, scenario_sha256=scenario.sha256, defaults=scenario.defaults, under=claim_of(scenario, counted)
    )
    if answer.infeasibility is not None and throw:
        raise Infeasible(answer)
    return answer


def _best(scenario: Scenario, solve: Solve, deadline: float) -> tuple[Plan, Floats, Joint]:
    """The better of the plans in which all are always asked and in which the joint search says who is."""
    count = len(scenario.devices)
    everyone = np.ones(count)
    always = asking(scenario, everyone).scenario
    problem, _ = build(always)
    joint = Joint(always, problem, planned_least(scenario))
    plan = solve(always, deadline)
    starts = [(0.0, 1.0), (1.0, 1.0)]
    if plan.status.has_plan and plan.pretrain is not None and plan.finetune is not None:
        m, n = float(plan.pretrain.rounds), float(max(plan.finetune.rounds, 1))
        most = problem.limits.delay / (joint.spans(0.0, 1.0)[0] + problem.limits.down_s)
        starts = [(m, n), (0.0, max(round(0.2 * most), 1.0)), (max(round(0.5 * m), 1.0), max(round(0.1 * most), 1.0))]
    joint.deadline = deadline
    best = joint.search(starts)
    if best is None:
        if not plan.status.has_plan:
            everyone = np.full(count, planned_least(scenario))
            plan = solve(equivalent(scenario).scenario, deadline)
        return plan, everyone, joint
    asked = np.clip([float(f"{p:.9g}") for p in best.probability.tolist()], planned_least(scenario), 1.0)
    other = solve(asking(scenario, asked).scenario, max(deadline, time.monotonic() + _GRACE_S))
    joint.best = best
    if other.status.has_plan and not (plan.status.has_plan and plan.objective <= other.objective):
        return other, asked, joint
    return plan, everyone, joint
