"""The constants of the convergence criteria, measured on a model and its data (math.md section 2).

A short run of both stages is made from the untrained model, and along it, at a few points, gradients, variances
and curvature are taken. What the theory needs as a bound for all models is thus known for the models near one path
only: the figures are measurements, not guarantees, and each says how it was taken.

This file needs PyTorch and is not imported by the package itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.flop_counter import FlopCounterMode

from pretune.convergence.constants import Constants, EstimateSettings, Measured
from pretune.errors import InputError
from pretune.physics.types import Floats

Data = tuple[Tensor, Tensor]
PerSampleLoss = Callable[[Tensor, Tensor], Tensor]

_FLOATS_AT_ONCE = 2**21
"""Bound on (samples at a time) x (parameters) where every sample has a gradient of its own: fits a cache."""
_SLICE = 1024
"""Samples at a time where only their mean gradient is wanted."""


@dataclass(frozen=True, kw_only=True)
class _Point:
    """What was found at one model; `shift_sq`, corrected for noise, may come out negative."""

    stage: str
    task_loss: float
    gradient_norm_sq: float
    shift_sq: float
    pretrain_variance: float
    device_variance: Floats
    smoothness: float


def estimate(
    model: nn.Module,
    loss: PerSampleLoss,
    *,
    general: Data,
    devices: Sequence[Data],
    weights: Floats,
    pretrain_step: float,
    finetune_step: float,
    settings: EstimateSettings | None = None,
    seed: int = 0,
) -> Constants:
    """Measure all constants. Nothing is changed: neither `model`, nor any global generator.

    Args:
        model: the untrained model.
        loss: one loss per sample, from the model's output and the targets.
        general: inputs and targets at the server.
        devices: inputs and targets of each of the K devices.
        weights: the devices' shares in the task's objective, shape (K,), sum 1.
        pretrain_step: step size of the path's first stage.
        finetune_step: step size of its second stage.
        settings: how much is measured.
        seed: of the path and of all sub-samples.

    Raises:
        InputError: the model has batch norm (its samples have no gradients of their own), or the path diverges.
    """
    settings = settings or EstimateSettings()
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
        raise InputError("task.model: has batch norm, so single samples have no gradient; use group or layer norm")
    rng = np.random.default_rng(seed)
    most = [max(2, round(settings.samples * share)) for share in weights.tolist()]
    model = copy.deepcopy(model).train()
    probe = _Probe(
        model=model,
        loss=loss,
        general=_some(general, settings.samples, rng),
        devices=[_some(data, count, rng) for data, count in zip(devices, most, strict=True)],
        exact=len(general[0]) <= settings.samples
        and all(len(data[0]) <= count for data, count in zip(devices, most, strict=True)),
        weights=weights,
        settings=settings,
        seed=seed,
    )
    points = [probe.look("start")]
    for stage, rounds, step, pool, shares in (
        ("pretrain", settings.pretrain_rounds, pretrain_step, [general], np.ones(1)),
        ("finetune", settings.finetune_rounds, finetune_step, list(devices), weights),
    ):
        stops = {math.ceil(rounds * (i + 1) / settings.points) for i in range(settings.points)} if rounds else set()
        for round_ in range(1, rounds + 1):
            _sgd(model, loss, _drawn(pool, shares, settings.batch, rng), step)
            if round_ in stops:
                points.append(probe.look(stage))
    return _constants(points, probe, weights, settings)


def _constants(points: list[_Point], probe: _Probe, weights: Floats, settings: EstimateSettings) -> Constants:
    """From the points to the constants.

    Averages where a criterion adds up over rounds what each round contributes: variances, the squared shift, and also
    the PL constant, because the gap shrinks by the product of ``1 - eta mu_m``, about ``exp(-eta sum_m mu_m)``; of
    the two stages' averages the smaller. The extreme for the smoothness, which limits the step sizes.
    """
    first = [point for point in points if point.stage != "finetune"]
    second = [point for point in points if point.stage == "finetune"] or points[-1:]
    by_device = np.mean([point.device_variance for point in second], axis=0)
    pooled = [float(point.device_variance @ weights) for point in second]
    shift_sq = [point.shift_sq for point in first]
    curvature = [point.smoothness for point in points]
    start_gap = points[0].task_loss - settings.floor
    slopes = [[_slope(point, settings.floor) for point in stage] for stage in (first, second)]
    every_slope = [value for stage in slopes for value in stage]
    data = (
        "all samples" if probe.exact else f"{settings.samples} samples a side, corrected for the noise of choosing them"
    )
    return Constants(
        smoothness=_measured(
            settings.margin * max(curvature),
            curvature,
            f"largest Hessian eigenvalue of the task loss at {len(points)} models (power iteration, "
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
            float(np.mean([point.pretrain_variance for point in first])),
            [point.pretrain_variance for point in first],
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
        flops_per_sample=_exact(probe.flops(), "forward and backward pass, counted by PyTorch's flop counter"),
        upload_bits=_exact(probe.bits(trainable_only=True), "one gradient: the trainable parameters, uncompressed"),
        download_bits=_exact(probe.bits(trainable_only=False), "all parameters and buffers, uncompressed"),
        device_variance=tuple(by_device.tolist()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Probe:
    """Looks at the model as it is at the moment."""

    model: nn.Module
    loss: PerSampleLoss
    general: Data
    devices: Sequence[Data]
    exact: bool
    weights: Floats
    settings: EstimateSettings
    seed: int

    def look(self, stage: str) -> _Point:
        """Gradients, variances and curvature at the current model."""
        ours, ours_sq, _ = self._gradients(self.general)
        theirs = torch.zeros_like(ours)
        variances, noise, task_loss = [], 0.0, 0.0
        for data, share in _zip(self.devices, self.weights):
            mean, mean_sq, mean_loss = self._gradients(data)
            variance = self._variance(mean, mean_sq, len(data[0]))
            theirs.add_(mean, alpha=share)
            variances.append(variance)
            noise += share**2 * variance / len(data[0])
            task_loss += share * mean_loss
        pretrain_variance = self._variance(ours, ours_sq, len(self.general[0]))
        noise += pretrain_variance / len(self.general[0])
        shift_sq = float((ours - theirs).square().sum()) - (0.0 if self.exact else noise)
        if not math.isfinite(task_loss) or not math.isfinite(shift_sq):
            raise InputError(
                "convergence: the steps are too large to measure with, the loss is no longer finite after some rounds"
            )
        return _Point(
            stage=stage,
            task_loss=task_loss,
            gradient_norm_sq=float(theirs.square().sum()),
            shift_sq=shift_sq,
            pretrain_variance=pretrain_variance,
            device_variance=np.array(variances),
            smoothness=self._smoothness(),
        )

    def _gradients(self, data: Data) -> tuple[Tensor, float, float]:
        """Mean gradient (flat, float64), mean squared norm of the single samples' gradients, mean loss."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        x, y = data
        total, losses = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64), 0.0
        for first in range(0, len(x), _SLICE):
            window = slice(first, first + _SLICE)
            value = self.loss(self.model(x[window]), y[window]).sum()
            slope = torch.autograd.grad(value, parameters, materialize_grads=True)
            total += torch.cat([part.flatten() for part in slope]).double()
            losses += float(value.detach())
        return total / len(x), self._single_norms(data), losses / len(x)

    def _single_norms(self, data: Data) -> float:
        """Mean squared norm of single samples' gradients, over the side's share of `single_samples`."""
        count = max(2, math.ceil(self.settings.single_samples * len(data[0]) / self._side(data)))
        x, y = data[0][:count], data[1][:count]
        wanted = {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}
        others = {name: p.detach() for name, p in self.model.named_parameters() if not p.requires_grad}
        others |= dict(self.model.named_buffers())

        def value(wanted: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            output = functional_call(self.model, {**wanted, **others}, (x.unsqueeze(0),))
            return self.loss(output, y.unsqueeze(0))[0]

        def norm_sq(wanted: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            slope: dict[str, Tensor] = grad(value)(wanted, x, y)
            return torch.stack([part.square().sum() for part in slope.values()]).sum()

        norms = vmap(norm_sq, in_dims=(None, 0, 0), randomness="error")
        step = max(1, min(512, _FLOATS_AT_ONCE // sum(p.numel() for p in wanted.values())))
        total = 0.0
        try:
            for first in range(0, len(x), step):
                total += float(norms(wanted, x[first : first + step], y[first : first + step]).double().sum())
        except RuntimeError as error:
            why = str(error).splitlines()[0]
            raise InputError(f"task.model: the gradients of single samples can't be taken ({why})") from error
        return total / len(x)

    def _side(self, data: Data) -> int:
        """How many samples are on the side, server or devices, that `data` belongs to."""
        return len(data[0]) if data is self.general else sum(len(device[0]) for device in self.devices)

    def _variance(self, mean: Tensor, mean_sq: float, count: int) -> float:
        """Trace of the covariance of one sample's gradient.

        With all samples at hand, what is drawn from (with replacement) is known and divided by n; a sub-sample is
        divided by n - 1.
        """
        spread = max(0.0, mean_sq - float(mean.square().sum()))
        return spread if self.exact or count < 2 else spread * count / (count - 1)

    def _smoothness(self) -> float:
        """The largest absolute eigenvalue of the task loss's Hessian, from below, by power iteration."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(self.seed)
        most = self.settings.curvature_samples
        x, y, share = self._weighted(most)
        vector = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        value, before = 0.0, -1.0
        for _ in range(self.settings.iterations):
            norm = math.sqrt(sum(float(part.square().sum()) for part in vector))
            if norm == 0.0 or abs(value - before) <= 1e-3 * abs(value):
                break
            vector = [part / norm for part in vector]
            product = [torch.zeros_like(p) for p in parameters]
            for first in range(0, len(x), 512):
                window = slice(first, first + 512)
                total = torch.dot(self.loss(self.model(x[window]), y[window]), share[window])
                slope = torch.autograd.grad(total, parameters, create_graph=True, materialize_grads=True)
                along = sum(((s * v).sum() for s, v in zip(slope, vector, strict=True)), start=torch.zeros(()))
                # a model that is linear in a parameter leaves nothing to differentiate for it
                again = torch.autograd.grad(along, parameters, materialize_grads=True)
                product = [old + new for old, new in zip(product, again, strict=True)]
            before, value = value, math.sqrt(sum(float(part.square().sum()) for part in product))
            vector = product
        return value

    def _weighted(self, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and targets of all devices with each sample's weight, at most about `most` of them."""
        xs, ys, shares = [], [], []
        for (x, y), share in _zip(self.devices, self.weights):
            count = min(len(x), max(1, round(most * share)))
            xs.append(x[:count])
            ys.append(y[:count])
            shares.append(torch.full((count,), share / count, dtype=next(self.model.parameters()).dtype))
        return torch.cat(xs), torch.cat(ys), torch.cat(shares)

    def flops(self) -> float:
        """FLOPs of a forward and a backward pass per sample (a multiplication and an addition are two)."""
        count = min(8, len(self.general[0]))
        model = copy.deepcopy(self.model)
        with FlopCounterMode(display=False) as counter:
            total = self.loss(model(self.general[0][:count]), self.general[1][:count]).sum()
            torch.autograd.grad(total, [p for p in model.parameters() if p.requires_grad], materialize_grads=True)
        return float(counter.get_total_flops()) / count

    def bits(self, *, trainable_only: bool) -> float:
        """What one transfer of the gradient or of the whole model takes, uncompressed."""
        tensors: list[Tensor] = [p for p in self.model.parameters() if p.requires_grad or not trainable_only]
        if not trainable_only:
            tensors.extend(self.model.buffers())
        return float(sum(8 * tensor.element_size() * tensor.numel() for tensor in tensors))


def _slope(point: _Point, floor: float) -> float:
    """The Polyak-Lojasiewicz ratio at one model.

    Raises:
        InputError: the task loss is at or below what was given as its lower estimate.
    """
    gap = point.task_loss - floor
    if gap <= 0.0:
        raise InputError.field(
            "floor", floor, f"a lower estimate of the task loss, which came down to {point.task_loss:g}"
        )
    return point.gradient_norm_sq / (2.0 * gap)


def _some(data: Data, most: int, rng: np.random.Generator) -> Data:
    """The samples in another order, at most `most` of them."""
    chosen = torch.from_numpy(rng.permutation(len(data[0]))[:most])
    return data[0][chosen], data[1][chosen]


def _drawn(pool: Sequence[Data], shares: Floats, batch: int, rng: np.random.Generator) -> Data:
    """A batch drawn with replacement: whose sample by share, which one uniformly."""
    counts = rng.multinomial(batch, shares)
    xs, ys = [], []
    for (x, y), count in zip(pool, counts.tolist(), strict=True):
        chosen = torch.from_numpy(rng.integers(len(x), size=count))
        xs.append(x[chosen])
        ys.append(y[chosen])
    return torch.cat(xs), torch.cat(ys)


def _sgd(model: nn.Module, loss: PerSampleLoss, batch: Data, step: float) -> None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    slope = torch.autograd.grad(loss(model(batch[0]), batch[1]).mean(), parameters, materialize_grads=True)
    with torch.no_grad():
        for parameter, part in zip(parameters, slope, strict=True):
            parameter.add_(part, alpha=-step)


def _zip(devices: Sequence[Data], weights: Floats) -> Sequence[tuple[Data, float]]:
    return list(zip(devices, weights.tolist(), strict=True))


def _measured(value: float, seen: Sequence[float], method: str) -> Measured:
    return Measured(value=value, low=min(seen), high=max(seen), method=method)


def _exact(value: float, method: str) -> Measured:
    return Measured(value=value, low=value, high=value, method=method)
