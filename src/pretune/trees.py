"""Free-form trees: the `task` of a scenario is kept as it is, as long as it is plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pretune.problems import Problems, join

DEEPEST = 32
"""Levels a tree may nest; a deeper one is a mistake, an attack or a cycle."""
MOST_VALUES = 100_000
BIGGEST_INTEGER = 2**63


def plain_tree(value: object, problems: Problems) -> Any:
    """A copy made of dict, list, str, int, float, bool and None; anything else is a problem at its path.

    Tuples become lists and NumPy scalars numbers, so that the copy equals what a file gives.
    """
    return _Copier(problems).copy(value, "", 0)


class _Copier:
    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.left = MOST_VALUES

    def copy(self, value: object, path: str, depth: int) -> Any:
        self.left -= 1
        if self.left == 0:
            self.problems.say(f"{path}: is the end of more than {MOST_VALUES} values")
        if self.left <= 0:
            return None
        if depth > DEEPEST:
            self.problems.say(f"{path}: is nested more than {DEEPEST} levels deep")
            self.left = 0  # once is enough: a cycle would say it forever
            return None
        if isinstance(value, Mapping):
            return self.mapping(value, path, depth)
        if isinstance(value, list | tuple):
            return [self.copy(item, join(path, i), depth + 1) for i, item in enumerate(value)]
        return self.leaf(value.item() if isinstance(value, np.generic) else value, path)

    def mapping(self, value: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        tree = {}
        for key, item in value.items():
            if isinstance(key, str):
                tree[key] = self.copy(item, join(path, key), depth + 1)
            else:
                self.problems.holds(path, key, "keys that are texts")
        return tree

    def leaf(self, value: object, path: str) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            self.problems.holds(path, value, "a finite number")
        elif isinstance(value, int) and abs(value) >= BIGGEST_INTEGER:
            self.problems.holds(path, value, "an integer of at most 63 bits")
        elif value is not None and not isinstance(value, bool | int | float | str):
            self.problems.holds(path, value, "text, a number, true, false, null, a list or a mapping")
        return value
