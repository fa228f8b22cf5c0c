"""Proves a plan's lower bound again, from the prices in its certificate and nothing else.

Weak duality (math.md section 4): price a joule at ``lambda``, a second at ``nu = lambda omega``, each device's share
of a round's span at ``lambda share_k`` and its battery at ``lambda (ratio_k - 1)``. Whatever the prices, no decision
with rounds ``(M, N)`` and a span of at least ``s1`` is worth less than

    [ phi + min_b0 (psi0/b0 + M c0 b0) + N (C + slack s1) + sum_k min_bk (psi A_k/b_k + N c_k b_k) - budgets ] / weight

(`budgets` at their prices) with whole batches in their ranges. A battery may have two more ratios, one for batches up
to a whole number and one for those above it (`halves`): any ratio is valid for either side, so each side takes what
proves more, and the device's bill is the lesser of the two sides'. Where the band is shared, ``lambda gamma`` prices a
hertz of it in every fine-tuning round, and ``C`` holds the uploads with their shares paid for, less what the band is
worth. `pretune.proof` turns such bounds into a proof. This file shares no code with the planner; it is plain NumPy
over the cost model's numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pretune.caps import longest_span, most_batches, most_server
from pretune.corners import least_over
from pretune.figures import SAME, Boxes, System
from pretune.physics.types import Floats
from pretune.price_sets import Priced


def cheapest(noise: Floats, unit_cost: Floats, high: Floats, low: Floats | float = 1.0) -> Floats:
    """``min over whole b in [low, high] of noise/b + cost b``, element-wise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        real = np.where(unit_cost > 0.0, np.sqrt(noise / unit_cost), np.where(noise > 0.0, high, 1.0))
    down = np.clip(np.floor(real), low, high)
    up = np.minimum(down + 1.0, high)
    cheapest: Floats = np.minimum(noise / down + unit_cost * down, noise / up + unit_cost * up)
    return cheapest


def server_bills(prices: Priced, server_high: Floats) -> Callable[[Floats, Floats], Floats]:
    """The least that m pre-training rounds cost, as a function of (m, psi0)."""
    high = np.maximum(server_high, 1.0)
    return lambda m, psi0: np.where(m > 0.0, cheapest(psi0, m * prices.server_cost, high), 0.0)


def bound(system: System, prices: Priced, boxes: Boxes) -> Floats:
    """What the prices prove for every pair of rounds of each box except (0, 0); infinity where a box holds no plan.

    Shape (B, 6) in, shape (B,) out.
    """
    fleet = system.scenario.devices
    m1, _, n1, n2, s1, s2 = boxes.T
    server_high = most_server(system, boxes, np.maximum(s1, system.up_s))
    longest = np.minimum(s2, longest_span(system, boxes) + system.up_s)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        most = most_batches(system, longest, n1)
        most = np.floor(most * (1.0 + SAME))
        high = np.minimum(fleet.samples, np.where((n1 > 0.0)[:, None], most, np.inf))
    empty = (server_high < 1.0) | np.any(high < 1.0, axis=1)
    if system.band_hz is not None:
        empty |= (n1 > 0.0) & (longest < system.shortest * (1.0 - SAME))
    high = np.maximum(high, 1.0)
    server_bill = server_bills(prices, server_high)

    # FDMA: what the prices of time leave over is paid by every second a round takes at the least
    waiting = 0.0 if system.tdma else prices.slack * s1
    limited = np.flatnonzero(np.isfinite(fleet.battery_j))
    split = bool(np.any(np.isfinite(prices.halves[..., 0])))
    home_n = 0.5 * (n1 + n2)
    home_psi = system.criterion.at(m1, home_n).psi

    def fleet_bill(n: Floats, psi: Floats) -> Floats:
        samples = cheapest(psi[:, None] * system.variance, n[:, None] * prices.sample_costs, high).sum(axis=1)
        if split:
            variance, most = system.variance[limited], high[:, limited]
            samples = samples + _sides(variance, prices.halves, most, (n, psi), (home_n, home_psi)).sum(axis=1)
        return np.where(n > 0.0, n * (prices.round_cost + waiting) + samples, 0.0)

    value = least_over(system.criterion, boxes, server_bill, fleet_bill, prices.budget)
    return np.where(empty, np.inf, value)


def _sides(
    variance: Floats, halves: Floats, high: Floats, at: tuple[Floats, Floats], home: tuple[Floats, Floats]
) -> Floats:
    """What the sides of the batteries' whole batches add to the bill at rounds and psi `at`, shape (B, D).

    Each side takes the ratio that proves more at `home`: one choice for all rounds of a box keeps the bill concave.
    """
    batch = halves[..., 0]

    def bill(which: int, point: tuple[Floats, Floats], low: Floats | float, top: Floats) -> Floats:
        n, psi = point[0][:, None], point[1][:, None]
        sample, upload, worth = (halves[..., 1 + 3 * which + column] for column in range(3))
        return cheapest(psi * variance, n * sample, top, low) + n * upload - worth

    def side(which: int, low: Floats | float, top: Floats) -> Floats:
        own = bill(which, home, low, top) > bill(0, home, low, top)
        return np.where(own, bill(which, at, low, top), bill(0, at, low, top))

    below = side(1, 1.0, np.minimum(batch, high))
    reached = batch + 1.0 <= high
    start = np.where(reached, batch + 1.0, 1.0)
    above = np.where(reached, side(2, start, np.maximum(high, start)), np.inf)
    added: Floats = np.minimum(below, above) - bill(0, at, 1.0, high)
    return added
