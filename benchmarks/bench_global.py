"""Few devices: pretune beside global solvers on the original non-convex problem (see nonconvex.py)."""

from __future__ import annotations

from typing import Any

import pytest
import scenarios  # puts the tests' helpers on the path  # noqa: F401
from brute import least_joules
from nonconvex import Found, casadi, scip
from scenarios import FEW, few, small

from pretune.planner import plan
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import build
from pretune.scenario import Scenario

TIME_LIMIT = 30.0
STARTS = 10


def most_rounds(scenario: Scenario) -> tuple[int, int]:
    """The most rounds of either stage alone, one sample each, that fit: the ranges of the solvers' rounds."""

    def fit(stage: int, rounds: int) -> bool:
        pair = (rounds, 0) if stage == 0 else (0, rounds)
        return least_joules(scenario, *pair, 1, (1,) * len(scenario.devices)) <= scenario.budget.energy_j

    found = []
    for stage in (0, 1):
        low, high = 0, 1
        while fit(stage, high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fit(stage, middle) else (low, middle)
        found.append(low)
    return found[0], found[1]


@pytest.fixture(autouse=True)
def few_when_tiny(tiny: bool, seed: int) -> None:
    if tiny and seed > 1:
        pytest.skip("two are enough to see that it runs")


def note(benchmark: Any, found: Found, devices: int) -> None:
    benchmark.extra_info |= {**vars(found), "rounds": list(found.rounds), "devices": devices}


@pytest.mark.benchmark(group="global-fixed")
@pytest.mark.parametrize("seed", FEW)
class TestFixedRounds:
    """Real batches at fixed rounds."""

    def test_pretune(self, benchmark: Any, seed: int, tiny: bool) -> None:
        drawn = few(seed)
        problem, _ = build(drawn.scenario)
        m, n = map(float, drawn.rounds)
        weight, phi, psi0, psi = coefficients(problem.criterion, m, n)

        def cold() -> float:
            point = new_point(len(drawn.scenario.devices))
            assert solve_fixed(problem, problem.batches, m, n, psi0, psi, point) == SOLVED
            return (phi + float(point.scalars[8])) / weight

        value = benchmark.pedantic(cold, rounds=2 if tiny else 200, warmup_rounds=1)
        benchmark.extra_info |= {"value": value, "devices": len(drawn.scenario.devices), "label": drawn.label}

    def test_ipopt(self, benchmark: Any, seed: int, tiny: bool) -> None:
        pytest.importorskip("casadi")
        drawn, starts = few(seed), 1 if tiny else STARTS
        found = benchmark.pedantic(
            casadi, ("ipopt", drawn.scenario), {"rounds": drawn.rounds, "whole": False, "starts": starts}, rounds=1
        )
        note(benchmark, found, len(drawn.scenario.devices))

    def test_scip(self, benchmark: Any, seed: int, tiny: bool) -> None:
        pytest.importorskip("pyscipopt")
        drawn, limit = few(seed), 1.0 if tiny else TIME_LIMIT
        found = benchmark.pedantic(
            scip,
            (drawn.scenario,),
            {"rounds": drawn.rounds, "whole": False, "gap": 1e-6, "time_limit": limit},
            rounds=1,
        )
        note(benchmark, found, len(drawn.scenario.devices))


@pytest.mark.benchmark(group="global-whole")
@pytest.mark.parametrize("seed", FEW)
class TestWholeRounds:
    """Whole rounds and whole batches."""

    def test_pretune(self, benchmark: Any, seed: int, tiny: bool) -> None:
        scenario = small(seed)
        found = benchmark.pedantic(plan, (scenario,), rounds=1 if tiny else 5, warmup_rounds=0 if tiny else 1)
        benchmark.extra_info |= {
            "value": found.objective,
            "bound": found.lower_bound,
            "gap": found.relative_gap,
            "status": found.status.value,
            "rounds": [found.pretrain.rounds, found.finetune.rounds],
            "devices": len(scenario.devices),
        }

    def test_bonmin(self, benchmark: Any, seed: int, tiny: bool) -> None:
        pytest.importorskip("casadi")
        scenario, starts = small(seed), 1 if tiny else 3
        options = {"rounds": None, "most": most_rounds(scenario), "whole": True, "starts": starts}
        note(benchmark, benchmark.pedantic(casadi, ("bonmin", scenario), options, rounds=1), len(scenario.devices))

    def test_scip(self, benchmark: Any, seed: int, tiny: bool) -> None:
        pytest.importorskip("pyscipopt")
        scenario, limit = small(seed), 1.0 if tiny else TIME_LIMIT
        options = {"rounds": None, "most": most_rounds(scenario), "whole": True, "gap": 1e-6, "time_limit": limit}
        note(benchmark, benchmark.pedantic(scip, (scenario,), options, rounds=1), len(scenario.devices))
