"""What the user's model costs, whatever the machine: FLOPs of a sample, and bits of an exchange."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pretune.convergence.constants import EstimateSettings
from pretune.convergence.estimate.subject import Subject
from pretune.convergence.estimate.workload import flops_per_sample, payload_bits
from pretune.runtime.federated.messages import Applied, Effort, model_frame, update_frame, weights_of
from pretune.runtime.gradient import probe
from pretune.runtime.task import Task


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """Of one sample and one exchange.

    `flops_per_sample` is None where PyTorch's counter counts nothing. `upload_bits` are those of the trainable
    parameters alone, `download_bits` of all parameters and buffers; the `*_frame_bits` are whole frames of the
    federated runtime, as they go into the TLS stream.
    """

    flops_per_sample: float | None
    upload_bits: float
    download_bits: float
    upload_frame_bits: int
    download_frame_bits: int
    parameters: int


def model_cost(task: Task, seed: int) -> ModelCost:
    """Count them; the counters are those of `pretune calibrate`.

    Raises:
        InputError: the model does not take the samples.
    """
    model = task.build(seed).train()
    probe(model, task.loss, task.train)  # a model that fails on its samples is told in words
    subject = Subject(
        model=model,
        loss=task.loss,
        general=(task.train.x, task.train.y),
        devices=(),
        exact=False,
        weights=np.ones(1),
        settings=EstimateSettings(),
        seed=seed,
    )
    flops = flops_per_sample(subject)
    effort = Effort(
        received_at=1.0,
        sent_at=1.0,
        compute_s=1.0,
        compute_j=None,
        source="modelled",
        applied=Applied(batch="applied", clock="applied", power="applied"),
    )
    with torch.no_grad():
        up = update_frame("0" * 16, 1, 1, 1.0, weights_of(model), effort).pack()
    return ModelCost(
        flops_per_sample=flops if flops > 0 else None,
        upload_bits=payload_bits(subject, trainable_only=True),
        download_bits=payload_bits(subject, trainable_only=False),
        upload_frame_bits=8 * len(up),
        download_frame_bits=8 * len(model_frame(model, 1).pack()),
        parameters=sum(parameter.numel() for parameter in subject.parameters),
    )
