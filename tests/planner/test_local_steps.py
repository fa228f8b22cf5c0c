"""Plans that choose the number of local steps: against exhaustive search, and what `check` asks of the proof."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from brute import exhaustive
from draws import draw

from pretune import certify
from pretune.bounds import bound
from pretune.convergence.criteria import Final, criterion_of
from pretune.errors import CheckFailed, InputError
from pretune.figures import system_of
from pretune.planner import plan
from pretune.planner.admission import admit
from pretune.planner.baselines import compare
from pretune.planner.explain import explain
from pretune.planner.pareto import front
from pretune.plans import Plan, Status, plan_from_dict
from pretune.price_sets import priced
from pretune.scenario import Scenario, scenario_from_dict

CHOICES = [1, 2, 4]


def choosing(seed: int, choices: Any = None, heterogeneity: float = 0.1, **options: Any) -> Scenario:
    """A drawn scenario whose plan chooses, with uploads that are worth sparing."""
    tree = draw(seed, **options).scenario.to_dict()
    tree["convergence"] |= {"local_steps": CHOICES if choices is None else choices, "heterogeneity": heterogeneity}
    return scenario_from_dict(tree)


def checked(scenario: Scenario, **options: Any) -> Plan:
    answer = plan(scenario, throw=False, **options)
    assert answer.status is not Status.NUMERICAL_FAILURE
    found = certify.check(answer, scenario)
    assert found.lower_bound_proven or not answer.status.has_plan
    assert plan_from_dict(json.loads(answer.to_json())).to_json() == answer.to_json()
    return answer


@pytest.mark.parametrize("seed", [200, 202, 203, 204, 205, 206, 207, 208, 210, 211, 213, 227])
def test_small_problems_exhaustively_over_the_number_of_local_steps(seed: int) -> None:
    scenario = choosing(seed, small=True)
    values = {count: exhaustive(scenario.settled(count))[0] for count in CHOICES}
    best = min(values.values())
    answer = checked(scenario)
    assert answer.lower_bound <= best <= answer.objective * (1.0 + 1e-12)
    assert answer.finetune is not None
    if answer.status is Status.OPTIMAL and answer.finetune.rounds:
        assert values[answer.finetune.local_steps] <= best * (1.0 + 2e-4)


@pytest.mark.parametrize("seed", [200, 202, 203, 205, 207, 211])
def test_a_drift_above_the_shift_exhaustively(seed: int) -> None:
    """Criterion final where the floor that the drift leaves is above the shift's: phi is not convex in the rounds."""
    tree = choosing(seed, 2, heterogeneity=3.0, small=True, criterion="final", stages="both").to_dict()
    tree["convergence"] |= {"shift": 0.01, "pl_constant": 5.0, "finetune_step": 0.1}
    scenario = scenario_from_dict(tree)
    criterion = criterion_of(scenario)
    assert isinstance(criterion, Final)
    assert criterion.drift_floor > criterion.shift_floor
    best = exhaustive(scenario)[0]
    answer = checked(scenario)
    assert answer.lower_bound <= best <= answer.objective * (1.0 + 1e-12)


@pytest.mark.parametrize("shift", [0.01, 3.0])
@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_prices_bound_every_pair_of_rounds_of_a_box(criterion: str, shift: float) -> None:
    """The checker's bound over boxes against its own at single pairs within them, at the prices of a plan."""
    tree = choosing(31, 3, heterogeneity=2.0, criterion=criterion, stages="both", batteries=False).to_dict()
    tree["convergence"] |= {"shift": shift, "pl_constant": 2.0}
    scenario = scenario_from_dict(tree)
    system = system_of(scenario)
    sets = [priced(system, entry) for entry in (checked(scenario, tolerance=1e-2).certificate or {})["prices"]]
    rng = np.random.default_rng(0)
    for prices in sets[:3]:
        for _ in range(60):
            m1, n1 = (int(10 ** rng.uniform(0, 3)) - 1 for _ in range(2))
            m2, n2 = m1 + int(10 ** rng.uniform(0, 2.5)), n1 + int(10 ** rng.uniform(0, 2.5))
            whole = float(bound(system, prices, np.array([[m1, m2, n1, n2, 0.0, np.inf]], dtype=float))[0])
            for _ in range(8):
                m, n = int(rng.integers(m1, m2 + 1)), int(rng.integers(n1, n2 + 1))
                if m + n == 0:
                    continue
                point = np.array([[m, m, n, n, 0.0, np.inf]], dtype=float)
                assert whole <= float(bound(system, prices, point)[0]) + 1e-9 * abs(whole)


