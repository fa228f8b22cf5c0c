"""Price sets of large fleets: a few numbers, from which the checker works out every device's share itself.

Any shares of the price of time prove something (`pretune.bounds`), so a certificate need not hold them. Good ones are
those at which each device, left to itself, takes the same time: a set of a large fleet holds the prices of energy and
time, that time (`span`) and how a batch follows from a sample's cost (`beta`), and the shares follow from those four
numbers by one scalar equation per device. Only batteries that bind are priced one by one.

What `n` rounds cost a fleet is ``n (C + slack s1 + B(psi/n))`` with ``B(r) = sum_k min_b (r A_k/b + c_k b)`` over the
whole batches that fit a span. B is concave in r, so that its chords bound it from below, and falls with the span:
tabulated once per set (`Curve`), a box costs next to nothing. Everything here is NumPy over parts of the fleet, cut at
fixed places.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.bounds import server_bills
from pretune.bracket import falling_root
from pretune.caps import longest_span, most_server
from pretune.convergence.criteria import Calibrated
from pretune.corners import least_over
from pretune.curve import Curve
from pretune.errors import InputError
from pretune.figures import SAME, Boxes, System
from pretune.physics.types import Floats
from pretune.price_sets import Priced, home_of, number, server_cost_of
from pretune.uploads import energy_slope, upload_cost

PART = 8192
"""Devices worked on at a time: their columns and all that is made of them stay in a processor's cache."""
_KEYS = {"energy", "omega", "span", "beta", "whole", "home", "ratios"}
_TINY = 1e-290
_MOST_GROWTH = 32.0
"""Samples by which a limited batch may grow over the tabulated spans."""


def is_compact(entry: Mapping[str, Any]) -> bool:
    """Whether a price set leaves the shares to be worked out."""
    return "span" in entry


@dataclass(frozen=True, kw_only=True)
class _Devices:
    """A part of the fleet, and the prices of its own; shape (k,)."""

    cycles: Floats
    capacitance: Floats
    clock_max: Floats
    static: Floats
    noise: Floats
    span: Floats
    exponent_max: Floats
    circuit: Floats
    variance: Floats
    samples: Floats
    battery: Floats
    ratio: Floats


def _part(system: System, ratios: Floats, part: slice) -> _Devices:
    fleet = system.scenario.devices
    return _Devices(
        cycles=system.cycles[part],
        capacitance=fleet.capacitance[part],
        clock_max=fleet.max_clock_hz[part],
        static=fleet.static_power_w[part],
        noise=system.noise[part],
        span=system.span[part],
        exponent_max=system.exponent_max[part],
        circuit=fleet.circuit_power_w[part],
        variance=system.variance[part],
        samples=fleet.samples[part].astype(np.float64),
        battery=fleet.battery_j[part],
        ratio=ratios[part],
    )


def compact_priced(system: System, entry: Mapping[str, Any]) -> Priced:
    """The costs that a compact price set implies.

    Raises:
        InputError: a number is missing, not finite, negative, or prices a battery that is not limited.
    """
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise InputError(f"plan.certificate.prices: {unknown[0]} is not a key of a set without shares")
    lam, omega, span, beta = (number(entry, key) for key in ("energy", "omega", "span", "beta"))
    if min(lam, omega, span, beta) < 0.0:
        raise InputError("plan.certificate.prices: energy, omega, span and beta must not be negative")
    whole = entry.get("whole", False)
    if not isinstance(whole, bool):
        raise InputError("plan.certificate.prices: whole should hold true or false")
    ratios = _ratios(system, entry)
    home = home_of(entry)
    count = len(system.cycles)
    shares = np.empty(count)

    def share(part: slice) -> Floats:
        shares[part] = _shares(_part(system, ratios, part), span, beta, whole, system.tdma)
        return np.array([shares[part].sum()])

    total = float(_each_part(count, share).sum())
    ratios_at, spans = _ratios_of_rounds(system, home), _spans_near(span)

    def bill(part: slice) -> Floats:
        devices = _part(system, ratios, part)
        own = shares[part] / devices.ratio
        paid = (omega / devices.ratio if system.tdma else own) + devices.circuit
        uploads = devices.ratio * upload_cost(paid, devices.noise, devices.span, devices.exponent_max)
        clock = _clock(own, devices)
        costs = lam * devices.ratio * _sample_cost(own, clock, devices)
        limited = devices.ratio > 1.0
        batteries = ((devices.ratio - 1.0)[limited] * devices.battery[limited]).sum()
        bills = _least_bills(devices, costs, ratios_at, spans, system.tdma)
        return np.concatenate(([uploads.sum(), batteries], bills.ravel()))

    sums = _each_part(count, bill).sum(axis=0)
    budget = system.scenario.budget
    return Priced(
        energy=lam,
        delay=lam * omega,
        server_cost=lam * server_cost_of(system, omega),
        sample_costs=np.zeros(0),
        round_cost=lam * (system.down_j + omega * system.down_s + float(sums[0])),
        slack=lam * (omega - total) - 1e-13 * lam * omega,
        budget=lam * (budget.energy_j + omega * budget.delay_s + float(sums[1])),
        halves=np.zeros((0, 10)),
        home=home,
        curve=Curve(ratio=ratios_at, spans=spans, bill=sums[2:].reshape(-1, len(ratios_at)) * (1.0 - 1e-13)),
    )


