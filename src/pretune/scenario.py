"""The scenario: what is to be planned, validated, frozen, in SI units."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, PlainValidator, ValidationError, ValidationInfo, model_validator

from pretune.constants import Convergence, Criterion
from pretune.device import Device
from pretune.display import html_of
from pretune.errors import InputError
from pretune.fields import Quantity, Text
from pretune.fleet import Fleet, fleet_from_rows
from pretune.measured import Measurements, figure_text, section_of
from pretune.parts import Part, problems_of
from pretune.physics.types import Floats
from pretune.planning import Planning, Under
from pretune.privacy import Privacy
from pretune.problems import Problems, refused, shown
from pretune.robust import worst_case
from pretune.system import Access, Budget, Radio, Server, Shares, Workload
from pretune.trees import plain_tree
from pretune.variation import Variation

__all__ = [
    "Access",
    "Budget",
    "Convergence",
    "Criterion",
    "Device",
    "Fleet",
    "Radio",
    "Scenario",
    "Server",
    "Shares",
    "Workload",
    "load_scenario",
    "scenario_from_dict",
]

FORMAT = 1
MOST_SEGMENTS = 32
MOST_DECIDED = 1000
"""Devices whose probabilities to be asked are decided, at the most."""
FORMAT_SHOULD = f"{FORMAT}, the format of the file that this version reads"
DEVICES_SHOULD = "a list of devices, or {file: fleet.csv}, or {folder: profiles}, or {count: 50, seed: 0, draw: {...}}"


def _read_format(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value != FORMAT:
        raise refused(value, FORMAT_SHOULD)
    return FORMAT


def _read_devices(value: object, info: ValidationInfo) -> Fleet:
    # a radio that is in error is not there: then nobody knows who has a bandwidth
    uplink_hz = info.data["radio"].uplink_bandwidth_hz if "radio" in info.data else math.nan
    if isinstance(value, Fleet):
        return _on_band(value, uplink_hz)
    if isinstance(value, list | tuple):
        return fleet_from_rows(value, uplink_hz)
    if isinstance(value, Mapping) and "file" in value:
        from pretune.fleetfile import fleet_from_file

        return fleet_from_file(value, (info.context or {}).get("base", Path()), uplink_hz)
    if isinstance(value, Mapping) and "folder" in value:
        from pretune.fleetfolder import fleet_from_folder

        return fleet_from_folder(value, (info.context or {}).get("base", Path()), uplink_hz)
    if isinstance(value, Mapping) and ("draw" in value or "count" in value):
        from pretune.population import fleet_from_draw

        return fleet_from_draw(value, uplink_hz)
    raise refused(value, DEVICES_SHOULD)


def _on_band(fleet: Fleet, uplink_hz: float | None) -> Fleet:
    """The fleet on the radio's band; one whose devices have (or lack) bandwidths of their own can't change that."""
    if uplink_hz is None and fleet.uplink_hz is not None:
        raise refused(fleet, "devices with a bandwidth_hz each: radio.uplink_bandwidth_hz is not given")
    if uplink_hz is None or math.isnan(uplink_hz):
        return fleet
    if fleet.uplink_hz is None:
        raise refused(fleet, "devices without bandwidth_hz: they share radio.uplink_bandwidth_hz")
    return fleet.sharing(uplink_hz)


def _read_task(value: object) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, Mapping):
        raise refused(value, "a mapping that describes model and data, or null")
    problems = Problems()
    tree: dict[str, Any] | None = plain_tree(value, problems)
    problems.refuse()
    return tree


class Scenario(Part):
    """A workload, a server, a fleet and its radio, the budgets, and the constants of convergence.

    ``Scenario(name=..., workload=..., ...)`` takes each part as an object or as a mapping, with the rules, units
    and defaults of the scenario file; `devices` also as a `Fleet`.
    """

    pretune: Annotated[int, PlainValidator(_read_format)] = Field(
        description="Format of the file: 1.", examples=[FORMAT_SHOULD]
    )
    name: Annotated[str, Text(noun="a name", example="campus-digits")] = Field(description="Name of the scenario.")
    workload: Workload = Field(description="What one sample and one exchange of the model cost.")
    server: Server = Field(description="The edge server.")
    radio: Radio = Field(description="What all links have in common.")
    devices: Annotated[Fleet, PlainValidator(_read_devices)] = Field(
        description="The edge devices.", examples=[DEVICES_SHOULD]
    )
    budget: Budget = Field(description="What may be spent.")
    convergence: Convergence = Field(description="The constants of the convergence bound, and the steps.")
    schedule: Annotated[int, Quantity(noun="of segments", unit="", si=4, whole=True, most=MOST_SEGMENTS)] = Field(
        default=1, description="Segments of each stage: batch, clock and power are constant within a segment."
    )
    privacy: Privacy | None = Field(
        default=None, description="User-level differential privacy of the fine-tuning; null for none."
    )
    variation: Variation | None = Field(
        default=None, description="How channels and devices vary over a run; null for not at all."
    )
    planning: Planning | None = Field(
        default=None, description="Under what a plan is to hold; null for the scenario's own figures."
    )
    task: Annotated[dict[str, Any] | None, PlainValidator(_read_task)] = Field(
        default=None, description="Model and data, needed only to run, calibrate or profile."
    )
    measured: Measurements | None = Field(
        default=None, description="Where the constants come from: what `pretune calibrate` measured, for information."
    )

    def __init__(self, /, **data: Any) -> None:
        super().__init__(**{"pretune": FORMAT, **data})

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.schedule > 1 and self.convergence.criterion is Criterion.CALIBRATED:
            problems = Problems()
            problems.holds("schedule", self.schedule, "1: a law (criterion calibrated) is not known round by round")
            problems.refuse()
        if self.privacy is not None:
            self._agree_on_privacy()
        if self.variation is not None:
            self.variation.wrong_for(self.devices.names, self.budget.delay_s).refuse()
        if self.planning is not None:
            self._agree_on_planning(self.planning)
        variance = self.convergence.finetune_variance
        if isinstance(variance, tuple) and len(variance) != len(self.devices):
            problems = Problems()
            problems.say(
                f"convergence.finetune_variance: holds {len(variance)} numbers, should hold one number, "
                f"or one for each of the {len(self.devices)} devices"
            )
            problems.refuse()
        for key, found in self.measured.found if self.measured is not None else ():
            most = len(self.devices) if key == "finetune_variance" else 0
            if isinstance(found.value, tuple) and len(found.value) != most:
                problems = Problems()
                should = f"one number{f', or one for each of the {most} devices' if most else ''}"
                problems.say(f"measured.{key}.value: holds {len(found.value)} numbers, should hold {should}")
                problems.refuse()
        if self.schedule > 1 and self.convergence.choices != (1,):
            problems = Problems()
            problems.holds("schedule", self.schedule, "1 with more than one local step (convergence.local_steps)")
            problems.refuse()
        if self.convergence.robust:
            worst_case(self.convergence, self.measured)
        return self

    def _agree_on_planning(self, planning: Planning) -> None:
        """Refuse promises about what is not there, or not covered."""
        problems = Problems()
        if planning.under in (Under.ERGODIC, Under.OUTAGE) and self.variation is None:
            problems.holds("planning.under", planning.under.value, "mean or worst_case: the scenario has no variation")
        if planning.constants_interval and self.convergence.criterion is Criterion.CALIBRATED:
            should = "nothing: criterion calibrated has a law, and no constants"
            problems.holds("planning.constants_interval", planning.constants_interval, should)
        if planning.under is Under.PARTICIPATION:
            self._agree_on_participation(planning, problems)
        if planning.confidence is not None:
            if self.variation is not None and self.variation.trace is not None:
                problems.holds("planning.confidence", planning.confidence, "null: a trace is not random")
            if np.isfinite(self.devices.battery_j).any():
                should = "null where devices have batteries: theirs are kept in the mean"
                problems.holds("planning.confidence", planning.confidence, should)
        problems.refuse()

    def _agree_on_participation(self, planning: Planning, problems: Problems) -> None:
        """Refuse what probabilities to be asked with are not worked out for."""
        where = "where planning.under is participation"
        if self.radio.access is not Access.FDMA:
            problems.holds("radio.access", self.radio.access.value, f"fdma {where}")
        if self.radio.shares_decided:
            problems.holds("radio.uplink_bandwidth_hz", self.radio.uplink_bandwidth_hz, f"nothing {where}")
        if self.schedule > 1:
            problems.holds("schedule", self.schedule, f"1 {where}")
        if self.convergence.choices != (1,):
            problems.holds("convergence.local_steps", self.convergence.local_steps, f"1 {where}")
        if self.privacy is not None:
            problems.holds("privacy", "privacy", f"null {where}: its noise is for rounds in which all are asked")
        if len(self.devices) > MOST_DECIDED:
            problems.holds("devices", len(self.devices), f"at most {MOST_DECIDED} devices {where}")
        if planning.confidence is not None and self.variation is not None:
            problems.holds("planning.confidence", planning.confidence, f"null {where} and there is a variation")

    def _agree_on_privacy(self) -> None:
        """Refuse what is not worked out together with private noise."""
        problems = Problems()
        if self.convergence.criterion is Criterion.CALIBRATED:
            should = "trajectory or final with privacy: a law was fitted to runs without its noise"
            problems.holds("convergence.criterion", "calibrated", should)
        if self.schedule > 1:
            problems.holds("schedule", self.schedule, "1 with privacy: segments don't know its noise")
        if self.convergence.choices != (1,):
            should = "1 with privacy: its noise is for one gradient a round"
            problems.holds("convergence.local_steps", self.convergence.local_steps, should)
        problems.refuse()

    @cached_property
    def assumed(self) -> Convergence:
        """The constants that a plan counts with: those in use or, if it is to be robust, the worst there may be."""
        return worst_case(self.convergence, self.measured) if self.convergence.robust else self.convergence

    @cached_property
    def not_as_measured(self) -> tuple[str, ...]:
        """The values in use that are not what was measured, one line each."""
        lines = []
        for key, found in self.measured.found if self.measured is not None else ():
            section = section_of(key)
            used = None if section is None else getattr(getattr(self, section), key)
            needless = key == "heterogeneity" and self.convergence.choices == (1,)
            if section is not None and not needless and (used is None or not found.is_value(used)):
                measured = figure_text(found.value)
                lines.append(f"{section}.{key}: {figure_text(used)} is in use, measured was {measured} on {found.date}")
        return tuple(lines)

    @cached_property
    def finetune_variances(self) -> Floats:
        """Variance of one sample's gradient at each device, shape (K,), read-only."""
        given = np.asarray(self.assumed.finetune_variance, dtype=np.float64)
        column = np.array(np.broadcast_to(given, len(self.devices)))
        column.flags.writeable = False
        return column

    @cached_property
    def defaults(self) -> tuple[str, ...]:
        """The keys that took a physical default, as lines ``server.static_power_w = 0.0``."""
        lines = []
        for part in ("workload", "server", "radio", "convergence"):
            model = getattr(self, part)
            for key in type(model).model_fields:
                unused = (part == "radio" and self._bandless(key)) or key in (
                    "law",
                    "robust",
                    "local_steps",
                    "heterogeneity",
                )
                if key not in model.model_fields_set and not unused:
                    value = getattr(model, key)
                    text = value.value if isinstance(value, Enum) else "null" if value is None else repr(value)
                    lines.append(f"{part}.{key} = {text}")
        return (*lines, *self.devices.defaults)

    @cached_property
    def sha256(self) -> str:
        """Digest of the resolved content: the same for the same scenario, however it was written."""
        tree = {**self._head(), "devices": self.devices.digest}
        if not self.convergence.robust:
            del tree["measured"]  # where a value comes from changes no plan
        for key in ("privacy", "variation", "planning"):
            if getattr(self, key) is None:
                del tree[key]  # as if there were no such key, as below
        if self.schedule == 1:
            del tree["schedule"]  # as if there were no such key: what was planned before there was one stays valid
        return hashlib.sha256(json.dumps(tree, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The resolved scenario as a tree of plain values, SI, every key spelled out; it reads back as the same."""
        tree = self._head()
        absent = [key for key in ("privacy", "measured", "variation", "planning") if getattr(self, key) is None]
        keys = [key for key in Scenario.model_fields if key not in absent]
        return {key: self.devices.to_rows() if key == "devices" else tree[key] for key in keys}

    def _head(self) -> dict[str, Any]:
        # Python mode leaves the task as it is; JSON mode would stumble over texts that are no UTF-8.
        tree = self.model_dump(exclude={"devices": True, "convergence": {"law"}, "variation": True, "planning": True})
        for key in ("variation", "planning"):
            part: Variation | Planning | None = getattr(self, key)
            tree[key] = None if part is None else part.to_dict()
        tree["radio"] = {key: value for key, value in tree["radio"].items() if not self._bandless(key)}
        tree["radio"]["access"] = self.radio.access.value
        if "bandwidth_shares" in tree["radio"]:
            tree["radio"]["bandwidth_shares"] = self.radio.bandwidth_shares.value
        tree["convergence"]["criterion"] = self.convergence.criterion.value
        law = self.convergence.law
        if law is not None:  # else as if there were no such key: what was planned before there was one stays valid
            tree["convergence"]["law"] = law.to_dict()
        if not self.convergence.robust:
            del tree["convergence"]["robust"]
        if self.convergence.local_steps == 1:
            del tree["convergence"]["local_steps"]
        else:
            choices = self.convergence.choices
            tree["convergence"]["local_steps"] = list(choices) if len(choices) > 1 else choices[0]
        if self.convergence.heterogeneity is None:
            del tree["convergence"]["heterogeneity"]
        variance = self.convergence.finetune_variance
        tree["convergence"]["finetune_variance"] = list(variance) if isinstance(variance, tuple) else variance
        if self.measured is not None:
            tree["measured"] = {key: found.to_dict() for key, found in self.measured.found}
        return tree

    def _bandless(self, key: str) -> bool:
        """Whether a key of the radio speaks of a shared band and there is none: as if there were no such key."""
        return self.radio.uplink_bandwidth_hz is None and key in ("uplink_bandwidth_hz", "bandwidth_shares")

    def replace(self, **changes: Any) -> Scenario:
        """The same scenario with other values of some fields, validated again."""
        same = {key: getattr(self, key) for key in self.model_fields_set}
        return Scenario(**{**same, **changes})

    @property
    def finetune_flops(self) -> float:
        """Operations that one sample of a device's batch costs in a round: once for each of its local steps.

        Raises:
            InputError: the number of local steps is not decided; see `settled`.
        """
        return self.workload.flops_per_sample * self.convergence.steps_decided

    def settled(self, local_steps: int | None) -> Scenario:
        """The scenario with the number of local steps that a plan has (None: it names none, and there is no choice).

        Raises:
            InputError: it is none of the scenario's.
        """
        choices = self.convergence.choices
        if local_steps not in choices and (local_steps is not None or len(choices) > 1):
            should = " or ".join(map(str, choices))
            raise InputError.field("plan.finetune.local_steps", local_steps, should)
        if local_steps is None or len(choices) == 1:
            return self
        return self.replace(convergence=self.convergence.settled(local_steps))

    def with_budget(self, *, energy_j: float | str | None = None, delay_s: float | str | None = None) -> Scenario:
        """The same scenario with another budget."""
        energy = self.budget.energy_j if energy_j is None else energy_j
        delay = self.budget.delay_s if delay_s is None else delay_s
        return self.replace(budget={"energy_j": energy, "delay_s": delay})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scenario) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        count = len(self.devices)
        return (
            f"<Scenario {self.name!r}: {count} device{'s' * (count != 1)}, {self.radio.access.value}, "
            f"{self.budget.energy_j:g} J, {self.budget.delay_s:g} s, {self.convergence.criterion.value}>"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return html_of(self, "scenario_html")


def scenario_from_dict(tree: Mapping[str, Any], base: str | os.PathLike[str] | None = None) -> Scenario:
    """The scenario that a file's tree describes; `base` is the folder that relative fleet files are in.

    Raises:
        InputError: one line per bad field.
    """
    known = Scenario.model_fields
    if not isinstance(tree, Mapping) or ("pretune" not in tree and not known.keys() & set(tree)):
        raise InputError(f"the scenario: holds {shown(tree)}, should hold a mapping with the keys {', '.join(known)}")
    if "scenario_sha256" in tree:
        raise InputError("the scenario: holds a plan, should hold the scenario that the plan was made for")
    try:
        return Scenario.model_validate(dict(tree), context={"base": Path(base or "")})
    except ValidationError as error:
        raise problems_of(Scenario, error).error() from None


def load_scenario(path: str | os.PathLike[str]) -> Scenario:
    """Read a scenario from a YAML, TOML or JSON file.

    Raises:
        InputError: the file can't be read, or one line per bad field.
    """
    from pretune.loader import read_tree

    return scenario_from_dict(read_tree(path), Path(path).parent)
