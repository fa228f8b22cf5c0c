"""What a search over subsets leaves behind as its proof: the tree of its cuts, and the prices at its leaves.

`pretune.admitting.tree` says what the entries mean and walks them again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.planner.kernels.admission import Offer

_DIGITS = 9


@dataclass(eq=False)
class Record:
    """One part of the search: how it was cut or settled, and what prices proved of it as it was."""

    entry: list[Any] | None = None
    """As in the certificate, without the number of a price set; None while the part is still open."""
    children: list[Record] = field(default_factory=list)
    offer: Offer | None = None
    who: NDArray[np.intp] | None = None
    """The devices that the offer is for."""
    bound: float = -math.inf
    """What the offer proves of the part."""
    alone: float = math.inf
    """What is proven besides the children: of the devices decided, or of the one subset that is left."""

    def price(self, offer: Offer, who: NDArray[np.intp], bound: float) -> None:
        """Keep prices if they prove more than those known."""
        if bound > self.bound:
            self.offer, self.who, self.bound = offer, who, bound

    def cut(self, entry: list[Any], count: int) -> list[Record]:
        """The records of the parts that this one is cut into."""
        self.entry, self.children = entry, [Record() for _ in range(count)]
        return self.children


def settle(root: Record) -> float:
    """What the records prove in all; parts whose own prices prove as much as their children become leaves."""
    order, stack = [], [root]
    while stack:
        record = stack.pop()
        order.append(record)
        stack += record.children
    values: dict[int, float] = {}
    for record in reversed(order):
        value = -math.inf
        if record.entry is not None:
            value = min([record.alone, *(values[id(child)] for child in record.children)])
        if record.entry is None or (record.bound >= value and record.entry != ["e"]):
            record.entry, record.children, record.alone = ["p"], [], record.bound
            value = record.bound
        values[id(record)] = value
    return values[id(root)]


def written(root: Record, battery: NDArray[np.float64]) -> tuple[list[Any], list[dict[str, Any]]]:
    """The entries of the tree in preorder, and the price sets that they name."""
    tree: list[Any] = []
    prices: list[dict[str, Any]] = []
    stack = [root]
    while stack:
        record = stack.pop()
        entry = list(record.entry or ["p"])
        if entry[0] in ("p", "x") and record.offer is not None and record.who is not None:
            entry.insert(1, len(prices))
            prices.append(_entry(record.offer, record.who, battery))
        tree.append(entry)
        stack += reversed(record.children)
    return tree, prices


def _entry(offer: Offer, who: NDArray[np.intp], battery: NDArray[np.float64]) -> dict[str, Any]:
    """A price set as the certificate holds it, rounded: any prices prove something."""
    lam = offer.energy
    shares = offer.shares / lam
    limited = offer.refunds > 0.0
    ratios = np.where(limited, 1.0 + offer.refunds / (lam * np.where(limited, battery[who], 1.0)), 1.0)
    entry: dict[str, Any] = {
        "energy": _short(lam),
        "omega": _short(offer.delay / lam),
        "devices": who.tolist(),
        "shares": [_short(value) for value in shares.tolist()],
    }
    if limited.any():
        entry["ratios"] = [max(_short(value), 1.0) for value in ratios.tolist()]
    return entry


def _short(value: float) -> float:
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e6 else short
