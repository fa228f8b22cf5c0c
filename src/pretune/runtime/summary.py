"""The summary of a run: what was planned, what was spent and on what, and what came out. No wall-clock figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pretune.ledger import Ledger, RoundRecord, Stage, StageTotal
from pretune.runtime.aggregate import Rule
from pretune.runtime.charges import CAUSES, Charge
from pretune.runtime.job import Job, StageJob
from pretune.runtime.private import account

FINISHED, STOPPED, DIVERGED = "finished", "stopped", "diverged"

Causes = Mapping[str, Mapping[str, Mapping[str, float]]]


def summarise(
    job: Job,
    ledger: Ledger,
    *,
    status: str,
    message: str,
    causes: Causes | None = None,
    best: RoundRecord | None = None,
) -> dict[str, Any]:
    """The tree of summary.json; scores are null where nothing was evaluated.

    Of a run under changing conditions `causes` are the sums by stage and cause, and `best` the record of the model
    that is kept where it is not the last one.
    """
    totals = {total.name: total for total in ledger.table()}
    whole = totals["total"]
    start = ledger.of(Stage.START)
    pretrained = Ledger(records=(*start, *ledger.of(Stage.PRETRAIN)))
    tree: dict[str, Any] = {
        "pretune": 1,
        "status": status,
        "message": message,
        "task": job.task.name,
        "seed": job.seed,
        "scenario_sha256": job.scenario.sha256,
        "criterion": job.plan.criterion,
        "objective": job.plan.objective,
        "rounds": {stage.value: totals[stage.value].rounds for stage in (Stage.PRETRAIN, Stage.FINETUNE)},
        "planned": {"time_s": whole.planned_s, "energy_j": whole.planned_j},
        "realised": {"time_s": whole.realised_s, "energy_j": whole.realised_j},
        "stages": {
            stage.value: _stage(
                totals[stage.value],
                [part for part in job.stages if part.stage is stage],
                None if causes is None else causes[stage.value],
            )
            for stage in (Stage.PRETRAIN, Stage.FINETUNE)
        },
        "scores": {
            "start": _score(start.evaluations),
            "after_pretraining": _score(pretrained.evaluations),
            "final": _score(ledger.evaluations if best is None else (best,)),
        },
    }
    if best is not None:
        tree["kept"] = {"stage": best.stage.value, "round": best.round}
    if job.aggregation.rule is not Rule.MEAN:
        tree["aggregation"] = job.aggregation.text
    if job.scenario.privacy is not None:
        planned = max((part.last for part in job.stages if part.stage is Stage.FINETUNE), default=0)
        tree["privacy"] = account(job.scenario.privacy, planned, totals[Stage.FINETUNE.value].rounds)
    return tree


def _stage(
    total: StageTotal, parts: Sequence[StageJob], sums: Mapping[str, Mapping[str, float]] | None
) -> dict[str, Any]:
    # a run that diverged has not done all rounds, perhaps none of a later segment
    done: list[tuple[int, Charge]] = []
    for part in parts if sums is None else ():
        rounds = max(0, min(total.rounds - part.before, part.rounds))
        odd = [charge for n, charge in part.crew.exceptions().items() if part.before < n <= part.before + rounds]
        done += [(rounds - len(odd), part.charge), *((1, charge) for charge in odd)]
    causes = {
        cause: {
            "time_s": math.fsum(rounds * charge.causes[cause].time_s for rounds, charge in done),
            "energy_j": math.fsum(rounds * charge.causes[cause].energy_j for rounds, charge in done),
        }
        for cause in CAUSES
    }
    if sums is not None:
        causes = {cause: dict(values) for cause, values in sums.items()}
    return {
        "rounds": total.rounds,
        "planned": {"time_s": total.planned_s, "energy_j": total.planned_j},
        "realised": {"time_s": total.realised_s, "energy_j": total.realised_j},
        "causes": causes,
    }


def _score(evaluations: tuple[RoundRecord, ...]) -> dict[str, float | None]:
    last = evaluations[-1] if evaluations else None
    return {
        "test_loss": None if last is None else last.test_loss,
        "test_accuracy": None if last is None else last.test_accuracy,
    }
