"""A run on the terminal: progress while it goes, and what came out beside what was planned."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from pretune.cli.show_plan import console, table_of
from pretune.ledger import RoundRecord, Stage, load_ledger
from pretune.plans import Plan
from pretune.report.spending import FINETUNE, PRETRAIN
from pretune.report.words import count, joules, percent, printable, seconds, significant
from pretune.scenario import Scenario

_NAMES = {Stage.START.value: "Before training", Stage.PRETRAIN.value: PRETRAIN, Stage.FINETUNE.value: FINETUNE}


def announce(plan: Plan, scenario: Scenario, folder: Path) -> None:
    """One line about what is going to happen."""
    pretrain = plan.pretrain.rounds if plan.pretrain else 0
    finetune = plan.finetune.rounds if plan.finetune else 0
    console().print(
        Text.assemble(
            (printable(scenario.name), "bold"),
            f": {count(pretrain)} rounds of pre-training, {count(finetune)} of fine-tuning on "
            f"{count(len(scenario.devices))} devices, into {printable(folder)}",
        )
    )


class Progress:
    """A bar a stage with the latest loss and accuracy; call it with each record of the ledger."""

    def __init__(self, plan: Plan) -> None:
        self._bars = RichProgress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(compact=True),
            console=console(),
        )
        self._tasks: dict[Stage, TaskID] = {}
        self._accuracy: float | None = None
        self._pretrain_rounds = plan.pretrain.rounds if plan.pretrain else 0
        for stage, name, rounds in (
            (Stage.PRETRAIN, PRETRAIN, plan.pretrain.rounds if plan.pretrain else 0),
            (Stage.FINETUNE, FINETUNE, plan.finetune.rounds if plan.finetune else 0),
        ):
            if rounds:
                self._tasks[stage] = self._bars.add_task(name, total=rounds, said="", start=False)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, record: RoundRecord) -> None:
        """Show one more round."""
        if record.test_accuracy is not None:
            self._accuracy = record.test_accuracy
        task = self._tasks.get(record.stage)
        if task is None:
            return
        if record.stage is Stage.FINETUNE and Stage.PRETRAIN in self._tasks:
            # A resumed run does not report again what was done before.
            self._bars.update(self._tasks[Stage.PRETRAIN], completed=self._pretrain_rounds)
        self._bars.start_task(task)
        said = [] if record.loss is None else [f"loss {significant(record.loss, 3)}"]
        if self._accuracy is not None:
            said.append(f"accuracy {percent(self._accuracy)}")
        self._bars.update(task, completed=record.round, said=", ".join(said))


def show_result(folder: Path, report: Path) -> None:
    """Planned against realised, what was learnt, and where the report is."""
    out, ledger = console(), load_ledger(folder)
    table = table_of("Stage", "Rounds", "Time planned", "realised", "Energy planned", "realised")
    totals = ledger.table()
    for total in totals:
        if total.name == Stage.START.value or (total.rounds == 0 and total.name != "total"):
            continue
        table.add_row(
            _NAMES.get(total.name, "Total"),
            count(total.rounds),
            seconds(total.planned_s),
            seconds(total.realised_s),
            joules(total.planned_j),
            joules(total.realised_j),
        )
    learnt = table_of("Model", "Test loss", "Test accuracy")
    for total in totals[:-1]:
        if total.test_loss is not None or total.test_accuracy is not None:
            name = _NAMES[total.name]
            learnt.add_row(
                name if total.name == Stage.START.value else f"After {name.lower()}",
                "-" if total.test_loss is None else significant(total.test_loss),
                "-" if total.test_accuracy is None else percent(total.test_accuracy),
            )
    for part in (table, learnt):
        if isinstance(part, Table) and part.row_count:
            out.print()
            out.print(part)
    out.print()
    for line in _remarks(folder):
        out.print(Text(line))
    out.print(Text(f"Report: {printable(report)}"))


def _remarks(folder: Path) -> list[str]:
    """What was done otherwise than by the plain weighted mean, one line each."""
    lines = []
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if "aggregation" in summary:
        rule = printable(summary["aggregation"])
        lines.append(f"Aggregation: {rule}; the plan's bound speaks of the weighted mean, and not of this.")
    spent = summary.get("privacy")
    if spent is not None:
        timing = json.loads((folder / "timing.json").read_text(encoding="utf-8"))
        seen, clipped = timing.get("private_updates", 0), timing.get("clipped_updates", 0)
        share = f"; {percent(clipped / seen)} of the updates were clipped" if seen else ""
        epsilon, asked = significant(spent["epsilon_spent"], 4), significant(spent["epsilon"], 4)
        bias = ", of whose bias the plan's bound says nothing" if clipped else ""
        delta = significant(spent["delta"], 2)
        lines.append(f"Privacy: epsilon {epsilon} of {asked} spent at delta {delta}{share}{bias}.")
    return lines
