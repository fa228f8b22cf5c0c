"""Device admission on drawn fleets: the certified gap over all subsets, and how long it took.

    python benchmarks/admission.py [--sizes 30 100 300] [--seeds 1 2] [--batteries]

Writes the table of docs/cli.md, by the clock; kernels are compiled on a small fleet before.
"""

from __future__ import annotations

import argparse
import time

from scenarios import ACCESS, CRITERIA, draw

import pretune
from pretune.scenario import Scenario

TOLERANCE = 1e-2


def scenario(seed: int, count: int, criterion: str, access: str, batteries: bool) -> Scenario:
    """Both stages, tight energy, no idle power."""
    return draw(
        seed,
        count=count,
        access=access,
        criterion=criterion,
        stages="both",
        energy="tight",
        idle_power=False,
        batteries=batteries,
    ).scenario


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batteries", action="store_true")
    options = parser.parse_args()
    print("| devices | criterion, access | fleets | largest gap | seconds |")
    print("|---|---|---|---|---|", flush=True)
    for criterion in reversed(CRITERIA):
        for access in ACCESS:
            pretune.admit(scenario(1, 11, criterion, access, options.batteries), tolerance=TOLERANCE)
    for count in options.sizes:
        for criterion in reversed(CRITERIA):
            for access in ACCESS:
                gaps, spent = [], []
                for seed in options.seeds:
                    began = time.perf_counter()
                    found = pretune.admit(
                        scenario(seed, count, criterion, access, options.batteries), tolerance=TOLERANCE
                    )
                    spent.append(time.perf_counter() - began)
                    gaps.append(found.relative_gap)
                cells = f"{len(gaps)} | {100 * max(gaps):.2g} % | {min(spent):.1f} - {max(spent):.1f}"
                print(f"| {count} | {criterion}, {access} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
