"""What `pretune-experiments` shows: lists, a bar while it runs, and what is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from pretune.cli.show_plan import console, table_of
from pretune.report.words import printable
from pretune.study.registry import Experiment
from pretune.study.runner import Result, Work
from pretune.study.store import Measured


class Board:
    """The bar over all points; failures appear above it as they come. A context manager."""

    def __init__(self, total: int, *, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console(), transient=True, disable=not shown)
        self._task = self._bar.add_task("Points", total=total)

    def __enter__(self) -> Board:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, work: Work, measured: Measured) -> None:
        """One more point is measured."""
        self._bar.update(self._task, advance=1, description=printable(work.experiment.name))


def show_list(found: Sequence[tuple[Experiment, int]], others: Sequence[str]) -> None:
    """The experiments with their points and questions, and the scripts that stand beside them."""
    screen, width = console(), max((len(one.name) for one, _ in found), default=0)
    for experiment, points in found:
        line = f"{printable(experiment.name):{width}}  {points:6d} points  {printable(experiment.question)}"
        screen.print(Text(line), soft_wrap=True)
    if others:
        screen.print(Text("By themselves (python experiments/NAME.py): " + ", ".join(others)), soft_wrap=True)


def show_works(todo: Sequence[Work]) -> None:
    """How far a study is: `other` points are only there by another version of the code; times are of a processor."""
    table = table_of("Name", "Points", "Done", "Other", "Left", "Spent", "To go")
    for work in todo:
        spent = sum(one.cpu_s for one in work.done.values())
        each = spent / len(work.done) if work.done else None
        table.add_row(
            printable(work.experiment.name),
            str(len(work.points)),
            str(len(work.done)),
            str(work.other_versions),
            str(len(work.left)),
            lasting(spent),
            "–" if each is None else lasting(each * len(work.left)),
        )
    console().print(table)


def show_result(result: Result, out: Path) -> None:
    """One line of what was done."""
    screen = console()
    failed = len(result.failures)
    line = (
        f"{result.measured - failed} points measured in {lasting(result.wall_s)}, {result.found} found, {failed} failed"
    )
    screen.print(Text(line, style="red" if failed else ""))
    screen.print(Text(f"Tables: {out}"))


def lasting(seconds: float) -> str:
    """A time span, as people say it."""
    if seconds < 120.0:
        return f"{seconds:.0f} s" if seconds >= 10.0 else f"{seconds:.1f} s"
    minutes = round(seconds / 60.0)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
