"""What prices prove about plans in segments: lower bounds for any rounds, in closed form.

As in `priced`, but every segment of every device settles by itself: with prices common to all segments and shares of
its own for each fine-tuning segment,

    numerator(M, N) >= phi + sum_j min_b0 (psi0_j/b0 + m_j c0 b0)
                           + sum_j [ n_j C_j + sum_k min_bk (psi_j A_k/b_k + n_j c_jk b_k) ] - budgets

A bill, the least over batches of something linear in rounds and noise weight, is concave and of degree one in
``(n_j, psi_j)`` and rises in both. Over a box of rounds:

- trajectory: ``psi_j`` is proportional to ``n_j``, so the bills are no less than the rounds times the cheapest
  segment's bill of one round, and the bound is a quotient of linear functions, least at a corner;
- final: rounds of one remainder modulo J have segments whose ends move in equal steps, so along them ``n_j`` is linear
  and ``psi_j`` a difference of two exponentials. It lies above its chord lowered by `_sag` (and, being unimodal, above
  the lesser of its ends), and the bills, concave, above the chord of their values at the ends. So phi's tangent plane
  plus the bills is least at the ends of one of the J remainders. The sag falls with the square of the box's width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.priced import cheapest, most_paid_batch, price
from pretune.planner.kernels.rounds import TRAJECTORY, coefficients
from pretune.planner.kernels.segments import Parts, fastest_round
from pretune.planner.problem import Problem


class SegmentPrices(NamedTuple):
    """Prices in units of the criterion's numerator, and the costs that follow from them; see `priced.Prices`."""

    energy: float
    delay: float
    server_cost: float
    budget: float
    round_cost: Floats
    """What a fine-tuning round of each segment costs before any sample, shape (J,)."""
    sample_costs: Floats
    """Shape (J, K)."""
    shares: Floats
    """Shape (J, K), W."""


class Caps(NamedTuple):
    """The largest whole batches that a box of rounds leaves time for: shapes (J,) and (J, K); is anything possible."""

    server: Floats
    devices: Floats
    possible: bool


@njit(cache=True, error_model="numpy")
def price_segments(problem: Problem, lam: float, omega: float, shares: Floats) -> SegmentPrices:
    """The prices `lam` per joule, `omega` joules per second, and each segment's `shares` of shape (J, K)."""
    count = shares.shape[1]
    for j in range(shares.shape[0]):
        omega = max(omega, shares[j].sum())
    # what the shares leave of omega, each second a round is known to take at the least pays
    span, _ = fastest_round(problem, problem.batches.low)
    ratios = np.ones(count)
    round_cost, costs = np.empty(shares.shape[0]), np.empty(shares.shape)
    server_cost, budget = 0.0, 0.0
    for j in range(shares.shape[0]):
        one = price(problem, lam, omega, shares[j], ratios)
        round_cost[j] = one.round_cost + one.slack * span * (1.0 - 1e-12)
        costs[j] = one.sample_costs
        server_cost, budget = one.server_cost, one.budget
    return SegmentPrices(lam, lam * omega, server_cost, budget, round_cost, costs, shares.copy())


@njit(cache=True, error_model="numpy")
def segment_length(rounds: float, j: int, segments: int) -> float:
    """The rounds of segment `j`: ``floor((j+1)R/J) - floor(jR/J)``."""
    return float(np.floor((j + 1) * rounds / segments) - np.floor(j * rounds / segments))


@njit(cache=True, error_model="numpy")
def weight_of(rate: float, rounds: float, j: int, segments: int) -> float:
    """``keep^(R - end_j) (1 - keep^len_j)`` with ``rate = log keep``: the noise weight of a segment in `final`."""
    length = segment_length(rounds, j, segments)
    if length <= 0.0:
        return 0.0
    after = rounds - np.floor((j + 1) * rounds / segments)
    return (math.exp(rate * after) if after > 0.0 else 1.0) * -math.expm1(rate * length)


@njit(cache=True, error_model="numpy")
def parts_at(c: Floats, m: float, n: float, segments: int) -> Parts:
    """Rounds and noise coefficients of all segments: the compiled twin of `convergence.schedule`."""
    parts = Parts(np.empty(segments), np.empty(segments), np.empty(segments), np.empty(segments))
    keep = math.exp(c[6] * n) if n > 0.0 else 1.0
    for j in range(segments):
        parts.m[j], parts.n[j] = segment_length(m, j, segments), segment_length(n, j, segments)
        if c[0] == TRAJECTORY:
            parts.psi0[j], parts.psi[j] = parts.m[j] * c[3], parts.n[j] * c[4]
        else:
            parts.psi0[j] = keep * c[3] * weight_of(c[5], m, j, segments)
            parts.psi[j] = c[4] * weight_of(c[6], n, j, segments)
    return parts


