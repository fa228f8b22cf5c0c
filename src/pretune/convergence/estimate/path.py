"""A short run of both stages, and what is seen at a few models along it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretune.convergence.estimate.smoothness import flat_model, secant, top_curvature
from pretune.convergence.estimate.subject import Data, Subject, drawn, mean_gradient, sgd, stops_of
from pretune.convergence.estimate.variance import effective_rank, variance
from pretune.errors import InputError
from pretune.physics.types import Floats

_UNKNOWN = 10.0
"""Stands for the relative error of a variance from a single sample, about which nothing is known."""

START, PRETRAIN, FINETUNE = "start", "pretrain", "finetune"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found at one model of the path.

    `shift_sq` and `apart_sq` (the devices' gradients from their mean, squared and averaged by weight), corrected for
    noise, may come out negative; `secant` is the change of the task gradient since the look
    before per change of the model (0 at the first); `device_variance` has one figure per device. The `..._error` are
    standard errors of what choosing other samples would change (at most, for those two); zero where all are taken.
    """

    stage: str
    round_: int
    task_loss: float
    gradient_norm_sq: float
    shift_sq: float
    apart_sq: float
    pretrain_variance: float
    device_variance: tuple[float, ...]
    curvature: float
    secant: float
    shift_error: float
    apart_error: float
    pretrain_error: float
    device_error: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """For a file; numbers read back to the bit."""
        return asdict(self)

    @staticmethod
    def from_dict(tree: Mapping[str, Any]) -> Look:
        """The look that `to_dict` wrote.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(tree, Mapping) or set(tree) != {field.name for field in fields(Look)}:
            raise ValueError("not a look")
        lists: dict[str, Any] = {key: tuple(tree[key]) for key in ("device_variance", "device_error")}
        numbers = {key: tree[key] for key in tree if key not in ("stage", "round_", *lists)}
        if not all(
            isinstance(value, float) for value in (*numbers.values(), *(v for part in lists.values() for v in part))
        ):
            raise ValueError("not numbers")
        return Look(stage=str(tree["stage"]), round_=int(tree["round_"]), **lists, **numbers)


def looks_on_path(rounds: Sequence[int], points: int) -> int:
    """How many looks a path of these rounds of both stages takes."""
    return 1 + sum(len(stops_of(stage, points)) for stage in rounds)


def walk(
    subject: Subject,
    general: Data,
    devices: Sequence[Data],
    steps: tuple[float, float],
    rng: np.random.Generator,
    *,
    known: Sequence[Look] = (),
    seen: Callable[[Look], None] = lambda look: None,
) -> list[Look]:
    """Train `subject.model` through both stages with plain SGD and look at it at the stops.

    Args:
        subject: the model and the samples it is looked at with.
        general: all samples of the server, which the first stage draws from.
        devices: all samples of each device.
        steps: step sizes of both stages.
        rng: draws the batches.
        known: the first looks, from an earlier start of this very path: the path is walked, the looking is spared.
        seen: called with every new look.

    Raises:
        InputError: the loss is not finite, does not depend on the parameters, or the path diverges.
    """
    looks: list[Look] = []
    last: tuple[Tensor, Tensor] | None = None
    settings = subject.settings
    stage_of = [(PRETRAIN, settings.pretrain_rounds, steps[0], [general], np.ones(1))]
    stage_of.append((FINETUNE, settings.finetune_rounds, steps[1], list(devices), subject.weights))

    def stop(stage: str, round_: int) -> None:
        nonlocal last
        if len(looks) < len(known):
            looks.append(known[len(looks)])
            # the next secant starts here
            last = (flat_model(subject), _task_gradient(subject)) if len(looks) == len(known) else None
            return
        found, last = _look(subject, stage, round_, last)
        looks.append(found)
        seen(found)

    stop(START, 0)
    for stage, rounds, step, pool, shares in stage_of:
        stops = stops_of(rounds, settings.points)
        for round_ in range(1, rounds + 1):
            sgd(subject, drawn(pool, shares, settings.batch, rng), step)
            if round_ in stops:
                stop(stage, round_)
    return looks


def _task_gradient(subject: Subject) -> Tensor:
    total = torch.zeros(sum(p.numel() for p in subject.parameters), dtype=torch.float64)
    for data, share in subject.shares:
        total.add_(mean_gradient(subject, data)[0], alpha=share)
    return total


def _look(
    subject: Subject, stage: str, round_: int, last: tuple[Tensor, Tensor] | None
) -> tuple[Look, tuple[Tensor, Tensor]]:
    """Gradients, variances and curvature at the current model; and the model with its task gradient.

    The squared distance of the two mean gradients is too large by the variances of both means, which are subtracted
    where the means are over sub-samples; the devices' distance from their mean likewise.
    """
    ours, general_loss = mean_gradient(subject, subject.general)
    theirs = torch.zeros_like(ours)
    variances: list[float] = []
    errors: list[float] = []
    noise, task_loss, squares, scatter = 0.0, 0.0, 0.0, 0.0
    for data, share in subject.shares:
        mean, mean_loss = mean_gradient(subject, data)
        _refuse_non_finite(mean_loss, float(mean.square().sum()), stage)
        theirs.add_(mean, alpha=share)
        spread, error = variance(subject, data, mean)
        variances.append(spread)
        errors.append(min(error, _UNKNOWN * spread))
        noise += share**2 * variances[-1] / len(data[0])
        squares += share * float(mean.square().sum())
        scatter += share * (1.0 - share) * variances[-1] / len(data[0])
        task_loss += share * mean_loss
    _refuse_non_finite(general_loss, float(ours.square().sum()), stage)
    pretrain_variance, pretrain_error = variance(subject, subject.general, ours)
    noise += pretrain_variance / len(subject.general[0])
    noise, scatter = (0.0, 0.0) if subject.exact else (noise, scatter)
    shift_sq = float((ours - theirs).square().sum()) - noise
    norm_sq = float(theirs.square().sum())
    apart_sq = squares - norm_sq - scatter if len(subject.shares) > 1 else 0.0
    rank = effective_rank(subject, subject.general) if noise > 0.0 or scatter > 0.0 else 1.0
    if stage == START and norm_sq == 0.0 and pretrain_variance == 0.0:
        raise InputError("task.loss: does not change with the model's parameters: all its gradients are zero")
    here = (flat_model(subject), theirs)
    curvature = top_curvature(subject)
    _refuse_non_finite(shift_sq, curvature + pretrain_variance + sum(variances), stage)
    return Look(
        stage=stage,
        round_=round_,
        task_loss=task_loss,
        gradient_norm_sq=norm_sq,
        shift_sq=shift_sq,
        apart_sq=apart_sq,
        pretrain_variance=pretrain_variance,
        device_variance=tuple(variances),
        curvature=curvature,
        shift_error=_distance_error(shift_sq, noise, rank),
        apart_error=_distance_error(apart_sq, scatter, rank),
        pretrain_error=min(pretrain_error, _UNKNOWN * pretrain_variance),
        device_error=tuple(errors),
        secant=0.0 if last is None else secant((last[0], here[0]), (last[1], theirs)),
    ), here


def _distance_error(square: float, noise: float, rank: float) -> float:
    """Standard error of ``|d + e|^2`` for normal e with covariance C: at most ``sqrt(4 d'C d + 2 tr C^2)``.

    `noise` is C's trace: ``tr C^2 = noise^2 / rank``, with the effective rank (of the server's gradient), and ``d'C d``
    is at most ``|d|^2 sqrt(tr C^2)``.
    """
    if noise == 0.0:
        return 0.0
    spread = noise / math.sqrt(rank)
    return math.sqrt(4.0 * max(0.0, square) * spread + 2.0 * spread**2)


def _refuse_non_finite(loss: float, other: float, stage: str) -> None:
    if math.isfinite(loss) and math.isfinite(other):
        return
    if stage == START:
        raise InputError(
            "task.loss: is not finite (or its gradient is not) at the untrained model, should be a finite number for "
            "every sample"
        )
    raise InputError(
        "convergence: the steps are too large to measure with, the loss is no longer finite after some rounds"
    )


def path_rng(seed: int) -> np.random.Generator:
    """The generator of a path and of its sub-samples."""
    return np.random.default_rng(seed)


def gap_slopes(looks: Sequence[Look], floor: float) -> Floats:
    """The Polyak-Lojasiewicz ratio ``|grad F|^2 / (2 (F - floor))`` at each look.

    Raises:
        InputError: the task loss is at or below what was given as its lower estimate.
    """
    losses = np.array([look.task_loss for look in looks])
    if losses.min() <= floor:
        raise InputError.field(
            "floor", floor, f"a lower estimate of the task loss, which came down to {losses.min():g}"
        )
    ratios: Floats = np.array([look.gradient_norm_sq for look in looks]) / (2.0 * (losses - floor))
    return ratios
