"""A scenario's fleet as the per-round control sees it, and the conditions of one round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pretune.control.kernel import Sheet
from pretune.physics import link
from pretune.physics.types import Bools, Floats
from pretune.scenario import Access, Scenario


class Conditions(Protocol):
    """What a round finds (`pretune.reality.Conditions` is one); all of shape (K,).

    `gain`, `available` and `clock_limit_hz` are known when the round begins, `compute_factor` (how many times longer a
    device computes than its clock says) shows only in how long it took.
    """

    @property
    def gain(self) -> Floats: ...  # noqa: D102
    @property
    def available(self) -> Bools: ...  # noqa: D102
    @property
    def clock_limit_hz(self) -> Floats: ...  # noqa: D102
    @property
    def compute_factor(self) -> Floats: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True, eq=False)
class Fleetwide:
    """What of a scenario does not change from round to round: columns of shape (K,), SI units."""

    cycles: Floats
    """Clock cycles per sample, over all local steps of a round."""
    capacitance: Floats
    static: Floats
    clock_max: Floats
    power_max: Floats
    circuit: Floats
    bandwidth_hz: Floats
    samples: Floats
    upload_bits: float
    download_bits: float
    noise_psd: float
    server_power_w: float
    broadcast_hz: float
    tdma: bool

    @staticmethod
    def of(scenario: Scenario, bandwidth_hz: Floats | None = None) -> Fleetwide:
        """The columns of a scenario (its local steps settled); `bandwidth_hz` where bandwidths are decisions."""
        fleet, radio, work = scenario.devices, scenario.radio, scenario.workload
        return Fleetwide(
            cycles=_column(scenario.finetune_flops / fleet.flops_per_cycle),
            capacitance=_column(fleet.capacitance),
            static=_column(fleet.static_power_w),
            clock_max=_column(fleet.max_clock_hz),
            power_max=_column(fleet.max_power_w),
            circuit=_column(fleet.circuit_power_w),
            bandwidth_hz=_column(fleet.bandwidth_hz if bandwidth_hz is None else bandwidth_hz),
            samples=_column(fleet.samples),
            upload_bits=float(work.upload_bits),
            download_bits=float(work.download_bits),
            noise_psd=float(radio.noise_psd_w_per_hz),
            server_power_w=float(scenario.server.transmit_power_w),
            broadcast_hz=float(radio.broadcast_bandwidth_hz),
            tdma=radio.access is Access.TDMA,
        )

    def __len__(self) -> int:
        return len(self.cycles)

    def noise_w(self, gain: Floats) -> Floats:
        """``N0 B / g`` of all devices; infinity where the gain is zero."""
        with np.errstate(divide="ignore"):
            found: Floats = self.noise_psd * self.bandwidth_hz / gain
        return found

    def broadcast_s(self, gain: Floats) -> float:
        """Seconds of a multicast to devices of these gains (at least one)."""
        worst = float(gain.min())
        return float(link.airtime(self.download_bits, self.server_power_w, worst, self.broadcast_hz, self.noise_psd))

    def fastest_s(self, gain: Floats, clock_limit_hz: Floats, batch: Floats) -> Floats:
        """The least seconds each device could take for its part of a span: a batch and (FDMA) its upload.

        Gains and clocks have to be positive.
        """
        compute: Floats = self.cycles * batch / np.minimum(self.clock_max, clock_limit_hz)
        if self.tdma:
            return compute
        exponent = np.log1p(self.power_max / self.noise_w(gain))
        found: Floats = compute + self.upload_bits * link.LN2 / self.bandwidth_hz / exponent
        return found

    def sheet(
        self,
        who: Bools,
        gain: Floats,
        clock_limit_hz: Floats,
        slowness: Floats,
        low: Floats,
        high: Floats | None = None,
        gamma: Floats | None = None,
        ratio: Floats | None = None,
    ) -> Sheet:
        """The kernel's columns of the devices `who`; all arguments have shape (K,).

        `slowness`: how many times the cycles are planned with. With `high` and `gamma` batches are decisions.
        """
        noise = self.noise_w(gain)[who]
        ones = np.ones(int(who.sum()))
        return Sheet(
            cycles=_column((self.cycles * slowness)[who]),
            capacitance=_column(self.capacitance[who]),
            clock_max=_column(np.minimum(self.clock_max, clock_limit_hz)[who]),
            static=_column(self.static[who]),
            noise=_column(noise),
            span=_column((self.upload_bits * link.LN2 / self.bandwidth_hz)[who]),
            exponent_max=_column(np.log1p(self.power_max[who] / noise)),
            circuit=_column(self.circuit[who]),
            gamma=_column(0.0 * ones if gamma is None else gamma[who]),
            low=_column(low[who]),
            high=_column((low if high is None else high)[who]),
            ratio=_column(ones if ratio is None else ratio[who]),
        )


def _column(values: object) -> Floats:
    return np.array(values, dtype=np.float64, order="C")
