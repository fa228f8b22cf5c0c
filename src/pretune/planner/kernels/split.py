"""How the time is split at given prices of energy: between the stages, and within a fine-tuning round.

FDMA: the span is where the devices' prices of time add up to the server's. TDMA is in `tdma` and, where batteries limit
devices, in `tdma_batteries`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.planner.kernels.fleet import TRIALS, Point, least_device_span, round_at
from pretune.planner.kernels.guesses import first_span
from pretune.planner.kernels.scalar import HUGE, batch_at, clock_at, sample_cost
from pretune.planner.kernels.server import server_energy, server_price, settle_server
from pretune.planner.kernels.tdma import SPARE, tdma_split
from pretune.planner.kernels.tdma_batteries import tdma_battery_split
from pretune.planner.problem import Batches, Problem, Server

DONE = 1e-13


@njit(cache=True, error_model="numpy")
def _idle_seconds(server: Server, low: float, high: float, beta: float) -> float:
    """Seconds of the server's round at which its time costs nothing; infinity without static power."""
    if server.static == 0.0:
        return math.inf
    clock = clock_at(0.0, server.capacitance, server.clock_max, server.static)
    cost = sample_cost(0.0, clock, server.cycles, server.capacitance, server.static)
    return server.cycles * batch_at(cost, beta, 1.0, low, high) / clock


@njit(cache=True, error_model="numpy")
def fdma_split(
    problem: Problem,
    batches: Batches,
    m: float,
    n: float,
    beta0: float,
    beta: float,
    least: float,
    near: float,
    point: Point,
) -> float:
    """Split the time between the stages at given energy prices (FDMA); returns the joules of the run.

    Ends where the prices of the stages are `near` each other (the logarithm of their ratio).
    """
    limits, server = problem.limits, problem.server
    low0, high0 = batches.server_low, batches.server_high
    time = limits.delay - n * limits.down_s
    if m == 0.0:
        span = time / n
        total, _, energy, _ = round_at(problem.devices, limits, batches.low, batches.high, beta, n, span, 0.0, point)
        point.scalars[1], point.scalars[2] = total, span
        return n * (energy + limits.down_j)
    shortest = server.cycles * low0 / server.clock_max
    left, right = least, max((time - m * shortest) / n, least)
    warm = point.scalars[2]
    span = warm if left < warm < right else first_span(problem, batches, m, n, beta0, beta, time, left, right)
    energy, guess = 0.0, point.scalars[1]
    idle = (time - m * _idle_seconds(server, low0, high0, beta0)) / n
    if left < idle < right and span < idle:
        # up to here the server idles: its time costs nothing, so the devices may have it
        span = idle
    # where the last trial from the left thinks the prices meet, in a straight line
    straight = -1.0
    wide, missed, slow = math.inf, math.inf, 0
    for _ in range(TRIALS):
        total, slope, energy, _ = round_at(
            problem.devices, limits, batches.low, batches.high, beta, n, span, 0.0, point
        )
        t0 = (time - n * span) / m
        own, own_slope = server_price(server, low0, high0, beta0, t0, guess)
        guess = own
        if total > own:
            left = span
        else:
            right = span
        if right - left <= 1e-12 * right or (total == 0.0 and own == 0.0):
            break
        new = straight if left < straight < right else 0.5 * (left + right)
        if total > 0.0 and -math.inf < slope < 0.0:
            straight = span - (total - own) / slope if own == 0.0 else -1.0
        if total > 0.0 and own > 0.0:
            miss = math.log(total / own)
            if abs(miss) <= near:
                break
            steep = slope / total + own_slope / own * n / m
            if steep < 0.0 and steep > -math.inf:
                newton = span - miss / steep
                if own < server.static:
                    # where the server only begins to pay for time a straight line is nearer than one in logarithms
                    newton = span - (total - own) / (slope + own_slope * n / m)
                if abs(newton - span) <= 4e-16 * span:
                    break
                if left < newton < right:
                    new = newton
                elif newton <= left:
                    new = left + 0.1 * (span - left)
                elif newton >= right:
                    # in the logarithm of the server's time, which its price follows near the end of the range
                    new = (time - m * t0 * math.exp(miss * n / (steep * m * t0))) / n
                    if not (span < new < right):
                        new = right - 0.1 * (right - span)
        if total < min(own, server.static) and left < idle < span:
            # so little makes the server only just not idle
            new = idle
        # prices may jump, and then slopes lead to and fro: the third small step is a half of the bracket
        off = abs(math.log(total / own)) if total > 0.0 and own > 0.0 else math.inf
        slow = slow + 1 if right - left > 0.5 * wide and off > 0.1 * missed else 0
        if slow >= 3:
            new, slow = 0.5 * (left + right), 0
        wide, missed = right - left, off
        if new == span:
            break
        span = new
    t0 = max((time - n * span) / m, shortest)
    settle_server(server, batches, beta0, t0, point)
    point.scalars[2] = span
    return m * server_energy(server, point) + n * (energy + limits.down_j)


