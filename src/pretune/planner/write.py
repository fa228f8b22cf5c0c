"""Writing down what a search found: decisions, figures from the cost model, and the prices that prove the bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pretune.certify import limits_of, sentence, totals, value_of
from pretune.figures import SAME, System, system_of
from pretune.physics import cost, link
from pretune.planner.dropped import devices_to_drop
from pretune.planner.infeasible import STAGES, clashing_limits, least_delay, least_energy, one_sample
from pretune.planner.kernels.fixed import ENERGY_SHORT, least_span, new_point, solve_fixed
from pretune.planner.kernels.priced import Prices, point_prices
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.large.search import LargeSearch
from pretune.planner.problem import Problem
from pretune.planner.search import Search
from pretune.planner.shortage import shortage_prices
from pretune.planner.whole import Decision
from pretune.plans import FinetuneStage, Infeasibility, Plan, PretrainStage, Status
from pretune.price_sets import Priced, multipliers_of, priced
from pretune.private_claim import claim_of
from pretune.proof import cover
from pretune.scenario import Scenario

MOST_CERTIFIED = 1000
"""Fleets up to this size carry every device's share of the prices that prove the bound; larger ones are planned as
large fleets, whose certificate leaves the shares to the checker."""
FEW = 40
"""A proof of up to this many price sets is written down as the search found it."""
_GRACE_S = 1.0
"""Beyond a time limit, for finding out which prices the proof takes; without an answer the plan carries none."""
MARGIN = 1e-11
"""Share of the budgets kept back for rounding errors, so that a plan keeps its limits to the last bit."""


def with_margin(problem: Problem) -> Problem:
    """The problem with a little of every budget kept back, so that rounding errors break no limit."""
    d, limits = problem.devices, problem.limits
    keep = 1.0 - MARGIN
    less = limits._replace(energy=limits.energy * keep, delay=limits.delay * keep, band=limits.band * keep)
    if limits.band > 0.0:
        # at one sample each and without batteries: what the bound's twin (`pretune.bounds`) knows as well
        bare = d._replace(battery=np.full_like(d.battery, np.inf))
        less = less._replace(shortest=float(least_span(bare, limits, np.ones_like(d.cycles), 1.0)))
    return problem._replace(limits=less)


def head_of(scenario: Scenario) -> dict[str, Any]:
    """What every plan of a scenario says of it."""
    return {
        "criterion": scenario.convergence.criterion.value,
        "scenario_sha256": scenario.sha256,
        "defaults": scenario.defaults,
    }


def write_plan(scenario: Scenario, problem: Problem, search: Search, tolerance: float) -> Plan:
    """The plan of a search with its certificate."""
    best = search.best
    if best is None:
        raise ValueError("a search without a decision has no plan to write")
    # the search kept a margin of the budgets back: what it proved holds for the true ones up to the prices' worth of it
    own = own_prices(problem, best.rounds)
    worth = own.budget + best.rounds[1] * own.energy * own.band * problem.limits.band
    slip = 4.0 * MARGIN * worth / coefficients(problem.criterion, *map(float, best.rounds))[0]
    bare = _decided(scenario, best, search.proven - slip, tolerance, late=search.late)
    certificate, multipliers = _certificate(scenario, problem, search, own, bare.lower_bound, tolerance)
    return seal(Plan(**{**vars(bare), "certificate": certificate, "multipliers": multipliers}))


def write_large(scenario: Scenario, search: LargeSearch, best: Decision, tolerance: float) -> Plan:
    """The plan of a large fleet; its bound was proven by the checker's code, for the scenario's own budgets."""
    # every criterion is at least zero: that needs no prices, and is all there is to say without them
    proven = search.proven if math.isfinite(search.proven) else 0.0
    bare = _decided(scenario, best, proven, tolerance, late=search.late)
    certificate: dict[str, Any] = {"tolerance": tolerance}
    if math.isfinite(search.proven):
        certificate["prices"] = [search.entries[i] for i in sorted({0, *search.needed})]
    own, weight = search.sets[0], search.system.criterion.at(*map(float, best.rounds)).weight
    multipliers = {"energy_j": -own.energy / weight, "delay_s": -own.delay / weight}
    return seal(Plan(**{**vars(bare), "certificate": certificate, "multipliers": multipliers}))


def _decided(scenario: Scenario, best: Decision, proven: float, tolerance: float, *, late: bool) -> Plan:
    """A plan without its certificate: every figure is recomputed from the decisions by the cost model."""
    pretrain = pretrain_stage(scenario, best)
    finetune = finetune_stage(scenario, best)
    energy_j, delay_s = totals(scenario, pretrain, finetune)
    objective = value_of(scenario, pretrain, finetune)
    lower = min(proven, objective)
    lower -= 1e-12 * abs(lower)
    return Plan(
        pretrain=pretrain,
        finetune=finetune,
        objective=objective,
        **graded(objective, lower, tolerance, late=late),
        energy_j=energy_j,
        delay_s=delay_s,
        constraints=limits_of(scenario, pretrain, finetune),
        privacy=claim_of(scenario, finetune.rounds),
        **head_of(scenario),
    )


def graded(objective: float, lower: float, tolerance: float, *, late: bool) -> dict[str, Any]:
    """What a plan says of how good it is: its bound, the gap to it, and the status that this gap deserves."""
    gap = (objective - lower) / objective if objective > 0.0 else 0.0
    status = Status.OPTIMAL if gap <= tolerance else Status.TIME_LIMIT if late else Status.FEASIBLE
    return {"status": status, "lower_bound": lower, "relative_gap": gap}


def seal(answer: Plan) -> Plan:
    """The plan with its sentence."""
    return Plan(**{**vars(answer), "message": sentence(answer)})


def pretrain_stage(scenario: Scenario, best: Decision) -> PretrainStage:
    """The decisions of pre-training."""
    rounds = best.rounds[0]
    if rounds == 0:
        return PretrainStage(rounds=0, batch=0, clock_hz=0.0, round_s=0.0)
    clock_hz = min(float(best.point.scalars[5]), scenario.server.max_clock_hz)
    one = cost.pretrain_round(scenario, best.server_batch, clock_hz)
    return PretrainStage(rounds=rounds, batch=best.server_batch, clock_hz=clock_hz, round_s=one.time_s)


def finetune_stage(scenario: Scenario, best: Decision) -> FinetuneStage:
    """The decisions of fine-tuning."""
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


def own_prices(problem: Problem, rounds: tuple[int, int]) -> Prices:
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
        if search.cut_spans or len(entries) > FEW:
            # many sets were tried on the way; ask the proof which of them it takes
            sets = [priced(system, entry) for entry in entries]
            needed = those_needed(system, sets, lower, search.cut_spans, search.deadline)
            entries = [] if needed is None else [first, *(entries[i] for i in needed if i > 0)]
        if entries:
            certificate["prices"] = entries
    return certificate, multipliers_of(system, priced(system, first), m, n)


def those_needed(
    system: System, sets: Sequence[Priced], lower: float, cut_spans: bool, deadline: float
) -> list[int] | None:
    """Which of the price sets the proof of the bound takes; None where they don't prove it, or not soon enough."""
    claim = lower - 0.5 * SAME * abs(lower)
    whole, needed = cover(system, sets, claim, cut_spans, deadline=deadline + _GRACE_S)
    return needed if whole else None


