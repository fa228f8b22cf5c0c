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

from pretune.errors import InputError
from pretune.fields import Quantity, Text
from pretune.fleet import Device, Fleet, fleet_from_rows
from pretune.parts import Part, refusal
from pretune.physics.types import Floats
from pretune.problems import Problems, shown

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
    "Workload",
    "load_scenario",
    "scenario_from_dict",
]

FORMAT = 1
ROOM_TEMPERATURE_NOISE = 10.0 ** (-17.4) * 1e-3
"""-174 dBm/Hz in W/Hz: thermal noise ``k T`` at 290 K, rounded as everyone rounds it."""


class Access(str, Enum):
    """How the devices share the uplink."""

    FDMA = "fdma"
    TDMA = "tdma"


class Criterion(str, Enum):
    """What a plan minimises (math.md section 2)."""

    TRAJECTORY = "trajectory"
    FINAL = "final"
    CALIBRATED = "calibrated"


class Workload(Part):
    """What one sample and one exchange of the model cost."""

    flops_per_sample: Annotated[
        float, Quantity(noun="number of operations", unit="flop", example="72 MFLOP", si=7.2e7)
    ] = Field(description="Operations for one sample, forward and backward, Φ.")
    upload_bits: Annotated[float, Quantity(noun="amount of data", unit="bit", example="19.2 Mbit", si=1.92e7)] = Field(
        description="What a device uploads each round, S."
    )
    download_bits: Annotated[float, Quantity(noun="amount of data", unit="bit", example="2.4 MB", si=1.92e7)] = Field(
        default_factory=lambda data: data.get("upload_bits", math.nan),
        description="What the server broadcasts each round; `upload_bits` by default.",
    )


class Server(Part):
    """The edge server: its processor, its data, its transmitter."""

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
    ] = Field(default=ROOM_TEMPERATURE_NOISE, description="Noise power spectral density N₀.")
    broadcast_bandwidth_hz: Annotated[float, Quantity(noun="frequency", unit="Hz", example="20 MHz", si=2e7)] = Field(
        description="Bandwidth of the broadcast."
    )


class Budget(Part):
    """What may be spent, over both stages and all devices."""

    energy_j: Annotated[float, Quantity(noun="energy", unit="J", example="2 kJ", si=2000)] = Field(
        description="Energy of server and devices together."
    )
    delay_s: Annotated[float, Quantity(noun="time", unit="s", example="10 min", si=600)] = Field(
        description="Time from the first pre-training step to the last update."
    )


_VARIANCE = Quantity(noun="variance", unit="", si=120, zero=True)
_VARIANCE_SHOULD = _VARIANCE.should + ", or a list with one for each device"


def _read_variance(value: object) -> float | tuple[float, ...]:
    try:
        if not isinstance(value, list | tuple | np.ndarray):
            return _VARIANCE.read(value)
        cells = value.tolist() if isinstance(value, np.ndarray) else list(value)
    except ValueError:
        problems = Problems()
        problems.holds("convergence.finetune_variance", value, _VARIANCE_SHOULD)
        problems.refuse()
    numbers = _VARIANCE.read_cells(cells)
    problems = Problems()
    for i in np.flatnonzero(~_VARIANCE.allows(numbers)).tolist():
        problems.holds(f"convergence.finetune_variance[{i}]", cells[i], _VARIANCE.should)
    problems.refuse()
    return tuple(numbers.tolist())


