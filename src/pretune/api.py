"""The public functions. Each loads what it needs when it is called: importing pretune stays light."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pretune.certify import Checked
from pretune.certify import check as _check
from pretune.plans import Plan, load_plan
from pretune.scenario import Scenario, load_scenario

if TYPE_CHECKING:
    from pretune.planner.admission import Admission
    from pretune.runtime.run import RunResult

__all__ = ["admit", "check", "load_plan", "load_scenario", "plan", "run"]


def plan(scenario: Scenario, *, tolerance: float = 1e-4, time_limit: float | None = None, throw: bool = True) -> Plan:
    """The best plan within the scenario's budgets, with a proven lower bound.

    Args:
        scenario: what to plan for.
        tolerance: relative gap at or under which a plan counts as optimal.
        time_limit: seconds after which the best plan so far is returned.
        throw: raise `Infeasible` where nothing fits; otherwise return the plan that explains it.

    Raises:
        InputError: an option can't be used.
        Infeasible: proven that nothing fits, and `throw` is true.
    """
    from pretune.planner import plan as solve

    return solve(scenario, tolerance=tolerance, time_limit=time_limit, throw=throw)


def admit(
    scenario: Scenario,
    *,
    tolerance: float = 1e-3,
    time_limit: float | None = None,
    min_weight: float = 0.0,
    throw: bool = True,
) -> Admission:
    """The subset of the devices with the best plan, and a lower bound over all non-empty subsets.

    The criterion of a subset speaks of the admitted devices' average alone: it does not price the data left out.

    Args:
        scenario: the whole fleet's.
        tolerance: relative gap, over all subsets, at or under which the subset counts as optimal.
        time_limit: seconds after which the best subset so far is returned.
        min_weight: least share of the original weight that must remain.
        throw: raise `Infeasible` where no subset has a plan; otherwise return the admission that says so.

    Raises:
        InputError: an option can't be used, or no subset with `min_weight` was found that fits.
        Infeasible: proven that nothing fits, whatever the subset, and `throw` is true.
    """
    from pretune.planner.admission import admit as choose

    return choose(scenario, tolerance=tolerance, time_limit=time_limit, min_weight=min_weight, throw=throw)


def check(plan: Plan, scenario: Scenario) -> Checked:
    """Recompute every claim of a plan from the cost model and its certificate; never calls a solver.

    Raises:
        PlanMismatch: the plan was made for another scenario.
        CheckFailed: with one line per claim that does not hold.
    """
    return _check(plan, scenario)


def run(plan: Plan, scenario: Scenario, *, out: str | os.PathLike[str], **options: Any) -> RunResult:
    """Carry out a plan on real data, simulated on this machine; needs ``pretune[train]``.

    `options` are those of `pretune.runtime.run.run`: seed, base, resume, evaluate_every, progress.

    Raises:
        MissingExtra: PyTorch is not installed.
        InputError: plan, scenario, task or folder can't be used.
        RunFailed: the run diverged or its folder is damaged; what it had learnt is kept.
    """
    from pretune.errors import MissingExtra

    try:
        from pretune.runtime.run import run as execute
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name or "PyTorch") from None
    return execute(plan, scenario, out=out, **options)
