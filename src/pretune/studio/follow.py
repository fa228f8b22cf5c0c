"""A run's ledger while it grows, as server-sent events.

records   new rounds, as columns (`Series`); the first ones of a long run are thinned out
replans   what was planned anew since (`Replans`); at first the last ones, after the records they belong to
status    the run in short (`RunInfo`), at the beginning and whenever it changes
reset     the run went back to its last checkpoint: forget all records, they come again
end       the run has ended, or its process has; the stream is over

An event's id is the number of records up to it, so a browser that lost the connection goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pretune.ledger import RoundRecord, record_from_json
from pretune.lines import REPLANS
from pretune.studio.describe_run import info, series
from pretune.studio.jobs import Job
from pretune.studio.replans import MOST, replans_of
from pretune.studio.run_models import Replan, Replans, RunInfo

LOOK_S = 0.25
QUIET_LOOKS = 60
FIRST_POINTS = 2000
CHUNK = 4 * 2**20
GOING_ON = ("planning", "running")


@dataclass(kw_only=True)
class Growing:
    """How far a file of lines has been read."""

    path: Path
    _bytes: int = 0
    _rest: bytes = b""

    def was_cut(self) -> bool:
        """Whether the file is shorter than it was; then it is read from the beginning again."""
        if self._size() >= self._bytes:
            return False
        self._bytes, self._rest = 0, b""
        return True

    def lines(self) -> list[bytes]:
        """The lines that were added; half a line waits for its other half."""
        if self._size() == self._bytes:
            return []
        try:
            with self.path.open("rb") as file:
                file.seek(self._bytes)
                new = file.read(CHUNK)
        except OSError:
            return []
        self._bytes += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        return lines

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


@dataclass(kw_only=True)
class Tail(Growing):
    """How far a ledger has been read; `count` records, which were planned to take so many seconds and joules."""

    count: int = 0
    planned: tuple[float, float] = (0.0, 0.0)

    def was_cut(self) -> bool:
        """See `Growing.was_cut`."""
        if not super().was_cut():
            return False
        self.count, self.planned = 0, (0.0, 0.0)
        return True

    def look(self) -> list[RoundRecord]:
        """The records that were added."""
        try:
            return [record_from_json(line.decode()) for line in self.lines()]
        except (ValueError, RecursionError):  # damaged: `pretune run --resume` says so, in words
            return []

    def told(self, records: Sequence[RoundRecord]) -> None:
        """These are on their way."""
        self.count += len(records)
        self.planned = (
            math.fsum([self.planned[0], *(record.planned_s for record in records)]),
            math.fsum([self.planned[1], *(record.planned_j for record in records)]),
        )


@dataclass(kw_only=True)
class Anew(Growing):
    """How far a run's new plans have been read; `count` of them."""

    count: int = 0

    def look(self) -> list[Replan]:
        """The new plans that were added; the numbers begin again where the file was cut."""
        if self.was_cut():
            self.count = 0
        lines = self.lines()
        self.count += len(lines)
        last = lines[-MOST:]
        return replans_of(self.count - len(last) + 1, last)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What one look found."""

    cut: bool
    records: list[RoundRecord]
    replans: list[Replan]
    run: RunInfo


def _look(find: Callable[[], Job], tail: Tail, anew: Anew) -> _Seen:
    run = info(find())  # before the ledger: a run that has ended by now has all its rounds there
    return _Seen(cut=tail.was_cut(), records=tail.look(), replans=anew.look(), run=run)


async def events(
    find: Callable[[], Job], known: int, gone: Callable[[], Awaitable[bool]], look_s: float = LOOK_S
) -> AsyncIterator[bytes]:
    """The stream for one that has seen `known` records before; `gone` tells whether anybody still listens."""
    folder = find().folder
    tail, anew = Tail(path=folder / "ledger.jsonl"), Anew(path=folder / REPLANS)
    shown, quiet, first = "", 0, True
    while not await gone():
        seen = await asyncio.to_thread(_look, find, tail, anew)
        records = seen.records
        if seen.cut or (first and known > len(records)):
            known = 0
            yield _event("reset", "{}", 0)
        skipped = records[: max(0, known - tail.count)]
        tail.told(skipped)
        new = records[len(skipped) :]
        if new:
            columns = series(new, FIRST_POINTS if first else None, tail.planned)
            tail.told(new)
            yield _event("records", columns.model_dump_json(), tail.count)
        if seen.replans:
            yield _event("replans", Replans(replans=seen.replans).model_dump_json(), tail.count)
        text = seen.run.model_dump_json()
        if text != shown:
            shown = text
            yield _event("status", text, tail.count)
        if seen.run.status not in GOING_ON and not records and not seen.replans:
            yield _event("end", json.dumps({"status": seen.run.status}), tail.count)
            return
        first, quiet = False, 0 if new else quiet + 1
        if quiet >= QUIET_LOOKS:
            quiet = 0
            yield b": still here\n\n"
        if not records:
            await asyncio.sleep(look_s)


def _event(kind: str, data: str, number: int) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n".encode()