@njit(cache=True, error_model="numpy")
def split(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> float:
    """The joules of the run when its time is spent in the best way at given energy prices."""
    if n == 0.0:
        t0 = problem.limits.delay / m
        settle_server(problem.server, batches, beta0, t0, point)
        return m * server_energy(problem.server, point)
    if problem.limits.tdma:
        if np.all(problem.devices.battery >= HUGE):
            return tdma_split(problem, batches, m, n, beta0, beta, least, SPARE, point)
        return tdma_battery_split(problem, batches, m, n, beta0, beta, least, point)
    return fdma_split(problem, batches, m, n, beta0, beta, least, DONE, point)


@njit(cache=True, error_model="numpy")
def balance(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> None:
    """Choose the prices at a kink, where each may lie in an interval, so that they add up to the price of time.

    The ends of the intervals are the prices just left and just right of the span; at the least span the price of
    the device that sets it is free upwards. Decisions stay what they are: only the proof needs this.
    """
    limits = problem.limits
    span, omega = point.scalars[2], point.scalars[1]
    if n == 0.0:
        return
    if (m == 0.0 and not limits.tdma) or abs(point.price.sum() - omega) <= 1e-10 * omega:
        if not limits.tdma:
            point.scalars[1] = point.price.sum()
        return
    d, server = problem.devices, problem.server
    nudge = 1e-11
    own1, own2 = omega, omega
    if not limits.tdma:
        low0, high0, t0 = batches.server_low, batches.server_high, point.scalars[3]
        own1, _ = server_price(server, low0, high0, beta0, t0 * (1.0 + nudge), 0.0)
        own2, _ = server_price(server, low0, high0, beta0, t0 * (1.0 - nudge), 0.0)
    kept = (point.batch.copy(), point.clock.copy(), point.exponent.copy())
    total2, _, _, _ = round_at(d, limits, batches.low, batches.high, beta, n, span * (1.0 + nudge), omega, point)
    prices, ratios = point.price.copy(), point.ratio.copy()
    total1, _, _, _ = round_at(
        d, limits, batches.low, batches.high, beta, n, max(span * (1.0 - nudge), least), omega, point
    )
    target = omega if limits.tdma else min(max(own1, total2), max(own2, total2))
    if total1 > total2:
        share = min(max((target - total2) / (total1 - total2), 0.0), 1.0)
        for k in range(prices.size):
            point.price[k] = share * point.price[k] + (1.0 - share) * prices[k]
            point.ratio[k] = share * point.ratio[k] + (1.0 - share) * ratios[k]
    total = point.price.sum()
    point.batch[:], point.clock[:], point.exponent[:] = kept
    if span <= least * (1.0 + 1e-12) and total < target and batches.span < least:
        worst, most = 0, -1.0
        for k in range(prices.size):
            need = least_device_span(d, k, batches.low[k], d.battery[k] / n, limits.tdma)
            if need > most:
                worst, most = k, need
        own = point.price[worst] / point.ratio[worst]
        point.price[worst] += target - total
        if d.battery[worst] < HUGE and own > 0.0 and point.ratio[worst] > 1.0:
            # its battery sets the span: both its prices grow together
            point.ratio[worst] = point.price[worst] / own
        total = target
    if total > target:
        point.price[:] = point.price * (target / total)
    # a span held up by `batches.span` alone leaves part of the price of time to that limit
    held = batches.span >= least and span <= least * (1.0 + 1e-12)
    point.scalars[1] = target if held or limits.tdma else point.price.sum()
