"""How a run under changing conditions was steered: the report's section, only where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pretune.lines import REPLANS, ROUNDS, load_lines
from pretune.report.folder import RunFolder
from pretune.report.words import count, joules, printable, seconds, significant

MOST_ROWS = 300


@dataclass(frozen=True, kw_only=True)
class Steered:
    """The section: a note, and one row of texts a new plan."""

    note: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def steered(run: RunFolder) -> Steered | None:
    """The section, or None for a run whose plan was carried out as it was.

    Raises:
        InputError: one of the two files is damaged.
    """
    if not (run.path / ROUNDS).is_file():
        return None
    rounds, replans = load_lines(run.path / ROUNDS), load_lines(run.path / REPLANS)
    waited = sum(float(line.get("waited_s", 0.0)) for line in rounds)
    missing = sum(int(line.get("asked", 0)) < len(run.scenario.devices) for line in rounds)
    late = sum(len(line.get("late", ())) for line in rounds)
    gone = sum(len(line.get("missing", ())) for line in rounds)
    unheard = f"{count(gone)} times a device was not heard of again in a round. " if gone else ""
    control = run.identity.get("control", "none")
    how = "chosen anew in every round" if control == "rounds" else "the plan's in every round"
    taken = sum(bool(line.get("taken")) for line in replans)
    note = (
        f"{count(len(rounds))} fine-tuning rounds under changing conditions, clocks and powers {how}. In "
        f"{count(missing)} of them not all devices took part; {count(late)} answers came too late. {unheard}"
        f"{seconds(waited)} went by waiting for devices. "
        f"What was left was planned anew {count(len(replans))} times, {count(taken)} of the plans were taken."
        f"{_constants(replans)}"
    )
    return Steered(note=note, heads=_HEADS, rows=[_row(line) for line in replans[:MOST_ROWS]])


_HEADS = ("After rounds", "Cause", "Effect", "Rounds left", "Batches", "Criterion", "Energy left", "Time left")


def _constants(replans: Sequence[Mapping[str, Any]]) -> str:
    """What the run found of the gradients' variances, as the last new plan knew it."""
    last = replans[-1].get("constants") if replans else None
    if not isinstance(last, Mapping):
        return ""
    words = []
    for side, whose in (("server", "the server's"), ("devices", "the devices'")):
        one = last.get(side)
        if isinstance(one, Mapping) and isinstance(one.get("ratio"), float) and isinstance(one.get("used"), float):
            low, high = (significant(float(one.get(end) or 0.0), 2) for end in ("low", "high"))
            words.append(
                f"{whose} was found to be {significant(one['ratio'], 2)} ({low} to {high}) of the scenario's, "
                f"{significant(one['used'], 2)} was counted with"
            )
    return f" Of the gradient variances, as the last of them knew them, {'; '.join(words)}." if words else ""


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{_number(line.get('after_pretrain'))} + {_number(line.get('after_finetune'))}",
        printable(str(line.get("cause", ""))),
        printable(str(line.get("effect", ""))),
        _change(_rounds(line.get("rounds_before")), _rounds(line.get("rounds_after"))),
        _change(_number(line.get("batch_before")), _number(line.get("batch_after"))),
        _change(_figure(line.get("objective_before")), _figure(line.get("objective_after"))),
        joules(float(line.get("energy_left_j") or 0.0)),
        seconds(float(line.get("delay_left_s") or 0.0)),
    )


def _rounds(value: Any) -> str:
    return " + ".join(_number(one) for one in value) if isinstance(value, list) else "-"


def _number(value: Any) -> str:
    return count(value) if isinstance(value, int) else "-"


def _figure(value: Any) -> str:
    return significant(value, 5) if isinstance(value, float) else "does not fit"


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} to {after}"
