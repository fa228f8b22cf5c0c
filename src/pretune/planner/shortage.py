"""Prices that prove a pair of rounds out of reach because batteries, or the band that all share, can't pay for it."""

from __future__ import annotations

import math

import numpy as np

from pretune.planner.kernels.common import least_common_span
from pretune.planner.kernels.fleet import Point, device_at, device_energy, new_point
from pretune.planner.kernels.priced import Prices, price
from pretune.planner.kernels.shared import band_round
from pretune.planner.problem import Problem

_FAR = 1e3
_MOST = 1e60


def shortage_prices(
    problem: Problem, rounds: tuple[int, int], worth: float, point: Point | None = None
) -> Prices | None:
    """Prices under which the rounds cost more than `worth`, though the clocks alone could run them; None if none do.

    `point` is where the solve gave up, if it did.
    """
    if problem.limits.band > 0.0:
        return band_prices(problem, rounds, worth)
    prices = battery_prices(problem, rounds, worth)
    return prices if prices is not None or point is None else span_prices(problem, rounds, worth, point)


def band_prices(problem: Problem, rounds: tuple[int, int], worth: float) -> Prices | None:
    """Prices under which rounds for which the band is too narrow cost more than `worth`; None if it is wide enough.

    In all the time a round can take, at a price of band ``gamma``, the shares that the devices take (each the dearer in
    time and in its battery the less it has of them) are still more than the band: the bound grows like ``gamma`` times
    the excess, whatever the rest costs.
    """
    m, n = map(float, rounds)
    d, limits, server, low = problem.devices, problem.limits, problem.server, problem.batches.low
    if n == 0.0:
        return None
    span = (limits.delay - m * server.cycles * problem.batches.server_low / server.clock_max) / n - limits.down_s
    # where the whole band is not enough for a device to keep the span at all, the span itself rules the rounds out
    if not span > least_common_span(d._replace(battery=np.full_like(d.battery, np.inf)), limits, low, n):
        return None
    gamma = 1e-3 * limits.energy
    while gamma < _MOST:
        point = new_point(low.size)
        band_round(d, low, low, 0.0, n, span, gamma, point)
        trial: Prices = price(problem, 1.0, float(point.price.sum()), point.price, point.ratio, gamma)
        cost = n * (trial.round_cost + float((trial.sample_costs * low).sum()))
        excess = cost + m * trial.server_cost * problem.batches.server_low - trial.budget
        if excess > 0.0 and np.all(np.isfinite(point.ratio)):
            prices: Prices = price(problem, worth / excess, trial.delay, point.price, point.ratio, gamma)
            return prices
        gamma *= 100.0
    return None


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
        omega, _, batch, clock, x = device_at(d, k, low[k], low[k], 0.0, alone, 0.0, False, 0.0, -1.0)
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
