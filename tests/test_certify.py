"""The checker passes fresh plans, and fails a plan with any one of its fields tampered with."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from planner.draws import draw, odd
from pretune import certify
from pretune.errors import CheckFailed, InputError, PlanMismatch
from pretune.physics import cost
from pretune.planner import plan
from pretune.plans import Plan, plan_from_dict
from pretune.scenario import Scenario, scenario_from_dict

REFUSED = (CheckFailed, PlanMismatch, InputError)
CASES: dict[str, dict[str, Any]] = {
    "trajectory, fine-tuning alone": {"seed": 34, "criterion": "trajectory", "stages": "both"},
    "trajectory, pre-training alone": {"seed": 11, "criterion": "trajectory", "stages": "both"},
    "final, side by side": {"seed": 6, "criterion": "final", "access": "fdma", "batteries": True, "count": 3},
    "final, taking turns": {"seed": 43, "criterion": "final", "access": "tdma", "batteries": False, "count": 2},
    "final, a shared band": {"seed": 6, "access": "fdma", "criterion": "final", "count": 3, "shares": "optimal"},
    "final, small": {"seed": 2, "criterion": "final", "small": True, "batteries": True, "stages": "both"},
}
Path = tuple[str | int, ...]


@cache
def planned(name: str) -> tuple[Scenario, Plan]:
    """A case's scenario, every key spelled out, and its plan."""
    options = dict(CASES[name])
    scenario = scenario_from_dict(draw(options.pop("seed"), **options).scenario.to_dict())
    return scenario, plan(scenario, tolerance=1e-3)


def leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value of a tree, lists themselves too."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list):
        yield path, node
        for index, value in enumerate(node):
            yield from leaves(value, (*path, index))
    else:
        yield path, node


def tampered(value: Any) -> list[Any]:
    """Other values for a leaf."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value * f for f in (1.01, 0.99, 1.0 + 1e-6, 1.0 - 1e-6)] if value else [1e-6]
    if isinstance(value, str):
        return [value + "x", ""]
    if isinstance(value, list) and value:
        return [value[1:], value[:-1]]
    return [1.0] if value is None else []


def put(tree: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """A copy of the tree with one leaf changed."""
    tree = copy.deepcopy(tree)
    node: Any = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return tree


def may_stand(path: Path, value: Any, other: Any) -> bool:
    """What a tampered plan may keep its check with.

    Any prices prove some bound, so a changed price, or one less, may still prove the same; where the prices were found
    is a hint, and so is whether the proof has to cut spans. The tolerance is the plan's own choice, told to three
    digits.
    """
    if path[:2] in (("certificate", "prices"), ("certificate", "cut_spans")):
        return True
    return path == ("certificate", "tolerance") and abs(other / value - 1.0) < 1e-4


@pytest.mark.parametrize("name", CASES)
def test_a_fresh_plan_passes(name: str) -> None:
    scenario, answer = planned(name)
    checked = certify.check(answer, scenario)
    assert checked.lower_bound_proven
    assert checked.objective == answer.objective
    assert [limit.name for limit in checked.constraints][:2] == ["energy", "delay"]
    again = plan_from_dict(json.loads(answer.to_json()))
    assert again.to_json() == answer.to_json()
    certify.check(again, scenario)


@pytest.mark.parametrize("name", CASES)
def test_a_plan_with_any_field_tampered_with_fails(name: str) -> None:
    scenario, answer = planned(name)
    tree = json.loads(answer.to_json())
    passed, tried = [], 0
    for path, value in leaves(tree):
        if path[:2] == ("certificate", "prices"):
            continue  # each of them is a proof to run; and each may stand
        for other in tampered(value):
            tried += 1
            try:
                certify.check(plan_from_dict(put(tree, path, other)), scenario)
            except REFUSED:
                continue
            if not may_stand(path, value, other):
                passed.append((path, value, other))
    assert tried > 50
    assert passed == []


def test_a_plan_without_any_one_key_fails() -> None:
    scenario, answer = planned("final, side by side")
    tree = json.loads(answer.to_json())
    for key in set(tree) - {"certificate", "defaults"}:  # this scenario took no defaults
        with pytest.raises(REFUSED):
            certify.check(plan_from_dict({k: v for k, v in tree.items() if k != key}), scenario)
    for key in ("surprise", "Objective"):
        with pytest.raises(InputError, match=key):
            plan_from_dict({**tree, key: 1})


def restated(answer: Plan, **changes: Any) -> Plan:
    """The plan with other figures, its gap and its sentence made to agree."""
    answer = replace(answer, **changes)
    gap = (answer.objective - answer.lower_bound) / answer.objective
    answer = replace(answer, relative_gap=gap)
    return replace(answer, message=certify.sentence(answer))


def worse(scenario: Scenario, answer: Plan) -> Plan:
    """A valid plan that is not as good: one sample less a round, every figure recomputed."""
    pretrain, finetune = answer.pretrain, answer.finetune
    assert pretrain is not None
    assert finetune is not None
    if finetune.rounds and finetune.batch.max() > 1:
        batch = finetune.batch.copy()
        batch[int(batch.argmax())] -= 1
        each = cost.finetune_round(
            scenario, batch.astype(float), finetune.clock_hz, finetune.power_w, finetune.bandwidth_hz
        )
        finetune = replace(finetune, batch=batch, round_s=each.time_s)
    else:
        one = cost.pretrain_round(scenario, pretrain.batch - 1, pretrain.clock_hz)
        pretrain = replace(pretrain, batch=pretrain.batch - 1, round_s=one.time_s)
    energy_j, delay_s = certify.totals(scenario, pretrain, finetune)
    return restated(
        answer,
        pretrain=pretrain,
        finetune=finetune,
        energy_j=energy_j,
        delay_s=delay_s,
        objective=certify.value_of(scenario, pretrain, finetune),
        constraints=certify.limits_of(scenario, pretrain, finetune),
    )


@pytest.mark.parametrize("name", [name for name in CASES if name != "final, side by side"])  # that one takes minutes
def test_a_bound_that_is_false_fails(name: str) -> None:
    """A worse plan that claims to be optimal, all its figures consistent, meets prices that prove less."""
    scenario, answer = planned(name)
    claimed = replace(answer, certificate={**(answer.certificate or {}), "tolerance": 0.5})
    poor = worse(scenario, claimed)
    assert poor.objective > answer.objective
    certify.check(poor, scenario)  # with the true bound it is a plan like any other
    false = answer.objective + 0.9 * (poor.objective - answer.objective)
    with pytest.raises(CheckFailed, match="lower_bound"):
        certify.check(restated(poor, lower_bound=false), scenario)
    certify.check(restated(answer, lower_bound=answer.lower_bound - 1e-7 * answer.objective), scenario)


@pytest.mark.parametrize("name", ["final, side by side", "final, taking turns"])
@pytest.mark.parametrize("spans", [[1e-30, 1e-29], [1e9, 2e9]])
def test_spans_that_leave_out_what_can_happen_prove_nothing(name: str, spans: list[float]) -> None:
    """The certificate must not choose which rounds' spans are looked at."""
    scenario, answer = planned(name)
    certificate = {**(answer.certificate or {}), "spans": spans, "cut_spans": True}
    assert answer.finetune is not None
    assert answer.finetune.rounds > 0
    forged = restated(answer, lower_bound=answer.objective, certificate=certificate)
    with pytest.raises(REFUSED):
        certify.check(forged, scenario)


