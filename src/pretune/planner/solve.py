"""From a scenario to a plan: search, then write down the decisions and the proof."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np

from pretune.certify import limits_of, sentence, totals, value_of
from pretune.errors import Infeasible, InputError
from pretune.figures import SAME, system_of
from pretune.physics import cost, link
from pretune.planner.infeasible import STAGES, clashing_limits, fits_one_round, least_delay, least_energy, one_sample
from pretune.planner.kernels.fixed import ENERGY_SHORT, least_span, new_point, solve_fixed
from pretune.planner.kernels.priced import Prices, point_prices
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.large.search import LargeSearch
from pretune.planner.problem import Problem, build
from pretune.planner.schedule import refuse_batteries
from pretune.planner.search import Search
from pretune.planner.shortage import shortage_prices
from pretune.planner.whole import Decision
from pretune.plans import FinetuneStage, Infeasibility, Plan, PretrainStage, Status
from pretune.price_sets import multipliers_of, priced
from pretune.private_claim import claim_of
from pretune.proof import cover
from pretune.scenario import Scenario

TOLERANCE = 1e-4
MOST_CERTIFIED = 1000
"""Fleets up to this size carry every device's share of the prices that prove the bound; larger ones are planned as
large fleets, whose certificate leaves the shares to the checker."""
_FEW = 40
"""A proof of up to this many price sets is written down as the search found it."""
_MARGIN = 1e-11
"""Share of the budgets kept back for rounding errors, so that a plan keeps its limits to the last bit."""


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
    if scenario.schedule > 1:
        refuse_batteries(scenario)
    if len(scenario.convergence.choices) > 1:
        from pretune.planner.local import planned_over  # builds on this file

        return planned_over(scenario, tolerance, deadline, throw=throw)
    problem, _ = build(scenario)
    if not any(fits_one_round(problem, stage) for stage in STAGES):
        answer = _infeasible(scenario, problem)
        if throw:
            raise Infeasible(answer)
        return answer
    if scenario.schedule > 1:
        from pretune.planner.schedule.plan import planned  # builds on this file

        return planned(scenario, problem, tolerance, deadline)
    if len(scenario.devices) > MOST_CERTIFIED and not scenario.radio.shares_decided:
        large = LargeSearch(_with_margin(problem), system_of(scenario), tolerance, deadline)
        large.run()
        if large.best is not None:
            return _written_large(scenario, large, large.best, tolerance)
    return plan_of(scenario, problem, Search(_with_margin(problem), tolerance, deadline))


def plan_roughly(scenario: Scenario, *, tolerance: float, deadline: float, probes: int, spans: bool) -> Plan:
    """A plan without a schedule, by a search that solves so many pairs of rounds a pass at the most.

    `spans`: whether it may cut spans of rounds to close its gap.

    For callers that prove by other means how good it is.
    """
    problem, _ = build(scenario)
    if not any(fits_one_round(problem, stage) for stage in STAGES):
        return _infeasible(scenario, problem)
    search = Search(_with_margin(problem), tolerance, deadline, most_probes=probes, may_cut_spans=spans)
    return plan_of(scenario, problem, search)


def plan_of(scenario: Scenario, problem: Problem, search: Search) -> Plan:
    """Run a search, and write its plan."""
    search.run()
    if search.best is None:
        return _seal(Plan(status=Status.NUMERICAL_FAILURE, **_head(scenario)))
    return _written(scenario, problem, search, search.tolerance)


def _with_margin(problem: Problem) -> Problem:
    d, limits = problem.devices, problem.limits
    keep = 1.0 - _MARGIN
    less = limits._replace(energy=limits.energy * keep, delay=limits.delay * keep, band=limits.band * keep)
    if limits.band > 0.0:
        # at one sample each and without batteries: what the bound's twin (`pretune.bounds`) knows as well
        bare = d._replace(battery=np.full_like(d.battery, np.inf))
        less = less._replace(shortest=float(least_span(bare, limits, np.ones_like(d.cycles), 1.0)))
    return problem._replace(limits=less)


def _head(scenario: Scenario) -> dict[str, Any]:
    return {
        "criterion": scenario.convergence.criterion.value,
        "scenario_sha256": scenario.sha256,
        "defaults": scenario.defaults,
    }


def _written(scenario: Scenario, problem: Problem, search: Search, tolerance: float) -> Plan:
    """The plan of a search with its certificate."""
    best = search.best
    if best is None:
        raise ValueError("a search without a decision has no plan to write")
    # the search kept a margin of the budgets back: what it proved holds for the true ones up to the prices' worth of it
    own = _own_prices(problem, best.rounds)
    worth = own.budget + best.rounds[1] * own.energy * own.band * problem.limits.band
    slip = 4.0 * _MARGIN * worth / coefficients(problem.criterion, *map(float, best.rounds))[0]
    bare = _decided(scenario, best, search.proven - slip, tolerance, late=search.late)
    certificate, multipliers = _certificate(scenario, problem, search, own, bare.lower_bound, tolerance)
    return _seal(Plan(**{**vars(bare), "certificate": certificate, "multipliers": multipliers}))


def _written_large(scenario: Scenario, search: LargeSearch, best: Decision, tolerance: float) -> Plan:
    """The plan of a large fleet; its bound was proven by the checker's code, for the scenario's own budgets."""
    # every criterion is at least zero: that needs no prices, and is all there is to say without them
    proven = search.proven if math.isfinite(search.proven) else 0.0
    bare = _decided(scenario, best, proven, tolerance, late=search.late)
    certificate: dict[str, Any] = {"tolerance": tolerance}
    if math.isfinite(search.proven):
        certificate["prices"] = [search.entries[i] for i in sorted({0, *search.needed})]
    own, weight = search.sets[0], search.system.criterion.at(*map(float, best.rounds)).weight
    multipliers = {"energy_j": -own.energy / weight, "delay_s": -own.delay / weight}
    return _seal(Plan(**{**vars(bare), "certificate": certificate, "multipliers": multipliers}))


def _decided(scenario: Scenario, best: Decision, proven: float, tolerance: float, *, late: bool) -> Plan:
    """A plan without its certificate: every figure is recomputed from the decisions by the cost model."""
    pretrain = _pretrain_stage(scenario, best)
    finetune = _finetune_stage(scenario, best)
    energy_j, delay_s = totals(scenario, pretrain, finetune)
    objective = value_of(scenario, pretrain, finetune)
    lower = min(proven, objective)
    lower -= 1e-12 * abs(lower)
    gap = (objective - lower) / objective if objective > 0.0 else 0.0
    status = Status.OPTIMAL if gap <= tolerance else Status.TIME_LIMIT if late else Status.FEASIBLE
    return Plan(
        status=status,
        pretrain=pretrain,
        finetune=finetune,
        objective=objective,
        lower_bound=lower,
        relative_gap=gap,
        energy_j=energy_j,
        delay_s=delay_s,
        constraints=limits_of(scenario, pretrain, finetune),
        privacy=claim_of(scenario, finetune.rounds),
        **_head(scenario),
    )


def _seal(answer: Plan) -> Plan:
    """The plan with its sentence."""
    return Plan(**{**vars(answer), "message": sentence(answer)})


def _pretrain_stage(scenario: Scenario, best: Decision) -> PretrainStage:
    rounds = best.rounds[0]
    if rounds == 0:
        return PretrainStage(rounds=0, batch=0, clock_hz=0.0, round_s=0.0)
    clock_hz = min(float(best.point.scalars[5]), scenario.server.max_clock_hz)
    one = cost.pretrain_round(scenario, best.server_batch, clock_hz)
    return PretrainStage(rounds=rounds, batch=best.server_batch, clock_hz=clock_hz, round_s=one.time_s)


def _finetune_stage(scenario: Scenario, best: Decision) -> FinetuneStage:
    rounds = best.rounds[1]
    several = scenario.convergence.steps_decided if scenario.convergence.choices != (1,) else None
    if rounds == 0:
        return replace(FinetuneStage.unused(), local_steps=several)
    fleet, radio = scenario.devices, scenario.radio
    bandwidth_hz = fleet.bandwidth_hz * best.point.share
    noise = radio.noise_psd_w_per_hz * bandwidth_hz / fleet.gain
    clock_hz = np.minimum(best.point.clock, fleet.max_clock_hz)
    power_w = np.minimum(noise * np.expm1(best.point.exponent), fleet.max_power_w)
    each = cost.finetune_round(scenario, best.batches, clock_hz, power_w, bandwidth_hz)
    return FinetuneStage(
        rounds=rounds,
        round_s=each.time_s,
        names=tuple(fleet.names),
        batch=best.batches.astype(np.int64),
        clock_hz=clock_hz,
        power_w=power_w,
        upload_s=link.airtime(
            scenario.workload.upload_bits, power_w, fleet.gain, bandwidth_hz, radio.noise_psd_w_per_hz
        ),
        bandwidth_hz=bandwidth_hz if radio.shares_decided else None,
        local_steps=several,
    )


def _own_prices(problem: Problem, rounds: tuple[int, int]) -> Prices:
    """The prices of the continuous optimum at the plan's rounds: its multipliers."""
    m, n = map(float, rounds)
    _, _, psi0, psi = coefficients(problem.criterion, m, n)
    point = new_point(problem.devices.cycles.size)
    solve_fixed(problem, problem.batches, m, n, psi0, psi, point)
    return point_prices(problem, point)


