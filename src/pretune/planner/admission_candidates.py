"""Good subsets of a fleet: prefixes of orders, the best subset at given prices, and swaps of single devices.

Nothing here proves anything; what is found is planned and gives the bound in `admission_bound` something to beat.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pretune.physics.types import Floats
from pretune.planner.admission_fleet import Choice, Mask
from pretune.planner.kernels.admission import brackets, offer_of, subset_batches
from pretune.planner.kernels.fixed import SOLVED, Point, new_point, solve_fixed
from pretune.planner.kernels.fleet import least_device_span, round_at
from pretune.planner.kernels.priced import Region, price
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import Batches, Devices, Problem
from pretune.planner.whole import Decision, round_batches

_SPANS = 28
"""Spans that a scan at given prices tries."""
_SHARES = (0.0, 0.003, 0.03, 0.15, 0.4, 0.7, 1.0)
"""Shares of the most rounds of either stage, for a coarse grid."""
_MOST_ROUNDS = 10**12
_SCANS = 8
_SWAPS = 6
"""Devices of either kind that a round of swaps tries."""
_SWAP_WORK, _LEAST_SWAPS, _MOST_SWAPS = 60_000, 40, 1000
"""How many swaps are tried: so many devices in all, within these ends."""

_SMALL = 16
"""Fleets up to this size can afford to look for the best rounds after every swap."""

Rounds = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A subset at the best rounds found for it, with real batches: value, prices, span."""

    mask: Mask
    value: float
    rounds: Rounds
    lam: float
    omega: float
    span: float


