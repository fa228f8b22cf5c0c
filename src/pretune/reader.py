"""Takes a JSON tree apart: each key once, of the right kind, and the first that is not is named with its place."""

from __future__ import annotations

import math
from typing import Any

from pretune.errors import InputError, field_problem

_REQUIRED = object()


class Reader:
    """Takes the keys of one object of the plan file, each once, and knows where it is."""

    def __init__(self, tree: object, path: str) -> None:
        if not isinstance(tree, dict):
            raise InputError.field(path, tree, "an object of named values")
        self.tree, self.path, self.left = tree, path, set(tree)

    def take(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        """The value of a key, or the default where it is absent.

        Raises:
            InputError: it is missing or of another kind.
        """
        self.left.discard(key)
        if key not in self.tree:
            if default is _REQUIRED:
                raise InputError(f"{self.path}.{key}: is missing")
            return default
        value = self.tree[key]
        wrong = isinstance(value, bool) and kind is not bool
        if kind is float and isinstance(value, int) and not wrong and abs(value) < 10**300:
            value = float(value)
        if kind is int and isinstance(value, int) and not wrong and abs(value) >= 2**63:
            wrong = True
        if wrong or not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
            names = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}
            raise InputError(
                field_problem(f"{self.path}.{key}", value, names.get(kind, "a list" if kind is list else "an object"))
            )
        return value

    def budget(self, key: str) -> float:
        """A number, or null for infinity."""
        if self.tree.get(key, 0) is None:
            self.left.discard(key)
            return math.inf
        return float(self.take(key, float))

    def rows(self, key: str) -> list[Reader]:
        """The objects of a list that may be absent."""
        return [Reader(item, f"{self.path}.{key}[{i}]") for i, item in enumerate(self.take(key, list, []))]

    def done(self) -> None:
        """Refuse keys that nobody took."""
        if self.left:
            raise InputError(f"{self.path}.{min(map(str, self.left))}: is not a key of the plan file")
