"""One round's averaged stochastic gradient, in one go or device by device.

``sum_k alpha_k (1/b_k) sum_i grad l(w; x_ki)`` is linear in the samples, so all devices' batches can be computed as
one weighted batch: sample i of device k weighs ``alpha_k / b_k``. That holds while samples do not influence each
other; with batch normalisation they do, and every device computes on its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pretune.errors import InputError
from pretune.runtime.charges import Charge
from pretune.runtime.task import PerSampleLoss, Samples

SLICE = 8192
"""Samples computed at a time: bounds the memory of a round, whatever its batches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradient:
    """An averaged stochastic gradient at the model as it is.

    `loss` is the mean loss of the batches, weighted like the gradient; `parts` has one tensor per trainable
    parameter; `buffers` are the new values of the model's buffers where the batches change them (batch norm).
    With several local steps `loss` and `norm_sq` are those of the first, at the model as it is, `parts` are summed over
    the local steps and `whole_sq` is their squared norm.
    `charge` is what the round cost by the model where that is not what the stage's rounds cost (a device was missing).
    """

    loss: float
    parts: Sequence[Tensor]
    norm_sq: float
    buffers: dict[str, Tensor] = field(default_factory=dict)
    whole_sq: float = 0.0
    charge: Charge | None = None
    norm_known: bool = True
    """Whether `norm_sq` is of the gradient at the model as it is; a federation with local steps does not know."""

    @property
    def finite(self) -> bool:
        """Whether a step along it makes sense."""
        return math.isfinite(self.loss) and math.isfinite(self.norm_sq) and math.isfinite(self.whole_sq)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes, in the model's order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def fused_gradient(
    model: nn.Module, loss: PerSampleLoss, batch: Samples, weights: Tensor, rows: Tensor | None = None
) -> Gradient:
    """The gradient of ``sum_i weights_i loss_i`` over all devices' samples at once; `weights` has shape (n,).

    The samples are all of `batch` or, where they are given, its `rows`, shape (n,): then no more than SLICE of them are
    copied at a time.
    """
    parameters = trainable(model)
    total = 0.0
    parts: Sequence[Tensor] | None = None
    for first in range(0, len(weights), SLICE):
        window = slice(first, first + SLICE)
        some = Samples(x=batch.x[window], y=batch.y[window]) if rows is None else batch.take(rows[window])
        losses = loss(model(some.x), some.y)
        weighted = torch.dot(losses, weights[window].to(losses.dtype))
        found = torch.autograd.grad(weighted, parameters, materialize_grads=True)
        total += float(weighted.detach())
        parts = found if parts is None else [old + new for old, new in zip(parts, found, strict=True)]
    assert parts is not None  # a batch holds at least one sample
    return Gradient(loss=total, parts=parts, norm_sq=norm_sq(parts))


