"""What prices prove for *every* subset of a fleet: the compiled half of `pretune.planner.admission_bound`.

Admitting the devices of ``x in {0,1}^K`` renormalises their weights: with ``W = sum_k alpha_k x_k`` device `k` adds
``psi A_k / (W^2 b_k)`` of noise, ``A_k = alpha_k^2 sigma_k^2``. Price a joule at ``lambda``, a second at ``nu``,
device `k`'s share of the span at ``v_k``, its battery at ``lambda (ratio_k - 1)`` and the weight, in each
round, at ``mu``. What is left separates over the devices:

    n (ntau - lambda and so on) + n mu W + sum_k x_k [ min_b (psi A_k rho(W)/b + n c_k b) + n U_k - n v_k tau
                                                       - lambda (ratio_k - 1) battery_k - n mu alpha_k ]

and each device is in or out as its bracket is negative or positive. ``rho(W) = (3 W0 - 2 W)/W0^3`` is the tangent of
the convex ``1/W^2`` at `W0`, so it lies below it. The bracket is concave in ``W``, in ``tau`` and in
``(n, psi)``, and so is the sum of the negative ones: over a box of spans and weights it is least at a corner.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.priced import Region, cheapest, most_batch
from pretune.planner.kernels.rounds import TRAJECTORY, coefficients
from pretune.planner.kernels.scalar import TINY, clock_at, sample_cost, upload_exponent
from pretune.planner.problem import Problem

OUT, FREE, IN = -1.0, 0.0, 1.0


class Offer(NamedTuple):
    """Prices and what they make everything cost, in units of the criterion's numerator; arrays have shape (K,)."""

    energy: float
    """lambda, per joule."""
    delay: float
    """nu, per second."""
    server_cost: float
    """What one sample costs at the server."""
    samples: Floats
    """c_k: what one sample costs at a device."""
    uploads: Floats
    """U_k: what an upload costs."""
    shares: Floats
    """v_k: what a device pays for each second of the span."""
    refunds: Floats
    """lambda (ratio_k - 1) battery_k: the battery at its price."""


class Cell(NamedTuple):
    """Spans ``s1..s2`` of a fine-tuning round (seconds) and admitted weights ``w1..w2``."""

    s1: float
    s2: float
    w1: float
    w2: float


@njit(cache=True, error_model="numpy")
def offer_of(problem: Problem, lam: float, omega: float, shares: Floats, ratios: Floats) -> Offer:
    """The costs at `lam` per joule, `omega` joules per second and the devices' `shares` (W) and battery `ratios`.

    Unlike the prices of a plan, the shares need not add up to `omega`: what they add up to depends on the subset.
    """
    d, limits, server = problem.devices, problem.limits, problem.server
    count = d.cycles.size
    samples, uploads, paid_shares, refunds = np.empty(count), np.empty(count), np.empty(count), np.zeros(count)
    for k in range(count):
        ratio, share = ratios[k], shares[k]
        if not (1.0 <= ratio <= 1e100) or d.battery[k] == math.inf:
            ratio = 1.0
        if not (0.0 <= share <= 1e200):
            share = 0.0
        own = share / ratio
        clock = max(clock_at(own, d.capacitance[k], d.clock_max[k], d.static[k]), TINY)
        samples[k] = lam * ratio * sample_cost(own, clock, d.cycles[k], d.capacitance[k], d.static[k])
        at = omega / ratio if limits.tdma else own
        paid = at + d.circuit[k]
        if paid <= 0.0:
            uploads[k] = lam * ratio * d.noise[k] * d.span[k]
        else:
            x = upload_exponent(paid / d.noise[k], d.exponent_max[k])
            uploads[k] = lam * ratio * d.span[k] / x * (d.noise[k] * math.expm1(x) + paid)
        paid_shares[k] = lam * share
        if ratio > 1.0:
            refunds[k] = lam * (ratio - 1.0) * d.battery[k]
    clock = max(clock_at(omega, server.capacitance, server.clock_max, server.static), TINY)
    server_cost = lam * sample_cost(omega, clock, server.cycles, server.capacitance, server.static)
    return Offer(lam, lam * omega, server_cost, samples, uploads, paid_shares, refunds)


@njit(cache=True, error_model="numpy")
def brackets(
    problem: Problem, offer: Offer, caps: Floats, n: float, psi: float, rho: float, span: float, out: Floats
) -> None:
    """Each device's bracket without the price of weight, into `out`, shape (K,); infinity where it can't take part."""
    variance = problem.devices.variance
    for k in range(out.size):
        if caps[k] < 1.0:
            out[k] = math.inf
            continue
        noise = psi * variance[k] * rho
        out[k] = (
            cheapest(noise, n * offer.samples[k], 1.0, caps[k])
            + n * (offer.uploads[k] - offer.shares[k] * span)
            - offer.refunds[k]
        )


@njit(cache=True, error_model="numpy")
def tangent(weight: float, at: float) -> float:
    """``rho(W)``: the tangent of ``1/W^2`` at `at`, never below zero for ``W <= 1.5 at``."""
    return (3.0 * at - 2.0 * weight) / (at * at * at)


@njit(cache=True, error_model="numpy")
def _sums(
    problem: Problem, offer: Offer, corners: Floats, n: float, cell: Cell, alpha: Floats, state: Floats, mu: float
) -> float:
    """The least of what fine-tuning costs at the four corners of a cell, at a price of weight."""
    limits = problem.limits
    least = math.inf
    for i in range(4):
        w = cell.w2 if i & 2 else cell.w1
        s = cell.s2 if i & 1 else cell.s1
        total = n * (offer.energy * limits.down_j + offer.delay * (limits.down_s + s) + mu * w)
        for k in range(alpha.size):
            if state[k] == OUT:
                continue
            bracket = corners[i, k] - n * mu * alpha[k]
            if bracket < 0.0 or state[k] == IN:
                total += bracket
        least = min(least, total)
    return least


