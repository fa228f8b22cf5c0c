"""Large fleets: the same optima as the ordinary planner's, whatever the threads, and certificates that hold up."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from draws import draw

from pretune import certify
from pretune.bounds import bound
from pretune.compact import bound_large, compact_priced
from pretune.errors import CheckFailed, InputError
from pretune.figures import system_of
from pretune.planner import plan, solve
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.kernels.slopes import (
    ENERGY,
    ENERGY_BY_BETA,
    ENERGY_BY_OMEGA,
    ENERGY_BY_SPAN,
    PRICE,
    PRICE_BY_BETA,
    PRICE_BY_SPAN,
    UPLOADS,
    UPLOADS_BY_OMEGA,
)
from pretune.planner.large import crew as crews
from pretune.planner.large import newton
from pretune.planner.large.crew import Crew
from pretune.planner.large.sample import sample
from pretune.planner.problem import Problem, build
from pretune.plans import Plan, load_plan, plan_from_dict
from pretune.price_sets import priced
from pretune.scenario import Scenario

COUNT = 300
CASES = [
    {"access": access, "criterion": criterion, "idle_power": idle, "batteries": batteries}
    for access, criterion, idle, batteries in (
        ("fdma", "trajectory", False, False),
        ("fdma", "final", True, False),
        ("fdma", "final", False, True),
        ("tdma", "trajectory", False, False),
        ("tdma", "final", False, True),
    )
]


def drawn(case: dict, seed: int, **more: object) -> tuple[Scenario, Problem, tuple[float, float]]:
    found = draw(seed, count=COUNT, stages="both", energy="tight", **case, **more)
    return found.scenario, build(found.scenario)[0], (float(found.rounds[0]), float(found.rounds[1]))


def optimum(problem: Problem, m: float, n: float):
    _, _, psi0, psi = coefficients(problem.criterion, m, n)
    point = new_point(problem.devices.cycles.size)
    assert solve_fixed(problem, problem.batches, m, n, psi0, psi, point) == SOLVED
    return point


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_newton_finds_the_optimum_of_the_nested_solver(case: dict, seed: int) -> None:
    """From a start some percent away, and without the nested solver's help where time has a price."""
    _, problem, (m, n) = drawn(case, seed)
    _, _, psi0, psi = coefficients(problem.criterion, m, n)
    exact = optimum(problem, m, n).scalars
    crew = Crew(problem)
    start = newton.Start(energy=exact[0] * 1.03, omega=exact[1] * 0.97, span=exact[2] * 1.01)
    assert newton.solve(crew, problem.batches, m, n, psi0, psi, start) == SOLVED
    found = crew.point.scalars
    assert found[8] == pytest.approx(exact[8], rel=1e-8)
    assert found[6] <= problem.limits.energy
    assert found[7] <= problem.limits.delay * (1.0 + 1e-9)


