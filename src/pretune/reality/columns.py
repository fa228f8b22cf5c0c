"""A scenario's variation as columns: every process's parameters for all devices, shape (K,)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune import channel
from pretune.cell import Sight
from pretune.physics.types import Bools, Floats, Ints
from pretune.scenario import Scenario
from pretune.variation import AtEnd, Correlation, FadingKind, JitterKind, Mobility, Variation


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """A track that some devices share: `devices` are their indices, `reach_m` the path's length up to each waypoint."""

    devices: Ints
    mobility: Mobility
    places_m: Floats
    reach_m: Floats

    def loss_db(self, distance_m: Floats) -> Floats:
        """Path loss at distances from the base station; none is nearer than the model is good for."""
        cell = self.mobility.cell
        clear = np.full(distance_m.shape, cell.line_of_sight is Sight.ALWAYS)
        return cell.loss_db(np.maximum(distance_m, cell.nearest_m), clear)

    def distance_m(self, time_s: float) -> float:
        """How far from the base station the devices are at a time."""
        gone, whole = self.mobility.speed_m_per_s * time_s, float(self.reach_m[-1])
        if whole == 0.0:
            gone = 0.0
        elif self.mobility.at_end is AtEnd.STOP:
            gone = min(gone, whole)
        else:
            back = self.mobility.at_end is AtEnd.BACK
            gone = math.fmod(gone, 2.0 * whole if back else whole)
            gone = 2.0 * whole - gone if gone > whole else gone
        return math.hypot(*(float(np.interp(gone, self.reach_m, self.places_m[:, axis])) for axis in (0, 1)))

    def factor(self, time_s: float) -> float:
        """The gain at a time over that at the first waypoint."""
        begin = math.hypot(*self.places_m[0].tolist())
        loss_db = self.loss_db(np.array([begin, self.distance_m(time_s)]))
        return float(channel.gain_of(loss_db[1:] - loss_db[:1])[0])

    @property
    def lowest_factor(self) -> float:
        """The smallest of these factors anywhere on the way.

        A loss rises with the distance, and on a straight line the distance is largest at one of its ends.
        """
        far = np.hypot(self.places_m[:, 0], self.places_m[:, 1])
        loss_db = self.loss_db(np.array([far[0], far.max()]))
        return float(channel.gain_of(loss_db[1:] - loss_db[:1])[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """The parameters; what does not vary for a device has values that change nothing.

    `k_factor` is infinite without fading, 0 for Rayleigh; `coherence_s` and `doppler_hz` are NaN where they are not
    used. `std_db` is 0 without shadowing. `share_up` is 1, `rate` 0 where a device never leaves. `resistance` is 0
    where it never throttles. The compute factor is ``exp(sigma n - sigma^2/2)`` or between `least` and `most`
    (NaN where it is log-normal). `traced` are the devices with a trace, in its order: nothing else changes their gain.
    """

    k_factor: Floats
    coherence_s: Floats
    doppler_hz: Floats
    std_db: Floats
    shadow_s: Floats
    share_up: Floats
    rate: Floats
    resistance: Floats
    constant_s: Floats
    from_k: Floats
    to_k: Floats
    floor: Floats
    sigma: Floats
    least: Floats
    most: Floats
    ways: tuple[Way, ...]
    traced: Ints

    @property
    def fades(self) -> bool:
        """Whether any device's channel fades."""
        return bool(np.isfinite(self.k_factor).any())

    @property
    def shadowed(self) -> bool:
        """Whether any device's channel is shadowed."""
        return bool((self.std_db > 0.0).any())

    @property
    def leaves(self) -> bool:
        """Whether any device leaves."""
        return bool((self.share_up < 1.0).any())

    @property
    def throttles(self) -> bool:
        """Whether any device's clock falls."""
        return bool((self.resistance > 0.0).any())

    @property
    def jitters(self) -> bool:
        """Whether any device's computing time varies."""
        return bool((self.sigma > 0.0).any() or np.isfinite(self.least).any())


Values = Mapping[str, float]

FADING: Values = {"k_factor": math.inf, "coherence_s": math.nan, "doppler_hz": math.nan}
SHADOWING: Values = {"std_db": 0.0, "shadow_s": 0.0}
AVAILABILITY: Values = {"share_up": 1.0, "rate": 0.0}
THROTTLING: Values = {"resistance": 0.0, "constant_s": 1.0, "from_k": 1.0, "to_k": 2.0, "floor": 1.0}
JITTER: Values = {"sigma": 0.0, "least": math.nan, "most": math.nan}


def _fading(part: Any) -> Values:
    rayleigh, how = part.kind is FadingKind.RAYLEIGH, part.correlation
    return {
        "k_factor": 0.0 if rayleigh else part.k_factor,
        "coherence_s": part.coherence_s if how is Correlation.GAUSS_MARKOV else math.nan,
        "doppler_hz": part.doppler_hz if how is Correlation.JAKES else math.nan,
    }


def _shadowing(part: Any) -> Values:
    return {"std_db": part.std_db, "shadow_s": part.correlation_s}


def _availability(part: Any) -> Values:
    return {"share_up": part.share_up, "rate": 1.0 / part.mean_up_s + 1.0 / part.mean_down_s}


def _throttling(part: Any) -> Values:
    return {
        "resistance": part.resistance_k_per_w,
        "constant_s": part.time_constant_s,
        "from_k": part.from_k,
        "to_k": part.to_k,
        "floor": part.floor,
    }


def _jitter(part: Any) -> Values:
    if part.kind is JitterKind.LOGNORMAL:
        return {**JITTER, "sigma": part.sigma}
    return {"sigma": 0.0, "least": part.least, "most": part.most}


_READ: dict[str, tuple[Values, Callable[[Any], Values]]] = {
    "fading": (FADING, _fading),
    "shadowing": (SHADOWING, _shadowing),
    "availability": (AVAILABILITY, _availability),
    "throttling": (THROTTLING, _throttling),
    "jitter": (JITTER, _jitter),
}


def columns_of(scenario: Scenario) -> Columns:
    """The columns of a scenario; without a `variation` those of one in which nothing varies."""
    variation, names = scenario.variation or Variation(), scenario.devices.names
    columns: dict[str, Floats] = {}
    for key, (nothing, read) in _READ.items():
        for part, devices in variation.groups(key, names):
            values = nothing if part is None else read(part)
            for name, value in values.items():
                if devices is None:
                    columns[name] = np.full(len(names), value)
                else:
                    columns[name][devices] = value
    traced = np.zeros(0, dtype=np.int64)
    if variation.trace is not None:
        index = {name: k for k, name in enumerate(names)}
        traced = np.array([index[name] for name in variation.trace.names], dtype=np.int64)
        for name, value in {**FADING, **SHADOWING}.items():
            columns[name][traced] = value
    untraced = np.ones(len(names), dtype=np.bool_)
    untraced[traced] = False
    return Columns(**columns, ways=_ways(variation, names, untraced), traced=traced)


def _ways(variation: Variation, names: tuple[str, ...], free: Bools) -> tuple[Way, ...]:
    """The tracks with their devices; one with a trace has none."""
    tracks: list[Mobility | None] = []
    which = np.zeros(len(names), dtype=np.int64)
    for part, devices in variation.groups("mobility", names):
        tracks.append(part)
        which[slice(None) if devices is None else devices] = len(tracks) - 1
    ways = []
    for i, part in enumerate(tracks):
        users = np.flatnonzero((which == i) & free)
        if part is not None and len(users):
            ways.append(_way(part, users))
    return tuple(ways)


def _way(part: Mobility, devices: Ints) -> Way:
    places = np.array(part.waypoints_m, dtype=np.float64)
    if part.at_end is AtEnd.LOOP:
        places = np.concatenate([places, places[:1]])
    steps = np.hypot(*np.diff(places, axis=0).T)
    return Way(devices=devices, mobility=part, places_m=places, reach_m=np.append(0.0, np.cumsum(steps)))
