"""Proves lower bounds of plans in segments from the prices in a certificate: `pretune.bounds` for a `schedule`.

Weak duality again, with one share of the price of time for each device *and segment*. At prices ``lambda`` and
``nu = lambda omega`` whatever batches, clocks and powers a plan of rounds ``(M, N)`` has in its segments,

    value >= [ phi + sum_j min_b (psi0_j/b + m_j c0 b) + sum_j (n_j C_j + sum_k min_b (psi_j A_k/b + n_j c_jk b))
               - lambda E - nu T ] / weight

Over boxes of rounds: for `trajectory` each bill is its rounds times that of one round, so the cheapest segment's bounds
them all and the corners settle it. For `final` take the rounds of one remainder modulo J: from one to the next every
segment's end moves by the same step, its length is linear and its weight the difference of two exponentials. Such a
curve lies at most a *sag* below its chord; bills rise in the weight and are concave; so phi's tangent plane plus the
bills at the lowered ends of each remainder bound the box. This file shares no code with the planner; it is plain NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pretune.caps import server_paid
from pretune.convergence.criteria import Final, Trajectory
from pretune.convergence.schedule import ends, lengths, segment_coefficients
from pretune.errors import InputError
from pretune.figures import SAME, Boxes, System
from pretune.physics.types import Floats
from pretune.price_sets import Priced, column, home_of, number, sample_cost
from pretune.uploads import upload_cost

HUGE = 1e60
"""Stands for no limit where a product with it must stay finite."""


def _least_round(system: System) -> tuple[float, float]:
    """The least span of a round of one sample (TDMA: of its compute phase) and of all uploads in turn (FDMA: 0)."""
    computing = system.cycles / system.scenario.devices.max_clock_hz
    uploading = system.span / system.exponent_max
    if system.tdma:
        return float(computing.max()), float(uploading.sum())
    return float((computing + uploading).max()), 0.0


def priced_segments(system: System, entry: Mapping[str, Any]) -> Priced:
    """The costs that a certificate's price set implies; `sample_costs` (J, K) and `round_cost` (J,) by segment.

    What a segment's shares leave of the price of time is paid by the least span a round can have.

    Raises:
        InputError: the set can't be read, or holds prices there are none of.
    """
    scenario = system.scenario
    fleet, server, budget, schedule = scenario.devices, scenario.server, scenario.budget, scenario.schedule
    lam, omega = number(entry, "energy"), number(entry, "omega")
    if "ratios" in entry:
        raise InputError("plan.certificate.prices: holds ratios, should hold none with a schedule")
    rows = entry.get("shares", [[0.0] * len(fleet)] * schedule)
    if not isinstance(rows, list) or len(rows) != schedule:
        raise InputError(f"plan.certificate.prices: shares should hold {schedule} lists, one for each segment")
    shares = np.array([column({"shares": row}, "shares", len(fleet), 0.0) for row in rows])
    if lam < 0.0 or omega < 0.0 or np.any(shares < 0.0):
        raise InputError("plan.certificate: prices must not be negative")
    omega = max(omega, float(shares.sum(axis=1).max()))
    upload_price = (np.full_like(shares, omega) if system.tdma else shares) + fleet.circuit_power_w
    uploads = [upload_cost(paid, system.noise, system.span, system.exponent_max).sum() for paid in upload_price]
    left = (omega - shares.sum(axis=1)) * _least_round(system)[0] * (1.0 - SAME)
    server_cost = sample_cost(
        np.array([omega]),
        np.array([system.server_cycles]),
        np.array([server.capacitance]),
        np.array([server.max_clock_hz]),
        np.array([server.static_power_w]),
    )
    costs = [
        sample_cost(own, system.cycles, fleet.capacitance, fleet.max_clock_hz, fleet.static_power_w) for own in shares
    ]
    return Priced(
        energy=lam,
        delay=lam * omega,
        server_cost=lam * float(server_cost[0]),
        sample_costs=lam * np.array(costs),
        round_cost=lam * (system.down_j + omega * system.down_s + np.array(uploads) + left),
        slack=0.0,
        halves=np.zeros((0, 10)),
        budget=lam * (budget.energy_j + omega * budget.delay_s),
        home=home_of(entry),
    )


class _Bills:
    """The least that the segments of some boxes cost at given prices, one row for each box."""

    def __init__(self, system: System, prices: Priced, boxes: Boxes) -> None:
        self.system, self.schedule, rows = system, system.scenario.schedule, len(boxes)
        self.server_cost = np.broadcast_to(prices.server_cost, rows)[:, None]
        self.round_cost = np.broadcast_to(prices.round_cost, (rows, self.schedule))
        self.sample_costs = np.broadcast_to(prices.sample_costs, (rows, self.schedule, len(system.cycles)))
        self._cap(boxes)

    def _cap(self, boxes: Boxes) -> None:
        """The most samples that the boxes' fewest rounds leave time for: with L rounds, 1/L of the slack more each."""
        scenario, schedule = self.system.scenario, self.schedule
        fleet, server = scenario.devices, scenario.server
        m1, m2, n1, n2 = boxes.T[:4]
        span, uploads = _least_round(self.system)
        least0 = self.system.server_cycles / server.max_clock_hz
        slack = scenario.budget.delay_s * (1.0 + SAME) - m1 * least0 - n1 * (span + uploads + self.system.down_s)
        joules = scenario.budget.energy_j - n1 * self.system.down_j
        self.empty = (slack < 0.0) | (joules < 0.0)
        length0 = np.where(m1 == m2, lengths(m1, schedule), np.floor(m1 / schedule)).T
        length1 = np.where(n1 == n2, lengths(n1, schedule), np.floor(n1 / schedule)).T
        time0, time1 = least0 + _each(slack, length0), span + _each(slack, length1)
        fastest = np.zeros(len(fleet)) if self.system.tdma else self.system.span / self.system.exponent_max
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            paid = server_paid(self.system, np.minimum(time0, HUGE), np.minimum(_each(joules, length0), HUGE))
        fits0 = np.minimum(time0 * server.max_clock_hz / self.system.server_cycles, paid)
        fits1 = (time1[:, :, None] - fastest) * fleet.max_clock_hz / self.system.cycles
        self.server_most = np.clip(np.floor(fits0 * (1.0 + SAME)), 1.0, float(server.samples))
        self.most = np.clip(np.floor(fits1 * (1.0 + SAME)), 1.0, fleet.samples)

    def server(self, rounds: Floats, psi0: Floats) -> Floats:
        """The bill of pre-training: `rounds` and `psi0` of shape (J, B)."""
        bill = _cheapest(psi0.T, rounds.T * self.server_cost, self.server_most)
        total: Floats = np.where(rounds.T > 0.0, bill, 0.0).sum(axis=1)
        return total

    def fleet(self, rounds: Floats, psi: Floats) -> Floats:
        """The bill of fine-tuning, likewise."""
        noise = psi.T[:, :, None] * self.system.variance
        bill = _cheapest(noise, rounds.T[:, :, None] * self.sample_costs, self.most).sum(axis=2)
        total: Floats = np.where(rounds.T > 0.0, bill + rounds.T * self.round_cost, 0.0).sum(axis=1)
        return total

    def unit(self, criterion: Trajectory) -> tuple[Floats, Floats]:
        """The bills of one round of either stage in its cheapest segment."""
        server = _cheapest(np.full_like(self.server_most, criterion.server_noise), self.server_cost, self.server_most)
        noise = np.broadcast_to(criterion.device_noise * self.system.variance, self.most.shape)
        fleet = _cheapest(noise, self.sample_costs, self.most).sum(axis=2) + self.round_cost
        return server.min(axis=1), fleet.min(axis=1)


