"""From a scenario and a decision to what it costs: the energy-delay model of both stages.

This file is the single place where time and energy are added up. The planner optimises it, the checker
recomputes with it, the runtime charges by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretune.physics import compute, link
from pretune.physics.types import Floats
from pretune.scenario import Access, Scenario


@dataclass(frozen=True, kw_only=True)
class PretrainCost:
    """One pre-training round at the server: seconds and joules."""

    time_s: float
    energy_j: float


@dataclass(frozen=True, kw_only=True)
class BroadcastCost:
    """One multicast of the model at the worst device's gain: seconds and joules."""

    time_s: float
    energy_j: float


@dataclass(frozen=True, kw_only=True)
class FinetuneCost:
    """One fine-tuning round. Arrays have shape (K,), one entry per device; totals include the broadcast."""

    time_s: float
    energy_j: float
    broadcast: BroadcastCost
    compute_s: Floats
    compute_j: Floats
    upload_s: Floats
    upload_j: Floats

    @property
    def device_j(self) -> Floats:
        """Joules each device spends in the round, shape (K,): what a battery budget limits."""
        return self.compute_j + self.upload_j


def pretrain_round(scenario: Scenario, batch: float, clock_hz: float) -> PretrainCost:
    """Cost of one pre-training round with `batch` samples at clock `clock_hz`."""
    server, phi = scenario.server, scenario.workload.flops_per_sample
    return PretrainCost(
        time_s=compute.compute_time(float(batch), clock_hz, phi, server.flops_per_cycle),
        energy_j=float(
            compute.compute_energy(
                float(batch), clock_hz, phi, server.flops_per_cycle, server.capacitance, server.static_power_w
            )
        ),
    )


def broadcast_to_each(scenario: Scenario) -> Floats:
    """Seconds of a broadcast that has to reach a device, for each, shape (K,)."""
    radio, gain = scenario.radio, scenario.devices.gain
    return link.airtime(
        scenario.workload.download_bits,
        np.full_like(gain, scenario.server.transmit_power_w),
        gain,
        np.full_like(gain, radio.broadcast_bandwidth_hz),
        radio.noise_psd_w_per_hz,
    )


def broadcast(scenario: Scenario) -> BroadcastCost:
    """One multicast: ``t = S_down / (B_down log2(1 + p_s min_k g_k / (N0 B_down)))``, ``e = p_s t``."""
    time_s = float(broadcast_to_each(scenario).max())
    return BroadcastCost(time_s=time_s, energy_j=scenario.server.transmit_power_w * time_s)


def finetune_round(
    scenario: Scenario, batch: Floats, clock_hz: Floats, power_w: Floats, bandwidth_hz: Floats | None = None
) -> FinetuneCost:
    """Cost of one synchronous fine-tuning round.

    `batch`, `clock_hz`, `power_w` and `bandwidth_hz` have shape (K,); without the last the fleet's own bandwidths
    (equal parts of a shared band) hold. FDMA: ``broadcast + max_k(compute + upload)``;
    TDMA: ``broadcast + max_k compute + sum_k upload``. `batch` is that of one local step; a round computes it as often
    as the scenario has local steps, and uploads and broadcasts once. Where devices are asked with probabilities
    (`Fleet.asked`), joules are in the mean over who is, and the time is that of a round in which all are.
    """
    fleet, radio, work = scenario.devices, scenario.radio, scenario.workload
    if bandwidth_hz is None:
        bandwidth_hz = fleet.bandwidth_hz
    batch = np.asarray(batch, dtype=np.float64)
    flops = scenario.finetune_flops
    compute_s = compute.compute_time(batch, clock_hz, flops, fleet.flops_per_cycle)
    compute_j = compute.compute_energy(
        batch, clock_hz, flops, fleet.flops_per_cycle, fleet.capacitance, fleet.static_power_w
    )
    upload_s = link.airtime(work.upload_bits, power_w, fleet.gain, bandwidth_hz, radio.noise_psd_w_per_hz)
    upload_j = link.upload_energy(power_w, fleet.circuit_power_w, upload_s)
    if fleet.asked is not None:
        compute_j, upload_j = fleet.asked * compute_j, fleet.asked * upload_j
    if radio.access is Access.FDMA:
        span = float((compute_s + upload_s).max())
    else:
        span = float(compute_s.max() + upload_s.sum())
    down = broadcast(scenario)
    return FinetuneCost(
        time_s=down.time_s + span,
        energy_j=down.energy_j + float((compute_j + upload_j).sum()),
        broadcast=down,
        compute_s=compute_s,
        compute_j=compute_j,
        upload_s=upload_s,
        upload_j=upload_j,
    )