def test_compare_front_and_sentences() -> None:
    scenario, answer = certified()
    outcomes = {one.name: one for one in compare(scenario, only=["fixed-batch", "finetune-only"], tolerance=1e-2)}
    assert set(outcomes) == {"joint", "one-local-step", "fixed-batch", "finetune-only"}
    certify.check(outcomes["one-local-step"].plan, scenario.settled(1))  # type: ignore[arg-type]
    for name in ("fixed-batch", "finetune-only"):
        found = outcomes[name].plan
        assert found is not None
        certify.check(found, scenario)
        assert found.lower_bound <= found.objective
    points = list(front(scenario, "energy", [0.7 * scenario.budget.energy_j, scenario.budget.energy_j], tolerance=1e-2))
    for point in points:
        assert point.plan is not None
        certify.check(point.plan, scenario.with_budget(energy_j=point.energy_j))
    assert "In a fine-tuning round each device takes" in " ".join(explain(answer, scenario))
    with pytest.raises(InputError, match="should hold 1: admission knows no drift"):
        admit(scenario)


def test_large_fleets_choose_too() -> None:
    tree = draw(40, count=5, access="fdma", batteries=False, stages="both").scenario.to_dict()
    tree["devices"] = [{**row, "name": f"d{i}-{row['name']}"} for i in range(201) for row in tree["devices"]]
    for row in tree["devices"]:
        row["weight"] /= 201.0
    tree["convergence"] |= {"local_steps": [1, 2], "heterogeneity": 0.1, "finetune_variance": 50.0}
    tree["budget"]["energy_j"] *= 201.0
    answer = checked(scenario_from_dict(tree), tolerance=0.05)
    assert answer.status.has_plan


def test_more_than_one_number_is_chosen() -> None:
    """Over a few scenarios the enumeration is no formality: uploads that are dear make for more local steps."""
    chosen = set()
    for seed, heterogeneity in ((210, 0.0), (211, 0.0), (305, 0.05), (302, 100.0), (303, 100.0), (306, 0.0)):
        scenario = choosing(seed, heterogeneity=heterogeneity, stages="finetune", batteries=False)
        answer = checked(scenario, tolerance=1e-2)
        assert answer.finetune is not None
        chosen.add(answer.finetune.local_steps)
    assert len(chosen) > 1


@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_the_bound_is_the_least_over_all_numbers(access: str, criterion: str) -> None:
    scenario = choosing(7, access=access, criterion=criterion, batteries=True, idle_power=True, count=3)
    answer = checked(scenario, tolerance=1e-3)
    for count in CHOICES:
        alone = scenario.replace(convergence=scenario.convergence.settled(count))
        one = checked(alone, tolerance=1e-3)
        assert answer.lower_bound <= one.objective
        assert answer.objective <= one.objective * (1.0 + 1.1e-3)
        assert one.finetune is not None
        assert one.finetune.local_steps == (count if count > 1 else None)


def test_a_shared_band_works_too() -> None:
    answer = checked(choosing(11, shares="optimal", batteries=False, count=3, access="fdma"), tolerance=1e-3)
    assert answer.status.has_plan
    assert answer.relative_gap < 2e-3


def certified() -> tuple[Scenario, Plan]:
    scenario = choosing(305, heterogeneity=0.05, stages="finetune", batteries=False, criterion="trajectory")
    return scenario, checked(scenario, tolerance=1e-2)


