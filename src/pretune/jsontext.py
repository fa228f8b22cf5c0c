"""JSON with one long list of equal objects in it: written from columns and read into columns, without the objects."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

import numpy as np

ROWS = 10_000
"""Rows in a piece of text."""


def tree_text(
    tree: Mapping[str, Any], indent: int | None, where: tuple[str, str], columns: Mapping[str, Any]
) -> Iterator[str]:
    """The text of `tree` in pieces, as ``json.dumps`` writes it, where the list at `where` holds a row per device.

    `columns` are texts or arrays of numbers of one length; without any the list is written as the tree has it.

    Raises:
        ValueError: a number is not finite.
    """
    outer, inner = (_gap(indent, level) for level in (1, 2))
    for i, (key, value) in enumerate(tree.items()):
        yield ("{" if i == 0 else _comma(indent)) + outer + json.dumps(key) + ": "
        if key != where[0] or not columns:
            yield _nested(value, indent, outer)
            continue
        for j, (name, part) in enumerate(value.items()):
            yield ("{" if j == 0 else _comma(indent)) + inner + json.dumps(name) + ": "
            if name == where[1]:
                yield from _rows_text(columns, indent)
            else:
                yield _nested(part, indent, inner)
        yield outer + "}"
    yield _gap(indent, 0) + "}"


def _gap(indent: int | None, level: int) -> str:
    return "" if indent is None else "\n" + " " * (indent * level)


def _comma(indent: int | None) -> str:
    return ", " if indent is None else ","


def _nested(value: Any, indent: int | None, gap: str) -> str:
    text = json.dumps(value, indent=indent, allow_nan=False)
    return text.replace("\n", gap) if indent is not None else text


def _rows_text(columns: Mapping[str, Any], indent: int | None) -> Iterator[str]:
    """The list of objects whose values are the rows of the columns."""
    size = len(next(iter(columns.values())))
    if size == 0:
        yield "[]"
        return
    gap, inside = _gap(indent, 3), _gap(indent, 4)
    keys = _comma(indent).join(f"{inside}{json.dumps(key)}: %s" for key in columns)
    row = f"{gap}{{{keys}{gap}}}"
    for at in range(0, size, ROWS):
        cells = [_cells(column[at : at + ROWS]) for column in columns.values()]
        yield ("[" if at == 0 else _comma(indent)) + _comma(indent).join(
            [row % cell for cell in zip(*cells, strict=True)]
        )
    yield _gap(indent, 2) + "]"


def _cells(column: Any) -> list[str]:
    """The texts of a column's values."""
    if not isinstance(column, np.ndarray):
        return [encode_basestring_ascii(value) for value in column]
    if not np.all(np.isfinite(column)):
        raise ValueError("Out of range float values are not JSON compliant")
    return [repr(value) for value in column.tolist()]


def plain_columns(rows: Sequence[Any], kinds: Mapping[str, type]) -> dict[str, list[Any]] | None:
    """The columns of objects that all hold exactly these keys with finite values of these kinds.

    A whole number counts as a float. None where some row is anything else: then each has to be looked at.
    """
    if not all(type(row) is dict and len(row) == len(kinds) for row in rows):
        return None
    columns: dict[str, list[Any]] = {}
    for key, kind in kinds.items():
        try:
            column = [row[key] for row in rows]
        except KeyError:
            return None
        found = set(map(type, column))
        if not found <= ({float, int} if kind is float else {kind}):
            return None
        if kind is int and column and not -(2**63) < min(column) <= max(column) < 2**63:
            return None
        if kind is float and any(map(_absurd, column)):
            return None
        columns[key] = column
    return columns


def _absurd(value: float) -> bool:
    return (isinstance(value, int) and abs(value) >= 10**300) or not math.isfinite(value)
