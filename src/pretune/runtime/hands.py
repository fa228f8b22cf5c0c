"""Who computes in a steered run where this process alone does not: real devices, and several processes of the server.

A steered run decides every round anew, so these are asked round by round; `backend` and `parallel` bring them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from torch import nn

from pretune.control.columns import Fleetwide
from pretune.control.steering import Round
from pretune.physics.types import Bools, Ints
from pretune.runtime.gradient import Gradient
from pretune.runtime.local import LocalSteps
from pretune.runtime.task import Samples


class Answers(Protocol):
    """What came back in a round."""

    @property
    def here(self) -> Bools:
        """Whose answers can be used, shape (K,)."""
        ...

    def mean(self, done: Round) -> Gradient | None:
        """The gradients weighted with the round's shares; None where there are none."""
        ...


class Hands(Protocol):
    """The devices, reached from here."""

    def ready(self, before_waiting: Callable[[], None]) -> Bools:
        """Who could be asked now, shape (K,); waits until some can, and calls `before_waiting` if it has to.

        Raises:
            RunFailed: for too long nobody can.
        """
        ...

    def ask(
        self, model: nn.Module, done: Round, fleet: Fleetwide, round_: int, *, seed: int, local: LocalSteps | None
    ) -> Answers:
        """Have a fine-tuning round carried out by those who, by what is simulated, answer in time."""
        ...


class Together(Protocol):
    """Several processes that compute pre-training batches."""

    def compute(self, round_: int, batch: Samples) -> Gradient | None:
        """The mean gradient of a round's batch at the job's model; None if there is not a sample for each of them."""
        ...

    def close(self) -> None:
        """Let the processes go; another round starts them again."""
        ...


def firsts(done: Round) -> Ints:
    """How many draws of a round come before each device's own, shape (K,): those of who answers by the simulation."""
    batch = np.where(done.outcome.done | done.missing, done.move.batch, 0)
    found: Ints = np.cumsum(batch) - batch
    return found
