"""A plan on the terminal: aligned tables, human units, 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pretune.certify import Checked
from pretune.plans import Plan, Status
from pretune.report import sentences
from pretune.report.spending import Share, device_columns, shares
from pretune.report.stages import stage_rows
from pretune.report.words import count, gap, joules, percent, printable, quantity, seconds, significant
from pretune.scenario import Scenario

if TYPE_CHECKING:
    from pretune.planner.moved import Stand

MOST_DEVICES = 20
BAR = 26
_STYLES = {"pre": "blue", "fine": "yellow", "up": "green", "down": "magenta", "idle": "bright_black"}
_GOOD = {Status.OPTIMAL: "bold green", Status.FEASIBLE: "bold yellow", Status.TIME_LIMIT: "bold yellow"}


def console() -> Console:
    """Standard output for people: no guessing of numbers and paths in the text."""
    return Console(highlight=False, soft_wrap=False, emoji=False, markup=False)


def show_plan(plan: Plan, scenario: Scenario) -> None:
    """Print a plan, or why there is none."""
    out = console()
    out.print(Text(printable(scenario.name), style="bold"))
    out.print(Text(sentences.status(plan), style=_GOOD.get(plan.status, "bold red")))
    for part in _body(plan, scenario):
        out.print()
        out.print(part)


def show_check(plan: Plan, checked: Checked, over_subsets: float | None = None) -> None:
    """Print what `pretune check` verified; `over_subsets`: the lower bound of an admission."""
    out = console()
    if not plan.status.has_plan:
        out.print(Text("It holds that nothing fits the budgets.", style="bold green"))
        return
    out.print(Text(f"All {count(len(checked.constraints))} limits and all figures hold.", style="bold green"))
    table = _facts()
    for limit in checked.constraints:
        if limit.name in ("energy", "delay"):
            amounts = f"{sentences.amount(limit, limit.value)} of {sentences.amount(limit, limit.limit)}"
            table.add_row(limit.name.capitalize(), amounts)
    again = "proven again, without the solver" if checked.lower_bound_proven else "as claimed, not proven again"
    table.add_row("Objective", significant(checked.objective, 7))
    if over_subsets is None:
        table.add_row("Lower bound", f"{significant(plan.lower_bound, 7)} ({again})")
    else:
        table.add_row("Lower bound over all subsets", f"{significant(over_subsets, 7)} ({again})")
    table.add_row("Binding", Text(sentences.binding(checked.constraints)))
    out.print(table)


def show_explanation(plan: Plan, scenario: Scenario, *, aside: bool) -> None:
    """Print what binds and what a little more would buy; `aside`: on standard error."""
    from pretune.planner.explain import explain

    out = Console(stderr=True, highlight=False, emoji=False, markup=False) if aside else console()
    out.print()
    for sentence in explain(plan, scenario):
        out.print(Text(f"- {printable(sentence)}"))


def show_moved(rows: tuple[Stand, ...]) -> None:
    """Print a robust plan beside the one for the values in use: how far the decision moves, and what that costs."""
    table = table_of("Made for", "Pre-training", "Batch", "Fine-tuning", "Batches", "As in use", "At worst")
    for row in rows:
        each = row.plan.finetune.batch if row.plan.finetune is not None else None
        low, high = (int(each.min()), int(each.max())) if each is not None and each.size else (0, 0)
        pretrain, finetune = row.plan.pretrain, row.plan.finetune
        table.add_row(
            row.name,
            count(pretrain.rounds if pretrain is not None else 0),
            count(pretrain.batch if pretrain is not None and pretrain.rounds else 0),
            count(finetune.rounds if finetune is not None else 0),
            f"{low} to {high}" if finetune is not None and finetune.rounds else "-",
            significant(row.in_use, 5),
            significant(row.at_worst, 5),
        )
    out = console()
    out.print()
    out.print(Text("Robust: the objective with the constants in use, and with the worst of their 95% intervals"))
    out.print(table)


def _facts() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    return table


def _body(plan: Plan, scenario: Scenario) -> list[RenderableType]:
    if not plan.status.has_plan:
        lines = sentences.clash(plan)
        return [Text("\n".join(lines)), *_defaults(plan)] if lines else _defaults(plan)
    spent = shares(plan, scenario)
    return [
        _stages(plan),
        _budgets(plan, scenario, spent),
        _causes(plan, spent),
        _proof(plan, scenario),
        *_devices(plan, scenario),
        *_defaults(plan),
    ]


def table_of(*heads: str, left: int = 1) -> Table:
    """An empty table whose first `left` columns are names and whose other columns are figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index < left else "right", no_wrap=index >= left)
    return table


