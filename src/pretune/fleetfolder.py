"""A fleet from a folder of device entries, as `pretune profile` writes them: one YAML, TOML or JSON file a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretune.device import QUANTITIES, REQUIRED, Device
from pretune.errors import InputError
from pretune.fleet import Fleet, fleet_from_rows
from pretune.loader import read_tree
from pretune.problems import Problems, shown

ENTRY_FORMAT = 1
ENTRY_KEY = "pretune_profile"
SUFFIXES = (".yaml", ".yml", ".toml", ".json")
LIKELY = "a device entry, as `pretune profile` writes it"


def fleet_from_folder(spec: Mapping[Any, Any], base: Path, uplink_hz: float | None = None) -> Fleet:
    """The fleet that ``{folder: profiles/}`` names, in the order of the files' names; a relative path starts at `base`.

    A key that is null in an entry is one that nobody has measured or given: what a device can't do without is asked
    for in one line a file. `uplink_hz` is the band that the devices share, if any.

    Raises:
        Refused: the folder holds no entries, or one line per bad file or field.
    """
    problems = Problems()
    for key in spec:
        if key != "folder":
            problems.unknown("", ["folder"], key)
    problems.refuse()
    folder = spec["folder"]
    if not isinstance(folder, str) or not folder.isprintable() or not folder.strip():
        problems.holds("folder", folder, "the path of a folder of device entries, such as 'profiles'")
        problems.refuse()
    try:
        files = sorted(file for file in (base / folder).iterdir() if file.suffix.lower() in SUFFIXES)
    except (OSError, ValueError) as error:
        problems.say(f"folder: {folder} can't be read: {getattr(error, 'strerror', None) or error}")
        problems.refuse()
    if not files:
        problems.holds("folder", folder, f"a folder with device entries ({', '.join(SUFFIXES)}); there are none in it")
        problems.refuse()
    rows = [row for file in files if (row := _row(file, problems, uplink_hz)) is not None]
    problems.refuse()
    return fleet_from_rows(rows, uplink_hz, where=lambda i, key: f"[{i}].{key} ({files[i].name})")


def load_entry(path: Path) -> Device:
    """The device of one entry.

    Raises:
        InputError: the file can't be read, is no device entry, or leaves out what a device can't do without.
    """
    problems = Problems()
    row = _row(path, problems, None)
    if row is None:
        raise problems.error()
    return Fleet.from_rows([row])[0]


def _row(file: Path, problems: Problems, uplink_hz: float | None) -> dict[str, Any] | None:
    """The device's keys of one entry, or None and a line that says why not."""
    label = file.name if file.name.isprintable() else shown(file.name)
    try:
        tree = read_tree(file)
    except InputError as error:
        for line in error.problems:
            problems.say(line)
        return None
    device = tree.get("device")
    if tree.get(ENTRY_KEY) != ENTRY_FORMAT or isinstance(tree.get(ENTRY_KEY), bool) or not isinstance(device, Mapping):
        problems.say(f"{label}: should hold {LIKELY}: the keys {ENTRY_KEY}: {ENTRY_FORMAT} and device")
        return None
    unknown = [key for key in device if key not in Device.model_fields]
    for key in unknown:
        problems.unknown(f"{label}: device", Device.model_fields, key)
    if unknown:
        return None
    row = {str(key): value for key, value in device.items() if value is not None}
    row.setdefault("name", file.stem)
    # a radio that is in error is not there (NaN): then nobody knows who has a bandwidth
    needed = REQUIRED if uplink_hz is None else REQUIRED - {"bandwidth_hz"}
    lacking = [key for key in Device.model_fields if key in needed and key not in row]
    if lacking:
        example = QUANTITIES[lacking[0]]
        such = example.example or f"{example.si:g}"
        problems.say(
            f"{label}: {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not measured, so you should give "
            f"{'it' if len(lacking) == 1 else 'them'} under device, such as {lacking[0]}: {such}"
        )
        return None
    return row
