"""Baselines: other ways to plan the same scenario, each with the same `Plan` in the end.

outcome   what a baseline hands back          restricted  one stage only, fixed batches, clocks or powers, halves
drawn     random decisions                    literature  successive convex approximation inside a search over rounds
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pretune.errors import InputError, MissingExtra
from pretune.planner.baselines.drawn import random_feasible
from pretune.planner.baselines.literature import SuccessiveOptions, literature
from pretune.planner.baselines.outcome import Outcome, Task, within_reserve
from pretune.planner.baselines.restricted import (
    BATCH,
    equal_shares,
    equal_split,
    fixed_batches,
    fixed_clocks,
    fixed_powers,
    restricted,
)
from pretune.planner.solve import TOLERANCE
from pretune.planner.solve import plan as joint_plan
from pretune.planning import Under
from pretune.plans import Plan
from pretune.scenario import Scenario
from pretune.uncertainty import counted, planned_under

__all__ = [
    "CONSTANT",
    "JOINT",
    "NAMES",
    "ONE_STEP",
    "Options",
    "Outcome",
    "SuccessiveOptions",
    "baseline",
    "compare",
    "joint_outcome",
    "names_for",
]

JOINT, CONSTANT, ONE_STEP = "joint", "constant", "one-local-step"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may be chosen about the baselines: the fixed batch, the random one's seed, and the literature's way."""

    batch: int = BATCH
    seed: int = 0
    successive: SuccessiveOptions = field(default_factory=SuccessiveOptions)


_WAYS: dict[str, Callable[[Task, Options], Outcome]] = {
    "pretrain-only": lambda task, _: restricted(task, "pretrain-only", stages=(True, False)),
    "finetune-only": lambda task, _: restricted(task, "finetune-only", stages=(False, True)),
    "fixed-batch": lambda task, o: restricted(task, "fixed-batch", lambda problem: fixed_batches(problem, o.batch)),
    "fixed-clock": lambda task, _: restricted(task, "fixed-clock", fixed_clocks),
    "fixed-power": lambda task, _: restricted(task, "fixed-power", fixed_powers),
    "equal-bandwidth": lambda task, _: restricted(task, "equal-bandwidth", equal_shares),
    "equal-split": lambda task, _: equal_split(task, "equal-split"),
    "random": lambda task, o: random_feasible(task, "random", o.seed),
    "successive": lambda task, o: literature(task, "successive", o.successive),
}
NAMES = tuple(_WAYS)
"""The baselines, in the order they are planned."""
BAND = "equal-bandwidth"
"""The one that only means something where the plan shares out a band."""


def names_for(scenario: Scenario) -> tuple[str, ...]:
    """The baselines that the scenario has."""
    return tuple(name for name in NAMES if name != BAND or scenario.radio.shares_decided)


def _refuse_asking(scenario: Scenario) -> None:
    """Baselines ask everybody: beside a plan that decides who is asked they would be plans of another scenario."""
    if planned_under(scenario) is Under.PARTICIPATION:
        should = "another, or no planning: baselines ask all devices in every round, so compare without it"
        raise InputError.field("planning.under", Under.PARTICIPATION.value, should)


def joint_outcome(scenario: Scenario, *, tolerance: float = TOLERANCE, time_limit: float | None = None) -> Outcome:
    """The joint plan as an outcome; its plan has the status `infeasible` where nothing fits."""
    began = time.perf_counter()
    plan = joint_plan(scenario, tolerance=tolerance, time_limit=time_limit, throw=False)
    return Outcome(
        name=JOINT, plan=plan, restricted_bound=plan.lower_bound, planning_s=time.perf_counter() - began, note=""
    )


def baseline(
    name: str,
    scenario: Scenario,
    joint: Plan,
    *,
    options: Options | None = None,
    tolerance: float = TOLERANCE,
    time_limit: float | None = None,
) -> Outcome:
    """What one baseline makes of the scenario; `joint` is the scenario's joint plan, whose bound it is measured by.

    Under a `planning` the baseline is one for the same deterministic scenario as the joint plan, so it keeps the same
    promise; with a confidence it has the joint plan's reserve, and no plan where its own run may take more than that.

    Raises:
        InputError: there is no such baseline for the scenario, or an option can't be used.
        MissingExtra: the baseline needs an optional part that is not installed.
    """
    _refuse_asking(scenario)
    if name not in names_for(scenario):
        raise InputError.field("baseline", name, "one of " + ", ".join(names_for(scenario)))
    steps = None if joint.finetune is None else joint.finetune.local_steps
    settled = counted(scenario, joint.under).settled(steps)
    task = Task(scenario=settled, joint=joint, asked=scenario, tolerance=tolerance, time_limit=time_limit)
    return within_reserve(_WAYS[name](task, options or Options()), scenario)


def compare(
    scenario: Scenario,
    *,
    only: Sequence[str] = (),
    options: Options | None = None,
    tolerance: float = TOLERANCE,
    time_limit: float | None = None,
) -> Iterator[Outcome]:
    """The joint plan, then each baseline (those named in `only`, or all), as they are done.

    Where the plan chooses its local steps, the best plan with one local step (if that is a choice) comes second; the
    baselines have those of the joint plan.

    Baselines know no segments: where the scenario has a schedule, its best constant plan comes second, and the
    baselines are ways to plan that scenario without the schedule.

    `time_limit` holds for each of them alone. Where an optional part is missing, a baseline that was named raises;
    one that was not is handed back without a plan, and its note says what is missing. Where nothing at all fits, the
    joint plan is all there is.

    Raises:
        InputError: there is no such baseline for the scenario, or an option can't be used.
        MissingExtra: a baseline that was named needs an optional part that is not installed.
    """
    _refuse_asking(scenario)
    known = names_for(scenario)
    for name in only:
        if name not in known:
            raise InputError.field("baseline", name, "one of " + ", ".join(known))
    first = joint_outcome(scenario, tolerance=tolerance, time_limit=time_limit)
    yield first
    if first.plan is None or not first.plan.status.has_plan:
        return
    joint = first.plan
    if scenario.schedule > 1:
        scenario = scenario.replace(schedule=1)
        first = replace(joint_outcome(scenario, tolerance=tolerance, time_limit=time_limit), name=CONSTANT)
        yield first
        joint = first.plan or joint
    if len(scenario.convergence.choices) > 1 and 1 in scenario.convergence.choices:
        single = scenario.settled(1)
        yield replace(joint_outcome(single, tolerance=tolerance, time_limit=time_limit), name=ONE_STEP)
    for name in [name for name in known if name in only or not only]:
        try:
            yield baseline(name, scenario, joint, options=options, tolerance=tolerance, time_limit=time_limit)
        except MissingExtra as missing:
            if only:
                raise
            yield Outcome(name=name, plan=None, note=f"unavailable: {missing}")
