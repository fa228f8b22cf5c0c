"""Steered runs without training: bounds that hold, budgets that are kept, faults that end in one clear line."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import control_samples as samples
import numpy as np
import pytest

from pretune.control.columns import Fleetwide
from pretune.control.forecast import FORESEEN
from pretune.control.guard import fits, fitted
from pretune.control.moves import best_move, carry_out, fixed_move
from pretune.control.outlook import likely_rounds
from pretune.control.rules import Control, Replan, Rules, Stop, rules_of
from pretune.control.simulate import Simulated, simulate
from pretune.control.standing import Standing
from pretune.control.steering import Round, Steering
from pretune.errors import InputError
from pretune.physics import cost
from pretune.reality import Conditions, Reality
from pretune.runtime.replan import Replanner
from pretune.scenario import Scenario

ROUNDS = Rules(control=Control.ROUNDS)
AUTO = Rules(control=Control.ROUNDS, replan=Replan.AUTO)


def conditions(one: Scenario, rng: np.random.Generator, factor: float = 1.0) -> Conditions:
    count = len(one.devices)
    return Conditions(
        round=0,
        time_s=0.0,
        gain=one.devices.gain * rng.exponential(size=count),
        available=np.ones(count, dtype=np.bool_),
        clock_limit_hz=one.devices.max_clock_hz * rng.uniform(0.5, 1.0, count),
        compute_factor=factor * np.exp(0.5 * rng.normal(size=count)),
    )


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_no_clock_that_lies_breaks_a_round_s_bounds(access: str) -> None:
    one = samples.scenario(radio={"access": access, "broadcast_bandwidth_hz": 2e7})
    fleet, rng = Fleetwide.of(one), np.random.default_rng(0)
    everyone, batch = np.ones(10, dtype=np.bool_), np.arange(10, 20)
    for trial in range(40):
        met = conditions(one, rng, factor=10.0 ** rng.uniform(-2, 2))
        slowness = np.full(10, 1.0 + trial % 3)
        if trial % 2:
            move = best_move(fleet, met, everyone, batch, 10.0 ** rng.uniform(-2, 2), longest_s=9.0, slowness=slowness)
        else:
            move = fixed_move(fleet, met, everyone, batch, one.devices.max_clock_hz, np.full(10, 0.1), slowness)
        outcome = carry_out(fleet, move, met)
        assert outcome.time_s <= move.most_s * (1 + 1e-12)
        assert outcome.energy_j <= move.most_j * (1 + 1e-12)
        assert (outcome.device_j <= move.device_most_j * (1 + 1e-12)).all()
        assert (outcome.done == (met.compute_factor <= slowness * (1 + 1e-9))).all()


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_a_round_as_planned_costs_what_the_cost_model_says(access: str) -> None:
    one = samples.scenario(radio={"access": access, "broadcast_bandwidth_hz": 2e7})
    met = Reality.of(one).next(Reality.of(one).start(), 0.0)[1]
    batch, clock, power = np.arange(10, 20), np.full(10, 4e8), np.full(10, 0.05)
    fleet = Fleetwide.of(one)
    move = fixed_move(fleet, met, np.ones(10, dtype=np.bool_), batch, clock, power, np.ones(10))
    outcome, expected = carry_out(fleet, move, met), cost.finetune_round(one, batch.astype(float), clock, power)
    assert outcome.time_s == pytest.approx(expected.time_s, rel=1e-12)
    assert outcome.energy_j == pytest.approx(expected.energy_j, rel=1e-12)
    assert move.most_j == pytest.approx(expected.energy_j, rel=1e-12)
    np.testing.assert_allclose(outcome.device_j, expected.device_j, rtol=1e-12)


@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("chosen", [True, False])
def test_the_guard_lets_nothing_through_that_does_not_fit(access: str, chosen: bool) -> None:
    one = samples.scenario(radio={"access": access, "broadcast_bandwidth_hz": 2e7})
    fleet, rng, none = Fleetwide.of(one), np.random.default_rng(1), np.full(10, math.inf)
    everyone, slow = np.ones(10, dtype=np.bool_), np.ones(10)
    clocks = None if chosen else (one.devices.max_clock_hz * 0.6, np.full(10, 0.1))
    smaller = stopped = 0
    for _ in range(30):
        met = conditions(one, rng)
        batch = np.full(10, 40)
        if clocks is None:
            move = best_move(fleet, met, everyone, batch, 1.0, longest_s=1.0, slowness=slow)
        else:
            move = fixed_move(fleet, met, everyone, batch, *clocks, slow)
        joules, seconds = move.most_j * rng.uniform(0.1, 1.1), move.most_s * rng.uniform(0.3, 1.1)
        battery = none if rng.random() < 0.5 else move.device_most_j * rng.uniform(0.5, 2.0, 10)
        found = fitted(fleet, met, move, joules, seconds, battery, slowness=slow, clocks=clocks)
        if found is None:
            stopped += 1
            continue
        assert fits(found, joules, seconds, battery)
        assert (found.batch[found.who] >= 1).all()
        smaller += found is not move
        assert found is move or not fits(move, joules, seconds, battery)
    assert smaller > 3
    assert stopped < 30


def run(one: Scenario, plan: Any, rules: Rules, seed: int = 0, **more: Any) -> Simulated:
    planner = Replanner(one) if rules.replan is not Replan.OFF else None
    return simulate(samples.steering(one, plan, rules, seed, planner=planner, **more))


@pytest.mark.parametrize("rules", [Rules(), ROUNDS, AUTO, dataclasses.replace(AUTO, outage=0.1)])
def test_a_run_keeps_its_budgets_or_stops(rules: Rules) -> None:
    one, plan = samples.within(samples.scenario(samples.EVERYTHING), 4, 10)
    for seed in range(2):
        found = run(one, plan, rules, seed)
        assert found.energy_j <= one.budget.energy_j
        assert found.delay_s <= one.budget.delay_s
        assert found.pretrain + found.finetune > 4
        assert found.stop.why


def test_without_variation_a_plan_is_carried_out_to_its_last_joule() -> None:
    one, plan = samples.within(samples.scenario(), 4, 10)
    found = run(one, plan, Rules())
    assert (found.pretrain, found.finetune, found.stop.finished) == (4, 10, True)
    assert found.energy_j == pytest.approx(plan.energy_j, rel=1e-9)
    assert found.delay_s == pytest.approx(plan.delay_s, rel=1e-9)


def test_control_needs_less_of_both_budgets_than_fixed_powers_for_the_same_rounds() -> None:
    one, plan = samples.within(samples.scenario(samples.RAYLEIGH), 0, 30, spare=50.0)
    for seed in range(3):
        fixed = run(one, plan, Rules(), seed)
        tight = one.with_budget(energy_j=fixed.energy_j, delay_s=fixed.delay_s)
        again = dataclasses.replace(plan, scenario_sha256=tight.sha256)
        steered = run(tight, again, ROUNDS, seed)
        assert steered.finetune == fixed.finetune == 30
        assert steered.energy_j < 0.97 * fixed.energy_j
        assert steered.delay_s < 0.97 * fixed.delay_s


def test_its_state_is_all_a_steering_needs() -> None:
    one, plan = samples.within(samples.scenario(samples.EVERYTHING), 3, 14)
    planner = Replanner(one)
    whole, steps = samples.steering(one, plan, AUTO, planner=planner), []
    while not isinstance(move := whole.next(), Stop):
        if hasattr(move, "who"):
            whole.finetuned(whole.carried_out(move))
        else:
            whole.pretrained(move)
        steps.append(json.dumps(whole.state(), allow_nan=False))
    for at in (1, len(steps) // 2, len(steps) - 1):
        other = samples.steering(one, plan, AUTO, planner=Replanner(one))
        other.restore(json.loads(steps[at]))
        rest = []
        while not isinstance(move := other.next(), Stop):
            if hasattr(move, "who"):
                other.finetuned(other.carried_out(move))
            else:
                other.pretrained(move)
            rest.append(json.dumps(other.state(), allow_nan=False))
        assert rest == steps[at + 1 :]


def test_a_damaged_state_is_refused() -> None:
    with pytest.raises(InputError, match="is damaged"):
        Standing.from_dict({"energy_left": 1.0})


class Played:
    """A reality in which each round's conditions are written down."""

    def __init__(self, one: Scenario, change: Any) -> None:
        self.inner, self.change = Reality.of(one), change
        self.seed, self.columns, self.trace = self.inner.seed, self.inner.columns, None

    def start(self) -> Any:
        return self.inner.start()

    def next(self, state: Any, round_s: float, drawn_w: Any = None) -> Any:
        state, met = self.inner.next(state, round_s, drawn_w)
        return state, self.change(met)


