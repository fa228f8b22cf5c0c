"""The search over rounds: branch and bound whose bounds are prices (math.md section 6).

A solve at one pair of rounds gives prices; the same prices bound every other pair, in closed form. So the search keeps
a pool of prices, cuts the plane of rounds into boxes, drops a box when some prices prove it no better than the best
plan known, and solves afresh only where no prices do. What is left undropped at the end is the proven gap.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pretune.planner.kernels.fixed import SOLVED, Point, new_point, solve_fixed
from pretune.planner.kernels.priced import Prices, prices_at
from pretune.planner.kernels.rounds import bound_at, bound_over, coefficients
from pretune.planner.problem import Problem
from pretune.planner.whole import Decision, round_batches

MOST_ROUNDS = 10**12


@dataclass(frozen=True, order=True)
class Box:
    """Pairs of rounds ``m1..m2 x n1..n2``, both ends included."""

    m1: int
    m2: int
    n1: int
    n2: int

    @property
    def single(self) -> bool:
        """Whether it holds one pair."""
        return self.m1 == self.m2 and self.n1 == self.n2

    def split(self) -> Iterator[Box]:
        """Two halves (in the logarithm) of the relatively longer side."""
        if (self.m2 + 1) / (self.m1 + 1) >= (self.n2 + 1) / (self.n1 + 1):
            at = _between(self.m1, self.m2)
            yield Box(self.m1, at, self.n1, self.n2)
            yield Box(at + 1, self.m2, self.n1, self.n2)
        else:
            at = _between(self.n1, self.n2)
            yield Box(self.m1, self.m2, self.n1, at)
            yield Box(self.m1, self.m2, at + 1, self.n2)


def _between(a: int, b: int) -> int:
    """A whole number in [a, b - 1] near the geometric mean."""
    return min(max(math.isqrt((a + 1) * (b + 1)) - 1, a), b - 1)


@dataclass
class Search:
    """State of a search; `run` may be called again to go on."""

    problem: Problem
    tolerance: float
    best: Decision | None = None
    pool: list[Prices] = field(default_factory=list)
    heap: list[tuple[float, int, Box]] = field(default_factory=list)
    floor: float = math.inf
    """The least bound of a pair whose whole batches leave a gap that rounds alone can't close."""
    unresolved: dict[tuple[int, int], float] = field(default_factory=dict)
    solves: int = 0
    boxes: int = 0
    exact: dict[tuple[int, int], float] = field(default_factory=dict)

    def start(self) -> None:
        """The box that holds all feasible rounds, and a first plan from a coarse look around."""
        most = Box(0, self._most(0), 0, self._most(1))
        self.whole = most
        if most.m2 == 0 and most.n2 == 0:
            return
        self._look_around(most)
        self._push(most, -math.inf, 0)

    def _most(self, stage: int) -> int:
        """The most rounds of one stage alone that fit the budgets."""
        low, high = 0, 1
        while high < MOST_ROUNDS and self._possible(high, stage):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            if self._possible(middle, stage):
                low = middle
            else:
                high = middle
        return low

    def _possible(self, rounds: int, stage: int) -> bool:
        m, n = (rounds, 0) if stage == 0 else (0, rounds)
        point = new_point(self.problem.devices.cycles.size)
        return bool(solve_fixed(self.problem, self.problem.batches, float(m), float(n), 0.0, 0.0, point) == SOLVED)

    def _look_around(self, most: Box) -> None:
        """A coarse grid of rounds, then a compass search in the logarithm from its best point."""
        shares = (0.0, 0.003, 0.03, 0.15, 0.4, 0.7, 1.0)
        starts = {
            (round(a * most.m2), round(b * most.n2)) for a in shares for b in shares if 0.0 < a + b <= 1.0 + 1e-9
        } - {(0, 0)}
        values = {rounds: self._value(rounds) for rounds in sorted(starts)}
        rounds = min(values, key=lambda pair: (values[pair], pair))
        step = 1.6
        while step > 1.002:
            m, n = rounds
            around = {(_scaled(m, f), _scaled(n, g)) for f, g in ((step, 1), (1 / step, 1), (1, step), (1, 1 / step))}
            around |= {(_scaled(m, step), _scaled(n, 1 / step)), (_scaled(m, 1 / step), _scaled(n, step))}
            around = {(min(a, most.m2), min(b, most.n2)) for a, b in around} - {(0, 0)}
            trials = {pair: self._value(pair) for pair in sorted(around)}
            best = min(trials, key=lambda pair: (trials[pair], pair))
            if trials[best] < self._value(rounds):
                rounds = best
            else:
                step = math.sqrt(step) if step > 1.05 else 1.0
        self._solve(rounds)

    def _value(self, rounds: tuple[int, int]) -> float:
        """The continuous optimum's value at a pair of rounds (infinity where it does not fit); no prices kept."""
        if rounds not in self.exact:
            m, n = map(float, rounds)
            weight, phi, psi0, psi = coefficients(self.problem.criterion, m, n)
            point = self._point()
            status = solve_fixed(self.problem, self.problem.batches, m, n, psi0, psi, point)
            self.solves += 1
            self.exact[rounds] = (phi + point.scalars[8]) / weight if status == SOLVED else math.inf
        return self.exact[rounds]

    def _point(self) -> Point:
        return new_point(self.problem.devices.cycles.size)

    def _solve(self, rounds: tuple[int, int]) -> None:
        """Solve one pair for its prices, and try for a better plan there."""
        m, n = map(float, rounds)
        at = coefficients(self.problem.criterion, m, n)
        weight, phi, psi0, psi = at
        point = self._point()
        status = solve_fixed(self.problem, self.problem.batches, m, n, psi0, psi, point)
        self.solves += 1
        if status not in (SOLVED, 1):
            return
        unit = 1.0
        if status != SOLVED:
            # the prices of a shortage prove it at any scale: make the proof exceed any value of interest
            unit = 1e6 * (abs(phi) + abs(psi0) + abs(psi) + 1.0) / max(
                point.scalars[6] - self.problem.limits.energy, 1e-9 * self.problem.limits.energy
            )
        prices = prices_at(self.problem, point, unit, True)
        self.pool.append(prices)
        if status == SOLVED:
            value = (phi + point.scalars[8]) / weight
            self.exact[rounds] = value
            if self.best is None or value < self.best.value:
                found = round_batches(self.problem, rounds, at, point, prices)
                if found is not None and (self.best is None or found.value < self.best.value):
                    self.best = found

    def _push(self, box: Box, bound: float, seen: int) -> None:
        """Queue a box with the best bound the prices from `seen` on give, unless that settles it."""
        for prices in self.pool[seen:]:
            bound = max(bound, bound_over(self.problem, prices, box.m1, box.m2, box.n1, box.n2))
            if bound >= self.target:
                return
        if box.m2 == 0 and box.n2 == 0:
            return
        heapq.heappush(self.heap, (bound, len(self.pool), box))

    @property
    def target(self) -> float:
        """A box whose bound reaches this is settled."""
        if self.best is None:
            return math.inf
        value = self.best.value
        return min(value - self.tolerance * abs(value), self.floor)

    @property
    def lower_bound(self) -> float:
        """What is proven so far for all rounds."""
        least = self.target
        if self.heap:
            least = min(least, self.heap[0][0])
        return least

    def run(self, deadline: float = math.inf, most_boxes: int = 200_000) -> None:
        """Go on until the gap is within the tolerance, nothing is left, or the time is up."""
        while self.heap and self.boxes < most_boxes:
            bound, seen, box = heapq.heappop(self.heap)
            if bound >= self.target:
                self.heap.clear()
                break
            self.boxes += 1
            if seen < len(self.pool):
                self._push(box, bound, seen)
            elif box.single:
                self._settle(box, bound)
            else:
                probe = self._probe(box)
                if probe is not None:
                    self._solve(probe)
                    self._push(box, bound, seen)
                else:
                    for half in box.split():
                        self._push(half, bound, 0)
            if self.boxes % 16 == 0 and time.monotonic() > deadline:
                break

    def _probe(self, box: Box) -> tuple[int, int] | None:
        """A pair of the box that no prices settle though they were asked for just it; None if they do."""
        rounds = (_between(box.m1, box.m2 + 1), _between(box.n1, box.n2 + 1))
        for rounds in (rounds, (box.m1, box.n1)):
            if rounds == (0, 0) or rounds in self.exact and any(True for _ in ()):
                continue
            if rounds in self._probed:
                continue
            if all(bound_at(self.problem, p, *map(float, rounds)) < self.target for p in self.pool):
                self._probed.add(rounds)
                return rounds
        return None

    def _settle(self, box: Box, bound: float) -> None:
        """One pair that no prices settle: its own prices are the last word on its rounds."""
        rounds = (box.m1, box.n1)
        if rounds not in self._probed:
            self._probed.add(rounds)
            self._solve(rounds)
            self._push(box, bound, len(self.pool) - 1)
            return
        # infeasible pairs are settled by their shortage; what gets here has a gap of whole batches
        self.unresolved[rounds] = bound
        self.floor = min(self.floor, bound)

    def __post_init__(self) -> None:
        self._probed: set[tuple[int, int]] = set()


def _scaled(rounds: int, factor: float) -> int:
    """`rounds` times `factor`, at least one away when the factor is not one (and at least 0)."""
    if factor == 1:
        return rounds
    scaled = round(rounds * factor)
    if scaled == rounds:
        scaled += 1 if factor > 1 else -1
    return max(scaled, 0)
