"""One processor and one link at a price of time: everything in closed form but two monotone scalar equations.

Prices are per energy: ``omega`` (watts) is what a second is worth in joules. At that price

    clock      f = min(f_max, ((omega + P_static) / (2 kappa))^(1/3))
    cost       c = cycles (kappa f^2 + (P_static + omega) / f)        joules per sample, time included
    batch      b = clip(beta sqrt(A / c), low, high)                  beta^2 = psi / (N lambda)
    upload     noise (x e^x - e^x + 1) = P_circuit + omega,           x <= x_max,  t = span / x

(math.md sections 3 and 5, solved in the price instead of the time: there is no kink to hit and no case to miss.)
The time a device needs falls as the price rises; `price_for_time` inverts that.
"""

from __future__ import annotations

import math

from numba import njit

TINY = 1e-290
HUGE = 1e290
_STEPS = 200


@njit(cache=True, error_model="numpy")
def energy_slope(x: float) -> float:
    """``x e^x - e^x + 1``, accurate for small `x` (it is ``x^2/2 + x^3/3 + ...``)."""
    if x < 0.05:
        tail = 1.0 / 840.0 + x * (1.0 / 5760.0 + x * (1.0 / 45360.0 + x / 403200.0))
        return x * x * (0.5 + x * (1.0 / 3.0 + x * (0.125 + x * (1.0 / 30.0 + x * (1.0 / 144.0 + x * tail)))))
    if x > 690.0:
        return HUGE
    return x * math.exp(x) - math.expm1(x)


@njit(cache=True, error_model="numpy")
def upload_exponent(y: float, x_max: float) -> float:
    """The `x` in [0, x_max] with ``x e^x - e^x + 1 = y`` (clipped)."""
    if y <= 0.0:
        return 0.0
    if energy_slope(x_max) <= y:
        return x_max
    return min(exponent_near(y, exponent_guess(y))[0], x_max)


@njit(cache=True, error_model="numpy")
def exponent_guess(y: float) -> float:
    """A first guess, within some percent: ``1 + W((y - 1) / e)`` by the branch-point series or Winitzki's formula."""
    if y < 1.0:
        root = math.sqrt(2.0 * y)
        return root * (1.0 - root * (1.0 / 3.0 - root * (11.0 / 72.0 - root * 43.0 / 540.0)))
    z = math.log1p((y - 1.0) / math.e)
    return 1.0 + z * (1.0 - math.log1p(z) / (2.0 + z))


@njit(cache=True, error_model="numpy")
def exponent_near(y: float, guess: float) -> tuple[float, float]:
    """Solve ``x e^x - e^x + 1 = y`` from a guess: Halley's method on the logarithm of both sides; `x` and ``e^x``.

    The method is cubic: a step of 2e-5 leaves an error near the last bit. ``e^x``, wanted for slopes only, is that of
    the last step's start carried on by its series.
    """
    x, exp, step = guess, 1.0, 0.0
    for _ in range(_STEPS):
        grown = math.expm1(min(x, 690.0))
        exp = grown + 1.0
        value = x * exp - grown if 0.05 <= x <= 690.0 else energy_slope(x)
        slope = x * exp / value
        step = math.log(value / y) / slope
        bend = (1.0 + x) / (slope * x) - 1.0
        step /= max(1.0 - 0.5 * step * slope * bend, 0.3)
        step = min(max(step, -2.0), 0.7 * x)
        x -= step
        if abs(step) <= 2e-5 * x:
            break
    return x, exp * (1.0 - step * (1.0 - 0.5 * step))


@njit(cache=True, error_model="numpy")
def clock_at(omega: float, capacitance: float, clock_max: float, static: float) -> float:
    """The best clock when a second is worth `omega` joules."""
    return min(clock_max, ((omega + static) / (2.0 * capacitance)) ** (1.0 / 3.0))


@njit(cache=True, error_model="numpy")
def sample_cost(omega: float, clock: float, cycles: float, capacitance: float, static: float) -> float:
    """Joules one sample costs at `clock`, its time paid at `omega`."""
    return cycles * (capacitance * clock * clock + (static + omega) / clock)


@njit(cache=True, error_model="numpy")
def batch_at(cost: float, beta: float, root_variance: float, low: float, high: float) -> float:
    """The best real batch when a sample costs `cost`."""
    if root_variance == 0.0 or beta == 0.0:
        return low
    return min(max(beta * root_variance / math.sqrt(cost), low), high)


@njit(cache=True, error_model="numpy")
def saturation_price(
    cycles: float,
    capacitance: float,
    clock_max: float,
    static: float,
    power_slope: float,
    circuit: float,
    beta: float,
    root_variance: float,
    low: float,
) -> float:
    """The price from which everything is at its fastest: clock and power at their limits, batch at its least.

    `power_slope` is what a second less of an upload at the largest power costs, ``noise (x e^x - e^x + 1)``.
    """
    at_clock = 2.0 * capacitance * clock_max**3 - static
    at_power = power_slope - circuit
    cost = (beta * root_variance / low) ** 2
    at_batch = (cost / cycles - capacitance * clock_max * clock_max) * clock_max - static
    return min(max(at_clock, at_power, at_batch, TINY), HUGE)


