"""Put the tables of experiments/results into docs/theorems.md.

python experiments/show_bounds.py
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "theorems.md"


def rows_of(name: str) -> list[dict[str, str]]:
    """A table as written by bounds.py or worst_cases.py."""
    with open(HERE / "results" / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def training() -> str:
    """The criteria beside real training."""
    rows = rows_of("bounds")
    ratios = [float(row["trajectory_ratio"]) for row in rows]
    shown = [
        [
            row["task"],
            f"{row['pretrain_rounds']} + {row['finetune_rounds']}",
            f"{row['server_batch']}, {row['batch']}",
            f"{row['gradient_sq']} ({row['largest_gradient_sq']})",
            row["trajectory"],
            row["trajectory_ratio"],
            row["final_loss"],
            row["final"],
            row["final_ratio"],
        ]
        for row in rows
    ]
    head = ["task", "rounds", "batches", "squared gradient", "bound", "ratio", "final loss", "`final`", "ratio"]
    above = sum(ratio < 1.0 for ratio in ratios)
    last = sum(float(row["final_ratio"]) < 1.0 for row in rows)
    words = (
        f"Bound over measured lies between {min(ratios):g} and {max(ratios):g} for `trajectory`; it is below 1 in "
        f"{above} of {len(rows)} cells, and for `final` in {last}."
    )
    return f"{table(head, shown)}\n\n{words}"


def constants() -> str:
    """What the bounds were computed from."""
    rows = rows_of("bounds_constants")
    tasks = sorted({row["task"] for row in rows})
    keys = list(dict.fromkeys(row["constant"] for row in rows))
    cells = {(row["constant"], row["task"]): f"{row['value']} ({row['low']} to {row['high']})" for row in rows}
    return table(["constant", *tasks], [[f"`{key}`", *(cells[key, task] for task in tasks)] for key in keys])


def worst() -> str:
    """The deterministic part beside PEPit's worst functions."""
    rows = rows_of("worst_cases")
    shown = [
        [
            row["bound"],
            f"{row['pretrain_rounds']} + {row['finetune_rounds']}",
            f"{row['step']}/L",
            row["shift"],
            row["worst"],
            row["bound_value"],
            row["ratio"],
        ]
        for row in rows
    ]
    return table(["bound", "rounds", "steps", "shift", "worst function", "bound", "ratio"], shown)


def local() -> str:
    """The bound with local steps beside real training."""
    rows = rows_of("local_bounds")
    shown = [
        [
            row["finetune_step"],
            f"{row['pretrain_rounds']} + {row['finetune_rounds']}",
            f"{row['server_batch']}, {row['batch']}",
            row["local_steps"],
            f"{row['gradient_sq']} ({row['largest_gradient_sq']})",
            row["bound"],
            row["ratio"],
        ]
        for row in rows
    ]
    head = ["step", "rounds", "batches", "local steps", "squared gradient", "bound", "ratio"]
    ratios = [float(row["ratio"]) for row in rows]
    words = f"Bound over measured lies between {min(ratios):g} and {max(ratios):g}."
    return f"{table(head, shown)}\n\n{words}"


def choice() -> str:
    """The number of local steps that the bound chooses, and what each is really worth."""
    shown = [
        [
            row["finetune_step"],
            row["local_steps"] + (" (chosen)" if row["chosen"] == "1" else ""),
            row["bound"],
            f"{row['pretrain_rounds']} + {row['finetune_rounds']}",
            f"{row['accuracy']} ({row['accuracy_sd']})",
            row["same_rounds"],
            f"{row['same_accuracy']} ({row['same_accuracy_sd']})",
        ]
        for row in rows_of("local_choice")
    ]
    head = ["step", "local steps", "`final`", "its rounds", "accuracy, %", "rounds, same batches", "accuracy, %"]
    return table(head, shown)


def filled(page: str) -> str:
    """The page with its tables between their marks."""
    tables = {
        "training": training(),
        "constants": constants(),
        "worst": worst(),
        "local": local(),
        "choice": choice(),
    }
    for name, made in tables.items():
        mark, end = f"<!-- table {name}: experiments/show_bounds.py -->", "<!-- end -->"
        page = re.sub(
            re.escape(mark) + ".*?" + re.escape(end),
            lambda _, mark=mark, made=made, end=end: f"{mark}\n{made}\n{end}",
            page,
            flags=re.S,
        )
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
