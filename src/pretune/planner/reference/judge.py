"""What an answer is worth: decisions through the cost model, prices through the Lagrangian dual."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pretune.physics import cost, link
from pretune.physics.types import Floats
from pretune.planner.problem import Problem
from pretune.planner.reference.goal import Goal, Point, Prices
from pretune.scenario import Scenario
from pretune.uplinks import shared_upload_cost


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """Everything about an answer, recomputed; `point` is the decisions after clipping them into their ranges."""

    value: float
    bound: float
    noise: float
    violation: float
    gap: float
    point: Point


def judge(scenario: Scenario, problem: Problem, goal: Goal, point: Point, prices: Prices) -> Verdict:
    """Recompute violation, value and bound of an answer."""
    d, server, box = problem.devices, problem.server, problem.batches
    server_batch = min(max(point.server_batch, box.server_low), box.server_high)
    shares = point.shares * min(1.0, problem.limits.band / point.shares.sum()) if problem.limits.band else point.shares
    fastest = d.span / (shares * np.log1p(np.expm1(d.exponent_max) / shares))
    batches = np.clip(point.batches, box.low, box.high)
    point = replace(
        point,
        server_batch=server_batch,
        server_s=max(point.server_s, server.cycles * server_batch / server.clock_max),
        batches=batches,
        compute_s=np.maximum(point.compute_s, d.cycles * batches / d.clock_max),
        upload_s=np.maximum(point.upload_s, fastest),
        shares=shares,
    )
    joules, violation = spent(scenario, point, bounded=not goal.energy)
    value = joules if goal.energy else goal.value(problem, point)
    noise = joules if goal.energy else goal.noise(problem, point)
    bound = dual(problem, goal, point, prices)
    size = value if goal.weights or goal.energy else noise / goal.weight
    gap = abs(value - bound) / size if size > 0.0 and math.isfinite(bound) else math.inf
    return Verdict(value=value, bound=bound, noise=noise, violation=violation, gap=gap, point=point)


def spent(scenario: Scenario, point: Point, *, bounded: bool) -> tuple[float, float]:
    """Joules of a run and the largest relative violation of a limit, from the cost model and the scenario alone.

    Unless `bounded`, the energy budget is no limit. The violation is infinite where a figure is none.
    """
    joules, seconds, used = used_up(scenario, point)
    used.append(seconds / scenario.budget.delay_s)
    if bounded:
        used.append(joules / scenario.budget.energy_j)
    most = float(np.max(used))
    return joules, max(most - 1.0, 0.0) if math.isfinite(most) else math.inf


def used_up(scenario: Scenario, point: Point) -> tuple[float, float, list[float]]:
    """Joules and seconds of a run, and what share of each limit of a single device or the server it uses."""
    fleet, work, server = scenario.devices, scenario.workload, scenario.server
    joules, seconds = 0.0, 0.0
    used = [0.0]
    if point.pretrain_rounds > 0.0:
        clock = work.flops_per_sample / server.flops_per_cycle * point.server_batch / point.server_s
        one = cost.pretrain_round(scenario, point.server_batch, clock)
        joules += point.pretrain_rounds * one.energy_j
        seconds += point.pretrain_rounds * one.time_s
        used += [clock / server.max_clock_hz, point.server_batch / server.samples, 2.0 - point.server_batch]
    if point.finetune_rounds > 0.0:
        clocks = scenario.finetune_flops / fleet.flops_per_cycle * point.batches / point.compute_s
        noise_psd = scenario.radio.noise_psd_w_per_hz
        bandwidths = fleet.bandwidth_hz * point.shares
        powers = link.power_for_airtime(work.upload_bits, point.upload_s, fleet.gain, bandwidths, noise_psd)
        each = cost.finetune_round(scenario, point.batches, clocks, powers, bandwidths)
        joules += point.finetune_rounds * each.energy_j
        seconds += point.finetune_rounds * each.time_s
        ratios = (
            clocks / fleet.max_clock_hz,
            powers / fleet.max_power_w,
            point.batches / fleet.samples,
            2.0 - point.batches,
            point.finetune_rounds * each.device_j / fleet.battery_j,
        )
        used += [float(ratio.max()) for ratio in ratios]
        if scenario.radio.shares_decided and scenario.radio.uplink_bandwidth_hz is not None:
            used.append(float(bandwidths.sum()) / scenario.radio.uplink_bandwidth_hz)
    return joules, seconds, used


def dual(problem: Problem, goal: Goal, point: Point, prices: Prices) -> float:
    """What the prices prove about every decision, by weak duality; the minima are over real batches, in closed form.

    With free rounds the prices are scaled so that the budgets are worth ``phi``; then a unit of weight costs no less
    than in the cheaper of the two stages.
    """
    d, server, limits, box = problem.devices, problem.server, problem.limits, problem.batches
    lam, nu, shares, extra, band = prices.energy, prices.delay, prices.shares, prices.batteries, prices.band
    limited = extra > 0.0
    paid = nu * limits.delay + float((extra[limited] * d.battery[limited]).sum())
    if not goal.energy:
        paid += lam * limits.energy
    if goal.weights and paid > 0.0:
        scale = goal.phi / paid
        lam, nu, shares, extra, paid = lam * scale, nu * scale, shares * scale, extra * scale, goal.phi
        band *= scale
    if shares.sum() > nu:
        shares = shares * (nu / shares.sum())
    own, one = lam + extra, np.ones(1)
    with np.errstate(all="ignore"):
        each0 = _sample(lam * one, nu * one, server.cycles, server.capacitance, server.clock_max, server.static)
        each = _sample(own, shares, d.cycles, d.capacitance, d.clock_max, d.static)
        if limits.band > 0.0:
            worth = np.full_like(own, band)
            uploads = shared_upload_cost(own * d.circuit + shares, worth, own * d.noise, d.span, d.exponent_max)
        else:
            uploads = _upload(problem, own, np.full_like(own, nu) if limits.tdma else shares)
    per_round = float(uploads.sum()) + lam * limits.down_j + nu * limits.down_s - band * limits.band
    m, n = (1.0, 1.0) if goal.weights else (point.pretrain_rounds, point.finetune_rounds)
    stage0 = stage1 = 0.0
    if m > 0.0:
        stage0 = _cheapest(goal.psi0 * one, m * each0, box.server_low * one, box.server_high * one)
        stage0 += m * goal.shift_cost
    if n > 0.0:
        stage1 = n * per_round + _cheapest(goal.psi * d.variance, n * each, box.low, box.high)
    if goal.weights:
        return min(stage0 / goal.weights[0], stage1 / goal.weights[1])
    return (goal.phi + stage0 + stage1 - paid) / goal.weight


def _cheapest(noise: Floats, each: Floats, low: Floats, high: Floats) -> float:
    """``sum of min over b in [low, high] of noise/b + each b``."""
    with np.errstate(all="ignore"):
        real = np.where(each > 0.0, np.sqrt(noise / each), high)
    batch = np.clip(real, low, high)
    return float((noise / batch + each * batch).sum())


def _sample(lam: Floats, price: Floats, cycles: Any, capacitance: Any, clock_max: Any, static: Any) -> Floats:
    """``min over f <= f_max of cycles (lam kappa f^2 + (lam P_static + price) / f)``: a sample at prices of J and s."""
    time_price = lam * static + price
    clock = np.where(lam > 0.0, np.minimum(clock_max, np.cbrt(time_price / (2.0 * lam * capacitance))), clock_max)
    found: Floats = np.where(time_price > 0.0, cycles * (lam * capacitance * clock**2 + time_price / clock), 0.0)
    return found


def _upload(problem: Problem, lam: Floats, price: Floats) -> Floats:
    """``min over x <= x_max of (span/x) (lam noise (e^x - 1) + lam P_circuit + price)``: an upload, likewise."""
    d = problem.devices
    time_price = lam * d.circuit + price
    low, high = np.zeros_like(lam), d.exponent_max.copy()
    for _ in range(100):
        x = 0.5 * (low + high)
        above = lam * d.noise * (x * np.exp(x) - np.expm1(x)) > time_price
        low, high = np.where(above, low, x), np.where(above, x, high)
    paid = d.span / high * (lam * d.noise * np.expm1(high) + time_price)
    found: Floats = np.where(high > 1e-9, paid, lam * d.noise * d.span)
    return found