@njit(cache=True, error_model="numpy")
def price_guess(
    time: float, cycles: float, capacitance: float, static: float, noise: float, span: float, circuit: float
) -> float:
    """Logarithm of about the price at which computing `cycles` and the upload take `time` together.

    Both pay it, so it is at least what either would pay with all of the time, and at most what the one that pays more
    would with half of it.
    """
    least, most = 2.0 * capacitance * (cycles / time) ** 3 - static, 0.0
    if span > 0.0:
        most = 16.0 * capacitance * (cycles / time) ** 3 - static
        least = max(least, noise * energy_slope(span / time) - circuit)
        most = max(most, noise * energy_slope(2.0 * span / time) - circuit)
    return 0.5 * (math.log(max(least, TINY)) + math.log(max(most, least, TINY)))


@njit(cache=True, error_model="numpy")
def price_for_time(
    time: float,
    cycles: float,
    capacitance: float,
    clock_max: float,
    static: float,
    noise: float,
    span: float,
    exponent_max: float,
    circuit: float,
    beta: float,
    root_variance: float,
    low: float,
    high: float,
    guess: float,
    gentlest: float,
) -> tuple[float, float, float]:
    """The price at which compute and upload together take `time`, its derivative by the time, and the upload exponent.

    `span` zero means no upload. Safeguarded Newton in log price against log time. Returns price 0 when even an
    idle clock and the gentlest power fit (possible with static and circuit power only), and the saturation price
    when `time` is the least possible or below. Where the time does not depend on the price (everything clipped)
    any price of that flat stretch may be returned, with derivative minus infinity. `gentlest` is the upload exponent
    where time costs nothing (`gentlest_exponent`), negative where it is not known.
    """
    if static > 0.0 and (circuit > 0.0 or span == 0.0):
        clock = clock_at(0.0, capacitance, clock_max, static)
        batch = batch_at(sample_cost(0.0, clock, cycles, capacitance, static), beta, root_variance, low, high)
        idle = cycles * batch / clock
        if span > 0.0:
            if gentlest < 0.0:
                gentlest = upload_exponent(circuit / noise, exponent_max)
            idle += span / gentlest
        if idle <= time:
            return 0.0, 0.0, gentlest
    top_slope = energy_slope(exponent_max) if span > 0.0 else 0.0
    top = saturation_price(cycles, capacitance, clock_max, static, noise * top_slope, circuit, beta, root_variance, low)
    least = cycles * low / clock_max + (span / exponent_max if span > 0.0 else 0.0)
    if time <= least * (1.0 + 1e-15):
        return top, -math.inf, exponent_max
    right = math.log(top)
    left = math.log(TINY)
    if TINY < guess < top:
        y = math.log(guess)
    else:
        batch = low if beta == 0.0 else high
        y = min(price_guess(time, cycles * batch, capacitance, static, noise, span, circuit), right - 0.1)
    have_left = False
    slope = -math.inf
    x, exp = 0.0, 1.0
    for _ in range(_STEPS):
        omega = math.exp(y)
        clock = clock_at(omega, capacitance, clock_max, static)
        cost = sample_cost(omega, clock, cycles, capacitance, static)
        batch = batch_at(cost, beta, root_variance, low, high)
        u = cycles * batch / clock
        du = 0.0
        if clock < clock_max:
            du -= u / (3.0 * (omega + static))
        if low < batch < high:
            du -= u * cycles / (2.0 * cost * clock)
        total, slope = u, du
        if span > 0.0:
            paid = (circuit + omega) / noise
            if paid >= top_slope:
                x = exponent_max
            else:
                x, exp = exponent_near(paid, x if 0.0 < x < exponent_max else exponent_guess(paid))
            total += span / x
            if x < exponent_max:
                slope -= span / (x * x * noise * x * exp)
        miss = math.log(total / time)
        if miss > 0.0:
            left = y
            have_left = True
        else:
            right = y
        if abs(miss) <= 1e-14 or right - left <= 1e-15 * max(1.0, abs(y)):
            break
        step = miss * total / (slope * omega) if slope < 0.0 else math.inf
        if abs(step) <= 2e-15 * max(1.0, abs(y)):
            break
        y_new = y - step
        if not (left < y_new < right):
            y_new = 0.5 * (left + right) if have_left else y - 4.0
            y_new = max(y_new, left)
        elif not have_left and y_new < y - 8.0:
            y_new = y - 8.0
        if y_new == y:
            break
        y = y_new
    return math.exp(y), (1.0 / slope if slope < 0.0 else -math.inf), x
