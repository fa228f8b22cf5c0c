"""The deterministic part of the bounds beside PEPit's worst functions."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("PEPit")
pytest.importorskip("cvxpy")


@pytest.fixture(scope="module")
def cases() -> ModuleType:
    spec = importlib.util.spec_from_file_location("worst_cases", ROOT / "experiments" / "worst_cases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("m", "n", "step", "zeta"), [(0, 1, 0.5, 0.0), (0, 3, 1.0, 0.0), (2, 0, 1.0, 0.5), (1, 1, 1.0, 0.5)]
)
def test_the_trajectory_bound_is_attained(cases, m, n, step, zeta):
    worst, bound = cases.worst_average(m, n, step, step, zeta)
    assert worst == pytest.approx(bound, rel=1e-4)


def test_with_a_short_step_and_a_shift_the_family_is_attained_instead(cases):
    worst, bound = cases.worst_average(1, 0, 0.5, 0.5, 0.5)
    assert worst < 0.8 * bound
    assert worst == pytest.approx(cases.best_of_family(1, 0.5, 0.5), rel=1e-3)


@pytest.mark.parametrize(("m", "n", "zeta"), [(0, 1, 0.0), (1, 1, 0.1)])
def test_the_final_bound_is_above_the_worst_case_and_near_it(cases, m, n, zeta):
    worst, bound = cases.worst_final(m, n, 1.0, zeta)
    assert worst <= bound * (1 + 1e-6)
    assert worst > 0.85 * bound


def test_the_table_in_the_repository_is_of_these_cases(cases):
    with open(cases.RESULTS, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    alone = sum(n == 0 for _, n, *_ in cases.AVERAGES)
    assert len(rows) == len(cases.AVERAGES) + alone + len(cases.FINALS)
    assert all(float(row["ratio"]) >= 0.999 for row in rows)
    worst, _ = cases.worst_average(0, 1, 0.5, 0.5, 0.0)
    held = next(r for r in rows if (r["bound"], r["finetune_rounds"], r["step"]) == ("trajectory", "1", "0.5"))
    assert float(held["worst"]) == pytest.approx(worst, rel=1e-3)
