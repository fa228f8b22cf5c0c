"""Plain sentences about a plan: what binds, who holds it up, and what a little more would buy.

What a little more buys is found by solving the continuous problem again at the plan's rounds with a changed limit (a
finite difference of a thousandth of it), and what dropping a device buys by planning again without it.
"""

from __future__ import annotations

import math

import numpy as np

from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.kernels.segment_bounds import parts_at
from pretune.planner.kernels.segments import new_course
from pretune.planner.problem import Problem, build
from pretune.planner.schedule.search import ScheduleSearch
from pretune.planner.solve import plan as planned
from pretune.plans import Plan
from pretune.scenario import Scenario
from pretune.uncertainty import counted

STEP = 1e-3
"""Relative change of a limit for a finite difference."""
_MOST_NAMED = 3


def explain(plan: Plan, scenario: Scenario) -> tuple[str, ...]:
    """Sentences about a plan of the scenario; a plan that says nothing fits is explained by its own message."""
    pretrain, finetune = plan.pretrain, plan.finetune
    if pretrain is None or finetune is None:
        return (plan.message,)
    scenario = counted(scenario, plan.under).settled(finetune.local_steps)
    problem, _ = build(scenario)
    m, n = pretrain.rounds, finetune.rounds
    value, prices = _value(problem, m, n, scenario.schedule)
    said = [_stages(m, n), _binding(plan)]
    if finetune.local_steps is not None and n:
        steps = "one local step" if finetune.local_steps == 1 else f"{finetune.local_steps} local steps"
        said.insert(1, f"In a fine-tuning round each device takes {steps}, each with a batch of its own.")
    if not math.isfinite(value):
        return tuple(said)
    limits = problem.limits
    more_j = problem._replace(limits=limits._replace(energy=limits.energy * (1.0 + STEP)))
    more_s = problem._replace(limits=limits._replace(delay=limits.delay * (1.0 + STEP)))
    said.append(_buys("joule", "of energy", value, _value(more_j, m, n, scenario.schedule)[0], STEP * limits.energy))
    said.append(_buys("second", "of time", value, _value(more_s, m, n, scenario.schedule)[0], STEP * limits.delay))
    if n > 0 and limits.band > 0.0 and scenario.radio.uplink_bandwidth_hz is not None:
        wider = problem._replace(limits=limits._replace(band=limits.band * (1.0 + STEP)))
        megahertz = scenario.radio.uplink_bandwidth_hz * 1e-6
        said.append(_buys("megahertz", "of band", value, _value(wider, m, n, 1)[0], STEP * megahertz))
    if n > 0:
        said += _devices(scenario, plan, problem, prices, value)
    said.append(
        "These are rates at the plan's rounds, with real batches: small changes follow them, large ones do not."
    )
    return tuple(said)


def _stages(m: int, n: int) -> str:
    counted = f"{m or n:,} round{'' if (m or n) == 1 else 's'}"
    if n == 0:
        return f"The plan pre-trains for {counted} and does not fine-tune."
    if m == 0:
        return f"The plan fine-tunes for {counted} and does not pre-train."
    return f"The plan pre-trains for {counted} and fine-tunes for {n:,}."


def _binding(plan: Plan) -> str:
    """The limits without slack: the budgets by name, the devices' limits counted by kind."""
    binding = [limit for limit in plan.constraints if limit.binding]
    names = [limit.name for limit in binding]
    said = [f"the {name} budget" for name in ("energy", "delay") if name in names]
    said += ["the band"] if "bandwidth" in names else []
    kinds = {"battery": "batteries", "power": "powers", "clock": "clocks", "batch": "batches"}
    for kind, plural in kinds.items():
        at = [name.partition(":")[2] for name in names if name.startswith(f"{kind}:")]
        more = sum(limit.devices - 1 for limit in binding if limit.devices and limit.name.startswith(f"{kind}:"))
        if at:
            more += max(len(at) - _MOST_NAMED, 0)
            who = ", ".join(at[:_MOST_NAMED]) + (f" and {more:,} more" if more else "")
            said.append(f"the {plural} of {who}" if len(at) + more > 1 else f"the {kind} of {who}")
    return "Nothing binds." if not said else f"What binds: {'; '.join(said)}."


