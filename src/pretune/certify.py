"""Checks a plan from the cost model and the certificate alone: nothing here calls, or imports, a solver.

Every figure of a plan is a claim. This file recomputes each of them: what the decisions cost, which limits they keep,
what the criterion is worth, which multipliers and which lower bound the certificate's prices prove
(`pretune.proof`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pretune.asked_proof import proves_asking
from pretune.clash import wrong_with_clash
from pretune.convergence.criteria import criterion_of, device_noise, objective
from pretune.convergence.schedule import lengths, objective_of_segments
from pretune.errors import CheckFailed, PlanMismatch
from pretune.physics import cost, link
from pretune.physics.types import Floats
from pretune.plans import Constraint, FinetuneStage, Plan, PretrainStage, Status
from pretune.private_claim import wrong_with
from pretune.proof import proves, stage_shortage
from pretune.scenario import Access, Scenario
from pretune.stages import labelled
from pretune.uncertainty import counted
from pretune.uncertainty.claim import wrong_with as wrong_under

SAME = 1e-9
"""Relative difference up to which a recomputed figure counts as the same."""
CLOSE = 1e-3
"""Relative slack up to which a budget counts as binding: whole batches leave a little of it."""
MOST_LISTED = 1000
"""Fleets up to this size list every limit of every device; larger ones, of each kind, the one that is nearest to
binding."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check that passed has recomputed."""

    energy_j: float
    delay_s: float
    objective: float
    lower_bound_proven: bool
    """Whether the lower bound was proven again; a plan may carry no prices to prove it with."""
    constraints: tuple[Constraint, ...]


def totals(scenario: Scenario, pretrain: PretrainStage, finetune: FinetuneStage) -> tuple[float, float]:
    """Joules and seconds of the whole run."""
    energy_j, delay_s = 0.0, 0.0
    scenario = scenario.settled(finetune.local_steps)
    for part in pretrain.parts:
        one = cost.pretrain_round(scenario, part.batch, part.clock_hz)
        energy_j += part.rounds * one.energy_j
        delay_s += part.rounds * one.time_s
    for stage in finetune.parts:
        each = _round(scenario, stage)
        energy_j += stage.rounds * each.energy_j
        delay_s += stage.rounds * each.time_s
    return energy_j, delay_s


def _round(scenario: Scenario, stage: FinetuneStage) -> cost.FinetuneCost:
    batch = stage.batch.astype(np.float64)
    return cost.finetune_round(scenario, batch, stage.clock_hz, stage.power_w, stage.bandwidth_hz)


def limits_of(scenario: Scenario, pretrain: PretrainStage, finetune: FinetuneStage) -> tuple[Constraint, ...]:
    """Every named limit with its value.

    Energy, delay, the band where the plan shares it out, and batch, clock, power, battery and deadline of each device.
    Where a stage is in segments, a limit is given in the segment that comes nearest to it; a battery is for them all.
    """
    scenario = scenario.settled(finetune.local_steps)
    energy_j, delay_s = totals(scenario, pretrain, finetune)
    found = [
        _limit("energy", energy_j, scenario.budget.energy_j, CLOSE),
        _limit("delay", delay_s, scenario.budget.delay_s, CLOSE),
    ]
    band_hz = scenario.radio.uplink_bandwidth_hz
    if finetune.bandwidth_hz is not None and band_hz is not None:
        found.append(_limit("bandwidth", math.fsum(finetune.bandwidth_hz.tolist()), band_hz))
    if pretrain.rounds:
        batch, clock_hz = (max(values) for values in zip(*((p.batch, p.clock_hz) for p in pretrain.parts), strict=True))
        found.append(_limit("batch:server", float(batch), float(scenario.server.samples)))
        found.append(_limit("clock:server", clock_hz, scenario.server.max_clock_hz))
    if finetune.rounds:
        found += _device_limits(scenario, finetune)
    return tuple(found)


