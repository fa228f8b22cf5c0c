"""With which probability each device is asked, decided together with everything else.

At fixed rounds and a fixed span the joint problem is convex (docs/uncertainty.md), and `kernels.asked` solves it. Over
rounds and span a pattern search looks, with real numbers. What it finds are the probabilities; the plan is then the
planner's own at these, whole batches and all.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from pretune.convergence.criteria import Calibrated, Final, Trajectory, criterion_of
from pretune.convergence.participation import Known, with_spread
from pretune.physics.types import Floats
from pretune.planner.kernels.asked import decide, decided, server_within
from pretune.planner.problem import Problem
from pretune.scenario import Scenario

_TURNS = 12
_STEPS = (0.4, 0.1, 0.025, 0.006)
_MOST = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """The joint optimum at rounds ``(m, n)`` and a span; `columns` (K, 7) as in `kernels.asked.decide`."""

    value: float
    m: float
    n: float
    span: float
    columns: Floats
    energy: float
    """Price of a joule, in units of the criterion's numerator."""
    omega: float
    """What a second is worth in joules."""
    spread: float
    """Price of ``sum_k alpha_k^2 / p_k``, in the same units."""
    c: float

    @property
    def probability(self) -> Floats:
        """(K,)."""
        found: Floats = self.columns[:, 0].copy()
        return found


