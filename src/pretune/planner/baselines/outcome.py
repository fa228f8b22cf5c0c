"""What a baseline hands back, and how its decisions become a plan that `pretune check` accepts.

The bound of a baseline's plan is the *joint* plan's: it holds for every plan of the scenario, so gaps are comparable,
and the joint plan's prices prove it. What is proven about the restricted problem alone is `Outcome.restricted_bound`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

from pretune.certify import limits_of, sentence, totals, value_of
from pretune.figures import system_of
from pretune.planner.problem import build
from pretune.planner.solve import TOLERANCE
from pretune.planner.write import MOST_CERTIFIED, entry_of, graded, own_prices, share_of
from pretune.plans import FinetuneStage, Plan, PretrainStage
from pretune.price_sets import multipliers_of, priced
from pretune.scenario import Scenario
from pretune.uncertainty import equivalent
from pretune.uncertainty.claim import planning_confidence
from pretune.uncertainty.margin import margin_j

UNUSED = PretrainStage(rounds=0, batch=0, clock_hz=0.0, round_s=0.0)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One way of planning and what came of it; `plan` is None where it found none, and `note` says why."""

    name: str
    plan: Plan | None
    restricted_bound: float = math.nan
    """Proven lower bound of the restricted problem (its margin of 1e-11 included); NaN where nothing is proven."""
    planning_s: float = 0.0
    note: str = ""

    @property
    def status(self) -> str:
        """The plan's status; without a plan the first word of the note: `infeasible`, `unavailable` or `none found`."""
        return self.plan.status.value if self.plan is not None else self.note.partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What every baseline gets: the scenario, the joint plan whose bound it is measured by, and the search's limits."""

    scenario: Scenario
    """With the joint plan's number of local steps, where that is chosen."""
    joint: Plan
    asked: Scenario
    """The scenario as it was given: what the plans are for."""
    tolerance: float = TOLERANCE
    time_limit: float | None = None

    @property
    def deadline(self) -> float:
        """Value of the monotonic clock at which a search that starts now has to stop."""
        return math.inf if self.time_limit is None else time.monotonic() + self.time_limit


def written(task: Task, pretrain: PretrainStage, finetune: FinetuneStage, *, late: bool = False) -> Plan:
    """The plan of some decisions: every figure from the cost model, the bound and its proof from the joint plan.

    The multipliers are those of the unrestricted continuous problem at these rounds: what one more joule or second
    would buy if all but the rounds were free.
    """
    scenario, joint = task.scenario, task.joint
    energy_j, delay_s = totals(scenario, pretrain, finetune)
    objective = value_of(scenario, pretrain, finetune)
    lower = min(joint.lower_bound, objective)
    problem, _ = build(scenario)
    rounds = (pretrain.rounds, finetune.rounds)
    m, n = map(float, rounds)
    entry = entry_of(own_prices(problem, rounds), (m, n, 0.0), share_of(scenario))
    certificate: dict[str, Any] = {"tolerance": task.tolerance}
    known = joint.certificate or {}
    if len(scenario.devices) <= MOST_CERTIFIED and known.get("prices"):
        certificate["prices"] = [entry, *known["prices"]]
        if "local_steps" in known:
            certificate["local_steps"] = known["local_steps"]
    several = None if joint.finetune is None else joint.finetune.local_steps
    finetune = replace(finetune, local_steps=several)
    system = system_of(scenario)
    plan = Plan(
        criterion=scenario.convergence.criterion.value,
        scenario_sha256=task.asked.sha256,
        defaults=task.asked.defaults,
        pretrain=pretrain,
        finetune=finetune,
        objective=objective,
        **graded(objective, lower, task.tolerance, late=late),
        energy_j=energy_j,
        delay_s=delay_s,
        multipliers=multipliers_of(system, priced(system, entry), m, n),
        constraints=limits_of(scenario, pretrain, finetune),
        certificate=certificate,
        under=joint.under,
    )
    return Plan(**{**vars(plan), "message": sentence(plan)})


def within_reserve(outcome: Outcome, scenario: Scenario) -> Outcome:
    """The outcome, without its plan where a `planning.confidence` is not kept by it with the reserve it counts with."""
    plan, confidence = outcome.plan, planning_confidence(scenario)
    if plan is None or plan.finetune is None or confidence is None:
        return outcome
    reserve_j = float((plan.under or {}).get("reserve_j", 0.0))
    beyond = margin_j(equivalent(scenario, reserve_j), plan.finetune, confidence)
    if plan.energy_j + beyond <= scenario.budget.energy_j:
        return outcome
    note = f"none found: with the joint plan's reserve of {reserve_j:.3g} J its run may take more than the budget"
    return replace(outcome, plan=None, restricted_bound=math.nan, note=note)


def fits(scenario: Scenario, pretrain: PretrainStage, finetune: FinetuneStage) -> bool:
    """Whether the decisions keep every limit, by the cost model alone."""
    return all(limit.value <= limit.limit for limit in limits_of(scenario, pretrain, finetune))
