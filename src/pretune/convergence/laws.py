"""The calibrated criterion: laws for the delivered model's loss, fitted to pilot runs (math.md section 2(c)).

Every law has the criteria's shape, with ``phi(M, N)`` from one of five families:

    product    floor + A (1 + N/n)^-a (1 + M/m)^-b
    effective  floor + A (1 + x/r)^-a,      x = N + c M^b           effective data transfer
    logistic   floor + A / (1 + (x/r)^a),   x = N + c M^b           the same, S-shaped in log x
    transfer   floor + A / (1 + (x/r)^a),   x = N + c (1 + N/n)^g t/(1 + t),  t = (M/m)^b
    decay      floor + A q^N ((1 - s) r^M + s),  q = e^(-1/n), r = e^(-1/m)   as an SDE drifts; like `final`

and batches entering as ``psi0 = v0 phi^e`` and ``psi = v phi^e`` (e = 0: noise that does not depend on the loss; e = 1:
noise in proportion to it). M and N are cut at `pretrain_most` and `finetune_most`: beyond what the pilot runs have
seen, more rounds are not predicted to bring anything. `transfer` says that pre-training is worth at most
``c (1 + N/n)^g`` fine-tuning rounds, more the more fine-tuning there is to make use of it.

In every family phi falls in M and in N, and with it psi0 and psi: more rounds and larger batches are never predicted to
be worse (but for a stage's very first round, which brings its noise along), and over a box of rounds each coefficient
is least at the corner of most rounds. With g <= 1 (and b <= 1, but in `product` and `transfer`) also how steeply phi
falls is bounded below over a box by values at its corners (`slopes`): that is what the planner's bounds rest on, and
what the ranges in `pretune.law` ensure.

Sources: effective data transfer after Hernandez et al., "Scaling laws for transfer" (arXiv:2102.01293); power laws
with a floor after Hestness et al. (arXiv:1712.00409). The families `logistic`, `transfer` and the way batches enter
are pretune's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.convergence.criteria_types import Coefficients, Rounds
from pretune.law import COMMON, FAMILIES, Law
from pretune.physics.types import Floats

KIND = 2.0
"""The kind of criterion that the kernels know a law by."""
NUMBER = {family: float(i) for i, family in enumerate(FAMILIES)}
_PARAMETERS = 9


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A law as a criterion: what is predicted of the delivered model, a loss in nats or a share of errors."""

    law: Law
    name: str = "calibrated"

    def at(self, pretrain_rounds: Rounds, finetune_rounds: Rounds) -> Coefficients:
        """See `ConvergenceCriterion.at`."""
        m, n = np.asarray(pretrain_rounds, dtype=np.float64), np.asarray(finetune_rounds, dtype=np.float64)
        phi = phi_of(self.law.family, self.law.values, m, n)
        v0, v, power = self.law.values[-5:-2]
        noisy = phi**power
        return Coefficients(
            weight=1.0,
            phi=phi,
            psi0=np.where(m > 0.0, v0 * noisy, 0.0),
            psi=np.where(n > 0.0, v * noisy, 0.0),
        )

    def numbers(self) -> tuple[float, ...]:
        """See `ConvergenceCriterion.numbers`: kind, family, nine parameters (some unused), the five common ones."""
        own, common = self.law.values[: -len(COMMON)], self.law.values[-len(COMMON) :]
        return (KIND, NUMBER[self.law.family], *own, *(0.0,) * (_PARAMETERS - len(own)), *common)

    @property
    def most(self) -> tuple[float, float]:
        """The rounds of either stage beyond which no gain is predicted."""
        return self.law.values[-2], self.law.values[-1]

    def slopes(self, m1: Floats, m2: Floats, n1: Floats, n2: Floats) -> tuple[Floats, Floats]:
        """How steeply phi falls at the least over boxes of rounds within `most`: bounds of its derivatives' size."""
        return _SLOPES[self.law.family](self.law.values, m1, m2, n1, n2)


def predict(family: str, values: Any, points: Floats) -> Floats:
    """What a law predicts at `points`, columns M, N, 1/b0, S of shape (P, 4); shape (P,).

    `values` are as in a `Law`. `S` is ``sum_k alpha_k^2 sigma_k^2 / b_k``. Columns of an unused stage don't matter.
    """
    m, n, inverse, noise = points.T
    phi = phi_of(family, values, m, n)
    v0, v, power = values[-5], values[-4], values[-3]
    found: Floats = phi + phi**power * (np.where(m > 0.0, v0 * inverse, 0.0) + np.where(n > 0.0, v * noise, 0.0))
    return found


