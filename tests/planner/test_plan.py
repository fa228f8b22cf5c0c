"""Whole plans: against exhaustive search, over drawn scenarios, and at the edges of what makes sense."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from brute import exhaustive, least_joules
from draws import ODDITIES, draw, odd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretune import certify
from pretune.convergence.criteria import criterion_of, device_noise, objective
from pretune.errors import InputError
from pretune.planner import plan, reference
from pretune.plans import Plan, Status
from pretune.scenario import Scenario, scenario_from_dict

TIME_LIMIT = 2.0


def checked(scenario: Scenario, **options: Any) -> Plan:
    """A plan that passes its check and keeps its own promises."""
    answer = plan(scenario, throw=False, **options)
    assert answer.status is not Status.NUMERICAL_FAILURE
    certify.check(answer, scenario)
    if answer.status.has_plan:
        figures = (answer.objective, answer.lower_bound, answer.relative_gap, answer.energy_j, answer.delay_s)
        assert all(map(math.isfinite, figures))
        assert all(map(math.isfinite, answer.multipliers.values()))
        assert answer.lower_bound <= answer.objective
        assert answer.energy_j <= scenario.budget.energy_j
        assert answer.delay_s <= scenario.budget.delay_s
        assert all(price <= 0.0 for price in answer.multipliers.values())
    return answer


# ---------------------------------------------------------------------------- exhaustive search


@pytest.mark.parametrize("seed", [seed for seed in range(100, 140) if seed not in (117, 121)])  # those have many rounds
def test_small_problems_exhaustively(seed: int) -> None:
    """Every pair of rounds with every whole batch: the plan's proven interval holds the true optimum."""
    scenario = draw(seed, small=True).scenario
    best, tried = exhaustive(scenario)
    assert tried
    answer = checked(scenario)
    assert answer.lower_bound <= best
    assert best <= answer.objective * (1.0 + 1e-12)
    if seed % 4 == 0:
        pytest.importorskip("cvxpy")
        for trial in tried[-6:]:
            conic = reference.least_energy(scenario, *trial[:3], np.array(trial[3], dtype=float))
            joules = least_joules(scenario, *trial)
            if conic.status == "solved":
                assert joules == pytest.approx(conic.value, rel=1e-6)
            elif conic.status == "infeasible":
                assert joules == math.inf


# ---------------------------------------------------------------------------- drawn scenarios


@pytest.mark.parametrize("name", ODDITIES)
def test_odd_scenarios(name: str) -> None:
    for seed in range(2):
        checked(odd(name, seed, count=(1, 3)[seed], batteries=False), time_limit=1.0, tolerance=1e-3)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), name=st.sampled_from([None, *ODDITIES]), small=st.booleans())
def test_any_scenario(seed: int, name: str | None, small: bool) -> None:
    """The bound is below the objective, the check passes, nothing warns, nothing hangs."""
    scenario = odd(name, seed, small=small) if name else draw(seed, small=small).scenario
    checked(scenario, time_limit=1.0, tolerance=1e-3)


@pytest.mark.parametrize("seed", range(12))
def test_the_gap_is_small(seed: int) -> None:
    drawn = draw(seed + 800, batteries=False, idle_power=False, count=(1, 2, 3)[seed % 3])
    assert checked(drawn.scenario).relative_gap <= 1e-3


@pytest.mark.parametrize("seed", [1, 4, 28, 82, 182, 238])
def test_the_gap_is_small_in_hard_cases(seed: int) -> None:
    """Batteries and whole batches, FDMA and TDMA: cases that took the sides of batches, or cut spans, to prove."""
    answer = checked(draw(seed).scenario)
    assert answer.relative_gap is not None
    assert answer.relative_gap <= 1e-3


@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_rounds_that_bring_nothing_are_not_run(criterion: str) -> None:
    """Pre-training at a gap between the data that leaves it nothing to win: no millions of idle rounds."""
    tree = draw(2000, count=10, access="fdma", criterion=criterion, batteries=False, stages="both").scenario.to_dict()
    tree["convergence"]["shift"] = 50.0
    answer = checked(scenario_from_dict(tree))
    assert answer.pretrain is not None
    assert answer.pretrain.rounds == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_is_no_worse_than_the_rounds_it_was_drawn_for(seed: int) -> None:
    drawn = draw(seed + 900, count=3)
    fleet = drawn.scenario.devices
    drawn_value = objective(
        criterion_of(drawn.scenario), device_noise(drawn.scenario), *drawn.rounds, 1.0, np.ones(len(fleet))
    )
    assert checked(drawn.scenario, time_limit=TIME_LIMIT).objective <= drawn_value


def test_a_time_limit_is_kept_and_told() -> None:
    scenario = draw(7).scenario
    answer = checked(scenario, time_limit=1.0, tolerance=1e-6)
    assert answer.status in (Status.TIME_LIMIT, Status.OPTIMAL, Status.FEASIBLE)
    if answer.status is Status.TIME_LIMIT:
        assert answer.message.startswith("feasible, not proven optimal: the time limit")


def test_a_looser_tolerance_is_still_proven() -> None:
    scenario = draw(12).scenario
    for tolerance in (0.3, 1e-2, 1e-3):
        answer = checked(scenario, tolerance=tolerance)
        assert answer.relative_gap <= tolerance
        assert answer.status is Status.OPTIMAL


@pytest.mark.parametrize(
    "options",
    [
        {"tolerance": 0.0},
        {"tolerance": 1.0},
        {"tolerance": math.nan},
        {"tolerance": -1e-3},
        {"time_limit": 0.0},
        {"time_limit": -1.0},
        {"time_limit": math.inf},
        {"time_limit": math.nan},
    ],
)
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        plan(draw(0).scenario, **options)
