"""How far a robust plan lies from the plan for the values in use, and what either is worth by the other's constants."""

from __future__ import annotations

from dataclasses import dataclass

from pretune.certify import value_of
from pretune.planner.solve import plan as planned
from pretune.plans import Plan
from pretune.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Stand:
    """A plan, and its objective under either set of constants."""

    name: str
    plan: Plan
    in_use: float
    """Its objective with the constants in use."""
    at_worst: float
    """Its objective with the worst constants within their measured intervals."""


def moved(
    plan: Plan, scenario: Scenario, *, tolerance: float = 1e-4, time_limit: float | None = None
) -> tuple[Stand, ...]:
    """A robust plan beside the plan for the constants in use, which costs a second planning.

    `plan` has to have decisions. Both fit the budgets alike: no constant of convergence is in a limit.
    """
    same = {key: getattr(scenario.convergence, key) for key in scenario.convergence.model_fields_set}
    in_use = scenario.replace(convergence=type(scenario.convergence)(**{**same, "robust": False}))
    other = planned(in_use, tolerance=tolerance, time_limit=time_limit, throw=False)
    stands = (("worst", plan), ("in use", other))
    return tuple(
        Stand(name=name, plan=one, in_use=_value(in_use, one), at_worst=_value(scenario, one)) for name, one in stands
    )


def _value(scenario: Scenario, plan: Plan) -> float:
    if plan.pretrain is None or plan.finetune is None:
        raise ValueError("a plan without decisions has no objective")
    return value_of(scenario, plan.pretrain, plan.finetune)
