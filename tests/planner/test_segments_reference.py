"""The fixed-rounds optimum of plans in segments against the conic oracle."""

from __future__ import annotations

import pytest
from draws import draw

from pretune.planner.kernels.fixed import SOLVED
from pretune.planner.kernels.segments import new_course
from pretune.planner.problem import build
from pretune.planner.schedule.search import ScheduleSearch

pytest.importorskip("cvxpy")
pytest.importorskip("clarabel")


@pytest.mark.parametrize("seed", range(40))
def test_the_kernel_finds_the_conic_optimum(seed: int) -> None:
    from pretune.planner.reference.segments import solve_segments

    schedule = (2, 3, 4, 7)[seed % 4]
    drawn = draw(seed, batteries=False, criterion="final" if seed % 5 else None)
    scenario = drawn.scenario.replace(schedule=schedule)
    problem, _ = build(scenario)
    course = new_course(schedule, len(scenario.devices))
    assert ScheduleSearch(problem, schedule, 1e-4).solve(drawn.rounds, course) == SOLVED
    word, value, bound, violation = solve_segments(scenario, *drawn.rounds)
    assert word == "solved"
    assert violation <= 1e-7
    assert bound <= value * (1.0 + 1e-9)
    assert course.scalars[4] == pytest.approx(value, rel=1e-6)


def test_what_does_not_fit_is_said_so() -> None:
    from pretune.planner.reference.segments import solve_segments

    drawn = draw(4000, stages="both", batteries=False, energy="tight")
    poor = drawn.scenario.replace(schedule=3).with_budget(energy_j=1e-6 * drawn.scenario.budget.energy_j)
    assert solve_segments(poor, *drawn.rounds)[0] == "infeasible"
