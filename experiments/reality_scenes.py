"""The scenes of `reality.py`: what is hard about each, what the scenario says of it, and what it really meets.

In all of them the channels go on by the round and not by the clock: a round begins as long after the one before, to
the channels, as the plan's rounds last. So all policies meet the same conditions in their n-th round, whatever they
make of them, and there is a clairvoyant plan that can be worked out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from common import TASKS

import pretune
from pretune.physics.types import Bools, Floats
from pretune.reality import Conditions, Reality
from pretune.scenario import Scenario

OUTAGE = 0.1
ROUND_S = 0.02
"""Seconds from round to round, to the channels; about what a fine-tuning round of the digits' plan takes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wrong:
    """What the scenario does not know, from the fine-tuning round `first` on, of the devices `who` (None: of all).

    `gain` multiplies the gains, `slow` the times of computing; `gone`: they are never there again.
    """

    gain: float = 1.0
    slow: float = 1.0
    gone: bool = False
    who: tuple[int, ...] | None = None
    first: int = 0

    def on(self, round_: int, count: int) -> Bools:
        """The devices that it is about in a round, shape (K,)."""
        hit = np.zeros(count, dtype=np.bool_)
        if round_ >= self.first:
            hit[slice(None) if self.who is None else list(self.who)] = True
        return hit


class Truth:
    """A reality by the round, with what is wrong; a `Reality` to the steering."""

    def __init__(self, inner: Reality, wrong: Wrong) -> None:
        self.inner, self.wrong = inner, wrong
        self.seed, self.columns, self.trace = inner.seed, inner.columns, inner.trace

    def start(self) -> Any:
        """The state before the first round."""
        return self.inner.start()

    def next(self, state: Any, round_s: float, drawn_w: Any = None) -> tuple[Any, Conditions]:
        """The next round's conditions; how long the one before really took does not matter."""
        state, met = self.inner.next(state, ROUND_S if state.round else 0.0, drawn_w)
        hit = self.wrong.on(met.round, len(met.gain))
        return state, dataclasses.replace(
            met,
            gain=np.where(hit, met.gain * self.wrong.gain, met.gain),
            available=met.available & ~(hit & self.wrong.gone),
            compute_factor=np.where(hit, met.compute_factor * self.wrong.slow, met.compute_factor),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """One of them; `hard` in words. `trains`: for how many seeds models are trained."""

    name: str
    hard: str
    variation: Mapping[str, Any]
    wrong: Wrong = Wrong()
    changed: Callable[[Scenario], Scenario] | None = None
    trains: int = 60

    @cached_property
    def bare(self) -> Scenario:
        """The scenario without its variation."""
        read = pretune.load_scenario(TASKS["digits"])
        return read if self.changed is None else self.changed(read)

    def scenario(self, planning: Mapping[str, Any] | None = None) -> Scenario:
        """The digits example with this scene's variation, to be planned like this."""
        return self.bare.replace(variation=dict(self.variation), planning=None if planning is None else dict(planning))

    def truth(self, seed: int) -> Truth:
        """What a seed's run meets."""
        return Truth(Reality.of(self.scenario(), seed), self.wrong)


def fifty(bare: Scenario) -> Scenario:
    """Fifty devices: each of the ten five times, at gains within 3 dB of its own and a fifth of its data."""
    d, copies = bare.devices, 5
    spread = np.repeat(10.0 ** np.linspace(-0.3, 0.3, copies), len(d))

    def tiled(column: Floats) -> Floats:
        return np.tile(column, copies)

    columns = {
        one.name: tiled(getattr(d, one.name))
        for one in dataclasses.fields(d)
        if isinstance(getattr(d, one.name), np.ndarray) and getattr(d, one.name).shape == (len(d),)
    }
    columns["gain"] = columns["gain"] * spread
    columns["samples"] = np.maximum(columns["samples"] // copies, 1)
    columns["weight"] = columns["weight"] / copies
    names = tuple(f"{name}-{i}" for i in range(copies) for name in d.names)
    fleet = dataclasses.replace(d, **columns, given_names=names)
    # three times the energy for five times the devices: both budgets bind
    return bare.replace(devices=fleet, task=None).with_budget(
        energy_j=3.0 * bare.budget.energy_j, delay_s=bare.budget.delay_s
    )


RICIAN = {"kind": "rician", "k_factor": 3.0}
AWAY = {"mean_up_s": 80 * ROUND_S, "mean_down_s": 40 * ROUND_S}
DRIVE = {
    "waypoints_m": [[50.0, 0.0], [100.0, 0.0]],
    "speed_m_per_s": 50.0 / (110 * ROUND_S),
    "at_end": "stop",
    "cell": {"model": "log_distance", "radius_m": 500.0},
}
SCENES = {
    scene.name: scene
    for scene in (
        Scene(
            name="rayleigh",
            hard="Rayleigh fading, independent from round to round",
            variation={"fading": {"kind": "rayleigh"}},
        ),
        Scene(
            name="shadowed",
            hard="Rician fading (K = 3) and log-normal shadowing of 6 dB that lasts for a third of the run",
            variation={"fading": RICIAN, "shadowing": {"std_db": 6, "correlation_s": 40 * ROUND_S}},
        ),
        Scene(
            name="absences",
            hard="every device is away for a third of the time, for 40 rounds at a time (Rician, K = 3)",
            variation={"fading": RICIAN, "availability": AWAY},
        ),
        Scene(
            name="lost",
            hard="four of the ten devices are gone for good from round 30 on, which nobody foresaw (Rician, K = 3)",
            variation={"fading": RICIAN},
            wrong=Wrong(gone=True, who=(0, 2, 5, 8), first=30),
        ),
        Scene(
            name="hot",
            hard="clocks throttle to half with the heat, computing times are log-normal (σ = 0.3), Rician, K = 3",
            variation={
                "fading": RICIAN,
                "jitter": {"kind": "lognormal", "sigma": 0.3},
                "throttling": {
                    "resistance_k_per_w": 100.0,
                    "time_constant_s": 20 * ROUND_S,
                    "from_k": 5.0,
                    "to_k": 30.0,
                    "floor": 0.5,
                },
            },
        ),
        Scene(
            name="leaving",
            hard="all devices drive from 50 m to 100 m: 11 dB less by the end of the run (Rician, K = 3)",
            variation={"fading": RICIAN, "mobility": DRIVE},
        ),
        Scene(
            name="gains below",
            hard="the gains are 6 dB below what the scenario says (Rician, K = 3)",
            variation={"fading": RICIAN},
            wrong=Wrong(gain=10.0**-0.6),
        ),
        Scene(
            name="gains above",
            hard="the gains are 6 dB above what the scenario says (Rician, K = 3)",
            variation={"fading": RICIAN},
            wrong=Wrong(gain=10.0**0.6),
        ),
        Scene(
            name="lying clocks",
            hard="three devices compute twice as long as their clocks say (Rician, K = 3)",
            variation={"fading": RICIAN},
            wrong=Wrong(slow=2.0, who=(1, 4, 6)),
        ),
        Scene(
            name="fifty",
            hard="fifty devices, Rician (K = 3) with lasting shadowing of 6 dB, away for a third of the time",
            variation={
                "fading": RICIAN,
                "shadowing": {"std_db": 6, "correlation_s": 40 * ROUND_S},
                "availability": AWAY,
            },
            changed=fifty,
            trains=0,
        ),
    )
}
