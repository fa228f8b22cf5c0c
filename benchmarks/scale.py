"""How planning grows with the fleet: a thousand to a million devices.

    python benchmarks/scale.py --out scale.json [--sizes 1000 10000 100000 1000000] [--access fdma tdma]

For each size, in a process of its own: one evaluation of the cost model over the fleet, the optimum at fixed rounds and
what it costs in such evaluations, the whole plan (rounds and batches whole) with its gap, the plan file written, read
and checked, the fleet read from CSV and Parquet, and the memory all that took. Last, the exponents of a power law
fitted to the sizes. Times are of the processor (both cores' together) and of the clock; the file is written anew after
every size.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pretune import certify
from pretune.fleet import COLUMNS
from pretune.physics import cost
from pretune.planner import plan
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.large.crew import Crew
from pretune.planner.large.newton import solve_cold
from pretune.planner.problem import build
from pretune.planner.write import MOST_CERTIFIED
from pretune.plans import load_plan
from pretune.scenario import Scenario

SIZES = (1_000, 10_000, 100_000, 1_000_000)
FITTED = ("fixed_cpu_s", "plan_cpu_s")
BEST_OF = 5


def scenario(count: int, access: str, criterion: str = "trajectory", file: str | None = None) -> Scenario:
    """A drawn fleet whose energy budget and noise grow with it, so that plans of all sizes look alike.

    TDMA: the uploads of a round, one after the other, take the same time at every size.
    """
    draw = {
        "capacitance": {"loguniform": [5e-29, 2e-28]},
        "flops_per_cycle": {"uniform": [4, 16]},
        "max_clock_hz": {"uniform": [0.6e9, 1.8e9]},
        "max_power_w": {"uniform": [0.1, 0.3]},
        "gain": {"loguniform": [1e-11, 1e-9]},
        "bandwidth_hz": {"loguniform": [1e6, 3e6]},
        "samples": {"loguniform": [50, 2000]},
    }
    fdma = access == "fdma"
    return Scenario(
        name=f"fleet-{count}",
        workload={
            "flops_per_sample": 7.2e7,
            "upload_bits": 1.92e6 if fdma else 1.92e8 / count,
            "download_bits": 1.92e6 if fdma else 1.92e7,
        },
        server={
            "capacitance": 1e-27,
            "flops_per_cycle": 2048,
            "max_clock_hz": 1.5e9,
            "samples": 60000,
            "transmit_power_w": 20.0,
        },
        radio={"access": access, "noise_psd_w_per_hz": 4e-21, "broadcast_bandwidth_hz": 2e7},
        devices={"file": file} if file else {"count": count, "seed": 0, "draw": draw},
        budget={"energy_j": (30.0 if fdma else 1.5) * count, "delay_s": 600.0},
        convergence={
            "criterion": criterion,
            "smoothness": 10.0,
            "initial_gap": 2.3,
            "shift": 0.7,
            "pretrain_step": 0.01,
            "finetune_step": 0.01,
            "pretrain_variance": 100.0,
            "finetune_variance": 12.0 * count,
            "pl_constant": 0.5,
        },
    )


def timed(line: dict[str, Any], name: str, work: Callable[[], Any], times: int = 1) -> Any:
    """Write the least time that the work takes, of the processor and of the clock."""
    cpu, wall, result = math.inf, math.inf, None
    for _ in range(times):
        began, clock = time.process_time(), time.perf_counter()
        result = work()
        cpu, wall = min(cpu, time.process_time() - began), min(wall, time.perf_counter() - clock)
    line[f"{name}_cpu_s"], line[f"{name}_wall_s"] = cpu, wall
    return result


def one(count: int, access: str, criterion: str) -> dict[str, Any]:
    """All figures of one size."""
    plan(scenario(1_500, access, criterion), tolerance=1e-2)  # compile, or load what is compiled
    line: dict[str, Any] = {"devices": count, "access": access, "criterion": criterion}
    drawn = timed(line, "draw", lambda: scenario(count, access, criterion))
    fleet = drawn.devices
    batch, clock, power = np.minimum(30.0, fleet.samples), fleet.max_clock_hz, fleet.max_power_w
    timed(line, "cost_model", lambda: cost.finetune_round(drawn, batch, clock, power), BEST_OF)
    problem, _ = build(drawn)
    m, n = (300.0, 1500.0) if access == "fdma" else (300.0, 40.0)
    _, _, psi0, psi = coefficients(problem.criterion, m, n)

    def fixed() -> tuple[int, float]:
        if count <= MOST_CERTIFIED:
            point = new_point(count)
            return int(solve_fixed(problem, problem.batches, m, n, psi0, psi, point)), float(point.scalars[8])
        crew = Crew(problem)
        return solve_cold(crew, m, n, psi0, psi), float(crew.point.scalars[8])

    status, line["noise"] = timed(line, "fixed", fixed, 2)
    line["fixed_solved"] = status == SOLVED
    line["fixed_in_cost_models_cpu"] = line["fixed_cpu_s"] / line["cost_model_cpu_s"]
    line["fixed_in_cost_models_wall"] = line["fixed_wall_s"] / line["cost_model_wall_s"]
    made = timed(line, "plan", lambda: plan(drawn))
    line |= {
        "status": made.status.value,
        "gap": made.relative_gap,
        "rounds": [made.pretrain.rounds, made.finetune.rounds],
        "sets": len(made.certificate.get("prices", [])),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        timed(line, "save", lambda: made.save(path))
        line["plan_bytes"] = path.stat().st_size
        again = timed(line, "load", lambda: load_plan(path))
        checked = timed(line, "check", lambda: certify.check(again, drawn))
        line["proven"] = checked.lower_bound_proven
        read_fleet(line, drawn, Path(folder), access, criterion)
    line["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return line


def read_fleet(line: dict[str, Any], drawn: Scenario, folder: Path, access: str, criterion: str) -> None:
    """The time a fleet takes to read from a file, to the last check."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    fleet = drawn.devices
    keys = [key for key in COLUMNS if key not in ("weight", "battery_j")]
    table = pa.table({"name": [f"cam-{i}" for i in range(len(fleet))], **{key: getattr(fleet, key) for key in keys}})
    csv.write_csv(table, folder / "fleet.csv")
    parquet.write_table(table, folder / "fleet.parquet")
    for kind in ("csv", "parquet"):
        file = str(folder / f"fleet.{kind}")
        timed(line, kind, lambda file=file: scenario(len(fleet), access, criterion, file))


