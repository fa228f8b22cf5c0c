"""What a measurement of the convergence constants is asked for, and what it gives (estimate.py measures)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EstimateSettings:
    """How much is measured.

    The path is `pretrain_rounds` SGD steps on general data, then `finetune_rounds` on task data, with `batch` samples
    each (in fine-tuning: in all, dealt to the devices by weight). At most `points` models of either stage are looked
    at. Gradients are means over at most `samples` samples on either side; their variance is taken from at most
    `single_samples` of these, the curvature from at most `curvature_samples` task samples. `margin` is put on the
    smoothness for what lies between the points. `floor` is the lower estimate of the least task loss: 0 is safe for a
    loss that can't be negative.
    """

    pretrain_rounds: int = 200
    finetune_rounds: int = 100
    batch: int = 32
    points: int = 4
    samples: int = 4000
    single_samples: int = 1000
    curvature_samples: int = 1000
    iterations: int = 25
    margin: float = 1.2
    floor: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One constant: its value, the least and the largest value met along the path, and how it was taken."""

    value: float
    low: float
    high: float
    method: str


@dataclass(frozen=True, kw_only=True)
class Constants:
    """All constants of a scenario's `convergence` and `workload` sections that can be measured.

    `finetune_variance` is the average over the devices, by weight; `device_variance` has one figure per device.
    """

    smoothness: Measured
    initial_gap: Measured
    shift: Measured
    pretrain_variance: Measured
    finetune_variance: Measured
    pl_constant: Measured
    flops_per_sample: Measured
    upload_bits: Measured
    download_bits: Measured
    device_variance: tuple[float, ...]

    @property
    def convergence(self) -> Mapping[str, float]:
        """Keys and values for the scenario's `convergence` section."""
        names = ("smoothness", "initial_gap", "shift", "pretrain_variance", "finetune_variance", "pl_constant")
        return {name: getattr(self, name).value for name in names}

    @property
    def workload(self) -> Mapping[str, float]:
        """Keys and values for the scenario's `workload` section."""
        return {name: getattr(self, name).value for name in ("flops_per_sample", "upload_bits", "download_bits")}