@dataclass
class Candidates:
    """The subsets tried so far, and the best of them."""

    choice: Choice
    deadline: float = math.inf
    best: Mask | None = None
    decision: Decision | None = None
    """The best decision with whole batches, for the devices of `best`."""
    tried: dict[bytes, Found | None] = field(default_factory=dict)
    leader: Found | None = None
    """The best found with real batches that fine-tunes."""

    @property
    def value(self) -> float:
        """The criterion of the best decision."""
        return math.inf if self.decision is None else self.decision.value

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.deadline

    # ------------------------------------------------------------------ one subset

    def accept(self, mask: Mask, decision: Decision | None) -> bool:
        """Keep a decision if it is the best; a tie goes to the subset that came first."""
        if decision is None or not decision.value < self.value * (1.0 - 1e-12):
            return False
        self.best, self.decision = mask.copy(), decision
        return True

    def search(self, mask: Mask) -> None:
        """Look for the best rounds of a subset, from the best of a coarse grid of rounds."""
        if not self.choice.allows(mask):
            return
        problem = self.choice.subset(mask)
        point = new_point(int(mask.sum()))
        most = (_most_rounds(problem, 0), _most_rounds(problem, 1))
        if most[1] == 0:
            return
        starts = {(round(a * most[0]), max(round(b * most[1]), 1)) for a in _SHARES for b in _SHARES if a + b <= 1.0}
        values = {rounds: value_at(problem, rounds, point) for rounds in sorted(starts)}
        start = min(values, key=lambda rounds: (values[rounds], rounds))
        if math.isfinite(values[start]):
            self.tried.pop(mask.tobytes(), None)
            self.improve(mask, start)

    def improve(self, mask: Mask, start: Rounds, step: float = 1.25, patience: float = 0.5) -> Found | None:
        """The best rounds of a subset near `start`, by compass search with real batches; then with whole ones.

        The search begins with a factor of `step`. A subset that is worse than the leader by more than the share
        `patience` to start with is not pursued.
        """
        key = mask.tobytes()
        if key in self.tried or not self.choice.allows(mask):
            return self.tried.get(key)
        problem = self.choice.subset(mask)
        point = new_point(int(mask.sum()))
        values: dict[Rounds, float] = {}

        def value(rounds: Rounds) -> float:
            if rounds not in values:
                values[rounds] = value_at(problem, rounds, point)
            return values[rounds]

        rounds = start
        while not math.isfinite(value(rounds)) and max(rounds) > 1:
            rounds = (rounds[0] // 2, max(rounds[1] // 2, 1))
        found = None
        hopeless = self.leader is not None and value(rounds) > (1.0 + patience) * self.leader.value
        if math.isfinite(value(rounds)):
            while step > 1.004 and not (hopeless or self.late):
                best = min(_around(rounds, step), key=value)
                if value(best) < value(rounds):
                    rounds = best
                else:
                    step = step**0.4
            found = self._settle(mask, problem, rounds)
        self.tried[key] = found
        return found

    def _settle(self, mask: Mask, problem: Problem, rounds: Rounds) -> Found:
        """Prices and whole batches at the rounds."""
        m, n = map(float, rounds)
        at = coefficients(problem.criterion, m, n)
        point = new_point(int(mask.sum()))
        solve_fixed(problem, problem.batches, m, n, at[2], at[3], point)
        value = (at[1] + float(point.scalars[8])) / at[0]
        if value < self.value:
            prices = price(problem, float(point.scalars[0]), float(point.scalars[1]), point.price, point.ratio)
            self.accept(mask, round_batches(problem, rounds, at, point, prices))
        found = Found(
            mask=mask.copy(),
            value=float(value),
            rounds=rounds,
            lam=float(point.scalars[0]),
            omega=float(point.scalars[1]),
            span=float(point.scalars[2]),
        )
        if self.leader is None or found.value < self.leader.value:
            self.leader = found
        return found

    # ------------------------------------------------------------------ many subsets

    def look_around(self, everyone: Mask) -> None:
        """Everyone, prefixes of three orders at doubling sizes, the best subsets at the prices found, then swaps."""
        count = len(self.choice)
        if self.leader is None:
            self.search(everyone)
        for order in self._orders():
            for size in _sizes(count):
                if self.late:
                    return
                mask = np.zeros(count, dtype=np.bool_)
                mask[order[:size]] = True
                if self.leader is None:
                    self.search(mask)
                else:
                    self.improve(mask, self.leader.rounds)
        if self.leader is not None:
            self.search(self.leader.mask)
        self.chase()
        if self.leader is not None:
            self.search(self.leader.mask)
            self.chase()
        self.swap()

    def _orders(self) -> Iterator[NDArray[np.intp]]:
        """The devices by their least span and broadcast, by the joules of a round of one sample, and by gain."""
        d, limits = self.choice.problem.devices, self.choice.problem.limits
        spans = np.array([least_device_span(d, k, 1.0, math.inf, False) for k in range(len(self.choice))])
        yield np.argsort(spans + self.choice.down_s, kind="stable")
        fdma = limits._replace(tdma=False)
        ones, energies = np.ones(1), np.empty(len(self.choice))
        bare = d._replace(battery=np.full_like(d.battery, np.inf))
        for k in range(len(self.choice)):
            one = Devices(*(column[k : k + 1] for column in bare))
            energies[k] = round_at(one, fdma, ones, ones, 0.0, 1.0, 3.0 * float(spans[k]), 0.0, new_point(1))[2]
        yield np.argsort(energies, kind="stable")
        yield np.argsort(self.choice.down_s, kind="stable")

    def chase(self) -> None:
        """Alternate between the best subset at the leader's prices and the prices of that subset."""
        for _ in range(_SCANS):
            leader = self.leader
            if leader is None or self.late:
                return
            for mask in scan(self.choice, leader.lam, leader.omega, leader.rounds, leader.mask):
                self.improve(mask, leader.rounds)
            if self.leader is leader:
                return

    def swap(self) -> None:
        """Put single devices in, out, or in another's place, as long as that helps."""
        left = min(max(_SWAP_WORK // len(self.choice), _LEAST_SWAPS), _MOST_SWAPS)
        while True:
            leader = self.leader
            if leader is None:
                return
            for mask in neighbours(self.choice, leader):
                if len(self.choice) <= _SMALL:
                    self.improve(mask, leader.rounds, step=1.25, patience=0.2)
                else:
                    self.improve(mask, leader.rounds, step=1.02, patience=0.0)
                left -= 1
                if left <= 0 or self.late:
                    return
            if self.leader is leader:
                return


def _around(rounds: Rounds, step: float) -> list[Rounds]:
    """Rounds a factor of `step` up, down or across in the rounds of both stages, with fine-tuning."""
    back = 1.0 / step
    ways = ((step, 1.0), (back, 1.0), (1.0, step), (1.0, back), (step, back), (back, step))
    return sorted({(_scaled(rounds[0], f), max(_scaled(rounds[1], g), 1)) for f, g in ways})


def _scaled(rounds: int, factor: float) -> int:
    """`rounds` times `factor`, at least one away when the factor is not one (and at least 0)."""
    if factor == 1.0:
        return rounds
    nearest = round(rounds * factor)
    if nearest == rounds:
        nearest += 1 if factor > 1.0 else -1
    return max(nearest, 0)


def _sizes(count: int) -> list[int]:
    """1, 2, 4, ... and about three quarters of each, up to one below the whole fleet."""
    sizes = {2**i for i in range(count.bit_length())} | {3 * 2**i for i in range(count.bit_length())}
    return sorted(size for size in sizes | {count - 1} if 0 < size < count)


def _most_rounds(problem: Problem, stage: int) -> int:
    """The most rounds of one stage alone that fit the budgets."""

    def fits(rounds: int) -> bool:
        m, n = (float(rounds), 0.0) if stage == 0 else (0.0, float(rounds))
        return bool(solve_fixed(problem, problem.batches, m, n, 0.0, 0.0, point) == SOLVED)

    point = new_point(problem.devices.cycles.size)
    low, high = 0, 1
    while high < _MOST_ROUNDS and fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def value_at(problem: Problem, rounds: Rounds, point: Point) -> float:
    """The criterion at fixed rounds with real batches; infinity where they do not fit."""
    m, n = map(float, rounds)
    weight, phi, psi0, psi = coefficients(problem.criterion, m, n)
    status = solve_fixed(problem, problem.batches, m, n, psi0, psi, point)
    return (phi + float(point.scalars[8])) / weight if status == SOLVED else math.inf


def shares_at(
    choice: Choice, batches: Batches, lam: float, omega: float, rounds: tuple[float, float], span: float, weight: float
) -> tuple[Floats, Floats]:
    """What each device would pay for time (W), and its battery's ratio, at a span and an admitted weight.

    Zero and one where a device can't keep the span.
    """
    problem = choice.problem
    n = rounds[1]
    psi = coefficients(problem.criterion, *rounds)[3]
    shares, ratios = np.zeros(len(choice)), np.ones(len(choice))
    who = np.flatnonzero(batches.high >= 1.0)
    if not len(who) or not lam > 0.0:
        return shares, ratios
    d = Devices(*(column[who] for column in problem.devices))
    d = d._replace(variance=d.variance / weight**2)
    point = new_point(len(who))
    beta = math.sqrt(psi / (n * lam))
    round_at(d, problem.limits, batches.low[who], batches.high[who], beta, n, span, omega, point)
    usable = np.isfinite(point.price) & (point.ratio < 1e100)
    shares[who], ratios[who] = np.where(usable, point.price, 0.0), np.where(usable, point.ratio, 1.0)
    return shares, ratios


def scan(choice: Choice, lam: float, omega: float, rounds: Rounds, near: Mask) -> list[Mask]:
    """The subsets that cost least at the prices, one for each of a few reaches of the broadcast.

    For each span on a grid the devices are ordered by what they cost per weight, and the best prefix is taken.
    """
    problem, alpha = choice.problem, choice.alpha
    m, n = map(float, rounds)
    psi = coefficients(problem.criterion, m, n)[3]
    fastest = problem.devices.cycles / problem.devices.clock_max
    if not problem.limits.tdma:
        fastest = fastest + problem.devices.span / problem.devices.exponent_max
    longest = problem.limits.delay / n
    if not longest > fastest.min():
        return []
    reaches = np.unique(np.quantile(choice.down_s, (0.1, 0.3, 0.5, 0.7, 0.85, 1.0)))
    best: dict[float, tuple[float, Mask]] = {}
    for span in np.geomspace(fastest.min() * 1.001, longest, _SPANS).tolist():
        high = subset_batches(problem, Region(m, m, n, n, span, span), 0.0)
        batches = problem.batches._replace(high=high)
        weight = float(alpha[near].sum())
        for _ in range(2):
            shares, ratios = shares_at(choice, batches, lam, omega, (m, n), span, weight)
            offer = offer_of(problem, lam, omega, shares, ratios)
            cost = np.empty(len(choice))
            brackets(problem._replace(batches=batches), offer, n, psi / weight**2, span, cost)
            with np.errstate(divide="ignore", invalid="ignore"):
                ideal = np.sqrt(psi * problem.devices.variance / (n * offer.samples)) / weight
                noisy = psi * problem.devices.variance / weight**2 / np.clip(ideal, 1.0, np.maximum(high, 1.0))
            noisy = np.where(np.isfinite(cost), np.minimum(2.0 * np.nan_to_num(noisy), cost), 0.0)
            heaviest, lightest = weight, math.inf
            for reach in reaches.tolist():
                who = np.flatnonzero(np.isfinite(cost) & (choice.down_s <= reach))
                who = who[np.argsort(cost[who] / alpha[who], kind="stable")]
                if not len(who):
                    continue
                weights = np.cumsum(alpha[who])
                down = np.maximum.accumulate(choice.down_s[who])
                per_down = offer.energy * choice.scenario.server.transmit_power_w + offer.delay
                total = np.cumsum(noisy[who]) * weight / weights + np.cumsum(cost[who] - noisy[who])
                total = np.where(weights >= choice.least_weight, total + n * per_down * down, np.inf)
                size = int(np.argmin(total))
                value = float(total[size]) + n * offer.delay * span
                if value < lightest:
                    lightest, heaviest = value, float(weights[size])
                if math.isfinite(value) and (reach not in best or value < best[reach][0]):
                    mask = np.zeros(len(choice), dtype=np.bool_)
                    mask[who[: size + 1]] = True
                    best[reach] = (value, mask)
            weight = heaviest
    ranked = sorted(best.values(), key=lambda entry: entry[0])
    return [mask for _, mask in ranked[:3]]


def neighbours(choice: Choice, found: Found) -> Iterator[Mask]:
    """Subsets that differ in one or two devices: those cheapest to add, dearest to keep, at the prices found."""
    problem, alpha = choice.problem, choice.alpha
    m, n = map(float, found.rounds)
    psi = coefficients(problem.criterion, m, n)[3]
    high = subset_batches(problem, Region(m, m, n, n, found.span, found.span), 0.0)
    weight = float(alpha[found.mask].sum())
    batches = problem.batches._replace(high=high)
    shares, ratios = shares_at(choice, batches, found.lam, found.omega, (m, n), found.span, weight)
    cost = np.empty(len(choice))
    offer = offer_of(problem, found.lam, found.omega, shares, ratios)
    brackets(problem._replace(batches=batches), offer, n, psi / weight**2, found.span, cost)
    ratio = cost / alpha
    inside, outside = np.flatnonzero(found.mask), np.flatnonzero(~found.mask)
    dear = inside[np.argsort(-ratio[inside], kind="stable")][:_SWAPS]
    cheap = outside[np.argsort(ratio[outside], kind="stable")][:_SWAPS]
    far = inside[np.argsort(-choice.down_s[inside], kind="stable")][:2]
    slow = inside[np.argsort(-shares[inside], kind="stable")][:2]
    for k in dict.fromkeys((*dear.tolist(), *far.tolist(), *slow.tolist())):
        without = found.mask.copy()
        without[k] = False
        yield without
        for j in cheap.tolist()[:2]:
            other = without.copy()
            other[j] = True
            yield other
    for j in cheap.tolist():
        more = found.mask.copy()
        more[j] = True
        yield more
