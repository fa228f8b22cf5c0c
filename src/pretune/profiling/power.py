"""From measured powers and clocks to the capacitance κ of the cost model, P = P_static + κ f³ while computing.

Source of the model: math.md section 1 (docs/mathematics.md). Two ways, and the profile says which:

- with the clock set to two or more values (cpufreq, needs the right to write there): least squares of P over f³;
- else from the power at rest and the power while computing: κ = (P_active - P_rest) / f³, P_static = P_rest.

A counter of a whole package or board also counts what the model knows nothing of; the profile names the counter.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pretune.physics.types import Floats
from pretune.profiling.clock import ClockReader, settle, watched
from pretune.profiling.energy import Counter
from pretune.profiling.speed import Stepper
from pretune.runtime.federated.actuators import Cpufreq

APART = 1.1
"""Clocks that are nearer to one another, as a ratio, tell nothing about a cube."""
SETTINGS = 3


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Mean power over `seconds`, at the clock that was read meanwhile (None: the machine tells none)."""

    power_w: float
    seconds: float
    clock_hz: float | None


@dataclass(frozen=True, kw_only=True)
class Powers:
    """What was read: `rest` without work, `active` while computing, at each clock that was set (one if none could be).

    `set_by` says how the clock was set, or why it was not.
    """

    source: str
    rest: Reading | None
    active: tuple[Reading, ...]
    set_by: str


@dataclass(frozen=True, kw_only=True)
class Switching:
    """The two constants, or why there are none; `how` says how they came about."""

    capacitance: float | None
    static_power_w: float | None
    how: str


def measure_powers(
    counter: Counter,
    clock: ClockReader,
    stepper: Stepper,
    *,
    batch: int,
    threads: int,
    seconds: float,
    limits: Cpufreq,
    seen: Callable[[str], None] = lambda what: None,
) -> Powers:
    """Read the power at rest and while computing, in about so many seconds; the clock is left as it was found."""
    settings, set_by = _settings(limits) if stepper.device == "cpu" else ((), "not set: a GPU's clock is left alone")
    share = seconds / (1 + max(1, len(settings)))
    seen("power at rest")
    rest = _read(counter, clock, threads, lambda: time.sleep(share))
    step = stepper.timer(batch, threads)
    active: list[Reading] = []

    def work() -> None:
        until = time.monotonic() + share
        while time.monotonic() < until:
            step.timeit(1)

    try:
        for setting in settings or (None,):
            if setting is not None:
                seen(f"power at {setting:.3g} Hz")
                with contextlib.suppress(OSError, ValueError):
                    limits.limit(setting)
                settle()
            else:
                seen("power while computing")
            found = _read(counter, clock, threads, work)
            if found is not None:
                active.append(found)
    finally:
        limits.close()
    return Powers(source=counter.source, rest=rest, active=tuple(active), set_by=set_by)


def switching(powers: Powers) -> Switching:
    """The constants that these readings make."""
    if not powers.active:
        return _none(f"the counter ({powers.source}) could not be read while computing")
    known = [(reading.clock_hz, reading.power_w) for reading in powers.active if reading.clock_hz]
    if not known:
        return _none("power was measured, but the machine tells no clock to divide it by")
    clocks, watts = (np.array(column, dtype=np.float64) for column in zip(*known, strict=True))
    if clocks.max() >= APART * clocks.min():
        return _fitted(clocks, watts, powers)
    return _from_rest(float(clocks.mean()), float(watts.mean()), powers)


def _fitted(clocks: Floats, watts: Floats, powers: Powers) -> Switching:
    """Least squares; the cubes are scaled, so that the system is well conditioned."""
    scale = float(clocks.max()) ** 3
    system = np.column_stack([np.ones_like(clocks), clocks**3 / scale])
    (static, slope), *_ = np.linalg.lstsq(system, watts, rcond=None)
    points = ", ".join(f"{watt:.4g} W at {clock:.4g} Hz" for clock, watt in zip(clocks, watts, strict=True))
    if slope <= 0 or static < 0:
        return _none(f"the measured powers don't follow static + capacitance * clock^3 ({points})")
    worst = float(np.abs(system @ np.array([static, slope]) - watts).max())
    how = f"least squares of power over clock^3 at {len(clocks)} clocks set by cpufreq ({points}); off by {worst:.2g} W"
    return Switching(capacitance=float(slope) / scale, static_power_w=float(static), how=f"{how}; {powers.source}")


def _from_rest(clock: float, watts: float, powers: Powers) -> Switching:
    if powers.rest is None:
        return _none(f"one clock only ({powers.set_by}), and the power at rest could not be read")
    rest = powers.rest.power_w
    if watts <= rest:
        return _none(f"computing draws no more ({watts:.4g} W) than rest ({rest:.4g} W), by {powers.source}")
    how = f"one clock only ({powers.set_by}): {watts:.4g} W computing at {clock:.4g} Hz less {rest:.4g} W at rest"
    return Switching(capacitance=(watts - rest) / clock**3, static_power_w=rest, how=f"{how}; {powers.source}")


def _none(why: str) -> Switching:
    return Switching(capacitance=None, static_power_w=None, how=why)


def _settings(limits: Cpufreq) -> tuple[Sequence[float], str]:
    """The clocks to set, lowest first; none where they can't be set."""
    span = limits.range_hz
    if span is None:
        return (), "the clock can't be set: this machine has no cpufreq"
    low, high = span
    if high < APART * low:
        return (), "the clock can't be set: the hardware has only one"
    try:
        limits.limit(high)
    except (OSError, ValueError) as error:
        return (), f"the clock can't be set: cpufreq refuses ({type(error).__name__})"
    return np.linspace(max(low, 0.5 * high), high, SETTINGS).tolist(), "set by cpufreq"


def _read(counter: Counter, clock: ClockReader, threads: int, work: Callable[[], None]) -> Reading | None:
    with watched(clock, threads) as log:
        began, before = time.monotonic(), counter.read()
        work()
        after, done = counter.read(), time.monotonic()
    joules = counter.joules(before, after)
    if joules is None or done <= began:
        return None
    return Reading(power_w=joules / (done - began), seconds=done - began, clock_hz=log.median_hz)
