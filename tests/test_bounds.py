"""What prices prove: the checker's bounds against decisions drawn at random, box by box, and against exact optima."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from planner.draws import draw
from pretune.bounds import bound
from pretune.convergence.criteria import device_noise, objective
from pretune.errors import InputError
from pretune.figures import System, system_of
from pretune.physics import cost, link
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.halves import halves_of, split_batteries
from pretune.planner.kernels.priced import Region, most_batches, price
from pretune.planner.kernels.rounds import bound_over, coefficients
from pretune.planner.problem import build
from pretune.price_sets import Priced, priced
from pretune.proof import cover, most_rounds
from pretune.scenario import Scenario
from pretune.uploads import upload_cost


def entry_at(scenario: Scenario, m: int, n: int) -> dict[str, Any]:
    """The optimal prices at a pair of rounds, as a certificate holds them."""
    problem, _ = build(scenario)
    _, _, psi0, psi = coefficients(problem.criterion, float(m), float(n))
    point = new_point(len(scenario.devices))
    assert solve_fixed(problem, problem.batches, float(m), float(n), psi0, psi, point) == SOLVED
    entry = {"energy": float(point.scalars[0]), "omega": float(point.scalars[1])}
    return entry | {"shares": point.price.tolist(), "ratios": np.maximum(point.ratio, 1.0).tolist()}


def with_sides(rng: np.random.Generator, scenario: Scenario, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with two more ratios for some of the batteries, at random."""
    which = [k for k in np.flatnonzero(np.isfinite(scenario.devices.battery_j)) if rng.random() < 0.7]
    ratio = entry["ratios"]
    sides = [
        [int(k), int(rng.integers(1, 6)), *(1.0 + (ratio[k] - 1.0) * 10 ** rng.uniform(-1, 1, 2)).tolist()]
        for k in which
    ]
    return entry | {"halves": sides}


def random_entry(rng: np.random.Generator, scenario: Scenario, like: dict[str, Any]) -> dict[str, Any]:
    """Prices that have nothing optimal about them."""
    count = len(scenario.devices)
    limited = np.isfinite(scenario.devices.battery_j)
    ratios = np.where(limited, 1.0 + rng.uniform(0.0, 2.0, count), 1.0)
    return {
        "energy": like["energy"] * 10 ** rng.uniform(-2.0, 2.0),
        "omega": like["omega"] * 10 ** rng.uniform(-2.0, 2.0),
        "shares": (np.asarray(like["shares"]) * 10 ** rng.uniform(-2.0, 1.0, count)).tolist(),
        "ratios": ratios.tolist(),
    }


def random_plan(rng: np.random.Generator, scenario: Scenario, m: int, n: int) -> tuple[float, float] | None:
    """Criterion and span of a random whole-batch decision that keeps every limit by the cost model; else None."""
    fleet, server = scenario.devices, scenario.server
    b0 = float(rng.integers(1, max(2, min(server.samples, 40))))
    f0 = server.max_clock_hz * rng.uniform(0.05, 1.0)
    batches = np.minimum(rng.integers(1, 6, len(fleet)), fleet.samples).astype(float)
    clocks, powers = (limit * rng.uniform(0.05, 1.0) for limit in (fleet.max_clock_hz, fleet.max_power_w))
    joules = seconds = span = 0.0
    if m:
        one = cost.pretrain_round(scenario, b0, f0)
        joules, seconds = m * one.energy_j, m * one.time_s
    if n:
        each = cost.finetune_round(scenario, batches, clocks, powers)
        joules, seconds = joules + n * each.energy_j, seconds + n * each.time_s
        span = each.time_s - each.broadcast.time_s
        if np.any(n * each.device_j > fleet.battery_j):
            return None
    if joules > scenario.budget.energy_j or seconds > scenario.budget.delay_s:
        return None
    return objective(system_of(scenario).criterion, device_noise(scenario), m, n, b0, batches), span


def box(m1: int, m2: int, n1: int, n2: int, s1: float = 0.0, s2: float = math.inf) -> np.ndarray:
    """One box as the checker takes it."""
    return np.array([[m1, m2, n1, n2, s1, s2]], dtype=float)


@pytest.mark.parametrize("seed", range(24))
def test_no_decision_beats_a_bound(seed: int) -> None:
    """Weak duality, by brute force: any prices, any box, any decision in it that keeps the limits."""
    drawn = draw(seed, small=seed % 2 == 0, stages="both")
    scenario, system = drawn.scenario, system_of(drawn.scenario)
    rng = np.random.default_rng(seed)
    like = entry_at(scenario, *drawn.rounds)
    tried = 0
    for _ in range(120):
        m, n = (int(rng.integers(0, 2 * r + 1)) for r in drawn.rounds)
        found = random_plan(rng, scenario, m, n) if m + n else None
        if found is None:
            continue
        value, span = found
        entry = like if rng.random() < 0.3 else random_entry(rng, scenario, like)
        prices = priced(system, with_sides(rng, scenario, entry) if rng.random() < 0.5 else entry)
        spread = [int(v) for v in rng.integers(0, 20, 4)]
        around = [max(m - spread[0], 0), m + spread[1], max(n - spread[2], 0), n + spread[3]]
        low = span * rng.uniform(0.5, 1.0) if n else 0.0
        high = span * rng.uniform(1.0, 2.0) if n else math.inf
        for area in (box(m, m, n, n), box(*around), box(*around, low, max(high, 1e-300))):
            assert bound(system, prices, area)[0] <= value * (1.0 + 1e-9)
            tried += 1
    assert tried >= 3


