"""What segments bring: plans of the same scenarios with a schedule of 1, 2, 4 and 8 segments, criterion `final`.

    python benchmarks/schedules.py --count 40 --seed 0 [--scenario FILE ...] [--out lines.jsonl]

The scenarios are drawn as for the planner's tests, without batteries; scenario files that are named come first. Each
plan is checked. `gain` is how much smaller the objective is than the constant plan's, `certain` how much smaller than
the bound proven for all constant plans.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "planner"))

from draws import draw

from pretune import certify
from pretune.planner import plan
from pretune.scenario import Scenario, load_scenario

SCHEDULES = (1, 2, 4, 8)


def measure(scenario: Scenario, label: str, time_limit: float) -> dict[str, Any]:
    """One scenario under every schedule."""
    line: dict[str, Any] = {"name": scenario.name, "label": label, "plans": {}}
    for schedule in SCHEDULES:
        changed = scenario.replace(schedule=schedule)
        began = time.process_time()
        found = plan(changed, time_limit=time_limit if math.isfinite(time_limit) else None)
        taken = time.process_time() - began
        checked = certify.check(found, changed)
        pretrain, finetune = found.pretrain, found.finetune
        if pretrain is None or finetune is None:
            raise ValueError("a plan without decisions was checked")
        line["plans"][str(schedule)] = {
            "objective": found.objective,
            "lower_bound": found.lower_bound,
            "gap": found.relative_gap,
            "proven": checked.lower_bound_proven,
            "rounds": [pretrain.rounds, finetune.rounds],
            "server_batches": [part.batch for part in pretrain.parts],
            "device_samples": [int(part.batch.sum()) for part in finetune.parts],
            "cpu_s": round(taken, 3),
        }
    return line


def table(lines: list[dict[str, Any]]) -> str:
    """The lines in numbers, as a Markdown table."""
    heads = ("segments", "gain: median", "mean", "most", "1% and more", "10% and more", "certain: mean", "gap: median",
             "largest", "CPU: median")  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    one = [line["plans"]["1"] for line in lines]
    for schedule in SCHEDULES:
        own = [line["plans"][str(schedule)] for line in lines]
        gain = np.array([1.0 - a["objective"] / b["objective"] for a, b in zip(own, one, strict=True)])
        certain = np.array([max(1.0 - a["objective"] / b["lower_bound"], 0.0) for a, b in zip(own, one, strict=True)])
        gaps = np.array([a["gap"] for a in own])
        cells = (
            f"{schedule}",
            f"{100 * abs(np.median(gain)):.2g}%",
            f"{100 * gain.mean():.2g}%",
            f"{100 * gain.max():.2g}%",
            f"{(gain >= 0.01).sum()} of {len(lines)}",
            f"{(gain >= 0.1).sum()} of {len(lines)}",
            f"{100 * certain.mean():.2g}%",
            f"{np.median(gaps):.1e}",
            f"{gaps.max():.1e}",
            f"{np.median([a['cpu_s'] for a in own]):.2g} s",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, print one line for each scenario and the table in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenario", type=Path, action="append", default=[])
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    # compile everything first: that is neither planning nor part of its time limit
    measure(draw(0, batteries=False, criterion="final", count=1).scenario, "warm-up", math.inf)
    lines = [measure(load_scenario(path), "file", options.time_limit) for path in options.scenario]
    for seed in range(options.seed, options.seed + options.count):
        drawn = draw(seed, batteries=False, criterion="final")
        lines.append(measure(drawn.scenario, drawn.label, options.time_limit))
        best = {key: f"{value['objective']:.5g} ({value['gap']:.0e})" for key, value in lines[-1]["plans"].items()}
        print(f"{lines[-1]['name']:12} {drawn.label:44} {best}", flush=True)
    if options.out is not None:
        options.out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print("\n" + table(lines))


if __name__ == "__main__":
    main()
