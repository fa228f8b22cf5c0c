"""A fine-tuning round of E local steps: every device trains a copy of its own, and the server averages what changed.

Device k starts at the server's model and takes E steps of plain SGD, each on a fresh batch of ``b_k`` samples. What the
server adds to its model is ``-eta sum_k alpha_k sum_e g_k^e``: the same as averaging the devices' models (McMahan et
al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017), and with E = 1 the step
of federated SGD. So a round hands over a `Gradient` like any other, whose parts are the sums over the local steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from pretune.physics.types import Floats, Ints
from pretune.runtime.gradient import SLICE, Gradient, norm_sq, trainable
from pretune.runtime.task import PerSampleLoss, Samples

CELLS = 50_000_000
"""Numbers that the copies of the model may have at a time."""

Draw = Callable[[int], Samples]
"""All devices' samples of a local step (0 to E - 1), those of device 0 first."""


def fused_local(
    model: nn.Module, loss: PerSampleLoss, draws: Draw, batch: Ints, shares: Floats, *, steps: int, size: float
) -> Gradient:
    """All devices of a chunk at once: one vectorised gradient per local step, batches padded to the chunk's longest.

    `batch` and `shares` have shape (K,). The model is left unchanged.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    fixed: dict[str, Tensor] = {name: value for name, value in model.named_parameters() if not value.requires_grad}
    fixed |= dict(model.named_buffers())
    start = {name: parameter.detach() for name, parameter in model.named_parameters() if name in set(names)}

    def one(own: dict[str, Tensor], x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        losses = loss(functional_call(model, {**own, **fixed}, (x,)), y)
        return torch.dot(losses, weights.to(losses.dtype))

    gradients = vmap(grad_and_value(one))
    samples = [draws(step) for step in range(steps)]
    total = 0.0
    parts, at_start = ([torch.zeros_like(start[name]) for name in names] for _ in range(2))
    for members, index, weights in _chunks(batch, sum(value.numel() for value in start.values())):
        share = torch.from_numpy(shares[members])
        own = {name: value.expand(len(members), *value.shape) for name, value in start.items()}
        for step, drawn in enumerate(samples):
            found, values = gradients(own, drawn.x[index], drawn.y[index], weights)
            total += float(torch.dot(values.double(), share)) if step == 0 else 0.0
            for i, name in enumerate(names):
                mean = torch.tensordot(share.to(found[name].dtype), found[name], dims=1)
                parts[i] += mean
                if step == 0:
                    at_start[i] += mean
            own = {name: own[name] - size * found[name] for name in names}
    return Gradient(loss=total, parts=parts, norm_sq=norm_sq(at_start), whole_sq=norm_sq(parts))


def looped_local(
    model: nn.Module,
    loss: PerSampleLoss,
    draws: Draw,
    batch: Ints,
    shares: Floats,
    *,
    steps: int,
    size: float,
) -> Gradient:
    """The same, device by device: what batch norm needs, whose floating-point buffers are averaged with the shares.

    Its counters are those of the first device. The model is left unchanged.
    """
    parameters = trainable(model)
    start = [parameter.detach().clone() for parameter in parameters]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    averaged: dict[str, Tensor] = {}
    samples = [draws(step) for step in range(steps)]
    ends = np.cumsum(batch).tolist()
    total = 0.0
    parts, at_start = ([torch.zeros_like(value) for value in start] for _ in range(2))
    for k, share in enumerate(shares.tolist()):
        window = slice(ends[k] - int(batch[k]), ends[k])
        for step, drawn in enumerate(samples):
            mean = loss(model(drawn.x[window]), drawn.y[window]).mean()
            found = torch.autograd.grad(mean, parameters, materialize_grads=True)
            total += share * float(mean.detach()) if step == 0 else 0.0
            with torch.no_grad():
                for i, part in enumerate(found):
                    parts[i].add_(part, alpha=share)
                    if step == 0:
                        at_start[i].add_(part, alpha=share)
                    parameters[i].add_(part, alpha=-size)
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
            for name, buffer in model.named_buffers():
                if not buffer.dtype.is_floating_point:
                    averaged.setdefault(name, buffer.clone())
                else:
                    averaged[name] = averaged.get(name, 0.0) + buffer * share
                buffer.copy_(buffers[name])
    changed = averaged if any(not torch.equal(averaged[name], buffers[name]) for name in buffers) else {}
    return Gradient(loss=total, parts=parts, norm_sq=norm_sq(at_start), whole_sq=norm_sq(parts), buffers=changed)


def vectorises(model: nn.Module, loss: PerSampleLoss, samples: Samples) -> bool:
    """Whether the model and the loss can be computed for several copies of the model at once."""
    few = samples.take(torch.zeros(2, dtype=torch.int64))

    def draws(_: int) -> Samples:
        return few

    try:
        fused_local(model, loss, draws, np.ones(2, dtype=np.int64), np.full(2, 0.5), steps=1, size=0.0)
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        return False
    return True


def _chunks(batch: Ints, cells: int) -> Iterator[tuple[Ints, Tensor, Tensor]]:
    """Devices of similar batches, as (members, index, weights): where their samples are, and what each weighs.

    `index` and `weights` have shape (members, longest batch); a padded sample is the device's first and weighs nothing.
    """
    firsts = np.cumsum(batch) - batch
    order = np.argsort(-batch, kind="stable")
    at = 0
    while at < len(order):
        longest = int(batch[order[at]])
        many = max(1, min(SLICE // longest, CELLS // max(cells, 1)))
        members = order[at : at + many]
        column = np.arange(longest)
        there = column[None, :] < batch[members][:, None]
        index = firsts[members][:, None] + np.where(there, column[None, :], 0)
        weights = there / batch[members][:, None]
        yield members, torch.from_numpy(index), torch.from_numpy(weights)
        at += many
