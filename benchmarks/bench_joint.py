"""Whole plans with whole rounds and batches: pretune beside the literature's search by successive approximation."""

from __future__ import annotations

from typing import Any

import pytest
from measure import repeats
from scenarios import JOINT, heavy, joint

from pretune.planner import plan
from pretune.planner.baselines import Options, Outcome, SuccessiveOptions, baseline
from pretune.plans import Plan
from pretune.scenario import Scenario

WAYS = {
    "tuned": SuccessiveOptions(),
    "plain": SuccessiveOptions(warm=False),
    "anew": SuccessiveOptions(warm=False, compiled=False),
}
"""The literature's search coarse to fine: started from the nearest answer known; always from the same start; and that
with the program written down anew for each solve, which is how a modelling layer is commonly used."""


def note(benchmark: Any, scenario: Scenario, found: Plan | None) -> None:
    benchmark.extra_info["devices"] = len(scenario.devices)
    if found is None or found.pretrain is None or found.finetune is None:
        return
    benchmark.extra_info |= {
        "status": found.status.value,
        "objective": found.objective,
        "lower_bound": found.lower_bound,
        "gap": found.relative_gap,
        "rounds": [found.pretrain.rounds, found.finetune.rounds],
    }


def literature(benchmark: Any, scenario: Scenario, way: SuccessiveOptions, repeats: int) -> None:
    pytest.importorskip("cvxpy")
    first = plan(scenario)
    outcome: Outcome = benchmark.pedantic(
        baseline, ("successive", scenario, first), {"options": Options(successive=way)}, rounds=repeats
    )
    assert outcome.plan is not None, outcome.note
    note(benchmark, scenario, outcome.plan)
    benchmark.extra_info["note"] = outcome.note


def pretune(benchmark: Any, scenario: Scenario, tiny: bool) -> None:
    def run() -> Plan:
        return plan(scenario)

    run()
    note(benchmark, scenario, benchmark.pedantic(run, rounds=1 if tiny else repeats(run, most=25)))


@pytest.mark.benchmark(group="joint")
@pytest.mark.parametrize("name", JOINT)
def test_pretune(benchmark: Any, name: str, tiny: bool) -> None:
    pretune(benchmark, joint(name), tiny)


@pytest.mark.benchmark(group="joint")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", JOINT)
def test_literature(benchmark: Any, name: str, way: str, tiny: bool) -> None:
    if tiny and (name != JOINT[0] or way != "tuned"):
        pytest.skip("one is enough to see that it runs")
    options = SuccessiveOptions(points=3, spacing=0.3) if tiny else WAYS[way]
    literature(benchmark, joint(name), options, 1 if tiny or way != "tuned" else 3)


@pytest.mark.benchmark(group="joint-exhaustive")
def test_pretune_on_a_small_grid(benchmark: Any, tiny: bool) -> None:
    pretune(benchmark, heavy(), tiny)


@pytest.mark.benchmark(group="joint-exhaustive")
def test_literature_on_a_small_grid(benchmark: Any, tiny: bool) -> None:
    literature(benchmark, heavy(), SuccessiveOptions(search="exhaustive", step=20 if tiny else 1), 1)
