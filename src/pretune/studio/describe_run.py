"""A run as the page lists, follows and compares it; everything is read from its folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pretune.errors import InputError
from pretune.ledger import Ledger, RoundRecord, Stage
from pretune.plans import Plan
from pretune.report.folder import read_folder
from pretune.studio.answers import Refused
from pretune.studio.jobs import Job, read_tree
from pretune.studio.replans import replans_in, steered_of
from pretune.studio.responses import Budgets
from pretune.studio.run_models import (
    Difference,
    Replan,
    Replanned,
    Rounds,
    RunInfo,
    RunResult,
    RunsCompared,
    Series,
    StageTotalInfo,
    Status,
)

MOST_POINTS = 600
"""Rounds of a ledger in an answer; evaluations are kept beyond it."""


def info(job: Job) -> RunInfo:
    """A run in short, from its small files alone."""
    record, summary = job.record, job.tree("summary.json")
    alive = job.alive
    status, message = _status(job, summary, alive)
    budget = record.get("budget")
    final = (summary.get("scores") or {}).get("final") or {}
    planned, realised = (_spent(summary.get(key)) for key in ("planned", "realised"))
    return RunInfo(
        id=job.id,
        kind="calibration" if job.kind == "calibration" else "run",
        name=str(record.get("name") or summary.get("task") or job.id),
        status=status,
        message=message,
        created=float(record.get("created") or _created(job)),
        scenario_id=record.get("scenario_id"),
        seed=record.get("seed", summary.get("seed")),
        budget=Budgets(**budget) if isinstance(budget, dict) else None,
        can_cancel=not job.ended and job.own_process is not None,
        can_resume=bool(record) and not alive and status in ("interrupted", "failed"),
        rounds_done=_rounds(summary.get("rounds")),
        planned=planned,
        realised=realised,
        test_loss=final.get("test_loss"),
        test_accuracy=final.get("test_accuracy"),
        steering=steered_of(job.tree("run.json"), record),
    )


def _status(job: Job, summary: dict[str, Any], alive: bool) -> tuple[Status, str]:
    if job.ended:
        if summary.get("status") == "diverged":
            return "diverged", str(summary.get("message", ""))
        return "finished", str(summary.get("message", ""))
    begun = (job.folder / "run.json").is_file()
    if alive:
        return ("running", "") if begun or job.kind == "calibration" else ("planning", "")
    said = job.complaint
    if said.startswith("interrupted") or not (said or job.record):
        return "interrupted", "it can go on where it was"
    if "nfeasible" in said:
        return "infeasible", said
    if said:
        return "failed", said
    return "interrupted", "its process ended; it can go on where it was"


def _created(job: Job) -> float:
    try:
        return job.folder.stat().st_mtime
    except OSError:
        return 0.0


def _rounds(tree: Any) -> Rounds | None:
    return Rounds(pretrain=tree["pretrain"], finetune=tree["finetune"]) if isinstance(tree, dict) else None


def _spent(tree: Any) -> Budgets | None:
    return Budgets(energy_j=tree["energy_j"], delay_s=tree["time_s"]) if isinstance(tree, dict) else None


def detail(job: Job) -> RunInfo:
    """A run with how far it is: its plan and its ledger are read."""
    found = info(job)
    if job.kind == "calibration":
        return found
    try:
        run = read_folder(job.folder)
    except InputError:  # it is still being planned, or its folder is half there
        return found
    last = run.ledger.records[-1] if len(run.ledger) else None
    tested = run.ledger.evaluations
    return found.model_copy(
        update={
            "rounds_planned": Rounds(pretrain=run.rounds_planned[0], finetune=run.rounds_planned[1]),
            "rounds_done": Rounds(pretrain=run.rounds_done[0], finetune=run.rounds_done[1]),
            "planned": _planned(run.plan),
            "realised": None if last is None else Budgets(energy_j=last.elapsed_j, delay_s=last.elapsed_s),
            "test_loss": tested[-1].test_loss if tested else None,
            "test_accuracy": tested[-1].test_accuracy if tested else None,
            "budget": Budgets(energy_j=run.scenario.budget.energy_j, delay_s=run.scenario.budget.delay_s),
            "replanned": _replanned(found, job)[0],
        }
    )


def _planned(plan: Plan) -> Budgets | None:
    known = math.isfinite(plan.energy_j) and math.isfinite(plan.delay_s)
    return Budgets(energy_j=plan.energy_j, delay_s=plan.delay_s) if known else None


def result(job: Job) -> RunResult:
    """What a run came to, so far.

    Raises:
        Refused: 409, there is nothing of it yet.
    """
    found = detail(job)
    if job.kind == "calibration":
        if not job.ended:
            raise Refused(409, "run: has no result yet", "id")
        # where the studio keeps its files is nobody's business: the scenario has an id
        told = {key: value for key, value in read_tree(job.own / "out").items() if key != "scenario"}
        return RunResult(run=found, calibration=told)
    try:
        run = read_folder(job.folder)
    except InputError as error:
        raise Refused(409, f"run: has no result yet ({error.problems[0].rpartition('/')[2]})", "id") from None
    return RunResult(
        run=found,
        objective=run.plan.objective,
        lower_bound=run.plan.lower_bound,
        stages=_stages(run.ledger),
        series=series(run.ledger.records, MOST_POINTS),
        summary=dict(run.summary) or None,
        replans=_replanned(found, job)[1],
    )


def _replanned(found: RunInfo, job: Job) -> tuple[Replanned | None, list[Replan]]:
    """What a run planned anew, where it may."""
    return replans_in(job.folder) if found.steering is not None and found.steering.replan != "off" else (None, [])


def _stages(ledger: Ledger) -> list[StageTotalInfo]:
    return [
        StageTotalInfo(
            stage=total.name,
            rounds=total.rounds,
            planned_s=total.planned_s,
            realised_s=total.realised_s,
            planned_j=total.planned_j,
            realised_j=total.realised_j,
            test_loss=total.test_loss,
            test_accuracy=total.test_accuracy,
        )
        for total in ledger.table()
        if total.name != Stage.START.value
    ]


def series(records: Sequence[RoundRecord], most: int | None = None, before: tuple[float, float] = (0.0, 0.0)) -> Series:
    """Records as columns; `before`: the planned seconds and joules of the rounds before them.

    Beyond `most` records only every so many are kept, and those with an evaluation, and the last.
    """
    planned_s = before[0] + np.cumsum([record.planned_s for record in records])
    planned_j = before[1] + np.cumsum([record.planned_j for record in records])
    stride = 1 if most is None or len(records) <= most else -(-len(records) // most)
    kept = [
        i
        for i, record in enumerate(records)
        if i % stride == 0 or record.test_loss is not None or i == len(records) - 1
    ]
    chosen = [records[i] for i in kept]
    return Series(
        stage=[record.stage.value for record in chosen],
        round=[record.round for record in chosen],
        loss=[record.loss for record in chosen],
        test_loss=[record.test_loss for record in chosen],
        test_accuracy=[record.test_accuracy for record in chosen],
        planned_s=[float(planned_s[i]) for i in kept],
        planned_j=[float(planned_j[i]) for i in kept],
        realised_s=[record.elapsed_s for record in chosen],
        realised_j=[record.elapsed_j for record in chosen],
    )


def compared(one: RunResult, other: RunResult) -> RunsCompared:
    """Two runs and the figures that people look at first."""
    a, b = _figures(one), _figures(other)
    return RunsCompared(a=one, b=other, differences=[Difference(name=name, a=a[name], b=b[name]) for name in a])


def _figures(found: RunResult) -> dict[str, float | str | None]:
    run = found.run
    budget, done, spent = run.budget, run.rounds_done, run.realised
    return {
        "status": run.status,
        "seed": run.seed,
        "energy budget (J)": None if budget is None else budget.energy_j,
        "delay budget (s)": None if budget is None else budget.delay_s,
        "pre-training rounds": None if done is None else done.pretrain,
        "fine-tuning rounds": None if done is None else done.finetune,
        "bound": found.objective,
        "energy (J)": None if spent is None else spent.energy_j,
        "delay (s)": None if spent is None else spent.delay_s,
        "test loss": run.test_loss,
        "test accuracy": run.test_accuracy,
    }
