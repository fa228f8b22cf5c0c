"""Battery prices for either side of a whole batch.

A battery that binds leaves its device a real batch, 68.3 say; at the battery's price 68 and 69 samples cost the same,
so one price can't tell that 68 wastes some of the battery and 69 needs more time than it is worth. Two can: one ratio
for batches up to 68, another for batches from 69 on, each where that whole batch uses up the battery. Any ratio gives
a valid bound for either side; the device's bill is the lower side's or the upper side's, whichever is less.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.band import energy_in_band, power_ratio, upload_bill, upload_in_band
from pretune.planner.kernels.fleet import Point, device_energy
from pretune.planner.kernels.scalar import HUGE, TINY, clock_at, sample_cost, upload_exponent
from pretune.planner.problem import Devices, Problem

_FAR = 1e6
"""A battery that can't pay for a batch at any speed is priced this much above its own price."""


@njit(cache=True, error_model="numpy")
def _joules(d: Devices, k: int, batch: float, share: float, upload_price: float, gamma: float, ratio: float) -> float:
    """Joules of a device's round at a ratio; `gamma` is the price of a shared band, if it has one."""
    clock = max(clock_at(share / ratio, d.capacitance[k], d.clock_max[k], d.static[k]), TINY)
    if gamma > 0.0 and share / ratio + d.circuit[k] > 0.0:
        paid, power = share / ratio + d.circuit[k], power_ratio(d.exponent_max[k])
        x, part, _ = upload_in_band(paid, gamma / ratio, d.noise[k], d.span[k], power)
        return energy_in_band(d, k, batch, clock, x, part)
    x = upload_exponent((d.circuit[k] + upload_price / ratio) / d.noise[k], d.exponent_max[k])
    return device_energy(d, k, batch, clock, max(x, TINY))


@njit(cache=True, error_model="numpy")
def _ratio_for(
    d: Devices, k: int, batch: float, share: float, upload_price: float, gamma: float, allowed: float, guess: float
) -> float:
    """The ratio at which a device's round of `batch` samples takes what its battery allows."""
    if _joules(d, k, batch, share, upload_price, gamma, 1.0) <= allowed:
        return 1.0
    left, right, step = 0.0, math.log(guess), 0.5
    most = right + math.log(_FAR)
    while _joules(d, k, batch, share, upload_price, gamma, math.exp(right)) > allowed:
        left = right
        right += step
        step *= 2.0
        if right > most:
            return math.exp(most)
    for _ in range(60):
        middle = 0.5 * (left + right)
        if _joules(d, k, batch, share, upload_price, gamma, math.exp(middle)) > allowed:
            left = middle
        else:
            right = middle
        if right - left <= 1e-13 * max(1.0, right):
            break
    return math.exp(right)


@njit(cache=True, error_model="numpy")
def split_batteries(problem: Problem, omega: float, point: Point, n: float) -> Floats:
    """Rows ``device, batch, ratio up to it, ratio above it`` for the batteries that bind at a solved point."""
    d, limits = problem.devices, problem.limits
    rows = np.empty((int((point.ratio > 1.0).sum()), 4))
    at = 0
    for k in range(d.cycles.size):
        ratio = point.ratio[k]
        if ratio <= 1.0:
            continue
        allowed = d.battery[k] / n
        whole = max(np.floor(point.batch[k] * (1.0 + 1e-12)), 1.0)
        upload = omega if limits.tdma else point.price[k]
        gamma = point.scalars[9] if limits.band > 0.0 else 0.0
        rows[at, 0], rows[at, 1] = k, whole
        rows[at, 2] = _ratio_for(d, k, whole, point.price[k], upload, gamma, allowed, ratio)
        rows[at, 3] = _ratio_for(d, k, whole + 1.0, point.price[k], upload, gamma, allowed, ratio)
        at += 1
    return rows


@njit(cache=True, error_model="numpy")
def halves_of(
    problem: Problem, lam: float, omega: float, shares: Floats, ratios: Floats, splits: Floats, band: float = 0.0
) -> Floats:
    """What the splits cost: rows ``device, batch`` and three times ``sample, upload, battery``, shape (R, 11).

    The three are the device's own ratio, the one for batches up to `batch`, and the one for batches above it.
    """
    d, limits = problem.devices, problem.limits
    rows = np.empty((splits.shape[0], 11))
    omega = max(omega, shares.sum())
    for at in range(splits.shape[0]):
        k = int(splits[at, 0])
        rows[at, 0], rows[at, 1] = splits[at, 0], splits[at, 1]
        for which in range(3):
            ratio = ratios[k] if which == 0 else splits[at, 1 + which]
            own = shares[k] / ratio
            clock = max(clock_at(own, d.capacitance[k], d.clock_max[k], d.static[k]), TINY)
            cost = lam * ratio * sample_cost(own, clock, d.cycles[k], d.capacitance[k], d.static[k])
            paid = (omega / ratio if limits.tdma else own) + d.circuit[k]
            upload = d.noise[k] * d.span[k]
            if limits.band > 0.0:
                upload = upload_bill(paid, band / ratio, d.noise[k], d.span[k], power_ratio(d.exponent_max[k]))
            elif paid > 0.0:
                x = upload_exponent(paid / d.noise[k], d.exponent_max[k])
                upload = d.span[k] / x * (d.noise[k] * math.expm1(x) + paid)
            rows[at, 2 + 3 * which] = cost
            rows[at, 3 + 3 * which] = lam * ratio * upload
            rows[at, 4 + 3 * which] = lam * (ratio - 1.0) * d.battery[k] if d.battery[k] < HUGE else 0.0
    return rows
