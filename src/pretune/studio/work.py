"""What a solver process computes. Each function takes a request that was read already and gives JSON.

Scenarios are kept parsed, so that dragging a budget costs a plan and nothing else; a plan's rounds are where the next
search for the same fleet begins.
"""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from pretune.certify import check
from pretune.errors import CheckFailed, InputError
from pretune.planner.baselines import JOINT, Options, Outcome, compare, joint_outcome, names_for
from pretune.planner.nearby import plan_nearby
from pretune.planner.pareto import FrontPoint, budgets, default_range, front
from pretune.planner.solve import plan
from pretune.plans import Plan, plan_from_dict
from pretune.report.compare_page import TITLES
from pretune.scenario import Scenario, scenario_from_dict
from pretune.studio import requests as asked
from pretune.studio.answers import Refused, too_long
from pretune.studio.describe import scenario_answer
from pretune.studio.describe_plan import plan_answer
from pretune.studio.examples import example_tree
from pretune.studio.intake import changed, checked, rows_of
from pretune.studio.responses import CheckAnswer, CompareAnswer, Compared, FrontPointInfo, ParetoAnswer
from pretune.studio.settings import Settings
from pretune.studio.store import Store

KEPT_DEVICES = 200_000
"""Devices, over all parsed scenarios, that a solver keeps."""
SLOW = "successive"


@dataclass(kw_only=True)
class Kept:
    """A parsed scenario, and where its last plan was."""

    key: str
    scenario: Scenario
    defaults: tuple[str, ...]
    rounds: tuple[int, int] | None = None


@dataclass(kw_only=True)
class Desk:
    """The state of one solver process."""

    settings: Settings
    stopped: Callable[[], bool] = lambda: False
    end: float = math.inf
    """Value of the monotonic clock by which the request should be answered."""
    kept: OrderedDict[str, Kept] = field(default_factory=OrderedDict)

    @property
    def store(self) -> Store:
        """The scenarios on disk."""
        return Store(folder=self.settings.own / "scenarios", most=self.settings.limits.scenarios)

    def find(self, target: asked.Target | asked.CheckRequest) -> tuple[Kept, Scenario]:
        """The scenario that a request is about, and the same with the request's budgets."""
        if (target.scenario_id is None) == (target.scenario is None):
            raise InputError("scenario_id: should be given, or else scenario; one of them")
        kept = self._known(str(target.scenario_id)) if target.scenario is None else self.keep(target.scenario)
        if target.energy_j is None and target.delay_s is None:
            return kept, kept.scenario
        return kept, kept.scenario.with_budget(energy_j=target.energy_j, delay_s=target.delay_s)

    def keep(self, tree: dict[str, Any]) -> Kept:
        """Read a scenario's tree, refuse what it may not hold, and keep it here and on disk."""
        limits = self.settings.limits
        tree = checked(tree, most_devices=limits.devices, task_files=self.settings.task_files)
        scenario = scenario_from_dict(tree)
        key = self.store.save(scenario.to_dict(), scenario.defaults)
        return self._remember(Kept(key=key, scenario=scenario, defaults=scenario.defaults))

    def _known(self, key: str) -> Kept:
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        tree, defaults = self.store.load(key)
        # the operator may have started the studio afresh, with other task files and limits
        tree = checked(tree, most_devices=self.settings.limits.devices, task_files=self.settings.task_files)
        return self._remember(Kept(key=key, scenario=scenario_from_dict(tree), defaults=defaults))

    def _remember(self, kept: Kept) -> Kept:
        before = self.kept.pop(kept.key, None)
        kept.rounds = before.rounds if before is not None else None
        self.kept[kept.key] = kept
        while len(self.kept) > 1 and sum(len(one.scenario.devices) for one in self.kept.values()) > KEPT_DEVICES:
            self.kept.popitem(last=False)
        return kept

    def begin(self) -> None:
        """A request has come."""
        self.end = time.monotonic() + self.settings.limits.solve_s

    def limit_s(self, wanted: float | None = None) -> float:
        """Seconds a search may take: a little less than what is left."""
        left = max(0.9 * min(self.end - time.monotonic(), self.settings.limits.solve_s), 0.001)
        return left if wanted is None else min(wanted, left)


