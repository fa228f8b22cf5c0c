"""Decision regret: the plan's run beside the best of an exhaustive grid of real runs within the same budgets.

    python experiments/regret.py --task digits          # after experiments/prediction.py, which makes the pilot runs

For every budget pair:

1. The plans of four criteria: the law fitted to the test loss of the pilot runs, the one fitted to their test error,
   `final`, and `trajectory`.
2. A grid over (M, N). Each cell's batches are the planner's optimum for these rounds, with the server's batch rounded
   down to a power of two, so that cells share their pre-training; what that leaves over goes to the devices. All cells
   keep the budgets.
3. Every cell and plan is run with five seeds. The best cell is the one with the highest mean test accuracy.
4. That maximum over many noisy means is too high by itself. So the best cell and the plans are run again with
   fresh seeds (five, with `cifar` three), which is the fair comparison; both are written down.

The runs are those that `pretune run` would make with the same seed. Writes ``results/regret_runs_TASK.csv`` (one row a
run) and ``results/regret_TASK.csv`` (one row a budget pair and plan).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from common import RESULTS, Ticker, ground_of, mean, write_rows
from torch import nn

from pretune.convergence.design import design_for
from pretune.convergence.fit import fit
from pretune.errors import PretuneError
from pretune.planner import plan
from pretune.planner.kernels.fixed import new_point
from pretune.planner.problem import build
from pretune.planner.search import Search
from pretune.planner.write import with_margin
from pretune.runtime.branches import Ground
from pretune.runtime.pilot import points_of, run_pilot, with_law
from pretune.scenario import Scenario

BUDGETS = {
    "digits": ((0.1, 1.0), (0.25, 2.5), (0.5, 2.5), (1.0, 4.0), (1.0, 1.5)),
    "mnist-usps": ((5.0, 20.0), (10.0, 20.0), (20.0, 20.0), (20.0, 60.0)),
    "cifar": ((50.0, 100.0), (100.0, 100.0), (100.0, 200.0), (200.0, 300.0)),
}
"""Joules and seconds."""
GRIDS = {
    "digits": ((0, 60, 125, 250, 500, 1000, 2000, 4000), (0.0, 0.15, 0.4, 0.6, 0.8, 0.93, 1.0)),
    "mnist-usps": ((0, 60, 250, 500, 1000, 2000, 4000), (0.0, 0.15, 0.4, 0.6, 0.8, 0.93, 1.0)),
    "cifar": ((0, 500, 2000, 4000), (0.0, 0.5, 0.8, 1.0)),
}
"""Pre-training rounds, and fine-tuning rounds as shares of the most that fit beside them."""
SEEDS = tuple(range(100, 105))
FRESH = {"digits": tuple(range(200, 205)), "mnist-usps": tuple(range(200, 205)), "cifar": tuple(range(200, 203))}
PILOT = 0
LONGEST = 20000
"""Plans with more rounds than that are not run (none was)."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Rounds and batches within a budget pair: a cell of the grid, or a plan."""

    budget: tuple[float, float]
    source: str
    pretrain: int
    finetune: int
    server_batch: int
    batches: tuple[int, ...]


