"""Every bad field is one line that names it, says what it holds and what it should hold."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from pretune.scenario import scenario_from_dict
from scenario_samples import DEVICE, SMALL, refusal, small

ENERGY = "budget.energy_j: holds {}, should hold a positive energy, such as '2 kJ' or 2000"
CLOCK = "server.max_clock_hz: holds {}, should hold a positive frequency, such as '1.5 GHz' or 1.5e9"
SAMPLES = "server.samples: holds {}, should hold a whole number of samples from 1 to 1e12, such as 60000"
STATIC = "server.static_power_w: holds {}, should hold a power of zero or more, such as '5 W' or 5"
VARIANCE = "convergence.finetune_variance{}: holds {}, should hold a variance of zero or more, such as 120"
DEVICES = (
    "devices: {}, should hold a list of devices, or {{file: fleet.csv}}, or {{folder: profiles}}, "
    "or {{count: 50, seed: 0, draw: {{...}}}}"
)
GAIN = "devices[{}].gain: {}, should hold a positive power ratio, such as '-105 dB' or 3.1e-11"
NAME = "name: {}, should hold a name, one line of at most 200 characters, such as 'campus-digits'"

CASES: list[tuple[dict[str, Any], str]] = [
    ({"budget__energy_j": 0}, ENERGY.format("0")),
    ({"budget__energy_j": -0.0}, ENERGY.format("-0.0")),
    ({"budget__energy_j": -1}, ENERGY.format("-1")),
    ({"budget__energy_j": math.nan}, ENERGY.format("nan")),
    ({"budget__energy_j": math.inf}, ENERGY.format("inf")),
    ({"budget__energy_j": 1e301}, ENERGY.format("1e+301")),
    ({"budget__energy_j": 1e-301}, ENERGY.format("1e-301")),
    ({"budget__energy_j": 10**400}, ENERGY.format("an integer of 1329 bits")),
    ({"budget__energy_j": 10**5000}, ENERGY.format("an integer of 16610 bits")),
    ({"budget__energy_j": True}, ENERGY.format("true")),
    ({"budget__energy_j": None}, ENERGY.format("null")),
    ({"budget__energy_j": "x"}, ENERGY.format("'x'")),
    ({"budget__energy_j": ""}, ENERGY.format("''")),
    ({"budget__energy_j": "3 s"}, ENERGY.format("'3 s'")),
    ({"budget__energy_j": "-3 J"}, ENERGY.format("'-3 J'")),
    ({"budget__energy_j": [1]}, ENERGY.format("[1]")),
    ({"budget__energy_j": {"a": 1}}, ENERGY.format("{'a': 1}")),
    ({"budget__energy_j": datetime.date(2020, 1, 1)}, ENERGY.format("datetime.date(2020, 1, 1)")),
    ({"budget__energy_j": 3 + 4j}, ENERGY.format("(3+4j)")),
    ({"budget__energy_j": ...}, ENERGY.replace("holds {}", "is missing").format()),
    ({"server__max_clock_hz": "3 W"}, CLOCK.format("'3 W'")),
    ({"server__samples": 0}, SAMPLES.format("0")),
    ({"server__samples": 2.5}, SAMPLES.format("2.5")),
    ({"server__samples": 10**13}, SAMPLES.format("10000000000000")),
    ({"server__samples": "many"}, SAMPLES.format("'many'")),
    ({"server__static_power_w": -1}, STATIC.format("-1")),
    ({"server__static_power_w": None}, STATIC.format("null")),
    ({"radio__access": "cdma"}, "radio.access: holds 'cdma', should hold 'fdma' or 'tdma'"),
    ({"radio__access": 3}, "radio.access: holds 3, should hold 'fdma' or 'tdma'"),
    ({"pretune": 2}, "pretune: holds 2, should hold 1, the format of the file that this version reads"),
    ({"pretune": "1"}, "pretune: holds '1', should hold 1, the format of the file that this version reads"),
    ({"pretune": True}, "pretune: holds true, should hold 1, the format of the file that this version reads"),
    ({"pretune": 1.0}, "pretune: holds 1.0, should hold 1, the format of the file that this version reads"),
    ({"pretune": ...}, "pretune: is missing, should hold 1, the format of the file that this version reads"),
    ({"name": ""}, NAME.format("holds ''")),
    ({"name": 7}, NAME.format("holds 7")),
    (
        {"name": ...},
        NAME.format("is missing"),
    ),
    ({"budget": 7}, "budget: holds 7, should hold a mapping with the keys energy_j, delay_s"),
    ({"budget": None}, "budget: holds null, should hold a mapping with the keys energy_j, delay_s"),
    ({"budget": ...}, "budget: is missing, should hold a mapping with the keys energy_j, delay_s"),
    ({"budget__enrgy_j": 7}, "budget.enrgy_j: is not a known key; did you mean 'energy_j'?"),
    ({"budget__xyz": 7}, "budget.xyz: is not a known key; the keys here are energy_j, delay_s"),
    ({"budgets": 7}, "budgets: is not a known key; did you mean 'budget'?"),
    ({"devices__0__gian": 7}, "devices[0].gian: is not a known key; did you mean 'gain'?"),
    (
        {"devices__0__gain": ...},
        GAIN.format(0, "is missing"),
    ),
    (
        {"devices__1__gain": None},
        GAIN.format(1, "holds null"),
    ),
    (
        {"devices__1__gain": -1},
        GAIN.format(1, "holds -1"),
    ),
    (
        {"devices__1__name": "cam-1"},
        "devices[1].name: holds 'cam-1', should hold a name of its own: devices[0] has this one",
    ),
    ({"devices__1__weight": 0.5}, "devices.weight: holds weights that sum to 0.75, should hold weights that sum to 1"),
    (
        {"devices__1__weight": None},
        "devices[1].weight: is missing, should hold a weight, as other devices have one: "
        "all devices give a weight, or none does",
    ),
    ({"devices": []}, "devices: holds [], should hold at least one device"),
    ({"devices": None}, DEVICES.format("holds null")),
    ({"devices": "fleet.csv"}, DEVICES.format("holds 'fleet.csv'")),
    ({"devices": {}}, DEVICES.format("holds {}")),
    ({"devices": ...}, DEVICES.format("is missing")),
    ({"convergence__finetune_variance": -1}, VARIANCE.format("", -1) + ", or a list with one for each device"),
    ({"convergence__finetune_variance": "x"}, VARIANCE.format("", "'x'") + ", or a list with one for each device"),
    ({"convergence__finetune_variance": [1, -1]}, VARIANCE.format("[1]", -1)),
    (
        {"convergence__finetune_variance": [1, 2, 3]},
        "convergence.finetune_variance: holds 3 numbers, should hold one number, or one for each of the 2 devices",
    ),
    ({"convergence__finetune_variance": ...}, VARIANCE.replace("holds {}", "is missing").format("")),
    (
        {"convergence__initial_gap": -1},
        "convergence.initial_gap: holds -1, should hold a number of zero or more, such as 2.3",
    ),
    (
        {"convergence__pretrain_step": 0},
        "convergence.pretrain_step: holds 0, should hold a positive step size, such as 0.01",
    ),
    (
        {"convergence__finetune_step": 0.2},
        "convergence.finetune_step: holds 0.2, should hold a step of at most 1/smoothness = 0.1",
    ),
    (
        {"convergence__criterion": "best"},
        "convergence.criterion: holds 'best', should hold 'trajectory', 'final' or 'calibrated'",
    ),
    (
        {"convergence__criterion": "calibrated"},
        "convergence.law: is missing, should hold what criterion calibrated needs: a law, as `pretune pilot` writes it",
    ),
    (
        {"convergence__criterion": "final"},
        "convergence.pl_constant: is missing, should hold what criterion final needs, 0 < mu <= smoothness = 10.0",
    ),
    (
        {"convergence__criterion": "final", "convergence__pl_constant": 11},
        "convergence.pl_constant: holds 11.0, should hold at most the smoothness, 10.0",
    ),
    ({"convergence__pl_constant": 0}, "convergence.pl_constant: holds 0, should hold a positive number, such as 0.5"),
    ({"task": [1]}, "task: holds [1], should hold a mapping that describes model and data, or null"),
    ({"task__layers": math.nan}, "task.layers: holds nan, should hold a finite number"),
    ({"task__layers": [1, math.inf]}, "task.layers[1]: holds inf, should hold a finite number"),
    ({"task__layers": 2**70}, "task.layers: holds 1180591620717411303424, should hold an integer of at most 63 bits"),
    (
        {"task__layers": datetime.date(2020, 1, 1)},
        "task.layers: holds datetime.date(2020, 1, 1), "
        "should hold text, a number, true, false, null, a list or a mapping",
    ),
    ({"task": {1: 2}}, "task: holds 1, should hold keys that are texts"),
]


@pytest.mark.parametrize(("change", "line"), CASES, ids=[line.split(", should")[0][:70] for _, line in CASES])
def test_a_bad_field_is_one_line(change: dict[str, Any], line: str) -> None:
    assert refusal(small(**change)) == (line,)


LEAVES = [
    f"{part}__{key}"
    for part in ("workload", "server", "radio", "budget", "convergence")
    for key in SMALL[part]
    if key != "finetune_variance"
]


@pytest.mark.parametrize("leaf", [*LEAVES, *(f"devices__1__{key}" for key in SMALL["devices"][1])])
@pytest.mark.parametrize(
    "value",
    [True, [], {}, "?", math.nan, -math.inf, -1.0, 1e301, 10**6000, object()],
    ids=["true", "list", "mapping", "text", "nan", "infinity", "negative", "huge", "digits", "object"],
)
def test_every_leaf_refuses_what_it_can_never_hold(leaf: str, value: Any) -> None:
    if leaf.endswith("name") and value == "?":
        return
    (line,) = refusal(small(**{leaf: value}))
    path = leaf.replace("devices__1", "devices[1]").replace("__", ".")
    assert line.startswith(f"{path}: holds ")
    assert ", should hold " in line
    assert len(line) < 250


OPTIONAL = {
    *("workload__download_bits", "server__static_power_w", "radio__access", "radio__noise_psd_w_per_hz"),
    *("convergence__criterion", "convergence__pl_constant"),
}


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_key_without_a_default_is_required(leaf: str) -> None:
    tree = small(**{leaf: ...})
    if leaf in OPTIONAL:
        assert leaf.replace("__", ".") in " ".join(scenario_from_dict(tree).defaults)
    else:
        (line,) = refusal(tree)
        assert line.startswith(leaf.replace("__", ".") + ": is missing, should hold a")


def test_all_bad_fields_are_reported_together() -> None:
    tree = small(
        name=...,
        workload__upload_bits="20 MHz",
        server__max_clok_hz=3,
        radio__access="cdma",
        devices__0__gain=-1,
        devices__1__samples=0.5,
        budget=7,
        convergence__shift="x",
        other=3,
    )
    assert [line.split(": ")[0] for line in refusal(tree)] == [
        "name",
        "workload.upload_bits",
        "server.max_clok_hz",
        "radio.access",
        "devices[0].gain",
        "devices[1].samples",
        "budget",
        "convergence.shift",
        "other",
    ]


def test_twenty_lines_and_a_count() -> None:
    lines = refusal(small(devices=[{**DEVICE, "gain": -1, "samples": 0}] * 30, budget__energy_j=-1))
    assert len(lines) == 21
    assert lines[-1] == "... and 41 more"


def test_a_device_that_is_none_is_reported_once() -> None:
    assert refusal(small(devices=[DEVICE, 3, None, {**DEVICE, "gain": -1}])) == (
        "devices[1]: holds 3, should hold a mapping with the keys name, capacitance, flops_per_cycle, max_clock_hz, "
        "static_power_w, max_power_w, circuit_power_w, gain, bandwidth_hz, samples, weight, battery_j",
        "devices[2]: holds null, should hold a mapping with the keys name, capacitance, flops_per_cycle, max_clock_hz, "
        "static_power_w, max_power_w, circuit_power_w, gain, bandwidth_hz, samples, weight, battery_j",
        GAIN.format(3, "holds -1"),
    )


def test_odd_keys_stay_on_one_line() -> None:
    lines = refusal({**small(), 3: 1, "a b\n": 2, None: 3, "x" * 5000: 4, "\u2028": 5})
    assert len(lines) == 5
    lines += refusal({**small(), "\ud800": 5}) + refusal(small(budget={"\ud800": 5}, name="\ud800"))
    for line in lines:
        line.encode()
        assert len(line) < 250


@pytest.mark.parametrize("tree", [None, 3, "text", [], [1, 2], {}, {"a": 1}, {"name": ...}])
def test_what_is_no_scenario_at_all(tree: Any) -> None:
    lines = refusal(tree)
    if not isinstance(tree, dict) or "name" not in tree:
        (line,) = lines
        assert line.startswith("the scenario: holds ")


def test_a_plan_is_no_scenario() -> None:
    (line,) = refusal({"pretune": 1, "status": "optimal", "scenario_sha256": "00"})
    assert line == "the scenario: holds a plan, should hold the scenario that the plan was made for"


def test_a_cyclic_or_bottomless_task_is_refused() -> None:
    cycle: dict[str, Any] = {}
    cycle["again"] = cycle
    (line,) = refusal(small(task=cycle))
    assert line.endswith("is nested more than 32 levels deep")
    loop: list[Any] = []
    loop += [loop, loop]
    (line,) = refusal(small(task={"loop": loop}))
    assert line.endswith("is nested more than 32 levels deep")
    pair: list[Any] = []
    for _ in range(30):
        pair = [pair, pair]
    (line,) = refusal(small(task={"pair": pair}))
    assert line.endswith("is the end of more than 100000 values")
