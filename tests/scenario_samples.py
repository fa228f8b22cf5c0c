"""The trees that the scenario tests start from."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from pretune.errors import InputError
from pretune.scenario import load_scenario, scenario_from_dict

DEVICE: dict[str, Any] = {
    "capacitance": 1e-28,
    "flops_per_cycle": 8.0,
    "max_clock_hz": 1.2e9,
    "max_power_w": 0.2,
    "gain": 3.1e-11,
    "bandwidth_hz": 2e6,
    "samples": 600,
}

SMALL: dict[str, Any] = {
    "pretune": 1,
    "name": "campus-digits",
    "workload": {"flops_per_sample": 7.2e7, "upload_bits": 1.92e7, "download_bits": 1.92e7},
    "server": {
        "capacitance": 1e-27,
        "flops_per_cycle": 2048.0,
        "max_clock_hz": 1.5e9,
        "static_power_w": 0.0,
        "samples": 60000,
        "transmit_power_w": 20.0,
    },
    "radio": {"access": "fdma", "noise_psd_w_per_hz": 4e-21, "broadcast_bandwidth_hz": 2e7},
    "devices": [
        {"name": "cam-1", **DEVICE, "static_power_w": 0.0, "circuit_power_w": 0.0, "weight": 0.25, "battery_j": None},
        {"name": "cam-2", **DEVICE, "static_power_w": 0.1, "circuit_power_w": 0.2, "weight": 0.75, "battery_j": 50.0},
    ],
    "budget": {"energy_j": 2000.0, "delay_s": 600.0},
    "convergence": {
        "criterion": "trajectory",
        "smoothness": 10.0,
        "initial_gap": 2.3,
        "shift": 0.7,
        "pretrain_step": 0.01,
        "finetune_step": 0.01,
        "pretrain_variance": 100.0,
        "finetune_variance": 120.0,
        "pl_constant": None,
    },
    "task": {"model": "mlp", "layers": [64, 32], "data": {"name": "digits", "noise": 0.5, "shuffle": True}},
}


def small(**changes: Any) -> dict[str, Any]:
    """A valid tree of two devices; ``small(budget__energy_j=3)`` changes one of its leaves, ``...`` removes it."""
    tree = deepcopy(SMALL)
    for path, value in changes.items():
        *above, last = path.split("__")
        node = tree
        for key in above:
            node = node[int(key)] if isinstance(node, list) else node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return tree


def refusal(tree: Any, base: Path | None = None) -> tuple[str, ...]:
    """The lines that a tree is refused with."""
    with pytest.raises(InputError) as caught:
        scenario_from_dict(tree, base)
    assert all(line and "\n" not in line for line in caught.value.problems)
    return caught.value.problems


def file_refusal(path: Path) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


def write_json(path: Path, tree: Any) -> Path:
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path
