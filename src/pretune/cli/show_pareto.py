"""What `pretune pareto` does and prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from pretune.cli.guard import complain
from pretune.cli.planning import check_options, refuse_existing
from pretune.cli.show_plan import console, table_of
from pretune.errors import InputError
from pretune.planner import pareto
from pretune.planner.pareto import FrontPoint
from pretune.report import write_page
from pretune.report.front_page import TITLES, render_fronts
from pretune.report.words import count, gap, joules, printable, seconds, significant
from pretune.scenario import Scenario, load_scenario


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asks for."""

    scenario: Path
    points: int
    energy: str | None
    delay: str | None
    grid: bool
    as_json: bool
    plot: Path | None
    html: Path | None
    force: bool
    tolerance: float
    time_limit: float | None


def run_pareto(wanted: Wanted) -> int:
    """Plan the fronts, print them, and draw them or write their page if asked."""
    check_options(wanted.tolerance, wanted.time_limit)
    if wanted.plot is not None:
        if wanted.plot.suffix != ".svg":
            raise InputError.field("--plot", str(wanted.plot), "the name of a file that ends in .svg")
        refuse_existing(wanted.plot, force=wanted.force)
    if wanted.html is not None:
        refuse_existing(wanted.html, force=wanted.force)
    scenario = load_scenario(wanted.scenario)
    ranges = {axis: _range(scenario, axis, text) for axis, text in (("energy", wanted.energy), ("delay", wanted.delay))}
    swept = [axis for axis, text in (("energy", wanted.energy), ("delay", wanted.delay)) if text is not None]
    how: dict[str, Any] = {"tolerance": wanted.tolerance, "time_limit": wanted.time_limit}
    found: list[FrontPoint] = []
    values = {axis: pareto.budgets(*ranges[axis], wanted.points, f"--{axis}") for axis in pareto.AXES}
    if wanted.grid:
        found += pareto.grid(scenario, values["energy"], values["delay"], **how)
    else:
        for axis in swept or pareto.AXES:
            found += pareto.front(scenario, axis, values[axis], **how)
    if wanted.plot is not None:
        from pretune.cli.draw_pareto import draw

        draw(scenario, found, wanted.plot)
    if wanted.html is not None:
        write_page(render_fronts(scenario, found), wanted.html)
    if wanted.as_json:
        print(json.dumps(_tree(scenario, found), indent=1, allow_nan=False))
    else:
        _show(scenario, found)
        if wanted.plot is not None:
            print(f"Plot: {wanted.plot}")
        if wanted.html is not None:
            print(f"Page: {wanted.html}")
    if not any(point.plan is not None for point in found):
        complain("infeasible: nothing fits any of these budgets")
        return 3
    return 0


def _range(scenario: Scenario, axis: str, text: str | None) -> tuple[float, float]:
    """``LO:HI`` in SI, read with the rules of the scenario's budget."""
    if text is None:
        return pareto.default_range(scenario, axis)
    ends = text.split(":")
    if len(ends) != 2:
        raise InputError.field(f"--{axis}", text, "two budgets with a colon between them, such as 1:10")
    low, high = (_budget(scenario, axis, end.strip(), text) for end in ends)
    if not low < high:
        raise InputError.field(f"--{axis}", text, "two budgets with a colon between them, the smaller first")
    return low, high


def _budget(scenario: Scenario, axis: str, end: str, text: str) -> float:
    try:
        given: float | str = float(end)
    except ValueError:
        given = end
    try:
        if axis == "energy":
            return scenario.with_budget(energy_j=given).budget.energy_j
        return scenario.with_budget(delay_s=given).budget.delay_s
    except (InputError, ValueError):
        raise InputError.field(f"--{axis}", text, "two positive budgets, such as 1:10") from None


def _show(scenario: Scenario, found: Sequence[FrontPoint]) -> None:
    out = console()
    out.print(Text(printable(scenario.name), style="bold"))
    for axis in dict.fromkeys(point.axis for point in found):
        out.print(Text(TITLES[axis]))
        table = table_of("Energy", "Delay", "Rounds", "Objective", "Gap", "Planned in", left=0)
        for point in found:
            if point.axis == axis:
                table.add_row(*_row(point))
        out.print(table)
    out.print(Text("Rounds: pre-training + fine-tuning. Gap: to the proven lower bound.", style="dim"))


def _row(point: FrontPoint) -> tuple[str, ...]:
    plan, budget = point.plan, (joules(point.energy_j), seconds(point.delay_s))
    if plan is None or plan.pretrain is None or plan.finetune is None:
        return (*budget, "", "infeasible", "", seconds(point.planning_s, 3))
    return (
        *budget,
        f"{count(plan.pretrain.rounds)} + {count(plan.finetune.rounds)}",
        significant(plan.objective, 6),
        gap(plan.relative_gap),
        seconds(point.planning_s, 3),
    )


def _tree(scenario: Scenario, found: Sequence[FrontPoint]) -> dict[str, Any]:
    rows = []
    for point in found:
        row: dict[str, Any] = {
            "axis": point.axis,
            "budget": {"energy_j": point.energy_j, "delay_s": point.delay_s},
            "status": "infeasible",
            "planning_s": point.planning_s,
        }
        plan = point.plan
        if plan is not None and plan.pretrain is not None and plan.finetune is not None:
            row |= {
                "status": plan.status.value,
                "pretrain_rounds": plan.pretrain.rounds,
                "finetune_rounds": plan.finetune.rounds,
                "objective": plan.objective,
                "lower_bound": plan.lower_bound,
                "relative_gap": plan.relative_gap,
                "energy_j": plan.energy_j,
                "delay_s": plan.delay_s,
                "multipliers": dict(plan.multipliers),
            }
        rows.append(row)
    return {"pretune": 1, "name": scenario.name, "scenario_sha256": scenario.sha256, "points": rows}
