"""The fixed-rounds kernel: duality, known answers, prices as derivatives, warm starts and shortages."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from draws import ODDITIES, Drawn, draw, odd

from pretune.planner.kernels.fixed import (
    BATTERY_SHORT,
    DELAY_SHORT,
    ENERGY_SHORT,
    SOLVED,
    Point,
    least_seconds,
    new_point,
    solve_fixed,
)
from pretune.planner.kernels.freely import span_for_most
from pretune.planner.kernels.priced import price
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.kernels.split import split
from pretune.planner.problem import Problem, build
from pretune.planner.reference.goal import Goal, Prices
from pretune.planner.reference.goal import Point as Decisions
from pretune.planner.reference.judge import dual, spent
from pretune.scenario import Scenario


def solved(problem: Problem, m: float, n: float, point: Point | None = None) -> tuple[int, Point]:
    """Status and point at given rounds."""
    _, _, psi0, psi = coefficients(problem.criterion, m, n)
    point = new_point(problem.devices.cycles.size) if point is None else point
    return int(solve_fixed(problem, problem.batches, m, n, psi0, psi, point)), point


def decisions(problem: Problem, m: float, n: float, point: Point) -> Decisions:
    """The kernel's point as batches and seconds."""
    d = problem.devices
    return Decisions(
        pretrain_rounds=m,
        finetune_rounds=n,
        server_batch=float(point.scalars[4]),
        server_s=float(point.scalars[3]),
        batches=point.batch,
        compute_s=d.cycles * point.batch / point.clock if n else np.ones_like(d.cycles),
        upload_s=d.span / (point.exponent * point.share) if n else np.ones_like(d.cycles),
        shares=point.share,
    )


def noise_at(scenario: Scenario, rounds: tuple[int, int]) -> float:
    """The minimum; infinity where nothing fits."""
    problem, _ = build(scenario)
    status, point = solved(problem, *map(float, rounds))
    return float(point.scalars[8]) if status == SOLVED else math.inf


def assert_optimal(scenario: Scenario, rounds: tuple[int, int], gap: float = 1e-8) -> None:
    """The decisions keep every limit by the cost model, and the prices prove them optimal by weak duality."""
    m, n = map(float, rounds)
    problem, _ = build(scenario)
    status, point = solved(problem, m, n)
    assert status == SOLVED
    found = decisions(problem, m, n, point)
    joules, violation = spent(scenario, found, bounded=True)
    assert violation <= 1e-9
    assert joules == pytest.approx(point.scalars[6], rel=1e-9)
    assert point.scalars[7] <= scenario.budget.delay_s * (1.0 + 1e-12)
    _, _, psi0, psi = coefficients(problem.criterion, m, n)
    lam = float(point.scalars[0])
    prices = Prices(
        energy=lam,
        delay=lam * float(point.scalars[1]),
        shares=lam * point.price,
        batteries=lam * (point.ratio - 1.0),
        band=lam * float(point.scalars[9]),
    )
    bound = dual(problem, Goal(psi0=psi0, psi=psi), found, prices)
    noise = float(point.scalars[8])
    assert bound <= noise * (1.0 + 1e-9)
    assert noise - bound <= gap * noise


@pytest.mark.parametrize("seed", range(150))
def test_prices_prove_the_optimum(seed: int) -> None:
    drawn = draw(seed)
    assert_optimal(drawn.scenario, drawn.rounds)


@pytest.mark.parametrize("name", sorted(set(ODDITIES) - {"no noise", "hopeless budgets", "tiny budgets"}))
def test_prices_prove_the_optimum_of_odd_scenarios(name: str) -> None:
    for seed in range(6):
        scenario = odd(name, seed, stages="both")
        if noise_at(scenario, (2, 3)) < math.inf:
            assert_optimal(scenario, (2, 3))


@pytest.mark.parametrize("seed", range(24))
def test_energy_to_spare(seed: int) -> None:
    """With a thousand times the energy: optimal still, and what can go slowly for the same batches does."""
    access, idle = ("fdma", "tdma")[seed % 2], seed % 4 > 1
    drawn = draw(seed, access=access, idle_power=idle, batteries=False, stages="both")
    scenario = drawn.scenario.with_budget(energy_j=1e3 * drawn.scenario.budget.energy_j)
    assert_optimal(scenario, drawn.rounds)
    problem, _ = build(scenario)
    m, n = map(float, drawn.rounds)
    _, point = solved(problem, m, n)
    most = problem.batches._replace(server_low=problem.batches.server_high, low=problem.batches.high)
    if np.array_equal(point.batch, most.high) and point.scalars[4] == most.server_high:
        frugal = new_point(problem.devices.cycles.size)
        least = split(problem, most, m, n, 0.0, 0.0, span_for_most(problem, most), frugal)
        assert least <= point.scalars[6] <= 1.001 * least


