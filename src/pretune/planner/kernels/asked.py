"""Devices that decide how likely they are asked: the joint optimum at a fixed span, O(K) per price of energy.

At a price per joule ``l`` (over all rounds) device k minimises, at a span ``s`` that its work has to fit in,

    l p e_s(b) + (psi A / b + B) / p,        p in [least, 1],  b in [1, high]

with ``e_s(b)`` the least joules of a batch b and an upload within s. At given b the best p is
``sqrt((psi A/b + B) / (l e))``, clipped; what remains is unimodal in b, because the problem is jointly convex in
``(p, p b)``. Both are walked along by the price of time w: it sets clock and upload time, hence the batch that fills
the span, and (by the envelope) ``e_s'(b)`` is what a sample costs with its time paid at w.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from pretune.physics.types import Floats
from pretune.planner.kernels.scalar import TINY, clock_at, energy_slope, sample_cost, upload_exponent
from pretune.planner.problem import Devices, Server

_HALVINGS = 60
_FAR = 80.0
_DEAREST = 1e9
"""Times the price of a joule that a battery is asked for at the most: beyond, it can hardly pay at all."""
_NEAR = 1e-13


@njit(cache=True, error_model="numpy")
def chance(noise: float, joules: float, least: float) -> float:
    """The p in [least, 1] that minimises ``joules p + noise / p``."""
    if joules <= 0.0:
        return 1.0
    return min(max(math.sqrt(noise / joules), least), 1.0)


@njit(cache=True, error_model="numpy")
def _at(d: Devices, k: int, span: float, w: float) -> tuple[float, float, float, float, float, float]:
    """Clock, exponent, batch that fills the span, joules, what a sample costs with its time, upload joules."""
    clock = max(clock_at(w, d.capacitance[k], d.clock_max[k], d.static[k]), TINY)
    x = max(upload_exponent((w + d.circuit[k]) / d.noise[k], d.exponent_max[k]), TINY)
    t = d.span[k] / x
    u = span - t
    batch = u * clock / d.cycles[k]
    upload = t * (d.noise[k] * math.expm1(x) + d.circuit[k])
    joules = upload + u * (d.capacitance[k] * clock**3 + d.static[k])
    return clock, x, batch, joules, sample_cost(w, clock, d.cycles[k], d.capacitance[k], d.static[k]), upload


@njit(cache=True, error_model="numpy")
def _rising(batch: float, joules: float, cost: float, a: float, b: float, lam: float, low: float, high: float) -> float:
    """The sign of what one more sample brings, where p is the best: above zero it costs more than it is worth."""
    if batch < 1.0:
        return -1.0
    if batch > high:
        return 1.0
    p = chance(a / batch + b, lam * joules, low)
    return p * lam * cost - a / (p * batch * batch)


@njit(cache=True, error_model="numpy")
def _one(d: Devices, k: int, span: float, lam: float, a: float, b: float, low: float, high: float, out: Floats) -> None:
    """Device k's joint optimum: fills ``out`` with p, batch, clock, exponent, price of time (joules/s), joules."""
    first = max(
        2.0 * d.capacitance[k] * d.clock_max[k] ** 3 - d.static[k],
        d.noise[k] * energy_slope(d.exponent_max[k]) - d.circuit[k],
        TINY,
    )
    clock, x, batch, joules, cost, upload = _at(d, k, span, 0.0)
    w = 0.0
    if batch >= 1.0 and _rising(batch, joules, cost, a, b, lam, low, high) >= 0.0:
        # the span is longer than it takes: upload and clock are the most frugal, and the batch is free
        best = math.inf
        top = min(batch, high)
        for which in range(3):
            if which == 0:
                trial = math.sqrt(a / (lam * cost))
            elif which == 1:
                trial = math.sqrt(a / (lam * cost)) / low
            else:
                trial = math.sqrt(a * upload / (b * cost)) if b > 0.0 else top
            trial = min(max(trial, 1.0), top)
            need = upload + cost * trial
            p = chance(a / trial + b, lam * need, low)
            value = lam * p * need + (a / trial + b) / p
            if value < best:
                best, batch, joules = value, trial, need
    else:
        clock, x, batch, joules, cost, upload = _at(d, k, span, first)
        if _rising(batch, joules, cost, a, b, lam, low, high) < 0.0:
            # all at its fastest, and a sample more would still be worth it: the span's price is what that would pay
            batch = max(batch, 1.0)
            p = chance(a / batch + b, lam * joules, low)
            worth = a / (p * p * batch * batch * lam) / d.cycles[k]
            w = max((worth - d.capacitance[k] * clock * clock) * clock - d.static[k], first)
        else:
            # in logarithms of both sides what a sample costs over what it is worth is nearly straight: secants
            left, right = 0.0, first
            w = out[4] if 0.0 < out[4] < first else 0.125 * first
            old_y, old_h, slope = 0.0, 0.0, 1.3
            for step in range(2 * _HALVINGS):
                clock, x, batch, joules, cost, upload = _at(d, k, span, w)
                inside = 1.0 <= batch <= high
                h = -1.0 if batch < 1.0 else 1.0
                if inside:
                    p = chance(a / batch + b, lam * joules, low)
                    h = math.log(p * p * batch * batch * lam * cost / a)
                if h < 0.0:
                    left = w
                else:
                    right = w
                if abs(h) <= 1e-12 or right - left <= _NEAR * right:
                    break
                y = math.log(w)
                if inside:
                    if old_h != 0.0 and y != old_y:
                        slope = (h - old_h) / (y - old_y)
                    old_y, old_h = y, h
                w = math.exp(y - h / slope) if inside and slope > 0.05 else 0.0
                if not left < w < right or step % 12 == 11:
                    w = 0.125 * (left ** (1.0 / 3.0) + right ** (1.0 / 3.0)) ** 3
            batch = min(max(batch, 1.0), high)
    p = chance(a / batch + b, lam * joules, low)
    out[0], out[1], out[2], out[3], out[4], out[5] = p, batch, clock, x, w, joules