@pytest.mark.parametrize("seed", range(24))
def test_optimal_prices_are_tight_where_they_come_from(seed: int) -> None:
    """At its own rounds the bound is the continuous optimum, raised a little by batches being whole."""
    drawn = draw(seed + 100)
    scenario, (m, n) = drawn.scenario, drawn.rounds
    system = system_of(scenario)
    problem, _ = build(scenario)
    weight, phi, psi0, psi = coefficients(problem.criterion, float(m), float(n))
    point = new_point(len(scenario.devices))
    solve_fixed(problem, problem.batches, float(m), float(n), psi0, psi, point)
    optimum = (phi + float(point.scalars[8])) / weight
    found = bound(system, priced(system, entry_at(scenario, m, n)), box(m, m, n, n))[0]
    assert found >= optimum * (1.0 - 1e-8)


@pytest.mark.parametrize("seed", range(12))
def test_the_checker_and_the_search_agree(seed: int) -> None:
    """Two implementations of the same bound: the compiled one and the checker's."""
    drawn = draw(seed + 200, stages="both")
    scenario, (m, n) = drawn.scenario, drawn.rounds
    system = system_of(scenario)
    problem, _ = build(scenario)
    rng = np.random.default_rng(seed)
    entry = with_sides(rng, scenario, entry_at(scenario, m, n))
    prices = priced(system, entry)
    shares, ratios = np.array(entry["shares"]), np.array(entry["ratios"])
    compiled = price(problem, entry["energy"], entry["omega"], shares, ratios)
    splits = np.array(entry["halves"], dtype=float).reshape(-1, 4)
    halves = halves_of(problem, entry["energy"], entry["omega"], shares, ratios, splits)
    compiled = compiled._replace(halves=halves, splits=splits)
    for _ in range(40):
        m1, n1 = (int(rng.integers(0, 2 * r)) for r in (m, n))
        m2, n2 = m1 + int(rng.integers(0, 50)), n1 + int(rng.integers(0, 50))
        if m2 + n2 == 0:
            continue
        area = box(m1, m2, n1, n2)
        region = Region(*map(float, area[0]))
        theirs = bound_over(problem, compiled, region, most_batches(problem, region))
        ours = bound(system, prices, area)[0]
        scale = abs(ours) + prices.budget if math.isfinite(ours) else 1.0
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9 * scale) or (math.isinf(ours) and math.isinf(theirs))


