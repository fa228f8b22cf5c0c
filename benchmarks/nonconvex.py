"""The planning problem as it is first written down, for general global solvers: a peer that shares none of our algebra.

Rounds, batches, clocks and powers are the variables; nothing is eliminated, relaxed or approximated, and the constants
come from the scenario alone (docs/mathematics.md, "Cost model" and "Criteria"), not from the planner's problem:

    minimise    Gamma(M, N, b0, b)
    subject to  M T0 + N (tau + t_down) <= T_max,      M e0 + N (sum_k e_k + e_down) <= E_max,     N e_k <= E_k
                T0 = cycles0 b0 / f0,    cycles_k b_k / f_k + S / r_k(p_k) <= tau      (TDMA: the sum of the uploads)

One text, two listeners: SCIP (PySCIPOpt) proves a global optimum by spatial branch and bound; Ipopt and Bonmin (CasADi)
find local ones, Ipopt from several starts. Clocks and powers are counted in their limits, time and energy in budgets.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pretune.convergence.criteria import criterion_of, device_noise, objective
from pretune.physics import cost, link
from pretune.scenario import Access, Criterion, Scenario


class Listener(Protocol):
    """What a solver's interface has to understand."""

    def variable(self, name: str, low: float, high: float, *, whole: bool = False) -> Any: ...
    def at_most_zero(self, expression: Any) -> None: ...
    def log(self, expression: Any) -> Any: ...
    def exp(self, expression: Any) -> Any: ...


@dataclass(kw_only=True)
class Variables:
    """The decisions, as a solver's symbols or as numbers; clocks and powers in shares of their limits."""

    value: Any
    rounds: tuple[Any, Any]
    server_batch: Any
    server_clock: Any
    batches: list[Any]
    clocks: list[Any]
    powers: list[Any]


def formulate(
    scenario: Scenario, to: Listener, *, rounds: tuple[int, int] | None, most: tuple[int, int], whole: bool
) -> Variables:
    """Say the problem to a solver: at given `rounds`, or with whole rounds up to `most`; batches real or `whole`."""
    fleet, server, work, radio, budget = (
        scenario.devices,
        scenario.server,
        scenario.workload,
        scenario.radio,
        scenario.budget,
    )
    energy, delay, count = budget.energy_j, budget.delay_s, len(scenario.devices)
    down = cost.broadcast(scenario)
    if rounds is None:
        m, n = (to.variable(name, 0, high, whole=True) for name, high in zip("MN", most, strict=True))
        to.at_most_zero(1 - m - n)
    else:
        m, n = rounds
    # a device that can't do with less than this much of its limit has no time left: bounds that lose nothing
    cycles0 = work.flops_per_sample / server.flops_per_cycle
    b0 = to.variable("b0", 1, server.samples, whole=whole)
    f0 = to.variable("f0", min(cycles0 / (server.max_clock_hz * delay), 1.0), 1)
    server_s = cycles0 * b0 / (server.max_clock_hz * f0)
    server_j = server.capacitance * cycles0 * b0 * (server.max_clock_hz * f0) ** 2 + server.static_power_w * server_s
    batches, clocks, powers, computing, uploading, joules = ([] for _ in range(6))
    for k in range(count):
        cycles = work.flops_per_sample / fleet.flops_per_cycle[k]
        top, reach = fleet.max_clock_hz[k], fleet.max_power_w[k] * fleet.gain[k]
        snr = float(reach / (radio.noise_psd_w_per_hz * fleet.bandwidth_hz[k]))
        nats = float(work.upload_bits * link.LN2 / fleet.bandwidth_hz[k])
        b = to.variable(f"b{k + 1}", 1, int(fleet.samples[k]), whole=whole)
        f = to.variable(f"f{k + 1}", min(float(cycles / (top * delay)), 1.0), 1)
        p = to.variable(f"p{k + 1}", min(math.expm1(min(nats / delay, 700.0)) / snr, 1.0), 1)
        u = cycles * b / (top * f)
        t = nats / to.log(1 + snr * p)
        e = fleet.capacitance[k] * cycles * b * (top * f) ** 2 + fleet.static_power_w[k] * u
        e += (fleet.max_power_w[k] * p + fleet.circuit_power_w[k]) * t
        if math.isfinite(fleet.battery_j[k]):
            to.at_most_zero(n * e / fleet.battery_j[k] - 1)
        for column, entry in ((batches, b), (clocks, f), (powers, p), (computing, u), (uploading, t), (joules, e)):
            column.append(entry)
    fastest = sum(cycles_k + upload_k for cycles_k, upload_k in _fastest(scenario))
    tau = to.variable("tau", 0, max(1.0, 2.0 * fastest / delay))
    if radio.access is Access.TDMA:
        for u in computing:
            to.at_most_zero((u + sum(uploading)) / delay - tau)
    else:
        for u, t in zip(computing, uploading, strict=True):
            to.at_most_zero((u + t) / delay - tau)
    to.at_most_zero(m * (server_s / delay) + n * (tau + down.time_s / delay) - 1)
    to.at_most_zero(m * (server_j / energy) + n * ((sum(joules) + down.energy_j) / energy) - 1)
    value = to.variable("value", 0, _most_value(scenario))
    _criterion(scenario, to, value, m, n, b0, batches)
    return Variables(
        value=value, rounds=(m, n), server_batch=b0, server_clock=f0, batches=batches, clocks=clocks, powers=powers
    )


