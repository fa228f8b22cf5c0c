"""How long planning anew takes in mid-run, at 10, 100 and 300 devices: median and worst of many.

    python benchmarks/replan.py [--repeats 40]

A re-plan is timed as the steering does it in mid-run: the forecast's means, the planner's solves (warm-started), and
the forecast's correction of them; the first plan of a run, whose search is wide, is timed apart. CPU time of this
process, beside the clock, since other processes may share the machine. Writes benchmarks/replan.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from pretune.control.rules import Control, Replan, Rules
from pretune.control.simulate import steer
from pretune.control.steering import Steering
from pretune.physics import cost
from pretune.plans import FinetuneStage, Plan, PretrainStage, Status
from pretune.reality import Reality
from pretune.runtime.replan import Replanner
from pretune.scenario import Scenario

ROUNDS = 120


def scenario_of(count: int, criterion: str) -> Scenario:
    """A drawn fleet under Rayleigh fading."""
    rng = np.random.default_rng(count)
    devices = [
        {
            "name": f"d{k}", "capacitance": float(10 ** rng.uniform(-28, -27)), "flops_per_cycle": 2.0,
            "max_clock_hz": float(rng.uniform(0.5e9, 1.5e9)), "max_power_w": 0.2, "samples": 100,
            "gain": float(10 ** rng.uniform(-10.5, -9)), "bandwidth_hz": 1e6,
        }
        for k in range(count)
    ]  # fmt: skip
    return Scenario(
        name="replan",
        workload={"flops_per_sample": 20224.0, "upload_bits": 153920.0},
        server={
            "capacitance": 1e-27, "flops_per_cycle": 8.0, "max_clock_hz": 1.5e9, "samples": 700,
            "transmit_power_w": 1.0,
        },
        radio={"broadcast_bandwidth_hz": 1e7},
        devices=devices,
        budget={"energy_j": 1.0, "delay_s": 1.0},
        convergence={
            "criterion": criterion, "smoothness": 9.5, "initial_gap": 2.3, "shift": 0.8, "pretrain_step": 0.05,
            "finetune_step": 0.05, "pretrain_variance": 23.0, "finetune_variance": 23.0, "pl_constant": 0.2,
        },
        variation={"fading": {"kind": "rayleigh"}},
    )  # fmt: skip


def steering_of(count: int, criterion: str) -> Steering:
    """A run of it: made-up decisions, budgets that pay for them, planned anew from the first round on."""
    wide = scenario_of(count, criterion)
    fleet, batch = wide.devices, np.full(count, 30)
    clock, power = fleet.max_clock_hz * 0.3, np.full(count, 0.05)
    each = cost.finetune_round(wide, batch.astype(float), clock, power)
    once = cost.pretrain_round(wide, 64, 8e8)
    energy, delay = 1.5 * ROUNDS * each.energy_j + 50 * once.energy_j, 1.5 * ROUNDS * each.time_s + 50 * once.time_s
    one = wide.with_budget(energy_j=energy, delay_s=delay)
    plan = Plan(
        status=Status.FEASIBLE, criterion=criterion, scenario_sha256=one.sha256,
        pretrain=PretrainStage(rounds=0, batch=0, clock_hz=0.0, round_s=0.0),
        finetune=FinetuneStage(
            rounds=ROUNDS, round_s=each.time_s, names=tuple(fleet.names), batch=batch, clock_hz=clock, power_w=power,
            upload_s=each.upload_s,
        ),
        objective=1.0, lower_bound=0.0, relative_gap=1.0, energy_j=energy, delay_s=delay,
    )  # fmt: skip
    rules = Rules(control=Control.ROUNDS, replan=Replan.EVERY, outage=0.1)
    return steer(one, plan, rules, Reality.of(one, 0), planner=Replanner(one))


def measured(count: int, criterion: str, repeats: int) -> dict[str, Any]:
    """The timings of a run's re-plans, one a round, while it goes on."""
    steering, lines = steering_of(count, criterion), []
    plan_anew = steering._plan_anew
    times: list[tuple[float, float]] = []

    def timed(cause: str) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        plan_anew(cause)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))

    steering.log = lines.append
    steering._plan_anew = timed  # type: ignore[method-assign]
    while len(times) <= repeats:
        move = steering.next()
        if hasattr(move, "why"):
            break
        if hasattr(move, "who"):
            steering.finetuned(steering.carried_out(move))
        else:
            steering.pretrained(move)
    first, rest = times[0], times[2:]  # the first of the ordinary ones compiles
    return {
        "devices": count,
        "criterion": criterion,
        "replans": len(rest),
        "median_ms": 1e3 * statistics.median(wall for wall, _ in rest),
        "worst_ms": 1e3 * max(wall for wall, _ in rest),
        "median_cpu_ms": 1e3 * statistics.median(cpu for _, cpu in rest),
        "worst_cpu_ms": 1e3 * max(cpu for _, cpu in rest),
        "first_cpu_ms": 1e3 * first[1],
        "solves": statistics.median(line["solves"] for line in lines[1:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    wanted = parser.parse_args()
    rows = [measured(count, kind, wanted.repeats) for count in (10, 100, 300) for kind in ("final", "trajectory")]
    for row in rows:
        print(
            ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
    (Path(__file__).parent / "replan.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