@njit(cache=True, error_model="numpy")
def caps_over(problem: Problem, m1: float, m2: float, n1: float, n2: float, segments: int) -> Caps:
    """The largest batches of any rounds in a box.

    A segment with at least L rounds leaves all other rounds their least time, so one of its rounds takes at most its
    own least plus 1/L of the slack that the box's fewest rounds leave.
    """
    d, limits, server, batches = problem.devices, problem.limits, problem.server, problem.batches
    span, uploads = fastest_round(problem, batches.low)
    least0 = server.cycles * batches.server_low / server.clock_max
    least1 = span + limits.down_s + (uploads if limits.tdma else 0.0)
    slack = limits.delay - m1 * least0 - n1 * least1
    joules = limits.energy - n1 * limits.down_j
    caps = Caps(np.empty(segments), np.empty((segments, d.cycles.size)), True)
    if slack < -1e-9 * limits.delay or joules < 0.0:
        return Caps(caps.server, caps.devices, False)
    slack += 1e-9 * limits.delay
    for j in range(segments):
        length0 = segment_length(m1, j, segments) if m1 == m2 else np.floor(m1 / segments)
        length1 = segment_length(n1, j, segments) if n1 == n2 else np.floor(n1 / segments)
        caps.server[j] = batches.server_high
        if length0 > 0.0:
            time = least0 + slack / length0
            fits = min(time * server.clock_max / server.cycles, most_paid_batch(server, time, joules / length0))
            caps.server[j] = min(batches.server_high, max(np.floor(fits * (1.0 + 1e-9)), batches.server_low))
        for k in range(d.cycles.size):
            caps.devices[j, k] = batches.high[k]
            if length1 > 0.0:
                time = span + slack / length1
                if not limits.tdma:
                    time -= d.span[k] / d.exponent_max[k]
                fits = np.floor(time * d.clock_max[k] / d.cycles[k] * (1.0 + 1e-9))
                caps.devices[j, k] = min(batches.high[k], max(fits, batches.low[k]))
    return caps


@njit(cache=True, error_model="numpy")
def _server_bill(problem: Problem, prices: SegmentPrices, caps: Caps, j: int, rounds: float, psi0: float) -> float:
    if rounds <= 0.0:
        return 0.0
    return cheapest(psi0, rounds * prices.server_cost, problem.batches.server_low, caps.server[j])


@njit(cache=True, error_model="numpy")
def _fleet_bill(problem: Problem, prices: SegmentPrices, caps: Caps, j: int, rounds: float, psi: float) -> float:
    if rounds <= 0.0:
        return 0.0
    bill, variance, low = rounds * prices.round_cost[j], problem.devices.variance, problem.batches.low
    for k in range(variance.size):
        bill += cheapest(psi * variance[k], rounds * prices.sample_costs[j, k], low[k], caps.devices[j, k])
    return bill


@njit(cache=True, error_model="numpy")
def segments_bound_at(problem: Problem, prices: SegmentPrices, caps: Caps, m: float, n: float, segments: int) -> float:
    """What the prices prove at one pair of rounds."""
    if not caps.possible:
        return math.inf
    weight, phi, _, _ = coefficients(problem.criterion, m, n)
    parts = parts_at(problem.criterion, m, n, segments)
    bill = 0.0
    for j in range(segments):
        bill += _server_bill(problem, prices, caps, j, parts.m[j], parts.psi0[j])
        bill += _fleet_bill(problem, prices, caps, j, parts.n[j], parts.psi[j])
    return (phi + bill - prices.budget) / weight


@njit(cache=True, error_model="numpy")
def segments_bound_over(
    problem: Problem, prices: SegmentPrices, caps: Caps, m1: float, m2: float, n1: float, n2: float, segments: int
) -> float:
    """What the prices prove for every pair of rounds in a box except (0, 0); `caps` are its `caps_over`."""
    if not caps.possible:
        return math.inf
    if m1 == m2 and n1 == n2:
        return segments_bound_at(problem, prices, caps, m1, n1, segments)
    c = problem.criterion
    if c[0] == TRAJECTORY:
        return _trajectory(problem, prices, caps, m1, m2, n1, n2, segments)
    _, phi11, _, _ = coefficients(c, m1, n1)
    _, phi12, _, _ = coefficients(c, m1, n2)
    _, phi21, _, _ = coefficients(c, m2, n1)
    _, phi22, _, _ = coefficients(c, m2, n2)
    m0, n0, by_m, by_n, middle = 0.5 * (m1 + m2), 0.5 * (n1 + n2), 0.0, 0.0, -math.inf
    if c[1] >= c[2] and c[5] > -50.0 and c[6] > -50.0:
        keep = math.exp(c[6] * n0)
        both = math.exp(c[5] * m0) * keep * (c[1] - c[2])
        middle = both + keep * c[2]
        by_m, by_n = c[5] * both, c[6] * middle
    scale0 = c[3] * (math.exp(c[6] * n2) if n2 > 0.0 else 1.0)
    flat0, tilted0 = _least_bills(problem, prices, caps, True, c[5], scale0, m1, m2, m0, by_m, segments)
    flat1, tilted1 = _least_bills(problem, prices, caps, False, c[6], c[4], n1, n2, n0, by_n, segments)
    floor = min(min(phi11, phi12), min(phi21, phi22)) + flat0 + flat1
    return max(floor, middle + tilted0 + tilted1) - prices.budget


