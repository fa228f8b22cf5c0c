"""The law of a Rician channel's power, of mean one: its distribution function by sums of positive terms.

With J ~ Poisson(K) and X ~ Poisson((K+1) x) independent, the power is below x with the probability P(X > J): the
noncentral chi-square law of two degrees of freedom is a Poisson mixture of gamma laws (Johnson, Kotz and Balakrishnan,
"Continuous univariate distributions", vol. 2, section 29.2). Rayleigh, K = 0, is ``1 - e^-x``.
"""

from __future__ import annotations

import math

import numpy as np

from pretune.physics.types import Floats

WIDTH = 9.0
"""Standard deviations of a Poisson law that are summed, and some: what is left out is below 1e-17."""
_CHUNK = 2_000_000


def rice_cdf(x: Floats, k_factor: float) -> Floats:
    """P(power < x) for x of shape (n,), to about 1e-12 absolute, from the side of one where it is near one."""
    if k_factor == 0.0:
        return -np.expm1(-x)
    low = max(0, math.floor(k_factor - WIDTH * math.sqrt(k_factor) - 40.0))
    high = math.ceil(k_factor + WIDTH * math.sqrt(k_factor) + 40.0)
    last = math.ceil(high + WIDTH * math.sqrt(high) + 40.0)
    counts = np.arange(last + 1, dtype=np.float64)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(counts[1:]))])
    paths = np.exp(counts[low : high + 1] * math.log(k_factor) - k_factor - log_factorial[low : high + 1])
    found = np.ones(len(x))  # beyond `high` all but 1e-17 is below x
    mean = (k_factor + 1.0) * x
    inner = np.flatnonzero(mean <= high)
    step = max(1, _CHUNK // (last - low + 1))
    for first in range(0, len(inner), step):
        rows = inner[first : first + step]
        with np.errstate(divide="ignore"):
            logs = np.log(mean[rows])[:, None]
        # P(X > j) for j = low, ..., high: the terms from j + 1 on, summed from the smallest
        terms = np.exp(counts[low + 1 :] * logs - mean[rows][:, None] - log_factorial[low + 1 :])
        tails = np.cumsum(terms[:, ::-1], axis=1)[:, ::-1]
        found[rows] = np.minimum(1.0, tails[:, : len(paths)] @ paths)
    return found