def read_scenario(desk: Desk, request: asked.ScenarioRequest) -> BaseModel:
    """`POST scenario`."""
    from pretune.loader import tree_of

    given = [name for name in ("text", "scenario", "example", "scenario_id") if getattr(request, name) is not None]
    if len(given) != 1:
        raise InputError("text: should be given, or else scenario, example or scenario_id; one of them")
    if request.text is not None:
        tree = tree_of(request.text, f".{request.format}")
    elif request.scenario is not None:
        tree = request.scenario
    elif request.example is not None:
        tree = example_tree(request.example)
    else:
        tree, _ = desk.store.load(str(request.scenario_id))
    if request.fleet is not None:
        tree = {**tree, "devices": rows_of(request.fleet.csv, request.fleet.columns, desk.settings.limits.devices)}
    if request.changes:
        tree = changed(tree, request.changes)
    kept = desk.keep(tree)
    return scenario_answer(kept.scenario, kept.key, kept.defaults)


def scenario_file(desk: Desk, request: asked.Target) -> dict[str, Any]:
    """The scenario as a file holds it, in SI."""
    _, scenario = desk.find(request)
    return scenario.to_dict()


def solve(desk: Desk, request: asked.PlanRequest) -> BaseModel:
    """`POST plan`: the search begins where the last plan of the same fleet was."""
    kept, scenario = desk.find(request)
    began = time.perf_counter()
    found = plan_nearby(
        scenario, kept.rounds, tolerance=request.tolerance, time_limit=desk.limit_s(request.time_limit_s)
    )
    if found.pretrain is not None and found.finetune is not None:
        kept.rounds = (found.pretrain.rounds, found.finetune.rounds)
    took = time.perf_counter() - began
    return plan_answer(found, scenario, kept.key, planning_s=took, devices=request.devices)


def plan_file(desk: Desk, request: asked.PlanFileRequest) -> dict[str, Any]:
    """The plan file of `pretune plan -o`, whatever its status."""
    _, scenario = desk.find(request)
    limit_s = desk.limit_s(request.time_limit_s)
    return plan(scenario, tolerance=request.tolerance, time_limit=limit_s, throw=False).to_dict()


def check_plan(desk: Desk, request: asked.CheckRequest) -> BaseModel:
    """`POST check`."""
    _, scenario = desk.find(request)
    try:
        found = check(plan_from_dict(request.plan), scenario)
    except CheckFailed as failed:
        return CheckAnswer(holds=False, lower_bound_proven=False, problems=list(failed.problems))
    return CheckAnswer(holds=True, lower_bound_proven=found.lower_bound_proven, problems=[])


def compared(desk: Desk, request: asked.CompareRequest) -> BaseModel:
    """`POST compare`."""
    kept, scenario = desk.find(request)
    known = names_for(scenario)
    only = [name for name in known if name != SLOW] if request.only is None else request.only
    how: dict[str, Any] = {"tolerance": request.tolerance, "time_limit": desk.limit_s(request.time_limit_s)}
    options = Options(batch=request.batch, seed=request.seed)
    found = []
    for outcome in compare(scenario, only=only, options=options, **how) if only else [joint_outcome(scenario, **how)]:
        found.append(outcome)
        _go_on(desk)
    joint = _plan_of(found[0])
    rows = [_row(one, joint) for one in found]
    rows.sort(key=lambda row: (row.objective is None, row.objective or 0.0, row.name != JOINT))
    return CompareAnswer(
        scenario_id=kept.key,
        lower_bound=None if joint is None else joint.lower_bound,
        relative_gap=None if joint is None else joint.relative_gap,
        compared=rows,
    )


def _plan_of(outcome: Outcome) -> Plan | None:
    """The plan that can be run, if there is one."""
    return outcome.plan if outcome.plan is not None and outcome.plan.status.has_plan else None


