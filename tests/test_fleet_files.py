from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
import pytest

from pretune.scenario import Fleet, Scenario, load_scenario, scenario_from_dict
from scenario_samples import DEVICE, refusal, small, write_json

HEADER = "name,capacitance,flops_per_cycle,max_clock_hz,max_power_w,gain,bandwidth_hz,samples"
ROWS = ["a,1e-28,8,1.2e9,0.2,3.1e-11,2e6,600", "b,1e-28,8,1.2e9,0.2,3.1e-11,2e6,600"]


def load(path: Path, text: str) -> Scenario:
    (path / "fleet.csv").write_text(text, encoding="utf-8")
    return scenario_from_dict(small(devices={"file": "fleet.csv"}), path)


def refused(path: Path, text: str) -> tuple[str, ...]:
    (path / "fleet.csv").write_text(text, encoding="utf-8")
    return refusal(small(devices={"file": "fleet.csv"}), path)


def edited(row: int, key: str, cell: str) -> str:
    cells = [line.split(",") for line in ROWS]
    cells[row][HEADER.split(",").index(key)] = cell
    return "\n".join([HEADER, *(",".join(line) for line in cells)]) + "\n"


def test_a_csv_is_the_list_it_spells_out(tmp_path: Path) -> None:
    listed = scenario_from_dict(small(devices=[{"name": name, **DEVICE} for name in "ab"]))
    loaded = load(tmp_path, "\n".join([HEADER, *ROWS]))
    assert loaded == listed
    assert loaded.defaults == listed.defaults


def test_the_path_is_relative_to_the_scenario_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "fleet.csv").write_text("\n".join([HEADER, *ROWS]))
    path = write_json(tmp_path / "deep" / "scenario.json", small(devices={"file": "fleet.csv"}))
    monkeypatch.chdir(tmp_path)
    assert load_scenario(path) == load_scenario("deep/scenario.json")
    monkeypatch.chdir(tmp_path / "deep")
    assert load_scenario(path) == load_scenario("scenario.json")
    assert Scenario(**small(devices={"file": "fleet.csv"})) == load_scenario(path)


def test_a_changed_csv_changes_the_digest(tmp_path: Path) -> None:
    before = load(tmp_path, edited(0, "gain", "3.1e-11")).sha256
    assert load(tmp_path, edited(0, "gain", "3.10e-11")).sha256 == before
    assert load(tmp_path, edited(0, "gain", "3.1000000001e-11")).sha256 != before
    assert load(tmp_path, edited(0, "name", "c")).sha256 != before


def test_cells_carry_units_and_may_be_empty(tmp_path: Path) -> None:
    fleet = load(
        tmp_path,
        HEADER + ",battery_j,static_power_w\n"
        "a,1e-28,8,1.2 GHz,23 dBm,-105 dB,2 MHz,600,0.5 Wh,\n"
        "b,1e-28 W/Hz^3,8 FLOP/cycle,1.2e9,0.2,-105 dB,2e6,6e2,,50 mW\n",
    ).devices
    assert fleet.max_clock_hz.tolist() == [1.2e9, 1.2e9]
    assert fleet.max_power_w == pytest.approx([10**-0.7, 0.2])
    assert fleet.gain == pytest.approx([10**-10.5] * 2)
    assert fleet.samples.tolist() == [600, 600]
    assert fleet.battery_j.tolist() == [1800.0, np.inf]
    assert fleet.static_power_w.tolist() == [0.0, 0.05]
    assert "devices.battery_j = null (no limit) for 1 of 2" in fleet.defaults


def test_spaces_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path: Path) -> None:
    text = "\ufeff" + "\r\n".join([HEADER.replace(",", ", "), *ROWS, ""])
    assert load(tmp_path, text) == load(tmp_path, "\n".join([HEADER, *ROWS]))


def test_columns_in_any_order_and_without_names(tmp_path: Path) -> None:
    columns = [line.split(",")[:0:-1] for line in (HEADER, *ROWS)]
    fleet = load(tmp_path, "\n".join(",".join(line) for line in columns)).devices
    assert fleet.names == ("device-0", "device-1")


def test_number_like_names_are_names(tmp_path: Path) -> None:
    assert load(tmp_path, edited(0, "name", "007")).devices.names == ("007", "b")


