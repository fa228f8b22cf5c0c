"""The devices of a plan: who computes and uploads for how long in a round, and the choices of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretune.physics import cost
from pretune.plans import Plan
from pretune.report.spending import DeviceColumns, device_columns
from pretune.report.words import count, joules, percent, printable, quantity, seconds
from pretune.scenario import Access, Scenario

MOST_ROWS, MOST_BARS = 500, 24


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure as shown, and the number it is sorted by."""

    text: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One device in the table."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One device's round as a bar; the parts' widths are percent of the round."""

    name: str
    parts: tuple[dict[str, object], ...]


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The report's section about devices."""

    note: str
    heads: tuple[str, ...]
    rows: list[Row]
    bars: list[Bar]
    more: str


def devices(plan: Plan, scenario: Scenario) -> Devices | None:
    """The section, or None for a plan that does not fine-tune."""
    columns = device_columns(plan, scenario)
    if columns is None or plan.finetune is None:
        return None
    shown, total = min(len(columns), MOST_ROWS), len(columns)
    fdma = scenario.radio.access is Access.FDMA
    how = (
        "Devices upload side by side; the round ends with the slowest."
        if fdma
        else "Devices compute side by side and upload one after another; the bars leave out the waiting for a turn."
    )
    which = f" Shown: the {MOST_BARS} devices whose part of the round is longest." if total > MOST_BARS else ""
    last = plan.finetune.parts[-1]
    of_what = " of the last segment" if plan.finetune.segments else ""
    return Devices(
        note=f"One round{of_what} takes {seconds(last.round_s)}. {how}{which}",
        heads=(
            *(() if columns.asked is None else ("Asked",)),
            *("Batch", "Clock", "Power"),
            *(() if columns.bandwidth_hz is None else ("Band",)),
            *("Compute", "Upload", "Energy a round", "Energy in all"),
        ),
        rows=[_row(columns, index) for index in range(shown)],
        bars=_bars(columns, last.round_s, cost.broadcast(scenario).time_s),
        more=f"{count(total - shown)} more devices are in plan.json." if total > shown else "",
    )


def _row(columns: DeviceColumns, index: int) -> Row:
    band = [] if columns.bandwidth_hz is None else [columns.bandwidth_hz[index]]
    asked = [] if columns.asked is None else [columns.asked[index]]
    cells = (
        *((percent(share), share) for share in asked),
        (count(int(columns.batch[index])), columns.batch[index]),
        (quantity(columns.clock_hz[index], "Hz"), columns.clock_hz[index]),
        (quantity(columns.power_w[index], "W"), columns.power_w[index]),
        *((quantity(hertz, "Hz"), hertz) for hertz in band),
        (seconds(columns.compute_s[index]), columns.compute_s[index]),
        (seconds(columns.upload_s[index]), columns.upload_s[index]),
        (joules(columns.round_j[index]), columns.round_j[index]),
        (joules(columns.total_j[index]), columns.total_j[index]),
    )
    return Row(
        name=printable(columns.names[index]),
        cells=tuple(Cell(text=text, value=float(f"{value:.6g}")) for text, value in cells),
    )


def _bars(columns: DeviceColumns, round_s: float, down_s: float) -> list[Bar]:
    busy = columns.compute_s + columns.upload_s
    order = np.arange(len(columns)) if len(columns) <= MOST_BARS else np.argsort(-busy, kind="stable")[:MOST_BARS]
    return [
        Bar(
            name=printable(columns.names[index]),
            parts=tuple(
                {
                    "colour": colour,
                    "cause": cause,
                    "value": seconds(time_s),
                    "width": round(100 * min(time_s / round_s, 1.0), 3),
                }
                for colour, cause, time_s in (
                    ("down", "broadcast", down_s),
                    ("fine", "compute", float(columns.compute_s[index])),
                    ("up", "upload", float(columns.upload_s[index])),
                )
            ),
        )
        for index in order.tolist()
    ]
