"""Values of a YAML text replaced where they stand, so that comments, order and alignment stay as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


class NotSimple(Exception):
    """The layout is none that can be changed in place."""


def operate(text: str, values: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Any]) -> str:
    """The text with `values` in their sections and the section `measured` (replaced whole, or put at the end).

    Raises:
        NotSimple: the file is no block mapping, or a value to be replaced spans lines.
    """
    for section, part in values.items():
        for key, value in part.items():
            text = _with(text, section, key, _scalar(value))
    return _with_measured(text, measured)


def _root(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except YAMLError:  # what was put at the end stands behind the mark that ends the document
        raise NotSimple from None
    if root is None or root.id != "mapping" or root.flow_style:
        raise NotSimple
    return root


def _pair(node: Any, key: str) -> tuple[Any, Any] | None:
    return next(((name, value) for name, value in node.value if name.value == key), None)


def _with(text: str, section: str, key: str, value: str) -> str:
    """One value replaced, or put behind the last of its section."""
    pair = _pair(_root(text), section)
    if pair is None:
        return _ended(text) + f"\n{section}:\n  {key}: {value}\n"
    node = pair[1]
    if node.id != "mapping" or not node.value:
        raise NotSimple
    held = _pair(node, key)
    if held is not None:
        return _replaced(text, held[1].start_mark.index, held[1].end_mark.index, value)
    name, last = node.value[-1]
    end = last.end_mark.index
    if node.flow_style:
        return f"{text[:end]}, {key}: {value}{text[end:]}"
    if "\n" in text[last.start_mark.index : end]:
        raise NotSimple
    end = text.find("\n", end)
    end = len(text) if end < 0 else end
    return f"{text[:end]}\n{' ' * name.start_mark.column}{key}: {value}{text[end:]}"


def _replaced(text: str, start: int, end: int, value: str) -> str:
    """The text between two places replaced; a comment behind it stays in its column if there is room."""
    if "\n" in text[start:end] or start == end:
        raise NotSimple
    behind = re.match(r"( +)#", text[end:])
    if behind is not None:
        spaces = max(1, len(behind[1]) + (end - start) - len(value))
        return text[:start] + value + " " * spaces + text[end + len(behind[1]) :]
    return text[:start] + value + text[end:]


def _with_measured(text: str, measured: Mapping[str, Any]) -> str:
    pair = _pair(_root(text), "measured")
    if pair is not None:
        last = pair[1]
        while last.id != "scalar" and last.value:
            last = last.value[-1][1] if last.id == "mapping" else last.value[-1]
        # behind the last value there may be the brackets it stands in, and a comment
        start, end = pair[0].start_mark.index, text.find("\n", last.end_mark.index)
        text = text[:start] + (text[end + 1 :] if end >= 0 else "")
    lines = ["measured:" + " " * 24 + "# by pretune calibrate; the values in use stand above"]
    for key, entry in measured.items():
        lines.append(f"  {key}:")
        lines += [f"    {name}: {_scalar(value)}" for name, value in entry.items()]
    return _ended(text) + "\n" + "\n".join(lines) + "\n"


def _ended(text: str) -> str:
    return text.rstrip("\n") + "\n"


def _scalar(value: Any) -> str:
    """A number, a text or a list of numbers on one line."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return json.dumps(value, ensure_ascii=False)
