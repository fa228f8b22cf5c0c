"""Planning anew in mid-run, for what is left: the one room of the runtime that knows the planner.

The rounds done enter through `convergence.progress`: the criterion, as a function of what is still to come, keeps its
shape, so at fixed rounds the planner's kernels solve it (`solve_fixed`), warm-started from the last plan. Over the
rounds a pattern search looks around those that were left: its optimum is a local one, and no bound is claimed.
Batches are rounded to the nearest whole numbers, the budgets being kept by the steering, round by round.

A fine-tuning round of the planner's model is the same every time. What rounds really take is on average
`energy_factor` and `delay_factor` times that; they are divided out of the budgets and of the server's cost.
"""

from __future__ import annotations

import math

import numpy as np

from pretune.control.rules import Proposal, Situation
from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import SOLVED, Point, new_point, solve_fixed
from pretune.planner.problem import Batches, Devices, Problem, build
from pretune.scenario import Scenario

_TINY_STEP = 1
_ALIKE = 1e-6
_MOST_SOLVES = 60
_WIDE = 240
_AROUND_ONE = ((0, 1), (0, -1))
_AROUND = (*_AROUND_ONE, (1, 0), (-1, 0), (1, -1), (-1, 1))


class Replanner:
    """The planner as a `control.rules.Planner`; keeps the last solve's point as the next one's start."""

    def __init__(self, scenario: Scenario) -> None:
        # what the plan was made to hold under is in the forecast's figures already
        self._whole, _ = build(scenario if scenario.planning is None else scenario.replace(planning=None))
        self._samples = np.array(scenario.devices.samples, dtype=np.float64)

    def propose(self, now: Situation) -> Proposal | None:
        """The best rounds and batches found for what is left; None where nothing fits."""
        if not now.alive.any() or now.energy_j <= 0.0 or now.delay_s <= 0.0:
            return None
        problem = self._problem(now)
        search = _Search(problem, now)
        start = (now.pretrain, now.finetune)
        kept = search.value_as_it_is(start)
        best = search.best_from(start)
        if best is None:
            return None
        value, (m, n), point = best
        return _proposal(problem, now, (m, n), point, value=value, kept=kept, solves=search.solves)

    def _problem(self, now: Situation) -> Problem:
        """The planner's problem for what is left, the devices that are lost left out."""
        d, server, who = self._whole.devices, self._whole.server, now.alive
        # N0 B of the nominal problem cancels: only the ratio of gains enters
        noise = now.noise_w[who]
        power_max = d.noise[who] * np.expm1(d.exponent_max[who])
        share, asked = now.delay_factor / now.energy_factor, now.asked[who]
        return Problem(
            devices=Devices(
                cycles=_column(d.cycles[who] * now.slowness[who]),
                capacitance=_column(asked * d.capacitance[who]),
                clock_max=_column(np.minimum(d.clock_max, now.clock_limit_hz)[who]),
                static=_column(asked * d.static[who]),
                noise=_column(asked * noise),
                span=_column(d.span[who]),
                exponent_max=_column(np.log1p(power_max / noise)),
                circuit=_column(asked * d.circuit[who]),
                variance=_column(now.noise[who]),
                battery=_column(now.battery_j[who] / now.energy_factor),
            ),
            server=server._replace(
                cycles=server.cycles / now.delay_factor,
                capacitance=server.capacitance * share,
                static=server.static * share,
            ),
            limits=self._whole.limits._replace(
                energy=now.energy_j / now.energy_factor,
                delay=now.delay_s / now.delay_factor,
                down_s=now.broadcast_s,
                down_j=now.broadcast_s * self._watts,
                band=0.0,
            ),
            batches=Batches(
                server_low=1.0,
                server_high=self._whole.batches.server_high,
                low=np.ones(int(who.sum())),
                high=_column(self._samples[who]),
            ),
            criterion=self._whole.criterion,
        )

    @property
    def _watts(self) -> float:
        """The broadcast's power."""
        limits = self._whole.limits
        return limits.down_j / limits.down_s if limits.down_s > 0.0 else 0.0