@njit(cache=True, error_model="numpy")
def _trajectory(
    problem: Problem, prices: SegmentPrices, caps: Caps, m1: float, m2: float, n1: float, n2: float, segments: int
) -> float:
    """The least of the bound at the corners of a box; (0, 0) gives way to (1, 0) and (0, 1)."""
    c = problem.criterion
    unit0, unit1 = math.inf, math.inf
    for j in range(segments):
        unit0 = min(unit0, _server_bill(problem, prices, caps, j, 1.0, c[3]))
        unit1 = min(unit1, _fleet_bill(problem, prices, caps, j, 1.0, c[4]))
    least = math.inf
    for m in (m1, m2):
        for n in (n1, n2):
            if m > 0.0 or n > 0.0:
                least = min(least, _quotient(c, prices.budget, unit0, unit1, m, n))
    if m1 == 0.0 and n1 == 0.0:
        if m2 >= 1.0:
            least = min(least, _quotient(c, prices.budget, unit0, unit1, 1.0, 0.0))
        if n2 >= 1.0:
            least = min(least, _quotient(c, prices.budget, unit0, unit1, 0.0, 1.0))
    return least


@njit(cache=True, error_model="numpy")
def _quotient(c: Floats, budget: float, unit0: float, unit1: float, m: float, n: float) -> float:
    return (2.0 * c[1] + m * (c[2] + unit0) + n * unit1 - budget) / (m * c[5] + n * c[6])


@njit(cache=True, error_model="numpy")
def _least_bills(
    problem: Problem,
    prices: SegmentPrices,
    caps: Caps,
    server: bool,
    rate: float,
    scale: float,
    first: float,
    last: float,
    middle: float,
    slope: float,
    segments: int,
) -> tuple[float, float]:
    """The least of one stage's bills over its rounds `first` to `last`, and of bills plus ``slope (R - middle)``."""
    flat, tilted = math.inf, math.inf
    for remainder in range(segments):
        low = first + (remainder - first) % segments
        high = last - (last - remainder) % segments
        if low > high:
            continue
        bill1, bill2 = 0.0, 0.0
        for j in range(segments):
            psi1, psi2 = weight_of(rate, low, j, segments), weight_of(rate, high, j, segments)
            sag = _sag(rate, low, high, j, segments)
            if min(psi1, psi2) > sag:
                psi1, psi2 = psi1 - sag, psi2 - sag
            else:
                psi1 = psi2 = min(psi1, psi2)
            length1, length2 = segment_length(low, j, segments), segment_length(high, j, segments)
            if server:
                bill1 += _server_bill(problem, prices, caps, j, length1, scale * psi1)
                bill2 += _server_bill(problem, prices, caps, j, length2, scale * psi2)
            else:
                bill1 += _fleet_bill(problem, prices, caps, j, length1, scale * psi1)
                bill2 += _fleet_bill(problem, prices, caps, j, length2, scale * psi2)
        flat = min(flat, bill1, bill2)
        tilted = min(tilted, slope * (low - middle) + bill1, slope * (high - middle) + bill2)
    return flat, tilted


@njit(cache=True, error_model="numpy")
def _sag(rate: float, low: float, high: float, j: int, segments: int) -> float:
    """How far a segment's weight may lie below its chord between two rounds of one remainder modulo J.

    The weight is ``e^(rate after) - e^(rate (after + length))``, both exponents linear between the rounds. Its second
    derivative is at most that of the first term where it is greatest less that of the second where it is least; and
    the second term, subtracted, only lifts the curve: the first alone sags by ``max of chord - exponential``.
    """
    if high <= low:
        return 0.0
    after1, after2 = low - np.floor((j + 1) * low / segments), high - np.floor((j + 1) * high / segments)
    before1, before2 = low - np.floor(j * low / segments), high - np.floor(j * high / segments)
    near, far = min(rate * (after1 - after2), 700.0), min(rate * (before1 - before2), 700.0)
    top = math.exp(max(rate * after1, -700.0))
    sag = near * near * top - far * far * math.exp(max(rate * before2, -700.0))
    sag = max(sag, 0.0) / 8.0
    if near > 0.1:
        tangent = -math.expm1(-near) / near
        at = -math.log(tangent) / near
        sag = min(sag, top * (1.0 - (at * near + 1.0) * tangent)) if near < 700.0 else top
    return sag
