"""pretune: plan and run two-stage edge learning within an energy and a delay budget.

scenario = pretune.load_scenario("scenario.yaml")
plan = pretune.plan(scenario)
pretune.check(plan, scenario)
result = pretune.run(plan, scenario, out="runs/1")      # needs pretune[train]
"""

from pretune.api import admit, check, load_plan, load_scenario, plan, run
from pretune.errors import (
    CheckFailed,
    Infeasible,
    InputError,
    MissingExtra,
    PlanMismatch,
    PretuneError,
    RunFailed,
)
from pretune.fleet import Fleet
from pretune.plans import Plan, Status
from pretune.scenario import Scenario
from pretune.version import __version__

__all__ = [
    "CheckFailed",
    "Fleet",
    "Infeasible",
    "InputError",
    "MissingExtra",
    "Plan",
    "PlanMismatch",
    "PretuneError",
    "RunFailed",
    "Scenario",
    "Status",
    "__version__",
    "admit",
    "check",
    "load_plan",
    "load_scenario",
    "plan",
    "run",
]
