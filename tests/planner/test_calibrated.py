"""Plans for laws: against exhaustive search, box bounds against decisions drawn at random, and the proof done again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from brute import exhaustive
from draws import draw

from pretune.bounds import bound
from pretune.certify import check
from pretune.errors import InputError
from pretune.figures import system_of
from pretune.law import COMMON, FAMILIES, Law
from pretune.planner import plan
from pretune.planner.admission import admit
from pretune.planner.kernels.priced import Region, most_batches, price
from pretune.planner.kernels.rounds import bound_over
from pretune.planner.problem import build
from pretune.plans import Status
from pretune.price_sets import priced
from pretune.scenario import Scenario
from test_bounds import box, entry_at, random_entry, random_plan, with_sides


def random_law(rng: np.random.Generator, family: str, m: int, n: int) -> Law:
    """A law whose scales are of the order of the rounds `m` and `n`."""
    most_m, most_n = max(m, 2), max(n, 2)
    ranges = {
        "floor": (0.01, 0.3),
        "scale": (0.5, 3.0),
        "rounds": (0.1 * most_n, 2.0 * most_n),
        "power": (0.3, 3.0),
        "exchange": (0.1 * most_n / math.sqrt(most_m), 2.0 * most_n / math.sqrt(most_m)),
        "finetune_rounds": (0.1 * most_n, 2.0 * most_n),
        "finetune_power": (0.2, 1.0),
        "pretrain_rounds": (0.1 * most_m, 2.0 * most_m),
        "pretrain_power": (0.2, 1.0),
        "shift_share": (0.05, 0.9),
        "pretrain_noise": (0.01, 1.0),
        "finetune_noise": (1e-4, 1.0),
        "noise_power": (0.05, 2.0),
        "pretrain_most": (0.7 * most_m, 9.0 * most_m),
        "finetune_most": (0.7 * most_n, 9.0 * most_n),
    }
    assert set(ranges) >= {*FAMILIES[family], *COMMON}
    values = [math.exp(rng.uniform(*np.log(ranges[name]))) for name in Law.names(family)]
    return Law(
        family=family,
        values=tuple(
            max(value, 1.0) if "most" in name else value for name, value in zip(Law.names(family), values, strict=True)
        ),
    )


def lawful(scenario: Scenario, law: Law) -> Scenario:
    tree = scenario.to_dict()
    tree["convergence"] |= {"criterion": "calibrated", "law": law.to_dict()}
    return Scenario(**tree)


def drawn_law(seed: int, **asked: object) -> tuple[Scenario, tuple[int, int]]:
    drawn = draw(seed, **asked)
    family = list(FAMILIES)[seed % len(FAMILIES)]
    law = random_law(np.random.default_rng(seed), family, *drawn.rounds)
    return lawful(drawn.scenario, law), drawn.rounds


@pytest.mark.parametrize("seed", [101, 103, 104, 105, 107, 108, 110, 111, 112, 113, 114])
def test_small_problems_exhaustively(seed: int) -> None:
    scenario, _ = drawn_law(seed, small=True)
    best, tried = exhaustive(scenario)
    assert tried
    answer = plan(scenario)
    assert check(answer, scenario).lower_bound_proven
    assert answer.lower_bound <= best <= answer.objective * (1.0 + 1e-12)
    assert answer.relative_gap <= 1e-4


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_plans_are_proven_and_checked(seed: int, access: str) -> None:
    scenario, _ = drawn_law(seed, access=access, stages="both", batteries=seed % 3 == 0, count=5)
    answer = plan(scenario, tolerance=1e-3)
    assert answer.status is Status.OPTIMAL
    assert answer.criterion == "calibrated"
    assert check(answer, scenario).lower_bound_proven
    assert answer.lower_bound <= answer.objective


@pytest.mark.parametrize("shares", ["optimal", "equal"])
def test_a_shared_band(shares: str) -> None:
    scenario, _ = drawn_law(3, access="fdma", stages="both", batteries=False, count=3, shares=shares)
    answer = plan(scenario, tolerance=1e-3)
    assert answer.status is Status.OPTIMAL
    assert check(answer, scenario).lower_bound_proven


@pytest.mark.parametrize("seed", range(15))
def test_no_decision_beats_a_bound(seed: int) -> None:
    """Weak duality for laws: any prices, any box, any decision in it that keeps the limits; and both twins agree."""
    scenario, rounds = drawn_law(seed, small=seed % 2 == 0, stages="both")
    system, (problem, _) = system_of(scenario), build(scenario)
    rng = np.random.default_rng(seed)
    like, tried = entry_at(scenario, *rounds), 0
    for _ in range(80):
        m, n = (int(rng.integers(0, 2 * r + 1)) for r in rounds)
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
        compiled = price(problem, entry["energy"], entry["omega"], np.array(entry["shares"]), np.array(entry["ratios"]))
        region = Region(*map(float, box(*around)[0]))
        theirs = bound_over(problem, compiled, region, most_batches(problem, region))
        ours = bound(system, priced(system, entry), box(*around))[0]
        scale = abs(ours) + prices.budget if math.isfinite(ours) else 1.0
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9 * scale) or (math.isinf(ours) and math.isinf(theirs))
    assert tried >= 3


@pytest.mark.parametrize("seed", range(5))
def test_bounds_of_a_box_hold_for_every_pair_in_it(seed: int) -> None:
    scenario, rounds = drawn_law(seed + 300, stages="both")
    system = system_of(scenario)
    prices = priced(system, entry_at(scenario, *rounds))
    m, n = (r // 2 for r in rounds)
    whole = bound(system, prices, box(m, m + 12, n, n + 12))[0]
    pairs = [(a, b) for a in range(m, m + 13) for b in range(n, n + 13) if a + b]
    rows = np.array([[a, a, b, b, 0.0, math.inf] for a, b in pairs])
    assert whole <= bound(system, prices, rows).min() + 1e-9 * prices.budget


def test_a_large_fleet() -> None:
    scenario, _ = drawn_law(12, access="fdma", stages="both", batteries=False, idle_power=False, count=1001)
    answer = plan(scenario, tolerance=5e-2)
    assert check(answer, scenario).lower_bound_proven
    assert answer.relative_gap <= 5e-2


def test_more_budget_never_hurts() -> None:
    scenario, _ = drawn_law(11, stages="both", energy="tight")
    budget = scenario.budget
    more = scenario.with_budget(energy_j=budget.energy_j * 1.3, delay_s=budget.delay_s * 1.3)
    assert plan(more).lower_bound <= plan(scenario).objective


def test_nothing_fits() -> None:
    scenario, _ = drawn_law(4, stages="both")
    answer = plan(scenario.with_budget(energy_j=1e-12), throw=False)
    assert answer.status is Status.INFEASIBLE
    check(answer, scenario.with_budget(energy_j=1e-12))


def test_admission_refuses_a_law() -> None:
    scenario, _ = drawn_law(4, stages="both")
    with pytest.raises(InputError, match=r"convergence\.criterion: holds 'calibrated', should hold trajectory"):
        admit(scenario)
