"""A task of one's own: any model, loss and data, in plain PyTorch.

The scenario names this file and a function in it; every other key of the section but `partition` is handed to the
function by name (examples/own_task.yaml):

    task:
      file: own_task.py          # relative to the scenario file
      function: make_task        # the default
      noise: 0.3
      partition: {scheme: dirichlet, alpha: 0.5}

The function returns a `Task`. What the runtime asks of it:

- `model` is a function that makes the *untrained* model; draw its weights from the generator it is given (or simply
  from PyTorch's own: pretune seeds it around the call). No dropout: a run must be repeatable to the bit.
- `loss` gives one loss per sample, not their mean.
- `general` is what the server pre-trains on, `train` what the devices hold, `test` what the result is judged by.
- The function must give the same data every time it is called: seed whatever you draw.
- `parts`, if given, says which training samples each device holds (one index array per device).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretune.runtime.task import Samples, Task


def make_task(noise: float = 0.3, turn: float = 0.5, samples: int = 600) -> Task:
    """Two interleaved spirals to be told apart; at the devices they are turned by `turn` radians.

    There are `samples` points each to pre-train, to fine-tune and to test with.
    """
    generator = torch.Generator().manual_seed(0)
    return Task(
        name="spirals",
        model=_model,
        loss=_loss,
        general=_spirals(samples, noise, 0.0, generator),
        train=_spirals(samples, noise, turn, generator),
        test=_spirals(samples, noise, turn, generator),
    )


def _model(_generator: torch.Generator) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def _spirals(samples: int, noise: float, turn: float, generator: torch.Generator) -> Samples:
    arm = torch.randint(0, 2, (samples,), generator=generator)
    along = 4.0 * torch.rand(samples, generator=generator).sqrt()
    angle = 1.5 * along + torch.pi * arm + turn
    points = torch.stack([along * angle.cos(), along * angle.sin()], dim=1)
    return Samples(x=points + noise * torch.randn(samples, 2, generator=generator), y=arm)
