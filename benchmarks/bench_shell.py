"""What a user waits for: `pretune plan` from the shell, and a front of fifty plans."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median
from typing import Any

import pytest
from measure import children_s
from scenarios import DIGITS, campus

from pretune.planner.pareto import budgets, default_range, front

COMMAND = [sys.executable, "-c", "import sys; from pretune.cli import main; sys.exit(main())", "plan", str(DIGITS)]


@pytest.mark.benchmark(group="shell", timer=time.perf_counter)
def test_plan_from_the_shell(benchmark: Any, tiny: bool) -> None:
    """A cold process, its compiled code on disk."""

    def run() -> None:
        before = children_s()
        subprocess.run(COMMAND, check=True, stdout=subprocess.DEVNULL)
        processor.append(children_s() - before)

    processor: list[float] = []
    benchmark.pedantic(run, rounds=1 if tiny else 15, warmup_rounds=0 if tiny else 1)
    benchmark.extra_info["processor_s"] = median(processor[-15:])


@pytest.mark.benchmark(group="front")
@pytest.mark.parametrize("axis", ["energy", "delay"])
def test_front(benchmark: Any, axis: str, tiny: bool) -> None:
    """Fifty plans along one budget."""
    if tiny and axis == "delay":
        pytest.skip("one is enough to see that it runs")
    scenario, points = campus(10 if tiny else 100), 2 if tiny else 50
    values = budgets(*default_range(scenario, axis), points)

    list(front(scenario, axis, values[:2]))
    found = benchmark.pedantic(lambda: list(front(scenario, axis, values)), rounds=1)
    plans = [point.plan for point in found if point.plan is not None]
    benchmark.extra_info |= {
        "devices": len(scenario.devices),
        "points": points,
        "plans": len(plans),
        "optimal": sum(plan.status.value == "optimal" for plan in plans),
        "worst_gap": max(plan.relative_gap for plan in plans),
    }
