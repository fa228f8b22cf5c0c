"""Whole batches for a large fleet: one threshold for all devices, a few passes.

As in `planner.whole` every batch is rounded down and then samples are added in the order of what they bring by what
they cost. Here the times stay those of the continuous optimum, so that more samples cost energy and nothing else; how
far the energy goes along the order is found by following the costs that the prices predict.
"""

from __future__ import annotations

import numpy as np

from pretune.physics.types import Floats
from pretune.planner.kernels.priced import Prices
from pretune.planner.kernels.slopes import ENERGY, SHORT
from pretune.planner.large.crew import Crew
from pretune.planner.whole import Decision

_SWEEPS = 4
_TRIALS = 12
_SPENT = 3e-8
"""Share of the energy not worth another pass."""


def round_large(
    crew: Crew, rounds: tuple[int, int], coefficients: tuple[float, float, float, float], prices: Prices, high: Floats
) -> Decision | None:
    """A good whole-batch decision at the continuous optimum in `crew.point`; None where the batteries allow none.

    `coefficients` are ``(weight, phi, psi0, psi)`` at the rounds, `high` the largest whole batches that clocks and
    powers allow. Leaves the decision's clocks and powers in the point.
    """
    problem, point = crew.problem, crew.point
    real, span, omega = point.batch.copy(), float(point.scalars[2]), float(point.scalars[1])
    limited = np.isfinite(problem.devices.battery)
    if rounds[1] and limited.any():
        high = np.maximum(np.minimum(high, crew.most_batches(span, float(rounds[1]))), problem.batches.low)
    for careful in (False, True):
        if careful:
            # a battery that was cut too fine: such devices may only round down
            high = np.where(limited, np.maximum(np.minimum(high, np.floor(real)), problem.batches.low), high)
        found = _Rounding(crew, rounds, coefficients, prices, real, high, span, omega).run()
        if found is not None or not limited.any():
            return found
    return None


class _Rounding:
    """One rounding: item 0 is the server's batch, the devices follow; an unused stage has no items to add to."""

    def __init__(
        self,
        crew: Crew,
        rounds: tuple[int, int],
        coefficients: tuple[float, float, float, float],
        prices: Prices,
        real: Floats,
        high: Floats,
        span: float,
        omega: float,
    ) -> None:
        problem, scalars = crew.problem, crew.point.scalars
        m, n = rounds
        self.crew, self.rounds, self.span, self.omega = crew, rounds, span, omega
        self.weight, self.phi, psi0, psi = coefficients
        self.server_s = float(scalars[3]) if m else 0.0
        count = real.size
        server = problem.server
        server_high = np.floor(min(problem.batches.server_high, self.server_s * server.clock_max / server.cycles))
        self.noise = np.concatenate(([psi0 if m else 0.0], psi * problem.devices.variance if n else np.zeros(count)))
        self.costs = np.concatenate(([m * prices.server_cost], n * prices.sample_costs)) / max(prices.energy, 1e-300)
        self.high = np.concatenate(([max(server_high, 1.0)], high))
        low = np.concatenate(([problem.batches.server_low], problem.batches.low))
        real = np.concatenate(([scalars[4] if m else 1.0], real if n else problem.batches.low))
        self.batch = np.clip(np.floor(real * (1.0 + 1e-12)), low, self.high)

    def run(self) -> Decision | None:
        """The decision; None if the batches rounded down do not fit."""
        m, n = self.rounds
        budget = self.crew.problem.limits.energy
        spent = self._joules(self.batch)
        if not spent <= budget:
            return None
        for _ in range(_SWEEPS):
            room = self.batch < self.high
            gain = np.where(room, self.noise / self.batch - self.noise / (self.batch + 1.0), 0.0)
            order = np.argsort(-gain / np.maximum(self.costs, 1e-300), kind="stable")
            order = order[: int((gain > 0.0).sum())]
            if not order.size or budget - spent <= _SPENT * budget:
                break
            count, spent = self._reach(order, spent, budget)
            self.batch[order[:count]] += 1.0
            if count < order.size:
                break
        self._joules(self.batch)
        value = self.phi + float((self.noise / self.batch).sum())
        return Decision(
            rounds=self.rounds,
            server_batch=int(self.batch[0]) if m else 0,
            batches=self.batch[1:].copy() if n else np.zeros(0),
            point=self.crew.point,
            value=value / self.weight,
        )

    def _reach(self, order: np.ndarray, spent: float, budget: float) -> tuple[int, float]:
        """How many items of the order can have a sample more, and what the run then spends."""
        predicted = np.concatenate(([0.0], np.cumsum(self.costs[order])))
        fits, fails, best = 0, order.size + 1, spent
        steepness = 1.0
        for _ in range(_TRIALS):
            more = int(np.searchsorted(predicted * steepness, (budget - spent) * (1.0 - 0.1 * _SPENT), "right")) - 1
            count = min(max(more, fits + 1), fails - 1)
            if count <= fits:
                break
            trial = self.batch.copy()
            trial[order[:count]] += 1.0
            joules = self._joules(trial)
            if joules <= budget:
                fits, best = count, joules
            else:
                fails = count
            if joules > spent and np.isfinite(joules) and predicted[count] > 0.0:
                steepness = (joules - spent) / predicted[count]
            if fails - fits <= 1 or 0.0 <= budget - joules <= _SPENT * budget:
                break
        return fits, best

    def _joules(self, batch: Floats) -> float:
        """Joules of the run with these batches in the times that there are; infinity where a battery can't pay."""
        crew, (m, n) = self.crew, self.rounds
        problem, scalars = crew.problem, crew.point.scalars
        joules = 0.0
        if m:
            cycles = problem.server.cycles * batch[0]
            clock = max(cycles / self.server_s, self._frugal())
            scalars[3], scalars[4], scalars[5] = cycles / clock, batch[0], clock
            joules += m * (cycles * problem.server.capacitance * clock**2 + problem.server.static * cycles / clock)
        if n:
            own = np.ascontiguousarray(batch[1:])
            sums = crew.pass_over(own, own, 0.0, float(n), self.span, self.omega)
            if sums[SHORT] > 0.0:
                return float("inf")
            joules += n * (float(sums[ENERGY]) + problem.limits.down_j)
        return joules

    def _frugal(self) -> float:
        """The server's clock below which static power costs more than it saves."""
        server = self.crew.problem.server
        return float(min((server.static / (2.0 * server.capacitance)) ** (1.0 / 3.0), server.clock_max))
