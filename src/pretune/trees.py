"""Free-form trees: the `task` of a scenario is kept as it is, as long as it is plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pretune.problems import Problems, join

DEEPEST = 32
"""Levels a tree may nest; a deeper one is a mistake, an attack or a cycle."""
BIGGEST_INTEGER = 2**63


def plain_tree(value: object, path: str, problems: Problems, depth: int = 0) -> Any:
    """A copy made of dict, list, str, int, float, bool and None; anything else is a problem at its path.

    `path` is "" for the root. Tuples become lists and NumPy scalars numbers, so that the copy equals what a file gives.
    """
    if depth > DEEPEST:
        problems.say(f"{path}: is nested more than {DEEPEST} levels deep")
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) >= BIGGEST_INTEGER:
            problems.holds(path, value, "an integer of at most 63 bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            problems.holds(path, value, "a finite number")
        return value
    if isinstance(value, list | tuple):
        return [plain_tree(item, join(path, i), problems, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        tree = {}
        for key, item in value.items():
            if not isinstance(key, str):
                problems.holds(path, key, "keys that are texts")
            else:
                tree[key] = plain_tree(item, join(path, key), problems, depth + 1)
        return tree
    problems.holds(path, value, "text, a number, true, false, null, a list or a mapping")
    return None