def _criterion(scenario: Scenario, to: Listener, value: Any, m: Any, n: Any, b0: Any, batches: list[Any]) -> None:
    """``value >= Gamma``, from the constants of the scenario."""
    c = scenario.convergence
    smooth, step0, step = c.smoothness, c.pretrain_step, c.finetune_step
    shares = scenario.devices.weight**2 * np.broadcast_to(np.asarray(c.finetune_variance), len(batches))
    scatter = sum(float(a) / b for a, b in zip(shares, batches, strict=True))
    damp = 2.0 - smooth * step
    if c.criterion is Criterion.TRAJECTORY:
        total = 2.0 * c.initial_gap + m * (step0 * c.shift**2 + smooth * step0**2 * c.pretrain_variance / b0)
        total += n * (smooth * step**2 * scatter)
        to.at_most_zero(total - value * (m * step0 + n * step * damp))
        return
    mu = float(c.pl_constant or math.nan)
    kept0 = to.exp(math.log1p(-step0 * mu) * m)
    kept1 = to.exp(math.log1p(-mu * step * damp) * n)
    after = kept0 * c.initial_gap
    after += (1 - kept0) * ((c.shift**2 + smooth * step0 * c.pretrain_variance / b0) / (2.0 * mu))
    to.at_most_zero(kept1 * after + (1 - kept1) * (smooth * step * scatter / (2.0 * mu * damp)) - value)


def _fastest(scenario: Scenario) -> list[tuple[float, float]]:
    """Seconds each device takes for one sample and its upload at its highest clock and power."""
    fleet, noise = scenario.devices, np.ones(len(scenario.devices))
    one = cost.finetune_round(scenario, noise, fleet.max_clock_hz, fleet.max_power_w)
    return list(zip(one.compute_s.tolist(), one.upload_s.tolist(), strict=True))


def _most_value(scenario: Scenario) -> float:
    """No decision is worse than this: the worst of each part, of one round of one sample."""
    criterion, noise, ones = criterion_of(scenario), device_noise(scenario), np.ones(len(scenario.devices))
    c = scenario.convergence
    ends = [objective(criterion, noise, *rounds, 1.0, ones) for rounds in ((1, 0), (0, 1), (1, 1))]
    steady = c.shift**2 + c.smoothness * c.pretrain_step * c.pretrain_variance
    steady = max(steady, steady / (2.0 * c.pl_constant)) if c.pl_constant else steady
    return 2.0 * (sum(ends) + steady + c.initial_gap)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a solver found, put through our cost model: its value, its worst relative violation, its proven bound."""

    solver: str
    status: str
    value: float = math.inf
    violation: float = math.inf
    bound: float = -math.inf
    rounds: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    """Processor time in the solver, without the modelling."""
    note: str = ""


def judged(scenario: Scenario, decision: Variables) -> tuple[float, float]:
    """The criterion and the largest relative violation of a limit at a solver's numbers, by pretune's cost model."""
    fleet, server, budget = scenario.devices, scenario.server, scenario.budget
    (m, n), b0 = decision.rounds, decision.server_batch
    batches = np.array(decision.batches)
    before = cost.pretrain_round(scenario, b0, decision.server_clock * server.max_clock_hz)
    each = cost.finetune_round(
        scenario, batches, np.array(decision.clocks) * fleet.max_clock_hz, np.array(decision.powers) * fleet.max_power_w
    )
    used = [
        (m * before.time_s + n * each.time_s) / budget.delay_s,
        (m * before.energy_j + n * each.energy_j) / budget.energy_j,
        float((n * each.device_j / fleet.battery_j).max()),
        b0 / server.samples if m else 0.0,
        float((batches / fleet.samples).max()) if n else 0.0,
        decision.server_clock if m else 0.0,
        max(*decision.clocks, *decision.powers) if n else 0.0,
    ]
    value = objective(criterion_of(scenario), device_noise(scenario), m, n, b0, batches)
    return value, max(max(used) - 1.0, 0.0)


# ---------------------------------------------------------------------------------------------------- the solvers


@dataclass
class _Scip:
    model: Any
    module: Any

    def variable(self, name: str, low: float, high: float, *, whole: bool = False) -> Any:
        return self.model.addVar(name, lb=low, ub=high, vtype="I" if whole else "C")

    def at_most_zero(self, expression: Any) -> None:
        self.model.addCons(expression <= 0)

    def log(self, expression: Any) -> Any:
        return self.module.log(expression)

    def exp(self, expression: Any) -> Any:
        return self.module.exp(expression) if not isinstance(expression, float) else math.exp(expression)


def scip(
    scenario: Scenario,
    *,
    rounds: tuple[int, int] | None,
    most: tuple[int, int] = (0, 0),
    whole: bool,
    gap: float,
    time_limit: float,
) -> Found:
    """SCIP's global optimum, with its own proven bound, at a feasibility tolerance of 1e-9."""
    import pyscipopt

    model = pyscipopt.Model()
    model.hideOutput()
    model.setParams({"limits/gap": gap, "limits/time": time_limit, "numerics/feastol": 1e-9, "timing/clocktype": 1})
    symbols = formulate(scenario, _Scip(model, pyscipopt), rounds=rounds, most=most, whole=whole)
    model.setObjective(symbols.value, "minimize")
    began = time.process_time()
    model.optimize()
    seconds = time.process_time() - began
    status, bound = str(model.getStatus()), float(model.getDualbound())
    if model.getNSols() == 0:
        return Found(solver="SCIP", status=status, bound=bound, seconds=seconds)
    best = model.getBestSol()

    def number(symbol: Any) -> float:
        return float(symbol) if isinstance(symbol, int | float) else float(model.getSolVal(best, symbol))

    return _found("SCIP", status, scenario, symbols, number, whole, bound=bound, seconds=seconds)


