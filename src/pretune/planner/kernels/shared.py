"""A fleet that shares its band: the price of band at which all of it is used, at a span and at prices of energy.

The devices know of each other through the span of a round (as with bandwidths of their own) and through the band. At a
span and a price of band each device settles on its own (`band`); the shares fall as the price rises, so the price at
which they fill the band is the root of a monotone function, and the sum of the prices of time is monotone in the span.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.band import (
    energy_in_band,
    least_share,
    power_ratio,
    price_in_band,
    upload_in_band,
    upload_slopes,
)
from pretune.planner.kernels.fleet import TRIALS, Point
from pretune.planner.kernels.roots import next_point
from pretune.planner.kernels.scalar import (
    HUGE,
    TINY,
    batch_at,
    clock_at,
    energy_slope,
    sample_cost,
)
from pretune.planner.kernels.server import server_energy, server_price, settle_server
from pretune.planner.problem import Batches, Devices, Problem

_DONE = 1e-12


@njit(cache=True, error_model="numpy")
def _device(
    d: Devices, k: int, low: float, high: float, beta: float, time: float, gamma: float, guess: float
) -> tuple[float, float, float, float, float, float]:
    """Price of time, batch, clock, exponent, share and joules of a device at a price of band."""
    root, power = math.sqrt(d.variance[k]), power_ratio(d.exponent_max[k])
    omega = price_in_band(
        time,
        d.cycles[k],
        d.capacitance[k],
        d.clock_max[k],
        d.static[k],
        d.noise[k],
        d.span[k],
        power,
        d.circuit[k],
        beta,
        root,
        low,
        high,
        gamma,
        guess,
    )
    clock = clock_at(omega, d.capacitance[k], d.clock_max[k], d.static[k])
    cost = sample_cost(omega, clock, d.cycles[k], d.capacitance[k], d.static[k])
    batch = batch_at(cost, beta, root, low, high)
    x, share, bound = upload_in_band(omega + d.circuit[k], gamma, d.noise[k], d.span[k], power)
    left = time - d.cycles[k] * batch / clock
    if omega > 0.0 and left > 0.0:
        # spend rounding errors on the upload, so that compute and upload fit the time exactly
        if not bound:
            x = d.span[k] / (share * left)
            bound = share * math.expm1(min(x, 690.0)) > power
        if bound:
            least = least_share(left, d.span[k], power)
            if least < math.inf:
                share = least
                x = d.span[k] / (share * left)
    return omega, batch, clock, x, share, energy_in_band(d, k, batch, clock, x, share)


@njit(cache=True, error_model="numpy")
def _response(
    d: Devices,
    k: int,
    low: float,
    high: float,
    omega: float,
    gamma: float,
    ratio: float,
    batch: float,
) -> tuple[float, float, float, float, float]:
    """How a settled device gives way: share and price of time, each by log price of band and by its time; joules by y.

    Prices are the device's own here (divided by `ratio`, whose logarithm is y). With the Hessian ``(D, X; X, G)`` of
    the least cost in both prices, ``dT = D dw + X dg - u/2 dy`` and ``dB = X dw + G dg``; by the envelope theorem
    ``de = -w dT - g dB - (u dw + c b dy)/2``, the last terms only where the batch is free. Where a battery binds
    (``ratio > 1``) y changes so that ``de = 0``.
    """
    power, paid = power_ratio(d.exponent_max[k]), omega + d.circuit[k]
    x, share, bound = upload_in_band(paid, gamma, d.noise[k], d.span[k], power)
    by_time, across, by_band = upload_slopes(x, share, bound, paid, gamma, d.noise[k], d.span[k], power)
    clock = clock_at(omega, d.capacitance[k], d.clock_max[k], d.static[k])
    u = d.cycles[k] * batch / clock
    if clock < d.clock_max[k]:
        by_time -= u / (3.0 * (omega + d.static[k]))
    half_u, half_cost = 0.0, 0.0
    if low < batch < high:
        cost = sample_cost(omega, clock, d.cycles[k], d.capacitance[k], d.static[k])
        by_time -= u * d.cycles[k] / (2.0 * cost * clock)
        half_u, half_cost = 0.5 * u, 0.5 * cost * batch
    own, worth = gamma * by_band, gamma * gamma * by_band
    if omega <= 0.0:
        by_ratio = worth - half_cost
        change = worth / by_ratio if ratio > 1.0 and by_ratio < 0.0 else 0.0
        return own * (1.0 - change), 0.0, 0.0, 0.0, by_ratio
    tie = gamma * across + half_u
    rest = half_cost - worth
    by_ratio = -(rest + tie * tie / by_time)
    det = by_time * rest + tie * tie
    if ratio <= 1.0 or not det < -1e-12 * tie * tie:
        move = -gamma * across / by_time
        return own + across * move, across / by_time, move, 1.0 / by_time, by_ratio
    w1 = (-gamma * across * rest - tie * worth) / det
    y1 = (-by_time * worth + tie * gamma * across) / det
    w2 = (rest - tie * omega) / det
    y2 = (-by_time * omega - tie) / det
    return (
        across * w1 + own * (1.0 - y1),
        across * w2 - own * y2,
        ratio * (w1 + omega * y1),
        ratio * (w2 + omega * y2),
        by_ratio,
    )


@njit(cache=True, error_model="numpy")
def band_round(
    d: Devices, low: Floats, high: Floats, beta: float, rounds: float, time: float, gamma: float, point: Point
) -> tuple[float, float, float, float, float, float, float]:
    """All devices at a span and a price of band: sum of prices of time, of shares, joules of a round; four slopes.

    The slopes: of the shares by log price of band and by the span, of the prices of time by the same. Fills the arrays
    of `point`, which also serve as the warm start.
    """
    total, shares, energy = 0.0, 0.0, 0.0
    share_band, share_time, price_band, price_time = 0.0, 0.0, 0.0, 0.0
    for k in range(d.cycles.size):
        ratio, allowed = point.ratio[k], d.battery[k] / rounds
        omega, batch, clock, x, share, joules = _device(
            d, k, low[k], high[k], beta / math.sqrt(ratio), time, gamma / ratio, point.price[k] / ratio
        )
        if joules > allowed or ratio > 1.0:
            # raise this device's own energy price until its battery holds
            y, left, right = math.log(ratio), -1.0, math.inf
            for _ in range(2 * TRIALS):
                f = math.log(joules / allowed)
                if f > 0.0:
                    left = y
                else:
                    right = y
                if (y == 0.0 and f <= 0.0) or -2e-14 < f <= 0.0 or right - left <= 4e-16 * max(1.0, y) or y > 400.0:
                    break
                _, _, _, _, by_ratio = _response(d, k, low[k], high[k], omega, gamma / ratio, ratio, batch)
                step = (f + 5e-15) * joules / by_ratio if by_ratio < 0.0 else math.copysign(1.0, -f)
                y_new = y - min(max(step, -3.0), 3.0)
                if y_new <= max(left, 0.0):
                    y_new = 0.0 if left < 0.0 else 0.5 * (left + min(right, y + 2.0))
                elif y_new >= right:
                    y_new = 0.5 * (left + right)
                if y_new == y:
                    break
                y = y_new
                ratio = math.exp(y)
                omega, batch, clock, x, share, joules = _device(
                    d, k, low[k], high[k], beta / math.sqrt(ratio), time, gamma / ratio, omega
                )
        slopes = _response(d, k, low[k], high[k], omega, gamma / ratio, ratio, batch)
        share_band += slopes[0]
        share_time += slopes[1]
        price_band += slopes[2]
        price_time += slopes[3]
        point.price[k] = omega * ratio
        point.ratio[k] = ratio
        point.batch[k] = batch
        point.clock[k] = clock
        point.exponent[k] = x
        point.share[k] = share
        total += omega * ratio
        shares += share
        energy += joules
    return total, shares, energy, share_band, share_time, price_band, price_time


@njit(cache=True, error_model="numpy")
def _first_price(d: Devices, time: float) -> float:
    """A price of band of the right size: what equal shares are worth when uploads take half of the time."""
    most = 0.0
    for k in range(d.cycles.size):
        x = min(2.0 * d.span[k] / time, d.exponent_max[k])
        most = max(most, d.noise[k] * d.span[k] / x * energy_slope(x))
    return min(max(most, TINY), HUGE)


@njit(cache=True, error_model="numpy")
def fill_band(
    problem: Problem, batches: Batches, n: float, beta: float, span: float, point: Point
) -> tuple[float, float, float, float]:
    """Find the price of band at which the shares fill it: sum of prices of time and its slope, joules, its own slope.

    Slopes are by the span, the last one of the logarithm. Safeguarded Newton in the logarithms; the method of
    Chandrupatla where that is slow (kinks). Leaves the price in ``point.scalars[9]``.
    """
    d, band = problem.devices, problem.limits.band
    guess = point.scalars[9]
    y = math.log(guess if TINY < guess < HUGE else _first_price(d, span))
    left, right, f_left, f_right = -math.inf, math.inf, math.inf, -math.inf
    y_old, f_old = y, math.inf
    total, energy = 0.0, 0.0
    slopes = (-1.0, 0.0, 0.0, -1.0)
    reach = 2.0
    for _ in range(2 * TRIALS):
        gamma = math.exp(y)
        total, shares, energy, share_band, share_time, price_band, price_time = band_round(
            d, batches.low, batches.high, beta, n, span, gamma, point
        )
        slopes = (share_band, share_time, price_band, price_time)
        f = math.log(shares / band)
        if f > 0.0:
            left, f_left = y, f
        else:
            right, f_right = y, f
        if abs(f) <= 1e-13 or right - left <= 4e-16 * max(1.0, abs(y)):
            break
        if f < 0.0 and gamma * band <= 1e-15 * energy:
            break  # what is left of the band is worth nothing
        steep = share_band / shares
        y_new = y - f / steep if steep < 0.0 else y + math.copysign(reach, f)
        if abs(f) > 0.5 * abs(f_old):
            # Newton did not help: go on by brackets alone
            if left > -math.inf and right < math.inf:
                y_new = next_point(y, f, right if f > 0.0 else left, f_right if f > 0.0 else f_left, y_old, f_old)
            else:
                y_new = y + math.copysign(reach, f)
                reach *= 2.0
        y_new = min(max(y_new, y - 10.0), y + 10.0)
        if not (left < y_new < right):
            y_new = 0.5 * (left + right)
        y_old, f_old = y, f
        if y_new == y or not (-660.0 < y_new < 660.0):
            break
        y = y_new
    point.scalars[9] = math.exp(y)
    follow = -slopes[1] / slopes[0] if slopes[0] < 0.0 else 0.0
    return total, slopes[3] + slopes[2] * follow, energy, follow


@njit(cache=True, error_model="numpy")
def shared_split(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> float:
    """Split the time between the stages at given energy prices, the band shared; returns the joules of the run.

    As `split` does it for bandwidths of the devices' own, with the price of band inside.
    """
    limits, server = problem.limits, problem.server
    low0, high0 = batches.server_low, batches.server_high
    time = limits.delay - n * limits.down_s
    if m == 0.0:
        span = max(time / n, least)
        total, _, energy, _ = fill_band(problem, batches, n, beta, span, point)
        point.scalars[1], point.scalars[2] = total, span
        return n * (energy + limits.down_j)
    shortest = server.cycles * low0 / server.clock_max
    left, right = least, max((time - m * shortest) / n, least)
    warm = point.scalars[2]
    span = warm if left < warm < right else (math.sqrt(left * right) if left > 0.0 else 0.5 * right)
    energy, guess = 0.0, point.scalars[1]
    miss_old, rough = math.inf, False
    for _ in range(TRIALS):
        total, slope, energy, follow = fill_band(problem, batches, n, beta, span, point)
        t0 = (time - n * span) / m
        own, own_slope = server_price(server, low0, high0, beta0, t0, guess)
        guess = own
        if total > own:
            left = span
        else:
            right = span
        if right - left <= 1e-12 * right or (total == 0.0 and own == 0.0):
            break
        new = 0.5 * (left + right)
        if total > 0.0 and own > 0.0:
            miss = math.log(total / own)
            if abs(miss) <= _DONE:
                break
            # a jump of the prices (a kink of the cost): Newton would go to and fro over it
            rough = rough or abs(miss) > 4.0 * abs(miss_old)
            miss_old = miss
            steep = slope / total + own_slope / own * n / m
            if steep < 0.0 and steep > -math.inf and not rough:
                newton = span - miss / steep
                if abs(newton - span) <= 4e-16 * span:
                    break
                if left < newton < right:
                    new = newton
                elif newton <= left:
                    new = left + 0.1 * (span - left)
                elif newton >= right:
                    new = right - 0.1 * (right - span)
        if new == span:
            break
        ahead = follow * (new - span)
        point.scalars[9] *= math.exp(min(max(ahead, -2.0), 2.0))
        span = new
    t0 = max((time - n * span) / m, shortest)
    settle_server(server, batches, beta0, t0, point)
    point.scalars[2] = span
    return m * server_energy(server, point) + n * (energy + limits.down_j)


@njit(cache=True, error_model="numpy")
def shared_balance(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, least: float, point: Point
) -> None:
    """Choose the prices at a kink, where they may lie in an interval, so that they add up to the price of time.

    As `balance` does it: between the prices just left and just right of the span, that of the band with them. At the
    least span all power is used, nothing gives, and the prices may grow along a ray: by
    ``w_k = (power^2/span) e^x x^2 / ((e^x - 1)^2 slope(x))`` in time for one in band (`band`).
    """
    if n == 0.0:
        return
    span, omega = point.scalars[2], point.scalars[1]
    if m == 0.0 or abs(point.price.sum() - omega) <= 1e-10 * omega:
        point.scalars[1] = point.price.sum()
        return
    nudge = 1e-10
    low0, high0, t0 = batches.server_low, batches.server_high, point.scalars[3]
    own1, _ = server_price(problem.server, low0, high0, beta0, t0 * (1.0 + nudge), 0.0)
    own2, _ = server_price(problem.server, low0, high0, beta0, t0 * (1.0 - nudge), 0.0)
    kept = (point.batch.copy(), point.clock.copy(), point.exponent.copy(), point.share.copy())
    total2, _, _, _ = fill_band(problem, batches, n, beta, span * (1.0 + nudge), point)
    prices, ratios, gamma = point.price.copy(), point.ratio.copy(), point.scalars[9]
    total1, _, _, _ = fill_band(problem, batches, n, beta, max(span * (1.0 - nudge), least), point)
    target = min(max(own1, total2), max(own2, total2))
    if total1 > total2:
        mix = min(max((target - total2) / (total1 - total2), 0.0), 1.0)
        point.price[:] = mix * point.price + (1.0 - mix) * prices
        point.ratio[:] = mix * point.ratio + (1.0 - mix) * ratios
        point.scalars[9] = mix * point.scalars[9] + (1.0 - mix) * gamma
    point.batch[:], point.clock[:], point.exponent[:], point.share[:] = kept
    held = span <= least * (1.0 + 1e-12)
    missing = target - point.price.sum()
    if held and batches.span < least and missing > 0.0 and problem.devices.battery.min() >= HUGE:
        ray = _ray(problem.devices, point)
        more = missing / ray.sum()
        point.price[:] += more * ray
        point.scalars[9] += more
    # a span held up by `batches.span` alone leaves part of the price of time to that limit
    point.scalars[1] = max(target, point.price.sum()) if held and batches.span >= least else point.price.sum()


@njit(cache=True, error_model="numpy")
def _ray(d: Devices, point: Point) -> Floats:
    """What the devices' prices of time gain per unit of the price of band, where all run at their fastest."""
    ray = np.empty(d.cycles.size)
    for k in range(ray.size):
        x, power = point.exponent[k], power_ratio(d.exponent_max[k])
        grown = math.expm1(x)
        ray[k] = power / d.span[k] * power * ((grown + 1.0) * (x / grown) ** 2 / energy_slope(x))
    return ray
