"""The optimum at fixed rounds: one price of energy outside, one split of the time inside, O(K) per trial.

The problem of math.md section 3. With a price ``lambda`` on energy every device solves its own scalar problem
(`scalar`); the span of a fine-tuning round is where the prices of time of the devices add up to the server's
(`split`); the price of energy is where the budget is spent. Both are monotone and bracketed. Nothing here raises: the
status tells.

A battery limit multiplies the energy price of its device by a ratio of its own.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.planner.kernels.common import least_common_span as least_span
from pretune.planner.kernels.fleet import TRIALS, Point, least_uploads, new_point
from pretune.planner.kernels.freely import free_energy, free_span, may_all_be_most, span_for_most
from pretune.planner.kernels.newton import newton_start
from pretune.planner.kernels.newton_tdma import newton_start_tdma
from pretune.planner.kernels.roots import next_point
from pretune.planner.kernels.scalar import HUGE, TINY
from pretune.planner.kernels.shared import shared_balance, shared_split
from pretune.planner.kernels.split import balance, fdma_split, split
from pretune.planner.kernels.tdma import tdma_split
from pretune.planner.problem import Batches, Devices, Problem

__all__ = [
    "BATTERY_SHORT",
    "DELAY_SHORT",
    "ENERGY_SHORT",
    "SOLVED",
    "Point",
    "least_seconds",
    "least_span",
    "new_point",
    "solve_fixed",
]

_EVEN, _UNUSED = 1e-2, 1e-3
"""How evenly the stages' prices of time meet (FDMA), and the share of the time that may be left (TDMA), where the
energy that more would save is not what is minimised."""

SOLVED, ENERGY_SHORT, DELAY_SHORT, BATTERY_SHORT = 0, 1, 2, 3


@njit(cache=True, error_model="numpy")
def least_seconds(problem: Problem, batches: Batches, m: float, n: float) -> float:
    """The least delay at fixed rounds that clocks, powers and batteries allow."""
    seconds = 0.0
    if m > 0.0:
        seconds += m * problem.server.cycles * batches.server_low / problem.server.clock_max
    if n > 0.0:
        d, limits = problem.devices, problem.limits
        span = max(least_span(d, limits, batches.low, n), batches.span)
        seconds += n * (span + least_uploads(d, limits) + limits.down_s)
    return seconds


@njit(cache=True, error_model="numpy")
def solve_fixed(problem: Problem, batches: Batches, m: float, n: float, psi0: float, psi: float, point: Point) -> int:
    """Minimise ``psi0/b0 + psi sum_k A_k/b_k`` at fixed rounds within the budgets; fills `point`.

    Returns SOLVED, ENERGY_SHORT, DELAY_SHORT or BATTERY_SHORT. When short of energy, `point` holds the cheapest
    decision there is (every batch at its least) and its prices, which prove the shortage.
    """
    d, limits = problem.devices, problem.limits
    seconds = least_seconds(problem, batches, m, n)
    if seconds > limits.delay * (1.0 + 1e-12):
        return BATTERY_SHORT if seconds == math.inf else DELAY_SHORT
    least = max(least_span(d, limits, batches.low, n), batches.span) if n > 0.0 else 0.0
    budget = limits.energy

    scale = (psi0 if m > 0.0 else 0.0) + (psi * d.variance.sum() if n > 0.0 else 0.0)
    point.gentlest[:] = -1.0
    lam_floor = 1e-14 * scale / budget
    plain = scale > 0.0 and n > 0.0 and limits.band <= 0.0 and np.all(d.battery >= HUGE)
    free = False
    # where energy bound in the solve that this one starts from, it is likely to bind here
    if plain and not point.scalars[0] > 100.0 * lam_floor:
        if _all_at_most(problem, batches, m, n, point):
            point.scalars[0] = lam_floor
            point.scalars[8] = _noise(d, m, n, psi0, psi, point)
            return SOLVED
        span = free_span(problem, batches, m, n, psi0, psi, least)
        free = free_energy(problem, batches, m, n, span) <= budget
        if free:
            point.scalars[0], point.scalars[2] = lam_floor, span
    # TDMA: with static power and no start most devices idle, and their prices of nothing lead Newton's method nowhere
    lost = limits.tdma and point.scalars[0] == 0.0 and bool(np.any(d.static > 0.0))
    if plain and not free and not lost:
        lam = point.scalars[0]
        if limits.tdma:
            found = newton_start_tdma(problem, batches, m, n, psi0, psi, least, point)
        else:
            found = newton_start(problem, batches, m, n, psi0, psi, least, point)
        if found:
            beta0 = math.sqrt(psi0 / (m * point.scalars[0])) if m > 0.0 else 0.0
            beta = math.sqrt(psi / (n * point.scalars[0]))
            lam = point.scalars[0]
            joules = split(problem, batches, m, n, beta0, beta, least, point)
            if -3e-12 <= math.log(joules / budget) <= 0.0:
                _close(problem, batches, m, n, psi0, psi, lam, least, point)
                point.scalars[6], point.scalars[7] = joules, _seconds(problem, m, n, point)
                point.scalars[8] = _noise(d, m, n, psi0, psi, point)
                return SOLVED
        point.scalars[0] = lam
    joules = 0.0 if free else _split(problem, batches, m, n, 0.0, 0.0, least, point)
    if not free and not _seconds(problem, m, n, point) <= limits.delay * (1.0 + 1e-9):
        # TDMA: computing slowly enough for the batteries leaves too little time for uploads; the prices prove it
        return BATTERY_SHORT
    if (
        joules > budget
        or scale == 0.0
        or (
            (m == 0.0 or batches.server_low == batches.server_high)
            and (n == 0.0 or np.all(batches.low == batches.high))
        )
    ):
        point.scalars[6], point.scalars[7] = joules, _seconds(problem, m, n, point)
        point.scalars[8] = _noise(d, m, n, psi0, psi, point)
        _close(problem, batches, m, n, 0.0, 0.0, 1.0, least, point)
        if joules > budget * (1.0 + 1e-12):
            return ENERGY_SHORT
        point.scalars[0] = 0.0
        return SOLVED

    lam = point.scalars[0]
    slack = 0.0 < lam <= 100.0 * lam_floor
    if slack:
        # energy did not bind in the solve this one starts from: ask first whether it does here
        lam = lam_floor
    elif not (lam_floor < lam < HUGE):
        lam = min(
            max(_first_price(problem, batches, m, n, psi0, psi, budget - joules, point), lam_floor), scale / budget
        )
    y1 = math.log(lam)
    f1 = math.log(_energy_at(problem, batches, m, n, psi0, psi, lam, least, point) / budget)
    y2, f2 = y1, f1
    step = 20.0 if slack else 0.2 if point.scalars[0] > 0.0 else 2.0
    floor_y = math.log(lam_floor)
    while f1 * f2 > 0.0 and not (y2 <= floor_y and f2 <= 0.0):
        y1, f1 = y2, f2
        y2 = y2 + step if f1 > 0.0 else max(y2 - step, floor_y)
        step *= 3.0
        if y2 > 690.0:
            break
        f2 = math.log(_energy_at(problem, batches, m, n, psi0, psi, math.exp(y2), least, point) / budget)
    if y2 <= floor_y and f2 <= 0.0:
        # not even at (almost) no price is the energy spent: it does not bind
        y1, f1 = y2, f2
    y3, f3 = y1, f1
    for _ in range(TRIALS):
        if f1 * f2 > 0.0 or -3e-12 <= f1 <= 0.0 or -3e-12 <= f2 <= 0.0:
            break
        if abs(y1 - y2) <= 1e-12 * max(1.0, abs(y1)):
            break
        y = next_point(y1, f1, y2, f2, y3, f3)
        # no nearer to an end than the bracket's last width: an end looked at again would be a trial lost
        short = 5e-13 * max(1.0, abs(y1))
        y = min(max(y, min(y1, y2) + short), max(y1, y2) - short)
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
def _first_price(
    problem: Problem, batches: Batches, m: float, n: float, psi0: float, psi: float, left: float, point: Point
) -> float:
    """About the price of energy at which the joules `left` over by the least batches buy larger ones.

    As if a sample went on costing what it costs in `point`, the cheapest decision there is.
    """
    d, server = problem.devices, problem.server
    roots = 0.0
    for k in range(d.cycles.size if n > 0.0 else 0):
        clock = max(point.clock[k], TINY)
        cost = n * d.cycles[k] * (d.capacitance[k] * clock * clock + d.static[k] / clock)
        roots += math.sqrt(psi * d.variance[k] * cost)
        left += cost * batches.low[k]
    if m > 0.0:
        clock = max(point.scalars[5], TINY)
        cost = m * server.cycles * (server.capacitance * clock * clock + server.static / clock)
        roots += math.sqrt(psi0 * cost)
        left += cost * batches.server_low
    return (roots / left) ** 2


@njit(cache=True, error_model="numpy")
def _all_at_most(problem: Problem, batches: Batches, m: float, n: float, point: Point) -> bool:
    """Whether the budgets pay for every batch at its most; `point` then holds that.

    Energy is then worth nothing, and with it everything else: the prices need not add up.
    """
    if not may_all_be_most(problem, batches, m, n):
        return False
    most = Batches(batches.server_high, batches.server_high, batches.high, batches.high, batches.span)
    span = max(span_for_most(problem, batches), batches.span)
    if problem.limits.tdma:
        joules = tdma_split(problem, most, m, n, 0.0, 0.0, span, _UNUSED, point)
    else:
        joules = fdma_split(problem, most, m, n, 0.0, 0.0, span, _EVEN, point)
    if joules > problem.limits.energy or _seconds(problem, m, n, point) > problem.limits.delay * (1.0 + 1e-12):
        # its prices are far from those of a price on energy: no start is a better one
        point.price[:], point.scalars[1], point.scalars[2] = 0.0, 0.0, 0.0
        return False
    point.scalars[6], point.scalars[7] = joules, _seconds(problem, m, n, point)
    return True


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
def _split(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> float:
    """The joules of the run when its time, and a shared band, are spent in the best way at given energy prices."""
    if problem.limits.band > 0.0 and n > 0.0:
        return shared_split(problem, batches, m, n, beta0, beta, least, point)
    return split(problem, batches, m, n, beta0, beta, least, point)


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
            t = d.span[k] / (point.exponent[k] * point.share[k])
            longest = max(longest, u if limits.tdma else u + t)
            uploads += t
        seconds += n * (longest + (uploads if limits.tdma else 0.0) + limits.down_s)
    return seconds


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
    if problem.limits.band > 0.0:
        shared_balance(problem, batches, m, n, beta0, beta, least, point)
    else:
        balance(problem, batches, m, n, beta0, beta, least, point)
    point.scalars[0] = lam


@njit(cache=True, error_model="numpy")
def _noise(d: Devices, m: float, n: float, psi0: float, psi: float, point: Point) -> float:
    noise = psi0 / point.scalars[4] if m > 0.0 else 0.0
    if n > 0.0:
        for k in range(d.cycles.size):
            noise += psi * d.variance[k] / point.batch[k]
    return noise
