"""What deciding who is asked brings: over everybody always, and over the best probability that is the same for all.

    python experiments/participation.py --seeds 8 --proofs 1 --trained 12     # plans, digits models, and the tables
    python experiments/participation.py --seeds 8 --cells --trained 12        # the models alone

Fleets are those of `pretune.study.fleets` (a cell's path losses, clocks and capacitances), 10 and 50 devices with 2 MHz
each, at equal budgets. A cell of the experiment turns one thing: how far apart gains and clocks are, how dear a
circuit is, or whether devices have batteries. Improvements are ``1 - Gamma(decided) / Gamma(other)``, means over fleets
with Student's t intervals of 95 %. Writes ``results/participation.csv`` (and ``participation_trained.csv``), and the
table of docs/uncertainty.md.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, RESULTS, read_rows, write_rows
from rich.progress import track
from scipy.stats import t as student

import pretune
from pretune.certify import check
from pretune.constants import Criterion
from pretune.physics import cost
from pretune.planner import joint_bound
from pretune.plans import Plan
from pretune.runtime.run import run
from pretune.scenario import Scenario
from pretune.study.fleets import Setting, fleet_of, scenario_of
from pretune.uncertainty import asking

TRAINED_ROWS = RESULTS / "participation_trained.csv"
PAGE = HERE.parent / "docs" / "uncertainty.md"
COUNTS = (10, 50)
CELLS: dict[str, dict[str, Any]] = {
    "alike": {"spread": 0.0},
    "a cell": {},
    "path losses far apart": {"apart": 1.6},
    "circuits of 0.2 W": {"circuit_w": 0.2},
    "batteries": {"battery": 0.7},
    "four times the budgets": {"rich": 4.0},
}
CRITERIA = ("trajectory", "final")
SHARES = (0.1, 0.15, 0.2, 0.3, 0.45, 0.65, 1.0)
GAPS = (joint_bound.GAPS, joint_bound.FINAL_GAPS)
UNDER = {"under": "participation"}


def scenario_for(
    cell: str,
    count: int,
    seed: int,
    criterion: str,
    *,
    spread: float = 1.0,
    circuit_w: float = 0.0,
    battery: float = 0.0,
    apart: float = 1.0,
    rich: float = 1.0,
) -> Scenario:
    """A fleet, and budgets that make about 30 rounds at full speed affordable (energy: about half of that)."""
    setting = Setting(task="digits", count=count, fleet_seed=seed, spread=spread)
    base = scenario_of(setting)
    fleet = fleet_of(setting)
    logs = np.log(fleet.gain)
    columns = {
        "gain": np.exp(logs.mean() + apart * (logs - logs.mean())),
        "bandwidth_hz": np.full(count, 2e6),
        "circuit_power_w": np.full(count, circuit_w),
    }
    fleet = replace(fleet, uplink_hz=None, **columns)
    radio = base.radio.model_copy(update={"uplink_bandwidth_hz": None})
    convergence = base.convergence.model_copy(update={"criterion": Criterion(criterion)})
    scenario = Scenario(
        name=f"{cell}, {count}, {seed}",
        workload=base.workload,
        server=base.server,
        radio=radio,
        devices=fleet,
        budget=base.budget,
        convergence=convergence,
        task=base.task,
    )
    each = cost.finetune_round(scenario, np.full(count, 4.0), fleet.max_clock_hz, fleet.max_power_w)
    scenario = scenario.with_budget(energy_j=rich * 15.0 * each.energy_j, delay_s=rich * 60.0 * each.time_s)
    if battery > 0.0:
        share = scenario.budget.energy_j / count * battery
        scenario = scenario.replace(devices=replace(fleet, battery_j=np.full(count, share)))
    return scenario


def cell_of(cell: str, count: int, seed: int, criterion: str, *, proven_too: bool) -> dict[str, Any]:
    """The plans of one fleet: decided, everybody, the best probability for all. `proven_too`: with the bound."""
    # trajectory hardly fine-tunes at all at small budgets
    rich = 4.0 if criterion == "trajectory" else 1.0
    scenario = scenario_for(cell, count, seed, criterion, **{"rich": rich, **CELLS[cell]})
    always = pretune.plan(scenario, tolerance=1e-3)
    decided_in = scenario.replace(planning=UNDER)
    # what gaps to prove: none, where the bound is not asked for
    joint_bound.GAPS, joint_bound.FINAL_GAPS = GAPS if proven_too else ((), ())
    began = time.perf_counter()
    decided = pretune.plan(decided_in, tolerance=1e-3)
    planning_s = time.perf_counter() - began
    proven = check(decided, decided_in).lower_bound_proven
    uniform = min((_value(decided_in, share, count), share) for share in SHARES)
    asked = np.array((decided.under or {})["participation"])
    return {
        "cell": cell,
        "devices": count,
        "seed": seed,
        "criterion": criterion,
        "always": always.objective,
        "decided": decided.objective,
        "uniform": uniform[0],
        "share": uniform[1],
        "gap": decided.relative_gap,
        "proven": proven,
        "rounds_always": rounds(always),
        "rounds": rounds(decided),
        "least": float(asked.min()),
        "mean": float(asked.mean()),
        "planning_s": planning_s,
        "whole": proven_too,
    }


def _value(scenario: Scenario, share: float, count: int) -> float:
    plan = pretune.plan(asking(scenario, np.full(count, share)).scenario, tolerance=1e-3, throw=False)
    return plan.objective if plan.status.has_plan else math.inf


def rounds(plan: Plan) -> int:
    """Fine-tuning rounds."""
    return 0 if plan.finetune is None else plan.finetune.rounds


def _kept() -> list[dict[str, Any]]:
    """The results that there are."""
    path = RESULTS / "participation.csv"
    texts, flags = {"cell", "criterion"}, {"proven", "whole"}
    return [
        {k: v if k in texts else v == "True" if k in flags else float(v) for k, v in row.items()}
        for row in (read_rows(path) if path.exists() else [])
    ]


def interval(values: Sequence[float], digits: int = 1) -> str:
    """Mean and half of the 95 % interval, in percent."""
    array = 100.0 * np.array(values)
    half = (
        float(student.ppf(0.975, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else 0
    )
    return f"{array.mean():.{digits}f} ± {half:.{digits}f}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The page's table."""
    lines = [
        "| fleets | criterion | K | better than everybody, % | than the best common p, % | rounds: everybody | decided "
        "| mean p | least p | all at 1 | proven gap, % | planning, s |",
        "|" + "---|" * 12,
    ]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["cell"], row["criterion"], row["devices"]), []).append(row)
    for (cell, criterion, count), group in groups.items():
        over = interval([1.0 - row["decided"] / row["always"] for row in group])
        common = interval([1.0 - row["decided"] / row["uniform"] for row in group])
        means = {key: np.mean([row[key] for row in group]) for key in ("rounds_always", "rounds", "mean", "least")}
        same = sum(row["mean"] > 0.999 for row in group)
        gaps = [row["gap"] for row in group if row["whole"]] or [math.nan]
        middle = np.median([row["planning_s"] for row in group if row["whole"]] or [math.nan])
        lines.append(
            f"| {cell} | {criterion} | {count:.0f} | {over} | {common} | {means['rounds_always']:.0f} | "
            f"{means['rounds']:.0f} | {means['mean']:.2f} | {means['least']:.2f} | {same} of {len(group)} | "
            f"{' to '.join(dict.fromkeys(f'{100 * gap:.2g}' for gap in (min(gaps), max(gaps))))} | {middle:.1f} |"
        )
    return lines


