"""Fixed rounds, a thousand devices: the price kernel beside a conic solver's own time."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
from measure import Timed, repeats
from scenarios import FIXED, fleet

from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.fleet import Point as Solved
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import Problem, build
from pretune.planner.reference.goal import Goal, Point, rescaled, start
from pretune.planner.reference.judge import judge
from pretune.planner.reference.program import SETTINGS, solve

SAME = 1e-6
"""Relative difference up to which a conic answer is the same optimum, and the violation it may have."""


def kernel(problem: Problem, m: float, n: float) -> tuple[int, float]:
    """A cold solve: its status and the noise it finds."""
    status, point = solved(problem, m, n)
    return status, float(point.scalars[8])


def solved(problem: Problem, m: float, n: float) -> tuple[int, Solved]:
    """A cold solve: its status and its point."""
    _, _, psi0, psi = coefficients(problem.criterion, m, n)
    point = new_point(problem.devices.cycles.size)
    return solve_fixed(problem, problem.batches, m, n, psi0, psi, point), point


def decisions(problem: Problem, m: float, n: float) -> Point:
    """Our answer as batches and seconds: what a conic program is best scaled by."""
    d, (_, point) = problem.devices, solved(problem, m, n)
    return Point(
        pretrain_rounds=m,
        finetune_rounds=n,
        server_batch=float(point.scalars[4]),
        server_s=float(point.scalars[3]),
        batches=point.batch,
        compute_s=d.cycles * point.batch / point.clock,
        upload_s=d.span / point.exponent,
        shares=point.share,
    )


@pytest.fixture(autouse=True)
def one_when_tiny(tiny: bool, name: str) -> None:
    if tiny and name != FIXED[0]:
        pytest.skip("one is enough to see that it runs")


@pytest.mark.benchmark(group="fixed")
@pytest.mark.parametrize("name", FIXED)
def test_pretune(benchmark: Any, name: str, tiny: bool) -> None:
    drawn = fleet(name, 20 if tiny else 1000)
    problem, _ = build(drawn.scenario)
    m, n = map(float, drawn.rounds)
    kernel(problem, m, n)
    rounds = 2 if tiny else repeats(lambda: kernel(problem, m, n), most=200)
    status, noise = benchmark.pedantic(kernel, (problem, m, n), rounds=rounds)
    assert status == SOLVED
    benchmark.extra_info |= {"devices": len(drawn.scenario.devices), "noise": noise}


@pytest.mark.benchmark(group="fixed")
@pytest.mark.parametrize("name", FIXED)
def test_clarabel(benchmark: Any, name: str, tiny: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quickest of the answers that are the same optimum, with default settings and with those of the oracle.

    The programs are scaled by the optimum itself, found by us before and not counted: no user has a better scaling.
    Each trial is scaled anew by the answer of the one before.
    """
    cvxpy, clarabel = pytest.importorskip("cvxpy"), pytest.importorskip("clarabel")
    monkeypatch.setattr(clarabel, "DefaultSolver", partial(Timed, clarabel.DefaultSolver))
    drawn = fleet(name, 20 if tiny else 1000)
    problem, criterion = build(drawn.scenario)
    m, n = map(float, drawn.rounds)
    c = criterion.at(m, n)
    goal = Goal(phi=float(c.phi), psi0=float(c.psi0), psi=float(c.psi), weight=float(c.weight))
    _, known = kernel(problem, m, n)
    at = decisions(problem, m, n)
    best: dict[str, Any] = {"solver_s": math.inf, "difference": math.nan}
    trials = []

    def answer() -> None:
        nonlocal at, best
        for settings in ({}, {}, *SETTINGS):
            word, point, prices = solve(cvxpy, problem, goal, at, settings)
            if point is None or prices is None:
                trials.append(word)
                continue
            at = rescaled(at, point)
            verdict = judge(drawn.scenario, problem, goal, point, prices)
            line = {
                "solver_s": Timed.spent[-1],
                "difference": verdict.noise / known - 1.0,
                "violation": verdict.violation,
                "noise": verdict.noise,
            }
            trials.append(line)
            same = abs(line["difference"]) <= SAME and line["violation"] <= SAME
            if same and line["solver_s"] < best["solver_s"]:
                best = line

    benchmark.pedantic(answer, rounds=1)
    benchmark.extra_info |= {"devices": len(drawn.scenario.devices), "trials": trials, **best}


@pytest.mark.benchmark(group="fixed")
@pytest.mark.parametrize("name", FIXED)
def test_clarabel_with_modelling(benchmark: Any, name: str, tiny: bool) -> None:
    """One trial whole: what a user of a modelling layer waits for."""
    cvxpy = pytest.importorskip("cvxpy")
    drawn = fleet(name, 20 if tiny else 1000)
    problem, criterion = build(drawn.scenario)
    m, n = map(float, drawn.rounds)
    c = criterion.at(m, n)
    goal = Goal(phi=float(c.phi), psi0=float(c.psi0), psi=float(c.psi), weight=float(c.weight))
    at = start(problem, m, n)
    benchmark.pedantic(solve, (cvxpy, problem, goal, at, {}), rounds=1 if tiny else 3)
    benchmark.extra_info["devices"] = len(drawn.scenario.devices)