def _device_limits(scenario: Scenario, finetune: FinetuneStage) -> list[Constraint]:
    fleet = scenario.devices
    rows = []
    device_j = np.zeros(len(fleet))
    for part in finetune.parts:
        batch = part.batch.astype(np.float64)
        each = _round(scenario, part)
        busy = each.compute_s + each.upload_s if scenario.radio.access is Access.FDMA else each.compute_s
        device_j += part.rounds * each.device_j
        rows.append((batch, part.clock_hz, part.power_w, busy, np.full(len(fleet), busy.max())))
    nearest = np.argmax([busy / most for *_, busy, most in rows], axis=0)
    highest = [np.max(column, axis=0) for column in list(zip(*rows, strict=True))[:3]]
    busy, most = (np.array([row[i] for row in rows])[nearest, np.arange(len(fleet))] for i in (3, 4))
    columns: list[tuple[str, Floats, Floats, float]] = [
        ("batch", highest[0], fleet.samples.astype(np.float64), SAME),
        ("clock", highest[1], fleet.max_clock_hz, SAME),
        ("power", highest[2], fleet.max_power_w, SAME),
        ("deadline", busy, most, SAME),
        ("battery", device_j, fleet.battery_j, CLOSE),
    ]
    found = []
    all_listed = len(fleet) <= MOST_LISTED
    for kind, value, limit, close in columns:
        binding, limited = limit - value <= close * limit, np.isfinite(limit)
        nearest = [] if all_listed or not limited.any() else [int(np.argmax(np.where(limited, value / limit, -np.inf)))]
        for k in np.flatnonzero(limited).tolist() if all_listed else nearest:
            found.append(
                Constraint(
                    name=f"{kind}:{fleet.names[k]}",
                    value=float(value[k]),
                    limit=float(limit[k]),
                    binding=bool(binding[k]),
                    devices=None if all_listed else int((binding & limited).sum()),
                )
            )
    return found


def _limit(name: str, value: float, limit: float, close: float = SAME) -> Constraint:
    return Constraint(name=name, value=value, limit=limit, binding=limit - value <= close * limit)


def value_of(scenario: Scenario, pretrain: PretrainStage, finetune: FinetuneStage) -> float:
    """The criterion's value for the decisions."""
    scenario = scenario.settled(finetune.local_steps)
    if scenario.schedule > 1:
        return objective_of_segments(
            criterion_of(scenario),
            device_noise(scenario),
            (float(pretrain.rounds), float(finetune.rounds)),
            scenario.schedule,
            [float(part.batch) for part in pretrain.parts],
            [part.batch.astype(np.float64) for part in finetune.parts],
        )
    return objective(
        criterion_of(scenario),
        device_noise(scenario),
        float(pretrain.rounds),
        float(finetune.rounds),
        float(pretrain.batch),
        finetune.batch.astype(np.float64),
    )


def sentence(plan: Plan) -> str:
    """What the plan's status means, in one sentence made of its own figures."""
    if plan.status is Status.INFEASIBLE:
        found = plan.infeasibility
        if found is None:
            return "infeasible"
        return (
            "infeasible: not even one round of one sample fits, because of "
            + ", ".join(found.clash)
            + f"; at the delay given it takes {_amount(found.min_energy_j, 'J')}, "
            + f"at the energy given {_amount(found.min_delay_s, 's')}"
        )
    if plan.status is Status.NUMERICAL_FAILURE:
        return "numerical failure: the solver could not bring its own residuals down; please report the scenario"
    gap = f"{100 * plan.relative_gap:.3g}%"
    allowed = f"{100 * _tolerance(plan):.3g}%"
    if plan.status is Status.OPTIMAL:
        return f"optimal: within {gap} of the proven lower bound (tolerance {allowed})"
    why = "the time limit ended the search" if plan.status is Status.TIME_LIMIT else "the search ended"
    return f"feasible, not proven optimal: {why}; the proven lower bound is {gap} below it (tolerance {allowed})"


