"""What a price set proves of every subset of a part (docs/mathematics.md, "Admitting devices").

With ``y = 1 / sum_k alpha_k x_k`` device `k` of a subset `x` adds ``psi A_k y^2 / b_k`` of noise. Everything that ties
the devices together is priced: energy, time, the devices' shares of the span, batteries, and the weight at ``G``. Then

    n (nu (t_down + span) + lambda e_down) + G + sum_k x_k [ min_b (psi A_k rho(y)/b + n c_k b)
                                                             + n (U_k - v_k span) - refund_k - G y alpha_k ]

bounds what `n` rounds cost, ``rho(y) = 2 y0 y - y0^2 <= y^2``. For given devices and batches it is linear in the span,
concave in `n`, and concave in `y` where `G` is linear in `y` and does not fall: least at a corner, each with the best
price of weight of its own. `pretune.corners` adds the server and takes the least over the rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pretune.admitting.node import Part
from pretune.admitting.offers import Offer
from pretune.admitting.roster import Roster
from pretune.bounds import cheapest
from pretune.convergence.criteria import Final
from pretune.corners import least_over
from pretune.physics.types import Floats

_STRIP = 1.15
"""Ratio of the ends of a strip of pre-training rounds (criterion `final`)."""


def prove(roster: Roster, part: Part, offer: Offer, inside: Sequence[int] = (), outside: Sequence[int] = ()) -> Floats:
    """The bound over a part, then over it with each device of `inside` in, then with each of `outside` out."""
    system, who = roster.system, part.who
    (n1, n2), (w1, w2) = part.node.n, part.node.weight
    rounds, spans = np.array([n1, n2]), np.array(part.node.span)
    at = offer.place[who]
    y1, y2 = 1.0 / w2, 1.0 / w1
    y0 = min(0.5 * (y1 + y2), 2.0 * y1)
    weights = np.array([w1, w2])
    rho = 2.0 * y0 / weights - y0 * y0
    psi = np.broadcast_to(system.criterion.at(part.node.m[0], rounds).psi, (2,))
    noise = (psi[:, None] * rho)[..., None] * system.variance[who]
    samples = cheapest(noise, rounds[:, None, None] * offer.samples[at], part.high)
    others = rounds[:, None, None] * (offer.uploads[at] - spans[:, None] * offer.shares[at]) - offer.refunds[at]
    # brackets by (rounds, span, weight, device)
    bracket = samples[:, None] + others[:, :, None]
    alpha = roster.alpha[who]
    price = _weight_prices(bracket, alpha, part.certain, weights)
    own = bracket - (price / weights)[..., None] * alpha
    power = float(system.scenario.server.transmit_power_w)
    each = offer.energy * power * part.down_s + offer.delay * (part.down_s + spans)
    total = (rounds[:, None] * each)[..., None] + price + np.where(part.certain | (own < 0.0), own, 0.0).sum(axis=-1)
    rows = [total]
    places = {int(k): place for place, k in enumerate(who)}
    for k in inside:
        i = places[k]
        rows.append(total if part.certain[i] else total + np.maximum(own[..., i], 0.0))
    for k in outside:
        i = places[k]
        rows.append(total + (np.inf if part.certain[i] else np.maximum(-own[..., i], 0.0)))
    bills = np.array(rows).min(axis=(2, 3))
    return _over_rounds(roster, part, offer, bills)


def _weight_prices(bracket: Floats, alpha: Floats, certain: NDArray[np.bool_], weights: Floats) -> Floats:
    """A price of weight (times the weight) for each corner, shape (rounds, span, 2); not higher at the larger weight.

    The price at which the devices that are worth it just reach the corner's weight; where those of the two weights
    are the wrong way round, one price for both.
    """
    free = ~certain
    if not free.any():
        return np.zeros(bracket.shape[:3])
    ratio = bracket[..., free] / alpha[free]
    order = np.argsort(ratio, axis=-1, kind="stable")
    left = weights - alpha[certain].sum()
    filled = np.cumsum(alpha[free][order], axis=-1) >= left[:, None]
    last = np.where(filled.any(axis=-1), filled.argmax(axis=-1), ratio.shape[-1] - 1)
    at = np.take_along_axis(order, last[..., None], axis=-1)
    price = np.take_along_axis(ratio, at, axis=-1)[..., 0] * weights
    wrong = price[..., 0] < price[..., 1]
    if weights[0] == weights[1]:
        return price
    low, high = price[..., 0].copy(), np.where(wrong, price[..., 1], price[..., 0])
    for _ in range(30 if wrong.any() else 0):
        middle = 0.5 * (low + high)
        own = bracket - (middle[..., None] / weights)[..., None] * alpha
        value = np.where(certain | (own < 0.0), own, 0.0).sum(axis=-1)
        falls = value[..., 0] <= value[..., 1]
        low, high = np.where(falls, low, middle), np.where(falls, middle, high)
    middle = (0.5 * (low + high))[..., None]
    found: Floats = np.where(wrong[..., None], middle, price)
    return found


def _over_rounds(roster: Roster, part: Part, offer: Offer, bills: Floats) -> Floats:
    """The least over the part's rounds, given what its first and last fine-tuning rounds cost, shape (R, 2)."""
    system = roster.system
    (m1, m2), (n1, n2) = part.node.m, part.node.n
    strips = _strips(m1, m2, system.criterion.log_r) if isinstance(system.criterion, Final) else [(m1, m2)]
    count = len(strips)
    boxes = np.tile(np.array([(low, high, n1, n2) for low, high in strips]), (len(bills), 1))
    first, last = np.repeat(bills[:, 0], count), np.repeat(bills[:, 1], count)
    budget = offer.energy * system.scenario.budget.energy_j + offer.delay * system.scenario.budget.delay_s
    high = max(part.server_high, 1.0)

    def server(m: Floats, psi0: Floats) -> Floats:
        return np.where(m > 0.0, cheapest(psi0, m * offer.server_cost, np.full_like(m, high)), 0.0)

    def fleet(n: Floats, psi: Floats) -> Floats:
        return np.where(n == n1, first, last)

    value = least_over(system.criterion, boxes, server, fleet, budget)
    least: Floats = value.reshape(len(bills), count).min(axis=1)
    return least


def _strips(m1: float, m2: float, log_r: float) -> list[tuple[float, float]]:
    """The pre-training rounds in strips of about equal ratios; the last begins where the gap is gone."""
    strips, left = [], m1
    while True:
        right = min(m2, math.floor((left + 1.0) * _STRIP) - 1.0)
        if left * log_r < -40.0:
            right = m2
        strips.append((left, max(left, right)))
        if strips[-1][1] >= m2:
            return strips
        left = strips[-1][1] + 1.0
