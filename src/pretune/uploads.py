"""What an upload costs when its time is paid for: plain NumPy, for the checker."""

from __future__ import annotations

import numpy as np

from pretune.bracket import falling_root
from pretune.physics.types import Floats

_IDLE = 1e-12


def energy_slope(x: Floats) -> Floats:
    """``x e^x - e^x + 1``: minus the upload energy's derivative by the time, per noise power, at ``x = span / t``.

    By its series where that would cancel.
    """
    small = np.minimum(x, 0.05)
    series = small**2 * (0.5 + small * (1 / 3 + small * (0.125 + small * (1 / 30 + small * (1 / 144 + small / 840)))))
    large = np.minimum(x, 700.0)
    slope: Floats = np.where(x < 0.05, series, large * np.exp(large) - np.expm1(large))
    return slope


def upload_cost(paid: Floats, noise: Floats, span: Floats, exponent_max: Floats) -> Floats:
    """``min over t of noise t (e^(span/t) - 1) + paid t``: what an upload costs at `paid` per second.

    Least where ``x = span / t`` solves ``x e^x - e^x + 1 = paid / noise``, or at the strongest upload. An error in `x`
    counts with its square only.
    """
    with np.errstate(divide="ignore", over="ignore"):
        target = np.log(paid / noise)
        most = np.log(exponent_max)
        low = np.minimum(np.log(_IDLE), most)
        x = np.exp(falling_root(lambda log_x: target - np.log(energy_slope(np.exp(log_x))), low, most))
    idle = x <= _IDLE
    safe = np.where(idle, 1.0, x)
    found = span * (noise * np.expm1(safe) + paid) / safe
    # nothing paid for time: the least energy is noise * span, reached as the time grows without end
    return np.where(idle, noise * span, found)
