"""What a steering says of itself, in words and in lines."""

from __future__ import annotations

import math
from typing import Any

from pretune.control.moves import Move
from pretune.control.rules import Proposal
from pretune.control.standing import Standing


def short_of(now: Standing, move: Move) -> str:
    """Why a round is not begun."""
    short = []
    if move.most_j > now.energy_left:
        short.append(f"energy ({now.energy_left:.4g} J left)")
    if move.most_s > now.delay_left:
        short.append(f"time ({now.delay_left:.4g} s left)")
    if not short:
        short.append("the devices' batteries")
    return f"another fine-tuning round might take more than is left of {' and '.join(short)}"


def replan_line(
    now: Standing,
    cause: str,
    before: tuple[int, int],
    batch: int,
    proposal: Proposal | None,
    *,
    taken: bool,
    effect: str,
    solves: int,
) -> dict[str, Any]:
    """A line of `replans.jsonl`: when, why, and what became of it; `before` and `batch` as they were left before."""
    line = {
        "after_pretrain": now.progress.pretrain,
        "after_finetune": now.progress.finetune,
        "cause": cause,
        "taken": taken,
        "effect": effect,
        "rounds_before": list(before),
        "rounds_after": [now.pretrain_left, now.finetune_left],
        "batch_before": batch,
        "batch_after": int(now.batch[now.alive].sum()),
        "objective_before": _finite(None if proposal is None else proposal.kept),
        "objective_after": _finite(None if proposal is None else proposal.value),
        "energy_left_j": now.energy_left,
        "delay_left_s": now.delay_left,
        "solves": solves,
    }
    if now.noise is not None:
        line["constants"] = now.noise.to_line()
    return line


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
