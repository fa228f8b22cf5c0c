"""Infeasible scenarios: the limits that clash can't be spared one of them, and the smallest budgets just do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from draws import ODDITIES, draw, odd

from pretune import certify
from pretune.admitting.roster import subscenario
from pretune.errors import CheckFailed, Infeasible
from pretune.planner import plan
from pretune.planner.infeasible import STAGES, fits_one_round
from pretune.planner.problem import build
from pretune.plans import Plan, Status, plan_from_dict
from pretune.scenario import Scenario, scenario_from_dict


def with_all_limits(seed: int, **options: Any) -> dict[str, Any]:
    """A drawn scenario's tree whose budgets are about what one fine-tuning round of one sample takes."""
    drawn = draw(seed, stages="finetune", energy="tight", **options)
    n = drawn.rounds[1]
    budget = drawn.scenario.budget
    tree = drawn.scenario.to_dict()
    tree["budget"] = {"energy_j": budget.energy_j / n, "delay_s": budget.delay_s / n}
    # a server too slow for the delay, so that the fleet's limits decide
    tree["server"] |= {"max_clock_hz": 1.0, "static_power_w": 0.0}
    return tree


def broken(kind: str, seed: int) -> Scenario:
    """A scenario made infeasible in one way."""
    tree = with_all_limits(seed, count=3, batteries=kind == "battery")
    if kind == "energy":
        tree["budget"]["energy_j"] *= 1e-4
    elif kind == "delay":
        tree["budget"]["delay_s"] *= 1e-4
    elif kind == "power":
        tree["devices"][1]["max_power_w"] *= 1e-9
    elif kind == "gain":
        tree["devices"][2]["gain"] = 1e-22
    elif kind == "clock":
        tree["devices"][0]["max_clock_hz"] *= 1e-9
    elif kind == "battery":
        tree["devices"][1]["battery_j"] = 1e-9 * tree["budget"]["energy_j"]
    elif kind == "both budgets":
        tree["budget"] = {key: value * 0.02 for key, value in tree["budget"].items()}
    return scenario_from_dict(tree)


def lifted(scenario: Scenario, limit: str) -> Scenario:
    """The scenario without one named limit."""
    tree = scenario.to_dict()
    kind, _, name = limit.partition(":")
    if kind == "energy":
        tree["budget"]["energy_j"] = 1e30
    elif kind == "delay":
        tree["budget"]["delay_s"] = 1e30
    elif name == "server":
        tree["server"]["max_clock_hz"] = 1e40
    else:
        (row,) = [row for row in tree["devices"] if row["name"] == name]
        if kind == "battery":
            row["battery_j"] = None
        else:
            row[{"clock": "max_clock_hz", "power": "max_power_w"}[kind]] = 1e40
    return scenario_from_dict(tree)


def limits_of(scenario: Scenario) -> set[str]:
    """Every limit by its name."""
    names = scenario.devices.names
    batteries = {f"battery:{row['name']}" for row in scenario.to_dict()["devices"] if row["battery_j"] is not None}
    each = {f"{kind}:{name}" for kind in ("clock", "power") for name in names}
    return {"energy", "delay", "clock:server"} | each | batteries


def under(scenario: Scenario, limits: set[str]) -> Scenario:
    """The scenario with all limits lifted but these."""
    for limit in sorted(limits_of(scenario) - limits):
        scenario = lifted(scenario, limit)
    return scenario


def feasible(scenario: Scenario) -> bool:
    """Whether there is a plan at all."""
    problem, _ = build(scenario)
    return any(fits_one_round(problem, stage) for stage in STAGES)


KINDS = ("energy", "delay", "power", "gain", "clock", "battery", "both budgets")


