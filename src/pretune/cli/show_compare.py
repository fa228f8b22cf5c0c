"""What `pretune compare` does and prints."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from pretune.cli.planning import check_options, plan_exit_code, refuse_existing
from pretune.cli.show_plan import console, table_of
from pretune.errors import InputError
from pretune.planner.baselines import CONSTANT, JOINT, ONE_STEP, Options, Outcome, compare, names_for
from pretune.plans import Plan
from pretune.report import write_page
from pretune.report.compare_page import TITLES, ranked, ratio_of, render_compare
from pretune.report.words import count, gap, joules, printable, seconds, significant
from pretune.scenario import Scenario, load_scenario


def run_compare(
    path: Path,
    *,
    only: tuple[str, ...],
    options: Options,
    tolerance: float,
    time_limit: float | None,
    as_json: bool,
    html: Path | None = None,
    force: bool = False,
) -> int:
    """Plan the scenario in every way asked for, print how they compare, and write the page `html` if there is one."""
    check_options(tolerance, time_limit)
    if html is not None:
        refuse_existing(html, force=force)
    scenario = load_scenario(path)
    known = names_for(scenario)
    for name in only:
        if name not in known:
            raise InputError.field("--only", name, "one of " + ", ".join(known))
    found: list[Outcome] = []
    with _Waiting(quiet=as_json) as waiting:
        waiting.at(JOINT)
        choices = scenario.convergence.choices
        ahead = [*[CONSTANT] * (scenario.schedule > 1), *[ONE_STEP] * (len(choices) > 1 and 1 in choices)]
        names = iter([*ahead, *(name for name in known if not only or name in only), ""])
        for outcome in compare(scenario, only=only, options=options, tolerance=tolerance, time_limit=time_limit):
            found.append(outcome)
            waiting.at(next(names, ""))
    joint = found[0].plan
    if joint is None:
        raise ValueError("the joint plan always is a plan, if only one that says why there is none")
    if html is not None:
        write_page(render_compare(scenario, found), html)
    if as_json:
        print(json.dumps(_tree(scenario, found), indent=1, allow_nan=False))
    else:
        _show(scenario, found, joint)
        if html is not None:
            print(f"Page: {html}")
    return plan_exit_code(joint, told=not as_json)


class _Waiting:
    """Says on a terminal's standard error what is being planned."""

    def __init__(self, *, quiet: bool) -> None:
        out = Console(stderr=True, highlight=False)
        self._status = out.status("planning") if out.is_terminal and not quiet and sys.stderr is not None else None

    def __enter__(self) -> _Waiting:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def at(self, name: str) -> None:
        if self._status is not None and name:
            self._status.update(f"planning: {TITLES[name]}")


def _show(scenario: Scenario, found: Sequence[Outcome], joint: Plan) -> None:
    out = console()
    out.print(Text(printable(scenario.name), style="bold"))
    if not joint.status.has_plan:
        out.print(Text(joint.message, style="bold red"))
        return
    table = table_of("Plan", "Rounds", "Objective", "Ratio", "Energy", "Delay", "Found in")
    table.collapse_padding = True  # it has to fit 80 columns
    for outcome in ranked(found):
        plan, style = outcome.plan, "bold" if outcome.name == JOINT else ""
        took = seconds(outcome.planning_s, 2)
        if plan is None or plan.pretrain is None or plan.finetune is None:
            took = "" if outcome.status == "unavailable" else took
            table.add_row(TITLES[outcome.name], "", outcome.status, "", "", "", took, style="dim")
            continue
        table.add_row(
            TITLES[outcome.name] + ("*" if plan.status.value == "time_limit" else ""),
            f"{count(plan.pretrain.rounds)} + {count(plan.finetune.rounds)}",
            significant(plan.objective, 6),
            f"{ratio_of(plan, joint):.4f}",
            joules(plan.energy_j, 3),
            seconds(plan.delay_s, 3),
            took,
            style=style,
        )
    table.columns[0].no_wrap = True
    out.print(table)
    ended = any(outcome.status == "time_limit" for outcome in found)
    out.print(Text(_legend(joint, ended=ended), style="dim"))
    for outcome in found:
        if outcome.note:
            out.print(Text(f"{TITLES[outcome.name]}: {outcome.note}", style="dim"))


def _legend(joint: Plan, *, ended: bool) -> str:
    said = "Rounds: pre-training + fine-tuning. Ratio: to the joint plan's objective.\n"
    said += f"Proven: no plan is below {significant(joint.lower_bound, 6)}; the joint plan's gap is "
    said += f"{gap(joint.relative_gap)}."
    return said + ("\n* the time limit ended it." if ended else "")


def _tree(scenario: Scenario, found: Sequence[Outcome]) -> dict[str, Any]:
    """The comparison as plain data; every plan as a plan file has it."""
    joint = found[0].plan
    rows = []
    for outcome in ranked(found):
        plan = outcome.plan
        ratio = None
        if plan is not None and joint is not None and plan.status.has_plan:
            ratio = ratio_of(plan, joint)
        rows.append(
            {
                "name": outcome.name,
                "status": outcome.status,
                "ratio": ratio if ratio is None or math.isfinite(ratio) else None,
                "restricted_bound": outcome.restricted_bound if math.isfinite(outcome.restricted_bound) else None,
                "planning_s": outcome.planning_s,
                "note": outcome.note,
                "plan": plan.to_dict() if plan is not None else None,
            }
        )
    return {"pretune": 1, "name": scenario.name, "scenario_sha256": scenario.sha256, "compared": rows}
