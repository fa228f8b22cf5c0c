"""What a scenario that came over the wire may not hold: names of files, code, and fleets without end.

A scenario file on disk may name a fleet file and a task's code; whoever wrote it owns the machine. A scenario that a
page or a script sends may name nothing but the task files that the operator named at the start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pretune.errors import InputError
from pretune.problems import shown
from pretune.studio.requests import Column

_DRAWN = ("count", "seed", "draw")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d{1,9})\]")


def checked(tree: Mapping[str, Any], *, most_devices: int, task_files: Sequence[Path]) -> dict[str, Any]:
    """The tree with its task file (if any) as a whole path.

    Raises:
        InputError: it names a file, or has more devices than allowed; the field is named.
    """
    found = dict(tree)
    devices = found.get("devices")
    if isinstance(devices, Mapping):
        other = next((key for key in devices if key not in _DRAWN), None)  # whatever else there is reads files
        if other is not None:
            where = f"devices.{other}" if isinstance(other, str) and other.isidentifier() else "devices"
            should = "a list of devices, or {count: 50, seed: 0, draw: {...}}; no files of this machine"
            raise InputError.field(where, devices[other], should)
        count = devices.get("count")
        if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
            raise InputError.field("devices.count", count, "a whole number of devices")
        _few(count or 0, "devices.count", most_devices)
    elif isinstance(devices, list | tuple):
        _few(len(devices), "devices", most_devices)
    task = found.get("task")
    if isinstance(task, Mapping):
        found["task"] = _task(task, task_files)
    return found


def _few(count: int, where: str, most: int) -> None:
    if count > most:
        raise InputError(f"{where}: holds {shown(count)} devices, should hold at most {most} in the studio")


def _task(task: Mapping[str, Any], task_files: Sequence[Path]) -> dict[str, Any]:
    found = dict(task)
    if found.get("folder") is not None:
        raise InputError(
            "task.folder: names a folder of this machine, should be left out; PRETUNE_DATA names it at the start"
        )
    given, function = found.get("file"), found.get("function")
    if given is None:
        if function is not None:
            raise InputError("task.function: is code, should be in a file that the studio was given with --task-file")
        return found
    named = next((path for path in task_files if given in (str(path), path.name)), None)
    if named is None:
        known = " or ".join(path.name for path in task_files) or "one that the studio was given with --task-file"
        raise InputError.field("task.file", given, known)
    found["file"] = str(named)
    return found


def changed(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with other values at some paths, such as ``server.max_clock_hz`` or ``devices[3].gain``.

    null takes a key out. The tree itself is changed.

    Raises:
        InputError: a path leads nowhere.
    """
    for path, value in changes.items():
        steps = [key or int(index) for key, index in _STEP.findall(path)]
        if not steps or len(path) > 200 or _written(steps) != path:
            raise InputError(f"changes: {shown(path)} is no path, should be one such as 'server.max_clock_hz'")
        node: Any = tree
        for step in steps[:-1]:
            if isinstance(step, str) and isinstance(node, dict) and node.get(step) is None:
                node[step] = {}
            node = _below(node, step, path)
        last = steps[-1]
        if isinstance(node, dict) and isinstance(last, str):
            if value is None:
                node.pop(last, None)
            else:
                node[last] = value
        elif isinstance(node, list) and isinstance(last, int) and last < len(node):
            node[last] = value
        else:
            raise InputError(f"{path}: is nowhere in the scenario")
    return tree


def _written(steps: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _below(node: Any, step: str | int, path: str) -> Any:
    if isinstance(node, dict) and isinstance(step, str):
        return node[step]
    if isinstance(node, list) and isinstance(step, int) and step < len(node):
        return node[step]
    raise InputError(f"{path}: is nowhere in the scenario")


def rows_of(text: str, columns: Mapping[str, Column] | None, most: int) -> list[dict[str, Any]]:
    """The devices that the text of a CSV file holds, as a scenario's list; empty cells are absent keys.

    Raises:
        InputError: it is no such text, a column that is asked for is missing, or there are too many rows.
    """
    import csv
    import io

    try:
        lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True))
    except csv.Error as error:
        raise InputError(f"fleet.csv: is no CSV text ({error})") from None
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise InputError("fleet.csv: holds no devices, should hold a line of column names and one for each device")
    _few(len(lines) - 1, "fleet.csv", most)
    heads = [head.strip() for head in lines[0]]
    twice = next((head for head in heads if heads.count(head) > 1), None)
    if twice is not None:
        raise InputError(f"fleet.csv: has the column {shown(twice)} more than once, should have it once")
    wanted = {head: Column(key=head) for head in heads} if columns is None else columns
    for head in wanted:
        if head not in heads:
            raise InputError(
                f"fleet.columns: {shown(head)} is no column of the file; there are {', '.join(heads)}"[:300]
            )
    places = [(heads.index(head), column) for head, column in wanted.items()]
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(heads):
            raise InputError(f"fleet.csv: record {number} has {len(line)} cells, should have {len(heads)}")
        rows.append({column.key: _cell(line[i].strip(), column) for i, column in places if line[i].strip()})
    return rows


def _cell(text: str, column: Column) -> Any:
    """A number where it is one; with the column's unit unless the cell has a unit of its own."""
    try:
        number = float(text)
    except ValueError:
        return text
    if column.key == "name":
        return text
    if column.unit:
        return f"{text} {column.unit}"
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
