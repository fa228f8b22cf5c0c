"""The conic programs of math.md sections 3 and 4, for an interior-point solver: an oracle, not the fast path.

Both are one program in per-stage totals ``y0 = M b0``, ``X = M T0``, ``y = N b``, ``U = N u``, ``theta = N t``: every
term is homogeneous of degree one. With constant ``M, N`` and ``z = 1`` it is the fixed-rounds problem; with variable
``M, N, z`` and ``w0 M + w1 N`` fixed (Charnes-Cooper) it is the whole joint relaxed design for criterion `trajectory`:

    minimise    phi z + a0 M^2/y0 + sum_k a_k N^2/y_k
    subject to  c0 y0^3/X^2 + P0 X + N e_down + sum_k e_k <= E z,      e_k <= E_k z (batteries)
                e_k = c_k y_k^3/U_k^2 + P_k U_k + n_k theta_k (exp(span_k N / theta_k) - 1) + circuit_k theta_k
                X + Y + N t_down <= T z,     U_k + theta_k <= Y        (TDMA: U_k <= V, V + sum theta <= Y)
                M <= y0 <= D0 M,  N <= y_k <= D_k N,  y0 <= R0 X,  y_k <= R_k U_k,  theta_k >= N t_min,k

Every variable is divided by its value at a reference point, which moves to the answer found. An interior-point answer
is never believed: the decisions are put through the cost model, and the prices through the Lagrangian dual, whose
value is a lower bound whatever the prices are. An answer is `solved` when the two meet, else it is `inaccurate`.

    goal   what is minimised, and where the scaling starts      program   the cones      judge   what an answer is worth
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from pretune.convergence.criteria import Trajectory
from pretune.errors import InputError, MissingExtra
from pretune.physics.types import Floats
from pretune.planner.problem import Problem, build
from pretune.planner.reference.goal import Goal, Point, Prices, rescaled, start, typical_rounds
from pretune.planner.reference.judge import judge
from pretune.planner.reference.program import SETTINGS, solve
from pretune.scenario import Scenario

__all__ = ["Point", "Prices", "Reference", "fixed_rounds", "joint", "least_energy"]

VIOLATION = 1e-7
"""Largest relative violation of a limit, recomputed from the cost model, in an answer that counts as solved."""
GAP = 1e-5
"""Largest relative gap, recomputed, between the decisions and the prices of an answer that counts as solved."""
AIM = 2e-8
"""Gap at which no further trial is made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """An answer of the oracle.

    `status` is `solved`, `infeasible` (the solver's word) or `inaccurate`; only with `solved` are there numbers.
    `value` is what the decisions are worth, `bound` what the prices prove, `noise` the value without phi and weight
    (what the fixed-rounds problem minimises). `violation` and `gap` are relative and recomputed.
    """

    status: str
    value: float = math.nan
    bound: float = math.nan
    noise: float = math.nan
    violation: float = math.inf
    gap: float = math.inf
    point: Point | None = None
    prices: Prices | None = None
    trials: int = 0
    solver_s: float = 0.0


def fixed_rounds(scenario: Scenario, pretrain_rounds: float, finetune_rounds: float) -> Reference:
    """The optimum of the criterion over real batches, clocks and powers at fixed rounds (math.md section 3).

    Raises:
        MissingExtra: cvxpy or clarabel is not installed.
    """
    problem, criterion = build(scenario)
    c = criterion.at(pretrain_rounds, finetune_rounds)
    goal = Goal(phi=float(c.phi), psi0=float(c.psi0), psi=float(c.psi), weight=float(c.weight))
    return _answer(scenario, problem, goal, start(problem, pretrain_rounds, finetune_rounds))


def least_energy(
    scenario: Scenario, pretrain_rounds: float, finetune_rounds: float, server_batch: float, batches: Floats
) -> Reference:
    """The least joules for given rounds and batches within delay and batteries; `value` is in joules.

    Raises:
        MissingExtra: cvxpy or clarabel is not installed.
    """
    problem, _ = build(scenario)
    server, each = float(server_batch), np.asarray(batches, dtype=np.float64)
    fixed = problem.batches._replace(server_low=server, server_high=server, low=each, high=each)
    problem = problem._replace(batches=fixed)
    return _answer(scenario, problem, Goal(energy=True), start(problem, pretrain_rounds, finetune_rounds))


def joint(scenario: Scenario) -> Reference:
    """The whole design with real rounds and batches, criterion `trajectory` (math.md section 4).

    Its bound holds for every plan; its point has real rounds.

    Raises:
        InputError: another criterion is asked for.
        MissingExtra: cvxpy or clarabel is not installed.
    """
    problem, criterion = build(scenario)
    if not isinstance(criterion, Trajectory):
        should = "trajectory: the joint program is known for no other"
        raise InputError.field("convergence.criterion", criterion.name, should)
    if criterion.drift_cost > 0.0:
        raise InputError.field(
            "convergence.local_steps", scenario.convergence.local_steps, "1: the reference knows no more"
        )
    if criterion.private_noise > 0.0:
        raise InputError.field("privacy", "a section", "null: the joint program knows no private noise")
    goal = Goal(
        phi=2.0 * criterion.gap,
        shift_cost=criterion.shift_cost,
        psi0=criterion.server_noise,
        psi=criterion.device_noise,
        weights=(criterion.pretrain_weight, criterion.finetune_weight),
    )
    return _answer(scenario, problem, goal, start(problem, *typical_rounds(problem)))


def _answer(scenario: Scenario, problem: Problem, goal: Goal, first: Point) -> Reference:
    """Trial after trial, each scaled by the last answer, until decisions and prices meet."""
    try:
        import clarabel  # noqa: F401
        import cvxpy
    except ImportError as error:
        raise MissingExtra("reference", str(error.name)) from None
    best, at, trials = Reference(status="inaccurate"), first, 0
    began = time.perf_counter()
    for settings in SETTINGS:
        word, point, prices = solve(cvxpy, problem, goal, at, settings)
        trials += 1
        if word == "infeasible" and trials > 1:
            return Reference(status="infeasible", trials=trials, solver_s=time.perf_counter() - began)
        if point is None or prices is None:
            continue
        at = rescaled(at, point)
        verdict = judge(scenario, problem, goal, point, prices)
        if verdict.violation <= VIOLATION and verdict.gap < best.gap:
            best = Reference(status="solved" if verdict.gap <= GAP else "inaccurate", prices=prices, **vars(verdict))
        if best.gap <= AIM:
            break
    if best.status == "inaccurate":
        best = replace(best, value=math.nan, bound=math.nan, noise=math.nan, point=None, prices=None)
    return replace(best, trials=trials, solver_s=time.perf_counter() - began)
