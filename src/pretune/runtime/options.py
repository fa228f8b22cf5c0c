"""Reading the scenario's `task` section: every key once, every mistake in one line that says where it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pretune.errors import InputError

_REQUIRED = object()


class Options:
    """One section; `done` must be called once everything has been taken.

    All methods raise InputError: ``path.key: holds X, should hold Y``, ``path.key: is missing`` or
    ``path.key: is not a key of ...``.
    """

    def __init__(self, tree: object, path: str = "task") -> None:
        if not isinstance(tree, Mapping):
            raise InputError.field(path, tree, "a section of named values")
        self.tree: Mapping[str, Any] = tree
        self.path = path
        self.taken: list[str] = []

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.tree.get(key) is not None

    def number(self, key: str, default: float, *, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number from `low` to `high`."""
        value = self._take(key, default)
        should = "a number" + _between(low, high)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError.field(f"{self.path}.{key}", value, should)
        if not (math.isfinite(value) and low <= value <= high):
            raise InputError.field(f"{self.path}.{key}", value, should)
        return float(value)

    def whole(self, key: str, default: int, *, low: int = 0, high: int = 2**63 - 1) -> int:
        """A whole number from `low` to `high`."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            should = "a whole number" + _between(low, high if high < 2**63 - 1 else math.inf)
            raise InputError.field(f"{self.path}.{key}", value, should)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise InputError.field(f"{self.path}.{key}", value, "true or false")
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """A text that is not empty."""
        value = self._take(key, default)
        if not isinstance(value, str) or not value:
            raise InputError.field(f"{self.path}.{key}", value, "a text")
        return value

    def one_of(self, key: str, choices: Sequence[str], default: Any = _REQUIRED) -> str:
        """One of the texts `choices`."""
        value = self._take(key, default)
        if value not in choices:
            raise InputError.field(f"{self.path}.{key}", value, "one of " + ", ".join(choices))
        return str(value)

    def wholes(self, key: str, default: Sequence[int], *, low: int, high: int) -> tuple[int, ...]:
        """A list of different whole numbers from `low` to `high`, at least one."""
        values = self._take(key, default)
        fine = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
        fine = fine and all(isinstance(v, int) and not isinstance(v, bool) and low <= v <= high for v in values)
        if not fine or len(set(values)) < len(values):
            should = f"a list of different whole numbers from {low} to {high}"
            raise InputError.field(f"{self.path}.{key}", values, should)
        return tuple(values)

    def section(self, key: str) -> Options:
        """The section under `key`; an absent one is empty."""
        value = self._take(key, None)
        return Options({} if value is None else value, f"{self.path}.{key}")

    def skip(self, key: str) -> None:
        """Leave `key` to somebody else."""
        self.taken.append(key)

    def rest(self) -> dict[str, Any]:
        """All keys not taken yet, as they are."""
        rest = {key: value for key, value in self.tree.items() if key not in self.taken}
        self.taken.extend(rest)
        return rest

    def done(self) -> None:
        """Nothing else may be in the section."""
        for key in self.tree:
            if key not in self.taken:
                known = ", ".join(self.taken)
                raise InputError(f"{self.path}.{key}: is not a key of this section; it has {known}")

    def _take(self, key: str, default: Any) -> Any:
        self.taken.append(key)
        value = self.tree.get(key)
        if value is None:
            if default is _REQUIRED:
                raise InputError(f"{self.path}.{key}: is missing")
            return default
        return value


def _between(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" >= {low:g}"
    if math.isinf(low):
        return f" <= {high:g}"
    return f" from {low:g} to {high:g}"
