"""First guesses of a solve at fixed rounds: the span or the compute phase, and the price of energy."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.planner.kernels.scalar import clock_at, exponent_guess, price_guess
from pretune.planner.problem import Batches, Problem

SOME, GUESSES = 32, 12
"""Devices that a first guess for the whole fleet looks at, and how often."""
_COMPUTING = 0.7
"""The share of a round that is taken to be computed in where uploads share it."""


@njit(cache=True, error_model="numpy")
def first_span(
    problem: Problem,
    batches: Batches,
    m: float,
    n: float,
    beta0: float,
    beta: float,
    time: float,
    left: float,
    right: float,
) -> float:
    """About the span where the prices of the stages meet, from guesses of the prices of some of the devices."""
    d, server = problem.devices, problem.server
    count = d.cycles.size
    stride = (count + SOME - 1) // SOME
    low0 = batches.server_low if beta0 == 0.0 else batches.server_high
    left = max(left, 1e-9 * right)
    for _ in range(GUESSES):
        span = math.sqrt(left * right)
        total, taken = 0.0, 0
        for k in range(0, count, stride):
            batch = batches.low[k] if beta == 0.0 else batches.high[k]
            total += math.exp(
                price_guess(
                    span, d.cycles[k] * batch, d.capacitance[k], d.static[k], d.noise[k], d.span[k], d.circuit[k]
                )
            )
            taken += 1
        t0 = (time - n * span) / m
        own = math.exp(price_guess(t0, server.cycles * low0, server.capacitance, server.static, 1.0, 0.0, 0.0))
        if total * count / taken > own:
            left = span
        else:
            right = span
    return math.sqrt(left * right)


@njit(cache=True, error_model="numpy")
def first_phase(
    problem: Problem, batches: Batches, m: float, n: float, beta0: float, beta: float, left: float, right: float
) -> float:
    """About the compute phase where the time is used up, from guesses for some of the devices."""
    d, server, limits = problem.devices, problem.server, problem.limits
    count = d.cycles.size
    stride = (count + SOME - 1) // SOME
    left = max(left, 1e-9 * right)
    for _ in range(GUESSES):
        phase = math.sqrt(left * right)
        omega, uploads, taken = 0.0, 0.0, 0
        for k in range(0, count, stride):
            batch = batches.low[k] if beta == 0.0 else batches.high[k]
            omega += math.exp(price_guess(phase, d.cycles[k] * batch, d.capacitance[k], d.static[k], 1.0, 0.0, 0.0))
            taken += 1
        omega *= count / taken
        for k in range(0, count, stride):
            uploads += d.span[k] / min(exponent_guess((d.circuit[k] + omega) / d.noise[k]), d.exponent_max[k])
        seconds = n * (phase + uploads * count / taken + limits.down_s)
        if m > 0.0:
            batch = batches.server_low if beta0 == 0.0 else batches.server_high
            seconds += m * server.cycles * batch / clock_at(omega, server.capacitance, server.clock_max, server.static)
        if seconds > limits.delay:
            right = phase
        else:
            left = phase
    return math.sqrt(left * right)


@njit(cache=True, error_model="numpy")
def first_energy_price(
    problem: Problem, batches: Batches, m: float, n: float, psi0: float, psi: float, span: float, start: float
) -> float:
    """Logarithm of about the price of energy at which the budget is spent, `start` where nothing can be said.

    As if every processor had a time of its own and no static power: the energy ``kappa (Phi b)^3 / u^2`` of a batch
    in `u` seconds costs ``lambda`` times its derivative where the noise falls as fast, at
    ``b^4 = psi A u^2 / (3 lambda kappa Phi^3)``, clipped. Uploads take what they take in the rest of the round.
    """
    d, limits, server = problem.devices, problem.limits, problem.server
    count = d.cycles.size
    u = span if limits.tdma else _COMPUTING * span
    left = limits.energy - n * limits.down_j
    root, cube = np.empty(count + 1), np.empty(count + 1)
    for k in range(count):
        cube[k] = n * d.capacitance[k] * d.cycles[k] ** 3 / (u * u)
        root[k] = math.sqrt(math.sqrt(psi * d.variance[k] / (3.0 * cube[k])))
        t = limits.delay / (2.0 * n * count) if limits.tdma else span - u
        x = min(d.span[k] / t, d.exponent_max[k])
        left -= n * d.span[k] / x * (d.noise[k] * math.expm1(x) + d.circuit[k])
    root[count], cube[count] = 0.0, 0.0
    if m > 0.0:
        t0 = max(limits.delay - n * (span + limits.down_s), 0.01 * limits.delay) / m
        cube[count] = m * server.capacitance * server.cycles**3 / (t0 * t0)
        root[count] = math.sqrt(math.sqrt(psi0 / (3.0 * cube[count])))
    if not left > 0.2 * limits.energy:
        return start
    low, high = start - 30.0, start + 30.0
    for _ in range(GUESSES):
        middle = 0.5 * (low + high)
        scale, joules = math.exp(-0.25 * middle), 0.0
        for k in range(count):
            batch = min(max(root[k] * scale, batches.low[k]), batches.high[k])
            joules += cube[k] * batch * batch * batch
        batch = min(max(root[count] * scale, batches.server_low), batches.server_high)
        joules += cube[count] * batch * batch * batch
        if joules > left:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