@pytest.mark.parametrize("case", CASES[:1] + CASES[3:4])
def test_newton_needs_few_passes(case: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it needs no nested solver either: that is what makes it fast."""
    _, problem, (m, n) = drawn(case, 1)
    _, _, psi0, psi = coefficients(problem.criterion, m, n)
    exact = optimum(problem, m, n).scalars
    monkeypatch.setattr(newton, "solve_fixed", lambda *_: pytest.fail("the nested solver was asked"))
    passes: list[int] = []
    whole = Crew.pass_over
    monkeypatch.setattr(Crew, "pass_over", lambda self, *given: (passes.append(1), whole(self, *given))[1])
    start = newton.Start(energy=exact[0] * 1.03, omega=exact[1] * 0.97, span=exact[2] * 1.01)
    assert newton.solve(Crew(problem), problem.batches, m, n, psi0, psi, start) == SOLVED
    assert len(passes) <= 10


@pytest.mark.parametrize("case", CASES)
def test_derivatives_of_a_round(case: dict) -> None:
    """Every derivative that `round_sums` adds up, against differences; TDMA leaves battery prices out."""
    if case["access"] == "tdma" and case["batteries"]:
        case = {**case, "batteries": False}
    _, problem, (m, n) = drawn(case, 4)
    scalars = optimum(problem, m, n).scalars
    _, _, _, psi = coefficients(problem.criterion, m, n)
    beta, span, omega = math.sqrt(psi / (n * scalars[0])), float(scalars[2]) * 1.001, max(float(scalars[1]), 1e-6)
    crew, batches, step = Crew(problem), problem.batches, 1e-6

    def sums(by_beta: float = 0.0, by_span: float = 0.0, by_omega: float = 0.0) -> np.ndarray:
        at = (beta * (1.0 + by_beta), n, span * (1.0 + by_span), omega * (1.0 + by_omega))
        return crew.pass_over(batches.low, batches.high, *at)

    sums()
    here = sums()
    by_beta = (sums(by_beta=step) - sums(by_beta=-step)) / (2.0 * step)
    by_span = (sums(by_span=step) - sums(by_span=-step)) / (2.0 * step * span)
    by_omega = (sums(by_omega=step) - sums(by_omega=-step)) / (2.0 * step * max(omega, 1e-300))
    for told, value, scale in (
        (PRICE_BY_BETA, by_beta[PRICE], here[PRICE]),
        (PRICE_BY_SPAN, by_span[PRICE], here[PRICE] / span),
        (ENERGY_BY_BETA, by_beta[ENERGY], here[ENERGY]),
        (ENERGY_BY_SPAN, by_span[ENERGY], here[ENERGY] / span),
        (UPLOADS_BY_OMEGA, by_omega[UPLOADS], here[UPLOADS] / omega),
        (ENERGY_BY_OMEGA, by_omega[ENERGY], here[ENERGY] / omega),
    ):
        if told in (UPLOADS_BY_OMEGA, ENERGY_BY_OMEGA) and case["access"] == "fdma":
            continue
        assert here[told] == pytest.approx(value, rel=2e-3, abs=2e-4 * scale)


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are cut and added in the same way for any number of threads."""
    monkeypatch.setattr(crews, "PART", 32)
    _, problem, (m, n) = drawn(CASES[0], 5)
    scalars = optimum(problem, m, n).scalars
    results = []
    for threads in (1, 2, 5):
        crew = Crew(problem, threads)
        batches = problem.batches
        sums = crew.pass_over(batches.low, batches.high, 30.0, n, float(scalars[2]), 1.0)
        prices = crew.priced(float(scalars[0]), float(scalars[1]))
        results.append((sums.tobytes(), crew.point.price.tobytes(), prices.round_cost, prices.sample_costs.tobytes()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_a_sample_of_identical_devices_is_the_fleet(access: str) -> None:
    """A device that stands for others has their energy, noise, battery and (TDMA) upload time."""
    found = draw(6, count=1, access=access, stages="both", energy="tight")
    tree, times = found.scenario.to_dict(), 300
    row = tree["devices"][0]
    tree["devices"] = [{**row, "name": f"clone-{i}", "weight": 1.0 / times} for i in range(times)]
    tree["convergence"]["finetune_variance"] = float(np.mean(tree["convergence"]["finetune_variance"]))
    tree["budget"]["energy_j"] *= times
    if access == "tdma":
        tree["budget"]["delay_s"] *= times
    problem, _ = build(Scenario(**tree))
    few = sample(problem, 100)
    assert few.devices.cycles.size < 150
    m, n = map(float, found.rounds)
    assert optimum(few, m, n).scalars[8] == pytest.approx(optimum(problem, m, n).scalars[8], rel=1e-8)


def test_a_small_fleet_is_its_own_sample() -> None:
    _, problem, _ = drawn(CASES[0], 1)
    assert sample(problem, COUNT) is problem


@pytest.mark.parametrize("case", CASES)
def test_shares_that_the_checker_works_out(case: dict) -> None:
    """At an optimum a set without shares proves what the one with the planner's shares does."""
    scenario, problem, (m, n) = drawn(case, 7)
    system = system_of(scenario)
    _, _, _, psi = coefficients(problem.criterion, m, n)
    point = optimum(problem, m, n)
    lam, omega, span = (float(value) for value in point.scalars[:3])
    ratios = np.maximum(point.ratio, 1.0)
    explicit = {"energy": lam, "omega": omega, "shares": point.price.tolist(), "ratios": ratios.tolist()}
    compact = {"energy": lam, "omega": omega, "span": span, "beta": math.sqrt(psi / (n * lam)), "home": [m, n, span]}
    limited = np.flatnonzero(ratios > 1.0)
    if limited.size:
        compact["ratios"] = {"devices": limited.tolist(), "values": ratios[limited].tolist()}
    box = np.array([[m, m, n, n, span * (1.0 - 1e-9), span * (1.0 + 1e-9)]])
    first, second = priced(system, explicit), compact_priced(system, compact)
    assert second.round_cost == pytest.approx(first.round_cost, rel=1e-7)
    # the spans of a large fleet's boxes are those of computing alone; the other boxes' are whole rounds
    uploads = float((problem.devices.span / point.exponent).sum()) if system.tdma else 0.0
    whole = box + uploads * np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    assert bound_large(system, second, box)[0] == pytest.approx(bound(system, first, whole)[0], rel=1e-4)
    # never above what the optimum with real batches is worth, by more than whole batches can be worse
    assert second.curve is not None
    curve = second.curve
    assert np.all(np.diff(curve.bill, axis=0) <= 1e-12 * np.abs(curve.bill[:-1]))


def test_a_curve_is_below_the_bills_between_its_points() -> None:
    """Chords of a concave function: at other rounds, the tabulated bill is at most the exact one."""
    scenario, problem, (m, n) = drawn(CASES[1], 8)
    system = system_of(scenario)
    point = optimum(problem, m, n)
    lam, omega, span = (float(value) for value in point.scalars[:3])
    base = {"energy": lam, "omega": omega, "span": span, "beta": 50.0}
    here = compact_priced(system, {**base, "home": [m, n, span]})
    for other in (n * 0.97, n * 1.013, n * 1.3):
        there = compact_priced(system, {**base, "home": [m, other, span]})
        ratio = np.array([system.criterion.at(m, other).psi / other])
        far = np.array([math.inf])
        assert here.curve is not None
        assert there.curve is not None
        exact = there.curve.at(ratio, far)[0]
        assert exact * (1.0 - 1e-2) <= here.curve.at(ratio, far)[0] <= exact * (1.0 + 1e-12)


def large_plan(monkeypatch: pytest.MonkeyPatch, scenario: Scenario) -> Plan:
    """Planned as a large fleet, though it is not."""
    monkeypatch.setattr(solve, "MOST_CERTIFIED", 10)
    return plan(scenario, tolerance=1e-3)


@pytest.mark.parametrize("case", CASES[:4])
def test_plans_of_large_fleets_hold_up(case: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """As good as the ordinary planner's within both gaps, and proven again by the checker."""
    scenario, _, _ = drawn(case, 9)
    ordinary = plan(scenario, tolerance=1e-3)
    large = large_plan(monkeypatch, scenario)
    assert large.lower_bound <= min(large.objective, ordinary.objective) * (1.0 + 1e-9)
    assert ordinary.lower_bound <= large.objective * (1.0 + 1e-9)
    assert large.relative_gap <= 0.02
    assert certify.check(large, scenario).lower_bound_proven
    assert large.certificate is not None
    assert all("shares" not in entry for entry in large.certificate["prices"])


def test_a_false_bound_of_a_large_fleet_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a bound above what the sets prove passes, nor sets that prove less, nor keys out of place."""
    scenario, _, _ = drawn(CASES[0], 9)
    large = large_plan(monkeypatch, scenario)
    tree = json.loads(large.to_json())

    def refused(match: str, change) -> None:
        forged = json.loads(json.dumps(tree))
        change(forged)
        with pytest.raises((CheckFailed, InputError), match=match):
            certify.check(plan_from_dict(forged), scenario)

    def raise_bound(forged: dict) -> None:
        forged["lower_bound"] = forged["objective"]
        forged["relative_gap"] = 0.0
        forged["status"] = "optimal"

    refused("do not prove", raise_bound)
    refused("do not prove|multipliers", lambda forged: forged["certificate"]["prices"][0].update(energy=1e-30))
    refused("is not a key", lambda forged: forged["certificate"]["prices"][0].update(shares=[1.0]))
    refused("whole should hold", lambda forged: forged["certificate"]["prices"][0].update(whole=1))
    refused("must not be negative", lambda forged: forged["certificate"]["prices"][0].update(beta=-1.0))
    refused("ratios should hold", lambda forged: forged["certificate"]["prices"][0].update(ratios=[1.0]))
    refused("does not limit", _price_battery)
    refused(
        "all sets should hold shares", lambda forged: forged["certificate"]["prices"].append({"energy": 1, "omega": 1})
    )


def _price_battery(forged: dict) -> None:
    forged["certificate"]["prices"][0]["ratios"] = {"devices": [0], "values": [2.0]}


def test_limits_of_large_fleets_are_told_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each kind the device nearest to its limit, and at how many the kind binds; the checker counts again."""
    scenario, _, _ = drawn(CASES[0], 12)
    monkeypatch.setattr(certify, "MOST_LISTED", 10)
    large = large_plan(monkeypatch, scenario)
    kinds = [limit.name.partition(":")[0] for limit in large.constraints if not limit.name.endswith(":server")]
    assert kinds == ["energy", "delay", "batch", "clock", "power", "deadline"]
    deadline = next(limit for limit in large.constraints if limit.name.startswith("deadline:"))
    assert deadline.binding
    assert deadline.devices is not None
    assert 1 <= deadline.devices <= COUNT
    certify.check(large, scenario)
    wrong = replace(deadline, devices=deadline.devices + 1)
    forged = replace(large, constraints=tuple(wrong if limit is deadline else limit for limit in large.constraints))
    with pytest.raises(CheckFailed, match="devices"):
        certify.check(forged, scenario)


def test_plan_files_of_columns_are_those_of_objects(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Written from columns, the text is the one that the tree of objects gives, at any indent, and reads back."""
    scenario, _, _ = drawn(CASES[0], 9)
    large = large_plan(monkeypatch, scenario)
    for indent in (None, 0, 1, 3):
        assert large.to_json(indent) == json.dumps(large.to_dict(), indent=indent, allow_nan=False)
    again = load_plan(large.save(tmp_path / "plan.json"))
    assert again.to_json() == large.to_json()