def fits(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Exponents of the power laws that fit the times best (least squares in the logarithms)."""
    found: dict[str, Any] = {}
    for access in sorted({line["access"] for line in lines}):
        own = [line for line in lines if line["access"] == access and "error" not in line]
        if len(own) > 1:
            sizes = np.log([line["devices"] for line in own])
            found[access] = {key: float(np.polyfit(sizes, np.log([line[key] for line in own]), 1)[0]) for key in FITTED}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file, written anew after every size")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of devices")
    parser.add_argument("--access", nargs="+", default=["fdma"], choices=["fdma", "tdma"])
    parser.add_argument("--criterion", default="trajectory", choices=["trajectory", "final"])
    parser.add_argument("--one", action="store_true", help="the first size alone, in this process, as a JSON line")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.sizes[0], options.access[0], options.criterion)))
        return
    lines: list[dict[str, Any]] = []
    for access in options.access:
        for count in options.sizes:
            own = ["--one", "--sizes", str(count), "--access", access, "--criterion", options.criterion]
            done = subprocess.run([sys.executable, __file__, *own], capture_output=True, text=True, check=False)
            line = {"devices": count, "access": access, "error": done.stderr[-500:]}
            if done.returncode == 0:
                line = json.loads(done.stdout.splitlines()[-1])
            lines.append(line)
            print(json.dumps(line), flush=True)
            if options.out:
                options.out.write_text(json.dumps({"lines": lines, "exponents": fits(lines)}, indent=1) + "\n")
    print(json.dumps(fits(lines)))


if __name__ == "__main__":
    main()
