"""What prices prove for *every* subset of a fleet: the compiled half of `pretune.planner.admission_bound`.

Admitting the devices of ``x in {0,1}^K`` renormalises their weights: with ``y = 1 / sum_k alpha_k x_k`` device `k` adds
``psi A_k y^2 / b_k`` of noise, ``A_k = alpha_k^2 sigma_k^2``. Price a joule at ``lambda``, a second at ``nu``,
device `k`'s share of the span at ``v_k``, its battery at ``lambda (ratio_k - 1)`` and the weight at ``G``. What is left
separates over the devices:

    n (nu tau - ...) + G + sum_k x_k [ min_b (psi A_k rho(y)/b + n c_k b) + n U_k - n v_k tau
                                       - lambda (ratio_k - 1) battery_k - G y alpha_k ]

and each device is in or out as its bracket is negative or positive. ``rho(y) = 2 y0 y - y0^2`` is the tangent of
``y^2``, so it lies below it. For a given subset and batches this is linear in the span, concave in the rounds, and
concave in ``y`` where `G` is linear in it and does not fall (``G (1 - y alpha x)`` has the second derivative
``-2 G' alpha x``). So over a box of rounds, spans and weights it is least at a corner, and **each corner may have its
own price of weight**, as long as it does not rise with the weight. The best price at a corner is that of a
knapsack: the devices by what they cost per weight, filled up to the corner's weight. What stays open is the one
device that the knapsack cuts in two, and what bends between the corners, to second order.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pretune.physics.types import Floats
from pretune.planner.kernels.fleet import Point, device_at, device_energy, round_at
from pretune.planner.kernels.priced import Region, cheapest, most_batch
from pretune.planner.kernels.rounds import TRAJECTORY, coefficients
from pretune.planner.kernels.scalar import TINY, clock_at, sample_cost, upload_exponent
from pretune.planner.problem import Devices, Problem

OUT, FREE, IN = -1.0, 0.0, 1.0
_STRIP = 1.15
"""Ratio of the ends of a strip of pre-training rounds."""


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


class Part(NamedTuple):
    """The devices that are not out, shape (K',), and the boxes that a bound is wanted for."""

    problem: Problem
    """Of these devices; its batches are the largest ones there, its limits have the nearest broadcast."""
    alpha: Floats
    certain: NDArray[np.bool_]
    """Which devices are in for certain."""
    region: Region
    cell: Cell
    most: float
    """The largest server batch."""


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
def tangents(
    problem: Problem, lam: float, omega: float, n: float, psi: float, y: float, spans: Floats, guess: Floats
) -> tuple[Floats, Floats]:
    """What each device would pay for time (W), and its battery's ratio, at a span of its own; shape (K,) each.

    `guess` (prices to start from) is replaced by what is found. Zero and one where a device can't keep its span.
    """
    d, batches = problem.devices, problem.batches
    count = d.cycles.size
    shares, ratios = np.zeros(count), np.ones(count)
    if not lam > 0.0:
        return shares, ratios
    beta = math.sqrt(psi / (n * lam)) * y
    one = Point(
        np.zeros(1), np.ones(1), np.ones(1), np.zeros(1), np.ones(1), np.ones(1), np.full(1, -1.0), np.zeros(10)
    )
    for k in range(count):
        if batches.high[k] < 1.0:
            continue
        price, ratio = 0.0, 1.0
        price, _, batch, clock, x = device_at(
            d, k, batches.low[k], batches.high[k], beta, spans[k], omega, problem.limits.tdma, guess[k], -1.0
        )
        if d.battery[k] < math.inf and device_energy(d, k, batch, clock, x) > d.battery[k] / n:
            alone = Devices(
                d.cycles[k : k + 1],
                d.capacitance[k : k + 1],
                d.clock_max[k : k + 1],
                d.static[k : k + 1],
                d.noise[k : k + 1],
                d.span[k : k + 1],
                d.exponent_max[k : k + 1],
                d.circuit[k : k + 1],
                d.variance[k : k + 1],
                d.battery[k : k + 1],
            )
            low, high = batches.low[k : k + 1], batches.high[k : k + 1]
            one.price[0], one.ratio[0], one.gentlest[0] = price, 1.0, -1.0
            round_at(alone, problem.limits, low, high, beta, n, spans[k], omega, one)
            price, ratio = one.price[0], one.ratio[0]
        if 0.0 <= price < 1e200 and 1.0 <= ratio < 1e100:
            shares[k], ratios[k] = price, ratio
            guess[k] = price / ratio
    return shares, ratios


@njit(cache=True, error_model="numpy")
def brackets(problem: Problem, offer: Offer, n: float, noise: float, span: float, out: Floats) -> None:
    """Each device's bracket without the price of weight, into `out`, shape (K,); infinity where it can't take part.

    `noise` is ``psi rho(y)``.
    """
    variance, most = problem.devices.variance, problem.batches.high
    for k in range(out.size):
        if most[k] < 1.0:
            out[k] = math.inf
            continue
        out[k] = (
            cheapest(noise * variance[k], n * offer.samples[k], 1.0, most[k])
            + n * (offer.uploads[k] - offer.shares[k] * span)
            - offer.refunds[k]
        )


@njit(cache=True, error_model="numpy")
def weight_price(bracket: Floats, alpha: Floats, certain: NDArray[np.bool_], weight: float) -> tuple[float, int]:
    """The price of weight (times the weight) at which the devices that are worth it just reach `weight`.

    Also the device that is cut in two there, -1 where none is free.
    """
    left = weight
    free = np.empty(alpha.size, np.int64)
    ratio = np.empty(alpha.size)
    count = 0
    for k in range(alpha.size):
        if certain[k]:
            left -= alpha[k]
        elif bracket[k] < math.inf:
            free[count], ratio[count] = k, bracket[k] / alpha[k]
            count += 1
    if count == 0:
        return 0.0, -1
    order = np.argsort(ratio[:count])
    for i in order:
        left -= alpha[free[i]]
        if left <= 0.0:
            return ratio[i] * weight, free[i]
    return ratio[order[-1]] * weight, free[order[-1]]


@njit(cache=True, error_model="numpy")
def _chosen(bracket: Floats, alpha: Floats, certain: NDArray[np.bool_], price: float, weight: float) -> float:
    """What the price of weight and the devices cost at a corner: each is in where that lowers it, or certain."""
    total, each = price, price / weight
    for k in range(alpha.size):
        own = bracket[k] - each * alpha[k]
        if own < 0.0 or certain[k]:
            total += own
    return total


@njit(cache=True, error_model="numpy")
def _common_price(
    light: Floats, heavy: Floats, alpha: Floats, certain: NDArray[np.bool_], cell: Cell, low: float, high: float
) -> float:
    """One price for the two weights of a cell, between the best of either, where the lesser of both is greatest."""
    for _ in range(30):
        price = 0.5 * (low + high)
        if _chosen(light, alpha, certain, price, cell.w1) <= _chosen(heavy, alpha, certain, price, cell.w2):
            high = price
        else:
            low = price
    return 0.5 * (low + high)


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
def rounds_bound(problem: Problem, offer: Offer, region: Region, most: float, bill1: Floats, bill2: Floats) -> Floats:
    """The bounds over a region of rounds, given what `region.n1` and `region.n2` fine-tuning rounds cost at least.

    One bound for each pair of bills, shape (R,).
    The bills have to be those of one set of subsets, spans and batches: then the bill is concave in the rounds and lies
    above its chord. `most` is the largest server batch. The rest is as for one subset (`kernels.rounds.bound_over`).
    Assumes ``n1 >= 1``.

    trajectory: numerator and weight are linear in either stage's rounds (or concave), their quotient is least at a
    corner. final: the pre-training rounds are cut into strips, since they cost no work per device; in each, phi is
    replaced by its tangent plane (it is convex where the gap exceeds the floor that the shift leaves), or by its
    least corner value, whichever proves more.
    """
    c, batches = problem.criterion, problem.batches
    m1, m2, n1, n2 = region.m1, region.m2, region.n1, region.n2
    budget = offer.energy * problem.limits.energy + offer.delay * problem.limits.delay
    least = np.full(bill1.size, math.inf)
    if m1 > 0.0 and most < batches.server_low:
        return least
    most = max(most, batches.server_low)
    if c[0] == TRAJECTORY:
        for i in range(4):
            m, n = m2 if i & 1 else m1, n2 if i & 2 else n1
            weight, phi, psi0, _ = coefficients(c, m, n)
            server = cheapest(psi0, m * offer.server_cost, batches.server_low, most) if m > 0.0 else 0.0
            for r in range(least.size):
                bill = bill2[r] if i & 2 else bill1[r]
                least[r] = min(least[r], (phi + server + bill - budget) / weight)
        return least
    lowest1, lowest2 = math.inf, math.inf
    left = m1
    while True:
        right = min(m2, math.floor((left + 1.0) * _STRIP) - 1.0)
        if right < left or left * c[5] < -40.0:
            # the last strip: beyond it the gap is gone, and more rounds only cost more
            right = max(left, m2) if left * c[5] < -40.0 else left
        low1, low2 = _strip(problem, offer, Region(left, right, n1, n2, 0.0, 0.0), most, bill1[0], bill2[0])
        lowest1, lowest2 = min(lowest1, low1), min(lowest2, low2)
        if right >= m2:
            break
        left = right + 1.0
    for r in range(least.size):
        least[r] = min(lowest1 + bill1[r], lowest2 + bill2[r]) - budget
    return least


@njit(cache=True, error_model="numpy")
def _strip(
    problem: Problem, offer: Offer, region: Region, most: float, bill1: float, bill2: float
) -> tuple[float, float]:
    """final: the least of phi and the server's bill in a strip, to go with the bills of its first and last rounds."""
    c, batches = problem.criterion, problem.batches
    m1, m2, n1, n2 = region.m1, region.m2, region.n1, region.n2
    # the server's bill falls with the fine-tuning rounds: take it at the last
    psi1, psi2 = coefficients(c, m1, n2)[2], coefficients(c, m2, n2)[2]
    server1 = cheapest(psi1, m1 * offer.server_cost, batches.server_low, most) if m1 > 0.0 else 0.0
    server2 = cheapest(psi2, m2 * offer.server_cost, batches.server_low, most) if m2 > 0.0 else 0.0
    phi11, phi12 = coefficients(c, m1, n1)[1], coefficients(c, m1, n2)[1]
    phi21, phi22 = coefficients(c, m2, n1)[1], coefficients(c, m2, n2)[1]
    if m1 == m2 and n1 == n2:
        return phi11 + server1, phi11 + server1
    flat = min(phi11, phi12, phi21, phi22) + min(server1, server2)
    if not (c[1] >= c[2] and c[5] > -50.0 and c[6] > -50.0):
        return flat, flat
    m0, n0 = 0.5 * (m1 + m2), 0.5 * (n1 + n2)
    keep1 = math.exp(c[6] * n0)
    both = math.exp(c[5] * m0) * keep1 * (c[1] - c[2])
    middle = both + keep1 * c[2]
    along = min(server1 + c[5] * both * (m1 - m0), server2 + c[5] * both * (m2 - m0))
    low1, low2 = middle + along + c[6] * middle * (n1 - n0), middle + along + c[6] * middle * (n2 - n0)
    if min(low1 + bill1, low2 + bill2) > flat + min(bill1, bill2):
        return low1, low2
    return flat, flat


@njit(cache=True, error_model="numpy")
def prove(part: Part, offer: Offer, forced: bool) -> tuple[float, Floats, Floats]:
    """The bound over a part, and (`forced`) for each of its devices the bound if it is in and if it is out.

    The last two have shape (K',), or (0,) where not asked for.
    """
    problem, region, cell = part.problem, part.region, part.cell
    count = part.alpha.size
    rows = 1 + 2 * count if forced else 1
    bills = np.full((2, rows), math.inf)
    y1, y2 = 1.0 / cell.w2, 1.0 / cell.w1
    y0 = min(0.5 * (y1 + y2), 2.0 * y1)
    light, heavy = np.empty(count), np.empty(count)
    narrow = (cell.w1 == cell.w2, cell.s1 == cell.s2, region.n1 == region.n2)
    for i in range(1 if narrow[2] else 2):
        n = region.n2 if i else region.n1
        psi = coefficients(problem.criterion, region.m1, n)[3]
        for j in range(1 if narrow[1] else 2):
            span = cell.s2 if j else cell.s1
            brackets(problem, offer, n, psi * (2.0 * y0 * y2 - y0 * y0), span, light)
            brackets(problem, offer, n, psi * (2.0 * y0 * y1 - y0 * y0), span, heavy)
            price1, _ = weight_price(light, part.alpha, part.certain, cell.w1)
            price2 = price1
            if not narrow[0]:
                price2, _ = weight_price(heavy, part.alpha, part.certain, cell.w2)
                if price1 < price2:
                    price1 = _common_price(light, heavy, part.alpha, part.certain, cell, price1, price2)
                    price2 = price1
            own = n * (offer.energy * problem.limits.down_j + offer.delay * (problem.limits.down_s + span))
            for w in range(1 if narrow[0] else 2):
                bracket, price, weight = (heavy, price2, cell.w2) if w else (light, price1, cell.w1)
                total = own + _chosen(bracket, part.alpha, part.certain, price, weight)
                bills[i, 0] = min(bills[i, 0], total)
                if forced:
                    each = price / weight
                    for k in range(count):
                        more = bracket[k] - each * part.alpha[k]
                        bills[i, 1 + k] = min(bills[i, 1 + k], total + (0.0 if part.certain[k] else max(more, 0.0)))
                        less = math.inf if part.certain[k] else max(-more, 0.0)
                        bills[i, 1 + count + k] = min(bills[i, 1 + count + k], total + less)
    if narrow[2]:
        bills[1] = bills[0]
    found = rounds_bound(problem, offer, region, part.most, bills[0], bills[1])
    return found[0], found[1 : 1 + (rows - 1) // 2], found[1 + (rows - 1) // 2 :]


@njit(cache=True, error_model="numpy")
def relaxed(part: Part, offer: Offer, n: float, span: float, weight: float) -> tuple[NDArray[np.bool_], int]:
    """The cheapest devices that reach a weight at some rounds and span, shape (K',), and the last of them."""
    bracket = np.empty(part.alpha.size)
    psi = coefficients(part.problem.criterion, part.region.m1, n)[3]
    brackets(part.problem, offer, n, psi / (weight * weight), span, bracket)
    price, critical = weight_price(bracket, part.alpha, part.certain, weight)
    return part.certain | (bracket <= price / weight * part.alpha * (1.0 + 1e-12)), critical


@njit(cache=True, error_model="numpy")
def offered(part: Part, lam: float, omega: float, spans: Floats, guess: Floats, most: float = math.inf) -> Offer:
    """The offer at prices of energy and time, with each device's share taken at a span of its own.

    `most` is what the time or the battery of one device can be worth at the most (any shares and ratios prove
    something): where a device is about to break its limits, its own price has no limit.
    """
    region, cell, problem = part.region, part.cell, part.problem
    n = math.sqrt(region.n1 * region.n2)
    psi = coefficients(problem.criterion, region.m1, n)[3]
    y = 0.5 * (1.0 / cell.w1 + 1.0 / cell.w2)
    shares, ratios = tangents(problem, lam, omega, n, psi, y, spans, guess)
    for k in range(shares.size):
        shares[k] = min(shares[k], most / (lam * n * spans[k]))
        if ratios[k] > 1.0:
            ratios[k] = min(ratios[k], 1.0 + most / (lam * problem.devices.battery[k]))
    return offer_of(problem, lam, omega, shares, ratios)
