"""Proves a plan's lower bound again, from the prices in its certificate and nothing else.

Weak duality (math.md section 4): price a joule at ``lambda``, a second at ``nu = lambda omega``, each device's share
of a round's span at ``lambda share_k`` and its battery at ``lambda (ratio_k - 1)``. Whatever the prices, no decision
with rounds ``(M, N)`` and a span of at least ``s1`` is worth less than

    [ phi + min_b0 (psi0/b0 + M c0 b0) + N (C + slack s1) + sum_k min_bk (psi A_k/b_k + N c_k b_k) - budgets ] / weight

(`budgets` at their prices) with whole batches in their ranges. A battery may have two more ratios, one for batches up
to a whole number and one for those above it (`halves`): any ratio is valid for either side, so each side takes what
proves more, and the device's bill is the lesser of the two sides'. Where the band is shared, ``lambda gamma`` prices a
hertz of it in every fine-tuning round, and ``C`` holds the uploads with their shares paid for, less what the band is
worth. `pretune.proof` turns such bounds into a proof. This file shares no code with the planner; it is plain NumPy
over the cost model's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.convergence.criteria import ConvergenceCriterion, criterion_of, device_noise
from pretune.corners import least_over
from pretune.curve import Curve
from pretune.errors import InputError
from pretune.physics import cost, link
from pretune.physics.types import Floats
from pretune.scenario import Access, Scenario
from pretune.uplinks import shared_upload_cost, shortest_shared
from pretune.uploads import upload_cost

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
    def band_hz(self) -> float | None:
        """The band that the plan shares out, if it does."""
        radio = self.scenario.radio
        return radio.uplink_bandwidth_hz if radio.shares_decided else None

    @cached_property
    def shortest(self) -> float:
        """No fine-tuning round of one sample each takes less, broadcast (and, with TDMA, uploads) apart."""
        computing = self.cycles / self.scenario.devices.max_clock_hz
        if self.tdma:
            return float(computing.max())
        if self.band_hz is None:
            return float((computing + self.span / self.exponent_max).max())
        return shortest_shared(computing, self.span, self.exponent_max)

    @cached_property
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
    band: Any = 0.0
    """Per hertz of a shared band and round."""
    curve: Curve | None = None
    """For large fleets, in place of the sample costs: what samples and noise cost together."""


Boxes = Floats
"""Boxes as rows ``m1, m2, n1, n2, s1, s2``: rounds ``m1..m2 x n1..n2``, fine-tuning rounds of length ``s1..s2``.

The length is a round's time without the broadcast: the span for FDMA, the compute phase and all uploads for TDMA.
"""


def system_of(scenario: Scenario) -> System:
    """The numbers of a scenario."""
    fleet, work, radio = scenario.devices, scenario.workload, scenario.radio
    # a shared band: the links as if each device had all of it
    band_hz = radio.uplink_bandwidth_hz if radio.shares_decided else None
    bandwidth_hz = fleet.bandwidth_hz if band_hz is None else np.full(len(fleet), band_hz)
    noise = radio.noise_psd_w_per_hz * bandwidth_hz / fleet.gain
    down = cost.broadcast(scenario)
    return System(
        cycles=work.flops_per_sample / fleet.flops_per_cycle,
        noise=noise,
        span=work.upload_bits * link.LN2 / bandwidth_hz,
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


def priced(system: System, entry: Mapping[str, Any]) -> Priced:
    """The costs that a certificate's price set implies."""
    scenario = system.scenario
    fleet, budget = scenario.devices, scenario.budget
    lam = number(entry, "energy")
    omega = number(entry, "omega")
    shares = column(entry, "shares", len(fleet), 0.0)
    ratios = column(entry, "ratios", len(fleet), 1.0)
    gamma = number({"band": entry.get("band", 0.0)}, "band")
    if lam < 0.0 or omega < 0.0 or gamma < 0.0 or np.any(shares < 0.0) or np.any(ratios < 1.0):
        raise InputError("plan.certificate: prices must not be negative, ratios not below one")
    if gamma > 0.0 and system.band_hz is None:
        raise InputError("plan.certificate: prices a band that the scenario does not share out")
    omega = max(omega, float(shares.sum()))
    own = shares / ratios
    upload_price = omega / ratios if system.tdma else own
    costs = ratios * sample_cost(own, system.cycles, fleet.capacitance, fleet.max_clock_hz, fleet.static_power_w)
    everyone = np.arange(len(fleet))
    uploads = ratios * _uploads(system, everyone, upload_price + fleet.circuit_power_w, gamma / ratios)
    worth = gamma * (system.band_hz or 0.0)
    limited = ratios > 1.0
    if np.any(limited & ~np.isfinite(fleet.battery_j)):
        raise InputError("plan.certificate: prices a battery that the scenario does not limit")
    batteries = float(((ratios - 1.0)[limited] * fleet.battery_j[limited]).sum())
    return Priced(
        energy=lam,
        delay=lam * omega,
        server_cost=lam * server_cost_of(system, omega),
        sample_costs=lam * costs,
        round_cost=lam * (system.down_j + omega * system.down_s + float(uploads.sum()) - worth),
        slack=lam * (omega - float(shares.sum())),
        halves=_halves(system, entry, lam, omega, shares, ratios),
        band=lam * gamma,
        home=home_of(entry),
        budget=lam * (budget.energy_j + omega * budget.delay_s + batteries),
    )


