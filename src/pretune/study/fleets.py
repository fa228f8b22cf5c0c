"""What the study is about: its tasks, and fleets drawn from documented ranges (docs/study_settings.md has the sources).

A `Setting` is a task with a fleet; `scenario_of` makes it a scenario. What is varied beside the draw itself:

- `spread` h: every device's clock and gain becomes ``m (x/m)^h`` with m the fleet's geometric mean, its samples
  ``m + h (x - m)`` with the arithmetic mean. 0 is a fleet of equal devices, 1 the fleet as drawn;
- `gain_db` and `clock_factor`: how much better or worse all links and processors are;
- `band_hz`: the band that all uploads share, split by the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pretune.errors import InputError
from pretune.fleet import Fleet
from pretune.physics.types import Floats
from pretune.population import fleet_from_draw
from pretune.scenario import Scenario, scenario_from_dict

CLASSES = 10
PAYLOAD_BITS_PER_WEIGHT = 32


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """A task of the study: its section, its model's sizes, and how much data there is to deal out."""

    section: Mapping[str, Any]
    inputs: int
    hidden: int
    general: int
    train: int
    constants: Mapping[str, float] | None = None
    """What `trajectory` and `final` need, as the shipped scenario of the task has them (measured); else None."""

    @property
    def weights(self) -> int:
        """Parameters of the model, one hidden layer."""
        return self.inputs * self.hidden + self.hidden + self.hidden * CLASSES + CLASSES

    @property
    def flops(self) -> int:
        """Operations for one sample, forward and backward: 2 a weight for either, but no gradient of the inputs.

        The figure that examples/measure_demo.py measures for these models.
        """
        return 4 * (self.inputs * self.hidden + self.hidden * CLASSES) + 2 * self.hidden * CLASSES


def _constants(
    smoothness: float, gap: float, shift: float, step: float, server: float, devices: float, pl: float
) -> dict[str, float]:
    return {
        "smoothness": smoothness,
        "initial_gap": gap,
        "shift": shift,
        "pretrain_step": step,
        "finetune_step": step,
        "pretrain_variance": server,
        "finetune_variance": devices,
        "pl_constant": pl,
    }


TASKS: Mapping[str, TaskKind] = {
    "digits": TaskKind(
        section={"name": "digits", "rotation_deg": 20.0, "test_samples": 600, "model": {"kind": "mlp", "hidden": 64}},
        inputs=64,
        hidden=64,
        general=697,
        train=500,
        constants=_constants(9.53, 2.35, 0.805, 0.05, 23.2, 22.9, 0.21),
    ),
    "mnist-usps": TaskKind(
        section={"name": "mnist-usps", "model": {"kind": "mlp", "hidden": 32}},
        inputs=784,
        hidden=32,
        general=60000,
        train=7291,
        constants=_constants(30.8, 2.33, 2.46, 0.03, 129.0, 86.9, 0.722),
    ),
    "mnist-rotated": TaskKind(
        section={"name": "mnist-rotated", "rotation_deg": 30.0, "model": {"kind": "mlp", "hidden": 32}},
        inputs=784,
        hidden=32,
        general=30000,
        train=30000,
    ),
    "cifar10-corrupted": TaskKind(
        section={
            "name": "cifar10-corrupted",
            "corruption": "contrast",
            "severity": 4,
            "model": {"kind": "mlp", "hidden": 32},
        },
        inputs=3072,
        hidden=32,
        general=7500,
        train=7500,
        constants=_constants(35.8, 2.32, 1.13, 0.01, 469.0, 203.0, 0.21),
    ),
}
"""The tasks by name. `constants` are those of examples/digits.yaml and experiments/scenarios."""

