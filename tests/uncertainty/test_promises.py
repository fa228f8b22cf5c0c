"""What a plan promises under uncertainty, and what runs of it keep. 95% promised: at least 95% kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from promises import COMPOSITE, RAYLEIGH, Kept, carried_out, promised

import pretune
from pretune.certify import limits_of, value_of
from pretune.errors import CheckFailed
from pretune.physics import cost
from pretune.planner.baselines import compare
from pretune.plans import Plan, plan_from_dict
from pretune.scenario import Scenario, scenario_from_dict
from pretune.uncertainty import equivalent, participation

BOTH = [RAYLEIGH, COMPOSITE]
MODES: list[dict[str, Any]] = [
    {"under": "outage"},
    {"under": "outage", "outage": 0.1, "per": "round"},
    {"under": "ergodic"},
    {"under": "ergodic", "outage": 0.02, "confidence": 0.9},
    {"under": "worst_case", "interval_db": 2, "clock_interval": 0.1, "constants_interval": 0.05},
]


def planned(scenario: Scenario) -> Plan:
    plan = pretune.plan(scenario)
    assert pretune.check(plan, scenario).lower_bound_proven
    assert plan.finetune is not None
    assert plan.finetune.rounds > 5
    return plan


@pytest.mark.parametrize("planning", MODES)
@pytest.mark.parametrize("variation", BOTH)
def test_a_plan_is_certified_and_says_what_it_promises(planning: dict[str, Any], variation: dict[str, Any]) -> None:
    scenario = promised(4, variation, planning)
    plan = planned(scenario)
    assert plan.status.value == "optimal"
    assert plan.under is not None
    assert plan.under["under"] == planning["under"]
    again = plan_from_dict(json.loads(plan.to_json()))
    assert again.to_json() == plan.to_json()
    assert pretune.check(again, scenario).lower_bound_proven
    assert plan.objective > pretune.plan(promised(4, variation, None)).objective  # a promise is not for nothing


@pytest.mark.parametrize("planning", MODES)
def test_every_way_of_planning_makes_the_same_promise(planning: dict[str, Any]) -> None:
    """Of a baseline that finds a plan: the joint plan's claim and bound, believed by `check`."""
    scenario = promised(3, COMPOSITE, planning)
    some = ("finetune-only", "fixed-batch", "fixed-power", "random")
    joint, *others = compare(scenario, only=some, tolerance=1e-3)
    assert joint.plan is not None
    assert [other.name for other in others] == list(some)
    plans = [other.plan for other in others if other.plan is not None]
    assert len(plans) >= len(some) - ("confidence" in planning)  # of fixed powers the reserve need not be enough
    for plan in plans:
        assert pretune.check(plan, scenario).lower_bound_proven
        assert plan.under == joint.plan.under
        assert plan.objective >= joint.plan.lower_bound


def test_a_baseline_whose_run_may_take_more_than_the_budget_has_no_plan() -> None:
    scenario = promised(3, COMPOSITE, {"under": "ergodic", "confidence": 0.95})
    _, fixed = compare(scenario, only=("fixed-power",), tolerance=1e-3)
    assert fixed.plan is None
    assert fixed.note.startswith("none found: with the joint plan's reserve of ")


@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("variation", BOTH)
def test_an_outage_plan_never_overspends_and_loses_as_little_as_promised(variation: Any, access: str) -> None:
    scenario = promised(4, variation, {"under": "outage"}, radio__access=access)
    plan = planned(scenario)
    kept = carried_out(plan, scenario, 60)
    assert (kept.energy_j <= plan.energy_j * (1 + 1e-9)).all()
    assert (kept.delay_s <= plan.delay_s * (1 + 1e-9)).all()
    _at_least(kept, 0.95)
    assert kept.arrived.mean() < 0.985  # and not by far more


def test_an_outage_per_round_is_of_all_devices_together() -> None:
    scenario = promised(4, RAYLEIGH, {"under": "outage", "per": "round"})
    kept = carried_out(planned(scenario), scenario, 100)
    whole = kept.arrived.all(axis=2)
    error = math.sqrt(0.95 * 0.05 / whole.size)
    assert whole.mean() == pytest.approx(0.95, abs=4 * error)  # exact: the devices are independent


