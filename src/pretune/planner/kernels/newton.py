"""Newton's method on all prices at once: a warm start for the solve at fixed rounds (FDMA, no battery limits).

The unknowns are the price of energy, the span, the server's price of time and every device's, all in logarithms. Each
device has one equation (computing and uploading take the span), the server one (its rounds take the rest of the time),
and two couple them: the devices' prices add up to the server's, and the energy is the budget. The matrix is an
arrowhead, so a step costs O(K) and nothing is solved inside of it. It starts anywhere and promises nothing:
`fixed.solve_fixed` goes on from where this ends, and from where it started if this fails.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.planner.kernels.fleet import Point
from pretune.planner.kernels.guesses import first_energy_price, first_span
from pretune.planner.kernels.scalar import (
    HUGE,
    TINY,
    energy_slope,
    exponent_guess,
    exponent_near,
    price_guess,
)
from pretune.planner.kernels.steps import CLOSE, FURTHEST, NEARLY, STEPS, UNDER, computing, device_step, moved
from pretune.planner.problem import Batches, Devices, Problem


@njit(cache=True, error_model="numpy", inline="always")
def _first_price(d: Devices, k: int, worth: float, low: float, high: float, span: float) -> float:
    """Logarithm of about the price of a device's time, had it most of the span to compute the batch that pays."""
    cube = 3.0 * d.capacitance[k] * d.cycles[k] ** 3
    batch = min(max(math.sqrt(span * math.sqrt(0.5 * worth * d.variance[k] / cube)), low), high)
    return price_guess(span, d.cycles[k] * batch, d.capacitance[k], d.static[k], d.noise[k], d.span[k], d.circuit[k])


