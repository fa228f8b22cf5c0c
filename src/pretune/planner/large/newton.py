"""The optimum of a large fleet at fixed rounds: Newton's method in the prices and the span together.

The conditions are those that `kernels.fixed` and `kernels.split` nest: the energy is spent, the devices' prices of time
add up to the server's (TDMA: to the price of time), and (TDMA) the time is used up. Here they are solved as two or
three equations at once, from a start near the solution, so that a handful of passes over the devices is enough. Where
that does not settle, the nested solver does it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pretune.figures import SAME
from pretune.physics.types import Floats
from pretune.planner.kernels.fixed import DELAY_SHORT, SOLVED, new_point, solve_fixed
from pretune.planner.kernels.scalar import batch_at, clock_at, sample_cost
from pretune.planner.kernels.server import server_price
from pretune.planner.kernels.slopes import (
    ENERGY,
    ENERGY_BY_BETA,
    ENERGY_BY_OMEGA,
    ENERGY_BY_SPAN,
    NOISE,
    PRICE,
    PRICE_BY_BETA,
    PRICE_BY_SPAN,
    SHORT,
    UPLOADS,
    UPLOADS_BY_OMEGA,
)
from pretune.planner.large.crew import Crew
from pretune.planner.large.sample import sample
from pretune.planner.problem import Batches, Problem

FEW = 1_000
"""Devices of the sample that a cold start takes."""
MOST_STEPS = 40
EXACT = 3e-12
"""How near to the energy budget a solution ends, relative, as in the nested solver."""
EVEN = 1e-10
"""How near to each other its prices and times end: errors there cost their square."""
_JUMP = 1e-5
_NUDGE = 1e-6
_FARTHEST = 3.0


@dataclass(kw_only=True)
class Start:
    """Where to start: the prices and the span of a solution nearby."""

    energy: float
    """lambda, per joule."""
    omega: float
    """The price of time by that of energy, W."""
    span: float


def start_of(crew: Crew, scalars: Floats | None = None) -> Start:
    """The prices and the span of the crew's point (or of its `scalars` put by)."""
    found = crew.point.scalars if scalars is None else scalars
    return Start(energy=float(found[0]), omega=float(found[1]), span=float(found[2]))


def solve(crew: Crew, batches: Batches, m: float, n: float, psi0: float, psi: float, start: Start) -> int:
    """Minimise ``psi0/b0 + psi sum_k A_k/b_k`` at fixed rounds, as `solve_fixed`; fills in `crew.point`."""
    point, problem = crew.point, crew.problem
    least = crew.fastest(batches.low) if n > 0.0 else 0.0
    if n > 0.0 and _most_span(crew, batches, m, n) < least:
        return DELAY_SHORT
    if n > 0.0 and start.energy > 0.0 and _newton(crew, batches, m, n, psi0, psi, start, least):
        return SOLVED
    point.scalars[:3] = start.energy, start.omega, start.span
    point.price[:], point.ratio[:] = 0.0, 1.0
    return int(solve_fixed(problem, batches, m, n, psi0, psi, point))


def solve_cold(crew: Crew, m: float, n: float, psi0: float, psi: float) -> int:
    """`solve` from nothing: a sample's solution, by the nested solver, is where it starts."""
    few = sample(crew.problem, FEW)
    point = new_point(few.devices.cycles.size)
    solve_fixed(few, few.batches, m, n, psi0, psi, point)
    start = Start(energy=float(point.scalars[0]), omega=float(point.scalars[1]), span=float(point.scalars[2]))
    return solve(crew, crew.problem.batches, m, n, psi0, psi, start)


def solve_held(crew: Crew, batches: Batches, m: float, n: float, psi0: float, psi: float, start: Start) -> bool:
    """The same with the span held at `start.span`: only the prices are free; whether it got there.

    The devices' prices of time then add up to what they do.
    """
    return start.energy > 0.0 and _newton(crew, batches, m, n, psi0, psi, start, start.span, held=True)


