"""The literature's way at fixed rounds: successive convex approximation (SCA) in the natural variables.

In batches ``b``, clocks ``f``, powers ``p``, compute times ``u`` and upload times ``t`` the problem of math.md section
1 has products. Each is replaced by the arithmetic-geometric-mean surrogate ``x y <= x^2/(2a) + a y^2/2`` with
``a = x_i/y_i`` at the current iterate ``i``, which lies above the product and touches it there (hats: divided by the
iterate's value):

    compute energy   kappa (Phi b/C) f^2   <=  e_i (b^^2 + f^^4)/2
    compute time     Phi b/(C f)           <=  u_i (b^^2 + f^^-2)/2  <=  u
    upload energy    p t                   <=  p_i t_i (p^^2 + t^^2)/2
    upload time      S/r(p, B)             <=  t                     (convex as it is: r is concave, also in p and B)

Each iteration solves that convex program with an interior-point solver (cvxpy and Clarabel) and moves to its answer,
until the noise falls by less than a tolerance. Both budgets are soft at a high price (penalty convex-concave procedure,
Lipp and Boyd 2016), so that it may start anywhere; an answer that still breaks them means "infeasible here".

The program is compiled once for all rounds and iterations (its numbers are parameters); everything is scaled to one.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pretune.errors import MissingExtra
from pretune.physics.types import Floats
from pretune.planner.problem import Problem

MARGIN = 1e-7
"""Share of the budgets kept back for the solver's inaccuracy."""
TRUST = 10.0
"""How many times over a variable may change in one iteration: what keeps the programs well scaled."""
CAUTION = 1.5
"""The same where the solver failed."""
_NOTHING = 1e-15
"""A share of a budget under this is none."""
_PENALTY = 100.0
"""What a relative violation of one costs, in units of the noise at the iterate."""
_BROKEN = 1e-6
"""A violation beyond this, at the end, is no answer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Iterate:
    """A decision at fixed rounds; arrays have shape (K,). An unused stage's numbers mean nothing."""

    server_batch: float
    server_clock: float
    batch: Floats
    clock: Floats
    exponent: Floats
    """``ln(1 + p g/(N0 B))``, which is what the power is known by in the planner."""
    share: Floats
    """Bandwidth in equal shares of the band; one where the band is not shared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """Where the iterations ended: `converged`, `stopped` (most iterations), `infeasible` or `failed`."""

    status: str
    iterate: Iterate
    noise: float
    iterations: int


def first_iterate(problem: Problem, m: float, n: float, start: str) -> Iterate:
    """Where the iterations begin: one sample each and `least` or `most` of clock and power, or `middle`.

    `least`: half of the time for either stage that is used, half of a round for the upload, and just the clocks and
    powers that take. `most`: the highest. `middle`: as `least`, with the batches that half of the clocks would allow.
    """
    d, server, limits, box = problem.devices, problem.server, problem.limits, problem.batches
    b0, b = 1.0, np.ones(d.cycles.size)
    if start == "most":
        return Iterate(
            server_batch=b0,
            server_clock=server.clock_max,
            batch=b,
            clock=d.clock_max.copy(),
            exponent=d.exponent_max.copy(),
            share=np.ones(d.cycles.size),
        )
    t0 = limits.delay * (0.5 if n else 1.0) / max(m, 1.0)
    tau = max(limits.delay * (0.5 if m else 1.0) / max(n, 1.0) - limits.down_s, 1e-12)
    fastest = d.cycles / d.clock_max + d.span / d.exponent_max
    tau = max(tau, float(fastest.max()))
    if start == "middle":
        b0 = min(max(0.5 * server.clock_max * t0 / server.cycles, 1.0), box.server_high)
        b = np.clip(0.25 * d.clock_max * tau / d.cycles, 1.0, box.high)
    upload = 0.5 * tau / (d.cycles.size if limits.tdma else 1)
    return Iterate(
        server_batch=b0,
        server_clock=min(server.cycles * b0 / t0, server.clock_max),
        batch=b,
        clock=np.minimum(d.cycles * b / (0.5 * tau), d.clock_max),
        exponent=np.minimum(d.span / upload, d.exponent_max),
        share=np.ones(d.cycles.size),
    )


@dataclass(kw_only=True)
class Successive:
    """The iterations for one scenario; `solve` may be called for any rounds."""

    problem: Problem
    tolerance: float = 1e-4
    most_iterations: int = 30
    start: str = "least"
    compiled: bool = True
    """Whether the program is compiled once; else it is written down anew for every solve, as is commonly done."""
    programs: dict[tuple[bool, bool], Subproblem] = field(default_factory=dict)
    solves: int = 0
    """Conic programs solved so far."""

    def solve(self, m: int, n: int, psi0: float, psi: float, begin: Iterate | None = None) -> Answer:
        """Minimise ``psi0/b0 + psi sum A_k/b_k`` at the rounds, from `begin` or from the start that was chosen.

        Raises:
            MissingExtra: cvxpy or Clarabel is not installed.
        """
        at = begin or first_iterate(self.problem, float(m), float(n), self.start)
        noise, broken = math.inf, math.inf
        for count in range(1, self.most_iterations + 1):
            self.solves += 1
            step = self._program(m > 0, n > 0).solve(at, m, n, psi0, psi, TRUST)
            if step is None:
                self.solves += 1
                step = self._program(m > 0, n > 0).solve(at, m, n, psi0, psi, CAUTION)
            if step is None:
                return Answer(status="failed", iterate=at, noise=math.inf, iterations=count)
            at, violation = step
            before, noise = noise, noise_of(self.problem, at, m, n, psi0, psi)
            if violation > _BROKEN and violation > 0.9 * broken:
                return Answer(status="infeasible", iterate=at, noise=math.inf, iterations=count)
            settled = abs(before - noise) <= self.tolerance * noise and broken <= _BROKEN
            broken = violation
            if violation <= _BROKEN and settled:
                return Answer(status="converged", iterate=at, noise=noise, iterations=count)
        status = "stopped" if broken <= _BROKEN else "infeasible"
        return Answer(status=status, iterate=at, noise=noise, iterations=self.most_iterations)

    def _program(self, pretrain: bool, finetune: bool) -> Subproblem:
        found = self.programs.get((pretrain, finetune)) if self.compiled else None
        if found is None:
            found = self.programs[pretrain, finetune] = Subproblem(self.problem, pretrain, finetune)
        return found


def noise_of(problem: Problem, at: Iterate, m: float, n: float, psi0: float, psi: float) -> float:
    """What is minimised."""
    noise = psi0 / at.server_batch if m else 0.0
    return noise + (psi * float((problem.devices.variance / at.batch).sum()) if n else 0.0)


class Subproblem:
    """The convex program around an iterate, compiled once; all its variables are one at the iterate."""

    def __init__(self, problem: Problem, pretrain: bool, finetune: bool) -> None:
        try:
            import clarabel  # noqa: F401
            import cvxpy as cp
        except ImportError as error:
            raise MissingExtra("reference", str(error.name)) from None
        self.cp, self.problem = cp, problem
        self.numbers: dict[str, Any] = {}
        self.variables: dict[str, Any] = {}
        self.broken = cp.Variable(nonneg=True)
        self.energy: Any = 0.0
        self.delay: Any = 0.0
        self.noise: Any = 0.0
        self.rules: list[Any] = []
        if pretrain:
            self._server()
        if finetune:
            self._fleet()
        self.rules += [self.energy <= 1.0 - MARGIN + self.broken, self.delay <= 1.0 - MARGIN + self.broken]
        self.program: Any = cp.Problem(cp.Minimize(self.noise + _PENALTY * self.broken), self.rules)

    def _number(self, name: str, size: int | None = None) -> Any:
        shape = () if size is None else (size,)
        self.numbers[name] = self.cp.Parameter(shape, nonneg=True)
        return self.numbers[name]

    def _variable(self, name: str, size: int | None = None) -> Any:
        self.variables[name] = self.cp.Variable(() if size is None else (size,), nonneg=True)
        return self.variables[name]

    def _server(self) -> None:
        cp, number = self.cp, self._number
        b, f, u = (self._variable(name) for name in ("b0", "f0", "u0"))
        self.rules += [
            b >= number("b0_low"),
            b <= number("b0_high"),
            f <= number("f0_high"),
            0.5 * cp.square(b) + 0.5 * cp.power(f, -2) <= u,
        ]
        self.energy += number("e0") * (0.5 * cp.square(b) + 0.5 * cp.power(f, 4)) + number("s0") * u
        self.delay += number("d0") * u
        self.noise += number("w0") * cp.inv_pos(b)

    def _fleet(self) -> None:
        cp, d, size = self.cp, self.problem.devices, self.problem.devices.cycles.size

        def number(name: str) -> Any:
            return self._number(name, size)

        b, f, u, p, t, q = (self._variable(name, size) for name in ("b", "f", "u", "p", "t", "q"))
        tau = self._variable("tau")
        self.rules += [
            b >= number("b_low"),
            b <= number("b_high"),
            f <= number("f_high"),
            p <= number("p_high"),
            0.5 * cp.square(b) + 0.5 * cp.power(f, -2) <= u,
            q <= self._rate(number("gamma"), p, size),
            cp.inv_pos(q) <= cp.multiply(number("rate"), t),
        ]
        parts = {
            "e": 0.5 * cp.square(b) + 0.5 * cp.power(f, 4),
            "s": u,
            "h": 0.5 * cp.square(p) + 0.5 * cp.square(t),
            "c": t,
        }
        computing, uploading = cp.multiply(number("du"), u), cp.multiply(number("dt"), t)
        if self.problem.limits.tdma:
            phase = self._variable("phase")
            self.rules += [computing <= phase, phase + cp.sum(uploading) <= tau]
        else:
            self.rules.append(computing + uploading <= tau)
        self.energy += sum(number(name) @ part for name, part in parts.items()) + self._number("e_down")
        self.delay += tau + self._number("d_down")
        self.noise += cp.sum(cp.multiply(number("w"), cp.inv_pos(b)))
        self.limited = np.flatnonzero(np.isfinite(d.battery))
        if self.limited.size:
            shares = [
                cp.multiply(self._number(f"battery_{name}", self.limited.size), part[self.limited])
                for name, part in parts.items()
            ]
            self.rules.append(sum(shares) <= 1.0 - MARGIN + self.broken)

    def _rate(self, gamma: Any, p: Any, size: int) -> Any:
        """The rate of the uploads; where they share a band, over their shares of it as well."""
        cp = self.cp
        if not self.problem.limits.band > 0.0:
            return cp.log1p(cp.multiply(gamma, p))
        share = self._variable("share", size)
        self.rules += [
            share >= self._number("share_low", size),
            share <= self._number("share_high", size),
            self._number("part", size) @ share <= 1.0 - MARGIN,
        ]
        return -cp.rel_entr(share, share + cp.multiply(gamma, p))

    def solve(
        self, at: Iterate, m: float, n: float, psi0: float, psi: float, trust: float
    ) -> tuple[Iterate, float] | None:
        """The answer of the program around an iterate, and its violation; None where the solver fails."""
        values = self._values(at, m, n, psi0, psi, trust)
        for name, number in self.numbers.items():
            number.value = np.where(values[name] > _NOTHING, values[name], 0.0)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                self.program.solve(solver=self.cp.CLARABEL)
            except (self.cp.error.SolverError, ArithmeticError, ValueError):
                return None
        if self.broken.value is None:
            return None
        moved, box, d = at, self.problem.batches, self.problem.devices
        got = {name: np.maximum(var.value, 1e-12) for name, var in self.variables.items()}
        if m:
            moved = replace(
                moved,
                server_batch=float(np.clip(at.server_batch * got["b0"], box.server_low, box.server_high)),
                server_clock=min(float(at.server_clock * got["f0"]), self.problem.server.clock_max),
            )
        if n:
            share = at.share * got.get("share", 1.0)
            power = at.share * np.expm1(at.exponent) * got["p"]
            moved = replace(
                moved,
                batch=np.clip(at.batch * got["b"], box.low, box.high),
                clock=np.minimum(at.clock * got["f"], d.clock_max),
                exponent=np.log1p(np.minimum(power, np.expm1(d.exponent_max)) / share),
                share=share,
            )
        return moved, float(self.broken.value)

    def _values(self, at: Iterate, m: float, n: float, psi0: float, psi: float, trust: float) -> dict[str, Any]:
        """The program's numbers: everything at the iterate, as shares of the budgets."""
        d, server, limits, box = self.problem.devices, self.problem.server, self.problem.limits, self.problem.batches
        unit = noise_of(self.problem, at, m, n, psi0, psi) or 1.0
        values: dict[str, Any] = {}
        if m:
            cycles = server.cycles * at.server_batch
            seconds = cycles / at.server_clock
            values |= {
                "b0_low": max(box.server_low / at.server_batch, 1.0 / trust),
                "b0_high": min(box.server_high / at.server_batch, trust),
                "f0_high": min(server.clock_max / at.server_clock, trust),
                "e0": m * server.capacitance * cycles * at.server_clock**2 / limits.energy,
                "s0": m * server.static * seconds / limits.energy,
                "d0": m * seconds / limits.delay,
                "w0": psi0 / at.server_batch / unit,
            }
        if n:
            cycles_k = d.cycles * at.batch
            computing, uploading = cycles_k / at.clock, d.span / (at.exponent * at.share)
            gamma = np.expm1(at.exponent)
            power = at.share * gamma
            joules = {
                "e": n * d.capacitance * cycles_k * at.clock**2,
                "s": n * d.static * computing,
                "h": n * d.noise * power * uploading,
                "c": n * d.circuit * uploading,
            }
            values |= {name: each / limits.energy for name, each in joules.items()}
            values |= {f"battery_{name}": (each / d.battery)[self.limited] for name, each in joules.items()}
            values |= {
                "b_low": np.maximum(box.low / at.batch, 1.0 / trust),
                "b_high": np.minimum(box.high / at.batch, trust),
                "f_high": np.minimum(d.clock_max / at.clock, trust),
                "p_high": np.minimum(np.expm1(d.exponent_max) / power, trust),
                "gamma": gamma,
                "rate": 1.0 / at.exponent,
                "du": n * computing / limits.delay,
                "dt": n * uploading / limits.delay,
                "w": psi * d.variance / at.batch / unit,
                "e_down": n * limits.down_j / limits.energy,
                "d_down": n * limits.down_s / limits.delay,
            }
            if limits.band > 0.0:
                reach = np.full_like(at.share, trust)
                values |= {"share_low": 1.0 / reach, "share_high": reach, "part": at.share / limits.band}
        return values