@pytest.mark.parametrize("variation", BOTH)
def test_an_ergodic_plan_keeps_its_energy_in_the_mean_and_its_delay_always(variation: Any) -> None:
    scenario = promised(4, variation, {"under": "ergodic"})
    plan = planned(scenario)
    kept = carried_out(plan, scenario, 100)
    error = kept.energy_j.std() / math.sqrt(100)
    assert kept.energy_j.mean() <= plan.energy_j + 3 * error
    assert kept.energy_j.mean() >= 0.97 * plan.energy_j  # the bound is close to what it takes
    assert (kept.delay_s <= plan.delay_s * (1 + 1e-9)).all()
    _at_least(kept, 0.95)


@pytest.mark.parametrize("variation", BOTH)
def test_with_a_confidence_the_whole_run_keeps_its_energy(variation: Any) -> None:
    scenario = promised(4, variation, {"under": "ergodic", "confidence": 0.95})
    plan = planned(scenario)
    kept = carried_out(plan, scenario, 100)
    assert (kept.energy_j <= scenario.budget.energy_j).mean() >= 0.95
    assert plan.under is not None
    if variation is COMPOSITE:
        assert plan.under["reserve_j"] > 0.0
        less = promised(4, variation, {"under": "ergodic"})
        over = carried_out(pretune.plan(less), less, 60).energy_j > less.budget.energy_j
        assert over.mean() > 0.05  # what the reserve is for


def _at_least(kept: Kept, share: float) -> None:
    """Arrivals of all runs; a run's are not independent where channels last, so its own share is one sample."""
    each = kept.arrived.mean(axis=1)  # per run and device
    error = each.std() / math.sqrt(each.size)
    assert kept.arrived.mean() >= share - 3 * error


def test_powers_under_ergodic_stay_below_the_highest() -> None:
    scenario = promised(4, RAYLEIGH, {"under": "ergodic", "outage": 0.2})
    plan, counted = planned(scenario), equivalent(scenario)
    assert plan.finetune is not None
    worst = plan.finetune.power_w * (scenario.devices.gain / counted.odds.inverse_mean) / counted.floor_gain
    assert (worst <= scenario.devices.max_power_w * (1 + 1e-9)).all()


@pytest.mark.parametrize("planning", [{"under": "outage"}, {"under": "ergodic"}])
def test_the_equivalent_scenario_costs_what_the_floor_and_the_mean_cost(planning: dict[str, Any]) -> None:
    scenario = promised(3, COMPOSITE, planning)
    counted = equivalent(scenario)
    odds, model = counted.odds, counted.scenario
    rng = np.random.default_rng(2)
    batch, clock = rng.uniform(1, 50, 3), rng.uniform(2e8, 1e9, 3)
    upload = rng.uniform(5.0, 9.0, 3)
    power = 4e-21 * 2e6 / model.devices.gain * np.expm1(math.log(2) * 1.92e7 / (2e6 * upload))
    found = cost.finetune_round(model, batch, clock, power)
    plain = cost.finetune_round(scenario, batch, clock, power * model.devices.gain / scenario.devices.gain)
    assert found.upload_s == pytest.approx(upload)
    assert found.compute_s == pytest.approx(plain.compute_s * counted.slowest)
    factor = odds.compute_mean if planning["under"] == "ergodic" else odds.slowest
    assert found.compute_j == pytest.approx(plain.compute_j * factor)
    sent = scenario.devices.circuit_power_w * upload
    scale = odds.inverse_mean if planning["under"] == "ergodic" else 1 / odds.floor
    assert found.upload_j - sent == pytest.approx((plain.upload_j - sent) * scale)
    # the broadcast reaches whoever is at the floor, in the same time under either
    lowest = scenario.devices.gain.min() * odds.floor[scenario.devices.gain.argmin()]
    expected = 1.92e7 / (2e7 * math.log2(1 + 20 * lowest / (4e-21 * 2e7)))
    assert found.broadcast.time_s == pytest.approx(expected)