class Joint:
    """The joint problem of a scenario in which all are asked; `problem` is its planning problem."""

    def __init__(self, scenario: Scenario, problem: Problem, least: float) -> None:
        constants = scenario.assumed
        self.problem, self.least = problem, least
        base = criterion_of(scenario)
        if not isinstance(base, Trajectory | Final | Calibrated):
            raise TypeError(f"no way is known to decide who is asked with criterion {base.name}")
        self.base: Known = base
        self.h, self.mu = constants.heterogeneity or 0.0, constants.pl_constant
        self.weight_sq = np.square(scenario.devices.weight)
        self._start = 0.0
        self.solves = 0
        self.best: Asked | None = None
        self.deadline = math.inf
        """Value of the monotonic clock at which to stop searching."""

    def at_spread(self, c: float) -> Known | None:
        """The criterion at a spread of the probabilities."""
        return with_spread(self.base, c, heterogeneity=self.h, pl_constant=self.mu)

    def spans(self, m: float, n: float) -> tuple[float, float]:
        """The shortest and the longest span at fixed rounds."""
        d, limits, server = self.problem.devices, self.problem.limits, self.problem.server
        shortest = float((d.cycles / d.clock_max + d.span / d.exponent_max).max()) * (1.0 + 1e-12)
        least = m * server.cycles / server.clock_max
        return shortest, ((limits.delay - least) / n - limits.down_s) if n > 0.0 else math.inf

    def solve(
        self, m: float, n: float, span: float, c: float | None = None, spread: float | None = None
    ) -> Asked | None:
        """The joint optimum; None where nothing fits. `spread`: its price given, and the criterion at spread `c`."""
        problem = self.problem
        d, limits, server = problem.devices, problem.limits, problem.server
        count = d.cycles.size
        left = limits.delay - n * (span + limits.down_s) if n > 0.0 else limits.delay
        time0 = left / m if m > 0.0 else 0.0
        if left < -1e-9 * limits.delay or (m > 0.0 and time0 * server.clock_max < server.cycles * (1.0 - 1e-12)):
            return None
        energy = limits.energy - n * limits.down_j
        if energy <= 0.0:
            return None
        allowed = d.battery / n if n > 0.0 else np.full(count, np.inf)
        high = np.minimum(problem.batches.high, np.inf)
        found, numbers = np.ones((count, 7)), np.zeros(4)
        fixed, now = spread is not None, 0.0 if c is None else c
        guess, best = math.nan, None
        for _ in range(_TURNS):
            criterion = self.at_spread(now)
            if criterion is None:
                now *= 0.5
                continue
            at = criterion.at(m, n)
            price = spread if spread is not None else self._price(m, n, now, guess, best)
            self.solves += 1
            usual = (float(at.phi) + float(at.psi0)) / limits.energy + 1e-300
            start = self._start if 1e-6 * usual < self._start < 1e6 * usual else usual
            ok = decided(
                d,
                server,
                m,
                n,
                span,
                time0,
                float(at.psi0),
                float(at.psi),
                price * self.weight_sq,
                self.least,
                high,
                problem.batches.server_high,
                allowed,
                energy,
                start,
                found,
                numbers,
            )
            if not ok:
                return None
            self._start = float(numbers[0])
            if n == 0.0:
                found[:, 4] = 0.0
            p, batch = found[:, 0], found[:, 1]
            reached = float((self.weight_sq * (1.0 / p - 1.0)).sum()) if n > 0.0 else 0.0
            noise = float((d.variance / (p * batch)).sum()) if n > 0.0 else 0.0
            value = self.value(m, n, reached, noise, float(numbers[1]))
            omega = float(numbers[2]) if m > 0.0 else float((p * found[:, 4] * found[:, 6]).sum())
            one = Asked(
                value=value,
                m=m,
                n=n,
                span=span,
                columns=found.copy(),
                energy=float(numbers[0]),
                omega=omega,
                spread=price,
                c=reached,
            )
            if best is None or value < best.value:
                best = one
            if fixed:
                return one
            settled = abs(reached - now) <= 1e-7 * max(1e-3, reached) and abs(value - guess) <= 1e-10 * abs(value)
            now, guess = reached, value
            self._last = (noise, float(numbers[1]))
            if settled or isinstance(criterion, Calibrated) or n == 0.0:
                break
        return best

    def shortage(self, m: float, n: float, span: float, worth: float) -> Asked | None:
        """Prices that prove that not even what costs least fits the energy: a shortage worth `worth`; None if it does.

        `worth` is in units of the numerator.
        """
        d, limits, server = self.problem.devices, self.problem.limits, self.problem.server
        found, count = np.ones((d.cycles.size, 7)), d.cycles.size
        none, free = np.zeros(count), np.full(count, np.inf)
        joules = n * decide(d, span, 1.0, 1e-200, none, self.least, self.problem.batches.high, free, found)
        joules += n * limits.down_j
        price = 0.0
        if m > 0.0:
            time0 = (limits.delay - n * (span + limits.down_s)) / m
            _, once, price = server_within(server, time0, 1.0, 1e-200, self.problem.batches.server_high)
            joules += m * once
        short = joules - limits.energy
        if not short > 1e-9 * limits.energy:
            return None
        omega = price if m > 0.0 else float((found[:, 0] * found[:, 4]).sum())
        return Asked(
            value=math.inf, m=m, n=n, span=span, columns=found, energy=worth / short, omega=omega, spread=0.0, c=0.0
        )

    def value(self, m: float, n: float, c: float, noise: float, server_batch: float) -> float:
        """The criterion; infinity where so few answer that it says nothing."""
        criterion = self.at_spread(c)
        if criterion is None:
            return math.inf
        at = criterion.at(m, n)
        server = float(at.psi0) / server_batch if m > 0.0 else 0.0
        return (float(at.phi) + server + float(at.psi) * noise) / float(at.weight)

    def _price(self, m: float, n: float, c: float, guess: float, best: Asked | None) -> float:
        """What a little more spread costs in units of the numerator, at the last trial."""
        if isinstance(self.base, Calibrated) or n == 0.0:
            return 0.0
        if isinstance(self.base, Trajectory):
            value = guess if math.isfinite(guess) else float(self.base.at(m, n).phi / self.base.at(m, n).weight)
            return 2.0 * n * self.base.device_noise * (self.h**2 + value)
        noise, batch = getattr(self, "_last", (float(self.problem.devices.variance.sum()), 1.0))
        step = 1e-6 * max(c, 1e-3)
        above, here = (self.value(m, n, x, noise, batch) for x in (c + step, c))
        return (above - here) / step if math.isfinite(above) else 1e6 * here

    def search(self, starts: list[tuple[float, float]]) -> Asked | None:
        """The best found over rounds and spans, by a pattern search in their logarithms from each start."""
        best: Asked | None = None
        for m, n in starts:
            if n <= 0.0:
                continue
            found = self._from(m, n)
            if found is not None and (best is None or found.value < best.value):
                best = found
        return best

    def _spanned(self, m: float, n: float, part: float) -> Asked | None:
        """The solve at a span that is the share `part` of the way from the shortest to the longest (in logarithms)."""
        low, high = self.spans(m, n)
        if not high >= low:
            return None
        return self.solve(m, n, low * (high / low) ** (1.0 if m == 0.0 else part))

    def _from(self, m: float, n: float) -> Asked | None:
        tries = [self._spanned(m, n, part) for part in ((1.0,) if m == 0.0 else (0.5, 0.75, 0.9, 0.97))]
        known = [one for one in tries if one is not None]
        if not known:
            return None
        best = min(known, key=lambda one: one.value)
        asked = 0
        ways: list[tuple[int, int, int]] = [(0, 1, 0), (0, -1, 0)]
        if m > 0.0:
            ways += [(1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1), (0, 1, -1), (0, -1, 1), (1, -1, 0), (-1, 1, 0)]
        for step in _STEPS:
            better = True
            while better and asked < _MOST and time.monotonic() < self.deadline:
                better = False
                for way in ways:
                    one = self._moved(best, way, step)
                    asked += 1
                    if one is not None and one.value < best.value * (1.0 - 1e-7):
                        best, better = one, True
                        break
        return best

    def _moved(self, one: Asked, way: tuple[int, int, int], step: float) -> Asked | None:
        m, n, span = (x * math.exp(y * step) for x, y in zip((one.m, one.n, one.span), way, strict=True))
        m = 0.0 if one.m == 0.0 else max(round(m), 1.0 if way[0] >= 0 else 0.0)
        n = max(round(n), 1.0)
        low, high = self.spans(m, n)
        if not high >= low:
            return None
        span = high if m == 0.0 else min(max(span, low), high)
        if (m, n, span) == (one.m, one.n, one.span):
            return None
        return self.solve(m, n, span)
