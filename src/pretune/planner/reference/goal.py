"""What the oracle minimises, the decisions and prices it gives, and the point its scaling starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.physics.types import Floats
from pretune.planner.problem import Problem

FADE = 1e-5
"""How far the scaling may move in one step: a stage that fades away must not take it along to zero."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """Decisions at (real) rounds; arrays have shape (K,), seconds are per round. An unused stage means nothing."""

    pretrain_rounds: float
    finetune_rounds: float
    server_batch: float
    server_s: float
    batches: Floats
    compute_s: Floats
    upload_s: Floats
    shares: Floats
    """Bandwidths in equal shares of the band; one where the band is not shared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prices:
    """Multipliers in units of the minimised quantity; arrays have shape (K,).

    `energy` is per joule, `delay` per second, `shares` per second of a device's part of the rounds, `batteries` per
    joule of a device's battery, `band` per equal share of a shared band and round.
    """

    energy: float
    delay: float
    shares: Floats
    batteries: Floats
    band: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is minimised: ``(phi + M shift_cost + psi0/b0 + psi sum A_k/b_k) / weight``; or energy at given batches.

    With `weights`, the two stages' weights of a round, the rounds are free, and `psi0`, `psi` are per round.
    """

    phi: float = 0.0
    shift_cost: float = 0.0
    psi0: float = 0.0
    psi: float = 0.0
    weight: float = 1.0
    weights: tuple[float, float] | None = None
    energy: bool = False

    def noise(self, problem: Problem, point: Point) -> float:
        """The part that the batches decide, for all rounds."""
        m, n = (point.pretrain_rounds, point.finetune_rounds) if self.weights else (1.0, 1.0)
        noise = m * self.psi0 / point.server_batch if point.pretrain_rounds > 0.0 else 0.0
        if point.finetune_rounds > 0.0:
            noise += n * self.psi * float((problem.devices.variance / point.batches).sum())
        return noise

    def value(self, problem: Problem, point: Point) -> float:
        """The criterion."""
        weight = self.weight
        if self.weights:
            weight = point.pretrain_rounds * self.weights[0] + point.finetune_rounds * self.weights[1]
        return (self.phi + point.pretrain_rounds * self.shift_cost + self.noise(problem, point)) / weight


def start(problem: Problem, m: float, n: float) -> Point:
    """A point in the middle of everything: half of the time for either stage, half of a round for the uploads."""
    d, server, limits, box = problem.devices, problem.server, problem.limits, problem.batches
    left = max(limits.delay - n * limits.down_s, 1e-3 * limits.delay)
    t_min = d.span / d.exponent_max
    share = 0.5 if m > 0.0 and n > 0.0 else 1.0
    server_s = max(share * left / max(m, 1.0), server.cycles * box.server_low / server.clock_max)
    tau = share * left / max(n, 1.0)
    upload = t_min * max(1.0, 0.5 * tau / float(t_min.sum())) if limits.tdma else np.maximum(0.5 * tau, t_min)
    compute = np.maximum(0.5 * tau, d.cycles * box.low / d.clock_max)
    joules = share * limits.energy / max(n, 1.0) / 2.0 / d.cycles.size
    batches = np.cbrt(joules * compute**2 / (d.capacitance * d.cycles**3))
    batches = np.clip(batches, box.low, np.maximum(np.minimum(box.high, compute * d.clock_max / d.cycles), box.low))
    joules = share * limits.energy / max(m, 1.0)
    server_batch = float(np.cbrt(joules * server_s**2 / (server.capacitance * server.cycles**3)))
    most = min(box.server_high, server_s * server.clock_max / server.cycles)
    return Point(
        pretrain_rounds=m,
        finetune_rounds=n,
        server_batch=max(min(server_batch, most), box.server_low),
        server_s=server_s,
        batches=batches,
        compute_s=compute,
        upload_s=upload,
        shares=np.ones(d.cycles.size),
    )


def typical_rounds(problem: Problem) -> tuple[float, float]:
    """Rounds of a guess: each stage with half of the budgets, batches and speeds in the middle of their ranges."""
    d, server, limits, box = problem.devices, problem.server, problem.limits, problem.batches
    clock, batch = 0.5 * server.clock_max, math.sqrt(box.server_high)
    joules = server.cycles * batch * (server.capacitance * clock**2 + server.static / clock)
    m = 0.5 * min(limits.delay / (server.cycles * batch / clock), limits.energy / joules)
    clocks, batches, x = 0.5 * d.clock_max, np.sqrt(box.high), 0.5 * d.exponent_max
    compute, upload = d.cycles * batches / clocks, d.span / x
    each = d.cycles * batches * (d.capacitance * clocks**2 + d.static / clocks)
    each += upload * (d.noise * np.expm1(x) + d.circuit)
    tau = compute.max() + upload.sum() if limits.tdma else (compute + upload).max()
    n = 0.5 * min(limits.delay / (float(tau) + limits.down_s), limits.energy / (float(each.sum()) + limits.down_j))
    return m, n


def rescaled(at: Point, found: Point) -> Point:
    """The point found, kept within `FADE` of the last reference."""

    def near(new: Any, old: Any) -> Any:
        kept = np.clip(new, FADE * old, old / FADE)
        return kept if isinstance(old, np.ndarray) else float(kept)

    return Point(**{name: near(getattr(found, name), old) for name, old in vars(at).items()})
