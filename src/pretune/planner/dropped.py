"""Which devices to leave out so that the others fit the budgets.

A part of a fleet that fits still fits without one of its devices (energy and time fall, and so does the broadcast's),
so devices are taken in from the most frugal on while one round of one sample each fits. What is left out is
irreducible: with any one of them taken in again nothing fits. It need not be the smallest such set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pretune.physics.cost import broadcast_to_each
from pretune.physics.types import Floats
from pretune.planner.infeasible import fits_one_round
from pretune.planner.problem import Devices, Problem
from pretune.scenario import Scenario

_ONE_ROUND = (0.0, 1.0)
_SINGLY = 200
"""After the most frugal devices that fit together so many more are tried one by one; beyond that none is taken in."""


def devices_to_drop(scenario: Scenario, problem: Problem) -> tuple[str, ...] | None:
    """Names of devices without which one fine-tuning round fits; None where not even one device alone does.

    `scenario` is one in which nothing fits with all of them, `problem` the planning problem it is.
    """
    down_s = broadcast_to_each(scenario)
    order = np.argsort(_appetite(scenario, problem, down_s), kind="stable")

    def fits(members: NDArray[np.intp]) -> bool:
        return fits_one_round(_part(problem, np.sort(members), down_s), _ONE_ROUND)

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


def _part(problem: Problem, members: NDArray[np.intp], down_s: Floats) -> Problem:
    """The problem of some of the devices. A shared band stays whole: it is counted in equal shares of all of them."""
    limits, batches = problem.limits, problem.batches
    longest = float(down_s[members].max())
    shorter = longest / limits.down_s if limits.down_s > 0.0 else 0.0
    return problem._replace(
        devices=Devices(*(column[members] for column in problem.devices)),
        batches=batches._replace(low=batches.low[members], high=batches.high[members]),
        limits=limits._replace(down_s=longest, down_j=limits.down_j * shorter),
    )


def _appetite(scenario: Scenario, problem: Problem, down_s: Floats) -> Floats:
    """About the largest share that a device alone takes of a limit: time at full speed, energy or battery in all time.

    Shape (K,). Only the order matters, and a poor order only means that more devices are left out.
    """
    d, limits, fleet = problem.devices, problem.limits, scenario.devices
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        quickest = down_s + d.cycles / d.clock_max + d.span / d.exponent_max
        time = np.maximum(limits.delay - down_s, 1e-12 * limits.delay)
        x = np.minimum(d.span / time, d.exponent_max)
        joules = d.capacitance * d.cycles**3 / time**2 + d.noise * d.span * np.expm1(x) / x
        shares = [quickest / limits.delay, len(fleet) * joules / limits.energy, joules / d.battery]
    found: Floats = np.nan_to_num(np.max(shares, axis=0), nan=np.inf)
    return found
