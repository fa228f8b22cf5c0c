"""Bandwidth shares as decisions: against the oracle, by duality, against equal shares, and where they do not fit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from draws import ODDITIES, draw, odd, sharing
from test_fixed import assert_optimal, noise_at, solved

import pretune
from pretune import certify
from pretune.bounds import bound
from pretune.errors import InputError
from pretune.figures import system_of
from pretune.physics.types import Floats
from pretune.planner import plan, reference
from pretune.planner.baselines import compare
from pretune.planner.kernels.band import least_share, power_ratio, upload_bill, upload_in_band, upload_slopes
from pretune.planner.kernels.fixed import DELAY_SHORT, SOLVED, least_seconds, least_span, new_point, solve_fixed
from pretune.planner.problem import Problem, build
from pretune.planner.shortage import shortage_prices
from pretune.planner.write import entry_of, share_of
from pretune.plans import Status
from pretune.price_sets import priced
from pretune.scenario import Scenario
from pretune.uplinks import shared_upload_cost, shortest_shared

KINDS = list(itertools.product((False, True), (False, True), ("trajectory", "final"), ("tight", "slack"), range(3)))


def columns(rng: np.random.Generator, count: int) -> tuple[Floats, ...]:
    """Prices of time and band, noise, span and largest exponent of uploads, over many magnitudes."""
    spread = [(-12.0, 6.0), (-12.0, 8.0), (-9.0, 0.0), (-1.0, 1.0), (-2.0, 1.4)]
    return tuple(10 ** rng.uniform(low, high, count) for low, high in spread)


def test_an_upload_in_a_band_is_the_cheapest_there_is() -> None:
    """No other time and share cost less; derivatives are those of the choice; checker and planner agree."""
    paid, gamma, noise, span, most = columns(np.random.default_rng(0), 400)
    twin = shared_upload_cost(paid, gamma, noise, span, most)
    limits = set()
    for q, g, n, s, top, expected in zip(paid, gamma, noise, span, most, twin, strict=True):
        power = power_ratio(top)
        x, share, bound = upload_in_band(q, g, n, s, power)
        limits.add(bool(bound))
        assert share * math.expm1(x) <= power * (1.0 + 1e-9)
        least = upload_bill(q, g, n, s, power)
        assert least == pytest.approx(expected, rel=1e-10)
        # t and B are the derivatives of the least cost by their prices
        h = 1e-5
        by_time = (upload_bill(q * (1 + h), g, n, s, power) - upload_bill(q * (1 - h), g, n, s, power)) / (2 * h)
        by_band = (upload_bill(q, g * (1 + h), n, s, power) - upload_bill(q, g * (1 - h), n, s, power)) / (2 * h)
        assert by_time == pytest.approx(q * s / (share * x), rel=1e-6, abs=1e-9 * least)
        assert by_band == pytest.approx(g * share, rel=1e-6, abs=1e-9 * least)
        for more, wider in itertools.product((0.97, 1.0, 1.03), (0.97, 1.0, 1.03)):
            if wider * share * math.expm1(more * x) <= power:
                cost = (
                    n * s * math.expm1(more * x) / (more * x) + q * s / (wider * share * more * x) + g * wider * share
                )
                assert cost >= least * (1.0 - 1e-12)
        slopes = upload_slopes(x, share, bound, q, g, n, s, power)
        up, down = (upload_in_band(q * f, g, n, s, power) for f in (1 + h, 1 - h))
        assert slopes[1] == pytest.approx((up[1] - down[1]) / (2 * h * q), rel=1e-3, abs=1e-6 * share / q)
    assert limits == {False, True}


def test_free_time_or_free_band_cost_the_least_energy() -> None:
    for q, g, n, s, top in zip(*columns(np.random.default_rng(1), 50), strict=True):
        power = power_ratio(top)
        assert upload_bill(0.0, g, n, s, power) == n * s
        assert upload_bill(q, 0.0, n, s, power) == pytest.approx(n * s + q * s / power, rel=1e-12)
        assert upload_bill(q, 1e-30 * g, n, s, power) >= upload_bill(q, 0.0, n, s, power) * (1.0 - 1e-12)


def test_least_shares_use_all_power() -> None:
    rng = np.random.default_rng(2)
    for seconds, span, top in zip(*(10 ** rng.uniform(-1.0, 1.0, 200) for _ in range(3)), strict=True):
        power = power_ratio(top)
        share = least_share(seconds, span, power)
        if share < math.inf:
            assert share * math.log1p(power / share) * seconds == pytest.approx(span, rel=1e-9)
        else:
            assert seconds * power <= span


@pytest.mark.parametrize(("idle_power", "batteries", "criterion", "energy", "turn"), KINDS)
def test_the_kernel_finds_the_conic_optimum(
    idle_power: bool, batteries: bool, criterion: str, energy: str, turn: int
) -> None:
    pytest.importorskip("clarabel")
    drawn = draw(
        KINDS.index((idle_power, batteries, criterion, energy, turn)) + 9000,
        access="fdma",
        idle_power=idle_power,
        batteries=batteries,
        criterion=criterion,
        energy=energy,
        stages=("both", "finetune", "both")[turn],
        shares="optimal",
    )
    answer = reference.fixed_rounds(drawn.scenario, *drawn.rounds)
    assert answer.status == "solved"
    assert answer.violation <= reference.VIOLATION
    assert answer.bound <= answer.value * (1.0 + 1e-9)
    problem, _ = build(drawn.scenario)
    status, point = solved(problem, *map(float, drawn.rounds))
    assert status == SOLVED
    assert point.scalars[8] == pytest.approx(answer.noise, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_joint_program_bounds_the_plan(seed: int) -> None:
    pytest.importorskip("clarabel")
    scenario = draw(seed + 2000, criterion="trajectory", access="fdma", count=3, shares="optimal").scenario
    relaxed = reference.joint(scenario)
    assert relaxed.status == "solved"
    found = plan(scenario, tolerance=1e-3)
    assert found.objective >= relaxed.value * (1.0 - 1e-6)
    assert found.lower_bound >= relaxed.value * (1.0 - 1.1e-3)


@pytest.mark.parametrize("seed", range(120))
def test_prices_prove_the_optimum(seed: int) -> None:
    drawn = draw(seed, access="fdma", shares="optimal")
    assert_optimal(drawn.scenario, drawn.rounds)


@pytest.mark.parametrize("seed", range(40))
def test_optimal_shares_are_no_worse_than_others(seed: int) -> None:
    """Than equal ones, than a narrower band's, than those that the devices would have had for themselves."""
    drawn = draw(seed, access="fdma")
    best = noise_at(sharing(drawn.scenario, "optimal"), drawn.rounds)
    for other in (sharing(drawn.scenario, "equal"), sharing(drawn.scenario, "optimal", 0.9), drawn.scenario):
        assert best <= noise_at(other, drawn.rounds) * (1.0 + 1e-9)