def _stages(plan: Plan) -> Table:
    table = table_of("Stage", "Rounds", "Batch", "Clock", "One round", "All rounds")
    for row in stage_rows(plan):
        table.add_row(row["stage"], row["rounds"], row["batch"], row["clock"], row["round"], row["total"])
    return table


def _budgets(plan: Plan, scenario: Scenario, spent: tuple[Share, ...]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, used, limit, write, parts in (
        (
            "Energy",
            plan.energy_j,
            scenario.budget.energy_j,
            joules,
            [(share.colour, share.energy_j) for share in spent],
        ),
        ("Delay", plan.delay_s, scenario.budget.delay_s, seconds, [(share.colour, share.delay_s) for share in spent]),
    ):
        said = f"{write(used, 5)} of {write(limit, 5)}"
        table.add_row(name, _bar(parts, limit), said, Text(percent(used / limit, 2), style="dim"))
    return table


def _ink() -> tuple[str, str]:
    """What bars are drawn with: blocks, or letters where the terminal knows no others."""
    return ("#", ".") if console().options.ascii_only else ("█", "░")


def _bar(parts: list[tuple[str, float]], limit: float) -> Text:
    """A stacked bar; the parts end where their running sum does, so rounding never adds up."""
    (full, empty), bar, reached, total = _ink(), Text(), 0, 0.0
    for colour, value in parts:
        total += value
        end = min(round(BAR * total / limit), BAR)
        bar.append(full * (end - reached), style=_STYLES[colour])
        reached = max(reached, end)
    bar.append(empty * (BAR - reached), style="dim")
    return bar


def _causes(plan: Plan, spent: tuple[Share, ...]) -> Table:
    table = table_of("Stage", "Cause", "Energy", "", "Delay", "", left=2)
    for share in spent:
        table.add_row(
            share.stage,
            Text.assemble((_ink()[0] + " ", _STYLES[share.colour]), share.cause),
            joules(share.energy_j),
            percent(share.energy_j / plan.energy_j) if plan.energy_j > 0 else "",
            seconds(share.delay_s),
            percent(share.delay_s / plan.delay_s) if plan.delay_s > 0 else "",
        )
    return table


def _proof(plan: Plan, scenario: Scenario) -> Table:
    facts = _facts()
    facts.add_row("Minimised", sentences.criterion(plan))
    facts.add_row("Objective", significant(plan.objective, 7))
    range_ = sentences.single_runs(plan, scenario.convergence.law)
    if range_:
        facts.add_row("Single runs", range_)
    if plan.privacy is not None:
        facts.add_row("Privacy", sentences.privacy(plan, scenario))
    if plan.under is not None:
        facts.add_row("Promise", Text(sentences.promise(plan)))
    facts.add_row("Lower bound", f"{significant(plan.lower_bound, 7)} (proven; gap {gap(plan.relative_gap)})")
    facts.add_row("Prices", Text("\n".join(sentences.prices(plan))))
    facts.add_row("Binding", Text(sentences.binding(plan.constraints)))
    return facts


def _devices(plan: Plan, scenario: Scenario) -> list[RenderableType]:
    columns = device_columns(plan, scenario)
    if columns is None:
        return []
    band = [] if columns.bandwidth_hz is None else ["Band"]
    asked = [] if columns.asked is None else ["Asked"]
    table = table_of("Device", *asked, "Batch", "Clock", "Power", *band, "Compute", "Upload", "Energy")
    table.columns[0].overflow = "ellipsis"
    table.columns[0].max_width = 18
    table.columns[0].no_wrap = True
    for index in range(min(len(columns), MOST_DEVICES)):
        table.add_row(
            Text(printable(columns.names[index])),
            *([] if columns.asked is None else [percent(columns.asked[index])]),
            count(int(columns.batch[index])),
            quantity(columns.clock_hz[index], "Hz", 3),
            quantity(columns.power_w[index], "W", 3),
            *([] if columns.bandwidth_hz is None else [quantity(columns.bandwidth_hz[index], "Hz", 3)]),
            seconds(columns.compute_s[index], 3),
            seconds(columns.upload_s[index], 3),
            joules(columns.round_j[index], 3),
        )
    more = len(columns) - MOST_DEVICES
    segmented = plan.finetune is not None and bool(plan.finetune.segments)
    said = "Each device, in one fine-tuning round" + segmented * " of the last segment"
    said += (columns.asked is not None) * ", when it is asked; energy in the mean"
    if more > 0:
        return [
            Text(said + f" (the first {MOST_DEVICES})", style="dim"),
            table,
            Text(f"and {count(more)} more", style="dim"),
        ]
    return [Group(Text(said, style="dim"), table)]


def _defaults(plan: Plan) -> list[RenderableType]:
    if not plan.defaults:
        return []
    return [Text("Defaults taken: " + "; ".join(printable(line) for line in plan.defaults), style="dim")]
