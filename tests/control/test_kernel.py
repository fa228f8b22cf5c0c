"""The best round at a price of time, against a general solver, brute force and the planner's kernels."""

from __future__ import annotations

import math

import control_samples as samples
import numpy as np
import pytest
from scipy.optimize import minimize

from pretune.control.kernel import Sheet, best_span, exponent_at, least_span_of, new_found
from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.problem import Batches, build


def total(s: Sheet, worth: float, tdma: bool, clock: Floats, x: Floats) -> float:
    """The objective, from the cost model alone."""
    u, t = s.cycles * s.low / clock, s.span / x
    joules = s.cycles * s.low * (s.capacitance * clock**2 + s.static / clock) + (s.noise * np.expm1(x) + s.circuit) * t
    return float((s.ratio * joules).sum() + worth * ((u.max() + t.sum()) if tdma else (u + t).max()))


def by_solver(s: Sheet, worth: float, tdma: bool) -> float:
    """The least objective SLSQP finds from several starts."""
    count, best = len(s.cycles), math.inf
    least_u, least_t = s.cycles * s.low / s.clock_max, s.span / s.exponent_max

    def objective(z: Floats) -> float:
        u, t = np.exp(z[:count]), np.exp(z[count : 2 * count])
        clock, x = s.cycles * s.low / u, np.minimum(s.span / t, 600.0)
        joules = s.cycles * s.low * (s.capacitance * clock**2 + s.static / clock)
        joules = joules + (s.noise * np.expm1(x) + s.circuit) * t
        return float((s.ratio * joules).sum() + worth * (np.exp(z[-1]) + (t.sum() if tdma else 0.0)))

    def slack(z: Floats) -> Floats:
        return np.exp(z[-1]) - np.exp(z[:count]) - (0.0 if tdma else np.exp(z[count : 2 * count]))

    bounds = [(math.log(a), math.log(a) + 9.0) for a in (*least_u, *least_t)] + [(None, None)]
    for slow in (0.5, 3.0):
        u, t = least_u * (1 + slow), least_t * (1 + slow)
        begin = np.concatenate([np.log(u), np.log(t), [math.log(1.1 * float((u + t).max()))]])
        found = minimize(
            objective,
            begin,
            constraints=[{"type": "ineq", "fun": slack}],
            bounds=bounds,
            method="SLSQP",
            options={"maxiter": 800, "ftol": 1e-14},
        )
        clock = np.minimum(s.cycles * s.low / np.exp(found.x[:count]), s.clock_max)
        x = np.minimum(s.span / np.exp(found.x[count : 2 * count]), s.exponent_max)
        best = min(best, total(s, worth, tdma, clock, x))
    return best


@pytest.mark.parametrize("tdma", [False, True])
@pytest.mark.parametrize("powers", [False, True])
@pytest.mark.filterwarnings("ignore:Values in x were outside bounds")
def test_no_general_solver_finds_anything_better(tdma: bool, powers: bool) -> None:
    rng = np.random.default_rng(3 + tdma)
    for _ in range(3):
        s = samples.sheet(rng, 4, powers=powers)
        worth, found = 10.0 ** rng.uniform(-2.0, 2.0), new_found(4)
        best_span(s, worth, 1e9, tdma, found)
        mine, other = total(s, worth, tdma, found.clock, found.exponent), by_solver(s, worth, tdma)
        assert mine <= other * (1 + 1e-9)
        assert mine == pytest.approx(other, rel=1e-5)


def test_a_grid_of_all_decisions_of_one_device_finds_nothing_better() -> None:
    s = samples.sheet(np.random.default_rng(7), 1, powers=True)
    for worth in (0.01, 0.3, 20.0):
        found = new_found(1)
        best_span(s, worth, 1e9, False, found)
        mine = total(s, worth, False, found.clock, found.exponent)
        clocks, exponents = (
            s.clock_max[0] * np.linspace(0.02, 1.0, 400),
            s.exponent_max[0] * np.linspace(0.02, 1.0, 400),
        )
        grid = [total(s, worth, False, np.array([f]), np.array([x])) for f in clocks for x in exponents[::4]]
        assert mine <= min(grid) * (1 + 1e-12)
        assert min(grid) <= mine * 1.01


def test_larger_batches_are_bought_where_they_may_be() -> None:
    s = samples.sheet(np.random.default_rng(1), 3, powers=False)
    free = s._replace(low=np.ones(3), high=np.full(3, 500.0), gamma=np.full(3, 10.0))
    found, worth = new_found(3), 0.5
    best_span(free, worth, 1e9, False, found)

    def with_batch(batch: Floats) -> float:
        fixed, again = free._replace(low=batch, high=batch.copy()), new_found(3)
        best_span(fixed, worth, 1e9, False, again)
        return total(fixed, worth, False, again.clock, again.exponent) + float((free.ratio * free.gamma / batch).sum())

    best = with_batch(found.batch)
    assert (found.batch > 1.0).all()
    for k in range(3):
        for factor in (0.9, 1.1):
            other = found.batch.copy()
            other[k] = min(max(other[k] * factor, 1.0), 500.0)
            assert best <= with_batch(other) * (1 + 1e-12)


def test_the_longest_and_the_least_span_are_kept() -> None:
    s, found = samples.sheet(np.random.default_rng(5), 5, powers=False), new_found(5)
    least = least_span_of(s, False)
    assert best_span(s, 1e-9, 2.0 * least, False, found) == 2.0 * least
    assert best_span(s, 1e30, 2.0 * least, False, found) == pytest.approx(least, rel=1e-9)
    assert best_span(s, math.inf, 2.0 * least, False, found) == least


@pytest.mark.parametrize("y", [1e-14, 1e-9, 1e-4, 0.3, 1.0, 5.0, 1e3, 1e12])
def test_the_upload_exponent_solves_its_equation(y: float) -> None:
    x = exponent_at(y, 1e3)
    # the series for small x, where the formula itself loses its digits
    value = x * x * (0.5 + x / 3.0) if x < 1e-3 else (x - 1.0) * math.exp(x) + 1.0
    assert value == pytest.approx(y, rel=1e-6)


def test_at_the_plan_s_own_gains_the_round_is_the_planner_s() -> None:
    one = samples.scenario()
    problem, _ = build(one)
    batch = np.arange(10.0, 20.0)
    fixed = Batches(server_low=8.0, server_high=8.0, low=batch, high=batch.copy())
    point = new_point(10)
    assert solve_fixed(problem, fixed, 20.0, 30.0, 0.0, 0.0, point) == SOLVED
    d = problem.devices
    s = Sheet(
        d.cycles, d.capacitance, d.clock_max, d.static, d.noise, d.span, d.exponent_max, d.circuit,
        np.zeros(10), batch, batch.copy(), np.ones(10),
    )  # fmt: skip
    found = new_found(10)
    best_span(s, float(point.price.sum()), 1e9, False, found)
    np.testing.assert_allclose(found.clock, point.clock, rtol=1e-6)
    np.testing.assert_allclose(found.exponent, point.exponent, rtol=1e-6)
