"""The laws of the calibrated criterion, compiled: the twin of `pretune.convergence.laws`, which has the formulas.

A law's numbers are ``2, family, nine parameters, v0, v, e, most M, most N`` as `Calibrated.numbers` gives them.
"""

from __future__ import annotations

import math

from numba import njit

from pretune.physics.types import Floats

PRODUCT, EFFECTIVE, LOGISTIC, TRANSFER = 0.0, 1.0, 2.0, 3.0
_P = 2
"""Where a law's own parameters begin."""


@njit(cache=True, error_model="numpy")
def law_coefficients(c: Floats, m: float, n: float) -> tuple[float, float, float, float]:
    """``(weight, phi, psi0, psi)`` of a law at rounds ``(m, n)``; an unused stage has no noise."""
    phi = _phi(c, min(m, c[14]), min(n, c[15]))
    noisy = phi ** c[13]
    return 1.0, phi, c[11] * noisy if m > 0.0 else 0.0, c[12] * noisy if n > 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def _phi(c: Floats, m: float, n: float) -> float:
    v, family = c[_P:], c[1]
    if family == PRODUCT:
        return v[0] + v[1] * (1.0 + n / v[2]) ** -v[3] * (1.0 + m / v[4]) ** -v[5]
    if family == EFFECTIVE:
        return v[0] + v[1] * (1.0 + (n + v[4] * m ** v[5]) / v[2]) ** -v[3]
    if family == LOGISTIC:
        return v[0] + v[1] / (1.0 + ((n + v[4] * m ** v[5]) / v[2]) ** v[3])
    if family == TRANSFER:
        return v[0] + v[1] / (1.0 + (_transferred(v, m, n) / v[2]) ** v[3])
    return v[0] + v[1] * math.exp(-n / v[2]) * ((1.0 - v[4]) * math.exp(-m / v[3]) + v[4])


@njit(cache=True, error_model="numpy")
def _transferred(v: Floats, m: float, n: float) -> float:
    t = (m / v[7]) ** v[8]
    return n + v[4] * (1.0 + n / v[5]) ** v[6] * t / (1.0 + t)


@njit(cache=True, error_model="numpy")
def law_slopes(c: Floats, m1: float, m2: float, n1: float, n2: float) -> tuple[float, float]:
    """How steeply phi falls at the least, in the rounds of either stage, over a box within the law's most rounds."""
    v, family = c[_P:], c[1]
    if family == PRODUCT:
        left = v[1] * (1.0 + n2 / v[2]) ** -v[3] * (1.0 + m2 / v[4]) ** -v[5]
        return left * v[5] / (v[4] + m2), left * v[3] / (v[2] + n2)
    if family == EFFECTIVE:
        steep = v[1] * v[3] / v[2] * (1.0 + (n2 + v[4] * m2 ** v[5]) / v[2]) ** (-v[3] - 1.0)
        return steep * _concave(v[4], v[5], m2), steep
    if family == LOGISTIC:
        steep = v[1] * _steep(v[2], v[3], n1 + v[4] * m1 ** v[5], n2 + v[4] * m2 ** v[5])
        return steep * _concave(v[4], v[5], m2), steep
    if family == TRANSFER:
        steep = v[1] * _steep(v[2], v[3], _transferred(v, m1, n1), _transferred(v, m2, n2))
        t1 = (m1 / v[7]) ** v[8]
        by_m = v[4] * (1.0 + n1 / v[5]) ** v[6] * _steep(v[7], v[8], m1, m2)
        by_n = 1.0 + v[4] * v[6] / v[5] * (1.0 + n2 / v[5]) ** (v[6] - 1.0) * t1 / (1.0 + t1)
        return steep * by_m, steep * by_n
    by_n = v[1] * math.exp(-n2 / v[2])
    by_m = (1.0 - v[4]) * math.exp(-m2 / v[3])
    return by_n * by_m / v[3], by_n * (by_m + v[4]) / v[2]


@njit(cache=True, error_model="numpy")
def _steep(r: float, a: float, x1: float, x2: float) -> float:
    """The least of ``-d/dx 1/(1 + (x/r)^a)`` over an interval; least at an end."""
    return min(_steep_at(r, a, x1), _steep_at(r, a, x2))


@njit(cache=True, error_model="numpy")
def _steep_at(r: float, a: float, x: float) -> float:
    z = max(x / r, 1e-12) if a < 1.0 else x / r  # with a < 1 it begins infinitely steep
    if z > 1.0:  # two forms, neither of which overflows
        return a / r * z ** (-a - 1.0) / (1.0 + z**-a) ** 2
    return a / r * z ** (a - 1.0) / (1.0 + z**a) ** 2


@njit(cache=True, error_model="numpy")
def _concave(c: float, b: float, m: float) -> float:
    """``d/dm c m^b`` for b <= 1; zero at m = 0, where it is not asked for."""
    return c * b * m ** (b - 1.0) if m > 0.0 else 0.0
