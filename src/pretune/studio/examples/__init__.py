"""The scenarios that come with the studio."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from pretune.errors import InputError
from pretune.loader import tree_of

TITLES = {
    "digits": ("Ten cameras", "Cameras learn to read tilted digits; small enough to run here in seconds."),
    "fading": (
        "Ten cameras, nothing still",
        "The cameras with fading channels: a plan whose budgets hold all the same.",
    ),
    "campus": ("A campus of a hundred", "A hundred drawn devices in a 5G cell, thirty joules each."),
    "tight": ("Too little time", "The cameras with a deadline that nothing can keep: see what would do."),
    "factory": ("Ten thousand sensors", "A large fleet, drawn; planning takes a moment."),
}


@cache
def _text(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def example_tree(name: str) -> dict[str, Any]:
    """The tree of an example.

    Raises:
        InputError: there is no such example.
    """
    if name not in TITLES:
        raise InputError.field("example", name, "one of " + ", ".join(TITLES))
    return tree_of(_text(name), ".yaml", name)