def phi_of(family: str, v: Any, m: Floats, n: Floats) -> Floats:
    """The noiseless part of a law; `v` holds its parameters in the order of `Law.names`."""
    m, n = np.minimum(m, v[-2]), np.minimum(n, v[-1])
    found: Floats
    if family == "product":
        found = v[0] + v[1] * (1.0 + n / v[2]) ** -v[3] * (1.0 + m / v[4]) ** -v[5]
    elif family == "effective":
        found = v[0] + v[1] * (1.0 + (n + v[4] * m ** v[5]) / v[2]) ** -v[3]
    elif family == "logistic":
        found = v[0] + v[1] / (1.0 + ((n + v[4] * m ** v[5]) / v[2]) ** v[3])
    elif family == "transfer":
        found = v[0] + v[1] / (1.0 + (_transferred(v, m, n) / v[2]) ** v[3])
    elif family == "decay":
        found = v[0] + v[1] * np.exp(-n / v[2]) * ((1.0 - v[4]) * np.exp(-m / v[3]) + v[4])
    else:
        raise ValueError(f"no family {family!r}")
    return found


def _transferred(v: Any, m: Floats, n: Floats) -> Floats:
    """The effective rounds of `transfer`."""
    t = (m / v[7]) ** v[8]
    found: Floats = n + v[4] * (1.0 + n / v[5]) ** v[6] * t / (1.0 + t)
    return found


def _product_slopes(v: Any, m1: Floats, m2: Floats, n1: Floats, n2: Floats) -> tuple[Floats, Floats]:
    left = v[1] * (1.0 + n2 / v[2]) ** -v[3] * (1.0 + m2 / v[4]) ** -v[5]
    return left * v[5] / (v[4] + m2), left * v[3] / (v[2] + n2)


def _effective_slopes(v: Any, m1: Floats, m2: Floats, n1: Floats, n2: Floats) -> tuple[Floats, Floats]:
    steep = v[1] * v[3] / v[2] * (1.0 + (n2 + v[4] * m2 ** v[5]) / v[2]) ** (-v[3] - 1.0)
    return steep * _concave(v[4], v[5], m2), steep


def _logistic_slopes(v: Any, m1: Floats, m2: Floats, n1: Floats, n2: Floats) -> tuple[Floats, Floats]:
    steep = v[1] * _steep(v[2], v[3], n1 + v[4] * m1 ** v[5], n2 + v[4] * m2 ** v[5])
    return steep * _concave(v[4], v[5], m2), steep


def _transfer_slopes(v: Any, m1: Floats, m2: Floats, n1: Floats, n2: Floats) -> tuple[Floats, Floats]:
    steep = v[1] * _steep(v[2], v[3], _transferred(v, m1, n1), _transferred(v, m2, n2))
    t1 = (m1 / v[7]) ** v[8]
    by_m = v[4] * (1.0 + n1 / v[5]) ** v[6] * _steep(v[7], v[8], m1, m2)
    by_n = 1.0 + v[4] * v[6] / v[5] * (1.0 + n2 / v[5]) ** (v[6] - 1.0) * t1 / (1.0 + t1)
    return steep * by_m, steep * by_n


def _decay_slopes(v: Any, m1: Floats, m2: Floats, n1: Floats, n2: Floats) -> tuple[Floats, Floats]:
    by_n = v[1] * np.exp(-n2 / v[2])
    by_m = (1.0 - v[4]) * np.exp(-m2 / v[3])
    return by_n * by_m / v[3], by_n * (by_m + v[4]) / v[2]


def _steep(r: float, a: float, x1: Floats, x2: Floats) -> Floats:
    """The least of ``-d/dx 1/(1 + (x/r)^a)`` over an interval: it falls, or rises and then falls: least at an end."""

    def at(x: Floats) -> Floats:
        # with a < 1 it begins infinitely steep: a point near the beginning is less so
        z = np.maximum(x / r, 1e-12) if a < 1.0 else x / r
        small, large = np.minimum(z, 1.0), np.maximum(z, 1.0)  # two forms, neither of which overflows
        rising = small ** (a - 1.0) / (1.0 + small**a) ** 2
        falling = large ** (-a - 1.0) / (1.0 + large**-a) ** 2
        found: Floats = a / r * np.where(z > 1.0, falling, rising)
        return found

    least: Floats = np.minimum(at(x1), at(x2))
    return least


def _concave(c: float, b: float, m: Floats) -> Floats:
    """``d/dm c m^b`` for b <= 1, zero at m = 0, where it is not asked for."""
    found: Floats = np.where(m > 0.0, c * b * np.maximum(m, 1e-300) ** (b - 1.0), 0.0)
    return found


_SLOPES = {
    "product": _product_slopes,
    "effective": _effective_slopes,
    "logistic": _logistic_slopes,
    "transfer": _transfer_slopes,
    "decay": _decay_slopes,
}
