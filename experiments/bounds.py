"""Bounds beside real training: the criteria with measured constants, and what they bound, over several seeds.

    PRETUNE_DATA=... python experiments/bounds.py         # writes experiments/results/bounds*.csv; some minutes
    python experiments/bounds.py --only digits            # one task; the others' rows are kept

Constants are those of `pretune calibrate`, measured with seeds from 100 on; the runs have the seeds 0 to 4, so neither
models nor batches are shared. A run's squared gradient norms are those of the task objective over all devices' samples,
at some ten rounds of either stage, evenly spaced, weighted as in the criterion `trajectory`. The bounds are for
expectations, so the mean over the seeds is what has to be below. For `final` the loss of the delivered model (the floor
is 0) stands beside its bound, whose Polyak-Lojasiewicz constant is a measured rate and no guarantee.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from pretune.convergence import criteria
from pretune.ledger import Stage
from pretune.runtime.calibrate import Budget, calibrate
from pretune.runtime.gradient import fused_gradient, step
from pretune.runtime.load import load_task
from pretune.runtime.local import Crew
from pretune.runtime.partition import Holdings, hold
from pretune.runtime.task import Task
from pretune.scenario import Scenario, load_scenario

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
SEEDS = range(5)
LOOKS = 10
KEYS = ("smoothness", "initial_gap", "shift", "pretrain_variance", "finetune_variance", "pl_constant")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Rounds and batches: the server's, and every device's."""

    pretrain_rounds: int
    finetune_rounds: int
    server_batch: int
    batch: int


# The constants are measured along 200 and 100 rounds; the other cells are shorter and longer than that.
CELLS = (
    Cell(pretrain_rounds=200, finetune_rounds=100, server_batch=32, batch=4),
    Cell(pretrain_rounds=50, finetune_rounds=20, server_batch=128, batch=16),
    Cell(pretrain_rounds=600, finetune_rounds=50, server_batch=16, batch=8),
    Cell(pretrain_rounds=0, finetune_rounds=200, server_batch=1, batch=2),
)


def scenarios() -> dict[str, Scenario]:
    """The three tasks; CIFAR-10 with ten devices of 200 samples and an MLP (a CNN would take half an hour)."""
    usps = load_scenario(EXAMPLES / "mnist_usps.yaml")
    tree = usps.to_dict()
    rows = [{**row, "samples": 200, "weight": 0.1} for row in tree["devices"][:10]]
    cifar = usps.replace(
        name="cifar10-corrupted",
        devices=rows,
        server=usps.server.model_copy(update={"samples": 5000}),
        task={"name": "cifar10-corrupted", "corruption": "blur", "severity": 3, "model": {"kind": "mlp", "hidden": 64}},
    )
    return {"digits": load_scenario(EXAMPLES / "digits.yaml"), "mnist-usps": usps, "cifar10-corrupted": cifar}


def measured_constants(scenario: Scenario, task: Task) -> dict[str, Any]:
    """What `pretune calibrate` measures, as (value, low, high) for each key."""
    with tempfile.TemporaryDirectory() as folder:
        found = calibrate(scenario, state=Path(folder) / "state.json", budget=Budget(seconds=1e6), seed=100, task=task)
    single = found.figures.single
    kept = {key: (single[key].value, single[key].low, single[key].high) for key in KEYS}
    return {**kept, "device_variance": [one.value for one in found.figures.device_variance]}


def gradient_sq(task: Task, model: torch.nn.Module, held: Holdings, weights: np.ndarray) -> tuple[float, float]:
    """Squared norm of the task objective's gradient over all devices' samples, and the objective."""
    column = torch.from_numpy(np.repeat(weights / held.sizes, held.sizes))
    found = fused_gradient(model, task.loss, held.task, column)
    return found.norm_sq, found.loss


