"""Local steps: the bound beside real training, and which number of them is really the best at equal budgets.

    python experiments/local_steps.py         # writes experiments/results/local_*.csv; some minutes

The digits example, offline. Constants are those of `pretune calibrate`, seeds from 100 on; runs have the seeds 0 to 4.

`local_bounds.csv`: the squared gradient norm of the task objective over all devices' samples, at some ten rounds of
either stage, and there at the averaged model of every local step, weighted as in the theorem `local_average`; the mean
over the seeds beside the criterion's value with the measured constants.

`local_choice.csv`: for each number of local steps the value of its best plan by the bound (criterion `final`), that
plan's rounds, and the accuracy of running it; and the accuracy of `same`: the pre-training and the batches of the plan
with one local step, and as many fine-tuning rounds as the budgets then allow.
"""

from __future__ import annotations

import copy
import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bounds import EXAMPLES, KEYS, LOOKS, SEEDS, Cell, gradient_sq
from rich.progress import track

from pretune.convergence import criteria, drift
from pretune.ledger import Stage
from pretune.planner import plan
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.problem import build
from pretune.plans import Plan
from pretune.runtime.branches import Ground
from pretune.runtime.calibrate import Budget, calibrate
from pretune.runtime.gradient import step
from pretune.runtime.load import load_task
from pretune.runtime.local import Crew, LocalSteps
from pretune.runtime.task import Task
from pretune.scenario import Scenario, load_scenario

HERE = Path(__file__).parent
CELLS = (
    Cell(pretrain_rounds=200, finetune_rounds=100, server_batch=32, batch=4),
    Cell(pretrain_rounds=50, finetune_rounds=20, server_batch=128, batch=16),
    Cell(pretrain_rounds=0, finetune_rounds=100, server_batch=1, batch=2),
)
COUNTS = (1, 2, 4)
CHOICES = (1, 2, 4, 8)
STEPS = (0.05, 0.02, 0.005)


def measured(scenario: Scenario, task: Task) -> dict[str, Any]:
    """The constants that `pretune calibrate` measures on this scenario's path, the devices' variances one by one."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.json"
        found = calibrate(scenario, state=state, budget=Budget(seconds=1e6), seed=100, task=task).figures
    values = {key: found.single[key].value for key in (*KEYS, "heterogeneity")}
    return {**values, "finetune_variance": [one.value for one in found.device_variance]}


def with_constants(scenario: Scenario, values: dict[str, Any], **changes: Any) -> Scenario:
    """The scenario with measured constants."""
    part = scenario.convergence
    steps = {"pretrain_step": part.pretrain_step, "finetune_step": part.finetune_step}
    return scenario.replace(convergence={"criterion": "final", **values, **steps, **changes})


def crew_of(ground: Ground, batches: Any, count: int, size: float) -> Crew:
    """All devices, with `count` local steps (0: one gradient)."""
    local = LocalSteps(count=count, size=size) if count else None
    weights = ground.scenario.devices.weight
    return Crew.of(Stage.FINETUNE, ground.held.task, ground.held.sizes, batches, weights, local)


def average_of(ground: Ground, cell: Cell, count: int, seed: int, smoothness: float) -> float:
    """The left-hand side of `local_average` for one run."""
    constants, held, task = ground.scenario.convergence, ground.held, ground.task
    weights = ground.scenario.devices.weight
    size = constants.finetune_step
    model = task.build(seed).train()
    batches = np.minimum(cell.batch, held.sizes)
    one = np.ones(1, dtype=np.int64)
    total, weight = 0.0, 0.0
    server = Crew.of(Stage.PRETRAIN, held.general, one * len(held.general), one * cell.server_batch, np.ones(1))
    shares = [each.weight for each in drift.local_steps(smoothness, size, count)]
    for stage, rounds in ((Stage.PRETRAIN, cell.pretrain_rounds), (Stage.FINETUNE, cell.finetune_rounds)):
        first = stage is Stage.PRETRAIN
        crew = server if first else crew_of(ground, batches, count if count > 1 else 0, size)
        own = [constants.pretrain_step] if first else shares
        looks = {rounds * i // LOOKS for i in range(LOOKS)}
        seen = []
        for round_ in range(rounds):
            if round_ in looks:
                seen.append([])
                for e in range(len(own)):
                    there = copy.deepcopy(model)
                    if e:
                        part = crew_of(ground, batches, e, size)  # the batches of the round's own first local steps
                        step(there, part.gradient(model, task.loss, seed, round_ + 1), size)
                    seen[-1].append(gradient_sq(task, there, held, weights)[0])
            update = crew.gradient(model, task.loss, seed, round_ + 1)
            step(model, update, constants.pretrain_step if first else size)
        if rounds:
            total += rounds * float(np.array(own) @ np.mean(seen, axis=0))
            weight += rounds * sum(own)
    return total / weight


def bounds() -> list[list[Any]]:
    """The rows of local_bounds.csv."""
    rows = []
    for size in STEPS[:2]:
        scenario = _scenario(size)
        ground = Ground.of(scenario, load_task(scenario.task, EXAMPLES))
        values = measured(scenario, ground.task)
        for cell in track(CELLS, description=f"bounds, step {size}"):
            for count in COUNTS:
                whole = with_constants(scenario, values, local_steps=count, criterion="trajectory")
                batches = np.minimum(cell.batch, ground.held.sizes).astype(np.float64)
                bound = criteria.objective(
                    criteria.trajectory(whole.convergence), criteria.device_noise(whole),
                    cell.pretrain_rounds, cell.finetune_rounds, cell.server_batch, batches,
                )  # fmt: skip
                found = [average_of(ground, cell, count, seed, values["smoothness"]) for seed in SEEDS]
                mean = float(np.mean(found))
                rows.append(
                    [size, cell.pretrain_rounds, cell.finetune_rounds, cell.server_batch, cell.batch, count, len(found),
                     f"{values['smoothness'] * size:.3g}", f"{values['heterogeneity']:.4g}", f"{mean:.4g}",
                     f"{max(found):.4g}", f"{bound:.4g}", f"{bound / mean:.2f}"]
                )  # fmt: skip
    return rows


def _scenario(size: float) -> Scenario:
    scenario = load_scenario(EXAMPLES / "digits.yaml")
    return scenario.replace(convergence=scenario.convergence.model_copy(update={"finetune_step": size}))


def most_rounds(scenario: Scenario, of: Plan) -> int:
    """The most fine-tuning rounds beside the plan's pre-training, with its batches, that fit the budgets."""
    problem, _ = build(scenario)
    batches = of.finetune.batch.astype(np.float64)
    low = max(float(of.pretrain.batch), 1.0)
    fixed = problem.batches._replace(server_low=low, server_high=low, low=batches, high=batches.copy())

    def fits(rounds: int) -> bool:
        point = new_point(len(batches))
        return solve_fixed(problem, fixed, float(of.pretrain.rounds), float(rounds), 0.0, 0.0, point) == SOLVED

    most = 0
    for bit in reversed(range(14)):
        if fits(most + (1 << bit)):
            most += 1 << bit
    return most