def _halves(
    system: System, entry: Mapping[str, Any], lam: float, omega: float, shares: Floats, ratios: Floats
) -> Floats:
    """The rows of `Priced.halves`; a battery without a split has its own ratio on both sides, up to any batch."""
    fleet = system.scenario.devices
    gamma = number({"band": entry.get("band", 0.0)}, "band")
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
        uploads = _uploads(system, which, paid, gamma / ratio)
        rows[:, 1 + 3 * side] = lam * ratio * samples
        rows[:, 2 + 3 * side] = lam * ratio * uploads
        rows[:, 3 + 3 * side] = lam * (ratio - 1.0) * fleet.battery_j[which]
    return rows


def _uploads(system: System, which: NDArray[np.intp], paid: Floats, gamma: Floats) -> Floats:
    """What the uploads of some devices cost at `paid` per second and, of a shared band, `gamma` per hertz."""
    noise, span, most = system.noise[which], system.span[which], system.exponent_max[which]
    if system.band_hz is None:
        return upload_cost(paid, noise, span, most)
    return shared_upload_cost(paid, gamma * system.band_hz, noise, span, most)


def multipliers_of(system: System, prices: Priced, m: float, n: float) -> dict[str, float]:
    """What one more joule, second or (of a shared band) hertz changes the criterion by at rounds ``(m, n)``."""
    weight = float(system.criterion.at(m, n).weight)
    found = {"energy_j": -prices.energy / weight, "delay_s": -prices.delay / weight}
    if system.band_hz is not None:
        found["bandwidth_hz"] = -n * prices.band / weight
    return found


def server_cost_of(system: System, omega: float) -> float:
    """Joules that a sample costs at the server when a second is worth `omega`."""
    server = system.scenario.server
    numbers = (omega, system.server_cycles, server.capacitance, server.max_clock_hz, server.static_power_w)
    return float(sample_cost(*(np.array([value]) for value in numbers))[0])


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


def cheapest(noise: Floats, unit_cost: Floats, high: Floats, low: Floats | float = 1.0) -> Floats:
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


def _most_batches(system: System, longest: Floats, rounds: Floats) -> Floats:
    """The largest real batches in rounds of length `longest`, shape (B, K): at full speed, and within the batteries.

    A battery pays, in each of at least `rounds` rounds, for an upload in some time `t` and for computing in the rest:
    concave in `t`, so a golden section finds the most. TDMA: a device may have all of the round but for the others'
    uploads at their fastest.
    """
    fleet = system.scenario.devices
    fastest = system.span / system.exponent_max
    times = longest[:, None] - (fastest.sum() - fastest if system.tdma else np.zeros(len(fleet)))
    most = (times - fastest) * fleet.max_clock_hz / system.cycles
    which = np.flatnonzero(np.isfinite(fleet.battery_j))
    if not len(which):
        return most
    cycles, noise, span = system.cycles[which], system.noise[which], system.span[which]
    capacitance, static = fleet.capacitance[which], fleet.static_power_w[which]
    speed, circuit = fleet.max_clock_hz[which] / cycles, fleet.circuit_power_w[which]
    allowed = fleet.battery_j[which] / rounds[:, None]
    whole = np.minimum(times[:, which], 1e290)

    def after(upload: Floats) -> Floats:
        joules = allowed - upload * (noise * np.expm1(np.minimum(span / upload, 700.0)) + circuit)
        time = np.maximum(whole - upload, 0.0)
        paid = _paid_batch(cycles, capacitance, static, time, np.maximum(joules, 0.0))
        return np.where(joules > 0.0, np.minimum(time * speed, paid), joules)

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


