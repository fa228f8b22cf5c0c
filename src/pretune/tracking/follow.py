"""Follows a run and tells a tracker of it. Whatever the tracker does, the run goes on: one line says that it failed.

Which tracked run belongs to a run's folder is kept there (``tracking.json``), so that a resumed run goes on in the same
one. What is written already is asked of the tracker itself: no round is written twice, and none that an interruption
kept from it is left out.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pretune.errors import InputError
from pretune.fieldbook import NAME as FIELD_NAME
from pretune.fieldbook import load_fieldbook
from pretune.ledger import RoundRecord
from pretune.plans import Plan
from pretune.scenario import Scenario
from pretune.tracking.rows import EVERY_ROUND, MEASURED, Row, Steps, measured_rows, parameters_of, whole_records

TRACKERS = ("mlflow", "tensorboard")
NOTES = "tracking.json"
ARTIFACTS = ("plan.json", "scenario.json", "ledger.jsonl", FIELD_NAME, "summary.json", "report.html")
EVERY_S = 2.0
"""Rounds are sent together at most so often: a tracker may be a server far away."""
MOST_ROWS = 60
"""Rows that are held back at most; with all their figures they fit into one request to MLflow."""
_USER = re.compile(r"(?<=//)[^/@\s]+(?=@)")


class Sink(Protocol):
    """A tracker of one kind. Every method may raise anything."""

    def open(self, run: str | None, title: str, parameters: Mapping[str, str]) -> str:
        """Begin a run with these parameters, or go on with the one named; returns its name for next time."""
        ...

    def last_step(self, key: str) -> int:
        """The last step that a figure has been written for; -1 for none."""
        ...

    def write(self, rows: Sequence[Row]) -> None:
        """Write figures."""
        ...

    def keep(self, files: Sequence[Path]) -> None:
        """Keep these files, or say where they are."""
        ...

    def close(self, status: str) -> None:
        """End the run: finished, failed or interrupted."""
        ...


def open_tracking(
    kind: str,
    uri: str | None,
    *,
    plan: Plan,
    scenario: Scenario,
    folder: Path,
    run: Mapping[str, object],
    warn: Callable[[str], None],
) -> Tracking:
    """What follows a run into `folder`; `run` are its options, `warn` says a line. Nothing is written yet.

    Raises:
        InputError: there is no tracker of this kind.
        MissingExtra: its library is not installed.
    """
    if kind not in TRACKERS:
        raise InputError.field("--track", kind, "one of " + ", ".join(TRACKERS))
    sink: Sink
    if kind == "mlflow":
        from pretune.tracking.mlflow import MLflow

        sink = MLflow(uri, folder)
    else:
        from pretune.tracking.tensorboard import TensorBoard

        sink = TensorBoard(uri, folder)
    return Tracking(kind, uri, sink, plan=plan, scenario=scenario, folder=folder, run=run, warn=warn)


class Tracking:
    """Call it with each record of the ledger, then `finish`; a context manager that ends a run that was left early."""

    def __init__(
        self,
        kind: str,
        uri: str | None,
        sink: Sink,
        *,
        plan: Plan,
        scenario: Scenario,
        folder: Path,
        run: Mapping[str, object],
        warn: Callable[[str], None],
    ) -> None:
        self._kind, self._sink, self._folder, self._warn = kind, sink, folder, warn
        self._where = f"{kind} {_USER.sub('***', uri) if uri else 'default'}"
        self._plan, self._scenario, self._run = plan, scenario, run
        self._steps = Steps(plan)
        self._rows: list[Row] = []
        self._opened = self._off = self._over = False
        self._written = -1
        self._sent_at = time.monotonic()

    def __call__(self, record: RoundRecord) -> None:
        """A record was entered into the ledger."""
        self._safely(lambda: self._follow(record))

    def finish(self, status: str = "finished") -> None:
        """The run has ended: what is still missing is written, and its files are kept."""
        self._safely(lambda: self._finish(status))
        self._over = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._over and self._opened:
            status = "interrupted" if kind is not None and issubclass(kind, KeyboardInterrupt) else "failed"
            self._safely(lambda: self._leave(status))

    def _safely(self, call: Callable[[], None]) -> None:
        if self._off:
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001  a tracker's library may raise anything, and the run matters more
            self._off = True
            first = _USER.sub("***", (str(error).strip().splitlines() or [""])[0])[:200]
            self._warn(
                f"warning: tracking with {self._kind} stopped ({type(error).__name__}: {first}); the run goes on"
            )

    def _open(self) -> None:
        if self._opened:
            return
        notes = _notes(self._folder)
        title = f"{self._scenario.name} ({self._folder.name})"
        name = self._sink.open(notes.get(self._where), title, parameters_of(self._plan, self._scenario, self._run))
        self._opened = True
        (self._folder / NOTES).write_text(json.dumps({**notes, self._where: name}, indent=1) + "\n", encoding="utf-8")
        self._written = self._sink.last_step(EVERY_ROUND)

    def _follow(self, record: RoundRecord) -> None:
        self._open()
        step = self._steps.step_of(record)
        if step > self._steps.next:  # a resumed run: what came before is on the disk
            self._catch_up(before=step)
        self._take(record)
        if len(self._rows) >= MOST_ROWS or time.monotonic() - self._sent_at >= EVERY_S:
            self._send()

    def _catch_up(self, before: float) -> None:
        for record in whole_records(self._folder / "ledger.jsonl"):
            if self._steps.next <= self._steps.step_of(record) < before:
                self._take(record)

    def _take(self, record: RoundRecord) -> None:
        row = self._steps.row(record)
        if row.step > self._written:
            self._rows.append(row)

    def _send(self) -> None:
        while self._rows:
            some, self._rows = self._rows[:MOST_ROWS], self._rows[MOST_ROWS:]
            self._sink.write(some)
            self._written = some[-1].step
        self._sent_at = time.monotonic()

    def _finish(self, status: str) -> None:
        self._open()
        self._catch_up(before=float("inf"))
        self._send()
        if (self._folder / FIELD_NAME).is_file():
            last = self._sink.last_step(MEASURED)
            rows = [row for row in measured_rows(load_fieldbook(self._folder), self._plan) if row.step > last]
            for first in range(0, len(rows), MOST_ROWS):
                self._sink.write(rows[first : first + MOST_ROWS])
        self._sink.keep([self._folder / name for name in ARTIFACTS if (self._folder / name).is_file()])
        self._sink.close(status)

    def _leave(self, status: str) -> None:
        self._send()
        self._sink.close(status)


def _notes(folder: Path) -> dict[str, str]:
    try:
        tree = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in tree.items()} if isinstance(tree, dict) else {}