def played(one: Scenario, plan: Any, rules: Rules, change: Any) -> Steering:
    steered = samples.steering(one, plan, rules, planner=Replanner(one) if rules.replan is not Replan.OFF else None)
    steered.reality = Played(one, change)  # type: ignore[assignment]
    return steered


@pytest.mark.parametrize("rules", [Rules(), AUTO])
def test_all_devices_gone_ends_the_run_in_one_line(rules: Rules) -> None:
    one, plan = samples.within(samples.scenario(), 3, 12, spare=3.0)

    def gone(met: Conditions) -> Conditions:
        return dataclasses.replace(met, available=np.full(10, met.round < 4))

    found = simulate(played(one, plan, rules, gone))
    assert not found.stop.finished
    assert found.stop.why == "no device has been there for so long that all count as lost"
    assert found.finetune == 4


def test_one_device_gone_for_ever_is_planned_around() -> None:
    one, plan = samples.within(samples.scenario(), 3, 20, spare=1.5)
    lines: list[Any] = []
    steered = played(
        one, plan, AUTO, lambda met: dataclasses.replace(met, available=(np.arange(10) != 3) | (met.round < 5))
    )
    steered.log = lines.append
    shares = []

    def each(done: Round) -> None:
        shares.append(done.shares)

    simulate(steered, each)
    assert any(line["cause"] == "cam-3 lost" for line in lines)
    assert shares[-1][3] == 0.0
    assert shares[-1].sum() == pytest.approx(1.0)


