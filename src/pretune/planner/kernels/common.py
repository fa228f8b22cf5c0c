"""The least span of a round in which a fleet that shares its band can do its least, batteries included."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.band import energy_in_band, least_share, power_ratio
from pretune.planner.kernels.fleet import TRIALS, least_device_span
from pretune.planner.kernels.fleet import least_span as least_own_span
from pretune.planner.kernels.roots import next_point
from pretune.planner.kernels.scalar import HUGE, TINY, clock_at, price_for_time
from pretune.planner.problem import Devices, Limits


@njit(cache=True, error_model="numpy")
def band_alone(d: Devices, band: float) -> Devices:
    """The devices as if each had the whole band (in equal shares) to itself."""
    alone = np.empty(d.noise.size)
    for k in range(alone.size):
        alone[k] = math.log1p(power_ratio(d.exponent_max[k]) / band)
    return Devices(
        d.cycles,
        d.capacitance,
        d.clock_max,
        d.static,
        d.noise * band,
        d.span / band,
        alone,
        d.circuit,
        d.variance,
        d.battery,
    )


@njit(cache=True, error_model="numpy")
def least_common_span(d: Devices, limits: Limits, low: Floats, rounds: float) -> float:
    """The least span that clocks, powers, batteries and the band allow; infinity where none does.

    With a shared band: where the least shares that keep a span add up to the band, one monotone equation.
    """
    if limits.band <= 0.0:
        return least_own_span(d, limits, low, rounds)
    alone = band_alone(d, limits.band)
    left = 0.0
    for k in range(low.size):
        left = max(left, least_device_span(alone, k, low[k], d.battery[k] / rounds, False))
    if left == math.inf or low.size == 1:
        return left
    y1 = math.log(left)
    f1 = _excess(d, limits.band, low, rounds, left * (1.0 + 1e-15))
    if f1 <= 0.0:
        return left
    y2, f2, step = y1, f1, 0.3
    while f2 > 0.0 and y2 < 600.0:
        y1, f1 = y2, f2
        y2 += step
        step *= 2.0
        f2 = _excess(d, limits.band, low, rounds, math.exp(y2))
    if f2 > 0.0:
        return math.inf
    y3, f3 = y1, f1
    for _ in range(TRIALS):
        if abs(y2 - y1) <= 1e-15 * max(1.0, abs(y2)) or -1e-14 <= f1 <= 0.0 or -1e-14 <= f2 <= 0.0:
            break
        y = next_point(y1, f1, y2, f2, y3, f3)
        f = _excess(d, limits.band, low, rounds, math.exp(y))
        if (f > 0.0) == (f1 > 0.0):
            y3, f3 = y1, f1
        else:
            y3, f3 = y2, f2
            y2, f2 = y1, f1
        y1, f1 = y, f
    return math.exp(_enough(y1, f1, y2, f2))


@njit(cache=True, error_model="numpy")
def _enough(y1: float, f1: float, y2: float, f2: float) -> float:
    """The end of a bracket that has no excess, the one that has less where both have none."""
    if f1 <= 0.0 and f2 <= 0.0:
        return y1 if f1 >= f2 else y2
    return y1 if f1 <= 0.0 else y2


@njit(cache=True, error_model="numpy")
def _excess(d: Devices, band: float, low: Floats, rounds: float, time: float) -> float:
    """Logarithm of the least shares' sum over the band."""
    total = 0.0
    for k in range(low.size):
        total += min(_least_share_of(d, k, low[k], time, d.battery[k] / rounds, band), 2.0 * band)
    return math.log(total / band)


@njit(cache=True, error_model="numpy")
def _least_share_of(d: Devices, k: int, low: float, time: float, allowed: float, band: float) -> float:
    """The least share at which a round of `low` samples takes `time` and no more than `allowed` joules.

    Above `band` (more than there is) where no share up to that will do.
    """
    computing, power = d.cycles[k] * low / d.clock_max[k], power_ratio(d.exponent_max[k])
    least = least_share(time - computing, d.span[k], power)
    if allowed >= HUGE or not least < band:
        return least
    f1 = math.log(_least_energy(d, k, low, time, least, power) / allowed)
    if f1 <= 0.0:
        return least
    f2 = math.log(_least_energy(d, k, low, time, band, power) / allowed)
    if f2 > 0.0:
        return 2.0 * band
    y1, y2 = math.log(least), math.log(band)
    y3, f3 = y1, f1
    for _ in range(TRIALS):
        if abs(y2 - y1) <= 1e-14 or -1e-14 <= f1 <= 0.0 or -1e-14 <= f2 <= 0.0:
            break
        y = next_point(y1, f1, y2, f2, y3, f3)
        f = math.log(_least_energy(d, k, low, time, math.exp(y), power) / allowed)
        if (f > 0.0) == (f1 > 0.0):
            y3, f3 = y1, f1
        else:
            y3, f3 = y2, f2
            y2, f2 = y1, f1
        y1, f1 = y, f
    return math.exp(_enough(y1, f1, y2, f2))


@njit(cache=True, error_model="numpy")
def _least_energy(d: Devices, k: int, low: float, time: float, share: float, power: float) -> float:
    """The least joules of a round of `low` samples in `time` with a given share."""
    noise, span, most = d.noise[k] * share, d.span[k] / share, math.log1p(power / share)
    omega, _, x = price_for_time(
        time,
        d.cycles[k],
        d.capacitance[k],
        d.clock_max[k],
        d.static[k],
        noise,
        span,
        most,
        d.circuit[k],
        0.0,
        0.0,
        low,
        low,
        0.0,
        -1.0,
    )
    clock = clock_at(omega, d.capacitance[k], d.clock_max[k], d.static[k])
    return energy_in_band(d, k, low, clock, max(x, TINY), share)
