"""The optimum at fixed rounds: one price of energy outside, one split of the time inside, O(K) per trial.

The problem of math.md section 3. With a price ``lambda`` on energy every device solves its own scalar problem
(`scalar`); the span of a fine-tuning round is where the prices of time of the devices add up to the server's; the price of
energy is where the budget is spent. Both are monotone and bracketed. Nothing here raises: the status tells.

A battery limit multiplies the energy price of its device by a ratio of its own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.roots import next_point
from pretune.planner.kernels.scalar import (
    HUGE,
    TINY,
    batch_at,
    clock_at,
    price_for_time,
    sample_cost,
    upload_exponent,
)
from pretune.planner.problem import Batches, Devices, Limits, Problem, Server

SOLVED, ENERGY_SHORT, DELAY_SHORT, BATTERY_SHORT = 0, 1, 2, 3
_TRIALS = 100
_DONE = 1e-13


class Point(NamedTuple):
    """A point of the continuous problem and its prices; the arrays have shape (K,) and are filled in place.

    `scalars` holds: 0 lambda, 1 Omega (the time price per energy price, W), 2 span (tau for FDMA, the compute
    phase v for TDMA), 3 server round time T0, 4 server batch, 5 server clock, 6 energy, 7 delay, 8 objective's
    noise part (the numerator of the criterion without phi).
    """

    price: Floats
    """omega_k times ratio_k: the device's share of the time price, W."""
    ratio: Floats
    """lambda_k / lambda >= 1; above one where a battery binds."""
    batch: Floats
    clock: Floats
    exponent: Floats
    scalars: Floats


def new_point(count: int) -> Point:
    """An empty point for `count` devices (a cold start)."""
    return Point(
        price=np.zeros(count),
        ratio=np.ones(count),
        batch=np.ones(count),
        clock=np.zeros(count),
        exponent=np.zeros(count),
        scalars=np.zeros(9),
    )


@njit(cache=True, error_model="numpy")
def _server_time(server: Server, low: float, high: float, beta: float, omega: float) -> float:
    """The server's round time at a price."""
    clock = clock_at(omega, server.capacitance, server.clock_max, server.static)
    cost = sample_cost(omega, clock, server.cycles, server.capacitance, server.static)
    return server.cycles * batch_at(cost, beta, 1.0, low, high) / clock


@njit(cache=True, error_model="numpy")
def _server_price(server: Server, low: float, high: float, beta: float, time: float, guess: float) -> float:
    """The price at which the server's round takes `time`."""
    price, _ = price_for_time(
        time,
        server.cycles,
        server.capacitance,
        server.clock_max,
        server.static,
        1.0,
        0.0,
        1.0,
        0.0,
        beta,
        1.0,
        low,
        high,
        guess,
    )
    return price


@njit(cache=True, error_model="numpy")
def _device_energy(d: Devices, k: int, batch: float, clock: float, x: float) -> float:
    """Joules of one device's round."""
    cycles = d.cycles[k] * batch
    t = d.span[k] / x
    return (
        cycles * d.capacitance[k] * clock * clock
        + d.static[k] * cycles / clock
        + d.noise[k] * t * math.expm1(x)
        + d.circuit[k] * t
    )


@njit(cache=True, error_model="numpy")
def _device_at(
    d: Devices, k: int, low: float, high: float, beta: float, time: float, upload_price: float, tdma: bool, guess: float
) -> tuple[float, float, float, float, float]:
    """Price, its slope by the time, batch, clock and upload exponent of a device that has `time` in a round.

    FDMA: `time` is for compute and upload together. TDMA: it is for computing; the upload pays `upload_price`.
    """
    root = math.sqrt(d.variance[k])
    omega, slope = price_for_time(
        time,
        d.cycles[k],
        d.capacitance[k],
        d.clock_max[k],
        d.static[k],
        d.noise[k],
        0.0 if tdma else d.span[k],
        d.exponent_max[k],
        0.0 if tdma else d.circuit[k],
        beta,
        root,
        low,
        high,
        guess,
    )
    clock = clock_at(omega, d.capacitance[k], d.clock_max[k], d.static[k])
    cost = sample_cost(omega, clock, d.cycles[k], d.capacitance[k], d.static[k])
    batch = batch_at(cost, beta, root, low, high)
    at = upload_price if tdma else omega
    x = upload_exponent((d.circuit[k] + at) / d.noise[k], d.exponent_max[k])
    if not tdma and omega > 0.0 and x < d.exponent_max[k]:
        # spend rounding errors on the upload, so that compute and upload fit the time exactly
        left = time - d.cycles[k] * batch / clock
        if left > 0.0:
            x = min(max(d.span[k] / left, 0.999999 * x), d.exponent_max[k])
    return omega, slope, batch, clock, max(x, TINY)


