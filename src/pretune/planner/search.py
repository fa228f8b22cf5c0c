"""The search over rounds: branch and bound whose bounds are prices (math.md section 6).

A solve at one pair of rounds gives prices; the same prices bound every other pair, in closed form. So the search keeps
a pool of prices, cuts the plane of rounds into boxes, drops a box when some prices prove it no better than the best
plan known, and solves afresh only where no prices do. What is left undropped at the end is the proven gap.

A pair of rounds may keep a gap because batches are whole: then the search goes over the boxes again and cuts the span
of a fine-tuning round as well, which caps every batch at a whole number.
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass, field

import numpy as np

from pretune.planner.boxes import Box, between, compass, scaled
from pretune.planner.kernels.fixed import (
    DELAY_SHORT,
    ENERGY_SHORT,
    SOLVED,
    least_seconds,
    least_span,
    new_point,
    solve_fixed,
)
from pretune.planner.kernels.priced import (
    Prices,
    Region,
    most_batches,
    most_server_batch,
    price,
)
from pretune.planner.kernels.rounds import bound_at, bound_over, coefficients
from pretune.planner.problem import Batches, Problem
from pretune.planner.shortage import battery_prices, span_prices
from pretune.planner.whole import Decision, round_batches

MOST_ROUNDS = 10**12
"""More rounds than this are never planned."""
MOST_BOXES = 30_000
MOST_CUTS = 4_000
MOST_TDMA_CUTS = 400
"""Boxes to look at, and boxes with a cut span: what ends a search that no tolerance ends."""
_OWN = 6
"""How many price sets a box with a cut span remembers."""


@dataclass
class Search:
    """A search and its state: the best plan so far and what is proven about all others."""

    problem: Problem
    tolerance: float
    deadline: float = math.inf
    """Value of the monotonic clock at which to stop."""
    best: Decision | None = None
    pool: list[Prices] = field(default_factory=list)
    homes: list[tuple[float, float, float]] = field(default_factory=list)
    """For each prices in the pool: the rounds and the span it was solved at."""
    floor: float = math.inf
    """The least bound of a pair of rounds that whole batches leave open."""
    proven: float = -math.inf
    """The best lower bound proven for all rounds."""
    used: set[int] = field(default_factory=set)
    """The prices in the pool that settled a box."""
    solves: int = 0
    boxes: int = 0
    late: bool = False
    """Whether the deadline ended it."""
    cut_spans: bool = False
    """Whether spans had to be cut for the bound; cutting rounds was enough otherwise."""
    _values: dict[tuple[int, int], float] = field(default_factory=dict)
    _solved: set[tuple[int, int]] = field(default_factory=set)
    _span: float = 0.0

    def run(self) -> None:
        """Search until the gap is within the tolerance, nothing is left to cut, or the time is up."""
        self.most = (self._most(0), self._most(1))
        if self.most == (0, 0):
            return
        self.within = (self._within_delay(0), self._within_delay(1))
        self._warm = new_point(self.problem.devices.cycles.size)
        self._look_around()
        self._cut_rounds()
        if self.best is not None and self.gap > self.tolerance and not self.late:
            self._cut_spans()

    @property
    def gap(self) -> float:
        """The relative gap proven so far."""
        if self.best is None:
            return math.inf
        return (self.best.value - self.proven) / self.best.value if self.best.value > 0.0 else 0.0

    @property
    def target(self) -> float:
        """A box whose bound reaches this is settled."""
        if self.best is None:
            return math.inf
        value = self.best.value
        return min(value - 0.999 * self.tolerance * abs(value), self.floor)

    # ------------------------------------------------------------------ where to look at all

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
        m, n = (float(rounds), 0.0) if stage == 0 else (0.0, float(rounds))
        point = new_point(self.problem.devices.cycles.size)
        return bool(solve_fixed(self.problem, self.problem.batches, m, n, 0.0, 0.0, point) == SOLVED)

    def _within_delay(self, stage: int) -> int:
        """A number of rounds of one stage alone beyond which the delay is certainly broken."""
        m, n = (1.0, 0.0) if stage == 0 else (0.0, 1.0)
        bare = self.problem.devices._replace(battery=np.full_like(self.problem.devices.battery, np.inf))
        one = least_seconds(self.problem._replace(devices=bare), self.problem.batches, m, n)
        return int(min(self.problem.limits.delay / one * (1.0 + 1e-9), 2.0**62))

    def _look_around(self) -> None:
        """A coarse grid of rounds, then a compass search in the logarithm from its best point."""
        most_m, most_n = self.most
        shares = (0.0, 0.003, 0.03, 0.15, 0.4, 0.7, 1.0)
        starts = {(round(a * most_m), round(b * most_n)) for a in shares for b in shares if a + b <= 1.0}
        values = {rounds: self._value(rounds) for rounds in sorted(starts - {(0, 0)})}
        rounds = min(values, key=lambda pair: (values[pair], pair))
        step = 2.0
        while step > 1.004:
            m, n = rounds
            around = {(scaled(m, f), scaled(n, g)) for f, g in compass(step)}
            around = {(min(a, most_m), min(b, most_n)) for a, b in around} - {(0, 0)}
            trials = {pair: self._value(pair) for pair in sorted(around)}
            best = min(trials, key=lambda pair: (trials[pair], pair))
            if trials[best] < self._value(rounds):
                rounds = best
            else:
                step = step**0.4
        self._solve(rounds)

    def _value(self, rounds: tuple[int, int]) -> float:
        """The value at a pair of rounds with real batches; infinity where it does not fit."""
        if rounds not in self._values:
            m, n = map(float, rounds)
            weight, phi, psi0, psi = coefficients(self.problem.criterion, m, n)
            status = solve_fixed(self.problem, self.problem.batches, m, n, psi0, psi, self._warm)
            self.solves += 1
            self._values[rounds] = (phi + float(self._warm.scalars[8])) / weight if status == SOLVED else math.inf
        return self._values[rounds]

    # ------------------------------------------------------------------ prices and plans

    def _solve(self, rounds: tuple[int, int], batches: Batches | None = None) -> Prices | None:
        """Solve one pair of rounds for its prices, and try for a better plan there.

        None where the batches' ranges leave no time for the rounds at all.
        """
        problem = self.problem
        m, n = map(float, rounds)
        at = coefficients(problem.criterion, m, n)
        weight, phi, psi0, psi = at
        warm = self._warm
        point = warm._replace(**{name: getattr(warm, name).copy() for name in warm._fields})
        within = problem.batches if batches is None else batches
        status = solve_fixed(problem, within, m, n, psi0, psi, point)
        self.solves += 1
        worth = 10.0 * (phi + psi0 + psi * float(problem.devices.variance.sum()) + 1e-300)
        if status not in (SOLVED, ENERGY_SHORT):
            return battery_prices(problem, rounds, worth) or span_prices(problem, rounds, worth, point)
        lam = float(point.scalars[0])
        self._span = float(point.scalars[2])
        if status == ENERGY_SHORT:
            # such prices prove the shortage at any scale: take one that exceeds any value of interest
            short = max(point.scalars[6] - problem.limits.energy, 1e-9 * problem.limits.energy)
            lam = worth / float(short)
        prices: Prices = price(problem, lam, float(point.scalars[1]), point.price, point.ratio)
        if status == SOLVED:
            self._warm = point
        value = (phi + float(point.scalars[8])) / weight
        if status == SOLVED and (self.best is None or value < self.best.value):
            found = round_batches(problem._replace(batches=within), rounds, at, point, prices)
            if found is not None and (self.best is None or found.value < self.best.value):
                self.best = found
        return prices

    def _keep(self, prices: Prices, rounds: tuple[int, int]) -> None:
        """Put prices into the pool, with where they come from."""
        self.pool.append(prices)
        self.homes.append((float(rounds[0]), float(rounds[1]), float(self._span)))

    # ------------------------------------------------------------------ first pass: rounds

    def _cut_rounds(self) -> None:
        """Boxes of rounds, best bound first, each against every price in the pool."""
        heap: list[tuple[float, int, Box, int]] = []

        def push(box: Box, bound: float, seen: int, by: int) -> None:
            region = box.region
            caps = most_batches(self.problem, region)
            for i in range(seen, len(self.pool)):
                proven = bound_over(self.problem, self.pool[i], region, caps)
                if proven > bound:
                    bound, by = proven, i
                if bound >= self.target:
                    self.used.add(by)
                    return
            if (box.m2, box.n2) != (0, 0):
                heapq.heappush(heap, (bound, len(self.pool), box, by))

        push(Box(0, self.within[0], 0, self.within[1], 0.0, math.inf), -math.inf, 0, 0)
        while heap and self.boxes < MOST_BOXES and heap[0][0] < self.target:
            bound, seen, box, by = heapq.heappop(heap)
            self.boxes += 1
            if seen < len(self.pool):
                push(box, bound, seen, by)
                continue
            probe = self._open_pair(box)
            if probe is not None:
                self._solved.add(probe)
                m, n = probe
                prices = self._solve(probe, self._within(Box(m, m, n, n, 0.0, math.inf), probe))
                if prices is not None:
                    self._keep(prices, probe)
                push(box, bound, seen, by)
            elif not box.single:
                for half in box.halve_rounds():
                    push(half, bound, 0, by)
            elif not self._no_time(box):
                self.used.update(range(len(self.pool)) if len(self.pool) <= 64 else self._best_for(box))
                self.floor = min(self.floor, bound)
            if self._out_of_time():
                break
        # what is left in the heap is bounded too, and the proof has to say by what
        self.used.update(entry[3] for entry in heap)
        self.proven = max(self.proven, min([self.target, *(entry[0] for entry in heap)]))

    def _open_pair(self, box: Box) -> tuple[int, int] | None:
        """A pair of the box, not yet solved, that no prices settle though they were asked for it alone."""
        middle = (between(box.m1, box.m2 + 1), between(box.n1, box.n2 + 1))
        for rounds in (middle, (box.m1, box.n1)):
            if rounds == (0, 0) or rounds in self._solved:
                continue
            m, n = map(float, rounds)
            alone = Region(m, m, n, n, box.s1, box.s2)
            caps = most_batches(self.problem, alone)
            if all(bound_at(self.problem, prices, alone, caps, m, n) < self.target for prices in self.pool):
                return rounds
        return None

    def _best_for(self, box: Box) -> list[int]:
        """The prices that bound a box best."""
        region = box.region
        caps = most_batches(self.problem, region)
        scores = [bound_over(self.problem, prices, region, caps) for prices in self.pool]
        return sorted(range(len(scores)), key=lambda i: -scores[i])[:_OWN]

    def _no_time(self, box: Box) -> bool:
        """Whether not even the fastest run of a pair of rounds keeps the delay."""
        point = new_point(self.problem.devices.cycles.size)
        m, n = float(box.m1), float(box.n1)
        status = solve_fixed(self.problem, self.problem.batches, m, n, 0.0, 0.0, point)
        return bool(status >= DELAY_SHORT)

    def _out_of_time(self) -> bool:
        self.late = self.late or time.monotonic() > self.deadline
        return self.late

    # ------------------------------------------------------------------ second pass: rounds and spans

    def _cut_spans(self) -> None:
        """Boxes of rounds and spans, best bound first, each against its own prices and those it inherits."""
        self.floor = math.inf
        d, limits = self.problem.devices, self.problem.limits
        bare = d._replace(battery=np.full_like(d.battery, np.inf))
        least = (1.0 - 1e-9) * least_span(bare, limits, self.problem.batches.low, 1.0)
        start = Box(0, self.within[0], 0, self.within[1], float(least), max(limits.delay, 2.0 * float(least)))
        heap: list[tuple[float, int, Box, tuple[int, ...]]] = []
        before, pool = self.proven, self.pool
        count = 0

        def push(box: Box, bound: float, own: tuple[int, ...]) -> None:
            nonlocal count
            region = box.region
            caps = most_batches(self.problem, region)
            scored = sorted(((bound_over(self.problem, pool[i], region, caps), i) for i in own), reverse=True)
            if scored:
                bound = max(bound, scored[0][0])
            if bound >= self.target:
                self.used.update(i for _, i in scored[:_OWN])
            if bound < self.target and (box.m2, box.n2) != (0, 0):
                count += 1
                heapq.heappush(heap, (bound, count, box, tuple(i for _, i in scored[:_OWN])))

        push(start, self.proven, tuple(range(len(pool))))
        cuts = 0
        most_cuts = MOST_TDMA_CUTS if limits.tdma else MOST_CUTS
        while heap and cuts < most_cuts and heap[0][0] < self.target:
            bound, _, box, own = heapq.heappop(heap)
            cuts += 1
            middle = (between(box.m1, box.m2 + 1), between(box.n1, box.n2 + 1))
            corner = (box.m1, box.n1) if (box.m1, box.n1) != (0, 0) else middle
            for rounds in dict.fromkeys((middle, corner)):
                within = self._within(box, rounds)
                if within is None or rounds == (0, 0):
                    continue
                prices = self._solve(rounds, within)
                if prices is not None:
                    self._keep(prices, rounds)
                    own = (*own, len(pool) - 1)
                    region = box.region
                    bound = max(bound, bound_over(self.problem, prices, region, most_batches(self.problem, region)))
                    if bound >= self.target:
                        self.used.add(own[-1])
                    break
            if bound < self.target:
                wide_m, wide_n, wide_s = box.widths
                wide = max(wide_m, wide_n)
                if box.single and wide_s < 1e-10:
                    self.used.update(own)
                    self.floor = min(self.floor, bound)
                    continue
                free = box.n2 > 0 and (box.m2 > 0 or limits.tdma)
                if box.single and not free:
                    self.used.update(own)
                    self.floor = min(self.floor, bound)
                    continue
                by_span = free and (box.single or wide_s > max(4.0 * wide * wide, 0.5 * wide))
                for half in box.halve_span() if by_span else box.halve_rounds():
                    push(half, bound, own)
            if self._out_of_time():
                break
        for entry in heap:
            self.used.update(entry[3])
        self.proven = max(before, min([self.target, *(entry[0] for entry in heap)]))
        if self.proven > before:
            self.cut_spans = True

    def _within(self, box: Box, rounds: tuple[int, int]) -> Batches | None:
        """The ranges of the batches at a pair of rounds of a box; None where they are empty."""
        region = box.region._replace(m1=float(rounds[0]), m2=float(rounds[0]), n1=float(rounds[1]), n2=float(rounds[1]))
        low = self.problem.batches.low
        server_high = most_server_batch(self.problem, region)
        if rounds[1] == 0:
            return self.problem.batches._replace(server_high=float(server_high)) if server_high >= 1.0 else None
        high = most_batches(self.problem, region)
        if (rounds[0] and server_high < 1.0) or np.any(high < low):
            return None
        return Batches(
            server_low=self.problem.batches.server_low,
            server_high=float(max(server_high, 1.0)),
            low=low,
            high=high,
            span=box.s1,
        )
