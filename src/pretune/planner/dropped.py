"""Which devices to leave out so that the others fit the budgets.

A part of a fleet that fits still fits without one of its devices (energy and time fall, and so does the broadcast's),
so devices are taken in from the most frugal on while one round of one sample each fits. What is left out is
irreducible: with any one of them taken in again nothing fits. It need not be the smallest such set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pretune.admitting.roster import Mask, subscenario
from pretune.physics import link
from pretune.physics.types import Floats
from pretune.planner.infeasible import fits_one_round
from pretune.planner.problem import Problem, build
from pretune.scenario import Scenario

_ONE_ROUND = (0.0, 1.0)
_SINGLY = 200
"""After the most frugal devices that fit together so many more are tried one by one; beyond that none is taken in."""


def devices_to_drop(scenario: Scenario, problem: Problem) -> tuple[str, ...] | None:
    """Names of devices without which one fine-tuning round fits; None where not even one device alone does.

    `scenario` is one in which nothing fits with all of them, `problem` the planning problem it is.
    """
    order = np.argsort(_appetite(scenario, problem), kind="stable")

    def fits(members: NDArray[np.intp]) -> bool:
        mask: Mask = np.zeros(len(order), dtype=bool)
        mask[members] = True
        return fits_one_round(build(subscenario(scenario, mask))[0], _ONE_ROUND)

    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(order[:middle]) else (low, middle)
    kept = list(order[:low])
    for k in order[low : low + _SINGLY]:
        if len(kept) < len(order) - 1 and fits(np.array([*kept, k])):
            kept.append(k)
    if not kept:
        return None
    left_out = np.setdiff1d(order, kept)
    return tuple(scenario.devices.names[k] for k in left_out.tolist())


def _appetite(scenario: Scenario, problem: Problem) -> Floats:
    """About the largest share that a device alone takes of a limit: time at full speed, energy or battery in all time.

    Shape (K,). Only the order matters, and a poor order only means that more devices are left out.
    """
    d, limits, fleet = problem.devices, problem.limits, scenario.devices
    down_s = link.airtime(
        scenario.workload.download_bits,
        np.full_like(fleet.gain, scenario.server.transmit_power_w),
        fleet.gain,
        np.full_like(fleet.gain, scenario.radio.broadcast_bandwidth_hz),
        scenario.radio.noise_psd_w_per_hz,
    )
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        quickest = down_s + d.cycles / d.clock_max + d.span / d.exponent_max
        time = np.maximum(limits.delay - down_s, 1e-12 * limits.delay)
        x = np.minimum(d.span / time, d.exponent_max)
        joules = d.capacitance * d.cycles**3 / time**2 + d.noise * d.span * np.expm1(x) / x
        shares = [quickest / limits.delay, len(fleet) * joules / limits.energy, joules / d.battery]
    found: Floats = np.nan_to_num(np.max(shares, axis=0), nan=np.inf)
    return found
