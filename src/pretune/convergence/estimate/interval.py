"""Confidence intervals from independent repetitions: Student's t on the figures of each, or on their logarithms.

A repetition has a model, a path and sub-samples of its own, so what differs between repetitions is all that chance
decides. Few repetitions, or samples, make a wide interval by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
_LOG_MOST = 100.0
"""An upper end above exp of this says nothing more, and would leave the numbers that a scenario may hold."""


def t_factor(count: int, *, one_more: bool = False) -> float:
    """Half-width of the interval in standard deviations of the figures.

    Of their mean, ``t sqrt(1/n)``; or with `one_more` of a further figure, ``t sqrt(1 + 1/n)``.
    """
    from scipy.special import stdtrit

    quantile = float(stdtrit(count - 1, 0.5 + 0.5 * CONFIDENCE))
    return quantile * math.sqrt(1.0 / count + (1.0 if one_more else 0.0))


def interval(figures: Sequence[float], *, error: float = 0.0, one_more: bool = False) -> tuple[float, float]:
    """The 95% interval of the mean of figures >= 0 (or of one more figure), from at least two of them.

    Positive figures are taken as log-normal, which suits figures that vary by factors and can't be negative; where one
    is zero, as normal and cut at zero. The mean itself is always inside. `error` is the standard error that each figure
    is known to have at least: figures that agree better than that agree by luck.
    """
    values = np.asarray(figures, dtype=np.float64)
    mean, factor = float(values.mean()), t_factor(len(values), one_more=one_more)
    if float(values.min()) > 0.0:
        logs = np.log(values)
        reach = factor * max(float(logs.std(ddof=1)), error / mean)
        low, high = (math.exp(min(float(logs.mean()) + sign * reach, _LOG_MOST)) for sign in (-1.0, 1.0))
    else:
        reach = factor * max(float(values.std(ddof=1)), error)
        low, high = mean - reach, mean + reach
    return max(0.0, min(low, mean)), max(high, mean)


def signed_interval(figures: Sequence[float], *, error: float = 0.0) -> tuple[float, float]:
    """The 95% interval of the mean of figures of either sign, normal; `error` as for `interval`."""
    values = np.asarray(figures, dtype=np.float64)
    reach = t_factor(len(values)) * max(float(values.std(ddof=1)), error)
    return float(values.mean()) - reach, float(values.mean()) + reach
