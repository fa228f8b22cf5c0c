"""All devices as read-only columns.

A fleet of a million devices is eleven NumPy arrays, not a million objects; a `Device` is made when one is asked for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.columns import WEIGHT_TOLERANCE, Column, Table, equal_shares, place, read_column
from pretune.device import QUANTITIES, REQUIRED, Device
from pretune.display import html_of
from pretune.parts import mapping_of
from pretune.physics.types import Floats, Ints
from pretune.problems import Problems, Refused

__all__ = ["COLUMNS", "Device", "Fleet", "fleet_from_rows"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Fleet:
    """All devices as columns of shape (K,), in SI units, read-only.

    `weight` sums to one; `battery_j` is infinite where a device has no limit. `given_names` is None for a fleet
    whose devices are called device-0, device-1, ...; `names` are the names either way. `defaults` are the keys
    that took a physical default, as lines ``devices.static_power_w = 0.0``. `uplink_hz` is the band that all devices
    share, and `bandwidth_hz` then an equal part of it for each; None where each has a bandwidth of its own. `asked`, of
    shape (K,), is how likely each device is asked in a fine-tuning round; None where all are asked in every round.

    The constructor takes finished columns. `from_columns` and `from_rows` also take texts with units, and fill in
    defaults.
    """

    capacitance: Floats
    flops_per_cycle: Floats
    max_clock_hz: Floats
    static_power_w: Floats
    max_power_w: Floats
    circuit_power_w: Floats
    gain: Floats
    bandwidth_hz: Floats
    samples: Ints
    weight: Floats
    battery_j: Floats
    given_names: tuple[str, ...] | None = None
    defaults: tuple[str, ...] = ()
    uplink_hz: float | None = None
    asked: Floats | None = None

    def __post_init__(self) -> None:
        problems, size = Problems(), np.size(self.capacitance)
        for key in COLUMNS:
            column: NDArray[Any] = np.array(getattr(self, key), dtype=np.int64 if key == "samples" else np.float64)
            if column.shape != (size,) or size == 0:
                raise ValueError(f"Fleet.{key} has the shape {column.shape}, should have ({max(size, 1)},)")
            bad = ~QUANTITIES[key].allows(column.astype(np.float64, copy=False))
            if key == "battery_j":
                bad &= ~np.isposinf(column)
            if bad.any():
                first = int(bad.argmax())
                problems.holds(f"[{first}].{key}", column[first].item(), QUANTITIES[key].should)
            column.flags.writeable = False
            object.__setattr__(self, key, column)
        if not problems and abs(self.weight.sum() - 1.0) > WEIGHT_TOLERANCE:
            problems.holds("weight", self.weight.sum().item(), "weights that sum to 1")
        if self.given_names is not None and len(self.given_names) != size:
            problems.holds("name", self.given_names, f"{size} names")
        if self.asked is not None:
            asked = np.array(self.asked, dtype=np.float64)
            if asked.shape != (size,) or not ((asked > 0.0) & (asked <= 1.0)).all():
                raise ValueError("Fleet.asked: should hold a probability above 0 for each device")
            asked.flags.writeable = False
            object.__setattr__(self, "asked", asked)
        if problems:
            raise problems.error("devices")

    def __len__(self) -> int:
        return len(self.capacitance)

    def __getitem__(self, index: int) -> Device:
        if not -len(self) <= index < len(self):
            raise IndexError(f"the fleet has {len(self)} devices, there is no {index}")
        values: dict[str, Any] = {key: getattr(self, key)[index].item() for key in COLUMNS}
        if math.isinf(values["battery_j"]):
            values["battery_j"] = None
        if self.uplink_hz is not None:
            del values["bandwidth_hz"]
        name = f"device-{index % len(self)}" if self.given_names is None else self.given_names[index]
        return Device.model_construct(name=name, **values)

    def __iter__(self) -> Iterator[Device]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fleet) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<Fleet of {len(self)} device{'s' * (len(self) != 1)} with {int(self.samples.sum())} samples>"

    def _repr_html_(self) -> str:
        return html_of(self, "fleet_html")

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor: unpickled arrays would be writeable.
        return _rebuilt, ({field.name: getattr(self, field.name) for field in fields(self)},)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The devices' names; made when first asked for."""
        return self.given_names or tuple([f"device-{i}" for i in range(len(self))])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names and columns, the same on every machine."""
        total = hashlib.sha256("\n".join(self.names).encode())
        for key in COLUMNS:
            column = getattr(self, key)
            total.update(f"\n{key}\n".encode() + column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
        return total.hexdigest()

    def to_rows(self) -> list[dict[str, Any]]:
        """The devices as the scenario file writes them, every key spelled out."""
        columns = {key: getattr(self, key).tolist() for key in COLUMNS}
        columns["battery_j"] = [None if math.isinf(value) else value for value in columns["battery_j"]]
        if self.uplink_hz is not None:
            del columns["bandwidth_hz"]
        keys = ("name", *columns)
        return [dict(zip(keys, row, strict=True)) for row in zip(self.names, *columns.values(), strict=True)]

    def sharing(self, uplink_hz: float) -> Fleet:
        """The same devices on another band that they share."""
        if uplink_hz == self.uplink_hz:
            return self
        return replace(self, uplink_hz=uplink_hz, bandwidth_hz=equal_shares(uplink_hz, len(self)))

    @staticmethod
    def from_columns(count: int | None = None, *, uplink_hz: float | None = None, **columns: Any) -> Fleet:
        """A fleet from columns named like a device's keys (`name` for the names).

        A column is a sequence or an array of length K, or one value for all devices; optional ones may be left
        out. `count` is K, needed only if no column has a length. With `uplink_hz` the devices share a band (Hz), and
        there is no column `bandwidth_hz`.

        Raises:
            InputError: a column is missing, unknown or of another length, or holds a bad value.
        """
        try:
            return Fleet(**_table_from_columns(count, columns, uplink_hz).checked())
        except Refused as bad:
            raise bad.problems.error("devices") from None

    @staticmethod
    def from_rows(rows: Iterable[Device | Mapping[str, Any]], *, uplink_hz: float | None = None) -> Fleet:
        """A fleet from devices, or from mappings with a device's keys; `uplink_hz` is the band they share, if any.

        Raises:
            InputError: one line per bad field.
        """
        try:
            return fleet_from_rows(list(rows), uplink_hz)
        except Refused as bad:
            raise bad.problems.error("devices") from None


def _rebuilt(values: dict[str, Any]) -> Fleet:
    return Fleet(**values)


COLUMNS = tuple(
    field.name for field in fields(Fleet) if field.name not in ("given_names", "defaults", "uplink_hz", "asked")
)
"""The numeric columns of a fleet."""


def fleet_from_rows(
    rows: Sequence[object], uplink_hz: float | None = None, where: Callable[[int, str], str] = place
) -> Fleet:
    """A fleet from a list of mappings or devices; `uplink_hz` is the band they share, if any.

    `where` turns a row and a key into the path that an error names.

    Raises:
        Refused: with one line per bad field.
    """
    problems, size = Problems(), len(rows)
    cells: dict[str, list[object]] = {key: [None] * size for key in Device.model_fields}
    present = {key: np.zeros(size, dtype=np.bool_) for key in Device.model_fields}
    broken = np.zeros(size, dtype=np.bool_)
    absent = ("name", "weight") if uplink_hz is None else ("name", "weight", "bandwidth_hz")  # where null is nothing
    for i, row in enumerate(rows):
        tree = row.model_dump(exclude_unset=True) if isinstance(row, Device) else row
        if not isinstance(tree, Mapping):
            problems.holds(f"[{i}]", row, mapping_of(Device))
            broken[i] = True
            continue
        for key, value in tree.items():
            if key not in cells:
                problems.unknown(f"[{i}]", cells, key)
            elif value is not None or key not in absent:
                cells[key][i] = value
                present[key][i] = True
    columns = {}
    for key in QUANTITIES:
        if broken.any() and (key in REQUIRED or present[key].any()):  # what is no device at all has no missing keys
            present[key] |= broken
            cells[key] = [1 if broken[i] else cell for i, cell in enumerate(cells[key])]
        if present[key].any() or key in REQUIRED:
            columns[key] = read_column(key, cells[key], present[key])
    if uplink_hz is not None and not present["bandwidth_hz"][~broken].any():
        columns.pop("bandwidth_hz", None)
    table = Table(size=size, columns=columns, names=cells["name"], problems=problems, uplink_hz=uplink_hz, where=where)
    return Fleet(**table.checked())


def _table_from_columns(count: int | None, columns: Mapping[str, Any], uplink_hz: float | None) -> Table:
    lengths = {len(value) for value in columns.values() if _has_length(value)} | (
        {count} if count is not None else set()
    )
    problems = Problems()
    if len(lengths) != 1:
        found = " and ".join(map(str, sorted(lengths))) or "none"
        problems.say(f": holds columns of the lengths {found}, should hold columns of one length")
        problems.refuse()
    size = lengths.pop()
    table: dict[str, Column] = {}
    names = None
    for key, value in columns.items():
        cells = value if _has_length(value) else [value] * size
        if key == "name":
            names = [None] * size if value is None else list(cells)
        elif key not in QUANTITIES:
            problems.unknown("", Device.model_fields, key)
        elif value is not None:
            numeric = isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu"
            if key == "battery_j":  # here, as in a fleet's own column, infinity is no limit
                cells, numeric = [None if cell == math.inf else cell for cell in list(cells)], False
            table[key] = read_column(key, cells if numeric else list(cells), np.ones(size, dtype=np.bool_))
    return Table(size=size, columns=table, names=names, problems=problems, uplink_hz=uplink_hz)


def _has_length(value: object) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)
