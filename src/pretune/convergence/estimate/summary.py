"""From the looks along one path to the constants."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pretune.convergence.constants import Constants, EstimateSettings, Measured
from pretune.convergence.estimate.path import FINETUNE, Look, gap_slopes
from pretune.convergence.estimate.subject import Subject
from pretune.convergence.estimate.workload import flops_per_sample, payload_bits
from pretune.physics.types import Floats


def stages(looks: Sequence[Look]) -> tuple[list[Look], list[Look]]:
    """The looks of pre-training, the untrained model among them, and those of fine-tuning (at least one)."""
    second = [look for look in looks if look.stage == FINETUNE] or list(looks[-1:])
    return [look for look in looks if look.stage != FINETUNE], second


def constants_of(looks: Sequence[Look], subject: Subject, weights: Floats, settings: EstimateSettings) -> Constants:
    """The constants that one path shows.

    Averages where a criterion adds up over rounds what each round contributes: variances, the squared shift, and also
    the PL constant, because the gap shrinks by the product of ``1 - eta mu_m``, about ``exp(-eta sum_m mu_m)``; of
    the two stages' averages the smaller. The extreme for the smoothness, which limits the step sizes.
    """
    first, second = stages(looks)
    by_device = np.mean([look.device_variance for look in second], axis=0)
    pooled = [float(np.asarray(look.device_variance) @ weights) for look in second]
    shift_sq = [look.shift_sq for look in first]
    curvature = [look.curvature for look in looks]
    start_gap = looks[0].task_loss - settings.floor
    slopes = [gap_slopes(stage, settings.floor) for stage in (first, second)]
    every_slope = [float(value) for stage in slopes for value in stage]
    data = (
        "all samples"
        if subject.exact
        else f"{settings.samples} samples a side, corrected for the noise of choosing them"
    )
    return Constants(
        smoothness=_measured(
            settings.margin * max(curvature),
            curvature,
            f"largest Hessian eigenvalue of the task loss at {len(looks)} models (power iteration, "
            f"{settings.curvature_samples} samples at most), times a margin of {settings.margin:g}",
        ),
        initial_gap=_measured(
            start_gap,
            [start_gap],
            f"task loss of the untrained model, less {settings.floor:g} as the lower estimate of the least loss",
        ),
        shift=_measured(
            math.sqrt(max(0.0, float(np.mean(shift_sq)))),
            [math.sqrt(max(0.0, value)) for value in shift_sq],
            f"distance of the general and the task gradient, root mean square over {len(first)} models of "
            f"pre-training, {data}",
        ),
        pretrain_variance=_measured(
            float(np.mean([look.pretrain_variance for look in first])),
            [look.pretrain_variance for look in first],
            f"variance of one sample's gradient at the server, mean over {len(first)} models of pre-training, {data}",
        ),
        finetune_variance=_measured(
            float(np.mean(pooled)),
            pooled,
            "variance of one sample's gradient within a device, mean over the devices by weight and over "
            f"{len(second)} models of fine-tuning, {data}",
        ),
        pl_constant=_measured(
            min(float(np.mean(stage)) for stage in slopes),
            every_slope,
            f"|gradient|^2 / (2 (task loss - {settings.floor:g})), mean over the models of that stage where it is "
            f"smaller: the rate at which the path closes the gap, no bound (the least is {min(every_slope):.2g})",
        ),
        flops_per_sample=exact(
            flops_per_sample(subject), "forward and backward pass, counted by PyTorch's flop counter"
        ),
        upload_bits=exact(
            payload_bits(subject, trainable_only=True), "one gradient: the trainable parameters, uncompressed"
        ),
        download_bits=exact(payload_bits(subject, trainable_only=False), "all parameters and buffers, uncompressed"),
        device_variance=tuple(by_device.tolist()),
    )


def _measured(value: float, seen: Sequence[float], method: str) -> Measured:
    return Measured(value=value, low=min(seen), high=max(seen), method=method)


def exact(value: float, method: str) -> Measured:
    """A figure that was counted."""
    return Measured(value=value, low=value, high=value, method=method)
