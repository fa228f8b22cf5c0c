"""Whole plans in segments: their proofs, their checks, their files, and what is refused."""

from __future__ import annotations

import copy
import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from draws import draw, odd

from pretune.certify import check, totals
from pretune.convergence.schedule import lengths
from pretune.errors import CheckFailed, Infeasible, InputError
from pretune.planner import plan
from pretune.planner.baselines import CONSTANT, compare
from pretune.planner.explain import explain
from pretune.planner.kernels.fixed import SOLVED
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.kernels.segment_bounds import parts_at
from pretune.planner.kernels.segments import Ranges, new_course, solve_segments
from pretune.planner.pareto import front
from pretune.planner.problem import build
from pretune.planner.schedule.search import ScheduleSearch
from pretune.plans import Plan, load_plan, plan_from_dict
from pretune.scenario import Scenario


@cache
def planned(seed: int, schedule: int, criterion: str = "final", small: bool = False) -> tuple[Scenario, Plan]:
    scenario = draw(seed, batteries=False, criterion=criterion, small=small).scenario.replace(schedule=schedule)
    return scenario, plan(scenario)


@pytest.mark.parametrize("schedule", [2, 5])
@pytest.mark.parametrize("seed", [1, 5, 7, 10, 18])
def test_plans_pass_the_check_and_prove_their_bound(seed: int, schedule: int) -> None:
    scenario, found = planned(seed, schedule)
    checked = check(found, scenario)
    assert checked.lower_bound_proven
    assert found.lower_bound <= found.objective
    assert found.relative_gap <= 1e-2
    constant = plan(scenario.replace(schedule=1))
    # a constant plan is a plan in segments: nothing the one proves or finds can contradict the other
    assert found.objective <= constant.objective * (1.0 + 1e-12)
    assert found.lower_bound <= constant.objective
    for stage in (found.pretrain, found.finetune):
        assert [part.rounds for part in stage.parts] == [r for r in lengths(stage.rounds, schedule) if r]
    energy_j, delay_s = totals(scenario, found.pretrain, found.finetune)
    assert energy_j <= scenario.budget.energy_j
    assert delay_s <= scenario.budget.delay_s
    rounds_s = found.pretrain.rounds * found.pretrain.round_s + found.finetune.rounds * found.finetune.round_s
    assert rounds_s == pytest.approx(found.delay_s, rel=1e-12)


@pytest.mark.parametrize("seed", [2, 3, 8, 12])
def test_for_trajectory_plans_gain_only_what_whole_batches_leave(seed: int) -> None:
    scenario, found = planned(seed, 3, "trajectory")
    constant = plan(scenario.replace(schedule=1))
    assert found.objective <= constant.objective * (1.0 + 1e-12)
    # the constant plan's bound knows whole batches of constant plans only; it still is near
    assert found.objective >= constant.objective * (1.0 - 2.0 * max(constant.relative_gap, 1e-4))


@pytest.mark.parametrize("seed", range(4))
def test_exhaustive_search_on_tiny_problems_finds_nothing_below_the_bound(seed: int) -> None:
    scenario = draw(seed, batteries=False, criterion="final", small=True, count=1).scenario.replace(schedule=2)
    try:
        found = plan(scenario)
    except Infeasible:
        pytest.skip("nothing fits")
    problem, _ = build(scenario)
    search = ScheduleSearch(problem, 2, 1e-4)
    server, device = range(1, scenario.server.samples + 1), range(1, int(scenario.devices.samples[0]) + 1)
    best = math.inf
    for m, n in np.ndindex(5, 5):
        parts = parts_at(problem.criterion, float(m), float(n), 2)
        weight, phi, _, _ = coefficients(problem.criterion, float(m), float(n))
        if m + n == 0 or search.solve((m, n), new_course(2, 1)) != SOLVED:
            continue
        for b1, b2 in np.ndindex(*([len(server)] * 2 if m else [1, 1])):
            for c1, c2 in np.ndindex(*([len(device)] * 2 if n else [1, 1])):
                low0, low = np.array([b1 + 1.0, b2 + 1.0]), np.array([[c1 + 1.0], [c2 + 1.0]])
                course = new_course(2, 1)
                ranges = Ranges(low0, low0.copy(), low, low.copy())
                if solve_segments(problem, ranges, parts, course) == SOLVED:
                    used0, used1 = parts.m > 0.0, parts.n > 0.0
                    noise = (parts.psi0[used0] / low0[used0]).sum()
                    noise += problem.devices.variance[0] * (parts.psi[used1] / low[used1, 0]).sum()
                    best = min(best, (phi + noise) / weight)
    assert found.lower_bound <= best
    if found.pretrain.rounds < 5 and found.finetune.rounds < 5:
        assert best <= found.objective * (1.0 + 1e-9)


