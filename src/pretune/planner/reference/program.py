"""The conic program itself, in variables that are one at the reference point."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pretune.physics.types import Floats
from pretune.planner.problem import Problem
from pretune.planner.reference.goal import Goal, Point, Prices

_SHARP = {"tol_gap_rel": 1e-10, "tol_gap_abs": 1e-10, "tol_feas": 1e-10}
_FAIR = {"tol_gap_rel": 1e-9, "tol_gap_abs": 1e-9, "tol_feas": 1e-9}
SETTINGS: tuple[dict[str, Any], ...] = (
    _SHARP,
    _SHARP,
    {**_FAIR, "static_regularization_constant": 1e-10},
    {**_SHARP, "equilibrate_enable": False},
    {**_FAIR, "max_step_fraction": 0.9, "max_iter": 400},
    {"iterative_refinement_max_iter": 50, "iterative_refinement_reltol": 1e-14, "max_iter": 400},
)
"""What Clarabel is asked for, trial by trial."""
_NODES = 12
"""Points of the quadrature of a shared upload's energy."""
_UNUSED = 1e-7
"""A stage with less than this share of the rounds' weight is unused."""


@dataclass(kw_only=True)
class Draft:
    """The program while it is put together: `m`, `n` and `z` are one, or variables where the rounds are free.

    Where energy is minimised the batches are those of the reference point.
    """

    cp: Any
    problem: Problem
    goal: Goal
    at: Point
    m: Any = 1.0
    n: Any = 1.0
    z: Any = 1.0
    rules: list[Any] = field(default_factory=list)
    joules: Any = 0.0
    joules_at: float = 0.0
    """Joules at the reference point."""
    seconds: Any = 0.0
    noise: Any = 0.0
    server: dict[str, Any] = field(default_factory=dict)
    """Variables of the server: batch and seconds."""
    fleet: dict[str, Any] = field(default_factory=dict)
    """Variables of the devices (batch, compute, upload), and the constraints whose multipliers are wanted."""
    round_s: float = 1.0
    """Seconds that stand for one in the span of a round."""

    def free_rounds(self, weights: tuple[float, float]) -> None:
        """Make the rounds variables whose weight is that of the reference point."""
        self.m, self.n, self.z = (self.cp.Variable(nonneg=True) for _ in range(3))
        w0, w1 = weights[0] * self.at.pretrain_rounds, weights[1] * self.at.finetune_rounds
        self.rules.append(w0 / (w0 + w1) * self.m + w1 / (w0 + w1) * self.n == 1.0)

    def add_server(self) -> None:
        """Pre-training: one processor."""
        cp, at, server, box, m = self.cp, self.at, self.problem.server, self.problem.batches, self.m
        batch = cp.Constant(1.0) if self.goal.energy else cp.Variable(nonneg=True)
        seconds, energy, inverse = (cp.Variable(nonneg=True) for _ in range(3))
        cubic = server.capacitance * (server.cycles * at.server_batch) ** 3 / at.server_s**2
        self.rules += [
            cp.PowCone3D(energy, seconds, batch, 1.0 / 3.0),
            batch <= server.clock_max * at.server_s / (server.cycles * at.server_batch) * seconds,
        ]
        self.joules += at.pretrain_rounds * (cubic * energy + server.static * at.server_s * seconds)
        self.joules_at += at.pretrain_rounds * (cubic + server.static * at.server_s)
        self.seconds += at.pretrain_rounds * at.server_s * seconds
        if not self.goal.energy:
            self.rules += [
                at.server_batch * batch >= box.server_low * m,
                at.server_batch * batch <= box.server_high * m,
                cp.SOC(inverse + batch, cp.hstack([2.0 * m, inverse - batch])),
            ]
            rounds = at.pretrain_rounds if self.goal.weights else 1.0
            self.noise += self.goal.psi0 * rounds / at.server_batch * inverse
        self.server = {"server_batch": batch, "server_s": seconds}

    def add_fleet(self) -> None:
        """Fine-tuning: processors and uplinks."""
        cp, at, d, box, n = self.cp, self.at, self.problem.devices, self.problem.batches, self.n
        ones = np.ones(d.cycles.size)
        batch = cp.Constant(ones) if self.goal.energy else cp.Variable(ones.size, nonneg=True)
        compute, upload, energy, inverse = (cp.Variable(ones.size, nonneg=True) for _ in range(4))
        cubic = d.capacitance * (d.cycles * at.batches) ** 3 / at.compute_s**2
        self.rules += [
            cp.PowCone3D(energy, compute, batch, ones / 3.0),
            batch <= cp.multiply(d.clock_max * at.compute_s / (d.cycles * at.batches), compute),
        ]
        self.fleet = {"batches": batch, "compute_s": compute, "upload_s": upload}
        sent, sent_at = self._shared_uplinks(upload) if self.problem.limits.band > 0.0 else self._uplinks(upload)
        each = (
            cp.multiply(cubic, energy)
            + cp.multiply(d.static * at.compute_s, compute)
            + sent
            + cp.multiply(d.circuit * at.upload_s, upload)
        )
        if not self.goal.energy:
            self.rules += [
                cp.multiply(at.batches, batch) >= box.low * n,
                cp.multiply(at.batches, batch) <= box.high * n,
                cp.SOC(inverse + batch, cp.vstack([2.0 * n * ones, inverse - batch]), axis=0),
            ]
            rounds = at.finetune_rounds if self.goal.weights else 1.0
            self.noise += (self.goal.psi * rounds * d.variance / at.batches) @ inverse
        each_at = cubic + d.static * at.compute_s + sent_at + d.circuit * at.upload_s
        self.joules_at += at.finetune_rounds * (float(each_at.sum()) + self.problem.limits.down_j)
        self._add_round(each, ones)

    def _uplinks(self, upload: Any) -> tuple[Any, Floats]:
        """Energy of the uploads on bandwidths of their own, as an expression and at the reference point."""
        cp, at, d, n = self.cp, self.at, self.problem.devices, self.n
        ones, exponent = np.ones(d.cycles.size), d.span / at.upload_s
        power = cp.Variable(ones.size, nonneg=True)
        self.rules += [
            cp.ExpCone(cp.multiply(exponent, n * ones - upload), upload, power),
            upload >= d.span / d.exponent_max / at.upload_s * n,
        ]
        sent = cp.multiply(d.noise * at.upload_s, cp.multiply(np.exp(exponent), power) - upload)
        return sent, d.noise * np.expm1(exponent) * at.upload_s

    def _shared_uplinks(self, upload: Any) -> tuple[Any, Floats]:
        """The same on shares of a band, which are variables.

        With ``x = span/(B t)`` (power cones: ``x B t >= span``) the energy is ``noise span (e^x - 1)/x``, and
        ``(e^x - 1)/x = integral of e^(x y) over y in [0, 1]`` is a sum of exponential cones by Gauss and Legendre's
        rule, exact to rounding for exponents below 25. Power: ``B log(1 + power/B) >= r`` and ``r t >= span``.
        """
        cp, at, d, n = self.cp, self.at, self.problem.devices, self.n
        ones, exponent = np.ones(d.cycles.size), d.span / (at.shares * at.upload_s)
        share, mean, steep, rate = (cp.Variable(ones.size, nonneg=True) for _ in range(4))
        most = np.log1p(np.expm1(d.exponent_max) / at.shares)
        within = cp.sum(cp.multiply(at.shares / self.problem.limits.band, share)) <= n
        self.rules += [
            within,
            cp.PowCone3D(upload, share, mean, 0.5 * ones),
            cp.PowCone3D(steep, mean, n * ones, ones / 3.0),
            cp.PowCone3D(rate, upload, n * ones, 0.5 * ones),
            cp.ExpCone(
                cp.multiply(exponent, rate) - cp.multiply(most, share),
                share,
                cp.multiply(np.exp(-most), share) - np.expm1(-most) * n,
            ),
        ]
        sent: Any = 0.0
        for node, weight in zip(*np.polynomial.legendre.leggauss(_NODES), strict=True):
            y, power = 0.5 * (1.0 + node), cp.Variable(ones.size, nonneg=True)
            self.rules.append(cp.ExpCone(cp.multiply(y * exponent, steep - n * ones), n * ones, power))
            sent += cp.multiply(0.5 * weight * d.noise * d.span * np.exp(y * exponent), power)
        self.fleet |= {"shares": share, "within": within}
        return sent, d.noise * d.span * np.expm1(exponent) / exponent

    def _add_round(self, each: Any, ones: Floats) -> None:
        """Batteries, and the span of a round that all devices share."""
        cp, at, d, limits = self.cp, self.at, self.problem.devices, self.problem.limits
        self.round_s = max(float(at.compute_s.max()), float(at.upload_s.max()))
        span, phase = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
        compute = cp.multiply(at.compute_s / self.round_s, self.fleet["compute_s"])
        upload = cp.multiply(at.upload_s / self.round_s, self.fleet["upload_s"])
        in_time = (compute <= phase * ones) if limits.tdma else (compute + upload <= span * ones)
        self.rules += [in_time, phase + cp.sum(upload) <= span] if limits.tdma else [in_time]
        self.fleet["in_time"] = in_time
        limited = np.flatnonzero(np.isfinite(d.battery))
        if limited.size:
            used = cp.multiply(at.finetune_rounds / d.battery[limited], each[limited])
            self.fleet["in_battery"] = used <= self.z * np.ones(limited.size)
            self.rules.append(self.fleet["in_battery"])
        self.joules += at.finetune_rounds * (cp.sum(each) + limits.down_j * self.n)
        self.seconds += at.finetune_rounds * (self.round_s * span + limits.down_s * self.n)


