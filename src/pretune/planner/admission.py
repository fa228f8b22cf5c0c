"""Device admission: the best subset of a fleet, its plan, and a bound over all subsets.

A slow, far or drained device costs every round time and energy; its data may not be worth that. Admitting a subset
renormalises the weights over it, so the criterion then speaks of the *admitted* devices' average: it does not price the
data that is left out, and `min_weight` is the way to bound that.

The bound comes from branch and bound (`admission_bound`), which may end with a gap; fleets of up to `EXACT` devices are
then settled by planning every subset against the best one known. The plan's own certificate speaks of the admitted
devices only; the admission's holds the tree of the search and its prices, from which `pretune.admitting` proves the
bound over all subsets again.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.errors import Infeasible, InputError
from pretune.planner.admission_alone import shortages
from pretune.planner.admission_bound import SubsetSearch
from pretune.planner.admission_candidates import Candidates
from pretune.planner.admission_certificate import certify
from pretune.planner.admission_fleet import Choice, Mask
from pretune.planner.admission_reasons import Dropped, reasons
from pretune.planner.baselines.restricted import StageSearch
from pretune.planner.infeasible import STAGES, fits_one_round
from pretune.planner.kernels.fixed import new_point
from pretune.planner.solve import plan_roughly
from pretune.planner.whole import Decision
from pretune.planner.write import entry_of
from pretune.plans import Plan, Status
from pretune.scenario import Criterion, Scenario

TOLERANCE = 1e-3
EXACT = 10
"""Fleets up to this size are settled subset by subset where branch and bound leaves a gap."""
_SHARES = (0.2, 0.45, 0.85)
"""Shares of the time limit after which the plan of all, the candidates, and the bound have to be done."""
_PROBES = 25
"""Pairs of rounds solved in each pass of a search for a plan: its own gap matters less than that over all subsets."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Which devices take part, the plan for them, and how good that provably is among all subsets."""

    status: Status
    scenario: Scenario
    """The scenario of the admitted devices alone, which `plan` is made for."""
    plan: Plan
    """Its `lower_bound` is that of this subset; the bound over all subsets is the admission's."""
    admitted: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    weight: float
    """The share of the original weight that is admitted."""
    whole_objective: float | None
    """The objective with all devices; None where no plan with all of them fits."""
    lower_bound: float
    """No subset has a plan below this."""
    relative_gap: float
    subsets: int
    """Subsets that were planned on the way."""
    fleet_sha256: str
    """Of the whole fleet's scenario."""
    certificate: dict[str, Any] | None = None
    """What proves `lower_bound` (`pretune.admitting`); None where nothing that can be repeated does."""

    @property
    def objective(self) -> float:
        """The criterion of the plan."""
        return self.plan.objective

    def to_dict(self) -> dict[str, Any]:
        """The admission as plain data, with the plan as its file has it."""
        return {
            "pretune": 1,
            "status": self.status.value,
            "admitted": list(self.admitted),
            "dropped": [vars(device).copy() for device in self.dropped],
            "weight": self.weight,
            "objective": self.plan.objective if self.plan.status.has_plan else None,
            "whole_objective": self.whole_objective,
            "lower_bound": self.lower_bound if math.isfinite(self.lower_bound) else None,
            "relative_gap": self.relative_gap if math.isfinite(self.relative_gap) else None,
            "bound_provable_from_file": self.certificate is not None,
            "fleet_sha256": self.fleet_sha256,
            "scenario_sha256": self.scenario.sha256,
            "plan": self.plan.to_dict(),
            "certificate": self.certificate,
        }


