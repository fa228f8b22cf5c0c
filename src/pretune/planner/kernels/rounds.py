"""Coefficients of the criteria, and lower bounds over boxes of rounds, for the compiled search.

The numbers come from `ConvergenceCriterion.numbers`: the kind first, then the constants; of trajectory and final the
last is what the noise of private fine-tuning costs.
"""

from __future__ import annotations

import math

from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.laws import law_coefficients, law_slopes
from pretune.planner.kernels.priced import (
    Prices,
    Region,
    fleet_bill,
    most_server_batch,
    server_bill,
)
from pretune.planner.problem import Problem

TRAJECTORY, FINAL, CALIBRATED = 0.0, 1.0, 2.0


@njit(cache=True, error_model="numpy")
def coefficients(c: Floats, m: float, n: float) -> tuple[float, float, float, float]:
    """``(weight, phi, psi0, psi)`` at rounds ``(m, n)``: the compiled twin of `ConvergenceCriterion.at`."""
    if c[0] == TRAJECTORY:
        phi = 2.0 * c[1] + m * c[2] + n * c[7] + c[-1] * n * n
        return m * c[5] + n * c[6], phi, m * c[3], n * c[4]
    if c[0] == CALIBRATED:
        return law_coefficients(c, m, n)
    keep0 = math.exp(c[5] * m) if m > 0.0 else 1.0
    keep1 = math.exp(c[6] * n) if n > 0.0 else 1.0
    gone0 = -math.expm1(c[5] * m) if m > 0.0 else 0.0
    gone1 = -math.expm1(c[6] * n) if n > 0.0 else 0.0
    phi = keep1 * (keep0 * c[1] + gone0 * c[2]) + gone1 * c[7] + c[-1] * n * gone1
    return 1.0, phi, keep1 * gone0 * c[3], gone1 * c[4]


@njit(cache=True, error_model="numpy")
def private_line(c: Floats, n1: float, n2: float) -> tuple[float, float]:
    """Of final: values at n1 and n2 of a line below ``g(n) = c n (1 - q^n)``, the private noise, between them.

    g is convex up to ``-2/log q`` and concave from there. With the lesser of its slope at n1 and its chord's, a line
    through ``(n1, g(n1))`` stays below: what g gains on it rises, then falls, and is not negative at either end.
    """
    first = -c[-1] * n1 * math.expm1(c[6] * n1) if n1 > 0.0 else 0.0
    if n2 == n1 or c[-1] == 0.0:
        return first, first
    fade = math.exp(c[6] * n1) if n1 > 0.0 else 1.0
    slope = c[-1] * ((1.0 - fade) - (c[6] * n1) * fade)
    chord = (-c[-1] * n2 * math.expm1(c[6] * n2) - first) / (n2 - n1)
    return first, first + min(slope, chord) * (n2 - n1)


@njit(cache=True, error_model="numpy")
def bound_at(problem: Problem, prices: Prices, region: Region, caps: Floats, m: float, n: float) -> float:
    """What the prices prove at one pair of rounds of a region; `caps` are its `most_batches`."""
    _, _, _, psi = coefficients(problem.criterion, m, n)
    return _bound_at(problem, prices, region, caps, m, n, n, psi)


@njit(cache=True, error_model="numpy")
def _bound_at(
    problem: Problem, prices: Prices, region: Region, caps: Floats, m: float, n: float, home_n: float, home_psi: float
) -> float:
    weight, phi, psi0, psi = coefficients(problem.criterion, m, n)
    if problem.criterion[0] == TRAJECTORY:
        # private noise is convex in the rounds: its tangent at home is below it, and the numerator stays linear
        phi -= problem.criterion[-1] * (n - home_n) ** 2
    most = most_server_batch(problem, region)
    if m > 0.0 and most < problem.batches.server_low:
        return math.inf
    bill = server_bill(problem, prices, most, m, psi0)
    bill += fleet_bill(problem, prices, region.s1, caps, n, psi, home_n, home_psi)
    return (phi + bill - prices.budget) / weight


