"""Measured gains over time: read from CSV, kept as columns."""

from __future__ import annotations

import csv
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretune.fields import Quantity
from pretune.physics.types import Bools, Floats, Ints
from pretune.problems import Problems, Refused, join, refused

COLUMNS = ("device", "time", "gain")
TIME = Quantity(noun="time", unit="s", example="1.5 s", si=1.5, zero=True)
GAIN = Quantity(noun="power ratio", unit="", example="-105 dB", si=3.1e-11, zero=True)
MOST_ROWS = 10_000_000
TRACE_SHOULD = "{file: gains.csv, repeat: false}, a file with the columns device, time and gain"
"""What stands where a trace is read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Channel power gains of some devices as steps in time.

    Device ``names[i]`` has the rows ``begin[i]`` to ``begin[i + 1]`` of `time_s` (rising from 0) and `gain` (zero or
    more). A gain holds from its time until the next; the last time is the end. With `repeat` it then begins anew.
    """

    names: tuple[str, ...]
    begin: Ints
    time_s: Floats
    gain: Floats
    repeat: bool = False

    @property
    def end_s(self) -> Floats:
        """Each device's last time, shape (devices,)."""
        return self.time_s[self.begin[1:] - 1]

    @property
    def lowest(self) -> Floats:
        """Each device's smallest gain, shape (devices,)."""
        found: Floats = np.minimum.reduceat(self.gain, self.begin[:-1])
        return found

    def only(self, names: Container[str]) -> Trace | None:
        """The trace of these devices alone; None where it has none of them."""
        kept = np.array([name in names for name in self.names], dtype=np.bool_)
        if not kept.any():
            return None
        lengths = np.diff(self.begin)
        rows = np.repeat(kept, lengths)
        return Trace(
            names=tuple(name for name in self.names if name in names),
            begin=np.append(0, np.cumsum(lengths[kept])),
            time_s=self.time_s[rows],
            gain=self.gain[rows],
            repeat=self.repeat,
        )

    def ends_before(self, time_s: float) -> tuple[str, float] | None:
        """The first to end of the devices that end before this time, and when; None where none does."""
        end_s = self.end_s
        first = int(end_s.argmin())
        return None if end_s[first] >= time_s else (self.names[first], float(end_s[first]))

    def at(self, time_s: float) -> tuple[Floats, Bools]:
        """The gains at a time, shape (devices,), and for which devices the trace has ended by then."""
        when = np.full(len(self.names), float(time_s))
        over = when > self.end_s
        if self.repeat:
            when, over = np.where(over, np.mod(when, self.end_s), when), np.zeros_like(over)
        low, high = self.begin[:-1].copy(), self.begin[1:].copy()
        while (high - low > 1).any():  # all devices' halvings at once
            middle = (low + high) // 2
            later = self.time_s[middle] <= when  # also where there is one row left: its time is not later
            low, high = np.where(later, middle, low), np.where(later, high, middle)
        return self.gain[low], over

    def to_dict(self) -> dict[str, Any]:
        """The tree that `trace_of` reads back as the same."""
        rows = np.stack([self.time_s, self.gain], axis=1).tolist()
        spans = zip(self.names, self.begin[:-1].tolist(), self.begin[1:].tolist(), strict=True)
        return {"gains": {name: rows[first:last] for name, first, last in spans}, "repeat": self.repeat}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trace) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.names, self.time_s.tobytes(), self.gain.tobytes(), self.repeat))


