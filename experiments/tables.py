"""Write the tables of docs/calibrated.md from the committed results: ``python experiments/tables.py``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from common import HERE, RESULTS, TASKS, mean, read_rows

from pretune.law import FAMILIES
from pretune.scenario import load_scenario

PAGE = HERE.parent / "docs" / "calibrated.md"


def prediction() -> list[str]:
    """The chosen law on runs not used for fitting."""
    lines = [
        "| task | predicts | pilot | chosen family: error on paths left out | median error | 90th percentile "
        "| Spearman | single runs: median error | Spearman | intervals (claim 90 %) cover |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for task in _with("prediction"):
        for row in read_rows(RESULTS / f"prediction_{task}.csv"):
            if row["chosen"] == "1":
                lines.append(
                    f"| {task} | {row['measure']} | {row['pilot_seed']} "
                    f"| {row['family']}: {_percent(row['held_out_error'])} "
                    f"| {_percent(row['median_error'])} | {_percent(row['p90_error'])} | {float(row['spearman']):.3f} "
                    f"| {_percent(row['median_error_single'])} | {float(row['spearman_single']):.3f} "
                    f"| {_percent(row['covered'])} |"
                )
    return lines


def families() -> list[str]:
    """All families, averaged over the pilots, for the loss."""
    lines = ["| task | " + " | ".join(FAMILIES) + " |", "|---|" + "---|" * len(FAMILIES)]
    for task in _with("prediction"):
        rows = [row for row in read_rows(RESULTS / f"prediction_{task}.csv") if row["measure"] == "loss"]
        cells = []
        for family in FAMILIES:
            own = [row for row in rows if row["family"] == family]
            error, rank = (mean(float(row[key]) for row in own) for key in ("median_error", "spearman"))
            cells.append(f"{100.0 * error:.1f} %, {rank:.3f}")
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return lines


def cost() -> list[str]:
    """What the pilot runs cost beside the scenario's budgets."""
    lines = [
        "| task | rounds of pre-training, fine-tuning | samples | looks | here | by the cost model | times the budgets "
        "|",
        "|---|---|---|---|---|---|---|",
    ]
    for task in _with("prediction"):
        tree = json.loads((RESULTS / f"pilot_{task}_0.json").read_text(encoding="utf-8"))
        spent, budget = tree["cost"], load_scenario(TASKS[task]).budget
        lines.append(
            f"| {task} | {spent['pretrain_rounds']:,}, {spent['finetune_rounds']:,} "
            f"| {spent['server_samples'] + spent['device_samples']:,} | {len(tree['rows'])} | {spent['wall_s']:.0f} s "
            f"| {spent['time_s']:.0f} s, {spent['energy_j']:.0f} J "
            f"| {spent['time_s'] / budget.delay_s:.0f} (delay), {spent['energy_j'] / budget.energy_j:.0f} (energy) |"
        )
    return lines


def regret() -> list[str]:
    """Mean and worst regret of each criterion."""
    lines = [
        "| task | criterion | budget pairs | mean regret | worst | mean, fresh seeds | worst, fresh seeds "
        "| test loss above the lowest: mean | worst |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task in _with("regret"):
        rows, above = read_rows(RESULTS / f"regret_{task}.csv"), _losses(task)
        for source in dict.fromkeys(row["source"] for row in rows if row["source"] != "best of all"):
            own = [row for row in rows if row["source"] == source]
            raw, fresh = ([float(row[key]) for row in own] for key in ("regret", "regret_fresh"))
            lines.append(
                f"| {task} | {source} | {len(own)} | {mean(raw):.2f} | {max(raw):.2f} "
                f"| {mean(fresh):.2f} | {max(fresh):.2f} | {mean(above[source]):.0%} | {max(above[source]):.0%} |"
            )
    return lines


def _losses(task: str) -> dict[str, list[float]]:
    """By criterion, for each budget pair: by what share the mean test loss is above the lowest of all."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in read_rows(RESULTS / f"regret_runs_{task}.csv"):
        if int(row["seed"]) < 200:  # those seeds that every cell was run with
            key = " ".join(row[name] for name in ("source", "pretrain", "finetune", "server_batch", "device_samples"))
            budget = found.setdefault(f"{row['energy_j']} {row['delay_s']}", {})
            budget.setdefault(row["source"], {}).setdefault(key, []).append(float(row["loss"]))
    above: dict[str, list[float]] = {}
    for by_source in found.values():
        lowest = min(mean(losses) for cells in by_source.values() for losses in cells.values())
        for source, cells in by_source.items():
            above.setdefault(source, []).append(min(mean(losses) for losses in cells.values()) / lowest - 1.0)
    return above


def decisions() -> list[str]:
    """Every plan beside the best cell."""
    lines = [
        "| task | budgets | plan | M | N | b0 | samples a round | accuracy | fresh seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task in _with("regret"):
        for row in read_rows(RESULTS / f"regret_{task}.csv"):
            lines.append(
                f"| {task} | {float(row['energy_j']):g} J, {float(row['delay_s']):g} s | {row['source']} "
                f"| {row['pretrain']} | {row['finetune']} | {row['server_batch']} | {row['device_samples']} "
                f"| {float(row['accuracy']):.2f} | {float(row['accuracy_fresh']):.2f} |"
            )
    return lines


def _with(kind: str) -> list[str]:
    return [task for task in TASKS if (RESULTS / f"{kind}_{task}.csv").is_file()]


def _percent(share: str) -> str:
    return f"{100.0 * float(share):.1f} %"


TABLES: dict[str, Callable[[], list[str]]] = {
    "prediction": prediction,
    "families": families,
    "cost": cost,
    "regret": regret,
    "decisions": decisions,
}


def main(page: Path = PAGE) -> int:
    """Replace what stands between the page's markers."""
    text = page.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        block = f"<!-- {name} -->\n" + "\n".join(table()) + f"\n<!-- /{name} -->"
        text, found = re.subn(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, text, flags=re.DOTALL)
        if not found:
            sys.exit(f"{page}: has no place for the table {name}")
    page.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
