"""A part of all subsets and rounds: what its own limits rule out, and its two halves.

A part is a box of rounds of both stages, spans of a fine-tuning round (seconds; TDMA: of its computing), admitted
weights and reaches of the broadcast, in which each device is in, out or free. Whatever is ruled out here has no plan,
or is no subset of the part; two halves hold all of what they were cut from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.admitting.roster import Roster
from pretune.figures import SAME
from pretune.physics.types import Floats

OUT, FREE, IN = -1, 0, 1
_CLOSE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Node:
    """The part's sides; `state` has shape (K,) and is never changed in place."""

    m: tuple[float, float]
    n: tuple[float, float]
    span: tuple[float, float]
    weight: tuple[float, float]
    reach: tuple[int, int]
    state: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part without what its limits rule out: what a bound over it needs. Arrays are for the devices `who`."""

    node: Node
    who: NDArray[np.intp]
    certain: NDArray[np.bool_]
    high: Floats
    """The largest whole batches."""
    server_high: float
    down_s: float


def root(roster: Roster) -> Node | None:
    """All subsets and rounds that fine-tune; None where the delay leaves no time for a round of any device."""
    system, budget = roster.system, roster.system.scenario.budget
    fleet, server = system.scenario.devices, system.scenario.server
    one = system.cycles / fleet.max_clock_hz + system.span / system.exponent_max + roster.down_s
    most_n = math.floor(budget.delay_s / (float(one.min()) * (1.0 - SAME)))
    if most_n < 1:
        return None
    most_m = math.floor(budget.delay_s / (system.server_cycles / server.max_clock_hz) * (1.0 + SAME))
    return Node(
        m=(0.0, float(most_m)),
        n=(1.0, float(most_n)),
        span=(float(roster.shortest.min()), budget.delay_s),
        weight=(roster.least_weight, 1.0),
        reach=(0, len(roster.levels) - 1),
        state=np.zeros(len(roster.alpha), dtype=np.int8),
    )


def tightened(roster: Roster, node: Node) -> Part | None:
    """The part without what its own limits rule out; None where that is all of it."""
    system = roster.system
    (m1, m2), (n1, n2), (s1, s2), (w1, w2), (first, last) = node.m, node.n, node.span, node.weight, node.reach
    delay = system.scenario.budget.delay_s
    inside = node.state == IN
    if inside.any():
        first = max(first, int(np.searchsorted(roster.levels, roster.down_s[inside].max())))
    if first > last or m1 > m2 or n1 > n2:
        return None
    down_s, up_s = float(roster.levels[first]), float(roster.uploads[inside].sum())
    s1 = max(s1, float(roster.shortest[inside].max(initial=0.0)))
    per_m = system.server_cycles / system.scenario.server.max_clock_hz
    longest = (delay - m1 * per_m) / n1 - down_s - up_s
    s2 = min(s2, longest)
    if s2 < s1 * (1.0 - _CLOSE) or _server_batch(roster, m1, n1, max(s1, up_s), down_s) < 1.0:
        return None
    s2 = max(s1, s2)
    m2 = _most_pretraining(roster, (m1, m2), n1, max(s1, up_s), down_s)
    n2 = min(n2, float(math.floor((delay - m1 * per_m) / (s1 + down_s + up_s) * (1.0 + SAME))))
    if n2 < n1:
        return None
    caps = roster.most_batches(min(longest, s2), longest - s1, n1)
    decided = _decided(roster, node, caps, last, (w1, w2))
    if decided is None:
        return None
    state, w1, w2 = decided
    who = np.flatnonzero(state != OUT)
    tight = Node(m=(m1, m2), n=(n1, n2), span=(s1, s2), weight=(w1, w2), reach=(first, last), state=state)
    return Part(
        node=tight,
        who=who,
        certain=state[who] == IN,
        high=caps[who],
        server_high=_server_batch(roster, m1, n1, max(s1, up_s), down_s),
        down_s=down_s,
    )


def _decided(
    roster: Roster, node: Node, caps: Floats, last: int, weight: tuple[float, float]
) -> tuple[NDArray[np.int8], float, float] | None:
    """The devices that the part's limits decide, and its weights after that; None: it holds no subset."""
    alpha, (w1, w2) = roster.alpha, weight
    far = roster.down_s > roster.levels[last]
    if np.any((caps < 1.0) & (node.state == IN)):
        return None
    state = np.where(far | ((node.state == FREE) & (caps < 1.0)), OUT, node.state)
    while True:
        sure, rest = float(alpha[state == IN].sum()), float(alpha[state != OUT].sum())
        free = state == FREE
        # too heavy for the part, or too heavy to go without
        heavy = free & (sure + alpha > w2 * (1.0 + SAME))
        needed = free & (rest - alpha < w1 * (1.0 - SAME))
        if np.any(heavy & needed):
            return None
        if not np.any(heavy | needed):
            break
        state = np.where(heavy, OUT, np.where(needed, IN, state))
    if np.any(far & (node.state == IN)):
        return None
    w1, w2 = max(w1, sure * (1.0 - _CLOSE)), min(w2, rest * (1.0 + _CLOSE))
    return None if w2 < w1 else (state.astype(np.int8), w1, w2)


