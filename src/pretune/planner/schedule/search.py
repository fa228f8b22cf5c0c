"""The search over rounds for plans in segments: boxes and prices as in `planner.search`, bounds of `segment_bounds`.

It starts at the rounds of the best constant plan, which is a plan in segments too. Spans are not cut: what whole
batches leave open at a pair of rounds stays in the gap.
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass, field

import numpy as np

from pretune.planner.kernels.fixed import DELAY_SHORT, ENERGY_SHORT, SOLVED
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.kernels.segment_bounds import (
    SegmentPrices,
    caps_over,
    parts_at,
    price_segments,
    segments_bound_at,
    segments_bound_over,
)
from pretune.planner.kernels.segments import Course, Ranges, fastest_round, new_course, solve_segments
from pretune.planner.problem import Problem
from pretune.planner.schedule.boxes import Box, compass, scaled
from pretune.planner.schedule.whole import ScheduleDecision, repeated, round_segments
from pretune.planner.search import Search

MOST_BOXES = 20_000
"""Boxes to look at: what ends a search that no tolerance ends."""
_START, _START_SHARE = 1e-4, 0.4
"""Tolerance, and share of the time, of the search for constant decisions to begin with."""
_THIN = 8.0
"""A box whose sides differ by more than this is cut across the longer one."""
_OWN = 8
"""How many price sets a box remembers."""


@dataclass
class ScheduleSearch:
    """A search and its state: the best plan so far and what is proven about all others."""

    problem: Problem
    segments: int
    tolerance: float
    deadline: float = math.inf
    """Value of the monotonic clock at which to stop."""
    best: ScheduleDecision | None = None
    pool: list[SegmentPrices] = field(default_factory=list)
    homes: list[tuple[float, float]] = field(default_factory=list)
    """For each prices in the pool: the rounds they were solved at."""
    floor: float = math.inf
    """The least bound of a pair of rounds that whole batches leave open."""
    proven: float = -math.inf
    used: set[int] = field(default_factory=set)
    """The prices in the pool that settled a box."""
    boxes: int = 0
    solves: int = 0
    late: bool = False
    _values: dict[tuple[int, int], float] = field(default_factory=dict)
    _solved: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> None:
        """Search until the gap is within the tolerance, nothing is left to cut, or the time is up."""
        count = self.problem.devices.cycles.size
        self._warm = new_course(self.segments, count)
        # constant decisions are only where to begin: no more exact than usual, and not with all of the time
        now = time.monotonic()
        start = Search(self.problem, max(self.tolerance, _START), now + _START_SHARE * (self.deadline - now))
        start.run()
        if start.best is None:
            return
        self.best = repeated(start.best, self.segments)
        self._look_around(start.best.rounds)
        self._cut_rounds()

    @property
    def target(self) -> float:
        """A box whose bound reaches this is settled."""
        if self.best is None:
            return math.inf
        return min(self.best.value - 0.999 * self.tolerance * abs(self.best.value), self.floor)

    def solve(self, rounds: tuple[int, int], course: Course, *, whole: bool = False) -> int:
        """The continuous optimum at a pair of rounds, into `course`; returns the kernel's status.

        `whole`: with no batch beyond the largest whole one that there is time for, which makes the prices better ones
        where batches are small.
        """
        limits, (m, n) = self.problem.batches, map(float, rounds)
        ranges = Ranges(
            np.full(self.segments, limits.server_low),
            np.full(self.segments, limits.server_high),
            np.tile(limits.low, (self.segments, 1)),
            np.tile(limits.high, (self.segments, 1)),
        )
        if whole:
            caps = caps_over(self.problem, m, m, n, n, self.segments)
            if caps.possible:
                ranges = ranges._replace(server_high=caps.server, high=caps.devices)
        self.solves += 1
        parts = parts_at(self.problem.criterion, m, n, self.segments)
        return int(solve_segments(self.problem, ranges, parts, course))

    def _look_around(self, rounds: tuple[int, int]) -> None:
        """A compass search in the logarithm of the rounds; leaves a plan at its best point."""
        step = 1.5
        while step > 1.004 and not self._out_of_time():
            around = {(scaled(rounds[0], f), scaled(rounds[1], g)) for f, g in compass(step)} - {(0, 0)}
            trials = {pair: self._value(pair) for pair in sorted(around)}
            best = min(trials, key=lambda pair: (trials[pair], pair))
            if trials[best] < self._value(rounds) * (1.0 - 0.01 * self.tolerance):
                rounds = best
            else:
                step = step**0.4
        self._price(rounds)

    def _value(self, rounds: tuple[int, int]) -> float:
        """The value at a pair of rounds with real batches; infinity where it does not fit."""
        if rounds not in self._values:
            weight, phi, _, _ = coefficients(self.problem.criterion, *map(float, rounds))
            status = self.solve(rounds, self._warm)
            self._values[rounds] = (phi + float(self._warm.scalars[4])) / weight if status == SOLVED else math.inf
        return self._values[rounds]

    def _price(self, rounds: tuple[int, int]) -> bool:
        """Solve one pair of rounds, keep its prices, try for a better plan there; False where there are no prices."""
        m, n = map(float, rounds)
        weight, phi, psi0, psi = coefficients(self.problem.criterion, m, n)
        course = Course(*(column.copy() for column in self._warm))
        status = self.solve(rounds, course, whole=True)
        self._solved.add(rounds)
        if status == DELAY_SHORT:
            return False
        lam, omega = float(course.scalars[0]), float(course.scalars[1])
        if status == ENERGY_SHORT:
            # such prices prove the shortage at any scale: take one that exceeds any value of interest
            energy = self.problem.limits.energy
            short = max(float(course.scalars[2]) - energy, 1e-9 * energy)
            lam = 10.0 * (phi + psi0 + psi * float(self.problem.devices.variance.sum()) + 1e-300) / short
        prices: SegmentPrices = price_segments(self.problem, lam, omega, course.price)
        self.pool.append(prices)
        self.homes.append((m, n))
        if status == SOLVED:
            self._warm = course
            value = (phi + float(course.scalars[4])) / weight
            if self.best is None or value < self.best.value:
                parts = parts_at(self.problem.criterion, m, n, self.segments)
                found = round_segments(self.problem, rounds, (weight, phi), parts, course, prices)
                if found is not None and (self.best is None or found.value < self.best.value):
                    self.best = found
        return True

    def _most_rounds(self) -> tuple[int, int]:
        """Rounds of either stage beyond which the delay is certainly broken."""
        limits, server = self.problem.limits, self.problem.server
        span, uploads = fastest_round(self.problem, self.problem.batches.low)
        least0 = server.cycles * self.problem.batches.server_low / server.clock_max
        least1 = span + (uploads if limits.tdma else 0.0) + limits.down_s
        most = [min(limits.delay / least * (1.0 + 1e-9), 2.0**50) for least in (least0, least1)]
        return int(most[0]), int(most[1])

    def _bound(self, box: Box, index: int) -> float:
        caps = caps_over(self.problem, *box.ends, self.segments)
        return float(segments_bound_over(self.problem, self.pool[index], caps, *box.ends, self.segments))

    def _cut_rounds(self) -> None:
        """Boxes of rounds, best bound first, each against the prices that bound its parent best and all newer ones."""
        heap: list[tuple[float, int, Box, int, tuple[int, ...]]] = []
        count = 0

        def push(box: Box, bound: float, seen: int, own: tuple[int, ...]) -> None:
            nonlocal count
            scored = [(bound, own[0])] if own else []
            for i in (*own, *range(seen, len(self.pool))):
                scored.append((self._bound(box, i), i))
                if scored[-1][0] >= self.target:
                    self.used.add(i)
                    return
            scored.sort(key=lambda entry: (-entry[0], entry[1]))
            if (box.m2, box.n2) != (0, 0):
                count += 1
                best = tuple(dict.fromkeys(i for _, i in scored))[:_OWN]
                bound = scored[0][0] if scored else bound
                heapq.heappush(heap, (bound, count, box, len(self.pool), best))

        most_m, most_n = self._most_rounds()
        push(Box(0, most_m, 0, most_n), -math.inf, 0, ())
        while heap and self.boxes < MOST_BOXES and heap[0][0] < self.target and not self._out_of_time():
            bound, _, box, seen, own = heapq.heappop(heap)
            self.boxes += 1
            if seen < len(self.pool):
                push(box, bound, seen, own)
                continue
            probe = self._open_pair(box, own)
            if probe is not None and self._price(probe):
                push(box, bound, seen, own)
            elif not box.single:
                for half in self._halves(box, own):
                    push(half, bound, seen, own)
            elif probe is None:
                self.used.update(own)
                self.floor = min(self.floor, bound)
        # what is left in the heap is bounded too, and the proof has to say by what
        self.used.update(i for entry in heap for i in entry[4])
        self.proven = max(self.proven, min([self.target, *(entry[0] for entry in heap)]))

    def _halves(self, box: Box, own: tuple[int, ...]) -> tuple[Box, ...]:
        """The box cut across the stage along which its best prices gain more by it."""
        cuts = box.cuts()
        wide_m, wide_n = box.widths
        if len(cuts) == 1 or not own or max(wide_m, wide_n) > _THIN * min(wide_m, wide_n):
            return cuts[-1 if wide_n > wide_m else 0]
        gains = [sum(min(self._bound(half, own[0]), self.target) for half in cut) for cut in cuts]
        return cuts[0 if gains[0] >= gains[1] else 1]

    def _open_pair(self, box: Box, own: tuple[int, ...]) -> tuple[int, int] | None:
        """The pair of the box, of its middle and corners, that its prices bound least; None if solved or settled.

        Prices found there lift the box's bound where it is lowest.
        """
        pairs = dict.fromkeys((box.middle, *((m, n) for m in (box.m1, box.m2) for n in (box.n1, box.n2))))
        least, open_pair = self.target, None
        for m, n in pairs:
            if (m, n) == (0, 0):
                continue
            caps = caps_over(self.problem, m, m, n, n, self.segments)
            bounds = (segments_bound_at(self.problem, self.pool[i], caps, m, n, self.segments) for i in own)
            bound = max(bounds, default=-math.inf)
            if bound < least:
                least, open_pair = bound, (m, n)
        return open_pair if open_pair not in self._solved else None

    def _out_of_time(self) -> bool:
        self.late = self.late or time.monotonic() > self.deadline
        return self.late
