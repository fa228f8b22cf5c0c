"""How TDMA splits the time where no battery limits a device: one root, in the compute phase of a round.

At a compute phase `v` the devices' prices of time add up to the price of a second for everyone, ``Omega(v)``; at that
price each upload and the server's rounds settle in closed form; and the delay they add up to grows with `v`. Where the
compute phase can't fall further, or the devices' prices jump, the price itself is searched at that phase.
"""

from __future__ import annotations

import math

from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.fleet import TRIALS, Point, device_energy, least_uploads
from pretune.planner.kernels.guesses import first_phase
from pretune.planner.kernels.scalar import (
    HUGE,
    TINY,
    batch_at,
    clock_at,
    energy_slope,
    exponent_guess,
    exponent_near,
    price_for_time,
    sample_cost,
)
from pretune.planner.problem import Batches, Devices, Problem

_BESIDE = 5e-14
"""How near to a jump its other side is looked at."""
SPARE = 1e-12
"""The delay is met to within this share from below."""


@njit(cache=True, error_model="numpy")
def computing_at(d: Devices, low: Floats, high: Floats, beta: float, phase: float, point: Point) -> tuple[float, float]:
    """All devices that have `phase` seconds to compute: the sum of their prices of time, and its slope.

    Fills price, batch and clock of `point`, which also serve as the warm start.
    """
    total, total_slope = 0.0, 0.0
    for k in range(d.cycles.size):
        root = math.sqrt(d.variance[k])
        omega, slope, _ = price_for_time(
            phase,
            d.cycles[k],
            d.capacitance[k],
            d.clock_max[k],
            d.static[k],
            1.0,
            0.0,
            1.0,
            0.0,
            beta,
            root,
            low[k],
            high[k],
            point.price[k],
            -1.0,
        )
        clock = clock_at(omega, d.capacitance[k], d.clock_max[k], d.static[k])
        cost = sample_cost(omega, clock, d.cycles[k], d.capacitance[k], d.static[k])
        point.price[k], point.ratio[k], point.clock[k] = omega, 1.0, clock
        point.batch[k] = batch_at(cost, beta, root, low[k], high[k])
        total += omega
        total_slope += slope
    return total, total_slope


@njit(cache=True, error_model="numpy")
def _uploads_at(d: Devices, omega: float, point: Point) -> tuple[float, float]:
    """Seconds of all uploads at a price of time, and their slope by that price; fills the exponents."""
    seconds, slope = 0.0, 0.0
    for k in range(d.cycles.size):
        paid = (d.circuit[k] + omega) / d.noise[k]
        x = d.exponent_max[k]
        if paid <= 0.0:
            x = TINY
        elif paid < energy_slope(x):
            warm = point.exponent[k]
            x, exp = exponent_near(paid, warm if TINY < warm < x else exponent_guess(paid))
            x = min(x, d.exponent_max[k])
            slope -= d.span[k] / (x * x * d.noise[k] * x * exp)
        point.exponent[k] = x
        seconds += d.span[k] / x
    return seconds, slope


@njit(cache=True, error_model="numpy")
def _seconds_at(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, phase: float, omega: float, point: Point
) -> tuple[float, float]:
    """Seconds of the run at a compute phase and a price of time, and their slope by that price; fills `point`."""
    server, limits = problem.server, problem.limits
    uploads, slope = _uploads_at(problem.devices, omega, point)
    seconds, slope = n * (phase + uploads + limits.down_s), n * slope
    if m > 0.0:
        clock = max(clock_at(omega, server.capacitance, server.clock_max, server.static), TINY)
        cost = sample_cost(omega, clock, server.cycles, server.capacitance, server.static)
        batch = batch_at(cost, beta0, 1.0, batches.server_low, batches.server_high)
        t0 = server.cycles * batch / clock
        point.scalars[3], point.scalars[4], point.scalars[5] = t0, batch, clock
        seconds += m * t0
        if clock < server.clock_max:
            slope -= m * t0 / (3.0 * (omega + server.static))
        if batches.server_low < batch < batches.server_high:
            slope -= m * t0 * server.cycles / (2.0 * cost * clock)
    point.scalars[1], point.scalars[2] = omega, phase
    return seconds, slope


@njit(cache=True, error_model="numpy")
def _jump_within(d: Devices, high: Floats, left: float, right: float) -> float:
    """The phase, nearest to the middle of those within, at which a device computes its largest batch at full speed."""
    nearest, best = 0.0, math.inf
    for k in range(d.cycles.size):
        phase = d.cycles[k] * high[k] / d.clock_max[k]
        if left < phase < right and abs(2.0 * phase - left - right) < best:
            nearest, best = phase, abs(2.0 * phase - left - right)
    return nearest


