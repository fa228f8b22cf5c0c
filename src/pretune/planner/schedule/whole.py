"""Whole batches in segments: as `planner.whole`, one item for each segment of the server and of each device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import SOLVED
from pretune.planner.kernels.segment_bounds import SegmentPrices
from pretune.planner.kernels.segments import Course, Parts, Ranges, new_course, solve_segments
from pretune.planner.problem import Problem
from pretune.planner.whole import Decision, Order

_SWEEPS = 4
_SINGLE = 8
"""Items tried one by one after the largest block that fits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScheduleDecision:
    """Rounds and whole batches that fit the budgets, and the clocks and powers they run at.

    `server_batches` has shape (J,), `batches` (J, K); an empty segment's mean nothing.
    """

    rounds: tuple[int, int]
    server_batches: Floats
    batches: Floats
    course: Course
    value: float
    """The criterion."""


def repeated(constant: Decision, segments: int) -> ScheduleDecision:
    """A constant plan's decision, the same in every segment."""
    point, count = constant.point, constant.point.batch.size
    course = new_course(segments, count)
    for column, values in zip(
        course, (point.price, point.ratio, point.batch, point.clock, point.exponent), strict=False
    ):
        column[:] = values
    course.span[:], course.server_batch[:], course.server_clock[:] = point.scalars[[2, 4, 5]]
    batches = constant.batches if constant.rounds[1] else np.ones(count)
    return ScheduleDecision(
        rounds=constant.rounds,
        server_batches=np.full(segments, float(constant.server_batch)),
        batches=np.tile(batches, (segments, 1)),
        course=course,
        value=constant.value,
    )


@dataclass(kw_only=True)
class _Filling:
    """Batches while samples are added; the server's J come first, then the devices' J times K."""

    problem: Problem
    parts: Parts
    batch: Floats
    course: Course

    def fits(self, batch: Floats) -> bool:
        """Whether batches fit the budgets; leaves the cheapest clocks and powers in the course."""
        segments = self.parts.m.size
        server, devices = batch[:segments].copy(), batch[segments:].reshape(segments, -1).copy()
        ranges = Ranges(server, server.copy(), devices, devices.copy())
        status = solve_segments(self.problem, ranges, self.parts, self.course)
        joules = float(self.course.scalars[2])
        return bool(status == SOLVED) and math.isfinite(joules) and joules <= self.problem.limits.energy

    def grow(self, order: Order) -> bool:
        """One sample more for as many items as fit, in `order`; whether any did."""
        left, right = 0, int(order.size)
        while left < right:
            middle = (left + right + 1) // 2
            trial = self.batch.copy()
            trial[order[:middle]] += 1.0
            left, right = (middle, right) if self.fits(trial) else (left, middle - 1)
        self.batch[order[:left]] += 1.0
        grown = left
        for item in order[left + 1 : left + 1 + _SINGLE]:
            self.batch[item] += 1.0
            if self.fits(self.batch):
                grown += 1
            else:
                self.batch[item] -= 1.0
        return grown > 0


def round_segments(
    problem: Problem,
    rounds: tuple[int, int],
    shape: tuple[float, float],
    parts: Parts,
    course: Course,
    prices: SegmentPrices,
) -> ScheduleDecision | None:
    """A good whole-batch decision near a continuous optimum `course`; None if not even its floor fits.

    `shape` is ``(weight, phi)`` at the rounds.
    """
    limits, variance = problem.batches, problem.devices.variance
    segments, count = parts.m.size, variance.size
    noise = np.concatenate((parts.psi0, np.outer(parts.psi, variance).ravel()))
    cost = np.concatenate((parts.m * prices.server_cost, (parts.n[:, None] * prices.sample_costs).ravel()))
    used = np.concatenate((parts.m > 0.0, np.repeat(parts.n > 0.0, count)))
    low = np.concatenate((np.full(segments, limits.server_low), np.tile(limits.low, segments)))
    high = np.concatenate((np.full(segments, limits.server_high), np.tile(limits.high, segments)))
    real = np.concatenate((course.server_batch, course.batch.ravel()))
    batch = np.where(used, np.clip(np.floor(real * (1.0 + 1e-12)), low, high), low)
    filling = _Filling(problem=problem, parts=parts, batch=batch, course=new_course(segments, count))
    if not filling.fits(batch):
        filling.batch = batch = low.copy()
        if not filling.fits(batch):
            return None
    for _ in range(_SWEEPS):
        batch = filling.batch
        gain = np.where(used & (batch < high), noise / batch - noise / (batch + 1.0), 0.0)
        order = np.argsort(-gain / np.maximum(cost, 1e-300), kind="stable")
        order = order[gain[order] > 0.0]
        if not filling.grow(order):
            break
    if not filling.fits(filling.batch):
        return None
    batch = filling.batch
    return ScheduleDecision(
        rounds=rounds,
        server_batches=batch[:segments],
        batches=batch[segments:].reshape(segments, count),
        course=filling.course,
        value=(shape[1] + float((noise[used] / batch[used]).sum())) / shape[0],
    )
