"""Boxes of rounds and spans, and how they are cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pretune.planner.kernels.priced import Region


@dataclass(frozen=True, order=True)
class Box:
    """Pairs of rounds ``m1..m2 x n1..n2``, both ends included, and the spans ``s1..s2`` of a fine-tuning round."""

    m1: int
    m2: int
    n1: int
    n2: int
    s1: float
    s2: float

    @property
    def single(self) -> bool:
        """Whether it holds one pair of rounds."""
        return self.m1 == self.m2 and self.n1 == self.n2

    @property
    def region(self) -> Region:
        """The box as the kernels take it."""
        return Region(float(self.m1), float(self.m2), float(self.n1), float(self.n2), self.s1, self.s2)

    @property
    def widths(self) -> tuple[float, float, float]:
        """Logarithmic widths in the rounds of either stage and in the span."""
        return (
            math.log((self.m2 + 1) / (self.m1 + 1)),
            math.log((self.n2 + 1) / (self.n1 + 1)),
            math.log(self.s2 / self.s1) if self.s1 > 0.0 else math.inf,
        )

    def halve_rounds(self) -> Iterator[Box]:
        """Two halves (in the logarithm) of the relatively longer side of the rounds."""
        if self.widths[0] >= self.widths[1]:
            at = between(self.m1, self.m2)
            yield Box(self.m1, at, self.n1, self.n2, self.s1, self.s2)
            yield Box(at + 1, self.m2, self.n1, self.n2, self.s1, self.s2)
        else:
            at = between(self.n1, self.n2)
            yield Box(self.m1, self.m2, self.n1, at, self.s1, self.s2)
            yield Box(self.m1, self.m2, at + 1, self.n2, self.s1, self.s2)

    def halve_span(self) -> Iterator[Box]:
        """Two halves of the span."""
        at = math.sqrt(self.s1 * self.s2)
        yield Box(self.m1, self.m2, self.n1, self.n2, self.s1, at)
        yield Box(self.m1, self.m2, self.n1, self.n2, at, self.s2)


def between(a: int, b: int) -> int:
    """A whole number in [a, b - 1] near the geometric mean."""
    return min(max(math.isqrt((a + 1) * (b + 1)) - 1, a), b - 1)
