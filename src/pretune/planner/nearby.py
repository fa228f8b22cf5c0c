"""Planning again for other budgets, as somebody drags them: the search begins at the rounds of the plan before.

Those rounds are nearly the best ones already, so the pass with real batches, whose job is to find them, is left out.
"""

from __future__ import annotations

import math
import time

from pretune.planner.infeasible import STAGES, fits_one_round
from pretune.planner.kernels.fixed import new_point
from pretune.planner.problem import build
from pretune.planner.rows import Rows
from pretune.planner.search import Search
from pretune.planner.solve import TOLERANCE, plan
from pretune.planner.write import MOST_CERTIFIED, with_margin, write_plan
from pretune.plans import Plan
from pretune.scenario import Scenario


class Nearby(Search):
    """A search that looks for whole batches at once, from `starts` on."""

    def run(self) -> None:
        """Search until the gap is within the tolerance, nothing is left to cut, or the time is up."""
        self.within = (self._within_delay(0), self._within_delay(1))
        self.warm = new_point(self.problem.devices.cycles.size)
        self._rows = Rows(self.problem)
        for rounds in self.starts:
            self._probe(rounds, None, whole=True)
        if self.best is None:
            return
        self._cut(whole=True)
        if not (self._settled or self.late):
            self._cut(whole=True, spans=True)


def plan_nearby(
    scenario: Scenario,
    rounds: tuple[int, int] | None,
    *,
    tolerance: float = TOLERANCE,
    time_limit: float | None = None,
) -> Plan:
    """As `plan` with ``throw=False``, but the search begins at `rounds`: those of a plan for nearly the same budgets.

    The proof is as good, the plan as near to it as the tolerance says; which of the plans within the tolerance it is
    depends on `rounds`. Large fleets, schedules and choices of local steps are planned from nothing.
    """
    alone = scenario.schedule == 1 and len(scenario.convergence.choices) == 1
    if rounds is not None and alone and (len(scenario.devices) <= MOST_CERTIFIED or scenario.radio.shares_decided):
        problem, _ = build(scenario)
        if any(fits_one_round(problem, stage) for stage in STAGES):
            deadline = math.inf if time_limit is None else time.monotonic() + time_limit
            search = Nearby(with_margin(problem), tolerance, deadline, starts=(rounds,))
            search.run()
            if search.best is not None:
                return write_plan(scenario, problem, search, tolerance)
    return plan(scenario, tolerance=tolerance, time_limit=time_limit, throw=False)
