"""Fronts between energy, delay and objective: the same scenario planned under other budgets.

A sweep goes upwards in its budget. Each search starts with the last one's decision, which still fits, so the objective
never rises along a sweep, and from its rounds instead of a coarse grid.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pretune.errors import InputError
from pretune.planner.infeasible import STAGES, fits_one_round, least_delay, least_energy
from pretune.planner.problem import build
from pretune.planner.search import Search
from pretune.planner.solve import plan as planned_alone
from pretune.planner.write import with_margin, write_plan
from pretune.planning import Under
from pretune.plans import Plan
from pretune.scenario import Scenario
from pretune.uncertainty import equivalent, planned_under

SPREAD = 5.0
"""By default a sweep goes from the budget divided by this to the budget times this."""
_LEAST = 1.001
"""A default sweep starts this much above the least budget at which anything fits, if that is inside."""
TOLERANCE = 1e-3
"""Relative gap of a plan on a front, by default: coarser than a single plan's."""
AXES = ("energy", "delay")


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """One budget and its plan; `plan` is None where nothing fits. `axis` names the sweep: energy, delay or grid."""

    axis: str
    energy_j: float
    delay_s: float
    plan: Plan | None
    planning_s: float


def default_range(scenario: Scenario, axis: str) -> tuple[float, float]:
    """From a fifth of the budget, or the least that would do where that is more, to five times the budget."""
    scenario = equivalent(scenario).scenario
    problem, _ = build(scenario.settled(scenario.convergence.choices[0]))  # what costs least
    budget = problem.limits.energy if axis == "energy" else problem.limits.delay
    least = least_energy(problem) if axis == "energy" else least_delay(problem)
    low, high = budget / SPREAD, budget * SPREAD
    if math.isfinite(least):
        low = max(low, least * _LEAST)
    return low, max(high, low * SPREAD)


def budgets(low: float, high: float, points: int, axis: str = "budget") -> list[float]:
    """`points` budgets from `low` to `high`, evenly spaced in the logarithm.

    Raises:
        InputError: the range or the number of points can't be used.
    """
    if not (math.isfinite(high) and 0.0 < low < high):
        raise InputError.field(axis, f"{low:g}:{high:g}", "two positive numbers, the smaller first")
    if points < 2:
        raise InputError.field("points", points, "a whole number of at least 2")
    spread = np.exp(np.linspace(math.log(low), math.log(high), points))
    return [low, *spread[1:-1].tolist(), high]


def front(
    scenario: Scenario,
    axis: str,
    values: Sequence[float],
    *,
    tolerance: float = TOLERANCE,
    time_limit: float | None = None,
) -> Iterator[FrontPoint]:
    """The plans along one budget, `axis` energy or delay, in ascending order of `values`; the other one is kept.

    `time_limit` holds for each plan. The objective never rises from one point to the next.
    """
    if axis not in AXES:
        raise InputError.field("axis", axis, "energy or delay")
    before: Search | None = None
    for value in sorted(values):
        changed = scenario.with_budget(**{"energy_j" if axis == "energy" else "delay_s": value})
        point, before = _planned(changed, axis, before, tolerance, time_limit)
        yield point


def grid(
    scenario: Scenario,
    energies: Sequence[float],
    delays: Sequence[float],
    *,
    tolerance: float = TOLERANCE,
    time_limit: float | None = None,
) -> Iterator[FrontPoint]:
    """The plans of every pair of budgets, energy outside; each starts from its better smaller neighbour."""
    row: list[Search | None] = [None] * len(delays)
    for energy in sorted(energies):
        last: Search | None = None
        for index, delay in enumerate(sorted(delays)):
            changed = scenario.with_budget(energy_j=energy, delay_s=delay)
            point, last = _planned(changed, "grid", _better(last, row[index]), tolerance, time_limit)
            row[index] = last
            yield point


def _better(one: Search | None, other: Search | None) -> Search | None:
    known = [search for search in (one, other) if search is not None and search.best is not None]
    return min(known, key=lambda search: search.best.value if search.best else math.inf) if known else None


def _planned(
    scenario: Scenario, axis: str, before: Search | None, tolerance: float, time_limit: float | None
) -> tuple[FrontPoint, Search | None]:
    """One plan, from the search `before`; in segments, with a choice of local steps or with `planning` found alone."""
    began = time.perf_counter()
    plan: Plan | None = None
    search: Search | None = None
    alone = planned_under(scenario) is not Under.MEAN
    if alone or scenario.schedule > 1 or len(scenario.convergence.choices) > 1:
        found = planned_alone(scenario, tolerance=tolerance, time_limit=time_limit, throw=False)
        plan = found if found.status.has_plan else None
    elif any(fits_one_round(problem := build(scenario)[0], stage) for stage in STAGES):
        deadline = math.inf if time_limit is None else time.monotonic() + time_limit
        search = Search(with_margin(problem), tolerance, deadline)
        if before is not None and before.best is not None:
            search.best, search.starts = before.best, (before.best.rounds,)
        search.run()
        plan = write_plan(scenario, problem, search, tolerance) if search.best is not None else None
    point = FrontPoint(
        axis=axis,
        energy_j=scenario.budget.energy_j,
        delay_s=scenario.budget.delay_s,
        plan=plan,
        planning_s=time.perf_counter() - began,
    )
    return point, search if search is not None else before
