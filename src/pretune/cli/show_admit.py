"""What `pretune admit` does and prints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from pretune.cli.guard import complain
from pretune.cli.planning import check_options, refuse_existing, save
from pretune.cli.show_plan import console, table_of
from pretune.errors import InputError
from pretune.planner.admission import Admission, admit
from pretune.planner.admission_reasons import Dropped
from pretune.plans import Status
from pretune.report.words import count, gap, percent, printable, significant
from pretune.scenario import Scenario, load_scenario

MOST_DEVICES = 20
_WORDS = {"airtime": "airtime", "clock": "clock", "battery": "battery", "worth": "not worth its cost"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asks for."""

    scenario: Path
    out: Path | None
    scenario_out: Path | None
    proof_out: Path | None
    min_weight: float
    as_json: bool
    quiet: bool
    tolerance: float
    time_limit: float | None
    force: bool


def run_admit(wanted: Wanted) -> int:
    """Admit, write the plan, its scenario and the admission with its proof, show them."""
    check_options(wanted.tolerance, wanted.time_limit)
    if not 0.0 <= wanted.min_weight <= 1.0:
        raise InputError.field("--min-weight", wanted.min_weight, "a share from 0 to 1")
    beside, proof = wanted.scenario_out, wanted.proof_out
    if wanted.out is not None:
        beside = beside or wanted.out.with_name(wanted.out.stem + ".scenario.json")
        proof = proof or wanted.out.with_name(wanted.out.stem + ".admission.json")
    for option, path, others in (
        ("--scenario-out", beside, (wanted.out,)),
        ("--admission-out", proof, (wanted.out, beside)),
    ):
        if path is not None and path.suffix != ".json":
            raise InputError.field(option, str(path), "the name of a file that ends in .json")
        if path is not None and path in others:
            raise InputError.field(option, str(path), "another file than the plan's or its scenario's")
    for path in (wanted.out, beside, proof):
        if path is not None:
            refuse_existing(path, force=wanted.force)
    scenario = load_scenario(wanted.scenario)
    found = admit(
        scenario,
        tolerance=wanted.tolerance,
        time_limit=wanted.time_limit,
        min_weight=wanted.min_weight,
        throw=False,
    )
    if wanted.out is not None:
        save(found.plan, wanted.out)
    if beside is not None:
        _save_tree(found.scenario.to_dict(), beside)
    if proof is not None:
        _save_tree(found.to_dict(), proof)
    if wanted.as_json:
        print(json_text(found.to_dict()))
    elif not wanted.quiet:
        _show(scenario, found)
        for label, path in (("Plan", wanted.out), ("Scenario", beside), ("Admission", proof)):
            if path is not None:
                print(f"{label}: {path}")
    if found.status is Status.INFEASIBLE:
        complain(found.plan.message)
        return 3
    if found.status is Status.TIME_LIMIT:
        complain("the time limit ended the search; the gap says what is proven")
        return 1
    return 0


def json_text(tree: dict[str, Any]) -> str:
    """A tree as JSON, its keys a line each; the entries of a certificate's lists take a line together."""
    certificate = tree.pop("certificate", None)
    if certificate is None:
        return json.dumps(tree, indent=1, allow_nan=False)
    lines = []
    for key, value in certificate.items():
        if isinstance(value, list) and value:
            rows = ",\n".join("   " + json.dumps(row, allow_nan=False, separators=(",", ":")) for row in value)
            lines.append(f'  "{key}": [\n{rows}\n  ]')
        else:
            lines.append(f'  "{key}": {json.dumps(value, allow_nan=False)}')
    head = json.dumps(tree, indent=1, allow_nan=False).removesuffix("\n}")
    return head + ',\n "certificate": {\n' + ",\n".join(lines) + "\n }\n}"


def _save_tree(tree: dict[str, Any], path: Path) -> None:
    try:
        path.write_text(json_text(tree) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror})") from None


def _show(scenario: Scenario, found: Admission) -> None:
    out = console()
    out.print(Text(printable(scenario.name), style="bold"))
    if found.status is Status.INFEASIBLE:
        out.print(Text("No subset of the devices has a plan.", style="bold red"))
        return
    total = len(found.admitted) + len(found.dropped)
    said = (
        f"{count(len(found.admitted))} of {count(total)} devices admitted, with {percent(found.weight)} of the weight"
    )
    out.print(Text(said, style="bold green" if found.status is Status.OPTIMAL else "bold yellow"))
    table = table_of("", "Objective")
    table.add_row("admitted devices", significant(found.objective, 6))
    whole = "no plan" if found.whole_objective is None else significant(found.whole_objective, 6)
    table.add_row("all devices", whole)
    table.add_row("lower bound over all subsets", significant(found.lower_bound, 6))
    out.print(table)
    out.print(
        Text(
            f"Gap over all subsets: {gap(found.relative_gap)} ({found.status.value}); "
            + ("the admission's file proves this bound." if found.certificate else "no file proves this bound again."),
            style="dim",
        )
    )
    if found.dropped:
        _show_dropped(found.dropped)
        out.print(
            Text(
                "The objective of the admitted devices is that of their own average:\n"
                "it does not price the data of the others (--min-weight bounds what is left out).",
                style="dim",
            )
        )


def _show_dropped(dropped: tuple[Dropped, ...]) -> None:
    """The devices left out whose reasons were worked out, the dearest first, and how many more there are."""
    out = console()

    def cost(device: Dropped) -> float:
        return device.objective_with if device.objective_with is not None else float("inf")

    known = sorted((device for device in dropped if device.limited_by is not None), key=cost, reverse=True)
    table = table_of("Left out", "Weight", "Limited by", "Objective with it", "Gain without it")
    table.columns[0].overflow = "ellipsis"
    table.columns[0].max_width = 18
    table.columns[0].no_wrap = True
    for device in known[:MOST_DEVICES]:
        with_it = "no plan" if device.objective_with is None else significant(device.objective_with, 6)
        table.add_row(
            Text(printable(device.name)),
            percent(device.weight, 2),
            _WORDS[device.limited_by or "worth"],
            with_it,
            "" if device.gain is None else percent(device.gain, 2),
        )
    if known:
        out.print()
        out.print(table)
    more = len(dropped) - min(len(known), MOST_DEVICES)
    if more > 0:
        out.print(Text(f"and {count(more)} more left out", style="dim"))
