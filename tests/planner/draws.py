"""Seeded drawing of realistic scenarios, and of odd ones, for the planner's tests and the oracle's benchmark.

The budgets are set from the cost model alone, so that the drawn rounds certainly fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.physics import cost, link
from pretune.scenario import Scenario, scenario_from_dict


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A scenario and rounds that fit it."""

    scenario: Scenario
    rounds: tuple[int, int]
    label: str


def draw(
    seed: int,
    *,
    count: int | None = None,
    access: str | None = None,
    criterion: str | None = None,
    idle_power: bool | None = None,
    batteries: bool | None = None,
    stages: str | None = None,
    energy: str | None = None,
    small: bool = False,
    shares: str | None = None,
) -> Drawn:
    """A scenario by its seed; what is not asked for is drawn too.

    `stages`: "both", "pretrain" or "finetune" (which rounds are positive); `energy`: "slack" or "tight"; `small`: tiny
    data sets and a few rounds; `shares`: the devices share a band as wide as theirs together, "optimal" or "equal".
    """
    rng = np.random.default_rng(seed)

    def chosen(asked: Any, *options: Any) -> Any:
        drawn = options[int(rng.integers(len(options)))]
        return drawn if asked is None else asked

    access = chosen(access, "fdma", "tdma")
    criterion = chosen(criterion, "trajectory", "final")
    idle_power = chosen(idle_power, False, True)
    batteries = chosen(batteries, False, True)
    stages = chosen(stages, "both", "both", "both", "pretrain", "finetune")
    energy = chosen(energy, "tight", "tight", "slack")
    count = chosen(count, 1, 2, 3, 5, 8, 13) if not small else chosen(count, 1, 2, 3)
    noise_psd = 4e-21
    devices = {
        "capacitance": 10 ** rng.uniform(-28.3, -27.3, count),
        "flops_per_cycle": rng.uniform(4.0, 16.0, count),
        "max_clock_hz": rng.uniform(0.5e9, 2e9, count),
        "static_power_w": rng.uniform(0.0, 0.3, count) * idle_power,
        "max_power_w": rng.uniform(0.05, 0.3, count),
        "circuit_power_w": rng.uniform(0.0, 0.1, count) * idle_power,
        "gain": 10 ** rng.uniform(-12.0, -9.5, count),
        "bandwidth_hz": 10 ** rng.uniform(5.5, 6.5, count),
        "samples": rng.integers(2, 6, count) if small else rng.integers(20, 600, count),
    }
    bits = 10 ** rng.uniform(5.0, 7.0)
    step0, step, mu = (float(v) for v in (rng.uniform(0.01, 0.1), rng.uniform(0.01, 0.1), rng.uniform(0.1, 1.0)))
    tree: dict[str, Any] = {
        "name": f"drawn-{seed}",
        "workload": {"flops_per_sample": 10 ** rng.uniform(6.0, 8.0), "upload_bits": bits, "download_bits": bits},
        "server": {
            "capacitance": 1e-27,
            "flops_per_cycle": 2048.0,
            "max_clock_hz": 1.5e9,
            "static_power_w": rng.uniform(0.0, 20.0) * idle_power,
            "samples": 6 if small else int(rng.integers(1000, 60000)),
            "transmit_power_w": 20.0,
        },
        "radio": {"access": access, "noise_psd_w_per_hz": noise_psd, "broadcast_bandwidth_hz": 2e7},
        "budget": {"energy_j": 1.0, "delay_s": 1.0},
        "convergence": {
            "criterion": criterion,
            "smoothness": 10.0,
            "initial_gap": rng.uniform(0.5, 5.0),
            "shift": rng.uniform(0.05, 0.7),
            "pretrain_step": step0,
            "finetune_step": step,
            "pretrain_variance": 10 ** rng.uniform(0.0, 2.5),
            "finetune_variance": (10 ** rng.uniform(0.0, 2.5, count)).tolist(),
            "pl_constant": mu,
        },
    }
    if small:
        # a server no faster than a device, so that rounds of both stages can be counted
        tree["server"] |= {"capacitance": 1e-28, "flops_per_cycle": rng.uniform(4.0, 16.0), "static_power_w": 0.0}
        tree["workload"] |= {"upload_bits": bits * 0.01, "download_bits": bits * 0.01}
    most = 4 if small else 300
    m = int(rng.integers(1, most)) if stages != "finetune" else 0
    n = int(rng.integers(1, most)) if stages != "pretrain" else 0
    bare = Scenario(**tree, devices=_fleet(devices, None))
    time_slack, energy_slack = 10 ** rng.uniform(0.05, 1.5), 10 ** rng.uniform(0.05, 2.0)
    if small:
        time_slack, energy_slack = time_slack**0.4, energy_slack**0.4
    if energy == "slack":
        energy_slack *= 1e9
    joules, seconds, each = _one_sample(bare, m, n, time_slack)
    battery = None
    if batteries and n > 0:
        factor = 10 ** rng.uniform(0.05, 1.5, count)
        battery = [float(n * e * f) if rng.random() < 0.6 else None for e, f in zip(each, factor, strict=True)]
    tree["budget"] = {"energy_j": joules * energy_slack, "delay_s": seconds}
    label = f"{access} {criterion} {stages} {energy} K={count}" + " idle" * idle_power + " battery" * batteries
    scenario = Scenario(**tree, devices=_fleet(devices, battery))
    if shares is not None:
        scenario, label = sharing(scenario, shares), f"{label} {shares} shares"
    return Drawn(scenario=scenario, rounds=(m, n), label=label)


