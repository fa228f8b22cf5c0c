"""Both stages of a plan, a line of text each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pretune.plans import Plan
from pretune.report.spending import FINETUNE, PRETRAIN
from pretune.report.words import count, quantity, seconds


def stage_rows(plan: Plan) -> list[dict[str, str]]:
    """Both stages in one line each; a stage that is not used says so."""
    rows = []
    if plan.pretrain is not None:
        used = plan.pretrain.rounds > 0
        rows.append(
            {
                "stage": PRETRAIN,
                "rounds": count(plan.pretrain.rounds),
                "batch": count(plan.pretrain.batch) if used else "not used",
                "clock": quantity(plan.pretrain.clock_hz, "Hz") if used else "",
                "round": seconds(plan.pretrain.round_s) if used else "",
                "total": seconds(plan.pretrain.rounds * plan.pretrain.round_s) if used else "",
            }
        )
    if plan.finetune is not None:
        used = plan.finetune.rounds > 0
        rows.append(
            {
                "stage": FINETUNE,
                "rounds": count(plan.finetune.rounds),
                "batch": between(plan.finetune.batch, lambda v: count(int(v))) if used else "not used",
                "clock": between(plan.finetune.clock_hz, lambda v: quantity(v, "Hz", 3)) if used else "",
                "round": seconds(plan.finetune.round_s) if used else "",
                "total": seconds(plan.finetune.rounds * plan.finetune.round_s) if used else "",
            }
        )
    return rows


def between(values: Any, write: Callable[[float], str]) -> str:
    """The range of a column, or its one value."""
    low, high = write(float(values.min())), write(float(values.max()))
    return low if low == high else f"{low} to {high}"