def identical(shares: str) -> Scenario:
    """Four devices that differ in nothing but their names."""
    tree = draw(1, access="fdma", count=4, batteries=False, energy="tight", shares=shares).scenario.to_dict()
    tree["convergence"]["finetune_variance"] = 50.0
    for row in tree["devices"]:
        row.update({key: value for key, value in tree["devices"][0].items() if key != "name"} | {"weight": 0.25})
    return Scenario(**tree)


def test_identical_devices_share_equally() -> None:
    problem, _ = build(identical("optimal"))
    status, point = solved(problem, 3.0, 4.0)
    assert status == SOLVED
    assert point.share == pytest.approx(np.ones(4), rel=1e-9)
    assert noise_at(identical("optimal"), (3, 4)) == pytest.approx(noise_at(identical("equal"), (3, 4)), rel=1e-9)


@pytest.mark.parametrize("idle_power", [False, True])
@pytest.mark.parametrize("batteries", [False, True])
def test_the_price_of_band_is_a_derivative(idle_power: bool, batteries: bool) -> None:
    """``-dV/dW`` by central differences, in the plan's own unit, as `multipliers` have it."""
    checked = 0
    for seed in range(6):
        drawn = draw(seed, access="fdma", idle_power=idle_power, batteries=batteries, stages="both", energy="tight")
        scenario, (m, n) = sharing(drawn.scenario, "optimal"), drawn.rounds
        problem, _ = build(scenario)
        _, point = solved(problem, float(m), float(n))
        worth = n * float(point.scalars[0] * point.scalars[9]) * problem.limits.band  # per share of the band
        h = 1e-4
        values = [noise_at(sharing(drawn.scenario, "optimal", 1.0 + sign * h), drawn.rounds) for sign in (1.0, -1.0)]
        noise = float(point.scalars[8])
        assert (values[1] - values[0]) / (2.0 * h) == pytest.approx(worth, rel=1e-3, abs=1e-6 * noise)
        checked += worth > 1e-4 * noise
    assert checked >= 2


