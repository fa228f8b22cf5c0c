"""A run under changing conditions: the same two stages, every round decided when it begins (`pretune.control`).

    1. what is to be done next, checked against the budgets     3. the step, weighted so that nobody's absence biases it
    2. the gradients of those that answer in time               4. what it cost, what was learnt, perhaps a new plan

It ends when all rounds are done or when another round might break a budget; in the latter case the model that is kept
is the best one by the evaluations made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pretune.control.absence import really
from pretune.control.moves import Move
from pretune.control.noise import Look
from pretune.control.outlook import Outlook
from pretune.control.rules import Replan, Rules, ServerMove, Stop
from pretune.control.simulate import steer
from pretune.control.steering import Round, Steering
from pretune.errors import InputError, RunFailed
from pretune.ledger import RoundRecord, Stage
from pretune.lines import REPLANS, ROUNDS, LineBook
from pretune.physics import cost
from pretune.physics.types import Floats
from pretune.planning import Under
from pretune.reality import Reality
from pretune.runtime.charges import CAUSES
from pretune.runtime.evaluate import Score, evaluate
from pretune.runtime.fedavg import vectorises
from pretune.runtime.folder import BEST, RunFolder
from pretune.runtime.gradient import Gradient, all_finite, step
from pretune.runtime.halves import halved_gradient
from pretune.runtime.job import Job
from pretune.runtime.journal import Journal
from pretune.runtime.keeping import Keeper
from pretune.runtime.local import Crew, LocalSteps
from pretune.runtime.partition import Holdings, hold
from pretune.runtime.replan import Replanner
from pretune.uncertainty import counted, planned_under

Fail = Callable[[str, int, str], Exception]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a steered run ended. `best` is the record whose model is kept, where that is not the last one."""

    stop: Stop
    best: RoundRecord | None
    causes: dict[str, dict[str, dict[str, float]]]


def check_steered(job: Job) -> None:
    """Refuse what is not known to go together with a steered run."""
    if job.scenario.privacy is not None:
        raise InputError("privacy: is not known to hold in a run under changing conditions; leave either out")
    if any(stage.combine is not None for stage in job.stages):
        should = "mean in a run under changing conditions: only for it is known how to make up for absent devices"
        raise InputError.field("aggregation", job.aggregation.text, should)


