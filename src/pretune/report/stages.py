"""Both stages of a plan, a line of text each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pretune.plans import Plan
from pretune.report.spending import FINETUNE, PRETRAIN
from pretune.report.words import count, quantity, seconds
from pretune.stages import AnyStage


def stage_rows(plan: Plan) -> list[dict[str, str]]:
    """Both stages in one line each, or a line for each segment; a stage that is not used says so."""
    rows = []
    if plan.pretrain is not None:
        for name, part in _named(PRETRAIN, plan.pretrain):
            batch, clock = count(part.batch), quantity(part.clock_hz, "Hz")
            rows.append(_row(name, part.rounds, part.round_s, batch, clock))
        if not plan.pretrain.rounds:
            rows.append(_unused(PRETRAIN))
    if plan.finetune is not None:
        several = plan.finetune.local_steps
        title = FINETUNE if several is None else f"{FINETUNE}, {several} local step{'s' * (several > 1)}"
        for name, stage in _named(title, plan.finetune):
            batch = between(stage.batch, lambda v: count(int(v)))
            clock = between(stage.clock_hz, lambda v: quantity(v, "Hz", 3))
            rows.append(_row(name, stage.rounds, stage.round_s, batch, clock))
        if not plan.finetune.rounds:
            rows.append(_unused(FINETUNE))
    return rows


def _named(name: str, stage: AnyStage) -> list[tuple[str, AnyStage]]:
    """The parts of a stage with their names."""
    total = len(stage.parts)
    return [(name if total == 1 else f"{name} {i}/{total}", part) for i, part in enumerate(stage.parts, start=1)]


def _row(name: str, rounds: int, round_s: float, batch: str, clock: str) -> dict[str, str]:
    return {
        "stage": name,
        "rounds": count(rounds),
        "batch": batch,
        "clock": clock,
        "round": seconds(round_s),
        "total": seconds(rounds * round_s),
    }


def _unused(name: str) -> dict[str, str]:
    return {"stage": name, "rounds": count(0), "batch": "not used", "clock": "", "round": "", "total": ""}


def between(values: Any, write: Callable[[float], str]) -> str:
    """The range of a column, or its one value."""
    low, high = write(float(values.min())), write(float(values.max()))
    return low if low == high else f"{low} to {high}"
