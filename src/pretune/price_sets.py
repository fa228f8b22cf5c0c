"""What a certificate's price set makes everything cost.

A set prices a joule at ``lambda``, a second at ``nu = lambda omega``, each device's share of a round's span at
``lambda share_k``, its battery at ``lambda (ratio_k - 1)`` and a hertz of a shared band at ``lambda gamma``; all of
them as numbers and lists in the plan file, checked as they are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.curve import Curve
from pretune.errors import InputError
from pretune.figures import System
from pretune.physics.types import Floats
from pretune.uplinks import shared_upload_cost
from pretune.uploads import upload_cost


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


def _best_clock(omega: Floats, capacitance: Floats, clock_max: Floats, static: Floats) -> Floats:
    """``min(f_max, ((omega + P_static) / (2 kappa))^(1/3))``: the clock at which a sample costs least."""
    return np.minimum(clock_max, np.cbrt((omega + static) / (2.0 * capacitance)))


def sample_cost(omega: Floats, cycles: Floats, capacitance: Floats, clock_max: Floats, static: Floats) -> Floats:
    """Joules a sample costs when a second is worth `omega`; zero where both time and idling are free."""
    clock = _best_clock(omega, capacitance, clock_max, static)
    free = clock <= 0.0
    safe = np.where(free, 1.0, clock)
    return np.where(free, 0.0, cycles * (capacitance * safe**2 + (static + omega) / safe))


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