def most_whole(problem: Problem, span: float) -> Floats:
    """The largest whole batches that clocks and powers allow within a span, and at least the least."""
    d, low = problem.devices, problem.batches.low
    fastest = 0.0 if problem.limits.tdma else d.span / d.exponent_max
    most = np.floor((span * (1.0 + SAME) - fastest) * d.clock_max / d.cycles * (1.0 + SAME))
    return np.asarray(np.clip(most, low, problem.batches.high))


def _most_span(crew: Crew, batches: Batches, m: float, n: float) -> float:
    """The longest span that the server's fastest rounds leave, and (TDMA) the fastest uploads."""
    limits, server = crew.problem.limits, crew.problem.server
    rest = limits.delay - m * server.cycles * batches.server_low / server.clock_max
    return rest / n - limits.down_s - crew.up_s


@dataclass(kw_only=True)
class _State:
    """A trial: logarithms of the prices, the span, and whether energy counts at all."""

    log_energy: float
    log_omega: float
    span: float


def _newton(
    crew: Crew,
    batches: Batches,
    m: float,
    n: float,
    psi0: float,
    psi: float,
    start: Start,
    least: float,
    *,
    held: bool = False,
) -> bool:
    """Whether Newton's method got there; `crew.point` then holds the solution. `held`: the span is not free."""
    limits, variance = crew.problem.limits, crew.problem.devices.variance
    scale = (psi0 if m > 0.0 else 0.0) + psi * float(variance.sum())
    if not scale > 0.0:
        return False
    floor = math.log(1e-14 * scale / limits.energy)
    left, right = max(least, batches.span), _most_span(crew, batches, m, n)
    at = _State(
        log_energy=max(math.log(start.energy), floor),
        log_omega=math.log(max(start.omega, 1e-290)),
        span=right
        if m == 0.0 and not limits.tdma
        else min(max(start.span, left if held else left * (1.0 + 1e-9)), right),
    )
    best, stalled = math.inf, 0
    for _ in range(MOST_STEPS):
        trial = _trial(crew, batches, m, n, psi0, psi, at)
        if trial is None:
            return False
        residuals, slopes, short = trial
        if short and held:
            return False
        if short:
            left, at.span = at.span, math.sqrt(at.span * right)
            if not at.span < right:
                return False
            continue
        kept = [i for i in range(len(residuals)) if not (held and i == 1)]
        if at.log_energy <= floor and residuals[0] <= 0.0:
            kept.remove(0)
        # energy below the budget by a hair is fine, above it is not
        over = 0.0 if 0 not in kept else residuals[0]
        miss = max([abs(residuals[i]) for i in kept], default=0.0)
        if -EXACT <= over <= 0.0 and max([abs(residuals[i]) for i in kept if i > 0], default=0.0) <= EVEN:
            return True
        stalled = stalled + 1 if miss >= 0.9 * best else 0
        best = min(best, miss)
        if stalled > 4:
            # prices may jump where a limit of a device begins to bind: then the span can't be found more exactly
            return -EXACT <= over <= 0.0 and miss <= _JUMP
        if 0 in kept:
            residuals[0] += 0.5 * EXACT
        try:
            step = np.linalg.solve(slopes[np.ix_(kept, kept)], -residuals[kept])
        except np.linalg.LinAlgError:
            return False
        if not np.all(np.isfinite(step)):
            return False
        _move(at, kept, np.asarray(step, dtype=np.float64), floor, left, right)
    return False


def _move(at: _State, kept: list[int], step: Floats, floor: float, left: float, right: float) -> None:
    """Take a step, not too far, and not over the ends of the spans."""
    for i, full in zip(kept, step.tolist(), strict=True):
        change = full if i == 1 else min(max(full, -_FARTHEST), _FARTHEST)
        if i == 0:
            at.log_energy = max(at.log_energy + change, floor)
        elif i == 1:
            new = at.span + change
            at.span = 0.5 * (at.span + left) if new <= left else 0.5 * (at.span + right) if new >= right else new
        else:
            at.log_omega += change


