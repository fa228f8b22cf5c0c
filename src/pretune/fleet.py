"""The devices: one of them as a model, all of them as read-only columns.

A fleet of a million devices is ten NumPy arrays, not a million objects; a `Device` is made when one is asked for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pretune.fields import Quantity, Text
from pretune.parts import Part
from pretune.physics.types import Floats, Ints
from pretune.problems import Problems, Refused, join

WEIGHT_TOLERANCE = 1e-6


class Device(Part):
    """One edge device: its processor, its radio link, its data."""

    name: Annotated[str | None, Text(noun="a name", example="cam-1")] = Field(
        default=None, description="Name, unique in the fleet; `device-<i>` by default."
    )
    capacitance: Annotated[float, Quantity(noun="capacitance", unit="W/Hz^3", example="1e-28 W/Hz^3", si=1e-28)] = (
        Field(description="Effective switched capacitance κ: the processor draws κ f³ while computing.")
    )
    flops_per_cycle: Annotated[
        float, Quantity(noun="number of operations", unit="flop/cycle", example="8 FLOP/cycle", si=8)
    ] = Field(description="Floating-point operations per clock cycle, C.")
    max_clock_hz: Annotated[float, Quantity(noun="frequency", unit="Hz", example="1.2 GHz", si=1.2e9)] = Field(
        description="Highest clock."
    )
    static_power_w: Annotated[float, Quantity(noun="power", unit="W", example="50 mW", si=0.05, zero=True)] = Field(
        default=0.0, description="Power drawn while computing, beside κ f³."
    )
    max_power_w: Annotated[float, Quantity(noun="power", unit="W", example="23 dBm", si=0.2)] = Field(
        description="Highest transmit power."
    )
    circuit_power_w: Annotated[float, Quantity(noun="power", unit="W", example="50 mW", si=0.05, zero=True)] = Field(
        default=0.0, description="Power drawn while transmitting, beside the transmit power."
    )
    gain: Annotated[float, Quantity(noun="power ratio", unit="", example="-105 dB", si=3.1e-11)] = Field(
        description="Channel power gain g between device and server, the same both ways."
    )
    bandwidth_hz: Annotated[float, Quantity(noun="frequency", unit="Hz", example="2 MHz", si=2e6)] = Field(
        description="Uplink bandwidth: the device's own share with FDMA, the whole band in its turn with TDMA."
    )
    samples: Annotated[int, Quantity(noun="of samples", unit="", si=600, whole=True)] = Field(
        description="Samples in the device's data set: the largest batch."
    )
    weight: Annotated[float, Quantity(noun="weight", unit="", si=0.1, most=1.0)] | None = Field(
        default=None,
        description="Weight α of the device in the objective; all devices give one and they sum to one, or none does: "
        "`samples / sum(samples)`.",
    )
    battery_j: Annotated[float, Quantity(noun="energy", unit="J", example="0.5 Wh", si=1800)] | None = Field(
        default=None, description="Energy the device may spend over all rounds; null for no limit."
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Fleet:
    """All devices as columns of shape (K,), in SI units, read-only.

    `weight` sums to one; `battery_j` is infinite where a device has no limit. `given_names` is None for a fleet
    whose devices are called device-0, device-1, ...; `names` are the names either way.
    Build one with `Fleet.from_columns`, which takes numbers, texts with units and physical defaults.
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
    """The keys that took a physical default, as lines ``devices.battery_j = null``."""

    def __post_init__(self) -> None:
        count = np.shape(self.capacitance)
        for key in COLUMNS:
            kind = np.int64 if key == "samples" else np.float64
            column = np.array(getattr(self, key), dtype=kind)
            if column.ndim != 1 or column.shape != count:
                raise ValueError(f"Fleet.{key} has shape {column.shape}, should have {count}")
            column.flags.writeable = False
            object.__setattr__(self, key, column)

    def __len__(self) -> int:
        return len(self.capacitance)

    def __getitem__(self, index: int) -> Device:
        if not -len(self) <= index < len(self):
            raise IndexError(f"the fleet has {len(self)} devices, there is no {index}")
        values: dict[str, Any] = {key: getattr(self, key)[index].item() for key in COLUMNS}
        if math.isinf(values["battery_j"]):
            values["battery_j"] = None
        name = f"device-{index % len(self)}" if self.given_names is None else self.given_names[index]
        return Device.model_construct(name=name, **values)

    def __iter__(self) -> Iterator[Device]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fleet) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<Fleet of {len(self)} device{'s' * (len(self) != 1)}, {self.samples.sum()} samples>"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The devices' names; made when asked for."""
        return self.given_names or tuple([f"device-{i}" for i in range(len(self))])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of names and columns, the same on every machine."""
        total = hashlib.sha256("\0".join(self.names).encode())
        for key in COLUMNS:
            column = getattr(self, key)
            total.update(key.encode() + column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
        return total.hexdigest()

    def to_rows(self) -> list[dict[str, Any]]:
        """The devices as the scenario file writes them, every key spelled out."""
        columns = {key: getattr(self, key).tolist() for key in COLUMNS}
        columns["battery_j"] = [None if math.isinf(value) else value for value in columns["battery_j"]]
        keys = ("name", *columns)
        return [dict(zip(keys, row, strict=True)) for row in zip(self.names, *columns.values(), strict=True)]

    @staticmethod
    def from_columns(count: int | None = None, **columns: Any) -> Fleet:
        """A fleet from columns named like the device's keys (`name` for the names).

        A column is a sequence of length K or one value for all; optional ones may be left out. `count` is K,
        needed only if no column is a sequence.

        Raises:
            InputError: a column is missing, unknown, of another length, or holds a bad value.
        """
        try:
            return _from_columns(count, columns)
        except Refused as refused:
            raise refused.problems.error() from None

    @staticmethod
    def from_rows(rows: Iterable[Device | Mapping[str, Any]]) -> Fleet:
        """A fleet from devices, or from mappings with a device's keys.

        Raises:
            InputError: one line per bad field.
        """
        try:
            return fleet_from_rows(list(rows))
        except Refused as refused:
            raise refused.problems.error() from None


COLUMNS = tuple(field.name for field in fields(Fleet) if field.name not in ("given_names", "defaults"))
REQUIRED = tuple(key for key, field in Device.model_fields.items() if field.is_required())


def quantity_of(key: str) -> Quantity:
    """The range and unit of a device's key, from the field of `Device`."""
    return _QUANTITIES[key]


