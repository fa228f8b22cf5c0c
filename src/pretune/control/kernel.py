"""The best clocks, powers and span of one round at a price of time: compiled, O(K) a trial.

A round whose batches are given (or range within ``[low, high]``) is to minimise

    sum_k r_k (e_k + gamma_k / b_k) + Omega * span,                     Omega in watts: what a second is worth in joules

over clocks and upload powers, where ``e_k`` is device k's energy of math.md section 1, ``r_k >= 1`` weighs the energy
of a device whose battery is short, and the span is that of the round's slowest device (FDMA: ``span >= u_k + t_k``) or
the longest computing time and all uploads after it (TDMA: ``v + sum t_k``, ``v >= u_k``). Device k's share ``w_k`` of
the time price obeys ``sum_k w_k = Omega``; at its own price ``omega = w_k / r_k`` everything is in closed form:

    clock      f = min(f_max, ((omega + P_static) / (2 kappa))^(1/3))
    batch      b = clip(sqrt(gamma / (cycles (kappa f^2 + (P_static + omega) / f))), low, high)
    upload     noise (x e^x - e^x + 1) = P_circuit + omega,  x <= x_max,  t = S ln2 / (B x)

So the round is one search over its span, with one over each device's price inside. Derived from the Lagrangian of the
convex problem of math.md section 3 at fixed rounds; the planner has kernels of its own for the whole run.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from pretune.physics.types import Floats

_STEPS = 80
_TINY = 1e-280
_CLOSE = 1e-12


class Sheet(NamedTuple):
    """The devices of one round as columns of shape (K,), SI units."""

    cycles: Floats
    """Clock cycles per sample of the batch, over all local steps."""
    capacitance: Floats
    clock_max: Floats
    static: Floats
    noise: Floats
    """N0 B / g, the power that makes the signal as strong as the noise, W."""
    span: Floats
    """S ln2 / B, s."""
    exponent_max: Floats
    """ln(1 + P_max / noise)."""
    circuit: Floats
    gamma: Floats
    """What a small batch costs, J samples; zero where batches are given."""
    low: Floats
    high: Floats
    ratio: Floats
    """r_k >= 1."""


class Found(NamedTuple):
    """The decisions, shape (K,)."""

    price: Floats
    """w_k, W."""
    batch: Floats
    clock: Floats
    exponent: Floats


@njit(cache=True, error_model="numpy")
def exponent_at(y: float, most: float) -> float:
    """The `x` in [0, most] with ``x e^x - e^x + 1 = y``: Newton on ``x + log(x - 1 + e^-x) = log y``, from below."""
    if y <= 0.0:
        return 0.0
    if y < 1e-12:
        return min(math.sqrt(2.0 * y), most)
    if y < 2.0:
        root = math.sqrt(2.0 * y)
        x = root * (1.0 - root * (1.0 / 3.0 - root * 11.0 / 72.0))
    else:
        z = math.log1p((y - 1.0) / math.e)
        x = 1.0 + z * (1.0 - math.log1p(z) / (2.0 + z))
    goal = math.log(y)
    for _ in range(_STEPS):
        less = -math.expm1(-x)
        inner = x - less if x > 1e-2 else x * x * (0.5 - x * (1.0 / 6.0 - x * (1.0 / 24.0 - x / 120.0)))
        step = (x + math.log(inner) - goal) / (1.0 + less / inner)
        x = max(x - step, 0.2 * x)
        if abs(step) <= 1e-13 * x:
            break
    return min(x, most)


@njit(cache=True, error_model="numpy")
def at_price(s: Sheet, k: int, omega: float) -> tuple[float, float, float]:
    """Batch, clock and upload exponent of device k when a second is worth `omega` joules to it."""
    clock = s.clock_max[k]
    if s.capacitance[k] > 0.0:
        clock = min(clock, ((omega + s.static[k]) / (2.0 * s.capacitance[k])) ** (1.0 / 3.0))
    clock = max(clock, _TINY)
    batch = s.low[k]
    if s.high[k] > s.low[k]:
        cost = s.cycles[k] * (s.capacitance[k] * clock * clock + (s.static[k] + omega) / clock)
        batch = min(max(math.sqrt(s.gamma[k] / max(cost, _TINY)), s.low[k]), s.high[k])
    return batch, clock, exponent_at((s.circuit[k] + omega) / s.noise[k], s.exponent_max[k])


@njit(cache=True, error_model="numpy")
def seconds_at(s: Sheet, k: int, omega: float, tdma: bool) -> float:
    """Seconds device k takes at the price `omega` (TDMA: for computing)."""
    batch, clock, x = at_price(s, k, omega)
    time = s.cycles[k] * batch / clock
    return float(time if tdma else time + s.span[k] / max(x, _TINY))


@njit(cache=True, error_model="numpy")
def least_seconds(s: Sheet, k: int, tdma: bool) -> float:
    """Seconds of device k at full speed with its least batch."""
    time = s.cycles[k] * s.low[k] / s.clock_max[k]
    return float(time if tdma else time + s.span[k] / s.exponent_max[k])


@njit(cache=True, error_model="numpy")
def least_span_of(s: Sheet, tdma: bool) -> float:
    """The least span (TDMA: of the computing) that clocks and powers allow."""
    least = 0.0
    for k in range(s.cycles.size):
        least = max(least, least_seconds(s, k, tdma))
    return least


@njit(cache=True, error_model="numpy")
def _compute_at(s: Sheet, k: int, omega: float) -> tuple[float, float]:
    """Seconds of computing at a price, and their derivative by it."""
    power = omega + s.static[k]
    clock, fixed = s.clock_max[k], True
    if power < 2.0 * s.capacitance[k] * clock * clock * clock:
        clock, fixed = max(np.cbrt(power / (2.0 * s.capacitance[k])), _TINY), False
    batch, bend = s.low[k], 0.0
    if s.high[k] > s.low[k]:
        cost = s.cycles[k] * (s.capacitance[k] * clock * clock + power / clock)
        batch = min(max(math.sqrt(s.gamma[k] / max(cost, _TINY)), s.low[k]), s.high[k])
        if s.low[k] < batch < s.high[k]:
            bend = -0.5 * s.cycles[k] / (clock * cost)
    time = s.cycles[k] * batch / clock
    return time, time * (bend - (0.0 if fixed else 1.0 / (3.0 * max(power, _TINY))))


@njit(cache=True, error_model="numpy")
def _compute_price(s: Sheet, k: int, time: float, least: float) -> tuple[float, float]:
    """The price, at least `least`, at which computing takes `time`; and its derivative by the time."""
    if s.high[k] <= s.low[k]:
        clock = s.cycles[k] * s.low[k] / time
        omega = 2.0 * s.capacitance[k] * clock * clock * clock
        return max(omega - s.static[k], least), -3.0 * omega / time
    low, high = least, math.inf
    omega, slope = max(2.0 * least, 1e-6), 0.0
    for _ in range(_STEPS):
        found, slope = _compute_at(s, k, omega)
        if found > time:
            low = omega
        else:
            high = omega
        if abs(found - time) <= _CLOSE * time:
            break
        step = math.log(time / found) * found / (slope * omega) if slope < 0.0 else math.copysign(1.0, found - time)
        omega *= math.exp(min(max(step, -4.0), 4.0))
        if not (low < omega < high):
            omega = math.sqrt(max(low, 1e-3 * high, _TINY) * high) if high < math.inf else 50.0 * max(low, _TINY)
        if high < math.inf and high - low <= _CLOSE * high:
            break
    return max(omega, least), 1.0 / slope if slope < 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def _turns(s: Sheet, k: int, tdma: bool, turns: Floats) -> None:
    """What does not depend on the span, for device k: a row of `turns`.

    0 the upload exponent at no price, 1 the seconds there, 2 the price at which the power is at its limit, 3 the
    seconds there, 4 the exponent of the last answer (a start).
    """
    if tdma:
        turns[1] = _compute_at(s, k, 0.0)[0]
        return
    turns[0] = exponent_at(s.circuit[k] / s.noise[k], s.exponent_max[k])
    turns[1] = _compute_at(s, k, 0.0)[0] + s.span[k] / max(turns[0], _TINY)
    x = min(s.exponent_max[k], 600.0)
    turns[2] = max(s.noise[k] * (x * math.exp(x) - math.expm1(x)) - s.circuit[k], 0.0)
    turns[3] = _compute_at(s, k, turns[2])[0] + s.span[k] / s.exponent_max[k]
    turns[4] = 0.5 * s.exponent_max[k]


@njit(cache=True, error_model="numpy")
def _price_at(s: Sheet, k: int, time: float, tdma: bool, turns: Floats) -> tuple[float, float]:
    """The price at which device k takes `time` (at least its `least_seconds`), and its derivative by the time.

    Zero where it is done sooner anyway. Where the power is not at its limit the search is over the upload exponent,
    from which price, clock and time follow in closed form.
    """
    if turns[1] <= time:
        return 0.0, 0.0
    if tdma:
        return _compute_price(s, k, time, 0.0)
    if turns[3] >= time:
        return _compute_price(s, k, max(time - s.span[k] / s.exponent_max[k], _TINY), turns[2])
    low, high = turns[0], s.exponent_max[k]
    x, omega, slope = min(max(turns[4], low), high), 0.0, 0.0
    if x <= low:
        x = 0.5 * (low + high)
    for _ in range(_STEPS):
        grown = math.expm1(x)
        if x > 1e-2:
            omega = s.noise[k] * (x + (x - 1.0) * grown) - s.circuit[k]
        else:
            omega = s.noise[k] * x * x * (0.5 + x * (1.0 / 3.0 + x * (0.125 + x / 30.0))) - s.circuit[k]
        omega = max(omega, 0.0)
        compute, bend = _compute_at(s, k, omega)
        found = compute + s.span[k] / x
        raised = s.noise[k] * x * (grown + 1.0)
        by_x = bend * raised - s.span[k] / (x * x)
        slope = by_x / raised
        if found > time:
            low = x
        else:
            high = x
        if abs(found - time) <= _CLOSE * time or high - low <= _CLOSE * high:
            break
        near = x * math.exp(min(max(math.log(time / found) * found / (by_x * x), -3.0), 3.0))
        x = near if low < near < high else 0.5 * (low + high)
    turns[4] = x
    return omega, 1.0 / slope


@njit(cache=True, error_model="numpy")
def prices_at(s: Sheet, time: float, tdma: bool, price: Floats, turns: Floats) -> tuple[float, float]:
    """The sum of all devices' prices at a span, and its derivative; fills `price`."""
    total, slope = 0.0, 0.0
    for k in range(price.size):
        omega, by_time = _price_at(s, k, time, tdma, turns[k])
        price[k] = s.ratio[k] * omega
        total += price[k]
        slope += s.ratio[k] * by_time
    return total, slope