def test_the_file_keeps_everything(tmp_path) -> None:
    scenario, found = planned(7, 5)
    again = load_plan(found.save(tmp_path / "plan.json"))
    assert again.to_json() == found.to_json()
    check(again, scenario)
    tree = found.to_dict()
    assert [set(part) for part in tree["pretrain"]["segments"]] == [{"rounds", "batch", "clock_hz", "round_s"}] * 5
    assert [set(part) for part in tree["finetune"]["segments"]] == [{"rounds", "round_s", "devices"}] * 5
    assert tree["pretrain"]["batch"] == tree["pretrain"]["segments"][-1]["batch"]
    assert tree["finetune"]["devices"] == tree["finetune"]["segments"][-1]["devices"]
    assert "segments" not in plan(scenario.replace(schedule=1)).to_dict()["pretrain"]


def _changes() -> list[tuple[str, Any]]:
    def segment(tree: dict[str, Any], stage: str = "pretrain", index: int = 0) -> dict[str, Any]:
        return tree[stage]["segments"][index]

    return [
        ("segments", lambda t: t["pretrain"].pop("segments")),
        ("segments", lambda t: t["finetune"]["segments"].pop()),
        ("segments", lambda t: segment(t).update(rounds=segment(t)["rounds"] + 1)),
        ("hold segments themselves", lambda t: segment(t).update(segments=[copy.deepcopy(segment(t, index=1))])),
        ("energy_j|delay_s|round_s", lambda t: segment(t).update(batch=segment(t)["batch"] - 1)),
        ("round_s", lambda t: segment(t, index=1).update(round_s=0.9 * segment(t, index=1)["round_s"])),
        ("clock_hz|energy_j|round_s", lambda t: segment(t).update(clock_hz=0.9 * segment(t)["clock_hz"])),
        ("batch", lambda t: segment(t).update(batch=10**9)),
        ("pretrain.batch", lambda t: t["pretrain"].update(batch=t["pretrain"]["batch"] + 1)),
        ("pretrain.round_s", lambda t: t["pretrain"].update(round_s=1.01 * t["pretrain"]["round_s"])),
        ("power_w", lambda t: segment(t, "finetune", 1)["devices"][0].update(power_w=1e3)),
        ("upload_s", lambda t: segment(t, "finetune", 1)["devices"][0].update(upload_s=1e-3)),
        ("names", lambda t: segment(t, "finetune", 1)["devices"][0].update(name="who")),
        (
            "finetune.batch",
            lambda t: t["finetune"]["devices"][0].update(batch=t["finetune"]["devices"][0]["batch"] + 1),
        ),
        ("objective", lambda t: t.update(objective=0.999 * t["objective"])),
        ("lower_bound|relative_gap", lambda t: t.update(lower_bound=t["objective"])),
        ("shares", lambda t: t["certificate"]["prices"][0]["shares"].pop()),
        ("shares", lambda t: t["certificate"]["prices"][0]["shares"][0].pop()),
        ("negative", lambda t: t["certificate"]["prices"][0]["shares"][0].__setitem__(0, -1.0)),
        ("ratios", lambda t: t["certificate"]["prices"][0].update(ratios=[1.0])),
    ]


@pytest.mark.parametrize("index", range(len(_changes())))
def test_a_plan_that_was_tampered_with_fails(index: int) -> None:
    scenario, found = planned(7, 5)
    words, change = _changes()[index]
    tree = json.loads(found.to_json())
    change(tree)
    with pytest.raises((CheckFailed, InputError), match=words):
        check(plan_from_dict(tree), scenario)


def test_a_false_bound_with_a_gap_to_match_is_not_proven() -> None:
    scenario, found = planned(7, 5)
    tree = json.loads(found.to_json())
    tree["lower_bound"] = found.objective * (1.0 - 0.1 * found.relative_gap)
    tree["relative_gap"] = (found.objective - tree["lower_bound"]) / found.objective
    tree["message"] = found.message
    with pytest.raises(CheckFailed, match=r"do not prove|message"):
        check(plan_from_dict(tree), scenario)


