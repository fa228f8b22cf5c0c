"""Models trained with the rounds that policies carried out: `reality.py`'s measured loss and accuracy."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from common import HERE
from reality_policies import Ran

from pretune.ledger import Stage
from pretune.runtime.evaluate import evaluate
from pretune.runtime.gradient import step
from pretune.runtime.live import crew_of
from pretune.runtime.load import load_task
from pretune.runtime.local import Crew
from pretune.runtime.partition import Holdings, hold
from pretune.runtime.task import Task
from pretune.scenario import Scenario


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Move:
    batch: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Done:
    done: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Known:
    """A round as `crew_of` takes one."""

    move: _Move
    outcome: _Done
    shares: Any


class Learner:
    """Trains what policies carried out; pre-training that several have in common is done once."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.task: Task = load_task(scenario.task, HERE)
        self.held: Holdings = hold(self.task, scenario)
        self.pretrained: dict[tuple[int, tuple[int, ...]], dict[str, Any]] = {}

    def learnt(self, ran: Ran, seed: int) -> tuple[float, float]:
        """Test loss and accuracy of the model that the run's rounds make."""
        task, held, c = self.task, self.held, self.scenario.convergence
        model = task.build(seed)
        model.train()
        key = seed, tuple(ran.pretrain)
        if key not in self.pretrained:
            size = np.array([len(held.general)])
            for number, batch in enumerate(ran.pretrain, start=1):
                crew = Crew.of(Stage.PRETRAIN, held.general, size, np.array([batch]), np.ones(1))
                step(model, crew.gradient(model, task.loss, seed, number), float(c.pretrain_step or 0.0))
            self.pretrained[key] = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.pretrained[key])
        for number, (shares, batch) in enumerate(zip(ran.shares, ran.batches, strict=True), start=1):
            done = shares > 0.0
            if done.any():
                one: Any = _Known(move=_Move(batch=batch), outcome=_Done(done=done), shares=shares)
                gradient = crew_of(held, one, None).gradient(model, task.loss, seed, number)
                step(model, gradient, float(c.finetune_step or 0.0))
        score = evaluate(model, task.loss, task.test)
        return score.loss, float(score.accuracy or 0.0)
