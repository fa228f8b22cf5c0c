"""Boxes of rounds, how they are cut, and steps from a pair of rounds to its neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, order=True)
class Box:
    """Pairs of rounds ``m1..m2 x n1..n2``, both ends included."""

    m1: int
    m2: int
    n1: int
    n2: int

    @property
    def single(self) -> bool:
        """Whether it holds one pair of rounds."""
        return self.m1 == self.m2 and self.n1 == self.n2

    @property
    def ends(self) -> tuple[float, float, float, float]:
        """The box as the kernels take it."""
        return float(self.m1), float(self.m2), float(self.n1), float(self.n2)

    @property
    def widths(self) -> tuple[float, float]:
        """Logarithmic widths in the rounds of either stage."""
        return math.log((self.m2 + 1) / (self.m1 + 1)), math.log((self.n2 + 1) / (self.n1 + 1))

    @property
    def middle(self) -> tuple[int, int]:
        """A pair of rounds near the (logarithmic) middle."""
        return between(self.m1, self.m2 + 1), between(self.n1, self.n2 + 1)

    def cuts(self) -> list[tuple[Box, Box]]:
        """Its halves across the pre-training rounds, and across the others; only where there is something to cut."""
        found = []
        if self.m2 > self.m1:
            at = between(self.m1, self.m2)
            found.append((replace(self, m2=at), replace(self, m1=at + 1)))
        if self.n2 > self.n1:
            at = between(self.n1, self.n2)
            found.append((replace(self, n2=at), replace(self, n1=at + 1)))
        return found


def between(a: int, b: int) -> int:
    """A whole number in [a, b - 1] near the geometric mean."""
    return min(max(math.isqrt((a + 1) * (b + 1)) - 1, a), b - 1)


def compass(step: float) -> tuple[tuple[float, float], ...]:
    """Factors that lead a step up, down or across in the rounds of both stages."""
    back = 1.0 / step
    return ((step, 1.0), (back, 1.0), (1.0, step), (1.0, back), (step, back), (back, step))


def scaled(rounds: int, factor: float) -> int:
    """`rounds` times `factor`, at least one away when the factor is not one (and at least 0)."""
    if factor == 1.0:
        return rounds
    found = round(rounds * factor)
    if found == rounds:
        found += 1 if factor > 1.0 else -1
    return max(found, 0)
