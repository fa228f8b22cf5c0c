"""One edge device: its processor, its radio link, its data."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pretune.fields import Quantity, Text, mark_of
from pretune.parts import Part

NAME = Text(noun="a name", example="cam-1")


class Device(Part):
    """One edge device: its processor, its radio link, its data."""

    name: Annotated[str, NAME] | None = Field(default=None, description="Name, unique in the fleet.")
    capacitance: Annotated[float, Quantity(noun="capacitance", unit="W/Hz^3", example="1e-28 W/Hz^3", si=1e-28)] = (
        Field(description="Effective switched capacitance κ: the processor draws κ f³ while computing.")
    )
    flops_per_cycle: Annotated[
        float, Quantity(noun="number of operations", unit="flop/cycle", example="8 FLOP/cycle", si=8)
    ] = Field(description="Floating-point operations per clock cycle, C.")
    max_clock_hz: Annotated[float, Quantity(noun="frequency", unit="Hz", example="1.2 GHz", si=1.2e9)] = Field(
        description="Highest clock."
    )
    static_power_w: Annotated[float, Quantity(noun="power", unit="W", example="50 mW", si=0.05, zero=True)] = Field(
        default=0.0, description="Power drawn while computing, beside κ f³."
    )
    max_power_w: Annotated[float, Quantity(noun="power", unit="W", example="23 dBm", si=0.2)] = Field(
        description="Highest transmit power."
    )
    circuit_power_w: Annotated[float, Quantity(noun="power", unit="W", example="50 mW", si=0.05, zero=True)] = Field(
        default=0.0, description="Power drawn while transmitting, beside the transmit power."
    )
    gain: Annotated[float, Quantity(noun="power ratio", unit="", example="-105 dB", si=3.1e-11)] = Field(
        description="Channel power gain g between device and server, the same both ways."
    )
    bandwidth_hz: Annotated[float, Quantity(noun="frequency", unit="Hz", example="2 MHz", si=2e6)] | None = Field(
        default=None,
        description="Uplink bandwidth: with FDMA the device's own share, with TDMA the band it has in its turn. "
        "Left out where the radio has `uplink_bandwidth_hz`.",
    )
    samples: Annotated[int, Quantity(noun="of samples", unit="", si=600, whole=True)] = Field(
        description="Samples in the device's data set: the largest batch."
    )
    weight: Annotated[float, Quantity(noun="weight", unit="", si=0.1, most=1.0)] | None = Field(
        default=None,
        description="Weight α of the device in the objective. All devices give one, summing to one, or none does.",
    )
    battery_j: Annotated[float, Quantity(noun="energy", unit="J", example="0.5 Wh", si=1800)] | None = Field(
        default=None, description="Energy that the device may spend over all rounds; null for no limit."
    )


QUANTITIES = {key: mark for key, field in Device.model_fields.items() if isinstance(mark := mark_of(field), Quantity)}
"""Unit and range of each numeric key."""
REQUIRED = frozenset(key for key, field in Device.model_fields.items() if field.is_required()) | {"bandwidth_hz"}
