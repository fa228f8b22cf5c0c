"""What is learnt: a model, a loss and three sets of samples, in plain PyTorch.

A task of one's own is a function that returns a `Task` (examples/own_task.py); the built-in ones are in
`builtin.py`. Nothing here knows about plans, devices or energy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pretune.errors import InputError
from pretune.physics.types import Ints

ModelFactory = Callable[[torch.Generator], nn.Module]
PerSampleLoss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each sample: logits (n, classes), targets (n,) of class numbers; result (n,), in nats."""
    return functional.cross_entropy(logits, targets, reduction="none")


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Inputs `x` and targets `y` of the same length n, n >= 1; whatever else their shapes are is the model's affair."""

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.x, Tensor) or not isinstance(self.y, Tensor):
            kinds = f"{type(self.x).__name__} and {type(self.y).__name__}"
            raise InputError(f"task: samples hold {kinds}, should hold two tensors")
        if self.x.ndim == 0 or self.y.ndim == 0 or len(self.x) != len(self.y) or not len(self.x):
            raise InputError(
                f"task: samples hold inputs of shape {tuple(self.x.shape)} and targets of shape "
                f"{tuple(self.y.shape)}, should hold as many inputs as targets, and at least one"
            )

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor | Ints) -> Samples:
        """The samples at `index`, in that order."""
        where = torch.as_tensor(index, dtype=torch.int64)
        return Samples(x=self.x.index_select(0, where), y=self.y.index_select(0, where))


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A model, how it is judged, and the data of both stages.

    `model` makes the untrained model; it is given a seeded generator to draw its weights from. `loss` maps the
    model's output and the targets to one loss per sample, shape (n,). `general` is what the server pre-trains on,
    `train` what the devices fine-tune on, `test` what the result is judged by (of the task's distribution).
    `parts`, when given, says which training samples each device holds (one index array per device, in the
    scenario's order) and replaces the scenario's `task.partition`.
    """

    name: str
    model: ModelFactory
    general: Samples
    train: Samples
    test: Samples
    loss: PerSampleLoss = cross_entropy
    parts: tuple[Ints, ...] | None = None

    def build(self, seed: int) -> nn.Module:
        """The untrained model: the same seed gives the same weights to the bit.

        PyTorch's own generator is left as it was found. While the factory runs it is seeded as well, so that a
        factory that overlooks its generator (plain ``nn.Linear(...)``) is reproducible all the same.
        """
        with isolated_generator(seed):
            model = self.model(torch.Generator().manual_seed(seed))
        if not isinstance(model, nn.Module):
            raise InputError(f"task.model: makes {type(model).__name__}, should make a torch.nn.Module")
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InputError("task.model: makes a model without trainable parameters, should make one to train")
        return model

    def fingerprint(self) -> str:
        """SHA-256 over all samples and parts: tells whether two runs saw the same data."""
        digest = hashlib.sha256(self.name.encode())
        tensors = [part for samples in (self.general, self.train, self.test) for part in (samples.x, samples.y)]
        for tensor in tensors:
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(np.ascontiguousarray(tensor.detach().numpy()).data)
        for part in self.parts or ():
            digest.update(np.ascontiguousarray(part, dtype=np.int64).data)
        return digest.hexdigest()


@contextmanager
def isolated_generator(seed: int) -> Iterator[None]:
    """Seed PyTorch's CPU generator for the block and give it back its former state afterwards."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