def bound_large(system: System, prices: Priced, boxes: Boxes) -> Floats:
    """`bound` with a price set of a large fleet: its curve stands for the devices, so no box costs a pass over them."""
    curve = prices.curve
    if curve is None:
        raise ValueError("a price set with shares has no curve")
    n1, s1, s2 = boxes[:, 2], boxes[:, 4], boxes[:, 5]
    server_high = most_server(system, boxes, s1 + system.up_s)
    longest = np.minimum(s2, longest_span(system, boxes))
    empty = (server_high < 1.0) | ((n1 > 0.0) & (longest * (1.0 + SAME) < s1))
    # shares below the price of time leave some of it to the span itself, shares above it take some back
    span = s1 if prices.slack >= 0.0 else np.minimum(longest, system.scenario.budget.delay_s)

    def fleet_bill(n: Floats, psi: Floats) -> Floats:
        each = prices.round_cost + prices.slack * span + curve.at(psi / np.maximum(n, 1.0), longest)
        return np.where(n > 0.0, n * each, 0.0)

    value = least_over(system.criterion, boxes, server_bills(prices, server_high), fleet_bill, prices.budget)
    return np.where(empty, np.inf, value)


def _each_part(count: int, work: Callable[[slice], Floats]) -> Floats:
    """What `work` returns for every part of the fleet, a row each, in order whatever thread did it."""
    parts = [slice(at, min(at + PART, count)) for at in range(0, count, PART)]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, len(parts))) as pool:
        return np.array(list(pool.map(work, parts)))


def _ratios(system: System, entry: Mapping[str, Any]) -> Floats:
    """The devices' own prices of energy by the common one: one, but for the batteries that the set lists."""
    fleet = system.scenario.devices
    ratios = np.ones(len(fleet))
    listed = entry.get("ratios")
    if listed is None:
        return ratios
    wrong = InputError("plan.certificate.prices: ratios should hold {devices: [...], values: [...]} of equal length")
    if not isinstance(listed, Mapping) or set(listed) != {"devices", "values"}:
        raise wrong
    try:
        devices, values = np.asarray(listed["devices"]), np.asarray(listed["values"], dtype=np.float64)
    except (TypeError, ValueError):
        raise wrong from None
    if devices.dtype.kind != "i" or devices.ndim != 1 or devices.shape != values.shape:
        raise wrong
    inside = (devices >= 0) & (devices < len(fleet))
    if not (inside.all() and np.all(np.isfinite(values)) and np.all(values >= 1.0)):
        raise InputError("plan.certificate.prices: ratios should hold devices of the fleet and values of at least 1")
    ratios[devices] = values
    if np.any((ratios > 1.0) & ~np.isfinite(fleet.battery_j)):
        raise InputError("plan.certificate: prices a battery that the scenario does not limit")
    return ratios


def _clock(omega: Floats, d: _Devices) -> Floats:
    return np.minimum(d.clock_max, np.cbrt((omega + d.static) / (2.0 * d.capacitance)))


def _sample_cost(omega: Floats, clock: Floats, d: _Devices) -> Floats:
    """Joules of a sample whose time is paid at `omega`; zero where both time and idling are free."""
    safe = np.where(clock > 0.0, clock, 1.0)
    cost: Floats = np.where(clock > 0.0, d.cycles * (d.capacitance * safe**2 + (d.static + omega) / safe), 0.0)
    return cost


