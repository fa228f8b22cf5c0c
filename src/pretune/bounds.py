"""Proves a plan's lower bound again, from the prices in its certificate and nothing else.

Weak duality (math.md section 4): price a joule at ``lambda``, a second at ``nu = lambda omega``, each device's share
of a round's span at ``lambda share_k`` and its battery at ``lambda (ratio_k - 1)``. Whatever the prices, no decision
with rounds ``(M, N)`` and a span of at least ``s1`` is worth less than

    [ phi + min_b0 (psi0/b0 + M c0 b0) + N (C + slack s1) + sum_k min_bk (psi A_k/b_k + N c_k b_k) - budgets ] / weight

(`budgets` at their prices) with whole batches in their ranges. A battery may have two more ratios, one for batches up
to a whole number and one for those above it (`halves`): any ratio is valid for either side, so each side takes what
proves more, and the device's bill is the lesser of the two sides'. `pretune.proof` turns such
bounds into a proof. This file shares no code with the planner; it is plain NumPy over the cost model's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.convergence.criteria import ConvergenceCriterion, Final, criterion_of, device_noise
from pretune.errors import InputError
from pretune.physics import cost, link
from pretune.physics.types import Floats
from pretune.scenario import Access, Scenario

SAME = 1e-9
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True, kw_only=True)
class System:
    """The scenario's numbers as the bound needs them; arrays have shape (K,), SI units."""

    cycles: Floats
    noise: Floats
    span: Floats
    exponent_max: Floats
    variance: Floats
    server_cycles: float
    down_s: float
    down_j: float
    scenario: Scenario
    criterion: ConvergenceCriterion

    @property
    def tdma(self) -> bool:
        """Whether uploads take turns."""
        return self.scenario.radio.access is Access.TDMA

    @property
    def up_s(self) -> float:
        """Seconds that all uploads take at the least where they take turns; zero where they don't."""
        return float((self.span / self.exponent_max).sum()) if self.tdma else 0.0


@dataclass(frozen=True, kw_only=True)
class Priced:
    """What the prices of one set make everything cost, in units of the criterion's numerator.

    Numbers and `sample_costs` of shape (K,); or, a row for each box, arrays of shape (B,) and (B, K).
    """

    energy: Any
    delay: Any
    server_cost: Any
    sample_costs: Floats
    round_cost: Any
    slack: Any
    budget: Any
    halves: Floats
    """For each device with a battery: a whole batch, and the costs of a sample and an upload and the battery's worth at
    three ratios: the device's own, the one up to that batch, the one above it. Shape (D, 10), or (B, D, 10)."""
    home: tuple[float, float, float]
    """The rounds of both stages and the span where the set was found: a hint where to try it, no part of the proof."""


Boxes = Floats
"""Boxes as rows ``m1, m2, n1, n2, s1, s2``: rounds ``m1..m2 x n1..n2``, spans ``s1..s2`` of a fine-tuning round."""


def system_of(scenario: Scenario) -> System:
    """The numbers of a scenario."""
    fleet, work, radio = scenario.devices, scenario.workload, scenario.radio
    noise = radio.noise_psd_w_per_hz * fleet.bandwidth_hz / fleet.gain
    down = cost.broadcast(scenario)
    return System(
        cycles=work.flops_per_sample / fleet.flops_per_cycle,
        noise=noise,
        span=work.upload_bits * link.LN2 / fleet.bandwidth_hz,
        exponent_max=np.log1p(fleet.max_power_w / noise),
        variance=device_noise(scenario),
        server_cycles=work.flops_per_sample / scenario.server.flops_per_cycle,
        down_s=down.time_s,
        down_j=down.energy_j,
        scenario=scenario,
        criterion=criterion_of(scenario),
    )


def _best_clock(omega: Floats, capacitance: Floats, clock_max: Floats, static: Floats) -> Floats:
    """``min(f_max, ((omega + P_static) / (2 kappa))^(1/3))``: the clock at which a sample costs least."""
    return np.minimum(clock_max, np.cbrt((omega + static) / (2.0 * capacitance)))


def sample_cost(omega: Floats, cycles: Floats, capacitance: Floats, clock_max: Floats, static: Floats) -> Floats:
    """Joules a sample costs when a second is worth `omega`; zero where both time and idling are free."""
    clock = _best_clock(omega, capacitance, clock_max, static)
    free = clock <= 0.0
    safe = np.where(free, 1.0, clock)
    return np.where(free, 0.0, cycles * (capacitance * safe**2 + (static + omega) / safe))