def test_the_same_scenario_written_another_way_is_no_mismatch() -> None:
    """Equal digests are the same scenario: which keys took a default must not matter."""
    scenario = draw(1).scenario
    spelled_out = scenario_from_dict(scenario.to_dict())
    assert spelled_out.sha256 == scenario.sha256
    assert spelled_out.defaults != scenario.defaults
    certify.check(plan(scenario, tolerance=1e-2), spelled_out)


def test_another_scenario_is_a_mismatch() -> None:
    scenario, answer = planned("final, side by side")
    with pytest.raises(PlanMismatch):
        certify.check(answer, scenario.with_budget(energy_j=scenario.budget.energy_j * 2))


def test_an_infeasible_plan_is_checked_too() -> None:
    for seed in range(4):
        scenario = odd("hopeless budgets", seed, batteries=False, energy="tight")
        answer = plan(scenario, throw=False)
        assert answer.status.value == "infeasible"
        certify.check(answer, scenario)
        tree = json.loads(answer.to_json())
        for path, value in leaves(tree):
            if path[0] == "certificate":
                continue
            for other in tampered(value):
                if isinstance(value, float) and abs(other / value - 1.0) < 1e-4:
                    continue  # the sentence tells four digits
                with pytest.raises(REFUSED):
                    certify.check(plan_from_dict(put(tree, path, other)), scenario)


def test_a_feasible_scenario_cannot_be_called_infeasible() -> None:
    """The prices of an infeasible plan prove nothing for a scenario with enough budget."""
    scenario = odd("hopeless budgets", 1, batteries=False, energy="tight")
    answer = plan(scenario, throw=False)
    rich = draw(1, batteries=False, energy="tight").scenario
    forged = replace(answer, scenario_sha256=rich.sha256, defaults=rich.defaults)
    with pytest.raises(CheckFailed):
        certify.check(forged, rich)


def test_nothing_of_a_failed_search_can_be_checked() -> None:
    scenario, answer = planned("final, small")
    failed = Plan(
        status=type(answer.status)("numerical_failure"),
        criterion=answer.criterion,
        scenario_sha256=answer.scenario_sha256,
        defaults=answer.defaults,
    )
    with pytest.raises(CheckFailed, match="numerical_failure"):
        certify.check(failed, scenario)


def test_the_checker_never_imports_the_planner(tmp_path: Any) -> None:
    scenario, answer = planned("final, side by side")
    (tmp_path / "scenario.json").write_text(json.dumps(scenario.to_dict()), encoding="utf-8")
    answer.save(tmp_path / "plan.json")
    program = (
        "import sys, json\n"
        "from pretune import certify\n"
        "from pretune.plans import load_plan\n"
        "from pretune.scenario import load_scenario\n"
        f"checked = certify.check(load_plan({str(tmp_path / 'plan.json')!r}),"
        f" load_scenario({str(tmp_path / 'scenario.json')!r}))\n"
        "assert checked.lower_bound_proven\n"
        "bad = [m for m in sys.modules if m.startswith(('pretune.planner', 'numba', 'cvxpy', 'clarabel', 'scipy'))]\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
