"""Coefficients of the criteria, and lower bounds over boxes of rounds, for the compiled search.

The numbers come from `ConvergenceCriterion.numbers`: the kind first, then the constants.
"""

from __future__ import annotations

import math

from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.priced import Prices, fleet_bill, server_bill
from pretune.planner.problem import Problem

TRAJECTORY, FINAL = 0.0, 1.0


@njit(cache=True, error_model="numpy")
def coefficients(c: Floats, m: float, n: float) -> tuple[float, float, float, float]:
    """``(weight, phi, psi0, psi)`` at rounds ``(m, n)``: the compiled twin of `ConvergenceCriterion.at`."""
    if c[0] == TRAJECTORY:
        return m * c[5] + n * c[6], 2.0 * c[1] + m * c[2], m * c[3], n * c[4]
    keep0 = math.exp(c[5] * m) if m > 0.0 else 1.0
    keep1 = math.exp(c[6] * n) if n > 0.0 else 1.0
    gone0 = -math.expm1(c[5] * m) if m > 0.0 else 0.0
    gone1 = -math.expm1(c[6] * n) if n > 0.0 else 0.0
    return 1.0, keep1 * (keep0 * c[1] + gone0 * c[2]), keep1 * gone0 * c[3], gone1 * c[4]


@njit(cache=True, error_model="numpy")
def bound_at(problem: Problem, prices: Prices, m: float, n: float) -> float:
    """What the prices prove at one pair of rounds."""
    weight, phi, psi0, psi = coefficients(problem.criterion, m, n)
    bill = server_bill(prices, problem.batches, m, psi0)
    bill += fleet_bill(prices, problem.batches, problem.devices.variance, n, psi)
    return (phi + bill - prices.budget) / weight


@njit(cache=True, error_model="numpy")
def bound_over(problem: Problem, prices: Prices, m1: float, m2: float, n1: float, n2: float) -> float:
    """What the prices prove for every pair of rounds in ``[m1, m2] x [n1, n2]`` except (0, 0).

    trajectory: at given prices the numerator is linear in the rounds and so is the weight; their quotient is
    least at a corner. final: the phi is convex in the rounds (where the gap is at least the floor that the shift
    leaves) and lies above its tangent plane; the bills are concave and lie above their chords; what is left is
    linear and least at a corner. The server's bill also falls with the fine-tuning rounds: take it at the last.
    """
    c = problem.criterion
    if m1 == m2 and n1 == n2:
        return bound_at(problem, prices, m1, n1)
    if c[0] == TRAJECTORY:
        if m1 == 0.0 and n1 == 0.0:
            least = math.inf
            if m2 >= 1.0:
                least = min(bound_at(problem, prices, 1.0, 0.0), bound_at(problem, prices, m2, 0.0))
            if n2 >= 1.0:
                least = min(least, bound_at(problem, prices, 0.0, 1.0), bound_at(problem, prices, 0.0, n2))
        else:
            least = bound_at(problem, prices, m1, n1)
            least = min(least, bound_at(problem, prices, m1, n2), bound_at(problem, prices, m2, n1))
        if m2 >= 1.0 or n2 >= 1.0:
            least = min(least, bound_at(problem, prices, m2, n2))
        return least
    variance = problem.devices.variance
    _, phi11, _, _ = coefficients(c, m1, n1)
    _, phi12, psi0_low, _ = coefficients(c, m1, n2)
    _, phi21, _, psi1 = coefficients(c, m2, n1)
    _, phi22, psi0_high, psi2 = coefficients(c, m2, n2)
    server1 = server_bill(prices, problem.batches, m1, psi0_low)
    server2 = server_bill(prices, problem.batches, m2, psi0_high)
    fleet1 = fleet_bill(prices, problem.batches, variance, n1, psi1)
    fleet2 = fleet_bill(prices, problem.batches, variance, n2, psi2)
    floor = min(min(phi11, phi12), min(phi21, phi22)) + min(server1, server2) + fleet1
    if c[1] >= c[2] and c[5] > -50.0 and c[6] > -50.0:
        m0, n0 = 0.5 * (m1 + m2), 0.5 * (n1 + n2)
        keep1 = math.exp(c[6] * n0)
        both = math.exp(c[5] * m0) * keep1 * (c[1] - c[2])
        middle = both + keep1 * c[2]
        by_m, by_n = c[5] * both, c[6] * middle
        flat = middle + min(by_m * (m1 - m0) + server1, by_m * (m2 - m0) + server2)
        flat += min(by_n * (n1 - n0) + fleet1, by_n * (n2 - n0) + fleet2)
        floor = max(floor, flat)
    return floor - prices.budget