def _trial(
    crew: Crew, batches: Batches, m: float, n: float, psi0: float, psi: float, at: _State
) -> tuple[Floats, Floats, bool] | None:
    """Residuals (energy; prices; time) and their derivatives by (log lambda, span, log Omega) at a trial.

    Each residual is the logarithm of what should be one. FDMA has no third, and without pre-training no second: the
    span is then what the time leaves. None where a price is zero (static power and time to idle).
    """
    limits, point = crew.problem.limits, crew.point
    lam, omega = math.exp(at.log_energy), math.exp(at.log_omega)
    beta = math.sqrt(psi / (n * lam))
    sums = crew.pass_over(batches.low, batches.high, beta, n, at.span, omega)
    joules, by_energy = n * (sums[ENERGY] + limits.down_j), -0.5 * n * sums[ENERGY_BY_BETA]
    by_span, by_omega = n * sums[ENERGY_BY_SPAN], n * omega * sums[ENERGY_BY_OMEGA]
    noise, seconds = psi * sums[NOISE], n * (at.span + limits.down_s + (sums[UPLOADS] if limits.tdma else 0.0))
    if not sums[PRICE] > 0.0:
        return None
    price_slopes = [-0.5 * sums[PRICE_BY_BETA], sums[PRICE_BY_SPAN], 0.0]
    even, even_slopes = math.log(sums[PRICE]), np.array(price_slopes) / sums[PRICE]
    time_slopes = np.array([0.0, n, n * omega * sums[UPLOADS_BY_OMEGA]])
    if limits.tdma:
        even -= at.log_omega
        even_slopes[2] -= 1.0
    if m > 0.0:
        given = at.log_omega if limits.tdma else (limits.delay - seconds) / m
        own = _server(crew, batches, m, psi0, at.log_energy, given)
        more = _server(crew, batches, m, psi0, at.log_energy + _NUDGE, given)
        step = _NUDGE if limits.tdma else -_NUDGE * given
        other = _server(crew, batches, m, psi0, at.log_energy, given + step)
        point.scalars[3:6] = own[2:]
        joules += m * own[0]
        noise += psi0 / own[3]
        by_energy += m * (more[0] - own[0]) / _NUDGE
        if limits.tdma:
            by_omega += m * (other[0] - own[0]) / step
            seconds += m * own[2]
            time_slopes += m * np.array([(more[2] - own[2]) / _NUDGE, 0.0, (other[2] - own[2]) / step])
        else:
            if not own[1] > 0.0:
                return None
            by_span -= n * (other[0] - own[0]) / step
            even -= math.log(own[1])
            even_slopes[0] -= (more[1] - own[1]) / _NUDGE / own[1]
            even_slopes[1] += n / m * (other[1] - own[1]) / step / own[1]
            omega = own[1]
            seconds = limits.delay
    elif not limits.tdma:
        omega = sums[PRICE]
    point.scalars[0], point.scalars[1], point.scalars[2] = lam, omega, at.span
    point.scalars[6], point.scalars[7], point.scalars[8] = joules, seconds, noise
    residuals, slopes = [math.log(joules / limits.energy)], [np.array([by_energy, by_span, by_omega]) / joules]
    if m > 0.0 or limits.tdma:
        residuals.append(even)
        slopes.append(even_slopes)
    if limits.tdma:
        residuals.append(math.log(seconds / limits.delay))
        slopes.append(time_slopes / seconds)
    return np.array(residuals), np.array(slopes)[:, : len(residuals)], bool(sums[SHORT] > 0.0)


def _server(
    crew: Crew, batches: Batches, m: float, psi0: float, log_energy: float, given: float
) -> tuple[float, float, float, float, float]:
    """Joules, price, seconds, batch and clock of a server's round; `given`: its seconds (TDMA: log price)."""
    server, tdma = crew.problem.server, crew.problem.limits.tdma
    low, high = batches.server_low, batches.server_high
    beta = math.sqrt(psi0 / (m * math.exp(log_energy)))
    price = math.exp(given) if tdma else server_price(server, low, high, beta, given, crew.point.scalars[1])[0]
    clock = clock_at(price, server.capacitance, server.clock_max, server.static)
    cost = sample_cost(price, clock, server.cycles, server.capacitance, server.static)
    batch = batch_at(cost, beta, 1.0, low, high)
    cycles = server.cycles * batch
    joules = cycles * server.capacitance * clock * clock + server.static * cycles / clock
    return joules, price, cycles / clock, batch, clock
