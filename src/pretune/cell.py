"""The `cell` of a drawn population: where devices are, and the gains that follow."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainValidator, model_validator

from pretune import channel
from pretune.fields import Quantity
from pretune.parts import Part
from pretune.physics.types import Floats
from pretune.problems import Problems, refused


class PathLoss(StrEnum):
    """The path-loss model."""

    UMI = "umi"
    UMA = "uma"
    LOG_DISTANCE = "log_distance"


class Sight(StrEnum):
    """Whether devices see the base station."""

    PROBABILISTIC = "probabilistic"
    ALWAYS = "always"
    NEVER = "never"


def _read_switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise refused(value, "true or false")
    return value


_STREETS = {PathLoss.UMI: channel.UMI, PathLoss.UMA: channel.UMA}
_HEIGHTS = {PathLoss.UMI: 10.0, PathLoss.UMA: 25.0}
_NEAREST = {PathLoss.UMI: 10.0, PathLoss.UMA: 35.0, PathLoss.LOG_DISTANCE: 35.0}


class Cell(Part):
    """One cell: devices spread evenly over a ring around the base station, gains by path loss and shadowing.

    The base heights and the smallest distances are those of 3GPP TR 38.901, Tables 7.2-1 and 7.4.1-1.
    """

    model: PathLoss = Field(
        description="`umi` or `uma`: 3GPP TR 38.901 street canyon or macro cell; `log_distance`: "
        "128.1 + 37.6 log₁₀(d/km) dB, a macro cell at 2 GHz."
    )
    radius_m: Annotated[float, Quantity(noun="length", unit="m", example="250 m", si=250, most=5000)] = Field(
        description="Largest horizontal distance of a device."
    )
    min_distance_m: (
        Annotated[float, Quantity(noun="length", unit="m", example="10 m", si=10, least=1.0, most=5000)] | None
    ) = Field(default=None, description="Smallest horizontal distance of a device.")
    carrier_hz: (
        Annotated[float, Quantity(noun="frequency", unit="Hz", example="3.5 GHz", si=3.5e9, least=5e8, most=1e11)]
        | None
    ) = Field(default=None, description="Carrier; `umi` and `uma` need it, `log_distance` is for 2 GHz.")
    base_height_m: (
        Annotated[float, Quantity(noun="length", unit="m", example="10 m", si=10, least=2.0, most=150)] | None
    ) = Field(default=None, description="Height of the base station's antenna (`umi` and `uma`).")
    device_height_m: (
        Annotated[float, Quantity(noun="length", unit="m", example="1.5 m", si=1.5, least=1.5, most=13)] | None
    ) = Field(default=None, description="Height of the devices (`umi` and `uma`).")
    line_of_sight: Sight | None = Field(
        default=None,
        description="`probabilistic`: by TR 38.901 Table 7.4.2-1; `always`; `never` (`umi` and `uma`).",
    )
    shadowing: Annotated[bool, PlainValidator(_read_switch)] = Field(
        default=True, description="Whether log-normal shadowing is added."
    )
    shadowing_db: Annotated[float, Quantity(noun="number of decibels", unit="", si=8, zero=True, most=50)] | None = (
        Field(default=None, description="Standard deviation of the shadowing.")
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = Problems()
        if self.model is PathLoss.LOG_DISTANCE:
            for key in ("carrier_hz", "base_height_m", "device_height_m", "line_of_sight"):
                if getattr(self, key) is not None:
                    problems.holds(key, getattr(self, key), "nothing: log_distance has none, leave it out")
        elif self.carrier_hz is None:
            problems.missing("carrier_hz", f"the carrier, which {self.model.value} needs, such as '3.5 GHz' or 3.5e9")
        if self.nearest_m >= self.radius_m:
            problems.holds("radius_m", self.radius_m, f"more than min_distance_m = {self.nearest_m:g}")
        if self.shadowing_db is not None and not self.shadowing:
            problems.holds("shadowing_db", self.shadowing_db, "nothing: shadowing is false")
        problems.refuse()
        return self

    @property
    def nearest_m(self) -> float:
        """The inner radius of the ring."""
        return _NEAREST[self.model] if self.min_distance_m is None else self.min_distance_m

    @property
    def base_m(self) -> float:
        """The height of the base station's antenna."""
        return _HEIGHTS.get(self.model, 0.0) if self.base_height_m is None else self.base_height_m

    @property
    def device_m(self) -> float:
        """The height of the devices."""
        return 1.5 if self.device_height_m is None else self.device_height_m

    @property
    def defaults(self) -> tuple[str, ...]:
        """The keys that took a default, as lines ``min_distance_m = 10.0``."""
        taken: dict[str, object] = {}
        if self.min_distance_m is None:
            taken["min_distance_m"] = self.nearest_m
        if self.model in _STREETS:
            if self.base_height_m is None:
                taken["base_height_m"] = self.base_m
            if self.device_height_m is None:
                taken["device_height_m"] = self.device_m
            if self.line_of_sight is None:
                taken["line_of_sight"] = Sight.PROBABILISTIC.value
        if self.shadowing_db is None and "shadowing" not in self.model_fields_set:
            taken["shadowing"] = "true, as strong as the model says"
        return tuple(f"{key} = {value}" for key, value in taken.items())

    def draw_gains(self, rng: np.random.Generator, count: int) -> Floats:
        """Channel power gains of `count` devices, shape (K,).

        Positions, sight and shadowing are drawn in this order, each for all devices, so that switching one
        of the later ones leaves the earlier ones as they were.
        """
        distance_m = channel.drop_in_annulus(rng, count, self.nearest_m, self.radius_m)
        street = _STREETS.get(self.model)
        sigma_db: Floats = np.full(count, channel.LOG_DISTANCE_SHADOWING_DB)
        clear = np.zeros(count, dtype=np.bool_)
        if street is not None:
            clear = channel.draw_los(rng, street, distance_m)
            if self.line_of_sight in (Sight.ALWAYS, Sight.NEVER):
                clear = np.full(count, self.line_of_sight is Sight.ALWAYS)
            sigma_db = np.where(clear, street.los_shadowing_db, street.nlos_shadowing_db)
        loss_db = self.loss_db(distance_m, clear)
        if self.shadowing_db is not None:
            sigma_db = np.full(count, self.shadowing_db)
        if self.shadowing:
            loss_db = loss_db + sigma_db * rng.standard_normal(count)
        return channel.gain_of(loss_db)

    def loss_db(self, distance_m: Floats, clear: NDArray[np.bool_]) -> Floats:
        """Path loss in dB, without shadowing, at horizontal distances of shape (K,); line of sight where `clear`."""
        street = _STREETS.get(self.model)
        if street is None:
            return channel.log_distance_loss(distance_m)
        carrier_hz = self.carrier_hz or math.nan  # the validator saw to it that there is one
        geometry = {"carrier_hz": carrier_hz, "base_height_m": self.base_m, "device_height_m": self.device_m}
        los_db = channel.los_loss(street, distance_m, **geometry)
        return np.where(clear, los_db, channel.nlos_loss(street, distance_m, **geometry))
