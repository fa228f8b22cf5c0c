"""Proves bounds of large fleets: boxes of rounds and spans are cut until some price set (`compact`) bounds each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretune.caps import longest_span
from pretune.compact import bound_large, most_rounds
from pretune.figures import SAME, Boxes, System
from pretune.physics.types import Floats
from pretune.price_sets import Priced

MOST_LEVELS = 400
MOST_OPEN = 200_000
"""What a proof may cost: cuts in a row, and boxes open at a time."""
THIN = 1e-11
"""A span no wider than this, in the logarithm, is one number."""


@dataclass
class Frontier:
    """A proof over all rounds and spans of a large fleet, as far as it has come.

    `boxes` are those that no set has bounded yet, `needed` the sets that bounded the others. Bounds of large fleets
    cost no pass over the devices, so each box asks all sets.
    """

    system: System
    boxes: Boxes
    needed: set[int]

    @staticmethod
    def of(system: System) -> Frontier:
        """All there is to prove."""
        most_m, most_n = most_rounds(system)
        return Frontier(system, np.array([[0.0, most_m, 0.0, most_n, *span_range(system)]]), set())

    def advance(self, sets: Sequence[Priced], claim: float) -> Boxes | None:
        """Cut boxes until the sets bound them all at the claim (None) or leave a point open, which is returned.

        The point is a box of one pair of rounds and one span. A box is cut as long as its middle is bounded. Goes on
        with the open boxes when it is called again with more sets, or with a lower claim.
        """
        tdma = self.system.tdma
        for _ in range(MOST_LEVELS):
            self._ask(sets, claim)
            if not len(self.boxes):
                return None
            points = _middles(self.system, self.boxes)
            values = np.max([bound_large(self.system, prices, points) for prices in sets], axis=0)
            cuttable = _widths(self.boxes, tdma).max(axis=0) > 0.0
            worst = int(values.argmin())
            if values[worst] >= claim and not cuttable.all():
                worst = int(cuttable.argmin())
            if values[worst] < claim or not cuttable.all() or len(self.boxes) > MOST_OPEN:
                return points[worst : worst + 1]
            self.boxes = _halves(self.boxes, tdma)
        return _middles(self.system, self.boxes[:1])

    def _ask(self, sets: Sequence[Priced], claim: float) -> None:
        """Drop the boxes that some set bounds at the claim."""
        boxes = self.boxes[(self.boxes[:, 1] > 0.0) | (self.boxes[:, 3] > 0.0)]
        for i, prices in enumerate(sets):
            if not len(boxes):
                break
            settled = bound_large(self.system, prices, boxes) >= claim
            if settled.any():
                self.needed.add(i)
                boxes = boxes[~settled]
        self.boxes = boxes


def _middles(system: System, boxes: Boxes) -> Boxes:
    """A point in each box, as a box: middle rounds, and a span that they leave time for.

    With FDMA and no pre-training the span is all the time there is, and less.
    """
    m1, m2, n1, n2, s1, s2 = boxes.T
    m = np.where(m1 == m2, m1, np.minimum(between(m1, m2 + 1.0), m2))
    n = np.where(n1 == n2, n1, np.minimum(between(n1, n2 + 1.0), n2))
    m = np.where((m == 0.0) & (n == 0.0), m2, m)
    n = np.where((m == 0.0) & (n == 0.0), n2, n)
    zero = np.zeros_like(m)
    longest = longest_span(system, np.array([m, m, n, n, zero, zero]).T)
    pinned = (m == 0.0) & (not system.tdma)
    span = np.where(pinned, longest, np.minimum(np.sqrt(s1 * s2), longest))
    return np.array([m, m, n, n, np.where(pinned, s1, span), np.where(pinned, span, span * (1.0 + 1e-9))]).T


def _widths(boxes: Boxes, tdma: bool) -> Floats:
    """Logarithmic widths, shape (3, B): rounds of either stage, and the span; zero where there is nothing to cut.

    With FDMA and no pre-training the span is all the time there is.
    """
    m1, m2, n1, n2, s1, s2 = boxes.T
    spans = np.log(s2 / s1)
    free = (n2 > 0.0) & ((m2 > 0.0) | tdma) & (spans > THIN)
    return np.stack([np.log((m2 + 1.0) / (m1 + 1.0)), np.log((n2 + 1.0) / (n1 + 1.0)), np.where(free, spans, 0.0)])


def _halves(boxes: Boxes, tdma: bool) -> Boxes:
    """Each box cut in two: in its span where that is wide beside the rounds, else along the wider side of these.

    Bounds fall short by the width of a span, but by the square of that of the rounds.
    """
    wide_m, wide_n, wide_s = _widths(boxes, tdma)
    wide = np.maximum(wide_m, wide_n)
    by_span = (wide_s > 0.0) & ((wide == 0.0) | (wide_s > np.maximum(4.0 * wide * wide, 0.5 * wide)))
    first, second = boxes.copy(), boxes.copy()
    first[by_span, 5] = second[by_span, 4] = np.sqrt(boxes[by_span, 4] * boxes[by_span, 5])
    for cut, low in ((~by_span & (wide_m >= wide_n), 0), (~by_span & (wide_m < wide_n), 2)):
        middle = between(boxes[cut, low], boxes[cut, low + 1])
        first[cut, low + 1] = middle
        second[cut, low] = middle + 1.0
    return np.concatenate([first, second])


def between(a: Floats, b: Floats) -> Floats:
    """A whole number in [a, b - 1] near the geometric mean."""
    middle: Floats = np.clip(np.floor(np.sqrt((a + 1.0) * (b + 1.0))) - 1.0, a, b - 1.0)
    return middle


def span_range(system: System) -> tuple[float, float]:
    """The spans a fine-tuning round can have: one sample at full speed (TDMA: computing alone), up to the delay."""
    shortest = system.shortest * (1.0 - SAME)
    return shortest, max(system.scenario.budget.delay_s, 2.0 * shortest)
