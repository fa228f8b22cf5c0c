from __future__ import annotations

import copy
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pretune.errors import InputError
from pretune.scenario import (
    Access,
    Budget,
    Convergence,
    Criterion,
    Device,
    Fleet,
    Radio,
    Scenario,
    Server,
    Workload,
    load_scenario,
    scenario_from_dict,
)
from scenario_samples import DEVICE, SMALL, refusal, small, write_json

INTERFACE = """
pretune: 1
name: campus-digits
workload:   {flops_per_sample: 7.2e7, upload_bits: 1.92e7, download_bits: 1.92e7}
server:     {capacitance: 1.0e-27, flops_per_cycle: 2048, max_clock_hz: 1.5e9, static_power_w: 0.0, samples: 60000,
             transmit_power_w: 20.0}
radio:      {access: fdma, noise_psd_w_per_hz: 4.0e-21, broadcast_bandwidth_hz: 2.0e7}
devices:                       # a list
  - {name: cam-1, capacitance: 1.0e-28, flops_per_cycle: 8, max_clock_hz: 1.2e9, static_power_w: 0.0, max_power_w: 0.2,
     circuit_power_w: 0.0, gain: 3.1e-11, bandwidth_hz: 2.0e6, samples: 600, weight: 1.0, battery_j: null}
budget:     {energy_j: 2000.0, delay_s: 600.0}
convergence:
  criterion: trajectory        # trajectory | final | calibrated
  smoothness: 10.0
  initial_gap: 2.3
  shift: 0.7
  pretrain_step: 0.01
  finetune_step: 0.01
  pretrain_variance: 100.0
  finetune_variance: 120.0
  pl_constant: null
task: {model: mlp}
"""


def toml_of(tree: dict[str, Any]) -> str:
    """The tree as TOML, in inline tables; null is left out."""

    def value(node: Any) -> str:
        if isinstance(node, dict):
            return "{" + ", ".join(f"{key} = {value(item)}" for key, item in node.items() if item is not None) + "}"
        if isinstance(node, list):
            return "[" + ", ".join(map(value, node)) + "]"
        return json.dumps(node)

    return "\n".join(f"{key} = {value(item)}" for key, item in tree.items() if item is not None)


def yaml_of(tree: dict[str, Any]) -> str:
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(tree, stream)
    return stream.getvalue()


def test_the_file_of_the_interface_loads(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(INTERFACE)
    scenario = load_scenario(path)
    assert scenario.name == "campus-digits"
    assert scenario.workload.flops_per_sample == 7.2e7  # YAML 1.1 would read a text here
    assert scenario.server.samples == 60000
    assert scenario.radio.access is Access.FDMA
    assert scenario.devices.gain.tolist() == [3.1e-11]
    assert scenario.devices.names == ("cam-1",)
    assert scenario.budget.delay_s == 600.0
    assert scenario.convergence.criterion is Criterion.TRAJECTORY
    assert scenario.convergence.pl_constant is None
    assert scenario.finetune_variances.tolist() == [120.0]
    assert scenario.task == {"model": "mlp"}
    assert scenario.defaults == ()
    assert repr(scenario) == "<Scenario 'campus-digits': 1 device, fdma, 2000 J, 600 s, trajectory>"


def test_the_three_formats_hold_the_same_scenario(tmp_path: Path) -> None:
    tree = small(devices__0__battery_j=...)  # TOML has no null
    (tmp_path / "s.toml").write_text(toml_of(tree))
    (tmp_path / "s.yaml").write_text(yaml_of(tree))
    (tmp_path / "s.yml").write_text(json.dumps(tree))  # JSON is YAML
    (tmp_path / "S.JSON").write_text(json.dumps(tree, indent=3))
    digests = {load_scenario(tmp_path / name).sha256 for name in ("s.toml", "s.yaml", "s.yml", "S.JSON")}
    assert digests == {scenario_from_dict(tree).sha256}


def test_units_and_numbers_are_the_same_scenario() -> None:
    texts = small(
        workload__flops_per_sample="72 MFLOP",
        workload__upload_bits="19.2 Mbit",
        server__max_clock_hz="1.5 GHz",
        radio__broadcast_bandwidth_hz="20 MHz",
        devices__0__bandwidth_hz="2 MHz",
        budget__energy_j="2 kJ",
        budget__delay_s="10 min",
    )
    assert scenario_from_dict(texts) == scenario_from_dict(small())


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"workload__upload_bits": 1.93e7},
        {"server__samples": 60001},
        {"radio__access": "tdma"},
        {"devices__1__gain": 3.2e-11},
        {"devices__1__name": "cam-3"},
        {"budget__delay_s": 601},
        {"convergence__shift": 0.71},
        {"convergence__finetune_variance": [120.0, 120.0]},
        {"task__layers": [64, 33]},
        {"task": ...},
    ],
)
def test_every_change_changes_the_digest(change: dict[str, Any]) -> None:
    assert scenario_from_dict(small(**change)).sha256 != scenario_from_dict(small()).sha256


