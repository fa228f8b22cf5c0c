"""Fleets from CSV and Parquet files, read as columns by pyarrow."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pretune import units
from pretune.columns import Column, Table, read_column
from pretune.device import QUANTITIES, Device
from pretune.fleet import Fleet
from pretune.fleetcolumns import Source, sources_of, with_unit
from pretune.problems import Problems, Refused, refused

SUFFIXES = (".csv", ".parquet")


def fleet_from_file(spec: Mapping[Any, Any], base: Path, uplink_hz: float | None = None) -> Fleet:
    """The fleet that ``{file: fleet.csv}`` names; a relative path starts at `base`.

    A CSV file has a line of column names, named like a device's keys; a cell may hold a number or a text with
    a unit, and an empty cell is an absent key. ``columns`` maps a key to a column of another name, perhaps with a unit
    (fleetcolumns.py). `uplink_hz` is the band that the devices share, if any.

    Raises:
        Refused: the file can't be read, or one line per bad cell.
    """
    problems = Problems()
    for key in spec:
        if key not in ("file", "columns"):
            problems.unknown("", ["file", "columns"], key)
    problems.refuse()
    file = spec["file"]
    if not isinstance(file, str) or not file.isprintable() or Path(file).suffix.lower() not in SUFFIXES:
        problems.holds("file", file, f"the path of a {' or '.join(SUFFIXES)} file, such as 'fleet.csv'")
        problems.refuse()
    path = base / file
    file = file if len(file) <= 60 else "..." + file[-57:]
    table = _read(path, file, _text_columns(spec.get("columns")))
    names = [str(name).strip() for name in table.column_names]
    mapping = spec.get("columns")
    if mapping is None and not set(names) & Device.model_fields.keys():
        problems.holds("file", file, f"a file with the columns {', '.join(Device.model_fields)}")
        problems.refuse()
    sources = sources_of(names, mapping, file, problems)
    problems.refuse()
    line = _line_finder(path)
    named = sources.get("name")
    return Fleet(
        **Table(
            size=table.num_rows,
            columns={key: _column(key, table.column(of.index), of) for key, of in sources.items() if key != "name"},
            names=None if named is None else table.column(named.index).to_pylist(),
            where=lambda i, key: f"[{i}].{key} ({file} {line(i)})",
            header=lambda key: f"{key} ({file})",
            problems=problems,
            uplink_hz=uplink_hz,
        ).checked()
    )


def _text_columns(mapping: object) -> set[str]:
    """The column that names come from, where it is known: "007" is a name and no number."""
    entry = mapping.get("name") if isinstance(mapping, Mapping) else None
    name = entry.get("column") if isinstance(entry, Mapping) else entry
    return {"name", name} if isinstance(name, str) else {"name"}


def _read(path: Path, label: str, text: Collection[str]) -> Any:
    """The file as a pyarrow table; columns of the names `text` hold no numbers."""
    import pyarrow as pa

    try:
        if not path.is_file():
            raise refused(label, "the path of a file; there is none" if not path.exists() else "the path of a file")
        return _read_csv(path, text) if path.suffix.lower() == ".csv" else _read_parquet(path)
    except Refused as bad:
        problems = Problems()
        problems.more(bad.problems, "file")
        raise Refused(problems) from None
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problems = Problems()
        problems.say(f"file: {label} can't be read: {reason[:200]}")
        raise Refused(problems) from None


def _read_csv(path: Path, text: Collection[str]) -> Any:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    return arrow_csv.read_csv(
        path,
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(text, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            true_values=[],
            false_values=[],
        ),
    )


def _read_parquet(path: Path) -> Any:
    from pyarrow import parquet

    # A single file as it is: no partitions are guessed from the folders above it.
    return parquet.ParquetFile(path).read()


def _column(key: str, column: Any, source: Source) -> Column:
    """An arrow column as numbers; texts are read once for each different text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    present = column.is_valid().to_numpy()
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = pc.fill_null(pc.cast(column, pa.float64(), safe=False), 1.0).to_numpy()
        if source.unit is not None:
            numbers = units.to_si_column(numbers, source.unit, QUANTITIES[key].unit)
        return Column(numbers=numbers, present=present, raw=lambda i: column[i].as_py())
    if pa.types.is_null(kind):
        return read_column(key, np.ones(len(column)), present)
    cells = column.to_pylist()
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return read_column(key, with_unit(cells, source.unit), present)
    coded = pc.dictionary_encode(column).combine_chunks()
    values = QUANTITIES[key].read_cells(with_unit(coded.dictionary.to_pylist(), source.unit))
    numbers = np.ones(len(column))
    numbers[present] = values[coded.indices.drop_null().to_numpy()]
    return Column(numbers=numbers, present=present, raw=lambda i: cells[i])


def _line_finder(path: Path) -> Callable[[int], str]:
    """From a row to the place that a person looks for, found only when there is an error to report."""
    if path.suffix.lower() != ".csv":
        return lambda row: f"row {row + 1}"

    @cache
    def lines() -> list[int]:
        """The line that each record ends on: blank lines are skipped, quoted cells may span several."""
        try:
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
                reader = csv.reader(text)
                return [reader.line_num for record in reader if record][1:]
        except (OSError, csv.Error):
            return []

    return lambda row: f"line {lines()[row] if row < len(lines()) else row + 2}"
