"""What a plan may count on of each device, from the variation's laws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pretune.errors import InputError
from pretune.physics.types import Bools, Floats
from pretune.reality.columns import Columns, columns_of
from pretune.reality.processes import clock_share
from pretune.scenario import Scenario
from pretune.traces import Trace
from pretune.uncertainty.gains import CERTAIN, Figures, figures_of

_SAFE = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Odds:
    """Per device, shape (K,); gains as factors of the scenario's own.

    With probability at least ``1 - chance`` a round's gain is `floor` or more; `inverse_mean` bounds the mean of the
    gain's inverse where it is `floor` or more and 0 where it is not, `inverse_variance` its variance. With probability
    at least ``1 - compute_chance`` the factor on computing is at most `slowest`; `compute_mean` is its mean and
    `compute_variance` its variance. `clock_hz` is the highest clock that can be kept up. `lasting` says whose rounds
    have to do with each other.
    """

    chance: Floats
    floor: Floats
    inverse_mean: Floats
    inverse_variance: Floats
    compute_chance: Floats
    slowest: Floats
    compute_mean: Floats
    compute_variance: Floats
    clock_hz: Floats
    lasting: Bools


def odds_of(scenario: Scenario, device_outage: float) -> Odds:
    """The odds of a scenario's variation, at a probability that a device's round fails.

    Where both the gain and the computing of a device are random (and they are independent) each gets ``1 - sqrt(1 -
    outage)`` of it.

    Raises:
        InputError: a trace has no channel for more of its time than that.
    """
    columns, size = columns_of(scenario), len(scenario.devices)
    traced = np.zeros(size, dtype=np.bool_)
    traced[columns.traced] = True
    gain_varies = np.isfinite(columns.k_factor) | (columns.std_db > 0.0) | traced
    jitters = (columns.sigma > 0.0) | np.isfinite(columns.least)
    half = -math.expm1(0.5 * math.log1p(-device_outage))
    each = np.where(gain_varies & jitters, half, device_outage)
    chance, compute_chance = np.where(gain_varies, each, 0.0), np.where(jitters, each, 0.0)
    floor, mean, variance = _faded(columns, chance)
    lasting = (columns.std_db > 0.0) & (columns.shadow_s > 0.0)
    lasting |= np.isfinite(columns.coherence_s) | np.isfinite(columns.doppler_hz) | traced
    for way in columns.ways:
        on, lowest = way.devices, way.lowest_factor
        # elsewhere the gain is larger by l > 1; above the same floor, F(x/l) <= F(x) in the integral by parts of
        # E[1/x; x >= q] leaves its upper bound but for the term -F(q)/q, which may vanish
        share = chance[on] / floor[on]
        mean[on] = (mean[on] + share) / lowest
        variance[on] = (variance[on] + np.square(mean[on] * lowest) + share / floor[on]) / lowest**2
        floor[on] *= lowest
        lasting[on] = True
    if scenario.variation is not None and scenario.variation.trace is not None:
        trace = scenario.variation.trace
        floor[columns.traced], mean[columns.traced] = _traced(trace, scenario, columns, chance)
    slowest, compute_mean, compute_variance = _computing(columns, compute_chance)
    return Odds(
        chance=chance,
        floor=floor,
        inverse_mean=mean,
        inverse_variance=variance,
        compute_chance=compute_chance,
        slowest=slowest,
        compute_mean=compute_mean,
        compute_variance=compute_variance,
        clock_hz=_kept_clock(scenario, columns),
        lasting=lasting,
    )


def participation(scenario: Scenario, odds: Odds) -> Floats:
    """How often each device's upload counts in the long run, at the least, shape (K,): it is there, its channel is good
    enough, and it computes in time; independent of each other."""
    there: Floats = columns_of(scenario).share_up * (1.0 - odds.chance) * (1.0 - odds.compute_chance)
    return there


def _faded(columns: Columns, chance: Floats) -> tuple[Floats, Floats, Floats]:
    """Quantile, inverse mean and its variance of all devices' fading and shadowing; equal laws are looked at once."""
    laws = np.stack([columns.k_factor, columns.std_db, chance], axis=1)
    different, which = np.unique(laws, axis=0, return_inverse=True)
    figures: list[Figures] = [figures_of(*law) if law[2] > 0.0 else CERTAIN for law in different.tolist()]
    which = which.reshape(-1)
    keys = ("quantile", "inverse_mean", "inverse_variance")
    floor, mean, variance = (np.array([getattr(one, key) for one in figures])[which] for key in keys)
    return floor, mean, variance


