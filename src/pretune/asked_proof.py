"""Proves a lower bound over all probabilities with which devices may be asked, from prices and nothing else.

All rounds and spans (for final also the spread of the probabilities, in slices) are cut into boxes until some prices
prove of each that nothing in it is worth less than the claim (`pretune.asked_bounds`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.asked_bounds import Asking, Sets, asking_of, bound, set_of, spread_end, stacked
from pretune.convergence.criteria import Final
from pretune.errors import InputError
from pretune.figures import SAME, Boxes, System, system_of
from pretune.frontier import between
from pretune.physics.types import Floats
from pretune.plans import Plan
from pretune.price_sets import priced
from pretune.proof import check_multipliers
from pretune.scenario import Scenario

MOST_BOXES = 20_000
MOST_LEVELS = 200
MOST_CELLS = 1_000_000
ASKED = 12
"""Price sets that a box asks beside those that settled most."""
_THIN = 1e-6
_TOGETHER = 6
Probe = Callable[[Floats, tuple[float, float]], "dict[str, Any] | None"]
"""From a box (six numbers) and a slice to a new price set's row."""
Order = NDArray[np.intp]


def cover(
    asking: Asking,
    sets: Sets,
    edges: list[float],
    *,
    deadline: float = math.inf,
    probe: Probe | None = None,
    probes: int = 0,
) -> tuple[bool, Sets, set[int]]:
    """Whether the prices prove the claim; the sets with those that `probe` added, and the numbers of those used.

    `edges`: where the slices of the spread begin and end.
    """
    used: set[int] = set()
    for part in pairwise(edges):
        whole, sets, took = _cover_slice(asking, sets, part, deadline, probe, probes)
        used |= took
        if not whole:
            return False, sets, used
    return True, sets, used


def _cover_slice(
    asking: Asking, sets: Sets, part: tuple[float, float], deadline: float, probe: Probe | None, probes: int
) -> tuple[bool, Sets, set[int]]:
    boxes, settled, looked = _root(asking.system), np.zeros(len(sets)), 0
    for _ in range(MOST_LEVELS):
        boxes = boxes[(boxes[:, 1] > 0.0) | (boxes[:, 3] > 0.0)]
        looked += len(boxes)
        best, by = _best_of(asking, sets, boxes, part, settled)
        done = best >= asking.claim
        np.add.at(settled, by[done], 1.0)
        boxes, best, by = boxes[~done], best[~done], by[~done]
        if not len(boxes):
            return True, sets, set(np.flatnonzero(settled > 0.0).tolist())
        if looked > MOST_BOXES or time.monotonic() > deadline:
            break
        if probe is not None and probes > 0:
            rows = [row for i in np.argsort(best)[:3] if (row := probe(boxes[i], part)) is not None]
            probes -= 3
            if rows:
                more = stacked(rows)
                sets = Sets(**{key: np.concatenate([getattr(sets, key), getattr(more, key)]) for key in vars(sets)})
                settled = np.concatenate([settled, np.zeros(len(rows))])
                # the newest are asked by all: they are of where it matters
                settled[-len(rows) :] = settled.max()
                before = settled.copy()
                best, by = _best_of(asking, sets, boxes, part, before)
                settled[-len(rows) :] = 0.0
                done = best >= asking.claim
                np.add.at(settled, by[done], 1.0)
                boxes, best, by = boxes[~done], best[~done], by[~done]
        sides = _sides(asking, sets, boxes, best, by, part)
        if np.any(sides < 0):
            break
        boxes = _halves(boxes, sides)
    return False, sets, set()


def _root(system: System) -> Boxes:
    """All rounds and spans that the delay allows."""
    scenario = system.scenario
    delay = scenario.budget.delay_s
    most_m = math.floor(delay * scenario.server.max_clock_hz / system.server_cycles * (1.0 + SAME))
    shortest = system.shortest * (1.0 - SAME)
    most_n = math.floor(delay / (shortest + system.down_s) * (1.0 + SAME))
    if system.down_j > 0.0:
        most_n = min(most_n, math.floor(scenario.budget.energy_j / system.down_j * (1.0 + SAME)))
    return np.array([[0.0, float(most_m), 0.0, float(most_n), shortest, max(delay, 2.0 * shortest)]])


def _best_of(
    asking: Asking, sets: Sets, boxes: Boxes, part: tuple[float, float], settled: Floats
) -> tuple[Floats, Order]:
    """The best bound of each box by the sets nearest to it and those that settled most, and the set it is from."""
    best, by = np.full(len(boxes), -np.inf), np.zeros(len(boxes), dtype=np.intp)
    if not len(boxes):
        return best, by
    homes, first, last = (np.log1p(rows) for rows in (sets.home, boxes[:, [0, 2, 4]], boxes[:, [1, 3, 5]]))
    away = ((0.5 * (first + last))[:, None, :] - homes[None, :, :]) ** 2
    order = np.argsort(away.sum(axis=2), axis=1, kind="stable")[:, :ASKED]
    proven = np.argsort(-settled, kind="stable")[:ASKED]
    order = np.hstack([np.broadcast_to(proven, (len(boxes), len(proven))), order])
    left = np.arange(len(boxes))
    for first_rank in range(0, order.shape[1], _TOGETHER):
        which = order[left, first_rank : first_rank + _TOGETHER]
        ranks = which.shape[1]
        found = _bounds(asking, sets, np.repeat(boxes[left], ranks, axis=0), which.ravel(), part).reshape(-1, ranks)
        top = found.argmax(axis=1)
        rows = np.arange(len(left))
        better = found[rows, top] > best[left]
        best[left[better]], by[left[better]] = found[rows, top][better], which[rows, top][better]
        left = left[best[left] < asking.claim]
        if not len(left):
            break
    return best, by