@njit(cache=True, error_model="numpy")
def round_at(
    d: Devices,
    limits: Limits,
    low: Floats,
    high: Floats,
    beta: float,
    rounds: float,
    time: float,
    upload_price: float,
    point: Point,
) -> tuple[float, float, float, float]:
    """All devices at one span: sum of prices, its slope, joules of a round, and seconds of all uploads.

    Fills the arrays of `point`, which also serve as the warm start.
    """
    total, total_slope, energy, uploads = 0.0, 0.0, 0.0, 0.0
    for k in range(d.cycles.size):
        omega, slope, batch, clock, x = _device_at(
            d, k, low[k], high[k], beta, time, upload_price, limits.tdma, point.price[k] / point.ratio[k]
        )
        joules = _device_energy(d, k, batch, clock, x)
        ratio = 1.0
        allowed = d.battery[k] / rounds
        if joules > allowed:
            # raise this device's own energy price until its battery holds
            y1, f1 = 0.0, math.log(joules / allowed)
            y2, f2 = y1, f1
            grow = 1.0
            while f2 > 0.0 and y2 < 600.0:
                y1, f1 = y2, f2
                y2 += grow
                grow *= 2.0
                scale = math.exp(y2)
                omega, slope, batch, clock, x = _device_at(
                    d, k, low[k], high[k], beta / math.sqrt(scale), time, upload_price / scale, limits.tdma, omega
                )
                f2 = math.log(_device_energy(d, k, batch, clock, x) / allowed)
                if batch <= low[k] and not limits.tdma:
                    break
            y3, f3 = y1, f1
            for _ in range(_TRIALS):
                if f2 > 0.0 or abs(y2 - y1) <= 1e-15 * max(1.0, abs(y2)) or -1e-14 < f2:
                    break
                y = next_point(y1, f1, y2, f2, y3, f3) if f1 != f2 else 0.5 * (y1 + y2)
                if not (min(y1, y2) < y < max(y1, y2)):
                    y = 0.5 * (y1 + y2)
                scale = math.exp(y)
                omega, slope, batch, clock, x = _device_at(
                    d, k, low[k], high[k], beta / math.sqrt(scale), time, upload_price / scale, limits.tdma, omega
                )
                f = math.log(_device_energy(d, k, batch, clock, x) / allowed)
                if f > 0.0:
                    y3, f3 = y1, f1
                    y1, f1 = y, f
                else:
                    y3, f3 = y2, f2
                    y2, f2 = y, f
            ratio = math.exp(y2)
            omega, slope, batch, clock, x = _device_at(
                d, k, low[k], high[k], beta / math.sqrt(ratio), time, upload_price / ratio, limits.tdma, omega
            )
            joules = _device_energy(d, k, batch, clock, x)
        point.price[k] = omega * ratio
        point.ratio[k] = ratio
        point.batch[k] = batch
        point.clock[k] = clock
        point.exponent[k] = x
        total += omega * ratio
        total_slope += slope * ratio
        energy += joules
        uploads += d.span[k] / x
    return total, total_slope, energy, uploads


@njit(cache=True, error_model="numpy")
def _idle_compute(d: Devices, k: int, low: float) -> float:
    """The least joules that computing `low` samples can take, given all the time in the world."""
    clock = min(d.clock_max[k], (d.static[k] / (2.0 * d.capacitance[k])) ** (1.0 / 3.0))
    if clock <= 0.0:
        return 0.0
    return d.cycles[k] * low * (d.capacitance[k] * clock * clock + d.static[k] / clock)


@njit(cache=True, error_model="numpy")
def _idle_upload(d: Devices, k: int) -> float:
    """The least joules that an upload can take."""
    if d.circuit[k] <= 0.0:
        return d.noise[k] * d.span[k]
    x = upload_exponent(d.circuit[k] / d.noise[k], d.exponent_max[k])
    return d.span[k] / x * (d.noise[k] * math.expm1(x) + d.circuit[k])


