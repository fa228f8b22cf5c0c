"""How TDMA splits the time where batteries limit devices: the price of time, and for each trial the compute phase.

Uploads pay the price of time itself, devices the share of it that their computing holds up; a battery multiplies both
for its own device.
"""

from __future__ import annotations

import math

from numba import njit

from pretune.planner.kernels.fleet import TRIALS, Point, round_at
from pretune.planner.kernels.roots import next_point
from pretune.planner.kernels.scalar import HUGE, TINY, batch_at, clock_at, sample_cost
from pretune.planner.kernels.server import server_energy
from pretune.planner.problem import Batches, Problem

_DONE = 1e-13


@njit(cache=True, error_model="numpy")
def _tdma_time(
    problem: Problem,
    batches: Batches,
    m: float,
    n: float,
    beta0: float,
    beta: float,
    least: float,
    omega: float,
    point: Point,
) -> tuple[float, float]:
    """Seconds and joules of the run when a second is worth `omega` everywhere (TDMA)."""
    limits, server = problem.limits, problem.server
    warm = point.scalars[2]
    left, right = least, math.inf
    span = warm if warm > left else max(2.0 * left, TINY)
    energy, uploads, total = 0.0, 0.0, 0.0
    before, total_before = 0.0, 0.0
    for _ in range(2 * TRIALS):
        total, slope, energy, uploads = round_at(
            problem.devices, limits, batches.low, batches.high, beta, n, span, omega, point
        )
        if total > omega:
            left = span
        else:
            right = span
        if (right < math.inf and right - left <= 1e-13 * right) or (total > 0.0 and abs(total / omega - 1.0) <= _DONE):
            break
        new = span * 4.0 if right == math.inf else 0.5 * (left + right)
        if total > 0.0 and slope < 0.0 and slope > -math.inf:
            steep = slope * span / total
            if total_before > 0.0 and before != span:
                # the slope knows nothing of batteries, whose prices move too; two trials do
                seen = math.log(total / total_before) / math.log(span / before)
                steep = seen if seen < 0.0 else steep
            before, total_before = span, total
            newton = span * math.exp(-min(max(math.log(total / omega) / steep, -3.0), 3.0))
            if abs(newton - span) <= 1e-15 * span:
                break
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
        joules += m * server_energy(server, point)
    point.scalars[1] = omega
    return seconds, joules


@njit(cache=True, error_model="numpy")
def _near_enough(excess: float) -> bool:
    """Whether a relative excess over the delay is none, and the slack not worth another trial."""
    return -2e-12 <= excess <= 1e-14


@njit(cache=True, error_model="numpy")
def tdma_battery_split(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> float:
    """The price of time at which the run takes the time there is (TDMA); returns its joules."""
    delay = problem.limits.delay
    guess = point.scalars[1]
    y1 = math.log(guess) if guess > TINY else 0.0
    seconds, joules = _tdma_time(problem, batches, m, n, beta0, beta, least, math.exp(y1), point)
    f1 = math.log(seconds / delay)
    y2, f2 = y1, f1
    step = 0.1 if guess > TINY else 3.0
    # with every batch at its least there is a price at which energy is as good as free: what is too slow even there
    # never keeps the delay
    top = max(math.log((joules + TINY) / delay) + 30.0, y1 + 1.0) if beta == 0.0 and beta0 == 0.0 else 650.0
    while f1 * f2 > 0.0 and -650.0 < y2 < top:
        y1, f1 = y2, f2
        y2 = min(y2 + step, top) if f1 > 0.0 else y2 - step
        step *= 2.0
        seconds, joules = _tdma_time(problem, batches, m, n, beta0, beta, least, math.exp(y2), point)
        f2 = math.log(seconds / delay)
    y3, f3 = y1, f1
    best_y = y1 if (f1 <= 0.0 and (f2 > 0.0 or y1 < y2)) else y2
    for _ in range(TRIALS):
        if f1 * f2 > 0.0 or _near_enough(f1) or _near_enough(f2) or abs(y1 - y2) <= 1e-13 * max(1.0, abs(y1)):
            break
        y = next_point(y1, f1, y2, f2, y3, f3)
        # no nearer to an end than the bracket's last width: an end looked at again would be a trial lost
        short = 5e-14 * max(1.0, abs(y1))
        y = min(max(y, min(y1, y2) + short), max(y1, y2) - short)
        seconds, joules = _tdma_time(problem, batches, m, n, beta0, beta, least, math.exp(y), point)
        f = math.log(seconds / delay)
        if (f > 0.0) == (f1 > 0.0):
            y3, f3 = y1, f1
        else:
            y3, f3 = y2, f2
            y2, f2 = y1, f1
        y1, f1 = y, f
    if _near_enough(f1):
        best_y = y1
    elif _near_enough(f2):
        best_y = y2
    elif f1 <= 0.0 and f2 <= 0.0:
        best_y = min(y1, y2)
    elif f1 <= 0.0:
        best_y = y1
    elif f2 <= 0.0:
        best_y = y2
    seconds, joules = _tdma_time(problem, batches, m, n, beta0, beta, least, math.exp(best_y), point)
    return joules