def test_gains_of_zero_for_a_while_are_waited_out() -> None:
    one, plan = samples.within(samples.scenario(), 2, 10, spare=3.0)

    def dark(met: Conditions) -> Conditions:
        return dataclasses.replace(met, gain=met.gain * (not 3 <= met.round < 6))

    waits: list[float] = []
    found = simulate(played(one, plan, ROUNDS, dark), lambda done: waits.append(done.waited_s))
    assert found.stop.finished
    assert found.finetune == 10
    assert sum(wait > 0.0 for wait in waits) == 1


def test_a_clock_that_lies_is_cut_off_then_found_out() -> None:
    one, plan = samples.within(samples.scenario(), 2, 30, spare=3.0)
    slow = np.where(np.arange(10) == 2, 3.0, 1.0)
    answered: list[bool] = []
    found = simulate(
        played(one, plan, ROUNDS, lambda met: dataclasses.replace(met, compute_factor=slow)),
        lambda done: answered.append(bool(done.outcome.done[2])),
    )
    assert not answered[0]
    assert answered[-1]
    assert found.energy_j <= one.budget.energy_j


def test_a_budget_that_ends_in_mid_round_ends_the_run_before_it() -> None:
    one, plan = samples.within(samples.scenario(), 2, 10)
    poor = one.with_budget(energy_j=one.budget.energy_j * 0.6)
    found = run(poor, dataclasses.replace(plan, scenario_sha256=poor.sha256), Rules())
    assert not found.stop.finished
    assert "than is left of energy" in found.stop.why or "too small to improve" in found.stop.why
    assert found.energy_j <= poor.budget.energy_j
    assert 2 <= found.finetune < 10


def test_a_trace_that_ends_ends_the_run_in_its_line() -> None:
    one, plan = samples.within(samples.scenario(), 2, 10)

    def ended(met: Conditions) -> Conditions:
        if met.round == 4:
            raise InputError("variation.trace: ends at 1 s for 'cam-1', and round 4 begins at 2 s")
        return met

    found = simulate(played(one, plan, ROUNDS, ended))
    assert not found.stop.finished
    assert found.stop.why.startswith("variation.trace: ends at")
    assert found.finetune == 4


