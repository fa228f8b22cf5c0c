"""What an experiment measures at: points, each a small plain mapping that is its own key."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from pretune.errors import InputError

Scalar = str | int | float | bool | None
"""What a point's field or a row's cell may hold."""


class Scale(StrEnum):
    """How much is measured: `smoke` in seconds (the test suite), `full` for the page."""

    SMOKE = "smoke"
    FULL = "full"


class Point(Mapping[str, Scalar]):
    """One point of an experiment: names to plain values, unchanging and hashable.

    ``Point(task="digits", seed=3)["seed"]``. Two points with equal fields are equal, whatever the order they were
    given in; `key` is their canonical JSON.

    Raises:
        InputError: a value is none of str, int, finite float, bool and None.
    """

    __slots__ = ("_fields", "key")

    def __init__(self, **fields: Scalar) -> None:
        for name, value in fields.items():
            if not (value is None or type(value) in (str, int, float, bool)):
                raise InputError.field(f"point.{name}", value, "text, a number, true, false or nothing")
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError.field(f"point.{name}", value, "a finite number")
        self._fields = dict(fields)
        self.key = json.dumps(self._fields, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def __getitem__(self, name: str) -> Scalar:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.key == other.key

    def __repr__(self) -> str:
        return "Point(" + ", ".join(f"{name}={value!r}" for name, value in self._fields.items()) + ")"

    def text(self, name: str) -> str:
        """A field that holds text."""
        value = self._fields[name]
        if not isinstance(value, str):
            raise InputError.field(f"point.{name}", value, "text")
        return value

    def integer(self, name: str) -> int:
        """A field that holds a whole number."""
        value = self._fields[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError.field(f"point.{name}", value, "a whole number")
        return value

    def number(self, name: str) -> float:
        """A field that holds a number."""
        value = self._fields[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError.field(f"point.{name}", value, "a number")
        return float(value)


def grid(**values: Iterable[Scalar]) -> list[Point]:
    """All combinations, the last name running fastest: ``grid(task=("digits",), seed=range(5))``."""
    return [Point(**dict(zip(values, cell, strict=True))) for cell in itertools.product(*map(tuple, values.values()))]


def shard_of(experiment: str, point: Point, shards: int) -> int:
    """Which of `shards` parts, from 0 on, a point belongs to: the same on every machine."""
    digest = hashlib.sha256(f"{experiment}\n{point.key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % shards
