"""What a set of prices proves: a lower bound for any rounds, in closed form (math.md sections 4 and 6).

Price a joule, a second and each device's share of the round's span; then every constraint that couples the decisions
is paid for instead of enforced, each processor and link settles on its own, and what remains is

    numerator(M, N) >= phi + min_b0 (psi0/b0 + M c0 b0) + N C + sum_k min_bk (psi A_k/b_k + N c_k b_k) - budgets

(`budgets`: energy, delay and batteries at their prices) for *all* rounds, by weak duality. The minima run over whole
batches, so the bound knows about integrality. A shared band is one more constraint, of every fine-tuning round:
``C`` then holds the cheapest uploads with their shares paid for, less what the band is worth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.band import power_ratio, upload_bill
from pretune.planner.kernels.common import band_alone
from pretune.planner.kernels.fleet import Point, least_uploads, upload_within
from pretune.planner.kernels.scalar import HUGE, TINY, clock_at, sample_cost, upload_exponent
from pretune.planner.problem import Devices, Problem, Server

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
NEARLY = 1.0 - 1e-9


NO_HALVES, NO_SPLITS = np.zeros((0, 11)), np.zeros((0, 4))


class Prices(NamedTuple):
    """Prices in units of the criterion's numerator, and the costs that follow from them."""

    energy: float
    """lambda, per joule."""
    delay: float
    """nu, per second."""
    server_cost: float
    """c0: what one sample costs at the server."""
    round_cost: float
    """C: what a fine-tuning round costs before any sample: uploads and the broadcast."""
    budget: float
    """lambda E + nu T + the batteries at their prices."""
    sample_costs: Floats
    """c_k, shape (K,)."""
    shares: Floats
    """The devices' shares of the price of time divided by lambda, W, shape (K,)."""
    ratios: Floats
    """lambda_k / lambda, shape (K,)."""
    slack: float
    """What is left of nu after the shares: each second a round's span is known to take at the least pays it."""
    halves: Floats = NO_HALVES
    """What the batteries' devices cost on either side of a whole batch, rows of `halves.halves_of`, shape (R, 11)."""
    splits: Floats = NO_SPLITS
    """The whole batches and ratios of those sides, rows of `halves.split_batteries`, shape (R, 4)."""
    band: float = 0.0
    """gamma: joules per round that an equal share of a shared band is worth."""


@njit(cache=True, error_model="numpy")
def price(problem: Problem, lam: float, omega: float, shares: Floats, ratios: Floats, band: float = 0.0) -> Prices:
    """The prices `lam` per joule, `omega` joules per second, each device's `shares` and `ratios`, and `band`.

    The bound holds for ``sum shares <= omega``, so `omega` is raised to the sum where it is below. TDMA: the shares
    pay for the compute phase, the uploads pay `omega` itself. `band` is what an equal share of a shared band costs.
    """
    d, limits, server = problem.devices, problem.limits, problem.server
    omega = max(omega, shares.sum())
    costs = np.empty(d.cycles.size)
    if limits.band > 0.0:
        uploads, batteries = _price_sharers(d, band, lam, shares, ratios, costs)
        uploads -= band * limits.band
    else:
        uploads, batteries = price_devices(d, limits.tdma, lam, omega, shares, ratios, costs)
    per_round = limits.down_j + omega * limits.down_s + uploads
    budget = limits.energy + omega * limits.delay + batteries
    clock = max(clock_at(omega, server.capacitance, server.clock_max, server.static), TINY)
    cost0 = lam * sample_cost(omega, clock, server.cycles, server.capacitance, server.static)
    slack = lam * (omega - shares.sum())
    return Prices(
        lam,
        lam * omega,
        cost0,
        lam * per_round,
        lam * budget,
        costs,
        shares.copy(),
        ratios.copy(),
        slack,
        np.zeros((0, 11)),
        np.zeros((0, 4)),
        band,
    )


