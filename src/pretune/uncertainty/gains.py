"""What a plan needs to know of a channel's law: a quantile of its power, and the mean of its inverse above it.

The law is that of ``x = f s``: Rician power f of mean one (Rayleigh at K = 0, one where K is infinite) and log-normal s
of mean one. On a grid that is even in ``ln x`` the product's distribution function is a convolution; taking for s the
nearer or the farther end of each cell bounds it from above and from below. Every figure here is on the side that keeps
a promise: the quantile is not above the true one, the means are not below. They are off by about a step of the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pretune.physics.types import Floats
from pretune.uncertainty.rice import rice_cdf

LN10_10 = math.log(10.0) / 10.0
_CELLS = 6000
_SIGMAS = 8.5
"""Standard deviations of the shadowing that are looked at; beyond each end is 1e-17."""
_FINEST = 1e-3
_SAFE = 1e-8
"""Relative distance kept from what is worked out in floating point."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of a channel's power x, with mean one: P(x < quantile) <= chance, E[1/x; x >= quantile] <= inverse_mean, and
    the variance of that variable (zero below the quantile) <= inverse_variance."""

    chance: float
    quantile: float
    inverse_mean: float
    inverse_variance: float


CERTAIN = Figures(chance=0.0, quantile=1.0, inverse_mean=1.0, inverse_variance=0.0)
"""Of a channel that does not vary."""


@lru_cache(maxsize=512)
def figures_of(k_factor: float, std_db: float, chance: float) -> Figures:
    """The figures of a fading channel at a probability above 0 and at most 1/2."""
    if math.isinf(k_factor) and std_db == 0.0:
        return CERTAIN
    grid = _Grid.of(k_factor, std_db, chance)
    begin = int(np.searchsorted(grid.high, chance * (1.0 - _SAFE), side="right")) - 1  # the last that is not above
    assert begin >= 0, "the grid begins below every quantile"
    quantile, below_low, below_high = math.exp(grid.log_x[begin]), grid.low[begin], grid.high[begin]
    if std_db == 0.0:  # between two points of the grid, without shadowing, it can be told exactly
        quantile = _between(k_factor, chance * (1.0 - _SAFE), quantile, quantile * math.exp(grid.step))
        below_low = below_high = float(rice_cdf(np.array([quantile]), k_factor)[0])
    x = np.exp(grid.log_x[begin:])
    x[0] = quantile
    # integrated by parts: E[x^-n; x >= q] = int_q^inf F n x^(-n-1) dx - F(q) q^-n
    inverse, square = 1.0 / x, 1.0 / (x * x)
    high, low = grid.high[begin + 1 :], grid.low[begin:-1].copy()
    low[0] = below_low
    mean = float((high * -np.diff(inverse)).sum() + inverse[-1] - below_low * inverse[0])
    least = float((low * -np.diff(inverse)).sum() - below_high * inverse[0])
    squared = float((high * -np.diff(square)).sum() + square[-1] - below_low * square[0])
    mean, squared = mean * (1.0 + _SAFE), squared * (1.0 + _SAFE)
    variance = max(0.0, squared - max(0.0, least) ** 2)
    return Figures(chance=chance, quantile=quantile, inverse_mean=mean, inverse_variance=variance)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Grid:
    """Bounds of the distribution function at even steps of ln x."""

    step: float
    log_x: Floats
    low: Floats
    high: Floats

    @staticmethod
    def of(k_factor: float, std_db: float, chance: float) -> _Grid:
        """From below the quantile to where all but 1e-15 lies below.

        Fading alone has at most ``x`` of its probability below x (its density falls from ``(K+1) e^-K <= 1`` at 0, or
        rises to it from there, and a Rayleigh channel is the one most often low), so the quantile is not below
        ``chance``; shadowing adds its own smallest factor.
        """
        s = std_db * LN10_10
        spread = _SIGMAS * s
        bottom = math.log(chance) - 1.0 - spread - 0.5 * s * s
        top = math.log(60.0) + spread
        step = max(_FINEST, (top - bottom) / _CELLS)
        if std_db == 0.0:
            log_x = np.arange(bottom, top + step, step)
            exact = rice_cdf(np.exp(log_x), k_factor)
            return _Grid(step=step, log_x=log_x, low=exact, high=exact)
        reach = math.ceil((spread + 0.5 * s * s) / step) + 1
        shift = -0.5 * s * s / step
        edges = (np.arange(-reach, reach + 1) - shift) * step / s  # the normal variable at ln s = j step
        weights = np.diff([0.0, *(_normal(edge) for edge in edges[1:-1].tolist()), 1.0])  # the tails in the end cells
        count = math.ceil((top - bottom) / step) + 1
        begin = math.floor(bottom / step)
        # F at (begin - reach - 1) steps and on, so that both ends of every cell are there
        points = np.arange(begin - reach - 1, begin + count + reach + 1)
        alone = _fading_cdf(np.exp(points * step), k_factor)
        # cell i: ln s from (i - reach) to (i - reach + 1) steps, and F(x/s) at the nearer end is the larger
        both = np.convolve(alone, weights)
        offset = 2 * reach + 1  # of the x at `begin`
        high = both[offset : offset + count]
        low = both[offset - 1 : offset - 1 + count]
        tail = _normal(-_SIGMAS)
        return _Grid(
            step=step,
            log_x=np.asarray((begin + np.arange(count)) * step, dtype=np.float64),
            low=np.maximum(0.0, low - 2.0 * tail),
            high=np.minimum(1.0, high + 2.0 * tail),
        )


def _fading_cdf(x: Floats, k_factor: float) -> Floats:
    return (x > 1.0).astype(np.float64) if math.isinf(k_factor) else rice_cdf(x, k_factor)


def _between(k_factor: float, chance: float, low: float, high: float) -> float:
    """The quantile by halving, from below."""
    if k_factor == 0.0:
        return -math.log1p(-chance)
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        if rice_cdf(np.array([middle]), k_factor)[0] <= chance:
            low = middle
        else:
            high = middle
    return low


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))
