"""How fast rounds are simulated: pretune's local backend beside bare PyTorch and other simulators, in one run.

    python benchmarks/federated_simulation.py [--peers PYTHON] [--rounds 200] [--repeats 5] [--large 10000] [--out FILE]

K = 100 devices with 100 samples each, one gradient of a batch of 10 each in every round, MLP 784-200-10, one thread.
`ours` is a `run` of a plan with its full ledger (by the median round; `whole` is all of it: reading, evaluations,
checkpoints, results); `fused` is the least that the same arithmetic takes in PyTorch: draw 1000 samples, one weighted
forward and backward pass, one step; `drawn` is that without drawing; `loop` does it device by device. They take turns,
`repeats` times, and are measured in processor time, as pfl is; Flower's many processes by the clock. The peers (pfl,
Flower's simulation, BlazeFL; `simulation_peers.py`) need an interpreter that has them, since they don't go with our
pins: `--peers`, or PRETUNE_PEERS; a peer that is absent says so. Writes a JSON line for each row.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch import Tensor, nn

from pretune import Scenario
from pretune.physics import cost
from pretune.plans import FinetuneStage, Plan, PretrainStage, Status
from pretune.runtime.models import make_model
from pretune.runtime.run import run
from pretune.runtime.task import Samples, Task

HERE = Path(__file__).parent
BATCH, STEP = 10, 0.05
PEERS = ("pfl", "flower", "blazefl")


def task_of(devices: int, each: int) -> Task:
    generator = torch.Generator().manual_seed(0)

    def samples(count: int) -> Samples:
        x = torch.randn(count, 1, 28, 28, generator=generator)
        return Samples(x=x, y=torch.randint(0, 10, (count,), generator=generator))

    return Task(
        name="bench",
        model=partial(make_model, "mlp", (1, 28, 28), 10, 200),
        general=samples(100),
        train=samples(devices * each),
        test=samples(1000),
        parts=tuple(np.arange(k * each, (k + 1) * each) for k in range(devices)),
    )


def scenario_of(devices: int, each: int) -> Scenario:
    device = {"capacitance": 1e-28, "flops_per_cycle": 8, "max_clock_hz": 1e9, "max_power_w": 0.2, "gain": 1e-10}
    device |= {"bandwidth_hz": 1e6, "samples": each}
    server = {"capacitance": 1e-27, "flops_per_cycle": 512, "max_clock_hz": 1.5e9, "samples": 100}
    constants = {"smoothness": 5.0, "initial_gap": 2.3, "shift": 1.0, "pretrain_step": STEP, "finetune_step": STEP}
    return Scenario(
        name="simulation",
        workload={"flops_per_sample": 1e6, "upload_bits": 5e6},
        server={**server, "transmit_power_w": 10.0},
        radio={"broadcast_bandwidth_hz": 1e7},
        devices=[{**device, "name": f"d{k}"} for k in range(devices)],
        budget={"energy_j": 1e9, "delay_s": 1e9},
        convergence={**constants, "pretrain_variance": 20.0, "finetune_variance": 20.0},
    )


def plan_of(scenario: Scenario, rounds: int) -> Plan:
    """A plan made by hand: only fine-tuning, all batches alike."""
    fleet = scenario.devices
    batch = np.full(len(fleet), BATCH)
    each = cost.finetune_round(scenario, batch.astype(float), fleet.max_clock_hz, fleet.max_power_w)
    return Plan(
        status=Status.FEASIBLE,
        criterion="trajectory",
        scenario_sha256=scenario.sha256,
        pretrain=PretrainStage(rounds=0, batch=0, clock_hz=0.0, round_s=0.0),
        finetune=FinetuneStage(
            rounds=rounds,
            round_s=each.time_s,
            names=tuple(fleet.names),
            batch=batch,
            clock_hz=fleet.max_clock_hz,
            power_w=fleet.max_power_w,
            upload_s=each.upload_s,
        ),
        objective=1.0,
        lower_bound=0.5,
        relative_gap=0.5,
        energy_j=1.0,
        delay_s=1.0,
        message="made by hand",
    )


def ours(task: Task, scenario: Scenario, rounds: int) -> tuple[float, float]:
    """Rounds per second of a whole run: by the median round, and over all, evaluations and results included."""
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        plan = plan_of(scenario, rounds)
        run(plan, scenario, out=Path(folder) / "run", task=task, threads=1, progress=lambda _: ends.append(clock()))
        whole = time.process_time() - began
    return 1.0 / median(np.diff(ends[1:])), rounds / whole


def clock() -> float:
    return time.process_time()


def bare(task: Task, devices: int, rounds: int, way: str) -> float:
    """Rounds per second of the arithmetic alone, by the median round."""
    model = task.build(0)
    optimiser = torch.optim.SGD(model.parameters(), lr=STEP)
    x, y, total = task.train.x, task.train.y, devices * BATCH
    weights = torch.full((total,), 1.0 / total)
    each = len(x) // devices
    offsets = torch.arange(devices).repeat_interleave(BATCH) * each
    generator = torch.Generator().manual_seed(0)

    def draw() -> tuple[Tensor, Tensor]:
        rows = offsets + torch.randint(0, each, (total,), generator=generator)
        return x.index_select(0, rows), y.index_select(0, rows)

    drawn, ends = draw(), [clock()]
    for _ in range(rounds):
        images, labels = drawn if way == "drawn" else draw()
        optimiser.zero_grad()
        if way == "loop":
            for first in range(0, total, BATCH):
                some = slice(first, first + BATCH)
                (nn.functional.cross_entropy(model(images[some]), labels[some]) / devices).backward()
        else:
            losses = nn.functional.cross_entropy(model(images), labels, reduction="none")
            torch.dot(losses, weights).backward()
        optimiser.step()
        ends.append(clock())
    return 1.0 / median(np.diff(ends))


def large(devices: int, rounds: int) -> dict[str, Any]:
    """Rounds per second and the most memory of a process that simulates a large fleet (it is this one).

    Each device has as many samples as its batch: with 100 the pixels alone would be 3 GB.
    """
    task, scenario = task_of(devices, BATCH), scenario_of(devices, BATCH)
    data = sum(part.element_size() * part.nelement() for part in (task.train.x, task.train.y))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = ours(task, scenario, rounds)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sizes = {"memory_bytes": most, "data_bytes": data, "before_bytes": before}
    return {"name": "large", "devices": devices, "rounds_per_s": found[0], **sizes}


def peer(python: str | None, name: str, devices: int, rounds: int) -> dict[str, Any]:
    """What a peer's own process says of itself."""
    row = {"name": name, "devices": devices}
    if not python:
        return {**row, "absent": "no interpreter was named (--peers)"}
    command = [python, str(HERE / "simulation_peers.py"), name, "--devices", str(devices), "--rounds", str(rounds)]
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=outside, timeout=1800)
    lines = done.stdout.splitlines()
    if not lines:
        return {**row, "absent": (done.stderr.splitlines() or ["it failed"])[-1][:200]}
    return {**row, **json.loads(lines[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=os.environ.get("PRETUNE_PEERS"), help="a Python that has the peers")
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", type=int, default=10_000, help="devices of the large fleet")
    parser.add_argument("--only-large", action="store_true", help="measure that alone: it is what a child process does")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if options.only_large:
        print(json.dumps(large(options.large, 10)))
        return
    task, scenario = task_of(options.devices, 100), scenario_of(options.devices, 100)
    speeds: dict[str, list[float]] = {name: [] for name in ("ours", "whole", "fused", "drawn", "loop")}
    for _ in range(options.repeats):
        for way in ("fused", "drawn", "loop"):
            speeds[way].append(bare(task, options.devices, options.rounds, way))
        for name, value in zip(("ours", "whole"), ours(task, scenario, options.rounds), strict=True):
            speeds[name].append(value)
    same = {"devices": options.devices, "repeats": options.repeats}
    rows += [{"name": name, **same, "rounds_per_s": median(found), "all": found} for name, found in speeds.items()]
    rows += [peer(options.peers, name, options.devices, min(options.rounds, 30)) for name in PEERS]
    command = [sys.executable, __file__, "--only-large", "--large", str(options.large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows.append(json.loads(done.stdout.splitlines()[-1]))
    for row in rows:
        print(json.dumps(row))
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
