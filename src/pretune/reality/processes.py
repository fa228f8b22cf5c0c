"""The laws by which channels and devices vary: each function takes all devices one step further.

Every process is stationary from its first round on, except the temperature, which starts at that of the surroundings.
Arrays have shape (K,); random numbers are those handed in. Sources: the first-order autoregressive fading with Clarke's
(Jakes's) J0 as its step, as in Baddour and Beaulieu (IEEE TWC 2005) at order one; shadowing as in Gudmundson
(Electronics Letters 1991); the two-state Markov chain in continuous time is solved in every textbook.
"""

from __future__ import annotations

import math

import numpy as np

from pretune.physics.types import Bools, Floats

LN10_10 = math.log(10.0) / 10.0
"""Natural logarithms per decibel."""
_NEVER_MET = 1e3
"""Arguments of J0 beyond which its asymptotic form is used: good to 1e-4 of its size, which is below 0.03."""


def bessel_j0(x: Floats) -> Floats:
    """J0 by the trapezoidal rule on ``(1/pi) int_0^pi cos(x sin t) dt``, which converges faster than any power.

    Beyond 1,000 by ``sqrt(2/(pi x)) cos(x - pi/4)``. Infinity gives zero.
    """
    different, where = np.unique(np.asarray(x, dtype=np.float64), return_inverse=True)
    values = np.zeros_like(different)
    for i, one in enumerate(different.tolist()):
        if one <= _NEVER_MET:
            angles = (np.arange(nodes := int(64 + one)) + 0.5) * (math.pi / nodes)
            values[i] = np.cos(one * np.sin(angles)).mean()
        elif math.isfinite(one):
            values[i] = math.sqrt(2.0 / (math.pi * one)) * math.cos(one - math.pi / 4.0)
    return values[where].reshape(np.shape(x))


def ar1(before: Floats, correlation: Floats, fresh: Floats) -> Floats:
    """``a x + sqrt(1 - a^2) w``: as normal, and of the same variance, as x and w are; ``a`` per device."""
    weight = np.sqrt(np.maximum(0.0, 1.0 - correlation * correlation))
    if before.ndim == 2:
        return correlation[:, None] * before + weight[:, None] * fresh
    return correlation * before + weight * fresh


def fading_power(scatter: Floats, k_factor: Floats) -> Floats:
    """``|sqrt(K/(K+1)) + z/sqrt(K+1)|^2`` with z of mean power one: Rician of mean one, Rayleigh at K = 0.

    One where K is infinite: no fading.
    """
    diffuse = 1.0 / (k_factor + 1.0)
    direct = np.sqrt(1.0 - diffuse)
    spread = np.sqrt(diffuse)
    return np.square(direct + spread * scatter[:, 0]) + np.square(spread * scatter[:, 1])


def shadowing_power(shadow: Floats, std_db: Floats) -> Floats:
    """``10^(X/10)`` with X normal in decibels, shifted so that the power has mean one."""
    s = std_db * LN10_10
    return np.exp(s * shadow - 0.5 * s * s)


def still_up(up: Bools, share_up: Floats, rate: Floats, elapsed_s: float, uniform: Floats) -> Bools:
    """The chain after `elapsed_s`: ``P(up) = s + (1{up} - s) e^(-rate t)``, s the share in the long run."""
    kept = np.exp(-rate * elapsed_s)
    return uniform < share_up + (up - share_up) * kept


def warmed(rise_k: Floats, power_w: Floats, resistance: Floats, constant_s: Floats, elapsed_s: float) -> Floats:
    """The temperature's rise after `elapsed_s` at a constant power: ``x' = (R P - x)/tau``."""
    final = resistance * power_w
    return final + (rise_k - final) * np.exp(-elapsed_s / constant_s)


def clock_share(rise_k: Floats, from_k: Floats, to_k: Floats, floor: Floats) -> Floats:
    """The share of the highest clock that the temperature leaves: 1 up to `from_k`, `floor` from `to_k` on."""
    gone = np.clip((rise_k - from_k) / (to_k - from_k), 0.0, 1.0)
    return 1.0 - (1.0 - floor) * gone
