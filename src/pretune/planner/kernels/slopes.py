"""One fine-tuning round of a part of the fleet with its derivatives: what Newton's method over large fleets adds up.

The derivatives follow from the envelope theorem. With ``omega`` the price of time of a device (in joules per second)
and ``c`` the cost of a sample at that price, its energy obeys ``de = -omega d(time) + c db``, and the time that it
takes falls with the price as in `scalar`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.fleet import Point, round_at
from pretune.planner.kernels.priced import most_batch
from pretune.planner.kernels.scalar import sample_cost
from pretune.planner.problem import Devices, Limits, Problem

PRICE, PRICE_BY_SPAN, PRICE_BY_BETA, ENERGY, ENERGY_BY_SPAN, ENERGY_BY_BETA = 0, 1, 2, 3, 4, 5
UPLOADS, UPLOADS_BY_OMEGA, ENERGY_BY_OMEGA, NOISE, SHORT = 6, 7, 8, 9, 10
SUMS = 11
"""What `round_sums` adds up, in this order; `by beta` means by its logarithm."""


@njit(cache=True, error_model="numpy", nogil=True)
def round_sums(
    d: Devices,
    limits: Limits,
    low: Floats,
    high: Floats,
    beta: float,
    rounds: float,
    span: float,
    upload_price: float,
    point: Point,
) -> Floats:
    """All devices at one span, as `round_at`, with the derivatives of its sums; shape (SUMS,).

    NOISE is ``sum_k A_k / b_k``, SHORT the number of devices whose battery can't pay the round at this span. TDMA: how
    the price of a battery that binds moves is left out (the steps of Newton's method are then not quite as good).
    """
    sums = np.zeros(SUMS)
    price, _, energy, uploads = round_at(d, limits, low, high, beta, rounds, span, upload_price, point)
    sums[PRICE], sums[ENERGY], sums[UPLOADS] = price, energy, uploads
    for k in range(d.cycles.size):
        ratio, batch, clock, x = point.ratio[k], point.batch[k], point.clock[k], point.exponent[k]
        omega = point.price[k] / ratio
        cost = sample_cost(omega, clock, d.cycles[k], d.capacitance[k], d.static[k])
        u = d.cycles[k] * batch / clock
        sums[NOISE] += d.variance[k] / batch
        batch_by_price, free = 0.0, 0.0
        time_by_price = 0.0
        if clock < d.clock_max[k]:
            time_by_price -= u / (3.0 * (omega + d.static[k]))
        if low[k] < batch < high[k]:
            batch_by_price = -batch * d.cycles[k] / (2.0 * cost * clock)
            time_by_price += d.cycles[k] / clock * batch_by_price
            free = 1.0
        upload_by_price = 0.0
        if x < d.exponent_max[k]:
            upload_by_price = -d.span[k] / (x * x * x * d.noise[k] * math.exp(x))
        if limits.tdma:
            own = upload_price / ratio
            sums[UPLOADS_BY_OMEGA] += upload_by_price / ratio
            if ratio == 1.0:
                sums[ENERGY_BY_OMEGA] -= own * upload_by_price / ratio
        else:
            time_by_price += upload_by_price
        allowed = d.battery[k] / rounds
        t = d.span[k] / x
        if allowed < math.inf and ratio > 1.0 and batch <= low[k]:
            joules = d.cycles[k] * batch * d.capacitance[k] * clock * clock + d.static[k] * u
            joules += d.noise[k] * t * math.expm1(x) + d.circuit[k] * t
            if joules > allowed * (1.0 + 1e-9):
                sums[SHORT] += 1.0
        if omega <= 0.0:
            # idling leaves it time to spare: the span means nothing to it
            if ratio == 1.0:
                sums[ENERGY_BY_BETA] += cost * free * batch
            continue
        if ratio > 1.0 and not limits.tdma:
            # the battery holds the energy: a longer span is spent on samples, and the ratio follows from the batch
            by_price = upload_by_price - (u / (3.0 * (omega + d.static[k])) if clock < d.clock_max[k] else 0.0)
            if by_price < 0.0 and batch > low[k]:
                share = omega * d.cycles[k] / (clock * cost)
                moved = (1.0 - share) / by_price
                sums[PRICE_BY_SPAN] += ratio * (moved * (1.0 - share) - 2.0 * omega * omega / (cost * batch))
                sums[PRICE_BY_BETA] += 2.0 * omega * ratio
            continue
        if time_by_price < 0.0:
            price_by_span = 1.0 / time_by_price
            price_by_beta = -free * u / time_by_price
            sums[PRICE_BY_SPAN] += ratio * price_by_span
            sums[PRICE_BY_BETA] += ratio * price_by_beta
            if ratio == 1.0:
                sums[ENERGY_BY_SPAN] += cost * batch_by_price * price_by_span - omega
                sums[ENERGY_BY_BETA] += cost * (free * batch + batch_by_price * price_by_beta)
        elif ratio == 1.0:
            sums[ENERGY_BY_BETA] += cost * free * batch
    return sums


@njit(cache=True, error_model="numpy", nogil=True)
def fastest_span(d: Devices, limits: Limits, batch: Floats) -> float:
    """The least span that clocks and powers alone allow at these batches."""
    longest = 0.0
    for k in range(d.cycles.size):
        time = d.cycles[k] * batch[k] / d.clock_max[k]
        if not limits.tdma:
            time += d.span[k] / d.exponent_max[k]
        longest = max(longest, time)
    return longest


@njit(cache=True, error_model="numpy", nogil=True)
def fill_most_batches(problem: Problem, first: int, span: float, rounds: float, most: Floats) -> None:
    """The largest whole batches within a span for devices ``first, first + 1, ...``, written into `most`."""
    for k in range(most.size):
        most[k] = most_batch(problem, first + k, span, math.inf, rounds)
