"""The devices that an admission chooses from, as its proof needs them, and the scenario of those that are chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pretune.bracket import falling_root
from pretune.caps import most_batches, paid_batch
from pretune.figures import SAME, System, system_of
from pretune.fleet import COLUMNS, Fleet
from pretune.physics.cost import broadcast_to_each
from pretune.physics.types import Floats
from pretune.scenario import Scenario
from pretune.uploads import energy_slope

Mask = NDArray[np.bool_]
_LOWEST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Roster:
    """A fleet to choose from; arrays have shape (K,), seconds and joules."""

    system: System
    alpha: Floats
    """Weights, which sum to one."""
    down_s: Floats
    """Seconds of a broadcast that has to reach this device."""
    levels: Floats
    """The distinct ones of these, nearest first."""
    shortest: Floats
    """The span of one sample at full speed (TDMA: of its computing)."""
    uploads: Floats
    """TDMA: seconds of the fastest upload; else zero."""
    least_weight: float
    """The least weight that a subset may have."""
    frugal: Floats
    """The upload exponent that takes the least energy."""
    known: dict[tuple[float, ...], Floats] = field(default_factory=dict)
    """Largest batches worked out before: parts that differ in devices only have the same."""

    def most_batches(self, span: float, spare: float, rounds: float) -> Floats:
        """The largest whole batches within a span, at full speed and within the batteries, shape (K,).

        TDMA: the upload takes none of the span, and costs at least what one costs that takes `spare` seconds longer
        than the fastest.
        """
        system, fleet = self.system, self.system.scenario.devices
        key = (span, spare, rounds) if system.tdma else (span, rounds)
        if key in self.known:
            return self.known[key]
        if not system.tdma:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                most = most_batches(system, np.array([span]), np.array([rounds]))[0]
        else:
            most = span * fleet.max_clock_hz / system.cycles
            limited = np.isfinite(fleet.battery_j)
            if limited.any() and span > 0.0:
                slowest = system.span / system.exponent_max + max(spare, 0.0)
                x = np.minimum(np.maximum(self.frugal, system.span / slowest), system.exponent_max)
                upload = system.span / x * (system.noise * np.expm1(x) + fleet.circuit_power_w)
                left = np.maximum(np.where(limited, fleet.battery_j, 0.0) / rounds - upload, 0.0)
                time = np.full(len(most), span)
                with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                    paid = paid_batch(system.cycles, fleet.capacitance, fleet.static_power_w, time, left)
                most = np.where(limited, np.minimum(most, paid), most)
        self.known[key] = np.minimum(fleet.samples, np.floor(most * (1.0 + SAME)))
        return self.known[key]


def roster_of(scenario: Scenario, min_weight: float) -> Roster:
    """The roster of a scenario's fleet, of which at least the share `min_weight` of the weight has to remain."""
    system, fleet = system_of(scenario), scenario.devices
    alpha = fleet.weight / fleet.weight.sum()
    down_s = broadcast_to_each(scenario)
    fastest, uploads = system.cycles / fleet.max_clock_hz, system.span / system.exponent_max
    with np.errstate(divide="ignore"):
        target, most = np.log(fleet.circuit_power_w / system.noise), np.log(system.exponent_max)
    lowest = np.minimum(np.log(_LOWEST), most)
    frugal = np.exp(falling_root(lambda log_x: target - np.log(energy_slope(np.exp(log_x))), lowest, most))
    return Roster(
        system=system,
        alpha=alpha,
        down_s=down_s,
        levels=np.unique(down_s),
        shortest=(fastest if system.tdma else fastest + uploads) * (1.0 - SAME),
        uploads=uploads if system.tdma else np.zeros(len(fleet)),
        least_weight=max(min_weight, float(alpha.min())) * (1.0 - 1e-12),
        frugal=frugal,
    )


def subscenario(scenario: Scenario, mask: Mask) -> Scenario:
    """The scenario of the devices in `mask` alone, their weights grown in proportion; all of them: the scenario."""
    if mask.all():
        return scenario
    fleet, convergence = scenario.devices, scenario.convergence
    columns = {key: getattr(fleet, key)[mask] for key in COLUMNS}
    columns["weight"] = columns["weight"] / columns["weight"].sum()
    names = tuple(name for name, kept in zip(fleet.names, mask.tolist(), strict=True) if kept)
    given = convergence.finetune_variance
    if isinstance(given, tuple):
        convergence = convergence.model_copy(update={"finetune_variance": tuple(np.asarray(given)[mask].tolist())})
    devices = Fleet(**columns, given_names=names, defaults=fleet.defaults)
    variation = None if scenario.variation is None else scenario.variation.only(names)
    return scenario.replace(devices=devices, convergence=convergence, variation=variation)