def test_order_notation_and_spelt_out_defaults_do_not_change_the_digest() -> None:
    tree = {key: SMALL[key] for key in reversed(SMALL)}
    assert scenario_from_dict(tree) == scenario_from_dict(SMALL)
    assert scenario_from_dict(small(server__static_power_w=...)) == scenario_from_dict(small())
    assert scenario_from_dict(small(server__static_power_w=-0.0)) == scenario_from_dict(small())
    assert scenario_from_dict(small(server__samples=6e4)) == scenario_from_dict(small())
    assert scenario_from_dict(small(devices__1__battery_j="50 J")) == scenario_from_dict(small())


def test_the_digest_is_the_same_in_every_process() -> None:
    code = f"from pretune.scenario import scenario_from_dict; print(scenario_from_dict({small()!r}).sha256)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert out == scenario_from_dict(small()).sha256
    assert len(out) == 64


@pytest.mark.parametrize(
    "tree",
    [
        small(),
        small(devices=[DEVICE] * 3),
        small(devices=[{**DEVICE, "samples": n} for n in (1, 7, 13, 999)], convergence__finetune_variance=[1, 2, 3, 4]),
        small(workload__download_bits=..., radio__noise_psd_w_per_hz=..., task=...),
        small(devices={"count": 9, "draw": {**DEVICE, "samples": {"uniform": [1, 1000]}}}),
    ],
)
def test_the_resolved_tree_reads_back_as_the_same(tree: dict[str, Any], tmp_path: Path) -> None:
    scenario = scenario_from_dict(tree)
    resolved = scenario.to_dict()
    assert scenario_from_dict(resolved).sha256 == scenario.sha256
    assert scenario_from_dict(resolved).to_dict() == resolved
    assert load_scenario(write_json(tmp_path / "resolved.json", resolved)) == scenario


def test_what_is_spelt_out_is_no_default() -> None:
    assert scenario_from_dict(scenario_from_dict(small(devices=[DEVICE])).to_dict()).defaults == ()


def test_defaults_are_physical_and_named() -> None:
    tree = small(
        workload__download_bits=...,
        server__static_power_w=...,
        radio={"broadcast_bandwidth_hz": 2e7},
        devices=[DEVICE],
        convergence__criterion=...,
        convergence__pl_constant=...,
        task=...,
    )
    scenario = scenario_from_dict(tree)
    assert scenario.workload.download_bits == scenario.workload.upload_bits == 1.92e7
    assert scenario.radio.noise_psd_w_per_hz == pytest.approx(3.981071705534972e-21, rel=1e-15)
    assert scenario.task is None
    assert scenario.defaults == (
        "workload.download_bits = 19200000.0",
        "server.static_power_w = 0.0",
        "radio.access = fdma",
        f"radio.noise_psd_w_per_hz = {scenario.radio.noise_psd_w_per_hz!r}",
        "convergence.criterion = trajectory",
        "convergence.pl_constant = null",
        "devices.static_power_w = 0.0",
        "devices.circuit_power_w = 0.0",
        "devices.battery_j = null (no limit)",
        "devices.weight = samples / sum(samples)",
        "devices.name = device-<i>",
    )


def test_the_constructor_takes_objects_mappings_and_units() -> None:
    scenario = Scenario(
        name="campus-digits",
        workload=Workload(flops_per_sample="72 MFLOP", upload_bits=1.92e7),
        server=Server(**SMALL["server"]),
        radio=Radio(**SMALL["radio"]),
        devices=Fleet.from_rows(SMALL["devices"]),
        budget=Budget(energy_j="2 kJ", delay_s=600),
        convergence=Convergence(**SMALL["convergence"]),
        task=SMALL["task"],
    )
    assert scenario == Scenario(**SMALL) == scenario_from_dict(SMALL)
    assert Scenario(**{**SMALL, "devices": [Device(**device) for device in SMALL["devices"]]}) == scenario
    assert Scenario(**{**SMALL, "devices": tuple(SMALL["devices"])}) == scenario


