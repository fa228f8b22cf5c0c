"""Everything a run needs, checked and ready: model, data, crews, steps and charges of both stages."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from pretune.errors import InputError, PlanMismatch
from pretune.ledger import Stage
from pretune.plans import FinetuneStage, Plan, PretrainStage
from pretune.runtime.aggregate import MEAN, Aggregation, Combiner, Rule
from pretune.runtime.charges import Charge, charge_finetune, charge_pretrain
from pretune.runtime.fedavg import vectorises
from pretune.runtime.gradient import probe, trainable
from pretune.runtime.hands import Hands, Together
from pretune.runtime.local import Crew, LocalSteps
from pretune.runtime.partition import hold
from pretune.runtime.private import private_mean
from pretune.runtime.task import Task
from pretune.scenario import Scenario
from pretune.stages import labelled
from pretune.uncertainty import counted

EVALUATIONS = 50
"""About how many times a run evaluates, unless told otherwise (besides the start and the end of each stage)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StageJob:
    """One stage, or one segment of it: its rounds, its step size, who computes, and what a round costs.

    `before` counts the stage's rounds in earlier segments, `last` is the last round of the whole stage. `combine`:
    what is done with the devices' gradients, where it is not their weighted mean.
    """

    stage: Stage
    rounds: int
    step: float
    crew: Crew
    charge: Charge
    before: int
    last: int
    combine: Combiner | None = None

    @property
    def words(self) -> str:
        """The stage in a sentence."""
        return "pre-training" if self.stage is Stage.PRETRAIN else "fine-tuning"


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A run about to happen. `stages` leaves out a stage without rounds and has an entry for each segment of one.

    `coupled`: see `gradient.probe`. `hands` and `together`: who computes in a steered run, where it is not this process
    alone.
    """

    plan: Plan
    scenario: Scenario
    task: Task
    seed: int
    evaluate_every: int
    model: nn.Module
    coupled: bool
    stages: tuple[StageJob, ...]
    aggregation: Aggregation = MEAN
    hands: Hands | None = None
    together: Together | None = None

    @property
    def rounds(self) -> int:
        """Rounds of both stages together."""
        return sum(stage.rounds for stage in self.stages)

    def evaluates(self, stage: StageJob, round_: int) -> bool:
        """Whether the model is evaluated after this round."""
        return round_ % self.evaluate_every == 0 or round_ == stage.last


def make_job(
    plan: Plan,
    scenario: Scenario,
    task: Task,
    *,
    seed: int,
    evaluate_every: int | None,
    aggregation: Aggregation = MEAN,
) -> Job:
    """Check everything and deal out the data.

    Raises:
        PlanMismatch: the plan was made for another scenario.
        InputError: the plan can't be run, or does not fit the data or the model.
    """
    pretrain, finetune = check_runnable(plan, scenario)
    if not 0 <= seed < 2**63:
        raise InputError.field("seed", seed, "a whole number from 0 to 2^63 - 1")
    if evaluate_every is None:
        evaluate_every = max(1, math.ceil((pretrain.rounds + finetune.rounds) / EVALUATIONS))
    if evaluate_every < 1:
        raise InputError.field("evaluate_every", evaluate_every, "a whole number >= 1")
    model = task.build(seed)
    model.train()
    coupled = probe(model, task.loss, task.train)
    if coupled and aggregation.rule is not Rule.MEAN:
        should = "mean: in a model with batch norm the devices' gradients are not all that they send"
        raise InputError.field("aggregation", aggregation.text, should)
    if (finetune.local_steps or 1) > 1 and aggregation.rule is not Rule.MEAN:
        raise InputError.field(
            "aggregation", aggregation.text, "mean: with several local steps it is known for no other"
        )
    combine: Combiner | None = None if aggregation.rule is Rule.MEAN else aggregation
    if scenario.privacy is not None and finetune.rounds:
        combine = private_mean(
            scenario.privacy,
            finetune.rounds,
            float(scenario.devices.weight.max()),
            seed=seed,
            parameters=sum(parameter.numel() for parameter in trainable(model)),
            coupled=coupled,
            aggregation=aggregation,
        )
    held = hold(task, scenario)
    priced = counted(scenario, plan.under)
    stages = []
    before = 0
    for part in pretrain.parts:
        batch, sizes = np.array([part.batch]), np.array([len(held.general)])
        stages.append(
            StageJob(
                stage=Stage.PRETRAIN,
                rounds=part.rounds,
                step=_step(scenario, "pretrain_step"),
                crew=Crew.of(Stage.PRETRAIN, held.general, sizes, batch, np.ones(1)),
                charge=charge_pretrain(scenario, part, int(batch.sum())),
                before=before,
                last=pretrain.rounds,
            )
        )
        before += part.rounds
    before = 0
    for piece in finetune.parts:
        local, size = None, _step(scenario, "finetune_step")
        if (piece.local_steps or 1) > 1:
            fused = not coupled and vectorises(model, task.loss, task.train)
            local = LocalSteps(count=piece.local_steps or 1, size=size, fused=fused)
        crew = Crew.of(Stage.FINETUNE, held.task, held.sizes, piece.batch, scenario.devices.weight, local)
        stages.append(
            StageJob(
                stage=Stage.FINETUNE,
                rounds=piece.rounds,
                step=size,
                crew=crew,
                charge=charge_finetune(priced, piece, crew.batch),
                before=before,
                last=finetune.rounds,
                combine=combine,
            )
        )
        before += piece.rounds
    return Job(
        plan=plan,
        scenario=scenario,
        task=task,
        seed=seed,
        evaluate_every=evaluate_every,
        model=model,
        coupled=coupled,
        stages=tuple(stages),
        aggregation=aggregation,
    )


def check_runnable(plan: Plan, scenario: Scenario) -> tuple[PretrainStage, FinetuneStage]:
    """The plan's two stages, if it has decisions, they are this scenario's, and its data sets are large enough.

    Limits of energy, delay, clocks and powers are `pretune check`'s business.
    """
    if plan.scenario_sha256 != scenario.sha256:
        raise PlanMismatch.field(
            "plan.scenario_sha256", plan.scenario_sha256, f"that of this scenario, {scenario.sha256[:12]}..."
        )
    if not plan.status.has_plan or plan.pretrain is None or plan.finetune is None:
        raise InputError.field("plan.status", plan.status.value, "a status with a plan to run")
    pretrain, finetune = plan.pretrain, plan.finetune
    scenario.settled(finetune.local_steps)  # refuses a number that is none of the scenario's
    if pretrain.rounds < 0 or finetune.rounds < 0 or pretrain.rounds + finetune.rounds == 0:
        rounds = f"{pretrain.rounds} and {finetune.rounds}"
        raise InputError.field("plan: rounds of the two stages", rounds, "at least one round in all")
    limit, whose = int(scenario.server.samples), "server.samples"
    for path, part in labelled("plan.pretrain", pretrain):
        _check_batch(f"{path}.batch", part.batch, limit, whose)
    fleet = scenario.devices
    for path, piece in labelled("plan.finetune", finetune):
        if tuple(piece.names) != tuple(fleet.names):
            raise PlanMismatch(f"{path}.devices: are other devices than the scenario's, or in another order")
        for k, (batch, samples) in enumerate(zip(piece.batch.tolist(), fleet.samples.tolist(), strict=True)):
            _check_batch(f"{path}.devices[{k}].batch", batch, int(samples), f"the samples of {fleet.names[k]}")
    return pretrain, finetune


def identity(job: Job, threads: int) -> Mapping[str, Any]:
    """What makes this run this run (run.json)."""
    found: dict[str, Any] = {
        "pretune": 1,
        "plan_sha256": _sha256(job.plan.to_json()),
        "scenario_sha256": job.scenario.sha256,
        "seed": job.seed,
        "evaluate_every": job.evaluate_every,
        "task": job.task.name,
        "task_sha256": job.task.fingerprint(),
        "parameters": sum(parameter.numel() for parameter in job.model.parameters()),
        "threads": threads,
    }
    if job.aggregation.rule is not Rule.MEAN:
        found["aggregation"] = job.aggregation.text
    return found


def _check_batch(path: str, batch: int, limit: int, whose: str) -> None:
    if not 1 <= batch <= limit:
        raise InputError.field(path, batch, f"a whole number from 1 to {limit} ({whose})")


def _step(scenario: Scenario, name: str) -> float:
    value = getattr(scenario.convergence, name)
    if value is None:
        raise InputError(f"convergence.{name}: is missing, and a run needs it")
    return float(value)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
