"""The largest batches that a box of rounds leaves time, energy and batteries for."""

from __future__ import annotations

import math

import numpy as np

from pretune.figures import SAME, Boxes, System
from pretune.physics.types import Floats

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def server_paid(system: System, time: Floats, joules: Floats) -> Floats:
    """The largest real batch the server can compute within `time` for `joules`, were there no clock limit."""
    server = system.scenario.server
    one = np.ones_like(time)
    return paid_batch(system.server_cycles * one, server.capacitance * one, server.static_power_w * one, time, joules)


def paid_batch(cycles: Floats, capacitance: Floats, static: Floats, time: Floats, joules: Floats) -> Floats:
    """The largest real batch a processor can compute within `time` for `joules`, were there no clock limit."""
    left = np.maximum(joules - static * time, 0.0)
    in_time = np.cbrt(left * time**2 / (capacitance * cycles**3))
    clock = np.cbrt(static / (2.0 * capacitance))
    frugal = joules / (cycles * (capacitance * clock**2 + static / clock))
    return np.where((clock > 0.0) & (frugal * cycles <= time * clock), frugal, in_time)


def most_batches(system: System, longest: Floats, rounds: Floats) -> Floats:
    """The largest real batches in rounds of length `longest`, shape (B, K): at full speed, and within the batteries.

    A battery pays, in each of at least `rounds` rounds, for an upload in some time `t` and for computing in the rest:
    concave in `t`, so a golden section finds the most. TDMA: a device may have all of the round but for the others'
    uploads at their fastest.
    """
    fleet = system.scenario.devices
    fastest = system.span / system.exponent_max
    times = longest[:, None] - (fastest.sum() - fastest if system.tdma else np.zeros(len(fleet)))
    most = (times - fastest) * fleet.max_clock_hz / system.cycles
    which = np.flatnonzero(np.isfinite(fleet.battery_j))
    if not len(which):
        return most
    cycles, noise, span = system.cycles[which], system.noise[which], system.span[which]
    capacitance, static = fleet.capacitance[which], fleet.static_power_w[which]
    speed, circuit = fleet.max_clock_hz[which] / cycles, fleet.circuit_power_w[which]
    allowed = fleet.battery_j[which] / rounds[:, None]
    whole = np.minimum(times[:, which], 1e290)

    def after(upload: Floats) -> Floats:
        joules = allowed - upload * (noise * np.expm1(np.minimum(span / upload, 700.0)) + circuit)
        time = np.maximum(whole - upload, 0.0)
        paid = paid_batch(cycles, capacitance, static, time, np.maximum(joules, 0.0))
        return np.where(joules > 0.0, np.minimum(time * speed, paid), joules)

    left = fastest[which] + np.zeros_like(whole)
    right = np.maximum(whole, left)
    capped = after(left)
    for _ in range(75):
        inner1, inner2 = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
        value1, value2 = after(inner1), after(inner2)
        capped = np.maximum(capped, np.maximum(value1, value2))
        lower = value1 >= value2
        right, left = np.where(lower, inner2, right), np.where(lower, left, inner1)
    most[:, which] = np.where((rounds > 0.0)[:, None], np.minimum(capped, most[:, which]), most[:, which])
    return most


def most_server(system: System, boxes: Boxes, shortest: Floats) -> Floats:
    """The largest whole server batches that the boxes' fewest rounds of length `shortest` leave time and energy for."""
    scenario, server = system.scenario, system.scenario.server
    m1, n1 = boxes[:, 0], boxes[:, 2]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        time = np.maximum(scenario.budget.delay_s - n1 * (shortest + system.down_s), 0.0) / m1
        joules = np.maximum(scenario.budget.energy_j - n1 * system.down_j, 0.0) / m1
        fits = np.minimum(time * server.max_clock_hz / system.server_cycles, server_paid(system, time, joules))
        fits = np.minimum(server.samples, np.floor(fits * (1.0 + SAME)))
    return np.where(m1 > 0.0, fits, float(server.samples))


def longest_span(system: System, boxes: Boxes) -> Floats:
    """The longest spans (TDMA: of computing alone) that the boxes' fewest rounds leave within the delay.

    Infinity without fine-tuning.
    """
    m1, n1 = boxes[:, 0], boxes[:, 2]
    least = m1 * system.server_cycles / system.scenario.server.max_clock_hz
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        left = (system.scenario.budget.delay_s - least) / n1 - system.down_s - system.up_s
    return np.where(n1 > 0.0, left, np.inf)
