"""The parts of a scenario beside the devices: workload, server, radio and budget."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from pretune.fields import Quantity
from pretune.parts import Part
from pretune.problems import Problems

THERMAL_NOISE = 10.0 ** (-17.4) * 1e-3
"""-174 dBm/Hz in W/Hz: thermal noise ``k T`` at 290 K, rounded as everyone rounds it."""


class Access(StrEnum):
    """How the devices share the uplink."""

    FDMA = "fdma"
    TDMA = "tdma"


class Shares(StrEnum):
    """How an uplink band that all devices share is divided."""

    EQUAL = "equal"
    OPTIMAL = "optimal"


class Workload(Part):
    """What one sample and one exchange of the model cost."""

    flops_per_sample: Annotated[
        float, Quantity(noun="number of operations", unit="flop", example="72 MFLOP", si=7.2e7)
    ] = Field(description="Floating-point operations for one sample, forward and backward, Φ.")
    upload_bits: Annotated[float, Quantity(noun="amount of data", unit="bit", example="19.2 Mbit", si=1.92e7)] = Field(
        description="What a device uploads each round, S."
    )
    download_bits: Annotated[float, Quantity(noun="amount of data", unit="bit", example="2.4 MB", si=1.92e7)] = Field(
        default=math.nan, description="What the server broadcasts each round."
    )

    @model_validator(mode="after")
    def _download_as_upload(self) -> Self:
        if "download_bits" not in self.model_fields_set:
            self.__dict__["download_bits"] = self.upload_bits  # the model is frozen, and this is not a change
        return self


class Server(Part):
    """The edge server: its processor, its general data, its transmitter."""

    capacitance: Annotated[float, Quantity(noun="capacitance", unit="W/Hz^3", example="1e-27 W/Hz^3", si=1e-27)] = (
        Field(description="Effective switched capacitance κ: the processor draws κ f³ while computing.")
    )
    flops_per_cycle: Annotated[
        float, Quantity(noun="number of operations", unit="flop/cycle", example="2048 FLOP/cycle", si=2048)
    ] = Field(description="Floating-point operations per clock cycle, C.")
    max_clock_hz: Annotated[float, Quantity(noun="frequency", unit="Hz", example="1.5 GHz", si=1.5e9)] = Field(
        description="Highest clock."
    )
    static_power_w: Annotated[float, Quantity(noun="power", unit="W", example="5 W", si=5, zero=True)] = Field(
        default=0.0, description="Power drawn while computing, beside κ f³."
    )
    samples: Annotated[int, Quantity(noun="of samples", unit="", si=60000, whole=True)] = Field(
        description="Samples in the general data set: the largest pre-training batch."
    )
    transmit_power_w: Annotated[float, Quantity(noun="power", unit="W", example="43 dBm", si=20)] = Field(
        description="Power of the broadcast."
    )


class Radio(Part):
    """What all links have in common."""

    access: Access = Field(
        default=Access.FDMA, description="`fdma`: uploads side by side; `tdma`: one after the other."
    )
    noise_psd_w_per_hz: Annotated[
        float, Quantity(noun="noise density", unit="W/Hz", example="-174 dBm/Hz", si=4e-21)
    ] = Field(default=THERMAL_NOISE, description="Power spectral density of the noise, N₀.")
    broadcast_bandwidth_hz: Annotated[float, Quantity(noun="frequency", unit="Hz", example="20 MHz", si=2e7)] = Field(
        description="Bandwidth of the broadcast."
    )
    uplink_bandwidth_hz: Annotated[float, Quantity(noun="frequency", unit="Hz", example="20 MHz", si=2e7)] | None = (
        Field(
            default=None,
            description="Band that the uploads share, with `fdma`; devices then have no `bandwidth_hz` of their own.",
        )
    )
    bandwidth_shares: Shares = Field(
        default=Shares.OPTIMAL,
        description="Only with `uplink_bandwidth_hz`: `optimal` lets the plan decide each device's share; "
        "`equal` gives all the same.",
    )

    @model_validator(mode="after")
    def _band_agrees(self) -> Self:
        problems, given = Problems(), self.uplink_bandwidth_hz
        if given is None and "bandwidth_shares" in self.model_fields_set:
            problems.say(
                "bandwidth_shares: is given, should be left out where there is no uplink_bandwidth_hz to share"
            )
        if given is not None and self.access is not Access.FDMA:
            problems.holds("uplink_bandwidth_hz", given, "null: with tdma each upload has the device's bandwidth_hz")
        problems.refuse()
        return self

    @property
    def shares_decided(self) -> bool:
        """Whether the devices' bandwidths are decisions of the plan."""
        return self.uplink_bandwidth_hz is not None and self.bandwidth_shares is Shares.OPTIMAL


class Budget(Part):
    """What may be spent, over both stages."""

    energy_j: Annotated[float, Quantity(noun="energy", unit="J", example="2 kJ", si=2000)] = Field(
        description="Energy of the server and all devices together."
    )
    delay_s: Annotated[float, Quantity(noun="time", unit="s", example="10 min", si=600)] = Field(
        description="Time from the first pre-training round to the last update."
    )