def _shares(d: _Devices, span: float, beta: float, whole: bool, tdma: bool) -> Floats:
    """Each device's share of the price of time: the price at which its round takes `span` seconds (TDMA: computing).

    `whole`: no batch is larger than the whole samples that the span allows at full speed, so that a device whose clock
    is at its limit has a little time to spare, as it has in a plan. A share of zero is a device that idling leaves time
    enough; a device that has too little time at any price has the price at which it is fastest.
    """
    most = _most(d, span, tdma) if whole else d.samples
    if span <= 0.0:
        return d.ratio * _top_price(d, beta)
    if tdma:
        fast = _strongest_price(d, span, beta, most, tdma)
        return d.ratio * np.where(_compute_time(np.zeros_like(fast), d, beta, most) <= span, 0.0, fast)
    with np.errstate(divide="ignore"):
        strongest = _compute_time(_upload_price(d.exponent_max, d), d, beta, most) + d.span / d.exponent_max
    gentle = strongest <= span
    price = np.empty_like(d.noise)
    price[gentle] = _gentle_price(_some(d, gentle), span, beta, most[gentle])
    price[~gentle] = _strongest_price(_some(d, ~gentle), span, beta, most[~gentle], tdma)
    return d.ratio * price


def _some(d: _Devices, chosen: NDArray[np.bool_]) -> _Devices:
    return _Devices(**{key: column[chosen] for key, column in vars(d).items()})


def _compute_time(omega: Floats, d: _Devices, beta: float, most: Floats) -> Floats:
    """Seconds of computing when a second is worth `omega`."""
    scale = beta * np.sqrt(d.variance / d.ratio)
    clock = _clock(omega, d)
    cost = _sample_cost(omega, clock, d)
    with np.errstate(divide="ignore", invalid="ignore"):
        batch = np.clip(np.where(scale > 0.0, scale / np.sqrt(cost), 1.0), 1.0, most)
        return np.where(clock > 0.0, d.cycles * batch / clock, np.inf)


def _upload_price(x: Floats, d: _Devices) -> Floats:
    """The price of time at which an upload at exponent `x` costs least; zero where even idling is dearer."""
    return np.maximum(d.noise * energy_slope(x) - d.circuit, 0.0)


def _gentle_price(d: _Devices, span: float, beta: float, most: Floats) -> Floats:
    """Prices of devices whose upload is not at its strongest: the exponent gives the price and with it all else."""

    def excess(log_x: Floats) -> Floats:
        x = np.exp(log_x)
        with np.errstate(divide="ignore"):
            return np.log(np.minimum((_compute_time(_upload_price(x, d), d, beta, most) + d.span / x) / span, 1e300))

    high = np.log(d.exponent_max)
    low = np.minimum(np.log(d.span / span), high)
    return _upload_price(np.exp(falling_root(excess, low, high)), d)


