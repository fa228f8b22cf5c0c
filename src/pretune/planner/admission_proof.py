"""Proves that one subset is no better than the best plan known, or finds the better plan it has."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pretune.planner.search import Search


@dataclass
class SubsetProof(Search):
    """A search over a subset's rounds that starts with another subset's decision as what it has to beat."""

    def bound(self) -> float:
        """What is proven of every plan of the subset; infinity where nothing fits. `best` may have become better."""
        self.run()
        return math.inf if self.most == (0, 0) else self.proven

    def _look_around(self) -> None:
        """Most subsets are settled by the prices of a few rounds: only the best rounds known so far are solved."""
        if self.best is None:
            super()._look_around()
            return
        most_m, most_n = self.most
        m, n = self.best.rounds
        rounds = (min(m, most_m), min(n, most_n))
        if rounds == (0, 0):
            rounds = (min(1, most_m), min(1, most_n))
        prices = self._solve(rounds)
        if prices is not None:
            self._keep(prices, rounds)