def most_server(system: System, boxes: Boxes, shortest: Floats) -> Floats:
    """The largest whole server batches that the boxes' fewest rounds of length `shortest` leave time and energy for."""
    scenario, server = system.scenario, system.scenario.server
    m1, n1 = boxes[:, 0], boxes[:, 2]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        time = np.maximum(scenario.budget.delay_s - n1 * (shortest + system.down_s), 0.0) / m1
        joules = np.maximum(scenario.budget.energy_j - n1 * system.down_j, 0.0) / m1
        fits = np.minimum(time * server.max_clock_hz / system.server_cycles, server_paid(system, time, joules))
        fits = np.minimum(server.samples, np.floor(fits * (1.0 + SAME)))
    return np.where(m1 > 0.0, fits, float(server.samples))


def longest_span(system: System, boxes: Boxes) -> Floats:
    """The longest spans (TDMA: of computing alone) that the boxes' fewest rounds leave within the delay.

    Infinity without fine-tuning.
    """
    m1, n1 = boxes[:, 0], boxes[:, 2]
    least = m1 * system.server_cycles / system.scenario.server.max_clock_hz
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        left = (system.scenario.budget.delay_s - least) / n1 - system.down_s - system.up_s
    return np.where(n1 > 0.0, left, np.inf)


def server_bills(prices: Priced, server_high: Floats) -> Callable[[Floats, Floats], Floats]:
    """The least that m pre-training rounds cost, as a function of (m, psi0)."""
    high = np.maximum(server_high, 1.0)
    return lambda m, psi0: np.where(m > 0.0, cheapest(psi0, m * prices.server_cost, high), 0.0)


def bound(system: System, prices: Priced, boxes: Boxes) -> Floats:
    """What the prices prove for every pair of rounds of each box except (0, 0); infinity where a box holds no plan.

    Shape (B, 6) in, shape (B,) out.
    """
    fleet = system.scenario.devices
    m1, _, n1, n2, s1, s2 = boxes.T
    server_high = most_server(system, boxes, np.maximum(s1, system.up_s))
    longest = np.minimum(s2, longest_span(system, boxes) + system.up_s)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        most = _most_batches(system, longest, n1)
        most = np.floor(most * (1.0 + SAME))
        high = np.minimum(fleet.samples, np.where((n1 > 0.0)[:, None], most, np.inf))
    empty = (server_high < 1.0) | np.any(high < 1.0, axis=1)
    if system.band_hz is not None:
        empty |= (n1 > 0.0) & (longest < system.shortest * (1.0 - SAME))
    high = np.maximum(high, 1.0)
    server_bill = server_bills(prices, server_high)

    # FDMA: what the prices of time leave over is paid by every second a round takes at the least
    waiting = 0.0 if system.tdma else prices.slack * s1
    limited = np.flatnonzero(np.isfinite(fleet.battery_j))
    split = bool(np.any(np.isfinite(prices.halves[..., 0])))
    home_n = 0.5 * (n1 + n2)
    home_psi = system.criterion.at(m1, home_n).psi

    def fleet_bill(n: Floats, psi: Floats) -> Floats:
        samples = cheapest(psi[:, None] * system.variance, n[:, None] * prices.sample_costs, high).sum(axis=1)
        if split:
            variance, most = system.variance[limited], high[:, limited]
            samples = samples + _sides(variance, prices.halves, most, (n, psi), (home_n, home_psi)).sum(axis=1)
        return np.where(n > 0.0, n * (prices.round_cost + waiting) + samples, 0.0)

    value = least_over(system.criterion, boxes, server_bill, fleet_bill, prices.budget)
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
        return cheapest(psi * variance, n * sample, top, low) + n * upload - worth

    def side(which: int, low: Floats | float, top: Floats) -> Floats:
        own = bill(which, home, low, top) > bill(0, home, low, top)
        return np.where(own, bill(which, at, low, top), bill(0, at, low, top))

    below = side(1, 1.0, np.minimum(batch, high))
    reached = batch + 1.0 <= high
    start = np.where(reached, batch + 1.0, 1.0)
    above = np.where(reached, side(2, start, np.maximum(high, start)), np.inf)
    added: Floats = np.minimum(below, above) - bill(0, at, 1.0, high)
    return added
