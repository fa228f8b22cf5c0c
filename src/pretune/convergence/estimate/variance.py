"""The variance of one sample's gradient: the trace of its covariance, ``E|g|^2 - |E g|^2``.

From the gradients of single samples (torch.func) where the model allows it, else from batches of two sizes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from pretune.convergence.estimate.subject import Data, Subject, first_line, gradient_of, pieces, summed_loss
from pretune.errors import InputError

_FLOATS_AT_ONCE = 2**21
"""Bound on (samples at a time) x (parameters) where every sample has a gradient of its own: fits a cache."""
_RANKED = 256
"""Samples that the effective rank of the gradient's error is taken from, in 16 batches."""
_SMALL = 4
"""Samples in a small batch of the two-batch-size estimator."""


def variance(subject: Subject, data: Data, mean: Tensor) -> tuple[float, float]:
    """Trace of the covariance of one sample's gradient over `data`, whose mean gradient is `mean`; and its standard
    error.

    The error is that of the squared norms' mean, what choosing other samples would change; zero with all samples at
    hand.

    With all samples at hand, what is drawn from (with replacement) is known and divided by n; a sub-sample is
    divided by n - 1.

    Raises:
        InputError: the model draws random numbers (dropout).
    """
    count = len(data[0])
    try:
        mean_sq, error = single_norms(subject, data)
        spread = mean_sq - float(mean.square().sum())
    except RuntimeError as failure:
        if "random" in str(failure):
            why = first_line(failure)
            raise InputError(f"task.model: the gradients of single samples can't be taken ({why})") from failure
        spread, error = two_batch_spread(subject, data, mean)
    else:
        error = 0.0 if subject.exact and _singles(subject, data) >= count else error
    spread = max(0.0, spread)
    if subject.exact:
        return spread, error
    return (spread * count / (count - 1), error) if count > 1 else (spread, math.inf)


def single_norms(subject: Subject, data: Data) -> tuple[float, float]:
    """Mean squared norm of single samples' gradients, over the side's share of `single_samples`, and its standard
    error.

    Raises:
        RuntimeError: torch.func can't take the model apart.
    """
    count = _singles(subject, data)
    model, loss = subject.model, subject.loss
    wanted = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    others = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    others |= dict(model.named_buffers())

    def value(wanted: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output = functional_call(model, {**wanted, **others}, (x.unsqueeze(0),))
        return loss(output, y.unsqueeze(0))[0]

    def norm_sq(wanted: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        slope: dict[str, Tensor] = grad(value)(wanted, x, y)
        return torch.stack([part.square().sum() for part in slope.values()]).sum()

    norms = vmap(norm_sq, in_dims=(None, 0, 0), randomness="error")
    step = max(1, min(512, _FLOATS_AT_ONCE // sum(p.numel() for p in wanted.values())))
    few = data[0][:count], data[1][:count]
    return _mean_and_error(torch.cat([norms(wanted, x, y).double() for x, y in pieces(few, step)]))


def effective_rank(subject: Subject, data: Data) -> float:
    """In how many directions a gradient's error spreads: ``(tr C)^2 / tr C^2`` of its covariance C; at least 1.

    From differences of the gradients of disjoint small batches, which are independent with mean zero: ``E (f_k'f_l)^2``
    is ``tr`` of their squared covariance. 1, the most careful figure, where there are too few samples.
    """
    batches = [batch for batch in pieces((data[0][:_RANKED], data[1][:_RANKED]), _RANKED // 16) if len(batch[0]) > 1]
    if len(batches) < 16:
        return 1.0
    slopes = []
    for x, y in batches:
        slope = gradient_of(summed_loss(subject, x, y) / len(x), subject.parameters)
        slopes.append(torch.cat([part.flatten() for part in slope]).double())
    differences = torch.stack([a - b for a, b in zip(slopes[::2], slopes[1::2], strict=True)])
    products = differences @ differences.T
    count = len(products)
    traced = float(products.diagonal().mean()) ** 2
    squared = float(products.square().sum() - products.diagonal().square().sum()) / (count * (count - 1))
    return max(1.0, traced / squared) if squared > 0.0 and math.isfinite(traced) else 1.0


def _singles(subject: Subject, data: Data) -> int:
    return max(2, math.ceil(subject.settings.single_samples * len(data[0]) / subject.side(data)))


def _mean_and_error(norms: Tensor) -> tuple[float, float]:
    error = float(norms.std()) / math.sqrt(len(norms)) if len(norms) > 1 else math.inf
    return float(norms.mean()), error


def two_batch_spread(subject: Subject, data: Data, mean: Tensor) -> tuple[float, float]:
    """``E|g|^2 - |mean|^2`` over `data` without gradients of single samples, and its standard error.

    Unbiased for a random order of `data`.

    With disjoint batches of b of the n samples, ``E|g_b|^2 - |g_n|^2 = S^2 (1/b - 1/n)``, where ``S^2`` is the trace of
    the covariance divided by n - 1. The idea of comparing two batch sizes is that of McCandlish, Kaplan et al., "An
    empirical model of large-batch training" (arXiv:1812.06162, appendix A.1).
    """
    n = len(data[0])
    b = _SMALL if n >= 4 * _SMALL else 1
    if n < 2:
        return 0.0, math.inf
    most = max(2, math.ceil(subject.settings.single_samples * n / (subject.side(data) * b)))
    norms: list[float] = []
    for x, y in pieces(data, b):
        if len(x) < b or len(norms) == most:
            break
        slope = gradient_of(summed_loss(subject, x, y) / b, subject.parameters)
        norms.append(sum(float(part.double().square().sum()) for part in slope))
    mean_sq, error = _mean_and_error(torch.tensor(norms, dtype=torch.float64))
    factor = (n - 1) / n / (1.0 / b - 1.0 / n)
    return factor * (mean_sq - float(mean.square().sum())), factor * error