@njit(cache=True, error_model="numpy", nogil=True)
def price_devices(
    d: Devices, tdma: bool, lam: float, omega: float, shares: Floats, ratios: Floats, costs: Floats
) -> tuple[float, float]:
    """Fill in what a sample costs at each device; returns joules that the uploads and the batteries are worth."""
    uploads, batteries = 0.0, 0.0
    for k in range(d.cycles.size):
        ratio = ratios[k]
        own = shares[k] / ratio
        clock = max(clock_at(own, d.capacitance[k], d.clock_max[k], d.static[k]), TINY)
        costs[k] = lam * ratio * sample_cost(own, clock, d.cycles[k], d.capacitance[k], d.static[k])
        if tdma:
            own = omega / ratio
        paid = own + d.circuit[k]
        if paid <= 0.0:
            uploads += ratio * d.noise[k] * d.span[k]
        else:
            x = upload_exponent(paid / d.noise[k], d.exponent_max[k])
            uploads += ratio * d.span[k] / x * (d.noise[k] * math.expm1(x) + paid)
        if ratio > 1.0:
            batteries += (ratio - 1.0) * d.battery[k]
    return uploads, batteries


@njit(cache=True, error_model="numpy")
def _price_sharers(
    d: Devices, band: float, lam: float, shares: Floats, ratios: Floats, costs: Floats
) -> tuple[float, float]:
    """`price_devices` for devices that pay for their shares of a band."""
    uploads, batteries = 0.0, 0.0
    for k in range(d.cycles.size):
        ratio = ratios[k]
        own = shares[k] / ratio
        clock = max(clock_at(own, d.capacitance[k], d.clock_max[k], d.static[k]), TINY)
        costs[k] = lam * ratio * sample_cost(own, clock, d.cycles[k], d.capacitance[k], d.static[k])
        power = power_ratio(d.exponent_max[k])
        uploads += ratio * upload_bill(own + d.circuit[k], band / ratio, d.noise[k], d.span[k], power)
        if ratio > 1.0:
            batteries += (ratio - 1.0) * d.battery[k]
    return uploads, batteries


def point_prices(problem: Problem, point: Point, lam: float | None = None) -> Prices:
    """The prices of a solved point; `lam` takes the place of its price of energy."""
    s = point.scalars
    own = float(s[0]) if lam is None else lam
    found: Prices = price(problem, own, float(s[1]), point.price, point.ratio, float(s[9]))
    return found


@njit(cache=True, error_model="numpy")
def cheapest(noise: float, cost: float, low: float, high: float) -> float:
    """``min over whole b in [low, high] of noise / b + cost b`` (`low` and `high` are whole)."""
    if noise <= 0.0:
        return noise / low + cost * low
    if cost <= 0.0:
        return noise / high + cost * high
    b = min(max(math.sqrt(noise / cost), low), high)
    down = np.floor(b)
    up = min(down + 1.0, high)
    down = max(down, low)
    return min(noise / down + cost * down, noise / up + cost * up)


class Region(NamedTuple):
    """Where a bound is wanted: rounds ``m1..m2 x n1..n2``, and lengths of a fine-tuning round ``s1..s2`` (seconds).

    The length is a round's time without the broadcast: the span for FDMA, the compute phase and all uploads for TDMA.
    """

    m1: float
    m2: float
    n1: float
    n2: float
    s1: float
    s2: float


@njit(cache=True, error_model="numpy")
def most_span(problem: Problem, region: Region) -> float:
    """The longest round that leaves the region's fewest rounds within the delay, whatever lengths it names."""
    if region.n1 <= 0.0:
        return math.inf
    limits, server = problem.limits, problem.server
    least = region.m1 * server.cycles * problem.batches.server_low / server.clock_max
    return (limits.delay - least) / region.n1 - limits.down_s


@njit(cache=True, error_model="numpy")
def most_paid_batch(server: Server, time: float, joules: float) -> float:
    """The largest real batch the server can compute within `time` for `joules`, were there no clock limit.

    At its most frugal clock where there is time for that; else just in time, ``kappa cycles^3 b^3 / t^2 + static t``.
    """
    clock = (server.static / (2.0 * server.capacitance)) ** (1.0 / 3.0)
    if clock > 0.0:
        frugal = joules / (server.cycles * (server.capacitance * clock * clock + server.static / clock))
        if frugal * server.cycles <= time * clock:
            return frugal
    left = max(joules - server.static * time, 0.0)
    return (left * time * time / (server.capacitance * server.cycles**3)) ** (1.0 / 3.0)


