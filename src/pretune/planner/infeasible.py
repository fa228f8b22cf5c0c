"""Why nothing fits: the limits that clash, and the smallest budgets that would do.

One round of one sample a device (or one sample at the server) is the cheapest use of the budgets, so a scenario is
infeasible exactly when neither a single pre-training round nor a single fine-tuning round fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from pretune.planner.kernels.fixed import SOLVED, least_seconds, new_point, solve_fixed
from pretune.planner.problem import Batches, Problem

STAGES = ((1.0, 0.0), (0.0, 1.0))
_BEYOND = 1e12
"""How many times over a limit is raised to lift it."""


def one_sample(problem: Problem) -> Batches:
    """Every batch at its least."""
    low = problem.batches.low
    return Batches(server_low=1.0, server_high=1.0, low=low, high=low.copy(), span=0.0)


def fits_one_round(problem: Problem, stage: tuple[float, float]) -> bool:
    """Whether one round of the stage, one sample a device, fits the budgets."""
    point = new_point(problem.devices.cycles.size)
    status = solve_fixed(problem, one_sample(problem), *stage, 0.0, 0.0, point)
    return bool(status == SOLVED)


def least_energy(problem: Problem) -> float:
    """The least energy, at the delay given, at which a plan exists; infinity where there is none (J)."""
    return min(_stage_energy(problem, stage) for stage in STAGES)


def _stage_energy(problem: Problem, stage: tuple[float, float]) -> float:
    rich = problem._replace(limits=problem.limits._replace(energy=math.inf))
    point = new_point(problem.devices.cycles.size)
    status = solve_fixed(rich, one_sample(problem), *stage, 0.0, 0.0, point)
    return float(point.scalars[6]) if status == SOLVED else math.inf


def least_delay(problem: Problem) -> float:
    """The least delay, at the energy given, at which a plan exists; infinity where there is none (s)."""
    return min(_stage_delay(problem, stage) for stage in STAGES)


def _stage_delay(problem: Problem, stage: tuple[float, float]) -> float:
    def enough(delay: float) -> bool:
        return fits_one_round(problem._replace(limits=problem.limits._replace(delay=delay)), stage)

    low = least_seconds(problem, one_sample(problem), *stage)
    if not math.isfinite(low):
        return math.inf
    high = low * (1.0 + 1e-12)
    while not enough(high):
        low, high = high, high * 4.0
        if high > _BEYOND * low or high > 1e200:
            return math.inf
        if high > 1e15 * least_seconds(problem, one_sample(problem), *stage):
            return math.inf
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        if enough(middle):
            high = middle
        else:
            low = middle
        if middle in (low, high) and high - low <= 4e-16 * high:
            break
    return high


_WATTS = 1e40
"""A power that is no limit: far beyond any, and still one that a scenario can state."""


def clashing_limits(problem: Problem, names: Sequence[str]) -> tuple[str, ...]:
    """An irreducible set of limits that no plan can meet together; lifting any one of them makes a plan possible.

    `names` are the devices' names. The limits are called energy, delay, bandwidth (of a shared band), clock:server,
    clock:<device>, power:<device> and battery:<device>. Found by QuickXplain (Junker, AAAI 2004) over the limits of
    both stages together, because a plan is possible as soon as either stage is.
    """

    def fits(kept: Sequence[Limit]) -> bool:
        return any(_fits_with(problem, stage, kept) for stage in STAGES)

    limits = tuple(dict.fromkeys(limit for stage in reversed(STAGES) for limit in _limits_of(problem, stage)))
    if not fits(()):
        return ()
    keep = set(_quick_explain(fits, (), (), limits))
    return tuple(_name(limit, names) for limit in limits if limit in keep)


Limit = tuple[str, int]


def _limits_of(problem: Problem, stage: tuple[float, float]) -> tuple[Limit, ...]:
    if stage[1] == 0.0:
        return (("energy", -1), ("delay", -1), ("clock", -1))
    count = problem.devices.cycles.size
    batteries = np.flatnonzero(np.isfinite(problem.devices.battery)).tolist()
    shared = (("bandwidth", -1),) if problem.limits.band > 0.0 else ()
    return (
        *(("battery", k) for k in batteries),
        *(("power", k) for k in range(count)),
        *(("clock", k) for k in range(count)),
        *shared,
        ("energy", -1),
        ("delay", -1),
    )


def _name(limit: Limit, names: Sequence[str]) -> str:
    kind, index = limit
    if kind in ("energy", "delay", "bandwidth"):
        return kind
    return f"{kind}:{names[index]}" if index >= 0 else f"{kind}:server"


def _fits_with(problem: Problem, stage: tuple[float, float], kept: Sequence[Limit]) -> bool:
    """Whether one round fits when only the limits in `kept` hold and the others are lifted."""
    d, limits, server = problem.devices, problem.limits, problem.server
    clock, power, battery = d.clock_max * _BEYOND, np.log(_WATTS / d.noise), np.full_like(d.battery, np.inf)
    np.maximum(power, d.exponent_max, out=power)
    for kind, k in kept:
        if k < 0:
            continue
        if kind == "clock":
            clock[k] = d.clock_max[k]
        elif kind == "power":
            power[k] = d.exponent_max[k]
        elif kind == "battery":
            battery[k] = d.battery[k]
    held = set(kept)
    lifted = problem._replace(
        devices=d._replace(clock_max=clock, exponent_max=power, battery=battery),
        server=server if ("clock", -1) in held else server._replace(clock_max=server.clock_max * _BEYOND),
        limits=limits._replace(
            energy=limits.energy if ("energy", -1) in held else math.inf,
            delay=limits.delay if ("delay", -1) in held else _ample_delay(problem, stage),
            band=limits.band if ("bandwidth", -1) in held else limits.band * _BEYOND,
        ),
    )
    return fits_one_round(lifted, stage)


def _ample_delay(problem: Problem, stage: tuple[float, float]) -> float:
    """Time enough for anything that takes time at all."""
    bare = problem._replace(devices=problem.devices._replace(battery=np.full_like(problem.devices.battery, np.inf)))
    return _BEYOND * (least_seconds(bare, one_sample(problem), *stage) + problem.limits.delay)


def _quick_explain(
    fits: Callable[[Sequence[Limit]], bool],
    background: Sequence[Limit],
    added: Sequence[Limit],
    limits: Sequence[Limit],
) -> tuple[Limit, ...]:
    """The members of `limits` that a smallest (irreducible) clash with `background` needs."""
    if added and not fits(background):
        return ()
    if len(limits) <= 1:
        return tuple(limits)
    half = len(limits) // 2
    first, second = limits[:half], limits[half:]
    of_second = _quick_explain(fits, (*background, *first), first, second)
    of_first = _quick_explain(fits, (*background, *of_second), of_second, first)
    return (*of_first, *of_second)
