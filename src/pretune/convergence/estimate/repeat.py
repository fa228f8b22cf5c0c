"""Repetitions of the measurement, and what they say together: a value and a 95% interval for every constant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.convergence.constants import EstimateSettings, Measured
from pretune.convergence.estimate.distance import Distances
from pretune.convergence.estimate.interval import interval, signed_interval
from pretune.convergence.estimate.path import Look, gap_slopes
from pretune.convergence.estimate.summary import exact, stages
from pretune.physics.types import Floats

LEAST = 3
"""Repetitions that an interval needs: two may agree by luck."""


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One path from a model of its own, the distance of the data, and what was counted."""

    looks: tuple[Look, ...]
    distances: Distances
    flops: float
    upload_bits: float
    download_bits: float

    def to_dict(self) -> dict[str, Any]:
        """For a file; numbers read back to the bit."""
        return {**vars(self), "looks": [look.to_dict() for look in self.looks], "distances": vars(self.distances)}

    @staticmethod
    def from_dict(tree: Mapping[str, Any]) -> Repetition:
        """What `to_dict` wrote.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        numbers = {key: float(tree[key]) for key in ("flops", "upload_bits", "download_bits")}
        return Repetition(
            looks=tuple(Look.from_dict(look) for look in tree["looks"]),
            distances=Distances(**{key: float(tree["distances"][key]) for key in ("between", "general", "task")}),
            **numbers,
        )


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All constants, each with its interval; `device_variance` has one entry per device.

    `pl_constant` is absent where it makes no sense; `notes` say so, and what else deserves a word.
    """

    single: Mapping[str, Measured]
    device_variance: tuple[Measured, ...]
    notes: tuple[str, ...]


def conclude(repetitions: Sequence[Repetition], weights: Floats, settings: EstimateSettings, data: str) -> Figures:
    """The constants from at least `LEAST` repetitions; `data` says how many samples each looked at.

    The value of a mean is the mean over the repetitions of each one's mean along its path (`summary.constants_of` says
    why a mean); its interval is Student's t over the repetitions. Two are no means: the smoothness is the largest
    figure met anywhere, with the margin, up to what a further repetition is expected to stay below; and the initial
    gap lies between what the paths closed of it and the whole loss.
    """
    many = f"{len(repetitions)} repetitions"
    paths = [stages(one.looks) for one in repetitions]
    single: dict[str, Measured] = {}
    notes: list[str] = []

    steepest = [[look.curvature for look in one.looks] for one in repetitions]
    secants = [[look.secant for look in one.looks] for one in repetitions]
    largest = [max(*a, *b) for a, b in zip(steepest, secants, strict=True)]
    value = settings.margin * max(largest)
    single["smoothness"] = Measured(
        value=value,
        low=min(interval(largest)[0], value),
        high=max(value, interval(largest, one_more=True)[1]),
        method=f"largest of the Hessian's top eigenvalue ({max(map(max, steepest)):.3g}) and the secants "
        f"({max(map(max, secants)):.3g}) of the task loss along {many} of the path, times a margin of "
        f"{settings.margin:g}",
    )

    losses = [one.looks[0].task_loss for one in repetitions]
    gaps = [loss - settings.floor for loss in losses]
    closed = [one.looks[0].task_loss - min(look.task_loss for look in one.looks) for one in repetitions]
    single["initial_gap"] = Measured(
        value=float(np.mean(gaps)),
        low=min(max(0.0, signed_interval(closed)[0]), float(np.mean(gaps))),
        high=interval(gaps)[1],
        method=f"task loss of the untrained model less {settings.floor:g}, the lower estimate of the least loss; its "
        f"low end is what the paths closed of it; {many}",
    )

    squares = [float(np.mean([look.shift_sq for look in first])) for first, _ in paths]
    low, high = signed_interval(squares, error=_mean([look.shift_error for first, _ in paths for look in first]))
    single["shift"] = Measured(
        value=_root(high if low <= 0.0 else float(np.mean(squares))),
        low=_root(low),
        high=_root(high),
        method="distance of the gradients on general and on task data, root mean square along pre-training, "
        f"{data}, {many}; met {_span([_root(look.shift_sq) for first, _ in paths for look in first])}",
    )
    if low <= 0.0:
        notes.append(
            "shift: is not told from zero by these samples, so its value is the upper end; more samples lower it"
        )

    single["pretrain_variance"] = _mean_of(
        [[look.pretrain_variance for look in first] for first, _ in paths],
        _mean([look.pretrain_error for first, _ in paths for look in first]),
        "variance of one sample's gradient at the server, mean along pre-training",
        data,
    )
    devices = tuple(
        _mean_of(
            [[look.device_variance[k] for look in second] for _, second in paths],
            _mean([look.device_error[k] for _, second in paths for look in second]),
            "variance of one sample's gradient within each device, mean along fine-tuning",
            data,
        )
        for k in range(len(weights))
    )
    pooled = [[float(np.asarray(look.device_variance) @ weights) for look in second] for _, second in paths]
    errors = [float(np.linalg.norm(np.asarray(look.device_error) * weights)) for _, second in paths for look in second]
    single["finetune_variance"] = _mean_of(
        pooled,
        _mean(errors),
        "variance of one sample's gradient within a device, mean by weight and along fine-tuning",
        data,
    )

    single["heterogeneity"] = _heterogeneity(paths, data, many, notes)

    slopes = [[gap_slopes(stage, settings.floor) for stage in path] for path in paths]
    rates = [min(float(stage.mean()) for stage in path) for path in slopes]
    every = [float(value) for path in slopes for stage in path for value in stage]
    rate = Measured(
        value=float(np.mean(rates)),
        low=interval(rates)[0],
        high=interval(rates)[1],
        method=f"|gradient|^2 / (2 (task loss - {settings.floor:g})), mean along that stage where it is smaller: the "
        f"rate at which the path closes the gap, no bound; {many}; met {_span(every)}",
    )
    if 0.0 < rate.value <= single["smoothness"].value:
        single["pl_constant"] = rate
    else:
        notes.append(
            f"pl_constant: makes no sense here, the ratio that it stands for is {rate.value:.3g} at a smoothness of "
            f"{single['smoothness'].value:.3g}"
        )
    single |= _counted(repetitions, notes)
    single["wasserstein"] = _distance(repetitions, many)
    return Figures(single=single, device_variance=devices, notes=tuple(notes))


