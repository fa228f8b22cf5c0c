"""One fine-tuning round of the whole fleet at a span: O(K), the innermost loop of everything."""

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
from pretune.planner.problem import Devices, Limits

TRIALS = 100


class Point(NamedTuple):
    """A point of the continuous problem and its prices; the arrays have shape (K,) and are filled in place.

    `scalars` holds: 0 lambda, 1 Omega (the time price per energy price, W), 2 span (tau for FDMA, the compute
    phase v for TDMA), 3 server round time T0, 4 server batch, 5 server clock, 6 energy, 7 delay, 8 objective's
    noise part (the numerator of the criterion without phi), 9 gamma (the price of an equal share of the band per energy
    price, J per round; 0 where the band is not shared).
    """

    price: Floats
    """omega_k times ratio_k: the device's share of the time price, W."""
    ratio: Floats
    """lambda_k / lambda >= 1; above one where a battery binds."""
    batch: Floats
    clock: Floats
    exponent: Floats
    share: Floats
    """Bandwidth in equal shares of the band; one where the band is not shared."""
    gentlest: Floats
    """What `gentlest_exponent` gave for this problem; negative where nobody asked yet."""
    scalars: Floats


def new_point(count: int) -> Point:
    """An empty point for `count` devices (a cold start)."""
    return Point(
        price=np.zeros(count),
        ratio=np.ones(count),
        batch=np.ones(count),
        clock=np.zeros(count),
        exponent=np.zeros(count),
        share=np.ones(count),
        gentlest=np.full(count, -1.0),
        scalars=np.zeros(10),
    )


@njit(cache=True, error_model="numpy", inline="always")
def gentlest_exponent(d: Devices, k: int) -> float:
    """The upload exponent that takes the least energy, for a device whose time costs nothing."""
    return upload_exponent(d.circuit[k] / d.noise[k], d.exponent_max[k])


@njit(cache=True, error_model="numpy", inline="always")
def device_energy(d: Devices, k: int, batch: float, clock: float, x: float) -> float:
    """Joules of one device's round."""
    cycles = d.cycles[k] * batch
    t = d.span[k] / x
    return (
        cycles * d.capacitance[k] * clock * clock
        + d.static[k] * cycles / clock
        + d.noise[k] * t * math.expm1(x)
        + d.circuit[k] * t
    )


@njit(cache=True, error_model="numpy", inline="always")
def device_at(
    d: Devices,
    k: int,
    low: float,
    high: float,
    beta: float,
    time: float,
    upload_price: float,
    tdma: bool,
    guess: float,
    gentlest: float,
) -> tuple[float, float, float, float, float]:
    """Price, its slope by the time, batch, clock and upload exponent of a device that has `time` in a round.

    FDMA: `time` is for compute and upload together. TDMA: it is for computing; the upload pays `upload_price`.
    """
    root = math.sqrt(d.variance[k])
    omega, slope, x = price_for_time(
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
        gentlest,
    )
    clock = clock_at(omega, d.capacitance[k], d.clock_max[k], d.static[k])
    cost = sample_cost(omega, clock, d.cycles[k], d.capacitance[k], d.static[k])
    batch = batch_at(cost, beta, root, low, high)
    if tdma:
        x = upload_exponent((d.circuit[k] + upload_price) / d.noise[k], d.exponent_max[k])
    elif omega > 0.0 and x < d.exponent_max[k]:
        # spend rounding errors on the upload, so that compute and upload fit the time exactly
        left = time - d.cycles[k] * batch / clock
        if left > 0.0:
            x = min(max(d.span[k] / left, 0.999999 * x), d.exponent_max[k])
    return omega, slope, batch, clock, max(x, TINY)


@njit(cache=True, error_model="numpy")
def _idle_compute(d: Devices, k: int, low: float) -> float:
    """The least joules that computing `low` samples can take, given all the time in the world."""
    clock = min(d.clock_max[k], (d.static[k] / (2.0 * d.capacitance[k])) ** (1.0 / 3.0))
    if clock <= 0.0:
        return 0.0
    return d.cycles[k] * low * (d.capacitance[k] * clock * clock + d.static[k] / clock)


@njit(cache=True, error_model="numpy")
def least_uploads(d: Devices, limits: Limits) -> float:
    """TDMA: the least seconds that all uploads of a round take one after the other, at full power; else zero."""
    seconds = 0.0
    if limits.tdma:
        for k in range(d.cycles.size):
            seconds += d.span[k] / d.exponent_max[k]
    return seconds


