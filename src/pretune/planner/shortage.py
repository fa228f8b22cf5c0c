"""Prices that prove a pair of rounds out of reach because a battery can't pay for it."""

from __future__ import annotations

import math

import numpy as np

from pretune.planner.kernels.fleet import Point, device_at, device_energy
from pretune.planner.kernels.priced import Prices, price
from pretune.planner.problem import Problem

_FAR = 1e3


def battery_prices(problem: Problem, rounds: tuple[int, int], worth: float) -> Prices | None:
    """Prices under which the rounds cost more than `worth`; None where no battery is short of them.

    The device that is shortest spends, in all the time a round can take, the least energy ``e`` on one sample and the
    upload at the time price ``omega`` of its own energy. With its battery priced at ``lambda R`` and time at
    ``lambda R omega`` the bound grows like ``lambda R (N e - battery)`` in R, whatever the rest costs.
    """
    m, n = map(float, rounds)
    d, limits, server, low = problem.devices, problem.limits, problem.server, problem.batches.low
    if n == 0.0:
        return None
    span = (limits.delay - m * server.cycles * problem.batches.server_low / server.clock_max) / n - limits.down_s
    fastest = d.span / d.exponent_max
    worst, most, own_price = -1, 0.0, 0.0
    for k in np.flatnonzero(np.isfinite(d.battery)).tolist():
        alone = span - (float(fastest.sum() - fastest[k]) if limits.tdma else 0.0)
        if alone <= float(d.cycles[k] * low[k] / d.clock_max[k] + fastest[k]):
            return None
        omega, _, batch, clock, x = device_at(d, k, low[k], low[k], 0.0, alone, 0.0, False, 0.0)
        short = (n * device_energy(d, k, batch, clock, x) - d.battery[k]) / d.battery[k]
        if short > most:
            worst, most, own_price = k, float(short), float(omega)
    if worst < 0:
        return None
    battery = float(d.battery[worst])
    ratio = 1.0 + _FAR * limits.energy / (most * battery)
    lam = 2.0 * worth / ((ratio - 1.0) * most * battery)
    shares, ratios = np.zeros(d.cycles.size), np.ones(d.cycles.size)
    shares[worst], ratios[worst] = ratio * own_price, ratio
    if not (math.isfinite(ratio) and lam > 0.0):
        return None
    prices: Prices = price(problem, lam, float(shares[worst]), shares, ratios)
    return prices


def span_prices(problem: Problem, rounds: tuple[int, int], worth: float, point: Point) -> Prices | None:
    """Prices under which rounds that several batteries make too slow (TDMA) cost more than `worth`; None if none do.

    `point` is where the solve gave up: at a price of time so high that energy is as good as free.
    """
    m, n = map(float, rounds)
    omega = float(point.scalars[1])
    if n == 0.0 or not (0.0 < omega < math.inf and np.all(np.isfinite(point.price)) and np.all(point.ratio < math.inf)):
        return None
    trial: Prices = price(problem, 1.0, omega, point.price, point.ratio)
    low = problem.batches
    cost = n * (trial.round_cost + trial.slack * low.span + float((trial.sample_costs * low.low).sum()))
    excess = cost + m * trial.server_cost * low.server_low - trial.budget
    if not excess > 0.0:
        return None
    prices: Prices = price(problem, worth / excess, omega, point.price, point.ratio)
    return prices
