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
from pretune.planner.infeasible import STAGES, fits_one_round
from pretune.planner.kernels.admission import brackets, offer_of, subset_batches
from pretune.planner.kernels.fixed import SOLVED, Point, new_point, solve_fixed
from pretune.planner.kernels.fleet import least_device_span, round_at
from pretune.planner.kernels.priced import Region, price
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import Batches, Devices, Problem
from pretune.planner.search import Search
from pretune.planner.whole import Decision, round_batches

_SPANS = 28
"""Spans that a scan at given prices tries."""
_NEAR = 3e-3
"""Relative gap at which the rounds of a subset count as good enough."""
_SCANS = 8
_SWAPS = 6
"""Devices of either kind that a round of swaps tries."""
_SWAP_WORK, _LEAST_SWAPS, _MOST_SWAPS = 60_000, 40, 1000
"""How many swaps are tried: so many devices in all, within these ends."""

_FEWER = (1.0, 0.9, 0.75, 0.5)
"""Shares of the fine-tuning rounds that are tried where all of them do not fit."""
_GROWN = 4
"""Devices that are looked at in earnest each time one is added."""
_WORSE = 0.2
"""How much worse (as a share) a subset may be at the leader's rounds for its own to be looked for."""

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
        """Look for the best rounds of a subset, wherever they are."""
        if self.choice.allows(mask) and not self.late:
            self.tried.pop(mask.tobytes(), None)
            self.improve(mask, patience=math.inf)

    def improve(self, mask: Mask, *starts: Rounds, patience: float = 0.5) -> Found | None:
        """The best rounds of a subset with real batches, looked for from `starts` on; then with whole ones.

        A subset that is worse than the leader by more than the share `patience` at all the starts is not pursued.
        """
        key = mask.tobytes()
        if key in self.tried or not self.choice.allows(mask):
            return self.tried.get(key)
        problem = self.choice.subset(mask)
        found = None
        if self._hopeful(problem, starts, patience):
            for begin in (starts, ()):
                search = Search(problem, _NEAR, self.deadline, starts=begin, only_real=True)
                search.run()
                if math.isfinite(search.real[0]):
                    break
            if math.isfinite(search.real[0]) and search.real[1][1] > 0:
                found = self._settle(mask, problem, search.real[1])
        self.tried[key] = found
        return found

    def _hopeful(self, problem: Problem, starts: tuple[Rounds, ...], patience: float) -> bool:
        """Whether a subset fits at all and is good enough at one of the rounds."""
        if self.leader is None or patience == math.inf:
            return fits_one_round(problem, STAGES[1])
        point = new_point(problem.devices.cycles.size)
        most = (1.0 + patience) * self.leader.value
        return any(value_near(problem, rounds, point) <= most for rounds in starts)

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
        self.grow()
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

    def grow(self) -> None:
        """Begin with the best device alone and add the best one each time, as long as that helps."""
        mask = np.zeros(len(self.choice), dtype=np.bool_)
        last = self.leader
        rounds = None if last is None else last.rounds
        while rounds is not None and not mask.all() and not self.late:
            values = np.full(len(self.choice), math.inf)
            point = new_point(int(mask.sum()) + 1)
            for k in np.flatnonzero(~mask).tolist():
                more = mask.copy()
                more[k] = True
                if self.choice.allows(more):
                    values[k] = value_near(self.choice.subset(more), rounds, point)
            best: Found | None = None
            for k in np.argsort(values, kind="stable")[:_GROWN].tolist():
                more = mask.copy()
                more[k] = True
                found = self.improve(more, rounds, patience=math.inf)
                if found is not None and (best is None or found.value < best.value):
                    best = found
            if best is None or (mask.any() and last is not None and best.value >= last.value):
                return
            mask, rounds, last = best.mask, best.rounds, best

    def swap(self, most: int = _MOST_SWAPS) -> None:
        """Put single devices in, out, or in another's place, as long as that helps; at most so many times."""
        left = min(max(_SWAP_WORK // len(self.choice), _LEAST_SWAPS), most)
        while True:
            leader = self.leader
            if leader is None:
                return
            for mask in neighbours(self.choice, leader):
                self.improve(mask, leader.rounds, patience=_WORSE)
                left -= 1
                if left <= 0 or self.late:
                    return
            if self.leader is leader:
                return


def _sizes(count: int) -> list[int]:
    """1, 2, 4, ... and about three quarters of each, up to one below the whole fleet."""
    sizes = {2**i for i in range(count.bit_length())} | {3 * 2**i for i in range(count.bit_length())}
    return sorted(size for size in sizes | {count - 1} if 0 < size < count)


def value_at(problem: Problem, rounds: Rounds, point: Point) -> float:
    """The criterion at fixed rounds with real batches; infinity where they do not fit."""
    m, n = map(float, rounds)
    weight, phi, psi0, psi = coefficients(problem.criterion, m, n)
    status = solve_fixed(problem, problem.batches, m, n, psi0, psi, point)
    return (phi + float(point.scalars[8])) / weight if status == SOLVED else math.inf


def value_near(problem: Problem, rounds: Rounds, point: Point) -> float:
    """The criterion at the rounds, or at fewer fine-tuning rounds where those do not fit."""
    value = math.inf
    for part in _FEWER:
        value = value_at(problem, (rounds[0], max(round(part * rounds[1]), 1)), point)
        if math.isfinite(value):
            break
    return value


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