def share_of(scenario: Scenario) -> float:
    """The hertz of an equal share of a shared band."""
    return float(scenario.devices.bandwidth_hz[0])


def entry_of(prices: Prices, home: tuple[float, float, float] | None = None, share_hz: float = 1.0) -> dict[str, Any]:
    """A price set as the plan file holds it, rounded to twelve digits: any prices prove something."""
    omega = prices.delay / prices.energy if prices.energy > 0.0 else 0.0
    entry: dict[str, Any] = {"energy": short(prices.energy), "omega": short(omega)}
    if np.any(prices.shares > 0.0):
        entry["shares"] = [short(value) for value in prices.shares.tolist()]
    if np.any(prices.ratios > 1.0):
        entry["ratios"] = [max(short(value), 1.0) for value in prices.ratios.tolist()]
    if len(prices.splits):
        entry["halves"] = [
            [int(k), int(batch), max(short(low), 1.0), max(short(high), 1.0)]
            for k, batch, low, high in prices.splits.tolist()
        ]
    if prices.band > 0.0:
        entry["band"] = short(prices.band / share_hz)
    if home is not None:
        entry["home"] = [short(value) for value in home]
    return entry


def short(value: float) -> float:
    """A price to twelve digits."""
    return float(f"{value:.12g}")


def infeasible_plan(scenario: Scenario, problem: Problem) -> Plan:
    """The plan that says why there is none."""
    certificate: dict[str, Any] = {}
    for name, (m, n) in zip(("pretrain", "finetune"), STAGES, strict=True):
        point = new_point(len(scenario.devices))
        status = solve_fixed(problem, one_sample(problem), m, n, 0.0, 0.0, point)
        if status == ENERGY_SHORT:
            certificate[name] = entry_of(point_prices(problem, point, 1.0), None, share_of(scenario))
        elif (prices := shortage_prices(problem, (int(m), int(n)), 1.0)) is not None:
            certificate[name] = entry_of(prices, None, share_of(scenario))
    return seal(
        Plan(
            status=Status.INFEASIBLE,
            infeasibility=Infeasibility(
                clash=clashing_limits(problem, scenario.devices.names),
                min_energy_j=least_energy(problem),
                min_delay_s=least_delay(problem),
                drop=devices_to_drop(scenario, problem),
            ),
            certificate=certificate,
            **head_of(scenario),
        )
    )