@njit(cache=True, error_model="numpy")
def tdma_split(
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
    """The compute phase and the price of time at which the run takes the time there is; returns its joules.

    Ends where at most a share `near` of the time is left over.
    """
    d, limits = problem.devices, problem.limits
    delay = limits.delay * (1.0 - SPARE)
    left = least
    right = limits.delay / n - limits.down_s - least_uploads(d, limits)
    if m > 0.0:
        right -= m * problem.server.cycles * batches.server_low / problem.server.clock_max / n
    right = max(right, least)
    warm = point.scalars[2]
    phase = warm if left < warm < right else first_phase(problem, batches, m, n, beta0, beta, left, right)
    done, at_left = False, False
    wide, missed, slow, edge = math.inf, math.inf, 0, 0.0
    for _ in range(2 * TRIALS):
        total, slope = computing_at(d, batches.low, batches.high, beta, phase, point)
        seconds, by_price = _seconds_at(problem, batches, m, n, beta0, phase, total, point)
        miss = seconds / delay - 1.0
        if -near <= miss <= SPARE:
            done = True
            break
        if miss > 0.0:
            right = phase
            if at_left:
                break
        else:
            left = phase
            if total <= 0.0:
                done = True
                break
        if right - left <= 1e-13 * right:
            break
        new = 0.5 * (left + right)
        steep = n + by_price * slope
        if 0.0 < steep < math.inf and seconds < HUGE:
            # in logarithms: seconds fall towards a constant as the phase grows short, a straight line overshoots less
            newton = phase * math.exp(-min(max(math.log1p(miss) * seconds / (steep * phase), -3.0), 3.0))
            if left < newton < right:
                new = newton
            elif newton >= right:
                new = right - 0.05 * (right - phase)
            elif left == least:
                # the phase may be as short as it can be
                new, at_left = least, True
            else:
                new = left + 0.05 * (phase - left)
        elif left == least and right - left <= 1e-6 * right:
            new, at_left = least, True
        slow = slow + 1 if right - left > 0.5 * wide and abs(miss) > 0.1 * missed else 0
        wide, missed = right - left, abs(miss)
        if edge > 0.0:
            # the other side of a jump: if the time is used up between the two, that is where
            new, edge, slow = edge * (1.0 - _BESIDE if right == edge else 1.0 + _BESIDE), 0.0, 0
            new = new if left < new < right else 0.5 * (left + right)
        elif slow >= 2 and not at_left:
            # slopes lead to and fro between the ends: prices jump where a batch reaches its most
            edge = _jump_within(d, batches.high, left, right)
            new, slow = edge if edge > 0.0 else 0.5 * (left + right), 0
        if new == phase:
            break
        phase = new
    if not done:
        _settle_price(problem, batches, m, n, beta0, beta, left, delay, point)
    return _joules(problem, m, n, point)


@njit(cache=True, error_model="numpy")
def _settle_price(
    problem: Problem,
    batches: Batches,
    m: float,
    n: float,
    beta0: float,
    beta: float,
    phase: float,
    delay: float,
    point: Point,
) -> None:
    """The price of time at which the run takes the time there is with its compute phase given."""
    computing_at(problem.devices, batches.low, batches.high, beta, phase, point)
    left, right = math.log(TINY), math.log(HUGE)
    y = math.log(point.scalars[1]) if TINY < point.scalars[1] < HUGE else 0.0
    for _ in range(2 * TRIALS):
        omega = math.exp(y)
        seconds, slope = _seconds_at(problem, batches, m, n, beta0, phase, omega, point)
        miss = seconds / delay - 1.0
        if miss > 0.0:
            left = y
        else:
            right = y
        if abs(miss) <= SPARE or right - left <= 1e-13 * max(1.0, abs(y)):
            break
        new = 0.5 * (left + right)
        if slope < 0.0 and seconds < HUGE:
            newton = y - min(max(math.log1p(miss) * seconds / (slope * omega), -8.0), 8.0)
            if left < newton < right:
                new = newton
        if new == y:
            break
        y = new
    if seconds > delay * (1.0 + SPARE):
        _seconds_at(problem, batches, m, n, beta0, phase, math.exp(right), point)


@njit(cache=True, error_model="numpy")
def _joules(problem: Problem, m: float, n: float, point: Point) -> float:
    d, server = problem.devices, problem.server
    joules = n * problem.limits.down_j
    for k in range(d.cycles.size):
        joules += n * device_energy(d, k, point.batch[k], point.clock[k], point.exponent[k])
    if m > 0.0:
        cycles, clock = server.cycles * point.scalars[4], point.scalars[5]
        joules += m * (cycles * server.capacitance * clock * clock + server.static * cycles / clock)
    return joules
