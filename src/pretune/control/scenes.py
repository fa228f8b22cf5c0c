"""The mean of a round over several conditions, compiled: what the forecast asks for again and again."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from pretune.control.kernel import Found, Sheet, best_span, least_span_of
from pretune.physics.types import Bools, Floats


class Scenes(NamedTuple):
    """Conditions of S rounds: arrays of shape (S, K), and the multicast's seconds in each, shape (S,)."""

    who: Bools
    noise: Floats
    clock: Floats
    broadcast_s: Floats


@njit(cache=True, error_model="numpy")
def mean_round(
    every: Sheet, power_max: Floats, scenes: Scenes, worth: float, longest_s: float, tdma: bool
) -> tuple[float, float]:
    """Seconds and joules of a round, without the multicast's joules, on average over the scenes.

    `every` are the columns of all K devices, its `noise`, `clock_max` and `exponent_max` not looked at.
    """
    time, energy = 0.0, 0.0
    for j in range(scenes.who.shape[0]):
        who = np.flatnonzero(scenes.who[j])
        noise = scenes.noise[j][who]
        s = Sheet(
            every.cycles[who],
            every.capacitance[who],
            scenes.clock[j][who],
            every.static[who],
            noise,
            every.span[who],
            np.log1p(power_max[who] / noise),
            every.circuit[who],
            every.gamma[who],
            every.low[who],
            every.high[who],
            every.ratio[who],
        )
        count = who.size
        found = Found(np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count))
        span = best_span(s, worth, max(longest_s, least_span_of(s, tdma)), tdma, found)
        time += scenes.broadcast_s[j] + span
        for k in range(count):
            upload = s.span[k] / found.exponent[k]
            compute = s.cycles[k] * found.batch[k] / found.clock[k]
            clock = found.clock[k]
            energy += (s.capacitance[k] * clock * clock * clock + s.static[k]) * compute
            energy += (s.noise[k] * math.expm1(found.exponent[k]) + s.circuit[k]) * upload
            if tdma:
                time += upload
    return time / scenes.who.shape[0], energy / scenes.who.shape[0]