def _certificate(
    scenario: Scenario, problem: Problem, search: Search, own: Prices, lower: float, tolerance: float
) -> tuple[dict[str, Any], dict[str, float]]:
    """The prices that prove the bound (only those the proof needs), and the multipliers they are."""
    best = search.best
    if best is None:
        raise ValueError("a search without a decision has nothing to certify")
    m, n = map(float, best.rounds)
    share_hz = share_of(scenario)
    certificate: dict[str, Any] = {"tolerance": tolerance}
    system = system_of(scenario)
    first = entry_of(own, (m, n, 0.0), share_hz)
    if len(scenario.devices) <= MOST_CERTIFIED:
        entries = [first, *(entry_of(search.pool[i], search.homes[i], share_hz) for i in sorted(search.used))]
        if search.cut_spans or len(entries) > _FEW:
            # many sets were tried on the way; ask the proof which of them it takes
            sets = [priced(system, entry) for entry in entries]
            whole, needed = cover(system, sets, lower - 0.5 * SAME * abs(lower), search.cut_spans)
            entries = [first, *(entries[i] for i in needed if i > 0)] if whole else []
        if entries:
            certificate["prices"] = entries
    return certificate, multipliers_of(system, priced(system, first), m, n)


def share_of(scenario: Scenario) -> float:
    """The hertz of an equal share of a shared band."""
    return float(scenario.devices.bandwidth_hz[0])


