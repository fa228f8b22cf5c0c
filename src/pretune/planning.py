"""Under what a plan is to hold: the scenario's `planning`, read and validated (`pretune.uncertainty` does it)."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pretune.fields import Quantity
from pretune.parts import Part
from pretune.problems import Problems

OUTAGE = 0.05
INTERVAL_DB = 3.0
LEAST_PARTICIPATION = 0.05


class Under(StrEnum):
    """What of the gains and clocks a plan counts with."""

    MEAN = "mean"
    ERGODIC = "ergodic"
    OUTAGE = "outage"
    WORST_CASE = "worst_case"
    PARTICIPATION = "participation"


class Per(StrEnum):
    """What may fail with the probability `outage`."""

    DEVICE = "device"
    ROUND = "round"


_SHARE = Quantity(noun="share", unit="", si=0.05, least=1e-9, most=0.5)
_INTERVAL = Quantity(noun="share", unit="", si=0.1, zero=True, most=0.9)
_KEYS = {
    Under.MEAN: (),
    Under.ERGODIC: ("outage", "per", "confidence"),
    Under.OUTAGE: ("outage", "per"),
    Under.PARTICIPATION: ("least_participation", "confidence"),
    Under.WORST_CASE: ("interval_db", "clock_interval", "compute_interval", "constants_interval"),
}
"""The keys that go with each."""


class Planning(Part):
    """Under what a plan is to hold: the scenario's own figures, or what `variation` makes of them."""

    under: Under = Field(
        description="`mean`: the scenario's own figures; `ergodic`: the energy in the mean, with powers that follow "
        "the channel; `outage`: energy and delay surely, each upload but for a probability; `worst_case`: everything, "
        "within intervals; `participation`: with which probability each device is asked in a round is decided too, and "
        "energy is kept in the mean over who is asked."
    )
    outage: Annotated[float, _SHARE] | None = Field(
        default=None,
        description="Largest probability that a device's round fails (`outage`) or is left out (`ergodic`), while the "
        "device is there; 0.05 without it.",
    )
    per: Per | None = Field(
        default=None,
        description="`device` (without it): the probability is of each device in each round; `round`: of any device "
        "in a round.",
    )
    confidence: Annotated[float, Quantity(noun="probability", unit="", si=0.95, least=0.5, most=0.999999)] | None = (
        Field(
            default=None,
            description="With `ergodic` and `participation`: probability that the whole run keeps its energy budget; "
            "null for the mean.",
        )
    )
    interval_db: Annotated[float, Quantity(noun="number of decibels", unit="", si=3, zero=True, most=60)] | None = (
        Field(default=None, description="With `worst_case`: how much lower any gain may be; 3 without it.")
    )
    clock_interval: Annotated[float, _INTERVAL] | None = Field(
        default=None, description="With `worst_case`: the share by which highest clocks may be lower."
    )
    compute_interval: Annotated[float, _INTERVAL] | None = Field(
        default=None, description="With `worst_case`: the share by which computing may take longer."
    )
    constants_interval: Annotated[float, _INTERVAL] | None = Field(
        default=None, description="With `worst_case`: the share by which the constants of convergence may be worse."
    )

    least_participation: (
        Annotated[float, Quantity(noun="probability", unit="", si=0.05, least=0.001, most=1.0)] | None
    ) = Field(
        default=None,
        description="With `participation`: the least probability that a device may be asked with; 0.05 without it.",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = Problems()
        for key in Planning.model_fields:
            value = getattr(self, key)
            if key != "under" and value is not None and key not in _KEYS[self.under]:
                problems.holds(key, value, f"nothing: under {self.under.value} has none, leave it out")
        problems.refuse()
        return self

    @property
    def share(self) -> float:
        """The probability asked for."""
        return OUTAGE if self.outage is None else self.outage

    @property
    def drop_db(self) -> float:
        """How much lower any gain may be."""
        return INTERVAL_DB if self.interval_db is None else self.interval_db

    @property
    def least_asked(self) -> float:
        """The least probability that a device may be asked with."""
        return LEAST_PARTICIPATION if self.least_participation is None else self.least_participation

    def device_outage(self, devices: int) -> float:
        """The probability that each device gets: that of a round is of all devices together, which are independent."""
        if self.per is not Per.ROUND:
            return self.share
        return -math.expm1(math.log1p(-self.share) / devices)

    def to_dict(self) -> dict[str, Any]:
        """The tree of plain values that reads back as the same."""
        tree = self.model_dump(exclude_none=True)
        return {key: value.value if isinstance(value, StrEnum) else value for key, value in tree.items()}