def _buys(unit: str, of: str, before: float, after: float, amount: float) -> str:
    """What one more unit buys, as a rate, and what one percent of the limit buys of the objective."""
    if not math.isfinite(after):
        return f"What one more {unit} {of} buys could not be computed."
    rate = max(before - after, 0.0) / amount
    share = rate * amount / STEP * 0.01 / before if before > 0.0 else 0.0
    if share < 1e-9:
        return f"One more {unit} {of} buys nothing here."
    return f"One more {unit} {of} lowers the objective by {rate:.3g}; one percent more of it by {100 * share:.2g}%."


def _devices(scenario: Scenario, plan: Plan, problem: Problem, prices: Floats, value: float) -> list[str]:
    """The bottleneck, what more power would buy it, and what going without it would change."""
    m, n = plan.pretrain.rounds if plan.pretrain else 0, plan.finetune.rounds if plan.finetune else 0
    names = scenario.devices.names
    if not prices.sum() > 0.0:
        return ["No device holds up the others: time is not short."]
    worst = int(np.argmax(prices))
    share = float(prices[worst] / prices.sum())
    said = [
        f"The bottleneck is {names[worst]}: {100 * share:.0f}% of what a round's time is worth is owed to it"
        + (f", {_others(names, prices, worst)}." if len(names) > 1 else ".")
    ]
    d = problem.devices
    power = d.noise[worst] * np.expm1(d.exponent_max[worst])
    exponents = d.exponent_max.copy()
    exponents[worst] = math.log1p(power * (1.0 + STEP) / d.noise[worst])
    stronger = problem._replace(devices=d._replace(exponent_max=exponents))
    said.append(
        _buys(
            "watt",
            f"of transmit power for {names[worst]}",
            value,
            _value(stronger, m, n, scenario.schedule)[0],
            STEP * power,
        )
    )
    if len(names) > 1:
        said.append(_without(scenario, plan, worst))
    return said


def _others(names: tuple[str, ...], prices: Floats, worst: int) -> str:
    order = [int(k) for k in np.argsort(-prices, kind="stable") if k != worst][: _MOST_NAMED - 1]
    order = [k for k in order if prices[k] >= 0.005 * prices.sum()]
    return (
        "and nothing to the others"
        if not order
        else "then come " + ", ".join(f"{names[k]} ({100 * prices[k] / prices.sum():.0f}%)" for k in order)
    )


def _without(scenario: Scenario, plan: Plan, k: int) -> str:
    """What the best plan of the other devices is worth; their weights grow in proportion."""
    rows = scenario.devices.to_rows()
    name = rows.pop(k)["name"]
    total = math.fsum(row["weight"] for row in rows)
    if not total > 0.0:
        return f"Without {name} no data would be left to learn."
    for row in rows:
        row["weight"] /= total
    convergence = scenario.assumed
    same = {key: getattr(convergence, key) for key in convergence.model_fields_set} | {"robust": False}
    if isinstance(convergence.finetune_variance, tuple):
        given = list(convergence.finetune_variance)
        del given[k]
        same["finetune_variance"] = given
    fixed = {"measured": None, "variation": None, "planning": None}  # what is planned here is certain
    without = scenario.replace(devices=rows, convergence=type(convergence)(**same), **fixed)
    rest = planned(without, tolerance=1e-3, throw=False)
    if not rest.status.has_plan:
        return f"Without {name} there is no plan."
    change = (rest.objective - plan.objective) / plan.objective if plan.objective > 0.0 else 0.0
    word = "lower" if change < 0.0 else "higher"
    return (
        f"Without {name}, the best plan's objective would be {100 * abs(change):.2g}% {word} ({rest.objective:.5g}); "
        "but its data would not be learnt, and the objective does not see that."
    )


def _value(problem: Problem, m: int, n: int, schedule: int) -> tuple[float, Floats]:
    """The criterion at the rounds with real batches, infinity where they do not fit; and what each device holds up.

    That is its share of the price of time, shape (K,), over all rounds.
    """
    weight, phi, psi0, psi = coefficients(problem.criterion, float(m), float(n))
    if schedule > 1:
        course = new_course(schedule, problem.devices.cycles.size)
        status = ScheduleSearch(problem, schedule, STEP).solve((m, n), course)
        rounds = parts_at(problem.criterion, float(m), float(n), schedule).n
        noise, prices = float(course.scalars[4]), rounds @ course.price
    else:
        point = new_point(problem.devices.cycles.size)
        status = solve_fixed(problem, problem.batches, float(m), float(n), psi0, psi, point)
        noise, prices = float(point.scalars[8]), point.price
    return ((phi + noise) / weight if status == SOLVED else math.inf), prices
