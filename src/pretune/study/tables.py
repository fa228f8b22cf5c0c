"""Tidy tables: rows of plain cells, what can be asked of them, and their files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretune.errors import InputError
from pretune.physics.types import Floats
from pretune.study.points import Scalar

DIGITS = 9
"""Significant digits of a float in a CSV."""

Row = Mapping[str, Scalar]


class Table:
    """Rows of one experiment, in a fixed order. A cell that a row does not have is None.

    ``for (method,), part in table.where(task="digits").groups("method"): part.numbers("accuracy").mean()``
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows: tuple[Row, ...] = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def names(self) -> list[str]:
        """The columns, in order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def where(self, **equal: Scalar) -> Table:
        """The rows whose cells are these."""
        return Table(row for row in self.rows if all(row.get(name) == value for name, value in equal.items()))

    def within(self, name: str, values: Iterable[Scalar]) -> Table:
        """The rows whose cell is among the values."""
        kept = set(values)
        return Table(row for row in self.rows if row.get(name) in kept)

    def column(self, name: str) -> list[Scalar]:
        """A column's cells."""
        return [row.get(name) for row in self.rows]

    def numbers(self, name: str) -> Floats:
        """A column as floats, shape (rows,); NaN where a cell is empty."""
        cells: list[Any] = self.column(name)
        return np.array([math.nan if cell is None else float(cell) for cell in cells], dtype=np.float64)

    def distinct(self, name: str) -> list[Any]:
        """A column's different cells that are not empty, in order of first appearance."""
        return list(dict.fromkeys(cell for cell in self.column(name) if cell is not None))

    def groups(self, *names: str) -> Iterator[tuple[tuple[Any, ...], Table]]:
        """The rows by their cells in these columns, in order of first appearance."""
        found: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows:
            found.setdefault(tuple(row.get(name) for name in names), []).append(row)
        for key, rows in found.items():
            yield key, Table(rows)


def plain(value: Any) -> Scalar:
    """A cell as JSON and CSV hold it: numpy's numbers become Python's, what is not finite becomes None.

    Raises:
        InputError: it is no number, text, truth value or None.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise InputError.field("row", value, "plain cells: text, numbers, true, false or nothing")


def csv_text(table: Table) -> str:
    """The table as CSV: floats with nine digits, true and false in small letters, None as nothing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = table.names
    writer.writerow(names)
    writer.writerows([[_written(row.get(name)) for name in names] for row in table])
    return buffer.getvalue()


def _written(cell: Scalar) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return f"{cell:.{DIGITS}g}" if isinstance(cell, float) else str(cell)


def read_csv(path: Path) -> Table:
    """A table that `csv_text` wrote; a column's kind is the narrowest of truth value, int, float, text that fits.

    Raises:
        InputError: the file is missing or no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise InputError.field(str(path), "no readable file", "a table in CSV") from None
    if not lines or any(len(line) != len(lines[0]) for line in lines):
        raise InputError.field(str(path), "lines of different lengths", "a table in CSV")
    names, cells = lines[0], lines[1:]
    columns = [_read([line[i] for line in cells]) for i in range(len(names))]
    return Table(dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _read(cells: Sequence[str]) -> list[Scalar]:
    there = [cell for cell in cells if cell]
    if there and all(cell in ("true", "false") for cell in there):
        return [None if not cell else cell == "true" for cell in cells]
    for kind in (int, float):
        try:
            return [kind(cell) if cell else None for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]


def write_parquet(table: Table, path: Path) -> None:
    """The table as Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = {name: pa.array(_alike(table.column(name))) for name in table.names}
    part = path.with_name(path.name + ".part")
    parquet.write_table(pa.table(columns), part)
    part.replace(path)


def _alike(cells: list[Any]) -> list[Any]:
    """One kind in a column: whole numbers among floats become floats, anything among text becomes text."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if len(kinds) < 2:
        return cells
    if kinds == {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    return [None if cell is None else _written(cell) for cell in cells]
