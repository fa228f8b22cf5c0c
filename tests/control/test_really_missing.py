"""Devices that are real and do not answer: bounds, weights, and when they count as lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import control_samples as samples
import numpy as np
import pytest

from pretune.control.absence import really
from pretune.control.columns import Fleetwide
from pretune.control.moves import best_move, carry_out
from pretune.control.outlook import LOST_ROUNDS
from pretune.control.rules import Control, Replan, Rules, Stop
from pretune.control.standing import Standing
from pretune.control.steering import Round, Steering
from pretune.reality import Conditions
from pretune.runtime.replan import Replanner

ROUNDS = Rules(control=Control.ROUNDS)


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_who_is_missing_costs_the_most_that_it_may_have_taken(access: str) -> None:
    one = samples.scenario(radio={"access": access, "broadcast_bandwidth_hz": 2e7})
    fleet, rng, everyone = Fleetwide.of(one), np.random.default_rng(0), np.ones(10, dtype=np.bool_)
    for _ in range(40):
        met = Conditions(
            round=0,
            time_s=0.0,
            gain=one.devices.gain * rng.exponential(size=10),
            available=everyone,
            clock_limit_hz=one.devices.max_clock_hz,
            compute_factor=rng.uniform(0.1, 3.0, 10),
        )
        slowness, worth = np.full(10, 1.5), 10.0 ** rng.uniform(-2, 2)
        move = best_move(fleet, met, everyone, np.arange(10, 20), worth, longest_s=9.0, slowness=slowness)
        plain = carry_out(fleet, move, met)
        missing = plain.done & (rng.random(10) < 0.4)
        found = carry_out(fleet, move, met, missing)
        assert (found.done == (plain.done & ~missing)).all()
        np.testing.assert_allclose(found.device_j[missing], move.device_most_j[missing], rtol=1e-12)
        assert (found.device_j[~missing] == plain.device_j[~missing]).all()
        assert plain.time_s <= found.time_s * (1 + 1e-12) <= move.most_s * (1 + 2e-12)
        assert plain.energy_j <= found.energy_j * (1 + 1e-12) <= move.most_j * (1 + 2e-12)


def _carried_through(steering: Steering, answers: Callable[[int], np.ndarray], rounds: int) -> list[Round]:
    """Rounds in which those answer that `answers` (of the round's number) names."""
    found: list[Round] = []
    while len(found) < rounds and not isinstance(move := steering.next(), Stop):
        found.append(really(steering.outlook.fleet, steering.carried_out(move), answers(len(found) + 1)))
        steering.finetuned(found[-1])
    return found


def _steering(rounds: int = 40, variation: dict[str, Any] | None = None) -> Steering:
    one, plan = samples.within(samples.scenario(variation), pretrain=0, finetune=rounds, spare=10.0)
    return samples.steering(one, plan, ROUNDS)


def test_the_weights_of_the_others_make_up_for_who_is_missing() -> None:
    """Whether it was away when the round began (4) or was asked and never answered (7)."""
    steering, numbers = _steering(), np.arange(10)
    steering.ready = lambda: numbers != 4
    weight = steering.outlook.scenario.devices.weight
    (done,) = _carried_through(steering, lambda _: numbers != 7, 1)
    assert done.move.who.tolist() == (numbers != 4).tolist()
    assert np.flatnonzero(done.missing).tolist() == [7]
    here = (numbers != 4) & (numbers != 7)
    np.testing.assert_allclose(done.shares, np.where(here, weight, 0.0) / weight[here].sum(), rtol=1e-12)
    # nobody answers: a round that costs and changes nothing
    (done,) = _carried_through(steering, lambda _: numbers < 0, 1)
    assert not done.shares.any()
    assert done.outcome.energy_j == pytest.approx(done.move.most_j, rel=1e-12)


def test_what_is_simulated_is_left_as_it_is_while_all_answer() -> None:
    one, other = _steering(variation=samples.EVERYTHING), _steering(variation=samples.EVERYTHING)
    other.ready = lambda: np.ones(10, dtype=np.bool_)
    alone = _carried_through(one, lambda _: np.ones(10, dtype=np.bool_), 40)
    for a, b in zip(alone, _carried_through(other, lambda _: np.ones(10, dtype=np.bool_), 40), strict=True):
        assert a.shares.tobytes() == b.shares.tobytes()
    assert one.state() == other.state()


def test_who_is_there_but_never_answers_counts_as_lost_in_the_end() -> None:
    """Asked LOST_ROUNDS times in vain, then left out; there again, it is asked again."""
    steering, numbers = _steering(), np.arange(10)
    steering.ready = lambda: numbers >= 0
    done = _carried_through(steering, lambda _: numbers != 3, LOST_ROUNDS + 2)
    asked = [bool(one.move.who[3]) for one in done]
    assert asked == [True] * LOST_ROUNDS + [False, True]
    assert all(one.shares.sum() == pytest.approx(1.0, rel=1e-12) for one in done)
    assert steering.standing.slow[3] == 1.0  # of its clock nothing is known
    # it answers: all is as before
    done = _carried_through(steering, lambda _: numbers >= 0, 3)
    assert all(one.outcome.done.all() for one in done)
    assert not steering.standing.silent.any()
    assert not steering.standing.absent_rounds.any()


def test_a_real_absence_is_counted_by_time_where_devices_leave_anyway() -> None:
    """As many times as long as it is usually away, whatever is simulated of it."""
    steering, numbers = _steering(400, {"availability": {"mean_up_s": 5.0, "mean_down_s": 0.05}}), np.arange(10)
    gone_since, lost = [], []

    def ready() -> np.ndarray:
        gone_since.append(steering.standing.reality.time_s)
        return numbers != 3

    steering.ready = ready
    for _ in range(400):
        if isinstance(move := steering.next(), Stop):
            break
        if not steering.standing.alive[3]:
            lost.append(steering.standing.reality.time_s)
            break
        steering.finetuned(steering.carried_out(move))
    assert lost
    away_s = steering.outlook.away_s[3]
    assert lost[0] > away_s
    assert gone_since[-2] <= away_s


def test_budgets_hold_whoever_answers() -> None:
    """Batteries too; every device is lost and back many times."""
    rng = np.random.default_rng(0)
    for trial in range(4):
        one, plan = samples.within(samples.scenario(samples.EVERYTHING), 0, 30, spare=0.7)
        rules = (ROUNDS, Rules(), Rules(control=Control.ROUNDS, replan=Replan.AUTO))[trial % 3]
        planner = Replanner(one) if rules.replan is Replan.AUTO else None
        steering = samples.steering(one, plan, rules, planner=planner)
        steering.ready = lambda: rng.random(10) < 0.7
        _carried_through(steering, lambda _: rng.random(10) < 0.6, 1000)
        assert steering.standing.energy_left >= 0.0
        assert steering.standing.delay_left >= 0.0
        assert (steering.standing.battery_left >= 0.0).all()


def test_the_state_of_an_older_run_is_read() -> None:
    tree = _steering().state()
    del tree["silent"]
    assert not Standing.from_dict(tree).silent.any()