def _heterogeneity(paths: Sequence[Any], data: str, many: str, notes: list[str]) -> Measured:
    """Root mean square distance of the devices' gradients from their mean, along fine-tuning where it matters."""
    seconds = [second for _, second in paths]
    if len(seconds[0][0].device_variance) < 2:
        return exact(0.0, "one device is its own mean")
    squares = [float(np.mean([look.apart_sq for look in second])) for second in seconds]
    low, high = signed_interval(squares, error=_mean([look.apart_error for second in seconds for look in second]))
    if low <= 0.0:
        notes.append(
            "heterogeneity: is not told from zero by these samples, so its value is the upper end; more lower it"
        )
    return Measured(
        value=_root(high if low <= 0.0 else float(np.mean(squares))),
        low=_root(low),
        high=_root(high),
        method="distance of the devices' gradients from their mean, root mean square by weight and along fine-tuning, "
        f"{data}, {many}; met {_span([_root(look.apart_sq) for second in seconds for look in second])}",
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _mean_of(along: Sequence[Sequence[float]], error: float, what: str, data: str) -> Measured:
    means = [float(np.mean(one)) for one in along]
    low, high = interval(means, error=error)
    met = _span([value for one in along for value in one])
    method = f"{what}, {data}, {len(along)} repetitions; met {met}"
    return Measured(value=float(np.mean(means)), low=low, high=high, method=method)


def _counted(repetitions: Sequence[Repetition], notes: list[str]) -> dict[str, Measured]:
    one = repetitions[0]
    counted = {
        "upload_bits": exact(one.upload_bits, "one gradient: the trainable parameters, uncompressed"),
        "download_bits": exact(one.download_bits, "all parameters and buffers, uncompressed"),
    }
    if one.flops > 0.0:
        method = "forward and backward pass of one sample, counted by PyTorch's flop counter"
        counted["flops_per_sample"] = exact(one.flops, method)
    else:
        notes.append("flops_per_sample: PyTorch counts none in this model, so the value in use stays")
    return counted


def _distance(repetitions: Sequence[Repetition], many: str) -> Measured:
    """See `distance`: from below less what chance alone sets apart, from above as it is."""
    between = [one.distances.between for one in repetitions]
    less = [one.distances.between - one.distances.general - one.distances.task for one in repetitions]
    apart = float(np.mean([0.5 * (one.distances.general + one.distances.task) for one in repetitions]))
    value = float(np.mean(between))
    return Measured(
        value=value,
        low=min(max(0.0, signed_interval(less)[0]), value),
        high=interval(between)[1],
        method="label-aware Wasserstein-1 distance of general and task samples (POT); two halves of one side are "
        f"{apart:.3g} apart by chance, which the low end leaves out; {many}",
    )


def _root(square: float) -> float:
    return math.sqrt(max(0.0, square))


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.3g} to {max(values):.3g}"