@njit(cache=True, error_model="numpy")
def newton_start(
    problem: Problem, batches: Batches, m: float, n: float, psi0: float, psi: float, least: float, point: Point
) -> bool:
    """Bring lambda, Omega, the span and the devices' prices of `point` to the optimum; False where that fails.

    Then `point` may hold anything.
    """
    d, limits, server = problem.devices, problem.limits, problem.server
    count = d.cycles.size
    time = limits.delay - n * limits.down_s
    longest = time / n
    if m > 0.0:
        longest -= m * server.cycles * batches.server_low / server.clock_max / n
    if not longest > least * (1.0 + 1e-9):
        return False
    scale = psi * d.variance.sum() + (psi0 if m > 0.0 else 0.0)
    mu = math.log(point.scalars[0] if point.scalars[0] > 1e-12 * scale / limits.energy else 0.3 * scale / limits.energy)
    span = point.scalars[2]
    if m == 0.0:
        span = longest
    elif not (least < span < longest):
        span = first_span(problem, batches, m, n, 1.0, 1.0, time, least, longest)
        span = min(max(span, 1.001 * least), 0.999 * longest)
    if not point.scalars[0] > 1e-12 * scale / limits.energy:
        mu = first_energy_price(problem, batches, m, n, psi0, psi, span, mu)
    aim = math.log(limits.energy * (1.0 - UNDER))
    rests = np.minimum(d.static, d.circuit)
    static = server.static + rests.sum()
    z = np.empty(count)
    total = 0.0
    worth = psi / (n * math.exp(mu))
    for k in range(count):
        if point.price[k] > TINY:
            z[k] = math.log(max(point.price[k], 1e-3 * rests[k]))
        else:
            z[k] = max(
                _first_price(d, k, worth, batches.low[k], batches.high[k], span), math.log(1e-3 * rests[k] + 1e-260)
            )
        total += math.exp(z[k])
    z0 = math.log(max(total, TINY))
    gap, by_span, by_mu, top = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    for k in range(count):
        top[k] = energy_slope(d.exponent_max[k])
    for _ in range(STEPS):
        lam = math.exp(mu)
        if not lam > 1e-9 * scale / limits.energy:
            return False
        beta, beta0 = math.sqrt(psi / (n * lam)), math.sqrt(psi0 / (m * lam)) if m > 0.0 else 0.0
        worst, prices, prices_0, prices_span, prices_mu = 0.0, 0.0, 0.0, 0.0, 0.0
        joules, joules_0, joules_span, joules_mu = n * limits.down_j, 0.0, 0.0, 0.0
        for k in range(count):
            omega = math.exp(z[k])
            t, t_z, t_mu, e, e_z, e_mu = computing(
                omega,
                d.cycles[k],
                d.capacitance[k],
                d.clock_max[k],
                d.static[k],
                beta,
                math.sqrt(d.variance[k]),
                batches.low[k],
                batches.high[k],
            )
            paid = (d.circuit[k] + omega) / d.noise[k]
            x = d.exponent_max[k]
            if paid < top[k]:
                warm = point.exponent[k]
                x, exp = exponent_near(paid, warm if 0.1 * x < warm < x else exponent_guess(paid))
                x = min(x, d.exponent_max[k])
                upload_z = -d.span[k] * omega / (x * x * d.noise[k] * x * exp)
                t_z += upload_z
                e_z -= omega * upload_z
            point.exponent[k] = x
            upload = d.span[k] / x
            t += upload
            e += upload * (d.noise[k] * math.expm1(x) + d.circuit[k])
            gap[k], by_span[k], by_mu[k], off = device_step(span, t, t_z, t_mu, omega, rests[k])
            worst = max(worst, off)
            prices += omega
            prices_0 += omega * gap[k]
            prices_span += omega * by_span[k]
            prices_mu += omega * by_mu[k]
            joules += n * e
            joules_0 += n * e_z * gap[k]
            joules_span += n * e_z * by_span[k]
            joules_mu += n * (e_mu + e_z * by_mu[k])
        balance = 0.0
        gap0, by_span0, by_mu0 = 0.0, 0.0, 0.0
        if m > 0.0:
            t0 = (time - n * span) / m
            t, t_z, t_mu, e, e_z, e_mu = computing(
                math.exp(z0),
                server.cycles,
                server.capacitance,
                server.clock_max,
                server.static,
                beta0,
                1.0,
                batches.server_low,
                batches.server_high,
            )
            miss = t0 / t - 1.0
            worst = max(worst, abs(miss))
            if t_z >= -1e-9 * t:
                gap0 = -FURTHEST if miss > 0.0 else FURTHEST
            else:
                # linear, not in logarithms: what is left of the time is linear in the span, and small beside it
                gap0, by_span0, by_mu0 = (t0 - t) / t_z, -n / m * span / t_z, -t_mu / t_z
            joules += m * e
            joules_0 += m * e_z * gap0
            joules_span += m * e_z * by_span0
            joules_mu += m * (e_mu + e_z * by_mu0)
            balance = math.log(prices) - z0
        excess = math.log(joules) - aim
        # where everything idles, prices far below the static power are known to the last bits of that power only
        even = abs(balance) <= 1e-9 or abs(prices - math.exp(z0)) <= 1e-14 * static
        if worst <= CLOSE and even and abs(excess) <= 0.5 * UNDER:
            return _write(z, z0, mu, span, m, point)
        last = max(worst, abs(excess)) <= NEARLY and (abs(balance) <= NEARLY or even)
        # (balance, excess) + matrix (dspan, dmu) = 0, dspan in the logarithm of the span
        a21, a22 = joules_span / joules, joules_mu / joules
        b2 = -excess - joules_0 / joules
        dspan = 0.0
        if m > 0.0:
            a11, a12 = prices_span / prices - by_span0, prices_mu / prices - by_mu0
            b1 = -balance - prices_0 / prices + gap0
            det = a11 * a22 - a12 * a21
            if not (abs(det) > 1e-300 and math.isfinite(det)):
                return False
            dspan, dmu = (b1 * a22 - b2 * a12) / det, (a11 * b2 - a21 * b1) / det
        else:
            if not a22 < 0.0:
                return False
            dmu = b2 / a22
        if not (math.isfinite(dspan) and math.isfinite(dmu)):
            return False
        dmu = min(max(dmu, -3.0), 3.0)
        if m > 0.0:
            new = span * (1.0 + min(max(dspan, -0.9), 2.0))
            new = min(max(new, least + 0.1 * (span - least)), longest - 0.1 * (longest - span))
            dspan = new / span - 1.0
            span = new
        for k in range(count):
            z[k] = moved(z[k], gap[k], by_span[k], by_mu[k], dspan, dmu)
        z0 += min(max(gap0 + by_span0 * dspan + by_mu0 * dmu, -FURTHEST), FURTHEST)
        mu += dmu
        if last:
            return _write(z, z0, mu, span, m, point)
    return False


@njit(cache=True, error_model="numpy")
def _write(z: np.ndarray, z0: float, mu: float, span: float, m: float, point: Point) -> bool:
    total = 0.0
    for k in range(z.size):
        point.price[k], point.ratio[k] = math.exp(z[k]), 1.0
        total += point.price[k]
    point.scalars[0], point.scalars[2] = math.exp(mu), span
    point.scalars[1] = math.exp(z0) if m > 0.0 else total
    return bool(total < HUGE)