@njit(cache=True, error_model="numpy")
def best_span(s: Sheet, worth: float, most: float, tdma: bool, found: Found) -> float:
    """The span (TDMA: of the computing) at which the devices' prices add up to `worth`; fills `found`.

    `most` is the longest span allowed, at least `least_span_of`. The prices fall as the span grows, so the search is
    bracketed; where not even the least span is worth it the least span is the answer, where the longest is worth it
    that one. The bottleneck of the least span bears whatever is left of the price.
    """
    count = s.cycles.size
    turns = np.zeros((count, 5))
    least, hint = 0.0, 0.0
    for k in range(count):
        _turns(s, k, tdma, turns[k])
        least = max(least, least_seconds(s, k, tdma))
        hint = max(hint, min(seconds_at(s, k, worth / count / s.ratio[k], tdma), 1e200) if worth < math.inf else 0.0)
    low, high = max(least, _TINY), max(most, least)
    span = high
    if worth == math.inf:
        span = low
    elif prices_at(s, high, tdma, found.price, turns)[0] < worth:
        span = min(max(hint, low * (1.0 + 1e-6)), high)
        asked = False
        for _ in range(_STEPS):
            total, slope = prices_at(s, span, tdma, found.price, turns)
            if total > worth:
                low = span
            else:
                high = span
            if abs(total - worth) <= 1e-10 * worth or high - low <= 1e-12 * high:
                break
            step = math.log(worth / max(total, _TINY)) * max(total, _TINY) / (slope * span) if slope < 0.0 else 1.0
            near = span * math.exp(min(max(step, -1.0), 1.0))
            if total <= worth and near <= low and not asked:
                near, asked = low * (1.0 + 1e-12), True  # perhaps not even the least span is worth it: ask there
            span = near if low < near < high else 0.5 * (low + high)
    prices_at(s, span, tdma, found.price, turns)
    for k in range(count):
        omega = found.price[k] / s.ratio[k]
        batch, clock, x = at_price(s, k, omega)
        if tdma:
            x = exponent_at((s.circuit[k] + worth / s.ratio[k]) / s.noise[k], s.exponent_max[k])
        elif omega > 0.0:
            left = span - s.cycles[k] * batch / clock
            if left > 0.0:  # rounding errors go to the upload: both fit the span exactly
                x = min(max(s.span[k] / left, 0.999999 * x), s.exponent_max[k])
        found.batch[k], found.clock[k], found.exponent[k] = batch, clock, max(x, _TINY)
    return span


def new_found(count: int) -> Found:
    """Room for `count` devices, with no guess."""
    return Found(price=np.zeros(count), batch=np.zeros(count), clock=np.zeros(count), exponent=np.zeros(count))