@njit(cache=True, error_model="numpy")
def most_server_batch(problem: Problem, region: Region) -> float:
    """The largest whole server batch that the region's fewest rounds and shortest span leave time and energy for."""
    if region.m1 <= 0.0:
        return problem.batches.server_high
    limits, server = problem.limits, problem.server
    least = max(region.s1, least_uploads(problem.devices, limits)) + limits.down_s
    time = (limits.delay - region.n1 * least) / region.m1
    joules = (limits.energy - region.n1 * limits.down_j) / region.m1
    if time <= 0.0 or joules <= 0.0:
        return 0.0
    fits = min(time * server.clock_max / server.cycles, most_paid_batch(server, time, joules))
    return min(problem.batches.server_high, np.floor(fits * (1.0 + 1e-9)))


@njit(cache=True, error_model="numpy")
def batch_within(problem: Problem, k: int, time: float, rounds: float) -> float:
    """The largest whole batch that device `k` can compute and upload in `time`: at its fastest, and within its battery.

    Battery: ``max over t of b(time - t, battery/rounds - upload energy in t)``, concave in the upload time `t`, by
    golden section.
    """
    d = problem.devices
    fastest = d.span[k] / d.exponent_max[k]
    most = (time - fastest) * d.clock_max[k] / d.cycles[k]
    if d.battery[k] < HUGE and rounds > 0.0 and most > 0.0:
        processor = Server(d.cycles[k], d.capacitance[k], d.clock_max[k], d.static[k])
        most = _most_battery_batch(d, k, processor, fastest, time, d.battery[k] / rounds)
    return min(problem.batches.high[k], np.floor(most * (1.0 + 1e-9)))


@njit(cache=True, error_model="numpy")
def most_batch(problem: Problem, k: int, span: float, spare: float, rounds: float) -> float:
    """The largest whole batch that device `k` can compute within a span: at its fastest, and within its battery.

    TDMA: the upload takes none of the span; it costs at least what one costs that takes `spare` seconds longer than
    the fastest.
    """
    if not problem.limits.tdma:
        return batch_within(problem, k, span, rounds)
    d = problem.devices
    most = span * d.clock_max[k] / d.cycles[k]
    if d.battery[k] < HUGE and rounds > 0.0 and most > 0.0:
        processor = Server(d.cycles[k], d.capacitance[k], d.clock_max[k], d.static[k])
        upload = upload_within(d, k, d.span[k] / d.exponent_max[k] + max(spare, 0.0))
        most = min(most, most_paid_batch(processor, span, max(d.battery[k] / rounds - upload, 0.0)))
    return min(problem.batches.high[k], np.floor(most * (1.0 + 1e-9)))


@njit(cache=True, error_model="numpy")
def _most_battery_batch(d: Devices, k: int, processor: Server, fastest: float, span: float, allowed: float) -> float:
    left, right = fastest, min(span, HUGE)
    best = 0.0
    inner1, inner2 = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
    value1 = _battery_batch(d, k, processor, inner1, span, allowed)
    value2 = _battery_batch(d, k, processor, inner2, span, allowed)
    best = max(_battery_batch(d, k, processor, fastest, span, allowed), value1, value2)
    for _ in range(70):
        if value1 >= value2:
            right, inner2, value2 = inner2, inner1, value1
            inner1 = right - GOLDEN * (right - left)
            value1 = _battery_batch(d, k, processor, inner1, span, allowed)
            best = max(best, value1)
        else:
            left, inner1, value1 = inner1, inner2, value2
            inner2 = left + GOLDEN * (right - left)
            value2 = _battery_batch(d, k, processor, inner2, span, allowed)
            best = max(best, value2)
    return best