@pytest.mark.parametrize(
    ("row", "key", "cell", "shown"),
    [
        (0, "gain", "-1.0", "-1.0"),
        (1, "gain", "nan", "nan"),
        (1, "gain", "inf", "inf"),
        (1, "gain", "x", "'x'"),
        (1, "gain", "3 W", "'3 W'"),
        (1, "samples", "2.5", "2.5"),
        (1, "samples", "0", "0"),
        (1, "samples", "true", "'true'"),
        (1, "max_clock_hz", "2020-01-01", "'2020-01-01'"),
        (1, "name", "a", "'a'"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(tmp_path: Path, row: int, key: str, cell: str, shown: str) -> None:
    (line,) = refused(tmp_path, edited(row, key, cell))
    assert line.startswith(f"devices[{row}].{key} (fleet.csv line {row + 2}): holds {shown}, should hold a")


def test_an_empty_cell_of_a_required_key_is_named(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, edited(1, "gain", ""))
    assert line.startswith("devices[1].gain (fleet.csv line 3): is missing, should hold a positive power ratio")


def test_an_empty_column_of_a_required_key_is_named_row_by_row(tmp_path: Path) -> None:
    found = refused(tmp_path, edited(1, "gain", "").replace("3.1e-11", ""))
    assert [line.split(":")[0] for line in found] == [
        "devices[0].gain (fleet.csv line 2)",
        "devices[1].gain (fleet.csv line 3)",
    ]


def test_blank_lines_do_not_shift_the_line(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, edited(1, "gain", "-1").replace("\nb", "\n\n\nb"))
    assert line.startswith("devices[1].gain (fleet.csv line 5): holds -1.0")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "devices.file: fleet.csv can't be read: Empty CSV file"),
        (HEADER + "\n", "devices: holds [], should hold at least one device"),
        (
            "\n".join([HEADER + ",gian", *(row + ",1" for row in ROWS)]),
            "devices.file fleet.csv.gian: is not a known key",
        ),
        (
            "\n".join([HEADER + ",gain", *(row + ",1" for row in ROWS)]),
            "devices.file: fleet.csv has the column 'gain' 2",
        ),
        (HEADER.replace(",gain", "") + "\n" + ROWS[0].replace(",3.1e-11", ""), "devices.gain (fleet.csv): is missing"),
        ("\n".join([HEADER, ROWS[0] + ",7"]), "devices.file: fleet.csv can't be read: CSV parse error"),
        ("\n".join([HEADER, ROWS[0][:30]]), "devices.file: fleet.csv can't be read: CSV parse error"),
        ("id,city\n1,Graz\n", "devices.file: holds 'fleet.csv', should hold a file with the columns name,"),
        ("<html>\n<body>\n", "devices.file: holds 'fleet.csv', should hold a file with the columns"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    (found,) = refused(tmp_path, text)
    assert found.startswith(line)


@pytest.mark.parametrize("content", [b"\x00\xff" * 100, b"name,gain\n\xff\xfe,1\n", b"PAR1", bytes(range(256)) * 50])
@pytest.mark.parametrize("name", ["fleet.csv", "fleet.parquet"])
def test_a_binary_file_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(small(devices={"file": name}), tmp_path)[0].startswith("devices")


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"file": "none.csv"}, "devices.file: holds 'none.csv', should hold the path of a file; there is none"),
        ({"file": "folder.csv"}, "devices.file: holds 'folder.csv', should hold the path of a file"),
        ({"file": "fleet.txt"}, "devices.file: holds 'fleet.txt', should hold the path of a .csv or .parquet file"),
        ({"file": 3}, "devices.file: holds 3, should hold the path"),
        ({"file": "a\0b.csv"}, "devices.file: holds 'a\\x00b.csv', should hold the path"),
        ({"file": "x" * 5000 + ".csv"}, "devices.file: "),
        ({"file": "a.csv", "sheet": 1}, "devices.sheet: is not a known key"),
    ],
)
def test_a_bad_path_is_one_line(tmp_path: Path, spec: dict[str, Any], line: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (found,) = refusal(small(devices=spec), tmp_path)
    assert found.startswith(line)
    assert len(found) < 400


def arrow_table(**columns: Any) -> pa.Table:
    base = {"name": ["a", "b"], **{key: [value, value] for key, value in DEVICE.items()}}
    return pa.table({**base, **columns})


@pytest.mark.parametrize(
    "gain",
    [
        pa.array([3.1e-11, 3.1e-11]),
        pa.array(["3.1e-11", "3.1e-11"]),
        pa.array(["3.1e-11", "3.1e-11"], pa.large_string()),
        pa.array(["3.1e-11", "3.1e-11"]).dictionary_encode(),
    ],
)
def test_parquet_is_read_like_csv(tmp_path: Path, gain: pa.Array) -> None:
    parquet.write_table(arrow_table(gain=gain), tmp_path / "fleet.parquet")
    loaded = scenario_from_dict(small(devices={"file": "fleet.parquet"}), tmp_path)
    assert loaded == load(tmp_path, "\n".join([HEADER, *ROWS]))


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"gain": [1.0, None]}, "devices[1].gain (fleet.parquet row 2): is missing"),
        ({"gain": [1.0, float("nan")]}, "devices[1].gain (fleet.parquet row 2): holds nan"),
        ({"gain": [True, False]}, "devices[0].gain (fleet.parquet row 1): holds true"),
        ({"gain": [[1.0], [2.0]]}, "devices[0].gain (fleet.parquet row 1): holds [1.0]"),
        ({"name": [1, 2]}, "devices[0].name (fleet.parquet row 1): holds 1, should hold a name"),
    ],
)
def test_a_bad_parquet_cell_is_named_with_its_row(tmp_path: Path, columns: dict[str, Any], line: str) -> None:
    parquet.write_table(arrow_table(**columns), tmp_path / "fleet.parquet")
    assert refusal(small(devices={"file": "fleet.parquet"}), tmp_path)[0].startswith(line)


def test_a_long_csv_loads_in_seconds(tmp_path: Path) -> None:
    count, rng = 200_000, np.random.default_rng(0)
    columns = {
        "name": [f"cam-{i}" for i in range(count)],
        **{key: np.full(count, value) for key, value in DEVICE.items()},
    }
    columns["gain"] = 10 ** rng.uniform(-12, -9, count)
    arrow_csv.write_csv(pa.table(columns), tmp_path / "fleet.csv")
    began = time.perf_counter()
    fleet = scenario_from_dict(small(devices={"file": "fleet.csv"}), tmp_path).devices
    assert time.perf_counter() - began < 10.0  # 0.4 s on an idle machine
    assert isinstance(fleet, Fleet)
    assert fleet.gain.tolist() == columns["gain"].tolist()
    assert fleet.names[-1] == "cam-199999"
