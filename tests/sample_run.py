"""A small scenario and a run's folder made by hand, for the tests of the command line and the report.

Nothing is planned or trained here: the decisions are made up, what they cost comes from the cost model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pretune.ledger import Ledger, RoundRecord, Stage
from pretune.physics import cost
from pretune.plans import Constraint, FinetuneStage, Plan, PretrainStage, Status
from pretune.scenario import Scenario, scenario_from_dict


def tree(**changes: Any) -> dict[str, Any]:
    """The tree of a scenario with ten devices that plans in an instant and can be run on the digits."""
    device = {
        "capacitance": 1e-28,
        "flops_per_cycle": 8,
        "max_clock_hz": 1.2e9,
        "max_power_w": 0.2,
        "bandwidth_hz": 2e6,
        "samples": 60,
    }
    found = {
        "pretune": 1,
        "name": "small",
        "workload": {"flops_per_sample": 7.2e5, "upload_bits": 1.5e5},
        "server": {
            "capacitance": 1e-27,
            "flops_per_cycle": 64,
            "max_clock_hz": 1.5e9,
            "samples": 600,
            "transmit_power_w": 2.0,
        },
        "radio": {"access": "fdma", "broadcast_bandwidth_hz": 2e7},
        "devices": [{"name": f"cam-{k}", "gain": 3e-11 * (k + 1), **device} for k in range(10)],
        "budget": {"energy_j": 2.0, "delay_s": 2.0},
        "convergence": {
            "criterion": "final",
            "smoothness": 10.0,
            "initial_gap": 2.3,
            "shift": 0.7,
            "pretrain_step": 0.05,
            "finetune_step": 0.05,
            "pretrain_variance": 10.0,
            "finetune_variance": 12.0,
            "pl_constant": 0.5,
        },
        "task": {"name": "digits"},
    }
    return {**found, **changes}


def write(path: Path, content: dict[str, Any]) -> Path:
    """A scenario file (JSON)."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def plan_for(scenario: Scenario, pretrain: int, finetune: int) -> Plan:
    """A plan with made-up decisions and true costs."""
    count = len(scenario.devices)
    batch, clock = np.arange(10, 10 + count), np.linspace(6e8, 1.2e9, count)
    power = np.linspace(0.05, 0.2, count)
    once = cost.pretrain_round(scenario, 64, 1e9)
    each = cost.finetune_round(scenario, batch.astype(float), clock, power)
    energy_j = pretrain * once.energy_j + finetune * each.energy_j
    delay_s = pretrain * once.time_s + finetune * each.time_s
    stage = FinetuneStage(
        rounds=finetune,
        round_s=each.time_s,
        names=tuple(scenario.devices.names),
        batch=batch,
        clock_hz=clock,
        power_w=power,
        upload_s=each.upload_s,
    )
    return Plan(
        status=Status.FEASIBLE,
        criterion="final",
        scenario_sha256=scenario.sha256,
        pretrain=PretrainStage(rounds=pretrain, batch=64, clock_hz=1e9, round_s=once.time_s if pretrain else 0.0),
        finetune=stage if finetune else FinetuneStage.unused(),
        objective=1.4,
        lower_bound=1.3,
        relative_gap=0.1 / 1.4,
        energy_j=energy_j,
        delay_s=delay_s,
        multipliers={"energy_j": -1.2e-4, "delay_s": 0.0},
        constraints=(
            Constraint(name="energy", value=energy_j, limit=scenario.budget.energy_j, binding=False),
            Constraint(name="clock:" + scenario.devices.names[-1], value=1.2e9, limit=1.2e9, binding=True),
        ),
        defaults=tuple(scenario.defaults),
    )


def folder(
    path: Path,
    *,
    content: dict[str, Any] | None = None,
    pretrain: int = 40,
    finetune: int = 20,
    done: int | None = None,
) -> Path:
    """The folder of a run with made-up losses; cut short after `done` rounds."""
    path.mkdir(parents=True)
    scenario = scenario_from_dict(tree() if content is None else content)
    plan = plan_for(scenario, pretrain, finetune)
    (path / "scenario.json").write_text(json.dumps(scenario.to_dict()), encoding="utf-8")
    plan.save(path / "plan.json")
    nothing = dict.fromkeys(("planned_s", "planned_j", "realised_s", "realised_j", "elapsed_s", "elapsed_j"), 0.0)
    records = [
        RoundRecord(
            stage=Stage.START,
            round=0,
            **nothing,
            loss=None,
            gradient_norm_sq=None,
            test_loss=2.3,
            test_accuracy=0.1,
        )
    ]
    stages = [(Stage.PRETRAIN, round_) for round_ in range(1, pretrain + 1)]
    stages += [(Stage.FINETUNE, round_) for round_ in range(1, finetune + 1)]
    once = cost.pretrain_round(scenario, 64, 1e9)
    each = cost.finetune_round(
        scenario,
        np.arange(10.0, 10 + len(scenario.devices)),
        np.linspace(6e8, 1.2e9, len(scenario.devices)),
        np.linspace(0.05, 0.2, len(scenario.devices)),
    )
    for number, (stage, round_) in enumerate(stages[:done], start=1):
        spent = once if stage is Stage.PRETRAIN else each
        tested = number % 5 == 0
        records.append(
            RoundRecord(
                stage=stage,
                round=round_,
                planned_s=spent.time_s,
                planned_j=spent.energy_j,
                realised_s=spent.time_s,
                realised_j=spent.energy_j,
                elapsed_s=records[-1].elapsed_s + spent.time_s,
                elapsed_j=records[-1].elapsed_j + spent.energy_j,
                loss=2.3 / number,
                gradient_norm_sq=4.0 / number,
                test_loss=2.4 / number if tested else None,
                test_accuracy=1 - 0.9 / number if tested else None,
            )
        )
    (path / "ledger.jsonl").write_text(Ledger(records=tuple(records)).to_jsonl(), encoding="utf-8")
    (path / "run.json").write_text(json.dumps({"pretune": 1, "seed": 7, "task": "digits"}), encoding="utf-8")
    if done is None:
        summary = {"pretune": 1, "status": "finished", "message": "all rounds were done", "seed": 7}
        (path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return path