def _amount(value: float, unit: str) -> str:
    return f"at least {value:.4g} {unit}" if math.isfinite(value) else f"more than any {unit}"


def _tolerance(plan: Plan) -> float:
    tolerance = (plan.certificate or {}).get("tolerance")
    return float(tolerance) if isinstance(tolerance, int | float) and math.isfinite(tolerance) else math.nan


def check(plan: Plan, scenario: Scenario) -> Checked:
    """Recompute every claim of a plan.

    Raises:
        PlanMismatch: the plan was made for another scenario.
        CheckFailed: with one line per claim that does not hold.
    """
    if plan.scenario_sha256 != scenario.sha256:
        raise PlanMismatch(
            f"plan.scenario_sha256: holds {plan.scenario_sha256[:12]}..., should hold {scenario.sha256[:12]}...: "
            "the plan was made for another scenario; plan again"
        )
    claims = _Claims()
    claims.equal("criterion", plan.criterion, scenario.convergence.criterion.value)
    # a scenario that spells a default out is the same scenario: the plan may tell more of them, not fewer
    claims.problems += [f"plan.defaults: does not tell that {x}" for x in scenario.defaults if x not in plan.defaults]
    claims.problems += wrong_under(plan.under, scenario, plan.finetune, plan.energy_j)
    claims.close()
    scenario = counted(scenario, plan.under)
    if not plan.status.has_plan:
        _check_infeasible(claims, plan, scenario.settled(scenario.convergence.choices[0]))
        claims.close()
        return Checked(
            energy_j=math.nan, delay_s=math.nan, objective=math.nan, lower_bound_proven=False, constraints=()
        )
    pretrain, finetune = plan.pretrain, plan.finetune
    if pretrain is None or finetune is None:
        raise CheckFailed("the plan has no decisions, its status says it has")
    choices, one = scenario.convergence.choices, scenario.convergence.choices == (1,)
    named = finetune.local_steps is None if one else finetune.local_steps in choices
    should = "nothing: the scenario asks for one" if one else f"one of {', '.join(map(str, choices))}"
    claims.holds(named, f"plan.finetune.local_steps: holds {finetune.local_steps}, should hold {should}")
    claims.close()
    settled = scenario.settled(finetune.local_steps)
    _check_decisions(claims, settled, pretrain, finetune)
    claims.close()
    constraints = _check_figures(claims, plan, settled, pretrain, finetune)
    claims.problems += wrong_with(plan.privacy, scenario, finetune.rounds)
    proven = _check_proof(claims, plan, scenario)
    claims.equal("message", plan.message, sentence(plan))
    claims.close()
    return Checked(
        energy_j=plan.energy_j,
        delay_s=plan.delay_s,
        objective=plan.objective,
        lower_bound_proven=proven,
        constraints=constraints,
    )