@njit(cache=True, error_model="numpy")
def upload_within(d: Devices, k: int, time: float) -> float:
    """The least joules that an upload of at most `time` seconds (infinity: any time) can take."""
    x = gentlest_exponent(d, k)
    if time < HUGE:
        x = max(x, d.span[k] / time)
    if x <= 0.0:
        return d.noise[k] * d.span[k]
    x = min(x, d.exponent_max[k])
    return d.span[k] / x * (d.noise[k] * math.expm1(x) + d.circuit[k])


@njit(cache=True, error_model="numpy")
def least_device_span(d: Devices, k: int, low: float, allowed: float, tdma: bool) -> float:
    """The least span at which a device's round of `low` samples takes no more than `allowed` joules.

    TDMA: the upload may take as long as it likes, so computing gets all but the least an upload can cost.
    """
    fastest = d.cycles[k] * low / d.clock_max[k]
    if not tdma:
        fastest += d.span[k] / d.exponent_max[k]
    if allowed >= HUGE:
        return fastest
    idle = upload_within(d, k, math.inf)
    if _idle_compute(d, k, low) + idle >= allowed * (1.0 - 1e-12):
        return math.inf
    left, right, span = 0.0, math.inf, fastest
    gentlest = gentlest_exponent(d, k)
    for _ in range(2 * TRIALS):
        _, _, batch, clock, x = device_at(d, k, low, low, 0.0, span, 0.0, tdma, 0.0, gentlest)
        joules = device_energy(d, k, batch, clock, x)
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
        # the common case here, for a call with the whole fleet as its argument costs more than the answer
        least = max(
            least, d.cycles[k] * low[k] / d.clock_max[k] + (0.0 if limits.tdma else d.span[k] / d.exponent_max[k])
        )
    if np.all(d.battery >= HUGE):
        return least
    for k in range(d.cycles.size):
        least = max(least, least_device_span(d, k, low[k], d.battery[k] / rounds, limits.tdma))
    return least


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
        if point.gentlest[k] < 0.0:
            point.gentlest[k] = gentlest_exponent(d, k)
        gentlest = point.gentlest[k]
        omega, slope, batch, clock, x = device_at(
            d, k, low[k], high[k], beta, time, upload_price, limits.tdma, point.price[k] / point.ratio[k], gentlest
        )
        joules = device_energy(d, k, batch, clock, x)
        ratio = 1.0
        allowed = d.battery[k] / rounds
        if joules > allowed:
            # raise this device's own energy price until its battery holds
            y1, f1 = 0.0, math.log(joules / allowed)
            y2, f2 = y1, f1
            grow = 1.0
            while f2 > 0.0 and y2 < 200.0:
                y1, f1 = y2, f2
                y2 += grow
                grow *= 2.0
                scale = math.exp(y2)
                omega, slope, batch, clock, x = device_at(
                    d,
                    k,
                    low[k],
                    high[k],
                    beta / math.sqrt(scale),
                    time,
                    upload_price / scale,
                    limits.tdma,
                    omega,
                    gentlest,
                )
                f2 = math.log(device_energy(d, k, batch, clock, x) / allowed)
                if batch <= low[k] and not limits.tdma:
                    break
            y3, f3 = y1, f1
            for _ in range(TRIALS):
                if f2 > 0.0 or abs(y2 - y1) <= 1e-15 * max(1.0, abs(y2)) or -1e-14 < f2:
                    break
                y = next_point(y1, f1, y2, f2, y3, f3) if f1 != f2 else 0.5 * (y1 + y2)
                if not (min(y1, y2) < y < max(y1, y2)):
                    y = 0.5 * (y1 + y2)
                scale = math.exp(y)
                omega, slope, batch, clock, x = device_at(
                    d,
                    k,
                    low[k],
                    high[k],
                    beta / math.sqrt(scale),
                    time,
                    upload_price / scale,
                    limits.tdma,
                    omega,
                    gentlest,
                )
                f = math.log(device_energy(d, k, batch, clock, x) / allowed)
                if f > 0.0:
                    y3, f3 = y1, f1
                    y1, f1 = y, f
                else:
                    y3, f3 = y2, f2
                    y2, f2 = y, f
            ratio = math.exp(y2)
            omega, slope, batch, clock, x = device_at(
                d, k, low[k], high[k], beta / math.sqrt(ratio), time, upload_price / ratio, limits.tdma, omega, gentlest
            )
            joules = device_energy(d, k, batch, clock, x)
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