def test_where_no_new_plan_fits_the_run_goes_on_while_it_can() -> None:
    one, plan = samples.within(samples.scenario(samples.RAYLEIGH), 0, 10, spare=1e-3)
    lines: list[Any] = []
    found = run(one, plan, AUTO, log=lines.append)
    assert lines[0]["effect"].startswith("nothing fits") or lines[0]["taken"]
    assert found.energy_j <= one.budget.energy_j
    assert found.stop.why


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("often", "off"), "--control"),
        (("rounds", "sometimes"), "--replan"),
        (("none", "auto"), "--control"),
    ],
)
def test_rules_that_can_t_be_are_refused_in_one_line(words: tuple[str, str], line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        rules_of(*words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_the_forecast_is_the_mean_of_its_scenes_rounds(access: str) -> None:
    radio = {"access": access, "broadcast_bandwidth_hz": 2e7}
    one, plan = samples.within(samples.scenario(samples.EVERYTHING, radio=radio), 4, 10)
    steered = samples.steering(one, plan, ROUNDS)
    outlook, now = steered.outlook, steered.standing
    slow = now.slowness(outlook)
    found = outlook.first.expect(outlook.fleet, now.batch, 0.7, now.longest_s, slow, now.ratio)
    seconds, joules = [], []
    for scene in outlook.first.scenes:
        met = Conditions(
            round=0,
            time_s=0.0,
            gain=scene.gain,
            available=scene.who,
            clock_limit_hz=scene.clock_limit_hz,
            compute_factor=np.ones(10),
        )
        move = best_move(outlook.fleet, met, scene.who, now.batch, 0.7, longest_s=now.longest_s, slowness=slow)
        seconds.append(move.most_s)
        joules.append(move.most_j)
    assert found.time_s == pytest.approx(np.mean(seconds), rel=1e-12)
    assert found.energy_j == pytest.approx(np.mean(joules), rel=1e-12)


def test_shares_left_out_for_bad_channels_are_made_up_for() -> None:
    one, plan = samples.within(samples.scenario(samples.RAYLEIGH), 0, 400, spare=100.0)
    rules, total = dataclasses.replace(ROUNDS, outage=0.2), np.zeros(10)
    counts = []

    def each(done: Round) -> None:
        np.add(total, done.shares, out=total)
        counts.append(int(done.move.who.sum()))

    found = simulate(samples.steering(one, plan, rules), each)
    assert 7.6 < float(np.mean(counts)) < 8.4
    # the mean share of a device is its weight: within five standard deviations of the mean of so many rounds
    close = 5.0 * math.sqrt(0.25 / found.finetune) + 0.05
    np.testing.assert_allclose(total / found.finetune / one.devices.weight, 1.0, atol=close)


def test_a_forecast_looks_at_devices_all_along_their_way() -> None:
    way = {
        "waypoints_m": [[50.0, 0.0], [100.0, 0.0]],
        "speed_m_per_s": 25.0,
        "at_end": "stop",
        "cell": {"model": "log_distance", "radius_m": 500.0},
    }
    one = samples.scenario({"mobility": way})
    run_s = one.budget.delay_s
    gains = np.array([met.gain[0] for met in likely_rounds(Reality.of(one), run_s)]) / one.devices.gain[0]
    assert run_s == 2.0, "at the end of the run they are at the end of the way"
    along = np.linspace(1.0, 2.0, 10_001) ** -3.76  # 37.6 dB a decade
    assert gains.max() == pytest.approx(1.0, rel=0.02)
    assert gains.min() == pytest.approx(2.0**-3.76, rel=0.02)
    assert gains.mean() == pytest.approx(along.mean(), rel=0.01)
    assert gains[:FORESEEN].mean() == pytest.approx(along.mean(), rel=0.05)
    still = samples.scenario(samples.RAYLEIGH)
    first, later = (np.array([met.gain for met in likely_rounds(Reality.of(still), s)]) for s in (0.0, run_s))
    np.testing.assert_array_equal(first, later)