def _bounds(asking: Asking, sets: Sets, boxes: Boxes, which: Order, part: tuple[float, float]) -> Floats:
    rows = max(1, MOST_CELLS // len(asking.weight_sq))
    found = np.empty(len(boxes))
    for at in range(0, len(boxes), rows):
        some = slice(at, at + rows)
        found[some] = bound(asking, sets, boxes[some], which[some], part)
    return found


def _sides(asking: Asking, sets: Sets, boxes: Boxes, best: Floats, by: Order, part: tuple[float, float]) -> Order:
    """Where to cut each box: the side whose halves the best prices bound best; the longest where that brings nothing.

    -1 where there is nothing left to cut.
    """
    m1, m2, n1, n2, s1, s2 = boxes.T
    wide = np.stack([np.log((m2 + 1.0) / (m1 + 1.0)), np.log((n2 + 1.0) / (n1 + 1.0)), np.log(s2 / s1)])
    wide[2] = np.where((wide[2] > _THIN) & (n2 > 0.0), wide[2], 0.0)
    gains = np.zeros(wide.shape)
    for side in range(3):
        some = np.flatnonzero(wide[side] > 0.0)
        if len(some):
            halves = _halves(boxes[some], np.full(len(some), side))
            found = _bounds(asking, sets, halves, np.tile(by[some], 2), part).reshape(2, -1)
            gains[side, some] = np.clip(found, best[some], asking.claim).sum(axis=0) - 2.0 * best[some]
    telling = gains.max(axis=0) > 0.02 * (asking.claim - best)
    sides = np.where(telling, gains.argmax(axis=0), wide.argmax(axis=0))
    return np.where(wide.max(axis=0) > 0.0, sides, -1)


def _halves(boxes: Boxes, sides: Order) -> Boxes:
    """The lower halves of the boxes, cut along their sides, and then the upper ones."""
    lower, upper = boxes.copy(), boxes.copy()
    for side, low in ((0, 0), (1, 2)):
        cut = sides == side
        middle = between(boxes[cut, low], boxes[cut, low + 1])
        lower[cut, low + 1], upper[cut, low] = middle, middle + 1.0
    cut = sides == 2
    lower[cut, 5] = upper[cut, 4] = np.sqrt(boxes[cut, 4] * boxes[cut, 5])
    return np.concatenate([lower, upper])


def proves_asked(scenario: Scenario, least: float, claim: float, proof: Any) -> bool:
    """Whether a certificate's `asked` proves that no probabilities from `least` on do better than the claim.

    `scenario`: the one in which all are asked, its energy budget without what is kept back.

    Raises:
        InputError: it is no such certificate.
    """
    if not isinstance(proof, Mapping) or set(proof) != {"prices", "slices"}:
        raise InputError("plan.certificate.asked: should hold prices and slices")
    entries, edges = proof["prices"], proof["slices"]
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise InputError("plan.certificate.asked.prices: should hold a list of price sets")
    numbers = isinstance(edges, list) and all(isinstance(x, int | float) and 0.0 <= x < math.inf for x in edges)
    if not numbers or (edges and edges[0] != 0.0) or any(a >= b for a, b in pairwise(edges)):
        raise InputError("plan.certificate.asked.slices: should hold rising numbers from 0")
    system = system_of(scenario)
    asking = asking_of(system, least, claim)
    sets = stacked([set_of(system, entry) for entry in entries])
    return cover(asking, sets, edges_of(asking, edges))[0]


def proves_asking(plan: Plan, scenario: Scenario, problems: list[str]) -> bool:
    """Whether the certificate of a plan that decides who is asked proves its lower bound; fills `problems`.

    `scenario`: the equivalent one at the plan's probabilities. Its first prices are those of the multipliers. Without a
    proof over all probabilities the bound stays a claim, and the answer is False.
    """
    certificate, under = plan.certificate or {}, plan.under or {}
    unknown = sorted(set(certificate) - {"tolerance", "prices", "asked"})
    if unknown:
        problems.append(f"plan.certificate.{unknown[0]}: is not a key of a certificate")
        return False
    entries, before = certificate.get("prices", []), len(problems)
    always = scenario.replace(devices=replace(scenario.devices, asked=None))
    try:
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries[:1]):
            raise InputError("plan.certificate.prices: should hold a list of price sets")
        if entries:
            system = system_of(scenario)
            check_multipliers(plan, system, priced(system, entries[0]), problems)
        if "asked" not in certificate:
            return plan.lower_bound <= 0.0 and len(problems) == before
        claim = plan.lower_bound - SAME * abs(plan.lower_bound)
        whole = proves_asked(always, float(under["least_participation"]), claim, certificate["asked"])
    except InputError as error:
        problems.extend(error.problems)
        return False
    if not whole:
        problems.append(f"plan.lower_bound: the certificate's prices do not prove {plan.lower_bound!r}")
    return whole and len(problems) == before


def edges_of(asking: Asking, edges: list[float]) -> list[float]:
    """The slices' ends with the last one: as far as the spread can go."""
    end = spread_end(asking)
    inner = [float(x) for x in edges if x < end * (1.0 - 1e-6)] or [0.0]
    return [*inner, end] if isinstance(asking.base, Final) else [0.0, math.inf]
