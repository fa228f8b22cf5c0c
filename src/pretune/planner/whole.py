"""Whole batches at fixed rounds: round the real ones down, then spend what is left where it buys most.

A batch one sample larger lowers the criterion by ``psi A (1/b - 1/(b+1))`` and costs one sample at the prices of
the continuous optimum; samples are added in the order of that ratio (the marginal analysis of separable
convex resource allocation) as long as the energy and the time allow, where clocks, powers and the split of time
are chosen afresh for every trial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import SOLVED, Point, new_point, solve_fixed
from pretune.planner.kernels.priced import Prices
from pretune.planner.problem import Batches, Problem

_SWEEPS = 4
Order = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Rounds and whole batches that fit the budgets, and the clocks and powers they run at."""

    rounds: tuple[int, int]
    server_batch: int
    batches: Floats
    point: Point
    value: float
    """The criterion."""


def round_batches(
    problem: Problem,
    rounds: tuple[int, int],
    coefficients: tuple[float, float, float, float],
    point: Point,
    prices: Prices,
) -> Decision | None:
    """A good whole-batch decision near a continuous optimum `point`; None if not even its floor fits.

    `coefficients` are ``(weight, phi, psi0, psi)`` at the rounds.
    """
    m, n = rounds
    weight, phi, psi0, psi = coefficients
    limits, variance = problem.batches, problem.devices.variance
    count = variance.size
    # the server is item 0, the devices follow; an unused stage keeps its least batch
    noise = np.concatenate(([psi0 if m else 0.0], psi * variance if n else np.zeros(count)))
    cost = np.concatenate(([m * prices.server_cost], n * prices.sample_costs))
    low = np.concatenate(([limits.server_low], limits.low))
    high = np.concatenate(([limits.server_high], limits.high))
    real = np.concatenate(([point.scalars[4] if m else 1.0], point.batch if n else limits.low))
    batch = np.clip(np.floor(real * (1.0 + 1e-12)), low, high)
    work = new_point(count)
    if not _fits(problem, rounds, batch, work):
        batch = low.copy()
        if not _fits(problem, rounds, batch, work):
            return None
    for _ in range(_SWEEPS):
        gain = np.where(batch < high, noise / batch - noise / (batch + 1.0), 0.0)
        order = np.argsort(-gain / np.maximum(cost, 1e-300), kind="stable")
        order = order[gain[order] > 0.0]
        grown = _grow(problem, rounds, batch, order, work)
        if grown is None:
            break
        batch = grown
    if not _fits(problem, rounds, batch, work):
        return None
    value = phi
    if m:
        value += psi0 / batch[0]
    if n:
        value += psi * float((variance / batch[1:]).sum())
    return Decision(
        rounds=rounds,
        server_batch=int(batch[0]) if m else 0,
        batches=batch[1:] if n else np.zeros(0),
        point=work,
        value=value / weight,
    )


def _grow(problem: Problem, rounds: tuple[int, int], batch: Floats, order: Order, work: Point) -> Floats | None:
    """One sample more for as many items as fit, in `order`; None when none fits."""
    done, left, right = 0, 0, int(order.size)
    base = batch.copy()
    while left < right:
        middle = (left + right + 1) // 2
        trial = base.copy()
        trial[order[:middle]] += 1.0
        if _fits(problem, rounds, trial, work):
            left = middle
        else:
            right = middle - 1
    base[order[:left]] += 1.0
    done = left
    for item in order[left + 1 : left + 9]:
        base[item] += 1.0
        if _fits(problem, rounds, base, work):
            done += 1
        else:
            base[item] -= 1.0
    return base if done else None


def _fits(problem: Problem, rounds: tuple[int, int], batch: Floats, work: Point) -> bool:
    """Whether these batches fit the budgets; leaves the cheapest clocks and powers in `work`."""
    fixed = Batches(
        server_low=float(batch[0]), server_high=float(batch[0]), low=batch[1:].copy(), high=batch[1:].copy(), span=0.0
    )
    status = solve_fixed(problem, fixed, float(rounds[0]), float(rounds[1]), 0.0, 0.0, work)
    return bool(status == SOLVED) and math.isfinite(work.scalars[6]) and work.scalars[6] <= problem.limits.energy