class _Claims:
    """Collects what does not hold."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def equal(self, name: str, claimed: object, found: object) -> None:
        if claimed != found:
            self.problems.append(f"plan.{name}: claims {str(claimed)[:80]!r}, recomputed {str(found)[:80]!r}")

    def close_to(self, name: str, claimed: float, found: float, tolerance: float = SAME) -> None:
        if not abs(claimed - found) <= tolerance * max(abs(claimed), abs(found)):
            self.problems.append(f"plan.{name}: claims {claimed!r}, recomputed {found!r}")

    def holds(self, truth: bool, line: str) -> None:
        if not truth:
            self.problems.append(line)

    def close(self) -> None:
        if self.problems:
            raise CheckFailed(*self.problems)


def _check_decisions(claims: _Claims, scenario: Scenario, pretrain: PretrainStage, finetune: FinetuneStage) -> None:
    """Each decision by itself: in its range, of the right devices, in the right segments."""
    claims.holds(pretrain.rounds >= 0 and finetune.rounds >= 0, "plan: rounds are negative")
    claims.holds(pretrain.rounds + finetune.rounds > 0, "plan: neither stage has a round")
    if claims.problems:
        return
    _check_segments(claims, scenario, "pretrain", pretrain)
    _check_segments(claims, scenario, "finetune", finetune)
    if pretrain.rounds == 0:
        claims.equal("pretrain", (pretrain.batch, pretrain.clock_hz, pretrain.round_s), (0, 0.0, 0.0))
    for name, part in labelled("pretrain", pretrain):
        claims.holds(
            1 <= part.batch <= scenario.server.samples,
            f"plan.{name}.batch: holds {part.batch}, should hold 1 to {scenario.server.samples}",
        )
        claims.holds(
            0.0 < part.clock_hz <= scenario.server.max_clock_hz,
            f"plan.{name}.clock_hz: holds {part.clock_hz}, should hold at most {scenario.server.max_clock_hz}",
        )
    if finetune.rounds == 0:
        claims.equal("finetune.devices", len(finetune), 0)
        claims.equal("finetune.round_s", finetune.round_s, 0.0)
        return
    fleet = scenario.devices
    for name, stage in (("finetune", finetune), *labelled("finetune", finetune)):
        claims.holds(tuple(stage.names) == tuple(fleet.names), f"plan.{name}.devices: names differ from the scenario's")
    if claims.problems:
        return
    band_hz = scenario.radio.uplink_bandwidth_hz if scenario.radio.shares_decided else None
    for name, stage in labelled("finetune", finetune):
        ranges: list[tuple[str, Floats, Floats]] = [
            ("batch", stage.batch.astype(np.float64), fleet.samples.astype(np.float64)),
            ("clock_hz", stage.clock_hz, fleet.max_clock_hz),
            ("power_w", stage.power_w, fleet.max_power_w),
        ]
        if (band_hz is None) != (stage.bandwidth_hz is None):
            should = "should hold no bandwidth_hz" if band_hz is None else "should hold a bandwidth_hz each"
            claims.problems.append(f"plan.{name}.devices: {should}, as the scenario's radio has it")
        elif stage.bandwidth_hz is not None and band_hz is not None:
            ranges.append(("bandwidth_hz", stage.bandwidth_hz, np.full(len(fleet), band_hz * (1.0 + SAME))))
        for key, value, limit in ranges:
            least = 1.0 if key == "batch" else np.nextafter(0.0, 1.0)
            for k in np.flatnonzero(~((value >= least) & (value <= limit)))[:5].tolist():
                claims.problems.append(
                    f"plan.{name}.devices[{k}].{key}: holds {value[k]}, should hold more than 0 and at most {limit[k]}"
                )


def _check_segments(claims: _Claims, scenario: Scenario, name: str, stage: PretrainStage | FinetuneStage) -> None:
    """The scenario's segments, and what the stage says about them as a whole."""
    schedule = scenario.schedule
    expected = [int(r) for r in lengths(stage.rounds, schedule).tolist() if r > 0] if schedule > 1 else []
    claims.equal(f"{name}.segments", [part.rounds for part in stage.segments], expected)
    claims.holds(all(not part.segments for part in stage.segments), f"plan.{name}.segments: hold segments themselves")
    if not stage.segments or claims.problems:
        return
    mean = math.fsum(part.rounds * part.round_s for part in stage.segments) / stage.rounds
    claims.close_to(f"{name}.round_s", stage.round_s, mean)
    last = stage.segments[-1]
    keys = ("batch", "clock_hz") if isinstance(stage, PretrainStage) else ("batch", "clock_hz", "power_w", "upload_s")
    for key in keys:
        same = np.array_equal(getattr(stage, key), getattr(last, key))
        claims.holds(same, f"plan.{name}.{key}: differs from the last segment's")


