"""Bracketed root finding as a step function, so that every loop of the planner reads as a loop."""

from __future__ import annotations

from numba import njit


@njit(cache=True, error_model="numpy")
def next_point(x1: float, f1: float, x2: float, f2: float, x3: float, f3: float) -> float:
    """The next trial of Chandrupatla's method: inverse quadratic interpolation where it is safe, else the middle.

    The root lies between `x1` (newest) and `x2`; `x3` is the point before. Source: T. R. Chandrupatla, Advances
    in Engineering Software 28 (1997) 145-149.
    """
    t = 0.5
    if f3 != f2 and f3 != f1 and x3 != x2:
        xi = (x1 - x2) / (x3 - x2)
        phi = (f1 - f2) / (f3 - f2)
        if phi * phi < xi and (1.0 - phi) * (1.0 - phi) < 1.0 - xi:
            t = f1 / (f2 - f1) * (f3 / (f2 - f3)) + (x3 - x1) / (x2 - x1) * (f1 / (f3 - f1)) * (f2 / (f3 - f2))
            if not (0.0 < t < 1.0):
                t = 0.5
    return x1 + t * (x2 - x1)
