"""Whole plans with known answers (math.md section 6), and what must not change an answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from draws import draw

from pretune.figures import system_of
from pretune.planner import plan, reference
from pretune.plans import Plan
from pretune.price_sets import priced
from pretune.scenario import Scenario, scenario_from_dict

TOLERANCE = 1e-4


def planned(scenario: Scenario) -> Plan:
    """The plan at the usual tolerance."""
    return plan(scenario, tolerance=TOLERANCE)


def server_only(energy_j: float = 40.0, delay_s: float = 30.0, **convergence: float) -> Scenario:
    """A scenario whose fine-tuning steps lead nowhere: all that is left is pre-training, in closed form."""
    tree = draw(3, criterion="trajectory", idle_power=False, batteries=False, count=2).scenario.to_dict()
    tree["workload"]["flops_per_sample"] = 1e6
    tree["server"] |= {"samples": 10**7, "max_clock_hz": 1e15, "capacitance": 1e-27}
    tree["convergence"] |= {"initial_gap": 2.0, "shift": 0.01, "pretrain_step": 0.02, "finetune_step": 1e-9}
    tree["convergence"] |= {"pretrain_variance": 1e5}
    tree["convergence"] |= convergence
    return scenario_from_dict(tree).with_budget(energy_j=energy_j, delay_s=delay_s)


def closed_form(scenario: Scenario) -> tuple[float, float]:
    """``Gamma = zeta^2 + 2 sqrt(2 Delta L sigma0^2 / y0)`` and ``b0 = sqrt(A0 y0 / (2 Delta))``."""
    c, server = scenario.convergence, scenario.server
    cubic = server.capacitance * (scenario.workload.flops_per_sample / server.flops_per_cycle) ** 3
    y0 = (scenario.budget.energy_j * scenario.budget.delay_s**2 / cubic) ** (1.0 / 3.0)
    gamma = c.shift**2 + 2.0 * math.sqrt(2.0 * c.initial_gap * c.smoothness * c.pretrain_variance / y0)
    a0 = c.smoothness * c.pretrain_step**2 * c.pretrain_variance
    return gamma, math.sqrt(a0 * y0 / (2.0 * c.initial_gap))


@pytest.mark.parametrize("budget", [(40.0, 30.0), (4000.0, 300.0), (0.3, 1.0)])
def test_pretraining_alone(budget: tuple[float, float]) -> None:
    scenario = server_only(*budget)
    gamma, batch = closed_form(scenario)
    answer = planned(scenario)
    assert answer.finetune is not None
    assert answer.pretrain is not None
    assert answer.finetune.rounds == 0
    assert answer.objective == pytest.approx(gamma, rel=2e-4)
    assert answer.objective >= gamma * (1.0 - 1e-9)
    assert answer.pretrain.batch == pytest.approx(batch, rel=0.05)


def test_pretraining_alone_by_the_oracle() -> None:
    pytest.importorskip("cvxpy")
    scenario = server_only()
    gamma, batch = closed_form(scenario)
    answer = reference.joint(scenario)
    assert answer.status == "solved"
    assert answer.value == pytest.approx(gamma, rel=1e-6)
    assert answer.point is not None
    assert answer.point.server_batch == pytest.approx(batch, rel=1e-2)


def test_the_floor_of_pretraining_is_the_shift() -> None:
    """However much there is to spend, criterion trajectory cannot fall below ``zeta^2`` with pre-training alone."""
    answer = planned(server_only(1e9, 1e6, shift=0.5))
    assert 0.25 <= answer.objective <= 0.2525


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("budget", ["energy_j", "delay_s"])
def test_more_of_a_budget_never_hurts(seed: int, budget: str) -> None:
    """The bound at the larger budget is no better than what the smaller one could buy: objectives agree to the gap."""
    scenario = draw(seed + 500, count=2, idle_power=False, batteries=False).scenario
    first = planned(scenario)
    second = planned(scenario.with_budget(**{budget: 2.0 * getattr(scenario.budget, budget)}))
    assert second.lower_bound <= first.objective
    assert second.objective <= first.objective * (1.0 + second.relative_gap + 1e-12)


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_gains_and_noise_together_change_nothing(access: str) -> None:
    scenario = draw(41, access=access, criterion="final", stages="both", count=3, idle_power=False).scenario
    tree = scenario.to_dict()
    for row in tree["devices"]:
        row["gain"] *= 2.0**-10
    tree["radio"]["noise_psd_w_per_hz"] *= 2.0**-10
    first, second = (plan(case, tolerance=1e-2) for case in (scenario, scenario_from_dict(tree)))
    assert first.finetune is not None
    assert second.finetune is not None
    assert (first.objective, first.lower_bound) == (second.objective, second.lower_bound)
    assert np.array_equal(first.finetune.batch, second.finetune.batch)


def test_units_change_nothing() -> None:
    """Counting in kilo-operations and kilo-cycles: the same plan."""
    scenario = draw(42, count=2, criterion="trajectory").scenario
    tree = scenario.to_dict()
    tree["workload"]["flops_per_sample"] *= 1024.0
    tree["server"]["flops_per_cycle"] *= 1024.0
    for row in tree["devices"]:
        row["flops_per_cycle"] *= 1024.0
    assert planned(scenario_from_dict(tree)).objective == planned(scenario).objective


def test_the_order_of_the_devices_changes_nothing() -> None:
    scenario = draw(44, count=3, criterion="trajectory", batteries=True).scenario
    tree = scenario.to_dict()
    tree["devices"] = tree["devices"][::-1]
    tree["convergence"]["finetune_variance"] = tree["convergence"]["finetune_variance"][::-1]
    first, second = planned(scenario), planned(scenario_from_dict(tree))
    assert second.objective == pytest.approx(first.objective, rel=2e-4)
    assert second.lower_bound <= first.objective * (1.0 + 1e-12)
    assert first.lower_bound <= second.objective * (1.0 + 1e-12)


def test_the_same_scenario_gives_the_same_plan() -> None:
    scenario = draw(45, count=3).scenario
    assert planned(scenario).to_json() == planned(scenario).to_json()


# ---------------------------------------------------------------------------- when the stages mix (section 4)


def stage_costs(scenario: Scenario, s: float) -> tuple[float, float]:
    """``h0'(s) / w0`` and ``h1(s) / w1`` of math.md section 4, for one device and real batches."""
    c, budget = scenario.convergence, scenario.budget
    lam, nu = 2.0 * c.initial_gap * s / budget.energy_j, 2.0 * c.initial_gap * (1.0 - s) / budget.delay_s
    system = system_of(scenario)
    each = priced(system, {"energy": lam, "omega": nu / lam, "shares": [nu / lam]})
    w0, w1 = c.pretrain_step, c.finetune_step * (2.0 - c.smoothness * c.finetune_step)
    a0 = c.smoothness * c.pretrain_step**2 * c.pretrain_variance
    a1 = c.smoothness * c.finetune_step**2 * float(system.variance[0])

    def least(noise: float, unit: float, high: float) -> float:
        batch = min(max(math.sqrt(noise / unit), 1.0), high)
        return noise / batch + unit * batch

    h0 = least(a0, float(each.server_cost), scenario.server.samples)
    h1 = float(each.round_cost) + least(a1, float(each.sample_costs[0]), float(scenario.devices.samples[0]))
    return h0 / w0, h1 / w1


