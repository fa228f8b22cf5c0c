"""The benchmarks run, and their page can be written: with tiny sizes. What they measure is no matter here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import build

ROOT = Path(__file__).parent.parent
PARTS = ("joint", "fixed", "global", "shell", "scale", "exhaustive", "oracle", "plans", "simulation")


def test_all_benchmarks_run_and_write_their_page(tmp_path: Path) -> None:
    pytest.importorskip("cvxpy")
    command = [sys.executable, "benchmarks/run.py", "--tiny", "--out", str(tmp_path)]
    # whichever worker of pytest-xdist runs this, the benchmarks must measure as if nobody had called them from a suite
    outside = {**os.environ, "PYTEST_XDIST_WORKER": "gw0"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=outside)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["parts"]
    assert tuple(parts) == PARTS
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == len(PARTS) + 1  # and the one with all in short
    # a peer's row beside ours, by a figure that has nothing to do with time
    for peer in [row for row in parts["fixed"]["rows"] if row["name"] == "test_clarabel"]:
        assert abs(peer["difference"]) <= 1e-6
    assert parts["exhaustive"]["rows"][0]["holds"]


def test_the_page_in_the_documentation_is_the_one_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wrote a figure into the page by hand."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from table import page

    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page(results)


def test_the_non_convex_problem_has_the_same_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ipopt on the problem as it is first written down meets the price kernel, at fixed rounds."""
    pytest.importorskip("casadi")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from nonconvex import casadi
    from scenarios import few

    for seed in range(4):
        drawn = few(seed)
        problem, _ = build(drawn.scenario)
        m, n = map(float, drawn.rounds)
        weight, phi, psi0, psi = coefficients(problem.criterion, m, n)
        point = new_point(len(drawn.scenario.devices))
        assert solve_fixed(problem, problem.batches, m, n, psi0, psi, point) == SOLVED
        found = casadi("ipopt", drawn.scenario, rounds=drawn.rounds, whole=False, starts=3)
        assert found.violation <= 1e-6
        assert found.value == pytest.approx((phi + float(point.scalars[8])) / weight, rel=1e-6)
