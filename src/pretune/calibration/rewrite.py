"""A scenario file with some values replaced, everything else as its author left it.

YAML is changed at the places that matter and nowhere else, as far as its layout allows; where it does not, ruamel
writes the file anew and keeps comments but not all spacing. TOML is written by tomlkit, which keeps both. JSON has
neither. Whatever the way, the new text is read back and must say what it should.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pretune.calibration.yaml_surgery import NotSimple, operate
from pretune.errors import InputError, MissingExtra
from pretune.loader import tree_of

Values = Mapping[str, Mapping[str, Any]]


def rewritten(text: str, suffix: str, values: Values, measured: Mapping[str, Any]) -> str:
    """The text of the file with `values` by section and key, and the section `measured`.

    Raises:
        InputError: the file's layout can't be changed so that it says what it should.
        MissingExtra: TOML without tomlkit.
    """
    wanted = changed(tree_of(text, suffix), values, measured)
    for way in _WAYS[suffix.lower()]:
        try:
            made = way(text, values, measured)
            if tree_of(made, suffix) == wanted:
                return made
        except (NotSimple, InputError):
            continue
    raise InputError("the scenario: can't be rewritten with the measured values; its layout is unusual")


def changed(tree: Mapping[str, Any], values: Values, measured: Mapping[str, Any]) -> dict[str, Any]:
    """The tree that the new text should hold."""
    new = dict(tree)
    for section, part in values.items():
        new[section] = {**(new.get(section) or {}), **{key: _number(value) for key, value in part.items()}}
    new["measured"] = {key: {k: _number(v) for k, v in entry.items()} for key, entry in measured.items()}
    return new


def _number(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_number(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _json(text: str, values: Values, measured: Mapping[str, Any]) -> str:
    indent = re.match(r"\s*\{\s*?\n([ \t]+)", text)
    tree = changed(json.loads(text), values, measured)
    return json.dumps(tree, indent=len(indent[1]) if indent else 2, ensure_ascii=False, allow_nan=False) + "\n"


def toml_library() -> Any:
    """tomlkit.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import tomlkit
    except ImportError:
        raise MissingExtra("train", "tomlkit") from None
    return tomlkit


def _toml(text: str, values: Values, measured: Mapping[str, Any]) -> str:
    tomlkit = toml_library()
    document: Any = tomlkit.parse(text)
    for section, part in values.items():
        if section not in document:
            document[section] = tomlkit.table()
        for key, value in part.items():
            document[section][key] = _number(value)
    table = tomlkit.table(is_super_table=True)
    for key, entry in measured.items():
        table[key] = {k: _number(v) for k, v in entry.items()}
    document["measured"] = table
    return str(tomlkit.dumps(document))


def _ruamel(text: str, values: Values, measured: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 10**6, True
    tree = yaml.load(text)
    for section, part in values.items():
        if tree.get(section) is None:
            tree[section] = {}
        for key, value in part.items():
            tree[section][key] = _number(value)
    tree["measured"] = {key: {k: _number(v) for k, v in entry.items()} for key, entry in measured.items()}
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


_Way = Callable[[str, Values, Mapping[str, Any]], str]
_YAML: list[_Way] = [operate, _ruamel]
_WAYS: dict[str, list[_Way]] = {".json": [_json], ".toml": [_toml], ".yaml": _YAML, ".yml": _YAML}