def run_cell(scenario: Scenario, task: Task, held: Holdings, cell: Cell, seed: int) -> tuple[float, float]:
    """The weighted average squared gradient norm over the rounds, and the last loss, of one run."""
    c = criteria.trajectory(scenario.convergence)
    weights = scenario.devices.weight
    model = task.build(seed).train()
    one = np.ones(1, dtype=np.int64)
    batches = np.minimum(cell.batch, held.sizes)
    crews = (
        (Stage.PRETRAIN, cell.pretrain_rounds, c.pretrain_weight, scenario.convergence.pretrain_step),
        (Stage.FINETUNE, cell.finetune_rounds, c.finetune_weight, scenario.convergence.finetune_step),
    )
    total, weight = 0.0, 0.0
    for stage, rounds, share, size in crews:
        if stage is Stage.PRETRAIN:
            crew = Crew.of(stage, held.general, one * len(held.general), one * cell.server_batch, np.ones(1))
        else:
            crew = Crew.of(stage, held.task, held.sizes, batches, weights)
        looks = {rounds * i // LOOKS for i in range(LOOKS)}
        norms = []
        for round_ in range(rounds):
            if round_ in looks:
                norms.append(gradient_sq(task, model, held, weights)[0])
            step(model, crew.gradient(model, task.loss, seed, round_ + 1), size)
        if rounds:
            total += share * rounds * float(np.mean(norms))
            weight += share * rounds
    return total / weight, gradient_sq(task, model, held, weights)[1]


def bounds_of(scenario: Scenario, found: dict[str, Any], cell: Cell) -> tuple[float, float]:
    """Both criteria for a cell, with the measured constants and the scenario's steps."""
    values = {key: found[key][0] for key in KEYS}
    whole = scenario.replace(
        convergence={
            **values,
            "finetune_variance": found["device_variance"],
            "pretrain_step": scenario.convergence.pretrain_step,
            "finetune_step": scenario.convergence.finetune_step,
        }
    )
    noise = criteria.device_noise(whole)
    batches = np.minimum(cell.batch, whole.devices.samples).astype(np.float64)
    rounds = (cell.pretrain_rounds, cell.finetune_rounds)
    return tuple(  # type: ignore[return-value]
        criteria.objective(make(whole.convergence), noise, *rounds, cell.server_batch, batches)
        for make in (criteria.trajectory, criteria.final)
    )


def main() -> None:
    """Measure, run and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("digits", "mnist-usps", "cifar10-corrupted"))
    only = parser.parse_args().only
    torch.set_num_threads(1)
    for name, scenario in scenarios().items():
        if only not in (None, name):
            continue
        task = load_task(scenario.task, EXAMPLES)
        held = hold(task, scenario)
        found = measured_constants(scenario, task)
        constants = [[name, key, *(f"{v:.4g}" for v in found[key])] for key in KEYS]
        runs, rows = [], []
        for cell in track(CELLS, description=name):
            seen = [run_cell(scenario, task, held, cell, seed) for seed in SEEDS]
            cells = [cell.pretrain_rounds, cell.finetune_rounds, cell.server_batch, cell.batch]
            runs += [[name, *cells, s, f"{a:.5g}", f"{b:.5g}"] for s, (a, b) in zip(SEEDS, seen, strict=True)]
            average, loss = (float(v) for v in np.mean(seen, axis=0))
            trajectory, final = bounds_of(scenario, found, cell)
            rows.append(
                [name, *cells, len(seen), f"{average:.4g}", f"{max(a for a, _ in seen):.4g}", f"{trajectory:.4g}",
                 f"{trajectory / average:.2f}", f"{loss:.4g}", f"{final:.4g}", f"{final / loss:.2f}"]
            )  # fmt: skip
        cell_keys = ["pretrain_rounds", "finetune_rounds", "server_batch", "batch"]
        write("bounds_constants", ["task", "constant", "value", "low", "high"], constants, name)
        write("bounds_runs", ["task", *cell_keys, "seed", "gradient_sq", "final_loss"], runs, name)
        head = ["task", *cell_keys, "seeds", "gradient_sq", "largest_gradient_sq", "trajectory", "trajectory_ratio"]
        write("bounds", [*head, "final_loss", "final", "final_ratio"], rows, name)


def write(name: str, head: list[str], rows: list[list[Any]], task: str) -> None:
    """Replace a task's rows in a table."""
    path = HERE / "results" / f"{name}.csv"
    kept = []
    if path.is_file():
        with open(path, encoding="utf-8", newline="") as file:
            kept = [row for row in list(csv.reader(file))[1:] if row[0] != task]
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *sorted([*kept, *rows], key=lambda row: row[0])])


if __name__ == "__main__":
    main()
