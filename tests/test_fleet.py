from __future__ import annotations

import pickle
import time
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune.errors import InputError
from pretune.fleet import COLUMNS, Device, Fleet
from scenario_samples import DEVICE

THREE = Fleet.from_columns(**{**DEVICE, "gain": [1e-10, 2e-10, 3e-10], "samples": [100, 200, 300]})


def lines(**columns: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        Fleet.from_columns(**{**DEVICE, **columns})
    return caught.value.problems


def test_columns_have_one_shape_and_kind_and_are_read_only() -> None:
    for key in COLUMNS:
        column = getattr(THREE, key)
        assert column.shape == (3,)
        assert column.dtype == (np.int64 if key == "samples" else np.float64)
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_defaults_are_physical_and_listed() -> None:
    assert THREE.static_power_w.tolist() == [0, 0, 0]
    assert THREE.circuit_power_w.tolist() == [0, 0, 0]
    assert np.isposinf(THREE.battery_j).all()
    assert THREE.weight.tolist() == [100 / 600, 200 / 600, 300 / 600]
    assert THREE.names == ("device-0", "device-1", "device-2")
    assert THREE.defaults == (
        "devices.static_power_w = 0.0",
        "devices.circuit_power_w = 0.0",
        "devices.battery_j = null (no limit)",
        "devices.weight = samples / sum(samples)",
        "devices.name = device-<i>",
    )


def test_defaults_of_some_devices_are_counted() -> None:
    fleet = Fleet.from_rows([{**DEVICE, "name": "a", "battery_j": None}, {**DEVICE, "static_power_w": 1}])
    assert "devices.static_power_w = 0.0 for 1 of 2" in fleet.defaults
    assert "devices.battery_j = null (no limit) for 1 of 2" in fleet.defaults
    assert "devices.name = device-<i> for 1 of 2" in fleet.defaults
    assert fleet.names == ("a", "device-1")


def test_one_device_at_a_time() -> None:
    device = THREE[1]
    assert isinstance(device, Device)
    assert (device.name, device.gain, device.samples, device.battery_j) == ("device-1", 2e-10, 200, None)
    assert type(device.samples) is int
    assert type(device.gain) is float
    assert THREE[-1].name == "device-2"
    assert [device.gain for device in THREE] == [1e-10, 2e-10, 3e-10]
    with pytest.raises(IndexError):
        THREE[3]


def test_rows_give_back_the_fleet() -> None:
    assert Fleet.from_rows(THREE.to_rows()) == THREE
    assert Fleet.from_rows(list(THREE)) == THREE
    assert hash(Fleet.from_rows(list(THREE))) == hash(THREE)


def test_pickle_and_copy_keep_the_fleet() -> None:
    assert pickle.loads(pickle.dumps(THREE)) == THREE
    assert deepcopy(THREE) == THREE
    assert pickle.loads(pickle.dumps(THREE)).defaults == THREE.defaults
    assert not pickle.loads(pickle.dumps(THREE)).gain.flags.writeable


def test_bad_rows_are_an_input_error() -> None:
    with pytest.raises(InputError, match=r"^devices\[0\]\.gain: holds -1, should hold"):
        Fleet.from_rows([{**DEVICE, "gain": -1}])


@pytest.mark.parametrize("key", [key for key in COLUMNS if key not in ("weight", "samples")])
def test_the_digest_hears_every_column(key: str) -> None:
    column = getattr(THREE, key).copy()
    column[1] = 1.5e-9 if key == "gain" else 7.0
    assert replace(THREE, **{key: column}).digest != THREE.digest


def test_the_digest_hears_names() -> None:
    assert Fleet.from_columns(**DEVICE, name=["device-0"]).digest == Fleet.from_columns(1, **DEVICE).digest
    assert Fleet.from_columns(**DEVICE, name=["other"]).digest != Fleet.from_columns(1, **DEVICE).digest


def test_texts_with_units_in_columns() -> None:
    fleet = Fleet.from_columns(
        **{**DEVICE, "max_clock_hz": ["1 GHz", 2e9, "2e9", "2500 MHz"], "max_power_w": "20 dBm", "battery_j": "1 Wh"}
    )
    assert fleet.max_clock_hz.tolist() == [1e9, 2e9, 2e9, 2.5e9]
    assert fleet.max_power_w == pytest.approx(np.full(4, 0.1), rel=1e-13)
    assert fleet.battery_j.tolist() == [3600.0] * 4


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"gain": [1e-10, -1.0]}, "devices[1].gain: holds -1.0, should hold a positive power ratio"),
        ({"gain": np.array([1e-10, np.nan])}, "devices[1].gain: holds nan, should hold"),
        ({"gain": [1e-10, np.inf]}, "devices[1].gain: holds inf, should hold"),
        ({"gain": [1e-10, 1e61]}, "devices[1].gain: holds 1e+61, should hold"),
        ({"gain": [1e-10, 1e-61]}, "devices[1].gain: holds 1e-61, should hold"),
        ({"gain": [1e-10, 10**400]}, "devices[1].gain: holds an integer of 1329 bits, should hold"),
        ({"gain": [1e-10, True]}, "devices[1].gain: holds true, should hold"),
        ({"gain": [1e-10, np.True_]}, "devices[1].gain: holds true, should hold"),
        ({"gain": [1e-10, None]}, "devices[1].gain: holds null, should hold"),
        ({"gain": [1e-10, "3 W"]}, "devices[1].gain: holds '3 W', should hold"),
        ({"gain": None, "samples": [1, 2]}, "devices.gain: is missing, should hold a positive power ratio"),
        ({"samples": [1, 0]}, "devices[1].samples: holds 0, should hold a whole number of samples from 1 to 1e12"),
        ({"samples": [1, 2.5]}, "devices[1].samples: holds 2.5, should hold"),
        ({"samples": [1, 10**13]}, "devices[1].samples: holds 10000000000000, should hold"),
        ({"static_power_w": [0, -1]}, "devices[1].static_power_w: holds -1, should hold a power of zero or more"),
        ({"battery_j": [1, 0]}, "devices[1].battery_j: holds 0, should hold a positive energy"),
        ({"battery_j": [1, -np.inf]}, "devices[1].battery_j: holds -inf, should hold"),
        ({"weight": [0.5, 0.6]}, "devices.weight: holds weights that sum to 1.1, should hold weights that sum to 1"),
        ({"weight": [1.0, 0.0]}, "devices[1].weight: holds 0.0, should hold a positive weight of at most 1"),
        ({"name": ["a", "a"]}, "devices[1].name: holds 'a', should hold a name of its own: devices[0] has this one"),
        ({"name": ["a", ""]}, "devices[1].name: holds '', should hold a name, one line"),
        ({"name": ["a", " b"]}, "devices[1].name: holds ' b', should hold a name"),
        ({"name": ["a", "b\nc"]}, "devices[1].name: holds 'b\\nc', should hold a name"),
        ({"name": ["a", 3]}, "devices[1].name: holds 3, should hold a name"),
        ({"name": ["a", "b"], "gian": 3}, "devices.gian: is not a known key; did you mean 'gain'?"),
        ({"gain": [1, 2], "samples": [1, 2, 3]}, "devices: holds columns of the lengths 2 and 3, should hold"),
        ({"gain": []}, "devices: holds [], should hold at least one device"),
    ],
)
def test_a_bad_column_is_one_line(columns: dict[str, Any], line: str) -> None:
    (found,) = lines(**columns)
    assert found.startswith(line)


