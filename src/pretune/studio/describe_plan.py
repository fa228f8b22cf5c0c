"""A plan as the page shows it: every figure from the plan, the cost model and the report's own sentences."""

from __future__ import annotations

import math

import numpy as np

from pretune.physics import cost
from pretune.physics.types import Floats
from pretune.planner.problem import build
from pretune.plans import FinetuneStage, Plan, PretrainStage
from pretune.report import sentences
from pretune.report.spending import FINETUNE, PRETRAIN, Share, device_columns, shares
from pretune.report.words import gap, joules, printable, seconds
from pretune.scenario import Access, Scenario
from pretune.studio.responses import (
    Budgets,
    CertificateInfo,
    DeviceTable,
    InfeasibleInfo,
    Limit,
    PlanAnswer,
    Spending,
    StageInfo,
    Suggestion,
)
from pretune.studio.words import price_of

ENOUGH = 1.001
"""A suggested budget is this much above the least that would do, so that it really does."""
SAME = 1e-9
"""Relative slack within which a device is at its limit."""
_DIGITS = 7


def plan_answer(plan: Plan, scenario: Scenario, key: str, *, planning_s: float, devices: bool) -> PlanAnswer:
    """All that the page shows of a plan, feasible or not."""
    spent = shares(plan, scenario) if plan.status.has_plan else ()
    own = [limit for limit in plan.constraints if ":" not in limit.name or limit.name.endswith(":server")]
    return PlanAnswer(
        scenario_id=key,
        name=scenario.name,
        status=plan.status.value,
        has_plan=plan.status.has_plan,
        message=sentences.status(plan),
        planning_s=planning_s,
        budget=Budgets(energy_j=scenario.budget.energy_j, delay_s=scenario.budget.delay_s),
        criterion=plan.criterion,
        criterion_words=sentences.criterion(plan),
        objective=_known(plan.objective),
        lower_bound=_known(plan.lower_bound),
        relative_gap=_known(plan.relative_gap),
        energy_j=_known(plan.energy_j),
        delay_s=_known(plan.delay_s),
        pretrain=_pretrain(plan.pretrain, spent),
        finetune=_finetune(plan.finetune, spent),
        spending=[
            Spending(stage=share.stage, cause=share.cause, energy_j=share.energy_j, delay_s=share.delay_s)
            for share in spent
        ],
        prices=[price_of(plan, name, value) for name, value in plan.multipliers.items()],
        prices_note=sentences.PRICES_NOTE if plan.status.has_plan else "",
        binding=sentences.binding(plan.constraints) if plan.status.has_plan else "",
        limits=[Limit(name=one.name, value=one.value, limit=one.limit, binding=one.binding) for one in own],
        devices=_devices(plan, scenario) if devices and plan.status.has_plan else None,
        certificate=_certificate(plan),
        promise=sentences.promise(plan),
        privacy=sentences.privacy(plan, scenario),
        infeasible=_infeasible(plan, scenario),
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _pretrain(stage: PretrainStage | None, spent: tuple[Share, ...]) -> StageInfo | None:
    if stage is None:
        return None
    return StageInfo(
        rounds=stage.rounds,
        round_s=stage.round_s,
        delay_s=sum(share.delay_s for share in spent if share.stage == PRETRAIN),
        energy_j=sum(share.energy_j for share in spent if share.stage == PRETRAIN),
        batch=stage.batch if stage.rounds else None,
        clock_hz=stage.clock_hz if stage.rounds else None,
        segments=[part.to_dict() for part in stage.segments],
    )


def _finetune(stage: FinetuneStage | None, spent: tuple[Share, ...]) -> StageInfo | None:
    if stage is None:
        return None
    return StageInfo(
        rounds=stage.rounds,
        round_s=stage.round_s,
        delay_s=sum(share.delay_s for share in spent if share.stage == FINETUNE),
        energy_j=sum(share.energy_j for share in spent if share.stage == FINETUNE),
        batch=None,
        clock_hz=None,
        local_steps=stage.local_steps,
        segments=[{"rounds": part.rounds, "round_s": part.round_s} for part in stage.segments],
    )


def _devices(plan: Plan, scenario: Scenario) -> DeviceTable | None:
    columns = device_columns(plan, scenario)
    if columns is None or plan.finetune is None:
        return None
    fleet, last = scenario.devices, plan.finetune.parts[-1]
    down_s = cost.broadcast(scenario).time_s
    if scenario.radio.access is Access.FDMA:
        slack = last.round_s - down_s - columns.compute_s - columns.upload_s
    else:
        slack = last.round_s - down_s - float(columns.upload_s.sum()) - columns.compute_s
    slack = np.where(slack > SAME * last.round_s, slack, 0.0)
    bandwidth = fleet.bandwidth_hz if columns.bandwidth_hz is None else columns.bandwidth_hz
    near = 1.0 - SAME
    at = {
        "batch": columns.batch >= fleet.samples,
        "clock": columns.clock_hz >= near * fleet.max_clock_hz,
        "power": columns.power_w >= near * fleet.max_power_w,
        "deadline": slack == 0.0,
        "battery": columns.total_j >= 0.999 * fleet.battery_j,
    }
    binds: list[list[str]] = [[] for _ in range(len(columns))]
    for name, which in at.items():
        for k in np.flatnonzero(which).tolist():
            binds[k].append(name)
    return DeviceTable(
        name=[printable(name) for name in columns.names],
        batch=columns.batch.tolist(),
        clock_hz=_short(columns.clock_hz),
        power_w=_short(columns.power_w),
        bandwidth_hz=_short(bandwidth),
        compute_s=_short(columns.compute_s),
        upload_s=_short(columns.upload_s),
        slack_s=_short(slack),
        round_j=_short(columns.round_j),
        total_j=_short(columns.total_j),
        binds=binds,
    )


def _short(values: Floats) -> list[float]:
    """Seven digits are plenty to look at, and half as much to send."""
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]


