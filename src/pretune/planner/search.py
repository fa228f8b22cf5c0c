"""The search over rounds: branch and bound whose bounds are prices (math.md section 6).

A solve at one pair of rounds gives prices; the same prices bound every other pair, in closed form. So the search keeps
a pool of prices, cuts the plane of rounds into boxes, drops a box when some prices prove it no better than the best
plan known, and solves afresh only where no prices do. What is left undropped at the end is the proven gap.

It goes over the plane up to three times: with real batches, which settles where to look; with the best whole batches
there as the plan to beat; and, where whole batches leave a gap, with the span of a fine-tuning round cut as well,
which caps every batch at a whole number.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np

from pretune.planner.kernels.fixed import (
    DELAY_SHORT,
    ENERGY_SHORT,
    SOLVED,
    least_seconds,
    least_span,
    new_point,
    solve_fixed,
)
from pretune.planner.kernels.fleet import least_uploads
from pretune.planner.kernels.halves import halves_of, split_batteries
from pretune.planner.kernels.priced import Prices, Region, most_batches, most_server_batch, point_prices
from pretune.planner.kernels.rounds import bound_at, coefficients
from pretune.planner.kernels.tree import FULL, OPEN, PROBE, Tree, add_box, explore, grown, new_tree
from pretune.planner.problem import Batches, Problem
from pretune.planner.rows import Rows
from pretune.planner.shortage import shortage_prices
from pretune.planner.whole import Decision, round_batches

MOST_ROUNDS = 10**12
"""More rounds than this are never planned."""
MOST_BOXES = 60_000
MOST_PROBES = 1_500
"""Boxes to look at and pairs to solve in one pass: what ends a search that no tolerance ends."""
_REAL = 0.3
"""Share of the tolerance to which the pass with real batches finds the rounds."""
_ROUNDED = 0.1
"""Share of the tolerance by which prices may fall short of the optimum they are from before it is solved anew."""
_ALIKE = 0.1
"""Share of the tolerance within which fewer rounds are as good."""
_PARTS = (16, 64, 256)
"""Shares of the rounds by which neighbours of the best pair differ from it."""
_NEARBY = 40
"""Neighbours looked at."""
_CORRECTIONS = 3
_SMALL_BATCH = 1000.0
"""Up to here, rounding the server's batch alone costs as much as the tolerance."""
_STARTS = (0.0, 0.02, 0.15, 0.45, 1.0)
"""Shares of the most rounds of either stage alone, where the first solves are."""


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
    starts: tuple[tuple[int, int], ...] = ()
    """Pairs of rounds to start from; by default a coarse grid."""
    only_real: bool = False
    """Whether to stop after the pass with real batches, without a plan."""
    real: tuple[float, tuple[int, int]] = (math.inf, (0, 0))
    """The best value with real batches, and its rounds."""
    most_probes: int = MOST_PROBES
    """Pairs to solve in one pass."""
    may_cut_spans: bool = True
    """Whether to go on to the pass that cuts spans where whole batches leave a gap."""
    ceiling: float = math.inf
    """The value of a plan known from elsewhere: nothing that can't beat it by the tolerance is looked at."""

    def run(self) -> None:
        """Search until the gap is within the tolerance, nothing is left to cut, or the time is up."""
        self.within = (self._within_delay(0), self._within_delay(1))
        self.warm = new_point(self.problem.devices.cycles.size)
        self._rows = Rows(self.problem)
        for rounds in self.starts or self._grid():
            self._probe(rounds, None)
        if not math.isfinite(self.real[0]):
            return
        self._cut(whole=False)
        if self.only_real or self.proven >= self._enough(self.ceiling):
            return
        # along a front the plan before has been polished, and there are many to come
        rounds = self._fewer(self.real[1] if self.starts else self._nearby(self.real[1]))
        self.solve(rounds)
        if not self.starts:
            self._whole_server_batches(rounds)
        if self._settled:
            return
        self._cut(whole=True)
        if self.may_cut_spans and self.best is not None and not self._settled and not self.late:
            self._cut(whole=True, spans=True)

    @property
    def gap(self) -> float:
        """The relative gap proven so far."""
        if self.best is None:
            return math.inf
        return (self.best.value - self.proven) / self.best.value if self.best.value > 0.0 else 0.0

    @property
    def _settled(self) -> bool:
        """Whether the gap is within the tolerance, or the plan known from elsewhere can't be beaten by it."""
        return self.gap <= self.tolerance or self.proven >= self._enough(self.ceiling)

    @property
    def target(self) -> float:
        """A box whose bound reaches this is settled."""
        value = self.ceiling if self.best is None else min(self.best.value, self.ceiling)
        return min(self._enough(value), self.floor)

    def _enough(self, value: float) -> float:
        """What has to be proven beside a plan of this value."""
        return value - 0.999 * self.tolerance * abs(value) if math.isfinite(value) else math.inf

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        self.late = self.late or time.monotonic() > self.deadline
        return self.late

    def _grid(self) -> list[tuple[int, int]]:
        """A coarse grid of rounds within what either stage alone could do."""
        most_m, most_n = self._most(0), self._most(1)
        grid = {(round(a * most_m), round(b * most_n)) for a in _STARTS for b in _STARTS if a + b <= 1.0}
        return sorted(grid - {(0, 0)})

    def _most(self, stage: int) -> int:
        """About the most rounds of one stage alone that fit the budgets, to some percent."""
        low, high = 0, 1
        while high < MOST_ROUNDS and self._possible(high, stage):
            low, high = high, high * 2
        while high - low > max(1, low // 16):
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
        return int(min(self.problem.limits.delay / one * (1.0 + 1e-9), 2.0**53))

    def _fewer(self, rounds: tuple[int, int]) -> tuple[int, int]:
        """The fewest rounds of either stage that are as good as `rounds` to a small share of the tolerance.

        Where more rounds of a stage bring nothing (pre-training at a huge gap between the data, say), a search ends
        anywhere on the plain; nobody wants to run millions of rounds for that.
        """
        most = self.real[0] + _ALIKE * self.tolerance * abs(self.real[0])

        def alike(stage: int, count: int) -> bool:
            pair = (count, rounds[1]) if stage == 0 else (rounds[0], count)
            return pair != (0, 0) and self._real_value(pair) <= most

        for stage in (0, 1):
            low, fewest = -1, rounds[stage] // 2
            if fewest == rounds[stage] or not alike(stage, fewest):
                continue
            while fewest - low > 1:
                middle = (low + fewest) // 2
                low, fewest = (low, middle) if alike(stage, middle) else (middle, fewest)
            rounds = (fewest, rounds[1]) if stage == 0 else (rounds[0], fewest)
        return rounds

    def _nearby(self, rounds: tuple[int, int]) -> tuple[int, int]:
        """The best pair that a pattern search finds near `rounds`, with real batches.

        The boxes leave a share of the tolerance open, which a few solves on the spot often bring in.
        """
        best, asked = self._real_value(rounds), 0
        for part in _PARTS:
            steps = [max(count // part, 1) if count else 0 for count in rounds]
            better = True
            while better and asked < _NEARBY:
                better = False
                for toward in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)):
                    pair = tuple(count + way * step for count, way, step in zip(rounds, toward, steps, strict=True))
                    if pair == rounds or min(pair) < 0 or not any(pair) or asked >= _NEARBY:
                        continue
                    value, asked = self._real_value((pair[0], pair[1])), asked + 1
                    if value < best:
                        best, rounds, better = value, (pair[0], pair[1]), True
                        break
        self.real = min(self.real, (best, rounds))
        return rounds

    def _whole_server_batches(self, rounds: tuple[int, int]) -> None:
        """Try the rounds at which the server's best batch is a whole number, where rounding it would cost most.

        Joules buy samples, so the batch goes about as one over the rounds; a batch just above a whole number is best.
        """
        m, n = rounds
        batch = self._real_solve(rounds)[1] if m else 0.0
        for whole in sorted({math.floor(batch), math.ceil(batch)}) if 1.0 <= batch <= _SMALL_BATCH else []:
            near, found = m, batch
            for _ in range(_CORRECTIONS):
                near = max(math.floor(near * found / whole), 1)
                found = self._real_solve((near, n))[1]
            if found >= whole:
                self.solve((near, n))

    def _real_value(self, rounds: tuple[int, int]) -> float:
        """The value at a pair of rounds with real batches; infinity where it does not fit."""
        return self._real_solve(rounds)[0]

    def _real_solve(self, rounds: tuple[int, int]) -> tuple[float, float]:
        """The value at a pair of rounds with real batches, and the server's batch; infinity where it does not fit."""
        m, n = map(float, rounds)
        weight, phi, psi0, psi = coefficients(self.problem.criterion, m, n)
        point = self.warm._replace(**{name: getattr(self.warm, name).copy() for name in self.warm._fields})
        self.solves += 1
        if solve_fixed(self.problem, self.problem.batches, m, n, psi0, psi, point) != SOLVED:
            return math.inf, 0.0
        return (phi + float(point.scalars[8])) / weight, float(point.scalars[4])

    def solve(
        self, rounds: tuple[int, int], batches: Batches | None = None, *, whole: bool = True
    ) -> tuple[Prices, float] | None:
        """Solve one pair of rounds for its prices and its span, and (`whole`) try for a better plan there.

        None where the batches' ranges leave no time for the rounds at all.
        """
        problem = self.problem
        m, n = map(float, rounds)
        at = coefficients(problem.criterion, m, n)
        weight, phi, psi0, psi = at
        warm = self.warm
        point = warm._replace(**{name: getattr(warm, name).copy() for name in warm._fields})
        within = problem.batches if batches is None else batches
        status = solve_fixed(problem, within, m, n, psi0, psi, point)
        self.solves += 1
        worth = 10.0 * (phi + psi0 + psi * float(problem.devices.variance.sum()) + 1e-300)
        if status not in (SOLVED, ENERGY_SHORT):
            shortage = shortage_prices(problem, rounds, worth, point)
            return None if shortage is None else (shortage, 0.0)
        lam = float(point.scalars[0])
        if status == ENERGY_SHORT:
            # such prices prove the shortage at any scale: take one that exceeds any value of interest
            short = max(point.scalars[6] - problem.limits.energy, 1e-9 * problem.limits.energy)
            lam = worth / float(short)
        prices = point_prices(problem, point, lam)
        if status == SOLVED and batches is None and not self._tight(prices, m, n, phi + point.scalars[8], weight):
            # begun from another point, a solve may keep that point's price of time where batches don't depend on it
            cold = new_point(problem.devices.cycles.size)
            self.solves += 1
            if solve_fixed(problem, within, m, n, psi0, psi, cold) == SOLVED:
                point, lam = cold, float(cold.scalars[0])
                prices = point_prices(problem, point, lam)
        if n > 0.0 and status == SOLVED and np.any(point.ratio > 1.0):
            splits = split_batteries(problem, float(point.scalars[1]), point, n)
            halves = halves_of(problem, lam, float(point.scalars[1]), point.price, point.ratio, splits, prices.band)
            prices = prices._replace(halves=halves, splits=splits)
        if status == SOLVED:
            self.warm = point
            value = (phi + float(point.scalars[8])) / weight
            self.real = min(self.real, (value, rounds))
            if whole and (self.best is None or value < self.best.value):
                self._take(round_batches(problem._replace(batches=within), rounds, at, point, prices))
        length = float(point.scalars[2])
        if n > 0.0 and problem.limits.tdma:
            length += float((problem.devices.span / np.maximum(point.exponent, 1e-290)).sum())
        return prices, min(length, problem.limits.delay)

    def _tight(self, prices: Prices, m: float, n: float, worth: float, weight: float) -> bool:
        """Whether prices prove the real optimum ``worth / weight`` they were found at, to what rounding leaves.

        Asked only where energy is worth next to nothing: that is where the price of time has nothing to hold on to.
        """
        if prices.energy * self.problem.limits.energy > self.tolerance * worth:
            return True
        alone = Region(m, m, n, n, 0.0, math.inf)
        proven = float(bound_at(self.problem, prices, alone, most_batches(self.problem, alone), m, n))
        return proven >= (1.0 - _ROUNDED * self.tolerance) * worth / weight

    def _take(self, found: Decision | None) -> None:
        if found is not None and (self.best is None or found.value < self.best.value):
            self.best = found

    def keep(self, rounds: tuple[int, int], prices: Prices, span: float) -> int:
        """Put prices into the pool, with where they come from; their number there."""
        self.pool.append(prices)
        self.homes.append((float(rounds[0]), float(rounds[1]), span))
        self._rows.add(prices)
        return len(self.pool) - 1

    def _probe(self, rounds: tuple[int, int], within: Batches | None, *, whole: bool = False) -> None:
        """Solve a pair of rounds and keep its prices."""
        self._rows.solved.append(rounds)
        found = self.solve(rounds, within, whole=whole)
        if found is not None:
            self.keep(rounds, *found)

    def _cut(self, *, whole: bool, spans: bool = False) -> None:
        """Boxes, best bound first, each against every price in the pool; stops when all are settled.

        `whole`: against the best plan; else against the best value with real batches. `spans`: boxes of rounds and
        spans; else of rounds.
        """
        tree, rows, before = new_tree(1024), self._rows, self.proven
        rows.used[:] = False
        rows.solved = [] if whole else rows.solved
        self.floor = math.inf
        low, high = self._span_range() if spans else (0.0, math.inf)
        root = Region(0.0, float(self.within[0]), 0.0, float(self.within[1]), low, high)
        add_box(self.problem, rows.pool, rows.count, tree, root, -math.inf, 0, self._goal(whole))
        most = rows.count + self.most_probes
        while True:
            why, m, n, row, bound = explore(
                self.problem, rows.pool, rows.count, tree, rows.pairs, spans, self._goal(whole), MOST_BOXES
            )
            if why == FULL:
                tree = grown(tree)
            elif why == PROBE:
                alone = Region(m, m, n, n, *tree.boxes[row, 4:].tolist())
                self._probe((int(m), int(n)), self.within_box(alone) if whole else None, whole=whole)
            elif why == OPEN:
                self._leave(tree, row, bound)
            if (why not in (FULL, PROBE, OPEN)) or rows.count >= most or self.out_of_time():
                break
        self.boxes += int(tree.counts[2])
        # what is left in the heap is bounded too, and the proof has to say by what
        left = tree.heap[: tree.counts[1]]
        proven = min([self._goal(whole), *tree.bound[left].tolist()])
        if proven > before:
            rows.used[tree.by[left]] = True
            self.used = set(np.flatnonzero(rows.used[: rows.count]).tolist())
            self.proven, self.cut_spans = proven, spans

    def _span_range(self) -> tuple[float, float]:
        """The lengths a fine-tuning round can have: one sample at full speed, up to the delay."""
        d, limits = self.problem.devices, self.problem.limits
        bare = d._replace(battery=np.full_like(d.battery, np.inf))
        least = float(least_span(bare, limits, self.problem.batches.low, 1.0)) + float(least_uploads(d, limits))
        least *= 1.0 - 1e-9
        return least, max(limits.delay, 2.0 * least)

    def _goal(self, whole: bool) -> float:
        real = self.real[0] - _REAL * self.tolerance * abs(self.real[0])
        return self.target if whole else min(real, self.floor, self._enough(self.ceiling))

    def _leave(self, tree: Tree, row: int, bound: float) -> None:
        """A pair of rounds that no prices settle: it stays open, unless not even its fastest run keeps the delay."""
        m, _, n, *_ = tree.boxes[row].tolist()
        point = new_point(self.problem.devices.cycles.size)
        if solve_fixed(self.problem, self.problem.batches, m, n, 0.0, 0.0, point) < DELAY_SHORT:
            self._rows.used[tree.by[row]] = True
            self.floor = min(self.floor, bound)

    def within_box(self, region: Region) -> Batches | None:
        """The ranges of the batches at the one pair of rounds of a region; None where they are empty."""
        low = self.problem.batches.low
        server_high = most_server_batch(self.problem, region)
        if region.n1 == 0.0:
            return self.problem.batches._replace(server_high=float(server_high)) if server_high >= 1.0 else None
        high = most_batches(self.problem, region)
        if (region.m1 and server_high < 1.0) or np.any(high < low):
            return None
        return Batches(
            server_low=self.problem.batches.server_low,
            server_high=float(max(server_high, 1.0)),
            low=low,
            high=high,
            span=0.0 if self.problem.limits.tdma else region.s1,
        )