@njit(cache=True, error_model="numpy")
def bound_over(problem: Problem, prices: Prices, region: Region, caps: Floats) -> float:
    """What the prices prove for every pair of rounds in a region except (0, 0); `caps` are its `most_batches`.

    trajectory: at given prices the numerator is linear in the rounds (private noise by its tangent) and so is the
    weight; their quotient is least at a corner. final: the phi is convex in the rounds (where the gap is at least the
    floor that the shift leaves) and lies above its tangent plane; the bills are concave and lie above their chords;
    what is left is linear and least at a corner (private noise by `private_line`). The server's bill also falls with
    the fine-tuning rounds: take it at the last. calibrated: see `_law_over`.
    """
    c = problem.criterion
    m1, m2, n1, n2 = region.m1, region.m2, region.n1, region.n2
    if m1 == m2 and n1 == n2:
        return bound_at(problem, prices, region, caps, m1, n1)
    if c[0] == TRAJECTORY:
        return _corners(problem, prices, region, caps)
    if c[0] == CALIBRATED:
        return _law_over(problem, prices, region, caps)
    most = most_server_batch(problem, region)
    if most < problem.batches.server_low:
        return math.inf
    _, phi11, _, psi1 = coefficients(c, m1, n1)
    _, phi12, psi0_low, _ = coefficients(c, m1, n2)
    _, phi21, _, _ = coefficients(c, m2, n1)
    _, phi22, psi0_high, psi2 = coefficients(c, m2, n2)
    server1 = server_bill(problem, prices, most, m1, psi0_low)
    server2 = server_bill(problem, prices, most, m2, psi0_high)
    home_n = 0.5 * (n1 + n2)
    _, _, _, home_psi = coefficients(c, m1, home_n)
    fleet1 = fleet_bill(problem, prices, region.s1, caps, n1, psi1, home_n, home_psi)
    fleet2 = fleet_bill(problem, prices, region.s1, caps, n2, psi2, home_n, home_psi)
    line1, line2 = private_line(c, n1, n2)
    if c[-1] > 0.0:
        most1, most2 = private_line(c, n1, n1)[0], private_line(c, n2, n2)[0]
        phi11, phi21, phi12, phi22 = phi11 - most1, phi21 - most1, phi12 - most2, phi22 - most2
    fleet1, fleet2 = fleet1 + line1, fleet2 + line2
    floor = min(min(phi11, phi12), min(phi21, phi22)) + min(server1, server2) + min(fleet1, fleet2)
    if c[1] >= c[2] and c[5] > -50.0 and c[6] > -50.0:
        m0, n0 = 0.5 * (m1 + m2), 0.5 * (n1 + n2)
        keep1 = math.exp(c[6] * n0)
        both = math.exp(c[5] * m0) * keep1 * (c[1] - c[2])
        # what fades with the fine-tuning rounds alone: convex, or, where the drift's floor is above the shift's,
        # concave, and then it goes with the bills to the ends
        middle = both + keep1 * max(c[2] - c[7], 0.0)
        by_m, by_n = c[5] * both, c[6] * middle
        middle += c[7]
        fading = min(c[2] - c[7], 0.0)
        if fading < 0.0:
            fleet1 += fading * (math.exp(c[6] * n1) if n1 > 0.0 else 1.0)
            fleet2 += fading * math.exp(c[6] * n2)
        flat = middle + min(by_m * (m1 - m0) + server1, by_m * (m2 - m0) + server2)
        flat += min(by_n * (n1 - n0) + fleet1, by_n * (n2 - n0) + fleet2)
        floor = max(floor, flat)
    return floor - prices.budget


@njit(cache=True, error_model="numpy")
def _law_over(problem: Problem, prices: Prices, region: Region, caps: Floats) -> float:
    """What the prices prove over a region for a law, whose coefficients are least at the corner of most rounds.

    phi rises towards the other corners by no less than its least slopes say, but is level beyond the law's most rounds;
    the bills at the least noise are concave in the rounds of their stage. What is left is concave in either stage's
    rounds up to the law's most and again from there: least at an end or there.
    """
    c = problem.criterion
    m1, m2, n1, n2 = region.m1, region.m2, region.n1, region.n2
    most = most_server_batch(problem, region)
    if most < problem.batches.server_low:
        return math.inf
    _, phi, psi0, psi = coefficients(c, m2, n2)
    cap_m, cap_n = min(max(m1, c[14]), m2), min(max(n1, c[15]), n2)
    by_m, by_n = 0.0, 0.0
    if cap_m > m1 or cap_n > n1:
        by_m, by_n = law_slopes(c, min(m1, c[14]), min(m2, c[14]), min(n1, c[15]), min(n2, c[15]))
    home_n = 0.5 * (n1 + n2)
    _, _, _, home_psi = coefficients(c, m1, home_n)
    first = by_m * (cap_m - m1) + server_bill(problem, prices, most, m1, psi0)
    first = min(first, server_bill(problem, prices, most, cap_m, psi0))
    second = by_n * (cap_n - n1) + fleet_bill(problem, prices, region.s1, caps, n1, psi, home_n, home_psi)
    second = min(second, fleet_bill(problem, prices, region.s1, caps, cap_n, psi, home_n, home_psi))
    if n2 > cap_n:  # where a shared band is worth something, more rounds may be billed less
        second = min(second, fleet_bill(problem, prices, region.s1, caps, n2, psi, home_n, home_psi))
    return phi + first + second - prices.budget


@njit(cache=True, error_model="numpy")
def _corners(problem: Problem, prices: Prices, region: Region, caps: Floats) -> float:
    """The least of the bound at the corners of a region; (0, 0) gives way to (1, 0) and (0, 1)."""
    m1, m2, n1, n2 = region.m1, region.m2, region.n1, region.n2
    home = 0.5 * (n1 + n2)
    _, _, _, psi = coefficients(problem.criterion, m1, home)
    least = math.inf
    if m1 == 0.0 and n1 == 0.0:
        if m2 >= 1.0:
            least = min(least, _bound_at(problem, prices, region, caps, 1.0, 0.0, home, psi))
        if n2 >= 1.0:
            least = min(least, _bound_at(problem, prices, region, caps, 0.0, 1.0, home, psi))
    else:
        least = min(least, _bound_at(problem, prices, region, caps, m1, n1, home, psi))
    if m2 > m1 and m2 + n1 > 0.0:
        least = min(least, _bound_at(problem, prices, region, caps, m2, n1, home, psi))
    if n2 > n1 and m1 + n2 > 0.0:
        least = min(least, _bound_at(problem, prices, region, caps, m1, n2, home, psi))
    if m2 > m1 and n2 > n1:
        least = min(least, _bound_at(problem, prices, region, caps, m2, n2, home, psi))
    return least