@njit(cache=True, error_model="numpy")
def decide(
    d: Devices,
    span: float,
    lam: float,
    psi: float,
    spread: Floats,
    low: float,
    high: Floats,
    allowed: Floats,
    found: Floats,
) -> float:
    """All devices at a price `lam` of a joule in every round; returns a round's joules in the mean.

    `spread` (K,): B; `allowed` (K,): the joules that a battery has for a round. `found` (K, 7) gets p, batch, clock,
    exponent, price of time, joules of a round taken part in, and the ratio of the battery's price.
    """
    total = 0.0
    for k in range(d.cycles.size):
        row = found[k]
        a = psi * d.variance[k]
        ratio = 1.0
        _one(d, k, span, lam, a, spread[k], low, high[k], row)
        if row[0] * row[5] > allowed[k]:
            least, most = 1.0, 2.0
            while most < _DEAREST:
                _one(d, k, span, lam * most, a, spread[k], low, high[k], row)
                if row[0] * row[5] <= allowed[k] or (row[0] <= low and row[1] <= 1.0 + 1e-9):
                    break
                least, most = most, most * 4.0
            for _ in range(26):
                ratio = math.sqrt(least * most)
                _one(d, k, span, lam * ratio, a, spread[k], low, high[k], row)
                if row[0] * row[5] > allowed[k]:
                    least = ratio
                else:
                    most = ratio
            ratio = most
            _one(d, k, span, lam * ratio, a, spread[k], low, high[k], row)
        row[6] = ratio
        total += row[0] * row[5]
    return total


