"""The least of a bound over boxes of rounds, from what the rounds of either stage cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pretune.convergence.criteria import Calibrated, ConvergenceCriterion, Final, Trajectory
from pretune.physics.types import Floats

Bill = Callable[[Floats, Floats], Floats]
"""The least that rounds of a stage cost, as a function of the rounds and of their noise's coefficient."""


def least_over(
    criterion: ConvergenceCriterion, boxes: Floats, server_bill: Bill, fleet_bill: Bill, budget: Any
) -> Floats:
    """The least of ``(phi + bills - budget) / weight`` over boxes, rows ``m1, m2, n1, n2, ...``, except at (0, 0)."""
    m1, m2, n1, n2 = boxes.T[:4]

    def at(m: Floats, n: Floats) -> Floats:
        c = criterion.at(m, n)
        phi = c.phi
        if isinstance(criterion, Trajectory):
            # private noise is convex in the rounds: its tangent at the middle is below it
            phi = phi - criterion.private_noise * (n - 0.5 * (n1 + n2)) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            value = (phi + server_bill(m, c.psi0) + fleet_bill(n, c.psi) - budget) / c.weight
        return np.where((m > 0.0) | (n > 0.0), value, np.inf)

    single = (m1 == m2) & (n1 == n2)
    # at fixed prices numerator and weight of trajectory are linear in the rounds (private noise by its tangent): the
    # quotient is least at a corner
    corners = [at(m1, n1), at(m2, n1), at(m1, n2), at(m2, n2)]
    origin = (m1 == 0.0) & (n1 == 0.0)
    corners += [
        np.where(origin & (m2 >= 1.0), at(np.minimum(m2, 1.0), n1), np.inf),
        np.where(origin & (n2 >= 1.0), at(m1, np.minimum(n2, 1.0)), np.inf),
    ]
    value: Floats = np.min(corners, axis=0)
    if isinstance(criterion, Final):
        value = np.where(single, value, _final_bound(criterion, boxes, server_bill, fleet_bill) - budget)
    elif isinstance(criterion, Calibrated):
        value = np.where(single, value, _law_bound(criterion, boxes, server_bill, fleet_bill) - budget)
    return value


def _law_bound(criterion: Calibrated, boxes: Floats, server_bill: Bill, fleet_bill: Bill) -> Floats:
    """Criterion `calibrated` over boxes: every coefficient is least at the corner of most rounds.

    From there phi rises towards fewer rounds at least as its least slopes over the box, but is level beyond the law's
    most rounds; the bills at the least noise are concave in the rounds of their stage. So slope and bill together are
    least at an end, or at the law's most rounds.
    """
    m1, m2, n1, n2 = boxes.T[:4]
    most_m, most_n = criterion.most
    least = criterion.at(m2, n2)
    slopes = criterion.slopes(*(np.minimum(m, most_m) for m in (m1, m2)), *(np.minimum(n, most_n) for n in (n1, n2)))
    first, second = np.full_like(m1, np.inf), np.full_like(m1, np.inf)
    for m in (m1, np.clip(most_m, m1, m2), m2):
        first = np.minimum(first, slopes[0] * _within(m, m2, most_m) + server_bill(m, least.psi0))
    for n in (n1, np.clip(most_n, n1, n2), n2):
        second = np.minimum(second, slopes[1] * _within(n, n2, most_n) + fleet_bill(n, least.psi))
    value: Floats = least.phi + first + second
    return value


def _within(rounds: Floats, last: Floats, most: float) -> Floats:
    """How many of the rounds from `rounds` to `last` are among the first `most`."""
    within: Floats = np.minimum(last, most) - np.minimum(rounds, most)
    return within


def _final_bound(
    criterion: Final,
    boxes: Floats,
    server_bill: Bill,
    fleet_bill: Bill,
) -> Floats:
    """Criterion `final` over boxes: corner values; or, better, phi's tangent plane and the bills' chords.

    phi is convex in the rounds where the gap is at least the floor that the shift leaves; the bills are concave in
    the rounds of their stage; the server's bill falls with the fine-tuning rounds, so it is taken at the last.
    """
    m1, m2, n1, n2 = boxes.T[:4]
    c11, c12 = criterion.at(m1, n1), criterion.at(m1, n2)
    c21, c22 = criterion.at(m2, n1), criterion.at(m2, n2)
    server1, server2 = server_bill(m1, c12.psi0), server_bill(m2, c22.psi0)
    fleet1, fleet2 = fleet_bill(n1, c11.psi), fleet_bill(n2, c22.psi)
    first, last, line = _private_line(criterion, n1, n2)
    fleet1, fleet2 = fleet1 + first, fleet2 + line
    value = np.min([c11.phi - first, c12.phi - last, c21.phi - first, c22.phi - last], axis=0)
    value = value + np.minimum(server1, server2) + np.minimum(fleet1, fleet2)
    if criterion.gap >= criterion.shift_floor and criterion.log_r > -50.0 and criterion.log_q > -50.0:
        m0, n0 = 0.5 * (m1 + m2), 0.5 * (n1 + n2)
        keep1 = np.exp(criterion.log_q * n0)
        both = np.exp(criterion.log_r * m0) * keep1 * (criterion.gap - criterion.shift_floor)
        # what fades with the fine-tuning rounds alone: convex, or, where the drift's floor is above the shift's,
        # concave, and then it goes with the bills to the ends
        middle = both + keep1 * max(criterion.shift_floor - criterion.drift_floor, 0.0)
        by_m, by_n = criterion.log_r * both, criterion.log_q * middle
        middle = middle + criterion.drift_floor
        fading = min(criterion.shift_floor - criterion.drift_floor, 0.0)
        if fading < 0.0:
            fleet1 = fleet1 + fading * np.exp(criterion.log_q * n1)
            fleet2 = fleet2 + fading * np.exp(criterion.log_q * n2)
        flat = middle + np.minimum(by_m * (m1 - m0) + server1, by_m * (m2 - m0) + server2)
        flat += np.minimum(by_n * (n1 - n0) + fleet1, by_n * (n2 - n0) + fleet2)
        value = np.maximum(value, flat)
    least: Floats = value
    return least


def _private_line(criterion: Final, n1: Floats, n2: Floats) -> tuple[Floats, Floats, Floats]:
    """The private noise ``g(n) = c n (1 - q^n)`` at n1 and n2, and at n2 a line from (n1, g(n1)) that is below it.

    g' rises up to ``-2/log q`` and falls from there, so g is above a line through its value at n1 whose slope is at
    most g'(n1) and at most the chord's.
    """
    cost, rate = criterion.private_noise, criterion.log_q
    first, last = -cost * n1 * np.expm1(rate * n1), -cost * n2 * np.expm1(rate * n2)
    slope = cost * (-np.expm1(rate * n1) - rate * n1 * np.exp(rate * n1))
    with np.errstate(divide="ignore", invalid="ignore"):
        chord = np.where(n2 > n1, (last - first) / (n2 - n1), 0.0)
    return first, last, first + np.minimum(slope, chord) * (n2 - n1)
