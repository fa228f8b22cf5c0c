"""From round to round: ways, temperatures, traces, checkpoints, seeds."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import pytest

from pretune import channel
from pretune.errors import InputError
from pretune.reality import Reality, State
from pretune.scenario import scenario_from_dict
from reality_samples import EVERYTHING, THROTTLING, TRACE, WAY, crowd, gains, met, varying
from scenario_samples import small


def same(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(getattr(one, key), getattr(other, key))
        for key in ("round", "time_s", "gain", "available", "clock_limit_hz", "compute_factor")
    )


def test_without_a_variation_nothing_varies() -> None:
    scenario = scenario_from_dict(small())
    for one in met(scenario, 3):
        assert np.array_equal(one.gain, scenario.devices.gain)
        assert one.available.all()
        assert np.array_equal(one.clock_limit_hz, scenario.devices.max_clock_hz)
        assert np.array_equal(one.compute_factor, np.ones(2))


@pytest.mark.parametrize("how", ["json", "npz"])
def test_a_checkpoint_goes_on_as_if_nothing_had_happened(how: str) -> None:
    scenario = varying(**EVERYTHING)
    straight = met(scenario, 8)
    reality = Reality.of(scenario)
    state = reality.start()
    for count in range(8):
        if how == "json":
            state = State.from_dict(json.loads(json.dumps(state.to_dict())))
        else:
            file = io.BytesIO()
            np.savez(file, **state.to_arrays())
            file.seek(0)
            state = State.from_arrays(np.load(file))
        state, one = Reality.of(scenario).next(state, 2.0 if count else 0.0)
        assert same(one, straight[count])


def test_a_seed_is_a_fate() -> None:
    scenario = varying(**EVERYTHING)
    assert all(same(one, other) for one, other in zip(met(scenario, 4), met(scenario, 4), strict=True))
    assert not same(met(scenario, 1)[0], met(scenario, 1, seed=6)[0])
    assert same(met(scenario, 1, seed=6)[0], met(varying(**{**EVERYTHING, "seed": 6}), 1)[0])


def test_one_device_otherwise_leaves_the_others_as_they_were() -> None:
    common = {key: value for key, value in EVERYTHING.items() if key not in ("devices", "trace")}
    before = met(varying(**common), 3)
    after = met(varying(**common, devices={"cam-2": dict.fromkeys(("fading", "jitter", "availability"))}), 3)
    for one, other in zip(before, after, strict=True):
        assert one.gain[0] == other.gain[0]
        assert one.gain[1] != other.gain[1]
        assert one.compute_factor[0] == other.compute_factor[0]
        assert other.compute_factor[1] == 1.0
        assert one.available[0] == other.available[0]
        assert other.available[1]


def test_the_arrays_are_nobodys_to_change() -> None:
    one = met(varying(**EVERYTHING), 1)[0]
    for key in ("gain", "available", "clock_limit_hz", "compute_factor"):
        assert not getattr(one, key).flags.writeable


def test_a_way_follows_the_path_loss_of_the_cell() -> None:
    scenario = varying(mobility=WAY)
    geometry = {"carrier_hz": 3.5e9, "base_height_m": 10.0, "device_height_m": 1.5}

    def loss(x: float, y: float) -> float:
        return float(channel.nlos_loss(channel.UMI, np.array([math.hypot(x, y)]), **geometry)[0])

    # 10 m/s: after 5 s at (60, 50), after 12 s at (100, 80), after 22 s at the end, after 26 s 40 m back
    places = {0.0: (60, 0), 5.0: (60, 50), 12.0: (100, 80), 22.0: (200, 80), 26.0: (160, 80), 44.0: (60, 0)}
    for time_s, place in places.items():
        reality = Reality.of(scenario)
        one = reality.next(reality.start(), time_s)[1]
        expected = 10 ** ((loss(60, 0) - loss(*place)) / 10)
        assert one.gain / scenario.devices.gain == pytest.approx([expected, expected], rel=1e-12)


@pytest.mark.parametrize(("at_end", "place"), [("stop", (200, 80)), ("back", (160, 80)), ("loop", (167.9, 61.7))])
def test_what_it_does_at_the_end_of_the_way(at_end: str, place: tuple[float, float]) -> None:
    reality = Reality.of(varying(mobility={**WAY, "at_end": at_end}))
    (way,) = reality.columns.ways
    assert way.distance_m(26.0) == pytest.approx(math.hypot(*place), abs=6.0 if at_end == "loop" else 1e-9)
    lowest = min(way.factor(t) for t in np.linspace(0.0, 100.0, 501))
    assert way.lowest_factor <= lowest * (1 + 1e-12)
    assert way.lowest_factor == pytest.approx(lowest, rel=0.02)


def test_a_device_that_stands_still_has_its_gain() -> None:
    assert gains(varying(mobility={**WAY, "waypoints_m": [[60, 0]]}), 2) == pytest.approx(np.ones((2, 2)))


def test_a_busy_processor_warms_up_and_slows_down() -> None:
    scenario = crowd(1, throttling=THROTTLING)
    reality = Reality.of(scenario)
    state, one = reality.next(reality.start(), 0.0)
    assert one.clock_limit_hz[0] == 1.2e9
    power = np.array([0.15])
    for _ in range(20):
        state, one = reality.next(state, 5.0, power)
    rise = 200.0 * 0.15 * -math.expm1(-100.0 / 50.0)
    assert state.warmth_k[0] == pytest.approx(rise, rel=1e-12)
    assert one.clock_limit_hz[0] == pytest.approx(1.2e9 * (1 - 0.6 * (rise - 20) / 20))
    for _ in range(100):
        state, one = reality.next(state, 50.0, np.array([1.0]))
    assert one.clock_limit_hz[0] == pytest.approx(0.4 * 1.2e9)
    state, one = reality.next(state, 1e4, np.array([0.0]))
    assert one.clock_limit_hz[0] == 1.2e9


def test_without_a_power_it_runs_as_fast_as_it_may() -> None:
    reality = Reality.of(crowd(1, throttling=THROTTLING))
    state = reality.start()
    for _ in range(200):
        state, one = reality.next(state, 20.0)
    # in balance: the power of the clock that the temperature leaves is what keeps it at that temperature
    balance = 1e-28 * one.clock_limit_hz[0] ** 3 * 200.0
    assert state.warmth_k[0] == pytest.approx(balance, rel=1e-3)
    assert 0.4 * 1.2e9 < one.clock_limit_hz[0] < 1.2e9


def test_a_trace_is_followed_step_by_step_also_where_there_is_no_channel() -> None:
    scenario = varying(trace=TRACE, fading={"kind": "rayleigh"}, shadowing={"std_db": 3, "correlation_s": 0})
    for time_s, gain in ((0.0, 1e-11), (9.99, 1e-11), (10.0, 0.0), (19.0, 0.0), (20.0, 3e-11), (700.0, 3e-11)):
        reality = Reality.of(scenario)
        one = reality.next(reality.start(), time_s)[1]
        assert one.gain[1] == gain  # nothing is drawn on top of what was measured
        assert one.gain[0] not in (0.0, scenario.devices.gain[0])


def test_a_trace_that_ends_is_one_line_and_may_be_repeated() -> None:
    reality = Reality.of(varying(trace=TRACE))
    state, _ = reality.next(reality.start(), 0.0)
    with pytest.raises(InputError, match="ends at 700 s for 'cam-2', and round 1 begins at 701 s; record a longer one"):
        reality.next(state, 701.0)
    repeated = Reality.of(varying(trace={"gains": {"cam-2": [[0, 1e-11], [10, 4e-11], [30, 9e-11]]}, "repeat": True}))
    for time_s, gain in ((5.0, 1e-11), (10.0, 4e-11), (31.0, 1e-11), (45.0, 4e-11), (605.0, 1e-11)):
        assert repeated.next(repeated.start(), time_s)[1].gain[1] == gain


def test_many_traces_at_once() -> None:
    rng = np.random.default_rng(3)
    steps = {f"device-{k}": np.cumsum(np.append(0.0, rng.uniform(0.1, 9.0, 200 + 3 * k))) for k in range(50)}
    tree = {name: [[t, (i + 1) * 1e-12] for i, t in enumerate(times)] for name, times in steps.items()}
    reality = Reality.of(crowd(50, trace={"gains": tree, "repeat": True}))
    for time_s in (0.0, 3.3, 100.0, 500.0):
        found = reality.next(reality.start(), time_s)[1].gain
        expected = [np.searchsorted(times, time_s, side="right") * 1e-12 for times in steps.values()]
        assert found == pytest.approx(expected)


def test_a_state_of_another_fleet_is_refused() -> None:
    one, other = Reality.of(varying(**EVERYTHING)), Reality.of(crowd(3, fading={"kind": "rayleigh"}))
    with pytest.raises(InputError, match="of another fleet or variation"):
        other.next(one.start(), 1.0)
    with pytest.raises(InputError, match="damaged"):
        State.from_dict({"round": 1})
    for bad in (-1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="round_s: holds"):
            one.next(one.start(), bad)


def test_a_hundred_thousand_devices_take_a_round_each() -> None:
    everything = {key: value for key, value in EVERYTHING.items() if key not in ("devices", "trace")}
    found = met(crowd(100_000, **everything), 3)
    assert found[-1].gain.shape == (100_000,)
    assert np.isfinite(found[-1].gain).all()