def sharing(scenario: Scenario, shares: str, width: float = 1.0) -> Scenario:
    """The scenario with one band, `width` times as wide as all of its devices' together, that they share."""
    tree = scenario.to_dict()
    band_hz = float(scenario.devices.bandwidth_hz.sum()) * width
    for row in tree["devices"]:
        row.pop("bandwidth_hz", None)
    tree["radio"] |= {"uplink_bandwidth_hz": band_hz, "bandwidth_shares": shares}
    return Scenario(**tree)


def _all_devices(tree: dict[str, Any], **values: Any) -> None:
    for row in tree["devices"]:
        row.update(values)


def _identical(tree: dict[str, Any]) -> None:
    for row in tree["devices"]:
        row.update({key: value for key, value in tree["devices"][0].items() if key not in ("name", "weight")})
        row["weight"] = 1.0 / len(tree["devices"])


def _scaled_budget(tree: dict[str, Any], factor: float) -> None:
    tree["budget"] = {key: value * factor for key, value in tree["budget"].items()}


ODDITIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "one device": lambda tree: tree.update(devices=[{**tree["devices"][0], "weight": 1.0}], convergence=_one(tree)),
    "identical devices": _identical,
    "a hopeless device": lambda tree: tree["devices"][0].update(gain=1e-18),
    "a nearly free server": lambda tree: tree["server"].update(capacitance=1e-40),
    "no shift": lambda tree: tree["convergence"].update(shift=0.0),
    "a huge shift": lambda tree: tree["convergence"].update(shift=1e6),
    "no noise": lambda tree: tree["convergence"].update(pretrain_variance=0.0, finetune_variance=0.0),
    "no noise on devices": lambda tree: tree["convergence"].update(finetune_variance=0.0),
    "no gap": lambda tree: tree["convergence"].update(initial_gap=0.0),
    "tiny budgets": lambda tree: _scaled_budget(tree, 0.05),
    "hopeless budgets": lambda tree: _scaled_budget(tree, 1e-9),
    "huge budgets": lambda tree: _scaled_budget(tree, 1e6),
    "one sample each": lambda tree: (_all_devices(tree, samples=1), tree["server"].update(samples=1)),
    "steep uploads": lambda tree: _all_devices(tree, bandwidth_hz=1e3),
    "flat uploads": lambda tree: _all_devices(tree, bandwidth_hz=1e12),
    "largest steps": lambda tree: tree["convergence"].update(pretrain_step=0.1, finetune_step=0.1, pl_constant=10.0),
    "flat objective": lambda tree: tree["convergence"].update(pl_constant=1e-9),
}
"""Scenarios at the edge of what makes sense, each as a change of a drawn one's tree."""


def odd(name: str, seed: int, **options: Any) -> Scenario:
    """A drawn scenario with one of the oddities."""
    tree = draw(seed, **options).scenario.to_dict()
    ODDITIES[name](tree)
    return scenario_from_dict(tree)


def _one(tree: dict[str, Any]) -> dict[str, Any]:
    return {**tree["convergence"], "finetune_variance": 100.0}


def _fleet(columns: dict[str, Any], battery: list[float | None] | None) -> list[dict[str, Any]]:
    rows = [
        {key: int(column[k]) if key == "samples" else float(column[k]) for key, column in columns.items()}
        for k in range(len(columns["gain"]))
    ]
    if battery is not None:
        for row, joules in zip(rows, battery, strict=True):
            row["battery_j"] = joules
    return rows


def _one_sample(scenario: Scenario, m: int, n: int, slack: float) -> tuple[float, float, np.ndarray]:
    """Joules and seconds of `m` and `n` rounds of one sample, `slack` times the fastest; joules by device."""
    fleet, work, server = scenario.devices, scenario.workload, scenario.server
    joules, seconds = 0.0, 0.0
    one = cost.pretrain_round(scenario, 1.0, server.max_clock_hz / slack)
    joules += m * one.energy_j
    seconds += m * one.time_s
    fastest = link.airtime(
        work.upload_bits, fleet.max_power_w, fleet.gain, fleet.bandwidth_hz, scenario.radio.noise_psd_w_per_hz
    )
    power = link.power_for_airtime(
        work.upload_bits, slack * fastest, fleet.gain, fleet.bandwidth_hz, scenario.radio.noise_psd_w_per_hz
    )
    each = cost.finetune_round(scenario, np.ones(len(fleet)), fleet.max_clock_hz / slack, power)
    return joules + n * each.energy_j, seconds + n * each.time_s, each.device_j