@pytest.mark.parametrize("seed", range(10))
def test_where_it_starts_does_not_matter(seed: int) -> None:
    drawn = draw(seed + 50, access="fdma", shares="optimal")
    problem, _ = build(drawn.scenario)
    m, n = map(float, drawn.rounds)
    _, cold = solved(problem, m, n)
    warm = new_point(problem.devices.cycles.size)
    for factor in (0.3, 3.0, 1.0):
        more = problem.limits._replace(energy=problem.limits.energy * (1.0 + factor), delay=problem.limits.delay * 1.1)
        solved(problem._replace(limits=more), *(float(max(round(v * factor), v > 0)) for v in (m, n)), warm)
    status, warm = solved(problem, m, n, warm)
    assert status == SOLVED
    assert warm.scalars[8] == pytest.approx(cold.scalars[8], rel=1e-9)


def bare(problem: Problem) -> Problem:
    """The problem without batteries."""
    return problem._replace(devices=problem.devices._replace(battery=np.full_like(problem.devices.battery, np.inf)))


@pytest.mark.parametrize("seed", range(12))
def test_the_least_span_is_the_least(seed: int) -> None:
    """Checker and planner agree on it, and a little less is too little, by the oracle's word."""
    drawn = draw(seed, access="fdma", stages="finetune", batteries=seed % 2 == 0, shares="optimal")
    problem, n = build(drawn.scenario)[0], float(drawn.rounds[1])
    d = bare(problem).devices
    span = least_span(d, problem.limits, problem.batches.low, n)
    count = float(len(d.cycles))
    whole = np.log1p(np.expm1(d.exponent_max) / count)
    twin = shortest_shared(d.cycles / d.clock_max, d.span / count, whole)
    assert twin <= span * (1.0 + 1e-12)
    assert twin == pytest.approx(span, rel=1e-10)
    seconds = least_seconds(problem, problem.batches, 0.0, n)
    hasty = problem._replace(limits=problem.limits._replace(delay=seconds * (1.0 - 1e-6)))
    assert solved(hasty, 0.0, n)[0] == DELAY_SHORT
    just = problem._replace(limits=problem.limits._replace(delay=seconds * (1.0 + 1e-6), energy=1e300))
    assert solved(just, 0.0, n)[0] == SOLVED


@pytest.mark.parametrize("seed", range(8))
def test_plans_with_shares_pass_the_check(seed: int) -> None:
    drawn = draw(seed, access="fdma", count=1 + seed % 4, small=seed % 2 == 0)
    scenario = sharing(drawn.scenario, "optimal")
    found = plan(scenario, tolerance=2e-3, time_limit=30.0)
    assert certify.check(found, scenario).lower_bound_proven
    assert found.lower_bound <= found.objective
    assert found.finetune is not None
    if found.finetune.rounds:
        assert found.finetune.bandwidth_hz is not None
        assert found.finetune.bandwidth_hz.sum() <= scenario.radio.uplink_bandwidth_hz
        assert [limit.name for limit in found.constraints].count("bandwidth") == 1
    assert set(found.multipliers) == {"energy_j", "delay_s", "bandwidth_hz"}
    equal = plan(sharing(drawn.scenario, "equal"), tolerance=2e-3, time_limit=30.0)
    assert set(equal.multipliers) == {"energy_j", "delay_s"}
    if found.status is Status.OPTIMAL:
        assert found.objective <= equal.objective * (1.0 + 2e-3)


def test_a_band_too_narrow_is_named() -> None:
    """It is part of the clash; wider, a plan is possible; the check repeats the proof."""
    named = 0
    for seed in range(6):
        drawn = draw(seed, access="fdma", stages="finetune", batteries=seed % 2 == 1, count=3)
        tree = sharing(drawn.scenario, "optimal", 1e-4).to_dict()
        tree["server"] |= {"max_clock_hz": 1.0, "static_power_w": 0.0}
        tree["budget"]["delay_s"] /= drawn.rounds[1]
        scenario = Scenario(**tree)
        found = plan(scenario, throw=False)
        if found.status is not Status.INFEASIBLE:
            continue
        assert found.infeasibility is not None
        certify.check(found, scenario)
        if "bandwidth" in found.infeasibility.clash:
            named += 1
            assert plan(sharing(scenario, "optimal", 1e9), throw=False, tolerance=0.1).status.has_plan
        for key, value in (
            ("energy_j", found.infeasibility.min_energy_j),
            ("delay_s", found.infeasibility.min_delay_s),
        ):
            if math.isfinite(value):
                enough = scenario.with_budget(**{key: value * (1.0 + 1e-6)})
                assert plan(enough, throw=False, tolerance=0.1).status is not Status.INFEASIBLE
    assert named >= 3