def clash_of(scenario: Scenario) -> set[str]:
    """The clash of an infeasible scenario, whose plan passes the check and survives its file."""
    answer = plan(scenario, throw=False)
    assert answer.status is Status.INFEASIBLE
    assert answer.infeasibility is not None
    certify.check(answer, scenario)
    assert plan_from_dict(answer.to_dict()).to_json() == answer.to_json()
    clash = set(answer.infeasibility.clash)
    assert clash
    assert clash <= limits_of(scenario)
    return clash


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_clash_needs_no_other_limits(kind: str, seed: int) -> None:
    scenario = broken(kind, seed)
    assert not feasible(under(scenario, clash_of(scenario)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_clash_needs_each_of_its_limits(kind: str, seed: int) -> None:
    """Irreducible: with any one of them lifted, and all the others that it does not name, there is a plan."""
    scenario = broken(kind, seed)
    clash = clash_of(scenario)
    for limit in clash:
        assert feasible(under(scenario, clash - {limit})), limit


@pytest.mark.parametrize("kind", ["power", "gain", "clock", "battery"])
@pytest.mark.parametrize("seed", range(4))
def test_lifting_the_servers_limit_makes_a_plan_possible(kind: str, seed: int) -> None:
    """Here the server fails for its clock alone."""
    scenario = broken(kind, seed)
    assert "clock:server" in clash_of(scenario)
    assert feasible(lifted(scenario, "clock:server"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_budgets_just_do(kind: str, seed: int) -> None:
    scenario = broken(kind, seed)
    answer = plan(scenario, throw=False)
    assert answer.infeasibility is not None
    least = {"energy_j": answer.infeasibility.min_energy_j, "delay_s": answer.infeasibility.min_delay_s}
    for key, value in least.items():
        assert value > getattr(scenario.budget, key)
        if math.isinf(value):
            assert not feasible(scenario.with_budget(**{key: 1e40}))
            continue
        assert feasible(scenario.with_budget(**{key: value * (1.0 + 1e-9)}))
        assert not feasible(scenario.with_budget(**{key: value * 0.999}))


def test_a_single_hopeless_device_is_named() -> None:
    scenario = broken("battery", 1)
    answer = plan(scenario, throw=False)
    assert answer.infeasibility is not None
    assert "battery:device-1" in answer.infeasibility.clash
    assert "clock:server" in answer.infeasibility.clash  # the other stage's only limit


def test_throwing_or_not() -> None:
    scenario = odd("hopeless budgets", 1, batteries=False, energy="tight")
    with pytest.raises(Infeasible) as caught:
        plan(scenario)
    told = plan(scenario, throw=False)
    assert caught.value.exit_code == 3
    assert caught.value.plan.to_json() == told.to_json()
    assert str(caught.value) == told.message
    assert told.pretrain is None
    assert told.finetune is None
    assert told.message.startswith("infeasible")
    assert isinstance(told, Plan)


def test_pretraining_alone_is_a_plan() -> None:
    """A fleet that can't take part leaves a plan of pre-training, not an infeasible scenario."""
    tree = draw(5, criterion="final").scenario.to_dict()
    for row in tree["devices"]:
        row["battery_j"] = 1e-30
    answer = plan(scenario_from_dict(tree), tolerance=1e-3)
    assert answer.status.has_plan
    assert answer.finetune is not None
    assert answer.finetune.rounds == 0


@pytest.mark.parametrize("seed", range(12))
def test_infeasible_odd_scenarios_are_checked(seed: int) -> None:
    scenario = odd("hopeless budgets", seed, small=seed % 2 == 0)
    assert "hopeless budgets" in ODDITIES
    answer = plan(scenario, throw=False, time_limit=5.0)
    certify.check(answer, scenario)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_without_the_devices_to_drop_a_plan_exists_and_none_could_stay(kind: str, seed: int) -> None:
    scenario = broken(kind, seed)
    answer = plan(scenario, throw=False)
    assert answer.infeasibility is not None
    names, drop = scenario.devices.names, answer.infeasibility.drop
    if drop is None:
        alone = (subscenario(scenario, np.array([name == one for name in names])) for one in names)
        assert not any(map(feasible, alone))
        return
    assert 0 < len(drop) < len(names)
    assert feasible(subscenario(scenario, np.array([name not in drop for name in names])))
    for back in drop:
        kept = np.array([name not in drop or name == back for name in names])
        assert not feasible(subscenario(scenario, kept))


@pytest.mark.parametrize(
    "change",
    [
        {"clash": ["power:nobody"]},
        {"clash": []},
        {"min_energy_j": 1e-30},
        {"min_delay_s": 1e-30},
        {"drop": ["nobody"]},
        {"drop": []},
    ],
)
def test_check_refuses_figures_that_speak_of_nothing(change: dict[str, Any]) -> None:
    scenario = broken("delay", 0)
    tree = plan(scenario, throw=False).to_dict()
    certify.check(plan_from_dict(tree), scenario)
    tree["infeasibility"] |= change
    forged = plan_from_dict(tree)
    forged = plan_from_dict({**tree, "message": certify.sentence(forged)})
    with pytest.raises(CheckFailed, match="infeasibility"):
        certify.check(forged, scenario)
