"""From one round to the next: `Reality`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.errors import InputError
from pretune.physics.types import Bools, Floats
from pretune.reality import processes
from pretune.reality.columns import Columns, columns_of
from pretune.reality.state import Conditions, State
from pretune.scenario import Scenario
from pretune.traces import Trace


@dataclass(frozen=True, kw_only=True, eq=False)
class Reality:
    """How a scenario's channels and devices fare, the same for the same seed.

    Of the scenario it keeps only what varies and the values that it varies about: `gain`, `max_clock_hz`,
    `static_power_w` and the `capacitance` of all devices.
    """

    seed: int
    columns: Columns
    trace: Trace | None
    gain: Floats
    max_clock_hz: Floats
    static_power_w: Floats
    capacitance: Floats
    names: tuple[str, ...]

    @staticmethod
    def of(scenario: Scenario, seed: int | None = None) -> Reality:
        """The reality of a scenario's `variation` (without one, nothing varies); `seed` replaces the one there."""
        fleet, variation = scenario.devices, scenario.variation
        return Reality(
            seed=seed if seed is not None else 0 if variation is None else variation.seed,
            columns=columns_of(scenario),
            trace=None if variation is None else variation.trace,
            gain=fleet.gain,
            max_clock_hz=fleet.max_clock_hz,
            static_power_w=fleet.static_power_w,
            capacitance=fleet.capacitance,
            names=fleet.names,
        )

    def start(self) -> State:
        """The state before the first round, at time 0."""
        nothing, size = np.zeros(0), len(self.gain)
        return State(
            round=0,
            time_s=0.0,
            scatter=np.zeros((size, 2)) if self.columns.fades else np.zeros((0, 2)),
            shadow=np.zeros(size) if self.columns.shadowed else nothing,
            up=np.ones(size if self.columns.leaves else 0, dtype=np.bool_),
            warmth_k=np.zeros(size) if self.columns.throttles else nothing,
        )

    def next(self, state: State, round_s: float, drawn_w: Floats | None = None) -> tuple[State, Conditions]:
        """The conditions of the next round, which begins `round_s` seconds after the one before began.

        Before the first round `round_s` is what passes before it, and the processes begin with it. `drawn_w` (K,) is
        the mean power that each device's processor drew in that time, which warms it; without it, as much as it draws
        at the highest clock that it then had (before the first round: none).

        Raises:
            InputError: `round_s` is no time, the state is of another fleet, or a trace has ended.
        """
        if not 0.0 <= round_s < np.inf:
            raise InputError.field("round_s", round_s, "a time of zero or more, in seconds")
        self._fits(state)
        time_s, columns = state.time_s + round_s, self.columns
        scatter, shadow, up = self._scatter(state, round_s), self._shadow(state, round_s), self._up(state, round_s)
        warmth_k = state.warmth_k
        clock_hz = self.max_clock_hz
        if columns.throttles:
            warmth_k = processes.warmed(
                warmth_k, self._drawn(state, drawn_w), columns.resistance, columns.constant_s, round_s
            )
            clock_hz = self._clock(warmth_k)
        following = State(
            round=state.round + 1, time_s=time_s, scatter=scatter, shadow=shadow, up=up, warmth_k=warmth_k
        )
        met = Conditions(
            round=state.round,
            time_s=time_s,
            gain=_closed(self._gain(following)),
            available=_closed(up if columns.leaves else np.ones(len(self.gain), dtype=np.bool_)),
            clock_limit_hz=_closed(clock_hz),
            compute_factor=_closed(self._factor(state.round)),
        )
        return following, met

    def _fits(self, state: State) -> None:
        """Refuse the state of another fleet or another variation."""
        mine = self.start()
        for key in ("scatter", "shadow", "up", "warmth_k"):
            if getattr(state, key).shape != getattr(mine, key).shape:
                raise InputError(f"the state of the channels: {key} is of another fleet or variation; start anew")

    def _random(self, what: str, count: int) -> np.random.Generator:
        """The random numbers of one kind and round: of no other."""
        key = (zlib.crc32(what.encode()), count)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def _scatter(self, state: State, round_s: float) -> Floats:
        columns = self.columns
        if not columns.fades:
            return state.scatter
        fresh: Floats = self._random("fading", state.round).standard_normal((len(self.gain), 2)) * np.sqrt(0.5)
        if state.round == 0:
            return fresh
        correlation = np.zeros(len(self.gain))
        markov, jakes = np.isfinite(columns.coherence_s), np.isfinite(columns.doppler_hz)
        correlation[markov] = np.exp(-round_s / columns.coherence_s[markov])
        correlation[jakes] = processes.bessel_j0(2.0 * np.pi * columns.doppler_hz[jakes] * round_s)
        return processes.ar1(state.scatter, correlation, fresh)

    def _shadow(self, state: State, round_s: float) -> Floats:
        columns = self.columns
        if not columns.shadowed:
            return state.shadow
        fresh = self._random("shadowing", state.round).standard_normal(len(self.gain))
        if state.round == 0:
            return fresh
        lasting = columns.shadow_s > 0.0
        correlation = np.zeros(len(self.gain))
        correlation[lasting] = np.exp(-round_s / columns.shadow_s[lasting])
        return processes.ar1(state.shadow, correlation, fresh)

    def _up(self, state: State, round_s: float) -> Bools:
        columns = self.columns
        if not columns.leaves:
            return state.up
        uniform = self._random("availability", state.round).random(len(self.gain))
        if state.round == 0:
            return uniform < columns.share_up
        return processes.still_up(state.up, columns.share_up, columns.rate, round_s, uniform)

    def _clock(self, warmth_k: Floats) -> Floats:
        columns = self.columns
        share: Floats = processes.clock_share(warmth_k, columns.from_k, columns.to_k, columns.floor)
        return self.max_clock_hz * share

    def _drawn(self, state: State, drawn_w: Floats | None) -> Floats:
        if drawn_w is not None:
            return np.asarray(drawn_w, dtype=np.float64)
        if state.round == 0:
            return np.zeros(len(self.gain))
        return self.capacitance * self._clock(state.warmth_k) ** 3 + self.static_power_w

    def _gain(self, state: State) -> Floats:
        columns, gain = self.columns, self.gain.copy()
        if columns.fades:
            gain *= processes.fading_power(state.scatter, columns.k_factor)
        if columns.shadowed:
            gain *= processes.shadowing_power(state.shadow, columns.std_db)
        for way in columns.ways:
            gain[way.devices] *= way.factor(state.time_s)
        if self.trace is not None:
            gain[columns.traced], over = self.trace.at(state.time_s)
            if over.any():
                first = int(over.argmax())
                raise InputError(
                    f"variation.trace: ends at {self.trace.end_s[first]:g} s for {self.trace.names[first]!r}, and "
                    f"round {state.round - 1} begins at {state.time_s:g} s; record a longer one, or set repeat: true"
                )
        return gain

    def _factor(self, count: int) -> Floats:
        columns, factor = self.columns, np.ones(len(self.gain))
        if not columns.jitters:
            return factor
        random = self._random("jitter", count)
        normal, uniform = random.standard_normal(len(factor)), random.random(len(factor))
        even = np.isfinite(columns.least)
        factor = np.exp(columns.sigma * normal - 0.5 * columns.sigma**2)
        factor[even] = columns.least[even] + (columns.most[even] - columns.least[even]) * uniform[even]
        return factor


def _closed(column: Any) -> Any:
    column = column.view()
    column.flags.writeable = False
    return column
