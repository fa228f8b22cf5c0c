"""Whole plans of small problems beside exhaustive search over all rounds and all whole batches.

    python benchmarks/exhaustive.py --count 120 --seed 100 [--out lines.jsonl]

A draw with more than `--most` pairs of rounds, or more than `--fleets` choices of batches, is passed over and the next
seed taken. What must hold: ``lower bound <= best <= objective``. How far the objective is above the best is what the
planner's rounding of batches misses; how far the bound is below it is what the proof misses.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import scenarios  # puts the tests' helpers on the path  # noqa: F401
from brute import exhaustive, most_rounds
from draws import draw

from pretune import certify
from pretune.planner import plan
from pretune.scenario import Scenario

SAME = 1e-12
"""Rounding errors of a sum."""


def compared(scenario: Scenario) -> dict[str, Any]:
    """The plan and the best there is."""
    best, tried = exhaustive(scenario)
    began = time.process_time()
    answer = plan(scenario, throw=False)
    seconds = time.process_time() - began
    certify.check(answer, scenario)
    return {
        "best": best,
        "objective": answer.objective,
        "lower_bound": answer.lower_bound,
        "status": answer.status.value,
        "gap": answer.relative_gap,
        "missed": answer.objective / best - 1.0,
        "bound_below": 1.0 - answer.lower_bound / best,
        "holds": answer.lower_bound <= best * (1.0 + SAME) and best <= answer.objective * (1.0 + SAME),
        "tried": len(tried),
        "plan_s": seconds,
    }


def within(scenario: Scenario, pairs: int, fleets: int) -> bool:
    """Whether an exhaustive search is a matter of seconds."""
    if math.prod(int(samples) for samples in scenario.devices.samples) > fleets:
        return False
    most = [most_rounds(scenario, stage) for stage in (0, 1)]
    return 1 < (most[0] + 1) * (most[1] + 1) <= pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=120, help="how many small problems")
    parser.add_argument("--seed", type=int, default=100, help="seed of the first; the others follow")
    parser.add_argument("--most", type=int, default=400, help="pairs of rounds, at most")
    parser.add_argument("--fleets", type=int, default=4000, help="choices of batches, at most")
    parser.add_argument("--out", type=Path, help="write a JSON line for each problem as soon as it is done")
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    seed = options.seed
    while len(lines) < options.count:
        drawn = draw(seed, small=True)
        if within(drawn.scenario, options.most, options.fleets):
            lines.append({"seed": seed, "label": drawn.label, **compared(drawn.scenario)})
            if options.out:
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
        seed += 1
    report(lines)


def report(lines: list[dict[str, Any]]) -> None:
    """The figures over all problems, each with the seed that it comes from."""
    print(f"problems: {len(lines)}, seeds {lines[0]['seed']} to {lines[-1]['seed']}")
    print("the proven interval misses the best in:", [line["seed"] for line in lines if not line["holds"]] or "none")
    exact = sum(line["missed"] <= SAME for line in lines)
    print(f"the plan is the best there is in: {exact} of {len(lines)}")
    for key, what in (("missed", "objective above the best"), ("bound_below", "lower bound below the best")):
        worst = max(lines, key=lambda line: line[key])
        print(f"worst {what}: {worst[key]:.2e} (seed {worst['seed']})")
    print("plans not proven to the tolerance:", sum(line["status"] != "optimal" for line in lines))


if __name__ == "__main__":
    main()