def _traced(trace: Trace, scenario: Scenario, columns: Columns, chance: Floats) -> tuple[Floats, Floats]:
    """Of a trace its own shares of time: the largest gain that all but `chance` of the time is kept, and the mean of
    the inverse while it is; over the run's time, or the whole trace where it is repeated."""
    floors, means = [], []
    for i, k in enumerate(columns.traced.tolist()):
        rows = slice(int(trace.begin[i]), int(trace.begin[i + 1]))
        end_s = float(trace.end_s[i])
        horizon_s = end_s if trace.repeat else min(end_s, scenario.budget.delay_s)
        until = np.minimum(np.append(trace.time_s[rows][1:], end_s), horizon_s)
        lasts = np.maximum(0.0, until - trace.time_s[rows])
        shares = lasts / lasts.sum() if lasts.sum() > 0.0 else np.ones(1) / 1.0
        gain = trace.gain[rows] if lasts.sum() > 0.0 else trace.gain[rows][:1]
        factors = gain / scenario.devices.gain[k]
        order = np.argsort(factors, kind="stable")
        below = np.concatenate([[0.0], np.cumsum(shares[order])[:-1]])  # share of time strictly earlier in the order
        sorted_factors = factors[order]
        first_of_value = np.searchsorted(sorted_factors, sorted_factors, side="left")
        fits = below[first_of_value] <= chance[k]
        floor = float(sorted_factors[fits].max())
        if not floor > 0.0:
            name, share = trace.names[i], float(shares[factors <= 0.0].sum())
            raise InputError(
                f"variation.trace: has no channel for {name!r} in {100 * share:.3g}% of the time, should have one but "
                f"for {100 * chance[k]:.3g}% (planning.outage)"
            )
        above = factors >= floor
        floors.append(floor)
        means.append(float((shares[above] / factors[above]).sum()))
    return np.array(floors), np.array(means)


def _computing(columns: Columns, chance: Floats) -> tuple[Floats, Floats, Floats]:
    """Quantile, mean and variance of the factor on computing; the quantile is not below the true one."""
    slowest, mean, variance = np.ones(len(chance)), np.ones(len(chance)), np.zeros(len(chance))
    even, normal = np.isfinite(columns.least), columns.sigma > 0.0
    if normal.any():
        places = {c: NormalDist().inv_cdf(c) for c in np.unique(chance[normal]).tolist()}
        z = np.array([-places[c] for c in chance[normal].tolist()])
        sigma = columns.sigma[normal]
        slowest[normal] = np.exp(sigma * z - 0.5 * sigma**2) * (1.0 + _SAFE)
        variance[normal] = np.expm1(sigma**2)
    if even.any():
        least, most = columns.least[even], columns.most[even]
        slowest[even] = (most - (most - least) * chance[even]) * (1.0 + _SAFE)
        mean[even], variance[even] = 0.5 * (least + most), (most - least) ** 2 / 12.0
    return slowest, mean, variance


def _kept_clock(scenario: Scenario, columns: Columns) -> Floats:
    """The highest clock that can be kept up: the largest f with ``f <= limit(R P(f))``.

    Running at f or less the processor never draws more than P(f), so its rise never exceeds ``R P(f)``, and the limit,
    which falls with the rise, is never below f. The right side falls in f: halving finds f, from below.
    """
    fleet = scenario.devices
    high, low = fleet.max_clock_hz.copy(), fleet.max_clock_hz * columns.floor

    def fits(clock_hz: Floats) -> Bools:
        rise = columns.resistance * (fleet.capacitance * clock_hz**3 + fleet.static_power_w)
        kept: Bools = clock_hz <= fleet.max_clock_hz * clock_share(rise, columns.from_k, columns.to_k, columns.floor)
        return kept

    free = fits(high)
    for _ in range(60):
        middle = 0.5 * (low + high)
        kept = fits(middle)
        low, high = np.where(kept, middle, low), np.where(kept, high, middle)
    return np.where(free, fleet.max_clock_hz, low)
