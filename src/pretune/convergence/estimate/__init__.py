"""The constants of the convergence criteria, measured on a model and its data (math.md section 2).

A short run of both stages is made from the untrained model, and along it, at a few points, gradients, variances
and curvature are taken. What the theory needs as a bound for all models is thus known for the models near one path
only: the figures are measurements, not guarantees, and each says how it was taken. `repeat` does so several times and
gives each figure a confidence interval.

One file a quantity: `variance`, `smoothness`, `workload`, `distance`; `path` walks, `summary` concludes. They need
PyTorch and are not imported by the package itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pretune.convergence.constants import Constants, EstimateSettings
from pretune.convergence.estimate.path import path_rng, walk
from pretune.convergence.estimate.subject import Data, PerSampleLoss, subject_of
from pretune.convergence.estimate.summary import constants_of
from pretune.physics.types import Floats

__all__ = ["estimate"]


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
    """Measure all constants along one path. Nothing is changed: neither `model`, nor any global generator.

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
        InputError: the model has batch norm (its samples have no gradients of their own) or nothing to train, the
            loss is not finite or has no gradient, or the path diverges.
    """
    settings = settings or EstimateSettings()
    rng = path_rng(seed)
    subject = subject_of(model, loss, general, devices, weights, settings, seed, rng)
    looks = walk(subject, general, devices, (pretrain_step, finetune_step), rng)
    return constants_of(looks, subject, weights, settings)