def trained_table(rows: Sequence[dict[str, str]]) -> list[str]:
    """What became of the trained models: one line a way, then what asking some gains over asking all, seed by seed."""
    ways: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        ways.setdefault(row["who"], []).append(row)
    lines = ["| who is asked | rounds planned | done | ended early | energy, % | delay, % | test loss | accuracy, % |"]
    lines.append("|" + "---|" * 8)
    for who, group in ways.items():
        means = {
            key: np.mean([float(row[key]) for row in group])
            for key in ("rounds", "done", "energy_share", "delay_share")
        }
        early = sum(row["status"] != "finished" for row in group)
        loss = interval([float(row["test_loss"]) / 100.0 for row in group], 3)
        lines.append(
            f"| {who} | {means['rounds']:.0f} | {means['done']:.0f} | {early} of {len(group)} | "
            f"{100 * means['energy_share']:.0f} | {100 * means['delay_share']:.0f} | {loss} | "
            f"{interval([float(row['test_accuracy']) for row in group])} |"
        )
    for more in ("", ", steered"):
        pairs = list(zip(ways["decided" + more], ways["everybody" + more], strict=True))
        losses = [(float(a["test_loss"]) - float(b["test_loss"])) / 100.0 for a, b in pairs]
        points = [float(a["test_accuracy"]) - float(b["test_accuracy"]) for a, b in pairs]
        lines.append(f"| decided less everybody{more} | | | | | | {interval(losses, 3)} | {interval(points)} |")
    return lines