def test_the_proof_has_to_be_there_for_every_number() -> None:
    scenario, answer = certified()
    certificate = dict(answer.certificate or {})
    others = certificate["local_steps"]
    assert [one["steps"] for one in others] == [c for c in CHOICES if c != answer.finetune.local_steps]  # type: ignore[union-attr]
    worthless = [{**others[0], "prices": [{"energy": 0.0, "omega": 0.0, "home": [1.0, 1.0, 0.0]}]}, *others[1:]]
    for told in (others[1:], [], worthless, "nothing", [{**others[0], "steps": 3}, *others[1:]]):
        with pytest.raises(CheckFailed):
            certify.check(replace(answer, certificate={**certificate, "local_steps": told}), scenario)
    raised = replace(answer, lower_bound=answer.objective, relative_gap=0.0, message="")
    raised = replace(raised, message=certify.sentence(raised))
    with pytest.raises(CheckFailed, match="do not prove"):
        certify.check(raised, scenario)


def test_another_number_than_the_scenarios_is_refused() -> None:
    scenario, answer = certified()
    for wrong in (None, 3):
        with pytest.raises(CheckFailed, match=r"finetune.local_steps: holds .*, should hold one of 1, 2, 4"):
            certify.check(replace(answer, finetune=replace(answer.finetune, local_steps=wrong)), scenario)  # type: ignore[type-var]


def test_where_nothing_fits_with_any_number() -> None:
    scenario = choosing(5, energy="tight", count=2).with_budget(energy_j=1e-12, delay_s=1e-9)
    answer = checked(scenario)
    assert answer.status is Status.INFEASIBLE
    assert answer.scenario_sha256 == scenario.sha256


def test_numbers_that_do_not_fit_at_all_are_proven_so() -> None:
    """The device alone can fine-tune, and a hundred local steps take longer than the delay."""
    drawn = draw(12, count=1, stages="finetune", batteries=False, access="fdma", energy="slack").scenario
    tree = drawn.to_dict()
    tree["server"]["max_clock_hz"] = 1e-3  # no pre-training within any delay
    tree["convergence"] |= {"local_steps": [1, 100], "heterogeneity": 0.1}
    tree["workload"] |= {"flops_per_sample": 1e14}
    (device,) = tree["devices"]
    one = tree["workload"]["flops_per_sample"] / (device["flops_per_cycle"] * device["max_clock_hz"])
    tree["budget"]["delay_s"] += 5.0 * one
    scenario = scenario_from_dict(tree)
    answer = checked(scenario)
    assert answer.finetune is not None
    assert answer.finetune.local_steps == 1
    (other,) = (answer.certificate or {})["local_steps"]
    assert other["steps"] == 100
    assert "prices" not in other


def test_scenarios_without_local_steps_keep_their_digest() -> None:
    tree = draw(3).scenario.to_dict()
    assert "local_steps" not in tree["convergence"]
    assert "heterogeneity" not in tree["convergence"]
    plain = scenario_from_dict(tree)
    spelled = scenario_from_dict({**tree, "convergence": {**tree["convergence"], "local_steps": [1]}})
    assert spelled.sha256 == plain.sha256
    answer = plan(plain, tolerance=1e-2)
    assert "local_steps" not in answer.to_json()
    several = scenario_from_dict(
        {**tree, "convergence": {**tree["convergence"], "local_steps": [1, 2], "heterogeneity": 1.0}}
    )
    assert several.sha256 != plain.sha256
    assert scenario_from_dict(several.to_dict()) == several


def test_what_does_not_go_together_is_refused_in_one_line() -> None:
    tree = choosing(3).to_dict()
    with pytest.raises(InputError, match="schedule: holds 4, should hold 1 with more than one local step"):
        scenario_from_dict({**tree, "schedule": 4})
    private = {"epsilon": 8.0, "delta": 1e-5, "clip": 1.0, "parameters": 100}
    with pytest.raises(InputError, match=r"convergence.local_steps: holds \(1, 2, 4\), should hold 1 with privacy"):
        scenario_from_dict({**tree, "privacy": private})
