"""A part of all subsets and rounds, and the ways to cut it in two."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pretune.physics.types import Floats
from pretune.planner.admission_fleet import Mask
from pretune.planner.admission_record import Record
from pretune.planner.kernels.admission import FREE, IN, OUT, Cell, Offer, Part, prove
from pretune.planner.kernels.priced import Region, most_server_batch
from pretune.planner.kernels.rounds import TRAJECTORY
from pretune.planner.problem import Devices, Problem

COARSE = {"n": 1.0, "s": 1.0, "w": 0.3}
"""Sides wider than this (in the logarithm) are cut by width alone: what they lose says little."""
DEVICES = 0.5
"""A device is decided where no side loses more than this share of what is missing without any of them."""

Bid = tuple[float, float, float]
"""What both budgets are worth together, what a second is worth in joules, and what (over the criterion) one device's
time or battery may be worth at the most."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A part of all subsets and rounds; `state` has shape (K,) and is never changed in place."""

    bound: float
    region: Region
    weights: tuple[float, float]
    reach: tuple[int, int]
    """Which of the distinct broadcasts, nearest first, the farthest admitted device may need."""
    state: Floats
    prices: Bid
    inner: Bid
    """The like, for the middle of the node it was cut from."""
    likely: Mask
    """Who is in at the relaxation of the node it was cut from."""
    record: Record

    @property
    def cell(self) -> Cell:
        """Span and weight, as the kernels take them."""
        return Cell(self.region.s1, self.region.s2, *self.weights)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What some prices prove of a node: the prices are as `Node.prices`."""

    bound: float
    offer: Offer
    prices: Bid


def scalable(part: Part) -> bool:
    """Whether the right prices bound all rounds alike: trajectory, and no battery that has to last for them."""
    return bool(part.problem.criterion[0] == TRAJECTORY and np.all(np.isinf(part.problem.devices.battery)))


def widest(node: Node, part: Part) -> str | None:
    """The side that is so wide that it has to be cut whatever it loses, if there is one."""
    region, cell = part.region, part.cell
    widths = {
        "n": 0.0 if scalable(part) else math.log((region.n2 + 1.0) / (region.n1 + 1.0)),
        "s": math.log(cell.s2 / cell.s1),
        "w": math.log(cell.w2 / cell.w1),
    }
    scaled = {key: width / COARSE[key] for key, width in widths.items()}
    side = max(scaled, key=lambda key: scaled[key])
    return side if scaled[side] > 1.0 else None


def middle_of(part: Part) -> Part:
    """The middle of a part's boxes, but for the rounds that cost the bound little (see `scalable`)."""
    region, cell = part.region, part.cell
    s, w = math.sqrt(cell.s1 * cell.s2), math.sqrt(cell.w1 * cell.w2)
    region = region._replace(s1=s, s2=s)
    if not scalable(part):
        n = between(region.n1, region.n2 + 1.0)
        region = region._replace(n1=n, n2=n)
    return part._replace(region=region, cell=Cell(s, s, w, w))


def losses_of(node: Node, part: Part, offer: Offer, levels: Floats) -> dict[str, float]:
    """How much of the bound at the node's middle each side loses, at the same prices."""
    region, cell = part.region, part.cell
    thin = middle_of(part)
    point = float(prove(thin, offer, False)[0])
    only: dict[str, Part] = {}
    if thin.region.n1 == thin.region.n2 and region.n2 > region.n1:
        only["n"] = thin._replace(region=thin.region._replace(n1=region.n1, n2=region.n2))
    if cell.s2 > cell.s1 * (1.0 + 1e-9):
        only["s"] = thin._replace(cell=thin.cell._replace(s1=cell.s1, s2=cell.s2))
    if cell.w2 > cell.w1 * (1.0 + 1e-9):
        only["w"] = thin._replace(cell=thin.cell._replace(w1=cell.w1, w2=cell.w2))
    losses = {key: point - float(prove(one, offer, False)[0]) for key, one in only.items()}
    rounds = thin.region
    if rounds.m2 > rounds.m1:
        m = between(rounds.m1, rounds.m2)
        parts = (rounds._replace(m2=m), rounds._replace(m1=m + 1.0))
        losses["m"] = min(float(prove(thin._replace(region=one), offer, False)[0]) for one in parts) - point
    if rounds.n2 > rounds.n1:
        n = between(rounds.n1, rounds.n2)
        parts = (rounds._replace(n2=n), rounds._replace(n1=n + 1.0))
        losses["n"] = min(float(prove(thin._replace(region=one), offer, False)[0]) for one in parts) - point
    first, last = node.reach
    if last > first:
        limits = part.problem.limits
        far = math.sqrt(float(levels[last]) * limits.down_s)
        farther = limits._replace(down_s=far, down_j=limits.down_j / limits.down_s * far)
        losses["reach"] = float(prove(thin._replace(problem=part.problem._replace(limits=farther)), offer, False)[0])
        losses["reach"] -= point
    return losses