def _check_figures(
    claims: _Claims, plan: Plan, scenario: Scenario, pretrain: PretrainStage, finetune: FinetuneStage
) -> tuple[Constraint, ...]:
    """What the decisions cost and are worth, and the limits they keep."""
    for name, part in labelled("pretrain", pretrain):
        one = cost.pretrain_round(scenario, part.batch, part.clock_hz)
        claims.close_to(f"{name}.round_s", part.round_s, one.time_s)
    for name, stage in labelled("finetune", finetune):
        fleet = scenario.devices
        each = _round(scenario, stage)
        claims.close_to(f"{name}.round_s", stage.round_s, each.time_s)
        upload_s = link.airtime(
            scenario.workload.upload_bits,
            stage.power_w,
            fleet.gain,
            fleet.bandwidth_hz if stage.bandwidth_hz is None else stage.bandwidth_hz,
            scenario.radio.noise_psd_w_per_hz,
        )
        off = np.abs(upload_s - stage.upload_s) > SAME * np.abs(upload_s)
        for k in np.flatnonzero(off)[:5].tolist():
            claims.close_to(f"{name}.devices[{k}].upload_s", float(stage.upload_s[k]), float(upload_s[k]))
    energy_j, delay_s = totals(scenario, pretrain, finetune)
    claims.close_to("energy_j", plan.energy_j, energy_j)
    claims.close_to("delay_s", plan.delay_s, delay_s)
    claims.close_to("objective", plan.objective, value_of(scenario, pretrain, finetune))
    constraints = limits_of(scenario, pretrain, finetune)
    for limit in constraints:
        claims.holds(
            limit.value <= limit.limit * (1.0 + SAME), f"{limit.name}: {limit.value!r} exceeds {limit.limit!r}"
        )
    claims.equal("constraints", [c.name for c in plan.constraints], [c.name for c in constraints])
    if not claims.problems:
        for claimed, found in zip(plan.constraints, constraints, strict=True):
            claims.close_to(f"constraints[{found.name}].value", claimed.value, found.value)
            claims.close_to(f"constraints[{found.name}].limit", claimed.limit, found.limit)
            claims.equal(f"constraints[{found.name}].binding", claimed.binding, found.binding)
            claims.equal(f"constraints[{found.name}].devices", claimed.devices, found.devices)
    return constraints


def _check_proof(claims: _Claims, plan: Plan, scenario: Scenario) -> bool:
    """Gap and status against each other, multipliers and lower bound against the certificate's prices."""
    claims.holds(
        plan.lower_bound <= plan.objective * (1.0 + SAME),
        f"plan.lower_bound: {plan.lower_bound!r} is above the objective {plan.objective!r}",
    )
    gap = (plan.objective - plan.lower_bound) / plan.objective if plan.objective > 0.0 else 0.0
    claims.holds(
        abs(plan.relative_gap - gap) <= 1e-12,
        f"plan.relative_gap: claims {plan.relative_gap!r}, (objective - lower_bound) / objective is {gap!r}",
    )
    tolerance = _tolerance(plan)
    if not math.isfinite(tolerance):
        claims.problems.append("plan.certificate.tolerance: is missing")
        return False
    if plan.status is Status.OPTIMAL:
        claims.holds(gap <= tolerance * (1.0 + SAME), f"plan.status: claims optimal, the gap {gap:.3g} is larger")
    else:
        claims.holds(gap > tolerance, f"plan.status: claims {plan.status.value}, the gap {gap:.3g} is that of optimal")
    if claims.problems or plan.certificate is None:
        return False
    prove = proves if scenario.devices.asked is None else proves_asking
    return prove(plan, scenario, claims.problems)


def _check_infeasible(claims: _Claims, plan: Plan, scenario: Scenario) -> None:
    if plan.status is not Status.INFEASIBLE:
        claims.problems.append(f"plan.status: {plan.status.value}: there is nothing to check")
        return
    if plan.infeasibility is None:
        claims.problems.append("plan.infeasibility: is missing")
        return
    claims.problems += wrong_with_clash(plan.infeasibility, scenario)
    stage_shortage(plan, scenario, claims.problems)
    claims.equal("message", plan.message, sentence(plan))
