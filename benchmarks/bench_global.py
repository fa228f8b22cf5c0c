"""Few devices: pretune beside global solvers on the original non-convex problem (see nonconvex.py)."""

from __future__ import annotations

from typing import Any

import pytest
from nonconvex import Found, casadi, scip
from scenarios import FEW, few, small

from pretune.planner import plan
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import build
from pretune.planner.search import Search

TIME_LIMIT = 30.0
STARTS = 10


def most_rounds(scenario: Any) -> tuple[int, int]:
    """The most rounds of either stage alone that the budgets allow: what the solvers take as the rounds' ranges."""
    search = Search(build(scenario)[0], 1e-4)
    return search._most(0), search._most(1)


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
