"""Constants measured along training: scenarios of three tasks and their figures, made once for all seeds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pretune.runtime.calibrate import Budget, calibrate
from pretune.runtime.load import load_task
from pretune.runtime.partition import Holdings, hold
from pretune.runtime.task import Task
from pretune.scenario import Scenario, load_scenario
from pretune.study import cache_folder, cached

EXAMPLES = Path(__file__).parents[2] / "examples"
SINGLE = ("smoothness", "initial_gap", "shift", "pretrain_variance", "pl_constant")
CALIBRATION_SEED = 100


def scenario_for(task: str) -> Scenario:
    """Digits and MNIST to USPS as in the examples; CIFAR-10 with ten devices of 200 samples and an MLP."""
    if task == "digits":
        return load_scenario(EXAMPLES / "digits.yaml")
    usps = load_scenario(EXAMPLES / "mnist_usps.yaml")
    if task == "mnist-usps":
        return usps
    rows = [{**row, "samples": 200, "weight": 0.1} for row in usps.to_dict()["devices"][:10]]
    return usps.replace(
        name=task,
        devices=rows,
        server=usps.server.model_copy(update={"samples": 5000}),
        task={"name": task, "corruption": "blur", "severity": 3, "model": {"kind": "mlp", "hidden": 64}},
    )


def data_of(scenario: Scenario) -> tuple[Task, Holdings]:
    """The task and who holds what of it."""
    task = load_task(scenario.task, EXAMPLES)
    return task, hold(task, scenario)


def measured(name: str, repetitions: int, samples: int) -> Scenario:
    """The task's scenario with the constants that `pretune calibrate` measures, from seeds that no run here has.

    `samples` of either side are looked at, at the most.
    """

    def make() -> dict[str, Any]:
        scenario = scenario_for(name)
        task, _ = data_of(scenario)
        with tempfile.TemporaryDirectory() as folder:
            budget = Budget(seconds=1e6, repetitions=repetitions, samples=samples)
            state = Path(folder) / "state.json"
            found = calibrate(scenario, state=state, budget=budget, seed=CALIBRATION_SEED, task=task).figures
        by_device = [float(one.value) for one in found.device_variance]
        return {**{key: float(found.single[key].value) for key in SINGLE}, "finetune_variance": by_device}

    key = {"what": "constants", "task": name, "repetitions": repetitions, "samples": samples}
    figures = cached(cache_folder(), key, make)
    scenario = scenario_for(name)
    steps = {name: getattr(scenario.convergence, name) for name in ("pretrain_step", "finetune_step")}
    return scenario.replace(convergence={**figures, **steps})
