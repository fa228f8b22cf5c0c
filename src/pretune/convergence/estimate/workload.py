"""What one sample and one exchange of the model cost: counted, not estimated."""

from __future__ import annotations

import copy

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pretune.convergence.estimate.subject import Subject, gradient_of


def flops_per_sample(subject: Subject) -> float:
    """FLOPs of a forward and a backward pass per sample (a multiplication and an addition are two).

    PyTorch's counter counts matrix products, convolutions and attention, not element-wise work.
    """
    x, y = subject.general
    count = min(8, len(x))
    model = copy.deepcopy(subject.model)
    with FlopCounterMode(display=False) as counter:
        total = subject.loss(model(x[:count]), y[:count]).sum()
        gradient_of(total, [p for p in model.parameters() if p.requires_grad])
    return float(counter.get_total_flops()) / count


def payload_bits(subject: Subject, *, trainable_only: bool) -> float:
    """What one transfer of the gradient (the trainable parameters) or of the whole model takes, uncompressed."""
    tensors: list[Tensor] = [p for p in subject.model.parameters() if p.requires_grad or not trainable_only]
    if not trainable_only:
        tensors.extend(subject.model.buffers())
    return float(sum(8 * tensor.element_size() * tensor.numel() for tensor in tensors))