@pytest.mark.parametrize("seed", range(8))
def test_batteries_that_the_band_leaves_too_little_for(seed: int) -> None:
    """Rounds that batteries and band together rule out: the solve says so, and there are prices that prove it."""
    tree = draw(seed, access="fdma", stages="finetune", batteries=True, count=3, shares="optimal").scenario.to_dict()
    for row in tree["devices"]:
        row["battery_j"] = row["battery_j"] or 1e9
    scenario, n = Scenario(**tree), 20.0

    def fits(charge: float) -> bool:
        problem, _ = build(charged(scenario, charge))
        point = new_point(3)
        rich = problem._replace(limits=problem.limits._replace(energy=1e300))
        return bool(solve_fixed(rich, problem.batches, 0.0, n, 0.0, 0.0, point) == SOLVED)

    low, high = 1e-12, 1.0
    assert fits(high)
    assert not fits(low)
    while high / low > 1.0 + 1e-9:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    short = charged(scenario, low * 0.999)
    prices = shortage_prices(build(short)[0], (0, int(n)), 1.0)
    assert prices is not None
    entry = entry_of(prices, None, share_of(short))
    box = np.array([[0.0, 0.0, n, n, 0.0, math.inf]])
    system = system_of(short)
    weight = float(system.criterion.at(0.0, n).weight)
    assert bound(system, priced(system, entry), box)[0] * weight >= 0.99


def charged(scenario: Scenario, charge: float) -> Scenario:
    """The scenario with its batteries charged to a share of what they are."""
    rows = [{**row, "battery_j": row["battery_j"] * charge} for row in scenario.devices.to_rows()]
    return scenario.replace(devices=rows)


def test_equal_bandwidth_is_a_baseline_where_the_band_is_shared() -> None:
    drawn = draw(11, access="fdma", count=3, energy="tight", shares="optimal")
    names = ["fixed-power", "equal-bandwidth", "random"]
    found = {outcome.name: outcome for outcome in compare(drawn.scenario, only=names, tolerance=1e-3)}
    for outcome in found.values():
        assert outcome.plan is not None
        assert pretune.check(outcome.plan, drawn.scenario).lower_bound_proven
    equal = found["equal-bandwidth"].plan
    assert equal is not None
    assert equal.finetune is not None
    assert equal.finetune.bandwidth_hz == pytest.approx(drawn.scenario.devices.bandwidth_hz, rel=1e-12)
    assert equal.objective > found["joint"].plan.objective  # type: ignore[union-attr]
    with pytest.raises(InputError, match="equal-bandwidth"):
        list(compare(sharing(drawn.scenario, "equal"), only=["equal-bandwidth"]))


def test_the_literatures_way_shares_too() -> None:
    pytest.importorskip("clarabel")
    drawn = draw(26, access="fdma", count=3, energy="tight", shares="optimal")
    joint, outcome = compare(drawn.scenario, only=["successive"], tolerance=1e-3)
    assert outcome.plan is not None
    assert joint.plan is not None
    pretune.check(outcome.plan, drawn.scenario)
    assert outcome.plan.objective == pytest.approx(joint.plan.objective, rel=0.02)


@pytest.mark.parametrize("name", sorted(set(ODDITIES) - {"steep uploads", "flat uploads"}))
def test_odd_scenarios_share_too(name: str) -> None:
    """From next to no band to more than there is; every plan, or the proof that there is none, passes the check."""
    for width in (1e-12, 1.0, 1e30):
        scenario = sharing(odd(name, 1, access="fdma", count=3), "optimal", width)
        found = plan(scenario, tolerance=1e-2, time_limit=30.0, throw=False)
        assert found.status is not Status.NUMERICAL_FAILURE
        certify.check(found, scenario)