def _find_quantities() -> dict[str, Quantity]:
    found = {}
    for key, field in Device.model_fields.items():
        marks = [
            *field.metadata,
            *(mark for arg in getattr(field.annotation, "__args__", ()) for mark in getattr(arg, "__metadata__", ())),
        ]
        found |= {key: mark for mark in marks if isinstance(mark, Quantity)}
    return found


_QUANTITIES = _find_quantities()


@dataclass(kw_only=True)
class Column:
    """Cells of one key: texts and numbers as read, and which of them are there at all."""

    cells: Sequence[object] | Floats
    present: NDArray[np.bool_]


Where = Callable[[int, str], str]
"""From a device's index and a key to the path that an error names."""


def in_devices(index: int, key: str) -> str:
    """The path of a cell of a device list."""
    return f"devices[{index}].{key}"


def _from_columns(count: int | None, columns: Mapping[str, Any]) -> Fleet:
    problems = Problems()
    lengths = {len(value) for value in columns.values() if _is_column(value)}
    if count is not None:
        lengths.add(count)
    if len(lengths) != 1:
        problems.say(f"devices: columns have the lengths {sorted(lengths)}, should all have one length")
        problems.refuse()
    size = lengths.pop()
    table = {}
    for key, value in columns.items():
        cells = value if _is_column(value) else [value] * size
        if isinstance(cells, np.ndarray) and cells.dtype.kind not in "fiu":
            cells = cells.tolist()
        if isinstance(cells, np.ndarray):
            table[key] = Column(cells=cells.astype(np.float64), present=np.ones(size, dtype=np.bool_))
        else:
            table[key] = Column(cells=cells, present=np.array([cell is not None for cell in cells], dtype=np.bool_))
    return build_fleet(size, table, in_devices, problems)


def _is_column(value: object) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)


def fleet_from_rows(rows: Sequence[object]) -> Fleet:
    """A fleet from a list of mappings or devices; raises `Refused`."""
    problems = Problems()
    cells: dict[str, list[object]] = {key: [None] * len(rows) for key in Device.model_fields}
    present = {key: np.zeros(len(rows), dtype=np.bool_) for key in Device.model_fields}
    for i, row in enumerate(rows):
        tree = row.model_dump(exclude_unset=True) if isinstance(row, Device) else row
        if not isinstance(tree, Mapping):
            problems.holds(f"devices[{i}]", row, f"a mapping with the keys {', '.join(cells)}")
            continue
        for key, value in tree.items():
            if key not in cells:
                problems.unknown(f"devices[{i}]", key, cells)
            elif value is not None or key not in ("name", "weight", "battery_j"):
                cells[key][i] = value
                present[key][i] = True
        for key in REQUIRED:
            if key not in tree:
                problems.missing(f"devices[{i}].{key}", quantity_of(key).should)
                present[key][i] = True  # said once is enough: let the column skip it
                cells[key][i] = 1
    table = {key: Column(cells=cells[key], present=present[key]) for key in cells if present[key].any()}
    return build_fleet(len(rows), table, in_devices, problems)


