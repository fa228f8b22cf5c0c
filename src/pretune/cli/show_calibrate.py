"""A calibration on the terminal: progress while it goes, and the figures with their intervals."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from pretune.calibration.decide import Decision, rounded
from pretune.cli.show_plan import console, table_of
from pretune.measured import Figure, Measurements, figure_text, section_of
from pretune.report.words import printable, seconds

if TYPE_CHECKING:
    from pretune.runtime.calibrate import Calibration


class Progress:
    """A bar over all looks of all repetitions; call it with how many are done and how many there may be."""

    def __init__(self) -> None:
        self._bar = RichProgress(
            TextColumn("Measuring"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console(),
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, count: int, most: int) -> None:
        """Show how far it is; what fails before the first look shows no bar."""
        self._bar.start()
        self._bar.update(self._task, completed=count, total=most)


def show_calibration(measured: Measurements, decision: Decision, found: Calibration, target: Path) -> None:
    """The figures, what was written and what was kept."""
    out = console()
    table = table_of("Constant", "Measured", "95% interval", "", left=1)
    table.columns[0].no_wrap = True
    for key, figure in measured.found:
        section = section_of(key)
        written = section is not None and key in decision.values.get(section, {})
        table.add_row(
            key,
            _short(figure.value),
            f"{_short(figure.low)} to {_short(figure.high)}",
            Text("written" if written else "as it was" if section else "only told", style="dim"),
        )
    out.print(f"{found.repetitions} repetitions in {seconds(found.seconds)}")
    out.print(table)
    for line in (*decision.kept, *found.figures.notes):
        out.print(Text(printable(line), style="yellow"), soft_wrap=True)
    if decision.kept:
        out.print(Text("--overwrite replaces what was set by hand", style="dim"))
    out.print(f"Scenario: {printable(str(target))}")


def _short(figure: Figure) -> str:
    if isinstance(figure, tuple):
        return f"({min(figure):.3g}..{max(figure):.3g})"
    return f"{figure:.0f}" if figure.is_integer() and figure < 1e15 else figure_text(rounded(figure))
