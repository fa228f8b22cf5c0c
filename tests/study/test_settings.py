"""The study's settings: the shipped scenarios' workload, fleets around the same mean, budgets from a law."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra train")
pytest.importorskip("torch", reason="needs the extra train")

from pretune.errors import InputError
from pretune.planner.baselines import NAMES
from pretune.study import regimes, simulate
from pretune.study.fleets import TASKS, Setting, fleet_of, scenario_of
from pretune.study.simulate import Budget, Choice, Pilot, choose, planning_scenario

LAW = {
    "family": "effective",
    "floor": 0.03,
    "scale": 0.8,
    "rounds": 4.0,
    "power": 1.2,
    "exchange": 0.4,
    "pretrain_power": 0.5,
    "pretrain_noise": 0.05,
    "finetune_noise": 0.001,
    "noise_power": 1.0,
    "pretrain_most": 1200.0,
    "finetune_most": 320.0,
    "measure": "error",
}


@pytest.fixture
def law(monkeypatch):
    """A made-up law in place of every pilot's."""
    held = simulate.Law.read(LAW)
    pilot = Pilot(law=held, step=0.1, energy_j=1.0, delay_s=1.0, error=0.1)
    for module in (simulate, regimes):
        monkeypatch.setattr(module, "law_of", lambda *_, **__: pilot)
    simulate._joint.cache_clear()
    yield held
    simulate._joint.cache_clear()


def test_the_workload_is_that_of_the_shipped_scenarios():
    assert [TASKS[name].flops for name in ("digits", "mnist-usps", "cifar10-corrupted")] == [20224, 102272, 395136]
    assert [32 * TASKS[name].weights for name in ("digits", "mnist-usps")] == [153920, 814400]
    assert 32 * TASKS["cifar10-corrupted"].weights == 3157312


def test_spread_is_around_the_same_mean():
    equal, drawn, apart = (fleet_of(Setting(task="mnist-rotated", count=20, spread=h)) for h in (0.0, 1.0, 2.0))
    for name in ("gain", "max_clock_hz"):
        logs = [np.log(getattr(fleet, name)) for fleet in (equal, drawn, apart)]
        assert [one.mean() for one in logs] == pytest.approx([logs[1].mean()] * 3)
        assert logs[0].std() == pytest.approx(0.0, abs=1e-9)
        assert logs[2].std() == pytest.approx(2.0 * logs[1].std())
    assert len(set(equal.samples.tolist())) == 1
    assert abs(int(equal.samples.sum()) - int(drawn.samples.sum())) <= 20


def test_fleets_follow_their_ranges_and_fit_the_task():
    fleet = fleet_of(Setting(task="mnist-rotated", count=200))
    assert 0.5e9 <= fleet.max_clock_hz.min() < fleet.max_clock_hz.max() <= 2e9
    assert 1e-28 <= fleet.capacitance.min() < fleet.capacitance.max() <= 1e-27
    assert set(fleet.samples.tolist()) == {60, 120, 180}
    assert fleet_of(Setting(task="digits")).samples.sum() <= 500
    better = fleet_of(Setting(task="mnist-rotated", count=200, gain_db=10.0, clock_factor=2.0))
    assert better.gain == pytest.approx(10.0 * fleet.gain)
    assert better.max_clock_hz == pytest.approx(2.0 * fleet.max_clock_hz)


def test_a_setting_says_what_will_not_do():
    with pytest.raises(InputError, match="task: holds 'imagenet', should hold one of digits"):
        Setting(task="imagenet")
    with pytest.raises(InputError, match="count: holds 501, should hold at most 500, a sample each"):
        fleet_of(Setting(task="digits", count=501))
    assert Setting(task="digits", rotation_deg=20.0) == Setting(task="digits")
    assert Setting(task="digits", rotation_deg=30.0) != Setting(task="digits")


def test_every_step_of_the_search_can_be_taken_whatever_the_constants():
    for name in TASKS:
        for step in simulate.STEPS:
            assert simulate.with_step(scenario_of(Setting(task=name)), step).convergence.finetune_step == step


def test_regimes_are_where_the_rule_says(law, monkeypatch):
    setting = Setting(task="digits")
    for name, value in (("_LOW", 0.3), ("_HIGH", 30.0), ("_HALVINGS", 6)):  # 7 % in the delay
        monkeypatch.setattr(regimes, name, value)
    found = regimes.regimes_of(setting)
    values = [(found.budgets[name].delay_s, found.budgets[name].energy_j) for name in ("tight", "medium", "ample")]
    assert values == sorted(values)
    for name, progress in regimes.PROGRESS.items():
        choice = choose(setting, found.budgets[name], "joint")
        reached = np.log(0.9 / choice.predicted) / np.log(0.9 / found.least_error)
        assert reached == pytest.approx(progress, abs=0.04)
    cell = found.cell("tight-ample")
    assert (cell.energy_j, cell.delay_s) == (found.budgets["tight"].energy_j, found.budgets["ample"].delay_s)


def test_all_methods_keep_the_budgets(law):
    setting, budget = Setting(task="digits"), Budget(energy_j=0.4, delay_s=1.2)
    methods = simulate.methods_of(setting)
    assert set(methods) == {"joint", *NAMES} - {"successive"}
    best = choose(setting, budget, "joint").predicted
    for method in (*methods, *simulate.EXTRA):
        choice = choose(setting, budget, method)
        assert isinstance(choice, Choice)
        assert choice.energy_j <= budget.energy_j
        assert choice.delay_s <= budget.delay_s
        assert choice.predicted >= best * (1.0 - simulate.TOLERANCE)
    for criterion in ("trajectory", "final"):
        assert planning_scenario(setting, law, criterion).convergence.criterion.value == criterion


def test_the_best_step_on_validation_is_taken_and_the_other_half_is_not_looked_at(law, monkeypatch):
    losses = {0.01: 3.0, 0.03: 1.0, 0.1: 2.0, 0.3: 4.0}
    seen = []

    def scores(_field, step, seed, *_):
        seen.append((step, seed))
        validation = simulate.Scored(loss=losses[step], accuracy=0.5)
        return validation, simulate.Scored(loss=-losses[step], accuracy=0.5)

    monkeypatch.setattr(simulate, "scores", scores)
    setting = Setting(task="digits")
    choice = choose(setting, Budget(energy_j=0.4, delay_s=1.2), "joint")
    assert simulate.step_of(setting, choice) == 0.03
    assert sorted(seen) == sorted((step, seed) for step in losses for seed in simulate.TUNING_SEEDS)
    assert not set(simulate.TUNING_SEEDS) & set(simulate.EVALUATION_SEEDS)


def test_curves_end_at_the_run_and_at_the_plans_budget(law):
    setting = Setting(task="digits")
    choice = choose(setting, Budget(energy_j=0.2, delay_s=0.6), "joint")
    rows = list(simulate.curve_of(setting, choice, 0.1, 3, marks=3))
    assert rows[-1]["accuracy"] == simulate.judged(setting, choice, 0.1, 3).accuracy
    assert rows[-1]["at_delay_s"] == pytest.approx(choice.delay_s)
    assert rows[-1]["at_energy_j"] == pytest.approx(choice.energy_j)
    spent = [row["at_energy_j"] for row in rows]
    assert spent == sorted(spent)