def test_the_constructor_refuses_like_the_file() -> None:
    bad = small(budget__energy_j=-1, devices__1__gain="x", extra=1)
    with pytest.raises(InputError) as caught:
        Scenario(**bad)
    assert caught.value.problems == refusal(bad)
    with pytest.raises(InputError, match=r"^energy_j: holds -1, should hold a positive energy"):
        Budget(energy_j=-1, delay_s=3)
    with pytest.raises(InputError, match=r"^pretrain_step: holds 1\.0, should hold a step of at most 1/sm"):
        Convergence(**{**SMALL["convergence"], "pretrain_step": 1.0})


def test_numpy_numbers_are_numbers() -> None:
    tree = small(budget__energy_j=np.float64(2000), server__samples=np.int64(60000), task__layers=[np.int64(64), 32])
    assert scenario_from_dict(tree) == scenario_from_dict(small())
    variances = small(convergence__finetune_variance=np.array([1.0, 2.0]))
    assert scenario_from_dict(variances).finetune_variances.tolist() == [1.0, 2.0]


def test_a_scenario_does_not_change() -> None:
    scenario, tree = scenario_from_dict(small()), small()
    for target, key in ((scenario, "name"), (scenario.budget, "energy_j"), (scenario.workload, "download_bits")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(target, key, 3)
    with pytest.raises(ValueError, match="read-only"):
        scenario.finetune_variances[0] = 1
    task_owner = scenario_from_dict(tree)
    tree["task"]["layers"].append(5)
    assert task_owner.task == SMALL["task"]


def test_other_budgets() -> None:
    scenario = scenario_from_dict(small(devices=[DEVICE]))
    assert scenario.with_budget(energy_j="1 kJ").budget == Budget(energy_j=1000, delay_s=600)
    assert scenario.with_budget(delay_s=5).budget == Budget(energy_j=2000, delay_s=5)
    assert scenario.with_budget(delay_s=5).defaults == scenario.defaults
    assert scenario.with_budget(delay_s=5).sha256 != scenario.sha256
    assert scenario.with_budget(delay_s=600) == scenario
    assert scenario.with_budget(delay_s=5).devices is scenario.devices
    with pytest.raises(InputError, match=r"budget\.delay_s: holds 0"):
        scenario.with_budget(delay_s=0)


def test_other_fields() -> None:
    scenario = scenario_from_dict(small())
    assert scenario.replace(name="x").name == "x"
    assert scenario.replace(devices=[DEVICE]).finetune_variances.shape == (1,)
    with pytest.raises(InputError, match="nmae: is not a known key; did you mean 'name'"):
        scenario.replace(nmae="x")
    per_device = scenario_from_dict(small(convergence__finetune_variance=[1, 2]))
    with pytest.raises(InputError, match="holds 2 numbers, should hold one number, or one for each of the 1 devices"):
        per_device.replace(devices=[DEVICE])


def test_pickle_and_copies_keep_the_scenario() -> None:
    scenario = scenario_from_dict(small())
    assert pickle.loads(pickle.dumps(scenario)) == scenario
    assert copy.deepcopy(scenario) == scenario
    assert hash(copy.copy(scenario)) == hash(scenario)
    assert scenario != "scenario"


def test_variances_of_each_device() -> None:
    scenario = scenario_from_dict(small(convergence__finetune_variance=[100, 140.5]))
    assert scenario.finetune_variances.tolist() == [100.0, 140.5]
    assert scenario.finetune_variances.dtype == np.float64
    assert scenario_from_dict(small()).finetune_variances.tolist() == [120.0, 120.0]


def test_steps_up_to_their_limit_are_taken() -> None:
    for smoothness in (3.0, 7.0, 10.0, 49.0):
        tree = small(convergence__smoothness=smoothness, convergence__pretrain_step=1 / smoothness)
        assert scenario_from_dict(tree).convergence.pretrain_step == 1 / smoothness


def test_final_takes_a_constant_up_to_the_smoothness() -> None:
    tree = small(convergence__criterion="final", convergence__pl_constant=10)
    assert scenario_from_dict(tree).convergence.criterion is Criterion.FINAL
