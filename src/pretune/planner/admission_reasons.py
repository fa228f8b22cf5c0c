"""Why a device is left out: what it would cost to take it in, and which of its limits that is due to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pretune.planner.admission_candidates import Candidates, Found, value_at
from pretune.planner.admission_fleet import Choice, Mask
from pretune.planner.kernels.fixed import new_point
from pretune.planner.problem import Problem

MOST_EXPLAINED = 20
"""Devices whose reasons are worked out; each costs some solves."""
_RELIEF = 1e9
"""How many times better a limit is made to see whether the device would be worth taking as good as without it."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A device that is left out.

    `limited_by`: airtime, clock or battery - the limit without which (an upload and a broadcast that take no time; a
    processor that takes none; no battery limit) it would cost least - or `worth` where the device would not be worth
    taking without any one of them; None where that was not worked out. `objective_with` is the objective with it taken
    in beside the admitted ones, at real batches; None where no plan fits then. `gain` is how much lower the objective
    is without it, as a share.
    """

    name: str
    weight: float
    limited_by: str | None
    objective_with: float | None
    gain: float | None


def reasons(choice: Choice, candidates: Candidates, admitted: Mask, found: Found | None) -> tuple[Dropped, ...]:
    """For each device that is left out, why; worked out for the heaviest `MOST_EXPLAINED` ones.

    `found` are the admitted devices at their best rounds; without it nothing is worked out.
    """
    out = np.flatnonzero(~admitted)
    explained = set(out[np.argsort(-choice.alpha[out], kind="stable")][:MOST_EXPLAINED].tolist())
    names = choice.scenario.devices.names
    lines = []
    for k in out.tolist():
        limited_by, value = None, math.nan
        if found is not None and k in explained:
            more = admitted.copy()
            more[k] = True
            limited_by = _limit(choice, more, k, found)
            with_it = candidates.improve(more, found.rounds, patience=math.inf)
            value = math.inf if with_it is None else with_it.value
        gain = None if found is None or not math.isfinite(value) or value <= 0.0 else (value - found.value) / value
        lines.append(
            Dropped(
                name=names[k],
                weight=float(choice.alpha[k]),
                limited_by=limited_by,
                objective_with=value if math.isfinite(value) else None,
                gain=gain,
            )
        )
    return tuple(lines)


def _limit(choice: Choice, more: Mask, k: int, found: Found) -> str:
    """The limit of device `k` whose relief lowers the objective most, at the admitted devices' rounds."""
    values = {}
    for name, problem in _relieved(choice, more, k):
        values[name] = value_at(problem, found.rounds, new_point(int(more.sum())))
    best = min(values, key=lambda name: values[name])
    return best if values[best] < found.value else "worth"


def _relieved(choice: Choice, more: Mask, k: int) -> Iterator[tuple[str, Problem]]:
    """The subset's problem with each of the device's limits relieved."""
    problem = choice.subset(more)
    d, at = problem.devices, int(more[:k].sum())
    others = more.copy()
    others[k] = False

    span = d.span.copy()
    span[at] /= _RELIEF
    near = choice.limits(float(choice.down_s[others].max(initial=0.0)))
    yield "airtime", problem._replace(devices=d._replace(span=span), limits=near)
    cycles = d.cycles.copy()
    cycles[at] /= _RELIEF
    yield "clock", problem._replace(devices=d._replace(cycles=cycles))
    if math.isfinite(d.battery[at]):
        battery = d.battery.copy()
        battery[at] = math.inf
        yield "battery", problem._replace(devices=d._replace(battery=battery))
