"""Which column of a fleet file holds which of a device's keys, and in which unit: the mapping ``columns``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune import units
from pretune.device import QUANTITIES, Device
from pretune.problems import Problems, shown

NAMES_SHOULD = "the name of a column, or {column: clock, unit: MHz}"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a key is found: column number `index`, whose bare numbers are in `unit` (None: in SI)."""

    index: int
    unit: str | None = None


def sources_of(names: Sequence[str], mapping: object, file: str, problems: Problems) -> dict[str, Source]:
    """The column of each key that the file has, by the mapping and, for keys it leaves out, by name.

    With a mapping, columns that are no device's keys are left alone; without one they are errors. What is wrong goes
    into `problems`: a column that is missing, there twice or used for two keys, an unknown key, a unit of another
    dimension.
    """
    wanted = _wanted(mapping, problems)
    found: dict[str, Source] = {}
    used: dict[str, str] = {}
    for key, (name, unit) in wanted.items():
        place = f"columns.{key}"
        if name not in names:
            have = ", ".join(shown(each) for each in names[:12]) + (", ..." if len(names) > 12 else "")
            problems.holds(place, name, f"a column of {file}, which has {have}")
        elif name in used:
            problems.holds(place, name, f"a column of its own: columns.{used[name]} has this one")
        else:
            used[name] = key
            _once(names, name, file, problems)
            found[key] = Source(index=list(names).index(name), unit=unit)
    for index, name in enumerate(names):
        if name in wanted or name in used:
            continue  # its key is taken from another column, or it is that column
        if name in Device.model_fields:
            if name not in found:
                _once(names, name, file, problems)
                found[name] = Source(index=index)
        elif mapping is None and names.index(name) == index:
            _once(names, name, file, problems)
            problems.unknown(f"file {file}", Device.model_fields, name)
    return found


def with_unit(cells: Sequence[object], unit: str | None) -> list[object]:
    """Texts that are bare numbers get the column's unit; one that has a unit of its own keeps it."""
    if unit is None:
        return list(cells)
    found: list[object] = []
    for cell in cells:
        try:
            bare = isinstance(cell, str) and not units.split_quantity(cell)[1]
        except ValueError:
            bare = False
        found.append(f"{cell} {unit}" if bare else cell)
    return found


def _once(names: Sequence[str], name: str, file: str, problems: Problems) -> None:
    count = sum(each == name for each in names)
    if count > 1:
        problems.say(f"file: {file} has the column {shown(name)} {count} times, should have it once")


def _wanted(mapping: object, problems: Problems) -> dict[str, tuple[str, str | None]]:
    """The mapping's keys with column name and unit."""
    wanted: dict[str, tuple[str, str | None]] = {}
    if mapping is None:
        return wanted
    if not isinstance(mapping, Mapping):
        problems.holds("columns", mapping, "a mapping from a device's keys to columns, such as {gain: path_gain}")
        return wanted
    for key, value in mapping.items():
        place = f"columns.{key}"
        if key not in Device.model_fields:
            problems.unknown("columns", Device.model_fields, key)
        elif isinstance(value, str):
            wanted[key] = (value.strip(), None)
        elif not isinstance(value, Mapping):
            problems.holds(place, value, NAMES_SHOULD)
        else:
            entry = _entry(key, value, problems)
            if entry is not None:
                wanted[key] = entry
    return wanted


def _entry(key: str, tree: Mapping[Any, Any], problems: Problems) -> tuple[str, str | None] | None:
    place, before = f"columns.{key}", problems.count
    for each in tree:
        if each not in ("column", "unit"):
            problems.unknown(place, ("column", "unit"), each)
    name, unit = tree.get("column"), tree.get("unit")
    if not isinstance(name, str):
        problems.holds(place, dict(tree), NAMES_SHOULD)
    if unit is not None:
        if key not in QUANTITIES:
            problems.holds(f"{place}.unit", unit, "nothing: a name has no unit")
        elif not isinstance(unit, str) or not _fits(unit, QUANTITIES[key].unit):
            what = QUANTITIES[key].unit
            problems.holds(f"{place}.unit", unit, f"a unit of {what}" if what else "a unit of a pure number, as 'dB'")
    if problems.count > before or not isinstance(name, str):
        return None
    return name.strip(), unit


def _fits(unit: str, si_unit: str) -> bool:
    try:
        units.to_si_column(np.ones(1), unit, si_unit)
    except ValueError:
        return False
    return True
