"""From a scenario to a plan: which search finds it."""

from __future__ import annotations

import math
import time

from pretune.errors import Infeasible, InputError
from pretune.figures import system_of
from pretune.planner import under
from pretune.planner.asking import planned_asking
from pretune.planner.infeasible import STAGES, fits_one_round
from pretune.planner.large.search import LargeSearch
from pretune.planner.local import planned_over
from pretune.planner.problem import Problem, build
from pretune.planner.schedule import refuse_batteries
from pretune.planner.schedule.plan import planned
from pretune.planner.search import Search
from pretune.planner.write import MOST_CERTIFIED, head_of, infeasible_plan, seal, with_margin, write_large, write_plan
from pretune.planning import Under
from pretune.plans import Plan, Status
from pretune.scenario import Scenario
from pretune.uncertainty import planned_under

TOLERANCE = 1e-4


def plan(
    scenario: Scenario, *, tolerance: float = TOLERANCE, time_limit: float | None = None, throw: bool = True
) -> Plan:
    """The best plan within the budgets, and how good it provably is.

    Args:
        scenario: what to plan for.
        tolerance: relative gap at or under which a plan counts as optimal.
        time_limit: seconds after which the best plan so far is returned with status `time_limit`.
        throw: raise `Infeasible` for an infeasible scenario; otherwise return the plan that says so.

    Raises:
        InputError: tolerance or time limit can't be used, or a schedule is asked for with batteries.
        Infeasible: proven that nothing fits, and `throw` is true.
    """
    if not (math.isfinite(tolerance) and 0.0 < tolerance < 1.0):
        raise InputError.field("tolerance", tolerance, "a number above 0 and below 1")
    if time_limit is not None and not (math.isfinite(time_limit) and time_limit > 0.0):
        raise InputError.field("time_limit", time_limit, "a positive number of seconds")
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit
    if planned_under(scenario) is Under.PARTICIPATION:
        return planned_asking(
            scenario, lambda one, end: _plan(one, tolerance, end, throw=False), deadline, tolerance, throw=throw
        )
    if planned_under(scenario) is not Under.MEAN:
        return under.planned(scenario, lambda one, end: _plan(one, tolerance, end, throw=False), deadline, throw=throw)
    return _plan(scenario, tolerance, deadline, throw=throw)


def _plan(scenario: Scenario, tolerance: float, deadline: float, *, throw: bool) -> Plan:
    """The plan of a scenario in which nothing varies."""
    if scenario.schedule > 1:
        refuse_batteries(scenario)
    if len(scenario.convergence.choices) > 1:
        return planned_over(scenario, tolerance, deadline, throw=throw)
    problem, _ = build(scenario)
    if not any(fits_one_round(problem, stage) for stage in STAGES):
        answer = infeasible_plan(scenario, problem)
        if throw:
            raise Infeasible(answer)
        return answer
    if scenario.schedule > 1:
        return planned(scenario, problem, tolerance, deadline)
    if len(scenario.devices) > MOST_CERTIFIED and not scenario.radio.shares_decided:
        large = LargeSearch(with_margin(problem), system_of(scenario), tolerance, deadline)
        large.run()
        if large.best is not None:
            return write_large(scenario, large, large.best, tolerance)
    return plan_of(scenario, problem, Search(with_margin(problem), tolerance, deadline))


def plan_roughly(scenario: Scenario, *, tolerance: float, deadline: float, probes: int, spans: bool) -> Plan:
    """A plan without a schedule, by a search that solves so many pairs of rounds a pass at the most.

    `spans`: whether it may cut spans of rounds to close its gap.

    For callers that prove by other means how good it is.
    """
    problem, _ = build(scenario)
    if not any(fits_one_round(problem, stage) for stage in STAGES):
        return infeasible_plan(scenario, problem)
    search = Search(with_margin(problem), tolerance, deadline, most_probes=probes, may_cut_spans=spans)
    return plan_of(scenario, problem, search)


def plan_of(scenario: Scenario, problem: Problem, search: Search) -> Plan:
    """Run a search, and write its plan."""
    search.run()
    if search.best is None:
        return seal(Plan(status=Status.NUMERICAL_FAILURE, **head_of(scenario)))
    return write_plan(scenario, problem, search, search.tolerance)