def by_device(node: Node, critical: int, alpha: Floats) -> list[Node]:
    """With and without a device: the critical one, or else the heaviest free one."""
    free = np.flatnonzero(node.state == FREE)
    k = critical if critical in free else int(free[np.argmax(alpha[free])])
    parts = []
    for decided in (IN, OUT):
        state = node.state.copy()
        state[k] = decided
        parts.append(replace(node, state=state))
    return recorded(node, ["d", k], parts)


def recorded(node: Node, entry: list[Any], parts: list[Node]) -> list[Node]:
    """The parts that a node is cut into, with records of their own."""
    records = node.record.cut(entry, len(parts))
    return [replace(part, record=record) for part, record in zip(parts, records, strict=True)]


def halves(kind: str, node: Node, levels: Floats) -> list[Node]:
    """Two halves of one side: m, n (rounds), s (span), w (weight) or reach (of `levels`, the distinct broadcasts)."""
    region, (w1, w2), (first, last) = node.region, node.weights, node.reach
    if kind == "reach":
        middle = float(np.sqrt(levels[first] * levels[last]))
        at = int(np.clip(np.searchsorted(levels, middle), first + 1, last))
        return recorded(node, ["r", at - 1], [replace(node, reach=(first, at - 1)), replace(node, reach=(at, last))])
    if kind == "w":
        middle = math.sqrt(w1 * w2)
        return recorded(node, ["w", middle], [replace(node, weights=(w1, middle)), replace(node, weights=(middle, w2))])
    if kind == "s":
        middle = math.sqrt(region.s1 * region.s2)
        parts = (region._replace(s2=middle), region._replace(s1=middle))
    elif kind == "m":
        middle = between(region.m1, region.m2)
        parts = (region._replace(m2=middle), region._replace(m1=middle + 1.0))
    else:
        middle = between(region.n1, region.n2)
        parts = (region._replace(n2=middle), region._replace(n1=middle + 1.0))
    return recorded(
        node, [kind, middle if kind == "s" else int(middle)], [replace(node, region=part) for part in parts]
    )


def between(a: float, b: float) -> float:
    """A whole number in [a, b - 1] near the geometric mean; `a` where the range holds no more."""
    return max(min(float(math.floor(math.sqrt((a + 1.0) * (b + 1.0)))) - 1.0, b - 1.0), a)


def server_batch(problem: Problem, region: Region, inside: Mask) -> float:
    """The largest whole server batch in a region when the devices `inside` take part, and maybe others."""
    certain = problem._replace(devices=Devices(*(column[inside] for column in problem.devices)))
    return float(most_server_batch(certain, region))


def server_pays(problem: Problem, m: float, n: float, span: float, inside: Mask) -> bool:
    """Whether the server can pay and time `m` rounds of one sample beside `n` rounds of fine-tuning."""
    return m <= 0.0 or server_batch(problem, Region(m, m, n, n, span, span), inside) >= 1.0


def most_pretraining(problem: Problem, low: float, high: float, n: float, span: float, inside: Mask) -> float:
    """Rounds in [low, high] beyond which the server can't pay; it can pay `low`. To about a tenth."""
    if server_pays(problem, high, n, span, inside):
        return high
    while high - low > 1.0 and high > 1.1 * low:
        middle = float(math.floor(math.sqrt((low + 1.0) * (high + 1.0)))) - 1.0
        middle = min(max(middle, low + 1.0), high - 1.0)
        if server_pays(problem, middle, n, span, inside):
            low = middle
        else:
            high = middle
    return high - 1.0
