"""The literature's way whole: successive convex approximation at fixed rounds inside a search over the rounds.

Coarse to fine: a geometric grid over both axes (with 0), then again between the neighbours of its best pair, until the
spacing is under `spacing`. Exhaustive: every `step`-th pair that the delay allows. Pairs that dominate one found
infeasible are skipped, and an iteration starts where the nearest pair's ended when `warm` is set: all that is in the
method's favour. The best pair's real batches are then made whole: floors first, then one sample at a time where the
criterion falls most for the energy, at clocks just fast enough for the round's time.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass, field, replace

import numpy as np

from pretune.errors import InputError
from pretune.physics import cost
from pretune.physics.types import Floats
from pretune.planner.baselines.drawn import stage_of
from pretune.planner.baselines.outcome import UNUSED, Outcome, Task, fits, written
from pretune.planner.kernels.fixed import least_span
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import Problem, build
from pretune.planner.successive import Answer, Iterate, Successive
from pretune.plans import FinetuneStage, PretrainStage

STARTS = ("least", "most", "middle")
SEARCHES = ("coarse", "exhaustive")
_KEEP = 8
"""Pairs of rounds, best first, for which whole batches are tried."""


@dataclass(frozen=True, kw_only=True)
class SuccessiveOptions:
    """How the literature's way is carried out."""

    start: str = "most"
    """Where the iterations begin: see `pretune.planner.successive.first_iterate`."""
    tolerance: float = 1e-4
    """Relative change of the noise at which they end."""
    most_iterations: int = 30
    search: str = "coarse"
    points: int = 7
    """Points of the coarse search on each axis."""
    spacing: float = 0.01
    """Relative spacing of the rounds at which the coarse search ends."""
    step: int = 1
    """Step of the exhaustive search in the rounds of both stages."""
    warm: bool = True
    compiled: bool = True
    """Whether the modelling layer compiles the program once, or anew for every solve."""

    def __post_init__(self) -> None:
        for name, value, known in (("start", self.start, STARTS), ("search", self.search, SEARCHES)):
            if value not in known:
                raise InputError.field(f"successive.{name}", value, "one of " + ", ".join(known))
        if not 0.0 < self.spacing < 1.0:
            raise InputError.field("successive.spacing", self.spacing, "a number above 0 and below 1")
        if not 0.0 < self.tolerance < 1.0:
            raise InputError.field("successive.tolerance", self.tolerance, "a number above 0 and below 1")
        for name, whole, least in (
            ("most_iterations", self.most_iterations, 2),
            ("points", self.points, 3),
            ("step", self.step, 1),
        ):
            if whole < least:
                raise InputError.field(f"successive.{name}", whole, f"a whole number of at least {least}")