def solve(
    cp: Any, problem: Problem, goal: Goal, at: Point, settings: dict[str, Any]
) -> tuple[str, Point | None, Prices | None]:
    """One conic solve, scaled by the point `at`: the solver's word, the decisions and the prices."""
    draft = Draft(cp=cp, problem=problem, goal=goal, at=at)
    if goal.weights:
        draft.free_rounds(goal.weights)
    if at.pretrain_rounds > 0.0:
        draft.add_server()
    if at.finetune_rounds > 0.0:
        draft.add_fleet()
    in_energy = draft.joules / problem.limits.energy <= draft.z
    in_delay = draft.seconds / problem.limits.delay <= draft.z
    if goal.energy:
        unit, target = draft.joules_at, draft.joules / draft.joules_at
        draft.rules.append(in_delay)
    else:
        unit = goal.noise(problem, at)
        constant: Any = 0.0
        if goal.weights:
            unit += goal.phi + goal.shift_cost * at.pretrain_rounds
            constant = goal.phi * draft.z + goal.shift_cost * at.pretrain_rounds * draft.m
        target = (draft.noise + constant) / unit
        draft.rules += [in_delay, in_energy]
    program = cp.Problem(cp.Minimize(target), draft.rules)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            program.solve(solver=cp.CLARABEL, **settings)
        except (cp.error.SolverError, ArithmeticError, ValueError):
            return "failed", None, None
    word = str(program.status)
    if "infeasible" in word or "unbounded" in word or in_delay.dual_value is None:
        return word, None, None
    return word, point_of(draft), prices_of(draft, unit, in_delay, in_energy)


