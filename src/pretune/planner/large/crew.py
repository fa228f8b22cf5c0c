"""A large fleet cut into parts, and the threads that work on them.

The parts are cut at fixed places and their sums are added in their order, so a result is the same to the last bit
whatever the number of threads. The kernels are those of small fleets, run on a part's columns without the
interpreter's lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import new_point
from pretune.planner.kernels.fleet import Point
from pretune.planner.kernels.priced import Prices, price_devices
from pretune.planner.kernels.scalar import TINY, clock_at, sample_cost
from pretune.planner.kernels.slopes import PRICE, fastest_span, fill_most_batches, round_sums
from pretune.planner.problem import Devices, Problem

PART = 16_384
"""Devices in a part: small enough for a processor's cache."""


class Crew:
    """A problem's fleet, the point that passes over it fill in, and a thread for each processor.

    `beta` below is the root of the noise's price by the energy's: batches are ``beta sqrt(A / c)``.
    """

    def __init__(self, problem: Problem, threads: int | None = None) -> None:
        self.problem = problem
        count = problem.devices.cycles.size
        self.up_s = float((problem.devices.span / problem.devices.exponent_max).sum()) if problem.limits.tdma else 0.0
        """TDMA: the least seconds that all uploads of a round take; else zero."""
        self.point = new_point(count)
        self.parts = [slice(at, min(at + PART, count)) for at in range(0, count, PART)]
        self._devices = [Devices(*(column[part] for column in problem.devices)) for part in self.parts]
        self._points = [_part_of(self.point, part) for part in self.parts]
        threads = min(threads or processors(), len(self.parts))
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def each(self, work: Callable[[int], Floats]) -> Floats:
        """What `work` returns for every part, in order, one row each."""
        numbers = range(len(self.parts))
        return np.array(list(self._pool.map(work, numbers) if self._pool else map(work, numbers)))

    def pass_over(
        self, low: Floats, high: Floats, beta: float, rounds: float, span: float, upload_price: float
    ) -> Floats:
        """One round at a span: the sums of `round_sums` over the fleet; fills in the point."""
        limits = self.problem.limits

        def work(i: int) -> Floats:
            part = self.parts[i]
            sums: Floats = round_sums(
                self._devices[i], limits, low[part], high[part], beta, rounds, span, upload_price, self._points[i]
            )
            return sums

        total: Floats = self.each(work).sum(axis=0)
        return total

    def fastest(self, batch: Floats) -> float:
        """The least span that clocks and powers alone allow at these batches."""
        limits = self.problem.limits
        spans = self.each(lambda i: np.array([fastest_span(self._devices[i], limits, batch[self.parts[i]])]))
        return float(spans.max())

    def most_batches(self, span: float, rounds: float) -> Floats:
        """The largest whole batches that clocks, powers, batteries and data sets allow within a span."""
        most = np.empty(self.problem.devices.cycles.size)

        def work(i: int) -> Floats:
            part = self.parts[i]
            fill_most_batches(self.problem, part.start, span, rounds, most[part])
            return np.zeros(0)

        self.each(work)
        return most

    def priced(self, lam: float, omega: float) -> Prices:
        """The prices of the point as it stands: `price` for a large fleet."""
        problem, point = self.problem, self.point
        limits, server = problem.limits, problem.server
        total = float(self.each(lambda i: np.array([self._points[i].price.sum()])).sum())
        omega = max(omega, total)
        costs = np.empty(point.price.size)

        def work(i: int) -> Floats:
            own, part = self._points[i], self.parts[i]
            return np.array(price_devices(self._devices[i], limits.tdma, lam, omega, own.price, own.ratio, costs[part]))

        uploads, batteries = self.each(work).sum(axis=0).tolist()
        clock = max(clock_at(omega, server.capacitance, server.clock_max, server.static), TINY)
        return Prices(
            energy=lam,
            delay=lam * omega,
            server_cost=lam * sample_cost(omega, clock, server.cycles, server.capacitance, server.static),
            round_cost=lam * (limits.down_j + omega * limits.down_s + uploads),
            budget=lam * (limits.energy + omega * limits.delay + batteries),
            sample_costs=costs,
            shares=point.price.copy(),
            ratios=point.ratio.copy(),
            slack=lam * (omega - total),
        )


def _part_of(point: Point, part: slice) -> Point:
    """The point's columns over a part of the fleet; the scalars are the fleet's."""
    return point._replace(
        price=point.price[part],
        ratio=point.ratio[part],
        batch=point.batch[part],
        clock=point.clock[part],
        exponent=point.exponent[part],
        gentlest=point.gentlest[part],
    )


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__ = ["PART", "PRICE", "Crew", "processors"]
