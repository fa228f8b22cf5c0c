"""What the samples of a large fleet cost at the least, as a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretune.physics.types import Floats


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What the samples of one fine-tuning round cost a large fleet at the least, tabulated.

    `bill` of shape (S + 1, R) is ``sum_k min_b (ratio A_k/b + c_k b)`` over the whole batches that can be computed
    within each of the rising `spans`, and (last row) within any, at each `ratio` (rising, from zero). It is concave in
    the ratio and falls with the span.
    """

    ratio: Floats
    spans: Floats
    bill: Floats

    def at(self, ratio: Floats, longest: Floats) -> Floats:
        """A lower bound for spans up to `longest`: the next longer row; chords between its points, level beyond."""
        row = np.searchsorted(self.spans, longest, "left")
        right = np.clip(np.searchsorted(self.ratio, ratio, "left"), 1, len(self.ratio) - 1)
        left = right - 1
        share = (ratio - self.ratio[left]) / (self.ratio[right] - self.ratio[left])
        share = np.clip(share, 0.0, 1.0)
        below: Floats = (1.0 - share) * self.bill[row, left] + share * self.bill[row, right]
        return below