def main() -> int:
    """Plan, run, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", required=True)
    options = parser.parse_args()
    try:
        scenario, ground = ground_of(options.task)
        choices = choices_of(scenario, ground, options.task)
        print(f"{len(choices)} cells and plans over {len(BUDGETS[options.task])} budget pairs")
        table = run_all(ground, choices, SEEDS)
        best = {
            budget: max(
                (c for c in choices if c.budget == budget),
                key=lambda c: mean(accuracy for _, accuracy in table[c].values()),
            )
            for budget in BUDGETS[options.task]
        }
        again = [c for c in choices if c.source != "grid" or c in best.values()]
        for choice, held in run_all(ground, again, FRESH[options.task]).items():
            table[choice].update(held)
        save(options.task, choices, table, best)
    except PretuneError as error:
        sys.exit(str(error))
    return 0


def choices_of(scenario: Scenario, ground: Ground, task: str) -> list[Choice]:
    """The plans and the grid of every budget pair."""
    design = design_for(scenario, seed=PILOT)
    file = RESULTS / f"pilot_{task}_{PILOT}.json"
    pilot = run_pilot(scenario, file=file, design=design, measure="loss", task=ground.task)
    by_error = fit(points_of(pilot.rows, "error", samples=len(ground.task.test)), measure="error")
    part = scenario.convergence
    constants = {key: getattr(part, key) for key in part.model_fields_set}
    variants = {
        "calibrated (loss)": with_law(scenario, pilot.law),
        "calibrated (error)": with_law(scenario, by_error.law),
        "final": scenario.replace(convergence={**constants, "criterion": "final"}),
        "trajectory": scenario.replace(convergence={**constants, "criterion": "trajectory"}),
    }
    found = []
    for budget in BUDGETS[task]:
        for source, variant in variants.items():
            made = plan(variant.with_budget(energy_j=budget[0], delay_s=budget[1]), time_limit=30.0)
            assert made.pretrain is not None
            assert made.finetune is not None
            if made.pretrain.rounds + made.finetune.rounds <= LONGEST:
                found.append(
                    Choice(
                        budget=budget,
                        source=source,
                        pretrain=made.pretrain.rounds,
                        finetune=made.finetune.rounds,
                        server_batch=made.pretrain.batch if made.pretrain.rounds else 0,
                        batches=tuple(int(b) for b in made.finetune.batch),
                    )
                )
        found += grid_of(variants["calibrated (loss)"].with_budget(energy_j=budget[0], delay_s=budget[1]), budget, task)
    return found


def grid_of(scenario: Scenario, budget: tuple[float, float], task: str) -> list[Choice]:
    """The cells of one budget pair that fit."""
    cells: dict[tuple[int, int], Choice] = {}
    stops, shares = GRIDS[task]
    for m in stops:
        most = 0
        while _cell(scenario, budget, m, max(2 * most, 1)) is not None:
            most = max(2 * most, 1)
        low, high = most, 2 * most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _cell(scenario, budget, m, middle) is not None else (low, middle)
        for share in shares:
            n = round(share * low)
            cell = _cell(scenario, budget, m, n) if (m or n) and (m, n) not in cells else None
            if cell is not None:
                cells[m, n] = cell
    return list(cells.values())


def _cell(scenario: Scenario, budget: tuple[float, float], m: int, n: int) -> Choice | None:
    """The planner's batches at fixed rounds, the server's rounded down to a power of two; None if nothing fits."""
    problem = with_margin(build(scenario)[0])
    search = Search(problem, 1e-4, math.inf)
    search.warm = new_point(problem.devices.cycles.size)
    search.best = None
    search.solve((m, n))
    if search.best is None:
        return None
    batch = 2 ** int(math.log2(max(int(search.best.server_batch), 1))) if m else 0
    if m:
        search.best = None
        search.solve((m, n), problem.batches._replace(server_low=float(batch), server_high=float(batch)))
        if search.best is None:
            return None
    devices = tuple(int(b) for b in search.best.batches) if n else ()
    return Choice(budget=budget, source="grid", pretrain=m, finetune=n, server_batch=batch, batches=devices)


Table = dict[Choice, dict[int, tuple[float, float]]]


def run_all(ground: Ground, choices: list[Choice], seeds: tuple[int, ...]) -> Table:
    """Test loss and accuracy of every choice with every seed; choices share what they have in common."""
    paths: dict[int, set[int]] = defaultdict(set)
    for c in choices:
        paths[c.server_batch if c.pretrain else 1].add(c.pretrain)
    total = sum(max(stops) for stops in paths.values())
    total += sum(max(n) for n in _tails(choices).values())
    beat = Ticker("runs", total * len(seeds))
    table: Table = {c: {} for c in choices}
    for seed in seeds:
        for batch, stops in paths.items():
            for stop, model in ground.pretrain(seed, batch, sorted(stops), beat):
                here = [c for c in choices if c.pretrain == stop and (c.server_batch if stop else 1) == batch]
                _finetune(ground, model, seed, here, table, beat)
    return table


def _tails(choices: list[Choice]) -> dict[tuple[int, int, tuple[int, ...]], set[int]]:
    """Fine-tuning rounds by what comes before them and the batches."""
    tails: dict[tuple[int, int, tuple[int, ...]], set[int]] = defaultdict(set)
    for c in choices:
        tails[c.pretrain, c.server_batch, c.batches if c.finetune else ()].add(c.finetune)
    return tails


def _finetune(ground: Ground, model: nn.Module, seed: int, here: list[Choice], table: Table, beat: Ticker) -> None:
    for (_, _, batches), marks in _tails(here).items():
        if not batches:
            score = ground.score(model)
            for c in here:
                if c.finetune == 0:
                    table[c][seed] = (score.loss, score.accuracy or 0.0)
            continue
        for mark, tuned in ground.finetune(model, seed, np.array(batches), sorted(marks), beat):
            score = ground.score(tuned)
            for c in here:
                if c.finetune == mark and c.batches == batches:
                    table[c][seed] = (score.loss, score.accuracy or 0.0)


def save(task: str, choices: list[Choice], table: Table, best: dict[tuple[float, float], Choice]) -> None:
    """Both tables."""
    rows = [
        {
            "energy_j": c.budget[0],
            "delay_s": c.budget[1],
            "source": c.source,
            "pretrain": c.pretrain,
            "finetune": c.finetune,
            "server_batch": c.server_batch,
            "device_samples": sum(c.batches),
            "seed": seed,
            "loss": loss,
            "accuracy": accuracy,
        }
        for c in choices
        for seed, (loss, accuracy) in sorted(table[c].items())
    ]
    write_rows(RESULTS / f"regret_runs_{task}.csv", rows)

    def accuracy_of(c: Choice, seeds: tuple[int, ...]) -> float:
        return 100.0 * mean(table[c][seed][1] for seed in seeds)

    summary = []
    for budget, top in best.items():
        plans = [c for c in choices if c.budget == budget and c.source != "grid"]
        for i, c in enumerate([top, *plans]):
            source = c.source if i else "best of all"
            summary.append(
                {
                    "energy_j": budget[0],
                    "delay_s": budget[1],
                    "source": source,
                    "pretrain": c.pretrain,
                    "finetune": c.finetune,
                    "server_batch": c.server_batch,
                    "device_samples": sum(c.batches),
                    "cells": sum(other.budget == budget and other.source == "grid" for other in choices),
                    "accuracy": accuracy_of(c, SEEDS),
                    "accuracy_fresh": accuracy_of(c, FRESH[task]),
                    "regret": accuracy_of(top, SEEDS) - accuracy_of(c, SEEDS),
                    "regret_fresh": accuracy_of(top, FRESH[task]) - accuracy_of(c, FRESH[task]),
                }
            )
    write_rows(RESULTS / f"regret_{task}.csv", summary)
    for row in summary:
        print({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()})


if __name__ == "__main__":
    sys.exit(main())
