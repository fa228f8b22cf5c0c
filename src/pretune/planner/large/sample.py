"""A few devices that stand for many: a smaller problem whose optimum lies near that of the whole fleet.

A device that stands for `w` devices like it is a device whose energies and noise are `w` times as large; with TDMA its
upload takes `w` times as long at the same power. So a sample is a problem of the same kind, and the planner needs no
other code for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pretune.planner.problem import Devices, Problem

SLOWEST = 64
"""Devices kept one by one because a round waits for them."""


def sample(problem: Problem, count: int) -> Problem:
    """About `count` devices in place of the fleet: the slowest themselves, and one of each group of similar ones.

    The groups are runs in the order of the noise, cut into runs in the order of the time that a round of one sample
    takes at full speed; the device in a group's middle stands for it with the group's mean root of the noise, so
    nothing here is random. A fleet of at most `count` devices is its own sample.
    """
    d = problem.devices
    total = d.cycles.size
    if total <= count:
        return problem
    slow_last = np.argsort(d.cycles / d.clock_max + d.span / d.exponent_max, kind="stable")
    kept = min(SLOWEST, count // 2)
    rest, slowest = slow_last[: total - kept], slow_last[total - kept :]
    # a stable sort by the noise leaves devices of equal noise in the order of speed
    by_noise = rest[np.argsort(d.variance[rest], kind="stable")]
    rank = np.empty(total, dtype=np.intp)
    rank[slow_last] = np.arange(total)
    rows = max(round((count - kept) ** 0.5), 1)
    groups = [
        group
        for row in np.array_split(by_noise, rows)
        for group in np.array_split(row[np.argsort(rank[row], kind="stable")], rows)
        if group.size
    ]
    chosen = np.concatenate(([group[group.size // 2] for group in groups], slowest))
    weight = np.concatenate(([float(group.size) for group in groups], np.ones(kept)))
    root = np.sqrt(d.variance)
    variance = np.concatenate(([root[group].mean() ** 2 for group in groups], d.variance[slowest]))
    devices = _weighted(d, chosen, weight, problem.limits.tdma)._replace(variance=variance * weight)
    return problem._replace(
        devices=devices,
        batches=problem.batches._replace(low=problem.batches.low[chosen], high=problem.batches.high[chosen]),
    )


def _weighted(d: Devices, chosen: NDArray[np.intp], weight: NDArray[np.float64], tdma: bool) -> Devices:
    """The chosen devices, each standing for `weight` of its kind."""
    column = {name: getattr(d, name)[chosen] for name in Devices._fields}
    for name in ("capacitance", "static", "variance", "battery"):
        column[name] = column[name] * weight
    for name in ("span",) if tdma else ("noise", "circuit"):
        column[name] = column[name] * weight
    return Devices(**column)