def _each(amount: Floats, rounds: Floats) -> Floats:
    """``amount / rounds`` by box and segment, no less than zero; infinity where there need not be a round."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rounds > 0.0, np.maximum(amount, 0.0)[:, None] / rounds, np.inf)


def _cheapest(noise: Floats, unit_cost: Floats, high: Floats) -> Floats:
    """``min over whole b in [1, high] of noise/b + cost b``, element-wise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        real = np.where(unit_cost > 0.0, np.sqrt(noise / unit_cost), np.where(noise > 0.0, high, 1.0))
    down = np.clip(np.floor(real), 1.0, high)
    up = np.minimum(down + 1.0, high)
    cheapest: Floats = np.minimum(noise / down + unit_cost * down, noise / up + unit_cost * up)
    return cheapest


def bound_segments(system: System, prices: Priced, boxes: Boxes) -> Floats:
    """What the prices prove for every pair of rounds of each box except (0, 0); infinity where a box holds no plan.

    Shape (B, 6) in (`pretune.bounds.Boxes`; the spans are not looked at), shape (B,) out.
    """
    criterion, schedule = system.criterion, system.scenario.schedule
    m1, m2, n1, n2 = boxes.T[:4]
    bills = _Bills(system, prices, boxes)

    def at(m: Floats, n: Floats) -> Floats:
        c = segment_coefficients(criterion, m, n, schedule)
        numerator = c.phi + bills.server(c.pretrain_rounds, c.psi0) + bills.fleet(c.finetune_rounds, c.psi)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = (numerator - prices.budget) / c.weight
        return np.where((m > 0.0) | (n > 0.0), value, np.inf)

    if isinstance(criterion, Trajectory):
        unit0, unit1 = bills.unit(criterion)

        def quotient(m: Floats, n: Floats) -> Floats:
            c = criterion.at(m, n)
            with np.errstate(divide="ignore", invalid="ignore"):
                value = (c.phi + m * unit0 + n * unit1 - prices.budget) / c.weight
            return np.where((m > 0.0) | (n > 0.0), value, np.inf)

        corners = [quotient(m1, n1), quotient(m2, n1), quotient(m1, n2), quotient(m2, n2)]
        # the quotient has no value at (0, 0): its neighbours stand for it
        corners.append(np.where(m1 + n1 == 0.0, quotient(np.minimum(m2, 1.0), n1), np.inf))
        corners.append(np.where(m1 + n1 == 0.0, quotient(m1, np.minimum(n2, 1.0)), np.inf))
        value = np.min(corners, axis=0)
    elif isinstance(criterion, Final):
        value = _final(criterion, schedule, boxes, bills) - prices.budget
    else:
        raise TypeError(f"criterion {criterion.name} is not known round by round")
    value = np.where((m1 == m2) & (n1 == n2), at(m1, n1), value)
    return np.where(bills.empty, np.inf, value)