def build_fleet(size: int, table: Mapping[str, Column], where: Where, problems: Problems) -> Fleet:
    """Check every column by the rules of `Device`, fill the defaults, and make the fleet.

    Raises:
        Refused: with one line per bad cell, on top of the `problems` found before.
    """
    if size < 1:
        problems.holds("devices", [], "at least one device")
        problems.refuse()
    defaults: list[str] = []
    filled: dict[str, Any] = {}
    for key in table.keys() - Device.model_fields.keys():
        problems.unknown("devices", key, Device.model_fields)
    for key in COLUMNS:
        quantity, column = quantity_of(key), table.get(key)
        if column is None and key in REQUIRED:
            if not problems:
                problems.missing(f"devices.{key}", quantity.should)
            continue
        filled[key] = _fill(key, column, size, where, problems, defaults)
    names = _names(table.get("name"), size, where, problems, defaults)
    problems.refuse()
    filled["weight"] = _weights(filled, table.get("weight"), size, where, problems, defaults)
    problems.refuse()
    return Fleet(**filled, given_names=names, defaults=tuple(defaults))


def _fill(key: str, column: Column | None, size: int, where: Where, problems: Problems, defaults: list[str]) -> Floats:
    """One numeric column, checked; absent cells take the physical default."""
    quantity = quantity_of(key)
    absent = math.inf if key == "battery_j" else 1.0 if key == "weight" else Device.model_fields[key].default
    if column is None:
        if key != "weight":
            defaults.append(f"devices.{key} = {'null' if key == 'battery_j' else absent}")
        return np.full(size, absent)
    rows = np.flatnonzero(column.present)
    values = (
        column.cells[rows]
        if isinstance(column.cells, np.ndarray)
        else quantity.read_cells([column.cells[i] for i in rows.tolist()])
    )
    bad = rows[~quantity.allows(values)]
    for i in bad[:50].tolist():
        cell = column.cells[i]
        problems.holds(where(i, key), cell.item() if isinstance(cell, np.generic) else cell, quantity.should)
    problems.count += len(bad[50:])
    if len(rows) == size:
        return values
    left = size - len(rows)
    if key in REQUIRED:
        gaps = np.flatnonzero(~column.present)
        for i in gaps[:50].tolist():
            problems.missing(where(i, key), quantity.should)
        problems.count += len(gaps[50:])
        absent = 1.0
    elif key != "weight":
        defaults.append(f"devices.{key} = {'null' if key == 'battery_j' else absent} for {left} of {size}")
    full = np.full(size, absent)
    full[rows] = values
    return full


def _names(
    column: Column | None, size: int, where: Where, problems: Problems, defaults: list[str]
) -> tuple[str, ...] | None:
    """The names, checked to be unique; None if no device gives one."""
    rule = Text(noun="a name", example="cam-1")
    if column is None or not column.present.any():
        defaults.append("devices.name = device-<i>")
        return None
    cells = list(column.cells)
    seen: dict[object, int] = {}
    names: list[str] = []
    for i, there in enumerate(column.present.tolist()):
        name = cells[i] if there else f"device-{i}"
        if not rule.allows(name):
            problems.holds(where(i, "name"), name, rule.should)
        elif name in seen:
            problems.holds(where(i, "name"), name, f"a name of its own, {join('devices', seen[name])} has this one")
        else:
            seen[name] = i
        names.append(str(name) if isinstance(name, str) else "")
    left = size - int(column.present.sum())
    if left:
        defaults.append(f"devices.name = device-<i> for {left} of {size}")
    return tuple(names)


def _weights(
    filled: Mapping[str, Any],
    column: Column | None,
    size: int,
    where: Where,
    problems: Problems,
    defaults: list[str],
) -> Floats:
    """The weights, summing to one; by default each device's share of all samples."""
    if column is None or not column.present.any():
        defaults.append("devices.weight = samples / sum(samples)")
        samples: Floats = filled["samples"]
        return samples / math.fsum(samples.tolist())
    if not column.present.all():
        for i in np.flatnonzero(~column.present)[:20].tolist():
            problems.missing(where(i, "weight"), "a weight, as other devices have one (all give a weight, or none)")
    weight: Floats = filled["weight"]
    total = math.fsum(weight.tolist())
    if not problems and abs(total - 1.0) > WEIGHT_TOLERANCE:
        problems.say(f"devices.weight: holds weights that sum to {total:.9g}, should hold weights that sum to 1")
    # Dividing leaves the sum within two roundings of one; leave such a sum alone, so that writing and reading repeat.
    return weight if abs(total - 1.0) <= 2**-51 else weight / total
