"""The scenario's `planning`: what it takes, what it refuses, and who knows it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import pretune
from pretune.cli.app import app
from pretune.errors import Infeasible, InputError
from pretune.planner import pareto
from pretune.planner.baselines import compare
from pretune.planning import Planning
from pretune.report.sentences import promise
from pretune.scenario import scenario_from_dict
from reality_samples import JITTER, TRACE, varying
from sample_run import tree as runnable
from scenario_samples import refusal, small

VARYING = {"fading": {"kind": "rayleigh"}}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no mode": ({}, "planning.under: is missing, should hold one of"),
    "another mode": (
        {"under": "luck"},
        "planning.under: holds 'luck', should hold 'mean', 'ergodic', 'outage', 'worst_case' or",
    ),
    "no share": ({"under": "outage", "outage": 0}, "planning.outage: holds 0, should hold a positive share"),
    "most fail": ({"under": "outage", "outage": 0.6}, "planning.outage: holds 0.6, should hold a positive share"),
    "a text": ({"under": "outage", "outage": "rare"}, "planning.outage: holds 'rare', should hold a positive share"),
    "per what": ({"under": "outage", "per": "run"}, "planning.per: holds 'run', should hold 'device' or 'round'"),
    "sure": ({"under": "ergodic", "confidence": 1}, "planning.confidence: holds 1, should hold a positive probability"),
    "not its key": (
        {"under": "outage", "confidence": 0.9},
        "planning.confidence: holds 0.9, should hold nothing",
    ),
    "nor this": ({"under": "mean", "outage": 0.1}, "planning.outage: holds 0.1, should hold nothing: under mean has"),
    "no decibels": ({"under": "worst_case", "interval_db": -1}, "planning.interval_db: holds -1, should hold a number"),
    "no clock left": ({"under": "worst_case", "clock_interval": 1}, "planning.clock_interval: holds 1, should hold a"),
    "unknown": ({"under": "mean", "luck": 1}, "planning.luck: is not a known key"),
    "no mapping": (3, "planning: holds 3, should hold a mapping with the keys under, outage"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("what", BAD)
def test_each_bad_field_is_one_line(what: str) -> None:
    planning, expected = BAD[what]
    (line,) = refusal(small(variation=VARYING, planning=planning))
    assert line.startswith(expected)


def test_promises_about_what_is_not_there_are_one_line() -> None:
    (line,) = refusal(small(planning={"under": "outage"}))
    assert line == ("planning.under: holds 'outage', should hold mean or worst_case: the scenario has no variation")
    (line,) = refusal(small(variation=VARYING, planning={"under": "ergodic", "confidence": 0.9}))
    assert line.startswith("planning.confidence: holds 0.9, should hold null where devices have batteries")
    confident = {"under": "ergodic", "confidence": 0.9}
    (line,) = refusal(small(variation={"trace": TRACE}, planning=confident, devices__1__battery_j=None))
    assert line == "planning.confidence: holds 0.9, should hold null: a trace is not random"
    gone = {"gains": {"cam-1": [[0, 0.0], [60, 1e-11], [600, 1e-11]]}}
    with pytest.raises(InputError, match=r"has no channel for 'cam-1' in 10% of the time, should have one but for 5%"):
        pretune.plan(scenario_from_dict(small(variation={"trace": gone}, planning={"under": "outage"})))
    worse = {"under": "worst_case", "constants_interval": 0.5}
    with pytest.raises(InputError, match="at the worse ends, convergence"):
        pretune.plan(scenario_from_dict(small(planning=worse, convergence__finetune_step=0.1)))


def test_no_reserve_that_is_enough_is_one_line() -> None:
    lasting = {"shadowing": {"std_db": 12, "correlation_s": 1e6}}
    tree = small(variation=lasting, planning={"under": "ergodic", "confidence": 0.999}, devices__1__battery_j=None)
    tree["server"]["static_power_w"] = 1e9  # so that it can't pre-train instead
    tree["budget"] = {"energy_j": 40.0, "delay_s": 5000.0}
    assert pretune.plan(scenario_from_dict({**tree, "planning": {"under": "ergodic"}})).finetune.rounds > 0
    with pytest.raises(InputError, match=r"planning\.confidence: holds 0\.999, should hold less: no reserve of energy"):
        pretune.plan(scenario_from_dict(tree))


def test_a_scenario_without_planning_is_what_it_was() -> None:
    plain = scenario_from_dict(small())
    assert plain.sha256 == scenario_from_dict(small(planning=None)).sha256
    assert "planning" not in plain.to_dict()
    scenario = scenario_from_dict(small(variation=VARYING, planning={"under": "outage", "per": "round"}))
    assert scenario.sha256 != varying(**VARYING).sha256
    assert scenario_from_dict(scenario.to_dict()).sha256 == scenario.sha256


def test_the_share_of_a_round_is_that_of_its_devices_together() -> None:
    planning = Planning(under="outage", outage=0.05, per="round")
    assert (1 - planning.device_outage(100)) ** 100 == pytest.approx(0.95, rel=1e-12)
    assert planning.device_outage(1) == pytest.approx(0.05)
    assert Planning(under="outage").device_outage(100) == 0.05


def test_those_who_do_not_know_it_say_so() -> None:
    scenario = scenario_from_dict(small(variation=VARYING, planning={"under": "outage"}))
    with pytest.raises(InputError, match=r"planning\.under: holds 'outage', should hold mean"):
        pretune.admit(scenario)
    asking = scenario_from_dict(small(planning={"under": "participation"}))
    with pytest.raises(InputError, match=r"planning\.under: holds 'participation', should hold another"):
        next(compare(asking))


def test_a_front_is_one_of_promises() -> None:
    tree = runnable(variation=VARYING, planning={"under": "outage"})
    scenario = scenario_from_dict(tree)
    low, high = pareto.default_range(scenario, "energy")
    points = list(pareto.front(scenario, "energy", pareto.budgets(low, high, 3)))
    plans = [point.plan for point in points if point.plan is not None]
    assert all(plan.under is not None for plan in plans)
    assert sorted((plan.objective for plan in plans), reverse=True) == [plan.objective for plan in plans]


def test_what_does_not_fit_is_infeasible_and_checked_as_such() -> None:
    tree = runnable(variation=VARYING, planning={"under": "outage", "outage": 1e-6})
    tree["budget"] = {"energy_j": 1e-9, "delay_s": 1e-4}
    scenario = scenario_from_dict(tree)
    with pytest.raises(Infeasible) as caught:
        pretune.plan(scenario)
    plan = pretune.plan(scenario, throw=False)
    assert plan.to_json() == caught.value.plan.to_json()
    assert plan.under is not None
    pretune.check(plan, scenario)


@pytest.mark.parametrize(
    ("planning", "said"),
    [
        ({"under": "outage"}, "energy and delay kept surely"),
        ({"under": "ergodic", "confidence": 0.9}, "energy kept with a probability of 0.9"),
        ({"under": "ergodic"}, "energy kept in the mean"),
        ({"under": "worst_case"}, "gains 3 dB lower"),
    ],
)
def test_the_terminal_says_what_is_promised(planning: dict[str, Any], said: str, tmp_path: Path) -> None:
    variation, budget = {**VARYING, "jitter": JITTER}, {"energy_j": 0.4, "delay_s": 0.4}
    tree = runnable(variation=variation, planning=planning, budget=budget)
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(tree))
    plan = tmp_path / "plan.json"
    result = CliRunner().invoke(app, ["plan", str(path), "-o", str(plan)])
    assert result.exit_code == 0, result.output
    assert said in " ".join(result.output.split())
    assert said in promise(pretune.load_plan(plan))
    assert CliRunner().invoke(app, ["check", str(plan), str(path)]).exit_code == 0


def test_a_run_meets_conditions_and_takes_no_more_than_its_plan_counted_with(tmp_path: Path) -> None:
    tree = runnable(variation=VARYING, planning={"under": "outage"}, budget={"energy_j": 0.5, "delay_s": 0.5})
    scenario = scenario_from_dict(tree)
    plan = pretune.plan(scenario)
    assert plan.finetune.rounds > 0
    result = pretune.run(plan, scenario, out=tmp_path / "run")
    last = result.ledger.records[-1]
    assert last.round == plan.finetune.rounds
    assert 0.3 * plan.energy_j < last.elapsed_j <= plan.energy_j
    assert 0.3 * plan.delay_s < last.elapsed_s <= plan.delay_s * (1.0 + 1e-9)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["outage", "ergodic", "worst_case", "round", 0.05, 0.95, math.inf, {}, []])
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*Planning.model_fields, "luck"]), LEAVES, max_size=4) | LEAVES)
def test_whatever_it_holds_it_is_a_scenario_or_plain_lines(planning: Any) -> None:
    try:
        scenario = scenario_from_dict(small(variation=VARYING, planning=planning))
    except InputError as error:
        plain = [line.isprintable() and 0 < len(line) < 600 for line in error.problems]
        assert all(plain)
    else:
        assert scenario_from_dict(scenario.to_dict()).sha256 == scenario.sha256