def admit(
    scenario: Scenario,
    *,
    tolerance: float = TOLERANCE,
    time_limit: float | None = None,
    min_weight: float = 0.0,
    throw: bool = True,
) -> Admission:
    """The subset of the devices with the best plan, and a lower bound over all non-empty subsets.

    Args:
        scenario: the whole fleet's.
        tolerance: relative gap, over all subsets, at or under which the subset counts as optimal.
        time_limit: seconds after which the best subset so far is returned with status `time_limit`.
        min_weight: least share of the original weight that must remain; bounds what the criterion does not price.
        throw: raise `Infeasible` where no subset has a plan; otherwise return the admission that says so.

    Raises:
        InputError: an option can't be used, the scenario asks for a schedule or has a shared band, or no subset with
            `min_weight` was found that fits.
        Infeasible: proven that nothing fits, whatever the subset, and `throw` is true.
    """
    if not (math.isfinite(tolerance) and 0.0 < tolerance < 1.0):
        raise InputError.field("tolerance", tolerance, "a number above 0 and below 1")
    if time_limit is not None and not (math.isfinite(time_limit) and time_limit > 0.0):
        raise InputError.field("time_limit", time_limit, "a positive number of seconds")
    if scenario.convergence.robust:
        raise InputError.field("convergence.robust", True, "false: which devices to admit is not planned robustly")
    if scenario.convergence.criterion is Criterion.CALIBRATED:
        should = "trajectory or final: a law was fitted with all devices and says nothing of a subset"
        raise InputError.field("convergence.criterion", "calibrated", should)
    if scenario.convergence.choices != (1,):
        should = "1: admission knows no drift that depends on who is left out"
        raise InputError.field("convergence.local_steps", scenario.convergence.local_steps, should)
    if scenario.privacy is not None:
        raise InputError.field("privacy", "a section", "null: admission knows no noise that depends on who is left out")
    if scenario.schedule > 1:
        raise InputError.field("schedule", scenario.schedule, "1: admission plans constant batches")
    if scenario.radio.uplink_bandwidth_hz is not None:
        should = "null: admission knows no bandwidth that depends on who is left out"
        raise InputError.field("radio.uplink_bandwidth_hz", scenario.radio.uplink_bandwidth_hz, should)
    choice = Choice.of(scenario, min_weight)
    began = time.monotonic()
    ends = [math.inf if time_limit is None else began + share * time_limit for share in _SHARES]
    whole = plan_roughly(scenario, tolerance=0.1 * tolerance, deadline=ends[0], probes=_PROBES, spans=False)
    candidates = Candidates(choice, ends[1])
    everyone = np.ones(len(choice), dtype=np.bool_)
    _take_plan(candidates, everyone, whole)
    candidates.look_around(everyone)
    pretrain_bound, pretrain = _without_finetuning(choice, tolerance, ends[2])
    # the plan that is written is planned afresh, to a finer tolerance: leave room for what that loses
    search = SubsetSearch(choice, candidates, 0.8 * tolerance, ends[2])
    search.run(pretrain_bound)
    if len(choice) <= EXACT and not search.late and search.proven < search.target:
        search.enumerate(pretrain_bound)
    if candidates.best is None:
        return _nothing(choice, whole, search, throw)
    last = math.inf if time_limit is None else max(began + time_limit, time.monotonic() + 0.05 * time_limit)
    return _written(choice, candidates, search, (whole, pretrain), tolerance, last)


def _take_plan(candidates: Candidates, mask: Mask, plan: Plan) -> None:
    """Let the candidates know the plan of a subset."""
    pretrain, finetune = plan.pretrain, plan.finetune
    if pretrain is None or finetune is None or not candidates.choice.allows(mask):
        return
    decision = Decision(
        rounds=(pretrain.rounds, finetune.rounds),
        server_batch=pretrain.batch,
        batches=finetune.batch.astype(np.float64),
        point=new_point(int(mask.sum())),
        value=plan.objective,
    )
    candidates.accept(mask, decision)
    if finetune.rounds > 0:
        candidates.improve(mask, decision.rounds)


