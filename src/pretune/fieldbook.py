"""What a federation measured, round by round, beside what was planned: the file ``measured.jsonl`` of a run's folder.

The run's ledger (ledger.py) speaks of the model's seconds and joules and is the same for every repetition; this one
holds clock readings and is another every time. One JSON object a line, one line a fine-tuning round.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pretune.errors import InputError

NAME = "measured.jsonl"


class Standing(StrEnum):
    """What became of a device in a round; UNASKED: it was there, and a steered run did without it."""

    OK = "ok"
    LATE = "late"
    LEFT = "left"
    REJECTED = "rejected"
    BEHIND = "behind"
    ABSENT = "absent"
    UNASKED = "unasked"


@dataclass(frozen=True, kw_only=True)
class DeviceRound:
    """One device in one round; None where nothing was measured.

    `compute_j` is by the counter `compute_source` names, or by the model where that says "modelled"; `upload_j` is
    always modelled: the plan's power for the measured time. `upload_s` and `download_s` are told by two clocks,
    `waiting_s` is how long its answer waited for the last one. `applied` says for batch, clock and power what was done.
    """

    name: str
    standing: Standing
    planned_compute_s: float
    planned_upload_s: float
    planned_j: float
    compute_s: float | None = None
    upload_s: float | None = None
    download_s: float | None = None
    waiting_s: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    compute_j: float | None = None
    compute_source: str = ""
    upload_j: float | None = None
    applied: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class FieldRound:
    """One round.

    `began_s` counts from the server's start (a restart begins anew); `measured_s` goes from the beginning of the
    broadcast to the last answer that counted; `planned_s` and `planned_broadcast_s` are the plan's.
    """

    round: int
    began_s: float
    planned_s: float
    planned_broadcast_s: float
    measured_s: float
    devices: tuple[DeviceRound, ...]

    @property
    def answered(self) -> tuple[str, ...]:
        """The devices whose answers counted."""
        return tuple(device.name for device in self.devices if device.standing is Standing.OK)

    def to_json(self) -> str:
        """The line, without its end."""
        return json.dumps(asdict(self), allow_nan=False, separators=(",", ":"))


class FieldBook:
    """The open file. Rounds that a restarted server does again replace those after its checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rounds: list[FieldRound] = list(load_fieldbook(path)) if path.is_file() else []
        self._file = None if not self.rounds else open(path, "a", encoding="utf-8")  # noqa: SIM115 - `close` closes it

    def enter(self, line: FieldRound) -> None:
        """Add a round; what was measured of it, or after it, before a restart is dropped."""
        if self._file is None or (self.rounds and self.rounds[-1].round >= line.round):
            self.rounds = [old for old in self.rounds if old.round < line.round]
            self.close()
            part = self._path.with_name(self._path.name + ".part")
            part.write_text("".join(old.to_json() + "\n" for old in self.rounds), encoding="utf-8")
            os.replace(part, self._path)
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self.rounds.append(line)
        self._file.write(line.to_json() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def load_fieldbook(path: str | os.PathLike[str]) -> tuple[FieldRound, ...]:
    """Read the file (or that of a run's folder); a last line that is cut off is left out, its round will come again.

    Raises:
        InputError: it can't be read, or a line in it is damaged.
    """
    target = Path(path)
    if target.is_dir():
        target = target / NAME
    try:
        lines = target.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{target}: can't be read ({error})") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(_round(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(f"{target}: line {number} is damaged") from None
    return tuple(found)


def _round(tree: Mapping[str, Any]) -> FieldRound:
    rows: Sequence[Mapping[str, Any]] = tree["devices"]
    devices = tuple(DeviceRound(**{**row, "standing": Standing(row["standing"])}) for row in rows)
    return FieldRound(**{**tree, "devices": devices})


@dataclass(frozen=True, kw_only=True)
class DeviceSummary:
    """A device over all rounds: medians of seconds, sums of bytes and joules. `applied` says it for the terminal."""

    name: str
    rounds: int
    answered: int
    planned_compute_s: float
    planned_upload_s: float
    planned_j: float
    compute_s: float | None
    upload_s: float | None
    waiting_s: float | None
    bytes_up: int
    bytes_down: int
    measured_j: float
    source: str
    applied: str


def field_summary(lines: Sequence[FieldRound]) -> tuple[DeviceSummary, ...]:
    """One line a device, in the plan's order; empty where there are no rounds."""
    found = []
    for k, last in enumerate(lines[-1].devices if lines else ()):
        rows = [line.devices[k] for line in lines]
        good = [row for row in rows if row.standing is Standing.OK]
        newest = good[-1] if good else last
        found.append(
            DeviceSummary(
                name=last.name,
                rounds=len(rows),
                answered=len(good),
                planned_compute_s=statistics.median([row.planned_compute_s for row in good or [last]]),
                planned_upload_s=statistics.median([row.planned_upload_s for row in good or [last]]),
                planned_j=sum(row.planned_j for row in good),
                compute_s=_median([row.compute_s for row in good]),
                upload_s=_median([row.upload_s for row in good]),
                waiting_s=_median([row.waiting_s for row in good]),
                bytes_up=sum(row.bytes_up for row in good),
                bytes_down=sum(row.bytes_down for row in good),
                measured_j=sum((row.compute_j or 0.0) + (row.upload_j or 0.0) for row in good),
                source=newest.compute_source,
                applied=_applied(newest.applied),
            )
        )
    return tuple(found)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _applied(words: Mapping[str, str] | None) -> str:
    """The decisions that were applied, and those that were not, in a few words."""
    if words is None:
        return "-"
    kinds: dict[str, list[str]] = {}
    for decision, said in words.items():
        kinds.setdefault(said.partition(":")[0].partition(" by ")[0], []).append(decision)
    return "; ".join(f"{', '.join(decisions)} {kind}" for kind, decisions in kinds.items())
