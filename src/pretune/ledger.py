"""The ledger of a run: for every round what was planned beside what was spent, and what was learnt.

A ledger file holds one JSON object a line, always with the same keys in the same order; the first line is
the model before any training (stage ``start``, round 0). No wall-clock figure is in it: two runs of the same
plan with the same seed give the same bytes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

import numpy as np

from pretune.display import html_of
from pretune.errors import InputError
from pretune.physics.types import Floats


class Stage(StrEnum):
    """Where in the run a record belongs; also the order in which they come."""

    START = "start"
    PRETRAIN = "pretrain"
    FINETUNE = "finetune"


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round. Seconds and joules are simulated ones, from the cost model of math.md section 1.

    `planned_*` is the plan's figure for this round, `realised_*` the same physics applied to the batches that
    were really computed, `elapsed_*` the realised sum up to and including this round. `loss` is the mean
    training loss of the round's batches at the model the round began with, `gradient_norm_sq` the squared
    norm of the averaged stochastic gradient there; `test_loss` and `test_accuracy` belong to the model the
    round ended with. None stands for "not measured".
    """

    stage: Stage
    round: int
    planned_s: float
    planned_j: float
    realised_s: float
    realised_j: float
    elapsed_s: float
    elapsed_j: float
    loss: float | None
    gradient_norm_sq: float | None
    test_loss: float | None = None
    test_accuracy: float | None = None

    def to_json(self) -> str:
        """The record's line, without the line end."""
        return json.dumps({**vars(self), "stage": self.stage.value}, allow_nan=False, separators=(", ", ": "))


KEYS = tuple(field.name for field in fields(RoundRecord))
_MAY_BE_NULL = frozenset({"loss", "gradient_norm_sq", "test_loss", "test_accuracy"})


def record_from_json(line: str) -> RoundRecord:
    """The record of one line.

    Raises:
        ValueError: the line is no JSON object, or a key is missing, unknown or holds the wrong kind.
    """
    tree = json.loads(line, parse_constant=_no_constant)
    if not isinstance(tree, dict):
        raise ValueError("is not an object")
    if tuple(tree) != KEYS:
        odd = sorted(set(KEYS) ^ set(map(str, tree)))
        raise ValueError(f"its keys are not those of a ledger ({', '.join(odd) or 'their order differs'})")
    for key, value in tree.items():
        if key == "stage":
            if value not in [stage.value for stage in Stage]:
                raise ValueError(f"stage holds {value!r}, should hold start, pretrain or finetune")
        elif value is None and key in _MAY_BE_NULL:
            continue
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{key} holds {value!r}, should hold a number")
        elif key == "round" and (not isinstance(value, int) or value < 0):
            raise ValueError(f"round holds {value!r}, should hold a whole number")
    return RoundRecord(**{**tree, "stage": Stage(tree["stage"])})


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


@dataclass(frozen=True, kw_only=True)
class StageTotal:
    """One line of `Ledger.table`: a stage, or the whole run (`name` "total").

    The losses are the training losses of the stage's first and last round, `test_*` the last evaluation in it;
    None where there is none.
    """

    name: str
    rounds: int
    planned_s: float
    realised_s: float
    planned_j: float
    realised_j: float
    first_loss: float | None
    last_loss: float | None
    test_loss: float | None
    test_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All records of a run, in the order they were made."""

    records: tuple[RoundRecord, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[RoundRecord]:
        return iter(self.records)

    def _repr_html_(self) -> str:
        return html_of(self, "ledger_html")

    def of(self, stage: Stage) -> Ledger:
        """The records of one stage."""
        return Ledger(records=tuple(record for record in self.records if record.stage is stage))

    def rounds(self, stage: Stage) -> int:
        """How many rounds of `stage` are in the ledger."""
        return sum(record.stage is stage for record in self.records)

    def column(self, key: str) -> Floats:
        """One figure over all records, shape (len(self),); NaN where it was not measured."""
        if key not in KEYS or key == "stage":
            raise InputError.field("ledger.column", key, "one of " + ", ".join(KEYS[1:]))
        values = [getattr(record, key) for record in self.records]
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)

    @property
    def evaluations(self) -> tuple[RoundRecord, ...]:
        """The records with a test loss."""
        return tuple(record for record in self.records if record.test_loss is not None)

    def table(self) -> tuple[StageTotal, ...]:
        """One line a stage, in order, then one for the whole run: plain data, for whoever draws it."""
        stages = [self._total(stage.value, self.of(stage)) for stage in Stage]
        return (*stages, self._total("total", self))

    @staticmethod
    def _total(name: str, part: Ledger) -> StageTotal:
        trained = [record for record in part if record.stage is not Stage.START]
        tested = part.evaluations
        return StageTotal(
            name=name,
            rounds=len(trained),
            planned_s=math.fsum(record.planned_s for record in part),
            realised_s=math.fsum(record.realised_s for record in part),
            planned_j=math.fsum(record.planned_j for record in part),
            realised_j=math.fsum(record.realised_j for record in part),
            first_loss=trained[0].loss if trained else None,
            last_loss=trained[-1].loss if trained else None,
            test_loss=tested[-1].test_loss if tested else None,
            test_accuracy=tested[-1].test_accuracy if tested else None,
        )

    def to_jsonl(self) -> str:
        """The ledger file's text."""
        return "".join(record.to_json() + "\n" for record in self.records)


def load_ledger(path: str | os.PathLike[str]) -> Ledger:
    """Read a ledger file (or the ledger of a run's folder).

    Raises:
        InputError: the file can't be read, a line is cut off or damaged (the line is named, and how many rounds
            before it are whole), or the rounds do not follow one another.
    """
    target = Path(path)
    if target.is_dir():
        target = target / "ledger.jsonl"
    try:
        text = target.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{target}: can't be read as a ledger ({_reason(error)})") from None
    return Ledger(records=tuple(_records(text, target)))


def _records(text: str, target: Path) -> Iterable[RoundRecord]:
    lines = text.split("\n")
    if lines[-1]:
        raise InputError(f"{target}: line {len(lines)} is cut off; the {len(lines) - 1} lines before it are whole")
    last: tuple[int, int] | None = None
    order = list(Stage)
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = record_from_json(line)
        except (ValueError, RecursionError) as error:
            why = "it is not JSON" if isinstance(error, json.JSONDecodeError) else error
            raise InputError(f"{target}: line {number} is damaged: {why}") from None
        place = (order.index(record.stage), record.round)
        if not _follows(last, place):
            raise InputError(
                f"{target}: line {number} holds {record.stage.value} round {record.round}, which does not follow "
                "the line before it"
            )
        last = place
        yield record


def _follows(last: tuple[int, int] | None, place: tuple[int, int]) -> bool:
    """Whether a record may come after another: the start first, then each stage from round 1 on."""
    if last is None:
        return place == (0, 0)
    stage, round_ = place
    return (stage == last[0] and round_ == last[1] + 1 and stage > 0) or (stage > last[0] and round_ == 1)


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
