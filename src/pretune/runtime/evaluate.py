"""How good a model is on the task's test samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pretune.runtime.gradient import slices
from pretune.runtime.task import PerSampleLoss, Samples


@dataclass(frozen=True, kw_only=True)
class Score:
    """Mean loss, and the share of samples classified rightly (None when the targets are no classes)."""

    loss: float
    accuracy: float | None


def evaluate(model: nn.Module, loss: PerSampleLoss, samples: Samples) -> Score:
    """Score `model` in evaluation mode; its mode is put back afterwards.

    A sample is right when the largest of its outputs is that of its class; that needs outputs of shape (n, classes)
    and whole-number targets of shape (n,).
    """
    was_training = model.training
    model.eval()
    total, right, counted = 0.0, 0, True
    with torch.no_grad():
        for part in slices(samples):
            output = model(part.x)
            total += float(loss(output, part.y).double().sum())
            counted = counted and output.ndim == 2 and part.y.ndim == 1 and not part.y.dtype.is_floating_point
            if counted:
                right += int((output.argmax(dim=1) == part.y).sum())
    model.train(was_training)
    return Score(loss=total / len(samples), accuracy=right / len(samples) if counted else None)