@njit(cache=True, error_model="numpy")
def subset_batches(problem: Problem, region: Region, up_s: float) -> Floats:
    """The largest whole batches of each device in a region, shape (K,), whoever else takes part.

    TDMA: as `kernels.priced.most_batches`, but only `up_s` seconds are known to go to uploads at least.
    """
    limits, server = problem.limits, problem.server
    least = region.m1 * server.cycles * problem.batches.server_low / server.clock_max
    longest = (limits.delay - least) / region.n1 - limits.down_s - up_s
    most = np.empty(problem.batches.high.size)
    for k in range(most.size):
        most[k] = most_batch(problem, k, min(longest, region.s2), longest - region.s1, region.n1)
    return most


@njit(cache=True, error_model="numpy")
def rounds_bound(problem: Problem, offer: Offer, region: Region, most: float, bill1: float, bill2: float) -> float:
    """The bound over a region of rounds, given what `region.n1` and `region.n2` fine-tuning rounds cost at least.

    The bills have to be those of one set of subsets, spans and batches: then the bill is concave in the rounds and lies
    above its chord. `most` is the largest server batch. The rest is as for one subset (`kernels.rounds.bound_over`).
    Assumes ``n1 >= 1``.

    trajectory: numerator and weight are linear in either stage's rounds (or concave), their quotient is least at a
    corner. final: phi is replaced by its tangent plane (it is convex where the gap exceeds the floor that the shift
    leaves), or else by its least corner value.
    """
    c = problem.criterion
    m1, m2, n1, n2 = region.m1, region.m2, region.n1, region.n2
    budget = offer.energy * problem.limits.energy + offer.delay * problem.limits.delay
    if m1 > 0.0 and most < problem.batches.server_low:
        return math.inf
    most = max(most, problem.batches.server_low)
    tangent_plane = c[0] != TRAJECTORY and not (m1 == m2 and n1 == n2)
    flat = tangent_plane and c[1] >= c[2] and c[5] > -50.0 and c[6] > -50.0
    m0, n0 = 0.5 * (m1 + m2), 0.5 * (n1 + n2)
    keep1 = math.exp(c[6] * n0) if flat else 0.0
    both = math.exp(c[5] * m0) * keep1 * (c[1] - c[2]) if flat else 0.0
    middle = both + keep1 * c[2]
    least_phi = math.inf
    if tangent_plane:
        for i in range(4):
            phi = coefficients(c, m2 if i & 1 else m1, n2 if i & 2 else n1)[1]
            least_phi = min(least_phi, phi)
    least = math.inf
    for i in range(4):
        m, n = m2 if i & 1 else m1, n2 if i & 2 else n1
        weight, phi, psi0, _ = coefficients(c, m, n)
        if c[0] != TRAJECTORY:
            # the server's bill falls with the fine-tuning rounds: take it at the last
            psi0 = coefficients(c, m, n2)[2]
        server = cheapest(psi0, m * offer.server_cost, problem.batches.server_low, most) if m > 0.0 else 0.0
        if flat:
            phi = middle + c[5] * both * (m - m0) + c[6] * middle * (n - n0)
        elif tangent_plane:
            phi = least_phi
        least = min(least, (phi + server + (bill2 if i & 2 else bill1) - budget) / weight)
    return least


@njit(cache=True, error_model="numpy")
def subset_bound(
    problem: Problem,
    offer: Offer,
    region: Region,
    cell: Cell,
    alpha: Floats,
    state: Floats,
    caps: Floats,
    most: float,
    centre: float,
    mu: float,
    search: bool,
) -> tuple[float, float]:
    """The bound over a region of rounds and a cell for every subset that `state` allows, and its price of weight.

    `state` holds OUT, FREE or IN for each device, `caps` the largest whole batches, `most` the server's, `centre`
    is W0. The bound is
    concave in the price of weight; `search`: improve it from `mu` on instead of taking `mu` as it is.
    """
    centre = max(centre, 0.7 * cell.w2)
    corners1, corners2 = np.empty((4, alpha.size)), np.empty((4, alpha.size))
    psi1 = coefficients(problem.criterion, region.m1, region.n1)[3]
    psi2 = coefficients(problem.criterion, region.m1, region.n2)[3]
    for i in range(4):
        w = cell.w2 if i & 2 else cell.w1
        s = cell.s2 if i & 1 else cell.s1
        rho = tangent(w, centre)
        brackets(problem, offer, caps, region.n1, psi1, rho, s, corners1[i])
        if region.n2 > region.n1:
            brackets(problem, offer, caps, region.n2, psi2, rho, s, corners2[i])
    best, step = -math.inf, 1.5
    trials = np.array([mu, mu, mu])
    while True:
        moved = False
        for trial in trials:
            bill1 = _sums(problem, offer, corners1, region.n1, cell, alpha, state, trial)
            bill2 = bill1
            if region.n2 > region.n1:
                bill2 = _sums(problem, offer, corners2, region.n2, cell, alpha, state, trial)
            value = rounds_bound(problem, offer, region, most, bill1, bill2)
            if value > best:
                best, mu, moved = value, trial, True
                break
        if not search or best == math.inf:
            return best, mu
        if not moved:
            step = step**0.5
            if step < 1.02:
                return best, mu
        trials = np.array([mu * step, mu / step, mu * step])
