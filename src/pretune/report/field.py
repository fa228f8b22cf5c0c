"""What a federation measured, beside what was planned: the report's section, only where there was a federation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pretune.fieldbook import NAME, Standing, field_summary, load_fieldbook
from pretune.report.folder import RunFolder
from pretune.report.words import count, joules, printable, seconds

MOST_ROWS = 500
_FINE = (Standing.OK, Standing.UNASKED)


@dataclass(frozen=True, kw_only=True)
class Field:
    """The section: a note, and one row of texts a device."""

    note: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def field(run: RunFolder) -> Field | None:
    """The section, or None for a run without a federation.

    Raises:
        InputError: the file of measurements is damaged.
    """
    if not (run.path / NAME).is_file():
        return None
    lines = load_fieldbook(run.path)
    if not lines:
        return None
    measured = statistics.median(line.measured_s for line in lines)
    planned = statistics.median(line.planned_s for line in lines)
    missing = sum(any(one.standing not in _FINE for one in line.devices) for line in lines)
    note = (
        f"{count(len(lines))} rounds by separate processes, by the clock: {seconds(measured)} a round (median), "
        f"{seconds(planned)} planned. In {count(missing)} of them a device was missing. Times are medians over the "
        "rounds that a device answered; energy of computing is modelled unless a counter is named, energy of sending "
        "is the planned power for the measured time."
    )
    rows = [
        (
            printable(row.name),
            f"{count(row.answered)} of {count(row.rounds)}",
            seconds(row.planned_compute_s),
            _seconds(row.compute_s),
            seconds(row.planned_upload_s),
            _seconds(row.upload_s),
            _seconds(row.waiting_s),
            f"{count(row.bytes_up)} / {count(row.bytes_down)}",
            joules(row.planned_j),
            joules(row.measured_j),
            printable(row.source) or "-",
            printable(row.applied),
        )
        for row in field_summary(lines)[:MOST_ROWS]
    ]
    return Field(note=note, heads=_HEADS, rows=rows)


_HEADS = (
    "Device",
    "Answered",
    "Compute planned",
    "measured",
    "Upload planned",
    "measured",
    "Waited",
    "Bytes up / down",
    "Energy planned",
    "measured",
    "Counter",
    "Decisions",
)


def _seconds(value: float | None) -> str:
    return "-" if value is None else seconds(value)