def entry_of(prices: Prices, home: tuple[float, float, float] | None = None, share_hz: float = 1.0) -> dict[str, Any]:
    """A price set as the plan file holds it, rounded to twelve digits: any prices prove something."""
    omega = prices.delay / prices.energy if prices.energy > 0.0 else 0.0
    entry: dict[str, Any] = {"energy": _short(prices.energy), "omega": _short(omega)}
    if np.any(prices.shares > 0.0):
        entry["shares"] = [_short(value) for value in prices.shares.tolist()]
    if np.any(prices.ratios > 1.0):
        entry["ratios"] = [max(_short(value), 1.0) for value in prices.ratios.tolist()]
    if len(prices.splits):
        entry["halves"] = [
            [int(k), int(batch), max(_short(low), 1.0), max(_short(high), 1.0)]
            for k, batch, low, high in prices.splits.tolist()
        ]
    if prices.band > 0.0:
        entry["band"] = _short(prices.band / share_hz)
    if home is not None:
        entry["home"] = [_short(value) for value in home]
    return entry


def _short(value: float) -> float:
    return float(f"{value:.12g}")


def _infeasible(scenario: Scenario, problem: Problem) -> Plan:
    """The plan that says why there is none."""
    certificate: dict[str, Any] = {}
    for name, (m, n) in zip(("pretrain", "finetune"), STAGES, strict=True):
        point = new_point(len(scenario.devices))
        status = solve_fixed(problem, one_sample(problem), m, n, 0.0, 0.0, point)
        if status == ENERGY_SHORT:
            certificate[name] = entry_of(point_prices(problem, point, 1.0), None, share_of(scenario))
        elif (prices := shortage_prices(problem, (int(m), int(n)), 1.0)) is not None:
            certificate[name] = entry_of(prices, None, share_of(scenario))
    return _seal(
        Plan(
            status=Status.INFEASIBLE,
            infeasibility=Infeasibility(
                clash=clashing_limits(problem, scenario.devices.names),
                min_energy_j=least_energy(problem),
                min_delay_s=least_delay(problem),
            ),
            certificate=certificate,
            **_head(scenario),
        )
    )
