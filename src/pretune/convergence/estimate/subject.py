"""What is measured: a model, its loss, and the sub-samples of both sides that stand for all of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pretune.convergence.constants import EstimateSettings
from pretune.errors import InputError
from pretune.physics.types import Floats

Data = tuple[Tensor, Tensor]
PerSampleLoss = Callable[[Tensor, Tensor], Tensor]

SLICE = 1024
"""Samples at a time where only their mean gradient is wanted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A copy of the model with the samples it is looked at with.

    `exact` says that these are all samples there are, so that means over them have no sampling error.
    """

    model: nn.Module
    loss: PerSampleLoss
    general: Data
    devices: Sequence[Data]
    exact: bool
    weights: Floats
    settings: EstimateSettings
    seed: int

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The trainable ones, in the model's order."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @property
    def shares(self) -> list[tuple[Data, float]]:
        """Each device's samples and its weight."""
        return list(zip(self.devices, self.weights.tolist(), strict=True))

    def side(self, data: Data) -> int:
        """How many samples are on the side, server or devices, that `data` belongs to."""
        return len(data[0]) if data is self.general else sum(len(device[0]) for device in self.devices)

    def weighted(self, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and targets of all devices with each sample's weight, at most about `most` of them."""
        xs, ys, shares = [], [], []
        for (x, y), share in self.shares:
            count = min(len(x), max(1, round(most * share)))
            xs.append(x[:count])
            ys.append(y[:count])
            shares.append(torch.full((count,), share / count, dtype=self.parameters[0].dtype))
        return torch.cat(xs), torch.cat(ys), torch.cat(shares)


def subject_of(
    model: nn.Module,
    loss: PerSampleLoss,
    general: Data,
    devices: Sequence[Data],
    weights: Floats,
    settings: EstimateSettings,
    seed: int,
    rng: np.random.Generator,
) -> Subject:
    """The model copied, the samples chosen: `settings.samples` a side at most, the devices' dealt by weight.

    Raises:
        InputError: the model has batch norm, or nothing to train.
    """
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
        raise InputError("task.model: has batch norm, so single samples have no gradient; use group or layer norm")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("task.model: has no trainable parameters, should have some to measure gradients of")
    most = _dealt(weights, settings.samples)
    return Subject(
        model=copy.deepcopy(model).train(),
        loss=loss,
        general=_some(general, settings.samples, rng),
        devices=[_some(data, count, rng) for data, count in zip(devices, most, strict=True)],
        exact=takes_all(general, devices, weights, settings.samples),
        weights=weights,
        settings=settings,
        seed=seed,
    )


def takes_all(general: Data, devices: Sequence[Data], weights: Floats, samples: int) -> bool:
    """Whether so many samples a side are all there are."""
    dealt = _dealt(weights, samples)
    return len(general[0]) <= samples and all(len(data[0]) <= most for data, most in zip(devices, dealt, strict=True))


def _dealt(weights: Floats, samples: int) -> list[int]:
    """The most samples of each device, by weight."""
    return [max(2, round(samples * share)) for share in weights.tolist()]


def _some(data: Data, most: int, rng: np.random.Generator) -> Data:
    """The samples in another order, at most `most` of them."""
    chosen = torch.from_numpy(rng.permutation(len(data[0]))[:most])
    return data[0][chosen], data[1][chosen]


def mean_gradient(subject: Subject, data: Data) -> tuple[Tensor, float]:
    """Gradient of the mean loss over `data` (flat, float64), and that mean loss.

    Raises:
        InputError: the model or the loss fails on the samples, or the loss has no gradient.
    """
    parameters = subject.parameters
    total, losses = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64), 0.0
    for x, y in pieces(data, SLICE):
        value = summed_loss(subject, x, y)
        slope = gradient_of(value, parameters)
        total += torch.cat([part.flatten() for part in slope]).double()
        losses += float(value.detach())
    return total / len(data[0]), losses / len(data[0])


def pieces(data: Data, size: int) -> Iterator[Data]:
    """The samples in slices of at most `size`."""
    for first in range(0, len(data[0]), size):
        window = slice(first, first + size)
        yield data[0][window], data[1][window]


def summed_loss(subject: Subject, x: Tensor, y: Tensor) -> Tensor:
    """The sum of the single samples' losses.

    Raises:
        InputError: the model or the loss fails on them, or does not give one loss per sample.
    """
    try:
        losses = subject.loss(subject.model(x), y)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise InputError(
            f"task: the model or its loss fails on samples of shape {tuple(x.shape[1:])} ({first_line(error)}); "
            "general and task data should have the shapes and labels that the model expects"
        ) from error
    if not isinstance(losses, Tensor) or losses.shape != (len(x),):
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise InputError(f"task.loss: gives {shape}, should give one loss per sample, shape ({len(x)},)")
    return losses.sum()


def gradient_of(value: Tensor, parameters: Sequence[Tensor], *, twice: bool = False) -> tuple[Tensor, ...]:
    """The gradient of a scalar, zero where it does not depend on a parameter; `twice` if it is differentiated again.

    Raises:
        InputError: the scalar can't be differentiated.
    """
    try:
        return torch.autograd.grad(value, parameters, create_graph=twice, materialize_grads=True)
    except RuntimeError as error:
        order = "twice, which the smoothness needs" if twice else "by its parameters"
        raise InputError(f"task.loss: can't be differentiated {order} ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """What an exception says, short enough for one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def sgd(subject: Subject, batch: Data, step: float) -> None:
    """One plain SGD step in place on the batch's mean loss."""
    slope = gradient_of(summed_loss(subject, *batch) / len(batch[0]), subject.parameters)
    with torch.no_grad():
        for parameter, part in zip(subject.parameters, slope, strict=True):
            parameter.add_(part, alpha=-step)


def drawn(pool: Sequence[Data], shares: Floats, batch: int, rng: np.random.Generator) -> Data:
    """A batch drawn with replacement: whose sample by share, which one uniformly."""
    counts = rng.multinomial(batch, shares)
    xs, ys = [], []
    for (x, y), count in zip(pool, counts.tolist(), strict=True):
        chosen = torch.from_numpy(rng.integers(len(x), size=count))
        xs.append(x[chosen])
        ys.append(y[chosen])
    return torch.cat(xs), torch.cat(ys)


def stops_of(rounds: int, points: int) -> set[int]:
    """After which rounds of a stage the model is looked at."""
    return {math.ceil(rounds * (i + 1) / points) for i in range(points)} if rounds else set()
