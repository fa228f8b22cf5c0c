"""Baselines that are the joint problem with something fixed: solved by the same search, to the same tolerance.

What is fixed is written into the problem's numbers, exactly:

- one stage only: the search knows no rounds of the other;
- batches: the lower and the upper end of each range meet at ``min(batch, data set)``;
- clocks at ``f_max``: a processor with ``kappa' = s kappa`` and ``P' = P + (1 - s) kappa f_max^3`` draws the same power
  at ``f_max``, and its best clock ``((omega + P')/(2 kappa'))^(1/3)`` lies above ``f_max`` at any price of time
  ``omega >= 0`` once ``s <= 1/3``, so it always runs at ``f_max``;
- the shares of a band at equal parts: the problem whose devices have those as bandwidths of their own;
- powers at ``P``: a link with noise ``n' = s n`` and circuit power ``P_c' = P_c + (1 - s) P`` spends the same at its
  largest exponent ``x = ln(1 + P/n)``, and uses that one at any price once ``x e^x - e^x + 1 <= P_c'/n'``; as
  ``x e^x - e^x + 1 <= x (e^x - 1) = x P/n``, ``s <= 1/(1 + x)`` is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pretune.errors import InputError
from pretune.planner.baselines.outcome import UNUSED, Outcome, Task, written
from pretune.planner.problem import Problem, build
from pretune.planner.search import Search
from pretune.planner.write import finetune_stage, pretrain_stage, with_margin
from pretune.plans import FinetuneStage, PretrainStage

SHARE = 1e-6
"""What is left of capacitance or noise (`s` above) where clocks or powers are fixed."""
BATCH = 32


@dataclass
class StageSearch(Search):
    """A search that may leave out a stage."""

    stages: tuple[bool, bool] = (True, True)

    def _most(self, stage: int) -> int:
        return super()._most(stage) if self.stages[stage] else 0

    def _within_delay(self, stage: int) -> int:
        return super()._within_delay(stage) if self.stages[stage] else 0


def fixed_batches(problem: Problem, batch: int) -> Problem:
    """The problem with every batch at `batch`, or at the data set's size where that is smaller."""
    if batch < 1:
        raise InputError.field("batch", batch, "a whole number above 0")
    held = np.minimum(problem.batches.high, float(batch))
    server = min(problem.batches.server_high, float(batch))
    batches = problem.batches._replace(server_low=server, server_high=server, low=held, high=held.copy())
    return problem._replace(batches=batches)


def fixed_clocks(problem: Problem) -> Problem:
    """The problem of processors that always run at their highest clock."""
    d, server = problem.devices, problem.server
    return problem._replace(
        devices=d._replace(
            capacitance=SHARE * d.capacitance, static=d.static + (1.0 - SHARE) * d.capacitance * d.clock_max**3
        ),
        server=server._replace(
            capacitance=SHARE * server.capacitance,
            static=server.static + (1.0 - SHARE) * server.capacitance * server.clock_max**3,
        ),
    )


def fixed_powers(problem: Problem) -> Problem:
    """The problem of links that always send at their highest power."""
    d = problem.devices
    share = np.minimum(SHARE, 1.0 / (1.0 + d.exponent_max))
    power = d.noise * np.expm1(d.exponent_max)
    return problem._replace(devices=d._replace(noise=share * d.noise, circuit=d.circuit + (1.0 - share) * power))


def equal_shares(problem: Problem) -> Problem:
    """The problem in which each device has the same bandwidth."""
    return problem._replace(limits=problem.limits._replace(band=0.0))


def restricted(
    task: Task,
    name: str,
    change: Callable[[Problem], Problem] = lambda problem: problem,
    stages: tuple[bool, bool] = (True, True),
) -> Outcome:
    """The best plan of the changed problem."""
    began = time.perf_counter()
    problem, _ = build(task.scenario)
    search = StageSearch(with_margin(change(problem)), task.tolerance, task.deadline, stages=stages)
    search.run()
    spent = time.perf_counter() - began
    best = search.best
    if best is None:
        return Outcome(name=name, plan=None, planning_s=spent, note="infeasible: not even one round fits")
    plan = written(
        task, pretrain_stage(task.scenario, best), finetune_stage(task.scenario, best), late=_late(search, task)
    )
    return Outcome(name=name, plan=plan, restricted_bound=min(search.proven, plan.objective), planning_s=spent)


def _late(search: Search, task: Task) -> bool:
    """Whether the clock ended the search before its own gap was closed."""
    return search.late and search.gap > task.tolerance


def equal_split(task: Task, name: str) -> Outcome:
    """Half of both budgets for each stage, and each stage planned as if it were the whole run.

    A stage that does not fit its half is left out; the halves it would have had are not used.
    """
    began = time.perf_counter()
    problem, _ = build(task.scenario)
    limits = problem.limits
    half = with_margin(problem._replace(limits=limits._replace(energy=0.5 * limits.energy, delay=0.5 * limits.delay)))
    pretrain: PretrainStage = UNUSED
    finetune: FinetuneStage = FinetuneStage.unused()
    late = False
    for stages in ((True, False), (False, True)):
        search = StageSearch(half, task.tolerance, task.deadline, stages=stages)
        search.run()
        late = late or _late(search, task)
        if search.best is not None and stages[0]:
            pretrain = pretrain_stage(task.scenario, search.best)
        elif search.best is not None:
            finetune = finetune_stage(task.scenario, search.best)
    spent = time.perf_counter() - began
    if pretrain.rounds + finetune.rounds == 0:
        note = "infeasible: neither stage fits half of the budgets"
        return Outcome(name=name, plan=None, planning_s=spent, note=note)
    return Outcome(name=name, plan=written(task, pretrain, finetune, late=late), planning_s=spent)
