"""The pool of price sets as the arrays that the compiled search reads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pretune.physics.types import Floats
from pretune.planner.kernels.priced import Prices
from pretune.planner.kernels.tree import Pool
from pretune.planner.problem import Problem

_CELLS = 2_000_000
"""Numbers that the pool has room for at first."""


class Rows:
    """The pool as the arrays that the compiled search reads, and the pairs of rounds already solved."""

    def __init__(self, problem: Problem) -> None:
        devices = problem.devices.cycles.size
        batteries = int(np.isfinite(problem.devices.battery).sum())
        self.count = 0
        self.solved: list[tuple[int, int]] = []
        some = max(4, min(64, _CELLS // devices))
        self._arrays = Pool(
            numbers=np.zeros((some, 6)),
            sample_costs=np.zeros((some, devices)),
            halves=np.zeros((some, batteries, 11)),
            used=np.zeros(some, dtype=np.bool_),
        )

    @property
    def pool(self) -> Pool:
        """The arrays; the first `count` rows count."""
        return self._arrays

    @property
    def used(self) -> NDArray[np.bool_]:
        """Whether each set has settled a box."""
        return self._arrays.used

    @property
    def pairs(self) -> Floats:
        """The pairs of rounds that were solved, shape (S, 2)."""
        return np.array(self.solved, dtype=np.float64).reshape(-1, 2)

    def add(self, prices: Prices) -> None:
        """One more set, in a row of its own."""
        arrays, at = self._arrays, self.count
        if at == len(arrays.used):
            arrays = self._arrays = Pool(*(np.concatenate([old, np.zeros_like(old)]) for old in arrays))
        numbers = (prices.energy, prices.delay, prices.server_cost, prices.round_cost, prices.budget, prices.slack)
        arrays.numbers[at] = numbers
        arrays.sample_costs[at] = prices.sample_costs
        arrays.halves[at, :, 0] = -1.0
        arrays.halves[at, : len(prices.halves)] = prices.halves
        self.count += 1
