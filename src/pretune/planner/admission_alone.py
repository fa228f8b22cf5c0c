"""One subset of a fleet by itself: what is proven of all of its plans, and the prices that prove it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pretune.planner.infeasible import STAGES, fits_one_round
from pretune.planner.kernels.fixed import new_point
from pretune.planner.problem import Problem
from pretune.planner.search import Search
from pretune.planner.whole import Decision
from pretune.planner.write import entry_of


@dataclass(frozen=True, kw_only=True)
class Alone:
    """What is proven of every plan of one subset, and the best decision known after it (None: the one before)."""

    bound: float = math.inf
    best: Decision | None = None
    late: bool = False
    entries: list[dict[str, Any]] = field(default_factory=list)
    """The price sets that prove it, as a certificate holds them; without any, nothing fits."""
    spans: bool = False
    """Whether the proof has to cut spans of rounds."""


def planned_bound(problem: Problem, tolerance: float, deadline: float, known: Decision | None) -> Alone:
    """Plan one subset.

    `known`: the best decision so far. The subset has to beat it, so most subsets are settled by a few prices.
    """
    if not any(fits_one_round(problem, stage) for stage in STAGES):
        return Alone(entries=shortages(problem, STAGES))
    for starts in ((known.rounds,) if known is not None else (), ()):
        search = Search(problem, tolerance, deadline, best=known, starts=starts)
        search.run()
        if search.proven > -math.inf or search.late:
            break
    return Alone(
        bound=search.proven,
        best=None if search.best is known else search.best,
        late=search.late,
        entries=[entry_of(search.pool[i], search.homes[i]) for i in sorted(search.used)],
        spans=search.cut_spans,
    )


def shortages(problem: Problem, stages: tuple[tuple[float, float], ...]) -> list[dict[str, Any]]:
    """Prices that prove that one round of each of the stages does not fit, as a certificate holds them."""
    search = Search(problem, 1.0)
    search.warm = new_point(problem.devices.cycles.size)
    found = [(stage, search.solve((int(stage[0]), int(stage[1])), whole=False)) for stage in stages]
    return [entry_of(each[0], (*stage, each[1])) for stage, each in found if each is not None]