STEERED = {"control": "rounds", "replan": "auto"}
PLANNED = {"everybody": None, "decided": UNDER}
TRAINED = tuple((who + how, who, more) for how, more in (("", {}), (", steered", STEERED)) for who in PLANNED)
"""A name, who is asked, and how the run is carried out."""


def trained(seeds: int) -> list[dict[str, Any]]:
    """Digits models trained by both plans, in the cell where path losses are far apart; the same budgets."""
    rows = []
    for seed in track(range(seeds), description="Trained", disable=not sys.stderr.isatty()):
        scenario = scenario_for("path losses far apart", 10, seed, "final", **CELLS["path losses far apart"])
        scenarios = {name: scenario.replace(planning=planning) for name, planning in PLANNED.items()}
        plans = {name: pretune.plan(given, tolerance=1e-3) for name, given in scenarios.items()}
        for name, who, how in TRAINED:
            given, plan = scenarios[who], plans[who]
            with tempfile.TemporaryDirectory() as folder:
                result = run(plan, given, out=Path(folder) / "run", seed=seed, **how)
            spent = result.summary["realised"]
            rows.append(
                {
                    "seed": seed,
                    "who": name,
                    "objective": plan.objective,
                    "rounds": rounds(plan),
                    "done": result.summary["rounds"]["finetune"],
                    "status": result.summary["status"],
                    "test_loss": result.test_loss,
                    "test_accuracy": result.test_accuracy,
                    "energy_share": spent["energy_j"] / scenario.budget.energy_j,
                    "delay_share": spent["time_s"] / scenario.budget.delay_s,
                }
            )
    return rows


def main() -> None:
    """All cells, one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--proofs", type=int, default=3, help="fleets of a cell whose bound is given all its time")
    parser.add_argument("--cells", nargs="*", default=list(CELLS), help="only these; the others' results are kept")
    parser.add_argument("--trained", type=int, default=0, help="digits runs of each plan")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    cells = [
        (cell, criterion, count)
        for cell in arguments.cells
        for criterion in CRITERIA
        for count in COUNTS
        if not (cell == "four times the budgets" and criterion == "trajectory")  # that is what the others have there
    ]
    rows = [row for row in _kept() if row["cell"] not in arguments.cells]
    for cell, criterion, count in track(cells, description="Cells", disable=not sys.stderr.isatty()):
        rows += [
            cell_of(cell, count, seed, criterion, proven_too=seed < arguments.proofs) for seed in range(arguments.seeds)
        ]
        print(table(rows)[-1], flush=True)
        if not arguments.dry:
            write_rows(RESULTS / "participation.csv", rows)
    lines = table(rows)
    if arguments.trained:
        more = trained(arguments.trained)
        for row in more:
            print(row, flush=True)
        if not arguments.dry:
            write_rows(TRAINED_ROWS, more)
    if not arguments.dry:
        text = PAGE.read_text(encoding="utf-8")
        blocks = {"participation": lines, "trained participation": trained_table(read_rows(TRAINED_ROWS))}
        for name, block in blocks.items():
            marks = rf"(<!-- table {name}: [^>]*-->\n).*?(\n<!-- end -->)"
            text = re.sub(marks, lambda found: found[1] + "\n".join(block) + found[2], text, flags=re.DOTALL)  # noqa: B023
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
