"""Branch and bound over boxes of rounds, compiled: best bound first, each box against every price set known.

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


class Pool(NamedTuple):
    """Price sets, one a row: all that a bound needs of them; `homes` are the rounds they were solved at, shape (P, 2).

    `numbers` holds energy, delay, server cost, round cost, budget and slack of `Prices`, shape (P, 6).
    """

    numbers: Floats
    sample_costs: Floats
    homes: Floats
    used: NDArray[np.bool_]
    """Whether a set has settled a box."""


class Tree(NamedTuple):
    """Boxes ``m1, m2, n1, n2`` (C, 4), their bounds, how many price sets they have asked, which bounds them best.

    `heap` orders the rows of open boxes; `counts` are rows taken, boxes in the heap, and boxes looked at.
    """

    boxes: Floats
    bound: Floats
    seen: Counts
    by: Counts
    heap: Counts
    counts: Counts


def new_tree(capacity: int) -> Tree:
    """A tree without boxes, with room for some."""
    return Tree(
        boxes=np.zeros((capacity, 4)),
        bound=np.zeros(capacity),
        seen=np.zeros(capacity, dtype=np.int64),
        by=np.zeros(capacity, dtype=np.int64),
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
    """Row `i` of the pool, without shares and ratios."""
    c = pool.numbers[i]
    costs = pool.sample_costs[i]
    return Prices(c[0], c[1], c[2], c[3], c[4], costs, costs, costs, c[5])


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
    b = tree.boxes[row]
    region = Region(b[0], b[1], b[2], b[3], 0.0, math.inf)
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
    box: tuple[float, float, float, float],
    bound: float,
    by: int,
    target: float,
) -> None:
    """Put a box into the tree unless the prices settle it; `bound` and `by` are what it inherits."""
    if box[1] == 0.0 and box[3] == 0.0:
        return
    row = tree.counts[0]
    for i in range(4):
        tree.boxes[row, i] = box[i]
    tree.bound[row], tree.by[row], tree.seen[row] = bound, by, 0
    if not _ask(problem, pool, count, tree, row, target):
        tree.counts[0] += 1
        _push_row(tree, row)


@njit(cache=True, error_model="numpy")
def between(a: float, b: float) -> float:
    """A whole number in [a, b - 1] near the geometric mean."""
    return min(max(np.floor(math.sqrt((a + 1.0) * (b + 1.0))) - 1.0, a), b - 1.0)


@njit(cache=True, error_model="numpy")
def _open_pair(
    problem: Problem, pool: Pool, count: int, solved: Floats, m1: float, m2: float, n1: float, n2: float, target: float
) -> tuple[float, float]:
    """A pair of the box, not yet solved, that no prices settle though they are asked for it alone; else (-1, -1)."""
    for trial in range(2):
        m, n = m1, n1
        if trial == 0:
            m, n = between(m1, m2 + 1.0), between(n1, n2 + 1.0)
        if m == 0.0 and n == 0.0:
            continue
        known = False
        for i in range(solved.shape[0]):
            if solved[i, 0] == m and solved[i, 1] == n:
                known = True
                break
        if known:
            continue
        alone = Region(m, m, n, n, 0.0, math.inf)
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
def _cut_across(problem: Problem, pool: Pool, tree: Tree, row: int, target: float) -> bool:
    """Whether to cut a box in the fine-tuning rounds instead of the others.

    Where the two halves come nearer to the target, by the prices that bound the box best; the relatively longer side
    where neither cut brings anything.
    """
    m1, m2, n1, n2 = tree.boxes[row]
    if m1 == m2 or n1 == n2:
        return bool(m1 == m2)
    prices, bound = prices_of(pool, tree.by[row]), tree.bound[row]
    at_m, at_n = between(m1, m2), between(n1, n2)
    by_m = _nearer(problem, prices, Region(m1, at_m, n1, n2, 0.0, math.inf), bound, target)
    by_m += _nearer(problem, prices, Region(at_m + 1.0, m2, n1, n2, 0.0, math.inf), bound, target)
    by_n = _nearer(problem, prices, Region(m1, m2, n1, at_n, 0.0, math.inf), bound, target)
    by_n += _nearer(problem, prices, Region(m1, m2, at_n + 1.0, n2, 0.0, math.inf), bound, target)
    if max(by_m, by_n) <= _LITTLE * (target - bound):
        return bool(math.log((n2 + 1.0) / (n1 + 1.0)) > math.log((m2 + 1.0) / (m1 + 1.0)))
    return bool(by_n > by_m)


@njit(cache=True, error_model="numpy")
def _nearer(problem: Problem, prices: Prices, region: Region, bound: float, target: float) -> float:
    """By how much a part of a box is bounded better than the whole, up to the target."""
    part = bound_over(problem, prices, region, most_batches(problem, region))
    return min(max(part, bound), target) - bound


@njit(cache=True, error_model="numpy")
def explore(
    problem: Problem, pool: Pool, count: int, tree: Tree, solved: Floats, target: float, most: int
) -> tuple[int, float, float, int, float]:
    """Cut and settle boxes, lowest bound first: ``(why it stopped, m, n, row, bound)``.

    PROBE: solve the pair (m, n), which lies in box `row`, still in the tree; OPEN: box `row`, one pair, is taken out
    of the tree with its bound; DONE: nothing is left below `target`, or `most` boxes were looked at.
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
        m1, m2, n1, n2 = tree.boxes[row]
        m, n = _open_pair(problem, pool, count, solved, m1, m2, n1, n2, target)
        if m >= 0.0:
            _push_row(tree, row)
            return PROBE, m, n, row, tree.bound[row]
        if m1 == m2 and n1 == n2:
            return OPEN, m1, n1, row, tree.bound[row]
        bound, by = tree.bound[row], tree.by[row]
        if _cut_across(problem, pool, tree, row, target):
            at = between(n1, n2)
            add_box(problem, pool, count, tree, (m1, m2, n1, at), bound, by, target)
            add_box(problem, pool, count, tree, (m1, m2, at + 1.0, n2), bound, by, target)
        else:
            at = between(m1, m2)
            add_box(problem, pool, count, tree, (m1, at, n1, n2), bound, by, target)
            add_box(problem, pool, count, tree, (at + 1.0, m2, n1, n2), bound, by, target)
    return DONE, 0.0, 0.0, 0, 0.0
