"""A profile on the terminal: progress while it goes, the figures, and what is unmeasured and why."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from pretune.cli.show_plan import console, table_of
from pretune.device import QUANTITIES
from pretune.report.words import count, printable, quantity, significant

if TYPE_CHECKING:
    from pretune.profiling.profile import Profile


class Progress:
    """A bar over the seconds wished for; call it with what is being measured."""

    def __init__(self, seconds: float) -> None:
        self._bar = RichProgress(
            TextColumn("Measuring {task.fields[what]}"), BarColumn(bar_width=24), TimeElapsedColumn(), console=console()
        )
        self._task = self._bar.add_task("", total=seconds, what="")
        self._began = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, what: str) -> None:
        """Show how far it is; what fails before the first measurement shows no bar."""
        if not self._began:
            self._began = time.monotonic()
            self._bar.start()
        self._bar.update(self._task, completed=time.monotonic() - self._began, what=what)


def show_profile(found: Profile, entry: Mapping[str, Any], missing: Sequence[str], out: Path | None) -> None:
    """The sweep, the entry's figures, and what is missing."""
    say = console()
    machine = found.machine
    say.print(Text(f"{printable(machine['processor'])}, {machine['threads']} threads", style="bold"))
    cost = found.cost
    flops = "not counted" if cost.flops_per_sample is None else quantity(cost.flops_per_sample, "FLOP")
    say.print(
        f"One sample: {flops}; the {count(cost.parameters)} trainable parameters: {quantity(cost.upload_bits, 'bit')}, "
        f"{quantity(cost.upload_frame_bits, 'bit')} as a frame"
    )
    table = table_of("Threads", "Batch", "One step", "95% interval", "Sustained", "", left=0)
    for timing in found.sweep:
        known = cost.flops_per_sample is not None
        table.add_row(
            str(timing.threads),
            str(timing.batch),
            quantity(timing.step_s, "s"),
            f"{quantity(timing.low_s, 's', 3)} to {quantity(timing.high_s, 's', 3)}",
            quantity(timing.flops_per_s(cost.flops_per_sample or 0.0), "FLOP/s") if known else "-",
            "in the entry" if timing is found.chosen else "",
        )
    say.print(table)
    facts = table_of("Device", entry["device"]["name"], left=1)
    for key, value in entry["device"].items():
        if key != "name":
            facts.add_row(key, Text("unmeasured", style="yellow") if value is None else _figure(key, value))
    say.print(facts)
    for key, why in entry["measured"]["unmeasured"].items():
        say.print(Text(printable(f"{key} is unmeasured: {why}"), style="yellow"), soft_wrap=True)
    for note in found.notes:
        say.print(Text(printable(f"Note: {note}"), style="yellow"), soft_wrap=True)
    if missing:
        say.print(f"Before it can be used, give {', '.join(missing)}: with --set, or in the file", soft_wrap=True)
    if out is not None:
        say.print(f"Device entry: {printable(str(out))}")


def _figure(key: str, value: float) -> str:
    unit = QUANTITIES[key].unit
    return quantity(value, unit) if unit in ("Hz", "W", "J") else significant(value, 4)
