"""What `pretune sweep` shows: a bar while it runs, then a line for each scenario and one for each failure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from pretune.cli.show_plan import console, table_of
from pretune.report.words import printable, significant
from pretune.sweeps import FINISHED, SweepRow


class Board:
    """The bar, and the table at the end; a context manager."""

    def __init__(self, total: int, *, shown: bool) -> None:
        columns = (TextColumn("Runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console(), transient=True, disable=not shown)
        self._task = self._bar.add_task("runs", total=total)

    def __enter__(self) -> Board:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, row: SweepRow) -> None:
        """One more run is done."""
        self._bar.advance(self._task)

    def show(self, rows: Sequence[SweepRow], out: Path) -> None:
        """Mean and spread over the seeds, scenario by scenario, and what failed."""
        table = table_of("Scenario", "Runs", "Found", "Failed", "Test loss", "Test accuracy")
        for name in dict.fromkeys(row.scenario for row in rows):
            own = [row for row in rows if row.scenario == name]
            done = [row for row in own if row.status == FINISHED]
            table.add_row(
                printable(name),
                str(len(own)),
                str(sum(row.found for row in own)),
                str(len(own) - len(done)),
                _spread([row.test_loss for row in done]),
                _spread([row.test_accuracy for row in done]),
            )
        screen = console()
        screen.print(table)
        for row in rows:
            if row.error is not None:
                screen.print(Text(f"{printable(row.scenario)}, seed {row.seed}: {printable(row.error)}", style="red"))
        screen.print(Text(f"Rows: {out / 'sweep.json'}"))


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return significant(mean, 4)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))
    return f"{significant(mean, 4)} ± {significant(spread, 2)}"
