"""Probabilities to be asked, decided with the plan: against general solvers, brute force, and what runs then spend."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

import pretune
from pretune.asked_bounds import asking_of, bound, least_asked, set_of, stacked
from pretune.certify import check
from pretune.control.outlook import Outlook
from pretune.control.rules import rules_of
from pretune.control.simulate import simulate, steer
from pretune.convergence.criteria import criterion_of, device_noise
from pretune.convergence.participation import spread_of, with_spread
from pretune.errors import CheckFailed, InputError
from pretune.figures import system_of
from pretune.physics import cost
from pretune.planner.asked import Joint
from pretune.planner.joint_bound import entry_of
from pretune.planner.problem import build
from pretune.plans import Plan, plan_from_dict
from pretune.reality import Reality
from pretune.runtime.replan import Replanner
from pretune.scenario import Scenario, scenario_from_dict
from pretune.uncertainty import asking
from scenario_samples import DEVICE, small


def fleet(count: int, planning: dict[str, Any] | None = None, *, final: bool = False, **changes: Any) -> Scenario:
    """Devices whose channels are two decades apart, short of energy."""
    extra = {"convergence__pl_constant": 0.5, "convergence__criterion": "final"} if final else {}
    given = {"budget__energy_j": 6.0 * count, "budget__delay_s": 900.0, "convergence__shift": 5.0, **extra, **changes}
    tree = small(**given)
    tree["server"]["transmit_power_w"] = 1.0
    gains = 3e-12 * 10.0 ** np.linspace(-0.8, 1.2, count)
    tree["devices"] = [
        {"name": f"cam-{k}", **DEVICE, "circuit_power_w": 0.05, "gain": float(g)} for k, g in enumerate(gains)
    ]
    if planning is not None:
        tree["planning"] = planning
    return scenario_from_dict(tree)


DECIDED = {"under": "participation"}


@pytest.fixture(scope="module")
def planned() -> tuple[Scenario, Plan]:
    scenario = fleet(4, {**DECIDED, "confidence": 0.9})
    return scenario, pretune.plan(scenario)


@pytest.mark.parametrize("final", [False, True])
def test_the_joint_optimum_at_a_span_is_that_of_a_general_solver(final: bool) -> None:
    scenario = fleet(3, final=final)
    problem, base = build(scenario)
    joint, (m, n) = Joint(scenario, problem, 0.05), (0.0, 30.0)
    span = joint.spans(m, n)[1]
    found = joint.solve(m, n, span)
    assert found is not None
    d, weight_sq = problem.devices, np.square(scenario.devices.weight)

    def value(x: Any) -> float:  # p, p b, p t, whose energies are perspectives
        p, y = x[:3], x[3:6]
        c = float((weight_sq * (1.0 / p - 1.0)).sum())
        criterion = with_spread(base, c, pl_constant=scenario.assumed.pl_constant)  # type: ignore[arg-type]
        if criterion is None:
            return 1e3
        at = criterion.at(m, n)
        return float((at.phi + at.psi * (d.variance / y).sum()) / at.weight)

    def joules(x: Any) -> float:
        p, y, t = x[:3], x[3:6], x[6:]
        u = p * span - t
        each = d.capacitance * (d.cycles * y) ** 3 / u**2 + t * d.noise * np.expm1(d.span * p / t) + d.circuit * t
        return 1.0 - float(n * (each.sum() + problem.limits.down_j)) / problem.limits.energy

    start = found.columns
    t0 = d.span / start[:, 3]
    best = np.inf
    for factor in (1.0, 0.7):
        p0 = np.clip(factor * start[:, 0], 0.05, 1.0)
        x0 = np.concatenate([p0, 0.9 * p0 * start[:, 1], p0 * t0])
        scale = x0.copy()
        least_t = d.span / d.exponent_max
        answer = minimize(
            lambda z, s=scale: value(z * s),
            np.ones(9),
            method="SLSQP",
            bounds=[*((0.05 / s, 1.0 / s) for s in scale[:3]), *((1e-3, 1e3) for _ in range(6))],
            constraints=[
                {"type": "ineq", "fun": lambda z, s=scale: joules(z * s)},
                {"type": "ineq", "fun": lambda z, s=scale: (z * s)[3:6] / (z * s)[:3] - 1.0},
                {"type": "ineq", "fun": lambda z, s=scale, t=least_t: ((z * s)[6:] - (z * s)[:3] * t) / s[6:]},
                {
                    "type": "ineq",
                    "fun": lambda z, s=scale: (
                        1.0 - d.cycles * (z * s)[3:6] / d.clock_max / np.maximum((z * s)[:3] * span - (z * s)[6:], 1e-9)
                    ),
                },
            ],
            options={"maxiter": 300, "ftol": 1e-12},
        )
        if joules(answer.x * scale) > -1e-6:
            best = min(best, value(answer.x * scale))
    assert found.value <= best * (1.0 + 1e-5)  # never above what the general solver finds
    assert found.value >= best * (1.0 - 1e-4)


def test_a_device_at_prices_is_the_best_of_a_grid() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        joules, unit, noise, spread = rng.uniform(-0.3, 1.0), *10.0 ** rng.uniform(-3, 1, 3)
        high = float(rng.integers(1, 60))
        one = least_asked(*(np.array([[x]]) for x in (joules, unit, noise, spread)), 0.1, np.array([[high]]))[0, 0]
        p, b = np.meshgrid(np.linspace(0.1, 1.0, 4001), np.arange(1.0, high + 1.0))
        grid = (p * (joules + unit * b) + (noise / b + spread) / p - spread).min()
        assert one <= grid + 1e-12
        assert one == pytest.approx(grid, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("final", [False, True])
def test_no_probabilities_on_a_grid_beat_the_bound(final: bool) -> None:
    scenario = fleet(2, final=final, budget__energy_j=6.0, budget__delay_s=200.0)
    plan = pretune.plan(scenario.replace(planning=DECIDED))
    assert plan.relative_gap < 0.02
    values = []
    for p in itertools.product(np.geomspace(0.05, 1.0, 5), repeat=2):
        trial = pretune.plan(asking(scenario.replace(planning=DECIDED), np.array(p)).scenario, throw=False)
        if trial.status.has_plan:
            values.append(trial.objective)
    assert plan.lower_bound <= min(values)
    assert plan.objective <= min(values) * (1.0 + 1e-9)


def test_prices_from_one_place_bound_every_other_decision() -> None:
    """Weak duality: at random rounds, spans, probabilities, batches and times that keep the budgets."""
    for final in (False, True):
        scenario = fleet(3, final=final)
        problem, _ = build(scenario)
        joint = Joint(scenario, problem, 0.05)
        system, rng = system_of(scenario), np.random.default_rng(1)
        one = joint.solve(0.0, 20.0, joint.spans(0.0, 20.0)[1])
        assert one is not None
        sets = stacked([set_of(system, entry_of(one))])
        kept = 0
        for _ in range(150):
            n = float(rng.integers(5, 60))
            other = joint.solve(0.0, n, joint.spans(0.0, n)[1] * rng.uniform(0.6, 1.0))
            if other is None:
                continue
            kept += 1
            # its own value is the claim: the bound of the box of just this decision must not reach above it
            asking = asking_of(system, 0.05, other.value * (1.0 + 1e-6))
            box = np.array([[0.0, 0.0, n, n, other.span, other.span]])
            part = (0.0, np.inf)
            assert bound(asking, sets, box, np.array([0]), part)[0] <= other.value * (1.0 + 1e-6)
        assert kept > 40


def test_the_plan_is_better_than_with_everybody_and_check_proves_its_bound(planned: tuple[Scenario, Plan]) -> None:
    scenario, plan = planned
    assert plan.objective < pretune.plan(scenario.replace(planning=None)).objective
    checked = check(plan_from_dict(json.loads(plan.to_json())), scenario)
    assert checked.lower_bound_proven
    assert plan.relative_gap <= 0.01
    assert plan.under is not None
    assert plan.under["reserve_j"] > 0.0


def test_check_refuses_what_was_tampered_with(planned: tuple[Scenario, Plan]) -> None:
    scenario, plan = planned
    asked = list(plan.under["participation"])  # type: ignore[index]

    def refused(match: str, **changes: Any) -> None:
        with pytest.raises(CheckFailed, match=match):
            check(replace(plan, **changes), scenario)

    def under(**changes: Any) -> dict[str, Any]:
        return {**(plan.under or {}), **changes}

    refused("energy_j", under=under(participation=[min(1.0, 1.05 * p) for p in asked]))
    refused("participation", under=under(participation=asked[:-1]))
    refused("participation", under=under(participation=[0.01, *asked[1:]]))
    refused("least_participation", under=under(least_participation=0.2))
    refused("constraints", under=under(reserve_j=0.0))
    refused("lower_bound", lower_bound=plan.objective * 0.9999, relative_gap=1e-4)
    refused("is not a key", certificate={**(plan.certificate or {}), "other": 1})
    without = {key: value for key, value in (plan.certificate or {}).items() if key != "asked"}
    assert not check(replace(plan, certificate=without), scenario).lower_bound_proven


def test_the_energy_is_that_of_the_mean_round() -> None:
    scenario = fleet(4, DECIDED)
    plan = pretune.plan(scenario)
    assert plan.finetune is not None
    asked = np.array(plan.under["participation"])  # type: ignore[index]
    stage, plain = plan.finetune, scenario.replace(planning=None)
    each = cost.finetune_round(plain, stage.batch.astype(float), stage.clock_hz, stage.power_w)
    total = 0.0
    for drawn in itertools.product([0, 1], repeat=4):
        who = np.array(drawn)
        total += float(np.prod(np.where(who, asked, 1.0 - asked))) * float((who * each.device_j).sum())
    assert plan.energy_j == pytest.approx(stage.rounds * (total + each.broadcast.energy_j), rel=1e-9)
    c = spread_of(scenario.devices.weight, asked)
    criterion = with_spread(criterion_of(plain), c)  # type: ignore[arg-type]
    assert criterion is not None
    at = criterion.at(plan.pretrain.rounds, stage.rounds)  # type: ignore[union-attr]
    noise = float((device_noise(plain) / asked / stage.batch).sum())
    server = float(at.psi0) / plan.pretrain.batch if plan.pretrain.rounds else 0.0  # type: ignore[union-attr]
    assert plan.objective == pytest.approx((at.phi + server + at.psi * noise) / at.weight, rel=1e-9)


def test_runs_are_unbiased_within_budget_and_keep_the_confidence(planned: tuple[Scenario, Plan]) -> None:
    scenario, plan = planned
    rules, runs, spent = rules_of("none", "off"), 60, []
    total, rounds, empty = np.zeros(4), 0, 0
    outlook = Outlook.of(scenario, plan, rules, Reality.of(scenario, 0))
    assert outlook.asked is not None
    for seed in range(runs):
        shares = []
        ended = simulate(
            steer(scenario, plan, rules, Reality.of(scenario, seed), outlook=outlook),
            lambda done, kept=shares: kept.append(done.shares),
        )
        assert ended.energy_j <= scenario.budget.energy_j
        assert ended.delay_s <= scenario.budget.delay_s
        spent.append(ended.stop.finished)
        total += np.sum(shares, axis=0)
        rounds += len(shares)
        empty += sum(not one.any() for one in shares)
    error = np.sqrt((1.0 - outlook.asked) / outlook.asked / rounds)
    assert (np.abs(total / rounds / scenario.devices.weight - 1.0) <= 4.0 * error + 1e-12).all()
    assert np.mean(spent) >= 0.9  # whole runs that did not run out of energy
    chance_of_none = float(np.prod(1.0 - outlook.asked))
    assert abs(empty / rounds - chance_of_none) <= 4.0 * np.sqrt(chance_of_none / rounds)


def test_planning_anew_keeps_the_probabilities_and_the_budget() -> None:
    scenario = fleet(4, DECIDED)
    plan = pretune.plan(scenario)
    rules, reality = rules_of("rounds", "auto"), Reality.of(scenario, 3)
    steering = steer(scenario, plan, rules, reality, planner=Replanner(scenario))
    ended = simulate(steering)
    assert ended.energy_j <= scenario.budget.energy_j
    assert ended.finetune > 0
    assert steering.outlook.asked is not None
    assert steering.outlook.asked.tolist() == plan.under["participation"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "planning", "line"),
    [
        ({"radio__access": "tdma"}, DECIDED, "radio.access: holds 'tdma', should hold fdma"),
        ({"schedule": 2}, DECIDED, "schedule: holds 2, should hold 1"),
        ({}, {**DECIDED, "outage": 0.1}, "planning.outage: holds 0.1, should hold nothing"),
        ({}, {**DECIDED, "least_participation": 0.0}, "planning.least_participation"),
        ({}, {"under": "mean", "least_participation": 0.1}, "planning.least_participation"),
    ],
)
def test_bad_input_is_one_line(changes: dict[str, Any], planning: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        fleet(2, planning, **changes)
    assert len(refused.value.problems) == 1
    assert line in refused.value.problems[0]


def test_where_fine_tuning_does_not_fit_that_is_proven() -> None:
    scenario = fleet(3, DECIDED, budget__energy_j=1e-6)
    plan = pretune.plan(scenario)
    assert plan.finetune is not None
    assert plan.finetune.rounds == 0
    assert check(plan, scenario).lower_bound_proven
    assert plan.relative_gap <= 0.01


def test_nothing_that_fits_is_said_for_the_least_that_can_be_asked() -> None:
    scenario = fleet(3, DECIDED, budget__delay_s=1e-9)
    plan = pretune.plan(scenario, throw=False)
    assert not plan.status.has_plan
    check(plan, scenario)


def test_batteries_are_kept_in_the_mean_and_known_to_the_bound() -> None:
    scenario = fleet(2, budget__energy_j=6.0, budget__delay_s=200.0)
    devices = replace(scenario.devices, battery_j=np.array([0.3, np.inf]))
    scenario = scenario.replace(devices=devices, planning=DECIDED)
    plan = pretune.plan(scenario)
    checked = check(plan, scenario)
    battery = next(one for one in checked.constraints if one.name.startswith("battery:"))
    assert battery.value <= battery.limit
    assert plan.objective <= pretune.plan(scenario.replace(planning=None)).objective
    values = [pretune.plan(asking(scenario, np.array([p, 1.0])).scenario).objective for p in (0.06, 0.2, 0.6)]
    assert plan.lower_bound <= min(plan.objective, *values)
