"""What the price sets of an admission's certificate make everything cost.

A set prices a joule at ``lambda`` (`energy`), a second at ``lambda omega``, and for each of its `devices` a second of
the span at ``lambda share_k`` and a joule of its battery at ``lambda (ratio_k - 1)``. Any such prices prove something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.admitting.roster import Roster
from pretune.errors import InputError
from pretune.physics.types import Floats
from pretune.price_sets import number, sample_cost, server_cost_of
from pretune.uploads import upload_cost

_KEYS = {"energy", "omega", "devices", "shares", "ratios"}
WHERE = "admission.certificate.prices"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What one set makes everything cost, in units of the criterion's numerator; arrays are for its devices."""

    energy: float
    delay: float
    server_cost: float
    place: NDArray[np.intp]
    """Where a device of the fleet stands in the arrays, -1 where nowhere; shape (K,)."""
    samples: Floats
    uploads: Floats
    shares: Floats
    refunds: Floats


@dataclass(frozen=True, kw_only=True)
class _Entry:
    energy: float
    omega: float
    devices: NDArray[np.intp]
    shares: Floats
    ratios: Floats


def offers_of(roster: Roster, entries: Sequence[Any]) -> list[Offer]:
    """The costs of all sets.

    Raises:
        InputError: a set has other keys, numbers out of range, or prices a battery that is not limited.
    """
    read = [_read(roster, entry, f"{WHERE}[{i}]") for i, entry in enumerate(entries)]
    if not read:
        return []
    system, fleet = roster.system, roster.system.scenario.devices
    who = np.concatenate([entry.devices for entry in read])
    sizes = [len(entry.devices) for entry in read]
    energy, omega = (np.repeat([getattr(entry, key) for entry in read], sizes) for key in ("energy", "omega"))
    shares, ratios = (np.concatenate([getattr(entry, key) for entry in read]) for key in ("shares", "ratios"))
    own = shares / ratios
    samples = sample_cost(
        own, system.cycles[who], fleet.capacitance[who], fleet.max_clock_hz[who], fleet.static_power_w[who]
    )
    paid = (omega / ratios if system.tdma else own) + fleet.circuit_power_w[who]
    uploads = upload_cost(paid, system.noise[who], system.span[who], system.exponent_max[who])
    limited = ratios > 1.0
    refunds = np.where(limited, (ratios - 1.0) * np.where(limited, fleet.battery_j[who], 0.0), 0.0)
    columns = [energy * ratios * samples, energy * ratios * uploads, energy * shares, energy * refunds]
    found, at = [], 0
    for entry, size in zip(read, sizes, strict=True):
        place = np.full(len(fleet), -1, dtype=np.intp)
        place[entry.devices] = np.arange(size)
        part = [column[at : at + size] for column in columns]
        at += size
        found.append(
            Offer(
                energy=entry.energy,
                delay=entry.energy * entry.omega,
                server_cost=entry.energy * server_cost_of(system, entry.omega),
                place=place,
                samples=part[0],
                uploads=part[1],
                shares=part[2],
                refunds=part[3],
            )
        )
    return found


def _read(roster: Roster, entry: Any, where: str) -> _Entry:
    if not isinstance(entry, Mapping):
        raise InputError.field(where, entry, "an object of prices")
    unknown = sorted(map(str, set(entry) - _KEYS))
    if unknown:
        raise InputError(f"{where}.{unknown[0]}: is not a key of a price set")
    energy, omega = number(entry, "energy"), number(entry, "omega")
    count = len(roster.alpha)
    devices = _numbers(entry.get("devices"), f"{where}.devices")
    if np.any((devices != np.floor(devices)) | (devices < 0) | (devices >= count)) or len(set(devices)) != len(devices):
        raise InputError(f"{where}.devices: should hold numbers of different devices, from 0 to {count - 1}")
    shares = _numbers(entry.get("shares"), f"{where}.shares")
    ratios = _numbers(entry.get("ratios", [1] * len(devices)), f"{where}.ratios")
    if not len(devices) == len(shares) == len(ratios):
        raise InputError(f"{where}: devices, shares and ratios should be of one length")
    if energy < 0.0 or omega < 0.0 or np.any(shares < 0.0) or np.any(ratios < 1.0):
        raise InputError(f"{where}: prices must not be negative, ratios not below one")
    which = devices.astype(np.intp)
    if np.any((ratios > 1.0) & ~np.isfinite(roster.system.scenario.devices.battery_j[which])):
        raise InputError(f"{where}.ratios: prices a battery that the scenario does not limit")
    return _Entry(energy=energy, omega=omega, devices=which, shares=shares, ratios=ratios)


def _numbers(values: Any, where: str) -> Floats:
    """A list of finite numbers."""
    plain = isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    try:
        found = np.asarray(values if plain else [np.nan], dtype=np.float64)
    except OverflowError:
        found = np.full(1, np.nan)
    if not np.all(np.isfinite(found)):
        raise InputError(f"{where}: should hold a list of finite numbers")
    return found