def test_a_worst_case_plan_holds_in_every_corner_and_inside() -> None:
    planning = {"under": "worst_case", "interval_db": 2, "clock_interval": 0.1, "compute_interval": 0.2}
    scenario = promised(4, None, {**planning, "constants_interval": 0.05})
    plan = planned(scenario)
    assert plan.finetune is not None
    assert plan.pretrain is not None
    rng = np.random.default_rng(4)
    for trial in range(30):
        low = np.ones if trial == 0 else rng.random
        fleet = scenario.devices
        drawn = replace(
            fleet,
            gain=fleet.gain * 10 ** (-0.2 * low(4)),
            max_clock_hz=fleet.max_clock_hz * (1 - 0.1 * low(4)),
            flops_per_cycle=fleet.flops_per_cycle / (1 + 0.2 * low(4)),
        )
        used = scenario.convergence
        worse = {key: getattr(used, key) * (1 + 0.05 * low(1)[0]) for key in ("smoothness", "initial_gap", "shift")}
        worse |= {
            key: getattr(used, key) * (1 + 0.05 * low(1)[0]) for key in ("pretrain_variance", "finetune_variance")
        }
        same = {key: getattr(used, key) for key in used.model_fields_set}
        true = scenario.replace(devices=drawn, convergence={**same, **worse}, planning=None)
        for limit in limits_of(true, plan.pretrain, plan.finetune):
            assert limit.value <= limit.limit * (1 + 1e-9), limit.name
        value = value_of(true, plan.pretrain, plan.finetune)
        assert value <= plan.objective * (1 + 1e-9)
        if trial == 0:  # the corner itself: nothing is given away
            assert value == pytest.approx(plan.objective, rel=1e-9)
            assert limits_of(true, plan.pretrain, plan.finetune)[0].value == pytest.approx(plan.energy_j, rel=1e-9)


def test_a_clock_that_is_planned_can_be_kept_up() -> None:
    throttling = {"resistance_k_per_w": 300.0, "time_constant_s": 20.0, "from_k": 5.0, "to_k": 40.0, "floor": 0.3}
    scenario = promised(2, {"throttling": throttling}, {"under": "outage"})
    counted = equivalent(scenario)
    kept = counted.scenario.devices.max_clock_hz
    assert (kept < scenario.devices.max_clock_hz).all()
    power = 1e-28 * kept**3
    limit = 1.2e9 * (1 - 0.7 * np.clip((300.0 * power - 5.0) / 35.0, 0, 1))
    assert limit == pytest.approx(kept, rel=1e-9)  # just so
    kept_runs = carried_out(planned(scenario), scenario, 2)
    assert kept_runs.arrived.all()


def test_participation_is_what_is_left_of_everything() -> None:
    scenario = promised(3, {**COMPOSITE, "availability": {"mean_up_s": 90, "mean_down_s": 10}}, {"under": "outage"})
    counted = equivalent(scenario)
    assert participation(scenario, counted.odds) == pytest.approx(0.9 * 0.95)
    kept = carried_out(planned(scenario), scenario, 60)
    each = kept.arrived.mean(axis=1)
    assert kept.arrived.mean() >= 0.9 * 0.95 - 3 * each.std() / math.sqrt(each.size)


def test_ways_and_traces_are_planned_for_at_their_lowest_and_by_their_time() -> None:
    way = {
        "waypoints_m": [[60, 0], [90, 0]],
        "speed_m_per_s": 3,
        "cell": {"model": "log_distance", "radius_m": 500},
    }
    trace = {"gains": {"cam-1": [[0, 4e-11], [500, 1e-13], [510, 2e-11], [900, 2e-11]]}, "repeat": True}
    scenario = promised(3, {**RAYLEIGH, "mobility": way, "trace": trace}, {"under": "outage"})
    counted = equivalent(scenario)
    factor = 10 ** (-3.76 * math.log10(90 / 60))
    assert counted.odds.floor[0] == pytest.approx(-math.log(0.95) * factor, rel=1e-6)
    assert counted.floor_gain[1] == pytest.approx(2e-11)  # 1e-13 for 10 of 900 seconds is within 5%
    kept = carried_out(planned(scenario), scenario, 40)
    assert kept.arrived.mean() > 0.95
    ergodic = promised(3, {**RAYLEIGH, "mobility": way, "trace": trace}, {"under": "ergodic"})
    plan = planned(ergodic)
    spent = carried_out(plan, ergodic, 60).energy_j
    assert spent.mean() <= plan.energy_j


