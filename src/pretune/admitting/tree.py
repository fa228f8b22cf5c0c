"""Walks an admission's tree: cuts from all subsets and rounds down to leaves that prices bound.

The tree is a list of entries in preorder, and every entry but a leaf says how the part it stands for is cut, so the
leaves together hold every subset and all rounds whatever the entries are; an entry too few or too many is noticed.

    ["m" | "n" | "s" | "w" | "r", at]   cut the rounds, span, weight or reach (see `node.halves`)
    ["d", k]                            device k is in, or it is out
    ["x", p, inside, outside]           set p bounds the part where one of `inside` is out, or one of `outside` in; one
                                        entry follows, for the rest
    ["p", p]                            leaf: set p bounds it
    ["f"]                               leaf: one subset, which is proven by price sets of its own
    ["e"]                               leaf: its own limits rule all of it out
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pretune.admitting.bound import prove
from pretune.admitting.node import FREE, IN, Node, Part, decided, halves, root, tightened
from pretune.admitting.offers import Offer
from pretune.admitting.roster import Roster
from pretune.errors import InputError

WHERE = "admission.certificate.tree"


def proven(roster: Roster, tree: Sequence[Any], offers: Sequence[Offer]) -> tuple[float, list[bytes]]:
    """The least bound of the leaves, and the subsets (masks, as bytes) that need a proof of their own.

    Raises:
        InputError: an entry can't be read, or entries are missing or too many.
    """
    open_parts: list[Node | None] = [root(roster)]
    least, subsets = math.inf, []
    for i, entry in enumerate(tree):
        if not open_parts:
            raise InputError(f"{WHERE}[{i}]: is one too many, all subsets are covered before it")
        node = open_parts.pop()
        part = None if node is None else tightened(roster, node)
        kind, arguments = _read(entry, len(roster.alpha), len(offers), f"{WHERE}[{i}]")
        if kind in "mnswrd":
            parts = (None, None) if part is None else halves(part.node, kind, arguments[0])
            open_parts += reversed(parts)
        elif kind == "x":
            bound, rest = (math.inf, None) if part is None else _decide(roster, part, offers, arguments, i)
            least = min(least, bound)
            open_parts.append(rest)
        elif part is None:
            continue
        elif kind == "p":
            least = min(least, float(prove(roster, part, _offer(offers, arguments[0], part, i))[0]))
        elif kind == "f" and not np.any(part.node.state == FREE):
            subsets.append((part.node.state == IN).tobytes())
        else:
            raise InputError(f"{WHERE}[{i}]: {'is not empty' if kind == 'e' else 'holds more than one subset'}")
    if open_parts:
        raise InputError(f"{WHERE}: ends before all subsets are covered, a leaf is missing")
    return least, list(dict.fromkeys(subsets))


def _decide(
    roster: Roster, part: Part, offers: Sequence[Offer], arguments: list[Any], i: int
) -> tuple[float, Node | None]:
    """What is proven of the part where a device is not on its side, and the rest of it."""
    offer = _offer(offers, arguments[0], part, i)
    inside, outside = arguments[1], arguments[2]
    there = set(part.who.tolist())
    found = prove(roster, part, offer, [k for k in outside if k in there], [k for k in inside if k in there])
    # a device that has to be in but is ruled out leaves nothing: what it left out is the whole part
    bounds = found if not there.issuperset(inside) else found[1:]
    return float(bounds.min(initial=math.inf)), decided(part.node, inside, outside)


def _offer(offers: Sequence[Offer], which: int, part: Part, i: int) -> Offer:
    offer = offers[which]
    if np.any(offer.place[part.who] < 0):
        raise InputError(f"{WHERE}[{i}]: set {which} has no prices for some of the devices")
    return offer


def _read(entry: Any, count: int, sets: int, where: str) -> tuple[str, list[Any]]:
    """The kind of an entry and its arguments, of the right kinds and in range."""
    wrong = InputError.field(where, str(entry)[:60], "an entry of the tree")
    if not isinstance(entry, list) or not entry or not isinstance(entry[0], str):
        raise wrong
    kind, arguments = entry[0], entry[1:]
    number = len(arguments) == 1 and isinstance(arguments[0], int | float) and not isinstance(arguments[0], bool)
    if kind in ("s", "w") and number and math.isfinite(arguments[0]):
        return kind, arguments
    if kind in ("m", "n", "r") and number and isinstance(arguments[0], int) and abs(arguments[0]) < 2**53:
        return kind, arguments
    if kind == "d" and _whole(arguments, count) and len(arguments) == 1:
        return kind, arguments
    if kind == "p" and _whole(arguments, sets) and len(arguments) == 1:
        return kind, arguments
    if kind in ("e", "f") and not arguments:
        return kind, arguments
    sides = arguments[1:]
    named = len(sides) == 2 and all(isinstance(side, list) and _whole(side, count) for side in sides)
    if kind == "x" and named and _whole(arguments[:1], sets):
        return kind, arguments
    raise wrong


def _whole(values: list[Any], below: int) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < below for v in values)
