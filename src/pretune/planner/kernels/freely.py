"""The optimum where energy costs nothing, found first: often the budget pays for it, and nothing is left to search.

Without a price on energy every clock and every power is at its maximum and only the length of a round is to be chosen
(math.md section 5, ``lambda = 0``): no exponential is needed, a pass over the devices is a few divisions each.
"""

from __future__ import annotations

import math

from numba import njit

from pretune.planner.kernels.fleet import TRIALS, least_uploads
from pretune.planner.kernels.guesses import SOME, first_phase, first_span
from pretune.planner.kernels.roots import next_point
from pretune.planner.kernels.scalar import clock_at, exponent_guess, price_guess, sample_cost
from pretune.planner.problem import Batches, Devices, Problem

_UNCLEAR = 0.2
"""An estimate of the energy within this factor of the budget is not clear."""


@njit(cache=True, error_model="numpy")
def _upload(d: Devices, k: int) -> float:
    return d.span[k] / d.exponent_max[k]


@njit(cache=True, error_model="numpy")
def span_for_most(problem: Problem, batches: Batches) -> float:
    """The span at which every batch can be at its most."""
    d, longest = problem.devices, 0.0
    for k in range(d.cycles.size):
        upload = 0.0 if problem.limits.tdma else _upload(d, k)
        longest = max(longest, d.cycles[k] * batches.high[k] / d.clock_max[k] + upload)
    return longest


@njit(cache=True, error_model="numpy")
def time_for_rounds(problem: Problem, n: float) -> float:
    """Seconds for computing in both stages (and, FDMA, the uploads beside it)."""
    return problem.limits.delay - n * (problem.limits.down_s + least_uploads(problem.devices, problem.limits))


@njit(cache=True, error_model="numpy")
def _worth(problem: Problem, batches: Batches, m: float, n: float, psi0: float, psi: float, span: float) -> float:
    """Logarithm of what a longer span brings the devices over what the shorter rounds cost the server."""
    d, server, gain = problem.devices, problem.server, 0.0
    for k in range(d.cycles.size):
        rate = d.clock_max[k] / d.cycles[k]
        u = span - (0.0 if problem.limits.tdma else _upload(d, k))
        if batches.low[k] < rate * u < batches.high[k]:
            gain += d.variance[k] / (rate * u * u)
    t0 = (time_for_rounds(problem, n) - n * span) / m
    rate = server.clock_max / server.cycles
    loss = psi0 * n / (m * rate * t0 * t0) if batches.server_low < rate * t0 < batches.server_high else 0.0
    if psi * gain == 0.0 or loss == 0.0:
        return 700.0 if psi * gain > 0.0 else -700.0
    return math.log(psi * gain / loss)


@njit(cache=True, error_model="numpy")
def free_span(problem: Problem, batches: Batches, m: float, n: float, psi0: float, psi: float, least: float) -> float:
    """The best span where energy costs nothing."""
    right = time_for_rounds(problem, n) / n
    if m == 0.0:
        return right
    right = max(right - m * problem.server.cycles * batches.server_low / problem.server.clock_max / n, least)
    x1, x2 = least * (1.0 + 1e-15), right
    f1 = _worth(problem, batches, m, n, psi0, psi, x1)
    f2 = _worth(problem, batches, m, n, psi0, psi, x2)
    if f1 <= 0.0:
        return x1
    if f2 >= 0.0:
        return x2
    x3, f3 = x1, f1
    for _ in range(TRIALS):
        if abs(x1 - x2) <= 1e-14 * x1 or f1 == 0.0:
            break
        x = next_point(x1, f1, x2, f2, x3, f3)
        f = _worth(problem, batches, m, n, psi0, psi, x)
        if (f > 0.0) == (f1 > 0.0):
            x3, f3 = x1, f1
        else:
            x3, f3 = x2, f2
            x2, f2 = x1, f1
        x1, f1 = x, f
    return x1


