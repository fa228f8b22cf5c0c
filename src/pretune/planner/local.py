"""Plans that choose the number of local steps: one search for each number, and a proof for every one of them.

The best plan over a list of numbers is the best of their plans, and the least of their lower bounds bounds them all. A
number that is looked at later only has to be proven no better than the best plan so far; that proof goes into the
certificate like the plan's own (`pretune.proof` asks for all of them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pretune.errors import Infeasible
from pretune.figures import system_of
from pretune.planner.infeasible import STAGES, fits_one_round
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.large.search import LargeSearch
from pretune.planner.problem import Problem, build
from pretune.planner.search import Search
from pretune.planner.write import (
    FEW,
    MARGIN,
    MOST_CERTIFIED,
    entry_of,
    graded,
    infeasible_plan,
    own_prices,
    seal,
    share_of,
    those_needed,
    with_margin,
    write_large,
    write_plan,
)
from pretune.plans import Plan, Status
from pretune.price_sets import priced
from pretune.scenario import Scenario

_ROUGH = 0.02
"""Gap of the first look at every number, with real batches: it says which to search first."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a search for one number of local steps came to; without a plan only what is proven."""

    scenario: Scenario
    problem: Problem
    search: Search | None
    """None for a large fleet, or where nothing fits."""
    plan: Plan | None
    proven: float
    proof: Mapping[str, Any] | None
    """Of a large fleet, or that nothing fits; otherwise it is made of the search."""


def planned_over(scenario: Scenario, tolerance: float, deadline: float, *, throw: bool) -> Plan:
    """The best plan over all numbers of local steps, with the least of their bounds.

    Raises:
        Infeasible: proven that nothing fits, whatever the number, and `throw` is true.
    """
    choices = scenario.convergence.choices
    every = {count: scenario.settled(count) for count in choices}
    problems = {count: build(one)[0] for count, one in every.items()}
    fitting = [count for count in choices if any(fits_one_round(problems[count], stage) for stage in STAGES)]
    if not fitting:
        # fewer local steps cost less: nothing fits with the fewest
        answer = replace(infeasible_plan(every[choices[0]], problems[choices[0]]), **_head(scenario))
        if throw:
            raise Infeasible(answer)
        return answer
    found: dict[int, _Found] = {}
    ceiling = math.inf
    for count in _promising_first({count: problems[count] for count in fitting}, deadline):
        found[count] = one = _searched(every[count], problems[count], ceiling, tolerance, deadline)
        ceiling = min(ceiling, math.inf if one.plan is None else one.plan.objective)
    for count in choices:
        if count not in found:
            shortage = dict(infeasible_plan(every[count], problems[count]).certificate or {})
            found[count] = _Found(
                scenario=every[count], problem=problems[count], search=None, plan=None, proven=math.inf, proof=shortage
            )
    return _joined(scenario, found, tolerance, late=any(_late(one) for one in found.values()))


def _head(scenario: Scenario) -> dict[str, Any]:
    return {"scenario_sha256": scenario.sha256, "defaults": scenario.defaults}


def _promising_first(problems: Mapping[int, Problem], deadline: float) -> list[int]:
    """The numbers of local steps in the order of their values with real batches, roughly."""

    def rough(problem: Problem) -> float:
        search = Search(with_margin(problem), _ROUGH, deadline, only_real=True)
        search.run()
        return search.real[0]

    small = all(problem.devices.cycles.size <= MOST_CERTIFIED for problem in problems.values())
    values = {count: rough(problem) if small else 0.0 for count, problem in problems.items()}
    return sorted(problems, key=lambda count: (values[count], count))


def _searched(scenario: Scenario, problem: Problem, ceiling: float, tolerance: float, deadline: float) -> _Found:
    """One number of local steps, against the best plan of the numbers before."""
    if len(scenario.devices) > MOST_CERTIFIED and not scenario.radio.shares_decided:
        large = LargeSearch(with_margin(problem), system_of(scenario), tolerance, deadline)
        large.run()
        if large.best is not None:
            plan = write_large(scenario, large, large.best, tolerance)
            prices = (plan.certificate or {}).get("prices")
            proof = None if prices is None else {"prices": prices}
            return _Found(
                scenario=scenario, problem=problem, search=None, plan=plan, proven=plan.lower_bound, proof=proof
            )
    search = Search(with_margin(problem), tolerance, deadline, ceiling=ceiling)
    search.run()
    best = search.best
    better = best is not None and best.value < ceiling
    written = write_plan(scenario, problem, search, tolerance) if better else None
    proven = 0.0
    if math.isfinite(search.proven) and math.isfinite(search.real[0]):
        # as in `write_plan`: what the search proved holds for the true budgets up to the margin's worth
        own, rounds = own_prices(problem, search.real[1]), search.real[1]
        worth = own.budget + rounds[1] * own.energy * own.band * problem.limits.band
        slip = 4.0 * MARGIN * worth / coefficients(problem.criterion, *map(float, rounds))[0]
        proven = search.proven - slip
    return _Found(scenario=scenario, problem=problem, search=search, plan=written, proven=proven, proof=None)


def _late(found: _Found) -> bool:
    if found.search is not None:
        return found.search.late
    return found.plan is not None and found.plan.status is Status.TIME_LIMIT


def _joined(scenario: Scenario, found: Mapping[int, _Found], tolerance: float, *, late: bool) -> Plan:
    """The best of the plans, with the least of the bounds and the proofs of all."""
    plans = {count: one.plan for count, one in found.items() if one.plan is not None}
    if not plans:
        head = {**_head(scenario), "criterion": scenario.convergence.criterion.value}
        return seal(Plan(status=Status.NUMERICAL_FAILURE, **head))
    count, best = min(plans.items(), key=lambda pair: (pair[1].objective, pair[0]))
    lower = min(best.objective, *(one.proven for one in found.values()))
    lower -= 1e-12 * abs(lower)
    certificate = dict(best.certificate or {})
    others = {other: _proof(found[other], lower) for other in sorted(found) if other != count}
    if "prices" in certificate and all(proof is not None for proof in others.values()):
        certificate["local_steps"] = [{"steps": other, **(proof or {})} for other, proof in others.items()]
    else:
        certificate.pop("prices", None)  # a proof for some numbers proves nothing
    return seal(
        replace(
            best,
            **_head(scenario),
            **graded(best.objective, lower, tolerance, late=late),
            finetune=None if best.finetune is None else replace(best.finetune, local_steps=count),
            certificate=certificate,
        )
    )


def _proof(found: _Found, lower: float) -> Mapping[str, Any] | None:
    """The prices that prove the bound for one number, or that nothing fits; None where there are none."""
    search, scenario = found.search, found.scenario
    if found.proof is not None or search is None or len(scenario.devices) > MOST_CERTIFIED:
        return found.proof
    share_hz = share_of(scenario)
    entries = [entry_of(search.pool[i], search.homes[i], share_hz) for i in sorted(search.used)]
    if not entries:
        own = own_prices(found.problem, search.real[1])
        m, n = map(float, search.real[1])
        entries = [entry_of(own, (m, n, 0.0), share_hz)]
    if search.cut_spans or len(entries) > FEW:
        system = system_of(scenario)
        sets = [priced(system, entry) for entry in entries]
        needed = those_needed(system, sets, lower, search.cut_spans, search.deadline)
        entries = [] if needed is None else [entries[i] for i in needed]
    return {"prices": entries} if entries else None
