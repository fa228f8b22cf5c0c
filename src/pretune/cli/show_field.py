"""A federation on the terminal: its latest round while it goes, planned beside measured; the same in sum afterwards."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live as RichLive
from rich.text import Text

from pretune.cli.show_plan import console, table_of
from pretune.errors import InputError
from pretune.fieldbook import NAME, FieldRound, field_summary, load_fieldbook
from pretune.plans import Plan
from pretune.report.words import count, printable, seconds

MOST_ROWS = 16


class Live:
    """The latest round of `measured.jsonl`, drawn again when there is a new one. Call `look` now and then."""

    def __init__(self, plan: Plan, folder: Path, silent: bool) -> None:
        self._rounds = plan.finetune.rounds if plan.finetune else 0
        self._path, self._seen = folder / NAME, -1
        self._live = None if silent else RichLive(console=console(), auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def look(self) -> None:
        """Draw what is new."""
        if self._live is None:
            return
        with contextlib.suppress(OSError, InputError):
            size = self._path.stat().st_size
            if size != self._seen:
                self._seen = size
                lines = load_fieldbook(self._path)
                if lines:
                    self._live.update(self._drawn(lines[-1]), refresh=True)

    def _drawn(self, line: FieldRound) -> Group:
        head = Text(
            f"Round {line.round} of {self._rounds}: planned {seconds(line.planned_s)}, "
            f"measured {seconds(line.measured_s)}, {len(line.answered)} of {len(line.devices)} devices answered"
        )
        table = table_of("Device", "Standing", "Compute", "Upload", "Waited")
        for device in line.devices[:MOST_ROWS]:
            table.add_row(
                printable(device.name),
                device.standing.value,
                _pair(device.planned_compute_s, device.compute_s),
                _pair(device.planned_upload_s, device.upload_s),
                _seconds(device.waiting_s),
            )
        more = [Text(f"and {len(line.devices) - MOST_ROWS} more")] if len(line.devices) > MOST_ROWS else []
        return Group(head, table, *more)


def show_field(folder: Path) -> None:
    """Medians over all rounds, planned beside measured; nothing where nothing was measured."""
    if not (folder / NAME).is_file():
        return
    out, lines = console(), load_fieldbook(folder)
    rows = field_summary(lines)
    if not rows:
        return
    table = table_of("Device", "Answered", "Compute", "Upload", "Waited", "Energy")
    for row in rows[:MOST_ROWS]:
        table.add_row(
            printable(row.name),
            f"{count(row.answered)} of {count(row.rounds)}",
            _pair(row.planned_compute_s, row.compute_s),
            _pair(row.planned_upload_s, row.upload_s),
            _seconds(row.waiting_s),
            row.source.partition(",")[0] or "-",
        )
    out.print()
    out.print(Text("A round at each device, planned / measured (median)", style="bold"))
    out.print(table)
    for said in sorted({row.applied for row in rows}):
        out.print(Text(f"Decisions: {said} ({', '.join(row.name for row in rows if row.applied == said)})"))


def _pair(planned: float, measured: float | None) -> str:
    return f"{seconds(planned)} / {_seconds(measured)}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else seconds(value)
