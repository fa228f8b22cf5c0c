"""What an upload costs at the least on a part of a shared band, for `pretune.bounds`.

Plain NumPy that shares no code with the planner. Columns of shape (K,): `noise` is the transmit power that makes the
signal as strong as the noise (W), `span` the payload in nats over the bandwidth (s), `exponent_max` the largest
``x = ln(1 + P/noise)``; an upload of exponent ``x`` takes ``span / x`` seconds and ``noise (e^x - 1)`` watts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pretune.physics.types import Floats
from pretune.uploads import energy_slope

LARGEST = 690.0
"""Exponents beyond this would leave float64."""


def shared_upload_cost(paid: Floats, worth: Floats, noise: Floats, span: Floats, exponent_max: Floats) -> Floats:
    """What an upload costs at `paid` per second and `worth` for the whole band, its part ``c`` of the band chosen too.

    ``min over x, c of noise span (e^x - 1)/x + paid span/(c x) + worth c`` where ``c (e^x - 1) <= P/noise``; the
    columns are those of the whole band. With power to spare ``c = sqrt(paid span / (worth x))``, at the power limit
    ``c = (P/noise) / (e^x - 1)``; then the cost falls and rises once in `x`, and its derivative is bisected.
    """
    free = (paid <= 0.0) | (worth <= 0.0)
    power = np.expm1(np.minimum(exponent_max, LARGEST))
    log_power = np.where(exponent_max < LARGEST, np.log(power), exponent_max)
    log_paid, log_worth = np.log(np.where(free, 1.0, paid)), np.log(np.where(free, 1.0, worth))
    log_span = np.log(span)

    def spare(x: Floats) -> NDArray[np.bool_]:
        return np.log(energy_slope(x)) - 0.5 * np.log(x) < 0.5 * (log_paid + log_worth - log_span) - np.log(noise)

    def limited(x: Floats) -> NDArray[np.bool_]:
        left = np.log(np.exp(log_paid) + noise * power) + log_span + np.log(energy_slope(x)) + 2.0 * np.log(np.expm1(x))
        return left < log_worth + 2.0 * log_power + x + 2.0 * np.log(x)

    x = _halved(spare, len(noise))
    part = np.exp(0.5 * (log_paid + log_span - log_worth - np.log(x)))
    at_limit = np.log(part) + np.log(np.expm1(x)) > log_power
    if at_limit.any():
        x = np.where(at_limit, _halved(limited, len(noise)), x)
        part = np.where(at_limit, np.exp(log_power - np.log(np.expm1(x))), part)
    found = noise * span * np.expm1(x) / x + paid * span / (part * x) + worth * part
    # time for nothing: an upload that takes for ever; band for nothing: the power limit alone sets its time
    idle = noise * span + np.where(paid > 0.0, paid * span / power, 0.0)
    return np.where(free, idle, np.where(x < 0.999 * LARGEST, found, noise * span))


def _halved(below: Callable[[Floats], NDArray[np.bool_]], count: int) -> Floats:
    """Where `below` stops being true, by bisection in the logarithm."""
    low, high = np.full(count, math.log(1e-60)), np.full(count, math.log(LARGEST))
    for _ in range(80):
        middle = 0.5 * (low + high)
        true = below(np.exp(middle))
        low, high = np.where(true, middle, low), np.where(true, high, middle)
    found: Floats = np.exp(0.5 * (low + high))
    return found


def shortest_shared(computing: Floats, span: Floats, exponent_max: Floats) -> float:
    """The shortest span of a round (s), when the band goes where it is needed, from below.

    `computing` is what each device computes for at the least. With the part ``c`` of the band it sends for
    ``span / (c ln(1 + (P/noise)/c))`` seconds at the least, which falls as ``c`` grows; the span at which the parts
    needed add up to one is found by bisection in both.
    """
    power = np.expm1(np.minimum(exponent_max, LARGEST))

    def needed(total: float) -> float:
        left = total - computing
        low, high = np.full_like(span, -700.0), np.zeros_like(span)
        for _ in range(50):
            middle = 0.5 * (low + high)
            part = np.exp(middle)
            slow = span > left * part * np.log1p(power / part)
            low, high = np.where(slow, middle, low), np.where(slow, high, middle)
        return float(np.exp(low).sum())

    low = float((computing + span / exponent_max).max())
    if len(span) == 1:
        return low
    high = low
    while needed(high) > 1.0:
        low, high = high, 2.0 * high
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if needed(middle) > 1.0 else (low, middle)
    return low