@njit(cache=True, error_model="numpy")
def _least_device_span(d: Devices, k: int, low: float, allowed: float, tdma: bool) -> float:
    """The least span at which a device's round of `low` samples takes no more than `allowed` joules.

    TDMA: the upload may take as long as it likes, so computing gets all but the least an upload can cost.
    """
    fastest = d.cycles[k] * low / d.clock_max[k]
    if not tdma:
        fastest += d.span[k] / d.exponent_max[k]
    if allowed >= HUGE:
        return fastest
    idle = _idle_upload(d, k)
    if _idle_compute(d, k, low) + idle >= allowed * (1.0 - 1e-12):
        return math.inf
    left, right, span = 0.0, math.inf, fastest
    for _ in range(2 * _TRIALS):
        _, _, batch, clock, x = _device_at(d, k, low, low, 0.0, span, 0.0, tdma, 0.0)
        joules = _device_energy(d, k, batch, clock, x)
        if tdma:
            joules = d.cycles[k] * low * (d.capacitance[k] * clock * clock + d.static[k] / clock) + idle * (1.0 + 1e-9)
        if joules <= allowed:
            right = span
        else:
            left = span
        if left == 0.0 or right - left <= 1e-13 * left or span > HUGE:
            break
        span = 2.0 * left if right == math.inf else 0.5 * (left + right)
    return right


@njit(cache=True, error_model="numpy")
def least_span(d: Devices, limits: Limits, low: Floats, rounds: float) -> float:
    """The least span (tau, or v for TDMA) that clocks, powers and batteries allow; infinity where none does."""
    least = 0.0
    for k in range(d.cycles.size):
        least = max(least, _least_device_span(d, k, low[k], d.battery[k] / rounds, limits.tdma))
    return least