def _final(criterion: Final, schedule: int, boxes: Boxes, bills: _Bills) -> Floats:
    """Criterion `final` over boxes: corner values of phi and the least bills; or phi's tangent plane with the bills."""
    m1, m2, n1, n2 = boxes.T[:4]
    flat = np.min([criterion.at(m, n).phi for m in (m1, m2) for n in (n1, n2)], axis=0)
    m0, n0 = 0.5 * (m1 + m2), 0.5 * (n1 + n2)
    tangent = criterion.gap >= criterion.shift_floor and criterion.log_r > -50.0 and criterion.log_q > -50.0
    by_m, by_n, tilted = np.zeros_like(m0), np.zeros_like(n0), np.full_like(m0, -np.inf)
    if tangent:
        keep1 = np.exp(criterion.log_q * n0)
        both = np.exp(criterion.log_r * m0) * keep1 * (criterion.gap - criterion.shift_floor)
        tilted = both + keep1 * criterion.shift_floor
        by_m, by_n = criterion.log_r * both, criterion.log_q * tilted
    # the server's noise fades with the fine-tuning rounds: it is least after the most of them
    scale0 = criterion.server_noise * np.exp(criterion.log_q * n2)
    for rate, scale, low, high, middle, slope, bill in (
        (criterion.log_r, scale0, m1, m2, m0, by_m, bills.server),
        (criterion.log_q, np.full_like(n0, criterion.device_noise), n1, n2, n0, by_n, bills.fleet),
    ):
        least_flat = np.full_like(m0, np.inf)
        least_tilted = np.full_like(m0, np.inf)
        for remainder in range(schedule):
            first, last = low + np.mod(remainder - low, schedule), high - np.mod(high - remainder, schedule)
            there = first <= last
            if not np.any(there):
                continue
            first, last = np.where(there, first, low), np.where(there, last, low)
            weights = _lowered(rate, first, last, schedule)
            for rounds, weight in zip((first, last), weights, strict=True):
                paid = np.where(there, bill(lengths(rounds, schedule), scale * weight), np.inf)
                least_flat = np.minimum(least_flat, paid)
                least_tilted = np.minimum(least_tilted, paid + slope * (rounds - middle))
        flat, tilted = flat + least_flat, tilted + least_tilted
    found: Floats = np.maximum(flat, tilted)
    return found


def _weights(rate: float, rounds: Floats, schedule: int) -> Floats:
    """``keep^(R - end_j) - keep^(R - start_j)`` by segment, shape (J, B)."""
    after = rounds - ends(rounds, schedule)
    weights: Floats = np.exp(rate * after) * -np.expm1(rate * lengths(rounds, schedule))
    return weights


def _lowered(rate: float, first: Floats, last: Floats, schedule: int) -> tuple[Floats, Floats]:
    """Weights at both ends, lowered so that their chord is below the weight at all rounds of that remainder between.

    ``e^(-x)`` over an interval of width ``h`` that starts at height ``p`` lies below its chord by no more than
    ``p h^2 / 8``, and no more than ``p (1 - s (1 - log s))`` with ``s = (1 - e^(-h))/h`` (where the tangent is parallel
    to the chord). The subtracted exponential lies below its own chord too, which lifts the difference: by its least
    curvature ``h'^2 e^(-x')`` at the far end, in the same units. Where the ends would turn negative, both take the
    lesser of the two (the weight rises and then falls).
    """
    one, two = _weights(rate, first, schedule), _weights(rate, last, schedule)
    after1, after2 = first - ends(first, schedule), last - ends(last, schedule)
    before1, before2 = after1 + lengths(first, schedule), after2 + lengths(last, schedule)
    height = np.exp(rate * after1)
    width, other = -rate * (after2 - after1), -rate * (before2 - before1)
    wide = width > 700.0
    capped, other = np.minimum(width, 700.0), np.minimum(other, 700.0)
    curved = np.maximum(capped**2 * height - other**2 * np.exp(rate * before2), 0.0) / 8.0
    safe = np.maximum(capped, 0.1)
    parallel = -np.expm1(-safe) / safe
    sag = np.where(capped > 0.1, np.minimum(curved, height * (1.0 - parallel * (1.0 - np.log(parallel)))), curved)
    sag = np.where(wide, height, sag) + 1e-15 * height
    sag = np.where(first == last, 0.0, sag)
    lesser = np.minimum(one, two)
    above = lesser > sag
    return np.where(above, one - sag, lesser), np.where(above, two - sag, lesser)
