"""From a scenario with a `schedule` to a plan in segments: search, then write down the decisions and the proof."""

from __future__ import annotations

from typing import Any

import numpy as np

from pretune.certify import limits_of, totals, value_of
from pretune.figures import system_of
from pretune.physics import cost, link
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.kernels.segment_bounds import SegmentPrices, price_segments
from pretune.planner.kernels.segments import new_course
from pretune.planner.problem import Problem
from pretune.planner.schedule.search import ScheduleSearch
from pretune.planner.schedule.whole import ScheduleDecision
from pretune.planner.write import MARGIN, MOST_CERTIFIED, graded, head_of, seal, short, those_needed, with_margin
from pretune.plans import FinetuneStage, Plan, PretrainStage, Status
from pretune.scenario import Scenario
from pretune.segment_bounds import priced_segments


def planned(scenario: Scenario, problem: Problem, tolerance: float, deadline: float) -> Plan:
    """The best plan in segments of a scenario in which something fits."""
    search = ScheduleSearch(with_margin(problem), scenario.schedule, tolerance, deadline)
    search.run()
    best = search.best
    if best is None:
        return seal(Plan(status=Status.NUMERICAL_FAILURE, **head_of(scenario)))
    pretrain, finetune = _pretrain_stage(scenario, best), _finetune_stage(scenario, best)
    energy_j, delay_s = totals(scenario, pretrain, finetune)
    objective = value_of(scenario, pretrain, finetune)
    own = own_prices(problem, scenario.schedule, best.rounds)
    # the search kept a margin of the budgets back: what it proved holds for the true ones up to the prices' worth of it
    slip = 4.0 * MARGIN * own.budget / coefficients(problem.criterion, *map(float, best.rounds))[0]
    lower = min(search.proven - slip, objective)
    lower = max(lower - 1e-12 * abs(lower), 0.0)  # every criterion is at least zero
    certificate, multipliers = _certificate(scenario, problem, search, own, lower, tolerance)
    return seal(
        Plan(
            pretrain=pretrain,
            finetune=finetune,
            objective=objective,
            **graded(objective, lower, tolerance, late=search.late),
            energy_j=energy_j,
            delay_s=delay_s,
            multipliers=multipliers,
            constraints=limits_of(scenario, pretrain, finetune),
            certificate=certificate,
            **head_of(scenario),
        )
    )


def _pretrain_stage(scenario: Scenario, best: ScheduleDecision) -> PretrainStage:
    lengths = _lengths(best.rounds[0], scenario.schedule)
    segments = []
    for j in np.flatnonzero(lengths).tolist():
        batch = int(best.server_batches[j])
        clock_hz = min(float(best.course.server_clock[j]), scenario.server.max_clock_hz)
        one = cost.pretrain_round(scenario, batch, clock_hz)
        segments.append(PretrainStage(rounds=int(lengths[j]), batch=batch, clock_hz=clock_hz, round_s=one.time_s))
    return PretrainStage.of(segments) if segments else PretrainStage(rounds=0, batch=0, clock_hz=0.0, round_s=0.0)


def _finetune_stage(scenario: Scenario, best: ScheduleDecision) -> FinetuneStage:
    fleet, radio, lengths = scenario.devices, scenario.radio, _lengths(best.rounds[1], scenario.schedule)
    noise = radio.noise_psd_w_per_hz * fleet.bandwidth_hz / fleet.gain
    segments = []
    for j in np.flatnonzero(lengths).tolist():
        clock_hz = np.minimum(best.course.clock[j], fleet.max_clock_hz)
        power_w = np.minimum(noise * np.expm1(best.course.exponent[j]), fleet.max_power_w)
        segments.append(
            FinetuneStage(
                rounds=int(lengths[j]),
                round_s=cost.finetune_round(scenario, best.batches[j], clock_hz, power_w).time_s,
                names=tuple(fleet.names),
                batch=best.batches[j].astype(np.int64),
                clock_hz=clock_hz,
                power_w=power_w,
                upload_s=link.airtime(
                    scenario.workload.upload_bits, power_w, fleet.gain, fleet.bandwidth_hz, radio.noise_psd_w_per_hz
                ),
            )
        )
    return FinetuneStage.of(segments) if segments else FinetuneStage.unused()


def _lengths(rounds: int, segments: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rounds of each segment, in whole numbers."""
    return np.diff([j * rounds // segments for j in range(segments + 1)])


def own_prices(problem: Problem, segments: int, rounds: tuple[int, int]) -> SegmentPrices:
    """The prices of the continuous optimum at the plan's rounds: its multipliers."""
    course = new_course(segments, problem.devices.cycles.size)
    ScheduleSearch(problem, segments, 1.0).solve(rounds, course)
    own: SegmentPrices = price_segments(problem, float(course.scalars[0]), float(course.scalars[1]), course.price)
    return own


def _certificate(
    scenario: Scenario, problem: Problem, search: ScheduleSearch, own: SegmentPrices, lower: float, tolerance: float
) -> tuple[dict[str, Any], dict[str, float]]:
    """The prices that prove the bound (only those the proof needs), and the multipliers they are."""
    best = search.best
    if best is None:
        raise ValueError("a search without a decision has nothing to certify")
    weight = coefficients(problem.criterion, *map(float, best.rounds))[0]
    certificate: dict[str, Any] = {"tolerance": tolerance}
    system = system_of(scenario)
    first = entry_of(own, (float(best.rounds[0]), float(best.rounds[1])))
    if len(scenario.devices) * scenario.schedule <= MOST_CERTIFIED:
        entries = [first, *(entry_of(search.pool[i], search.homes[i]) for i in sorted(search.used))]
        sets = [priced_segments(system, entry) for entry in entries]
        needed = those_needed(system, sets, lower, False, search.deadline)
        if needed is not None:
            certificate["prices"] = [first, *(entries[i] for i in needed if i > 0)]
    exact = priced_segments(system, first)
    return certificate, {"energy_j": -exact.energy / weight, "delay_s": -exact.delay / weight}


def entry_of(prices: SegmentPrices, home: tuple[float, float]) -> dict[str, Any]:
    """A price set as the plan file holds it, rounded to twelve digits: any prices prove something."""
    omega = prices.delay / prices.energy if prices.energy > 0.0 else 0.0
    entry: dict[str, Any] = {"energy": short(prices.energy), "omega": short(omega)}
    if np.any(prices.shares > 0.0):
        entry["shares"] = [[short(value) for value in row] for row in prices.shares.tolist()]
    entry["home"] = [short(home[0]), short(home[1]), 0.0]
    return entry