@njit(cache=True, error_model="numpy")
def _fdma_split(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> float:
    """Split the time between the stages at given energy prices (FDMA); returns the joules of the run."""
    limits, server = problem.limits, problem.server
    low0, high0 = batches.server_low, batches.server_high
    time = limits.delay - n * limits.down_s
    if m == 0.0:
        span = time / n
        total, _, energy, _ = round_at(
            problem.devices, limits, batches.low, batches.high, beta, n, span, 0.0, point
        )
        point.scalars[1], point.scalars[2] = total, span
        return n * (energy + limits.down_j)
    shortest = server.cycles * low0 / server.clock_max
    left, right = least, max((time - m * shortest) / n, least)
    warm = point.scalars[2]
    span = warm if left < warm < right else (math.sqrt(left * right) if left > 0.0 else 0.5 * right)
    energy, guess = 0.0, point.scalars[1]
    for _ in range(_TRIALS):
        total, slope, energy, _ = round_at(
            problem.devices, limits, batches.low, batches.high, beta, n, span, 0.0, point
        )
        t0 = (time - n * span) / m
        own = _server_price(server, low0, high0, beta0, t0, guess)
        guess = own
        if total > own:
            left = span
        else:
            right = span
        if right - left <= 1e-15 * right:
            break
        new = 0.5 * (left + right)
        if total > 0.0 and own > 0.0:
            miss = math.log(total / own)
            if abs(miss) <= _DONE:
                break
            _, own_slope = price_for_time(
                t0, server.cycles, server.capacitance, server.clock_max, server.static, 1.0, 0.0, 1.0, 0.0,
                beta0, 1.0, low0, high0, own,
            )
            steep = slope / total + own_slope / own * n / m
            if steep < 0.0 and steep > -math.inf:
                newton = span - miss / steep
                if left < newton < right:
                    new = newton
                elif newton <= left:
                    new = left + 0.1 * (span - left)
                elif newton >= right:
                    new = right - 0.1 * (right - span)
        if new == span:
            break
        span = new
    t0 = max((time - n * span) / m, shortest)
    _settle_server(server, batches, beta0, t0, point)
    point.scalars[2] = span
    return m * _server_energy(server, point) + n * (energy + limits.down_j)


@njit(cache=True, error_model="numpy")
def _settle_server(server: Server, batches: Batches, beta0: float, t0: float, point: Point) -> None:
    """Write the server's price, batch, clock and round time for a round of `t0` seconds."""
    price = _server_price(server, batches.server_low, batches.server_high, beta0, t0, point.scalars[1])
    clock = clock_at(price, server.capacitance, server.clock_max, server.static)
    cost = sample_cost(price, clock, server.cycles, server.capacitance, server.static)
    batch = batch_at(cost, beta0, 1.0, batches.server_low, batches.server_high)
    point.scalars[1] = price
    point.scalars[3] = server.cycles * batch / clock
    point.scalars[4] = batch
    point.scalars[5] = clock


@njit(cache=True, error_model="numpy")
def _server_energy(server: Server, point: Point) -> float:
    batch, clock = point.scalars[4], point.scalars[5]
    cycles = server.cycles * batch
    return cycles * server.capacitance * clock * clock + server.static * cycles / clock


@njit(cache=True, error_model="numpy")
def _balance(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> None:
    """Choose the prices at a kink, where each may lie in an interval, so that they add up to the price of time.

    The ends of the intervals are the prices just left and just right of the span; at the least span the price of
    the device that sets it is free upwards. Decisions stay what they are: only the proof needs this.
    """
    limits = problem.limits
    span, omega = point.scalars[2], point.scalars[1]
    if n == 0.0 or (m == 0.0 and not limits.tdma) or abs(point.price.sum() - omega) <= 1e-10 * omega:
        return
    d, server = problem.devices, problem.server
    nudge = 1e-11
    own1, own2 = omega, omega
    if not limits.tdma:
        low0, high0, t0 = batches.server_low, batches.server_high, point.scalars[3]
        own1 = _server_price(server, low0, high0, beta0, t0 * (1.0 + nudge), 0.0)
        own2 = _server_price(server, low0, high0, beta0, t0 * (1.0 - nudge), 0.0)
    kept = (point.batch.copy(), point.clock.copy(), point.exponent.copy())
    total2, _, _, _ = round_at(
        d, limits, batches.low, batches.high, beta, n, span * (1.0 + nudge), omega, point
    )
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
    if span <= least * (1.0 + 1e-12) and total < target:
        worst, most = 0, -1.0
        for k in range(prices.size):
            need = _least_device_span(d, k, batches.low[k], d.battery[k] / n, limits.tdma)
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


@njit(cache=True, error_model="numpy")
def _tdma_time(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, omega: float,
    point: Point,
) -> tuple[float, float]:
    """Seconds and joules of the run when a second is worth `omega` everywhere (TDMA)."""
    limits, server = problem.limits, problem.server
    warm = point.scalars[2]
    left, right = least, math.inf
    span = warm if warm > left else max(2.0 * left, TINY)
    energy, uploads, total = 0.0, 0.0, 0.0
    for _ in range(2 * _TRIALS):
        total, slope, energy, uploads = round_at(
            problem.devices, limits, batches.low, batches.high, beta, n, span, omega, point
        )
        if total > omega:
            left = span
        else:
            right = span
        if (right < math.inf and right - left <= 1e-15 * right) or (total > 0.0 and abs(total / omega - 1.0) <= 1e-14):
            break
        new = span * 4.0 if right == math.inf else 0.5 * (left + right)
        if total > 0.0 and slope < 0.0 and slope > -math.inf:
            newton = span * math.exp(-min(max(math.log(total / omega) * total / (slope * span), -3.0), 3.0))
            if left < newton < right:
                new = newton
        if new == span or span > HUGE:
            break
        span = new
    point.scalars[2] = span
    seconds = n * (span + uploads + limits.down_s)
    joules = n * (energy + limits.down_j)
    if m > 0.0:
        clock = clock_at(omega, server.capacitance, server.clock_max, server.static)
        cost = sample_cost(omega, clock, server.cycles, server.capacitance, server.static)
        batch = batch_at(cost, beta0, 1.0, batches.server_low, batches.server_high)
        point.scalars[3] = server.cycles * batch / clock
        point.scalars[4] = batch
        point.scalars[5] = clock
        seconds += m * point.scalars[3]
        joules += m * _server_energy(server, point)
    point.scalars[1] = omega
    return seconds, joules


@njit(cache=True, error_model="numpy")
def _tdma_split(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> float:
    """The price of time at which the run takes the time there is (TDMA); returns its joules."""
    delay = problem.limits.delay
    guess = point.scalars[1]
    y1 = math.log(guess) if guess > TINY else 0.0
    seconds, joules = _tdma_time(problem, batches, m, n, beta0, beta, least, math.exp(y1), point)
    f1 = math.log(seconds / delay)
    y2, f2 = y1, f1
    step = 0.5 if guess > TINY else 3.0
    while f1 * f2 > 0.0 and abs(y2) < 650.0:
        y1, f1 = y2, f2
        y2 += step if f1 > 0.0 else -step
        step *= 2.0
        seconds, joules = _tdma_time(problem, batches, m, n, beta0, beta, least, math.exp(y2), point)
        f2 = math.log(seconds / delay)
    y3, f3 = y1, f1
    best_y = y1 if (f1 <= 0.0 and (f2 > 0.0 or y1 < y2)) else y2
    for _ in range(_TRIALS):
        if f1 * f2 > 0.0 or abs(f1) <= 1e-14 or abs(f2) <= 1e-14 or abs(y1 - y2) <= 1e-15 * max(1.0, abs(y1)):
            break
        y = next_point(y1, f1, y2, f2, y3, f3)
        seconds, joules = _tdma_time(problem, batches, m, n, beta0, beta, least, math.exp(y), point)
        f = math.log(seconds / delay)
        if (f > 0.0) == (f1 > 0.0):
            y3, f3 = y1, f1
        else:
            y3, f3 = y2, f2
            y2, f2 = y1, f1
        y1, f1 = y, f
    if abs(f1) <= 1e-14:
        best_y = y1
    elif abs(f2) <= 1e-14:
        best_y = y2
    elif f1 <= 0.0 and f2 <= 0.0:
        best_y = min(y1, y2)
    elif f1 <= 0.0:
        best_y = y1
    elif f2 <= 0.0:
        best_y = y2
    seconds, joules = _tdma_time(problem, batches, m, n, beta0, beta, least, math.exp(best_y), point)
    return joules


@njit(cache=True, error_model="numpy")
def _split(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> float:
    """The joules of the run when its time is spent in the best way at given energy prices."""
    if n == 0.0:
        t0 = problem.limits.delay / m
        _settle_server(problem.server, batches, beta0, t0, point)
        return m * _server_energy(problem.server, point)
    if problem.limits.tdma:
        return _tdma_split(problem, batches, m, n, beta0, beta, least, point)
    return _fdma_split(problem, batches, m, n, beta0, beta, least, point)


@njit(cache=True, error_model="numpy")
def _seconds(problem: Problem, m: float, n: float, point: Point) -> float:
    d, limits = problem.devices, problem.limits
    seconds = 0.0
    if m > 0.0:
        seconds += m * point.scalars[3]
    if n > 0.0:
        longest, uploads = 0.0, 0.0
        for k in range(d.cycles.size):
            u = d.cycles[k] * point.batch[k] / point.clock[k]
            t = d.span[k] / point.exponent[k]
            longest = max(longest, u if limits.tdma else u + t)
            uploads += t
        seconds += n * (longest + (uploads if limits.tdma else 0.0) + limits.down_s)
    return seconds


@njit(cache=True, error_model="numpy")
def least_seconds(problem: Problem, batches: Batches, m: float, n: float) -> float:
    """The least delay at fixed rounds that clocks, powers and batteries allow."""
    seconds = 0.0
    if m > 0.0:
        seconds += m * problem.server.cycles * batches.server_low / problem.server.clock_max
    if n > 0.0:
        d, limits = problem.devices, problem.limits
        span = least_span(d, limits, batches.low, n)
        if limits.tdma:
            for k in range(d.cycles.size):
                span += d.span[k] / d.exponent_max[k]
        seconds += n * (span + limits.down_s)
    return seconds


@njit(cache=True, error_model="numpy")
def solve_fixed(
    problem: Problem, batches: Batches, m: float, n: float, psi0: float, psi: float, point: Point
) -> int:
    """Minimise ``psi0/b0 + psi sum_k A_k/b_k`` at fixed rounds within the budgets; fills `point`.

    Returns SOLVED, ENERGY_SHORT, DELAY_SHORT or BATTERY_SHORT. When short of energy, `point` holds the cheapest
    decision there is (every batch at its least) and its prices, which prove the shortage.
    """
    d, limits = problem.devices, problem.limits
    seconds = least_seconds(problem, batches, m, n)
    if seconds > limits.delay * (1.0 + 1e-12):
        return BATTERY_SHORT if seconds == math.inf else DELAY_SHORT
    least = least_span(d, limits, batches.low, n) if n > 0.0 else 0.0
    budget = limits.energy

    joules = _split(problem, batches, m, n, 0.0, 0.0, least, point)
    scale = (psi0 if m > 0.0 else 0.0) + (psi * d.variance.sum() if n > 0.0 else 0.0)
    if joules > budget or scale == 0.0 or (
        (m == 0.0 or batches.server_low == batches.server_high) and (n == 0.0 or np.all(batches.low == batches.high))
    ):
        point.scalars[6], point.scalars[7] = joules, _seconds(problem, m, n, point)
        point.scalars[8] = _noise(d, m, n, psi0, psi, point)
        _close(problem, batches, m, n, 0.0, 0.0, 1.0, least, point)
        if joules > budget * (1.0 + 1e-12):
            return ENERGY_SHORT
        point.scalars[0] = 0.0
        return SOLVED

    def_floor = 1e-14 * scale / budget
    lam = point.scalars[0]
    if not (lam > def_floor and lam < HUGE):
        lam = 0.3 * scale / budget
    y1 = math.log(lam)
    f1 = math.log(_energy_at(problem, batches, m, n, psi0, psi, lam, least, point) / budget)
    y2, f2 = y1, f1
    step = 0.2 if point.scalars[0] > 0.0 else 2.0
    floor_y = math.log(def_floor)
    while f1 * f2 > 0.0:
        y1, f1 = y2, f2
        y2 = y2 + step if f1 > 0.0 else max(y2 - step, floor_y)
        step *= 3.0
        if y2 > 690.0:
            break
        f2 = math.log(_energy_at(problem, batches, m, n, psi0, psi, math.exp(y2), least, point) / budget)
        if y2 == floor_y and f2 <= 0.0:
            # not even at (almost) no price is the energy spent: it does not bind
            y1, f1 = y2, f2
            break
    y3, f3 = y1, f1
    for _ in range(_TRIALS):
        if f1 * f2 > 0.0 or -1e-13 <= f1 <= 0.0 or -1e-13 <= f2 <= 0.0:
            break
        if abs(y1 - y2) <= 1e-15 * max(1.0, abs(y1)):
            break
        y = next_point(y1, f1, y2, f2, y3, f3)
        f = math.log(_energy_at(problem, batches, m, n, psi0, psi, math.exp(y), least, point) / budget)
        if (f > 0.0) == (f1 > 0.0):
            y3, f3 = y1, f1
        else:
            y3, f3 = y2, f2
            y2, f2 = y1, f1
        y1, f1 = y, f
    y = y2
    if f1 <= 0.0 and (f2 > 0.0 or y1 < y2):
        y = y1
    lam = math.exp(y)
    joules = _energy_at(problem, batches, m, n, psi0, psi, lam, least, point)
    _close(problem, batches, m, n, psi0, psi, lam, least, point)
    point.scalars[6], point.scalars[7] = joules, _seconds(problem, m, n, point)
    point.scalars[8] = _noise(d, m, n, psi0, psi, point)
    return SOLVED


@njit(cache=True, error_model="numpy")
def _energy_at(
    problem: Problem,
    batches: Batches,
    m: float,
    n: float,
    psi0: float,
    psi: float,
    lam: float,
    least: float,
    point: Point,
) -> float:
    """Joules of the run at a price of energy."""
    beta0 = math.sqrt(psi0 / (m * lam)) if m > 0.0 else 0.0
    beta = math.sqrt(psi / (n * lam)) if n > 0.0 else 0.0
    return _split(problem, batches, m, n, beta0, beta, least, point)


@njit(cache=True, error_model="numpy")
def _close(
    problem: Problem,
    batches: Batches,
    m: float,
    n: float,
    psi0: float,
    psi: float,
    lam: float,
    least: float,
    point: Point,
) -> None:
    """Write the prices of a finished solve: lambda, balanced shares, and the price of time they add up to."""
    beta0 = math.sqrt(psi0 / (m * lam)) if m > 0.0 else 0.0
    beta = math.sqrt(psi / (n * lam)) if n > 0.0 else 0.0
    _balance(problem, batches, m, n, beta0, beta, least, point)
    point.scalars[0] = lam
    if n > 0.0 and not problem.limits.tdma:
        point.scalars[1] = point.price.sum()


@njit(cache=True, error_model="numpy")
def _noise(d: Devices, m: float, n: float, psi0: float, psi: float, point: Point) -> float:
    noise = psi0 / point.scalars[4] if m > 0.0 else 0.0
    if n > 0.0:
        for k in range(d.cycles.size):
            noise += psi * d.variance[k] / point.batch[k]
    return noise
