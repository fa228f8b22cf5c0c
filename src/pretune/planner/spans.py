"""The last pass of a search: boxes of rounds and of the span of a fine-tuning round.

A pair of rounds may keep a gap because batches are whole. A span between two numbers caps every batch at what a device
can compute within it, a whole number; so cutting spans closes the gap that cutting rounds leaves.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from pretune.planner.boxes import Box, between
from pretune.planner.kernels.fixed import least_span
from pretune.planner.kernels.priced import Region, most_batches
from pretune.planner.kernels.rounds import bound_over

if TYPE_CHECKING:
    from pretune.planner.search import Search

MOST_CUTS = 4_000
MOST_TDMA_CUTS = 400
"""Boxes to cut: what ends a search that no tolerance ends."""
_OWN = 6
"""How many price sets a box remembers."""


def cut_spans(search: Search) -> None:
    """Boxes of rounds and spans, best bound first, each against its own prices and those it inherits."""
    search.floor = float("inf")
    problem = search.problem
    d, limits = problem.devices, problem.limits
    bare = d._replace(battery=np.full_like(d.battery, np.inf))
    least = (1.0 - 1e-9) * least_span(bare, limits, problem.batches.low, 1.0)
    start = Box(0, search.within[0], 0, search.within[1], float(least), max(limits.delay, 2.0 * float(least)))
    heap: list[tuple[float, int, Box, tuple[int, ...]]] = []
    before, pool = search.proven, search.pool
    count = 0

    def push(box: Box, bound: float, own: tuple[int, ...]) -> None:
        nonlocal count
        region = box.region
        caps = most_batches(problem, region)
        scored = sorted(((bound_over(problem, pool[i], region, caps), i) for i in own), reverse=True)
        if scored:
            bound = max(bound, scored[0][0])
        if bound >= search.target:
            search.used.update(i for _, i in scored[:_OWN])
        if bound < search.target and (box.m2, box.n2) != (0, 0):
            count += 1
            heapq.heappush(heap, (bound, count, box, tuple(i for _, i in scored[:_OWN])))

    push(start, search.proven, tuple(range(len(pool))))
    cuts = 0
    most_cuts = MOST_TDMA_CUTS if limits.tdma else MOST_CUTS
    while heap and cuts < most_cuts and heap[0][0] < search.target:
        bound, _, box, own = heapq.heappop(heap)
        cuts += 1
        middle = (between(box.m1, box.m2 + 1), between(box.n1, box.n2 + 1))
        corner = (box.m1, box.n1) if (box.m1, box.n1) != (0, 0) else middle
        for rounds in dict.fromkeys((middle, corner)):
            m, n = map(float, rounds)
            within = search.within_box(Region(m, m, n, n, box.s1, box.s2))
            if within is None or rounds == (0, 0):
                continue
            found = search.solve(rounds, within)
            if found is not None:
                own = (*own, search.keep(rounds, *found))
                region = box.region
                bound = max(bound, bound_over(problem, found[0], region, most_batches(problem, region)))
                if bound >= search.target:
                    search.used.add(own[-1])
                break
        if bound < search.target:
            wide_m, wide_n, wide_s = box.widths
            wide = max(wide_m, wide_n)
            free = box.n2 > 0 and (box.m2 > 0 or limits.tdma)
            if box.single and (wide_s < 1e-10 or not free):
                search.used.update(own)
                search.floor = min(search.floor, bound)
                continue
            by_span = free and (box.single or wide_s > max(4.0 * wide * wide, 0.5 * wide))
            for half in box.halve_span() if by_span else box.halve_rounds():
                push(half, bound, own)
        if search.out_of_time():
            break
    for entry in heap:
        search.used.update(entry[3])
    search.proven = max(before, min([search.target, *(entry[0] for entry in heap)]))
    if search.proven > before:
        search.cut_spans = True
