"""The plan of somebody who knows all rounds' conditions before the first one begins, and what no plan can beat.

At given rounds of both stages everything else is one convex program: batches (real numbers, each round's its own),
clocks, powers and spans of every round. Two prices, of a joule and of a second, take it apart round by round
(`pretune.control.kernel`), so they are all there is to search for.

*Which* rounds takes a search, and a local one proves nothing. So its prices are turned into a bound: by weak duality

    D(M, N) >= phi(M, N) + min[server | lambda, nu, M, N] + sum_n h_n(W_n) - lambda E - nu T      at any prices,

with ``W_n`` what round n's noise weighs at the end if N rounds are done, and ``h_n(W)`` the least of ``W noise + lambda
energy + nu time`` of that round. ``h_n`` is a least of straight lines in W, hence concave: chords between the points of
a grid lie below it. Its smallest value over *all* pairs of rounds (`bound`) is below everything anybody can reach.

Who takes part, and with which weights, is given, as it is to everybody else: see `reality_value`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from reality_value import Measure

from pretune.control.columns import Conditions, Fleetwide
from pretune.control.kernel import Found, Sheet, best_span, least_span_of
from pretune.physics.types import Bools, Floats
from pretune.scenario import Scenario

_TURNS = 40
_CLOSE = 1e-4
"""How closely both budgets are spent; by as much its value may be off."""
_GRID = np.concatenate([[0.0], np.exp(np.linspace(-6.0, 0.0, 19))])
_MOST_PRETRAIN = 1500
_FINEST = 1


class TooFew(Exception):
    """The conditions end before it is sure that no plan has more rounds."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a pair of prices buys; `batches` has shape (N, K), zero for who is not asked."""

    energy_j: float
    delay_s: float
    server_batch: float
    batches: Floats


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best plan found, and the bound below which there is none; `gap` is the relative difference."""

    value: float
    bound: float
    rounds: tuple[int, int]
    spent: Spent

    @property
    def gap(self) -> float:
        """How far the best that was found may be from the best there is."""
        return 1.0 - self.bound / self.value


@njit(cache=True, error_model="numpy")
def _priced(
    every: Sheet, power_max: Any, who: Any, noise: Any, clock: Any, slow: Any, need: Any, worth: float, tdma: bool
) -> Any:
    """The best rounds at a price of time and with ``gamma = need``; all matrices (N, K).

    Returns joules and seconds without the multicast's, and ``sum need/b``, each (N,), and the batches (N, K).
    """
    count, k_all = who.shape
    joules, seconds, rest = np.zeros(count), np.zeros(count), np.zeros(count)
    batches = np.zeros((count, k_all))
    for j in range(count):
        at = np.flatnonzero(who[j])
        power = noise[j][at]
        s = Sheet(
            every.cycles[at] * slow[j][at],
            every.capacitance[at],
            clock[j][at],
            every.static[at],
            power,
            every.span[at],
            np.log1p(power_max[at] / power),
            every.circuit[at],
            need[j][at],
            every.low[at],
            every.high[at],
            every.ratio[at],
        )
        n = at.size
        found = Found(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n))
        seconds[j] = best_span(s, worth, max(1e3, least_span_of(s, tdma)), tdma, found)
        for i in range(n):
            upload, f = s.span[i] / found.exponent[i], found.clock[i]
            compute = s.cycles[i] * found.batch[i] / f
            joules[j] += (s.capacitance[i] * f * f * f + s.static[i]) * compute
            joules[j] += (s.noise[i] * math.expm1(found.exponent[i]) + s.circuit[i]) * upload
            rest[j] += need[j, at[i]] / found.batch[i]
            batches[j, at[i]] = found.batch[i]
            if tdma:
                seconds[j] += upload
    return joules, seconds, rest, batches


class Clairvoyant:
    """For one sequence of conditions; who is done in each, and with which shares, shape (J, K), as `Measure` takes."""

    def __init__(
        self, scenario: Scenario, measure: Measure, met: Sequence[Conditions], done: Bools, shares: Floats
    ) -> None:
        self.scenario, self.measure = scenario, measure
        self.fleet = Fleetwide.of(scenario)
        anyone = done.any(axis=1)  # rounds with nobody are skipped, at no cost
        self.index = np.flatnonzero(anyone)
        self.who, self.shares = done[anyone], shares[anyone]
        met = [met[i] for i in self.index]
        fleet, ones = self.fleet, np.ones(len(self.fleet))
        everyone = np.ones(len(fleet), dtype=np.bool_)
        self.every = fleet.sheet(everyone, ones, fleet.clock_max, ones, ones, fleet.samples, 0.0 * ones)
        self.noise = fleet.noise_w(np.array([np.where(w, c.gain, 1.0) for c, w in zip(met, self.who, strict=True)]))
        self.clock = np.array([np.minimum(fleet.clock_max, c.clock_limit_hz) for c in met])
        self.slow = np.array([np.maximum(c.compute_factor, 1e-9) for c in met])
        self.down_s = np.array([fleet.broadcast_s(c.gain[w]) for c, w in zip(met, self.who, strict=True)])
        self.need = np.array([measure.noise(one) for one in self.shares])
        self.left = np.cumprod([measure.keep(one) for one in self.shares])
        """What is left of the gap after so many rounds, shape (J,)."""
        work, server = scenario.workload, scenario.server
        self.cycles = work.flops_per_sample / server.flops_per_cycle
        self.at = np.array([-1.0, -1.0])  # logarithms of the prices of a joule and (in joules) a second
        self.slopes: Floats | None = None
        self.solved: dict[tuple[int, int], tuple[float, Spent | None, Floats | None]] = {}

    def kept(self, n: int) -> float:
        """What `n` rounds leave of the gap."""
        return float(self.left[n - 1]) if n else 1.0

    def worths(self, n: int) -> Floats:
        """What the noise of each of `n` rounds weighs at the end."""
        return self.kept(n) / self.left[:n]

    def server(self, worth: float) -> tuple[float, float]:
        """Joules and seconds per sample at the server, at the best clock for the price of time."""
        one = self.scenario.server
        clock = min(one.max_clock_hz, ((worth + one.static_power_w) / (2 * one.capacitance)) ** (1 / 3))
        return self.cycles * (one.capacitance * clock**2 + one.static_power_w / clock), self.cycles / clock

    def rounds_at(self, scale: Floats, price: float, worth: float, rounds: slice) -> Any:
        """Joules, seconds (both with the multicast), noise and batches of rounds whose noise weighs `scale`."""
        need = self.need[rounds] * (np.asarray(scale)[:, None] / price)
        joules, seconds, rest, batches = _priced(
            self.every,
            self.fleet.power_max,
            self.who[rounds],
            self.noise[rounds],
            self.clock[rounds],
            self.slow[rounds],
            need,
            worth,
            self.fleet.tdma,
        )
        down = self.down_s[rounds]
        return joules + self.fleet.server_power_w * down, seconds + down, rest * price, batches

    def buy(self, rounds: tuple[int, int], price: float, worth: float) -> Spent:
        """The best decisions when a joule costs `price` of the criterion and a second is worth `worth` joules."""
        m, n = rounds
        energy = delay = b0 = 0.0
        if m:
            joules, seconds = self.server(worth)
            psi0 = self.kept(n) * self.measure.server_noise(m)
            b0 = math.sqrt(psi0 / (price * m * (joules + worth * seconds)))
            b0 = min(max(b0, 1.0), float(self.scenario.server.samples))
            energy, delay = m * joules * b0, m * seconds * b0
        j, s, _, batches = self.rounds_at(self.worths(n), price, worth, slice(0, n))
        return Spent(energy_j=energy + float(j.sum()), delay_s=delay + float(s.sum()), server_batch=b0, batches=batches)

    def value(self, rounds: tuple[int, int], spent: Spent) -> float:
        """The criterion for these decisions, by the same recursion as everybody else's."""
        return self.measure.value([max(spent.server_batch, 1.0)] * rounds[0], self.shares[: rounds[1]], spent.batches)

    def solve(self, rounds: tuple[int, int]) -> float:
        """The best value at these rounds; infinity where they don't fit."""
        if rounds not in self.solved:
            self.solved[rounds] = (math.inf, None, None)
            if sum(rounds) and rounds[1] <= len(self.who):
                spent = self._prices(rounds)
                if spent is not None:
                    self.solved[rounds] = (self.value(rounds, spent), spent, self.at.copy())
        return self.solved[rounds][0]

    def best(self, start: tuple[int, int]) -> Best:
        """The best rounds, searched from `start` and from where the bound is lowest, and the bound."""
        here = self._search(start)
        bound, lowest = self.bound(here)
        if self.solve(lowest) < self.solve(here):
            here = self._search(lowest)
            bound = max(bound, self.bound(here)[0])
        value, spent, _ = self.solved[here]
        if spent is None:
            raise RuntimeError("nothing fits")
        return Best(value=value, bound=min(bound, value), rounds=here, spent=spent)

    def bound(self, rounds: tuple[int, int]) -> tuple[float, tuple[int, int]]:
        """A value that no rounds and no decisions can be below, at the prices of these; and where it is lowest.

        Raises:
            TooFew: more conditions would be needed to be sure of it.
        """
        at = self.solved[rounds][2]
        if at is None:
            raise RuntimeError("no prices are known at these rounds")
        price, worth = math.exp(at[0]), math.exp(at[1])
        count, budget = len(self.who), self.scenario.budget
        paid = price * (budget.energy_j + worth * budget.delay_s)
        costs = np.zeros((len(_GRID), count))
        for g, scale in enumerate(_GRID):
            j, s, rest, _ = self.rounds_at(np.full(count, scale), price, worth, slice(0, count))
            costs[g] = price * (j + worth * s) + rest
        fleet = np.zeros(count + 1)
        for j in range(count):  # round j is one of N = j + 1 ... rounds
            fleet[j + 1 :] += np.interp(self.left[j:] / self.left[j], _GRID, costs[:, j])
        m = np.arange(_MOST_PRETRAIN + 1)
        joules, seconds = self.server(worth)
        left = np.array([self.kept(n) for n in range(count + 1)])
        gap = np.array([self.measure.pretrained_gap(i) for i in m.tolist()])
        psi0 = left[None, :] * np.array([self.measure.server_noise(i) for i in m.tolist()])[:, None]
        cost = (price * (joules + worth * seconds) * np.maximum(m, 1))[:, None]
        b0 = np.clip(np.sqrt(psi0 / cost), 1.0, float(self.scenario.server.samples))
        server = np.where(m[:, None] > 0, psi0 / b0 + cost * b0, 0.0)
        lower = left[None, :] * gap[:, None] + server + fleet[None, :] - paid
        found = float(lower.min())
        if float(costs[0].sum()) - paid < found:
            raise TooFew
        i, n = np.unravel_index(int(lower.argmin()), lower.shape)
        if i == _MOST_PRETRAIN:
            raise RuntimeError("the bound is lowest at the most pre-training that is looked at")
        return found, (int(i), int(n))

    def _search(self, start: tuple[int, int]) -> tuple[int, int]:
        here = start
        while math.isinf(self.solve(here)) and max(here) > 1:
            here = (here[0] * 4 // 5, here[1] * 4 // 5)
        value, step = self.solve(here), 8 * _FINEST
        while step >= _FINEST:
            better = False
            for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, -1), (-1, 1)):
                pair = max(here[0] + a * step, 0), max(here[1] + b * step, 0)
                found = self.solve(pair)
                if found < value * (1 - 1e-6):
                    value, here, better = found, pair, True
                    break
            if not better:
                step //= 2
        return here

    def _prices(self, rounds: tuple[int, int]) -> Spent | None:
        """The decisions at the prices at which both budgets are spent: Broyden's method on the logarithms of both.

        None where it finds none (then the rounds do not fit, or a budget is slack there).
        """
        budget = self.scenario.budget

        def missed(at: Floats) -> tuple[Floats, Spent]:
            trial = self.buy(rounds, math.exp(at[0]), math.exp(at[1]))
            return np.log([trial.energy_j / budget.energy_j, trial.delay_s / budget.delay_s]), trial

        at = self.at
        off, spent = missed(at)
        slopes = self.slopes
        for turn in range(_TURNS):
            if float(np.abs(off).max()) <= _CLOSE:
                self.at, self.slopes = at, slopes
                return spent
            if slopes is None or turn % 8 == 7:
                slopes = np.column_stack([(missed(at + h)[0] - off) / 1e-3 for h in 1e-3 * np.eye(2)])
            try:
                step = -np.linalg.solve(slopes, off)
            except np.linalg.LinAlgError:
                return None
            step *= min(1.0, 1.0 / float(np.abs(step).max()))
            at = at + step
            if float(np.abs(at).max()) > 30.0:
                return None
            before, (off, spent) = off, missed(at)
            slopes = slopes + np.outer(off - before - slopes @ step, step) / float(step @ step)
        return None


__all__ = ["Best", "Clairvoyant", "Spent", "TooFew"]