def _server_batch(roster: Roster, m: float, n: float, length: float, down_s: float) -> float:
    """The largest whole server batch in `m` rounds beside `n` rounds of fine-tuning of at least `length` seconds."""
    scenario = roster.system.scenario
    server, budget, cycles = scenario.server, scenario.budget, roster.system.server_cycles
    if m <= 0.0:
        return float(server.samples)
    time = (budget.delay_s - n * (length + down_s)) / m
    joules = (budget.energy_j - n * down_s * float(server.transmit_power_w)) / m
    if time <= 0.0 or joules <= 0.0:
        return 0.0
    clock = (server.static_power_w / (2.0 * server.capacitance)) ** (1.0 / 3.0)
    left = max(joules - server.static_power_w * time, 0.0)
    paid = (left * time * time / (server.capacitance * cycles**3)) ** (1.0 / 3.0)
    if clock > 0.0:
        frugal = joules / (cycles * (server.capacitance * clock * clock + server.static_power_w / clock))
        paid = frugal if frugal * cycles <= time * clock else paid
    return min(float(server.samples), float(math.floor(min(time * server.max_clock_hz / cycles, paid) * (1.0 + SAME))))


def _most_pretraining(roster: Roster, m: tuple[float, float], n: float, length: float, down_s: float) -> float:
    """Pre-training rounds beyond which the server can't pay one sample a round, to about a tenth; it can pay `m[0]`."""
    low, high = m
    if _server_batch(roster, high, n, length, down_s) >= 1.0:
        return high
    while high - low > 1.0 and high > 1.1 * low:
        middle = float(math.floor(math.sqrt((low + 1.0) * (high + 1.0)))) - 1.0
        middle = min(max(middle, low + 1.0), high - 1.0)
        if _server_batch(roster, middle, n, length, down_s) >= 1.0:
            low = middle
        else:
            high = middle
    return high - 1.0


def halves(node: Node, side: str, at: float) -> tuple[Node | None, Node | None]:
    """The part up to `at` and from there on, None where empty; `side` is m, n, s, w, r (reach), or d: device `at`.

    Rounds and reaches are whole, so the upper half begins at the next one. A device is in, or it is out.
    """
    if side == "d":
        return _with(node, int(at), IN), _with(node, int(at), OUT)
    name = {"m": "m", "n": "n", "s": "span", "w": "weight", "r": "reach"}[side]
    low, high = getattr(node, name)
    step = 0 if side in "sw" else 1
    lower: dict[str, Any] = {name: (low, min(at, high))}
    upper: dict[str, Any] = {name: (max(at + step, low), high)}
    return (
        replace(node, **lower) if at >= low else None,
        replace(node, **upper) if at + step <= high else None,
    )


def _with(node: Node, k: int, decided: int) -> Node | None:
    """The part with a device in or out; None where it is the other already."""
    if node.state[k] not in (FREE, decided):
        return None
    state = node.state.copy()
    state[k] = decided
    return replace(node, state=state)


def decided(node: Node, inside: list[int], outside: list[int]) -> Node | None:
    """The part with these devices in and those out; None where that can't be."""
    found: Node | None = node
    for k, side in (*((k, IN) for k in inside), *((k, OUT) for k in outside)):
        found = None if found is None else _with(found, k, side)
    return found