@dataclass(kw_only=True)
class _Rounds:
    """The search over rounds and what it has seen."""

    problem: Problem
    options: SuccessiveOptions
    method: Successive
    deadline: float
    values: dict[tuple[int, int], float] = field(default_factory=dict)
    answers: dict[tuple[int, int], Answer] = field(default_factory=dict)
    barred: list[tuple[int, int]] = field(default_factory=list)
    late: bool = False
    failures: int = 0

    def most(self) -> tuple[int, int]:
        """Rounds of either stage that the delay certainly rules out beyond, and the energy where that is in sight."""
        d, server, limits = self.problem.devices, self.problem.server, self.problem.limits
        uploading = d.span / d.exponent_max
        computing = d.cycles / d.clock_max
        span = computing.max() + uploading.sum() if limits.tdma else (computing + uploading).max()
        if limits.band > 0.0:
            bare = d._replace(battery=np.full_like(d.battery, np.inf))
            span = least_span(bare, limits, np.ones(d.cycles.size), 1.0)
        m = limits.delay * server.clock_max / server.cycles
        # kappa cycles^3 M^3 / T^2 <= E: the dynamic energy of M samples spread over all of the time
        m = min(m, (limits.energy * limits.delay**2 / (server.capacitance * server.cycles**3)) ** (1.0 / 3.0))
        n = min(
            limits.delay / (span + limits.down_s), limits.energy / (limits.down_j + float((d.noise * d.span).sum()))
        )
        n = min(n, float((d.battery / (d.noise * d.span)).min()))
        return int(min(m, 1e9)), int(min(n, 1e9))

    def run(self) -> None:
        """Look at the rounds that the search asks for, until it ends or the time is up."""
        if self.options.search == "exhaustive":
            most_m, most_n = self.most()
            step = self.options.step
            for m in range(0, most_m + 1, step):
                for n in range(0, most_n + 1, step):
                    self.look((m, n))
            return
        most_m, most_n = self.most()
        axes = (_axis(0, most_m, self.options.points), _axis(0, most_n, self.options.points))
        while not self.late:
            for m in axes[0]:
                for n in axes[1]:
                    self.look((m, n))
            best = self.ranked()
            if not best:
                # nothing on the grid fits: the cheapest pairs are left
                self.look((1, 0))
                self.look((0, 1))
                return
            ends = [_around(axis, at) for axis, at in zip(axes, best[0], strict=True)]
            finer = tuple(_axis(low, high, self.options.points) for low, high in ends)
            done = all(_dense(axis, self.options.spacing) for axis in axes)
            if done or finer == axes:
                return
            axes = (finer[0], finer[1])

    def ranked(self) -> list[tuple[int, int]]:
        """The pairs with an answer, best first."""
        found = [pair for pair, value in self.values.items() if value < math.inf]
        return sorted(found, key=lambda pair: (self.values[pair], pair))

    def look(self, pair: tuple[int, int]) -> None:
        """Solve a pair, unless it is known, dominated, or too late."""
        if pair == (0, 0) or pair in self.values:
            return
        self.late = self.late or time.monotonic() > self.deadline
        if self.late or any(pair[0] >= m and pair[1] >= n for m, n in self.barred):
            return
        m, n = map(float, pair)
        weight, phi, psi0, psi = coefficients(self.problem.criterion, m, n)
        self.values[pair] = math.inf
        answer = self._answer(pair, psi0, psi)
        if answer.status == "infeasible":
            self.barred.append(pair)
        elif answer.status == "failed":
            self.failures += 1
        else:
            self.answers[pair] = answer
            self.values[pair] = (phi + answer.noise) / weight

    def _answer(self, pair: tuple[int, int], psi0: float, psi: float) -> Answer:
        """From the nearest pair's answer when asked for; where that comes to nothing, from the starts."""
        begin = self._nearest(pair) if self.options.warm else None
        if begin is not None:
            answer = self.method.solve(*pair, psi0, psi, begin)
            if answer.status in ("converged", "stopped"):
                return answer
        answer = self.method.solve(*pair, psi0, psi)
        if answer.status == "failed":
            other = replace(self.method, start="most" if self.method.start != "most" else "least")
            answer = other.solve(*pair, psi0, psi)
            self.method.solves = other.solves
        return answer

    def _nearest(self, pair: tuple[int, int]) -> Iterate | None:
        """The answer at the nearest pair (in the logarithm) that uses the same stages."""
        same = [known for known in self.answers if all((a > 0) == (b > 0) for a, b in zip(known, pair, strict=True))]
        if not same:
            return None

        def away(known: tuple[int, int]) -> float:
            return sum(math.log((a + 1) / (b + 1)) ** 2 for a, b in zip(known, pair, strict=True))

        return self.answers[min(same, key=lambda known: (away(known), known))].iterate


def _axis(low: int, high: int, points: int) -> list[int]:
    """At most `points` whole numbers from `low` to `high`, evenly spaced in the logarithm."""
    spread = np.expm1(np.linspace(math.log1p(low), math.log1p(high), points))
    return sorted({round(float(value)) for value in spread})


def _around(axis: list[int], at: int) -> tuple[int, int]:
    """The neighbours of a value of an axis."""
    index = axis.index(min(axis, key=lambda value: abs(value - at)))
    return axis[max(index - 1, 0)], axis[min(index + 1, len(axis) - 1)]


def _dense(axis: list[int], spacing: float) -> bool:
    return all(b - a <= max(1.0, spacing * b) for a, b in itertools.pairwise(axis))


def literature(task: Task, name: str, options: SuccessiveOptions) -> Outcome:
    """The best plan that the literature's way finds.

    Raises:
        MissingExtra: cvxpy or Clarabel is not installed.
    """
    began = time.perf_counter()
    problem, _ = build(task.scenario)
    method = Successive(
        problem=problem,
        tolerance=options.tolerance,
        most_iterations=options.most_iterations,
        start=options.start,
        compiled=options.compiled,
    )
    search = _Rounds(problem=problem, options=options, method=method, deadline=task.deadline)
    search.run()
    found: list[tuple[float, tuple[int, int], PretrainStage, FinetuneStage]] = []
    for pair in search.ranked()[:_KEEP]:
        whole = whole_stages(task, problem, pair, search.answers[pair].iterate)
        if whole is not None:
            found.append(whole)
    said = f"{len(search.values)} pairs of rounds, {method.solves} conic programs, {search.failures} failed"
    spent = time.perf_counter() - began
    if not found:
        note = ("none found: the time was up; " if search.late else "none found: ") + said
        return Outcome(name=name, plan=None, planning_s=spent, note=note)
    _, _, pretrain, finetune = min(found, key=lambda entry: entry[:2])
    plan = written(task, pretrain, finetune, late=search.late)
    return Outcome(name=name, plan=plan, planning_s=time.perf_counter() - began, note=said)