@njit(cache=True, error_model="numpy")
def free_energy(problem: Problem, batches: Batches, m: float, n: float, span: float) -> float:
    """Joules with everything at full speed and the batches that a span leaves time for: more than is needed."""
    d, server = problem.devices, problem.server
    joules = n * problem.limits.down_j
    for k in range(d.cycles.size):
        clock, x, upload = d.clock_max[k], d.exponent_max[k], _upload(d, k)
        most = clock / d.cycles[k] * (span - (0.0 if problem.limits.tdma else upload))
        batch = min(max(most, batches.low[k]), batches.high[k])
        joules += n * d.cycles[k] * batch * (d.capacitance[k] * clock * clock + d.static[k] / clock)
        joules += n * upload * (d.noise[k] * math.expm1(x) + d.circuit[k])
    if m > 0.0:
        clock = server.clock_max
        most = clock / server.cycles * (time_for_rounds(problem, n) - n * span) / m
        batch = min(max(most, batches.server_low), batches.server_high)
        joules += m * server.cycles * batch * (server.capacitance * clock * clock + server.static / clock)
    return joules


@njit(cache=True, error_model="numpy")
def may_all_be_most(problem: Problem, batches: Batches, m: float, n: float) -> bool:
    """Whether every batch could be at its most: time enough there is, and energy enough by an estimate.

    The estimate is the dual's bound at guessed prices of time (whatever they are, no split of the time takes less);
    that of some of the devices will do where it is clear enough.
    """
    server = problem.server
    time = time_for_rounds(problem, n)
    quickest = m * server.cycles * batches.server_high / server.clock_max
    least = max(span_for_most(problem, batches), batches.span)
    longest = (time - quickest) / n
    if not least <= longest:
        return False
    span = longest
    if m > 0.0 and problem.limits.tdma:
        span = first_phase(problem, batches, m, n, 1.0, 1.0, least, longest)
    elif m > 0.0:
        span = first_span(
            problem, batches, m, n, 1.0, 1.0, problem.limits.delay - n * problem.limits.down_s, least, longest
        )
    stride = (problem.devices.cycles.size + SOME - 1) // SOME
    about = _least_energy(problem, batches, m, n, span, stride)
    if stride > 1 and _UNCLEAR * problem.limits.energy < about < problem.limits.energy / _UNCLEAR:
        about = _least_energy(problem, batches, m, n, span, 1)
    return about <= problem.limits.energy


@njit(cache=True, error_model="numpy")
def _least_energy(problem: Problem, batches: Batches, m: float, n: float, span: float, stride: int) -> float:
    """About a lower bound on the joules that all batches at their most take, from guesses of the prices at a span.

    As if the devices between the strides were like those at them.
    """
    d, server, tdma = problem.devices, problem.server, problem.limits.tdma
    share = n * d.cycles.size / ((d.cycles.size + stride - 1) // stride)
    total, joules = 0.0, n * problem.limits.down_j
    for k in range(0, d.cycles.size, stride):
        own, circuit = 0.0 if tdma else d.span[k], 0.0 if tdma else d.circuit[k]
        cycles = d.cycles[k] * batches.high[k]
        omega = math.exp(price_guess(span, cycles, d.capacitance[k], d.static[k], d.noise[k], own, circuit))
        clock = clock_at(omega, d.capacitance[k], d.clock_max[k], d.static[k])
        joules += share * batches.high[k] * sample_cost(omega, clock, d.cycles[k], d.capacitance[k], d.static[k])
        if not tdma:
            joules += share * _upload_bill(omega + d.circuit[k], d.noise[k], d.span[k], d.exponent_max[k])
        total += omega * share / n
    for k in range(0, d.cycles.size if tdma else 0, stride):
        joules += share * _upload_bill(total + d.circuit[k], d.noise[k], d.span[k], d.exponent_max[k])
    if m > 0.0:
        clock = clock_at(total, server.capacitance, server.clock_max, server.static)
        joules += m * batches.server_high * sample_cost(total, clock, server.cycles, server.capacitance, server.static)
    return joules - total * (problem.limits.delay - n * problem.limits.down_s)


@njit(cache=True, error_model="numpy")
def _upload_bill(paid: float, noise: float, span: float, exponent_max: float) -> float:
    """About the least joules of an upload whose seconds are paid."""
    x = min(exponent_guess(paid / noise), exponent_max) if paid > 0.0 else 0.0
    return span / x * (noise * math.expm1(x) + paid) if x > 0.0 else noise * span