class Convergence(Part):
    """The constants of the convergence bound and the steps (math.md section 2)."""

    criterion: Criterion = Field(
        default=Criterion.TRAJECTORY,
        description="What a plan minimises: `trajectory`, the average squared gradient norm on the way; `final`, the "
        "optimality gap of the delivered model; `calibrated`, a fit to pilot runs.",
    )
    smoothness: Annotated[float, Quantity(noun="number", unit="", si=10)] = Field(
        description="Smoothness L of the task objective."
    )
    initial_gap: Annotated[float, Quantity(noun="number", unit="", si=2.3, zero=True)] = Field(
        description="Optimality gap Δ of the initial model."
    )
    shift: Annotated[float, Quantity(noun="number", unit="", si=0.7, zero=True)] = Field(
        description="Bound ζ on the gradient shift between the general and the task data."
    )
    pretrain_step: Annotated[float, Quantity(noun="step size", unit="", si=0.01)] = Field(
        description="Step size η₀ of pre-training, at most 1/L."
    )
    finetune_step: Annotated[float, Quantity(noun="step size", unit="", si=0.01)] = Field(
        description="Step size η of fine-tuning, at most 1/L."
    )
    pretrain_variance: Annotated[float, Quantity(noun="variance", unit="", si=100, zero=True)] = Field(
        description="Variance σ₀² of one sample's gradient at the server."
    )
    finetune_variance: Annotated[float | tuple[float, ...], PlainValidator(_read_variance)] = Field(
        description="Variance σₖ² of one sample's gradient at a device: one number, or one for each device."
    )
    pl_constant: Annotated[float, Quantity(noun="number", unit="", si=0.5)] | None = Field(
        default=None, description="Polyak-Łojasiewicz constant μ, at most L; needed by `final`."
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems, largest = Problems(), 1.0 / self.smoothness
        for key in ("pretrain_step", "finetune_step"):
            if getattr(self, key) > largest:
                problems.holds(f"convergence.{key}", getattr(self, key), f"at most 1/smoothness = {largest!r}")
        if self.criterion is Criterion.CALIBRATED:
            problems.holds(
                "convergence.criterion",
                "calibrated",
                "'trajectory' or 'final': it needs `pretune calibrate`, not available yet",
            )
        if self.pl_constant is None and self.criterion is Criterion.FINAL:
            problems.missing(
                "convergence.pl_constant", f"the constant mu of criterion 'final', 0 < mu <= {self.smoothness!r}"
            )
        if self.pl_constant is not None and self.pl_constant > self.smoothness:
            problems.holds("convergence.pl_constant", self.pl_constant, f"at most the smoothness, {self.smoothness!r}")
        problems.refuse()
        return self


def _read_format(value: object) -> int:
    if value != FORMAT or isinstance(value, bool) or not isinstance(value, int):
        problems = Problems()
        problems.holds("pretune", value, f"{FORMAT}, the format that this version reads")
        problems.refuse()
    return FORMAT


def _read_devices(value: object, info: ValidationInfo) -> Fleet:
    if isinstance(value, Fleet):
        return value
    if isinstance(value, list | tuple):
        return fleet_from_rows(value)
    problems = Problems()
    problems.holds("devices", value, "a list of devices, {file: ...}, or {count: ..., seed: ..., draw: {...}}")
    raise ValueError(problems.refuse())


class Scenario(Part):
    """A workload, a server, a fleet and its radio, the budgets, and the constants of convergence."""

    pretune: Annotated[int, PlainValidator(_read_format)] = Field(description="Format of the file: 1.")
    name: Annotated[str, Text(noun="a name", example="campus-digits")] = Field(description="Name of the scenario.")
    workload: Workload = Field(description="What one sample and one exchange of the model cost.")
    server: Server = Field(description="The edge server.")
    radio: Radio = Field(description="What all links have in common.")
    devices: Annotated[Fleet, PlainValidator(_read_devices)] = Field(description="The edge devices.")
    budget: Budget = Field(description="What may be spent.")
    convergence: Convergence = Field(description="The constants of the convergence bound.")
    task: dict[str, Any] | None = Field(
        default=None, description="Model and data, needed only to run, calibrate or profile."
    )

    def __init__(self, /, **data: Any) -> None:
        super().__init__(**{"pretune": FORMAT, **data})

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        variance = self.convergence.finetune_variance
        if isinstance(variance, tuple) and len(variance) != len(self.devices):
            problems = Problems()
            problems.holds(
                "convergence.finetune_variance",
                variance,
                f"one number, or {len(self.devices)} of them, one for each device; there are {len(variance)}",
            )
            problems.refuse()
        return self

    @cached_property
    def finetune_variances(self) -> Floats:
        """Variance of one sample's gradient at each device, shape (K,), read-only."""
        column = np.array(
            np.broadcast_to(np.asarray(self.convergence.finetune_variance, np.float64), len(self.devices))
        )
        column.flags.writeable = False
        return column

    @property
    def defaults(self) -> tuple[str, ...]:
        """The keys that took a physical default, as lines ``server.static_power_w = 0.0``."""
        lines = []
        for part in ("workload", "server", "radio", "convergence"):
            model = getattr(self, part)
            for key in type(model).model_fields:
                if key not in model.model_fields_set:
                    value = getattr(model, key)
                    text = value.value if isinstance(value, Enum) else "null" if value is None else repr(value)
                    lines.append(f"{part}.{key} = {text}")
        return (*lines, *self.devices.defaults)

    @cached_property
    def sha256(self) -> str:
        """Digest of the resolved content: the same for the same scenario, however it was written."""
        head = {**self._head(), "devices": self.devices.digest}
        return hashlib.sha256(json.dumps(head, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The resolved scenario as a tree of plain values, SI, every key spelled out; it reads back as the same."""
        head = self._head()
        return {key: self.devices.to_rows() if key == "devices" else head[key] for key in Scenario.model_fields}

    def _head(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"devices"})

    def replace(self, **changes: Any) -> Scenario:
        """The same scenario with other values of some fields, validated again."""
        same = {key: getattr(self, key) for key in self.model_fields_set}
        return Scenario(**{**same, **changes})

    def with_budget(self, *, energy_j: float | str | None = None, delay_s: float | str | None = None) -> Scenario:
        """The same scenario with another budget."""
        return self.replace(
            budget={
                "energy_j": self.budget.energy_j if energy_j is None else energy_j,
                "delay_s": self.budget.delay_s if delay_s is None else delay_s,
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scenario) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return (
            f"<Scenario {self.name!r}: {len(self.devices)} devices, {self.radio.access.value}, "
            f"{self.budget.energy_j:g} J, {self.budget.delay_s:g} s, {self.convergence.criterion.value}>"
        )

    __str__ = __repr__


def scenario_from_dict(tree: Mapping[str, Any], base: str | os.PathLike[str] | None = None) -> Scenario:
    """The scenario that a file's tree describes; `base` is the folder that relative fleet files are in.

    Raises:
        InputError: one line per bad field.
    """
    if not isinstance(tree, Mapping):
        raise InputError(f"the scenario: holds {shown(tree)}, should hold a mapping with the key 'pretune'")
    try:
        return Scenario.model_validate(dict(tree), context={"base": Path(base) if base else Path()})
    except ValidationError as error:
        raise refusal(Scenario, error) from None


def load_scenario(path: str | os.PathLike[str]) -> Scenario:
    """Read a scenario from a YAML, TOML or JSON file.

    Raises:
        InputError: the file can't be read, or one line per bad field.
    """
    from pretune.loader import read_tree

    return scenario_from_dict(read_tree(path), Path(path).parent)