def trace_of(value: object, base: Path) -> Trace:
    """The trace that ``{file: gains.csv}`` names, or ``{gains: {name: [[time, gain], ...]}}`` holds.

    Raises:
        Refused: with one line per bad field.
    """
    if not isinstance(value, Mapping) or ("file" in value) == ("gains" in value):
        raise refused(value, TRACE_SHOULD)
    problems, repeat = Problems(), value.get("repeat", False)
    for key in value:
        if key not in ("file", "gains", "repeat"):
            problems.unknown("", ("file", "gains", "repeat"), key)
    if not isinstance(repeat, bool):
        problems.holds("repeat", repeat, "true or false")
    problems.refuse()
    rows = _from_file(value["file"], base) if "file" in value else _from_tree(value["gains"])
    trace = _trace(rows, repeat)
    if repeat and not (trace.end_s > 0.0).all():
        name = trace.names[int(trace.end_s.argmin())]
        problems.say(f"repeat: holds true, but {name!r} has one row only; add a later one, its time is the period")
    problems.refuse()
    return trace


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows as they are read, each with the place that an error names."""

    names: list[str]
    time_s: Floats
    gain: Floats
    places: list[str]


def _trace(rows: _Rows, repeat: bool) -> Trace:
    index: dict[str, int] = {}
    device = np.array([index.setdefault(name, len(index)) for name in rows.names], dtype=np.int64)
    order = np.argsort(device, kind="stable")  # each device's rows together, in the order they stand
    device, time_s = device[order], rows.time_s[order]
    first = np.append(True, device[1:] != device[:-1])
    problems = Problems()
    for i in np.flatnonzero(first & (time_s != 0.0)).tolist():
        problems.holds(rows.places[order[i]] + ".time", time_s[i].item(), "0: a device's rows begin at time 0")
    for i in (1 + np.flatnonzero(~first[1:] & ~(np.diff(time_s) > 0.0))).tolist():
        should = f"more than the device's row before, {time_s[i - 1]:g}"
        problems.holds(rows.places[order[i]] + ".time", time_s[i].item(), should)
    problems.refuse()
    begin = np.append(np.flatnonzero(first), len(device)).astype(np.int64)
    return Trace(names=tuple(index), begin=begin, time_s=time_s, gain=rows.gain[order], repeat=repeat)


def _from_tree(tree: object) -> _Rows:
    should = "a mapping from devices' names to lists of [time, gain]"
    if not isinstance(tree, Mapping) or not tree:
        problems = Problems()
        problems.holds("gains", tree, should)
        raise Refused(problems)
    problems = Problems()
    names, times, gains, places = [], [], [], []
    for name, pairs in tree.items():
        path = f"gains.{join('', name)}"
        if not isinstance(name, str) or not isinstance(pairs, list | tuple) or not pairs:
            problems.holds(path, pairs, "a list of [time, gain]")
            continue
        for i, pair in enumerate(pairs):
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                problems.holds(f"{path}[{i}]", pair, "[time, gain]")
                continue
            names.append(name)
            times.append(pair[0])
            gains.append(pair[1])
            places.append(f"{path}[{i}]")
    problems.refuse()
    return _read(names, times, gains, places)


def _from_file(file: object, base: Path) -> _Rows:
    problems = Problems()
    if not isinstance(file, str) or not file.isprintable() or Path(file).suffix.lower() != ".csv":
        problems.holds("file", file, "the path of a .csv file, such as 'gains.csv'")
        problems.refuse()
    label = str(file) if len(str(file)) <= 60 else "..." + str(file)[-57:]
    columns: dict[str, list[Any]] = {key: [] for key in COLUMNS}
    lines: list[str] = []
    try:
        with (base / str(file)).open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            header = [name.strip() for name in next(reader, [])]
            if sorted(header) != sorted(COLUMNS):
                problems.holds("file", ",".join(header), f"a file ({label}) with the columns {', '.join(COLUMNS)}")
                problems.refuse()
            places = [header.index(key) for key in COLUMNS]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header) or len(lines) >= MOST_ROWS:
                    should = f"{len(header)} cells" if len(row) != len(header) else f"at most {MOST_ROWS} rows"
                    problems.holds(f"file {label} line {reader.line_num}", row, should)
                    problems.refuse()
                for key, place in zip(COLUMNS, places, strict=True):
                    columns[key].append(row[place].strip())
                lines.append(f"file {label} line {reader.line_num}")
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, Refused):
            raise
        reason = getattr(error, "strerror", None) or (
            "it is no text in UTF-8" if isinstance(error, ValueError) else error
        )
        problems.say(f"file: {label} can't be read: {reason}")
        problems.refuse()
    if not lines:
        problems.holds("file", label, "a file with at least one row")
        problems.refuse()
    return _read(columns["device"], columns["time"], columns["gain"], lines)


def _read(names: list[str], times: list[Any], gains: list[Any], places: list[str]) -> _Rows:
    problems = Problems()
    found = {}
    for key, mark, cells in (("time", TIME, times), ("gain", GAIN, gains)):
        numbers = mark.read_cells(cells)
        for i in np.flatnonzero(~mark.allows(numbers)).tolist():
            problems.holds(f"{places[i]}.{key}", cells[i], mark.should)
        found[key] = numbers
    for i, name in enumerate(names):
        if not name:
            problems.missing(f"{places[i]}.device", "the name of a device")
    problems.refuse()
    return _Rows(names=names, time_s=found["time"], gain=found["gain"], places=places)
