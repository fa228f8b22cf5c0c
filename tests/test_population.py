"""Drawn populations, and the 3GPP formulas behind their gains against values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune import channel
from pretune.scenario import Fleet, scenario_from_dict
from scenario_samples import DEVICE, refusal, small

CELL = {"model": "umi", "carrier_hz": 3.5e9, "radius_m": 250}
UMI = {"carrier_hz": 3.5e9, "base_height_m": 10.0, "device_height_m": 1.5}
UMA = {"carrier_hz": 2.0e9, "base_height_m": 25.0, "device_height_m": 1.5}


def draw(count: int = 50, seed: int = 0, **changes: Any) -> Fleet:
    keys = {key: value for key, value in {**DEVICE, **changes}.items() if value is not ...}
    return scenario_from_dict(small(devices={"count": count, "seed": seed, "draw": keys})).devices


def refused_draw(**changes: Any) -> tuple[str, ...]:
    keys = {key: value for key, value in {**DEVICE, **changes}.items() if value is not ...}
    return refusal(small(devices={"count": 5, "seed": 0, "draw": keys}))


@pytest.mark.parametrize(
    ("street", "geometry", "distance_m", "loss_db"),
    [
        # 32.4 + 21 log10(100.3606) + 20 log10(3.5); breakpoint 4 * 9 * 0.5 * 3.5e9 / 3e8 = 210 m
        (channel.UMI, UMI, 100.0, 85.31418910250133),
        # 32.4 + 40 log10(300.1204) + 20 log10(3.5) - 9.5 log10(210^2 + 8.5^2)
        (channel.UMI, UMI, 300.0, 98.24426066376931),
        # 28 + 22 log10(201.3759) + 20 log10(2); breakpoint 4 * 24 * 0.5 * 2e9 / 3e8 = 320 m
        (channel.UMA, UMA, 200.0, 84.70876442487508),
        # 28 + 40 log10(1000.276) + 20 log10(2) - 9 log10(320^2 + 23.5^2)
        (channel.UMA, UMA, 1000.0, 108.91167278954842),
    ],
)
def test_loss_with_line_of_sight(
    street: channel.Street, geometry: dict[str, float], distance_m: float, loss_db: float
) -> None:
    assert channel.los_loss(street, np.array([distance_m]), **geometry) == pytest.approx([loss_db], rel=1e-12)


@pytest.mark.parametrize(
    ("street", "geometry", "distance_m", "loss_db"),
    [
        # 35.3 log10(300.1204) + 22.4 + 21.3 log10(3.5)
        (channel.UMI, UMI, 300.0, 121.43718069820505),
        # 13.54 + 39.08 log10(201.3759) + 20 log10(2)
        (channel.UMA, UMA, 200.0, 109.60121214569557),
        (channel.UMA, UMA, 1000.0, 136.80528507626195),
        # ... - 0.6 (11.5 - 1.5), at d3D = sqrt(200^2 + 13.5^2)
        (channel.UMA, {**UMA, "device_height_m": 11.5}, 200.0, 103.5234292),
    ],
)
def test_loss_without_line_of_sight(
    street: channel.Street, geometry: dict[str, float], distance_m: float, loss_db: float
) -> None:
    assert channel.nlos_loss(street, np.array([distance_m]), **geometry) == pytest.approx([loss_db], abs=1e-4)


def test_breakpoint_distances() -> None:
    assert channel.breakpoint_distance(3.5e9, 10.0, 1.5) == pytest.approx(210.0)
    assert channel.breakpoint_distance(2.0e9, 25.0, 1.5) == pytest.approx(320.0)


@pytest.mark.parametrize(("street", "geometry", "at"), [(channel.UMI, UMI, 210.0), (channel.UMA, UMA, 320.0)])
def test_the_loss_does_not_jump_at_the_breakpoint(
    street: channel.Street, geometry: dict[str, float], at: float
) -> None:
    below, above = channel.los_loss(street, np.array([at, np.nextafter(at, 1e9)]), **geometry)
    assert below == pytest.approx(above, abs=1e-9)


@given(st.floats(10, 5000), st.floats(5e8, 1e11), st.floats(1.5, 13), st.sampled_from([channel.UMI, channel.UMA]))
def test_blocked_is_never_better_than_clear_and_farther_never_better_than_near(
    distance_m: float, carrier_hz: float, device_height_m: float, street: channel.Street
) -> None:
    geometry = {"carrier_hz": carrier_hz, "base_height_m": 25.0, "device_height_m": device_height_m}
    distances = np.array([distance_m, distance_m * 1.1])
    clear, blocked = channel.los_loss(street, distances, **geometry), channel.nlos_loss(street, distances, **geometry)
    assert (blocked >= clear).all()
    assert clear[1] > clear[0]
    assert blocked[1] > blocked[0]


def test_probability_of_line_of_sight() -> None:
    # 18/36 + e^-1 (1 - 18/36); 18/63 + e^-1 (1 - 18/63)
    assert channel.los_probability(channel.UMI, np.array([5.0, 18.0, 36.0])) == pytest.approx(
        [1, 1, 0.6839397], abs=1e-7
    )
    assert channel.los_probability(channel.UMA, np.array([5.0, 18.0, 63.0])) == pytest.approx(
        [1, 1, 0.5484854], abs=1e-7
    )


def test_log_distance() -> None:
    assert channel.log_distance_loss(np.array([1000.0, 100.0])) == pytest.approx([128.1, 90.5])
    assert channel.gain_of(np.array([100.0])) == pytest.approx([1e-10])


def test_devices_are_spread_evenly_over_the_area() -> None:
    distances = channel.drop_in_annulus(np.random.default_rng(0), 100_000, 35.0, 500.0)
    assert distances.min() >= 35.0
    assert distances.max() <= 500.0
    halfway = np.sqrt((35.0**2 + 500.0**2) / 2)  # half of the area is inside
    assert (distances < halfway).mean() == pytest.approx(0.5, abs=0.01)


def gains(count: int = 20_000, **cell: Any) -> np.ndarray:
    return draw(count, gain={"cell": {**CELL, **cell}}).gain


def test_a_cell_without_shadowing_lies_between_its_edges() -> None:
    for sight, loss in (("always", channel.los_loss), ("never", channel.nlos_loss)):
        found = gains(line_of_sight=sight, shadowing=False)
        best, worst = channel.gain_of(loss(channel.UMI, np.array([10.0, 250.0]), **UMI))
        assert found.max() == pytest.approx(best, rel=0.05)
        assert found.min() == pytest.approx(worst, rel=0.01)
        assert (found <= best).all()
        assert (found >= worst).all()


@pytest.mark.parametrize(
    ("cell", "sigma_db"),
    [
        ({"line_of_sight": "always"}, 4.0),
        ({"line_of_sight": "never"}, 7.82),
        ({"line_of_sight": "never", "shadowing_db": 3}, 3.0),
        ({"line_of_sight": "always", "model": "uma"}, 4.0),
        ({"line_of_sight": "never", "model": "uma"}, 6.0),
        ({"model": "log_distance", "carrier_hz": None}, 8.0),
    ],
)
def test_shadowing_has_the_models_strength_and_moves_nobody(cell: dict[str, Any], sigma_db: float) -> None:
    plain = {key: value for key, value in cell.items() if key != "shadowing_db"}
    shadows = 10 * np.log10(gains(**cell) / gains(**plain, shadowing=False))
    assert shadows.std() == pytest.approx(sigma_db, rel=0.02)
    assert abs(shadows.mean()) < 0.2


def test_sight_is_drawn_as_often_as_the_table_says() -> None:
    clear, blocked = gains(line_of_sight="always", shadowing=False), gains(line_of_sight="never", shadowing=False)
    mixed = gains(shadowing=False)
    assert ((mixed == clear) | (mixed == blocked)).all()
    distances = channel.drop_in_annulus(np.random.default_rng(1), 100_000, 10.0, 250.0)
    expected = channel.los_probability(channel.UMI, distances).mean()
    assert (mixed == clear).mean() == pytest.approx(expected, abs=0.02)


def test_the_same_seed_draws_the_same_fleet() -> None:
    spec = {"gain": {"cell": CELL}, "samples": {"uniform": [10, 20]}}
    assert draw(**spec) == draw(**spec)
    assert draw(**spec) != draw(seed=1, **spec)


def test_the_draw_is_the_same_on_every_machine() -> None:
    fleet = draw(3, gain={"loguniform": [1e-12, 1e-9]}, samples={"uniform": [10, 20]})
    assert fleet.samples.tolist() == [13, 15, 13]
    assert fleet.gain == pytest.approx(GAINS_OF_SEED_0, rel=1e-12)


def test_one_key_drawn_otherwise_leaves_the_others_alone() -> None:
    one = draw(gain={"cell": CELL}, samples={"uniform": [10, 20]})
    two = draw(gain={"cell": CELL}, samples=7, max_clock_hz={"uniform": ["1 GHz", "2 GHz"]})
    assert one.gain.tolist() == two.gain.tolist()


def test_distributions_keep_to_their_limits() -> None:
    fleet = draw(
        5000,
        samples={"uniform": [3, 5]},
        max_clock_hz={"uniform": ["1 GHz", 2e9]},
        gain={"loguniform": ["-120 dB", "-90 dB"]},
        max_power_w={"choice": ["20 dBm", 0.2]},
        static_power_w={"uniform": [0, 1]},
        battery_j={"loguniform": [1, 10]},
    )
    assert set(fleet.samples.tolist()) == {3, 4, 5}
    assert 1e9 <= fleet.max_clock_hz.min() < 1.01e9
    assert 1.99e9 < fleet.max_clock_hz.max() <= 2e9
    assert np.median(fleet.gain) == pytest.approx(10**-10.5, rel=0.1)
    assert fleet.gain.min() >= 10**-12 * (1 - 1e-12)
    assert set(np.round(fleet.max_power_w, 9).tolist()) == {0.1, 0.2}
    assert fleet.battery_j.max() <= 10
    assert draw(50, samples={"loguniform": [1, 3]}).samples.min() >= 1


def test_drawn_weights_are_shares() -> None:
    fleet = draw(4, weight={"choice": [0.2]})
    assert fleet.weight.tolist() == [0.25] * 4
    assert draw(4, weight=None, battery_j=None).weight.tolist() == [0.25] * 4


def test_a_population_reads_back_from_its_list() -> None:
    scenario = scenario_from_dict(small(devices={"count": 7, "draw": {**DEVICE, "gain": {"cell": CELL}}}))
    assert scenario_from_dict(scenario.to_dict()) == scenario
    assert "devices.seed = 0" in scenario.defaults
    assert "devices.draw.gain.cell.base_height_m = 10.0" in scenario.defaults
    assert "devices.draw.gain.cell.line_of_sight = probabilistic" in scenario.defaults


def test_defaults_of_a_cell_follow_its_model() -> None:
    fleet = draw(5, gain={"cell": {"model": "log_distance", "radius_m": 500, "shadowing": False}})
    assert [line for line in fleet.defaults if "cell" in line] == ["devices.draw.gain.cell.min_distance_m = 35.0"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"gain": -1},
            "devices.draw.gain: holds -1, should hold a positive power ratio, such as '-105 dB' or 3.1e-11, or {u",
        ),
        ({"gain": ...}, "devices.draw.gain: is missing, should hold a positive power ratio"),
        ({"gain": None}, "devices.draw.gain: holds null, should hold"),
        ({"gain": [1, 2]}, "devices.draw.gain: holds [1, 2], should hold"),
        ({"gain": {}}, "devices.draw.gain: holds {}, should hold one of uniform, loguniform, choice and nothing else"),
        ({"gain": {"normal": [1, 2]}}, "devices.draw.gain: holds {'normal': [1, 2]}, should hold one of"),
        ({"gain": {"uniform": [1, 2], "choice": [1]}}, "devices.draw.gain: holds {"),
        (
            {"gain": {"uniform": [2, 1]}},
            "devices.draw.gain.uniform: holds [2, 1], should hold two values [a, b], a <= b",
        ),
        ({"gain": {"uniform": [1]}}, "devices.draw.gain.uniform: holds [1], should hold two values"),
        ({"gain": {"uniform": 1}}, "devices.draw.gain.uniform: holds 1, should hold two values"),
        ({"gain": {"choice": []}}, "devices.draw.gain.choice: holds [], should hold a list"),
        ({"gain": {"choice": [1, "x"]}}, "devices.draw.gain.choice[1]: holds 'x', should hold a positive power ratio"),
        ({"samples": {"uniform": [1, 2.5]}}, "devices.draw.samples.uniform[1]: holds 2.5, should hold a whole number"),
        (
            {"static_power_w": {"loguniform": [0, 1]}},
            "devices.draw.static_power_w.loguniform[0]: holds 0, should hold mo",
        ),
        ({"name": "x"}, "devices.draw.name: is not a known key"),
        ({"cell": CELL}, "devices.draw.cell: is not a known key"),
        (
            {"gain": {"cell": 3}},
            "devices.draw.gain.cell: holds 3, should hold a mapping with the keys model, radius_m,",
        ),
        ({"gain": {"cell": CELL, "uniform": [1, 2]}}, "devices.draw.gain: holds"),
        ({"gain": {"cell": {**CELL, "model": "rma"}}}, "devices.draw.gain.cell.model: holds 'rma', should hold 'umi',"),
        (
            {"gain": {"cell": {**CELL, "radius_m": 5}}},
            "devices.draw.gain.cell.radius_m: holds 5.0, should hold more than",
        ),
        (
            {"gain": {"cell": {**CELL, "radius_m": "9 km"}}},
            "devices.draw.gain.cell.radius_m: holds '9 km', should hold a po",
        ),
        (
            {"gain": {"cell": {**CELL, "carrier_hz": None}}},
            "devices.draw.gain.cell.carrier_hz: is missing, should hold",
        ),
        (
            {"gain": {"cell": {**CELL, "carrier_hz": "2 s"}}},
            "devices.draw.gain.cell.carrier_hz: holds '2 s', should hold",
        ),
        (
            {"gain": {"cell": {**CELL, "model": "log_distance"}}},
            "devices.draw.gain.cell.carrier_hz: holds 3500000000.0, ",
        ),
        (
            {"gain": {"cell": {**CELL, "shadowing": "yes"}}},
            "devices.draw.gain.cell.shadowing: holds 'yes', should hold tr",
        ),
        (
            {"gain": {"cell": {**CELL, "shadowing": False, "shadowing_db": 3}}},
            "devices.draw.gain.cell.shadowing_db: holds 3",
        ),
        ({"gain": {"cell": {**CELL, "hight": 3}}}, "devices.draw.gain.cell.hight: is not a known key"),
    ],
)
def test_a_bad_draw_is_one_line(changes: dict[str, Any], line: str) -> None:
    (found,) = refused_draw(**changes)
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"count": 5}, "devices.draw: is missing, should hold"),
        ({"draw": DEVICE}, "devices.count: is missing, should hold a whole number of devices from 1 to 1e7"),
        ({"count": 0, "draw": DEVICE}, "devices.count: holds 0, should hold"),
        ({"count": 10**8, "draw": DEVICE}, "devices.count: holds 100000000, should hold"),
        ({"count": 5, "draw": [1]}, "devices.draw: holds [1], should hold a mapping"),
        (
            {"count": 5, "seed": -1, "draw": DEVICE},
            "devices.seed: holds -1, should hold a whole number as a seed from 0",
        ),
        ({"count": 5, "drow": 3, "draw": DEVICE}, "devices.drow: is not a known key; did you mean 'draw'?"),
        (
            {"counts": 5},
            "devices: holds {'counts': 5}, should hold a list of devices, or {file: fleet.csv}, or {folder: profiles}, "
            "or {count: 50",
        ),
    ],
)
def test_a_bad_population_is_one_line(spec: dict[str, Any], line: str) -> None:
    (found,) = refusal(small(devices=spec))
    assert found.startswith(line)


GAINS_OF_SEED_0 = [3.883778266059925e-11, 2.5034150403425735e-10, 7.351366027670107e-12]