SAMPLES = (60, 120, 180)
CLOCK_HZ = (0.5e9, 2.0e9)
CAPACITANCE = (1e-28, 1e-27)
FLOPS_PER_CYCLE = (1.0, 2.0, 4.0)
POWER = "23 dBm"
CELL = {"model": "umi", "carrier_hz": 3.5e9, "radius_m": 150.0}
SERVER = {
    "capacitance": 1.0e-26,
    "flops_per_cycle": 1,
    "max_clock_hz": 0.4e9,
    "transmit_power_w": "30 dBm",
}
RADIO = {"access": "fdma", "noise_psd_w_per_hz": "-174 dBm/Hz", "broadcast_bandwidth_hz": 20e6}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A task and a fleet for it. `alpha` None deals the data out iid, else by Dirichlet; `rotation_deg` None is the
    task's own."""

    task: str = "digits"
    rotation_deg: float | None = None
    count: int = 10
    fleet_seed: int = 1
    spread: float = 1.0
    band_hz: float = 20e6
    gain_db: float = 0.0
    clock_factor: float = 1.0
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError.field("task", self.task, "one of " + ", ".join(TASKS))
        if self.rotation_deg == self.kind.section.get("rotation_deg"):  # the same setting, so the same key
            object.__setattr__(self, "rotation_deg", None)

    @property
    def kind(self) -> TaskKind:
        """The task."""
        return TASKS[self.task]

    @property
    def key(self) -> dict[str, Any]:
        """As plain data, for caches."""
        return asdict(self)

    @property
    def section(self) -> dict[str, Any]:
        """The scenario's `task` section."""
        scheme: dict[str, Any] = {"scheme": "iid", "seed": 0}
        if self.alpha is not None:
            scheme = {"scheme": "dirichlet", "alpha": self.alpha, "seed": 0}
        turned = {} if self.rotation_deg is None else {"rotation_deg": self.rotation_deg}
        return {**self.kind.section, **turned, "partition": scheme}


def fleet_of(setting: Setting) -> Fleet:
    """The devices of a setting, on the band that they share.

    Samples are cut in proportion where the task has fewer than were drawn.

    Raises:
        InputError: a device would be left without a sample.
    """
    drawn = fleet_from_draw(
        {
            "count": setting.count,
            "seed": setting.fleet_seed,
            "draw": {
                "samples": {"choice": list(SAMPLES)},
                "gain": {"cell": CELL},
                "max_power_w": POWER,
                "max_clock_hz": {"uniform": list(CLOCK_HZ)},
                "capacitance": {"loguniform": list(CAPACITANCE)},
                "flops_per_cycle": {"choice": list(FLOPS_PER_CYCLE)},
            },
        },
        setting.band_hz,
    )
    held = np.asarray(drawn.samples, dtype=np.float64)
    held = np.maximum(np.round(held.mean() + setting.spread * (held - held.mean())), 1.0)
    held = np.floor(held * min(1.0, setting.kind.train / held.sum()))
    if held.min() < 1.0:
        raise InputError.field("count", setting.count, f"at most {setting.kind.train}, a sample each")
    return Fleet.from_columns(
        uplink_hz=setting.band_hz,
        samples=held.astype(np.int64),
        gain=_spread(drawn.gain, setting.spread) * 10.0 ** (setting.gain_db / 10.0),
        max_power_w=drawn.max_power_w,
        max_clock_hz=_spread(drawn.max_clock_hz, setting.spread) * setting.clock_factor,
        capacitance=drawn.capacitance,
        flops_per_cycle=drawn.flops_per_cycle,
    )


def _spread(values: Floats, spread: float) -> Floats:
    """Logarithms spread about their mean."""
    logs = np.log(values)
    spread_out: Floats = np.exp(logs.mean() + spread * (logs - logs.mean()))
    return spread_out


def scenario_of(setting: Setting) -> Scenario:
    """The scenario of a setting, with a budget that stands for none and constants that only bounds need.

    Where the task has no measured constants there are stand-ins, which the criterion `calibrated` does not use but for
    the variance, as the unit that its law's noise is told in.
    """
    kind = setting.kind
    constants = kind.constants or _constants(1.0, 2.3, 1.0, 0.01, 100.0, 100.0, 0.5)
    return scenario_from_dict(
        {
            "pretune": 1,
            "name": setting.task,
            "workload": {
                "flops_per_sample": kind.flops,
                "upload_bits": PAYLOAD_BITS_PER_WEIGHT * kind.weights,
                "download_bits": PAYLOAD_BITS_PER_WEIGHT * kind.weights,
            },
            "server": {**SERVER, "samples": kind.general},
            "radio": {**RADIO, "uplink_bandwidth_hz": setting.band_hz},
            "devices": fleet_of(setting).to_rows(),
            "budget": {"energy_j": 1e9, "delay_s": 1e9},
            "convergence": {"criterion": "final", **constants},
            "task": setting.section,
        }
    )