def upload_cost(paid: Floats, noise: Floats, span: Floats, exponent_max: Floats) -> Floats:
    """``min over t of noise t (e^(span/t) - 1) + paid t``, from below: what an upload costs at `paid` per second.

    Solved in ``x = span / t`` by bisection and Newton; the function is convex in `t`, so its tangent at the point
    found, over all feasible `t` up to where the cost is certainly higher, is a bound that needs no exactness.
    """
    target = paid / noise
    low, high = np.zeros_like(noise), exponent_max.copy()
    for _ in range(200):
        x = 0.5 * (low + high)
        above = x * np.exp(x) - np.expm1(x) > target
        high = np.where(above, x, high)
        low = np.where(above, low, x)
    x = 0.5 * (low + high)
    at_limit = exponent_max * np.exp(exponent_max) - np.expm1(exponent_max) <= target
    x = np.where(at_limit, exponent_max, x)
    idle = x <= 1e-12
    safe = np.where(idle, 1.0, x)
    found = span * (noise * np.expm1(safe) + paid) / safe
    # nothing paid for time: the least energy is noise * span, reached as the time grows without end
    return np.where(idle, noise * span, found)


def priced(system: System, entry: Mapping[str, Any]) -> Priced:
    """The costs that a certificate's price set implies."""
    scenario = system.scenario
    fleet, server, budget = scenario.devices, scenario.server, scenario.budget
    lam = number(entry, "energy")
    omega = number(entry, "omega")
    shares = column(entry, "shares", len(fleet), 0.0)
    ratios = column(entry, "ratios", len(fleet), 1.0)
    if lam < 0.0 or omega < 0.0 or np.any(shares < 0.0) or np.any(ratios < 1.0):
        raise InputError("plan.certificate: prices must not be negative, ratios not below one")
    omega = max(omega, float(shares.sum()))
    own = shares / ratios
    upload_price = omega / ratios if system.tdma else own
    costs = ratios * sample_cost(own, system.cycles, fleet.capacitance, fleet.max_clock_hz, fleet.static_power_w)
    uploads = ratios * upload_cost(upload_price + fleet.circuit_power_w, system.noise, system.span, system.exponent_max)
    limited = ratios > 1.0
    if np.any(limited & ~np.isfinite(fleet.battery_j)):
        raise InputError("plan.certificate: prices a battery that the scenario does not limit")
    batteries = float(((ratios - 1.0)[limited] * fleet.battery_j[limited]).sum())
    server_cost = sample_cost(
        np.array([omega]),
        np.array([system.server_cycles]),
        np.array([server.capacitance]),
        np.array([server.max_clock_hz]),
        np.array([server.static_power_w]),
    )
    return Priced(
        energy=lam,
        delay=lam * omega,
        server_cost=lam * float(server_cost[0]),
        sample_costs=lam * costs,
        round_cost=lam * (system.down_j + omega * system.down_s + float(uploads.sum())),
        slack=lam * (omega - float(shares.sum())),
        halves=_halves(system, entry, lam, omega, shares, ratios),
        home=home_of(entry),
        budget=lam * (budget.energy_j + omega * budget.delay_s + batteries),
    )


def _halves(
    system: System, entry: Mapping[str, Any], lam: float, omega: float, shares: Floats, ratios: Floats
) -> Floats:
    """The rows of `Priced.halves`; a battery without a split has its own ratio on both sides, up to any batch."""
    fleet = system.scenario.devices
    which = np.flatnonzero(np.isfinite(fleet.battery_j))
    rows = np.full((len(which), 10), np.inf)
    split = np.repeat(ratios[which, None], 3, axis=1)
    places = {int(k): at for at, k in enumerate(which)}
    listed = entry.get("halves", [])
    shaped = isinstance(listed, list) and all(isinstance(half, list) and len(half) == 4 for half in listed)
    for half in listed if shaped else [[]]:
        k, batch, low, high = (number({"halves": value}, "halves") for value in half) if half else (-1.0,) * 4
        at = places.pop(int(k), None) if float(k).is_integer() else None
        if at is None or not (batch >= 1.0 and batch.is_integer() and low >= 1.0 and high >= 1.0):
            raise InputError(
                "plan.certificate.prices: halves should hold, for devices with a battery, the device's number, "
                "a whole batch and two ratios not below one"
            )
        rows[at, 0], split[at, 1:] = batch, (low, high)
    for side in range(3):
        ratio = split[:, side]
        own = shares[which] / ratio
        paid = (omega / ratio if system.tdma else own) + fleet.circuit_power_w[which]
        samples = sample_cost(
            own,
            system.cycles[which],
            fleet.capacitance[which],
            fleet.max_clock_hz[which],
            fleet.static_power_w[which],
        )
        uploads = upload_cost(paid, system.noise[which], system.span[which], system.exponent_max[which])
        rows[:, 1 + 3 * side] = lam * ratio * samples
        rows[:, 2 + 3 * side] = lam * ratio * uploads
        rows[:, 3 + 3 * side] = lam * (ratio - 1.0) * fleet.battery_j[which]
    return rows


