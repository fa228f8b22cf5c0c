"""The plan of somebody who knows all rounds' conditions before the first one begins: what no real plan can beat.

At given rounds everything else is one convex program: batches, clocks, powers and spans of every round. Two prices, of
a joule and of a second, take it apart round by round (`pretune.control.kernel`), so they are all there is to search
for; the rounds are found by pattern search. Its batches are real numbers, may differ from round to round, and who takes
part is given, as it is to everybody else. By weak duality its value at its rounds is a lower bound up to the accuracy
to which the prices meet the budgets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretune.control.columns import Conditions, Fleetwide
from pretune.control.kernel import Sheet, best_span, least_span_of, new_found
from pretune.control.outlook import Outlook
from pretune.convergence.progress import Progress
from pretune.physics.types import Bools, Floats
from pretune.scenario import Scenario

_TURNS = 30
_CLOSE = 1e-6
"""How closely both budgets are spent; by as much its value may be off."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a pair of prices buys; `batches` has shape (N, K), zero for who is not asked."""

    energy_j: float
    delay_s: float
    server_batch: float
    batches: Floats


class Clairvoyant:
    """For one sequence of conditions; `who` says who takes part in each."""

    def __init__(self, scenario: Scenario, outlook: Outlook, met: Sequence[Conditions], who: Sequence[Bools]) -> None:
        self.scenario, self.outlook, self.met, self.who = scenario, outlook, met, who
        self.fleet: Fleetwide = outlook.fleet
        alive = np.ones(len(self.fleet), dtype=np.bool_)
        self.criterion = outlook.criterion_of(alive)
        self.noise = outlook.noise_of(alive) / outlook.probability  # counted where a device takes part
        server, phi = scenario.server, scenario.workload.flops_per_sample
        self.cycles = phi / server.flops_per_cycle
        self.down_s = [self.fleet.broadcast_s(c.gain[w]) for c, w in zip(met, who, strict=True)]
        self.sheets: list[Sheet] = []
        for c, w in zip(met, who, strict=True):
            high = self.fleet.samples
            slow = np.maximum(c.compute_factor, 1e-9)
            self.sheets.append(
                self.fleet.sheet(w, c.gain, c.clock_limit_hz, slow, np.ones_like(high), high, high * 0.0)
            )
        self.price, self.worth = -2.0, -1.2  # logarithms, near where digits end up
        self.slopes: Floats | None = None
        self._marginal_of: tuple[tuple[int, int], tuple[float, Floats]] | None = None
        self.solved: dict[tuple[int, int], tuple[float, Spent | None]] = {}

    def buy(self, rounds: tuple[int, int], price: float, worth: float) -> Spent:
        """The best decisions when a joule costs `price` of the criterion and a second is worth `worth` joules."""
        m, n = rounds
        server = self.scenario.server
        energy = delay = b0 = 0.0
        if m:
            clock = min(server.max_clock_hz, ((worth + server.static_power_w) / (2 * server.capacitance)) ** (1 / 3))
            joules = self.cycles * (server.capacitance * clock**2 + server.static_power_w / clock)
            seconds = self.cycles / clock
            psi0 = self._marginal(rounds)[0]
            b0 = math.sqrt(psi0 / (price * m * (joules + worth * seconds)))
            b0 = min(max(b0, 1.0), float(server.samples))
            energy, delay = m * joules * b0, m * seconds * b0
        batches = np.zeros((n, len(self.fleet)))
        psi = self._marginal(rounds)[1]
        for j in range(n):
            w, sheet = self.who[j], self.sheets[j]
            sheet = sheet._replace(gamma=psi[j] * self.noise[w] / price)
            found, tdma = new_found(int(w.sum())), self.fleet.tdma
            span = float(best_span(sheet, worth, max(1e3, float(least_span_of(sheet, tdma))), tdma, found))
            upload = sheet.span / found.exponent
            compute = sheet.cycles * found.batch / found.clock
            joules = (sheet.capacitance * found.clock**3 + sheet.static) * compute
            joules = joules + (sheet.noise * np.expm1(found.exponent) + sheet.circuit) * upload
            energy += float(joules.sum()) + self.fleet.server_power_w * self.down_s[j]
            delay += span + self.down_s[j] + (float(upload.sum()) if tdma else 0.0)
            batches[j, w] = found.batch
        return Spent(energy_j=energy, delay_s=delay, server_batch=b0, batches=batches)

    def value(self, rounds: tuple[int, int], server_batch: float, batches: Floats) -> float:
        """The criterion for these batches, by the same recursion as everybody else's."""
        progress = Progress.start(self.criterion)
        for _ in range(rounds[0]):
            progress = progress.pretrained(self.criterion, server_batch)
        for j in range(rounds[1]):
            w = self.who[j]
            progress = progress.finetuned(self.criterion, float((self.noise[w] / batches[j, w]).sum()))
        return progress.value(self.criterion)

    def solve(self, rounds: tuple[int, int]) -> tuple[float, Spent | None]:
        """The best value at these rounds; infinity where they don't fit."""
        if rounds in self.solved:
            return self.solved[rounds]
        answer: tuple[float, Spent | None] = (math.inf, None)
        if sum(rounds) and rounds[1] <= len(self.met):
            spent = self._prices(rounds)
            if spent is not None:
                answer = (self.value(rounds, max(spent.server_batch, 1.0), spent.batches), spent)
        self.solved[rounds] = answer
        return answer

    def best(self, start: tuple[int, int]) -> tuple[float, tuple[int, int], Spent | None]:
        """The best rounds near `start`."""
        here = start
        while math.isinf(self.solve(here)[0]) and max(here) > 1:
            here = (here[0] * 4 // 5, here[1] * 4 // 5)
        value, step = self.solve(here)[0], max(max(here) // 12, 1)
        while step >= 1:
            better = False
            for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, -1), (-1, 1)):
                pair = max(here[0] + a * step, 0), max(here[1] + b * step, 0)
                found = self.solve(pair)[0]
                if found < value * (1 - 1e-6):
                    value, here, better = found, pair, True
                    break
            if not better:
                step //= 2
        return value, here, self.solve(here)[1]

    def _prices(self, rounds: tuple[int, int]) -> Spent | None:
        """The decisions at the prices at which both budgets are spent: Broyden's method on the logarithms of both.

        None where it finds none (then the rounds do not fit, or a budget is slack there).
        """
        budget = self.scenario.budget

        def missed(at: Floats) -> tuple[Floats, Spent]:
            trial = self.buy(rounds, math.exp(at[0]), math.exp(at[1]))
            return np.log([trial.energy_j / budget.energy_j, trial.delay_s / budget.delay_s]), trial

        at = np.array([self.price, self.worth])
        off, spent = missed(at)
        slopes = self.slopes
        for turn in range(_TURNS):
            if float(np.abs(off).max()) <= _CLOSE:
                self.price, self.worth, self.slopes = float(at[0]), float(at[1]), slopes
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

    def _marginal(self, rounds: tuple[int, int]) -> tuple[float, Floats]:
        """What ``1/b0`` and a round's noise weigh in the criterion."""
        if self._marginal_of is not None and self._marginal_of[0] == rounds:
            return self._marginal_of[1]
        m, n = rounds
        start = Progress.start(self.criterion)
        weight, _, psi0, psi = start.ahead(self.criterion, m, n)
        shares = np.full(n, psi / weight / max(n, 1))
        if hasattr(self.criterion, "log_q"):  # final: a round counts the more the later it is
            fade = np.exp(self.criterion.log_q * np.arange(n - 1, -1, -1))
            shares = psi / weight * fade / fade.sum() if n else fade
        found = (psi0 / weight, shares)
        self._marginal_of = (rounds, found)
        return found