def _row(outcome: Outcome, joint: Plan | None) -> Compared:
    found = _plan_of(outcome)
    return Compared(
        name=outcome.name,
        title=TITLES.get(outcome.name, outcome.name),
        status=outcome.status,
        objective=None if found is None else found.objective,
        ratio=None if found is None or joint is None else _ratio(found, joint),
        pretrain_rounds=None if found is None or found.pretrain is None else found.pretrain.rounds,
        finetune_rounds=None if found is None or found.finetune is None else found.finetune.rounds,
        energy_j=None if found is None else found.energy_j,
        delay_s=None if found is None else found.delay_s,
        planning_s=outcome.planning_s,
        note=outcome.note,
    )


def _ratio(found: Plan, joint: Plan) -> float | None:
    if joint.objective > 0.0:
        return found.objective / joint.objective
    return 1.0 if found.objective <= 0.0 else None


def fronts(desk: Desk, request: asked.ParetoRequest) -> BaseModel:
    """`POST pareto`."""
    kept, scenario = desk.find(request)
    points = min(request.points, desk.settings.limits.points)
    rows: list[FrontPointInfo] = []
    for axis in dict.fromkeys(request.axes):
        given = request.energy_range if axis == "energy" else request.delay_range
        low, high = default_range(scenario, axis) if given is None else _range(scenario, axis, given)
        values = budgets(low, high, points, f"{axis}_range")
        for point in front(scenario, axis, values, tolerance=request.tolerance, time_limit=desk.limit_s()):
            rows.append(_point(point))
            _go_on(desk)
    return ParetoAnswer(scenario_id=kept.key, points=rows)


def _range(scenario: Scenario, axis: str, given: list[float | str]) -> tuple[float, float]:
    key = "energy_j" if axis == "energy" else "delay_s"
    try:
        low, high = (getattr(scenario.with_budget(**{key: end}).budget, key) for end in given)
    except InputError:
        raise InputError.field(f"{axis}_range", given, "two budgets, the smaller first") from None
    if not low < high:
        raise InputError.field(f"{axis}_range", given, "two budgets, the smaller first")
    return low, high


def _point(point: FrontPoint) -> FrontPointInfo:
    found = point.plan
    return FrontPointInfo(
        axis=point.axis,
        energy_j=point.energy_j,
        delay_s=point.delay_s,
        status="infeasible" if found is None else found.status.value,
        objective=None if found is None else found.objective,
        lower_bound=None if found is None else found.lower_bound,
        relative_gap=None if found is None else found.relative_gap,
        used_energy_j=None if found is None else found.energy_j,
        used_delay_s=None if found is None else found.delay_s,
        pretrain_rounds=None if found is None or found.pretrain is None else found.pretrain.rounds,
        finetune_rounds=None if found is None or found.finetune is None else found.finetune.rounds,
    )


def report(desk: Desk, folder: str) -> bytes:
    """`GET runs/{id}/report`."""
    from pretune.report import render

    return render(folder).encode()


def _go_on(desk: Desk) -> None:
    """Stop where nobody waits for the answer any more, or where it takes too long."""
    if desk.stopped():
        raise Refused(499, "stopped: nobody waits for the answer any more")
    if time.monotonic() > desk.end:
        raise too_long(desk.settings.limits.solve_s)


def warm_up(desk: Desk, _request: None = None) -> None:
    """Plan once, so that the kernels are compiled or loaded before anybody waits for them."""
    plan(scenario_from_dict(example_tree("digits")), tolerance=1e-2, throw=False)


WORK: dict[str, Callable[[Desk, Any], Any]] = {
    "scenario": read_scenario,
    "scenario-file": scenario_file,
    "plan": solve,
    "plan-file": plan_file,
    "check": check_plan,
    "compare": compared,
    "pareto": fronts,
    "report": report,
}


def text_of(found: BaseModel | dict[str, Any] | bytes) -> bytes:
    """What is sent: the answer's JSON, or what is a text already."""
    if isinstance(found, bytes):
        return found
    if isinstance(found, BaseModel):
        return found.model_dump_json().encode()
    return json.dumps(found, allow_nan=False).encode()
