"""The scenario in which nothing varies, whose plans keep what `planning` promises.

Each mode only moves figures of the deterministic model, so a problem at fixed rounds stays the convex one of math.md
section 3, and a plan of the equivalent scenario has the certificate of any plan. docs/uncertainty.md derives them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.constants import Convergence, Criterion
from pretune.errors import InputError
from pretune.physics.types import Floats
from pretune.planning import Planning, Under
from pretune.robust import RISING
from pretune.scenario import Scenario
from pretune.uncertainty.odds import Odds, odds_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Equivalent:
    """The deterministic `scenario`, and per device (shape (K,)) what it stands for.

    A device's upload counts in a round in which its gain is `floor_gain` or more and computing takes no more than
    `slowest` times as long as the model says; `odds` is None where nothing is random.
    """

    under: Under
    scenario: Scenario
    floor_gain: Floats
    slowest: Floats
    odds: Odds | None = None


def planned_under(scenario: Scenario) -> Under:
    """The mode of a scenario: `mean` where it has no `planning`."""
    return Under.MEAN if scenario.planning is None else scenario.planning.under


def counted(scenario: Scenario, claim: Mapping[str, Any] | None) -> Scenario:
    """The scenario that a plan's figures are of; `claim` is the plan's `under`."""
    reserve_j = 0.0 if claim is None else float(claim.get("reserve_j", 0.0))
    if claim is not None and planned_under(scenario) is Under.PARTICIPATION:
        return asking(scenario, np.array(claim["participation"], dtype=np.float64), reserve_j).scenario
    return equivalent(scenario, reserve_j).scenario


def asking(scenario: Scenario, asked: Floats, reserve_j: float = 0.0) -> Equivalent:
    """What to plan for where device k is asked with the probability ``asked[k]`` in each round, shape (K,).

    Raises:
        InputError: with so few asked a step need not improve the model.
    """
    fleet = scenario.devices
    moved = _moved(scenario, {"asked": asked})
    if reserve_j > 0.0:
        moved = moved.with_budget(energy_j=scenario.budget.energy_j - reserve_j)
    return Equivalent(under=Under.PARTICIPATION, scenario=moved, floor_gain=fleet.gain, slowest=np.ones(len(fleet)))


def equivalent(scenario: Scenario, reserve_j: float = 0.0) -> Equivalent:
    """What to plan for; of the energy budget `reserve_j` joules are kept back (see `margin`).

    Raises:
        InputError: nothing can be promised, or the constants at their worst contradict the steps.
    """
    planning, fleet = scenario.planning, scenario.devices
    if planning is None or planning.under is Under.MEAN:
        return Equivalent(under=Under.MEAN, scenario=scenario, floor_gain=fleet.gain, slowest=np.ones(len(fleet)))
    if planning.under is Under.WORST_CASE:
        return _worst(scenario, planning)
    if planning.under is Under.PARTICIPATION:  # at the least: what costs least
        return asking(scenario, np.full(len(fleet), planning.least_asked), reserve_j)
    odds = odds_of(scenario, planning.device_outage(len(fleet)))
    floor_gain = fleet.gain * odds.floor
    changes: dict[str, Any] = {
        "gain": floor_gain,
        "flops_per_cycle": fleet.flops_per_cycle / odds.slowest,
        "max_clock_hz": np.minimum(fleet.max_clock_hz, odds.clock_hz),
    }
    workload = scenario.workload
    if planning.under is Under.ERGODIC:
        scale = odds.compute_mean / odds.slowest
        changes |= {
            "gain": fleet.gain / odds.inverse_mean,
            "max_power_w": fleet.max_power_w * odds.floor * odds.inverse_mean,
            "capacitance": fleet.capacitance * scale,
            "static_power_w": fleet.static_power_w * scale,
        }
        bits = workload.download_bits * _broadcast_ratio(scenario, changes["gain"], floor_gain)
        workload = workload.model_copy(update={"download_bits": bits})
    moved = _moved(scenario, changes, workload=workload)
    if reserve_j > 0.0:
        moved = moved.with_budget(energy_j=scenario.budget.energy_j - reserve_j)
    return Equivalent(under=planning.under, scenario=moved, floor_gain=floor_gain, slowest=odds.slowest, odds=odds)


def _broadcast_ratio(scenario: Scenario, counted_gain: Floats, floor_gain: Floats) -> float:
    """By how much more bits last as long at the gains that are counted with as the true ones at the floor."""
    radio, power_w = scenario.radio, scenario.server.transmit_power_w
    noise_w = radio.noise_psd_w_per_hz * radio.broadcast_bandwidth_hz
    rates = (np.log1p(power_w * float(gain.min()) / noise_w) for gain in (counted_gain, floor_gain))
    return float(next(rates) / next(rates))


def _worst(scenario: Scenario, planning: Planning) -> Equivalent:
    """All gains, clocks, times and constants at the worse ends of their intervals: see docs/uncertainty.md."""
    fleet = scenario.devices
    gain = fleet.gain * 10.0 ** (-planning.drop_db / 10.0)
    slowest = np.full(len(fleet), 1.0 + (planning.compute_interval or 0.0))
    changes = {
        "gain": gain,
        "flops_per_cycle": fleet.flops_per_cycle / slowest,
        "max_clock_hz": fleet.max_clock_hz * (1.0 - (planning.clock_interval or 0.0)),
    }
    more = {}
    if planning.constants_interval:
        more["convergence"] = _worse_constants(scenario.convergence, planning.constants_interval)
    return Equivalent(
        under=planning.under, scenario=_moved(scenario, changes, **more), floor_gain=gain, slowest=slowest
    )


def _worse_constants(used: Convergence, share: float) -> Convergence:
    if used.criterion is Criterion.CALIBRATED:
        raise InputError.field("planning.constants_interval", share, "null: criterion calibrated has no constants")
    worse: dict[str, Any] = {}
    for key in RISING:
        value = getattr(used, key)
        if value is not None:
            several = isinstance(value, tuple)
            worse[key] = tuple((1.0 + share) * one for one in value) if several else (1.0 + share) * value
    if used.pl_constant is not None:
        worse["pl_constant"] = (1.0 - share) * used.pl_constant
    try:
        return Convergence(**{**{key: getattr(used, key) for key in used.model_fields_set}, **worse})
    except InputError as error:
        where = "planning.constants_interval: at the worse ends, convergence."
        raise InputError(*(where + line for line in error.problems)) from None


def _moved(scenario: Scenario, changes: Mapping[str, Any], **more: Any) -> Scenario:
    """The scenario with other device columns, in which nothing varies any more."""
    devices = dataclasses.replace(scenario.devices, **changes)
    return scenario.replace(devices=devices, planning=None, variation=None, **more)