class _Search:
    """The rounds left, by pattern search with real batches."""

    def __init__(self, problem: Problem, now: Situation) -> None:
        self.problem, self.now, self.solves = problem, now, 0
        self._warm = new_point(problem.devices.cycles.size)
        self._found: dict[tuple[int, int], tuple[float, Point | None]] = {}
        self._most = _WIDE if now.exact else _MOST_SOLVES

    def value_as_it_is(self, rounds: tuple[int, int]) -> float:
        """The criterion if the run goes on with the rounds and batches it has; infinity where that does not fit.

        Half a round too many fits: what rounds to come will really take is known no better, and the last one shrinks.
        """
        m, n = map(float, rounds)
        now, b = self.now, self.problem.batches
        weight, phi, psi0, psi = now.progress.ahead(now.criterion, m, n)
        if m + n == 0.0:
            return phi / weight if weight > 0.0 else math.inf
        batch = np.clip(now.batch[now.alive].astype(np.float64), 1.0, b.high)
        server = float(min(max(now.server_batch, 1), b.server_high))
        fixed = Batches(server_low=server, server_high=server, low=batch, high=batch.copy())
        point = new_point(batch.size)
        limits, more = self.problem.limits, 1.0 + 0.5 / (m + n)
        loose = self.problem._replace(limits=limits._replace(energy=more * limits.energy, delay=more * limits.delay))
        self.solves += 1
        if solve_fixed(loose, fixed, m, n, 0.0, 0.0, point) != SOLVED:
            return math.inf
        noise = (psi0 / server if m else 0.0) + (psi * float((now.noise[now.alive] / batch).sum()) if n else 0.0)
        return (phi + noise) / weight if weight > 0.0 else math.inf

    def best_from(self, start: tuple[int, int]) -> tuple[float, tuple[int, int], Point | None] | None:
        """The best rounds near `start`, their value and solve; None where nothing at all fits."""
        stops = self._at((0, 0))[0]
        here = self._feasible(start)
        if here is None:
            return None if math.isinf(stops) else (stops, (0, 0), None)
        value = self._at(here)[0]
        two = here[0] > 0
        step = max(_TINY_STEP, *(count // (2 if self.now.exact else 8) for count in here))
        while step >= _TINY_STEP and self.solves < self._most:
            better = False
            for toward in _AROUND if two else _AROUND_ONE:
                pair = self._moved(here, toward, step)
                if pair == here or self.solves >= self._most:
                    continue
                found = self._at(pair)[0]
                if found < value - _ALIKE * abs(value):
                    value, here, better = found, pair, True
                    break
            if not better:
                step //= 2
        if stops <= value:
            return stops, (0, 0), None
        return value, here, self._at(here)[1]

    def _moved(self, here: tuple[int, int], toward: tuple[int, int], step: int) -> tuple[int, int]:
        largest = max(*here, 1)
        moved = [
            max(count + way * max(1, round(step * count / largest)), 0) for count, way in zip(here, toward, strict=True)
        ]
        return moved[0], moved[1]

    def _feasible(self, start: tuple[int, int]) -> tuple[int, int] | None:
        """Rounds that fit: those at the start, or fewer of them; one round of fine-tuning where all are done."""
        m, n = start if sum(start) else (0, 1)
        while m + n > 0:
            if math.isfinite(self._at((m, n))[0]):
                return m, n
            m, n = (m // 2, n // 2) if max(m, n) > 1 else (0, 1 if m else 0)
        return None

    def _at(self, rounds: tuple[int, int]) -> tuple[float, Point | None]:
        if rounds in self._found:
            return self._found[rounds]
        m, n = map(float, rounds)
        weight, phi, psi0, psi = self.now.progress.ahead(self.now.criterion, m, n)
        answer: tuple[float, Point | None] = (math.inf, None)
        if m + n == 0.0:
            answer = (phi / weight if weight > 0.0 else math.inf, None)
        else:
            point = Point(*(column.copy() for column in self._warm))
            self.solves += 1
            if solve_fixed(self.problem, self.problem.batches, m, n, psi0, psi, point) == SOLVED:
                self._warm = point
                answer = ((phi + float(point.scalars[8])) / weight, point)
        self._found[rounds] = answer
        return answer


def _proposal(
    problem: Problem,
    now: Situation,
    rounds: tuple[int, int],
    point: Point | None,
    value: float,
    kept: float,
    solves: int,
) -> Proposal:
    """The plan as the steering takes it: whole batches, shape (K,) over all devices."""
    batch, ratio, worth = now.batch.copy(), np.ones(len(now.batch)), math.nan
    server, clock, joules, seconds = now.server_batch, 0.0, math.nan, math.nan
    if point is not None and rounds[1] > 0:
        real = np.clip(np.rint(point.batch), problem.batches.low, problem.batches.high)
        batch[now.alive] = real.astype(np.int64)
        ratio[now.alive] = point.ratio
        worth = float(point.scalars[1]) * now.energy_factor / now.delay_factor
        joules, seconds = _round_cost(problem, point, real)
    if point is not None and rounds[0] > 0:
        server = int(min(max(round(float(point.scalars[4])), 1), problem.batches.server_high))
        clock = min(float(point.scalars[5]), problem.server.clock_max)
    return Proposal(
        pretrain=rounds[0],
        finetune=rounds[1],
        server_batch=server,
        server_clock_hz=clock,
        batch=batch,
        ratio=ratio,
        worth_w=worth if math.isfinite(worth) and worth > 0.0 else 1.0,
        value=value,
        kept=kept,
        round_j=joules,
        round_s=seconds,
        solves=solves,
    )


def _round_cost(problem: Problem, point: Point, batch: Floats) -> tuple[float, float]:
    """Joules and seconds of a fine-tuning round of the planner's model."""
    d, limits = problem.devices, problem.limits
    compute = d.cycles * batch / point.clock
    upload = d.span / point.exponent
    joules = (d.capacitance * point.clock**3 + d.static) * compute
    joules += (d.noise * np.expm1(point.exponent) + d.circuit) * upload
    span = float(compute.max() + upload.sum()) if limits.tdma else float((compute + upload).max())
    return limits.down_j + float(joules.sum()), limits.down_s + span


def _column(values: Floats) -> Floats:
    return np.array(values, dtype=np.float64, order="C")