def _certificate(plan: Plan) -> CertificateInfo | None:
    if plan.certificate is None or not plan.status.has_plan:
        return None
    sets = plan.certificate.get("prices", [])
    tolerance = float(plan.certificate.get("tolerance", 0.0))
    return CertificateInfo(
        tolerance=tolerance,
        price_sets=len(sets),
        words=f"No plan is more than {gap(plan.relative_gap)} better; proven over all whole rounds and batches"
        + (f" by {len(sets)} sets of prices." if sets else "."),
    )


def _infeasible(plan: Plan, scenario: Scenario) -> InfeasibleInfo | None:
    why = plan.infeasibility
    if why is None:
        return None
    return InfeasibleInfo(
        clash=[printable(name) for name in why.clash],
        sentences=sentences.clash(plan),
        min_energy_j=_known(why.min_energy_j),
        min_delay_s=_known(why.min_delay_s),
        drop=None if why.drop is None else [printable(name) for name in why.drop],
        suggestions=_suggestions(scenario, why.min_energy_j, why.min_delay_s),
    )


def _suggestions(scenario: Scenario, least_j: float, least_s: float) -> list[Suggestion]:
    """Budgets a little above the least ones, each of them looked at: a round really fits."""
    from pretune.planner.infeasible import STAGES, fits_one_round

    budget = scenario.budget
    wanted = []
    if math.isfinite(least_j):
        wanted.append((f"Raise the energy to {joules(_up(least_j))}", _up(least_j), budget.delay_s))
    if math.isfinite(least_s):
        wanted.append((f"Raise the delay to {seconds(_up(least_s))}", budget.energy_j, _up(least_s)))
    found = []
    for words, energy_j, delay_s in wanted:
        other = scenario.settled(scenario.convergence.choices[0]).with_budget(energy_j=energy_j, delay_s=delay_s)
        if any(fits_one_round(build(other)[0], stage) for stage in STAGES):
            found.append(Suggestion(words=words, energy_j=energy_j, delay_s=delay_s))
    return found


def _up(least: float) -> float:
    """A little above, in four digits, rounded upwards."""
    scale = 10.0 ** (math.floor(math.log10(least)) - 3)
    return float(f"{math.ceil(least * ENOUGH / scale) * scale:.6g}")
