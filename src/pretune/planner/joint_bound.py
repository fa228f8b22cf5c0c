"""The lower bound over all probabilities, rounds and spans: prices from joint optima, proven by the checker's code."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import Any

import numpy as np

from pretune.asked_bounds import Asking, asking_of, set_of, spread_end, stacked
from pretune.asked_proof import cover, edges_of
from pretune.convergence.criteria import Final
from pretune.figures import system_of
from pretune.physics.types import Floats
from pretune.planner.asked import Asked, Joint
from pretune.planner.write import short
from pretune.scenario import Scenario

GAPS = (0.01, 0.003, 0.001, 0.03, 0.1, 0.3, 0.6)
FINAL_GAPS = (0.03, 0.01, 0.1, 0.3, 0.6)
"""Gaps that are tried: the first, then smaller ones as long as they are proven, or larger ones until one is."""
_AWAY = (0.6, 0.8, 0.9, 0.95, 1.05, 1.12, 1.25, 1.6)
_PROBES = 150
_TURNS = 8
_MOST_S = 10.0
"""Seconds that proving one gap may take."""


def joint_bound(
    scenario: Scenario, joint: Joint, value: float, rounds: int, deadline: float
) -> tuple[float, dict[str, Any]]:
    """The best lower bound proven, and the certificate's part that proves it again; zero where nothing was proven.

    `scenario`: the one in which all are asked; `value`: the plan's objective; `rounds`: its pre-training.
    """
    system = system_of(scenario)
    seeds = [] if joint.best is None else _around(joint, joint.best)
    seeds += [one for one in (joint.solve(float(max(rounds, 1)), 0.0, 1.0),) if one is not None]
    gaps = list(FINAL_GAPS if isinstance(joint.base, Final) else GAPS)
    if not seeds or not gaps:
        return 0.0, {}
    entries = [entry_of(one) for one in seeds]
    if isinstance(joint.base, Final) and joint.best is not None:  # one for each slice of the spread
        inner = [*_slices(asking_of(system, joint.least, value), joint.best, gaps[0]), math.inf]
        best = joint.best
        around = (_within(joint, best.m, best.n, best.span, part) for part in pairwise(inner))
        entries += [entry_of(one) for one in around if one is not None]
    sets = stacked([set_of(system, entry) for entry in entries])
    proven, certificate = 0.0, {}
    smaller = True
    while gaps and time.monotonic() < deadline:
        gap = gaps.pop(0)
        asking = asking_of(system, joint.least, value * (1.0 - gap))
        inner = _slices(asking, joint.best, gap)

        def probe(box: Floats, part: tuple[float, float]) -> dict[str, Any] | None:
            found = _probed(joint, box, part, value)
            if found is None:
                return None
            entry = entry_of(found)
            entries.append(entry)
            return set_of(system, entry)

        until = min(deadline, time.monotonic() + _MOST_S)
        whole, sets, used = cover(asking, sets, edges_of(asking, inner), deadline=until, probe=probe, probes=_PROBES)
        if whole:
            proven = asking.claim
            certificate = {"asked": {"prices": [entries[i] for i in sorted(used)], "slices": inner}}
            if not smaller:
                break
            gaps = [other for other in gaps if other < gap]
        elif proven > 0.0:
            break
        else:
            smaller, gaps = False, [other for other in gaps if other > gap]
    return proven, certificate


def _slices(asking: Asking, best: Asked | None, gap: float) -> list[float]:
    """Where slices of the spread begin: narrow near the best, wider beyond."""
    if not isinstance(asking.base, Final) or best is None:
        return [0.0]
    end = spread_end(asking)
    effect = best.spread * max(best.c, 1e-9) / best.value
    step = min(0.5, 0.4 * gap / max(effect, 1e-9))
    edges, at = [0.0], 0.0
    scale = max(best.c, 1e-6)
    while at < 0.999 * scale and len(edges) < 200:
        at += step * scale
        edges.append(min(at, scale))
    # beyond, the slope at a slice's beginning says nearly all
    at = scale
    while at * 4.0 < end:
        at *= 4.0
        edges.append(at)
    return [short(x) for x in edges if x < end]


def entry_of(one: Asked) -> dict[str, Any]:
    """A joint optimum's prices as the plan file holds them."""
    ratios = one.columns[:, 6]
    entry: dict[str, Any] = {"energy": short(one.energy), "omega": short(one.omega), "spread": short(one.spread)}
    entry["shares"] = [short(x) for x in (one.columns[:, 4] * ratios).tolist()]
    if np.any(ratios > 1.0):
        entry["ratios"] = [max(short(x), 1.0) for x in ratios.tolist()]
    entry["home"] = [short(x) for x in (one.m, one.n, one.span)]
    return entry


def _around(joint: Joint, best: Asked) -> list[Asked]:
    """The best and others at its rounds and spans near its own."""
    found = [best]
    for factor in _AWAY:
        low, high = joint.spans(best.m, best.n)
        if low < best.span * factor < high and (one := joint.solve(best.m, best.n, best.span * factor)) is not None:
            found.append(one)
    return found


def _probed(joint: Joint, box: Floats, part: tuple[float, float], value: float) -> Asked | None:
    """A joint optimum within a box, at the criterion of a slice of the spread."""
    m1, m2, n1, n2, s1, s2 = box.tolist()
    for m, n in ((round(0.5 * (m1 + m2)), round(0.5 * (n1 + n2))), (m1, round(0.5 * (n1 + n2))), (m1, n1)):
        if n < 1.0:
            if n2 < 1.0 and m >= 1.0:
                return joint.solve(float(m), 0.0, 1.0)
            continue
        low, high = joint.spans(m, n)
        low, high = max(low, s1), min(high, s2)
        if low <= high:
            span = math.sqrt(low * high)
            weight = float(joint.base.at(m, n).weight)
            found = joint.shortage(m, n, span, 10.0 * value * weight)
            found = _within(joint, float(m), float(n), span, part) if found is None else found
            if found is not None:
                return found
    return None


def _within(joint: Joint, m: float, n: float, span: float, part: tuple[float, float]) -> Asked | None:
    """With the spread in a slice: at the price at which it is."""
    if not isinstance(joint.base, Final):
        return joint.solve(m, n, span)
    price = joint.best.spread if joint.best is not None and joint.best.spread > 0.0 else 1e-3
    low, high, one = 0.0, math.inf, None
    for _ in range(_TURNS):
        trial = joint.solve(m, n, span, c=part[0], spread=price)
        if trial is None:
            break
        one = trial
        if part[0] <= trial.c <= part[1]:
            break
        if trial.c > part[1]:
            low = price
        else:
            high = price
        price = math.sqrt(low * high) if low > 0.0 and high < math.inf else price * (6.0 if low > 0.0 else 1.0 / 6.0)
    return one
