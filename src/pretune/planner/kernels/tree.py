"""Branch and bound over boxes of rounds and spans, compiled: best bound first, each box against every price set known.

`explore` runs until some pair of rounds asks for a solve of its own, which the caller does, adding the prices that it
gives to the pool. State is kept in arrays, so that the search goes on where it stopped.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pretune.physics.types import Floats
from pretune.planner.kernels.priced import Prices, Region, most_batches
from pretune.planner.kernels.rounds import bound_at, bound_over
from pretune.planner.problem import Problem

Counts = NDArray[np.int64]

DONE, PROBE, OPEN, FULL = 0, 1, 2, 3
"""Why `explore` stopped: all settled; a pair to solve; a single pair that no prices settle; no room for more boxes."""


_LITTLE = 0.02
"""A cut that brings less than this share of what is missing brings nothing."""


_THIN = 1e-10
"""A span no wider than this is one number."""


class Pool(NamedTuple):
    """Price sets, one a row: all that a bound needs of them.

    `numbers` holds energy, delay, server cost, round cost, budget and slack of `Prices`, shape (P, 6).
    """

    numbers: Floats
    sample_costs: Floats
    halves: Floats
    """Rows of `halves_of` for each set, shape (P, B, 11); a negative device ends them."""
    used: NDArray[np.bool_]
    """Whether a set has settled a box."""


class Tree(NamedTuple):
    """Boxes ``m1, m2, n1, n2, s1, s2`` (C, 6), their bounds, how many price sets they asked, which bounds them best.

    `probed`: whether a pair of the box was solved within its spans. `heap` orders the rows of open boxes; `counts` are
    rows taken, boxes in the heap, and boxes looked at.
    """

    boxes: Floats
    bound: Floats
    seen: Counts
    by: Counts
    probed: NDArray[np.bool_]
    heap: Counts
    counts: Counts


def new_tree(capacity: int) -> Tree:
    """A tree without boxes, with room for some."""
    return Tree(
        boxes=np.zeros((capacity, 6)),
        bound=np.zeros(capacity),
        seen=np.zeros(capacity, dtype=np.int64),
        by=np.zeros(capacity, dtype=np.int64),
        probed=np.zeros(capacity, dtype=np.bool_),
        heap=np.zeros(capacity, dtype=np.int64),
        counts=np.zeros(3, dtype=np.int64),
    )


def grown(tree: Tree) -> Tree:
    """The same tree with twice the room."""
    twice = new_tree(2 * len(tree.bound))
    for name in tree._fields:
        old = getattr(tree, name)
        getattr(twice, name)[: len(old)] = old
    return twice


@njit(cache=True, error_model="numpy")
def prices_of(pool: Pool, i: int) -> Prices:
    """Row `i` of the pool, without shares, ratios and the price of band."""
    c = pool.numbers[i]
    costs = pool.sample_costs[i]
    return Prices(c[0], c[1], c[2], c[3], c[4], costs, costs, costs, c[5], pool.halves[i], pool.halves[i], 0.0)


@njit(cache=True, error_model="numpy")
def region_of(tree: Tree, row: int) -> Region:
    """The box in a row."""
    b = tree.boxes[row]
    return Region(b[0], b[1], b[2], b[3], b[4], b[5])


@njit(cache=True, error_model="numpy")
def _before(tree: Tree, a: int, b: int) -> bool:
    return tree.bound[a] < tree.bound[b] or (tree.bound[a] == tree.bound[b] and a < b)


@njit(cache=True, error_model="numpy")
def _push_row(tree: Tree, row: int) -> None:
    at = tree.counts[1]
    tree.counts[1] += 1
    while at > 0:
        up = (at - 1) // 2
        if not _before(tree, row, tree.heap[up]):
            break
        tree.heap[at] = tree.heap[up]
        at = up
    tree.heap[at] = row


@njit(cache=True, error_model="numpy")
def _pop_row(tree: Tree) -> int:
    top = tree.heap[0]
    tree.counts[1] -= 1
    count = tree.counts[1]
    row = tree.heap[count]
    at = 0
    while 2 * at + 1 < count:
        down = 2 * at + 1
        if down + 1 < count and _before(tree, tree.heap[down + 1], tree.heap[down]):
            down += 1
        if not _before(tree, tree.heap[down], row):
            break
        tree.heap[at] = tree.heap[down]
        at = down
    tree.heap[at] = row
    return int(top)


@njit(cache=True, error_model="numpy")
def _ask(problem: Problem, pool: Pool, count: int, tree: Tree, row: int, target: float) -> bool:
    """Ask the price sets that a box has not asked yet; whether they settle it."""
    region = region_of(tree, row)
    caps = most_batches(problem, region)
    while tree.seen[row] < count and tree.bound[row] < target:
        i = tree.seen[row]
        bound = bound_over(problem, prices_of(pool, i), region, caps)
        if bound > tree.bound[row]:
            tree.bound[row], tree.by[row] = bound, i
        tree.seen[row] += 1
    if tree.bound[row] >= target:
        pool.used[tree.by[row]] = True
        return True
    return False


@njit(cache=True, error_model="numpy")
def add_box(
    problem: Problem,
    pool: Pool,
    count: int,
    tree: Tree,
    box: Region,
    bound: float,
    by: int,
    target: float,
) -> None:
    """Put a box into the tree unless the prices settle it; `bound` and `by` are what it inherits."""
    if box.m2 == 0.0 and box.n2 == 0.0:
        return
    row = tree.counts[0]
    for i in range(6):
        tree.boxes[row, i] = box[i]
    tree.bound[row], tree.by[row], tree.seen[row], tree.probed[row] = bound, by, 0, False
    if not _ask(problem, pool, count, tree, row, target):
        tree.counts[0] += 1
        _push_row(tree, row)


@njit(cache=True, error_model="numpy")
def between(a: float, b: float) -> float:
    """A whole number in [a, b - 1] near the geometric mean."""
    return min(max(np.floor(math.sqrt((a + 1.0) * (b + 1.0))) - 1.0, a), b - 1.0)


@njit(cache=True, error_model="numpy")
def _open_pair(
    problem: Problem, pool: Pool, count: int, solved: Floats, box: Region, spans: bool, target: float
) -> tuple[float, float]:
    """A pair of the box, not yet solved, that no prices settle though they are asked for it alone; else (-1, -1)."""
    for trial in range(2):
        m, n = box.m1, box.n1
        if trial == 0:
            m, n = between(box.m1, box.m2 + 1.0), between(box.n1, box.n2 + 1.0)
        if m == 0.0 and n == 0.0:
            continue
        known = False
        if not spans:
            for i in range(solved.shape[0]):
                if solved[i, 0] == m and solved[i, 1] == n:
                    known = True
                    break
        if known:
            continue
        alone = Region(m, m, n, n, box.s1, box.s2)
        caps = most_batches(problem, alone)
        settled = False
        for i in range(count - 1, -1, -1):
            if bound_at(problem, prices_of(pool, i), alone, caps, m, n) >= target:
                settled = True
                break
        if not settled:
            return m, n
    return -1.0, -1.0


@njit(cache=True, error_model="numpy")
def _half(box: Region, side: int, upper: bool) -> Region:
    """A half of a box: cut in the pre-training rounds (side 0), the fine-tuning rounds (1) or the span (2)."""
    if side == 0:
        at = between(box.m1, box.m2)
        if upper:
            return Region(at + 1.0, box.m2, box.n1, box.n2, box.s1, box.s2)
        return Region(box.m1, at, box.n1, box.n2, box.s1, box.s2)
    if side == 1:
        at = between(box.n1, box.n2)
        if upper:
            return Region(box.m1, box.m2, at + 1.0, box.n2, box.s1, box.s2)
        return Region(box.m1, box.m2, box.n1, at, box.s1, box.s2)
    at = math.sqrt(box.s1 * box.s2)
    if upper:
        return Region(box.m1, box.m2, box.n1, box.n2, at, box.s2)
    return Region(box.m1, box.m2, box.n1, box.n2, box.s1, at)


@njit(cache=True, error_model="numpy")
def _side(problem: Problem, prices: Prices, box: Region, spans: bool, bound: float, target: float) -> int:
    """Along which side to cut a box (see `_half`); -1 where there is nothing to cut.

    Where the two halves come nearer to the target, by the prices that bound the box best; the relatively longest side
    where no cut brings anything. With FDMA and no pre-training the span is all the time there is: nothing to cut.
    """
    best, most, longest, widest = -1, _LITTLE * (target - bound), -1, 0.0
    for side in range(3):
        wide = 0.0
        if side == 0:
            wide = math.log((box.m2 + 1.0) / (box.m1 + 1.0))
        elif side == 1:
            wide = math.log((box.n2 + 1.0) / (box.n1 + 1.0))
        elif spans and box.n2 > 0.0 and (box.m2 > 0.0 or problem.limits.tdma) and box.s2 > box.s1 * (1.0 + _THIN):
            wide = math.log(box.s2 / box.s1)
        if wide <= 0.0:
            continue
        if wide > widest:
            longest, widest = side, wide
        nearer = 0.0
        for upper in (False, True):
            part = _half(box, side, upper)
            found = bound_over(problem, prices, part, most_batches(problem, part))
            nearer += min(max(found, bound), target) - bound
        if nearer > most:
            best, most = side, nearer
    return best if best >= 0 else longest


@njit(cache=True, error_model="numpy")
def explore(
    problem: Problem, pool: Pool, count: int, tree: Tree, solved: Floats, spans: bool, target: float, most: int
) -> tuple[int, float, float, int, float]:
    """Cut and settle boxes, lowest bound first: ``(why it stopped, m, n, row, bound)``.

    PROBE: solve the pair (m, n), which lies in box `row`, still in the tree; OPEN: box `row`, one pair, is taken out
    of the tree with its bound; DONE: nothing is left below `target`, or `most` boxes were looked at. `spans`: cut the
    spans too, and solve pairs within their box's spans.
    """
    while tree.counts[1] > 0 and tree.counts[2] < most:
        row = tree.heap[0]
        if tree.bound[row] >= target:
            break
        if tree.counts[0] + 2 > tree.bound.size:
            return FULL, 0.0, 0.0, 0, 0.0
        row = _pop_row(tree)
        tree.counts[2] += 1
        if tree.seen[row] < count:
            if not _ask(problem, pool, count, tree, row, target):
                _push_row(tree, row)
            continue
        box = region_of(tree, row)
        if not (spans and tree.probed[row]):
            m, n = _open_pair(problem, pool, count, solved, box, spans, target)
            if m >= 0.0:
                tree.probed[row] = True
                _push_row(tree, row)
                return PROBE, m, n, row, tree.bound[row]
        bound, by = tree.bound[row], tree.by[row]
        side = _side(problem, prices_of(pool, by), box, spans, bound, target)
        if side < 0:
            return OPEN, box.m1, box.n1, row, bound
        add_box(problem, pool, count, tree, _half(box, side, False), bound, by, target)
        add_box(problem, pool, count, tree, _half(box, side, True), bound, by, target)
    return DONE, 0.0, 0.0, 0, 0.0