def whole_stages(
    task: Task, problem: Problem, pair: tuple[int, int], at: Iterate
) -> tuple[float, tuple[int, int], PretrainStage, FinetuneStage] | None:
    """Whole batches near an iterate, with the criterion's value; None where not even the floors keep the limits."""
    m, n = pair
    weight, phi, psi0, psi = coefficients(problem.criterion, float(m), float(n))
    d, server, limits = problem.devices, problem.server, problem.limits
    count = d.cycles.size
    # the time each processor has: the server's round, and what its upload leaves a device of the longest round
    t0 = server.cycles * at.server_batch / at.server_clock
    uploading = d.span / (at.exponent * at.share)
    span = d.cycles * at.batch / at.clock
    room = np.full(count, span.max()) if limits.tdma else (span + uploading).max() - uploading
    room = np.concatenate(([t0], np.maximum(room, span)))
    cycles = np.concatenate(([server.cycles], d.cycles))
    most = np.concatenate(([server.clock_max], d.clock_max))
    kappa = np.concatenate(([server.capacitance], d.capacitance))
    static = np.concatenate(([server.static], d.static))
    high = np.concatenate(([problem.batches.server_high], problem.batches.high))
    noise = np.concatenate(([psi0 if m else 0.0], psi * d.variance if n else np.zeros(count)))
    rounds = np.concatenate(([float(m)], np.full(count, float(n))))

    def clocks(batch: Floats) -> Floats:
        idle = np.cbrt(static / (2.0 * kappa))
        found: Floats = np.minimum(np.maximum(cycles * batch / room, idle), most)
        return found

    def joules(batch: Floats) -> Floats:
        clock = clocks(batch)
        spent: Floats = rounds * cycles * batch * (kappa * clock**2 + static / clock)
        return spent

    real = np.concatenate(([at.server_batch], at.batch))
    batch = np.clip(np.floor(real * (1.0 + 1e-9)), 1.0, high)
    upload_j = d.noise * at.share * np.expm1(at.exponent) * uploading + d.circuit * uploading
    budget = limits.energy * (1.0 - 1e-11) - n * (limits.down_j + float(upload_j.sum()))
    battery = np.concatenate(([math.inf], d.battery * (1.0 - 1e-11) - n * upload_j))
    for _ in range(4 * (count + 1)):
        more = batch + 1.0
        extra = joules(more) - joules(batch)
        allowed = (more <= high) & (cycles * more <= room * most * (1.0 + 1e-12)) & (joules(more) <= battery)
        allowed &= (noise > 0.0) & (joules(batch)[rounds > 0].sum() + extra <= budget)
        if not allowed.any():
            break
        gain = np.where(allowed, (noise / batch - noise / more) / np.maximum(extra, 1e-300), -math.inf)
        batch[int(np.argmax(gain))] += 1.0
    clock = clocks(batch)
    pretrain = UNUSED
    if m:
        one = cost.pretrain_round(task.scenario, batch[0], float(clock[0]))
        pretrain = PretrainStage(rounds=m, batch=int(batch[0]), clock_hz=float(clock[0]), round_s=one.time_s)
    finetune = FinetuneStage.unused()
    if n:
        fleet = task.scenario.devices
        bandwidth_hz = fleet.bandwidth_hz * at.share
        true_noise = task.scenario.radio.noise_psd_w_per_hz * bandwidth_hz / fleet.gain
        power = np.minimum(true_noise * np.expm1(at.exponent), fleet.max_power_w)
        shared = bandwidth_hz if task.scenario.radio.shares_decided else None
        finetune = stage_of(task.scenario, n, batch[1:], clock[1:], power, shared)
    if not fits(task.scenario, pretrain, finetune):
        return None
    value = phi + float((noise / batch).sum())
    return value / weight, pair, pretrain, finetune