def test_a_shared_band_and_batteries_and_segments_are_planned_for_too() -> None:
    tree = promised(3, RAYLEIGH, {"under": "outage"}).to_dict()
    for row in tree["devices"]:
        del row["bandwidth_hz"]
    tree["radio"]["uplink_bandwidth_hz"] = 6e6
    shared = scenario_from_dict(tree)
    plan = pretune.plan(shared)
    assert pretune.check(plan, shared).lower_bound_proven
    kept = carried_out(plan, shared, 30)
    assert (kept.energy_j <= plan.energy_j * (1 + 1e-9)).all()
    _at_least(kept, 0.95)
    for changes in ({"devices": [{**row, "battery_j": 15.0} for row in tree["devices"]]}, {"schedule": 2}):
        other = pretune.scenario.scenario_from_dict({**tree, **changes})
        if other.schedule > 1:
            other = pretune.scenario.scenario_from_dict(
                {**promised(3, RAYLEIGH, {"under": "ergodic"}).to_dict(), **changes}
            )
        pretune.check(pretune.plan(other), other)


TAMPERED: dict[str, Any] = {
    "no claim": lambda tree: tree.pop("under"),
    "another mode": lambda tree: tree["under"].update(under="outage"),
    "another outage": lambda tree: tree["under"].update(outage=0.01),
    "a better quantile": lambda tree: tree["under"]["laws"][0].update(quantile=0.2),
    "no laws": lambda tree: tree["under"].update(laws=[]),
    "less reserve": lambda tree: tree["under"].update(reserve_j=0.0),
    "no number": lambda tree: tree["under"].update(reserve_j="much"),
    "beyond the budget": lambda tree: tree["under"].update(reserve_j=1e9),
    "another key": lambda tree: tree["under"].update(hope=1),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_claim_that_does_not_hold_is_found(how: str) -> None:
    scenario = promised(4, COMPOSITE, {"under": "ergodic", "confidence": 0.95})
    tree = json.loads(pretune.plan(scenario).to_json())
    TAMPERED[how](tree)
    with pytest.raises(CheckFailed):
        pretune.check(plan_from_dict(tree), scenario)


def test_a_plan_for_the_mean_has_no_claim() -> None:
    scenario = promised(4, RAYLEIGH, {"under": "mean"})
    plan = planned(scenario)
    assert plan.under is None
    assert plan.objective == pretune.plan(promised(4, None, None)).objective
    with pytest.raises(CheckFailed, match="should not be there"):
        pretune.check(replace(plan, under={"under": "outage"}), scenario)


def test_a_law_that_is_worked_out_wrongly_is_found_by_the_other_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    from pretune.uncertainty import gains, odds

    def hopeful(*law: float) -> gains.Figures:
        true = gains.figures_of(*law)
        return replace(true, quantile=1.01 * true.quantile)

    scenario = promised(4, RAYLEIGH, {"under": "outage"})
    monkeypatch.setattr(odds, "figures_of", hopeful)
    plan = pretune.plan(scenario)
    with pytest.raises(CheckFailed, match=r"has the probability 0\.0504"):
        pretune.check(plan, scenario)

    def cheap(*law: float) -> gains.Figures:
        true = gains.figures_of(*law)
        return replace(true, inverse_mean=0.98 * true.inverse_mean)

    scenario = promised(4, RAYLEIGH, {"under": "ergodic"})
    monkeypatch.setattr(odds, "figures_of", cheap)
    plan = pretune.plan(scenario)
    with pytest.raises(CheckFailed, match="counts an inverse mean of"):
        pretune.check(plan, scenario)
