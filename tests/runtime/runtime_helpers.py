"""A small scenario on the digits, and a plan for it made by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from pretune.physics import cost
from pretune.physics.types import Floats
from pretune.plans import FinetuneStage, Plan, PretrainStage, Status
from pretune.runtime.models import draw_weights
from pretune.runtime.task import Samples, Task
from pretune.scenario import Scenario

SAMPLES = (120, 90, 60, 30)


def small_scenario(task: dict[str, Any] | None = None, **changes: Any) -> Scenario:
    """Four devices with 300 digits in all; `changes` replace whole sections."""
    device = {
        "capacitance": 1e-28,
        "flops_per_cycle": 8,
        "max_clock_hz": 1e9,
        "max_power_w": 0.2,
        "bandwidth_hz": 1e6,
    }
    tree: dict[str, Any] = {
        "name": "small",
        "workload": {"flops_per_sample": 2e4, "upload_bits": 1.5e5},
        "server": {
            "capacitance": 1e-27,
            "flops_per_cycle": 512,
            "max_clock_hz": 1.5e9,
            "samples": 600,
            "transmit_power_w": 10.0,
        },
        "radio": {"broadcast_bandwidth_hz": 1e7},
        "devices": [{**device, "name": f"d{k}", "samples": n, "gain": 1e-10 * (k + 1)} for k, n in enumerate(SAMPLES)],
        "budget": {"energy_j": 100.0, "delay_s": 1000.0},
        "convergence": {
            "smoothness": 5.0,
            "initial_gap": 2.3,
            "shift": 1.0,
            "pretrain_step": 0.1,
            "finetune_step": 0.05,
            "pretrain_variance": 20.0,
            "finetune_variance": 20.0,
        },
        "task": {"name": "digits"} if task is None else task,
    }
    return Scenario(**{**tree, **changes})


def hand_plan(
    scenario: Scenario,
    *,
    rounds: tuple[int, int] = (20, 10),
    pretrain_batch: int = 16,
    batch: tuple[int, ...] = (12, 9, 6, 3),
    **changes: Any,
) -> Plan:
    """A plan with these rounds and batches at half the clocks and powers, and a little slack in its times."""
    fleet = scenario.devices
    clock_hz: Floats = fleet.max_clock_hz / 2
    power_w: Floats = fleet.max_power_w / 2
    batches = np.array(batch, dtype=np.int64)
    one = cost.pretrain_round(scenario, pretrain_batch, scenario.server.max_clock_hz / 2)
    two = cost.finetune_round(scenario, batches.astype(float), clock_hz, power_w)
    whole = {
        "status": Status.FEASIBLE,
        "criterion": "trajectory",
        "scenario_sha256": scenario.sha256,
        "pretrain": PretrainStage(
            rounds=rounds[0],
            batch=pretrain_batch if rounds[0] else 0,
            clock_hz=scenario.server.max_clock_hz / 2 if rounds[0] else 0.0,
            round_s=one.time_s if rounds[0] else 0.0,
        ),
        "finetune": FinetuneStage(
            rounds=rounds[1],
            round_s=1.25 * two.time_s,
            names=tuple(fleet.names),
            batch=batches,
            clock_hz=clock_hz,
            power_w=power_w,
            upload_s=two.upload_s,
        )
        if rounds[1]
        else FinetuneStage.unused(),
        "objective": 1.0,
        "lower_bound": 0.5,
        "relative_gap": 0.5,
        "energy_j": rounds[0] * one.energy_j + rounds[1] * two.energy_j,
        "delay_s": rounds[0] * one.time_s + rounds[1] * two.time_s,
        "message": "made by hand",
    }
    return Plan(**{**whole, **changes})


def tiny_task() -> Task:
    """The digits without scikit-learn's file, scikit-learn or partitioners: random data with parts of its own."""
    return _random_task(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))


def relu_task() -> Task:
    """The same with a hidden layer that does not saturate: with a large step it diverges."""
    return _random_task(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))


def norm_task() -> Task:
    """The same with batch norm, which is computed device by device and has buffers."""
    return _random_task(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10))


def _random_task(*layers: nn.Module) -> Task:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(64, 10, generator=generator)

    def samples(n: int) -> Samples:
        x = torch.randn(n, 1, 8, 8, generator=generator)
        return Samples(x=x, y=(x.flatten(1) @ truth).argmax(dim=1))

    def model(generator: torch.Generator) -> nn.Module:
        made = nn.Sequential(*copy.deepcopy(layers))
        draw_weights(made, generator)
        return made

    ends = np.cumsum(SAMPLES).tolist()
    return Task(
        name="tiny",
        model=model,
        general=samples(600),
        train=samples(sum(SAMPLES)),
        test=samples(100),
        parts=tuple(np.arange(end - size, end) for end, size in zip(ends, SAMPLES, strict=True)),
    )
