"""Fleet files whose columns are called otherwise, and folders of device entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from pretune.errors import InputError
from pretune.fleetfolder import load_entry
from pretune.scenario import Fleet, scenario_from_dict
from scenario_samples import DEVICE, refusal, small, write_json

COLUMNS: dict[str, Any] = {
    "name": "site",
    "gain": "path_gain",
    "max_clock_hz": {"column": "clock MHz", "unit": "MHz"},
    "max_power_w": {"column": "tx", "unit": "dBm"},
}
HEADER = "site,path_gain,clock MHz,tx,capacitance,flops_per_cycle,bandwidth_hz,samples,owner"
ROWS = ["007,3.1e-11,1200,23,1e-28,8,2 MHz,600,anna", "b,-105 dB,1.5 GHz,0.1 W,1e-28,8,2e6,450,"]


def load(folder: Path, *, columns: Any = COLUMNS, header: str = HEADER, rows: list[str] = ROWS) -> Fleet:
    (folder / "fleet.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return scenario_from_dict(small(devices={"file": "fleet.csv", "columns": columns}), folder).devices


def lines(folder: Path, **changes: Any) -> list[str]:
    with pytest.raises(InputError) as bad:
        load(folder, **changes)
    return list(bad.value.problems)


def test_columns_of_other_names_and_units(tmp_path: Path) -> None:
    fleet = load(tmp_path)
    assert fleet.names == ("007", "b")
    assert fleet.gain.tolist() == [3.1e-11, 10**-10.5]
    assert fleet.max_clock_hz.tolist() == [1.2e9, 1.5e9]  # a cell with a unit of its own keeps it
    assert fleet.max_power_w.tolist() == pytest.approx([10 ** (2.3 - 3), 0.1])
    assert fleet.samples.tolist() == [600, 450]


def test_a_numeric_column_is_converted_as_well(tmp_path: Path) -> None:
    fleet = load(tmp_path, rows=[ROWS[0], "b,1e-11,900,20,1e-28,8,2e6,450,"])
    assert fleet.max_clock_hz.tolist() == [1.2e9, 9e8]
    assert fleet.max_power_w[1] == pytest.approx(0.1)


def test_an_empty_cell_stays_absent(tmp_path: Path) -> None:
    columns = {**COLUMNS, "battery_j": {"column": "battery", "unit": "Wh"}}
    rows = [f"{ROWS[0]},0.5", f"{ROWS[1]},"]
    fleet = load(tmp_path, columns=columns, header=f"{HEADER},battery", rows=rows)
    assert fleet.battery_j.tolist() == [1800.0, float("inf")]


def test_parquet_is_mapped_too(tmp_path: Path) -> None:
    table = {key: [value] for key, value in DEVICE.items() if key != "gain"}
    parquet.write_table(pa.table({**table, "g": [-105.0]}), tmp_path / "fleet.parquet")
    spec = {"file": "fleet.parquet", "columns": {"gain": {"column": "g", "unit": "dB"}}}
    assert scenario_from_dict(small(devices=spec), tmp_path).devices.gain[0] == pytest.approx(10**-10.5)


def test_the_mapping_goes_before_a_column_of_the_keys_own_name(tmp_path: Path) -> None:
    fleet = load(tmp_path, header=f"{HEADER},gain", rows=[f"{row},1" for row in ROWS])
    assert fleet.gain[0] == 3.1e-11


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (["gain"], "devices.columns: holds ['gain'], should hold a mapping from a device's keys to columns"),
        ({"gain": "gian"}, "devices.columns.gain: holds 'gian', should hold a column of fleet.csv, which has 'site'"),
        ({"gian": "path_gain"}, "devices.columns.gian: is not a known key; did you mean 'gain'?"),
        ({"gain": 3}, "devices.columns.gain: holds 3, should hold the name of a column, or {column: clock, unit: MHz}"),
        ({"gain": {"unit": "dB"}}, "devices.columns.gain: holds {'unit': 'dB'}, should hold the name of a column"),
        ({"gain": {"column": "tx", "units": "W"}}, "devices.columns.gain.units: is not a known key; did you mean"),
        ({"gain": {"column": "tx", "unit": "W"}}, "devices.columns.gain.unit: holds 'W', should hold a unit of a pure"),
        ({"gain": {"column": "tx", "unit": 3}}, "devices.columns.gain.unit: holds 3, should hold a unit of a pure"),
        ({"name": {"column": "site", "unit": "m"}}, "devices.columns.name.unit: holds 'm', should hold nothing"),
        (
            {**COLUMNS, "battery_j": "path_gain"},
            "devices.columns.battery_j: holds 'path_gain', should hold a column of its own: columns.gain has this one",
        ),
        ({"name": "site"}, "devices.max_clock_hz (fleet.csv): is missing, should hold a positive frequency"),
    ],
)
def test_a_bad_mapping_is_one_line(tmp_path: Path, columns: Any, line: str) -> None:
    assert lines(tmp_path, columns=columns)[0].startswith(line)


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    rows = [f"{row},1" for row in ROWS]
    assert lines(tmp_path, header=f"{HEADER},tx", rows=rows) == [
        "devices.file: fleet.csv has the column 'tx' 2 times, should have it once"
    ]
    assert len(load(tmp_path, header=f"{HEADER},owner", rows=rows)) == 2  # one that nobody reads does no harm


def test_a_bad_cell_is_shown_as_it_stands(tmp_path: Path) -> None:
    found = lines(tmp_path, rows=[ROWS[0].replace("1200", "-1200"), ROWS[1]])
    assert found == [
        "devices[0].max_clock_hz (fleet.csv line 2): holds '-1200', should hold a positive frequency, "
        "such as '1.2 GHz' or 1.2e9"
    ]


def entries(folder: Path, **devices: Any) -> Path:
    (folder / "profiles").mkdir(exist_ok=True)
    for name, device in devices.items():
        write_json(folder / "profiles" / f"{name}.json", {"pretune_profile": 1, "device": device, "measured": {}})
    return folder


def test_a_folder_of_entries_is_a_fleet_in_the_order_of_the_files(tmp_path: Path) -> None:
    entries(tmp_path, b={**DEVICE, "name": "first"}, a={**DEVICE, "battery_j": None}, c={**DEVICE, "static_power_w": 1})
    (tmp_path / "profiles" / "notes.txt").write_text("no device")
    fleet = scenario_from_dict(small(devices={"folder": "profiles"}), tmp_path).devices
    assert fleet.names == ("a", "first", "c")
    assert fleet.static_power_w.tolist() == [0.0, 0.0, 1.0]
    assert load_entry(tmp_path / "profiles" / "b.json") == fleet[1].model_copy(update={"weight": 1.0})


def test_what_was_not_measured_is_asked_for_in_one_line_a_file(tmp_path: Path) -> None:
    entries(tmp_path, a={**DEVICE, "gain": None, "max_power_w": None}, b=DEVICE, c={**DEVICE, "samples": None})
    assert refusal(small(devices={"folder": "profiles"}), tmp_path) == (
        "devices.a.json: max_power_w, gain are not measured, so you should give them under device, "
        "such as max_power_w: 23 dBm",
        "devices.c.json: samples is not measured, so you should give it under device, such as samples: 600",
    )
    with pytest.raises(InputError, match=r"^c\.json: samples is not measured"):
        load_entry(tmp_path / "profiles" / "c.json")


def test_devices_on_a_shared_band_need_no_bandwidth_of_their_own(tmp_path: Path) -> None:
    entries(tmp_path, a={**DEVICE, "bandwidth_hz": None})
    shared = small(devices={"folder": "profiles"}, radio__uplink_bandwidth_hz=1e7)
    assert scenario_from_dict(shared, tmp_path).devices.bandwidth_hz.tolist() == [1e7]
    assert "bandwidth_hz is not measured" in refusal(small(devices={"folder": "profiles"}), tmp_path)[0]


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    assert refusal(small(devices={"folder": "none"}), tmp_path) == (
        "devices.folder: none can't be read: No such file or directory",
    )
    (tmp_path / "empty").mkdir()
    assert refusal(small(devices={"folder": "empty"}), tmp_path)[0].startswith(
        "devices.folder: holds 'empty', should hold a folder with device entries"
    )
    assert refusal(small(devices={"folder": "x", "seed": 1}), tmp_path)[0].startswith("devices.seed: is not a known")
    assert refusal(small(devices={"folder": 3}), tmp_path)[0].startswith(
        "devices.folder: holds 3, should hold the path"
    )
    entries(tmp_path, a={**DEVICE, "gain": -1}, b={**DEVICE, "gian": 1})
    found = refusal(small(devices={"folder": "profiles"}), tmp_path)
    assert found == ("devices.b.json: device.gian: is not a known key; did you mean 'gain'?",)
    entries(tmp_path, b=DEVICE)
    found = refusal(small(devices={"folder": "profiles"}), tmp_path)
    assert found[0].startswith("devices[0].gain (a.json): holds -1, should hold a positive power ratio")
    write_json(tmp_path / "profiles" / "a.json", DEVICE)
    (tmp_path / "profiles" / "b.yaml").write_text("a: [")
    found = refusal(small(devices={"folder": "profiles"}), tmp_path)
    assert found[0].startswith("devices.a.json: should hold a device entry, as `pretune profile` writes it")
    assert found[-1].startswith("devices.b.yaml: is not YAML")
