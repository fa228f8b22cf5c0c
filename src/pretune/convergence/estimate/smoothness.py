"""The smoothness along the path: how fast the task objective's gradient changes.

Two estimates, both from below: the Hessian's largest absolute eigenvalue at a model, by power iteration, and the
secant between two models of the path, ``|grad F(w) - grad F(v)| / |w - v|``, which sees what lies between them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pretune.convergence.estimate.subject import Subject, first_line, gradient_of
from pretune.errors import InputError


def top_curvature(subject: Subject) -> float:
    """The largest absolute eigenvalue of the task loss's Hessian, from below, by power iteration.

    Raises:
        InputError: the loss can't be differentiated twice.
    """
    parameters = subject.parameters
    generator = torch.Generator().manual_seed(subject.seed)
    x, y, share = subject.weighted(subject.settings.curvature_samples)
    vector = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    value, before = 0.0, -1.0
    for _ in range(subject.settings.iterations):
        norm = math.sqrt(sum(float(part.square().sum()) for part in vector))
        if norm == 0.0 or abs(value - before) <= 1e-3 * abs(value):
            break
        vector = [part / norm for part in vector]
        product = [torch.zeros_like(p) for p in parameters]
        for first in range(0, len(x), 512):
            window = slice(first, first + 512)
            total = torch.dot(subject.loss(subject.model(x[window]), y[window]), share[window])
            slope = gradient_of(total, parameters, twice=True)
            along = sum(((s * v).sum() for s, v in zip(slope, vector, strict=True)), start=torch.zeros(()))
            if not along.requires_grad:
                break  # the gradient is constant: no curvature
            try:
                # a model that is linear in a parameter leaves nothing to differentiate for it
                again = torch.autograd.grad(along, parameters, materialize_grads=True)
            except RuntimeError as error:
                why = first_line(error)
                raise InputError(
                    f"task.loss: can't be differentiated twice, which the smoothness needs ({why})"
                ) from error
            product = [old + new for old, new in zip(product, again, strict=True)]
        before, value = value, math.sqrt(sum(float(part.square().sum()) for part in product))
        vector = product
    return value


def flat_model(subject: Subject) -> Tensor:
    """The trainable parameters as one vector, float64."""
    return torch.cat([p.detach().flatten() for p in subject.parameters]).double()


def secant(models: tuple[Tensor, Tensor], gradients: tuple[Tensor, Tensor]) -> float:
    """Change of the gradient per change of the model; 0 where the model stood still."""
    moved = float((models[1] - models[0]).norm())
    return float((gradients[1] - gradients[0]).norm()) / moved if moved > 0.0 else 0.0