@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("idle_power", [False, True])
def test_prices_are_derivatives(access: str, idle_power: bool) -> None:
    """``lambda = -dV/dE`` and ``nu = -dV/dT``, by central differences."""
    for seed in range(4):
        drawn = draw(seed, access=access, idle_power=idle_power, stages="both", energy="tight", batteries=False)
        scenario, budget = drawn.scenario, drawn.scenario.budget
        problem, _ = build(scenario)
        _, point = solved(problem, *map(float, drawn.rounds))
        lam, omega, noise = float(point.scalars[0]), float(point.scalars[1]), float(point.scalars[8])
        h = 1e-4
        for price_of, budget_of, change in (
            (lam, budget.energy_j, {"energy_j": 1.0}),
            (lam * omega, budget.delay_s, {"delay_s": 1.0}),
        ):
            key = next(iter(change))
            values = [
                noise_at(scenario.with_budget(**{key: budget_of * (1.0 + sign * h)}), drawn.rounds)
                for sign in (1.0, -1.0)
            ]
            slope = (values[1] - values[0]) / (2.0 * h)  # per share of the budget
            assert slope == pytest.approx(price_of * budget_of, rel=1e-3, abs=1e-6 * noise)


@pytest.mark.parametrize("seed", range(12))
def test_the_minimum_is_convex_and_falling_in_the_budgets(seed: int) -> None:
    drawn = draw(seed, energy="tight")
    budget = drawn.scenario.budget
    for key in ("energy_j", "delay_s"):
        base = getattr(budget, key)
        values = [
            noise_at(drawn.scenario.with_budget(**{key: base * f}), drawn.rounds) for f in (1.0, 1.25, 1.5, 1.75, 2.0)
        ]
        assert all(b <= a * (1.0 + 1e-10) for a, b in itertools.pairwise(values))
        for a, b, c in zip(values, values[1:], values[2:], strict=False):
            assert b <= 0.5 * (a + c) * (1.0 + 1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_where_it_starts_does_not_matter(seed: int) -> None:
    """Warm starts from other rounds and other budgets end where a cold start ends."""
    drawn = draw(seed + 50)
    problem, _ = build(drawn.scenario)
    m, n = map(float, drawn.rounds)
    _, cold = solved(problem, m, n)
    warm = new_point(problem.devices.cycles.size)
    for factor in (0.3, 3.0, 0.9, 1.0):
        limits = problem.limits._replace(
            energy=problem.limits.energy * (1.0 + factor), delay=problem.limits.delay * 1.1
        )
        solved(problem._replace(limits=limits), *(float(max(round(v * factor), v > 0)) for v in (m, n)), warm)
    status, warm = solved(problem, m, n, warm)
    assert status == SOLVED
    assert warm.scalars[8] == pytest.approx(cold.scalars[8], rel=1e-9)


def lone_server(**changes: Any) -> Drawn:
    """A scenario whose optimum at given pre-training rounds has a closed form."""
    drawn = draw(3, stages="pretrain", idle_power=False, criterion="trajectory", energy="tight")
    tree = drawn.scenario.to_dict()
    tree["server"] |= {"samples": 10**9, "max_clock_hz": 1e15, **changes}
    return Drawn(scenario=Scenario(**tree), rounds=drawn.rounds, label=drawn.label)


@pytest.mark.parametrize("rounds", [1, 7, 300])
def test_pretraining_alone_within_an_energy_budget(rounds: int) -> None:
    """Math.md section 6: ``b0 = (E / (M c0))^(1/3) T0^(2/3)`` with ``T0 = T / M``."""
    scenario = lone_server().scenario.with_budget(energy_j=500.0, delay_s=60.0)
    problem, _ = build(scenario)
    status, point = solved(problem, float(rounds), 0.0)
    cubic = problem.server.capacitance * problem.server.cycles**3
    t0 = 60.0 / rounds
    batch = (500.0 / (rounds * cubic)) ** (1.0 / 3.0) * t0 ** (2.0 / 3.0)
    assert 1.0 < batch < 1e9
    assert status == SOLVED
    assert point.scalars[4] == pytest.approx(batch, rel=1e-11)
    assert point.scalars[3] == pytest.approx(t0, rel=1e-11)


def test_pretraining_alone_at_full_speed() -> None:
    """With more energy than can be spent, the clock limit decides: ``b0 = f_max T0 / cycles``."""
    scenario = lone_server(max_clock_hz=1e9).scenario.with_budget(energy_j=1e30, delay_s=6.0)
    problem, _ = build(scenario)
    _, point = solved(problem, 20.0, 0.0)
    assert point.scalars[4] == pytest.approx(1e9 * 0.3 / problem.server.cycles, rel=1e-11)


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_with_energy_to_spare_devices_run_flat_out(access: str) -> None:
    """``lambda = 0``: ``t = t_min`` and ``b = min(D, R u)`` (math.md section 5)."""
    drawn = draw(11, access=access, stages="finetune", energy="slack", batteries=False, idle_power=False, count=3)
    problem, _ = build(drawn.scenario.with_budget(energy_j=1e30))
    n = float(drawn.rounds[1])
    _, point = solved(problem, 0.0, n)
    d = problem.devices
    upload = d.span / d.exponent_max
    span = problem.limits.delay / n - problem.limits.down_s - (upload.sum() if access == "tdma" else 0.0)
    left = span - (0.0 if access == "tdma" else upload)
    assert point.batch == pytest.approx(np.minimum(problem.batches.high, left * d.clock_max / d.cycles), rel=1e-6)


def test_identical_devices_decide_identically() -> None:
    scenario = odd("identical devices", 1, count=5, batteries=False)
    tree = scenario.to_dict()
    tree["convergence"]["finetune_variance"] = 50.0
    problem, _ = build(Scenario(**tree))
    status, point = solved(problem, 3.0, 4.0)
    assert status == SOLVED
    for column in (point.batch, point.clock, point.exponent):
        assert column == pytest.approx(np.full(5, column[0]), rel=1e-9)


def test_gains_and_noise_together_change_nothing() -> None:
    for access in ("fdma", "tdma"):
        drawn = draw(21, access=access, stages="both")
        tree = drawn.scenario.to_dict()
        for row in tree["devices"]:
            row["gain"] *= 1e-3
        tree["radio"]["noise_psd_w_per_hz"] *= 1e-3
        assert noise_at(Scenario(**tree), drawn.rounds) == pytest.approx(
            noise_at(drawn.scenario, drawn.rounds), rel=1e-10
        )


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_shortages(access: str) -> None:
    drawn = draw(31, access=access, stages="both", energy="tight", batteries=False)
    m, n = map(float, drawn.rounds)
    problem, _ = build(drawn.scenario)
    seconds = least_seconds(problem, problem.batches, m, n)
    late = problem._replace(limits=problem.limits._replace(delay=seconds * (1.0 - 1e-9)))
    assert solved(late, m, n)[0] == DELAY_SHORT
    poor = problem._replace(limits=problem.limits._replace(energy=1e-3 * problem.limits.energy))
    status, point = solved(poor, m, n)
    assert status == ENERGY_SHORT
    # its prices prove it: the cheapest decision costs more than all budgets are worth
    prices = price(poor, 1.0, float(point.scalars[1]), point.price, point.ratio)
    cheapest = m * prices.server_cost + n * (prices.round_cost + prices.sample_costs.sum())
    assert cheapest > prices.budget
    flat = problem._replace(devices=problem.devices._replace(battery=np.full_like(problem.devices.battery, 1e-30)))
    assert solved(flat, m, n)[0] == BATTERY_SHORT


def test_a_little_more_than_the_least_energy_is_enough() -> None:
    for seed in range(10):
        drawn = draw(seed + 70, stages="both", energy="tight")
        m, n = map(float, drawn.rounds)
        problem, _ = build(drawn.scenario)
        point = new_point(problem.devices.cycles.size)
        rich = problem._replace(limits=problem.limits._replace(energy=1e300))
        low = problem.batches.low
        alone = problem.batches._replace(server_high=1.0, high=low.copy())
        assert solve_fixed(rich, alone, m, n, 0.0, 0.0, point) == SOLVED
        least = float(point.scalars[6])
        for factor, expected in ((1.0 + 1e-9, SOLVED), (1.0 - 1e-9, ENERGY_SHORT)):
            limits = problem.limits._replace(energy=least * factor)
            assert solved(problem._replace(limits=limits), m, n)[0] == expected


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_data_that_no_batch_reaches_for_change_nothing(access: str) -> None:
    """Halving data sets of which less than half is used: the limit was slack, and stays so."""
    halved = 0
    for seed in range(12):
        drawn = draw(seed + 600, access=access, stages="both", energy="tight", batteries=False)
        problem, _ = build(drawn.scenario)
        m, n = map(float, drawn.rounds)
        _, point = solved(problem, m, n)
        high = np.where(
            point.batch < 0.45 * problem.batches.high, np.ceil(0.5 * problem.batches.high), problem.batches.high
        )
        halved += int((high < problem.batches.high).sum())
        status, again = solved(problem._replace(batches=problem.batches._replace(high=high)), m, n)
        assert status == SOLVED
        assert again.scalars[8] == pytest.approx(point.scalars[8], rel=1e-10)
    assert halved > 5
