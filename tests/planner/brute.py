"""Exhaustive search over small problems: every pair of rounds with every choice of whole batches."""

from __future__ import annotations

import itertools
import math

import numpy as np

from pretune.convergence.criteria import criterion_of, device_noise
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.problem import build
from pretune.scenario import Scenario


def most_rounds(scenario: Scenario, stage: int) -> int:
    """The most rounds of one stage alone, one sample each, that fit: by trying one after the other."""
    rounds = 0
    while rounds < 1000:
        m, n = (rounds + 1, 0) if stage == 0 else (0, rounds + 1)
        if least_joules(scenario, m, n, 1, (1,) * len(scenario.devices)) > scenario.budget.energy_j:
            break
        rounds += 1
    return rounds


def least_joules(scenario: Scenario, m: int, n: int, server_batch: int, batches: tuple[int, ...]) -> float:
    """Joules that rounds with these batches take at least within delay and batteries; infinity where they can't be."""
    problem, _ = build(scenario)
    each = np.array(batches, dtype=float)
    fixed = problem.batches._replace(
        server_low=float(server_batch), server_high=float(server_batch), low=each, high=each.copy()
    )
    rich = problem._replace(limits=problem.limits._replace(energy=1e300))
    point = new_point(len(batches))
    status = solve_fixed(rich, fixed, float(m), float(n), 0.0, 0.0, point)
    return float(point.scalars[6]) if status == SOLVED else math.inf


Trial = tuple[int, int, int, tuple[int, ...]]


def exhaustive(scenario: Scenario) -> tuple[float, list[Trial]]:
    """The best value over all rounds and whole batches, and the decisions that were tried against the budgets."""
    criterion, noise = criterion_of(scenario), device_noise(scenario)
    fleets = list(itertools.product(*(range(1, int(d) + 1) for d in scenario.devices.samples)))
    scatter = (noise / np.array(fleets, dtype=float)).sum(axis=1)
    servers = np.arange(1.0, scenario.server.samples + 1.0)
    best, tried = math.inf, []
    for m, n in itertools.product(*(range(most_rounds(scenario, stage) + 1) for stage in (0, 1))):
        if m + n == 0:
            continue
        c = criterion.at(m, n)
        by_server = c.psi0 / servers if m else np.zeros(1)
        by_fleet = c.psi * scatter if n else np.zeros(1)
        values = (c.phi + by_server[:, None] + by_fleet[None, :]) / c.weight
        for at in np.argsort(values, axis=None, kind="stable").tolist():
            b0, each = divmod(at, by_fleet.size)
            if values[b0, each] >= best:
                break
            tried.append((m, n, b0 + 1, fleets[each]))
            if least_joules(scenario, *tried[-1]) <= scenario.budget.energy_j:
                best = float(values[b0, each])
                break
    return best, tried
