"""`pretune plan` and `pretune check`."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pretune.cli.guard import complain
from pretune.errors import CheckFailed, InputError
from pretune.plans import Plan, Status, plan_from_dict
from pretune.scenario import Scenario, load_scenario

_EXIT = {Status.OPTIMAL: 0, Status.FEASIBLE: 0, Status.INFEASIBLE: 3}


def plan_command(
    path: Path,
    *,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    tolerance: float,
    time_limit: float | None,
    force: bool,
    explained: bool = False,
) -> int:
    """Plan a scenario, show or write the plan; the exit code says how it ended."""
    check_options(tolerance, time_limit)
    if out is not None:
        refuse_existing(out, force=force)
    scenario = load_scenario(path)
    plan = make_plan(scenario, tolerance=tolerance, time_limit=time_limit)
    if out is not None:
        save(plan, out)
    if as_json:
        print(plan.to_json())
    elif not quiet:
        from pretune.cli.show_plan import show_plan

        show_plan(plan, scenario)
        for line in scenario.not_as_measured:
            complain(line)
        if scenario.convergence.robust and plan.status.has_plan:
            from pretune.cli.show_plan import show_moved
            from pretune.planner.moved import moved

            show_moved(moved(plan, scenario, tolerance=tolerance, time_limit=time_limit))
        if out is not None:
            print(f"Plan: {out}")
    if explained and plan.status.has_plan:
        from pretune.cli.show_plan import show_explanation

        show_explanation(plan, scenario, aside=as_json or quiet)
    return plan_exit_code(plan, told=not (as_json or quiet))


def make_plan(scenario: Scenario, *, tolerance: float, time_limit: float | None) -> Plan:
    """The plan, whatever its status."""
    from pretune.planner import plan

    return plan(scenario, tolerance=tolerance, time_limit=time_limit, throw=False)


def plan_exit_code(plan: Plan, *, told: bool) -> int:
    """The exit code of a plan's status; where it is no success, with a line on standard error.

    `told` says that the reasons have been printed already.
    """
    code = _EXIT.get(plan.status, 1)
    if code:
        complain(plan.message.partition(":")[0] if told and plan.message else plan.message or plan.status.value)
    return code


def check_options(tolerance: float, time_limit: float | None) -> None:
    """Refuse numbers that mean nothing before any work is done."""
    if not 0 < tolerance < 1:
        raise InputError.field("--tolerance", tolerance, "a share between 0 and 1")
    if time_limit is not None and not (time_limit > 0 and math.isfinite(time_limit)):
        raise InputError.field("--time-limit", time_limit, "a number of seconds above 0")


def refuse_existing(out: Path, *, force: bool) -> None:
    """Nothing is overwritten silently, and a file that can't be written is known before the work."""
    if out.is_dir():
        raise InputError(f"{out}: is a folder; give the name of a file")
    if out.exists() and not force:
        raise InputError(f"{out}: exists already; give another name or --force")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}")


def save(plan: Plan, out: Path) -> None:
    """Write the plan file."""
    try:
        plan.save(out)
    except OSError as error:
        raise InputError(f"{out}: can't be written ({error.strerror})") from None


def check_command(plan_path: Path, scenario_path: Path, *, as_json: bool, quiet: bool) -> int:
    """Check a plan, or an admission, against its scenario; every claim that fails is a line on standard error."""
    from pretune.admitting.check import admission_from_dict, check_admission, is_admission, load_tree
    from pretune.certify import check

    tree, scenario = load_tree(plan_path), load_scenario(scenario_path)
    admitted = admission_from_dict(tree) if is_admission(tree) else None
    plan = plan_from_dict(tree) if admitted is None else admitted.plan
    try:
        checked = check(plan, scenario) if admitted is None else check_admission(admitted, scenario)
    except CheckFailed as failed:
        if as_json:
            print(json.dumps({"holds": False, "lower_bound_proven": False, "problems": list(failed.problems)}))
        raise
    if as_json:
        print(json.dumps({"holds": True, "lower_bound_proven": checked.lower_bound_proven, "problems": []}))
    elif not quiet:
        from pretune.cli.show_plan import show_check

        show_check(plan, checked, None if admitted is None else admitted.lower_bound)
    return 0
