"""The conic program of a plan in segments at fixed rounds: the segments' programs side by side, under one budget."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from pretune.convergence.schedule import segment_coefficients
from pretune.errors import MissingExtra
from pretune.planner.problem import Problem, build
from pretune.planner.reference.goal import Goal, Point, Prices, rescaled, start
from pretune.planner.reference.judge import judge, used_up
from pretune.planner.reference.program import SETTINGS, Draft, point_of, prices_of
from pretune.scenario import Scenario


def solve_segments(scenario: Scenario, pretrain_rounds: int, finetune_rounds: int) -> tuple[str, float, float, float]:
    """The optimum over real batches, clocks and powers of the scenario's segments at fixed rounds.

    Returns the solver's word (``infeasible``, or anything else), what the best decisions found are worth (the noise
    part, the criterion's numerator without phi), what the prices prove of it, and the largest relative violation of a
    limit; the figures are recomputed from the cost model and the Lagrangian, NaN where there are none.

    Raises:
        MissingExtra: cvxpy or clarabel is not installed.
    """
    try:
        import clarabel  # noqa: F401
        import cvxpy
    except ImportError as error:
        raise MissingExtra("reference", str(error.name)) from None
    problem, criterion = build(scenario)
    c = segment_coefficients(criterion, pretrain_rounds, finetune_rounds, scenario.schedule)
    rows = zip(c.pretrain_rounds, c.finetune_rounds, c.psi0, c.psi, strict=True)
    parts = [(float(m), float(n), Goal(psi0=float(psi0), psi=float(psi))) for m, n, psi0, psi in rows if m or n]
    whole = start(problem, pretrain_rounds, finetune_rounds)
    at = [_with_rounds(whole, m, n) for m, n, _ in parts]
    goals = [goal for *_, goal in parts]
    best = ("inaccurate", math.nan, math.nan, math.inf)
    for settings in SETTINGS:
        word, points, prices = _solve(cvxpy, problem, goals, at, settings)
        if word == "infeasible":
            return word, math.nan, math.nan, math.inf
        if not points:
            continue
        at = [rescaled(old, new) for old, new in zip(at, points, strict=True)]
        value, bound, violation = _judge(scenario, problem, goals, points, prices)
        if violation <= 1e-7 and not abs(value - bound) >= abs(best[1] - best[2]):
            best = ("solved", value, bound, violation)
        if abs(best[1] - best[2]) <= 2e-8 * best[1]:
            break
    return best


def _with_rounds(point: Point, m: float, n: float) -> Point:
    return Point(**{**vars(point), "pretrain_rounds": m, "finetune_rounds": n})


def _solve(
    cp: Any, problem: Problem, goals: Sequence[Goal], at: Sequence[Point], settings: dict[str, Any]
) -> tuple[str, list[Point], list[Prices]]:
    """One conic solve, each segment scaled by its own point; empty lists where there is no answer."""
    drafts = []
    for goal, point in zip(goals, at, strict=True):
        draft = Draft(cp=cp, problem=problem, goal=goal, at=point)
        if point.pretrain_rounds > 0.0:
            draft.add_server()
        if point.finetune_rounds > 0.0:
            draft.add_fleet()
        drafts.append(draft)
    in_energy = sum(draft.joules for draft in drafts) / problem.limits.energy <= 1.0
    in_delay = sum(draft.seconds for draft in drafts) / problem.limits.delay <= 1.0
    unit = sum(goal.noise(problem, point) for goal, point in zip(goals, at, strict=True))
    target = sum(draft.noise for draft in drafts) / unit
    rules = [rule for draft in drafts for rule in draft.rules]
    program = cp.Problem(cp.Minimize(target), [*rules, in_energy, in_delay])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            program.solve(solver=cp.CLARABEL, **settings)
        except (cp.error.SolverError, ArithmeticError, ValueError):
            return "failed", [], []
    word = str(program.status)
    if "infeasible" in word or "unbounded" in word or in_delay.dual_value is None:
        return word, [], []
    points = [point_of(draft) for draft in drafts]
    prices = [prices_of(draft, unit, in_delay, in_energy) for draft in drafts]
    return word, [point for point in points if point is not None], prices


def _judge(
    scenario: Scenario, problem: Problem, goals: Sequence[Goal], points: Sequence[Point], prices: Sequence[Prices]
) -> tuple[float, float, float]:
    """Value, bound and violation of all segments together: values and spendings add up, budgets are paid once."""
    noise, joules, seconds, most = 0.0, 0.0, 0.0, 0.0
    bound = prices[0].energy * -problem.limits.energy - prices[0].delay * problem.limits.delay
    for goal, point, price in zip(goals, points, prices, strict=True):
        verdict = judge(scenario, problem, goal, point, price)
        paid = price.energy * problem.limits.energy + price.delay * problem.limits.delay
        bound += verdict.bound + paid
        noise += verdict.noise
        own_joules, own_seconds, used = used_up(scenario, verdict.point)
        joules, seconds, most = joules + own_joules, seconds + own_seconds, max(most, *used)
    most = max(most, joules / scenario.budget.energy_j, seconds / scenario.budget.delay_s)
    return noise, bound, most - 1.0
