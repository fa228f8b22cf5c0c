"""What rounds to come are likely to meet: a few conditions, at first drawn from the scenario, then those met."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.control.columns import Conditions, Fleetwide
from pretune.control.scenes import Scenes, mean_round
from pretune.physics.types import Bools, Floats, Ints

FORESEEN = 32
"""Conditions that are kept."""
_TURNS = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What a round was, or may be: who takes part, and the channels and clocks; arrays of shape (K,)."""

    who: Bools
    gain: Floats
    clock_limit_hz: Floats

    @staticmethod
    def of(who: Bools, met: Conditions) -> Scene:
        """The part of the conditions that is known when a round begins."""
        return Scene(who=who, gain=np.array(met.gain), clock_limit_hz=np.array(met.clock_limit_hz))


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Means of a round over the scenes: seconds and joules (broadcast included), and the broadcast's own."""

    time_s: float
    energy_j: float
    broadcast_s: float


class Forecast:
    """A ring of scenes: the newest takes the place of the oldest, so it follows what changes slowly."""

    def __init__(self, scenes: list[Scene], at: int = 0) -> None:
        self.scenes, self.at = scenes, at
        self._kept: Scenes | None = None

    def met(self, scene: Scene) -> None:
        """One more round."""
        if scene.who.any():
            self.scenes[self.at], self._kept = scene, None
            self.at = (self.at + 1) % len(self.scenes)

    def without(self, lost: Bools) -> Forecast:
        """The same without the devices `lost`; scenes in which nobody is left are dropped."""
        if not lost.any():
            return self
        kept = [Scene(who=s.who & ~lost, gain=s.gain, clock_limit_hz=s.clock_limit_hz) for s in self.scenes]
        return Forecast([s for s in kept if s.who.any()])

    def means(self, fleet: Fleetwide, alive: Bools) -> tuple[Floats, Floats, float]:
        """Means over the scenes: ``N0 B / g`` and the clocks' limits where a device took part, and a broadcast.

        The first is what an upload of a given length costs on average. Shapes (K,), (K,), seconds.
        """
        scenes = self._stacked(fleet)
        who = scenes.who
        count = np.maximum(who.sum(axis=0), 1)
        noise, clock = np.where(who, scenes.noise, 0.0), np.where(who, scenes.clock, 0.0)
        seen = who.any(axis=0)
        rough = fleet.noise_w(np.maximum(np.mean([s.gain for s in self.scenes], axis=0), 1e-300))
        down = float(scenes.broadcast_s.mean())
        return (
            np.where(seen, noise.sum(axis=0) / count, rough),
            np.where(seen, clock.sum(axis=0) / count, fleet.clock_max),
            down,
        )

    def expect(
        self, fleet: Fleetwide, batch: Ints | Floats, worth_w: float, longest_s: float, slowness: Floats, ratio: Floats
    ) -> Expected:
        """The mean round at a price of time, its clocks and powers the best in each scene."""
        scenes = self._stacked(fleet)
        everyone = np.ones(len(fleet), dtype=np.bool_)
        ones, floats = np.ones(len(fleet)), np.asarray(batch, dtype=np.float64)
        every = fleet.sheet(everyone, ones, fleet.clock_max, slowness, floats, ratio=ratio)
        time_s, energy_j = mean_round(every, fleet.power_max, scenes, worth_w, longest_s, fleet.tdma)
        down = float(scenes.broadcast_s.mean())
        return Expected(time_s=time_s, energy_j=energy_j + fleet.server_power_w * down, broadcast_s=down)

    def _stacked(self, fleet: Fleetwide) -> Scenes:
        """The scenes as the kernel takes them."""
        if self._kept is None:
            who = np.array([s.who for s in self.scenes])
            gain = np.where(who, np.array([s.gain for s in self.scenes]), 1.0)
            limit = np.where(who, np.array([s.clock_limit_hz for s in self.scenes]), 1.0)
            self._kept = Scenes(
                who=who,
                noise=fleet.noise_w(gain),
                clock=np.minimum(limit, fleet.clock_max),
                broadcast_s=np.array([fleet.broadcast_s(s.gain[s.who]) for s in self.scenes]),
            )
        return self._kept

    def balance(
        self,
        fleet: Fleetwide,
        batch: Ints | Floats,
        energy_j: float,
        delay_s: float,
        longest_s: float,
        slowness: Floats,
        ratio: Floats,
        start_w: float,
        *,
        close: float = 1e-3,
    ) -> tuple[float, Expected]:
        """The price of time at which energy and time left pay for equally many rounds, and the mean round at it.

        A higher price makes rounds shorter and dearer, so both budgets together pay for the most rounds where they
        pay for equally many; where both bind, this is the ratio of their multipliers.
        """
        low, high = -math.inf, math.inf
        y = math.log(start_w) if start_w > 0.0 else 0.0
        y_old, f_old = math.nan, math.nan
        found = self.expect(fleet, batch, math.exp(y), longest_s, slowness, ratio)
        for _ in range(_TURNS):
            f = math.log(found.energy_j / energy_j) - math.log(found.time_s / delay_s)
            if f > 0.0:
                high = y
            else:
                low = y
            if abs(f) <= close or high - low <= 1e-6 or abs(y) > 60.0:
                break
            slope = (f - f_old) / (y - y_old) if math.isfinite(y_old) and y != y_old else 0.5
            step = min(max(-f / (slope if slope > 0.05 else 0.05), -4.0), 4.0)
            y_old, f_old = y, f
            y += step
            if not low < y < high:
                y = 0.5 * (low + high)
            found = self.expect(fleet, batch, math.exp(y), longest_s, slowness, ratio)
        return math.exp(y), found

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "at": self.at,
            "scenes": [[s.who.astype(int).tolist(), s.gain.tolist(), s.clock_limit_hz.tolist()] for s in self.scenes],
        }

    @staticmethod
    def from_dict(tree: Mapping[str, Any]) -> Forecast:
        """What `to_dict` wrote."""
        scenes = [
            Scene(who=np.array(who, dtype=np.bool_), gain=np.array(gain), clock_limit_hz=np.array(limit))
            for who, gain, limit in tree["scenes"]
        ]
        return Forecast(scenes, int(tree["at"]))
