"""What a set of prices proves: a lower bound for any rounds, in closed form (math.md sections 4 and 6).

Price a joule, a second and each device's share of the round's span; then every constraint that couples the decisions is
paid for instead of enforced, each processor and link settles on its own, and what remains is

    numerator(M, N) >= phi + min_b0 (psi0/b0 + M c0 b0) + N C + sum_k min_bk (psi A_k/b_k + N c_k b_k) - E - T - batteries

for *all* rounds, by weak duality. The minima run over whole batches, so the bound knows about integrality.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import Point
from pretune.planner.kernels.scalar import TINY, clock_at, sample_cost, upload_exponent
from pretune.planner.problem import Batches, Problem


class Prices(NamedTuple):
    """Prices in units of the criterion's numerator, and the costs that follow from them."""

    energy: float
    """lambda, per joule."""
    delay: float
    """nu, per second."""
    server_cost: float
    """c0: what one sample costs at the server."""
    round_cost: float
    """C: what a fine-tuning round costs before any sample: uploads and the broadcast."""
    budget: float
    """lambda E + nu T + the batteries at their prices."""
    sample_costs: Floats
    """c_k, shape (K,)."""
    shares: Floats
    """The devices' shares of the price of time divided by lambda, W, shape (K,)."""
    ratios: Floats
    """lambda_k / lambda, shape (K,)."""


@njit(cache=True, error_model="numpy")
def price(problem: Problem, lam: float, omega: float, shares: Floats, ratios: Floats) -> Prices:
    """The prices `lam` per joule, `omega` joules per second, and each device's `shares` and `ratios`.

    FDMA needs ``sum shares <= omega`` for the bound to hold; TDMA too (the compute phase), and its uploads pay
    `omega` itself.
    """
    d, limits, server = problem.devices, problem.limits, problem.server
    count = d.cycles.size
    costs = np.empty(count)
    per_round = limits.down_j + omega * limits.down_s
    budget = limits.energy + omega * limits.delay
    for k in range(count):
        ratio = ratios[k]
        own = shares[k] / ratio
        clock = max(clock_at(own, d.capacitance[k], d.clock_max[k], d.static[k]), TINY)
        costs[k] = lam * ratio * sample_cost(own, clock, d.cycles[k], d.capacitance[k], d.static[k])
        if limits.tdma:
            own = omega / ratio
        paid = own + d.circuit[k]
        if paid <= 0.0:
            per_round += ratio * d.noise[k] * d.span[k]
        else:
            x = upload_exponent(paid / d.noise[k], d.exponent_max[k])
            per_round += ratio * d.span[k] / x * (d.noise[k] * math.expm1(x) + paid)
        if ratio > 1.0:
            budget += (ratio - 1.0) * d.battery[k]
    clock = max(clock_at(omega, server.capacitance, server.clock_max, server.static), TINY)
    cost0 = lam * sample_cost(omega, clock, server.cycles, server.capacitance, server.static)
    return Prices(lam, lam * omega, cost0, lam * per_round, lam * budget, costs, shares.copy(), ratios.copy())


@njit(cache=True, error_model="numpy")
def prices_at(problem: Problem, point: Point, unit: float, fine: bool) -> Prices:
    """The prices of a solved point; `unit` stands in for lambda where the point has none (a shortage)."""
    lam = point.scalars[0] if point.scalars[0] > 0.0 else unit
    if fine:
        return price(problem, lam, point.scalars[1], point.price, point.ratio)
    return price(problem, lam, point.scalars[1], np.zeros(point.price.size), np.ones(point.price.size))


@njit(cache=True, error_model="numpy")
def cheapest(noise: float, cost: float, low: float, high: float) -> float:
    """``min over whole b in [low, high] of noise / b + cost b`` (`low` and `high` are whole)."""
    if noise <= 0.0:
        return noise / low + cost * low
    if cost <= 0.0:
        return noise / high + cost * high
    b = min(max(math.sqrt(noise / cost), low), high)
    down = math.floor(b)
    up = min(down + 1.0, high)
    down = max(down, low)
    return min(noise / down + cost * down, noise / up + cost * up)


@njit(cache=True, error_model="numpy")
def server_bill(prices: Prices, batches: Batches, m: float, psi0: float) -> float:
    """The least that `m` pre-training rounds cost: noise and samples."""
    if m <= 0.0:
        return 0.0
    return cheapest(psi0, m * prices.server_cost, batches.server_low, batches.server_high)


@njit(cache=True, error_model="numpy")
def fleet_bill(prices: Prices, batches: Batches, variance: Floats, n: float, psi: float) -> float:
    """The least that `n` fine-tuning rounds cost: noise, samples, uploads, broadcasts. Concave in (n, psi)."""
    if n <= 0.0:
        return 0.0
    bill = 0.0
    for k in range(variance.size):
        bill += cheapest(psi * variance[k], n * prices.sample_costs[k], batches.low[k], batches.high[k])
    return bill + n * prices.round_cost
