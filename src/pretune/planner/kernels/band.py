"""One device that pays for its share of a band: upload, bandwidth and clock at prices of time and band.

Prices are per energy: ``omega`` (watts) for a second, ``gamma`` (joules per round) for an equal share of the band. A
share of ``B`` (1 is an equal share) makes an upload of exponent ``x`` take ``t = span / (B x)`` seconds and, with
``a = noise span`` and ``q = P_circuit + omega``, cost

    a (e^x - 1)/x + q t + gamma B,      B (e^x - 1) <= power,      power = P / noise

jointly convex in ``(B, t)`` (math.md section 3). The transmitted energy depends on ``x`` alone, so

    power to spare    slope(x) / sqrt(x) = sqrt(q span gamma) / a,      B = a slope(x) / (gamma x)
    power at limit    e^x x^2 / ((e^x - 1)^2 slope(x)) = (q + P) span / (gamma power^2),      B = power / (e^x - 1)

with ``slope(x) = x e^x - e^x + 1``; both left sides are monotone.
"""

from __future__ import annotations

import math

from numba import njit

from pretune.planner.kernels.scalar import HUGE, TINY, batch_at, clock_at, energy_slope, sample_cost
from pretune.planner.problem import Devices

_STEPS = 200
_LEAST = 1e-140
"""Exponents below this are none: their squares would leave float64."""


@njit(cache=True, error_model="numpy")
def power_ratio(exponent_max: float) -> float:
    """``P / noise`` at an equal share of the band."""
    return math.expm1(min(exponent_max, 600.0))


@njit(cache=True, error_model="numpy")
def _free_exponent(log_r: float) -> float:
    """The `x` with ``log(slope(x) / sqrt(x)) = log_r``, by Newton in the logarithm."""
    if log_r < 0.0:
        base = math.exp(max(log_r, -450.0) * 2.0 / 3.0)
        x = 1.5874 * base / (1.0 + 0.5874 * base)
    else:
        x = 1.0 + log_r / (1.0 + 1.22 / (1.0 + log_r))
    for _ in range(_STEPS):
        slope = energy_slope(x)
        step = (math.log(slope) - 0.5 * math.log(x) - log_r) / (x * x * math.exp(x) / slope - 0.5)
        step = min(max(step, -1.5), 1.5)
        x = min(max(x * math.exp(-step), _LEAST), 680.0)
        if abs(step) <= 1e-8 or x <= _LEAST or x >= 680.0:
            break
    return x


@njit(cache=True, error_model="numpy")
def _bound_exponent(log_c: float, most: float) -> float:
    """The `x` below `most` with ``log(e^x x^2 / ((e^x - 1)^2 slope(x))) = log_c``, by Newton in the logarithm."""
    x = math.exp(0.5 * (math.log(2.0) - log_c)) if log_c > 0.0 else 1.0 - 0.45 * log_c
    x = min(max(x, _LEAST), most)
    for _ in range(_STEPS):
        slope, grown = energy_slope(x), math.expm1(x)
        miss = x + 2.0 * math.log(x / grown) - math.log(slope) - log_c
        step = miss / bound_steepness(x, slope, grown)
        step = min(max(step, -1.5), 1.5)
        x = min(max(x * math.exp(-step), _LEAST), most)
        if abs(step) <= 1e-8 or x <= _LEAST:
            break
    return x


@njit(cache=True, error_model="numpy")
def bound_steepness(x: float, slope: float, grown: float) -> float:
    """Derivative of ``log(e^x x^2 / ((e^x - 1)^2 slope(x)))`` by ``log x``; `grown` is ``e^x - 1``."""
    exp = grown + 1.0
    return x + 2.0 - 2.0 * x * exp / grown - x * x * exp / slope


@njit(cache=True, error_model="numpy")
def upload_in_band(paid: float, gamma: float, noise: float, span: float, power: float) -> tuple[float, float, bool]:
    """The best exponent and share at prices above zero, and whether the power is at its limit."""
    log_r = 0.5 * (math.log(paid) + math.log(gamma) - math.log(span)) - math.log(noise)
    x = _free_exponent(log_r)
    share = noise * span / gamma * (energy_slope(x) / x)
    if share * math.expm1(x) <= power:
        return x, share, False
    log_c = math.log(paid + noise * power) + math.log(span) - math.log(gamma) - 2.0 * math.log(power)
    x = _bound_exponent(log_c, x)
    return x, power / math.expm1(x), True


@njit(cache=True, error_model="numpy")
def upload_slopes(
    x: float, share: float, bound: bool, paid: float, gamma: float, noise: float, span: float, power: float
) -> tuple[float, float, float]:
    """Derivatives at an optimal upload: time by its price, share by the price of time, share by the price of band.

    The second is also the derivative of the time by the price of band: they are the Hessian of the least cost.
    """
    slope = energy_slope(x)
    seconds = span / (share * x)
    if not bound:
        steep = x * x * math.exp(x) / slope
        down, across = steep / (2.0 * steep - 1.0), (steep - 1.0) / (2.0 * steep - 1.0)
        return -down * seconds / paid, across * share / paid, -down * share / gamma
    grown = math.expm1(x)
    steep = bound_steepness(x, slope, grown)
    by_time, by_share = slope / grown, x * (grown + 1.0) / grown
    paid += noise * power
    return by_time * seconds / (steep * paid), -by_share * share / (steep * paid), by_share * share / (steep * gamma)