def test_bounds_of_a_box_hold_for_every_pair_in_it() -> None:
    for seed in range(10):
        drawn = draw(seed + 300, stages="both")
        system = system_of(drawn.scenario)
        prices = priced(system, entry_at(drawn.scenario, *drawn.rounds))
        m, n = (max(r // 2, 0) for r in drawn.rounds)
        whole = bound(system, prices, box(m, m + 12, n, n + 12))[0]
        for a in range(m, m + 13):
            rows = np.array([[a, a, b, b, 0.0, math.inf] for b in range(n, n + 13) if a + b])
            assert whole <= bound(system, prices, rows).min() + 1e-9 * prices.budget


def test_an_upload_costs_no_less_than_its_price() -> None:
    """``upload_cost`` is a minimum over the airtime: no airtime beats it, and one attains it."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        noise, span = 10 ** rng.uniform(-12.0, 2.0, 3), 10 ** rng.uniform(-6.0, 3.0, 3)
        most = 10 ** rng.uniform(-6.0, 2.0, 3)
        paid = noise * 10 ** rng.uniform(-14.0, 8.0, 3)
        least = upload_cost(paid, noise, span, most)
        x = most * np.logspace(-9, 0, 4001)[:, None]
        costs = span / x * (noise * np.expm1(x) + paid)
        assert np.all(costs.min(axis=0) >= least * (1.0 - 1e-9))
        assert np.all(costs.min(axis=0) <= least * (1.0 + 1e-4))
    assert upload_cost(np.zeros(1), np.array([2.0]), np.array([3.0]), np.ones(1))[0] == pytest.approx(6.0)


def test_the_cheapest_upload_is_shannons() -> None:
    """Time for nothing: the upload costs ``N0 S ln2 / g`` joules."""
    scenario = draw(1, idle_power=False).scenario
    system = system_of(scenario)
    fleet, noise = scenario.devices, scenario.radio.noise_psd_w_per_hz
    found = upload_cost(np.zeros(len(fleet)), system.noise, system.span, system.exponent_max)
    assert found == pytest.approx(noise * scenario.workload.upload_bits * link.LN2 / fleet.gain, rel=1e-12)


def test_most_rounds_leaves_nothing_out() -> None:
    for seed in range(20):
        scenario = draw(seed + 400).scenario
        m, n = most_rounds(system_of(scenario))
        one = cost.pretrain_round(scenario, 1.0, scenario.server.max_clock_hz)
        fleet = scenario.devices
        each = cost.finetune_round(scenario, np.ones(len(fleet)), fleet.max_clock_hz, fleet.max_power_w)
        assert (m + 1) * one.time_s > scenario.budget.delay_s
        assert (n + 1) * each.time_s > scenario.budget.delay_s


def covered(system: System, sets: list[Priced], claim: float) -> bool:
    """Whether the prices prove the claim for all rounds."""
    return cover(system, sets, claim, None)[0]


def test_a_cover_proves_what_is_true_and_no_more() -> None:
    """The prices of every pair of rounds together prove the best value with real batches, and nothing above."""
    for seed in (4, 6, 8):
        drawn = draw(seed, small=True, stages="both", batteries=False)
        scenario, system = drawn.scenario, system_of(drawn.scenario)
        problem, _ = build(scenario)
        most_m, most_n = (int(v) for v in most_rounds(system))
        sets, best = [], math.inf
        for m in range(min(most_m, 12) + 1):
            for n in range(min(most_n, 12) + 1):
                if m + n == 0:
                    continue
                weight, phi, psi0, psi = coefficients(problem.criterion, float(m), float(n))
                point = new_point(len(scenario.devices))
                if solve_fixed(problem, problem.batches, float(m), float(n), psi0, psi, point) == SOLVED:
                    best = min(best, (phi + float(point.scalars[8])) / weight)
                    sets.append(priced(system, entry_at(scenario, m, n)))
        assert not covered(system, sets, best * 10.0)
        assert not covered(system, sets[:1], best * 10.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"energy": -1.0},
        {"energy": math.nan},
        {"energy": "1"},
        {"energy": True},
        {"omega": -1e-9},
        {"omega": None},
        {"shares": [-1.0]},
        {"shares": "x"},
        {"shares": [1.0, 2.0, 3.0, 4.0]},
        {"ratios": [0.5]},
        {"ratios": [2.0]},
        {"ratios": [math.inf]},
        {"home": [1.0]},
        {"home": 3},
    ],
)
def test_prices_that_are_none_are_refused(changes: dict[str, Any]) -> None:
    """A negative price, a ratio below one or of a device without a battery: weak duality would not hold."""
    scenario = draw(1, count=1, batteries=False, stages="both").scenario
    entry = entry_at(scenario, 1, 1)
    priced(system_of(scenario), entry)
    with pytest.raises(InputError):
        priced(system_of(scenario), {**entry, **changes})


def test_sides_of_a_whole_batch_prove_more() -> None:
    """Where a battery leaves a real batch, the two more ratios raise the bound at the rounds they come from."""
    scenario = draw(82).scenario
    system, (problem, _) = system_of(scenario), build(scenario)
    m, n = 1510, 205
    entry = entry_at(scenario, m, n)
    _, _, psi0, psi = coefficients(problem.criterion, float(m), float(n))
    point = new_point(len(scenario.devices))
    solve_fixed(problem, problem.batches, float(m), float(n), psi0, psi, point)
    sides = split_batteries(problem, float(point.scalars[1]), point, float(n))
    assert len(sides) >= 2
    halves = [[int(k), int(b), *ratios] for k, b, *ratios in sides.tolist()]
    plain, split = (bound(system, priced(system, e), box(m, m, n, n))[0] for e in (entry, entry | {"halves": halves}))
    assert split > plain * (1.0 + 1e-4)


@pytest.mark.parametrize(
    "halves", [[[0, 5, 2.0, 3.0]], [[1, 5, 0.5, 3.0]], [[1, 2.5, 2.0, 3.0]], [[1, 5, 2.0]], "all", [[1, 5, 2.0, None]]]
)
def test_broken_sides_are_refused(halves: Any) -> None:
    """Device 1 of draw 82 has no battery limit; ratios below one, parts of samples and wrong shapes prove nothing."""
    scenario = draw(82).scenario
    limited = np.flatnonzero(np.isfinite(scenario.devices.battery_j))
    free = int(np.flatnonzero(~np.isfinite(scenario.devices.battery_j))[0])
    if isinstance(halves, list) and halves[0][0] == 0:
        halves = [[free, *halves[0][1:]]]
    elif isinstance(halves, list):
        halves = [[int(limited[0]), *halves[0][1:]]]
    with pytest.raises(InputError, match=r"plan\.certificate"):
        priced(system_of(scenario), entry_at(scenario, 1510, 205) | {"halves": halves})
