"""The optimum at fixed rounds of a plan whose batches, clocks and powers may change from segment to segment.

All segments pay the same price ``lambda`` of energy and the same price ``lambda omega`` of time, and nothing else ties
them together. So, from the outside in: lambda is where the energy is spent, omega is where the time is spent,
and at given prices the server's batch and clock in each segment have a closed form and the span of each
fine-tuning segment is where its devices' prices of time add up to omega. A pass over everything is O(J K).

No batteries: those would tie the segments of a device together (the planner refuses them, `planner.schedule`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import DELAY_SHORT, ENERGY_SHORT, SOLVED
from pretune.planner.kernels.fleet import TRIALS, Point, round_at
from pretune.planner.kernels.roots import next_point
from pretune.planner.kernels.scalar import HUGE, TINY, batch_at, clock_at, sample_cost
from pretune.planner.problem import Problem

_DONE = 1e-13


class Ranges(NamedTuple):
    """The ranges of the batches: arrays of shape (J,) for the server and (J, K) for the devices."""

    server_low: Floats
    server_high: Floats
    low: Floats
    high: Floats


class Parts(NamedTuple):
    """Rounds of each segment and the coefficients of its noise, four arrays of shape (J,)."""

    m: Floats
    n: Floats
    psi0: Floats
    psi: Floats


class Course(NamedTuple):
    """Decisions and prices of all segments, filled in place; an empty segment's mean nothing.

    `scalars` holds: 0 lambda, 1 omega, 2 joules, 3 seconds, 4 noise (the criterion's numerator without phi).
    """

    price: Floats
    """The devices' shares of omega, W, shape (J, K)."""
    ratio: Floats
    batch: Floats
    clock: Floats
    exponent: Floats
    span: Floats
    """Seconds of a fine-tuning round (FDMA) or of its compute phase (TDMA), without the broadcast, shape (J,)."""
    server_batch: Floats
    server_clock: Floats
    scalars: Floats


def new_course(segments: int, count: int) -> Course:
    """An empty course (a cold start)."""
    shape = (segments, count)
    return Course(
        price=np.zeros(shape),
        ratio=np.ones(shape),
        batch=np.ones(shape),
        clock=np.zeros(shape),
        exponent=np.zeros(shape),
        span=np.zeros(segments),
        server_batch=np.ones(segments),
        server_clock=np.zeros(segments),
        scalars=np.zeros(5),
    )


@njit(cache=True, error_model="numpy")
def fastest_round(problem: Problem, low: Floats) -> tuple[float, float]:
    """The least span of a round (TDMA: of its compute phase), and the least seconds all uploads take in turn."""
    d = problem.devices
    span, uploads = 0.0, 0.0
    for k in range(d.cycles.size):
        upload = d.span[k] / d.exponent_max[k]
        compute = d.cycles[k] * low[k] / d.clock_max[k]
        span = max(span, compute if problem.limits.tdma else compute + upload)
        uploads += upload
    return span, uploads


@njit(cache=True, error_model="numpy")
def solve_segments(problem: Problem, ranges: Ranges, parts: Parts, course: Course) -> int:
    """Minimise ``sum_j psi0_j/b0_j + psi_j sum_k A_k/b_jk`` at fixed rounds within the budgets; fills `course`.

    Returns SOLVED, ENERGY_SHORT or DELAY_SHORT. When short of energy, `course` holds the cheapest decision there is
    (every batch at its least) and its prices, which prove the shortage.
    """
    limits, scalars = problem.limits, course.scalars
    least = np.zeros(parts.m.size)
    seconds = 0.0
    for j in range(parts.m.size):
        seconds += parts.m[j] * problem.server.cycles * ranges.server_low[j] / problem.server.clock_max
        if parts.n[j] > 0.0:
            least[j], uploads = fastest_round(problem, ranges.low[j])
            seconds += parts.n[j] * (least[j] + (uploads if limits.tdma else 0.0) + limits.down_s)
    if seconds > limits.delay * (1.0 + 1e-12):
        return DELAY_SHORT

    budget, lam = limits.energy, scalars[0]
    scalars[0] = math.inf
    joules = _spend_time(problem, ranges, parts, least, course)
    scale = 0.0
    free = False
    for j in range(parts.m.size):
        if parts.m[j] > 0.0:
            scale += parts.psi0[j]
            free |= ranges.server_low[j] < ranges.server_high[j]
        if parts.n[j] > 0.0:
            scale += parts.psi[j] * problem.devices.variance.sum()
            free |= bool(np.any(ranges.low[j] < ranges.high[j]))
    if joules > budget or scale == 0.0 or not free:
        _balance(problem, ranges, parts, least, course)
        _book(problem, parts, joules, course)
        scalars[0] = 1.0 if joules > budget * (1.0 + 1e-12) else 0.0
        return ENERGY_SHORT if joules > budget * (1.0 + 1e-12) else SOLVED

    floor_y = math.log(1e-14 * scale / budget)
    warm = math.exp(floor_y) < lam < HUGE
    y1 = math.log(lam) if warm else math.log(0.3 * scale / budget)
    if 0.0 < lam <= 100.0 * math.exp(floor_y):
        # energy did not bind in the solve this one starts from: ask first whether it does here
        y1 = floor_y
    f1 = _excess_energy(problem, ranges, parts, least, y1, course)
    y2, f2 = y1, f1
    step = 20.0 if y1 == floor_y else 0.1 if warm else 2.0
    while f1 * f2 > 0.0 and not (y2 <= floor_y and f2 <= 0.0) and y2 < 690.0:
        y1, f1 = y2, f2
        y2 = y2 + step if f1 > 0.0 else max(y2 - step, floor_y)
        step *= 3.0
        f2 = _excess_energy(problem, ranges, parts, least, y2, course)
    y3, f3 = y1, f1
    for _ in range(TRIALS):
        if f1 * f2 > 0.0 or -3e-12 <= f1 <= 0.0 or -3e-12 <= f2 <= 0.0 or abs(y1 - y2) <= 1e-12 * max(1.0, abs(y1)):
            break
        y = next_point(y1, f1, y2, f2, y3, f3)
        f = _excess_energy(problem, ranges, parts, least, y, course)
        if (f > 0.0) == (f1 > 0.0):
            y3, f3 = y1, f1
        else:
            y3, f3 = y2, f2
            y2, f2 = y1, f1
        y1, f1 = y, f
    y = y1 if f1 <= 0.0 and (f2 > 0.0 or y1 < y2) else y2
    scalars[0] = math.exp(y)
    joules = _spend_time(problem, ranges, parts, least, course)
    _balance(problem, ranges, parts, least, course)
    _book(problem, parts, joules, course)
    return SOLVED


@njit(cache=True, error_model="numpy")
def _excess_energy(
    problem: Problem, ranges: Ranges, parts: Parts, least: Floats, log_lambda: float, course: Course
) -> float:
    """Logarithm of joules over budget at a price of energy."""
    course.scalars[0] = math.exp(log_lambda)
    return math.log(_spend_time(problem, ranges, parts, least, course) / problem.limits.energy)


@njit(cache=True, error_model="numpy")
def _beta(psi: float, rounds: float, lam: float) -> float:
    """``sqrt(psi / (rounds lambda))``; an infinite price asks for the least batch."""
    return math.sqrt(psi / (rounds * lam)) if lam < math.inf else 0.0


@njit(cache=True, error_model="numpy")
def _spend_time(problem: Problem, ranges: Ranges, parts: Parts, least: Floats, course: Course) -> float:
    """Find the price of time at which the run takes the time there is, at the price of energy; returns its joules."""
    scalars, delay = course.scalars, problem.limits.delay
    guess = scalars[1]
    warm = TINY < guess < HUGE
    y1 = math.log(guess) if warm else 0.0
    seconds, joules, slope = _run_at(problem, ranges, parts, least, math.exp(y1), course)
    f1 = math.log(seconds / delay)
    y2, f2 = y1, f1
    step = 3.0
    if warm and slope < 0.0:
        # aim a little beyond Newton's point, so that it brackets the root
        step = max(1.5 * abs(f1 / slope), 1e-9)
    while f1 * f2 > 0.0 and abs(y2) < 650.0:
        y1, f1 = y2, f2
        y2 = y2 + step if f1 > 0.0 else y2 - step
        step *= 3.0
        seconds, joules, _ = _run_at(problem, ranges, parts, least, math.exp(y2), course)
        f2 = math.log(seconds / delay)
    y3, f3 = y1, f1
    for _ in range(TRIALS):
        if f1 * f2 > 0.0 or -2e-12 <= f1 <= 1e-14 or -2e-12 <= f2 <= 1e-14:
            break
        if abs(y1 - y2) <= 1e-13 * max(1.0, abs(y1)):
            break
        y = next_point(y1, f1, y2, f2, y3, f3)
        seconds, joules, _ = _run_at(problem, ranges, parts, least, math.exp(y), course)
        f = math.log(seconds / delay)
        if (f > 0.0) == (f1 > 0.0):
            y3, f3 = y1, f1
        else:
            y3, f3 = y2, f2
            y2, f2 = y1, f1
        y1, f1 = y, f
    if -2e-12 <= f1 <= 1e-14:
        best = y1
    elif -2e-12 <= f2 <= 1e-14:
        best = y2
    elif f1 <= 0.0 and f2 <= 0.0:
        best = min(y1, y2)
    else:
        best = y1 if f1 <= f2 else y2
    seconds, joules, _ = _run_at(problem, ranges, parts, least, math.exp(best), course)
    scalars[1], scalars[3] = math.exp(best), seconds
    return joules


@njit(cache=True, error_model="numpy")
def _run_at(
    problem: Problem, ranges: Ranges, parts: Parts, least: Floats, omega: float, course: Course
) -> tuple[float, float, float]:
    """Seconds and joules of the run when a second is worth `omega` joules, and ``d log seconds / d log omega``.

    The derivative leaves the uploads' own out (TDMA): it only aims the first step.
    """
    limits, server, lam = problem.limits, problem.server, course.scalars[0]
    seconds, joules, bend = 0.0, 0.0, 0.0
    clock0 = clock_at(omega, server.capacitance, server.clock_max, server.static)
    cost0 = sample_cost(omega, clock0, server.cycles, server.capacitance, server.static)
    for j in range(parts.m.size):
        if parts.m[j] > 0.0:
            low, high = ranges.server_low[j], ranges.server_high[j]
            batch = batch_at(cost0, _beta(parts.psi0[j], parts.m[j], lam), 1.0, low, high)
            time = parts.m[j] * server.cycles * batch / clock0
            seconds += time
            joules += time * (server.capacitance * clock0**3 + server.static)
            if clock0 < server.clock_max:
                bend -= time * omega / (3.0 * (omega + server.static))
            if low < batch < high:
                bend -= time * omega * server.cycles / (2.0 * cost0 * clock0)
            course.server_batch[j], course.server_clock[j] = batch, clock0
        if parts.n[j] > 0.0:
            energy, uploads, slope = _settle(problem, ranges, parts, least, omega, j, course)
            seconds += parts.n[j] * (course.span[j] + uploads + limits.down_s)
            joules += parts.n[j] * (energy + limits.down_j)
            if -math.inf < slope < 0.0 and course.span[j] > least[j]:
                bend += parts.n[j] * omega / slope
    return seconds, joules, bend / seconds


@njit(cache=True, error_model="numpy")
def _segment(course: Course, j: int) -> Point:
    """One segment's columns as the point of a constant plan."""
    # schedules know no shared band
    own, gentlest = np.ones(course.price.shape[1]), np.full(course.price.shape[1], -1.0)
    return Point(
        course.price[j],
        course.ratio[j],
        course.batch[j],
        course.clock[j],
        course.exponent[j],
        own,
        gentlest,
        course.scalars,
    )


@njit(cache=True, error_model="numpy")
def _settle(
    problem: Problem, ranges: Ranges, parts: Parts, least: Floats, omega: float, j: int, course: Course
) -> tuple[float, float, float]:
    """The span of segment `j` at which its devices' prices of time add up to `omega`, or four times the delay.

    Returns joules of a round, seconds of its uploads (0 with FDMA, where the span holds them) and the prices' slope.
    """
    limits, d, rounds = problem.limits, problem.devices, parts.n[j]
    beta = _beta(parts.psi[j], rounds, course.scalars[0])
    low, high, point = ranges.low[j], ranges.high[j], _segment(course, j)
    left, right, most = least[j], math.inf, 4.0 * limits.delay
    span = course.span[j] if left < course.span[j] < most else max(2.0 * left, TINY)
    at_left = False
    energy, uploads, slope = 0.0, 0.0, 0.0
    for _ in range(2 * TRIALS):
        total, slope, energy, uploads = round_at(d, limits, low, high, beta, rounds, span, omega, point)
        if total > omega:
            left, at_left = span, True
        else:
            right = span
            if span <= left:
                break
        if (right < math.inf and right - left <= 1e-13 * right) or (total > 0.0 and abs(total / omega - 1.0) <= _DONE):
            break
        new = min(span * 4.0, most) if right == math.inf else 0.5 * (left + right)
        if total > 0.0 and -math.inf < slope < 0.0:
            newton = span * math.exp(-min(max(math.log(total / omega) * total / (slope * span), -3.0), 3.0))
            if abs(newton - span) <= 1e-15 * span:
                break
            if left < newton < min(right, most):
                new = newton
            elif newton <= left and not at_left and left > 0.0:
                new = left
        if new == span:
            break
        span = new
    course.span[j] = span
    return energy, uploads if limits.tdma else 0.0, slope


@njit(cache=True, error_model="numpy")
def _balance(problem: Problem, ranges: Ranges, parts: Parts, least: Floats, course: Course) -> None:
    """Choose the prices at a kink, where each may lie in an interval, so that each segment's add up to omega.

    As `split.balance` does for a constant plan: the ends of the intervals are the prices just left and just right of
    the span, and at the least span the price of the device that sets it is free upwards. Decisions stay.
    """
    d, limits, omega = problem.devices, problem.limits, course.scalars[1]
    nudge = 1e-11
    for j in range(parts.m.size):
        prices = course.price[j]
        if parts.n[j] <= 0.0 or abs(prices.sum() - omega) <= 1e-10 * omega:
            continue
        point = _segment(course, j)
        low, high, span = ranges.low[j], ranges.high[j], course.span[j]
        beta = _beta(parts.psi[j], parts.n[j], course.scalars[0])
        kept = (point.batch.copy(), point.clock.copy(), point.exponent.copy())
        right, _, _, _ = round_at(d, limits, low, high, beta, parts.n[j], span * (1.0 + nudge), omega, point)
        at_right = prices.copy()
        before = max(span * (1.0 - nudge), least[j])
        left, _, _, _ = round_at(d, limits, low, high, beta, parts.n[j], before, omega, point)
        if left > right:
            share = min(max((omega - right) / (left - right), 0.0), 1.0)
            for k in range(prices.size):
                prices[k] = share * prices[k] + (1.0 - share) * at_right[k]
        point.batch[:], point.clock[:], point.exponent[:] = kept
        total = prices.sum()
        if span <= least[j] * (1.0 + 1e-12) and total < omega:
            worst, most = 0, -1.0
            for k in range(prices.size):
                need = d.cycles[k] * low[k] / d.clock_max[k]
                if not limits.tdma:
                    need += d.span[k] / d.exponent_max[k]
                if need > most:
                    worst, most = k, need
            prices[worst] += omega - total
        elif total > omega:
            prices[:] = prices * (omega / total)


@njit(cache=True, error_model="numpy")
def _book(problem: Problem, parts: Parts, joules: float, course: Course) -> None:
    """Write joules and noise; give empty segments the prices of their neighbours, which prove something elsewhere."""
    noise = 0.0
    for j in range(parts.m.size):
        if parts.m[j] > 0.0:
            noise += parts.psi0[j] / course.server_batch[j]
        if parts.n[j] > 0.0:
            noise += parts.psi[j] * (problem.devices.variance / course.batch[j]).sum()
    course.scalars[2], course.scalars[4] = joules, noise
    last = -1
    for j in range(parts.m.size - 1, -1, -1):
        if parts.n[j] > 0.0:
            last = j
        elif last >= 0:
            course.price[j] = course.price[last]
        else:
            course.price[j] = 0.0
