"""Newton's method on all prices at once, for TDMA without battery limits: a warm start for the solve at fixed rounds.

As `newton`, with one unknown more. Each device has one equation (computing takes the compute phase); three couple them:
the devices' prices of time add up to the price of a second for everyone, the rounds of both stages take the time there
is, and the energy is the budget. Uploads and the server follow from the price of a second alone. A step costs O(K).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.planner.kernels.fleet import Point, least_uploads
from pretune.planner.kernels.guesses import first_energy_price, first_phase
from pretune.planner.kernels.scalar import TINY, energy_slope, exponent_guess, exponent_near, price_guess
from pretune.planner.kernels.steps import CLOSE, FURTHEST, NEARLY, STEPS, UNDER, computing, device_step, moved
from pretune.planner.kernels.tdma import SPARE
from pretune.planner.problem import Batches, Problem


@njit(cache=True, error_model="numpy")
def newton_start_tdma(
    problem: Problem, batches: Batches, m: float, n: float, psi0: float, psi: float, least: float, point: Point
) -> bool:
    """Bring lambda, Omega, the compute phase and the devices' prices of `point` to the optimum; False if that fails.

    Then `point` may hold anything.
    """
    d, limits, server = problem.devices, problem.limits, problem.server
    count = d.cycles.size
    time = limits.delay * (1.0 - 0.5 * SPARE) - n * limits.down_s
    longest = time / n - least_uploads(d, limits)
    if m > 0.0:
        longest -= m * server.cycles * batches.server_low / server.clock_max / n
    if not longest > least * (1.0 + 1e-9):
        return False
    scale = psi * d.variance.sum() + (psi0 if m > 0.0 else 0.0)
    mu = math.log(point.scalars[0] if point.scalars[0] > 1e-12 * scale / limits.energy else 0.3 * scale / limits.energy)
    phase = point.scalars[2]
    if not (least < phase < longest):
        beta0 = 1.0 if m > 0.0 else 0.0
        phase = min(max(first_phase(problem, batches, m, n, beta0, 1.0, least, longest), 1.001 * least), 0.99 * longest)
    if not point.scalars[0] > 1e-12 * scale / limits.energy:
        mu = first_energy_price(problem, batches, m, n, psi0, psi, phase, mu)
    aim = math.log(limits.energy * (1.0 - UNDER))
    static = server.static + d.static.sum()
    z = np.empty(count)
    total = 0.0
    worth = psi / (n * math.exp(mu))
    for k in range(count):
        rest = 1e-3 * d.static[k] + 1e-260
        if point.price[k] > TINY:
            z[k] = math.log(max(point.price[k], rest))
        else:
            cube = 3.0 * d.capacitance[k] * d.cycles[k] ** 3
            batch = min(
                max(math.sqrt(phase * math.sqrt(worth * d.variance[k] / cube)), batches.low[k]), batches.high[k]
            )
            z[k] = max(
                price_guess(phase, d.cycles[k] * batch, d.capacitance[k], d.static[k], 1.0, 0.0, 0.0), math.log(rest)
            )
        total += math.exp(z[k])
    z0 = math.log(max(total, TINY))
    gap, by_phase, by_mu, top = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    for k in range(count):
        top[k] = energy_slope(d.exponent_max[k])
    for _ in range(STEPS):
        lam = math.exp(mu)
        if not lam > 1e-9 * scale / limits.energy:
            return False
        beta, beta0 = math.sqrt(psi / (n * lam)), math.sqrt(psi0 / (m * lam)) if m > 0.0 else 0.0
        everyone = math.exp(z0)
        worst, prices, prices_0, prices_phase, prices_mu = 0.0, 0.0, 0.0, 0.0, 0.0
        joules, joules_0, joules_phase, joules_z0, joules_mu = n * limits.down_j, 0.0, 0.0, 0.0, 0.0
        seconds, seconds_z0, seconds_mu = n * phase, 0.0, 0.0
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
            gap[k], by_phase[k], by_mu[k], off = device_step(phase, t, t_z, t_mu, omega, d.static[k])
            worst = max(worst, off)
            prices += omega
            prices_0 += omega * gap[k]
            prices_phase += omega * by_phase[k]
            prices_mu += omega * by_mu[k]
            joules += n * e
            joules_0 += n * e_z * gap[k]
            joules_phase += n * e_z * by_phase[k]
            joules_mu += n * (e_mu + e_z * by_mu[k])
            paid = (d.circuit[k] + everyone) / d.noise[k]
            x = d.exponent_max[k]
            if paid < top[k]:
                warm = point.exponent[k]
                x, exp = exponent_near(paid, warm if 0.1 * x < warm < x else exponent_guess(paid))
                x = min(x, d.exponent_max[k])
                upload_z = -n * d.span[k] * everyone / (x * x * d.noise[k] * x * exp)
                seconds_z0 += upload_z
                joules_z0 -= everyone * upload_z
            point.exponent[k] = x
            upload = n * d.span[k] / x
            seconds += upload
            joules += upload * (d.noise[k] * math.expm1(x) + d.circuit[k])
        if m > 0.0:
            t, t_z, t_mu, e, e_z, e_mu = computing(
                everyone,
                server.cycles,
                server.capacitance,
                server.clock_max,
                server.static,
                beta0,
                1.0,
                batches.server_low,
                batches.server_high,
            )
            seconds += m * t
            seconds_z0 += m * t_z
            seconds_mu += m * t_mu
            joules += m * e
            joules_z0 += m * e_z
            joules_mu += m * e_mu
        balance, excess, late = math.log(prices) - z0, math.log(joules) - aim, math.log(seconds / time)
        # where everything idles, prices far below the static power are known to the last bits of that power only
        even = abs(balance) <= 1e-9 or abs(prices - everyone) <= 1e-14 * static
        if worst <= CLOSE and even and abs(excess) <= 0.5 * UNDER and abs(late) <= 0.5 * SPARE:
            return _write(z, z0, mu, phase, point)
        last = max(worst, abs(excess), abs(late)) <= NEARLY and (abs(balance) <= NEARLY or even)
        # unknowns: steps of log phase, z0, mu
        a = np.empty((3, 4))
        a[0] = prices_phase / prices, -1.0, prices_mu / prices, -balance - prices_0 / prices
        a[1] = n * phase / seconds, seconds_z0 / seconds, seconds_mu / seconds, -late
        a[2] = joules_phase / joules, joules_z0 / joules, joules_mu / joules, -excess - joules_0 / joules
        det = _det(a, 0, 1, 2)
        if not (abs(det) > 1e-300 and math.isfinite(det)):
            return False
        dphase, dz0, dmu = _det(a, 3, 1, 2) / det, _det(a, 0, 3, 2) / det, _det(a, 0, 1, 3) / det
        if not (math.isfinite(dphase) and math.isfinite(dz0) and math.isfinite(dmu)):
            return False
        dmu = min(max(dmu, -2.0), 2.0)
        new = phase * math.exp(min(max(dphase, -2.0), 2.0))
        new = min(max(new, least + 0.1 * (phase - least)), longest - 0.1 * (longest - phase))
        dphase = math.log(new / phase)
        phase = new
        for k in range(count):
            z[k] = moved(z[k], gap[k], by_phase[k], by_mu[k], dphase, dmu)
        z0 += min(max(dz0, -FURTHEST), FURTHEST)
        mu += dmu
        if last:
            return _write(z, z0, mu, phase, point)
    return False


@njit(cache=True, error_model="numpy")
def _det(a: np.ndarray, i: int, j: int, k: int) -> float:
    """The determinant of three of the columns of `a`, shape (3, 4)."""
    return float(
        a[0, i] * (a[1, j] * a[2, k] - a[1, k] * a[2, j])
        - a[0, j] * (a[1, i] * a[2, k] - a[1, k] * a[2, i])
        + a[0, k] * (a[1, i] * a[2, j] - a[1, j] * a[2, i])
    )


@njit(cache=True, error_model="numpy")
def _write(z: np.ndarray, z0: float, mu: float, phase: float, point: Point) -> bool:
    for k in range(z.size):
        point.price[k], point.ratio[k] = math.exp(z[k]), 1.0
    point.scalars[0], point.scalars[1], point.scalars[2] = math.exp(mu), math.exp(z0), phase
    return True
