"""The numbers of a scenario as lower bounds need them, and the boxes that a bound is for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pretune.convergence.criteria import ConvergenceCriterion, criterion_of, device_noise
from pretune.physics import cost, link
from pretune.physics.types import Floats
from pretune.scenario import Access, Scenario
from pretune.uplinks import shortest_shared

SAME = 1e-9
Boxes = Floats
"""Boxes as rows ``m1, m2, n1, n2, s1, s2``: rounds ``m1..m2 x n1..n2``, fine-tuning rounds of length ``s1..s2``.

The length is a round's time without the broadcast: the span for FDMA, the compute phase and all uploads for TDMA.
"""


@dataclass(frozen=True, kw_only=True)
class System:
    """The scenario's numbers as the bound needs them; arrays have shape (K,), SI units."""

    cycles: Floats
    noise: Floats
    span: Floats
    exponent_max: Floats
    variance: Floats
    server_cycles: float
    down_s: float
    down_j: float
    scenario: Scenario
    criterion: ConvergenceCriterion

    @property
    def tdma(self) -> bool:
        """Whether uploads take turns."""
        return self.scenario.radio.access is Access.TDMA

    @property
    def band_hz(self) -> float | None:
        """The band that the plan shares out, if it does."""
        radio = self.scenario.radio
        return radio.uplink_bandwidth_hz if radio.shares_decided else None

    @cached_property
    def shortest(self) -> float:
        """No fine-tuning round of one sample each takes less, broadcast (and, with TDMA, uploads) apart."""
        computing = self.cycles / self.scenario.devices.max_clock_hz
        if self.tdma:
            return float(computing.max())
        if self.band_hz is None:
            return float((computing + self.span / self.exponent_max).max())
        return shortest_shared(computing, self.span, self.exponent_max)

    @cached_property
    def up_s(self) -> float:
        """Seconds that all uploads take at the least where they take turns; zero where they don't."""
        return float((self.span / self.exponent_max).sum()) if self.tdma else 0.0


def system_of(scenario: Scenario) -> System:
    """The numbers of a scenario."""
    fleet, work, radio = scenario.devices, scenario.workload, scenario.radio
    # a shared band: the links as if each device had all of it
    band_hz = radio.uplink_bandwidth_hz if radio.shares_decided else None
    bandwidth_hz = fleet.bandwidth_hz if band_hz is None else np.full(len(fleet), band_hz)
    noise = radio.noise_psd_w_per_hz * bandwidth_hz / fleet.gain
    down = cost.broadcast(scenario)
    asked = 1.0 if fleet.asked is None else fleet.asked
    return System(
        cycles=scenario.finetune_flops / fleet.flops_per_cycle,
        noise=asked * noise,
        span=work.upload_bits * link.LN2 / bandwidth_hz,
        exponent_max=np.log1p(fleet.max_power_w / noise),
        variance=device_noise(scenario),
        server_cycles=work.flops_per_sample / scenario.server.flops_per_cycle,
        down_s=down.time_s,
        down_j=down.energy_j,
        scenario=_in_the_mean(scenario),
        criterion=criterion_of(scenario),
    )


def _in_the_mean(scenario: Scenario) -> Scenario:
    """The scenario with what drawing power costs in the mean over who is asked; all else as it is."""
    fleet = scenario.devices
    if fleet.asked is None:
        return scenario
    columns = {key: fleet.asked * getattr(fleet, key) for key in ("capacitance", "static_power_w", "circuit_power_w")}
    return scenario.replace(devices=replace(fleet, **columns))
