"""Training that branches: one pre-training path, and fine-tuning from several of its models.

A run of a plan (`run.py`) is one path through both stages. Here many share their first stage: with the same seed and
the same batches every branch is, to the bit, the run that a plan with these decisions would give, because the samples
of a round are a function of seed, stage and round alone (`sampling.py`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from pretune.errors import RunFailed
from pretune.ledger import Stage
from pretune.physics.types import Ints
from pretune.runtime.evaluate import Score, evaluate
from pretune.runtime.gradient import probe, step
from pretune.runtime.local import Crew
from pretune.runtime.partition import Holdings, hold
from pretune.runtime.task import Task
from pretune.scenario import Scenario

Beat = Callable[[int], None]
"""Told how many rounds have been done since it was last called."""
_BEAT = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """What all branches of a scenario share: the task, its data dealt out, and whether samples influence each other."""

    scenario: Scenario
    task: Task
    held: Holdings
    coupled: bool

    @staticmethod
    def of(scenario: Scenario, task: Task) -> Ground:
        """Deal out the data.

        Raises:
            InputError: the task does not fit the scenario, or its model can't be trained.
        """
        model = task.build(0).train()
        return Ground(
            scenario=scenario, task=task, held=hold(task, scenario), coupled=probe(model, task.loss, task.train)
        )

    def score(self, model: nn.Module) -> Score:
        """How good a model is on the task's test samples."""
        return evaluate(model, self.task.loss, self.task.test)

    def pretrain(
        self, seed: int, batch: int, marks: Sequence[int], beat: Beat | None = None
    ) -> Iterator[tuple[int, nn.Module]]:
        """The model after each of the rising rounds `marks` of pre-training (a copy; 0 is the untrained model).

        Raises:
            RunFailed: the path leaves the finite numbers.
        """
        model = self.task.build(seed).train()
        sizes, batches = np.array([len(self.held.general)]), np.array([batch])
        crew = Crew.of(Stage.PRETRAIN, self.held.general, sizes, batches, np.ones(1))
        step_size = self.scenario.convergence.pretrain_step
        for mark in self._walk(model, crew, step_size, seed, marks, beat):
            yield mark, copy.deepcopy(model)

    def finetune(
        self, start: nn.Module, seed: int, batches: Ints, marks: Sequence[int], beat: Beat | None = None
    ) -> Iterator[tuple[int, nn.Module]]:
        """The model after each of the rising rounds `marks` of fine-tuning from `start`, which is left unchanged.

        `batches` has shape (K,). What is given out is the model itself: look at it before going on.

        Raises:
            RunFailed: the path leaves the finite numbers.
        """
        model = copy.deepcopy(start)
        weights = self.scenario.devices.weight
        crew = Crew.of(Stage.FINETUNE, self.held.task, self.held.sizes, batches, weights)
        for mark in self._walk(model, crew, self.scenario.convergence.finetune_step, seed, marks, beat):
            yield mark, model

    def _walk(
        self, model: nn.Module, crew: Crew, step_size: float, seed: int, marks: Sequence[int], beat: Beat | None
    ) -> Iterator[int]:
        told = done = 0
        for mark in marks:
            for round_ in range(done + 1, mark + 1):
                gradient = crew.gradient(model, self.task.loss, seed, round_, coupled=self.coupled)
                if not (gradient.finite and math.isfinite(gradient.loss)):
                    words = "pre-training" if crew.stage is Stage.PRETRAIN else "fine-tuning"
                    raise RunFailed(
                        f"a pilot run diverged at {words} round {round_}: "
                        f"a smaller convergence.{crew.stage.value}_step may help"
                    )
                step(model, gradient, step_size)
                if beat is not None and (round_ % _BEAT == 0 or round_ == mark):
                    beat(round_ - told)
                    told = round_
            done = mark
            yield mark