def test_a_default_name_may_not_clash_with_a_given_one() -> None:
    (line,) = lines(name=["device-1", None])
    assert line.startswith("devices[1].name: holds 'device-1', should hold a name of its own: devices[0]")


def test_a_million_bad_cells_are_twenty_lines_and_a_count() -> None:
    found = lines(gain=np.full(1_000_000, -1.0))
    assert len(found) == 21
    assert found[0].startswith("devices[0].gain")
    assert found[-1] == "... and 999980 more"


def test_all_columns_without_a_length_need_a_count() -> None:
    assert len(Fleet.from_columns(4, **DEVICE)) == 4
    with pytest.raises(InputError, match="holds columns of the lengths none"):
        Fleet.from_columns(**DEVICE)


def test_the_constructor_checks_finished_columns() -> None:
    with pytest.raises(InputError, match=r"devices\[1\]\.gain: holds -1\.0"):
        replace(THREE, gain=np.array([1.0, -1.0, 1.0]))
    with pytest.raises(InputError, match="weights that sum to 1"):
        replace(THREE, weight=np.full(3, 0.5))
    with pytest.raises(InputError, match="3 names"):
        replace(THREE, given_names=("a",))
    with pytest.raises(ValueError, match="shape"):
        replace(THREE, gain=np.ones(2))


def test_the_constructor_does_not_freeze_the_callers_array() -> None:
    gain = np.array([1.0, 2.0, 3.0])
    replace(THREE, gain=gain)
    gain[0] = 5.0


def test_a_column_of_a_fleet_may_be_given_back() -> None:
    again = Fleet.from_columns(**{key: getattr(THREE, key) for key in COLUMNS}, name=THREE.names)
    assert again == THREE


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=30))
def test_weights_sum_to_one_and_stay_as_they_are(samples: list[int]) -> None:
    fleet = Fleet.from_columns(**{**DEVICE, "samples": samples})
    assert fleet.weight.sum() == pytest.approx(1.0, abs=1e-14)
    again = Fleet.from_columns(**{**DEVICE, "samples": samples, "weight": fleet.weight})
    assert again.weight.tolist() == fleet.weight.tolist()


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=10), st.floats(-0.9e-6, 0.9e-6))
def test_weights_a_little_off_are_put_right(parts: list[float], off: float) -> None:
    weight = np.array(parts) / np.sum(parts) * (1 + off)
    fleet = Fleet.from_columns(**{**DEVICE, "weight": weight})
    assert fleet.weight.sum() == pytest.approx(1.0, abs=1e-15)


def test_a_million_devices_are_columns() -> None:
    began = time.perf_counter()
    fleet = Fleet.from_columns(1_000_000, **DEVICE)
    assert time.perf_counter() - began < 5.0  # 0.1 s on an idle machine
    assert "names" not in vars(fleet)
    assert sum(getattr(fleet, key).nbytes for key in COLUMNS) == 88_000_000
    assert fleet[999_999].name == "device-999999"
    assert repr(fleet) == "<Fleet of 1000000 devices with 600000000 samples>"


def test_a_device_by_itself() -> None:
    device = Device(**{**DEVICE, "gain": "-100 dB"})
    assert device.gain == pytest.approx(1e-10)
    with pytest.raises(InputError) as caught:
        Device(**{**DEVICE, "gain": -1, "samples": "x", "nmae": "a"})
    assert [line.split(":")[0] for line in caught.value.problems] == ["gain", "samples", "nmae"]