@njit(cache=True, error_model="numpy")
def _battery_batch(d: Devices, k: int, processor: Server, upload: float, span: float, allowed: float) -> float:
    """The largest batch when the upload takes `upload` seconds; below zero (how short it is) when that is too dear."""
    joules = allowed - upload * (d.noise[k] * math.expm1(min(d.span[k] / upload, 700.0)) + d.circuit[k])
    if joules <= 0.0:
        return joules
    time = max(span - upload, 0.0)
    return min(time * processor.clock_max / processor.cycles, most_paid_batch(processor, time, joules))


@njit(cache=True, error_model="numpy")
def most_batches(problem: Problem, region: Region) -> Floats:
    """The largest whole batches that the devices can compute in a region, shape (K,); zero where no span fits.

    TDMA: a device may have all of a round but for the others' uploads at their fastest; alone in that time it is as
    with FDMA. Where the band is shared, each device may have it for itself, in a span in which all of them fit into it.
    """
    d, limits = problem.devices, problem.limits
    most = np.zeros(problem.batches.high.size)
    longest = min(most_span(problem, region), region.s2)
    uploads = least_uploads(d, limits)
    if limits.band > 0.0:
        if region.n1 > 0.0 and longest < limits.shortest * NEARLY:
            return most
        alone = band_alone(problem.devices, limits.band)
        problem = Problem(alone, problem.server, limits, problem.batches, problem.criterion)
    for k in range(most.size):
        others = uploads - d.span[k] / d.exponent_max[k] if limits.tdma else 0.0
        most[k] = batch_within(problem, k, longest - others, region.n1)
    return most


@njit(cache=True, error_model="numpy")
def server_bill(problem: Problem, prices: Prices, most: float, m: float, psi0: float) -> float:
    """The least that `m` pre-training rounds cost: noise and samples."""
    if m <= 0.0:
        return 0.0
    return cheapest(psi0, m * prices.server_cost, problem.batches.server_low, most)


@njit(cache=True, error_model="numpy")
def fleet_bill(
    problem: Problem,
    prices: Prices,
    least_span: float,
    most: Floats,
    n: float,
    psi: float,
    home_n: float,
    home_psi: float,
) -> float:
    """The least that `n` fine-tuning rounds cost: noise, samples, uploads, broadcasts. Concave in (n, psi).

    A split battery's sides pick their ratios by what they prove at `home_n` and `home_psi`, which makes the bill
    concave over all the rounds that are given the same home.
    """
    if n <= 0.0:
        return 0.0
    batches, variance = problem.batches, problem.devices.variance
    bill = n * (prices.round_cost + (0.0 if problem.limits.tdma else prices.slack * least_span))
    for k in range(variance.size):
        if most[k] < batches.low[k]:
            return math.inf
        bill += cheapest(psi * variance[k], n * prices.sample_costs[k], batches.low[k], most[k])
    for row in range(prices.halves.shape[0]):
        half = prices.halves[row]
        k = int(half[0])
        if k < 0:
            break
        low, high = batches.low[k], most[k]
        noise, home = psi * variance[k], home_psi * variance[k]
        best = math.inf
        if half[1] >= low:
            best = _side_bill(half, 5, low, min(half[1], high), noise, n, home, home_n)
        if half[1] + 1.0 <= high:
            best = min(best, _side_bill(half, 8, max(half[1] + 1.0, low), high, noise, n, home, home_n))
        whole = cheapest(noise, n * half[2], low, high) + n * half[3] - half[4]
        bill += best - whole
    return bill


@njit(cache=True, error_model="numpy")
def _side_bill(
    half: Floats, own: int, low: float, high: float, noise: float, n: float, home: float, home_n: float
) -> float:
    """What a split battery's device costs for batches `low` to `high`, at its main ratio or at this side's `own`."""
    main = cheapest(home, home_n * half[2], low, high) + home_n * half[3] - half[4]
    other = cheapest(home, home_n * half[own], low, high) + home_n * half[own + 1] - half[own + 2]
    at = own if other > main else 2
    return cheapest(noise, n * half[at], low, high) + n * half[at + 1] - half[at + 2]
