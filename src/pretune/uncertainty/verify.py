"""The laws' figures again, by formulas that `rice` and `gains` do not use: what `pretune check` believes.

The power of a Rician channel is below y where the in-phase part is r and the other is small enough:

    P(power < y) = int N(r; v, d/2) erf(sqrt((y - r^2)/d)) dr  over |r| < sqrt(y),   v^2 = K/(K+1), d = 1/(K+1)

Shadowing is integrated over by Gauss and Legendre's rule, the inverse's mean over ln x.
"""

from __future__ import annotations

import math

import numpy as np

from pretune.physics.types import Floats

_LN10_10 = math.log(10.0) / 10.0
_RADIAL, _SHADOW, _SPAN, _HERMITE = 48, 64, 160, 32
_STRONG = 60.0
"""Rician factors beyond which the channel is hardly ever near zero."""
_ERF = np.frompyfunc(math.erf, 1, 1)


def _erf(x: Floats) -> Floats:
    return np.asarray(_ERF(x), dtype=np.float64)


def chance_below(x: Floats, k_factor: float, std_db: float) -> Floats:
    """P(power < x) of fading and shadowing together, x of shape (n,), to about 1e-6 of it or 1e-9."""
    s = std_db * _LN10_10
    if s == 0.0:
        return _fading(x, k_factor)
    if math.isinf(k_factor):  # shadowing alone: x < e^(s n - s^2/2)
        return 0.5 * (1.0 + _erf((np.log(x) / s + 0.5 * s) / math.sqrt(2.0)))
    if k_factor > _STRONG:
        return _mostly_shadowed(x, k_factor, s)
    # as many panels as the fading's step, of a width of about 1/sqrt(K + 1) in ln x, is to be seen
    panels = max(1, math.ceil(s * math.sqrt(k_factor + 1.0) / 4.0))
    nodes, weights = np.polynomial.legendre.leggauss(_SHADOW)
    width = 16.0 / panels
    middles = -8.0 + width * (np.arange(panels) + 0.5)
    normal = (middles[:, None] + 0.5 * width * nodes).ravel()
    weights = np.tile(weights, panels) * 0.5 * width * np.exp(-0.5 * normal**2) / math.sqrt(2.0 * math.pi)
    levels = x[:, None] * np.exp(-(s * normal - 0.5 * s * s))
    found: Floats = _fading(levels.ravel(), k_factor).reshape(levels.shape) @ weights
    return found


def _mostly_shadowed(x: Floats, k_factor: float, s: float) -> Floats:
    """With a strong direct path it is the shadowing that is integrated over first: smooth in both parts of the fading,
    for these Gauss and Hermite's rule."""
    nodes, weights = np.polynomial.hermite.hermgauss(_HERMITE)
    spread = 1.0 / (k_factor + 1.0)
    parts = math.sqrt(spread) * nodes  # each of variance spread/2
    power = np.square(math.sqrt(k_factor * spread) + parts)[:, None] + np.square(parts)
    both = (weights[:, None] * weights / math.pi).ravel()
    place = (np.log(x)[:, None] - np.log(power).ravel()) / s + 0.5 * s
    found: Floats = 0.5 * (1.0 + _erf(place / math.sqrt(2.0))) @ both
    return found


def _fading(y: Floats, k_factor: float) -> Floats:
    if math.isinf(k_factor):
        return (y > 1.0).astype(np.float64)
    spread = 1.0 / (k_factor + 1.0)
    direct, root = math.sqrt(k_factor * spread), np.sqrt(y)
    reach = 9.0 * math.sqrt(0.5 * spread)
    low, high = np.maximum(-root, direct - reach), np.minimum(root, direct + reach)
    half, middle = 0.5 * np.maximum(0.0, high - low), 0.5 * (high + low)
    nodes, weights = np.polynomial.legendre.leggauss(_RADIAL)
    # r = middle + half sin(t): the root at |r| = sqrt(y) is smooth in t
    angles = 0.5 * math.pi * nodes
    r = middle[:, None] + half[:, None] * np.sin(angles)
    inner = np.sqrt(np.maximum(0.0, y[:, None] - r * r) / spread)
    density = np.exp(-np.square(r - direct) / spread) / math.sqrt(math.pi * spread)
    found: Floats = half * ((_erf(inner) * density * np.cos(angles)) @ (weights * 0.5 * math.pi))
    return found


def inverse_mean_above(quantile: float, k_factor: float, std_db: float) -> float:
    """``E[1/x; x >= q] = int_q^inf F(x)/x^2 dx - F(q)/q`` over ln x."""
    s = std_db * _LN10_10
    span = max(math.log(60.0) + 8.0 * s - math.log(quantile), 1.0)
    nodes, weights = np.polynomial.legendre.leggauss(_SPAN)
    logs = math.log(quantile) + 0.5 * span * (nodes + 1.0)
    x = np.exp(logs)
    inside = float((weights * 0.5 * span * chance_below(x, k_factor, std_db) / x).sum())
    beyond = math.exp(-math.log(quantile) - span)
    return inside + beyond - float(chance_below(np.array([quantile]), k_factor, std_db)[0]) / quantile
