"""Means with intervals, paired tests over seeds, and the correction for making many of them.

With n seeds the smallest two-sided p-value of the exact signed-rank test is ``2^(1-n)``: 0.0625 at five seeds, so
five seeds can never be significant by it at 0.05, whatever they show, and ten can (0.002) until a correction asks for
more. Verdicts therefore use the paired t-test, which assumes that the differences over seeds are about normal;
Wilcoxon's p-value, which does not, stands beside it. Needs SciPy (the extra `train`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.errors import MissingExtra
from pretune.physics.types import Floats

LEVEL = 0.95
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its confidence interval; the ends are NaN where there are fewer than two values."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2.0


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Ours less theirs, seed by seed. p-values are two-sided and uncorrected, NaN with fewer than two seeds."""

    difference: Interval
    t_p: float
    wilcoxon_p: float


def mean_interval(values: Sequence[float] | Floats, level: float = LEVEL) -> Interval:
    """The mean and its interval by Student's t, ``mean +- t_{(1+level)/2, n-1} s/sqrt(n)``; NaNs are left out.

    Assumes independent values that are about normal.
    """
    held = np.asarray(values, dtype=np.float64)
    held = held[~np.isnan(held)]
    if held.size == 0:
        return Interval(mean=math.nan, low=math.nan, high=math.nan, count=0)
    mean = float(held.mean())
    if held.size == 1:
        return Interval(mean=mean, low=math.nan, high=math.nan, count=1)
    half = _t_quantile((1.0 + level) / 2.0, held.size - 1) * float(held.std(ddof=1)) / math.sqrt(held.size)
    return Interval(mean=mean, low=mean - half, high=mean + half, count=int(held.size))


def paired(ours: Sequence[float] | Floats, theirs: Sequence[float] | Floats, level: float = LEVEL) -> Paired:
    """Both tests of "no difference" on pairs, shapes (seeds,); a pair with a NaN is left out.

    Where all differences are the same, t is 0/0 or infinite: then p is 1 if they are zero, else Wilcoxon's.
    """
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    difference = difference[~np.isnan(difference)]
    interval = mean_interval(difference, level)
    if difference.size < 2:
        return Paired(difference=interval, t_p=math.nan, wilcoxon_p=math.nan)
    by_ranks = signed_rank_p(difference)
    spread = float(difference.std(ddof=1))
    if spread <= 1e-12 * float(np.abs(difference).max()):
        return Paired(difference=interval, t_p=by_ranks, wilcoxon_p=by_ranks)
    t = interval.mean / (spread / math.sqrt(difference.size))
    return Paired(difference=interval, t_p=_t_two_sided(t, difference.size - 1), wilcoxon_p=by_ranks)


def signed_rank_p(differences: Sequence[float] | Floats) -> float:
    """Wilcoxon's signed-rank test, two-sided and exact also with ties: zeros are left out, ties share their ranks.

    All ``2^n`` signs of the ranks are equally likely where there is no difference; the sums of positive ranks are
    counted by adding one rank at a time. Needs ``n^3`` steps at the most.
    """
    held = np.asarray(differences, dtype=np.float64)
    held = held[held != 0.0]
    if held.size == 0:
        return 1.0
    doubled = np.rint(2.0 * _ranks(np.abs(held))).astype(np.int64)  # mid-ranks are halves
    total = int(doubled.sum())
    ways = np.zeros(total + 1)
    ways[0] = 1.0
    for rank in doubled.tolist():
        ways[rank:] = ways[rank:] + ways[: total + 1 - rank]
    positive = int(doubled[held > 0.0].sum())
    smaller = min(positive, total - positive)
    return float(min(1.0, 2.0 * ways[: smaller + 1].sum() / ways.sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the chance of any false finding among all of them stays under the level.

    Adjusted ``p_(i) = max_{j <= i} min(1, (n-j+1) p_(j))`` in increasing order. A NaN stays one and is not counted.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    found = [math.nan] * len(p_values)
    highest = 0.0
    for step, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - step) * p))
        found[i] = highest
    return found


def bootstrap(
    statistic: Callable[[np.ndarray], float], count: int, *, draws: int = 2000, seed: int = 0, level: float = LEVEL
) -> tuple[float, float]:
    """The percentile interval of a statistic over `count` units; it gets their indices, drawn with replacement.

    It may be infinite (what is not reached): then an end of the interval may be, too.
    """
    generator = np.random.default_rng(seed)
    found = np.array([statistic(generator.integers(count, size=count)) for _ in range(draws)])
    ends = np.quantile(found, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], method="nearest")
    return float(ends[0]), float(ends[1])


def _ranks(values: Floats) -> Floats:
    return np.asarray(_stats().rankdata(values), dtype=np.float64)


def _t_quantile(share: float, freedom: int) -> float:
    return float(_stats().t.ppf(share, freedom))


def _t_two_sided(t: float, freedom: int) -> float:
    return float(2.0 * _stats().t.sf(abs(t), freedom))


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise MissingExtra("train", "SciPy") from None
    return stats