def accuracy(ground: Ground, of: Plan, count: int, rounds: int, seed: int) -> float:
    """Test accuracy of a run of the plan with so many fine-tuning rounds of so many local steps."""
    model = ground.task.build(seed).train()
    for _, reached in ground.pretrain(seed, max(of.pretrain.batch, 1), [of.pretrain.rounds]):
        model = reached
    size = ground.scenario.convergence.finetune_step
    if rounds:
        crew = crew_of(ground, of.finetune.batch, count if count > 1 else 0, size)
        for round_ in range(rounds):
            step(model, crew.gradient(model, ground.task.loss, seed, round_ + 1), size)
    return float(ground.score(model).accuracy or 0.0)


def choice() -> list[list[Any]]:
    """The rows of local_choice.csv."""
    rows = []
    for size in STEPS:
        scenario = _scenario(size)
        ground = Ground.of(scenario, load_task(scenario.task, EXAMPLES))
        values = measured(scenario, ground.task)
        plans = {count: plan(with_constants(scenario, values, local_steps=count), tolerance=1e-3) for count in CHOICES}
        chosen = plan(with_constants(scenario, values, local_steps=list(CHOICES)), tolerance=1e-3)
        for count in track(CHOICES, description=f"choice, step {size}"):
            mine, one = plans[count], plans[1]
            reach = most_rounds(with_constants(scenario, values, local_steps=count), one)
            own = [accuracy(ground, mine, count, mine.finetune.rounds, seed) for seed in SEEDS]
            same = [accuracy(ground, one, count, reach, seed) for seed in SEEDS]
            rows.append(
                [size, count, int(chosen.finetune.local_steps == count), f"{mine.objective:.4g}", mine.pretrain.rounds,
                 mine.finetune.rounds, f"{100 * np.mean(own):.2f}", f"{100 * np.std(own, ddof=1):.2f}", reach,
                 f"{100 * np.mean(same):.2f}", f"{100 * np.std(same, ddof=1):.2f}"]
            )  # fmt: skip
    return rows


def write(name: str, head: list[str], rows: list[list[Any]]) -> None:
    """One table."""
    with open(HERE / "results" / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *rows])


def main() -> None:
    """Measure, run and write."""
    torch.set_num_threads(1)
    head = ["finetune_step", "pretrain_rounds", "finetune_rounds", "server_batch", "batch", "local_steps", "seeds"]
    head += ["smoothness_times_step", "heterogeneity", "gradient_sq", "largest_gradient_sq", "bound", "ratio"]
    write("local_choice", [
        "finetune_step", "local_steps", "chosen", "bound", "pretrain_rounds", "finetune_rounds", "accuracy",
        "accuracy_sd", "same_rounds", "same_accuracy", "same_accuracy_sd",
    ], choice())  # fmt: skip
    write("local_bounds", head, bounds())


if __name__ == "__main__":
    main()