def _strongest_price(d: _Devices, span: float, beta: float, most: Floats, tdma: bool) -> Floats:
    """Prices of devices whose upload is at its strongest (TDMA: takes none of the span)."""
    fastest = np.zeros_like(d.noise) if tdma else d.span / d.exponent_max
    top = _top_price(d, beta)
    least = np.full_like(d.noise, _TINY) if tdma else np.maximum(_upload_price(d.exponent_max, d), _TINY)

    def excess(log_omega: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.log((_compute_time(np.exp(log_omega), d, beta, most) + fastest) / span)

    return np.exp(falling_root(excess, np.log(np.minimum(least, top)), np.log(top)))


def _top_price(d: _Devices, beta: float) -> Floats:
    """The price from which a device is at its fastest: clock and power at their limits, one sample."""
    scale = beta * np.sqrt(d.variance / d.ratio)
    at_clock = 2.0 * d.capacitance * d.clock_max**3 - d.static
    at_power = d.noise * energy_slope(d.exponent_max) - d.circuit
    at_batch = (scale**2 / d.cycles - d.capacitance * d.clock_max**2) * d.clock_max - d.static
    top: Floats = np.maximum(np.maximum(at_clock, at_power), np.maximum(at_batch, _TINY))
    return top


def most_rounds(system: System) -> tuple[float, float]:
    """Rounds of either stage that the delay certainly rules out beyond: one sample each, at full speed."""
    server, delay = system.scenario.server, system.scenario.budget.delay_s
    m = math.floor(delay / (system.server_cycles / server.max_clock_hz) * (1.0 + SAME))
    n = math.floor(delay / (system.shortest + system.up_s + system.down_s) * (1.0 + SAME))
    return float(m), float(n)


def _ratios_of_rounds(system: System, home: tuple[float, float, float]) -> Floats:
    """Where to tabulate a set's bills: the values of psi/n over all rounds n, closest near the set's home.

    A law's psi also depends on the pre-training rounds: those of the home. One value and zero for a criterion whose
    psi grows in proportion to the rounds.
    """
    most = max(most_rounds(system)[1], 1.0)
    middle = min(max(home[1], 1.0), most)
    away = 0.01 * 1.6 ** np.arange(12)
    rounds = np.concatenate(([1.0, most, middle], middle * np.exp(away), middle * np.exp(-away)))
    rounds = np.unique(np.clip(rounds, 1.0, most))
    pretrain = 0.0 if not isinstance(system.criterion, Calibrated) else home[0]
    ratio = np.unique(np.broadcast_to(system.criterion.at(pretrain, rounds).psi / rounds, rounds.shape))
    if ratio[-1] - ratio[0] <= 1e-14 * ratio[-1]:
        ratio = ratio[:1]
    return np.unique(np.concatenate(([0.0], ratio)))


def _spans_near(span: float) -> Floats:
    """Spans at which the whole batches that fit are told apart: a set is of use near its own span, mostly above."""
    below, above = 2e-5 * 1.12 ** np.arange(55), 2e-5 * 1.06 ** np.arange(108)
    return np.asarray(span * np.concatenate((1.0 - below[::-1], [1.0 + 3e-9], 1.0 + above)))


def _most(d: _Devices, span: float, tdma: bool) -> Floats:
    """The largest whole batches within a span at full speed."""
    fastest = 0.0 if tdma else d.span / d.exponent_max
    batches = np.floor((span * (1.0 + SAME) - fastest) * d.clock_max / d.cycles * (1.0 + SAME))
    return np.clip(batches, 1.0, d.samples)


def _least_bills(d: _Devices, costs: Floats, ratios: Floats, spans: Floats, tdma: bool) -> Floats:
    """``sum_k min over whole b of r A_k/b + c_k b``, a row for each span that limits the batches, the last for none.

    A device's bill falls only where the span lets it compute one sample more, so most devices are looked at once;
    those whose batch grows by many samples between the first span and the last have the last's limit everywhere.
    """
    bills = np.zeros((len(spans) + 1, len(ratios)))
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(costs > 0.0, np.sqrt(ratios[-1] * d.variance / costs), np.inf)
    high = np.clip(np.ceil(wanted), 1.0, d.samples)
    first, last = (np.minimum(_most(d, span, tdma), high) for span in (spans[0], spans[-1]))
    first = np.where(last - first > _MOST_GROWTH, last, first)
    last = np.where(first == high, high, last)
    for j, r in enumerate(ratios.tolist()):
        bills[:, j] = _bill(r * d.variance, costs, first).sum()
    bills[-1] = [_bill(r * d.variance, costs, high).sum() for r in ratios.tolist()]
    steps = np.zeros((len(spans), len(ratios)))
    for more in range(1, int((last - first).max()) + 1):
        grown = np.flatnonzero(first + more <= last)
        batch = first[grown] + more
        fastest = 0.0 if tdma else (d.span / d.exponent_max)[grown]
        needed = (batch / (1.0 + SAME) * d.cycles[grown] / d.clock_max[grown] + fastest) / (1.0 + SAME)
        row = np.minimum(np.searchsorted(spans, needed * (1.0 - 1e-15), "left"), len(spans) - 1)
        for j, r in enumerate(ratios.tolist()):
            noise = r * d.variance[grown]
            falls = _bill(noise, costs[grown], batch) - _bill(noise, costs[grown], batch - 1.0)
            steps[:, j] += np.bincount(row, weights=falls, minlength=len(spans))
    bills[:-1] += np.cumsum(steps, axis=0)
    return bills


def _bill(noise: Floats, costs: Floats, high: Floats) -> Floats:
    """``min over whole b in [1, high] of noise/b + cost b``, element by element."""
    with np.errstate(divide="ignore", invalid="ignore"):
        real = np.where(noise > 0.0, np.sqrt(noise / costs), 1.0)
    down = np.clip(np.floor(real), 1.0, high)
    up = np.minimum(down + 1.0, high)
    bill: Floats = np.minimum(noise / down + costs * down, noise / up + costs * up)
    return bill
