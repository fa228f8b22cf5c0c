"""Carrying out a plan, simulated on this machine: the loop is `train`, everything around it keeps the books."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from pretune.control.rules import Rules, rules_of
from pretune.errors import InputError, PretuneError, RunFailed
from pretune.ledger import Ledger, RoundRecord, Stage, load_ledger
from pretune.planning import Under
from pretune.plans import Plan
from pretune.runtime.aggregate import Aggregation
from pretune.runtime.backend import SIMULATED, Backend
from pretune.runtime.evaluate import Score, evaluate
from pretune.runtime.folder import RunFolder
from pretune.runtime.gradient import Gradient, step
from pretune.runtime.job import Job, StageJob, identity, make_job
from pretune.runtime.journal import Journal, ProgressCallback
from pretune.runtime.live import Live, check_steered, kept_model, train_live
from pretune.runtime.load import load_task
from pretune.runtime.parallel import Layout, check_layout, in_parallel
from pretune.runtime.private import PrivateMean
from pretune.runtime.summary import DIVERGED, FINISHED, STOPPED, summarise
from pretune.runtime.task import Task
from pretune.scenario import Scenario
from pretune.uncertainty import planned_under


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """A finished run. `summary` is the tree of summary.json; no `test_accuracy` when the targets are no classes."""

    model: nn.Module
    ledger: Ledger
    test_loss: float
    test_accuracy: float | None
    summary: Mapping[str, Any]
    out: Path


def train(job: Job, journal: Journal) -> None:
    """The two-stage algorithm (math.md section 1).

    Raises:
        Diverged: a loss, a gradient or the model is no longer finite.
    """
    # 0. How good the untrained model is.
    if journal.last is None:
        journal.hold(_start(job))

    before = 0
    for stage in job.stages:
        for round_ in journal.left(stage, before):
            # 1. Pre-training: the server draws b0 general samples. Fine-tuning: it broadcasts the model, and
            #    device k draws b_k of its own samples.
            # 2. One stochastic gradient each (or several local steps), uploaded and averaged with the weights alpha_k
            #    (or by a robust rule).
            gradient = stage.crew.gradient(
                job.model, job.task.loss, job.seed, round_, coupled=job.coupled, combine=stage.combine
            )
            if not gradient.finite:
                raise Diverged(stage, round_, f"its training loss is {gradient.loss:g}")
            journal.confirm()

            # 3. The server steps.
            step(job.model, gradient, stage.step)

            # 4. Every few rounds, and at the end of the stage: how good is it on the task?
            score = None
            if job.evaluates(stage, round_):
                score = evaluate(job.model, job.task.loss, job.task.test)
                if not (math.isfinite(score.loss) and _is_finite(job.model)):
                    raise Diverged(stage, round_, f"the test loss is {score.loss:g} after it")
            journal.hold(_record(stage, round_, gradient, score, journal.last))
        before += stage.rounds
    journal.confirm()


def run(
    plan: Plan,
    scenario: Scenario,
    *,
    out: str | os.PathLike[str],
    seed: int = 0,
    base: str | os.PathLike[str] | None = None,
    resume: bool = True,
    evaluate_every: int | None = None,
    checkpoint_every: int = 1000,
    checkpoint_s: float = 5.0,
    threads: int | None = None,
    aggregation: str = "mean",
    processes: int = 1,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
    task: Task | None = None,
    backend: Backend | None = None,
    control: str = "none",
    replan: str = "off",
    outage: float = 0.0,
) -> RunResult:
    """Carry out `plan` on the scenario's task and keep the books in the folder `out` (folder.py says what is in it).

    The result depends on the plan, the scenario, the data and `seed` alone: the same run gives the same model, ledger
    and summary to the byte (on the same machine and PyTorch, with as many threads and processes). A run that was
    interrupted at any moment goes on from its last checkpoint to that same result; one that has ended is read back.

    Args:
        plan: what `pretune.plan` found for `scenario`.
        scenario: the scenario; its `task` section says what is learnt, its steps are the step sizes.
        out: a new folder, or with `resume` one of this very run. Nothing else is ever overwritten.
        seed: of the model's weights and of the samples drawn.
        base: what relative files in the task section are relative to (default: the working folder).
        resume: whether `out` may be that of an earlier start of this run.
        evaluate_every: rounds between evaluations on the test samples (default: so that there are about fifty).
        checkpoint_every: most rounds between checkpoints.
        checkpoint_s: most seconds between checkpoints, but for a round that takes longer.
        threads: PyTorch threads while it runs (default: as it is set; a resumed run uses what it was started with).
        aggregation: how the devices' gradients become one: mean, median, trimmed:T or clip:C (`aggregate`); the
            plan's bound speaks of the mean.
        processes: how many processes pre-train together (`parallel`; a resumed run uses what it was started with).
        device: what pre-training computes on, ``cpu`` or ``cuda``; all else is computed on the CPU.
        progress: called with every record that is entered into the ledger.
        task: what is learnt, when it is not to be read from the scenario.
        backend: who carries out the devices' part (default: this process simulates it).
        control: ``none``: clocks and powers are the plan's; ``rounds``: the best ones for what each round meets.
        replan: ``off``; ``auto``: plan anew for what is left when there is a reason; ``every``: after every round.
        outage: the share of rounds in which a device is left out because its channel is too bad.

    A scenario with a `variation`, a plan that decides who is asked, or any of the last three, makes a steered run
    (`live`): no round begins that might break a budget, and a run that has to stop early keeps its best model. With
    devices of their own (`pretune server`) a `variation` alone does not: they have real channels.

    Raises:
        PlanMismatch: the plan was made for another scenario.
        InputError: something given can't be used: no decisions, no task, a batch above the data set, a folder that
            holds something else.
        RunFailed: the run diverged (the last good model and the ledger up to it are in `out`), or its folder is
            damaged.
    """
    if checkpoint_every < 1:
        raise InputError.field("checkpoint_every", checkpoint_every, "a whole number >= 1")
    if threads is not None and threads < 1:
        raise InputError.field("threads", threads, "a whole number >= 1")
    own_task = task is not None
    if task is None:
        task = load_task(scenario.task, None if base is None else Path(base))
    job = make_job(
        plan, scenario, task, seed=seed, evaluate_every=evaluate_every, aggregation=Aggregation.read(aggregation)
    )
    layout = Layout(processes=processes, device=device)
    check_layout(layout, job, own_task=own_task)
    rules = rules_of(control, replan, outage)
    carrier = SIMULATED if backend is None else backend
    drawn = planned_under(scenario) is Under.PARTICIPATION
    if drawn and not carrier.simulates:
        raise InputError.field("--backend", "federated", "local: who is asked in a round is simulated, not imposed")
    varies = scenario.variation is not None and carrier.simulates
    steered = not rules.plain or rules.outage > 0.0 or drawn or varies
    if steered:
        check_steered(job)
    texts = {
        "plan.json": plan.to_json() + "\n",
        "scenario.json": json.dumps(scenario.to_dict(), indent=1, allow_nan=False) + "\n",
    }
    run_id = {**identity(job, torch.get_num_threads() if threads is None else threads), **layout.to_dict()}
    if steered:
        run_id |= {"control": rules.control.value, "replan": rules.replan.value, "outage": rules.outage}
    with RunFolder.open(Path(out), run_id, texts, resume) as folder:
        if folder.summary is None:
            layout = Layout.of(folder.identity)
            check_layout(layout, job, own_task=own_task)
            where = Path.cwd() if base is None else Path(base)
            with (
                _threads(int(folder.identity["threads"])),
                in_parallel(job, layout, folder.path, where) as spread,
                carrier.crews(spread, folder.path) as crewed,
            ):
                eager = backend is not None
                journal = Journal(
                    folder, job.model, every=checkpoint_every, seconds=checkpoint_s, progress=progress, eager=eager
                )
                if steered:
                    _steer_through(crewed, folder, journal, rules)
                else:
                    _carry_out(crewed, folder, journal)
        else:
            folder.tidy()
        return _result(job, folder)


def _carry_out(job: Job, folder: RunFolder, journal: Journal) -> None:
    """Train, or go on training, and write the results of a run that ended, well or not."""
    began = time.perf_counter()
    resumed_at = len(journal.records)
    status, message = FINISHED, "all rounds were done"
    try:
        train(job, journal)
    except Diverged as stop:
        journal.drop()
        status = DIVERGED
        message = f"the run diverged: {stop}; the model kept is that {_after(journal.last)}"
    summary = summarise(job, journal.ledger, status=status, message=message)
    folder.finish(journal.good, summary, _timing(job, journal, began, resumed_at))


def _steer_through(job: Job, folder: RunFolder, journal: Journal, rules: Rules) -> None:
    """The same for a run under changing conditions; one that stops early delivers its best model."""
    began, resumed_at = time.perf_counter(), len(journal.records)
    live = Live(job, rules, folder, journal)
    model, best, causes = journal.good, None, live.causes
    try:
        ended = train_live(job, journal, live, lambda: _start(job), _diverged)
        status = FINISHED if ended.stop.finished else STOPPED
        model, best, causes = kept_model(job, folder, journal, ended), ended.best, ended.causes
        message = ended.stop.why
        if best is not None:
            message = (
                f"the run stopped early: {message}; the model kept is the best by the evaluations, that {_after(best)}"
            )
    except Diverged as stop:
        journal.drop()
        status, model = DIVERGED, journal.good
        message = f"the run diverged: {stop}; the model kept is that {_after(journal.last)}"
    finally:
        live.close()
    summary = summarise(job, journal.ledger, status=status, message=message, causes=causes, best=best)
    folder.finish(model, summary, _timing(job, journal, began, resumed_at))


def _diverged(stage: str, round_: int, why: str) -> Diverged:
    words = "pre-training" if stage == Stage.PRETRAIN.value else "fine-tuning"
    return Diverged(None, round_, why, f"at {words} round {round_} {why} (a smaller convergence.{stage}_step may help)")


def _timing(job: Job, journal: Journal, began: float, resumed_at: int) -> dict[str, Any]:
    """What timing.json says of this start of the run."""
    wall_s = time.perf_counter() - began
    rounds = len(journal.records) - resumed_at
    timing: dict[str, Any] = {"wall_s": wall_s, "records": rounds, "resumed_at": resumed_at, "torch": torch.__version__}
    for stage in job.stages:
        if isinstance(stage.combine, PrivateMean):  # counted in this process: a resumed run has not seen all
            timing |= {"private_updates": stage.combine.updates, "clipped_updates": stage.combine.clipped}
    return timing


def _result(job: Job, folder: RunFolder) -> RunResult:
    """What is in the folder of a run that has ended.

    Raises:
        RunFailed: it diverged, or its files are damaged.
    """
    summary = folder.summary
    if summary is None or summary.get("status") not in (FINISHED, STOPPED, DIVERGED):
        raise RunFailed(f"{folder.path / 'summary.json'}: is damaged (no status)")
    if summary["status"] == DIVERGED:
        raise RunFailed(f"{summary['message']} ({folder.path / 'model.safetensors'})")
    try:
        job.model.load_state_dict(load_file(folder.path / "model.safetensors"))
        final = summary["scores"]["final"]
        return RunResult(
            model=job.model.eval(),
            ledger=load_ledger(folder.path),
            test_loss=float(final["test_loss"]),
            test_accuracy=final["test_accuracy"],
            summary=summary,
            out=folder.path,
        )
    except Exception as error:
        raise RunFailed(f"{folder.path}: its results are damaged ({error})") from error


class Diverged(PretuneError):
    """Training has left the finite numbers; internal, `run` turns it into a RunFailed that has kept the books."""

    def __init__(self, stage: StageJob | None, round_: int, why: str, told: str = "") -> None:
        if told:
            super().__init__(told)
        elif stage is None:
            super().__init__(f"the untrained model is no good, {why}")
        else:
            field = f"convergence.{stage.stage.value}_step"
            super().__init__(f"at {stage.words} round {round_} {why} (a smaller {field} may help)")


def _start(job: Job) -> RoundRecord:
    """Round 0: nothing spent yet."""
    score = evaluate(job.model, job.task.loss, job.task.test)
    if not math.isfinite(score.loss):
        raise Diverged(None, 0, f"its test loss is {score.loss:g}")
    nothing = dict.fromkeys(("planned_s", "planned_j", "realised_s", "realised_j", "elapsed_s", "elapsed_j"), 0.0)
    return RoundRecord(
        stage=Stage.START,
        round=0,
        **nothing,
        loss=None,
        gradient_norm_sq=None,
        test_loss=score.loss,
        test_accuracy=score.accuracy,
    )


def _record(
    stage: StageJob, round_: int, gradient: Gradient, score: Score | None, last: RoundRecord | None
) -> RoundRecord:
    """The ledger's line for a round that has just been done."""
    charge = gradient.charge or stage.charge
    return RoundRecord(
        stage=stage.stage,
        round=round_,
        planned_s=charge.planned_s,
        planned_j=charge.planned_j,
        realised_s=charge.realised_s,
        realised_j=charge.realised_j,
        elapsed_s=(last.elapsed_s if last else 0.0) + charge.realised_s,
        elapsed_j=(last.elapsed_j if last else 0.0) + charge.realised_j,
        loss=gradient.loss,
        gradient_norm_sq=gradient.norm_sq if gradient.norm_known else None,
        test_loss=None if score is None else score.loss,
        test_accuracy=None if score is None else score.accuracy,
    )


def _after(last: RoundRecord | None) -> str:
    if last is None or last.stage is Stage.START:
        return "before training"
    words = "pre-training" if last.stage is Stage.PRETRAIN else "fine-tuning"
    return f"after {words} round {last.round}"


def _is_finite(model: nn.Module) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch's threads for the block: how a sum is split over threads changes its last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
