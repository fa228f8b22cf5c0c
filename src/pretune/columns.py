"""Columns of device values, from whatever source, checked by the rules of `Device` and with defaults filled in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.device import NAME, QUANTITIES, REQUIRED, Device
from pretune.physics.types import Floats
from pretune.problems import LIMIT, Problems

WEIGHT_TOLERANCE = 1e-6
NO_WEIGHT = "devices.weight = samples / sum(samples)"
NO_NAME = "devices.name = device-<i>"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One key of all devices, shape (K,): SI numbers (NaN where unreadable) and which cells are there at all.

    `raw` gives a cell as it was written, for errors. `unlimited` marks batteries that are given as null.
    """

    numbers: Floats
    present: NDArray[np.bool_]
    raw: Callable[[int], object]
    unlimited: NDArray[np.bool_] | None = None


def read_column(key: str, cells: Sequence[object] | NDArray[Any], present: NDArray[np.bool_]) -> Column:
    """A column from cells as they come: numbers, texts with units, or an array of numbers."""
    if isinstance(cells, np.ndarray):
        return Column(numbers=cells.astype(np.float64), present=present, raw=lambda i: cells[i].item())
    rows = np.flatnonzero(present)
    numbers = np.zeros(len(cells))
    numbers[rows] = QUANTITIES[key].read_cells(cells if len(rows) == len(cells) else [cells[i] for i in rows.tolist()])
    unlimited = None
    if key == "battery_j":
        unlimited = present & np.array([cell is None for cell in cells], dtype=np.bool_)
        numbers[unlimited] = math.inf
    return Column(numbers=numbers, present=present, raw=lambda i: cells[i], unlimited=unlimited)


def place(index: int, key: str) -> str:
    """The path of a cell, relative to ``devices``."""
    return f"[{index}].{key}"


@dataclass(kw_only=True)
class Table:
    """All that is known about K devices before it is checked.

    `names` holds None where a device has no name. `where` turns a row and a key into the path that an error
    names, `header` does so for a whole column that is missing.
    """

    size: int
    columns: dict[str, Column]
    names: Sequence[object] | None = None
    where: Callable[[int, str], str] = place
    header: Callable[[str], str] = str
    problems: Problems = field(default_factory=Problems)
    defaults: list[str] = field(default_factory=list)
    uplink_hz: float | None = None
    """The band that all devices share and none has a part of its own of (NaN: not known); None where each has."""

    def checked(self) -> dict[str, Any]:
        """The columns as `Fleet` takes them.

        Raises:
            Refused: with one line per bad cell, on top of the `problems` found before.
        """
        if self.size < 1:
            self.problems.holds("", [], "at least one device")
            self.problems.refuse()
        filled = {key: self._filled(key) for key in QUANTITIES if key not in ("weight", "bandwidth_hz")}
        filled["bandwidth_hz"] = self._filled("bandwidth_hz") if self.uplink_hz is None else self._shared()
        weight = self._weights(filled["samples"])
        names = self._names()
        self.problems.refuse()
        filled["samples"] = filled["samples"].astype(np.int64)
        given = {"given_names": names, "defaults": tuple(self.defaults), "uplink_hz": self.uplink_hz}
        return {**filled, "weight": weight, **given}

    def _shared(self) -> Floats:
        """Equal parts of the band that all devices share; none may have a bandwidth of its own."""
        band, column = float(self.uplink_hz or 0.0), self.columns.get("bandwidth_hz")
        if math.isnan(band):  # the radio is in error, and who has what is not known
            return np.ones(self.size)
        if column is not None and column.present.any():
            self.problems.say(
                f"{self.header('bandwidth_hz')}: is given, should be left out: the devices share "
                "radio.uplink_bandwidth_hz"
            )
        return equal_shares(band, self.size)

    def _filled(self, key: str) -> Floats:
        """One numeric column in range; absent cells take the physical default."""
        column = self.columns.get(key)
        default = math.inf if key == "battery_j" else Device.model_fields[key].default
        absent = "null (no limit)" if key == "battery_j" else default
        if column is None:
            if key in REQUIRED:
                self.problems.missing(self.header(key), QUANTITIES[key].should)
                return np.ones(self.size)
            self.defaults.append(f"devices.{key} = {absent}")
            return np.full(self.size, default)
        self._bad_cells(key, column)
        left = self.size - int(column.present.sum())
        if left == 0:
            return column.numbers
        if key in REQUIRED:
            self._each(~column.present, lambda i: self.problems.missing(self.where(i, key), QUANTITIES[key].should))
            return column.numbers
        self.defaults.append(f"devices.{key} = {absent} for {left} of {self.size}")
        return np.where(column.present, column.numbers, default)

    def _bad_cells(self, key: str, column: Column) -> None:
        quantity = QUANTITIES[key]
        bad = column.present & ~quantity.allows(column.numbers)
        if column.unlimited is not None:
            bad &= ~column.unlimited
        self._each(bad, lambda i: self.problems.holds(self.where(i, key), column.raw(i), quantity.should))

    def _each(self, rows: NDArray[np.bool_], say: Callable[[int], None]) -> None:
        """Say something of each of these rows; after the first few only their number matters."""
        indices = np.flatnonzero(rows)
        for i in indices[:LIMIT].tolist():
            say(i)
        self.problems.count += len(indices[LIMIT:])

    def _names(self) -> tuple[str, ...] | None:
        """The names, each one's own; None if no device gives one."""
        if self.names is None or all(name is None for name in self.names):
            self.defaults.append(NO_NAME)
            return None
        first: dict[object, int] = {}
        names: list[Any] = []
        bad = np.zeros(self.size, dtype=np.bool_)
        left = 0
        for i, given in enumerate(self.names):
            left += given is None
            name = f"device-{i}" if given is None else given
            bad[i] = not NAME.allows(name) or first.setdefault(name, i) != i
            names.append(name)

        def say(i: int) -> None:
            name = names[i]
            twin = NAME.allows(name)
            should = f"a name of its own: devices[{first[name]}] has this one" if twin else NAME.should
            self.problems.holds(self.where(i, "name"), name, should)

        self._each(bad, say)
        if left:
            self.defaults.append(f"{NO_NAME} for {left} of {self.size}")
        return tuple(names)

    def _weights(self, samples: Floats) -> Floats:
        """The weights, summing to one; by default each device's share of all samples."""
        column = self.columns.get("weight")
        if column is None or not column.present.any():
            self.defaults.append(NO_WEIGHT)
            return samples if self.problems else shares(samples)
        self._bad_cells("weight", column)
        should = "a weight, as other devices have one: all devices give a weight, or none does"
        self._each(~column.present, lambda i: self.problems.missing(self.where(i, "weight"), should))
        if self.problems:  # a sum over bad cells says nothing
            return column.numbers
        total = math.fsum(column.numbers.tolist())
        if abs(total - 1.0) > WEIGHT_TOLERANCE:
            self.problems.say(
                f"{self.header('weight')}: holds weights that sum to {total:.9g}, should hold weights that sum to 1"
            )
        return shares(column.numbers)


def equal_shares(band_hz: float, count: int) -> Floats:
    """Each device's part of a band that is divided equally, shape (K,)."""
    return np.full(count, band_hz / count)


def shares(parts: Floats) -> Floats:
    """The parts divided by their sum; parts that sum to one within rounding are left as they are.

    Dividing leaves the sum within two roundings of one, so doing it again changes nothing: a scenario that is
    written out and read back keeps its weights to the last bit.
    """
    total = math.fsum(parts.tolist())
    return parts if abs(total - 1.0) <= 2**-51 else parts / total