def _without_finetuning(choice: Choice, tolerance: float, deadline: float) -> tuple[float, list[dict[str, Any]]]:
    """A bound on the plans without fine-tuning, for which the devices do not matter, and the prices that prove it.

    Infinity where none fits.
    """
    one = np.zeros(len(choice), dtype=np.bool_)
    one[0] = True
    problem = choice.subset(one)
    if not fits_one_round(problem, STAGES[0]):
        return math.inf, shortages(problem, STAGES[:1])
    search = StageSearch(problem, 0.3 * tolerance, deadline, stages=(True, False))
    search.run()
    # no devices take part: their prices say nothing
    entries = [entry_of(search.pool[i], search.homes[i]) for i in sorted(search.used)]
    return search.proven, [{key: entry[key] for key in ("energy", "omega", "home")} for entry in entries]


def _written(
    choice: Choice,
    candidates: Candidates,
    search: SubsetSearch,
    known: tuple[Plan, list[dict[str, Any]]],
    tolerance: float,
    deadline: float,
) -> Admission:
    """The admission of the best subset found, planned once more with a proof of its own.

    `known`: the plan of all devices, and the prices that bound plans without fine-tuning.
    """
    whole, pretrain = known
    best = candidates.best
    if best is None:
        raise ValueError("without a subset there is nothing to write")
    plan, scenario = whole, choice.scenario
    if not best.all():
        scenario = choice.subscenario(best)
        plan = plan_roughly(scenario, tolerance=0.1 * tolerance, deadline=deadline, probes=_PROBES, spans=True)
        if not plan.status.has_plan or (whole.status.has_plan and plan.objective >= whole.objective):
            # the search kept back too little or too late: all devices do as well
            best, plan, scenario = np.ones(len(choice), dtype=np.bool_), whole, choice.scenario
    lower = min(search.proven, plan.objective)
    lower -= 1e-9 * abs(lower)
    certificate, lower = certify(choice, search, pretrain, tolerance, lower)
    gap = (plan.objective - lower) / plan.objective if plan.objective > 0.0 else 0.0
    status = Status.OPTIMAL if gap <= tolerance else Status.TIME_LIMIT if search.late else Status.FEASIBLE
    names = choice.scenario.devices.names
    return Admission(
        status=status,
        scenario=scenario,
        plan=plan,
        admitted=tuple(name for name, kept in zip(names, best.tolist(), strict=True) if kept),
        dropped=_dropped(choice, candidates, best, plan),
        weight=float(choice.alpha[best].sum()),
        whole_objective=whole.objective if whole.status.has_plan else None,
        lower_bound=lower,
        relative_gap=gap,
        subsets=len(candidates.tried) + search.planned,
        fleet_sha256=choice.scenario.sha256,
        certificate=certificate,
    )


def _dropped(choice: Choice, candidates: Candidates, best: Mask, plan: Plan) -> tuple[Dropped, ...]:
    """Why each device that is left out is."""
    if best.all() or plan.pretrain is None or plan.finetune is None:
        return ()
    # a list of its own: what was given up in the search is looked at in earnest here
    afresh = Candidates(choice)
    found = afresh.improve(best, (plan.pretrain.rounds, plan.finetune.rounds))
    return reasons(choice, afresh, best, found)


def _nothing(choice: Choice, whole: Plan, search: SubsetSearch, throw: bool) -> Admission:
    """No subset was found that fits: proven where every subset was looked at, or where no device fits alone."""
    alone = np.eye(len(choice), dtype=np.bool_)
    proven = len(choice) <= EXACT and not search.late
    if not proven and any(fits_one_round(choice.subset(mask), stage) for mask in alone for stage in STAGES):
        raise InputError.field(
            "min_weight", choice.min_weight, "a share that some subset reaches within the budgets (none was found)"
        )
    if throw:
        raise Infeasible(whole)
    return Admission(
        status=Status.INFEASIBLE,
        scenario=choice.scenario,
        plan=whole,
        admitted=(),
        dropped=(),
        weight=0.0,
        whole_objective=None,
        lower_bound=math.inf,
        relative_gap=math.nan,
        subsets=len(search.candidates.tried) + search.planned,
        fleet_sha256=choice.scenario.sha256,
    )
