"""What an infeasible plan says beside the shortage that is proven: the clash, least budgets, devices to drop."""

from __future__ import annotations

import math

from pretune.figures import SAME
from pretune.plans import Infeasibility
from pretune.scenario import Scenario


def wrong_with_clash(found: Infeasibility, scenario: Scenario) -> list[str]:
    """What of it can't be so, one line each: limits and devices there are, and budgets beyond those given.

    That the budgets are the least, the clash irreducible and the rest of the fleet enough, only a solver could prove.
    """
    names, budget = set(scenario.devices.names), scenario.budget
    known = {"energy", "delay", "bandwidth", "clock:server"}
    known |= {f"{kind}:{name}" for kind in ("clock", "power", "battery") for name in names}
    problems = []
    odd = [name for name in found.clash if name not in known]
    if odd:
        problems.append(f"plan.infeasibility.clash: {odd[:3]} are no limits")
    if not found.clash and math.isfinite(min(found.min_energy_j, found.min_delay_s)):
        problems.append("plan.infeasibility.clash: names no limit")
    for key, least, given in (
        ("min_energy_j", found.min_energy_j, budget.energy_j),
        ("min_delay_s", found.min_delay_s, budget.delay_s),
    ):
        if not least >= given * (1.0 - SAME):
            problems.append(f"plan.infeasibility.{key}: claims {least!r}, which the scenario has: {given!r}")
    drop = found.drop
    if drop is not None and not (set(drop) < names and len(drop) == len(set(drop)) > 0):
        problems.append(f"plan.infeasibility.drop: {list(drop)[:3]} are not some of the devices")
    return problems
