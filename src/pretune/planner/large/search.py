"""The plan of a large fleet: rounds from samples of it, prices and whole batches from the fleet, proof by the checker.

The rounds barely depend on which devices of a kind there are: a sample of two thousand finds them within some percent,
a larger one within some per mille, where the objective is flat. The fleet itself is solved once, at those rounds.
The bound is proven by the very code that `pretune check` runs (`pretune.compact`): its price sets are a few numbers
each, taken from the samples, and it works out the fleet's shares of them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pretune.compact import bound_large, compact_priced
from pretune.figures import Boxes, System
from pretune.frontier import Frontier
from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import ENERGY_SHORT, SOLVED, solve_fixed
from pretune.planner.kernels.priced import Prices
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.kernels.slopes import PRICE
from pretune.planner.large.crew import Crew
from pretune.planner.large.newton import Start, most_whole, solve, solve_held, start_of
from pretune.planner.large.sample import sample
from pretune.planner.large.whole import round_large
from pretune.planner.problem import Problem
from pretune.planner.search import Search
from pretune.planner.shortage import battery_prices
from pretune.planner.whole import Decision
from pretune.price_sets import Priced

Point = tuple[float, float, float]
"""Rounds of both stages and a span."""
COARSE, FINE = 400, 30_000
"""Devices of the two samples."""
_ROUGH = 1e-3
"""Gap to which the coarse sample is searched at least."""
MOST_SETS = 60
_GAPS = (1e-2, 1e-3)
"""Gaps that are closed before the tolerance is tried, so that a search that ends early has proven something."""
_SMALLER = (0.5, 0.2, 0.1)
"""Shares of the tolerance that are tried last, with no more sets."""
_YIELD = 0.3
"""Share of a gap by which less is claimed: the last bit of a bound takes most of the price sets."""
_SURE = 3e-5
"""Relative error of the samples' values, once they are scaled by the fleet's own."""
_MOST_BATTERIES = 50_000
_NEARER = 6
"""Trials to find a span between that of a point and the best one, where there is no energy for the former."""


@dataclass
class LargeSearch:
    """A search over a large fleet and its state, as `Search`."""

    problem: Problem
    system: System
    tolerance: float
    deadline: float = math.inf
    best: Decision | None = None
    proven: float = -math.inf
    entries: list[dict[str, Any]] = field(default_factory=list)
    """The price sets that prove the bound, the plan's own first, as the plan file holds them."""
    sets: list[Priced] = field(default_factory=list)
    late: bool = False
    needed: list[int] = field(default_factory=list)
    """The sets that the proof takes."""

    def run(self) -> None:
        """Find rounds, plan the fleet, prove the bound; leaves `best` None where the samples find nothing feasible."""
        coarse = sample(self.problem, COARSE)
        search = Search(coarse, max(self.tolerance, _ROUGH), self.deadline, only_real=True)
        search.run()
        value, rounds = search.real
        if not math.isfinite(value):
            return
        self._coarse, self._fine = Crew(coarse), Crew(sample(self.problem, FINE))
        self._start = self._coarse_start(rounds)
        rounds = self._refine(rounds)
        if not self._plan_fleet(rounds):
            return
        self._prove()

    # ------------------------------------------------------------------ rounds

    def _coarse_start(self, rounds: tuple[int, int]) -> Start:
        """Prices and span at a pair of rounds, from the coarse sample by the nested solver."""
        m, n = map(float, rounds)
        _, _, psi0, psi = coefficients(self.problem.criterion, m, n)
        crew = self._coarse
        solve_fixed(crew.problem, crew.problem.batches, m, n, psi0, psi, crew.point)
        return start_of(crew)

    def _refine(self, rounds: tuple[int, int]) -> tuple[int, int]:
        """A compass search with small steps on the fine sample."""
        values: dict[tuple[int, int], float] = {}

        def value(pair: tuple[int, int]) -> float:
            if pair not in values:
                values[pair] = self._value(pair)
            return values[pair]

        step = 1.03
        while step > 1.002 and not self._out_of_time():
            factors = ((step, 1.0), (1 / step, 1.0), (1.0, step), (1.0, 1 / step), (step, 1 / step), (1 / step, step))
            around = {(_scaled(rounds[0], f), _scaled(rounds[1], g)) for f, g in factors} - {(0, 0)}
            best = min(sorted(around), key=value)
            if value(best) < value(rounds):
                rounds = best
            else:
                step = step**0.4
        return rounds

    def _value(self, rounds: tuple[int, int]) -> float:
        """The criterion at a pair of rounds with real batches, on the fine sample; infinity where it does not fit."""
        m, n = map(float, rounds)
        weight, phi, psi0, psi = coefficients(self.problem.criterion, m, n)
        crew = self._fine
        if solve(crew, crew.problem.batches, m, n, psi0, psi, self._start) != SOLVED:
            return math.inf
        self._real = (phi + float(crew.point.scalars[8])) / weight
        if n > 0.0 and crew.point.scalars[0] > 0.0:
            self._start = start_of(crew)
            # with whole batches a clock limits more: tell rounds apart by what whole batches can do
            whole = crew.problem.batches._replace(high=most_whole(crew.problem, self._start.span))
            if not solve_held(crew, whole, m, n, psi0, psi, self._start):
                return self._real
        return (phi + float(crew.point.scalars[8])) / weight

    # ------------------------------------------------------------------ the fleet itself

    def _plan_fleet(self, rounds: tuple[int, int]) -> bool:
        """Solve the fleet at the rounds, round its batches, and keep the prices; False where that does not fit."""
        m, n = map(float, rounds)
        at = coefficients(self.problem.criterion, m, n)
        self._value(rounds)
        crew = Crew(self.problem)
        sampled = self._real
        if solve(crew, self.problem.batches, m, n, at[2], at[3], self._start) != SOLVED:
            return False
        high, start = self.problem.batches.high, start_of(crew)
        self._scale = (at[1] + float(crew.point.scalars[8])) / at[0] / sampled if sampled > 0.0 else 1.0
        self._add((m, n, start.span), start, crew.point.ratio)
        held = False
        if n > 0.0:
            high = most_whole(self.problem, start.span)
            whole = self.problem.batches._replace(high=high)
            held = solve_held(crew, whole, m, n, at[2], at[3], start)
            if not held:
                # time has no price there, or the prices would not settle: round the real batches
                self._start = start
                solve(crew, self.problem.batches, m, n, at[2], at[3], start)
        scalars, ratios = crew.point.scalars.copy(), crew.point.ratio.copy()
        prices = crew.priced(float(scalars[0]), float(scalars[1]))
        self.best = round_large(crew, rounds, at, prices, high)
        if self.best is None:
            return False
        if held:
            self._add((m, n, start.span), start_of(crew, scalars), ratios, whole=True)
        return True

    def _add(
        self, home: Point, prices: Start, ratios: Floats | None = None, *, beta: float = -1.0, whole: bool = False
    ) -> None:
        """Put a price set into the certificate's list, and work out what it implies."""
        m, n, span = home
        lam, omega = prices.energy, prices.omega
        if beta < 0.0:
            # where nothing is fine-tuned the set speaks of the first round that would be
            near = max(n, 1.0)
            beta = math.sqrt(coefficients(self.problem.criterion, m, near)[3] / (near * lam)) if lam > 0.0 else 0.0
        if n == 0.0:
            span = self._fair_span(beta, omega)
        entry: dict[str, Any] = {
            "energy": short(lam),
            "omega": short(omega),
            "span": short(span),
            "beta": short(beta),
            "whole": whole,
            "home": [m, n, short(span)],
        }
        priced = np.flatnonzero(ratios > 1.0) if ratios is not None else np.zeros(0, dtype=np.intp)
        if ratios is not None and priced.size:
            values = [max(short(value), 1.0) for value in ratios[priced].tolist()]
            entry["ratios"] = {"devices": priced.tolist(), "values": values}
        self.entries.append(entry)
        self.sets.append(compact_priced(self.system, entry))

    def _fair_span(self, beta: float, omega: float) -> float:
        """The span at which the coarse sample's prices of time add up to `omega`."""
        crew = self._coarse
        batches = crew.problem.batches
        low = crew.fastest(batches.low) * (1.0 + 1e-9)
        high = 2.0 * max(low, self.problem.limits.delay)
        for _ in range(60):
            middle = math.sqrt(low * high)
            if crew.pass_over(batches.low, batches.high, beta, 1.0, middle, omega)[PRICE] > omega:
                low = middle
            else:
                high = middle
        return high

    # ------------------------------------------------------------------ the proof

    def _prove(self) -> None:
        """Prove ever smaller gaps, with price sets where one is open, until the tolerance or the end of the means."""
        best = self.best
        if best is None:
            return
        # at the plan's own rounds and span whole batches leave this gap at least: no use to ask for a smaller one
        home = self.entries[-1]["home"]
        there = np.array([[home[0], home[0], home[1], home[1], home[2], home[2] * (1.0 + 1e-9)]])
        own = best.value - max(float(bound_large(self.system, prices, there)[0]) for prices in self.sets)
        least = max(0.999 * self.tolerance, (1.0 + _YIELD) * own / abs(best.value) if best.rounds[1] else 0.0)
        for gap in (*_GAPS, least):
            if gap >= least and not self._close(best.value - gap * abs(best.value), best.value):
                return
        if least > self.tolerance:
            return
        for share in _SMALLER:
            target = best.value - share * self.tolerance * abs(best.value)
            frontier = Frontier.of(self.system)
            if frontier.advance(self.sets, target) is not None:
                return
            self.proven, self.needed = target, sorted(frontier.needed)

    def _close(self, target: float, value: float) -> bool:
        """Whether the sets, and those added here where a point is open, prove the target; else what can be, if any."""
        whole, frontier = True, Frontier.of(self.system)
        while True:
            point = frontier.advance(self.sets, target)
            if point is None:
                self.proven, self.needed = target, sorted(frontier.needed)
                return whole
            if len(self.sets) >= MOST_SETS or self._out_of_time():
                return False
            count = len(self.sets)
            self._ask(point, target)
            found = max(float(bound_large(self.system, prices, point)[0]) for prices in self.sets)
            if found < target:
                # whole batches (or the samples' prices) leave a gap there: what is below it can still be proven
                whole, target = False, found - _YIELD * (value - found)
                if target <= self.proven or len(self.sets) == count:
                    return False

    def _ask(self, point: Boxes, target: float) -> None:
        """Add a price set for a point, from the samples; real batches first, whole ones where they do not reach."""
        m, _, n, _, _, span = point[0].tolist()
        _, phi, psi0, psi = coefficients(self.problem.criterion, m, n)
        if n > 0.0:
            fine, start = self._fine, self._nearest((m, n, span))
            if solve(fine, fine.problem.batches, m, n, psi0, psi, start) == SOLVED:
                start = start_of(fine)
                weight = coefficients(self.problem.criterion, m, n)[0]
                if self._scale * (phi + float(fine.point.scalars[8])) / weight >= target * (1.0 + _SURE):
                    self._add((m, n, start.span), start)
                    return
                # real batches are too good to be true there: see what whole ones can do
                for _ in range(_NEARER):
                    whole = fine.problem.batches._replace(high=most_whole(fine.problem, span))
                    if solve_held(fine, whole, m, n, psi0, psi, replace(start, span=span)):
                        self._add((m, n, span), start_of(fine), whole=True)
                        return
                    # no energy for rounds as fast as that: prices of slower ones say so too
                    span = math.sqrt(span * start.span)
                self._add((m, n, start.span), start)
                return
        crew = self._coarse
        status = solve_fixed(crew.problem, crew.problem.batches, m, n, psi0, psi, crew.point)
        found = start_of(crew)
        if status == SOLVED:
            self._add((m, n, found.span), found)
        elif status == ENERGY_SHORT:
            # such prices prove the shortage at any scale: take one that exceeds any value of interest
            limits = self.problem.limits
            short_j = max(float(crew.point.scalars[6]) - limits.energy, 1e-9 * limits.energy)
            worth = 10.0 * (phi + psi0 + psi * float(self.problem.devices.variance.sum()) + 1e-300)
            self._add((m, n, found.span), replace(found, energy=worth / short_j), beta=0.0)
        elif (short_of := self._battery_short(m, n)) is not None:
            # one battery can't pay for these rounds: its price alone proves that, with the span that it has for them
            worst = int(np.argmax(short_of.ratios))
            worth = 10.0 * (phi + psi0 + psi * float(self.problem.devices.variance.sum()) + 1e-300)
            self._add(
                (m, n, span_left(self.problem, m, n, worst)),
                Start(energy=worth * short_of.energy, omega=short_of.delay / short_of.energy, span=0.0),
                short_of.ratios,
                beta=0.0,
            )

    def _battery_short(self, m: float, n: float) -> Prices | None:
        """Prices of a battery that can't pay for a pair of rounds; not sought where that takes too long."""
        if int(np.isfinite(self.problem.devices.battery).sum()) > _MOST_BATTERIES:
            return None
        return battery_prices(self.problem, (int(m), int(n)), 1.0)

    def _nearest(self, point: Point) -> Start:
        """Prices of the set whose home is nearest, to start from."""
        homes = np.log1p([entry["home"] for entry in self.entries if entry["energy"] > 0.0])
        at = int(((homes - np.log1p(point)) ** 2).sum(axis=1).argmin())
        entry = [entry for entry in self.entries if entry["energy"] > 0.0][at]
        return Start(energy=entry["energy"], omega=entry["omega"], span=entry["span"])

    def _out_of_time(self) -> bool:
        self.late = self.late or time.monotonic() > self.deadline
        return self.late


def span_left(problem: Problem, m: float, n: float, device: int) -> float:
    """Seconds that a device has for a fine-tuning round, at the server's fastest; TDMA: after all other uploads."""
    d, limits, server = problem.devices, problem.limits, problem.server
    left = (limits.delay - m * server.cycles * problem.batches.server_low / server.clock_max) / n - limits.down_s
    fastest = d.span / d.exponent_max
    return float(left - (fastest.sum() - fastest[device] if limits.tdma else 0.0))


def _scaled(rounds: int, factor: float) -> int:
    """`rounds` times `factor`, at least one away when the factor is not one (and at least 0)."""
    scaled = round(rounds * factor)
    if scaled == rounds and factor != 1.0:
        scaled += 1 if factor > 1.0 else -1
    return max(scaled, 0)


def short(value: float) -> float:
    """Twelve digits of a price: any prices prove something."""
    return float(f"{value:.12g}")