def home_of(entry: Mapping[str, Any]) -> tuple[float, float, float]:
    """Where a price set says it was found.

    Raises:
        InputError: that is no three numbers.
    """
    home = entry.get("home", [0.0, 0.0, 0.0])
    if not isinstance(home, list) or len(home) != 3:
        raise InputError("plan.certificate.prices: home should hold three numbers")
    m, n, span = (max(number({"home": value}, "home"), 0.0) for value in home)
    return m, n, span


def number(entry: Mapping[str, Any], key: str) -> float:
    """A finite number of a certificate's price set.

    Raises:
        InputError: it is missing or no finite number.
    """
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"plan.certificate.prices: {key} holds {value!r}, should hold a finite number")
    return float(value)


def column(entry: Mapping[str, Any], key: str, count: int, default: float) -> Floats:
    """A price set's list of `count` finite numbers, or `count` times the default.

    Raises:
        InputError: it is no such list.
    """
    values = entry.get(key)
    if values is None:
        return np.full(count, default)
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape != (count,) or not np.all(np.isfinite(found)):
        raise InputError(f"plan.certificate.prices: {key} should hold {count} finite numbers")
    return found


def _cheapest(noise: Floats, unit_cost: Floats, high: Floats, low: Floats | float = 1.0) -> Floats:
    """``min over whole b in [low, high] of noise/b + cost b``, element-wise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        real = np.where(unit_cost > 0.0, np.sqrt(noise / unit_cost), np.where(noise > 0.0, high, 1.0))
    down = np.clip(np.floor(real), low, high)
    up = np.minimum(down + 1.0, high)
    cheapest: Floats = np.minimum(noise / down + unit_cost * down, noise / up + unit_cost * up)
    return cheapest


def server_paid(system: System, time: Floats, joules: Floats) -> Floats:
    """The largest real batch the server can compute within `time` for `joules`, were there no clock limit."""
    server = system.scenario.server
    one = np.ones_like(time)
    return _paid_batch(system.server_cycles * one, server.capacitance * one, server.static_power_w * one, time, joules)


def _paid_batch(cycles: Floats, capacitance: Floats, static: Floats, time: Floats, joules: Floats) -> Floats:
    """The largest real batch a processor can compute within `time` for `joules`, were there no clock limit."""
    left = np.maximum(joules - static * time, 0.0)
    in_time = np.cbrt(left * time**2 / (capacitance * cycles**3))
    clock = np.cbrt(static / (2.0 * capacitance))
    frugal = joules / (cycles * (capacitance * clock**2 + static / clock))
    return np.where((clock > 0.0) & (frugal * cycles <= time * clock), frugal, in_time)


def _upload_within(time: Floats, circuit: Floats, noise: Floats, span: Floats, exponent_max: Floats) -> Floats:
    """The least joules of an upload that takes at most `time` seconds, shape (B, K): convex in the time it takes."""
    idle = np.broadcast_to(upload_cost(circuit, noise, span, exponent_max), time.shape)
    x = np.minimum(span / time, exponent_max)
    hurried = span / x * (noise * np.expm1(x) + circuit)
    # longer than the cheapest upload would take, `time` is no limit
    binds = (x > 1e-9) & (circuit <= noise * (x * np.exp(x) - np.expm1(x)))
    return np.where(binds, hurried, idle)


def _most_batches(system: System, longest: Floats, spare: Floats, rounds: Floats) -> Floats:
    """The largest real batches within spans `longest`, shape (B, K): at full speed, and within the batteries.

    A battery pays, in each of at least `rounds` rounds, for an upload in some time `t` and for computing in the rest:
    concave in `t`, so a golden section finds the most. TDMA: the upload has a time of its own, at most `spare`
    seconds more than the least.
    """
    fleet = system.scenario.devices
    fastest = np.zeros(len(fleet)) if system.tdma else system.span / system.exponent_max
    most = (longest[:, None] - fastest) * fleet.max_clock_hz / system.cycles
    which = np.flatnonzero(np.isfinite(fleet.battery_j))
    if not len(which):
        return most
    cycles, noise, span = system.cycles[which], system.noise[which], system.span[which]
    capacitance, static = fleet.capacitance[which], fleet.static_power_w[which]
    speed, circuit = fleet.max_clock_hz[which] / cycles, fleet.circuit_power_w[which]
    allowed = fleet.battery_j[which] / rounds[:, None]
    whole = np.minimum(longest, 1e290)[:, None] + np.zeros(len(which))

    def after(upload: Floats) -> Floats:
        joules = allowed - upload * (noise * np.expm1(np.minimum(span / upload, 700.0)) + circuit)
        time = np.maximum(whole - upload, 0.0)
        paid = _paid_batch(cycles, capacitance, static, time, np.maximum(joules, 0.0))
        return np.where(joules > 0.0, np.minimum(time * speed, paid), joules)

    if system.tdma:
        most_time = span / system.exponent_max[which] + np.maximum(spare, 0.0)[:, None]
        idle = _upload_within(most_time, circuit, noise, span, system.exponent_max[which])
        paid = _paid_batch(cycles, capacitance, static, whole, np.maximum(allowed - idle, 0.0))
        capped = np.minimum(most[:, which], paid)
    else:
        left = fastest[which] + np.zeros_like(whole)
        right = np.maximum(whole, left)
        capped = after(left)
        for _ in range(75):
            inner1, inner2 = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
            value1, value2 = after(inner1), after(inner2)
            capped = np.maximum(capped, np.maximum(value1, value2))
            lower = value1 >= value2
            right, left = np.where(lower, inner2, right), np.where(lower, left, inner1)
    most[:, which] = np.where((rounds > 0.0)[:, None], np.minimum(capped, most[:, which]), most[:, which])
    return most


def bound(system: System, prices: Priced, boxes: Boxes) -> Floats:
    """What the prices prove for every pair of rounds of each box except (0, 0); infinity where a box holds no plan.

    Shape (B, 6) in, shape (B,) out.
    """
    scenario = system.scenario
    fleet, server, delay = scenario.devices, scenario.server, scenario.budget.delay_s
    m1, m2, n1, n2, s1, s2 = boxes.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        time = np.maximum(delay - n1 * (s1 + system.down_s + system.up_s), 0.0) / m1
        joules = np.maximum(scenario.budget.energy_j - n1 * system.down_j, 0.0) / m1
        fits = np.minimum(time * server.max_clock_hz / system.server_cycles, server_paid(system, time, joules))
        fits = np.minimum(server.samples, np.floor(fits * (1.0 + SAME)))
        server_high = np.where(m1 > 0.0, fits, float(server.samples))
        least = m1 * system.server_cycles / server.max_clock_hz
        whole = np.where(n1 > 0.0, (delay - least) / n1 - system.down_s - system.up_s, np.inf)
        most = _most_batches(system, np.minimum(s2, whole), whole - s1, n1)
        most = np.floor(most * (1.0 + SAME))
        high = np.minimum(fleet.samples, np.where((n1 > 0.0)[:, None], most, np.inf))
    empty = (server_high < 1.0) | np.any(high < 1.0, axis=1)
    server_high, high = np.maximum(server_high, 1.0), np.maximum(high, 1.0)

    def server_bill(m: Floats, psi0: Floats) -> Floats:
        return np.where(m > 0.0, _cheapest(psi0, m * prices.server_cost, server_high), 0.0)

    limited = np.flatnonzero(np.isfinite(fleet.battery_j))
    split = bool(np.any(np.isfinite(prices.halves[..., 0])))
    home_n = 0.5 * (n1 + n2)
    home_psi = system.criterion.at(m1, home_n).psi

    def fleet_bill(n: Floats, psi: Floats) -> Floats:
        samples = _cheapest(psi[:, None] * system.variance, n[:, None] * prices.sample_costs, high).sum(axis=1)
        if split:
            variance, most = system.variance[limited], high[:, limited]
            samples = samples + _sides(variance, prices.halves, most, (n, psi), (home_n, home_psi)).sum(axis=1)
        return np.where(n > 0.0, n * (prices.round_cost + prices.slack * s1) + samples, 0.0)

    def at(m: Floats, n: Floats) -> Floats:
        c = system.criterion.at(m, n)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = (c.phi + server_bill(m, c.psi0) + fleet_bill(n, c.psi) - prices.budget) / c.weight
        return np.where((m > 0.0) | (n > 0.0), value, np.inf)

    criterion = system.criterion
    single = (m1 == m2) & (n1 == n2)
    # at fixed prices numerator and weight of trajectory are linear in the rounds: the quotient is least at a corner
    corners = [at(m1, n1), at(m2, n1), at(m1, n2), at(m2, n2)]
    origin = (m1 == 0.0) & (n1 == 0.0)
    corners += [
        np.where(origin & (m2 >= 1.0), at(np.minimum(m2, 1.0), n1), np.inf),
        np.where(origin & (n2 >= 1.0), at(m1, np.minimum(n2, 1.0)), np.inf),
    ]
    value = np.min(corners, axis=0)
    if isinstance(criterion, Final):
        value = np.where(single, value, _final_bound(criterion, boxes, server_bill, fleet_bill) - prices.budget)
    return np.where(empty, np.inf, value)


def _sides(
    variance: Floats, halves: Floats, high: Floats, at: tuple[Floats, Floats], home: tuple[Floats, Floats]
) -> Floats:
    """What the sides of the batteries' whole batches add to the bill at rounds and psi `at`, shape (B, D).

    Each side takes the ratio that proves more at `home`: one choice for all rounds of a box keeps the bill concave.
    """
    batch = halves[..., 0]

    def bill(which: int, point: tuple[Floats, Floats], low: Floats | float, top: Floats) -> Floats:
        n, psi = point[0][:, None], point[1][:, None]
        sample, upload, worth = (halves[..., 1 + 3 * which + column] for column in range(3))
        return _cheapest(psi * variance, n * sample, top, low) + n * upload - worth

    def side(which: int, low: Floats | float, top: Floats) -> Floats:
        own = bill(which, home, low, top) > bill(0, home, low, top)
        return np.where(own, bill(which, at, low, top), bill(0, at, low, top))

    below = side(1, 1.0, np.minimum(batch, high))
    reached = batch + 1.0 <= high
    start = np.where(reached, batch + 1.0, 1.0)
    above = np.where(reached, side(2, start, np.maximum(high, start)), np.inf)
    added: Floats = np.minimum(below, above) - bill(0, at, 1.0, high)
    return added


def _final_bound(
    criterion: Final,
    boxes: Boxes,
    server_bill: Callable[[Floats, Floats], Floats],
    fleet_bill: Callable[[Floats, Floats], Floats],
) -> Floats:
    """Criterion `final` over boxes: corner values; or, better, phi's tangent plane and the bills' chords.

    phi is convex in the rounds where the gap is at least the floor that the shift leaves; the bills are concave in
    the rounds of their stage; the server's bill falls with the fine-tuning rounds, so it is taken at the last.
    """
    m1, m2, n1, n2 = boxes.T[:4]
    c11, c12 = criterion.at(m1, n1), criterion.at(m1, n2)
    c21, c22 = criterion.at(m2, n1), criterion.at(m2, n2)
    server1, server2 = server_bill(m1, c12.psi0), server_bill(m2, c22.psi0)
    fleet1, fleet2 = fleet_bill(n1, c11.psi), fleet_bill(n2, c22.psi)
    value = np.min([c11.phi, c12.phi, c21.phi, c22.phi], axis=0)
    value = value + np.minimum(server1, server2) + np.minimum(fleet1, fleet2)
    if criterion.gap >= criterion.shift_floor and criterion.log_r > -50.0 and criterion.log_q > -50.0:
        m0, n0 = 0.5 * (m1 + m2), 0.5 * (n1 + n2)
        keep1 = np.exp(criterion.log_q * n0)
        both = np.exp(criterion.log_r * m0) * keep1 * (criterion.gap - criterion.shift_floor)
        middle = both + keep1 * criterion.shift_floor
        by_m, by_n = criterion.log_r * both, criterion.log_q * middle
        flat = middle + np.minimum(by_m * (m1 - m0) + server1, by_m * (m2 - m0) + server2)
        flat += np.minimum(by_n * (n1 - n0) + fleet1, by_n * (n2 - n0) + fleet2)
        value = np.maximum(value, flat)
    least: Floats = value
    return least