@njit(cache=True, error_model="numpy")
def upload_bill(paid: float, gamma: float, noise: float, span: float, power: float) -> float:
    """The least that an upload costs at prices of zero or more, its share of the band included."""
    if paid <= 0.0:
        return noise * span  # all the time in the world, and next to no band
    if gamma <= 0.0:
        return noise * span + paid * span / power  # all the band in the world, and the power at its limit
    x, share, _ = upload_in_band(paid, gamma, noise, span, power)
    return noise * span * (math.expm1(x) / x) + paid * span / (share * x) + gamma * share


@njit(cache=True, error_model="numpy")
def energy_in_band(d: Devices, k: int, batch: float, clock: float, x: float, share: float) -> float:
    """Joules of one device's round."""
    cycles = d.cycles[k] * batch
    computing = cycles * d.capacitance[k] * clock * clock + d.static[k] * cycles / clock
    return computing + d.span[k] / x * (d.noise[k] * math.expm1(x) + d.circuit[k] / share)


@njit(cache=True, error_model="numpy")
def price_in_band(
    time: float,
    cycles: float,
    capacitance: float,
    clock_max: float,
    static: float,
    noise: float,
    span: float,
    power: float,
    circuit: float,
    beta: float,
    root_variance: float,
    low: float,
    high: float,
    gamma: float,
    guess: float,
) -> float:
    """The price at which compute and upload together take `time`, when an equal share of the band costs `gamma`.

    The time falls steadily as the price rises: safeguarded Newton in log price against log time. Zero when even an
    idle clock and the gentlest upload fit (possible with static and circuit power only); the largest number that is
    safe when no price is high enough.
    """
    if static > 0.0 and circuit > 0.0:
        x, share, _ = upload_in_band(circuit, gamma, noise, span, power)
        clock = clock_at(0.0, capacitance, clock_max, static)
        batch = batch_at(sample_cost(0.0, clock, cycles, capacitance, static), beta, root_variance, low, high)
        if cycles * batch / clock + span / (share * x) <= time:
            return 0.0
    left, right = math.log(TINY), math.log(HUGE)
    y = math.log(guess) if TINY < guess < HUGE else math.log(noise * span / time)
    have_left, have_right = False, False
    for _ in range(_STEPS):
        omega = math.exp(y)
        clock = clock_at(omega, capacitance, clock_max, static)
        cost = sample_cost(omega, clock, cycles, capacitance, static)
        batch = batch_at(cost, beta, root_variance, low, high)
        u = cycles * batch / clock
        slope = 0.0
        if clock < clock_max:
            slope -= u / (3.0 * (omega + static))
        if low < batch < high:
            slope -= u * cycles / (2.0 * cost * clock)
        paid = circuit + omega
        x, share, bound = upload_in_band(paid, gamma, noise, span, power)
        by_time, _, _ = upload_slopes(x, share, bound, paid, gamma, noise, span, power)
        total = u + span / (share * x)
        slope += by_time
        miss = math.log(total / time)
        if miss > 0.0:
            left, have_left = y, True
        else:
            right, have_right = y, True
        if abs(miss) <= 1e-14 or right - left <= 1e-15 * max(1.0, abs(y)):
            break
        step = miss * total / (slope * omega) if slope < 0.0 else math.copysign(math.inf, -miss)
        if abs(step) <= 2e-15 * max(1.0, abs(y)):
            break
        y_new = y - min(max(step, -8.0), 8.0)
        if not (left < y_new < right):
            y_new = 0.5 * (left + right) if have_left and have_right else (right if have_left else left)
        if y_new == y:
            break
        y = y_new
    return math.exp(y)


@njit(cache=True, error_model="numpy")
def least_share(seconds: float, span: float, power: float) -> float:
    """The least share with which an upload fits in `seconds` at full power; infinity where none does.

    ``(e^x - 1)/x = seconds power / span`` and ``B = power / (e^x - 1)``: the left side is at least ``e^(x/2)``, and its
    logarithm is convex, so Newton's method comes down from ``x = 2 log(right side)``.
    """
    if not seconds * power > span:
        return math.inf
    log_ratio = math.log(seconds * power / span)
    x = 2.0 * log_ratio
    if not x > 1e-300:
        return math.inf
    for _ in range(_STEPS):
        grown = math.expm1(min(x, 700.0))
        log_grown = math.log(grown) if x < 700.0 else x
        step = (log_grown - math.log(x) - log_ratio) / (1.0 + 1.0 / grown - 1.0 / x)
        x_new = x - step
        if not 0.0 < x_new < x or step <= 1e-15 * x:
            break
        x = x_new
    return power / math.expm1(min(x, 700.0))
