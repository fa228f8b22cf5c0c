"""What privacy costs: the digits example for many such cameras, planned at several epsilon.

    python benchmarks/privacy_price.py [--copies 100]

Prints one row for each epsilon: the plan's rounds, its objective, and what of it is the noise. Every camera of
examples/digits.yaml stands `copies` times in the fleet, with the energy budget in proportion: user-level privacy needs
a crowd to hide in. Plans are certified to 1% and checked.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pretune
from pretune.convergence.criteria import criterion_of

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits.yaml"
DELTA = 1e-5


def crowd(copies: int) -> pretune.Scenario:
    scenario = pretune.load_scenario(EXAMPLE)
    tree = scenario.to_dict()
    rows = [dict(row) for row in tree["devices"] for _ in range(copies)]
    for i, row in enumerate(rows):
        row["name"] = f"{row['name']}-{i}"
        row.pop("weight")
    tree["devices"] = rows
    tree["budget"]["energy_j"] *= copies
    return pretune.Scenario(**tree)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=100)
    scenario = crowd(parser.parse_args().copies)
    print(f"{len(scenario.devices)} devices, 4810 parameters, delta = {DELTA}, clip = 1")
    print("| epsilon | pre-training | fine-tuning | objective | of it noise | gap |\n|---|---|---|---|---|---|")
    for epsilon in (None, 50.0, 8.0, 4.0, 2.0, 1.0, 0.5):
        asked = None if epsilon is None else {"epsilon": epsilon, "delta": DELTA, "clip": 1.0, "parameters": 4810}
        private = scenario.replace(privacy=asked)
        plan = pretune.plan(private, tolerance=1e-2)
        pretune.check(plan, private)
        m, n = plan.pretrain.rounds, plan.finetune.rounds
        noise = criterion_of(private).at(m, n).phi - criterion_of(scenario).at(m, n).phi
        share, gap = float(noise) / plan.objective, plan.relative_gap
        print(f"| {epsilon or 'none'} | {m} | {n} | {plan.objective:.4f} | {100 * share:.1f} % | {100 * gap:.2g} % |")


if __name__ == "__main__":
    main()
