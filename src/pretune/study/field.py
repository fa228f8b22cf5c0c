"""A setting's data dealt out, the runs on it, and how good their models are on either half of the test samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from pretune.errors import RunFailed
from pretune.runtime.branches import Ground
from pretune.runtime.evaluate import evaluate
from pretune.runtime.load import load_task
from pretune.runtime.task import Samples, Task
from pretune.scenario import Scenario
from pretune.study.fleets import Setting, scenario_of

VALIDATION, TEST = 1000, 4000
"""At most so many test samples are used for either half."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """A setting's data dealt out: runs are validated on `ground`'s task, and judged by `test`."""

    ground: Ground
    test: Samples

    def at(self, step: float) -> Ground:
        """The ground with this step size in both stages."""
        return replace(self.ground, scenario=with_step(self.ground.scenario, step))


def with_step(scenario: Scenario, step: float) -> Scenario:
    """The scenario with this step in both stages; the smoothness is lowered where it forbids it (no law uses it)."""
    part = scenario.convergence
    same = {key: getattr(part, key) for key in part.model_fields_set}
    smoothness = min(part.smoothness, 1.0 / step)
    same |= {"smoothness": smoothness, "pretrain_step": step, "finetune_step": step}
    if part.pl_constant is not None:
        same["pl_constant"] = min(part.pl_constant, smoothness)
    return scenario.replace(convergence=same)


@lru_cache(maxsize=2)
def _task(key: str, setting: Setting) -> Task:
    return load_task(setting.section)


@lru_cache(maxsize=3)
def field_of(setting: Setting) -> Field:
    """Load a setting's data, split its test samples into halves and deal out the rest.

    Raises:
        InputError: the data are not there (PRETUNE_DATA names their folder).
    """
    torch.set_num_threads(1)
    section = {key: value for key, value in setting.section.items() if key != "partition"}
    task = _task(repr(sorted(section.items(), key=str)), Setting(task=setting.task, rotation_deg=setting.rotation_deg))
    order = np.random.default_rng(4).permutation(len(task.test))
    half = min(VALIDATION, len(order) // 2)
    known, unseen = order[:half], order[half : half + TEST]
    scenario = scenario_of(setting)
    ground = Ground.of(scenario, replace(task, test=task.test.take(known)))
    return Field(ground=ground, test=task.test.take(unseen))


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Mean loss and share of right answers."""

    loss: float
    accuracy: float


def scores(
    field: Field, step: float, seed: int, server_batch: int, pretrain: int, batches: Any, finetune: int
) -> tuple[Scored, Scored]:
    """A run's scores on the validation and the test half; a run that leaves the finite numbers knows nothing."""
    try:
        *_, model = (m for _, m in path(field, step, seed, server_batch, [pretrain], batches, [finetune]))
    except RunFailed:
        nothing = Scored(loss=1e6, accuracy=0.1)
        return nothing, nothing
    task = field.ground.task
    return tuple(scored(model, task, part) for part in (task.test, field.test))  # type: ignore[return-value]


def scored(model: torch.nn.Module, task: Task, samples: Samples) -> Scored:
    """A model's scores on samples; a loss that is no number, or huge, is a million."""
    score = evaluate(model, task.loss, samples)
    loss = min(score.loss, 1e6) if math.isfinite(score.loss) else 1e6
    return Scored(loss=loss, accuracy=score.accuracy or 0.0)


def path(
    field: Field,
    step: float,
    seed: int,
    server_batch: int,
    pretrain: Sequence[int],
    batches: Any,
    finetune: Sequence[int],
) -> Iterator[tuple[tuple[int, int], torch.nn.Module]]:
    """The models along one run, at rounds of either stage; marks rise, the last pre-training one ends that stage."""
    ground = field.at(step)
    for m, model in ground.pretrain(seed, max(server_batch, 1), pretrain):
        if m < pretrain[-1] or not finetune[-1]:
            yield (m, 0), model
    if finetune[-1]:
        for n, tuned in ground.finetune(model, seed, np.asarray(batches), finetune):
            yield (m, n), tuned
