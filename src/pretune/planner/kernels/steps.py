"""What Newton's method on all prices at once does for one processor, the same for FDMA and TDMA."""

from __future__ import annotations

import math

from numba import njit

from pretune.planner.kernels.scalar import TINY, batch_at, clock_at, sample_cost

STEPS = 25
CLOSE = 1e-12
"""Relative residual at which to stop."""
NEARLY = 1e-7
"""Residual from which one step more, which squares it, is the last."""
UNDER = 1e-12
"""The energy aimed at is this share below the budget."""
FURTHEST = 2.5
"""Longest step in the logarithm of any price."""
_REST = 1e-14
"""A price of time this small a share of the static and circuit powers is none."""


@njit(cache=True, error_model="numpy")
def computing(
    omega: float,
    cycles: float,
    capacitance: float,
    clock_max: float,
    static: float,
    beta: float,
    root: float,
    low: float,
    high: float,
) -> tuple[float, float, float, float, float, float]:
    """Seconds and joules of a batch at a price of time; slopes by the logarithms of that price and of energy's."""
    clock = max(clock_at(omega, capacitance, clock_max, static), TINY)
    cost = sample_cost(omega, clock, cycles, capacitance, static)
    batch = batch_at(cost, beta, root, low, high)
    u = cycles * batch / clock
    joules = cycles * batch * (capacitance * clock * clock + static / clock)
    by_z, by_mu, joules_z, joules_mu = 0.0, 0.0, 0.0, 0.0
    if clock < clock_max:
        faster = omega / (3.0 * (omega + static))
        by_z -= u * faster
        joules_z += cycles * batch * (2.0 * capacitance * clock * clock - static / clock) * faster
    if low < batch < high:
        fewer = 0.5 * omega * cycles / (cost * clock)
        by_z -= u * fewer
        joules_z -= joules * fewer
        by_mu -= 0.5 * u
        joules_mu -= 0.5 * joules
    return u, by_z, by_mu, joules, joules_z, joules_mu


@njit(cache=True, error_model="numpy")
def device_step(
    span: float, t: float, t_z: float, t_mu: float, omega: float, rest: float
) -> tuple[float, float, float, float]:
    """How the logarithm of a device's price should move, and how far the device is from taking `span`.

    It takes `t` seconds at the price `omega`, `t_z` and `t_mu` are slopes by the logarithms of that price and of
    energy's; `rest` is the power it draws anyhow. The step is ``gap + by_span dlog(span) + by_mu dmu``.
    """
    miss = span / t - 1.0
    if rest > 0.0 and omega <= _REST * rest:
        # its time is worth nothing: idle, unless even an idle clock is too slow
        return (math.log(1e-3 * rest / omega), 0.0, 0.0, 1.0) if miss < 0.0 else (0.0, 0.0, 0.0, 0.0)
    if rest > 0.0 and omega < 1e-4 * rest and miss > 0.0:
        return math.log(0.5 * _REST * rest / omega), 0.0, 0.0, 1.0
    if t_z >= -1e-9 * t:
        # nothing moves with the price here: walk until something does
        return (-FURTHEST if miss > 0.0 else FURTHEST), 0.0, 0.0, abs(miss)
    return math.log(span / t) * t / t_z, span / t_z, -t_mu / t_z, abs(miss)


@njit(cache=True, error_model="numpy")
def moved(z: float, gap: float, by_span: float, by_mu: float, dspan: float, dmu: float) -> float:
    """The logarithm of a device's price after a step."""
    step = gap + by_span * dspan + by_mu * dmu
    z += step if by_span == 0.0 else min(max(step, -FURTHEST), FURTHEST)
    return min(max(z, -600.0), 600.0)
