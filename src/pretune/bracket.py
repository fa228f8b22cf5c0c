"""Bracketed root finding over arrays, for the checker."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pretune.physics.types import Floats

STEPS = 100


def falling_root(excess: Callable[[Floats], Floats], left: Floats, right: Floats, close: float = 1e-13) -> Floats:
    """Element by element the root of a falling function between `left` (above zero there) and `right` (not above).

    An element whose function is not above zero on the left gives `left`; one that is above zero on the right gives
    `right`. Chandrupatla's method (Advances in Engineering Software 28 (1997) 145-149): inverse quadratic interpolation
    where it is safe, halving elsewhere. Ends when every bracket is narrower than `close` or its function zero.
    """
    f_left, f_right = excess(left), excess(right)
    x1, f1, x2, f2 = right, f_right, left, f_left
    x3, f3 = x1, f1
    settled = (f_left <= 0.0) | (f_right >= 0.0)
    for _ in range(STEPS):
        done = settled | (np.abs(x2 - x1) <= close) | (f1 == 0.0)
        if done.all():
            break
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
            smooth = (phi**2 < xi) & ((1.0 - phi) ** 2 < 1.0 - xi)
            t = f1 / (f2 - f1) * (f3 / (f2 - f3)) + (x3 - x1) / (x2 - x1) * (f1 / (f3 - f1)) * (f2 / (f3 - f2))
            least = np.minimum(0.5 * close / np.abs(x2 - x1), 0.5)
        t = np.where(smooth & np.isfinite(t), np.clip(t, least, 1.0 - least), 0.5)
        x = np.where(done, x1, x1 + t * (x2 - x1))
        f = excess(x)
        same = (f > 0.0) == (f1 > 0.0)
        x3, f3 = np.where(same, x1, x2), np.where(same, f1, f2)
        x2, f2 = np.where(same, x2, x1), np.where(same, f2, f1)
        x1, f1 = x, f
    root = np.where(np.abs(f1) <= np.abs(f2), x1, x2)
    result: Floats = np.where(f_left <= 0.0, left, np.where(f_right >= 0.0, right, root))
    return result