def looped_gradient(
    model: nn.Module, loss: PerSampleLoss, batches: Sequence[Samples], shares: Sequence[float]
) -> Gradient:
    """The same, device by device: ``sum_k shares_k * (mean gradient of batches[k])``.

    Every device begins with the model as it is, buffers included. Floating-point buffers are averaged with the same
    shares, the others (batch norm's counters) are those of the first device. The model is left unchanged.
    """
    parameters = trainable(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    averaged: dict[str, Tensor] = {}
    total, parts = 0.0, [torch.zeros_like(parameter) for parameter in parameters]
    for batch, share in zip(batches, shares, strict=True):
        mean = loss(model(batch.x), batch.y).mean()
        found = torch.autograd.grad(mean, parameters, materialize_grads=True)
        total += share * float(mean.detach())
        for old, new in zip(parts, found, strict=True):
            old.add_(new, alpha=share)
        for name, buffer in model.named_buffers():
            if not buffer.dtype.is_floating_point:
                averaged.setdefault(name, buffer.clone())
            elif name in averaged:
                averaged[name].add_(buffer, alpha=share)
            else:
                averaged[name] = buffer * share
            buffer.copy_(before[name])
    return Gradient(loss=total, parts=parts, norm_sq=norm_sq(parts), buffers=averaged)


def stacked_gradient(
    model: nn.Module,
    loss: PerSampleLoss,
    batches: Sequence[Samples],
    shares: Sequence[float],
    combine: Callable[[Tensor, Tensor], Tensor],
) -> Gradient:
    """The devices' mean gradients, one row each, made one by ``combine(stack, shares)`` (`aggregate`).

    Holds K gradients at once. Only for models whose samples don't influence each other: buffers are not touched.
    """
    parameters = trainable(model)
    stack = torch.empty(len(batches), sum(p.numel() for p in parameters), dtype=parameters[0].dtype)
    total = 0.0
    for row, batch, share in zip(stack, batches, shares, strict=True):
        mean = loss(model(batch.x), batch.y).mean()
        found = torch.autograd.grad(mean, parameters, materialize_grads=True)
        total += share * float(mean.detach())
        torch.cat([part.reshape(-1) for part in found], out=row)
    whole = combine(stack, torch.tensor(shares, dtype=torch.float64))
    pieces = torch.split(whole, [p.numel() for p in parameters])
    parts = [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]
    return Gradient(loss=total, parts=parts, norm_sq=norm_sq(parts))


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no entry is NaN or infinite. The sum is quick, and not finite if an entry is not: then each is seen."""
    return all(
        bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
        for tensor in tensors
        if tensor.dtype.is_floating_point
    )


def norm_sq(parts: Sequence[Tensor]) -> float:
    """The squared Euclidean norm over all tensors together."""
    norms = [float(torch.linalg.vector_norm(part)) for part in parts]
    return sum(norm * norm for norm in norms)


def step(model: nn.Module, gradient: Gradient, size: float) -> None:
    """Plain SGD, in place: ``w <- w - size * gradient``."""
    with torch.no_grad():
        for parameter, part in zip(trainable(model), gradient.parts, strict=True):
            parameter.add_(part, alpha=-size)
        if gradient.buffers:
            for name, buffer in model.named_buffers():
                if name in gradient.buffers:
                    buffer.copy_(gradient.buffers[name])


def probe(model: nn.Module, loss: PerSampleLoss, samples: Samples) -> bool:
    """Try the model on a few samples; returns whether samples of a batch influence each other.

    They do if the model changes its buffers while computing (batch norm), or if the outputs of two samples depend on
    the two beside them. Computed on a copy.

    Raises:
        InputError: the model does not take the samples, the loss is not one finite number per sample, or the model
            draws random numbers while computing (dropout): the theory has no such noise, and a run could not
            be repeated to the bit.
    """
    model = copy.deepcopy(model).train()
    few = samples.take(torch.arange(min(4, len(samples))))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = torch.default_generator.get_state()
    try:
        with torch.no_grad():
            output = model(few.x)
            losses = loss(output, few.y)
            alone = model(few.x[:2])
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"task.model: fails on the first samples ({type(error).__name__}: {first})") from error
    drawn = not torch.equal(state, torch.default_generator.get_state())
    torch.default_generator.set_state(state)
    if drawn:
        raise InputError("task.model: draws random numbers while computing (dropout?), should hold no such layer")
    if not isinstance(losses, Tensor) or losses.shape != (len(few),):
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise InputError(f"task.loss: gives {shape}, should give one loss per sample, shape ({len(few)},)")
    changed = any(not torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    return changed or not torch.allclose(output[:2], alone, rtol=1e-3, atol=1e-5)


def slices(samples: Samples) -> Iterator[Samples]:
    """The samples in pieces of at most SLICE."""
    for first in range(0, len(samples), SLICE):
        yield Samples(x=samples.x[first : first + SLICE], y=samples.y[first : first + SLICE])
