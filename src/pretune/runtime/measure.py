"""The convergence constants of a scenario, measured on its own task, data and partition."""

from __future__ import annotations

import os
from pathlib import Path

from pretune.convergence.constants import Constants, EstimateSettings
from pretune.convergence.estimate import estimate
from pretune.runtime.load import load_task
from pretune.runtime.partition import hold
from pretune.runtime.task import Task
from pretune.scenario import Scenario


def measure(
    scenario: Scenario,
    *,
    base: str | os.PathLike[str] | None = None,
    settings: EstimateSettings | None = None,
    seed: int = 0,
    task: Task | None = None,
) -> Constants:
    """Measure what the scenario's `convergence` and `workload` sections should hold.

    The path begins at the model that `run` with the same `seed` begins with, and takes the scenario's steps; the
    devices hold the samples they hold in a run. Arguments as for `run`.

    Raises:
        InputError: the task can't be used or can't be measured.
    """
    if task is None:
        task = load_task(scenario.task, None if base is None else Path(base))
    held = hold(task, scenario)
    devices = [held.of(k) for k in range(len(held.sizes))]
    return estimate(
        task.build(seed),
        task.loss,
        general=(held.general.x, held.general.y),
        devices=[(data.x, data.y) for data in devices],
        weights=scenario.devices.weight,
        pretrain_step=scenario.convergence.pretrain_step,
        finetune_step=scenario.convergence.finetune_step,
        settings=settings,
        seed=seed,
    )