def best_share(scenario: Scenario, which: int) -> float:
    """The `s` that maximises one of the two (both are concave), by golden section."""
    low, high, golden = 1e-9, 1.0 - 1e-9, (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(120):
        a, b = high - golden * (high - low), low + golden * (high - low)
        if stage_costs(scenario, a)[which] < stage_costs(scenario, b)[which]:
            low = a
        else:
            high = b
    return 0.5 * (low + high)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_thresholds_of_the_shift(seed: int) -> None:
    """Below the first threshold all pre-training is best, above the second all fine-tuning, in between a mix."""
    drawn = draw(seed + 700, count=1, access="fdma", criterion="trajectory", batteries=False, stages="both").scenario
    s0, s1 = best_share(drawn, 0), best_share(drawn, 1)
    (h0_0, h1_0), (h0_1, h1_1) = stage_costs(drawn, s0), stage_costs(drawn, s1)
    first, second = h1_0 - h0_0, h1_1 - h0_1
    assert first <= second

    def with_shift(squared: float) -> Scenario:
        tree: dict[str, Any] = drawn.to_dict()
        tree["convergence"]["shift"] = math.sqrt(squared)
        return scenario_from_dict(tree)

    pytest.importorskip("cvxpy")
    cases = [(second * 1.02, h1_1, 1)]
    if first > 0.0:
        cases.append((first * 0.98, first * 0.98 + h0_0, 0))
    for squared, value, stage in cases:
        relaxed = reference.joint(with_shift(squared))
        assert relaxed.status == "solved"
        assert relaxed.point is not None
        assert relaxed.value == pytest.approx(value, rel=1e-6)
        shares = (relaxed.point.pretrain_rounds, relaxed.point.finetune_rounds)
        assert shares[1 - stage] <= 1e-4 * shares[stage]
        found = planned(with_shift(squared))
        assert found.objective >= value * (1.0 - 1e-6)
        assert found.objective == pytest.approx(value, rel=1e-2)
    if second - first > 1e-6 * second > 0.0:
        between = reference.joint(with_shift(0.5 * (first + second)))
        assert between.status == "solved"
        assert between.point is not None
        assert between.point.pretrain_rounds > 0.0
        assert between.point.finetune_rounds > 0.0