def test_a_constant_plan_is_not_taken_for_a_schedule() -> None:
    scenario, _ = planned(7, 5)
    constant = plan(scenario.replace(schedule=1), tolerance=1e-2)
    tree = constant.to_dict() | {"scenario_sha256": scenario.sha256}
    with pytest.raises(CheckFailed, match="segments"):
        check(plan_from_dict(json.loads(json.dumps(tree))), scenario)


def test_batteries_are_refused_in_one_line() -> None:
    scenario = draw(6, batteries=True, criterion="final", access="fdma", count=3).scenario.replace(schedule=4)
    with pytest.raises(InputError, match=r"^schedule: holds 4, should hold 1 where a device has a battery") as caught:
        plan(scenario)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, 33, 2.5, "four", True, None])
def test_a_schedule_is_a_whole_number(value: Any) -> None:
    with pytest.raises(InputError, match=r"^schedule: holds .*, should hold a whole number of segments from 1 to 32"):
        draw(1).scenario.replace(schedule=value)


def test_one_segment_is_the_same_scenario() -> None:
    scenario = draw(1).scenario
    assert scenario.replace(schedule=1).sha256 == scenario.sha256
    assert scenario.replace(schedule=2).sha256 != scenario.sha256


def test_infeasible_with_a_schedule() -> None:
    scenario = odd("hopeless budgets", 1, batteries=False).replace(schedule=4)
    found = plan(scenario, throw=False)
    assert found.status.value == "infeasible"
    check(found, scenario)


@pytest.mark.parametrize(
    "name",
    ["one device", "identical devices", "a hopeless device", "no shift", "no noise", "no noise on devices", "no gap",
     "tiny budgets", "one sample each", "largest steps", "flat objective", "steep uploads", "flat uploads"],
)  # fmt: skip
@pytest.mark.parametrize("criterion", ["final", "trajectory"])
def test_odd_scenarios(name: str, criterion: str) -> None:
    scenario = odd(name, 5, batteries=False, criterion=criterion, count=2).replace(schedule=3)
    found = plan(scenario, throw=False, time_limit=20.0)
    assert found.status.value in ("optimal", "feasible", "infeasible", "time_limit")
    check(found, scenario)


def test_more_segments_than_rounds() -> None:
    scenario = draw(3, batteries=False, criterion="final", small=True, stages="both").scenario.replace(schedule=32)
    found = plan(scenario)
    assert found.pretrain.rounds + found.finetune.rounds > 0
    for stage in (found.pretrain, found.finetune):
        assert [part.rounds for part in stage.segments] == [1] * stage.rounds or stage.rounds > 32
    check(found, scenario)


def test_multipliers_are_derivatives() -> None:
    """What one more joule and second buy at the plan's rounds, with real batches."""
    scenario, found = planned(1, 2)
    rounds = (found.pretrain.rounds, found.finetune.rounds)
    problem, _ = build(scenario)
    limits = problem.limits

    def value(energy: float, delay: float) -> float:
        changed = problem._replace(limits=limits._replace(energy=energy, delay=delay))
        course = new_course(2, len(scenario.devices))
        assert ScheduleSearch(changed, 2, 1e-4).solve(rounds, course) == SOLVED
        return float(course.scalars[4])

    step = 1e-4
    by_energy = value(limits.energy * (1 + step), limits.delay) - value(limits.energy * (1 - step), limits.delay)
    by_delay = value(limits.energy, limits.delay * (1 + step)) - value(limits.energy, limits.delay * (1 - step))
    assert found.multipliers["energy_j"] == pytest.approx(by_energy / (2 * step * limits.energy), rel=1e-4)
    assert found.multipliers["delay_s"] == pytest.approx(by_delay / (2 * step * limits.delay), rel=1e-4)


def test_front_explain_and_compare_know_schedules() -> None:
    scenario, found = planned(18, 2)
    sentences = explain(found, scenario)
    assert any("joule" in sentence for sentence in sentences)
    points = list(front(scenario, "energy", [scenario.budget.energy_j, 2.0 * scenario.budget.energy_j]))
    assert all(point.plan is not None and point.plan.pretrain.segments for point in points)
    outcomes = {outcome.name: outcome for outcome in compare(scenario, only=("fixed-clock",), tolerance=1e-3)}
    assert list(outcomes) == ["joint", CONSTANT, "fixed-clock"]
    joint, constant = outcomes["joint"].plan, outcomes[CONSTANT].plan
    assert joint.objective < constant.objective
    check(constant, scenario.replace(schedule=1))
    check(outcomes["fixed-clock"].plan, scenario.replace(schedule=1))