class Live:
    """A steered run on its way: the steering, its books, and the crews."""

    def __init__(self, job: Job, rules: Rules, folder: RunFolder, journal: Journal) -> None:
        if job.plan.finetune is None or job.plan.pretrain is None:
            raise InputError.field("plan.status", job.plan.status.value, "a status with a plan to run")
        scenario = job.scenario.settled(job.plan.finetune.local_steps)
        if rules.replan is not Replan.OFF and scenario.schedule > 1:
            raise InputError.field("--replan", rules.replan.value, "off for a plan with segments (schedule)")
        if rules.replan is not Replan.OFF and scenario.radio.shares_decided:
            raise InputError.field("--replan", rules.replan.value, "off where the band's shares are decisions")
        self.job, self.rules, self.journal, self.folder = job, rules, journal, folder
        seen = journal.extra or {}
        self.causes = seen.get("causes") or {
            stage.value: {cause: {"time_s": 0.0, "energy_j": 0.0} for cause in (*CAUSES, "waiting")}
            for stage in (Stage.PRETRAIN, Stage.FINETUNE)
        }
        variation = scenario.variation
        reality = Reality.of(scenario, job.seed + (0 if variation is None else variation.seed))
        planner = Replanner(scenario) if rules.replan is not Replan.OFF else None
        self.steering = steer(scenario, job.plan, rules, reality, planner=planner)
        if "steering" in seen:
            self.steering.restore(seen["steering"])
        self.held = hold(job.task, scenario)
        self.local = _local(job)
        self.planned = _planned(job)
        lines = seen.get("lines", {})
        self.replans = LineBook(folder.path / REPLANS, int(lines.get(REPLANS, 0)), live=True)
        self.rounds = LineBook(folder.path / ROUNDS, int(lines.get(ROUNDS, 0)))
        self.steering.log = self.replans.enter
        self.keeper = Keeper(job.model, folder, journal)
        hands, keeper = job.hands, self.keeper
        if hands is not None:
            self.steering.ready = lambda: hands.ready(keeper.enter)
        if not job.coupled and self.local is None and job.together is None:
            self.steering.estimate()  # real devices and other processes send whole gradients: no look at those
        journal.before_checkpoint = self.sync

    @property
    def outlook(self) -> Outlook:
        """What was known before."""
        return self.steering.outlook

    def extra(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the model and the ledger."""
        return {
            "steering": self.steering.state(),
            "lines": {REPLANS: self.replans.count, ROUNDS: self.rounds.count},
            # a copy: what is added for the next round must not change this one's
            "causes": json.loads(json.dumps(self.causes)),
        }

    def sync(self) -> None:
        """Bring the books to the disk."""
        self.replans.sync()
        self.rounds.sync()

    def close(self) -> None:
        """Let go of the books."""
        self.replans.close()
        self.rounds.close()

    def server_gradient(self, move: ServerMove, round_: int) -> tuple[Gradient, Look | None]:
        """A pre-training round, and the look at its noise where such looks are of use."""
        batch, size = np.array([move.batch]), np.array([len(self.held.general)])
        crew = Crew.of(Stage.PRETRAIN, self.held.general, size, batch, np.ones(1))
        found, together = None, self.job.together
        if together is not None:
            found = together.compute(round_, crew.batch_of(self.job.seed, round_))
            if self.steering.standing.pretrain_left == 1:
                together.close()
        if found is not None:
            return found, None
        return self._computed(crew, round_, np.array([self.outlook.scenario.assumed.pretrain_variance]))

    def gradient(self, done: Round, round_: int) -> tuple[Gradient | None, Look | None]:
        """The weighted gradients of those that answered in time, if anybody did, and the look at their noise."""
        here = done.outcome.done
        if not here.any():
            return None, None
        crew = crew_of(self.held, done, self.local)
        return self._computed(crew, round_, self.outlook.scenario.finetune_variances[here])

    def _computed(self, crew: Crew, round_: int, variance: Floats) -> tuple[Gradient, Look | None]:
        model, loss, seed = self.job.model, self.job.task.loss, self.job.seed
        if self.steering.estimates:
            return halved_gradient(crew, model, loss, seed, round_, variance)
        return crew.gradient(model, loss, seed, round_, coupled=self.job.coupled), None

    def answers(self, done: Round, round_: int) -> tuple[Round, Gradient | None, Look | None]:
        """The round as it came out, the gradient, and the look at its noise; real devices may not answer."""
        if self.job.hands is None:
            gradient, look = self.gradient(done, round_)
            return done, with_whole_buffers(gradient, done), look
        fleet, seed = self.outlook.fleet, self.job.seed
        found = self.job.hands.ask(self.job.model, done, fleet, round_, seed=seed, local=self.local)
        done = really(fleet, done, found.here)
        return done, with_whole_buffers(found.mean(done), done), None

    def enter_costs(self, stage: Stage, seconds: dict[str, float], joules: dict[str, float]) -> None:
        """Add a round's costs to the sums by cause."""
        for cause, held in self.causes[stage.value].items():
            held["time_s"] += seconds.get(cause, 0.0)
            held["energy_j"] += joules.get(cause, 0.0)

    def enter_round(self, done: Round, round_: int) -> None:
        """A line about a fine-tuning round."""
        names = np.array(self.outlook.scenario.devices.names)
        move, outcome = done.move, done.outcome
        silent = {"missing": names[done.missing].tolist()} if done.missing.any() else {}
        self.rounds.enter(
            {
                "round": round_,
                "available": int(done.met.available.sum()),
                "asked": int(move.who.sum()),
                "late": names[move.who & ~outcome.done & ~done.missing].tolist(),
                **silent,
                "batch": int(move.batch.sum()),
                "worth_w": move.worth_w if math.isfinite(move.worth_w) else None,
                "waited_s": done.waited_s,
                "most_s": move.most_s,
                "most_j": move.most_j,
                "time_s": outcome.time_s,
                "energy_j": outcome.energy_j,
            }
        )


def crew_of(held: Holdings, done: Round, local: LocalSteps | None) -> Crew:
    """Those that answered in a round, with the weights that make up for those that did not."""
    here = done.outcome.done
    sizes = held.sizes
    offsets = np.cumsum(sizes) - sizes
    batch, shares = done.move.batch[here], done.shares[here]
    crew = Crew.of(Stage.FINETUNE, held.task, sizes[here], batch, shares, local)
    # the samples of those that are missing lie between theirs
    return replace(crew, offset_column=np.repeat(offsets[here], batch))


def with_whole_buffers(gradient: Gradient | None, done: Round) -> Gradient | None:
    """The gradient with buffers (batch norm's) that are means: weights that make up for others don't add up to one."""
    if gradient is None or not gradient.buffers:
        return gradient
    total = float(done.shares.sum())
    whole = {
        name: buffer / total if buffer.dtype.is_floating_point else buffer for name, buffer in gradient.buffers.items()
    }
    return replace(gradient, buffers=whole)


def train_live(job: Job, journal: Journal, live: Live, start: Callable[[], RoundRecord], fail: Fail) -> Ended:
    """Both stages, until all rounds are done or another might break a budget."""
    steering, keeper = live.steering, live.keeper
    if journal.last is None:
        keeper.take(start(), live.extra())
        keeper.enter()
    move = steering.next()
    while not isinstance(move, Stop):
        pretraining = isinstance(move, ServerMove)
        stage = Stage.PRETRAIN if pretraining else Stage.FINETUNE
        round_ = (steering.standing.progress.pretrain if pretraining else steering.standing.progress.finetune) + 1
        done = None if isinstance(move, ServerMove) else steering.carried_out(move)
        gradient, look = None, None
        if isinstance(move, ServerMove):
            gradient, look = live.server_gradient(move, round_)
        elif done is not None:
            done, gradient, look = live.answers(done, round_)
        if gradient is not None and not gradient.finite:
            raise fail(stage.value, round_, f"its training loss is {gradient.loss:g}")
        journal.confirm()
        if gradient is not None:
            size = job.scenario.convergence.pretrain_step if pretraining else job.scenario.convergence.finetune_step
            step(job.model, gradient, float(size or 0.0))
        record = _settle(live, stage, round_, move, done, gradient, look, journal.last)
        left = steering.standing.pretrain_left if pretraining else steering.standing.finetune_left
        if round_ % job.evaluate_every == 0 or left == 0:
            record = _scored(job, record, fail)
        keeper.take(record, live.extra())
        move = steering.next()  # whether it was the last round shows only now
        pending = keeper.pending
        if isinstance(move, Stop) and pending is not None and pending.test_loss is None:
            keeper.score(_scored(job, pending, fail))
        keeper.enter()
    journal.confirm()
    best = None
    if not move.finished:
        best = min(journal.ledger.evaluations, key=lambda one: math.inf if one.test_loss is None else one.test_loss)
    return Ended(stop=move, best=best, causes=live.causes)


def kept_model(job: Job, folder: RunFolder, journal: Journal, ended: Ended) -> dict[str, Tensor]:
    """The model that the run delivers: the last one, or the best where it had to stop early.

    Raises:
        RunFailed: the best one's file is damaged.
    """
    if ended.best is None or ended.best is journal.last:
        return journal.good
    try:
        return dict(load_file(folder.path / BEST))
    except (OSError, SafetensorError) as error:
        raise RunFailed(f"{folder.path / BEST}: is damaged ({error})") from error


def _settle(
    live: Live,
    stage: Stage,
    round_: int,
    move: ServerMove | Move,
    done: Round | None,
    gradient: Gradient | None,
    look: Look | None,
    last: RoundRecord | None,
) -> RoundRecord:
    """Enter what the round cost; the ledger's line for it."""
    if isinstance(move, ServerMove):
        live.steering.pretrained(move, look)
        seconds, joules = {"compute": move.time_s}, {"compute": move.energy_j}
    else:
        if done is None:
            raise ValueError("a fine-tuning round has an outcome")
        live.steering.finetuned(done, look)
        live.enter_round(done, round_)
        seconds, joules = {**done.outcome.seconds, "waiting": done.waited_s}, dict(done.outcome.joules)
    live.enter_costs(stage, seconds, joules)
    planned_s, planned_j = live.planned[stage]
    time_s, energy_j = math.fsum(seconds.values()), math.fsum(joules.values())
    return RoundRecord(
        stage=stage,
        round=round_,
        planned_s=planned_s,
        planned_j=planned_j,
        realised_s=time_s,
        realised_j=energy_j,
        elapsed_s=(last.elapsed_s if last else 0.0) + time_s,
        elapsed_j=(last.elapsed_j if last else 0.0) + energy_j,
        loss=None if gradient is None else gradient.loss,
        gradient_norm_sq=None if gradient is None else gradient.norm_sq,
    )


def _scored(job: Job, record: RoundRecord, fail: Fail) -> RoundRecord:
    score: Score = evaluate(job.model, job.task.loss, job.task.test)
    if not (math.isfinite(score.loss) and all_finite(job.model.parameters())):
        raise fail(record.stage.value, record.round, f"the test loss is {score.loss:g} after it")
    return replace(record, test_loss=score.loss, test_accuracy=score.accuracy)


def _local(job: Job) -> LocalSteps | None:
    """How devices take several steps of their own, if they do."""
    finetune = job.plan.finetune
    if finetune is None or (finetune.local_steps or 1) == 1:
        return None
    fused = not job.coupled and vectorises(job.model, job.task.loss, job.task.train)
    size = float(job.scenario.convergence.finetune_step or 0.0)
    return LocalSteps(count=finetune.local_steps or 1, size=size, fused=fused)


def _planned(job: Job) -> dict[Stage, tuple[float, float]]:
    """Seconds and joules of the plan's rounds: the means over its segments."""
    pretrain, finetune = job.plan.pretrain, job.plan.finetune
    found = {Stage.PRETRAIN: (0.0, 0.0), Stage.FINETUNE: (0.0, 0.0)}
    if pretrain is not None and pretrain.rounds:
        joules = sum(p.rounds * cost.pretrain_round(job.scenario, p.batch, p.clock_hz).energy_j for p in pretrain.parts)
        found[Stage.PRETRAIN] = (pretrain.round_s, joules / pretrain.rounds)
    if finetune is not None and finetune.rounds:
        settled, joules = job.scenario.settled(finetune.local_steps), 0.0
        if planned_under(job.scenario) is Under.PARTICIPATION:  # in the mean over who is asked
            settled = counted(job.scenario, job.plan.under)
        for p in finetune.parts:
            batch: Floats = p.batch.astype(np.float64)
            one = cost.finetune_round(settled, batch, p.clock_hz, p.power_w, p.bandwidth_hz)
            joules += p.rounds * one.energy_j
        found[Stage.FINETUNE] = (finetune.round_s, joules / finetune.rounds)
    return found


__all__ = ["Ended", "Live", "Steering", "check_steered", "crew_of", "kept_model", "train_live"]
