"""Plans in segments: the fixed-rounds kernel, what its prices prove, whole plans and their checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from draws import Drawn, draw

from pretune.convergence.schedule import lengths
from pretune.figures import system_of
from pretune.planner.kernels.fixed import DELAY_SHORT, ENERGY_SHORT, SOLVED, new_point, solve_fixed
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.kernels.segment_bounds import caps_over, price_segments, segments_bound_at, segments_bound_over
from pretune.planner.kernels.segments import Course, new_course
from pretune.planner.problem import Problem, build
from pretune.planner.schedule.search import ScheduleSearch
from pretune.scenario import Scenario
from pretune.segment_bounds import bound_segments, priced_segments

SEEDS = range(24)


def drawn_with(seed: int, schedule: int, **options: Any) -> tuple[Drawn, Scenario, Problem]:
    drawn = draw(seed, batteries=False, **options)
    scenario = drawn.scenario.replace(schedule=schedule)
    return drawn, scenario, build(scenario)[0]


def solved(problem: Problem, schedule: int, rounds: tuple[int, int]) -> tuple[int, Course]:
    course = new_course(schedule, problem.devices.cycles.size)
    return ScheduleSearch(problem, schedule, 1e-4).solve(rounds, course), course


def constant_noise(problem: Problem, rounds: tuple[int, int]) -> float:
    """Noise of the best plan that is the same in all rounds."""
    _, _, psi0, psi = coefficients(problem.criterion, *map(float, rounds))
    point = new_point(problem.devices.cycles.size)
    assert solve_fixed(problem, problem.batches, *map(float, rounds), psi0, psi, point) == SOLVED
    return float(point.scalars[8])


@pytest.mark.parametrize("seed", SEEDS)
def test_one_segment_is_the_constant_plan(seed: int) -> None:
    drawn, _, problem = drawn_with(seed, 1)
    status, course = solved(problem, 1, drawn.rounds)
    assert status == SOLVED
    assert course.scalars[4] == pytest.approx(constant_noise(problem, drawn.rounds), rel=1e-8)


@pytest.mark.parametrize("schedule", [2, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_for_trajectory_constant_is_optimal(seed: int, schedule: int) -> None:
    """By convexity: no schedule of real batches is worth more than the same batches throughout."""
    drawn, _, problem = drawn_with(seed, schedule, criterion="trajectory")
    status, course = solved(problem, schedule, drawn.rounds)
    assert status == SOLVED
    assert course.scalars[4] == pytest.approx(constant_noise(problem, drawn.rounds), rel=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_for_final_more_segments_never_hurt_and_batches_grow(seed: int) -> None:
    """Four segments can do what two can: with rounds that both divide, their segments end where the others do."""
    drawn, _, problem = drawn_with(seed, 2, criterion="final")
    rounds = (4 * math.ceil(drawn.rounds[0] / 4), 4 * math.ceil(drawn.rounds[1] / 4))
    limits = problem.limits
    problem = problem._replace(limits=limits._replace(energy=4.0 * limits.energy, delay=4.0 * limits.delay))
    before = constant_noise(problem, rounds)
    for schedule in (2, 4):
        status, course = solved(problem, schedule, rounds)
        assert status == SOLVED
        assert course.scalars[4] <= before * (1.0 + 1e-9)
        before = float(course.scalars[4])
        if rounds[0]:
            assert np.all(np.diff(course.server_batch) >= -1e-6 * course.server_batch[1:])
        if rounds[1]:
            assert np.all(np.diff(course.batch, axis=0) >= -1e-6 * course.batch[1:])


@pytest.mark.parametrize("seed", SEEDS)
def test_decisions_keep_the_limits_and_spend_what_binds(seed: int) -> None:
    drawn, scenario, problem = drawn_with(seed, 3)
    status, course = solved(problem, 3, drawn.rounds)
    assert status == SOLVED
    d, server = problem.devices, problem.server
    m, n = (lengths(rounds, 3) for rounds in drawn.rounds)
    seconds, joules = course.scalars[3], course.scalars[2]
    assert seconds <= problem.limits.delay * (1.0 + 1e-9)
    assert joules <= problem.limits.energy * (1.0 + 1e-9)
    for j in np.flatnonzero(m):
        assert 1.0 <= course.server_batch[j] <= scenario.server.samples
        assert course.server_clock[j] <= server.clock_max
    for j in np.flatnonzero(n):
        assert np.all((course.batch[j] >= 1.0) & (course.batch[j] <= scenario.devices.samples))
        assert np.all(course.clock[j] <= d.clock_max)
        assert np.all(course.exponent[j] <= d.exponent_max)
        assert course.price[j].sum() == pytest.approx(course.scalars[1], rel=1e-6)
    spent = joules >= problem.limits.energy * (1.0 - 1e-9)
    _, _, psi0, psi = coefficients(problem.criterion, *map(float, drawn.rounds))
    scale = psi0 + psi * float(d.variance.sum())
    assert spent or course.scalars[0] <= 1.01e-14 * scale / problem.limits.energy


def test_what_does_not_fit_is_said_so() -> None:
    drawn, _, problem = drawn_with(4000, 3, stages="both", energy="tight")
    limits = problem.limits
    hasty = problem._replace(limits=limits._replace(delay=1e-3 * limits.delay))
    poor = problem._replace(limits=limits._replace(energy=1e-6 * limits.energy))
    assert solved(hasty, 3, drawn.rounds)[0] == DELAY_SHORT
    assert solved(poor, 3, drawn.rounds)[0] == ENERGY_SHORT


def boxes_around(rng: np.random.Generator, rounds: tuple[int, int], count: int) -> np.ndarray:
    """Boxes of rounds of all widths around a pair, single pairs and one from the origin among them."""
    rows = [(0, 5, 0, 5)]
    for _ in range(count):
        ends = []
        for r in rounds:
            wide = 10 ** rng.uniform(-3.0, 1.0)
            ends += [max(0, int(r * (1.0 - wide * rng.random()))), int(r * (1.0 + wide * rng.random()))]
            if rng.random() < 0.2:
                ends[-2:] = [r, r]
        rows.append(tuple(ends))
    boxes = np.array([(*row, 0.0, math.inf) for row in rows], dtype=np.float64)
    return boxes[(boxes[:, 1] > 0.0) | (boxes[:, 3] > 0.0)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_checkers_bound_is_the_planners_and_holds(seed: int) -> None:
    """Both sides prove the same of every box, and no more of a box than of each pair of rounds in it."""
    schedule = (2, 3, 5, 8)[seed % 4]
    drawn, scenario, problem = drawn_with(seed, schedule)
    _, course = solved(problem, schedule, drawn.rounds)
    lam, omega = float(course.scalars[0]), float(course.scalars[1])
    prices = price_segments(problem, lam, omega, course.price)
    system = system_of(scenario)
    twin = priced_segments(system, {"energy": lam, "omega": omega, "shares": course.price.tolist()})
    rng = np.random.default_rng(seed)
    boxes = boxes_around(rng, drawn.rounds, 25)
    for box, claim in zip(boxes, bound_segments(system, twin, boxes), strict=True):
        m1, m2, n1, n2 = box[:4].tolist()
        caps = caps_over(problem, m1, m2, n1, n2, schedule)
        mine = segments_bound_over(problem, prices, caps, m1, m2, n1, n2, schedule)
        size = abs(prices.budget) + abs(mine) if math.isfinite(mine) else math.inf
        assert (mine == claim == math.inf) or abs(mine - claim) <= 1e-10 * size
        for _ in range(6):
            m, n = float(rng.integers(m1, m2 + 1)), float(rng.integers(n1, n2 + 1))
            if m + n > 0.0:
                alone = caps_over(problem, m, m, n, n, schedule)
                at = segments_bound_at(problem, prices, alone, m, n, schedule)
                assert claim <= at + 1e-10 * (abs(prices.budget) + abs(at) if math.isfinite(at) else 0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_prices_are_tight_where_they_come_from(seed: int) -> None:
    """The bound with whole batches lies between the optimum with real ones and what whole batches reach."""
    drawn, _, problem = drawn_with(seed, 4)
    _, course = solved(problem, 4, drawn.rounds)
    m, n = map(float, drawn.rounds)
    weight, phi, _, _ = coefficients(problem.criterion, m, n)
    prices = price_segments(problem, float(course.scalars[0]), float(course.scalars[1]), course.price)
    bound = segments_bound_at(problem, prices, caps_over(problem, m, m, n, n, 4), m, n, 4)
    value = (phi + course.scalars[4]) / weight
    assert bound >= value - 1e-7 * course.scalars[4] / weight


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_closes_in_as_the_box_shrinks(seed: int) -> None:
    """Around its home the bound of a box misses the optimum by about the square of the width."""
    drawn, _, problem = drawn_with(seed, 4, criterion="final", stages="both", access="fdma")
    rounds = (4 * drawn.rounds[0], 4 * drawn.rounds[1])
    limits = problem.limits
    problem = problem._replace(limits=limits._replace(energy=9.0 * limits.energy, delay=9.0 * limits.delay))
    _, course = solved(problem, 4, rounds)
    prices = price_segments(problem, float(course.scalars[0]), float(course.scalars[1]), course.price)
    misses = []
    for share in (0.2, 0.02):
        m1, m2, n1, n2 = (float(round(r * f)) for r in rounds for f in (1.0 - share, 1.0 + share))
        over = segments_bound_over(problem, prices, caps_over(problem, m1, m2, n1, n2, 4), m1, m2, n1, n2, 4)
        pairs = [(m, n) for m in np.linspace(m1, m2, 9).round() for n in np.linspace(n1, n2, 9).round()]
        least = min(segments_bound_at(problem, prices, caps_over(problem, m, m, n, n, 4), m, n, 4) for m, n in pairs)
        misses.append((least - over) / abs(least))
    assert misses[0] >= -1e-12
    assert misses[1] <= 0.1 * misses[0] + 1e-9