def point_of(draft: Draft) -> Point | None:
    """The decisions, per round; None where the scaling variable vanished."""
    at, goal = draft.at, draft.goal
    m, n, z = (value if isinstance(value, float) else float(value.value) for value in (draft.m, draft.n, draft.z))
    changes: dict[str, Any] = {}
    if goal.weights:
        if not z > 0.0:
            return None
        w0, w1 = goal.weights[0] * at.pretrain_rounds * m, goal.weights[1] * at.finetune_rounds * n
        m, n = m if w0 > _UNUSED * (w0 + w1) else 0.0, n if w1 > _UNUSED * (w0 + w1) else 0.0
        changes = {"pretrain_rounds": at.pretrain_rounds * m / z, "finetune_rounds": at.finetune_rounds * n / z}
    if m > 0.0:
        changes |= {name: getattr(at, name) * float(var.value) / m for name, var in draft.server.items()}
    if n > 0.0:
        names = [name for name in ("batches", "compute_s", "upload_s", "shares") if name in draft.fleet]
        changes |= {name: getattr(at, name) * draft.fleet[name].value / n for name in names}
    return replace(at, **changes)


def prices_of(draft: Draft, unit: float, in_delay: Any, in_energy: Any) -> Prices:
    """The multipliers in units of what is minimised."""
    limits, battery = draft.problem.limits, draft.problem.devices.battery
    shares, batteries = np.zeros(battery.size), np.zeros(battery.size)
    if draft.fleet:
        shares += unit * np.maximum(draft.fleet["in_time"].dual_value, 0.0) / (draft.round_s * draft.at.finetune_rounds)
    if "in_battery" in draft.fleet:
        limited = np.isfinite(battery)
        batteries[limited] = unit * np.maximum(draft.fleet["in_battery"].dual_value, 0.0) / battery[limited]
    band = 0.0
    if "within" in draft.fleet:
        band = unit * max(float(draft.fleet["within"].dual_value), 0.0)
        band /= draft.problem.limits.band * draft.at.finetune_rounds
    return Prices(
        energy=1.0 if draft.goal.energy else unit * max(float(in_energy.dual_value), 0.0) / limits.energy,
        delay=unit * max(float(in_delay.dual_value), 0.0) / limits.delay,
        shares=shares,
        batteries=batteries,
        band=band,
    )