@njit(cache=True, error_model="numpy")
def server_within(server: Server, time: float, lam: float, psi0: float, high: float) -> tuple[float, float, float]:
    """Batch, joules and price of time (joules/s) of a pre-training round of `time` seconds at a price of a joule."""
    first = max(2.0 * server.capacitance * server.clock_max**3 - server.static, TINY)
    left, right, w = 0.0, first ** (1.0 / 3.0), first
    for step in range(_HALVINGS + 1):
        w = right**3 if step == 0 else (0.5 * (left + right)) ** 3
        clock = max(clock_at(w, server.capacitance, server.clock_max, server.static), TINY)
        batch = time * clock / server.cycles
        cost = sample_cost(w, clock, server.cycles, server.capacitance, server.static)
        rises = batch >= 1.0 and (batch > high or lam * cost > psi0 / (batch * batch))
        if step == 0:
            if not rises:
                worth = psi0 / (batch * batch * lam) / server.cycles
                w = max((worth - server.capacitance * clock * clock) * clock - server.static, first)
                return batch, time * (server.capacitance * clock**3 + server.static), w
        elif rises:
            right = 0.5 * (left + right)
        else:
            left = 0.5 * (left + right)
    w = right**3
    clock = max(clock_at(w, server.capacitance, server.clock_max, server.static), TINY)
    batch = min(max(time * clock / server.cycles, 1.0), high)
    cost = sample_cost(0.0, clock, server.cycles, server.capacitance, server.static)
    if w < 1e-12 * first and server.static > 0.0:
        # more time than the most frugal clock needs
        batch = min(max(math.sqrt(psi0 / (lam * cost)), 1.0), batch)
    return batch, batch * cost, w


@njit(cache=True, error_model="numpy")
def decided(
    d: Devices,
    server: Server,
    m: float,
    n: float,
    span: float,
    time0: float,
    psi0: float,
    psi: float,
    spread: Floats,
    low: float,
    high: Floats,
    high0: float,
    allowed: Floats,
    energy: float,
    start: float,
    found: Floats,
    numbers: Floats,
) -> bool:
    """The joint optimum at fixed rounds and a fixed span within `energy` joules (broadcasts taken off).

    The price of a joule is where they are spent. `numbers` gets it, the server's batch, its price of time, the joules.
    False where not even the least that can be asked fits.
    """
    y, slope, old_y, old_f = math.log(start), 0.5, 0.0, 0.0
    low_y, high_y = -math.inf, math.inf
    batch0, price0, joules = 1.0, 0.0, math.inf
    for trial in range(80):
        lam = math.exp(y)
        joules = 0.0
        if n > 0.0:
            joules = n * decide(d, span, lam * n, psi, spread, low, high, allowed, found)
        if m > 0.0:
            batch0, once, price0 = server_within(server, time0, lam * m, psi0, high0)
            joules += m * once
        f = math.log(joules / energy)
        if -1e-11 <= f <= 0.0:
            break
        if f > 0.0:
            low_y = y
        else:
            high_y = y
        if trial > 0 and y != old_y and (old_f - f) / (y - old_y) > 1e-3:
            slope = (old_f - f) / (y - old_y)
        old_y, old_f = y, f
        both = low_y > -math.inf and high_y < math.inf
        if both and high_y - low_y < 1e-13 * max(1.0, abs(high_y)):
            break
        # a little beyond the root: an end from either side, and at last from below the budget
        y += f / slope + 4e-12 / slope if both else min(max(1.05 * f / slope, -8.0 - trial), 8.0 + trial)
        if both and (not low_y < y < high_y or trial % 8 == 7):
            y = 0.5 * (low_y + high_y)
        if y > _FAR + math.log(start):
            return False
        if y < math.log(start) - _FAR:  # worth nothing: it is not all spent
            break
    if joules > energy:
        if high_y == math.inf:
            return False
        lam = math.exp(high_y)
        joules = 0.0
        if n > 0.0:
            joules = n * decide(d, span, lam * n, psi, spread, low, high, allowed, found)
        if m > 0.0:
            batch0, once, price0 = server_within(server, time0, lam * m, psi0, high0)
            joules += m * once
        y = high_y
    numbers[0], numbers[1], numbers[2], numbers[3] = math.exp(y), batch0, price0, joules
    return bool(np.isfinite(joules))
