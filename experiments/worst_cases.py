"""The deterministic part of the bounds beside the worst function there is, found by PEPit.

    python experiments/worst_cases.py            # writes experiments/results/worst_cases.csv; about a minute

PEPit (Goujaud et al., arXiv:2201.04040) turns "the worst L-smooth function in any dimension, after these steps" into a
semidefinite program. Gradients are exact but for the shift, as the bounds allow it: the server's is anywhere within
zeta of the task's, anew in every round. All with L = 1, Delta = 1. `gap` is counted up to the last model, F(w_0) -
F(w_end), as in the proofs before the last step. For smooth functions with a Polyak-Lojasiewicz inequality no exact
conditions are known, and PEPit's figure may itself be above the truth.
"""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pretune.constants import Convergence
from pretune.convergence import criteria

RESULTS = Path(__file__).parent / "results" / "worst_cases.csv"
AVERAGES = [
    (m, n, s0, s, z)
    for m, n, z in ((0, 1, 0.0), (0, 2, 0.0), (0, 4, 0.0), (1, 0, 0.5), (2, 0, 0.5), (1, 1, 0.5), (2, 2, 0.5))
    for s0, s in ((1.0, 1.0), (0.5, 0.5))
]
FINALS = [(m, n, s, z) for m, n, z in ((0, 1, 0.0), (0, 2, 0.0), (1, 0, 0.1), (1, 1, 0.1)) for s in (1.0, 0.5)]
MU = 0.1


def constants(step0: float, step: float, zeta: float) -> Convergence:
    """L = 1, Delta = 1, no noise."""
    return Convergence(
        smoothness=1.0,
        initial_gap=1.0,
        shift=zeta,
        pretrain_step=step0,
        finetune_step=step,
        pretrain_variance=0.0,
        finetune_variance=0.0,
        pl_constant=MU,
    )


def _walked(problem: Any, f: Any, m: int, n: int, step0: float, step: float, zeta: float) -> tuple[Any, list[Any]]:
    """The steps of both stages; returns the last model and all task gradients before it."""
    from PEPit import Point

    x, gradients = problem.set_initial_point(), []
    first = x
    for round_ in range(m + n):
        g = f.gradient(x)
        gradients.append(g)
        shift = Point() if round_ < m and zeta > 0.0 else None
        if shift is not None:
            problem.add_constraint(shift**2 <= zeta**2)
        x = x - (step0 if round_ < m else step) * (g if shift is None else g + shift)
    return (first, x), gradients


def worst_average(m: int, n: int, step0: float, step: float, zeta: float) -> tuple[float, float]:
    """The largest weighted average of |grad F|^2 over the rounds, as PEPit finds it; and the criterion `trajectory`."""
    from PEPit import PEP
    from PEPit.functions import SmoothFunction

    problem = PEP()
    f = problem.declare_function(SmoothFunction, L=1.0)
    (first, last), gradients = _walked(problem, f, m, n, step0, step, zeta)
    problem.set_initial_condition(f(first) - f(last) <= 1.0)
    c = criteria.trajectory(constants(step0, step, zeta))
    weights = np.repeat([c.pretrain_weight, c.finetune_weight], [m, n])
    problem.set_performance_metric(
        sum((w * g**2 for w, g in zip(weights, gradients, strict=True)), start=0.0 * gradients[0] ** 2) / weights.sum()
    )
    return _solved(problem), criteria.objective(c, np.zeros(1), m, n, 1.0, np.ones(1))


def best_of_family(m: int, step0: float, zeta: float) -> float:
    """The least bound of `theorems.young_family` over rho, pre-training alone, for the plain average."""
    rho = np.linspace(0.01, 1.0, 1000)
    weight = step0 * (2.0 - step0 - (1.0 - step0) * rho)
    return float(((2.0 + m * step0 * (step0 + (1.0 - step0) / rho) * zeta**2) / (m * weight)).min())


def worst_final(m: int, n: int, step: float, zeta: float) -> tuple[float, float]:
    """The largest final gap of functions with a Polyak-Lojasiewicz constant; and the criterion `final`."""
    from PEPit import PEP
    from PEPit.functions import SmoothQuadraticLojasiewiczFunctionExpensive

    problem = PEP()
    f = problem.declare_function(SmoothQuadraticLojasiewiczFunctionExpensive, L=1.0, mu=MU)
    best = f.stationary_point()
    (first, last), _ = _walked(problem, f, m, n, step, step, zeta)
    problem.set_initial_condition(f(first) - f(best) <= 1.0)
    problem.set_performance_metric(f(last) - f(best))
    bound = criteria.objective(criteria.final(constants(step, step, zeta)), np.zeros(1), m, n, 1.0, np.ones(1))
    return _solved(problem), bound


def _solved(problem: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cvxpy's, about solvers that are not installed
        return float(problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0))


def main() -> None:
    """Solve all and write the table."""
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            ["bound", "pretrain_rounds", "finetune_rounds", "step", "shift", "worst", "bound_value", "ratio"]
        )
        rows = [("trajectory", m, n, s0, z, *worst_average(m, n, s0, s, z)) for m, n, s0, s, z in AVERAGES]
        alone = [row for row in rows if row[2] == 0]
        rows += [("young_family", m, n, s0, z, worst, best_of_family(m, s0, z)) for _, m, n, s0, z, worst, _ in alone]
        rows += [("final", m, n, s, z, *worst_final(m, n, s, z)) for m, n, s, z in FINALS]
        for *head, worst, bound in rows:
            table.writerow([*head, f"{worst:.5f}", f"{bound:.5f}", f"{bound / worst:.3f}"])


if __name__ == "__main__":
    main()