@dataclass
class _Casadi:
    casadi: Any
    symbols: list[Any] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    rules: list[Any] = field(default_factory=list)

    def variable(self, name: str, low: float, high: float, *, whole: bool = False) -> Any:
        self.symbols.append(self.casadi.SX.sym(name))
        self.low.append(float(low))
        self.high.append(float(high))
        self.whole.append(whole)
        return self.symbols[-1]

    def at_most_zero(self, expression: Any) -> None:
        self.rules.append(expression)

    def log(self, expression: Any) -> Any:
        return self.casadi.log(expression)

    def exp(self, expression: Any) -> Any:
        return self.casadi.exp(expression)


_QUIET: dict[str, dict[str, Any]] = {
    "ipopt": {"ipopt.print_level": 0, "ipopt.sb": "yes", "ipopt.tol": 1e-10, "ipopt.max_iter": 2000},
    "bonmin": {"bonmin.bb_log_level": 0, "bonmin.nlp_log_level": 0, "bonmin.lp_log_level": 0},
}


def casadi(
    solver: str,
    scenario: Scenario,
    *,
    rounds: tuple[int, int] | None,
    most: tuple[int, int] = (0, 0),
    whole: bool,
    starts: int,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> Found:
    """The best local optimum of Ipopt or Bonmin from random starts (log-uniform in the ranges); nothing is proven."""
    import casadi as ca

    said = _Casadi(ca)
    symbols = formulate(scenario, said, rounds=rounds, most=most, whole=whole)
    program = {"x": ca.vertcat(*said.symbols), "f": symbols.value, "g": ca.vertcat(*said.rules)}
    settings: dict[str, Any] = {"print_time": False, **_QUIET[solver], **(options or {})}
    if solver == "bonmin":
        settings["discrete"] = said.whole
    solve = ca.nlpsol("peer", solver, program, settings)
    rng = np.random.default_rng(seed)
    low, high = np.array(said.low), np.array(said.high)
    best, seconds, solved = Found(solver=solver, status="failed"), 0.0, 0
    for _ in range(starts):
        floor = np.maximum(low, 1e-3 * high)
        start = floor * (high / floor) ** rng.random(low.size)
        began = time.process_time()
        answer = solve(x0=start, lbx=low, ubx=high, lbg=-math.inf, ubg=0.0)
        seconds += time.process_time() - began
        if not solve.stats()["success"]:
            continue
        solved += 1
        numbers = dict(zip((str(s) for s in said.symbols), np.array(answer["x"]).ravel().tolist(), strict=True))

        def number(symbol: Any, numbers: dict[str, float] = numbers) -> float:
            return float(symbol) if isinstance(symbol, int | float) else numbers[str(symbol)]

        found = _found(solver, "local optimum", scenario, symbols, number, whole)
        if found.violation <= 1e-5 and found.value < best.value:
            best = found
    return Found(**{**vars(best), "seconds": seconds, "note": f"{solved} of {starts} starts solved"})


def _found(
    solver: str, status: str, scenario: Scenario, symbols: Variables, number: Any, whole: bool, **more: Any
) -> Found:
    """A solver's numbers, judged; whole ones are rounded first, as they are whole only up to a tolerance."""
    batch = (lambda symbol: round(number(symbol))) if whole else number
    m, n = (round(number(symbol)) for symbol in symbols.rounds)
    decision = Variables(
        value=number(symbols.value),
        rounds=(m, n),
        server_batch=batch(symbols.server_batch),
        server_clock=number(symbols.server_clock),
        batches=[float(batch(symbol)) for symbol in symbols.batches],
        clocks=[number(symbol) for symbol in symbols.clocks],
        powers=[number(symbol) for symbol in symbols.powers],
    )
    value, violation = judged(scenario, decision)
    return Found(solver=solver, status=status, value=value, violation=violation, rounds=(m, n), **more)
